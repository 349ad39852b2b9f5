use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use redis::{
    Client, ClientTlsConfig, Cmd, FromRedisValue, RedisError, TlsCertificates,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use secrecy::ExposeSecret as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    SessionKey,
    storage::{Label, Record, SessionStorage, StorageError},
    watch::Watches,
};
use crate::config::RedisConfig;

/// How long a connection may take to be there.
const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// How long one command may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// How long a request waits in all, a second attempt included.
const DEADLINE: Duration = Duration::from_secs(3);
/// The time between two attempts to listen.
const LISTEN_AGAIN: Duration = Duration::from_millis(250);

// Each script is one round trip and happens as a whole. KEYS[1] is the session, the further keys are its labels.
const INSERT: &str = "
    redis.call('HSET', KEYS[1], 'content', ARGV[1], 'revision', ARGV[2], 'used', ARGV[3])
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
    for label = 2, #KEYS do
        for _, key in ipairs(redis.call('SMEMBERS', KEYS[label])) do
            if redis.call('EXISTS', ARGV[7] .. key) == 0 then redis.call('SREM', KEYS[label], key) end
        end
        redis.call('SADD', KEYS[label], ARGV[6])
        redis.call('PEXPIRE', KEYS[label], ARGV[5])
    end";
// A session that nobody used leaves its key behind in the sets of its labels.
const LABELLED: &str = "
    local alive = {}
    for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
        if redis.call('EXISTS', ARGV[1] .. key) == 1 then
            alive[#alive + 1] = key
        else
            redis.call('SREM', KEYS[1], key)
        end
    end
    return alive";
const READ: &str = "
    local found = redis.call('HMGET', KEYS[1], 'content', 'revision', 'used')
    if not found[1] then return false end
    if ARGV[1] then
        redis.call('HSET', KEYS[1], 'used', ARGV[1])
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
    end
    return found";
const REPLACE: &str = "
    if redis.call('HGET', KEYS[1], 'revision') ~= ARGV[1] then return 0 end
    redis.call('HSET', KEYS[1], 'content', ARGV[2])
    redis.call('HINCRBY', KEYS[1], 'revision', 1)
    return 1";
const REMOVE: &str = "
    for label = 2, #KEYS do redis.call('SREM', KEYS[label], ARGV[1]) end
    redis.call('PUBLISH', ARGV[2], ARGV[1])
    return redis.call('DEL', KEYS[1])";
const CLAIM: &str = "
    if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
    if redis.call('GET', KEYS[1]) == ARGV[1] then return 1 end
    return 0";
const RELEASE: &str = "
    if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end";

/// Sessions in Redis, shared by all replicas.
pub(super) struct RedisStorage {
    client: Client,
    /// Connects when first needed: the application starts without Redis, too.
    connection: ConnectionManager,
    prefix: String,
    watches: Watches,
}

impl std::fmt::Debug for RedisStorage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RedisStorage").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl From<RedisError> for StorageError {
    fn from(error: RedisError) -> Self {
        Self(Box::new(error))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A way to the server, with TLS where its address says so.
fn client(config: &RedisConfig) -> Result<Client, RedisError> {
    let url = config.url.expose_secret();
    if !config.is_encrypted() {
        return Client::open(url);
    }
    let bytes = |pem: &str| pem.as_bytes().to_vec();
    let own = ClientTlsConfig {
        client_cert: bytes(&config.client_certificate),
        client_key: bytes(config.client_key.expose_secret()),
    };
    let certificates = TlsCertificates {
        client_tls: (!own.client_cert.is_empty()).then_some(own),
        root_cert: (!config.ca.is_empty()).then(|| bytes(&config.ca)),
    };
    Client::build_with_tls(url, certificates)
}

/// Asks the server which version it is; writes nothing.
pub(super) async fn server_version(config: &RedisConfig) -> Result<String, StorageError> {
    let deadlines = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_DEADLINE))
        .set_response_timeout(Some(ANSWER_DEADLINE))
        .set_number_of_retries(0);
    let mut connection = client(config)?.get_connection_manager_with_config(deadlines).await?;
    let info: Result<String, RedisError> =
        redis::cmd("INFO").arg("server").query_async(&mut connection).await;
    let info = match info {
        Ok(info) => info,
        // A login that may do what sessions need may do no more.
        Err(_) => redis::cmd("PING").query_async(&mut connection).await?,
    };
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
    Ok(version.unwrap_or("of an unknown version").to_owned())
}

