//! Typed settings: `default.toml`, then a file, then the environment; each section validates itself.

mod inbox;
mod jitsi;
mod limits;
mod matrix;
mod navigation;
mod redis;
mod sync;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use chrono::TimeDelta;
use connector_core::egress::{EgressPolicy, PortRange};
use figment::{
    Figment,
    providers::{Env, Format as _, Toml},
    value::{Dict, Tag, Value},
};
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

pub use self::{
    inbox::InboxConfig,
    jitsi::{JitsiConfig, JitsiDialect, JitsiKeyConfig},
    limits::{LimitsConfig, QuotaConfig},
    matrix::{MatrixAuthMode, MatrixConfig},
    navigation::{NavigationCaller, NavigationCallerConfig, NavigationConfig},
    redis::RedisConfig,
    sync::{SyncConfig, SyncDrift, SyncMode, SyncToolConfig},
};

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("default.toml");

/// A setting that can't be used. Names the setting, never its value where that is a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or a variable can't be read, has the wrong type or an unknown name.
    #[error("the settings can't be read: {0}")]
    Unreadable(#[source] Box<figment::Error>),
    /// A secret's file can't be read.
    #[error("{setting} names a file that can't be read: {}", path.display())]
    SecretFile {
        /// The setting.
        setting: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A setting is missing or makes no sense.
    #[error("{setting}: {problem}")]
    Invalid {
        /// The setting, as in the file.
        setting: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
}

fn invalid(setting: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { setting, problem: problem.into() }
}

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the server listens and how it is reached.
    pub http: HttpConfig,
    /// Where metrics are.
    pub metrics: MetricsConfig,
    /// The three logins.
    pub database: DatabaseConfig,
    /// The master key.
    pub crypto: CryptoConfig,
    /// How long a sign-in lasts.
    pub session: SessionConfig,
    /// What asks for a stronger sign-in.
    pub step_up: StepUpConfig,
    /// Where sign-ins are kept.
    pub redis: RedisConfig,
    /// How much anybody may ask for.
    pub limits: LimitsConfig,
    /// Who people are.
    pub keycloak: KeycloakConfig,
    /// Customer conversations.
    pub chatwoot: ChatwootConfig,
    /// The team's chat.
    pub matrix: MatrixConfig,
    /// Video rooms.
    pub jitsi: JitsiConfig,
    /// What other tools show of the sidebar.
    pub navigation: NavigationConfig,
    /// How roles flow into the tools.
    pub sync: SyncConfig,
    /// The queue.
    pub jobs: JobsConfig,
    /// Received webhooks.
    pub inbox: InboxConfig,
    /// What goes out to tenants' own endpoints.
    pub webhooks: WebhooksConfig,
    /// Logging.
    pub log: LogConfig,
}

/// `[http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// How people reach it.
    pub public_url: Url,
    /// Further hosts under which people reach it.
    pub additional_hosts: Vec<String>,
    /// Where assets are fetched from; empty for `public_url`.
    pub assets_url: String,
    /// The proxies that are believed about who is behind them (`X-Forwarded-For`).
    pub trusted_proxies: Vec<TrustedProxy>,
}

/// A proxy of ours, or a network of them: `10.0.0.1`, `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TrustedProxy(IpNet);

impl TrustedProxy {
    /// Whether `address` is of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = || text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        let network = text.parse::<IpNet>().or_else(|_| one());
        network.map(Self).map_err(|_| format!("{text:?} is neither an address nor a network (10.0.0.0/8)"))
    }
}

impl TryFrom<String> for TrustedProxy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl HttpConfig {
    /// The origin under which a request that names `host` is served, or none where that host isn't ours.
    pub fn origin_for(&self, host: &str) -> Option<Url> {
        if authority(&self.public_url).is_some_and(|ours| ours.eq_ignore_ascii_case(host)) {
            return Some(self.public_url.clone());
        }
        self.additional_hosts
            .iter()
            .find(|ours| ours.eq_ignore_ascii_case(host))
            .and_then(|ours| Url::parse(&format!("{}://{ours}/", self.public_url.scheme())).ok())
    }

