//! Received webhooks and their sources.

use super::{Choice, Fact, FieldErrors, Flash, MARKUP, Samples};
use crate::pages::{InboxEventPage, InboxPage, InboxReplayPage, SourceNewPage, SourcePage, SourcesPage};
use crate::{
    InboxAttempt, InboxEffect, InboxFilter, InboxOutcome, InboxRow, InboxState, MappingRow, OnceShown,
    SecretRow, SecretState, SourceRow,
};

const EVENT: &str = "01981f40-1111-7000-8000-00000000c0de";
const SOURCE: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";

impl Samples {
    fn inbox_row(
        &self,
        kind: &str,
        subject: &str,
        source: &str,
        state: InboxState,
        minutes: i64,
    ) -> InboxRow {
        let failed = matches!(state, InboxState::Retrying | InboxState::Dead);
        InboxRow {
            id: EVENT.into(),
            kind: kind.into(),
            subject: subject.into(),
            source: source.into(),
            state,
            received: self.ago(minutes),
            duplicates: u64::from(state == InboxState::Done) * 2,
            attempts: u64::from(failed) * 3,
            error: failed.then(|| "the database refused: deadlock detected".into()),
            next: (state == InboxState::Retrying).then(|| self.ago(-2)),
        }
    }

    pub(super) fn inbox(&self) -> InboxPage {
        let row = |kind: &str, subject: &str, source: &str, state, minutes| {
            self.inbox_row(kind, subject, source, state, minutes)
        };
        InboxPage {
            chrome: self.chrome("inbox"),
            filter: InboxFilter::default(),
            errors: FieldErrors::default(),
            sources: vec![Choice { value: SOURCE.into(), label: "Chatwoot of the shop".into() }],
            rows: vec![
                row("message_created", "conversation/1182", "Chatwoot of the shop", InboxState::Pending, 0),
                row("message_created", "conversation/1182", "Chatwoot of the shop", InboxState::Parked, 1),
                row(
                    "conversation_updated",
                    "conversation/1182",
                    "Chatwoot of the shop",
                    InboxState::Retrying,
                    2,
                ),
                row("push", "acme/shop", "GitHub", InboxState::Dead, 14),
                row("m.room.message", "!Nhl3rVlWVkPPvVtCcD:example.org", "Matrix", InboxState::Done, 70),
                row("invoice.payment_failed", "in_1NqLvN2eZvKYlo2C", "Stripe", InboxState::Replaying, 200),
                row(&"unbroken".repeat(20), MARKUP, MARKUP, InboxState::Discarded, 1_500),
            ],
            dead: 2,
            replay_href: Some("inbox-replay.html".into()),
            may_see_sources: true,
            older_href: Some("?cursor=abc".into()),
            newest_href: None,
        }
    }

    pub(super) fn inbox_dead(&self) -> InboxPage {
        let mut page = self.inbox();
        page.filter.state = Some(InboxState::Dead);
        page.rows.retain(|row| row.state == InboxState::Dead);
        page
    }

    pub(super) fn inbox_empty(&self, filter: InboxFilter) -> InboxPage {
        let errors = if filter.from.is_empty() {
            FieldErrors::default()
        } else {
            FieldErrors::default().with("to", self.ui.t("error-date-order"))
        };
        InboxPage {
            chrome: self.quiet_chrome("inbox"),
            filter,
            errors,
            rows: Vec::new(),
            dead: 0,
            older_href: None,
            ..self.inbox()
        }
    }

