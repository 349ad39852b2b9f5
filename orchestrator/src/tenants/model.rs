use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{approvals::Priority, ids::TenantId};

/// The least age that step-up may ask for, in seconds: less than it takes to sign in would never end.
pub const MIN_MAX_AGE_SECONDS: u32 = 60;
/// The greatest, in seconds: a sign-in lasts no longer by default.
pub const MAX_MAX_AGE_SECONDS: u32 = 12 * 60 * 60;

/// What a tenant has decided for itself; what it hasn't has its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantSettings {
    /// When a decision asks for a second factor.
    pub step_up: StepUp,
}

/// When a decision asks for a second factor: level of authentication 2, proven not too long ago.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StepUp {
    /// Whether it is asked for at all.
    pub enabled: bool,
    /// For approvals of which priorities, the most urgent first.
    pub priorities: Vec<Priority>,
    /// How long ago it may have been proven, in seconds.
    #[schema(minimum = 60, maximum = 43200)]
    pub max_age_seconds: u32,
}

impl Default for StepUp {
    fn default() -> Self {
        Self { enabled: true, priorities: vec![Priority::High], max_age_seconds: 300 }
    }
}

impl StepUp {
    /// Whether some decision that asks for a second factor now would ask for none, or for an older one, after a change to
    /// `after`.
    pub(super) fn is_weakened_by(&self, after: &Self) -> bool {
        [Priority::High, Priority::Medium, Priority::Low].into_iter().any(|priority| {
            let (now, then) = (self.max_age(priority), after.max_age(priority));
            now.is_some_and(|now| then.is_none_or(|then| then > now))
        })
    }

    /// How long ago level 2 may have been proven to decide an approval of this priority; none where it isn't asked for.
    pub fn max_age(&self, priority: Priority) -> Option<Duration> {
        let is_asked_for = self.enabled && self.priorities.contains(&priority);
        is_asked_for.then(|| Duration::from_secs(self.max_age_seconds.into()))
    }
}

/// The settings as they stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurrentSettings {
    /// The tenant.
    pub tenant_id: TenantId,
    /// How often they were changed; the entity tag.
    pub version: i64,
    /// When they were changed last; none where they never were.
    pub updated_at: Option<DateTime<Utc>>,
    /// The settings.
    #[serde(flatten)]
    pub settings: TenantSettings,
}

/// What is to change; what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeSettings {
    /// When a decision asks for a second factor.
    pub step_up: Option<ChangeStepUp>,
}

/// What is to change of it; what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeStepUp {
    /// Whether it is asked for at all.
    pub enabled: Option<bool>,
    /// For approvals of which priorities; at least one while it is asked for.
    pub priorities: Option<Vec<Priority>>,
    /// How long ago it may have been proven, in seconds.
    #[schema(minimum = 60, maximum = 43200)]
    pub max_age_seconds: Option<u32>,
}

/// What is wrong with settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsFault {
    /// Step-up is asked for, and for no priority.
    NoPriority,
    /// The age is too small or too great.
    MaxAge,
}

impl TenantSettings {
    /// The settings after a change.
    ///
    /// # Errors
    /// All that is wrong with them then.
    pub fn changed(&self, change: &ChangeSettings) -> Result<Self, Vec<SettingsFault>> {
        let mut after = self.clone();
        if let Some(change) = &change.step_up {
            let step_up = &mut after.step_up;
            step_up.enabled = change.enabled.unwrap_or(step_up.enabled);
            step_up.max_age_seconds = change.max_age_seconds.unwrap_or(step_up.max_age_seconds);
            if let Some(priorities) = &change.priorities {
                let all = [Priority::High, Priority::Medium, Priority::Low];
                step_up.priorities = all.into_iter().filter(|one| priorities.contains(one)).collect();
            }
        }
        let mut faults = Vec::new();
        if after.step_up.enabled && after.step_up.priorities.is_empty() {
            faults.push(SettingsFault::NoPriority);
        }
        if !(MIN_MAX_AGE_SECONDS..=MAX_MAX_AGE_SECONDS).contains(&after.step_up.max_age_seconds) {
            faults.push(SettingsFault::MaxAge);
        }
        if faults.is_empty() { Ok(after) } else { Err(faults) }
    }

