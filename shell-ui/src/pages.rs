//! One struct a page. Fill it and call [`askama::Template::render`].
//!
//! Forms send to addresses below [`Chrome::base`](crate::Chrome::base), except signing out (`POST /auth/logout`):
//!
//! | form | address | fields |
//! |---|---|---|
//! | escalate | `conversations/{id}/escalate` | `reason`, `title`, `priority`, `consultation_requested=true` |
//! | open in the tool | `conversations/{id}/open` | none |
//! | escalate inside the tool | `/embed/chatwoot/escalate` | `account`, `conversation`, `reason`, `priority`, `consultation_requested=true` |
//! | request | `approvals` | `title`, `description`, `priority`, `expires_in_hours`, `consultation_requested=true` |
//! | decide | `approvals/{id}/decision` | `decision=approved\|rejected`, `comment`, `consultation=true`, `version` |
//! | withdraw | `approvals/{id}/cancel` | `version` |
//! | end a sign-in, end all others | `/app/me/sessions/end`, `…/end-others` | `session` |
//! | end a member's sign-in | `sign-ins/end` | `member`, `session` |
//! | change settings | `settings` | `step_up_enabled=true`, `step_up_high=true`, `step_up_medium=true`, `step_up_low=true`, `step_up_max_age`, `version` |
//! | replay one, discard it | `inbox/events/{id}/replay`, `…/discard` | `reason` |
//! | replay all of a filter | `inbox/replay` | `state`, `source`, `type`, `subject`, `from`, `to`, `until`, `count` |
//! | add a source | `inbox/sources` | `service`, `name`, `account`, `scheme`, `settings`, `secret`, `limit_requests`, `limit_seconds` |
//! | change a source | `inbox/sources/{id}` | `name`, `limit_requests`, `limit_seconds`, `version` |
//! | pause, resume, remove it | `inbox/sources/{id}/pause`, `…/resume`, `…/remove` | `version` |
//! | give it a secret, take one away | `inbox/sources/{id}/rotate`, `…/revoke` | `secret`, `challenge=true`, `grace`, `version` |
//! | make an endpoint | `endpoints` | `url`, `description`, `event.*=true`, `event.approval.*=true`, `event.approval.created=true`, … |
//! | change one | `endpoints/{id}/edit` | the same, `version` |
//! | an endpoint's secret, test, switches | `endpoints/{id}/rotate`, `…/test`, `…/enable`, `…/disable`, `…/delete` | `grace_hours`; `missed=true`; `version` |
//! | send again | `endpoints/{id}/redeliver`, `endpoints/{id}/deliveries/{delivery}/redeliver` | `since_hours` |
//! | add a module | `modules` | `name`, `url`, `icon`, `opens=tab\|page`, `role.agent=true`, …, `tenants` |
//! | change one, remove it | `modules/{id}`, `modules/{id}/delete` | the same, `version`; `version` |
//! | start, end, join | `consultations/{id}/start`, `…/end`, `…/join` | none |
//!
//! Checkboxes send `true` or are absent. Filters are `GET` forms on the list's own address.

mod inbox;
mod modules;
mod outside;

use std::borrow::Borrow;

use askama::Template;

pub use inbox::{InboxEventPage, InboxPage, InboxReplayPage, SourceNewPage, SourcePage, SourcesPage};
pub use modules::{ModuleFormPage, ModulesPage};
pub use outside::{
    CookieBlockedPage, DemoPage, DemoPerson, NavigationPage, Problem, ProblemPage, SetupPage, SignInPage,
    SignedOutPage,
};

use crate::chrome::initials;
use crate::{
    ApprovalFilter, ApprovalRow, ApprovalStatus, AttemptRow, AuditEntry, AuditFilter, Choice, Chrome,
    ConsultationRow, ConsultationStatus, ConversationContext, ConversationRow, ConversationStatus,
    DeliveryRow, DeliveryState, EndpointRow, EndpointState, EventGroup, Fact, FieldErrors, HealthPart,
    HistoryEntry, LinkTo, MemberSignIn, Priority, SessionRow, TenantKind, Time, Ui,
};

