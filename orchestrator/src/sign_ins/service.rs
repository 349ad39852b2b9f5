use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::{model::SignIn, store};
use crate::{
    app::AppState,
    audit::{self, Change},
    auth::{
        Decision, Permission, Principal, Resource, can,
        session::{SessionKey, StorageError},
    },
    http::page::{Page, cursor_of},
    ids::{TenantId, UserId},
};

/// So many members are looked at together: most of them aren't signed in.
const BATCH: i64 = 200;
/// So many of them are asked for at the storage of sessions at a time.
const AT_ONCE: usize = 16;

/// Why sign-ins can't be seen or ended.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// A stranger's tenant, somebody who isn't a member, or a sign-in that has ended.
    #[error("there is no such tenant, member or sign-in")]
    NotFound,
    /// None of the roles allows it.
    #[error("no role allows this")]
    Forbidden,
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
    /// The storage of sessions says no.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn require(principal: &Principal, permission: Permission, tenant: TenantId) -> Result<(), SignInError> {
    match can(principal, permission, &Resource::of(tenant)) {
        Decision::Allowed => Ok(()),
        Decision::Stranger => Err(SignInError::NotFound),
        Decision::MissingPermission
        | Decision::OwnRequest
        | Decision::NotOwnRequest
        | Decision::NotInvolved => Err(SignInError::Forbidden),
    }
}

/// The sign-ins of a tenant's members after one of them, in the order of the members' ids: at least `limit` where there are so
/// many, and all of each member that is named.
///
/// # Errors
/// [`SignInError`].
pub async fn page(
    state: &AppState,
    principal: Arc<Principal>,
    tenant: TenantId,
    after: Option<UserId>,
    limit: u32,
) -> Result<Page<SignIn>, SignInError> {
    require(&principal, Permission::SessionRead, tenant)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut items, mut last) = (Vec::new(), after.unwrap_or(store::FIRST));
    loop {
        // The transaction ends before anybody else is asked.
        let mut tx = state.database.tenant_tx_in(Arc::clone(&principal), tenant).await?;
        let members = store::members(&mut tx, tenant, last, BATCH).await?;
        drop(tx);
        let is_last_batch = members.len() < usize::try_from(BATCH).unwrap_or(usize::MAX);
        let mut left = members.len();
        let mut found = stream::iter(members)
            .map(async |(user, name)| {
                let sessions = state.sessions.of_user(user).await?;
                Ok::<_, StorageError>((user, name, sessions))
            })
            .buffered(AT_ONCE);
        while let Some((user, name, sessions)) = found.try_next().await? {
            left -= 1;
            last = user;
            items.extend(sessions.into_iter().map(|(key, session)| SignIn {
                id: key.handle(),
                user_id: user,
                user_name: name.clone(),
                started_at: session.created_at,
                used_at: session.used_at,
            }));
            if items.len() >= limit && (left > 0 || !is_last_batch) {
                return Ok(Page { items, next_cursor: Some(cursor_of(last.0)) });
            }
        }
        if is_last_batch {
            return Ok(Page { items, next_cursor: None });
        }
    }
}

/// Which of a member's sign-ins are to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// All of them; there needn't be any.
    All,
    /// This one.
    One(&'a str),
}

impl Which<'_> {
    fn is(self, key: SessionKey) -> bool {
        match self {
            Self::All => true,
            Self::One(handle) => key.handle() == handle,
        }
    }
}

/// Ends sign-ins of a member, everywhere: a sign-in is to all of the person's tenants. Says how many there were.
///
/// # Errors
/// [`SignInError`].
pub async fn end(
    state: &AppState,
    principal: Arc<Principal>,
    tenant: TenantId,
    member: UserId,
    which: Which<'_>,
) -> Result<usize, SignInError> {
    require(&principal, Permission::SessionEnd, tenant)?;
    let mut tx = state.database.tenant_tx_in(Arc::clone(&principal), tenant).await?;
    if !store::is_member(&mut tx, tenant, member).await? {
        return Err(SignInError::NotFound);
    }
    drop(tx);
    let sessions = state.sessions.of_user(member).await?;
    let keys: Vec<_> = sessions.into_iter().map(|(key, _)| key).filter(|key| which.is(*key)).collect();
    if keys.is_empty() {
        return if which == Which::All { Ok(0) } else { Err(SignInError::NotFound) };
    }
    record(state, &principal, tenant, member, which).await?;
    let ended = keys.len();
    for key in keys {
        state.sessions.end(key).await?;
    }
    Ok(ended)
}

/// Records in the tenant's trail and in the member's own what is done next.
async fn record(
    state: &AppState,
    principal: &Arc<Principal>,
    tenant: TenantId,
    member: UserId,
    which: Which<'_>,
) -> Result<(), SignInError> {
    let name = principal.grant(tenant).map(|grant| grant.tenant.name.as_str());
    let session = match which {
        Which::All => "all",
        Which::One(handle) => handle,
    };
    // Who is in both reads there who did it, and where; the person's own tenant knows nobody else's name.
    let metadata = json!({ "session": session, "tenantId": tenant, "tenant": name, "by": principal.name });
    let mut tx = state.database.tenant_tx_in(Arc::clone(principal), tenant).await?;
    for trail in [tenant, TenantId(member.0)] {
        tx.enter(trail).await?;
        let change = Change {
            action: "session.ended_for_member",
            resource: "principal",
            resource_id: member.to_string(),
            old_values: None,
            new_values: None,
            metadata: Some(&metadata),
        };
        audit::record(&mut tx, change).await?;
        if tenant.0 == member.0 {
            break;
        }
    }
    Ok(tx.commit().await?)
}
