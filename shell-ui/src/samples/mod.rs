//! Every page with sample data: full, empty, with errors, with long names, with other scripts and with markup in what
//! people wrote. The gallery shows them and the tests render them.

mod approvals;
mod around;
mod audit;
mod consultations;
mod conversations;
mod endpoints;
mod inbox;
mod modules;

use askama::Template;
use chrono::{DateTime, TimeDelta, Utc};

use crate::pages::{
    ApprovalPage, ApprovalsPage, AuditPage, ConsultationPage, ConsultationsPage, ConversationPage,
    ConversationsPage, CookieBlockedPage, Decision, DecisionForm, DeliveryPage, DemoPage, DemoPerson,
    EmbedPage, EmbedPanel, EmbedShown, EndpointFormPage, EndpointPage, EndpointsPage, EscalateForm,
    HealthPage, Membership, NavigationPage, NewApprovalPage, OverviewPage, Problem, ProblemInShell,
    ProblemPage, ProfilePage, SessionsPage, SettingsPage, SetupPage, SignInPage, SignInsPage, SignedOutPage,
    TenantsPage, ToolPage,
};
use crate::{
    ApprovalFilter, ApprovalRow, ApprovalStatus, AttemptRow, AuditChange, AuditEntry, AuditFilter, Choice,
    Chrome, ConsultationRow, ConsultationStatus, ConversationContext, ConversationRow, ConversationStatus,
    DeliveryRow, DeliveryState, EndpointRow, EndpointState, EventChoice, EventGroup, Fact, FieldErrors,
    Flash, HealthFinding, HealthPart, HealthVerdict, HistoryEntry, HistoryKind, InboxFilter, LinkTo, Live,
    MemberSignIn, ModuleKind, ModuleLink, Priority, RenderError, SessionRow, TenantKind, TenantLink, Time,
    Ui,
};

/// Markup that somebody wrote where text was asked for: it must come out as text.
pub const MARKUP: &str = "<script>alert(\"no\")</script> & <b>bold</b> 'quotes'";

const ACME: &str = "0b8f7c1e-6d2a-4a57-9c3e-5f1d2b7a9e10";
const ENGINEERING: &str = "6f0c2d94-3b1e-4d57-8a6f-91c2e7b40d33";
const OWN: &str = "d2b1a7f0-58c4-4e19-b3a6-7c90e1f2d845";
const APPROVAL: &str = "01981f3a-7c1d-7a52-9d3e-4b6f8a2c1e90";
const CONVERSATION: &str = "01981f38-12ab-7e01-8c44-2f7d9b5a6e31";
const CONSULTATION: &str = "01981f3b-9e02-7d6c-b1f8-63a5c0d47e22";

/// Every page by name, rendered.
pub fn all(ui: &Ui) -> Result<Vec<(&'static str, String)>, RenderError> {
    let sample =
        Samples { ui: ui.clone(), now: DateTime::from_timestamp(1_792_000_000, 0).unwrap_or_default() };
    sample.pages()
}

struct Samples {
    ui: Ui,
    now: DateTime<Utc>,
}