    /// The fields in which these differ from `other`, flat, as the audit trail has them.
    pub(super) fn difference(&self, other: &Self) -> serde_json::Map<String, serde_json::Value> {
        let fields = |settings: &Self| {
            let StepUp { enabled, priorities, max_age_seconds } = &settings.step_up;
            [
                ("stepUpEnabled", serde_json::json!(enabled)),
                ("stepUpPriorities", serde_json::json!(priorities)),
                ("stepUpMaxAgeSeconds", serde_json::json!(max_age_seconds)),
            ]
        };
        let pairs = fields(self).into_iter().zip(fields(other));
        pairs.filter(|(own, other)| own != other).map(|((name, value), _)| (name.to_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(change: serde_json::Value) -> Result<StepUp, Vec<SettingsFault>> {
        let change = serde_json::from_value(change).unwrap();
        TenantSettings::default().changed(&change).map(|settings| settings.step_up)
    }

    #[test]
    fn urgent_decisions_ask_for_a_second_factor_of_five_minutes_unless_told() {
        let step_up = TenantSettings::default().step_up;
        assert_eq!(step_up.max_age(Priority::High), Some(Duration::from_mins(5)));
        assert_eq!(step_up.max_age(Priority::Medium), None);
        assert_eq!(step_up.max_age(Priority::Low), None);
        let off = change(json!({ "stepUp": { "enabled": false } })).unwrap();
        assert_eq!(off.max_age(Priority::High), None);
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        assert_eq!(change(json!({})).unwrap(), StepUp::default());
        let changed =
            change(json!({ "stepUp": { "priorities": ["low", "high", "low"], "maxAgeSeconds": 60 } }))
                .unwrap();
        assert_eq!(
            changed,
            StepUp { enabled: true, priorities: vec![Priority::High, Priority::Low], max_age_seconds: 60 }
        );
        // Switched off and on again, it is as it was.
        let off = TenantSettings { step_up: StepUp { enabled: false, ..changed.clone() } };
        let on = serde_json::from_value(json!({ "stepUp": { "enabled": true } })).unwrap();
        assert_eq!(off.changed(&on).unwrap().step_up, changed);
    }

    #[test]
    fn what_makes_no_sense_is_told_all_at_once() {
        use SettingsFault::{MaxAge, NoPriority};
        let step_up = |value| change(json!({ "stepUp": value })).unwrap_err();
        assert_eq!(step_up(json!({ "priorities": [] })), [NoPriority]);
        assert_eq!(step_up(json!({ "maxAgeSeconds": 59 })), [MaxAge]);
        assert_eq!(step_up(json!({ "priorities": [], "maxAgeSeconds": 43_201 })), [NoPriority, MaxAge]);
        assert!(change(json!({ "stepUp": { "enabled": false, "priorities": [] } })).is_ok());
    }

    #[test]
    fn what_is_stored_is_read_by_versions_that_know_more_or_less() {
        let read = |stored| serde_json::from_value::<TenantSettings>(stored).unwrap();
        assert_eq!(read(json!({})), TenantSettings::default());
        let known = read(json!({ "stepUp": { "enabled": false, "later": 1 }, "later": {} }));
        assert_eq!(known.step_up, StepUp { enabled: false, ..StepUp::default() });
    }

    #[test]
    fn only_what_changed_is_told() {
        let before = TenantSettings::default();
        let after = TenantSettings { step_up: StepUp { max_age_seconds: 600, ..StepUp::default() } };
        assert_eq!(
            serde_json::Value::Object(after.difference(&before)),
            json!({ "stepUpMaxAgeSeconds": 600 })
        );
        assert!(before.difference(&before).is_empty());
    }
}
