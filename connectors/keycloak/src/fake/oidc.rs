//! The realm's OpenID Connect endpoints.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use connector_core::HttpClient;
use serde_json::{Map, Value, json};
use url::{Url, form_urlencoded};
use uuid::Uuid;

use super::{
    AuthorizationRequest, ClientSession, Code, FakeError, FakeKeycloak, PendingLogin, RefreshUse, Session,
    State as Kept, broken, error, keys, pages,
    realm::{Client, Realm, UserRecord},
};

const ORGANIZATION_PREFIX: &str = "/organizations/";
const TEAM_PREFIX: &str = "/teams/";

/// Waiting for a client to take a logout token; the real one waits in the browser's request as well.
const LOGOUT_DEADLINE: Duration = Duration::from_secs(2);

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
struct Parameters {
    values: BTreeMap<String, String>,
    duplicated: bool,
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
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(ToOwned::to_owned)
    }
}

/// An error of the token endpoint (RFC 6749, section 5.2).
struct TokenError {
    status: StatusCode,
    error: &'static str,
    description: String,
}

impl TokenError {
    fn new(status: StatusCode, error: &'static str, description: impl Into<String>) -> Self {
        Self { status, error, description: description.into() }
    }

    fn invalid_grant(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_grant", description)
    }

    fn invalid_request(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    fn broken(error: &FakeError) -> Self {
        tracing::error!(error = error as &dyn std::error::Error, "the double of Keycloak can't answer");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "unknown_error", "")
    }
}

impl From<FakeError> for TokenError {
    fn from(error: FakeError) -> Self {
        Self::broken(&error)
    }
}

