//! Our page inside Chatwoot: who may frame it, who sees what there, and escalating from it.

use chancery::{
    auth::session::COOKIE,
    testing::{ACME, Answer, Browser, TestApp},
};
use connector_chatwoot::fake::API_INBOX_ID;
use serde_json::json;

use crate::harness::{chatwoot_conversation, items, pass, signed_in};

const EMBED: &str = "/embed/chatwoot";
const WINDOW: &str = "/app/embedded/chatwoot";
const UNKNOWN: &str = "known here yet, or you have no access";

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

async fn panel(browser: &Browser, account: i64, conversation: i64) -> String {
    let answer = browser.get(&format!("{EMBED}/panel?account={account}&conversation={conversation}")).await;
    assert_eq!(answer.status, 200);
    text(&answer)
}

async fn escalate(browser: &Browser, conversation: i64, reason: &str) -> String {
    let number = conversation.to_string();
    let form =
        [("account", "1"), ("conversation", number.as_str()), ("reason", reason), ("priority", "high")];
    let answer = browser.post(&format!("{EMBED}/escalate"), &form).await;
    assert_eq!(answer.status, 200);
    text(&answer)
}

/// The code that the window of a sign-in has for the frame.
async fn code(browser: &Browser) -> String {
    let window = text(&browser.get(WINDOW).await);
    window.split(" data-code=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn exactly_chatwoot_may_frame_the_page_and_no_other_page() {
    let app = TestApp::start().await;
    let browser = signed_in(&app, "acme-agent").await;
    let policy = |answer: &Answer| answer.header("content-security-policy").to_owned();
    let chatwoot = app.doubles().chatwoot.public_url().origin().ascii_serialization();
    for path in [EMBED.to_owned(), format!("{EMBED}/panel?account=1&conversation=1")] {
        let policy = policy(&browser.get(&path).await);
        assert!(policy.contains(&format!("; frame-ancestors {chatwoot};")), "{policy}");
        assert!(
            !policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"),
            "{policy}"
        );
    }
    for path in [WINDOW, "/app/me"] {
        assert!(policy(&browser.get(path).await).contains("frame-ancestors 'none'"), "{path}");
    }
    let page = text(&browser.get(EMBED).await);
    assert!(page.contains(&format!("data-tool=\"{chatwoot}\"")), "{page}");
    assert!(page.contains("/assets/embed."), "{page}");
}

#[tokio::test]
async fn without_chatwoot_there_is_no_such_page() {
    let app = TestApp::start_with(|config| config.chatwoot.url = String::new()).await;
    assert_eq!(app.browser().get(EMBED).await.status, 404);
}

#[tokio::test]
async fn who_signs_in_in_a_window_is_signed_in_in_the_frame_and_there_alone() {
    let app = TestApp::start().await;
    let (number, _) = chatwoot_conversation(&app).await;
    let (window, frame) = (app.browser(), app.browser());
    assert!(panel(&frame, 1, number).await.contains("data-sign-in"));
    assert!(escalate(&frame, number, "A refund").await.contains(" data-sign-in>"));

    // The window keeps who has opened it on each step of the way, and no other sign-in does.
    let opener = |answer: &Answer| answer.header("cross-origin-opener-policy").to_owned();
    let login = window.get(&format!("/auth/login?return_to={WINDOW}")).await;
    assert_eq!(opener(&login), "unsafe-none");
    assert_eq!(opener(&window.get("/auth/login?return_to=/app").await), "same-origin");
    window.sign_in("acme-agent").await;
    let arrived = window.get(&format!("/auth/signed-in?return_to={WINDOW}")).await;
    assert_eq!((opener(&arrived).as_str(), arrived.header("location")), ("unsafe-none", WINDOW));
    assert_eq!(opener(&window.get(WINDOW).await), "unsafe-none");

    let code = code(&window).await;
    let begun = frame.post(&format!("{EMBED}/session"), &[("code", &code)]).await;
    assert_eq!(begun.status, 204);
    let cookie = begun.header("set-cookie");
    for said in
        ["__Host-chancery-embed=", "; HttpOnly", "; SameSite=None", "; Secure", "; Partitioned", "; Path=/"]
    {
        assert!(cookie.contains(said), "{cookie}");
    }
    assert!(panel(&frame, 1, number).await.contains("name=\"reason\""));
    // It opens nothing but this page.
    assert!(frame.cookie(COOKIE).is_none());
    assert!(frame.get("/app/me").await.header("location").starts_with("/auth/sign-in"));
    // It ends with the session.
    window.post("/auth/logout", &[]).await;
    assert!(panel(&frame, 1, number).await.contains("data-sign-in>"));
}

#[tokio::test]
async fn a_code_counts_for_a_minute_and_nobody_makes_one() {
    let app = TestApp::start().await;
    let window = signed_in(&app, "acme-agent").await;
    let code = code(&window).await;
    let begin = async |code: &str| app.browser().post(&format!("{EMBED}/session"), &[("code", code)]).await;
    pass(&app, 59);
    assert_eq!(begin(&code).await.status, 204);
    pass(&app, 1);
    assert_eq!(begin(&code).await.status, 403);
    for wrong in ["", "AAAA", &code[1..]] {
        let answer = begin(wrong).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (403, ""), "{wrong}");
    }
    // A stranger's page can't have somebody take it.
    let request = window.request(reqwest::Method::POST, &format!("{EMBED}/session"));
    let sent = request.header("origin", "https://evil.example").header("sec-fetch-site", "cross-site");
    assert_eq!(window.send(sent.form(&[("code", code)])).await.status, 403);
}

