use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::ids::{InboxEventId, SourceId, TenantId};

/// A source of webhooks.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its id, which stands in its URL.
    pub id: SourceId,
    /// The tenant that it speaks for.
    pub tenant: TenantId,
    /// The tool.
    pub service: String,
    /// The account in the tool.
    pub account: String,
    /// The secrets, opened.
    pub secrets: Vec<SecretString>,
}

/// A source's secrets as sealed: several, so that one can be replaced without losing deliveries.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceSecrets(pub Vec<String>);

/// What a source's secrets are sealed for.
pub(super) const SEALED_FOR: &str = "webhook source secrets";

/// What a received body is sealed for.
pub(super) const BODY_SEALED_FOR: &str = "inbox event body";

/// What a verified delivery is about.
#[derive(Debug)]
pub(super) struct Identified {
    pub event_type: String,
    pub subject: String,
    pub delivery_id: Option<String>,
    /// What makes it the same event.
    pub key_hash: [u8; 32],
}

/// What was verified and is to be stored.
#[derive(Debug)]
pub(super) struct Accepted {
    pub identified: Identified,
    /// The raw bytes, sealed.
    pub sealed_body: Vec<u8>,
}

/// A claimed event.
#[derive(Debug)]
pub(super) struct Claimed {
    pub tenant: TenantId,
    pub id: InboxEventId,
    pub source: SourceId,
    pub service: String,
    pub subject: String,
    pub sealed_body: Vec<u8>,
    pub account: String,
    pub attempts: i32,
    pub fence: i64,
}
