use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::{
    auth::{Principal, Role},
    config::{Config, is_loopback},
    ids::{ModuleId, TenantId},
};

/// The longest name, in characters.
pub const MAX_NAME: usize = 60;
/// The longest address, in bytes.
pub(super) const MAX_URL: usize = 2_048;
/// The most modules of a tenant, and of the suite.
pub(super) const MAX_MODULES: i64 = 50;
/// The most tenants to which one of the suite's may be given by name.
pub(super) const MAX_TENANTS: usize = 100;

/// The icons that a module may have, in the order in which a form offers them.
pub const ICONS: [&str; 15] = [
    "globe",
    "book",
    "folder",
    "calendar",
    "mail",
    "chart",
    "board",
    "megaphone",
    "team-chat",
    "conversations",
    "video",
    "people",
    "building",
    "key",
    "shield",
];

/// Where a module opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Opens {
    /// In a tab of its own.
    Tab,
    /// Inside a page of the shell, in a frame.
    Page,
}

impl Opens {
    /// As stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tab => "tab",
            Self::Page => "page",
        }
    }
}

/// A module that somebody has added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Module {
    /// Its id.
    pub id: ModuleId,
    /// The tenant; the suite's, for those that it gives to others.
    pub tenant_id: TenantId,
    /// What it is called.
    pub name: String,
    /// One of the shell's icons.
    pub icon: String,
    /// Where it is.
    pub url: String,
    /// Where it opens.
    pub opens: Opens,
    /// Who sees it: any of these roles; everybody in the tenant where there is none.
    pub roles: Vec<Role>,
    /// Of one of the suite's, the tenants to which it is given; all where there is none.
    pub tenants: Vec<TenantId>,
    /// How often it was changed; the entity tag.
    pub version: i64,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it was changed last.
    pub updated_at: DateTime<Utc>,
}

impl Module {
    /// Whether somebody sees it in a tenant. Who runs the suite sees all of the suite's there.
    pub fn is_seen_by(&self, principal: &Principal, tenant: TenantId) -> bool {
        if tenant == TenantId::SUITE {
            return self.tenant_id == TenantId::SUITE && principal.platform_admin;
        }
        let is_given = self.tenant_id == tenant
            || (self.tenant_id == TenantId::SUITE
                && (self.tenants.is_empty() || self.tenants.contains(&tenant)));
        let Some(grant) = principal.grant(tenant).filter(|_| is_given) else { return false };
        self.roles.is_empty() || self.roles.iter().any(|role| grant.roles.contains(role))
    }
}

/// What is new.
#[derive(Debug, Clone)]
pub struct NewModule {
    /// What it is called.
    pub name: String,
    /// One of [`ICONS`].
    pub icon: String,
    /// Where it is.
    pub url: String,
    /// Where it opens.
    pub opens: Opens,
    /// Who sees it; everybody where there is none.
    pub roles: Vec<Role>,
    /// Of one of the suite's, to whom it is given, by UUID or path; to all where there is none.
    pub tenants: Vec<String>,
}

/// What is to change; what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeModule {
    /// What it is called.
    #[schema(min_length = 1, max_length = 60)]
    pub name: Option<String>,
    /// One of the shell's icons.
    pub icon: Option<String>,
    /// Where it is.
    #[schema(max_length = 2048)]
    pub url: Option<String>,
    /// Where it opens.
    pub opens: Option<Opens>,
    /// Who sees it; everybody where there is none.
    #[schema(max_items = 7)]
    pub roles: Option<Vec<Role>>,
    /// Of one of the suite's, to whom it is given, by UUID or path; to all where there is none.
    #[schema(max_items = 100)]
    pub tenants: Option<Vec<String>>,
}

/// What is wrong with a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleFault {
    /// The name is empty, too long or has control characters.
    Name,
    /// The shell has no such icon.
    Icon,
    /// The address is none, or not https (or http on this machine).
    Url,
    /// The address carries a user or a password.
    UserInfo,
    /// The address is one of ours, which can't be shown in a frame.
    OwnAddress,
    /// The host is an IPv6 address, which can't be shown in a frame.
    Ipv6,
    /// Only the suite gives modules to tenants.
    NotGiven,
    /// There is no such tenant, by its place in the list.
    Tenant(usize),
    /// There are too many tenants.
    TooManyTenants,
}

