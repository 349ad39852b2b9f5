//! The suite's tools as this process is connected to them. One that isn't configured is absent, and what would go to it
//! isn't done.

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use connector_chatwoot::{
    Agent, ChatwootClient, ChatwootSettings, Message, NOTE_NOT_PRIVATE, NewNote, webhook::OwnWrites,
};
use connector_core::{ConnectorError, Rate, SharedClock};
use connector_jitsi::{Dialect, JitsiError, JitsiSettings, PublishedKeys, Signing, TokenMinter};
use connector_matrix::{MatrixClient, MatrixSettings, RoomId};
use moka::future::Cache;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::{
    config::{Config, ConfigError, JitsiConfig, JitsiDialect, parse_url},
    ids::TenantId,
    jobs::Job,
};

/// Rooms are looked up again after this time: somebody may have removed one.
const ROOM_REMEMBERED: Duration = Duration::from_mins(10);

/// What the marks of all our notes in Chatwoot begin with.
pub const OWN_NOTES: &str = "chancery:";
/// The longest that a token for Jitsi is good, however long the consultation.
const LONGEST_TOKEN: Duration = Duration::from_hours(24);

/// Why the tools can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum ToolsError {
    /// A setting makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A connector refuses its settings.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// Jitsi's connector refuses its settings.
    #[error("jitsi: {0}")]
    Jitsi(#[from] JitsiError),
}

/// Chatwoot.
#[derive(Debug)]
pub struct Chatwoot {
    /// Where it is.
    pub url: Url,
    /// What tells our own notes from those that people write.
    pub own: OwnWrites,
    // For no account of ours: its accounts share its connections and limits.
    installation: ChatwootClient,
}

impl Chatwoot {
    /// The client for one account.
    pub fn account(&self, account: i64) -> ChatwootClient {
        self.installation.for_account(account)
    }

    /// The client for the installation as a whole, of no account.
    pub fn installation(&self) -> ChatwootClient {
        self.installation.clone()
    }

    /// Who has this mail address in Chatwoot, confirmed, in one account.
    ///
    /// # Errors
    /// As [`ChatwootClient::agents`].
    pub async fn agent_with(&self, account: i64, mail: &str) -> Result<Option<Agent>, ConnectorError> {
        let agents = self.account(account).agents().await?;
        let mut matching = agents.into_iter().filter(|agent| {
            agent.confirmed && agent.email.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(mail))
        });
        Ok(match (matching.next(), matching.next()) {
            (Some(agent), None) => Some(agent),
            _ => None,
        })
    }

    /// Whether people can be signed in there.
    pub fn can_sign_in(&self) -> bool {
        self.installation.can_sign_in()
    }

    /// Writes a job's private note. Only a repeat looks for it first, page by page: nobody else can have written it.
    ///
    /// # Errors
    /// As [`ChatwootClient::ensure_private_note`].
    pub async fn write_note(
        &self,
        job: &Job,
        account: i64,
        conversation: i64,
        note: &NewNote,
    ) -> Result<Message, ConnectorError> {
        let client = self.account(account);
        let written = if job.is_repeat() {
            client.ensure_private_note(conversation, note).await
        } else {
            client.post_private_note(conversation, note).await
        };
        written.inspect_err(|error| {
            if error.code.as_deref() == Some(NOTE_NOT_PRIVATE) {
                metrics::counter!("chancery_chatwoot_public_notes_total").increment(1);
            }
        })
    }
}

/// Matrix.
#[derive(Debug)]
pub struct Matrix {
    /// The client.
    pub client: MatrixClient,
    /// What the homeserver shows us.
    pub hs_token: SecretString,
    /// The tenants' rooms by purpose, as they were found last.
    pub rooms: Cache<(TenantId, &'static str), RoomId>,
    encrypted: Mutex<BTreeSet<RoomId>>,
}

impl Matrix {
    /// Notes whether a room is encrypted: what is sent there is sent plain.
    pub fn note_encrypted(&self, room: &RoomId, is_encrypted: bool) {
        let mut encrypted = self.encrypted.lock().unwrap_or_else(PoisonError::into_inner);
        if is_encrypted {
            encrypted.insert(room.clone());
        } else {
            encrypted.remove(room);
        }
        let number = u32::try_from(encrypted.len()).unwrap_or(u32::MAX);
        metrics::gauge!("chancery_matrix_encrypted_rooms").set(f64::from(number));
    }

