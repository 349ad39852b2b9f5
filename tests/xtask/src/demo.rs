//! Builds the demo and runs it for the tests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::shell;
use crate::tally::{Format, Tally};

/// How long the demo may take until it answers: it makes a database first.
const START_LIMIT: Duration = Duration::from_mins(2);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The shell and the doubles of Keycloak, Chatwoot, Matrix and Jitsi: consecutive ports.
const PORTS: u16 = 5;

/// Builds `chancery` with the demo in it, and gives the program.
pub(crate) fn build() -> Result<PathBuf> {
    shell::run(&mut shell::cargo(&["build", "--package", "chancery", "--bin", "chancery"]))?;
    Ok(shell::target().join("debug/chancery"))
}

/// The first of five consecutive ports that are free now.
pub(crate) fn free_ports() -> Result<u16> {
    for _ in 0..100 {
        let base = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let Some(last) = base.checked_add(PORTS - 1) else { continue };
        if (base..=last).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(base);
        }
    }
    bail!("no {PORTS} consecutive ports are free on 127.0.0.1");
}

fn command(program: &PathBuf, data: &TempDir, port: u16) -> Command {
    let mut command = shell::command(program);
    command.arg("demo").arg("--data-dir").arg(data.path()).arg("--listen").arg(format!("127.0.0.1:{port}"));
    command
}

fn data_dir() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("chancery-demo-")
        .tempdir()
        .context("could not make a temporary directory")
}

/// Plays the main job without a browser; that is one test.
pub(crate) fn once(program: &PathBuf) -> Result<Tally> {
    let data = data_dir()?;
    let mut command = command(program, &data, free_ports()?);
    let tally = crate::tally::run("demo --once", command.arg("--once"), Format::Libtest)?;
    let passed = usize::from(tally.failed == 0);
    Ok(Tally { passed, failed: 1 - passed, skipped: 0 })
}

/// A demo that runs until this is dropped.
pub(crate) struct Demo {
    process: Child,
    port: u16,
    _data: TempDir,
}

impl Demo {
    /// Starts the demo on free ports and waits until it is ready.
    pub(crate) async fn start(program: &PathBuf) -> Result<Self> {
        let data = data_dir()?;
        let port = free_ports()?;
        let mut command = command(program, &data, port);
        eprintln!("$ {}", shell::show(&command));
        let process = command.spawn().context("could not run the demo")?;
        let mut demo = Self { process, port, _data: data };
        let began = Instant::now();
        while !answers_ok(port, "/ready") {
            if let Some(status) = demo.process.try_wait()? {
                bail!("the demo ended before it was ready: {status}");
            }
            if began.elapsed() > START_LIMIT {
                bail!("the demo was not ready within {} s", START_LIMIT.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(demo)
    }

    /// Where everything is, as environment variables for the browser tests.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let names = [
            "CHANCERY_BASE_URL",
            "CHANCERY_KEYCLOAK_URL",
            "CHANCERY_CHATWOOT_URL",
            "CHANCERY_MATRIX_URL",
            "CHANCERY_JITSI_URL",
        ];
        names
            .into_iter()
            .zip(self.port..)
            .map(|(name, port)| (name, format!("http://127.0.0.1:{port}")))
            .collect()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

/// Asks a process to stop as Ctrl-C does, and ends it if it doesn't.
pub(crate) fn stop(process: &mut Child) {
    if let Ok(pid) = i32::try_from(process.id())
        && matches!(process.try_wait(), Ok(None))
    {
        // It may have ended in the meantime.
        let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
    }
    let began = Instant::now();
    while matches!(process.try_wait(), Ok(None)) {
        if began.elapsed() > STOP_LIMIT {
            eprintln!("the demo did not stop within {} s and is ended", STOP_LIMIT.as_secs());
            let _ = process.kill();
            let _ = process.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a GET on 127.0.0.1 is answered with 200.
pub(crate) fn answers_ok(port: u16, path: &str) -> bool {
    let exchange = || -> std::io::Result<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        // Read to its end: a server takes a connection that is cut off for a mishap.
        let mut answer = Vec::new();
        stream.take(64 * 1024).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    exchange().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_200_is_ready() {
        for (status, expected) in [("200 OK", true), ("503 Service Unavailable", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
                String::from_utf8_lossy(&request[..length]).into_owned()
            });
            assert_eq!(answers_ok(port, "/ready"), expected);
            assert!(server.join().unwrap().starts_with("GET /ready HTTP/1.1\r\n"));
            assert!(!answers_ok(port, "/ready"), "nobody listens any more");
        }
    }
}
