use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::Value;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    model::{AppendEntry, AuditEntry, AuditFilter, AuditQuery},
    store,
};
use crate::{
    app::AppState,
    auth::{Caller, Permission, Resource, can},
    db::TenantTx,
    http::{
        Problem, ProblemResult,
        extract::{ApiJson, ApiPath, ApiQuery, check_time},
        idempotency::{Claim, Idempotency},
        page::{Page, read_cursor, read_limit},
        problem::FieldError,
    },
    ids::{AuditId, TenantId},
};

const MAX_VALUES_BYTES: usize = 16 * 1024;

/// The audit trail's operations.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, append)).routes(routes!(list_resource))
}

/// The trail, newest first.
#[utoipa::path(
    get, path = "/audit", operation_id = "listAudit", tag = "audit", params(AuditQuery), security(("bearer" = [])),
    responses((status = 200, body = Page<AuditEntry>), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiQuery(query): ApiQuery<AuditQuery>,
) -> ProblemResult<Json<Page<AuditEntry>>> {
    let tenants = caller.tenants_to_read(query.tenant_id.as_deref(), Permission::AuditRead)?;
    let filter = filter(tenants, query, None)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    Ok(Json(page(&mut tx, &filter).await?))
}

fn filter(
    tenants: Vec<TenantId>,
    query: AuditQuery,
    resource: Option<(String, String)>,
) -> Result<AuditFilter, Problem> {
    let mut errors = Vec::new();
    check_time("?from", query.from, &mut errors);
    check_time("?to", query.to, &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    Ok(AuditFilter {
        tenants,
        action: query.action,
        user: query.user_id,
        resource,
        from: query.from,
        to: query.to,
        before: read_cursor(query.cursor.as_deref())?.map(AuditId),
        limit: read_limit(query.limit)?,
    })
}

/// One page of the trail, for the API and for pages.
///
/// # Errors
/// Where the database can't be asked.
pub async fn page(tx: &mut TenantTx, filter: &AuditFilter) -> Result<Page<AuditEntry>, sqlx::Error> {
    let entries = store::list(tx, filter).await?;
    Ok(Page::of(entries, filter.limit, |entry| entry.id.0))
}

/// What was done to one thing, newest first. An unknown thing has no entries.
#[utoipa::path(
    get, path = "/audit/resource/{type}/{id}", operation_id = "listResourceAudit", tag = "audit", security(("bearer" = [])),
    params(("type" = String, Path, description = "The kind of thing: `approval`"), ("id" = String, Path, description = "Its id"), AuditQuery),
    responses((status = 200, body = Page<AuditEntry>), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn list_resource(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((resource, resource_id)): ApiPath<(String, String)>,
    ApiQuery(query): ApiQuery<AuditQuery>,
) -> ProblemResult<Json<Page<AuditEntry>>> {
    let tenants = caller.tenants_to_read(query.tenant_id.as_deref(), Permission::AuditRead)?;
    if resource.contains('\0') || resource_id.contains('\0') {
        return Err(Problem::not_found());
    }
    let filter = filter(tenants, query, Some((resource, resource_id)))?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let page = page(&mut tx, &filter).await?;
    // A thing that has no entry in any tenant of the caller is unknown to it.
    let whole = filter.before.is_none()
        && filter.action.is_none()
        && filter.user.is_none()
        && filter.from.is_none()
        && filter.to.is_none();
    if page.items.is_empty() && whole {
        return Err(Problem::not_found());
    }
    Ok(Json(page))
}

/// Adds an entry from outside, marked `source: client`. For service accounts only.
#[utoipa::path(
    post, path = "/audit", operation_id = "appendAudit", tag = "audit", request_body = AppendEntry, security(("bearer" = [])),
    responses((status = 201, body = AuditEntry), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn append(
    State(state): State<AppState>,
    caller: Caller,
    idempotency: Idempotency,
    ApiJson { value, raw }: ApiJson<AppendEntry>,
) -> ProblemResult<Response> {
    let tenant = caller.named_tenant(&value.tenant_id)?;
    caller.require(can(&caller, Permission::AuditAppend, &Resource::of(tenant)))?;
    validate(&value)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    tx.enter(tenant).await?;
    let claimed = match idempotency.claim(&mut tx, &raw).await? {
        Claim::Replay(response) => return Ok(response),
        Claim::Proceed(claimed) => claimed,
    };
    let mut metadata = value.metadata.unwrap_or_default();
    metadata.insert("source".to_owned(), "client".into());
    let entry = AuditEntry {
        id: AuditId(tx.new_id()),
        action: value.action,
        resource: value.resource,
        resource_id: value.resource_id,
        user_id: Some(caller.id),
        user_name: None,
        tenant_id: tenant,
        old_values: value.old_values.map(Value::Object),
        new_values: value.new_values.map(Value::Object),
        metadata: Value::Object(metadata),
        created_at: tx.now(),
    };
    store::insert(
        &mut tx,
        entry.id,
        &entry.action,
        &entry.resource,
        &entry.resource_id,
        entry.old_values.as_ref(),
        entry.new_values.as_ref(),
        &entry.metadata,
    )
    .await?;
    let location =
        format!("/api/v1/audit/resource/{}/{}", encode(&entry.resource), encode(&entry.resource_id));
    let mut response = (StatusCode::CREATED, Json(entry)).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    let response = claimed.store(&mut tx, response).await?;
    tx.commit().await?;
    Ok(response)
}

fn encode(segment: &str) -> String {
    percent_encoding::utf8_percent_encode(segment, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn validate(entry: &AppendEntry) -> Result<(), Problem> {
    let mut errors = Vec::new();
    for (pointer, text, most) in [
        ("/action", &entry.action, 100),
        ("/resource", &entry.resource, 100),
        ("/resourceId", &entry.resource_id, 200),
    ] {
        if !(1..=most).contains(&text.chars().count()) {
            errors.push(FieldError::new(pointer, format!("must have 1 to {most} characters")));
        }
    }
    for (pointer, values) in
        [("/oldValues", &entry.old_values), ("/newValues", &entry.new_values), ("/metadata", &entry.metadata)]
    {
        let length =
            values.as_ref().and_then(|values| serde_json::to_vec(values).ok()).map_or(0, |bytes| bytes.len());
        if length > MAX_VALUES_BYTES {
            errors.push(FieldError::new(pointer, "must be at most 16 KiB"));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}
