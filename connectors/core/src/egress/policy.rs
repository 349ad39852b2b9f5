use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    str::FromStr,
};

use ipnet::IpNet;
use serde::Deserialize;
use url::{Host, Url};

use super::address::{destination, is_public};

/// The longest URL.
pub const MAX_URL_LENGTH: usize = 2_048;

/// A port, or all from one to another: `443`, `8000-8999`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PortRange(RangeInclusive<u16>);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err(format!("{text:?} is neither a port nor a range of them (8000-8999)")),
        }
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Where a call may lead. Unless told otherwise: by https, to the ports of http and https, to what is public.
#[derive(Debug, Clone, Default)]
pub struct EgressPolicy {
    /// Whether plain http will do.
    pub allow_http: bool,
    /// Ports besides 80 and 443.
    pub ports: Vec<PortRange>,
    /// Networks inside that may be reached all the same.
    pub networks: Vec<IpNet>,
}

/// Why a URL is refused before anything is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// It is none, or has no host.
    #[error("it is not the URL of a server")]
    Malformed,
    /// It is too long.
    #[error("the URL is too long")]
    TooLong,
    /// Neither https nor, where that is allowed, http.
    #[error("the URL's scheme is not allowed")]
    Scheme,
    /// It names a user or a password, which also hides where it leads.
    #[error("the URL names a user")]
    UserInfo,
    /// A fragment goes to no server.
    #[error("the URL has a fragment")]
    Fragment,
    /// A port that isn't allowed.
    #[error("the URL's port is not allowed")]
    Port,
    /// It leads inside.
    #[error("the URL leads inside")]
    Inside,
}

impl EgressPolicy {
    /// Whether a connection may go to `address`.
    pub fn admits(&self, address: IpAddr) -> bool {
        let destination = destination(address);
        is_public(destination) || self.networks.iter().any(|network| network.contains(&destination))
    }

    /// Reads a URL as browsers do (WHATWG URL): whatever an IPv4 address is written like (`0x7f.1`, `017700000001`, `2130706433`),
    /// it is an address afterwards. What a name leads to shows when it is called.
    ///
    /// # Errors
    /// [`UrlFault`].
    pub fn read(&self, text: &str) -> Result<Url, UrlFault> {
        let url = Url::parse(text).map_err(|_| UrlFault::Malformed)?;
        self.check(&url)?;
        Ok(url)
    }

    /// The same for a URL that was read before: the settings may have changed since.
    ///
    /// # Errors
    /// [`UrlFault`].
    pub fn check(&self, url: &Url) -> Result<(), UrlFault> {
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            _ => return Err(UrlFault::Scheme),
        }
        if url.as_str().len() > MAX_URL_LENGTH {
            return Err(UrlFault::TooLong);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlFault::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(UrlFault::Fragment);
        }
        let port = url.port_or_known_default().ok_or(UrlFault::Malformed)?;
        if ![80, 443].contains(&port) && !self.ports.iter().any(|range| range.0.contains(&port)) {
            return Err(UrlFault::Port);
        }
        let is_admitted = match url.host().ok_or(UrlFault::Malformed)? {
            Host::Ipv4(address) => self.admits(address.into()),
            Host::Ipv6(address) => self.admits(address.into()),
            // Only this machine (RFC 6761, section 6.3), whatever a resolver says.
            Host::Domain(name) if is_localhost(name) => self.admits(Ipv4Addr::LOCALHOST.into()),
            Host::Domain(_) => true,
        };
        if is_admitted { Ok(()) } else { Err(UrlFault::Inside) }
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_http() -> EgressPolicy {
        EgressPolicy { allow_http: true, ..EgressPolicy::default() }
    }

