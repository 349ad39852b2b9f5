//! Sources of webhooks: made, changed, given new secrets and removed, by the API and at the command line.

use std::process::{Command, Output, Stdio};

use aws_lc_rs::hmac;
use chancery::{
    clock::{Clock as _, SystemClock},
    testing::{ACME, Answer, Client, GLOBEX, TestApp},
};
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::harness::{id, items, pass, path};

const BODY: &str = r#"{"action":"opened","repository":{"full_name":"acme/site"}}"#;

fn owner(app: &TestApp) -> Client {
    app.add_person("acme-owner", &["/organizations/acme-corp/owners"])
}

fn github(tenant: &str) -> Value {
    json!({ "tenantId": tenant, "service": "github", "name": "Site", "scheme": { "type": "preset", "name": "github" } })
}

async fn delete(client: &Client, path: &str) -> Answer {
    client.send(client.request(Method::DELETE, path)).await
}

/// Posts what GitHub would, signed with this secret.
async fn push(app: &TestApp, source: &Value, secret: &str, body: &str) -> Answer {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = format!("sha256={}", hex::encode(hmac::sign(&key, body.as_bytes())));
    let nobody = app.nobody();
    let request = nobody
        .request(Method::POST, &format!("/webhooks/github/{}", id(source)))
        .header("content-type", "application/json")
        .header("x-hub-signature-256", signature)
        .header("x-github-event", "issues");
    nobody.send(request.body(body.to_owned())).await
}

/// The actions in the trail about a source, oldest first, as the database has them.
async fn trail(app: &TestApp, source: &Value) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT action FROM audit_logs WHERE resource = 'webhook_source' AND resource_id = $1 ORDER BY id",
    )
    .bind(id(source))
    .fetch_all(app.superuser())
    .await
    .unwrap()
}

#[tokio::test]
async fn a_secret_that_is_made_is_shown_once_and_verifies() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let answer = owner.post("/sources", &github(ACME)).await;
    let made = answer.expect(201);
    let secret = made["secret"].as_str().unwrap().to_owned();
    assert!(secret.len() >= 43);
    assert_eq!((made["state"].as_str(), made["version"].as_i64()), (Some("active"), Some(1)));
    assert_eq!(made["path"], format!("/api/v1/webhooks/github/{}", id(&made)));
    assert_eq!(made["challengeToken"], Value::Null);
    assert_eq!(answer.header("location"), format!("/api/v1/sources/{}", id(&made)));
    assert_eq!((answer.header("etag"), answer.header("cache-control")), ("\"1\"", "no-store"));

    // Nobody reads it again: not here, not in the trail, not in the database.
    let shown = owner.get(&path("/sources", &made)).await;
    assert_eq!(shown.expect(200)["secrets"].as_array().unwrap().len(), 1);
    let listed = owner.get("/sources").await;
    for text in [&shown.body, &listed.body] {
        assert!(!String::from_utf8_lossy(text).contains(&secret));
    }
    let sealed: Vec<Vec<u8>> = sqlx::query_scalar("SELECT sealed FROM webhook_source_secrets")
        .fetch_all(app.superuser())
        .await
        .unwrap();
    assert!(sealed.iter().all(|sealed| !sealed.windows(secret.len()).any(|part| part == secret.as_bytes())));
    let entries: Vec<Value> = sqlx::query_scalar("SELECT to_jsonb(audit_logs) FROM audit_logs")
        .fetch_all(app.superuser())
        .await
        .unwrap();
    assert!(entries.iter().all(|entry| !entry.to_string().contains(&secret)));

    assert_eq!(push(&app, &made, &secret, BODY).await.expect(200)["duplicate"], false);
    assert_eq!(push(&app, &made, &secret, BODY).await.expect(200)["duplicate"], true);
    assert_eq!(push(&app, &made, "another", BODY).await.problem(401), "webhooks.refused");
    assert_eq!(
        app.count("SELECT count(*) FROM inbox_events WHERE service = 'github' AND type = 'issues'").await,
        1
    );
    assert_eq!(trail(&app, &made).await, ["webhook_source.registered"]);
    app.run_jobs().await;
}

