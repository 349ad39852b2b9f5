//! A double of Keycloak 26.7: a real HTTP server that answers as the real one does, for the demo and for tests.
//!
//! It reads the file that a real Keycloak imports and speaks OpenID Connect (authorization code with PKCE, refresh,
//! client credentials, user info, logout with back-channel logout) and the part of the Admin REST API that
//! [`KeycloakAdmin`](crate::KeycloakAdmin) and its neighbours use. What is different on purpose:
//!
//! - people sign in by picking who they are, without a password: `GET …/auth` answers a page whose form posts
//!   `username` to `…/login-actions/authenticate`; where the second level of authentication is asked for, a second page
//!   follows whose form posts `confirm` instead of a one-time code;
//! - there is no single sign-on cookie: each sign-in picks a person anew, so that one browser can be several people.
//!
//! Never part of a production build, and only ever to be bound to loopback: whoever reaches it is whoever they like.

mod admin;
mod authorize;
mod claims;
mod keys;
mod oidc;
mod pages;
mod realm;
mod session;
mod step_up;
mod token;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{self, Request},
    http::{StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use connector_core::{
    SharedClock, SharedIds,
    fake::{FakeStateError, StateFile},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;
use uuid::{Builder, Uuid};

pub use self::keys::Signature;
use self::{
    keys::{Key, KeyRing, StoredKey},
    realm::{Client, Directory, GroupRecord, Realm, UserRecord},
    step_up::Level,
};
use crate::model::Attributes;

/// What the double needs.
#[derive(Debug)]
pub struct Options {
    /// The content of the realm file that a real Keycloak would import.
    pub realm_file_json: String,
    /// Where browsers and clients reach the double (`http://127.0.0.1:8081`); the issuer follows from it.
    pub public_url: Url,
    /// Where keys, sessions and changed users and groups are kept.
    pub state_path: PathBuf,
    /// The time.
    pub clock: SharedClock,
    /// Ids and randomness.
    pub ids: SharedIds,
}

/// A double that can't do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum FakeError {
    /// The realm file is none.
    #[error("the realm file can't be read")]
    Realm(#[source] serde_json::Error),
    /// The state can't be kept.
    #[error(transparent)]
    State(#[from] FakeStateError),
    /// A key can't be made or used.
    #[error("a signing key can't be made or used")]
    Key,
    /// No user has this name.
    #[error("there is no user {0}")]
    UnknownUser(String),
    /// No group is at this path.
    #[error("there is no group at {0}")]
    UnknownGroup(String),
    /// A user or a group of this name is there already.
    #[error("{0} exists already")]
    AlreadyExists(String),
    /// No session has this id, or the user has none.
    #[error("there is no such session")]
    UnknownSession,
}

/// A user to add with [`FakeKeycloak::create_user`].
#[derive(Debug, Clone, Default)]
pub struct NewUser {
    /// The name to sign in with.
    pub username: String,
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// Mail address.
    pub email: Option<String>,
    /// Whether the address is known to be the user's.
    pub email_verified: bool,
    /// Paths of the groups to be in.
    pub groups: Vec<String>,
}

/// What is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    signing_keys: Vec<StoredKey>,
    encryption_key: Option<StoredKey>,
    refresh_secret: String,
    /// What the realm file said when `directory` was made from it: a file with other users and groups replaces it.
    imported: Directory,
    directory: Directory,
    #[serde(default)]
    sessions: BTreeMap<String, Session>,
    #[serde(default)]
    codes: BTreeMap<String, Code>,
    #[serde(default)]
    logins: BTreeMap<String, PendingLogin>,
}

/// A person who is signed in. Times are in seconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct Session {
    user: Uuid,
    started: i64,
    last_used: i64,
    /// The level of authentication: 1, or 2 for somebody who has confirmed who they are.
    #[serde(default = "step_up::password")]
    level: i64,
    /// By the client's id.
    clients: BTreeMap<String, ClientSession>,
}

/// A session at one client.
#[derive(Debug, Default, Serialize, Deserialize)]
struct ClientSession {
    /// By `reuse_id`: the newest refresh token that was used.
    refresh: BTreeMap<String, RefreshUse>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct RefreshUse {
    token: String,
    uses: u32,
    last_refresh: i64,
}

/// An authorization code that waits to be exchanged.
#[derive(Debug, Serialize, Deserialize)]
struct Code {
    session: String,
    expires: i64,
    request: AuthorizationRequest,
}

/// A sign-in page that somebody looks at.
#[derive(Debug, Serialize, Deserialize)]
struct PendingLogin {
    expires: i64,
    request: AuthorizationRequest,
    /// Who was picked already and has to confirm it.
    #[serde(default)]
    user: Option<Uuid>,
}

/// What a client asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct AuthorizationRequest {
    client_id: String,
    redirect_uri: String,
    scope: String,
    state: Option<String>,
    nonce: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
    fragment: bool,
    login_hint: Option<String>,
    /// The level of authentication that is asked for.
    #[serde(default)]
    level: Option<Level>,
}

/// The double.
#[derive(Debug)]
pub struct FakeKeycloak {
    realm: Realm,
    issuer: String,
    clock: SharedClock,
    ids: SharedIds,
    state: StateFile<State>,
    keys: RwLock<Arc<KeyRing>>,
    is_unavailable: AtomicBool,
}

impl FakeKeycloak {
    /// Reads the realm file and the state, or starts with new keys and the file's users and groups where there is none.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn open(options: Options) -> Result<Arc<Self>, FakeError> {
        let Options { realm_file_json, public_url, state_path, clock, ids } = options;
        let realm = Realm::parse(&realm_file_json)?;
        let imported = realm.directory(clock.now().timestamp_millis())?;
        let state = StateFile::open(&state_path, State::default)?;
        if state.read(|state| state.signing_keys.is_empty()) {
            let (signing, encryption) = (StoredKey::generate()?, keys::encryption_key()?);
            let mut secret = [0; 64];
            ids.fill(&mut secret);
            state.update(|state| {
                state.signing_keys = vec![signing];
                state.encryption_key = Some(encryption);
                state.refresh_secret = keys::encode(&secret);
            })?;
        }
        state.update(|state| {
            if !state.imported.describes_the_same_as(&imported) {
                state.directory = imported.clone();
                state.imported = imported;
            }
        })?;
        let keys = RwLock::new(Arc::new(state.read(State::key_ring)?));
        let issuer = format!("{}/realms/{}", public_url.as_str().trim_end_matches('/'), realm.name);
        let is_unavailable = AtomicBool::new(false);
        Ok(Arc::new(Self { realm, issuer, clock, ids, state, keys, is_unavailable }))
    }

    /// The `iss` of the tokens, which is also where discovery starts.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// All endpoints.
    pub fn router(self: &Arc<Self>) -> Router {
        oidc::routes()
            .merge(admin::routes())
            .fallback(async |uri: Uri| {
                // The real one's start page leads to its console; this one's says what it is.
                if uri.path() == "/" { pages::start() } else { plain_error(StatusCode::NOT_FOUND) }
            })
            .layer(middleware::from_fn_with_state(Arc::clone(self), unless_unavailable))
            .with_state(Arc::clone(self))
    }

    /// Answers everything with 503, as a proxy does before a server that is down or starting; or not any more.
    pub fn set_unavailable(&self, is_unavailable: bool) {
        self.is_unavailable.store(is_unavailable, Ordering::SeqCst);
    }

    /// Lets a user sign in or not. As with the real one, sessions go on and no logout token is sent; refreshing fails.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn set_enabled(&self, username: &str, enabled: bool) -> Result<(), FakeError> {
        self.change(|directory| {
            directory.user_by_name_mut(username)?.enabled = enabled;
            Ok(())
        })
    }

    /// Gives a user other names; the user name stays.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn rename_user(&self, username: &str, first_name: &str, last_name: &str) -> Result<(), FakeError> {
        self.change(|directory| {
            let user = directory.user_by_name_mut(username)?;
            user.first_name = Some(first_name.to_owned());
            user.last_name = Some(last_name.to_owned());
            Ok(())
        })
    }

    /// Puts a user into the group at `path`; being in it already is fine.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn add_to_group(&self, username: &str, path: &str) -> Result<(), FakeError> {
        self.change(|directory| {
            let group = group_id(directory, path)?;
            let user = directory.user_by_name_mut(username)?;
            if !user.groups.contains(&group) {
                user.groups.push(group);
            }
            Ok(())
        })
    }

    /// Takes a user out of the group at `path`; not being in it is fine.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn remove_from_group(&self, username: &str, path: &str) -> Result<(), FakeError> {
        self.change(|directory| {
            let group = group_id(directory, path)?;
            directory.user_by_name_mut(username)?.groups.retain(|other| *other != group);
            Ok(())
        })
    }

    /// Renames the group at `path`: its id stays, its path and those below it change.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn rename_group(&self, path: &str, new_name: &str) -> Result<(), FakeError> {
        self.change(|directory| {
            let id = group_id(directory, path)?;
            let parent = directory.group(id).and_then(|group| group.parent);
            if directory.children(parent).iter().any(|sibling| sibling.name == new_name && sibling.id != id) {
                return Err(FakeError::AlreadyExists(new_name.to_owned()));
            }
            if let Some(group) = directory.groups.iter_mut().find(|group| group.id == id) {
                new_name.clone_into(&mut group.name);
            }
            Ok(())
        })
    }

    /// Sets an attribute of the group at `path`, or removes it where there are no values.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn set_group_attribute(&self, path: &str, name: &str, values: &[&str]) -> Result<(), FakeError> {
        self.change(|directory| {
            let id = group_id(directory, path)?;
            if let Some(group) = directory.groups.iter_mut().find(|group| group.id == id) {
                if values.is_empty() {
                    group.attributes.remove(name);
                } else {
                    group
                        .attributes
                        .insert(name.to_owned(), values.iter().map(ToString::to_string).collect());
                }
            }
            Ok(())
        })
    }

    /// Adds a user and returns its id.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn create_user(&self, user: NewUser) -> Result<Uuid, FakeError> {
        let now = self.clock.now();
        let id = self.ids.uuid_v7(now);
        self.change(|directory| {
            if directory.user_by_name(&user.username).is_some() {
                return Err(FakeError::AlreadyExists(user.username));
            }
            let groups =
                user.groups.iter().map(|path| group_id(directory, path)).collect::<Result<Vec<_>, _>>()?;
            directory.users.push(UserRecord {
                id,
                username: user.username.to_lowercase(),
                first_name: user.first_name,
                last_name: user.last_name,
                email: user.email.map(|email| email.to_lowercase()),
                email_verified: user.email_verified,
                enabled: true,
                created_timestamp: now.timestamp_millis(),
                service_account_client_id: None,
                attributes: Attributes::new(),
                password: None,
                client_roles: BTreeMap::new(),
                groups,
            });
            Ok(id)
        })
    }

    /// Removes a user. As with the real one, the sessions are gone and no logout token is sent.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn delete_user(&self, username: &str) -> Result<(), FakeError> {
        self.state.update(|state| {
            let id = state.directory.user_by_name_mut(username)?.id;
            state.directory.users.retain(|user| user.id != id);
            state.sessions.retain(|_, session| session.user != id);
            Ok(())
        })?
    }

    /// Adds a group at `path`, below one that is there already, and returns its id.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn create_group(&self, path: &str) -> Result<Uuid, FakeError> {
        let id = self.ids.uuid_v7(self.clock.now());
        self.change(|directory| {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = if parent.is_empty() { None } else { Some(group_id(directory, parent)?) };
            if directory.group_by_path(path).is_some() {
                return Err(FakeError::AlreadyExists(path.to_owned()));
            }
            directory.groups.push(GroupRecord {
                id,
                name: name.to_owned(),
                parent,
                attributes: Attributes::new(),
            });
            Ok(id)
        })
    }

    /// Removes the group at `path` and those below it, and everybody's membership of them.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn delete_group(&self, path: &str) -> Result<(), FakeError> {
        self.change(|directory| {
            let mut gone = vec![group_id(directory, path)?];
            let mut next = 0;
            while let Some(parent) = gone.get(next).copied() {
                gone.extend(directory.children(Some(parent)).iter().map(|group| group.id));
                next += 1;
            }
            directory.groups.retain(|group| !gone.contains(&group.id));
            for user in &mut directory.users {
                user.groups.retain(|group| !gone.contains(group));
            }
            Ok(())
        })
    }

    /// The id of the user with this name.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn user_id(&self, username: &str) -> Result<Uuid, FakeError> {
        self.state.read(|state| {
            state
                .directory
                .user_by_name(username)
                .map(|user| user.id)
                .ok_or_else(|| FakeError::UnknownUser(username.to_owned()))
        })
    }

    /// The id of the group at `path`.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn group_id(&self, path: &str) -> Result<Uuid, FakeError> {
        self.state.read(|state| group_id(&state.directory, path))
    }

    /// Makes a new signing key. The old ones stay in the key set, so that their tokens are still good.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn rotate_keys(&self) -> Result<(), FakeError> {
        self.replace_keys(true)
    }

    /// Makes a new signing key and drops the old ones, and with them every token that they signed.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn replace_keys_now(&self) -> Result<(), FakeError> {
        self.replace_keys(false)
    }

    fn replace_keys(&self, keep: bool) -> Result<(), FakeError> {
        let key = StoredKey::generate()?;
        let ring = self.state.update(|state| {
            if !keep {
                state.signing_keys.clear();
            }
            state.signing_keys.insert(0, key);
            state.key_ring()
        })??;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        Ok(())
    }

    /// An access token for a user as the shell's client would get it, its claims overridden by `overrides` (`null`
    /// removes one) and its signature as `signature` says. A session is started for it.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn mint_access_token(
        &self,
        client_id: &str,
        username: &str,
        overrides: Map<String, Value>,
        signature: Signature,
    ) -> Result<String, FakeError> {
        let (client, user, session) = self.mint_session(client_id, username)?;
        let claims = self.access_claims(client, &user, Some(&session), "openid", "onrtac");
        self.keys().sign("JWT", &overridden(claims, overrides), signature)
    }

    /// An ID token for a user, as [`FakeKeycloak::mint_access_token`].
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn mint_id_token(
        &self,
        client_id: &str,
        username: &str,
        overrides: Map<String, Value>,
        signature: Signature,
    ) -> Result<String, FakeError> {
        let (client, user, session) = self.mint_session(client_id, username)?;
        let claims = self.id_claims(client, &user, Some(&session), "openid", None, None);
        self.keys().sign("JWT", &overridden(claims, overrides), signature)
    }

    /// A logout token for a user's session at a client (OpenID Connect Back-Channel Logout 1.0, section 2.4), as
    /// [`FakeKeycloak::mint_access_token`]. `session_id` is the `sid` of the user's other tokens.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn mint_logout_token(
        &self,
        client_id: &str,
        username: &str,
        session_id: &str,
        overrides: Map<String, Value>,
        signature: Signature,
    ) -> Result<String, FakeError> {
        let user = self.user_id(username)?;
        let claims = self.logout_claims(client_id, user, session_id);
        self.keys().sign("logout+jwt", &overridden(claims, overrides), signature)
    }

    /// A token of exactly this header and these claims, signed by RS256 with the realm's active key whatever they say: for what
    /// Keycloak itself would never make.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn sign_as_it_is(&self, header: &str, claims: &str) -> Result<String, FakeError> {
        self.keys().sign_as_it_is(header, claims)
    }

    /// Ends all sessions of a user, as an administrator does (`POST …/users/{id}/logout`), and sends logout tokens to
    /// the clients that want them.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub async fn sign_out_user(&self, username: &str) -> Result<(), FakeError> {
        let user = self.user_id(username)?;
        let sessions: Vec<String> = self.state.read(|state| {
            state
                .sessions
                .iter()
                .filter(|(_, session)| session.user == user)
                .map(|(id, _)| id.clone())
                .collect()
        });
        for session in sessions {
            self.end_session(&session).await?;
        }
        Ok(())
    }

    fn mint_session(
        &self,
        client_id: &str,
        username: &str,
    ) -> Result<(&Client, UserRecord, String), FakeError> {
        let user = self.state.read(|state| {
            let user = state.directory.user_by_name(username);
            user.cloned().ok_or_else(|| FakeError::UnknownUser(username.to_owned()))
        })?;
        let client =
            self.realm.client(client_id).ok_or_else(|| FakeError::UnknownUser(client_id.to_owned()))?;
        let session = self.start_session(user.id, &client.id, step_up::password())?;
        Ok((client, user, session))
    }

    fn change<R>(&self, change: impl FnOnce(&mut Directory) -> Result<R, FakeError>) -> Result<R, FakeError> {
        self.state.update(|state| change(&mut state.directory))?
    }

    fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The time in seconds since 1970.
    fn now(&self) -> i64 {
        self.clock.now().timestamp()
    }

    /// Characters that nobody can guess, in the shape of Keycloak's session ids: 144 bits in base64url.
    fn secret_id(&self) -> String {
        let mut bytes = [0; 18];
        self.ids.fill(&mut bytes);
        keys::encode(&bytes)
    }

    fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.ids.fill(&mut bytes);
        Builder::from_random_bytes(bytes).into_uuid()
    }
}

