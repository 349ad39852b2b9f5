use super::model::{Approval, Priority};
use crate::{auth::step_up::Requirement, config::StepUpConfig};

/// What a decision on an approval asks for; nothing where it is not urgent, or where the settings ask for nothing.
pub(super) fn required_level(settings: &StepUpConfig, approval: &Approval) -> Option<Requirement> {
    let asks = approval.priority == Priority::High && !settings.level.is_empty();
    asks.then(|| Requirement { level: settings.level.clone(), max_age_seconds: settings.max_age_seconds })
}
