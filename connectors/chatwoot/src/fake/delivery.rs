use std::time::Duration;

use connector_core::SharedClock;
use secrecy::SecretString;
use tokio::sync::mpsc;

use crate::webhook::{DELIVERY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};

/// Chatwoot's default (`WEBHOOK_TIMEOUT`).
const TIMEOUT: Duration = Duration::from_secs(5);

/// An event on its way to one webhook.
#[derive(Debug)]
pub(super) struct Delivery {
    pub url: String,
    pub secret: SecretString,
    pub id: String,
    pub body: Vec<u8>,
}

pub(super) async fn deliver(
    mut queue: mpsc::UnboundedReceiver<Delivery>,
    clock: &SharedClock,
    stop: impl Future<Output = ()> + Send,
) {
    let client = reqwest::Client::builder()
        .connect_timeout(TIMEOUT)
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::limited(10))
        .no_proxy()
        .user_agent("Chatwoot")
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "the double can't send webhooks");
            return;
        }
    };
    let mut stop = std::pin::pin!(stop);
    loop {
        let delivery = tokio::select! {
            biased;
            () = &mut stop => return,
            delivery = queue.recv() => match delivery {
                Some(delivery) => delivery,
                None => return,
            },
        };
        tokio::select! {
            () = &mut stop => return,
            () = send(&client, clock, delivery) => {}
        }
    }
}

/// One attempt. Whatever comes of it, there is no second one.
async fn send(client: &reqwest::Client, clock: &SharedClock, delivery: Delivery) {
    let now = clock.now();
    let signature = sign(&delivery.secret, now, &delivery.body);
    let answer = client
        .post(&delivery.url)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header(DELIVERY_HEADER, &delivery.id)
        .header(TIMESTAMP_HEADER, now.timestamp().to_string())
        .header(SIGNATURE_HEADER, signature)
        .body(delivery.body)
        .send()
        .await;
    match answer {
        Ok(answer) if answer.status().is_success() => {}
        Ok(answer) => {
            tracing::warn!(
                delivery = delivery.id,
                status = answer.status().as_u16(),
                "webhook refused and dropped"
            );
        }
        Err(error) => {
            tracing::warn!(delivery = delivery.id, error = %error.without_url(), "webhook not delivered and dropped");
        }
    }
}
