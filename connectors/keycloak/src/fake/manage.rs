//! The part of the Admin REST API that changes users, groups and sessions.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{delete, get, post, put},
};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    FakeError, FakeKeycloak,
    admin::{Checked, find_group, find_user, represent_group},
    broken,
    changes::{self, Actor, Journal},
    error,
    realm::{Credential, Directory, UserRecord, otp_secret, password},
};
use crate::model::Attributes;

const MANAGE_USERS: &[&str] = &["manage-users"];
const VIEW_USERS: &[&str] = &["view-users", "manage-users"];

/// The routes; those that read the same paths are in `admin`.
pub(super) fn routes() -> Router<Arc<FakeKeycloak>> {
    const ADMIN: &str = "/admin/realms/{realm}";
    Router::new()
        .route(&format!("{ADMIN}/users"), post(create_user))
        .route(&format!("{ADMIN}/users/{{id}}"), put(update_user).delete(delete_user))
        .route(&format!("{ADMIN}/users/{{id}}/groups/{{group}}"), put(join).delete(leave))
        .route(&format!("{ADMIN}/users/{{id}}/logout"), post(sign_out))
        .route(&format!("{ADMIN}/users/{{id}}/sessions"), get(sessions))
        .route(&format!("{ADMIN}/sessions/{{session}}"), delete(delete_session))
        .route(&format!("{ADMIN}/groups"), post(create_top_group))
        .route(&format!("{ADMIN}/groups/{{id}}"), put(update_group).delete(delete_group))
        .route(&format!("{ADMIN}/groups/{{id}}/children"), post(create_group))
}

type Double = State<Arc<FakeKeycloak>>;

/// An answer instead of a change.
struct Refusal(Box<Response>);

impl From<FakeError> for Refusal {
    fn from(error: FakeError) -> Self {
        Self(Box::new(broken(&error)))
    }
}

impl From<Box<Response>> for Refusal {
    fn from(response: Box<Response>) -> Self {
        Self(response)
    }
}

fn done(result: Result<Response, Refusal>) -> Response {
    result.unwrap_or_else(|refusal| *refusal.0)
}

fn conflict(message: &str) -> Refusal {
    Refusal(Box::new((StatusCode::CONFLICT, Json(json!({"errorMessage": message}))).into_response()))
}

fn sibling_exists(name: &str) -> Refusal {
    conflict(&format!("Sibling group named '{name}' already exists."))
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn no_content_after(result: Result<(), FakeError>) -> Response {
    result.map_or_else(|error| broken(&error), |()| no_content())
}

fn user_id(directory: &Directory, id: &str) -> Checked<Uuid> {
    find_user(directory, id).map(|user| user.id)
}

fn group_id(directory: &Directory, id: &str) -> Checked<Uuid> {
    find_group(directory, id).map(|group| group.id)
}

impl FakeKeycloak {
    /// Who asks, if they may change users and groups.
    fn manager(&self, realm: &str, headers: &HeaderMap) -> Checked<Actor> {
        let caller = self.caller(realm, headers)?;
        caller.require(MANAGE_USERS)?;
        Ok(Actor::Account { client: caller.client, user: caller.user })
    }

    /// Changes what is found under an id, if who asks may: `find` says what it is, or that there is none.
    fn change_found(
        &self,
        (realm, id): (&str, &str),
        headers: &HeaderMap,
        find: impl FnOnce(&Directory, &str) -> Checked<Uuid>,
        change: impl FnOnce(&mut Directory, &mut Journal, Uuid) -> Result<(), FakeError>,
    ) -> Result<Response, Refusal> {
        let actor = self.manager(realm, headers)?;
        self.change(&actor, |directory, journal| -> Result<(), Refusal> {
            let id = find(directory, id)?;
            change(directory, journal, id).map_err(|error| match error {
                FakeError::AlreadyExists(name) => sibling_exists(&name),
                other => other.into(),
            })
        })?;
        Ok(no_content())
    }

    /// The user with this id.
    fn known_user(&self, id: &str) -> Checked<Uuid> {
        self.state.read(|state| user_id(&state.directory, id))
    }

    fn created(&self, kind: &str, id: Uuid) -> [(header::HeaderName, String); 1] {
        let server = self.issuer.split("/realms/").next().unwrap_or_default();
        [(header::LOCATION, format!("{server}/admin/realms/{}/{kind}/{id}", self.realm.name))]
    }
}

/// The part of `UserRepresentation` that can be written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserBody {
    username: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    email: Option<String>,
    email_verified: Option<bool>,
    enabled: Option<bool>,
    attributes: Option<Attributes>,
    #[serde(default)]
    credentials: Vec<Credential>,
    #[serde(default)]
    groups: Vec<String>,
}

