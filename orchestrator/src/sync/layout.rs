//! Whose an account of Chatwoot is: what its sources of webhooks say; and how Chatwoot is treated: what the settings say.

use std::collections::{BTreeMap, BTreeSet};

use super::{AccountId, ChatwootTool, DriftPolicy, Limits, Policy, Realm, SyncError, Whose};
use crate::{
    config::{SyncDrift, SyncToolConfig},
    db::Database,
    directory::Directory,
    ids::{SharedIds, TenantId},
    sources::{self, Mapping, SourceError, SourceScheme, WebhookSource},
    tools::Chatwoot,
};

/// How a tool is treated, by its settings.
pub fn policy(config: &SyncToolConfig) -> Policy {
    Policy {
        drift: match config.drift {
            SyncDrift::Report => DriftPolicy::Report,
            SyncDrift::Enforce => DriftPolicy::Enforce,
        },
        protected: config.protected.iter().cloned().map(AccountId).collect(),
        limits: Limits { percent: config.percent, count: config.count, few: config.few },
    }
}

/// Chatwoot as a tool, and Keycloak's people who are to have something there.
///
/// # Errors
/// [`SyncError`], where the sources or Keycloak can't be read completely.
pub async fn connect_chatwoot(
    database: &Database,
    directory: &Directory,
    chatwoot: &Chatwoot,
    ids: SharedIds,
) -> Result<(ChatwootTool, Realm), SyncError> {
    let groups = directory.group_tenants().await?;
    let accounts = chatwoot_accounts(database, &groups).await?;
    let realm = Realm::from(directory.read_whole(&tenants(&accounts)).await?);
    Ok((ChatwootTool::new(chatwoot.installation(), ids, accounts), realm))
}

/// Whose an account is by one of its sources; none where that says nothing.
fn whose(source: &WebhookSource, mappings: &[Mapping]) -> Option<Whose> {
    if source.tenant_id != TenantId::SUITE {
        return Some(Whose::Tenant(source.tenant_id));
    }
    if let [Mapping { inbox_id: None, tenant_id, .. }] = mappings {
        return Some(Whose::Tenant(*tenant_id));
    }
    // Which the others are is known to Chatwoot alone.
    let inboxes: BTreeMap<i64, TenantId> =
        mappings.iter().filter_map(|mapping| Some((mapping.inbox_id?, mapping.tenant_id))).collect();
    (!inboxes.is_empty()).then_some(Whose::Shared(inboxes))
}

/// The tenants that have something in these accounts.
pub fn tenants(accounts: &BTreeMap<i64, Whose>) -> BTreeSet<TenantId> {
    let of = |whose: &Whose| match whose {
        Whose::Tenant(tenant) => vec![*tenant],
        Whose::Shared(inboxes) => inboxes.values().copied().collect(),
    };
    accounts.values().flat_map(of).collect()
}

/// The accounts of Chatwoot that are groups' of Keycloak (`groups`), by their sources. An account of which two sources say
/// something else is nobody's.
///
/// # Errors
/// Where the sources can't be read.
pub async fn chatwoot_accounts(
    database: &Database,
    groups: &[TenantId],
) -> Result<BTreeMap<i64, Whose>, SourceError> {
    let mut accounts: BTreeMap<i64, Vec<Whose>> = BTreeMap::new();
    for source in sources::of_tenants(database, None).await? {
        let account = source.account.as_deref().and_then(|account| account.parse().ok());
        // Of one that is paused, too: whose an account is doesn't hang on whether its webhooks are taken.
        let is_one = source.scheme == SourceScheme::Chatwoot;
        let Some(account) = account.filter(|_| is_one) else { continue };
        let mappings = if source.tenant_id == TenantId::SUITE {
            let mut tx = database.worker_tx(TenantId::SUITE).await?;
            sources::mappings(&mut tx, database, source.id).await?
        } else {
            Vec::new()
        };
        accounts.entry(account).or_default().extend(whose(&source, &mappings));
    }
    let groups: BTreeSet<TenantId> = groups.iter().copied().collect();
    let settled = accounts.into_iter().filter_map(|(account, said)| {
        let [whose] = <[Whose; 1]>::try_from(said).ok()?;
        // A personal tenant is no group whose people could be read.
        let of_groups = tenants(&BTreeMap::from([(account, whose.clone())])).is_subset(&groups);
        of_groups.then_some((account, whose))
    });
    Ok(settled.collect())
}
