use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::future::Cache;

use crate::{auth::Principal, ids::UserId};

/// For how long a principal is remembered before the mirror is read again: what another replica has changed is known then.
const TIME: Duration = Duration::from_secs(5);
const MOST: u64 = 50_000;

/// Principals as they were read a moment ago. What this process changes is forgotten at once, also by who has read it before
/// the change and remembers it only after.
#[derive(Clone)]
pub(super) struct Remembered {
    principals: Cache<UserId, Arc<Principal>>,
    /// How often something was forgotten.
    forgotten: Arc<AtomicU64>,
}

/// When a principal began to be read.
#[derive(Clone, Copy)]
pub(super) struct Since(u64);

impl Remembered {
    pub fn new() -> Self {
        let principals = Cache::builder().max_capacity(MOST).time_to_live(TIME).build();
        Self { principals, forgotten: Arc::default() }
    }

    pub async fn get(&self, user: UserId) -> Option<Arc<Principal>> {
        self.principals.get(&user).await
    }

    /// To be called before the mirror is read for [`Self::insert`].
    pub fn since(&self) -> Since {
        Since(self.forgotten.load(Ordering::SeqCst))
    }

    /// Remembers what was read, unless something was forgotten meanwhile: it may have been this.
    pub async fn insert(&self, since: Since, user: UserId, principal: Arc<Principal>) {
        self.principals.insert(user, principal).await;
        // Looked at after it: whoever forgets counts first, and so finds what was inserted before.
        if self.since().0 != since.0 {
            self.principals.invalidate(&user).await;
        }
    }

    /// Forgets a user whose mirror has changed.
    pub async fn forget(&self, user: UserId) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.principals.invalidate(&user).await;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::auth::PrincipalKind;

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let (remembered, user) = (Remembered::new(), UserId(Uuid::from_u128(1)));
        let principal = Arc::new(Principal {
            id: user,
            username: "acme-ceo".to_owned(),
            name: "Carla Chief".to_owned(),
            kind: PrincipalKind::Person,
            platform_admin: false,
            grants: Vec::new(),
        });
        let before = remembered.since();
        remembered.forget(user).await;
        remembered.insert(before, user, Arc::clone(&principal)).await;
        assert!(remembered.get(user).await.is_none());

        remembered.insert(remembered.since(), user, principal).await;
        assert!(remembered.get(user).await.is_some());
        remembered.forget(user).await;
        assert!(remembered.get(user).await.is_none());
    }
}
