use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use shell_ui::{Choice, FieldErrors, Ui, pages::SettingsPage};

use super::{
    PageResult,
    chrome::{FlashQuery, Place},
    form::PageForm,
    page,
};
use crate::{
    app::AppState,
    approvals::Priority,
    auth::{Permission, TenantKind, routes, session::Draft},
    http::{etag::IfMatch, extract::ApiQuery},
    tenants::{self, ChangeSettings, ChangeStepUp, CurrentSettings, SettingsError, SettingsFault, StepUp},
};

const MODULE: &str = "settings";
/// The ages that the form offers, in seconds.
const MAX_AGES: [u32; 5] = [60, 300, 900, 3_600, 28_800];

/// The tenant's settings.
pub(super) async fn show(
    State(state): State<AppState>,
    place: Place,
    ApiQuery(query): ApiQuery<FlashQuery>,
) -> PageResult {
    place.require(Permission::SettingsRead)?;
    render(&state, &place, StatusCode::OK, query.flash.as_deref(), restored(&place)).await
}

/// The form, for the time that its sender proves who they are.
fn kept(place: &Place, step_up: &StepUp) -> Draft {
    let fields = serde_json::to_string(step_up).map(|step_up| ("step_up".to_owned(), step_up));
    Draft { path: place.href(MODULE), fields: fields.into_iter().collect() }
}

/// What was kept of the form on this page.
fn restored(place: &Place) -> Option<Refused> {
    let draft = place.visitor.session.draft.as_ref().filter(|draft| draft.path == place.href(MODULE))?;
    let (_, step_up) = draft.fields.iter().find(|(name, _)| name == "step_up")?;
    Some(Refused { step_up: serde_json::from_str(step_up).ok()?, errors: FieldErrors::default() })
}

/// A form that came back, and what is wrong with it.
struct Refused {
    step_up: StepUp,
    errors: FieldErrors,
}

async fn render(
    state: &AppState,
    place: &Place,
    status: StatusCode,
    flash: Option<&str>,
    refused: Option<Refused>,
) -> PageResult {
    let ui = &state.ui;
    let mut tx = place.begin(state).await?;
    let chrome = place.chrome(state, &mut tx, MODULE, flash).await?;
    let CurrentSettings { version, settings, .. } =
        tenants::current_settings(&mut tx, place.tenant.id).await.map_err(tenants::problem)?;
    let (step_up, errors) = match refused {
        Some(refused) => (refused.step_up, refused.errors),
        None => (settings.step_up, FieldErrors::default()),
    };
    let has_members = place.tenant.kind != TenantKind::Individual && place.may(Permission::SessionRead);
    let shown = SettingsPage {
        chrome,
        sign_ins_href: has_members.then(|| place.href("sign-ins")),
        errors,
        step_up_enabled: step_up.enabled,
        step_up_high: step_up.priorities.contains(&Priority::High),
        step_up_medium: step_up.priorities.contains(&Priority::Medium),
        step_up_low: step_up.priorities.contains(&Priority::Low),
        step_up_max_age: step_up.max_age_seconds.to_string(),
        max_ages: max_ages(ui, step_up.max_age_seconds),
        version: u64::try_from(version).unwrap_or(0),
    };
    page(status, &shown)
}

/// The ages to choose from, and the one that was chosen elsewhere.
fn max_ages(ui: &Ui, chosen: u32) -> Vec<Choice> {
    let offered = MAX_AGES
        .into_iter()
        .map(|age| Choice { value: age.to_string(), label: ui.t(format!("settings-age-{age}")) });
    let other = (!MAX_AGES.contains(&chosen)).then(|| Choice {
        value: chosen.to_string(),
        label: ui.t_count("settings-age-seconds", u64::from(chosen)),
    });
    offered.chain(other).collect()
}

/// Changes the settings.
pub(super) async fn save(
    State(state): State<AppState>,
    place: Place,
    uri: Uri,
    headers: HeaderMap,
    sent: PageForm,
) -> PageResult {
    place.require(Permission::SettingsWrite)?;
    let if_match = IfMatch::OneOf(vec![sent.version()?]);
    let priorities = [("high", Priority::High), ("medium", Priority::Medium), ("low", Priority::Low)]
        .into_iter()
        .filter(|(name, _)| sent.is_checked(&format!("step_up_{name}")))
        .map(|(_, priority)| priority)
        .collect();
    let step_up = StepUp {
        enabled: sent.is_checked("step_up_enabled"),
        priorities,
        // What is no number is no age.
        max_age_seconds: sent.text("step_up_max_age").parse().unwrap_or(0),
    };
    let change = ChangeSettings {
        step_up: Some(ChangeStepUp {
            enabled: Some(step_up.enabled),
            priorities: Some(step_up.priorities.clone()),
            max_age_seconds: Some(step_up.max_age_seconds),
        }),
    };
    let mut tx = place.begin(&state).await?;
    let proof = place.visitor.proof(&state.config.step_up);
    match tenants::change_settings(&mut tx, place.tenant.id, &change, &if_match, proof).await {
        Ok(_) => {
            tx.commit().await?;
            place.forget_draft(&state).await;
            Ok(place.see_other(MODULE, "settings-saved"))
        }
        Err(SettingsError::Invalid(faults)) => {
            drop(tx);
            let refused = Refused { errors: errors(&state.ui, &faults), step_up };
            render(&state, &place, StatusCode::UNPROCESSABLE_ENTITY, None, Some(refused)).await
        }
        Err(SettingsError::StepUp(required)) => {
            drop(tx);
            let draft = kept(&place, &step_up);
            let left = routes::step_up(&state, &place.visitor, &uri, &headers, required, &draft).await;
            Ok(left.unwrap_or_else(|refusal| refusal))
        }
        Err(SettingsError::Stale) => {
            drop(tx);
            render(&state, &place, StatusCode::PRECONDITION_FAILED, Some("stale"), None).await
        }
        Err(error) => Err(tenants::problem(error)),
    }
}

fn errors(ui: &Ui, faults: &[SettingsFault]) -> FieldErrors {
    faults.iter().fold(FieldErrors::default(), |errors, fault| match fault {
        SettingsFault::NoPriority => errors.with("step_up_priorities", ui.t("error-no-priority")),
        SettingsFault::MaxAge => errors.with("step_up_max_age", ui.t("error-choice")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_that_was_chosen_elsewhere_is_offered_too() {
        let ui = Ui::new("");
        assert_eq!(max_ages(&ui, 300).len(), MAX_AGES.len());
        let offered = max_ages(&ui, 90);
        assert_eq!(offered.last().unwrap(), &Choice { value: "90".into(), label: "90 seconds".into() });
        assert!(offered.iter().all(|choice| !choice.label.starts_with("settings-")));
    }
}
