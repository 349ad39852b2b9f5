//! Calls to addresses that somebody else chose, against servers that mean no good.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on panics")]

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use connector_core::egress::{EgressClient, EgressError, EgressPolicy, MAX_ANSWER_BYTES, Resolve};
use http::{HeaderMap, HeaderValue};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use url::Url;

/// A server that says the same to everybody, byte by byte, and counts who came and what was sent.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    came: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<String>>>,
}

/// Reads a request to the end of its body.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.unwrap_or(0);
        read.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
        let length = text.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
        });
        if count == 0 || body.is_some_and(|body| body >= length.unwrap_or(0)) {
            return text;
        }
    }
}

impl Server {
    async fn at<F>(address: &str, answer: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let server =
            Self { address: listener.local_addr().unwrap(), came: Arc::default(), heard: Arc::default() };
        let (came, heard) = (Arc::clone(&server.came), Arc::clone(&server.heard));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                came.fetch_add(1, Ordering::SeqCst);
                let request = read_request(&mut stream).await;
                heard.lock().unwrap().push(request);
                tokio::spawn(answer(stream));
            }
        });
        server
    }

    /// On loopback; says `text` and closes.
    async fn saying(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::at("127.0.0.1:0", move |mut stream| {
            let text = text.clone();
            async move {
                let _ = stream.write_all(text.as_bytes()).await;
            }
        })
        .await
    }

    fn url(&self) -> Url {
        format!("http://{}/hook?a=1", self.address).parse().unwrap()
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

/// A resolver that answers each question with the next answer, and then with the last one.
#[derive(Debug)]
struct Scripted(Mutex<VecDeque<Vec<IpAddr>>>);

impl Scripted {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let answers = answers
            .iter()
            .map(|answer| answer.iter().map(|address| address.parse().unwrap()).collect())
            .collect();
        Arc::new(Self(Mutex::new(answers)))
    }
}

impl Resolve for Scripted {
    fn resolve<'a>(
        &'a self,
        _: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

fn policy(networks: &[&str]) -> EgressPolicy {
    EgressPolicy {
        allow_http: true,
        ports: vec!["1-65535".parse().unwrap()],
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
    }
}

fn tls(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn client(networks: &[&str], resolver: Arc<Scripted>) -> EgressClient {
    EgressClient::with(policy(networks), resolver, tls(RootCertStore::empty()))
}

/// A client that may call loopback.
fn loopback() -> EgressClient {
    client(&["127.0.0.0/8"], Scripted::new(&[]))
}

async fn post(client: &EgressClient, url: &Url) -> Result<connector_core::egress::Answer, EgressError> {
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", HeaderValue::from_static("msg_1"));
    client.post(url, headers, Bytes::from_static(b"{\"hello\":1}")).await
}

#[tokio::test]
async fn a_request_is_sent_as_it_is_and_answered() {
    let server =
        Server::saying("HTTP/1.1 202 Accepted\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nok").await;
    let answer = post(&loopback(), &server.url()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.is_cut), (202, false));
    assert_eq!(answer.headers["retry-after"], "7");
    let heard = server.heard.lock().unwrap()[0].clone();
    assert!(heard.starts_with("POST /hook?a=1 HTTP/1.1\r\n"), "{heard}");
    assert!(heard.contains(&format!("host: {}\r\n", server.address)), "{heard}");
    assert!(heard.contains("webhook-id: msg_1\r\n") && heard.ends_with("\r\n\r\n{\"hello\":1}"), "{heard}");
    for header in ["cookie", "accept-encoding", "authorization", "proxy"] {
        assert!(!heard.contains(header), "{heard}");
    }
}

#[tokio::test]
async fn what_leads_inside_is_not_even_connected_to() {
    let server = Server::saying("HTTP/1.1 200 OK\r\n\r\n").await;
    let port = server.address.port();
    let closed = client(&[], Scripted::new(&[&["127.0.0.1"]]));
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost"] {
        let url = format!("http://{host}:{port}/").parse().unwrap();
        assert!(matches!(post(&closed, &url).await, Err(EgressError::Url(_))), "{host}");
    }
    let url = format!("http://innocent.example:{port}/").parse().unwrap();
    for answers in [
        &["127.0.0.1"][..],
        &["::1"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["0.0.0.0"],
        &["10.0.0.1", "169.254.169.254", "fe80::1"],
    ] {
        let closed = client(&[], Scripted::new(&[answers]));
        assert!(matches!(post(&closed, &url).await, Err(EgressError::Inside)), "{answers:?}");
    }
    assert_eq!(server.came(), 0);
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_a_moment_later_gains_nothing() {
    let outside = Server::at("127.0.0.2:0", |mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
    })
    .await;
    // The same port inside.
    let inside = Server::at(&format!("127.0.0.1:{}", outside.address.port()), |_| async {}).await;
    let resolver = Scripted::new(&[&["127.0.0.2"], &["127.0.0.1"], &["127.0.0.1", "127.0.0.2"]]);
    // What is allowed stands for what is public.
    let rebound = client(&["127.0.0.2/32"], resolver);
    let url = format!("http://rebinding.example:{}/", outside.address.port()).parse().unwrap();
    assert_eq!(post(&rebound, &url).await.unwrap().status, 204);
    assert!(matches!(post(&rebound, &url).await, Err(EgressError::Inside)));
    // Of several addresses, only the admitted ones.
    assert_eq!(post(&rebound, &url).await.unwrap().status, 204);
    assert_eq!((outside.came(), inside.came()), (2, 0));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let inside = Server::saying("HTTP/1.1 200 OK\r\n\r\n").await;
    let answer =
        format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", inside.url());
    let server = Server::saying(answer).await;
    let answer = post(&loopback(), &server.url()).await.unwrap();
    assert_eq!((answer.status.as_u16(), server.came(), inside.came()), (307, 1, 0));
}

#[tokio::test]
async fn of_an_answer_without_end_no_more_than_64_kib_are_read() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let server = Server::at("127.0.0.1:0", move |mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let chunk = format!("400\r\n{}\r\n", "a".repeat(0x400));
            while stream.write_all(chunk.as_bytes()).await.is_ok() {
                counted.fetch_add(0x400, Ordering::SeqCst);
            }
        }
    })
    .await;
    let begun = Instant::now();
    let answer = post(&loopback(), &server.url()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.is_cut), (200, true));
    assert!(begun.elapsed() < Duration::from_secs(5), "it isn't waited for");
    // The connection is closed: the server can't go on.
    let before = loop {
        let before = sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        if sent.load(Ordering::SeqCst) == before {
            break before;
        }
    };
    assert!(before >= MAX_ANSWER_BYTES / 2, "{before}");
}

