//! One way to call a server.

mod answer;
mod circuit;
mod limits;

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::http::{HeaderMap, HeaderName, HeaderValue, header};
use chrono::{DateTime, TimeDelta};
use reqwest::Method;
use secrecy::SecretString;
use serde::{Serialize, de::DeserializeOwned};
use tracing::Instrument as _;
use url::Url;

pub use self::limits::Rate;
use self::{
    answer::{retry_after, status_error},
    circuit::{Admission, Circuit, Outcome, Refusal},
    limits::Limits,
};
use crate::{
    ConnectorError, ErrorKind, Health, SharedClock, SystemClock, TraceContext,
    health::HealthRecord,
    trace::{TRACEPARENT, TRACESTATE},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const READ_TIMEOUT: Duration = Duration::from_secs(8);
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
const DEFAULT_ANSWER_CAP: usize = 4 * 1024 * 1024;
const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(32).unwrap();
/// Shorter than the servers keep an unused connection (Puma 20 s, nginx 75 s), so that none is taken which is just closed.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// When a failing server is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitSettings {
    /// After so many failures in a row: no connection, no answer in time, a status of 500 and above. 5 unless told.
    pub failures: NonZeroU32,
    /// For so long at first; then one call goes as a probe. Each probe that fails doubles it. 10 s unless told.
    pub cool_down: Duration,
    /// For so long at most. A minute unless told.
    pub longest_cool_down: Duration,
}

impl Default for CircuitSettings {
    fn default() -> Self {
        Self {
            failures: const { NonZeroU32::new(5).unwrap() },
            cool_down: Duration::from_secs(10),
            longest_cool_down: Duration::from_mins(1),
        }
    }
}

/// The body of a request.
enum Body<'a> {
    Empty,
    Json(serde_json::Value),
    Form(&'a [(&'a str, &'a str)]),
}

/// One way to call one server: a base URL (which may have a path prefix), timeouts and a total deadline for each call, no
/// redirects (OWASP ASVS 5.0, 15.3.2), a cap on the size of an answer, and errors that name neither secrets nor bodies.
/// A call belongs to the trace of the work that makes it ([`TraceContext`]).
///
/// Clones, and clients [with other credentials](Self::with_secret_header), share what belongs to the server: its
/// connections, how many calls are made at once and in what time, and whether it is called at all. A server that keeps
/// failing ([`CircuitSettings`]), or that asked to be left alone (429, or 503 with `Retry-After`), isn't called until that
/// time is over: calls end at once with [`ErrorKind::Transient`] and what is left of the time.
#[derive(Clone)]
pub struct HttpClient {
    server: Arc<Server>,
    headers: HeaderMap,
    health: Arc<HealthRecord>,
}

/// What callers of one server share.
struct Server {
    service: &'static str,
    base: Url,
    client: reqwest::Client,
    deadline: Duration,
    answer_cap: usize,
    limits: Limits,
    circuit: Arc<Circuit>,
    clock: SharedClock,
    /// By how much the server's clock was ahead of ours at its last answer.
    clock_ahead: Mutex<Option<TimeDelta>>,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("HttpClient")
            .field("service", &self.server.service)
            .field("base", &self.server.base.as_str())
            .finish_non_exhaustive()
    }
}

/// Builds an [`HttpClient`].
#[derive(Debug)]
pub struct HttpClientBuilder {
    service: &'static str,
    base: Url,
    connect_timeout: Duration,
    read_timeout: Duration,
    deadline: Duration,
    headers: HeaderMap,
    answer_cap: usize,
    concurrency: NonZeroUsize,
    rate: Option<Rate>,
    circuit: Option<CircuitSettings>,
    clock: SharedClock,
}

impl HttpClientBuilder {
    /// The time to get a connection. 3 s unless told, and never more than half of the deadline: a call that could not be
    /// made has to be told from one whose answer didn't come.
    #[must_use]
    pub fn connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// The time between two pieces of an answer. 8 s unless told.
    #[must_use]
    pub fn read_timeout(self, read_timeout: Duration) -> Self {
        Self { read_timeout, ..self }
    }

