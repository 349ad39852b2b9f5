//! The database that is migrated and filled once, and then copied for each test. It carries, as its comment, the keys that
//! belong to it, so that the processes of a test run share both: making a realm's keys takes longer than most tests.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::OnceCell;
use url::Url;

use super::app::{ACME, start_time};
use crate::{
    app::{AppState, Environment},
    clock::{MockClock, SharedClock},
    config::Config,
    db::migrate::{fingerprint, identifier, literal},
    demo::{Addresses, DataDir, Doubles, Listeners, provision},
    ids::{IdGenerator as _, RandomIds, SharedIds, SourceId, TenantId},
    lifecycle::Lifecycle,
    sources::{SourceScheme, register_source},
};

/// What a test's data directory is made from.
const FILES: [&str; 4] = ["secrets.json", "master.key", "jitsi.pem", "doubles/keycloak.json"];
const TENANTS: [&str; 4] = [ACME, "/organizations/globex", "/teams/engineering", "/teams/support"];
/// Processes that make the template wait for each other with this advisory lock.
const LOCK: i64 = 0x6368_616e_6365_7279;

/// What tests sign Chatwoot's deliveries with.
pub(super) const CHATWOOT_SECRET: &str = "the-secret-of-the-website";

/// A superuser of the test server that is quick to sign in.
pub(super) const SUPERUSER: &str = "chancery_test_superuser";

/// What belongs to the template.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Template {
    /// The template's database.
    pub database: String,
    pub app_url: String,
    pub worker_url: String,
    /// The superuser's URL of the database `postgres`.
    pub superuser_url: String,
    pub chatwoot_source: SourceId,
    pub matrix_source: SourceId,
    files: BTreeMap<String, String>,
}

impl Template {
    /// The template of this server, made where it isn't there.
    pub async fn get(server: &str) -> anyhow::Result<&'static Self> {
        static TEMPLATE: OnceCell<Template> = OnceCell::const_new();
        TEMPLATE.get_or_try_init(|| Self::find_or_make(server)).await
    }

    async fn find_or_make(server: &str) -> anyhow::Result<Self> {
        let database = format!("chancery_template_{}", fingerprint());
        let mut superuser = PgConnection::connect(server).await?;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK).execute(&mut superuser).await?;
        let comment: Option<Option<String>> = sqlx::query_scalar(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1",
        )
        .bind(&database)
        .fetch_optional(&mut superuser)
        .await?;
        let template = match comment {
            Some(Some(comment)) => serde_json::from_str(&comment)?,
            other => {
                if other.is_some() {
                    // Somebody was stopped in the middle of making it.
                    superuser
                        .execute(AssertSqlSafe(format!(
                            "DROP DATABASE {} WITH (FORCE)",
                            identifier(&database)
                        )))
                        .await?;
                }
                let template = Self::make(server, database).await?;
                let comment = literal(&serde_json::to_string(&template)?);
                superuser
                    .execute(AssertSqlSafe(format!(
                        "COMMENT ON DATABASE {} IS {comment}",
                        identifier(&template.database)
                    )))
                    .await?;
                template
            }
        };
        superuser.close().await?;
        Ok(template)
    }

    async fn make(server: &str, database: String) -> anyhow::Result<Self> {
        let directory = new_directory()?;
        let clock: SharedClock = Arc::new(MockClock::new(start_time()));
        let ids: SharedIds = Arc::new(RandomIds);
        let data_dir = DataDir::open(&directory, &*ids)?;
        let logins = provision(server, &database, data_dir.secrets()).await?;
        let (addresses, listeners) = Listeners::ephemeral("127.0.0.1:9".parse()?).await?;
        let doubles = Doubles::open(&data_dir, &addresses, &clock, &ids)?;
        let lifecycle = Lifecycle::new();
        doubles.serve(listeners, &lifecycle);
        let config = configure(&addresses, &data_dir, &doubles, &logins.app_url, &logins.worker_url)?;
        let state = AppState::start(config, Environment { clock, ids, lifecycle, start_page: None }).await?;
        for path in TENANTS {
            state.directory.refresh_tenant(TenantId(doubles.keycloak.group_id(path)?)).await?;
        }
        let acme = TenantId(doubles.keycloak.group_id(ACME)?);
        let secret = CHATWOOT_SECRET.to_owned().into();
        let chatwoot_source =
            register_source(&state, acme, SourceScheme::Chatwoot, "Website", "1", Some(secret)).await?;
        let token = state.config.matrix.hs_token.clone();
        let matrix_source =
            register_source(&state, acme, SourceScheme::Matrix, "Homeserver", "chancery", Some(token))
                .await?;
        state.lifecycle.stop().await;
        // A database that somebody is connected to can't be copied.
        state.database.close().await;
        let superuser_url = ease_sign_in(server, &logins.app_url, &logins.worker_url).await?;
        let mut files = BTreeMap::new();
        for file in FILES {
            files.insert(
                file.to_owned(),
                std::fs::read_to_string(directory.join(file))
                    .with_context(|| format!("{file} is missing"))?,
            );
        }
        std::fs::remove_dir_all(&directory)?;
        Ok(Self {
            database,
            app_url: logins.app_url,
            worker_url: logins.worker_url,
            superuser_url,
            chatwoot_source,
            matrix_source,
            files,
        })
    }

    /// A new data directory with the template's keys.
    pub fn data_dir(&self, ids: &SharedIds) -> anyhow::Result<(PathBuf, DataDir)> {
        let directory = new_directory()?;
        std::fs::create_dir_all(directory.join("doubles"))?;
        for (file, content) in &self.files {
            std::fs::write(directory.join(file), content)?;
        }
        let data_dir = DataDir::open(&directory, &**ids)?;
        Ok((directory, data_dir))
    }

    /// Copies the template into a database of this name.
    pub async fn copy(&self, database: &str) -> anyhow::Result<()> {
        let mut superuser = PgConnection::connect(&self.superuser_url).await?;
        let owner = format!("{}_owner", self.database);
        let sql = format!(
            "CREATE DATABASE {} TEMPLATE {} OWNER {}",
            identifier(database),
            identifier(&self.database),
            identifier(&owner)
        );
        superuser.execute(AssertSqlSafe(sql)).await?;
        superuser.close().await?;
        Ok(())
    }
}

