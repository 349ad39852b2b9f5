//! The main job's two waits, at a steady fifty a second: from the escalation to the CEO's stream, and from the decision to
//! the note in Chatwoot.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use connector_keycloak::fake::Signature;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::{
    client::{Connection, request},
    report::{Report, Row, percentile},
    stage::Stage,
};

const A_SECOND: u32 = 50;
const TENANT: &str = "/organizations/acme-corp";

pub(crate) async fn measure(stage: &Stage, report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let server = stage.serve().await?;
    let token = |username: &str| {
        stage.doubles.keycloak.mint_access_token(
            "chancery-shell",
            username,
            serde_json::Map::new(),
            Signature::Valid,
        )
    };
    let (agent, ceo) = (token("acme-agent")?, token("acme-ceo")?);
    // Both become known, and with them the tenant.
    let mut connection = Connection::open(server.address).await?;
    for token in [&ceo, &agent] {
        let me = connection.send(&request("GET", "/api/v1/me", token, "", "")).await?;
        anyhow::ensure!(me.status == 200, "/me: {}", me.status);
    }
    let conversations = conversations(stage, usize::try_from(u64::from(A_SECOND) * seconds)?).await?;
    let total = conversations.len();

    let escalated: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let seen: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let mut stream = Connection::open(server.address).await?;
    stream.open_stream(&request("GET", &format!("/api/v1/events?tenantId={TENANT}"), &ceo, "", "")).await?;
    let listening = tokio::spawn({
        let seen = Arc::clone(&seen);
        async move {
            let mut text = String::new();
            while let Ok(bytes) = stream.next_bytes().await {
                let now = Instant::now();
                text.push_str(&String::from_utf8_lossy(&bytes));
                while let Some((message, rest)) = text.split_once("\n\n") {
                    if message.contains("event: approval.created")
                        && let Some(id) =
                            message.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next())
                    {
                        seen.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), now);
                    }
                    text = rest.to_owned();
                }
            }
        }
    });

    let mut tick = tokio::time::interval(Duration::from_secs(1) / A_SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tasks = Vec::new();
    let connections = Arc::new(tokio::sync::Mutex::new(Vec::new()));
    for conversation in conversations {
        tick.tick().await;
        let (agent, ceo, escalated, connections, address) =
            (agent.clone(), ceo.clone(), Arc::clone(&escalated), Arc::clone(&connections), server.address);
        tasks.push(tokio::spawn(async move {
            let pooled = connections.lock().await.pop();
            let mut connection = match pooled {
                Some(connection) => connection,
                None => Connection::open(address).await?,
            };
            let begun = Instant::now();
            let body = json!({ "reason": "Refund" }).to_string();
            let answer = connection
                .send(&request(
                    "POST",
                    &format!("/api/v1/conversations/{conversation}/escalate"),
                    &agent,
                    "",
                    &body,
                ))
                .await?;
            anyhow::ensure!(
                answer.status == 201,
                "escalating: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            let id = answer.json()?["id"].as_str().unwrap_or_default().to_owned();
            escalated.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), begun);
            tokio::time::sleep(Duration::from_millis(200)).await;
            let decided = Instant::now();
            let body = json!({ "status": "approved", "comment": "Yes." }).to_string();
            let answer = connection
                .send(&request("PATCH", &format!("/api/v1/approvals/{id}"), &ceo, "", &body))
                .await?;
            anyhow::ensure!(
                answer.status == 200,
                "deciding: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            connections.lock().await.push(connection);
            Ok((id, decided))
        }));
    }
    let mut decided = HashMap::new();
    for task in tasks {
        let (id, at) = task.await??;
        decided.insert(id, at);
    }
    let mut to_note = notes(stage, &decided).await?;
    listening.abort();
    let mut to_stream: Vec<f64> = {
        let escalated = escalated.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = |(id, begun): (&String, &Instant)| Some(seen.get(id)?.saturating_duration_since(*begun));
        escalated.iter().filter_map(waited).map(|waited| waited.as_secs_f64() * 1000.0).collect()
    };
    anyhow::ensure!(
        to_stream.len() == total,
        "only {} of {total} escalations were seen on the stream",
        to_stream.len()
    );
    anyhow::ensure!(to_note.len() == total, "only {} of {total} decisions have their note", to_note.len());
    let row = |name, value| Row { name, value, unit: "ms", yardstick: None, ratio: None };
    report.add(row("escalate.to_stream_p99_ms", percentile(&mut to_stream, 99.0)));
    report.add(row("decide.to_note_p99_ms", percentile(&mut to_note, 99.0)));
    server.stop().await
}

/// Makes conversations in Chatwoot's double and in the mirror, and gives the mirror's ids.
async fn conversations(stage: &Stage, count: usize) -> anyhow::Result<Vec<uuid::Uuid>> {
    let mut superuser = stage.superuser().await?;
    let tenant = stage.doubles.keycloak.group_id(TENANT)?;
    let source = uuid::Uuid::from_u128(0x5000);
    stage.register_source(tenant, source, "Bench").await?;
    let mut ids = Vec::new();
    for _ in 0..count {
        let display_id = customer_writes(stage).await?;
        let id: uuid::Uuid = sqlx::query_scalar(
            "INSERT INTO conversations (tenant_id, id, source_id, service, account, display_id, status, remote_updated_at, created_at, updated_at)
             VALUES ($1, gen_random_uuid(), $2, 'chatwoot', '1', $3, 'open', now(), now(), now()) RETURNING id",
        )
        .bind(tenant)
        .bind(source)
        .bind(display_id)
        .fetch_one(&mut superuser)
        .await?;
        ids.push(id);
    }
    Ok(ids)
}

async fn customer_writes(stage: &Stage) -> anyhow::Result<i64> {
    let address: std::net::SocketAddr = stage.doubles.chatwoot.public_url().socket_addrs(|| None)?[0];
    let base = format!("/public/api/v1/inboxes/{}/contacts", stage.doubles.chatwoot.inbox_identifier());
    let mut connection = Connection::open(address).await?;
    let contact =
        connection.send(&request("POST", &base, "none", "", "{\"name\":\"Connie\"}")).await?.json()?;
    let path = format!("{base}/{}/conversations", contact["source_id"].as_str().unwrap_or_default());
    let conversation = connection.send(&request("POST", &path, "none", "", "{}")).await?.json()?;
    conversation["id"].as_i64().ok_or_else(|| anyhow::anyhow!("no conversation: {conversation}"))
}

/// Waits for the notes of all decisions, and says how long after it each was written, by the audit trail's clock: the entry
/// is written after Chatwoot's answer.
async fn notes(stage: &Stage, decided: &HashMap<String, Instant>) -> anyhow::Result<Vec<f64>> {
    let mut superuser = stage.superuser().await?;
    let begun = Instant::now();
    loop {
        let rows: Vec<(f64,)> = sqlx::query_as(
            "SELECT extract(epoch FROM note.created_at - decision.created_at)::float8 * 1000
             FROM audit_logs AS note
             JOIN audit_logs AS decision ON decision.tenant_id = note.tenant_id AND decision.resource_id = note.resource_id AND decision.action = 'approval.approved'
             WHERE note.action = 'approval.note_posted' AND note.new_values ->> 'status' = 'approved' AND note.resource_id = ANY ($1)",
        )
        .bind(decided.keys().cloned().collect::<Vec<_>>())
        .fetch_all(&mut superuser)
        .await?;
        if rows.len() >= decided.len() || begun.elapsed() > Duration::from_secs(30) {
            return Ok(rows.into_iter().map(|(milliseconds,)| milliseconds).collect());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
