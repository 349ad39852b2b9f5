#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that can't go on panics"
)]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::net::TcpStream;

use super::template::random_name;
use crate::config::RedisConfig;

/// Runs the server until standard input ends, which it does with the process that holds it.
const SUPERVISOR: &str = r#"redis-server "$@" & server=$!; cat > /dev/null; kill $server; wait $server"#;
/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A Redis of one's own on this machine, which keeps nothing on disk and ends with the test.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    process: Option<Child>,
    /// For a server that is spoken to over TLS alone.
    certificates: Option<Certificates>,
}

impl RedisServer {
    /// Starts a server (Debian's package `redis-server`) on a free port.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a server that is spoken to over TLS alone, and asks who speaks to it for a certificate, as Redis does unless it
    /// is told.
    pub async fn start_with_tls() -> Self {
        Self::start_with(Some(Certificates::new())).await
    }

    async fn start_with(certificates: Option<Certificates>) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut server = Self { port, process: None, certificates };
        server.start_again().await;
        server
    }

    /// The server's address, as `redis.url` takes it.
    pub fn url(&self) -> String {
        let scheme = if self.certificates.is_some() { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}/", self.port)
    }

    /// Sets all that it takes to speak to the server.
    pub fn configure(&self, config: &mut RedisConfig) {
        config.url = self.url().into();
        if let Some(certificates) = &self.certificates {
            config.ca = certificates.read("ca.pem");
            config.client_certificate = certificates.read("client.pem");
            config.client_key = certificates.read("client.key").into();
        }
    }

    /// Starts a server that was stopped, empty, on the same port.
    pub async fn start_again(&mut self) {
        let port = self.port.to_string();
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISOR, "redis", "--bind", "127.0.0.1"]);
        if let Some(certificates) = &self.certificates {
            command.args(["--port", "0", "--tls-port", &port]);
            for (setting, name) in [
                ("--tls-ca-cert-file", "ca.pem"),
                ("--tls-cert-file", "server.pem"),
                ("--tls-key-file", "server.key"),
            ] {
                command.arg(setting).arg(certificates.0.join(name));
            }
        } else {
            command.args(["--port", &port]);
        }
        let process = command
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

/// What `openssl` makes certificates of: an authority's, a server's for the address of this machine, and a client's.
const EXTENSIONS: &str = "[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[server]
basicConstraints = CA:FALSE
subjectAltName = IP:127.0.0.1
[client]
basicConstraints = CA:FALSE
extendedKeyUsage = clientAuth
";

/// A directory with certificates and their keys (`ca`, `server`, `client`; `.pem`, `.key`), good for a day.
#[derive(Debug)]
struct Certificates(PathBuf);

impl Certificates {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(random_name("chancery-certificates-"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("extensions"), EXTENSIONS).unwrap();
        for name in ["ca", "server", "client"] {
            let authority = (name != "ca").then_some("ca");
            make_certificate(&directory, name, authority);
        }
        Self(directory)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes a key and a certificate, signed by `authority` or by itself.
fn make_certificate(directory: &Path, name: &str, authority: Option<&str>) {
    let mut command = Command::new("openssl");
    command
        .current_dir(directory)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "1", "-config", "extensions", "-extensions", name, "-subj"])
        .arg(format!("/CN={name}"))
        .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]);
    if let Some(authority) = authority {
        command.args(["-CA", &format!("{authority}.pem"), "-CAkey", &format!("{authority}.key")]);
    }
    let made = command.output().expect("openssl is there; `cargo xtask setup` installs it");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
