//! Whose an account of the tool is. A link that is there is believed; a new one takes proof: our own note in the tool, or an address
//! that both sides have verified and nobody else has. Where two could be meant, a person decides.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::model::{AccountId, Evidence, Observed, Recorded, Wanted};
use crate::ids::UserId;

/// How a person and an account stand to each other. Those that are linked, and both there, aren't listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Situation {
    /// It is proven that they belong together: the plan links them.
    Matching,
    /// One has no other: a person who is to have an account, or an account whose holder isn't known.
    Unmatched,
    /// More than one could be meant: somebody has to say.
    Ambiguous,
    /// One of two that were linked is gone.
    Orphaned,
}

/// What keeps somebody from an account, or an account from its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Keycloak has verified no mail address.
    NoVerifiedMail,
    /// Several people have this address.
    SharedMail,
    /// The address is another account's.
    MailTaken,
    /// Several accounts could be the person's.
    SeveralAccounts,
    /// The tool has not confirmed the account's address.
    Unconfirmed,
    /// The account is gone.
    NoAccount,
    /// Keycloak doesn't have the person any more, or has it in no tenant.
    NoPerson,
}

/// A person, an account, or both, and how they stand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// How they stand.
    pub situation: Situation,
    /// The person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<UserId>,
    /// The account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// What is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

/// Who has which account.
#[derive(Debug, Default)]
pub(super) struct Correlated {
    /// The accounts that are there, by their persons; those that nobody in Keycloak has any more as well.
    pub accounts: BTreeMap<UserId, AccountId>,
    /// Those of them that are new.
    pub links: BTreeMap<UserId, Evidence>,
    /// Whose account is gone.
    pub lost: BTreeSet<UserId>,
    /// Who gets none before somebody has decided.
    pub waiting: BTreeMap<UserId, Why>,
    pub identities: Vec<Identity>,
}

impl Correlated {
    fn link(&mut self, person: UserId, account: &AccountId, evidence: Evidence) {
        self.accounts.insert(person, account.clone());
        self.links.insert(person, evidence);
        self.tell(Situation::Matching, Some(person), Some(account.clone()), None);
    }

    fn tell(
        &mut self,
        situation: Situation,
        person: Option<UserId>,
        account: Option<AccountId>,
        why: Option<Why>,
    ) {
        self.identities.push(Identity { situation, person, account, why });
    }
}

/// Says who has which account, as far as that is known or proven.
pub(super) fn correlate(wanted: &Wanted, observed: &Observed, recorded: &Recorded) -> Correlated {
    let mut found = Correlated::default();
    for (person, link) in &recorded.links {
        if observed.accounts.contains_key(&link.account) {
            found.accounts.insert(*person, link.account.clone());
            if !wanted.people.contains_key(person) {
                let account = Some(link.account.clone());
                found.tell(Situation::Orphaned, Some(*person), account, Some(Why::NoPerson));
            }
        } else {
            found.lost.insert(*person);
        }
    }
    let linked: BTreeSet<&AccountId> = recorded.links.values().map(|link| &link.account).collect();
    let mut marked: BTreeMap<UserId, Vec<&AccountId>> = BTreeMap::new();
    let mut by_mail: BTreeMap<&str, Vec<&AccountId>> = BTreeMap::new();
    for (id, account) in &observed.accounts {
        if let Some(mail) = account.mail.as_deref() {
            by_mail.entry(mail).or_default().push(id);
        }
        if let Some(person) = account.made_for.filter(|_| !linked.contains(id)) {
            marked.entry(person).or_default().push(id);
        }
    }
    let mut people_of: BTreeMap<&str, usize> = BTreeMap::new();
    for mail in wanted.people.values().filter_map(|person| person.mail.as_deref()) {
        *people_of.entry(mail).or_default() += 1;
    }

    // What our own notes say comes first: those accounts are taken then.
    let mut taken = linked.clone();
    let is_open = |found: &Correlated, person: &UserId| {
        !wanted.people[person].service && !found.accounts.contains_key(person)
    };
    for person in wanted.people.keys() {
        match marked.get(person).map_or(&[][..], Vec::as_slice) {
            [account] if is_open(&found, person) => {
                taken.insert(account);
                found.link(*person, account, Evidence::Created);
            }
            [_, _, ..] => {
                found.waiting.insert(*person, Why::SeveralAccounts);
            }
            _ => {}
        }
    }
    for (person, known) in &wanted.people {
        if !is_open(&found, person) || found.waiting.contains_key(person) {
            continue;
        }
        let Some(mail) = known.mail.as_deref() else {
            found.waiting.insert(*person, Why::NoVerifiedMail);
            continue;
        };
        // An account that is another's may be about to get another address.
        let with_mail = by_mail.get(mail).into_iter().flatten().copied();
        let candidates: Vec<&AccountId> = with_mail.filter(|account| !taken.contains(account)).collect();
        let why = match candidates.as_slice() {
            _ if people_of.get(mail).is_some_and(|people| *people > 1) => Why::SharedMail,
            [] => continue,
            [account] => match &observed.accounts[*account] {
                other if other.made_for.is_some() => Why::MailTaken,
                other if !other.confirmed => Why::Unconfirmed,
                _ => {
                    found.link(*person, account, Evidence::VerifiedMail);
                    continue;
                }
            },
            _ => Why::SeveralAccounts,
        };
        found.waiting.insert(*person, why);
    }
    found.lost.retain(|person| !found.accounts.contains_key(person));
    for person in found.lost.clone() {
        let account = recorded.links.get(&person).map(|link| link.account.clone());
        found.tell(Situation::Orphaned, Some(person), account, Some(Why::NoAccount));
    }
    found
}
