use crate::{
    crypto::{CryptoError, MasterKey},
    ids::{IdGenerator, InboxEventId, SourceId, TenantId},
};
use axum::http::{HeaderMap, HeaderName};
use chrono::{DateTime, Utc};
use connector_core::TraceContext;
use sha2::{Digest as _, Sha256};

/// What a received request is sealed for.
const REQUEST_SEALED_FOR: &str = "inbox event request";
/// What a body without headers was sealed for, formerly.
const BODY_SEALED_FOR: &str = "inbox event body";

/// How many lanes there are. A subject is always in the same one.
pub(super) const LANES: u32 = 16;

/// What a verified delivery is about.
#[derive(Debug)]
pub(super) struct Identified {
    /// Whose it is, where that isn't the source's tenant.
    pub tenant: Option<TenantId>,
    pub event_type: String,
    pub subject: String,
    pub delivery_id: Option<String>,
    /// What makes it the same event.
    pub key_hash: [u8; 32],
    /// When it happened, where the sender says so (CloudEvents' `time`).
    pub occurred_at: Option<DateTime<Utc>>,
    /// Where it happened, where the sender says so (CloudEvents' `source`).
    pub source_uri: Option<String>,
}

/// An event on its way into the database.
#[derive(Debug)]
pub(super) struct Incoming {
    pub tenant: TenantId,
    pub source: SourceId,
    pub service: String,
    pub id: InboxEventId,
    pub received_at: DateTime<Utc>,
    pub subject_key: i64,
    pub identified: Identified,
    pub sealed_request: Vec<u8>,
}

/// A subject of a source as a number: the first 64 bits of a hash of both. Two subjects with the same number would only wait
/// for each other.
pub(super) fn subject_key(source: SourceId, subject: &str) -> i64 {
    let hash = Sha256::new().chain_update(source.0.as_bytes()).chain_update(subject.as_bytes()).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(first)
}

/// The lane of a subject: its key's lowest four bits.
pub(super) fn lane(subject_key: i64) -> i16 {
    i16::from(subject_key.to_be_bytes()[7] & 0b1111)
}

/// A lane as a bit of a set.
pub(super) fn lane_bit(lane: i16) -> u16 {
    1_u16.checked_shl(u32::from(lane.unsigned_abs())).unwrap_or(0)
}

/// The lanes of a set.
pub(super) fn lanes_in(set: u16) -> impl Iterator<Item = i16> {
    (0..16_i16).filter(move |lane| set & lane_bit(*lane) != 0)
}

/// Headers whose values are secrets, or may be.
fn is_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "authorization" | "proxy-authorization" | "cookie" | "set-cookie")
        || ["token", "secret", "password", "api-key", "apikey", "credential"]
            .iter()
            .any(|word| name.contains(word))
}

/// What was received: its headers, without secrets, and its raw bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RawRequest {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl RawRequest {
    /// Seals headers and body together: the headers as lines, behind their length.
    pub fn seal(
        key: &MasterKey,
        ids: &dyn IdGenerator,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let mut plain = Vec::with_capacity(4 + 512 + body.len());
        plain.extend_from_slice(&[0; 4]);
        for (name, value) in headers.iter().filter(|(name, _)| !is_secret(name)) {
            plain.extend_from_slice(name.as_str().as_bytes());
            plain.extend_from_slice(b": ");
            plain.extend_from_slice(value.as_bytes());
            plain.push(b'\n');
        }
        let length = u32::try_from(plain.len() - 4).unwrap_or(u32::MAX);
        plain[..4].copy_from_slice(&length.to_be_bytes());
        plain.extend_from_slice(body);
        key.seal(ids, REQUEST_SEALED_FOR, &plain)
    }

    /// Opens what was received.
    pub fn open(key: &MasterKey, sealed: &[u8]) -> Result<Self, CryptoError> {
        let Ok(mut plain) = key.open(REQUEST_SEALED_FOR, sealed) else {
            return Ok(Self { headers: Vec::new(), body: key.open(BODY_SEALED_FOR, sealed)? });
        };
        let length = plain.first_chunk().map(|length: &[u8; 4]| u32::from_be_bytes(*length));
        let end = length.and_then(|length| usize::try_from(length).ok()?.checked_add(4));
        let Some(end) = end.filter(|end| *end <= plain.len()) else { return Err(CryptoError::Unsealable) };
        let headers = String::from_utf8_lossy(&plain[4..end])
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        plain.drain(..end);
        Ok(Self { headers, body: plain })
    }

    /// Where in which trace it was sent, where it says so by the rules.
    pub fn trace(&self) -> Option<TraceContext> {
        let mut told = HeaderMap::new();
        for (name, value) in &self.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
                told.append(name, value);
            }
        }
        TraceContext::from_headers(&told)
    }
}

