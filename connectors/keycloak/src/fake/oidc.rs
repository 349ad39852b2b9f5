//! The realm's OpenID Connect endpoints.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::json;
use url::form_urlencoded;

use super::{FakeKeycloak, authorize::Answer, broken, error, pages};

pub(super) fn routes() -> Router<Arc<FakeKeycloak>> {
    const OIDC: &str = "/realms/{realm}/protocol/openid-connect";
    Router::new()
        .route("/realms/{realm}/.well-known/openid-configuration", get(configuration))
        .route(&format!("{OIDC}/certs"), get(certs))
        .route(&format!("{OIDC}/auth"), get(auth_by_query).post(auth_by_form))
        .route("/realms/{realm}/login-actions/authenticate", post(authenticate))
        .route(&format!("{OIDC}/token"), post(token))
        .route(&format!("{OIDC}/userinfo"), get(userinfo).post(userinfo))
        .route(&format!("{OIDC}/logout"), get(logout_by_query).post(logout_by_form))
}

type Double = State<Arc<FakeKeycloak>>;

/// A form or a query. A parameter given twice is remembered as such: OAuth forbids it (RFC 6749, section 3.1).
pub(super) struct Parameters {
    values: BTreeMap<String, String>,
    pub(super) duplicated: bool,
}

impl Parameters {
    fn parse(encoded: &[u8]) -> Self {
        let mut values = BTreeMap::new();
        let mut duplicated = false;
        for (name, value) in form_urlencoded::parse(encoded) {
            duplicated |= values.insert(name.into_owned(), value.into_owned()).is_some();
        }
        Self { values, duplicated }
    }

    /// The parameter, where it is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The parameter, where it is there, be it empty.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    pub(super) fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(ToOwned::to_owned)
    }
}

async fn configuration(State(double): Double, Path(realm): Path<String>) -> Response {
    if let Some(refusal) = double.unknown_realm(&realm) {
        return refusal;
    }
    let issuer = double.issuer();
    let endpoint = |name: &str| format!("{issuer}/protocol/openid-connect/{name}");
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": endpoint("auth"),
        "token_endpoint": endpoint("token"),
        "userinfo_endpoint": endpoint("userinfo"),
        "end_session_endpoint": endpoint("logout"),
        "jwks_uri": endpoint("certs"),
        "grant_types_supported": ["authorization_code", "client_credentials", "password", "refresh_token"],
        "acr_values_supported": double.realm.level_names(),
        "claims_parameter_supported": true,
        "prompt_values_supported": ["none", "login"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_modes_supported": ["query", "fragment"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "name", "given_name", "family_name",
            "preferred_username", "email", "acr", "azp", "nonce"],
        "claim_types_supported": ["normal"],
        "scopes_supported": ["openid", "basic", "acr", "roles", "email", "profile", "web-origins"],
        "code_challenge_methods_supported": ["plain", "S256"],
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
        "authorization_response_iss_parameter_supported": true,
    }))
    .into_response()
}

async fn certs(State(double): Double, Path(realm): Path<String>) -> Response {
    if let Some(refusal) = double.unknown_realm(&realm) {
        return refusal;
    }
    ([(header::CACHE_CONTROL, "no-cache")], Json(double.keys().jwks())).into_response()
}

async fn auth_by_query(
    State(double): Double,
    Path(realm): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    double.authorize(&realm, &headers, &Parameters::parse(query.unwrap_or_default().as_bytes()))
}

async fn auth_by_form(
    State(double): Double,
    Path(realm): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    double.authorize(&realm, &headers, &Parameters::parse(&body))
}

async fn authenticate(
    State(double): Double,
    Path(realm): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    if let Some(refusal) = double.unknown_realm(&realm) {
        return refusal;
    }
    let query = Parameters::parse(query.unwrap_or_default().as_bytes());
    let form = Parameters::parse(&body);
    let given = match form.get("otp") {
        Some(code) => Answer::Code(code),
        None => Answer::Person(form.get("username").unwrap_or_default()),
    };
    match double.authenticate(query.get("session_code").unwrap_or_default(), given) {
        Ok(response) => response,
        Err(error) => broken(&error),
    }
}

async fn token(
    State(double): Double,
    Path(realm): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refusal) = double.unknown_realm(&realm) {
        return refusal;
    }
    let (status, body) = match double.token(&headers, &Parameters::parse(&body)) {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (error.status, json!({"error": error.error, "error_description": error.description})),
    };
    (status, [(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], Json(body)).into_response()
}

async fn userinfo(State(double): Double, Path(realm): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = double.unknown_realm(&realm) {
        return refusal;
    }
    double.userinfo(bearer(&headers))
}

async fn logout_by_query(
    State(double): Double,
    Path(realm): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    if let Some(refusal) = double.unknown_realm(&realm) {
        return refusal;
    }
    double.logout(&Parameters::parse(query.unwrap_or_default().as_bytes())).await
}

async fn logout_by_form(
    State(double): Double,
    Path(realm): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refusal) = double.unknown_realm(&realm) {
        return refusal;
    }
    let form = Parameters::parse(&body);
    if form.get("refresh_token").is_none() {
        return double.logout(&form).await;
    }
    match double.logout_by_refresh_token(&headers, &form).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            (error.status, Json(json!({"error": error.error, "error_description": error.description})))
                .into_response()
        }
    }
}

/// The token of an `Authorization: Bearer` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl FakeKeycloak {
    pub(super) fn unknown_realm(&self, realm: &str) -> Option<Response> {
        (realm != self.realm.name).then(|| error(StatusCode::NOT_FOUND, "Realm does not exist"))
    }
}

pub(super) fn redirect(to: &str) -> Response {
    match HeaderValue::from_str(to) {
        Ok(location) => (
            StatusCode::FOUND,
            [
                (header::LOCATION, location),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store, must-revalidate, max-age=0")),
            ],
        )
            .into_response(),
        Err(_) => pages::error(StatusCode::BAD_REQUEST, "Invalid parameter: redirect_uri"),
    }
}
