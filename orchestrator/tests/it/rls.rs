//! Row-level security as the database has it: a look at the catalogue, and a probe with the logins' own SQL. Both are
//! functions that list what is wrong, so that a test can take a policy away and see them notice.

mod samples;

use chancery::testing::TestApp;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use uuid::Uuid;

use self::samples::samples;

/// Tables that one login reaches without a tenant: what comes in before its tenant is known, the queue, whose turn it is to
/// be delivered to, whose a room of Jitsi's or of Matrix' is, the mirror of Keycloak, what was made of it in the tools, and the answers that belong to who asked. One
/// more widens what the worker's login reads and writes: it needs a reason, and this list to say so.
const SYSTEM_TABLES: [&str; 19] = [
    "consultation_rooms",
    "idempotency_keys",
    "inbox_attempts",
    "inbox_events",
    "inbox_failures",
    "inbox_keys",
    "inbox_lanes",
    "inbox_pending",
    "jobs",
    "matrix_rooms",
    "memberships",
    "people",
    "principals",
    "sync_grants",
    "tenants",
    "webhook_endpoint_lanes",
    "webhook_source_mappings",
    "webhook_source_secrets",
    "webhook_sources",
];

/// Keys that don't begin with the tenant, each with its reason.
const KEYS_WITHOUT_TENANT: [&str; 5] = [
    // Belongs to who asked.
    "idempotency_keys_pkey",
    // A lane holds events of all tenants.
    "inbox_lanes_pkey",
    // A person isn't a tenant's.
    "principals_pkey",
    // The tenant itself.
    "tenants_pkey",
    // The URL of a source names it alone.
    "webhook_sources_id",
];

/// Functions with their owner's rights: only the worker may call them. One more needs a reason.
const DEFINERS: [&str; 2] = ["drop_inbox_partitions", "make_inbox_partitions"];

/// The column that says whose a row is.
fn owner_column(table: &str) -> &'static str {
    match table {
        "tenants" => "id",
        "idempotency_keys" => "actor_id",
        _ => "tenant_id",
    }
}

