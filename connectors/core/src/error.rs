use std::time::Duration;

/// What a caller can do about a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// It may work later: the server is down, busy or said so. Nothing has happened there.
    Transient,
    /// It will not work, however often it is repeated: the server refused this very request.
    Permanent,
    /// The request was sent and no usable answer came: it may or may not have had its effect. Look before repeating.
    Ambiguous,
    /// Our credentials were refused.
    Unauthorised,
    /// The connector is set up wrongly: a URL that is none, an answer that is not this tool's.
    Misconfigured,
}

/// A failed call to a tool. Never contains a secret, a request body or personal data.
#[derive(Debug, thiserror::Error)]
#[error("{service}: {message}")]
pub struct ConnectorError {
    /// What the caller can do about it.
    pub kind: ErrorKind,
    /// The tool that was called, as configured (`chatwoot`).
    pub service: &'static str,
    /// The HTTP status that the tool answered, if it did.
    pub status: Option<u16>,
    /// The tool's own error code (`M_LIMIT_EXCEEDED`), if it gave one.
    pub code: Option<String>,
    /// How long the tool asked to be left alone.
    pub retry_after: Option<Duration>,
    /// What happened, for an operator.
    pub message: String,
    /// The cause, where there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ConnectorError {
    /// An error of this kind without a status or a cause.
    pub fn new(kind: ErrorKind, service: &'static str, message: impl Into<String>) -> Self {
        Self {
            kind,
            service,
            status: None,
            code: None,
            retry_after: None,
            message: message.into(),
            source: None,
        }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether the same call may succeed later (after a look, where it is ambiguous).
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Transient | ErrorKind::Ambiguous)
    }

    /// Whether the tool answered that the thing doesn't exist.
    pub fn is_not_found(&self) -> bool {
        self.status == Some(404)
    }
}
