use connector_core::ConnectorError;
use serde::{Deserialize, Serialize};

use crate::{MatrixClient, UserId};

/// As whom somebody who signs a user in knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalId {
    /// Who signs in: `oidc-` and Synapse's `idp_id`.
    pub auth_provider: String,
    /// The user's id there: with OpenID Connect, `sub` as a rule.
    pub external_id: String,
}

impl MatrixClient {
    /// Who signs people in for the homeserver (`GET /_matrix/client/v1/auth_metadata`, since v1.15): the issuer, as which the
    /// Matrix Authentication Service is known; none where the homeserver does so itself.
    ///
    /// # Errors
    /// See [`connector_core::ErrorKind`], here and below.
    pub async fn auth_issuer(&self) -> Result<Option<String>, ConnectorError> {
        #[derive(Deserialize)]
        struct Answer {
            issuer: String,
        }
        match self.get_at::<Answer>(&["_matrix", "client", "v1", "auth_metadata"]).await {
            Ok(answer) => Ok(Some(answer.issuer)),
            // A homeserver that knows the path and one that doesn't say the same.
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How people may sign in (`GET /login`): `m.login.sso`, `m.login.password`, …
    pub async fn login_flows(&self) -> Result<Vec<String>, ConnectorError> {
        #[derive(Deserialize)]
        struct Answer {
            flows: Vec<Flow>,
        }
        #[derive(Deserialize)]
        struct Flow {
            #[serde(rename = "type")]
            kind: String,
        }
        let answer: Answer = self.get_at(&["_matrix", "client", "v3", "login"]).await?;
        Ok(answer.flows.into_iter().map(|flow| flow.kind).collect())
    }

    /// As whom those who sign `user` in know them (Synapse's admin API). A user whom the homeserver doesn't have is known to
    /// nobody.
    ///
    /// # Errors
    /// 403 where the bot is no administrator of the homeserver. Under the Matrix Authentication Service it can't be one.
    pub async fn external_ids(&self, user: &UserId) -> Result<Vec<ExternalId>, ConnectorError> {
        #[derive(Deserialize)]
        struct Answer {
            external_ids: Vec<ExternalId>,
        }
        match self.get_at::<Answer>(&["_synapse", "admin", "v2", "users", user.as_str()]).await {
            Ok(answer) => Ok(answer.external_ids),
            Err(error) if error.is_not_found() && error.code.as_deref() == Some("M_NOT_FOUND") => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}
