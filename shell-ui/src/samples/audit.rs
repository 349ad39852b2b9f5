//! The audit trail.

use super::{
    AuditChange, AuditEntry, AuditFilter, AuditPage, Choice, Fact, FieldErrors, MARKUP, Samples, TimeDelta,
};

impl Samples {
    pub(super) fn audit(&self) -> AuditPage {
        let entry = |number: u8,
                     action: &str,
                     person: &str,
                     resource: &str,
                     minutes: i64,
                     changes: &[(&str, Option<&str>, Option<&str>)]| AuditEntry {
            id: format!("01981f3c-0000-7000-8000-0000000000{number:02}"),
            action: action.into(),
            person: person.into(),
            resource: resource.into(),
            resource_href: action.starts_with("approval").then(|| "approval.html".into()),
            at: self.ago(minutes),
            day: self.ui.day(self.now - TimeDelta::minutes(minutes), self.now),
            changes: changes
                .iter()
                .map(|(field, old, new)| AuditChange {
                    field: (*field).into(),
                    old: old.map(Into::into),
                    new: new.map(Into::into),
                })
                .collect(),
            metadata: [("means", self.ui.t("audit-means-session")), ("acr", "2".to_owned())]
                .map(|(name, value)| Fact { name: self.ui.audit_field(name), value })
                .into(),
        };
        AuditPage {
            chrome: self.chrome("audit"),
            filter: AuditFilter { from: "2026-10-01".into(), ..AuditFilter::default() },
            errors: FieldErrors::default(),
            actions: ["approval.requested", "approval.approved", "approval.rejected", "consultation.created"]
                .iter()
                .map(|action| Choice { value: (*action).into(), label: self.ui.audit_action(action) })
                .collect(),
            people: vec![
                Choice { value: "1".into(), label: "Amira Haddad".into() },
                Choice { value: "2".into(), label: "Clara Osei".into() },
            ],
            entries: vec![
                entry(
                    1,
                    "consultation.created",
                    "Clara Osei",
                    "Refund of 240 € for order 1182",
                    1,
                    &[("status", None, Some("scheduled")), ("hostId", None, Some("Clara Osei"))],
                ),
                entry(
                    2,
                    "approval.approved",
                    "Clara Osei",
                    "Refund of 240 € for order 1182",
                    1,
                    &[
                        ("status", Some("pending"), Some("approved")),
                        ("comment", None, Some("Yes, in full. Let us talk about the carrier.")),
                        ("version", Some("1"), Some("2")),
                    ],
                ),
                entry(
                    3,
                    "approval.requested",
                    "Amira Haddad",
                    "Refund of 240 € for order 1182",
                    4,
                    &[
                        ("title", None, Some("Refund of 240 € for order 1182")),
                        ("priority", None, Some("high")),
                    ],
                ),
                entry(
                    4,
                    "approval.expired",
                    "Expiry job",
                    "Send a technician on Sunday",
                    1_500,
                    &[("status", Some("pending"), Some("expired"))],
                ),
                entry(5, "weather.changed", MARKUP, MARKUP, 4_400, &[(MARKUP, Some(MARKUP), Some(MARKUP))]),
                entry(6, "principal.added", "Amira Haddad", "", 4_401, &[]),
            ],
            older_href: Some("?cursor=abc".into()),
            newest_href: None,
        }
    }

    pub(super) fn audit_empty(&self) -> AuditPage {
        AuditPage {
            chrome: self.quiet_chrome("audit"),
            filter: AuditFilter::default(),
            entries: Vec::new(),
            older_href: None,
            ..self.audit()
        }
    }

    pub(super) fn audit_errors(&self) -> AuditPage {
        AuditPage {
            filter: AuditFilter {
                from: "2026-10-09".into(),
                to: "2026-10-01".into(),
                ..AuditFilter::default()
            },
            errors: FieldErrors::default().with("to", self.ui.t("error-date-order")),
            entries: Vec::new(),
            older_href: None,
            ..self.audit()
        }
    }
}
