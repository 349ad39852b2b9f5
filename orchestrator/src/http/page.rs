//! Keyset paging: `limit` and an opaque `cursor`, answered as `{items, nextCursor}`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use uuid::Uuid;

use super::problem::{FieldError, Problem};

/// The most items of a page.
pub const MAX_LIMIT: u32 = 100;
/// The items of a page unless told.
pub const DEFAULT_LIMIT: u32 = 50;

/// One page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// Send this as `cursor` for the next page; none at the end.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page of at most `limit` of `items`, of which one more was read to know whether there are more.
    pub fn of(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> Uuid) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(key(last).as_bytes()));
        Self { items, next_cursor }
    }
}

/// Reads a cursor that a page gave.
///
/// # Errors
/// 422 where it is none of ours.
pub fn read_cursor(cursor: Option<&str>) -> Result<Option<Uuid>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| Uuid::from_slice(&bytes).ok());
    bytes.map(Some).ok_or_else(|| Problem::invalid(vec![FieldError::new("?cursor", "is not a cursor that this list gave")]))
}

/// Reads a limit.
///
/// # Errors
/// 422 where it isn't from 1 to [`MAX_LIMIT`].
pub fn read_limit(limit: Option<u32>) -> Result<u32, Problem> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(Problem::invalid(vec![FieldError::new("?limit", format!("must be from 1 to {MAX_LIMIT}"))])),
    }
}
