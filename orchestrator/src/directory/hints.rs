//! Keycloak's admin events as hints: whoever they concern is read at once, instead of at the next comparison.
//!
//! They are never taken for the truth. Some changes leave none (LDAP, identity providers' mappers, a group's deletion for its
//! members), and they may be switched off: the periodical comparison finds whatever they don't tell.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use connector_keycloak::AdminEvent;
use uuid::Uuid;

use super::{Directory, DirectoryError, store};
use crate::{http::problem::ErrorChain, ids::UserId};

/// Events carry the time at which they were made and are seen when their transaction is over; clocks of Keycloak's nodes and
/// ours differ: those of so long before the last one are looked at again.
const OVERLAP: TimeDelta = TimeDelta::seconds(10);
/// Events that are older than this are the comparison's, and those of a clock that is ahead don't hide the others': after a burst,
/// the same ones aren't read for ever.
const OLDEST: TimeDelta = TimeDelta::minutes(2);
/// More than so many at once are a reason to compare everything.
const MOST: usize = 200;

/// What an event tells us to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    /// This user: its groups have changed. One that isn't known may have come into a tenant.
    Member(Uuid),
    /// This user, if it is known: it has changed itself, or its roles have.
    User(Uuid),
    /// Something about groups.
    Groups,
}

impl Hint {
    fn of(event: &AdminEvent) -> Option<Self> {
        let mut path = event.resource_path.split('/');
        let id = match (path.next(), path.next()) {
            (Some("users"), Some(id)) => id.parse().ok(),
            _ => None,
        };
        match (event.resource_type.as_str(), id) {
            ("GROUP_MEMBERSHIP", Some(id)) => Some(Self::Member(id)),
            ("USER" | "REALM_ROLE_MAPPING", Some(id)) => Some(Self::User(id)),
            ("GROUP", _) => Some(Self::Groups),
            _ => None,
        }
    }
}

/// What is to be done about the new events.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    members: BTreeSet<Uuid>,
    users: BTreeSet<Uuid>,
    everything: bool,
}

/// The events that were seen.
#[derive(Debug)]
pub(super) struct Hints {
    /// When the latest of them was made.
    latest: DateTime<Utc>,
    /// Those that may be listed again, with their times.
    seen: HashMap<Uuid, DateTime<Utc>>,
    was_refused: bool,
}

impl Hints {
    /// From now on.
    pub fn from(now: DateTime<Utc>) -> Self {
        Self { latest: now, seen: HashMap::new(), was_refused: false }
    }

    fn take(&mut self, events: &[AdminEvent]) -> Told {
        let mut told = Told::default();
        for event in events {
            if self.seen.insert(event.id, event.time).is_some() {
                continue;
            }
            self.latest = self.latest.max(event.time);
            match Hint::of(event) {
                Some(Hint::Member(id)) => {
                    told.members.insert(id);
                }
                Some(Hint::User(id)) => {
                    told.users.insert(id);
                }
                Some(Hint::Groups) => told.everything = true,
                None => {}
            }
        }
        let since = self.since();
        self.seen.retain(|_, time| *time >= since);
        told.everything |= told.members.len() + told.users.len() > MOST;
        told
    }

    fn since(&self) -> DateTime<Utc> {
        self.latest - OVERLAP
    }

    /// Looks for new events and reads whom they concern. Whether everything is to be compared now.
    pub async fn look(&mut self, directory: &Directory) -> bool {
        let now = directory.clock.now();
        self.latest = self.latest.clamp(now - OLDEST, now);
        let events = match directory.keycloak.admin_events(self.since()).await {
            Ok(events) => events,
            Err(error) => {
                // The comparison goes on without them; once is enough to say so.
                if !std::mem::replace(&mut self.was_refused, true) {
                    tracing::warn!(error = %ErrorChain(&error), "Keycloak's admin events can't be read: changes are found by the next comparison");
                }
                return false;
            }
        };
        self.was_refused = false;
        let told = self.take(&events);
        if told.everything {
            return true;
        }
        follow(directory, &told).await.unwrap_or_else(|error| {
            tracing::warn!(error = %ErrorChain(&error), "who has changed in Keycloak could not be read; the next comparison will");
            false
        })
    }
}

/// Reads those who are known. Whether everything is to be compared: whose groups have changed and who isn't known may have come into a
/// tenant, which its comparison shows. Of people who have never had to do with us we want to know nothing.
async fn follow(directory: &Directory, told: &Told) -> Result<bool, DirectoryError> {
    let asked: Vec<Uuid> = told.users.union(&told.members).copied().collect();
    let known = directory.known(&asked).await?;
    let mut result = Ok(told.members.iter().any(|member| !known.contains(member)));
    for user in known {
        match directory.refresh_user(UserId(user)).await {
            Err(error) if error.is_keycloak_down() => return Err(error),
            // The others' events are as good.
            Err(error) => result = Err(error),
            Ok(_) => {}
        }
    }
    result
}

impl Directory {
    /// Those of `users` that are principals.
    async fn known(&self, users: &[Uuid]) -> Result<BTreeSet<Uuid>, sqlx::Error> {
        if users.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut tx = self.database.system_tx().await?;
        store::known(&mut tx, users).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u128, seconds: i64, resource_type: &str, resource_path: String) -> AdminEvent {
        AdminEvent {
            id: Uuid::from_u128(number),
            time: DateTime::from_timestamp(seconds, 0).unwrap(),
            operation_type: "UPDATE".to_owned(),
            resource_type: resource_type.to_owned(),
            resource_path,
        }
    }

    #[test]
    fn an_event_is_followed_once_though_it_is_listed_again() {
        let (ada, bob) = (Uuid::from_u128(100), Uuid::from_u128(101));
        let mut hints = Hints::from(DateTime::from_timestamp(1_000, 0).unwrap());
        let first = event(1, 1_001, "USER", format!("users/{ada}"));
        let told = hints.take(std::slice::from_ref(&first));
        assert_eq!(told, Told { users: BTreeSet::from([ada]), ..Told::default() });
        // It came later, though it was made earlier.
        let late = event(2, 995, "GROUP_MEMBERSHIP", format!("users/{bob}/groups/{ada}"));
        let told = hints.take(&[late, first]);
        assert_eq!(told, Told { members: BTreeSet::from([bob]), ..Told::default() });
        assert_eq!(hints.since(), DateTime::from_timestamp(991, 0).unwrap());
    }

    #[test]
    fn what_concerns_groups_or_very_many_is_compared_as_a_whole() {
        let now = DateTime::from_timestamp(1_000, 0).unwrap();
        let group = event(1, 1_001, "GROUP", format!("groups/{}", Uuid::from_u128(9)));
        assert!(Hints::from(now).take(&[group]).everything);
        let many: Vec<AdminEvent> = (0..=MOST as u128)
            .map(|number| event(number, 1_001, "USER", format!("users/{}", Uuid::from_u128(number))))
            .collect();
        assert!(Hints::from(now).take(&many).everything);
        assert!(!Hints::from(now).take(&many[1..]).everything);
    }

    #[test]
    fn what_means_nothing_here_is_left_alone() {
        let now = DateTime::from_timestamp(1_000, 0).unwrap();
        let events = [
            event(1, 1_001, "CLIENT", "clients/x".to_owned()),
            event(2, 1_001, "USER", "users/not-an-id".to_owned()),
            event(3, 1_001, "USER", String::new()),
        ];
        assert_eq!(Hints::from(now).take(&events), Told::default());
    }
}
