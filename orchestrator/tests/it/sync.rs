//! Roles flow downward, into Chatwoot's double: what the engine plans, and what has come of it there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::State,
    http::Method,
    routing::{get, post},
};
use chancery::{
    auth::Role,
    directory::{Directory, DirectoryError},
    ids::{TenantId, UserId},
    sync::{
        AccountId, Action, ChatwootTool, DriftPolicy, Ended, Held, Journal, Note, Outcome, Person, Plan,
        Policy, Realm, Recorded, Situation, Step, Tool as _, Verdict, Wanted, Whose, apply, plan,
    },
    testing::{ACME, TestApp},
};
use connector_chatwoot::{
    AccountRole, AssignTo, ChatwootClient,
    fake::{ACCOUNT_ID, ADMINISTRATOR_ID, AgentAccount, FakeChatwoot, Options},
};
use connector_core::{MockClock, RandomIds, fake::serve};
use connector_keycloak::{KeycloakAdmin, KeycloakSettings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;
use uuid::Uuid;

const INBOX: i64 = 2;
const OTHER_INBOX: i64 = 1;
/// Who works in Chatwoot and is nobody whom Keycloak knows.
const TEMP: i64 = 9;

fn tenant() -> TenantId {
    TenantId(Uuid::from_u128(1_000))
}

fn other_tenant() -> TenantId {
    TenantId(Uuid::from_u128(2_000))
}

fn user(number: u128) -> UserId {
    UserId(Uuid::from_u128(number))
}

/// Keycloak's people, with a role each in one of two tenants.
fn realm(people: &[(u128, TenantId, Role)]) -> Realm {
    let mut realm = Realm::default();
    for (number, tenant, role) in people {
        let person = Person {
            name: format!("Person {number}"),
            mail: Some(format!("{number}@acme.test")),
            enabled: true,
            service: false,
        };
        realm.people.entry(user(*number)).or_insert(person);
        let roles = realm.roles.entry(*tenant).or_default().entry(user(*number)).or_default();
        roles.extend([Role::Member, *role]);
    }
    realm
}

/// The journal of a process that dies when so much has been written.
#[derive(Debug, Default)]
struct Written {
    kept: Recorded,
    ended: Vec<(usize, &'static str)>,
    left: Option<usize>,
}

impl Written {
    fn write(&mut self) -> Result<(), &'static str> {
        match &mut self.left {
            Some(0) => Err("killed"),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Journal for Written {
    type Error = &'static str;

    async fn begin(&mut self, _place: usize, _step: &Step) -> Result<(), Self::Error> {
        self.write()
    }

    async fn end(
        &mut self,
        place: usize,
        _step: &Step,
        ended: &Ended,
        note: Option<&Note>,
    ) -> Result<(), Self::Error> {
        self.write()?;
        self.ended.push((place, ended.as_str()));
        if let Some(note) = note {
            self.kept.keep(note);
        }
        Ok(())
    }
}

/// Chatwoot's double, and what we know of it.
struct Stage {
    double: Arc<FakeChatwoot>,
    client: ChatwootClient,
    tool: ChatwootTool,
    recorded: Recorded,
    policy: Policy,
    _directory: tempfile::TempDir,
}

impl Stage {
    async fn start(whose: Whose) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let double = FakeChatwoot::open(Options {
            public_url: url,
            state_path: directory.path().join("chatwoot.json"),
            clock: Arc::new(MockClock::new("2026-12-01T08:00:00Z".parse().unwrap())),
            ids: Arc::new(RandomIds),
            agents: vec![
                AgentAccount { id: 6, name: "Person 6".to_owned(), email: "6@acme.test".to_owned() },
                AgentAccount { id: TEMP, name: "Temp".to_owned(), email: "temp@agency.test".to_owned() },
            ],
        })
        .unwrap();
        // Everybody works in every inbox until it is said who does.
        for inbox in [INBOX, OTHER_INBOX] {
            double.set_inbox_members(inbox, vec![TEMP]).unwrap();
        }
        tokio::spawn(serve(double.router(), listener, std::future::pending()));
        let client = ChatwootClient::new(&double.settings()).unwrap();
        let tool =
            ChatwootTool::new(client.clone(), Arc::new(RandomIds), BTreeMap::from([(ACCOUNT_ID, whose)]));
        let protected = BTreeSet::from([AccountId(ADMINISTRATOR_ID.to_string())]);
        let policy = Policy { protected, ..Policy::default() };
        Self { double, client, tool, recorded: Recorded::default(), policy, _directory: directory }
    }

    async fn own() -> Self {
        Self::start(Whose::Tenant(tenant())).await
    }

    async fn plan(&self, realm: &Realm) -> Plan {
        let wanted: Wanted = self.tool.wants(realm.clone());
        let linked = self.recorded.links.values().map(|link| link.account.clone()).collect();
        let observed = self.tool.observe(&wanted.scopes, &linked).await.unwrap();
        plan(self.tool.name(), &wanted, &observed, &self.recorded, &self.policy)
    }

    /// Applies a plan, up to so many writes of the journal; what is known afterwards is what was written.
    async fn apply(&mut self, plan: &Plan, writes: Option<usize>) -> Result<Outcome, &'static str> {
        let mut recorded = self.recorded.clone();
        let mut journal = Written { kept: self.recorded.clone(), left: writes, ..Written::default() };
        let outcome = apply(&self.tool, plan, None, &mut recorded, &mut journal).await;
        if outcome.is_ok() {
            assert_eq!(recorded, journal.kept);
        }
        self.recorded = journal.kept;
        self.recorded.contacted = true;
        outcome
    }

    /// Plans and applies, and looks whether that has led to what was planned for.
    async fn run(&mut self, realm: &Realm) -> Plan {
        let plan = self.plan(realm).await;
        let outcome = self.apply(&plan, None).await.unwrap();
        assert_eq!((outcome.failed, outcome.skipped), (0, 0), "{plan:#?}");
        assert_eq!(self.plan(realm).await.steps, []);
        plan
    }

    /// What was written in Chatwoot since the last look, but for asking for a user, which makes one at most once.
    fn writes(&self) -> usize {
        let requests = self.double.received().take();
        requests
            .iter()
            .filter(|request| request.method != Method::GET && !request.path.ends_with("/users"))
            .count()
    }

    /// Who works in the account as what, by address.
    async fn roles(&self) -> BTreeMap<String, String> {
        let agents = self.client.agents().await.unwrap();
        let of =
            |agent: &connector_chatwoot::Agent| (agent.email.clone().unwrap(), agent.role.clone().unwrap());
        agents.iter().filter(|agent| agent.id != ADMINISTRATOR_ID).map(of).collect()
    }

    async fn inbox(&self, inbox: i64) -> Vec<String> {
        let members = self.client.inbox_members(inbox).await.unwrap();
        let mut mails: Vec<String> = members.into_iter().map(|agent| agent.email.unwrap()).collect();
        mails.sort();
        mails
    }

    fn id(&self, number: u128) -> i64 {
        self.recorded.links[&user(number)].account.0.parse().unwrap()
    }

    /// A conversation that a customer began, assigned to somebody.
    async fn conversation(&self, assignee: i64) -> i64 {
        let url = |path: &str| format!("{}public/api/v1/{path}", self.double.public_url());
        let contacts = url(&format!("inboxes/{}/contacts", self.double.inbox_identifier()));
        let post = async |url: String, body: Value| -> Value {
            reqwest::Client::new().post(url).json(&body).send().await.unwrap().json().await.unwrap()
        };
        let contact = post(contacts.clone(), json!({ "name": "Carla" })).await;
        let conversations = format!("{contacts}/{}/conversations", contact["source_id"].as_str().unwrap());
        let number = post(conversations, json!({})).await["id"].as_i64().unwrap();
        self.client.assign(number, AssignTo::Agent(assignee)).await.unwrap();
        number
    }
}

fn roles(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected.iter().map(|(mail, role)| ((*mail).to_owned(), (*role).to_owned())).collect()
}

#[tokio::test]
async fn the_people_of_a_tenant_come_into_its_account_and_leave_it_again() {
    let mut stage = Stage::own().await;
    let mut people = vec![
        (1, tenant(), Role::Owner),
        (2, tenant(), Role::Agent),
        (3, tenant(), Role::Viewer),
        (6, tenant(), Role::Manager),
    ];
    let first = stage.plan(&realm(&people)).await;
    assert_eq!(first.held, [Held::FirstContact]);
    assert_eq!((first.counts.creates, first.counts.records), (2, 2), "6 is there, and is linked and adopted");
    stage.run(&realm(&people)).await;
    assert_eq!(
        stage.roles().await,
        roles(&[
            ("1@acme.test", "administrator"),
            ("2@acme.test", "agent"),
            ("6@acme.test", "agent"),
            ("temp@agency.test", "agent")
        ])
    );

    // A role that grows and one that shrinks, and somebody who leaves with a conversation.
    let conversation = stage.conversation(stage.id(2)).await;
    people = vec![(1, tenant(), Role::Agent), (6, tenant(), Role::Owner)];
    stage.writes();
    stage.run(&realm(&people)).await;
    assert_eq!(
        stage.roles().await,
        roles(&[("1@acme.test", "agent"), ("6@acme.test", "administrator"), ("temp@agency.test", "agent")])
    );
    assert_eq!(stage.client.conversation(conversation).await.unwrap().assignee, None);

    // A run in which nothing has changed writes nothing.
    stage.writes();
    assert_eq!(stage.run(&realm(&people)).await.steps, []);
    assert_eq!(stage.writes(), 0);

    // Who comes back has its old account.
    let id = stage.id(2);
    people.push((2, tenant(), Role::Agent));
    let plan = stage.run(&realm(&people)).await;
    assert_eq!((plan.counts.creates, stage.id(2)), (0, id));
}

#[tokio::test]
async fn tenants_that_share_an_account_have_their_inboxes_and_no_administrator() {
    let whose = Whose::Shared(BTreeMap::from([(INBOX, tenant()), (OTHER_INBOX, other_tenant())]));
    let mut stage = Stage::start(whose).await;
    let people = [(1, tenant(), Role::Owner), (2, other_tenant(), Role::Agent), (6, tenant(), Role::Agent)];
    stage.run(&realm(&people)).await;
    let all = ["1@acme.test", "2@acme.test", "6@acme.test", "temp@agency.test"];
    assert_eq!(stage.roles().await, roles(&all.map(|mail| (mail, "agent"))));
    // Whom somebody else has let in stays.
    assert_eq!(stage.inbox(INBOX).await, ["1@acme.test", "6@acme.test", "temp@agency.test"]);
    assert_eq!(stage.inbox(OTHER_INBOX).await, ["2@acme.test", "temp@agency.test"]);

    // To the other tenant, and out of the account.
    let people = [(1, other_tenant(), Role::Owner), (2, other_tenant(), Role::Agent)];
    stage.run(&realm(&people)).await;
    assert_eq!(stage.inbox(INBOX).await, ["temp@agency.test"]);
    assert_eq!(stage.inbox(OTHER_INBOX).await, ["1@acme.test", "2@acme.test", "temp@agency.test"]);
    assert!(!stage.roles().await.contains_key("6@acme.test"));
}

#[tokio::test]
async fn who_was_disabled_is_out_at_once_while_the_rest_of_the_plan_is_held() {
    let mut stage = Stage::own().await;
    let mut people: Vec<(u128, TenantId, Role)> =
        (10..30).map(|number| (number, tenant(), Role::Agent)).collect();
    people.push((1, tenant(), Role::Owner));
    stage.run(&realm(&people)).await;
    let conversation = stage.conversation(stage.id(29)).await;

    // Five leave, which is held, and one was disabled.
    let mut after = realm(&people[5..]);
    after.people.get_mut(&user(29)).unwrap().enabled = false;
    let plan = stage.plan(&after).await;
    assert!(matches!(plan.held.as_slice(), [Held::TooMany { taken: 6, .. }]), "{:?}", plan.held);
    let urgent: BTreeSet<usize> = plan.urgent(&stage.policy.limits).into_iter().collect();
    assert_eq!(urgent.len(), 1);
    let mut recorded = stage.recorded.clone();
    let mut journal = Written { kept: stage.recorded.clone(), ..Written::default() };
    let outcome = apply(&stage.tool, &plan, Some(&urgent), &mut recorded, &mut journal).await.unwrap();
    assert_eq!((outcome.done, journal.ended.len()), (1, 1));
    stage.recorded = recorded;
    let there = stage.roles().await;
    assert!(!there.contains_key("29@acme.test") && there.contains_key("10@acme.test"));
    assert_eq!(stage.client.conversation(conversation).await.unwrap().assignee, None);
    assert_eq!(stage.plan(&after).await.steps.len(), 5);
}

#[tokio::test]
async fn a_role_edited_in_chatwoot_is_reported_or_repaired_and_whom_we_do_not_know_stays() {
    let mut stage = Stage::own().await;
    let people = realm(&[(1, tenant(), Role::Owner), (2, tenant(), Role::Agent)]);
    stage.run(&people).await;
    stage.client.set_account_role(stage.id(2), &AccountRole::Administrator).await.unwrap();
    stage.client.set_account_role(TEMP, &AccountRole::Administrator).await.unwrap();

    let verdicts = |plan: &Plan| -> Vec<(String, Verdict)> {
        let of = |drift: &chancery::sync::Drift| (drift.account.as_ref().unwrap().0.clone(), drift.verdict);
        let mut found: Vec<_> = plan.drift.iter().map(of).collect();
        found.sort();
        found
    };
    let mut edited =
        vec![(stage.id(2).to_string(), Verdict::Reported), (TEMP.to_string(), Verdict::Unlinked)];
    edited.push(("6".to_owned(), Verdict::Unlinked));
    edited.sort();
    let plan = stage.run(&people).await;
    assert_eq!((plan.steps.len(), verdicts(&plan)), (0, edited));

    stage.policy.drift = DriftPolicy::Enforce;
    let plan = stage.run(&people).await;
    assert_eq!(plan.steps.len(), 1);
    let there = stage.roles().await;
    assert_eq!(
        (there["2@acme.test"].as_str(), there["temp@agency.test"].as_str()),
        ("agent", "administrator")
    );
}

#[tokio::test]
async fn a_chatwoot_that_was_emptied_is_a_held_plan() {
    let mut stage = Stage::own().await;
    let people = realm(&[(1, tenant(), Role::Owner), (2, tenant(), Role::Agent)]);
    stage.run(&people).await;
    let mut emptied = Stage::own().await;
    emptied.recorded = stage.recorded.clone();
    let plan = emptied.plan(&people).await;
    assert_eq!(plan.held, [Held::Recreates { accounts: 2 }]);
    let orphaned = plan.identities.iter().filter(|one| one.situation == Situation::Orphaned).count();
    assert_eq!(orphaned, 2);
}

#[tokio::test]
async fn a_step_that_fails_does_not_stop_the_others() {
    let mut stage = Stage::own().await;
    let people = realm(&[(1, tenant(), Role::Owner), (2, tenant(), Role::Agent), (3, tenant(), Role::Agent)]);
    let plan = stage.plan(&people).await;
    // Somebody has taken the address meanwhile, for somebody else.
    let other = connector_chatwoot::NewUser {
        name: "Other".to_owned(),
        email: "2@acme.test".to_owned(),
        password: "Secret-1-enough".into(),
        custom_attributes: serde_json::Map::from_iter([(
            chancery::sync::MADE_FOR.to_owned(),
            json!(user(77)),
        )]),
    };
    stage.client.ensure_user(&other).await.unwrap();
    let outcome = stage.apply(&plan, None).await.unwrap();
    assert_eq!(outcome, Outcome { done: 4, already_so: 0, failed: 1, skipped: 1 });
    let there = stage.roles().await;
    assert!(there.contains_key("1@acme.test") && there.contains_key("3@acme.test"));
    assert!(!there.contains_key("2@acme.test"));
}

/// What a plan has to do that makes, changes, moves and takes.
fn before_and_after() -> (Realm, Realm) {
    let both = |number, role| [(number, tenant(), role), (number, other_tenant(), role)];
    let mut people: Vec<(u128, TenantId, Role)> = Vec::new();
    for number in [1, 2, 3, 4] {
        people.push((number, tenant(), Role::Agent));
    }
    people.extend(both(5, Role::Agent));
    let before = realm(&people);
    // 2 leaves, 3 is disabled, 4 changes tenants and its name and address, 5 leaves one of two, and 6 to 8 are new.
    let mut people =
        vec![(1, tenant(), Role::Owner), (3, tenant(), Role::Agent), (4, other_tenant(), Role::Agent)];
    people.extend([(5, other_tenant(), Role::Agent), (6, tenant(), Role::Agent), (7, tenant(), Role::Agent)]);
    people.extend(both(8, Role::Manager));
    let mut after = realm(&people);
    after.people.get_mut(&user(3)).unwrap().enabled = false;
    let renamed = after.people.get_mut(&user(4)).unwrap();
    "Émile “Four” O’Neil <4> 名".clone_into(&mut renamed.name);
    renamed.mail = Some("emile@acme.test".to_owned());
    (before, after)
}

/// Everything that one sees of a Chatwoot: who works in the account as what, who in which inbox, and which users there are.
#[derive(Debug, PartialEq)]
struct Seen {
    roles: BTreeMap<String, String>,
    inboxes: [Vec<String>; 2],
    users: Vec<(String, String)>,
}

async fn all_of(stage: &Stage) -> Seen {
    let mut users = Vec::new();
    for id in (1..=12).chain(ADMINISTRATOR_ID..ADMINISTRATOR_ID + 12) {
        if let Ok(user) = stage.client.user(id).await {
            users.push((user.email, user.name));
        }
    }
    users.sort();
    Seen {
        roles: stage.roles().await,
        inboxes: [stage.inbox(INBOX).await, stage.inbox(OTHER_INBOX).await],
        users,
    }
}

#[tokio::test]
async fn a_run_that_was_killed_anywhere_is_made_up_for_and_nothing_is_done_twice() {
    let shared = || Whose::Shared(BTreeMap::from([(INBOX, tenant()), (OTHER_INBOX, other_tenant())]));
    let (before, after) = before_and_after();
    let mut whole = Stage::start(shared()).await;
    whole.run(&before).await;
    whole.writes();
    let plan = whole.plan(&after).await;
    assert!(plan.steps.len() > 15, "{:#?}", plan.counts);
    let sorts: BTreeSet<&str> = plan
        .steps
        .iter()
        .map(|step| match &step.action {
            Action::Link { .. } => "link",
            Action::Adopt { .. } => "adopt",
            Action::Forget { .. } => "forget",
            Action::Create { .. } => "create",
            Action::Update { .. } => "update",
            Action::Set { .. } if step.action.takes() => "take",
            Action::Set { .. } => "give",
        })
        .collect();
    assert_eq!(sorts, BTreeSet::from(["adopt", "create", "give", "link", "take", "update"]));
    whole.run(&after).await;
    let writes = whole.writes();
    let expected = all_of(&whole).await;

    // Before a step's beginning is written, and before its end is.
    for killed_after in 0..plan.steps.len() * 2 {
        let mut stage = Stage::start(shared()).await;
        stage.run(&before).await;
        stage.writes();
        let again = stage.plan(&after).await;
        assert_eq!(stage.apply(&again, Some(killed_after)).await, Err("killed"));
        stage.run(&after).await;
        assert_eq!(stage.writes(), writes, "killed after {killed_after}");
        assert_eq!(all_of(&stage).await, expected, "killed after {killed_after}");
    }
}

#[tokio::test]
async fn tenants_are_read_with_everybody_or_not_at_all() {
    let app = TestApp::start().await;
    let keycloak = &app.doubles().keycloak;
    for number in 0..25 {
        let group = format!("{ACME}/guild-{number:02}");
        keycloak.create_group(&group).unwrap();
        app.add_person(&format!("member-{number:02}"), &[&group]);
    }
    for number in 0..210 {
        app.add_person(&format!("agent-{number:03}"), &["/organizations/acme-corp/agents"]);
    }
    keycloak.set_enabled("agent-000", false).unwrap();
    let directory = &app.state().directory;
    let gone = TenantId(Uuid::from_u128(404));
    let whole = directory.read_whole(&BTreeSet::from([app.tenant(ACME), gone])).await.unwrap();
    assert!(!whole.roles.contains_key(&gone));
    let realm = Realm::from(whole);
    let roles = &realm.roles[&app.tenant(ACME)];
    let of = |role| roles.values().filter(|theirs| theirs.contains(&role)).count();
    assert!(of(Role::Agent) >= 210 && roles.len() >= 235, "{} of {}", of(Role::Agent), roles.len());
    let disabled = &realm.people[&app.user("agent-000")];
    assert!(!disabled.enabled);
    let somebody = &realm.people[&app.user("agent-001")];
    assert_eq!(somebody.mail.as_deref(), Some("agent-001@example.test"));

    keycloak.set_unavailable(true);
    let refused = directory.read_whole(&BTreeSet::from([app.tenant(ACME)])).await;
    assert!(matches!(refused, Err(DirectoryError::Keycloak(_))), "{refused:?}");
}

/// How many times the members of the group have been asked for.
type Asked = Arc<std::sync::atomic::AtomicUsize>;

#[tokio::test]
async fn a_reading_in_which_a_page_came_short_is_none() {
    let app = TestApp::start().await;
    let group = Uuid::from_u128(5);
    let asked = Asked::default();
    let members = async |State(asked): State<Asked>| {
        let turn = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let there = [1, 2].map(|number| json!({ "id": Uuid::from_u128(number), "username": format!("p{number}"), "enabled": true }));
        // The first answer is empty, as of a server that has just lost its cache.
        Json(if turn == 0 { json!([]) } else { json!(there) })
    };
    let router = Router::new()
        .route(
            "/realms/r/protocol/openid-connect/token",
            post(async || Json(json!({ "access_token": "t", "expires_in": 300 }))),
        )
        .route(
            "/admin/realms/r/groups/{group}",
            get(async move || Json(json!({ "id": group, "name": "acme", "path": "/organizations/acme" }))),
        )
        .route("/admin/realms/r/groups/{group}/children", get(async || Json(json!([]))))
        .route("/admin/realms/r/groups/{group}/members", get(members))
        .with_state(asked);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = KeycloakSettings {
        url: format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap(),
        realm: "r".to_owned(),
        client_id: "c".to_owned(),
        client_secret: "s".into(),
    };
    tokio::spawn(async move { axum::serve(listener, router).await });
    let clock = Arc::clone(&app.state().clock);
    let keycloak = Arc::new(KeycloakAdmin::new(settings, Arc::clone(&clock)).unwrap());
    let directory = Directory::new(app.state().database.clone(), keycloak, clock);
    let tenants = BTreeSet::from([TenantId(group)]);
    let first = tokio::time::timeout(Duration::from_secs(10), directory.read_whole(&tenants)).await.unwrap();
    assert!(matches!(first, Err(DirectoryError::Contended)), "{first:?}");
    assert_eq!(directory.read_whole(&tenants).await.unwrap().people.len(), 2);
}
