//! What has become of everything, read from the database and from Chatwoot's double. Whoever changes how effects are recorded
//! changes [`effects`] and [`timeline`].

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chancery::auth::{Permission, Role};
use connector_chatwoot::fake::ACCOUNT_ID;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::{
    follower::Heard,
    stage::Stage,
    verdict::{Escalated, Found, Note, Numbers},
};

const POLL: Duration = Duration::from_millis(250);
/// The roles of who listens (acme-ceo in the realm).
const LISTENER: [Role; 1] = [Role::Approver];

/// Waits until nothing waits any more, and says how much does at the end of the time.
pub(crate) async fn drained(stage: &Stage, limit: Duration) -> anyhow::Result<i64> {
    let mut superuser = stage.superuser().await?;
    let begun = Instant::now();
    loop {
        let waiting = waiting(&mut superuser).await?;
        if waiting == 0 || begun.elapsed() > limit {
            return Ok(waiting);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How many events and jobs are still to be done.
async fn waiting(superuser: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM inbox_pending)
              + (SELECT count(*) FROM inbox_failures WHERE state IN ('ready', 'parked', 'replaying'))
              + (SELECT count(*) FROM jobs WHERE state IN ('ready', 'running'))",
    )
    .fetch_one(superuser)
    .await
}

/// The events that have had an effect, in the order of the effects, as the tenant's stream has told of them: it is only ever
/// appended to, so that an effect can't hide behind another.
async fn effects(superuser: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("SELECT resource_id FROM events WHERE type = 'webhook.received' ORDER BY sequence")
        .fetch_all(superuser)
        .await
}

/// The events whose effect was in another transaction than the one that has removed their mark: who dies between the two loses the
/// effect, or has it twice.
async fn apart(superuser: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT resource_id FROM events
         WHERE type = 'webhook.received' AND NOT EXISTS (
             SELECT 1 FROM chaos.removed WHERE removed.event_id = resource_id AND removed.transaction::xid = events.xmin)",
    )
    .fetch_all(superuser)
    .await
}

/// How many attempts have failed.
pub(crate) async fn failed_attempts(superuser: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM inbox_attempts WHERE outcome = 'failed'")
        .fetch_one(superuser)
        .await
}

/// The events on the timeline, each as often as it has run.
async fn timeline(superuser: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("SELECT event_id FROM timeline CROSS JOIN generate_series(1, runs)")
        .fetch_all(superuser)
        .await
}

/// The events that were given up.
async fn dead(superuser: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT format('%s after %s attempts (%s): %s', event_id, attempts, cause, last_error)
         FROM inbox_failures WHERE state IN ('dead', 'discarded') ORDER BY seq",
    )
    .fetch_all(superuser)
    .await
}

/// Reads everything that the verdict is made of.
pub(crate) async fn gather(stage: &Stage, waiting: i64, heard: &Heard) -> anyhow::Result<Found> {
    let mut superuser = stage.superuser().await?;
    let superuser = &mut superuser;
    let effects = effects(superuser).await?;
    let apart = apart(superuser).await?;
    let failed_attempts = failed_attempts(superuser).await?;
    let timeline = timeline(superuser).await?;
    let dead = dead(superuser).await?;
    let dead_jobs = sqlx::query_scalar(
        "SELECT format('%s %s after %s attempts: %s', kind, key, attempts, last_error) FROM jobs WHERE state = 'dead'",
    )
    .fetch_all(&mut *superuser)
    .await?;
    let mirror: HashMap<i64, String> =
        sqlx::query("SELECT display_id, last_message FROM conversations WHERE last_message IS NOT NULL")
            .fetch_all(&mut *superuser)
            .await?
            .iter()
            .map(|row| (row.get("display_id"), row.get("last_message")))
            .collect();
    let keys = sqlx::query_scalar("SELECT count(*) FROM inbox_keys").fetch_one(&mut *superuser).await?;
    let row = sqlx::query(
        "SELECT (SELECT last_sequence FROM event_streams WHERE tenant_id = $1) AS newest,
                coalesce(min(sequence), 0) AS lowest, coalesce(max(sequence), 0) AS highest, count(*) AS count
         FROM events WHERE tenant_id = $1",
    )
    .bind(stage.target.tenant)
    .fetch_one(&mut *superuser)
    .await?;
    let numbers = Numbers {
        newest: row.get::<Option<i64>, _>("newest").unwrap_or(0),
        lowest: row.get("lowest"),
        highest: row.get("highest"),
        count: row.get("count"),
    };
    let readable: Vec<&str> = Permission::ALL
        .iter()
        .filter(|permission| LISTENER.iter().any(|role| role.grants(**permission)))
        .map(|permission| permission.as_str())
        .collect();
    let told: Vec<i64> = sqlx::query_scalar(
        "SELECT sequence FROM events WHERE tenant_id = $1 AND permission = ANY ($2) ORDER BY sequence",
    )
    .bind(stage.target.tenant)
    .bind(readable)
    .fetch_all(&mut *superuser)
    .await?;
    let escalated: Vec<Escalated> = sqlx::query(
        "SELECT id, source_conversation::bigint AS conversation, source_message::bigint AS message FROM approvals
         WHERE source_conversation IS NOT NULL ORDER BY id",
    )
    .fetch_all(&mut *superuser)
    .await?
    .iter()
    .map(|row| Escalated {
        approval: row.get("id"),
        conversation: row.get("conversation"),
        message: row.get("message"),
    })
    .collect();
    let mut conversations: Vec<i64> = mirror.keys().copied().collect();
    conversations.sort_unstable();
    let (heard, skipped) = (all_heard(heard, &told).await, heard.skipped());
    Ok(Found {
        source: stage.target.source,
        effects,
        apart,
        failed_attempts,
        timeline,
        notes: notes(stage, &conversations).await?,
        mirror,
        dead,
        dead_jobs,
        waiting,
        keys,
        numbers,
        told,
        heard,
        skipped,
        escalated,
        panics: stage.panics()?,
    })
}

/// What was heard, once the last was, or it doesn't come.
async fn all_heard(heard: &Heard, told: &[i64]) -> Vec<i64> {
    const LIMIT: Duration = Duration::from_secs(20);
    let begun = Instant::now();
    loop {
        let numbers = heard.numbers();
        if numbers.last() >= told.last() || begun.elapsed() > LIMIT {
            return numbers;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The private notes of conversations in Chatwoot's double.
async fn notes(stage: &Stage, conversations: &[i64]) -> anyhow::Result<Vec<Note>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let chatwoot = &stage.doubles.chatwoot;
    let mut notes = Vec::new();
    for conversation in conversations {
        // With `after`, the first hundred are shown; there are a handful.
        let url = format!(
            "{}api/v1/accounts/{ACCOUNT_ID}/conversations/{conversation}/messages?after=0",
            chatwoot.public_url()
        );
        let answer = client
            .get(url)
            .header("api-access-token", chatwoot.admin_token().expose_secret())
            .send()
            .await?
            .error_for_status()?;
        let page: Value = answer.json().await?;
        let messages = page["payload"].as_array().context("there are no messages")?;
        for message in messages.iter().filter(|message| message["private"] == true) {
            let marker = message["source_id"].as_str().unwrap_or_default().to_owned();
            notes.push(Note { conversation: *conversation, marker });
        }
    }
    Ok(notes)
}
