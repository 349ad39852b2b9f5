use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use connector_keycloak::fake::Signature;
use serde_json::json;
use sqlx::Executor as _;
use uuid::Uuid;

use crate::{
    client::{Connection, request},
    pgbench,
    report::{Report, Row},
    stage::Stage,
};

const CONNECTIONS: usize = 64;
const TENANTS: u32 = 100;
const ROWS_A_TENANT: u32 = 1_000;

/// A tenant with somebody who requests and somebody who could decide.
pub(crate) struct Tenant {
    pub tenant: Uuid,
    /// The access token of who requests.
    pub requester: String,
}

/// The SQL of a tenant's id and its requester's, also in pgbench's scripts.
fn tenant_id(index: u32) -> Uuid {
    Uuid::from_u128(0x7e00_0000_0000_4000_8000_0000_0000_0000 + u128::from(index))
}

fn user_id(index: u32, approver: bool) -> Uuid {
    Uuid::from_u128(0x0500_0000_0000_4000_8000_0000_0000_0000 + u128::from(index) * 2 + u128::from(approver))
}

/// Makes tenants in the mirror, each with an agent and an approver, and the agents' tokens. They are of the kind that is
/// not compared with Keycloak, which doesn't know them.
pub(crate) async fn people(stage: &Stage, tenants: u32) -> anyhow::Result<Vec<Tenant>> {
    let mut superuser = stage.superuser().await?;
    let mut people = Vec::new();
    for index in 0..tenants {
        let tenant = tenant_id(index);
        sqlx::query("INSERT INTO tenants (id, kind, path, name, created_at, updated_at) VALUES ($1, 'individual', $2, $3, now(), now()) ON CONFLICT DO NOTHING")
            .bind(tenant)
            .bind(format!("/teams/bench-{index}"))
            .bind(format!("Bench {index}"))
            .execute(&mut superuser)
            .await?;
        for (approver, role) in [(false, "agent"), (true, "approver")] {
            let user = user_id(index, approver);
            // Read a thousand years from now: it is not compared with Keycloak, which doesn't know it.
            sqlx::query(
                "INSERT INTO principals (id, username, name, kind, enabled, platform_admin, seen_at)
                 VALUES ($1, $2, $2, 'person', true, false, '3000-01-01') ON CONFLICT DO NOTHING",
            )
            .bind(user)
            .bind(role)
            .execute(&mut superuser)
            .await?;
            for sql in [
                "INSERT INTO people (tenant_id, user_id, username, name, kind, updated_at) VALUES ($1, $2, $3, $3, 'person', now()) ON CONFLICT DO NOTHING",
                "INSERT INTO memberships (tenant_id, user_id, group_id, role, seen_at) VALUES ($1, $2, $1, $3, now()) ON CONFLICT DO NOTHING",
            ] {
                sqlx::query(sql).bind(tenant).bind(user).bind(role).execute(&mut superuser).await?;
            }
        }
        let mut claims = serde_json::Map::new();
        claims.insert("sub".to_owned(), json!(user_id(index, false)));
        claims.insert("exp".to_owned(), json!(32_503_680_000_i64));
        let requester = stage.doubles.keycloak.mint_access_token(
            "chancery-shell",
            "acme-agent",
            claims,
            Signature::Valid,
        )?;
        people.push(Tenant { tenant, requester });
    }
    Ok(people)
}

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

/// The statements of one creation, for pgbench.
const CREATE_SQL: &str = include_str!("create.sql");
/// The statements of reading one page, for pgbench.
const LIST_SQL: &str = include_str!("list.sql");

async fn script(sql: &str) -> anyhow::Result<std::path::PathBuf> {
    let path = std::env::temp_dir()
        .join(format!("chancery-bench-{}.sql", Uuid::new_v5(&Uuid::NAMESPACE_OID, sql.as_bytes())));
    tokio::fs::write(&path, sql).await?;
    Ok(path)
}

/// Creations a second, with audit entry, event and stored answer.
pub(crate) async fn measure_create(stage: &Stage, report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let people = people(stage, TENANTS).await?;
    let server = stage.serve().await?;
    let run = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"create").simple().to_string();
    let make = move |number: u64| {
        let person = &people[usize::try_from(number).unwrap_or(0) % people.len()];
        let body = json!({ "tenantId": person.tenant, "title": format!("Refund {number}"), "description": "The order came broken.", "priority": "medium" });
        request(
            "POST",
            "/api/v1/approvals",
            &person.requester,
            &format!("Idempotency-Key: {run}-{number}-{}\r\n", std::process::id()),
            &body.to_string(),
        )
    };
    load(server.address, 1, |_| request("GET", "/health", "none", "", ""), 200).await?;
    let rate = load(server.address, seconds, make, 201).await?;
    server.stop().await?;
    let yardstick = pgbench::rate(&stage.logins.app_url, &script(CREATE_SQL).await?, seconds).await?;
    report.add(Row {
        name: "approvals.create_rate",
        value: rate,
        unit: "/s",
        yardstick: Some(format!("pgbench, same statements: {yardstick:.0}/s")),
        ratio: Some(rate / yardstick),
    });
    Ok(())
}

/// Pages a second out of 100,000 approvals in 100 tenants.
pub(crate) async fn measure_list(stage: &Stage, report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let people = people(stage, TENANTS).await?;
    let mut superuser = stage.superuser().await?;
    for index in 0..TENANTS {
        sqlx::query(
            "INSERT INTO approvals (tenant_id, id, title, description, priority, requested_by, created_at, updated_at)
             SELECT $1, gen_random_uuid(), 'Refund ' || n, 'The order came broken.', 'medium', $2, now(), now() FROM generate_series(1, $3) AS n",
        )
        .bind(tenant_id(index))
        .bind(user_id(index, false))
        .bind(i32::try_from(ROWS_A_TENANT)?)
        .execute(&mut superuser)
        .await?;
    }
    superuser.execute("ANALYZE").await?;
    let server = stage.serve().await?;
    // A page in the middle costs what the first does: half of the requests ask for one.
    let mut connection = Connection::open(server.address).await?;
    let mut paths = Vec::new();
    for person in &people {
        let first = format!("/api/v1/approvals?tenantId={}&limit=20", person.tenant);
        let page = connection
            .send(&request(
                "GET",
                &format!("/api/v1/approvals?tenantId={}&limit=100", person.tenant),
                &person.requester,
                "",
                "",
            ))
            .await?
            .json()?;
        let deep = format!("{first}&cursor={}", page["nextCursor"].as_str().unwrap_or_default());
        paths.push((
            request("GET", &first, &person.requester, "", ""),
            request("GET", &deep, &person.requester, "", ""),
        ));
    }
    let next = move |number: u64| {
        let (first, deep) = &paths[usize::try_from(number / 2).unwrap_or(0) % paths.len()];
        if number.is_multiple_of(2) { first.clone() } else { deep.clone() }
    };
    let rate = load(server.address, seconds, next, 200).await?;
    server.stop().await?;
    let yardstick = pgbench::rate(&stage.logins.app_url, &script(LIST_SQL).await?, seconds).await?;
    report.add(Row {
        name: "approvals.list_rate",
        value: rate,
        unit: "/s",
        yardstick: Some(format!("pgbench, same statements: {yardstick:.0}/s")),
        ratio: Some(rate / yardstick),
    });
    Ok(())
}
