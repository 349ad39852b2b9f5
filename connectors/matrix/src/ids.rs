use std::{fmt, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// An identifier that isn't one by the Matrix specification's appendix "Identifier grammar".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Another first character than the kind's own (`!`, `#`, `@`, `$`).
    #[error("the identifier doesn't begin with {0:?}")]
    Sigil(char),
    /// More than 255 bytes.
    #[error("the identifier has more than 255 bytes")]
    TooLong,
    /// The part between sigil and server name is empty or has characters that it may not have.
    #[error("the identifier's local part is empty or has characters that it may not have")]
    Local,
    /// No server name, or one that is none.
    #[error("the identifier's server name is missing or none")]
    ServerName,
}

const LONGEST: usize = 255;

/// The identifier without its sigil.
fn body(text: &str, sigil: char) -> Result<&str, InvalidId> {
    if text.len() > LONGEST {
        return Err(InvalidId::TooLong);
    }
    text.strip_prefix(sigil).ok_or(InvalidId::Sigil(sigil))
}

fn split_server(body: &str) -> Result<(&str, &str), InvalidId> {
    let (local, server) = body.split_once(':').ok_or(InvalidId::ServerName)?;
    if is_server_name(server) { Ok((local, server)) } else { Err(InvalidId::ServerName) }
}

/// `hostname[:port]`, where the host is a DNS name, an IPv4 address, or an IPv6 address in brackets.
pub(crate) fn is_server_name(name: &str) -> bool {
    let (host, port) = if let Some(bracketed) = name.strip_prefix('[') {
        let Some((address, rest)) = bracketed.split_once(']') else { return false };
        if address.parse::<Ipv6Addr>().is_err() {
            return false;
        }
        match rest.strip_prefix(':') {
            Some(port) => ("v6", Some(port)),
            None if rest.is_empty() => ("v6", None),
            None => return false,
        }
    } else {
        name.split_once(':').map_or((name, None), |(host, port)| (host, Some(port)))
    };
    let host_is_fine = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    let port_is_fine = port
        .is_none_or(|port| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()));
    host_is_fine && port_is_fine
}

fn is_opaque(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|character| !character.is_control() && !character.is_whitespace())
}

fn check_room(text: &str) -> Result<(), InvalidId> {
    let body = body(text, '!')?;
    // Since room version 12 the id is a hash and names no server.
    let local = if body.contains(':') { split_server(body)?.0 } else { body };
    if is_opaque(local) { Ok(()) } else { Err(InvalidId::Local) }
}

fn check_alias(text: &str) -> Result<(), InvalidId> {
    let (local, _) = split_server(body(text, '#')?)?;
    if is_opaque(local) { Ok(()) } else { Err(InvalidId::Local) }
}

fn check_user(text: &str) -> Result<(), InvalidId> {
    let (local, _) = split_server(body(text, '@')?)?;
    // The historical character set: today's users have fewer characters, old ones may have these.
    let fine = !local.is_empty() && local.bytes().all(|byte| matches!(byte, 0x21..=0x39 | 0x3B..=0x7E));
    if fine { Ok(()) } else { Err(InvalidId::Local) }
}

fn check_event(text: &str) -> Result<(), InvalidId> {
    let body = body(text, '$')?;
    // Only rooms of the versions 1 and 2 have a server name here.
    let local = if body.contains(':') { split_server(body)?.0 } else { body };
    if is_opaque(local) { Ok(()) } else { Err(InvalidId::Local) }
}

