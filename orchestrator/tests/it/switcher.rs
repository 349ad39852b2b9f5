//! Moving between tenants, for who has many.

use chancery::testing::{Answer, TestApp};

use crate::harness::signed_in;

#[tokio::test]
async fn who_has_many_tenants_finds_them_on_a_page() {
    let app = TestApp::start().await;
    let keycloak = &app.doubles().keycloak;
    let paths: Vec<String> = (1..=25).map(|number| format!("/organizations/customer-{number:02}")).collect();
    for path in &paths {
        keycloak.create_group(path).unwrap();
    }
    app.add_person("busy", &paths.iter().map(String::as_str).collect::<Vec<_>>());
    let busy = signed_in(&app, "busy").await;
    let home = busy.get(busy.get("/app").await.header("location")).await;
    assert!(text(&home).contains("All 26 workspaces"));
    let all = text(&busy.get("/app/tenants").await);
    assert!(paths.iter().all(|path| all.contains(path.as_str())));
    let found = text(&busy.get("/app/tenants?q=CUSTOMER+25").await);
    assert!(found.contains("/organizations/customer-25") && !found.contains("/organizations/customer-24"));
    let none = text(&busy.get("/app/tenants?q=%3Cb%3E").await);
    assert!(none.contains("No workspace matches") && !none.contains("<b>"));
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}
