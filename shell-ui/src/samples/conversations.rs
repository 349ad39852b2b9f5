//! Conversations.

use super::{
    ApprovalStatus, CONVERSATION, ConversationPage, ConversationRow, ConversationStatus, ConversationsPage,
    EmbedPage, EmbedPanel, EmbedShown, EscalateForm, FieldErrors, Flash, MARKUP, Priority, Samples,
};

impl Samples {
    pub(super) fn conversations(&self) -> ConversationsPage {
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

    pub(super) fn conversations_empty(&self, status: Option<ConversationStatus>) -> ConversationsPage {
        ConversationsPage {
            chrome: self.quiet_chrome("conversations"),
            status,
            conversations: Vec::new(),
            older_href: None,
            newest_href: None,
        }
    }

    pub(super) fn conversation(&self, escalate: Option<EscalateForm>) -> ConversationPage {
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
            opens: true,
            approvals: self.approval_rows().into_iter().filter(|row| row.status == ApprovalStatus::Rejected).collect(),
            escalate,
        }
    }

    pub(super) fn embed(&self, panel: EmbedPanel) -> EmbedPage {
        EmbedPage {
            ui: self.ui.clone(),
            tool: "https://chat.example.org".into(),
            sign_in_href: "sign-in.html".into(),
            code: None,
            panel,
        }
    }

    pub(super) fn embed_shown(&self, notice: Option<&str>) -> EmbedPage {
        self.embed(EmbedPanel::Shown(Box::new(EmbedShown {
            account: 1,
            conversation: 1_182,
            base: "/app/t/acme".into(),
            approvals: self.approval_rows(),
            form: EscalateForm::default(),
            notice: notice.map(str::to_owned),
            done: true,
        })))
    }

    pub(super) fn escalate_errors(&self) -> EscalateForm {
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

    pub(super) fn conversation_blocked(&self) -> ConversationPage {
        let mut page = self.conversation(Some(EscalateForm {
            blocked: Some(self.ui.t("blocked-already-pending")),
            ..EscalateForm::default()
        }));
        page.chrome.flash = Flash::from_code(&self.ui, "escalated");
        page.approvals = self.approval_rows().into_iter().take(1).collect();
        page
    }

    pub(super) fn conversation_markup(&self) -> ConversationPage {
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
}