/// The path under which a source receives: CloudEvents' `source` where the sender says none.
pub(super) fn source_path(service: &str, source: SourceId) -> String {
    format!("/api/v1/webhooks/{service}/{source}")
}

/// A pending mark as read, or one of the retries.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    /// Where its row is (PostgreSQL's `ctid`); empty for a retry.
    pub place: String,
    pub lane: i16,
    pub seq: i64,
    pub tenant: TenantId,
    pub event: InboxEventId,
    pub received_at: DateTime<Utc>,
    pub subject_key: i64,
    pub bytes: i32,
    pub replay: bool,
    /// Whether it has to wait for an earlier event of its subject, which failed.
    pub waits: bool,
}

/// An event as stored, with what its source says.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub id: InboxEventId,
    pub source: SourceId,
    pub service: String,
    /// The tool's own name for what happened.
    pub kind: String,
    pub subject: String,
    pub occurred_at: Option<DateTime<Utc>>,
    pub source_uri: Option<String>,
    pub received_at: DateTime<Utc>,
    /// The account of the source; none where the source is gone.
    pub account: Option<String>,
    /// Who has it.
    pub tenant: TenantId,
    pub sealed_request: Vec<u8>,
}

/// A claim on lanes: only its holder may have effects in them.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// Each lane with its fence.
    pub lanes: Vec<(i16, i64)>,
    /// Whether something in them that has failed was to be tried again when they were claimed.
    pub has_due: bool,
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::ids::RandomIds;

    #[test]
    fn a_subject_is_always_in_the_same_lane_and_subjects_spread_over_all() {
        let source = SourceId(Uuid::from_u128(7));
        assert_eq!(subject_key(source, "conversation/26"), subject_key(source, "conversation/26"));
        let set = (0..500).fold(0, |set, number| {
            set | lane_bit(lane(subject_key(source, &format!("conversation/{number}"))))
        });
        assert_eq!((set, lanes_in(set).count()), (u16::MAX, usize::try_from(LANES).unwrap()));
        assert_eq!((lane(-1), lane(i64::MIN), lane(17)), (15, 0, 1));
    }

    #[test]
    fn a_request_opens_as_it_came_but_for_its_secrets() {
        let key = MasterKey::ephemeral(&RandomIds).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/json"),
            ("x-chatwoot-signature", "sha256=00"),
            ("authorization", "Bearer secret"),
            ("x-gitlab-token", "secret"),
            ("cookie", "a=secret"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let sealed = RawRequest::seal(&key, &RandomIds, &headers, b"{\"a\": 1}\n").unwrap();
        let opened = RawRequest::open(&key, &sealed).unwrap();
        let kept: Vec<&str> = opened.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(kept, ["content-type", "x-chatwoot-signature"]);
        assert_eq!(
            (opened.headers[1].1.as_str(), opened.body.as_slice()),
            ("sha256=00", b"{\"a\": 1}\n".as_slice())
        );
        // As it was stored before headers were kept.
        let former = key.seal(&RandomIds, "inbox event body", b"{}").unwrap();
        assert_eq!(
            RawRequest::open(&key, &former).unwrap(),
            RawRequest { headers: vec![], body: b"{}".to_vec() }
        );
        let other = key.seal(&RandomIds, "session", b"{}").unwrap();
        assert!(RawRequest::open(&key, &other).is_err());
    }
}
