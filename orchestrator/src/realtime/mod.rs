//! The tenant's event log, and streaming it: server-sent events (WHATWG HTML, section 9.2) that can be resumed.
//!
//! [`append`] writes an event in the transaction of what it tells; its number follows commit order, because it is taken
//! under the lock of the tenant's row, as the last thing before the commit. [`Hub`] reads the log once for all streams
//! of a tenant in this process; [`stream`] sends to one client what it may see; [`OpenStreams`] says whether one more may
//! be opened.

mod hub;
mod model;
mod open_streams;
mod store;
mod stream;

pub use hub::Hub;
pub use model::{Appended, Event, EventType, LoggedEvent};
pub use open_streams::{OpenStreams, StreamPermit};
pub use stream::{Access, Nudges, Recheck, StreamRequest, last_event_id, stream};

use uuid::Uuid;

use crate::{auth::Permission, db::TenantTx, ids::TenantId};

/// What is told of an event, for a statement that appends it with all else that it does.
pub fn told(event: EventType, resource: Uuid, tenant: Option<TenantId>) -> serde_json::Value {
    serde_json::json!({ "type": event.as_str(), "id": resource, "tenantId": tenant })
}

/// Appends an event. Call it last in a transaction: from here to the commit, the tenant's other appends wait.
///
/// # Errors
/// Where the database says no.
pub async fn append(
    tx: &mut TenantTx,
    event: EventType,
    permission: Permission,
    resource: Uuid,
) -> Result<(), sqlx::Error> {
    store::append(tx, event, permission, resource).await?;
    tx.appended();
    Ok(())
}

/// Appends several events at once, in this order. As with [`append`], it comes last in a transaction.
///
/// # Errors
/// Where the database says no.
pub async fn append_all(tx: &mut TenantTx, appended: Vec<Appended>) -> Result<(), sqlx::Error> {
    if !appended.is_empty() {
        store::append_all(tx, appended).await?;
        tx.appended();
    }
    Ok(())
}

/// The tenant's events after `after` as the log has them, oldest first, at most `limit`.
///
/// # Errors
/// Where the database can't be asked.
pub async fn log(
    tx: &mut TenantTx,
    tenant: TenantId,
    after: i64,
    limit: i64,
) -> Result<Vec<LoggedEvent>, sqlx::Error> {
    store::log(tx, tenant, after, limit).await
}

/// The number of the tenant's newest event: a page that is read after it shows at least that much.
///
/// # Errors
/// Where the database can't be asked.
pub async fn position(tx: &mut TenantTx, tenant: TenantId) -> Result<i64, sqlx::Error> {
    store::last_sequence(tx, tenant).await
}
