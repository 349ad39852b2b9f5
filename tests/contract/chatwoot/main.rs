//! Chatwoot can't be run where these tests are, so its own description of its API stands in for it: every request that the
//! client sends, and every answer of the double, is held against the OpenAPI document of Chatwoot 4.15.1.
//!
//! The document isn't part of this repository: it is read beside it, and where it isn't there, the cases are told as not run.
//! Where the document is known to be wrong, [`exceptions`] says so, one finding at a time; one that no case needs any more
//! fails as well, so that the list only shrinks.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "what goes wrong in a test fails it")]

mod document;
mod exceptions;
mod stage;

use std::collections::{BTreeMap, BTreeSet};

use connector_chatwoot::{
    AccountRole, AssignTo, ChatwootClient, ChatwootSettings, ConversationFilter, ConversationStatus, NewNote,
    NewUser,
    fake::{ACCOUNT_ID, BOT_ID, FailureKind},
};
use connector_core::{Connector as _, ErrorKind};
use document::{Document, Exchange};
use exceptions::EXCEPTIONS;
use http::Method;
use serde_json::{Map, json};
use stage::Stage;

fn note(source_id: &str) -> NewNote {
    NewNote {
        content: "**Approved** by Cleo".to_owned(),
        source_id: source_id.to_owned(),
        content_attributes: Map::from_iter([("chancery".to_owned(), json!({"kind": "decision"}))]),
    }
}

async fn a_check(stage: &Stage) {
    stage.client.check().await.unwrap();
}

async fn webhooks(stage: &Stage) {
    let url = "https://chancery.test/api/v1/webhooks/chatwoot/1".parse().unwrap();
    stage.client.register_webhook(&url, "Chancery", &["message_created"]).await.unwrap();
    let all = ["message_created", "message_updated", "conversation_updated", "contact_updated"];
    let webhook = stage.client.register_webhook(&url, "Chancery", &all).await.unwrap();
    assert_eq!(webhook.subscriptions, all);
    assert_eq!(stage.client.webhooks().await.unwrap().len(), 1);
}

async fn dashboard_apps(stage: &Stage) {
    let url = "https://chancery.test/embed/chatwoot".parse().unwrap();
    let first = stage.client.register_dashboard_app("Approvals", &url).await.unwrap();
    let again = stage.client.register_dashboard_app("Decisions", &url).await.unwrap();
    assert_eq!((first.id, first.title.as_str()), (again.id, "Approvals"));
    assert_eq!(stage.client.dashboard_apps().await.unwrap(), [first]);
}

async fn login_links(stage: &Stage) {
    let conversation = stage.conversation().await;
    stage.client.login_link(5, conversation, &stage.url).await.unwrap();
    assert_eq!(
        stage.client.login_link(404, conversation, &stage.url).await.unwrap_err().kind,
        ErrorKind::Unauthorised
    );
}

async fn agents(stage: &Stage) {
    let agents = stage.client.agents().await.unwrap();
    let conversation = stage.conversation().await;
    let conversation = stage.client.conversation(conversation).await.unwrap();
    let agent = agents.iter().find(|agent| agent.id == 5).unwrap();
    assert!(stage.client.may_see(agent, &conversation).await.unwrap());
    stage.double.set_inbox_members(conversation.inbox_id.unwrap(), vec![]).unwrap();
    assert!(!stage.client.may_see(agent, &conversation).await.unwrap());
    let administrator = agents.iter().find(|agent| agent.role.as_deref() == Some("administrator")).unwrap();
    assert!(stage.client.may_see(administrator, &conversation).await.unwrap());
}

