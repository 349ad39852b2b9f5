use chrono::DateTime;
use connector_core::{Clock as _, SystemClock};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    browser::Browser,
    target::{SYNC, Target, claims, last_id, names, unique},
};

/// The administrators' events whose path has `part`, oldest first: operation, kind, path, and what was written.
async fn events(target: &Target, part: &str) -> Vec<(String, String, String, Value)> {
    let events = target.look(&format!("admin-events?direction=asc&max=1000&resourcePath=*{part}*")).await;
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let written = event["representation"]
                .as_str()
                .map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
            (text(event, "operationType"), text(event, "resourceType"), text(event, "resourcePath"), written)
        })
        .collect()
}

pub async fn changes_of_a_user_are_seen_and_leave_events(target: Target) {
    let admin = target.connector(SYNC);
    let (team, name) = target.team().await;
    let person = target.person(&["/teams/support/agents"]).await;
    let user = format!("users/{}", person.id);
    let membership = format!("{user}/groups/{team}");
    // Twice is fine, and happens once.
    for method in [Method::PUT, Method::PUT, Method::DELETE, Method::DELETE, Method::PUT] {
        let (status, body, _) = target.manage(method.clone(), &membership, None).await;
        assert_eq!((status, body), (StatusCode::NO_CONTENT, Value::Null), "{method}");
        let found = admin.user_groups(person.id).await.unwrap().iter().any(|group| group.id == team);
        assert_eq!(found, method == Method::PUT);
    }
    assert_eq!(admin.group_members(team).await.unwrap()[0].id, person.id);
    let (status, _, _) = target.manage(Method::PUT, &user, Some(json!({"enabled": false}))).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let found = admin.user(person.id).await.unwrap().unwrap();
    assert!(!found.enabled);
    assert_eq!(found.display_name(), "Pat Person", "what isn't named stays");
    let (status, _, _) = target.manage(Method::DELETE, &user, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(admin.user(person.id).await.unwrap(), None);
    assert!(admin.group_members(team).await.unwrap().is_empty());

    let events = events(&target, &person.id.to_string()).await;
    let short: Vec<(&str, &str, &str)> = events
        .iter()
        .map(|(operation, kind, path, _)| (operation.as_str(), kind.as_str(), path.as_str()))
        .collect();
    assert_eq!(
        short,
        [
            ("CREATE", "USER", user.as_str()),
            ("CREATE", "GROUP_MEMBERSHIP", &membership),
            ("DELETE", "GROUP_MEMBERSHIP", &membership),
            ("CREATE", "GROUP_MEMBERSHIP", &membership),
            ("UPDATE", "USER", &user),
            ("DELETE", "USER", &user),
        ]
    );
    let written = |index: usize| &events[index].3;
    let created = json!({
        "username": person.username, "firstName": "Pat", "lastName": "Person", "emailVerified": true, "enabled": true,
        "email": format!("{}@contract.example", person.username), "groups": ["/teams/support/agents"],
    });
    assert_eq!(*written(0), created);
    assert_eq!((&written(1)["id"], &written(1)["path"]), (&json!(team), &json!(format!("/teams/{name}"))));
    assert_eq!(*written(4), json!({"enabled": false}));
    assert_eq!(*written(5), json!({"id": person.id, "username": person.username}));
}

pub async fn changes_of_a_group_are_seen_and_leave_events(target: Target) {
    let admin = target.connector(SYNC);
    let (team, name) = target.team().await;
    let path = format!("groups/{team}");
    let (status, child, location) =
        target.manage(Method::POST, &format!("{path}/children"), Some(json!({"name": "agents"}))).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(last_id(&location.unwrap()).to_string(), child["id"].as_str().unwrap());
    assert_eq!((&child["path"], &child["parentId"]), (&json!(format!("/teams/{name}/agents")), &json!(team)));
    let person = target.person(&[&format!("/teams/{name}/agents")]).await;

    let renamed = format!("{name}-renamed");
    let body = json!({"name": renamed, "attributes": {"displayName": ["The Renamed"]}});
    let (status, _, _) = target.manage(Method::PUT, &path, Some(body)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let found = admin.group(team).await.unwrap().unwrap();
    assert_eq!((&found.name, &found.attributes["displayName"][0]), (&renamed, &"The Renamed".to_owned()));
    assert_eq!(admin.user_groups(person.id).await.unwrap()[0].path, format!("/teams/{renamed}/agents"));
    assert_eq!(admin.group_by_path(&format!("/teams/{name}")).await.unwrap(), None);

    let (status, _, _) = target.manage(Method::DELETE, &path, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(admin.group(team).await.unwrap(), None);
    assert!(admin.user_groups(person.id).await.unwrap().is_empty());

    let of_group = events(&target, &team.to_string()).await;
    let short: Vec<(&str, &str, &str)> = of_group
        .iter()
        .map(|(operation, kind, path, _)| (operation.as_str(), kind.as_str(), path.as_str()))
        .collect();
    let children = format!("{path}/children");
    // The membership that is lost with the group leaves none.
    assert_eq!(
        short,
        [("CREATE", "GROUP", children.as_str()), ("UPDATE", "GROUP", &path), ("DELETE", "GROUP", &path)]
    );
    assert_eq!((&of_group[0].3["id"], &of_group[0].3["name"]), (&child["id"], &json!("agents")));
    assert_eq!(of_group[1].3["name"], renamed.as_str());
    assert_eq!((&of_group[2].3["id"], &of_group[2].3["name"]), (&json!(team), &json!(renamed)));
}

pub async fn events_are_filtered_and_paged(target: Target) {
    let (team, _) = target.team().await;
    let before = SystemClock.now().timestamp_millis();
    let person = target.person(&[]).await;
    let membership = format!("users/{}/groups/{team}", person.id);
    target.manage(Method::PUT, &membership, None).await;
    target.manage(Method::DELETE, &membership, None).await;
    let mine = format!("resourcePath=users/{}*", person.id);
    let look = async |more: &str| -> Vec<Value> {
        target.look(&format!("admin-events?{mine}{more}")).await.as_array().unwrap().clone()
    };
    let operations = |events: &[Value]| -> Vec<String> {
        events.iter().map(|event| event["operationType"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(operations(&look("").await), ["DELETE", "CREATE", "CREATE"], "the newest first");
    assert_eq!(operations(&look("&direction=asc").await), ["CREATE", "CREATE", "DELETE"]);
    assert_eq!(look("&resourceTypes=GROUP_MEMBERSHIP").await.len(), 2);
    assert_eq!(look("&resourceTypes=GROUP_MEMBERSHIP&resourceTypes=USER").await.len(), 3);
    assert_eq!(look("&operationTypes=DELETE").await.len(), 1);
    assert_eq!(look("&first=1&max=1").await.len(), 1);
    assert_eq!(look("&first=3").await.len(), 0);
    assert_eq!(look(&format!("&dateFrom={before}")).await.len(), 3);
    assert_eq!(look(&format!("&dateTo={}", before - 1)).await.len(), 0);
    let newest = look("").await[0].clone();
    let time = newest["time"].as_i64().unwrap();
    assert!(look(&format!("&dateFrom={time}&dateTo={time}")).await.contains(&newest), "both ends count");
    assert_eq!(look("&dateFrom=2020-01-01").await.len(), 3);
    assert_eq!(look("&dateTo=2020-01-01").await.len(), 0);
    for name in ["id", "realmId"] {
        assert!(newest[name].is_string(), "{name}");
    }
    assert_eq!(newest["details"]["username"], person.username.as_str());
    assert_eq!(names(&newest["authDetails"]), ["clientId", "ipAddress", "realmId", "userId"]);

    let token = target.machine(SYNC).await;
    let (status, body, _) = target.call(&token, Method::GET, "admin-events?dateFrom=yesterday", None).await;
    let message = "Invalid value for 'dateFrom', expected format is yyyy-MM-dd or an Epoch timestamp";
    assert_eq!((status, body), (StatusCode::BAD_REQUEST, json!({"error": message})));
    // As the connector reads them: whom, in the order of time.
    let told: Vec<String> = target
        .connector(SYNC)
        .admin_events(DateTime::from_timestamp_millis(before).unwrap())
        .await
        .unwrap()
        .into_iter()
        .filter(|event| event.resource_path.contains(&person.id.to_string()))
        .map(|event| format!("{} {} {}", event.operation_type, event.resource_type, event.resource_path))
        .collect();
    let user = format!("users/{}", person.id);
    assert_eq!(
        told,
        [
            format!("CREATE USER {user}"),
            format!("CREATE GROUP_MEMBERSHIP {membership}"),
            format!("DELETE GROUP_MEMBERSHIP {membership}"),
        ]
    );
    let (status, _, _) = target.call(&token, Method::GET, "admin-events?operationTypes=POEM", None).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
}

pub async fn what_cannot_be_done_is_said(target: Target) {
    let (team, name) = target.team().await;
    let person = target.person(&[]).await;
    let nobody = unique();
    let teams = target.look("group-by-path/teams").await["id"].as_str().unwrap().to_owned();
    for (method, path, body, status, answer) in [
        (
            Method::POST,
            "users".to_owned(),
            Some(json!({"username": person.username})),
            409,
            json!({"errorMessage": "User exists with same username"}),
        ),
        (
            Method::PUT,
            format!("users/{nobody}"),
            Some(json!({"enabled": false})),
            404,
            json!({"error": "User not found"}),
        ),
        (Method::DELETE, format!("users/{nobody}"), None, 404, json!({"error": "User not found"})),
        (Method::PUT, format!("users/{nobody}/groups/{team}"), None, 404, json!({"error": "User not found"})),
        (
            Method::PUT,
            format!("users/{}/groups/{nobody}", person.id),
            None,
            404,
            json!({"error": "Group not found"}),
        ),
        (
            Method::POST,
            format!("groups/{teams}/children"),
            Some(json!({"name": name})),
            409,
            json!({"errorMessage": format!("Sibling group named '{name}' already exists.")}),
        ),
        (
            Method::DELETE,
            format!("groups/{nobody}"),
            None,
            404,
            json!({"error": "Could not find group by id"}),
        ),
        (
            Method::PUT,
            format!("groups/{nobody}"),
            Some(json!({"name": "x"})),
            404,
            json!({"error": "Could not find group by id"}),
        ),
    ] {
        let found = target.manage(method.clone(), &path, body).await;
        assert_eq!((found.0.as_u16(), found.1), (status, answer), "{method} {path}");
    }
}

pub async fn a_sign_in_leaves_an_event(target: Target) {
    let person = target.person(&[]).await;
    let before = SystemClock.now().timestamp_millis();
    let tokens = target.sign_in(&mut Browser::default(), &person).await;
    let session = claims(&tokens, "id_token")["sid"].clone();
    let of_person = format!("user={}&dateFrom={before}", person.id);
    let events = target.look(&format!("events?type=LOGIN&{of_person}")).await;
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
    let event = &events[0];
    for (name, value) in [
        ("type", json!("LOGIN")),
        ("clientId", json!(target.client)),
        ("userId", json!(person.id)),
        ("sessionId", session),
    ] {
        assert_eq!(event[name], value, "{name}");
    }
    assert!(event["time"].as_i64().unwrap() >= before);
    assert_eq!(
        target.look(&format!("events?type=LOGIN&client=chancery-matrix&{of_person}")).await,
        json!([])
    );
    assert_eq!(target.look(&format!("events?type=LOGOUT&{of_person}")).await, json!([]));
}