    fn validate(&self) -> Result<(), ConfigError> {
        match (self.public_url.scheme(), self.public_url.host_str()) {
            ("https", Some(_)) => Ok(()),
            ("http", Some(_)) if is_loopback(&self.public_url) => Ok(()),
            ("http", Some(host)) => Err(invalid(
                "http.public_url",
                format!(
                    "plain http is only for this machine, and {host} is another: put a proxy with TLS in front and give its https address"
                ),
            )),
            _ => Err(invalid("http.public_url", "must be an http or https address with a host")),
        }
    }
}

/// `host[:port]` of a URL, as a browser writes it into `Host`.
pub fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// The origin of a URL (RFC 6454), as CSP and `Origin` write it.
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// `[metrics]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// Where metrics are served; empty for nowhere.
    pub listen: String,
}

/// `[database]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// The app login.
    pub url: SecretString,
    /// The worker login.
    pub worker_url: SecretString,
    /// The owner.
    pub owner_url: SecretString,
    /// The most connections of the app login.
    pub max_connections: u32,
    /// The most connections of the worker login.
    pub worker_max_connections: u32,
}

/// `[crypto]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CryptoConfig {
    /// The file with the master key.
    pub key_file: PathBuf,
}

/// `[session]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionConfig {
    /// A session ends after so many minutes without a request.
    pub idle_minutes: i64,
    /// A session ends so many hours after its sign-in.
    pub absolute_hours: i64,
}

/// `[step_up]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepUpConfig {
    /// The levels of authentication, the lowest first.
    pub levels: Vec<String>,
    /// The level of a second factor, for the decisions for which a tenant asks for one; empty where the realm has none.
    pub level: String,
}

impl StepUpConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_.:".contains(char);
        if !self.levels.iter().all(|level| !level.is_empty() && level.chars().all(is_plain)) {
            return Err(invalid("step_up.levels", "must be names of letters, digits and -_.:"));
        }
        if !self.level.is_empty() && !self.levels.contains(&self.level) {
            return Err(invalid("step_up.level", "must be one of step_up.levels, or empty"));
        }
        Ok(())
    }
}

/// `[keycloak]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeycloakConfig {
    /// The server, without the realm.
    pub url: String,
    /// The realm.
    pub realm: String,
    /// The shell's client.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// The audience of access tokens.
    pub audience: String,
    /// The service account's client.
    pub sync_client_id: String,
    /// Its secret.
    pub sync_client_secret: SecretString,
    /// Seconds between two reconciliations.
    pub reconcile_seconds: u64,
}

impl KeycloakConfig {
    /// The server's URL.
    ///
    /// # Errors
    /// Where it is none.
    pub fn base(&self) -> Result<Url, ConfigError> {
        parse_url("keycloak.url", &self.url)
    }

    /// The issuer of the realm's tokens.
    ///
    /// # Errors
    /// Where the server's URL is none.
    pub fn issuer(&self) -> Result<String, ConfigError> {
        Ok(format!("{}/realms/{}", self.base()?.as_str().trim_end_matches('/'), self.realm))
    }
}

/// `[chatwoot]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatwootConfig {
    /// The server; empty where not connected.
    pub url: String,
    /// An administrator's token.
    pub token: SecretString,
    /// The token of the bot that writes notes; empty where the administrator does.
    pub bot_token: SecretString,
    /// A platform app's token, with which people are signed in; empty where they sign in themselves.
    pub platform_token: SecretString,
    /// The bot's id, as its notes' sender; 0 where there is none.
    pub bot_id: i64,
    /// The conversations' custom attribute that says how their approval stands; empty for none.
    pub attribute: String,
    /// How much is asked of it.
    pub rate: QuotaConfig,
    /// How often what no webhook has told is asked for, in seconds; 0 for never.
    pub reconcile_seconds: u64,
    /// Whether the shell shows it inside a page.
    pub embed: bool,
}

