//! The realm file, as far as the double needs it, and the directory of users and groups that is made from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::FakeError;
use crate::model::Attributes;

/// The parts of a `RealmRepresentation` that the double acts on.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Realm {
    #[serde(rename = "realm")]
    pub(super) name: String,
    #[serde(default = "defaults::access_token_lifespan")]
    pub(super) access_token_lifespan: i64,
    #[serde(default = "defaults::access_code_lifespan")]
    pub(super) access_code_lifespan: i64,
    #[serde(default = "defaults::access_code_lifespan_login")]
    pub(super) access_code_lifespan_login: i64,
    #[serde(default = "defaults::sso_session_idle_timeout")]
    pub(super) sso_session_idle_timeout: i64,
    #[serde(default = "defaults::sso_session_max_lifespan")]
    pub(super) sso_session_max_lifespan: i64,
    #[serde(default)]
    pub(super) revoke_refresh_token: bool,
    #[serde(default)]
    pub(super) refresh_token_max_reuse: u32,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    authenticator_config: Vec<AuthenticatorConfig>,
    #[serde(default)]
    pub(super) roles: Roles,
    #[serde(default)]
    groups: Vec<GroupFile>,
    #[serde(default)]
    client_scopes: Vec<ClientScope>,
    #[serde(default)]
    pub(super) clients: Vec<Client>,
    #[serde(default)]
    users: Vec<UserFile>,
}

