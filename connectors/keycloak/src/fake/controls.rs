//! What tests do to the double: change users and groups as an administrator would, exchange keys, and mint tokens.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    FakeError, FakeKeycloak, NewUser,
    changes::{self, Actor},
    keys::{Signature, StoredKey},
    realm::{Client, Directory, UserRecord},
};
use crate::model::Attributes;

impl FakeKeycloak {
    /// Lets a user sign in or not. As with the real one, sessions go on and no logout token is sent; refreshing fails.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn set_enabled(&self, username: &str, enabled: bool) -> Result<(), FakeError> {
        self.change(&Actor::Test, |directory, journal| {
            changes::set_enabled(directory.user_by_name_mut(username)?, enabled, journal);
            Ok(())
        })
    }

    /// Gives a user other names; the user name stays.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn rename_user(&self, username: &str, first_name: &str, last_name: &str) -> Result<(), FakeError> {
        self.change(&Actor::Test, |directory, journal| {
            changes::rename_user(directory.user_by_name_mut(username)?, first_name, last_name, journal);
            Ok(())
        })
    }

    /// Answers everything with 503, as a proxy does before a server that is down or starting; or not any more.
    pub fn set_unavailable(&self, is_unavailable: bool) {
        self.is_unavailable.store(is_unavailable, Ordering::SeqCst);
    }

    /// Takes so long for each answer from here on, as a server does that is far away, and counts requests anew.
    pub fn set_delay(&self, delay: Duration) {
        *self.load.delay.write().unwrap_or_else(PoisonError::into_inner) = delay;
        self.load.most_under_way.store(0, Ordering::SeqCst);
        self.load.begun.store(0, Ordering::SeqCst);
    }

    /// The requests since [`FakeKeycloak::set_delay`].
    pub fn requests(&self) -> usize {
        self.load.begun.load(Ordering::SeqCst)
    }

    /// The most requests that were under way at once since [`FakeKeycloak::set_delay`].
    pub fn most_at_once(&self) -> usize {
        self.load.most_under_way.load(Ordering::SeqCst)
    }

    /// Puts a user into the group at `path`; being in it already is fine.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn add_to_group(&self, username: &str, path: &str) -> Result<(), FakeError> {
        self.change_membership_of(username, path, changes::join)
    }

    /// Takes a user out of the group at `path`; not being in it is fine.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn remove_from_group(&self, username: &str, path: &str) -> Result<(), FakeError> {
        self.change_membership_of(username, path, changes::leave)
    }

    fn change_membership_of(
        &self,
        username: &str,
        path: &str,
        change: impl FnOnce(&mut Directory, &mut changes::Journal, Uuid, Uuid),
    ) -> Result<(), FakeError> {
        self.change(&Actor::Test, |directory, journal| {
            let group = group_id(directory, path)?;
            let user = directory.user_by_name_mut(username)?.id;
            change(directory, journal, user, group);
            Ok(())
        })
    }

    /// Renames the group at `path`: its id stays, its path and those below it change.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn rename_group(&self, path: &str, new_name: &str) -> Result<(), FakeError> {
        self.change(&Actor::Test, |directory, journal| {
            let id = group_id(directory, path)?;
            changes::update_group(directory, journal, id, new_name, None)
        })
    }

    /// Sets an attribute of the group at `path`, or removes it where there are no values.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn set_group_attribute(&self, path: &str, name: &str, values: &[&str]) -> Result<(), FakeError> {
        self.change(&Actor::Test, |directory, journal| {
            let id = group_id(directory, path)?;
            let group =
                directory.group(id).cloned().ok_or_else(|| FakeError::UnknownGroup(path.to_owned()))?;
            let mut attributes = group.attributes;
            if values.is_empty() {
                attributes.remove(name);
            } else {
                attributes.insert(name.to_owned(), values.iter().map(ToString::to_string).collect());
            }
            changes::update_group(directory, journal, id, &group.name, Some(attributes))
        })
    }

    /// Adds a user and returns its id.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn create_user(&self, user: NewUser) -> Result<Uuid, FakeError> {
        let now = self.clock.now();
        let id = self.ids.uuid_v7(now);
        self.change(&Actor::Test, |directory, journal| {
            let groups =
                user.groups.iter().map(|path| group_id(directory, path)).collect::<Result<Vec<_>, _>>()?;
            let user = UserRecord {
                id,
                username: user.username,
                first_name: user.first_name,
                last_name: user.last_name,
                email: user.email,
                email_verified: user.email_verified,
                enabled: true,
                created_timestamp: now.timestamp_millis(),
                service_account_client_id: None,
                attributes: Attributes::new(),
                password: None,
                otp_secret: user.otp_secret,
                last_otp_step: 0,
                realm_roles: Vec::new(),
                client_roles: BTreeMap::new(),
                groups,
            };
            changes::create_user(directory, journal, user)
        })
    }

    /// Removes a user. As with the real one, the sessions are gone and no logout token is sent.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn delete_user(&self, username: &str) -> Result<(), FakeError> {
        let id = self.user_id(username)?;
        self.delete_user_by_id(&Actor::Test, id)
    }

    /// Adds a group at `path`, below one that is there already, and returns its id.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn create_group(&self, path: &str) -> Result<Uuid, FakeError> {
        let id = self.ids.uuid_v7(self.clock.now());
        self.change(&Actor::Test, |directory, journal| {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let parent = if parent.is_empty() { None } else { Some(group_id(directory, parent)?) };
            changes::create_group(directory, journal, id, name, parent)?;
            Ok(id)
        })
    }

    /// Removes the group at `path` and those below it, and everybody's membership of them.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn delete_group(&self, path: &str) -> Result<(), FakeError> {
        self.change(&Actor::Test, |directory, journal| {
            let id = group_id(directory, path)?;
            changes::delete_group(directory, journal, id);
            Ok(())
        })
    }

    /// The id of the user with this name.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn user_id(&self, username: &str) -> Result<Uuid, FakeError> {
        self.state.read(|state| {
            state
                .directory
                .user_by_name(username)
                .map(|user| user.id)
                .ok_or_else(|| FakeError::UnknownUser(username.to_owned()))
        })
    }

    /// The id of the group at `path`.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn group_id(&self, path: &str) -> Result<Uuid, FakeError> {
        self.state.read(|state| group_id(&state.directory, path))
    }

    /// Makes a new signing key. The old ones stay in the key set, so that their tokens are still good.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn rotate_keys(&self) -> Result<(), FakeError> {
        self.replace_keys(true)
    }

    /// Makes a new signing key and drops the old ones, and with them every token that they signed.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn replace_keys_now(&self) -> Result<(), FakeError> {
        self.replace_keys(false)
    }

    fn replace_keys(&self, keep: bool) -> Result<(), FakeError> {
        let key = StoredKey::generate()?;
        let ring = self.state.update(|state| {
            if !keep {
                state.signing_keys.clear();
            }
            state.signing_keys.insert(0, key);
            state.key_ring()
        })??;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        Ok(())
    }

    /// An access token for a user as the shell's client would get it, its claims overridden by `overrides` (`null`
    /// removes one) and its signature as `signature` says. A session is started for it.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn mint_access_token(
        &self,
        client_id: &str,
        username: &str,
        overrides: Map<String, Value>,
        signature: Signature,
    ) -> Result<String, FakeError> {
        let (client, user, session) = self.mint_session(client_id, username)?;
        let claims = self.access_claims(client, &user, Some(&session), "openid", "onrtac");
        self.keys().sign("JWT", &overridden(claims, overrides), signature)
    }

    /// An ID token for a user, as [`FakeKeycloak::mint_access_token`].
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn mint_id_token(
        &self,
        client_id: &str,
        username: &str,
        overrides: Map<String, Value>,
        signature: Signature,
    ) -> Result<String, FakeError> {
        let (client, user, session) = self.mint_session(client_id, username)?;
        let claims = self.id_claims(client, &user, Some(&session), "openid", None, None);
        self.keys().sign("JWT", &overridden(claims, overrides), signature)
    }

    /// A logout token for a user's session at a client (OpenID Connect Back-Channel Logout 1.0, section 2.4), as
    /// [`FakeKeycloak::mint_access_token`]. `session_id` is the `sid` of the user's other tokens.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn mint_logout_token(
        &self,
        client_id: &str,
        username: &str,
        session_id: &str,
        overrides: Map<String, Value>,
        signature: Signature,
    ) -> Result<String, FakeError> {
        let user = self.user_id(username)?;
        let claims = self.logout_claims(client_id, user, session_id);
        self.keys().sign("logout+jwt", &overridden(claims, overrides), signature)
    }

    /// A token of exactly this header and these claims, signed by RS256 with the realm's active key whatever they say: for what
    /// Keycloak itself would never make.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub fn sign_as_it_is(&self, header: &str, claims: &str) -> Result<String, FakeError> {
        self.keys().sign_as_it_is(header, claims)
    }

    /// Ends all sessions of a user, as an administrator does (`POST …/users/{id}/logout`), and sends logout tokens to
    /// the clients that want them.
    ///
    /// # Errors
    /// See [`FakeError`].
    pub async fn sign_out_user(&self, username: &str) -> Result<(), FakeError> {
        let user = self.user_id(username)?;
        self.end_sessions_of(user).await
    }

    /// A session of a user at a client, for the tokens above.
    fn mint_session(
        &self,
        client_id: &str,
        username: &str,
    ) -> Result<(&Client, UserRecord, String), FakeError> {
        let user = self.state.read(|state| {
            let user = state.directory.user_by_name(username);
            user.cloned().ok_or_else(|| FakeError::UnknownUser(username.to_owned()))
        })?;
        let client =
            self.realm.client(client_id).ok_or_else(|| FakeError::UnknownUser(client_id.to_owned()))?;
        let session = self.start_session(user.id, &client.id)?;
        Ok((client, user, session))
    }
}

fn group_id(directory: &Directory, path: &str) -> Result<Uuid, FakeError> {
    directory
        .group_by_path(path)
        .map(|group| group.id)
        .ok_or_else(|| FakeError::UnknownGroup(path.to_owned()))
}

fn overridden(mut claims: Value, overrides: Map<String, Value>) -> Value {
    if let Value::Object(claims) = &mut claims {
        for (name, value) in overrides {
            if value.is_null() {
                claims.remove(&name);
            } else {
                claims.insert(name, value);
            }
        }
    }
    claims
}
