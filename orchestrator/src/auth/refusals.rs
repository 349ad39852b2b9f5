//! Who names a tenant that they aren't in is recorded, in their own personal tenant: so that they and whoever looks into it
//! can see what was tried, and the tenant that was named, if there is one, learns and tells nothing.
//!
//! The answer doesn't wait for the record, and nobody looks whether the tenant exists: both are the same.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::principal::Principal;
use crate::{
    audit::{self, AuditFilter, Change},
    clock::SharedClock,
    db::Database,
    http::problem::ErrorChain,
    ids::{TenantId, UserId},
    lifecycle::Lifecycle,
};

const ACTION: &str = "tenant.access_refused";
const RESOURCE: &str = "tenant";
/// The same name by the same caller is recorded again only after this time.
const APART: TimeDelta = TimeDelta::minutes(1);
/// As many refusals may wait to be recorded.
const WAITING: usize = 1_000;
/// As many callers are remembered.
const REMEMBERED: usize = 10_000;
/// As many names of one caller are recorded in that time, and then one entry for all others.
const NAMES: usize = 20;
/// That entry's name.
const MORE: &str = "(and more)";
/// As much is kept of a name.
const NAME_CHARACTERS: usize = 200;

/// Where refusals are recorded. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Refusals {
    sender: mpsc::Sender<Message>,
    lately: Lately,
    clock: SharedClock,
}

#[derive(Debug)]
enum Message {
    Refused { caller: Arc<Principal>, name: String },
    Settled(oneshot::Sender<()>),
}

impl Refusals {
    /// Records until the process stops, and then what still waits.
    pub fn start(database: Database, clock: SharedClock, lifecycle: &Lifecycle) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        let lately = Lately::default();
        let recorder = Recorder { database, clock: Arc::clone(&clock), lately: lately.clone() };
        lifecycle.spawn(recorder.run(receiver, lifecycle.soft.clone()));
        Self { sender, lately, clock }
    }

    /// Notes that `caller` named a tenant that it isn't in. Where it named too many lately, or too many wait already, this one
    /// is only counted: nobody takes the place of others.
    pub fn note(&self, caller: &Arc<Principal>, named: &str) {
        metrics::counter!("chancery_tenant_refusals_total").increment(1);
        let Some(name) = self.lately.admit(caller.id, readable(named), self.clock.now()) else { return };
        let message = Message::Refused { caller: Arc::clone(caller), name: name.clone() };
        let reason = match self.sender.try_send(message) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(_)) => "too many",
            Err(mpsc::error::TrySendError::Closed(_)) => "stopping",
        };
        self.lately.forget(caller.id, &name);
        not_recorded(reason);
    }

    /// Waits until what was noted so far is recorded.
    pub async fn settled(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.sender.send(Message::Settled(sender)).await.is_ok() {
            // An error is the process stopping.
            let _ = receiver.await;
        }
    }
}

fn not_recorded(reason: &'static str) {
    metrics::counter!("chancery_tenant_refusals_not_recorded_total", "reason" => reason).increment(1);
}

/// A name as it is recorded: one spelling of a UUID, no invisible characters, not too long, not empty.
fn readable(named: &str) -> String {
    if let Ok(id) = named.parse::<TenantId>() {
        return id.to_string();
    }
    let visible =
        named.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char });
    let name: String = visible.take(NAME_CHARACTERS).collect();
    if name.is_empty() { "(nothing)".to_owned() } else { name }
}

/// Names, and when they were recorded.
type Names = HashMap<String, DateTime<Utc>>;

/// What each caller named lately.
#[derive(Debug, Clone, Default)]
struct Lately(Arc<Mutex<HashMap<UserId, Names>>>);

impl Lately {
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, Names>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name to record: this one, or that there are more; none where that was done a moment ago.
    fn admit(&self, caller: UserId, mut name: String, now: DateTime<Utc>) -> Option<String> {
        let mut callers = self.lock();
        if callers.len() >= REMEMBERED && !callers.contains_key(&caller) {
            callers.retain(|_, names| names.values().any(|at| now - *at < APART));
            if callers.len() >= REMEMBERED {
                not_recorded("too many");
                return None;
            }
        }
        let names = callers.entry(caller).or_default();
        names.retain(|_, at| now - *at < APART);
        if names.contains_key(&name) {
            return None;
        }
        let is_told = names.contains_key(MORE);
        if names.len() - usize::from(is_told) >= NAMES {
            not_recorded("too many names");
            if is_told {
                return None;
            }
            MORE.clone_into(&mut name);
        }
        names.insert(name.clone(), now);
        Some(name)
    }

