use chrono::TimeDelta;

use super::model::Approval;
use crate::{auth::step_up::Requirement, config::StepUpConfig, tenants::TenantSettings};

/// What a decision on an approval asks for, as its tenant has decided, where the realm has a level to ask for.
pub(super) fn required_level(
    rules: &StepUpConfig,
    settings: &TenantSettings,
    approval: &Approval,
) -> Option<Requirement> {
    let max_age = settings.step_up.max_age(approval.priority)?;
    let max_age_seconds = TimeDelta::from_std(max_age).unwrap_or_default().num_seconds();
    Some(Requirement { level: rules.level.clone(), max_age_seconds })
}
