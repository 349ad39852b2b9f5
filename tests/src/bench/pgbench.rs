use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

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

/// Transactions a second of this script with 64 clients, as this login.
pub(crate) async fn rate(url: &str, script: &Path, seconds: u64) -> anyhow::Result<f64> {
    let output = Command::new(find()?)
        .args(["--no-vacuum", "--protocol=prepared", "--client=64", "--jobs=2"])
        .arg(format!("--time={seconds}"))
        .arg("--file")
        .arg(script)
        .arg(url)
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let tps = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    tps.with_context(|| format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))
}