/// What is wrong with the database's policies, keys and grants.
async fn catalogue(connection: &mut PgConnection, app: &str, worker: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let tables = sqlx::query(
        "SELECT relname::text, relrowsecurity AND relforcerowsecurity FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND relname <> '_sqlx_migrations' ORDER BY 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    assert!(tables.len() >= 15, "the schema is there");
    for table in &tables {
        if !table.get::<bool, _>(1) {
            wrong
                .push(format!("{}: row-level security is not enabled and forced", table.get::<String, _>(0)));
        }
    }

    let grants = sqlx::query(
        "SELECT relname::text, grantee.rolname::text, privilege_type FROM pg_class
         CROSS JOIN LATERAL aclexplode(coalesce(relacl, acldefault('r', relowner))) AS acl
         LEFT JOIN pg_roles AS grantee ON grantee.oid = acl.grantee
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f') AND acl.grantee <> relowner",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let policies = sqlx::query(
        "SELECT tablename::text, roles::text[], permissive = 'PERMISSIVE', cmd, coalesce(qual, ''), coalesce(with_check, ''), policyname::text
         FROM pg_policies WHERE schemaname = 'public'",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let find = |table: &str, role: &str, permissive: bool, verb: &str| {
        policies.iter().find(|policy| {
            policy.get::<String, _>(0) == table
                && policy.get::<Vec<String>, _>(1).iter().any(|one| one == role)
                && policy.get::<bool, _>(2) == permissive
                && policy.get::<String, _>(3) == verb
        })
    };
    for grant in &grants {
        let (table, role, verb): (String, Option<String>, String) =
            (grant.get(0), grant.get(1), grant.get(2));
        let Some(role) = role else {
            wrong.push(format!("{table}: {verb} is granted to everybody"));
            continue;
        };
        if role != app && role != worker {
            wrong.push(format!("{table}: {verb} is granted to {role}"));
            continue;
        }
        if !["SELECT", "INSERT", "UPDATE", "DELETE"].contains(&verb.as_str()) {
            wrong.push(format!("{table}: {verb} is granted to {role}, and no policy holds it"));
            continue;
        }
        let Some(policy) = find(&table, &role, true, &verb) else {
            wrong.push(format!("{table}: {role} may {verb}, and no policy says which rows"));
            continue;
        };
        let said = format!("{} {}", policy.get::<String, _>(4), policy.get::<String, _>(5));
        let has_tenant =
            said.contains("app.tenant_id") || (table == "idempotency_keys" && said.contains("app.actor_id"));
        let is_system = role == worker && SYSTEM_TABLES.contains(&table.as_str());
        if !has_tenant && !is_system {
            wrong.push(format!("{table}: {role} may {verb} whatever tenant is set"));
        }
        // Also for what isn't granted today: a later grant comes with a boundary.
        for verb in ["SELECT", "INSERT", "UPDATE", "DELETE"] {
            let boundary = find(&table, &role, false, verb).or_else(|| find(&table, &role, false, "ALL"));
            let holds = boundary.is_some_and(|policy| {
                let said = format!("{} {}", policy.get::<String, _>(4), policy.get::<String, _>(5));
                said.contains("app.tenant_id")
                    || (table == "idempotency_keys" && said.contains("app.actor_id"))
            });
            if !is_system && !holds {
                wrong.push(format!(
                    "{table}: nothing keeps a later policy from widening which rows {role} may {verb}"
                ));
            }
        }
    }
    for policy in &policies {
        let (table, roles): (String, Vec<String>) = (policy.get(0), policy.get(1));
        if roles.iter().any(|role| role != app && role != worker) {
            wrong.push(format!("{table}: a policy is for {roles:?}"));
        }
    }

    // Primary keys, unique keys and foreign keys begin with the tenant.
    let keys = sqlx::query(
        "SELECT index_class.relname::text, first.attname::text FROM pg_index
         JOIN pg_class AS index_class ON index_class.oid = indexrelid
         JOIN pg_class AS of_table ON of_table.oid = indrelid
         JOIN pg_attribute AS first ON first.attrelid = indrelid AND first.attnum = indkey[0]
         WHERE of_table.relnamespace = 'public'::regnamespace AND indisunique AND of_table.relname <> '_sqlx_migrations'
         UNION ALL
         SELECT conname::text, first.attname::text FROM pg_constraint
         JOIN pg_attribute AS first ON first.attrelid = conrelid AND first.attnum = conkey[1]
         WHERE connamespace = 'public'::regnamespace AND contype = 'f'",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    for key in &keys {
        let (name, first): (String, String) = (key.get(0), key.get(1));
        let is_excepted = KEYS_WITHOUT_TENANT.contains(&name.as_str());
        if (first == "tenant_id") == is_excepted {
            wrong.push(format!(
                "{name}: begins with {first}{}",
                if is_excepted { ", and needn't be excepted" } else { "" }
            ));
        }
    }
    for excepted in KEYS_WITHOUT_TENANT {
        if !keys.iter().any(|key| key.get::<String, _>(0) == excepted) {
            wrong.push(format!("{excepted}: is excepted and doesn't exist"));
        }
    }

    // What would run or read as its owner, past the policies.
    for (what, sql) in [
        (
            "a view or a foreign table",
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm', 'f')",
        ),
        ("a rule", "SELECT rulename::text FROM pg_rules WHERE schemaname = 'public'"),
    ] {
        let found: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *connection).await.unwrap();
        wrong.extend(found.into_iter().map(|name| format!("{name}: is {what}")));
    }

    let definers = sqlx::query(
        "SELECT proname::text, has_function_privilege($1, oid, 'EXECUTE'), has_function_privilege($2, oid, 'EXECUTE'),
                EXISTS (SELECT 1 FROM aclexplode(coalesce(proacl, acldefault('f', proowner))) WHERE grantee = 0),
                coalesce(proconfig @> ARRAY['search_path=pg_catalog, public, pg_temp'], false)
         FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef",
    )
    .bind(app)
    .bind(worker)
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    for definer in &definers {
        let (name, app_may, worker_may, everybody_may, has_path): (String, bool, bool, bool, bool) =
            (definer.get(0), definer.get(1), definer.get(2), definer.get(3), definer.get(4));
        if !DEFINERS.contains(&name.as_str()) {
            wrong.push(format!("{name}: is a SECURITY DEFINER function"));
        }
        if app_may || everybody_may || !worker_may {
            wrong.push(format!("{name}: others than the worker may call it, or the worker may not"));
        }
        if !has_path {
            wrong.push(format!("{name}: finds what it names by its caller's search path"));
        }
    }
    if definers.len() < DEFINERS.len() {
        wrong.push("a SECURITY DEFINER function is excepted and doesn't exist".to_owned());
    }
    // Past its parent, a partition is nobody's.
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relispartition AND relkind = 'r'
           AND (NOT relrowsecurity OR NOT relforcerowsecurity OR relacl IS NOT NULL OR EXISTS (SELECT 1 FROM pg_policy WHERE polrelid = pg_class.oid))",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    wrong.extend(open.into_iter().map(|name| format!("{name}: can be reached past its parent")));

    for role in [app, worker] {
        let too_much: bool = sqlx::query_scalar(
            "SELECT bool_or(rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication) FROM pg_roles WHERE pg_has_role($1, oid, 'MEMBER')",
        )
        .bind(role)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
        if too_much {
            wrong.push(format!("{role}: may do more than use its tables"));
        }
    }
    wrong
}

