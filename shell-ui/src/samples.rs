//! Every page with sample data: full, empty, with errors, with long names, with other scripts and with markup in what
//! people wrote. The gallery shows them and the tests render them.

use askama::Template;
use chrono::{DateTime, TimeDelta, Utc};

use crate::pages::{
    ApprovalPage, ApprovalsPage, AuditPage, ConsultationPage, ConsultationsPage, ConversationPage,
    ConversationsPage, CookieBlockedPage, Decision, DecisionForm, DemoPage, DemoPerson, EscalateForm,
    Membership, NewApprovalPage, OverviewPage, Problem, ProblemInShell, ProblemPage, ProfilePage, SignInPage,
    SignedOutPage,
};
use crate::{
    ApprovalFilter, ApprovalRow, ApprovalStatus, AuditChange, AuditEntry, AuditFilter, Choice, Chrome,
    ConsultationRow, ConsultationStatus, ConversationContext, ConversationRow, ConversationStatus, Fact,
    FieldErrors, Flash, HistoryEntry, HistoryKind, LinkTo, Live, ModuleLink, Priority, RenderError,
    TenantKind, TenantLink, Time, Ui,
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
            ("consultation-not-invited", self.consultation_not_invited().render()?),
            ("audit", self.audit().render()?),
            ("audit-empty", self.audit_empty().render()?),
            ("audit-errors", self.audit_errors().render()?),
            ("profile", self.profile().render()?),
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
            ("demo", self.demo().render()?),
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
        let module = |id: &str, badge, external, href: String| ModuleLink {
            id: id.into(),
            name: if external { id.into() } else { self.ui.t(format!("module-{id}")) },
            icon: match id {
                "Chatwoot" => "conversations".into(),
                "Matrix" => "team-chat".into(),
                "Jitsi" => "video".into(),
                own => own.to_owned(),
            },
            href,
            current: id == current,
            badge,
            external,
        };
        Chrome {
            ui: self.ui.clone(),
            user_name: "Clara Osei".into(),
            profile_href: "profile.html".into(),
            tenant: tenant(ACME, "Acme Corp", TenantKind::Organization),
            tenants: vec![
                tenant(OWN, "Personal", TenantKind::Personal),
                tenant(ENGINEERING, "Engineering", TenantKind::Team),
                tenant(ACME, "Acme Corp", TenantKind::Organization),
            ],
            modules: vec![
                module("overview", 0, false, "overview.html".into()),
                module("conversations", 0, false, "conversations.html".into()),
                module("approvals", 3, false, "approvals.html".into()),
                module("consultations", 0, false, "consultations.html".into()),
                module("audit", 0, false, "audit.html".into()),
                module("Chatwoot", 0, true, "http://127.0.0.1:8082/".into()),
                module("Matrix", 0, true, "http://127.0.0.1:8083/".into()),
                module("Jitsi", 0, true, "http://127.0.0.1:8084/".into()),
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

    fn approval_rows(&self) -> Vec<ApprovalRow> {
        let row = |title: &str, status, priority, by: &str, minutes, contact: Option<&str>| ApprovalRow {
            id: APPROVAL.into(),
            title: title.into(),
            status,
            priority,
            requested_by: by.into(),
            created: self.ago(minutes),
            expires: (status == ApprovalStatus::Pending && priority == Priority::High)
                .then(|| self.ago(-170)),
            contact: contact.map(Into::into),
            consultation_requested: priority == Priority::High,
        };
        vec![
            row(
                "Refund of 240 € for order 1182",
                ApprovalStatus::Pending,
                Priority::High,
                "Amira Haddad",
                4,
                Some("Jonas Weber"),
            ),
            row(
                "Extend the trial of Northwind by two weeks",
                ApprovalStatus::Pending,
                Priority::Medium,
                "Amira Haddad",
                52,
                Some("Northwind Traders"),
            ),
            row(
                "Answer the press about the outage on Tuesday, with the figures that engineering has agreed to and nothing beyond them",
                ApprovalStatus::Pending,
                Priority::Low,
                "Maximiliana Freifrau von Hohenstein-Wittelsbach zu Oberammergau",
                190,
                None,
            ),
            row(
                "Replace the broken espresso machine in the office",
                ApprovalStatus::Approved,
                Priority::Low,
                "Tomás Ibarra",
                1_500,
                None,
            ),
            row(
                "تمديد العقد السنوي لمدة شهر واحد",
                ApprovalStatus::Approved,
                Priority::Medium,
                "ليلى حداد",
                2_900,
                Some("شركة النخيل"),
            ),
            row(
                "Waive the cancellation fee",
                ApprovalStatus::Rejected,
                Priority::Medium,
                "Amira Haddad",
                4_400,
                Some("Petra Lindqvist"),
            ),
            row(
                "Send a technician on Sunday",
                ApprovalStatus::Expired,
                Priority::High,
                "Amira Haddad",
                9_000,
                Some("Harbour Hotel"),
            ),
            row(
                "Offer a discount of 15 %",
                ApprovalStatus::Cancelled,
                Priority::Low,
                "Tomás Ibarra",
                12_000,
                Some("Blue Fjord Ltd"),
            ),
        ]
    }

    fn consultation_rows(&self) -> Vec<ConsultationRow> {
        let row = |title: &str, status, host: &str, participants, minutes| ConsultationRow {
            id: CONSULTATION.into(),
            title: title.into(),
            status,
            host: host.into(),
            participants,
            at: self.ago(minutes),
        };
        vec![
            row("Refund of 240 € for order 1182", ConsultationStatus::Active, "Clara Osei", 2, 6),
            row(
                "Extend the trial of Northwind by two weeks",
                ConsultationStatus::Scheduled,
                "Clara Osei",
                4,
                -95,
            ),
            row("Prices for next year", ConsultationStatus::Ended, "Tomás Ibarra", 1, 3_100),
            row("Waive the cancellation fee", ConsultationStatus::Cancelled, "Clara Osei", 2, 4_300),
        ]
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

    fn conversations(&self) -> ConversationsPage {
        let row = |number, contact: &str, status, labels: &[&str], message: &str, minutes, pending| {
            ConversationRow {
                id: CONVERSATION.into(),
                display_id: number,
                contact: contact.into(),
                inbox: "Website".into(),
                status,
                labels: labels.iter().map(|label| (*label).to_owned()).collect(),
                last_message: message.into(),
                last_message_at: Some(self.ago(minutes)),
                approval_pending: pending,
            }
        };
        ConversationsPage {
            chrome: self.chrome("conversations"),
            status: None,
            conversations: vec![
                row(
                    1_182,
                    "Jonas Weber",
                    ConversationStatus::Open,
                    &["refund", "vip"],
                    "The parcel arrived crushed, and the second one too. I would like my 240 € back, please, and not a third parcel.",
                    4,
                    true,
                ),
                row(
                    1_181,
                    "Northwind Traders",
                    ConversationStatus::Pending,
                    &["trial"],
                    "Two more weeks would help us a lot.",
                    52,
                    false,
                ),
                row(
                    1_177,
                    "شركة النخيل",
                    ConversationStatus::Snoozed,
                    &[],
                    "شكراً جزيلاً، سنعود إليكم غداً",
                    300,
                    false,
                ),
                row(
                    1_160,
                    "a-very-long-unbroken-contact-name-that-some-import-has-made@example-of-a-long-domain.example.org",
                    ConversationStatus::Resolved,
                    &["a-label-that-is-longer-than-one-would-like", "billing", "second-line"],
                    "Thanks!",
                    4_000,
                    false,
                ),
                row(1_159, MARKUP, ConversationStatus::Open, &["<i>"], MARKUP, 5_000, false),
            ],
            older_href: Some("?cursor=abc".into()),
            newest_href: None,
        }
    }

    fn conversations_empty(&self, status: Option<ConversationStatus>) -> ConversationsPage {
        ConversationsPage {
            chrome: self.quiet_chrome("conversations"),
            status,
            conversations: Vec::new(),
            older_href: None,
            newest_href: None,
        }
    }

    fn conversation(&self, escalate: Option<EscalateForm>) -> ConversationPage {
        ConversationPage {
            chrome: self.chrome("conversations"),
            id: CONVERSATION.into(),
            display_id: 1_182,
            contact: "Jonas Weber".into(),
            contact_detail: Some("jonas.weber@example.org".into()),
            inbox: "Website".into(),
            status: ConversationStatus::Open,
            labels: vec!["refund".into(), "vip".into()],
            last_message: "The parcel arrived crushed, and the second one too.\nI would like my 240 € back, please, and not a third parcel.".into(),
            last_message_at: Some(self.ago(4)),
            open_href: Some("http://127.0.0.1:8082/app/accounts/1/conversations/1182".into()),
            approvals: self.approval_rows().into_iter().filter(|row| row.status == ApprovalStatus::Rejected).collect(),
            escalate,
        }
    }

    fn escalate_errors(&self) -> EscalateForm {
        EscalateForm {
            title: "Refund for Jonas".into(),
            priority: Priority::High,
            consultation_requested: true,
            errors: FieldErrors::default()
                .with("reason", self.ui.t("error-required"))
                .with("title", self.ui.too_long(200)),
            ..EscalateForm::default()
        }
    }

    fn conversation_blocked(&self) -> ConversationPage {
        let mut page = self.conversation(Some(EscalateForm {
            blocked: Some(self.ui.t("blocked-already-pending")),
            ..EscalateForm::default()
        }));
        page.chrome.flash = Flash::from_code(&self.ui, "escalated");
        page.approvals = self.approval_rows().into_iter().take(1).collect();
        page
    }

    fn conversation_markup(&self) -> ConversationPage {
        let mut page = self.conversation(Some(EscalateForm {
            reason: format!("</textarea>{MARKUP}"),
            title: format!("\"><img src=x>{MARKUP}"),
            ..EscalateForm::default()
        }));
        page.chrome.user_name = MARKUP.into();
        page.chrome.tenant.name = MARKUP.into();
        page.contact = MARKUP.into();
        page.contact_detail = None;
        page.inbox = MARKUP.into();
        page.labels = vec![MARKUP.into()];
        page.last_message = MARKUP.into();
        page.approvals = Vec::new();
        page
    }

    fn approvals(&self) -> ApprovalsPage {
        ApprovalsPage {
            chrome: self.chrome("approvals"),
            filter: ApprovalFilter::default(),
            approvals: self.approval_rows(),
            older_href: Some("?cursor=abc".into()),
            newest_href: Some("approvals.html".into()),
            may_request: true,
        }
    }

    fn approvals_empty(&self, filter: ApprovalFilter, may_request: bool) -> ApprovalsPage {
        ApprovalsPage {
            chrome: self.quiet_chrome("approvals"),
            filter,
            approvals: Vec::new(),
            older_href: None,
            newest_href: None,
            may_request,
        }
    }

    fn approval_new(&self, errors: FieldErrors, blocked: Option<String>) -> NewApprovalPage {
        NewApprovalPage {
            chrome: self.chrome("approvals"),
            title: String::new(),
            description: String::new(),
            priority: Priority::Medium,
            expires_in_hours: String::new(),
            consultation_requested: false,
            blocked,
            errors,
        }
    }

    fn approval_new_errors(&self) -> NewApprovalPage {
        NewApprovalPage {
            description: format!("Kept as it was typed: {MARKUP}"),
            priority: Priority::High,
            expires_in_hours: "24".into(),
            consultation_requested: true,
            ..self.approval_new(FieldErrors::default().with("title", self.ui.t("error-required")), None)
        }
    }

    fn approval(&self) -> ApprovalPage {
        ApprovalPage {
            chrome: self.chrome("approvals"),
            id: APPROVAL.into(),
            title: "Refund of 240 € for order 1182".into(),
            description: "Two parcels in a row arrived crushed, so Jonas would like his money back instead of a third one.\n\nI suggest that we refund the full amount and keep the carrier’s report for our own claim. He has been with us for six years and is polite about it.".into(),
            status: ApprovalStatus::Pending,
            priority: Priority::High,
            requested_by: "Amira Haddad".into(),
            decided_by: None,
            comment: None,
            consultation_requested: true,
            created: self.ago(4),
            decided: None,
            expires: Some(self.ago(-170)),
            version: 1,
            conversation: Some(ConversationContext {
                contact: "Jonas Weber".into(),
                inbox: "Website".into(),
                display_id: 1_182,
                status: ConversationStatus::Open,
                last_message: "The parcel arrived crushed, and the second one too. I would like my 240 € back, please, and not a third parcel.".into(),
                last_message_at: Some(self.ago(6)),
                href: "conversation.html".into(),
                open_href: Some("http://127.0.0.1:8082/app/accounts/1/conversations/1182".into()),
            }),
            consultation: None,
            metadata: vec![
                Fact { name: "order".into(), value: "1182".into() },
                Fact { name: "amount".into(), value: "240.00 EUR".into() },
            ],
            history: vec![self.step(HistoryKind::Requested, Some("Amira Haddad"), 4, None)],
            decision: Decision::Open(DecisionForm { consultation: true, ..DecisionForm::default() }),
            may_cancel: false,
        }
    }

    fn step(
        &self,
        kind: HistoryKind,
        person: Option<&str>,
        minutes: i64,
        note: Option<&str>,
    ) -> HistoryEntry {
        HistoryEntry {
            kind,
            person: person.map(Into::into),
            at: self.ago(minutes),
            note: note.map(Into::into),
        }
    }

    fn approval_errors(&self) -> ApprovalPage {
        let mut page = self.approval();
        page.decision = Decision::Open(DecisionForm {
            comment: "Kept as it was typed.".into(),
            consultation: false,
            errors: FieldErrors::default().with("comment", self.ui.t("error-characters")),
        });
        page
    }

    fn approval_own(&self) -> ApprovalPage {
        let mut page = self.approval();
        page.chrome.flash = Flash::from_code(&self.ui, "requested");
        page.requested_by = "Clara Osei".into();
        page.decision = Decision::Blocked(self.ui.t("blocked-own-request"));
        page.may_cancel = true;
        page.description = String::new();
        page.metadata = Vec::new();
        page
    }

    fn approval_approved(&self) -> ApprovalPage {
        let mut page = self.approval();
        page.chrome.flash = Flash::from_code(&self.ui, "approved");
        page.status = ApprovalStatus::Approved;
        page.decided_by = Some("Clara Osei".into());
        page.decided = Some(self.ago(0));
        page.comment = Some("Yes, in full. Let us talk about the carrier.".into());
        page.consultation = Some(LinkTo {
            title: "Refund of 240 € for order 1182".into(),
            href: "consultation-scheduled.html".into(),
        });
        page.decision = Decision::Closed;
        page.history.extend([
            self.step(
                HistoryKind::Approved,
                Some("Clara Osei"),
                0,
                Some("Yes, in full. Let us talk about the carrier."),
            ),
            self.step(HistoryKind::ConsultationCreated, None, 0, None),
            self.step(HistoryKind::NotePosted, None, 0, None),
            self.step(HistoryKind::TeamNotified, None, 0, None),
            self.step(HistoryKind::ConsultationStarted, Some("Clara Osei"), 0, None),
            self.step(HistoryKind::ConsultationEnded, Some("Clara Osei"), 0, None),
        ]);
        page
    }

    fn approval_rejected(&self) -> ApprovalPage {
        let mut page = self.approval();
        page.chrome.flash = Flash::from_code(&self.ui, "already-decided");
        page.status = ApprovalStatus::Rejected;
        page.decided_by = Some("Tomás Ibarra".into());
        page.decided = Some(self.ago(1));
        page.comment = Some("Not before the carrier’s report is here.".into());
        page.decision = Decision::Closed;
        page.history.push(self.step(
            HistoryKind::Rejected,
            Some("Tomás Ibarra"),
            1,
            Some("Not before the carrier’s report is here."),
        ));
        page
    }

    fn approval_expired(&self) -> ApprovalPage {
        let mut page = self.approval();
        page.status = ApprovalStatus::Expired;
        page.decided = Some(self.ago(30));
        page.conversation = None;
        page.decision = Decision::Closed;
        page.history.push(self.step(HistoryKind::Expired, None, 30, None));
        page
    }

    fn approval_markup(&self) -> ApprovalPage {
        let mut page = self.approval();
        page.title = MARKUP.into();
        page.description = format!("{MARKUP}\n{}", "unbroken".repeat(40));
        page.requested_by = MARKUP.into();
        page.metadata = vec![Fact { name: MARKUP.into(), value: MARKUP.into() }];
        page.history = vec![
            self.step(HistoryKind::Requested, Some(MARKUP), 9, Some(MARKUP)),
            self.step(HistoryKind::Cancelled, None, 2, None),
        ];
        page
    }

    fn consultations(&self) -> ConsultationsPage {
        let (upcoming, past) = self.consultation_rows().into_iter().partition(|row| {
            matches!(row.status, ConsultationStatus::Active | ConsultationStatus::Scheduled)
        });
        ConsultationsPage { chrome: self.chrome("consultations"), upcoming, past, older_href: None }
    }

    fn consultations_empty(&self) -> ConsultationsPage {
        ConsultationsPage {
            chrome: self.quiet_chrome("consultations"),
            upcoming: Vec::new(),
            past: Vec::new(),
            older_href: None,
        }
    }

    fn consultation(&self, status: ConsultationStatus) -> ConsultationPage {
        let over = matches!(status, ConsultationStatus::Ended | ConsultationStatus::Cancelled);
        ConsultationPage {
            chrome: self.chrome("consultations"),
            id: CONSULTATION.into(),
            title: "Refund of 240 € for order 1182".into(),
            status,
            host: "Clara Osei".into(),
            participants: if over {
                Vec::new()
            } else {
                vec!["Amira Haddad".into(), "ليلى حداد".into()]
            },
            scheduled: Some(self.ago(-10)),
            started: (status != ConsultationStatus::Scheduled).then(|| self.ago(6)),
            ended: over.then(|| self.ago(1)),
            approval: Some(LinkTo {
                title: "Refund of 240 € for order 1182".into(),
                href: "approval-approved.html".into(),
            }),
            may_start: status == ConsultationStatus::Scheduled,
            may_end: status == ConsultationStatus::Active,
            may_join: !over,
            join_blocked: None,
        }
    }

    fn consultation_not_invited(&self) -> ConsultationPage {
        ConsultationPage {
            may_end: false,
            may_join: false,
            join_blocked: Some(self.ui.t("blocked-not-invited")),
            ..self.consultation(ConsultationStatus::Active)
        }
    }

    fn audit(&self) -> AuditPage {
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
            metadata: vec![Fact {
                name: "Request".into(),
                value: "01981f3c-55aa-7000-8000-00000000beef".into(),
            }],
        };
        AuditPage {
            chrome: self.chrome("audit"),
            filter: AuditFilter { from: "2026-10-01".into(), ..AuditFilter::default() },
            errors: FieldErrors::default(),
            actions: ["approval.created", "approval.approved", "approval.rejected", "consultation.created"]
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
                    "approval.created",
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
                entry(6, "session.started", "Amira Haddad", "", 4_401, &[]),
            ],
            older_href: Some("?cursor=abc".into()),
            newest_href: None,
        }
    }

    fn audit_empty(&self) -> AuditPage {
        AuditPage {
            chrome: self.quiet_chrome("audit"),
            filter: AuditFilter::default(),
            entries: Vec::new(),
            older_href: None,
            ..self.audit()
        }
    }

    fn audit_errors(&self) -> AuditPage {
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

    fn profile(&self) -> ProfilePage {
        ProfilePage {
            chrome: self.chrome(""),
            user_name: "acme-ceo".into(),
            mail: Some("clara.osei@example.org".into()),
            account_href: Some("http://127.0.0.1:8081/realms/chancery/account".into()),
            memberships: vec![
                Membership {
                    name: "Personal".into(),
                    kind: TenantKind::Personal,
                    path: String::new(),
                    roles: vec!["owner".into()],
                    href: format!("/app/t/{OWN}"),
                },
                Membership {
                    name: "Engineering".into(),
                    kind: TenantKind::Team,
                    path: "/teams/engineering".into(),
                    roles: vec!["member".into(), "approver".into(), "night-watch".into()],
                    href: format!("/app/t/{ENGINEERING}"),
                },
                Membership {
                    name: "Acme Corp".into(),
                    kind: TenantKind::Organization,
                    path: "/organizations/acme-corp".into(),
                    roles: Vec::new(),
                    href: format!("/app/t/{ACME}"),
                },
            ],
        }
    }

    fn problem_of(&self, status: u16) -> Problem {
        Problem::for_status(&self.ui, status, Some("01981f3c-55aa-7000-8000-00000000beef".into()))
    }

    fn problem(&self, status: u16) -> ProblemPage {
        ProblemPage { ui: self.ui.clone(), problem: self.problem_of(status) }
    }

    fn problem_in_shell(&self) -> ProblemInShell {
        ProblemInShell { chrome: self.chrome(""), problem: self.problem_of(403) }
    }

    fn sign_in(&self, problem: Option<String>) -> SignInPage {
        SignInPage {
            ui: self.ui.clone(),
            login_href: "/auth/login?return_to=%2Fapp%2Fapprovals".into(),
            problem,
        }
    }

    fn demo(&self) -> DemoPage {
        let person = |user_name: &str, name: &str, role: &str, description: &str, host: &str| DemoPerson {
            user_name: user_name.into(),
            name: name.into(),
            role: role.into(),
            description: description.into(),
            href: format!("http://{host}:8080/app"),
        };
        DemoPage {
            ui: self.ui.clone(),
            people: vec![
                person(
                    "acme-agent",
                    "Amira Haddad",
                    "Agent of Acme Corp",
                    "Answers customers, and asks when a decision is not hers to make.",
                    "127.0.0.1",
                ),
                person(
                    "acme-ceo",
                    "Clara Osei",
                    "Approver of Acme Corp and Engineering",
                    "Sees what waits, and decides.",
                    "localhost",
                ),
                person(
                    "acme-viewer",
                    "Tomás Ibarra",
                    "Viewer of Acme Corp",
                    "May look at everything, and change nothing.",
                    "acme-viewer.localhost",
                ),
                person(
                    "engineer",
                    "Edda Lind",
                    "Agent of Engineering",
                    "Asks on behalf of another team.",
                    "engineer.localhost",
                ),
                person(
                    "suite-admin",
                    "Sam Okafor",
                    "Runs the suite",
                    "Keeps everything in good health.",
                    "suite-admin.localhost",
                ),
                person(
                    "outsider",
                    "Oskar Novak",
                    "Of Globex only",
                    "Sees nothing of Acme Corp: try one of its links.",
                    "outsider.localhost",
                ),
            ],
            agent_href: "http://127.0.0.1:8080/app".into(),
            ceo_href: "http://localhost:8080/app".into(),
            chatwoot_href: "http://127.0.0.1:8082/".into(),
            matrix_href: "http://127.0.0.1:8083/".into(),
            jitsi_href: "http://127.0.0.1:8084/".into(),
            keycloak_href: Some("http://127.0.0.1:8081/".into()),
        }
    }
}
