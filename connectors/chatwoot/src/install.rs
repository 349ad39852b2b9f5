use connector_core::{ConnectorError, ErrorKind};
use serde_json::{Value, json};
use url::Url;

use crate::{
    ChatwootClient,
    client::not_chatwoot,
    model::{Webhook, integer, text},
};

/// A page of somebody else's that the account shows in a tab of each conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DashboardApp {
    /// Unique in the installation.
    pub id: i64,
    /// What stands on the tab.
    pub title: String,
    /// The pages in it.
    pub urls: Vec<String>,
}

impl DashboardApp {
    fn read(value: &Value) -> Option<Self> {
        let frames = value.get("content").and_then(Value::as_array).into_iter().flatten();
        Some(Self {
            id: integer(value, "id")?,
            title: text(value, "title").unwrap_or_default(),
            urls: frames.filter_map(|frame| text(frame, "url")).collect(),
        })
    }
}

impl ChatwootClient {
    /// Makes sure that the account sends these events to `url`, and answers the webhook with its secret, which Chatwoot
    /// chooses. One that is there already is kept, with its secret; subscriptions that it lacks are added.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn register_webhook(
        &self,
        url: &Url,
        name: &str,
        subscriptions: &[&str],
    ) -> Result<Webhook, ConnectorError> {
        if let Some(webhook) = self.webhook_to(url).await? {
            return self.complete_subscriptions(webhook, subscriptions).await;
        }
        let body = json!({"url": url.as_str(), "name": name, "subscriptions": subscriptions});
        match self.write(&["webhooks"], &body).await {
            Ok(answer) => webhook_of(&answer),
            // Taken (422) or unknown: someone else may have registered it, or our own request did.
            Err(error) if error.status == Some(422) || error.kind == ErrorKind::Ambiguous => {
                match self.webhook_to(url).await? {
                    Some(webhook) => self.complete_subscriptions(webhook, subscriptions).await,
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The account's webhooks.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn webhooks(&self) -> Result<Vec<Webhook>, ConnectorError> {
        let answer = self.read(&["webhooks"]).await?;
        let webhooks = answer
            .pointer("/payload/webhooks")
            .and_then(Value::as_array)
            .ok_or_else(|| not_chatwoot(ErrorKind::Misconfigured, "a list of webhooks"))?;
        Ok(webhooks.iter().filter_map(Webhook::read).collect())
    }

    /// The account's webhook that posts to `url`.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn webhook_to(&self, url: &Url) -> Result<Option<Webhook>, ConnectorError> {
        Ok(self.webhooks().await?.into_iter().find(|webhook| webhook.url == url.as_str()))
    }

    async fn complete_subscriptions(
        &self,
        webhook: Webhook,
        subscriptions: &[&str],
    ) -> Result<Webhook, ConnectorError> {
        let missing: Vec<&str> = subscriptions
            .iter()
            .copied()
            .filter(|name| !webhook.subscriptions.iter().any(|present| present == name))
            .collect();
        if missing.is_empty() {
            return Ok(webhook);
        }
        let all: Vec<&str> = webhook.subscriptions.iter().map(String::as_str).chain(missing).collect();
        let id = webhook.id.to_string();
        let answer = self.change(&["webhooks", &id], &json!({"subscriptions": all})).await?;
        webhook_of(&answer)
    }

    /// The account's dashboard apps.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn dashboard_apps(&self) -> Result<Vec<DashboardApp>, ConnectorError> {
        let answer = self.read(&["dashboard_apps"]).await?;
        let apps = answer.as_array().ok_or_else(|| strange("a list of dashboard apps"))?;
        Ok(apps.iter().filter_map(DashboardApp::read).collect())
    }

    /// Makes sure that a tab of each conversation shows `url`. One that does is kept as it is, whatever it is called.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn register_dashboard_app(
        &self,
        title: &str,
        url: &Url,
    ) -> Result<DashboardApp, ConnectorError> {
        if let Some(app) = self.dashboard_app_with(url).await? {
            return Ok(app);
        }
        let body = json!({ "dashboard_app": {
            "title": title, "content": [{ "type": "frame", "url": url.as_str() }],
        }});
        match self.write(&["dashboard_apps"], &body).await {
            Ok(answer) => DashboardApp::read(&answer).ok_or_else(|| strange("a dashboard app")),
            // Nothing keeps Chatwoot from having two: look before anybody tries again.
            Err(error) if error.kind == ErrorKind::Ambiguous => {
                self.dashboard_app_with(url).await?.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    async fn dashboard_app_with(&self, url: &Url) -> Result<Option<DashboardApp>, ConnectorError> {
        let apps = self.dashboard_apps().await?;
        Ok(apps.into_iter().find(|app| app.urls.iter().any(|known| known == url.as_str())))
    }
}

fn strange(expected: &str) -> ConnectorError {
    not_chatwoot(ErrorKind::Misconfigured, expected)
}

fn webhook_of(answer: &Value) -> Result<Webhook, ConnectorError> {
    answer
        .pointer("/payload/webhook")
        .and_then(Webhook::read)
        .ok_or_else(|| not_chatwoot(ErrorKind::Ambiguous, "a webhook"))
}