/// Without optimisation, the 4,096 rounds of a password's check (RFC 5802, section 3) take longer than most tests, and each
/// connection does them. Gives the logins, and a superuser for the tests, the same proof in one round.
async fn ease_sign_in(server: &str, app_url: &str, worker_url: &str) -> anyhow::Result<String> {
    let mut superuser = PgConnection::connect(server).await?;
    for url in [app_url, worker_url] {
        let url = Url::parse(url)?;
        let verifier = scram_verifier(url.password().unwrap_or_default());
        let sql = format!("ALTER ROLE {} PASSWORD {}", identifier(url.username()), literal(&verifier));
        superuser.execute(AssertSqlSafe(sql)).await?;
    }
    let password = random_name("");
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)")
        .bind(SUPERUSER)
        .fetch_one(&mut superuser)
        .await?;
    let verb = if exists { "ALTER" } else { "CREATE" };
    let sql = format!(
        "{verb} ROLE {} SUPERUSER LOGIN PASSWORD {}",
        identifier(SUPERUSER),
        literal(&scram_verifier(&password))
    );
    superuser.execute(AssertSqlSafe(sql)).await?;
    superuser.close().await?;
    let mut url = Url::parse(server)?;
    let _ = (url.set_username(SUPERUSER), url.set_password(Some(&password)));
    Ok(url.into())
}

/// What PostgreSQL keeps of a password (RFC 5803), with a single round; never to be used where a password matters.
fn scram_verifier(password: &str) -> String {
    let salt = [7; 16];
    let salted = hmac_sha256(password.as_bytes(), &[&salt[..], &[0, 0, 0, 1]].concat());
    let stored = Sha256::digest(hmac_sha256(&salted, b"Client Key"));
    let server = hmac_sha256(&salted, b"Server Key");
    format!(
        "SCRAM-SHA-256$1:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored),
        STANDARD.encode(server)
    )
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC takes a key of any length (RFC 2104, section 3).
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// The settings of an application among doubles.
pub(super) fn configure(
    addresses: &Addresses,
    data_dir: &DataDir,
    doubles: &Doubles,
    app_url: &str,
    worker_url: &str,
) -> anyhow::Result<Config> {
    let mut config = Config::defaults()?;
    config.http.listen = addresses.chancery;
    config.http.public_url = addresses.public_url()?;
    config.http.additional_hosts = addresses.additional_hosts();
    config.crypto.key_file = data_dir.key_file();
    config.database.url = app_url.to_owned().into();
    config.database.worker_url = worker_url.to_owned().into();
    doubles.configure(&mut config, data_dir);
    Ok(config)
}

/// The URL of another database with the same login.
pub(super) fn with_database(url: &str, database: &str) -> anyhow::Result<String> {
    let mut url = Url::parse(url)?;
    url.set_path(database);
    Ok(url.into())
}

pub(super) fn random_name(prefix: &str) -> String {
    let mut random = [0; 8];
    RandomIds.fill(&mut random);
    format!("{prefix}{}", hex::encode(random))
}

fn new_directory() -> anyhow::Result<PathBuf> {
    let directory: PathBuf = Path::new(&std::env::temp_dir()).join(random_name("chancery-test-"));
    std::fs::create_dir(&directory)?;
    Ok(directory)
}
