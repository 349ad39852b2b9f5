use super::{
    model::{ChangeSettings, CurrentSettings, SettingsFault, TenantSettings},
    store,
};
use crate::{
    audit::{self, Change},
    auth::{
        Decision, Permission, Resource, can,
        step_up::{Proof, Requirement},
    },
    db::{Actor, TenantTx},
    http::etag::IfMatch,
    ids::TenantId,
    realtime::{self, EventType},
};

/// Why settings can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A stranger's tenant.
    #[error("there is no such tenant")]
    NotFound,
    /// None of the roles allows it.
    #[error("no role allows this")]
    Forbidden,
    /// They have changed since they were read.
    #[error("they have changed meanwhile")]
    Stale,
    /// They would make no sense.
    #[error("they would make no sense")]
    Invalid(Vec<SettingsFault>),
    /// Asking less often for a second factor asks for it.
    #[error("it asks for a stronger or more recent proof of who changes them")]
    StepUp(Requirement),
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

fn require(tx: &TenantTx, permission: Permission, tenant: TenantId) -> Result<(), SettingsError> {
    let Actor::Principal(principal) = tx.actor() else { return Err(SettingsError::Forbidden) };
    match can(principal, permission, &Resource::of(tenant)) {
        Decision::Allowed => Ok(()),
        Decision::Stranger => Err(SettingsError::NotFound),
        Decision::MissingPermission
        | Decision::OwnRequest
        | Decision::NotOwnRequest
        | Decision::NotInvolved => Err(SettingsError::Forbidden),
    }
}

/// What holds in a tenant, for slices that go by it: whoever acts there, whatever they may read.
///
/// # Errors
/// Where the database can't be asked.
pub async fn settings(tx: &mut TenantTx, tenant: TenantId) -> Result<TenantSettings, sqlx::Error> {
    Ok(store::settings(tx, tenant).await?.settings)
}

/// The settings as the transaction's principal may see them.
///
/// # Errors
/// [`SettingsError`].
pub async fn current_settings(tx: &mut TenantTx, tenant: TenantId) -> Result<CurrentSettings, SettingsError> {
    require(tx, Permission::SettingsRead, tenant)?;
    Ok(store::settings(tx, tenant).await?)
}

/// Changes settings, for the transaction's principal; `proof`: how surely they are who they are. What changes nothing leaves no
/// trace. Asking less often for a second factor asks for it as the settings have it now: else whoever finds somebody's browser
/// open would first switch it off.
///
/// # Errors
/// [`SettingsError`].
pub async fn change_settings(
    tx: &mut TenantTx,
    tenant: TenantId,
    change: &ChangeSettings,
    if_match: &IfMatch,
    proof: Proof<'_>,
) -> Result<CurrentSettings, SettingsError> {
    require(tx, Permission::SettingsWrite, tenant)?;
    tx.enter(tenant).await?;
    let changed = |before: &CurrentSettings| {
        if !if_match.admits(before.version) {
            return Err(SettingsError::Stale);
        }
        let settings = before.settings.changed(change).map_err(SettingsError::Invalid)?;
        Ok((settings != before.settings).then_some(settings))
    };
    let before = store::settings(tx, tenant).await?;
    if changed(&before)?.is_none() {
        return Ok(before);
    }
    let before = store::lock_settings(tx, tenant).await?;
    let Some(settings) = changed(&before)? else { return Ok(before) };
    let now = &before.settings.step_up;
    if now.is_weakened_by(&settings.step_up) && !proof.rules.level.is_empty() {
        let required =
            Requirement { level: proof.rules.level.clone(), max_age_seconds: now.max_age_seconds.into() };
        if !required.is_met(&proof.rules.levels, proof.proven, tx.now()) {
            return Err(SettingsError::StepUp(required));
        }
    }
    let after = CurrentSettings {
        tenant_id: tenant,
        version: before.version + 1,
        updated_at: Some(tx.now()),
        settings,
    };
    store::update_settings(tx, &after).await?;
    let change = Change {
        action: "settings.updated",
        resource: "settings",
        resource_id: tenant.to_string(),
        old_values: Some(before.settings.difference(&after.settings).into()),
        new_values: Some(after.settings.difference(&before.settings).into()),
        metadata: None,
    };
    audit::record(tx, change).await?;
    realtime::append(tx, EventType::SettingsUpdated, Permission::SettingsRead, tenant.0).await?;
    Ok(after)
}
