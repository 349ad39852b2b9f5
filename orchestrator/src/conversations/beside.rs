//! What somebody sees of ours inside Chatwoot, beside a conversation there.

use std::sync::Arc;

use connector_core::ConnectorError;

use super::store;
use crate::{
    app::AppState,
    auth::{Permission, Principal, Resource, can},
    ids::{ConversationId, TenantId},
    sources::{self, SourceScheme, SourceState, WebhookSource},
};

/// A conversation of Chatwoot's in our mirror, to somebody who may see it there and here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its id here.
    pub id: ConversationId,
}

/// Why it can't be said.
#[derive(Debug, thiserror::Error)]
pub enum BesideError {
    /// Chatwoot or Keycloak can't be asked.
    #[error("another server can't be asked")]
    Tool(#[from] ConnectorError),
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

/// The conversation with this number of an account. What the browser says is only a question: Chatwoot is asked for the conversation,
/// and whether the person, known there by the mail address that Keycloak has verified, sees it; here it takes the right to read the
/// tenant's conversations. None where any of it is missing, whichever it is.
///
/// # Errors
/// [`BesideError`].
pub async fn beside(
    state: &AppState,
    principal: &Arc<Principal>,
    account: i64,
    number: i64,
) -> Result<Option<Beside>, BesideError> {
    let Some(chatwoot) = &state.tools.chatwoot else { return Ok(None) };
    let name = account.to_string();
    let may_read = |tenant| can(principal, Permission::ConversationRead, &Resource::of(tenant)).is_allowed();
    // Before any other server is asked.
    let is_candidate = |source: &WebhookSource| {
        source.scheme == SourceScheme::Chatwoot
            && source.state == SourceState::Active
            && source.account.as_deref() == Some(name.as_str())
            && (source.tenant_id == TenantId::SUITE || may_read(source.tenant_id))
    };
    let known = sources::of_tenants(&state.database, None).await?;
    let candidates: Vec<WebhookSource> = known.into_iter().filter(is_candidate).collect();
    if candidates.is_empty() {
        return Ok(None);
    }
    let Some(mail) = state.directory.verified_mail(principal.id).await? else { return Ok(None) };
    let Some(agent) = chatwoot.agent_with(account, &mail).await? else { return Ok(None) };
    let client = chatwoot.account(account);
    let conversation = match client.conversation(number).await {
        Ok(conversation) => conversation,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let is_of_account = conversation.account_id.is_none_or(|id| id == account);
    if !is_of_account || !client.may_see(&agent, &conversation).await? {
        return Ok(None);
    }
    for source in candidates {
        let tenant = match source.tenant_id {
            TenantId::SUITE => sources::mapped(&state.database, source.id, conversation.inbox_id).await?,
            tenant => Some(tenant),
        };
        let Some(tenant) = tenant.filter(|tenant| may_read(*tenant)) else { continue };
        let mut tx = state.database.tenant_tx_in(Arc::clone(principal), tenant).await?;
        if let Some(id) = store::find_by_display_id(&mut tx, tenant, source.id, number).await? {
            return Ok(Some(Beside { tenant, id }));
        }
    }
    Ok(None)
}
