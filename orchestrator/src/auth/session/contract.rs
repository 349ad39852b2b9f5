//! What every storage does: the same cases on memory and on a real Redis.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    Label, Record, SessionKey, SessionStorage, Sessions,
    memory::MemoryStorage,
    redis::RedisStorage,
    tests::{headers, new, sessions_in},
    watch::Watches,
};
use crate::{
    config::{Config, RedisConfig},
    ids::UserId,
    testing::RedisServer,
};

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(60);

fn at(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_800_000_000_000 + milliseconds).unwrap()
}

fn record(content: &[u8]) -> Record {
    Record { sealed: content.to_vec(), revision: 1, used_at: at(1) }
}

fn user(number: u128) -> UserId {
    UserId(uuid::Uuid::from_u128(number))
}

async fn holds(storage: &dyn SessionStorage) {
    what_is_kept_is_found(storage).await;
    use_prolongs_and_disuse_ends(storage).await;
    only_the_latest_is_replaced(storage).await;
    what_is_removed_is_gone_with_its_labels(storage).await;
    a_name_is_claimed_once(storage).await;
}

async fn what_is_kept_is_found(storage: &dyn SessionStorage) {
    let (one, two, stranger) = (SessionKey::of(b"1"), SessionKey::of(b"2"), SessionKey::of(b"3"));
    // Whatever bytes the content has.
    let content: Vec<u8> = (0..=255).collect();
    let labels = [Label::User(user(1)), Label::keycloak_session("k")];
    storage.insert(one, &record(&content), &labels, LONG, LONG).await.unwrap();
    storage.insert(two, &record(b"two"), &labels[..1], LONG, LONG).await.unwrap();
    assert_eq!(storage.read(one, None).await.unwrap(), Some(record(&content)));
    assert_eq!(storage.read(two, None).await.unwrap(), Some(record(b"two")));
    assert_eq!(storage.read(stranger, None).await.unwrap(), None);
    let mut of_user = storage.labelled(&labels[0]).await.unwrap();
    of_user.sort_by_key(|key| *key != one);
    assert_eq!(of_user, [one, two]);
    assert_eq!(storage.labelled(&labels[1]).await.unwrap(), [one]);
    assert_eq!(storage.labelled(&Label::User(user(9))).await.unwrap(), []);
    assert_eq!(storage.labelled(&Label::keycloak_session("K")).await.unwrap(), []);
}

async fn use_prolongs_and_disuse_ends(storage: &dyn SessionStorage) {
    let (used, unused) = (SessionKey::of(b"used"), SessionKey::of(b"unused"));
    for key in [used, unused] {
        storage.insert(key, &record(b"x"), &[Label::User(user(2))], SHORT, LONG).await.unwrap();
    }
    // The answer is how it was before; the next one how it is.
    assert_eq!(storage.read(used, Some((at(7), LONG))).await.unwrap(), Some(record(b"x")));
    assert_eq!(storage.read(used, None).await.unwrap().unwrap().used_at, at(7));
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(storage.labelled(&Label::User(user(2))).await.unwrap(), [used]);
    assert!(storage.read(used, None).await.unwrap().is_some());
    assert_eq!(storage.read(unused, Some((at(7), LONG))).await.unwrap(), None);
    assert_eq!(storage.read(unused, None).await.unwrap(), None, "asking for it has not brought it back");
    assert!(!storage.replace(unused, 1, b"y").await.unwrap());
    assert!(!storage.remove(unused, &[Label::User(user(2))]).await.unwrap());
}

async fn only_the_latest_is_replaced(storage: &dyn SessionStorage) {
    let key = SessionKey::of(b"replaced");
    storage.insert(key, &record(b"a"), &[], LONG, LONG).await.unwrap();
    assert!(storage.replace(key, 1, b"b").await.unwrap());
    assert!(!storage.replace(key, 1, b"c").await.unwrap(), "somebody was faster");
    assert!(storage.replace(key, 2, b"d").await.unwrap());
    let now = storage.read(key, None).await.unwrap().unwrap();
    assert_eq!((now.sealed.as_slice(), now.revision, now.used_at), (&b"d"[..], 3, at(1)));
    assert!(!storage.replace(SessionKey::of(b"nobody's"), 1, b"x").await.unwrap());
    assert_eq!(storage.read(SessionKey::of(b"nobody's"), None).await.unwrap(), None);
}

