//! The part of the Admin REST API that reads users, groups and roles.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    FakeKeycloak, State as Kept, claims, error, oidc, plain_error,
    realm::{Client, Directory, GroupRecord, UserRecord},
};

/// What a list holds where the caller doesn't say.
const DEFAULT_USERS: usize = 100;
const DEFAULT_CHILDREN: usize = 10;

pub(super) fn routes() -> Router<Arc<FakeKeycloak>> {
    const ADMIN: &str = "/admin/realms/{realm}";
    Router::new()
        .route(&format!("{ADMIN}/users"), get(users))
        .route(&format!("{ADMIN}/users/count"), get(users_count))
        .route(&format!("{ADMIN}/users/{{id}}"), get(user))
        .route(&format!("{ADMIN}/users/{{id}}/groups"), get(user_groups))
        .route(&format!("{ADMIN}/users/{{id}}/role-mappings"), get(role_mappings))
        .route(&format!("{ADMIN}/users/{{id}}/role-mappings/realm"), get(realm_roles))
        .route(&format!("{ADMIN}/users/{{id}}/role-mappings/realm/composite"), get(effective_realm_roles))
        .route(&format!("{ADMIN}/users/{{id}}/role-mappings/clients/{{client}}"), get(client_roles))
        .route(
            &format!("{ADMIN}/users/{{id}}/role-mappings/clients/{{client}}/composite"),
            get(effective_client_roles),
        )
        .route(&format!("{ADMIN}/clients"), get(clients))
        .route(&format!("{ADMIN}/groups"), get(groups))
        .route(&format!("{ADMIN}/groups/{{id}}"), get(group))
        .route(&format!("{ADMIN}/groups/{{id}}/children"), get(children))
        .route(&format!("{ADMIN}/groups/{{id}}/members"), get(members))
        .route(&format!("{ADMIN}/group-by-path/{{*path}}"), get(group_by_path))
}

type Double = State<Arc<FakeKeycloak>>;
/// Parameters of a list; those that the double doesn't know are ignored, as the real one ignores unknown ones.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Listing {
    first: Option<i64>,
    max: Option<i64>,
    brief_representation: Option<bool>,
    sub_groups_count: Option<bool>,
    exact: Option<bool>,
    search: Option<String>,
    username: Option<String>,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    enabled: Option<bool>,
    email_verified: Option<bool>,
    client_id: Option<String>,
}

type ListingQuery = Result<Query<Listing>, axum::extract::rejection::QueryRejection>;
/// An early answer is the size of an answer.
pub(super) type Checked<T> = Result<T, Box<Response>>;

/// Who calls, and what they may do: the roles of `realm-management` that the account has now.
pub(super) struct Caller {
    /// The id of the client that the token was issued to.
    pub(super) client: String,
    pub(super) user: Uuid,
    roles: Vec<String>,
}

impl Caller {
    pub(super) fn require(&self, roles: &[&str]) -> Checked<()> {
        if roles.iter().any(|role| self.roles.iter().any(|held| held == role)) {
            Ok(())
        } else {
            Err(Box::new(plain_error(StatusCode::FORBIDDEN)))
        }
    }
}

impl FakeKeycloak {
    pub(super) fn caller(&self, realm: &str, headers: &HeaderMap) -> Checked<Caller> {
        let refused = || Box::new(plain_error(StatusCode::UNAUTHORIZED));
        let (claims, user) =
            self.verify_access_token(oidc::bearer(headers).ok_or_else(refused)?).map_err(|_| refused())?;
        if realm != self.realm.name {
            return Err(Box::new(error(StatusCode::NOT_FOUND, "Realm not found.")));
        }
        // A role counts where the account has it and the client that the token was issued to may pass it on.
        let client = claims.get("azp").and_then(Value::as_str).and_then(|id| self.realm.client(id));
        let roles = user
            .client_roles
            .get("realm-management")
            .filter(|_| client.is_some_and(|client| client.full_scope_allowed))
            .map(|roles| claims::with_composites(roles).into_iter().map(ToOwned::to_owned).collect())
            .unwrap_or_default();
        let client = client.map(|client| client.id.clone()).unwrap_or_default();
        Ok(Caller { client, user: user.id, roles })
    }

