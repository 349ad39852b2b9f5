//! Setting Chatwoot up, and getting there signed in.

use chancery::{
    clock::{Clock as _, SystemClock},
    testing::{ACME, Browser, TestApp},
};
use connector_chatwoot::ChatwootClient;
use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    harness::{chatwoot_conversation, id, items, message_created, open_in_chatwoot, signed_in},
    sources::run_chancery,
};

fn client(app: &TestApp) -> ChatwootClient {
    ChatwootClient::new(&app.doubles().chatwoot.settings()).unwrap()
}

/// Where somebody is led who opens a conversation.
async fn opened(app: &TestApp, browser: &Browser, conversation: &Value) -> String {
    let acme = app.tenant(ACME);
    let answer = browser.post(&format!("/app/t/{acme}/conversations/{}/open", id(conversation)), &[]).await;
    assert_eq!(answer.status, 303);
    assert_eq!(
        (answer.header("cache-control"), answer.header("referrer-policy")),
        ("no-store", "no-referrer")
    );
    answer.header("location").to_owned()
}

#[tokio::test]
async fn who_works_in_chatwoot_is_signed_in_there_once_and_lands_on_the_conversation() {
    let app = TestApp::start().await;
    let (number, conversation) = chatwoot_conversation(&app).await;
    let browser = signed_in(&app, "acme-agent").await;
    let link = opened(&app, &browser, &conversation).await;
    let base = app.doubles().chatwoot.public_url().clone();
    assert!(
        link.starts_with(&format!("{base}app/login?email=acme-agent%40acme.example&sso_auth_token=")),
        "{link}"
    );
    let follow = || async {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let answer = http.get(&link).send().await.unwrap();
        (answer.status().as_u16(), answer.headers().get("location").map(|to| to.to_str().unwrap().to_owned()))
    };
    assert_eq!(follow().await, (303, Some(format!("/?conversation={number}&agent=8"))));
    assert_eq!(follow().await.0, 401, "it signs in once");
    // Each time another one.
    assert_ne!(opened(&app, &browser, &conversation).await, link);
    let trail = items(&app.ceo(), &format!("/audit?tenantId={ACME}&action=conversation.opened")).await;
    assert_eq!(trail.len(), 2);
    assert_eq!(trail[0]["newValues"]["agent"], 8);
    assert!(!json!(trail).to_string().contains("sso_auth_token"));
}

#[tokio::test]
async fn who_has_no_user_there_or_no_right_to_gets_a_plain_link() {
    let app = TestApp::start().await;
    let (number, conversation) = chatwoot_conversation(&app).await;
    let plain = format!("{}app/accounts/1/conversations/{number}", app.doubles().chatwoot.public_url());
    for username in ["acme-ceo", "acme-viewer"] {
        let browser = signed_in(&app, username).await;
        assert_eq!(opened(&app, &browser, &conversation).await, plain, "{username}");
    }
    let outsider = signed_in(&app, "outsider").await;
    let path = format!("/app/t/{}/conversations/{}/open", app.tenant(ACME), id(&conversation));
    assert_eq!(outsider.post(&path, &[]).await.status, 404);
    assert_eq!(app.count("SELECT count(*) FROM audit_logs WHERE action = 'conversation.opened'").await, 0);
}

#[tokio::test]
async fn without_a_platform_token_the_link_is_a_plain_one() {
    let app = TestApp::start_with(|config| config.chatwoot.platform_token = String::new().into()).await;
    let (number, conversation) = chatwoot_conversation(&app).await;
    let browser = signed_in(&app, "acme-agent").await;
    let plain = format!("{}app/accounts/1/conversations/{number}", app.doubles().chatwoot.public_url());
    assert_eq!(opened(&app, &browser, &conversation).await, plain);
}

