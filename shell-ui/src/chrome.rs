//! What the signed-in pages share.

use crate::Ui;

/// The frame of a signed-in page: whose it is, which tenant it shows, and where one can go from it.
#[derive(Debug, Clone)]
pub struct Chrome {
    /// Texts and assets.
    pub ui: Ui,
    /// The display name of the person who is signed in.
    pub user_name: String,
    /// The address of the person's own page.
    pub profile_href: String,
    /// The tenant that the page shows.
    pub tenant: TenantLink,
    /// Every tenant of the person, in the order of the switcher.
    pub tenants: Vec<TenantLink>,
    /// The sidebar, in order: the entries that the person's roles may see.
    pub modules: Vec<ModuleLink>,
    /// Where the page hears of changes. `None`: the page doesn't update itself.
    pub live: Option<Live>,
    /// What has just happened, if the person did something.
    pub flash: Option<Flash>,
}

impl Chrome {
    /// The path below which this tenant's pages are: `/app/t/{tenant}`.
    pub fn base(&self) -> String {
        format!("/app/t/{}", self.tenant.id)
    }

    /// The text with that name.
    pub fn t(&self, name: impl AsRef<str>) -> String {
        self.ui.t(name)
    }

    /// The tenants that the switcher's menu holds. Who has more finds the others on a page of their own.
    pub(crate) fn menu(&self) -> &[TenantLink] {
        self.tenants.get(..MENU).unwrap_or(&self.tenants)
    }

    /// Whether the person has more tenants than the menu holds.
    pub(crate) fn menu_is_cut(&self) -> bool {
        self.tenants.len() > MENU
    }

    pub(crate) fn tenant_count(&self) -> u64 {
        self.tenants.len() as u64
    }

    /// How many things wait for this person: shown in the page's title.
    pub fn waiting(&self) -> u64 {
        self.modules.iter().map(|module| module.badge).sum()
    }

    /// Whether the sidebar leads to other tools.
    pub(crate) fn has_tools(&self) -> bool {
        self.modules.iter().any(ModuleLink::is_tool)
    }

    /// Whether a module is at the thumb on a phone; the others are in the account's menu there, since five fit.
    #[expect(clippy::unused_self, reason = "templates call methods of what they have")]
    pub(crate) fn is_at_thumb(&self, module: &str) -> bool {
        !matches!(module, "endpoints" | "health" | "inbox" | "modules" | "settings")
    }

    /// The events that have a text of their own, as in `live-approval-created`.
    #[expect(clippy::unused_self, reason = "templates call methods of what they have")]
    pub(crate) fn live_events(&self) -> &'static [&'static str] {
        LIVE_EVENTS
    }

    /// Event types that refresh pages without a word.
    #[expect(clippy::unused_self, reason = "templates call methods of what they have")]
    pub(crate) fn quiet_events(&self) -> &'static [&'static str] {
        QUIET_EVENTS
    }

    /// The letters that stand for the person where a picture would: at most two.
    pub fn initials(&self) -> String {
        initials(&self.user_name)
    }
}

/// A longer menu is slower to read than a search, and makes every page heavier.
const MENU: usize = 20;

/// Event types that are told in words, with their dot as a dash: the script looks for `data-on-…`, where a dot would need escaping.
const LIVE_EVENTS: &[&str] = &[
    "approval-created",
    "approval-decided",
    "approval-cancelled",
    "approval-expired",
    "consultation-created",
    "consultation-started",
    "consultation-ended",
    "consultation-cancelled",
    "webhook-dead",
    "endpoint-disabled",
];

/// Event types that only refresh pages: they come often, or whoever sees them has just made them.
const QUIET_EVENTS: &[&str] = &[
    "conversation-updated",
    "webhook-received",
    "source-created",
    "source-updated",
    "source-deleted",
    "endpoint-created",
    "endpoint-updated",
    "endpoint-deleted",
    "module-created",
    "module-updated",
    "module-deleted",
];