async fn what_is_removed_is_gone_with_its_labels(storage: &dyn SessionStorage) {
    let (gone, stays) = (SessionKey::of(b"gone"), SessionKey::of(b"stays"));
    let labels = [Label::User(user(3)), Label::keycloak_session("g")];
    for key in [gone, stays] {
        storage.insert(key, &record(b"x"), &labels, LONG, LONG).await.unwrap();
    }
    assert!(storage.remove(gone, &labels).await.unwrap());
    assert!(!storage.remove(gone, &labels).await.unwrap());
    assert_eq!(storage.read(gone, None).await.unwrap(), None);
    for label in &labels {
        assert_eq!(storage.labelled(label).await.unwrap(), [stays]);
    }
}

async fn a_name_is_claimed_once(storage: &dyn SessionStorage) {
    assert!(storage.claim("a", "me", LONG).await.unwrap());
    assert!(!storage.claim("a", "you", LONG).await.unwrap());
    assert!(storage.claim("a", "me", LONG).await.unwrap(), "it is its own");
    assert!(storage.is_claimed("a").await.unwrap());
    storage.release("a", "you").await.unwrap();
    assert!(!storage.claim("a", "you", LONG).await.unwrap(), "only its owner gives it back");
    storage.release("a", "me").await.unwrap();
    assert!(!storage.is_claimed("a").await.unwrap());
    assert!(storage.claim("a", "you", SHORT).await.unwrap());
    tokio::time::sleep(SHORT * 2).await;
    assert!(!storage.is_claimed("a").await.unwrap());
    assert!(storage.claim("a", "me", LONG).await.unwrap());
}

fn in_redis(server: &RedisServer, prefix: &str, watches: Watches) -> RedisStorage {
    let mut config = Config::defaults().unwrap().redis;
    server.configure(&mut config);
    config.prefix = prefix.to_owned();
    RedisStorage::new(&config, watches).unwrap()
}

fn at_url(url: String, prefix: &str, watches: Watches) -> RedisStorage {
    let mut config = Config::defaults().unwrap().redis;
    config.url = url.into();
    config.prefix = prefix.to_owned();
    RedisStorage::new(&config, watches).unwrap()
}

#[tokio::test]
async fn memory_does_what_a_storage_does() {
    holds(&MemoryStorage::new(Watches::default())).await;
}

#[tokio::test]
async fn redis_does_what_a_storage_does() {
    let server = RedisServer::start().await;
    holds(&in_redis(&server, "chancery", Watches::default())).await;
    // Another installation on the same server sees nothing of it.
    let other = in_redis(&server, "other", Watches::default());
    assert_eq!(other.read(SessionKey::of(b"1"), None).await.unwrap(), None);
    holds(&other).await;
}

#[tokio::test]
async fn redis_does_what_a_storage_does_over_tls() {
    let server = RedisServer::start_with_tls().await;
    let watches = Watches::default();
    let storage = in_redis(&server, "chancery", watches.clone());
    holds(&storage).await;
    // The other connection, too.
    let watch = watches.watch(SessionKey::of(b"1"));
    let stop = tokio_util::sync::CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(storage.listen(stop, Arc::default()));
    tokio::time::timeout(Duration::from_secs(5), watch.woken()).await.expect("it listens");
}

