use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig,
    crypto::aws_lc_rs,
    pki_types::{InvalidDnsNameError, ServerName},
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::{
    capped::Capped,
    policy::{EgressPolicy, UrlFault},
};

/// What a call may take in all: resolving the name, connecting, TLS, sending and reading.
pub const DEADLINE: Duration = Duration::from_secs(15);
/// At most so much of an answer is read, its head included.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How long one address of several may keep us waiting.
const CONNECT: Duration = Duration::from_secs(4);
/// So many addresses of a name are tried.
const MOST_ADDRESSES: usize = 4;

/// Looks up the addresses of a name.
pub trait Resolve: std::fmt::Debug + Send + Sync {
    /// The addresses of `name`, the best first.
    fn resolve<'a>(
        &'a self,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;
}

/// The machine's own resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(
        &'a self,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>> {
        Box::pin(async move {
            Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
        })
    }
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The URL may not be called.
    #[error("the URL may not be called")]
    Url(#[from] UrlFault),
    /// The name has no address.
    #[error("the name has no address")]
    Name(#[source] Option<io::Error>),
    /// All addresses of the name lead inside.
    #[error("the name leads inside")]
    Inside,
    /// No connection.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// No connection that TLS protects: a certificate that isn't valid for the name, say.
    #[error("no protected connection")]
    Tls(#[source] io::Error),
    /// The name can't be that of a certificate.
    #[error("no certificate can be for this name")]
    ServerName(#[source] InvalidDnsNameError),
    /// It took longer than the deadline.
    #[error("no complete answer in time")]
    Timeout,
    /// The head of the answer is too large.
    #[error("the head of the answer is too large")]
    TooLarge,
    /// What came is no answer by HTTP, or the connection ended in the middle of it.
    #[error("no complete answer")]
    Http(#[source] hyper::Error),
    /// The request can't be written.
    #[error("the request can't be written")]
    Request(#[source] ::http::Error),
    /// TLS can't be set up on this machine.
    #[error("TLS can't be set up")]
    Setup(#[source] rustls::Error),
}

/// What came back. Its body was read, as far as that goes, and is nobody's business.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// Whether there was more than was read.
    pub is_cut: bool,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Calls what an [`EgressPolicy`] lets it call.
#[derive(Clone)]
pub struct EgressClient {
    policy: Arc<EgressPolicy>,
    resolver: Arc<dyn Resolve>,
    tls: Arc<ClientConfig>,
    deadline: Duration,
}

impl std::fmt::Debug for EgressClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("EgressClient").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl EgressClient {
    /// A client that trusts the certificate authorities of this machine.
    ///
    /// # Errors
    /// [`EgressError::Setup`] where there are none.
    pub fn new(policy: EgressPolicy) -> Result<Self, EgressError> {
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(EgressError::Setup)?
            .with_no_client_auth();
        Ok(Self::with(policy, Arc::new(SystemResolver), tls))
    }

    /// A client with a resolver and with authorities of one's own.
    pub fn with(policy: EgressPolicy, resolver: Arc<dyn Resolve>, mut tls: ClientConfig) -> Self {
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { policy: Arc::new(policy), resolver, tls: Arc::new(tls), deadline: DEADLINE }
    }

    /// The same with another deadline.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Where it may go.
    pub fn policy(&self) -> &EgressPolicy {
        &self.policy
    }

    /// `POST`s `body`. An answer with any status is an answer, a redirect too.
    ///
    /// # Errors
    /// [`EgressError`].
    pub async fn post(&self, url: &Url, headers: HeaderMap, body: Bytes) -> Result<Answer, EgressError> {
        match tokio::time::timeout(self.deadline, self.exchange(url, headers, body)).await {
            Ok(result) => result,
            Err(_) => Err(EgressError::Timeout),
        }
    }

    async fn exchange(&self, url: &Url, headers: HeaderMap, body: Bytes) -> Result<Answer, EgressError> {
        self.policy.check(url)?;
        let request = request(url, headers, body)?;
        let stream = self.connect(url).await?;
        let exhausted = Arc::new(AtomicBool::new(false));
        let is_exhausted = || exhausted.load(Ordering::Relaxed);
        let capped = Capped::new(stream, MAX_ANSWER_BYTES, Arc::clone(&exhausted));
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_ANSWER_BYTES)
            .handshake::<_, Full<Bytes>>(TokioIo::new(capped))
            .await
            .map_err(EgressError::Http)?;
        // Dropping the set, at the latest with this call, closes the connection.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| {
            if is_exhausted() || error.is_parse_too_large() {
                EgressError::TooLarge
            } else {
                EgressError::Http(error)
            }
        })?;
        let (head, mut body) = response.into_parts();
        let mut is_cut = false;
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(_) => {}
                Err(_) if is_exhausted() => {
                    is_cut = true;
                    break;
                }
                Err(error) => return Err(EgressError::Http(error)),
            }
        }
        Ok(Answer { status: head.status, headers: head.headers, is_cut })
    }

    async fn connect(&self, url: &Url) -> Result<Box<dyn Stream>, EgressError> {
        let port = url.port_or_known_default().ok_or(UrlFault::Malformed)?;
        let host = url.host().ok_or(UrlFault::Malformed)?;
        let stream = self.connect_tcp(&host, port).await?;
        if url.scheme() != "https" {
            return Ok(Box::new(stream));
        }
        let name = match host {
            Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
                .map_err(EgressError::ServerName)?,
            Host::Ipv4(address) => ServerName::from(IpAddr::from(address)),
            Host::Ipv6(address) => ServerName::from(IpAddr::from(address)),
        };
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await;
        Ok(Box::new(stream.map_err(EgressError::Tls)?))
    }

    async fn connect_tcp(&self, host: &Host<&str>, port: u16) -> Result<TcpStream, EgressError> {
        let found = match host {
            Host::Ipv4(address) => vec![IpAddr::from(*address)],
            Host::Ipv6(address) => vec![IpAddr::from(*address)],
            Host::Domain(name) => {
                self.resolver.resolve(name).await.map_err(|error| EgressError::Name(Some(error)))?
            }
        };
        if found.is_empty() {
            return Err(EgressError::Name(None));
        }
        let mut last = EgressError::Inside;
        for address in found.into_iter().filter(|address| self.policy.admits(*address)).take(MOST_ADDRESSES) {
            match tokio::time::timeout(CONNECT, TcpStream::connect(SocketAddr::new(address, port))).await {
                Ok(Ok(stream)) => {
                    // A request is one write; it needn't wait for more.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = EgressError::Connect(error),
                Err(_) => last = EgressError::Timeout,
            }
        }
        Err(last)
    }
}

fn request(url: &Url, mut headers: HeaderMap, body: Bytes) -> Result<Request<Full<Bytes>>, EgressError> {
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let host = HeaderValue::from_str(host).map_err(|error| EgressError::Request(error.into()))?;
    headers.insert(header::HOST, host);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .body(Full::new(body))
        .map_err(EgressError::Request)?;
    *request.headers_mut() = headers;
    Ok(request)
}