#[tokio::test]
async fn chatwoot_is_set_up_by_one_command_however_often_it_is_run() {
    let app = TestApp::start().await;
    // The program goes by the machine's clock.
    app.clock().set(SystemClock.now());
    let install = async |tenant: &str| -> Value {
        let arguments = ["chatwoot", "install", "--tenant", tenant, "--account", "1", "--json"];
        serde_json::from_str(&run_chancery(&app, &arguments, "").await.unwrap()).unwrap()
    };
    let first = install("suite").await;
    assert_eq!(first["secretStored"], true);
    let again = install("suite").await;
    assert_eq!(again["secretStored"], false);
    for same in ["source", "url", "webhook", "dashboardApp"] {
        assert_eq!(first[same], again[same], "{same}");
    }
    let chatwoot = client(&app);
    let webhooks = chatwoot.webhooks().await.unwrap();
    assert_eq!((webhooks.len(), webhooks[0].url.as_str()), (1, first["url"].as_str().unwrap()));
    let apps = chatwoot.dashboard_apps().await.unwrap();
    let embed = format!("{}embed/chatwoot", app.state().config.http.public_url);
    assert_eq!((apps.len(), &apps[0].urls), (1, &vec![embed]));
    assert_eq!(app.count("SELECT count(*) FROM webhook_source_secrets AS secret JOIN webhook_sources AS source ON source.id = source_id WHERE source.account = '1' AND source.tenant_id = '00000000-0000-0000-0000-000000000000'").await, 1);

    // What Chatwoot signs with its own secret is taken.
    let secret: SecretString = webhooks[0].secret.clone().unwrap();
    let number = open_in_chatwoot(&app).await;
    let body = message_created(&app, number, 77, "Hello").to_string();
    let signature = connector_chatwoot::webhook::sign(&secret, app.now(), body.as_bytes());
    let nobody = app.nobody();
    let path = format!("/webhooks/chatwoot/{}", first["source"].as_str().unwrap());
    let request = nobody
        .request(Method::POST, &path)
        .header("content-type", "application/json")
        .header("x-chatwoot-timestamp", app.now().timestamp().to_string())
        .header("x-chatwoot-signature", signature);
    nobody.send(request.body(body)).await.expect(200);
    app.leave_jobs();
}

#[tokio::test]
async fn a_conversation_says_how_its_approval_stands_and_keeps_its_other_attributes() {
    let app = TestApp::start_with(|config| config.chatwoot.attribute = "ceo_escalation".to_owned()).await;
    let (number, conversation) = chatwoot_conversation(&app).await;
    let chatwoot = client(&app);
    let own = serde_json::Map::from_iter([("plan".to_owned(), json!("gold"))]);
    chatwoot.merge_custom_attributes(number, &own).await.unwrap();
    let escalate = format!("/conversations/{}/escalate", id(&conversation));
    let requested =
        app.agent().post(&escalate, &json!({ "reason": "Refund", "priority": "low" })).await.expect(201);
    app.run_jobs().await;
    let attributes = async || json!(chatwoot.conversation(number).await.unwrap().custom_attributes.unwrap());
    assert_eq!(attributes().await, json!({ "plan": "gold", "ceo_escalation": "pending" }));
    let decide = format!("/approvals/{}", id(&requested));
    app.ceo().patch(&decide, &json!({ "status": "approved" })).await.expect(200);
    app.run_jobs().await;
    assert_eq!(attributes().await, json!({ "plan": "gold", "ceo_escalation": "approved" }));
}

#[tokio::test]
async fn what_our_bot_has_written_leads_to_nothing_though_it_lacks_our_mark() {
    let app = TestApp::start().await;
    let (number, _) = chatwoot_conversation(&app).await;
    let mut echo = message_created(&app, number, 900, "A word of the bot's");
    echo["message_type"] = json!("outgoing");
    echo["sender"] =
        json!({ "id": connector_chatwoot::fake::BOT_ID, "name": "Chancery", "type": "agent_bot" });
    app.deliver(&echo).await.expect(200);
    app.run_jobs().await;
    let last = |known: Vec<Value>| known[0]["lastMessage"].clone();
    let path = format!("/conversations?tenantId={ACME}");
    assert_eq!(last(items(&app.agent(), &path).await), "My order came broken.");
    // Another bot's word is a word in the conversation.
    echo["id"] = json!(901);
    echo["sender"]["id"] = json!(7);
    app.deliver(&echo).await.expect(200);
    app.run_jobs().await;
    assert_eq!(last(items(&app.agent(), &path).await), "A word of the bot's");
}