/// Keycloak's own defaults, in seconds.
mod defaults {
    pub(super) fn access_token_lifespan() -> i64 {
        300
    }
    pub(super) fn access_code_lifespan() -> i64 {
        60
    }
    pub(super) fn access_code_lifespan_login() -> i64 {
        1800
    }
    pub(super) fn sso_session_idle_timeout() -> i64 {
        1800
    }
    pub(super) fn sso_session_max_lifespan() -> i64 {
        36_000
    }
    pub(super) fn enabled() -> bool {
        true
    }
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Roles {
    #[serde(default)]
    pub(super) realm: Vec<Role>,
    #[serde(default)]
    pub(super) client: BTreeMap<String, Vec<Role>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Role {
    #[serde(default)]
    pub(super) id: Option<String>,
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) composites: Composites,
}

/// The roles that come along with a role.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Composites {
    /// By the client's name.
    #[serde(default)]
    pub(super) client: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct AuthenticatorConfig {
    #[serde(default)]
    config: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupFile {
    id: Uuid,
    name: String,
    #[serde(default)]
    attributes: Attributes,
    #[serde(default)]
    sub_groups: Vec<GroupFile>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserFile {
    id: Uuid,
    username: String,
    first_name: Option<String>,
    last_name: Option<String>,
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
    #[serde(default = "defaults::enabled")]
    enabled: bool,
    service_account_client_id: Option<String>,
    #[serde(default)]
    attributes: Attributes,
    #[serde(default)]
    credentials: Vec<Credential>,
    #[serde(default)]
    realm_roles: Vec<String>,
    #[serde(default)]
    client_roles: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    groups: Vec<String>,
}

/// `CredentialRepresentation`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Credential {
    #[serde(rename = "type")]
    kind: String,
    value: Option<String>,
    /// JSON as text.
    secret_data: Option<String>,
}

/// The password among these.
pub(super) fn password(credentials: &[Credential]) -> Option<String> {
    credentials.iter().find(|credential| credential.kind == "password")?.value.clone()
}

/// The secret of one-time codes among these, whose bytes are the key.
pub(super) fn otp_secret(credentials: &[Credential]) -> Option<String> {
    let data = credentials.iter().find(|credential| credential.kind == "otp")?.secret_data.as_deref()?;
    let data: serde_json::Value = serde_json::from_str(data).ok()?;
    data.get("value")?.as_str().map(ToOwned::to_owned)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientScope {
    name: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    #[serde(default)]
    protocol_mappers: Vec<ProtocolMapper>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProtocolMapper {
    pub(super) protocol_mapper: String,
    #[serde(default)]
    pub(super) config: BTreeMap<String, String>,
}

impl ProtocolMapper {
    pub(super) fn is_on(&self, key: &str) -> bool {
        self.config.get(key).is_some_and(|value| value == "true")
    }
}

/// A client (`ClientRepresentation`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "these are the names in the file")]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) client_id: String,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) description: Option<String>,
    #[serde(default = "defaults::enabled")]
    pub(super) enabled: bool,
    #[serde(default)]
    pub(super) secret: Option<String>,
    #[serde(default)]
    pub(super) public_client: bool,
    #[serde(default)]
    pub(super) bearer_only: bool,
    #[serde(default)]
    pub(super) standard_flow_enabled: bool,
    #[serde(default)]
    pub(super) direct_access_grants_enabled: bool,
    #[serde(default)]
    pub(super) service_accounts_enabled: bool,
    #[serde(default)]
    pub(super) frontchannel_logout: bool,
    #[serde(default = "defaults::enabled")]
    pub(super) full_scope_allowed: bool,
    #[serde(default)]
    pub(super) redirect_uris: Vec<String>,
    #[serde(default)]
    pub(super) web_origins: Vec<String>,
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) default_client_scopes: Vec<String>,
    #[serde(default)]
    pub(super) optional_client_scopes: Vec<String>,
    #[serde(default)]
    protocol_mappers: Vec<ProtocolMapper>,
}

/// The scopes that Keycloak brings along and the double knows the mappers of; whether each is named in `scope`.
const BUILT_IN_SCOPES: [(&str, bool); 7] = [
    ("basic", false),
    ("acr", false),
    ("profile", true),
    ("email", true),
    ("roles", false),
    ("web-origins", false),
    ("service_account", false),
];

impl Realm {
    pub(super) fn parse(json: &str) -> Result<Self, FakeError> {
        serde_json::from_str(json).map_err(FakeError::Realm)
    }

    pub(super) fn client(&self, client_id: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.client_id == client_id)
    }

    pub(super) fn client_by_id(&self, id: &str) -> Option<&Client> {
        self.clients.iter().find(|client| client.id == id)
    }

    fn scope(&self, name: &str) -> Option<&ClientScope> {
        self.client_scopes.iter().find(|scope| scope.name == name)
    }

    /// The names of the levels of authentication, by level.
    fn levels(&self) -> BTreeMap<u8, String> {
        let map = self.attributes.get("acr.loa.map").map_or("{}", String::as_str);
        let map: BTreeMap<String, u8> = serde_json::from_str(map).unwrap_or_default();
        map.into_iter().map(|(name, level)| (level, name)).collect()
    }

    /// What stands in `acr` for a level.
    pub(super) fn level_name(&self, level: u8) -> String {
        self.levels().remove(&level).unwrap_or_else(|| level.to_string())
    }

    /// The level of this name, or of this number.
    pub(super) fn level_of(&self, name: &str) -> Option<u8> {
        let named = self.levels().into_iter().find(|(_, known)| known == name).map(|(level, _)| level);
        named.or_else(|| name.parse().ok())
    }

    /// The names and numbers that may stand in `acr`.
    pub(super) fn level_names(&self) -> Vec<String> {
        let levels = self.levels();
        levels
            .values()
            .cloned()
            .chain(["0".to_owned()])
            .chain(levels.keys().map(ToString::to_string))
            .collect()
    }

    /// For how long a level lasts, in seconds.
    pub(super) fn level_max_age(&self, level: u8) -> i64 {
        const DEFAULT: i64 = 36_000;
        let wanted = level.to_string();
        self.authenticator_config
            .iter()
            .map(|entry| &entry.config)
            .find(|config| config.get("loa-condition-level") == Some(&wanted))
            .and_then(|config| config.get("loa-max-age")?.parse().ok())
            .unwrap_or(DEFAULT)
    }

    /// The roles of a client that a user has, be it by itself or along with a role of the realm.
    pub(super) fn effective_client_roles(&self, user: &UserRecord, client_id: &str) -> Vec<String> {
        let mut roles = user.client_roles.get(client_id).cloned().unwrap_or_default();
        for role in self.roles.realm.iter().filter(|role| user.realm_roles.contains(&role.name)) {
            for along in role.composites.client.get(client_id).into_iter().flatten() {
                if !roles.contains(along) {
                    roles.push(along.clone());
                }
            }
        }
        roles
    }

    /// Whether `scope` may be asked for: each of its words is `openid` or a scope of the client's.
    pub(super) fn scope_is_valid(client: &Client, scope: &str) -> bool {
        scope.split_whitespace().all(|name| {
            name == "openid"
                || client
                    .default_client_scopes
                    .iter()
                    .chain(&client.optional_client_scopes)
                    .any(|known| known == name)
        })
    }

    /// The scopes in force for a request of `scope`: the client's defaults and the optional ones that were asked for.
    pub(super) fn effective_scopes<'a>(client: &'a Client, scope: &str) -> Vec<&'a str> {
        let asked: Vec<&str> = scope.split_whitespace().collect();
        let optional = client.optional_client_scopes.iter().filter(|name| asked.contains(&name.as_str()));
        client.default_client_scopes.iter().chain(optional).map(String::as_str).collect()
    }

    /// The `scope` of an answer: `openid` if asked for, and the scopes in force that want to be named.
    pub(super) fn scope_string(&self, client: &Client, scope: &str) -> String {
        let openid = scope.split_whitespace().any(|name| name == "openid").then_some("openid");
        let named = Self::effective_scopes(client, scope).into_iter().filter(|name| {
            match BUILT_IN_SCOPES.iter().find(|(built_in, _)| built_in == name) {
                Some((_, named)) => *named,
                None => self.scope(name).is_some_and(|scope| {
                    scope.attributes.get("include.in.token.scope").is_none_or(|value| value == "true")
                }),
            }
        });
        openid.into_iter().chain(named).collect::<Vec<_>>().join(" ")
    }

    /// The mappers in force for a request of `scope` that the file defines.
    pub(super) fn mappers<'a>(&'a self, client: &'a Client, scope: &str) -> Vec<&'a ProtocolMapper> {
        Self::effective_scopes(client, scope)
            .into_iter()
            .filter_map(|name| self.scope(name))
            .flat_map(|scope| &scope.protocol_mappers)
            .chain(&client.protocol_mappers)
            .collect()
    }

    /// The directory that the file describes.
    pub(super) fn directory(&self, created: i64) -> Result<Directory, FakeError> {
        let mut directory = Directory::default();
        for group in &self.groups {
            directory.add_groups(group, None);
        }
        for user in &self.users {
            let mut groups = Vec::new();
            for path in &user.groups {
                groups.push(
                    directory.group_by_path(path).ok_or_else(|| FakeError::UnknownGroup(path.clone()))?.id,
                );
            }
            directory.users.push(UserRecord {
                id: user.id,
                username: user.username.clone(),
                first_name: user.first_name.clone(),
                last_name: user.last_name.clone(),
                email: user.email.clone(),
                email_verified: user.email_verified,
                enabled: user.enabled,
                created_timestamp: created,
                service_account_client_id: user.service_account_client_id.clone(),
                attributes: user.attributes.clone(),
                password: password(&user.credentials),
                otp_secret: otp_secret(&user.credentials),
                last_otp_step: 0,
                realm_roles: user.realm_roles.clone(),
                client_roles: user.client_roles.clone(),
                groups,
            });
        }
        Ok(directory)
    }
}