/// `[jobs]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsConfig {
    /// How many jobs run at a time in this process.
    pub workers: usize,
}

/// `[webhooks]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhooksConfig {
    /// To how many endpoints this process delivers at a time.
    pub workers: usize,
    /// Whether endpoints may be without TLS.
    pub allow_http: bool,
    /// Ports of endpoints besides 80 and 443.
    pub allowed_ports: Vec<PortRange>,
    /// Networks inside in which endpoints may be.
    pub allowed_networks: Vec<IpNet>,
    /// An endpoint is switched off after so many hours without success.
    pub disable_after_hours: i64,
}

impl WebhooksConfig {
    /// Where endpoints may be.
    pub fn policy(&self) -> EgressPolicy {
        EgressPolicy {
            allow_http: self.allow_http,
            ports: self.allowed_ports.clone(),
            networks: self.allowed_networks.clone(),
        }
    }

    /// How long nothing may succeed at an endpoint.
    pub fn disable_after(&self) -> TimeDelta {
        TimeDelta::hours(self.disable_after_hours)
    }
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Text for people, JSON for collectors.
    pub format: LogFormat,
    /// tracing's filter syntax.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors.
    Json,
}

/// Parses the URL of a tool; an empty one is an error here.
///
/// # Errors
/// [`ConfigError::Invalid`].
pub fn parse_url(setting: &'static str, text: &str) -> Result<Url, ConfigError> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ if text.is_empty() => Err(invalid(setting, "is missing")),
        _ => Err(invalid(setting, "must be an http or https address with a host")),
    }
}

impl Config {
    /// The defaults alone, for whoever sets the rest by hand: the demo and the tests.
    ///
    /// # Errors
    /// Never in practice: a test reads them.
    pub fn defaults() -> Result<Self, ConfigError> {
        Figment::from(Toml::string(DEFAULTS))
            .extract()
            .map_err(|error| ConfigError::Unreadable(Box::new(error)))
    }

    /// Reads the settings: the defaults, then `file`, then the environment.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(file: Option<&std::path::Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        figment = figment.merge(Env::prefixed("CHANCERY__").split("__").lowercase(true));
        let unreadable = |error: figment::Error| ConfigError::Unreadable(Box::new(error));
        let mut values: Dict = figment.extract().map_err(unreadable)?;
        read_secret_files(&mut values)?;
        let config: Self =
            Figment::from(figment::providers::Serialized::defaults(values)).extract().map_err(unreadable)?;
        config.http.validate()?;
        Ok(config)
    }

    /// Checks what `serve` can't do without.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for the first setting that is missing.
    pub fn validate_for_serving(&self) -> Result<(), ConfigError> {
        for (setting, url) in
            [("database.url", &self.database.url), ("database.worker_url", &self.database.worker_url)]
        {
            if url.expose_secret().is_empty() {
                return Err(invalid(
                    setting,
                    "is missing: give the URL of its login, postgres://user:password@host/database",
                ));
            }
        }
        if self.crypto.key_file.as_os_str().is_empty() {
            return Err(invalid(
                "crypto.key_file",
                "is missing: give a file with 32 random bytes in base64 (openssl rand -base64 32)",
            ));
        }
        self.keycloak.base()?;
        for (setting, url) in [
            ("chatwoot.url", &self.chatwoot.url),
            ("matrix.url", &self.matrix.url),
            ("jitsi.url", &self.jitsi.url),
        ] {
            if !url.is_empty() {
                parse_url(setting, url)?;
            }
        }
        self.matrix.validate()?;
        self.redis.validate()?;
        self.step_up.validate()?;
        self.validate_embedded()?;
        self.navigation.validate()?;
        if self.session.idle_minutes <= 0 || self.session.absolute_hours <= 0 {
            return Err(invalid("session", "idle_minutes and absolute_hours must be more than 0"));
        }
        self.limits.validate()?;
        self.inbox.validate()?;
        if !(1..=30 * 24).contains(&self.webhooks.disable_after_hours) {
            return Err(invalid("webhooks.disable_after_hours", "must be from 1 to 720"));
        }
        Ok(())
    }

    /// Whether an address is under a host name of ours. A cookie goes to all ports of its host (RFC 6265, section 8.5): in a frame, ours
    /// would go to the tool. The demo has nothing but ports, on loopback.
    pub fn is_own_address(&self, url: &Url) -> bool {
        std::iter::once(Some(self.http.public_url.clone()))
            .chain(self.http.additional_hosts.iter().map(|host| self.http.origin_for(host)))
            .flatten()
            .any(|ours| {
                origin(&ours) == origin(url) || (ours.host_str() == url.host_str() && !is_loopback(url))
            })
    }

    /// A tool in a frame may run scripts of its origin: of ours, it could act as whoever looks at it.
    fn validate_embedded(&self) -> Result<(), ConfigError> {
        let matrix = if self.matrix.url.is_empty() { String::new() } else { self.matrix.client()?.into() };
        for (setting, embed, url) in [
            ("chatwoot.embed", self.chatwoot.embed, &self.chatwoot.url),
            ("matrix.embed", self.matrix.embed, &matrix),
            ("jitsi.embed", self.jitsi.embed, &self.jitsi.url),
        ] {
            if embed && Url::parse(url).is_ok_and(|url| self.is_own_address(&url)) {
                return Err(invalid(
                    setting,
                    "a tool under our own host name can't be shown in a frame: give it one of its own",
                ));
            }
        }
        Ok(())
    }

    /// The time between two reconciliations with Keycloak.
    pub fn reconcile_period(&self) -> Duration {
        Duration::from_secs(self.keycloak.reconcile_seconds.max(1))
    }
}

