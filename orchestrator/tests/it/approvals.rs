use std::collections::BTreeSet;

use chancery::{
    approvals::{self, NewApproval, Priority},
    auth::PrincipalSource as _,
    testing::{ACME, Answer, Client, TestApp},
};
use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{approval, id, items, pass, path, trail};

const APPROVERS: &str = "/organizations/acme-corp/approvers";
const AGENTS: &str = "/organizations/acme-corp/agents";

#[tokio::test]
async fn an_approval_is_requested_read_and_approved() {
    let app = TestApp::start().await;
    // It is urgent: whoever decides has confirmed who they are.
    let (agent, ceo) = (app.agent(), app.confirmed("acme-ceo"));
    let body = json!({
        "tenantId": ACME, "title": "  Refund of 1,200 EUR ", "description": "It came broken.", "priority": "high",
        "metadata": { "amount": 1200 }, "source": { "service": "crm", "link": "https://crm.example/7" },
    });
    let created = agent.post("/approvals", &body).await;
    let requested = created.expect(201);
    assert_eq!(
        (created.header("etag"), created.header("location")),
        ("\"1\"", format!("/api/v1{}", path("/approvals", &requested)).as_str())
    );
    assert_eq!(requested["title"], "Refund of 1,200 EUR");
    assert_eq!(
        (&requested["status"], &requested["version"], &requested["decidedAt"]),
        (&json!("pending"), &json!(1), &Value::Null)
    );
    assert_eq!(requested["requestedBy"], app.user("acme-agent").to_string());
    let path = path("/approvals", &requested);
    assert_eq!(ceo.get(&path).await.expect(200), requested);

    pass(&app, 60);
    let approved = ceo.patch(&path, &json!({ "status": "approved", "comment": "With an apology." })).await;
    let after = approved.expect(200);
    assert_eq!(approved.header("etag"), "\"2\"");
    assert_eq!(
        (&after["status"], &after["version"], &after["comment"]),
        (&json!("approved"), &json!(2), &json!("With an apology."))
    );
    assert_eq!(after["approvedBy"], app.user("acme-ceo").to_string());
    assert_eq!(after["decidedAt"], json!(app.now()));
    assert_eq!(agent.get(&path).await.expect(200), after);
    assert_eq!(trail(&app, "approval", &requested).await, ["approval.requested", "approval.approved"]);
    app.run_jobs().await;
}

#[tokio::test]
async fn a_rejected_approval_stays_rejected_and_makes_no_consultation() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    let requested = agent
        .post("/approvals", &json!({ "tenantId": ACME, "title": "A", "consultationRequested": true }))
        .await
        .expect(201);
    let path = path("/approvals", &requested);
    let refused = ceo.patch(&path, &json!({ "status": "rejected", "consultation": true })).await;
    assert_eq!(
        (refused.problem(422).as_str(), refused.pointers()),
        ("invalid", vec!["/consultation".to_owned()])
    );
    let after = ceo.patch(&path, &json!({ "status": "rejected", "comment": " " })).await.expect(200);
    assert_eq!((&after["status"], &after["comment"]), (&json!("rejected"), &Value::Null));
    assert_eq!(
        ceo.patch(&path, &json!({ "status": "approved" })).await.problem(409),
        "approvals.already_decided"
    );
    assert_eq!(
        agent.patch(&path, &json!({ "status": "cancelled" })).await.problem(409),
        "approvals.already_decided"
    );
    assert!(items(&ceo, "/consultations").await.is_empty());
    app.run_jobs().await;
}

async fn decide_if(client: &Client, path: &str, tag: &'static str) -> Answer {
    let request =
        client.request(Method::PATCH, path).header("if-match", tag).json(&json!({ "status": "approved" }));
    client.send(request).await
}

