use chancery::testing::{ACME, TestApp};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::harness::{approval, conversation, id, items, pass, path};

/// Everything that a command may change, as text.
async fn snapshot(app: &TestApp) -> String {
    let mut text = format!("{:?}", app.row_counts().await);
    for table in ["approvals", "consultations", "conversations", "event_streams", "jobs"] {
        let sql =
            format!("SELECT coalesce(string_agg(row::text, '|' ORDER BY row::text), '') FROM {table} AS row");
        text +=
            &sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch_one(app.superuser()).await.unwrap();
    }
    text
}

async fn forbid_entries(app: &TestApp, login: &str) {
    let sql = format!("REVOKE INSERT ON audit_logs FROM {}", app.role(login));
    app.superuser().execute(AssertSqlSafe(sql)).await.unwrap();
}

#[tokio::test]
async fn a_change_that_cannot_be_recorded_does_not_happen() {
    let app = TestApp::start().await;
    let (agent, ceo, automation) = (app.agent(), app.ceo(), app.automation());
    let pending = path("/approvals", &approval(&agent, "A").await);
    let conversation = path("/conversations", &conversation(&app, 26).await);
    let new = json!({ "tenantId": ACME, "title": "C" });
    let scheduled = path("/consultations", &ceo.post("/consultations", &new).await.expect(201));
    let active = path("/consultations", &ceo.post("/consultations", &new).await.expect(201));
    ceo.post(&format!("{active}/start"), &json!({})).await.expect(200);
    automation.get("/me").await.expect(200);
    app.run_jobs().await;

    forbid_entries(&app, "app").await;
    let before = snapshot(&app).await;
    let entry = json!({ "tenantId": ACME, "action": "a", "resource": "r", "resourceId": "1" });
    for (client, method, path, body) in [
        (&agent, Method::POST, "/approvals".to_owned(), new.clone()),
        (&agent, Method::PATCH, pending.clone(), json!({ "status": "cancelled" })),
        (&ceo, Method::PATCH, pending.clone(), json!({ "status": "rejected" })),
        (&ceo, Method::PATCH, pending, json!({ "status": "approved", "consultation": true })),
        (&agent, Method::POST, format!("{conversation}/escalate"), json!({ "reason": "Refund" })),
        (&ceo, Method::POST, "/consultations".to_owned(), new),
        (&ceo, Method::POST, format!("{scheduled}/start"), json!({})),
        (&ceo, Method::POST, format!("{scheduled}/cancel"), json!({})),
        (&ceo, Method::POST, format!("{active}/end"), json!({})),
        (&ceo, Method::POST, format!("{active}/join"), json!({})),
        (&automation, Method::POST, "/audit".to_owned(), entry),
    ] {
        let answer = client.send(client.request(method, &path).json(&body)).await;
        assert_eq!(answer.problem(500), "internal", "{path}");
        assert_eq!(snapshot(&app).await, before, "{path}");
    }
}

#[tokio::test]
async fn an_expiry_that_cannot_be_recorded_does_not_happen() {
    let app = TestApp::start().await;
    let body =
        json!({ "tenantId": ACME, "title": "A", "expiresAt": app.now() + chrono::TimeDelta::hours(1) });
    let requested = app.agent().post("/approvals", &body).await.expect(201);
    app.run_jobs().await;
    pass(&app, 3600);
    forbid_entries(&app, "worker").await;
    app.run_jobs().await;
    assert_eq!(app.ceo().get(&path("/approvals", &requested)).await.expect(200)["status"], "pending");
    // Once it can be recorded, it happens.
    let sql = format!("GRANT INSERT ON audit_logs TO {}", app.role("worker"));
    app.superuser().execute(AssertSqlSafe(sql)).await.unwrap();
    pass(&app, 60);
    app.run_jobs().await;
    assert_eq!(app.ceo().get(&path("/approvals", &requested)).await.expect(200)["status"], "expired");
}

