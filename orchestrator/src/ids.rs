//! Typed ids. New ones are UUIDv7 (RFC 9562), made by the injected [`connector_core::IdGenerator`]; tenants and users
//! keep the ids that Keycloak gave them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use connector_core::{IdGenerator, RandomIds, SharedIds};

macro_rules! typed_id {
    ($($(#[$attribute:meta])* $name:ident;)*) => {$(
        $(#[$attribute])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema,
        )]
        #[serde(transparent)]
        #[sqlx(transparent)]
        #[schema(value_type = Uuid)]
        pub struct $name(pub Uuid);

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    )*};
}

typed_id! {
    /// A tenant: the UUID of its Keycloak group, or of the user for the personal tenant.
    TenantId;
    /// A person or a machine: the UUID of the Keycloak user.
    UserId;
    /// An approval.
    ApprovalId;
    /// A consultation.
    ConsultationId;
    /// A conversation in our mirror.
    ConversationId;
    /// An entry of the audit trail.
    AuditId;
    /// A source of webhooks.
    SourceId;
    /// A received webhook.
    InboxEventId;
    /// A job.
    JobId;
    /// A tenant's endpoint for outgoing webhooks.
    EndpointId;
    /// A delivery to one.
    DeliveryId;
    /// A module that an administrator has added to the sidebar.
    ModuleId;
}

impl TenantId {
    /// What belongs to the suite as a whole has this for its tenant: no group of Keycloak, and nobody is a member.
    pub const SUITE: Self = Self(Uuid::nil());
}
