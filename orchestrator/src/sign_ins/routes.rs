use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    model::SignIn,
    service::{self, SignInError, Which},
};
use crate::{
    app::AppState,
    auth::Caller,
    http::{
        Problem, ProblemResult,
        extract::{ApiPath, ApiQuery},
        page::{Page, read_cursor, read_limit},
    },
    ids::UserId,
};

/// The operations on members' sign-ins.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(end_all)).routes(routes!(end_one))
}

/// What a refused command is over HTTP.
pub fn problem(error: SignInError) -> Problem {
    match error {
        SignInError::NotFound => Problem::not_found(),
        SignInError::Forbidden => Problem::forbidden(),
        SignInError::Database(error) => error.into(),
        SignInError::Storage(error) => error.into(),
    }
}

/// What to read.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Where the last page ended.
    cursor: Option<String>,
    /// About so many sign-ins, 1 to 100, 50 unless told: those of one member stay together.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// The sign-ins of the tenant's members, in the order of the members' ids.
#[utoipa::path(
    get, path = "/tenants/{id}/sessions", operation_id = "listTenantSessions", tag = "tenants", security(("bearer" = [])),
    params(("id" = String, Path, description = "The tenant, by UUID or path"), ListQuery),
    responses((status = 200, body = Page<SignIn>), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<String>,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> ProblemResult<Json<Page<SignIn>>> {
    let tenant = caller.named_tenant(&id)?;
    let (after, limit) = (read_cursor(query.cursor.as_deref())?.map(UserId), read_limit(query.limit)?);
    let page = service::page(&state, caller.principal(), tenant, after, limit).await;
    Ok(Json(page.map_err(problem)?))
}

/// Ends all sign-ins of a member, in all of their tenants.
#[utoipa::path(
    delete, path = "/tenants/{id}/members/{user}/sessions", operation_id = "endMemberSessions", tag = "tenants",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, description = "The tenant, by UUID or path"),
        ("user" = UserId, Path, description = "The member")
    ),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn end_all(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, user)): ApiPath<(String, UserId)>,
) -> ProblemResult<StatusCode> {
    let tenant = caller.named_tenant(&id)?;
    service::end(&state, caller.principal(), tenant, user, Which::All).await.map_err(problem)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends one sign-in of a member, in all of their tenants.
#[utoipa::path(
    delete, path = "/tenants/{id}/members/{user}/sessions/{session}", operation_id = "endMemberSession", tag = "tenants",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, description = "The tenant, by UUID or path"),
        ("user" = UserId, Path, description = "The member"),
        ("session" = String, Path, description = "The sign-in")
    ),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn end_one(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, user, session)): ApiPath<(String, UserId, String)>,
) -> ProblemResult<StatusCode> {
    let tenant = caller.named_tenant(&id)?;
    service::end(&state, caller.principal(), tenant, user, Which::One(&session)).await.map_err(problem)?;
    Ok(StatusCode::NO_CONTENT)
}
