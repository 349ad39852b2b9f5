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

    /// What this role may do in its tenant.
    pub fn grants(self, permission: Permission) -> bool {
        permission.row().roles.contains(&self)
    }
}

/// A row of the catalogue.
struct Row {
    name: &'static str,
    /// The roles that allow it in their tenant.
    roles: &'static [Role],
    /// Whether `platform-admin` allows it for the suite as a whole.
    platform: bool,
    /// Decisions are people's; entries from outside are machines'.
    only: Option<PrincipalKind>,
}

const fn row(name: &'static str, roles: &'static [Role]) -> Row {
    Row { name, roles, platform: false, only: None }
}

impl Row {
    const fn and_platform(self) -> Self {
        Self { platform: true, ..self }
    }

    const fn people_only(self) -> Self {
        Self { only: Some(PrincipalKind::Person), ..self }
    }

    const fn machines_only(self) -> Self {
        Self { only: Some(PrincipalKind::Service), ..self }
    }
}

const EVERYBODY: &[Role] = &Role::ALL;
const READERS: &[Role] = &[Role::Viewer, Role::Agent, Role::Manager, Role::Approver, Role::Owner];
const READERS_AND_AUDITORS: &[Role] =
    &[Role::Viewer, Role::Agent, Role::Manager, Role::Approver, Role::Owner, Role::Auditor];
const WORKERS: &[Role] = &[Role::Agent, Role::Manager, Role::Approver, Role::Owner];
const HOSTS: &[Role] = &[Role::Manager, Role::Approver, Role::Owner];
const DECIDERS: &[Role] = &[Role::Approver, Role::Owner];
const DECIDERS_AND_AUDITORS: &[Role] = &[Role::Approver, Role::Owner, Role::Auditor];
const OWNERS: &[Role] = &[Role::Owner];
const NO_ROLE: &[Role] = &[];

