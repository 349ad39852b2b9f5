use axum::{extract::State, http::StatusCode};
use shell_ui::{HealthFinding, HealthPart, HealthVerdict, pages::HealthPage};

use super::{PageResult, chrome::Place, page};
use crate::{
    app::AppState,
    auth::Permission,
    doctor::{Check, Verdict},
};

const MODULE: &str = "health";

/// How the installation is, as it was seen a moment ago.
pub(super) async fn show(State(state): State<AppState>, place: Place) -> PageResult {
    place.require(Permission::HealthRead)?;
    let report = state.doctor.report(&state.config, &state.clock).await;
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, MODULE, None).await?;
    let checked = state.ui.time(report.checked_at, tx.now());
    let parts = report.checks.iter().map(part).collect();
    page(StatusCode::OK, &HealthPage { chrome, checked, parts })
}

pub(super) fn verdict(verdict: Verdict) -> HealthVerdict {
    match verdict {
        Verdict::Unused => HealthVerdict::Unused,
        Verdict::Works => HealthVerdict::Works,
        Verdict::Attention => HealthVerdict::Attention,
        Verdict::Fails => HealthVerdict::Fails,
    }
}

pub(super) fn part(check: &Check) -> HealthPart {
    let findings = check.findings.iter();
    let findings =
        findings.map(|finding| HealthFinding { what: finding.what.clone(), mend: finding.mend.clone() });
    HealthPart { name: check.name, verdict: verdict(check.verdict), findings: findings.collect() }
}
