//! Sign-in with OpenID Connect Core 1.0: authorization code with PKCE (RFC 7636), state, nonce, and the issuer in the
//! answer (RFC 9207).

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use openidconnect::{
    AuthorizationCode, ClientId, ClientSecret, HttpRequest, HttpResponse, IssuerUrl, Nonce,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, TokenResponse as _, TokenUrl,
    core::{CoreClient, CoreJsonWebKeySet, CoreJwsSigningAlgorithm},
};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::{
    bearer::SKEW_SECONDS,
    keys::{Keys, Provider},
    login_state::LoginState,
};
use crate::{
    clock::SharedClock,
    config::KeycloakConfig,
    ids::{SharedIds, UserId},
};

const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Why somebody can't be signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Keycloak doesn't answer.
    #[error("Keycloak can't be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Keycloak's answer isn't acceptable.
    #[error("Keycloak's answer is not acceptable: {0}")]
    Refused(String),
}

/// Who signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// The user.
    pub user: UserId,
    /// Keycloak's session.
    pub keycloak_session: Option<String>,
    /// The raw ID token.
    pub id_token: String,
}

/// The client of the realm that signs people in.
#[derive(Debug)]
pub struct OpenIdClient {
    keys: Arc<Keys>,
    client_id: String,
    client_secret: secrecy::SecretString,
    http: reqwest::Client,
    clock: SharedClock,
    ids: SharedIds,
}

/// The way to Keycloak, and what to remember until the way back.
#[derive(Debug)]
pub(super) struct Departure {
    pub url: url::Url,
    pub state: LoginState,
}

