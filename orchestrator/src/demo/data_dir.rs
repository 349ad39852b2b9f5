use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use local_postgres::LocalPostgres;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::{crypto::MasterKey, ids::IdGenerator};

const SECRETS: &str = "secrets.json";
const MASTER_KEY: &str = "master.key";
const JITSI_KEY: &str = "jitsi.pem";
const DOUBLES: &str = "doubles";
const SEEDED: &str = "seeded.json";
const LOCK: &str = "demo.lock";

/// What the parts of a demo prove to each other; made once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Secrets {
    pub(super) owner_password: String,
    pub(super) app_password: String,
    pub(super) worker_password: String,
    pub(super) matrix_as_token: String,
    pub(super) matrix_hs_token: String,
    pub(super) jitsi_secret: String,
}

/// What was set up in the doubles and need not be again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seeded {
    pub chatwoot_webhook: Option<String>,
    pub matrix_source: Option<uuid::Uuid>,
    pub jitsi_source: Option<uuid::Uuid>,
}

/// Where a demo keeps everything.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    secrets: Secrets,
    /// Held for as long as the directory is in use.
    _lock: std::fs::File,
}

impl DataDir {
    /// Opens the directory, and makes it with its keys where it isn't there.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn open(path: &Path, ids: &dyn IdGenerator) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path.join(DOUBLES))
            .with_context(|| format!("{} can't be made", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("{} can't be opened", path.display()))?;
        let lock = std::fs::File::create(path.join(LOCK))
            .with_context(|| format!("{} can't be written", path.display()))?;
        anyhow::ensure!(
            lock.try_lock().is_ok(),
            "the data directory {} is in use by another demo; stop that one first, or choose another directory",
            path.display()
        );
        let key_file = path.join(MASTER_KEY);
        if !key_file.exists() {
            write_secret(&key_file, MasterKey::generate(ids).as_bytes())?;
        }
        let jitsi_key = path.join(JITSI_KEY);
        if !jitsi_key.exists() {
            write_secret(&jitsi_key, connector_jitsi::new_private_key()?.expose_secret().as_bytes())?;
        }
        let secrets_file = path.join(SECRETS);
        let secrets = if secrets_file.exists() {
            let text = std::fs::read(&secrets_file)
                .with_context(|| format!("{} can't be read", secrets_file.display()))?;
            serde_json::from_slice(&text)
                .with_context(|| format!("{} can't be understood", secrets_file.display()))?
        } else {
            let random = || {
                let mut bytes = [0; 32];
                ids.fill(&mut bytes);
                hex::encode(bytes)
            };
            let secrets = Secrets {
                owner_password: random(),
                app_password: random(),
                worker_password: random(),
                matrix_as_token: random(),
                matrix_hs_token: random(),
                jitsi_secret: random(),
            };
            write_secret(&secrets_file, &serde_json::to_vec_pretty(&secrets)?)?;
            secrets
        };
        Ok(Self { path, secrets, _lock: lock })
    }

    /// Removes what a demo has kept in the directory, and nothing else.
    pub(super) async fn reset(path: &Path) -> anyhow::Result<()> {
        LocalPostgres::reset(path).await?;
        for file in [SECRETS, MASTER_KEY, JITSI_KEY, SEEDED] {
            remove(std::fs::remove_file(path.join(file)), &path.join(file))?;
        }
        remove(std::fs::remove_dir_all(path.join(DOUBLES)), &path.join(DOUBLES))?;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the master key is.
    pub fn key_file(&self) -> PathBuf {
        self.path.join(MASTER_KEY)
    }

    /// Where the key is that signs tokens for Jitsi.
    pub(super) fn jitsi_key(&self) -> PathBuf {
        self.path.join(JITSI_KEY)
    }

    /// What the parts prove to each other.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Where a double keeps its state.
    pub(super) fn double(&self, name: &str) -> PathBuf {
        self.path.join(DOUBLES).join(format!("{name}.json"))
    }

    pub(super) fn seeded(&self) -> Seeded {
        std::fs::read(self.path.join(SEEDED))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    pub(super) fn remember_seeded(&self, seeded: &Seeded) -> anyhow::Result<()> {
        write_secret(&self.path.join(SEEDED), &serde_json::to_vec_pretty(seeded)?)
    }
}

fn remove(result: std::io::Result<()>, path: &Path) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} can't be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file that only its owner reads, whole or not at all.
fn write_secret(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let written = (|| {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    })();
    written.with_context(|| format!("{} can't be written", path.display()))
}
