//! What other tools show of our sidebar: Univention's central navigation.

use chancery::{
    config::NavigationCallerConfig,
    testing::{ACME, Answer, Client, ENGINEERING, TestApp},
};
use reqwest::Method;
use serde_json::{Value, json};

const SECRET: &str = "a secret of Nextcloud's that nobody can guess";
const ELEMENT: &str = "https://element.example.org";

async fn app() -> TestApp {
    let file = std::env::temp_dir().join(format!("chancery-navigation-secret-{}", std::process::id()));
    std::fs::write(&file, SECRET).unwrap();
    TestApp::start_with(|config| {
        config.navigation.origins = vec![ELEMENT.to_owned()];
        config.navigation.callers = vec![NavigationCallerConfig { name: "nextcloud".to_owned(), file }];
    })
    .await
}

/// The identifiers of a category's entries.
fn entries<'a>(navigation: &'a Value, category: &str) -> Vec<&'a str> {
    let categories = navigation["categories"].as_array().unwrap();
    let found = categories.iter().find(|one| one["identifier"] == category).unwrap();
    found["entries"].as_array().unwrap().iter().map(|entry| entry["identifier"].as_str().unwrap()).collect()
}

async fn by_tool(client: &Client, path: &str, username: &str, secret: &str) -> Answer {
    let request = client.request(Method::GET, path).basic_auth(username, Some(secret));
    client.send(request).await
}

#[tokio::test]
async fn each_caller_gets_what_its_sidebar_offers_with_addresses_that_lead_there() {
    let app = app().await;
    let owner = app.add_person("acme-owner", &["/organizations/acme-corp/owners"]);
    let wiki = json!({ "tenantId": ACME, "name": "Wiki", "icon": "book", "url": "https://wiki.example.org/", "opens": "tab", "roles": ["agent"] });
    let wiki = owner.post("/modules", &wiki).await.expect(201);
    let files = json!({ "tenantId": "/suite", "name": "Files", "icon": "folder", "url": "https://files.example.org/", "opens": "page" });
    let files = app.suite_admin().post("/modules", &files).await.expect(201);
    let (wiki, files) = (wiki["id"].as_str().unwrap(), files["id"].as_str().unwrap());

    let agent = app.agent();
    let navigation = agent.get("/navigation?language=de-DE&base=https://portal.example.org").await;
    assert_eq!(navigation.header("content-language"), "en");
    let navigation = navigation.expect(200);
    assert_eq!(entries(&navigation, "chancery"), ["overview", "conversations", "approvals", "consultations"]);
    assert_eq!(entries(&navigation, "tools"), ["chatwoot", "matrix", "jitsi", files, wiki]);
    let public_url = app.state().config.http.public_url.to_string();
    for entry in
        navigation["categories"].as_array().unwrap().iter().flat_map(|one| one["entries"].as_array().unwrap())
    {
        for name in ["identifier", "display_name", "icon_url", "link", "target"] {
            assert!(entry[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {entry}");
        }
        let icon = entry["icon_url"].as_str().unwrap();
        let icon = reqwest::get(icon).await.unwrap();
        assert_eq!(icon.status(), 200, "{entry}");
        assert_eq!(icon.headers()["content-type"], "image/svg+xml");
        // Pages of other origins show it.
        assert_eq!(icon.headers()["cross-origin-resource-policy"], "cross-origin");
    }
    let tools = navigation["categories"][1]["entries"].as_array().unwrap();
    assert_eq!(tools[3]["link"], format!("{public_url}app/t/{}/tools/{files}", app.tenant(ACME)));
    assert_eq!(
        (&tools[4]["link"], &tools[4]["display_name"]),
        (&json!("https://wiki.example.org/"), &json!("Wiki"))
    );

    // Another role, another tenant: what is theirs.
    let viewer = app.viewer().get("/navigation").await.expect(200);
    assert!(!entries(&viewer, "tools").contains(&wiki), "{viewer}");
    let engineer = app.engineer();
    let named = engineer.get(&format!("/navigation?tenantId={ENGINEERING}")).await.expect(200);
    assert!(entries(&named, "tools").contains(&files));
    engineer.get(&format!("/navigation?tenantId={ACME}")).await.problem(404);
}

#[tokio::test]
async fn a_browser_shows_its_session_and_only_pages_of_the_settings_may_read_the_answer() {
    let app = app().await;
    let browser = app.browser();
    let path = "/api/v1/navigation?language=en";
    assert_eq!(browser.get(path).await.status, 401);
    browser.sign_in("acme-agent").await;
    let asked = async |origin: &str| {
        let request =
            browser.request(Method::GET, path).header("origin", origin).header("sec-fetch-dest", "empty");
        browser.send(request).await
    };
    let answer = asked(ELEMENT).await;
    assert_eq!(answer.header("access-control-allow-origin"), ELEMENT);
    assert_eq!(answer.header("access-control-allow-credentials"), "true");
    let navigation: Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(entries(&navigation, "chancery").contains(&"approvals"));
    for origin in ["https://evil.example", "null"] {
        let answer = asked(origin).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}");
    }
    // No other operation takes the session.
    assert_eq!(browser.get("/api/v1/me").await.status, 401);
    assert_eq!(browser.get("/api/v1/approvals").await.status, 401);
}

#[tokio::test]
async fn the_server_of_a_tool_asks_with_a_secret_of_its_own() {
    let app = app().await;
    app.agent().get("/me").await.expect(200);
    let nobody = app.nobody();
    let navigation = by_tool(&nobody, "/navigation", "acme-agent", SECRET).await.expect(200);
    assert!(entries(&navigation, "chancery").contains(&"conversations"));
    // Whom nobody knows finds nothing, and a stranger's tenant isn't there.
    let unknown = by_tool(&nobody, "/navigation", "nobody-of-that-name", SECRET).await.expect(200);
    assert_eq!(unknown, json!({ "categories": [] }));
    let foreign =
        by_tool(&nobody, &format!("/navigation?tenantId={ENGINEERING}"), "acme-agent", SECRET).await;
    foreign.problem(404);
    for (username, secret) in
        [("acme-agent", "a guess"), ("acme-agent", ""), ("", ""), ("acme-agent\0", SECRET)]
    {
        by_tool(&nobody, "/navigation", username, secret).await.problem(401);
    }
    let malformed = nobody.request(Method::GET, "/navigation").header("authorization", "Basic !!!");
    nobody.send(malformed).await.problem(401);
    // The secret is good for nothing else.
    by_tool(&nobody, "/me", "acme-agent", SECRET).await.problem(401);
}

#[tokio::test]
async fn a_tool_learns_in_a_frame_whether_somebody_is_signed_in() {
    let app = app().await;
    let browser = app.browser();
    let shown = |answer: &Answer| String::from_utf8(answer.body.to_vec()).unwrap();
    let answer = browser.get("/embed/navigation").await;
    assert!(shown(&answer).contains("data-signed-in=\"false\""), "{}", shown(&answer));
    assert!(answer.header("content-security-policy").contains(&format!("frame-ancestors {ELEMENT};")));
    browser.sign_in("acme-agent").await;
    let answer = browser.get("/embed/navigation").await;
    assert!(shown(&answer).contains("data-signed-in=\"true\"") && shown(&answer).contains(ELEMENT));
    // It says nothing of who it is.
    assert!(!shown(&answer).contains("acme") && !shown(&answer).contains("Ada"));
    let without = TestApp::start().await;
    assert_eq!(without.browser().get("/embed/navigation").await.status, 404);
}