impl Client {
    /// Whether a browser may be sent to `uri` after signing in.
    pub(super) fn allows_redirect(&self, uri: &str) -> bool {
        self.redirect_uris.iter().any(|pattern| matches(pattern, uri))
    }

    /// Whether a browser may be sent to `uri` after signing out.
    pub(super) fn allows_post_logout_redirect(&self, uri: &str) -> bool {
        match self.attributes.get("post.logout.redirect.uris").map_or("", String::as_str) {
            "" | "-" => false,
            list => list.split("##").any(|pattern| match pattern {
                "+" => self.allows_redirect(uri),
                pattern => matches(pattern, uri),
            }),
        }
    }
}

/// Whether `uri` is what `pattern` says: the same, or below a pattern that ends in `*`.
fn matches(pattern: &str, uri: &str) -> bool {
    let Ok(parsed) = url::Url::parse(uri) else { return false };
    // A user name before the host misleads people, a fragment is no part of what is sent, and dots climb out of a `*`.
    let plain = parsed.username().is_empty()
        && parsed.password().is_none()
        && parsed.fragment().is_none()
        && !uri.contains('\\')
        && uri.starts_with(&parsed[..url::Position::AfterPath]);
    if !plain {
        return false;
    }
    match pattern.strip_suffix('*') {
        Some(prefix) => uri.split('?').next().is_some_and(|uri| uri.starts_with(prefix)),
        None => pattern == uri,
    }
}

/// The users and groups: from the file, then as changed since.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Directory {
    pub(super) users: Vec<UserRecord>,
    pub(super) groups: Vec<GroupRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct GroupRecord {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) parent: Option<Uuid>,
    pub(super) attributes: Attributes,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UserRecord {
    pub(super) id: Uuid,
    pub(super) username: String,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
    pub(super) email: Option<String>,
    pub(super) email_verified: bool,
    pub(super) enabled: bool,
    /// Milliseconds since 1970.
    pub(super) created_timestamp: i64,
    pub(super) service_account_client_id: Option<String>,
    pub(super) attributes: Attributes,
    pub(super) password: Option<String>,
    /// Of one-time codes.
    #[serde(default)]
    pub(super) otp_secret: Option<String>,
    /// The step of the newest one-time code that was taken, which isn't taken again.
    #[serde(default)]
    pub(super) last_otp_step: i64,
    #[serde(default)]
    pub(super) realm_roles: Vec<String>,
    pub(super) client_roles: BTreeMap<String, Vec<String>>,
    pub(super) groups: Vec<Uuid>,
}