    fn answer(
        &self,
        realm: &str,
        headers: &HeaderMap,
        roles: &[&str],
        look: impl FnOnce(&Directory) -> Checked<Value>,
    ) -> Response {
        self.answer_from(realm, headers, roles, |state| look(&state.directory))
    }

    /// An answer from all that is kept, for who has one of these roles.
    pub(super) fn answer_from(
        &self,
        realm: &str,
        headers: &HeaderMap,
        roles: &[&str],
        look: impl FnOnce(&Kept) -> Checked<Value>,
    ) -> Response {
        let checked = self.caller(realm, headers).and_then(|caller| caller.require(roles));
        match checked.and_then(|()| self.state.read(look)) {
            Ok(body) => ([("cache-control", "no-cache")], Json(body)).into_response(),
            Err(response) => *response,
        }
    }
}

const VIEW_USERS: &[&str] = &["view-users", "manage-users"];
const QUERY_USERS: &[&str] = &["query-users", "view-users", "manage-users"];
const VIEW_CLIENTS: &[&str] = &["view-clients", "manage-clients"];

async fn users(
    State(double): Double,
    Path(realm): Path<String>,
    headers: HeaderMap,
    query: ListingQuery,
) -> Response {
    let Ok(Query(listing)) = query else { return plain_error(StatusCode::NOT_FOUND) };
    double.answer(&realm, &headers, QUERY_USERS, |directory| {
        let found = search(directory, &listing);
        let brief = listing.brief_representation == Some(true);
        Ok(page(&found, &listing, Some(DEFAULT_USERS))
            .iter()
            .map(|user| represent_user(user, brief))
            .collect())
    })
}

async fn users_count(
    State(double): Double,
    Path(realm): Path<String>,
    headers: HeaderMap,
    query: ListingQuery,
) -> Response {
    let Ok(Query(listing)) = query else { return plain_error(StatusCode::NOT_FOUND) };
    double.answer(&realm, &headers, QUERY_USERS, |directory| Ok(search(directory, &listing).len().into()))
}

