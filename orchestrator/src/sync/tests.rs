use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ids::{TenantId, UserId};

const ACCOUNT: &str = "accounts/1";
const OTHER_ACCOUNT: &str = "accounts/2";
const TEAM: &str = "accounts/1/teams/1";
const INBOX: &str = "accounts/1/inboxes/1";

fn user(number: u128) -> UserId {
    UserId(Uuid::from_u128(number))
}

fn account(id: &str) -> AccountId {
    AccountId(id.to_owned())
}

fn scope(path: &str) -> ScopePath {
    ScopePath(path.to_owned())
}

fn mail(number: u128) -> String {
    format!("{number}@acme.test")
}

fn person(number: u128) -> Person {
    Person { name: format!("Person {number}"), mail: Some(mail(number)), enabled: true, service: false }
}

fn known(number: u128) -> Account {
    Account { name: format!("Person {number}"), mail: Some(mail(number)), confirmed: true, made_for: None }
}

fn scopes() -> BTreeMap<ScopePath, Scope> {
    let tenant = TenantId(Uuid::from_u128(77));
    let of = |kind, kept| Scope { kind, tenant, kept };
    BTreeMap::from([
        (scope(ACCOUNT), of(Kind::Account, Some(Level::ADMINISTRATOR))),
        (scope(OTHER_ACCOUNT), of(Kind::Account, Some(Level::ADMINISTRATOR))),
        (scope(TEAM), of(Kind::Team, None)),
        (scope(INBOX), of(Kind::Inbox, None)),
    ])
}

/// A tool as far as the engine knows it, and what we know of it.
#[derive(Debug, Clone)]
struct World {
    wanted: Wanted,
    observed: Observed,
    recorded: Recorded,
    policy: Policy,
}

impl World {
    /// A tool with nobody in it, where a plan was applied before.
    fn empty() -> Self {
        let scopes = scopes();
        Self {
            observed: Observed { scopes: scopes.keys().cloned().collect(), ..Observed::default() },
            wanted: Wanted { scopes, ..Wanted::default() },
            recorded: Recorded { contacted: true, ..Recorded::default() },
            policy: Policy::default(),
        }
    }

    /// With somebody who is to have this.
    fn wants(mut self, number: u128, place: &str, level: Level) -> Self {
        self.wanted.people.entry(user(number)).or_insert_with(|| person(number));
        self.wanted.grants.insert((user(number), scope(place)), level);
        self
    }

    /// With an account that somebody has, and what it has in the tool.
    fn has(mut self, number: u128, place: &str, level: Level) -> Self {
        self.wanted.people.entry(user(number)).or_insert_with(|| person(number));
        let id = account(&number.to_string());
        self.observed.accounts.entry(id.clone()).or_insert_with(|| known(number));
        let link = Link { account: id.clone(), evidence: Evidence::Created };
        self.recorded.links.insert(user(number), link);
        self.observed.grants.insert((id, scope(place)), level);
        self
    }

    /// As [`Self::has`], and by us.
    fn has_from_us(self, number: u128, place: &str, level: Level) -> Self {
        let mut world = self.has(number, place, level);
        world.recorded.grants.insert((account(&number.to_string()), scope(place)), level);
        world
    }

    fn enforcing(mut self) -> Self {
        self.policy.drift = DriftPolicy::Enforce;
        self
    }

    fn plan(&self) -> Plan {
        plan("tool", &self.wanted, &self.observed, &self.recorded, &self.policy)
    }

