//! The yardsticks: what PostgreSQL itself reaches here and now, with pgbench as its client.

use std::path::PathBuf;

use anyhow::Context as _;
use sqlx::{Connection as _, Executor as _};
use tokio::process::Command;
use uuid::Uuid;

use crate::{
    report::{Report, Row},
    stage::Stage,
};

/// Where pgbench is: on the PATH, or beside a server of Debian's.
fn find() -> anyhow::Result<PathBuf> {
    let on_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .map(|folder| folder.join("pgbench"));
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin/pgbench"));
    on_path
        .chain(debian)
        .find(|path| path.is_file())
        .context("pgbench is missing: install PostgreSQL's client programs")
}

/// Transactions a second of this script with so many clients, as the login of `url`; statements are prepared once.
pub(crate) async fn rate(url: &str, script: &str, clients: usize, seconds: u64) -> anyhow::Result<f64> {
    let path = std::env::temp_dir()
        .join(format!("chancery-bench-{}.sql", Uuid::new_v5(&Uuid::NAMESPACE_OID, script.as_bytes())));
    tokio::fs::write(&path, script).await?;
    let output = Command::new(find()?)
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
        .arg(format!("--client={clients}"))
        .arg(format!("--time={seconds}"))
        .arg("--file")
        .arg(&path)
        .arg(url)
        .output()
        .await?;
    tokio::fs::remove_file(&path).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.with_context(|| format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Rows a second of 1 KB of JSON that 16 clients insert, each in a statement and a transaction of its own, into a table that
/// has nothing but its key: what this machine can do, and what durable acceptance of single events is held against.
pub(crate) async fn insert_rate(stage: &Stage, seconds: u64) -> anyhow::Result<f64> {
    const CLIENTS: usize = 16;
    const TABLE: &str = "CREATE TABLE bench_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, received_at timestamptz NOT NULL, body jsonb NOT NULL)";
    let mut superuser = stage.superuser().await?;
    superuser.execute(TABLE).await?;
    // The text is put together for each row, so that each is read as JSON anew.
    let script = format!(
        "\\set id random(1, 1000000)\n\
         INSERT INTO bench_rows (received_at, body) VALUES (now(), ('{{\"event\": \"message_created\", \"private\": false, \"content\": \"{}\", \"id\": ' || :id || '}}')::jsonb);\n",
        "Where is my order? ".repeat(50),
    );
    let rate = rate(&stage.superuser_url(), &script, CLIENTS, seconds).await;
    superuser.execute("DROP TABLE bench_rows").await?;
    superuser.close().await?;
    rate
}

/// The rate of single inserts as a row of its own: absolute figures move with the machine, and this says how far.
pub(crate) async fn measure_insert_rate(
    stage: &Stage,
    report: &mut Report,
    seconds: u64,
) -> anyhow::Result<()> {
    let value = insert_rate(stage, seconds).await?;
    report.add(Row { name: "machine.insert_rate", value, unit: "/s", yardstick: None, ratio: None });
    Ok(())
}