impl From<connector_core::fake::FakeStateError> for TokenError {
    fn from(error: connector_core::fake::FakeStateError) -> Self {
        Self::broken(&FakeError::State(error))
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
        "acr_values_supported": ["0", "1"],
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
    RawQuery(query): RawQuery,
) -> Response {
    double.authorize(&realm, &Parameters::parse(query.unwrap_or_default().as_bytes()))
}

async fn auth_by_form(State(double): Double, Path(realm): Path<String>, body: Bytes) -> Response {
    double.authorize(&realm, &Parameters::parse(&body))
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
    match double
        .authenticate(query.get("session_code").unwrap_or_default(), form.get("username").unwrap_or_default())
    {
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
    fn unknown_realm(&self, realm: &str) -> Option<Response> {
        (realm != self.realm.name).then(|| error(StatusCode::NOT_FOUND, "Realm does not exist"))
    }

    fn authorize(&self, realm: &str, parameters: &Parameters) -> Response {
        if let Some(refusal) = self.unknown_realm(realm) {
            return refusal;
        }
        let Some(client) = parameters.get("client_id").and_then(|id| self.realm.client(id)) else {
            return pages::error(StatusCode::BAD_REQUEST, "Client not found.");
        };
        if !client.enabled {
            return pages::error(StatusCode::BAD_REQUEST, "Client disabled.");
        }
        if client.bearer_only {
            return pages::error(
                StatusCode::FORBIDDEN,
                "Bearer-only applications are not allowed to initiate browser login.",
            );
        }
        let Some(redirect_uri) = parameters.owned("redirect_uri").filter(|uri| client.allows_redirect(uri))
        else {
            return pages::error(StatusCode::BAD_REQUEST, "Invalid parameter: redirect_uri");
        };
        let response_type = parameters.get("response_type");
        let mode = parameters.get("response_mode");
        let request = AuthorizationRequest {
            client_id: client.client_id.clone(),
            redirect_uri,
            scope: parameters.owned("scope").unwrap_or_default(),
            state: parameters.owned("state"),
            nonce: parameters.owned("nonce"),
            code_challenge: parameters.owned("code_challenge"),
            code_challenge_method: parameters.owned("code_challenge_method"),
            fragment: mode == Some("fragment")
                || mode.is_none() && response_type.is_some_and(|kind| kind != "code"),
            login_hint: parameters.owned("login_hint"),
        };
        let refuse = |error: &str, description: Option<&str>| {
            let mut answer = vec![("error", error)];
            answer.extend(description.map(|description| ("error_description", description)));
            self.send_back(&request, &answer, &[])
        };
        match response_type {
            None => return refuse("invalid_request", Some("Missing parameter: response_type")),
            Some("code") if client.standard_flow_enabled => {}
            Some("code") => {
                return refuse(
                    "unauthorized_client",
                    Some(
                        "Client is not allowed to initiate browser login with given response_type. \
                         Standard flow is disabled for the client.",
                    ),
                );
            }
            Some(
                "token"
                | "id_token"
                | "id_token token"
                | "code token"
                | "code id_token"
                | "code id_token token",
            ) => {
                return refuse(
                    "unauthorized_client",
                    Some(
                        "Client is not allowed to initiate browser login with given response_type. \
                         Implicit flow is disabled for the client.",
                    ),
                );
            }
            Some(_) => return refuse("unsupported_response_type", None),
        }
        if !matches!(mode, None | Some("query" | "fragment")) {
            return refuse("invalid_request", Some("Invalid parameter: response_mode"));
        }
        if parameters.duplicated {
            return refuse("invalid_request", Some("duplicated parameter"));
        }
        if !Realm::scope_is_valid(client, &request.scope) {
            return refuse("invalid_scope", Some(&format!("Invalid scopes: {}", request.scope)));
        }
        if let Err(description) = check_challenge(client, &request) {
            return refuse("invalid_request", Some(description));
        }
        if parameters.get("prompt").is_some_and(|prompt| prompt.split_whitespace().any(|word| word == "none"))
        {
            return refuse("login_required", None);
        }
        let session_code = self.secret_id();
        let page = self.login_page(&session_code, &request, None);
        let expires = self.now() + self.realm.access_code_lifespan_login;
        let now = self.now();
        let kept = self.state.update(|state| {
            state.forget_what_expired(now, &self.realm);
            state.logins.insert(session_code, PendingLogin { expires, request })
        });
        match kept {
            Ok(_) => page,
            Err(error) => broken(&FakeError::State(error)),
        }
    }

    fn login_page(
        &self,
        session_code: &str,
        request: &AuthorizationRequest,
        alert: Option<&str>,
    ) -> Response {
        let hint = request.login_hint.as_deref().map(str::to_lowercase);
        let mut people: Vec<(bool, pages::Person)> = self.state.read(|state| {
            let directory = &state.directory;
            let people = directory.users.iter().filter(|user| user.service_account_client_id.is_none());
            people
                .map(|user| {
                    let hinted = hint.as_ref().is_some_and(|hint| {
                        *hint == user.username || user.email.as_ref().is_some_and(|email| hint == email)
                    });
                    let person = pages::Person {
                        username: user.username.clone(),
                        name: user.full_name().unwrap_or_else(|| user.username.clone()),
                        about: about(&directory.paths(user), user),
                    };
                    (hinted, person)
                })
                .collect()
        });
        people.sort_by_key(|(hinted, _)| !hinted);
        let people: Vec<pages::Person> = people.into_iter().map(|(_, person)| person).collect();
        let client_id: String = form_urlencoded::byte_serialize(request.client_id.as_bytes()).collect();
        let action = format!(
            "{}/login-actions/authenticate?session_code={session_code}&client_id={client_id}",
            self.issuer
        );
        let targets: Vec<String> = [&self.issuer, &request.redirect_uri]
            .into_iter()
            .filter_map(|url| Url::parse(url).ok())
            .map(|url| url.origin().ascii_serialization())
            .collect();
        let target = targets.join(" ");
        pages::login(&people, &action, &target, alert)
    }

    fn authenticate(&self, session_code: &str, username: &str) -> Result<Response, FakeError> {
        let now = self.now();
        let request = self.state.read(|state| {
            let login = state.logins.get(session_code).filter(|login| now <= login.expires)?;
            Some(login.request.clone())
        });
        let Some(request) = request else {
            return Ok(pages::error(
                StatusCode::BAD_REQUEST,
                "Your login attempt timed out, or it was finished in another tab. Please sign in again.",
            ));
        };
        let user = self.state.read(|state| {
            let user = state.directory.user_by_name(username);
            user.filter(|user| user.service_account_client_id.is_none()).cloned()
        });
        let Some(client) = self.realm.client(&request.client_id) else {
            return Ok(pages::error(StatusCode::BAD_REQUEST, "Client not found."));
        };
        let Some(user) = user else {
            return Ok(self.login_page(session_code, &request, Some("There is nobody of that name here.")));
        };
        if !user.enabled {
            let alert = "Account is disabled, contact your administrator.";
            return Ok(self.login_page(session_code, &request, Some(alert)));
        }
        let session = self.start_session(user.id, &client.id)?;
        let code = self.secret_id();
        let full_code = format!("{code}.{session}.{}", client.id);
        let response = self.send_back(&request, &[], &[("session_state", &session), ("code", &full_code)]);
        let expires = now + self.realm.access_code_lifespan;
        self.state.update(|state| {
            state.logins.remove(session_code);
            state.codes.insert(code, Code { session, expires, request });
        })?;
        Ok(response)
    }

    /// The redirect that answers an authorization request, in the order of the real one: error, state, the rest.
    fn send_back(
        &self,
        request: &AuthorizationRequest,
        before: &[(&str, &str)],
        after: &[(&str, &str)],
    ) -> Response {
        let Ok(mut url) = Url::parse(&request.redirect_uri) else {
            return pages::error(StatusCode::BAD_REQUEST, "Invalid parameter: redirect_uri");
        };
        let mut answer = form_urlencoded::Serializer::new(String::new());
        answer.extend_pairs(before);
        answer.extend_pairs(request.state.as_deref().map(|state| ("state", state)));
        let (session_state, code): (Vec<_>, Vec<_>) =
            after.iter().copied().partition(|(name, _)| *name != "code");
        answer.extend_pairs(session_state).append_pair("iss", &self.issuer).extend_pairs(code);
        let answer = answer.finish();
        if request.fragment {
            url.set_fragment(Some(&answer));
        } else {
            let query = url.query().map_or_else(|| answer.clone(), |query| format!("{query}&{answer}"));
            url.set_query(Some(&query));
        }
        redirect(url.as_str())
    }

    /// Starts a session of a user at a client, and returns its id.
    pub(super) fn start_session(&self, user: Uuid, client: &str) -> Result<String, FakeError> {
        let now = self.now();
        let id = self.secret_id();
        let clients = BTreeMap::from([(client.to_owned(), ClientSession::default())]);
        self.state.update(|state| {
            state.forget_what_expired(now, &self.realm);
            state.sessions.insert(id.clone(), Session { user, started: now, last_used: now, clients });
        })?;
        Ok(id)
    }

    fn token(&self, headers: &HeaderMap, form: &Parameters) -> Result<Value, TokenError> {
        let client = self.authenticate_client(headers, form)?;
        if form.duplicated {
            return Err(TokenError::invalid_request("duplicated parameter"));
        }
        match form.get("grant_type") {
            None => Err(TokenError::invalid_request("Missing form parameter: grant_type")),
            Some("authorization_code") => self.exchange_code(client, form),
            Some("refresh_token") => self.refresh(client, form),
            Some("client_credentials") => self.client_credentials(client, form),
            Some("password") => self.password(client, form),
            Some(_) => Err(TokenError::new(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "Unsupported grant_type",
            )),
        }
    }

    /// The client, by `client_secret_basic` or `client_secret_post` (RFC 6749, section 2.3.1).
    fn authenticate_client(&self, headers: &HeaderMap, form: &Parameters) -> Result<&Client, TokenError> {
        const REFUSAL: &str = "Invalid client or Invalid client credentials";
        let basic = headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
            let pair = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
            let (id, secret) = pair.split_once(':')?;
            scheme.eq_ignore_ascii_case("basic").then(|| (form_decoded(id), form_decoded(secret)))
        });
        let (id, secret) = match basic {
            Some((id, secret)) => (Some(id), Some(secret)),
            None => (form.owned("client_id"), form.owned("client_secret")),
        };
        let client = id.and_then(|id| self.realm.client(&id)).filter(|client| client.enabled);
        let client =
            client.ok_or_else(|| TokenError::new(StatusCode::UNAUTHORIZED, "invalid_client", REFUSAL))?;
        if client.public_client || client.secret.is_some() && client.secret == secret {
            Ok(client)
        } else {
            Err(TokenError::new(StatusCode::UNAUTHORIZED, "unauthorized_client", REFUSAL))
        }
    }

