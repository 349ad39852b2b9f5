use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::model::{
    Purpose, RequestLimit, SecretInfo, SourceFilter, SourceScheme, SourceState, WebhookSource, path,
};
use crate::{
    db::{SystemTx, TenantTx},
    ids::{SourceId, TenantId},
};

/// A source's row; `secrets` come from a table of their own.
struct Row {
    id: SourceId,
    tenant_id: TenantId,
    service: String,
    name: String,
    account: String,
    scheme: Value,
    state: String,
    limit_requests: Option<i32>,
    limit_seconds: Option<i32>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

fn unreadable(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("a source's {what} can't be read").into())
}

fn scheme(value: Value) -> Result<SourceScheme, sqlx::Error> {
    serde_json::from_value(value).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn limit(requests: Option<i32>, seconds: Option<i32>) -> Option<RequestLimit> {
    let requests = u32::try_from(requests?).ok()?;
    let seconds = u32::try_from(seconds?).ok()?;
    Some(RequestLimit { requests, seconds })
}

impl Row {
    fn into_source(self) -> Result<WebhookSource, sqlx::Error> {
        Ok(WebhookSource {
            path: path(&self.service, self.id),
            id: self.id,
            tenant_id: self.tenant_id,
            service: self.service,
            name: self.name,
            account: (!self.account.is_empty()).then_some(self.account),
            scheme: scheme(self.scheme)?,
            state: SourceState::from_name(&self.state).ok_or_else(|| unreadable("state"))?,
            limit: limit(self.limit_requests, self.limit_seconds),
            secrets: Vec::new(),
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

fn numbers(limit: Option<RequestLimit>) -> (Option<i32>, Option<i32>) {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    (limit.map(|limit| number(limit.requests)), limit.map(|limit| number(limit.seconds)))
}

fn written(scheme: &SourceScheme) -> Result<Value, sqlx::Error> {
    serde_json::to_value(scheme).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

/// Writes a new source; false where its account has one already.
pub(super) async fn insert(tx: &mut TenantTx, source: &WebhookSource) -> Result<bool, sqlx::Error> {
    let (requests, seconds) = numbers(source.limit);
    let inserted = sqlx::query!(
        "INSERT INTO webhook_sources
             (tenant_id, id, service, name, account, scheme, state, limit_requests, limit_seconds, version, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
         ON CONFLICT (tenant_id, service, account) WHERE account <> '' AND state <> 'removed' DO NOTHING",
        source.tenant_id.0,
        source.id.0,
        source.service,
        source.name,
        source.account.as_deref().unwrap_or_default(),
        written(&source.scheme)?,
        source.state.as_str(),
        requests,
        seconds,
        source.version,
        source.created_at,
    )
    .execute(tx.connection())
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// The source with this id in one of `tenants`, with its secrets.
pub(super) async fn find(
    tx: &mut TenantTx,
    tenants: &[TenantId],
    id: SourceId,
) -> Result<Option<WebhookSource>, sqlx::Error> {
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: _", tenant_id AS "tenant_id: _", service, name, account, scheme, state, limit_requests, limit_seconds,
                  version, created_at, updated_at
           FROM webhook_sources WHERE tenant_id = ANY ($1) AND id = $2 AND state <> 'removed'"#,
        &tenants,
        id.0,
    )
    .fetch_optional(tx.connection())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let mut found = [row.into_source()?];
    add_secrets(tx, &mut found).await?;
    let [source] = found;
    Ok(Some(source))
}

/// Holds a source of the transaction's tenant against other changes until the transaction ends.
pub(super) async fn lock(tx: &mut TenantTx, tenant: TenantId, id: SourceId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT version FROM webhook_sources WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
        tenant.0,
        id.0
    )
    .fetch_optional(tx.connection())
    .await?;
    Ok(())
}

/// The source of an account, if it has one.
pub(super) async fn of_account(
    tx: &mut TenantTx,
    tenant: TenantId,
    service: &str,
    account: &str,
) -> Result<Option<SourceId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT id AS "id: SourceId" FROM webhook_sources WHERE tenant_id = $1 AND service = $2 AND account = $3 AND state <> 'removed'"#,
        tenant.0,
        service,
        account,
    )
    .fetch_optional(tx.connection())
    .await
}

/// Sources, newest first: one more than the limit, so that the caller knows whether there are more.
pub(super) async fn list(
    tx: &mut TenantTx,
    filter: &SourceFilter,
) -> Result<Vec<WebhookSource>, sqlx::Error> {
    let tenants: Vec<Uuid> = filter.tenants.iter().map(|tenant| tenant.0).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: _", tenant_id AS "tenant_id: _", service, name, account, scheme, state, limit_requests, limit_seconds,
                  version, created_at, updated_at
           FROM webhook_sources
           WHERE tenant_id = ANY ($1) AND state <> 'removed'
             AND ($2::text IS NULL OR service = $2)
             AND ($3::text IS NULL OR state = $3)
             AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5))
           ORDER BY created_at DESC, id DESC LIMIT $6"#,
        &tenants,
        filter.service,
        filter.state.map(SourceState::as_str),
        filter.before.map(|before| before.time),
        filter.before.map_or(Uuid::max(), |before| before.id),
        i64::from(filter.limit) + 1,
    )
    .fetch_all(tx.connection())
    .await?;
    let mut sources = rows.into_iter().map(Row::into_source).collect::<Result<Vec<_>, _>>()?;
    add_secrets(tx, &mut sources).await?;
    Ok(sources)
}

struct SecretRow {
    source_id: SourceId,
    id: Uuid,
    purpose: String,
    created_at: DateTime<Utc>,
    valid_from: DateTime<Utc>,
    valid_until: Option<DateTime<Utc>>,
}

async fn add_secrets(tx: &mut TenantTx, sources: &mut [WebhookSource]) -> Result<(), sqlx::Error> {
    if sources.is_empty() {
        return Ok(());
    }
    let tenants: Vec<Uuid> = sources.iter().map(|source| source.tenant_id.0).collect();
    let ids: Vec<Uuid> = sources.iter().map(|source| source.id.0).collect();
    let rows = sqlx::query_as!(
        SecretRow,
        r#"SELECT source_id AS "source_id: _", id, purpose, created_at, valid_from, valid_until FROM webhook_source_secrets
           WHERE tenant_id = ANY ($1) AND source_id = ANY ($2) ORDER BY created_at DESC, id DESC"#,
        &tenants,
        &ids,
    )
    .fetch_all(tx.connection())
    .await?;
    for row in rows {
        let purpose = Purpose::from_name(&row.purpose).ok_or_else(|| unreadable("secret"))?;
        if let Some(source) = sources.iter_mut().find(|source| source.id == row.source_id) {
            source.secrets.push(SecretInfo {
                id: row.id,
                purpose,
                created_at: row.created_at,
                valid_from: row.valid_from,
                valid_until: row.valid_until,
            });
        }
    }
    Ok(())
}

/// Writes what may change of a source. Whether it was there.
pub(super) async fn update(tx: &mut TenantTx, source: &WebhookSource) -> Result<bool, sqlx::Error> {
    let (requests, seconds) = numbers(source.limit);
    let updated = sqlx::query!(
        "UPDATE webhook_sources SET name = $3, scheme = $4, state = $5, limit_requests = $6, limit_seconds = $7, version = $8, updated_at = $9
         WHERE tenant_id = $1 AND id = $2 AND state <> 'removed'",
        source.tenant_id.0,
        source.id.0,
        source.name,
        written(&source.scheme)?,
        source.state.as_str(),
        requests,
        seconds,
        source.version,
        source.updated_at,
    )
    .execute(tx.connection())
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Removes a source with its secrets; its row stays for what refers to it.
pub(super) async fn remove(tx: &mut TenantTx, tenant: TenantId, id: SourceId) -> Result<bool, sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "DELETE FROM webhook_source_secrets WHERE tenant_id = $1 AND source_id = $2",
        tenant.0,
        id.0
    )
    .execute(tx.connection())
    .await?;
    let removed = sqlx::query!(
        "UPDATE webhook_sources SET state = 'removed', version = version + 1, updated_at = $3
         WHERE tenant_id = $1 AND id = $2 AND state <> 'removed'",
        tenant.0,
        id.0,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(removed.rows_affected() == 1)
}

pub(super) async fn insert_secret(
    tx: &mut TenantTx,
    source: &WebhookSource,
    secret: &SecretInfo,
    sealed: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO webhook_source_secrets (tenant_id, source_id, id, purpose, sealed, created_at, valid_from, valid_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        source.tenant_id.0,
        source.id.0,
        secret.id,
        secret.purpose.as_str(),
        sealed,
        secret.created_at,
        secret.valid_from,
        secret.valid_until,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Lets the secrets of a purpose end at `until` where they would count for longer, and takes those away that have ended.
pub(super) async fn end_secrets(
    tx: &mut TenantTx,
    source: &WebhookSource,
    purpose: Purpose,
    until: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "UPDATE webhook_source_secrets SET valid_until = greatest($4, valid_from)
         WHERE tenant_id = $1 AND source_id = $2 AND purpose = $3 AND (valid_until IS NULL OR valid_until > $4)",
        source.tenant_id.0,
        source.id.0,
        purpose.as_str(),
        until,
    )
    .execute(tx.connection())
    .await?;
    sqlx::query!(
        "DELETE FROM webhook_source_secrets WHERE tenant_id = $1 AND source_id = $2 AND valid_until <= $3",
        source.tenant_id.0,
        source.id.0,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Takes a secret away; whether it was there.
pub(super) async fn delete_secret(
    tx: &mut TenantTx,
    source: &WebhookSource,
    secret: Uuid,
) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query!(
        "DELETE FROM webhook_source_secrets WHERE tenant_id = $1 AND source_id = $2 AND id = $3",
        source.tenant_id.0,
        source.id.0,
        secret,
    )
    .execute(tx.connection())
    .await?;
    Ok(deleted.rows_affected() == 1)
}

/// The sealed secrets of a source of the transaction's tenant.
pub(super) async fn sealed(tx: &mut TenantTx, source: &WebhookSource) -> Result<Vec<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT sealed FROM webhook_source_secrets WHERE tenant_id = $1 AND source_id = $2 AND purpose = 'signature'",
        source.tenant_id.0,
        source.id.0,
    )
    .fetch_all(tx.connection())
    .await
}

/// An active source as it is stored.
pub(super) struct Active {
    pub id: SourceId,
    pub tenant: TenantId,
    pub service: String,
    pub account: String,
    pub scheme: SourceScheme,
    pub limit: Option<RequestLimit>,
    pub secrets: Vec<SealedSecret>,
}

pub(super) struct SealedSecret {
    pub purpose: Purpose,
    pub sealed: Vec<u8>,
    pub valid_from: DateTime<Utc>,
    pub valid_until: Option<DateTime<Utc>>,
}

/// The active source with this id, whoever's it is, with the secrets that haven't ended.
pub(super) async fn find_active(
    tx: &mut SystemTx,
    id: SourceId,
    now: DateTime<Utc>,
) -> Result<Option<Active>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT tenant_id AS "tenant: TenantId", service, account, scheme, limit_requests, limit_seconds FROM webhook_sources
           WHERE id = $1 AND state = 'active'"#,
        id.0,
    )
    .fetch_optional(tx.connection())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let rows = sqlx::query!(
        "SELECT purpose, sealed, valid_from, valid_until FROM webhook_source_secrets
         WHERE tenant_id = $1 AND source_id = $2 AND (valid_until IS NULL OR valid_until > $3)",
        row.tenant.0,
        id.0,
        now,
    )
    .fetch_all(tx.connection())
    .await?;
    let mut secrets = Vec::with_capacity(rows.len());
    for secret in rows {
        secrets.push(SealedSecret {
            purpose: Purpose::from_name(&secret.purpose).ok_or_else(|| unreadable("secret"))?,
            sealed: secret.sealed,
            valid_from: secret.valid_from,
            valid_until: secret.valid_until,
        });
    }
    Ok(Some(Active {
        id,
        tenant: row.tenant,
        service: row.service,
        account: row.account,
        scheme: scheme(row.scheme)?,
        limit: limit(row.limit_requests, row.limit_seconds),
        secrets,
    }))
}

