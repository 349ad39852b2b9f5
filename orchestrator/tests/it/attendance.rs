//! Who was in a consultation's room, and what follows from that and from time.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chancery::testing::{ACME, Client, GLOBEX, TestApp};
use chrono::TimeDelta;
use connector_jitsi::fake::Events;
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use crate::harness::{id, pass, path, trail};

async fn consultation(app: &TestApp, more: Value) -> Value {
    app.agent().get("/me").await.expect(200);
    let mut body = json!({ "tenantId": ACME, "title": "C", "participantIds": [app.user("acme-agent")] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.ceo().post("/consultations", &body).await.expect(201)
}

/// A source of a Jitsi server's events.
async fn source(client: &Client, tenant: &str, scheme: Value, secret: Option<&str>) -> Value {
    let mut body = json!({ "tenantId": tenant, "service": "jitsi", "name": "Rooms", "scheme": scheme });
    if let Some(secret) = secret {
        body["secret"] = secret.into();
    }
    client.post("/sources", &body).await.expect(201)
}

/// Where a source receives.
fn address(app: &TestApp, source: &Value) -> Url {
    let path = format!("/api/v1/webhooks/jitsi/{}", id(source));
    app.state().config.http.public_url.join(&path).unwrap()
}

/// Lets the double tell of its rooms.
async fn listen(app: &TestApp) {
    let source = source(&app.suite_admin(), "/suite", json!({ "type": "jitsi-event-sync" }), None).await;
    app.doubles().jitsi.set_events(Some(Events {
        url: address(app, &source),
        authorization: Some(format!("Bearer {}", source["secret"].as_str().unwrap()).into()),
    }));
}

async fn enter(client: &Client, consultation: &Value) {
    let link =
        client.post(&format!("{}/join", path("/consultations", consultation)), &json!({})).await.expect(200);
    let url = link["url"].as_str().unwrap();
    let answer = reqwest::Client::new().get(url).header("accept", "application/json").send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["joined"], true);
}

/// The one who has been in the room for the longest time leaves it.
async fn leave(app: &TestApp, consultation: &Value) {
    let (jitsi, room) = (app.doubles().jitsi.public_url(), consultation["jitsiRoom"].as_str().unwrap());
    let there = reqwest::get(jitsi.join(&format!("/room?room={room}")).unwrap()).await.unwrap();
    let there: Value = there.json().await.unwrap();
    let (_, nick) = there[0]["jid"].as_str().unwrap().split_once('/').unwrap();
    let url = jitsi.join(&format!("/{room}/leave")).unwrap();
    reqwest::Client::new().post(url).form(&[("nick", nick)]).send().await.unwrap();
}

async fn attendance(app: &TestApp, consultation: &Value) -> Value {
    app.ceo().get(&format!("{}/attendance", path("/consultations", consultation))).await.expect(200)["items"]
        .clone()
}

async fn shown(app: &TestApp, consultation: &Value) -> Value {
    app.ceo().get(&path("/consultations", consultation)).await.expect(200)
}

#[tokio::test]
async fn who_comes_and_goes_is_known_the_first_starts_it_and_an_empty_room_ends_it() {
    let app = TestApp::start().await;
    listen(&app).await;
    let made = consultation(&app, json!({})).await;
    let begun = app.now();
    enter(&app.agent(), &made).await;
    pass(&app, 5 * 60);
    enter(&app.ceo(), &made).await;
    app.run_jobs().await;
    let active = shown(&app, &made).await;
    assert_eq!(
        (&active["status"], &active["startedAt"], &active["roomOpenedAt"]),
        (&json!("active"), &json!(begun), &json!(begun))
    );
    pass(&app, 10 * 60);
    leave(&app, &made).await;
    app.run_jobs().await;
    let person = |username: &str, name: &str, joined: i64, left: Option<i64>| {
        let at = |minutes| begun + TimeDelta::minutes(minutes);
        json!({ "userId": app.user(username), "name": name, "joinedAt": at(joined), "leftAt": left.map(at) })
    };
    assert_eq!(
        attendance(&app, &made).await,
        json!([person("acme-agent", "Ada Agent", 0, Some(15)), person("acme-ceo", "Carla Chief", 5, None)])
    );
    pass(&app, 60);
    leave(&app, &made).await;
    app.run_jobs().await;
    assert_eq!(attendance(&app, &made).await[1], person("acme-ceo", "Carla Chief", 5, Some(16)));
    let left = shown(&app, &made).await;
    assert_eq!((&left["status"], &left["roomClosedAt"]), (&json!("active"), &json!(app.now())));
    // A break: somebody comes back within ten minutes.
    pass(&app, 9 * 60);
    enter(&app.ceo(), &made).await;
    pass(&app, 2 * 60);
    app.run_jobs().await;
    assert_eq!(shown(&app, &made).await["status"], "active");
    leave(&app, &made).await;
    let ended = app.now();
    app.run_jobs().await;
    pass(&app, 10 * 60 - 1);
    app.run_jobs().await;
    assert_eq!(shown(&app, &made).await["status"], "active");
    pass(&app, 1);
    app.run_jobs().await;
    let over = shown(&app, &made).await;
    assert_eq!((&over["status"], &over["endedAt"]), (&json!("ended"), &json!(ended)));
    assert_eq!(attendance(&app, &made).await.as_array().unwrap().len(), 3, "she came twice");
    let actions = trail(&app, "consultation", &made).await;
    let count = |action: &str| actions.iter().filter(|one| *one == action).count();
    assert_eq!(
        (
            count("consultation.joined"),
            count("consultation.left"),
            count("consultation.started"),
            count("consultation.ended")
        ),
        (3, 3, 1, 1),
        "{actions:?}"
    );
    // Who may not see the consultation doesn't see who was there.
    let stranger = app.outsider().get(&format!("{}/attendance", path("/consultations", &made))).await;
    assert_eq!(stranger.problem(404), "not_found");
}

#[tokio::test]
async fn what_is_told_twice_and_in_any_order_comes_to_the_same() {
    let app = TestApp::start().await;
    let source = source(&app.suite_admin(), "/suite", json!({ "type": "jitsi-event-sync" }), None).await;
    let (url, secret) = (address(&app, &source), source["secret"].as_str().unwrap());
    let begun = app.now();
    let (start, left, end) = (begun.timestamp(), begun.timestamp() + 60, begun.timestamp() + 61);
    pass(&app, 120);
    let http = reqwest::Client::new();
    let mut made = Vec::new();
    for order in 0..24_usize {
        // The digits of the number, in mixed radix, say which comes next.
        let mut rest = vec![0, 1, 2, 3];
        let order =
            [rest.remove(order / 6), rest.remove(order / 2 % 3), rest.remove(order % 2), rest.remove(0)];
        let consultation = consultation(&app, json!({})).await;
        let room = consultation["jitsiRoom"].as_str().unwrap();
        let event = |name: &str, more: Value| {
            let mut body = json!({ "event_name": name, "room_jid": format!("{room}@muc.meet.jitsi"), "is_breakout": false });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let there = json!({ "occupant_jid": format!("{room}@muc.meet.jitsi/1"), "name": "Guest", "joined_at": start });
        let mut gone = there.clone();
        gone["left_at"] = left.into();
        let events = [
            ("room/created", event("muc-room-created", json!({ "created_at": start }))),
            ("occupant/joined", event("muc-occupant-joined", json!({ "occupant": there }))),
            ("occupant/left", event("muc-occupant-left", json!({ "occupant": gone }))),
            (
                "room/destroyed",
                event("muc-room-destroyed", json!({ "destroyed_at": end, "all_occupants": [gone] })),
            ),
        ];
        for (index, told) in order.into_iter().zip(1..) {
            let (path, body) = &events[index];
            for repeated in [false, true] {
                let post = http.post(format!("{url}/events/{path}")).bearer_auth(secret).json(body);
                let answer: Value = post.send().await.unwrap().json().await.unwrap();
                assert_eq!(answer["duplicate"], repeated, "{told}");
            }
            app.run_jobs().await;
        }
        made.push((order, consultation));
    }
    pass(&app, 10 * 60);
    app.run_jobs().await;
    let at = |seconds: i64| chrono::DateTime::from_timestamp(seconds, 0);
    for (order, made) in made {
        let shown = shown(&app, &made).await;
        let times = ["startedAt", "roomOpenedAt", "roomClosedAt", "endedAt"].map(|name| shown[name].clone());
        let expected = [at(start), at(start), at(end), at(end)].map(|at| json!(at));
        assert_eq!((&shown["status"], times), (&json!("ended"), expected), "{order:?}");
        let was_there =
            json!([{ "userId": null, "name": "Guest", "joinedAt": at(start), "leftAt": at(left) }]);
        assert_eq!(attendance(&app, &made).await, was_there, "{order:?}");
    }
}

/// A source of the suite's that is told of rooms by hand.
struct Teller {
    url: Url,
    secret: String,
}

impl Teller {
    async fn of(app: &TestApp) -> Self {
        let source = source(&app.suite_admin(), "/suite", json!({ "type": "jitsi-event-sync" }), None).await;
        Self { url: address(app, &source), secret: source["secret"].as_str().unwrap().to_owned() }
    }

    /// Tells of a consultation's room.
    async fn tell(&self, made: &Value, (path, name): (&str, &str), more: Value) {
        let room = made["jitsiRoom"].as_str().unwrap();
        let mut body =
            json!({ "event_name": name, "room_jid": format!("{room}@muc.meet.jitsi"), "is_breakout": false });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let post = reqwest::Client::new().post(format!("{}/events/{path}", self.url));
        assert_eq!(post.bearer_auth(&self.secret).json(&body).send().await.unwrap().status(), 200);
    }

    async fn opened(&self, made: &Value, at: i64) {
        self.tell(made, ("room/created", "muc-room-created"), json!({ "created_at": at })).await;
    }

    async fn closed(&self, made: &Value, at: i64) {
        let more = json!({ "destroyed_at": at, "all_occupants": [] });
        self.tell(made, ("room/destroyed", "muc-room-destroyed"), more).await;
    }

    async fn joined(&self, made: &Value, at: i64) {
        let occupant =
            json!({ "occupant_jid": format!("r@muc.meet.jitsi/{at}"), "name": "Guest", "joined_at": at });
        self.tell(made, ("occupant/joined", "muc-occupant-joined"), json!({ "occupant": occupant })).await;
    }
}

#[tokio::test]
async fn who_tries_the_room_early_takes_nothing_off_its_time() {
    let app = TestApp::start().await;
    listen(&app).await;
    let set = app.now() + TimeDelta::hours(1);
    let used = consultation(&app, json!({ "scheduledAt": set })).await;
    let left_alone = consultation(&app, json!({ "scheduledAt": set })).await;
    pass(&app, 31 * 60);
    let tried = app.now();
    for one in [&used, &left_alone] {
        enter(&app.agent(), one).await;
    }
    pass(&app, 4 * 60);
    for one in [&used, &left_alone] {
        leave(&app, one).await;
    }
    app.run_jobs().await;
    let states = async || {
        app.run_jobs().await;
        [shown(&app, &used).await["status"].clone(), shown(&app, &left_alone).await["status"].clone()]
    };
    assert_eq!(shown(&app, &used).await["startedAt"], json!(tried));
    pass(&app, 35 * 60 - 1);
    assert_eq!(states().await, ["active", "active"], "ten minutes after the time that is set, less a second");
    enter(&app.agent(), &used).await;
    pass(&app, 1);
    assert_eq!(states().await, ["active", "ended"]);
    // An hour is an hour, though it was begun before.
    pass(&app, 45 * 60);
    leave(&app, &used).await;
    pass(&app, 10 * 60 - 1);
    assert_eq!(states().await, ["active", "ended"]);
    pass(&app, 1);
    assert_eq!(states().await, ["ended", "ended"]);
}

#[tokio::test]
async fn a_room_starts_nothing_until_somebody_is_in_it() {
    let app = TestApp::start().await;
    let teller = Teller::of(&app).await;
    let made = consultation(&app, json!({})).await;
    let now = app.now().timestamp();
    pass(&app, 60);
    teller.opened(&made, now).await;
    app.run_jobs().await;
    let opened = shown(&app, &made).await;
    assert_eq!((&opened["status"], opened["roomOpenedAt"].is_null()), (&json!("scheduled"), false));
    teller.joined(&made, now + 30).await;
    app.run_jobs().await;
    let active = shown(&app, &made).await;
    let at = json!(chrono::DateTime::from_timestamp(now + 30, 0));
    assert_eq!((&active["status"], &active["startedAt"]), (&json!("active"), &at));
}

#[tokio::test]
async fn a_room_that_was_opened_again_is_open_whichever_is_told_first() {
    let app = TestApp::start().await;
    let teller = Teller::of(&app).await;
    let begun = app.now().timestamp();
    pass(&app, 300);
    let mut made = Vec::new();
    for (closed, is_late) in [(200, false), (200, true), (202, false), (202, true)] {
        let one = consultation(&app, json!({})).await;
        teller.opened(&one, begun).await;
        teller.joined(&one, begun + 1).await;
        app.run_jobs().await;
        if !is_late {
            teller.closed(&one, begun + closed).await;
            app.run_jobs().await;
        }
        teller.opened(&one, begun + 202).await;
        app.run_jobs().await;
        if is_late {
            teller.closed(&one, begun + closed).await;
            app.run_jobs().await;
        }
        made.push((one, closed, is_late));
    }
    // Nobody has come in yet, as far as told: it is the room alone that holds it.
    pass(&app, 11 * 60);
    app.run_jobs().await;
    for (one, closed, is_late) in &made {
        let still = shown(&app, one).await;
        let at = json!(chrono::DateTime::from_timestamp(begun + 202, 0));
        assert_eq!((&still["status"], &still["roomOpenedAt"]), (&json!("active"), &at), "{closed} {is_late}");
        // What closes it then, closes it.
        teller.closed(one, begun + 900).await;
    }
    app.run_jobs().await;
    pass(&app, 10 * 60);
    app.run_jobs().await;
    for (one, closed, is_late) in &made {
        assert_eq!(shown(&app, one).await["status"], "ended", "{closed} {is_late}");
    }
}

#[tokio::test]
async fn nothing_ends_while_somebody_is_in_it_though_its_opening_was_not_told() {
    let app = TestApp::start().await;
    let teller = Teller::of(&app).await;
    let begun = app.now().timestamp();
    pass(&app, 300);
    let (there, empty) = (consultation(&app, json!({})).await, consultation(&app, json!({})).await);
    for one in [&there, &empty] {
        teller.opened(one, begun).await;
        teller.joined(one, begun + 1).await;
        app.run_jobs().await;
        teller.closed(one, begun + 200).await;
    }
    teller.joined(&there, begun + 203).await;
    app.run_jobs().await;
    pass(&app, 11 * 60);
    app.run_jobs().await;
    assert_eq!(shown(&app, &there).await["status"], "active");
    assert_eq!(shown(&app, &empty).await["status"], "ended");
}

#[tokio::test]
async fn what_was_used_is_ended_by_time_though_nobody_tells_who_was_there() {
    let app = TestApp::start().await;
    let set = app.now() + TimeDelta::minutes(10);
    let made = consultation(&app, json!({ "scheduledAt": set, "durationMinutes": 30 })).await;
    pass(&app, 10 * 60);
    enter(&app.agent(), &made).await;
    pass(&app, 20 * 60);
    leave(&app, &made).await;
    let left = app.now();
    pass(&app, 130 * 60);
    app.run_jobs().await;
    let over = shown(&app, &made).await;
    assert_eq!(
        (&over["status"], &over["startedAt"], &over["endedAt"]),
        (&json!("ended"), &json!(set), &json!(left))
    );
}

#[tokio::test]
async fn a_tenant_s_own_source_tells_of_its_rooms_alone_and_jaas_as_well() {
    let app = TestApp::start().await;
    let owner = |name: &str, tenant: &str| app.add_person(name, &[&format!("{tenant}/owners")]);
    let (acme, globex) = (owner("acme-owner", ACME), owner("globex-owner", GLOBEX));
    let made = consultation(&app, json!({})).await;
    let body = json!({
        "idempotencyKey": "k", "eventType": "PARTICIPANT_JOINED", "timestamp": app.now().timestamp_millis(),
        "fqn": format!("vpaas-magic-cookie-1/{}", made["jitsiRoom"].as_str().unwrap()),
        "data": { "participantId": "p-1", "id": app.user("acme-ceo"), "name": "Carla" },
    })
    .to_string();
    let told = async |source: &Value| {
        let time = app.now().timestamp();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"a-secret-of-jaas");
        let tag = STANDARD.encode(hmac::sign(&key, format!("{time}.{body}").as_bytes()));
        let post = reqwest::Client::new().request(Method::POST, address(&app, source));
        let post = post.header("x-jaas-signature", format!("t={time},v1={tag}")).body(body.clone());
        assert_eq!(post.header("content-type", "application/json").send().await.unwrap().status(), 200);
        app.run_jobs().await;
        attendance(&app, &made).await
    };
    let jaas = json!({ "type": "preset", "name": "jaas" });
    let of_globex = source(&globex, GLOBEX, jaas.clone(), Some("a-secret-of-jaas")).await;
    assert_eq!(told(&of_globex).await, json!([]));
    assert_eq!(shown(&app, &made).await["status"], "scheduled");
    let of_acme = source(&acme, ACME, jaas, Some("a-secret-of-jaas")).await;
    let expected =
        json!([{ "userId": app.user("acme-ceo"), "name": "Carla", "joinedAt": app.now(), "leftAt": null }]);
    assert_eq!(told(&of_acme).await, expected);
    assert_eq!(shown(&app, &made).await["status"], "active");
}

#[tokio::test]
async fn what_nobody_ends_ends_by_time_and_what_never_begins_is_cancelled() {
    let app = TestApp::start().await;
    let started = consultation(&app, json!({ "durationMinutes": 30 })).await;
    app.ceo().post(&format!("{}/start", path("/consultations", &started)), &json!({})).await.expect(200);
    let at = app.now() + TimeDelta::hours(1);
    let set = consultation(&app, json!({ "scheduledAt": at, "durationMinutes": 30 })).await;
    let some_day = consultation(&app, json!({})).await;
    let states = async || {
        app.run_jobs().await;
        let mut states = Vec::new();
        for one in [&started, &set, &some_day] {
            states.push(shown(&app, one).await["status"].as_str().unwrap().to_owned());
        }
        states
    };
    pass(&app, 9_000 - 1);
    assert_eq!(states().await, ["active", "scheduled", "scheduled"]);
    pass(&app, 1);
    assert_eq!(states().await, ["ended", "scheduled", "scheduled"]);
    assert_eq!(shown(&app, &started).await["endedAt"], json!(app.now()));
    pass(&app, 3_600);
    assert_eq!(states().await, ["ended", "cancelled", "scheduled"]);
    assert_eq!(trail(&app, "consultation", &set).await, ["consultation.created", "consultation.cancelled"]);
}