    fn exchange_code(&self, client: &Client, form: &Parameters) -> Result<Value, TokenError> {
        let code = form.get("code").ok_or_else(|| TokenError::invalid_request("Missing parameter: code"))?;
        let not_valid = || TokenError::invalid_grant("Code not valid");
        let mut parts = code.splitn(3, '.');
        let (Some(code), Some(session), Some(client_id)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(not_valid());
        };
        let now = self.now();
        // Whatever is wrong with the rest of the request, the code is used up.
        let code = self.state.update(|state| {
            let code = state.codes.remove(code).filter(|code| code.session == session);
            if code.is_none() {
                // Used twice means that somebody else has it: the tokens of the first use stop working.
                if let Some(session) = state.sessions.get_mut(session) {
                    session.clients.remove(client_id);
                }
            }
            code
        })?;
        let Code { session, expires, request } = code.ok_or_else(not_valid)?;
        if now > expires {
            return Err(TokenError::invalid_grant("Code is expired"));
        }
        let user =
            self.session_user(&session).ok_or_else(|| TokenError::invalid_grant("User session not found"))?;
        if !user.enabled {
            return Err(TokenError::invalid_grant("User disabled"));
        }
        if form.get("redirect_uri") != Some(&request.redirect_uri) {
            return Err(TokenError::invalid_grant("Incorrect redirect_uri"));
        }
        if client.client_id != request.client_id {
            return Err(TokenError::invalid_grant("Auth error: Found different client_id in clientSession"));
        }
        check_verifier(&request, form.get("code_verifier")).map_err(TokenError::invalid_grant)?;
        let scope = request.scope;
        let reuse = self.uuid().to_string();
        self.tokens(client, &user, Some((&session, &reuse)), &scope, request.nonce.as_deref(), "onrtac")
    }

