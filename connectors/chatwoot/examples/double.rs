//! Serves the double by itself, to look at its page or to write a client against it:
//! `cargo run -p connector-chatwoot --features fake --example double -- 127.0.0.1:8092`.

#![expect(clippy::print_stdout, reason = "says where to look")]

use std::sync::Arc;

use connector_chatwoot::fake::{AgentAccount, FakeChatwoot, Options};
use connector_core::{RandomIds, SystemClock, fake::serve};
use secrecy::ExposeSecret as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        return Err("the double is for loopback only".into());
    }
    let public_url = format!("http://{address}/").parse()?;
    let fake = FakeChatwoot::open(Options {
        public_url,
        state_path: std::env::temp_dir().join(format!("chatwoot-double-{}.json", address.port())),
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        agents: vec![AgentAccount { id: 5, name: "Ada Agent".to_owned(), email: "ada@acme.test".to_owned() }],
    })?;
    println!("page: {}", fake.public_url());
    println!("administrator's token: {}", fake.admin_token().expose_secret());
    println!("API inbox: {}", fake.inbox_identifier());
    let stop = async || {
        let _ = tokio::signal::ctrl_c().await;
    };
    tokio::spawn(Arc::clone(&fake).run(stop()));
    serve(fake.router(), listener, stop()).await?;
    Ok(())
}
