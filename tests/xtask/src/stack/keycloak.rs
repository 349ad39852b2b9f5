//! Keycloak from its distribution, on the machine's Java.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::pins::Pin;
use super::process::{self, Record, Running, State, Watcher};
use super::{directory, logs};
use crate::{demo, setup, shell};

/// Its port on 127.0.0.1, and the one on which it tells its health.
pub(crate) const PORT: u16 = 8180;
const MANAGEMENT_PORT: u16 = 8190;

/// The realm of `keycloak/realm-chancery.json`.
pub(crate) const REALM: &str = "chancery";

/// The administrator of the realm `master`, with the file's kind of password.
pub(crate) const ADMINISTRATOR: (&str, &str) = ("admin", "demo-only-admin");

/// Java's options in place of the start script's own: they save half of the memory and of the time to start.
const JAVA_OPTIONS: &str = "-Xms64m -Xmx400m -XX:MaxMetaspaceSize=256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dfile.encoding=UTF-8";

/// What is fixed when the server is built, once, so that each start is fast.
const BUILD: [&str; 3] = ["build", "--db=dev-file", "--health-enabled=true"];

/// What the distribution, unpacked and built, and a database take.
const MEGABYTES: u64 = 800;

/// It takes 6 to 30 s, more on a busy machine.
const START_LIMIT: Duration = Duration::from_mins(4);

pub(super) fn url() -> String {
    format!("http://127.0.0.1:{PORT}")
}

fn record() -> Record {
    Record::at(directory().join("keycloak.pid"))
}

fn log() -> PathBuf {
    logs().join("keycloak.log")
}

/// The database and what the realm in it was made from.
fn data() -> PathBuf {
    directory().join("keycloak")
}

pub(super) fn state() -> State {
    record().state()
}

/// Starts the server that stays, unless it runs.
pub(super) async fn up(fresh: bool) -> Result<()> {
    if fresh {
        down()?;
        remove(&data())?;
    }
    let realm = data().join("realm.sha256");
    if state().is_up("Keycloak") {
        if std::fs::read_to_string(&realm).is_ok_and(|imported| imported != realm_hash().unwrap_or_default())
        {
            eprintln!("stack: {CHANGED}");
        }
        return Ok(());
    }
    let is_new = !realm.exists();
    let home = prepare()?;
    process::require_free(PORT, "Keycloak")?;
    process::require_free(MANAGEMENT_PORT, "Keycloak's health")?;
    std::fs::create_dir_all(data()).with_context(|| format!("could not make {}", data().display()))?;
    let database = format!("jdbc:h2:file:{};NON_KEYWORDS=VALUE", data().join("database").display());
    let mut running = start(&home, PORT, MANAGEMENT_PORT, &database, &log())?;
    running.record(&record())?;
    if let Err(error) = running.wait_ready(START_LIMIT, || is_ready(PORT)).await {
        record().forget()?;
        return Err(error);
    }
    let hash = realm_hash()?;
    if is_new {
        std::fs::write(&realm, hash)?;
    } else if std::fs::read_to_string(&realm)? != hash {
        eprintln!("stack: {CHANGED}");
    }
    Ok(())
}

const CHANGED: &str = "keycloak/realm-chancery.json has changed since Keycloak imported it: `cargo xtask stack up --fresh keycloak` \
                       begins anew with it";

/// Stops the server that stays. Gives whether it ran.
pub(super) fn down() -> Result<bool> {
    record().stop("Keycloak")
}

/// A server for one run of the tests: it has its own ports, keeps everything in memory, and is gone with this process.
pub(crate) struct ForTests {
    running: Running,
    watcher: Watcher,
    port: u16,
}

impl ForTests {
    /// Starts the server; [`ForTests::ready`] waits for it.
    pub(crate) fn start() -> Result<Self> {
        let home = prepare()?;
        let port = demo::free_ports()?;
        // DB_CLOSE_DELAY: the database stays while nobody is connected.
        let database = "jdbc:h2:mem:keycloak;NON_KEYWORDS=VALUE;DB_CLOSE_DELAY=-1";
        let running = start(&home, port, port + 1, database, &logs().join("keycloak-for-tests.log"))?;
        let watcher = Watcher::over(&running)?;
        Ok(Self { running, watcher, port })
    }

