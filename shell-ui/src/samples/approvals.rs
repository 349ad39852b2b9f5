//! Approvals.

use super::{
    APPROVAL, ApprovalFilter, ApprovalPage, ApprovalRow, ApprovalStatus, ApprovalsPage, ConversationContext,
    ConversationStatus, Decision, DecisionForm, Fact, FieldErrors, Flash, HistoryEntry, HistoryKind, LinkTo,
    MARKUP, NewApprovalPage, Priority, Samples,
};

impl Samples {
    pub(super) fn approval_rows(&self) -> Vec<ApprovalRow> {
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

    pub(super) fn approvals(&self) -> ApprovalsPage {
        ApprovalsPage {
            chrome: self.chrome("approvals"),
            filter: ApprovalFilter::default(),
            approvals: self.approval_rows(),
            older_href: Some("?cursor=abc".into()),
            newest_href: Some("approvals.html".into()),
            may_request: true,
        }
    }

    pub(super) fn approvals_empty(&self, filter: ApprovalFilter, may_request: bool) -> ApprovalsPage {
        ApprovalsPage {
            chrome: self.quiet_chrome("approvals"),
            filter,
            approvals: Vec::new(),
            older_href: None,
            newest_href: None,
            may_request,
        }
    }

    pub(super) fn approval_new(&self, errors: FieldErrors, blocked: Option<String>) -> NewApprovalPage {
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

    pub(super) fn approval_new_errors(&self) -> NewApprovalPage {
        NewApprovalPage {
            description: format!("Kept as it was typed: {MARKUP}"),
            priority: Priority::High,
            expires_in_hours: "24".into(),
            consultation_requested: true,
            ..self.approval_new(FieldErrors::default().with("title", self.ui.t("error-required")), None)
        }
    }

    pub(super) fn approval(&self) -> ApprovalPage {
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
                opens: true,
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

    pub(super) fn step(
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

    pub(super) fn approval_errors(&self) -> ApprovalPage {
        let mut page = self.approval();
        page.decision = Decision::Open(DecisionForm {
            comment: "Kept as it was typed.".into(),
            consultation: false,
            errors: FieldErrors::default().with("comment", self.ui.t("error-characters")),
        });
        page
    }

    pub(super) fn approval_own(&self) -> ApprovalPage {
        let mut page = self.approval();
        page.chrome.flash = Flash::from_code(&self.ui, "requested");
        page.requested_by = "Clara Osei".into();
        page.decision = Decision::Blocked(self.ui.t("blocked-own-request"));
        page.may_cancel = true;
        page.description = String::new();
        page.metadata = Vec::new();
        page
    }

    pub(super) fn approval_approved(&self) -> ApprovalPage {
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

    pub(super) fn approval_rejected(&self) -> ApprovalPage {
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

    pub(super) fn approval_expired(&self) -> ApprovalPage {
        let mut page = self.approval();
        page.status = ApprovalStatus::Expired;
        page.decided = Some(self.ago(30));
        page.conversation = None;
        page.decision = Decision::Closed;
        page.history.push(self.step(HistoryKind::Expired, None, 30, None));
        page
    }

    pub(super) fn approval_markup(&self) -> ApprovalPage {
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
}