async fn create_user(
    State(double): Double,
    Path(realm): Path<String>,
    headers: HeaderMap,
    Json(body): Json<UserBody>,
) -> Response {
    let create = || -> Result<Response, Refusal> {
        let actor = double.manager(&realm, &headers)?;
        let username = body.username.clone().unwrap_or_default();
        if username.is_empty() {
            return Err(Refusal(Box::new(error(StatusCode::BAD_REQUEST, "User name is missing"))));
        }
        let now = double.clock.now();
        let id = double.uuid();
        double.change(&actor, |directory, journal| {
            let unknown = || Refusal(Box::new(error(StatusCode::BAD_REQUEST, "Group not found")));
            let groups = body.groups.iter().map(|path| directory.group_by_path(path).map(|group| group.id));
            let groups = groups.collect::<Option<Vec<_>>>().ok_or_else(unknown)?;
            let user = UserRecord {
                id,
                username,
                first_name: body.first_name.clone(),
                last_name: body.last_name.clone(),
                email: body.email.clone(),
                email_verified: body.email_verified == Some(true),
                enabled: body.enabled == Some(true),
                created_timestamp: now.timestamp_millis(),
                service_account_client_id: None,
                attributes: body.attributes.clone().unwrap_or_default(),
                password: password(&body.credentials),
                otp_secret: otp_secret(&body.credentials),
                last_otp_step: 0,
                realm_roles: Vec::new(),
                client_roles: BTreeMap::new(),
                groups,
            };
            changes::create_user(directory, journal, user).map_err(|error| match error {
                FakeError::AlreadyExists(_) => conflict("User exists with same username"),
                other => other.into(),
            })
        })?;
        Ok((StatusCode::CREATED, double.created("users", id)).into_response())
    };
    done(create())
}

