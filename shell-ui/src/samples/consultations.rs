//! Consultations.

use super::{
    CONSULTATION, ConsultationPage, ConsultationRow, ConsultationStatus, ConsultationsPage, LinkTo, Samples,
};
use crate::pages::Attended;

impl Samples {
    pub(super) fn consultation_rows(&self) -> Vec<ConsultationRow> {
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

    pub(super) fn consultations(&self) -> ConsultationsPage {
        let (upcoming, past) = self.consultation_rows().into_iter().partition(|row| {
            matches!(row.status, ConsultationStatus::Active | ConsultationStatus::Scheduled)
        });
        ConsultationsPage { chrome: self.chrome("consultations"), upcoming, past, older_href: None }
    }

    pub(super) fn consultations_empty(&self) -> ConsultationsPage {
        ConsultationsPage {
            chrome: self.quiet_chrome("consultations"),
            upcoming: Vec::new(),
            past: Vec::new(),
            older_href: None,
        }
    }

    pub(super) fn consultation(&self, status: ConsultationStatus) -> ConsultationPage {
        let over = matches!(status, ConsultationStatus::Ended | ConsultationStatus::Cancelled);
        let started = matches!(status, ConsultationStatus::Active | ConsultationStatus::Ended);
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
            started: started.then(|| self.ago(6)),
            ended: (status == ConsultationStatus::Ended).then(|| self.ago(1)),
            attendance: if started {
                let attended = |name: &str, left| Attended {
                    name: name.into(),
                    joined: Some(self.ago(6)),
                    left: if over { Some(self.ago(left)) } else { None },
                };
                vec![attended("Clara Osei", 1), attended("ليلى حداد", 2)]
            } else {
                Vec::new()
            },
            approval: Some(LinkTo {
                title: "Refund of 240 € for order 1182".into(),
                href: "approval-approved.html".into(),
            }),
            may_start: status == ConsultationStatus::Scheduled,
            may_end: status == ConsultationStatus::Active,
            may_cancel: status == ConsultationStatus::Scheduled,
            may_join: !over,
            join_blocked: None,
        }
    }

    pub(super) fn consultation_not_invited(&self) -> ConsultationPage {
        ConsultationPage {
            may_end: false,
            may_join: false,
            join_blocked: Some(self.ui.t("blocked-not-invited")),
            ..self.consultation(ConsultationStatus::Active)
        }
    }
}