    /// The total time that a call may take: waiting for a turn, connecting, sending and reading. 10 s unless told.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The largest answer that is read, in bytes. 4 MiB unless told.
    #[must_use]
    pub fn answer_cap(self, answer_cap: usize) -> Self {
        Self { answer_cap, ..self }
    }

    /// How many calls are made to the server at once; others wait for their turn. 32 unless told.
    #[must_use]
    pub fn concurrency(self, concurrency: NonZeroUsize) -> Self {
        Self { concurrency, ..self }
    }

    /// How many calls are made in what time; others wait for their turn. No limit unless told.
    #[must_use]
    pub fn rate(self, rate: Rate) -> Self {
        Self { rate: Some(rate), ..self }
    }

    /// When a failing server is left alone.
    #[must_use]
    pub fn circuit(self, circuit: CircuitSettings) -> Self {
        Self { circuit: Some(circuit), ..self }
    }

    /// Calls the server whatever it did before: for who waits between failed calls by rules of their own.
    #[must_use]
    pub fn without_circuit(self) -> Self {
        Self { circuit: None, ..self }
    }

    /// The clock that says for how long a server is left alone and since when it works. The machine's unless told.
    #[must_use]
    pub fn clock(self, clock: SharedClock) -> Self {
        Self { clock, ..self }
    }

    /// A header sent with each request; its value is kept out of debug output.
    ///
    /// # Errors
    /// Where the value can't stand in a header.
    pub fn secret_header(mut self, name: HeaderName, value: &str) -> Result<Self, ConnectorError> {
        insert_secret(&mut self.headers, self.service, name, value)?;
        Ok(self)
    }

