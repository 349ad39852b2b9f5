//! The yardsticks: what PostgreSQL itself reaches here and now, with pgbench as its client.

use std::path::PathBuf;

use anyhow::Context as _;
use tokio::process::Command;
use uuid::Uuid;

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
