//! Secrets that are shown themselves.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, header};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::{Choice, ConstantTimeEq as _};

use crate::Refused;

const MISSING: Refused = Refused::Unproven("no secret is shown");
const WRONG: Refused = Refused::Unproven("another secret is shown");

/// Whether `shown` is one of the secrets. All are compared, so that the time taken doesn't tell which one it is; an empty
/// one is nobody's.
pub(crate) fn is_one_of(secrets: &[SecretString], shown: &[u8]) -> bool {
    let mut known = Choice::from(0);
    for secret in secrets {
        let secret = secret.expose_secret().as_bytes();
        if !secret.is_empty() {
            known |= secret.ct_eq(shown);
        }
    }
    known.into()
}

pub(crate) fn check(secrets: &[SecretString], shown: &[u8]) -> Result<(), Refused> {
    if is_one_of(secrets, shown) { Ok(()) } else { Err(WRONG) }
}

/// The header's bytes, where it is there exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a [u8], Refused> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if !value.is_empty() => Ok(value.as_bytes()),
        _ => Err(MISSING),
    }
}

/// The secret itself in a header.
pub(crate) fn verify(
    secrets: &[SecretString],
    headers: &HeaderMap,
    name: &HeaderName,
) -> Result<(), Refused> {
    check(secrets, only(headers, name)?)
}

/// What follows the name of an authentication scheme, which is case-insensitive (RFC 9110, section 11.1).
pub(crate) fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Result<&'a [u8], Refused> {
    let value = only(headers, &header::AUTHORIZATION)?;
    match value.split_at_checked(scheme.len()) {
        Some((name, [b' ', rest @ ..]))
            if name.eq_ignore_ascii_case(scheme.as_bytes()) && !rest.is_empty() =>
        {
            Ok(rest)
        }
        _ => Err(MISSING),
    }
}

/// `Authorization: Bearer …` (RFC 6750, section 2.1).
pub(crate) fn bearer(secrets: &[SecretString], headers: &HeaderMap) -> Result<(), Refused> {
    check(secrets, credentials(headers, "Bearer")?)
}

/// `Authorization: Basic …` (RFC 7617): this name, and one of the secrets as the password.
pub(crate) fn basic(secrets: &[SecretString], username: &str, headers: &HeaderMap) -> Result<(), Refused> {
    let shown = STANDARD.decode(credentials(headers, "Basic")?).map_err(|_| MISSING)?;
    let colon = shown.iter().position(|byte| *byte == b':').ok_or(MISSING)?;
    let (name, password) = (&shown[..colon], &shown[colon + 1..]);
    // Both are compared in any case.
    let known = name.ct_eq(username.as_bytes()) & Choice::from(u8::from(is_one_of(secrets, password)));
    if known.into() { Ok(()) } else { Err(WRONG) }
}
