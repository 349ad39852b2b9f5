use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    model::{ChangeSettings, CurrentSettings, MAX_MAX_AGE_SECONDS, MIN_MAX_AGE_SECONDS, SettingsFault},
    service::{self, SettingsError},
};
use crate::{
    app::AppState,
    auth::{Caller, Role, TenantKind},
    http::{
        Problem, ProblemResult,
        etag::{IfMatch, tagged},
        extract::{ApiJson, ApiPath},
        problem::FieldError,
    },
    ids::{TenantId, UserId},
};

/// The operations on one's own account and on tenants.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(me)).routes(routes!(show_settings, update_settings))
}

/// What a refused command is over HTTP.
pub fn problem(error: SettingsError) -> Problem {
    match error {
        SettingsError::NotFound => Problem::not_found(),
        SettingsError::Forbidden => Problem::forbidden(),
        SettingsError::Stale => {
            Problem::new(StatusCode::PRECONDITION_FAILED, "stale", "They have changed since you read them")
        }
        SettingsError::StepUp(required) => required.problem(),
        SettingsError::Invalid(faults) => Problem::invalid(faults.into_iter().map(field_error).collect()),
        SettingsError::Database(error) => error.into(),
    }
}

fn field_error(fault: SettingsFault) -> FieldError {
    match fault {
        SettingsFault::NoPriority => {
            FieldError::new("/stepUp/priorities", "must name at least one, unless enabled is false")
        }
        SettingsFault::MaxAge => FieldError::new(
            "/stepUp/maxAgeSeconds",
            format!("must be from {MIN_MAX_AGE_SECONDS} to {MAX_MAX_AGE_SECONDS}"),
        ),
    }
}

/// Who calls.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Me {
    /// Keycloak's UUID of the user.
    id: UserId,
    /// The name to show.
    name: String,
    /// The tenants, the personal one first, then by name.
    tenants: Vec<MyTenant>,
}

/// A tenant of who calls.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct MyTenant {
    /// Keycloak's UUID of the group, or of the user.
    id: TenantId,
    /// `/organizations/acme-corp`
    path: String,
    /// `Acme Corp`
    name: String,
    /// What it is.
    #[serde(rename = "type")]
    kind: TenantKind,
    /// The roles in it.
    roles: Vec<Role>,
}

/// Who I am, and in which tenants with which roles.
#[utoipa::path(
    get, path = "/me", operation_id = "getMe", tag = "me", security(("bearer" = [])),
    responses((status = 200, body = Me), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn me(caller: Caller) -> Json<Me> {
    let tenants = caller
        .grants
        .iter()
        .map(|grant| MyTenant {
            id: grant.tenant.id,
            path: grant.tenant.path.clone(),
            name: grant.tenant.name.clone(),
            kind: grant.tenant.kind,
            roles: grant.roles.iter().copied().collect(),
        })
        .collect();
    Json(Me { id: caller.id, name: caller.name.clone(), tenants })
}

/// What a tenant has decided for itself.
#[utoipa::path(
    get, path = "/tenants/{id}/settings", operation_id = "getTenantSettings", tag = "tenants", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant, by UUID or path")),
    responses(
        (status = 200, body = CurrentSettings, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn show_settings(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
) -> ProblemResult<Response> {
    let tenant = caller.named_tenant(&id)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let settings = service::current_settings(&mut tx, tenant).await.map_err(problem)?;
    Ok(tagged(settings.version, settings))
}

/// Changes what is named; the rest stays.
#[utoipa::path(
    patch, path = "/tenants/{id}/settings", operation_id = "updateTenantSettings", tag = "tenants", request_body = ChangeSettings,
    security(("bearer" = [])),
    params(
        ("id" = String, Path, description = "The tenant, by UUID or path"),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; 412 where they have changed")
    ),
    responses(
        (status = 200, body = CurrentSettings, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn update_settings(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    headers: HeaderMap,
    ApiJson { value, .. }: ApiJson<ChangeSettings>,
) -> ProblemResult<Response> {
    let tenant = caller.named_tenant(&id)?;
    let if_match = IfMatch::from_headers(&headers)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let proof = caller.proof(&state.config.step_up);
    let changed = service::change_settings(&mut tx, tenant, &value, &if_match, proof).await;
    let settings = changed.map_err(problem)?;
    tx.commit().await?;
    Ok(tagged(settings.version, settings))
}
