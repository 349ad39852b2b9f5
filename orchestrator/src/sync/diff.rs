//! From the states to the steps, in an order in which nobody has more on the way than before or after: what is taken comes first,
//! the outermost scope before what is in it, since that takes most at once; what is given comes last, the outermost first. The one
//! exception is who runs a scope last: that is taken once a successor has it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    correlate::{Correlated, Identity, Situation, Why, correlate},
    model::{
        AccountId, Action, Cause, Changes, Drift, DriftPolicy, Level, Observed, Policy, Recorded, ScopePath,
        Step, Verdict, Wanted,
    },
};
use crate::ids::UserId;

/// The order of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Record,
    Take,
    Profile,
    Create,
    Give,
    /// What the last one who runs a scope has in it.
    TakeLast,
}

/// A step before it has its place.
#[derive(Debug)]
struct Draft {
    phase: Phase,
    action: Action,
    cause: Cause,
    /// Its place among the changes of addresses: each comes behind the one that frees what it takes.
    order: usize,
    /// Whose change of address has to come before.
    after_mail_of: Option<UserId>,
    /// Who takes over before: the person, in the scope of this step.
    successor: Option<UserId>,
}

impl Draft {
    fn new(phase: Phase, action: Action, cause: Cause) -> Self {
        Self { phase, action, cause, order: 0, after_mail_of: None, successor: None }
    }

    /// What is taken from the disabled comes first; then the outermost.
    fn key(&self) -> (Phase, Option<Cause>, usize, usize, String) {
        let (scope, person) = match &self.action {
            Action::Set { scope, person, account, .. } => {
                (Some(scope), account.as_ref().map_or_else(|| person.to_string(), ToString::to_string))
            }
            Action::Adopt { scope, account, .. } | Action::Forget { scope, account } => {
                (Some(scope), account.to_string())
            }
            Action::Link { person, .. } | Action::Create { person, .. } | Action::Update { person, .. } => {
                (None, person.to_string())
            }
        };
        let cause = (self.phase == Phase::Take).then_some(self.cause);
        let path = scope.map(ToString::to_string).unwrap_or_default();
        // Links come before what is written down of their accounts.
        let depth = scope.map_or(0, |scope| scope.depth() + 1);
        (self.phase, cause, self.order, depth, format!("{path}\n{person}"))
    }
}

/// The scopes in the order in which one is in another, with what somebody has, is to have, and had from us.
type ByScope<'a> = BTreeMap<(usize, &'a ScopePath), [Option<Level>; 3]>;

/// Who runs a scope: how many do, who would lose that by which draft, and who would come to it.
#[derive(Debug, Default)]
struct Running {
    holders: usize,
    losers: Vec<(bool, UserId, usize)>,
    gainers: Vec<UserId>,
}

struct Differ<'a> {
    wanted: &'a Wanted,
    observed: &'a Observed,
    recorded: &'a Recorded,
    policy: &'a Policy,
    drafts: Vec<Draft>,
    drift: Vec<Drift>,
}

/// What follows from the states.
pub(super) fn diff(wanted: &Wanted, observed: &Observed, recorded: &Recorded, policy: &Policy) -> Changes {
    let mut found = correlate(wanted, observed, recorded);
    let mut differ = Differ { wanted, observed, recorded, policy, drafts: Vec::new(), drift: Vec::new() };
    let wishes = differ.wishes();
    for (person, evidence) in &found.links {
        let action =
            Action::Link { person: *person, account: found.accounts[person].clone(), evidence: *evidence };
        differ.drafts.push(Draft::new(Phase::Record, action, Cause::Record));
    }
    differ.profiles_and_accounts(&mut found, &wishes);
    differ.grants(&found, &wishes);
    differ.unlinked(&mut found);
    differ.keep_somebody();
    let steps = differ.ordered();
    let (mut drift, mut identities) = (differ.drift, found.identities);
    drift.sort_by(|one, other| {
        (&one.scope, &one.account, one.person).cmp(&(&other.scope, &other.account, other.person))
    });
    identities.sort();
    Changes { steps, drift, identities }
}

