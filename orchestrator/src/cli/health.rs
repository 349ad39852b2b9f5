use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use connector_core::HttpClient;
use url::Url;

use super::openapi::print;
use crate::{clock::SystemClock, config::Config};

/// How long the server may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Asks the server of these settings on this machine whether it is ready.
pub(super) async fn run(config: Option<&Path>) -> anyhow::Result<()> {
    let mut address = Config::load(config)?.http.listen;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    let client = HttpClient::builder("chancery", Url::parse(&format!("http://{address}/"))?)
        .clock(Arc::new(SystemClock))
        .build()?;
    let asked = tokio::time::timeout(DEADLINE, client.reach(&["ready"])).await;
    asked.context("no answer in time")?.with_context(|| format!("the server at {address} is not ready"))?;
    print("ready\n")
}
