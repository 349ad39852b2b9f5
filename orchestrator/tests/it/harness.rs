//! What the tests share beside [`chancery::testing`].

use chancery::testing::{ACME, Client, TestApp};
use serde_json::{Value, json};

/// Requests an approval at acme's and gives it.
pub async fn approval(client: &Client, title: &str) -> Value {
    client.post("/approvals", &json!({ "tenantId": ACME, "title": title })).await.expect(201)
}

/// The path of something in a list's path: `/approvals/<id>`.
pub fn path(list: &str, thing: &Value) -> String {
    format!("{list}/{}", thing["id"].as_str().expect("it has an id"))
}

/// The actions that the CEO sees in the trail of one thing, newest first.
pub async fn trail(app: &TestApp, kind: &str, thing: &Value) -> Vec<String> {
    let id = thing["id"].as_str().expect("it has an id");
    let page = app.ceo().get(&format!("/audit/resource/{kind}/{id}")).await.expect(200);
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["action"].as_str().unwrap().to_owned())
        .collect()
}
