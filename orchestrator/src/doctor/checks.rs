//! One function for each part of the installation.

use std::sync::Arc;

use chrono::TimeDelta;
use connector_chatwoot::ChatwootClient;
use connector_core::{Connector as _, ConnectorError, ErrorKind, HttpClient, ServerInfo};
use connector_keycloak::{KeycloakAdmin, KeycloakSettings};
use connector_matrix::MatrixClient;
use secrecy::ExposeSecret as _;

use super::Check;
use crate::{
    auth::session,
    clock::SharedClock,
    config::{Config, JitsiDialect, MatrixAuthMode, MatrixConfig},
    crypto::MasterKey,
    db::{ConnectError, Database, migrate},
    http::problem::ErrorChain,
    ids::RandomIds,
    sources::{self, SourceState, WebhookSource},
    tools::{Tools, ToolsError},
};

/// The tools, or why they can't be set up.
type Connected = Result<Tools, ToolsError>;

/// Clocks further apart break sign-ins and signatures.
const MOST_APART: TimeDelta = TimeDelta::seconds(30);
/// The oldest version of PostgreSQL that has what we use.
const OLDEST_POSTGRES: u32 = 15;
const SET_CLOCK: &str = "let both machines follow a time server (NTP)";
const REACH: &str =
    "see that the server runs, and that its address in the settings is right as seen from this machine";

pub(super) fn settings(config: &Config) -> Check {
    let check = Check::new("settings");
    let check = match config.validate_for_serving() {
        Ok(()) => check.works("make sense"),
        Err(error) => {
            check.fails(error.to_string(), "`chancery config` prints all settings with what they mean")
        }
    };
    if config.crypto.key_file.as_os_str().is_empty() {
        return check;
    }
    match MasterKey::read(&config.crypto.key_file) {
        Ok(_) => check.works("the master key can be read"),
        Err(error) => check.fails(
            ErrorChain(&error).to_string(),
            "let crypto.key_file name the file that sealed what is stored, readable for the server's user",
        ),
    }
}

/// The sources, too, where they can be read.
pub(super) async fn database(config: &Config, clock: &SharedClock) -> (Check, Option<Vec<WebhookSource>>) {
    let check = Check::new("database");
    if [&config.database.url, &config.database.worker_url].iter().any(|url| url.expose_secret().is_empty()) {
        let mend =
            "give both logins as postgres://user:password@host/database; `chancery migrate` makes them";
        return (check.fails("database.url or database.worker_url is missing", mend), None);
    }
    let ids = Arc::new(RandomIds);
    let database = match Database::connect(&config.database, Arc::clone(clock), ids, Vec::new()).await {
        Ok(database) => database,
        Err(error) => return (check.fails(ErrorChain(&error).to_string(), mend_database(&error)), None),
    };
    let mut check = match database.server_version().await {
        Ok(version) => {
            let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
            if major.is_some_and(|major| major < OLDEST_POSTGRES) {
                check.fails(
                    format!("PostgreSQL {version} is too old"),
                    format!("use PostgreSQL {OLDEST_POSTGRES} or later"),
                )
            } else {
                check.works(format!("PostgreSQL {version}"))
            }
        }
        Err(error) => check.fails(ErrorChain(&error).to_string(), REACH),
    };
    if let Ok(apart) = database.clock_skew().await {
        check = clocks(check, Some(apart));
    }
    if config.database.owner_url.expose_secret().is_empty() {
        check = check.works("whether the schema is up to date is not seen without database.owner_url");
    } else {
        check = match migrate::pending(&config.database.owner_url).await {
            Ok(0) => check.works("the schema is up to date"),
            Ok(pending) => {
                check.fails(format!("{pending} migrations are missing"), "stop the server and run `chancery migrate`")
            }
            Err(error) => check.fails(
                ErrorChain(&error).to_string(),
                "run the version of Chancery that migrated the database, or a later one; look at database.owner_url",
            ),
        };
    }
    let sources = sources::of_tenants(&database, None).await;
    database.close().await;
    match sources {
        Ok(sources) => (check, Some(sources)),
        Err(error) => (check.fails(ErrorChain(&error).to_string(), "run `chancery migrate`"), None),
    }
}

