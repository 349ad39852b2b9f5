use axum::http::HeaderMap;
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::SessionKey;

/// The session's cookie. `__Host-` (RFC 6265bis, section 4.1.3.2): Secure, this host only, the whole path.
pub const COOKIE: &str = "__Host-chancery";
/// 256 bits that nobody can guess.
pub(super) const ID_LENGTH: usize = 32;

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

/// The cookie of the session with this id.
pub(super) fn of_session(id: &[u8; ID_LENGTH]) -> Cookie<'static> {
    cookie(COOKIE, URL_SAFE_NO_PAD.encode(id))
}

/// The key that a request's cookie leads to.
pub(super) fn key_of(headers: &HeaderMap) -> Option<SessionKey> {
    let jar = CookieJar::from_headers(headers);
    let id = URL_SAFE_NO_PAD.decode(jar.get(COOKIE)?.value()).ok()?;
    (id.len() == ID_LENGTH).then(|| SessionKey::of(&id))
}