macro_rules! catalogue {
    ($($(#[$attribute:meta])* $variant:ident = $row:expr;)*) => {
        /// Something that one may or may not do in a tenant, or for the suite as a whole. Names are stored (with events), so
        /// they stay.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Permission {
            $($(#[$attribute])* $variant,)*
        }

        impl Permission {
            /// The whole catalogue.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            const fn row(self) -> Row {
                match self {
                    $(Self::$variant => $row,)*
                }
            }
        }
    };
}

catalogue! {
    /// See the tenant in the switcher.
    TenantRead = row("tenant.read", EVERYBODY);
    /// Map the tenant to accounts, inboxes and rooms of the tools.
    TenantManage = row("tenant.manage", OWNERS);
    /// See who belongs to the tenant, with which roles.
    MemberRead = row("member.read", WORKERS);
    /// See the sessions of the tenant's members.
    SessionRead = row("session.read", OWNERS);
    /// End a member's session.
    SessionEnd = row("session.end", OWNERS);
    /// Read the tenant's settings.
    SettingsRead = row("settings.read", OWNERS);
    /// Change the tenant's settings.
    SettingsWrite = row("settings.write", OWNERS);
    /// Add, change and remove modules of the tenant's sidebar, or those that the suite gives to its tenants.
    ModuleManage = row("module.manage", OWNERS).and_platform();
    /// Read conversations.
    ConversationRead = row("conversation.read", READERS);
    /// Open a conversation in its tool, signed in there as oneself.
    ConversationOpen = row("conversation.open", WORKERS).people_only();
    /// Read approvals.
    ApprovalRead = row("approval.read", READERS_AND_AUDITORS);
    /// Request an approval, escalate a conversation.
    ApprovalRequest = row("approval.request", WORKERS);
    /// Cancel one's own pending approval.
    ApprovalCancel = row("approval.cancel", WORKERS);
    /// Decide an approval of somebody else.
    ApprovalDecide = row("approval.decide", DECIDERS).people_only();
    /// Ask back on a pending approval, and answer.
    ApprovalComment = row("approval.comment", WORKERS);
    /// Name a deputy for a time of absence.
    ApprovalDelegate = row("approval.delegate", DECIDERS).people_only();
    /// Read all consultations.
    ConsultationRead = row("consultation.read", READERS);
    /// Host a consultation.
    ConsultationHost = row("consultation.host", HOSTS).people_only();
    /// Cancel a consultation that somebody else hosts.
    ConsultationCancel = row("consultation.cancel", OWNERS);
    /// Join a consultation that one hosts or is invited to, and see it.
    ConsultationJoin = row("consultation.join", EVERYBODY).people_only();
    /// Invite somebody from outside to a consultation.
    ConsultationGuestInvite = row("consultation.guest.invite", HOSTS).people_only();
    /// Write notes of a consultation in which one takes part.
    ConsultationNotesWrite = row("consultation.notes.write", EVERYBODY).people_only();
    /// Read the audit trail.
    AuditRead = row("audit.read", DECIDERS_AND_AUDITORS).and_platform();
    /// Write an entry from outside (machines only).
    AuditAppend = row("audit.append", WORKERS).machines_only();
    /// See the sources of webhooks, their rates and failures.
    WebhookSourceRead = row("webhook.source.read", OWNERS).and_platform();
    /// Add, change and remove sources of webhooks, and rotate their secrets.
    WebhookSourceManage = row("webhook.source.manage", OWNERS).and_platform();
    /// See received webhooks, their attempts and effects.
    WebhookEventRead = row("webhook.event.read", OWNERS).and_platform();
    /// Process received webhooks again.
    WebhookEventReplay = row("webhook.event.replay", OWNERS).and_platform();
    /// Give up received webhooks, with a reason.
    WebhookEventDiscard = row("webhook.event.discard", OWNERS).and_platform();
    /// See the tenant's own endpoints for outgoing webhooks, and their deliveries.
    WebhookEndpointRead = row("webhook.endpoint.read", OWNERS);
    /// Add, change and remove those endpoints, and deliver again.
    WebhookEndpointManage = row("webhook.endpoint.manage", OWNERS);
    /// See the directory, drift, plans and their history.
    SyncRead = row("sync.read", OWNERS).and_platform();
    /// Make a plan.
    SyncPlan = row("sync.plan", OWNERS).and_platform();
    /// Apply a plan.
    SyncApply = row("sync.apply", OWNERS).and_platform();
    /// Let a plan go on that the brake holds.
    SyncApprove = row("sync.approve", OWNERS).and_platform().people_only();
    /// Repair drift, or accept it with a reason.
    SyncDriftResolve = row("sync.drift.resolve", OWNERS).and_platform();
    /// Say which of a tool's accounts is whose.
    SyncLink = row("sync.link", NO_ROLE).and_platform();
    /// See the queue's dead letters.
    JobRead = row("job.read", NO_ROLE).and_platform();
    /// Run a dead letter again.
    JobRetry = row("job.retry", NO_ROLE).and_platform();
    /// Give up a dead letter, with a reason.
    JobDiscard = row("job.discard", NO_ROLE).and_platform();
    /// See how the suite's servers are.
    HealthRead = row("health.read", NO_ROLE).and_platform();
}

impl Permission {
    /// The permission's name.
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// The permission with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|permission| permission.as_str() == name)
    }

    /// Whether `platform-admin` allows it for the suite as a whole.
    pub fn is_of_platform(self) -> bool {
        self.row().platform
    }
}

/// What is acted on.
#[derive(Debug, Clone, Copy)]
pub struct Resource<'a> {
    /// The tenant that it belongs to; none for what belongs to the suite as a whole.
    pub tenant: Option<TenantId>,
    /// Who requested it, where that matters.
    pub requested_by: Option<UserId>,
    /// Who takes part in it, where that matters.
    pub involved: &'a [UserId],
}

impl Resource<'_> {
    /// Something of a tenant, or of the suite, of which nothing else matters.
    pub fn of(tenant: TenantId) -> Self {
        Self { tenant: (tenant != TenantId::SUITE).then_some(tenant), requested_by: None, involved: &[] }
    }

    /// What belongs to the suite as a whole.
    pub fn suite() -> Self {
        Self { tenant: None, requested_by: None, involved: &[] }
    }
}