async fn update_user(
    State(double): Double,
    Path((realm, id)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<UserBody>,
) -> Response {
    done(double.change_found((&realm, &id), &headers, user_id, |directory, journal, id| {
        let Some(user) = directory.users.iter_mut().find(|user| user.id == id) else { return Ok(()) };
        let mut representation = json!({});
        for (name, field, value) in [
            ("firstName", &mut user.first_name, &body.first_name),
            ("lastName", &mut user.last_name, &body.last_name),
            ("email", &mut user.email, &body.email),
        ] {
            if let Some(value) = value {
                representation[name] = value.clone().into();
                *field = Some(value.clone());
            }
        }
        if let Some(verified) = body.email_verified {
            representation["emailVerified"] = verified.into();
            user.email_verified = verified;
        }
        if let Some(enabled) = body.enabled {
            representation["enabled"] = enabled.into();
            user.enabled = enabled;
        }
        if let Some(attributes) = &body.attributes {
            representation["attributes"] = json!(attributes);
            user.attributes.clone_from(attributes);
        }
        journal.note("UPDATE", "USER", format!("users/{id}"), Some(representation));
        Ok(())
    }))
}

async fn delete_user(
    State(double): Double,
    Path((realm, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let remove = || -> Result<Response, Refusal> {
        let actor = double.manager(&realm, &headers)?;
        double.delete_user_by_id(&actor, double.known_user(&id)?)?;
        Ok(no_content())
    };
    done(remove())
}

async fn join(
    State(double): Double,
    Path((realm, id, group)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    done(double.change_membership(&realm, &headers, (&id, &group), changes::join))
}

async fn leave(
    State(double): Double,
    Path((realm, id, group)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    done(double.change_membership(&realm, &headers, (&id, &group), changes::leave))
}

impl FakeKeycloak {
    fn change_membership(
        &self,
        realm: &str,
        headers: &HeaderMap,
        (user, group): (&str, &str),
        change: impl FnOnce(&mut Directory, &mut Journal, Uuid, Uuid),
    ) -> Result<Response, Refusal> {
        let actor = self.manager(realm, headers)?;
        self.change(&actor, |directory, journal| -> Result<(), Refusal> {
            let user = user_id(directory, user)?;
            let known = group.parse::<Uuid>().ok().and_then(|id| directory.group(id)).map(|group| group.id);
            let group =
                known.ok_or_else(|| Refusal(Box::new(error(StatusCode::NOT_FOUND, "Group not found"))))?;
            change(directory, journal, user, group);
            Ok(())
        })?;
        Ok(no_content())
    }
}

async fn sign_out(
    State(double): Double,
    Path((realm, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let checked = double.manager(&realm, &headers).and_then(|actor| Ok((actor, double.known_user(&id)?)));
    let (actor, user) = match checked {
        Ok(checked) => checked,
        Err(response) => return *response,
    };
    let ended = async {
        double.end_sessions_of(user).await?;
        double.note(&actor, "ACTION", "USER", format!("users/{user}/logout"), None)
    };
    no_content_after(ended.await)
}

async fn sessions(
    State(double): Double,
    Path((realm, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let now = double.now();
    double.answer_from(&realm, &headers, VIEW_USERS, |state| {
        let user = find_user(&state.directory, &id)?;
        let sessions = state.sessions.iter().filter(|(_, session)| session.user == user.id);
        let sessions = sessions.filter(|(_, session)| session.is_active(now, &double.realm));
        Ok(sessions
            .map(|(id, session)| {
                let clients: BTreeMap<&str, &str> = session
                    .clients
                    .keys()
                    .filter_map(|id| double.realm.client_by_id(id))
                    .map(|client| (client.id.as_str(), client.client_id.as_str()))
                    .collect();
                json!({
                    "id": id, "username": user.username, "userId": user.id, "ipAddress": "127.0.0.1",
                    "start": session.started * 1000, "lastAccess": session.last_used * 1000, "rememberMe": false,
                    "clients": clients, "transientUser": false,
                })
            })
            .collect())
    })
}

async fn delete_session(
    State(double): Double,
    Path((realm, session)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let actor = match double.manager(&realm, &headers) {
        Ok(actor) => actor,
        Err(response) => return *response,
    };
    if double.session_user(&session).is_none() {
        // Spelt as the real one spells it.
        return error(StatusCode::NOT_FOUND, "Sesssion not found");
    }
    let ended = async {
        double.end_session(&session).await?;
        let representation = Some(json!({"offline": false}));
        double.note(&actor, "DELETE", "USER_SESSION", format!("sessions/{session}"), representation)
    };
    no_content_after(ended.await)
}

/// The part of `GroupRepresentation` that can be written.
#[derive(Deserialize)]
struct GroupBody {
    name: String,
    attributes: Option<Attributes>,
}

impl FakeKeycloak {
    fn add_group(
        &self,
        realm: &str,
        headers: &HeaderMap,
        parent: Option<&str>,
        body: &GroupBody,
    ) -> Result<Response, Refusal> {
        let actor = self.manager(realm, headers)?;
        let id = self.uuid();
        let added = self.change(&actor, |directory, journal| -> Result<_, Refusal> {
            let parent = parent.map(|parent| group_id(directory, parent)).transpose()?;
            changes::create_group(directory, journal, id, &body.name, parent).map_err(
                |error| match error {
                    FakeError::AlreadyExists(name) if parent.is_some() => sibling_exists(&name),
                    FakeError::AlreadyExists(name) => {
                        conflict(&format!("Top level group named '{name}' already exists."))
                    }
                    other => other.into(),
                },
            )?;
            if let (Some(attributes), Some(group)) =
                (&body.attributes, directory.groups.iter_mut().find(|group| group.id == id))
            {
                group.attributes.clone_from(attributes);
            }
            Ok(directory.group(id).map(|group| represent_group(directory, group, false, false)))
        })?;
        let location = self.created("groups", id);
        // Only below another one is the new group in the answer.
        Ok(match added.filter(|_| parent.is_some()) {
            Some(group) => (StatusCode::CREATED, location, Json(group)).into_response(),
            None => (StatusCode::CREATED, location).into_response(),
        })
    }
}

async fn create_top_group(
    State(double): Double,
    Path(realm): Path<String>,
    headers: HeaderMap,
    Json(body): Json<GroupBody>,
) -> Response {
    done(double.add_group(&realm, &headers, None, &body))
}

async fn create_group(
    State(double): Double,
    Path((realm, parent)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<GroupBody>,
) -> Response {
    done(double.add_group(&realm, &headers, Some(&parent), &body))
}

async fn update_group(
    State(double): Double,
    Path((realm, id)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<GroupBody>,
) -> Response {
    done(double.change_found((&realm, &id), &headers, group_id, |directory, journal, id| {
        changes::update_group(directory, journal, id, &body.name, body.attributes)
    }))
}

async fn delete_group(
    State(double): Double,
    Path((realm, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    done(double.change_found((&realm, &id), &headers, group_id, |directory, journal, id| {
        changes::delete_group(directory, journal, id);
        Ok(())
    }))
}
