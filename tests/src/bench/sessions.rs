//! What signing in to the shell costs afterwards: a page with a session in Redis, and a thousand sign-outs at Keycloak.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chancery::{
    auth::{
        session::{NewSession, Sessions},
        step_up::Authentication,
    },
    config::Config,
    crypto::MasterKey,
    ids::{RandomIds, UserId},
    testing::RedisServer,
};
use chrono::TimeDelta;
use connector_core::{Clock as _, SystemClock};
use connector_keycloak::fake::Signature;
use tokio::{sync::Mutex, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Connection, request},
    report::{Report, Row, percentile},
    stage::{Server, Stage},
};

const PERSON: &str = "acme-ceo";
const CLIENT: &str = "chancery-shell";
const PAGES_A_SECOND: u32 = 200;
const SESSIONS: usize = 100;
const LOGOUTS: usize = 1_000;
/// How many logout tokens Keycloak sends at a time here.
const SENDERS: usize = 8;

/// A page of the shell at a steady rate, over a hundred sessions.
pub(crate) async fn measure_page(stage: &Stage, report: &mut Report, seconds: u64) -> anyhow::Result<()> {
    let redis = RedisServer::start().await;
    let server = serve(stage, &redis).await?;
    let cookies = sign_in(stage, &redis, SESSIONS).await?;
    let path = format!("/app/t/{}", stage.doubles.keycloak.group_id("/organizations/acme-corp")?);
    let requests: Vec<Vec<u8>> = cookies.iter().map(|cookie| page(server.address, &path, cookie)).collect();
    // What is paid once is paid before.
    let mut connection = Connection::open(server.address).await?;
    for request in &requests {
        let answer = connection.send(request).await?;
        anyhow::ensure!(answer.status == 200, "the page: {}", answer.status);
    }

    let connections = Arc::new(Mutex::new(vec![connection]));
    let mut tick = tokio::time::interval(Duration::from_secs(1) / PAGES_A_SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tasks = Vec::new();
    for index in 0..usize::try_from(u64::from(PAGES_A_SECOND) * seconds)? {
        tick.tick().await;
        let request = requests[index % requests.len()].clone();
        let (connections, address) = (Arc::clone(&connections), server.address);
        tasks.push(tokio::spawn(async move {
            let pooled = connections.lock().await.pop();
            let mut connection = match pooled {
                Some(connection) => connection,
                None => Connection::open(address).await?,
            };
            let begun = Instant::now();
            let answer = connection.send(&request).await?;
            let waited = begun.elapsed();
            anyhow::ensure!(answer.status == 200, "the page: {}", answer.status);
            connections.lock().await.push(connection);
            Ok(waited.as_secs_f64() * 1000.0)
        }));
    }
    let mut waited = Vec::with_capacity(tasks.len());
    for task in tasks {
        waited.push(task.await??);
    }
    report.add(Row {
        name: "sessions.page_p95_ms",
        value: percentile(&mut waited, 95.0),
        unit: "ms",
        yardstick: None,
        ratio: None,
    });
    server.stop().await
}

/// A thousand sessions, each ended by a logout token of its own.
pub(crate) async fn measure_logouts(stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let redis = RedisServer::start().await;
    let server = serve(stage, &redis).await?;
    let cookies = sign_in(stage, &redis, LOGOUTS).await?;
    let mut connection = Connection::open(server.address).await?;
    for cookie in [&cookies[0], &cookies[LOGOUTS - 1]] {
        let answer = connection.send(&page(server.address, "/app/me", cookie)).await?;
        anyhow::ensure!(answer.status == 200, "before the sign-out: {}", answer.status);
    }
    let mut tokens = Vec::with_capacity(LOGOUTS);
    for number in 0..LOGOUTS {
        let token = stage.doubles.keycloak.mint_logout_token(
            CLIENT,
            PERSON,
            &keycloak_session(number),
            serde_json::Map::new(),
            Signature::Valid,
        )?;
        tokens.push(logout(&token));
    }

    let begun = Instant::now();
    let mut senders = Vec::new();
    for share in tokens.chunks(LOGOUTS.div_ceil(SENDERS)) {
        let (share, address) = (share.to_vec(), server.address);
        senders.push(tokio::spawn(async move {
            let mut connection = Connection::open(address).await?;
            for request in &share {
                let answer = connection.send(request).await?;
                anyhow::ensure!(answer.status == 200, "the logout token: {}", answer.status);
            }
            Ok(())
        }));
    }
    for sender in senders {
        sender.await??;
    }
    let value = begun.elapsed().as_secs_f64();
    for cookie in &cookies {
        let answer = connection.send(&page(server.address, "/app/me", cookie)).await?;
        anyhow::ensure!(answer.status != 200, "still signed in after the sign-out");
    }
    report.add(Row { name: "logout.thousand_s", value, unit: "s", yardstick: None, ratio: None });
    server.stop().await
}

async fn serve(stage: &Stage, redis: &RedisServer) -> anyhow::Result<Server> {
    stage.serve_with(&[("CHANCERY__REDIS__URL", redis.url())]).await
}

fn keycloak_session(number: usize) -> String {
    format!("bench-session-{number}")
}

/// Begins so many sessions of one person, who becomes known to the server first, and gives their cookies.
async fn sign_in(stage: &Stage, redis: &RedisServer, count: usize) -> anyhow::Result<Vec<String>> {
    let keycloak = &stage.doubles.keycloak;
    let token = keycloak.mint_access_token(CLIENT, PERSON, serde_json::Map::new(), Signature::Valid)?;
    let mut connection = Connection::open(stage.address()).await?;
    let me = connection.send(&request("GET", "/api/v1/me", &token, "", "")).await?;
    anyhow::ensure!(me.status == 200, "/me: {}", me.status);

    let mut config = Config::defaults()?;
    config.redis.url = redis.url().into();
    let master_key = Arc::new(MasterKey::read(&stage.key_file())?);
    let stop = CancellationToken::new();
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(RandomIds));
    let sessions = Sessions::new(&config.session, &config.redis, master_key, clock, ids, stop.clone())?;
    let now = SystemClock.now();
    let user = UserId(keycloak.user_id(PERSON)?);
    let id_token = keycloak.mint_id_token(CLIENT, PERSON, serde_json::Map::new(), Signature::Valid)?;
    let mut cookies = Vec::with_capacity(count);
    for number in 0..count {
        let new = NewSession {
            user,
            keycloak_session: Some(keycloak_session(number)),
            id_token: id_token.clone(),
            refresh_token: None,
            proven_until: now + TimeDelta::hours(1),
            authentication: Authentication { level: Some("1".to_owned()), at: Some(now) },
            draft: None,
            browser: "Firefox on Linux".to_owned(),
            opened_from: None,
        };
        let cookie = sessions.begin(new).await?.context("the session is over already")?;
        cookies.push(format!("{}={}", cookie.name(), cookie.value()));
    }
    stop.cancel();
    Ok(cookies)
}

fn page(address: SocketAddr, path: &str, cookie: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/html\r\nCookie: {cookie}\r\n\r\n")
        .into_bytes()
}

fn logout(token: &str) -> Vec<u8> {
    let body = format!("logout_token={token}");
    format!(
        "POST /auth/backchannel-logout HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
