use chancery::testing::{ACME, TestApp};
use serde_json::json;

use crate::harness::{approval, path, trail};

#[tokio::test]
async fn an_approval_is_requested_read_and_decided() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    let created =
        agent.post("/approvals", &json!({ "tenantId": ACME, "title": "Refund", "priority": "high" })).await;
    let requested = created.expect(201);
    assert_eq!(created.header("etag"), "\"1\"");
    assert_eq!(
        created.header("location"),
        format!("/api/v1/approvals/{}", requested["id"].as_str().unwrap())
    );
    let path = path("/approvals", &requested);
    assert_eq!(ceo.get(&path).await.expect(200), requested);
    app.run_jobs().await;
    let _ = (approval(&agent, "x").await, trail(&app, "approval", &requested).await);
    app.run_jobs().await;
}