    fn refresh(&self, client: &Client, form: &Parameters) -> Result<Value, TokenError> {
        let token =
            form.get("refresh_token").ok_or_else(|| TokenError::invalid_request("No refresh token"))?;
        let claims = self.refresh_claims(client, token)?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let (session_id, token_id, reuse) = (text("sid"), text("jti"), text("reuse_id"));
        let issued = claims.get("iat").and_then(Value::as_i64).unwrap_or_default();
        let user =
            self.session_user(session_id).ok_or_else(|| TokenError::invalid_grant("Session not active"))?;
        if !user.enabled {
            return Err(TokenError::invalid_grant("User disabled"));
        }
        let now = self.now();
        self.state.update(|state| {
            let session = state.sessions.get_mut(session_id);
            let session = session.ok_or_else(|| TokenError::invalid_grant("Session not active"))?;
            session.last_used = now;
            let client_session = session.clients.get_mut(&client.id);
            let client_session = client_session
                .ok_or_else(|| TokenError::invalid_grant("Session doesn't have required client"))?;
            if !self.realm.revoke_refresh_token {
                return Ok(());
            }
            let newest: &mut RefreshUse = client_session.refresh.entry(reuse.to_owned()).or_default();
            if newest.token != token_id {
                if !newest.token.is_empty() && issued < newest.last_refresh {
                    return Err(TokenError::invalid_grant("Stale token"));
                }
                *newest =
                    RefreshUse { token: token_id.to_owned(), uses: 0, last_refresh: newest.last_refresh };
            }
            if newest.uses > self.realm.refresh_token_max_reuse {
                // A token that was used before is in two hands: nobody's tokens of this session work any more.
                session.clients.remove(&client.id);
                return Err(TokenError::invalid_grant("Maximum allowed refresh token reuse exceeded"));
            }
            newest.uses += 1;
            newest.last_refresh = now;
            Ok(())
        })??;
        self.tokens(client, &user, Some((session_id, reuse)), text("scope"), None, "onrtrt")
    }

    /// The claims of a refresh token of this client, checked for everything but its session.
    fn refresh_claims(&self, client: &Client, token: &str) -> Result<Value, TokenError> {
        let invalid = || TokenError::invalid_grant("Invalid refresh token");
        let claims = self.keys().verify_refresh(token).ok_or_else(invalid)?;
        if claims.get("typ").and_then(Value::as_str) != Some("Refresh") {
            return Err(invalid());
        }
        if claims.get("exp").and_then(Value::as_i64).is_none_or(|expires| expires < self.now()) {
            return Err(TokenError::invalid_grant("Token is not active"));
        }
        if claims.get("azp").and_then(Value::as_str) != Some(&client.client_id) {
            return Err(TokenError::invalid_grant(
                "Invalid refresh token. Token client and authorized client don't match",
            ));
        }
        Ok(claims)
    }

    fn client_credentials(&self, client: &Client, form: &Parameters) -> Result<Value, TokenError> {
        let refuse =
            |description: &str| TokenError::new(StatusCode::UNAUTHORIZED, "unauthorized_client", description);
        if client.public_client {
            return Err(refuse("Public client not allowed to retrieve service account"));
        }
        if !client.service_accounts_enabled {
            return Err(refuse("Client not enabled to retrieve service account"));
        }
        let user = self.state.read(|state| state.directory.service_account(&client.client_id).cloned());
        let user =
            user.ok_or_else(|| refuse("The associated service account for the client does not exist"))?;
        if !user.enabled {
            let description = format!("User '{}' disabled", user.username);
            return Err(TokenError::new(StatusCode::UNAUTHORIZED, "invalid_request", description));
        }
        let scope = requested_scope(client, form)?;
        self.tokens(client, &user, None, scope, None, "trrtcc")
    }

    fn password(&self, client: &Client, form: &Parameters) -> Result<Value, TokenError> {
        if !client.direct_access_grants_enabled {
            return Err(TokenError::new(
                StatusCode::BAD_REQUEST,
                "unauthorized_client",
                "Client not allowed for direct access grants",
            ));
        }
        let username =
            form.get("username").ok_or_else(|| TokenError::invalid_request("Missing parameter: username"))?;
        let user = self.state.read(|state| state.directory.user_by_name(&username.to_lowercase()).cloned());
        let user = user
            .filter(|user| user.password.is_some() && user.password.as_deref() == form.get("password"))
            .ok_or_else(|| {
                TokenError::new(StatusCode::UNAUTHORIZED, "invalid_grant", "Invalid user credentials")
            })?;
        if !user.enabled {
            return Err(TokenError::invalid_grant("Account disabled"));
        }
        let scope = requested_scope(client, form)?;
        let session = self.start_session(user.id, &client.id)?;
        let reuse = self.uuid().to_string();
        self.tokens(client, &user, Some((&session, &reuse)), scope, None, "onrtro")
    }

