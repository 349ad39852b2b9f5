//! What stands in tokens and in the answer about a user.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use super::{
    FakeKeycloak, keys,
    realm::{Client, Realm, UserRecord},
};

impl FakeKeycloak {
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
    pub(super) fn common_claims(
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
            claims.insert("acr".to_owned(), self.acr(session, now).into());
        }
        if let Some(session) = session {
            claims.insert("sid".to_owned(), session.into());
            if scopes.contains(&"basic") {
                let authenticated = self
                    .state
                    .read(|state| state.sessions.get(session).map_or(now, |session| session.authenticated));
                claims.insert("auth_time".to_owned(), authenticated.into());
            }
        } else {
            // A token without a session names its subject by itself.
            claims.insert("sub".to_owned(), json!(user.id));
        }
        claims
    }

    /// The name of the level of authentication that a session has; a service account is as good as level 1.
    fn acr(&self, session: Option<&str>, now: i64) -> String {
        let level = session.map_or(1, |session| {
            self.state.read(|state| {
                state.sessions.get(session).map_or(0, |session| session.level(now, &self.realm))
            })
        });
        self.realm.level_name(level)
    }

    /// The claims about the person.
    pub(super) fn profile_claims(
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
        if user.enabled { Ok((claims, user)) } else { Err("User disabled") }
    }

    pub(super) fn userinfo(&self, token: Option<&str>) -> Response {
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