#[tokio::test]
async fn while_a_secret_is_replaced_both_count_and_then_the_new_one_alone() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let mut new = github(ACME);
    new["secret"] = json!("the first of all secrets");
    let made = owner.post("/sources", &new).await.expect(201);
    // What somebody gave needn't be shown to them.
    assert_eq!(made["secret"], Value::Null);
    let secrets = format!("{}/secrets", path("/sources", &made));
    let first = "the first of all secrets";
    push(&app, &made, first, "{\"n\":1}").await.expect(200);

    let rotated = owner.post(&secrets, &json!({ "graceSeconds": 60 })).await;
    assert_eq!(rotated.header("cache-control"), "no-store");
    let rotated = rotated.expect(201);
    let second = rotated["value"].as_str().unwrap().to_owned();
    for (secret, body) in [(first, "{\"n\":2}"), (&second, "{\"n\":3}")] {
        push(&app, &made, secret, body).await.expect(200);
    }
    pass(&app, 59);
    push(&app, &made, first, "{\"n\":4}").await.expect(200);
    pass(&app, 1);
    assert_eq!(push(&app, &made, first, "{\"n\":5}").await.problem(401), "webhooks.refused");
    push(&app, &made, &second, "{\"n\":6}").await.expect(200);

    // At once, and the one that had ended is gone.
    let third = "the third, from the tool itself";
    let rotated = owner.post(&secrets, &json!({ "value": third, "graceSeconds": 0 })).await.expect(201);
    assert_eq!(rotated["value"], Value::Null);
    assert_eq!(push(&app, &made, &second, "{\"n\":7}").await.problem(401), "webhooks.refused");
    push(&app, &made, third, "{\"n\":8}").await.expect(200);
    let shown = owner.get(&path("/sources", &made)).await.expect(200);
    assert_eq!((shown["secrets"].as_array().unwrap().len(), &shown["version"]), (1, &json!(3)));

    // Taken away, nothing is taken any more.
    delete(&owner, &format!("{secrets}/{}", id(&rotated))).await.expect(204);
    assert_eq!(push(&app, &made, third, "{\"n\":9}").await.problem(401), "webhooks.refused");
    assert_eq!(delete(&owner, &format!("{secrets}/{}", id(&rotated))).await.problem(404), "not_found");
    pass(&app, 1);
    assert_eq!(
        trail(&app, &made).await,
        [
            "webhook_source.registered",
            "webhook_source.secret_rotated",
            "webhook_source.secret_rotated",
            "webhook_source.secret_revoked",
        ]
    );
    app.run_jobs().await;
}

