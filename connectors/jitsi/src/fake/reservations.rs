//! What `mod_reservations` does: a room is made once another server has said that it may be.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::{Client, RequestBuilder, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

/// Where rooms are asked for (`reservations_api_prefix`).
#[derive(Debug, Clone)]
pub struct Reservations {
    /// `/conference` is added to it.
    pub url: Url,
    /// The header `Authorization` of `reservations_api_headers`.
    pub authorization: Option<SecretString>,
}

/// A room that may be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Reserved {
    id: Value,
    /// When the room is destroyed.
    pub ends_at: DateTime<Utc>,
}

const BROKEN: &str = "Unable to create a room: the reservation can't be read";

impl Reservations {
    fn request(&self, http: &Client, method: reqwest::Method, path: &str) -> RequestBuilder {
        let url = format!("{}/conference{path}", self.url.as_str().trim_end_matches('/'));
        let request = http.request(method, url);
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization.expose_secret()),
            None => request,
        }
    }

    /// Asks for a room; the refusal is what the person sees.
    pub(super) async fn reserve(
        &self,
        http: &Client,
        room: &str,
        owner: &str,
        now: DateTime<Utc>,
    ) -> Result<Reserved, String> {
        let unreachable = |_| "Unable to create a room: no reservation".to_owned();
        let start_time = now.to_rfc3339_opts(SecondsFormat::Millis, true);
        let form = [("name", room), ("start_time", &start_time), ("mail_owner", owner)];
        let posted = self.request(http, reqwest::Method::POST, "").form(&form).send().await;
        let mut answer = posted.map_err(unreachable)?;
        if answer.status().as_u16() == 409 {
            let conflict: Value = answer.json().await.map_err(|_| BROKEN.to_owned())?;
            let id = plain(conflict.get("conflict_id").ok_or(BROKEN)?);
            let found = self.request(http, reqwest::Method::GET, &format!("/{id}")).send().await;
            answer = found.map_err(unreachable)?;
        }
        read(answer, room).await
    }

    /// Says that the room is gone.
    pub(super) async fn release(&self, http: &Client, reserved: &Reserved) {
        let path = format!("/{}", plain(&reserved.id));
        // Nobody is told where this fails; what was reserved ends by time, too.
        let _ = self.request(http, reqwest::Method::DELETE, &path).send().await;
    }
}

fn plain(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

async fn read(answer: Response, room: &str) -> Result<Reserved, String> {
    let status = answer.status();
    let body: Value = answer.json().await.map_err(|_| BROKEN.to_owned())?;
    if !matches!(status.as_u16(), 200 | 201) {
        let told = body.get("message").and_then(Value::as_str);
        return Err(told.unwrap_or("The room may not be created").to_owned());
    }
    let text = |name: &str| body.get(name).and_then(Value::as_str).ok_or(BROKEN);
    if !text("name")?.eq_ignore_ascii_case(room) {
        return Err(BROKEN.to_owned());
    }
    text("mail_owner")?;
    let starts_at: DateTime<Utc> = text("start_time")?.parse().map_err(|_| BROKEN.to_owned())?;
    let seconds = body.get("duration").and_then(Value::as_i64).ok_or(BROKEN)?;
    let id = body.get("id").filter(|id| !id.is_null()).ok_or(BROKEN)?.clone();
    Ok(Reserved { id, ends_at: starts_at + TimeDelta::seconds(seconds) })
}