/// Whether a URL leads to this machine.
pub fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost"
            || host.ends_with(".localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            || host == "[::1]"
    })
}

/// Replaces each `name_file` by `name` with what the file holds, but for settings that are files by nature.
fn read_secret_files(sections: &mut Dict) -> Result<(), ConfigError> {
    for (section, value) in sections.iter_mut() {
        let Value::Dict(_, settings) = value else { continue };
        let files: Vec<(String, String)> = settings
            .iter()
            .filter(|(name, _)| !(section == "crypto" && name.as_str() == "key_file"))
            .filter_map(|(name, value)| {
                Some((name.strip_suffix("_file")?.to_owned(), value.as_str()?.to_owned()))
            })
            .collect();
        for (name, path) in files {
            let path = PathBuf::from(path);
            let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::SecretFile {
                setting: format!("{section}.{name}_file"),
                path,
                source,
            })?;
            settings.remove(&format!("{name}_file"));
            settings
                .insert(name, Value::String(Tag::Default, text.trim_end_matches(['\r', '\n']).to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete_and_readable() {
        let config: Config = Figment::from(Toml::string(DEFAULTS)).extract().unwrap();
        assert_eq!(config.http.listen.port(), 8080);
        config.http.validate().unwrap();
    }

    #[test]
    fn plain_http_beyond_loopback_is_refused() {
        let mut config: Config = Figment::from(Toml::string(DEFAULTS)).extract().unwrap();
        for (url, accepted) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://acme-ceo.localhost:8080", true),
            ("https://chancery.example.org", true),
            ("http://chancery.example.org", false),
            ("http://192.168.1.4", false),
            ("http://localhost.example.org", false),
        ] {
            config.http.public_url = Url::parse(url).unwrap();
            assert_eq!(config.http.validate().is_ok(), accepted, "{url}");
        }
    }

    #[test]
    fn a_quota_is_read_by_its_parts_and_checked() {
        let read = |limits: &str| -> Result<Config, figment::Error> {
            Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(limits)).extract()
        };
        let config = read("[limits]\naddress.requests = 5").unwrap();
        assert_eq!(config.limits.address.requests, 5);
        assert_eq!(config.limits.address.seconds, 60, "what isn't said stays");
        config.limits.validate().unwrap();
        let no_time = read("[limits]\naddress.seconds = 0").unwrap();
        assert!(no_time.limits.validate().unwrap_err().to_string().starts_with("limits.address"));
        assert!(read("[limits]\naddress.requests = 2000000000").unwrap().limits.validate().is_err());
        assert!(read("[limits]\naddress.minutes = 1").is_err());
    }

    #[test]
    fn a_trusted_proxy_is_an_address_or_a_network() {
        let read = |proxies: &str| -> Result<Config, figment::Error> {
            let settings = format!("[http]\ntrusted_proxies = {proxies}");
            Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(&settings)).extract()
        };
        let proxies = read(r#"["10.0.0.0/8", "2001:db8::1"]"#).unwrap().http.trusted_proxies;
        let trusted = |address: &str| proxies.iter().any(|proxy| proxy.contains(address.parse().unwrap()));
        assert!(trusted("10.9.8.7") && trusted("::ffff:10.9.8.7") && trusted("2001:db8::1"));
        assert!(!trusted("11.0.0.1") && !trusted("2001:db8::2"));
        assert!(read(r#"["proxy.example.org"]"#).unwrap_err().to_string().contains("proxy.example.org"));
    }

    #[test]
    fn where_endpoints_may_be_is_read() {
        let read = |webhooks: &str| -> Result<Config, figment::Error> {
            let settings = format!("[webhooks]\n{webhooks}");
            Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(&settings)).extract()
        };
        let strict = read("").unwrap().webhooks.policy();
        assert!(strict.read("http://example.org/").is_err() && strict.read("https://10.1.0.1/").is_err());
        let settings = "allow_http = true\nallowed_ports = [\"5678\"]\nallowed_networks = [\"10.1.0.0/16\"]";
        let policy = read(settings).unwrap().webhooks.policy();
        policy.read("http://10.1.0.1:5678/").unwrap();
        assert!(read("allowed_ports = [\"any\"]").unwrap_err().to_string().contains("any"));
        assert!(read("allowed_networks = [\"10.1.0.1/99\"]").is_err());
    }

    #[test]
    fn a_tool_of_our_own_origin_is_not_framed() {
        let mut config: Config = Figment::from(Toml::string(DEFAULTS)).extract().unwrap();
        config.http.public_url = Url::parse("https://suite.example.org").unwrap();
        config.http.additional_hosts = vec!["other.example.org".to_owned()];
        config.jitsi.embed = true;
        for (url, accepted) in [
            ("", true),
            ("https://suite.example.org:8443", false),
            ("https://suite.example.org/meet", false),
            ("https://other.example.org/meet", false),
            ("https://meet.example.org", true),
        ] {
            config.jitsi.url = url.to_owned();
            assert_eq!(config.validate_embedded().is_ok(), accepted, "{url}");
        }
        (config.matrix.url, config.matrix.embed) = ("https://matrix.example.org".to_owned(), true);
        config.validate_embedded().unwrap();
        config.matrix.client_url = "https://suite.example.org/element".to_owned();
        assert!(config.validate_embedded().unwrap_err().to_string().starts_with("matrix.embed"));
    }

    #[test]
    fn only_a_host_of_ours_has_an_origin() {
        let mut config: Config = Figment::from(Toml::string(DEFAULTS)).extract().unwrap();
        config.http.additional_hosts = vec!["localhost:8080".to_owned()];
        assert_eq!(config.http.origin_for("127.0.0.1:8080").unwrap().as_str(), "http://127.0.0.1:8080/");
        assert_eq!(config.http.origin_for("LOCALHOST:8080").unwrap().as_str(), "http://localhost:8080/");
        assert!(config.http.origin_for("evil.example:8080").is_none());
        assert!(config.http.origin_for("localhost").is_none());
    }
}