#[tokio::test]
async fn a_source_that_is_paused_or_removed_is_like_an_unknown_one() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let mut new = github(ACME);
    new["account"] = json!("acme");
    let made = owner.post("/sources", &new).await.expect(201);
    let secret = made["secret"].as_str().unwrap();
    let at = path("/sources", &made);
    assert_eq!(owner.post("/sources", &new).await.problem(409), "sources.account_taken");

    let paused = owner.patch(&at, &json!({ "state": "paused" })).await.expect(200);
    assert_eq!((&paused["state"], &paused["version"]), (&json!("paused"), &json!(2)));
    let refused = push(&app, &made, secret, BODY).await;
    assert_eq!(refused.problem(401), "webhooks.refused");
    assert_eq!(items(&owner, "/sources?service=github&state=paused").await.len(), 1);
    assert_eq!(items(&owner, "/sources?service=github&state=active").await.len(), 0);
    owner.patch(&at, &json!({ "state": "active" })).await.expect(200);
    push(&app, &made, secret, BODY).await.expect(200);

    // What was read before is old; the answer says which it is.
    let stale = owner.request(Method::DELETE, &at).header("if-match", "\"1\"");
    assert_eq!(owner.send(stale).await.problem(412), "stale");
    let current = owner.request(Method::DELETE, &at).header("if-match", "\"3\"");
    owner.send(current).await.expect(204);
    assert_eq!(push(&app, &made, secret, BODY).await.problem(401), "webhooks.refused");
    for answer in
        [owner.get(&at).await, owner.patch(&at, &json!({ "name": "N" })).await, delete(&owner, &at).await]
    {
        assert_eq!(answer.problem(404), "not_found");
    }
    assert_eq!(items(&owner, "/sources?service=github").await.len(), 0);
    assert_eq!(app.count("SELECT count(*) FROM webhook_source_secrets JOIN webhook_sources ON source_id = webhook_sources.id WHERE state = 'removed'").await, 0);
    // Its account is free for another.
    assert_ne!(id(&owner.post("/sources", &new).await.expect(201)), id(&made));
    app.run_jobs().await;
}

#[tokio::test]
async fn what_changes_nothing_leaves_no_trace_and_a_scheme_must_fit_the_secrets() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let made = owner.post("/sources", &github(ACME)).await.expect(201);
    let at = path("/sources", &made);
    let same =
        owner.patch(&at, &json!({ "name": " Site ", "state": "active", "limit": null })).await.expect(200);
    assert_eq!(same["version"], 1);
    let limit = json!({ "requests": 5, "seconds": 60 });
    let changed = owner.patch(&at, &json!({ "name": "Shop", "limit": limit })).await.expect(200);
    assert_eq!(
        (&changed["name"], &changed["limit"], &changed["version"]),
        (&json!("Shop"), &limit, &json!(2))
    );
    // A secret of 32 bytes in base64url is none of Standard Webhooks'.
    let refused =
        owner.patch(&at, &json!({ "scheme": { "type": "hmac", "header": "x", "key": "whsec" } })).await;
    assert_eq!((refused.problem(422).as_str(), refused.pointers()), ("invalid", vec!["/scheme".to_owned()]));
    let other = json!({ "type": "hmac", "header": "x-signature", "encoding": "base64" });
    let changed = owner.patch(&at, &json!({ "scheme": other })).await.expect(200);
    assert_eq!(changed["scheme"]["header"], "x-signature");
    pass(&app, 1);
    assert_eq!(
        trail(&app, &made).await,
        ["webhook_source.registered", "webhook_source.updated", "webhook_source.updated"]
    );
    let values: Value = sqlx::query_scalar(
        "SELECT new_values FROM audit_logs WHERE action = 'webhook_source.updated' ORDER BY id LIMIT 1",
    )
    .fetch_one(app.superuser())
    .await
    .unwrap();
    assert_eq!(values, json!({ "name": "Shop", "limit": limit }));
}

#[tokio::test]
async fn an_owner_names_no_account_of_chatwoot_which_could_be_anothers() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let of = |tenant: &str| json!({ "tenantId": tenant, "service": "chatwoot", "account": "9", "scheme": { "type": "chatwoot" } });
    let problem = owner.post("/sources", &of(ACME)).await;
    assert_eq!((problem.problem(422).as_str(), problem.pointers()), ("invalid", vec!["/scheme".to_owned()]));
    app.suite_admin().post("/sources", &of("/suite")).await.expect(201);
}

