use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use connector_core::{
    Capability, Connector, ConnectorError, ErrorKind, Health, HttpClient, ServerInfo, SharedClock,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Mutex;
use url::Url;
use uuid::Uuid;

use crate::{
    SERVICE,
    model::{AdminEvent, Group, User},
};

/// How many entries a page holds. Larger pages are cut off by Keycloak's transaction timeout, smaller ones cost round trips.
const PAGE: usize = 200;
const PAGE_PARAMETER: &str = "200";

/// A token is given up this long before it expires, so that it doesn't expire on its way.
const TOKEN_RESERVE: TimeDelta = TimeDelta::seconds(30);

/// A token is never kept longer than this, whatever its lifetime.
const LONGEST_TOKEN_SECONDS: i64 = 3600;

/// How to reach a realm's Admin REST API.
#[derive(Debug, Clone)]
pub struct KeycloakSettings {
    /// The server, with its path prefix if it has one (`https://keycloak.example/auth`), without `/realms/…`.
    pub url: Url,
    /// The realm's name.
    pub realm: String,
    /// A confidential client of that realm with a service account.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: SecretString,
}

/// Reads users, groups and roles of one realm, with the service account of [`KeycloakSettings::client_id`].
///
/// The service account needs the role `view-users` of the client `realm-management`: users, groups, members, and the realm's
/// roles; and `view-events` for [`Self::admin_events`]. Those of a client would take `view-clients`, which shows the secrets of all clients.
#[derive(Debug)]
pub struct KeycloakAdmin {
    http: HttpClient,
    settings: KeycloakSettings,
    clock: SharedClock,
    // Held while a token is fetched, so that many callers cause one request.
    token: Mutex<Option<CachedToken>>,
}

#[derive(Debug, Clone)]
struct CachedToken {
    value: SecretString,
    usable_until: DateTime<Utc>,
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: SecretString,
    expires_in: i64,
}

#[derive(Deserialize)]
struct RoleRepresentation {
    name: String,
}

impl KeycloakAdmin {
    /// A client for the realm; connects when it is first asked something.
    ///
    /// # Errors
    /// Where the HTTP client can't be set up.
    pub fn new(settings: KeycloakSettings, clock: SharedClock) -> Result<Self, ConnectorError> {
        let http = HttpClient::builder(SERVICE, settings.url.clone()).clock(Arc::clone(&clock)).build()?;
        Ok(Self { http, settings, clock, token: Mutex::new(None) })
    }

    /// The user with this id, be it a person or a service account; `None` where there is none.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn user(&self, id: Uuid) -> Result<Option<User>, ConnectorError> {
        found(self.get(&["users", &id.to_string()], &[]).await)
    }

    /// The people with exactly this mail address, upper and lower case being the same. Verified or not: look at
    /// [`User::email_verified`]. Service accounts are never among them.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn users_by_email(&self, email: &str) -> Result<Vec<User>, ConnectorError> {
        let query = [("email", email), ("exact", "true"), ("briefRepresentation", "false")];
        let mut users: Vec<User> = self.pages(&["users"], &query, |user: &User| user.id).await?;
        // A server that doesn't know `exact` searches for parts.
        users.retain(|user| user.email.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(email)));
        Ok(users)
    }

    /// All groups that the user is directly in, with their attributes. Groups above those aren't named.
    ///
    /// # Errors
    /// See [`ErrorKind`]; a user that doesn't exist is a 404.
    pub async fn user_groups(&self, id: Uuid) -> Result<Vec<Group>, ConnectorError> {
        self.pages(
            &["users", &id.to_string(), "groups"],
            &[("briefRepresentation", "false")],
            |group: &Group| group.id,
        )
        .await
    }

    /// The names of the realm's roles that the user has, be it directly, through a group or through another role. Whoever
    /// may see users may see them, unlike those of a client.
    ///
    /// # Errors
    /// See [`ErrorKind`]; a user that doesn't exist is a 404.
    pub async fn user_realm_roles(&self, id: Uuid) -> Result<Vec<String>, ConnectorError> {
        let roles: Vec<RoleRepresentation> =
            self.get(&["users", &id.to_string(), "role-mappings", "realm", "composite"], &[]).await?;
        Ok(roles.into_iter().map(|role| role.name).collect())
    }

    /// The group with this id, with its attributes; `None` where there is none.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn group(&self, id: Uuid) -> Result<Option<Group>, ConnectorError> {
        found(self.get(&["groups", &id.to_string()], &[]).await)
    }

    /// The group at this path (`/teams/engineering`), with its attributes; `None` where there is none.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn group_by_path(&self, path: &str) -> Result<Option<Group>, ConnectorError> {
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        // A dot segment would be dropped from the URL and lead to another group.
        if names.is_empty() || names.iter().any(|name| matches!(*name, "." | "..")) {
            return Ok(None);
        }
        let segments: Vec<&str> = std::iter::once("group-by-path").chain(names).collect();
        found(self.get(&segments, &[]).await)
    }

    /// All groups directly below this one, with their attributes.
    ///
    /// # Errors
    /// See [`ErrorKind`]; a group that doesn't exist is a 404.
    pub async fn group_children(&self, id: Uuid) -> Result<Vec<Group>, ConnectorError> {
        let query = [("briefRepresentation", "false"), ("subGroupsCount", "false")];
        self.pages(&["groups", &id.to_string(), "children"], &query, |group: &Group| group.id).await
    }

    /// All users that are directly in this group, service accounts among them ([`User::is_service_account`]).
    ///
    /// # Errors
    /// See [`ErrorKind`]; a group that doesn't exist is a 404.
    pub async fn group_members(&self, id: Uuid) -> Result<Vec<User>, ConnectorError> {
        self.pages(
            &["groups", &id.to_string(), "members"],
            &[("briefRepresentation", "false")],
            |user: &User| user.id,
        )
        .await
    }

    /// What was changed of users, groups and who is in them, and which of the realm's roles they have, since this moment (inclusive),
    /// the oldest first. Keycloak keeps events only where the realm says so, and not for ever; not every change leaves one.
    ///
    /// # Errors
    /// See [`ErrorKind`]; it takes the role `view-events`.
    pub async fn admin_events(&self, since: DateTime<Utc>) -> Result<Vec<AdminEvent>, ConnectorError> {
        let since = since.timestamp_millis().to_string();
        let query = [
            ("resourceTypes", "USER"),
            ("resourceTypes", "GROUP"),
            ("resourceTypes", "GROUP_MEMBERSHIP"),
            ("resourceTypes", "REALM_ROLE_MAPPING"),
            ("dateFrom", since.as_str()),
            ("direction", "asc"),
        ];
        self.pages(&["admin-events"], &query, |event: &AdminEvent| event.id).await
    }

    /// Reads page after page. Pages aren't a snapshot: what is added meanwhile shifts them, so that an entry may come
    /// twice (told apart by `id`) or not at all (which the next full read shows).
    async fn pages<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        id: impl Fn(&T) -> Uuid,
    ) -> Result<Vec<T>, ConnectorError> {
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        let mut first = 0;
        loop {
            let first_parameter = first.to_string();
            let mut query = query.to_vec();
            query.extend([("first", first_parameter.as_str()), ("max", PAGE_PARAMETER)]);
            let page: Vec<T> = self.get(segments, &query).await?;
            let length = page.len();
            let known = all.len();
            all.extend(page.into_iter().filter(|entry| seen.insert(id(entry))));
            // The second condition ends the loop on a server that ignores `first`.
            if length < PAGE || all.len() == known {
                return Ok(all);
            }
            first += length;
        }
    }

    async fn get<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, ConnectorError> {
        let segments: Vec<&str> =
            ["admin", "realms", &self.settings.realm].into_iter().chain(segments.iter().copied()).collect();
        let token = self.token(None).await?;
        match self.http.get(&segments, query, Some(token.expose_secret())).await {
            // Restarted with new keys, or the service account was signed out: a new token helps, or nothing does.
            Err(error) if error.status == Some(401) => {
                let token = self.token(Some(&token)).await?;
                self.http.get(&segments, query, Some(token.expose_secret())).await
            }
            result => result,
        }
    }

    /// A token for the service account: the one in the cache, unless it is about to expire or is `refused`.
    async fn token(&self, refused: Option<&SecretString>) -> Result<SecretString, ConnectorError> {
        let mut cached = self.token.lock().await;
        if let Some(token) = cached.as_ref()
            && self.clock.now() < token.usable_until
            && refused.is_none_or(|refused| refused.expose_secret() != token.value.expose_secret())
        {
            return Ok(token.value.clone());
        }
        *cached = None;
        let asked_at = self.clock.now();
        let response: TokenResponse = self
            .http
            .post_form(
                &["realms", &self.settings.realm, "protocol", "openid-connect", "token"],
                &[
                    ("grant_type", "client_credentials"),
                    ("client_id", &self.settings.client_id),
                    ("client_secret", self.settings.client_secret.expose_secret()),
                ],
            )
            .await
            .map_err(|mut error| {
                if error.is_not_found() {
                    // Must not look like "there is no such user", which takes people's access away.
                    error.kind = ErrorKind::Misconfigured;
                    error.status = None;
                    error.message =
                        format!("there is no realm {} at {}", self.settings.realm, self.settings.url);
                } else if error.kind == ErrorKind::Ambiguous {
                    // Asking for a token changes nothing that matters: where it is unclear whether it came, ask again.
                    error.kind = ErrorKind::Transient;
                }
                error
            })?;
        let lifetime = TimeDelta::seconds(response.expires_in.clamp(0, LONGEST_TOKEN_SECONDS));
        *cached = Some(CachedToken {
            value: response.access_token.clone(),
            usable_until: asked_at + lifetime - TOKEN_RESERVE,
        });
        Ok(response.access_token)
    }
}