/// Tenants that the probe moves between: the first and the second have rows in every table, the third has only what
/// the others refer to.
const TENANTS: [Uuid; 3] = [Uuid::from_u128(0xa), Uuid::from_u128(0xb), Uuid::from_u128(0xc)];

/// Fills the tables, as somebody whom the policies don't hold.
async fn fill(superuser: &mut PgConnection) {
    superuser.execute("SELECT make_inbox_partitions('2020-01-01', 1)").await.unwrap();
    let samples = samples();
    for tenant in TENANTS {
        // First what the others refer to.
        let referred = [
            "tenants",
            "approvals",
            "consultations",
            "webhook_sources",
            "webhook_endpoints",
            "webhook_deliveries",
        ];
        let others =
            samples.keys().copied().filter(|table| !referred.contains(table) && tenant != TENANTS[2]);
        for table in referred.into_iter().chain(others) {
            sqlx::query(samples[table])
                .bind(tenant)
                .execute(&mut *superuser)
                .await
                .unwrap_or_else(|error| panic!("{table}: {error}"));
        }
    }
}

async fn set(connection: &mut PgConnection, current: Option<Uuid>, readable: &[Uuid]) {
    let readable = if readable.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", readable.iter().map(Uuid::to_string).collect::<Vec<_>>().join(","))
    };
    let current = current.map(|tenant| tenant.to_string()).unwrap_or_default();
    // The tenant and the actor are the same here: either names whose rows are wanted.
    sqlx::query("SELECT set_config('app.tenant_id', $1, true), set_config('app.actor_id', $1, true), set_config('app.tenant_ids', $2, true)")
        .bind(current)
        .bind(readable)
        .execute(connection)
        .await
        .unwrap();
}

/// Runs a statement and takes it back: how many rows it touched, or the error's code.
async fn attempt(connection: &mut PgConnection, sql: &str, tenant: Option<Uuid>) -> Result<u64, String> {
    connection.execute("SAVEPOINT attempt").await.unwrap();
    let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
    let result = match tenant {
        Some(tenant) => query.bind(tenant).execute(&mut *connection).await,
        None => query.execute(&mut *connection).await,
    };
    connection.execute("ROLLBACK TO SAVEPOINT attempt").await.unwrap();
    result.map(|done| done.rows_affected()).map_err(|error| {
        error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default().into_owned()
    })
}

const DENIED: &str = "42501";