    pub(super) fn inbox_event(&self) -> InboxEventPage {
        InboxEventPage {
            chrome: self.chrome("inbox"),
            id: EVENT.into(),
            kind: "message_created".into(),
            subject: "conversation/1182".into(),
            source: "Chatwoot of the shop".into(),
            source_href: Some("source.html".into()),
            service: "chatwoot".into(),
            state: InboxState::Done,
            received: self.ago(14),
            occurred: Some(self.ago(15)),
            delivery: Some("0f0c6f6e-7d0a-4d6f-8f6a-1d3f5c3f9a11".into()),
            duplicates: 2,
            last_duplicate: Some(self.ago(3)),
            processed: Some(self.ago(13)),
            runs: 2,
            cause: None,
            error: None,
            next: None,
            discard_reason: None,
            discarded_by: None,
            headers: [
                ("content-type", "application/json"),
                ("user-agent", "rest-client/2.1.0 (linux x86_64)"),
                ("x-chatwoot-signature", "•••"),
            ]
            .map(|(name, value)| Fact { name: name.into(), value: value.into() })
            .into(),
            body: Some(format!(
                "{{\n  \"event\": \"message_created\",\n  \"content\": \"The parcel arrived crushed. {}\",\n  \"pubsub_token\": \"•••\"\n}}",
                MARKUP.replace('"', "\\\"")
            )),
            bytes: 812,
            masked: 1,
            attempts: vec![
                InboxAttempt { outcome: InboxOutcome::Done, at: self.ago(13), replay: true, error: None },
                InboxAttempt {
                    outcome: InboxOutcome::Dead,
                    at: self.ago(14),
                    replay: false,
                    error: Some("the event can’t be read: missing field `id`".into()),
                },
            ],
            effects: vec![
                InboxEffect {
                    text: self.ui.t("inbox-effect-conversation"),
                    href: Some("conversation.html".into()),
                },
                InboxEffect {
                    text: self.ui.t_with("inbox-effect-job", "job", "conversations.escalate_note"),
                    href: None,
                },
            ],
            may_replay: true,
            may_discard: false,
            reason: String::new(),
            errors: FieldErrors::default(),
        }
    }

    pub(super) fn inbox_event_dead(&self) -> InboxEventPage {
        InboxEventPage {
            state: InboxState::Dead,
            processed: None,
            runs: 0,
            cause: Some(self.ui.inbox_cause("poison")),
            error: Some("the event can’t be read: missing field `id`".into()),
            attempts: self.inbox_event().attempts.into_iter().skip(1).collect(),
            effects: Vec::new(),
            may_discard: true,
            reason: "Kept as it was typed.".into(),
            errors: FieldErrors::default().with("reason", self.ui.too_long(500)),
            ..self.inbox_event()
        }
    }

    pub(super) fn inbox_event_discarded(&self) -> InboxEventPage {
        let mut page = self.inbox_event();
        page.chrome.flash = Flash::from_code(&self.ui, "inbox-discarded");
        page.state = InboxState::Discarded;
        page.discard_reason = Some(MARKUP.into());
        page.discarded_by = Some("Clara Osei".into());
        page.body = None;
        page.effects = Vec::new();
        page.runs = 0;
        page.headers = Vec::new();
        page
    }

    pub(super) fn inbox_replay(&self, count: u64, most: Option<u64>) -> InboxReplayPage {
        let fact = |name: &str, value: String| Fact { name: self.ui.t(name), value };
        InboxReplayPage {
            chrome: self.chrome("inbox"),
            filter: InboxFilter { state: Some(InboxState::Dead), ..InboxFilter::default() },
            described: vec![
                fact("status", self.ui.inbox_state(InboxState::Dead)),
                fact("inbox-source", "GitHub".into()),
                fact("inbox-replay-until", self.ago(0).full),
            ],
            count,
            most,
            until: "2026-10-14T13:46:40Z".into(),
            changed: most.is_none() && count == 0,
            back_href: "inbox.html".into(),
        }
    }

    fn source_row(&self, name: &str, service: &str, scheme: &str, active: bool, day: u64) -> SourceRow {
        SourceRow {
            id: SOURCE.into(),
            name: name.into(),
            service: service.into(),
            scheme: scheme.into(),
            active,
            last_hour: day / 20,
            last_day: day,
            last: (day > 0).then(|| self.ago(7)),
            dead: u64::from(service == "github") * 2,
        }
    }

    pub(super) fn sources(&self) -> SourcesPage {
        SourcesPage {
            chrome: self.chrome("inbox"),
            rows: vec![
                self.source_row("Chatwoot of the shop", "chatwoot", "Chatwoot", true, 4_182),
                self.source_row("GitHub", "github", "GitHub", true, 31),
                self.source_row(MARKUP, "a-long-name-of-a-service-of-forty-letter", "HMAC", false, 0),
            ],
            may_manage: true,
            older_href: None,
            newest_href: None,
        }
    }

    pub(super) fn sources_empty(&self) -> SourcesPage {
        SourcesPage {
            chrome: self.quiet_chrome("inbox"),
            rows: Vec::new(),
            may_manage: false,
            ..self.sources()
        }
    }