#[async_trait]
impl Connector for KeycloakAdmin {
    fn service(&self) -> &'static str {
        SERVICE
    }

    fn capabilities(&self) -> Vec<Capability> {
        vec![
            Capability { name: "users", description: "says who people are" },
            Capability { name: "groups", description: "says which groups there are, and who is in them" },
        ]
    }

    fn health(&self) -> Health {
        self.http.health()
    }

    async fn check(&self) -> Result<ServerInfo, ConnectorError> {
        let _: Vec<User> = self.get(&["users"], &[("max", "1")]).await?;
        let _: Vec<Group> = self.get(&["groups"], &[("max", "1")]).await?;
        let mut warnings = Vec::new();
        let newest = self.get::<Vec<AdminEvent>>(&["admin-events"], &[("max", "1")]).await;
        if newest.is_err_and(|error| error.kind == ErrorKind::Unauthorised) {
            warnings.push(
                "its admin events may not be read, so that a change counts only at the next comparison: give the service account the role view-events of realm-management"
                    .to_owned(),
            );
        }
        Ok(ServerInfo {
            identity: Some(self.settings.client_id.clone()),
            clock_ahead: self.http.clock_ahead(),
            warnings,
            ..ServerInfo::default()
        })
    }
}

fn found<T>(result: Result<T, ConnectorError>) -> Result<Option<T>, ConnectorError> {
    match result {
        Err(error) if error.is_not_found() => Ok(None),
        result => result.map(Some),
    }
}
