//! The state machine under any sequence of outcomes.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use uuid::Uuid;

use super::model::{Approval, ApprovalStatus, Outcome, Priority, TransitionError, Verdict};
use crate::ids::{ApprovalId, TenantId, UserId};

const REQUESTER: UserId = UserId(Uuid::from_u128(1));

fn epoch() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn pending(expires_after: Option<TimeDelta>) -> Approval {
    Approval {
        id: ApprovalId(Uuid::from_u128(10)),
        tenant_id: TenantId(Uuid::from_u128(11)),
        title: "Refund".to_owned(),
        description: String::new(),
        status: ApprovalStatus::Pending,
        requested_by: REQUESTER,
        requested_by_name: Some("Ada".to_owned()),
        approved_by: None,
        approved_by_name: None,
        priority: Priority::High,
        comment: None,
        metadata: serde_json::json!({}),
        source: None,
        conversation_id: None,
        consultation_requested: true,
        expires_at: expires_after.map(|after| epoch() + after),
        version: 1,
        created_at: epoch(),
        updated_at: epoch(),
        decided_at: None,
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let comment = || proptest::option::of("[a-z]{0,5}");
    prop_oneof![
        // One in three is who requested it.
        (1..=3_u128, prop_oneof![Just(Verdict::Approve), Just(Verdict::Reject)], comment()).prop_map(
            |(user, verdict, comment)| Outcome::Decided {
                by: UserId(Uuid::from_u128(user)),
                verdict,
                comment
            }
        ),
        comment().prop_map(|comment| Outcome::Cancelled { comment }),
        Just(Outcome::Expired),
    ]
}

/// What the rules of the domain say, written once more and differently.
fn expected(
    approval: &Approval,
    outcome: &Outcome,
    now: DateTime<Utc>,
) -> Result<ApprovalStatus, TransitionError> {
    if approval.decided_at.is_some() {
        return Err(TransitionError::AlreadyDecided);
    }
    let is_over = approval.expires_at.is_some_and(|at| now >= at);
    match outcome {
        // Whether or not the job that says so has run.
        Outcome::Decided { .. } if is_over => Err(TransitionError::AlreadyDecided),
        Outcome::Decided { by, .. } if *by == REQUESTER => Err(TransitionError::OwnRequest),
        Outcome::Decided { verdict: Verdict::Approve, .. } => Ok(ApprovalStatus::Approved),
        Outcome::Decided { verdict: Verdict::Reject, .. } => Ok(ApprovalStatus::Rejected),
        Outcome::Cancelled { .. } => Ok(ApprovalStatus::Cancelled),
        Outcome::Expired if is_over => Ok(ApprovalStatus::Expired),
        Outcome::Expired => Err(TransitionError::NotYet),
    }
}

/// What holds of an approval in whatever state.
fn check_invariants(approval: &Approval) {
    assert_eq!(
        approval.decided_at.is_some(),
        approval.status != ApprovalStatus::Pending,
        "decided at a time, or pending"
    );
    let has_verdict = matches!(approval.status, ApprovalStatus::Approved | ApprovalStatus::Rejected);
    assert_eq!(approval.approved_by.is_some(), has_verdict, "somebody decided, or nobody did");
    assert_ne!(approval.approved_by, Some(approval.requested_by), "nobody decides an own request");
}

proptest! {
    // What was found to fail is mended at once; nothing is kept beside the sources.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_outcomes_leaves_a_final_state_or_breaks_an_invariant(
        expires_after in proptest::option::of(0..20_i64),
        steps in proptest::collection::vec((outcome(), 0..5_i64), 0..12),
    ) {
        let mut approval = pending(expires_after.map(TimeDelta::minutes));
        let mut now = epoch();
        for (outcome, minutes) in steps {
            now += TimeDelta::minutes(minutes);
            let result = approval.after(&outcome, now);
            prop_assert_eq!(result.as_ref().map(|after| after.status).map_err(|error| *error), expected(&approval, &outcome, now));
            let Ok(after) = result else { continue };
            prop_assert_eq!(approval.status, ApprovalStatus::Pending, "only what is pending changes");
            prop_assert_eq!(after.version, approval.version + 1);
            prop_assert_eq!((after.updated_at, after.decided_at), (now, Some(now)));
            check_invariants(&after);
            // Everything else is as it was asked for.
            let undone = Approval {
                status: approval.status,
                approved_by: approval.approved_by,
                approved_by_name: approval.approved_by_name.clone(),
                comment: approval.comment.clone(),
                version: approval.version,
                updated_at: approval.updated_at,
                decided_at: approval.decided_at,
                ..after.clone()
            };
            prop_assert_eq!(&undone, &approval);
            approval = after;
        }
        check_invariants(&approval);
    }

    #[test]
    fn a_decision_carries_who_made_it_and_what_they_said(user in 2..9_u128, approve in any::<bool>(), comment in proptest::option::of("[a-z ]{1,20}")) {
        let verdict = if approve { Verdict::Approve } else { Verdict::Reject };
        let by = UserId(Uuid::from_u128(user));
        let after = pending(None).after(&Outcome::Decided { by, verdict, comment: comment.clone() }, epoch()).unwrap();
        prop_assert_eq!((after.approved_by, after.comment), (Some(by), comment));
    }
}

#[test]
fn an_approval_expires_at_its_time_and_not_before() {
    let approval = pending(Some(TimeDelta::minutes(10)));
    let after = |minutes: i64| {
        approval.after(&Outcome::Expired, epoch() + TimeDelta::minutes(minutes)).map(|after| after.status)
    };
    assert_eq!(after(9), Err(TransitionError::NotYet));
    assert_eq!(after(10), Ok(ApprovalStatus::Expired));
    assert_eq!(
        pending(None).after(&Outcome::Expired, DateTime::<Utc>::MAX_UTC),
        Err(TransitionError::NotYet)
    );
}
