//! The modules that administrators add to the sidebar.

use chancery::testing::{ACME, Answer, Browser, Client, GLOBEX, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{id, items, path};

const SUITE_PAGES: &str = "/app/t/00000000-0000-0000-0000-000000000000";

fn owner(app: &TestApp) -> Client {
    app.add_person("acme-owner", &["/organizations/acme-corp/owners"])
}

fn new(tenant: &str, name: &str, url: &str) -> Value {
    json!({ "tenantId": tenant, "name": name, "icon": "book", "url": url, "opens": "tab" })
}

fn with(mut module: Value, name: &str, value: Value) -> Value {
    module[name] = value;
    module
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

async fn home(app: &TestApp, browser: &Browser, tenant: &str) -> String {
    text(&browser.get(&format!("/app/t/{}", app.tenant(tenant))).await)
}

async fn signed_in(app: &TestApp, username: &str) -> Browser {
    let browser = app.browser();
    browser.sign_in(username).await;
    browser
}

#[tokio::test]
async fn what_an_owner_adds_is_in_the_sidebar_of_the_tenant_for_the_roles_that_it_is_for() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let mut heard = app.viewer().events(ACME, None).await;
    assert_eq!(heard.next().await.unwrap().name, "hello");
    let wiki = new(ACME, "Wiki <b>", "https://wiki.example.org/start?a=b");
    let added = with(wiki, "roles", json!(["owner", "agent", "agent"]));
    let added = owner.post("/modules", &added).await;
    assert_eq!(added.header("etag"), "\"1\"");
    let added = added.expect(201);
    assert_eq!(added["roles"], json!(["agent", "owner"]));
    assert_eq!(heard.next().await.unwrap().name, "module.created");

    let agent = signed_in(&app, "acme-agent").await;
    let shown = home(&app, &agent, ACME).await;
    assert!(shown.contains("href=\"https://wiki.example.org/start?a=b\""), "{shown}");
    assert!(shown.contains("Wiki &#60;b&#62;") && !shown.contains("Wiki <b>"), "{shown}");
    let viewer = signed_in(&app, "acme-viewer").await;
    assert!(!home(&app, &viewer, ACME).await.contains("wiki.example.org"));

    let everybody = owner.patch(&path("/modules", &added), &json!({ "roles": [] })).await.expect(200);
    assert_eq!(everybody["version"], 2);
    assert!(home(&app, &viewer, ACME).await.contains("wiki.example.org"));
    // The same changes nothing, and leaves no trace.
    owner.patch(&path("/modules", &added), &json!({ "name": "Wiki <b>" })).await.expect(200);
    assert_eq!(owner.delete(&path("/modules", &added)).await.status, 204);
    assert!(!home(&app, &viewer, ACME).await.contains("wiki.example.org"));

    let trail = items(&owner, &format!("/audit/resource/module/{}", id(&added))).await;
    let actions: Vec<&str> = trail.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["module.deleted", "module.updated", "module.created"]);
    assert_eq!(trail[1]["newValues"], json!({ "roles": [] }));
    // The path of an address may be what lets one in.
    assert_eq!(trail[2]["newValues"]["url"], "https://wiki.example.org");
}

#[tokio::test]
async fn what_the_suite_gives_reaches_the_tenants_that_it_is_given_to_and_their_trails() {
    let app = TestApp::start().await;
    let (owner, admin) = (owner(&app), app.suite_admin());
    let files = new("/suite", "Files", "https://files.example.org/");
    let files = admin.post("/modules", &files).await.expect(201);
    let board = with(new("/suite", "Board", "https://board.example.org/"), "tenants", json!([ACME]));
    let board = admin.post("/modules", &board).await.expect(201);
    assert_eq!(board["tenants"], json!([app.tenant(ACME)]));

    let (agent, globex) = (signed_in(&app, "acme-agent").await, signed_in(&app, "outsider").await);
    let shown = home(&app, &agent, ACME).await;
    assert!(shown.contains("files.example.org") && shown.contains("board.example.org"), "{shown}");
    let shown = home(&app, &globex, GLOBEX).await;
    assert!(shown.contains("files.example.org") && !shown.contains("board.example.org"), "{shown}");

    // It is managed by the suite alone, and its owners see it on their page.
    for module in [&files, &board] {
        owner.get(&path("/modules", module)).await.problem(404);
        owner.patch(&path("/modules", module), &json!({ "name": "Ours" })).await.problem(404);
        assert_eq!(owner.delete(&path("/modules", module)).await.status, 404);
    }
    owner.post("/modules", &new("/suite", "Wiki", "https://wiki.example.org/")).await.problem(404);
    let page = signed_in(&app, "acme-owner").await;
    let shown = text(&page.get(&format!("/app/t/{}/modules", app.tenant(ACME))).await);
    assert!(shown.contains("Given by the suite") && shown.contains("files.example.org"), "{shown}");

    let named = format!("/audit/resource/module/{}", id(&board));
    let told = items(&owner, &named).await;
    assert_eq!((told.len(), &told[0]["action"]), (1, &json!("module.created")));
    let moved = json!({ "tenants": [GLOBEX] });
    admin.patch(&path("/modules", &board), &moved).await.expect(200);
    let told = items(&owner, &named).await;
    assert_eq!(
        (&told[0]["oldValues"]["tenants"], &told[0]["newValues"]["tenants"]),
        (&json!([app.tenant(ACME)]), &json!([]))
    );
    assert!(!home(&app, &agent, ACME).await.contains("board.example.org"));
    assert!(home(&app, &globex, GLOBEX).await.contains("board.example.org"));
}

