//! The inbox: how many signed webhooks a second are accepted and processed, and how long that takes.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chancery::{crypto::MasterKey, ids::RandomIds};
use connector_core::{Clock as _, SystemClock};
use connector_keycloak::fake::Signature;
use secrecy::SecretString;
use serde_json::{Map, json};
use sqlx::{Connection as _, Executor as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use uuid::Uuid;

use crate::{
    client::{Connection, request},
    pgbench,
    report::{Report, Row, percentile, say},
    stage::{Server, Stage},
};

pub(crate) const ROWS: [&str; 6] = [
    "inbox.accept_rate",
    "inbox.accept_p99_ms",
    "inbox.effect_rate",
    "inbox.effect_p99_ms",
    "inbox.accept_rate_backlog",
    "inbox.rss_mib",
];

const CONNECTIONS: u32 = 64;
const TENANT: &str = "/organizations/acme-corp";
const SOURCE: Uuid = Uuid::from_u128(0x1b0c_0000_0000_4000_8000_0000_0000_0001);
const SECRET: &str = "the-secret-of-the-benchmark";
/// The messages are of so many conversations.
const CONVERSATIONS: u64 = 2_000;
const BACKLOG: i64 = 1_000_000;
/// So many a second, for the time from a webhook to its effect.
const STEADY: u32 = 200;

/// Messages are numbered throughout, so that each is new.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A signed `message_created` of about 0.8 KB, as the bytes of a request.
fn message(conversation: u64) -> Vec<u8> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = SystemClock.now();
    let body = json!({
        "event": "message_created", "id": number, "content": format!("Where is my order number {number}? It was to arrive last week."),
        "message_type": "incoming", "private": false, "content_type": "text", "content_attributes": {}, "source_id": null,
        "created_at": now.to_rfc3339(),
        "sender": { "id": conversation + 70, "name": "Connie Customer", "email": "connie@customer.example", "phone_number": null, "avatar": "",
                    "additional_attributes": {}, "custom_attributes": {}, "identifier": null, "blocked": false, "type": "contact" },
        "account": { "id": 1, "name": "Acme Corp" }, "inbox": { "id": 2, "name": "Website" },
        "conversation": {
            "id": conversation, "inbox_id": 2, "status": "open", "labels": ["orders"], "updated_at": now.timestamp(), "channel": "Channel::WebWidget",
            "can_reply": true, "unread_count": 1, "priority": null, "additional_attributes": {}, "custom_attributes": {},
            "meta": { "sender": { "id": conversation + 70, "name": "Connie Customer", "email": "connie@customer.example" } },
        },
    })
    .to_string();
    let signature = connector_chatwoot::webhook::sign(&SecretString::from(SECRET), now, body.as_bytes());
    let headers = format!(
        "X-Chatwoot-Delivery: {}\r\nX-Chatwoot-Timestamp: {}\r\nX-Chatwoot-Signature: {signature}\r\n",
        Uuid::from_u128(u128::from(number)),
        now.timestamp()
    );
    request("POST", &format!("/api/v1/webhooks/chatwoot/{SOURCE}"), "none", &headers, &body)
}

/// New messages over all conversations.
fn messages(count: usize) -> Arc<Vec<Vec<u8>>> {
    Arc::new((0..CONVERSATIONS).cycle().take(count).map(|number| message(number + 1)).collect())
}

/// What a load has measured.
struct Load {
    /// Answered with 200, a second.
    rate: f64,
    /// How long each took, in milliseconds.
    latencies: Vec<f64>,
}

/// Sends the messages over all connections for so long: as fast as they are answered, or evenly at `rate` a second. On a thread of its
/// own, so that client and stage don't share a scheduler.
async fn load(
    address: SocketAddr,
    messages: Arc<Vec<Vec<u8>>>,
    seconds: u64,
    rate: Option<f64>,
) -> anyhow::Result<Load> {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, send_all(address, messages, seconds, rate))
    });
    tokio::task::spawn_blocking(move || thread.join().map_err(|_| anyhow::anyhow!("the client panicked"))?)
        .await?
}

