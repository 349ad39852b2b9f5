use std::time::Duration;

use connector_core::ConnectorError;

use crate::{app::AppState, http::problem::ErrorChain};

/// How long to wait before the next try.
const WAITS: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(10), Duration::from_mins(1)];

/// Has the homeserver call us when we start: what it couldn't deliver while we were away comes at once, and not when its wait,
/// up to nine minutes, is over.
pub async fn ping_at_start(state: AppState) {
    if state.tools.matrix.is_none() {
        return;
    }
    for wait in WAITS {
        match ping(&state).await {
            Ok(took) => {
                tracing::info!(took_ms = took.as_millis(), "the homeserver reaches us");
                return;
            }
            // It may be starting, too.
            Err(error) if wait != WAITS[WAITS.len() - 1] => {
                tracing::debug!(error = %ErrorChain(&error), "the homeserver doesn't reach us yet");
            }
            Err(error) => tracing::warn!(error = %ErrorChain(&error), "the homeserver doesn't reach us"),
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = state.lifecycle.soft.cancelled() => return,
        }
    }
}

/// Sees that the bot is a user there, and asks the homeserver to call us; how long our own answer took.
///
/// # Errors
/// Where it doesn't answer, or doesn't reach us.
pub async fn ping(state: &AppState) -> Result<Duration, ConnectorError> {
    let Some(matrix) = &state.tools.matrix else { return Ok(Duration::ZERO) };
    matrix.client.register().await?;
    matrix.client.ping(&state.config.matrix.appservice_id, None).await
}
