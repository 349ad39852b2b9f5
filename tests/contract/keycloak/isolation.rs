//! What separates tenants, with tokens that the real server has issued, and with the application as it is served: its own
//! clock, the database's real logins, and the comparison with Keycloak going on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chancery::{
    app::{AppState, Environment},
    config::Config,
    demo::{self, DataDir},
    http::server,
    lifecycle::Lifecycle,
};
use connector_core::{RandomIds, SystemClock};
use local_postgres::{LocalPostgres, Options};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    browser::{Browser, http},
    target::{Person, REALM_FILE, SECRET, SYNC, Target, last_id, unique},
};

/// How soon somebody who is disabled or removed from a group has no access any more.
const AT_LATEST: Duration = Duration::from_mins(1);

/// The application before the real server.
struct App {
    target: Target,
    origin: String,
    lifecycle: Lifecycle,
    postgres: LocalPostgres,
    _folder: tempfile::TempDir,
}

/// A tenant of this case's own, with the group of each role.
struct Tenant {
    id: Uuid,
    path: String,
}

impl App {
    async fn start() -> Self {
        let target = Target::real().await;
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(folder.path(), &RandomIds).unwrap();
        let postgres = LocalPostgres::start(Options::ephemeral().unwrap()).await.unwrap();
        let superuser = postgres.superuser_url();
        let logins = demo::provision(&superuser, "isolation", data_dir.secrets()).await.unwrap();

        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let origin = format!("http://{address}");
        let mut config = Config::defaults().unwrap();
        config.http.listen = address;
        config.http.public_url = origin.parse().unwrap();
        config.database.url = logins.app_url.into();
        config.database.worker_url = logins.worker_url.into();
        config.crypto.key_file = data_dir.key_file();
        config.keycloak.url = target.url.to_string();
        config.keycloak.client_id.clone_from(&target.client);
        config.keycloak.client_secret = SECRET.into();
        config.keycloak.sync_client_secret = SYNC.1.into();
        config.keycloak.reconcile_seconds = 2;
        let lifecycle = Lifecycle::new();
        let environment = Environment {
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            lifecycle: lifecycle.clone(),
            start_page: None,
        };
        let state = AppState::start(config, environment).await.unwrap();
        state.spawn_background();
        server::serve(&state, listener);
        Self { target, origin, lifecycle, postgres, _folder: folder }
    }

    async fn stop(self) {
        self.lifecycle.stop().await;
        self.postgres.stop().await.unwrap();
    }

    /// A group below `/teams`, with a sub-group for each of these roles.
    async fn tenant(&self, roles: &[&str]) -> Tenant {
        let (id, name) = self.target.team().await;
        for role in roles {
            let body = Some(json!({ "name": role }));
            let (status, group, _) =
                self.target.manage(Method::POST, &format!("groups/{id}/children"), body).await;
            assert_eq!(status, StatusCode::CREATED, "{group}");
        }
        Tenant { id, path: format!("/teams/{name}") }
    }

    /// Somebody in these groups, and an access token that they got by signing in.
    async fn person(&self, groups: &[&str]) -> (Person, String) {
        let person = self.target.person(groups).await;
        let tokens = self.target.sign_in(&mut Browser::default(), &person).await;
        (person, tokens["access_token"].as_str().unwrap().to_owned())
    }

    /// A program in these groups: its access token.
    async fn program(&self, groups: &[&str]) -> String {
        let realm: Value = serde_json::from_str(REALM_FILE).unwrap();
        let clients = realm["clients"].as_array().unwrap();
        let mut client =
            clients.iter().find(|client| client["clientId"] == "chancery-automation").unwrap().clone();
        let (id, name) = (unique().to_string(), format!("program-{}", unique().simple()));
        client["id"] = id.as_str().into();
        client["clientId"] = name.as_str().into();
        let (status, body, location) =
            self.target.manage(Method::POST, "clients", Some(client.clone())).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        assert_eq!(last_id(&location.unwrap()).to_string(), id);
        let account = self.manage(Method::GET, &format!("clients/{id}/service-account-user")).await;
        let account = account["id"].as_str().unwrap();
        for group in groups {
            let group = self.target.look(&format!("group-by-path{group}")).await;
            let group = group["id"].as_str().unwrap();
            self.manage(Method::PUT, &format!("users/{account}/groups/{group}")).await;
        }
        self.target.machine((&name, client["secret"].as_str().unwrap())).await
    }