    /// What an administrator should know of it, beside whether it answers.
    pub fn warnings(&self) -> Vec<String> {
        let encrypted = self.encrypted.lock().unwrap_or_else(PoisonError::into_inner);
        let warn = |room| {
            format!("the room {room} is encrypted: notices are sent plain, and commands can't be read")
        };
        encrypted.iter().map(warn).collect()
    }
}

/// Jitsi.
#[derive(Debug)]
pub struct Jitsi {
    /// Where it is.
    pub url: Url,
    /// What lets people in.
    pub minter: TokenMinter,
    /// What its server verifies tokens with.
    pub keys: PublishedKeys,
}

impl Jitsi {
    fn connect(config: &JitsiConfig) -> Result<Self, ToolsError> {
        let url = parse_url("jitsi.url", &config.url)?;
        let private_keys = config.signing_keys()?;
        let newest = private_keys.first().cloned();
        let mut keys = PublishedKeys::default();
        let settings = match (config.dialect, newest) {
            (JitsiDialect::Jaas, Some((key_id, private_key_pem))) => {
                JitsiSettings::jaas(&config.app_id, &key_id, private_key_pem, LONGEST_TOKEN)?
            }
            (JitsiDialect::Jaas, None) => return Err(JitsiError::KeyId.into()),
            (JitsiDialect::Prosody, newest) => {
                for (key_id, private_key_pem) in &private_keys {
                    keys.publish(key_id, private_key_pem)?;
                }
                JitsiSettings {
                    url,
                    app_id: config.app_id.clone(),
                    signing: match newest {
                        Some((key_id, private_key_pem)) => Signing::Rs256 { key_id, private_key_pem },
                        None => Signing::Hs256 { secret: config.secret.clone() },
                    },
                    audience: config.audience.clone(),
                    subject: config.domain.clone(),
                    token_lifetime: LONGEST_TOKEN,
                    dialect: Dialect::Prosody,
                }
            }
        };
        let minter = TokenMinter::new(&settings)?;
        Ok(Self { url: settings.url, minter, keys })
    }
}

/// The tools.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    /// Customer conversations.
    pub chatwoot: Option<Arc<Chatwoot>>,
    /// The team's chat.
    pub matrix: Option<Arc<Matrix>>,
    /// Video rooms.
    pub jitsi: Option<Arc<Jitsi>>,
}

impl Tools {
    /// Sets up what is configured.
    ///
    /// # Errors
    /// [`ToolsError`].
    pub fn connect(config: &Config, clock: &SharedClock) -> Result<Self, ToolsError> {
        let mut tools = Self::default();
        if !config.chatwoot.url.is_empty() {
            let url = parse_url("chatwoot.url", &config.chatwoot.url)?;
            let mut settings = ChatwootSettings::new(url.clone(), 0, config.chatwoot.token.clone())
                .with_clock(Arc::clone(clock));
            if !config.chatwoot.bot_token.expose_secret().is_empty() {
                settings = settings.with_bot(config.chatwoot.bot_token.clone());
            }
            if !config.chatwoot.platform_token.expose_secret().is_empty() {
                settings = settings.with_platform(config.chatwoot.platform_token.clone());
            }
            let rate = config.chatwoot.rate;
            if let Some(requests) = NonZeroU32::new(rate.requests) {
                let per = Duration::from_secs(rate.seconds.max(1).into());
                settings = settings.with_rate(Rate { requests, per });
            }
            let own = OwnWrites {
                bot_id: Some(config.chatwoot.bot_id).filter(|id| *id > 0),
                source_id_prefix: OWN_NOTES.to_owned(),
            };
            let installation = ChatwootClient::new(&settings)?;
            tools.chatwoot = Some(Arc::new(Chatwoot { url, own, installation }));
        }
        if !config.matrix.url.is_empty() {
            let settings = MatrixSettings {
                url: parse_url("matrix.url", &config.matrix.url)?,
                server_name: config.matrix.server_name.clone(),
                as_token: config.matrix.as_token.clone(),
                hs_token: config.matrix.hs_token.clone(),
                sender_localpart: config.matrix.sender_localpart.clone(),
            };
            let rooms = Cache::builder().max_capacity(10_000).time_to_live(ROOM_REMEMBERED).build();
            tools.matrix = Some(Arc::new(Matrix {
                client: MatrixClient::with_clock(&settings, Arc::clone(clock))?,
                hs_token: settings.hs_token,
                rooms,
                encrypted: Mutex::default(),
            }));
        }
        if !config.jitsi.url.is_empty() {
            tools.jitsi = Some(Arc::new(Jitsi::connect(&config.jitsi)?));
        }
        Ok(tools)
    }
}
