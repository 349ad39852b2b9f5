//! The pages: plain HTML with one small style sheet, light and dark, down to a phone's width, without JavaScript.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

const STYLE: &str = "\
:root{color-scheme:light dark;--page:#f4f5f8;--card:#fff;--text:#1b1f2a;--quiet:#596075;--line:#d7dbe6;--accent:#3446b8;--hover:#eef0fb;--bad:#a3161f}\
@media(prefers-color-scheme:dark){:root{--page:#12141b;--card:#1b1e28;--text:#eceef6;--quiet:#a6adc2;--line:#343a4c;--accent:#a9b5ff;--hover:#252a3a;--bad:#ff9a9f}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--page);color:var(--text);font:1rem/1.5 system-ui,sans-serif}\
main{width:100%;max-width:27rem;background:var(--card);border:1px solid var(--line);border-radius:1rem;padding:2rem}\
@media(max-width:30rem){body{padding:.75rem;place-items:start}main{padding:1.25rem}}\
h1{font-size:1.5rem;line-height:1.25;margin:0 0 .5rem}\
p{margin:0 0 1rem;color:var(--quiet)}\
ul{list-style:none;margin:1.25rem 0 0;padding:0;display:grid;gap:.5rem}\
button{width:100%;display:grid;grid-template-columns:2.5rem 1fr;column-gap:.75rem;align-items:center;text-align:left;font:inherit;color:inherit;background:none;border:1px solid var(--line);border-radius:.75rem;padding:.625rem .75rem;cursor:pointer}\
button:hover{background:var(--hover);border-color:var(--accent)}\
button:focus-visible{outline:3px solid var(--accent);outline-offset:2px}\
button b{font-weight:600}\
button i{grid-row:span 2;width:2.5rem;height:2.5rem;border-radius:50%;display:grid;place-items:center;background:var(--hover);color:var(--accent);font-style:normal;font-weight:600}\
button span{color:var(--quiet);font-size:.875rem;overflow-wrap:anywhere}\
label{display:block;font-weight:600}\
input{width:100%;font:inherit;font-size:1.25rem;letter-spacing:.15em;color:inherit;background:none;border:1px solid var(--line);border-radius:.75rem;padding:.625rem .75rem;margin:.25rem 0 .75rem}\
input:focus-visible{outline:3px solid var(--accent);outline-offset:2px}\
button.plain{display:block;text-align:center;font-weight:600}\
.alert{color:var(--bad);font-weight:600}\
small{color:var(--quiet)}";

/// Somebody who can be picked.
pub(super) struct Person {
    pub(super) username: String,
    pub(super) name: String,
    pub(super) about: String,
}

/// The page to pick a person on. `action` is where its form goes, `target` the origins that it leads to.
pub(super) fn login(people: &[Person], action: &str, target: &str, alert: Option<&str>) -> Response {
    let mut body = String::from(
        "<h1>Who are you today?</h1><p>This stands in for Keycloak: pick a person, no password needed.</p>",
    );
    if let Some(alert) = alert {
        let _ = write!(body, "<p class=\"alert\" role=\"alert\">{}</p>", escape(alert));
    }
    let _ = write!(body, "<form method=\"post\" action=\"{}\"><ul>", escape(action));
    for (index, person) in people.iter().enumerate() {
        let initials: String =
            person.name.split_whitespace().filter_map(|word| word.chars().next()).take(2).collect();
        let _ = write!(
            body,
            "<li><button name=\"username\" value=\"{}\"{}><i aria-hidden=\"true\">{}</i><b>{}</b><span>{}</span></button></li>",
            escape(&person.username),
            if index == 0 { " autofocus" } else { "" },
            escape(&initials),
            escape(&person.name),
            escape(&person.about),
        );
    }
    body.push_str("</ul></form>");
    page(StatusCode::OK, "Sign in", &body, target)
}

/// The page that asks for a one-time code, and shows the one that an authenticator would show.
pub(super) fn one_time_code(code: &str, action: &str, target: &str, alert: Option<&str>) -> Response {
    let mut body = String::from("<h1>One-time code</h1>");
    if let Some(alert) = alert {
        let _ = write!(body, "<p class=\"alert\" role=\"alert\">{}</p>", escape(alert));
    }
    let _ = write!(
        body,
        "<p id=\"about\">Your authenticator would show <b>{code}</b> now. This stands in for Keycloak, so it is filled in.</p>\
         <form method=\"post\" action=\"{}\"><label for=\"otp\">Code</label>\
         <input id=\"otp\" name=\"otp\" value=\"{code}\" inputmode=\"numeric\" autocomplete=\"one-time-code\" aria-describedby=\"about\" autofocus>\
         <button class=\"plain\">Sign in</button></form>",
        escape(action)
    );
    page(StatusCode::OK, "One-time code", &body, target)
}

/// A page that says what went wrong.
pub(super) fn error(status: StatusCode, message: &str) -> Response {
    let body = format!(
        "<h1>We are sorry…</h1><p class=\"alert\" role=\"alert\">{}</p><p>Go back to where you came from and try again.</p>",
        escape(message)
    );
    page(status, "Error", &body, "")
}

/// The page after signing out where there is nowhere to go back to.
pub(super) fn signed_out() -> Response {
    page(StatusCode::OK, "Signed out", "<h1>You are signed out</h1><p>You can close this page.</p>", "")
}

/// The page at `/`.
pub(super) fn start() -> Response {
    let body = "<h1>This stands in for Keycloak</h1><p>Applications send people here to sign in; there is nothing to do \
                on this page.</p><small>It answers as Keycloak 26.7 does, for demos and tests only.</small>";
    page(StatusCode::OK, "Keycloak's double", body, "")
}

fn page(status: StatusCode, title: &str, body: &str, form_target: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title} · Keycloak (double)</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    );
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    // Chromium holds the redirect that answers a form to `form-action`, so that the application is named here too.
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self' {form_target}; base-uri 'none'; frame-ancestors 'self'"
    );
    let mut response = (status, Html(html)).into_response();
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store, must-revalidate, max-age=0"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, character| {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
        escaped
    })
}
