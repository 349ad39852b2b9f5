use std::collections::HashMap;

use serde_json::{Value, json};

use super::{
    model::{Inbox, Mapped, Mapping},
    store,
};
use crate::{
    audit::{self, Change},
    auth::Permission,
    db::{Database, TenantTx},
    ids::{SourceId, TenantId},
    realtime::EventType,
    sources::{
        SourceScheme, WebhookSource,
        service::{SourceError, get, invalid, named_tenant, require, tell},
        store as sources_store,
    },
};

/// The paths of these tenants, where they are known, for who runs the suite.
///
/// # Errors
/// Where the database can't be asked.
pub async fn tenant_paths(
    database: &Database,
    tenants: &[TenantId],
) -> Result<HashMap<TenantId, String>, sqlx::Error> {
    store::paths(&mut database.system_tx().await?, tenants).await
}

async fn with_paths(database: &Database, mapped: Vec<Mapped>) -> Result<Vec<Mapping>, sqlx::Error> {
    if mapped.is_empty() {
        return Ok(Vec::new());
    }
    let tenants: Vec<TenantId> = mapped.iter().map(|one| one.tenant).collect();
    let paths = store::paths(&mut database.system_tx().await?, &tenants).await?;
    Ok(mapped.into_iter().map(|one| Mapping::new(one, paths.get(&one.tenant).cloned())).collect())
}

/// The mappings of a source, for who may see it; those of all other inboxes come first.
///
/// # Errors
/// [`SourceError`].
pub async fn mappings(
    tx: &mut TenantTx,
    database: &Database,
    source: SourceId,
) -> Result<Vec<Mapping>, SourceError> {
    let source = get(tx, source).await?;
    let mapped = store::list(tx, source.tenant_id, source.id).await?;
    Ok(with_paths(database, mapped).await?)
}

/// Whose what comes from an inbox of a suite's source is, as the database has it now.
///
/// # Errors
/// Where the database can't be asked.
pub async fn mapped(
    database: &Database,
    source: SourceId,
    inbox: Option<i64>,
) -> Result<Option<TenantId>, sqlx::Error> {
    let mapped = store::of_source(&mut database.system_tx().await?, source).await?;
    Ok(Mapped::route(&mapped, inbox).map(|found| found.tenant))
}

/// The source as the actor may map it, held until the transaction ends: a suite's of Chatwoot.
async fn load(tx: &mut TenantTx, id: SourceId) -> Result<WebhookSource, SourceError> {
    let source = get(tx, id).await?;
    require(tx, Permission::WebhookSourceManage, source.tenant_id)?;
    if source.tenant_id != TenantId::SUITE || source.scheme != SourceScheme::Chatwoot {
        return Err(invalid("/source", "must be a source of the suite's for Chatwoot"));
    }
    tx.enter(source.tenant_id).await?;
    sources_store::lock(tx, source.tenant_id, id).await?;
    Ok(source)
}

/// Tells of the change in the suite's trail, and in that of each tenant that it gives something to or takes it from.
async fn record(
    tx: &mut TenantTx,
    source: &WebhookSource,
    inbox: i64,
    old: Option<TenantId>,
    new: Option<TenantId>,
) -> Result<(), SourceError> {
    let said = |tenant: Option<TenantId>| -> Option<Value> {
        tenant.map(|tenant| json!({ "account": source.account, "inbox": inbox, "tenant": tenant }))
    };
    let change = |resource, resource_id, old_values, new_values: Option<Value>| Change {
        action: if new_values.is_some() { "webhook_source.mapped" } else { "webhook_source.unmapped" },
        resource,
        resource_id,
        old_values,
        new_values,
        metadata: None,
    };
    audit::record(tx, change("webhook_source", source.id.to_string(), said(old), said(new))).await?;
    for tenant in [old, new].into_iter().flatten() {
        tx.enter(tenant).await?;
        // Nobody there learns of the others, nor of the source, whose id stands in its URL.
        let own = |of: Option<TenantId>| said(of.filter(|of| *of == tenant));
        audit::record(tx, change("tenant", tenant.to_string(), own(old), own(new))).await?;
    }
    tx.enter(source.tenant_id).await?;
    tell(tx, EventType::SourceUpdated, source.id).await?;
    Ok(())
}

/// Says whose an inbox is: `inbox` is its number, or `others`; `tenant` a UUID or a path. What changes nothing leaves no trace.
///
/// # Errors
/// [`SourceError`].
pub async fn map(
    tx: &mut TenantTx,
    database: &Database,
    source: SourceId,
    inbox: &str,
    tenant: &str,
) -> Result<Mapping, SourceError> {
    let source = load(tx, source).await?;
    let inbox: Inbox =
        inbox.parse().map_err(|()| invalid("/inbox", "must be the number of an inbox, or `others`"))?;
    let found = named_tenant(database, tenant).await?.filter(|tenant| *tenant != TenantId::SUITE);
    let Some(tenant) = found else {
        return Err(invalid("/tenantId", "must be a tenant's UUID or path"));
    };
    let before = store::list(tx, source.tenant_id, source.id).await?;
    let known = before.into_iter().find(|one| one.inbox == inbox.stored());
    let mapped = match known {
        Some(known) if known.tenant == tenant => known,
        _ => {
            let new = Mapped { inbox: inbox.stored(), tenant, created_at: tx.now() };
            store::put(tx, source.tenant_id, source.id, new).await?;
            record(tx, &source, new.inbox, known.map(|known| known.tenant), Some(tenant)).await?;
            new
        }
    };
    let path = store::paths(&mut database.system_tx().await?, &[tenant]).await?.remove(&tenant);
    Ok(Mapping::new(mapped, path))
}

/// Takes a mapping away; what came by it stays where it is.
///
/// # Errors
/// [`SourceError`].
pub async fn unmap(tx: &mut TenantTx, source: SourceId, inbox: &str) -> Result<(), SourceError> {
    let source = load(tx, source).await?;
    let Ok(inbox) = inbox.parse::<Inbox>() else { return Err(SourceError::NotFound) };
    let before = store::list(tx, source.tenant_id, source.id).await?;
    let Some(known) = before.into_iter().find(|one| one.inbox == inbox.stored()) else {
        return Err(SourceError::NotFound);
    };
    store::delete(tx, source.tenant_id, source.id, known.inbox).await?;
    record(tx, &source, known.inbox, Some(known.tenant), None).await
}
