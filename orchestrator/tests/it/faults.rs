//! A network and a server in bad health between us and a tool: each effect is there once all the same.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use chancery::testing::{ACME, TestApp};
use chrono::TimeDelta;
use connector_chatwoot::ChatwootClient;
use futures::StreamExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use url::Url;

use crate::harness::{approval, conversation, items, open_in_chatwoot, path};

/// What can go wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The server refuses before it does anything.
    Unavailable,
    /// It asks for patience.
    TooMany,
    /// It does what it was asked, and says that it failed.
    FailsAfterwards,
    /// It does it, and the connection breaks before a word of the answer.
    Reset,
    /// It does it, and the connection breaks in the middle of the answer.
    CutOff,
    /// It does it, and something between answers with a page of its own.
    AnotherPage,
}

const FAULTS: [Fault; 6] = [
    Fault::Unavailable,
    Fault::TooMany,
    Fault::FailsAfterwards,
    Fault::Reset,
    Fault::CutOff,
    Fault::AnotherPage,
];

/// A proxy before a tool, which lets so many of a hundred calls go wrong, in turn in each way.
struct BadNetwork {
    tool: Url,
    http: reqwest::Client,
    of_a_hundred: AtomicU32,
    calls: AtomicU64,
    happened: Mutex<BTreeMap<Fault, u32>>,
}

