use connector_core::{Connector as _, ErrorKind, Health};
use connector_keycloak::{Group, User, fake::NewUser};
use futures::future::join_all;
use uuid::{Uuid, uuid};

use crate::harness::{AUTOMATION, SHELL, SYNC, Server};

const CEO: Uuid = uuid!("0b000000-0000-4000-8000-000000000002");
const ADMIN: Uuid = uuid!("0b000000-0000-4000-8000-000000000005");
const ACME: Uuid = uuid!("9a000000-0000-4000-8000-000000000110");
const GLOBEX: Uuid = uuid!("9a000000-0000-4000-8000-000000000120");
const NOBODY: Uuid = uuid!("0b000000-0000-4000-8000-0000000000ff");

fn paths(groups: &[Group]) -> Vec<&str> {
    let mut paths: Vec<&str> = groups.iter().map(|group| group.path.as_str()).collect();
    paths.sort_unstable();
    paths
}

fn names(users: &[User]) -> Vec<&str> {
    users.iter().map(|user| user.username.as_str()).collect()
}

#[tokio::test]
async fn a_user_is_found_by_id() {
    let server = Server::start().await;
    let user = server.admin().user(CEO).await.unwrap().unwrap();
    assert_eq!((user.id, user.username.as_str()), (CEO, "acme-ceo"));
    assert_eq!(user.display_name(), "Carla Chief");
    assert_eq!(user.email.as_deref(), Some("acme-ceo@acme.example"));
    assert!(user.enabled && user.email_verified && !user.is_service_account());
    assert_eq!(server.admin().user(NOBODY).await.unwrap(), None);
    server.double.set_enabled("acme-ceo", false).unwrap();
    assert!(!server.admin().user(CEO).await.unwrap().unwrap().enabled);
}

#[tokio::test]
async fn a_user_is_found_by_the_whole_address_in_any_case() {
    let server = Server::start().await;
    let admin = server.admin();
    assert_eq!(names(&admin.users_by_email("Acme-CEO@acme.example").await.unwrap()), ["acme-ceo"]);
    for part in ["acme-ceo", "acme.example", "%", "", "acme-ceo@acme.example "] {
        assert!(admin.users_by_email(part).await.unwrap().is_empty(), "{part:?}");
    }
}

#[tokio::test]
async fn the_groups_of_a_user_come_with_paths_parents_and_attributes() {
    let server = Server::start().await;
    server.double.add_to_group("acme-ceo", "/organizations/globex").unwrap();
    let groups = server.admin().user_groups(CEO).await.unwrap();
    assert_eq!(
        paths(&groups),
        ["/organizations/acme-corp/approvers", "/organizations/globex", "/teams/engineering/approvers"]
    );
    let globex = groups.iter().find(|group| group.id == GLOBEX).unwrap();
    assert_eq!(globex.attributes["displayName"], ["Globex Corporation"]);
    let approvers = groups.iter().find(|group| group.path.starts_with("/organizations/acme")).unwrap();
    assert_eq!(approvers.parent_id, Some(ACME));
    assert_eq!(server.admin().user_groups(NOBODY).await.unwrap_err().status, Some(404));
}

#[tokio::test]
async fn group_changes_are_seen_and_a_renamed_group_keeps_its_id() {
    let server = Server::start().await;
    let admin = server.admin();
    server.double.remove_from_group("acme-ceo", "/teams/engineering/approvers").unwrap();
    server.double.rename_group("/organizations/acme-corp", "acme-limited").unwrap();
    assert_eq!(paths(&admin.user_groups(CEO).await.unwrap()), ["/organizations/acme-limited/approvers"]);
    assert_eq!(admin.group_by_path("/organizations/acme-corp").await.unwrap(), None);
    let renamed = admin.group_by_path("/organizations/acme-limited").await.unwrap().unwrap();
    assert_eq!(renamed.id, ACME);
    assert_eq!(admin.group(ACME).await.unwrap().unwrap().name, "acme-limited");
    server.double.delete_group("/organizations/acme-limited").unwrap();
    assert_eq!(admin.group(ACME).await.unwrap(), None);
    assert!(admin.user_groups(CEO).await.unwrap().is_empty());
}