async fn people(stage: &Stage) {
    let new = NewUser {
        name: "Bea Builder".to_owned(),
        email: "Bea@acme.test".to_owned(),
        password: "Secret-1-enough".into(),
        custom_attributes: Map::from_iter([("keycloak_sub".to_owned(), json!("1"))]),
    };
    let user = stage.client.ensure_user(&new).await.unwrap();
    assert_eq!(stage.client.ensure_user(&new).await.unwrap(), user);
    stage.client.set_account_role(user.id, &AccountRole::Agent).await.unwrap();
    stage.client.set_account_role(user.id, &AccountRole::Administrator).await.unwrap();
    stage.client.update_user(user.id, "Bea", Some("bea.builder@acme.test")).await.unwrap();
    let user = stage.client.user(user.id).await.unwrap();
    assert_eq!(user.role(ACCOUNT_ID), Some(&AccountRole::Administrator));
    assert!(stage.client.account_roles().await.unwrap().contains(&(user.id, AccountRole::Administrator)));
    stage.client.set_inbox_members(1, &[5, user.id]).await.unwrap();
    assert_eq!(stage.client.inbox_members(1).await.unwrap().len(), 2);
    stage.client.unassign_open(user.id).await.unwrap();
    stage.client.remove_from_account(user.id).await.unwrap();
    assert!(stage.client.user(404).await.unwrap_err().is_not_found());
}

async fn conversations(stage: &Stage) {
    let conversation = stage.conversation().await;
    stage.client.conversation(conversation).await.unwrap();
    for filter in [
        ConversationFilter::Open,
        ConversationFilter::Resolved,
        ConversationFilter::Pending,
        ConversationFilter::Snoozed,
        ConversationFilter::All,
    ] {
        stage.client.conversations(filter, 1).await.unwrap();
    }
    assert_eq!(stage.client.conversations_updated_within(60).await.unwrap().len(), 1);
}

async fn private_notes(stage: &Stage) {
    let conversation = stage.conversation().await;
    let first = stage.client.post_private_note(conversation, &note("chancery:1:decision")).await.unwrap();
    let again = stage.client.ensure_private_note(conversation, &note("chancery:1:decision")).await.unwrap();
    assert_eq!(first.id, again.id);
    stage.client.messages_before(conversation, Some(first.id)).await.unwrap();
}

async fn a_note_that_came_out_public(stage: &Stage) {
    let conversation = stage.conversation().await;
    stage.double.fail_next(FailureKind::StoredAsPublic);
    stage.client.post_private_note(conversation, &note("chancery:1:decision")).await.unwrap_err();
    assert!(stage.exchanged(&Method::DELETE));
}

async fn attributes_and_labels(stage: &Stage) {
    let conversation = stage.conversation().await;
    let attributes = Map::from_iter([("ceo_escalation".to_owned(), json!("pending"))]);
    stage.client.merge_custom_attributes(conversation, &attributes).await.unwrap();
    stage.client.add_labels(conversation, &["escalated"]).await.unwrap();
    stage.client.conversation(conversation).await.unwrap();
}

async fn status(stage: &Stage) {
    let conversation = stage.conversation().await;
    for status in ["resolved", "pending", "snoozed", "open"].map(ConversationStatus::from) {
        assert_eq!(stage.client.set_status(conversation, &status).await.unwrap(), status);
        stage.client.conversation(conversation).await.unwrap();
    }
}

async fn assignment(stage: &Stage) {
    let conversation = stage.conversation().await;
    for to in [AssignTo::Agent(5), AssignTo::Bot(BOT_ID), AssignTo::Nobody] {
        stage.client.assign(conversation, to).await.unwrap();
        stage.client.messages_before(conversation, None).await.unwrap();
    }
    stage.client.assign(conversation, AssignTo::Team(1)).await.unwrap_err();
}

async fn refusals(stage: &Stage) {
    let conversation = stage.conversation().await;
    let wrong = ChatwootSettings::new(stage.url.clone(), ACCOUNT_ID, "wrong".into());
    let wrong = ChatwootClient::new(&wrong).unwrap();
    assert_eq!(wrong.conversation(conversation).await.unwrap_err().kind, ErrorKind::Unauthorised);
    assert_eq!(wrong.webhooks().await.unwrap_err().kind, ErrorKind::Unauthorised);
    assert!(stage.client.conversation(404).await.unwrap_err().is_not_found());
    let url = "https://chancery.test/".parse().unwrap();
    stage.client.register_webhook(&url, "x", &["no_such"]).await.unwrap_err();
    for failure in [FailureKind::ServerError, FailureKind::Throttled] {
        stage.double.fail_next(failure);
        stage.client.create_private_note(conversation, &note("1")).await.unwrap_err();
    }
}