    /// The user of a session that hasn't ended.
    fn session_user(&self, session: &str) -> Option<UserRecord> {
        let now = self.now();
        self.state.read(|state| {
            let session =
                state.sessions.get(session).filter(|session| session.is_active(now, &self.realm))?;
            state.directory.users.iter().find(|user| user.id == session.user).cloned()
        })
    }

    /// The answer of the token endpoint. `session` is the session's id and the `reuse_id` of its refresh tokens; a
    /// service account has none.
    fn tokens(
        &self,
        client: &Client,
        user: &UserRecord,
        session: Option<(&str, &str)>,
        scope: &str,
        nonce: Option<&str>,
        grant: &str,
    ) -> Result<Value, TokenError> {
        let keys = self.keys();
        let session_id = session.map(|(id, _)| id);
        let access = self.access_claims(client, user, session_id, scope, grant);
        let access_token = keys.sign("JWT", &access, keys::Signature::Valid)?;
        let mut answer = json!({
            "expires_in": self.realm.access_token_lifespan,
            "refresh_expires_in": 0,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": self.realm.scope_string(client, scope),
        });
        if scope.split_whitespace().any(|name| name == "openid") {
            let id = self.id_claims(client, user, session_id, scope, nonce, Some(&access_token));
            answer["id_token"] = keys.sign("JWT", &id, keys::Signature::Valid)?.into();
        }
        answer["access_token"] = access_token.into();
        if let Some((session, reuse)) = session {
            let now = self.now();
            let started =
                self.state.read(|state| state.sessions.get(session).map_or(now, |session| session.started));
            let expires = (now + self.realm.sso_session_idle_timeout)
                .min(started + self.realm.sso_session_max_lifespan);
            let mut claims = json!({
                "exp": expires, "iat": now, "jti": self.uuid(), "iss": self.issuer, "aud": self.issuer, "sub": user.id,
                "typ": "Refresh", "azp": client.client_id, "sid": session, "scope": scope,
            });
            if self.realm.revoke_refresh_token {
                claims["reuse_id"] = reuse.into();
            }
            answer["refresh_token"] = keys.sign_refresh(&claims).into();
            answer["refresh_expires_in"] = (expires - now).into();
            answer["session_state"] = session.into();
        }
        Ok(answer)
    }

    pub(super) fn access_claims(
        &self,
        client: &Client,
        user: &UserRecord,
        session: Option<&str>,
        scope: &str,
        grant: &str,
    ) -> Value {
        let mut claims = self.common_claims(client, user, session, scope, "access.token.claim");
        claims.insert("typ".to_owned(), "Bearer".into());
        claims.insert("jti".to_owned(), format!("{grant}:{}", self.uuid()).into());
        claims.insert("scope".to_owned(), self.realm.scope_string(client, scope).into());
        let scopes = Realm::effective_scopes(client, scope);
        let mut audience = Vec::new();
        if client.full_scope_allowed && scopes.contains(&"roles") && !user.client_roles.is_empty() {
            let mut access = Map::new();
            for (other, roles) in &user.client_roles {
                access.insert(other.clone(), json!({"roles": with_composites(roles)}));
                if *other != client.client_id {
                    audience.push(other.clone());
                }
            }
            claims.insert("resource_access".to_owned(), Value::Object(access));
        }
        for mapper in self.realm.mappers(client, scope) {
            if mapper.protocol_mapper == "oidc-audience-mapper"
                && mapper.is_on("access.token.claim")
                && let Some(included) = mapper.config.get("included.client.audience")
                && !audience.contains(included)
            {
                audience.push(included.clone());
            }
        }
        match audience.as_slice() {
            [] => {}
            [one] => drop(claims.insert("aud".to_owned(), one.clone().into())),
            several => drop(claims.insert("aud".to_owned(), json!(several))),
        }
        if scopes.contains(&"web-origins") && !client.web_origins.is_empty() {
            claims.insert("allowed-origins".to_owned(), allowed_origins(client).into());
        }
        if user.service_account_client_id.is_some() && scopes.contains(&"service_account") {
            claims.insert("client_id".to_owned(), client.client_id.clone().into());
            claims.insert("clientHost".to_owned(), "127.0.0.1".into());
            claims.insert("clientAddress".to_owned(), "127.0.0.1".into());
        }
        Value::Object(claims)
    }

    pub(super) fn id_claims(
        &self,
        client: &Client,
        user: &UserRecord,
        session: Option<&str>,
        scope: &str,
        nonce: Option<&str>,
        access_token: Option<&str>,
    ) -> Value {
        let mut claims = self.common_claims(client, user, session, scope, "id.token.claim");
        claims.insert("typ".to_owned(), "ID".into());
        claims.insert("jti".to_owned(), json!(self.uuid()));
        claims.insert("aud".to_owned(), client.client_id.clone().into());
        if let Some(nonce) = nonce {
            claims.insert("nonce".to_owned(), nonce.into());
        }
        if let Some(access_token) = access_token {
            claims.insert("at_hash".to_owned(), keys::half_hash(access_token).into());
        }
        Value::Object(claims)
    }