async fn user(
    State(double): Double,
    Path((realm, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    double.answer(&realm, &headers, VIEW_USERS, |directory| {
        find_user(directory, &id).map(|user| represent_user(user, false))
    })
}

async fn user_groups(
    State(double): Double,
    Path((realm, id)): Path<(String, String)>,
    headers: HeaderMap,
    query: ListingQuery,
) -> Response {
    let Ok(Query(listing)) = query else { return plain_error(StatusCode::NOT_FOUND) };
    double.answer(&realm, &headers, VIEW_USERS, |directory| {
        let mut groups: Vec<&GroupRecord> =
            find_user(directory, &id)?.groups.iter().filter_map(|group| directory.group(*group)).collect();
        groups.sort_by(|left, right| left.name.cmp(&right.name));
        // Alone among the lists, this one has no limit unless it is given one, and is brief unless told.
        let brief = listing.brief_representation != Some(false);
        let groups = page(&groups, &listing, None);
        Ok(groups.iter().map(|group| represent_group(directory, group, brief, false)).collect())
    })
}

async fn role_mappings(
    State(double): Double,
    Path((realm, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let sees_clients =
        double.caller(&realm, &headers).is_ok_and(|caller| caller.require(VIEW_CLIENTS).is_ok());
    double.answer(&realm, &headers, VIEW_USERS, |directory| {
        let user = find_user(directory, &id)?;
        let mut mappings = BTreeMap::new();
        // Roles of clients that the caller may not see are left out without a word.
        for (client_id, roles) in user.client_roles.iter().filter(|_| sees_clients) {
            let id =
                double.realm.client(client_id).map_or_else(|| client_id.clone(), |client| client.id.clone());
            let roles: Vec<Value> =
                roles.iter().map(|role| represent_role(&double, client_id, &id, role)).collect();
            mappings.insert(client_id, json!({"id": id, "client": client_id, "mappings": roles}));
        }
        Ok(if mappings.is_empty() { json!({}) } else { json!({ "clientMappings": mappings }) })
    })
}

async fn client_roles(
    State(double): Double,
    Path(path): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    double.client_roles(path, &headers, |user, client| {
        user.client_roles.get(client).cloned().unwrap_or_default()
    })
}

async fn effective_client_roles(
    State(double): Double,
    Path(path): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    double.client_roles(path, &headers, |user, client| double.realm.effective_client_roles(user, client))
}

async fn realm_roles(
    State(double): Double,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    double.realm_roles(&path, &headers, |user| user.realm_roles.clone())
}

/// As the real one, with the roles that the default role of each user consists of.
async fn effective_realm_roles(
    State(double): Double,
    Path(path): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    const IN_THE_DEFAULT: [&str; 2] = ["offline_access", "uma_authorization"];
    let default = format!("default-roles-{}", double.realm.name);
    double.realm_roles(&path, &headers, |user| {
        let mut roles = user.realm_roles.clone();
        if roles.contains(&default) {
            roles.extend(IN_THE_DEFAULT.map(ToOwned::to_owned));
        }
        roles
    })
}

impl FakeKeycloak {
    fn client_roles(
        &self,
        (realm, id, client): (String, String, String),
        headers: &HeaderMap,
        roles: impl FnOnce(&UserRecord, &str) -> Vec<String>,
    ) -> Response {
        let sees_clients =
            self.caller(&realm, headers).is_ok_and(|caller| caller.require(VIEW_CLIENTS).is_ok());
        self.answer(&realm, headers, VIEW_USERS, |directory| {
            let user = find_user(directory, &id)?;
            let client = self.realm.client_by_id(&client);
            let client = client.ok_or_else(|| Box::new(error(StatusCode::NOT_FOUND, "Client not found")))?;
            if !sees_clients {
                return Err(Box::new(plain_error(StatusCode::FORBIDDEN)));
            }
            let roles = roles(user, &client.client_id);
            Ok(roles.iter().map(|role| represent_role(self, &client.client_id, &client.id, role)).collect())
        })
    }

    fn realm_roles(
        &self,
        (realm, id): &(String, String),
        headers: &HeaderMap,
        roles: impl FnOnce(&UserRecord) -> Vec<String>,
    ) -> Response {
        self.answer(realm, headers, VIEW_USERS, |directory| {
            let roles = roles(find_user(directory, id)?);
            Ok(roles
                .iter()
                .map(|name| {
                    let role = self.realm.roles.realm.iter().find(|role| role.name == *name);
                    json!({
                        "id": role.and_then(|role| role.id.as_deref()).unwrap_or(name),
                        "name": name,
                        "description": role.and_then(|role| role.description.as_deref()),
                        "composite": role.is_some_and(|role| !role.composites.client.is_empty()),
                        "clientRole": false,
                        "containerId": self.realm_id(),
                    })
                })
                .collect())
        })
    }
}

async fn clients(
    State(double): Double,
    Path(realm): Path<String>,
    headers: HeaderMap,
    query: ListingQuery,
) -> Response {
    let Ok(Query(listing)) = query else { return plain_error(StatusCode::NOT_FOUND) };
    double.answer(&realm, &headers, VIEW_CLIENTS, |_| {
        let wanted = listing.client_id.as_ref();
        let clients = double.realm.clients.iter();
        Ok(clients
            .filter(|client| wanted.is_none_or(|wanted| *wanted == client.client_id))
            .map(represent_client)
            .collect())
    })
}

async fn groups(
    State(double): Double,
    Path(realm): Path<String>,
    headers: HeaderMap,
    query: ListingQuery,
) -> Response {
    let Ok(Query(listing)) = query else { return plain_error(StatusCode::NOT_FOUND) };
    double.answer(&realm, &headers, VIEW_USERS, |directory| {
        let brief = listing.brief_representation != Some(false);
        let groups = directory.children(None);
        let groups = page(&groups, &listing, None);
        Ok(groups.iter().map(|group| represent_group(directory, group, brief, true)).collect())
    })
}

async fn group(
    State(double): Double,
    Path((realm, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    double.answer(&realm, &headers, VIEW_USERS, |directory| {
        find_group(directory, &id).map(|group| represent_group(directory, group, false, true))
    })
}

async fn children(
    State(double): Double,
    Path((realm, id)): Path<(String, String)>,
    headers: HeaderMap,
    query: ListingQuery,
) -> Response {
    let Ok(Query(listing)) = query else { return plain_error(StatusCode::NOT_FOUND) };
    double.answer(&realm, &headers, VIEW_USERS, |directory| {
        let children = directory.children(Some(find_group(directory, &id)?.id));
        let brief = listing.brief_representation == Some(true);
        let count = listing.sub_groups_count != Some(false);
        let children = page(&children, &listing, Some(DEFAULT_CHILDREN));
        Ok(children.iter().map(|group| represent_group(directory, group, brief, count)).collect())
    })
}

async fn members(
    State(double): Double,
    Path((realm, id)): Path<(String, String)>,
    headers: HeaderMap,
    query: ListingQuery,
) -> Response {
    let Ok(Query(listing)) = query else { return plain_error(StatusCode::NOT_FOUND) };
    double.answer(&realm, &headers, VIEW_USERS, |directory| {
        let group = find_group(directory, &id)?.id;
        let mut members: Vec<&UserRecord> =
            directory.users.iter().filter(|user| user.groups.contains(&group)).collect();
        members.sort_by(|left, right| left.username.cmp(&right.username));
        let brief = listing.brief_representation == Some(true);
        Ok(page(&members, &listing, Some(DEFAULT_USERS))
            .iter()
            .map(|user| represent_user(user, brief))
            .collect())
    })
}

async fn group_by_path(
    State(double): Double,
    Path((realm, path)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    double.answer(&realm, &headers, VIEW_USERS, |directory| {
        let group = directory.group_by_path(&path);
        group
            .map(|group| represent_group(directory, group, false, true))
            .ok_or_else(|| Box::new(error(StatusCode::NOT_FOUND, "Group path does not exist")))
    })
}

pub(super) fn find_user<'a>(directory: &'a Directory, id: &str) -> Checked<&'a UserRecord> {
    directory.user(id).ok_or_else(|| Box::new(error(StatusCode::NOT_FOUND, "User not found")))
}

pub(super) fn find_group<'a>(directory: &'a Directory, id: &str) -> Checked<&'a GroupRecord> {
    let group = id.parse::<Uuid>().ok().and_then(|id| directory.group(id));
    group.ok_or_else(|| Box::new(error(StatusCode::NOT_FOUND, "Could not find group by id")))
}

/// The people that a search finds, by user name.
fn search<'a>(directory: &'a Directory, listing: &Listing) -> Vec<&'a UserRecord> {
    let exact = listing.exact == Some(true);
    let fits = |wanted: &Option<String>, value: Option<&str>| {
        wanted.as_ref().is_none_or(|wanted| {
            let (wanted, value) = (wanted.to_lowercase(), value.unwrap_or_default().to_lowercase());
            if exact { wanted == value } else { value.contains(&wanted) }
        })
    };
    let mut found: Vec<&UserRecord> = directory
        .users
        .iter()
        .filter(|user| user.service_account_client_id.is_none())
        .filter(|user| fits(&listing.username, Some(&user.username)))
        .filter(|user| fits(&listing.email, user.email.as_deref()))
        .filter(|user| fits(&listing.first_name, user.first_name.as_deref()))
        .filter(|user| fits(&listing.last_name, user.last_name.as_deref()))
        .filter(|user| listing.enabled.is_none_or(|enabled| enabled == user.enabled))
        .filter(|user| listing.email_verified.is_none_or(|verified| verified == user.email_verified))
        .filter(|user| {
            listing.search.as_ref().is_none_or(|wanted| {
                let wanted = wanted.trim().trim_end_matches('*').to_lowercase();
                [Some(&user.username), user.email.as_ref(), user.first_name.as_ref(), user.last_name.as_ref()]
                    .into_iter()
                    .flatten()
                    .any(|value| value.to_lowercase().starts_with(&wanted))
            })
        })
        .collect();
    found.sort_by(|left, right| left.username.cmp(&right.username));
    found
}

/// The entries from `first` on, `max` of them; a negative number means no limit.
fn page<'a, T>(all: &'a [T], listing: &Listing, default_max: Option<usize>) -> &'a [T] {
    let first = usize::try_from(listing.first.unwrap_or(0)).unwrap_or(0).min(all.len());
    let max = match listing.max {
        Some(max) => usize::try_from(max).unwrap_or(usize::MAX),
        None => default_max.unwrap_or(usize::MAX),
    };
    &all[first..all.len().min(first.saturating_add(max))]
}

