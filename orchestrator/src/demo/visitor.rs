//! Somebody with a browser and a program: signs in through the shell, and calls the API with an access token.

use std::{collections::BTreeMap, net::SocketAddr, sync::Mutex};

use anyhow::{Context as _, bail, ensure};
use connector_keycloak::fake::client::{self, Filled};
use reqwest::{Client, Method, Response, header, redirect::Policy};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

use super::{Addresses, Person, STEP_DEADLINE};
use crate::app::AppState;

pub(super) struct Visitor {
    username: &'static str,
    /// `http://localhost:8080`, this person's own host.
    origin: String,
    issuer: String,
    client: Client,
    cookies: Mutex<BTreeMap<String, String>>,
    token: Option<String>,
}

impl Visitor {
    pub fn new(person: &Person, addresses: &Addresses, issuer: &str) -> anyhow::Result<Self> {
        // Not every resolver knows *.localhost.
        let loopback = SocketAddr::new(addresses.chancery.ip(), 0);
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(STEP_DEADLINE)
            .resolve(person.host, loopback)
            .build()?;
        Ok(Self {
            username: person.username,
            origin: format!("http://{}:{}", person.host, addresses.chancery.port()),
            issuer: issuer.to_owned(),
            client,
            cookies: Mutex::default(),
            token: None,
        })
    }

    /// Signs in as a browser does: to the shell, over Keycloak's page, and back. Then gets a token for the API.
    pub async fn sign_in(&mut self) -> anyhow::Result<()> {
        let departure =
            self.browse(Method::GET, &format!("{}/auth/login?return_to=/app", self.origin), &[]).await?;
        let back = self.choose_myself(location(&departure)?).await?;
        let arrival = self.browse(Method::GET, &back, &[]).await?;
        let checked = self.browse(Method::GET, &join(&self.origin, &location(&arrival)?)?, &[]).await?;
        ensure!(location(&checked)? == "/app", "the sign-in did not lead to the shell");
        self.token = Some(self.fetch_token(None).await?);
        Ok(())
    }

    /// Gets another token for the API, after a stronger proof of who this is.
    pub async fn step_up(&mut self, level: &str) -> anyhow::Result<()> {
        self.token = Some(self.fetch_token(Some(level)).await?);
        Ok(())
    }

    /// Keycloak's pages: picks this person, gives the one-time code where one is asked for, and gives the address that it leads
    /// back to.
    async fn choose_myself(&self, authorization_url: String) -> anyhow::Result<String> {
        let mut answer = self.client.get(&authorization_url).send().await?.error_for_status()?;
        while !answer.status().is_redirection() {
            let page = answer.text().await?;
            let filled = client::fill_in(&page, self.username);
            let Filled { action, field } =
                filled.context("Keycloak's page has no form, or refused what was entered")?;
            answer = self.client.post(action).form(&[field]).send().await?.error_for_status()?;
        }
        location(&answer)
    }