/// The first letters of the first and the last word of a name.
pub(crate) fn initials(name: &str) -> String {
    let mut words = name.split_whitespace().filter_map(|word| word.chars().find(|c| c.is_alphanumeric()));
    let first = words.next();
    let last = words.next_back();
    first.into_iter().chain(last).flat_map(char::to_uppercase).collect()
}

/// A kind of tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantKind {
    /// A person's own.
    Personal,
    /// A team, from `/teams/…`.
    Team,
    /// An organization, from `/organizations/…`.
    Organization,
    /// What belongs to the suite as a whole, for who runs it.
    Suite,
}

impl TenantKind {
    /// The kind's name in texts and addresses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Personal => "personal",
            Self::Team => "team",
            Self::Organization => "organization",
            Self::Suite => "suite",
        }
    }

    pub(crate) fn icon(self) -> &'static str {
        match self {
            Self::Personal => "person",
            Self::Team => "people",
            Self::Organization => "building",
            Self::Suite => "shield",
        }
    }
}

/// A tenant in the switcher.
#[derive(Debug, Clone)]
pub struct TenantLink {
    /// The tenant's UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: TenantKind,
    /// Where it leads: usually the same module in that tenant.
    pub href: String,
}

/// An entry of the sidebar.
#[derive(Debug, Clone)]
pub struct ModuleLink {
    /// The module's id in the registry, such as `approvals`.
    pub id: String,
    /// What it is called; for our own modules the texts `module-overview`, `module-conversations`,
    /// `module-approvals`, `module-consultations`, `module-audit`, `module-endpoints`, `module-inbox`, `module-settings`,
    /// `module-health`, `module-modules`.
    pub name: String,
    /// An icon's name (see [`crate::ICON_NAMES`]); an unknown one shows a plain square.
    pub icon: String,
    /// Where it leads.
    pub href: String,
    /// Whether the page belongs to it.
    pub current: bool,
    /// How many things wait there for the person; 0 shows nothing.
    pub badge: u64,
    /// What it opens.
    pub kind: ModuleKind,
}

/// What an entry of the sidebar opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleKind {
    /// A page of ours.
    Page,
    /// Another tool, inside a page of ours.
    Embedded,
    /// Another tool, in a tab of its own.
    Link,
}

impl ModuleLink {
    /// Whether it is another tool; such entries stand apart.
    pub(crate) fn is_tool(&self) -> bool {
        self.kind != ModuleKind::Page
    }

    pub(crate) fn opens_tab(&self) -> bool {
        self.kind == ModuleKind::Link
    }

    /// What the number on it counts: what waits for the person, or what nobody could process.
    pub(crate) fn counted(&self) -> &'static str {
        if self.id == "inbox" { "failed-badge" } else { "waiting-badge" }
    }
}

/// Where a page hears of changes.
#[derive(Debug, Clone)]
pub struct Live {
    /// The address of the event stream, on the pages' own origin: `/app/t/{tenant}/events`.
    pub events_url: String,
    /// The id of the last event that the page already shows. It is sent as the query's `lastEventId` when the stream is
    /// opened (`EventSource` can't set a header; when it reconnects it sends `Last-Event-ID`, which then counts).
    /// Without it, the page refreshes itself once when the stream opens.
    pub last_event_id: Option<u64>,
}

/// Whether a flash message is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlashKind {
    /// It was done.
    Success,
    /// It could not be done.
    Error,
}

/// A message about what the person has just done.
#[derive(Debug, Clone)]
pub struct Flash {
    /// Whether it was done.
    pub kind: FlashKind,
    /// The text, already localised.
    pub text: String,
}

