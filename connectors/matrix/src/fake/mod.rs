//! A double of a homeserver (Synapse): the client-server endpoints that the connector uses, the pushing of
//! transactions to the application service, and a page that shows the rooms and lets one write in them.
//!
//! It keeps the last 1,000 messages of a room, knows no passwords, no encryption and no other homeserver.

mod api;
mod homeserver;
mod pages;

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::Router;
use connector_core::{
    ConnectorError, HttpClient, SharedClock, SharedIds,
    fake::{FakeStateError, StateFile},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::sync::Notify;
use url::Url;

use self::homeserver::{EventOrigin, Homeserver};
use crate::ExternalId;

/// Synapse waits 2^n seconds after the n-th failure.
pub const RETRY_UNIT: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: u32 = 9;
const SERVICE: &str = "matrix double";

/// How the double is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where people and programs reach it.
    pub public_url: Url,
    /// The homeserver's name, after the colon in its ids.
    pub server_name: String,
    /// The file that keeps rooms, events and what is still to be pushed.
    pub state_path: PathBuf,
    /// Where the time comes from.
    pub clock: SharedClock,
    /// Where event and room ids come from.
    pub ids: SharedIds,
    /// The application service's id, by which it asks for a ping.
    pub appservice_id: String,
    /// What the application service proves to us.
    pub as_token: SecretString,
    /// What we prove to the application service.
    pub hs_token: SecretString,
    /// The application service's bot, without `@` and server.
    pub sender_localpart: String,
    /// Where transactions are pushed: `/_matrix/app/v1/…` is added. Until there is one, events wait.
    pub appservice_url: Option<Url>,
    /// The people on this homeserver: localpart and display name.
    pub users: Vec<(String, String)>,
    /// The unit of the waits between failed pushes: [`RETRY_UNIT`], or less in tests.
    pub retry_unit: Duration,
    /// The origins that may show the pages in a frame (CSP `frame-ancestors`), as an administrator allows it for Element.
    pub frame_ancestors: Vec<String>,
}

/// What the double shall do wrong with the next request to the client-server API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Answers 429 with both ways of telling the wait, and does nothing.
    RateLimited {
        /// The wait, in milliseconds.
        retry_after_ms: u64,
    },
    /// Answers 502 and does nothing.
    BadGateway,
    /// Does it, and answers 504 all the same.
    AnswerLost,
}

/// The double of a homeserver.
#[derive(Debug)]
pub struct FakeMatrix {
    options: Options,
    state: StateFile<Homeserver>,
    appservice: Mutex<Option<HttpClient>>,
    failures: Mutex<VecDeque<Failure>>,
    /// As whom people are known to who signs them in, where the bot may know.
    external_ids: Mutex<Option<BTreeMap<String, Vec<ExternalId>>>>,
    new_events: Notify,
    retry_now: Notify,
}

