use std::net::IpAddr;

use axum::http::{HeaderMap, header};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    auth::step_up::Authentication,
    ids::{TenantId, UserId},
};

/// What a session is about. It is sealed wherever it is kept.
#[derive(Clone, Serialize, Deserialize)]
pub struct Session {
    /// Who signed in.
    pub user: UserId,
    /// Keycloak's session, for back-channel logout.
    pub keycloak_session: Option<String>,
    /// The raw ID token, the hint at sign-out.
    pub id_token: String,
    /// What Keycloak's session is looked at with; each use replaces it.
    pub refresh_token: Option<String>,
    /// Until then Keycloak has said that its session goes on.
    pub proven_until: DateTime<Utc>,
    /// How and when they proved who they are.
    pub authentication: Authentication,
    /// The tenant that was last looked at.
    pub last_tenant: Option<TenantId>,
    /// What was typed into a form that asked for a stronger sign-in.
    pub draft: Option<Draft>,
    /// The browser, coarsely: `Firefox on Linux`.
    pub browser: String,
    /// The address from which the sign-in came, where it is known.
    pub opened_from: Option<IpAddr>,
    /// The address from which it was last used.
    pub used_from: Option<IpAddr>,
    /// When the sign-in was.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    #[serde(skip)]
    pub used_at: DateTime<Utc>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What was typed into a form before its sender had to prove who they are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// The page that the form is on.
    pub path: String,
    /// Its fields.
    pub fields: Vec<(String, String)>,
}

/// What a sign-in makes a session of.
#[derive(Clone)]
pub struct NewSession {
    /// Who signed in.
    pub user: UserId,
    /// Keycloak's session.
    pub keycloak_session: Option<String>,
    /// The raw ID token.
    pub id_token: String,
    /// What Keycloak's session is looked at with.
    pub refresh_token: Option<String>,
    /// Until then Keycloak has said that its session goes on.
    pub proven_until: DateTime<Utc>,
    /// How and when they proved who they are.
    pub authentication: Authentication,
    /// What was typed before they proved it.
    pub draft: Option<Draft>,
    /// The browser, coarsely.
    pub browser: String,
    /// The address from which the sign-in comes.
    pub opened_from: Option<IpAddr>,
}

impl std::fmt::Debug for NewSession {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NewSession").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The browser and the system that a request says it comes from, coarsely; empty where it doesn't say. For people to
/// recognise their own by, and for nothing else: anybody can send anything.
pub fn browser(headers: &HeaderMap) -> String {
    // The first that fits: most browsers name others, too.
    const BROWSERS: [(&str, &str); 6] = [
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Chromium/", "Chromium"),
        ("Safari/", "Safari"),
    ];
    const SYSTEMS: [(&str, &str); 6] = [
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = |known: &[(&str, &'static str)]| {
        known.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name)
    };
    match (first(&BROWSERS), first(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_browser_is_named_as_people_know_it() {
        for (agent, expected) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15",
                "Safari on macOS",
            ),
            ("curl/8.0", ""),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
            assert_eq!(browser(&headers), expected);
        }
        assert_eq!(browser(&HeaderMap::new()), "");
    }
}
