use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{extract::Request, middleware};
use chrono::{TimeDelta, TimeZone as _, Utc};
use connector_core::{Clock as _, MockClock, RandomIds};
pub use connector_keycloak::fake::client::{AUTOMATION, CALLBACK, SYNC, exchange_form, read_token};
use connector_keycloak::{
    KeycloakAdmin, KeycloakSettings,
    fake::{
        FakeKeycloak, Options,
        client::{attribute, authorization_query},
    },
};
use reqwest::{Response, StatusCode, redirect::Policy};
use serde_json::Value;
use url::Url;

pub const REALM_FILE: &str = include_str!("../../../../keycloak/realm-chancery.json");
pub const SHELL: (&str, &str) = ("chancery-shell", "demo-only-chancery-shell");

/// The double on a free port, and a browser that follows no redirect.
pub struct Server {
    pub double: Arc<FakeKeycloak>,
    pub clock: Arc<MockClock>,
    pub url: Url,
    pub browser: reqwest::Client,
    /// How often a token was asked for.
    pub token_requests: Arc<AtomicUsize>,
    state: tempfile::TempDir,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(REALM_FILE.to_owned()).await
    }

    pub async fn start_with(realm_file_json: String) -> Self {
        let clock = Arc::new(MockClock::new(Utc.with_ymd_and_hms(2026, 3, 1, 9, 0, 0).unwrap()));
        let state = tempfile::tempdir().unwrap();
        let token_requests = Arc::default();
        let (double, url) = serve(realm_file_json, state.path(), &clock, &token_requests).await;
        let browser = reqwest::Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
        Self { double, clock, url, browser, token_requests, state }
    }

    /// The same double again, as after a restart: another port, the state of before.
    pub async fn restart(mut self, realm_file_json: &str) -> Self {
        (self.double, self.url) =
            serve(realm_file_json.to_owned(), self.state.path(), &self.clock, &self.token_requests).await;
        self
    }

    pub fn admin(&self) -> KeycloakAdmin {
        self.admin_as(SYNC)
    }

    pub fn admin_as(&self, client: (&str, &str)) -> KeycloakAdmin {
        let settings = KeycloakSettings {
            url: self.url.clone(),
            realm: "chancery".to_owned(),
            client_id: client.0.to_owned(),
            client_secret: client.1.into(),
        };
        KeycloakAdmin::new(settings, self.clock.clone()).unwrap()
    }

    pub fn endpoint(&self, name: &str) -> String {
        format!("{}/protocol/openid-connect/{name}", self.double.issuer())
    }

    pub fn clock_seconds(&self) -> i64 {
        self.clock.now().timestamp()
    }

    pub fn token_requests(&self) -> usize {
        self.token_requests.load(Ordering::SeqCst)
    }

    pub fn pass(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
    }

    /// `GET …/auth` as the shell would send a browser there, with some parameters replaced (`None` leaves one out).
    pub async fn authorize(&self, changes: &[(&str, Option<&str>)]) -> Response {
        self.authorize_request(changes).send().await.unwrap()
    }

    /// The request of [`Server::authorize`], to be added to.
    pub fn authorize_request(&self, changes: &[(&str, Option<&str>)]) -> reqwest::RequestBuilder {
        self.browser.get(self.endpoint("auth")).query(&authorization_query(SHELL.0, changes))
    }

    /// Picks `username` on the page; the answer is the redirect back to the client.
    pub async fn pick(&self, page: &str, username: &str) -> Response {
        let action = attribute(page, "action").unwrap();
        self.browser.post(action).form(&[("username", username)]).send().await.unwrap()
    }

    /// Signs in and returns what the redirect back carries.
    pub async fn sign_in(&self, username: &str) -> HashMap<String, String> {
        let page = self.authorize(&[]).await.text().await.unwrap();
        let answer = self.pick(&page, username).await;
        assert_eq!(answer.status(), StatusCode::FOUND);
        let location = location(&answer);
        assert!(location.as_str().starts_with(CALLBACK));
        location.query_pairs().into_owned().collect()
    }

    pub async fn code(&self, username: &str) -> String {
        self.sign_in(username).await.remove("code").unwrap()
    }

    pub async fn token(&self, client: (&str, &str), form: &[(&str, &str)]) -> (StatusCode, Value) {
        let request = self.browser.post(self.endpoint("token")).basic_auth(client.0, Some(client.1));
        let answer = request.form(form).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    pub async fn exchange(&self, code: &str) -> (StatusCode, Value) {
        self.token(SHELL, &exchange_form(code)).await
    }

    /// The tokens of somebody who has just signed in.
    pub async fn tokens(&self, username: &str) -> Value {
        let (status, tokens) = self.exchange(&self.code(username).await).await;
        assert_eq!(status, StatusCode::OK, "{tokens}");
        tokens
    }

    pub async fn refresh(&self, refresh_token: &str) -> (StatusCode, Value) {
        self.token(SHELL, &[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
    }
}

pub fn location(answer: &Response) -> Url {
    answer.headers()["location"].to_str().unwrap().parse().unwrap()
}

pub fn claims(tokens: &Value, name: &str) -> Value {
    read_token(tokens[name].as_str().unwrap()).1
}

async fn serve(
    realm_file_json: String,
    state: &Path,
    clock: &Arc<MockClock>,
    token_requests: &Arc<AtomicUsize>,
) -> (Arc<FakeKeycloak>, Url) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let options = Options {
        realm_file_json,
        public_url: url.clone(),
        state_path: state.join("keycloak.json"),
        clock: clock.clone(),
        ids: Arc::new(RandomIds),
    };
    let double = FakeKeycloak::open(options).unwrap();
    let token_requests = Arc::clone(token_requests);
    let router =
        double.router().layer(middleware::from_fn(move |request: Request, next: middleware::Next| {
            if request.uri().path().ends_with("/token") {
                token_requests.fetch_add(1, Ordering::SeqCst);
            }
            next.run(request)
        }));
    // Ends with the test's runtime.
    tokio::spawn(connector_core::fake::serve(router, listener, std::future::pending()));
    (double, url)
}