#[tokio::test]
async fn a_decision_on_an_old_version_is_refused_and_a_weakened_tag_is_accepted() {
    let app = TestApp::start().await;
    let ceo = app.ceo();
    let path = path("/approvals", &approval(&app.agent(), "A").await);
    for stale in ["\"0\"", "\"2\"", "W/\"7\"", "\"unknown\""] {
        assert_eq!(decide_if(&ceo, &path, stale).await.problem(412), "stale", "{stale}");
    }
    let malformed = decide_if(&ceo, &path, "1").await;
    assert_eq!(
        (malformed.problem(422), malformed.pointers()),
        ("invalid".to_owned(), vec!["If-Match".to_owned()])
    );
    decide_if(&ceo, &path, "W/\"1\"").await.expect(200);
    // What is decided is decided, whatever version was expected.
    for tag in ["\"1\"", "\"2\"", "\"9\"", "*"] {
        assert_eq!(decide_if(&ceo, &path, tag).await.problem(409), "approvals.already_decided", "{tag}");
    }
    app.run_jobs().await;
}

#[tokio::test]
async fn nobody_decides_an_own_request() {
    let app = TestApp::start().await;
    let ceo = app.ceo();
    // Alone with the right to decide, the CEO can't even ask.
    let body = json!({ "tenantId": ACME, "title": "A" });
    assert_eq!(ceo.post("/approvals", &body).await.problem(422), "approvals.no_approver");
    let deputy = app.add_person("acme-deputy", &[APPROVERS]);
    deputy.get("/me").await.expect(200);
    let path = path("/approvals", &ceo.post("/approvals", &body).await.expect(201));
    for status in ["approved", "rejected"] {
        assert_eq!(
            ceo.patch(&path, &json!({ "status": status })).await.problem(403),
            "approvals.own_request"
        );
    }
    deputy.patch(&path, &json!({ "status": "approved" })).await.expect(200);
    app.run_jobs().await;
}

#[tokio::test]
async fn in_ones_personal_tenant_there_is_nobody_to_ask() {
    let app = TestApp::start().await;
    let agent = app.agent();
    agent.get("/me").await.expect(200);
    let before = app.row_counts().await;
    let body = json!({ "tenantId": app.user("acme-agent"), "title": "A" });
    assert_eq!(agent.post("/approvals", &body).await.problem(422), "approvals.no_approver");
    assert_eq!(app.row_counts().await, before);
}

#[tokio::test]
async fn a_conversation_has_one_pending_approval_at_a_time() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    let body = |title: &str| json!({ "tenantId": ACME, "title": title, "source": { "service": "crm", "account": "1", "conversation": "26" } });
    let first = agent.post("/approvals", &body("A")).await.expect(201);
    let second = agent.post("/approvals", &body("B")).await;
    assert_eq!(second.problem(409), "approvals.already_pending");
    assert_eq!(second.json()["approvalId"], first["id"]);
    ceo.patch(&path("/approvals", &first), &json!({ "status": "rejected" })).await.expect(200);
    agent.post("/approvals", &body("C")).await.expect(201);
    app.run_jobs().await;
}

#[tokio::test]
async fn of_twenty_escalations_at_once_one_is_pending() {
    let app = TestApp::start().await;
    let agent = app.agent();
    let body = json!({ "tenantId": ACME, "title": "A", "source": { "service": "crm", "account": "1", "conversation": "26" } });
    let answers = futures::future::join_all((0..20).map(|_| agent.post("/approvals", &body))).await;
    let created: Vec<Value> =
        answers.iter().filter(|answer| answer.status == 201).map(Answer::json).collect();
    assert_eq!(created.len(), 1);
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(refused.problem(409), "approvals.already_pending");
        assert_eq!(refused.json()["approvalId"], created[0]["id"]);
    }
    app.run_jobs().await;
}

#[tokio::test]
async fn only_who_requested_it_cancels_it() {
    let app = TestApp::start().await;
    let agent = app.agent();
    let colleague = app.add_person("acme-colleague", &[AGENTS]);
    let requested = approval(&agent, "A").await;
    let path = path("/approvals", &requested);
    for other in [colleague, app.ceo(), app.viewer()] {
        assert_eq!(other.patch(&path, &json!({ "status": "cancelled" })).await.problem(403), "forbidden");
    }
    pass(&app, 1);
    let after = agent.patch(&path, &json!({ "status": "cancelled", "comment": "Solved." })).await.expect(200);
    assert_eq!(
        (&after["status"], &after["approvedBy"], &after["comment"]),
        (&json!("cancelled"), &Value::Null, &json!("Solved."))
    );
    assert_eq!(
        app.ceo().patch(&path, &json!({ "status": "approved" })).await.problem(409),
        "approvals.already_decided"
    );
    assert_eq!(trail(&app, "approval", &requested).await, ["approval.requested", "approval.cancelled"]);
    app.run_jobs().await;
}