#[tokio::test]
async fn what_makes_no_sense_is_pointed_at() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let hmac = |settings: Value| {
        let mut scheme = json!({ "type": "hmac", "header": "x" });
        scheme.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        scheme
    };
    let chatwoot = json!({ "type": "chatwoot" });
    for (change, pointers) in [
        (json!({ "service": "Git Hub" }), &["/service"][..]),
        (json!({ "service": "-github" }), &["/service"]),
        (json!({ "service": "" }), &["/service", "/name"]),
        (json!({ "name": "x".repeat(201) }), &["/name"]),
        (json!({ "account": "" }), &["/account"]),
        (json!({ "limit": { "requests": 0, "seconds": 0 } }), &["/limit/requests", "/limit/seconds"]),
        (json!({ "scheme": { "type": "preset", "name": "unknown" } }), &["/scheme/name"]),
        (json!({ "scheme": { "type": "telepathy" } }), &["/scheme"]),
        (json!({ "scheme": hmac(json!({ "signed": "{timestamp}.{body}" })) }), &["/scheme/timestamp"]),
        (json!({ "scheme": hmac(json!({ "key": "hex" })), "secret": "xyz" }), &["/secret"]),
        (json!({ "scheme": chatwoot }), &["/scheme", "/account"]),
        (json!({ "service": "chatwoot", "account": "1" }), &["/scheme"]),
        (json!({ "service": "chatwoot", "scheme": chatwoot, "account": "x" }), &["/account"]),
        (json!({ "service": "matrix", "scheme": { "type": "matrix" } }), &["/account"]),
        (json!({ "secret": "" }), &["/secret"]),
        (json!({ "other": 1 }), &["/other"]),
    ] {
        let mut new = github(ACME);
        new.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        if change == json!({ "service": "" }) {
            new["name"] = json!("");
        }
        let refused = owner.post("/sources", &new).await;
        assert_eq!(
            (refused.problem(422).as_str(), refused.pointers()),
            ("invalid", pointers.iter().map(ToString::to_string).collect()),
            "{change}"
        );
    }
    let made = owner.post("/sources", &github(ACME)).await.expect(201);
    let secrets = format!("{}/secrets", path("/sources", &made));
    for (new, pointer) in [
        (json!({ "graceSeconds": 2_592_001 }), "/graceSeconds"),
        (json!({ "purpose": "challenge" }), "/purpose"),
        (json!({ "value": "" }), "/value"),
    ] {
        let refused = owner.post(&secrets, &new).await;
        assert_eq!(
            (refused.problem(422).as_str(), refused.pointers()),
            ("invalid", vec![pointer.to_owned()]),
            "{new}"
        );
    }
    // No more than a rotation has.
    for _ in 0..9 {
        owner.post(&secrets, &json!({})).await.expect(201);
    }
    assert_eq!(owner.post(&secrets, &json!({})).await.pointers(), ["/value"]);
    // Only Stripe makes its secrets.
    let mut stripe = github(ACME);
    stripe["scheme"] = json!({ "type": "preset", "name": "stripe" });
    let stripe = owner.post("/sources", &stripe).await.expect(201);
    assert_eq!((&stripe["secret"], &stripe["secrets"]), (&Value::Null, &json!([])));
    let refused = owner.post(&format!("{}/secrets", path("/sources", &stripe)), &json!({})).await;
    assert_eq!(refused.pointers(), ["/value"]);
}