/// The only active source of a service, if there is exactly one.
pub(super) async fn only(tx: &mut SystemTx, service: &str) -> Result<Option<SourceId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"SELECT id AS "id: SourceId" FROM webhook_sources WHERE service = $1 AND state = 'active' LIMIT 2"#,
        service
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(match ids.as_slice() {
        [only] => Some(*only),
        _ => None,
    })
}

/// Whose a source is.
pub(super) async fn tenant_of(tx: &mut SystemTx, id: SourceId) -> Result<Option<TenantId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT tenant_id AS "tenant: TenantId" FROM webhook_sources WHERE id = $1 AND state <> 'removed'"#,
        id.0
    )
    .fetch_optional(tx.connection())
    .await
}

/// The tenants that have sources.
pub(super) async fn tenants(tx: &mut SystemTx) -> Result<Vec<TenantId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT tenant_id AS "tenant: TenantId" FROM webhook_sources WHERE state <> 'removed' ORDER BY 1"#
    )
    .fetch_all(tx.connection())
    .await
}

/// The tenant with this id or path; the newest, while a group is renamed and another takes its old path.
pub(super) async fn tenant_named(tx: &mut SystemTx, named: &str) -> Result<Option<TenantId>, sqlx::Error> {
    let id = named.parse::<Uuid>().ok();
    sqlx::query_scalar!(
        r#"SELECT id AS "id: TenantId" FROM tenants WHERE id = $1 OR path = $2 ORDER BY updated_at DESC LIMIT 1"#,
        id,
        named,
    )
    .fetch_optional(tx.connection())
    .await
}
