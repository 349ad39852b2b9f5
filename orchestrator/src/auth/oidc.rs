//! Sign-in with OpenID Connect Core 1.0: authorization code with PKCE (RFC 7636), state, nonce, and the issuer in the
//! answer (RFC 9207).

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use openidconnect::{
    AuthorizationCode, ClientId, ClientSecret, HttpRequest, HttpResponse, IssuerUrl, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    TokenResponse as _, TokenUrl,
    core::{CoreClient, CoreErrorResponseType, CoreJsonWebKeySet, CoreJwsSigningAlgorithm},
};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::{
    bearer::SKEW_SECONDS,
    keys::{Keys, Provider},
    login_state::{LoginState, StepUp},
    session::Session,
    step_up::Authentication,
};
use crate::{
    clock::SharedClock,
    config::{KeycloakConfig, StepUpConfig},
    http::problem::ErrorChain,
    ids::{SharedIds, UserId},
};

const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// Keycloak's session is looked at when the access token has run out, but not more often, and not less.
const LEAST_PROOF: TimeDelta = TimeDelta::seconds(30);
const MOST_PROOF: TimeDelta = TimeDelta::minutes(10);

/// Why somebody can't be signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Keycloak doesn't answer.
    #[error("Keycloak can't be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Keycloak's answer isn't acceptable.
    #[error("Keycloak's answer is not acceptable: {0}")]
    Refused(String),
    /// Whoever was to prove again who they are came back as somebody else.
    #[error("somebody else came back")]
    OtherPerson,
    /// The level or the time of the sign-in isn't what was asked for.
    #[error("the sign-in is not as strong or as recent as was asked for")]
    TooWeak,
}

/// Who signed in.
pub struct SignedIn {
    /// The user.
    pub user: UserId,
    /// Keycloak's session.
    pub keycloak_session: Option<String>,
    /// The raw ID token.
    pub id_token: String,
    /// What Keycloak's session is looked at with.
    pub refresh_token: Option<String>,
    /// Until then Keycloak's session needn't be looked at: as long as the access token is good, which nothing else is
    /// done with.
    pub proven_until: DateTime<Utc>,
    /// How and when they proved who they are.
    pub authentication: Authentication,
}

impl std::fmt::Debug for SignedIn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SignedIn").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What came of looking at Keycloak's session.
pub(super) struct Renewed {
    /// The raw ID token, where there is a new one that could be verified.
    pub id_token: Option<String>,
    /// What to look with the next time.
    pub refresh_token: Option<String>,
    /// Until then Keycloak's session needn't be looked at.
    pub proven_until: DateTime<Utc>,
}

/// Why Keycloak's session could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum RefreshError {
    /// It has ended, or the user may not sign in any more.
    #[error("Keycloak's session is over")]
    Over,
    /// Nothing is known.
    #[error("Keycloak can't be asked")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The client of the realm that signs people in.
#[derive(Debug)]
pub struct OpenIdClient {
    keys: Arc<Keys>,
    client_id: String,
    client_secret: secrecy::SecretString,
    /// The levels of authentication, the lowest first.
    levels: Vec<String>,
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
    acr: Option<String>,
    auth_time: Option<i64>,
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
        step_up: &StepUpConfig,
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
            levels: step_up.levels.clone(),
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
        step_up: Option<StepUp>,
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
        if let Some(StepUp { required, .. }) = &step_up {
            url.query_pairs_mut()
                .append_pair("claims", &required.claims())
                .append_pair("max_age", &required.max_age_seconds.to_string());
        }
        let begun_at = self.clock.now();
        let state = LoginState {
            step_up,
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
        let claims = self.verify(provider, &id_token, Some(&login.nonce)).await?;
        let authentication = Authentication {
            level: claims.acr,
            at: claims.auth_time.and_then(|at| DateTime::from_timestamp(at, 0)),
        };
        if let Some(StepUp { required, user }) = &login.step_up {
            if claims.sub != *user {
                return Err(SignInError::OtherPerson);
            }
            // Keycloak was asked for it; whether it has done so is in the token.
            if !required.is_met(&self.levels, &authentication, self.clock.now()) {
                return Err(SignInError::TooWeak);
            }
        }
        Ok(SignedIn {
            user: claims.sub,
            keycloak_session: claims.sid,
            id_token,
            refresh_token: answer.refresh_token().map(|token| token.secret().clone()),
            proven_until: self.proven_until(answer.expires_in()),
            authentication,
        })
    }

