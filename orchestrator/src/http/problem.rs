//! Errors as RFC 9457 `application/problem+json`, with a stable `code`. A body never echoes a path, an id or a cause.

use std::borrow::Cow;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use uuid::Uuid;

/// What a handler returns.
pub type ProblemResult<T> = Result<T, Problem>;

/// One thing that is wrong with a request's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// Where, as a JSON Pointer (RFC 6901) into the body; for a query, `?name`.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

impl FieldError {
    /// What is wrong at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// An error as the client gets it (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Always `about:blank`: the `code` tells the kinds apart.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The HTTP status.
    status: u16,
    /// Stable, for programs: `approvals.already_decided`.
    code: &'static str,
    /// For developers, in English; pages have words of their own for the code.
    title: &'static str,
    /// For developers, about this occurrence.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// What is wrong with the body, for a 422.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// The pending approval, for `approvals.already_pending`.
    #[serde(skip_serializing_if = "Option::is_none")]
    approval_id: Option<Uuid>,
    /// The request's id, for support.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip)]
    retry_after_seconds: Option<u64>,
    #[serde(skip)]
    challenge: Option<Cow<'static, str>>,
}

/// Marks a response as a problem, so that the pages' middleware can show it as a page and add the request's id.
#[derive(Debug, Clone)]
pub struct ProblemShown {
    /// The HTTP status.
    pub status: StatusCode,
    /// The stable code, by which a page finds its words.
    pub code: &'static str,
}

impl Problem {
    /// A problem with this status and code.
    pub fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self {
            kind: "about:blank",
            status: status.as_u16(),
            code,
            title,
            detail: None,
            errors: Vec::new(),
            approval_id: None,
            request_id: None,
            retry_after_seconds: None,
            challenge: None,
        }
    }

    /// 404: unknown, or a stranger's. Both are the same.
    pub fn not_found() -> Self {
        metrics::counter!("chancery_not_found_total").increment(1);
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such thing here")
    }

    /// 403: it may be seen, but this may not be done.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Your role does not allow this")
    }

    /// 401 with the challenge of RFC 6750.
    pub fn unauthorised() -> Self {
        let mut problem =
            Self::new(StatusCode::UNAUTHORIZED, "unauthorised", "A valid access token is needed");
        problem.challenge = Some(Cow::Borrowed("Bearer"));
        problem
    }

    /// 422 with what is wrong where.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let mut problem =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Some of what was sent can't be accepted");
        problem.errors = errors;
        problem
    }

    /// 500. The cause is logged here, once, and the client learns nothing of it.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %ErrorChain(error), "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong on our side")
    }

    /// 503 with a time to come back.
    pub fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::warn!(error = %ErrorChain(error), "a request can't be served now");
        let mut problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Not possible right now, please try again",
        );
        problem.retry_after_seconds = Some(2);
        problem
    }

    /// The same under a code and a title of its own.
    #[must_use]
    pub fn named(mut self, code: &'static str, title: &'static str) -> Self {
        self.code = code;
        self.title = title;
        self
    }

    /// The same with this challenge (RFC 9110, section 11.6.1).
    #[must_use]
    pub fn challenged(mut self, challenge: String) -> Self {
        self.challenge = Some(Cow::Owned(challenge));
        self
    }

    /// The same with a sentence about this occurrence.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same with the time after which to try again, in seconds.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The same with the approval that is in the way.
    #[must_use]
    pub fn with_approval(mut self, approval: Uuid) -> Self {
        self.approval_id = Some(approval);
        self
    }

    /// The same with the request's id.
    #[must_use]
    pub fn with_request_id(mut self, id: Option<String>) -> Self {
        self.request_id = id;
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What it is, in a line.
    pub fn title(&self) -> &'static str {
        self.title
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The seconds after which to try again.
    pub fn retry_after(&self) -> Option<u64> {
        self.retry_after_seconds
    }

    /// What is wrong where.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) => {
                Self::unavailable(&error)
            }
            sqlx::Error::Database(ref database) if database.code().is_some_and(|code| passes(&code)) => {
                Self::unavailable(&error)
            }
            error => Self::internal(&error),
        }
    }
}

/// Whether a SQLSTATE is of a kind that passes: connections (08), rollbacks (40), resources (53), operators (57), and locks
/// that were not had in time (55P03).
fn passes(code: &str) -> bool {
    ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "55P03"
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let shown = ProblemShown { status, code: self.code };
        let retry_after = self.retry_after_seconds;
        let challenge = self.challenge.clone();
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = challenge.and_then(|challenge| HeaderValue::from_str(&challenge).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(shown);
        response
    }
}

/// An error with its causes, for the log.
pub struct ErrorChain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for ErrorChain<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(formatter, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