impl Samples {
    fn pages(&self) -> Result<Vec<(&'static str, String)>, RenderError> {
        Ok(vec![
            ("overview", self.overview().render()?),
            ("overview-empty", self.overview_empty().render()?),
            ("conversations", self.conversations().render()?),
            ("conversations-empty", self.conversations_empty(None).render()?),
            (
                "conversations-filtered-empty",
                self.conversations_empty(Some(ConversationStatus::Snoozed)).render()?,
            ),
            ("conversation", self.conversation(Some(EscalateForm::default())).render()?),
            ("conversation-errors", self.conversation(Some(self.escalate_errors())).render()?),
            ("conversation-blocked", self.conversation_blocked().render()?),
            ("conversation-markup", self.conversation_markup().render()?),
            ("approvals", self.approvals().render()?),
            ("approvals-empty", self.approvals_empty(ApprovalFilter::default(), true).render()?),
            ("approvals-empty-viewer", self.approvals_empty(ApprovalFilter::default(), false).render()?),
            (
                "approvals-filtered-empty",
                self.approvals_empty(
                    ApprovalFilter { status: Some(ApprovalStatus::Expired), priority: Some(Priority::High) },
                    true,
                )
                .render()?,
            ),
            ("approval-new", self.approval_new(FieldErrors::default(), None).render()?),
            ("approval-new-errors", self.approval_new_errors().render()?),
            (
                "approval-new-blocked",
                self.approval_new(FieldErrors::default(), Some(self.ui.t("blocked-no-approver"))).render()?,
            ),
            ("approval", self.approval().render()?),
            ("approval-errors", self.approval_errors().render()?),
            ("approval-own", self.approval_own().render()?),
            ("approval-approved", self.approval_approved().render()?),
            ("approval-rejected", self.approval_rejected().render()?),
            ("approval-expired", self.approval_expired().render()?),
            ("approval-markup", self.approval_markup().render()?),
            ("consultations", self.consultations().render()?),
            ("consultations-empty", self.consultations_empty().render()?),
            ("consultation-scheduled", self.consultation(ConsultationStatus::Scheduled).render()?),
            ("consultation-active", self.consultation(ConsultationStatus::Active).render()?),
            ("consultation-ended", self.consultation(ConsultationStatus::Ended).render()?),
            ("consultation-cancelled", self.consultation(ConsultationStatus::Cancelled).render()?),
            ("consultation-not-invited", self.consultation_not_invited().render()?),
            ("audit", self.audit().render()?),
            ("audit-empty", self.audit_empty().render()?),
            ("audit-errors", self.audit_errors().render()?),
            ("inbox", self.inbox().render()?),
            ("inbox-dead", self.inbox_dead().render()?),
            ("inbox-empty", self.inbox_empty(InboxFilter::default()).render()?),
            (
                "inbox-errors",
                self.inbox_empty(InboxFilter {
                    from: "2026-10-09".into(),
                    to: "2026-10-01".into(),
                    ..InboxFilter::default()
                })
                .render()?,
            ),
            ("inbox-event", self.inbox_event().render()?),
            ("inbox-event-dead", self.inbox_event_dead().render()?),
            ("inbox-event-discarded", self.inbox_event_discarded().render()?),
            ("inbox-replay", self.inbox_replay(37, None).render()?),
            ("inbox-replay-nothing", self.inbox_replay(0, None).render()?),
            ("inbox-replay-too-many", self.inbox_replay(100_001, Some(100_000)).render()?),
            ("sources", self.sources().render()?),
            ("sources-empty", self.sources_empty().render()?),
            ("source", self.source().render()?),
            ("source-once", self.source_once().render()?),
            ("source-errors", self.source_errors().render()?),
            ("source-viewed", self.source_viewed().render()?),
            ("source-new", self.source_new().render()?),
            ("source-new-errors", self.source_new_errors().render()?),
            ("endpoints", self.endpoints().render()?),
            ("endpoints-empty", self.endpoints_empty().render()?),
            ("endpoint", self.endpoint(EndpointState::Active).render()?),
            ("endpoint-new-secret", self.endpoint_new_secret().render()?),
            ("endpoint-failing", self.endpoint(EndpointState::Failing).render()?),
            ("endpoint-disabled", self.endpoint(EndpointState::Disabled).render()?),
            ("endpoint-empty", self.endpoint_empty().render()?),
            ("endpoint-form", self.endpoint_form().render()?),
            ("endpoint-form-errors", self.endpoint_form_errors().render()?),
            ("delivery", self.delivery().render()?),
            ("delivery-pending", self.delivery_pending().render()?),
            ("tool", self.tool().render()?),
            ("modules", self.modules().render()?),
            ("modules-suite", self.modules_of_suite().render()?),
            ("module-form", self.module_form().render()?),
            ("module-form-errors", self.module_form_errors().render()?),
            ("settings", self.settings().render()?),
            (
                "sign-ins",
                self.sign_ins(&["Amira Haddad", "Clara Osei", "<script>alert(1)</script>"]).render()?,
            ),
            ("sign-ins-none", self.sign_ins(&[]).render()?),
            ("settings-errors", self.settings_errors().render()?),
            ("profile", self.profile().render()?),
            ("sessions", self.sessions().render()?),
            ("health", self.health().render()?),
            ("tenants", self.tenants("").render()?),
            ("tenants-none", self.tenants("<b>none</b>").render()?),
            ("problem-in-shell", self.problem_in_shell().render()?),
            ("problem-404", self.problem(404).render()?),
            ("problem-500", self.problem(500).render()?),
            ("sign-in", self.sign_in(None).render()?),
            ("sign-in-failed", self.sign_in(Some(self.ui.t("sign-in-took-too-long"))).render()?),
            (
                "signed-out",
                SignedOutPage { ui: self.ui.clone(), sign_in_href: "sign-in.html".into() }.render()?,
            ),
            (
                "cookie-blocked",
                CookieBlockedPage { ui: self.ui.clone(), retry_href: "sign-in.html".into() }.render()?,
            ),
            (
                "navigation",
                NavigationPage {
                    ui: self.ui.clone(),
                    origins: "https://element.example.org".into(),
                    is_signed_in: true,
                }
                .render()?,
            ),
            ("setup", self.setup(true).render()?),
            ("setup-elsewhere", self.setup(false).render()?),
            ("demo", self.demo().render()?),
            ("embed-waiting", self.embed(EmbedPanel::Waiting).render()?),
            ("embed-sign-in", self.embed(EmbedPanel::SignIn).render()?),
            ("embed-problem", self.embed(EmbedPanel::Problem(self.ui.t("embed-unknown"))).render()?),
            ("embed", self.embed_shown(None).render()?),
            ("embed-escalated", self.embed_shown(Some(&self.ui.t("flash-escalated"))).render()?),
        ])
    }

