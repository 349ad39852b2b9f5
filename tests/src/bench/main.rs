//! `cargo xtask bench [NAME…] [--json FILE]`: what Chancery reaches, beside a yardstick in the same run. Never fails a
//! build: a machine is what it is.
//!
//! The server is a process of its own, as `chancery serve`; PostgreSQL has fsync on; the load comes from this process on
//! the same machine, so that the absolute figures are those of a machine shared by all three.

mod approvals;
mod client;
mod inbox;
mod main_job;
mod meetings;
mod people;
mod pgbench;
mod report;
mod server;
mod sessions;
mod stage;
mod streams;
mod tokens;
mod transactions;

use std::path::PathBuf;

use clap::Parser;

use report::Report;
use stage::Stage;

/// What to measure.
#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measures Chancery beside a yardstick in the same run")]
struct Arguments {
    /// The rows to measure, or the beginnings of their names; all without one
    names: Vec<String>,
    /// Write the rows to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How long each load lasts, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

impl Arguments {
    /// Whether one of these rows is wanted.
    fn wants(&self, rows: &[&str]) -> bool {
        self.names.is_empty()
            || rows.iter().any(|row| self.names.iter().any(|name| row.starts_with(name.as_str())))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut report = Report::default();
    let stage = Stage::set().await?;
    let result = measure(&arguments, &stage, &mut report).await;
    stage.strike().await?;
    result?;
    report.print();
    if let Some(file) = &arguments.json {
        report.write(file)?;
    }
    Ok(())
}

async fn measure(arguments: &Arguments, stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    if arguments.wants(&["machine.insert_rate"]) {
        pgbench::measure_insert_rate(stage, report, arguments.seconds).await?;
    }
    if arguments.wants(&["serve.start_ms", "serve.rss_mib"]) {
        server::measure(stage, report).await?;
    }
    if arguments.wants(&["escalate.to_stream_p99_ms", "decide.to_note_p99_ms"]) {
        main_job::measure(stage, report, arguments.seconds).await?;
    }
    if arguments.wants(&["approvals.create_rate"]) {
        approvals::measure_create(stage, report, arguments.seconds).await?;
    }
    if arguments.wants(&["approvals.list_rate"]) {
        approvals::measure_list(stage, report, arguments.seconds).await?;
    }
    if arguments.wants(&["tokens.check_us", "tokens.check_again_us"]) {
        tokens::measure(stage, report).await?;
    }
    if arguments.wants(&["jitsi.mint_us"]) {
        meetings::measure(report)?;
    }
    if arguments.wants(&["sessions.page_p95_ms"]) {
        sessions::measure_page(stage, report, arguments.seconds).await?;
    }
    if arguments.wants(&["logout.thousand_s"]) {
        sessions::measure_logouts(stage, report).await?;
    }
    if arguments.wants(&["streams.memory_kib"]) {
        streams::measure(stage, report).await?;
    }
    if arguments.wants(&["matrix.transaction_event_rate"]) {
        transactions::measure(stage, report, arguments.seconds).await?;
    }
    if arguments.wants(&inbox::ROWS) {
        inbox::measure(stage, report, arguments.seconds).await?;
    }
    Ok(())
}
