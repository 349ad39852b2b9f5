//! The token endpoint.

use axum::http::{HeaderMap, StatusCode, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{
    AuthorizationRequest, Code, FakeError, FakeKeycloak, RefreshUse,
    authorize::is_pkce_value,
    keys,
    oidc::Parameters,
    realm::{Client, Realm, UserRecord},
};

/// An error of the token endpoint (RFC 6749, section 5.2).
pub(super) struct TokenError {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    pub(super) description: String,
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

impl FakeKeycloak {
    pub(super) fn token(&self, headers: &HeaderMap, form: &Parameters) -> Result<Value, TokenError> {
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
    pub(super) fn authenticate_client(
        &self,
        headers: &HeaderMap,
        form: &Parameters,
    ) -> Result<&Client, TokenError> {
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

    pub(super) fn exchange_code(&self, client: &Client, form: &Parameters) -> Result<Value, TokenError> {
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
        check_verifier(&request, form.raw("code_verifier")).map_err(TokenError::invalid_grant)?;
        let scope = request.scope;
        let reuse = self.uuid().to_string();
        self.tokens(client, &user, Some((&session, &reuse)), &scope, request.nonce.as_deref(), "onrtac")
    }

    pub(super) fn refresh(&self, client: &Client, form: &Parameters) -> Result<Value, TokenError> {
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
    pub(super) fn refresh_claims(&self, client: &Client, token: &str) -> Result<Value, TokenError> {
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

    pub(super) fn client_credentials(&self, client: &Client, form: &Parameters) -> Result<Value, TokenError> {
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

    pub(super) fn password(&self, client: &Client, form: &Parameters) -> Result<Value, TokenError> {
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

    /// The answer of the token endpoint. `session` is the session's id and the `reuse_id` of its refresh tokens; a
    /// service account has none.
    pub(super) fn tokens(
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

fn requested_scope<'a>(client: &Client, form: &'a Parameters) -> Result<&'a str, TokenError> {
    let scope = form.get("scope").unwrap_or_default();
    if Realm::scope_is_valid(client, scope) {
        Ok(scope)
    } else {
        let description = format!("Invalid scopes: {scope}");
        Err(TokenError::new(StatusCode::BAD_REQUEST, "invalid_scope", description))
    }
}

fn form_decoded(text: &str) -> String {
    form_urlencoded::parse(format!("v={}", text.replace('&', "%26")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}