fn mend_database(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Url { .. } => "give it as postgres://user:password@host/database",
        ConnectError::Connect { .. } => {
            "see that PostgreSQL runs there, and that this login may enter this database; `chancery migrate` makes it"
        }
        ConnectError::Login { .. } => "`chancery migrate` makes logins and schema",
    }
}

pub(super) async fn redis(config: &Config) -> Check {
    let check = Check::new("redis");
    if config.redis.url.expose_secret().is_empty() {
        return check.unused(
            "not connected: sign-ins are kept in the process, which must be the only one, and end when it does",
        );
    }
    match session::redis_version(&config.redis).await {
        Ok(version) => check.works(format!("Redis {version}")),
        Err(error) => check.fails(
            ErrorChain(&error).to_string(),
            "see that Redis runs at redis.url, and that its password and certificates are right",
        ),
    }
}

pub(super) async fn keycloak(config: &Config, clock: &SharedClock) -> Check {
    let check = Check::new("keycloak");
    let settings = &config.keycloak;
    let (Ok(issuer), Ok(url)) = (
        settings.issuer().and_then(|issuer| crate::config::parse_url("keycloak.url", &issuer)),
        settings.base(),
    ) else {
        return check.fails(
            "keycloak.url is missing",
            "give the server's address, without the realm: nobody can sign in without",
        );
    };
    let metadata = match connector_keycloak::discover(&issuer).await {
        Ok(metadata) => metadata,
        Err(error) if error.is_not_found() => {
            return check.fails(
                format!("the server has no realm {}", settings.realm),
                "import keycloak/realm-chancery.json, or set keycloak.realm",
            );
        }
        Err(error) => return check.fails(said(&error), mend(&error, REACH)),
    };
    let mut check = check.works(format!("the realm {} calls itself {}", settings.realm, metadata.issuer));
    check = match connector_keycloak::jwks(&metadata.jwks_uri).await {
        Ok(keys)
            if keys["keys"].as_array().is_some_and(|keys| keys.iter().any(|key| key["use"] == "sig")) =>
        {
            check.works("its signing keys can be read")
        }
        Ok(_) => check.fails("it publishes no signing key", "look at Realm settings → Keys"),
        Err(error) => check.fails(said(&error), mend(&error, REACH)),
    };
    let (id, secret) = (&settings.client_id, &settings.client_secret);
    check = match connector_keycloak::accepts_client(&metadata.token_endpoint, id, secret).await {
        Ok(true) => check.works(format!("it takes the secret of {id}")),
        Ok(false) => check.fails(
            format!("it refuses the secret of {id}, so that nobody can sign in"),
            "set keycloak.client_secret to what Clients → the client → Credentials shows",
        ),
        Err(error) => check.fails(said(&error), mend(&error, REACH)),
    };
    let settings = KeycloakSettings {
        url,
        realm: settings.realm.clone(),
        client_id: settings.sync_client_id.clone(),
        client_secret: settings.sync_client_secret.clone(),
    };
    let asked = async { KeycloakAdmin::new(settings, Arc::clone(clock))?.check().await }.await;
    server(
        check,
        "Keycloak",
        asked,
        "set keycloak.sync_client_secret, and give the service account the roles view-users and query-groups of realm-management",
    )
}

/// What there is of a tool; else the check that says why there is nothing.
fn of_tools<'a, T>(
    check: Check,
    tools: &'a Connected,
    tool: impl FnOnce(&'a Tools) -> Option<&'a Arc<T>>,
) -> Result<(&'a T, Check), Check> {
    let unset = format!("not connected: set {}.url", check.name);
    match tools.as_ref().map(tool) {
        Ok(Some(tool)) => Ok((tool, check)),
        Ok(None) => Err(check.unused(unset)),
        Err(error) => Err(check.fails(
            ErrorChain(error).to_string(),
            "`chancery config` prints all settings with what they mean",
        )),
    }
}

