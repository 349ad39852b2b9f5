//! What every page is made with.

use std::borrow::Borrow;
use std::sync::Arc;

use chrono::{DateTime, Datelike as _, Utc};

use crate::model::{
    ApprovalStatus, ConsultationStatus, ConversationStatus, DeliveryState, EndpointState, HealthVerdict,
    HistoryEntry, HistoryKind, InboxOutcome, InboxState, Priority, SecretState, Time,
};
use crate::{Assets, TenantKind, Texts};

/// Which colours a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    /// What the person's system prefers.
    #[default]
    System,
    /// Light, whatever the system prefers.
    Light,
    /// Dark, whatever the system prefers.
    Dark,
}

/// What every page is made with: assets, texts, theme. Cheap to clone; make one at start and clone it for each page.
#[derive(Debug, Clone)]
pub struct Ui {
    assets: Arc<Assets>,
    texts: Texts,
    theme: Theme,
}

impl Ui {
    /// A user interface in English whose assets are below `asset_base` (see [`Assets::new`]).
    pub fn new(asset_base: &str) -> Self {
        Self { assets: Arc::new(Assets::new(asset_base)), texts: Texts::default(), theme: Theme::System }
    }

    /// The same in another language.
    #[must_use]
    pub fn in_language(&self, tag: &str) -> Self {
        Self { texts: Texts::for_language(tag), ..self.clone() }
    }

    /// The same in a fixed theme.
    #[must_use]
    pub fn with_theme(&self, theme: Theme) -> Self {
        Self { theme, ..self.clone() }
    }

    /// The assets.
    pub fn assets(&self) -> &Assets {
        &self.assets
    }

    /// The address of an asset.
    pub fn asset(&self, name: &str) -> String {
        self.assets.url(name)
    }

    /// The address of the shared worker's script.
    pub fn worker_url(&self) -> String {
        Assets::worker_url()
    }

    /// The page's language, for the attribute `lang`.
    pub fn language(&self) -> String {
        self.texts.tag()
    }

