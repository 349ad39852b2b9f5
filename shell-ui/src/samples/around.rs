//! What stands around the tenants: the profile, problems, signing in, the demo.

use super::{
    ACME, Choice, DemoPage, DemoPerson, ENGINEERING, FieldErrors, Flash, HealthFinding, HealthPage,
    HealthPart, HealthVerdict, MARKUP, MemberSignIn, Membership, OWN, Problem, ProblemInShell, ProblemPage,
    ProfilePage, Samples, SessionRow, SessionsPage, SettingsPage, SetupPage, SignInPage, SignInsPage,
    TenantKind, TenantLink, TenantsPage, ToolPage,
};

impl Samples {
    pub(super) fn tool(&self) -> ToolPage {
        let mut chrome = self.chrome("");
        for module in &mut chrome.modules {
            module.current = module.id == "Matrix";
        }
        ToolPage { chrome, name: "Matrix".into(), url: "http://127.0.0.1:8083/".into(), is_video: false }
    }

    pub(super) fn profile(&self) -> ProfilePage {
        ProfilePage {
            chrome: self.chrome(""),
            user_name: "acme-ceo".into(),
            mail: Some("clara.osei@example.org".into()),
            sessions_href: "sessions.html".into(),
            account_href: Some("http://127.0.0.1:8081/realms/chancery/account".into()),
            memberships: memberships(),
        }
    }

    /// Somebody with more tenants than the switcher's menu holds.
    pub(super) fn tenants(&self, search: &str) -> TenantsPage {
        let mut chrome = self.chrome("");
        let customer = |number| TenantLink {
            id: format!("{OWN}-{number}"),
            name: format!("Customer {number}"),
            kind: TenantKind::Organization,
            href: format!("/app/t/{OWN}-{number}"),
        };
        chrome.tenants.extend((1..=198).map(customer));
        TenantsPage {
            all: chrome.tenants.len() as u64,
            chrome,
            search: search.into(),
            tenants: if search.is_empty() { memberships() } else { Vec::new() },
        }
    }

    pub(super) fn sessions(&self) -> SessionsPage {
        let session = |handle: &str, browser: &str, started, used, address: Option<&str>| SessionRow {
            handle: handle.into(),
            browser: browser.into(),
            started: self.ago(started),
            used: self.ago(used),
            opened_from: address.map(|_| "2001:db8:85a3:8d3:1319:8a2e:370:7348".into()),
            used_from: address.map(Into::into),
            is_this: handle == "00",
        };
        SessionsPage {
            chrome: self.chrome(""),
            sessions: vec![
                session("00", "Firefox on Linux", 180, 0, Some("203.0.113.9")),
                session("01", "Safari on iPhone", 400, 12, Some("198.51.100.20")),
                session("02", "", 25, 25, None),
            ],
        }
    }

    pub(super) fn health(&self) -> HealthPage {
        let part = |name, verdict, findings: &[(&str, Option<&str>)]| HealthPart {
            name,
            verdict,
            findings: findings
                .iter()
                .map(|(what, mend)| HealthFinding { what: (*what).into(), mend: mend.map(Into::into) })
                .collect(),
        };
        HealthPage {
            chrome: self.chrome("health"),
            checked: self.ago(0),
            parts: vec![
                part("settings", HealthVerdict::Works, &[("make sense", None)]),
                part(
                    "database",
                    HealthVerdict::Works,
                    &[("PostgreSQL 17.5", None), ("the schema is up to date", None)],
                ),
                part("redis", HealthVerdict::Unused, &[("not connected", None)]),
                part(
                    "chatwoot",
                    HealthVerdict::Fails,
                    &[(
                        "it posts nothing to the source Website",
                        Some(
                            "add a webhook in Chatwoot with the URL https://chancery.example/api/v1/webhooks/chatwoot/01981f38-12ab-7e01-8c44-2f7d9b5a6e31",
                        ),
                    )],
                ),
                part(
                    "address",
                    HealthVerdict::Attention,
                    &[(MARKUP, Some("see that http.public_url is how people reach it"))],
                ),
            ],
        }
    }

    pub(super) fn setup(&self, is_local: bool) -> SetupPage {
        let parts = if is_local { self.health().parts } else { Vec::new() };
        SetupPage { ui: self.ui.clone(), parts, checked: is_local.then(|| self.ago(0)) }
    }

    pub(super) fn sign_ins(&self, names: &[&str]) -> SignInsPage {
        let sign_in = |(number, name): (usize, &&str)| MemberSignIn {
            member: format!("{OWN}{number}"),
            name: (*name).into(),
            handle: format!("0{number}"),
            started: self.ago(400),
            used: self.ago(12),
            is_this: number == 1,
        };
        SignInsPage {
            chrome: self.chrome("settings"),
            may_end: true,
            sign_ins: names.iter().enumerate().map(sign_in).collect(),
            first_href: None,
            next_href: (!names.is_empty()).then(|| "sign-ins.html".into()),
        }
    }

