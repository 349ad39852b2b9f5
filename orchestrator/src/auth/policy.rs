//! Who may do what: the fixed catalogue of permissions, the roles as named sets of them, and [`can`], the one question.
//! docs/SECURITY.md shows the same table.

use serde::{Deserialize, Serialize};

use super::principal::{Principal, PrincipalKind};
use crate::ids::{TenantId, UserId};

/// A role in a tenant. Keycloak's sub-groups give them: `owners` gives `owner`, and so on; belonging to the group at all
/// gives `member`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Belongs to the tenant.
    Member,
    /// Reads.
    Viewer,
    /// Works on conversations and escalates them.
    Agent,
    /// Hosts consultations besides.
    Manager,
    /// Decides approvals: the CEO.
    Approver,
    /// Decides, and manages the tenant.
    Owner,
    /// Reads approvals and the audit trail.
    Auditor,
}

impl Role {
    /// All roles, from the least to the most, the auditor last.
    pub const ALL: [Self; 7] =
        [Self::Member, Self::Viewer, Self::Agent, Self::Manager, Self::Approver, Self::Owner, Self::Auditor];

    /// The role's name as stored and shown to machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Viewer => "viewer",
            Self::Agent => "agent",
            Self::Manager => "manager",
            Self::Approver => "approver",
            Self::Owner => "owner",
            Self::Auditor => "auditor",
        }
    }

    /// The role with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// The role that a Keycloak sub-group of this name gives.
    pub fn from_group_name(name: &str) -> Option<Self> {
        match name {
            "owners" => Some(Self::Owner),
            "approvers" => Some(Self::Approver),
            "managers" => Some(Self::Manager),
            "agents" => Some(Self::Agent),
            "auditors" => Some(Self::Auditor),
            "viewers" => Some(Self::Viewer),
            _ => None,
        }
    }

    /// What this role may do.
    pub fn grants(self, permission: Permission) -> bool {
        use Permission as P;
        use Role as R;
        match permission {
            P::TenantRead | P::ConsultationJoin => true,
            P::ConversationRead | P::ConsultationRead => {
                matches!(self, R::Viewer | R::Agent | R::Manager | R::Approver | R::Owner)
            }
            P::ApprovalRead => {
                matches!(self, R::Viewer | R::Agent | R::Manager | R::Approver | R::Owner | R::Auditor)
            }
            P::ApprovalRequest | P::ApprovalCancel | P::AuditAppend => {
                matches!(self, R::Agent | R::Manager | R::Approver | R::Owner)
            }
            P::ApprovalDecide => matches!(self, R::Approver | R::Owner),
            P::ConsultationHost => matches!(self, R::Manager | R::Approver | R::Owner),
            P::AuditRead => matches!(self, R::Approver | R::Owner | R::Auditor),
            P::TenantManage => matches!(self, R::Owner),
        }
    }
}

/// Something that one may or may not do in a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    /// See the tenant in the switcher.
    TenantRead,
    /// Change the tenant's settings, sources and modules.
    TenantManage,
    /// Read conversations.
    ConversationRead,
    /// Read approvals.
    ApprovalRead,
    /// Request an approval, escalate a conversation.
    ApprovalRequest,
    /// Cancel one's own pending approval.
    ApprovalCancel,
    /// Decide an approval of somebody else.
    ApprovalDecide,
    /// Read all consultations.
    ConsultationRead,
    /// Host a consultation.
    ConsultationHost,
    /// Join a consultation that one hosts or is invited to, and see it.
    ConsultationJoin,
    /// Read the audit trail.
    AuditRead,
    /// Write an entry from outside (machines only).
    AuditAppend,
}

