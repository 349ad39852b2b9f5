//! Who names a tenant that they aren't in is recorded, in their own personal tenant: so that they and whoever looks into it
//! can see what was tried, and the tenant that was named, if there is one, learns and tells nothing.
//!
//! The answer doesn't wait for the record, and nobody looks whether the tenant exists: both are the same.

use std::{collections::HashMap, sync::Arc};

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
/// As many are remembered as recorded a moment ago.
const REMEMBERED: usize = 10_000;
/// As much is kept of a name.
const NAME_CHARACTERS: usize = 200;

/// Where refusals are recorded. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Refusals {
    sender: mpsc::Sender<Message>,
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
        let recorder = Recorder { database, clock, recorded: HashMap::new() };
        lifecycle.spawn(recorder.run(receiver, lifecycle.soft.clone()));
        Self { sender }
    }

    /// Notes that `caller` named a tenant that it isn't in. Where too many wait already, this one is only counted.
    pub fn note(&self, caller: &Arc<Principal>, named: &str) {
        metrics::counter!("chancery_tenant_refusals_total").increment(1);
        let message = Message::Refused { caller: Arc::clone(caller), name: readable(named) };
        match self.sender.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => not_recorded("too many"),
            Err(mpsc::error::TrySendError::Closed(_)) => not_recorded("stopping"),
        }
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

struct Recorder {
    database: Database,
    clock: SharedClock,
    /// When a caller's refusal by this name was recorded last.
    recorded: HashMap<(UserId, String), DateTime<Utc>>,
}

impl Recorder {
    async fn run(mut self, mut receiver: mpsc::Receiver<Message>, stop: CancellationToken) {
        loop {
            let message = tokio::select! {
                message = receiver.recv() => message,
                () = stop.cancelled() => {
                    receiver.close();
                    receiver.recv().await
                }
            };
            match message {
                Some(Message::Refused { caller, name }) => self.record(caller, name).await,
                Some(Message::Settled(sender)) => drop(sender.send(())),
                None => return,
            }
        }
    }

    async fn record(&mut self, caller: Arc<Principal>, name: String) {
        let now = self.clock.now();
        let key = (caller.id, name);
        if self.recorded.get(&key).is_some_and(|at| now - *at < APART) {
            return;
        }
        if self.recorded.len() >= REMEMBERED {
            self.recorded.retain(|_, at| now - *at < APART);
        }
        if self.recorded.len() >= REMEMBERED {
            return not_recorded("too many");
        }
        let personal = TenantId(caller.id.0);
        if caller.grant(personal).is_none() {
            return not_recorded("no personal tenant");
        }
        match self.write(caller, personal, &key.1, now).await {
            Ok(()) => drop(self.recorded.insert(key, now)),
            Err(error) => {
                not_recorded("database");
                tracing::warn!(error = %ErrorChain(&error), "that somebody named a tenant of others could not be recorded");
            }
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
