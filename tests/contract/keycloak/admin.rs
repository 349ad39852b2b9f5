use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::{Uuid, uuid};

use super::{
    browser::http,
    target::{AUTOMATION, SYNC, Target},
};

const CEO: Uuid = uuid!("0b000000-0000-4000-8000-000000000002");
const SUITE_ADMIN: Uuid = uuid!("0b000000-0000-4000-8000-000000000005");
const NOBODY: Uuid = uuid!("0b000000-0000-4000-8000-0000000000ff");
/// The client `chancery-api`.
const API: Uuid = uuid!("c1000000-0000-4000-8000-000000000002");
const ACME: Uuid = uuid!("9a000000-0000-4000-8000-000000000110");
const GLOBEX: Uuid = uuid!("9a000000-0000-4000-8000-000000000120");

pub async fn people_are_found_by_id_and_by_address(target: Target) {
    let admin = target.connector(SYNC);
    let user = admin.user(CEO).await.unwrap().unwrap();
    assert_eq!((user.id, user.username.as_str()), (CEO, "acme-ceo"));
    assert_eq!(user.display_name(), "Carla Chief");
    assert!(user.enabled && user.email_verified && !user.is_service_account());
    assert_eq!(admin.user(NOBODY).await.unwrap(), None);
    let found = admin.users_by_email("Acme-CEO@acme.example").await.unwrap();
    assert_eq!(found, [user]);
    for part in ["acme-ceo", "acme.example", "%", "acme-ceo@acme.example "] {
        assert!(admin.users_by_email(part).await.unwrap().is_empty(), "{part:?}");
    }
    let raw = target.look(&format!("users/{CEO}")).await;
    assert_eq!(raw["totp"], true, "has one-time codes");
    let listed = target.look("users?search=acme-&max=2").await;
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap()).collect();
    assert_eq!(names, ["acme-agent", "acme-ceo"]);
}

pub async fn groups_are_found_with_paths_parents_and_attributes(target: Target) {
    let admin = target.connector(SYNC);
    let person = target.person(&["/organizations/globex", "/organizations/acme-corp/approvers"]).await;
    let mut groups = admin.user_groups(person.id).await.unwrap();
    groups.sort_by(|left, right| left.path.cmp(&right.path));
    let paths: Vec<&str> = groups.iter().map(|group| group.path.as_str()).collect();
    assert_eq!(paths, ["/organizations/acme-corp/approvers", "/organizations/globex"]);
    assert_eq!(groups[0].parent_id, Some(ACME));
    assert_eq!(
        (groups[1].id, &groups[1].attributes["displayName"]),
        (GLOBEX, &vec!["Globex Corporation".to_owned()])
    );
    let acme = admin.group_by_path("/organizations/acme-corp").await.unwrap().unwrap();
    assert_eq!((acme.id, acme.name.as_str()), (ACME, "acme-corp"));
    assert_eq!(admin.group(ACME).await.unwrap().unwrap().path, acme.path);
    for path in ["/organizations/nowhere", "/teams/engineering/..", ""] {
        assert_eq!(admin.group_by_path(path).await.unwrap(), None, "{path}");
    }
    assert_eq!(admin.group(NOBODY).await.unwrap(), None);
    assert_eq!(admin.user_groups(NOBODY).await.unwrap_err().status, Some(404));
    // The top level alone, without what is below it.
    let top = target.look("groups").await;
    let top = top.as_array().unwrap().iter().find(|group| group["path"] == "/organizations").unwrap();
    assert_eq!((&top["subGroupCount"], &top["subGroups"]), (&json!(2), &json!([])));
    let raw = target.look(&format!("groups/{ACME}")).await;
    for (name, value) in [
        ("subGroups", json!([])),
        ("subGroupCount", json!(6)),
        ("parentId", json!("9a000000-0000-4000-8000-000000000100")),
        ("attributes", json!({})),
    ] {
        assert_eq!(raw[name], value, "{name}");
    }
}