impl Permission {
    /// The whole catalogue.
    pub const ALL: [Self; 12] = [
        Self::TenantRead,
        Self::TenantManage,
        Self::ConversationRead,
        Self::ApprovalRead,
        Self::ApprovalRequest,
        Self::ApprovalCancel,
        Self::ApprovalDecide,
        Self::ConsultationRead,
        Self::ConsultationHost,
        Self::ConsultationJoin,
        Self::AuditRead,
        Self::AuditAppend,
    ];

    /// The permission's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantRead => "tenant.read",
            Self::TenantManage => "tenant.manage",
            Self::ConversationRead => "conversation.read",
            Self::ApprovalRead => "approval.read",
            Self::ApprovalRequest => "approval.request",
            Self::ApprovalCancel => "approval.cancel",
            Self::ApprovalDecide => "approval.decide",
            Self::ConsultationRead => "consultation.read",
            Self::ConsultationHost => "consultation.host",
            Self::ConsultationJoin => "consultation.join",
            Self::AuditRead => "audit.read",
            Self::AuditAppend => "audit.append",
        }
    }

    /// The permission with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == name)
    }

    /// Decisions are people's; entries from outside are machines'.
    fn is_for(self, kind: PrincipalKind) -> bool {
        match self {
            Self::ApprovalDecide | Self::ConsultationHost | Self::ConsultationJoin => {
                kind == PrincipalKind::Person
            }
            Self::AuditAppend => kind == PrincipalKind::Service,
            _ => true,
        }
    }
}

/// What is acted on.
#[derive(Debug, Clone, Copy)]
pub struct Resource<'a> {
    /// The tenant that it belongs to.
    pub tenant: TenantId,
    /// Who requested it, where that matters.
    pub requested_by: Option<UserId>,
    /// Who takes part in it, where that matters.
    pub involved: &'a [UserId],
}

impl Resource<'_> {
    /// Something of a tenant of which nothing else matters.
    pub fn of(tenant: TenantId) -> Self {
        Self { tenant, requested_by: None, involved: &[] }
    }
}

/// The answer to [`can`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allowed,
    /// It isn't in the tenant at all: for it, nothing of the tenant exists.
    Stranger,
    /// It is in the tenant, and none of its roles allows this.
    MissingPermission,
    /// It requested this itself, so that somebody else has to decide.
    OwnRequest,
    /// Only who requested this may do it.
    NotOwnRequest,
    /// Only those who take part may do it.
    NotInvolved,
}

impl Decision {
    /// Whether it may.
    pub fn is_allowed(self) -> bool {
        self == Self::Allowed
    }
}