macro_rules! identifier {
    ($(#[$documentation:meta])* $name:ident, $check:ident) => {
        $(#[$documentation])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                $check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// A room: `!opaque:server`, or `!hash` since room version 12. Never read a server's name out of it.
    RoomId,
    check_room
);
identifier!(
    /// A room's alias: `#name:server`.
    RoomAlias,
    check_alias
);
identifier!(
    /// A user: `@name:server`.
    UserId,
    check_user
);
identifier!(
    /// An event: `$hash`, or `$opaque:server` in rooms of the versions 1 and 2.
    EventId,
    check_event
);

impl UserId {
    /// The part before the server name, without the `@`.
    pub fn localpart(&self) -> &str {
        self.0[1..].split_once(':').map_or("", |(local, _)| local)
    }

    /// The server that the user belongs to.
    pub fn server_name(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, server)| server)
    }
}

impl RoomAlias {
    /// The alias `#localpart:server_name`.
    ///
    /// # Errors
    /// Where that is none.
    pub fn new(localpart: &str, server_name: &str) -> Result<Self, InvalidId> {
        format!("#{localpart}:{server_name}").try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_id_names_a_server_or_since_version_12_none() {
        assert!("!opaque:example.org".parse::<RoomId>().is_ok());
        assert!("!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM".parse::<RoomId>().is_ok());
        assert_eq!("!".parse::<RoomId>(), Err(InvalidId::Local));
        assert_eq!("!:example.org".parse::<RoomId>(), Err(InvalidId::Local));
        assert_eq!("!a b".parse::<RoomId>(), Err(InvalidId::Local));
        assert_eq!("!opaque:".parse::<RoomId>(), Err(InvalidId::ServerName));
        assert_eq!("#opaque:example.org".parse::<RoomId>(), Err(InvalidId::Sigil('!')));
    }

    #[test]
    fn a_user_id_has_a_localpart_of_printable_ascii_and_a_server() {
        let user: UserId = "@ada.agent=2f:example.org:8448".parse().unwrap();
        assert_eq!((user.localpart(), user.server_name()), ("ada.agent=2f", "example.org:8448"));
        assert!("@Old~User!:example.org".parse::<UserId>().is_ok(), "historical, still there");
        for (text, error) in [
            ("ada:example.org", InvalidId::Sigil('@')),
            ("@ada", InvalidId::ServerName),
            ("@:example.org", InvalidId::Local),
            ("@ädä:example.org", InvalidId::Local),
            ("@a b:example.org", InvalidId::Local),
            ("@ada:exa mple.org", InvalidId::ServerName),
            ("@ada:example.org/x", InvalidId::ServerName),
            ("@ada:example.org:port", InvalidId::ServerName),
            ("@ada:[::1", InvalidId::ServerName),
            ("@ada:[no]", InvalidId::ServerName),
        ] {
            assert_eq!(text.parse::<UserId>(), Err(error), "{text}");
        }
        assert!("@ada:[::1]:8448".parse::<UserId>().is_ok());
        assert!("@ada:127.0.0.1".parse::<UserId>().is_ok());
    }

    #[test]
    fn an_identifier_has_at_most_255_bytes() {
        let at_the_limit = format!("@{}:example.org", "a".repeat(255 - 13));
        assert!(at_the_limit.parse::<UserId>().is_ok());
        assert_eq!(format!("@a{}", &at_the_limit[1..]).parse::<UserId>(), Err(InvalidId::TooLong));
    }

    #[test]
    fn an_alias_may_have_any_letters_and_needs_a_server() {
        assert!("#büro:example.org".parse::<RoomAlias>().is_ok());
        assert_eq!(
            RoomAlias::new("_chancery_acme", "example.org").unwrap().as_str(),
            "#_chancery_acme:example.org"
        );
        assert_eq!("#büro".parse::<RoomAlias>(), Err(InvalidId::ServerName));
        assert_eq!("#a\0b:example.org".parse::<RoomAlias>(), Err(InvalidId::Local));
    }

    #[test]
    fn an_event_id_is_a_hash_or_of_the_old_kind() {
        assert!("$Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg".parse::<EventId>().is_ok());
        assert!("$old:example.org".parse::<EventId>().is_ok());
        assert_eq!("$".parse::<EventId>(), Err(InvalidId::Local));
    }

    #[test]
    fn an_identifier_is_checked_where_it_is_read() {
        assert!(serde_json::from_str::<RoomId>(r#""!a:b""#).is_ok());
        assert!(serde_json::from_str::<RoomId>(r#""a:b""#).is_err());
    }
}