#[tokio::test]
async fn what_belongs_to_the_suite_is_for_who_runs_it() {
    let app = TestApp::start().await;
    let (owner, admin, outsider) = (owner(&app), app.suite_admin(), app.outsider());
    let own = owner.post("/sources", &github(ACME)).await.expect(201);
    let made = admin.post("/sources", &github("/suite")).await.expect(201);
    assert_eq!(made["tenantId"], "00000000-0000-0000-0000-000000000000");
    let at = path("/sources", &made);
    // By its path, by its UUID, and among all.
    for list in
        ["/sources?tenantId=/suite", "/sources?tenantId=00000000-0000-0000-0000-000000000000", "/sources"]
    {
        let found = items(&admin, list).await;
        assert_eq!(found.iter().map(id).collect::<Vec<_>>(), [id(&made)], "{list}");
    }
    admin.patch(&at, &json!({ "name": "Everybody's" })).await.expect(200);
    let secret = made["secret"].as_str().unwrap();
    push(&app, &made, secret, BODY).await.expect(200);
    app.run_jobs().await;
    assert_eq!(
        app.count(
            "SELECT count(*) FROM inbox_events WHERE tenant_id = '00000000-0000-0000-0000-000000000000'"
        )
        .await,
        1
    );

    // What was done to it is in the suite's own trail.
    for list in ["/audit?tenantId=/suite".to_owned(), format!("/audit/resource/webhook_source/{}", id(&made))]
    {
        let found = items(&admin, &list).await;
        let actions: Vec<_> = found.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["webhook_source.updated", "webhook_source.registered"], "{list}");
    }

    // Nobody else is there: not an owner, not by naming it.
    for client in [&owner, &outsider] {
        assert_eq!(client.get(&at).await.problem(404), "not_found");
        assert_eq!(client.patch(&at, &json!({ "name": "Mine" })).await.problem(404), "not_found");
        assert_eq!(client.get("/sources?tenantId=/suite").await.problem(404), "not_found");
        assert_eq!(client.get("/audit?tenantId=/suite").await.problem(404), "not_found");
        assert_eq!(client.get("/events?tenantId=/suite").await.problem(404), "not_found");
        assert_eq!(client.post("/sources", &github("/suite")).await.problem(404), "not_found");
    }
    assert_eq!(items(&owner, "/sources").await.len(), 3);
    // And who runs the suite is a stranger in its tenants.
    assert_eq!(admin.get(&path("/sources", &own)).await.problem(404), "not_found");
    assert_eq!(admin.get(&format!("/sources?tenantId={ACME}")).await.problem(404), "not_found");
    // The suite has nothing else.
    assert_eq!(admin.get("/approvals?tenantId=/suite").await.problem(403), "forbidden");
    let approval = json!({ "tenantId": "/suite", "title": "A" });
    assert_eq!(admin.post("/approvals", &approval).await.problem(403), "forbidden");
    assert_eq!(
        admin.get("/tenants/00000000-0000-0000-0000-000000000000/settings").await.problem(403),
        "forbidden"
    );
    // Comparing with Keycloak leaves it alone.
    assert!(!app.state().directory.group_tenants().await.unwrap().iter().any(|tenant| tenant.0.is_nil()));
}

#[tokio::test]
async fn who_may_see_a_source_is_told_of_what_becomes_of_it() {
    let app = TestApp::start().await;
    let (owner, ceo, admin) = (owner(&app), app.ceo(), app.suite_admin());
    let mut of_owner = owner.events(ACME, None).await;
    let mut of_ceo = ceo.events(ACME, None).await;
    let mut of_suite = admin.events("/suite", None).await;
    for stream in [&mut of_owner, &mut of_ceo, &mut of_suite] {
        assert_eq!(stream.next().await.unwrap().name, "hello");
    }
    for (client, tenant, stream) in [(&owner, ACME, &mut of_owner), (&admin, "/suite", &mut of_suite)] {
        let made = client.post("/sources", &github(tenant)).await.expect(201);
        let at = path("/sources", &made);
        client.patch(&at, &json!({ "state": "paused" })).await.expect(200);
        // What changes nothing is no news.
        client.patch(&at, &json!({ "state": "paused" })).await.expect(200);
        let rotated = client.post(&format!("{at}/secrets"), &json!({})).await.expect(201);
        delete(client, &format!("{at}/secrets/{}", id(&rotated))).await.expect(204);
        delete(client, &at).await.expect(204);
        for expected in
            ["source.created", "source.updated", "source.updated", "source.updated", "source.deleted"]
        {
            let event = stream.next().await.unwrap();
            assert_eq!((event.name.as_str(), &event.data["id"]), (expected, &made["id"]), "{tenant}");
        }
    }
    // Who may not see sources hears of the next thing only.
    let requested = crate::harness::approval(&app.agent(), "A").await;
    let next = of_ceo.next().await.unwrap();
    assert_eq!((next.name.as_str(), &next.data["id"]), ("approval.created", &requested["id"]));
    app.run_jobs().await;
}

