//! What Jitsi's server asks us.

use std::path::{Path, PathBuf};

use chancery::{
    config::{JitsiDialect, JitsiKeyConfig},
    testing::{ACME, Client, TestApp},
};
use chrono::TimeDelta;
use connector_jitsi::{PublishedKeys, key_file_name, new_private_key};
use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::harness::{items, pass, path, trail};

const ROTATED: [&str; 2] = ["2026-11", "2026-10"];

fn write_key(directory: &Path, id: &str) -> (JitsiKeyConfig, SecretString) {
    let (file, key): (PathBuf, _) = (directory.join(id), new_private_key().unwrap());
    std::fs::write(&file, key.expose_secret()).unwrap();
    (JitsiKeyConfig { id: id.to_owned(), file }, key)
}

fn part(token: &str, index: usize) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn the_newest_key_signs_and_the_key_server_has_all_of_them_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (configs, private): (Vec<_>, Vec<_>) =
        ROTATED.iter().map(|id| write_key(directory.path(), id)).unzip();
    let app = TestApp::start_with(|config| config.jitsi.keys = configs).await;
    let origin = app.state().config.http.public_url.clone();
    let get = async |path: &str| reqwest::get(origin.join(path).unwrap()).await.unwrap();

    let mut expected = PublishedKeys::default();
    for (id, key) in ROTATED.iter().zip(&private) {
        expected.publish(id, key).unwrap();
        let name = key_file_name(id);
        let answer = get(&format!("/asap/{name}")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/x-pem-file");
        assert_eq!(answer.headers()["cache-control"], "public, max-age=3600");
        assert_eq!(Some(answer.text().await.unwrap().as_str()), expected.file(&name));
    }
    for unknown in [key_file_name("2026-12"), "2026-11.pem".to_owned(), "..%2fjitsi.pem".to_owned()] {
        assert_eq!(get(&format!("/asap/{unknown}")).await.status(), 404, "{unknown}");
    }

    let ceo = app.ceo();
    let made = ceo.post("/consultations", &json!({ "tenantId": ACME, "title": "C" })).await.expect(201);
    let link = ceo.post(&format!("{}/join", path("/consultations", &made)), &json!({})).await.expect(200);
    let header = part(link["token"].as_str().unwrap(), 0);
    assert_eq!(header, json!({ "alg": "RS256", "typ": "JWT", "kid": "2026-11" }));
    // The double asks the key server, as Prosody does.
    let request =
        reqwest::Client::new().get(link["url"].as_str().unwrap()).header("accept", "application/json");
    let entered: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(entered["joined"], true, "{entered}");
}

#[tokio::test]
async fn with_jitsi_as_a_service_links_lead_there_and_no_key_is_published() {
    const APP: &str = "vpaas-magic-cookie-0a1b2c";
    let directory = tempfile::tempdir().unwrap();
    let (key, _) = write_key(directory.path(), "2026-11");
    let app = TestApp::start_with(|config| {
        config.jitsi.keys = vec![key];
        config.jitsi.dialect = JitsiDialect::Jaas;
        config.jitsi.url = "https://8x8.vc".to_owned();
        config.jitsi.app_id = APP.to_owned();
    })
    .await;
    let ceo = app.ceo();
    let made = ceo.post("/consultations", &json!({ "tenantId": ACME, "title": "C" })).await.expect(201);
    let link = ceo.post(&format!("{}/join", path("/consultations", &made)), &json!({})).await.expect(200);
    let (url, token) = (link["url"].as_str().unwrap(), link["token"].as_str().unwrap());
    let room = made["jitsiRoom"].as_str().unwrap();
    assert!(url.starts_with(&format!("https://8x8.vc/{APP}/{room}?jwt=")), "{url}");
    assert_eq!(part(token, 0)["kid"], format!("{APP}/2026-11"));
    assert_eq!(part(token, 1)["context"]["user"]["moderator"], "true");
    let keys = app.state().config.http.public_url.join(&format!("/asap/{}", key_file_name("2026-11")));
    assert_eq!(reqwest::get(keys.unwrap()).await.unwrap().status(), 404);
}

