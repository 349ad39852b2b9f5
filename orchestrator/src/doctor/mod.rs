//! What is wrong with the installation, and what mends it: for `chancery doctor` and for who runs the suite.
//!
//! Everything is looked at with the settings alone, as a process that starts would find it, so that it works where the server
//! doesn't. Nothing is changed anywhere. A server that hangs costs its own check, not the others.

mod checks;
mod lately;
mod report;

use std::time::Duration;

pub use self::lately::Lately;
pub use self::report::{Check, Finding, Report, Verdict};
use crate::{clock::SharedClock, config::Config, tools::Tools};

/// How long one server may take to be looked at: the database and then the others, within the time that a page has.
const DEADLINE: Duration = Duration::from_secs(10);

/// Looks at everything that `config` names.
pub async fn examine(config: &Config, clock: &SharedClock) -> Report {
    let database = tokio::time::timeout(DEADLINE, Box::pin(checks::database(config, clock))).await;
    let (database, sources) = database.unwrap_or_else(|_| (too_late("database"), None));
    let sources = sources.as_deref();
    let tools = Tools::connect(config, clock);
    let (redis, keycloak, chatwoot, matrix, jitsi, address) = tokio::join!(
        in_time("redis", Box::pin(checks::redis(config))),
        in_time("keycloak", Box::pin(checks::keycloak(config, clock))),
        in_time("chatwoot", Box::pin(checks::chatwoot(config, &tools, sources))),
        in_time("matrix", Box::pin(checks::matrix(config, &tools, sources))),
        in_time("jitsi", Box::pin(checks::jitsi(config, clock, &tools, sources))),
        in_time("address", Box::pin(checks::address(config, clock))),
    );
    let checks = vec![checks::settings(config), database, redis, keycloak, chatwoot, matrix, jitsi, address];
    Report { checked_at: clock.now(), checks }
}

async fn in_time(name: &'static str, check: impl Future<Output = Check>) -> Check {
    tokio::time::timeout(DEADLINE, check).await.unwrap_or_else(|_| too_late(name))
}

fn too_late(name: &'static str) -> Check {
    Check::new(name).fails(
        format!("no end of it within {} s", DEADLINE.as_secs()),
        "see that the server isn't overloaded, and that nothing on the way swallows packets",
    )
}
