//! What can't be accepted: the right status with a code and a pointer, nothing stored, and never a 500.

use chancery::testing::{ACME, Answer, Client, TestApp};
use connector_keycloak::fake::Signature;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{approval, conversation, message_created, path};

/// An application with something of each kind, and everybody who is going to call known to it.
struct World {
    app: TestApp,
    agent: Client,
    ceo: Client,
    automation: Client,
    approval: String,
    conversation: String,
}

async fn world() -> World {
    let app = TestApp::start().await;
    let (agent, ceo, automation) = (app.agent(), app.ceo(), app.automation());
    for client in [&agent, &ceo, &automation] {
        client.get("/me").await.expect(200);
    }
    let approval = path("/approvals", &approval(&agent, "A").await);
    let conversation = path("/conversations", &conversation(&app, 26).await);
    app.run_jobs().await;
    World { app, agent, ceo, automation, approval, conversation }
}

async fn send_raw(
    client: &Client,
    method: Method,
    path: &str,
    kind: Option<&str>,
    body: impl Into<reqwest::Body>,
) -> Answer {
    let mut request = client.request(method, path).body(body);
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    client.send(request).await
}

const JSON: Option<&str> = Some("application/json");

#[tokio::test]
async fn no_operation_takes_a_body_that_is_not_its_json() {
    let world = world().await;
    let before = world.app.row_counts().await;
    let escalate = format!("{}/escalate", world.conversation);
    let operations = [
        (&world.agent, Method::POST, "/approvals", json!({ "tenantId": ACME, "title": "A" })),
        (&world.ceo, Method::PATCH, world.approval.as_str(), json!({ "status": "approved" })),
        (
            &world.automation,
            Method::POST,
            "/audit",
            json!({ "tenantId": ACME, "action": "a", "resource": "r", "resourceId": "1" }),
        ),
        (&world.ceo, Method::POST, "/consultations", json!({ "tenantId": ACME, "title": "C" })),
        (&world.agent, Method::POST, escalate.as_str(), json!({ "reason": "R" })),
    ];
    for (client, method, path, valid) in operations {
        let context = format!("{method} {path}");
        for body in [
            "",
            "{",
            "{\"a\":",
            "nul",
            "{} {}",
            "\u{feff}{}",
            r#"{"tenantId":"\ud800"}"#,
            r#"{"tenantId":"\udc00\ud800"}"#,
        ] {
            let answer = send_raw(client, method.clone(), path, JSON, body).await;
            assert_eq!(answer.problem(400), "not_json", "{context} {body:?}");
        }
        let not_utf8 =
            send_raw(client, method.clone(), path, JSON, b"{\"tenantId\":\"\xff\"}".to_vec()).await;
        assert_eq!(not_utf8.problem(400), "not_json", "{context}");
        for body in ["[]", "null", "1", "\"text\""] {
            let answer = send_raw(client, method.clone(), path, JSON, body).await;
            assert_eq!(answer.problem(422), "invalid", "{context} {body}");
        }
        // Nested deeper than anybody means it.
        let nested = "[".repeat(100_000);
        assert_eq!(
            send_raw(client, method.clone(), path, JSON, nested).await.problem(400),
            "not_json",
            "{context}"
        );
        for kind in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("application/jsonp"),
            Some("multipart/form-data; boundary=x"),
        ] {
            let answer = send_raw(client, method.clone(), path, kind, valid.to_string()).await;
            assert_eq!(answer.status, 415, "{context} {kind:?}");
            answer.problem(415);
        }
        let mut unknown = valid.clone();
        unknown["requestedBy"] = json!("me");
        let answer = send_raw(client, method.clone(), path, JSON, unknown.to_string()).await;
        assert_eq!(
            (answer.problem(422), answer.pointers()),
            ("invalid".to_owned(), vec!["/requestedBy".to_owned()]),
            "{context}"
        );
        let field = valid.as_object().unwrap().keys().next_back().unwrap().clone();
        for value in ["null", "1", "true", "{}", "[]", "\"a\\u0000b\""] {
            let mut wrong = valid.clone();
            wrong[&field] = serde_json::from_str(value).unwrap();
            let answer = send_raw(client, method.clone(), path, JSON, wrong.to_string()).await;
            assert_eq!(answer.problem(422), "invalid", "{context} {field}={value}");
            assert_eq!(answer.pointers(), [format!("/{field}")], "{context} {field}={value}");
        }
        let mut missing = valid.clone();
        missing.as_object_mut().unwrap().remove(&field);
        assert_eq!(
            send_raw(client, method.clone(), path, JSON, missing.to_string()).await.problem(422),
            "invalid",
            "{context}"
        );
        // Just too large: with its length told, and in chunks.
        let large = format!("{{\"x\":\"{}\"}}", "a".repeat(1024 * 1024));
        let answer = send_raw(client, method.clone(), path, JSON, large.clone()).await;
        assert_eq!(answer.problem(413), "too_large", "{context}");
        let chunks: Vec<Result<String, std::io::Error>> = large
            .as_bytes()
            .chunks(60_000)
            .map(|chunk| Ok(String::from_utf8_lossy(chunk).into_owned()))
            .collect();
        let chunked = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
        assert_eq!(
            send_raw(client, method.clone(), path, JSON, chunked).await.problem(413),
            "too_large",
            "{context}"
        );
    }
    assert_eq!(world.app.row_counts().await, before);
}

