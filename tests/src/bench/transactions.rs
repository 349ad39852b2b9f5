//! What a homeserver pushes: how many events a second are accepted and processed, in transactions of 100.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chancery::{crypto::MasterKey, ids::RandomIds};
use connector_core::{Clock as _, SystemClock};
use serde_json::json;
use uuid::Uuid;

use crate::{
    client::{Connection, request},
    inbox::{count, drained},
    report::{Report, Row, say},
    stage::Stage,
};

const SOURCE: Uuid = Uuid::from_u128(0x1b0c_0000_0000_4000_8000_0000_0000_0002);
const TOKEN: &str = "the-homeserver-of-the-benchmark";
/// As many events as Synapse puts into a transaction.
const EVENTS: u32 = 100;
const ROOMS: u32 = 20;

/// A transaction as the bytes of a request: messages of about 0.4 KB in several rooms.
fn transaction(number: u32) -> Vec<u8> {
    let now = SystemClock.now().timestamp_millis();
    let mut body = String::from("{\"events\":[");
    for event in 0..EVENTS {
        if event > 0 {
            body.push(',');
        }
        let room = event % ROOMS;
        // Writing to a text can't fail.
        let _ = write!(
            body,
            "{{\"type\":\"m.room.message\",\"event_id\":\"$benchmark-{number}-{event}-AAAAAAAAAAAAAAAAAAAAAAAAA\",\"room_id\":\"!benchmark-{room}:chancery.localhost\",\
             \"sender\":\"@acme-agent:chancery.localhost\",\"origin_server_ts\":{now},\"unsigned\":{{\"age\":4}},\
             \"content\":{{\"msgtype\":\"m.text\",\"body\":\"Who looks at order number {event}? It was to arrive last week, and the customer has asked twice.\"}}}}"
        );
    }
    body.push_str("]}");
    let path = format!("/api/v1/webhooks/matrix/{SOURCE}/_matrix/app/v1/transactions/{number}");
    request("PUT", &path, TOKEN, "", &body)
}

async fn register(stage: &Stage) -> anyhow::Result<()> {
    let key = MasterKey::read(&stage.key_file())?;
    let secrets = key.seal(&RandomIds, "webhook source secrets", &serde_json::to_vec(&json!([TOKEN]))?)?;
    let mut superuser = stage.superuser().await?;
    sqlx::query(
        "INSERT INTO webhook_sources (tenant_id, id, service, name, account, scheme, created_at, updated_at)
         VALUES ($1, $2, 'matrix', 'Matrix bench', 'chancery.localhost', '{\"type\":\"matrix\"}', now(), now()) ON CONFLICT DO NOTHING",
    )
    .bind(Uuid::nil())
    .bind(SOURCE)
    .execute(&mut superuser)
    .await?;
    sqlx::query(
        "INSERT INTO webhook_source_secrets (tenant_id, source_id, id, purpose, sealed, created_at, valid_from)
         VALUES ($1, $2, $2, 'signature', $3, now(), now()) ON CONFLICT DO NOTHING",
    )
    .bind(Uuid::nil())
    .bind(SOURCE)
    .bind(secrets)
    .execute(&mut superuser)
    .await?;
    Ok(())
}

/// Sends transactions one after the other, each when the one before was taken, as Synapse does.
async fn send(connection: &mut Connection, numbers: &mut u32, time: Duration) -> anyhow::Result<u32> {
    let (begun, mut sent) = (Instant::now(), 0);
    while begun.elapsed() < time {
        *numbers += 1;
        let answer = connection.send(&transaction(*numbers)).await?;
        anyhow::ensure!(answer.status == 200, "answered {}", answer.status);
        sent += 1;
    }
    Ok(sent)
}

pub(crate) async fn measure(stage: &Stage, report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let server = stage.serve().await?;
    register(stage).await?;
    let mut connection = Connection::open(server.address).await?;
    let mut numbers = 0;
    send(&mut connection, &mut numbers, Duration::from_secs(1)).await?;
    drained(stage).await?;
    let before = count(stage, "SELECT count(*) FROM timeline").await?;
    let begun = Instant::now();
    let sent = send(&mut connection, &mut numbers, Duration::from_secs(seconds)).await?;
    let accepted = begun.elapsed().as_secs_f64();
    drained(stage).await?;
    let took = begun.elapsed().as_secs_f64();
    let processed = count(stage, "SELECT count(*) FROM timeline").await? - before;
    let events = sent.checked_mul(EVENTS).context("too many")?;
    anyhow::ensure!(processed >= i64::from(events), "of {events} events only {processed} were processed");
    say(&format!(
        "  {sent} transactions were taken within {accepted:.1} s, and everything was processed {:.2} s later",
        took - accepted
    ));
    report.add(Row {
        name: "matrix.transaction_event_rate",
        value: f64::from(events) / took,
        unit: "/s",
        yardstick: None,
        ratio: None,
    });
    server.stop().await
}
