use chancery::{
    sources::{SourceScheme, register_source},
    testing::{ACME, TestApp},
};
use connector_chatwoot::fake::FailureKind;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::harness::{
    chatwoot_conversation, conversation, id, items, message_created, notes, open_in_chatwoot, pass, path,
    private_note,
};

const AGENT_MAIL: &str = "acme-agent@acme.example";
const TEMP_MAIL: &str = "temp@agency.example";

#[tokio::test]
async fn a_delivery_is_stored_and_mirrored_once() {
    let app = TestApp::start().await;
    let event = message_created(&app, 26, 77, "My order came broken.");
    let first = app.deliver(&event).await.expect(200);
    assert_eq!(first["duplicate"], false);
    app.run_jobs().await;
    let events = "SELECT count(*) FROM events WHERE type = 'conversation.updated'";
    assert_eq!(app.count(events).await, 1);
    // The same again: signed anew a little later, as a sender that heard no answer would.
    pass(&app, 30);
    let again = app.deliver(&event).await.expect(200);
    assert_eq!((&again["duplicate"], &again["id"]), (&json!(true), &first["id"]));
    assert_eq!(app.run_jobs().await, 0);
    assert_eq!((app.count("SELECT count(*) FROM inbox_events").await, app.count(events).await), (1, 1));

    let known = items(&app.viewer(), &format!("/conversations?tenantId={ACME}")).await;
    assert_eq!(known.len(), 1);
    let conversation = &known[0];
    assert_eq!(
        (&conversation["displayId"], &conversation["service"], &conversation["account"]),
        (&json!(26), &json!("chatwoot"), &json!("1"))
    );
    assert_eq!(
        (&conversation["contactName"], &conversation["lastMessage"]),
        (&json!("Connie Customer"), &json!("My order came broken."))
    );
    let link = format!("{}app/accounts/1/conversations/26", app.doubles().chatwoot.public_url());
    assert_eq!(conversation["link"], json!(link));
    assert!(items(&app.outsider(), "/conversations").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_same_delivery_twenty_times_at_once_one_counts() {
    let app = TestApp::start().await;
    let event = message_created(&app, 26, 77, "Hello");
    let answers = futures::future::join_all((0..20).map(|_| app.deliver(&event))).await;
    let new = answers.iter().filter(|answer| answer.expect(200)["duplicate"] == false).count();
    assert_eq!((new, app.count("SELECT count(*) FROM inbox_events").await), (1, 1));
    app.run_jobs().await;
}

#[tokio::test]
async fn the_only_source_of_a_service_needs_no_name() {
    let app = TestApp::start().await;
    let body = message_created(&app, 26, 77, "Hello").to_string();
    let signature = connector_chatwoot::webhook::sign(&app.chatwoot_secret(), app.now(), body.as_bytes());
    let send = || {
        let nobody = app.nobody();
        let request =
            nobody.request(Method::POST, "/webhooks/chatwoot").header("content-type", "application/json");
        let request = request
            .header("x-chatwoot-timestamp", app.now().timestamp().to_string())
            .header("x-chatwoot-signature", &signature);
        let request = request.body(body.clone());
        async move { nobody.send(request).await }
    };
    assert_eq!(send().await.expect(200)["duplicate"], false);
    app.run_jobs().await;
    // With a second one it is no longer plain which is meant.
    let secret = Some("another".to_owned().into());
    register_source(app.state(), app.tenant(ACME), SourceScheme::Chatwoot, "Shop", "2", secret)
        .await
        .unwrap();
    assert_eq!(send().await.problem(401), "webhooks.refused");
}

#[tokio::test]
async fn an_event_of_another_account_changes_nothing() {
    let app = TestApp::start().await;
    let mut event = message_created(&app, 26, 77, "Hello");
    event["account"]["id"] = json!(2);
    app.deliver(&event).await.expect(200);
    app.run_jobs().await;
    assert_eq!(app.count("SELECT count(*) FROM conversations").await, 0);
    assert_eq!(
        app.count("SELECT count(*) FROM inbox_failures WHERE state = 'dead' AND cause = 'poison'").await,
        1
    );
    // What is dead doesn't hold up what comes after it.
    conversation(&app, 26).await;
    app.leave_jobs();
}

#[tokio::test]
async fn an_older_event_that_comes_late_does_not_overwrite_a_newer_one() {
    let app = TestApp::start().await;
    let mut old = message_created(&app, 26, 77, "First");
    old["conversation"]["status"] = json!("open");
    pass(&app, 60);
    let mut new = message_created(&app, 26, 78, "Second");
    new["conversation"]["status"] = json!("resolved");
    new["conversation"]["labels"] = json!(["vip"]);
    for event in [&new, &old] {
        app.deliver(event).await.expect(200);
        app.run_jobs().await;
    }
    let known = items(&app.agent(), "/conversations").await;
    assert_eq!(
        (known.len(), &known[0]["status"], &known[0]["labels"], &known[0]["lastMessage"]),
        (1, &json!("resolved"), &json!(["vip"]), &json!("Second"))
    );
}

#[tokio::test]
async fn a_private_note_escalates_its_conversation_once() {
    let app = TestApp::start().await;
    let (number, mirrored) = chatwoot_conversation(&app).await;
    let note = private_note(&app, number, 500, "/escalate Refund of 1,200 EUR", AGENT_MAIL);
    app.deliver(&note).await.expect(200);
    app.run_jobs().await;
    let approvals = items(&app.ceo(), "/approvals").await;
    assert_eq!(approvals.len(), 1);
    let approval = &approvals[0];
    assert_eq!(
        (&approval["description"], &approval["requestedBy"]),
        (&json!("Refund of 1,200 EUR"), &json!(app.user("acme-agent")))
    );
    let source = json!({ "service": "chatwoot", "account": "1", "conversation": number.to_string(), "message": "500", "link": mirrored["link"] });
    assert_eq!((&approval["source"], &approval["conversationId"]), (&source, &mirrored["id"]));
    // The team is told in the conversation.
    let told = notes(&app, number).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["source_id"], format!("chancery:{}:pending", id(approval)));

    // The same note again, now and after the decision, makes nothing.
    app.ceo()
        .patch(
            &path("/approvals", approval),
            &json!({ "status": "approved", "comment": "Yes [x](http://evil.example)" }),
        )
        .await
        .expect(200);
    assert_eq!(app.deliver(&note).await.expect(200)["duplicate"], true);
    let mut with_other_bytes = note.clone();
    with_other_bytes["delivery_attempt"] = json!(2);
    assert_eq!(app.deliver(&with_other_bytes).await.expect(200)["duplicate"], true);
    app.run_jobs().await;
    assert_eq!(items(&app.ceo(), "/approvals").await.len(), 1);
    let told = notes(&app, number).await;
    assert_eq!(
        (told.len(), &told[1]["source_id"]),
        (2, &json!(format!("chancery:{}:approved", id(approval))))
    );
    let content = told[1]["content"].as_str().unwrap();
    assert!(content.contains("Carla Chief") && content.contains("Yes"), "{content}");
    // People's words make no link in it.
    assert!(!content.contains("[x]("), "{content}");
}

#[tokio::test]
async fn nothing_but_an_agents_private_note_escalates() {
    let app = TestApp::start().await;
    let (number, _) = chatwoot_conversation(&app).await;
    let note = |message, change: &dyn Fn(&mut Value)| {
        let mut event = private_note(&app, number, message, "/escalate Refund", AGENT_MAIL);
        change(&mut event);
        event
    };
    let text = |content: &'static str| move |event: &mut Value| event["content"] = json!(content);
    for event in [
        message_created(&app, number, 501, "/escalate Refund"),
        note(502, &|event| event["private"] = json!(false)),
        note(503, &|event| event["message_type"] = json!("incoming")),
        note(504, &|event| {
            event["sender"] = json!({ "id": 70, "name": "C", "email": AGENT_MAIL, "type": "contact" });
        }),
        note(505, &|event| event["sender"]["type"] = json!("agent_bot")),
        note(506, &|event| {
            event["sender"].as_object_mut().unwrap().remove("type");
        }),
        note(507, &|event| event["event"] = json!("message_updated")),
        note(508, &|event| event["source_id"] = json!("chancery:x:pending")),
        note(509, &text("/escalated yesterday")),
        note(510, &text("please /escalate")),
    ] {
        app.deliver(&event).await.expect(200);
        app.run_jobs().await;
        assert_eq!(app.count("SELECT count(*) FROM approvals").await, 0, "{event}");
    }
    assert!(notes(&app, number).await.is_empty());
}

#[tokio::test]
async fn who_may_not_escalate_is_told_so_in_a_private_note() {
    let app = TestApp::start().await;
    let (number, _) = chatwoot_conversation(&app).await;
    let mut refusals = Vec::new();
    let mut message = 500;
    for (mail, content, words) in [
        (TEMP_MAIL, "/escalate Refund", "mail address"),
        ("acme-viewer@acme.example", "/escalate Refund", "role"),
        ("outsider@globex.example", "/escalate Refund", "role"),
        (AGENT_MAIL, "/escalate", "reason"),
    ] {
        message += 1;
        app.deliver(&private_note(&app, number, message, content, mail)).await.expect(200);
        app.run_jobs().await;
        let told = notes(&app, number).await;
        refusals.push(words);
        assert_eq!(told.len(), refusals.len(), "{mail} {content}");
        let last = told.last().unwrap()["content"].as_str().unwrap().to_owned();
        assert!(last.starts_with("Not escalated") && last.contains(words), "{last}");
    }
    assert_eq!(app.count("SELECT count(*) FROM approvals").await, 0);
    let entries = items(&app.ceo(), "/audit?action=conversation.escalation_refused").await;
    assert_eq!(entries.len(), refusals.len());
    // Told once, however often the note is delivered.
    app.deliver(&private_note(&app, number, 501, "/escalate Refund", TEMP_MAIL)).await.expect(200);
    app.run_jobs().await;
    assert_eq!(notes(&app, number).await.len(), refusals.len());
}

#[tokio::test]
async fn mail_that_keycloak_has_not_verified_is_nobodys() {
    let app = TestApp::start().await;
    let (number, _) = chatwoot_conversation(&app).await;
    let user = connector_keycloak::fake::NewUser {
        username: "claims-to-be".to_owned(),
        email: Some("boss@acme.example".to_owned()),
        email_verified: false,
        groups: vec!["/organizations/acme-corp/owners".to_owned()],
        ..Default::default()
    };
    app.doubles().keycloak.create_user(user).unwrap();
    app.deliver(&private_note(&app, number, 500, "/escalate Refund", "boss@acme.example")).await.expect(200);
    app.run_jobs().await;
    assert_eq!(app.count("SELECT count(*) FROM approvals").await, 0);
    assert!(notes(&app, number).await[0]["content"].as_str().unwrap().starts_with("Not escalated"));
}

#[tokio::test]
async fn a_note_is_there_once_however_chatwoot_fails() {
    for (failure, tries) in [
        (FailureKind::AfterStoreBeforeAnswer, 1),
        (FailureKind::BeforeStore, 2),
        (FailureKind::ServerError, 2),
        (FailureKind::Throttled, 2),
    ] {
        let app = TestApp::start().await;
        let (number, mirrored) = chatwoot_conversation(&app).await;
        app.doubles().chatwoot.fail_next(failure);
        app.agent()
            .post(&format!("{}/escalate", path("/conversations", &mirrored)), &json!({ "reason": "Refund" }))
            .await
            .expect(201);
        app.run_jobs().await;
        let there = notes(&app, number).await.len();
        assert_eq!(there, usize::from(tries == 1), "{failure:?}");
        // The next try is later, and finds what the first one left.
        pass(&app, 120);
        app.run_jobs().await;
        pass(&app, 120);
        assert_eq!(app.run_jobs().await, 0, "{failure:?}");
        assert_eq!(notes(&app, number).await.len(), 1, "{failure:?}");
        let posted = items(&app.ceo(), "/audit?action=approval.note_posted").await;
        assert_eq!(posted.len(), 1, "{failure:?}");
        let attempts: i32 = sqlx::query_scalar("SELECT attempts FROM jobs WHERE kind = 'approvals.note'")
            .fetch_one(app.superuser())
            .await
            .unwrap();
        assert_eq!(attempts, tries, "{failure:?}");
    }
}

#[tokio::test]
async fn a_note_that_was_posted_and_not_recorded_is_found_by_the_next_attempt_which_alone_looks() {
    let app = TestApp::start().await;
    let (number, mirrored) = chatwoot_conversation(&app).await;
    let escalate = format!("{}/escalate", path("/conversations", &mirrored));
    app.agent().post(&escalate, &json!({ "reason": "Refund" })).await.expect(201);
    let asked = || -> Vec<String> {
        let requests = app.doubles().chatwoot.received().take().into_iter();
        requests
            .filter(|request| request.path.ends_with("/messages"))
            .map(|request| request.method.to_string())
            .collect()
    };
    asked();
    // What a crash between sending and recording does: the effect is there, its record isn't.
    let login = app.role("worker");
    let may_record = async |may: &str| {
        let sql = sqlx::AssertSqlSafe(format!("{may} \"{login}\""));
        sqlx::query(sql).execute(app.superuser()).await.unwrap();
    };
    may_record("REVOKE INSERT ON audit_logs FROM").await;
    app.run_jobs().await;
    assert_eq!(asked(), ["POST"], "a first attempt asks for no messages");
    assert_eq!(notes(&app, number).await.len(), 1);
    asked();

    may_record("GRANT INSERT ON audit_logs TO").await;
    pass(&app, 120);
    app.run_jobs().await;
    assert_eq!(asked(), ["GET"]);
    assert_eq!(notes(&app, number).await.len(), 1);
    assert_eq!(items(&app.ceo(), "/audit?action=approval.note_posted").await.len(), 1);
}

#[tokio::test]
async fn a_note_that_would_be_public_is_given_up() {
    let app = TestApp::start().await;
    let (number, mirrored) = chatwoot_conversation(&app).await;
    app.doubles().chatwoot.fail_next(FailureKind::StoredAsPublic);
    app.agent()
        .post(&format!("{}/escalate", path("/conversations", &mirrored)), &json!({ "reason": "Refund" }))
        .await
        .expect(201);
    app.run_jobs().await;
    assert!(notes(&app, number).await.is_empty());
    assert_eq!(
        app.count("SELECT count(*) FROM jobs WHERE kind = 'approvals.note' AND state = 'dead'").await,
        1
    );
    app.leave_jobs();
}

#[tokio::test]
async fn the_doubles_own_deliveries_are_accepted() {
    let app = TestApp::start().await;
    // What an administrator does: register the address, and keep the secret that Chatwoot has minted.
    let client = app.state().tools.chatwoot.as_ref().unwrap().account(1);
    let url = app
        .state()
        .config
        .http
        .public_url
        .join(&format!("/api/v1/webhooks/chatwoot/{}", app.chatwoot_source()))
        .unwrap();
    let webhook = client
        .register_webhook(&url, "Chancery", &["conversation_created", "message_created"])
        .await
        .unwrap();
    register_source(app.state(), app.tenant(ACME), SourceScheme::Chatwoot, "Website", "1", webhook.secret)
        .await
        .unwrap();
    let number = open_in_chatwoot(&app).await;
    for _ in 0..500 {
        if app.count("SELECT count(*) FROM inbox_events").await == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    app.run_jobs().await;
    let known = items(&app.agent(), "/conversations").await;
    assert_eq!(
        (known.len(), &known[0]["displayId"], &known[0]["lastMessage"]),
        (1, &json!(number), &json!("My order came broken."))
    );
}

fn transaction(app: &TestApp, number: &str, token: Option<&str>, body: &Value) -> reqwest::RequestBuilder {
    let path = format!("/webhooks/matrix/{}/_matrix/app/v1/transactions/{number}", app.matrix_source());
    let request = app.nobody().request(Method::PUT, &path).json(body);
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

#[tokio::test]
async fn a_transaction_of_the_homeserver_is_taken_once() {
    let app = TestApp::start().await;
    let nobody = app.nobody();
    let hs_token = app.state().config.matrix.hs_token.expose_secret().to_owned();
    let body = json!({ "events": [] });
    for _ in 0..2 {
        let answer = nobody.send(transaction(&app, "7", Some(&hs_token), &body)).await;
        assert_eq!(answer.expect(200), json!({}));
    }
    assert_eq!(app.count("SELECT count(*) FROM inbox_events WHERE service = 'matrix'").await, 1);
    nobody.send(transaction(&app, "8", Some(&hs_token), &body)).await.expect(200);
    assert_eq!(app.count("SELECT count(*) FROM inbox_events WHERE service = 'matrix'").await, 2);
    app.run_jobs().await;
    assert_eq!(app.count("SELECT count(*) FROM inbox_pending").await, 0);
}

#[tokio::test]
async fn whoever_is_not_the_homeserver_is_forbidden() {
    let app = TestApp::start().await;
    let nobody = app.nobody();
    let hs_token = app.state().config.matrix.hs_token.expose_secret().to_owned();
    let before = app.row_counts().await;
    for token in [None, Some("wrong"), Some("")] {
        let answer = nobody.send(transaction(&app, "7", token, &json!({ "events": [] }))).await;
        assert_eq!(answer.expect(403)["errcode"], "M_FORBIDDEN");
    }
    for source in
        ["0b000000-0000-4000-8000-0000000000ff".to_owned(), "x".to_owned(), app.chatwoot_source().to_string()]
    {
        let path = format!("/webhooks/matrix/{source}/_matrix/app/v1/transactions/7");
        let request =
            nobody.request(Method::PUT, &path).json(&json!({ "events": [] })).bearer_auth(&hs_token);
        assert_eq!(nobody.send(request).await.expect(403)["errcode"], "M_FORBIDDEN", "{source}");
        let ping = nobody
            .request(Method::POST, &format!("/webhooks/matrix/{source}/_matrix/app/v1/ping"))
            .json(&json!({}))
            .bearer_auth(&hs_token);
        assert_eq!(nobody.send(ping).await.expect(403)["errcode"], "M_FORBIDDEN", "{source}");
    }
    let answer = nobody.send(transaction(&app, "7", Some(&hs_token), &json!([]))).await;
    assert_eq!(answer.status, 400);
    assert_eq!(app.row_counts().await, before);
    let ping = format!("/webhooks/matrix/{}/_matrix/app/v1/ping", app.matrix_source());
    nobody
        .send(
            nobody
                .request(Method::POST, &ping)
                .json(&json!({ "transaction_id": "t" }))
                .bearer_auth(&hs_token),
        )
        .await
        .expect(200);
}