/// The tenant's home: what waits, what happened, what comes.
#[derive(Debug, Clone, Template)]
#[template(path = "overview.html")]
pub struct OverviewPage {
    /// The frame.
    pub chrome: Chrome,
    /// Approvals that this person may decide, the most urgent first.
    pub waiting: Vec<ApprovalRow>,
    /// How many there are in all.
    pub waiting_count: u64,
    /// How many requests of this person are pending.
    pub requested_count: u64,
    /// How many conversations are open.
    pub open_conversations: u64,
    /// How many consultations are active or to come.
    pub upcoming_count: u64,
    /// Approvals decided lately.
    pub recent: Vec<ApprovalRow>,
    /// The next consultations.
    pub consultations: Vec<ConsultationRow>,
}

impl OverviewPage {
    /// Whether more wait than the page shows.
    fn more_wait(&self) -> bool {
        self.waiting_count > self.waiting.len() as u64
    }
}

/// The list of conversations.
#[derive(Debug, Clone, Template)]
#[template(path = "conversations.html")]
pub struct ConversationsPage {
    /// The frame.
    pub chrome: Chrome,
    /// Only those that stand so.
    pub status: Option<ConversationStatus>,
    /// The page's rows, the latest first.
    pub conversations: Vec<ConversationRow>,
    /// The next page, if there are older ones.
    pub older_href: Option<String>,
    /// The first page, if this isn't it.
    pub newest_href: Option<String>,
}

/// What a tool shows of ours inside a page of its own, beside a conversation.
#[derive(Debug, Clone, Template)]
#[template(path = "embed.html")]
pub struct EmbedPage {
    /// The texts.
    pub ui: Ui,
    /// The tool's origin: who else frames the page isn't heard.
    pub tool: String,
    /// Where somebody signs in, in a window of its own.
    pub sign_in_href: String,
    /// In that window, what the frame that has opened it is handed.
    pub code: Option<String>,
    /// What is shown.
    pub panel: EmbedPanel,
}

/// What the panel beside a conversation shows.
#[derive(Debug, Clone)]
pub enum EmbedPanel {
    /// Nothing yet: the tool hasn't said which conversation it shows.
    Waiting,
    /// That the window can be closed.
    SignedIn,
    /// The way to sign in.
    SignIn,
    /// Why there is nothing to see.
    Problem(String),
    /// The conversation's approvals.
    Shown(Box<EmbedShown>),
}

/// A conversation's approvals, for the panel beside it.
#[derive(Debug, Clone)]
pub struct EmbedShown {
    /// The account in the tool.
    pub account: i64,
    /// The conversation's number there.
    pub conversation: i64,
    /// The path below which the tenant's pages are.
    pub base: String,
    /// Its approvals, the newest first.
    pub approvals: Vec<ApprovalRow>,
    /// The form to escalate it.
    pub form: EscalateForm,
    /// What came of the form that was sent.
    pub notice: Option<String>,
    /// Whether it was done.
    pub done: bool,
}

/// One conversation, with the form to escalate it.
#[derive(Debug, Clone, Template)]
#[template(path = "conversation.html")]
pub struct ConversationPage {
    /// The frame.
    pub chrome: Chrome,
    /// The conversation's UUID.
    pub id: String,
    /// The number that Chatwoot shows.
    pub display_id: u64,
    /// The customer's name.
    pub contact: String,
    /// The customer's mail or phone.
    pub contact_detail: Option<String>,
    /// The inbox's name.
    pub inbox: String,
    /// Where it stands.
    pub status: ConversationStatus,
    /// Its labels.
    pub labels: Vec<String>,
    /// The last message; empty if none is known.
    pub last_message: String,
    /// When that came.
    pub last_message_at: Option<Time>,
    /// Whether it can be opened in its tool.
    pub opens: bool,
    /// Its approvals, the latest first.
    pub approvals: Vec<ApprovalRow>,
    /// The form; `None` for who may not request at all.
    pub escalate: Option<EscalateForm>,
}

