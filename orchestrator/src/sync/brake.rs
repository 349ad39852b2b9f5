//! Which plans wait until an administrator has approved them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::model::{Action, Cause, Kind, Observed, Recorded, ScopePath, Step, Wanted};

/// How much may be taken away without being asked, of each kind of scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of a hundred grants that there are.
    pub percent: u32,
    /// At all.
    pub count: u32,
    /// The percentage isn't looked at up to here: in a team of five, one is a fifth.
    pub few: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { percent: 10, count: 20, few: 3 }
    }
}

/// Why a plan is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Held {
    /// Nothing was ever done in this tool.
    FirstContact,
    /// It takes more of a kind than may be.
    TooMany {
        /// What it takes from.
        kind: Kind,
        /// How many grants it takes or lowers.
        taken: u32,
        /// How many there are.
        of: u32,
    },
    /// Nobody would be left.
    Empties {
        /// Where.
        scope: ScopePath,
    },
    /// Accounts that we knew are gone: somebody may have emptied the tool, or restored an old state of it.
    Recreates {
        /// How many.
        accounts: u32,
    },
    /// Grants that we made are gone by hand, and more than may be taken are made again.
    Restores {
        /// Where.
        kind: Kind,
        /// How many.
        grants: u32,
    },
}

fn counted(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Why the steps are held; nothing where they aren't.
pub(super) fn held(
    steps: &[Step],
    wanted: &Wanted,
    observed: &Observed,
    recorded: &Recorded,
    limits: &Limits,
) -> Vec<Held> {
    let mut held = Vec::new();
    if !recorded.contacted && !steps.is_empty() {
        held.push(Held::FirstContact);
    }
    let kind_of = |scope: &ScopePath| wanted.scopes.get(scope).map(|scope| scope.kind);
    let (mut there, mut taken, mut restored) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut left: BTreeMap<&ScopePath, BTreeSet<&str>> = BTreeMap::new();
    for (account, scope) in observed.grants.keys() {
        if let Some(kind) = kind_of(scope) {
            *there.entry(kind).or_insert(0_usize) += 1;
            left.entry(scope).or_default().insert(&account.0);
        }
    }
    let mut given = BTreeSet::new();
    for step in steps {
        let Action::Set { scope, account, from, to, .. } = &step.action else { continue };
        let Some(kind) = kind_of(scope) else { continue };
        if step.action.takes() {
            *taken.entry(kind).or_insert(0_usize) += 1;
        }
        if from.is_none() {
            given.insert(scope);
            if step.cause == Cause::Drift {
                *restored.entry(kind).or_insert(0_usize) += 1;
            }
        }
        if let (Some(account), None) = (account, to) {
            left.entry(scope).or_default().remove(account.0.as_str());
        }
    }
    for (kind, taken) in taken {
        let (taken, of) = (counted(taken), counted(there.get(&kind).copied().unwrap_or(0)));
        if taken > limits.count
            || (taken > limits.few && u64::from(taken) * 100 > u64::from(limits.percent) * u64::from(of))
        {
            held.push(Held::TooMany { kind, taken, of });
        }
    }
    for (kind, grants) in restored {
        let grants = counted(grants);
        if grants > limits.count {
            held.push(Held::Restores { kind, grants });
        }
    }
    let emptied = left.into_iter().filter(|(scope, left)| left.is_empty() && !given.contains(scope));
    held.extend(emptied.map(|(scope, _)| Held::Empties { scope: scope.clone() }));
    let lost =
        steps.iter().filter(|step| step.cause == Cause::Lost && matches!(step.action, Action::Create { .. }));
    match counted(lost.count()) {
        0 => {}
        accounts => held.push(Held::Recreates { accounts }),
    }
    held
}
