//! Redis from Debian's package. It holds only what may be lost, so nothing of it is written to disk.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::{self, Record, Running, State, Watcher};
use super::{directory, logs};
use crate::{demo, setup, shell};

pub(super) const PORT: u16 = 16379;
const START_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn url() -> String {
    format!("redis://127.0.0.1:{PORT}/0")
}

fn record() -> Record {
    Record::at(directory().join("redis.pid"))
}

fn log() -> PathBuf {
    logs().join("redis.log")
}

pub(super) fn state() -> State {
    record().state()
}

/// Starts the server, unless it runs.
pub(super) async fn up(fresh: bool) -> Result<()> {
    if fresh {
        down()?;
    }
    if state().is_up("Redis") {
        return Ok(());
    }
    setup::ensure(&[setup::REDIS])?;
    process::require_space(&directory(), 10, "Redis")?;
    process::require_free(PORT, "Redis")?;
    let data = directory().join("redis");
    std::fs::create_dir_all(&data).with_context(|| format!("could not make {}", data.display()))?;
    let mut running = start(PORT, &data, &log())?;
    running.record(&record())?;
    if let Err(error) = running.wait_ready(START_LIMIT, || answers(PORT)).await {
        record().forget()?;
        return Err(error);
    }
    Ok(())
}

/// Stops the server. Gives whether it ran.
pub(super) fn down() -> Result<bool> {
    record().stop("Redis")
}

/// A server for one run of the tests, on a port of its own, and gone with this process.
pub(crate) struct ForTests {
    running: Running,
    watcher: Watcher,
    port: u16,
}

impl ForTests {
    /// Starts the server, in `directory`, and waits until it answers.
    pub(crate) async fn start(directory: &Path) -> Result<Self> {
        let port = demo::free_ports()?;
        let mut running = start(port, directory, &logs().join("redis-for-tests.log"))?;
        let watcher = Watcher::over(&running)?;
        running.wait_ready(START_LIMIT, || answers(port)).await?;
        Ok(Self { running, watcher, port })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Stops the server.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.running.stop()?;
        self.watcher.dismiss();
        Ok(())
    }
}

fn start(port: u16, data: &Path, log: &Path) -> Result<Running> {
    let mut command = shell::command("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(data);
    Running::spawn("Redis", &mut command, log)
}

fn answers(port: u16) -> bool {
    let exchange = || -> std::io::Result<[u8; 7]> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    };
    exchange().is_ok_and(|answer| &answer == b"+PONG\r\n")
}
