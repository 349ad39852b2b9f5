//! What a token says of groups: a reason to look in Keycloak, and nothing else.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use super::{Directory, Place};
use crate::{
    auth::{Principal, PrincipalError, PrincipalSource as _},
    ids::UserId,
};

impl Directory {
    /// The principal whose token names these groups. A group that the mirror doesn't show is looked up before the request
    /// goes on, so that a new tenant is there with the first token that tells of it. What the token leaves out takes
    /// nothing away.
    ///
    /// # Errors
    /// [`PrincipalError`].
    pub async fn principal_claiming(
        &self,
        user: UserId,
        groups: &[String],
    ) -> Result<Arc<Principal>, PrincipalError> {
        let principal = self.principal(user).await?;
        let mut hasher = DefaultHasher::new();
        groups.hash(&mut hasher);
        let claim = (user, hasher.finish());
        if groups.is_empty() || self.claims.contains_key(&claim) {
            return Ok(principal);
        }
        // Requests that come together with the same token look once.
        let look = async {
            if !shows(&principal, groups) {
                // Whether Keycloak is down, or has disabled the user: what the mirror then says, counts.
                let _ = self.refreshed(user).await;
            }
        };
        self.claims.get_with(claim, look).await;
        self.principal(user).await
    }
}

/// Whether the principal has a tenant, and the role in it, for each of these groups that gives one.
fn shows(principal: &Principal, groups: &[String]) -> bool {
    groups.iter().filter_map(|path| Place::of(path).ok()).all(|place| {
        principal
            .grants
            .iter()
            .any(|grant| grant.tenant.path == place.tenant_path && grant.roles.contains(&place.role))
    })
}
