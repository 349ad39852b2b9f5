//! What is known of tools' schemes, as data: `presets.toml`.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use crate::Scheme;

/// What is known of a tool's scheme.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The tool's name, for people.
    pub title: String,
    /// Where the secret comes from.
    pub secret: SecretFrom,
    /// The scheme.
    pub scheme: Scheme,
}

/// Where a tool's secret comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretFrom {
    /// The tool makes it and shows it to its administrator.
    Sender,
    /// The tool can be given one.
    Either,
}

/// A file that can't be read has no presets; a test reads it.
static PRESETS: LazyLock<BTreeMap<String, Preset>> =
    LazyLock::new(|| toml::from_str(include_str!("presets.toml")).unwrap_or_default());

/// All presets by their names.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Preset)> {
    PRESETS.iter().map(|(name, preset)| (name.as_str(), preset))
}

/// The preset of this name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.get(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_read_and_can_be_used() {
        let presets: BTreeMap<String, Preset> = toml::from_str(include_str!("presets.toml")).unwrap();
        assert_eq!(presets.len(), all().count());
        assert!(presets.len() >= 18);
        for (name, preset) in all() {
            assert!(!matches!(preset.scheme, Scheme::Preset { .. }), "{name}");
            assert_eq!(preset.scheme.check(), [], "{name}");
            // As it is stored and shown.
            let text = serde_json::to_string(&preset.scheme).unwrap();
            assert_eq!(serde_json::from_str::<Scheme>(&text).unwrap(), preset.scheme, "{name}");
            assert!(
                preset
                    .scheme
                    .new_secret([7; 32])
                    .is_some_and(|secret| preset.scheme.check_secret(&secret).is_ok()),
                "{name}"
            );
        }
    }
}