#[tokio::test]
async fn a_value_that_is_wrong_is_pointed_at() {
    let world = world().await;
    let app = &world.app;
    let before = app.row_counts().await;
    let approval = |field: &str, value: Value| {
        let mut body = json!({ "tenantId": ACME, "title": "A" });
        body[field] = value;
        (&world.agent, Method::POST, "/approvals".to_owned(), body)
    };
    let long = |length: usize| json!("é".repeat(length));
    let source = |value: Value| approval("source", value);
    let decision = |field: &str, value: Value| {
        let mut body = json!({ "status": "rejected" });
        body[field] = value;
        (&world.ceo, Method::PATCH, world.approval.clone(), body)
    };
    let consultation = |field: &str, value: Value| {
        let mut body = json!({ "tenantId": ACME, "title": "C" });
        body[field] = value;
        (&world.ceo, Method::POST, "/consultations".to_owned(), body)
    };
    let escalation =
        |body: Value| (&world.agent, Method::POST, format!("{}/escalate", world.conversation), body);
    let entry = |field: &str, value: Value| {
        let mut body = json!({ "tenantId": ACME, "action": "a", "resource": "r", "resourceId": "1" });
        body[field] = value;
        (&world.automation, Method::POST, "/audit".to_owned(), body)
    };
    let nobody = "0b000000-0000-4000-8000-0000000000ff";
    for ((client, method, path, body), pointer) in [
        (approval("title", json!("")), "/title"),
        (approval("title", json!(" \t ")), "/title"),
        (approval("title", long(201)), "/title"),
        (approval("description", long(10_001)), "/description"),
        (approval("priority", json!("urgent")), "/priority"),
        (approval("metadata", json!({ "x": "a".repeat(16 * 1024) })), "/metadata"),
        (approval("metadata", json!({ "a/b": { "c": ["\0"] } })), "/metadata/a~1b/c/0"),
        (approval("expiresAt", json!("2020-01-01T00:00:00Z")), "/expiresAt"),
        (approval("expiresAt", json!("tomorrow")), "/expiresAt"),
        (approval("expiresAt", json!("+262142-12-31T23:59:59Z")), "/expiresAt"),
        (approval("consultationRequested", json!("yes")), "/consultationRequested"),
        (source(json!({ "service": "" })), "/source/service"),
        (source(json!({ "service": "crm", "conversation": long(201) })), "/source/conversation"),
        (source(json!({ "service": "crm", "link": "javascript:alert(1)" })), "/source/link"),
        (source(json!({ "service": "crm", "secret": 1 })), "/source/secret"),
        (decision("comment", long(2001)), "/comment"),
        (decision("status", json!("pending")), "/status"),
        (decision("status", json!("expired")), "/status"),
        (consultation("title", long(201)), "/title"),
        (consultation("participantIds", json!([nobody])), "/participantIds"),
        (consultation("participantIds", json!(["me"])), "/participantIds/0"),
        (consultation("participantIds", json!(vec![nobody; 51])), "/participantIds"),
        (consultation("approvalId", json!(nobody)), "/approvalId"),
        (consultation("scheduledAt", json!("soon")), "/scheduledAt"),
        (escalation(json!({ "reason": long(5001) })), "/reason"),
        (escalation(json!({ "reason": "  " })), "/reason"),
        (escalation(json!({ "reason": "R", "title": long(201) })), "/title"),
        (entry("action", long(101)), "/action"),
        (entry("resourceId", json!("")), "/resourceId"),
        (entry("newValues", json!({ "x": "a".repeat(16 * 1024) })), "/newValues"),
    ] {
        let answer = client.send(client.request(method.clone(), &path).json(&body)).await;
        assert_eq!(
            (answer.problem(422), answer.pointers()),
            ("invalid".to_owned(), vec![pointer.to_owned()]),
            "{method} {path} {pointer}"
        );
    }
    assert_eq!(app.row_counts().await, before);
}