    /// Waits until the realm is imported.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let port = self.port;
        self.running.wait_ready(START_LIMIT, || is_ready(port)).await
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it is and who may change it, for the tests.
    pub(crate) fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("CHANCERY_TEST_KEYCLOAK_URL", self.url()),
            ("CHANCERY_TEST_KEYCLOAK_ADMIN", ADMINISTRATOR.0.to_owned()),
            ("CHANCERY_TEST_KEYCLOAK_ADMIN_PASSWORD", ADMINISTRATOR.1.to_owned()),
        ]
    }

    /// Stops the server.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.running.stop()?;
        self.watcher.dismiss();
        Ok(())
    }
}

/// Whether the realm is there: while it boots, the server listens already and answers 503.
fn is_ready(port: u16) -> bool {
    demo::answers_ok(port, &format!("/realms/{REALM}/.well-known/openid-configuration"))
}

fn start(home: &Path, port: u16, management_port: u16, database: &str, log: &Path) -> Result<Running> {
    let mut command = script(home)?;
    command
        .args(["start", "--optimized", "--import-realm", "--http-enabled=true", "--hostname-strict=false"])
        .args(["--http-host=127.0.0.1", "--http-management-host=127.0.0.1", "--cache=local"])
        .arg(format!("--http-port={port}"))
        .arg(format!("--http-management-port={management_port}"))
        .env("KC_DB_URL", database)
        .env("KC_BOOTSTRAP_ADMIN_USERNAME", ADMINISTRATOR.0)
        .env("KC_BOOTSTRAP_ADMIN_PASSWORD", ADMINISTRATOR.1);
    Running::spawn("Keycloak", &mut command, log)
}

/// The start script. It is given the Java to use, and nothing of the caller's settings for another Keycloak.
fn script(home: &Path) -> Result<Command> {
    let java = setup::java().context("Java 17 or newer is missing: cargo xtask setup")?;
    let mut command = shell::command(home.join("bin/kc.sh"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("KC_") || name.starts_with("JAVA_")) {
            command.env_remove(name);
        }
    }
    command.env("JAVA", java).env("JAVA_OPTS", JAVA_OPTIONS);
    Ok(command)
}

/// The distribution, fetched, unpacked and built, with the realm to import. What is done already isn't done again.
fn prepare() -> Result<PathBuf> {
    setup::ensure(&[setup::JAVA, setup::MAVEN])?;
    let pin = Pin::named("keycloak")?;
    let home = directory().join(format!("keycloak-{}", pin.version));
    let stamp = home.join("built.txt");
    let built = format!("{}\n{}\n{}\n", pin.identity(), BUILD.join(" "), home.display());
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == built) {
        import(&home)?;
        return Ok(home);
    }
    process::require_space(&directory(), MEGABYTES, "Keycloak")?;
    let archive = pin.fetch()?;
    remove(&home)?;
    std::fs::create_dir_all(&home).with_context(|| format!("could not make {}", home.display()))?;
    let mut unpack = shell::command("tar");
    unpack.args(["--extract", "--gzip", "--strip-components=1", "--no-same-owner", "--file"]);
    process::run_visibly(unpack.arg(&archive).arg("--directory").arg(&home), "unpacking Keycloak")?;
    process::run_visibly(script(&home)?.args(BUILD), "building Keycloak, once")?;
    import(&home)?;
    std::fs::write(&stamp, built).with_context(|| format!("could not write {}", stamp.display()))?;
    Ok(home)
}

fn realm_file() -> PathBuf {
    shell::root().join("keycloak/realm-chancery.json")
}

/// Puts the realm where the server looks for one to import.
fn import(home: &Path) -> Result<()> {
    let directory = home.join("data/import");
    std::fs::create_dir_all(&directory).with_context(|| format!("could not make {}", directory.display()))?;
    // Another server may be reading it: it is replaced, not written over.
    let mut new = tempfile::NamedTempFile::new_in(&directory)?;
    std::io::Write::write_all(&mut new, &std::fs::read(realm_file())?)?;
    new.as_file().set_permissions(PermissionsExt::from_mode(0o644))?;
    new.persist(directory.join("realm-chancery.json"))?;
    Ok(())
}

fn realm_hash() -> Result<String> {
    Ok(hex::encode(Sha256::digest(std::fs::read(realm_file())?)))
}

fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
