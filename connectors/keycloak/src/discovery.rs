use connector_core::{ConnectorError, ErrorKind, HttpClient};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use crate::SERVICE;

/// What a realm says about itself (OpenID Connect Discovery 1.0, section 3).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProviderMetadata {
    /// The exact `iss` of the realm's tokens.
    pub issuer: String,
    /// Where to send a browser to sign in.
    pub authorization_endpoint: Url,
    /// Where to exchange codes and refresh tokens.
    pub token_endpoint: Url,
    /// Where the signing keys are.
    pub jwks_uri: Url,
    /// Where to ask about the person of an access token.
    pub userinfo_endpoint: Url,
    /// Where to send a browser to sign out (OpenID Connect RP-Initiated Logout 1.0).
    pub end_session_endpoint: Url,
}

/// Reads the metadata of `issuer` (`https://keycloak.example/realms/chancery`).
///
/// # Errors
/// See [`ErrorKind`]; [`ErrorKind::Misconfigured`] where the server calls itself by another name than it was asked by
/// (OpenID Connect Discovery 1.0, section 4.3): its tokens would carry an issuer that nobody expects.
pub async fn discover(issuer: &Url) -> Result<ProviderMetadata, ConnectorError> {
    let client = HttpClient::builder(SERVICE, issuer.clone()).build()?;
    let metadata: ProviderMetadata = client.get(&[".well-known", "openid-configuration"], &[], None).await?;
    if metadata.issuer.trim_end_matches('/') != issuer.as_str().trim_end_matches('/') {
        return Err(ConnectorError::new(
            ErrorKind::Misconfigured,
            SERVICE,
            format!("the server at {issuer} calls itself {}: set its hostname", metadata.issuer),
        ));
    }
    Ok(metadata)
}

/// Reads the key set (RFC 7517) at `jwks_uri`. It holds passive keys, and a key for encryption, beside the signing key:
/// take those whose `use` is `sig`. Keycloak's caching headers on it are not to be relied upon.
///
/// # Errors
/// See [`ErrorKind`].
pub async fn jwks(jwks_uri: &Url) -> Result<serde_json::Value, ConnectorError> {
    HttpClient::builder(SERVICE, jwks_uri.clone()).build()?.get(&[], &[], None).await
}

/// Whether the realm takes the client's secret. Asks for new tokens by a refresh token that is none: a client that is known is told
/// so (`invalid_grant`), and another is refused before (RFC 6749, section 5.2).
///
/// # Errors
/// See [`ErrorKind`]; where the server says neither.
pub async fn accepts_client(
    token_endpoint: &Url,
    client_id: &str,
    client_secret: &SecretString,
) -> Result<bool, ConnectorError> {
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "none"),
        ("client_id", client_id),
        ("client_secret", client_secret.expose_secret()),
    ];
    let client = HttpClient::builder(SERVICE, token_endpoint.clone()).build()?;
    match client.post_form::<serde_json::Value>(&[], &form).await {
        Err(error) if error.code.as_deref() == Some("invalid_grant") => Ok(true),
        Err(error) if error.kind == ErrorKind::Unauthorised => Ok(false),
        Err(error) => Err(error),
        Ok(_) => {
            Err(ConnectorError::new(ErrorKind::Misconfigured, SERVICE, "the server gave tokens for nothing"))
        }
    }
}
