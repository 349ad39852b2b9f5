//! Sessions: how they start, and how they end.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    http::{HeaderMap, StatusCode},
    response::Response,
};
use connector_core::HttpClient;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::{
    ClientSession, FakeError, FakeKeycloak, Session, State, broken, keys,
    oidc::{Parameters, redirect},
    pages,
    realm::{Realm, UserRecord},
    token::TokenError,
};

/// Waiting for a client to take a logout token; the real one waits in the browser's request as well.
const LOGOUT_DEADLINE: Duration = Duration::from_secs(2);

impl FakeKeycloak {
    /// Starts a session of a user at a client, and returns its id.
    pub(super) fn start_session(&self, user: Uuid, client: &str) -> Result<String, FakeError> {
        let now = self.now();
        let id = self.secret_id();
        let clients = BTreeMap::from([(client.to_owned(), ClientSession::default())]);
        self.state.update(|state| {
            state.forget_what_expired(now, &self.realm);
            let levels = BTreeMap::from([(1, now)]);
            let session = Session { user, started: now, last_used: now, authenticated: now, levels, clients };
            state.sessions.insert(id.clone(), session);
        })?;
        Ok(id)
    }

    /// The user of a session that hasn't ended.
    pub(super) fn session_user(&self, session: &str) -> Option<UserRecord> {
        let now = self.now();
        self.state.read(|state| {
            let session =
                state.sessions.get(session).filter(|session| session.is_active(now, &self.realm))?;
            state.directory.users.iter().find(|user| user.id == session.user).cloned()
        })
    }

    /// RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0).
    pub(super) async fn logout(&self, parameters: &Parameters) -> Response {
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
    pub(super) async fn logout_by_refresh_token(
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

    /// Ends all sessions of a user.
    pub(super) async fn end_sessions_of(&self, user: Uuid) -> Result<(), FakeError> {
        let sessions: Vec<String> = self.state.read(|state| {
            let sessions = state.sessions.iter().filter(|(_, session)| session.user == user);
            sessions.map(|(id, _)| id.clone()).collect()
        });
        for session in sessions {
            self.end_session(&session).await?;
        }
        Ok(())
    }

    /// Ends a session, and tells the clients that want to know. As with the real one, nobody tries twice; ending what
    /// has ended is fine.
    pub(super) async fn end_session(&self, id: &str) -> Result<(), FakeError> {
        let ended = self.state.update(|state| {
            let session = state.sessions.remove(id)?;
            let client = session.clients.keys().find_map(|id| self.realm.client_by_id(id));
            let client = client.map(|client| client.client_id.as_str()).unwrap_or_default();
            state.keep_event(self.user_event("LOGOUT", client, session.user, Some(id), Value::Null));
            Some(session)
        })?;
        let Some(session) = ended else { return Ok(()) };
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

impl State {
    pub(super) fn forget_what_expired(&mut self, now: i64, realm: &Realm) {
        self.sessions.retain(|_, session| session.is_active(now, realm));
        self.codes.retain(|_, code| now <= code.expires);
        self.logins.retain(|_, login| now <= login.expires);
    }
}

impl Session {
    pub(super) fn is_active(&self, now: i64, realm: &Realm) -> bool {
        now <= self.last_used + realm.sso_session_idle_timeout
            && now <= self.started + realm.sso_session_max_lifespan
    }
}
