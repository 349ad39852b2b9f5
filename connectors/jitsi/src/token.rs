use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use url::{Host, Url};

use crate::is_room_name;

/// Prosody compares `nbf` with its own clock and grants no leeway; this much of a lagging clock is forgiven.
const CLOCK_LAG: TimeDelta = TimeDelta::seconds(30);
/// RFC 7518, section 3.2: a key for HS256 has at least the size of the hash.
const SHORTEST_SECRET: usize = 32;
const LONGEST_LIFETIME: Duration = Duration::from_hours(24);

/// How a token is signed. The Jitsi server has to be set to the same algorithm.
#[derive(Debug, Clone)]
pub enum Signing {
    /// HMAC with the secret that the server has as `app_secret` (docker: `JWT_APP_SECRET`).
    Hs256 {
        /// At least 32 bytes (RFC 7518, section 3.2).
        secret: SecretString,
    },
    /// RSA: the server fetches the public key from `asap_key_server` by the key's id. A new key takes a new id: the
    /// server never looks at a known id again.
    Rs256 {
        /// The header `kid`.
        key_id: String,
        /// The private key, PEM, PKCS #1 or PKCS #8.
        private_key_pem: SecretString,
    },
}

/// Where meetings of Jitsi as a Service (JaaS) are.
pub const JAAS_URL: &str = "https://8x8.vc/";
/// What JaaS wants as issuer and audience of every token.
const JAAS_ISSUER: &str = "chat";
const JAAS_AUDIENCE: &str = "jitsi";
const JAAS_APP_ID: &str = "vpaas-magic-cookie-";

/// Who reads the tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// A Jitsi server of one's own: Prosody's modules.
    #[default]
    Prosody,
    /// Jitsi as a Service, of 8x8: what is true or false is a text there.
    Jaas,
}

/// Which Jitsi server there is and how it knows our tokens.
#[derive(Debug, Clone)]
pub struct JitsiSettings {
    /// Where people open meetings: https, or http on loopback. A path is a tenant of the Jitsi server.
    pub url: Url,
    /// The issuer that the server accepts (`app_id`, docker: `JWT_APP_ID`).
    pub app_id: String,
    /// How tokens are signed.
    pub signing: Signing,
    /// The audience that the server accepts (`asap_accepted_audiences`, docker: `JWT_ACCEPTED_AUDIENCES`); `jitsi` as a rule.
    pub audience: String,
    /// The claim `sub`: the server's XMPP domain (docker: `meet.jitsi`), or the tenant where the URL names one.
    pub subject: String,
    /// How long a token is good for entering, at most: between a minute and a day.
    pub token_lifetime: Duration,
    /// Who reads the tokens.
    pub dialect: Dialect,
}

impl JitsiSettings {
    /// The settings for JaaS, which has its own issuer and audience, takes RS256 only, and knows our public key from its
    /// console: `app_id` is `vpaas-magic-cookie-…`, `key_id` what the console calls the key, with or without the app id and
    /// a slash before it.
    ///
    /// # Errors
    /// [`JitsiError::AppId`] where the app id is none of JaaS, [`JitsiError::KeyId`] where the key is another app's.
    pub fn jaas(
        app_id: &str,
        key_id: &str,
        private_key_pem: SecretString,
        token_lifetime: Duration,
    ) -> Result<Self, JitsiError> {
        let is_word = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if !app_id.strip_prefix(JAAS_APP_ID).is_some_and(is_word) {
            return Err(JitsiError::AppId);
        }
        let key = match key_id.split_once('/') {
            Some((app, key)) if app == app_id => key,
            Some(_) => return Err(JitsiError::KeyId),
            None => key_id,
        };
        if !is_word(key) {
            return Err(JitsiError::KeyId);
        }
        let url = Url::parse(JAAS_URL).and_then(|url| url.join(app_id)).map_err(|_| JitsiError::Url)?;
        Ok(Self {
            url,
            app_id: JAAS_ISSUER.to_owned(),
            signing: Signing::Rs256 { key_id: format!("{app_id}/{key}"), private_key_pem },
            audience: JAAS_AUDIENCE.to_owned(),
            subject: app_id.to_owned(),
            token_lifetime,
            dialect: Dialect::Jaas,
        })
    }
}

