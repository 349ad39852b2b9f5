//! The client against the double, over HTTP.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in tests a panic is the report")]

mod common;

use common::Double;
use connector_chatwoot::{
    AssignTo, ChatwootClient, ChatwootSettings, ConversationFilter, ConversationStatus, NOT_ASSIGNED,
    NOTE_NOT_PRIVATE, NewNote, SenderKind,
    fake::{ACCOUNT_ID, BOT_ID, FailureKind},
};
use connector_core::{Connector as _, ErrorKind, Health};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

fn note(source_id: &str) -> NewNote {
    NewNote {
        content: "**Approved** by Cleo".to_owned(),
        source_id: source_id.to_owned(),
        content_attributes: Map::from_iter([("chancery".to_owned(), json!({"kind": "decision"}))]),
    }
}

async fn notes(double: &Double, conversation: i64) -> usize {
    let messages = double.client.messages_before(conversation, None).await.unwrap();
    messages.iter().filter(|message| message.private && !message.is_deleted()).count()
}

#[tokio::test]
async fn a_note_is_private_and_the_bots() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Where is my refund?").await;
    let message =
        double.client.ensure_private_note(conversation, &note("chancery:1:decision")).await.unwrap();
    assert!(message.private);
    assert_eq!(message.conversation_id, Some(conversation));
    assert_eq!(message.sender.unwrap().kind, SenderKind::AgentBot);
    assert_eq!(message.content_attributes["chancery"]["kind"], "decision");

    // The customer reads the conversation by their own API, and the note isn't there.
    let path = format!("api/v1/accounts/{ACCOUNT_ID}/conversations/{conversation}");
    let (_, shown) = double.call("GET", &path, Some(&double.fake.admin_token()), None).await;
    let source_id =
        shown.pointer("/messages/0/conversation/contact_inbox/source_id").unwrap().as_str().unwrap();
    let inbox = double.fake.inbox_identifier();
    let path =
        format!("public/api/v1/inboxes/{inbox}/contacts/{source_id}/conversations/{conversation}/messages");
    let (status, messages) = double.call("GET", &path, None, None).await;
    assert_eq!((status, messages.as_array().unwrap().len()), (200, 1));
    assert_eq!(messages[0]["content"], "Where is my refund?");
    assert_eq!(double.call("GET", &path.replace(source_id, "guessed"), None, None).await.0, 404);
}

#[tokio::test]
async fn the_same_note_is_written_once() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    let first = double.client.ensure_private_note(conversation, &note("chancery:1:decision")).await.unwrap();
    let second = double.client.ensure_private_note(conversation, &note("chancery:1:decision")).await.unwrap();
    assert_eq!(first.id, second.id);
    assert_eq!(notes(&double, conversation).await, 1);
}

#[tokio::test]
async fn a_note_whose_answer_was_lost_is_found_and_not_written_again() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    double.fake.fail_next(FailureKind::AfterStoreBeforeAnswer);
    let message =
        double.client.ensure_private_note(conversation, &note("chancery:1:decision")).await.unwrap();
    assert_eq!(message.source_id.as_deref(), Some("chancery:1:decision"));
    assert_eq!(notes(&double, conversation).await, 1);
}

#[tokio::test]
async fn a_note_that_was_lost_before_it_was_stored_is_ambiguous_and_the_next_call_writes_it() {
    for failure in [FailureKind::BeforeStore, FailureKind::ServerError] {
        let double = Double::start().await;
        let conversation = double.customer_writes("Hello").await;
        double.fake.fail_next(failure);
        let error =
            double.client.ensure_private_note(conversation, &note("chancery:1:decision")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Ambiguous, "{failure:?}");
        assert_eq!(notes(&double, conversation).await, 0);
        double.client.ensure_private_note(conversation, &note("chancery:1:decision")).await.unwrap();
        assert_eq!(notes(&double, conversation).await, 1);
    }
}

#[tokio::test]
async fn a_first_post_asks_for_no_message_and_a_repeat_looks_before_it_posts() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    let asked = || -> Vec<String> {
        double.fake.received().take().into_iter().map(|request| request.method.to_string()).collect()
    };
    asked();
    let first = double.client.post_private_note(conversation, &note("chancery:1:decision")).await.unwrap();
    assert_eq!(asked(), ["POST"]);
    let again = double.client.ensure_private_note(conversation, &note("chancery:1:decision")).await.unwrap();
    assert_eq!(asked(), ["GET"]);
    assert_eq!(first.id, again.id);

    double.fake.fail_next(FailureKind::AfterStoreBeforeAnswer);
    let lost = double.client.post_private_note(conversation, &note("chancery:2:decision")).await.unwrap();
    assert_eq!(asked(), ["POST", "GET"], "it couldn't be told whether it was posted");
    assert_eq!(lost.source_id.as_deref(), Some("chancery:2:decision"));
    assert_eq!(notes(&double, conversation).await, 2);
}

#[tokio::test]
async fn without_the_second_look_the_lost_answer_is_an_error() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    double.fake.fail_next(FailureKind::AfterStoreBeforeAnswer);
    let error =
        double.client.create_private_note(conversation, &note("chancery:1:decision")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Ambiguous);
    assert_eq!(notes(&double, conversation).await, 1);
}

