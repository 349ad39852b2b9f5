use super::{FieldErrors, HealthVerdict, MARKUP, Samples};
use crate::{
    IconChoice, ModuleRow, RoleChoice,
    pages::{ModuleFormPage, ModulesPage},
};

const MODULE: &str = "01981f40-5b6e-7c31-a2d4-8e9f0b1c2d3e";

fn module_row(id: Option<u32>, name: &str, icon: &str, url: &str) -> ModuleRow {
    ModuleRow {
        id: id.map(|number| format!("{MODULE}-{number}")),
        name: name.into(),
        icon: icon.into(),
        url: url.into(),
        embedded: false,
        roles: Vec::new(),
        tenants: Vec::new(),
        health: None,
    }
}

impl Samples {
    pub(super) fn modules(&self) -> ModulesPage {
        let tool =
            |name, icon, url, health| ModuleRow { health: Some(health), ..module_row(None, name, icon, url) };
        ModulesPage {
            chrome: self.chrome("modules"),
            is_suite: false,
            own: vec![
                ModuleRow {
                    embedded: true,
                    ..module_row(Some(1), "Wiki", "book", "https://wiki.example.org/")
                },
                ModuleRow {
                    roles: vec![self.ui.role("agent"), self.ui.role("owner")],
                    ..module_row(
                        Some(2),
                        MARKUP,
                        "chart",
                        &format!("https://reports.example.org/{}", "a-very-long-path/".repeat(8)),
                    )
                },
            ],
            of_suite: vec![module_row(None, "Files", "folder", "https://files.example.org/")],
            tools: vec![
                tool("Chatwoot", "conversations", "https://chat.example.org/", HealthVerdict::Works),
                tool("Matrix", "team-chat", "https://element.example.org/", HealthVerdict::Attention),
                tool("Jitsi", "video", "", HealthVerdict::Unused),
            ],
            checked: self.ago(0),
            health_href: None,
        }
    }

    pub(super) fn modules_of_suite(&self) -> ModulesPage {
        ModulesPage {
            is_suite: true,
            own: vec![ModuleRow {
                tenants: vec!["/organizations/acme-corp".into(), "/teams/engineering".into()],
                health: Some(HealthVerdict::Fails),
                ..module_row(Some(3), "Files", "folder", "https://files.example.org/")
            }],
            of_suite: Vec::new(),
            health_href: Some("health.html".into()),
            ..self.modules()
        }
    }

    pub(super) fn module_form(&self) -> ModuleFormPage {
        let icons =
            ["globe", "book", "folder", "calendar", "mail", "chart", "board", "megaphone", "team-chat"];
        let roles = ["viewer", "agent", "manager", "approver", "owner", "auditor"];
        ModuleFormPage {
            chrome: self.chrome("modules"),
            module: Some((MODULE.into(), 3)),
            is_suite: true,
            name: "Wiki".into(),
            url: "https://wiki.example.org/".into(),
            icons: icons
                .iter()
                .map(|icon| IconChoice {
                    value: (*icon).into(),
                    label: self.ui.t(format!("icon-{icon}")),
                    chosen: *icon == "book",
                })
                .collect(),
            embedded: true,
            roles: roles
                .iter()
                .map(|role| RoleChoice {
                    value: (*role).into(),
                    label: self.ui.role(role),
                    chosen: *role == "agent",
                })
                .collect(),
            tenants: "/organizations/acme-corp\n/teams/engineering".into(),
            errors: FieldErrors::default(),
        }
    }

    pub(super) fn module_form_errors(&self) -> ModuleFormPage {
        ModuleFormPage {
            module: None,
            name: MARKUP.into(),
            url: "javascript&colon;alert(1)".into(),
            tenants: "/teams/<b>bold".into(),
            errors: FieldErrors::default()
                .with("name", self.ui.too_long(60))
                .with("url", self.ui.t("error-module-url"))
                .with("icon", self.ui.t("error-required"))
                .with("tenants", self.ui.t_with("error-module-tenant", "tenant", "/teams/<b>bold")),
            ..self.module_form()
        }
    }
}