#[tokio::test]
async fn lists_go_on_where_they_ended() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let mut made = Vec::new();
    for _ in 0..3 {
        pass(&app, 1);
        made.insert(0, id(&owner.post("/sources", &github(ACME)).await.expect(201)).to_owned());
    }
    let first = owner.get("/sources?service=github&limit=2").await.expect(200);
    let cursor = first["nextCursor"].as_str().unwrap();
    let second = owner.get(&format!("/sources?service=github&limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!(second["nextCursor"], Value::Null);
    let found: Vec<&str> =
        [&first, &second].iter().flat_map(|page| page["items"].as_array().unwrap()).map(id).collect();
    assert_eq!(found, made);
    assert_eq!(items(&owner, &format!("/sources?tenantId={ACME}")).await.len(), 5);
    assert_eq!(owner.get(&format!("/sources?tenantId={GLOBEX}")).await.problem(404), "not_found");
}

#[tokio::test]
async fn a_source_has_a_limit_of_its_own_besides_the_common_one() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let mut new = github(ACME);
    new["limit"] = json!({ "requests": 2, "seconds": 60 });
    let made = owner.post("/sources", &new).await.expect(201);
    let secret = made["secret"].as_str().unwrap();
    let other = owner.post("/sources", &github(ACME)).await.expect(201);
    for number in 0..2 {
        push(&app, &made, secret, &format!("{{\"n\":{number}}}")).await.expect(200);
    }
    let refused = push(&app, &made, secret, "{\"n\":2}").await;
    assert_eq!((refused.problem(429).as_str(), refused.header("retry-after")), ("rate_limited", "30"));
    // The others go on, and so does this one when there is something again, or another limit.
    push(&app, &other, other["secret"].as_str().unwrap(), BODY).await.expect(200);
    pass(&app, 30);
    push(&app, &made, secret, "{\"n\":2}").await.expect(200);
    push(&app, &made, secret, "{\"n\":3}").await.expect(429);
    owner.patch(&path("/sources", &made), &json!({ "limit": null })).await.expect(200);
    push(&app, &made, secret, "{\"n\":3}").await.expect(200);
    app.run_jobs().await;
}

/// Runs `chancery inbox source …` beside the server, on its database.
async fn chancery(app: &TestApp, arguments: &[&str], input: &str) -> Result<String, String> {
    chancery_inbox(app, &[&["source"], arguments].concat(), input).await
}

/// Runs `chancery inbox …` beside the server, on its database.
pub async fn chancery_inbox(app: &TestApp, arguments: &[&str], input: &str) -> Result<String, String> {
    run_chancery(app, &[&["inbox"], arguments].concat(), input).await
}

