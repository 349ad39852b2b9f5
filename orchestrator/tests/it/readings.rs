//! Readings of Keycloak that overtake each other, and replicas that compare by turns.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::Response,
};
use chancery::{
    auth::PrincipalSource as _,
    db::Duty,
    directory::{Directory, Reconciler},
    ids::UserId,
    testing::{ACME, TestApp},
};
use connector_keycloak::{KeycloakAdmin, KeycloakSettings};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

const VIEWERS: &str = "/organizations/acme-corp/viewers";
const PATIENCE: Duration = Duration::from_secs(10);

/// A way to Keycloak on which an answer is held up after Keycloak has given it.
struct SlowRoad {
    /// Paths with this ending are held up, once.
    held: String,
    /// Paths with this ending are forbidden.
    forbidden: &'static str,
    keycloak: String,
    http: reqwest::Client,
    requests: AtomicUsize,
    has_answer: mpsc::UnboundedSender<()>,
    let_through: tokio::sync::Semaphore,
    was_held: AtomicUsize,
    /// How often admin events were asked for.
    looks: AtomicUsize,
}

impl SlowRoad {
    async fn open(app: &TestApp, held: String) -> (Arc<Self>, Directory, mpsc::UnboundedReceiver<()>) {
        Self::open_without(app, held, "/nothing").await
    }

    async fn open_without(
        app: &TestApp,
        held: String,
        forbidden: &'static str,
    ) -> (Arc<Self>, Directory, mpsc::UnboundedReceiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (has_answer, held_answers) = mpsc::unbounded_channel();
        let road = Arc::new(Self {
            held,
            forbidden,
            keycloak: app.state().config.keycloak.url.trim_end_matches('/').to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            requests: AtomicUsize::new(0),
            has_answer,
            let_through: tokio::sync::Semaphore::new(0),
            was_held: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
        });
        let router = Router::new().fallback(forward).with_state(Arc::clone(&road));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (road, directory(app, &url), held_answers)
    }
}

async fn forward(State(road): State<Arc<SlowRoad>>, request: Request) -> Response {
    road.requests.fetch_add(1, Ordering::SeqCst);
    let (parts, body) = request.into_parts();
    if parts.uri.path().ends_with("/admin-events") {
        road.looks.fetch_add(1, Ordering::SeqCst);
    }
    if parts.uri.path().ends_with(road.forbidden) {
        return Response::builder().status(403).body(Body::empty()).unwrap();
    }
    let url = format!("{}{}", road.keycloak, parts.uri);
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut headers = parts.headers;
    headers.remove("host");
    let answer = road.http.request(parts.method, url).headers(headers).body(body).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    if let Some(kind) = answer.headers().get("content-type") {
        response = response.header("content-type", kind);
    }
    let response = response.body(Body::from(answer.bytes().await.unwrap())).unwrap();
    if parts.uri.path().ends_with(&road.held) && road.was_held.fetch_add(1, Ordering::SeqCst) == 0 {
        road.has_answer.send(()).unwrap();
        road.let_through.acquire().await.unwrap().forget();
    }
    response
}

/// The directory of a replica that reaches Keycloak at `url`.
fn directory(app: &TestApp, url: &str) -> Directory {
    let settings = KeycloakSettings {
        url: url.parse().unwrap(),
        realm: "chancery".to_owned(),
        client_id: "chancery-sync".to_owned(),
        client_secret: app.state().config.keycloak.sync_client_secret.clone(),
    };
    let clock = app.state().clock.clone();
    let keycloak = KeycloakAdmin::new(settings, clock.clone()).unwrap();
    Directory::new(app.state().database.clone(), Arc::new(keycloak), clock)
}

async fn roles(app: &TestApp, username: &str) -> Vec<String> {
    sqlx::query_scalar("SELECT role FROM memberships WHERE tenant_id = $1 AND user_id = $2 ORDER BY 1")
        .bind(app.tenant(ACME).0)
        .bind(app.user(username).0)
        .fetch_all(app.superuser())
        .await
        .unwrap()
}

