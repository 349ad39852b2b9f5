use std::{path::Path, sync::Arc};

use clap::Args;

use super::openapi::print;
use crate::{
    clock::{SharedClock, SystemClock},
    config::Config,
    doctor,
};

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: Option<&Path>, arguments: DoctorArguments) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let report = doctor::examine(&config, &clock).await;
    if arguments.json {
        print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
    } else {
        print(&report.to_string())?;
    }
    let failing = report.failing();
    anyhow::ensure!(failing == 0, "{failing} parts of the installation don't work");
    Ok(())
}
