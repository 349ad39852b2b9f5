use chancery::testing::{ACME, Client, TestApp};
use serde_json::{Value, json};

use crate::harness::{items, pass, path, trail};

async fn consultation(app: &TestApp, host: &Client, participants: &[&str]) -> Value {
    let participants: Vec<_> = participants.iter().map(|name| app.user(name)).collect();
    host.post("/consultations", &json!({ "tenantId": ACME, "title": "C", "participantIds": participants }))
        .await
        .expect(201)
}

#[tokio::test]
async fn a_consultation_is_started_once_and_ended_for_good_by_its_host() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    agent.get("/me").await.expect(200);
    let made = consultation(&app, &ceo, &["acme-agent"]).await;
    let path = path("/consultations", &made);
    let (start, end) = (format!("{path}/start"), format!("{path}/end"));
    assert_eq!(made["status"], "scheduled");
    assert_eq!(ceo.post(&end, &json!({})).await.problem(409), "consultations.not_started");
    assert_eq!(agent.post(&start, &json!({})).await.problem(403), "consultations.not_host");
    pass(&app, 60);
    let started = ceo.post(&start, &json!({})).await.expect(200);
    assert_eq!(
        (&started["status"], &started["startedAt"], &started["version"]),
        (&json!("active"), &json!(app.now()), &json!(2))
    );
    pass(&app, 60);
    // Starting again is the same start.
    assert_eq!(ceo.post(&start, &json!({})).await.expect(200), started);
    assert_eq!(agent.post(&end, &json!({})).await.problem(403), "consultations.not_host");
    let ended = ceo.post(&end, &json!({})).await.expect(200);
    assert_eq!((&ended["status"], &ended["endedAt"]), (&json!("ended"), &json!(app.now())));
    assert_eq!(ceo.post(&end, &json!({})).await.expect(200), ended);
    for refused in [start, format!("{path}/join")] {
        assert_eq!(ceo.post(&refused, &json!({})).await.problem(409), "consultations.over");
    }
    assert_eq!(
        trail(&app, "consultation", &made).await,
        ["consultation.created", "consultation.started", "consultation.ended"]
    );
    app.run_jobs().await;
}

#[tokio::test]
async fn whoever_takes_part_is_let_in_by_jitsi_and_nobody_else() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    agent.get("/me").await.expect(200);
    let made = consultation(&app, &ceo, &["acme-agent"]).await;
    let join = format!("{}/join", path("/consultations", &made));
    let mut tokens = Vec::new();
    for (person, moderates) in [(&ceo, true), (&agent, false)] {
        let answer = person.post(&join, &json!({})).await;
        let link = answer.expect(200);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(link["expiresAt"], json!(app.now() + chrono::TimeDelta::hours(3)));
        let url = link["url"].as_str().unwrap();
        assert!(url.contains(made["jitsiRoom"].as_str().unwrap()));
        let enter = async || {
            let answer =
                reqwest::Client::new().get(url).header("accept", "application/json").send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        };
        let (status, entered) = enter().await;
        assert_eq!((status, &entered["joined"]), (200, &json!(true)), "{entered}");
        let claims = claims(link["token"].as_str().unwrap());
        assert_eq!(
            claims["context"]["user"]["moderator"].to_string().trim_matches('"'),
            moderates.to_string()
        );
        assert_eq!(claims["room"], made["jitsiRoom"]);
        tokens.push(link["token"].clone());
        // Beyond its time the link opens nothing.
        let now = app.now();
        pass(&app, 3 * 3_600);
        assert_ne!(enter().await.1["joined"], true);
        app.clock().set(now);
    }
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(app.viewer().post(&join, &json!({})).await.problem(403), "forbidden");
    assert_eq!(app.automation().post(&join, &json!({})).await.problem(403), "forbidden");
    // That somebody was let in is in the trail; the token is nowhere.
    let granted = items(&ceo, "/audit?action=consultation.join_granted").await;
    assert_eq!(granted.len(), 2);
    let stored = app.count("SELECT count(*) FROM audit_logs WHERE new_values::text LIKE '%eyJ%'").await;
    assert_eq!(stored, 0);
    app.run_jobs().await;
}

fn claims(token: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn nobody_can_guess_a_room() {
    let app = TestApp::start().await;
    let ceo = app.ceo();
    let mut rooms = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let room = consultation(&app, &ceo, &[]).await["jitsiRoom"].as_str().unwrap().to_owned();
        // Five bits a character would need 16 of them for the 80 bits that are asked for.
        assert!(
            room.len() >= 16
                && room
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'),
            "{room}"
        );
        rooms.insert(room);
    }
    assert_eq!(rooms.len(), 20);
    app.run_jobs().await;
}

