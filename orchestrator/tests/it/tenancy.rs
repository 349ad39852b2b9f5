//! Every operation of the API's description, tried without a token, as a stranger, in a role that may not, and as one who
//! may. The operations come from the description: one that is new and has no sample here fails the test.

use std::collections::BTreeMap;

use chancery::testing::{ACME, Answer, Client, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{approval, chatwoot_conversation, id, message_created, signed_in};

/// Operations that take no access token, because who calls proves itself otherwise. This list only shrinks.
const WITHOUT_ACCESS_TOKEN: [&str; 7] = [
    "answerWebhookChallenge",
    "consentToWebhooks",
    "receiveMatrixPing",
    "receiveMatrixTransaction",
    "receiveWebhook",
    "receiveWebhookBelow",
    "receiveWebhookFromOnlySource",
];

/// Operations that are about the caller alone, so that nobody is a stranger to them. This list only shrinks.
const ABOUT_ONESELF: [&str; 1] = ["getMe"];

#[derive(Debug, Clone)]
struct Operation {
    id: String,
    method: Method,
    path: String,
    takes_token: bool,
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(chancery::http::openapi::document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
            let Some(id) = operation["operationId"].as_str() else { continue };
            let takes_token = operation["security"].as_array().is_some_and(|schemes| !schemes.is_empty());
            operations.push(Operation { id: id.to_owned(), method, path: path.clone(), takes_token });
        }
    }
    assert!(operations.len() >= 20, "the description has operations");
    operations
}

/// A request about a subject, which stands in the path or the body as `{subject}`.
struct Sample {
    path: String,
    body: Option<Value>,
    /// The real one: an id, or a tenant.
    subject: String,
    /// Somebody of the tenant whose role doesn't allow it, and what they get.
    wrong_role: (Client, u16),
    /// Somebody who may, and what they get.
    own: (Client, u16),
}

impl Sample {
    async fn send(&self, operation: &Operation, client: &Client, subject: &str) -> Answer {
        let request = client.request(operation.method.clone(), &self.path.replace("{subject}", subject));
        let request = request.header("x-request-id", "the-same-for-all");
        let request = match &self.body {
            Some(body) => {
                let body = body.to_string().replace("{subject}", subject);
                request.header("content-type", "application/json").body(body)
            }
            None => request,
        };
        client.send(request).await
    }
}

