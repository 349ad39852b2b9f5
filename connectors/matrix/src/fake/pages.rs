//! The page: rooms, their timeline, and a box to write as one of the people.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{
    Form, Router,
    extract::{Query, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use chrono::DateTime;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{
    FakeMatrix,
    homeserver::{Homeserver, Room, error},
};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("reload.js");
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors";
const LONGEST_MESSAGE: usize = 10_000;

pub(super) fn router(double: &Arc<FakeMatrix>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/write", post(write))
        .route("/_double/style.css", get(style))
        .route("/_double/reload.js", get(script))
        .route("/favicon.ico", get(StatusCode::NO_CONTENT))
        .layer(middleware::from_fn_with_state(policy(double), guard))
        .with_state(Arc::clone(double))
}

fn policy(double: &FakeMatrix) -> HeaderValue {
    let ancestors = match double.options.frame_ancestors.as_slice() {
        [] => "'none'".to_owned(),
        origins => origins.join(" "),
    };
    HeaderValue::from_str(&format!("{CONTENT_SECURITY_POLICY} {ancestors}"))
        .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

/// Headers for every page; and a form of another site is not accepted.
async fn guard(State(policy): State<HeaderValue>, request: Request, next: Next) -> Response {
    let foreign = request
        .headers()
        .get("sec-fetch-site")
        .is_some_and(|site| site.as_bytes() != b"same-origin" && site.as_bytes() != b"none");
    if foreign && request.method() == axum::http::Method::POST {
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    for (name, value) in [
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}

async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)
}

#[derive(Template)]
#[template(path = "index.html")]
struct Page {
    server_name: String,
    rooms: Vec<RoomLine>,
    open: Option<OpenRoom>,
}

struct RoomLine {
    id: String,
    name: String,
    is_space: bool,
    current: bool,
    last: Option<String>,
}

struct OpenRoom {
    id: String,
    name: String,
    alias: Option<String>,
    topic: Option<String>,
    members: usize,
    entries: Vec<Entry>,
    writers: Vec<Writer>,
}

struct Writer {
    id: String,
    label: String,
    chosen: bool,
}

struct Entry {
    is_message: bool,
    is_notice: bool,
    who: String,
    initial: String,
    pieces: Vec<Piece>,
    edited: bool,
    iso: String,
    clock_time: String,
}

/// A piece of a text: plain, or a link. The HTML of a message is not shown, so that nothing in it has to be trusted.
struct Piece {
    text: String,
    href: Option<String>,
}

#[derive(Deserialize)]
struct Chosen {
    room: Option<String>,
    #[serde(rename = "as")]
    writer: Option<String>,
}

async fn index(State(double): State<Arc<FakeMatrix>>, Query(chosen): Query<Chosen>) -> Response {
    let page = double.state.read(|homeserver| page(&double, homeserver, &chosen));
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn page(double: &FakeMatrix, homeserver: &Homeserver, chosen: &Chosen) -> Page {
    let mut rooms: Vec<(&String, &Room)> = homeserver.rooms.iter().collect();
    rooms.sort_by_key(|(_, room)| std::cmp::Reverse(room.last_change));
    let current = match &chosen.room {
        Some(id) => rooms.iter().find(|(known, _)| *known == id),
        None => rooms.iter().find(|(_, room)| !is_space(room)).or(rooms.first()),
    };
    let current = current.copied();
    Page {
        server_name: double.options.server_name.clone(),
        open: current.map(|(id, room)| open_room(double, homeserver, id, room, chosen.writer.as_deref())),
        rooms: rooms
            .iter()
            .map(|(id, room)| RoomLine {
                id: (*id).clone(),
                name: room_name(room),
                is_space: is_space(room),
                current: current.is_some_and(|(current, _)| current == *id),
                last: entries(homeserver, room).iter().rfind(|entry| entry.is_message).map(|entry| {
                    let text: String = entry.pieces.iter().map(|piece| piece.text.as_str()).collect();
                    text.lines().next().unwrap_or_default().to_owned()
                }),
            })
            .collect(),
    }
}

fn is_space(room: &Room) -> bool {
    room.text_of("m.room.create", "type") == Some("m.space")
}

fn room_name(room: &Room) -> String {
    room.text_of("m.room.name", "name")
        .or_else(|| room.text_of("m.room.canonical_alias", "alias"))
        .unwrap_or("A room without a name")
        .to_owned()
}

fn display_name(homeserver: &Homeserver, user: &str) -> String {
    homeserver.users.get(user).cloned().flatten().unwrap_or_else(|| user.to_owned())
}

fn open_room(
    double: &FakeMatrix,
    homeserver: &Homeserver,
    id: &str,
    room: &Room,
    writer: Option<&str>,
) -> OpenRoom {
    let bot = double.user_id(&double.options.sender_localpart);
    let mut writers = Vec::new();
    for (membership, note) in [("join", ""), ("invite", " (invited, joins by writing)")] {
        for event in room.members(membership) {
            let Some(user) = event.state_key.as_deref().filter(|user| *user != bot) else { continue };
            if homeserver.users.contains_key(user) {
                writers.push(Writer {
                    id: user.to_owned(),
                    label: format!("{}{note}", display_name(homeserver, user)),
                    chosen: writer == Some(user),
                });
            }
        }
    }
    OpenRoom {
        id: id.to_owned(),
        name: room_name(room),
        alias: room.text_of("m.room.canonical_alias", "alias").map(str::to_owned),
        topic: room.text_of("m.room.topic", "topic").map(str::to_owned),
        members: room.members("join").count(),
        entries: entries(homeserver, room),
        writers,
    }
}

/// The timeline: an edit changes the message that it replaces, and isn't a line of its own.
fn entries(homeserver: &Homeserver, room: &Room) -> Vec<Entry> {
    let edit_of = |content: &Value| {
        let relation = content.get("m.relates_to")?;
        let is_edit = relation.get("rel_type").and_then(Value::as_str) == Some("m.replace");
        is_edit.then(|| relation.get("event_id").and_then(Value::as_str).map(str::to_owned)).flatten()
    };
    // Only the sender's own edits count.
    let edits: BTreeMap<(String, &str), &str> = room
        .events
        .iter()
        .filter_map(|stored| {
            let target = edit_of(&stored.event.content)?;
            let body = stored.event.content.get("m.new_content")?.get("body")?.as_str()?;
            Some(((target, stored.event.sender.as_str()), body))
        })
        .collect();
    let mut entries = Vec::new();
    for stored in &room.events {
        let event = &stored.event;
        if edit_of(&event.content).is_some() {
            continue;
        }
        let who = display_name(homeserver, event.sender.as_str());
        let edit = edits.get(&(event.event_id.to_string(), event.sender.as_str()));
        let is_message = event.event_type == "m.room.message";
        let text = if is_message {
            edit.copied().or_else(|| event.body()).map(str::to_owned)
        } else {
            state_text(homeserver, room, event)
        };
        let Some(text) = text else { continue };
        let time = DateTime::from_timestamp_millis(event.origin_server_ts).unwrap_or_default();
        entries.push(Entry {
            is_message,
            is_notice: event.content.get("msgtype").and_then(Value::as_str) == Some("m.notice"),
            initial: who
                .trim_start_matches(['@', '_'])
                .chars()
                .next()
                .map(|c| c.to_uppercase().collect())
                .unwrap_or_default(),
            who,
            pieces: pieces(&text),
            edited: edit.is_some(),
            iso: time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            clock_time: time.format("%H:%M UTC").to_string(),
        });
    }
    entries
}

/// What a state event tells, after the name of its sender.
fn state_text(
    homeserver: &Homeserver,
    room: &Room,
    event: &crate::appservice::ClientEvent,
) -> Option<String> {
    let field = |name: &str| event.content.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    match event.event_type.as_str() {
        "m.room.create" if is_space(room) => Some("made this space".to_owned()),
        "m.room.create" => Some("made this room".to_owned()),
        "m.room.name" => Some(format!("named it “{}”", field("name")?)),
        "m.room.topic" => Some(format!("set the topic “{}”", field("topic")?)),
        "m.room.member" => {
            let user = event.state_key.as_deref()?;
            let own = user == event.sender.as_str();
            let name = display_name(homeserver, user);
            match field("membership")? {
                "join" => Some("joined".to_owned()),
                "invite" => Some(format!("invited {name}")),
                "leave" if own => Some("left".to_owned()),
                "leave" => Some(format!("removed {name}")),
                "ban" => Some(format!("banned {name}")),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Splits a text into links and what is between them.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for word in text.split_inclusive(char::is_whitespace) {
        let trimmed = word.trim_end();
        let address = trimmed.trim_end_matches(['.', ',', ')', '>', '!', '?', ';', ':']);
        let is_link = (address.starts_with("https://") || address.starts_with("http://"))
            && Url::parse(address).is_ok();
        if is_link {
            pieces.push(Piece { text: address.to_owned(), href: Some(address.to_owned()) });
        }
        let rest = if is_link { &word[address.len()..] } else { word };
        match pieces.last_mut() {
            Some(last) if last.href.is_none() => last.text.push_str(rest),
            _ if rest.is_empty() => {}
            _ => pieces.push(Piece { text: rest.to_owned(), href: None }),
        }
    }
    pieces
}

#[derive(Deserialize)]
struct WriteForm {
    room: String,
    #[serde(rename = "as")]
    writer: String,
    body: String,
}

async fn write(State(double): State<Arc<FakeMatrix>>, Form(form): Form<WriteForm>) -> Response {
    let body = form.body.trim();
    if !body.is_empty() {
        let written = double.change(|homeserver, origin| {
            let bot = double.user_id(&double.options.sender_localpart);
            if form.writer == bot || !homeserver.users.contains_key(&form.writer) {
                return Err(error(403, "M_FORBIDDEN", "There is no such person here."));
            }
            if body.len() > LONGEST_MESSAGE {
                return Err(error(413, "M_TOO_LARGE", "The message is too long."));
            }
            homeserver.join(origin, &form.writer, &form.room)?;
            let content = json!({ "msgtype": "m.text", "body": body });
            homeserver.send(origin, &form.writer, &form.room, "m.room.message", None, content)
        });
        if let Err(error) = written {
            return error.into_response();
        }
    }
    let mut query = url::form_urlencoded::Serializer::for_suffix("/?".to_owned(), 2);
    query.append_pair("room", &form.room).append_pair("as", &form.writer);
    Redirect::to(&query.finish()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_addresses_become_links_and_no_character_is_lost() {
        let text =
            "Approved: https://chancery.example/a?b=1&c=2, see\njavascript:alert(1) or (http://x.example/).";
        let pieces = pieces(text);
        let links: Vec<_> = pieces.iter().filter_map(|piece| piece.href.as_deref()).collect();
        assert_eq!(links, ["https://chancery.example/a?b=1&c=2"]);
        let whole: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(whole, text);
    }
}
