use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, StatusCode, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{
    app::AppState,
    config::TrustedProxy,
    http::problem::Problem,
    limits::{Network, Usage},
};

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The other end of a request's connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// What a request has left of its quota, said by whoever charged it last.
#[derive(Debug, Clone, Default)]
pub(super) struct Said(Arc<Mutex<Option<Usage>>>);

impl Said {
    /// A place in a request of the API for what is left of the quota that it will be charged to.
    pub(super) fn begin(request: &mut Request) -> Option<Self> {
        let said = request.uri().path().starts_with("/api/").then(Self::default)?;
        request.extensions_mut().insert(said.clone());
        Some(said)
    }

    /// Says it in the answer (draft-ietf-httpapi-ratelimit-headers-11).
    pub(super) fn say(self, response: &mut Response) {
        if let Some(usage) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let headers = response.headers_mut();
            headers.insert(RATE_LIMIT_POLICY.clone(), usage.policy);
            headers.insert(RATE_LIMIT.clone(), usage.limit);
        }
    }
}

/// Where a request is charged: to the quota of whoever has proven who it is, or to that of its address.
#[derive(Debug, Clone)]
pub struct Charge {
    network: Network,
    said: Option<Said>,
}

/// Who sent a request: the connection's other end, or what a proxy of ours says of it. None without a connection.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub Option<IpAddr>);

impl ClientAddress {
    /// Who sent this request.
    pub fn of(parts: &Parts, state: &AppState) -> Self {
        let peer = parts.extensions.get::<Peer>();
        Self(peer.map(|peer| client_address(peer.0, &parts.headers, &state.config.http.trusted_proxies)))
    }
}

impl FromRequestParts<AppState> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        Ok(Self::of(parts, state))
    }
}

impl Charge {
    /// Where this request is charged.
    pub fn of(parts: &Parts, state: &AppState) -> Self {
        let ClientAddress(address) = ClientAddress::of(parts, state);
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Self { network: address.into(), said: parts.extensions.get::<Said>().cloned() }
    }

    /// Says in the answer what is left of the quota from which was taken.
    ///
    /// # Errors
    /// 429 where nothing was left.
    pub fn to(&self, usage: Option<Usage>) -> Result<(), Problem> {
        let Some(usage) = usage else { return Ok(()) };
        let refused = usage.retry_after;
        if let Some(said) = &self.said {
            *said.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(usage);
        }
        match refused {
            None => Ok(()),
            Some(seconds) => Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "Too many requests, please slow down",
            )
            .with_detail(format!("Try again in {seconds} s."))
            .with_retry_after(seconds)),
        }
    }

    /// Charges the address: nobody has proven who asks.
    ///
    /// # Errors
    /// 429 where nothing is left.
    pub fn to_address(&self, state: &AppState) -> Result<(), Problem> {
        self.to(state.limits.address.take(&self.network))
    }

    /// What a failed proof of who asks is answered with: `problem`, or a 429 where there were too many of them.
    pub fn for_failure(&self, state: &AppState, problem: Problem) -> Problem {
        self.to_address(state).err().unwrap_or(problem)
    }
}

impl FromRequestParts<AppState> for Charge {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        Ok(Self::of(parts, state))
    }
}

/// Charges each request to its address: for what is asked before anybody can have proven who asks.
pub async fn charge_address(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match Charge::of(&parts, &state).to_address(&state) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    }
}

/// Who is behind a connection: its other end, or, where that is a proxy of ours, the last address of `X-Forwarded-For` that
/// isn't. What stands before that one, anybody can have written.
fn client_address(peer: IpAddr, headers: &HeaderMap, proxies: &[TrustedProxy]) -> IpAddr {
    let is_proxy = |address: IpAddr| proxies.iter().any(|proxy| proxy.contains(address));
    let mut client = peer;
    let fields = headers.get_all(&X_FORWARDED_FOR).iter().rev();
    let hops = fields.flat_map(|field| field.to_str().unwrap_or_default().rsplit(','));
    for hop in hops {
        if !is_proxy(client) {
            break;
        }
        // A proxy that writes something else isn't one to rely on any further.
        let Some(address) = forwarded_address(hop.trim()) else { break };
        client = address;
    }
    client
}

/// An address as proxies write it: some add the port.
fn forwarded_address(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    hop.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client(peer: &str, forwarded: &[&'static str], proxies: &[&str]) -> String {
        let headers = forwarded
            .iter()
            .map(|value| (X_FORWARDED_FOR.clone(), HeaderValue::from_static(value)))
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            });
        let proxies: Vec<TrustedProxy> = proxies.iter().map(|proxy| proxy.parse().unwrap()).collect();
        client_address(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_says_who_is_behind_it() {
        let proxies = ["10.0.0.0/8", "2001:db8::1"];
        assert_eq!(client("203.0.113.9", &["198.51.100.1"], &[]), "203.0.113.9");
        assert_eq!(client("203.0.113.9", &["198.51.100.1"], &proxies), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["198.51.100.1"], &proxies), "198.51.100.1");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.1"], &proxies), "198.51.100.1");
        assert_eq!(client("2001:db8::1", &["2001:db8::2"], &proxies), "2001:db8::2");
        assert_eq!(client("10.0.0.1", &["198.51.100.1:4711"], &proxies), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["[2001:db8::2]:4711"], &proxies), "2001:db8::2");
        assert_eq!(client("10.0.0.1", &[], &proxies), "10.0.0.1");
    }

    #[test]
    fn what_the_client_wrote_itself_is_not_believed() {
        let proxies = ["10.0.0.0/8"];
        assert_eq!(client("10.0.0.1", &["192.0.2.66, 198.51.100.1, 10.0.0.2"], &proxies), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.66", "198.51.100.1"], &proxies), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.66, nonsense"], &proxies), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.66, nonsense, 10.0.0.3"], &proxies), "10.0.0.3");
    }
}
