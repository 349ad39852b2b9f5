//! The team's room in Matrix: notices that change with what they tell of, and questions to the bot.

use chancery::{
    ids::TenantId,
    matrix::look_for_dead_letters,
    testing::{ACME, Client, ENGINEERING, GLOBEX, TestApp},
};
use connector_matrix::{ExternalId, Membership, RoomAlias, RoomId, appservice::ClientEvent};
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::harness::{approval, id, items, message_created, pass, path};

fn client(app: &TestApp) -> &connector_matrix::MatrixClient {
    &app.state().tools.matrix.as_ref().unwrap().client
}

fn alias(app: &TestApp, purpose: &str, tenant: &str) -> RoomAlias {
    let name = format!("{purpose}_{}", app.tenant(tenant).0.simple());
    RoomAlias::new(&client(app).alias_localpart(&name), client(app).sender().server_name()).unwrap()
}

async fn room(app: &TestApp) -> RoomId {
    client(app).resolve_alias(&alias(app, "approvals", ACME)).await.unwrap().expect("the room is there")
}

/// The bot's messages in acme's room for approvals, oldest first.
pub async fn messages(app: &TestApp) -> Vec<ClientEvent> {
    messages_in(app, &room(app).await).await
}

async fn messages_in(app: &TestApp, room: &RoomId) -> Vec<ClientEvent> {
    let mut events = client(app).messages(room, 100).await.unwrap();
    events.retain(|event| event.event_type == "m.room.message" && event.sender == *client(app).sender());
    events.reverse();
    events
}

/// What people see of the notices: of each its text as it was changed last.
fn seen(messages: &[ClientEvent]) -> Vec<String> {
    let is_edit = |event: &&ClientEvent| event.content.get("m.new_content").is_some();
    let text = |notice: &ClientEvent| {
        let of = |edit: &&ClientEvent| edit.content["m.relates_to"]["event_id"] == notice.event_id.as_str();
        let last = messages.iter().filter(is_edit).rfind(of);
        let body = last.map_or(&notice.content["body"], |edit| &edit.content["m.new_content"]["body"]);
        body.as_str().unwrap().to_owned()
    };
    messages.iter().filter(|event| !is_edit(event)).map(text).collect()
}

async fn decide(app: &TestApp, approval: &Value) {
    app.ceo().patch(&path("/approvals", approval), &json!({ "status": "approved" })).await.expect(200);
}

#[tokio::test]
async fn the_notice_of_a_request_is_changed_to_what_came_of_it() {
    let app = TestApp::start().await;
    let first = approval(&app.agent(), "A").await;
    app.run_jobs().await;
    pass(&app, 1);
    let second = approval(&app.agent(), "B").await;
    // Decided before anybody was told that it waits: one notice, of the outcome.
    decide(&app, &second).await;
    app.run_jobs().await;
    pass(&app, 1);
    decide(&app, &first).await;
    app.run_jobs().await;
    let link = |approval: &Value| {
        let path = format!("/app/t/{}/approvals/{}", app.tenant(ACME), id(approval));
        app.state().config.http.public_url.join(&path).unwrap().to_string()
    };
    let messages = messages(&app).await;
    assert_eq!(
        seen(&messages),
        [
            format!("Approved by Carla Chief: A {}", link(&first)),
            format!("Approved by Carla Chief: B {}", link(&second))
        ]
    );
    assert_eq!(messages.len(), 3, "two notices and a change: the room isn't flooded");
    assert_eq!(messages[2].content["m.relates_to"]["rel_type"], "m.replace");
    let sent = items(&app.ceo(), "/audit?action=approval.notice_sent").await;
    let replaces: Vec<&Value> = sent.iter().map(|entry| &entry["newValues"]["replaces"]).collect();
    assert_eq!(replaces, [&json!(true), &json!(false), &json!(false)]);
}

