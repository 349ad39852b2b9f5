//! The client against the double over HTTP, and the double's pushes against what the connector reads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod rooms;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{post, put},
};
use chrono::{DateTime, TimeDelta};
use connector_core::{Connector as _, ErrorKind, MockClock, RandomIds};
use connector_matrix::{
    MatrixClient, MatrixSettings, Membership, RoomAlias, RoomId, RoomPreset, RoomSpec, UserId,
    appservice::{self, Transaction},
    fake::{Failure, FakeMatrix, Options},
};
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

const AS_TOKEN: &str = "as-token-of-the-tests";
const HS_TOKEN: &str = "hs-token-of-the-tests";

/// A running double and a client for it.
struct Server {
    double: Arc<FakeMatrix>,
    client: MatrixClient,
    base: Url,
    clock: Arc<MockClock>,
    state: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        Self::open(tempfile::tempdir().unwrap(), None).await
    }

    async fn open(state: tempfile::TempDir, appservice_url: Option<Url>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let clock = Arc::new(MockClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        let double = FakeMatrix::open(Options {
            public_url: base.clone(),
            server_name: "example.org".to_owned(),
            state_path: state.path().join("matrix.json"),
            clock: Arc::clone(&clock) as _,
            ids: Arc::new(RandomIds),
            appservice_id: "chancery".to_owned(),
            as_token: AS_TOKEN.into(),
            hs_token: HS_TOKEN.into(),
            sender_localpart: "_chancery".to_owned(),
            appservice_url,
            users: vec![
                ("acme-agent".to_owned(), "Ada Agent".to_owned()),
                ("acme-ceo".to_owned(), "Cara <b>CEO</b>".to_owned()),
            ],
            retry_unit: Duration::from_millis(5),
            frame_ancestors: vec!["https://suite.example.org".to_owned()],
        })
        .unwrap();
        tokio::spawn(connector_core::fake::serve(double.router(), listener, std::future::pending()));
        let client = MatrixClient::with_clock(&settings(&base, AS_TOKEN), Arc::clone(&clock) as _).unwrap();
        Self { double, client, base, clock, state }
    }

    /// Pushes while the guard lives.
    fn pushing(&self) -> tokio::task::JoinHandle<()> {
        tokio::spawn(Arc::clone(&self.double).run(std::future::pending()))
    }

    async fn page(&self, path: &str) -> String {
        reqwest::get(self.base.join(path).unwrap()).await.unwrap().text().await.unwrap()
    }

    /// Writes as somebody, by the page's form, and answers the status.
    async fn write(&self, room: &RoomId, user: &UserId, body: &str) -> StatusCode {
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let form = [("room", room.as_str()), ("as", user.as_str()), ("body", body)];
        http.post(self.base.join("write").unwrap()).form(&form).send().await.unwrap().status()
    }

    /// A call of the client-server API that the client doesn't make.
    async fn raw(
        &self,
        method: reqwest::Method,
        path: &str,
        body: &'static str,
        token: &str,
    ) -> (u16, Value) {
        let request = reqwest::Client::new().request(method, self.base.join(path).unwrap());
        let answer = request.bearer_auth(token).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

fn settings(base: &Url, as_token: &str) -> MatrixSettings {
    MatrixSettings {
        url: base.clone(),
        server_name: "example.org".to_owned(),
        as_token: as_token.to_owned().into(),
        hs_token: HS_TOKEN.into(),
        sender_localpart: "_chancery".to_owned(),
    }
}

fn agent() -> UserId {
    "@acme-agent:example.org".parse().unwrap()
}

fn ceo() -> UserId {
    "@acme-ceo:example.org".parse().unwrap()
}

fn acme() -> RoomSpec {
    RoomSpec {
        alias_localpart: "_chancery_acme-corp".to_owned(),
        name: "Acme Corp approvals".to_owned(),
        topic: Some("What waits and what was decided".to_owned()),
        preset: RoomPreset::PrivateChat,
        invite: vec![ceo()],
        ..RoomSpec::default()
    }
}

#[tokio::test]
async fn the_homeserver_says_what_it_supports_and_who_the_bot_is() {
    let server = Server::start().await;
    assert!(server.client.versions().await.unwrap().versions.contains(&"v1.11".to_owned()));
    assert_eq!(&server.client.whoami().await.unwrap().user_id, server.client.sender());
}

#[tokio::test]
async fn a_room_ensured_twice_is_one_room_also_after_a_restart() {
    let server = Server::start().await;
    let room = server.client.ensure_room(&acme()).await.unwrap();
    assert_eq!(server.client.ensure_room(&acme()).await.unwrap(), room);
    assert_eq!(server.client.membership(&room, &ceo()).await.unwrap(), Membership::Invite);

    let restarted = Server::open(server.state, None).await;
    let with_agent = RoomSpec { invite: vec![ceo(), agent()], ..acme() };
    assert_eq!(restarted.client.ensure_room(&with_agent).await.unwrap(), room);
    assert_eq!(restarted.client.membership(&room, &agent()).await.unwrap(), Membership::Invite);
    let alias = RoomAlias::new(&acme().alias_localpart, "example.org").unwrap();
    assert_eq!(restarted.client.resolve_alias(&alias).await.unwrap(), Some(room.clone()));
    let name = restarted.client.state(&room, "m.room.name", "").await.unwrap();
    assert_eq!(name, Some(json!({"name": "Acme Corp approvals"})));
    let create = restarted.client.state(&room, "m.room.create", "").await.unwrap().unwrap();
    assert_eq!(create["m.federate"], false);
}

#[tokio::test]
async fn two_who_ensure_a_room_at_once_get_the_same_room() {
    let server = Server::start().await;
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let client = server.client.clone();
        tasks.push(tokio::spawn(async move { client.ensure_room(&acme()).await.unwrap() }));
    }
    let mut rooms = Vec::new();
    for task in tasks {
        rooms.push(task.await.unwrap());
    }
    rooms.dedup();
    assert_eq!(rooms.len(), 1, "{rooms:?}");
    let (_, joined) = server.raw(reqwest::Method::GET, "_matrix/client/v3/joined_rooms", "", AS_TOKEN).await;
    assert_eq!(joined["joined_rooms"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_taken_alias_is_m_room_in_use_and_a_foreign_one_m_exclusive() {
    let server = Server::start().await;
    server.client.ensure_room(&acme()).await.unwrap();
    let body = r#"{"room_alias_name": "_chancery_acme-corp"}"#;
    let (status, answer) =
        server.raw(reqwest::Method::POST, "_matrix/client/v3/createRoom", body, AS_TOKEN).await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_ROOM_IN_USE")));

    let foreign = RoomSpec { alias_localpart: "acme".to_owned(), ..acme() };
    let error = server.client.ensure_room(&foreign).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::Permanent, Some("M_EXCLUSIVE")));
    let none = RoomSpec { alias_localpart: "a:b".to_owned(), ..acme() };
    assert_eq!(server.client.ensure_room(&none).await.unwrap_err().kind, ErrorKind::Permanent);
}

#[tokio::test]
async fn a_space_is_made_as_a_space() {
    let server = Server::start().await;
    let spec = RoomSpec { is_space: true, ..acme() };
    let space = server.client.ensure_room(&spec).await.unwrap();
    let create = server.client.state(&space, "m.room.create", "").await.unwrap().unwrap();
    assert_eq!(create["type"], "m.space");
}

#[tokio::test]
async fn an_older_room_has_a_server_in_its_id_and_its_creator_among_the_powerful() {
    let server = Server::start().await;
    let body = r#"{"room_version": "11"}"#;
    let (_, answer) = server.raw(reqwest::Method::POST, "_matrix/client/v3/createRoom", body, AS_TOKEN).await;
    let room: RoomId = answer["room_id"].as_str().unwrap().parse().unwrap();
    assert!(room.as_str().ends_with(":example.org"));
    let levels = server.client.state(&room, "m.room.power_levels", "").await.unwrap().unwrap();
    assert_eq!(levels["users"], json!({"@_chancery:example.org": 100}));
    server.client.set_state(&room, "m.room.name", "", &json!({"name": "Renamed"})).await.unwrap();
    server.client.send_notice(&room, "job-1", "hello", None).await.unwrap();
}

#[tokio::test]
async fn a_new_room_has_an_id_without_a_server_and_its_creator_all_power() {
    let server = Server::start().await;
    let body = r#"{"name": "New"}"#;
    let (status, answer) =
        server.raw(reqwest::Method::POST, "_matrix/client/v3/createRoom", body, AS_TOKEN).await;
    assert_eq!(status, 200, "{answer}");
    let room: RoomId = answer["room_id"].as_str().unwrap().parse().unwrap();
    assert!(!room.as_str().contains(':'));
    server.client.set_state(&room, "m.room.name", "", &json!({"name": "Renamed"})).await.unwrap();
    server.client.send_notice(&room, "job-1", "hello", None).await.unwrap();
    let levels = server.client.state(&room, "m.room.power_levels", "").await.unwrap().unwrap();
    assert_eq!(levels["users"], json!({}));
}

#[tokio::test]
async fn a_notice_sent_again_with_its_transaction_id_is_the_same_event() {
    let server = Server::start().await;
    let room = server.client.ensure_room(&acme()).await.unwrap();
    let first = server.client.send_notice(&room, "job-7", "Approved", Some("<b>Approved</b>")).await.unwrap();
    let again = server.client.send_notice(&room, "job-7", "Approved", Some("<b>Approved</b>")).await.unwrap();
    let other = server.client.send_notice(&room, "job-8", "Rejected", None).await.unwrap();
    assert_eq!(first, again);
    assert_ne!(first, other);
    let messages = server.client.messages(&room, 2).await.unwrap();
    assert_eq!(messages[0].event_id, other, "the newest first");
    assert_eq!(messages[1].event_id, first);
    assert_eq!(
        messages[1].content,
        json!({"msgtype": "m.notice", "body": "Approved", "format": "org.matrix.custom.html",
               "formatted_body": "<b>Approved</b>"})
    );
    assert_eq!(messages[1].unsigned["transaction_id"], "job-7");
    for empty in ["", ".", ".."] {
        assert_eq!(
            server.client.send_notice(&room, empty, "x", None).await.unwrap_err().kind,
            ErrorKind::Permanent
        );
    }
}

#[tokio::test]
async fn a_notice_whose_answer_was_lost_is_there_once_after_the_repeat() {
    let server = Server::start().await;
    let room = server.client.ensure_room(&acme()).await.unwrap();
    server.double.fail_next(Failure::AnswerLost);
    let error = server.client.send_notice(&room, "job-9", "Approved", None).await.unwrap_err();
    assert!(error.is_retryable());
    server.client.send_notice(&room, "job-9", "Approved", None).await.unwrap();
    let messages = server.client.messages(&room, 100).await.unwrap();
    assert_eq!(messages.iter().filter(|event| event.body() == Some("Approved")).count(), 1);
}

#[tokio::test]
async fn an_edited_notice_shows_its_new_text_in_its_old_place() {
    let server = Server::start().await;
    let room = server.client.ensure_room(&acme()).await.unwrap();
    let notice = server.client.send_notice(&room, "job-1", "Waiting for a decision", None).await.unwrap();
    let edit = server
        .client
        .edit_notice(&room, "job-2", &notice, "Approved by Cara", Some("<i>x</i>"))
        .await
        .unwrap();
    let newest = server.client.messages(&room, 1).await.unwrap().remove(0);
    assert_eq!(newest.event_id, edit);
    assert_eq!(newest.body(), Some("* Approved by Cara"));
    assert_eq!(newest.content["formatted_body"], "* <i>x</i>");
    assert_eq!(newest.content["m.new_content"]["body"], "Approved by Cara");
    assert_eq!(newest.content["m.relates_to"], json!({"rel_type": "m.replace", "event_id": notice}));
    let page = server.page("/").await;
    assert!(page.contains("Approved by Cara") && page.contains("(edited)"), "{page}");
    assert!(!page.contains("* Approved") && !page.contains(">Waiting for a decision<"), "{page}");
}

#[tokio::test]
async fn inviting_and_removing_twice_is_no_error_and_having_no_power_is_one() {
    let server = Server::start().await;
    let room = server.client.ensure_room(&acme()).await.unwrap();
    server.client.invite(&room, &agent(), Some("of the team")).await.unwrap();
    server.client.invite(&room, &agent(), None).await.unwrap();
    assert_eq!(server.write(&room, &agent(), "here I am").await, StatusCode::SEE_OTHER);
    server.client.invite(&room, &agent(), None).await.unwrap();
    let members = server.client.joined_members(&room).await.unwrap();
    assert_eq!(members.len(), 2);
    assert_eq!(members[&agent()].display_name.as_deref(), Some("Ada Agent"));

    server.client.kick(&room, &agent(), Some("left the team")).await.unwrap();
    server.client.kick(&room, &agent(), None).await.unwrap();
    assert_eq!(server.client.membership(&room, &agent()).await.unwrap(), Membership::Leave);
    assert_eq!(server.write(&room, &agent(), "and again").await, StatusCode::FORBIDDEN);
    assert_eq!(server.client.ensure_room(&RoomSpec { invite: vec![agent()], ..acme() }).await.unwrap(), room);
    assert_eq!(
        server.client.membership(&room, &agent()).await.unwrap(),
        Membership::Leave,
        "who was removed is not asked again"
    );

    let error = server.client.kick(&room, server.client.sender(), None).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Permanent, None), "the bot doesn't remove itself");
    server.client.send_notice(&room, "job-1", "still here", None).await.unwrap();
    let nowhere: RoomId = "!nowhere:example.org".parse().unwrap();
    assert_eq!(server.client.send_notice(&nowhere, "job", "x", None).await.unwrap_err().status, Some(403));
    assert_eq!(server.client.join(&nowhere).await.unwrap_err().status, Some(404));
}

