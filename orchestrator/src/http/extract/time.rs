use chrono::{DateTime, Datelike as _, Utc};

use crate::http::problem::FieldError;

/// Notes a time that no calendar of ours has: what is not in the years 1 to 9999 (RFC 3339, section 1) is a mistake, and
/// PostgreSQL doesn't take all of the rest.
pub fn check_time(pointer: &str, time: Option<DateTime<Utc>>, errors: &mut Vec<FieldError>) {
    if time.is_some_and(|time| !(1..=9999).contains(&time.year())) {
        errors.push(FieldError::new(pointer, "must be in the years 0001 to 9999"));
    }
}