/// What a login, inside a transaction of its own, can do that it must not, or can't do that it must.
async fn probe(connection: &mut PgConnection, skip: &[&str]) -> Vec<String> {
    let bypasses: bool =
        sqlx::query_scalar("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
    assert!(!bypasses, "the probe means nothing for a login that row-level security doesn't hold");
    let [own, foreign, empty] = TENANTS;
    let samples = samples();
    let mut wrong = Vec::new();
    let grants = sqlx::query(
        "SELECT relname::text, array_agg(verb ORDER BY verb) FROM pg_class CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS verb
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND has_table_privilege(oid, verb) GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let mut probed = 0;
    for grant in grants {
        let (table, verbs): (String, Vec<String>) = (grant.get(0), grant.get(1));
        if skip.contains(&table.as_str()) {
            continue;
        }
        probed += 1;
        let may = |verb: &str| verbs.iter().any(|one| one == verb);
        let Some(sample) = samples.get(table.as_str()) else {
            wrong.push(format!("{table}: there is no sample row"));
            continue;
        };
        let column = owner_column(&table);
        let mut check =
            |what: &str, found: Result<u64, String>, expected: &dyn Fn(&Result<u64, String>) -> bool| {
                if !expected(&found) {
                    wrong.push(format!("{table}: {what}: {found:?}"));
                }
            };
        let nothing: &dyn Fn(&Result<u64, String>) -> bool = &|found| *found == Ok(0);
        let something: &dyn Fn(&Result<u64, String>) -> bool = &|found| matches!(found, Ok(1..));
        let denied: &dyn Fn(&Result<u64, String>) -> bool =
            &|found| found.as_ref().is_err_and(|code| code == DENIED);
        let of = |tenant: Uuid| format!("WHERE {column} = '{tenant}'");
        let select = |condition: String| format!("SELECT 1 FROM {table} {condition}");

        // Inside one tenant: its rows, and nobody else's.
        set(connection, Some(own), &[own]).await;
        check("own rows", attempt(connection, &select(of(own)), None).await, something);
        check(
            "others' rows",
            attempt(connection, &select(format!("WHERE {column} <> '{own}'")), None).await,
            nothing,
        );
        check("a row for another", attempt(connection, sample, Some(foreign)).await, denied);
        let touch = |tenant: Uuid, to: Uuid| format!("UPDATE {table} SET {column} = '{to}' {}", of(tenant));
        let remove = |tenant: Uuid| format!("DELETE FROM {table} {}", of(tenant));
        if may("UPDATE") {
            check("updating an own row", attempt(connection, &touch(own, own), None).await, something);
            check(
                "updating another's row",
                attempt(connection, &touch(foreign, foreign), None).await,
                nothing,
            );
            check("giving an own row away", attempt(connection, &touch(own, foreign), None).await, denied);
        } else {
            check("updating", attempt(connection, &touch(own, own), None).await, denied);
        }
        if may("DELETE") {
            check("deleting an own row", attempt(connection, &remove(own), None).await, something);
            check("deleting another's row", attempt(connection, &remove(foreign), None).await, nothing);
        } else {
            check("deleting", attempt(connection, &remove(own), None).await, denied);
        }

        // Reading in several tenants, writing in one: still that one.
        set(connection, Some(own), &[own, foreign]).await;
        if table != "idempotency_keys" {
            check(
                "rows of one of its tenants",
                attempt(connection, &select(of(foreign)), None).await,
                something,
            );
        }
        check("a row for one of its tenants", attempt(connection, sample, Some(foreign)).await, denied);
        if may("UPDATE") {
            check(
                "updating a row of one of its tenants",
                attempt(connection, &touch(foreign, foreign), None).await,
                nothing,
            );
        }
        if may("DELETE") {
            check(
                "deleting a row of one of its tenants",
                attempt(connection, &remove(foreign), None).await,
                nothing,
            );
        }

        // In a tenant of its own, a row can be made; in none, none is there.
        set(connection, Some(empty), &[]).await;
        if may("INSERT") {
            check("a row of its own", attempt(connection, sample, Some(empty)).await, something);
        }
        set(connection, None, &[]).await;
        check("rows without a tenant", attempt(connection, &select(String::new()), None).await, nothing);
        check("a row without a tenant", attempt(connection, sample, Some(own)).await, denied);
    }
    assert!(probed >= 6, "the login has tables");
    wrong
}

#[tokio::test]
async fn every_table_is_held_by_policies_and_led_by_its_tenant() {
    let app = TestApp::start().await;
    let mut superuser = app.superuser().acquire().await.unwrap();
    let wrong = catalogue(&mut superuser, &app.role("app"), &app.role("worker")).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn each_login_sees_and_changes_only_the_tenant_that_is_set() {
    let app = TestApp::start().await;
    let mut superuser = app.superuser().acquire().await.unwrap();
    fill(&mut superuser).await;
    app.leave_jobs();
    for (mut login, skip) in
        [(app.app_login().await, &[][..]), (app.worker_login().await, &SYSTEM_TABLES[..])]
    {
        let mut transaction = login.begin().await.unwrap();
        let wrong = probe(&mut transaction, skip).await;
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[tokio::test]
async fn a_connection_that_has_set_nothing_sees_nothing() {
    let app = TestApp::start().await;
    let mut superuser = app.superuser().acquire().await.unwrap();
    fill(&mut superuser).await;
    app.leave_jobs();
    let mut login = app.app_login().await;
    for table in samples().keys() {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        // What is the worker's alone can't even be counted.
        match sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut login).await {
            Ok(seen) => assert_eq!(seen, 0, "{table}"),
            Err(error) => {
                assert_eq!(error.as_database_error().unwrap().code().unwrap(), DENIED, "{table}");
            }
        }
    }
}

/// A policy of a login.
struct Policy {
    table: String,
    name: String,
    admits: bool,
    verb: String,
    /// Whether the login may do at all what the policy is about.
    is_granted: bool,
}

async fn policies(connection: &mut PgConnection, role: &str) -> Vec<Policy> {
    let rows = sqlx::query(
        "SELECT tablename::text, policyname::text, permissive = 'PERMISSIVE', cmd,
                cmd = 'ALL' OR has_table_privilege($1, format('public.%I', tablename), cmd)
         FROM pg_policies WHERE $1 = ANY (roles) ORDER BY 1, 2",
    )
    .bind(role)
    .fetch_all(connection)
    .await
    .unwrap();
    let read = |row: &sqlx::postgres::PgRow| Policy {
        table: row.get(0),
        name: row.get(1),
        admits: row.get(2),
        verb: row.get(3),
        is_granted: row.get(4),
    };
    rows.iter().map(read).collect()
}

#[tokio::test]
async fn the_catalogue_test_notices_each_policy_that_is_missing() {
    let app = TestApp::start().await;
    let mut superuser = app.superuser().acquire().await.unwrap();
    let (app_role, worker_role) = (app.role("app"), app.role("worker"));
    let mut all = policies(&mut superuser, &app_role).await;
    all.extend(policies(&mut superuser, &worker_role).await);
    assert!(all.len() > 50);
    for Policy { table, name, .. } in all {
        let mut transaction = superuser.begin().await.unwrap();
        transaction.execute(AssertSqlSafe(format!("DROP POLICY {name} ON {table}"))).await.unwrap();
        let wrong = catalogue(&mut transaction, &app_role, &worker_role).await;
        assert!(!wrong.is_empty(), "{name} on {table} is not missed");
        transaction.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn the_catalogue_test_notices_what_else_would_open_a_table() {
    let app = TestApp::start().await;
    let mut superuser = app.superuser().acquire().await.unwrap();
    let (app_role, worker_role) = (app.role("app"), app.role("worker"));
    for sql in [
        "ALTER TABLE approvals NO FORCE ROW LEVEL SECURITY".to_owned(),
        "ALTER TABLE approvals DISABLE ROW LEVEL SECURITY".to_owned(),
        "CREATE TABLE notes (tenant_id uuid, id uuid, PRIMARY KEY (tenant_id, id))".to_owned(),
        "CREATE UNIQUE INDEX approvals_title ON approvals (title)".to_owned(),
        "CREATE VIEW all_approvals AS SELECT * FROM approvals".to_owned(),
        "GRANT EXECUTE ON FUNCTION drop_inbox_partitions(date) TO PUBLIC".to_owned(),
        format!("GRANT EXECUTE ON FUNCTION make_inbox_partitions(date, integer) TO {app_role}"),
        "ALTER FUNCTION drop_inbox_partitions(date) RESET search_path".to_owned(),
        "SELECT make_inbox_partitions('2020-01-01', 1); ALTER TABLE inbox_events_20200101 DISABLE ROW LEVEL SECURITY".to_owned(),
        format!("SELECT make_inbox_partitions('2020-01-01', 1); GRANT SELECT ON inbox_events_20200101 TO {worker_role}"),
        "CREATE FUNCTION all_titles() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT title FROM approvals'".to_owned(),
        "GRANT SELECT ON approvals TO PUBLIC".to_owned(),
        format!("GRANT DELETE ON approvals TO {app_role}"),
        format!("GRANT TRUNCATE ON approvals TO {app_role}"),
        format!("ALTER ROLE {app_role} BYPASSRLS"),
        format!("CREATE ROLE chancery_test_bypass BYPASSRLS; GRANT chancery_test_bypass TO {worker_role}"),
        format!("DROP POLICY worker_select ON approvals; CREATE POLICY worker_select ON approvals FOR SELECT TO {worker_role} USING (true)"),
    ] {
        let mut transaction = superuser.begin().await.unwrap();
        transaction.execute(AssertSqlSafe(sql.clone())).await.unwrap();
        assert!(!catalogue(&mut transaction, &app_role, &worker_role).await.is_empty(), "not noticed: {sql}");
        transaction.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn the_probe_notices_each_policy_that_is_missing() {
    let app = TestApp::start().await;
    let mut superuser = app.superuser().acquire().await.unwrap();
    fill(&mut superuser).await;
    app.leave_jobs();
    for (role, skip) in [(app.role("app"), &[][..]), (app.role("worker"), &SYSTEM_TABLES[..])] {
        for Policy { table, name, admits, verb, is_granted } in policies(&mut superuser, &role).await {
            // Whether what can't be done is held by a policy, only the catalogue can tell.
            if skip.contains(&table.as_str()) || !is_granted {
                continue;
            }
            let is_about_it =
                |wrong: &Vec<String>| wrong.iter().any(|wrong| wrong.starts_with(&format!("{table}:")));
            let mut transaction = superuser.begin().await.unwrap();
            if !admits {
                // What restricts is there for the day on which a policy admits too much.
                let too_wide = match verb.as_str() {
                    "INSERT" => "WITH CHECK (true)",
                    "SELECT" | "DELETE" => "USING (true)",
                    _ => "USING (true) WITH CHECK (true)",
                };
                let sql = format!("CREATE POLICY too_wide ON {table} FOR {verb} TO {role} {too_wide}");
                transaction.execute(AssertSqlSafe(sql)).await.unwrap();
                transaction.execute(AssertSqlSafe(format!("SET LOCAL ROLE {role}"))).await.unwrap();
                let wrong = probe(&mut transaction, skip).await;
                assert!(!is_about_it(&wrong), "{name} on {table} lets a policy admit too much: {wrong:?}");
                transaction.execute("RESET ROLE").await.unwrap();
            }
            transaction.execute(AssertSqlSafe(format!("DROP POLICY {name} ON {table}"))).await.unwrap();
            transaction.execute(AssertSqlSafe(format!("SET LOCAL ROLE {role}"))).await.unwrap();
            let wrong = probe(&mut transaction, skip).await;
            assert!(is_about_it(&wrong), "{name} on {table} is not missed");
            transaction.rollback().await.unwrap();
        }
    }
}
