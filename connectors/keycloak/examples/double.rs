//! Serves the double of Keycloak by itself: `double <realm file> <state file> <port>`.
#![expect(clippy::print_stderr, reason = "a program for people")]

use std::{error::Error, sync::Arc};

use connector_core::{RandomIds, SystemClock};
use connector_keycloak::fake::{FakeKeycloak, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [realm_file, state_file, port] = arguments.as_slice() else {
        return Err("usage: double <realm file> <state file> <port>".into());
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    let double = FakeKeycloak::open(Options {
        realm_file_json: std::fs::read_to_string(realm_file)?,
        public_url: format!("http://{}", listener.local_addr()?).parse()?,
        state_path: state_file.into(),
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
    })?;
    eprintln!("{}", double.issuer());
    connector_core::fake::serve(double.router(), listener, async {
        // Where the signal can't be listened for, the program runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
    .await?;
    Ok(())
}
