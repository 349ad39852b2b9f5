#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that can't go on panics"
)]

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::net::TcpStream;

/// Runs the server until standard input ends, which it does with the process that holds it.
const SUPERVISOR: &str = r#"redis-server "$@" & server=$!; cat > /dev/null; kill $server; wait $server"#;
/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A Redis of one's own on this machine, which keeps nothing on disk and ends with the test.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts a server (Debian's package `redis-server`) on a free port.
    pub async fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut server = Self { port, process: None };
        server.start_again().await;
        server
    }

    /// The server's address, as `redis.url` takes it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Starts a server that was stopped, empty, on the same port.
    pub async fn start_again(&mut self) {
        let process = Command::new("sh")
            .args(["-c", SUPERVISOR, "redis", "--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir", "/tmp", "--daemonize", "no"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        self.process = Some(process);
        let answers = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        tokio::time::timeout(PATIENCE, answers)
            .await
            .expect("redis-server starts; `cargo xtask setup` installs it");
    }

    /// Stops the server, and with it everything that it keeps.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().expect("the server ends");
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}