#[tokio::test]
async fn an_approval_expires_on_time_and_is_then_decided() {
    let app = TestApp::start().await;
    let agent = app.agent();
    let at = app.now() + chrono::TimeDelta::hours(1);
    let requested = agent
        .post("/approvals", &json!({ "tenantId": ACME, "title": "A", "expiresAt": at }))
        .await
        .expect(201);
    let path = path("/approvals", &requested);
    pass(&app, 3599);
    app.run_jobs().await;
    let ceo = app.ceo();
    assert_eq!(ceo.get(&path).await.expect(200)["status"], "pending");
    pass(&app, 1);
    // Its time is over, though the job hasn't run yet.
    assert_eq!(
        ceo.patch(&path, &json!({ "status": "approved" })).await.problem(409),
        "approvals.already_decided"
    );
    app.run_jobs().await;
    let expired = ceo.get(&path).await.expect(200);
    assert_eq!(
        (&expired["status"], &expired["version"], &expired["decidedAt"]),
        (&json!("expired"), &json!(2), &json!(at))
    );
    assert_eq!(
        ceo.patch(&path, &json!({ "status": "approved" })).await.problem(409),
        "approvals.already_decided"
    );
    let entries = items(&ceo, "/audit?action=approval.expired").await;
    assert_eq!((entries.len(), &entries[0]["userId"]), (1, &Value::Null));
}

#[tokio::test]
async fn what_was_decided_in_time_does_not_expire() {
    let app = TestApp::start().await;
    let at = app.now() + chrono::TimeDelta::hours(1);
    let requested = app
        .agent()
        .post("/approvals", &json!({ "tenantId": ACME, "title": "A", "expiresAt": at }))
        .await
        .expect(201);
    let path = path("/approvals", &requested);
    app.ceo().patch(&path, &json!({ "status": "approved" })).await.expect(200);
    pass(&app, 7200);
    app.run_jobs().await;
    assert_eq!(app.ceo().get(&path).await.expect(200)["status"], "approved");
    assert_eq!(
        app.count("SELECT count(*) FROM jobs WHERE kind = 'approvals.expire' AND state = 'cancelled'").await,
        1
    );
}

#[tokio::test]
async fn an_approval_makes_the_consultation_that_was_asked_for_or_that_the_decider_wants() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    // Asked for or not, what the decider says, whether there is one.
    for (asked, said, made) in
        [(true, None, true), (true, Some(false), false), (false, Some(true), true), (false, None, false)]
    {
        let body = json!({ "tenantId": ACME, "title": "A", "consultationRequested": asked });
        let requested = agent.post("/approvals", &body).await.expect(201);
        let decision = match said {
            Some(said) => json!({ "status": "approved", "consultation": said }),
            None => json!({ "status": "approved" }),
        };
        ceo.patch(&path("/approvals", &requested), &decision).await.expect(200);
        let all = items(&ceo, "/consultations").await;
        let about = all
            .iter()
            .filter(|consultation| consultation["approvalId"] == requested["id"])
            .collect::<Vec<_>>();
        assert_eq!(about.len(), usize::from(made), "asked: {asked}, said: {said:?}");
        for consultation in about {
            assert_eq!(consultation["hostId"], app.user("acme-ceo").to_string());
            assert_eq!(consultation["participantIds"], json!([app.user("acme-agent")]));
            assert_eq!(trail(&app, "consultation", consultation).await, ["consultation.created"]);
        }
    }
    app.run_jobs().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_decisions_at_once_exactly_one_wins() {
    let app = TestApp::start().await;
    let approvers = [app.ceo(), app.add_person("acme-deputy", &[APPROVERS])];
    for approver in &approvers {
        approver.get("/me").await.expect(200);
    }
    let requested = approval(&app.agent(), "A").await;
    let path = path("/approvals", &requested);
    let begin = std::sync::Arc::new(tokio::sync::Barrier::new(100));
    let tasks: Vec<_> = (0..100)
        .map(|number| {
            let (approver, path, begin) = (approvers[number % 2].clone(), path.clone(), begin.clone());
            let status = if number % 3 == 0 { "rejected" } else { "approved" };
            tokio::spawn(async move {
                begin.wait().await;
                approver.patch(&path, &json!({ "status": status, "comment": number.to_string() })).await
            })
        })
        .collect();
    let mut won = Vec::new();
    for task in tasks {
        let answer = task.await.unwrap();
        if answer.status == 200 {
            won.push(answer.json());
        } else {
            assert_eq!(answer.problem(409), "approvals.already_decided");
        }
    }
    assert_eq!(won.len(), 1);
    // What the winner was told is what stands there, and it happened once.
    assert_eq!(app.ceo().get(&path).await.expect(200), won[0]);
    assert_eq!(won[0]["version"], 2);
    assert_eq!(
        app.count(
            "SELECT count(*) FROM audit_logs WHERE action IN ('approval.approved', 'approval.rejected')"
        )
        .await,
        1
    );
    assert_eq!(app.count("SELECT count(*) FROM events WHERE type = 'approval.decided'").await, 1);
    app.run_jobs().await;
}

