use axum::{extract::State, http::StatusCode};
use shell_ui::{HealthFinding, HealthPart, HealthVerdict, pages::HealthPage};

use super::{PageResult, chrome::Place, page};
use crate::{
    app::AppState,
    auth::Permission,
    doctor::{self, Check, Verdict},
};

const MODULE: &str = "health";

/// How the installation is, looked at for this request.
pub(super) async fn show(State(state): State<AppState>, place: Place) -> PageResult {
    place.require(Permission::HealthRead)?;
    let report = doctor::examine(&state.config, &state.clock).await;
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, MODULE, None).await?;
    page(StatusCode::OK, &HealthPage { chrome, parts: report.checks.into_iter().map(part).collect() })
}

fn part(check: Check) -> HealthPart {
    let verdict = match check.verdict {
        Verdict::Unused => HealthVerdict::Unused,
        Verdict::Works => HealthVerdict::Works,
        Verdict::Attention => HealthVerdict::Attention,
        Verdict::Fails => HealthVerdict::Fails,
    };
    let findings = check.findings.into_iter();
    let findings = findings.map(|finding| HealthFinding { what: finding.what, mend: finding.mend }).collect();
    HealthPart { name: check.name, verdict, findings }
}
