use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::REALM_FILE;

fn realm() -> Value {
    serde_json::from_str(REALM_FILE).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// Path to group, for each group in the file.
fn groups(realm: &Value) -> BTreeMap<String, Value> {
    fn walk(found: &mut BTreeMap<String, Value>, groups: &[Value], parent: &str) {
        for group in groups {
            let path = format!("{parent}/{}", group["name"].as_str().unwrap());
            assert_eq!(group["path"], *path);
            walk(found, list(group, "subGroups"), &path);
            found.insert(path, group.clone());
        }
    }
    let mut found = BTreeMap::new();
    walk(&mut found, list(realm, "groups"), "");
    found
}

fn client<'a>(realm: &'a Value, id: &str) -> &'a Value {
    list(realm, "clients").iter().find(|client| client["clientId"] == id).unwrap()
}

#[test]
fn every_id_is_a_uuid_and_used_once() {
    fn walk(value: &Value, ids: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                ids.extend(object.get("id").map(|id| id.as_str().unwrap().to_owned()));
                object.values().for_each(|value| walk(value, ids));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, ids)),
            _ => {}
        }
    }
    let mut ids = Vec::new();
    walk(&realm(), &mut ids);
    assert!(ids.len() > 40, "{}", ids.len());
    assert!(ids.iter().all(|id| id.parse::<uuid::Uuid>().is_ok()));
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}

#[test]
fn groups_users_and_clients_have_fixed_ids() {
    let realm = realm();
    let entries = groups(&realm)
        .into_values()
        .chain(list(&realm, "users").to_vec())
        .chain(list(&realm, "clients").to_vec());
    for entry in entries {
        assert!(entry["id"].is_string(), "{entry}");
    }
}

#[test]
fn every_tenant_has_a_group_for_each_role() {
    let groups = groups(&realm());
    for tenant in
        ["/organizations/acme-corp", "/organizations/globex", "/teams/engineering", "/teams/support"]
    {
        for role in ["owners", "approvers", "managers", "agents", "auditors", "viewers"] {
            assert!(groups.contains_key(&format!("{tenant}/{role}")), "{tenant}/{role}");
        }
    }
}

#[test]
fn the_demo_users_are_who_the_readme_says() {
    let realm = realm();
    let groups = groups(&realm);
    let expected: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("acme-agent", &["/organizations/acme-corp/agents"][..]),
        ("acme-ceo", &["/organizations/acme-corp/approvers", "/teams/engineering/approvers"]),
        ("acme-viewer", &["/organizations/acme-corp/viewers"]),
        ("engineer", &["/teams/engineering/agents"]),
        ("suite-admin", &[]),
        ("outsider", &["/organizations/globex/agents"]),
        ("service-account-chancery-sync", &[]),
        ("service-account-chancery-automation", &["/organizations/acme-corp/agents"]),
        ("service-account-chancery-webhooks", &[]),
    ]);
    let mut seen = BTreeSet::new();
    for user in list(&realm, "users") {
        let name = user["username"].as_str().unwrap();
        let paths: Vec<&str> = list(user, "groups").iter().map(|path| path.as_str().unwrap()).collect();
        assert!(paths.iter().all(|path| groups.contains_key(*path)), "{name}");
        assert_eq!(paths, expected[name], "{name}");
        if user["serviceAccountClientId"].is_null() {
            assert_eq!(user["emailVerified"], true, "{name}");
            assert!(user["email"].as_str().unwrap().ends_with(".example"), "{name}");
            let password = user["credentials"][0]["value"].as_str().unwrap();
            assert!(password.starts_with("demo-only-"), "{name}");
        }
        seen.insert(name);
    }
    assert_eq!(seen, expected.keys().copied().collect());
    let is_admin = |user: &&Value| list(user, "realmRoles").contains(&"chancery-platform-admin".into());
    let admins: Vec<&Value> = list(&realm, "users").iter().filter(is_admin).collect();
    assert_eq!(admins.len(), 1);
    assert_eq!(admins[0]["username"], "suite-admin");
}