/// Runs each case on a stage of its own; answers the findings, and by which cases.
async fn findings(document: &Document) -> (BTreeMap<String, BTreeSet<&'static str>>, BTreeSet<String>) {
    let mut findings: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    macro_rules! run {
        ($($case:ident),+) => {$(
            let stage = Stage::start().await;
            $case(&stage).await;
            for exchange in stage.take() {
                seen.insert(format!("{} {}", exchange.method, exchange.path.rsplit('/').next().unwrap()));
                for finding in document.check(&exchange) {
                    findings.entry(finding).or_default().insert(stringify!($case));
                }
            }
        )+};
    }
    run!(
        a_check,
        webhooks,
        dashboard_apps,
        login_links,
        agents,
        people,
        conversations,
        private_notes,
        a_note_that_came_out_public,
        attributes_and_labels,
        status,
        assignment,
        refusals
    );
    (findings, seen)
}

#[tokio::test]
async fn what_is_sent_and_what_the_double_answers_is_as_chatwoots_document_says() {
    let Some(document) = Document::open() else {
        return println!(
            "not run: what_is_sent_and_what_the_double_answers_is_as_chatwoots_document_says (13 cases)"
        );
    };
    let (findings, seen) = findings(&document).await;
    let unknown: Vec<_> = findings
        .iter()
        .filter(|(finding, _)| !EXCEPTIONS.iter().any(|(known, _)| known == finding))
        .collect();
    assert!(unknown.is_empty(), "not as the document says:\n{unknown:#?}");
    let unneeded: Vec<_> =
        EXCEPTIONS.iter().map(|(known, _)| known).filter(|known| !findings.contains_key(**known)).collect();
    assert!(unneeded.is_empty(), "these exceptions are needed no more:\n{unneeded:#?}");
    // Each call of the client is in a case.
    for call in [
        "GET agents",
        "POST users",
        "GET account_users",
        "POST account_users",
        "DELETE account_users",
        "PATCH inbox_members",
        "POST assignments",
        "POST custom_attributes",
        "GET labels",
        "POST labels",
        "POST toggle_status",
        "GET webhooks",
        "GET dashboard_apps",
        "POST dashboard_apps",
        "GET login",
        "POST webhooks",
        "PATCH 1",
        "GET messages",
        "POST messages",
        "GET conversations",
        "GET 1",
        "GET api",
    ] {
        assert!(seen.contains(call), "no case has sent {call}");
    }
}

/// How an exchange is spoiled.
type Change = fn(&mut Exchange);

#[tokio::test]
async fn what_is_not_as_the_document_says_is_found() {
    let Some(document) = Document::open() else {
        return println!("not run: what_is_not_as_the_document_says_is_found (6 cases)");
    };
    let stage = Stage::start().await;
    let conversation = stage.conversation().await;
    stage.client.post_private_note(conversation, &note("1")).await.unwrap();
    let exchanges = stage.take();
    let good =
        exchanges.iter().find(|exchange| exchange.path.ends_with("/messages") && exchange.token).unwrap();
    let before = document.check(good);
    let found_in = |change: Change| {
        let mut bad = good.clone();
        change(&mut bad);
        let found = document.check(&bad);
        found.difference(&before).cloned().collect::<Vec<_>>().join("\n")
    };
    let request = "POST /api/v1/accounts/{account_id}/conversations/{conversation_id}/messages request";
    let cases: [(Change, String); 6] = [
        (
            |bad| bad.request.as_mut().unwrap()["private"] = json!("yes"),
            format!("{request} /private: type, found a text"),
        ),
        (
            |bad| bad.request.as_mut().unwrap()["colour"] = json!("red"),
            format!("{request} /colour: not in the document"),
        ),
        (|bad| bad.request = None, format!("{request}: needs a body")),
        (
            |bad| bad.answer.as_mut().unwrap()["message_type"] = json!(7),
            "answer 200 /message_type: enum, found a number".to_owned(),
        ),
        (|bad| bad.status = 202, "answer 202: no such status".to_owned()),
        (|bad| bad.path.push_str("/more"), "/more: no such operation".to_owned()),
    ];
    for (change, expected) in cases {
        let found = found_in(change);
        assert!(found.contains(&expected), "{expected} is not in {found}");
    }
}
