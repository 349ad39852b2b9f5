//! The sign-ins of a tenant's members, for its owners.

use std::{collections::BTreeSet, time::Duration};

use chancery::{
    auth::session::{COOKIE, Sessions},
    testing::{ACME, Browser, Client, GLOBEX, TestApp},
};
use serde_json::{Value, json};

use crate::harness::{items, pass, signed_in};

async fn owner(app: &TestApp) -> Client {
    let owner = app.add_person("acme-owner", &["/organizations/acme-corp/owners"]);
    owner.get("/me").await.expect(200);
    owner
}

fn handle(browser: &Browser) -> String {
    let mut headers = axum::http::HeaderMap::new();
    headers.insert("cookie", format!("{COOKIE}={}", browser.cookie(COOKIE).unwrap()).parse().unwrap());
    Sessions::key_of(&headers).unwrap().handle()
}

async fn is_signed_in(browser: &Browser) -> bool {
    browser.get("/app/me").await.status == 200
}

async fn delete(client: &Client, path: &str) -> chancery::testing::Answer {
    client.send(client.request(axum::http::Method::DELETE, path)).await
}

#[tokio::test]
async fn an_owner_sees_that_members_are_signed_in_since_when_and_last_used_and_nothing_else() {
    let app = TestApp::start().await;
    let owner = owner(&app).await;
    let (began, ceo) = (app.now(), signed_in(&app, "acme-ceo").await);
    pass(&app, 60);
    let viewer = signed_in(&app, "acme-viewer").await;
    signed_in(&app, "outsider").await;
    pass(&app, 60);
    assert!(is_signed_in(&ceo).await);
    let seen = items(&owner, &format!("/tenants/{}/sessions", app.tenant(ACME))).await;
    let of = |browser: &Browser| seen.iter().find(|seen| seen["id"] == json!(handle(browser))).unwrap();
    assert_eq!(seen.len(), 2, "{seen:?}");
    let me = app.ceo().get("/me").await.expect(200);
    assert_eq!(
        *of(&ceo),
        json!({ "id": handle(&ceo), "userId": me["id"], "userName": me["name"], "startedAt": began, "usedAt": app.now() })
    );
    assert_eq!(of(&viewer)["userId"], json!(app.user("acme-viewer")));
}