/// Asks for a room as Prosody does; the status and the JSON.
async fn ask(app: &TestApp, method: Method, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let url = app.state().config.http.public_url.join(&format!("/jitsi/reservations{path}")).unwrap();
    let secret = app.state().config.jitsi.reservation_secret.expose_secret();
    let request = reqwest::Client::new().request(method, url).bearer_auth(secret).form(form);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

async fn enter(who: &Client, consultation: &Value) -> String {
    let link =
        who.post(&format!("{}/join", path("/consultations", consultation)), &json!({})).await.expect(200);
    knock(link["url"].as_str().unwrap()).await
}

/// What Jitsi's double says to whoever opens a link.
async fn knock(link: &str) -> String {
    let request = reqwest::Client::new().get(link).header("accept", "application/json");
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    answer["error"].as_str().unwrap_or("joined").to_owned()
}

#[tokio::test]
async fn a_room_is_reserved_once_within_its_consultation_and_released() {
    let app = TestApp::start().await;
    let ceo = app.ceo();
    let made = ceo
        .post("/consultations", &json!({ "tenantId": ACME, "title": "C", "durationMinutes": 30 }))
        .await
        .expect(201);
    let room = made["jitsiRoom"].as_str().unwrap();
    let wanted =
        [("name", room), ("start_time", "2026-03-02T09:00:00.000Z"), ("mail_owner", "cara@meet.jitsi")];
    let one = format!("/conference/{room}");
    assert_eq!(ask(&app, Method::GET, &one, &[]).await.0, 404, "nothing is reserved yet");
    let begun = app.now();
    let expected = |name: &str, owner: &str, milliseconds: i64, duration: i64| {
        let opened_at = begun + TimeDelta::milliseconds(milliseconds);
        json!({
            "id": format!("{room}.{}", opened_at.timestamp_millis()), "name": name, "mail_owner": owner,
            "start_time": opened_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true), "duration": duration,
        })
    };
    let first = expected(room, "cara@meet.jitsi", 0, 9_000);
    assert_eq!(ask(&app, Method::POST, "/conference", &wanted).await, (200, first));
    let (host, id) = (app.user("acme-ceo").to_string(), format!("{one}.{}", begun.timestamp_millis()));
    for name in [&one, &id] {
        assert_eq!(ask(&app, Method::GET, name, &[]).await, (200, expected(room, &host, 0, 9_000)));
    }
    assert_eq!(ask(&app, Method::DELETE, &id, &[]).await.0, 204);
    let released = ceo.get(&path("/consultations", &made)).await.expect(200);
    pass(&app, 60);
    for name in [&one, &id] {
        assert_eq!(ask(&app, Method::DELETE, name, &[]).await.0, 204);
    }
    let again = ceo.get(&path("/consultations", &made)).await.expect(200);
    assert_eq!(again, released, "said again, it changes nothing");
    assert_eq!(ask(&app, Method::GET, &one, &[]).await.0, 404);
    assert_eq!(
        trail(&app, "consultation", &made).await,
        ["consultation.created", "consultation.room_opened", "consultation.room_closed"]
    );
}

#[tokio::test]
async fn a_room_is_reserved_anew_as_often_as_it_is_gone_and_only_its_own_end_closes_it() {
    let app = TestApp::start().await;
    let ceo = app.ceo();
    let made = ceo.post("/consultations", &json!({ "tenantId": ACME, "title": "C" })).await.expect(201);
    let room = made["jitsiRoom"].as_str().unwrap();
    // With a tenant of Jitsi's before it, it is the same room; the name is given back as it came, also where nobody said that
    // it was gone.
    let tenant = format!("[acme]{}", room.to_uppercase());
    let mut ids = Vec::new();
    for seconds in [0, 0, 60] {
        pass(&app, seconds);
        let (status, answer) = ask(&app, Method::POST, "/conference", &[("name", &tenant)]).await;
        assert_eq!((status, &answer["name"]), (200, &json!(tenant)), "{answer}");
        ids.push(format!("/conference/{}", answer["id"].as_str().unwrap()));
    }
    let is_there = async || ask(&app, Method::GET, &format!("/conference/{room}"), &[]).await.0 == 200;
    for old in &ids[..2] {
        assert_eq!(ask(&app, Method::DELETE, old, &[]).await.0, 204);
        assert!(is_there().await, "{old}");
    }
    assert_eq!(ask(&app, Method::DELETE, &ids[2], &[]).await.0, 204);
    assert!(!is_there().await);
    // Of the same moment, it is the later.
    assert_eq!(ask(&app, Method::POST, "/conference", &[("name", room)]).await.0, 200);
    assert!(is_there().await);
    app.run_jobs().await;
}

