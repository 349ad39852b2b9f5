//! The registry of modules: what the sidebar offers, to whom. To build one in, add a line to [`MODULES`]; administrators add theirs
//! in the shell ([`crate::modules`]).

use shell_ui::{ModuleKind, ModuleLink};
use url::Url;

use super::chrome::base;
use crate::{
    app::AppState,
    auth::{Permission, Principal, Resource, TenantRef, can},
    db::TenantTx,
    ids::ModuleId,
    modules::{self as added, Module as Added},
};

/// What a module opens.
enum Kind {
    /// A page of ours; what follows the tenant's path.
    Page(&'static str),
    /// Another tool; none where it isn't connected. Its settings say whether it is shown inside a page of ours.
    Tool(fn(&AppState) -> Option<Tool>),
}

/// Another tool as it is configured.
struct Tool {
    url: Url,
    /// Inside a page of ours, or in a tab of its own.
    embed: bool,
    /// Whether it wants camera and microphone.
    is_video: bool,
}

/// What a module is called.
enum Name {
    /// A text's name.
    Text(&'static str),
    /// A proper name, the same in every language.
    Proper(&'static str),
}

impl Name {
    fn said(&self, state: &AppState) -> String {
        match self {
            Self::Text(text) => state.ui.t(text),
            Self::Proper(name) => (*name).to_owned(),
        }
    }
}

/// What is told of a tenant by numbers in the sidebar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// What waits for the person's decision.
    pub waiting: u64,
    /// What was received and could not be processed, for who may mend it.
    pub dead: u64,
}

fn nothing(_: Counts) -> u64 {
    0
}

/// An entry of the registry.
struct Module {
    id: &'static str,
    name: Name,
    icon: &'static str,
    /// Who may this in the tenant sees the module.
    permission: Permission,
    /// What is counted on it.
    counts: fn(Counts) -> u64,
    kind: Kind,
}

const fn page(id: &'static str, text: &'static str, permission: Permission, path: &'static str) -> Module {
    Module { id, name: Name::Text(text), icon: id, permission, counts: nothing, kind: Kind::Page(path) }
}

const fn tool(
    id: &'static str,
    name: &'static str,
    icon: &'static str,
    permission: Permission,
    tool: fn(&AppState) -> Option<Tool>,
) -> Module {
    Module { id, name: Name::Proper(name), icon, permission, counts: nothing, kind: Kind::Tool(tool) }
}

/// All modules, in the sidebar's order.
const MODULES: [Module; 13] = [
    page("overview", "module-overview", Permission::TenantRead, ""),
    page("conversations", "module-conversations", Permission::ConversationRead, "conversations"),
    Module {
        counts: |counts| counts.waiting,
        ..page("approvals", "module-approvals", Permission::ApprovalRead, "approvals")
    },
    page("consultations", "module-consultations", Permission::ConsultationJoin, "consultations"),
    page("audit", "module-audit", Permission::AuditRead, "audit"),
    Module {
        counts: |counts| counts.dead,
        ..page("inbox", "module-inbox", Permission::WebhookEventRead, "inbox")
    },
    page("endpoints", "module-endpoints", Permission::WebhookEndpointRead, "endpoints"),
    page("modules", "module-modules", Permission::ModuleManage, "modules"),
    page("settings", "module-settings", Permission::SettingsRead, "settings"),
    Module { icon: "shield", ..page("health", "module-health", Permission::HealthRead, "health") },
    tool("chatwoot", "Chatwoot", "conversations", Permission::ConversationRead, |state| {
        let url = state.tools.chatwoot.as_ref()?.url.clone();
        Some(Tool { url, embed: state.config.chatwoot.embed, is_video: false })
    }),
    tool("matrix", "Matrix", "team-chat", Permission::TenantRead, |state| {
        state.tools.matrix.as_ref()?;
        let url = state.config.matrix.client().ok()?;
        Some(Tool { url, embed: state.config.matrix.embed, is_video: false })
    }),
    tool("jitsi", "Jitsi", "video", Permission::TenantRead, |state| {
        let url = state.tools.jitsi.as_ref()?.url.clone();
        Some(Tool { url, embed: state.config.jitsi.embed, is_video: true })
    }),
];

/// Whether somebody sees a module. What one does only where one takes part in something, one sees with the role alone.
fn sees(principal: &Principal, tenant: &TenantRef, module: &Module) -> bool {
    let me = [principal.id];
    let resource = Resource { involved: &me, ..Resource::of(tenant.id) };
    can(principal, module.permission, &resource).is_allowed()
}

fn href(tenant: &TenantRef, path: &str) -> String {
    let separator = if path.is_empty() { "" } else { "/" };
    format!("{}{separator}{path}", base(tenant.id))
}

/// The address of the page of ours that shows a tool.
fn tool_href(tenant: &TenantRef, id: &str) -> String {
    href(tenant, &format!("tools/{id}"))
}

/// The modules of a tenant that `principal` sees.
pub(super) fn links(
    state: &AppState,
    principal: &Principal,
    tenant: &TenantRef,
    current: &str,
    counts: Counts,
    added: &[Added],
) -> Vec<ModuleLink> {
    let built_in = MODULES.iter().filter(|module| sees(principal, tenant, module)).filter_map(|module| {
        let (href, kind) = match &module.kind {
            Kind::Page(path) => (href(tenant, path), ModuleKind::Page),
            Kind::Tool(tool) => match tool(state)? {
                Tool { embed: true, .. } => (tool_href(tenant, module.id), ModuleKind::Embedded),
                Tool { url, .. } => (String::from(url), ModuleKind::Link),
            },
        };
        Some(ModuleLink {
            id: module.id.to_owned(),
            name: module.name.said(state),
            icon: module.icon.to_owned(),
            href,
            current: module.id == current,
            badge: (module.counts)(counts),
            kind,
        })
    });
    let added = added.iter().filter_map(|module| {
        let id = module.id.to_string();
        let url = Url::parse(&module.url).ok()?;
        let (href, kind) = if added::is_framed(&state.config, module.opens, &url) {
            (tool_href(tenant, &id), ModuleKind::Embedded)
        } else {
            (url.into(), ModuleKind::Link)
        };
        let current = id == current;
        Some(ModuleLink {
            id,
            name: module.name.clone(),
            icon: module.icon.clone(),
            href,
            current,
            badge: 0,
            kind,
        })
    });
    built_in.chain(added).collect()
}

/// A tool of the settings.
pub(super) struct ConnectedTool {
    /// Its id, which is also the doctor's name for it.
    pub id: &'static str,
    pub name: String,
    pub icon: &'static str,
    /// Where people open it, and whether inside a page of ours; none where it isn't connected.
    pub opened: Option<(Url, bool)>,
}

/// The tools of the settings, connected or not.
pub(super) fn tools(state: &AppState) -> impl Iterator<Item = ConnectedTool> {
    MODULES.iter().filter_map(|module| match module.kind {
        Kind::Page(_) => None,
        Kind::Tool(tool) => Some(ConnectedTool {
            id: module.id,
            name: module.name.said(state),
            icon: module.icon,
            opened: tool(state).map(|tool| (tool.url, tool.embed)),
        }),
    })
}

/// The address of the page of ours with this id in a tenant, if `principal` sees it there.
pub(super) fn page_href(principal: &Principal, tenant: &TenantRef, id: &str) -> Option<String> {
    let module = MODULES.iter().find(|module| module.id == id)?;
    let Kind::Page(path) = module.kind else { return None };
    sees(principal, tenant, module).then(|| href(tenant, path))
}

/// A tool that is shown in a page of ours.
pub(super) struct Embedded {
    pub name: String,
    pub url: Url,
    pub is_video: bool,
}

/// The tool or added module with this id, if it is shown in a page of ours and `principal` sees it in the tenant.
pub(super) async fn framed(
    state: &AppState,
    tx: &mut TenantTx,
    principal: &Principal,
    tenant: &TenantRef,
    id: &str,
) -> Result<Option<Embedded>, sqlx::Error> {
    let Ok(id) = id.parse::<ModuleId>() else { return Ok(embedded(state, principal, tenant, id)) };
    let Some(module) = added::shown_one(tx, principal, tenant.id, id).await? else { return Ok(None) };
    let url = Url::parse(&module.url).ok().filter(added::is_plain_address);
    let url = url.filter(|url| added::is_framed(&state.config, module.opens, url));
    Ok(url.map(|url| Embedded { name: module.name, url, is_video: false }))
}

/// The tool with this id, if it is shown in a page of ours and `principal` sees it in the tenant.
fn embedded(state: &AppState, principal: &Principal, tenant: &TenantRef, id: &str) -> Option<Embedded> {
    let module = MODULES.iter().find(|module| module.id == id)?;
    let Kind::Tool(tool) = module.kind else { return None };
    let Tool { url, is_video, .. } =
        tool(state).filter(|tool| tool.embed && sees(principal, tenant, module))?;
    Some(Embedded { name: module.name.said(state), url, is_video })
}

/// Where the module with this id opens in a tenant, if `principal` sees it there and it opens in the shell.
pub(super) fn shell_href(
    state: &AppState,
    principal: &Principal,
    tenant: &TenantRef,
    id: &str,
) -> Option<String> {
    page_href(principal, tenant, id)
        .or_else(|| embedded(state, principal, tenant, id).map(|_| tool_href(tenant, id)))
}

/// The path of the page of ours with this id.
pub(super) fn page_path(id: &str) -> Option<&'static str> {
    MODULES.iter().find(|module| module.id == id).and_then(|module| match module.kind {
        Kind::Page(path) => Some(path),
        Kind::Tool(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;
    use crate::{
        auth::{Grant, PrincipalKind, Role, TenantKind},
        ids::{TenantId, UserId},
    };

    fn with(role: Role) -> Principal {
        let tenant = TenantRef {
            id: TenantId(Uuid::from_u128(1)),
            kind: TenantKind::Team,
            path: "/teams/t".into(),
            name: "T".into(),
        };
        Principal {
            id: UserId(Uuid::from_u128(2)),
            username: String::new(),
            name: String::new(),
            kind: PrincipalKind::Person,
            platform_admin: false,
            grants: vec![Grant { tenant, roles: BTreeSet::from([Role::Member, role]) }],
        }
    }

    fn seen(role: Role) -> Vec<&'static str> {
        let principal = with(role);
        let tenant = &principal.grants[0].tenant;
        MODULES
            .iter()
            .filter(|module| page_href(&principal, tenant, module.id).is_some())
            .map(|module| module.id)
            .collect()
    }

    #[test]
    fn each_role_sees_the_modules_that_it_may_use() {
        assert_eq!(seen(Role::Member), ["overview", "consultations"]);
        assert_eq!(seen(Role::Agent), ["overview", "conversations", "approvals", "consultations"]);
        assert_eq!(seen(Role::Auditor), ["overview", "approvals", "consultations", "audit"]);
        assert_eq!(
            seen(Role::Approver),
            ["overview", "conversations", "approvals", "consultations", "audit"]
        );
        assert_eq!(
            seen(Role::Owner),
            [
                "overview",
                "conversations",
                "approvals",
                "consultations",
                "audit",
                "inbox",
                "endpoints",
                "modules",
                "settings"
            ]
        );
    }

    #[test]
    fn who_runs_the_suite_sees_there_what_belongs_to_it() {
        let mut principal = with(Role::Owner);
        let suite = TenantRef { id: TenantId::SUITE, ..principal.grants[0].tenant.clone() };
        let seen = |principal: &Principal| {
            let seen = MODULES.iter().filter(|module| page_href(principal, &suite, module.id).is_some());
            seen.map(|module| module.id).collect::<Vec<_>>()
        };
        assert!(seen(&principal).is_empty());
        principal.platform_admin = true;
        assert_eq!(seen(&principal), ["audit", "inbox", "modules", "health"]);
    }

    #[test]
    fn a_stranger_sees_no_module() {
        let principal = with(Role::Owner);
        let foreign = TenantRef { id: TenantId(Uuid::from_u128(9)), ..principal.grants[0].tenant.clone() };
        assert!(MODULES.iter().all(|module| page_href(&principal, &foreign, module.id).is_none()));
    }

    #[test]
    fn every_module_has_an_icon_and_an_id_of_its_own() {
        let ids: BTreeSet<_> = MODULES.iter().map(|module| module.id).collect();
        assert_eq!(ids.len(), MODULES.len());
        assert!(MODULES.iter().all(|module| shell_ui::ICON_NAMES.contains(&module.icon)));
    }

    #[test]
    fn every_icon_that_a_module_may_have_is_drawn_and_has_a_name() {
        let ui = shell_ui::Ui::new("");
        for icon in added::ICONS {
            assert!(shell_ui::ICON_NAMES.contains(&icon), "{icon}");
            assert_ne!(ui.t(format!("icon-{icon}")), format!("icon-{icon}"));
        }
    }
}
