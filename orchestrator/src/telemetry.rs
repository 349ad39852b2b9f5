//! Logging and metrics, set up once by the binary.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogConfig, LogFormat};

/// Starts logging to standard error. A second call does nothing.
///
/// # Errors
/// Where the filter can't be parsed.
pub fn start_logging(config: &LogConfig) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::try_new(&config.filter)?;
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(true);
    // Colours are for people. Each request would pay for those of its span.
    let layer = if std::io::stderr().is_terminal() { layer } else { layer.with_ansi(false) };
    let registry = tracing_subscriber::registry().with(filter);
    // Only a second call fails, and the first has set it up.
    let _ = match config.format {
        LogFormat::Text => registry.with(layer.compact()).try_init(),
        LogFormat::Json => registry.with(layer.json()).try_init(),
    };
    Ok(())
}
