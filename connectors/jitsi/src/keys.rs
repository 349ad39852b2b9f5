use std::collections::BTreeMap;

use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::JitsiError;

/// The media type of a key file.
pub const KEY_CONTENT_TYPE: &str = "application/x-pem-file";

/// The name of the file in which a Jitsi server looks for the key with this id, below its `asap_key_server`: the
/// hexadecimal SHA-256 of the id, and `.pem` (`token/util.lib.lua`).
pub fn key_file_name(key_id: &str) -> String {
    format!("{}.pem", hex::encode(Sha256::digest(key_id.as_bytes())))
}

/// A new private key to sign with: RSA of 2,048 bits, PKCS #8 in PEM.
///
/// # Errors
/// [`JitsiError::Signing`] where the machine has no randomness.
pub fn new_private_key() -> Result<SecretString, JitsiError> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| JitsiError::Signing)?;
    let private: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| JitsiError::Signing)?;
    Ok(write_pem("PRIVATE KEY", private.as_ref()).into())
}

/// The public halves of our signing keys, as a Jitsi server fetches them by `GET {asap_key_server}/{file name}`.
///
/// The server asks once for each id and keeps what it got until it is restarted. To change the key, publish a new one under
/// a new id, sign with it, and keep the old one here until the last token that it signed has expired.
#[derive(Debug, Clone, Default)]
pub struct PublishedKeys(BTreeMap<String, String>);

impl PublishedKeys {
    /// Publishes the public half of `private_key_pem` (PKCS #1 or PKCS #8, 2,048 bits or more) under `key_id`.
    ///
    /// # Errors
    /// [`JitsiError::PrivateKey`] where it is no such key, [`JitsiError::KeyId`] where the id is empty or is another key's:
    /// a server that knows the other would go on with it.
    pub fn publish(&mut self, key_id: &str, private_key_pem: &SecretString) -> Result<(), JitsiError> {
        let public = public_key_pem(private_key_pem)?;
        let name = key_file_name(key_id);
        if key_id.is_empty() || self.0.get(&name).is_some_and(|known| *known != public) {
            return Err(JitsiError::KeyId);
        }
        self.0.insert(name, public);
        Ok(())
    }

    /// The file of this name: a public key (SubjectPublicKeyInfo, RFC 5280) in PEM.
    pub fn file(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

fn public_key_pem(private_key_pem: &SecretString) -> Result<String, JitsiError> {
    let private = pem::parse(private_key_pem.expose_secret()).map_err(|_| JitsiError::PrivateKey)?;
    let pair = match private.tag() {
        "PRIVATE KEY" => KeyPair::from_pkcs8(private.contents()),
        "RSA PRIVATE KEY" => KeyPair::from_der(private.contents()),
        _ => return Err(JitsiError::PrivateKey),
    };
    let pair = pair.map_err(|_| JitsiError::PrivateKey)?;
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| JitsiError::PrivateKey)?;
    Ok(write_pem("PUBLIC KEY", public.as_ref()))
}

fn write_pem(tag: &str, der: &[u8]) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), lines)
}
