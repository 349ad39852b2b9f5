//! Levels of authentication: what a request asks for, and what a session has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    oidc::Parameters,
    realm::{Client, Realm},
};

/// The highest level that anybody reaches here.
pub(super) const CONFIRMED: i64 = 2;

/// The level of somebody who has picked who they are, as with a password.
pub(super) fn password() -> i64 {
    1
}

/// A level that a request asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Level {
    /// Its name in the request, which the tokens repeat.
    pub(super) name: String,
    pub(super) value: i64,
    /// Whether nothing less will do.
    pub(super) essential: bool,
}

/// The names of the levels (`acr.loa.map`): the client's, else the realm's, else none.
fn names(realm: &Realm, client: &Client) -> BTreeMap<String, i64> {
    let map = |attributes: &BTreeMap<String, String>| {
        serde_json::from_str(attributes.get("acr.loa.map")?)
            .ok()
            .filter(|map: &BTreeMap<_, _>| !map.is_empty())
    };
    map(&client.attributes).or_else(|| map(&realm.attributes)).unwrap_or_default()
}

/// The name of a level in tokens.
pub(super) fn name_of(realm: &Realm, client: &Client, level: i64) -> String {
    let named = names(realm, client).into_iter().find(|(_, value)| *value == level);
    named.map_or_else(|| level.to_string(), |(name, _)| name)
}

/// The lowest level that a request asks for: by the claim `acr`, which may be essential, else by `acr_values`.
///
/// # Errors
/// An essential level that isn't one.
pub(super) fn asked_for(
    realm: &Realm,
    client: &Client,
    parameters: &Parameters,
) -> Result<Option<Level>, &'static str> {
    let claims: Value =
        parameters.get("claims").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let acr = claims.pointer("/id_token/acr").cloned().unwrap_or_default();
    let essential = acr["essential"] == true;
    let mut wanted: Vec<String> = [acr["value"].as_str()]
        .into_iter()
        .chain(acr["values"].as_array().into_iter().flatten().map(Value::as_str))
        .flatten()
        .map(str::to_owned)
        .collect();
    if wanted.is_empty() {
        let values = parameters.get("acr_values").unwrap_or_default();
        wanted.extend(values.split_whitespace().map(str::to_owned));
    }
    let names = names(realm, client);
    let mut levels = Vec::new();
    for name in wanted {
        match names.get(&name).copied().or_else(|| name.parse().ok()) {
            Some(value) => levels.push(Level { name, value, essential }),
            None if essential => return Err("Invalid parameter: claims"),
            None => {}
        }
    }
    Ok(levels.into_iter().min_by_key(|level| level.value))
}