#[tokio::test]
async fn members_are_paged_and_stay_together() {
    let app = TestApp::start().await;
    let owner = owner(&app).await;
    for username in ["acme-ceo", "acme-ceo", "acme-viewer", "acme-agent"] {
        signed_in(&app, username).await;
    }
    let (mut pages, mut seen, mut cursor) = (0, Vec::new(), String::new());
    loop {
        let path = format!("/tenants/{}/sessions?limit=1{cursor}", app.tenant(ACME));
        let page = owner.get(&path).await.expect(200);
        let of_page: Vec<Value> = page["items"].as_array().unwrap().clone();
        let members: BTreeSet<String> = of_page.iter().map(|item| item["userId"].to_string()).collect();
        assert!(members.len() <= 1);
        seen.extend(of_page);
        pages += 1;
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert!((3..=4).contains(&pages) && seen.len() == 4, "{pages} pages: {seen:?}");
    let refused = owner.get(&format!("/tenants/{}/sessions?cursor=x", app.tenant(ACME))).await;
    assert_eq!(refused.problem(422), "invalid");
}

#[tokio::test]
async fn an_owner_ends_members_sign_ins_on_the_record_of_both() {
    let app = TestApp::start().await;
    let owner = owner(&app).await;
    let (one, other, third) = (
        signed_in(&app, "acme-ceo").await,
        signed_in(&app, "acme-ceo").await,
        signed_in(&app, "acme-ceo").await,
    );
    let viewer = signed_in(&app, "acme-viewer").await;
    let (acme, ceo) = (app.tenant(ACME), app.user("acme-ceo"));
    let of_ceo = format!("/tenants/{acme}/members/{ceo}/sessions");
    // The stream is of another tenant of theirs: a sign-in is one for all.
    let mut listening = one.events(&format!("/app/t/{}/events", app.tenant("/teams/engineering"))).await;
    assert_eq!(listening.next().await.unwrap().name, "hello");
    assert_eq!(delete(&owner, &format!("{of_ceo}/{}", handle(&one))).await.status, 204);
    let ended = listening.next_within(Duration::from_secs(5)).await.expect("it ends at once");
    assert_eq!(ended.name, "end");
    assert!(!is_signed_in(&one).await && is_signed_in(&other).await && is_signed_in(&viewer).await);
    // It has ended; and somebody else's isn't this member's.
    assert_eq!(delete(&owner, &format!("{of_ceo}/{}", handle(&one))).await.problem(404), "not_found");
    assert_eq!(delete(&owner, &format!("{of_ceo}/{}", handle(&viewer))).await.problem(404), "not_found");
    assert_eq!(delete(&owner, &of_ceo).await.status, 204);
    assert!(!is_signed_in(&other).await && !is_signed_in(&third).await && is_signed_in(&viewer).await);
    assert_eq!(delete(&owner, &of_ceo).await.status, 204, "there needn't be any");

    let (of_acme, of_person) = (
        items(&owner, &format!("/audit?tenantId={acme}&action=session.ended_for_member")).await,
        items(&app.ceo(), &format!("/audit?tenantId={ceo}&action=session.ended_for_member")).await,
    );
    for trail in [of_acme, of_person] {
        let said: Vec<_> =
            trail.iter().map(|entry| (&entry["resourceId"], &entry["metadata"]["session"])).collect();
        assert_eq!(said, [(&json!(ceo), &json!("all")), (&json!(ceo), &json!(handle(&one)))]);
        assert_eq!(trail[0]["userId"], json!(app.user("acme-owner")));
        assert_eq!(trail[0]["metadata"]["tenant"], "Acme Corp");
    }
}

#[tokio::test]
async fn who_belongs_to_another_tenant_stays_invisible() {
    let app = TestApp::start().await;
    let owner = owner(&app).await;
    let stranger = signed_in(&app, "outsider").await;
    let leaver = signed_in(&app, "acme-viewer").await;
    app.doubles().keycloak.remove_from_group("acme-viewer", "/organizations/acme-corp/viewers").unwrap();
    let acme = app.tenant(ACME);
    app.state().directory.refresh_tenant(acme).await.unwrap();
    assert_eq!(items(&owner, &format!("/tenants/{acme}/sessions")).await, [json!(null); 0]);
    let unknown = "0b000000-0000-4000-8000-0000000000ff".to_owned();
    let before = app.row_counts().await;
    let mut answers = Vec::new();
    for user in [app.user("outsider").to_string(), app.user("acme-viewer").to_string(), unknown, "x".into()] {
        for which in [String::new(), format!("/{}", handle(&stranger)), format!("/{}", handle(&leaver))] {
            let answer = delete(&owner, &format!("/tenants/{acme}/members/{user}/sessions{which}")).await;
            assert_eq!(answer.problem(404), "not_found");
            let mut body = answer.json();
            body["requestId"].take();
            answers.push(body);
        }
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    assert_eq!(app.row_counts().await, before);
    assert!(is_signed_in(&stranger).await && is_signed_in(&leaver).await);
    // Whoever names a tenant that they aren't in gets nothing of it either.
    let globex = app.tenant(GLOBEX);
    assert_eq!(owner.get(&format!("/tenants/{globex}/sessions")).await.problem(404), "not_found");
}

#[tokio::test]
async fn the_page_lists_members_sign_ins_and_ends_them() {
    let app = TestApp::start().await;
    owner(&app).await;
    let (browser, ceo) = (signed_in(&app, "acme-owner").await, signed_in(&app, "acme-ceo").await);
    let acme = format!("/app/t/{}", app.tenant(ACME));
    let text = |answer: chancery::testing::Answer| {
        assert_eq!(answer.status, 200);
        String::from_utf8(answer.body.to_vec()).unwrap()
    };
    assert!(text(browser.get(&format!("{acme}/settings")).await).contains(&format!("{acme}/sign-ins\"")));
    let page = text(browser.get(&format!("{acme}/sign-ins")).await);
    assert!(page.contains(&handle(&ceo)) && page.matches("This one").count() == 1, "{page}");
    assert!(!page.contains("127.0.0.1</bdi>"), "from where is nobody else's");
    let member = app.user("acme-ceo").to_string();
    let form = [("member", member.as_str()), ("session", &handle(&ceo))];
    let answer = browser.post(&format!("{acme}/sign-ins/end"), &form).await;
    assert_eq!(answer.header("location"), format!("{acme}/sign-ins?flash=session-ended"));
    assert!(!is_signed_in(&ceo).await);
    let again = browser.post(&format!("{acme}/sign-ins/end"), &form).await;
    assert_eq!(again.header("location"), format!("{acme}/sign-ins?flash=session-over"));
    // Not for who is no owner, nor from another site.
    let ceo = signed_in(&app, "acme-ceo").await;
    assert_eq!(ceo.get(&format!("{acme}/sign-ins")).await.status, 403);
    assert_eq!(ceo.post(&format!("{acme}/sign-ins/end"), &form).await.status, 403);
    let trail = text(browser.get(&format!("{acme}/audit?action=session.ended_for_member")).await);
    assert!(trail.contains("ended a sign-in of"), "{trail}");
}