/// The form "Escalate to CEO", empty or as it came back.
#[derive(Debug, Clone)]
pub struct EscalateForm {
    /// Why; required.
    pub reason: String,
    /// A title of one's own; empty: one is made.
    pub title: String,
    /// How urgent.
    pub priority: Priority,
    /// Whether to ask for a consultation as well.
    pub consultation_requested: bool,
    /// Why it can't be sent now, already localised: texts `blocked-…`.
    pub blocked: Option<String>,
    /// What is wrong.
    pub errors: FieldErrors,
}

impl Default for EscalateForm {
    fn default() -> Self {
        Self {
            reason: String::new(),
            title: String::new(),
            priority: Priority::Medium,
            consultation_requested: false,
            blocked: None,
            errors: FieldErrors::default(),
        }
    }
}

/// The list of approvals.
#[derive(Debug, Clone, Template)]
#[template(path = "approvals.html")]
pub struct ApprovalsPage {
    /// The frame.
    pub chrome: Chrome,
    /// Which ones.
    pub filter: ApprovalFilter,
    /// The page's rows, pending ones first.
    pub approvals: Vec<ApprovalRow>,
    /// The next page, if there are older ones.
    pub older_href: Option<String>,
    /// The first page, if this isn't it.
    pub newest_href: Option<String>,
    /// Whether this person may request one.
    pub may_request: bool,
}

/// The form for a new approval.
#[derive(Debug, Clone, Template)]
#[template(path = "approval_new.html")]
pub struct NewApprovalPage {
    /// The frame.
    pub chrome: Chrome,
    /// What to approve; required.
    pub title: String,
    /// The whole story.
    pub description: String,
    /// How urgent.
    pub priority: Priority,
    /// Hours until it expires: empty (never), `4`, `24`, `72` or `168`.
    pub expires_in_hours: String,
    /// Whether to ask for a consultation as well.
    pub consultation_requested: bool,
    /// Why it can't be sent now, already localised: texts `blocked-…`.
    pub blocked: Option<String>,
    /// What is wrong.
    pub errors: FieldErrors,
}

/// One approval, with the form to decide it.
#[derive(Debug, Clone, Template)]
#[template(path = "approval.html")]
pub struct ApprovalPage {
    /// The frame.
    pub chrome: Chrome,
    /// The approval's UUID.
    pub id: String,
    /// What it asks for.
    pub title: String,
    /// The whole story; line breaks are kept. May be empty.
    pub description: String,
    /// Where it stands.
    pub status: ApprovalStatus,
    /// How urgent it is.
    pub priority: Priority,
    /// The name of who asks.
    pub requested_by: String,
    /// The name of who decided.
    pub decided_by: Option<String>,
    /// What they wrote.
    pub comment: Option<String>,
    /// Whether a consultation is asked for.
    pub consultation_requested: bool,
    /// When it was asked for.
    pub created: Time,
    /// When it was decided, withdrawn or expired.
    pub decided: Option<Time>,
    /// When it expires or would have.
    pub expires: Option<Time>,
    /// Its version, sent back with a decision.
    pub version: u64,
    /// The conversation that it comes from.
    pub conversation: Option<ConversationContext>,
    /// The consultation that came of it.
    pub consultation: Option<LinkTo>,
    /// What else the requester attached.
    pub metadata: Vec<Fact>,
    /// What happened, the oldest first.
    pub history: Vec<HistoryEntry>,
    /// What this person can do about it.
    pub decision: Decision,
    /// Whether this person may withdraw it.
    pub may_cancel: bool,
}

/// What a person can do about an approval.
#[derive(Debug, Clone)]
pub enum Decision {
    /// Decide it.
    Open(DecisionForm),
    /// Only see why not, already localised: texts `blocked-…`.
    Blocked(String),
    /// It is no longer pending.
    Closed,
}