    /// The value for `data-theme`, if the theme is fixed.
    pub fn theme_name(&self) -> Option<&'static str> {
        match self.theme {
            Theme::System => None,
            Theme::Light => Some("light"),
            Theme::Dark => Some("dark"),
        }
    }

    /// The text with that name, from `locales/`.
    pub fn t(&self, name: impl AsRef<str>) -> String {
        self.texts.say(name.as_ref())
    }

    /// The text with that name and one argument.
    pub fn t_with(&self, name: &str, argument: &'static str, value: impl AsRef<str>) -> String {
        self.texts.say_with(name, &[(argument, value.as_ref())])
    }

    /// The text with that name and several arguments.
    pub fn t_with_all(&self, name: &str, arguments: &[(&'static str, &str)]) -> String {
        self.texts.say_with(name, arguments)
    }

    /// What a problem with this stable code, such as `approvals.already_decided`, is called; none where its status says
    /// enough.
    pub fn problem(&self, code: &str) -> Option<String> {
        self.texts.find(&format!("problem-{}", code.replace(['.', '_'], "-")))
    }

    /// The text with that name and the argument `count`.
    pub fn t_count(&self, name: &str, count: impl Borrow<u64>) -> String {
        self.texts.count(name, *count.borrow())
    }

    /// A point in time as people say it: "5 minutes ago", "in 2 hours", "3 March, 14:05", with the exact time beside it.
    pub fn time(&self, at: DateTime<Utc>, now: DateTime<Utc>) -> Time {
        let seconds = now.signed_duration_since(at).num_seconds();
        let (past, away) = (seconds >= 0, seconds.unsigned_abs());
        let human = match away {
            0..45 => self.t(if past { "time-now" } else { "time-soon" }),
            45..3_570 => self.t_count(
                if past { "time-minutes-ago" } else { "time-in-minutes" },
                ((away + 30) / 60).max(1),
            ),
            3_570..84_600 => self.t_count(
                if past { "time-hours-ago" } else { "time-in-hours" },
                ((away + 1_800) / 3_600).max(1),
            ),
            _ if at.year() == now.year() => self.texts.say_with(
                "time-day-and-clock",
                &[("day", &self.day_and_month(at)), ("clock", &at.format("%H:%M").to_string())],
            ),
            _ => format!("{} {}", self.day_and_month(at), at.year()),
        };
        Time {
            iso: at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            human,
            full: self.full(at),
            relative: away < 84_600,
        }
    }

    /// The day of a point in time as a heading: "Today", "Yesterday", "3 March 2026".
    pub fn day(&self, at: DateTime<Utc>, now: DateTime<Utc>) -> String {
        match now.date_naive().signed_duration_since(at.date_naive()).num_days() {
            0 => self.t("time-today"),
            1 => self.t("time-yesterday"),
            _ => format!("{} {}", self.day_and_month(at), at.year()),
        }
    }

    fn day_and_month(&self, at: DateTime<Utc>) -> String {
        format!("{} {}", at.day(), self.t(format!("month-{}", at.month())))
    }

    fn full(&self, at: DateTime<Utc>) -> String {
        format!("{} {}, {} UTC", self.day_and_month(at), at.year(), at.format("%H:%M"))
    }

    /// The name of an approval's status.
    pub fn approval_status(&self, status: impl Borrow<ApprovalStatus>) -> String {
        self.t(format!("approval-status-{}", status.borrow().as_str()))
    }

    /// The name of a priority.
    pub fn priority(&self, priority: impl Borrow<Priority>) -> String {
        self.t(format!("priority-{}", priority.borrow().as_str()))
    }

    /// The name of a consultation's status.
    pub fn consultation_status(&self, status: impl Borrow<ConsultationStatus>) -> String {
        self.t(format!("consultation-status-{}", status.borrow().as_str()))
    }

    /// The name of an endpoint's state.
    pub fn endpoint_state(&self, state: impl Borrow<EndpointState>) -> String {
        self.t(format!("endpoint-state-{}", state.borrow().as_str()))
    }

    /// The name of a delivery's state.
    pub fn delivery_state(&self, state: impl Borrow<DeliveryState>) -> String {
        self.t(format!("delivery-state-{}", state.borrow().as_str()))
    }

    /// What a type of event (`approval.created`), or all of a kind (`approval.*`), is called; one without a text keeps its
    /// name.
    pub fn event_type(&self, event_type: &str) -> String {
        let name = format!("event-type-{}", event_type.replace('.', "-").replace('*', "all"));
        self.texts.find(&name).unwrap_or_else(|| event_type.to_owned())
    }

    /// The name of a conversation's status.
    pub fn conversation_status(&self, status: impl Borrow<ConversationStatus>) -> String {
        self.t(format!("conversation-status-{}", status.borrow().as_str()))
    }

    /// The name of a part of the installation.
    pub(crate) fn health_part(&self, name: &str) -> String {
        self.t(format!("health-part-{name}"))
    }

    /// How a part of the installation is, in a word.
    pub(crate) fn health_verdict(&self, verdict: impl Borrow<HealthVerdict>) -> String {
        self.t(format!("health-verdict-{}", verdict.borrow().as_str()))
    }

    /// The name of a received webhook's state.
    pub fn inbox_state(&self, state: impl Borrow<InboxState>) -> String {
        self.t(format!("inbox-state-{}", state.borrow().as_str()))
    }

    /// What a received webhook's state means.
    pub(crate) fn inbox_state_detail(&self, state: impl Borrow<InboxState>) -> String {
        self.t(format!("inbox-state-{}-detail", state.borrow().as_str()))
    }

    /// What came of an attempt.
    pub(crate) fn inbox_outcome(&self, outcome: impl Borrow<InboxOutcome>) -> String {
        self.t(format!("inbox-outcome-{}", outcome.borrow().as_str()))
    }

    /// What a kind of cause, such as `poison`, is called; one without a text keeps its name.
    pub fn inbox_cause(&self, cause: &str) -> String {
        self.texts.find(&format!("inbox-cause-{cause}")).unwrap_or_else(|| cause.to_owned())
    }

    /// Whether a secret counts, in words.
    pub(crate) fn secret_state(&self, state: impl Borrow<SecretState>) -> String {
        self.t(format!("secret-state-{}", state.borrow().as_str()))
    }

    /// The name of a kind of tenant.
    pub fn tenant_kind(&self, kind: impl Borrow<TenantKind>) -> String {
        self.t(format!("tenant-kind-{}", kind.borrow().as_str()))
    }

    /// The name of a role such as `approver`; a role without a text keeps its own name.
    pub fn role(&self, role: &str) -> String {
        self.texts.find(&format!("role-{role}")).unwrap_or_else(|| role.to_owned())
    }

    /// What an audit action such as `approval.created` is called; one without a text keeps its code.
    pub fn audit_action(&self, action: &str) -> String {
        let name = format!("audit-{}", action.replace(['.', '_'], "-"));
        self.texts.find(&name).unwrap_or_else(|| action.to_owned())
    }

    /// What a field in the audit trail, such as `requestedBy`, is called; one without a text keeps its name.
    pub fn audit_field(&self, field: &str) -> String {
        self.texts.find(&format!("field-{field}")).unwrap_or_else(|| field.to_owned())
    }

    /// What a form's field is called where it stands alone, as in the summary of what is wrong.
    pub fn form_field(&self, field: &str) -> String {
        self.texts.find(&format!("form-{}", field.replace('_', "-"))).unwrap_or_else(|| field.to_owned())
    }

    /// What to say of a field with more than `limit` characters.
    pub fn too_long(&self, limit: u64) -> String {
        self.t_with("error-too-long", "limit", limit.to_string())
    }

    /// What a step in an approval's history says.
    pub fn history(&self, entry: &HistoryEntry) -> String {
        let name = match entry.kind {
            HistoryKind::Requested => "history-requested",
            HistoryKind::Approved => "history-approved",
            HistoryKind::Rejected => "history-rejected",
            HistoryKind::Cancelled => "history-cancelled",
            HistoryKind::Expired => return self.t("history-expired"),
            HistoryKind::NotePosted => return self.t("history-note-posted"),
            HistoryKind::TeamNotified => return self.t("history-team-notified"),
            HistoryKind::ConsultationCreated => return self.t("history-consultation-created"),
            HistoryKind::ConsultationStarted => "history-consultation-started",
            HistoryKind::ConsultationEnded => "history-consultation-ended",
            HistoryKind::ConsultationCancelled => "history-consultation-cancelled",
        };
        let person = entry.person.clone().unwrap_or_else(|| self.t("somebody"));
        self.t_with(name, "person", &person)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, TimeZone as _};

    use super::*;

    fn said(away: TimeDelta) -> String {
        let now = Utc.with_ymd_and_hms(2026, 7, 15, 12, 0, 0).single().expect("a time");
        Ui::new("").time(now - away, now).human
    }

    #[test]
    fn near_times_are_relative() {
        assert_eq!(said(TimeDelta::seconds(3)), "just now");
        assert_eq!(said(TimeDelta::seconds(60)), "1 minute ago");
        assert_eq!(said(TimeDelta::minutes(59)), "59 minutes ago");
        assert_eq!(said(TimeDelta::seconds(3_590)), "1 hour ago");
        assert_eq!(said(TimeDelta::hours(5)), "5 hours ago");
        assert_eq!(said(TimeDelta::minutes(-10)), "in 10 minutes");
        assert_eq!(said(TimeDelta::hours(-2)), "in 2 hours");
    }

    #[test]
    fn far_times_are_dates() {
        assert_eq!(said(TimeDelta::days(2)), "13 July at 12:00");
        assert_eq!(said(TimeDelta::days(-400)), "19 August 2027");
    }

    #[test]
    fn days_have_names() {
        let now = Utc.with_ymd_and_hms(2026, 7, 15, 0, 30, 0).single().expect("a time");
        let ui = Ui::new("");
        assert_eq!(ui.day(now, now), "Today");
        assert_eq!(ui.day(now - TimeDelta::hours(1), now), "Yesterday");
        assert_eq!(ui.day(now - TimeDelta::days(10), now), "5 July 2026");
    }

    #[test]
    fn an_unknown_audit_action_keeps_its_code() {
        assert_eq!(Ui::new("").audit_action("weather.changed"), "weather.changed");
        assert_ne!(Ui::new("").audit_action("approval.requested"), "approval.requested");
    }
}