#[tokio::test]
async fn state_is_read_written_and_absent() {
    let server = Server::start().await;
    let room = server.client.ensure_room(&acme()).await.unwrap();
    assert_eq!(server.client.state(&room, "m.space.child", "!x:example.org").await.unwrap(), None);
    let content = json!({"via": ["example.org"], "order": "aa"});
    let first = server.client.set_state(&room, "m.space.child", "!x:example.org", &content).await.unwrap();
    let same = server.client.set_state(&room, "m.space.child", "!x:example.org", &content).await.unwrap();
    assert_eq!(first, same, "the same content is the same event");
    assert_eq!(server.client.state(&room, "m.space.child", "!x:example.org").await.unwrap(), Some(content));
}

#[tokio::test]
async fn a_rate_limit_says_how_long_to_wait() {
    let server = Server::start().await;
    let room = server.client.ensure_room(&acme()).await.unwrap();
    server.double.fail_next(Failure::RateLimited { retry_after_ms: 1_500 });
    let error = server.client.send_notice(&room, "job-1", "x", None).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Transient, Some(429)));
    assert_eq!(error.code.as_deref(), Some("M_LIMIT_EXCEEDED"));
    assert_eq!(error.retry_after, Some(Duration::from_secs(2)), "the longer of header and body");
    let error = server.client.whoami().await.unwrap_err();
    assert_eq!((error.status, error.retry_after), (None, Some(Duration::from_secs(2))), "it wasn't called");
    server.clock.advance(chrono::TimeDelta::seconds(2));
    server.client.send_notice(&room, "job-1", "x", None).await.unwrap();
    server.double.fail_next(Failure::BadGateway);
    let error = server.client.whoami().await.unwrap_err();
    assert_eq!((error.kind, error.retry_after), (ErrorKind::Transient, None));
}