/// The form for a decision, empty or as it came back.
#[derive(Debug, Clone, Default)]
pub struct DecisionForm {
    /// What the decider writes.
    pub comment: String,
    /// Whether a consultation is to be set up.
    pub consultation: bool,
    /// What is wrong.
    pub errors: FieldErrors,
}

/// The list of consultations.
#[derive(Debug, Clone, Template)]
#[template(path = "consultations.html")]
pub struct ConsultationsPage {
    /// The frame.
    pub chrome: Chrome,
    /// Those that go on or are to come, the next first.
    pub upcoming: Vec<ConsultationRow>,
    /// Those that are over, the latest first.
    pub past: Vec<ConsultationRow>,
    /// The next page of past ones.
    pub older_href: Option<String>,
}

/// One consultation.
#[derive(Debug, Clone, Template)]
#[template(path = "consultation.html")]
pub struct ConsultationPage {
    /// The frame.
    pub chrome: Chrome,
    /// The consultation's UUID.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// Where it stands.
    pub status: ConsultationStatus,
    /// The host's name.
    pub host: String,
    /// The other participants' names.
    pub participants: Vec<String>,
    /// The time set for it.
    pub scheduled: Option<Time>,
    /// When it began.
    pub started: Option<Time>,
    /// When it ended.
    pub ended: Option<Time>,
    /// Who was in the room, in the order in which they came.
    pub attendance: Vec<Attended>,
    /// The approval that it comes from.
    pub approval: Option<LinkTo>,
    /// Whether this person may start it.
    pub may_start: bool,
    /// Whether this person may end it.
    pub may_end: bool,
    /// Whether this person may cancel it.
    pub may_cancel: bool,
    /// Whether this person may join it now.
    pub may_join: bool,
    /// Why not, already localised, if it matters.
    pub join_blocked: Option<String>,
}

/// Somebody's time in a room.
#[derive(Debug, Clone)]
pub struct Attended {
    /// The name that they were seen by.
    pub name: String,
    /// When they came in, where that is known.
    pub joined: Option<Time>,
    /// When they left, where they have.
    pub left: Option<Time>,
}

impl ConsultationPage {
    #[expect(clippy::unused_self, reason = "templates call methods of what they have")]
    fn initials_of(&self, name: &str) -> String {
        initials(name)
    }
}

/// The audit trail.
#[derive(Debug, Clone, Template)]
#[template(path = "audit.html")]
pub struct AuditPage {
    /// The frame.
    pub chrome: Chrome,
    /// Which entries.
    pub filter: AuditFilter,
    /// What is wrong with the filter: `from`, `to`.
    pub errors: FieldErrors,
    /// The actions to choose from; labels by [`Ui::audit_action`].
    pub actions: Vec<Choice>,
    /// The people to choose from.
    pub people: Vec<Choice>,
    /// The page's entries, the latest first.
    pub entries: Vec<AuditEntry>,
    /// The next page, if there are older ones.
    pub older_href: Option<String>,
    /// The first page, if this isn't it.
    pub newest_href: Option<String>,
}

impl AuditPage {
    /// Whether an entry is the first of its day.
    fn opens_day(&self, index: impl Borrow<usize>) -> bool {
        let index = *index.borrow();
        let day = |index: usize| self.entries.get(index).map(|entry| &entry.day);
        index == 0 || day(index) != day(index - 1)
    }
}

/// The person's own page.
#[derive(Debug, Clone, Template)]
#[template(path = "profile.html")]
pub struct ProfilePage {
    /// The frame.
    pub chrome: Chrome,
    /// The name to sign in with.
    pub user_name: String,
    /// The mail address.
    pub mail: Option<String>,
    /// Where the account is managed (Keycloak's account page).
    pub account_href: Option<String>,
    /// Where one sees where one is signed in.
    pub sessions_href: String,
    /// Every tenant, with this person's roles there.
    pub memberships: Vec<Membership>,
}

