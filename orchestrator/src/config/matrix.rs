use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::{ConfigError, invalid, parse_url};

/// `[matrix]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatrixConfig {
    /// The homeserver's client API; empty where not connected.
    pub url: String,
    /// The homeserver's name.
    pub server_name: String,
    /// What we show the homeserver.
    pub as_token: SecretString,
    /// What the homeserver shows us.
    pub hs_token: SecretString,
    /// The bot's local part.
    pub sender_localpart: String,
    /// The application service's id in its registration.
    pub appservice_id: String,
    /// Who signs people in there.
    pub auth_mode: MatrixAuthMode,
    /// As which Synapse knows Keycloak; empty where its users are known by their names.
    pub identity_provider: String,
    /// The client that people use; empty for the homeserver's own address.
    pub client_url: String,
    /// Whether the shell shows the client inside a page.
    pub embed: bool,
}

/// Who signs people in at the homeserver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatrixAuthMode {
    /// Synapse itself, by Keycloak.
    Synapse,
    /// The Matrix Authentication Service, by Keycloak.
    Mas,
}

impl MatrixConfig {
    /// Where people read the team's chat.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`].
    pub fn client(&self) -> Result<Url, ConfigError> {
        if self.client_url.is_empty() {
            parse_url("matrix.url", &self.url)
        } else {
            parse_url("matrix.client_url", &self.client_url)
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.auth_mode == MatrixAuthMode::Mas && !self.identity_provider.is_empty() {
            return Err(invalid(
                "matrix.identity_provider",
                "must be empty where matrix.auth_mode is mas: the token of an application service is never an administrator's there",
            ));
        }
        Ok(())
    }
}