/// All that is written of an approval, without what is its own.
async fn written(app: &TestApp, approval: &str) -> Value {
    let text: String = sqlx::query_scalar(
        "SELECT jsonb_build_object(
             'approval', (SELECT to_jsonb(approvals) - 'source_conversation' FROM approvals WHERE id::text = $1),
             'entries', (SELECT jsonb_agg(to_jsonb(audit_logs) - 'id' #- '{new_values,source,conversation}') FROM audit_logs WHERE resource_id = $1),
             'events', (SELECT jsonb_agg(to_jsonb(events) - 'sequence') FROM events WHERE resource_id::text = $1),
             'jobs', (SELECT jsonb_agg(to_jsonb(jobs) - '{id,traceparent,tracestate}'::text[] ORDER BY kind) FROM jobs WHERE payload->>'approvalId' = $1)
         )::text",
    )
    .bind(approval)
    .fetch_one(app.superuser())
    .await
    .unwrap();
    serde_json::from_str(&text.replace(approval, "<id>")).unwrap()
}

#[tokio::test]
async fn a_request_by_one_statement_writes_what_one_by_several_does() {
    let app = TestApp::start().await;
    let expires_at = app.now() + TimeDelta::hours(1);
    let source = |conversation: &str| json!({ "service": "shop", "account": "1", "conversation": conversation, "message": "9", "link": "https://shop.example/9" });
    let at_once = app
        .agent()
        .post(
            "/approvals",
            &json!({
                "tenantId": ACME, "title": "A", "description": "B", "priority": "high", "metadata": { "order": 1182 },
                "source": source("7"), "consultationRequested": true, "expiresAt": expires_at,
            }),
        )
        .await
        .expect(201);

    let agent = app.state().directory.principal(app.user("acme-agent")).await.unwrap();
    let mut tx = app.state().database.tenant_tx(agent).await.unwrap();
    let new = NewApproval {
        title: "A".to_owned(),
        description: "B".to_owned(),
        priority: Priority::High,
        metadata: json!({ "order": 1182 }),
        source: serde_json::from_value(source("8")).unwrap(),
        conversation_id: None,
        consultation_requested: true,
        expires_at: Some(expires_at),
    };
    let step_by_step = approvals::request(&mut tx, app.tenant(ACME), new).await.unwrap();
    tx.commit().await.unwrap();

    let written_at_once = written(&app, id(&at_once)).await;
    assert_eq!(written_at_once, written(&app, &step_by_step.id.to_string()).await);
    for (table, rows) in [("entries", 1), ("events", 1), ("jobs", 2)] {
        assert_eq!(written_at_once[table].as_array().unwrap().len(), rows, "{table}");
    }
    assert_eq!(at_once["source"], source("7"));
    pass(&app, 3601);
    app.run_jobs().await;
}

async fn request_with_key(client: &Client, key: &str, title: &str) -> Answer {
    let request = client.request(Method::POST, "/approvals").header("idempotency-key", key);
    client.send(request.json(&json!({ "tenantId": ACME, "title": title }))).await
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_answer_and_does_nothing() {
    let app = TestApp::start().await;
    let agent = app.agent();
    let first = request_with_key(&agent, "k1", "A").await;
    first.expect(201);
    let before = app.row_counts().await;
    pass(&app, 60);
    for key in ["k1", "\"k1\""] {
        let again = request_with_key(&agent, key, "A").await;
        assert_eq!((again.status, &again.body), (201, &first.body));
        assert_eq!(
            (again.header("etag"), again.header("location")),
            (first.header("etag"), first.header("location"))
        );
        assert_eq!(again.header("idempotency-replayed"), "true");
    }
    assert_eq!(request_with_key(&agent, "k1", "B").await.problem(422), "idempotency.key_reused");
    assert_eq!(app.row_counts().await, before);
    // The key is the sender's own, and for a day.
    let deputy = app.add_person("acme-colleague", &[AGENTS]);
    assert_ne!(request_with_key(&deputy, "k1", "A").await.expect(201)["id"], first.json()["id"]);
    pass(&app, 24 * 3600);
    assert_ne!(request_with_key(&app.agent(), "k1", "A").await.expect(201)["id"], first.json()["id"]);
    app.run_jobs().await;
}

#[tokio::test]
async fn a_key_of_a_refused_request_can_be_used_again() {
    let app = TestApp::start().await;
    let agent = app.agent();
    request_with_key(&agent, "k1", "").await.problem(422);
    request_with_key(&agent, "k1", "A").await.expect(201);
    app.run_jobs().await;
}

#[tokio::test]
async fn of_twenty_requests_with_one_key_at_once_one_is_done() {
    let app = TestApp::start().await;
    let agent = app.agent();
    let answers = futures::future::join_all((0..20).map(|_| request_with_key(&agent, "k1", "A"))).await;
    let mut ids = BTreeSet::new();
    for answer in answers {
        if answer.status == 201 {
            ids.insert(id(&answer.json()).to_owned());
        } else {
            assert_eq!(answer.problem(409), "idempotency.in_progress");
        }
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(app.count("SELECT count(*) FROM approvals").await, 1);
    app.run_jobs().await;
}

#[tokio::test]
async fn paging_is_complete_and_stable_while_new_ones_come() {
    let app = TestApp::start().await;
    let (agent, viewer) = (app.agent(), app.viewer());
    let mut expected = Vec::new();
    for number in 0..23 {
        pass(&app, 1);
        expected.insert(0, id(&approval(&agent, &format!("A{number}")).await).to_owned());
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page =
            viewer.get(&format!("/approvals?tenantId={ACME}&limit=5&cursor={cursor}")).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|approval| id(approval).to_owned()));
        pass(&app, 1);
        approval(&agent, "New").await;
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = next.to_owned();
    }
    assert_eq!(seen, expected);
    app.run_jobs().await;
}

#[tokio::test]
async fn a_list_has_what_is_asked_for() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.confirmed("acme-ceo"));
    let mut titles = Vec::new();
    for (title, priority, status) in [
        ("A", "low", "approved"),
        ("B", "high", "pending"),
        ("C", "high", "rejected"),
        ("D", "medium", "pending"),
    ] {
        pass(&app, 1);
        let requested = agent
            .post("/approvals", &json!({ "tenantId": ACME, "title": title, "priority": priority }))
            .await
            .expect(201);
        if status != "pending" {
            ceo.patch(&path("/approvals", &requested), &json!({ "status": status })).await.expect(200);
        }
        titles.push(title);
    }
    for (query, found) in [
        ("", "DCBA"),
        ("status=pending", "DB"),
        ("priority=high", "CB"),
        ("status=pending&priority=high", "B"),
        ("status=expired", ""),
        // A form's unused filters.
        ("status=&priority=&cursor=&limit=", "DCBA"),
        ("limit=3", "DCB"),
    ] {
        let found_titles: String = items(&ceo, &format!("/approvals?{query}"))
            .await
            .iter()
            .map(|one| one["title"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(found_titles, found, "{query}");
    }
    // Of all one's tenants, but nobody else's.
    assert!(items(&app.outsider(), "/approvals").await.is_empty());
    app.run_jobs().await;
}