/// Checks a name.
pub(super) fn check_name(text: &str, faults: &mut Vec<ModuleFault>) -> String {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > MAX_NAME || text.chars().any(char::is_control) {
        faults.push(ModuleFault::Name);
    }
    text.to_owned()
}

/// Checks an icon.
pub(super) fn check_icon(name: &str, faults: &mut Vec<ModuleFault>) -> String {
    if !ICONS.contains(&name) {
        faults.push(ModuleFault::Icon);
    }
    name.to_owned()
}

/// Whether a link or a frame may lead there: https, or http on this machine, and a host of letters, digits, dots and dashes. Other
/// characters that a host may have in a URL (`;`, `'`) would end what a policy says of it.
pub fn is_plain_address(url: &Url) -> bool {
    let is_plain_host = match url.host() {
        Some(Host::Domain(name)) => {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    };
    is_plain_host && (url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url)))
}

/// Whether the host is an IPv6 address. A policy has no form for one (W3C CSP Level 3, section 2.3.1), so that no page can admit its frame.
fn is_ipv6(url: &Url) -> bool {
    matches!(url.host(), Some(Host::Ipv6(_)))
}

/// Whether the module is shown inside a page: it says so, a policy can name its host, and its address is still none of ours. A frame of our
/// own origin could act as whoever looks at it.
pub fn is_framed(config: &Config, opens: Opens, url: &Url) -> bool {
    opens == Opens::Page && !is_ipv6(url) && !config.is_own_address(url)
}

/// Checks what a policy has to say of an address in a frame.
pub(super) fn check_host(opens: Opens, url: &Url, faults: &mut Vec<ModuleFault>) {
    if opens == Opens::Page && is_ipv6(url) {
        faults.push(ModuleFault::Ipv6);
    }
}

/// Checks an address, and writes it as browsers do.
pub(super) fn check_url(text: &str, faults: &mut Vec<ModuleFault>) -> Option<Url> {
    let url =
        Url::parse(text.trim()).ok().filter(|url| is_plain_address(url) && url.as_str().len() <= MAX_URL);
    let Some(url) = url else {
        faults.push(ModuleFault::Url);
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        faults.push(ModuleFault::UserInfo);
        return None;
    }
    Some(url)
}