    pub(super) fn logout_claims(&self, client_id: &str, user: Uuid, session: &str) -> Value {
        let now = self.now();
        json!({
            "jti": self.uuid(), "iss": self.issuer, "aud": client_id, "sub": user, "iat": now, "exp": now + 120,
            "typ": "Logout", "sid": session, "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        })
    }

    /// The claims that access and ID tokens share. `switch` is the setting by which a mapper says that it wants to be
    /// in this token.
    fn common_claims(
        &self,
        client: &Client,
        user: &UserRecord,
        session: Option<&str>,
        scope: &str,
        switch: &str,
    ) -> Map<String, Value> {
        let now = self.now();
        let mut claims = self.profile_claims(client, user, scope, switch);
        let scopes = Realm::effective_scopes(client, scope);
        claims.insert("exp".to_owned(), (now + self.realm.access_token_lifespan).into());
        claims.insert("iat".to_owned(), now.into());
        claims.insert("iss".to_owned(), self.issuer.clone().into());
        claims.insert("azp".to_owned(), client.client_id.clone().into());
        if scopes.contains(&"acr") {
            claims.insert("acr".to_owned(), "1".into());
        }
        if let Some(session) = session {
            claims.insert("sid".to_owned(), session.into());
            if scopes.contains(&"basic") {
                let started = self
                    .state
                    .read(|state| state.sessions.get(session).map_or(now, |session| session.started));
                claims.insert("auth_time".to_owned(), started.into());
            }
        } else {
            // A token without a session names its subject by itself.
            claims.insert("sub".to_owned(), json!(user.id));
        }
        claims
    }

    /// The claims about the person.
    fn profile_claims(
        &self,
        client: &Client,
        user: &UserRecord,
        scope: &str,
        switch: &str,
    ) -> Map<String, Value> {
        let scopes = Realm::effective_scopes(client, scope);
        let mut claims = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                claims.insert(name.to_owned(), value);
            }
        };
        if scopes.contains(&"basic") {
            put("sub", Some(json!(user.id)));
        }
        if scopes.contains(&"profile") {
            put("preferred_username", Some(user.username.clone().into()));
            put("name", user.full_name().map(Value::from));
            put("given_name", user.first_name.clone().map(Value::from));
            put("family_name", user.last_name.clone().map(Value::from));
        }
        if scopes.contains(&"email") {
            put("email", user.email.clone().map(Value::from));
            put("email_verified", Some(user.email_verified.into()));
        }
        for mapper in self.realm.mappers(client, scope) {
            if mapper.protocol_mapper == "oidc-group-membership-mapper" && mapper.is_on(switch) {
                let groups: Vec<String> = self.state.read(|state| {
                    let directory = &state.directory;
                    if mapper.is_on("full.path") {
                        directory.paths(user)
                    } else {
                        let groups = user.groups.iter().filter_map(|group| directory.group(*group));
                        groups.map(|group| group.name.clone()).collect()
                    }
                });
                let name = mapper.config.get("claim.name").map_or("groups", String::as_str);
                // Nobody's groups are no claim, rather than an empty one.
                put(name, (!groups.is_empty()).then(|| groups.into()));
            }
        }
        claims
    }