#[tokio::test]
async fn a_note_stored_as_public_is_deleted_and_reported() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    double.fake.fail_next(FailureKind::StoredAsPublic);
    let error =
        double.client.ensure_private_note(conversation, &note("chancery:1:decision")).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::Permanent, Some(NOTE_NOT_PRIVATE)));
    assert!(error.message.contains("it was deleted"), "{error}");
    let messages = double.client.messages_before(conversation, None).await.unwrap();
    let leaked = messages.iter().find(|message| message.source_id.is_some()).unwrap();
    assert!(leaked.is_deleted() && leaked.content.as_deref() == Some("This message was deleted"));
    assert!(!error.to_string().contains("Approved"));
}

#[tokio::test]
async fn a_throttled_note_is_transient() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    double.fake.fail_next(FailureKind::Throttled);
    let error =
        double.client.ensure_private_note(conversation, &note("chancery:1:decision")).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Transient, Some(429)));
}

#[tokio::test]
async fn a_flooded_conversation_is_transient() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    for number in 0..199 {
        double.client.create_private_note(conversation, &note(&number.to_string())).await.unwrap();
    }
    let error = double.client.create_private_note(conversation, &note("last")).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Transient, Some(422)));
}

#[tokio::test]
async fn a_note_is_found_behind_many_messages() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    let first = double.client.create_private_note(conversation, &note("chancery:1:decision")).await.unwrap();
    for number in 0..75 {
        double.client.create_private_note(conversation, &note(&number.to_string())).await.unwrap();
    }
    let found = double.client.find_message_by_source_id(conversation, "chancery:1:decision").await.unwrap();
    assert_eq!(found.map(|message| message.id), Some(first.id));
    assert_eq!(
        double.client.find_message_by_source_id(conversation, "chancery:2:decision").await.unwrap(),
        None
    );
}

#[tokio::test]
async fn merging_keeps_the_other_attributes_which_a_plain_write_replaces() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    let path = format!("api/v1/accounts/{ACCOUNT_ID}/conversations/{conversation}/custom_attributes");
    let token = double.fake.admin_token();
    double.post(&path, Some(&token), &json!({"custom_attributes": {"plan": "gold"}})).await;
    let ours = Map::from_iter([("ceo_escalation".to_owned(), json!("pending"))]);
    let merged = double.client.merge_custom_attributes(conversation, &ours).await.unwrap();
    assert_eq!(Value::Object(merged), json!({"plan": "gold", "ceo_escalation": "pending"}));
    double.post(&path, Some(&token), &json!({"custom_attributes": {"plan": "tin"}})).await;
    let stored = double.client.conversation(conversation).await.unwrap().custom_attributes.unwrap();
    assert_eq!(Value::Object(stored), json!({"plan": "tin"}));
}

#[tokio::test]
async fn adding_labels_keeps_those_that_are_there() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    assert_eq!(double.client.add_labels(conversation, &["vip"]).await.unwrap(), ["vip"]);
    assert_eq!(
        double.client.add_labels(conversation, &["escalated", "vip"]).await.unwrap(),
        ["vip", "escalated"]
    );
    let labels = double.client.conversation(conversation).await.unwrap().labels.unwrap();
    assert_eq!(labels, ["vip", "escalated"]);
}

#[tokio::test]
async fn registering_a_webhook_twice_keeps_its_secret_and_adds_what_is_missing() {
    let double = Double::start().await;
    let url = "http://127.0.0.1:9/hook".parse().unwrap();
    let first = double.client.register_webhook(&url, "Chancery", &["message_created"]).await.unwrap();
    let secret = first.secret.unwrap();
    assert_eq!(secret.expose_secret().len(), 24);
    let both = ["message_created", "conversation_updated"];
    let second = double.client.register_webhook(&url, "Chancery", &both).await.unwrap();
    assert_eq!((second.id, second.secret.unwrap().expose_secret()), (first.id, secret.expose_secret()));
    assert_eq!(second.subscriptions, both);
    assert_eq!(double.client.webhooks().await.unwrap().len(), 1);
    let error = double
        .client
        .register_webhook(&"http://a.test/".parse().unwrap(), "x", &["no_such"])
        .await
        .unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Permanent, Some(422)));
}

#[tokio::test]
async fn conversations_are_listed_page_by_page_and_by_their_last_change() {
    let double = Double::start().await;
    let mut last = 0;
    for number in 0..27 {
        double.clock.advance(chrono::TimeDelta::minutes(1));
        last = double.customer_writes(&format!("message {number}")).await;
    }
    let first = double.client.conversations(ConversationFilter::Open, 1).await.unwrap();
    assert_eq!((first.conversations.len(), first.total), (25, Some(27)));
    assert_eq!(first.conversations[0].id, last);
    assert_eq!(double.client.conversations(ConversationFilter::All, 2).await.unwrap().conversations.len(), 2);
    assert_eq!(double.client.conversations_updated_within(150).await.unwrap().len(), 3);
    assert_eq!(
        double.client.set_status(last, &ConversationStatus::Resolved).await.unwrap(),
        ConversationStatus::Resolved
    );
    let resolved = double.client.conversations(ConversationFilter::Resolved, 1).await.unwrap().conversations;
    assert_eq!(resolved.iter().map(|conversation| conversation.id).collect::<Vec<_>>(), [last]);
    assert_eq!(resolved[0].contact.as_ref().unwrap().email.as_deref(), Some("carla@customer.test"));
}

