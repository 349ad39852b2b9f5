//! How the installation is.

use std::borrow::Borrow;

plain_enum! {
    /// How a part of the installation is.
    HealthVerdict {
        /// It isn't configured, and needn't be.
        Unused => "unused",
        /// It does what it should.
        Works => "works",
        /// It works, and somebody should look at it.
        Attention => "attention",
        /// It doesn't work.
        Fails => "fails",
    }
}

impl HealthVerdict {
    pub(crate) fn tone(self) -> &'static str {
        match self {
            Self::Unused => "quiet",
            Self::Works => "good",
            Self::Attention => "waiting",
            Self::Fails => "bad",
        }
    }

    pub(crate) fn icon(self) -> &'static str {
        match self {
            Self::Unused => "hourglass",
            Self::Works => "check",
            Self::Attention => "warning",
            Self::Fails => "cross",
        }
    }
}

/// A part of the installation.
#[derive(Debug, Clone)]
pub struct HealthPart {
    /// Its name in texts: `settings`, `database`, `redis`, `keycloak`, `chatwoot`, `matrix`, `jitsi`, `address`.
    pub name: &'static str,
    /// The worst that was seen of it.
    pub verdict: HealthVerdict,
    /// What was seen of it.
    pub findings: Vec<HealthFinding>,
}

/// Something that was seen, in the words of who saw it.
#[derive(Debug, Clone)]
pub struct HealthFinding {
    /// What was seen.
    pub what: String,
    /// What mends it.
    pub mend: Option<String>,
}
