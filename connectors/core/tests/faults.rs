//! The HTTP client against servers that fail in every way.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on panics")]

use std::{
    collections::VecDeque,
    num::{NonZeroU32, NonZeroUsize},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use connector_core::{
    CircuitSettings, ConnectorError, ErrorKind, Health, HttpClient, HttpClientBuilder, MockClock, Rate,
};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::Url;

/// What the server does with a request.
#[derive(Debug, Clone)]
enum Act {
    /// Answers so, byte by byte.
    Say(String),
    /// Reads the request and closes the connection.
    Close,
    /// Reads the request and never answers.
    Hang,
    /// Sends a head that promises 100 bytes, and one of them now and then.
    Drip,
    /// Sends a head that promises 100 bytes, ten of them, and closes the connection.
    Break,
    /// Sends bytes without end.
    Flood,
}

fn say(status: &str, headers: &str, body: &str) -> Act {
    let length = body.len();
    Act::Say(format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}"))
}

fn ok() -> Act {
    say("200 OK", "", r#"{"done":true}"#)
}

/// Does these acts in turn, the last one again and again. Each connection is for one request.
struct Server {
    url: Url,
    requests: Arc<Mutex<Vec<String>>>,
    most_at_once: Arc<AtomicUsize>,
}

impl Server {
    async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/prefix/", listener.local_addr().unwrap()).parse().unwrap();
        let acts = Arc::new(Mutex::new(acts.into_iter().collect::<VecDeque<_>>()));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (at_once, most_at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (seen, most) = (Arc::clone(&requests), Arc::clone(&most_at_once));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acts, seen) = (Arc::clone(&acts), Arc::clone(&seen));
                let (at_once, most) = (Arc::clone(&at_once), Arc::clone(&most));
                tokio::spawn(async move {
                    let now = at_once.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    let _ = serve(stream, &acts, &seen).await;
                    at_once.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, requests, most_at_once }
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

async fn serve(
    mut stream: TcpStream,
    acts: &Mutex<VecDeque<Act>>,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&piece[..length]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let promised = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        if promised.is_none_or(|promised| body.len() >= promised.parse().unwrap()) {
            seen.lock().unwrap().push(text);
            break;
        }
    }
    let act = {
        let mut acts = acts.lock().unwrap();
        if acts.len() > 1 { acts.pop_front() } else { acts.front().cloned() }
    };
    let promise = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n";
    match act.unwrap() {
        Act::Say(answer) => {
            // Long enough for others to come in meanwhile.
            tokio::time::sleep(Duration::from_millis(5)).await;
            let (head, rest) = answer.split_once("\r\n").unwrap();
            stream.write_all(format!("{head}\r\nconnection: close\r\n{rest}").as_bytes()).await?;
        }
        Act::Close => {}
        Act::Hang => std::future::pending().await,
        Act::Drip => {
            stream.write_all(promise).await?;
            loop {
                stream.write_all(b"1").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Act::Break => {
            stream.write_all(promise).await?;
            stream.write_all(b"[1,2,3,4,5").await?;
        }
        Act::Flood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            loop {
                stream.write_all(format!("400\r\n{}\r\n", "x".repeat(0x400)).as_bytes()).await?;
            }
        }
    }
    stream.shutdown().await
}

fn noon() -> DateTime<Utc> {
    "2026-11-01T12:00:00Z".parse().unwrap()
}

fn clock() -> Arc<MockClock> {
    Arc::new(MockClock::new(noon()))
}

fn builder(url: &Url, clock: &Arc<MockClock>) -> HttpClientBuilder {
    HttpClient::builder("tool", url.clone()).clock(Arc::<MockClock>::clone(clock))
}

async fn get(client: &HttpClient) -> Result<Value, ConnectorError> {
    client.get(&["thing", "1"], &[], None).await
}

async fn post(client: &HttpClient) -> Result<Value, ConnectorError> {
    client.post(&["things"], &json!({"name": "a"}), None).await
}

async fn put(client: &HttpClient) -> Result<Value, ConnectorError> {
    client.put(&["thing", "1"], &[], &json!({"name": "a"}), None).await
}

#[tokio::test]
async fn a_path_prefix_is_kept_and_segments_are_escaped_and_dots_are_refused() {
    let server = Server::start([ok()]).await;
    let client = builder(&server.url, &clock()).build().unwrap();
    let answer: Value = client.get(&["a/b", "ü"], &[("q", "x y")], Some("token")).await.unwrap();
    assert_eq!(answer, json!({"done": true}));
    let request = server.requests.lock().unwrap()[0].clone();
    assert!(request.starts_with("GET /prefix/a%2Fb/%C3%BC?q=x+y HTTP/1.1\r\n"), "{request}");
    for dots in [".", ".."] {
        let error = client.get::<Value>(&["things", dots], &[], None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Permanent);
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn whatever_breaks_a_read_or_a_repeatable_write_is_transient_and_a_post_ambiguous() {
    for act in [Act::Close, Act::Hang, Act::Drip, Act::Break] {
        let server = Server::start([act.clone()]).await;
        let client = builder(&server.url, &clock()).deadline(Duration::from_millis(120)).build().unwrap();
        for (result, kind) in [
            (get(&client).await, ErrorKind::Transient),
            (put(&client).await, ErrorKind::Transient),
            (post(&client).await, ErrorKind::Ambiguous),
        ] {
            let error = result.unwrap_err();
            assert_eq!((error.kind, error.status), (kind, None), "{act:?}: {error}");
        }
    }
}

#[tokio::test]
async fn a_server_that_goes_silent_is_given_up_before_the_deadline() {
    for act in [Act::Hang, Act::Drip] {
        let server = Server::start([act.clone()]).await;
        let client = builder(&server.url, &clock())
            .read_timeout(Duration::from_millis(100))
            .deadline(Duration::from_millis(400))
            .build()
            .unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(get(&client).await.unwrap_err().kind, ErrorKind::Transient);
        // What drips isn't silent: only the deadline ends it.
        let is_early = begun.elapsed() < Duration::from_millis(350);
        assert_eq!(is_early, matches!(act, Act::Hang), "{act:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_call_that_could_not_be_made_is_transient_even_where_it_would_write() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/", nobody.local_addr().unwrap()).parse().unwrap();
    drop(nobody);
    let error = post(&builder(&url, &clock()).build().unwrap()).await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Transient, "no connection"));
}

#[tokio::test]
async fn an_answer_that_is_not_this_tools_is_misconfigured_and_after_a_post_ambiguous() {
    for (act, status) in [
        (say("200 OK", "", "<html>"), None),
        (say("200 OK", "", r#"{"done":"#), None),
        (Act::Flood, None),
        (say("302 Found", "location: /login\r\n", ""), Some(302)),
    ] {
        let server = Server::start([act.clone()]).await;
        let client = builder(&server.url, &clock()).answer_cap(10_000).build().unwrap();
        let error = get(&client).await.unwrap_err();
        assert_eq!((error.kind, error.status), (ErrorKind::Misconfigured, status), "{act:?}");
        let error = post(&client).await.unwrap_err();
        let expected = if status.is_some() { ErrorKind::Misconfigured } else { ErrorKind::Ambiguous };
        assert_eq!(error.kind, expected, "{act:?}");
        assert!(matches!(client.health(), Health::Failing { failures: 2, .. }), "{:?}", client.health());
    }
}

#[tokio::test]
async fn no_secret_of_ours_is_in_an_error_or_in_debug_output() {
    let echo = r#"{"error":"no key s3cret-key, no token s3cret-token"}"#;
    let server = Server::start([say("400 Bad Request", "", echo)]).await;
    let client = builder(&server.url, &clock())
        .secret_header("x-key".parse().unwrap(), "s3cret-key")
        .unwrap()
        .build()
        .unwrap();
    let error =
        client.get::<Value>(&["x"], &[("key", "s3cret-query")], Some("s3cret-token")).await.unwrap_err();
    let request = server.requests.lock().unwrap()[0].clone();
    assert!(request.contains("x-key: s3cret-key") && request.contains("authorization: Bearer s3cret-token"));
    assert!(!format!("{error:?} {error} {client:?}").contains("s3cret"), "{error:?} {client:?}");

    let dead = builder(&"http://127.0.0.1:1/".parse().unwrap(), &clock()).build().unwrap();
    let error = dead.get::<Value>(&["x"], &[("key", "s3cret-query")], None).await.unwrap_err();
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");

    for url in ["http://user:s3cret@a.test/", "http://s3cret@a.test/", "mailto:s3cret"] {
        let error = builder(&url.parse().unwrap(), &clock()).build().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_keeps_failing_is_left_alone_and_then_tried_by_one_call() {
    for act in [Act::Close, say("500 Internal Server Error", "", "")] {
        let server = Server::start(std::iter::repeat_n(act, 5).chain([ok()])).await;
        let clock = clock();
        let client = builder(&server.url, &clock).build().unwrap();
        for _ in 0..5 {
            assert!(get(&client).await.is_err());
        }
        let error = post(&client).await.unwrap_err();
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Transient, Some(Duration::from_secs(10))));
        assert_eq!(server.requests(), 5, "nothing was sent");
        clock.advance(TimeDelta::seconds(10));
        let results = join_all((0..20).map(|_| get(&client))).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "one probe");
        assert_eq!(server.requests(), 6);
        assert!(join_all((0..20).map(|_| get(&client))).await.iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn a_client_with_other_credentials_shares_the_circuit_and_has_health_of_its_own() {
    let server = Server::start([Act::Close]).await;
    let client = builder(&server.url, &clock()).build().unwrap();
    let other = client.with_secret_header("x-key".parse().unwrap(), "other").unwrap();
    for _ in 0..5 {
        assert!(get(&client).await.is_err());
    }
    assert_eq!(other.health(), Health::Unknown);
    assert!(get(&other).await.unwrap_err().retry_after.is_some());
    assert_eq!(server.requests(), 5);
    assert_eq!(other.health(), Health::Unknown, "what wasn't called wasn't seen");
}

#[tokio::test]
async fn what_a_server_refuses_opens_no_circuit() {
    let server = Server::start([say("422 Unprocessable Entity", "", r#"{"error":"no"}"#)]).await;
    let client = builder(&server.url, &clock()).build().unwrap();
    for _ in 0..20 {
        assert_eq!(post(&client).await.unwrap_err().kind, ErrorKind::Permanent);
    }
    assert!(matches!(client.health(), Health::Working { .. }));
}

#[tokio::test]
async fn a_storm_of_429_ends_with_the_calls_that_were_under_way() {
    for (headers, wait) in [
        ("retry-after: 30\r\n", 30),
        ("retry-after: Sun, 01 Nov 2026 12:00:30 GMT\r\n", 30),
        ("date: Sun, 01 Nov 2026 13:00:00 GMT\r\nretry-after: Sun, 01 Nov 2026 13:00:30 GMT\r\n", 30),
        ("", 1),
    ] {
        let server = Server::start([say("429 Too Many Requests", headers, "Retry later")]).await;
        let clock = clock();
        let concurrency = NonZeroUsize::new(4).unwrap();
        let client = builder(&server.url, &clock).concurrency(concurrency).build().unwrap();
        let results = join_all((0..200).map(|_| post(&client))).await;
        assert!(results.into_iter().all(|result| result.unwrap_err().kind == ErrorKind::Transient));
        assert!(server.requests() <= 4, "{headers}: {} requests", server.requests());
        let error = post(&client).await.unwrap_err();
        assert_eq!(error.retry_after, Some(Duration::from_secs(wait)), "{headers}");
        let before = server.requests();
        clock.advance(TimeDelta::seconds(i64::try_from(wait).unwrap()));
        assert_eq!(post(&client).await.unwrap_err().status, Some(429), "{headers}");
        assert_eq!(server.requests(), before + 1);
        assert!(!client.health().is_failing(), "it has too much to do, and works");
    }
}

#[tokio::test]
async fn matrix_says_in_the_body_how_long_to_wait_and_the_longer_wait_counts() {
    let body = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too Many Requests","retry_after_ms":2500}"#;
    let server = Server::start([say("429 Too Many Requests", "retry-after: 1\r\n", body)]).await;
    let error = get(&builder(&server.url, &clock()).build().unwrap()).await.unwrap_err();
    assert_eq!(error.retry_after, Some(Duration::from_millis(2_500)));
    assert_eq!(error.code.as_deref(), Some("M_LIMIT_EXCEEDED"));
}

#[tokio::test]
async fn no_more_calls_are_made_at_once_than_allowed_and_who_gets_no_turn_in_time_is_told_so() {
    let server = Server::start([ok()]).await;
    let client = builder(&server.url, &clock()).concurrency(NonZeroUsize::new(3).unwrap()).build().unwrap();
    assert!(join_all((0..30).map(|_| get(&client))).await.iter().all(Result::is_ok));
    assert!(server.most_at_once.load(Ordering::SeqCst) <= 3);

    let server = Server::start([ok()]).await;
    let rate = Rate { requests: NonZeroU32::MIN, per: Duration::from_mins(1) };
    let client =
        builder(&server.url, &clock()).rate(rate).deadline(Duration::from_millis(100)).build().unwrap();
    post(&client).await.unwrap();
    let error = post(&client).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}: it was never sent");
    assert_eq!(server.requests(), 1);
    assert!(matches!(client.health(), Health::Working { .. }));
}

#[tokio::test]
async fn calls_are_spread_over_time_as_the_rate_says() {
    let server = Server::start([ok()]).await;
    let rate = Rate { requests: NonZeroU32::new(5).unwrap(), per: Duration::from_millis(250) };
    let client = builder(&server.url, &clock()).rate(rate).build().unwrap();
    let begun = tokio::time::Instant::now();
    assert!(join_all((0..10).map(|_| get(&client))).await.iter().all(Result::is_ok));
    assert!(begun.elapsed() >= Duration::from_millis(240), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn health_says_since_when_and_why() {
    let server = Server::start([ok(), Act::Close, say("401 Unauthorized", "", ""), ok()]).await;
    let clock = clock();
    let client = builder(&server.url, &clock).build().unwrap();
    assert_eq!(client.health(), Health::Unknown);
    get(&client).await.unwrap();
    assert_eq!(client.health(), Health::Working { since: noon() });
    let later = |minutes| noon() + TimeDelta::minutes(minutes);
    clock.set(later(1));
    let _ = get(&client).await;
    clock.set(later(2));
    let _ = get(&client).await;
    let failing = Health::Failing {
        since: later(1),
        last: later(2),
        kind: ErrorKind::Unauthorised,
        why: "answered 401 Unauthorized".to_owned(),
        failures: 2,
    };
    assert_eq!(client.health(), failing);
    clock.set(later(3));
    get(&client).await.unwrap();
    assert_eq!(client.health(), Health::Working { since: later(3) });
}

#[tokio::test]
async fn a_call_that_is_given_up_as_a_probe_does_not_keep_the_circuit_open() {
    let server = Server::start(std::iter::repeat_n(Act::Close, 2).chain([Act::Hang, ok()])).await;
    let clock = clock();
    let circuit = CircuitSettings { failures: NonZeroU32::new(2).unwrap(), ..CircuitSettings::default() };
    let client = builder(&server.url, &clock).circuit(circuit).build().unwrap();
    for _ in 0..2 {
        assert!(get(&client).await.is_err());
    }
    clock.advance(TimeDelta::seconds(10));
    assert!(tokio::time::timeout(Duration::from_millis(50), get(&client)).await.is_err());
    get(&client).await.unwrap();
}

#[tokio::test]
async fn without_a_circuit_every_call_is_made() {
    let busy = say("503 Service Unavailable", "retry-after: 30\r\n", "");
    let server = Server::start([busy]).await;
    let client = builder(&server.url, &clock()).without_circuit().build().unwrap();
    for _ in 0..9 {
        assert_eq!(get(&client).await.unwrap_err().retry_after, Some(Duration::from_secs(30)));
    }
    assert_eq!(server.requests(), 9);
}
