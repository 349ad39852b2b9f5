use std::path::Path;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use crate::{config::Config, db::migrate::migrate, telemetry};

pub(super) async fn run(config: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    telemetry::start_logging(&config.log).context("log.filter can't be understood")?;
    for (setting, url) in [
        ("database.owner_url", &config.database.owner_url),
        ("database.url", &config.database.url),
        ("database.worker_url", &config.database.worker_url),
    ] {
        anyhow::ensure!(
            !url.expose_secret().is_empty(),
            "{setting} is missing: postgres://user:password@host/database"
        );
    }
    let migrations =
        migrate(&config.database.owner_url, &config.database.url, &config.database.worker_url).await?;
    super::openapi::print(&format!("The database is up to date ({migrations} migrations).\n"))
}