    /// Does what the tool and the engine do for a step, and holds the step against what a tool demands.
    fn take(&mut self, step: &Step) {
        let free = |observed: &Observed, mail: &String, but: Option<&AccountId>| {
            !observed.accounts.iter().any(|(id, known)| Some(id) != but && known.mail.as_ref() == Some(mail))
        };
        match step.action.clone() {
            Action::Link { person, account, evidence } => {
                assert!(!self.recorded.links.values().any(|link| link.account == account), "{step:?}");
                self.recorded.links.insert(person, Link { account, evidence });
            }
            Action::Adopt { account, scope, level, .. } => {
                assert_eq!(self.observed.grants.get(&(account.clone(), scope.clone())), Some(&level));
                self.recorded.grants.insert((account, scope), level);
            }
            Action::Forget { account, scope } => {
                assert!(!self.observed.grants.contains_key(&(account.clone(), scope.clone())));
                self.recorded.grants.remove(&(account, scope)).unwrap();
            }
            Action::Create { person, name, mail } => {
                assert!(free(&self.observed, &mail, None), "{step:?}");
                let id = account(&format!("new-{person}"));
                let made = Account { name, mail: Some(mail), confirmed: true, made_for: Some(person) };
                assert!(self.observed.accounts.insert(id.clone(), made).is_none());
                let link = Link { account: id, evidence: Evidence::Created };
                self.recorded.links.insert(person, link);
            }
            Action::Update { account, name, mail, .. } => {
                if let Some(mail) = &mail {
                    assert!(free(&self.observed, mail, Some(&account)), "{step:?}");
                }
                let known = self.observed.accounts.get_mut(&account).unwrap();
                known.name = name;
                known.mail = mail.or(known.mail.take());
            }
            Action::Set { person, account, scope, from, to } => {
                let account = account.unwrap_or_else(|| self.recorded.links[&person].account.clone());
                assert_eq!(self.recorded.links[&person].account, account);
                let key = (account.clone(), scope.clone());
                assert_eq!(self.observed.grants.get(&key).copied(), from);
                assert!(self.observed.scopes.contains(&scope));
                if let Some(level) = to {
                    if let (Some(outer), true) = (scope.outer(), to > from) {
                        assert!(self.observed.grants.contains_key(&(account, outer)), "{step:?}");
                    }
                    self.observed.grants.insert(key.clone(), level);
                    self.recorded.grants.insert(key, level);
                } else {
                    self.observed.grants.remove(&key);
                    self.recorded.grants.remove(&key);
                }
            }
        }
    }

    /// Takes the steps of a plan but for those that fail and those that need them, looking at the state after each.
    fn apply(&mut self, plan: &Plan, fails: &BTreeSet<usize>, mut look: impl FnMut(&Self)) {
        let mut not_done = BTreeSet::new();
        for (place, step) in plan.steps.iter().enumerate() {
            assert!(step.needs.iter().all(|needed| *needed < place), "{step:?} needs what comes later");
            if fails.contains(&place) || step.needs.iter().any(|needed| not_done.contains(needed)) {
                not_done.insert(place);
                continue;
            }
            self.take(step);
            look(self);
        }
        self.recorded.contacted = true;
    }

    fn runners(&self, place: &str) -> usize {
        let of = |(key, level): &(&(AccountId, ScopePath), &Level)| {
            key.1 == scope(place) && **level >= Level::ADMINISTRATOR
        };
        self.observed.grants.iter().filter(of).count()
    }
}

fn level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::MEMBER), Just(Level::ADMINISTRATOR)]
}

fn place() -> impl Strategy<Value = ScopePath> {
    prop_oneof![3 => Just(ACCOUNT), 1 => Just(OTHER_ACCOUNT), 2 => Just(TEAM), 1 => Just(INBOX)]
        .prop_map(scope)
}