    /// It could not be recorded: the next one is to be.
    fn forget(&self, caller: UserId, name: &str) {
        let mut callers = self.lock();
        if let Some(names) = callers.get_mut(&caller) {
            names.remove(name);
            if names.is_empty() {
                callers.remove(&caller);
            }
        }
    }
}

struct Recorder {
    database: Database,
    clock: SharedClock,
    lately: Lately,
}

impl Recorder {
    async fn run(self, mut receiver: mpsc::Receiver<Message>, stop: CancellationToken) {
        loop {
            let message = tokio::select! {
                message = receiver.recv() => message,
                () = stop.cancelled() => {
                    receiver.close();
                    receiver.recv().await
                }
            };
            match message {
                Some(Message::Refused { caller, name }) => self.record(caller, &name).await,
                Some(Message::Settled(sender)) => drop(sender.send(())),
                None => return,
            }
        }
    }

    async fn record(&self, caller: Arc<Principal>, name: &str) {
        let now = self.clock.now();
        let id = caller.id;
        let personal = TenantId(id.0);
        if caller.grant(personal).is_none() {
            return not_recorded("no personal tenant");
        }
        if let Err(error) = self.write(caller, personal, name, now).await {
            self.lately.forget(id, name);
            not_recorded("database");
            tracing::warn!(error = %ErrorChain(&error), "that somebody named a tenant of others could not be recorded");
        }
    }

    async fn write(
        &self,
        caller: Arc<Principal>,
        personal: TenantId,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<(), sqlx::Error> {
        let mut tx = self.database.tenant_tx_in(caller, personal).await?;
        // Another replica may have done it.
        let lately = AuditFilter {
            tenants: vec![personal],
            action: Some(ACTION.to_owned()),
            resource: Some((RESOURCE.to_owned(), name.to_owned())),
            from: Some(now - APART + TimeDelta::microseconds(1)),
            limit: 1,
            ..AuditFilter::default()
        };
        if !audit::page(&mut tx, &lately).await?.items.is_empty() {
            return Ok(());
        }
        let metadata = json!({ "named": name });
        let change = Change {
            action: ACTION,
            resource: RESOURCE,
            resource_id: name.to_owned(),
            old_values: None,
            new_values: None,
            metadata: Some(&metadata),
        };
        audit::record(&mut tx, change).await?;
        tx.commit().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_many_tenants_fills_neither_the_trail_nor_the_place_of_others() {
        let lately = Lately::default();
        let caller = |number: u128| UserId(uuid::Uuid::from_u128(number));
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let recorded = |at: DateTime<Utc>| -> Vec<String> {
            (0..20_000).filter_map(|number| lately.admit(caller(1), format!("/{number}"), at)).collect()
        };
        let first: Vec<String> =
            (0..NAMES).map(|number| format!("/{number}")).chain([MORE.to_owned()]).collect();
        assert_eq!(recorded(start), first);
        assert_eq!(recorded(start + APART - TimeDelta::seconds(1)), [""; 0]);
        assert_eq!(
            lately.admit(caller(2), "/x".to_owned(), start).as_deref(),
            Some("/x"),
            "others are recorded"
        );
        assert_eq!(recorded(start + APART), first);
        // What could not be recorded is so the next time.
        lately.forget(caller(1), "/0");
        assert_eq!(lately.admit(caller(1), "/0".to_owned(), start + APART).as_deref(), Some("/0"));
    }

    #[test]
    fn a_name_is_recorded_in_one_spelling_and_never_too_long() {
        let id = "0b000000-0000-4000-8000-0000000000ff";
        for spelling in
            [id.to_uppercase(), format!("{{{id}}}"), format!("urn:uuid:{id}"), id.replace('-', "")]
        {
            assert_eq!(readable(&spelling), id, "{spelling}");
        }
        assert_eq!(readable("/teams/a\0\nb"), "/teams/a\u{fffd}\u{fffd}b");
        assert_eq!(readable(&"ä".repeat(500)).chars().count(), NAME_CHARACTERS);
        assert_eq!(readable(""), "(nothing)");
    }
}