#[tokio::test]
async fn a_redis_that_cannot_be_trusted_or_does_not_trust_us_is_not_used() {
    let (server, other) = (RedisServer::start_with_tls().await, RedisServer::start_with_tls().await);
    let refused = async |change: &dyn Fn(&mut RedisConfig)| {
        let mut config = Config::defaults().unwrap().redis;
        server.configure(&mut config);
        change(&mut config);
        let storage = RedisStorage::new(&config, Watches::default()).unwrap();
        storage.read(SessionKey::of(b"1"), None).await.unwrap_err();
    };
    let mut foreign = Config::defaults().unwrap().redis;
    other.configure(&mut foreign);
    // Another authority than the one that vouches for it, the machine's, and another name than its certificate's.
    refused(&|config| config.ca = foreign.ca.clone()).await;
    refused(&|config| config.ca = String::new()).await;
    refused(&|config| config.url = server.url().replace("127.0.0.1", "localhost").into()).await;
    // No certificate of ours, and one that it doesn't know.
    refused(&|config| {
        (config.client_certificate, config.client_key) = (String::new(), String::new().into());
    })
    .await;
    refused(&|config| {
        (config.client_certificate, config.client_key) =
            (foreign.client_certificate.clone(), foreign.client_key.clone());
    })
    .await;
    refused(&|config| config.url = server.url().replace("rediss:", "redis:").into()).await;
}

/// A way to a server on which an answer can be lost: the server does what it was told, and the connection breaks.
struct LossyWay {
    port: u16,
    /// What is in the command whose answer is to be lost, once.
    loses: Arc<Mutex<Option<&'static str>>>,
}

impl LossyWay {
    async fn to(server: &RedisServer) -> Self {
        let server = server.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Self { port, loses: Arc::default() };
        let loses = Arc::clone(&way.loses);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(Self::lead(client, server, Arc::clone(&loses)));
            }
        });
        way
    }

    async fn lead(mut client: TcpStream, mut server: TcpStream, loses: Arc<Mutex<Option<&'static str>>>) {
        let (mut asked, mut answered, mut is_lost) = ([0; 16_384], [0; 16_384], false);
        loop {
            tokio::select! {
                length = client.read(&mut asked) => {
                    let Ok(length @ 1..) = length else { return };
                    let command = String::from_utf8_lossy(&asked[..length]).into_owned();
                    is_lost |= loses.lock().unwrap().take_if(|lost| command.contains(*lost)).is_some();
                    server.write_all(&asked[..length]).await.unwrap();
                }
                length = server.read(&mut answered) => {
                    let Ok(length @ 1..) = length else { return };
                    if is_lost {
                        return;
                    }
                    client.write_all(&answered[..length]).await.unwrap();
                }
            }
        }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn lose_the_answer_to(&self, command: &'static str) {
        *self.loses.lock().unwrap() = Some(command);
    }

    fn has_lost_it(&self) -> bool {
        self.loses.lock().unwrap().is_none()
    }
}

#[tokio::test]
async fn who_claims_a_name_has_it_though_the_first_answer_was_lost() {
    let server = RedisServer::start().await;
    let way = LossyWay::to(&server).await;
    let storage = at_url(way.url(), "chancery", Watches::default());
    assert!(!storage.is_claimed("a").await.unwrap());
    for (owner, is_theirs) in [("me", true), ("you", false)] {
        way.lose_the_answer_to("claim:a");
        assert_eq!(storage.claim("a", owner, LONG).await.unwrap(), is_theirs, "{owner}");
        assert!(way.has_lost_it());
    }
}

#[tokio::test]
async fn a_session_that_ends_is_given_back_though_the_first_answer_was_lost() {
    let server = RedisServer::start().await;
    let way = LossyWay::to(&server).await;
    let mut redis = Config::defaults().unwrap().redis;
    redis.url = way.url().into();
    let (sessions, _) = sessions_in(&redis);
    let cookie = sessions.begin(new(1, "k")).await.unwrap().unwrap();
    let key = Sessions::key_of(&headers(&cookie)).unwrap();
    way.lose_the_answer_to("PUBLISH");
    let ended = sessions.end(key).await.unwrap().expect("whoever signs out is to sign out of Keycloak, too");
    assert!(way.has_lost_it());
    assert_eq!(ended.keycloak_session.as_deref(), Some("k"));
    assert!(sessions.touch(key, false).await.unwrap().is_none());
}