    /// A call of the Admin REST API that must succeed.
    async fn manage(&self, method: Method, path: &str) -> Value {
        let (status, body, _) = self.target.manage(method, path, None).await;
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    /// A call of Chancery's API: status and body.
    async fn call(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> (u16, Value) {
        // The same for all, so that answers can be compared.
        let mut request = http()
            .request(method, format!("{}/api/v1{path}", self.origin))
            .bearer_auth(token)
            .header("x-request-id", "the-same-for-all");
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        self.call(Method::GET, path, token, None).await
    }

    /// Asks for an approval, and gives its id.
    async fn approval(&self, tenant: &Tenant, token: &str) -> String {
        let body = json!({ "tenantId": tenant.id, "title": "A" });
        let (status, made) = self.call(Method::POST, "/approvals", token, Some(body)).await;
        assert_eq!(status, 201, "{made}");
        made["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a call is answered with `expected`, and says how long it took.
    async fn becomes(&self, path: &str, token: &str, expected: u16) -> Duration {
        let begun = Instant::now();
        loop {
            let (status, body) = self.get(path, token).await;
            if status == expected {
                return begun.elapsed();
            }
            assert_eq!(status, 200, "{body}");
            assert!(begun.elapsed() < AT_LATEST, "still {status} after {AT_LATEST:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test]
#[ignore = "needs a Keycloak: cargo xtask test"]
async fn a_tenant_of_others_is_answered_like_one_that_does_not_exist() {
    let app = App::start().await;
    let groups = ["agents", "viewers", "approvers"];
    let (ours, theirs) = (app.tenant(&groups).await, app.tenant(&groups).await);
    for tenant in [&ours, &theirs] {
        // Somebody else has to be there to decide.
        app.target.person(&[&format!("{}/approvers", tenant.path)]).await;
    }
    let (_, agent) = app.person(&[&format!("{}/agents", ours.path)]).await;
    let (_, viewer) = app.person(&[&format!("{}/viewers", ours.path)]).await;
    let (_, stranger) = app.person(&[&format!("{}/agents", theirs.path)]).await;
    let approval = app.approval(&ours, &agent).await;
    app.approval(&theirs, &stranger).await;

    // By id and by path, one's own shows what is one's own.
    for name in [ours.id.to_string(), ours.path.clone()] {
        let (status, list) = app.get(&format!("/approvals?tenantId={name}"), &viewer).await;
        assert_eq!(status, 200, "{list}");
        let ids: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
        assert_eq!(ids, [&json!(approval)]);
    }
    assert_eq!(app.get(&format!("/approvals/{approval}"), &viewer).await.0, 200);

    let unknown = unique();
    for (method, place, body) in [
        (Method::GET, "/approvals?tenantId={}", Value::Null),
        (Method::GET, "/audit?tenantId={}", Value::Null),
        (Method::GET, "/conversations?tenantId={}", Value::Null),
        (Method::GET, "/consultations?tenantId={}", Value::Null),
        (Method::POST, "/approvals", json!({ "tenantId": "{}", "title": "A" })),
        (Method::POST, "/consultations", json!({ "tenantId": "{}", "title": "C" })),
    ] {
        let about = |name: &str| {
            let body: Value = serde_json::from_str(&body.to_string().replace("{}", name)).unwrap();
            (place.replace("{}", name), (!body.is_null()).then_some(body))
        };
        let (there, nowhere) = (about(&ours.id.to_string()), about(&unknown.to_string()));
        let real = app.call(method.clone(), &there.0, &stranger, there.1).await;
        let none = app.call(method.clone(), &nowhere.0, &stranger, nowhere.1).await;
        assert_eq!(real.0, 404, "{method} {place}: {}", real.1);
        assert_eq!(without_place(real), without_place(none), "{method} {place}");
    }
    let decide = || Some(json!({ "status": "approved" }));
    for (method, body) in [(Method::GET, None), (Method::PATCH, decide())] {
        let real = app.call(method.clone(), &format!("/approvals/{approval}"), &stranger, body.clone()).await;
        let none = app.call(method.clone(), &format!("/approvals/{unknown}"), &stranger, body).await;
        assert_eq!(real.0, 404, "{method}: {}", real.1);
        assert_eq!(without_place(real), without_place(none), "{method}");
    }

    // In the tenant, and in a role that may not.
    let body = json!({ "tenantId": ours.id, "title": "A" });
    let (status, refused) = app.call(Method::POST, "/approvals", &viewer, Some(body)).await;
    assert_eq!((status, &refused["code"]), (403, &json!("forbidden")), "{refused}");
    let path = format!("/approvals/{approval}");
    let (status, refused) = app.call(Method::PATCH, &path, &viewer, decide()).await;
    assert_eq!((status, &refused["code"]), (403, &json!("forbidden")), "{refused}");
    assert_eq!(app.get(&path, &viewer).await.1["status"], "pending");
    app.stop().await;
}

/// The answer without what repeats the request's own address.
fn without_place((status, mut body): (u16, Value)) -> (u16, Value) {
    if let Some(body) = body.as_object_mut() {
        body.remove("instance");
    }
    (status, body)
}

#[tokio::test]
#[ignore = "needs a Keycloak: cargo xtask test"]
async fn a_program_may_ask_and_never_decide() {
    let app = App::start().await;
    let tenant = app.tenant(&["agents", "approvers", "owners"]).await;
    let role = |name: &str| format!("{}/{name}", tenant.path);
    let program = app.program(&[&role("agents"), &role("approvers"), &role("owners")]).await;
    let (_, agent) = app.person(&[&role("agents")]).await;
    let (_, approver) = app.person(&[&role("approvers")]).await;
    let decide = || Some(json!({ "status": "approved" }));
    for (asker, token) in [("the program", &program), ("somebody", &agent)] {
        let path = format!("/approvals/{}", app.approval(&tenant, token).await);
        let (status, refused) = app.call(Method::PATCH, &path, &program, decide()).await;
        assert_eq!((status, &refused["code"]), (403, &json!("forbidden")), "{asker}: {refused}");
        assert_eq!(app.get(&path, &approver).await.1["status"], "pending");
        let (status, decided) = app.call(Method::PATCH, &path, &approver, decide()).await;
        assert_eq!((status, &decided["status"]), (200, &json!("approved")), "{asker}: {decided}");
    }
    app.stop().await;
}

#[tokio::test]
#[ignore = "needs a Keycloak: cargo xtask test"]
async fn who_is_disabled_or_leaves_a_group_loses_access_though_the_token_is_good() {
    let app = App::start().await;
    let tenant = app.tenant(&["viewers"]).await;
    let viewers = format!("{}/viewers", tenant.path);
    let (leaving, leavers) = app.person(&[&viewers]).await;
    let (disabled, disableds) = app.person(&[&viewers]).await;
    let (_, staying) = app.person(&[&viewers]).await;
    let list = format!("/approvals?tenantId={}", tenant.id);
    for token in [&leavers, &disableds, &staying] {
        assert_eq!(app.get(&list, token).await.0, 200);
    }

    let group = app.target.look(&format!("group-by-path{viewers}")).await;
    let path = format!("users/{}/groups/{}", leaving.id, group["id"].as_str().unwrap());
    app.manage(Method::DELETE, &path).await;
    let body = Some(json!({ "enabled": false }));
    let (status, body, _) = app.target.manage(Method::PUT, &format!("users/{}", disabled.id), body).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{body}");
    app.becomes(&list, &leavers, 404).await;
    app.becomes(&list, &disableds, 401).await;

    // Who has left the group is still somebody; who is disabled is nobody.
    assert_eq!(app.get("/me", &leavers).await.0, 200);
    assert_eq!(app.get("/me", &disableds).await.0, 401);
    assert_eq!(app.get(&list, &staying).await.0, 200);
    app.stop().await;
}
