//! Somebody who listens to the tenant's events all the time, and comes back where the connection ends.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::stage::Target;

/// After so long without a byte the connection counts as dead: the server may be frozen.
const SILENCE: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(100);

/// What was heard.
#[derive(Debug, Default, Clone)]
pub(crate) struct Heard(Arc<Mutex<Vec<i64>>>);

impl Heard {
    /// The numbers of the events, as they came.
    pub fn numbers(&self) -> Vec<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, number: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }
}

/// Listens until it is told to stop.
pub(crate) async fn follow(target: Arc<Target>, heard: Heard, stop: CancellationToken) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    // From the log's beginning: what was there before anybody listened is heard, too.
    let mut position = 0;
    let mut replica = 0;
    loop {
        let address = target.addresses[replica % target.addresses.len()];
        replica += 1;
        let request = client
            .get(format!("http://{address}/api/v1/events?tenantId={}", target.tenant))
            .bearer_auth(&target.token)
            .header("last-event-id", position.to_string());
        let listening = async {
            let Ok(Ok(mut answer)) = tokio::time::timeout(SILENCE, request.send()).await else { return };
            if !answer.status().is_success() {
                return;
            }
            let mut text = String::new();
            while let Ok(Ok(Some(bytes))) = tokio::time::timeout(SILENCE, answer.chunk()).await {
                text.push_str(&String::from_utf8_lossy(&bytes));
                while let Some((message, rest)) = text.split_once("\n\n") {
                    if let Some(number) = event_number(message) {
                        heard.add(number);
                        position = number;
                    }
                    text = rest.to_owned();
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = listening => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The number of an event; none of a greeting, a comment, or what has no number.
fn event_number(message: &str) -> Option<i64> {
    if message.lines().any(|line| line == "event: hello") {
        return None;
    }
    message.lines().find_map(|line| line.strip_prefix("id: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_have_a_number() {
        assert_eq!(event_number("event: conversation.updated\nid: 17\ndata: {}"), Some(17));
        assert_eq!(event_number("retry: 2000\nevent: hello\nid: 17\ndata: {}"), None);
        assert_eq!(event_number(": heartbeat"), None);
    }
}
