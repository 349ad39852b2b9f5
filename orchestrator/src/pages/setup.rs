//! What `serve` shows while nobody can sign in, because the settings name no Keycloak: what is missing, and what mends it.
//!
//! There is nobody to ask who looks. So what the doctor has found, which names servers and versions, is shown to a browser on this machine
//! alone, and only as long as no public address is set; anybody else is told where to look. Nothing else of the application is there.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Version, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use serde_json::json;
use shell_ui::{Ui, pages::SetupPage};
use url::{Host, Url};

use super::{PageResult, assets, health::part, page};
use crate::{
    clock::SharedClock,
    config::{Config, is_loopback},
    doctor::Lately,
    http::{
        Problem,
        middleware::{ContentSecurityPolicy, Peer, security_headers},
    },
};

/// What the page is made of.
#[derive(Debug)]
struct Setup {
    config: Config,
    clock: SharedClock,
    doctor: Lately,
    ui: Ui,
}

/// All that is served until the settings say who people are.
pub fn setup_router(config: Config, clock: SharedClock) -> Router {
    let ui = Ui::new(&config.http.assets_url);
    let assets = Url::parse(&config.http.assets_url).ok().map(|url| crate::config::origin(&url));
    let policy = ContentSecurityPolicy::new(assets.as_deref(), &[]);
    let setup = Arc::new(Setup { config, clock, doctor: Lately::default(), ui });
    Router::new()
        .route("/", get(show))
        .route("/assets/{file}", get(assets::asset))
        .route("/health", get(async || Json(json!({ "status": "ok" }))))
        .fallback(not_set_up)
        .layer(middleware::from_fn_with_state(policy, headers))
        .with_state(setup)
}

async fn headers(State(policy): State<ContentSecurityPolicy>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    security_headers(&policy, &mut response);
    response
}

/// Browsers are led to the page, programs are told.
async fn not_set_up(method: Method, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if method == Method::GET && accept.contains("text/html") {
        return Redirect::to("/").into_response();
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_set_up", "This installation is not set up yet")
        .into_response()
}

/// Whether who looks sits at this machine: by the connection, and by the name in the address bar, so that no page from elsewhere has had its
/// own name lead here. A proxy on this machine may look the same and say nothing of whom it asks for: so nobody counts as local where the
/// public address is elsewhere, nor who speaks HTTP/1.0, as no browser does and nginx did by default.
fn is_local(public_url: &Url, peer: IpAddr, version: Version, headers: &HeaderMap) -> bool {
    if !is_loopback(public_url) || version < Version::HTTP_11 {
        return false;
    }
    let is_forwarded =
        ["forwarded", "x-forwarded-for", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name));
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let asked = host.and_then(|host| Url::parse(&format!("http://{host}/")).ok());
    let is_local_name =
        asked.is_some_and(|url| is_loopback(&url) && !matches!(url.host(), None | Some(Host::Domain(""))));
    peer.to_canonical().is_loopback() && !is_forwarded && is_local_name
}

async fn show(
    State(setup): State<Arc<Setup>>,
    peer: Option<Extension<Peer>>,
    version: Version,
    headers: HeaderMap,
) -> PageResult {
    let mut shown = SetupPage { ui: setup.ui.clone(), parts: Vec::new(), checked: None };
    let public_url = &setup.config.http.public_url;
    if peer.is_some_and(|Extension(Peer(peer))| is_local(public_url, peer, version, &headers)) {
        let report = setup.doctor.report(&setup.config, &setup.clock).await;
        shown.parts = report.checks.iter().map(part).collect();
        shown.checked = Some(setup.ui.time(report.checked_at, setup.clock.now()));
    }
    page(StatusCode::OK, &shown)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_who_sits_at_this_machine_sees_what_was_found() {
        let seen = |public_url: &str, version, peer: &str, pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| {
                (header::HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            let public_url = Url::parse(public_url).unwrap();
            is_local(&public_url, peer.parse().unwrap(), version, &headers.collect())
        };
        let local = |peer: &str, pairs: &[(&'static str, &'static str)]| {
            seen("http://127.0.0.1:8080", Version::HTTP_11, peer, pairs)
        };
        for host in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "chancery.localhost"] {
            assert!(local("127.0.0.1", &[("host", host)]), "{host}");
        }
        assert!(
            local("::1", &[("host", "localhost")]) && local("::ffff:127.0.0.1", &[("host", "localhost")])
        );
        assert!(!local("10.0.0.7", &[("host", "localhost")]));
        assert!(!local("127.0.0.1", &[]));
        // A page from elsewhere whose name leads here, and a proxy on this machine.
        assert!(!local("127.0.0.1", &[("host", "evil.example")]));
        for name in ["x-forwarded-for", "forwarded", "x-real-ip", "via"] {
            assert!(!local("127.0.0.1", &[("host", "localhost"), (name, "203.0.113.9")]), "{name}");
        }
        // One that adds no header, and names us as it reaches us.
        let host = [("host", "127.0.0.1:8080")];
        assert!(seen("http://localhost:8080", Version::HTTP_11, "127.0.0.1", &host));
        assert!(!seen("http://localhost:8080", Version::HTTP_10, "127.0.0.1", &host));
        assert!(!seen("https://chancery.example.org", Version::HTTP_11, "127.0.0.1", &host));
    }
}
