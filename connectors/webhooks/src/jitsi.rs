//! Jitsi's `event_sync_component`: unsigned JSON without an id, behind a static header.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use crate::{
    Delivery, Key, Refused,
    event::{EventFields, Format, Place, Reader},
    scheme::described,
};

/// Where the times stand, by what happened.
const TIMES: [&str; 5] =
    ["/occupant/left_at", "/occupant/joined_at", "/destroyed_at", "/created_at", "/updated_at"];

/// Reads an event. It is the same when room, occupant and time are: it has no id.
pub(crate) fn read(headers: &HeaderMap, body: &Bytes) -> Result<Delivery, Refused> {
    let body_place = |pointer: &str| Place::Body(pointer.to_owned());
    let fields = EventFields {
        format: Format::Json,
        event_type: vec![body_place("/event_name")],
        subject: vec![body_place("/room_jid")],
        id: Vec::new(),
        time: TIMES.into_iter().map(body_place).collect(),
    };
    let reader = Reader::new(Format::Json, headers, body)?;
    let delivery = described(&reader, &fields, None)?;
    let room = delivery.subject.clone().ok_or(Refused::Unreadable("the event has no room"))?;
    let text = |pointer: &str| -> String {
        let value = reader.json().and_then(|json| json.pointer(pointer));
        value.map_or_else(String::new, |value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    let mut content = vec![delivery.event_type.clone(), room, text("/occupant/occupant_jid")];
    content.extend(TIMES.into_iter().map(text));
    Ok(Delivery { key: Key::Content(content), ..delivery })
}