    pub(super) fn settings(&self) -> SettingsPage {
        let choice =
            |age: &str| Choice { value: age.into(), label: self.ui.t(format!("settings-age-{age}")) };
        let mut chrome = self.chrome("settings");
        chrome.flash = Flash::from_code(&self.ui, "settings-saved");
        SettingsPage {
            chrome,
            sign_ins_href: Some("sign-ins.html".into()),
            errors: FieldErrors::default(),
            step_up_enabled: true,
            step_up_high: true,
            step_up_medium: false,
            step_up_low: false,
            step_up_max_age: "300".into(),
            max_ages: ["60", "300", "900", "3600", "28800"].map(choice).into(),
            version: 4,
        }
    }

    pub(super) fn settings_errors(&self) -> SettingsPage {
        SettingsPage {
            chrome: self.chrome("settings"),
            errors: FieldErrors::default()
                .with("step_up_priorities", self.ui.t("error-no-priority"))
                .with("step_up_max_age", self.ui.t("error-choice")),
            step_up_high: false,
            ..self.settings()
        }
    }

    pub(super) fn problem_of(&self, status: u16) -> Problem {
        Problem::for_status(&self.ui, status, Some("01981f3c-55aa-7000-8000-00000000beef".into()))
    }

    pub(super) fn problem(&self, status: u16) -> ProblemPage {
        ProblemPage { ui: self.ui.clone(), problem: self.problem_of(status) }
    }

    pub(super) fn problem_in_shell(&self) -> ProblemInShell {
        ProblemInShell { chrome: self.chrome(""), problem: self.problem_of(403) }
    }

    pub(super) fn sign_in(&self, problem: Option<String>) -> SignInPage {
        SignInPage {
            ui: self.ui.clone(),
            login_href: "/auth/login?return_to=%2Fapp%2Fapprovals".into(),
            problem,
        }
    }

    pub(super) fn demo(&self) -> DemoPage {
        let person = |user_name: &str, name: &str, role: &str, description: &str, host: &str| DemoPerson {
            user_name: user_name.into(),
            name: name.into(),
            role: role.into(),
            description: description.into(),
            href: format!("http://{host}:8080/app"),
        };
        DemoPage {
            ui: self.ui.clone(),
            people: vec![
                person(
                    "acme-agent",
                    "Amira Haddad",
                    "Agent of Acme Corp",
                    "Answers customers, and asks when a decision is not hers to make.",
                    "127.0.0.1",
                ),
                person(
                    "acme-ceo",
                    "Clara Osei",
                    "Approver of Acme Corp and Engineering",
                    "Sees what waits, and decides.",
                    "localhost",
                ),
                person(
                    "acme-viewer",
                    "Tomás Ibarra",
                    "Viewer of Acme Corp",
                    "May look at everything, and change nothing.",
                    "acme-viewer.localhost",
                ),
                person(
                    "engineer",
                    "Edda Lind",
                    "Agent of Engineering",
                    "Asks on behalf of another team.",
                    "engineer.localhost",
                ),
                person(
                    "suite-admin",
                    "Sam Okafor",
                    "Runs the suite",
                    "Keeps everything in good health.",
                    "suite-admin.localhost",
                ),
                person(
                    "outsider",
                    "Oskar Novak",
                    "Of Globex only",
                    "Sees nothing of Acme Corp: try one of its links.",
                    "outsider.localhost",
                ),
            ],
            agent_href: "http://127.0.0.1:8080/app".into(),
            ceo_href: "http://localhost:8080/app".into(),
            chatwoot_href: "http://127.0.0.1:8082/".into(),
            matrix_href: "http://127.0.0.1:8083/".into(),
            jitsi_href: "http://127.0.0.1:8084/".into(),
            keycloak_href: Some("http://127.0.0.1:8081/".into()),
        }
    }
}

fn memberships() -> Vec<Membership> {
    vec![
        Membership {
            name: "Clara Osei".into(),
            kind: TenantKind::Personal,
            path: String::new(),
            roles: vec!["owner".into()],
            href: format!("/app/t/{OWN}"),
        },
        Membership {
            name: "Engineering".into(),
            kind: TenantKind::Team,
            path: "/teams/engineering".into(),
            roles: vec!["member".into(), "approver".into(), "night-watch".into()],
            href: format!("/app/t/{ENGINEERING}"),
        },
        Membership {
            name: "Acme Corp".into(),
            kind: TenantKind::Organization,
            path: "/organizations/acme-corp".into(),
            roles: Vec::new(),
            href: format!("/app/t/{ACME}"),
        },
    ]
}