#[tokio::test]
async fn a_wrong_token_is_unauthorised_and_stays_out_of_the_error() {
    let server = Server::start().await;
    let client = MatrixClient::new(&settings(&server.base, "another-token")).unwrap();
    let error = client.whoami().await.unwrap_err();
    assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::Unauthorised, Some("M_UNKNOWN_TOKEN")));
    assert!(!format!("{error:?} {client:?}").contains("another-token"));
    let bad = MatrixSettings { sender_localpart: "a b".to_owned(), ..settings(&server.base, AS_TOKEN) };
    assert_eq!(MatrixClient::new(&bad).unwrap_err().kind, ErrorKind::Misconfigured);
    let bad = MatrixSettings { server_name: "https://x".to_owned(), ..settings(&server.base, AS_TOKEN) };
    assert_eq!(MatrixClient::new(&bad).unwrap_err().kind, ErrorKind::Misconfigured);
    let bad = settings(&server.base, "");
    assert_eq!(MatrixClient::new(&bad).unwrap_err().kind, ErrorKind::Misconfigured);
}

#[tokio::test]
async fn bad_requests_get_the_specification_s_errors() {
    use reqwest::Method;

    let server = Server::start().await;
    for (method, path, body, status, code) in [
        (Method::POST, "_matrix/client/v3/createRoom", "{", 400, "M_NOT_JSON"),
        (Method::POST, "_matrix/client/v3/createRoom", r#"{"invite": 7}"#, 400, "M_BAD_JSON"),
        (Method::POST, "_matrix/client/v3/createRoom", r#"{"invite": ["nobody"]}"#, 400, "M_INVALID_PARAM"),
        (
            Method::POST,
            "_matrix/client/v3/createRoom",
            r#"{"room_version": "999"}"#,
            400,
            "M_UNSUPPORTED_ROOM_VERSION",
        ),
        (Method::GET, "_matrix/client/v3/nothing", "", 404, "M_UNRECOGNIZED"),
        (Method::DELETE, "_matrix/client/v3/createRoom", "", 405, "M_UNRECOGNIZED"),
        (Method::GET, "_matrix/client/v3/directory/room/%23nothing:example.org", "", 404, "M_NOT_FOUND"),
        (
            Method::GET,
            "_matrix/client/v3/account/whoami?user_id=@acme-ceo:example.org",
            "",
            403,
            "M_FORBIDDEN",
        ),
    ] {
        let (got, answer) = server.raw(method, path, body, AS_TOKEN).await;
        assert_eq!((got, &answer["errcode"]), (status, &json!(code)), "{path} {body}");
    }
    let unsigned = reqwest::get(server.base.join("_matrix/client/v3/joined_rooms").unwrap()).await.unwrap();
    assert_eq!(unsigned.status(), 401);
    assert_eq!(unsigned.json::<Value>().await.unwrap()["errcode"], "M_MISSING_TOKEN");
}

#[tokio::test]
async fn the_page_shows_who_says_what_escaped_and_nothing_inline() {
    let server = Server::start().await;
    assert!(server.page("/").await.contains("No rooms yet"));
    server.client.set_display_name("Chancery").await.unwrap();
    let room = server.client.ensure_room(&acme()).await.unwrap();
    server.clock.advance(TimeDelta::minutes(5));
    let text = "Approved: https://chancery.example/x?a=1&b=2 <script>alert(1)</script>";
    server.client.send_notice(&room, "job-1", text, Some("<img src=x>")).await.unwrap();
    assert_eq!(server.write(&room, &ceo(), "thanks & bye").await, StatusCode::SEE_OTHER);
    let page = server.page("/").await;
    assert!(page.contains("Matrix double — demo"));
    assert!(page.contains(r#"<a href="https://chancery.example/x?a=1&#38;b=2" rel="noreferrer">"#), "{page}");
    assert!(page.contains("&#60;script&#62;alert(1)") && !page.contains("<script>"), "{page}");
    assert!(
        page.contains("Cara &#60;b&#62;CEO") && !page.contains("<b>CEO") && !page.contains("<img"),
        "{page}"
    );
    assert!(page.contains("thanks &#38; bye") && page.contains("joined"));
    assert!(page.contains(r#"datetime="2027-01-15T08:05:00Z""#), "{page}");

    let answer = reqwest::get(server.base.clone()).await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    // Who may frame it is told, and nobody else may.
    assert!(policy.ends_with("; frame-ancestors https://suite.example.org"), "{policy}");
    let bot = server.client.sender().clone();
    assert_eq!(server.write(&room, &bot, "not me").await, StatusCode::FORBIDDEN);
    let foreign = reqwest::Client::new()
        .post(server.base.join("write").unwrap())
        .header("sec-fetch-site", "cross-site");
    let form = [("room", room.as_str()), ("as", "@acme-ceo:example.org"), ("body", "x")];
    assert_eq!(foreign.form(&form).send().await.unwrap().status(), 403);
}

/// An application service that answers as it is told, then 200.
#[derive(Default)]
struct Receiver {
    answers: Mutex<VecDeque<u16>>,
    /// Id of the transaction, and its events' texts or types.
    pushed: Mutex<Vec<(String, Vec<String>)>>,
    pings: Mutex<Vec<Option<String>>>,
}

impl Receiver {
    /// Serves under a path, as Chancery does, and answers its URL.
    async fn serve(self: &Arc<Self>) -> Url {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks/matrix/acme", listener.local_addr().unwrap());
        let paths = Router::new()
            .route("/transactions/{id}", put(take))
            .route("/ping", post(take_ping))
            .with_state(Arc::clone(self));
        let router = Router::new().nest("/webhooks/matrix/acme/_matrix/app/v1", paths);
        tokio::spawn(connector_core::fake::serve(router, listener, std::future::pending()));
        Url::parse(&url).unwrap()
    }

    fn pushed(&self) -> Vec<(String, Vec<String>)> {
        self.pushed.lock().unwrap().clone()
    }

    async fn wait_for(&self, what: impl Fn(&[(String, Vec<String>)]) -> bool) -> Vec<(String, Vec<String>)> {
        for _ in 0..1_000 {
            let pushed = self.pushed();
            if what(&pushed) {
                return pushed;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never came: {:?}", self.pushed());
    }
}

fn hs_tokens() -> [SecretString; 2] {
    ["the-next-one".to_owned().into(), HS_TOKEN.to_owned().into()]
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if appservice::verify(&headers, &hs_tokens()).is_err() {
        let (status, body) = appservice::ErrorBody::forbidden();
        return (status, Json(body)).into_response();
    }
    let transaction = Transaction::parse(&body).unwrap();
    assert!(transaction.unreadable.is_empty());
    let what =
        transaction.events.iter().map(|event| event.body().unwrap_or(&event.event_type).to_owned()).collect();
    receiver.pushed.lock().unwrap().push((id, what));
    let status = receiver.answers.lock().unwrap().pop_front().unwrap_or(200);
    (StatusCode::from_u16(status).unwrap(), Json(json!({}))).into_response()
}

async fn take_ping(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    Json(ping): Json<appservice::Ping>,
) -> Response {
    assert_eq!(appservice::verify(&headers, &hs_tokens()), Ok(()));
    receiver.pings.lock().unwrap().push(ping.transaction_id);
    Json(json!({})).into_response()
}

#[tokio::test]
async fn transactions_come_in_order_and_one_that_failed_comes_again_before_the_next() {
    let receiver = Arc::new(Receiver::default());
    receiver.answers.lock().unwrap().extend([200, 500, 503, 200]);
    let url = receiver.serve().await;
    let server = Server::open(tempfile::tempdir().unwrap(), Some(url)).await;
    let room = server.client.ensure_room(&acme()).await.unwrap();
    let _pushing = server.pushing();
    receiver.wait_for(|pushed| pushed.len() == 1).await;
    for text in ["one", "two", "three"] {
        assert_eq!(server.write(&room, &ceo(), text).await, StatusCode::SEE_OTHER);
    }
    let pushed =
        receiver.wait_for(|pushed| pushed.iter().any(|(_, what)| what.contains(&"three".to_owned()))).await;
    assert_eq!(pushed[0].0, "1");
    assert_eq!(pushed[0].1[0], "m.room.create");
    assert_eq!(pushed[1].0, "2");
    assert_eq!(pushed[2], pushed[1], "after a 500 the same number brings the same events");
    assert_eq!(pushed[3], pushed[1]);
    let mut taken: Vec<_> = pushed.iter().skip(3).collect();
    taken.dedup();
    let ids: Vec<u64> = taken.iter().map(|(id, _)| id.parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let texts: Vec<&str> = taken.iter().flat_map(|(_, what)| what).map(String::as_str).collect();
    assert_eq!(texts, ["m.room.member", "one", "two", "three"]);
}

#[tokio::test]
async fn a_transaction_in_flight_survives_a_restart_under_its_number() {
    let receiver = Arc::new(Receiver::default());
    receiver.answers.lock().unwrap().extend([500; 3]);
    let url = receiver.serve().await;
    let server = Server::open(tempfile::tempdir().unwrap(), Some(url.clone())).await;
    let room = server.client.ensure_room(&acme()).await.unwrap();
    let pushing = server.pushing();
    receiver.wait_for(|pushed| !pushed.is_empty()).await;
    pushing.abort();
    let _ = pushing.await;
    let before = receiver.pushed();
    receiver.answers.lock().unwrap().clear();

    let restarted = Server::open(server.state, Some(url)).await;
    restarted.client.send_notice(&room, "job-1", "later", None).await.unwrap();
    let _pushing = restarted.pushing();
    let pushed = receiver.wait_for(|pushed| pushed.last().is_some_and(|(_, what)| what == &["later"])).await;
    assert_eq!(pushed[before.len()], before[0]);
    assert_eq!(pushed.last().unwrap().0, "2");
}

#[tokio::test]
async fn events_wait_for_an_application_service_and_a_ping_brings_them_at_once() {
    let receiver = Arc::new(Receiver::default());
    let server = Server::start().await;
    let _pushing = server.pushing();
    server.client.ensure_room(&acme()).await.unwrap();
    let error = server.client.ping("chancery", None).await.unwrap_err();
    assert_eq!((error.status, error.code.as_deref()), (Some(400), Some("M_URL_NOT_SET")));
    let error = server.client.ping("another", None).await.unwrap_err();
    assert_eq!(error.status, Some(403));
    server.double.set_appservice_url(Some(Url::parse("http://127.0.0.1:9/").unwrap())).unwrap();
    let error = server.client.ping("chancery", None).await.unwrap_err();
    assert_eq!((error.status, error.code.as_deref()), (Some(502), Some("M_CONNECTION_FAILED")));
    assert_eq!(receiver.pushed(), []);

    server.double.set_appservice_url(Some(receiver.serve().await)).unwrap();
    server.client.ping("chancery", Some("start-1")).await.unwrap();
    assert_eq!(*receiver.pings.lock().unwrap(), [Some("start-1".to_owned())]);
    let pushed = receiver.wait_for(|pushed| !pushed.is_empty()).await;
    assert_eq!(pushed[0].1[0], "m.room.create");
}

#[tokio::test]
async fn a_push_with_another_hs_token_is_refused_and_repeated() {
    let receiver = Arc::new(Receiver::default());
    let url = receiver.serve().await;
    let push = |token: &'static str| {
        let url = format!("{url}/_matrix/app/v1/transactions/1");
        async move {
            let request = reqwest::Client::new().put(url).bearer_auth(token).json(&json!({"events": []}));
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        }
    };
    let (status, answer) = push("not-the-token").await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
    assert_eq!(receiver.pushed(), []);
    assert_eq!(push(HS_TOKEN).await, (200, json!({})));
    assert_eq!(receiver.pushed().len(), 1);
}

#[tokio::test]
async fn a_check_tells_the_bots_token_from_another() {
    let server = Server::start().await;
    let info = server.client.check().await.unwrap();
    assert_eq!(info.identity.as_deref(), Some("@_chancery:example.org"));
    assert!(info.version.is_some_and(|version| version.starts_with('v')));
    let stranger = MatrixClient::new(&settings(&server.base, "wrong")).unwrap();
    assert_eq!(stranger.check().await.unwrap_err().kind, ErrorKind::Unauthorised);
    assert!(stranger.health().is_failing() && !server.client.health().is_failing());
}