    fn ago(&self, minutes: i64) -> Time {
        self.ui.time(self.now - TimeDelta::minutes(minutes), self.now)
    }

    fn chrome(&self, current: &str) -> Chrome {
        let tenant = |id: &str, name: &str, kind| TenantLink {
            id: id.into(),
            name: name.into(),
            kind,
            href: format!("/app/t/{id}/approvals"),
        };
        let module = |id: &str, badge, kind, href: String| ModuleLink {
            id: id.into(),
            name: if kind == ModuleKind::Page { self.ui.t(format!("module-{id}")) } else { id.into() },
            icon: match id {
                "Chatwoot" => "conversations".into(),
                "Matrix" => "team-chat".into(),
                "Jitsi" => "video".into(),
                own => own.to_owned(),
            },
            href,
            current: id == current,
            badge,
            kind,
        };
        Chrome {
            ui: self.ui.clone(),
            user_name: "Clara Osei".into(),
            profile_href: "profile.html".into(),
            tenant: tenant(ACME, "Acme Corp", TenantKind::Organization),
            tenants: vec![
                tenant(OWN, "Clara Osei", TenantKind::Personal),
                tenant(ENGINEERING, "Engineering", TenantKind::Team),
                tenant(ACME, "Acme Corp", TenantKind::Organization),
            ],
            modules: vec![
                module("overview", 0, ModuleKind::Page, "overview.html".into()),
                module("conversations", 0, ModuleKind::Page, "conversations.html".into()),
                module("approvals", 3, ModuleKind::Page, "approvals.html".into()),
                module("consultations", 0, ModuleKind::Page, "consultations.html".into()),
                module("audit", 0, ModuleKind::Page, "audit.html".into()),
                module("inbox", 2, ModuleKind::Page, "inbox.html".into()),
                module("endpoints", 0, ModuleKind::Page, "endpoints.html".into()),
                module("modules", 0, ModuleKind::Page, "modules.html".into()),
                module("settings", 0, ModuleKind::Page, "settings.html".into()),
                module("Chatwoot", 0, ModuleKind::Link, "http://127.0.0.1:8082/".into()),
                module("Matrix", 0, ModuleKind::Embedded, "tool.html".into()),
                module("Jitsi", 0, ModuleKind::Link, "http://127.0.0.1:8084/".into()),
            ],
            live: Some(Live { events_url: format!("/app/t/{ACME}/events"), last_event_id: Some(4_711) }),
            flash: None,
        }
    }

    fn quiet_chrome(&self, current: &str) -> Chrome {
        let mut chrome = self.chrome(current);
        for module in &mut chrome.modules {
            module.badge = 0;
        }
        chrome
    }

    fn overview(&self) -> OverviewPage {
        let rows = self.approval_rows();
        OverviewPage {
            chrome: self.chrome("overview"),
            waiting: rows
                .iter()
                .filter(|row| row.status == ApprovalStatus::Pending)
                .take(3)
                .cloned()
                .collect(),
            waiting_count: 5,
            requested_count: 1,
            open_conversations: 12,
            upcoming_count: 2,
            recent: rows.into_iter().filter(|row| row.status != ApprovalStatus::Pending).take(3).collect(),
            consultations: self.consultation_rows().into_iter().take(2).collect(),
        }
    }

    fn overview_empty(&self) -> OverviewPage {
        OverviewPage {
            chrome: self.quiet_chrome("overview"),
            waiting: Vec::new(),
            waiting_count: 0,
            requested_count: 0,
            open_conversations: 0,
            upcoming_count: 0,
            recent: Vec::new(),
            consultations: Vec::new(),
        }
    }
}