impl BadNetwork {
    /// Begins to listen before `tool`, and puts itself in its place.
    fn before(tool: &mut String, of_a_hundred: u32) -> Arc<Self> {
        let network = Arc::new(Self {
            tool: tool.parse().unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            of_a_hundred: AtomicU32::new(of_a_hundred),
            calls: AtomicU64::new(0),
            happened: Mutex::default(),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        *tool = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(Arc::clone(&network).serve(tokio::net::TcpListener::from_std(listener).unwrap()));
        network
    }

    async fn serve(self: Arc<Self>, listener: tokio::net::TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let network = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(move |request| Arc::clone(&network).answer(request));
                // An answer that is an error closes the connection without a word.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    fn goes_wrong(&self, of_a_hundred: u32) {
        self.of_a_hundred.store(of_a_hundred, Ordering::SeqCst);
    }

    /// What goes wrong with the next call: the same in each run, and without a pattern.
    fn next(&self) -> Option<Fault> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33;
        if mixed % 100 >= u64::from(self.of_a_hundred.load(Ordering::SeqCst)) {
            return None;
        }
        let mut happened = self.happened.lock().unwrap();
        let fault = FAULTS[usize::try_from(happened.values().sum::<u32>()).unwrap() % FAULTS.len()];
        *happened.entry(fault).or_default() += 1;
        Some(fault)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let fault = self.next();
        let failed = |status: StatusCode| {
            let mut response = Response::new(Body::from("{\"error\": \"not now\"}"));
            *response.status_mut() = status;
            response
        };
        match fault {
            Some(Fault::Unavailable) => return Ok(failed(StatusCode::SERVICE_UNAVAILABLE)),
            Some(Fault::TooMany) => {
                let mut response = failed(StatusCode::TOO_MANY_REQUESTS);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
                return Ok(response);
            }
            _ => {}
        }
        let (status, content_type, body) = self.pass_on(request).await;
        let mut response = match fault {
            Some(Fault::FailsAfterwards) => return Ok(failed(StatusCode::INTERNAL_SERVER_ERROR)),
            Some(Fault::Reset) => return Err(io::ErrorKind::ConnectionReset.into()),
            Some(Fault::AnotherPage) => return Ok(Response::new(Body::from("<html>Please sign in</html>"))),
            Some(Fault::CutOff) => {
                let half = body.slice(..body.len() / 2);
                let pieces = [Ok(half), Err(io::Error::from(io::ErrorKind::ConnectionReset))];
                // The second piece is late, so that the first is on its way.
                Response::new(Body::from_stream(futures::stream::iter(pieces).then(|piece| async {
                    tokio::task::yield_now().await;
                    piece
                })))
            }
            _ => Response::new(Body::from(body)),
        };
        *response.status_mut() = status;
        if let Some(content_type) = content_type {
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        }
        Ok(response)
    }

    async fn pass_on(&self, request: Request<Incoming>) -> (StatusCode, Option<HeaderValue>, Bytes) {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().unwrap().as_str();
        let url = self.tool.join(path).unwrap();
        parts.headers.remove(header::HOST);
        parts.headers.remove(header::CONTENT_LENGTH);
        let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap();
        let call = self.http.request(parts.method, url).headers(parts.headers).body(body);
        let answer = call.send().await.unwrap();
        let content_type = answer.headers().get(header::CONTENT_TYPE).cloned();
        (answer.status(), content_type, answer.bytes().await.unwrap())
    }

    /// That each kind of fault has happened.
    fn assert_bad(&self) {
        let happened = self.happened.lock().unwrap();
        assert!(FAULTS.iter().all(|fault| happened.contains_key(fault)), "{happened:?}");
    }
}

/// Runs jobs until none is left, however often they have to be tried again. What is asked of a tool at most is no matter here.
async fn run_all_jobs(app: &TestApp) {
    for round in 0..120 {
        app.run_jobs().await;
        let left = app
            .count("SELECT count(*) FROM jobs WHERE state IN ('ready', 'running') AND run_at < 'infinity'")
            .await;
        if left == 0 {
            return;
        }
        // What has failed often waits for long.
        app.clock().advance(TimeDelta::minutes(if round < 10 { 1 } else { 30 }));
    }
    let left: Vec<(String, i32, Option<String>)> = sqlx::query_as(
        "SELECT kind, attempts, last_error FROM jobs WHERE state IN ('ready', 'running') LIMIT 5",
    )
    .fetch_all(app.superuser())
    .await
    .unwrap();
    panic!("jobs are left: {left:?}");
}

/// Approved requests of acme's from these conversations in turn, as if each had been decided, with the job that notes it.
async fn decided(app: &TestApp, conversations: &[i64], count: i64) {
    for (place, number) in (0_i64..).zip(conversations) {
        sqlx::query(
            "WITH conversation AS (
                 SELECT tenant_id, id FROM conversations WHERE tenant_id = $1 AND display_id = $2
             ), approval AS (
                 INSERT INTO approvals (tenant_id, id, title, status, priority, requested_by, approved_by, source_service, source_account,
                                        source_conversation, conversation_id, created_at, updated_at, decided_at)
                 SELECT conversation.tenant_id, gen_random_uuid(), 'Refund ' || n, 'approved', 'low', $3, $4, 'chatwoot', '1', $2::text,
                        conversation.id, $6, $6, $6
                 FROM conversation CROSS JOIN generate_series($5::bigint, $7::bigint - 1, $8::bigint) AS n
                 RETURNING tenant_id, id
             )
             INSERT INTO jobs (tenant_id, id, kind, key, payload, run_at, created_at)
             SELECT tenant_id, gen_random_uuid(), 'approvals.note', id || ':approved', jsonb_build_object('approvalId', id), $6, $6 FROM approval",
        )
        .bind(app.tenant(ACME).0)
        .bind(number)
        .bind(app.user("acme-agent").0)
        .bind(app.user("acme-ceo").0)
        .bind(place)
        .bind(app.now())
        .bind(count)
        .bind(i64::try_from(conversations.len()).unwrap())
        .execute(app.superuser())
        .await
        .unwrap();
    }
}

/// The marks of our notes in a conversation, asked of the double itself.
async fn marks(app: &TestApp, conversation: i64) -> Vec<String> {
    let chatwoot = ChatwootClient::new(&app.doubles().chatwoot.settings()).unwrap();
    let (mut marks, mut before) = (Vec::new(), None);
    loop {
        let page = chatwoot.messages_before(conversation, before).await.unwrap();
        let Some(oldest) = page.iter().map(|message| message.id).min() else { return marks };
        before = Some(oldest);
        let notes = page.into_iter().filter(|message| !message.is_deleted() && message.private);
        marks.extend(notes.filter_map(|note| note.source_id));
    }
}

