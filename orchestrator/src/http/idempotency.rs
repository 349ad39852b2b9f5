//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): the answer to a POST is stored in the transaction of
//! what it did, and a repeat gets the same answer. Scope: who asks, method, route; for 24 hours.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, MatchedPath},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};

use super::problem::{FieldError, Problem};
use crate::{db::TenantTx, ids::UserId};

/// For how long an answer is kept.
pub const KEPT: chrono::TimeDelta = chrono::TimeDelta::hours(24);

static KEY: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The headers that belong to the answer; the others are made anew for each response.
const STORED_HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG];

/// What a request says about repeating itself.
#[derive(Debug, Clone)]
pub struct Idempotency {
    key: Option<String>,
    method: String,
    route: String,
    path: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Idempotency {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let route = MatchedPath::from_request_parts(parts, state).await.map(|path| path.as_str().to_owned());
        // The API is mounted twice: a repeat may come by the other mount.
        let route = route.unwrap_or_default().replacen("/api/v1/", "/api/", 1);
        let path = parts.uri.path().replacen("/api/v1/", "/api/", 1);
        Ok(Self { key: read_key(&parts.headers)?, method: parts.method.to_string(), route, path })
    }
}

/// A structured-field string (RFC 8941), or the bare token that most clients send.
fn read_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(&KEY) else { return Ok(None) };
    let malformed = || {
        Problem::invalid(vec![FieldError::new(
            "Idempotency-Key",
            "must be 1 to 255 printable ASCII characters",
        )])
    };
    let text = value.to_str().map_err(|_| malformed())?.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if text.is_empty() || text.len() > 255 || headers.get_all(&KEY).iter().count() > 1 {
        return Err(malformed());
    }
    Ok(Some(text.to_owned()))
}

/// What to do with a request.
#[derive(Debug)]
pub enum Claim {
    /// Nothing is known of it: do it, and [`Claimed::store`] the answer.
    Proceed(Claimed),
    /// It was done: this was the answer.
    Replay(Response),
}

/// The right to do a request and to store its answer.
#[derive(Debug)]
pub struct Claimed(Option<(UserId, Terms)>);

/// What a statement needs to claim a request and to store its answer by itself.
#[derive(Debug)]
pub struct Terms {
    /// The lock of requests with this key.
    pub lock: i64,
    /// The method.
    pub method: String,
    /// The route, as repeats by either mount have it.
    pub route: String,
    /// The key.
    pub key: String,
    /// SHA-256 of what is asked.
    pub fingerprint: Vec<u8>,
    /// Answers from before are forgotten.
    pub since: DateTime<Utc>,
}

/// What is known of a request once its lock was tried.
#[derive(Debug)]
pub struct Found {
    /// Whether the lock was free.
    pub locked: bool,
    /// The fingerprint of the request that was answered.
    pub fingerprint: Option<Vec<u8>>,
    /// Its answer's status.
    pub status: Option<i16>,
    /// The headers that belong to its answer.
    pub headers: Option<serde_json::Value>,
    /// Its answer's body.
    pub body: Option<String>,
}

impl Found {
    /// The answer to a repeat of the request with `fingerprint`; none where it is to be done.
    ///
    /// # Errors
    /// 422 where the key was used for something else, 409 where the first request is still running.
    pub fn answer(self, fingerprint: &[u8]) -> Result<Option<Response>, Problem> {
        match (self.fingerprint, self.status, self.headers, self.body) {
            (Some(known), _, _, _) if known != fingerprint => Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency.key_reused",
                "This key was used for another request",
            )),
            (Some(_), Some(status), Some(headers), Some(body)) => Ok(Some(replay(status, &headers, body))),
            // Looked at after the answer: a repeat that was answered a moment ago may still hold the lock.
            _ if !self.locked => Err(in_progress()),
            _ => Ok(None),
        }
    }
}

/// An answer as it is stored.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: i16,
    /// The headers that belong to it.
    pub headers: serde_json::Value,
    /// The body.
    pub body: String,
    parts: axum::http::response::Parts,
}