/// A sample of each operation, each with a subject of its own, so that none changes what another needs.
async fn samples(app: &TestApp) -> BTreeMap<&'static str, Sample> {
    let (agent, ceo, viewer, automation) = (app.agent(), app.ceo(), app.viewer(), app.automation());
    // In the tenant, and in none of its roles.
    let member = app.add_person("acme-member", &[ACME]);
    let owner = app.add_person("acme-owner", &["/organizations/acme-corp/owners"]);
    let consultation = || async {
        let made = ceo.post("/consultations", &json!({ "tenantId": ACME, "title": "C" })).await.expect(201);
        id(&made).to_owned()
    };
    let active = consultation().await;
    ceo.post(&format!("/consultations/{active}/start"), &json!({})).await.expect(200);
    let requested = id(&approval(&agent, "A").await).to_owned();
    let to_decide = id(&approval(&agent, "B").await).to_owned();
    let (mirrored_number, mirrored) = chatwoot_conversation(app).await;
    let mirrored = id(&mirrored).to_owned();
    app.run_jobs().await;
    let received =
        id(&app.deliver(&message_created(app, mirrored_number, 4_711, "Hello")).await.expect(200)).to_owned();
    let mut of_another_account = message_created(app, mirrored_number, 4_712, "Hello");
    of_another_account["account"]["id"] = json!(2);
    let dead = id(&app.deliver(&of_another_account).await.expect(200)).to_owned();
    app.run_jobs().await;
    // What is dead by the end of the test is meant to be.
    app.leave_jobs();
    let acme = app.tenant(ACME).to_string();
    let new_source = json!({ "tenantId": ACME, "service": "github", "scheme": { "type": "bearer" } });
    let source = async || owner.post("/sources", &new_source).await.expect(201);
    let admin = app.suite_admin();
    let of_suite = json!({ "tenantId": "/suite", "service": "chatwoot", "account": "7", "scheme": { "type": "chatwoot" } });
    let of_suite = id(&admin.post("/sources", &of_suite).await.expect(201)).to_owned();
    let mapping = format!("/sources/{of_suite}/mappings/3");
    admin.put(&mapping, &json!({ "tenantId": ACME })).await.expect(200);
    // The path of a secret, which is that of its source and its own id.
    let with_secret = source().await;
    let secret = format!("{}/secrets/{}", id(&with_secret), id(&with_secret["secrets"][0]));
    // Two whose sign-ins an owner ends: one of the first's, all of the other's.
    let (first, other) = (app.user("acme-agent"), app.user("acme-viewer"));
    signed_in(app, "acme-agent").await;
    signed_in(app, "acme-viewer").await;
    let of_first = app.state().sessions.of_user(first).await.unwrap();
    let one_session = format!("/tenants/{{subject}}/members/{first}/sessions/{}", of_first[0].0.handle());
    let all_sessions = format!("/tenants/{{subject}}/members/{other}/sessions");
    let new = json!({ "tenantId": ACME, "url": "http://127.0.0.1:9/", "eventTypes": ["settings.updated"] });
    let endpoint = id(&owner.post("/endpoints", &new).await.expect(201)).to_owned();
    let removed = id(&owner.post("/endpoints", &new).await.expect(201)).to_owned();
    let endpoints = format!("/endpoints/{endpoint}");
    let delivery = owner.post(&format!("{endpoints}/test"), &json!({})).await.expect(202);
    let delivery = id(&delivery).to_owned();
    sqlx::query(
        "UPDATE webhook_deliveries SET state = 'failed', next_attempt_at = NULL, finished_at = created_at",
    )
    .execute(app.superuser())
    .await
    .unwrap();
    let new_module = json!({
        "tenantId": ACME, "name": "Wiki", "icon": "book", "url": "https://wiki.example.org/", "opens": "tab",
    });
    let module = async || id(&owner.post("/modules", &new_module).await.expect(201)).to_owned();
    let (shown_module, removed_module) = (module().await, module().await);
    let deliveries = format!("{endpoints}/deliveries/{{subject}}");
    let redeliver = format!("{deliveries}/redeliver");
    let sample =
        |path: &str, body: Value, subject: &str, wrong_role: (&Client, u16), own: (&Client, u16)| Sample {
            path: path.to_owned(),
            body: (!body.is_null()).then_some(body),
            subject: subject.to_owned(),
            wrong_role: (wrong_role.0.clone(), wrong_role.1),
            own: (own.0.clone(), own.1),
        };
    let none = || Value::Null;
    let entry = json!({ "tenantId": "{subject}", "action": "a", "resource": "r", "resourceId": "1" });
    BTreeMap::from([
        (
            "listApprovals",
            sample("/approvals?tenantId={subject}", none(), &acme, (&member, 403), (&viewer, 200)),
        ),
        (
            "createApproval",
            sample(
                "/approvals",
                json!({ "tenantId": "{subject}", "title": "A" }),
                &acme,
                (&viewer, 403),
                (&agent, 201),
            ),
        ),
        // Who may not even read it can't be told that it is there.
        ("getApproval", sample("/approvals/{subject}", none(), &requested, (&member, 404), (&viewer, 200))),
        (
            "updateApproval",
            sample(
                "/approvals/{subject}",
                json!({ "status": "approved" }),
                &to_decide,
                (&viewer, 403),
                (&ceo, 200),
            ),
        ),
        ("listAudit", sample("/audit?tenantId={subject}", none(), &acme, (&agent, 403), (&ceo, 200))),
        ("appendAudit", sample("/audit", entry, &acme, (&agent, 403), (&automation, 201))),
        (
            "listResourceAudit",
            sample("/audit/resource/approval/{subject}", none(), &requested, (&agent, 404), (&ceo, 200)),
        ),
        // Whoever belongs to the tenant reads those that they take part in: a member's list is empty.
        (
            "listConsultations",
            sample("/consultations?tenantId={subject}", none(), &acme, (&member, 200), (&viewer, 200)),
        ),
        (
            "createConsultation",
            sample(
                "/consultations",
                json!({ "tenantId": "{subject}", "title": "C" }),
                &acme,
                (&agent, 403),
                (&ceo, 201),
            ),
        ),
        (
            "getConsultation",
            sample("/consultations/{subject}", none(), &active, (&member, 404), (&viewer, 200)),
        ),
        (
            "listAttendance",
            sample("/consultations/{subject}/attendance", none(), &active, (&member, 404), (&viewer, 200)),
        ),
        (
            "startConsultation",
            sample(
                "/consultations/{subject}/start",
                none(),
                &consultation().await,
                (&viewer, 403),
                (&ceo, 200),
            ),
        ),
        (
            "joinConsultation",
            sample(
                "/consultations/{subject}/join",
                none(),
                &consultation().await,
                (&viewer, 403),
                (&ceo, 200),
            ),
        ),
        (
            "endConsultation",
            sample("/consultations/{subject}/end", none(), &active, (&viewer, 403), (&ceo, 200)),
        ),
        (
            "cancelConsultation",
            sample(
                "/consultations/{subject}/cancel",
                none(),
                &consultation().await,
                (&viewer, 403),
                (&ceo, 200),
            ),
        ),
        (
            "listConversations",
            sample("/conversations?tenantId={subject}", none(), &acme, (&member, 403), (&viewer, 200)),
        ),
        (
            "getConversation",
            sample("/conversations/{subject}", none(), &mirrored, (&member, 404), (&viewer, 200)),
        ),
        (
            "escalateConversation",
            sample(
                "/conversations/{subject}/escalate",
                json!({ "reason": "R" }),
                &mirrored,
                (&viewer, 403),
                (&agent, 201),
            ),
        ),
        // Everybody of the tenant may listen; what they hear depends on their role.
        ("streamEvents", sample("/events?tenantId={subject}", none(), &acme, (&member, 200), (&viewer, 200))),
        (
            "getTenantSettings",
            sample("/tenants/{subject}/settings", none(), &acme, (&ceo, 403), (&owner, 200)),
        ),
        (
            "updateTenantSettings",
            sample(
                "/tenants/{subject}/settings",
                json!({ "stepUp": { "maxAgeSeconds": 120 } }),
                &acme,
                (&ceo, 403),
                (&owner, 200),
            ),
        ),
        (
            "listWebhookSources",
            sample("/sources?tenantId={subject}", none(), &acme, (&ceo, 403), (&owner, 200)),
        ),
        (
            "createWebhookSource",
            sample(
                "/sources",
                json!({ "tenantId": "{subject}", "service": "github", "scheme": { "type": "bearer" } }),
                &acme,
                (&ceo, 403),
                (&owner, 201),
            ),
        ),
        // Who may not even read it can't be told that it is there.
        (
            "getWebhookSource",
            sample("/sources/{subject}", none(), id(&source().await), (&ceo, 404), (&owner, 200)),
        ),
        (
            "updateWebhookSource",
            sample(
                "/sources/{subject}",
                json!({ "name": "N" }),
                id(&source().await),
                (&ceo, 404),
                (&owner, 200),
            ),
        ),
        (
            "deleteWebhookSource",
            sample("/sources/{subject}", none(), id(&source().await), (&ceo, 404), (&owner, 204)),
        ),
        (
            "createWebhookSourceSecret",
            sample("/sources/{subject}/secrets", json!({}), id(&source().await), (&ceo, 404), (&owner, 201)),
        ),
        (
            "deleteWebhookSourceSecret",
            sample("/sources/{subject}", none(), &secret, (&ceo, 404), (&owner, 204)),
        ),
        // What belongs to the suite is unknown to everybody in a tenant.
        (
            "listWebhookSourceMappings",
            sample("/sources/{subject}/mappings", none(), &of_suite, (&ceo, 404), (&admin, 200)),
        ),
        (
            "putWebhookSourceMapping",
            sample(
                "/sources/{subject}/mappings/4",
                json!({ "tenantId": ACME }),
                &of_suite,
                (&owner, 404),
                (&admin, 200),
            ),
        ),
        (
            "deleteWebhookSourceMapping",
            sample("/sources/{subject}/mappings/3", none(), &of_suite, (&owner, 404), (&admin, 204)),
        ),
        (
            "listTenantSessions",
            sample("/tenants/{subject}/sessions", none(), &acme, (&ceo, 403), (&owner, 200)),
        ),
        ("endMemberSession", sample(&one_session, none(), &acme, (&ceo, 403), (&owner, 204))),
        ("endMemberSessions", sample(&all_sessions, none(), &acme, (&ceo, 403), (&owner, 204))),
        (
            "listInboxEvents",
            sample("/inbox/events?tenantId={subject}", none(), &acme, (&ceo, 403), (&owner, 200)),
        ),
        // Who may not even read it can't be told that it is there.
        ("getInboxEvent", sample("/inbox/events/{subject}", none(), &received, (&ceo, 404), (&owner, 200))),
        (
            "replayInboxEvent",
            sample("/inbox/events/{subject}/replay", none(), &received, (&ceo, 404), (&owner, 200)),
        ),
        (
            "discardInboxEvent",
            sample(
                "/inbox/events/{subject}/discard",
                json!({ "reason": "R" }),
                &dead,
                (&ceo, 404),
                (&owner, 200),
            ),
        ),
        (
            "replayInbox",
            sample(
                "/inbox/replay",
                json!({ "tenantId": "{subject}", "state": "dead" }),
                &acme,
                (&ceo, 403),
                (&owner, 200),
            ),
        ),
        ("listEndpoints", sample("/endpoints?tenantId={subject}", none(), &acme, (&ceo, 403), (&owner, 200))),
        (
            "createEndpoint",
            sample(
                "/endpoints",
                json!({ "tenantId": "{subject}", "url": "http://127.0.0.1:9/", "eventTypes": ["*"] }),
                &acme,
                (&ceo, 403),
                (&owner, 201),
            ),
        ),
        ("getEndpoint", sample("/endpoints/{subject}", none(), &endpoint, (&ceo, 404), (&owner, 200))),
        (
            "updateEndpoint",
            sample(
                "/endpoints/{subject}",
                json!({ "description": "D" }),
                &endpoint,
                (&ceo, 404),
                (&owner, 200),
            ),
        ),
        ("deleteEndpoint", sample("/endpoints/{subject}", none(), &removed, (&ceo, 404), (&owner, 204))),
        (
            "rotateEndpointSecret",
            sample("/endpoints/{subject}/rotate-secret", json!({}), &endpoint, (&ceo, 404), (&owner, 200)),
        ),
        ("testEndpoint", sample("/endpoints/{subject}/test", none(), &endpoint, (&ceo, 404), (&owner, 202))),
        (
            "redeliverFailed",
            sample(
                "/endpoints/{subject}/redeliver",
                json!({ "since": app.now() + chrono::TimeDelta::seconds(1) }),
                &endpoint,
                (&ceo, 404),
                (&owner, 202),
            ),
        ),
        (
            "listDeliveries",
            sample("/endpoints/{subject}/deliveries", none(), &endpoint, (&ceo, 404), (&owner, 200)),
        ),
        ("getDelivery", sample(&deliveries, none(), &delivery, (&ceo, 404), (&owner, 200))),
        ("redeliver", sample(&redeliver, none(), &delivery, (&ceo, 404), (&owner, 202))),
        ("listModules", sample("/modules?tenantId={subject}", none(), &acme, (&ceo, 403), (&owner, 200))),
        (
            "createModule",
            sample(
                "/modules",
                json!({
                    "tenantId": "{subject}", "name": "Wiki", "icon": "book", "url": "https://wiki.example.org/", "opens": "tab",
                }),
                &acme,
                (&ceo, 403),
                (&owner, 201),
            ),
        ),
        ("getModule", sample("/modules/{subject}", none(), &shown_module, (&ceo, 404), (&owner, 200))),
        (
            "updateModule",
            sample("/modules/{subject}", json!({ "name": "N" }), &shown_module, (&ceo, 404), (&owner, 200)),
        ),
        ("deleteModule", sample("/modules/{subject}", none(), &removed_module, (&ceo, 404), (&owner, 204))),
        // Whoever belongs to the tenant finds something there.
        (
            "getNavigation",
            sample("/navigation?tenantId={subject}", none(), &acme, (&member, 200), (&viewer, 200)),
        ),
        ("getMe", sample("/me", none(), "", (&member, 200), (&viewer, 200))),
    ])
}

