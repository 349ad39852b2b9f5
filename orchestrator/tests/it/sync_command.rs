//! `chancery sync`, and what is kept of a plan that was carried out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::http::Method;
use chancery::{
    db::Duty,
    sync::{
        Action, ChatwootTool, Held, Plan, Policy, Realm, SyncError, Whose, carry_out, chatwoot_accounts,
        prepare, tenants,
    },
    testing::{ACME, TestApp},
};
use connector_chatwoot::ChatwootClient;
use connector_core::RandomIds;
use serde_json::Value;

use crate::sources::{output_of_chancery, run_chancery};

#[tokio::test]
async fn a_plan_is_shown_at_the_command_line_and_nothing_is_done() {
    let app = TestApp::start().await;
    let run = async |arguments: &[&str]| {
        let output = output_of_chancery(&app, &[&["sync", "plan"], arguments].concat(), "").await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    app.doubles().chatwoot.received().take();
    let (code, text, said) = run(&[]).await;
    assert_eq!(code, 2, "{text}{said}");
    let agent = app.user("acme-agent");
    for line in [
        format!("link     Ada Agent ({agent}) to the account 8\n"),
        format!("adopt    Ada Agent ({agent}) in accounts/1: agent\n"),
        "held     nothing was ever done in this tool\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    assert!(text.contains("create   an account for Carla Chief"), "{text}");
    assert!(text.contains("identity  account 9 is unmatched\n"), "{text}");

    let (code, json, _) = run(&["--tool", "chatwoot", "--json"]).await;
    assert_eq!(code, 2);
    let plan = Plan::read(json.as_bytes()).unwrap();
    assert_eq!((plan.tool.as_str(), plan.held.as_slice()), ("chatwoot", &[Held::FirstContact][..]));
    assert!(text.contains(&plan.digest().unwrap().to_string()), "{text}");
    let asked = app.doubles().chatwoot.received().take();
    assert!(!asked.is_empty() && asked.iter().all(|request| request.method == Method::GET), "{asked:?}");

    app.doubles().keycloak.set_unavailable(true);
    let (code, _, said) = run(&[]).await;
    assert!(code == 1 && said.contains("Keycloak can't be read"), "{code} {said}");
    app.doubles().keycloak.set_unavailable(false);

    // Whose an account is doesn't hang on whether its webhooks are taken.
    let source = app.chatwoot_source().to_string();
    run_chancery(&app, &["inbox", "source", "disable", &source], "").await.unwrap();
    let (code, again, said) = run(&[]).await;
    assert_eq!((code, &again), (2, &text), "{said}");
}

#[tokio::test]
async fn an_account_is_whose_its_source_says() {
    let app = TestApp::start().await;
    let database = &app.state().database;
    let groups = app.state().directory.group_tenants().await.unwrap();
    let acme = app.tenant(ACME);
    let accounts = async || chatwoot_accounts(database, &groups).await.unwrap();
    assert_eq!(accounts().await, BTreeMap::from([(1, Whose::Tenant(acme))]));
    assert_eq!(chatwoot_accounts(database, &[]).await.unwrap(), BTreeMap::new());

    let source = async |arguments: &[&str]| {
        run_chancery(&app, &[&["inbox", "source"], arguments].concat(), "").await.unwrap()
    };
    let add = ["add", "--tenant", "suite", "--service", "chatwoot", "--scheme", "chatwoot", "--account", "2"];
    let secret = ["--secret", "a secret of Chatwoot's, long enough", "--json"];
    let made: Value = serde_json::from_str(&source(&[&add[..], &secret].concat()).await).unwrap();
    let id = made["id"].as_str().unwrap();
    let mut expected = accounts().await;
    assert_eq!(expected.len(), 1, "nobody has said whose its inboxes are");
    source(&["map", id, "others", ACME]).await;
    expected.insert(2, Whose::Tenant(acme));
    assert_eq!(accounts().await, expected);
    source(&["map", id, "7", ACME]).await;
    expected.insert(2, Whose::Shared(BTreeMap::from([(7, acme)])));
    assert_eq!(accounts().await, expected);
    assert_eq!(tenants(&expected), BTreeSet::from([acme]));

    // Two sources that each say something of one account.
    let add = ["add", "--tenant", "suite", "--service", "chatwoot", "--scheme", "chatwoot", "--account", "1"];
    let made: Value = serde_json::from_str(&source(&[&add[..], &secret].concat()).await).unwrap();
    source(&["map", made["id"].as_str().unwrap(), "3", ACME]).await;
    expected.remove(&1);
    assert_eq!(accounts().await, expected);
}

#[tokio::test]
async fn a_plan_is_carried_out_from_its_file_with_links_grants_steps_and_entries() {
    let app = TestApp::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("plan.json");
    let file = file.to_str().unwrap();
    let sync = async |arguments: &[&str]| {
        let output = output_of_chancery(&app, &[&["sync"], arguments].concat(), "").await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let write = async || {
        let (code, json, _) = sync(&["plan", "--json"]).await;
        std::fs::write(file, json).unwrap();
        code
    };
    // The first contact is held, and a file is the plan as long as it is.
    let (code, _, said) = sync(&["apply", "--yes"]).await;
    assert!(code == 1 && said.contains("the plan is held (nothing was ever done in this tool)"), "{said}");
    assert_eq!(write().await, 2);
    app.add_person("late", &["/organizations/acme-corp/agents"]);
    let (code, _, said) = sync(&["apply", file]).await;
    assert!(code == 1 && said.contains("not the plan any more"), "{said}");
    std::fs::write(file, "{}").unwrap();
    let (code, _, said) = sync(&["apply", file]).await;
    assert!(code == 1 && said.contains("it is not a plan"), "{said}");

    assert_eq!(write().await, 2);
    let (code, text, said) = sync(&["apply", file]).await;
    assert_eq!((code, text.ends_with("0 were so already, 0 failed, 0 skipped\n")), (0, true), "{text}{said}");
    assert_eq!(sync(&["plan"]).await.0, 0);
    assert_eq!(sync(&["apply", "--yes"]).await.1, "nothing to do\n");
    let steps = app.count("SELECT count(*) FROM sync_steps WHERE ended = 'done'").await;
    let links = app.count("SELECT count(*) FROM sync_links").await;
    let grants = app.count("SELECT count(*) FROM sync_grants").await;
    assert!(steps > 3 && links > 1 && grants == links, "{steps} {links} {grants}");
    assert_eq!(app.count("SELECT count(*) FROM sync_plans WHERE ended_at IS NOT NULL").await, 1);
    let client = ChatwootClient::new(&app.doubles().chatwoot.settings()).unwrap();
    let works = async |mail: &str| {
        client.agents().await.unwrap().iter().any(|agent| agent.email.as_deref() == Some(mail))
    };
    assert!(works("late@example.test").await);

    // Somebody leaves, and one who was there before; the tenant's trail says both.
    app.doubles().keycloak.set_enabled("late", false).unwrap();
    app.doubles().keycloak.remove_from_group("acme-agent", "/organizations/acme-corp/agents").unwrap();
    let (code, text, said) = sync(&["apply", "--yes"]).await;
    assert_eq!((code, text.as_str()), (0, "2 done, 0 were so already, 0 failed, 0 skipped\n"), "{said}");
    assert!(!works("late@example.test").await && !works("acme-agent@acme.example").await);
    let trail = |action: &'static str| {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM audit_logs WHERE action = $1 AND tenant_id = $2")
            .bind(action)
            .bind(app.tenant(ACME).0)
            .fetch_one(app.superuser())
    };
    assert_eq!(trail("sync.revoked").await.unwrap(), 2);
    assert_eq!(trail("sync.granted").await.unwrap(), grants);
    assert_eq!(app.count("SELECT count(*) FROM sync_grants").await, grants - 2);
    assert_eq!(app.count("SELECT count(*) FROM sync_links").await, links);
    assert_eq!(sync(&["plan"]).await.0, 0);
}

#[tokio::test]
async fn one_process_at_a_time_carries_out_a_plan() {
    let app = TestApp::start().await;
    let mut candidate = app.state().database.candidate(Duty::CarryOut);
    assert!(candidate.leads().await.unwrap());
    let refused = run_chancery(&app, &["sync", "apply", "--yes"], "").await.unwrap_err();
    assert!(refused.contains("somebody else carries out a plan right now"), "{refused}");
    candidate.resign().await;
    let refused = run_chancery(&app, &["sync", "apply", "--yes"], "").await.unwrap_err();
    assert!(refused.contains("the plan is held"), "{refused}");
}

#[tokio::test]
async fn a_process_that_died_in_a_plan_is_made_up_for_by_the_next() {
    let app = TestApp::start().await;
    let groups = app.state().directory.group_tenants().await.unwrap();
    let database = &app.state().database;
    let accounts = chatwoot_accounts(database, &groups).await.unwrap();
    let whole = app.state().directory.read_whole(&tenants(&accounts)).await.unwrap();
    let realm = Realm::from(whole);
    let chatwoot = ChatwootClient::new(&app.doubles().chatwoot.settings()).unwrap();
    let tool = ChatwootTool::new(chatwoot, Arc::new(RandomIds), accounts);
    let next = async || prepare(database, &tool, realm.clone(), &Policy::default()).await.unwrap();
    let first = next().await;
    assert!(first.plan.counts.creates > 0);
    let made =
        |plan: &Plan| plan.steps.iter().filter(|step| matches!(step.action, Action::Adopt { .. })).count();
    let adopted = made(&first.plan);
    // The database goes away after Chatwoot has let somebody into the account, and before that is written.
    sqlx::raw_sql(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF NEW.ended = 'done' AND NEW.step ->> 'do' = 'set' THEN RAISE EXCEPTION 'gone'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER die BEFORE INSERT OR UPDATE ON sync_steps FOR EACH ROW EXECUTE FUNCTION die()",
    )
    .execute(app.superuser())
    .await
    .unwrap();
    let died = carry_out(database, &tool, first, None).await;
    assert!(matches!(died, Err(SyncError::Database(_))), "{died:?}");
    let second = next().await;
    assert_eq!(
        (second.plan.counts.creates, made(&second.plan)),
        (0, 1),
        "{adopted}: {:#?}",
        second.plan.steps
    );
    sqlx::raw_sql("DROP TRIGGER die ON sync_steps").execute(app.superuser()).await.unwrap();
    let outcome = carry_out(database, &tool, second, None).await.unwrap();
    assert_eq!((outcome.failed, outcome.skipped), (0, 0));
    assert_eq!(next().await.plan.steps, []);
    assert_eq!(app.count("SELECT count(*) FROM sync_plans WHERE ended_at IS NULL").await, 1);
    assert_eq!(app.count("SELECT count(*) FROM sync_steps WHERE ended IS NULL").await, 1);
}
