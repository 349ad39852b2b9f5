//! Posts as Chatwoot does, but for one thing: what got no 200 is posted again, to whichever replica, until it gets one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use connector_chatwoot::webhook::{DELIVERY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};
use connector_core::{Clock as _, SystemClock};
use rand::{RngExt as _, rngs::StdRng};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    stage::Target,
    verdict::{Kind, Posted, Received},
};

/// How long an answer may take: as long as Chatwoot waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an event may go without a 200 before the test gives up.
const MOST_WITHOUT_ANSWER: Duration = Duration::from_mins(3);
/// How often a sender hangs up before it can have heard the answer.
const HANGS_UP: f64 = 0.02;
/// How often an event that got its 200 is sent again.
const REPEATS: f64 = 0.05;
/// The message's ids begin far above those that the double gives to notes.
const FIRST_MESSAGE: i64 = 1_000_000_000;
const MOST_IN_A_CONVERSATION: i64 = 10_000_000;
const ESCALATOR: &str = "acme-agent@acme.example";

/// What became of all attempts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    attempts: Mutex<BTreeMap<String, u64>>,
    /// The longest that an event had to wait for its 200.
    longest: Mutex<Duration>,
}

impl Counters {
    /// How many events have got their 200.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many attempts ended how.
    pub fn attempts(&self) -> BTreeMap<String, u64> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The longest that an event had to wait for its 200.
    pub fn longest(&self) -> Duration {
        *self.longest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, outcome: impl Into<String>) {
        *self.attempts.lock().unwrap_or_else(PoisonError::into_inner).entry(outcome.into()).or_default() += 1;
    }

    fn waited(&self, waited: Duration) {
        let mut longest = self.longest.lock().unwrap_or_else(PoisonError::into_inner);
        *longest = waited.max(*longest);
    }
}

/// A conversation whose events are posted one after the other.
pub(crate) struct Subject {
    conversation: i64,
    /// After how many events each an agent escalates it; never, where it is none.
    escalate_at: Vec<u32>,
    posted: Vec<Posted>,
    last: DateTime<Utc>,
}

impl Subject {
    /// A conversation that an agent escalates at these places among its events.
    pub fn new(conversation: i64, escalate_at: Vec<u32>) -> Self {
        Self { conversation, escalate_at, posted: Vec::new(), last: DateTime::UNIX_EPOCH }
    }

    /// The next event, and its body.
    fn next(&mut self) -> anyhow::Result<(Posted, String)> {
        let number = u32::try_from(self.posted.len())?;
        let message = FIRST_MESSAGE + self.conversation * MOST_IN_A_CONVERSATION + i64::from(number);
        let kind = if self.escalate_at.contains(&number) { Kind::Escalation } else { Kind::Message };
        let content = match kind {
            Kind::Message => format!("Event {number} of conversation {}.", self.conversation),
            Kind::Escalation => format!("/escalate Event {number} of conversation {}.", self.conversation),
        };
        // No two events of a conversation happened at the same time.
        self.last = SystemClock.now().max(self.last + TimeDelta::milliseconds(1));
        let posted =
            Posted { conversation: self.conversation, number, message, kind, content, answers: Vec::new() };
        let body = body(&posted, self.last);
        Ok((posted, body))
    }
}

/// The event as Chatwoot 4.15 writes it.
fn body(event: &Posted, at: DateTime<Utc>) -> String {
    let escalates = event.kind == Kind::Escalation;
    #[expect(clippy::cast_precision_loss, reason = "the microseconds of centuries fit into 52 bits")]
    let updated_at = at.timestamp_micros() as f64 / 1e6;
    let customer = json!({
        "additional_attributes": {}, "custom_attributes": {}, "email": "connie@customer.example", "id": 70, "identifier": null,
        "name": "Connie Customer", "phone_number": null, "thumbnail": "", "blocked": false, "type": "contact",
    });
    let sender = if escalates {
        json!({ "id": 8, "name": "Ada Agent", "email": ESCALATOR, "type": "user" })
    } else {
        customer.clone()
    };
    json!({
        "account": { "id": 1, "name": "Acme Corp" },
        "additional_attributes": {}, "content_attributes": {}, "content_type": "text", "content": event.content,
        "conversation": {
            "additional_attributes": {}, "can_reply": true, "channel": "Channel::Api", "id": event.conversation, "inbox_id": 2,
            "messages": [], "labels": [], "meta": { "sender": customer, "assignee": null, "team": null, "hmac_verified": false },
            "status": "open", "custom_attributes": {}, "snoozed_until": null, "unread_count": 1, "priority": null,
            "created_at": at.timestamp(), "timestamp": at.timestamp(), "updated_at": updated_at,
        },
        "created_at": at.to_rfc3339_opts(SecondsFormat::Millis, true), "id": event.message, "inbox": { "id": 2, "name": "App" },
        "message_type": if escalates { "outgoing" } else { "incoming" }, "private": escalates, "sender": sender, "source_id": null,
        "event": "message_created",
    })
    .to_string()
}

#[derive(Deserialize)]
struct Answer {
    id: Uuid,
    duplicate: bool,
}

/// How one attempt ended.
enum Attempt {
    Accepted(Received),
    /// Not now, and it says so.
    Refused,
    /// Nothing was heard.
    Nothing,
}

