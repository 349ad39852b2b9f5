//! Who works in the installation and in the account: the platform API's users and account users, and the members of inboxes.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, State as Extract},
    http::{HeaderMap, StatusCode},
    response::IntoResponse as _,
    routing::{get, patch, post},
};
use serde_json::{Map, Value, json};

use super::{
    ACCOUNT_ID, ACCOUNT_NAME, ADMINISTRATOR_EMAIL, ADMINISTRATOR_ID, API_INBOX_ID, AgentAccount,
    FakeChatwoot, WIDGET_INBOX_ID,
    platform::authorise,
    rest::{Allow, Answer, ApiError, Fake, nested, object, ok, string},
    state::{State, User},
};

/// What somebody may be in an account.
const ROLES: [&str; 2] = ["agent", "administrator"];
/// How long a password is.
const PASSWORD: std::ops::RangeInclusive<usize> = 6..=128;

pub(super) fn router() -> Router<Arc<FakeChatwoot>> {
    Router::new()
        .route("/platform/api/v1/users", post(create_user))
        .route("/platform/api/v1/users/{user}", get(show_user).patch(update_user))
        .route(
            "/platform/api/v1/accounts/{account}/account_users",
            get(list_account_users).post(set_account_user).delete(remove_account_user),
        )
        .route("/api/v1/accounts/{account}/inbox_members", patch(set_inbox_members))
}

/// Has these work in the account, as the double was told when it was opened, but for what a platform app has said since.
pub(super) fn renew(state: &mut State, agents: Vec<AgentAccount>) {
    state.users.retain(|id, user| user.by_platform || agents.iter().any(|agent| agent.id == *id));
    for AgentAccount { id, name, email } in agents {
        let role = Some("agent".to_owned());
        let user = User { name, email, custom_attributes: Map::new(), role, by_platform: false };
        let known = state.users.entry(id).or_insert_with(|| user.clone());
        if !known.by_platform {
            *known = user;
        }
    }
    state.renew_agents();
}

/// A user as the platform API answers it.
fn user_rest(state: &State, id: i64, user: &User) -> Value {
    let accounts: Vec<Value> = user
        .role
        .iter()
        .map(|role| {
            json!({
                "id": ACCOUNT_ID,
                "name": ACCOUNT_NAME,
                "status": "active",
                "active_at": null,
                "role": role,
                "permissions": [role],
                "availability": "online",
                "availability_status": "online",
                "auto_offline": true,
                "custom_role_id": null,
                "custom_role": null,
            })
        })
        .collect();
    json!({
        "id": id,
        "access_token": state.agent_tokens.get(&id),
        "available_name": user.name,
        "avatar_url": "",
        "confirmed": true,
        "display_name": null,
        "message_signature": null,
        "email": user.email,
        "name": user.name,
        "provider": "email",
        "pubsub_token": format!("pubsub-{id}"),
        "ui_settings": {},
        "uid": user.email,
        "type": null,
        "custom_attributes": user.custom_attributes,
        "accounts": accounts,
    })
}

/// Whether a password is as Chatwoot demands it (`devise`, `user.rb`).
fn is_strong(password: &str) -> bool {
    let has = |check: fn(char) -> bool| password.chars().any(check);
    PASSWORD.contains(&password.chars().count())
        && has(|letter| letter.is_ascii_uppercase())
        && has(|letter| letter.is_ascii_lowercase())
        && has(|letter| letter.is_ascii_digit())
        && has(|letter| !letter.is_ascii_alphanumeric())
}

fn is_taken(state: &State, email: &str, by_other_than: Option<i64>) -> bool {
    email == ADMINISTRATOR_EMAIL
        || state.users.iter().any(|(id, user)| Some(*id) != by_other_than && user.email == email)
}

async fn create_user(Extract(fake): Fake, headers: HeaderMap, body: Bytes) -> Answer {
    authorise(&fake, &headers)?;
    let body = object(&body)?;
    let email = string(&body, "email").unwrap_or_default().to_lowercase();
    let token = fake.token();
    let answer = fake.change(|state, _| {
        // Who has the address is answered as it is.
        if let Some((id, user)) = state.users.iter().find(|(_, user)| user.email == email) {
            return Ok(user_rest(state, *id, user));
        }
        if !email.contains('@') {
            return Err(ApiError::Invalid("Email is invalid".to_owned(), vec!["email"]));
        }
        if email == ADMINISTRATOR_EMAIL {
            let user = User {
                name: "Administrator".to_owned(),
                email,
                custom_attributes: Map::new(),
                role: Some("administrator".to_owned()),
                by_platform: true,
            };
            return Ok(user_rest(state, ADMINISTRATOR_ID, &user));
        }
        if !string(&body, "password").is_some_and(|password| is_strong(&password)) {
            let message =
                "Password must contain at least 1 uppercase, lowercase, number and special character";
            return Err(ApiError::Invalid(message.to_owned(), vec!["password"]));
        }
        let id = state.users.last_key_value().map_or(0, |(id, _)| *id).max(ADMINISTRATOR_ID) + 1;
        let user = User {
            name: string(&body, "name").unwrap_or_else(|| email.clone()),
            email,
            custom_attributes: nested(&body, "custom_attributes"),
            role: None,
            by_platform: true,
        };
        state.agent_tokens.insert(id, token);
        let answer = user_rest(state, id, &user);
        state.users.insert(id, user);
        Ok(answer)
    })??;
    ok(answer)
}

