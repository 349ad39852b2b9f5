use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::ids::UserId;

/// A sign-in of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignIn {
    /// What tells it from the member's others.
    pub id: String,
    /// Whose it is.
    pub user_id: UserId,
    /// Their name, as the tenant knows it.
    pub user_name: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it was last used.
    pub used_at: DateTime<Utc>,
}
