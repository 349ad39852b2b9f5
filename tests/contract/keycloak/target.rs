//! Where the cases run: the double in this process, or the real server that `cargo xtask test` started.

use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use axum::{Router, body::Bytes, extract::State, http::StatusCode as Code, routing::post};
use connector_core::{Clock as _, IdGenerator as _, RandomIds, SystemClock};
pub use connector_keycloak::fake::client::{AUTOMATION, CALLBACK, SYNC, exchange_form, read_token};
use connector_keycloak::{
    KeycloakAdmin, KeycloakSettings,
    fake::{FakeKeycloak, Options, client::authorization_query},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::browser::{Answer, Browser, http};

pub const REALM_FILE: &str = include_str!("../../../keycloak/realm-chancery.json");
pub const SIGNED_OUT: &str = "http://127.0.0.1:8080/auth/signed-out";
pub const SECRET: &str = "demo-only-chancery-shell";
/// Who may change the double's users and groups; with the real server it is the administrator of its first realm.
const MANAGER: (&str, &str) = ("contract-manager", "demo-only-contract-manager");
const URL_VARIABLE: &str = "CHANCERY_TEST_KEYCLOAK_URL";
const PASSWORD: &str = "demo-only-contract";

/// A server with the realm of the file, and with a client of this case's own: a copy of `chancery-shell` whose logout
/// tokens arrive here.
pub struct Target {
    /// Without `/realms/…`.
    pub url: Url,
    pub client: String,
    logout_tokens: Arc<Mutex<Vec<String>>>,
    real: Option<Administrator>,
    _state: tempfile::TempDir,
}

struct Administrator {
    name: String,
    password: String,
}

/// Somebody whom this case has made.
#[derive(Debug)]
pub struct Person {
    pub id: Uuid,
    pub username: String,
    /// Of one-time codes.
    pub secret: String,
}

impl Target {
    /// The double, on a free port.
    pub async fn double() -> Self {
        let (logout_tokens, logout_url) = listen_for_logout_tokens().await;
        let mut realm: Value = serde_json::from_str(REALM_FILE).unwrap();
        let client = own_client(&realm, &logout_url);
        let name = client["clientId"].as_str().unwrap().to_owned();
        let mut manager = client_in(&realm, SYNC.0);
        manager["id"] = unique().to_string().into();
        manager["clientId"] = MANAGER.0.into();
        manager["secret"] = MANAGER.1.into();
        let account = json!({"id": unique(), "username": "service-account-contract-manager", "enabled": true,
            "serviceAccountClientId": MANAGER.0,
            "clientRoles": {"realm-management": ["manage-users", "view-events", "view-clients"]}});
        realm["clients"].as_array_mut().unwrap().extend([client, manager]);
        realm["users"].as_array_mut().unwrap().push(account);

        let state = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let double = FakeKeycloak::open(Options {
            realm_file_json: realm.to_string(),
            public_url: url.clone(),
            state_path: state.path().join("keycloak.json"),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
        })
        .unwrap();
        // Ends with the test's runtime.
        tokio::spawn(connector_core::fake::serve(double.router(), listener, std::future::pending()));
        Self { url, client: name, logout_tokens, real: None, _state: state }
    }

    /// The real server.
    pub async fn real() -> Self {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| {
                panic!("{name} is missing: `cargo xtask test` starts a Keycloak and sets it")
            })
        };
        let url: Url = variable(URL_VARIABLE).parse().unwrap();
        let (logout_tokens, logout_url) = listen_for_logout_tokens().await;
        let realm: Value = serde_json::from_str(REALM_FILE).unwrap();
        let client = own_client(&realm, &logout_url);
        let target = Self {
            url,
            client: client["clientId"].as_str().unwrap().to_owned(),
            logout_tokens,
            real: Some(Administrator {
                name: variable("CHANCERY_TEST_KEYCLOAK_ADMIN"),
                password: variable("CHANCERY_TEST_KEYCLOAK_ADMIN_PASSWORD"),
            }),
            _state: tempfile::tempdir().unwrap(),
        };
        let (status, body, _) = target.manage(Method::POST, "clients", Some(client)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        target
    }

    /// The realm's issuer.
    pub fn issuer(&self) -> String {
        format!("{}realms/chancery", self.url)
    }

    pub fn endpoint(&self, name: &str) -> String {
        format!("{}/protocol/openid-connect/{name}", self.issuer())
    }

    /// The client of this case, with its secret.
    pub fn shell(&self) -> (&str, &str) {
        (&self.client, SECRET)
    }

    /// The connector, as `client`.
    pub fn connector(&self, client: (&str, &str)) -> KeycloakAdmin {
        let settings = KeycloakSettings {
            url: self.url.clone(),
            realm: "chancery".to_owned(),
            client_id: client.0.to_owned(),
            client_secret: client.1.into(),
        };
        KeycloakAdmin::new(settings, Arc::new(SystemClock)).unwrap()
    }

    /// Sends the browser to the sign-in page, with some parameters replaced (`None` leaves one out).
    pub async fn authorize(&self, browser: &mut Browser, changes: &[(&str, Option<&str>)]) -> Answer {
        let query = authorization_query(&self.client, changes);
        let query: Vec<_> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        browser.get(&self.endpoint("auth"), &query).await
    }

    /// Says on the page who one is: by name and password, or by picking the person.
    pub async fn identify(
        &self,
        browser: &mut Browser,
        page: &Answer,
        username: &str,
        password: &str,
    ) -> Answer {
        if self.real.is_none() {
            return browser.submit(page, &[("username", username)]).await;
        }
        browser.submit(page, &[("username", username), ("password", password)]).await
    }

    /// Says on the page that one is this person.
    pub async fn identify_as(&self, browser: &mut Browser, page: &Answer, person: &Person) -> Answer {
        self.identify(browser, page, &person.username, PASSWORD).await
    }

    /// Signs in, and gives what the redirect back carries.
    pub async fn sign_in(&self, browser: &mut Browser, person: &Person) -> Value {
        let page = self.authorize(browser, &[]).await;
        let answer = self.identify_as(browser, &page, person).await;
        self.tokens(&answer).await
    }

    /// Exchanges the code of the redirect.
    pub async fn tokens(&self, redirect: &Answer) -> Value {
        let (status, tokens) = self.exchange(redirect).await;
        assert_eq!(status, StatusCode::OK, "{tokens}");
        tokens
    }

    pub async fn exchange(&self, redirect: &Answer) -> (StatusCode, Value) {
        let parameters = redirect.parameters();
        let code = parameters.get("code").unwrap_or_else(|| panic!("no code: {parameters:?}"));
        self.token(self.shell(), &exchange_form(code)).await
    }

    pub async fn token(&self, client: (&str, &str), form: &[(&str, &str)]) -> (StatusCode, Value) {
        let request = http().post(self.endpoint("token")).basic_auth(client.0, Some(client.1)).form(form);
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    pub async fn refresh(&self, tokens: &Value) -> (StatusCode, Value) {
        let token = tokens["refresh_token"].as_str().unwrap();
        self.token(self.shell(), &[("grant_type", "refresh_token"), ("refresh_token", token)]).await
    }

    /// A token of a service account.
    pub async fn machine(&self, client: (&str, &str)) -> String {
        let (status, tokens) = self.token(client, &[("grant_type", "client_credentials")]).await;
        assert_eq!(status, StatusCode::OK, "{tokens}");
        tokens["access_token"].as_str().unwrap().to_owned()
    }

    /// A call of the realm's Admin REST API with this token: status, body (null where there is none), `Location`.
    pub async fn call(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value, Option<String>) {
        let mut request =
            http().request(method, format!("{}admin/realms/chancery/{path}", self.url)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let location = answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        let status = answer.status();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default(), location)
    }

    /// A call as who may change users and groups.
    pub async fn manage(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value, Option<String>) {
        let token = match &self.real {
            None => self.machine(MANAGER).await,
            Some(administrator) => {
                let form = [
                    ("grant_type", "password"),
                    ("client_id", "admin-cli"),
                    ("username", &administrator.name),
                    ("password", &administrator.password),
                ];
                let url = format!("{}realms/master/protocol/openid-connect/token", self.url);
                let answer: Value = http().post(url).form(&form).send().await.unwrap().json().await.unwrap();
                answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
            }
        };
        self.call(&token, method, path, body).await
    }

    /// A call as the service account of the synchronisation; it must succeed.
    pub async fn look(&self, path: &str) -> Value {
        let (status, body, _) = self.call(&self.machine(SYNC).await, Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    /// Makes a person with a password and one-time codes, in these groups.
    pub async fn person(&self, groups: &[&str]) -> Person {
        let username = format!("person-{}", unique().simple());
        let secret = format!("secret-of-{username}");
        let body = json!({
            "username": username, "email": format!("{username}@contract.example"), "emailVerified": true,
            "firstName": "Pat", "lastName": "Person", "enabled": true, "groups": groups,
            "credentials": [
                {"type": "password", "value": PASSWORD, "temporary": false},
                {"type": "otp", "secretData": json!({"value": secret}).to_string(),
                    "credentialData": json!({"subType": "totp", "digits": 6, "counter": 0, "period": 30,
                        "algorithm": "HmacSHA1"}).to_string()},
            ],
        });
        let (status, body, location) = self.manage(Method::POST, "users", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        Person { id: last_id(&location.unwrap()), username, secret }
    }

    /// Makes a group below `/teams`, and gives its id and its name.
    pub async fn team(&self) -> (Uuid, String) {
        let teams = self.look("group-by-path/teams").await["id"].as_str().unwrap().to_owned();
        let name = format!("team-{}", unique().simple());
        let body = Some(json!({"name": name}));
        let (status, group, _) = self.manage(Method::POST, &format!("groups/{teams}/children"), body).await;
        assert_eq!(status, StatusCode::CREATED, "{group}");
        (group["id"].as_str().unwrap().parse().unwrap(), name)
    }

    /// The logout tokens that the client was sent so far. Who sends them waits for the answer.
    pub fn logout_tokens(&self) -> Vec<String> {
        self.logout_tokens.lock().unwrap().clone()
    }
}

impl Person {
    /// The one-time code of now (RFC 6238).
    pub fn code(&self) -> String {
        let step = SystemClock.now().timestamp() / 30;
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.secret.as_bytes());
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let offset = usize::from(tag.as_ref()[19] & 0x0f);
        let number = u32::from_be_bytes(tag.as_ref()[offset..offset + 4].try_into().unwrap()) & 0x7fff_ffff;
        format!("{:06}", number % 1_000_000)
    }

    /// A code that is none of those around now.
    pub fn wrong_code(&self) -> String {
        let right: u32 = self.code().parse().unwrap();
        format!("{:06}", (right + 1) % 1_000_000)
    }
}

/// A client of this case's own, made from the realm's shell.
fn own_client(realm: &Value, logout_url: &str) -> Value {
    let mut client = client_in(realm, "chancery-shell");
    client["id"] = unique().to_string().into();
    client["clientId"] = format!("shell-{}", unique().simple()).into();
    client["attributes"]["backchannel.logout.url"] = logout_url.into();
    client
}

fn client_in(realm: &Value, name: &str) -> Value {
    let clients = realm["clients"].as_array().unwrap();
    clients.iter().find(|client| client["clientId"] == name).unwrap().clone()
}

async fn listen_for_logout_tokens() -> (Arc<Mutex<Vec<String>>>, String) {
    let received: Arc<Mutex<Vec<String>>> = Arc::default();
    let app = Router::new()
        .route(
            "/auth/backchannel-logout",
            post(async |State(received): State<Arc<Mutex<Vec<String>>>>, body: Bytes| {
                received.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
                Code::NO_CONTENT
            }),
        )
        .with_state(Arc::clone(&received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/auth/backchannel-logout", listener.local_addr().unwrap());
    tokio::spawn(connector_core::fake::serve(app, listener, std::future::pending()));
    (received, url)
}

pub fn unique() -> Uuid {
    RandomIds.uuid_v7(SystemClock.now())
}

/// The id at the end of a `Location`.
pub fn last_id(location: &str) -> Uuid {
    location.rsplit('/').next().unwrap().parse().unwrap()
}

pub fn claims(tokens: &Value, name: &str) -> Value {
    read_token(tokens[name].as_str().unwrap()).1
}

/// The names in an object, sorted.
pub fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}
