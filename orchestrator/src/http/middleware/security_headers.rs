use std::sync::Arc;

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::Response,
};

/// The content security policy of our pages (W3C CSP Level 3): nothing but our own, and forms to exactly the origins that
/// a form leads to by a redirect.
#[derive(Debug, Clone)]
pub struct ContentSecurityPolicy(Arc<HeaderValue>);

impl ContentSecurityPolicy {
    /// A policy with these further sources of assets (a CDN's origin) and targets of forms.
    pub fn new(assets: Option<&str>, form_targets: &[String]) -> Self {
        let assets = assets.map(|origin| format!(" {origin}")).unwrap_or_default();
        let targets: String = form_targets.iter().flat_map(|origin| [" ", origin]).collect();
        let policy = format!(
            "default-src 'none'; script-src 'self'{assets}; style-src 'self'{assets}; img-src 'self'{assets}; font-src 'self'{assets}; \
             connect-src 'self'; worker-src 'self'; manifest-src 'self'; form-action 'self'{targets}; frame-ancestors 'none'; \
             base-uri 'none'; object-src 'none'"
        );
        Self(Arc::new(
            HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'")),
        ))
    }
}

/// The headers of OWASP ASVS 5.0, 3.4, that are the same on every response.
static ALWAYS: [(HeaderName, HeaderValue); 7] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000; includeSubDomains")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
    ),
    (HeaderName::from_static("x-permitted-cross-domain-policies"), HeaderValue::from_static("none")),
];

/// The headers of OWASP ASVS 5.0, 3.4, on every response.
pub fn security_headers(policy: &ContentSecurityPolicy, response: &mut Response) {
    let headers = response.headers_mut();
    // At once, with room for the request's id: a map that grows is made anew.
    headers.reserve(ALWAYS.len() + 3);
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert_with(|| (*policy.0).clone());
    for (name, value) in &ALWAYS {
        headers.entry(name).or_insert_with(|| value.clone());
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