fn represent_user(user: &UserRecord, brief: bool) -> Value {
    let mut representation = json!({
        "id": user.id,
        "username": user.username,
        "emailVerified": user.email_verified,
        "enabled": user.enabled,
        "createdTimestamp": user.created_timestamp,
    });
    for (name, value) in
        [("firstName", &user.first_name), ("lastName", &user.last_name), ("email", &user.email)]
    {
        if let Some(value) = value {
            representation[name] = value.clone().into();
        }
    }
    if !brief {
        representation["totp"] = user.otp_secret.is_some().into();
        representation["disableableCredentialTypes"] = json!([]);
        representation["requiredActions"] = json!([]);
        representation["notBefore"] = 0.into();
        if !user.attributes.is_empty() {
            representation["attributes"] = json!(user.attributes);
        }
    }
    representation
}

pub(super) fn represent_group(directory: &Directory, group: &GroupRecord, brief: bool, count: bool) -> Value {
    let mut representation =
        json!({"id": group.id, "name": group.name, "path": directory.path(group.id), "subGroups": []});
    if let Some(parent) = group.parent {
        representation["parentId"] = json!(parent);
    }
    if count {
        representation["subGroupCount"] = directory.children(Some(group.id)).len().into();
    }
    if !brief {
        representation["attributes"] = json!(group.attributes);
        representation["realmRoles"] = json!([]);
        representation["clientRoles"] = json!({});
    }
    representation
}