/// Where the person is signed in.
#[derive(Debug, Clone, Template)]
#[template(path = "sessions.html")]
pub struct SessionsPage {
    /// The frame.
    pub chrome: Chrome,
    /// The sign-ins, the one used last first.
    pub sessions: Vec<SessionRow>,
}

impl SessionsPage {
    fn has_others(&self) -> bool {
        self.sessions.iter().any(|session| !session.is_this)
    }
}

/// How the installation is, and what mends it.
#[derive(Debug, Clone, Template)]
#[template(path = "health.html")]
pub struct HealthPage {
    /// The frame.
    pub chrome: Chrome,
    /// When it was looked at.
    pub checked: Time,
    /// Its parts, in the order in which one would mend them.
    pub parts: Vec<HealthPart>,
}

/// Which of a tenant's members are signed in.
#[derive(Debug, Clone, Template)]
#[template(path = "sign_ins.html")]
pub struct SignInsPage {
    /// The frame.
    pub chrome: Chrome,
    /// Whether the person may end them.
    pub may_end: bool,
    /// The sign-ins, by the members' names.
    pub sign_ins: Vec<MemberSignIn>,
    /// Where the first page is, on a later one.
    pub first_href: Option<String>,
    /// Where the next page is.
    pub next_href: Option<String>,
}

/// All tenants of a person, or those that a search finds.
#[derive(Debug, Clone, Template)]
#[template(path = "tenants.html")]
pub struct TenantsPage {
    /// The frame.
    pub chrome: Chrome,
    /// How many there are in all.
    pub all: u64,
    /// What is searched for; empty: nothing.
    pub search: String,
    /// Those found, with this person's roles there.
    pub tenants: Vec<Membership>,
}

/// What a tenant has decided for itself.
#[derive(Debug, Clone, Template)]
#[template(path = "settings.html")]
pub struct SettingsPage {
    /// The frame.
    pub chrome: Chrome,
    /// Where one sees which members are signed in, where there are members.
    pub sign_ins_href: Option<String>,
    /// What is wrong: `step_up_priorities`, `step_up_max_age`.
    pub errors: FieldErrors,
    /// Whether decisions ask for a second factor.
    pub step_up_enabled: bool,
    /// Whether those of high priority do.
    pub step_up_high: bool,
    /// Whether those of medium priority do.
    pub step_up_medium: bool,
    /// Whether those of low priority do.
    pub step_up_low: bool,
    /// How long ago it may have been given, in seconds: one of `max_ages`.
    pub step_up_max_age: String,
    /// The ages to choose from; labels by texts `settings-age-…`.
    pub max_ages: Vec<Choice>,
    /// Their version, sent back with a change.
    pub version: u64,
}

/// A tenant's own endpoints for outgoing webhooks.
#[derive(Debug, Clone, Template)]
#[template(path = "endpoints.html")]
pub struct EndpointsPage {
    /// The frame.
    pub chrome: Chrome,
    /// The endpoints, newest first.
    pub endpoints: Vec<EndpointRow>,
    /// Whether this person may add one.
    pub may_manage: bool,
}

/// The form for an endpoint, new or to be changed.
#[derive(Debug, Clone, Template)]
#[template(path = "endpoint_form.html")]
pub struct EndpointFormPage {
    /// The frame.
    pub chrome: Chrome,
    /// The endpoint's UUID and version, sent back with a change; none for a new one.
    pub endpoint: Option<(String, u64)>,
    /// Where it is; required.
    pub url: String,
    /// What it is for.
    pub description: String,
    /// Whether it wants everything.
    pub everything: bool,
    /// What it wants otherwise.
    pub groups: Vec<EventGroup>,
    /// What is wrong: `url`, `description`, `event_types`.
    pub errors: FieldErrors,
}

