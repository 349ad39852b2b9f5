use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use connector_chatwoot::fake::{self as chatwoot, FakeChatwoot};
use connector_jitsi::fake::{self as jitsi, FakeJitsi};
use connector_keycloak::fake::{self as keycloak, FakeKeycloak};
use connector_matrix::{
    ExternalId,
    fake::{self as matrix, FakeMatrix},
};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use url::Url;

use super::{DataDir, PEOPLE};
use crate::{
    clock::SharedClock,
    config::{Config, JitsiKeyConfig},
    http::server,
    ids::SharedIds,
    lifecycle::Lifecycle,
};

/// The realm that a real Keycloak would import.
pub const REALM: &str = include_str!("../../../keycloak/realm-chancery.json");
/// The address that the realm file is written for.
const REALM_PORT: &str = ":8080/";
const SERVER_NAME: &str = "chancery.localhost";
const APPLICATION_SERVICE: &str = "chancery";
/// As which the homeserver knows Keycloak.
const IDENTITY_PROVIDER: &str = "oidc-keycloak";
const BOT: &str = "_chancery_bot";
const JITSI_APP: &str = "chancery";

/// Where everything listens.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Chancery.
    pub chancery: SocketAddr,
    /// Keycloak's double.
    pub keycloak: SocketAddr,
    /// Chatwoot's double.
    pub chatwoot: SocketAddr,
    /// Matrix's double.
    pub matrix: SocketAddr,
    /// Jitsi's double.
    pub jitsi: SocketAddr,
}

impl Addresses {
    /// Chancery's address and the four after it.
    ///
    /// # Errors
    /// Where there are no four ports after it.
    pub fn after(chancery: SocketAddr) -> anyhow::Result<Self> {
        let next = |offset: u16| {
            let port =
                chancery.port().checked_add(offset).context("there are no four ports after that one")?;
            anyhow::Ok(SocketAddr::new(chancery.ip(), port))
        };
        Ok(Self { chancery, keycloak: next(1)?, chatwoot: next(2)?, matrix: next(3)?, jitsi: next(4)? })
    }

    /// The URL of one of the addresses.
    pub fn url(&self, address: SocketAddr) -> String {
        format!("http://{address}/")
    }

    /// How people reach Chancery.
    ///
    /// # Errors
    /// Never in practice: an address makes a URL.
    pub fn public_url(&self) -> anyhow::Result<Url> {
        Ok(Url::parse(&self.url(self.chancery))?)
    }

    /// The other hosts under which people reach it.
    pub fn additional_hosts(&self) -> Vec<String> {
        let port = self.chancery.port();
        PEOPLE
            .iter()
            .map(|person| person.host)
            .chain(["127.0.0.1", "acme-agent.localhost", "acme-ceo.localhost"])
            .map(|host| format!("{host}:{port}"))
            .collect()
    }
}

/// The doubles' listeners, bound before anything is started.
#[derive(Debug)]
pub struct Listeners {
    keycloak: TcpListener,
    chatwoot: TcpListener,
    matrix: TcpListener,
    jitsi: TcpListener,
}

impl Listeners {
    /// Listens at all four addresses.
    ///
    /// # Errors
    /// Where one is taken.
    pub async fn bind(addresses: &Addresses) -> anyhow::Result<Self> {
        Ok(Self {
            keycloak: server::bind(addresses.keycloak).await?,
            chatwoot: server::bind(addresses.chatwoot).await?,
            matrix: server::bind(addresses.matrix).await?,
            jitsi: server::bind(addresses.jitsi).await?,
        })
    }

