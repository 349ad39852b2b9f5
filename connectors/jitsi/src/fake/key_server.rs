use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use url::Url;

/// `get_public_key` of `token/util.lib.lua`: asks the key server once for each id, and keeps what it got.
#[derive(Debug)]
pub(super) struct KeyServer {
    base: String,
    http: reqwest::Client,
    known: Mutex<HashMap<String, String>>,
}

impl KeyServer {
    pub fn new(url: &Url) -> Self {
        Self {
            base: url.as_str().trim_end_matches('/').to_owned(),
            http: reqwest::Client::builder().no_proxy().build().unwrap_or_default(),
            known: Mutex::default(),
        }
    }

    /// The PEM for this key's id; none where the key server has none, or doesn't answer.
    pub async fn public_key(&self, key_id: &str) -> Option<String> {
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key_id) {
            return Some(known.clone());
        }
        let url = format!("{}/{}.pem", self.base, hex::encode(Sha256::digest(key_id)));
        let answer = self.http.get(url).timeout(Duration::from_secs(30)).send().await.ok()?;
        if !matches!(answer.status().as_u16(), 200 | 204) {
            return None;
        }
        let public = answer.text().await.ok()?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key_id.to_owned(), public.clone());
        Some(public)
    }
}
