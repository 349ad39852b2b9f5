use std::path::PathBuf;

use connector_jitsi::JAAS_URL;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use super::{ConfigError, invalid, origin};

/// `[jitsi]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JitsiConfig {
    /// The server; empty where not connected.
    pub url: String,
    /// The token's `iss`.
    pub app_id: String,
    /// The keys that sign tokens (RS256), the newest first.
    pub keys: Vec<JitsiKeyConfig>,
    /// What signs tokens where there are no keys (HS256).
    pub secret: SecretString,
    /// Who reads the tokens.
    pub dialect: JitsiDialect,
    /// The token's `sub`.
    pub domain: String,
    /// The token's `aud`.
    pub audience: String,
    /// What its server shows us when it asks for a room; empty where it doesn't.
    pub reservation_secret: SecretString,
    /// Whether the shell shows it inside a page.
    pub embed: bool,
}

/// An entry of `jitsi.keys`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JitsiKeyConfig {
    /// The header `kid` of tokens that it signs.
    pub id: String,
    /// The file of the private key, in PEM.
    pub file: PathBuf,
}

/// Who reads tokens for Jitsi.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JitsiDialect {
    /// A server of one's own.
    Prosody,
    /// Jitsi as a Service.
    Jaas,
}

impl JitsiConfig {
    /// The keys with what their files hold, in their order.
    ///
    /// # Errors
    /// [`ConfigError::SecretFile`], and [`ConfigError::Invalid`] where it isn't said once how tokens are signed.
    pub fn signing_keys(&self) -> Result<Vec<(String, SecretString)>, ConfigError> {
        let has_secret = !self.secret.expose_secret().is_empty();
        if has_secret != self.keys.is_empty() {
            return Err(invalid("jitsi", "give either keys (RS256) or a secret (HS256)"));
        }
        if self.dialect == JitsiDialect::Jaas {
            let is_jaas = |url: &Url| Url::parse(JAAS_URL).is_ok_and(|jaas| origin(&jaas) == origin(url));
            if !Url::parse(&self.url).is_ok_and(|url| is_jaas(&url)) {
                return Err(invalid("jitsi.url", format!("must be {JAAS_URL} for Jitsi as a Service")));
            }
            if has_secret {
                return Err(invalid("jitsi.keys", "must have a key: Jitsi as a Service takes RS256 only"));
            }
        }
        let read = |key: &JitsiKeyConfig| match std::fs::read_to_string(&key.file) {
            Ok(text) => Ok((key.id.clone(), text.into())),
            Err(source) => Err(ConfigError::SecretFile {
                setting: "jitsi.keys".to_owned(),
                path: key.file.clone(),
                source,
            }),
        };
        self.keys.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use figment::{
        Figment,
        providers::{Format as _, Toml},
    };

    use super::*;
    use crate::config::{Config, DEFAULTS};

    #[test]
    fn it_is_said_once_how_tokens_for_jitsi_are_signed() {
        let read = |jitsi: &str| -> Result<Vec<(String, SecretString)>, ConfigError> {
            let settings = format!("[jitsi]\n{jitsi}");
            let figment = Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(&settings));
            figment.extract::<Config>().unwrap().jitsi.signing_keys()
        };
        let refused = |jitsi: &str| read(jitsi).unwrap_err().to_string();
        let key = r#"keys = [{ id = "2026-11", file = "/dev/null" }]"#;
        assert!(read("secret = \"s\"").unwrap().is_empty());
        assert_eq!(read(key).unwrap()[0].0, "2026-11");
        assert!(refused("").starts_with("jitsi: give either"));
        assert!(refused(&format!("{key}\nsecret = \"s\"")).starts_with("jitsi: give either"));
        let missing = refused(r#"keys = [{ id = "2026-11", file = "/nowhere/key.pem" }]"#);
        assert!(missing.contains("jitsi.keys") && missing.contains("/nowhere/key.pem"), "{missing}");
        let jaas = "dialect = \"jaas\"\nurl = \"https://8x8.vc\"";
        assert!(refused(&format!("{jaas}\nsecret = \"s\"")).starts_with("jitsi.keys: "));
        assert!(refused(&format!("{key}\ndialect = \"jaas\"")).starts_with("jitsi.url: "));
        assert_eq!(read(&format!("{key}\n{jaas}")).unwrap().len(), 1);
    }
}