    /// Listens on four free ports of this machine, and says where; Chancery itself is at `chancery`.
    ///
    /// # Errors
    /// Where there are none.
    #[cfg(feature = "testing")]
    pub async fn ephemeral(chancery: SocketAddr) -> anyhow::Result<(Addresses, Self)> {
        let free = SocketAddr::new(chancery.ip(), 0);
        let anywhere = Addresses { chancery, keycloak: free, chatwoot: free, matrix: free, jitsi: free };
        let listeners = Self::bind(&anywhere).await?;
        let addresses = Addresses {
            chancery,
            keycloak: listeners.keycloak.local_addr()?,
            chatwoot: listeners.chatwoot.local_addr()?,
            matrix: listeners.matrix.local_addr()?,
            jitsi: listeners.jitsi.local_addr()?,
        };
        Ok((addresses, listeners))
    }
}

/// A double of each tool.
pub struct Doubles {
    /// Who people are.
    pub keycloak: Arc<FakeKeycloak>,
    /// Customer conversations.
    pub chatwoot: Arc<FakeChatwoot>,
    /// The team's chat.
    pub matrix: Arc<FakeMatrix>,
    /// Video rooms.
    pub jitsi: Arc<FakeJitsi>,
}

impl std::fmt::Debug for Doubles {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Doubles").finish_non_exhaustive()
    }
}

impl Doubles {
    /// Opens the doubles with the state that earlier runs have kept.
    ///
    /// # Errors
    /// Where a state can't be read or written.
    pub fn open(
        data_dir: &DataDir,
        addresses: &Addresses,
        clock: &SharedClock,
        ids: &SharedIds,
    ) -> anyhow::Result<Self> {
        Self::open_with_realm(REALM, data_dir, addresses, clock, ids)
    }

    /// The same with another realm than [`REALM`].
    ///
    /// # Errors
    /// Where a state can't be read or written, or `realm` is no realm.
    pub fn open_with_realm(
        realm: &str,
        data_dir: &DataDir,
        addresses: &Addresses,
        clock: &SharedClock,
        ids: &SharedIds,
    ) -> anyhow::Result<Self> {
        let secrets = data_dir.secrets();
        let url = |address| Url::parse(&addresses.url(address)).context("an address makes no URL");
        let keycloak = FakeKeycloak::open(keycloak::Options {
            realm_file_json: realm.replace(REALM_PORT, &format!(":{}/", addresses.chancery.port())),
            public_url: url(addresses.keycloak)?,
            state_path: data_dir.double("keycloak"),
            clock: Arc::clone(clock),
            ids: Arc::clone(ids),
        })?;
        let agents = vec![
            chatwoot::AgentAccount {
                id: 8,
                name: "Ada Agent".to_owned(),
                email: "acme-agent@acme.example".to_owned(),
            },
            // Somebody who works in Chatwoot and whom Keycloak doesn't know.
            chatwoot::AgentAccount {
                id: 9,
                name: "Temp Worker".to_owned(),
                email: "temp@agency.example".to_owned(),
            },
        ];
        let chatwoot = FakeChatwoot::open(chatwoot::Options {
            public_url: url(addresses.chatwoot)?,
            state_path: data_dir.double("chatwoot"),
            clock: Arc::clone(clock),
            ids: Arc::clone(ids),
            agents,
        })?;
        let matrix = FakeMatrix::open(matrix::Options {
            public_url: url(addresses.matrix)?,
            server_name: SERVER_NAME.to_owned(),
            state_path: data_dir.double("matrix"),
            clock: Arc::clone(clock),
            ids: Arc::clone(ids),
            appservice_id: APPLICATION_SERVICE.to_owned(),
            as_token: secrets.matrix_as_token.clone().into(),
            hs_token: secrets.matrix_hs_token.clone().into(),
            sender_localpart: BOT.to_owned(),
            appservice_url: None,
            users: PEOPLE.iter().map(|person| (person.username.to_owned(), person.name.to_owned())).collect(),
            retry_unit: matrix::RETRY_UNIT,
            frame_ancestors: std::iter::once(addresses.chancery.to_string())
                .chain(addresses.additional_hosts())
                .map(|host| format!("http://{host}"))
                .collect(),
        })?;
        let linked = PEOPLE.iter().filter_map(|person| {
            let external_id = keycloak.user_id(person.username).ok()?.to_string();
            let auth_provider = IDENTITY_PROVIDER.to_owned();
            Some((person.username.to_owned(), ExternalId { auth_provider, external_id }))
        });
        matrix.let_administer(linked);
        let jitsi = FakeJitsi::open(jitsi::Options {
            public_url: url(addresses.jitsi)?,
            state_path: data_dir.double("jitsi"),
            clock: Arc::clone(clock),
            app_id: JITSI_APP.to_owned(),
            verification: jitsi::Verification::KeyServer(url(addresses.chancery)?.join("asap")?),
            audience: "jitsi".to_owned(),
            domain: Some("meet.jitsi".to_owned()),
            reservations: Some(jitsi::Reservations {
                url: url(addresses.chancery)?.join("jitsi/reservations")?,
                authorization: Some(format!("Bearer {}", secrets.jitsi_secret).into()),
            }),
        })?;
        Ok(Self { keycloak, chatwoot, matrix, jitsi })
    }

