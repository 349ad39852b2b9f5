use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use reqwest::Method;
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use crate::{
    ConnectorError, ErrorKind, TraceContext,
    trace::{TRACEPARENT, TRACESTATE},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
const DEFAULT_ANSWER_CAP: usize = 4 * 1024 * 1024;

/// The body of a request.
enum Body<'a> {
    Empty,
    Json(serde_json::Value),
    Form(&'a [(&'a str, &'a str)]),
}

/// One way to call one server: a base URL (which may have a path prefix), a total deadline for each call, no
/// redirects (OWASP ASVS 5.0, 15.3.2), a cap on the size of an answer, and errors that name neither secrets nor bodies.
/// A call belongs to the trace of the work that makes it ([`TraceContext`]).
#[derive(Clone)]
pub struct HttpClient {
    service: &'static str,
    base: Url,
    client: reqwest::Client,
    headers: HeaderMap,
    answer_cap: usize,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("HttpClient")
            .field("service", &self.service)
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// Builds an [`HttpClient`].
#[derive(Debug)]
pub struct HttpClientBuilder {
    service: &'static str,
    base: Url,
    deadline: Duration,
    headers: HeaderMap,
    answer_cap: usize,
}

impl HttpClientBuilder {
    /// The total time that a call may take, connecting and reading included. 10 s unless told.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// A header sent with each request; its value is kept out of debug output.
    ///
    /// # Errors
    /// Where the value can't stand in a header.
    pub fn secret_header(mut self, name: HeaderName, value: &str) -> Result<Self, ConnectorError> {
        let mut value = HeaderValue::from_str(value).map_err(|error| {
            ConnectorError::new(
                ErrorKind::Misconfigured,
                self.service,
                format!("the value for {name} can't stand in a header"),
            )
            .with_source(error)
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Builds the client.
    ///
    /// # Errors
    /// Where the TLS back end can't be set up.
    pub fn build(self) -> Result<HttpClient, ConnectorError> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(self.deadline)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("chancery/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| {
                ConnectorError::new(ErrorKind::Misconfigured, self.service, "the HTTP client can't be set up")
                    .with_source(error)
            })?;
        Ok(HttpClient {
            service: self.service,
            base: self.base,
            client,
            headers: self.headers,
            answer_cap: self.answer_cap,
        })
    }
}

impl HttpClient {
    /// A client for the tool `service` at `base`.
    pub fn builder(service: &'static str, base: Url) -> HttpClientBuilder {
        HttpClientBuilder {
            service,
            base,
            deadline: DEFAULT_DEADLINE,
            headers: HeaderMap::new(),
            answer_cap: DEFAULT_ANSWER_CAP,
        }
    }

    /// The base URL.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The URL of the path made of `segments` under the base; each segment is percent-encoded.
    ///
    /// # Errors
    /// Where the base can't have a path (`mailto:`).
    pub fn url(&self, segments: &[&str]) -> Result<Url, ConnectorError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| {
                ConnectorError::new(ErrorKind::Misconfigured, self.service, "the base URL can't have a path")
            })?
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

    /// `DELETE` and read JSON (an empty answer reads as `null`).
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn delete<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        bearer: Option<&str>,
    ) -> Result<T, ConnectorError> {
        self.call(Method::DELETE, segments, &[], bearer, Body::Empty).await
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

    fn json<'a>(&self, body: &impl Serialize) -> Result<Body<'a>, ConnectorError> {
        serde_json::to_value(body).map(Body::Json).map_err(|error| {
            ConnectorError::new(ErrorKind::Permanent, self.service, "the request can't be written as JSON")
                .with_source(error)
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
        let mut url = self.url(segments)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let safe = method.is_safe();
        let mut request = self
            .client
            .request(method.clone(), url)
            .headers(self.headers.clone())
            .header(header::ACCEPT, "application/json");
        if let Some(bearer) = bearer {
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
        // The path is logged without ids: its first segments say which call it was.
        tracing::debug!(service = self.service, %method, path = segments.first().copied().unwrap_or_default(), "calling");
        let response = request.send().await.map_err(|error| self.transport_error(error, safe))?;
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let bytes = self.read(response, safe).await?;
        if !status.is_success() {
            return Err(self.status_error(status, retry_after, &bytes));
        }
        let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(bytes).map_err(|error| {
            ConnectorError {
                // A success that can't be read: a write has happened, a read came from something that isn't the tool.
                kind: if safe { ErrorKind::Misconfigured } else { ErrorKind::Ambiguous },
                service: self.service,
                status: Some(status.as_u16()),
                code: None,
                retry_after: None,
                message: "the answer is not the JSON that was expected".to_owned(),
                source: Some(Box::new(error)),
            }
        })
    }

    async fn read(&self, mut response: reqwest::Response, safe: bool) -> Result<Vec<u8>, ConnectorError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.transport_error(error, safe))? {
            if bytes.len() + chunk.len() > self.answer_cap {
                let kind = if safe { ErrorKind::Misconfigured } else { ErrorKind::Ambiguous };
                return Err(ConnectorError::new(
                    kind,
                    self.service,
                    format!("the answer is larger than {} bytes", self.answer_cap),
                ));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn transport_error(&self, error: reqwest::Error, safe: bool) -> ConnectorError {
        let (kind, message) = if error.is_connect() {
            (ErrorKind::Transient, "no connection")
        } else if error.is_builder() {
            (ErrorKind::Misconfigured, "the request can't be built")
        } else if safe {
            (ErrorKind::Transient, "no answer")
        } else {
            (ErrorKind::Ambiguous, "the request was sent and no answer came")
        };
        // A URL may carry a token in its query.
        ConnectorError::new(kind, self.service, message).with_source(error.without_url())
    }

    fn status_error(&self, status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> ConnectorError {
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct KnownErrors {
            errcode: Option<String>,
            error: Option<serde_json::Value>,
            retry_after_ms: Option<u64>,
        }
        let known: KnownErrors = serde_json::from_slice(body).unwrap_or_default();
        let kind = match status.as_u16() {
            401 | 403 if known.errcode.as_deref() != Some("M_FORBIDDEN") => ErrorKind::Unauthorised,
            408 | 425 | 429 | 500..=599 => ErrorKind::Transient,
            300..=399 => ErrorKind::Misconfigured,
            _ => ErrorKind::Permanent,
        };
        let code = known.errcode.or_else(|| {
            known
                .error
                .as_ref()
                .and_then(|error| error.as_str())
                .map(|error| error.chars().take(200).collect())
        });
        let asked = known.retry_after_ms.map(Duration::from_millis);
        let message = code
            .as_ref()
            .map_or_else(|| format!("answered {status}"), |code| format!("answered {status} ({code})"));
        ConnectorError {
            kind,
            service: self.service,
            status: Some(status.as_u16()),
            code,
            retry_after: retry_after.max(asked),
            message,
            source: None,
        }
    }
}

/// `Retry-After` in seconds (RFC 9110, section 10.2.3); the date form is not used by any of the tools.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