#[tokio::test]
async fn redis_forgets_nothing_half() {
    let server = RedisServer::start().await;
    let storage = in_redis(&server, "chancery", Watches::default());
    let label = Label::User(user(1));
    storage
        .insert(SessionKey::of(b"1"), &record(b"x"), std::slice::from_ref(&label), SHORT, SHORT * 2)
        .await
        .unwrap();
    storage.claim("name", "me", SHORT).await.unwrap();
    tokio::time::sleep(SHORT * 4).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    assert_eq!(keys, [""; 0], "what is left has no end");
}

#[tokio::test]
async fn what_is_found_by_a_label_in_redis_does_not_grow_with_each_sign_in() {
    let server = RedisServer::start().await;
    let storage = in_redis(&server, "chancery", Watches::default());
    let label = Label::User(user(1));
    for number in 0..3_u8 {
        storage
            .insert(SessionKey::of(&[number]), &record(b"x"), std::slice::from_ref(&label), SHORT, LONG)
            .await
            .unwrap();
        tokio::time::sleep(SHORT * 2).await;
    }
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut kept = redis::cmd("SCARD");
    kept.arg(format!("chancery:{}", label.name()));
    assert_eq!(kept.query_async::<usize>(&mut connection).await.unwrap(), 1, "only the last one's");
    assert_eq!(storage.labelled(&label).await.unwrap(), []);
    assert_eq!(kept.query_async::<usize>(&mut connection).await.unwrap(), 0);
}

#[tokio::test]
async fn who_watches_a_session_hears_of_its_end_on_every_replica() {
    let server = RedisServer::start().await;
    let (here, there) = (Watches::default(), Watches::default());
    let (on_this, on_that) =
        (in_redis(&server, "chancery", here.clone()), in_redis(&server, "chancery", there.clone()));
    let stop = tokio_util::sync::CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let (key, other) = (SessionKey::of(b"1"), SessionKey::of(b"2"));
    let (on_this_replica, on_the_other, of_other) = (here.watch(key), there.watch(key), there.watch(other));
    // Whoever begins to listen may have missed something.
    tokio::spawn(on_that.listen(stop, Arc::default()));
    let in_time = |watch: super::Watch| async move {
        tokio::time::timeout(Duration::from_secs(5), watch.woken()).await.expect("it is woken");
        watch
    };
    let (on_the_other, of_other) = (in_time(on_the_other).await, in_time(of_other).await);

    on_this.insert(key, &record(b"x"), &[], LONG, LONG).await.unwrap();
    assert!(on_this.remove(key, &[]).await.unwrap());
    in_time(on_this_replica).await;
    in_time(on_the_other).await;
    assert!(tokio::time::timeout(SHORT, of_other.woken()).await.is_err(), "another session goes on");
}

#[tokio::test]
async fn redis_being_down_is_an_error_and_passes() {
    let mut server = RedisServer::start().await;
    let storage = in_redis(&server, "chancery", Watches::default());
    storage.insert(SessionKey::of(b"1"), &record(b"x"), &[], LONG, LONG).await.unwrap();
    server.stop();
    for _ in 0..3 {
        let asked = tokio::time::timeout(Duration::from_secs(5), storage.read(SessionKey::of(b"1"), None));
        asked.await.expect("nobody waits for long").unwrap_err();
    }
    server.start_again().await;
    let again = async {
        while storage.insert(SessionKey::of(b"1"), &record(b"y"), &[], LONG, LONG).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("it passes by itself");
    assert_eq!(storage.read(SessionKey::of(b"1"), None).await.unwrap(), Some(record(b"y")));
}

#[tokio::test]
async fn a_storage_that_was_never_there_is_an_error() {
    let mut server = RedisServer::start().await;
    let storage = in_redis(&server, "chancery", Watches::default());
    server.stop();
    storage.read(SessionKey::of(b"1"), None).await.unwrap_err();
}