/// Why a token can't be minted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JitsiError {
    /// The URL is neither https nor http on loopback, or has a user, a query or a fragment.
    #[error("the URL of Jitsi must be https (or http on loopback), without user, query and fragment")]
    Url,
    /// A claim's value is empty or a wildcard, which would open every room.
    #[error("the {0} for Jitsi must be set, and not to a wildcard")]
    Wildcard(&'static str),
    /// The secret is shorter than RFC 7518 asks for.
    #[error("the secret for Jitsi must have at least 32 bytes")]
    ShortSecret,
    /// The private key is no RSA key in PEM.
    #[error("the private key for Jitsi is not an RSA key in PEM")]
    PrivateKey,
    /// The key has no id, or that of another key.
    #[error("the key for Jitsi needs an id of its own")]
    KeyId,
    /// The app id is none of JaaS.
    #[error("an app id of JaaS begins with vpaas-magic-cookie-")]
    AppId,
    /// The lifetime is under a minute or over a day.
    #[error("a token for Jitsi must live between a minute and a day")]
    Lifetime,
    /// The room's name is not one of ours: see [`is_room_name`].
    #[error("the room's name must consist of [a-z0-9-], 64 characters at most")]
    RoomName,
    /// The participant has no id or no name.
    #[error("a participant needs an id and a name")]
    Participant,
    /// The meeting is over.
    #[error("the meeting has ended")]
    Ended,
    /// Signing failed.
    #[error("the token can't be signed")]
    Signing,
}

/// Who gets the token.
#[derive(Debug, Clone)]
pub struct Participant {
    /// The person's id: the subject at the identity provider. It comes back in the server's events.
    pub id: String,
    /// The name that everybody in the room sees.
    pub name: String,
    /// The mail address. Everybody in the room can see it, and the client asks Gravatar for its picture: leave it out
    /// unless that is wanted.
    pub email: Option<String>,
    /// A picture's URL.
    pub avatar: Option<Url>,
    /// Whether the person may mute, remove and admit others, and end the meeting.
    pub moderator: bool,
}

/// One person's way into one room. Its URL holds the token: hand it to that person only, and don't log it.
#[derive(Clone)]
pub struct MeetingLink {
    /// `https://meet.example.org/room?jwt=…`.
    pub url: Url,
    /// The token alone, for the IFrame API.
    pub token: SecretString,
    /// After this time the link no longer opens the room. Who is inside stays.
    pub expires_at: DateTime<Utc>,
}

impl std::fmt::Debug for MeetingLink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut url = self.url.clone();
        url.set_query(None);
        formatter
            .debug_struct("MeetingLink")
            .field("url", &url.as_str())
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Mints tokens that open one room to one person.
pub struct TokenMinter {
    url: Url,
    app_id: String,
    audience: String,
    subject: String,
    lifetime: TimeDelta,
    dialect: Dialect,
    header: Header,
    key: EncodingKey,
}

impl std::fmt::Debug for TokenMinter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TokenMinter").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    room: &'a str,
    iat: i64,
    nbf: i64,
    exp: i64,
    /// For servers with the older module `token_moderation`, which looks here.
    moderator: Flag,
    context: Context<'a>,
}

#[derive(Serialize)]
struct Context<'a> {
    user: User<'a>,
    features: Features,
}

/// A `null` in here makes older clients throw: what isn't there is left out.
#[derive(Serialize)]
struct User<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar: Option<&'a str>,
    affiliation: &'static str,
    moderator: Flag,
}

/// Something that is so or isn't, as the server reads it.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
enum Flag {
    Boolean(bool),
    Text(&'static str),
}

impl Dialect {
    fn flag(self, value: bool) -> Flag {
        match self {
            Self::Prosody => Flag::Boolean(value),
            Self::Jaas => Flag::Text(if value { "true" } else { "false" }),
        }
    }
}

/// With this object present, the server denies every feature that isn't in it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Features {
    screen_sharing: Flag,
    send_groupchat: Flag,
    create_polls: Flag,
    lobby: Flag,
    moderation: Flag,
    recording: Flag,
    livestreaming: Flag,
    transcription: Flag,
    inbound_call: Flag,
    outbound_call: Flag,
    sip_inbound_call: Flag,
    sip_outbound_call: Flag,
    file_upload: Flag,
}

impl Features {
    /// Nothing leaves the meeting: no recording, no stream, no transcript, no telephone line.
    fn of_a_consultation(dialect: Dialect, moderator: bool) -> Self {
        let (yes, no, moderator) = (dialect.flag(true), dialect.flag(false), dialect.flag(moderator));
        Self {
            screen_sharing: yes,
            send_groupchat: yes,
            create_polls: yes,
            lobby: moderator,
            moderation: moderator,
            recording: no,
            livestreaming: no,
            transcription: no,
            inbound_call: no,
            outbound_call: no,
            sip_inbound_call: no,
            sip_outbound_call: no,
            file_upload: no,
        }
    }
}