/// Takes out what is there twice, in the roles' own order. Everybody is a member: who names that role means all, which is none.
pub(super) fn in_order(roles: &[Role]) -> Vec<Role> {
    if roles.contains(&Role::Member) {
        return Vec::new();
    }
    Role::ALL.into_iter().filter(|role| roles.contains(role)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;
    use crate::{
        auth::{Grant, PrincipalKind, TenantKind, TenantRef},
        ids::UserId,
    };

    fn faults(url: &str) -> Vec<ModuleFault> {
        let mut faults = Vec::new();
        check_url(url, &mut faults);
        faults
    }

    #[test]
    fn an_address_is_https_or_on_this_machine_and_carries_nobody() {
        for accepted in [
            "https://wiki.example.org/",
            " https://wiki.example.org/a?b=c#d ",
            "https://[2001:db8::1]/",
            "http://127.0.0.1:8080/",
            "http://wiki.localhost/",
            "https://bücher.example/",
        ] {
            assert_eq!(faults(accepted), [], "{accepted}");
        }
        for refused in [
            "",
            "wiki",
            "//wiki.example.org/",
            "http://wiki.example.org/",
            "http://localhost.example.org/",
            "javascript:alert(1)",
            "JavaScript:alert(1)//https://a.example",
            "data:text/html,x",
            "ftp://wiki.example.org/",
            "file:///etc/passwd",
            "https://",
            "https://a.example;script-src/",
            "https://a.example'unsafe-inline'/",
            "https://a.example,b.example/",
            &format!("https://a.example/{}", "x".repeat(MAX_URL)),
        ] {
            assert_eq!(faults(refused), [ModuleFault::Url], "{refused}");
        }
        for carrying in
            ["https://user@a.example/", "https://:secret@a.example/", "https://user:secret@a.example/"]
        {
            assert_eq!(faults(carrying), [ModuleFault::UserInfo], "{carrying}");
        }
    }

    #[test]
    fn an_ipv6_address_opens_in_a_tab_only() {
        let faults = |opens, url: &str| {
            let mut faults = Vec::new();
            check_host(opens, &Url::parse(url).unwrap(), &mut faults);
            faults
        };
        for url in ["https://[2001:db8::1]/", "http://[::1]:8080/"] {
            assert_eq!(faults(Opens::Page, url), [ModuleFault::Ipv6], "{url}");
            assert_eq!(faults(Opens::Tab, url), [], "{url}");
        }
        for url in ["https://wiki.example.org/", "https://192.0.2.1/"] {
            assert_eq!(faults(Opens::Page, url), [], "{url}");
        }
    }

    #[test]
    fn roles_are_in_their_order_once_and_members_are_everybody() {
        assert_eq!(in_order(&[Role::Owner, Role::Agent, Role::Agent]), [Role::Agent, Role::Owner]);
        assert_eq!(in_order(&[]), []);
        assert_eq!(in_order(&[Role::Owner, Role::Member]), []);
    }

    #[test]
    fn a_name_is_one_line_of_letters() {
        for (name, is_accepted) in [
            ("Wiki", true),
            ("ウィキ & <b>", true),
            (" ", false),
            ("two\nlines", false),
            (&"x".repeat(MAX_NAME), true),
            (&"x".repeat(MAX_NAME + 1), false),
        ] {
            let mut faults = Vec::new();
            check_name(name, &mut faults);
            assert_eq!(faults.is_empty(), is_accepted, "{name}");
        }
    }

    #[test]
    fn a_module_is_seen_in_its_tenant_by_its_roles_and_one_of_the_suites_where_it_is_given() {
        let tenant = TenantId(Uuid::from_u128(1));
        let other = TenantId(Uuid::from_u128(2));
        let grant = |id, role| Grant {
            tenant: TenantRef { id, kind: TenantKind::Team, path: String::new(), name: String::new() },
            roles: BTreeSet::from([Role::Member, role]),
        };
        let mut principal = Principal {
            id: UserId(Uuid::from_u128(3)),
            username: String::new(),
            name: String::new(),
            kind: PrincipalKind::Person,
            platform_admin: false,
            grants: vec![grant(tenant, Role::Agent), grant(other, Role::Owner)],
        };
        let module = |of, roles: &[Role], tenants: &[TenantId]| Module {
            id: ModuleId(Uuid::nil()),
            tenant_id: of,
            name: String::new(),
            icon: String::new(),
            url: String::new(),
            opens: Opens::Tab,
            roles: roles.to_vec(),
            tenants: tenants.to_vec(),
            version: 1,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: DateTime::UNIX_EPOCH,
        };
        let own = module(tenant, &[], &[]);
        assert!(own.is_seen_by(&principal, tenant) && !own.is_seen_by(&principal, other));
        // An owner elsewhere is no owner here.
        assert!(!module(tenant, &[Role::Owner], &[]).is_seen_by(&principal, tenant));
        assert!(module(tenant, &[Role::Owner, Role::Agent], &[]).is_seen_by(&principal, tenant));
        let of_all = module(TenantId::SUITE, &[], &[]);
        assert!(of_all.is_seen_by(&principal, tenant) && of_all.is_seen_by(&principal, other));
        let given = module(TenantId::SUITE, &[Role::Agent, Role::Owner], &[other]);
        assert!(!given.is_seen_by(&principal, tenant) && given.is_seen_by(&principal, other));
        assert!(!of_all.is_seen_by(&principal, TenantId::SUITE));
        principal.platform_admin = true;
        assert!(
            given.is_seen_by(&principal, TenantId::SUITE) && !own.is_seen_by(&principal, TenantId::SUITE)
        );
        // Running the suite makes nobody a member.
        assert!(!of_all.is_seen_by(&principal, TenantId(Uuid::from_u128(9))));
    }
}