/// Runs `chancery …` beside the server, on its database and with its Chatwoot.
pub async fn run_chancery(app: &TestApp, arguments: &[&str], input: &str) -> Result<String, String> {
    let output = output_of_chancery(app, arguments, input).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The same with all that it says and what it exits with.
pub async fn output_of_chancery(app: &TestApp, arguments: &[&str], input: &str) -> Output {
    let config = &app.state().config;
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command
        .args(arguments)
        .env_clear()
        .env("CHANCERY__DATABASE__URL", config.database.url.expose_secret())
        .env("CHANCERY__DATABASE__WORKER_URL", config.database.worker_url.expose_secret())
        .env("CHANCERY__CRYPTO__KEY_FILE", &config.crypto.key_file)
        .env("CHANCERY__KEYCLOAK__URL", &config.keycloak.url)
        .env("CHANCERY__KEYCLOAK__SYNC_CLIENT_SECRET", config.keycloak.sync_client_secret.expose_secret())
        .env("CHANCERY__CHATWOOT__PLATFORM_TOKEN", config.chatwoot.platform_token.expose_secret())
        .env("CHANCERY__CHATWOOT__URL", &config.chatwoot.url)
        .env("CHANCERY__CHATWOOT__TOKEN", config.chatwoot.token.expose_secret())
        .env("CHANCERY__HTTP__PUBLIC_URL", config.http.public_url.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let input = input.to_owned();
    let output = tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    output.await.unwrap()
}

#[tokio::test]
async fn who_operates_the_server_manages_sources_at_the_command_line() {
    let app = TestApp::start().await;
    // The program goes by the machine's clock.
    app.clock().set(SystemClock.now());
    let read = |text: Result<String, String>| serde_json::from_str::<Value>(&text.unwrap()).unwrap();
    let add = ["add", "--tenant", ACME, "--service", "github", "--scheme", "github", "--json"];
    let made = read(chancery(&app, &add, "").await);
    let secret = made["secret"].as_str().unwrap();
    let expected = format!("{}api/v1/webhooks/github/{}", app.state().config.http.public_url, id(&made));
    assert_eq!(made["url"], expected);
    push(&app, &made, secret, "{\"n\":1}").await.expect(200);

    // A new secret from the standard input, and none for people who read the list of processes.
    let rotate = ["rotate", id(&made), "--secret", "-", "--grace-seconds", "0", "--json"];
    let rotated = read(chancery(&app, &rotate, "the new secret\n").await);
    assert_eq!((id(&rotated), &rotated["secret"]), (id(&made), &Value::Null));
    let disabled = read(chancery(&app, &["disable", id(&made), "--json"], "").await);
    assert_eq!(disabled["state"], "paused");
    let listed = read(chancery(&app, &["list", "--tenant", ACME, "--json"], "").await);
    let found = listed["items"].as_array().unwrap().iter().find(|source| id(source) == id(&made)).unwrap();
    assert_eq!((&found["state"], &found["url"]), (&json!("paused"), &made["url"]));
    chancery(&app, &["enable", id(&made)], "").await.unwrap();
    let text = chancery(&app, &["list"], "").await.unwrap();
    assert!(text.contains(id(&made)) && text.contains(&app.chatwoot_source().to_string()), "{text}");
    // The server remembers a source for five seconds.
    let mut answer = push(&app, &made, "the new secret", "{\"n\":2}").await;
    for _ in 0..100 {
        if answer.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        answer = push(&app, &made, "the new secret", "{\"n\":2}").await;
    }
    answer.expect(200);
    chancery(&app, &["remove", id(&made)], "").await.unwrap();
    assert_eq!(
        trail(&app, &made).await,
        [
            "webhook_source.registered",
            "webhook_source.secret_rotated",
            "webhook_source.updated",
            "webhook_source.updated",
            "webhook_source.removed",
        ]
    );

    // For people, and of the suite.
    let scheme = r#"{"type":"hmac","header":"X-Sig","encoding":"base64"}"#;
    let text = chancery(&app, &["add", "--tenant", "suite", "--service", "own", "--scheme", scheme], "")
        .await
        .unwrap();
    assert!(text.contains("URL  http") && text.contains("which is not shown again"), "{text}");
    for (arguments, said) in [
        (&["add", "--tenant", "/nowhere", "--service", "s", "--scheme", "bearer"][..], "no tenant /nowhere"),
        (&["add", "--tenant", ACME, "--service", "s", "--scheme", "nonsense"], "no scheme nonsense"),
        (&["add", "--tenant", ACME, "--service", "S", "--scheme", "bearer"], "service must have"),
        (&["rotate", "0b000000-0000-4000-8000-0000000000ff"], "no source 0b000000"),
        (&["rotate", id(&made)], "no source"),
    ] {
        let error = chancery(&app, arguments, "").await.unwrap_err();
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
    app.run_jobs().await;
}
