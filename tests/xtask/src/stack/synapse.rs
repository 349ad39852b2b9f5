//! Synapse from the Python package index, on SQLite, with Chancery as its application service.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::process::{self, Record, Running, State, Watcher};
use super::{directory, logs};
use crate::{demo, setup, shell};

const PORT: u16 = 18008;
const START_LIMIT: Duration = Duration::from_mins(1);
const PINS: &str = include_str!("../../synapse.txt");

const SERVER_NAME: &str = "chancery.test";
const BOT: &str = "_chancery";

/// What the application service and the homeserver prove to each other.
#[derive(Clone, Copy)]
struct Tokens {
    application_service: &'static str,
    homeserver: &'static str,
}

const OF_THE_STACK: Tokens =
    Tokens { application_service: "demo-only-as-token", homeserver: "demo-only-hs-token" };
/// tests/contract/matrix knows them.
const OF_THE_TESTS: Tokens =
    Tokens { application_service: "as-token-of-the-contract", homeserver: "hs-token-of-the-contract" };

pub(super) fn url() -> String {
    format!("http://127.0.0.1:{PORT}")
}

fn home() -> PathBuf {
    directory().join("synapse")
}

fn record() -> Record {
    Record::at(directory().join("synapse.pid"))
}

fn log() -> PathBuf {
    logs().join("synapse.log")
}

pub(super) fn state() -> State {
    record().state()
}

/// Starts the server, unless it runs.
pub(super) async fn up(fresh: bool) -> Result<()> {
    if fresh {
        down()?;
    }
    if state().is_up("Synapse") {
        return Ok(());
    }
    let python = prepare()?;
    process::require_free(PORT, "Synapse")?;
    let data = home().join("data");
    if fresh && data.exists() {
        std::fs::remove_dir_all(&data).with_context(|| format!("could not remove {}", data.display()))?;
    }
    let mut running = start(&python, PORT, &data, OF_THE_STACK, &log())?;
    running.record(&record())?;
    if let Err(error) = running.wait_ready(START_LIMIT, || is_ready(PORT)).await {
        record().forget()?;
        return Err(error);
    }
    Ok(())
}

/// Stops the server. Gives whether it ran.
pub(super) fn down() -> Result<bool> {
    record().stop("Synapse")
}

/// The settings with which Chancery uses the server.
pub(super) fn settings() -> String {
    format!(
        "[matrix]\nurl = \"{}\"\nserver_name = \"{SERVER_NAME}\"\nas_token = \"{}\"\nhs_token = \"{}\"\n\
         sender_localpart = \"{BOT}\"\n",
        url(),
        OF_THE_STACK.application_service,
        OF_THE_STACK.homeserver,
    )
}

/// A server for one run of the tests, on a port of its own, and gone with this process.
pub(crate) struct ForTests {
    running: Running,
    watcher: Watcher,
    port: u16,
    _data: tempfile::TempDir,
}

impl ForTests {
    /// Starts the server; [`ForTests::ready`] waits for it.
    pub(crate) fn start() -> Result<Self> {
        let python = prepare()?;
        let port = demo::free_ports()?;
        let data = tempfile::tempdir().context("could not make a temporary directory")?;
        let log = logs().join("synapse-for-tests.log");
        let running = start(&python, port, data.path(), OF_THE_TESTS, &log)?;
        let watcher = Watcher::over(&running)?;
        Ok(Self { running, watcher, port, _data: data })
    }

    /// Waits until the server answers.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let port = self.port;
        self.running.wait_ready(START_LIMIT, || is_ready(port)).await
    }

    /// Where it is, for the tests.
    pub(crate) fn environment(&self) -> [(&'static str, String); 1] {
        [("CHANCERY_TEST_SYNAPSE_URL", format!("http://127.0.0.1:{}/", self.port))]
    }

    /// Stops the server.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.running.stop()?;
        self.watcher.dismiss();
        Ok(())
    }
}

