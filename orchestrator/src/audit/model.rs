use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::{AuditId, TenantId, UserId};

/// An entry of the audit trail.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// The entry's id; later entries have larger ones.
    pub id: AuditId,
    /// What was done: `approval.approved`.
    pub action: String,
    /// What kind of thing it was done to: `approval`.
    pub resource: String,
    /// Which one.
    pub resource_id: String,
    /// Who did it; none for what happened by itself.
    pub user_id: Option<UserId>,
    /// Their name, as last known.
    #[serde(skip)]
    pub user_name: Option<String>,
    /// The tenant.
    pub tenant_id: TenantId,
    /// What it was.
    #[schema(value_type = Option<Object>)]
    pub old_values: Option<serde_json::Value>,
    /// What it became.
    #[schema(value_type = Option<Object>)]
    pub new_values: Option<serde_json::Value>,
    /// What else is known.
    #[schema(value_type = Object)]
    pub metadata: serde_json::Value,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// What to read of the trail.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// The tenant, by UUID or path, `/suite` for the suite; all of one's own where left out.
    pub tenant_id: Option<String>,
    /// Only this action.
    #[param(max_length = 100)]
    pub action: Option<String>,
    /// Only what this user did.
    pub user_id: Option<UserId>,
    /// From this time on.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub to: Option<DateTime<Utc>>,
    /// Where the last page ended.
    pub cursor: Option<String>,
    /// At most so many entries, 1 to 100, 50 unless told.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u32>,
}

/// The same after it was checked.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// The tenants to read.
    pub tenants: Vec<TenantId>,
    /// Only this action.
    pub action: Option<String>,
    /// Only what this user did.
    pub user: Option<UserId>,
    /// Only this resource.
    pub resource: Option<(String, String)>,
    /// From this time on.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub to: Option<DateTime<Utc>>,
    /// Only entries before this one.
    pub before: Option<AuditId>,
    /// At most so many entries.
    pub limit: u32,
}

/// An entry from outside.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppendEntry {
    /// The tenant, by UUID or path.
    pub tenant_id: String,
    /// What was done: `export.finished`.
    #[schema(min_length = 1, max_length = 100)]
    pub action: String,
    /// What kind of thing it was done to.
    #[schema(min_length = 1, max_length = 100)]
    pub resource: String,
    /// Which one.
    #[schema(min_length = 1, max_length = 200)]
    pub resource_id: String,
    /// What it was.
    #[schema(value_type = Option<Object>)]
    pub old_values: Option<serde_json::Map<String, serde_json::Value>>,
    /// What it became.
    #[schema(value_type = Option<Object>)]
    pub new_values: Option<serde_json::Map<String, serde_json::Value>>,
    /// What else is known; at most 16 KiB.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}