#[tokio::test]
async fn a_stale_start_is_refused() {
    let app = TestApp::start().await;
    let ceo = app.ceo();
    let path = path("/consultations", &consultation(&app, &ceo, &[]).await);
    let start = |tag: &'static str| {
        let request = ceo.request(reqwest::Method::POST, &format!("{path}/start")).header("if-match", tag);
        async { ceo.send(request).await }
    };
    assert_eq!(start("\"7\"").await.problem(412), "stale");
    start("W/\"1\"").await.expect(200);
    app.run_jobs().await;
}

#[tokio::test]
async fn what_has_not_begun_is_cancelled_once_and_then_neither_starts_nor_lets_anybody_in() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    agent.get("/me").await.expect(200);
    let made = consultation(&app, &ceo, &["acme-agent"]).await;
    let path = path("/consultations", &made);
    let cancel = format!("{path}/cancel");
    let mut heard = agent.events(ACME, None).await;
    assert_eq!(heard.next().await.unwrap().name, "hello");
    assert_eq!(agent.post(&cancel, &json!({})).await.problem(403), "consultations.may_not_cancel");
    assert_eq!(app.outsider().post(&cancel, &json!({})).await.problem(404), "not_found");
    let stale = ceo.request(reqwest::Method::POST, &cancel).header("if-match", "\"7\"");
    assert_eq!(ceo.send(stale).await.problem(412), "stale");
    pass(&app, 60);
    let answer = ceo.post(&cancel, &json!({})).await;
    let cancelled = answer.expect(200);
    assert_eq!(
        (&cancelled["status"], &cancelled["version"], &cancelled["updatedAt"], &cancelled["startedAt"]),
        (&json!("cancelled"), &json!(2), &json!(app.now()), &Value::Null)
    );
    assert_eq!(answer.header("etag"), "\"2\"");
    let told = heard.next().await.unwrap();
    assert_eq!((told.name.as_str(), &told.data["id"]), ("consultation.cancelled", &made["id"]));
    pass(&app, 60);
    // Cancelling again is the same.
    assert_eq!(ceo.post(&cancel, &json!({})).await.expect(200), cancelled);
    for refused in ["start", "end", "join"] {
        let answer = ceo.post(&format!("{path}/{refused}"), &json!({})).await;
        assert_eq!(answer.problem(409), "consultations.cancelled", "{refused}");
    }
    assert_eq!(trail(&app, "consultation", &made).await, ["consultation.created", "consultation.cancelled"]);
    let entry = &items(&ceo, "/audit?action=consultation.cancelled").await[0];
    assert_eq!(
        (&entry["oldValues"]["status"], &entry["newValues"]["status"]),
        (&json!("scheduled"), &json!("cancelled"))
    );
    app.run_jobs().await;
}

#[tokio::test]
async fn what_has_begun_is_not_cancelled() {
    let app = TestApp::start().await;
    let ceo = app.ceo();
    let path = path("/consultations", &consultation(&app, &ceo, &[]).await);
    let cancel = format!("{path}/cancel");
    ceo.post(&format!("{path}/start"), &json!({})).await.expect(200);
    assert_eq!(ceo.post(&cancel, &json!({})).await.problem(409), "consultations.started");
    ceo.post(&format!("{path}/end"), &json!({})).await.expect(200);
    assert_eq!(ceo.post(&cancel, &json!({})).await.problem(409), "consultations.over");
    // The state comes before the precondition.
    let stale = ceo.request(reqwest::Method::POST, &cancel).header("if-match", "\"1\"");
    assert_eq!(ceo.send(stale).await.problem(409), "consultations.over");
    app.run_jobs().await;
}

#[tokio::test]
async fn an_owner_cancels_for_the_host_and_not_what_came_of_the_owners_own_request() {
    let app = TestApp::start().await;
    let owner = app.add_person("acme-owner", &["/organizations/acme-corp/owners"]);
    owner.get("/me").await.expect(200);
    let (ceo, agent) = (app.ceo(), app.agent());
    let approved = async |requester: &Client| {
        let requested = requester
            .post("/approvals", &json!({ "tenantId": ACME, "title": "A", "consultationRequested": true }))
            .await
            .expect(201);
        let approval = path("/approvals", &requested);
        ceo.patch(&approval, &json!({ "status": "approved" })).await.expect(200);
        let made = items(&ceo, "/consultations").await;
        let about = made.iter().find(|made| made["approvalId"] == requested["id"]).unwrap();
        format!("{}/cancel", path("/consultations", about))
    };
    let (of_agent, of_owner) = (approved(&agent).await, approved(&owner).await);
    assert_eq!(agent.post(&of_agent, &json!({})).await.problem(403), "consultations.may_not_cancel");
    owner.post(&of_agent, &json!({})).await.expect(200);
    assert_eq!(owner.post(&of_owner, &json!({})).await.problem(403), "consultations.may_not_cancel");
    ceo.post(&of_owner, &json!({})).await.expect(200);
    app.run_jobs().await;
}