#[tokio::test]
async fn agents_have_their_addresses() {
    let double = Double::start().await;
    let agents = double.client.agents().await.unwrap();
    assert!(agents.iter().any(|agent| agent.id == 5 && agent.email.as_deref() == Some("ada@acme.test")));
}

#[tokio::test]
async fn a_wrong_token_a_missing_conversation_and_a_dead_server_are_told_apart() {
    let double = Double::start().await;
    let wrong = ChatwootSettings::new(double.url.clone(), ACCOUNT_ID, SecretString::from("wrong"));
    let error = ChatwootClient::new(&wrong).unwrap().conversation(1).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Unauthorised, Some(401)));
    assert!(double.client.conversation(404).await.unwrap_err().is_not_found());
    let dead =
        ChatwootSettings::new("http://127.0.0.1:1/".parse().unwrap(), ACCOUNT_ID, double.fake.admin_token());
    assert_eq!(ChatwootClient::new(&dead).unwrap().agents().await.unwrap_err().kind, ErrorKind::Transient);
}

#[test]
fn an_address_with_a_prefix_keeps_it() {
    let url = ChatwootClient::conversation_url(&"https://a.test/chat/".parse().unwrap(), 3, 26).unwrap();
    assert_eq!(url.as_str(), "https://a.test/chat/app/accounts/3/conversations/26");
}

#[tokio::test]
async fn a_check_says_the_version_and_needs_an_administrators_token() {
    let double = Double::start().await;
    let info = double.client.check().await.unwrap();
    assert_eq!((info.version.as_deref(), info.warnings), (Some("4.15.1"), Vec::new()));
    assert!(double.client.capabilities().iter().any(|capability| capability.name == "bot_notes"));

    let without_bot = ChatwootSettings::new(double.url.clone(), ACCOUNT_ID, double.fake.admin_token());
    let without_bot = ChatwootClient::new(&without_bot).unwrap();
    assert_eq!(without_bot.check().await.unwrap().warnings.len(), 1);
    assert!(!without_bot.capabilities().iter().any(|capability| capability.name == "bot_notes"));

    let bot = ChatwootSettings::new(double.url.clone(), ACCOUNT_ID, double.fake.bot_token());
    let bot = ChatwootClient::new(&bot).unwrap();
    assert_eq!(bot.check().await.unwrap_err().kind, ErrorKind::Unauthorised);
    assert!(matches!(bot.health(), Health::Failing { kind: ErrorKind::Unauthorised, .. }));
}

#[tokio::test]
async fn the_clients_of_two_accounts_notice_together_that_the_installation_fails() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    for _ in 0..5 {
        double.fake.fail_next(FailureKind::ServerError);
        assert!(double.client.create_private_note(conversation, &note("1")).await.is_err());
    }
    assert!(double.client.health().is_failing(), "the bot's token is the one that fails");
    double.fake.received().take();
    let other = double.client.for_account(2);
    assert_eq!(other.account_id(), 2);
    let error = other.agents().await.unwrap_err();
    assert_eq!((error.kind, error.retry_after.is_some()), (ErrorKind::Transient, true));
    assert!(double.fake.received().take().is_empty(), "nothing was sent");
    double.clock.advance(chrono::TimeDelta::seconds(10));
    double.client.create_private_note(conversation, &note("1")).await.unwrap();
    assert!(!double.client.health().is_failing());
}

#[tokio::test]
async fn a_conversation_is_assigned_to_an_agent_a_bot_and_nobody() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    let assigned = double.client.assign(conversation, AssignTo::Agent(6)).await.unwrap();
    assert_eq!(assigned.assignee.unwrap().name.as_deref(), Some("Ben Agent"));
    double.fake.received().take();
    double.client.assign(conversation, AssignTo::Agent(6)).await.unwrap();
    let asked: Vec<_> = double.fake.received().take().into_iter().map(|request| request.method).collect();
    assert_eq!(asked, ["GET"], "it was so already");
    let assigned = double.client.assign(conversation, AssignTo::Bot(BOT_ID)).await.unwrap();
    assert_eq!(assigned.assignee.unwrap().kind, SenderKind::AgentBot);
    assert_eq!(double.client.assign(conversation, AssignTo::Nobody).await.unwrap().assignee, None);
}

#[tokio::test]
async fn an_assignment_that_chatwoot_answered_with_success_and_did_not_make_is_an_error() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    double.client.assign(conversation, AssignTo::Agent(6)).await.unwrap();
    for to in [AssignTo::Agent(77), AssignTo::Team(1)] {
        let error = double.client.assign(conversation, to).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::Permanent, Some(NOT_ASSIGNED)), "{to:?}");
    }
}