    /// The claims, and the user, of an access token that is good now.
    pub(super) fn verify_access_token(&self, token: &str) -> Result<(Value, UserRecord), &'static str> {
        const FAILED: &str = "Token verification failed";
        let claims = self.keys().verify(token).ok_or(FAILED)?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let expired = claims.get("exp").and_then(Value::as_i64).is_none_or(|expires| expires < self.now());
        if text("typ") != Some("Bearer") || text("iss") != Some(&self.issuer) || expired {
            return Err(FAILED);
        }
        let user = if let Some(session) = text("sid") {
            self.session_user(session).ok_or("user_session_not_found")?
        } else {
            let subject = text("sub").unwrap_or_default();
            self.state.read(|state| state.directory.user(subject).cloned()).ok_or(FAILED)?
        };
        if user.enabled { Ok((claims, user)) } else { Err("user_disabled") }
    }

    fn userinfo(&self, token: Option<&str>) -> Response {
        let challenge = |status: StatusCode, detail: Option<(&str, &str)>| {
            let detail = detail.map_or_else(String::new, |(error, description)| {
                format!(", error=\"{error}\", error_description=\"{description}\"")
            });
            let value = format!("Bearer realm=\"{}\"{detail}", self.realm.name);
            (status, [(header::WWW_AUTHENTICATE, value), (header::CACHE_CONTROL, "no-store".to_owned())])
                .into_response()
        };
        let Some(token) = token else { return challenge(StatusCode::UNAUTHORIZED, None) };
        let (claims, user) = match self.verify_access_token(token) {
            Ok(verified) => verified,
            Err(description) => {
                return challenge(StatusCode::UNAUTHORIZED, Some(("invalid_token", description)));
            }
        };
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        if !text("scope").split(' ').any(|scope| scope == "openid") {
            return challenge(StatusCode::FORBIDDEN, Some(("insufficient_scope", "Missing openid scope")));
        }
        let Some(client) = self.realm.client(text("azp")) else {
            return challenge(StatusCode::UNAUTHORIZED, Some(("invalid_token", "Client not found")));
        };
        let mut answer = self.profile_claims(client, &user, text("scope"), "userinfo.token.claim");
        answer.insert("sub".to_owned(), json!(user.id));
        ([(header::CACHE_CONTROL, "no-store, no-cache")], Json(Value::Object(answer))).into_response()
    }

    /// RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0).
    async fn logout(&self, parameters: &Parameters) -> Response {
        let hint = parameters.get("id_token_hint");
        let client_id = parameters.get("client_id");
        let target = parameters.get("post_logout_redirect_uri");
        let refuse = |message: &str| pages::error(StatusCode::BAD_REQUEST, message);
        if target.is_some() && hint.is_none() && client_id.is_none() {
            return refuse("Missing parameters: id_token_hint");
        }
        let id_token = match hint {
            // An expired token is a good hint: it only says which session to end.
            Some(hint) => match self.keys().verify(hint) {
                Some(claims) if claims.get("typ").and_then(Value::as_str) == Some("ID") => Some(claims),
                _ => return refuse("Invalid parameter: id_token_hint"),
            },
            None => None,
        };
        let text = |name: &str| id_token.as_ref().and_then(|claims| claims.get(name)).and_then(Value::as_str);
        let issued_for = text("azp");
        if client_id.is_some() && issued_for.is_some() && client_id != issued_for {
            return refuse("Invalid parameter: id_token_hint");
        }
        let client = client_id.or(issued_for).and_then(|id| self.realm.client(id));
        let target = match target {
            Some(target) if client.is_some_and(|client| client.allows_post_logout_redirect(target)) => {
                Some(target)
            }
            Some(_) => return refuse("Invalid redirect uri"),
            None => None,
        };
        if let Some(session) = text("sid")
            && let Err(error) = self.end_session(session).await
        {
            return broken(&error);
        }
        let Some(mut url) = target.and_then(|target| Url::parse(target).ok()) else {
            return pages::signed_out();
        };
        if let Some(state) = parameters.get("state") {
            url.query_pairs_mut().append_pair("state", state);
        }
        redirect(url.as_str())
    }

    /// Logout without a browser, as clients of Keycloak's own libraries do.
    async fn logout_by_refresh_token(
        &self,
        headers: &HeaderMap,
        form: &Parameters,
    ) -> Result<(), TokenError> {
        let client = self.authenticate_client(headers, form)?;
        let claims = self.refresh_claims(client, form.get("refresh_token").unwrap_or_default())?;
        if let Some(session) = claims.get("sid").and_then(Value::as_str) {
            self.end_session(session).await?;
        }
        Ok(())
    }

    /// Ends a session, and tells the clients that want to know. As with the real one, nobody tries twice; ending what
    /// has ended is fine.
    pub(super) async fn end_session(&self, id: &str) -> Result<(), FakeError> {
        let Some(session) = self.state.update(|state| state.sessions.remove(id))? else { return Ok(()) };
        for client in session.clients.keys().filter_map(|id| self.realm.client_by_id(id)) {
            let url = client.attributes.get("backchannel.logout.url").filter(|url| !url.is_empty());
            let Some(url) = url.and_then(|url| Url::parse(url).ok()).filter(|_| !client.frontchannel_logout)
            else {
                continue;
            };
            let mut claims = self.logout_claims(&client.client_id, session.user, id);
            if client
                .attributes
                .get("backchannel.logout.session.required")
                .is_none_or(|value| value != "true")
                && let Value::Object(claims) = &mut claims
            {
                claims.remove("sid");
            }
            let token = self.keys().sign("logout+jwt", &claims, keys::Signature::Valid)?;
            if let Err(error) = send_logout_token(url, &token).await {
                tracing::warn!(client = client.client_id, %error, "a client didn't take its logout token");
            }
        }
        Ok(())
    }
}

async fn send_logout_token(url: Url, token: &str) -> Result<(), connector_core::ConnectorError> {
    let client = HttpClient::builder("relying party", url).deadline(LOGOUT_DEADLINE).build()?;
    client.post_form::<Value>(&[], &[("logout_token", token)]).await.map(drop)
}

