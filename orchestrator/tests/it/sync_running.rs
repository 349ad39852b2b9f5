//! Roles flow downward by themselves.

use std::time::Duration;

use chancery::{
    config::SyncMode,
    sync::{Outcome, Ran, SyncError, Syncing},
    testing::{ACME, TestApp},
};
use connector_chatwoot::ChatwootClient;

use crate::sources::{output_of_chancery, run_chancery};

/// An application that carries roles into Chatwoot by itself, after its first plan was looked at and carried out.
async fn syncing() -> TestApp {
    let app = TestApp::start_with(|config| config.sync.chatwoot.mode = SyncMode::Apply).await;
    for number in 0..8 {
        app.add_person(&format!("agent-{number}"), &["/organizations/acme-corp/agents"]);
    }
    let chatwoot = app.state().tools.chatwoot.clone().unwrap();
    let first = Syncing::new(app.state().clone()).run_once(&chatwoot).await.unwrap();
    assert_eq!(first, Ran::Held(Outcome::default()));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plan.json");
    let plan = output_of_chancery(&app, &["sync", "plan", "--json"], "").await;
    std::fs::write(&file, plan.stdout).unwrap();
    run_chancery(&app, &["sync", "apply", file.to_str().unwrap()], "").await.unwrap();
    app
}

/// Whether somebody works in Chatwoot's account.
async fn works(app: &TestApp, username: &str) -> bool {
    let client = ChatwootClient::new(&app.doubles().chatwoot.settings()).unwrap();
    let mail = format!("{username}@example.test");
    client.agents().await.unwrap().iter().any(|agent| agent.email.as_ref() == Some(&mail))
}

#[tokio::test]
async fn a_run_does_what_is_not_held_and_of_what_is_held_what_does_not_wait() {
    let app = syncing().await;
    let keycloak = &app.doubles().keycloak;
    let chatwoot = app.state().tools.chatwoot.clone().unwrap();
    let run = async || Syncing::new(app.state().clone()).run_once(&chatwoot).await.unwrap();
    assert_eq!(run().await, Ran::Unchanged);
    app.add_person("newcomer", &["/organizations/acme-corp/agents"]);
    let done = |done| Outcome { done, ..Outcome::default() };
    assert_eq!(run().await, Ran::CarriedOut(done(2)));
    assert!(works(&app, "newcomer").await);

    // Four of about ten leave, and one of those who stay was disabled.
    for number in 0..4 {
        keycloak.remove_from_group(&format!("agent-{number}"), "/organizations/acme-corp/agents").unwrap();
    }
    keycloak.set_enabled("agent-7", false).unwrap();
    assert_eq!(run().await, Ran::Held(done(1)));
    assert!(!works(&app, "agent-7").await && works(&app, "agent-0").await);
    assert_eq!(run().await, Ran::Held(done(0)));

    // Without Keycloak, nothing.
    keycloak.set_unavailable(true);
    let failed = Syncing::new(app.state().clone()).run_once(&chatwoot).await;
    assert!(matches!(failed, Err(SyncError::Directory(_))), "{failed:?}");
    assert!(works(&app, "agent-0").await);
}

/// How many processes lead the carrying of roles into the tools.
async fn leaders(app: &TestApp) -> i64 {
    app.count(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1 AND objid = 3 AND granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .await
}

#[tokio::test]
async fn a_change_that_is_seen_is_in_chatwoot_at_once_and_one_replica_does_it() {
    let app = syncing().await;
    let replica = app.replica().await;
    let begun = std::time::Instant::now();
    let in_time =
        || assert!(begun.elapsed() < Duration::from_secs(30), "nobody has carried it into Chatwoot");
    let leading = tokio::spawn(Syncing::new(app.state().clone()).run());
    while leaders(&app).await == 0 {
        in_time();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let following = tokio::spawn(Syncing::new(replica.state.clone()).run());
    app.add_person("newcomer", &["/organizations/acme-corp/agents"]);
    app.state().directory.refresh_tenant(app.tenant(ACME)).await.unwrap();
    while !works(&app, "newcomer").await {
        in_time();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(leaders(&app).await, 1);
    for state in [app.state(), &replica.state] {
        state.lifecycle.soft.cancel();
    }
    leading.await.unwrap();
    following.await.unwrap();
    // The one at the command line, and the newcomer's.
    assert_eq!(app.count("SELECT count(*) FROM sync_plans").await, 2);
}
