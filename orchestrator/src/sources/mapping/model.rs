use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::ids::TenantId;

/// What stands for all inboxes without a mapping of their own, as it is stored.
const OTHERS: i64 = 0;

/// Which inboxes a mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inbox {
    /// This one.
    One(i64),
    /// All that have no mapping of their own, and what names no inbox.
    Others,
}

impl Inbox {
    pub fn stored(self) -> i64 {
        match self {
            Self::One(id) => id,
            Self::Others => OTHERS,
        }
    }
}

impl FromStr for Inbox {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "others" => Ok(Self::Others),
            text => text.parse().ok().filter(|id| *id > OTHERS).map(Self::One).ok_or(()),
        }
    }
}

/// A mapping as it is stored: the inbox, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sources) struct Mapped {
    pub inbox: i64,
    pub tenant: TenantId,
    pub created_at: DateTime<Utc>,
}

impl Mapped {
    /// The mapping of what comes from an inbox; none where nobody has said whose it is. What names no inbox, such as a contact, may be
    /// anybody's of the account: it is somebody's only where all of it is.
    pub fn route(all: &[Self], inbox: Option<i64>) -> Option<&Self> {
        let of = |wanted: i64| all.iter().find(|one| one.inbox == wanted);
        match inbox.filter(|id| *id > OTHERS) {
            Some(id) => of(id).or_else(|| of(OTHERS)),
            None => of(OTHERS).filter(|_| all.len() == 1),
        }
    }
}

/// Whose an inbox of a suite's source is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mapping {
    /// The inbox in the account; null for all that have no mapping of their own.
    pub inbox_id: Option<i64>,
    /// The tenant.
    pub tenant_id: TenantId,
    /// Its path; null where it is not known any more.
    pub tenant_path: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl Mapping {
    pub(super) fn new(mapped: Mapped, path: Option<String>) -> Self {
        Self {
            inbox_id: (mapped.inbox != OTHERS).then_some(mapped.inbox),
            tenant_id: mapped.tenant,
            tenant_path: path,
            created_at: mapped.created_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn mapped(inbox: i64, tenant: u128) -> Mapped {
        Mapped { inbox, tenant: TenantId(Uuid::from_u128(tenant)), created_at: DateTime::UNIX_EPOCH }
    }

    #[test]
    fn an_inbox_goes_to_its_tenant_else_to_that_of_the_others_and_else_to_nobody() {
        let route = |all: &[Mapped], inbox| Mapped::route(all, inbox).map(|one| one.tenant.0.as_u128());
        let by_inbox = [mapped(3, 30), mapped(4, 40)];
        assert_eq!(route(&by_inbox, Some(3)), Some(30));
        assert_eq!(route(&by_inbox, Some(4)), Some(40));
        assert_eq!(route(&by_inbox, Some(5)), None);
        assert_eq!((route(&by_inbox, None), route(&by_inbox, Some(0))), (None, None));
        let with_others = [mapped(3, 30), mapped(0, 99)];
        assert_eq!(route(&with_others, Some(3)), Some(30));
        assert_eq!((route(&with_others, Some(5)), route(&with_others, None)), (Some(99), None));
        assert_eq!((route(&with_others[1..], Some(5)), route(&with_others[1..], None)), (Some(99), Some(99)));
    }

    #[test]
    fn an_inbox_is_named_by_its_number_and_the_others_by_a_word() {
        assert_eq!("7".parse(), Ok(Inbox::One(7)));
        assert_eq!("others".parse(), Ok(Inbox::Others));
        for text in ["0", "-1", "", "seven", "99999999999999999999"] {
            assert_eq!(text.parse::<Inbox>(), Err(()), "{text}");
        }
    }
}
