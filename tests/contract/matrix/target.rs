use std::sync::Arc;

use connector_core::{Clock as _, IdGenerator as _, RandomIds, SystemClock, fake::serve};
use connector_matrix::{
    MatrixClient, MatrixSettings, RoomAlias, RoomSpec, UserId,
    fake::{FakeMatrix, Options, RETRY_UNIT},
};
use url::Url;

/// As `cargo xtask` registers the application service at Synapse.
const SERVER_NAME: &str = "chancery.test";
const BOT: &str = "_chancery";
const AS_TOKEN: &str = "as-token-of-the-contract";
const HS_TOKEN: &str = "hs-token-of-the-contract";

/// A homeserver, and a name for the rooms of one case.
pub struct Target {
    pub client: MatrixClient,
    settings: MatrixSettings,
    case: String,
    _state: tempfile::TempDir,
}

impl Target {
    pub async fn double() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let state = tempfile::tempdir().unwrap();
        let double = FakeMatrix::open(Options {
            public_url: url.clone(),
            server_name: SERVER_NAME.to_owned(),
            state_path: state.path().join("matrix.json"),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            appservice_id: "chancery".to_owned(),
            as_token: AS_TOKEN.into(),
            hs_token: HS_TOKEN.into(),
            sender_localpart: BOT.to_owned(),
            appservice_url: None,
            users: vec![("acme-ceo".to_owned(), "Carla Chief".to_owned())],
            retry_unit: RETRY_UNIT,
            frame_ancestors: Vec::new(),
        })
        .unwrap();
        tokio::spawn(serve(double.router(), listener, std::future::pending()));
        Self::at(url, state)
    }

    #[expect(clippy::unused_async, reason = "as the double, which listens first")]
    pub async fn real() -> Self {
        let url = std::env::var("CHANCERY_TEST_SYNAPSE_URL").unwrap_or_else(|_| {
            panic!("`cargo xtask test` starts a Synapse and sets CHANCERY_TEST_SYNAPSE_URL")
        });
        Self::at(url.parse().unwrap(), tempfile::tempdir().unwrap())
    }

    fn at(url: Url, state: tempfile::TempDir) -> Self {
        let settings = MatrixSettings {
            url,
            server_name: SERVER_NAME.to_owned(),
            as_token: AS_TOKEN.into(),
            hs_token: HS_TOKEN.into(),
            sender_localpart: BOT.to_owned(),
        };
        let client = MatrixClient::new(&settings).unwrap();
        Self {
            client,
            settings,
            case: RandomIds.uuid_v7(SystemClock.now()).simple().to_string(),
            _state: state,
        }
    }

    /// Somebody who isn't known to the homeserver.
    pub fn stranger(&self) -> MatrixClient {
        let settings = MatrixSettings { as_token: "another".into(), ..self.settings.clone() };
        MatrixClient::new(&settings).unwrap()
    }

    pub fn ceo(&self) -> UserId {
        format!("@acme-ceo:{}", self.server_name()).parse().unwrap()
    }

    pub fn bot(&self) -> String {
        format!("@{}:{}", self.settings.sender_localpart, self.server_name())
    }

    pub fn server_name(&self) -> &str {
        &self.settings.server_name
    }

    /// A room of this case.
    pub fn spec(&self, name: &str) -> RoomSpec {
        RoomSpec {
            alias_localpart: self.client.alias_localpart(&format!("{name}_{}", self.case)),
            name: format!("Acme {name}"),
            topic: Some("What waits and what was decided".to_owned()),
            ..RoomSpec::default()
        }
    }

    pub fn alias(&self, spec: &RoomSpec) -> RoomAlias {
        RoomAlias::new(&spec.alias_localpart, self.server_name()).unwrap()
    }
}
