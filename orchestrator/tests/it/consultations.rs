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
        assert_eq!(link["expiresAt"], json!(app.now() + chrono::TimeDelta::minutes(10)));
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
        pass(&app, 30 * 60);
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
}