impl UserRecord {
    pub(super) fn full_name(&self) -> Option<String> {
        let name = [self.first_name.as_deref(), self.last_name.as_deref()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ");
        (!name.is_empty()).then_some(name)
    }
}

impl Directory {
    fn add_groups(&mut self, group: &GroupFile, parent: Option<Uuid>) {
        self.groups.push(GroupRecord {
            id: group.id,
            name: group.name.clone(),
            parent,
            attributes: group.attributes.clone(),
        });
        for child in &group.sub_groups {
            self.add_groups(child, Some(group.id));
        }
    }

    pub(super) fn user(&self, id: &str) -> Option<&UserRecord> {
        let id: Uuid = id.parse().ok()?;
        self.users.iter().find(|user| user.id == id)
    }

    pub(super) fn user_by_name(&self, username: &str) -> Option<&UserRecord> {
        self.users.iter().find(|user| user.username == username)
    }

    pub(super) fn user_by_name_mut(&mut self, username: &str) -> Result<&mut UserRecord, FakeError> {
        self.users
            .iter_mut()
            .find(|user| user.username == username)
            .ok_or_else(|| FakeError::UnknownUser(username.to_owned()))
    }

    pub(super) fn service_account(&self, client_id: &str) -> Option<&UserRecord> {
        self.users.iter().find(|user| user.service_account_client_id.as_deref() == Some(client_id))
    }

    pub(super) fn group(&self, id: Uuid) -> Option<&GroupRecord> {
        self.groups.iter().find(|group| group.id == id)
    }

    pub(super) fn group_by_path(&self, path: &str) -> Option<&GroupRecord> {
        let mut parent = None;
        let mut found = None;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let group = self.groups.iter().find(|group| group.parent == parent && group.name == name)?;
            parent = Some(group.id);
            found = Some(group);
        }
        found
    }

    pub(super) fn path(&self, id: Uuid) -> String {
        let mut names = Vec::new();
        let mut next = self.group(id);
        while let Some(group) = next {
            names.push(group.name.as_str());
            next = group.parent.and_then(|parent| self.group(parent));
        }
        names.iter().rev().fold(String::new(), |path, name| path + "/" + name)
    }

    /// The groups directly below `parent`, by name.
    pub(super) fn children(&self, parent: Option<Uuid>) -> Vec<&GroupRecord> {
        let mut children: Vec<&GroupRecord> =
            self.groups.iter().filter(|group| group.parent == parent).collect();
        children.sort_by(|left, right| left.name.cmp(&right.name));
        children
    }

    /// The paths of the groups that the user is directly in.
    pub(super) fn paths(&self, user: &UserRecord) -> Vec<String> {
        user.groups.iter().map(|group| self.path(*group)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_redirect_uri_without_a_star_is_matched_to_the_letter() {
        let pattern = "http://127.0.0.1:8080/auth/callback";
        assert!(matches(pattern, pattern));
        for other in [
            "http://127.0.0.1:8080/auth/callback/",
            "http://127.0.0.1:8080/auth/callback?x=1",
            "http://127.0.0.1:8080/auth/callback#x",
            "http://127.0.0.1:8080/auth/Callback",
            "http://127.0.0.1/auth/callback",
            "https://127.0.0.1:8080/auth/callback",
            "",
        ] {
            assert!(!matches(pattern, other), "{other}");
        }
    }

    #[test]
    fn a_star_reaches_no_further_than_its_prefix() {
        let pattern = "http://127.0.0.1:8080/app/*";
        assert!(matches(pattern, "http://127.0.0.1:8080/app/signed-out?reason=expired"));
        for other in [
            "http://127.0.0.1:8080/app/../admin",
            "http://127.0.0.1:8080/app/%2e%2e/admin",
            "http://127.0.0.1:8080/app/..\\admin",
            "http://127.0.0.1:8080@evil.example/app/",
            "http://evil.example/?http://127.0.0.1:8080/app/",
        ] {
            assert!(!matches(pattern, other), "{other}");
        }
    }
}