#[tokio::test]
async fn no_room_is_reserved_outside_a_consultation_and_its_time() {
    let app = TestApp::start().await;
    let ceo = app.ceo();
    let make = async |more: Value| {
        let mut body = json!({ "tenantId": ACME, "title": "C" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        app.ceo().post("/consultations", &body).await.expect(201)
    };
    let reserve = async |made: &Value| {
        let room = made["jitsiRoom"].as_str().unwrap().to_owned();
        ask(&app, Method::POST, "/conference", &[("name", &room)]).await
    };
    let refused = |status: u16, message: &str| (status, json!({ "message": message }));
    let over = refused(403, "This consultation is over");
    assert_eq!(reserve(&json!({ "jitsiRoom": "c-nobodyknowsthis" })).await.0, 404);
    assert_eq!(ask(&app, Method::POST, "/conference", &[("room", "c")]).await.0, 400);

    let tomorrow = make(json!({ "scheduledAt": app.now() + TimeDelta::hours(24) })).await;
    let early = refused(403, "The room opens half an hour before the time that is set");
    assert_eq!(reserve(&tomorrow).await, early);
    let join = format!("{}/join", path("/consultations", &tomorrow));
    assert_eq!(ceo.post(&join, &json!({})).await.problem(409), "consultations.too_early");
    let cancelled = make(json!({})).await;
    ceo.post(&format!("{}/cancel", path("/consultations", &cancelled)), &json!({})).await.expect(200);
    assert_eq!(reserve(&cancelled).await, refused(403, "This consultation was cancelled"));
    let ended = make(json!({})).await;
    for change in ["start", "end"] {
        ceo.post(&format!("{}/{change}", path("/consultations", &ended)), &json!({})).await.expect(200);
    }
    assert_eq!(reserve(&ended).await, over);
    let active = make(json!({})).await;
    ceo.post(&format!("{}/start", path("/consultations", &active)), &json!({})).await.expect(200);
    // An hour, and two more: then it is over, whatever its state says.
    pass(&app, 3 * 3_600 - 1);
    assert_eq!(reserve(&active).await.1["duration"], 1);
    assert_eq!(
        ask(&app, Method::DELETE, &format!("/conference/{}", active["jitsiRoom"].as_str().unwrap()), &[])
            .await
            .0,
        204
    );
    pass(&app, 1);
    assert_eq!(reserve(&active).await, over);
    assert_eq!(
        app.ceo().post(&format!("{}/join", path("/consultations", &active)), &json!({})).await.problem(409),
        "consultations.over"
    );
    pass(&app, 21 * 3_600 - 31 * 60);
    assert_eq!(reserve(&tomorrow).await, early);
    pass(&app, 60);
    assert_eq!(reserve(&tomorrow).await.0, 200);
    for minutes in [4, 1_441] {
        let body = json!({ "tenantId": ACME, "title": "C", "durationMinutes": minutes });
        assert_eq!(app.ceo().post("/consultations", &body).await.problem(422), "invalid", "{minutes}");
    }
    app.run_jobs().await;
}

#[tokio::test]
async fn only_who_shows_the_secret_asks_for_rooms_by_header_or_by_address() {
    let app = TestApp::start().await;
    let made = app.ceo().post("/consultations", &json!({ "tenantId": ACME, "title": "C" })).await.expect(201);
    let room = made["jitsiRoom"].as_str().unwrap();
    let config = &app.state().config;
    let secret = config.jitsi.reservation_secret.expose_secret();
    let post = async |path: &str, header: Option<&str>| {
        let url = config.http.public_url.join(&format!("/jitsi/reservations{path}/conference")).unwrap();
        let mut request = reqwest::Client::new().post(url).form(&[("name", room)]);
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        request.send().await.unwrap().status().as_u16()
    };
    let before = app.row_counts().await;
    for (path, header) in [("", None), ("", Some("Bearer wrong")), ("", Some(secret)), ("/wrong", None)] {
        assert_eq!(post(path, header).await, 401, "{path} {header:?}");
    }
    // The one in the address counts, where there is one.
    assert_eq!(post("/wrong", Some(&format!("Bearer {secret}"))).await, 401);
    assert_eq!(app.row_counts().await, before);
    assert_eq!(post(&format!("/{secret}"), None).await, 200);

    let silent = TestApp::start_with(|config| config.jitsi.reservation_secret = String::new().into()).await;
    let url = silent.state().config.http.public_url.join("/jitsi/reservations/conference").unwrap();
    let answer =
        reqwest::Client::new().post(url).bearer_auth("").form(&[("name", room)]).send().await.unwrap();
    assert_eq!(answer.status(), 404, "without a secret, nobody asks");
    app.run_jobs().await;
}

#[tokio::test]
async fn jitsi_makes_no_room_that_is_not_its_time_and_destroys_it_when_it_is_over() {
    let app = TestApp::start().await;
    let ceo = app.ceo();
    let made = ceo.post("/consultations", &json!({ "tenantId": ACME, "title": "C" })).await.expect(201);
    let one = path("/consultations", &made);
    let link = ceo.post(&format!("{one}/join"), &json!({})).await.expect(200);
    let link = link["url"].as_str().unwrap();
    assert_eq!(knock(link).await, "joined");
    assert_eq!(items(&ceo, "/audit?action=consultation.room_opened").await.len(), 1);
    ceo.post(&format!("{one}/start"), &json!({})).await.expect(200);
    ceo.post(&format!("{one}/end"), &json!({})).await.expect(200);
    // Whoever is in it stays; once they have left, the token opens nothing.
    let jitsi = app.doubles().jitsi.public_url().clone();
    let people = async || {
        let url = jitsi.join(&format!("/_double/people/{}", made["jitsiRoom"].as_str().unwrap())).unwrap();
        reqwest::get(url).await.unwrap().text().await.unwrap()
    };
    assert!(people().await.contains("Carla"));
    pass(&app, 3 * 3_600);
    assert!(!people().await.contains("Carla"), "the time is over");
    assert_eq!(items(&app.ceo(), "/audit?action=consultation.room_closed").await.len(), 1);
    app.clock().advance(TimeDelta::hours(-2));
    assert_eq!(knock(link).await, "This consultation is over");
    let other =
        app.ceo().post("/consultations", &json!({ "tenantId": ACME, "title": "D" })).await.expect(201);
    assert_eq!(enter(&app.ceo(), &other).await, "joined");
    app.run_jobs().await;
}
