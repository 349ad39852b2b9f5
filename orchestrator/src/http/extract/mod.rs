//! Extractors: what a handler asks for is what has been proven or checked.

mod json;
mod path;
mod query;
mod time;

pub(crate) use json::body;
pub use json::{ApiJson, decode_json, reject_nul};
pub use path::ApiPath;
pub use query::ApiQuery;
pub use time::check_time;
