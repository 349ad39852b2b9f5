use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use super::{ConfigError, invalid};

/// `[redis]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// The server; empty for keeping sign-ins in this process.
    pub url: SecretString,
    /// The certificates of who vouches for the server, in PEM; empty for those that the machine trusts.
    pub ca: String,
    /// Our certificate, in PEM; empty where the server asks for none.
    pub client_certificate: String,
    /// Its private key, in PEM.
    pub client_key: SecretString,
    /// What our keys begin with.
    pub prefix: String,
}

impl RedisConfig {
    /// Whether the way to the server is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.url.expose_secret().to_ascii_lowercase().starts_with("rediss://")
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let url = self.url.expose_secret();
        // What follows a # would switch off the look at the server's certificate.
        let is_redis = |url: &Url| {
            ["redis", "rediss"].contains(&url.scheme()) && url.has_host() && url.fragment().is_none()
        };
        if !url.is_empty() && !Url::parse(url).is_ok_and(|url| is_redis(&url)) {
            return Err(invalid(
                "redis.url",
                "must be a redis address: redis://user:password@host:6379/0, or rediss:// for TLS",
            ));
        }
        for (setting, is_set) in [
            ("redis.ca", !self.ca.is_empty()),
            ("redis.client_certificate", !self.client_certificate.is_empty()),
            ("redis.client_key", !self.client_key.expose_secret().is_empty()),
        ] {
            if is_set && !self.is_encrypted() {
                return Err(invalid(setting, "is for TLS, which begins redis.url with rediss://"));
            }
        }
        for (setting, pem) in [("redis.ca", &self.ca), ("redis.client_certificate", &self.client_certificate)]
        {
            if !pem.is_empty() && !pem.contains("-----BEGIN CERTIFICATE-----") {
                return Err(invalid(setting, "must hold a certificate in PEM, or give its file: …_file"));
            }
        }
        if self.client_certificate.is_empty() != self.client_key.expose_secret().is_empty() {
            return Err(invalid(
                "redis.client_key",
                "and redis.client_certificate are given both or neither",
            ));
        }
        let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
        if self.prefix.is_empty() || !self.prefix.chars().all(is_plain) {
            return Err(invalid("redis.prefix", "must be letters, digits and -_."));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use figment::{
        Figment,
        providers::{Format as _, Toml},
    };

    use crate::config::{Config, DEFAULTS};

    #[test]
    fn what_is_for_tls_to_redis_is_refused_without_it() {
        let read = |redis: &str| {
            let config: Config = Figment::from(Toml::string(DEFAULTS))
                .merge(Toml::string(&format!("[redis]\n{redis}")))
                .extract()
                .unwrap();
            config.redis.validate().map_err(|error| error.to_string())
        };
        for accepted in [
            "",
            r#"url = "redis://user:password@host:6379/0""#,
            r#"url = "rediss://host""#,
            "url = \"rediss://host\"\nca = \"-----BEGIN CERTIFICATE-----\"",
        ] {
            read(accepted).unwrap();
        }
        for (refused, setting) in [
            (r#"url = "http://host""#, "redis.url"),
            (r#"url = "rediss://host/#insecure""#, "redis.url"),
            ("url = \"redis://host\"\nca = \"-----BEGIN CERTIFICATE-----\"", "redis.ca"),
            ("url = \"rediss://host\"\nca = \"/etc/redis/ca.pem\"", "redis.ca"),
            (r#"client_key = "a key""#, "redis.client_key"),
            (
                "url = \"rediss://host\"\nclient_certificate = \"-----BEGIN CERTIFICATE-----\"",
                "redis.client_key",
            ),
        ] {
            assert!(read(refused).unwrap_err().starts_with(setting), "{refused}");
        }
    }
}