#[tokio::test]
async fn an_agent_sees_the_history_and_escalates_once() {
    let app = TestApp::start().await;
    let (number, _) = chatwoot_conversation(&app).await;
    let agent = signed_in(&app, "acme-agent").await;
    assert!(panel(&agent, 1, number).await.contains("name=\"reason\""));
    let again = escalate(&agent, number, "  ").await;
    assert!(again.contains("field-reason") && again.contains("aria-invalid=\"true\""), "{again}");
    let done = escalate(&agent, number, "1,200 EUR back").await;
    assert!(done.contains("Escalated."), "{done}");
    let requested = items(&app.agent(), &format!("/approvals?tenantId={ACME}")).await;
    assert_eq!((requested.len(), &requested[0]["description"]), (1, &json!("1,200 EUR back")));
    assert_eq!(requested[0]["priority"], "high");
    assert_eq!(requested[0]["requestedBy"], app.user("acme-agent").to_string());
    let shown = panel(&agent, 1, number).await;
    assert!(
        shown.contains(requested[0]["title"].as_str().unwrap()) && !shown.contains("name=\"reason\""),
        "{shown}"
    );
    assert!(escalate(&agent, number, "Again").await.contains("already has a request"));
    assert_eq!(items(&app.agent(), &format!("/approvals?tenantId={ACME}")).await.len(), 1);
    app.run_jobs().await;
}

#[tokio::test]
async fn who_may_not_see_a_conversation_there_or_here_sees_the_same_as_of_none() {
    let app = TestApp::start().await;
    let (number, _) = chatwoot_conversation(&app).await;
    let agent = signed_in(&app, "acme-agent").await;
    assert!(!panel(&agent, 1, number).await.contains(UNKNOWN));
    // Another account, and a number that there is none of.
    for (account, conversation) in [(2, number), (1, number + 1), (0, 0)] {
        assert!(panel(&agent, account, conversation).await.contains(UNKNOWN));
    }
    // Of the tenant, and no user of Chatwoot's; and a stranger.
    for username in ["acme-ceo", "outsider"] {
        let browser = signed_in(&app, username).await;
        assert!(panel(&browser, 1, number).await.contains(UNKNOWN), "{username}");
        assert!(escalate(&browser, number, "A").await.contains(UNKNOWN), "{username}");
    }
    // In Chatwoot the agent doesn't work in this inbox any more.
    app.doubles().chatwoot.set_inbox_members(API_INBOX_ID, vec![9]).unwrap();
    assert!(panel(&agent, 1, number).await.contains(UNKNOWN));
    assert!(escalate(&agent, number, "A").await.contains(UNKNOWN));
    assert!(items(&app.agent(), &format!("/approvals?tenantId={ACME}")).await.is_empty());
}
