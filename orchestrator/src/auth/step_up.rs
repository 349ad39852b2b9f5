//! How surely somebody has proven who they are: levels of authentication (`acr`, OpenID Connect Core 1.0, section 2), and
//! asking for a higher one (RFC 9470).
//!
//! Whether something asks for a level is for its slice to say. What a token or a session proves is compared here, by the
//! configured order of the levels: what was asked of Keycloak proves nothing.

use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::bearer::SKEW_SECONDS;
use crate::{config::StepUpConfig, http::Problem};

/// How and when somebody proved who they are, as a token of Keycloak's says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    /// The level's name (`acr`); none where the token doesn't say.
    pub level: Option<String>,
    /// When (`auth_time`); none where the token doesn't say.
    pub at: Option<DateTime<Utc>>,
}

/// A level, and how old its proof may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The level's name.
    pub level: String,
    /// The oldest proof that is taken, in seconds.
    pub max_age_seconds: i64,
}

impl Requirement {
    /// Whether somebody has proven as much: this level or a higher one, and not too long ago.
    pub fn is_met(&self, levels: &[String], proven: &Authentication, now: DateTime<Utc>) -> bool {
        let rank = |level: &str| levels.iter().position(|known| known == level);
        let (Some(level), Some(at)) = (proven.level.as_deref(), proven.at) else { return false };
        let (Some(proven), Some(required)) = (rank(level), rank(&self.level)) else { return false };
        let age = now - at;
        let skew = TimeDelta::seconds(SKEW_SECONDS);
        // A proof from the future is none; clocks may be apart a little.
        proven >= required && age >= -skew && age <= TimeDelta::seconds(self.max_age_seconds)
    }

    /// The claim to ask Keycloak for (OpenID Connect Core 1.0, section 5.5.1): this level and nothing less.
    pub(super) fn claims(&self) -> String {
        serde_json::json!({ "id_token": { "acr": { "essential": true, "values": [self.level] } } })
            .to_string()
    }

    /// 401 with the challenge of RFC 9470, section 3.
    pub fn problem(&self) -> Problem {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "step_up_required",
            "This asks for a stronger or more recent proof of who you are",
        )
        .challenged(format!(
            "Bearer error=\"insufficient_user_authentication\", error_description=\"A stronger or more recent authentication is \
             needed\", acr_values=\"{}\", max_age=\"{}\"",
            self.level, self.max_age_seconds
        ))
    }
}

/// What a request shows to prove who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// The cookie of a session of the shell.
    Session,
    /// An access token (RFC 6750).
    Bearer,
}

impl Means {
    /// As the trail says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Bearer => "bearer",
        }
    }
}

/// What somebody has proven, and what counts.
#[derive(Debug, Clone, Copy)]
pub struct Proof<'a> {
    /// By what.
    pub means: Means,
    /// What was proven.
    pub proven: &'a Authentication,
    /// What counts.
    pub rules: &'a StepUpConfig,
}

impl Proof<'_> {
    /// What the trail says of it: by what they proved who they are, at which level (`acr`), and when (`auth_time`).
    pub fn recorded(&self) -> serde_json::Value {
        serde_json::json!({ "means": self.means.as_str(), "acr": self.proven.level, "authTime": self.proven.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_met_by_itself_or_a_higher_one_for_its_time() {
        let levels = ["bronze", "silver", "gold"].map(str::to_owned);
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let silver = Requirement { level: "silver".to_owned(), max_age_seconds: 300 };
        let proven = |level: &str, seconds: i64| Authentication {
            level: Some(level.to_owned()),
            at: Some(now - TimeDelta::seconds(seconds)),
        };
        for (proven, is_met) in [
            (proven("silver", 0), true),
            (proven("silver", 300), true),
            (proven("silver", 301), false),
            // Clocks are apart by a minute at most.
            (proven("silver", -60), true),
            (proven("silver", -61), false),
            (proven("gold", 10), true),
            (proven("bronze", 10), false),
            // By the order, not by the name.
            (proven("2", 10), false),
            (proven("Silver", 10), false),
            (Authentication { level: None, at: Some(now) }, false),
            (Authentication { level: Some("gold".to_owned()), at: None }, false),
            (Authentication::default(), false),
        ] {
            assert_eq!(silver.is_met(&levels, &proven, now), is_met, "{proven:?}");
        }
        let unknown = Requirement { level: "platinum".to_owned(), ..silver };
        assert!(!unknown.is_met(&levels, &proven("gold", 0), now));
    }
}