impl RedisStorage {
    /// A storage that isn't connected yet.
    pub fn new(config: &RedisConfig, watches: Watches) -> Result<Self, StorageError> {
        let client = client(config)?;
        let deadlines = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_DEADLINE))
            .set_response_timeout(Some(ANSWER_DEADLINE))
            .set_number_of_retries(1);
        let connection = client.get_connection_manager_lazy(deadlines)?;
        Ok(Self { client, connection, prefix: config.prefix.clone(), watches })
    }

    /// Wakes whoever watches a session that another replica has ended, until `stop`, and says each time that Redis is back.
    pub fn listen(
        &self,
        stop: CancellationToken,
        back: Arc<Notify>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (client, channel, watches) = (self.client.clone(), self.channel(), self.watches.clone());
        async move {
            loop {
                let heard = async {
                    if let Err(error) = hear(&client, &channel, &watches, &back).await {
                        tracing::warn!(%error, "what other replicas say of sessions can't be heard now");
                    }
                    tokio::time::sleep(LISTEN_AGAIN).await;
                };
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = heard => {}
                }
            }
        }
    }

    fn channel(&self) -> String {
        format!("{}:ended", self.prefix)
    }

    fn session(&self, key: SessionKey) -> String {
        format!("{}{}", self.sessions(), key.hex())
    }

    /// What the names of all sessions begin with.
    fn sessions(&self) -> String {
        format!("{}:session:", self.prefix)
    }

    fn label(&self, label: &Label) -> String {
        format!("{}:{}", self.prefix, label.name())
    }

    fn name(&self, name: &str) -> String {
        format!("{}:claim:{name}", self.prefix)
    }

    /// A script on a session and its labels.
    fn script(&self, script: &str, key: SessionKey, labels: &[Label]) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(1 + labels.len()).arg(self.session(key));
        for label in labels {
            command.arg(self.label(label));
        }
        command
    }

    /// Asks, and once more where the connection broke. Redis may have done the first already, so that each command means the
    /// same when it comes twice; what it answers then may not.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StorageError> {
        let asked = async {
            let mut connection = self.connection.clone();
            match command.query_async(&mut connection).await {
                // The connection broke since the last command, or while this one was under way; it is being made anew.
                Err(error) if error.is_io_error() || error.is_connection_dropped() => {
                    command.query_async(&mut connection).await
                }
                answer => answer,
            }
        };
        match tokio::time::timeout(DEADLINE, asked).await {
            Ok(answer) => Ok(answer?),
            Err(elapsed) => Err(StorageError(Box::new(elapsed))),
        }
    }
}

/// Listens until the connection ends.
async fn hear(client: &Client, channel: &str, watches: &Watches, back: &Notify) -> Result<(), StorageError> {
    let subscribed = async {
        let mut listening = client.get_async_pubsub().await?;
        listening.subscribe(channel).await?;
        Ok::<_, RedisError>(listening)
    };
    let listening = tokio::time::timeout(DEADLINE, subscribed).await;
    let listening = listening.map_err(|elapsed| StorageError(Box::new(elapsed)))??;
    // What was said before is lost.
    watches.perhaps_ended();
    back.notify_one();
    let mut messages = listening.into_on_message();
    while let Some(message) = messages.next().await {
        match message.get_payload::<String>().ok().as_deref().and_then(SessionKey::from_hex) {
            Some(key) => watches.ended(key),
            None => watches.perhaps_ended(),
        }
    }
    Ok(())
}

#[async_trait]
impl SessionStorage for RedisStorage {
    async fn insert(
        &self,
        key: SessionKey,
        record: &Record,
        labels: &[Label],
        idle: Duration,
        absolute: Duration,
    ) -> Result<(), StorageError> {
        let mut command = self.script(INSERT, key, labels);
        command
            .arg(&record.sealed)
            .arg(record.revision)
            .arg(record.used_at.timestamp_millis())
            .arg(milliseconds(idle))
            .arg(milliseconds(absolute))
            .arg(key.hex())
            .arg(self.sessions());
        self.ask(&command).await
    }

    async fn read(
        &self,
        key: SessionKey,
        used: Option<(DateTime<Utc>, Duration)>,
    ) -> Result<Option<Record>, StorageError> {
        let mut command = self.script(READ, key, &[]);
        if let Some((at, idle)) = used {
            command.arg(at.timestamp_millis()).arg(milliseconds(idle));
        }
        let found: Option<(Vec<u8>, u64, i64)> = self.ask(&command).await?;
        Ok(found.and_then(|(sealed, revision, used)| {
            let used_at = DateTime::from_timestamp_millis(used)?;
            Some(Record { sealed, revision, used_at })
        }))
    }

    async fn replace(&self, key: SessionKey, revision: u64, sealed: &[u8]) -> Result<bool, StorageError> {
        let mut command = self.script(REPLACE, key, &[]);
        command.arg(revision).arg(sealed);
        self.ask(&command).await
    }

    async fn remove(&self, key: SessionKey, labels: &[Label]) -> Result<bool, StorageError> {
        let mut command = self.script(REMOVE, key, labels);
        command.arg(key.hex()).arg(self.channel());
        let was_there = self.ask(&command).await?;
        self.watches.ended(key);
        Ok(was_there)
    }

    async fn labelled(&self, label: &Label) -> Result<Vec<SessionKey>, StorageError> {
        let mut command = redis::cmd("EVAL");
        command.arg(LABELLED).arg(1).arg(self.label(label)).arg(self.sessions());
        let keys: Vec<String> = self.ask(&command).await?;
        Ok(keys.iter().filter_map(|key| SessionKey::from_hex(key)).collect())
    }

    async fn claim(&self, name: &str, owner: &str, lifetime: Duration) -> Result<bool, StorageError> {
        let mut command = redis::cmd("EVAL");
        command.arg(CLAIM).arg(1).arg(self.name(name)).arg(owner).arg(milliseconds(lifetime));
        self.ask(&command).await
    }

    async fn release(&self, name: &str, owner: &str) -> Result<(), StorageError> {
        let mut command = redis::cmd("EVAL");
        command.arg(RELEASE).arg(1).arg(self.name(name)).arg(owner);
        self.ask(&command).await
    }

    async fn is_claimed(&self, name: &str) -> Result<bool, StorageError> {
        self.ask(redis::cmd("EXISTS").arg(self.name(name))).await
    }
}