/// Posts the events of several conversations, one event at a time.
pub(crate) struct Sender {
    target: Arc<Target>,
    client: reqwest::Client,
    subjects: Vec<Subject>,
    /// The most milliseconds between two events.
    pause: u64,
    random: StdRng,
    /// The replica that it posts to until that fails.
    replica: usize,
    counters: Arc<Counters>,
}

impl Sender {
    pub fn new(
        target: Arc<Target>,
        subjects: Vec<Subject>,
        pause: u64,
        mut random: StdRng,
        counters: Arc<Counters>,
    ) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(1).build()?;
        let replica = random.random_range(0..target.addresses.len());
        Ok(Self { target, client, subjects, pause, random, replica, counters })
    }

    /// Posts until it is told to stop; what was begun then gets its 200. Everything that was posted.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<Vec<Posted>> {
        while !stop.is_cancelled() {
            let index = self.random.random_range(0..self.subjects.len());
            let (event, body) = self.subjects[index].next()?;
            let event = self.post_until_accepted(event, &body).await?;
            let answered = !event.answers.is_empty();
            self.subjects[index].posted.push(event);
            if !answered {
                // The verdict tells of it; what comes after it in this conversation can't be sent.
                break;
            }
            if self.random.random_bool(REPEATS) {
                self.repeat(index).await?;
            }
            let pause = Duration::from_millis(self.random.random_range(0..=self.pause));
            tokio::time::sleep(pause).await;
        }
        Ok(self.subjects.into_iter().flat_map(|subject| subject.posted).collect())
    }

    async fn post_until_accepted(&mut self, mut event: Posted, body: &str) -> anyhow::Result<Posted> {
        let begun = Instant::now();
        while begun.elapsed() < MOST_WITHOUT_ANSWER {
            let hangs_up = self.random.random_bool(HANGS_UP);
            let patience =
                if hangs_up { Duration::from_millis(self.random.random_range(0..8)) } else { PATIENCE };
            match self.attempt(body, patience).await? {
                Attempt::Accepted(received) => {
                    event.answers.push(received);
                    self.counters.accepted.fetch_add(1, Ordering::Relaxed);
                    self.counters.waited(begun.elapsed());
                    return Ok(event);
                }
                Attempt::Nothing if hangs_up => {}
                Attempt::Refused | Attempt::Nothing => {
                    self.replica = (self.replica + 1) % self.target.addresses.len();
                    let pause = Duration::from_millis(self.random.random_range(5..100));
                    tokio::time::sleep(pause).await;
                }
            }
        }
        self.counters.waited(begun.elapsed());
        Ok(event)
    }

    /// Posts an event again that got its 200, once: often the last one, to any replica.
    async fn repeat(&mut self, index: usize) -> anyhow::Result<()> {
        let count = self.subjects[index].posted.len();
        let again = if self.random.random_bool(0.5) { count - 1 } else { self.random.random_range(0..count) };
        // The time that it tells needn't be the same: what makes it the same event is.
        let body = body(&self.subjects[index].posted[again], SystemClock.now());
        let replica = self.random.random_range(0..self.target.addresses.len());
        let before = std::mem::replace(&mut self.replica, replica);
        let attempt = self.attempt(&body, PATIENCE).await?;
        self.replica = before;
        if let Attempt::Accepted(received) = attempt {
            self.subjects[index].posted[again].answers.push(received);
        }
        Ok(())
    }

    async fn attempt(&self, body: &str, patience: Duration) -> anyhow::Result<Attempt> {
        let now = SystemClock.now();
        let address = self.target.addresses[self.replica];
        let request = self
            .client
            .post(format!("http://{address}/api/v1/webhooks/chatwoot/{}", self.target.source))
            .header("content-type", "application/json")
            .header(TIMESTAMP_HEADER, now.timestamp().to_string())
            .header(SIGNATURE_HEADER, sign(&self.target.secret, now, body.as_bytes()))
            .header(DELIVERY_HEADER, self.delivery(body).to_string())
            .body(body.to_owned());
        let answer = tokio::time::timeout(patience, async {
            let answer = request.send().await?;
            let status = answer.status();
            Ok::<_, reqwest::Error>((status, answer.bytes().await?))
        });
        let (status, bytes) = match answer.await {
            Err(_) => {
                self.counters.count(if patience == PATIENCE { "no answer in time" } else { "hung up" });
                return Ok(Attempt::Nothing);
            }
            Ok(Err(_)) => {
                self.counters.count("no connection");
                return Ok(Attempt::Nothing);
            }
            Ok(Ok(answer)) => answer,
        };
        self.counters.count(status.as_u16().to_string());
        if status == reqwest::StatusCode::OK {
            let Answer { id, duplicate } =
                serde_json::from_slice(&bytes).context("a 200 that says nothing")?;
            return Ok(Attempt::Accepted(Received { id, duplicate }));
        }
        // Chatwoot sends each event once: what is right must not be refused but for the moment.
        anyhow::ensure!(
            status == reqwest::StatusCode::TOO_MANY_REQUESTS || status.is_server_error(),
            "a signed event was refused with {status}: {}",
            String::from_utf8_lossy(&bytes)
        );
        Ok(Attempt::Refused)
    }

    /// The delivery's id: the same for each attempt, as Chatwoot's are.
    fn delivery(&self, body: &str) -> Uuid {
        Uuid::new_v5(&self.target.source, body.as_bytes())
    }
}
