//! Tokens that the double verifies with keys that it fetches, as Prosody does from `asap_key_server`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, extract::Path, http::StatusCode, routing::get};
use chrono::TimeDelta;
use connector_core::{Clock as _, SystemClock};
use connector_jitsi::{
    Dialect, JitsiSettings, Participant, PublishedKeys, Signing, TokenMinter,
    fake::{FakeJitsi, Options, Verification},
    new_private_key,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

const ROOM: &str = "c-7f3k9q2mabcdefgh";

/// A key server, and what it was asked for.
#[derive(Clone, Default)]
struct Keys {
    published: Arc<Mutex<PublishedKeys>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Keys {
    async fn serve(&self) -> Url {
        let keys = self.clone();
        let file = move |Path(name): Path<String>| async move {
            keys.asked.lock().unwrap().push(name.clone());
            let file = keys.published.lock().unwrap().file(&name).map(str::to_owned);
            file.ok_or(StatusCode::NOT_FOUND)
        };
        serve(Router::new().route("/asap/{name}", get(file))).await.join("asap").unwrap()
    }
}

async fn serve(router: Router) -> Url {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(connector_core::fake::serve(router, listener, std::future::pending()));
    base
}

fn token(signing: Signing) -> String {
    let minter = TokenMinter::new(&JitsiSettings {
        url: "https://meet.example.org/".parse().unwrap(),
        app_id: "chancery".to_owned(),
        signing,
        audience: "jitsi".to_owned(),
        subject: "meet.jitsi".to_owned(),
        token_lifetime: Duration::from_mins(10),
        dialect: Dialect::Prosody,
    });
    let cara = Participant {
        id: "cara".to_owned(),
        name: "Cara".to_owned(),
        email: None,
        avatar: None,
        moderator: true,
    };
    let now = SystemClock.now();
    let link = minter.unwrap().mint(ROOM, &cara, now, now + TimeDelta::hours(1)).unwrap();
    link.token.expose_secret().to_owned()
}

#[tokio::test]
async fn a_server_fetches_each_key_once_and_takes_only_what_that_key_signed() {
    let (keys, state) = (Keys::default(), tempfile::tempdir().unwrap());
    let double = FakeJitsi::open(Options {
        public_url: "http://127.0.0.1/".parse().unwrap(),
        state_path: state.path().join("jitsi.json"),
        clock: Arc::new(SystemClock),
        app_id: "chancery".to_owned(),
        verification: Verification::KeyServer(keys.serve().await),
        audience: "jitsi".to_owned(),
        domain: None,
        reservations: None,
    });
    let base = serve(double.unwrap().router()).await;
    let enter = async |token: &str| {
        let mut url = base.join(ROOM).unwrap();
        url.query_pairs_mut().append_pair("jwt", token);
        let request = reqwest::Client::new().get(url).header("accept", "application/json");
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["error"].as_str().unwrap_or("entered").to_owned()
    };
    let (old, new) = (new_private_key().unwrap(), new_private_key().unwrap());
    let signed = |key_id: &str, key: &SecretString| {
        token(Signing::Rs256 { key_id: key_id.to_owned(), private_key_pem: key.clone() })
    };
    keys.published.lock().unwrap().publish("2026-10", &old).unwrap();
    assert_eq!(enter(&signed("2026-10", &old)).await, "entered");
    assert_eq!(enter(&signed("2026-10", &old)).await, "entered");
    assert_eq!(keys.asked.lock().unwrap().len(), 1);
    assert_eq!(enter(&signed("2026-10", &new)).await, "Invalid signature");
    // A key that isn't published yet is asked for again; then both are good.
    assert_eq!(enter(&signed("2026-11", &new)).await, "could not obtain public key");
    keys.published.lock().unwrap().publish("2026-11", &new).unwrap();
    assert_eq!(enter(&signed("2026-11", &new)).await, "entered");
    assert_eq!(enter(&signed("2026-10", &old)).await, "entered");
    assert_eq!(keys.asked.lock().unwrap().len(), 3);
    let shared = token(Signing::Hs256 { secret: "a-secret-of-the-tests-with-40-characters".into() });
    assert_eq!(enter(&shared).await, "'kid' claim is missing");
}
