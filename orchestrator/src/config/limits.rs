use serde::Deserialize;

use super::{ConfigError, invalid};

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// A principal's calls of the API.
    pub principal: QuotaConfig,
    /// What a session of the shell sends to be changed.
    pub session: QuotaConfig,
    /// A source's webhooks, once their signature is verified.
    pub source: QuotaConfig,
    /// What comes from an address without proof of who asks: sign-ins, wrong tokens, wrong signatures.
    pub address: QuotaConfig,
    /// So many event streams a principal may have open at a time; 0 for as many as it likes.
    pub streams_per_principal: u32,
    /// So many of them by one session of the shell.
    pub streams_per_session: u32,
}

/// So many requests in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaConfig {
    /// The requests, all of which may come at once; 0 for as many as one likes.
    pub requests: u32,
    /// The seconds in which they come back.
    pub seconds: u32,
}

impl LimitsConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (setting, quota) in [
            ("limits.principal", self.principal),
            ("limits.session", self.session),
            ("limits.source", self.source),
            ("limits.address", self.address),
        ] {
            if !(1..=86_400).contains(&quota.seconds) {
                return Err(invalid(setting, "seconds must be from 1 to 86400"));
            }
            if quota.requests > 1_000_000_000 {
                return Err(invalid(setting, "requests must be at most 1000000000; 0 is no limit"));
            }
        }
        Ok(())
    }
}
