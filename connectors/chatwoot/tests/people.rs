//! Who works in the installation and in the account, as a platform app says it.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]
mod common;

use common::Double;
use connector_chatwoot::{
    AccountRole, AssignTo, ChatwootClient, ChatwootSettings, NewUser, fake::ACCOUNT_ID,
};
use connector_core::ErrorKind;
use serde_json::{Map, json};

fn new_user(email: &str) -> NewUser {
    NewUser {
        name: "Bea Builder".to_owned(),
        email: email.to_owned(),
        password: "Secret-1-enough".into(),
        custom_attributes: Map::from_iter([("keycloak_sub".to_owned(), json!("7"))]),
    }
}

#[tokio::test]
async fn a_user_is_made_once_however_often_one_asks_and_who_was_there_stays_as_it_is() {
    let double = Double::start().await;
    let made = double.client.ensure_user(&new_user("Bea@Acme.test")).await.unwrap();
    assert_eq!((made.email.as_str(), &made.accounts), ("bea@acme.test", &vec![]));
    assert_eq!(made.custom_attributes["keycloak_sub"], json!("7"));
    let other_name = NewUser { name: "Somebody".to_owned(), ..new_user("bea@acme.test") };
    assert_eq!(double.client.ensure_user(&other_name).await.unwrap(), made);
    // Without our note: it was there before.
    let ada = double.client.ensure_user(&new_user("ada@acme.test")).await.unwrap();
    assert_eq!((ada.id, ada.name.as_str(), ada.custom_attributes.len()), (5, "Ada Agent", 0));
    let weak = NewUser { password: "secret".into(), ..new_user("cy@acme.test") };
    assert_eq!(double.client.ensure_user(&weak).await.unwrap_err().status, Some(422));
}

#[tokio::test]
async fn who_is_an_account_user_works_there_and_who_is_not_any_more_is_kept_out_at_once() {
    let double = Double::start().await;
    let user = double.client.ensure_user(&new_user("bea@acme.test")).await.unwrap().id;
    double.client.set_account_role(user, &AccountRole::Agent).await.unwrap();
    let token = double.fake.agent_token(user).unwrap();
    let hers = ChatwootClient::new(&ChatwootSettings::new(double.url.clone(), ACCOUNT_ID, token)).unwrap();
    hers.agents().await.unwrap();
    assert_eq!(hers.webhooks().await.unwrap_err().kind, ErrorKind::Unauthorised);
    double.client.set_account_role(user, &AccountRole::Administrator).await.unwrap();
    hers.webhooks().await.unwrap();
    let found = double.client.user(user).await.unwrap();
    assert_eq!(found.role(ACCOUNT_ID), Some(&AccountRole::Administrator));
    let agents = double.client.agents().await.unwrap();
    let agent = agents.iter().find(|agent| agent.id == user).unwrap();
    assert_eq!(agent.role.as_deref(), Some("administrator"));
    assert_eq!(agent.custom_attributes["keycloak_sub"], json!("7"));

    double.client.remove_from_account(user).await.unwrap();
    double.client.remove_from_account(user).await.unwrap();
    assert_eq!(hers.agents().await.unwrap_err().kind, ErrorKind::Unauthorised);
    assert_eq!(double.client.user(user).await.unwrap().accounts, []);
    assert!(!double.client.account_roles().await.unwrap().iter().any(|(id, _)| *id == user));
}

#[tokio::test]
async fn an_inbox_has_exactly_those_who_are_named_and_only_who_works_in_the_account() {
    let double = Double::start().await;
    double.client.set_inbox_members(1, &[6]).await.unwrap();
    let members: Vec<i64> =
        double.client.inbox_members(1).await.unwrap().iter().map(|agent| agent.id).collect();
    assert_eq!(members, [6]);
    assert_eq!(double.client.inbox_members(2).await.unwrap().len(), 2);
    let outside = double.client.ensure_user(&new_user("bea@acme.test")).await.unwrap().id;
    assert_eq!(double.client.set_inbox_members(1, &[outside]).await.unwrap_err().status, Some(422));
    double.client.remove_from_account(6).await.unwrap();
    assert_eq!(double.client.inbox_members(1).await.unwrap().len(), 0);
}

#[tokio::test]
async fn the_open_conversations_of_who_leaves_are_free_and_those_of_others_stay() {
    let double = Double::start().await;
    let (theirs, others, done) = (
        double.customer_writes("One").await,
        double.customer_writes("Two").await,
        double.customer_writes("Three").await,
    );
    for (conversation, agent) in [(theirs, 5), (others, 6), (done, 5)] {
        double.client.assign(conversation, AssignTo::Agent(agent)).await.unwrap();
    }
    double.client.set_status(done, &"resolved".into()).await.unwrap();
    assert_eq!(double.client.unassign_open(5).await.unwrap(), 1);
    assert_eq!(double.client.unassign_open(5).await.unwrap(), 0);
    let assignee = async |conversation| {
        double.client.conversation(conversation).await.unwrap().assignee.map(|assignee| assignee.id)
    };
    assert_eq!((assignee(theirs).await, assignee(others).await), (None, Some(6)));
    assert_eq!(assignee(done).await, Some(5));
}

#[tokio::test]
async fn a_name_and_an_address_change_and_an_address_has_one_user() {
    let double = Double::start().await;
    let user = double.client.ensure_user(&new_user("bea@acme.test")).await.unwrap().id;
    let renamed = double.client.update_user(user, "Bea B.", Some("Bea.B@acme.test")).await.unwrap();
    assert_eq!((renamed.name.as_str(), renamed.email.as_str()), ("Bea B.", "bea.b@acme.test"));
    let named = double.client.update_user(user, "Beatrix", None).await.unwrap();
    assert_eq!((named.name.as_str(), named.email.as_str()), ("Beatrix", "bea.b@acme.test"));
    let taken = double.client.update_user(user, "Beatrix", Some("ada@acme.test")).await.unwrap_err();
    assert_eq!(taken.status, Some(422));
}

#[tokio::test]
async fn who_works_in_the_account_stays_so_when_the_double_is_opened_anew() {
    let double = Double::start().await;
    double.client.remove_from_account(5).await.unwrap();
    let user = double.client.ensure_user(&new_user("bea@acme.test")).await.unwrap().id;
    double.client.set_account_role(user, &AccountRole::Agent).await.unwrap();
    let again = connector_chatwoot::fake::FakeChatwoot::open(common::options(
        &double.directory,
        &double.url,
        &double.clock,
    ))
    .unwrap();
    assert!(again.agent_token(user).is_some());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let router = again.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = ChatwootClient::new(&ChatwootSettings { url, ..again.settings() }).unwrap();
    let mut ids: Vec<i64> = client.agents().await.unwrap().iter().map(|agent| agent.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [6, 1000, user]);
}

#[tokio::test]
async fn without_a_platform_token_nobody_is_made() {
    let double = Double::start().await;
    let settings = ChatwootSettings::new(double.url.clone(), ACCOUNT_ID, double.fake.admin_token());
    let client = ChatwootClient::new(&settings).unwrap();
    let refused = client.ensure_user(&new_user("bea@acme.test")).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Misconfigured);
    let wrong = ChatwootClient::new(&settings.with_platform("wrong".into())).unwrap();
    assert_eq!(wrong.user(5).await.unwrap_err().kind, ErrorKind::Unauthorised);
}