    /// The code flow once more, as a program that may use the shell's client.
    async fn fetch_token(&self, level: Option<&str>) -> anyhow::Result<String> {
        let endpoint = |name: &str| format!("{}/protocol/openid-connect/{name}", self.issuer);
        let (verifier, challenge) = (client::VERIFIER, client::challenge(client::VERIFIER));
        let redirect_uri = format!("{}/auth/callback", self.origin);
        let (client_id, client_secret) = ("chancery-shell", "demo-only-chancery-shell");
        let mut url = Url::parse(&endpoint("auth"))?;
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", client_id),
            ("redirect_uri", &redirect_uri),
            ("scope", "openid"),
            ("state", "demo"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        if let Some(level) = level {
            let acr = serde_json::json!({ "essential": true, "values": [level] });
            let claims = serde_json::json!({ "id_token": { "acr": acr } });
            url.query_pairs_mut().append_pair("claims", &claims.to_string());
        }
        let back = Url::parse(&self.choose_myself(url.into()).await?)?;
        let code = back
            .query_pairs()
            .find(|(name, _)| name == "code")
            .context("Keycloak gave no code")?
            .1
            .into_owned();
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &redirect_uri),
            ("code_verifier", verifier),
            ("client_id", client_id),
            ("client_secret", client_secret),
        ];
        let answer: Value =
            self.client.post(endpoint("token")).form(&form).send().await?.error_for_status()?.json().await?;
        answer["access_token"].as_str().map(str::to_owned).context("Keycloak gave no access token")
    }

    /// One request with this browser's cookies, and takes those of the answer.
    async fn browse(&self, method: Method, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Response> {
        let cookies: String = {
            let cookies = self.cookies.lock().map_err(|_| anyhow::anyhow!("the cookies are lost"))?;
            cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
        };
        let mut request = self.client.request(method, url).header(header::COOKIE, cookies);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let mut cookies = self.cookies.lock().map_err(|_| anyhow::anyhow!("the cookies are lost"))?;
        for cookie in response.headers().get_all(header::SET_COOKIE) {
            let (pair, attributes) = cookie.to_str()?.split_once(';').unwrap_or((cookie.to_str()?, ""));
            let (name, value) = pair.split_once('=').context("a cookie has no value")?;
            if attributes.to_ascii_lowercase().contains("max-age=0") {
                cookies.remove(name.trim());
            } else {
                cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
        drop(cookies);
        Ok(response)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let token = self.token.as_deref().context("nobody has signed in")?;
        let mut request = self
            .client
            .request(method, format!("{}/api/v1{path}", self.origin))
            .query(query)
            .bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        Ok(request.send().await?)
    }

    async fn call_for_json(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let name = method.to_string();
        let response = self.call(method, path, query, body).await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "{name} {path} was answered with {status}: {text}");
        serde_json::from_str(&text).with_context(|| format!("{name} {path} was not answered with JSON"))
    }

    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        self.call_for_json(Method::GET, path, query, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call_for_json(Method::POST, path, &[], Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call_for_json(Method::PATCH, path, &[], Some(body)).await
    }

    /// The level of authentication that the answer to a change asks for (RFC 9470, section 3), if it does.
    pub async fn asked_level(&self, path: &str, body: &Value) -> anyhow::Result<Option<String>> {
        let response = self.call(Method::PATCH, path, &[], Some(body)).await?;
        let challenge = response.headers().get(header::WWW_AUTHENTICATE);
        let challenge = challenge.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let asked = challenge.contains("error=\"insufficient_user_authentication\"");
        let level = challenge.split("acr_values=\"").nth(1).and_then(|rest| rest.split('"').next());
        Ok(level.filter(|_| asked).map(str::to_owned))
    }

    pub async fn status_of(&self, path: &str) -> anyhow::Result<u16> {
        Ok(self.call(Method::GET, path, &[], None).await?.status().as_u16())
    }

    /// The id of the tenant with this path.
    pub async fn tenant(&self, path: &str) -> anyhow::Result<String> {
        let me = self.get("/me", &[]).await?;
        let tenants = me["tenants"].as_array().into_iter().flatten();
        let tenant =
            tenants.into_iter().find(|tenant| tenant["path"] == path).context("one is not in the tenant")?;
        tenant["id"].as_str().map(str::to_owned).context("the tenant has no id")
    }

    /// Opens the shell's event stream with the session.
    pub async fn events(&self, tenant: &str) -> anyhow::Result<EventStream> {
        let url = format!("{}/app/t/{tenant}/events", self.origin);
        let response = self.browse(Method::GET, &url, &[("accept", "text/event-stream")]).await?;
        ensure!(response.status().is_success(), "the stream was answered with {}", response.status());
        Ok(EventStream { response, unread: String::new() })
    }

    /// What a customer's program posts to Chatwoot.
    pub async fn post_public(&self, url: &str, body: &Value) -> anyhow::Result<Value> {
        Ok(self.client.post(url).json(body).send().await?.error_for_status()?.json().await?)
    }

    pub async fn get_chatwoot(&self, url: &str, token: &SecretString) -> anyhow::Result<Value> {
        Ok(self
            .client
            .get(url)
            .header("api-access-token", token.expose_secret())
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    }

    /// Whether the tenant's room tells of the approval's decision.
    pub async fn matrix_has(&self, matrix: &str, state: &AppState, approval: &str) -> anyhow::Result<bool> {
        let token = state.config.matrix.as_token.expose_secret();
        let tenant = self.tenant("/organizations/acme-corp").await?.replace('-', "");
        let alias = format!(
            "#{}_approvals_{tenant}:{}",
            state.config.matrix.sender_localpart, state.config.matrix.server_name
        );
        let alias =
            percent_encoding::utf8_percent_encode(&alias, percent_encoding::NON_ALPHANUMERIC).to_string();
        let found = self
            .client
            .get(format!("{matrix}_matrix/client/v3/directory/room/{alias}"))
            .bearer_auth(token)
            .send()
            .await?;
        if found.status() == 404 {
            return Ok(false);
        }
        let found: Value = found.error_for_status()?.json().await?;
        let room = found["room_id"].as_str().context("the alias leads to no room")?;
        let room = percent_encoding::utf8_percent_encode(room, percent_encoding::NON_ALPHANUMERIC);
        let url = format!("{matrix}_matrix/client/v3/rooms/{room}/messages?dir=b&limit=20");
        let timeline: Value =
            self.client.get(url).bearer_auth(token).send().await?.error_for_status()?.json().await?;
        Ok(timeline["chunk"].as_array().into_iter().flatten().any(|event| {
            // The notice that waits for a decision is changed to what came of it.
            let content = &event["content"];
            let body = content["m.new_content"]["body"].as_str().or_else(|| content["body"].as_str());
            let body = body.unwrap_or_default();
            body.starts_with("Approved by") && body.contains(approval)
        }))
    }

    /// Opens a room in Jitsi with the link that it was given.
    pub async fn enter_room(&self, link: &str) -> anyhow::Result<()> {
        let response = self.client.get(link).header(header::ACCEPT, "application/json").send().await?;
        let status = response.status();
        let answer: Value = response.json().await?;
        if !status.is_success() || answer["joined"] != true {
            bail!("Jitsi did not let {} in: {answer}", self.username);
        }
        Ok(())
    }
}

fn location(response: &Response) -> anyhow::Result<String> {
    let location = response.headers().get(header::LOCATION);
    let location = location.with_context(|| {
        format!("{} did not lead on, but answered {}", response.url().path(), response.status())
    })?;
    Ok(location.to_str()?.to_owned())
}

fn join(origin: &str, path: &str) -> anyhow::Result<String> {
    Ok(Url::parse(origin)?.join(path)?.into())
}

/// An open event stream.
pub(super) struct EventStream {
    response: Response,
    unread: String,
}

impl EventStream {
    /// Waits for the event of this type about this thing.
    pub async fn wait_for(&mut self, event_type: &str, id: &str) -> anyhow::Result<()> {
        let wait = async {
            loop {
                while let Some((message, rest)) = self.unread.split_once("\n\n") {
                    let found = message.lines().any(|line| line == format!("event: {event_type}"))
                        && message.contains(id);
                    let rest = rest.to_owned();
                    self.unread = rest;
                    if found {
                        return Ok(());
                    }
                }
                let chunk = self.response.chunk().await?.context("the stream ended")?;
                self.unread.push_str(&String::from_utf8_lossy(&chunk));
            }
        };
        tokio::time::timeout(STEP_DEADLINE, wait)
            .await
            .with_context(|| format!("{event_type} did not come"))?
    }
}
