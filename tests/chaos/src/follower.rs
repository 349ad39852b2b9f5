//! Somebody who listens to the tenant's events all the time, and comes back where the connection ends.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::stage::Target;

/// After so long without a byte the connection counts as dead: the server may be frozen.
const SILENCE: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(100);

/// What was heard.
#[derive(Debug, Default, Clone)]
pub(crate) struct Heard(Arc<Mutex<Listened>>);

#[derive(Debug, Default)]
struct Listened {
    numbers: Vec<i64>,
    skipped: Vec<(i64, i64)>,
}

impl Heard {
    fn listened(&self) -> MutexGuard<'_, Listened> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The numbers of the events, as they came.
    pub fn numbers(&self) -> Vec<i64> {
        self.listened().numbers.clone()
    }

    /// Where a greeting has said that the stream doesn't go on after the last number, but after another one.
    pub fn skipped(&self) -> Vec<(i64, i64)> {
        self.listened().skipped.clone()
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
                        heard.listened().numbers.push(number);
                        position = number;
                    } else if let Some(begins_after) = greeting(message)
                        && begins_after != position
                    {
                        heard.listened().skipped.push((position, begins_after));
                        position = begins_after;
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
    if is_greeting(message) { None } else { id(message) }
}

/// After which number a stream begins; none where this isn't its greeting.
fn greeting(message: &str) -> Option<i64> {
    if is_greeting(message) { id(message) } else { None }
}

fn is_greeting(message: &str) -> bool {
    message.lines().any(|line| line == "event: hello")
}

fn id(message: &str) -> Option<i64> {
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
        assert_eq!(greeting("retry: 2000\nevent: hello\nid: 17\ndata: {}"), Some(17));
        assert_eq!(greeting("event: conversation.updated\nid: 17\ndata: {}"), None);
    }
}
