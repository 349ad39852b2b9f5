//! What only the real server can show: that it takes the realm file as it stands.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::{
    browser::Browser,
    target::{REALM_FILE, Target},
};

/// Asserts that `found` has all that `expected` says; an object may have more, and a list another order.
fn assert_has(found: &Value, expected: &Value, place: &str) {
    match expected {
        Value::Object(expected) => {
            for (name, value) in expected {
                assert_has(&found[name], value, &format!("{place}.{name}"));
            }
        }
        Value::Array(expected) => {
            let found = found.as_array().unwrap_or_else(|| panic!("{place}: {found}"));
            assert_eq!(found.len(), expected.len(), "{place}");
            for value in expected {
                assert!(found.contains(value), "{place}: {value}");
            }
        }
        expected => assert_eq!(found, expected, "{place}"),
    }
}

async fn managed(target: &Target, path: &str) -> Value {
    let (status, body, _) = target.manage(Method::GET, path, None).await;
    assert_eq!(status, StatusCode::OK, "{path}: {body}");
    body
}

#[tokio::test]
#[ignore = "needs a Keycloak: cargo xtask test"]
async fn the_realm_file_is_imported_whole() {
    let target = Target::real().await;
    let file: Value = serde_json::from_str(REALM_FILE).unwrap();

    let mut realm = file.clone();
    let settings = realm.as_object_mut().unwrap();
    // The rest is asked for in other places, below; and one attribute is for the import alone.
    settings.retain(|_, value| !value.is_array());
    settings.remove("roles");
    settings["attributes"].as_object_mut().unwrap().remove("CreateDefaultClientScopes");
    assert!(settings.len() > 30, "{}", settings.len());
    assert_has(&managed(&target, "").await, &realm, "realm");

    for client in file["clients"].as_array().unwrap() {
        let path = format!("clients/{}", client["id"].as_str().unwrap());
        assert_has(&managed(&target, &path).await, client, &path);
    }
    for user in file["users"].as_array().unwrap() {
        let path = format!("users/{}", user["id"].as_str().unwrap());
        let mut expected = user.clone();
        for elsewhere in ["credentials", "groups", "realmRoles", "clientRoles", "serviceAccountClientId"] {
            expected.as_object_mut().unwrap().remove(elsewhere);
        }
        assert_has(&managed(&target, &path).await, &expected, &path);
        let groups = managed(&target, &format!("{path}/groups")).await;
        let mut groups: Vec<&str> =
            groups.as_array().unwrap().iter().map(|group| group["path"].as_str().unwrap()).collect();
        let mut expected: Vec<&str> =
            user["groups"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
        groups.sort_unstable();
        expected.sort_unstable();
        assert_eq!(groups, expected, "{path}");
    }
    let mut pending: Vec<&Value> = file["groups"].as_array().unwrap().iter().collect();
    let mut count = 0;
    while let Some(group) = pending.pop() {
        let path = format!("groups/{}", group["id"].as_str().unwrap());
        let mut expected = group.clone();
        expected.as_object_mut().unwrap().remove("subGroups");
        assert_has(&managed(&target, &path).await, &expected, &path);
        pending.extend(group["subGroups"].as_array().into_iter().flatten());
        count += 1;
    }
    assert_eq!(count, 30);
    // Keycloak's own flows and scopes are there beside the file's.
    let flows = managed(&target, "authentication/flows").await;
    for alias in ["browser with levels", "browser", "direct grant", "clients"] {
        assert!(flows.as_array().unwrap().iter().any(|flow| flow["alias"] == alias), "{alias}");
    }
    let scopes = managed(&target, "client-scopes").await;
    for name in ["groups", "chancery-api-audience", "basic", "acr", "profile", "email", "service_account"] {
        assert!(scopes.as_array().unwrap().iter().any(|scope| scope["name"] == name), "{name}");
    }
}

#[tokio::test]
#[ignore = "needs a Keycloak: cargo xtask test"]
async fn guessing_a_password_locks_a_person_out_for_a_while() {
    let target = Target::real().await;
    let person = target.person(&[]).await;
    let mut browser = Browser::default();
    let mut page = target.authorize(&mut browser, &[]).await;
    for _ in 0..3 {
        page = target.identify(&mut browser, &page, &person.username, "a guess").await;
        assert!(page.asks_for("username"), "{}", page.body);
    }
    let page = target.identify_as(&mut browser, &page, &person).await;
    assert_eq!(page.location, None, "the right password comes too late");
    // It passes by itself: nobody is disabled by another's guesses.
    let user = managed(&target, &format!("users/{}", person.id)).await;
    assert_eq!(user["enabled"], true);
    let guesses = managed(&target, &format!("attack-detection/brute-force/users/{}", person.id)).await;
    assert_eq!(guesses["disabled"], true, "{guesses}");
}

#[tokio::test]
#[ignore = "needs a Keycloak: cargo xtask test"]
async fn the_demo_users_sign_in_with_the_passwords_of_the_file() {
    let target = Target::real().await;
    let file: Value = serde_json::from_str(REALM_FILE).unwrap();
    let people =
        file["users"].as_array().unwrap().iter().filter(|user| user["serviceAccountClientId"].is_null());
    for user in people {
        let (name, password) =
            (user["username"].as_str().unwrap(), user["credentials"][0]["value"].as_str().unwrap());
        let mut browser = Browser::default();
        let page = target.authorize(&mut browser, &[]).await;
        let answer = target.identify(&mut browser, &page, name, password).await;
        assert_eq!(target.exchange(&answer).await.0, StatusCode::OK, "{name}");
    }
}
