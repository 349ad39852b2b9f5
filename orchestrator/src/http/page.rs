//! Keyset paging: `limit` and an opaque `cursor`, answered as `{items, nextCursor}`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Datelike as _, Utc};
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
    pub fn of(items: Vec<T>, limit: u32, key: impl Fn(&T) -> Uuid) -> Self {
        Self::with_cursor(items, limit, |last| cursor_of(key(last)))
    }

    /// The same with a cursor of one's own.
    pub fn with_cursor(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(cursor);
        Self { items, next_cursor }
    }
}

/// Where a page of a list that is ordered by a time ended: the time as it was then, since it may have changed meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedPosition {
    /// The time.
    pub time: DateTime<Utc>,
    /// The item, among those of the same time.
    pub id: Uuid,
}

impl TimedPosition {
    /// The opaque cursor of this position.
    pub fn cursor(self) -> String {
        let mut bytes = self.time.timestamp_micros().to_be_bytes().to_vec();
        bytes.extend_from_slice(self.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position that a cursor stands for.
    ///
    /// # Errors
    /// 422 where it is none of ours.
    pub fn read(cursor: Option<&str>) -> Result<Option<Self>, Problem> {
        let Some(cursor) = cursor else { return Ok(None) };
        let read = || {
            let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
            let (micros, id) = bytes.split_first_chunk::<8>()?;
            let time = DateTime::from_timestamp_micros(i64::from_be_bytes(*micros))?;
            // PostgreSQL knows no other years.
            (1..=9999).contains(&time.year()).then_some(Self { time, id: Uuid::from_slice(id).ok()? })
        };
        read().map(Some).ok_or_else(not_a_cursor)
    }
}

fn not_a_cursor() -> Problem {
    Problem::invalid(vec![FieldError::new("?cursor", "is not a cursor that this list gave")])
}

/// The opaque cursor of what has this id.
pub fn cursor_of(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// Reads a cursor that a page gave.
///
/// # Errors
/// 422 where it is none of ours.
pub fn read_cursor(cursor: Option<&str>) -> Result<Option<Uuid>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| Uuid::from_slice(&bytes).ok());
    bytes.map(Some).ok_or_else(not_a_cursor)
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