pub(super) async fn chatwoot(config: &Config, tools: &Connected, sources: Option<&[WebhookSource]>) -> Check {
    let (chatwoot, mut check) = match of_tools(Check::new("chatwoot"), tools, |tools| tools.chatwoot.as_ref())
    {
        Ok(connected) => connected,
        Err(check) => return check,
    };
    if has_none(sources, "chatwoot") {
        return check.attention(
            "nothing posts here for it",
            "set each account up: chancery chatwoot install --account ACCOUNT --tenant TENANT",
        );
    }
    for source in of_service(sources, "chatwoot").unwrap_or_default() {
        let Some(account) = source.account.as_ref().and_then(|account| account.parse().ok()) else {
            check = check.attention(
                format!("the source {} names no account", source.name),
                "add one that does, by --account",
            );
            continue;
        };
        let client = chatwoot.account(account);
        let asked = client.check().await;
        let is_up = asked.is_ok();
        let mend = format!("set chatwoot.token to the access token of an administrator of account {account}");
        check = server(check, &format!("account {account}: Chatwoot"), asked, &mend);
        if is_up {
            check = webhook(check, config, source, &client).await;
        }
    }
    check
}

/// Whether Chatwoot posts to the source.
async fn webhook(check: Check, config: &Config, source: &WebhookSource, client: &ChatwootClient) -> Check {
    let Ok(url) = config.http.public_url.join(&source.path) else { return check };
    match client.webhook_to(&url).await {
        Ok(Some(_)) => check.works(format!("it posts to the source {}", source.name)),
        Ok(None) => check.fails(
            format!("it posts nothing to the source {}", source.name),
            format!(
                "`chancery chatwoot install` registers it; by hand, add a webhook in Chatwoot (Settings → Integrations → Webhooks) with the URL {url}"
            ),
        ),
        Err(error) => check.fails(said(&error), REACH),
    }
}

/// The service's active sources; none where they can't be read, which the database's check says.
fn of_service<'a>(sources: Option<&'a [WebhookSource]>, service: &str) -> Option<Vec<&'a WebhookSource>> {
    let active = |source: &&WebhookSource| source.service == service && source.state == SourceState::Active;
    Some(sources?.iter().filter(active).collect())
}

fn has_none(sources: Option<&[WebhookSource]>, service: &str) -> bool {
    of_service(sources, service).is_some_and(|active| active.is_empty())
}

pub(super) async fn matrix(config: &Config, tools: &Connected, sources: Option<&[WebhookSource]>) -> Check {
    let (matrix, check) = match of_tools(Check::new("matrix"), tools, |tools| tools.matrix.as_ref()) {
        Ok(connected) => connected,
        Err(check) => return check,
    };
    let mend = "let matrix.as_token and matrix.sender_localpart be what the registration file says that the homeserver has loaded";
    let asked = matrix.client.check().await;
    let is_up = asked.is_ok();
    let mut check = server(check, "Matrix", asked, mend);
    if is_up {
        check = who_signs_in(check, &config.matrix, &matrix.client).await;
    }
    if has_none(sources, "matrix") {
        return check.attention(
            "what is said in its rooms isn't heard here",
            "add a source: chancery inbox source add --service matrix --scheme matrix --tenant suite",
        );
    }
    check
}

/// Whether a user of the homeserver's is who we take them for.
async fn who_signs_in(check: Check, settings: &MatrixConfig, client: &MatrixClient) -> Check {
    let issuer = match client.auth_issuer().await {
        Ok(issuer) => issuer,
        Err(error) => return check.fails(said(&error), REACH),
    };
    match (settings.auth_mode, issuer) {
        (MatrixAuthMode::Synapse, Some(issuer)) => {
            return check.fails(
                format!("{issuer} signs people in there, and not Synapse itself"),
                "set matrix.auth_mode to mas, and leave matrix.identity_provider empty",
            );
        }
        (MatrixAuthMode::Mas, None) => {
            return check
                .fails("no authentication service signs people in there", "set matrix.auth_mode to synapse");
        }
        (MatrixAuthMode::Mas, Some(issuer)) => {
            return check.works(format!("{issuer} signs people in, who are known by their names"));
        }
        (MatrixAuthMode::Synapse, None) => {}
    }
    if !settings.identity_provider.is_empty() {
        let mend = format!(
            "make the bot an administrator in Synapse's database (UPDATE users SET admin = 1 WHERE name = '{}'), where it is once Chancery has been started, and restart Synapse",
            client.sender()
        );
        return match client.external_ids(client.sender()).await {
            Ok(_) => check.works(format!("it says as whom {} knows its users", settings.identity_provider)),
            Err(error) => check.fails(said(&error), mend),
        };
    }
    match client.login_flows().await {
        Ok(flows) if flows.iter().any(|flow| flow == "m.login.password") => check.attention(
            "people can sign in there with a password, and are known here by their names",
            "set password_config.enabled: false in Synapse's configuration, or matrix.identity_provider here",
        ),
        Ok(_) => check.works("its users are known by their names"),
        Err(error) => check.fails(said(&error), REACH),
    }
}

