use serde::Deserialize;

use super::{ConfigError, invalid};

/// `[inbox]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboxConfig {
    /// How many workers process received webhooks in this process.
    pub workers: usize,
    /// How many may wait for the database.
    pub queue: usize,
    /// And how many MiB of them.
    pub queue_mib: usize,
    /// For how many days they are kept.
    pub keep_days: u16,
    /// For how many days a repeat is recognised.
    pub keep_keys_days: u16,
}

impl InboxConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=1_000_000).contains(&self.queue)
            || !(1..=4096).contains(&self.queue_mib)
            || self.workers > 100
        {
            return Err(invalid(
                "inbox",
                "queue must be from 1 to 1000000, queue_mib from 1 to 4096, workers at most 100",
            ));
        }
        if self.keep_days < 2 || self.keep_keys_days < self.keep_days {
            return Err(invalid(
                "inbox",
                "keep_days must be at least 2, and keep_keys_days not less than keep_days",
            ));
        }
        Ok(())
    }
}