#[tokio::test]
async fn all_children_are_read_not_only_the_first_ten() {
    let server = Server::start().await;
    for number in 0..25 {
        server.double.create_group(&format!("/teams/squad-{number:02}")).unwrap();
    }
    let admin = server.admin();
    let teams = admin.group_by_path("/teams").await.unwrap().unwrap();
    assert_eq!(teams.parent_id, None);
    let children = admin.group_children(teams.id).await.unwrap();
    assert_eq!(children.len(), 27);
    assert!(children.iter().all(|child| child.parent_id == Some(teams.id)));
    // The trap itself: who doesn't say how many gets ten.
    let token = server.token(SYNC, &[("grant_type", "client_credentials")]).await.1;
    let url = format!("{}admin/realms/chancery/groups/{}/children", server.url, teams.id);
    let answer =
        server.browser.get(url).bearer_auth(token["access_token"].as_str().unwrap()).send().await.unwrap();
    assert_eq!(answer.json::<Vec<serde_json::Value>>().await.unwrap().len(), 10);
}

#[tokio::test]
async fn lists_longer_than_a_page_are_read_whole() {
    // Just short of a page, just a page (a further one turns out to be empty), and more than two.
    let sizes = [("viewers", 199), ("agents", 200), ("auditors", 403)];
    let mut realm: serde_json::Value = serde_json::from_str(crate::harness::REALM_FILE).unwrap();
    for number in 0..403 {
        let groups: Vec<String> = sizes
            .iter()
            .filter(|(_, size)| number < *size)
            .map(|(role, _)| format!("/teams/support/{role}"))
            .collect();
        let id = Uuid::from_u128(number);
        let user = serde_json::json!({"id": id, "username": format!("person-{number:03}"), "groups": groups});
        realm["users"].as_array_mut().unwrap().push(user);
    }
    let server = Server::start_with(realm.to_string()).await;
    for (role, size) in sizes {
        let group = server.double.group_id(&format!("/teams/support/{role}")).unwrap();
        let members = server.admin().group_members(group).await.unwrap();
        let expected: Vec<String> = (0..size).map(|number| format!("person-{number:03}")).collect();
        assert_eq!(names(&members), expected, "{role}");
    }
}

#[tokio::test]
async fn a_user_who_is_created_can_sign_in_and_is_in_its_groups() {
    let server = Server::start().await;
    let user = NewUser {
        username: "newcomer".to_owned(),
        email: Some("Newcomer@acme.example".to_owned()),
        groups: vec!["/organizations/acme-corp/managers".to_owned()],
        ..NewUser::default()
    };
    let id = server.double.create_user(user.clone()).unwrap();
    assert!(server.double.create_user(user).is_err());
    let found = server.admin().users_by_email("newcomer@acme.example").await.unwrap();
    assert_eq!((found[0].id, found[0].email_verified), (id, false));
    let tokens = server.tokens("newcomer").await;
    let claims = crate::harness::claims(&tokens, "id_token");
    assert_eq!(claims["groups"], serde_json::json!(["/organizations/acme-corp/managers"]));
    assert_eq!(claims.get("name"), None);
}

#[tokio::test]
async fn service_accounts_are_members_like_people_and_known_for_what_they_are() {
    let server = Server::start().await;
    let agents = server.double.group_id("/organizations/acme-corp/agents").unwrap();
    let members = server.admin().group_members(agents).await.unwrap();
    assert_eq!(names(&members), ["acme-agent", "service-account-chancery-automation"]);
    assert_eq!(members.iter().map(User::is_service_account).collect::<Vec<_>>(), [false, true]);
    assert!(members[1].email.is_none());
}

#[tokio::test]
async fn a_path_with_dots_leads_to_no_other_group() {
    let server = Server::start().await;
    let admin = server.admin();
    for path in ["/teams/engineering/..", "/teams/./engineering", "", "/", "/teams/engineering%2Fagents"] {
        assert_eq!(admin.group_by_path(path).await.unwrap(), None, "{path}");
    }
    assert!(admin.group_by_path("teams/engineering").await.unwrap().is_some());
    server.double.create_group("/teams/r&d ünit?#").unwrap();
    assert_eq!(admin.group_by_path("/teams/r&d ünit?#").await.unwrap().unwrap().name, "r&d ünit?#");
}