/// What a client can tell an answer by: everything but the date, and what is left of its own quota.
fn told(answer: &Answer) -> impl PartialEq {
    let headers = answer
        .headers
        .iter()
        .filter(|(name, _)| !["date", "ratelimit"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    (answer.status, headers.collect::<Vec<_>>(), answer.body.to_vec())
}

#[tokio::test]
async fn each_operation_answers_each_kind_of_caller_as_it_must() {
    let app = TestApp::start().await;
    let samples = Box::pin(samples(&app)).await;
    let (nobody, outsider) = (app.nobody(), app.outsider());
    outsider.get("/me").await.expect(200);
    let unknown = "0b000000-0000-4000-8000-0000000000ff";
    let mut wrong = Vec::new();
    for operation in operations() {
        let name = operation.id.as_str();
        if WITHOUT_ACCESS_TOKEN.contains(&name) {
            continue;
        }
        let Some(sample) = samples.get(name) else {
            wrong.push(format!("{name} ({} {}) is new: give it a sample", operation.method, operation.path));
            continue;
        };
        let check = |wrong: &mut Vec<String>, who: &str, answer: &Answer, status: u16| {
            if answer.status != status {
                wrong.push(format!(
                    "{name}, {who}: {} instead of {status}: {}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                ));
            }
        };
        let real = sample.subject.as_str();
        // Before anybody does it, so that it is what it was for all who are refused.
        let without_token = sample.send(&operation, &nobody, real).await;
        check(&mut wrong, "without a token", &without_token, 401);
        assert_eq!(without_token.header("www-authenticate"), "Bearer", "{name}");
        let before = app.row_counts().await;
        if !ABOUT_ONESELF.contains(&name) {
            let stranger = sample.send(&operation, &outsider, real).await;
            let of_unknown = sample.send(&operation, &outsider, unknown).await;
            check(&mut wrong, "a stranger", &stranger, 404);
            if told(&stranger) != told(&of_unknown) {
                wrong.push(format!("{name}: a stranger can tell what exists: {stranger:?} {of_unknown:?}"));
            }
            let own_unknown = sample.send(&operation, &sample.own.0, unknown).await;
            if told(&stranger) != told(&own_unknown) {
                wrong.push(format!("{name}: a stranger's answer is not that for what doesn't exist: {stranger:?} {own_unknown:?}"));
            }
        }
        let refused = sample.send(&operation, &sample.wrong_role.0, real).await;
        check(&mut wrong, "in a wrong role", &refused, sample.wrong_role.1);
        if app.row_counts().await != before && !ABOUT_ONESELF.contains(&name) {
            // The member is read from Keycloak when it first calls.
            let again = app.row_counts().await;
            sample.send(&operation, &outsider, real).await;
            sample.send(&operation, &sample.wrong_role.0, real).await;
            assert_eq!(app.row_counts().await, again, "{name}: a refused request left something behind");
        }
        check(&mut wrong, "who may", &sample.send(&operation, &sample.own.0, real).await, sample.own.1);
    }
    for sample in samples.keys() {
        assert!(
            operations().iter().any(|operation| operation.id == *sample),
            "{sample} is not an operation any more"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    app.run_jobs().await;
}

#[tokio::test]
async fn a_member_without_a_role_hears_and_lists_nothing_of_the_tenant() {
    let app = TestApp::start().await;
    let member = app.add_person("acme-member", &[ACME]);
    let mut heard = member.events(ACME, None).await;
    assert_eq!(heard.next().await.unwrap().name, "hello");
    approval(&app.agent(), "A").await;
    let listed = member.get(&format!("/consultations?tenantId={ACME}")).await.expect(200);
    assert_eq!(listed["items"], json!([]));
    assert_eq!(heard.next_within(std::time::Duration::from_millis(300)).await, None);
    app.run_jobs().await;
}

#[tokio::test]
async fn the_same_operations_are_under_both_paths() {
    let app = TestApp::start().await;
    let requested = approval(&app.agent(), "A").await;
    let viewer = app.viewer();
    for prefix in ["/api", "/api/v1"] {
        let url = format!("http://{}{prefix}/approvals/{}", app.addresses().chancery, id(&requested));
        let answer = reqwest::Client::new().get(url).bearer_auth(viewer.token()).send().await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap(), requested);
    }
    app.run_jobs().await;
}

#[tokio::test]
async fn each_exception_is_still_needed() {
    let app = TestApp::start().await;
    let operations = operations();
    let find = |name: &str| {
        operations
            .iter()
            .find(|operation| operation.id == name)
            .unwrap_or_else(|| panic!("{name} is gone"))
            .clone()
    };
    for name in WITHOUT_ACCESS_TOKEN {
        let operation = find(name);
        assert!(!operation.takes_token, "{name} takes a token");
        let path = operation
            .path
            .replace("{service}", "chatwoot")
            .replace("{source}", &app.chatwoot_source().to_string())
            .replace("{txnId}", "1");
        let nobody = app.nobody();
        let answer = nobody.send(nobody.request(operation.method, &path)).await;
        // 405: whether somebody consents to webhooks is no question of who asks.
        assert!(
            [401, 403, 405].contains(&answer.status),
            "{name} is closed to who proves nothing: {}",
            answer.status
        );
        assert_ne!(answer.json()["code"], "unauthorised", "{name} asks for an access token");
    }
    for name in ABOUT_ONESELF {
        assert!(!find(name).path.contains('{'), "{name} is about something else");
        assert_eq!(app.outsider().get(&find(name).path).await.status, 200);
    }
    for operation in &operations {
        assert_eq!(
            operation.takes_token,
            !WITHOUT_ACCESS_TOKEN.contains(&operation.id.as_str()),
            "{}",
            operation.id
        );
    }
}
