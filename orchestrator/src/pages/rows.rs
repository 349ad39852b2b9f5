//! From the slices' types to the view models'.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use shell_ui::{ApprovalRow, ConsultationRow, Ui};

use crate::{
    approvals::{Approval, ApprovalStatus, Priority},
    auth::Permission,
    consultations::{Consultation, ConsultationStatus},
    conversations,
    db::TenantTx,
    http::ProblemResult,
    ids::{ConversationId, UserId},
    tenants,
};

use super::chrome::Place;

pub(super) fn approval_status(status: ApprovalStatus) -> shell_ui::ApprovalStatus {
    match status {
        ApprovalStatus::Pending => shell_ui::ApprovalStatus::Pending,
        ApprovalStatus::Approved => shell_ui::ApprovalStatus::Approved,
        ApprovalStatus::Rejected => shell_ui::ApprovalStatus::Rejected,
        ApprovalStatus::Cancelled => shell_ui::ApprovalStatus::Cancelled,
        ApprovalStatus::Expired => shell_ui::ApprovalStatus::Expired,
    }
}

pub(super) fn priority(priority: Priority) -> shell_ui::Priority {
    match priority {
        Priority::Low => shell_ui::Priority::Low,
        Priority::Medium => shell_ui::Priority::Medium,
        Priority::High => shell_ui::Priority::High,
    }
}

/// The priority that a form sent; as usual where it sent none.
pub(super) fn read_priority(sent: &str) -> Option<Priority> {
    match sent {
        "" | "medium" => Some(Priority::Medium),
        "low" => Some(Priority::Low),
        "high" => Some(Priority::High),
        _ => None,
    }
}

pub(super) fn consultation_status(status: ConsultationStatus) -> shell_ui::ConsultationStatus {
    match status {
        ConsultationStatus::Scheduled => shell_ui::ConsultationStatus::Scheduled,
        ConsultationStatus::Active => shell_ui::ConsultationStatus::Active,
        ConsultationStatus::Ended => shell_ui::ConsultationStatus::Ended,
        ConsultationStatus::Cancelled => shell_ui::ConsultationStatus::Cancelled,
    }
}

/// Where a conversation stands; what the tool calls otherwise is being worked on.
pub(super) fn conversation_status(status: &str) -> shell_ui::ConversationStatus {
    shell_ui::ConversationStatus::parse(status).unwrap_or(shell_ui::ConversationStatus::Open)
}

/// A name, or that there is somebody.
pub(super) fn name_or_somebody(ui: &Ui, name: Option<&str>) -> String {
    name.map(str::trim).filter(|name| !name.is_empty()).map_or_else(|| ui.t("somebody"), str::to_owned)
}

/// Approvals as rows, with the customers that they are about where the visitor may read conversations.
pub(super) async fn approvals(
    place: &Place,
    tx: &mut TenantTx,
    ui: &Ui,
    approvals: Vec<Approval>,
) -> ProblemResult<Vec<ApprovalRow>> {
    let ids: Vec<ConversationId> = approvals.iter().filter_map(|approval| approval.conversation_id).collect();
    let contacts = if ids.is_empty() || !place.may(Permission::ConversationRead) {
        HashMap::new()
    } else {
        conversations::contacts(tx, place.tenant.id, &ids).await?
    };
    let now = tx.now();
    Ok(approvals
        .into_iter()
        .map(|approval| ApprovalRow {
            id: approval.id.to_string(),
            status: approval_status(approval.status),
            priority: priority(approval.priority),
            requested_by: name_or_somebody(ui, approval.requested_by_name.as_deref()),
            created: ui.time(approval.created_at, now),
            expires: approval
                .expires_at
                .filter(|_| approval.status == ApprovalStatus::Pending)
                .map(|at| ui.time(at, now)),
            contact: approval.conversation_id.and_then(|id| contacts.get(&id).cloned()),
            consultation_requested: approval.consultation_requested,
            title: approval.title,
        })
        .collect())
}

/// Consultations as rows, with their hosts' names.
pub(super) async fn consultations(
    place: &Place,
    tx: &mut TenantTx,
    ui: &Ui,
    consultations: &[Consultation],
) -> ProblemResult<Vec<ConsultationRow>> {
    let hosts: Vec<UserId> = consultations.iter().map(|consultation| consultation.host_id).collect();
    let names =
        if hosts.is_empty() { HashMap::new() } else { tenants::names(tx, place.tenant.id, &hosts).await? };
    let now = tx.now();
    Ok(consultations.iter().map(|consultation| consultation_row(ui, consultation, &names, now)).collect())
}

fn consultation_row(
    ui: &Ui,
    consultation: &Consultation,
    names: &HashMap<UserId, String>,
    now: DateTime<Utc>,
) -> ConsultationRow {
    let at = consultation.scheduled_at.or(consultation.started_at).unwrap_or(consultation.created_at);
    ConsultationRow {
        id: consultation.id.to_string(),
        title: consultation.title.clone(),
        status: consultation_status(consultation.status),
        host: name_or_somebody(ui, names.get(&consultation.host_id).map(String::as_str)),
        participants: u64::try_from(consultation.involved().len()).unwrap_or(u64::MAX),
        at: ui.time(at, now),
    }
}