/// One endpoint, and what was sent to it.
#[derive(Debug, Clone, Template)]
#[template(path = "endpoint.html")]
pub struct EndpointPage {
    /// The frame.
    pub chrome: Chrome,
    /// Its UUID.
    pub id: String,
    /// Where it is.
    pub url: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Whether it is delivered to.
    pub state: EndpointState,
    /// Why not, already localised: texts `endpoint-because-…`.
    pub because: Option<String>,
    /// Since when not.
    pub disabled: Option<Time>,
    /// Since when nothing has arrived.
    pub failing: Option<Time>,
    /// When something arrived last.
    pub succeeded: Option<Time>,
    /// When it was made.
    pub created: Time,
    /// What it wants.
    pub event_types: Vec<String>,
    /// Until when the older secret signs along.
    pub rotating: Option<Time>,
    /// A secret that was just made: it is shown this once.
    pub secret: Option<String>,
    /// Its version, sent back with a change.
    pub version: u64,
    /// Only deliveries that stand so.
    pub filter: Option<DeliveryState>,
    /// The page's deliveries, the latest first.
    pub deliveries: Vec<DeliveryRow>,
    /// The next page, if there are older ones.
    pub older_href: Option<String>,
    /// The first page, if this isn't it.
    pub newest_href: Option<String>,
    /// Whether this person may change it and have things sent again.
    pub may_manage: bool,
}

impl EndpointPage {
    /// Whether something shown is still to be sent.
    fn waits(&self) -> bool {
        self.deliveries.iter().any(|row| row.state == DeliveryState::Pending)
    }
}

/// One delivery, with each time that it was sent.
#[derive(Debug, Clone, Template)]
#[template(path = "delivery.html")]
pub struct DeliveryPage {
    /// The frame.
    pub chrome: Chrome,
    /// Its UUID.
    pub id: String,
    /// The endpoint's UUID.
    pub endpoint_id: String,
    /// Where that is.
    pub url: String,
    /// `approval.created`
    pub event_type: String,
    /// The header `webhook-id`.
    pub message_id: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// When it was made.
    pub created: Time,
    /// When it is sent next, if it is.
    pub next: Option<Time>,
    /// When it was delivered or given up.
    pub finished: Option<Time>,
    /// What is sent.
    pub body: String,
    /// Each time that it was sent, the first one first.
    pub attempts: Vec<AttemptRow>,
    /// Whether this person may have it sent again.
    pub may_redeliver: bool,
}

/// What a person is in a tenant.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The tenant's name.
    pub name: String,
    /// Its kind.
    pub kind: TenantKind,
    /// Its path in Keycloak, such as `/organizations/acme-corp`; empty for the personal one.
    pub path: String,
    /// The roles' own names, such as `approver`.
    pub roles: Vec<String>,
    /// Where it leads.
    pub href: String,
}

/// Another tool inside the frame. The answer's content security policy has to admit the tool's origin, and none but it.
#[derive(Debug, Clone, Template)]
#[template(path = "tool.html")]
pub struct ToolPage {
    /// The frame.
    pub chrome: Chrome,
    /// What the tool is called.
    pub name: String,
    /// Where it is; of another origin than ours, since what it may do in its frame would reach our pages otherwise.
    pub url: String,
    /// Whether it may use camera, microphone and screen, if the person lets it.
    pub is_video: bool,
}

impl ToolPage {
    /// What the tool may ask the person for (W3C Permissions Policy).
    fn allow(&self) -> &'static str {
        if self.is_video {
            "camera; microphone; display-capture; autoplay; clipboard-write; fullscreen"
        } else {
            "clipboard-write; fullscreen"
        }
    }
}

/// A page inside the frame for what went wrong, for a person who is signed in.
#[derive(Debug, Clone, Template)]
#[template(path = "problem_in_shell.html")]
pub struct ProblemInShell {
    /// The frame.
    pub chrome: Chrome,
    /// What went wrong.
    pub problem: Problem,
}