#[tokio::test]
async fn the_database_itself_shows_what_the_suite_gives_only_to_whom_it_gives_it() {
    let app = TestApp::start().await;
    let admin = app.suite_admin();
    let given = with(new("/suite", "Board", "https://board.example.org/"), "tenants", json!([ACME]));
    admin.post("/modules", &given).await.expect(201);
    let for_all = new("/suite", "Files", "https://files.example.org/");
    admin.post("/modules", &for_all).await.expect(201);
    let mut login = app.app_login().await;
    for (tenants, expected) in [
        (String::new(), 0),
        ("{}".to_owned(), 0),
        (format!("{{{}}}", app.tenant(ACME)), 2),
        (format!("{{{}}}", app.tenant(GLOBEX)), 1),
    ] {
        let mut tx = sqlx::Connection::begin(&mut login).await.unwrap();
        sqlx::query("SELECT set_config('app.tenant_ids', $1, true)")
            .bind(&tenants)
            .execute(&mut *tx)
            .await
            .unwrap();
        let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM modules").fetch_one(&mut *tx).await.unwrap();
        assert_eq!(seen, expected, "{tenants:?}");
        let changed = sqlx::query("UPDATE modules SET name = 'X'").execute(&mut *tx).await.unwrap();
        assert_eq!(changed.rows_affected(), 0, "{tenants:?}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_field() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let good = || new(ACME, "Wiki", "https://wiki.example.org/");
    let ours = app.state().config.http.public_url.to_string();
    for (module, pointer) in [
        (with(good(), "name", json!(" ")), "/name"),
        (with(good(), "name", json!("x".repeat(61))), "/name"),
        (with(good(), "icon", json!("https://evil.example/i.svg")), "/icon"),
        (with(good(), "url", json!("javascript:alert(1)")), "/url"),
        (with(good(), "url", json!("http://wiki.example.org/")), "/url"),
        (with(good(), "url", json!("https://user:secret@wiki.example.org/")), "/url"),
        (with(good(), "url", json!("https://a.example;script-src/")), "/url"),
        (with(with(good(), "url", json!(ours)), "opens", json!("page")), "/url"),
        (with(with(good(), "url", json!("https://[2001:db8::1]/")), "opens", json!("page")), "/url"),
        (with(good(), "tenants", json!([GLOBEX])), "/tenants"),
    ] {
        let refused = owner.post("/modules", &module).await;
        assert_eq!(refused.status, 422, "{module}");
        let problem: Value = serde_json::from_slice(&refused.body).unwrap();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let given = new("/suite", "Wiki", "https://wiki.example.org/");
    let given = with(given, "tenants", json!([ACME, "/organizations/nowhere"]));
    let refused = app.suite_admin().post("/modules", &given).await;
    let problem: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!(problem["errors"][0]["pointer"], "/tenants/1", "{problem}");
    // In a tab, an address of ours does no harm.
    let added = owner.post("/modules", &with(good(), "url", json!(ours))).await.expect(201);
    let stale = owner.request(Method::PATCH, &path("/modules", &added)).header("if-match", "\"7\"");
    assert_eq!(owner.send(stale.json(&json!({ "name": "N" }))).await.problem(412), "stale");
    let framed = owner.patch(&path("/modules", &added), &json!({ "opens": "page" })).await;
    assert_eq!(framed.status, 422);
    for number in 1..50 {
        owner.post("/modules", &with(good(), "name", json!(format!("M{number}")))).await.expect(201);
    }
    assert_eq!(owner.post("/modules", &good()).await.problem(409), "modules.too_many");
}

#[tokio::test]
async fn a_module_inside_a_page_is_sandboxed_and_only_that_page_admits_its_origin() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let wiki = with(new(ACME, "Wiki", "https://wiki.example.org/start"), "opens", json!("page"));
    let wiki = with(wiki, "roles", json!(["agent"]));
    let wiki = owner.post("/modules", &wiki).await.expect(201);
    let agent = signed_in(&app, "acme-agent").await;
    let page = format!("/app/t/{}/tools/{}", app.tenant(ACME), id(&wiki));
    assert!(home(&app, &agent, ACME).await.contains(&format!("href=\"{page}\"")));
    let shown = agent.get(&page).await;
    assert_eq!(shown.status, 200);
    let policy = shown.header("content-security-policy");
    assert!(policy.ends_with("; frame-src https://wiki.example.org"), "{policy}");
    let html = text(&shown);
    assert!(html.contains("src=\"https://wiki.example.org/start\""), "{html}");
    let sandbox = html.split("sandbox=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(!sandbox.contains("top-navigation"), "{sandbox}");
    let elsewhere = agent.get(&format!("/app/t/{}", app.tenant(ACME))).await;
    assert!(!elsewhere.header("content-security-policy").contains("frame-src"));
    // Not for another role, another tenant, or where it opens in a tab.
    let viewer = signed_in(&app, "acme-viewer").await;
    assert_eq!(viewer.get(&page).await.status, 404);
    let globex = signed_in(&app, "outsider").await;
    assert_eq!(globex.get(&page).await.status, 404);
    let in_globex = format!("/app/t/{}/tools/{}", app.tenant(GLOBEX), id(&wiki));
    assert_eq!(globex.get(&in_globex).await.status, 404);
    owner.patch(&path("/modules", &wiki), &json!({ "opens": "tab" })).await.expect(200);
    assert_eq!(agent.get(&page).await.status, 404);
}

#[tokio::test]
async fn an_owner_manages_them_on_pages_and_sees_how_the_tools_are() {
    let app = TestApp::start().await;
    owner(&app);
    let browser = signed_in(&app, "acme-owner").await;
    let list = format!("/app/t/{}/modules", app.tenant(ACME));
    let empty = text(&browser.get(&list).await);
    assert!(empty.contains("Nothing added yet") && empty.contains("Chatwoot"), "{empty}");
    // How a tool is, and not what the doctor has found of it.
    assert!(empty.contains("Doesn’t work") && !empty.contains("posts nothing"), "{empty}");
    assert_eq!(browser.get(&format!("{list}/new")).await.status, 200);

    let refused = browser
        .post(&list, &[("name", ""), ("url", "javascript:alert(1)"), ("icon", "book"), ("opens", "tab")])
        .await;
    assert_eq!(refused.status, 422);
    assert!(text(&refused).contains("This must be an https address"), "{}", text(&refused));
    let fields = [
        ("name", "Wiki"),
        ("url", "https://wiki.example.org/"),
        ("icon", "book"),
        ("opens", "page"),
        ("role.agent", "true"),
    ];
    let added = browser.post(&list, &fields).await;
    assert_eq!(
        (added.status, added.header("location")),
        (303, format!("{list}?flash=module-added").as_str())
    );
    let shown = text(&browser.get(&list).await);
    let edit = shown.split(&format!("{list}/")).find_map(|rest| {
        let id = rest.split('"').next().unwrap();
        uuid::Uuid::parse_str(id).is_ok().then(|| format!("{list}/{id}"))
    });
    let edit = edit.unwrap();
    let form = text(&browser.get(&edit).await);
    assert!(form.contains("name=\"role.agent\" value=\"true\" checked"), "{form}");
    let fields = [
        ("name", "Handbook"),
        ("url", "https://wiki.example.org/"),
        ("icon", "book"),
        ("opens", "tab"),
        ("version", "1"),
    ];
    assert_eq!(browser.post(&edit, &fields).await.status, 303);
    assert_eq!(browser.post(&edit, &fields).await.status, 412);
    assert!(text(&browser.get(&list).await).contains("Handbook"));
    assert_eq!(browser.post(&format!("{edit}/delete"), &[("version", "2")]).await.status, 303);
    assert!(!text(&browser.get(&list).await).contains("Handbook"));

    let ceo = signed_in(&app, "acme-ceo").await;
    assert_eq!(ceo.get(&list).await.status, 403);
    assert_eq!(ceo.post(&list, &fields).await.status, 403);
}

#[tokio::test]
async fn who_runs_the_suite_manages_its_modules_on_pages_and_sees_whether_they_answer() {
    let app = TestApp::start().await;
    let browser = signed_in(&app, "suite-admin").await;
    let list = format!("{SUITE_PAGES}/modules");
    let up = app.addresses().chatwoot.to_string();
    let up = format!("http://{up}/");
    for (name, url) in [("Up", up.as_str()), ("Down", "http://127.0.0.1:9/")] {
        let fields = [("name", name), ("url", url), ("icon", "globe"), ("opens", "tab"), ("tenants", ACME)];
        assert_eq!(browser.post(&list, &fields).await.status, 303);
    }
    let shown = text(&browser.get(&list).await);
    let row = |name: &str| {
        let start = shown.find(&format!(">{name}</a>")).unwrap();
        shown[start..].split("</li>").next().unwrap().to_owned()
    };
    assert!(row("Up").contains("Works") && row("Up").contains(ACME), "{}", row("Up"));
    assert!(row("Down").contains("Doesn’t work"), "{}", row("Down"));
    let refused = [
        ("name", "N"),
        ("url", "https://a.example/"),
        ("icon", "globe"),
        ("opens", "tab"),
        ("tenants", "/nowhere"),
    ];
    let refused = browser.post(&list, &refused).await;
    assert_eq!(refused.status, 422);
    assert!(text(&refused).contains("There is no such workspace: /nowhere"), "{}", text(&refused));
}