#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("no usable answer")]
    Request(#[from] reqwest::Error),
    #[error("the answer can't be read")]
    Response(#[from] openidconnect::http::Error),
    #[error("the answer is too large")]
    TooLarge,
}

/// What we read of an ID token beyond what the library checks.
#[derive(Debug, Deserialize)]
struct KeycloakClaims {
    sub: UserId,
    typ: Option<String>,
    azp: Option<String>,
    sid: Option<String>,
}

fn refused(error: impl std::fmt::Display) -> SignInError {
    SignInError::Refused(error.to_string())
}

impl OpenIdClient {
    /// A client for the realm of `keys`.
    ///
    /// # Errors
    /// Where the TLS back end can't be set up.
    pub fn new(
        config: &KeycloakConfig,
        keys: Arc<Keys>,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(super::keys::DEADLINE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            keys,
            client_id: config.client_id.clone(),
            client_secret: config.client_secret.clone(),
            http,
            clock,
            ids,
        })
    }

    /// Leaves for Keycloak.
    pub(super) async fn depart(
        &self,
        redirect_uri: String,
        return_to: String,
        login_hint: Option<String>,
    ) -> Result<Departure, SignInError> {
        let provider = self.provider().await?;
        let (state, nonce, verifier) = (self.random(), self.random(), PkceCodeVerifier::new(self.random()));
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
        let mut url = provider.metadata.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &redirect_uri)
            .append_pair("scope", "openid profile email")
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", challenge.as_str())
            .append_pair("code_challenge_method", "S256");
        if let Some(hint) = login_hint {
            url.query_pairs_mut().append_pair("login_hint", &hint);
        }
        let begun_at = self.clock.now();
        let state = LoginState {
            state,
            nonce,
            pkce_verifier: verifier.secret().clone(),
            redirect_uri,
            return_to,
            begun_at,
        };
        Ok(Departure { url, state })
    }

    /// Comes back from Keycloak with a code.
    pub(super) async fn arrive(
        &self,
        login: &LoginState,
        code: String,
        issuer: Option<&str>,
    ) -> Result<SignedIn, SignInError> {
        let provider = self.provider().await?;
        if issuer.is_some_and(|issuer| issuer != provider.metadata.issuer) {
            return Err(SignInError::Refused("the answer is from another issuer".to_owned()));
        }
        let client = self
            .client(&provider)?
            .set_redirect_uri(RedirectUrl::new(login.redirect_uri.clone()).map_err(refused)?)
            .set_token_uri(TokenUrl::from_url(provider.metadata.token_endpoint.clone()));
        let http = self.http.clone();
        let http = move |request| call(http.clone(), request);
        let answer = client
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(PkceCodeVerifier::new(login.pkce_verifier.clone()))
            .request_async(&http)
            .await
            .map_err(|error| match error {
                openidconnect::RequestTokenError::Request(source) => {
                    SignInError::Unavailable(Box::new(source))
                }
                openidconnect::RequestTokenError::ServerResponse(response) => {
                    SignInError::Refused(response.error().to_string())
                }
                error => SignInError::Refused(error.to_string()),
            })?;
        let id_token = answer.id_token().ok_or_else(|| refused("there is no ID token"))?.to_string();
        self.verify(provider, &id_token, &login.nonce).await
    }

    /// Checks an ID token: signature, algorithm, issuer, audience, times and nonce by the library, then what is Keycloak's.
    async fn verify(
        &self,
        provider: Arc<Provider>,
        id_token: &str,
        nonce: &str,
    ) -> Result<SignedIn, SignInError> {
        // A rotation may have happened since the keys were fetched.
        let provider = match jsonwebtoken::decode_header(id_token).ok().and_then(|header| header.kid) {
            Some(key_id) => self
                .keys
                .provider_with(&key_id)
                .await
                .map_err(|error| SignInError::Unavailable(Box::new(error)))?,
            None => provider,
        };
        let now = self.clock.now();
        let skew = TimeDelta::seconds(SKEW_SECONDS);
        let client = self.client(&provider)?;
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs([
                CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
                CoreJwsSigningAlgorithm::RsaSsaPssSha256,
                CoreJwsSigningAlgorithm::EcdsaP256Sha256,
                CoreJwsSigningAlgorithm::EdDsa,
            ])
            // The library knows no skew: it gets a time that is a little earlier.
            .set_time_fn(move || now - skew)
            .set_issue_time_verifier_fn(move |issued| {
                if issued <= now + skew { Ok(()) } else { Err("issued in the future".to_owned()) }
            });
        let token: openidconnect::core::CoreIdToken = id_token.parse().map_err(refused)?;
        token.claims(&verifier, &Nonce::new(nonce.to_owned())).map_err(refused)?;
        // The signature covers the payload, so it can be read as it is.
        let payload = id_token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let claims: KeycloakClaims = payload
            .and_then(|payload| serde_json::from_slice(&payload).ok())
            .ok_or_else(|| refused("claims"))?;
        if claims.typ.as_deref().is_some_and(|typ| typ != "ID") {
            return Err(refused("the token is not an ID token"));
        }
        if claims.azp.is_some_and(|azp| azp != self.client_id) {
            return Err(refused("the token is for another client"));
        }
        Ok(SignedIn { user: claims.sub, keycloak_session: claims.sid, id_token: id_token.to_owned() })
    }

    /// Where to go to sign out of Keycloak too (OpenID Connect RP-Initiated Logout 1.0).
    pub(super) async fn end_session_url(
        &self,
        id_token: &str,
        back_to: &str,
    ) -> Result<url::Url, SignInError> {
        let provider = self.provider().await?;
        let mut url = provider.metadata.end_session_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("id_token_hint", id_token)
            .append_pair("client_id", &self.client_id)
            .append_pair("post_logout_redirect_uri", back_to);
        Ok(url)
    }

    fn client(&self, provider: &Provider) -> Result<CoreClient, SignInError> {
        let keys: CoreJsonWebKeySet = serde_json::from_value(provider.raw_keys.clone()).map_err(refused)?;
        let issuer = IssuerUrl::new(provider.metadata.issuer.clone()).map_err(refused)?;
        Ok(CoreClient::new(ClientId::new(self.client_id.clone()), issuer, keys)
            .set_client_secret(ClientSecret::new(self.client_secret.expose_secret().to_owned())))
    }

    async fn provider(&self) -> Result<Arc<Provider>, SignInError> {
        self.keys.provider().await.map_err(|error| SignInError::Unavailable(Box::new(error)))
    }

    fn random(&self) -> String {
        let mut bytes = [0; 32];
        self.ids.fill(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// The library's request over our HTTP client.
async fn call(http: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let mut response = http.execute(request.try_into()?).await.map_err(reqwest::Error::without_url)?;
    let mut builder = openidconnect::http::Response::builder().status(response.status());
    for (name, value) in response.headers() {
        builder = builder.header(name, value);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(HttpError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(builder.body(body)?)
}
