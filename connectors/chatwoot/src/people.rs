use connector_core::{ConnectorError, ErrorKind, HttpClient};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use crate::{
    AssignTo, ChatwootClient, ConversationFilter, SERVICE, SenderKind,
    client::not_chatwoot,
    model::{integer, object, text, words},
};

words! {
    /// What somebody may do in an account.
    AccountRole {
        /// Answers conversations.
        Agent = "agent",
        /// Sees and sets everything.
        Administrator = "administrator",
    }
}

/// What a user is made from.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The name to show.
    pub name: String,
    /// The mail address; Chatwoot keeps it in lower case.
    pub email: String,
    /// 6 to 128 characters, among them an upper and a lower case letter, a digit and a special character.
    pub password: SecretString,
    /// What is to be noted with the user.
    pub custom_attributes: Map<String, Value>,
}

/// A user of the installation, as a platform app sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// Unique in the installation.
    pub id: i64,
    /// The name.
    pub name: String,
    /// The mail address.
    pub email: String,
    /// Whether the address is confirmed; `None` where the answer doesn't say.
    pub confirmed: Option<bool>,
    /// What is noted with the user.
    pub custom_attributes: Map<String, Value>,
    /// The accounts in which it works, and as what.
    pub accounts: Vec<(i64, AccountRole)>,
}

impl User {
    fn read(value: &Value) -> Option<Self> {
        let accounts = value.get("accounts").and_then(Value::as_array).into_iter().flatten();
        Some(Self {
            id: integer(value, "id")?,
            name: text(value, "name").unwrap_or_default(),
            email: text(value, "email")?,
            confirmed: value.get("confirmed").and_then(Value::as_bool),
            custom_attributes: object(value, "custom_attributes").unwrap_or_default(),
            accounts: accounts
                .filter_map(|account| Some((integer(account, "id")?, text(account, "role")?.as_str().into())))
                .collect(),
        })
    }

    /// What it does in an account; `None` where it doesn't work there.
    pub fn role(&self, account: i64) -> Option<&AccountRole> {
        self.accounts.iter().find(|(id, _)| *id == account).map(|(_, role)| role)
    }
}

/// Who works in the installation and in its accounts: a platform app's calls. It reaches only users that it has made or asked for by
/// their address, and accounts that it has made or was granted; any other is answered with 401.
impl ChatwootClient {
    fn as_platform(&self) -> Result<&HttpClient, ConnectorError> {
        let missing = || ConnectorError::new(ErrorKind::Misconfigured, SERVICE, "there is no platform token");
        self.platform().ok_or_else(missing)
    }

    /// Makes sure that there is a user with this address. One that is there already is answered as it is, and nothing of it changes: its
    /// `custom_attributes` say whether it is the one that was asked for. So the call can be repeated.
    ///
    /// # Errors
    /// Misconfigured where there is no platform token; otherwise see [`ErrorKind`].
    pub async fn ensure_user(&self, user: &NewUser) -> Result<User, ConnectorError> {
        let email = user.email.to_lowercase();
        let body = json!({
            "name": user.name,
            "email": email,
            "password": user.password.expose_secret(),
            "custom_attributes": user.custom_attributes,
        });
        let answer = self.as_platform()?.post(&["platform", "api", "v1", "users"], &body, None).await?;
        let made = read_user(&answer)?;
        if made.email.eq_ignore_ascii_case(&email) {
            return Ok(made);
        }
        Err(not_chatwoot(ErrorKind::Permanent, "the user with that address"))
    }

    /// The user with this id.
    ///
    /// # Errors
    /// As [`Self::ensure_user`]; [`ConnectorError::is_not_found`] where there is none.
    pub async fn user(&self, user: i64) -> Result<User, ConnectorError> {
        let path = ["platform", "api", "v1", "users", &user.to_string()];
        read_user(&self.as_platform()?.get(&path, &[], None).await?)
    }

    /// Renews what a user is called, and its address where one is given; that isn't confirmed anew.
    ///
    /// # Errors
    /// As [`Self::user`]; 422 where somebody else has the address.
    pub async fn update_user(
        &self,
        user: i64,
        name: &str,
        email: Option<&str>,
    ) -> Result<User, ConnectorError> {
        let mut body = json!({ "name": name });
        if let Some(email) = email {
            body["email"] = json!(email.to_lowercase());
        }
        let path = ["platform", "api", "v1", "users", &user.to_string()];
        read_user(&self.as_platform()?.patch(&path, &body, None).await?)
    }

    /// Has a user work in this client's account, as this from now on.
    ///
    /// # Errors
    /// As [`Self::user`].
    pub async fn set_account_role(&self, user: i64, role: &AccountRole) -> Result<(), ConnectorError> {
        let body = json!({"user_id": user, "role": role.as_str()});
        self.as_platform()?.post::<Value>(&self.account_users(), &body, None).await.map(drop)
    }

    /// Has a user work in this client's account no more: from its next request on, it is kept out. Its conversations stay assigned to it:
    /// [`Self::unassign_open`] comes before.
    ///
    /// # Errors
    /// As [`Self::user`]; none where it doesn't work there.
    pub async fn remove_from_account(&self, user: i64) -> Result<(), ConnectorError> {
        let user = user.to_string();
        let query = [("user_id", user.as_str())];
        self.as_platform()?.delete_with::<Value>(&self.account_users(), &query, None).await.map(drop)
    }

    /// Who works in this client's account, as what.
    ///
    /// # Errors
    /// As [`Self::user`].
    pub async fn account_roles(&self) -> Result<Vec<(i64, AccountRole)>, ConnectorError> {
        let answer: Value = self.as_platform()?.get(&self.account_users(), &[], None).await?;
        let rows = answer
            .as_array()
            .ok_or_else(|| not_chatwoot(ErrorKind::Misconfigured, "a list of account users"))?;
        rows.iter()
            .map(|row| Some((integer(row, "user_id")?, text(row, "role")?.as_str().into())))
            .collect::<Option<_>>()
            .ok_or_else(|| not_chatwoot(ErrorKind::Misconfigured, "a list of account users"))
    }

    /// Lets exactly these work in an inbox. They have to work in the account.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn set_inbox_members(&self, inbox: i64, users: &[i64]) -> Result<(), ConnectorError> {
        let body = json!({"inbox_id": inbox.to_string(), "user_ids": users});
        self.change(&["inbox_members"], &body).await.map(drop)
    }

    /// Takes a user's open conversations in this client's account from it, for somebody else to take; how many there were.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn unassign_open(&self, user: i64) -> Result<usize, ConnectorError> {
        // All pages first: what is unassigned moves to another place in them.
        let mut theirs = Vec::new();
        for page in 1.. {
            let found = self.conversations(ConversationFilter::Open, page).await?.conversations;
            if found.is_empty() {
                break;
            }
            theirs.extend(found.iter().filter_map(|conversation| {
                let assignee = conversation.assignee.as_ref()?;
                (assignee.kind == SenderKind::User && assignee.id == user).then_some(conversation.id)
            }));
        }
        for conversation in &theirs {
            self.assign(*conversation, AssignTo::Nobody).await?;
        }
        Ok(theirs.len())
    }

    fn account_users(&self) -> [&str; 6] {
        ["platform", "api", "v1", "accounts", self.account(), "account_users"]
    }
}

fn read_user(answer: &Value) -> Result<User, ConnectorError> {
    User::read(answer).ok_or_else(|| not_chatwoot(ErrorKind::Misconfigured, "a user"))
}
