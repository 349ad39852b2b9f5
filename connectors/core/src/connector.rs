use async_trait::async_trait;
use chrono::TimeDelta;

use crate::{ConnectorError, Health};

/// Something that a connector, as it is set up, can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Capability {
    /// A name for programs: `private_notes`.
    pub name: &'static str,
    /// What it is, for people.
    pub description: &'static str,
}

/// What a server says about itself and about us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// The server's version, where it tells.
    pub version: Option<String>,
    /// Who we are to the server.
    pub identity: Option<String>,
    /// By how much its clock is ahead of ours, where it tells.
    pub clock_ahead: Option<TimeDelta>,
    /// What an administrator should know though it hinders nothing now.
    pub warnings: Vec<String>,
}

/// What can be asked of every connector, whatever its tool does.
#[async_trait]
pub trait Connector: std::fmt::Debug + Send + Sync {
    /// The tool's name in errors and logs.
    fn service(&self) -> &'static str;

    /// What this connector, as it is set up, can do.
    fn capabilities(&self) -> Vec<Capability>;

    /// How the server has been doing. Calls nobody.
    fn health(&self) -> Health;

    /// Asks the server, changing nothing there: whether it can be reached, is the tool that it should be, and takes our
    /// credentials.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::ErrorKind).
    async fn check(&self) -> Result<ServerInfo, ConnectorError>;
}
