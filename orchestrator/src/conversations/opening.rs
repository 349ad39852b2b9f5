//! Opening a conversation in its tool, signed in there as oneself.

use secrecy::SecretString;
use serde_json::json;
use url::Url;

use super::{model::Conversation, service, service::EscalateError};
use crate::{
    app::AppState,
    audit::{self, Change},
    auth::{Permission, Resource, can},
    db::{Actor, TenantTx},
    http::problem::ErrorChain,
    ids::{ConversationId, TenantId},
};

/// Where somebody reads a conversation.
#[derive(Debug)]
pub enum Opened {
    /// By a link that signs them in, once: it is a credential, for nobody but their browser.
    SignedIn(SecretString),
    /// By a plain link; they sign in themselves.
    Plain(Url),
}

/// Where the transaction's actor reads a conversation of this tenant in its tool. A link that signs them in is made for who has,
/// in that account, the mail address that Keycloak has verified, and is in the trail. What stands in its way makes it a plain one.
///
/// # Errors
/// [`EscalateError::NotFound`] where there is no such conversation, or nowhere to read it.
pub async fn open(
    mut tx: TenantTx,
    state: &AppState,
    tenant: TenantId,
    id: ConversationId,
) -> Result<Opened, EscalateError> {
    let conversation = service::find(&mut tx, &state.tools, id).await?;
    if conversation.tenant_id != tenant {
        return Err(EscalateError::NotFound);
    }
    let link = conversation.link.as_deref().and_then(|link| Url::parse(link).ok());
    let plain = link.ok_or(EscalateError::NotFound)?;
    let Actor::Principal(principal) = tx.actor().clone() else { return Ok(Opened::Plain(plain)) };
    if !can(&principal, Permission::ConversationOpen, &Resource::of(tenant)).is_allowed() {
        return Ok(Opened::Plain(plain));
    }
    // No other server is asked inside the transaction.
    drop(tx);
    let made = match login_link(state, principal.id, &conversation).await {
        Ok(made) => made,
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "nobody can be signed in to Chatwoot now; the link is a plain one");
            None
        }
    };
    let Some((agent, link)) = made else { return Ok(Opened::Plain(plain)) };
    let mut tx = state.database.tenant_tx_in(principal, tenant).await?;
    let change = Change {
        action: "conversation.opened",
        resource: "conversation",
        resource_id: conversation.id.to_string(),
        old_values: None,
        new_values: Some(
            json!({ "service": conversation.service, "account": conversation.account, "agent": agent }),
        ),
        metadata: None,
    };
    audit::record(&mut tx, change).await?;
    tx.commit().await?;
    Ok(Opened::SignedIn(link))
}

/// A fresh link for a person's own user; none where they have none in the account.
async fn login_link(
    state: &AppState,
    user: crate::ids::UserId,
    conversation: &Conversation,
) -> Result<Option<(i64, SecretString)>, connector_core::ConnectorError> {
    let (Some(chatwoot), Ok(account)) = (&state.tools.chatwoot, conversation.account.parse::<i64>()) else {
        return Ok(None);
    };
    if !chatwoot.can_sign_in() {
        return Ok(None);
    }
    let Some(mail) = state.directory.verified_mail(user).await? else { return Ok(None) };
    let Some(agent) = chatwoot.agent_with(account, &mail).await? else { return Ok(None) };
    let link = chatwoot.account(account).login_link(agent.id, conversation.display_id, &chatwoot.url).await?;
    Ok(Some((agent.id, link)))
}