impl<'a> Differ<'a> {
    /// Who is to have what: nobody who is disabled or a service, and nothing inside of what one isn't to have.
    fn wishes(&self) -> BTreeMap<UserId, BTreeMap<&'a ScopePath, Level>> {
        let mut wishes: BTreeMap<UserId, BTreeMap<&ScopePath, Level>> = BTreeMap::new();
        for ((person, scope), level) in &self.wanted.grants {
            let may = self.wanted.people.get(person).is_some_and(|known| known.enabled && !known.service);
            let mut around = Some(scope.clone());
            let mut is_whole = true;
            while let Some(scope) = around {
                is_whole &= self.wanted.scopes.contains_key(&scope)
                    && self.wanted.grants.contains_key(&(*person, scope.clone()));
                around = scope.outer();
            }
            if may && is_whole {
                wishes.entry(*person).or_default().insert(scope, *level);
            }
        }
        wishes
    }

    /// Renews what accounts say of their people, and makes those that are missing, as far as their addresses are free by then.
    fn profiles_and_accounts(
        &mut self,
        found: &mut Correlated,
        wishes: &BTreeMap<UserId, BTreeMap<&ScopePath, Level>>,
    ) {
        // Who has an address, as it will be when the step comes.
        let mut holders: BTreeMap<String, BTreeSet<AccountId>> = BTreeMap::new();
        for (id, account) in &self.observed.accounts {
            if let Some(mail) = &account.mail {
                holders.entry(mail.clone()).or_default().insert(id.clone());
            }
        }
        let mut freed: BTreeMap<String, UserId> = BTreeMap::new();
        let mut pending = Vec::new();
        for (person, id) in &found.accounts {
            let Some(known) = self.wanted.people.get(person).filter(|known| known.enabled && !known.service)
            else {
                continue;
            };
            if self.policy.protected.contains(id) {
                continue;
            }
            let account = &self.observed.accounts[id];
            let mail = known.mail.clone().filter(|mail| account.mail.as_ref() != Some(mail));
            if mail.is_some() || account.name != known.name {
                pending.push((*person, id.clone(), known, mail));
            }
        }
        let mut updates = Vec::new();
        loop {
            let before = pending.len();
            pending.retain(|(person, id, known, mail)| {
                if let Some(mail) = mail {
                    if holders.get(mail).is_some_and(|others| !others.is_empty()) {
                        return true;
                    }
                    if let Some(old) = &self.observed.accounts[id].mail {
                        holders.entry(old.clone()).or_default().remove(id);
                        freed.insert(old.clone(), *person);
                    }
                    holders.entry(mail.clone()).or_default().insert(id.clone());
                }
                let after = mail.as_ref().and_then(|mail| freed.get(mail)).copied();
                updates.push((*person, id.clone(), *known, mail.clone(), after));
                false
            });
            if pending.len() == before {
                break;
            }
        }
        // The name goes without the address.
        for (person, id, known, _) in pending {
            found.identities.push(Identity {
                situation: Situation::Ambiguous,
                person: Some(person),
                account: Some(id.clone()),
                why: Some(Why::MailTaken),
            });
            if self.observed.accounts[&id].name != known.name {
                updates.push((person, id, known, None, None));
            }
        }
        for (order, (person, account, known, mail, after)) in updates.into_iter().enumerate() {
            let action = Action::Update { person, account, name: known.name.clone(), mail };
            let mut draft = Draft::new(Phase::Profile, action, Cause::Profile);
            draft.after_mail_of = after;
            draft.order = order;
            self.drafts.push(draft);
        }
        self.accounts(found, wishes, &holders, &freed);
    }

    fn accounts(
        &mut self,
        found: &mut Correlated,
        wishes: &BTreeMap<UserId, BTreeMap<&ScopePath, Level>>,
        holders: &BTreeMap<String, BTreeSet<AccountId>>,
        freed: &BTreeMap<String, UserId>,
    ) {
        for (person, wished) in wishes {
            if found.accounts.contains_key(person)
                || !wished.keys().any(|scope| self.observed.scopes.contains(*scope))
            {
                continue;
            }
            let known = &self.wanted.people[person];
            let mut why = found.waiting.get(person).copied();
            if let (None, Some(mail)) = (why, &known.mail)
                && holders.get(mail).is_some_and(|others| !others.is_empty())
            {
                why = Some(Why::MailTaken);
                found.waiting.insert(*person, Why::MailTaken);
            }
            let situation = match why {
                None | Some(Why::NoVerifiedMail) => Situation::Unmatched,
                Some(_) => Situation::Ambiguous,
            };
            found.identities.push(Identity { situation, person: Some(*person), account: None, why });
            if let (None, Some(mail)) = (why, &known.mail) {
                let cause = if found.lost.contains(person) { Cause::Lost } else { Cause::Roles };
                let action = Action::Create { person: *person, name: known.name.clone(), mail: mail.clone() };
                let mut draft = Draft::new(Phase::Create, action, cause);
                draft.after_mail_of = freed.get(mail).copied();
                self.drafts.push(draft);
            }
        }
    }

    fn grants(&mut self, found: &Correlated, wishes: &BTreeMap<UserId, BTreeMap<&'a ScopePath, Level>>) {
        let none = BTreeMap::new();
        let mut by_account: BTreeMap<&AccountId, ByScope<'a>> = BTreeMap::new();
        for (place, grants) in [(1, &self.observed.grants), (2, &self.recorded.grants)] {
            for ((account, scope), level) in grants {
                if self.wanted.scopes.contains_key(scope) {
                    let scopes = by_account.entry(account).or_default();
                    scopes.entry((scope.depth(), scope)).or_default()[place] = Some(*level);
                }
            }
        }
        for (person, account) in &found.accounts {
            let mut scopes = by_account.remove(account).unwrap_or_default();
            for (scope, level) in wishes.get(person).unwrap_or(&none) {
                scopes.entry((scope.depth(), *scope)).or_default()[0] = Some(*level);
            }
            self.of_account(*person, Some(account), scopes);
        }
        let made: Vec<UserId> = self
            .drafts
            .iter()
            .filter_map(|draft| match &draft.action {
                Action::Create { person, .. } => Some(*person),
                _ => None,
            })
            .collect();
        for person in made {
            let theirs = wishes.get(&person).unwrap_or(&none);
            let scopes =
                theirs.iter().map(|(scope, level)| ((scope.depth(), *scope), [Some(*level), None, None]));
            self.of_account(person, None, scopes.collect());
        }
        // Ours once, of accounts that are gone or nobody's now.
        for (account, scopes) in by_account {
            for ((_, scope), [_, seen, own]) in scopes {
                // A place that wasn't there to be looked at says nothing of who has something in it.
                if seen.is_none() && own.is_some() && self.observed.scopes.contains(scope) {
                    let action = Action::Forget { account: account.clone(), scope: scope.clone() };
                    self.drafts.push(Draft::new(Phase::Record, action, Cause::Record));
                }
            }
        }
    }

    /// All that somebody has, is to have, or had from us.
    fn of_account(&mut self, person: UserId, account: Option<&AccountId>, scopes: ByScope<'a>) {
        let known = self.wanted.people.get(&person);
        let is_disabled = known.is_some_and(|known| !known.enabled);
        let is_protected = known.is_some_and(|known| known.service)
            || account.is_some_and(|account| self.policy.protected.contains(account));
        let mut after: BTreeMap<&ScopePath, Level> = BTreeMap::new();
        for ((_, scope), [want, seen, own]) in scopes {
            let is_inside = scope.outer().is_none_or(|outer| after.contains_key(&outer));
            let is_there = self.observed.scopes.contains(scope);
            let want = want.filter(|_| is_inside && is_there);
            let accepted = account
                .is_some_and(|account| self.recorded.accepted.contains(&(account.clone(), scope.clone())));
            // Somebody has changed it in the tool: it isn't as we left it, or more than it is to be and not from us.
            let is_drift = match own {
                Some(own) => want.is_some() && seen != Some(own),
                None => seen > want,
            };
            let drift = |verdict| Drift {
                person: Some(person),
                account: account.cloned(),
                scope: scope.clone(),
                seen,
                wanted: want,
                owned: own.is_some(),
                verdict,
            };
            let mut left = seen;
            if seen == want {
                // A place that wasn't there to be looked at says nothing of who has something in it.
                let was_seen = self.observed.scopes.contains(scope);
                let written = record(person, account, scope, want, own, is_protected);
                self.drafts.extend(written.filter(|_| was_seen));
            } else if is_protected && want < seen {
                self.drift.push(drift(Verdict::Protected));
            } else if is_drift && accepted && !is_disabled {
                // It is as somebody wants it.
            } else if is_drift && self.policy.drift == DriftPolicy::Report && !is_disabled {
                self.drift.push(drift(Verdict::Reported));
            } else {
                let cause = match (is_disabled, is_drift) {
                    (true, _) => Cause::Disabled,
                    (false, true) => Cause::Drift,
                    (false, false) => Cause::Roles,
                };
                if cause == Cause::Drift {
                    self.drift.push(drift(Verdict::Repaired));
                }
                let phase = if want < seen { Phase::Take } else { Phase::Give };
                let action = Action::Set {
                    person,
                    account: account.cloned(),
                    scope: scope.clone(),
                    from: seen,
                    to: want,
                };
                self.drafts.push(Draft::new(phase, action, cause));
                left = want;
            }
            if let Some(left) = left {
                after.insert(scope, left);
            }
        }
    }

    /// What is wanted where the tool has no such scope, and what accounts have whose holders nobody knows.
    fn unlinked(&mut self, found: &mut Correlated) {
        for ((person, scope), level) in &self.wanted.grants {
            if self.wanted.scopes.contains_key(scope) && !self.observed.scopes.contains(scope) {
                self.drift.push(Drift {
                    person: Some(*person),
                    account: found.accounts.get(person).cloned(),
                    scope: scope.clone(),
                    seen: None,
                    wanted: Some(*level),
                    owned: false,
                    verdict: Verdict::Unreachable,
                });
            }
        }
        let linked: BTreeSet<&AccountId> = found.accounts.values().collect();
        let mut unmatched = BTreeSet::new();
        for ((account, scope), level) in &self.observed.grants {
            if !self.wanted.scopes.contains_key(scope)
                || linked.contains(account)
                || self.policy.protected.contains(account)
            {
                continue;
            }
            unmatched.insert(account.clone());
            let key = (account.clone(), scope.clone());
            if !self.recorded.accepted.contains(&key) {
                self.drift.push(Drift {
                    person: None,
                    account: Some(account.clone()),
                    scope: scope.clone(),
                    seen: Some(*level),
                    wanted: None,
                    owned: self.recorded.grants.contains_key(&key),
                    verdict: Verdict::Unlinked,
                });
            }
        }
        found.identities.extend(unmatched.into_iter().map(|account| Identity {
            situation: Situation::Unmatched,
            person: None,
            account: Some(account),
            why: None,
        }));
    }

    /// Where all who run a scope would lose that, one stays until a successor has it; without a successor, for good.
    fn keep_somebody(&mut self) {
        let kept = |scope: &ScopePath| self.wanted.scopes.get(scope)?.kept;
        let mut scopes: BTreeMap<&ScopePath, Running> = BTreeMap::new();
        for ((_, scope), level) in &self.observed.grants {
            if kept(scope).is_some_and(|kept| *level >= kept) {
                scopes.entry(scope).or_default().holders += 1;
            }
        }
        for (place, draft) in self.drafts.iter().enumerate() {
            let Action::Set { scope, from, to, person, .. } = &draft.action else { continue };
            let (Some(kept), Some(running)) = (kept(scope), scopes.get_mut(scope)) else { continue };
            let runs = |level: &Option<Level>| level.is_some_and(|level| level >= kept);
            match (runs(from), runs(to)) {
                // Whoever was disabled goes first.
                (true, false) => running.losers.push((draft.cause == Cause::Disabled, *person, place)),
                (false, true) => running.gainers.push(*person),
                _ => {}
            }
        }
        let mut withheld = BTreeSet::new();
        for running in scopes.into_values().filter(|running| running.losers.len() == running.holders) {
            if let Some(successor) = running.gainers.into_iter().min() {
                for (_, _, place) in running.losers {
                    self.drafts[place].phase = Phase::TakeLast;
                    self.drafts[place].successor = Some(successor);
                }
            } else if let Some((_, _, place)) = running.losers.into_iter().min() {
                withheld.insert(place);
            }
        }
        self.withhold(&withheld);
    }

    /// Takes the steps at these places away, and shows what they would have changed.
    fn withhold(&mut self, places: &BTreeSet<usize>) {
        let mut drafts = Vec::with_capacity(self.drafts.len());
        let mut shown = BTreeMap::new();
        for (place, draft) in std::mem::take(&mut self.drafts).into_iter().enumerate() {
            match draft.action {
                Action::Set { person, account, scope, from, to } if places.contains(&place) => {
                    let owned = account.as_ref().is_some_and(|account| {
                        self.recorded.grants.contains_key(&(account.clone(), scope.clone()))
                    });
                    let drift = Drift {
                        person: Some(person),
                        account: account.clone(),
                        scope: scope.clone(),
                        seen: from,
                        wanted: to,
                        owned,
                        verdict: Verdict::LastAdministrator,
                    };
                    shown.insert((account, scope), drift);
                }
                action => drafts.push(Draft { action, ..draft }),
            }
        }
        self.drafts = drafts;
        if !shown.is_empty() {
            self.drift.retain(|known| !shown.contains_key(&(known.account.clone(), known.scope.clone())));
        }
        self.drift.extend(shown.into_values());
    }

    /// The steps in their order, each with those it needs.
    fn ordered(&mut self) -> Vec<Step> {
        let mut drafts = std::mem::take(&mut self.drafts);
        drafts.sort_by_cached_key(Draft::key);
        let (mut links, mut updates, mut creates) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        // What somebody has afterwards, and that of it which it had nothing of before.
        let (mut sets, mut entered) = (BTreeMap::new(), BTreeMap::new());
        for (place, draft) in drafts.iter().enumerate() {
            match &draft.action {
                Action::Link { person, .. } => links.insert(*person, place),
                Action::Update { person, .. } => updates.insert(*person, place),
                Action::Create { person, .. } => creates.insert(*person, place),
                Action::Set { person, scope, from, .. } => {
                    if from.is_none() {
                        entered.insert((*person, scope.clone()), place);
                    }
                    sets.insert((*person, scope.clone()), place)
                }
                Action::Adopt { .. } | Action::Forget { .. } => None,
            };
        }
        let steps = drafts.iter().enumerate().map(|(place, draft)| {
            let mut needs = BTreeSet::new();
            if let Some(other) = draft.after_mail_of {
                needs.extend(updates.get(&other));
            }
            match &draft.action {
                Action::Update { person, .. } | Action::Adopt { person, .. } => {
                    needs.extend(links.get(person));
                }
                Action::Set { person, scope, from, to, .. } => {
                    needs.extend(links.get(person));
                    needs.extend(creates.get(person));
                    if let Some(successor) = draft.successor {
                        needs.extend(sets.get(&(successor, scope.clone())));
                    }
                    if to > from
                        && let Some(outer) = scope.outer()
                    {
                        needs.extend(entered.get(&(*person, outer)));
                    }
                }
                Action::Link { .. } | Action::Create { .. } | Action::Forget { .. } => {}
            }
            needs.remove(&place);
            Step { action: draft.action.clone(), cause: draft.cause, needs: needs.into_iter().collect() }
        });
        steps.collect()
    }
}

/// What is written down of a grant that is as it is to be.
fn record(
    person: UserId,
    account: Option<&AccountId>,
    scope: &ScopePath,
    want: Option<Level>,
    own: Option<Level>,
    is_protected: bool,
) -> Option<Draft> {
    let account = account?.clone();
    let scope = scope.clone();
    let action = match want {
        None if own.is_some() => Action::Forget { account, scope },
        Some(level) if own != want && !is_protected => Action::Adopt { person, account, scope, level },
        _ => return None,
    };
    Some(Draft::new(Phase::Record, action, Cause::Record))
}
