use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;

/// Attributes of a user or a group: each name has a list of values.
pub type Attributes = BTreeMap<String, Vec<String>>;

/// The prefix of the user name that Keycloak gives to the user of a service account.
const SERVICE_ACCOUNT_PREFIX: &str = "service-account-";

/// A user, as the Admin REST API shows it (`UserRepresentation`); fields that aren't here are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The `sub` of the user's tokens. Never changes.
    pub id: Uuid,
    /// The name to sign in with, in lower case. May change.
    pub username: String,
    /// Given name.
    #[serde(default)]
    pub first_name: Option<String>,
    /// Family name.
    #[serde(default)]
    pub last_name: Option<String>,
    /// Mail address, in lower case.
    #[serde(default)]
    pub email: Option<String>,
    /// Whether the address is known to be the user's.
    #[serde(default)]
    pub email_verified: bool,
    /// Whether the user may sign in. An answer that doesn't say so counts as no.
    #[serde(default)]
    pub enabled: bool,
    /// The client whose service account this is. Keycloak 26.7 leaves it out of its answers: ask
    /// [`User::is_service_account`].
    #[serde(default)]
    pub service_account_client_id: Option<String>,
    /// The user's attributes; empty where the realm's user profile has none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub attributes: Attributes,
}

impl User {
    /// Whether this is a client's service account rather than a person: Keycloak lists them among the members of groups.
    pub fn is_service_account(&self) -> bool {
        self.service_account_client_id.is_some() || self.username.starts_with(SERVICE_ACCOUNT_PREFIX)
    }

    /// First and last name, or the user name where there is neither.
    pub fn display_name(&self) -> String {
        let names: Vec<&str> = [&self.first_name, &self.last_name]
            .into_iter()
            .filter_map(|name| name.as_deref().map(str::trim).filter(|name| !name.is_empty()))
            .collect();
        if names.is_empty() { self.username.clone() } else { names.join(" ") }
    }
}

/// A group, as the Admin REST API shows it (`GroupRepresentation`); fields that aren't here are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Never changes, whatever the group's name and place.
    pub id: Uuid,
    /// The last segment of the path.
    pub name: String,
    /// The names from the root, each after a `/`. Changes when the group or one above it is renamed or moved.
    #[serde(default)]
    pub path: String,
    /// The group above, if there is one.
    #[serde(default)]
    pub parent_id: Option<Uuid>,
    /// The group's attributes.
    #[serde(default, deserialize_with = "null_as_default")]
    pub attributes: Attributes,
}

/// Something that an administrator, or a program as one, has changed (`AdminEventRepresentation`); who did it isn't read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdminEvent {
    /// Its own.
    pub id: Uuid,
    /// When it was made; it can be seen only later, when its transaction is over.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub time: DateTime<Utc>,
    /// `CREATE`, `UPDATE`, `DELETE` or `ACTION`.
    #[serde(default)]
    pub operation_type: String,
    /// `USER`, `GROUP_MEMBERSHIP`, …
    #[serde(default)]
    pub resource_type: String,
    /// `users/<id>/groups/<id>`, below the realm.
    #[serde(default)]
    pub resource_path: String,
}

fn null_as_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Attributes, D::Error> {
    Option::<Attributes>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_missing_fields_are_tolerated() {
        let user: User = serde_json::from_value(serde_json::json!({
            "id": "0b000000-0000-4000-8000-000000000001", "username": "ada", "attributes": null,
            "inventedNextYear": {"deep": [1]}
        }))
        .unwrap();
        assert_eq!(user.display_name(), "ada");
        assert!(!user.enabled);
        let group: Group = serde_json::from_value(
            serde_json::json!({"id": "0b000000-0000-4000-8000-000000000001", "name": "x"}),
        )
        .unwrap();
        assert_eq!(group.parent_id, None);
    }

    #[test]
    fn a_service_account_is_known_by_its_user_name_alone() {
        let user = |username: &str| -> User {
            serde_json::from_value(
                serde_json::json!({"id": "0b000000-0000-4000-8000-000000000001", "username": username}),
            )
            .unwrap()
        };
        assert!(user("service-account-robot").is_service_account());
        assert!(!user("servicia").is_service_account());
    }
}
