//! Sealing secrets at rest: AES-256-GCM (NIST SP 800-38D) under the master key, with the key's id in front so that keys
//! can be rotated, and the purpose as associated data so that a sealed value can't be used in another place.

use std::path::{Path, PathBuf};

use aes_gcm::{
    Aes256Gcm, KeyInit as _, Nonce,
    aead::{Aead as _, Payload},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use crate::ids::IdGenerator;

const VERSION: u8 = 1;
const KEY_ID_LENGTH: usize = 4;
const NONCE_LENGTH: usize = 12;
const KEY_LENGTH: usize = 32;

/// What can go wrong with the master key and what it sealed.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// The key file can't be read.
    #[error("the master key in {} can't be read", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key file holds something else.
    #[error("the master key in {} must be lines of 32 bytes in base64, the current key first", path.display())]
    KeyFormat {
        /// The file.
        path: PathBuf,
    },
    /// The value was sealed by a key that is not in the file, for another purpose, or was changed.
    #[error("a sealed value can't be opened: its key is missing, or the value was changed")]
    Unsealable,
}

struct Key {
    id: [u8; KEY_ID_LENGTH],
    cipher: Aes256Gcm,
}

/// The master key, and the older ones that still open what they sealed.
pub struct MasterKey(Vec<Key>);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "MasterKey({} keys)", self.0.len())
    }
}

impl MasterKey {
    /// Reads the key file: one key a line, 32 bytes in base64; the first seals, all open.
    ///
    /// # Errors
    /// [`CryptoError::KeyFile`], [`CryptoError::KeyFormat`].
    pub fn read(path: &Path) -> Result<Self, CryptoError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| CryptoError::KeyFile { path: path.to_owned(), source })?;
        let keys: Option<Vec<Key>> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Self::parse).collect();
        match keys {
            Some(keys) if !keys.is_empty() => Ok(Self(keys)),
            _ => Err(CryptoError::KeyFormat { path: path.to_owned() }),
        }
    }

    fn parse(line: &str) -> Option<Key> {
        let bytes = STANDARD.decode(line).ok()?;
        (bytes.len() == KEY_LENGTH).then_some(())?;
        let mut id = [0; KEY_ID_LENGTH];
        id.copy_from_slice(&Sha256::digest(&bytes)[..KEY_ID_LENGTH]);
        Some(Key { id, cipher: Aes256Gcm::new_from_slice(&bytes).ok()? })
    }

    /// The text of a new key file.
    pub fn generate(ids: &dyn IdGenerator) -> String {
        let mut bytes = [0; KEY_LENGTH];
        ids.fill(&mut bytes);
        format!("{}\n", STANDARD.encode(bytes))
    }

    /// A key that lives as long as this value; for tests.
    ///
    /// # Errors
    /// Never in practice: the generated text is a key.
    pub fn ephemeral(ids: &dyn IdGenerator) -> Result<Self, CryptoError> {
        let key = Self::parse(Self::generate(ids).trim()).ok_or(CryptoError::Unsealable)?;
        Ok(Self(vec![key]))
    }

    /// Seals `plain` for `purpose`.
    ///
    /// # Errors
    /// [`CryptoError::Unsealable`] where the cipher refuses (more than 64 GiB).
    pub fn seal(&self, ids: &dyn IdGenerator, purpose: &str, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let key = self.0.first().ok_or(CryptoError::Unsealable)?;
        let mut nonce = [0; NONCE_LENGTH];
        ids.fill(&mut nonce);
        let payload = Payload { msg: plain, aad: purpose.as_bytes() };
        let sealed = key.cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| CryptoError::Unsealable)?;
        let mut value = Vec::with_capacity(1 + KEY_ID_LENGTH + NONCE_LENGTH + sealed.len());
        value.push(VERSION);
        value.extend_from_slice(&key.id);
        value.extend_from_slice(&nonce);
        value.extend_from_slice(&sealed);
        Ok(value)
    }

    /// Opens what was sealed for `purpose`.
    ///
    /// # Errors
    /// [`CryptoError::Unsealable`].
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let (version, rest) = sealed.split_first().ok_or(CryptoError::Unsealable)?;
        if *version != VERSION || rest.len() < KEY_ID_LENGTH + NONCE_LENGTH {
            return Err(CryptoError::Unsealable);
        }
        let (id, rest) = rest.split_at(KEY_ID_LENGTH);
        let (nonce, sealed) = rest.split_at(NONCE_LENGTH);
        let key = self.0.iter().find(|key| key.id == id).ok_or(CryptoError::Unsealable)?;
        let nonce: [u8; NONCE_LENGTH] = nonce.try_into().map_err(|_| CryptoError::Unsealable)?;
        let payload = Payload { msg: sealed, aad: purpose.as_bytes() };
        key.cipher.decrypt(&Nonce::from(nonce), payload).map_err(|_| CryptoError::Unsealable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RandomIds;

    #[test]
    fn what_was_sealed_opens_only_for_its_purpose_and_unchanged() {
        let key = MasterKey::ephemeral(&RandomIds).unwrap();
        let mut sealed = key.seal(&RandomIds, "webhook secret", b"hello").unwrap();
        assert_eq!(key.open("webhook secret", &sealed).unwrap(), b"hello");
        assert!(key.open("session", &sealed).is_err());
        assert!(MasterKey::ephemeral(&RandomIds).unwrap().open("webhook secret", &sealed).is_err());
        *sealed.last_mut().unwrap() ^= 1;
        assert!(key.open("webhook secret", &sealed).is_err());
        assert!(key.open("webhook secret", b"\x01short").is_err());
    }
}