async fn is_enabled(app: &TestApp, username: &str) -> bool {
    is_user_enabled(app, app.user(username)).await
}

async fn is_user_enabled(app: &TestApp, user: UserId) -> bool {
    sqlx::query_scalar("SELECT enabled FROM principals WHERE id = $1")
        .bind(user.0)
        .fetch_one(app.superuser())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_users_older_reading_does_not_bring_back_what_a_tenants_newer_one_took_away() {
    let app = TestApp::start().await;
    let (acme, viewer) = (app.tenant(ACME), app.user("acme-viewer"));
    let keycloak = &app.doubles().keycloak;
    // Whether the mirror has it already or not: what was read as "in" must not be written when it is "out".
    for is_known in [true, false] {
        keycloak.add_to_group("acme-viewer", VIEWERS).unwrap();
        if is_known {
            app.state().directory.refresh_user(viewer).await.unwrap();
            assert_eq!(roles(&app, "acme-viewer").await, ["viewer"]);
        }
        let (road, slow, mut held) = SlowRoad::open(&app, format!("/users/{viewer}/groups")).await;
        let reading = tokio::spawn(async move { slow.refresh_user(viewer).await });
        tokio::time::timeout(PATIENCE, held.recv()).await.unwrap().unwrap();
        keycloak.remove_from_group("acme-viewer", VIEWERS).unwrap();
        app.state().directory.refresh_tenant(acme).await.unwrap();
        assert!(roles(&app, "acme-viewer").await.is_empty());
        road.let_through.add_permits(1);
        reading.await.unwrap().unwrap();
        assert!(roles(&app, "acme-viewer").await.is_empty(), "known: {is_known}");
    }
}

#[tokio::test]
async fn a_tenants_older_reading_does_not_bring_back_who_a_newer_one_shut_out() {
    let app = TestApp::start().await;
    let (acme, viewer) = (app.tenant(ACME), app.user("acme-viewer"));
    let keycloak = &app.doubles().keycloak;
    app.viewer().get("/me").await.expect(200);
    let viewers = keycloak.group_id(VIEWERS).unwrap();
    let (road, slow, mut held) = SlowRoad::open(&app, format!("/groups/{viewers}/members")).await;
    let reading = tokio::spawn(async move { slow.refresh_tenant(acme).await });
    tokio::time::timeout(PATIENCE, held.recv()).await.unwrap().unwrap();
    keycloak.set_enabled("acme-viewer", false).unwrap();
    assert!(app.state().directory.refresh_user(viewer).await.unwrap().is_none());
    road.let_through.add_permits(1);
    reading.await.unwrap().unwrap();
    assert!(!is_enabled(&app, "acme-viewer").await);
    assert!(roles(&app, "acme-viewer").await.is_empty());
}

#[tokio::test]
async fn a_users_older_reading_does_not_undo_a_newer_one_of_the_same_user() {
    let app = TestApp::start().await;
    let viewer = app.user("acme-viewer");
    let keycloak = &app.doubles().keycloak;
    app.viewer().get("/me").await.expect(200);
    let (road, slow, mut held) = SlowRoad::open(&app, format!("/users/{viewer}/groups")).await;
    let reading = tokio::spawn(async move { slow.refresh_user(viewer).await });
    tokio::time::timeout(PATIENCE, held.recv()).await.unwrap().unwrap();
    keycloak.set_enabled("acme-viewer", false).unwrap();
    assert!(app.state().directory.refresh_user(viewer).await.unwrap().is_none());
    road.let_through.add_permits(1);
    // It reads again, and finds what is so.
    assert!(reading.await.unwrap().unwrap().is_none());
    assert!(!is_enabled(&app, "acme-viewer").await);
}

#[tokio::test]
async fn a_tenants_older_reading_does_not_give_it_its_old_name_back() {
    let app = TestApp::start().await;
    let acme = app.tenant(ACME);
    let viewers = app.doubles().keycloak.group_id(VIEWERS).unwrap();
    let (road, slow, mut held) = SlowRoad::open(&app, format!("/groups/{viewers}/members")).await;
    let reading = tokio::spawn(async move { slow.refresh_tenant(acme).await });
    tokio::time::timeout(PATIENCE, held.recv()).await.unwrap().unwrap();
    app.doubles().keycloak.rename_group(ACME, "acme-inc").unwrap();
    app.state().directory.refresh_tenant(acme).await.unwrap();
    road.let_through.add_permits(1);
    reading.await.unwrap().unwrap();
    assert_eq!(app.count("SELECT count(*) FROM tenants WHERE path = '/organizations/acme-inc'").await, 1);
    assert_eq!(app.count("SELECT count(*) FROM audit_logs WHERE action = 'tenant.renamed'").await, 1);
}

#[tokio::test]
async fn comparisons_at_the_same_time_leave_the_mirror_as_keycloak_is() {
    let app = TestApp::start().await;
    let keycloak = &app.doubles().keycloak;
    let people: Vec<String> = (0..6).map(|number| format!("member-{number}")).collect();
    for name in &people {
        app.add_person(name, &[VIEWERS, "/teams/engineering"]);
    }
    let other = directory(&app, &app.state().config.keycloak.url);
    let tenants = app.state().directory.group_tenants().await.unwrap();
    for round in 0..4 {
        for (index, name) in people.iter().enumerate() {
            let in_it = (index + round) % 2 == 0;
            let change = if in_it {
                keycloak.add_to_group(name, VIEWERS)
            } else {
                keycloak.remove_from_group(name, VIEWERS)
            };
            change.unwrap();
        }
        let mut running = tokio::task::JoinSet::new();
        for directory in [app.state().directory.clone(), other.clone()] {
            for tenant in tenants.clone() {
                let directory = directory.clone();
                running.spawn(async move { directory.refresh_tenant(tenant).await.map(drop) });
            }
            for name in &people {
                let (directory, user) = (directory.clone(), app.user(name));
                running.spawn(async move { directory.refresh_user(user).await.map(drop) });
            }
        }
        while let Some(finished) = running.join_next().await {
            finished.unwrap().unwrap();
        }
        for (index, name) in people.iter().enumerate() {
            let expected: &[&str] = if (index + round) % 2 == 0 { &["viewer"] } else { &[] };
            assert_eq!(roles(&app, name).await, expected, "{name} in round {round}");
        }
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} takes too long");
}

#[tokio::test]
async fn one_replica_compares_at_a_time_and_another_takes_over_when_it_dies() {
    let app = TestApp::start().await;
    let period = Duration::from_millis(50);
    // Each replica reaches Keycloak on a road of its own, which counts.
    let replica = async || {
        let (road, directory, _) = SlowRoad::open(&app, "/nothing".to_owned()).await;
        let stop = CancellationToken::new();
        let running = tokio::spawn(Reconciler::new(directory, period).run(stop.clone()));
        (road, running, stop)
    };
    let asked = |road: &SlowRoad| road.requests.load(Ordering::SeqCst);

    let (first, first_running, _) = replica().await;
    until("the first comparison", async || asked(&first) > 20).await;
    let (second, second_running, second_stop) = replica().await;
    // As many rounds as it takes to be sure that the second one has had its turns, had it wanted them.
    let rounds = asked(&first) + 60;
    until("the first replica's rounds", async || asked(&first) > rounds).await;
    assert_eq!(asked(&second), 0);

    // Dies without a word.
    first_running.abort();
    until("the second replica's turn", async || asked(&second) > 20).await;
    let last = asked(&first);

    // Its session is ended by the server: it notices, and goes on with a new one.
    let before = asked(&second);
    assert_eq!(
        app.count("SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").await,
        1
    );
    until("the second replica's next turn", async || asked(&second) > before + 20).await;
    assert_eq!(asked(&first), last);

    // Asked to stop, it gives its turn back.
    second_stop.cancel();
    second_running.await.unwrap();
    let mut next = app.state().database.candidate(Duty::Reconcile);
    until("the turn's return", async || next.leads().await.unwrap()).await;
    let mut another = app.state().database.candidate(Duty::Reconcile);
    assert!(!another.leads().await.unwrap());
    assert!(next.leads().await.unwrap());
    next.resign().await;
    until("the turn's return", async || another.leads().await.unwrap()).await;
    another.resign().await;
}

#[tokio::test]
async fn who_was_read_meanwhile_is_known_by_what_is_newest() {
    let app = TestApp::start().await;
    let viewer = app.user("acme-viewer");
    app.viewer().get("/me").await.expect(200);
    let (road, slow, mut held) = SlowRoad::open(&app, format!("/users/{viewer}/groups")).await;
    let asked = slow.clone();
    let reading = tokio::spawn(async move { asked.refreshed(viewer).await });
    tokio::time::timeout(PATIENCE, held.recv()).await.unwrap().unwrap();
    app.doubles().keycloak.rename_user("acme-viewer", "Vera", "Viewer").unwrap();
    app.state().directory.refresh_user(viewer).await.unwrap();
    road.let_through.add_permits(1);
    assert_eq!(reading.await.unwrap().unwrap().name, "Vera Viewer");
}

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn whom_an_event_tells_of_is_out_long_before_the_next_comparison() {
    let app = TestApp::start().await;
    let (agent, viewer, ceo) = (app.agent(), app.viewer(), app.ceo());
    for client in [&agent, &viewer, &ceo] {
        client.get("/me").await.expect(200);
    }
    let (road, directory, _) = SlowRoad::open(&app, "/nothing".to_owned()).await;
    let stop = CancellationToken::new();
    let looking = Reconciler::new(directory, HOUR).looking_every(Duration::from_millis(20)).run(stop.clone());
    let running = tokio::spawn(looking);
    // The first comparison is over: events are being looked at.
    until("the first look", async || road.looks.load(Ordering::SeqCst) > 0).await;
    let keycloak = &app.doubles().keycloak;

    keycloak.remove_from_group("acme-viewer", VIEWERS).unwrap();
    until("the removal", async || roles(&app, "acme-viewer").await.is_empty()).await;
    keycloak.set_enabled("acme-agent", false).unwrap();
    until("the disabling", async || !is_enabled(&app, "acme-agent").await).await;
    let deleted = app.user("acme-ceo");
    keycloak.delete_user("acme-ceo").unwrap();
    until("the deletion", async || !is_user_enabled(&app, deleted).await).await;
    // And what is given comes as soon.
    keycloak.add_to_group("acme-viewer", VIEWERS).unwrap();
    until("the return", async || roles(&app, "acme-viewer").await == ["viewer"]).await;
    // A group's own change concerns whoever is in it.
    keycloak.rename_group(ACME, "acme-inc").unwrap();
    until("the new name", async || {
        app.count("SELECT count(*) FROM tenants WHERE path = '/organizations/acme-inc'").await == 1
    })
    .await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn where_events_may_not_be_read_the_comparison_goes_on() {
    let app = TestApp::start().await;
    app.viewer().get("/me").await.expect(200);
    let (road, directory, _) = SlowRoad::open_without(&app, "/nothing".to_owned(), "/admin-events").await;
    let stop = CancellationToken::new();
    let looking =
        Reconciler::new(directory, Duration::from_millis(200)).looking_every(Duration::from_millis(20));
    let running = tokio::spawn(looking.run(stop.clone()));
    until("the first look", async || road.looks.load(Ordering::SeqCst) > 2).await;
    app.doubles().keycloak.remove_from_group("acme-viewer", VIEWERS).unwrap();
    until("the removal", async || roles(&app, "acme-viewer").await.is_empty()).await;
    stop.cancel();
    running.await.unwrap();
}