/// May `actor` do this to that? Pure: it reads only what it is given.
pub fn can(actor: &Principal, permission: Permission, resource: &Resource<'_>) -> Decision {
    let Some(grant) = actor.grant(resource.tenant) else { return Decision::Stranger };
    if !permission.is_for(actor.kind) || !grant.roles.iter().any(|role| role.grants(permission)) {
        return Decision::MissingPermission;
    }
    match permission {
        Permission::ApprovalDecide if resource.requested_by == Some(actor.id) => Decision::OwnRequest,
        Permission::ApprovalCancel
            if resource.requested_by.is_some_and(|requester| requester != actor.id) =>
        {
            Decision::NotOwnRequest
        }
        Permission::ConsultationJoin if !resource.involved.contains(&actor.id) => Decision::NotInvolved,
        _ => Decision::Allowed,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use uuid::Uuid;

    use super::*;
    use crate::auth::principal::{Grant, TenantKind, TenantRef};

    const TENANT: TenantId = TenantId(Uuid::from_u128(1));
    const ME: UserId = UserId(Uuid::from_u128(2));
    const OTHER: UserId = UserId(Uuid::from_u128(3));

    fn actor(kind: PrincipalKind, roles: &[Role]) -> Principal {
        let tenant = TenantRef {
            id: TENANT,
            kind: TenantKind::Organization,
            path: "/organizations/acme".into(),
            name: "Acme".into(),
        };
        Principal {
            id: ME,
            username: "me".into(),
            name: "Me".into(),
            kind,
            platform_admin: false,
            grants: vec![Grant { tenant, roles: roles.iter().copied().collect::<BTreeSet<_>>() }],
        }
    }

    /// The table of the design, a row for each permission: m(ember) v(iewer) a(gent) M(anager) A(pprover) o(wner) u(auditor).
    #[test]
    fn each_role_may_do_what_the_table_says() {
        let table = [
            (Permission::TenantRead, "mvaMAou"),
            (Permission::TenantManage, "o"),
            (Permission::ConversationRead, "vaMAo"),
            (Permission::ApprovalRead, "vaMAou"),
            (Permission::ApprovalRequest, "aMAo"),
            (Permission::ApprovalCancel, "aMAo"),
            (Permission::ApprovalDecide, "Ao"),
            (Permission::ConsultationRead, "vaMAo"),
            (Permission::ConsultationHost, "MAo"),
            (Permission::ConsultationJoin, "mvaMAou"),
            (Permission::AuditRead, "Aou"),
            (Permission::AuditAppend, "aMAo"),
        ];
        assert_eq!(table.len(), Permission::ALL.len());
        for (permission, allowed) in table {
            for (role, letter) in Role::ALL.into_iter().zip("mvaMAou".chars()) {
                assert_eq!(role.grants(permission), allowed.contains(letter), "{role:?} {permission:?}");
            }
        }
    }

    #[test]
    fn a_stranger_may_nothing() {
        let me = actor(PrincipalKind::Person, &Role::ALL);
        for permission in Permission::ALL {
            assert_eq!(can(&me, permission, &Resource::of(TenantId(Uuid::from_u128(9)))), Decision::Stranger);
        }
    }

    #[test]
    fn nobody_decides_an_own_request_and_everybody_else_may_cancel_nothing() {
        let me = actor(PrincipalKind::Person, &[Role::Owner]);
        let own = Resource { requested_by: Some(ME), ..Resource::of(TENANT) };
        let others = Resource { requested_by: Some(OTHER), ..Resource::of(TENANT) };
        assert_eq!(can(&me, Permission::ApprovalDecide, &own), Decision::OwnRequest);
        assert_eq!(can(&me, Permission::ApprovalDecide, &others), Decision::Allowed);
        assert_eq!(can(&me, Permission::ApprovalCancel, &own), Decision::Allowed);
        assert_eq!(can(&me, Permission::ApprovalCancel, &others), Decision::NotOwnRequest);
    }

    #[test]
    fn only_who_takes_part_joins() {
        let me = actor(PrincipalKind::Person, &[Role::Member]);
        assert_eq!(can(&me, Permission::ConsultationJoin, &Resource::of(TENANT)), Decision::NotInvolved);
        let invited = Resource { involved: &[OTHER, ME], ..Resource::of(TENANT) };
        assert_eq!(can(&me, Permission::ConsultationJoin, &invited), Decision::Allowed);
    }

    #[test]
    fn machines_do_not_decide_and_people_do_not_write_the_trail_from_outside() {
        let machine = actor(PrincipalKind::Service, &[Role::Owner]);
        let person = actor(PrincipalKind::Person, &[Role::Owner]);
        assert_eq!(
            can(&machine, Permission::ApprovalDecide, &Resource::of(TENANT)),
            Decision::MissingPermission
        );
        assert_eq!(can(&machine, Permission::AuditAppend, &Resource::of(TENANT)), Decision::Allowed);
        assert_eq!(can(&person, Permission::AuditAppend, &Resource::of(TENANT)), Decision::MissingPermission);
    }

    #[test]
    fn names_lead_back_to_what_they_name() {
        assert!(Role::ALL.into_iter().all(|role| Role::from_name(role.as_str()) == Some(role)));
        assert!(
            Permission::ALL
                .into_iter()
                .all(|permission| Permission::from_name(permission.as_str()) == Some(permission))
        );
    }
}
