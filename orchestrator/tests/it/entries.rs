//! Nothing changes without an entry: each table says where its entries come from, and the database itself looks for them
//! when a transaction ends.

use std::collections::BTreeMap;

use chancery::{
    sources::{SourceScheme, register_source},
    testing::{ACME, TestApp},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::harness::{approval, chatwoot_conversation, id, items, pass, path, private_note};

/// Where the entry of a table's change is.
enum Entry {
    /// In the trail of the row's tenant, which is in this column; looked for where this SQL condition on `NEW` and `OLD`
    /// holds, since not every column says something about the thing.
    Trail { tenant: &'static str, on_update: &'static str },
    /// The row is a record itself, or belongs to one: why.
    Itself(&'static str),
}

/// Each table. One that is new has to say where its entries come from.
fn tables() -> BTreeMap<&'static str, Entry> {
    let trail = |tenant, on_update| Entry::Trail { tenant, on_update };
    BTreeMap::from([
        ("approvals", trail("tenant_id", "true")),
        ("consultations", trail("tenant_id", "true")),
        ("approval_notices", trail("tenant_id", "true")),
        ("matrix_rooms", Entry::Itself("where a tenant's rooms are: they are found again without it")),
        ("consultation_attendance", trail("tenant_id", "true")),
        ("consultation_rooms", Entry::Itself("a part of consultations: whose a room is")),
        ("webhook_sources", trail("tenant_id", "true")),
        ("webhook_source_secrets", trail("tenant_id", "true")),
        ("webhook_source_mappings", trail("tenant_id", "true")),
        ("memberships", trail("tenant_id", "true")),
        ("tenant_settings", trail("tenant_id", "true")),
        ("webhook_endpoints", trail("tenant_id", "true")),
        ("webhook_endpoint_secrets", trail("tenant_id", "true")),
        ("modules", trail("tenant_id", "true")),
        ("people", trail("tenant_id", "true")),
        (
            "tenants",
            trail("id", "(NEW.kind, NEW.path, NEW.name) IS DISTINCT FROM (OLD.kind, OLD.path, OLD.name)"),
        ),
        (
            "principals",
            trail(
                "id",
                "(NEW.username, NEW.name, NEW.kind, NEW.enabled, NEW.platform_admin)
                 IS DISTINCT FROM (OLD.username, OLD.name, OLD.kind, OLD.enabled, OLD.platform_admin)",
            ),
        ),
        ("sync_links", trail("tenant_id", "true")),
        ("sync_grants", trail("tenant_id", "true")),
        ("sync_plans", trail("tenant_id", "true")),
        ("sync_steps", Entry::Itself("the record of a plan's way; what a step has changed has its entry")),
        ("audit_logs", Entry::Itself("the trail")),
        ("conversations", Entry::Itself("a mirror: the received webhook is the entry (docs/adr/0003)")),
        ("inbox_events", Entry::Itself("the received webhook, never changed")),
        ("inbox_keys", Entry::Itself("which webhooks were received")),
        ("inbox_pending", Entry::Itself("which webhooks are still to be processed")),
        (
            "inbox_failures",
            Entry::Itself(
                "which webhooks were not processed at once; commands about them have their entries",
            ),
        ),
        ("inbox_attempts", Entry::Itself("how processing webhooks went")),
        (
            "inbox_cursors",
            Entry::Itself("how far Chatwoot was looked at; what was found is a received webhook"),
        ),
        ("inbox_lanes", Entry::Itself("who processes webhooks right now")),
        ("timeline", Entry::Itself("a record itself: what the received webhooks told (docs/adr/0003)")),
        ("events", Entry::Itself("what was told of changes that have their entries")),
        ("event_streams", Entry::Itself("how many events there are")),
        ("webhook_endpoint_lanes", Entry::Itself("how far the deliveries of an endpoint are")),
        (
            "webhook_deliveries",
            Entry::Itself("events that have their entries, on their way; asking for one again has its own"),
        ),
        ("webhook_delivery_attempts", Entry::Itself("the record of what was sent")),
        ("jobs", Entry::Itself("work to do: what it does has its entry")),
        ("idempotency_keys", Entry::Itself("answers to commands that have their entries")),
    ])
}

/// Compares every tenant with Keycloak, as the reconciler does, and fails where one can't be written.
async fn compare(app: &TestApp) {
    for tenant in app.state().directory.group_tenants().await.unwrap() {
        app.state().directory.refresh_tenant(tenant).await.unwrap();
    }
}

/// Makes the database refuse a transaction that changes something and has no entry of it.
async fn watch(app: &TestApp) {
    app.superuser()
        .execute(
            "CREATE FUNCTION must_have_an_entry() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
             DECLARE
                 changed jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
             BEGIN
                 IF NOT EXISTS (
                     SELECT 1 FROM audit_logs
                     WHERE tenant_id = (changed ->> TG_ARGV[0])::uuid AND xmin = pg_current_xact_id()::xid
                 ) THEN
                     RAISE EXCEPTION '% of % has no entry: %', TG_OP, TG_TABLE_NAME, changed;
                 END IF;
                 RETURN NULL;
             END
             $$",
        )
        .await
        .unwrap();
    for (table, entry) in tables() {
        let Entry::Trail { tenant, on_update } = entry else { continue };
        for (verb, condition) in [("INSERT", ""), ("DELETE", ""), ("UPDATE", on_update)] {
            let when = if condition.is_empty() { String::new() } else { format!("WHEN ({condition})") };
            let sql = format!(
                "CREATE CONSTRAINT TRIGGER {table}_{verb} AFTER {verb} ON {table} DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW {when} EXECUTE FUNCTION must_have_an_entry('{tenant}')"
            );
            app.superuser().execute(AssertSqlSafe(sql)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn each_table_says_where_its_entries_come_from() {
    let app = TestApp::start().await;
    let known = tables();
    let found: Vec<String> = app.row_counts().await.into_iter().map(|(table, _)| table).collect();
    for table in found.iter().filter(|table| *table != "_sqlx_migrations") {
        assert!(
            known.contains_key(table.as_str()),
            "{table} is new: say where the entries of its changes are"
        );
    }
    for (table, entry) in &known {
        assert!(found.iter().any(|found| found == table), "{table} is not a table any more");
        if let Entry::Itself(why) = entry {
            assert!(!why.is_empty());
        }
    }
}

#[tokio::test]
async fn the_database_notices_a_change_without_an_entry() {
    let app = TestApp::start().await;
    approval(&app.agent(), "A").await;
    app.run_jobs().await;
    watch(&app).await;
    for sql in [
        "UPDATE approvals SET title = 'B'",
        "UPDATE tenants SET name = 'B'",
        "UPDATE principals SET enabled = false",
        "UPDATE people SET name = 'B'",
        "DELETE FROM memberships",
        "INSERT INTO tenants (id, kind, path, name, created_at, updated_at) VALUES (gen_random_uuid(), 'team', '/teams/t', 'T', now(), now())",
    ] {
        let error = app.superuser().execute(sql).await.unwrap_err();
        assert!(error.to_string().contains("has no entry"), "{sql}: {error}");
    }
    // What says nothing about the thing needs none.
    app.superuser().execute("UPDATE principals SET seen_at = now(), write_number = 0").await.unwrap();
}

#[tokio::test]
async fn nothing_changes_without_an_entry() {
    let app = TestApp::start().await;
    watch(&app).await;
    let (agent, ceo, viewer) = (app.agent(), app.ceo(), app.viewer());
    let keycloak = &app.doubles().keycloak;

    // People and tenants that become known, at their first call and as members.
    for client in [&agent, &ceo, &viewer, &app.outsider(), &app.suite_admin(), &app.automation()] {
        client.get("/me").await.expect(200);
    }
    keycloak.create_group("/teams/newcomers").unwrap();
    app.add_person("newcomer", &["/teams/newcomers", ACME]).get("/me").await.expect(200);
    app.add_person("quiet", &[ACME]);
    compare(&app).await;

    // What commands do.
    let secret = Some("secret".to_owned().into());
    let acme = app.tenant(ACME);
    register_source(app.state(), acme, SourceScheme::Chatwoot, "Second", "2", secret).await.unwrap();
    let (number, conversation) = chatwoot_conversation(&app).await;
    let escalated = agent
        .post(&format!("{}/escalate", path("/conversations", &conversation)), &json!({ "reason": "R" }))
        .await
        .expect(201);
    app.deliver(&private_note(&app, number, 7, "/escalate again", "acme-agent@acme.example"))
        .await
        .expect(200);
    app.run_jobs().await;
    let decision = json!({ "status": "approved", "consultation": true });
    ceo.patch(&path("/approvals", &escalated), &decision).await.expect(200);
    let own = approval(&agent, "A").await;
    agent.patch(&path("/approvals", &own), &json!({ "status": "cancelled" })).await.expect(200);
    let expiring =
        json!({ "tenantId": ACME, "title": "E", "expiresAt": app.now() + chrono::TimeDelta::seconds(60) });
    agent.post("/approvals", &expiring).await.expect(201);
    pass(&app, 61);
    app.run_jobs().await;
    let consultation = path("/consultations", &items(&ceo, "/consultations").await[0]);
    for command in ["join", "start", "end"] {
        ceo.post(&format!("{consultation}/{command}"), &json!({})).await.expect(200);
    }
    let other = json!({ "tenantId": ACME, "title": "C" });
    let other = path("/consultations", &ceo.post("/consultations", &other).await.expect(201));
    ceo.post(&format!("{other}/cancel"), &json!({})).await.expect(200);

    // What owners do about what was received.
    let owner = app.add_person("acme-owner", &["/organizations/acme-corp/owners"]);
    let received = path("/inbox/events", &items(&owner, "/inbox/events?state=done").await[0]);
    owner.post(&format!("{received}/replay"), &json!({})).await.expect(200);
    app.run_jobs().await;
    owner_commands(&app).await;

    // What Keycloak's administrators do.
    keycloak.rename_group(ACME, "acme-inc").unwrap();
    keycloak.add_to_group("acme-viewer", "/organizations/acme-inc/agents").unwrap();
    keycloak.remove_from_group("quiet", "/organizations/acme-inc").unwrap();
    keycloak.set_enabled("newcomer", false).unwrap();
    compare(&app).await;
    keycloak.set_enabled("newcomer", true).unwrap();
    keycloak.delete_group("/teams/newcomers").unwrap();
    compare(&app).await;
    app.state().directory.refresh_user(app.user("newcomer")).await.unwrap();
    assert!(app.count("SELECT count(*) FROM tenants WHERE path = '/organizations/acme-inc'").await == 1);
    app.run_jobs().await;
}

/// What an owner does with an endpoint.
async fn owner_commands(app: &TestApp) {
    let owner = app.person("acme-owner");
    let new = json!({ "tenantId": ACME, "url": "http://127.0.0.1:9/hook", "eventTypes": ["approval.*"] });
    let endpoint = path("/endpoints", &owner.post("/endpoints", &new).await.expect(201));
    let added = json!({ "tenantId": ACME, "name": "Wiki", "icon": "book", "url": "https://wiki.example.org/", "opens": "tab" });
    let module = path("/modules", &owner.post("/modules", &added).await.expect(201));
    owner.patch(&module, &json!({ "opens": "page" })).await.expect(200);
    assert_eq!(owner.delete(&module).await.status, 204);
    owner.post(&format!("{endpoint}/test"), &json!({})).await.expect(202);
    owner.post(&format!("{endpoint}/rotate-secret"), &json!({})).await.expect(200);
    app.run_jobs().await;
    for change in
        [json!({ "url": "http://127.0.0.1:9/" }), json!({ "enabled": false }), json!({ "enabled": true })]
    {
        owner.patch(&endpoint, &change).await.expect(200);
    }
    // Long after the first failure; by then the old secret is forgotten at the next rotation.
    pass(app, 2);
    app.run_jobs().await;
    pass(app, 6 * 24 * 3600);
    app.run_jobs().await;
    assert_eq!(
        app.count("SELECT count(*) FROM webhook_endpoints WHERE disabled_because = 'failing'").await,
        1
    );
    let owner = app.person("acme-owner");
    owner.patch(&endpoint, &json!({ "enabled": true, "deliverMissed": false })).await.expect(200);
    owner.post(&format!("{endpoint}/rotate-secret"), &json!({})).await.expect(200);
    let failed = json!({ "since": app.now() - chrono::TimeDelta::days(30) });
    owner.post(&format!("{endpoint}/redeliver"), &failed).await.expect(202);
    assert_eq!(owner.delete(&endpoint).await.status, 204);
}

/// The actions in the trail of a tenant about one resource, oldest first.
async fn actions(app: &TestApp, tenant: uuid::Uuid, resource: &str) -> Vec<String> {
    sqlx::query_scalar("SELECT action FROM audit_logs WHERE tenant_id = $1 AND resource_id = $2 ORDER BY id")
        .bind(tenant)
        .bind(resource)
        .fetch_all(app.superuser())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_comparison_that_finds_nothing_new_leaves_no_entry() {
    let app = TestApp::start().await;
    for client in [app.agent(), app.ceo(), app.suite_admin()] {
        client.get("/me").await.expect(200);
    }
    compare(&app).await;
    let before = app.row_counts().await;
    compare(&app).await;
    for name in ["acme-agent", "acme-ceo", "suite-admin"] {
        app.state().directory.refresh_user(app.user(name)).await.unwrap();
    }
    assert_eq!(app.row_counts().await, before);
}

#[tokio::test]
async fn who_is_known_renamed_disabled_and_enabled_is_told_in_each_trail_that_it_concerns() {
    let app = TestApp::start().await;
    let keycloak = &app.doubles().keycloak;
    let directory = &app.state().directory;
    let acme = app.tenant(ACME);
    app.add_person("newcomer", &["/organizations/acme-corp/viewers"]);
    let user = app.user("newcomer");
    directory.refresh_tenant(acme).await.unwrap();
    let (personal, name) = (user.0, user.to_string());
    assert_eq!(actions(&app, acme.0, &name).await, ["principal.added", "membership.added"]);
    assert_eq!(
        actions(&app, personal, &name).await,
        ["tenant.created", "principal.added", "membership.added"]
    );

    keycloak.rename_user("newcomer", "Nora", "Newcomer").unwrap();
    directory.refresh_tenant(acme).await.unwrap();
    for tenant in [acme.0, personal] {
        assert_eq!(actions(&app, tenant, &name).await.last().unwrap(), "principal.renamed");
    }
    let (old, new): (String, String) = sqlx::query_as(
        "SELECT old_values->>'name', new_values->>'name' FROM audit_logs WHERE action = 'principal.renamed' AND tenant_id = $1",
    )
    .bind(acme.0)
    .fetch_one(app.superuser())
    .await
    .unwrap();
    assert_eq!((old.as_str(), new.as_str()), ("newcomer", "Nora Newcomer"));

    keycloak.set_enabled("newcomer", false).unwrap();
    directory.refresh_tenant(acme).await.unwrap();
    let in_acme = actions(&app, acme.0, &name).await;
    assert_eq!(in_acme[in_acme.len() - 2..], ["principal.disabled", "membership.removed"]);
    assert_eq!(actions(&app, personal, &name).await.last().unwrap(), "principal.disabled");
    // Who stays disabled is told once.
    directory.refresh_tenant(acme).await.unwrap();
    directory.refresh_user(user).await.unwrap();
    assert_eq!(actions(&app, acme.0, &name).await, in_acme);

    keycloak.set_enabled("newcomer", true).unwrap();
    directory.refresh_user(user).await.unwrap();
    assert_eq!(actions(&app, personal, &name).await.last().unwrap(), "principal.enabled");
    assert_eq!(actions(&app, acme.0, &name).await.last().unwrap(), "membership.added");
}

#[tokio::test]
async fn who_comes_to_run_the_suite_is_told() {
    let app = TestApp::start().await;
    let admin = app.user("suite-admin");
    app.suite_admin().get("/me").await.expect(200);
    let values = "SELECT count(*) FROM audit_logs WHERE action = 'principal.added' AND new_values->>'platformAdmin' = 'true'";
    assert_eq!(app.count(values).await, 1);
    // As if it had been known without the role, from a group.
    sqlx::query("UPDATE principals SET platform_admin = false WHERE id = $1")
        .bind(admin.0)
        .execute(app.superuser())
        .await
        .unwrap();
    pass(&app, 1);
    app.state().directory.refresh_user(admin).await.unwrap();
    assert_eq!(
        actions(&app, admin.0, &admin.to_string()).await.last().unwrap(),
        "principal.platform_admin_granted"
    );
}

#[tokio::test]
async fn a_renamed_tenant_is_told_in_its_trail() {
    let app = TestApp::start().await;
    let acme = app.tenant(ACME);
    assert_eq!(actions(&app, acme.0, &acme.to_string()).await, ["tenant.created"]);
    // Ids keep their order within a process; the tenant became known to another one.
    pass(&app, 1);
    app.doubles().keycloak.rename_group(ACME, "acme-inc").unwrap();
    app.state().directory.refresh_tenant(acme).await.unwrap();
    assert_eq!(actions(&app, acme.0, &acme.to_string()).await, ["tenant.created", "tenant.renamed"]);
    let (_, told) =
        (app.ceo().get("/me").await.expect(200), items(&app.ceo(), "/audit?action=tenant.renamed").await);
    assert_eq!(told[0]["oldValues"]["path"], json!(ACME));
    assert_eq!(told[0]["newValues"]["name"], json!("Acme Inc"));
    assert_eq!(id(&told[0]).len(), 36);
}