#[tokio::test]
async fn neither_login_can_change_or_remove_an_entry() {
    let app = TestApp::start().await;
    approval(&app.agent(), "A").await;
    app.run_jobs().await;
    let tenant = app.tenant(ACME);
    for mut login in [app.app_login().await, app.worker_login().await] {
        login
            .execute(AssertSqlSafe(format!("SELECT set_config('app.tenant_id', '{tenant}', false)")))
            .await
            .unwrap();
        let seen: i64 =
            sqlx::query_scalar("SELECT count(*) FROM audit_logs").fetch_one(&mut login).await.unwrap();
        assert!(seen > 0, "the login does see entries");
        for sql in
            ["UPDATE audit_logs SET action = 'nothing'", "DELETE FROM audit_logs", "TRUNCATE audit_logs"]
        {
            let error = login.execute(sql).await.unwrap_err();
            assert_eq!(
                error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref(),
                Some("42501"),
                "{sql}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn only_machines_add_entries_from_outside_and_these_are_marked() {
    let app = TestApp::start().await;
    let automation = app.automation();
    let entry = json!({
        "tenantId": ACME, "action": "export.finished", "resource": "export", "resourceId": "e/1",
        "newValues": { "rows": 3 }, "metadata": { "source": "chancery", "batch": 7 },
    });
    for person in [app.agent(), app.ceo(), app.viewer()] {
        assert_eq!(person.post("/audit", &entry).await.problem(403), "forbidden");
    }
    let created = automation.post("/audit", &entry).await;
    let stored = created.expect(201);
    assert_eq!(stored["metadata"], json!({ "source": "client", "batch": 7 }));
    assert_eq!(stored["userId"], app.user("service-account-chancery-automation").to_string());
    let location = created.header("location").strip_prefix("/api/v1").unwrap();
    assert_eq!(items(&app.ceo(), location).await, [stored]);
    // A machine that is in no role there is a stranger there.
    let foreign =
        json!({ "tenantId": "/organizations/globex", "action": "a", "resource": "r", "resourceId": "1" });
    assert_eq!(automation.post("/audit", &foreign).await.problem(404), "not_found");
}

#[tokio::test]
async fn the_trail_is_filtered_and_newest_first() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    for client in [&agent, &ceo] {
        client.get("/me").await.expect(200);
    }
    pass(&app, 1);
    let first = approval(&agent, "A").await;
    pass(&app, 60);
    let second = approval(&agent, "B").await;
    pass(&app, 60);
    ceo.patch(&path("/approvals", &first), &json!({ "status": "approved" })).await.expect(200);
    let about = |entries: &[Value]| -> Vec<(String, String)> {
        let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
        entries.iter().map(|entry| (text(entry, "action"), text(entry, "resourceId"))).collect()
    };
    let (requested, approved) = ("approval.requested".to_owned(), "approval.approved".to_owned());
    let (first, second) = (id(&first).to_owned(), id(&second).to_owned());
    let (asked_first, asked_second, decided) =
        ((requested.clone(), first.clone()), (requested, second), (approved, first.clone()));
    let time = |seconds: i64| {
        (app.now() - chrono::TimeDelta::seconds(seconds)).format("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    let (agent_id, ceo_id) = (app.user("acme-agent"), app.user("acme-ceo"));
    for (query, expected) in [
        (format!("tenantId={ACME}&from={}", time(120)), vec![&decided, &asked_second, &asked_first]),
        (format!("tenantId={}&from={}", app.tenant(ACME), time(60)), vec![&decided, &asked_second]),
        (format!("from={}&to={}", time(120), time(60)), vec![&asked_first]),
        ("action=approval.requested".to_owned(), vec![&asked_second, &asked_first]),
        (format!("userId={ceo_id}"), vec![&decided]),
        (format!("userId={agent_id}&to={}", time(60)), vec![&asked_first]),
        ("action=approval.reject".to_owned(), vec![]),
    ] {
        let entries = items(&ceo, &format!("/audit?{query}")).await;
        assert_eq!(about(&entries).iter().collect::<Vec<_>>(), expected, "{query}");
    }
    let of_first = items(&ceo, &format!("/audit/resource/approval/{first}")).await;
    assert_eq!(about(&of_first), [decided, asked_first]);
    assert_eq!(
        (&of_first[0]["oldValues"]["status"], &of_first[0]["newValues"]["status"]),
        (&json!("pending"), &json!("approved"))
    );
    // Who may not read the trail of acme reads none of it.
    assert_eq!(agent.get(&format!("/audit?tenantId={ACME}")).await.problem(403), "forbidden");
    assert!(items(&agent, "/audit?action=approval.requested").await.is_empty());
    app.run_jobs().await;
}

#[tokio::test]
async fn the_trail_is_paged_completely() {
    let app = TestApp::start().await;
    for number in 0..12 {
        pass(&app, 1);
        approval(&app.agent(), &format!("A{number}")).await;
    }
    app.run_jobs().await;
    let total = items(&app.ceo(), &format!("/audit?tenantId={ACME}&limit=100")).await;
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page =
            app.ceo().get(&format!("/audit?tenantId={ACME}&limit=5&cursor={cursor}")).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = next.to_owned();
    }
    assert_eq!(seen, total);
    assert!(total.len() > 12);
}

#[tokio::test]
async fn reading_leaves_no_trace() {
    let app = TestApp::start().await;
    let ceo = app.ceo();
    let requested = approval(&app.agent(), "A").await;
    let conversation = conversation(&app, 26).await;
    let consultation =
        ceo.post("/consultations", &json!({ "tenantId": ACME, "title": "C" })).await.expect(201);
    app.run_jobs().await;
    let before = snapshot(&app).await;
    for path in [
        "/me".to_owned(),
        "/approvals".to_owned(),
        path("/approvals", &requested),
        "/audit".to_owned(),
        path("/audit/resource/approval", &requested),
        "/consultations".to_owned(),
        path("/consultations", &consultation),
        "/conversations".to_owned(),
        path("/conversations", &conversation),
        "/openapi.json".to_owned(),
    ] {
        ceo.get(&path).await.expect(200);
    }
    let mut stream = ceo.events(ACME, None).await;
    assert_eq!(stream.next().await.unwrap().name, "hello");
    assert_eq!(snapshot(&app).await, before);
}
