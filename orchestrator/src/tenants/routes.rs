use axum::Json;
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::AppState,
    auth::{Caller, Role, TenantKind},
    http::Problem,
    ids::{TenantId, UserId},
};

/// The operations on one's own account.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(me))
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
