//! What no webhook of Chatwoot's has told is found, and has its effect once.

use chancery::{
    inbox::Reconciling,
    testing::{ACME, GLOBEX, TestApp},
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::harness::{items, message_created, open_in_chatwoot, pass};

/// Writes a private note in Chatwoot's double, as an agent there.
async fn note(app: &TestApp, conversation: i64, content: &str) -> Value {
    let chatwoot = &app.doubles().chatwoot;
    let url = format!("{}api/v1/accounts/1/conversations/{conversation}/messages", chatwoot.public_url());
    let token = chatwoot.agent_token(8).unwrap();
    let sent = reqwest::Client::new()
        .post(url)
        .header("api-access-token", token.expose_secret())
        .json(&json!({ "content": content, "message_type": "outgoing", "private": true }))
        .send()
        .await
        .unwrap();
    sent.error_for_status().unwrap().json().await.unwrap()
}

async fn events(app: &TestApp) -> i64 {
    app.count("SELECT count(*) FROM inbox_events WHERE service = 'chatwoot'").await
}

#[tokio::test]
async fn a_lost_message_and_a_lost_escalation_are_found_once() {
    let app = TestApp::start().await;
    let reconciling = Reconciling::new(app.state().clone());
    let number = open_in_chatwoot(&app).await;
    note(&app, number, "/escalate A refund").await;
    // They may still be on their way.
    assert_eq!(reconciling.run_once().await, 0);
    pass(&app, 60);
    assert_eq!(reconciling.run_once().await, 2, "the customer's message and the agent's note");
    app.run_jobs().await;
    let known = items(&app.agent(), &format!("/conversations?tenantId={ACME}")).await;
    assert_eq!(
        (known.len(), &known[0]["displayId"], &known[0]["lastMessage"]),
        (1, &json!(number), &json!("My order came broken."))
    );
    let requested = items(&app.agent(), &format!("/approvals?tenantId={ACME}")).await;
    assert_eq!((requested.len(), &requested[0]["description"]), (1, &json!("A refund")));
    let asked_by = app.user("acme-agent").to_string();
    assert_eq!(requested[0]["requestedBy"], asked_by);

    // Again, and after a while: the same, and what we wrote ourselves leads to nothing.
    let before = events(&app).await;
    assert_eq!(reconciling.run_once().await, 0);
    pass(&app, 60);
    let own = reconciling.run_once().await;
    assert_eq!(events(&app).await, before + i64::try_from(own).unwrap());
    app.run_jobs().await;
    assert_eq!(items(&app.agent(), &format!("/approvals?tenantId={ACME}")).await.len(), 1);
}

#[tokio::test]
async fn what_a_webhook_has_told_is_not_found_and_a_late_one_is_a_repetition() {
    let app = TestApp::start().await;
    let reconciling = Reconciling::new(app.state().clone());
    let number = open_in_chatwoot(&app).await;
    let told = note(&app, number, "First").await["id"].as_i64().unwrap();
    let late = note(&app, number, "Second").await["id"].as_i64().unwrap();
    let webhook = |message: i64| message_created(&app, number, message, "As it came");
    assert_eq!(app.deliver(&webhook(told)).await.expect(200)["duplicate"], false);
    pass(&app, 60);
    assert_eq!(reconciling.run_once().await, 2, "the customer's, and the second note");
    assert_eq!(app.deliver(&webhook(late)).await.expect(200)["duplicate"], true);
    app.run_jobs().await;
}

#[tokio::test]
async fn a_lost_change_of_status_is_found() {
    let app = TestApp::start().await;
    let reconciling = Reconciling::new(app.state().clone());
    let number = open_in_chatwoot(&app).await;
    pass(&app, 60);
    assert_eq!(reconciling.run_once().await, 1);
    app.run_jobs().await;
    let chatwoot = &app.doubles().chatwoot;
    let client = connector_chatwoot::ChatwootClient::new(&chatwoot.settings()).unwrap();
    client.set_status(number, &connector_chatwoot::ConversationStatus::Resolved).await.unwrap();
    pass(&app, 60);
    assert_eq!(reconciling.run_once().await, 1);
    app.run_jobs().await;
    let known = items(&app.agent(), &format!("/conversations?tenantId={ACME}")).await;
    assert_eq!(known[0]["status"], "resolved");
    pass(&app, 60);
    assert_eq!(reconciling.run_once().await, 0);
}

#[tokio::test]
async fn each_account_is_looked_at_from_where_it_was_left_and_one_that_cannot_be_asked_holds_up_no_other() {
    let app = TestApp::start().await;
    let reconciling = Reconciling::new(app.state().clone());
    // Chatwoot's double has no such account.
    let strange = json!({ "tenantId": "/suite", "service": "chatwoot", "account": "2", "scheme": { "type": "chatwoot" } });
    app.suite_admin().post("/sources", &strange).await.expect(201);
    pass(&app, 60);
    assert_eq!(reconciling.run_once().await, 0);
    assert_eq!(app.count("SELECT count(*) FROM inbox_cursors").await, 1);
    open_in_chatwoot(&app).await;
    // For longer than what is looked at again in any case.
    pass(&app, 3_600);
    assert_eq!(reconciling.run_once().await, 1);
    app.run_jobs().await;
    assert_eq!(items(&app.agent(), &format!("/conversations?tenantId={ACME}")).await.len(), 1);
    assert_eq!(
        app.count(
            "SELECT count(*) FROM inbox_cursors WHERE tenant_id = '00000000-0000-0000-0000-000000000000'"
        )
        .await,
        0
    );
}

#[tokio::test]
async fn what_came_while_an_inbox_was_anothers_is_not_found_for_whose_it_is_now() {
    let app = TestApp::start().await;
    let reconciling = Reconciling::new(app.state().clone());
    let suite = json!({ "tenantId": "/suite", "service": "chatwoot", "account": "1", "scheme": { "type": "chatwoot" } });
    let source = app.suite_admin().post("/sources", &suite).await.expect(201);
    let mapping = format!("/sources/{}/mappings/others", source["id"].as_str().unwrap());
    let map = async |tenant: &str| {
        app.suite_admin().put(&mapping, &json!({ "tenantId": tenant })).await.expect(200);
    };
    map(ACME).await;
    let number = open_in_chatwoot(&app).await;
    note(&app, number, "For acme").await;
    pass(&app, 60);
    map(GLOBEX).await;
    reconciling.run_once().await;
    app.run_jobs().await;
    let globex = app.add_person("globex-agent", &["/organizations/globex/agents"]);
    let theirs = format!("/conversations?tenantId={GLOBEX}");
    assert!(items(&globex, &theirs).await.is_empty());
    // From now on it is theirs.
    note(&app, number, "For globex").await;
    pass(&app, 60);
    reconciling.run_once().await;
    app.run_jobs().await;
    assert_eq!(items(&globex, &theirs).await[0]["displayId"], number);
}
