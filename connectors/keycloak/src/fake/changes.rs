//! Changes to users and groups, each with the event that an administrator's change leaves behind.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    FakeError, FakeKeycloak,
    admin::represent_group,
    events::AdminEvent,
    realm::{Directory, GroupRecord, UserRecord},
};
use crate::model::Attributes;

/// Who changes something.
pub(super) enum Actor {
    /// A test, by the double's own methods.
    Test,
    /// An account, through the Admin REST API.
    Account {
        /// The client's id, not its name.
        client: String,
        user: Uuid,
    },
}

/// What was changed, to be stamped with time and actor.
#[derive(Default)]
pub(super) struct Journal(Vec<Change>);

struct Change {
    operation: &'static str,
    resource: &'static str,
    path: String,
    representation: Option<Value>,
    details: Option<Map<String, Value>>,
}

impl Journal {
    pub(super) fn note(
        &mut self,
        operation: &'static str,
        resource: &'static str,
        path: String,
        representation: Option<Value>,
    ) {
        self.0.push(Change { operation, resource, path, representation, details: None });
    }
}

impl FakeKeycloak {
    /// Changes the directory, and keeps the events of it. A change that fails leaves neither.
    pub(super) fn change<R, E>(
        &self,
        actor: &Actor,
        change: impl FnOnce(&mut Directory, &mut Journal) -> Result<R, E>,
    ) -> Result<R, E>
    where
        E: From<FakeError>,
    {
        let changed = self.state.update(|state| {
            let mut journal = Journal::default();
            let mut directory = state.directory.clone();
            let result = change(&mut directory, &mut journal)?;
            state.directory = directory;
            let gone: Vec<Uuid> = state.sessions.values().map(|session| session.user).collect();
            for user in
                gone.into_iter().filter(|user| !state.directory.users.iter().any(|known| known.id == *user))
            {
                state.sessions.retain(|_, session| session.user != user);
            }
            for change in journal.0 {
                state.keep_admin_event(self.stamp(actor, change));
            }
            Ok(result)
        });
        changed.map_err(|error| E::from(FakeError::State(error)))?
    }

    /// Keeps the event of something that changes no user and no group.
    pub(super) fn note(
        &self,
        actor: &Actor,
        operation: &'static str,
        resource: &'static str,
        path: String,
        representation: Option<Value>,
    ) -> Result<(), FakeError> {
        self.change(actor, |_, journal| {
            journal.note(operation, resource, path, representation);
            Ok(())
        })
    }

    fn stamp(&self, actor: &Actor, change: Change) -> AdminEvent {
        let (client, user) = match actor {
            Actor::Test => (Uuid::nil().to_string(), Uuid::nil()),
            Actor::Account { client, user } => (client.clone(), *user),
        };
        AdminEvent {
            id: self.uuid(),
            time: self.clock.now().timestamp_millis(),
            realm_id: self.realm_id(),
            auth_details: json!({"realmId": self.realm_id(), "clientId": client, "userId": user, "ipAddress": "127.0.0.1"}),
            operation_type: change.operation.to_owned(),
            resource_type: change.resource.to_owned(),
            resource_path: change.path,
            representation: change.representation.map(|value| value.to_string()),
            details: change.details,
        }
    }

    /// Removes a user, whose sessions are gone then; no logout token is sent.
    pub(super) fn delete_user_by_id(&self, actor: &Actor, id: Uuid) -> Result<(), FakeError> {
        self.change(actor, |directory, journal| {
            let user = directory.users.iter().find(|user| user.id == id);
            let user = user.ok_or_else(|| FakeError::UnknownUser(id.to_string()))?;
            let representation = json!({"id": id, "username": user.username});
            journal.note("DELETE", "USER", format!("users/{id}"), Some(representation));
            directory.users.retain(|user| user.id != id);
            Ok(())
        })
    }
}

/// Lets a user sign in or not.
pub(super) fn set_enabled(user: &mut UserRecord, enabled: bool, journal: &mut Journal) {
    user.enabled = enabled;
    journal.note("UPDATE", "USER", format!("users/{}", user.id), Some(json!({"enabled": enabled})));
}

/// Gives a user other names.
pub(super) fn rename_user(user: &mut UserRecord, first_name: &str, last_name: &str, journal: &mut Journal) {
    user.first_name = Some(first_name.to_owned());
    user.last_name = Some(last_name.to_owned());
    let representation = json!({"firstName": first_name, "lastName": last_name});
    journal.note("UPDATE", "USER", format!("users/{}", user.id), Some(representation));
}