pub async fn all_children_are_read_though_a_page_has_ten(target: Target) {
    let (team, name) = target.team().await;
    for number in 0..25 {
        let body = json!({"name": format!("squad-{number:02}")});
        let (status, _, _) =
            target.manage(Method::POST, &format!("groups/{team}/children"), Some(body)).await;
        assert_eq!(status, StatusCode::CREATED);
    }
    let children = target.connector(SYNC).group_children(team).await.unwrap();
    assert_eq!(children.len(), 25);
    for (number, child) in children.iter().enumerate() {
        assert_eq!(child.path, format!("/teams/{name}/squad-{number:02}"));
        assert_eq!(child.parent_id, Some(team));
    }
    // The trap itself: who doesn't say how many gets ten.
    let page = target.look(&format!("groups/{team}/children")).await;
    assert_eq!(page.as_array().unwrap().len(), 10);
    let page = target.look(&format!("groups/{team}/children?first=20&max=10")).await;
    let names: Vec<&str> =
        page.as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["squad-20", "squad-21", "squad-22", "squad-23", "squad-24"]);
}

pub async fn service_accounts_are_members_like_people(target: Target) {
    let agents =
        target.connector(SYNC).group_by_path("/organizations/acme-corp/agents").await.unwrap().unwrap();
    let members = target.connector(SYNC).group_members(agents.id).await.unwrap();
    let member = |name: &str| members.iter().find(|member| member.username == name).unwrap();
    assert!(!member("acme-agent").is_service_account());
    assert!(member("service-account-chancery-automation").is_service_account());
    assert!(member("service-account-chancery-automation").email.is_none());
    // Members of a group aren't members of the one above it.
    assert!(target.connector(SYNC).group_members(ACME).await.unwrap().is_empty());
    assert_eq!(target.connector(SYNC).group_members(NOBODY).await.unwrap_err().status, Some(404));
    let people = target.look("users?search=service-account").await;
    assert_eq!(people, json!([]), "no list of people has them");
}

pub async fn roles_are_seen_by_who_may_see_them(target: Target) {
    let admin = target.connector(SYNC);
    let roles = admin.user_realm_roles(SUITE_ADMIN).await.unwrap();
    assert!(roles.contains(&"chancery-platform-admin".to_owned()), "{roles:?}");
    let mut roles = admin.user_realm_roles(CEO).await.unwrap();
    roles.sort();
    assert_eq!(roles, ["default-roles-chancery", "offline_access", "uma_authorization"]);
    assert_eq!(admin.user_realm_roles(NOBODY).await.unwrap_err().status, Some(404));
    // The client's role comes along with the realm's; it takes more than seeing users to see it.
    let path = format!("users/{SUITE_ADMIN}/role-mappings/clients/{API}/composite");
    let (status, roles, _) = target.manage(Method::GET, &path, None).await;
    assert_eq!(status, StatusCode::OK, "{roles}");
    let names: Vec<&str> =
        roles.as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["platform-admin"]);
}

pub async fn who_may_not_look_is_told_so(target: Target) {
    let forbidden = json!({"error": "HTTP 403 Forbidden"});
    let machine = target.machine(AUTOMATION).await;
    for path in [
        format!("users/{CEO}"),
        format!("users/{CEO}/groups"),
        format!("users/{CEO}/role-mappings/realm/composite"),
        format!("groups/{ACME}"),
        "users".to_owned(),
        "admin-events".to_owned(),
        "events".to_owned(),
    ] {
        let (status, body, _) = target.call(&machine, Method::GET, &path, None).await;
        assert_eq!((status, body), (StatusCode::FORBIDDEN, forbidden.clone()), "{path}");
    }
    let sync = target.machine(SYNC).await;
    for (method, path, body) in [
        // Whoever sees clients sees their secrets.
        (Method::GET, "clients".to_owned(), None),
        (Method::GET, format!("users/{SUITE_ADMIN}/role-mappings/clients/{API}/composite"), None),
        (Method::PUT, format!("users/{CEO}"), Some(json!({"enabled": false}))),
        (Method::DELETE, format!("users/{CEO}"), None),
        (Method::PUT, format!("users/{CEO}/groups/{ACME}"), None),
        (Method::DELETE, format!("groups/{ACME}"), None),
        (Method::POST, format!("users/{CEO}/logout"), None),
    ] {
        let (status, answer, _) = target.call(&sync, method, &path, body).await;
        assert_eq!((status, answer), (StatusCode::FORBIDDEN, forbidden.clone()), "{path}");
    }
    for token in [None, Some("nonsense")] {
        let mut request = http().get(format!("{}admin/realms/chancery/users/{CEO}", target.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({"error": "HTTP 401 Unauthorized"}));
    }
}