    pub(super) fn source(&self) -> SourcePage {
        let secret = |challenge, state, minutes, until: Option<i64>| SecretRow {
            id: SOURCE.into(),
            challenge,
            state,
            created: self.ago(minutes),
            until: until.map(|minutes| self.ago(minutes)),
        };
        SourcePage {
            chrome: self.chrome("inbox"),
            row: self.source_row("GitHub", "github", "GitHub", true, 31),
            events_href: "inbox.html".into(),
            dead_href: "inbox-dead.html".into(),
            url: format!("https://chancery.example.org/api/v1/webhooks/github/{SOURCE}"),
            account: Some("acme".into()),
            scheme_settings: "{\n  \"type\": \"preset\",\n  \"name\": \"github\"\n}".into(),
            limit: Some(self.ui.t_with_all("source-limit-said", &[("requests", "600"), ("seconds", "60")])),
            mappings: None,
            secrets: vec![
                secret(false, SecretState::Current, 3, None),
                secret(true, SecretState::Ending, 40_000, Some(-1_400)),
                secret(false, SecretState::Ended, 90_000, Some(300)),
            ],
            once: Vec::new(),
            created: self.ago(90_000),
            may_manage: true,
            makes_secrets: true,
            has_challenge: true,
            graces: ["0", "3600", "86400", "604800", "2592000"]
                .map(|value| Choice {
                    value: value.into(),
                    label: self.ui.t(format!("source-grace-{value}")),
                })
                .into(),
            name: "GitHub".into(),
            limit_requests: "600".into(),
            limit_seconds: "60".into(),
            version: 3,
            errors: FieldErrors::default(),
        }
    }

    pub(super) fn source_once(&self) -> SourcePage {
        let shown = |challenge, value: &str| OnceShown { challenge, value: value.into() };
        SourcePage {
            once: vec![
                shown(false, "8a6d0f5f4c1f4e6a9b1f0d7c2e3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c"),
                shown(true, "0d7c2e3a4b5c6d7e"),
            ],
            ..self.source()
        }
    }

    pub(super) fn source_errors(&self) -> SourcePage {
        SourcePage {
            row: self.source_row(MARKUP, "github", "GitHub", false, 0),
            secrets: Vec::new(),
            makes_secrets: false,
            has_challenge: false,
            limit: None,
            account: None,
            name: "x".repeat(201),
            errors: FieldErrors::default()
                .with("name", self.ui.too_long(200))
                .with("secret", self.ui.t("error-secret-needed"))
                .with("limit_seconds", self.ui.t_with_all("error-number", &[("from", "1"), ("to", "86400")])),
            ..self.source()
        }
    }

    pub(super) fn source_viewed(&self) -> SourcePage {
        let mapping = |inbox: Option<&str>, tenant: &str| MappingRow {
            inbox: inbox.map(str::to_owned),
            tenant: tenant.into(),
        };
        let mappings = vec![mapping(Some("3"), "/organizations/acme-corp"), mapping(None, MARKUP)];
        SourcePage { may_manage: false, mappings: Some(mappings), ..self.source() }
    }

    pub(super) fn source_new(&self) -> SourceNewPage {
        SourceNewPage {
            chrome: self.chrome("inbox"),
            schemes: [
                ("github", "GitHub"),
                ("standard-webhooks", "Standard Webhooks"),
                ("chatwoot", "Chatwoot"),
            ]
            .map(|(value, label)| Choice { value: value.into(), label: label.into() })
            .into(),
            scheme: "github".into(),
            service: String::new(),
            name: String::new(),
            account: String::new(),
            settings: String::new(),
            limit_requests: String::new(),
            limit_seconds: String::new(),
            errors: FieldErrors::default(),
        }
    }

    pub(super) fn source_new_errors(&self) -> SourceNewPage {
        SourceNewPage {
            scheme: "chatwoot".into(),
            service: "Chat woot".into(),
            settings: "{\"type\": \"hmac\"".into(),
            errors: FieldErrors::default()
                .with("service", self.ui.t("error-service"))
                .with("account", self.ui.t("error-account-needed"))
                .with("settings", self.ui.t("error-json"))
                .with(
                    "limit_requests",
                    self.ui.t_with_all("error-number", &[("from", "1"), ("to", "1000000")]),
                ),
            ..self.source_new()
        }
    }
}