    /// Builds the client.
    ///
    /// # Errors
    /// Where the base URL isn't one of HTTP, or holds credentials (they would be in every log that names it); where the TLS
    /// back end can't be set up.
    pub fn build(self) -> Result<HttpClient, ConnectorError> {
        let misconfigured = |message| ConnectorError::new(ErrorKind::Misconfigured, self.service, message);
        if !matches!(self.base.scheme(), "http" | "https") {
            return Err(misconfigured("the base URL is neither http nor https"));
        }
        if !self.base.username().is_empty() || self.base.password().is_some() {
            return Err(misconfigured(
                "the base URL holds credentials: they belong in settings of their own",
            ));
        }
        let client = reqwest::Client::builder()
            .connect_timeout(self.connect_timeout.min(self.deadline / 2))
            .read_timeout(self.read_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(self.concurrency.get())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("chancery/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| misconfigured("the HTTP client can't be set up").with_source(error))?;
        let circuit = Circuit::new(self.service, self.circuit, Arc::clone(&self.clock));
        let server = Server {
            service: self.service,
            base: self.base,
            client,
            deadline: self.deadline,
            answer_cap: self.answer_cap,
            limits: Limits::new(self.concurrency.get(), self.rate),
            circuit: Arc::new(circuit),
            clock: self.clock,
            clock_ahead: Mutex::new(None),
        };
        Ok(HttpClient {
            server: Arc::new(server),
            headers: self.headers,
            health: Arc::new(HealthRecord::new()),
        })
    }
}

fn insert_secret(
    headers: &mut HeaderMap,
    service: &'static str,
    name: HeaderName,
    value: &str,
) -> Result<(), ConnectorError> {
    let mut value = HeaderValue::from_str(value).map_err(|error| {
        let message = format!("the value for {name} can't stand in a header");
        ConnectorError::new(ErrorKind::Misconfigured, service, message).with_source(error)
    })?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

impl HttpClient {
    /// A client for the tool `service` at `base`.
    pub fn builder(service: &'static str, base: Url) -> HttpClientBuilder {
        HttpClientBuilder {
            service,
            base,
            connect_timeout: CONNECT_TIMEOUT,
            read_timeout: READ_TIMEOUT,
            deadline: DEFAULT_DEADLINE,
            headers: HeaderMap::new(),
            answer_cap: DEFAULT_ANSWER_CAP,
            concurrency: DEFAULT_CONCURRENCY,
            rate: None,
            circuit: Some(CircuitSettings::default()),
            clock: Arc::new(SystemClock),
        }
    }

    /// A client of the same server with other credentials. It shares everything but its [health](Self::health).
    ///
    /// # Errors
    /// Where the value can't stand in a header.
    pub fn with_secret_header(&self, name: HeaderName, value: &str) -> Result<Self, ConnectorError> {
        let mut headers = self.headers.clone();
        insert_secret(&mut headers, self.server.service, name, value)?;
        Ok(Self { server: Arc::clone(&self.server), headers, health: Arc::new(HealthRecord::new()) })
    }

    /// How the server has been doing for who calls it with these credentials.
    pub fn health(&self) -> Health {
        self.health.read()
    }

    /// By how much the server's clock was ahead of ours at its last answer, as far as whole seconds tell (`Date`, RFC 9110, section
    /// 6.6.1). None where it hasn't answered, or doesn't say.
    pub fn clock_ahead(&self) -> Option<TimeDelta> {
        *self.server.clock_ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The base URL.
    pub fn base(&self) -> &Url {
        &self.server.base
    }

    /// The URL of the path made of `segments` under the base; each segment is percent-encoded.
    ///
    /// # Errors
    /// Where a segment is `.` or `..`, which would lead to another path than the caller means.
    pub fn url(&self, segments: &[&str]) -> Result<Url, ConnectorError> {
        if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
            return Err(self.error(ErrorKind::Permanent, "a part of the path is `.` or `..`"));
        }
        let mut url = self.server.base.clone();
        url.path_segments_mut()
            .map_err(|()| self.error(ErrorKind::Misconfigured, "the base URL can't have a path"))?
            .pop_if_empty()
            .extend(segments);
        Ok(url)
    }

    /// `GET` and read JSON.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        bearer: Option<&str>,
    ) -> Result<T, ConnectorError> {
        self.call(Method::GET, segments, query, bearer, Body::Empty).await
    }

    /// `POST` a JSON body and read JSON.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &impl Serialize,
        bearer: Option<&str>,
    ) -> Result<T, ConnectorError> {
        let body = self.json(body)?;
        self.call(Method::POST, segments, &[], bearer, body).await
    }

    /// `PUT` a JSON body and read JSON.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        body: &impl Serialize,
        bearer: Option<&str>,
    ) -> Result<T, ConnectorError> {
        let body = self.json(body)?;
        self.call(Method::PUT, segments, query, bearer, body).await
    }