impl TokenMinter {
    /// A minter for the server in `settings`.
    ///
    /// # Errors
    /// Where a setting would make tokens that the server refuses, or tokens that open more than one room.
    pub fn new(settings: &JitsiSettings) -> Result<Self, JitsiError> {
        if !is_meeting_url(&settings.url) {
            return Err(JitsiError::Url);
        }
        for (value, what) in
            [(&settings.app_id, "app id"), (&settings.audience, "audience"), (&settings.subject, "subject")]
        {
            if value.trim().is_empty() || value.contains('*') {
                return Err(JitsiError::Wildcard(what));
            }
        }
        if !(Duration::from_mins(1)..=LONGEST_LIFETIME).contains(&settings.token_lifetime) {
            return Err(JitsiError::Lifetime);
        }
        let lifetime = TimeDelta::from_std(settings.token_lifetime).map_err(|_| JitsiError::Lifetime)?;
        let (header, key) = match &settings.signing {
            Signing::Hs256 { secret } => {
                let secret = secret.expose_secret().as_bytes();
                if secret.len() < SHORTEST_SECRET {
                    return Err(JitsiError::ShortSecret);
                }
                (Header::new(Algorithm::HS256), EncodingKey::from_secret(secret))
            }
            Signing::Rs256 { key_id, private_key_pem } => {
                if key_id.is_empty() {
                    return Err(JitsiError::KeyId);
                }
                let key = EncodingKey::from_rsa_pem(private_key_pem.expose_secret().as_bytes())
                    .map_err(|_| JitsiError::PrivateKey)?;
                (Header { kid: Some(key_id.clone()), ..Header::new(Algorithm::RS256) }, key)
            }
        };
        Ok(Self {
            url: settings.url.clone(),
            app_id: settings.app_id.clone(),
            audience: settings.audience.clone(),
            subject: settings.subject.clone(),
            lifetime,
            dialect: settings.dialect,
            header,
            key,
        })
    }

    /// Mints a token that lets `participant` enter `room` from `now` until `expires_at` or until the lifetime in the
    /// settings is over, whichever is earlier.
    ///
    /// # Errors
    /// Where the room's name is not one of ours, the participant is nobody, or `expires_at` has passed.
    pub fn mint(
        &self,
        room: &str,
        participant: &Participant,
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> Result<MeetingLink, JitsiError> {
        if !is_room_name(room) {
            return Err(JitsiError::RoomName);
        }
        if participant.id.is_empty() || participant.name.trim().is_empty() {
            return Err(JitsiError::Participant);
        }
        let expires = expires_at.min(now + self.lifetime).timestamp();
        if expires <= now.timestamp() {
            return Err(JitsiError::Ended);
        }
        let claims = Claims {
            aud: &self.audience,
            iss: &self.app_id,
            sub: &self.subject,
            room,
            iat: now.timestamp(),
            nbf: (now - CLOCK_LAG).timestamp(),
            exp: expires,
            moderator: self.dialect.flag(participant.moderator),
            context: Context {
                user: User {
                    id: &participant.id,
                    name: participant.name.trim(),
                    email: participant.email.as_deref().filter(|email| !email.is_empty()),
                    avatar: participant.avatar.as_ref().map(Url::as_str),
                    affiliation: if participant.moderator { "owner" } else { "member" },
                    moderator: self.dialect.flag(participant.moderator),
                },
                features: Features::of_a_consultation(self.dialect, participant.moderator),
            },
        };
        let token =
            jsonwebtoken::encode(&self.header, &claims, &self.key).map_err(|_| JitsiError::Signing)?;
        let mut url = self.url.clone();
        url.path_segments_mut().map_err(|()| JitsiError::Url)?.pop_if_empty().push(room);
        url.query_pairs_mut().append_pair("jwt", &token);
        let expires_at = DateTime::from_timestamp(expires, 0).ok_or(JitsiError::Ended)?;
        Ok(MeetingLink { url, token: token.into(), expires_at })
    }
}

fn is_meeting_url(url: &Url) -> bool {
    let encrypted = match url.scheme() {
        "https" => url.has_host(),
        "http" => match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        },
        _ => false,
    };
    encrypted
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
}