/// The answer to [`can`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allowed,
    /// It isn't in the tenant at all: for it, nothing of the tenant exists.
    Stranger,
    /// It is in the tenant, and none of its roles allows this; or it doesn't run the suite.
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

/// May `actor` do this to that? Pure: it reads only what it is given. Who runs the suite is a stranger in its tenants like
/// anybody else.
pub fn can(actor: &Principal, permission: Permission, resource: &Resource<'_>) -> Decision {
    let row = permission.row();
    let is_granted = match resource.tenant {
        Some(tenant) => {
            let Some(grant) = actor.grant(tenant) else { return Decision::Stranger };
            row.roles.iter().any(|role| grant.roles.contains(role))
        }
        None => actor.platform_admin && row.platform,
    };
    if !is_granted || row.only.is_some_and(|kind| kind != actor.kind) {
        return Decision::MissingPermission;
    }
    match permission {
        Permission::ApprovalDecide if resource.requested_by == Some(actor.id) => Decision::OwnRequest,
        Permission::ApprovalCancel
            if resource.requested_by.is_some_and(|requester| requester != actor.id) =>
        {
            Decision::NotOwnRequest
        }
        Permission::ConsultationJoin | Permission::ConsultationNotesWrite
            if !resource.involved.contains(&actor.id) =>
        {
            Decision::NotInvolved
        }
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

    /// The table of the design, a row for each permission: who is granted it, m(ember) v(iewer) a(gent) M(anager) A(pprover)
    /// o(wner) u(auditor) in a tenant and P(latform) for the suite, and whether it is for p(eople), s(ervices) or both.
    const TABLE: [(Permission, &str, &str); 41] = [
        (Permission::TenantRead, "mvaMAou", "ps"),
        (Permission::TenantManage, "o", "ps"),
        (Permission::MemberRead, "aMAo", "ps"),
        (Permission::SessionRead, "o", "ps"),
        (Permission::SessionEnd, "o", "ps"),
        (Permission::SettingsRead, "o", "ps"),
        (Permission::SettingsWrite, "o", "ps"),
        (Permission::ModuleManage, "oP", "ps"),
        (Permission::ConversationRead, "vaMAo", "ps"),
        (Permission::ConversationOpen, "aMAo", "p"),
        (Permission::ApprovalRead, "vaMAou", "ps"),
        (Permission::ApprovalRequest, "aMAo", "ps"),
        (Permission::ApprovalCancel, "aMAo", "ps"),
        (Permission::ApprovalDecide, "Ao", "p"),
        (Permission::ApprovalComment, "aMAo", "ps"),
        (Permission::ApprovalDelegate, "Ao", "p"),
        (Permission::ConsultationRead, "vaMAo", "ps"),
        (Permission::ConsultationHost, "MAo", "p"),
        (Permission::ConsultationCancel, "o", "ps"),
        (Permission::ConsultationJoin, "mvaMAou", "p"),
        (Permission::ConsultationGuestInvite, "MAo", "p"),
        (Permission::ConsultationNotesWrite, "mvaMAou", "p"),
        (Permission::AuditRead, "AouP", "ps"),
        (Permission::AuditAppend, "aMAo", "s"),
        (Permission::WebhookSourceRead, "oP", "ps"),
        (Permission::WebhookSourceManage, "oP", "ps"),
        (Permission::WebhookEventRead, "oP", "ps"),
        (Permission::WebhookEventReplay, "oP", "ps"),
        (Permission::WebhookEventDiscard, "oP", "ps"),
        (Permission::WebhookEndpointRead, "o", "ps"),
        (Permission::WebhookEndpointManage, "o", "ps"),
        (Permission::SyncRead, "oP", "ps"),
        (Permission::SyncPlan, "oP", "ps"),
        (Permission::SyncApply, "oP", "ps"),
        (Permission::SyncApprove, "oP", "p"),
        (Permission::SyncDriftResolve, "oP", "ps"),
        (Permission::SyncLink, "P", "ps"),
        (Permission::JobRead, "P", "ps"),
        (Permission::JobRetry, "P", "ps"),
        (Permission::JobDiscard, "P", "ps"),
        (Permission::HealthRead, "P", "ps"),
    ];
    const KINDS: [(PrincipalKind, char); 2] = [(PrincipalKind::Person, 'p'), (PrincipalKind::Service, 's')];

    #[test]
    fn each_role_may_do_what_the_table_says_and_nothing_else() {
        let permissions: Vec<_> = TABLE.iter().map(|(permission, ..)| *permission).collect();
        assert_eq!(permissions, Permission::ALL);
        // Nobody's request, and everybody takes part: what is left is the role and the kind.
        let resource = Resource { involved: &[ME], ..Resource::of(TENANT) };
        for (permission, allowed, kinds) in TABLE {
            for (role, letter) in Role::ALL.into_iter().zip("mvaMAou".chars()) {
                assert_eq!(role.grants(permission), allowed.contains(letter), "{role:?} {permission:?}");
                for (kind, kind_letter) in KINDS {
                    let decision = can(&actor(kind, &[role]), permission, &resource);
                    let expected = allowed.contains(letter) && kinds.contains(kind_letter);
                    assert_eq!(decision.is_allowed(), expected, "{kind:?} {role:?} {permission:?}");
                    assert!(expected || decision == Decision::MissingPermission, "{decision:?}");
                }
            }
        }
    }

    #[test]
    fn who_runs_the_suite_may_what_the_table_says_for_the_suite_and_nothing_in_a_tenant() {
        let suite = Resource { involved: &[ME], ..Resource::suite() };
        let tenant = Resource { involved: &[ME], ..Resource::of(TENANT) };
        for (permission, allowed, kinds) in TABLE {
            assert_eq!(permission.is_of_platform(), allowed.contains('P'), "{permission:?}");
            for (kind, letter) in KINDS {
                let admin = Principal { platform_admin: true, grants: Vec::new(), ..actor(kind, &[]) };
                let expected = allowed.contains('P') && kinds.contains(letter);
                assert_eq!(can(&admin, permission, &suite).is_allowed(), expected, "{kind:?} {permission:?}");
                let by_tenant = Resource { involved: &[ME], ..Resource::of(TenantId::SUITE) };
                assert_eq!(
                    can(&admin, permission, &by_tenant).is_allowed(),
                    expected,
                    "{kind:?} {permission:?}"
                );
                assert_eq!(admin.tenants_with(permission).contains(&TenantId::SUITE), allowed.contains('P'));
                assert_eq!(can(&admin, permission, &tenant), Decision::Stranger, "{permission:?}");
                // No role in a tenant reaches the suite.
                let owner = actor(kind, &Role::ALL);
                assert_eq!(can(&owner, permission, &suite), Decision::MissingPermission, "{permission:?}");
                assert!(!owner.tenants_with(permission).contains(&TenantId::SUITE), "{permission:?}");
            }
        }
    }

    #[test]
    fn roles_add_up() {
        let me = actor(PrincipalKind::Person, &[Role::Auditor, Role::Agent]);
        for permission in [Permission::AuditRead, Permission::ApprovalRequest] {
            assert_eq!(can(&me, permission, &Resource::of(TENANT)), Decision::Allowed);
        }
        assert_eq!(can(&me, Permission::ApprovalDecide, &Resource::of(TENANT)), Decision::MissingPermission);
    }

    #[test]
    fn a_stranger_may_nothing() {
        let me = actor(PrincipalKind::Person, &Role::ALL);
        for permission in Permission::ALL.iter().copied() {
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
    fn only_who_takes_part_joins_and_writes_notes() {
        let me = actor(PrincipalKind::Person, &[Role::Member]);
        let invited = Resource { involved: &[OTHER, ME], ..Resource::of(TENANT) };
        for permission in [Permission::ConsultationJoin, Permission::ConsultationNotesWrite] {
            assert_eq!(can(&me, permission, &Resource::of(TENANT)), Decision::NotInvolved);
            assert_eq!(can(&me, permission, &invited), Decision::Allowed);
        }
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
                .iter()
                .all(|permission| Permission::from_name(permission.as_str()) == Some(*permission))
        );
        assert_eq!(Permission::from_name("approval.decided"), None);
    }
}
