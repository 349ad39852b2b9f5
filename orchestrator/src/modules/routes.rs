use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    model::{ChangeModule, ICONS, MAX_NAME, MAX_TENANTS, Module, ModuleFault, NewModule, Opens},
    service::{self, ModuleError},
};
use crate::{
    app::AppState,
    auth::{Caller, Permission, Resource, Role, can},
    http::{
        Problem, ProblemResult,
        etag::{IfMatch, created, tagged},
        extract::{ApiJson, ApiPath, ApiQuery},
        problem::FieldError,
    },
    ids::ModuleId,
};

/// The modules' operations.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, update, delete))
}

/// What a refused command is over HTTP.
pub fn problem(error: ModuleError) -> Problem {
    match error {
        ModuleError::NotFound => Problem::not_found(),
        ModuleError::Forbidden => Problem::forbidden(),
        ModuleError::Stale => {
            Problem::new(StatusCode::PRECONDITION_FAILED, "stale", "It has changed since you read it")
        }
        ModuleError::Invalid(faults) => Problem::invalid(faults.into_iter().map(field_error).collect()),
        ModuleError::TooMany => {
            Problem::new(StatusCode::CONFLICT, "modules.too_many", "There are as many as there may be")
        }
        ModuleError::Database(error) => error.into(),
    }
}

fn field_error(fault: ModuleFault) -> FieldError {
    match fault {
        ModuleFault::Name => FieldError::new(
            "/name",
            format!("must have from 1 to {MAX_NAME} characters, and none that control"),
        ),
        ModuleFault::Icon => FieldError::new("/icon", format!("must be one of {}", ICONS.join(", "))),
        ModuleFault::Url => FieldError::new("/url", "must be an https address, or http on this machine"),
        ModuleFault::UserInfo => FieldError::new("/url", "must not carry a user or a password"),
        ModuleFault::OwnAddress => {
            FieldError::new("/url", "must not be under our own host name, to be shown inside a page")
        }
        ModuleFault::Ipv6 => {
            FieldError::new("/url", "must not be an IPv6 address, to be shown inside a page")
        }
        ModuleFault::NotGiven => FieldError::new("/tenants", "is for the suite's modules"),
        ModuleFault::Tenant(index) => {
            FieldError::new(format!("/tenants/{index}"), "must be a tenant's UUID or path")
        }
        ModuleFault::TooManyTenants => {
            FieldError::new("/tenants", format!("must have at most {MAX_TENANTS}"))
        }
    }
}

/// What a module is made of.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateModule {
    /// The tenant, by UUID or path; `/suite` for one that the suite gives to its tenants.
    tenant_id: String,
    /// What it is called.
    #[schema(min_length = 1, max_length = 60)]
    name: String,
    /// One of the shell's icons: `globe`, `book`, `folder`, `calendar`, `mail`, `chart`, `board`, `megaphone`, `team-chat`, `conversations`,
    /// `video`, `people`, `building`, `key`, `shield`.
    icon: String,
    /// Where it is: https, or http on the machine of who looks.
    #[schema(max_length = 2048)]
    url: String,
    /// Where it opens.
    opens: Opens,
    /// Who sees it: any of these roles; everybody in the tenant where there is none.
    #[serde(default)]
    #[schema(max_items = 7)]
    roles: Vec<Role>,
    /// Of one of the suite's, to whom it is given, by UUID or path; to all where there is none.
    #[serde(default)]
    #[schema(max_items = 100)]
    tenants: Vec<String>,
}

/// Adds a module to the sidebar of a tenant, or of those that the suite gives it to.
#[utoipa::path(
    post, path = "/modules", operation_id = "createModule", tag = "modules", request_body = CreateModule, security(("bearer" = [])),
    responses(
        (status = 201, body = Module, headers(("Location" = String), ("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson { value, .. }: ApiJson<CreateModule>,
) -> ProblemResult<Response> {
    let tenant = caller.named_tenant(&value.tenant_id)?;
    caller.require(can(&caller, Permission::ModuleManage, &Resource::of(tenant)))?;
    let mut tx = state.database.tenant_tx_in(caller.principal(), tenant).await?;
    let new = NewModule {
        name: value.name,
        icon: value.icon,
        url: value.url,
        opens: value.opens,
        roles: value.roles,
        tenants: value.tenants,
    };
    let module = service::create(&mut tx, &state, tenant, &new).await.map_err(problem)?;
    tx.commit().await?;
    Ok(created(&format!("/api/v1/modules/{}", module.id), module.version, module))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The tenant, by UUID or path, `/suite` for the suite; all that the caller manages where left out.
    tenant_id: Option<String>,
}

/// Modules by name; a tenant has fifty at most.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Modules {
    items: Vec<Module>,
}

/// The modules that were added, for who manages them. What somebody sees is told by the navigation.
#[utoipa::path(
    get, path = "/modules", operation_id = "listModules", tag = "modules", params(ListQuery), security(("bearer" = [])),
    responses((status = 200, body = Modules), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> ProblemResult<Json<Modules>> {
    let tenant = query.tenant_id.as_deref().map(|named| caller.named_tenant(named)).transpose()?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    Ok(Json(Modules { items: service::list(&mut tx, tenant).await.map_err(problem)? }))
}

/// One module.
#[utoipa::path(
    get, path = "/modules/{id}", operation_id = "getModule", tag = "modules", params(("id" = ModuleId, Path)), security(("bearer" = [])),
    responses(
        (status = 200, body = Module, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ModuleId>,
) -> ProblemResult<Response> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let module = service::find(&mut tx, id).await.map_err(problem)?;
    Ok(tagged(module.version, module))
}

/// Changes what is named; the rest stays.
#[utoipa::path(
    patch, path = "/modules/{id}", operation_id = "updateModule", tag = "modules", request_body = ChangeModule,
    params(
        ("id" = ModuleId, Path),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; 412 where it has changed")
    ),
    security(("bearer" = [])),
    responses(
        (status = 200, body = Module, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn update(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ModuleId>,
    headers: HeaderMap,
    ApiJson { value, .. }: ApiJson<ChangeModule>,
) -> ProblemResult<Response> {
    let if_match = IfMatch::from_headers(&headers)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let module = service::change(&mut tx, &state, id, &value, &if_match).await.map_err(problem)?;
    tx.commit().await?;
    Ok(tagged(module.version, module))
}

/// Removes a module.
#[utoipa::path(
    delete, path = "/modules/{id}", operation_id = "deleteModule", tag = "modules",
    params(
        ("id" = ModuleId, Path),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; 412 where it has changed")
    ),
    security(("bearer" = [])),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ModuleId>,
    headers: HeaderMap,
) -> ProblemResult<StatusCode> {
    let if_match = IfMatch::from_headers(&headers)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    service::remove(&mut tx, id, &if_match).await.map_err(problem)?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
