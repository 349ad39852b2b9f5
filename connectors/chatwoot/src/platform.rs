use connector_core::{ConnectorError, ErrorKind};
use secrecy::SecretString;
use serde_json::Value;
use url::Url;

use crate::{ChatwootClient, SERVICE};

impl ChatwootClient {
    /// Whether this client can sign people in: it has the platform's token.
    pub fn can_sign_in(&self) -> bool {
        self.platform().is_some()
    }

    /// A link that signs whoever opens it in as this user, once and within five minutes, and shows them a conversation of this
    /// client's account. It is a credential: hand it to the user's browser at once, and keep it nowhere.
    ///
    /// # Errors
    /// Misconfigured where there is no platform token, or where the link leads to another server than `frontend`; unauthorised
    /// where the platform app may not see the user; otherwise see [`ErrorKind`].
    pub async fn login_link(
        &self,
        user: i64,
        conversation: i64,
        frontend: &Url,
    ) -> Result<SecretString, ConnectorError> {
        let misconfigured =
            |message: &str| ConnectorError::new(ErrorKind::Misconfigured, SERVICE, message.to_owned());
        let platform = self.platform().ok_or_else(|| misconfigured("there is no platform token"))?;
        let user = user.to_string();
        let answer: Value =
            platform.get(&["platform", "api", "v1", "users", &user, "login"], &[], None).await?;
        let link = answer.get("url").and_then(Value::as_str).and_then(|url| Url::parse(url).ok());
        let mut link = link.ok_or_else(|| misconfigured("the answer is not a login link"))?;
        if link.origin() != frontend.origin() {
            return Err(misconfigured("the login link leads to another server (FRONTEND_URL)"));
        }
        // The login page reads them, and goes on to the conversation.
        link.query_pairs_mut()
            .append_pair("sso_account_id", &self.account_id().to_string())
            .append_pair("sso_conversation_id", &conversation.to_string());
        Ok(String::from(link).into())
    }
}
