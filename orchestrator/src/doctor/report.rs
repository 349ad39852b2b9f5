use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

/// How it is with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It isn't configured, and needn't be.
    Unused,
    /// It does what it should.
    Works,
    /// It works, and somebody should look at it.
    Attention,
    /// It doesn't work.
    Fails,
}

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was seen, for an operator. Names no secret.
    pub what: String,
    /// What mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// What was seen of one part of the installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The part: `settings`, `database`, `redis`, `keycloak`, `chatwoot`, `matrix`, `jitsi`, `address`.
    pub name: &'static str,
    /// The worst of its findings.
    pub verdict: Verdict,
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
}

impl Check {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, verdict: Verdict::Unused, findings: Vec::new() }
    }

    fn with(mut self, verdict: Verdict, what: String, mend: Option<String>) -> Self {
        self.verdict = self.verdict.max(verdict);
        self.findings.push(Finding { verdict, what, mend });
        self
    }

    pub(super) fn unused(self, what: impl Into<String>) -> Self {
        self.with(Verdict::Unused, what.into(), None)
    }

    pub(super) fn works(self, what: impl Into<String>) -> Self {
        self.with(Verdict::Works, what.into(), None)
    }

    /// Something to look at, which says itself what to do.
    pub(super) fn warning(self, what: impl Into<String>) -> Self {
        self.with(Verdict::Attention, what.into(), None)
    }

    pub(super) fn attention(self, what: impl Into<String>, mend: impl Into<String>) -> Self {
        self.with(Verdict::Attention, what.into(), Some(mend.into()))
    }

    pub(super) fn fails(self, what: impl Into<String>, mend: impl Into<String>) -> Self {
        self.with(Verdict::Fails, what.into(), Some(mend.into()))
    }
}

/// What was seen of the installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it was looked at.
    pub checked_at: DateTime<Utc>,
    /// The parts, in the order in which one would mend them.
    pub checks: Vec<Check>,
}

impl Report {
    /// How many parts don't work.
    pub fn failing(&self) -> usize {
        self.checks.iter().filter(|check| check.verdict == Verdict::Fails).count()
    }
}

/// As a terminal shows it.
impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            for (index, finding) in check.findings.iter().enumerate() {
                let sign = match finding.verdict {
                    Verdict::Unused => '-',
                    Verdict::Works => '✓',
                    Verdict::Attention => '!',
                    Verdict::Fails => '✗',
                };
                let name = if index == 0 { check.name } else { "" };
                writeln!(formatter, "{name:10} {sign} {}", finding.what)?;
                if let Some(mend) = &finding.mend {
                    writeln!(formatter, "{:10}   → {mend}", "")?;
                }
            }
        }
        let failing = self.failing();
        let attention = self.checks.iter().filter(|check| check.verdict == Verdict::Attention).count();
        match (failing, attention) {
            (0, 0) => writeln!(formatter, "\nEverything that is configured works."),
            (0, attention) => writeln!(formatter, "\nEverything works; {attention} to look at."),
            (failing, _) => writeln!(formatter, "\n{failing} of {} don't work.", self.checks.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_verdict_and_each_says_what_mends_it() {
        let check = Check::new("redis").works("Redis 7").attention("no TLS", "use rediss://").works("fast");
        assert_eq!(check.verdict, Verdict::Attention);
        let failing = Check::new("matrix").works("it answers").fails("wrong token", "set matrix.as_token");
        let report = Report {
            checked_at: DateTime::UNIX_EPOCH,
            checks: vec![check, failing, Check::new("jitsi").unused("not connected")],
        };
        assert_eq!(report.failing(), 1);
        let expected = "\
redis      ✓ Redis 7
           ! no TLS
             → use rediss://
           ✓ fast
matrix     ✓ it answers
           ✗ wrong token
             → set matrix.as_token
jitsi      - not connected

1 of 3 don't work.
";
        assert_eq!(report.to_string(), expected);
    }
}