#[test]
fn level_2_is_a_one_time_code_for_five_minutes() {
    let realm = realm();
    assert_eq!(realm["attributes"]["acr.loa.map"], r#"{"1":1,"2":2}"#);
    let flows = list(&realm, "authenticationFlows");
    let flow = |alias: &str| flows.iter().find(|flow| flow["alias"] == alias).unwrap();
    let executions = |alias: &str| list(flow(alias), "authenticationExecutions").to_vec();
    assert_eq!(realm["browserFlow"], "browser with levels");
    assert!(executions("browser with levels").iter().any(|execution| execution["flowAlias"] == "levels"));
    let config = |alias: &Value| {
        list(&realm, "authenticatorConfig").iter().find(|config| config["alias"] == *alias).unwrap()["config"]
            .clone()
    };
    for (level, step) in [("1", "auth-username-password-form"), ("2", "auth-otp-form")] {
        let name = &executions("levels")[level.parse::<usize>().unwrap() - 1]["flowAlias"];
        let steps = executions(name.as_str().unwrap());
        assert_eq!(steps[0]["authenticator"], "conditional-level-of-authentication");
        assert_eq!(config(&steps[0]["authenticatorConfig"])["loa-condition-level"], level);
        assert_eq!(steps[1]["authenticator"], step);
        assert!(steps.iter().all(|step| step["requirement"] == "REQUIRED"));
    }
    assert_eq!(config(&"level 2".into())["loa-max-age"], "300");
    // Somebody has a code at hand.
    let ceo = list(&realm, "users").iter().find(|user| user["username"] == "acme-ceo").unwrap();
    let otp = list(ceo, "credentials").iter().find(|credential| credential["type"] == "otp").unwrap();
    assert_eq!(otp["secretData"], r#"{"value":"demo-only-acme-ceo-otp"}"#);
}

#[test]
fn guesses_are_slowed_down_and_events_are_kept() {
    let realm = realm();
    assert_eq!((&realm["bruteForceProtected"], &realm["permanentLockout"]), (&true.into(), &false.into()));
    for name in ["eventsEnabled", "adminEventsEnabled", "adminEventsDetailsEnabled"] {
        assert_eq!(realm[name], true, "{name}");
    }
}

#[test]
fn the_shell_must_use_pkce_and_hears_of_logouts() {
    let realm = realm();
    let shell = client(&realm, "chancery-shell");
    assert_eq!(shell["attributes"]["pkce.code.challenge.method"], "S256");
    assert_eq!(shell["attributes"]["backchannel.logout.session.required"], "true");
    assert!(
        shell["attributes"]["backchannel.logout.url"].as_str().unwrap().ends_with("/auth/backchannel-logout")
    );
    // With it on, Keycloak never sends a logout token.
    assert_eq!(shell["frontchannelLogout"], false);
    let people = list(&realm, "users").iter().filter(|user| user["serviceAccountClientId"].is_null());
    let redirects = list(shell, "redirectUris");
    for person in people {
        let uri = format!("http://{}.localhost:8080/auth/callback", person["username"].as_str().unwrap());
        assert!(redirects.contains(&uri.into()));
    }
    assert!(redirects.iter().all(|uri| !uri.as_str().unwrap().contains('*')));
    let after = shell["attributes"]["post.logout.redirect.uris"].as_str().unwrap();
    let after: Vec<String> =
        after.split("##").map(|uri| uri.replace("/auth/signed-out", "/auth/callback")).collect();
    assert_eq!(serde_json::json!(after), shell["redirectUris"], "the same hosts, and no star");
}

#[test]
fn no_client_takes_passwords_or_hands_out_tokens_in_a_redirect() {
    for client in list(&realm(), "clients") {
        assert_eq!(client["directAccessGrantsEnabled"], false, "{}", client["clientId"]);
        assert_eq!(client["implicitFlowEnabled"], false, "{}", client["clientId"]);
        assert_eq!(client["publicClient"], false, "{}", client["clientId"]);
        if let Some(secret) = client["secret"].as_str() {
            assert!(secret.starts_with("demo-only-"), "{}", client["clientId"]);
        }
    }
}

#[test]
fn the_scopes_that_tokens_need_are_there() {
    let realm = realm();
    // Without it, a file with scopes of its own gets none of Keycloak's, and tokens have no `sub`.
    assert_eq!(realm["attributes"]["CreateDefaultClientScopes"], "true");
    for id in
        ["chancery-shell", "chancery-sync", "chancery-automation", "chancery-matrix", "chancery-webhooks"]
    {
        let scopes = list(client(&realm, id), "defaultClientScopes");
        for scope in ["basic", "acr", "profile", "email", "roles", "web-origins"] {
            assert!(scopes.contains(&scope.into()), "{id} {scope}");
        }
    }
    for id in ["chancery-shell", "chancery-automation", "chancery-webhooks"] {
        assert!(
            list(client(&realm, id), "defaultClientScopes").contains(&"chancery-api-audience".into()),
            "{id}"
        );
    }
}