    /// `PATCH` with a JSON body and read JSON.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn patch<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &impl Serialize,
        bearer: Option<&str>,
    ) -> Result<T, ConnectorError> {
        let body = self.json(body)?;
        self.call(Method::PATCH, segments, &[], bearer, body).await
    }

    /// `DELETE` and read JSON (an empty answer reads as `null`).
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn delete<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        bearer: Option<&str>,
    ) -> Result<T, ConnectorError> {
        self.delete_with(segments, &[], bearer).await
    }

    /// The same with a query.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn delete_with<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
        bearer: Option<&str>,
    ) -> Result<T, ConnectorError> {
        self.call(Method::DELETE, segments, query, bearer, Body::Empty).await
    }

    /// `POST` a form and read JSON.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn post_form<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        form: &[(&str, &str)],
    ) -> Result<T, ConnectorError> {
        self.call(Method::POST, segments, &[], None, Body::Form(form)).await
    }

    /// `GET` for nothing but that it succeeds, whatever the answer says.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn reach(&self, segments: &[&str]) -> Result<(), ConnectorError> {
        let call = Call { is_repeatable: true, bearer: None };
        let result = self.send(Method::GET, segments, &[], &call, Body::Empty).await.map(drop);
        if result.is_ok() {
            self.health.observe(&self.server.clock, None);
        }
        result
    }

    fn error(&self, kind: ErrorKind, message: impl Into<String>) -> ConnectorError {
        ConnectorError::new(kind, self.server.service, message)
    }

    fn json<'a>(&self, body: &impl Serialize) -> Result<Body<'a>, ConnectorError> {
        serde_json::to_value(body).map(Body::Json).map_err(|error| {
            self.error(ErrorKind::Permanent, "the request can't be written as JSON").with_source(error)
        })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        bearer: Option<&str>,
        body: Body<'_>,
    ) -> Result<T, ConnectorError> {
        // Sent twice, it has the effect of one (RFC 9110, section 9.2.2).
        let call = Call { is_repeatable: method.is_idempotent(), bearer };
        let bytes = self.send(method, segments, query, &call, body).await?;
        self.decode(&bytes, &call)
    }

    /// Sends the request; the answer's body where it is a success.
    async fn send(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        call: &Call<'_>,
        body: Body<'_>,
    ) -> Result<Vec<u8>, ConnectorError> {
        let mut url = self.url(segments)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self
            .server
            .client
            .request(method.clone(), url)
            .headers(self.headers.clone())
            .header(header::ACCEPT, "application/json");
        if let Some(bearer) = call.bearer {
            request = request.bearer_auth(bearer);
        }
        if let Some(trace) = TraceContext::of_call() {
            request = request.header(TRACEPARENT, trace.traceparent());
            if let Some(state) = trace.tracestate() {
                request = request.header(TRACESTATE, state);
            }
        }
        request = match &body {
            Body::Empty => request,
            Body::Json(value) => request.json(value),
            Body::Form(form) => request.form(form),
        };
        // The path is logged without ids: its first segment says which call it was.
        let path = segments.first().copied().unwrap_or_default();
        let span = tracing::debug_span!("call", service = self.server.service, %method, path);
        async {
            let result = self.attempt(request, call).await;
            match &result {
                Ok(_) => tracing::debug!("answered"),
                Err(error) => tracing::debug!(kind = ?error.kind, status = error.status, "failed"),
            }
            result
        }
        .instrument(span)
        .await
    }

    /// One call within its deadline; the answer's body where it is a success.
    async fn attempt(
        &self,
        request: reqwest::RequestBuilder,
        call: &Call<'_>,
    ) -> Result<Vec<u8>, ConnectorError> {
        let server = &*self.server;
        if let Some(refusal) = server.circuit.refusal() {
            return Err(self.refused(refusal));
        }
        // Who has one has, or may have, sent something.
        let mut admission = None;
        let exchange = self.exchange(request, call, &mut admission);
        let in_time = tokio::time::timeout(server.deadline, exchange).await;
        let result = match in_time {
            Ok(result) => result,
            Err(_) if admission.is_none() => {
                let message = "too many calls wait for their turn at this server";
                return Err(self.error(ErrorKind::Transient, message));
            }
            Err(_) => {
                let (kind, message) = call.no_answer();
                Err(Failure { error: self.error(kind, message), outcome: Outcome::Fails(None) })
            }
        };
        // What was refused here says nothing about the server.
        if let Some(admission) = admission {
            admission.end(result.as_ref().map_or_else(|failure| failure.outcome, |_| Outcome::Works));
            if let Err(failure) = &result {
                self.health.observe(&server.clock, Some(&failure.error));
            }
        }
        result.map_err(|failure| failure.error)
    }

    async fn exchange(
        &self,
        request: reqwest::RequestBuilder,
        call: &Call<'_>,
        admission: &mut Option<Admission>,
    ) -> Result<Vec<u8>, Failure> {
        let server = &*self.server;
        let _turn = server.limits.turn().await;
        *admission = Some(server.circuit.admit().map_err(|refusal| Failure::works(self.refused(refusal)))?);
        let response = request.send().await.map_err(|error| self.transport_error(error, call))?;
        let status = response.status();
        self.compare_clocks(response.headers());
        let retry_after = retry_after(response.headers(), server.clock.now());
        let bytes = self.read(response, call).await?;
        if status.is_success() {
            return Ok(bytes);
        }
        let secrets = self.secrets(call);
        let error = status_error(server.service, status, retry_after, &bytes, call.is_repeatable, &secrets);
        let asked = error.retry_after.and_then(|asked| TimeDelta::from_std(asked).ok());
        let outcome = match status.as_u16() {
            429 => Outcome::Busy(asked),
            500.. => Outcome::Fails(asked),
            _ => Outcome::Works,
        };
        Err(Failure { error, outcome })
    }

    fn compare_clocks(&self, headers: &HeaderMap) {
        let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let Some(theirs) = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) else { return };
        // The header leaves out the fraction: half a second is the middle of what it may have been.
        let ahead = theirs.to_utc() - self.server.clock.now() + TimeDelta::milliseconds(500);
        *self.server.clock_ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8], call: &Call<'_>) -> Result<T, ConnectorError> {
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { bytes };
        let result = serde_json::from_slice(bytes).map_err(|error| {
            let message = "the answer is not the JSON that was expected";
            self.error(call.misread(), message).with_source(error)
        });
        self.health.observe(&self.server.clock, result.as_ref().err());
        result
    }

    async fn read(&self, mut response: reqwest::Response, call: &Call<'_>) -> Result<Vec<u8>, Failure> {
        let cap = self.server.answer_cap;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.transport_error(error, call))? {
            if bytes.len() + chunk.len() > cap {
                let message = format!("the answer is larger than {cap} bytes");
                return Err(Failure::works(self.error(call.misread(), message)));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn transport_error(&self, error: reqwest::Error, call: &Call<'_>) -> Failure {
        let (kind, message) = if error.is_connect() {
            (ErrorKind::Transient, "no connection")
        } else if error.is_builder() {
            (ErrorKind::Misconfigured, "the request can't be built")
        } else {
            call.no_answer()
        };
        // A URL may carry a token in its query.
        let error = self.error(kind, message).with_source(error.without_url());
        Failure { error, outcome: Outcome::Fails(None) }
    }

    fn refused(&self, refusal: Refusal) -> ConnectorError {
        let mut error = self.error(ErrorKind::Transient, refusal.why);
        error.retry_after = refusal.wait.to_std().ok();
        error
    }

    /// What must not stand in an error.
    fn secrets(&self, call: &Call<'_>) -> Vec<SecretString> {
        let headers = self.headers.values().filter(|value| value.is_sensitive());
        let headers = headers.filter_map(|value| value.to_str().ok());
        headers.chain(call.bearer).map(SecretString::from).collect()
    }
}

/// What of a call its errors depend on.
struct Call<'a> {
    is_repeatable: bool,
    bearer: Option<&'a str>,
}

impl Call<'_> {
    fn no_answer(&self) -> (ErrorKind, &'static str) {
        if self.is_repeatable {
            (ErrorKind::Transient, "no answer")
        } else {
            (ErrorKind::Ambiguous, "the request was sent and no answer came")
        }
    }

    /// A success that can't be read: it has happened, or it came from something that isn't the tool.
    fn misread(&self) -> ErrorKind {
        if self.is_repeatable { ErrorKind::Misconfigured } else { ErrorKind::Ambiguous }
    }
}

/// A failed call, and what it says about the server.
struct Failure {
    error: ConnectorError,
    outcome: Outcome,
}

impl Failure {
    /// Not the server's fault.
    fn works(error: ConnectorError) -> Self {
        Self { error, outcome: Outcome::Works }
    }
}
