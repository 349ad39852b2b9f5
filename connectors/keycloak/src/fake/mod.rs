//! A double of Keycloak 26.7: a real HTTP server that answers as the real one does, for the demo and for tests.
//!
//! It reads the file that a real Keycloak imports and speaks OpenID Connect (authorization code with PKCE, refresh,
//! client credentials, user info, levels of authentication with one-time codes, logout with back-channel logout) and the
//! part of the Admin REST API that [`KeycloakAdmin`](crate::KeycloakAdmin) and its neighbours use, with its events. What is different on purpose:
//!
//! - people sign in by picking who they are, without a password: `GET …/auth` answers a page whose form posts
//!   `username` to `…/login-actions/authenticate`;
//! - a sign-in always picks a person anew, so that one browser can be several people: the cookie of a session counts only
//!   where a level of authentication above the first is asked for, and only for the host to which the browser goes back;
//! - the page that asks for a one-time code shows it, for who has no authenticator at hand.
//!
//! Never part of a production build, and only ever to be bound to loopback: whoever reaches it is whoever they like.

mod admin;
mod authorize;
mod changes;
mod claims;
pub mod client;
mod controls;
mod events;
mod keys;
mod levels;
mod manage;
mod oidc;
mod pages;
mod realm;
mod session;
mod token;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
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
use serde_json::json;
use url::Url;
use uuid::{Builder, Uuid};

pub use self::keys::Signature;
use self::{
    keys::{Key, KeyRing, StoredKey},
    realm::{Directory, Realm},
};

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
    /// The secret of one-time codes, whose bytes are the key.
    pub otp_secret: Option<String>,
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
    /// Oldest first.
    #[serde(default)]
    admin_events: Vec<events::AdminEvent>,
    /// Oldest first.
    #[serde(default)]
    events: Vec<events::UserEvent>,
}

/// A person who is signed in. Times are in seconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct Session {
    user: Uuid,
    started: i64,
    last_used: i64,
    /// When the person last proved who they are.
    #[serde(default)]
    authenticated: i64,
    /// When each level of authentication was last reached.
    #[serde(default)]
    levels: BTreeMap<u8, i64>,
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
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PendingLogin {
    expires: i64,
    request: AuthorizationRequest,
    /// The session that this goes on with, and its user: nobody else may sign in then.
    #[serde(default)]
    session: Option<(String, Uuid)>,
    /// Who has passed level 1 and is asked for a one-time code.
    #[serde(default)]
    user: Option<Uuid>,
    /// The secret of one-time codes that is offered to somebody who has none.
    #[serde(default)]
    new_secret: Option<String>,
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
    /// The level of authentication that is asked for; 0 where none is.
    #[serde(default)]
    level: u8,
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
    load: Load,
}

/// How long answers take, and how many are waited for.
#[derive(Debug, Default)]
struct Load {
    delay: RwLock<Duration>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    begun: AtomicUsize,
}

impl Load {
    fn begin(&self) -> UnderWay<'_> {
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        UnderWay(self)
    }
}

/// A request that is under way, until it is answered or nobody waits for it any more.
struct UnderWay<'a>(&'a Load);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
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
        Ok(Arc::new(Self { realm, issuer, clock, ids, state, keys, is_unavailable, load: Load::default() }))
    }

    /// The `iss` of the tokens, which is also where discovery starts.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// All endpoints.
    pub fn router(self: &Arc<Self>) -> Router {
        oidc::routes()
            .merge(admin::routes())
            .merge(manage::routes())
            .merge(events::routes())
            .fallback(async |uri: Uri| {
                // The real one's start page leads to its console; this one's says what it is.
                if uri.path() == "/" { pages::start() } else { plain_error(StatusCode::NOT_FOUND) }
            })
            .layer(middleware::from_fn_with_state(Arc::clone(self), in_time))
            .with_state(Arc::clone(self))
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

/// The body that Keycloak gives to an error that has no text of its own.
fn plain_error(status: StatusCode) -> Response {
    error(status, &format!("HTTP {status}"))
}

async fn in_time(double: extract::State<Arc<FakeKeycloak>>, request: Request, next: Next) -> Response {
    let _under_way = double.load.begin();
    let delay = *double.load.delay.read().unwrap_or_else(PoisonError::into_inner);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    unless_unavailable(&double, request, next).await
}

async fn unless_unavailable(double: &FakeKeycloak, request: Request, next: Next) -> Response {
    if double.is_unavailable.load(Ordering::SeqCst) {
        return plain_error(StatusCode::SERVICE_UNAVAILABLE);
    }
    next.run(request).await
}

fn error(status: StatusCode, message: &str) -> Response {
    json_response(status, &json!({ "error": message }))
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> Response {
    (status, Json(body)).into_response()
}

/// A fault of the double itself.
fn broken(error: &FakeError) -> Response {
    tracing::error!(error = error as &dyn std::error::Error, "the double of Keycloak can't answer");
    (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({"error": "unknown_error"}))).into_response()
}
