//! The audit trail: every change is recorded in its own transaction; neither login can change or remove an entry.
//! Reads make none. What the conversation mirror learns from a webhook has the stored webhook as its entry
//! (docs/adr/0003); tests/it/entries.rs says for each table where its entries come from.
//!
//! - [`record`]: what a slice calls.
//! - `routes`: reading the trail, and adding to it from outside (machines only, marked `source: client`).

mod model;
mod routes;
mod store;

pub use model::{AuditEntry, AuditFilter, AuditQuery};
pub use routes::{page, router};
pub use store::actions;

use serde_json::Value;

use crate::{db::TenantTx, ids::AuditId};

/// What is recorded of a change.
#[derive(Debug)]
pub struct Change<'a> {
    /// `approval.approved`
    pub action: &'static str,
    /// `approval`
    pub resource: &'static str,
    /// The id of what was changed.
    pub resource_id: String,
    /// What it was, as far as it changed.
    pub old_values: Option<Value>,
    /// What it is now.
    pub new_values: Option<Value>,
    /// What else an auditor wants to know.
    pub metadata: Option<&'a Value>,
}

/// Records what something was and is, where nothing else is to be said of the change.
///
/// # Errors
/// As [`record`].
pub async fn record_values(
    tx: &mut TenantTx,
    action: &'static str,
    resource: &'static str,
    resource_id: String,
    old_values: Option<Value>,
    new_values: Option<Value>,
) -> Result<(), sqlx::Error> {
    let change = Change { action, resource, resource_id, old_values, new_values, metadata: None };
    record(tx, change).await.map(drop)
}

/// Records a change in the transaction that makes it. The tenant, the actor and the time are the transaction's.
///
/// # Errors
/// Where the database says no; then the change must not be committed either.
pub async fn record(tx: &mut TenantTx, change: Change<'_>) -> Result<AuditId, sqlx::Error> {
    let empty = Value::Object(serde_json::Map::new());
    let id = AuditId(tx.new_id());
    store::insert(
        tx,
        id,
        change.action,
        change.resource,
        &change.resource_id,
        change.old_values.as_ref(),
        change.new_values.as_ref(),
        change.metadata.unwrap_or(&empty),
    )
    .await?;
    Ok(id)
}