/// Adds a user. The groups that it comes with leave no event of their own, as with the real one.
pub(super) fn create_user(
    directory: &mut Directory,
    journal: &mut Journal,
    mut user: UserRecord,
) -> Result<Uuid, FakeError> {
    user.username = user.username.to_lowercase();
    user.email = user.email.map(|email| email.to_lowercase());
    if directory.user_by_name(&user.username).is_some() {
        return Err(FakeError::AlreadyExists(user.username));
    }
    let mut representation =
        json!({"username": user.username, "emailVerified": user.email_verified, "enabled": user.enabled});
    for (name, value) in
        [("firstName", &user.first_name), ("lastName", &user.last_name), ("email", &user.email)]
    {
        if let Some(value) = value {
            representation[name] = value.clone().into();
        }
    }
    if !user.groups.is_empty() {
        representation["groups"] = directory.paths(&user).into();
    }
    let id = user.id;
    journal.note("CREATE", "USER", format!("users/{id}"), Some(representation));
    directory.users.push(user);
    Ok(id)
}

/// Puts a user into a group; being in it already changes nothing.
pub(super) fn join(directory: &mut Directory, journal: &mut Journal, user: Uuid, group: Uuid) {
    note_membership(directory, journal, "CREATE", user, group, |groups| {
        let is_new = !groups.contains(&group);
        if is_new {
            groups.push(group);
        }
        is_new
    });
}

/// Takes a user out of a group; not being in it changes nothing.
pub(super) fn leave(directory: &mut Directory, journal: &mut Journal, user: Uuid, group: Uuid) {
    note_membership(directory, journal, "DELETE", user, group, |groups| {
        let before = groups.len();
        groups.retain(|other| *other != group);
        groups.len() < before
    });
}

fn note_membership(
    directory: &mut Directory,
    journal: &mut Journal,
    operation: &'static str,
    user: Uuid,
    group: Uuid,
    change: impl FnOnce(&mut Vec<Uuid>) -> bool,
) {
    let Some(user) = directory.users.iter_mut().find(|known| known.id == user) else { return };
    if !change(&mut user.groups) {
        return;
    }
    let mut details = Map::from_iter([("username".to_owned(), user.username.clone().into())]);
    if let Some(email) = &user.email {
        details.insert("email".to_owned(), email.clone().into());
    }
    let path = format!("users/{}/groups/{group}", user.id);
    let representation = directory.group(group).map(|group| represent_group(directory, group, false, false));
    journal.0.push(Change {
        operation,
        resource: "GROUP_MEMBERSHIP",
        path,
        representation,
        details: Some(details),
    });
}

/// Adds a group below `parent`.
pub(super) fn create_group(
    directory: &mut Directory,
    journal: &mut Journal,
    id: Uuid,
    name: &str,
    parent: Option<Uuid>,
) -> Result<(), FakeError> {
    refuse_sibling(directory, parent, name, None)?;
    directory.groups.push(GroupRecord { id, name: name.to_owned(), parent, attributes: Attributes::new() });
    let path = match parent {
        Some(parent) => format!("groups/{parent}/children"),
        None => format!("groups/{id}"),
    };
    journal.note("CREATE", "GROUP", path, Some(json!({"id": id, "name": name, "subGroups": []})));
    Ok(())
}

/// Renames a group, and replaces its attributes where there are new ones.
pub(super) fn update_group(
    directory: &mut Directory,
    journal: &mut Journal,
    id: Uuid,
    name: &str,
    attributes: Option<Attributes>,
) -> Result<(), FakeError> {
    let parent = directory.group(id).and_then(|group| group.parent);
    refuse_sibling(directory, parent, name, Some(id))?;
    let mut representation = json!({"name": name, "subGroups": []});
    if let Some(group) = directory.groups.iter_mut().find(|group| group.id == id) {
        name.clone_into(&mut group.name);
        if let Some(attributes) = attributes {
            representation["attributes"] = json!(attributes);
            group.attributes = attributes;
        }
    }
    journal.note("UPDATE", "GROUP", format!("groups/{id}"), Some(representation));
    Ok(())
}

fn refuse_sibling(
    directory: &Directory,
    parent: Option<Uuid>,
    name: &str,
    except: Option<Uuid>,
) -> Result<(), FakeError> {
    let taken =
        directory.children(parent).iter().any(|sibling| sibling.name == name && Some(sibling.id) != except);
    if taken { Err(FakeError::AlreadyExists(name.to_owned())) } else { Ok(()) }
}

/// Removes a group and those below it, and everybody's membership of them, which leaves no event of its own.
pub(super) fn delete_group(directory: &mut Directory, journal: &mut Journal, id: Uuid) {
    let name = directory.group(id).map(|group| group.name.clone());
    let mut gone = vec![id];
    let mut next = 0;
    while let Some(parent) = gone.get(next).copied() {
        gone.extend(directory.children(Some(parent)).iter().map(|group| group.id));
        next += 1;
    }
    directory.groups.retain(|group| !gone.contains(&group.id));
    for user in &mut directory.users {
        user.groups.retain(|group| !gone.contains(group));
    }
    let representation = json!({"id": id, "name": name, "subGroups": []});
    journal.note("DELETE", "GROUP", format!("groups/{id}"), Some(representation));
}