impl Kept {
    fn forget_what_expired(&mut self, now: i64, realm: &Realm) {
        self.sessions.retain(|_, session| session.is_active(now, realm));
        self.codes.retain(|_, code| now <= code.expires);
        self.logins.retain(|_, login| now <= login.expires);
    }
}

impl Session {
    fn is_active(&self, now: i64, realm: &Realm) -> bool {
        now <= self.last_used + realm.sso_session_idle_timeout
            && now <= self.started + realm.sso_session_max_lifespan
    }
}

/// What is wrong with the PKCE part of an authorization request (RFC 7636, section 4.4.1).
fn check_challenge(client: &Client, request: &AuthorizationRequest) -> Result<(), &'static str> {
    let required = client.attributes.get("pkce.code.challenge.method").filter(|method| !method.is_empty());
    let method = request.code_challenge_method.as_ref();
    if required.is_some() && method.is_none() {
        return Err("Missing parameter: code_challenge_method");
    }
    if required.is_some() && required != method {
        return Err("Invalid parameter: code challenge method is not matching the configured one");
    }
    if !matches!(method.map(String::as_str), None | Some("S256" | "plain")) {
        return Err("Invalid parameter: code_challenge_method");
    }
    match &request.code_challenge {
        None if method.is_some() => Err("Missing parameter: code_challenge"),
        Some(challenge) if !is_pkce_value(challenge) => Err("Invalid parameter: code_challenge"),
        _ => Ok(()),
    }
}

/// What is wrong with the verifier of a token request (RFC 7636, section 4.6).
fn check_verifier(request: &AuthorizationRequest, verifier: Option<&str>) -> Result<(), &'static str> {
    match (&request.code_challenge, verifier) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err("PKCE code verifier specified but challenge not present in authorization"),
        (Some(_), None) => Err("PKCE code verifier not specified"),
        (Some(_), Some(verifier)) if !is_pkce_value(verifier) => {
            Err("PKCE verification failed: Invalid code verifier")
        }
        (Some(challenge), Some(verifier)) => {
            let plain = request.code_challenge_method.as_deref().is_none_or(|method| method == "plain");
            let expected = if plain { verifier.to_owned() } else { keys::s256(verifier) };
            if expected == *challenge { Ok(()) } else { Err("PKCE verification failed: Code mismatch") }
        }
    }
}

/// 43 to 128 unreserved characters (RFC 7636, section 4.1).
fn is_pkce_value(value: &str) -> bool {
    (43..=128).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn requested_scope<'a>(client: &Client, form: &'a Parameters) -> Result<&'a str, TokenError> {
    let scope = form.get("scope").unwrap_or_default();
    if Realm::scope_is_valid(client, scope) {
        Ok(scope)
    } else {
        let description = format!("Invalid scopes: {scope}");
        Err(TokenError::new(StatusCode::BAD_REQUEST, "invalid_scope", description))
    }
}

/// The roles of `realm-management` and what they consist of; other roles are what they are.
pub(super) fn with_composites(roles: &[String]) -> Vec<&str> {
    let mut all: Vec<&str> = Vec::new();
    for role in roles {
        let parts: &[&str] = match role.as_str() {
            "view-users" => &["query-users", "query-groups"],
            "view-clients" => &["query-clients"],
            _ => &[],
        };
        for role in std::iter::once(role.as_str()).chain(parts.iter().copied()) {
            if !all.contains(&role) {
                all.push(role);
            }
        }
    }
    all
}

fn allowed_origins(client: &Client) -> Vec<String> {
    let mut origins = Vec::new();
    for origin in &client.web_origins {
        if origin == "+" {
            let redirects = client.redirect_uris.iter().filter_map(|uri| Url::parse(uri).ok());
            origins.extend(redirects.map(|uri| uri.origin().ascii_serialization()));
        } else {
            origins.push(origin.clone());
        }
    }
    origins
}

/// What the sign-in page says about somebody: what they are, and where.
fn about(paths: &[String], user: &UserRecord) -> String {
    let mut about: Vec<String> = paths
        .iter()
        .map(|path| {
            let tenant = path.strip_prefix(ORGANIZATION_PREFIX).or_else(|| path.strip_prefix(TEAM_PREFIX));
            match tenant.and_then(|tenant| tenant.split_once('/')) {
                Some((tenant, role)) => format!("{role} of {tenant}"),
                None => path.trim_start_matches('/').to_owned(),
            }
        })
        .collect();
    about.extend(user.client_roles.values().flatten().cloned());
    if !user.enabled {
        about.push("disabled".to_owned());
    }
    if about.is_empty() {
        user.username.clone()
    } else {
        format!("{} · {}", user.username, about.join(", "))
    }
}

fn form_decoded(text: &str) -> String {
    form_urlencoded::parse(format!("v={}", text.replace('&', "%26")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

fn redirect(to: &str) -> Response {
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