#[tokio::test]
async fn the_platform_admin_is_known_by_the_realms_role() {
    let server = Server::start().await;
    let admin = server.admin();
    let role = "chancery-platform-admin".to_owned();
    assert!(admin.user_realm_roles(ADMIN).await.unwrap().contains(&role));
    assert!(!admin.user_realm_roles(CEO).await.unwrap().contains(&role));
    assert_eq!(admin.user_realm_roles(NOBODY).await.unwrap_err().status, Some(404));
}

#[tokio::test]
async fn a_role_that_is_missing_is_an_error_and_not_an_empty_answer() {
    let realm = crate::harness::REALM_FILE.replace("\"view-users\"", "\"view-realm\"");
    let server = Server::start_with(realm).await;
    let error = server.admin().user_realm_roles(ADMIN).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Unauthorised, Some(403)));
    let other = server.admin_as(AUTOMATION);
    assert_eq!(other.user(CEO).await.unwrap_err().status, Some(403));
    assert_eq!(other.group(ACME).await.unwrap_err().status, Some(403));
}

#[tokio::test]
async fn wrong_credentials_and_a_wrong_realm_never_look_like_an_unknown_user() {
    let server = Server::start().await;
    let error = server.admin_as((SYNC.0, "wrong")).user(CEO).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Unauthorised, Some(401)));
    assert!(!error.to_string().contains("wrong"), "{error}");
    assert_eq!(server.admin_as(SHELL).user(CEO).await.unwrap_err().kind, ErrorKind::Unauthorised);

    let settings = connector_keycloak::KeycloakSettings {
        url: server.url.clone(),
        realm: "chancery-production".to_owned(),
        client_id: SYNC.0.to_owned(),
        client_secret: SYNC.1.into(),
    };
    assert!(!format!("{settings:?}").contains(SYNC.1));
    let elsewhere = connector_keycloak::KeycloakAdmin::new(settings, server.clock.clone()).unwrap();
    assert_eq!(elsewhere.user(CEO).await.unwrap_err().kind, ErrorKind::Misconfigured);
    assert_eq!(elsewhere.group_by_path("/teams").await.unwrap_err().kind, ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_token_is_kept_until_shortly_before_it_expires() {
    let server = Server::start().await;
    let admin = server.admin();
    let many = (0..20).map(|_| admin.user(CEO));
    assert!(join_all(many).await.iter().all(Result::is_ok));
    assert_eq!(server.token_requests(), 1);
    server.pass(269);
    admin.user(CEO).await.unwrap();
    assert_eq!(server.token_requests(), 1);
    server.pass(1);
    admin.user(CEO).await.unwrap();
    assert_eq!(server.token_requests(), 2);
}

#[tokio::test]
async fn a_token_that_is_refused_is_fetched_anew_once() {
    let server = Server::start().await;
    let admin = server.admin();
    admin.user(CEO).await.unwrap();
    server.double.replace_keys_now().unwrap();
    let many = (0..20).map(|_| admin.user(CEO));
    assert!(join_all(many).await.iter().all(|found| found.as_ref().unwrap().is_some()));
    assert_eq!(server.token_requests(), 2);
    server.double.set_enabled("service-account-chancery-sync", false).unwrap();
    assert_eq!(admin.user(CEO).await.unwrap_err().kind, ErrorKind::Unauthorised);
    assert_eq!(server.token_requests(), 3);
    server.double.set_enabled("service-account-chancery-sync", true).unwrap();
    assert!(admin.user(CEO).await.unwrap().is_some());
}

#[tokio::test]
async fn a_deleted_user_is_gone_and_so_are_its_sessions() {
    let server = Server::start().await;
    let tokens = server.tokens("outsider").await;
    let id = server.double.user_id("outsider").unwrap();
    server.double.delete_user("outsider").unwrap();
    assert_eq!(server.admin().user(id).await.unwrap(), None);
    assert_ne!(server.refresh(tokens["refresh_token"].as_str().unwrap()).await.0, 200);
    assert!(server.double.delete_user("outsider").is_err());
}

#[tokio::test]
async fn a_check_needs_the_right_to_read_users() {
    let server = Server::start().await;
    let admin = server.admin();
    assert_eq!(admin.check().await.unwrap().identity.as_deref(), Some(SYNC.0));
    assert!(matches!(admin.health(), Health::Working { .. }));
    let automation = server.admin_as(AUTOMATION);
    assert_eq!(automation.check().await.unwrap_err().kind, ErrorKind::Unauthorised);
    assert!(automation.health().is_failing());
}
