//! What a browser has after a sign-in: an opaque 256-bit id in a `__Host-` cookie; everything else stays here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::HeaderMap;
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};

use crate::{
    clock::SharedClock,
    config::SessionConfig,
    ids::{SharedIds, TenantId, UserId},
};

/// The session's cookie. `__Host-` (RFC 6265bis, section 4.1.3.2): Secure, this host only, the whole path.
pub const COOKIE: &str = "__Host-chancery";
/// The number of sessions after which the longest unused are dropped.
const MOST_SESSIONS: usize = 100_000;

/// What a session is about.
#[derive(Debug, Clone)]
pub struct Session {
    /// Who signed in.
    pub user: UserId,
    /// Keycloak's session, for back-channel logout.
    pub keycloak_session: Option<String>,
    /// The raw ID token, the hint at sign-out.
    pub id_token: String,
    /// The tenant that was last looked at.
    pub last_tenant: Option<TenantId>,
    /// When the sign-in was.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub used_at: DateTime<Utc>,
}

/// A session's key here: the id's SHA-256, so that what is stored opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey([u8; 32]);

/// The sessions of this process.
#[derive(Debug, Clone)]
pub struct Sessions {
    by_key: Arc<Mutex<HashMap<SessionKey, Session>>>,
    idle: TimeDelta,
    absolute: TimeDelta,
    clock: SharedClock,
    ids: SharedIds,
}

impl Sessions {
    /// No sessions yet.
    pub fn new(config: &SessionConfig, clock: SharedClock, ids: SharedIds) -> Self {
        Self {
            by_key: Arc::default(),
            idle: TimeDelta::minutes(config.idle_minutes),
            absolute: TimeDelta::hours(config.absolute_hours),
            clock,
            ids,
        }
    }

    /// Begins a session and gives its cookie.
    pub fn begin(&self, user: UserId, keycloak_session: Option<String>, id_token: String) -> Cookie<'static> {
        let mut id = [0; 32];
        self.ids.fill(&mut id);
        let now = self.clock.now();
        let session =
            Session { user, keycloak_session, id_token, last_tenant: None, created_at: now, used_at: now };
        let mut sessions = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MOST_SESSIONS {
            sessions.retain(|_, session| self.is_alive(session, now));
        }
        if sessions.len() >= MOST_SESSIONS
            && let Some(oldest) =
                sessions.iter().min_by_key(|(_, session)| session.used_at).map(|(key, _)| *key)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(key_of(&id), session);
        cookie(COOKIE, URL_SAFE_NO_PAD.encode(id))
    }

    /// The session that a request's cookie leads to; `used` keeps it from going idle.
    pub fn find(&self, headers: &HeaderMap, used: bool) -> Option<(SessionKey, Session)> {
        let jar = CookieJar::from_headers(headers);
        let id = URL_SAFE_NO_PAD.decode(jar.get(COOKIE)?.value()).ok()?;
        if id.len() != 32 {
            return None;
        }
        let key = key_of(&id);
        self.touch(key, used).map(|session| (key, session))
    }

    /// The session as it is now, if it is alive; `used` keeps it from going idle.
    pub fn touch(&self, key: SessionKey, used: bool) -> Option<Session> {
        let now = self.clock.now();
        let mut sessions = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(&key)?;
        if !self.is_alive(session, now) {
            sessions.remove(&key);
            return None;
        }
        if used {
            session.used_at = now;
        }
        Some(session.clone())
    }

    /// Remembers which tenant was last looked at.
    pub fn remember_tenant(&self, key: SessionKey, tenant: TenantId) {
        if let Some(session) = self.by_key.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&key) {
            session.last_tenant = Some(tenant);
        }
    }

    /// Ends a session and gives it back.
    pub fn end(&self, key: SessionKey) -> Option<Session> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).remove(&key)
    }

    /// Ends all sessions of a user.
    pub fn end_all_of(&self, user: UserId) {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, session| session.user != user);
    }

    fn is_alive(&self, session: &Session, now: DateTime<Utc>) -> bool {
        now - session.used_at < self.idle && now - session.created_at < self.absolute
    }
}

fn key_of(id: &[u8]) -> SessionKey {
    SessionKey(Sha256::digest(id).into())
}

/// A cookie of ours: for this host only, never for scripts, not sent along from other sites but by a link.
pub fn cookie(name: &str, value: String) -> Cookie<'static> {
    Cookie::build((name.to_owned(), value))
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Lax)
        .build()
}

/// The cookie that removes `name`.
pub fn removal(name: &str) -> Cookie<'static> {
    let mut removal = cookie(name, String::new());
    removal.make_removal();
    removal
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header};

    use super::*;
    use crate::{clock::MockClock, ids::RandomIds};

    fn headers(cookie: &Cookie<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::COOKIE,
            HeaderValue::from_str(&format!("a=b; {}={}", cookie.name(), cookie.value())).unwrap(),
        );
        headers
    }

    #[test]
    fn a_session_ends_when_idle_and_for_good_after_its_time() {
        let clock = Arc::new(MockClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        let config = SessionConfig { idle_minutes: 30, absolute_hours: 1 };
        let sessions = Sessions::new(&config, clock.clone(), Arc::new(RandomIds));
        let user = UserId(uuid::Uuid::from_u128(1));

        let cookie = sessions.begin(user, None, String::new());
        assert!(cookie.secure().unwrap() && cookie.http_only().unwrap() && cookie.domain().is_none());
        for _ in 0..2 {
            clock.advance(TimeDelta::minutes(29));
            assert!(sessions.find(&headers(&cookie), true).is_some());
        }
        clock.advance(TimeDelta::minutes(3));
        assert!(sessions.find(&headers(&cookie), true).is_none(), "one hour is over");

        let cookie = sessions.begin(user, None, String::new());
        clock.advance(TimeDelta::minutes(31));
        assert!(sessions.find(&headers(&cookie), true).is_none(), "idle for too long");

        let cookie = sessions.begin(user, None, String::new());
        sessions.end_all_of(user);
        assert!(sessions.find(&headers(&cookie), true).is_none());
    }
}