pub(super) async fn jitsi(
    config: &Config,
    clock: &SharedClock,
    tools: &Connected,
    sources: Option<&[WebhookSource]>,
) -> Check {
    let (jitsi, check) = match of_tools(Check::new("jitsi"), tools, |tools| tools.jitsi.as_ref()) {
        Ok(connected) => connected,
        Err(check) => return check,
    };
    let reached = async {
        let client = HttpClient::builder("jitsi", jitsi.url.clone()).clock(Arc::clone(clock)).build()?;
        client.reach(&["external_api.js"]).await?;
        Ok(ServerInfo { clock_ahead: client.clock_ahead(), ..ServerInfo::default() })
    };
    let mut check = server(check, "Jitsi Meet", reached.await, REACH);
    let is_own = config.jitsi.dialect == JitsiDialect::Prosody;
    if is_own && config.jitsi.reservation_secret.expose_secret().is_empty() {
        check = check.attention(
            "whoever has a token opens a room, also outside its consultation's time",
            "set jitsi.reservation_secret, and let Prosody ask here before it opens one",
        );
    }
    let (service, scheme) = if is_own { ("jitsi", "jitsi-event-sync") } else { ("jaas", "jaas") };
    if has_none(sources, service) {
        check = check.attention(
            "who was in a room isn't heard here",
            format!(
                "add a source: chancery inbox source add --service {service} --scheme {scheme} --tenant suite"
            ),
        );
    }
    check
}

pub(super) async fn address(config: &Config, clock: &SharedClock) -> Check {
    let (check, url) = (Check::new("address"), &config.http.public_url);
    let reached = async {
        let client = HttpClient::builder("chancery", url.clone()).clock(Arc::clone(clock)).build()?;
        client.reach(&["health"]).await
    };
    match reached.await {
        Ok(()) => check.works(format!("{url} leads here")),
        Err(error) => check.attention(
            format!("{url} could not be reached from this machine: {}", said(&error)),
            "start the server; see that http.public_url is how people and tools reach it, and that the proxy leads here",
        ),
    }
}

/// What a server says about itself.
fn server(check: Check, name: &str, asked: Result<ServerInfo, ConnectorError>, unauthorised: &str) -> Check {
    let info = match asked {
        Ok(info) => info,
        Err(error) => return check.fails(said(&error), mend(&error, unauthorised)),
    };
    let version = info.version.map(|version| format!(" {version}")).unwrap_or_default();
    let identity = info.identity.map(|identity| format!(", where we are {identity}")).unwrap_or_default();
    let mut check = clocks(check.works(format!("{name}{version}{identity}")), info.clock_ahead);
    for warning in info.warnings {
        check = check.warning(warning);
    }
    check
}

fn clocks(check: Check, ahead: Option<TimeDelta>) -> Check {
    match ahead {
        Some(ahead) if ahead.abs() > MOST_APART => check.fails(
            format!("its clock and this machine's are {} s apart", ahead.abs().num_seconds()),
            SET_CLOCK,
        ),
        _ => check,
    }
}

fn said(error: &ConnectorError) -> String {
    ErrorChain(error).to_string()
}

fn mend<'a>(error: &ConnectorError, unauthorised: &'a str) -> &'a str {
    match error.kind {
        ErrorKind::Unauthorised => unauthorised,
        ErrorKind::Transient | ErrorKind::Ambiguous | ErrorKind::Permanent | ErrorKind::Misconfigured => {
            REACH
        }
    }
}
