//! The other side, for whoever signs in at the double or at a real server by program: what a client of the realm sends, and what
//! a browser does with the double's pages.

use aws_lc_rs::digest;
use serde_json::Value;

use super::keys::{decode, encode};

/// Where the realm's shell lets Keycloak lead back to.
pub const CALLBACK: &str = "http://127.0.0.1:8080/auth/callback";
/// A code verifier (RFC 7636, section 4.1).
pub const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters.~_";
/// The realm's service account that reads users and groups: its client and that client's secret.
pub const SYNC: (&str, &str) = ("chancery-sync", "demo-only-chancery-sync");
/// The realm's service account for machines at acme's.
pub const AUTOMATION: (&str, &str) = ("chancery-automation", "demo-only-chancery-automation");

/// The challenge of a code verifier (RFC 7636, section 4.2: S256).
pub fn challenge(verifier: &str) -> String {
    encode(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref())
}

/// The query that leads to the sign-in page of `client`, with some parameters replaced (`None` leaves one out).
pub fn authorization_query(client: &str, changes: &[(&str, Option<&str>)]) -> Vec<(String, String)> {
    let challenge = challenge(VERIFIER);
    let mut parameters = vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", CALLBACK),
        ("scope", "openid profile email"),
        ("state", "a state & more"),
        ("nonce", "a nonce"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in changes {
        parameters.retain(|(known, _)| known != name);
        parameters.extend(value.map(|value| (*name, value)));
    }
    parameters.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The form that exchanges the code of [`authorization_query`].
pub fn exchange_form(code: &str) -> [(&str, &str); 4] {
    [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ]
}

/// Header and claims of a token, unverified; null where it is none.
pub fn read_token(token: &str) -> (Value, Value) {
    let mut parts = token
        .split('.')
        .map(|part| decode(part).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default());
    let mut next = || parts.next().unwrap_or_default();
    (next(), next())
}

/// The value of the first attribute of this name on a page.
pub fn attribute(page: &str, name: &str) -> Option<String> {
    let value = page.split(&format!("{name}=\"")).nth(1)?.split('"').next()?;
    Some(value.replace("&amp;", "&"))
}

/// What a person sends from one of the double's pages: the form's address, and its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// Where it goes.
    pub action: String,
    /// The field and its value.
    pub field: (&'static str, String),
}

/// Fills in a page of the double as this user: picks them, or gives the one-time code that the page shows. None where the page
/// has no form, or says that something was wrong.
pub fn fill_in(page: &str, username: &str) -> Option<Filled> {
    if page.contains("role=\"alert\"") {
        return None;
    }
    let field = match attribute(page, "name=\"otp\" value") {
        Some(code) => ("otp", code),
        None => ("username", username.to_owned()),
    };
    Some(Filled { action: attribute(page, "action")?, field })
}
