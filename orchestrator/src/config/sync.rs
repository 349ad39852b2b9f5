use serde::Deserialize;

/// `[sync]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncConfig {
    /// How often Keycloak is compared with the tools, in seconds.
    pub period_seconds: u64,
    /// How Chatwoot is treated.
    pub chatwoot: SyncToolConfig,
}

/// How a tool is treated.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyncToolConfig {
    /// What is done by itself.
    pub mode: SyncMode,
    /// What becomes of what somebody has made or changed in the tool.
    pub drift: SyncDrift,
    /// Accounts, by the tool's ids, from which nothing is ever taken.
    pub protected: Vec<String>,
    /// How much of a hundred grants of a kind may be taken without being asked.
    pub percent: u32,
    /// How many grants of a kind may be.
    pub count: u32,
    /// Up to how many the percentage isn't looked at.
    pub few: u32,
}

/// What is done by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncMode {
    /// Nothing.
    Off,
    /// It is planned, and measured how much there would be to do.
    Plan,
    /// What isn't held is done.
    Apply,
}

/// What becomes of drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncDrift {
    /// It is shown.
    Report,
    /// It is made what Keycloak says.
    Enforce,
}