    /// Asks Keycloak whether its session goes on, by using the refresh token.
    pub(super) async fn refresh(&self, session: &Session, token: &str) -> Result<Renewed, RefreshError> {
        let unavailable = |error: SignInError| RefreshError::Unavailable(Box::new(error));
        let provider = self.provider().await.map_err(unavailable)?;
        let client = self
            .client(&provider)
            .map_err(unavailable)?
            .set_token_uri(TokenUrl::from_url(provider.metadata.token_endpoint.clone()));
        let http = self.http.clone();
        let http = move |request| call(http.clone(), request);
        let token = RefreshToken::new(token.to_owned());
        let answer = client.exchange_refresh_token(&token).request_async(&http).await.map_err(|error| {
            match error {
                openidconnect::RequestTokenError::ServerResponse(response)
                    if *response.error() == CoreErrorResponseType::InvalidGrant =>
                {
                    RefreshError::Over
                }
                // Our own secret may be wrong, or Keycloak be in trouble: nothing is known of the session.
                error => RefreshError::Unavailable(Box::new(error)),
            }
        })?;
        let id_token = match answer.id_token() {
            Some(id_token) => {
                let id_token = id_token.to_string();
                match self.verify(provider, &id_token, None).await {
                    // OpenID Connect Core 1.0, section 12.2.
                    Ok(claims) if claims.sub != session.user => return Err(RefreshError::Over),
                    Ok(_) => Some(id_token),
                    Err(error) => {
                        // The old refresh token is used up: without the new one the session would end. The old ID token stays.
                        tracing::warn!(error = %ErrorChain(&error), "an ID token that came of a refresh could not be verified");
                        None
                    }
                }
            }
            None => None,
        };
        Ok(Renewed {
            id_token,
            refresh_token: answer.refresh_token().map(|token| token.secret().clone()),
            proven_until: self.proven_until(answer.expires_in()),
        })
    }

    fn proven_until(&self, lifetime: Option<Duration>) -> DateTime<Utc> {
        let lifetime = lifetime.and_then(|lifetime| TimeDelta::from_std(lifetime).ok());
        self.clock.now() + lifetime.unwrap_or(LEAST_PROOF).clamp(LEAST_PROOF, MOST_PROOF)
    }

    /// Checks an ID token: signature, algorithm, issuer, audience, times and nonce by the library, then what is
    /// Keycloak's. Without a nonce where it comes of a refresh.
    async fn verify(
        &self,
        provider: Arc<Provider>,
        id_token: &str,
        nonce: Option<&str>,
    ) -> Result<KeycloakClaims, SignInError> {
        // A rotation may have happened since the keys were fetched.
        let provider = match jsonwebtoken::decode_header(id_token).ok().and_then(|header| header.kid) {
            Some(key_id) => self
                .keys
                .provider_awaiting(&key_id)
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
        let expected = nonce.map(|nonce| Nonce::new(nonce.to_owned()));
        let same_nonce = |found: Option<&Nonce>| match (&expected, found) {
            (None, _) => Ok(()),
            (Some(expected), Some(found)) if expected.secret() == found.secret() => Ok(()),
            (Some(_), _) => Err("the nonce is another".to_owned()),
        };
        token.claims(&verifier, same_nonce).map_err(refused)?;
        // The signature covers the payload, so it can be read as it is.
        let payload = id_token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
        let claims: KeycloakClaims = payload
            .and_then(|payload| serde_json::from_slice(&payload).ok())
            .ok_or_else(|| refused("claims"))?;
        if claims.typ.as_deref() != Some("ID") {
            return Err(refused("the token is not an ID token"));
        }
        if claims.azp.as_deref().is_some_and(|azp| azp != self.client_id) {
            return Err(refused("the token is for another client"));
        }
        Ok(claims)
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
