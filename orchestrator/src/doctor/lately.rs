use std::{sync::Arc, time::Duration};

use connector_core::HttpClient;
use moka::future::Cache;
use url::Url;

use super::{Report, Verdict, examine};
use crate::{clock::SharedClock, config::Config};

/// For how long it is remembered how something was: who looks at a page again and again asks no server each time.
const REMEMBERED: Duration = Duration::from_secs(10);
/// How long an address may take to answer.
const DEADLINE: Duration = Duration::from_secs(4);
const MOST_ADDRESSES: u64 = 200;

/// How the installation was when it was looked at last. Who asks at the same time waits for the same look.
#[derive(Debug)]
pub struct Lately {
    report: Cache<(), Arc<Report>>,
    addresses: Cache<Url, Verdict>,
}

impl Default for Lately {
    fn default() -> Self {
        Self {
            report: Cache::builder().max_capacity(1).time_to_live(REMEMBERED).build(),
            addresses: Cache::builder().max_capacity(MOST_ADDRESSES).time_to_live(REMEMBERED).build(),
        }
    }
}

impl Lately {
    /// How everything that `config` names is, or was a moment ago.
    pub async fn report(&self, config: &Config, clock: &SharedClock) -> Arc<Report> {
        self.report.get_with((), Box::pin(async { Arc::new(examine(config, clock).await) })).await
    }

    /// Whether something answers at an address that who runs the suite has given. Never one that a tenant has: it would tell what there is
    /// inside.
    pub async fn address(&self, url: &Url, clock: &SharedClock) -> Verdict {
        let look = async {
            let reached = async {
                let client = HttpClient::builder("module", url.clone()).clock(Arc::clone(clock)).build()?;
                client.reach(&[]).await
            };
            match tokio::time::timeout(DEADLINE, reached).await {
                Ok(Ok(())) => Verdict::Works,
                // Somebody is there who wants a sign-in first.
                Ok(Err(error)) if error.status.is_some_and(|status| status < 500) => Verdict::Works,
                Ok(Err(_)) | Err(_) => Verdict::Fails,
            }
        };
        self.addresses.get_with(url.clone(), Box::pin(look)).await
    }
}
