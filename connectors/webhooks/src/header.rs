//! How headers are read.

use chrono::{DateTime, Utc};
use http::HeaderMap;

/// The header's value, where it is there exactly once and is visible ASCII: what is there twice can mean two things.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

/// Unix seconds, written in digits alone.
pub(crate) fn unix_seconds(text: &str) -> Option<DateTime<Utc>> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().and_then(|seconds| DateTime::from_timestamp(seconds, 0))
}