#[tokio::test]
async fn a_notice_whose_answer_was_lost_is_changed_as_well_and_nothing_is_there_twice() {
    let app = TestApp::start().await;
    let requested = approval(&app.agent(), "A").await;
    app.run_jobs().await;
    let before = messages(&app).await;
    assert_eq!(before.len(), 1);
    // As if the worker had died between sending and saying so.
    for sql in [
        "DELETE FROM approval_notices",
        "UPDATE jobs SET state = 'ready', run_at = now() + interval '100 years', finished_at = NULL WHERE kind = 'approvals.notice'",
    ] {
        sqlx::query(sql).execute(app.superuser()).await.unwrap();
    }
    decide(&app, &requested).await;
    app.run_jobs().await;
    assert_eq!(messages(&app).await, before, "what came of it waits for the first notice to be known");
    sqlx::query("UPDATE jobs SET run_at = CASE WHEN key LIKE '%:pending' THEN timestamptz '2026-03-02 08:00Z' ELSE '2026-03-02 09:00Z' END
         WHERE kind = 'approvals.notice' AND state = 'ready'")
        .execute(app.superuser())
        .await
        .unwrap();
    app.run_jobs().await;
    let after = messages(&app).await;
    assert_eq!((after.len(), &after[0]), (2, &before[0]));
    assert!(seen(&after)[0].starts_with("Approved by"), "{:?}", seen(&after));
}

#[tokio::test]
async fn a_tenant_has_a_space_with_the_room_in_it_which_is_found_and_mended() {
    let app = TestApp::start().await;
    approval(&app.agent(), "A").await;
    app.run_jobs().await;
    let (client, made) = (client(&app), room(&app).await);
    let space = client.resolve_alias(&alias(&app, "space", ACME)).await.unwrap().unwrap();
    let child = client.state(&space, "m.space.child", made.as_str()).await.unwrap().unwrap();
    assert_eq!(child["via"], json!([client.sender().server_name()]));
    assert_eq!(client.state(&space, "m.room.create", "").await.unwrap().unwrap()["type"], "m.space");
    assert!(client.state(&space, "m.room.name", "").await.unwrap().unwrap()["name"].is_string());

    // Somebody takes the alias away, opens the room to all, and encrypts it.
    client.remove_alias(&alias(&app, "approvals", ACME)).await.unwrap();
    client.set_state(&made, "m.room.join_rules", "", &json!({ "join_rule": "public" })).await.unwrap();
    let algorithm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    client.set_state(&made, "m.room.encryption", "", &algorithm).await.unwrap();
    let tools = app.state().tools.matrix.as_ref().unwrap();
    assert!(tools.warnings().is_empty());
    tools.rooms.invalidate_all();
    approval(&app.agent(), "B").await;
    app.run_jobs().await;
    assert_eq!(room(&app).await, made, "the same room, by what was remembered");
    let rules = client.state(&made, "m.room.join_rules", "").await.unwrap().unwrap();
    assert_eq!(rules["join_rule"], "invite");
    assert!(tools.warnings()[0].contains(made.as_str()));
    // In an encrypted room, too, notices are sent, plain.
    assert_eq!(seen(&messages(&app).await).len(), 2);
}

#[tokio::test]
async fn the_team_is_told_that_a_consultation_starts_once() {
    let app = TestApp::start().await;
    let ceo: Client = app.ceo();
    let made = ceo.post("/consultations", &json!({ "tenantId": ACME, "title": "Refund" })).await.expect(201);
    for _ in 0..2 {
        ceo.post(&format!("{}/start", path("/consultations", &made)), &json!({})).await.expect(200);
        app.run_jobs().await;
    }
    let seen = seen(&messages(&app).await);
    let link = format!("/app/t/{}/consultations/{}", app.tenant(ACME), id(&made));
    assert_eq!(seen.len(), 1);
    assert!(
        seen[0].starts_with("A consultation has started: Refund ") && seen[0].ends_with(&link),
        "{seen:?}"
    );
    assert_eq!(items(&ceo, "/audit?action=consultation.notice_sent").await.len(), 1);
}

/// Somebody of the homeserver's says something in a room of acme's, as the homeserver tells it; `source` is told.
async fn say(app: &TestApp, source: &str, sender: &str, room: &str, message: &str, text: &str) {
    let event = json!({
        "type": "m.room.message", "event_id": message, "room_id": room, "sender": sender,
        "origin_server_ts": app.now().timestamp_millis(), "content": { "msgtype": "m.text", "body": text },
    });
    let url =
        format!("/webhooks/matrix/{source}/_matrix/app/v1/transactions/{}", message.trim_start_matches('$'));
    let nobody = app.nobody();
    let token = app.state().config.matrix.hs_token.expose_secret();
    let request = nobody.request(Method::PUT, &url).bearer_auth(token).json(&json!({ "events": [event] }));
    nobody.send(request).await.expect(200);
    app.run_jobs().await;
}

/// Lets somebody of the homeserver's into acme's room.
async fn let_in(app: &TestApp, username: &str) -> String {
    let user = app.doubles().matrix.user_id(username);
    let room = room(app).await;
    client(app).invite(&room, &user.parse().unwrap(), None).await.unwrap();
    let url = app.doubles().matrix.public_url().join("/write").unwrap();
    let said = [("room", room.as_str()), ("as", user.as_str()), ("body", "Hello")];
    reqwest::Client::new().post(url).form(&said).send().await.unwrap();
    assert_eq!(client(app).membership(&room, &user.parse().unwrap()).await.unwrap(), Membership::Join);
    user
}

#[tokio::test]
async fn the_bot_says_what_waits_and_how_far_something_is_once_and_decides_nothing() {
    let app = TestApp::start().await;
    app.ceo().get("/me").await.expect(200);
    let first = approval(&app.agent(), "A <b>").await;
    app.run_jobs().await;
    let (source, room) = (app.matrix_source().to_string(), room(&app).await);
    let ceo = let_in(&app, "acme-ceo").await;
    let answers = async || seen(&messages(&app).await).split_off(1);
    for _ in 0..2 {
        say(&app, &source, &ceo, room.as_str(), "$m1", "!approvals").await;
    }
    let link = format!("/app/t/{}/approvals/{}", app.tenant(ACME), id(&first));
    let listed = answers().await;
    assert_eq!(listed.len(), 1, "asked once, answered once");
    let expected = "What waits for a decision:\n• Ada Agent asks for a decision: A <b> ";
    assert!(listed[0].starts_with(expected) && listed[0].ends_with(&link), "{listed:?}");
    let html = messages(&app).await.last().unwrap().content["formatted_body"].clone();
    assert!(html.as_str().unwrap().contains("A &lt;b&gt;</a></li></ul>"), "{html}");
    // Nothing that is said there decides.
    say(&app, &source, &ceo, room.as_str(), "$m2", &format!("!approve {}", id(&first))).await;
    assert_eq!(answers().await.len(), 1);
    decide(&app, &first).await;
    app.run_jobs().await;
    say(&app, &source, &ceo, room.as_str(), "$m3", &format!("!status {}", id(&first))).await;
    say(&app, &source, &ceo, room.as_str(), "$m4", "!approvals").await;
    say(&app, &source, &ceo, room.as_str(), "$m5", "!status 0b000000-0000-4000-8000-0000000000ff").await;
    let rest = answers().await.split_off(1);
    assert!(rest[0].starts_with("Approved by Carla Chief: A <b> "), "{rest:?}");
    assert_eq!(rest[1..], ["Nothing waits for a decision.", "There is no such request here."]);
}

#[tokio::test]
async fn the_bot_answers_nobody_whom_it_does_not_know_and_in_no_room_that_is_no_tenant_s() {
    let app = TestApp::start().await;
    for person in [app.ceo(), app.outsider()] {
        person.get("/me").await.expect(200);
    }
    let requested = approval(&app.agent(), "A").await;
    app.run_jobs().await;
    let (source, acme) = (app.matrix_source().to_string(), room(&app).await);
    let (ceo, outsider) = (app.doubles().matrix.user_id("acme-ceo"), let_in(&app, "outsider").await);
    let before = messages(&app).await;
    let status = format!("!status {}", id(&requested));
    // In the room, and not of the tenant; of the tenant, and not in the room; of another homeserver; a room of no tenant's.
    for (number, (sender, room)) in [
        (outsider.as_str(), acme.as_str()),
        (ceo.as_str(), acme.as_str()),
        ("@acme-ceo:elsewhere.example", acme.as_str()),
        (ceo.as_str(), "!nowhere:chancery.localhost"),
    ]
    .into_iter()
    .enumerate()
    {
        say(&app, &source, sender, room, &format!("$m{number}"), "!approvals").await;
        say(&app, &source, sender, room, &format!("$n{number}"), &status).await;
    }
    assert_eq!(messages(&app).await, before);

    // One of another tenant isn't in this room, even where who asks may read both.
    let ceo = let_in(&app, "acme-ceo").await;
    let elsewhere =
        app.engineer().post("/approvals", &json!({ "tenantId": ENGINEERING, "title": "E" })).await;
    let elsewhere = elsewhere.expect(201);
    app.run_jobs().await;
    say(&app, &source, &ceo, acme.as_str(), "$last", &format!("!status {}", id(&elsewhere))).await;
    assert_eq!(seen(&messages(&app).await)[1..], ["There is no such request here."]);

    // Another tenant's homeserver, or who says to be one, says nothing for this room.
    let owner = app.add_person("globex-owner", &[&format!("{GLOBEX}/owners")]);
    let token = app.state().config.matrix.hs_token.expose_secret();
    let theirs = json!({ "tenantId": GLOBEX, "service": "matrix", "name": "M", "account": "x", "scheme": { "type": "matrix" }, "secret": token });
    let theirs = owner.post("/sources", &theirs).await.expect(201);
    say(&app, id(&theirs), &ceo, acme.as_str(), "$theirs", "!approvals").await;
    assert_eq!(seen(&messages(&app).await).len(), 2);
}

#[tokio::test]
async fn a_user_of_the_homeserver_s_is_whom_keycloak_signed_in_and_not_whose_name_they_have() {
    let app = TestApp::start().await;
    app.ceo().get("/me").await.expect(200);
    approval(&app.agent(), "A").await;
    app.run_jobs().await;
    let (source, room) = (app.matrix_source().to_string(), room(&app).await);
    let taken = let_in(&app, "acme-ceo").await;
    let as_whom = |username: &str| ExternalId {
        auth_provider: "oidc-keycloak".to_owned(),
        external_id: app.user(username).to_string(),
    };
    let elsewhere = ExternalId { auth_provider: "oidc-other".to_owned(), ..as_whom("acme-ceo") };
    let both = vec![as_whom("acme-ceo"), as_whom("acme-agent")];
    for (number, known) in [vec![as_whom("outsider")], vec![elsewhere], both, vec![]].into_iter().enumerate()
    {
        let known = known.into_iter().map(|id| ("acme-ceo".to_owned(), id));
        app.doubles().matrix.let_administer(known);
        say(&app, &source, &taken, room.as_str(), &format!("$m{number}"), "!approvals").await;
        assert_eq!(messages(&app).await.len(), 1, "{number}");
    }
    // Renamed in Keycloak since, or another name there: it is the same person.
    let renamed = let_in(&app, "outsider").await;
    app.doubles().matrix.let_administer([("outsider".to_owned(), as_whom("acme-ceo"))]);
    say(&app, &source, &renamed, room.as_str(), "$renamed", "!approvals").await;
    assert_eq!(messages(&app).await.len(), 2);
}

#[tokio::test]
async fn where_the_homeserver_does_not_tell_people_are_known_by_their_names() {
    let app = TestApp::start_with(|config| config.matrix.identity_provider.clear()).await;
    app.ceo().get("/me").await.expect(200);
    approval(&app.agent(), "A").await;
    app.run_jobs().await;
    app.doubles().matrix.let_administer([]);
    let (source, room) = (app.matrix_source().to_string(), room(&app).await);
    for (number, username) in ["acme-ceo", "outsider"].into_iter().enumerate() {
        let user = let_in(&app, username).await;
        say(&app, &source, &user, room.as_str(), &format!("$m{number}"), "!approvals").await;
    }
    assert_eq!(messages(&app).await.len(), 2, "the one in the tenant is answered");
}

/// A job of a tenant's that failed for good just now.
async fn kill_job(app: &TestApp, tenant: TenantId, kind: &str) {
    sqlx::query(
        "INSERT INTO jobs (tenant_id, id, kind, key, payload, state, run_at, created_at, finished_at, last_error)
         VALUES ($1, gen_random_uuid(), $2, gen_random_uuid()::text, '{}', 'dead', $3, $3, $3, 'Cora said no')",
    )
    .bind(tenant.0)
    .bind(kind)
    .bind(app.now())
    .execute(app.superuser())
    .await
    .unwrap();
}

/// As the process does every minute; then what is due is run.
async fn look(app: &TestApp) {
    for _ in 0..2 {
        look_for_dead_letters(app.state()).await.unwrap();
    }
    app.run_jobs().await;
}

/// What was told in a tenant's room for operations; none where there is no such room.
async fn told(app: &TestApp, tenant: TenantId) -> Option<Vec<String>> {
    let name = client(app).alias_localpart(&format!("operations_{}", tenant.0.simple()));
    let alias = RoomAlias::new(&name, client(app).sender().server_name()).unwrap();
    let room = client(app).resolve_alias(&alias).await.unwrap()?;
    Some(seen(&messages_in(app, &room).await))
}

#[tokio::test]
async fn what_failed_for_good_is_told_once_in_a_digest_and_not_what_it_was_about() {
    let app = TestApp::start().await;
    let acme = app.tenant(ACME);
    for message in [1, 2] {
        let mut event = message_created(&app, 26, message, "My card number is 4711");
        event["account"]["id"] = json!(2);
        app.deliver(&event).await.expect(200);
    }
    app.run_jobs().await;
    kill_job(&app, acme, "conversations.label").await;
    look(&app).await;
    assert_eq!(told(&app, acme).await, None, "it is told together, a little later");
    pass(&app, 15 * 60);
    look(&app).await;
    let link = format!("{}app/t/{acme}/inbox?state=dead", app.state().config.http.public_url);
    let digest = format!(
        "Needs to be mended: 2 received webhooks could not be processed, a task failed for good {link}"
    );
    let expected = Some(vec![digest.clone()]);
    assert_eq!(told(&app, acme).await, expected);
    // What is told once isn't told again; nor that this couldn't be told.
    kill_job(&app, acme, "matrix.dead_letters").await;
    pass(&app, 15 * 60);
    look(&app).await;
    assert_eq!(told(&app, acme).await, expected);
    // Another day, another notice, beside the first.
    pass(&app, 24 * 3600);
    kill_job(&app, acme, "conversations.label").await;
    look(&app).await;
    pass(&app, 15 * 60);
    look(&app).await;
    let link = format!("{}app/t/{acme}", app.state().config.http.public_url);
    let another = format!("Needs to be mended: a task failed for good {link}");
    assert_eq!(told(&app, acme).await, Some(vec![digest, another]));
    // The team's room for approvals isn't even made for it.
    let approvals = client(&app).resolve_alias(&alias(&app, "approvals", ACME)).await.unwrap();
    assert_eq!(approvals, None);
    app.leave_jobs();
}

#[tokio::test]
async fn what_was_mended_meanwhile_is_not_told_and_the_suite_is_told_of_its_own() {
    let app = TestApp::start().await;
    kill_job(&app, TenantId::SUITE, "consultations.room_event").await;
    kill_job(&app, app.tenant(GLOBEX), "conversations.label").await;
    look(&app).await;
    sqlx::query("UPDATE jobs SET state = 'done' WHERE tenant_id = $1 AND state = 'dead'")
        .bind(app.tenant(GLOBEX).0)
        .execute(app.superuser())
        .await
        .unwrap();
    pass(&app, 15 * 60);
    look(&app).await;
    assert_eq!(told(&app, app.tenant(GLOBEX)).await, None);
    app.leave_jobs();
    let of_suite = told(&app, TenantId::SUITE).await.unwrap();
    assert!(of_suite[0].starts_with("Needs to be mended: a task failed for good "), "{of_suite:?}");
}