fn represent_role(double: &FakeKeycloak, client_id: &str, client: &str, name: &str) -> Value {
    let role = double
        .realm
        .roles
        .client
        .get(client_id)
        .and_then(|roles| roles.iter().find(|role| role.name == name));
    json!({
        "id": role.and_then(|role| role.id.as_deref()).unwrap_or(name),
        "name": name,
        "description": role.and_then(|role| role.description.as_deref()),
        "composite": false,
        "clientRole": true,
        "containerId": client,
    })
}

/// The client without its secret: nothing of ours asks for one, and the real one hands it out too freely.
fn represent_client(client: &Client) -> Value {
    json!({
        "id": client.id,
        "clientId": client.client_id,
        "name": client.name,
        "description": client.description,
        "enabled": client.enabled,
        "bearerOnly": client.bearer_only,
        "publicClient": client.public_client,
        "standardFlowEnabled": client.standard_flow_enabled,
        "directAccessGrantsEnabled": client.direct_access_grants_enabled,
        "serviceAccountsEnabled": client.service_accounts_enabled,
        "frontchannelLogout": client.frontchannel_logout,
        "fullScopeAllowed": client.full_scope_allowed,
        "redirectUris": client.redirect_uris,
        "webOrigins": client.web_origins,
        "attributes": client.attributes,
        "defaultClientScopes": client.default_client_scopes,
        "optionalClientScopes": client.optional_client_scopes,
        "protocol": "openid-connect",
    })
}