#[tokio::test]
async fn a_query_or_a_path_that_makes_no_sense_is_refused() {
    let world = world().await;
    let before = world.app.row_counts().await;
    for list in ["/approvals", "/audit", "/consultations", "/conversations"] {
        for (query, pointer) in [
            ("limit=0", "?limit"),
            ("limit=101", "?limit"),
            ("limit=-1", "?limit"),
            ("limit=many", "?limit"),
            ("limit=99999999999999999999", "?limit"),
            ("cursor=abc", "?cursor"),
            ("cursor=%00", "?cursor"),
        ] {
            let answer = world.ceo.get(&format!("{list}?{query}")).await;
            assert_eq!(
                (answer.problem(422), answer.pointers()),
                ("invalid".to_owned(), vec![pointer.to_owned()]),
                "{list}?{query}"
            );
        }
        world.ceo.get(&format!("{list}?colour=blue")).await.problem(422);
        for tenant in [
            "0b000000-0000-4000-8000-0000000000ff",
            "/organizations/nowhere",
            "acme-corp",
            "..",
            "%27%20OR%201=1",
        ] {
            let answer = world.ceo.get(&format!("{list}?tenantId={tenant}")).await;
            assert_eq!(answer.problem(404), "not_found", "{list} {tenant}");
        }
    }
    for query in ["status=done", "priority=urgent"] {
        world.ceo.get(&format!("/approvals?{query}")).await.problem(422);
    }
    for query in [
        "userId=me",
        "from=yesterday",
        "to=1",
        "from=%2B262142-12-31T23:59:59Z",
        "from=-262143-01-01T00:00:00Z",
    ] {
        world.ceo.get(&format!("/audit?{query}")).await.problem(422);
    }
    for path in [
        "/approvals/1",
        "/approvals/%00",
        "/approvals/..%2F..",
        "/consultations/x",
        "/conversations/%ff",
        "/audit/resource/approval/%00",
        "/nothing",
    ] {
        assert_eq!(world.ceo.get(path).await.problem(404), "not_found", "{path}");
    }
    for (method, path) in [(Method::DELETE, "/approvals"), (Method::PUT, "/audit"), (Method::POST, "/me")] {
        let answer = world.ceo.send(world.ceo.request(method, path)).await;
        assert_eq!(answer.problem(405), "method_not_allowed", "{path}");
    }
    let mut after = world.app.row_counts().await;
    // Five tenants of nobody's were named, which is on record once for each.
    let named = "SELECT count(*) FROM audit_logs WHERE action = 'tenant.access_refused'";
    assert_eq!(world.app.count(named).await, 5);
    after.iter_mut().filter(|(table, _)| table == "audit_logs").for_each(|(_, rows)| *rows -= 5);
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_body_that_is_said_to_be_too_large_is_refused_before_it_comes() {
    let app = TestApp::start().await;
    let address = app.addresses().chancery;
    for path in
        [format!("/api/v1/webhooks/chatwoot/{}", app.chatwoot_source()), "/api/v1/webhooks/any".to_owned()]
    {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: 1048577\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        let read = connection.read_exact(&mut answer);
        tokio::time::timeout(std::time::Duration::from_secs(5), read)
            .await
            .expect("it is answered at once")
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413", "{path}");
    }
}

#[tokio::test]
async fn a_header_that_is_too_large_or_makes_no_sense_is_refused() {
    let world = world().await;
    let before = world.app.row_counts().await;
    let (agent, body) = (&world.agent, json!({ "tenantId": ACME, "title": "A" }));
    let with = |name: &'static str, value: String| {
        agent.request(Method::POST, "/approvals").header(name, value).json(&body)
    };
    assert_eq!(
        agent.send(with("x-custom", "a".repeat(32 * 1024 + 1))).await.problem(431),
        "headers_too_large"
    );
    let many = (0..5).fold(agent.request(Method::POST, "/approvals").json(&body), |request, number| {
        request.header(format!("x-custom-{number}"), "a".repeat(16 * 1024))
    });
    assert_eq!(agent.send(many).await.problem(431), "headers_too_large");
    for key in ["", "\"\"", &"k".repeat(256)] {
        let answer = agent.send(with("idempotency-key", key.to_owned())).await;
        assert_eq!(
            (answer.problem(422), answer.pointers()),
            ("invalid".to_owned(), vec!["Idempotency-Key".to_owned()]),
            "{key:?}"
        );
    }
    let twice = with("idempotency-key", "a".to_owned()).header("idempotency-key", "b");
    agent.send(twice).await.problem(422);
    // An id that could be written into a log or a header is not taken over.
    for id in ["a b", "<script>", &"x".repeat(129), "ä"] {
        let answer =
            world.nobody().send(world.nobody().request(Method::GET, "/me").header("x-request-id", id)).await;
        assert_ne!(answer.header("x-request-id"), id);
        answer.problem(401);
    }
    assert_eq!(world.app.row_counts().await, before);
}