fn is_ready(port: u16) -> bool {
    demo::answers_ok(port, "/_matrix/client/versions")
}

/// Installs Synapse, unless it is there. Gives its Python.
fn prepare() -> Result<PathBuf> {
    setup::ensure(&[setup::PYTHON])?;
    process::require_space(&home(), 400, "Synapse")?;
    let environment = home().join("python");
    setup::python_environment(&environment, &pins_file(), PINS)?;
    Ok(environment.join("bin/python"))
}

fn pins_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("synapse.txt")
}

fn start(python: &Path, port: u16, data: &Path, tokens: Tokens, log: &Path) -> Result<Running> {
    std::fs::create_dir_all(data).with_context(|| format!("could not make {}", data.display()))?;
    let registration = data.join("registration.yaml");
    let configuration = data.join("homeserver.yaml");
    for (path, text) in
        [(&registration, registration_file(tokens)), (&configuration, homeserver_file(port, data))]
    {
        std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    let server = || {
        let mut command = shell::command(python);
        command.args(["-m", "synapse.app.homeserver", "--config-path"]).arg(&configuration);
        command
    };
    // The signing key, where there is none.
    let mut keys = server();
    process::run_visibly(keys.arg("--generate-keys"), "making Synapse's signing key")?;
    Running::spawn("Synapse", &mut server(), log)
}

/// YAML 1.2 has JSON in it.
fn homeserver_file(port: u16, data: &Path) -> String {
    let at = |name: &str| format!("{:?}", data.join(name).display().to_string());
    format!(
        r#"{{
  "server_name": "{SERVER_NAME}", "public_baseurl": "http://127.0.0.1:{port}/", "report_stats": false,
  "listeners": [{{"port": {port}, "bind_addresses": ["127.0.0.1"], "type": "http", "tls": false,
                 "resources": [{{"names": ["client"]}}]}}],
  "database": {{"name": "sqlite3", "args": {{"database": {}}}}},
  "media_store_path": {}, "signing_key_path": {}, "app_service_config_files": [{}],
  "macaroon_secret_key": "demo-only", "form_secret": "demo-only", "bcrypt_rounds": 4,
  "trusted_key_servers": [], "suppress_key_server_warning": true
}}
"#,
        at("homeserver.db"),
        at("media"),
        at("signing.key"),
        at("registration.yaml"),
    )
}

fn registration_file(tokens: Tokens) -> String {
    format!(
        r##"{{
  "id": "chancery", "url": null, "as_token": "{}", "hs_token": "{}", "sender_localpart": "{BOT}",
  "rate_limited": false, "receive_ephemeral": false, "protocols": [],
  "namespaces": {{"users": [{{"exclusive": true, "regex": "@{BOT}(_.*)?:chancery\\.test"}}],
                 "aliases": [{{"exclusive": true, "regex": "#{BOT}_.*:chancery\\.test"}}], "rooms": []}}
}}
"##,
        tokens.application_service, tokens.homeserver,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synapse_is_pinned() {
        let pins: Vec<&str> = PINS.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(matches!(pins[..], [pin] if pin.starts_with("matrix-synapse==")), "{pins:?}");
    }

    #[test]
    fn the_tokens_of_the_tests_are_those_of_the_contract() {
        let target = shell::root().join("tests/contract/matrix/target.rs");
        let target = std::fs::read_to_string(target).unwrap();
        for token in [OF_THE_TESTS.application_service, OF_THE_TESTS.homeserver, SERVER_NAME, BOT] {
            assert!(target.contains(&format!("\"{token}\"")), "{token}");
        }
    }

    #[test]
    fn everything_is_on_loopback_and_under_the_directory() {
        let text = homeserver_file(1234, Path::new("/a \"b\""));
        assert!(
            text.contains(r#""bind_addresses": ["127.0.0.1"]"#) && text.contains(r#""/a \"b\"/media""#),
            "{text}"
        );
    }
}