    #[test]
    fn loopback_is_refused_however_it_is_written() {
        for host in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7F.0.0.1",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "0177.0x0.1",
            "127.0.0.0x1",
            "0",
            "0.0.0.0",
            "%31%32%37.0.0.1",
            // Digits and dots of other scripts become these ones (UTS #46).
            "１２７.0.0.1",
            "127。0。0。1",
            "①②⑦.0.0.1",
            "[::1]",
            "[::]",
            "[0:0:0:0:0:0:0:1]",
            "[::127.0.0.1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:ffff:127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "ⓛocalhost",
            "any.localhost",
        ] {
            let url = format!("https://{host}/hook");
            assert_eq!(EgressPolicy::default().read(&url), Err(UrlFault::Inside), "{host}");
        }
    }

    #[test]
    fn other_addresses_inside_are_refused_however_they_are_written() {
        for host in [
            "10.0.0.1",
            "167772161",
            "0xa.1",
            "012.0.0.1",
            "169.254.169.254",
            "2852039166",
            "0xA9FEA9FE",
            "0251.0376.0251.0376",
            "169.254.43518",
            "192.168.257",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::a9fe:a9fe]",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "[ff02::1]",
        ] {
            let url = format!("https://{host}/hook");
            assert_eq!(EgressPolicy::default().read(&url), Err(UrlFault::Inside), "{host}");
        }
    }

    #[test]
    fn a_name_before_the_host_hides_nothing() {
        for (url, fault) in [
            ("https://example.org@127.0.0.1/", UrlFault::UserInfo),
            ("https://example.org:443@127.0.0.1/", UrlFault::UserInfo),
            ("https://user:password@example.org/", UrlFault::UserInfo),
            ("https://127.0.0.1\\@example.org/", UrlFault::Inside),
            ("https:\\\\127.0.0.1\\hook", UrlFault::Inside),
            ("https:127.0.0.1/hook", UrlFault::Inside),
            ("https:////127.0.0.1/hook", UrlFault::Inside),
            ("https://127.0.0.1?@example.org/", UrlFault::Inside),
            ("https://127.0.0.1#@example.org/", UrlFault::Fragment),
            ("https://example.org/#part", UrlFault::Fragment),
            ("ht\ntps://127.\t0.0.1/", UrlFault::Inside),
            ("https://[fe80::1%25eth0]/", UrlFault::Malformed),
            ("https://[fe80::1%eth0]/", UrlFault::Malformed),
            ("https://[::1/", UrlFault::Malformed),
            ("https://127.0.0.1.256/", UrlFault::Malformed),
            ("https://256.256.256.256/", UrlFault::Malformed),
            ("https://exa mple.org/", UrlFault::Malformed),
            ("https://", UrlFault::Malformed),
            ("hook", UrlFault::Malformed),
        ] {
            assert_eq!(EgressPolicy::default().read(url), Err(fault), "{url:?}");
        }
    }

    #[test]
    fn only_https_and_its_ports_unless_told() {
        for (url, read) in [
            ("https://example.org/hook?token=1", Ok(())),
            ("https://1.1.1.1/", Ok(())),
            ("https://[2606:4700::1111]:443/", Ok(())),
            ("https://example.org:80/", Ok(())),
            ("https://example.org:22/", Err(UrlFault::Port)),
            ("https://example.org:0/", Err(UrlFault::Port)),
            ("https://example.org:8443/", Err(UrlFault::Port)),
            ("http://example.org/", Err(UrlFault::Scheme)),
            ("ftp://example.org/", Err(UrlFault::Scheme)),
            ("file:///etc/passwd", Err(UrlFault::Scheme)),
            ("gopher://example.org/", Err(UrlFault::Scheme)),
            ("data:text/plain,hook", Err(UrlFault::Scheme)),
        ] {
            assert_eq!(EgressPolicy::default().read(url).map(drop), read, "{url}");
        }
        assert!(with_http().read("http://example.org/").is_ok());
        let ports = ["8443", "9000-9009"].map(|range| range.parse().unwrap()).to_vec();
        let policy = EgressPolicy { ports, ..EgressPolicy::default() };
        for (port, allowed) in [(8443, true), (8444, false), (9000, true), (9009, true), (9010, false)] {
            assert_eq!(policy.read(&format!("https://example.org:{port}/")).is_ok(), allowed, "{port}");
        }
        let long = format!("https://example.org/{}", "a".repeat(MAX_URL_LENGTH));
        assert_eq!(policy.read(&long), Err(UrlFault::TooLong));
    }

    #[test]
    fn a_network_that_the_operator_names_is_reached_and_no_other() {
        let policy =
            EgressPolicy { networks: vec!["10.1.0.0/16".parse().unwrap()], ..EgressPolicy::default() };
        for (host, allowed) in [
            ("10.1.2.3", true),
            ("[::ffff:10.1.2.3]", true),
            ("[64:ff9b::10.1.2.3]", true),
            ("10.2.0.1", false),
            ("127.0.0.1", false),
            ("localhost", false),
        ] {
            assert_eq!(policy.read(&format!("https://{host}/")).is_ok(), allowed, "{host}");
        }
    }

    #[test]
    fn a_range_of_ports_is_a_range() {
        assert!("443".parse::<PortRange>().is_ok() && "1-65535".parse::<PortRange>().is_ok());
        for wrong in ["", "0", "65536", "9-1", "a-b", "1-", "-1"] {
            assert!(wrong.parse::<PortRange>().is_err(), "{wrong:?}");
        }
    }
}