    /// Serves all doubles until the process stops.
    pub fn serve(&self, listeners: Listeners, lifecycle: &Lifecycle) {
        let routers = [
            (self.keycloak.router(), listeners.keycloak),
            (self.chatwoot.router(), listeners.chatwoot),
            (self.matrix.router(), listeners.matrix),
            (self.jitsi.router(), listeners.jitsi),
        ];
        for (router, listener) in routers {
            let stop = lifecycle.soft.clone().cancelled_owned();
            lifecycle.spawn(async move {
                if let Err(error) = connector_core::fake::serve(router, listener, stop).await {
                    tracing::error!(%error, "a double stopped serving");
                }
            });
        }
        lifecycle.spawn(Arc::clone(&self.chatwoot).run(lifecycle.soft.clone().cancelled_owned()));
        lifecycle.spawn(Arc::clone(&self.matrix).run(lifecycle.soft.clone().cancelled_owned()));
    }

    /// Points the settings at the doubles.
    pub fn configure(&self, config: &mut Config, data_dir: &DataDir) {
        let secrets = data_dir.secrets();
        let issuer = self.keycloak.issuer();
        config.keycloak.url = issuer.split("/realms/").next().unwrap_or(issuer).into();
        config.keycloak.client_secret = "demo-only-chancery-shell".to_owned().into();
        config.keycloak.sync_client_secret = "demo-only-chancery-sync".to_owned().into();
        config.chatwoot.url = self.chatwoot.public_url().to_string();
        config.chatwoot.token = self.chatwoot.admin_token();
        config.chatwoot.bot_token = self.chatwoot.bot_token();
        config.chatwoot.bot_id = chatwoot::BOT_ID;
        config.chatwoot.platform_token = self.chatwoot.platform_token();
        config.matrix.url = self.matrix.public_url().to_string();
        config.matrix.server_name = SERVER_NAME.into();
        config.matrix.as_token = secrets.matrix_as_token.clone().into();
        config.matrix.hs_token = secrets.matrix_hs_token.clone().into();
        config.matrix.sender_localpart = BOT.into();
        config.matrix.identity_provider = IDENTITY_PROVIDER.into();
        config.matrix.embed = true;
        config.jitsi.url = self.jitsi.public_url().to_string();
        config.jitsi.app_id = JITSI_APP.into();
        config.jitsi.reservation_secret = secrets.jitsi_secret.clone().into();
        config.jitsi.keys = vec![JitsiKeyConfig { id: "demo".to_owned(), file: data_dir.jitsi_key() }];
        // There is nothing here but this machine.
        config.webhooks.allow_http = true;
        config.webhooks.allowed_ports = "1-65535".parse().into_iter().collect();
        let loopback = ["127.0.0.0/8", "::1/128"];
        config.webhooks.allowed_networks =
            loopback.iter().filter_map(|network| network.parse().ok()).collect();
        debug_assert!(!config.chatwoot.token.expose_secret().is_empty());
    }
}