/// A double that can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its state can't be kept.
    #[error(transparent)]
    State(#[from] FakeStateError),
    /// The client that pushes transactions can't be set up.
    #[error(transparent)]
    Client(#[from] ConnectorError),
}

impl FakeMatrix {
    /// Opens the double with the state that it left, or with its people and no rooms.
    ///
    /// # Errors
    /// Where the state can't be read or written.
    pub fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        let state = StateFile::open(&options.state_path, Homeserver::default)?;
        let client = options.appservice_url.clone().map(appservice_client).transpose()?;
        let double = Self {
            options,
            state,
            appservice: Mutex::new(client),
            failures: Mutex::default(),
            external_ids: Mutex::default(),
            new_events: Notify::new(),
            retry_now: Notify::new(),
        };
        let bot = double.user_id(&double.options.sender_localpart);
        let people: Vec<_> = double
            .options
            .users
            .iter()
            .map(|(name, display)| (double.user_id(name), display.clone()))
            .collect();
        double.state.update(|homeserver| {
            homeserver.users.entry(bot).or_insert(None);
            for (user, display_name) in people {
                homeserver.users.insert(user, Some(display_name));
            }
        })?;
        Ok(Arc::new(double))
    }

    /// Where people and programs reach it.
    pub fn public_url(&self) -> &Url {
        &self.options.public_url
    }

    /// The id of the user with this localpart.
    pub fn user_id(&self, localpart: &str) -> String {
        format!("@{localpart}:{}", self.options.server_name)
    }

    /// Changes where transactions are pushed; `None` lets events wait.
    ///
    /// # Errors
    /// Where the client that pushes can't be set up.
    pub fn set_appservice_url(&self, url: Option<Url>) -> Result<(), ConnectorError> {
        *lock(&self.appservice) = url.map(appservice_client).transpose()?;
        self.retry_now.notify_one();
        self.new_events.notify_one();
        Ok(())
    }

    /// Makes the bot an administrator, who is told as whom these people, by their localparts, are known to who signs them in.
    pub fn let_administer(&self, people: impl IntoIterator<Item = (String, ExternalId)>) {
        let mut known: BTreeMap<String, Vec<ExternalId>> = BTreeMap::new();
        for (localpart, id) in people {
            known.entry(self.user_id(&localpart)).or_default().push(id);
        }
        *lock(&self.external_ids) = Some(known);
    }

    /// Has the next request to the client-server API fail; called twice, the next two.
    pub fn fail_next(&self, failure: Failure) {
        lock(&self.failures).push_back(failure);
    }

    fn take_failure(&self) -> Option<Failure> {
        lock(&self.failures).pop_front()
    }

    /// The HTTP service: the client-server API and the page at `/`.
    pub fn router(self: &Arc<Self>) -> Router {
        pages::router(self).merge(api::router(self))
    }

    /// Pushes transactions to the application service until `stop` completes: one at a time, in order, each with its
    /// own number, repeated with a growing wait until it is taken.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        let mut stop = pin!(stop);
        let mut failures = 0_u32;
        loop {
            let pushed = tokio::select! {
                () = &mut stop => return,
                pushed = self.push() => pushed,
            };
            match pushed {
                Pushed::Taken => failures = 0,
                Pushed::Nothing => tokio::select! {
                    () = &mut stop => return,
                    () = self.new_events.notified() => {}
                },
                Pushed::Failed => {
                    failures = (failures + 1).min(LONGEST_BACKOFF);
                    tokio::select! {
                        () = &mut stop => return,
                        () = tokio::time::sleep(self.options.retry_unit * 2_u32.pow(failures)) => {}
                        () = self.retry_now.notified() => {}
                    }
                }
            }
        }
    }

    async fn push(&self) -> Pushed {
        let Some(client) = lock(&self.appservice).clone() else { return Pushed::Nothing };
        if self.state.read(|homeserver| homeserver.in_flight.is_none() && homeserver.queue.is_empty()) {
            return Pushed::Nothing;
        }
        // The number is on disk before it is used: after a crash the same number brings the same events.
        let push = match self.state.update(Homeserver::next_push) {
            Ok(Some(push)) => push,
            Ok(None) => return Pushed::Nothing,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a transaction can't be kept");
                return Pushed::Failed;
            }
        };
        let id = push.id.to_string();
        let answer: Result<Value, _> = client
            .put(
                &["_matrix", "app", "v1", "transactions", &id],
                &[],
                &json!({ "events": push.events }),
                Some(self.options.hs_token.expose_secret()),
            )
            .await;
        let taken = match &answer {
            Ok(_) => true,
            // Any 2xx takes it, whatever its body.
            Err(error) => error.status.is_some_and(|status| (200..300).contains(&status)),
        };
        if !taken {
            tracing::debug!(transaction = push.id, "the application service didn't take a transaction");
            return Pushed::Failed;
        }
        match self.state.update(|homeserver| homeserver.in_flight = None) {
            Ok(()) => Pushed::Taken,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a taken transaction can't be noted"
                );
                Pushed::Failed
            }
        }
    }

    /// Changes the homeserver as `change` says, with everything that new events need.
    fn change<R>(
        &self,
        change: impl FnOnce(&mut Homeserver, &EventOrigin<'_>) -> Result<R, homeserver::MatrixError>,
    ) -> Result<R, homeserver::MatrixError> {
        let origin = EventOrigin {
            now: self.options.clock.now(),
            ids: &*self.options.ids,
            server_name: &self.options.server_name,
            sender_localpart: &self.options.sender_localpart,
        };
        let changed = self
            .state
            .update(|homeserver| change(homeserver, &origin))
            .map_err(|error| homeserver::error(500, "M_UNKNOWN", error.to_string()))?;
        self.new_events.notify_one();
        changed
    }
}

enum Pushed {
    Taken,
    Failed,
    Nothing,
}

fn appservice_client(url: Url) -> Result<HttpClient, ConnectorError> {
    // A homeserver waits between its pushes by rules of its own.
    HttpClient::builder(SERVICE, url).without_circuit().build()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