impl World {
    fn nobody(&self) -> Client {
        self.app.nobody()
    }
}

#[tokio::test]
async fn a_token_that_keycloak_did_not_give_for_this_is_refused() {
    let app = TestApp::start().await;
    app.agent().get("/me").await.expect(200);
    let before = app.row_counts().await;
    let mint = |overrides: Value, signature| app.mint("acme-agent", &overrides, signature);
    let (now, day) = (app.now().timestamp(), 24 * 3600);
    let valid = mint(json!({}), Signature::Valid);
    let (head, signature) = valid.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let ceo = app.mint("acme-ceo", &json!({}), Signature::Valid);
    let ceos_claims = ceo.split('.').nth(1).unwrap();
    let id_token = app
        .doubles()
        .keycloak
        .mint_id_token("chancery-shell", "acme-agent", serde_json::Map::new(), Signature::Valid)
        .unwrap();
    let logout_token = app
        .doubles()
        .keycloak
        .mint_logout_token(
            "chancery-shell",
            "acme-agent",
            "session",
            serde_json::Map::new(),
            Signature::Valid,
        )
        .unwrap();
    let tokens = [
        ("expired", mint(json!({ "exp": now - 61 }), Signature::Valid)),
        ("not yet valid", mint(json!({ "nbf": now + 61 }), Signature::Valid)),
        ("from the future", mint(json!({ "iat": now + day }), Signature::Valid)),
        (
            "of another issuer",
            mint(json!({ "iss": "https://evil.example/realms/chancery" }), Signature::Valid),
        ),
        ("for another audience", mint(json!({ "aud": "account" }), Signature::Valid)),
        ("for no audience", mint(json!({ "aud": null }), Signature::Valid)),
        ("of another type", mint(json!({ "typ": "Refresh" }), Signature::Valid)),
        ("of no client", mint(json!({ "azp": null }), Signature::Valid)),
        ("of nobody", mint(json!({ "sub": null }), Signature::Valid)),
        (
            "of an unknown user",
            mint(json!({ "sub": "0b000000-0000-4000-8000-0000000000ff" }), Signature::Valid),
        ),
        ("without expiry", mint(json!({ "exp": null }), Signature::Valid)),
        ("alg none", mint(json!({}), Signature::None)),
        ("HS256 with the public key", mint(json!({}), Signature::HmacWithPublicKey)),
        ("a foreign key", mint(json!({}), Signature::ForeignKey)),
        ("an unknown key", mint(json!({}), Signature::UnknownKey)),
        ("an ID token", id_token),
        ("a logout token", logout_token),
        ("another's claims", format!("{header}.{ceos_claims}.{signature}")),
        ("no signature", format!("{head}.")),
        ("too long", format!("{valid}{}", "A".repeat(17_000))),
        ("no token", "abc".to_owned()),
        ("dots", "..".to_owned()),
    ];
    let mut answers = Vec::new();
    for (what, token) in &tokens {
        let answer = app.nobody().with_token(token.clone()).get("/me").await;
        assert_eq!(answer.problem(401), "unauthorised", "{what}");
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{what}");
        // Nothing that was sent comes back, and nothing tells why.
        let mut problem = answer.json();
        problem.as_object_mut().unwrap().remove("requestId");
        answers.push(problem);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    let nobody = app.nobody();
    for (what, value) in
        [("basic", format!("Basic {valid}")), ("empty", "Bearer ".to_owned()), ("bare", valid.clone())]
    {
        let answer = nobody.send(nobody.request(Method::GET, "/me").header("authorization", value)).await;
        assert_eq!(answer.problem(401), "unauthorised", "{what}");
    }
    let twice = nobody
        .request(Method::GET, "/me")
        .header("authorization", format!("Bearer {valid}"))
        .header("authorization", "Bearer x");
    assert_eq!(nobody.send(twice).await.problem(401), "unauthorised");
    // A token in the address would stand in logs.
    assert_eq!(nobody.get(&format!("/me?access_token={valid}")).await.problem(401), "unauthorised");
    assert_eq!(app.row_counts().await, before);
    nobody.with_token(valid).get("/me").await.expect(200);
}

#[tokio::test]
async fn a_rotated_key_is_fetched_and_a_dropped_one_is_no_longer_accepted() {
    let app = TestApp::start().await;
    let old = app.agent();
    old.get("/me").await.expect(200);
    app.doubles().keycloak.replace_keys_now().unwrap();
    crate::harness::pass(&app, 11);
    app.agent().get("/me").await.expect(200);
    assert_eq!(old.get("/me").await.problem(401), "unauthorised");
}

#[tokio::test]
async fn a_token_that_was_accepted_is_looked_at_again_each_time() {
    let app = TestApp::start().await;
    let nobody = app.nobody();
    let token = app.mint("acme-agent", &json!({ "exp": app.now().timestamp() + 30 }), Signature::Valid);
    nobody.with_token(&token).get("/me").await.expect(200);
    nobody.with_token(&token).get("/me").await.expect(200);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    assert_eq!(nobody.with_token(&forged).get("/me").await.problem(401), "unauthorised");
    crate::harness::pass(&app, 91);
    assert_eq!(nobody.with_token(&token).get("/me").await.problem(401), "unauthorised");
}

#[tokio::test]
async fn a_webhook_that_nobody_signed_is_refused_and_not_stored() {
    let world = world().await;
    let app = &world.app;
    let before = app.row_counts().await;
    let body = message_created(app, 26, 77, "Hello").to_string();
    let time = app.now().timestamp();
    let sign = |secret: &str, time: i64, body: &str| {
        let at = chrono::DateTime::from_timestamp(time, 0).unwrap();
        connector_chatwoot::webhook::sign(&secret.to_owned().into(), at, body.as_bytes())
    };
    let secret = secrecy::ExposeSecret::expose_secret(&app.chatwoot_secret()).to_owned();
    let own = format!("/webhooks/chatwoot/{}", app.chatwoot_source());
    let valid = sign(&secret, time, &body);
    let (unknown, of_matrix) = (
        "/webhooks/chatwoot/0b000000-0000-4000-8000-0000000000ff".to_owned(),
        format!("/webhooks/chatwoot/{}", app.matrix_source()),
    );
    let mut answers = Vec::new();
    for (what, path, time, signature) in [
        ("another secret", &own, time, sign("other", time, &body)),
        ("another body", &own, time, sign(&secret, time, "{}")),
        ("another time", &own, time + 1, valid.clone()),
        ("an old time", &own, time - 301, sign(&secret, time - 301, &body)),
        ("a later time", &own, time + 301, sign(&secret, time + 301, &body)),
        ("no scheme", &own, time, valid.trim_start_matches("sha256=").to_owned()),
        ("an unknown source", &unknown, time, valid.clone()),
        ("a source that isn't one", &"/webhooks/chatwoot/x".to_owned(), time, valid.clone()),
        ("a source of another service", &of_matrix, time, valid.clone()),
        ("another service", &format!("/webhooks/stripe/{}", app.chatwoot_source()), time, valid.clone()),
        ("a service without sources", &"/webhooks/stripe".to_owned(), time, valid.clone()),
        ("a service of another scheme", &"/webhooks/matrix".to_owned(), time, valid.clone()),
    ] {
        let nobody = app.nobody();
        let request = nobody
            .request(Method::POST, path)
            .header("content-type", "application/json")
            .header("x-request-id", "the-same");
        let request = request
            .header("x-chatwoot-timestamp", time.to_string())
            .header("x-chatwoot-signature", signature);
        let answer = nobody.send(request.body(body.clone())).await;
        assert_eq!(answer.problem(401), "webhooks.refused", "{what}");
        answers.push(answer.body.clone());
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "the answers tell nothing apart");
    // Signed, and still not one of Chatwoot's events.
    for body in ["", "{", "[]", "{}", r#"{"event":"message_created"}"#, "\u{0}"] {
        let nobody = app.nobody();
        let request = nobody.request(Method::POST, &own).header("content-type", "application/json");
        let request = request
            .header("x-chatwoot-timestamp", time.to_string())
            .header("x-chatwoot-signature", sign(&secret, time, body));
        let answer = nobody.send(request.body(body)).await;
        assert_eq!(answer.problem(400), "webhooks.unreadable", "{body:?}");
    }
    let nobody = app.nobody();
    let large = nobody
        .request(Method::POST, &own)
        .header("content-type", "application/json")
        .body("a".repeat(1024 * 1024 + 1));
    assert_eq!(nobody.send(large).await.problem(413), "too_large");
    assert_eq!(app.row_counts().await, before);
}