impl State {
    fn key_ring(&self) -> Result<KeyRing, FakeError> {
        Ok(KeyRing {
            signing: self.signing_keys.iter().map(Key::open).collect::<Result<_, _>>()?,
            encryption: Key::open(self.encryption_key.as_ref().ok_or(FakeError::Key)?)?,
            refresh_secret: keys::decode(&self.refresh_secret).ok_or(FakeError::Key)?,
        })
    }
}

impl Directory {
    /// Whether the two come from the same file; when they were made makes no difference.
    fn describes_the_same_as(&self, other: &Self) -> bool {
        let timeless = |directory: &Self| {
            let mut directory = directory.clone();
            for user in &mut directory.users {
                user.created_timestamp = 0;
            }
            serde_json::to_value(directory).unwrap_or_default()
        };
        timeless(self) == timeless(other)
    }
}

fn group_id(directory: &Directory, path: &str) -> Result<Uuid, FakeError> {
    directory
        .group_by_path(path)
        .map(|group| group.id)
        .ok_or_else(|| FakeError::UnknownGroup(path.to_owned()))
}

fn overridden(mut claims: Value, overrides: Map<String, Value>) -> Value {
    if let Value::Object(claims) = &mut claims {
        for (name, value) in overrides {
            if value.is_null() {
                claims.remove(&name);
            } else {
                claims.insert(name, value);
            }
        }
    }
    claims
}

/// The body that Keycloak gives to an error that has no text of its own.
fn plain_error(status: StatusCode) -> Response {
    error(status, &format!("HTTP {status}"))
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

async fn unless_unavailable(
    double: extract::State<Arc<FakeKeycloak>>,
    request: Request,
    next: Next,
) -> Response {
    if double.is_unavailable.load(Ordering::SeqCst) {
        return plain_error(StatusCode::SERVICE_UNAVAILABLE);
    }
    next.run(request).await
}

/// A fault of the double itself.
fn broken(error: &FakeError) -> Response {
    tracing::error!(error = error as &dyn std::error::Error, "the double of Keycloak can't answer");
    (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": "unknown_error"}))).into_response()
}