async fn show_user(Extract(fake): Fake, Path(id): Path<i64>, headers: HeaderMap) -> Answer {
    authorise(&fake, &headers)?;
    fake.read(|state| {
        let user = state.users.get(&id).ok_or(ApiError::NotFound)?;
        ok(user_rest(state, id, user))
    })
}

async fn update_user(Extract(fake): Fake, Path(id): Path<i64>, headers: HeaderMap, body: Bytes) -> Answer {
    authorise(&fake, &headers)?;
    let body = object(&body)?;
    let email = string(&body, "email").map(|email| email.to_lowercase());
    let answer = fake.change(|state, _| {
        if email.as_ref().is_some_and(|email| is_taken(state, email, Some(id))) {
            return Err(ApiError::Invalid("Email has already been taken".to_owned(), vec!["email"]));
        }
        let user = state.users.get_mut(&id).ok_or(ApiError::NotFound)?;
        user.by_platform = true;
        user.name = string(&body, "name").unwrap_or_else(|| user.name.clone());
        user.email = email.unwrap_or_else(|| user.email.clone());
        user.custom_attributes.extend(nested(&body, "custom_attributes"));
        let user = user.clone();
        state.renew_agents();
        Ok(user_rest(state, id, &user))
    })??;
    ok(answer)
}

/// Only the one account is there to be permitted.
fn permitted(account: &str) -> Result<(), ApiError> {
    match account.parse() {
        Ok(ACCOUNT_ID) => Ok(()),
        _ => Err(ApiError::NotFound),
    }
}

fn account_user(user: i64, role: &str) -> Value {
    json!({
        "id": user,
        "account_id": ACCOUNT_ID,
        "user_id": user,
        "role": role,
        "inviter_id": null,
        "availability": "online",
        "auto_offline": true,
        "active_at": null,
        "custom_role_id": null,
    })
}

async fn list_account_users(Extract(fake): Fake, Path(account): Path<String>, headers: HeaderMap) -> Answer {
    authorise(&fake, &headers)?;
    permitted(&account)?;
    fake.read(|state| {
        let working =
            state.users.iter().filter_map(|(id, user)| Some(account_user(*id, user.role.as_deref()?)));
        ok(working.chain([account_user(ADMINISTRATOR_ID, "administrator")]).collect::<Vec<_>>())
    })
}

async fn set_account_user(
    Extract(fake): Fake,
    Path(account): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    authorise(&fake, &headers)?;
    permitted(&account)?;
    let body = object(&body)?;
    let role = string(&body, "role").unwrap_or_else(|| "agent".to_owned());
    if !ROLES.contains(&role.as_str()) {
        return Err(ApiError::Unprocessable(format!("'{role}' is not a valid role")));
    }
    let id = body.get("user_id").and_then(Value::as_i64).unwrap_or_default();
    let answer = fake.change(|state, _| {
        let user = state
            .users
            .get_mut(&id)
            .ok_or_else(|| ApiError::Invalid("User must exist".to_owned(), vec!["user"]))?;
        user.by_platform = true;
        user.role = Some(role.clone());
        state.renew_agents();
        Ok::<_, ApiError>(account_user(id, &role))
    })??;
    ok(answer)
}

async fn remove_account_user(
    Extract(fake): Fake,
    Path(account): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    authorise(&fake, &headers)?;
    permitted(&account)?;
    let in_query = query.iter().find(|(name, _)| name == "user_id").and_then(|(_, id)| id.parse().ok());
    let id = in_query.or_else(|| object(&body).ok()?.get("user_id")?.as_i64()).unwrap_or_default();
    fake.change(|state, _| {
        // Who isn't there is none the less gone. Conversations stay assigned.
        if let Some(user) = state.users.get_mut(&id) {
            user.by_platform = true;
            user.role = None;
        }
        for members in state.inbox_members.values_mut() {
            members.retain(|member| *member != id);
        }
        state.renew_agents();
    })?;
    Ok(StatusCode::OK.into_response())
}

async fn set_inbox_members(
    Extract(fake): Fake,
    Path(account): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    fake.authorise(&headers, &account, Allow::Administrators)?;
    let body = object(&body)?;
    let inbox = body.get("inbox_id").and_then(|id| id.as_i64().or_else(|| id.as_str()?.parse().ok()));
    let inbox = inbox.filter(|id| [WIDGET_INBOX_ID, API_INBOX_ID].contains(id)).ok_or(ApiError::NotFound)?;
    let users = body.get("user_ids").and_then(Value::as_array).into_iter().flatten();
    let users: BTreeSet<i64> = users.filter_map(Value::as_i64).collect();
    let members = fake.change(|state, _| {
        if users.iter().any(|id| !state.agents.iter().any(|agent| agent.id == *id)) {
            return Err(ApiError::Invalid("User must exist".to_owned(), vec!["user"]));
        }
        state.inbox_members.insert(inbox, users.iter().copied().collect());
        let members = state.agents.iter().filter(|agent| users.contains(&agent.id));
        Ok(members.map(|agent| state.agent_rest(agent)).collect::<Vec<_>>())
    })??;
    ok(json!({ "payload": members }))
}