impl Answer {
    /// Reads the whole of an answer.
    ///
    /// # Errors
    /// Where its body can't be had.
    pub async fn of(response: Response) -> Result<Self, Problem> {
        let (parts, body) = response.into_parts();
        let bytes: Bytes = body.collect().await.map_err(|error| Problem::internal(&error))?.to_bytes();
        let headers: serde_json::Map<String, serde_json::Value> = STORED_HEADERS
            .iter()
            .filter_map(|name| Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.into())))
            .collect();
        Ok(Self {
            status: i16::try_from(parts.status.as_u16()).unwrap_or(200),
            headers: serde_json::Value::Object(headers),
            body: String::from_utf8_lossy(&bytes).into_owned(),
            parts,
        })
    }

    /// The answer to send.
    pub fn into_response(self) -> Response {
        Response::from_parts(self.parts, Body::from(self.body))
    }
}

impl Idempotency {
    /// What a statement needs that claims the request of `actor` by itself; none where the request has no key.
    pub fn terms(&self, actor: UserId, body: &[u8], now: DateTime<Utc>) -> Option<Terms> {
        let key = self.key.clone()?;
        let mut lock = Sha256::new();
        for part in
            [actor.0.as_bytes().as_slice(), self.method.as_bytes(), self.route.as_bytes(), key.as_bytes()]
        {
            lock.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            lock.update(part);
        }
        let mut lock_id = [0; 8];
        lock_id.copy_from_slice(&lock.finalize()[..8]);
        Some(Terms {
            lock: i64::from_be_bytes(lock_id),
            method: self.method.clone(),
            route: self.route.clone(),
            key,
            fingerprint: self.fingerprint(body),
            since: now - KEPT,
        })
    }

    fn fingerprint(&self, body: &[u8]) -> Vec<u8> {
        let mut hasher = Sha256::new();
        hasher.update(self.path.as_bytes());
        hasher.update([0]);
        hasher.update(body);
        hasher.finalize().to_vec()
    }

    /// Claims the request in the command's own transaction.
    ///
    /// # Errors
    /// 422 where the key was used for something else, 409 where the first request is still running.
    pub async fn claim(self, tx: &mut TenantTx, body: &[u8]) -> Result<Claim, Problem> {
        let actor = tx.actor().user();
        let Some((actor, terms)) = actor.and_then(|actor| Some((actor, self.terms(actor, body, tx.now())?)))
        else {
            return Ok(Claim::Proceed(Claimed(None)));
        };
        let found = sqlx::query_as!(
            Found,
            r#"SELECT locked AS "locked!", fingerprint, status, headers, body FROM claim_idempotency_key($1, $2, $3, $4, $5, $6)"#,
            terms.lock,
            actor.0,
            terms.method,
            terms.route,
            terms.key,
            terms.since,
        )
        .fetch_one(tx.connection())
        .await?;
        Ok(match found.answer(&terms.fingerprint)? {
            Some(response) => Claim::Replay(response),
            None => Claim::Proceed(Claimed(Some((actor, terms)))),
        })
    }
}

fn in_progress() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "idempotency.in_progress",
        "The first request with this key is still running",
    )
}

fn replay(status: i16, headers: &serde_json::Value, body: String) -> Response {
    let status = u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::OK);
    let mut response = (status, body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in headers.as_object().into_iter().flatten() {
        if let (Ok(name), Some(Ok(value))) =
            (HeaderName::try_from(name), value.as_str().map(HeaderValue::from_str))
        {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    response
}

impl Claimed {
    /// Stores the answer in the command's transaction, to be committed with it.
    ///
    /// # Errors
    /// Where the database says no.
    pub async fn store(self, tx: &mut TenantTx, response: Response) -> Result<Response, Problem> {
        let Some((actor, terms)) = self.0 else { return Ok(response) };
        let answer = Answer::of(response).await?;
        // An answer past its time may be replaced; one that a racing request stored just now may not.
        let stored = sqlx::query!(
            "INSERT INTO idempotency_keys (actor_id, method, route, key, fingerprint, status, headers, body, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (actor_id, method, route, key) DO UPDATE
             SET fingerprint = $5, status = $6, headers = $7, body = $8, created_at = $9
             WHERE idempotency_keys.created_at <= $10",
            actor.0,
            terms.method,
            terms.route,
            terms.key,
            terms.fingerprint,
            answer.status,
            answer.headers,
            answer.body,
            tx.now(),
            terms.since,
        )
        .execute(tx.connection())
        .await?;
        if stored.rows_affected() != 1 {
            return Err(in_progress());
        }
        Ok(answer.into_response())
    }
}