impl Flash {
    /// A message by its code, as it comes back in the query after a redirect. Only known codes give a message, so an
    /// address can't put words into our mouth. Codes: `approved`, `rejected`, `cancelled`, `requested`, `escalated`,
    /// `consultation-started`, `consultation-ended`, `consultation-cancelled`, `already-decided`, `already-pending`,
    /// `stale`, `not-allowed`, `already-ended`, `already-cancelled`, `already-started`, `confirmed`, `session-ended`,
    /// `sessions-ended`, `session-over`, `settings-saved`, `inbox-replaying`, `inbox-discarded`, `inbox-discarding`,
    /// `inbox-not-replayable`, `inbox-not-failed`, `source-saved`, `source-paused`, `source-resumed`, `source-removed`,
    /// `secret-revoked`, `endpoint-saved`, `endpoint-on`, `endpoint-off`, `endpoint-removed`, `endpoint-test-sent`,
    /// `module-added`, `module-saved`, `module-removed`, `modules-full`,
    /// `delivery-again`, `deliveries-again`, `deliveries-none`, `endpoint-is-off`, `endpoints-full`, `delivery-pending`, `secrets-full`.
    pub fn from_code(ui: &Ui, code: &str) -> Option<Self> {
        let kind = match code {
            "approved"
            | "rejected"
            | "cancelled"
            | "requested"
            | "escalated"
            | "consultation-started"
            | "consultation-ended"
            | "consultation-cancelled"
            | "confirmed"
            | "session-ended"
            | "sessions-ended"
            | "settings-saved"
            | "inbox-replaying"
            | "inbox-discarded"
            | "inbox-discarding"
            | "source-saved"
            | "source-paused"
            | "source-resumed"
            | "source-removed"
            | "endpoint-saved"
            | "endpoint-on"
            | "endpoint-off"
            | "endpoint-removed"
            | "endpoint-test-sent"
            | "delivery-again"
            | "deliveries-again"
            | "deliveries-none"
            | "module-added"
            | "module-saved"
            | "module-removed"
            | "secret-revoked" => FlashKind::Success,
            "already-decided"
            | "already-pending"
            | "stale"
            | "not-allowed"
            | "already-ended"
            | "already-cancelled"
            | "already-started"
            | "session-over"
            | "inbox-not-replayable"
            | "inbox-not-failed"
            | "endpoint-is-off"
            | "endpoints-full"
            | "delivery-pending"
            | "modules-full"
            | "secrets-full" => FlashKind::Error,
            _ => return None,
        };
        Some(Self { kind, text: ui.t(format!("flash-{code}")) })
    }

    pub(crate) fn class(&self) -> &'static str {
        match self.kind {
            FlashKind::Success => "success",
            FlashKind::Error => "error",
        }
    }

    pub(crate) fn icon(&self) -> &'static str {
        match self.kind {
            FlashKind::Success => "check",
            FlashKind::Error => "warning",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initials_come_from_the_first_and_last_word() {
        assert_eq!(initials("Alex Meyer"), "AM");
        assert_eq!(initials("Maria del Carmen (Support) Ruiz"), "MR");
        assert_eq!(initials("ليلى"), "ل");
        assert_eq!(initials(""), "");
    }

    #[test]
    fn only_known_codes_give_a_message() {
        let ui = Ui::new("");
        assert!(Flash::from_code(&ui, "<script>").is_none());
        for code in [
            "approved",
            "rejected",
            "cancelled",
            "requested",
            "escalated",
            "consultation-started",
            "consultation-ended",
            "consultation-cancelled",
            "already-decided",
            "already-pending",
            "stale",
            "not-allowed",
            "already-ended",
            "already-cancelled",
            "already-started",
            "confirmed",
            "session-ended",
            "sessions-ended",
            "session-over",
            "settings-saved",
            "inbox-replaying",
            "inbox-discarded",
            "inbox-discarding",
            "inbox-not-replayable",
            "inbox-not-failed",
            "source-saved",
            "source-paused",
            "source-resumed",
            "source-removed",
            "secret-revoked",
            "endpoint-saved",
            "endpoint-on",
            "endpoint-off",
            "endpoint-removed",
            "endpoint-test-sent",
            "delivery-again",
            "deliveries-again",
            "deliveries-none",
            "endpoint-is-off",
            "endpoints-full",
            "delivery-pending",
            "secrets-full",
            "module-added",
            "module-saved",
            "module-removed",
            "modules-full",
        ] {
            let flash = Flash::from_code(&ui, code).expect("known");
            assert!(!flash.text.starts_with("flash-"), "{code} has no text");
        }
    }
}
