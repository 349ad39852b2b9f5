//! What `event_sync_component` tells: rooms that come and go, and who is in them.

use chrono::{DateTime, Utc};
use reqwest::Client;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::Occupant;

/// Where events go to.
#[derive(Debug, Clone)]
pub struct Events {
    /// `api_prefix`: `/events/room/created` and the like are added to it.
    pub url: Url,
    /// The header `Authorization` of `api_headers`.
    pub authorization: Option<SecretString>,
}

/// Somebody who was in a room: until when, where it is over.
pub(super) fn occupant(room_jid: &str, occupant: &Occupant, left_at: Option<DateTime<Utc>>) -> Value {
    let mut told = json!({
        "name": occupant.name,
        "email": occupant.email,
        "id": occupant.id,
        "occupant_jid": format!("{room_jid}/{}", occupant.nick),
        "joined_at": occupant.joined_at.timestamp(),
    });
    if let Some(left_at) = left_at {
        told["left_at"] = left_at.timestamp().into();
    }
    told
}

impl Events {
    /// Tells one; again where the other server fails, three times at most.
    pub(super) async fn tell(
        &self,
        http: &Client,
        path: &str,
        name: &str,
        room: &str,
        domain: &str,
        told: Value,
    ) {
        let mut body = json!({
            "event_name": name,
            "room_name": room,
            "room_jid": format!("{room}@muc.{domain}"),
            "is_breakout": false,
        });
        if let (Some(body), Value::Object(told)) = (body.as_object_mut(), told) {
            body.extend(told);
        }
        let url = format!("{}/events/{path}", self.url.as_str().trim_end_matches('/'));
        for _ in 0..3 {
            let mut request = http.post(&url).json(&body);
            if let Some(authorization) = &self.authorization {
                request = request.header("authorization", authorization.expose_secret());
            }
            if request.send().await.is_ok_and(|answer| !answer.status().is_server_error()) {
                return;
            }
        }
    }
}
