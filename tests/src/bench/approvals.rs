use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use sqlx::Executor as _;
use uuid::Uuid;

use crate::{
    client::{Connection, request},
    people::introduce,
    pgbench,
    report::{Report, Row, say},
    stage::Stage,
};

const CONNECTIONS: usize = 64;
const ROWS_A_TENANT: u32 = 1_000;

/// Requests a second over all connections.
async fn load(
    address: std::net::SocketAddr,
    seconds: u64,
    next: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static,
    expected: u16,
) -> anyhow::Result<f64> {
    let next = Arc::new(next);
    let (done, number) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for _ in 0..CONNECTIONS {
        let (next, done, number) = (Arc::clone(&next), Arc::clone(&done), Arc::clone(&number));
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(address).await?;
            while Instant::now() < until {
                let answer = connection.send(&next(number.fetch_add(1, Ordering::Relaxed))).await?;
                anyhow::ensure!(
                    answer.status == expected,
                    "status {}: {}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                );
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    #[expect(clippy::cast_precision_loss, reason = "some ten thousands")]
    Ok(done.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64())
}

/// The statement of one creation, as the server sends it, for pgbench.
const CREATE_SQL: &str = include_str!("create.sql");
/// The statement of reading one page, as the server sends it, for pgbench.
const LIST_SQL: &str = include_str!("list.sql");

/// Creations a second, with audit entry, event and stored answer.
pub(crate) async fn measure_create(stage: &Stage, report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let server = stage.serve().await?;
    let tenants = introduce(stage, &server).await?;
    let run = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"create").simple().to_string();
    let make = move |number: u64| {
        let tenant = &tenants[usize::try_from(number).unwrap_or(0) % tenants.len()];
        let body = json!({ "tenantId": tenant.id, "title": format!("Refund {number}"), "description": "The order came broken.", "priority": "medium" });
        request(
            "POST",
            "/api/v1/approvals",
            &tenant.token,
            &format!("Idempotency-Key: {run}-{number}-{}\r\n", std::process::id()),
            &body.to_string(),
        )
    };
    load(server.address, 1, |_| request("GET", "/health", "none", "", ""), 200).await?;
    let before = server.processor_micros()?;
    let rate = load(server.address, seconds, make, 201).await?;
    let taken = server.processor_micros()? - before;
    #[expect(clippy::cast_precision_loss, reason = "some seconds")]
    let each = taken / (rate * seconds as f64);
    say(&format!("  the server took {each:.0} us of a processor for each"));
    server.stop().await?;
    let yardstick = pgbench::rate(&stage.logins.app_url, CREATE_SQL, CONNECTIONS, seconds).await?;
    report.add(Row {
        name: "approvals.create_rate",
        value: rate,
        unit: "/s",
        yardstick: Some(format!("pgbench, same statement: {yardstick:.0}/s")),
        ratio: Some(rate / yardstick),
    });
    Ok(())
}

/// Pages a second out of 100,000 approvals in 100 tenants.
pub(crate) async fn measure_list(stage: &Stage, report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let server = stage.serve().await?;
    let tenants = introduce(stage, &server).await?;
    let mut superuser = stage.superuser().await?;
    for tenant in &tenants {
        sqlx::query(
            "INSERT INTO approvals (tenant_id, id, title, description, priority, requested_by, created_at, updated_at)
             SELECT $1, gen_random_uuid(), 'Refund ' || n, 'The order came broken.', 'medium', $2, now(), now() FROM generate_series(1, $3) AS n",
        )
        .bind(tenant.id)
        .bind(tenant.requester)
        .bind(i32::try_from(ROWS_A_TENANT)?)
        .execute(&mut superuser)
        .await?;
    }
    superuser.execute("ANALYZE").await?;
    // A page in the middle costs what the first does: half of the requests ask for one.
    let mut connection = Connection::open(server.address).await?;
    let mut paths = Vec::new();
    for tenant in &tenants {
        let first = format!("/api/v1/approvals?tenantId={}&limit=20", tenant.id);
        let page = connection
            .send(&request(
                "GET",
                &format!("/api/v1/approvals?tenantId={}&limit=100", tenant.id),
                &tenant.token,
                "",
                "",
            ))
            .await?
            .json()?;
        let deep = format!("{first}&cursor={}", page["nextCursor"].as_str().unwrap_or_default());
        paths.push((
            request("GET", &first, &tenant.token, "", ""),
            request("GET", &deep, &tenant.token, "", ""),
        ));
    }
    let next = move |number: u64| {
        let (first, deep) = &paths[usize::try_from(number / 2).unwrap_or(0) % paths.len()];
        if number.is_multiple_of(2) { first.clone() } else { deep.clone() }
    };
    let rate = load(server.address, seconds, next, 200).await?;
    server.stop().await?;
    let yardstick = pgbench::rate(&stage.logins.app_url, LIST_SQL, CONNECTIONS, seconds).await?;
    report.add(Row {
        name: "approvals.list_rate",
        value: rate,
        unit: "/s",
        yardstick: Some(format!("pgbench, same statement: {yardstick:.0}/s")),
        ratio: Some(rate / yardstick),
    });
    Ok(())
}