fn world() -> impl Strategy<Value = World> {
    let people = proptest::collection::btree_map(
        (1_u128..6).prop_map(user),
        (0_u8..3, proptest::option::weighted(0.9, 1_u128..6), any::<[bool; 4]>()).prop_map(
            |(name, mail_of, [one, two, three, four])| Person {
                name: format!("Name {name}"),
                mail: mail_of.map(mail),
                enabled: one || two,
                service: one && two && three && four,
            },
        ),
        0..6,
    );
    let ids = || (1_u128..7).prop_map(|id| account(&id.to_string()));
    let accounts = proptest::collection::btree_map(
        ids(),
        (
            0_u8..3,
            proptest::option::weighted(0.9, 1_u128..6),
            any::<bool>(),
            proptest::option::weighted(0.2, (1_u128..6).prop_map(user)),
        )
            .prop_map(|(name, mail_of, confirmed, made_for)| Account {
                name: format!("Name {name}"),
                mail: mail_of.map(mail),
                confirmed,
                made_for,
            }),
        0..7,
    );
    let wishes = proptest::collection::btree_map(((1_u128..6).prop_map(user), place()), level(), 0..14);
    let grants = || proptest::collection::btree_map((ids(), place()), level(), 0..14);
    let links = proptest::collection::btree_map((1_u128..7).prop_map(user), ids(), 0..5);
    let keys = || proptest::collection::btree_set((ids(), place()), 0..3);
    let there = proptest::collection::btree_set(place(), 1..5);
    let policy = (any::<bool>(), proptest::collection::btree_set(ids(), 0..2));
    (people, accounts, wishes, (grants(), grants()), links, keys(), there, policy, any::<bool>()).prop_map(
        |(people, accounts, wishes, (seen, own), links, accepted, there, (enforce, protected), contacted)| {
            let mut taken = BTreeSet::new();
            let links: BTreeMap<UserId, Link> = links
                .into_iter()
                .filter(|(_, account)| taken.insert(account.clone()))
                .map(|(person, account)| (person, Link { account, evidence: Evidence::Created }))
                .collect();
            let mut seen: BTreeMap<(AccountId, ScopePath), Level> = seen
                .into_iter()
                .filter(|((id, place), _)| accounts.contains_key(id) && there.contains(place))
                .collect();
            // Nobody has something inside of what it doesn't have.
            let whole = seen.clone();
            seen.retain(|(id, place), _| {
                place.outer().is_none_or(|outer| whole.contains_key(&(id.clone(), outer)))
            });
            World {
                wanted: Wanted { people, scopes: scopes(), grants: wishes },
                observed: Observed { accounts, scopes: there, grants: seen },
                recorded: Recorded { contacted, links, grants: own, accepted },
                policy: Policy {
                    drift: if enforce { DriftPolicy::Enforce } else { DriftPolicy::Report },
                    protected,
                    limits: Limits::default(),
                },
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_plan_that_was_applied_leaves_nothing_to_plan(world in world()) {
        let mut after = world.clone();
        after.apply(&world.plan(), &BTreeSet::new(), |_| {});
        let again = after.plan();
        prop_assert_eq!(&again.steps, &Vec::new());
        prop_assert_eq!(&again.held, &Vec::new());
    }

    #[test]
    fn nobody_has_more_on_the_way_than_before_or_after(world in world(), fails in proptest::collection::btree_set(0_usize..30, 0..6)) {
        let plan = world.plan();
        let mut after = world.clone();
        after.apply(&plan, &BTreeSet::new(), |_| {});
        for fails in [BTreeSet::new(), fails] {
            world.clone().apply(&plan, &fails, |now| {
                for (key, level) in &now.observed.grants {
                    let most = world.observed.grants.get(key).max(after.observed.grants.get(key));
                    assert!(Some(level) <= most, "{key:?} has {level:?} and never was to");
                }
                for place in [ACCOUNT, OTHER_ACCOUNT] {
                    assert!(world.runners(place) == 0 || now.runners(place) > 0, "nobody runs {place}");
                }
            });
        }
    }

    #[test]
    fn a_plan_that_was_cut_off_anywhere_is_made_up_for_by_the_next_one(world in world(), done in 0_usize..30, fails in proptest::collection::btree_set(0_usize..30, 0..4)) {
        let plan = world.plan();
        let mut whole = world.clone();
        whole.apply(&plan, &BTreeSet::new(), |_| {});
        let mut cut = world.clone();
        let skipped: BTreeSet<usize> = (done..plan.steps.len()).chain(fails).collect();
        cut.apply(&plan, &skipped, |_| {});
        // Whose role shrinks where it runs something last waits for a successor, who may be there only now.
        for _ in 0..3 {
            let next = cut.plan();
            cut.apply(&next, &BTreeSet::new(), |_| {});
        }
        prop_assert_eq!(cut.plan().steps, Vec::new());
        prop_assert_eq!(cut.observed.grants.len(), whole.observed.grants.len());
    }

    #[test]
    fn nothing_is_taken_from_whom_we_do_not_know_and_from_the_protected(world in world()) {
        let mut after = world.clone();
        after.apply(&world.plan(), &BTreeSet::new(), |_| {});
        let linked: BTreeSet<&AccountId> = after.recorded.links.values().map(|link| &link.account).collect();
        for (key, level) in &world.observed.grants {
            if !linked.contains(&key.0) || world.policy.protected.contains(&key.0) {
                prop_assert!(after.observed.grants.get(key) >= Some(level), "{:?} is gone", key);
            }
        }
    }

    #[test]
    fn the_same_states_make_the_same_plan_and_a_file_keeps_it(world in world()) {
        let plan = world.plan();
        prop_assert_eq!(plan.canonical().unwrap(), world.clone().plan().canonical().unwrap());
        prop_assert_eq!(Plan::read(&plan.write().unwrap()).unwrap(), plan);
    }
}

#[test]
fn what_is_taken_comes_before_what_is_given_and_the_outermost_first() {
    let world = World::empty()
        .has_from_us(1, ACCOUNT, Level::ADMINISTRATOR)
        .has_from_us(2, ACCOUNT, Level::ADMINISTRATOR)
        .has_from_us(2, TEAM, Level::MEMBER)
        .has_from_us(3, ACCOUNT, Level::MEMBER)
        .wants(1, ACCOUNT, Level::ADMINISTRATOR)
        .wants(2, OTHER_ACCOUNT, Level::MEMBER)
        .wants(3, ACCOUNT, Level::MEMBER)
        .wants(3, TEAM, Level::MEMBER);
    let plan = world.plan();
    let told: Vec<String> = plan
        .steps
        .iter()
        .map(|step| match &step.action {
            Action::Set { person, scope, to, .. } => {
                format!("{} {scope} {:?}", person.0.as_u128(), to.map(|level| level.0))
            }
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            "2 accounts/1 None",
            "2 accounts/1/teams/1 None",
            "2 accounts/2 Some(10)",
            "3 accounts/1/teams/1 Some(10)",
        ]
    );
}

#[test]
fn who_runs_an_account_last_stays_until_a_successor_has_it() {
    let last = World::empty().has_from_us(1, ACCOUNT, Level::ADMINISTRATOR);
    let plan = last.plan();
    assert_eq!(plan.steps, []);
    assert_eq!(
        plan.drift.iter().map(|drift| drift.verdict).collect::<Vec<_>>(),
        [Verdict::LastAdministrator]
    );

    let with_successor = last.wants(2, ACCOUNT, Level::ADMINISTRATOR);
    let plan = with_successor.plan();
    let [create, give, take] = plan.steps.as_slice() else { panic!("{:?}", plan.steps) };
    assert!(matches!(create.action, Action::Create { .. }), "{create:?}");
    assert_eq!((give.needs.as_slice(), take.needs.as_slice()), (&[0][..], &[1][..]));
    assert!(take.action.takes() && !give.action.takes());
    assert_eq!(plan.drift, []);
}

#[test]
fn a_role_edited_by_hand_is_reported_or_repaired_by_the_tools_policy() {
    let mut edited = World::empty()
        .has_from_us(1, ACCOUNT, Level::MEMBER)
        .has_from_us(2, ACCOUNT, Level::ADMINISTRATOR)
        .wants(1, ACCOUNT, Level::MEMBER)
        .wants(2, ACCOUNT, Level::ADMINISTRATOR);
    edited.observed.grants.insert((account("1"), scope(ACCOUNT)), Level::ADMINISTRATOR);
    let plan = edited.plan();
    assert_eq!((plan.steps.len(), plan.drift[0].verdict), (0, Verdict::Reported));

    let plan = edited.clone().enforcing().plan();
    assert_eq!((plan.steps.len(), plan.drift[0].verdict), (1, Verdict::Repaired));
    assert_eq!(plan.steps[0].cause, Cause::Drift);

    edited.recorded.accepted.insert((account("1"), scope(ACCOUNT)));
    let plan = edited.enforcing().plan();
    assert_eq!((plan.steps, plan.drift), (vec![], vec![]));
}

#[test]
fn who_was_disabled_loses_everything_at_once_even_what_somebody_else_has_given() {
    let mut world = World::empty()
        .has_from_us(1, ACCOUNT, Level::ADMINISTRATOR)
        .wants(1, ACCOUNT, Level::ADMINISTRATOR)
        .has_from_us(2, ACCOUNT, Level::MEMBER)
        .has(2, TEAM, Level::MEMBER)
        .wants(2, ACCOUNT, Level::MEMBER)
        .has_from_us(3, ACCOUNT, Level::MEMBER);
    world.wanted.people.get_mut(&user(2)).unwrap().enabled = false;
    let plan = world.plan();
    let causes: Vec<Cause> = plan.steps.iter().map(|step| step.cause).collect();
    assert_eq!(causes, [Cause::Disabled, Cause::Disabled, Cause::Roles]);
    assert_eq!(plan.held, [Held::Empties { scope: scope(TEAM) }]);
    assert_eq!(plan.urgent(&Limits::default()), [0, 1]);
    let few = Limits { count: 1, ..Limits::default() };
    assert_eq!(plan.urgent(&few), Vec::<usize>::new());
}

#[test]
fn a_grant_that_is_as_it_is_to_be_becomes_ours_and_goes_with_the_role() {
    let mut world = World::empty()
        .has(1, ACCOUNT, Level::MEMBER)
        .has_from_us(2, ACCOUNT, Level::ADMINISTRATOR)
        .wants(1, ACCOUNT, Level::MEMBER)
        .wants(2, ACCOUNT, Level::ADMINISTRATOR);
    let plan = world.plan();
    assert_eq!((plan.counts.records, plan.steps.len()), (1, 1));
    world.apply(&plan, &BTreeSet::new(), |_| {});
    world.wanted.grants.remove(&(user(1), scope(ACCOUNT)));
    let plan = world.plan();
    assert!(plan.steps[0].action.takes(), "{:?}", plan.steps);

    // What somebody else gave and Keycloak never did stays, and is shown.
    world.recorded.grants.remove(&(account("1"), scope(ACCOUNT)));
    let plan = world.plan();
    assert_eq!((plan.steps.len(), plan.drift[0].verdict, plan.drift[0].owned), (0, Verdict::Reported, false));
}

/// How a world is changed.
type Change = fn(&mut World);

#[test]
fn an_account_is_linked_by_an_address_that_both_sides_have_verified_and_nobody_else_has() {
    let world = |change: Change| {
        let mut world = World::empty().wants(1, ACCOUNT, Level::MEMBER);
        world.observed.accounts.insert(account("9"), known(1));
        world.observed.grants.insert((account("9"), scope(TEAM)), Level::MEMBER);
        change(&mut world);
        world.plan()
    };
    let linked = world(|_| {});
    let evidence = Evidence::VerifiedMail;
    assert_eq!(linked.steps[0].action, Action::Link { person: user(1), account: account("9"), evidence });
    assert_eq!(linked.identities[0].situation, Situation::Matching);

    let cases: [(Change, Situation, Why); 4] = [
        (
            |world| world.observed.accounts.get_mut(&account("9")).unwrap().confirmed = false,
            Situation::Ambiguous,
            Why::Unconfirmed,
        ),
        (
            |world| world.wanted.people.get_mut(&user(1)).unwrap().mail = None,
            Situation::Unmatched,
            Why::NoVerifiedMail,
        ),
        (
            |world| {
                world.wanted.people.insert(user(2), Person { mail: Some(mail(1)), ..person(2) });
            },
            Situation::Ambiguous,
            Why::SharedMail,
        ),
        (
            |world| {
                world.observed.accounts.insert(account("8"), known(1));
            },
            Situation::Ambiguous,
            Why::SeveralAccounts,
        ),
    ];
    for (change, situation, why) in cases {
        let plan = world(change);
        assert_eq!(plan.steps, [], "{why:?}");
        let told = plan.identities.iter().find(|one| one.person == Some(user(1))).unwrap();
        assert_eq!((told.situation, told.why), (situation, Some(why)));
    }
}

#[test]
fn addresses_that_move_on_are_changed_one_behind_the_other_and_those_that_change_places_wait() {
    let mut world = World::empty();
    for number in [1, 2, 3] {
        world = world.has_from_us(number, ACCOUNT, Level::MEMBER).wants(number, ACCOUNT, Level::MEMBER);
    }
    let mut swapped = world.clone();
    for (number, becomes) in [(1, 2), (2, 3), (3, 4)] {
        world.wanted.people.get_mut(&user(number)).unwrap().mail = Some(mail(becomes));
    }
    let plan = world.plan();
    let order: Vec<u128> = plan
        .steps
        .iter()
        .map(|step| match &step.action {
            Action::Update { person, .. } => person.0.as_u128(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, [3, 2, 1]);
    assert_eq!(
        plan.steps.iter().map(|step| step.needs.clone()).collect::<Vec<_>>(),
        [vec![], vec![0], vec![1]]
    );

    for (number, becomes) in [(1, 2), (2, 1)] {
        swapped.wanted.people.get_mut(&user(number)).unwrap().mail = Some(mail(becomes));
    }
    let plan = swapped.plan();
    assert_eq!(plan.steps, []);
    assert_eq!(plan.identities.iter().filter(|one| one.why == Some(Why::MailTaken)).count(), 2);
}

/// Ninety who stay, and so many more who leave.
fn leaving(leavers: u128, stay: u128) -> World {
    let mut world =
        World::empty().has_from_us(1, ACCOUNT, Level::ADMINISTRATOR).wants(1, ACCOUNT, Level::ADMINISTRATOR);
    for number in 2..=stay {
        world = world.has_from_us(number, ACCOUNT, Level::MEMBER).wants(number, ACCOUNT, Level::MEMBER);
    }
    for number in 0..leavers {
        world = world.has_from_us(1_000 + number, ACCOUNT, Level::MEMBER);
    }
    world
}

#[test]
fn a_plan_that_takes_much_is_held() {
    assert_eq!(leaving(10, 90).plan().held, []);
    let too_many = |taken, of| [Held::TooMany { kind: Kind::Account, taken, of }];
    assert_eq!(leaving(11, 89).plan().held, too_many(11, 100));
    assert_eq!(leaving(20, 380).plan().held, []);
    assert_eq!(leaving(21, 379).plan().held, too_many(21, 400));
    // In a small team, one is always more than a tenth.
    assert_eq!(leaving(3, 2).plan().held, []);
    assert_eq!(leaving(4, 2).plan().held, too_many(4, 6));
}

#[test]
fn a_first_contact_and_a_tool_that_has_lost_what_we_knew_are_held() {
    let mut world = leaving(0, 30);
    world.recorded.contacted = false;
    assert_eq!(world.plan().held, [], "without a step there is nothing to hold");
    world = world.wants(50, ACCOUNT, Level::MEMBER);
    assert_eq!(world.plan().held, [Held::FirstContact]);

    // An old state of the tool: accounts that we made aren't there.
    let mut wiped = leaving(0, 5);
    wiped.observed.accounts.retain(|id, _| id.0 == "1");
    wiped.observed.grants.retain(|(id, _), _| id.0 == "1");
    assert_eq!(wiped.plan().held, [Held::Recreates { accounts: 4 }]);

    // Or they are, and their grants aren't.
    let mut emptied = leaving(0, 30).enforcing();
    emptied.observed.grants.retain(|(id, _), _| id.0 == "1");
    assert_eq!(emptied.plan().held, [Held::Restores { kind: Kind::Account, grants: 29 }]);
}

#[test]
fn a_team_that_would_be_empty_is_held_and_one_that_changes_hands_is_not() {
    let team = World::empty()
        .has_from_us(1, ACCOUNT, Level::ADMINISTRATOR)
        .wants(1, ACCOUNT, Level::ADMINISTRATOR)
        .has_from_us(1, TEAM, Level::MEMBER);
    assert_eq!(team.plan().held, [Held::Empties { scope: scope(TEAM) }]);
    let handed_over = team.wants(2, ACCOUNT, Level::MEMBER).wants(2, TEAM, Level::MEMBER);
    assert_eq!(handed_over.plan().held, []);
}

#[test]
fn a_file_that_was_changed_is_no_plan() {
    let file = leaving(2, 90).plan().write().unwrap();
    let text = String::from_utf8(file).unwrap();
    let changed = text.replace("\"cause\": \"roles\"", "\"cause\": \"drift\"");
    assert_ne!(changed, text);
    assert!(matches!(Plan::read(changed.as_bytes()), Err(ReadPlanError::Digest)));
    let newer = text.replace("\"format\": 1", "\"format\": 2");
    assert!(matches!(Plan::read(newer.as_bytes()), Err(ReadPlanError::Format(2))));
    assert!(matches!(Plan::read(b"{}"), Err(ReadPlanError::Json(_))));
}

/// So many people in groups of ten, all of them new.
fn many(people: u128) -> World {
    let mut world = World::empty();
    for number in 0..people {
        world = world.wants(number, ACCOUNT, Level::MEMBER).wants(number, TEAM, Level::MEMBER);
    }
    world
}

#[test]
fn each_person_costs_the_same_however_many_there_are() {
    let plan = many(5_000).plan();
    assert_eq!((plan.counts.creates, plan.steps.len()), (5_000, 15_000));
    let needs: usize = plan.steps.iter().map(|step| step.needs.len()).sum();
    assert_eq!(needs, 15_000);
}