async fn send_all(
    address: SocketAddr,
    messages: Arc<Vec<Vec<u8>>>,
    seconds: u64,
    rate: Option<f64>,
) -> anyhow::Result<Load> {
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for index in 0..CONNECTIONS {
        let (messages, next) = (Arc::clone(&messages), Arc::clone(&next));
        tasks.push(tokio::task::spawn_local(async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut buffer = Vec::with_capacity(2048);
            let mut latencies = Vec::new();
            let pause = rate.map(|rate| Duration::from_secs_f64(f64::from(CONNECTIONS) / rate));
            let mut due = begun + pause.unwrap_or_default() * index / CONNECTIONS;
            loop {
                let mut from = Instant::now();
                if let Some(pause) = pause {
                    if from < due {
                        tokio::time::sleep_until(due.into()).await;
                        from = Instant::now();
                    } else {
                        // The answer before came too late for it: that is part of its time.
                        from = due;
                    }
                    due += pause;
                }
                if Instant::now() >= until {
                    return Ok::<_, anyhow::Error>(latencies);
                }
                let message = messages
                    .get(next.fetch_add(1, Ordering::Relaxed))
                    .context("too few messages were prepared")?;
                stream.write_all(message).await?;
                read_answer(&mut stream, &mut buffer).await?;
                latencies.push(from.elapsed().as_secs_f64() * 1000.0);
            }
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousands")]
    let rate = latencies.len() as f64 / begun.elapsed().as_secs_f64();
    Ok(Load { rate, latencies })
}

/// Reads one answer, which has to be a 200 for something new.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
    buffer.clear();
    loop {
        anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed");
        // Looked for from the end, since nothing follows the answer; the client's time is the machine's, too.
        let Some(end) = memchr::memmem::rfind(buffer, b"\r\n\r\n") else { continue };
        let length = memchr::memmem::find(&buffer[..end], b"content-length: ").context("no length")?;
        let digits = buffer[length + 16..end].iter().take_while(|byte| byte.is_ascii_digit());
        let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
        if buffer.len() >= end + 4 + length {
            let is_new = memchr::memmem::find(&buffer[end..], b"false").is_some();
            anyhow::ensure!(
                buffer.starts_with(b"HTTP/1.1 200") && is_new,
                "answered: {}",
                String::from_utf8_lossy(buffer)
            );
            return Ok(());
        }
    }
}

/// A server with so many workers of the inbox, which knows the source.
async fn serve(stage: &Stage, workers: usize) -> anyhow::Result<Server> {
    let server = stage.serve_with(&[("CHANCERY__INBOX__WORKERS", workers.to_string())]).await?;
    let token = stage.doubles.keycloak.mint_access_token(
        "chancery-shell",
        "acme-ceo",
        Map::new(),
        Signature::Valid,
    )?;
    // Who asks for the first time makes the tenant known.
    let me =
        Connection::open(server.address).await?.send(&request("GET", "/api/v1/me", &token, "", "")).await?;
    anyhow::ensure!(me.status == 200, "/me: {}", me.status);
    let key = MasterKey::read(&stage.key_file())?;
    let secrets = key.seal(&RandomIds, "webhook source secrets", &serde_json::to_vec(&json!([SECRET]))?)?;
    let mut superuser = stage.superuser().await?;
    let tenant = stage.doubles.keycloak.group_id(TENANT)?;
    stage.register_source(tenant, SOURCE, "Inbox bench").await?;
    sqlx::query(
        "INSERT INTO webhook_source_secrets (tenant_id, source_id, id, purpose, sealed, created_at, valid_from)
         VALUES ($1, $2, $2, 'signature', $3, now(), now()) ON CONFLICT DO NOTHING",
    )
    .bind(tenant)
    .bind(SOURCE)
    .bind(secrets)
    .execute(&mut superuser)
    .await?;
    Ok(server)
}

/// Throws away what was received, so that the next load finds what this one has found.
async fn clear(stage: &Stage) -> anyhow::Result<()> {
    let mut superuser = stage.superuser().await?;
    superuser
        .execute("TRUNCATE inbox_events, inbox_keys, inbox_pending, inbox_failures, inbox_attempts, timeline, events, event_streams")
        .await?;
    superuser.execute("CHECKPOINT").await?;
    superuser.close().await?;
    Ok(())
}

/// Has the database write out what the load before has left, so that its aftermath isn't measured as part of the next.
async fn settle(stage: &Stage) -> anyhow::Result<()> {
    let mut superuser = stage.superuser().await?;
    superuser.execute("VACUUM ANALYZE inbox_keys, inbox_pending").await?;
    superuser.execute("CHECKPOINT").await?;
    superuser.close().await?;
    Ok(())
}

pub(crate) async fn count(stage: &Stage, sql: &'static str) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(sql).fetch_one(&mut stage.superuser().await?).await?)
}

/// The most memory that a server occupies while `work` runs, in MiB.
async fn watched<T>(
    server: &Server,
    most: &mut f64,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let now = server.resident_kib()? as f64 / 1024.0;
        *most = most.max(now);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
}

pub(crate) async fn measure(stage: &Stage, report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let row = |name, value, unit| Row { name, value, unit, yardstick: None, ratio: None };
    let mut rss = 0.0;
    let yardstick = pgbench::insert_rate(stage, seconds).await?;
    let beside = |row: Row| Row {
        yardstick: Some(format!("pgbench, single rows {yardstick:.0}/s")),
        ratio: Some(row.value / yardstick),
        ..row
    };
    // More than any machine of today accepts in this time.
    let plenty = usize::try_from(seconds * 60_000)?;

    let server = serve(stage, 0).await?;
    load(server.address, messages(40_000), 1, None).await?;
    let prepared = messages(plenty);
    let before = server.processor_micros()?;
    let accepted = watched(&server, &mut rss, load(server.address, prepared, seconds, None)).await?;
    let taken = server.processor_micros()? - before;
    let accept_rate = accepted.rate;
    report.add(beside(row("inbox.accept_rate", accept_rate, "/s")));
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousands")]
    let each = taken / accepted.latencies.len() as f64;
    say(&format!("  the server took {each:.1} us of a processor for each"));
    settle(stage).await?;
    let mut steady =
        load(server.address, messages(plenty), seconds, Some(accept_rate / 2.0)).await?.latencies;
    report.add(row("inbox.accept_p99_ms", percentile(&mut steady, 99.0), "ms"));
    let [half, most] = [50.0, 90.0].map(|percent| percentile(&mut steady, percent));
    say(&format!("  half of them within {half:.1} ms, 90 % within {most:.1} ms"));
    server.stop().await?;
    clear(stage).await?;

    let server = serve(stage, 10).await?;
    load(server.address, messages(40_000), 1, None).await?;
    let before = count(stage, "SELECT count(*) FROM timeline").await?;
    let prepared = messages(plenty);
    let begun = Instant::now();
    let accepted = watched(&server, &mut rss, load(server.address, prepared, seconds, None)).await?;
    let processed = count(stage, "SELECT count(*) FROM timeline").await? - before;
    let waiting = count(stage, "SELECT count(*) FROM inbox_pending").await?;
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousands")]
    let effect_rate = processed as f64 / begun.elapsed().as_secs_f64();
    report.add(beside(row("inbox.effect_rate", effect_rate, "/s")));
    let lag: f64 = sqlx::query_scalar(
        "SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM processed_at - received_at)::float8 * 1000)
         FROM timeline JOIN inbox_events ON inbox_events.tenant_id = timeline.tenant_id AND inbox_events.id = timeline.event_id",
    )
    .fetch_one(&mut stage.superuser().await?)
    .await?;
    say(&format!(
        "  meanwhile accepted {:.0}/s; {waiting} waited at the end; of those processed, 99 % were within {lag:.0} ms",
        accepted.rate
    ));
    drained(stage).await?;
    settle(stage).await?;
    report.add(row("inbox.effect_p99_ms", effect_p99(stage, &server, seconds).await?, "ms"));
    server.stop().await?;
    clear(stage).await?;

    let server = serve(stage, 0).await?;
    load(server.address, messages(2_000), 1, Some(2_000.0)).await?;
    server.stop().await?;
    pile_up(stage).await?;
    let server = serve(stage, 10).await?;
    load(server.address, messages(40_000), 1, None).await?;
    let before = count(stage, "SELECT count(*) FROM timeline").await?;
    let accepted = watched(&server, &mut rss, load(server.address, messages(plenty), seconds, None)).await?;
    let processed = count(stage, "SELECT count(*) FROM timeline").await? - before;
    report.add(Row {
        yardstick: Some(format!("inbox.accept_rate {accept_rate:.0}/s")),
        ratio: Some(accepted.rate / accept_rate),
        ..row("inbox.accept_rate_backlog", accepted.rate, "/s")
    });
    say(&format!("  meanwhile {processed} of the backlog were processed"));
    report.add(row("inbox.rss_mib", rss, "MiB"));
    server.stop().await?;
    clear(stage).await
}

/// Waits until everything that was accepted is processed.
pub(crate) async fn drained(stage: &Stage) -> anyhow::Result<()> {
    let begun = Instant::now();
    while count(stage, "SELECT count(*) FROM inbox_pending").await? > 0 {
        anyhow::ensure!(begun.elapsed() < Duration::from_mins(2), "the inbox doesn't become empty");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// A million events wait: copies of those that do, each with an id of its own.
async fn pile_up(stage: &Stage) -> anyhow::Result<()> {
    let mut superuser = stage.superuser().await?;
    let copies = BACKLOG / count(stage, "SELECT count(*) FROM inbox_events").await?.max(1);
    sqlx::query(
        "WITH copied AS (
             INSERT INTO inbox_events (tenant_id, id, received_at, source_id, subject_key, occurred_at, service, type, subject, delivery_id, source_uri, key_hash, sealed_request)
             SELECT tenant_id, ('01930000-0000-7000-8000-' || lpad(to_hex(row_number() OVER (ORDER BY copy, id)), 12, '0'))::uuid, received_at, source_id,
                    subject_key, occurred_at, service, type, subject, delivery_id, source_uri, key_hash, sealed_request
             FROM inbox_events CROSS JOIN generate_series(1, $1) AS copy
             RETURNING tenant_id, id, received_at, subject_key, length(sealed_request) AS bytes
         )
         INSERT INTO inbox_pending (subject_key, received_at, tenant_id, event_id, bytes, lane)
         SELECT subject_key, received_at, tenant_id, id, bytes, subject_key & 15 FROM copied ORDER BY id",
    )
    .bind(copies)
    .execute(&mut superuser)
    .await?;
    superuser.execute("VACUUM ANALYZE inbox_events, inbox_pending").await?;
    superuser.execute("CHECKPOINT").await?;
    superuser.close().await?;
    Ok(())
}

/// From sending a webhook to reading its effect from the event stream of somebody in the tenant, at a steady rate.
async fn effect_p99(stage: &Stage, server: &Server, seconds: u64) -> anyhow::Result<f64> {
    let token = stage.doubles.keycloak.mint_access_token(
        "chancery-shell",
        "acme-ceo",
        Map::new(),
        Signature::Valid,
    )?;
    let known: Vec<(Uuid, i64)> =
        sqlx::query_as("SELECT id, display_id FROM conversations WHERE source_id = $1 AND display_id <= $2")
            .bind(SOURCE)
            .bind(i64::from(STEADY))
            .fetch_all(&mut stage.superuser().await?)
            .await?;
    let names: HashMap<u64, String> = known
        .into_iter()
        .filter_map(|(id, number)| Some((u64::try_from(number).ok()?, id.to_string())))
        .collect();
    let mut stream = Connection::open(server.address).await?;
    stream.open_stream(&request("GET", &format!("/api/v1/events?tenantId={TENANT}"), &token, "", "")).await?;
    let sent: Arc<Mutex<HashMap<String, VecDeque<Instant>>>> = Arc::default();
    let waited: Arc<Mutex<Vec<f64>>> = Arc::default();
    let listening = tokio::spawn({
        let (sent, waited) = (Arc::clone(&sent), Arc::clone(&waited));
        async move {
            let mut text = String::new();
            while let Ok(bytes) = stream.next_bytes().await {
                let now = Instant::now();
                text.push_str(&String::from_utf8_lossy(&bytes));
                while let Some((event, rest)) = text.split_once("\n\n") {
                    let conversation =
                        event.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
                    if event.contains("event: conversation.updated")
                        && let Some(begun) = conversation.and_then(|id| {
                            sent.lock().unwrap_or_else(PoisonError::into_inner).get_mut(id)?.pop_front()
                        })
                    {
                        let milliseconds = now.saturating_duration_since(begun).as_secs_f64() * 1000.0;
                        waited.lock().unwrap_or_else(PoisonError::into_inner).push(milliseconds);
                    }
                    text = rest.to_owned();
                }
            }
        }
    });
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(server.address).await?;
        stream.set_nodelay(true)?;
        connections.push(Arc::new(tokio::sync::Mutex::new(stream)));
    }
    let total = usize::try_from(u64::from(STEADY) * seconds)?;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / STEADY);
    let mut tasks = Vec::new();
    for (number, connection) in (0..total).zip(connections.iter().cycle()) {
        tick.tick().await;
        // Each conversation is told of once a second.
        let conversation = u64::try_from(number)? % u64::from(STEADY) + 1;
        let (message, connection) = (message(conversation), Arc::clone(connection));
        let name = names.get(&conversation).context("a conversation is not known")?.clone();
        sent.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name)
            .or_default()
            .push_back(Instant::now());
        tasks.push(tokio::spawn(async move {
            let mut stream = connection.lock().await;
            stream.write_all(&message).await?;
            read_answer(&mut stream, &mut Vec::new()).await
        }));
    }
    for task in tasks {
        task.await??;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    listening.abort();
    let mut waited = std::mem::take(&mut *waited.lock().unwrap_or_else(PoisonError::into_inner));
    anyhow::ensure!(
        waited.len() == total,
        "only {} of {total} effects were seen on the stream",
        waited.len()
    );
    let [half, most] = [50.0, 90.0].map(|percent| percentile(&mut waited, percent));
    say(&format!("  half of them within {half:.1} ms, 90 % within {most:.1} ms"));
    Ok(percentile(&mut waited, 99.0))
}