#[tokio::test]
async fn an_answer_of_just_64_kib_is_complete() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 65000\r\n\r\n";
    let server = Server::saying(format!("{head}{}", "a".repeat(65_000))).await;
    assert!(!post(&loopback(), &server.url()).await.unwrap().is_cut);
    let server =
        Server::saying(format!("HTTP/1.1 200 OK\r\ncontent-length: 66000\r\n\r\n{}", "a".repeat(66_000)))
            .await;
    assert!(post(&loopback(), &server.url()).await.unwrap().is_cut);
}

#[tokio::test]
async fn huge_headers_are_given_up() {
    let server = Server::saying(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(200_000))).await;
    assert!(matches!(post(&loopback(), &server.url()).await, Err(EgressError::TooLarge)));
    // Many small ones, and interim answers (RFC 9110, section 15.2) without end, are no way around.
    let many = "x: a\r\n".repeat(20_000);
    let server = Server::saying(format!("HTTP/1.1 200 OK\r\n{many}\r\n")).await;
    post(&loopback(), &server.url()).await.unwrap_err();
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000);
    let server = Server::saying(format!("{interim}HTTP/1.1 200 OK\r\n\r\n")).await;
    assert!(matches!(post(&loopback(), &server.url()).await, Err(EgressError::TooLarge)));
}

#[tokio::test]
async fn who_answers_drop_by_drop_is_not_waited_for_beyond_the_deadline() {
    let quick = loopback().deadline(Duration::from_millis(600));
    for head in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"] {
        let server = Server::at("127.0.0.1:0", move |mut stream| async move {
            let _ = stream.write_all(head.as_bytes()).await;
            let drop: &[u8] = if head.ends_with("\r\n\r\n") { b"a" } else { b"x: y\r\n" };
            // Each drop comes well before the deadline; all of them never do.
            while !head.is_empty() && stream.write_all(drop).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            tokio::time::sleep(Duration::from_mins(1)).await;
        })
        .await;
        let begun = Instant::now();
        assert!(matches!(post(&quick, &server.url()).await, Err(EgressError::Timeout)), "{head:?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{head:?}");
    }
}

#[tokio::test]
async fn what_is_packed_is_not_unpacked() {
    let server =
        Server::saying("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nbomb").await;
    let answer = post(&loopback(), &server.url()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.headers["content-encoding"].to_str().unwrap()), (200, "gzip"));
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = post(&loopback(), &format!("http://{nowhere}/").parse().unwrap()).await;
    assert!(matches!(refused, Err(EgressError::Connect(_))), "{refused:?}");
    let unknown = post(&loopback(), &"http://unknown.example/".parse().unwrap()).await;
    assert!(matches!(unknown, Err(EgressError::Name(_))), "{unknown:?}");
    for nonsense in ["", "SMTP ready\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"] {
        let server = Server::saying(nonsense).await;
        let broken = post(&loopback(), &server.url()).await;
        assert!(matches!(broken, Err(EgressError::Http(_))), "{nonsense:?}: {broken:?}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"this is not TLS").await;
        read_request(&mut stream).await;
    });
    assert!(matches!(post(&loopback(), &url).await, Err(EgressError::Tls(_))));
}

#[tokio::test]
async fn a_certificate_must_be_of_a_known_authority_and_for_the_name() {
    let made = rcgen::generate_simple_self_signed(vec!["hooks.example".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let served = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(served));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                read_request(&mut stream).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let resolver = Scripted::new(&[&["127.0.0.1"]]);
    let trusting = EgressClient::with(policy(&["127.0.0.0/8"]), resolver.clone(), tls(roots));
    let right = format!("https://hooks.example:{port}/").parse().unwrap();
    assert_eq!(post(&trusting, &right).await.unwrap().status, 200);
    let other = format!("https://other.example:{port}/").parse().unwrap();
    assert!(matches!(post(&trusting, &other).await, Err(EgressError::Tls(_))));
    let strict = client(&["127.0.0.0/8"], resolver);
    assert!(matches!(post(&strict, &right).await, Err(EgressError::Tls(_))));
}