#[tokio::test]
async fn notes_are_each_there_once_though_three_of_ten_calls_go_wrong() {
    // The double writes its whole state with each change, so that a thousand take minutes in a debug build.
    let notes = std::env::var("CHANCERY_TEST_NOTES").map_or(100, |notes| notes.parse().unwrap());
    let mut network = None;
    let app = TestApp::start_with(|config| {
        network = Some(BadNetwork::before(&mut config.chatwoot.url, 30));
        (config.chatwoot.rate.requests, config.chatwoot.rate.seconds) = (1_000_000, 1);
    })
    .await;
    let mut conversations = Vec::new();
    for _ in 0..20 {
        conversations.push(open_in_chatwoot(&app).await);
    }
    app.run_jobs().await;
    for number in &conversations {
        conversation(&app, *number).await;
    }
    decided(&app, &conversations, i64::try_from(notes).unwrap()).await;
    run_all_jobs(&app).await;
    let mut found = Vec::new();
    for number in &conversations {
        found.extend(marks(&app, *number).await);
    }
    found.sort();
    let all = found.len();
    found.dedup();
    assert_eq!((all, found.len()), (notes, notes), "all there, none twice");
    network.unwrap().assert_bad();
    let told = "SELECT count(DISTINCT resource_id) FROM audit_logs WHERE action = 'approval.note_posted'";
    assert_eq!(app.count(told).await, i64::try_from(notes).unwrap());
    assert_eq!(
        app.count("SELECT count(*) FROM audit_logs WHERE action = 'approval.note_posted'").await,
        app.count(told).await
    );
}

#[tokio::test]
async fn notices_are_each_there_once_though_three_of_ten_calls_go_wrong() {
    let mut network = None;
    let app =
        TestApp::start_with(|config| network = Some(BadNetwork::before(&mut config.matrix.url, 30))).await;
    for number in 0..40 {
        let requested = approval(&app.agent(), &format!("Refund {number}")).await;
        if number % 2 == 0 {
            app.ceo()
                .patch(&path("/approvals", &requested), &json!({ "status": "approved" }))
                .await
                .expect(200);
        }
    }
    run_all_jobs(&app).await;
    let network = network.unwrap();
    network.assert_bad();
    network.goes_wrong(0);
    let sent = items(&app.ceo(), "/audit?action=approval.notice_sent&limit=100").await;
    let mut events: Vec<&Value> = sent.iter().map(|entry| &entry["newValues"]["event"]).collect();
    events.sort_by_key(ToString::to_string);
    events.dedup();
    assert_eq!((sent.len(), events.len()), (40, 40));
    assert_eq!(crate::matrix::messages(&app).await.len(), 40, "none is there twice");
}

#[tokio::test]
async fn a_tool_that_is_down_for_a_day_costs_the_others_nothing_and_gets_all_of_it_afterwards() {
    let mut network = None;
    let app =
        TestApp::start_with(|config| network = Some(BadNetwork::before(&mut config.chatwoot.url, 0))).await;
    let network = network.unwrap();
    let number = open_in_chatwoot(&app).await;
    app.run_jobs().await;
    conversation(&app, number).await;
    network.goes_wrong(100);
    decided(&app, &[number], 5).await;
    let requested = approval(&app.agent(), "Beside").await;
    app.run_jobs().await;
    let notices = "SELECT count(*) FROM audit_logs WHERE action = 'approval.notice_sent'";
    assert_eq!(app.count(notices).await, 1, "Matrix is told at once");
    for _ in 0..48 {
        app.clock().advance(TimeDelta::minutes(30));
        app.run_jobs().await;
    }
    app.ceo().patch(&path("/approvals", &requested), &json!({ "status": "approved" })).await.expect(200);
    app.run_jobs().await;
    assert_eq!(app.count(notices).await, 2, "still at once after a day");
    assert_eq!(
        app.count("SELECT count(*) FROM jobs WHERE kind = 'approvals.note' AND state = 'ready'").await,
        5
    );
    network.goes_wrong(0);
    run_all_jobs(&app).await;
    let mut found = marks(&app, number).await;
    found.sort();
    found.dedup();
    assert_eq!((found.len(), marks(&app, number).await.len()), (5, 5));
}
