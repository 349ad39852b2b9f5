//! What a Jitsi server tells of its rooms: `event_sync_component` of jitsi-contrib/prosody-plugins, and the webhooks of JaaS.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most characters of a name that are read.
const LONGEST_NAME: usize = 200;
/// The most characters of an address in a room that are read.
const LONGEST_OCCUPANT: usize = 500;

/// Something that happened to a room. Such events come late, twice and in any order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomEvent {
    /// The room's name, without a tenant of the server's before it.
    pub room: String,
    /// When it happened, by the server's clock.
    pub at: DateTime<Utc>,
    /// What happened.
    pub happened: Happened,
}

/// What happened to a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Happened {
    /// It is there.
    Opened,
    /// It is gone. Everybody who was in it, where the server says that.
    Closed(Vec<Occupant>),
    /// Somebody came in.
    Joined(Occupant),
    /// Somebody left.
    Left(Occupant),
}

/// Somebody who is or was in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupant {
    /// Their address in the room: another one each time that they come in.
    pub occupant: String,
    /// `context.user.id` of the token that they came with.
    pub id: Option<String>,
    /// The name that they are seen by; empty where the server doesn't say.
    pub name: String,
    /// When they came in, where that is known.
    pub joined_at: Option<DateTime<Utc>>,
    /// When they left, where they have.
    pub left_at: Option<DateTime<Utc>>,
}

impl RoomEvent {
    /// Reads the body of an event. None where it is of another kind, of a breakout room, or lacks what it is about.
    ///
    /// # Errors
    /// Where it isn't JSON.
    pub fn read(body: &[u8]) -> Result<Option<Self>, serde_json::Error> {
        let body: Value = serde_json::from_slice(body)?;
        Ok(if body.get("event_name").is_some() { event_sync(&body) } else { jaas(&body) })
    }
}

fn event_sync(body: &Value) -> Option<RoomEvent> {
    if body.get("is_breakout").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    let (node, _) = body.get("room_jid")?.as_str()?.split_once('@')?;
    let time = |name: &str| seconds(body.get(name));
    let occupant = || body.get("occupant").and_then(|occupant| read_occupant(occupant, "occupant_jid"));
    let (at, happened) = match body.get("event_name")?.as_str()? {
        "muc-room-created" => (time("created_at")?, Happened::Opened),
        "muc-room-destroyed" => {
            let all = body.get("all_occupants").and_then(Value::as_array);
            let all = all.into_iter().flatten().filter_map(|one| read_occupant(one, "occupant_jid"));
            (time("destroyed_at")?, Happened::Closed(all.collect()))
        }
        "muc-occupant-joined" => {
            let occupant = Occupant { left_at: None, ..occupant()? };
            (occupant.joined_at?, Happened::Joined(occupant))
        }
        "muc-occupant-left" => {
            let occupant = occupant()?;
            (occupant.left_at?, Happened::Left(occupant))
        }
        _ => return None,
    };
    Some(RoomEvent { room: bare(node), at, happened })
}

fn jaas(body: &Value) -> Option<RoomEvent> {
    let (_, room) = body.get("fqn")?.as_str()?.rsplit_once('/')?;
    let at = DateTime::from_timestamp_millis(body.get("timestamp")?.as_i64()?)?;
    let occupant = || {
        let data = body.get("data")?;
        ["participantId", "participantJid", "id"].into_iter().find_map(|name| read_occupant(data, name))
    };
    let happened = match body.get("eventType")?.as_str()? {
        "ROOM_CREATED" => Happened::Opened,
        "ROOM_DESTROYED" => Happened::Closed(Vec::new()),
        "PARTICIPANT_JOINED" => {
            Happened::Joined(Occupant { joined_at: Some(at), left_at: None, ..occupant()? })
        }
        "PARTICIPANT_LEFT" => Happened::Left(Occupant { joined_at: None, left_at: Some(at), ..occupant()? }),
        _ => return None,
    };
    Some(RoomEvent { room: bare(room), at, happened })
}

fn bare(node: &str) -> String {
    node.rsplit_once(']').map_or(node, |(_, room)| room).to_lowercase()
}

/// An occupant whose address stands under `address`.
fn read_occupant(told: &Value, address: &str) -> Option<Occupant> {
    let text = |name: &str, most: usize| -> Option<String> {
        let text = told.get(name)?.as_str()?.chars().filter(|letter| !letter.is_control()).take(most);
        Some(text.collect::<String>()).filter(|text| !text.is_empty())
    };
    Some(Occupant {
        occupant: text(address, LONGEST_OCCUPANT)?,
        id: text("id", LONGEST_NAME),
        name: text("name", LONGEST_NAME).unwrap_or_default(),
        joined_at: seconds(told.get("joined_at")),
        left_at: seconds(told.get("left_at")),
    })
}

/// A time as Lua's `os.time()` gives it.
fn seconds(value: Option<&Value>) -> Option<DateTime<Utc>> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a time that is no number of ours is none of any calendar"
    )]
    let seconds = value?.as_f64()? as i64;
    DateTime::from_timestamp(seconds, 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Option<RoomEvent> {
        RoomEvent::read(body.to_string().as_bytes()).unwrap()
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn the_component_tells_of_rooms_and_who_is_in_them() {
        let event = |name: &str, more: Value| {
            let mut body = json!({
                "event_name": name, "room_name": "c-7F", "room_jid": "[acme]c-7F@muc.meet.jitsi", "is_breakout": false,
            });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let cara = json!({
            "occupant_jid": "c-7f@muc.meet.jitsi/1a", "id": "u-1", "name": "Ca\u{0}ra", "email": "", "joined_at": 100,
        });
        let mut gone = cara.clone();
        gone["left_at"] = 160.5.into();
        let told = |left_at| Occupant {
            occupant: "c-7f@muc.meet.jitsi/1a".to_owned(),
            id: Some("u-1".to_owned()),
            name: "Cara".to_owned(),
            joined_at: Some(at(100)),
            left_at,
        };
        for (body, time, happened) in [
            (event("muc-room-created", json!({ "created_at": 99 })), 99, Happened::Opened),
            (event("muc-occupant-joined", json!({ "occupant": cara })), 100, Happened::Joined(told(None))),
            (
                event("muc-occupant-left", json!({ "occupant": gone })),
                160,
                Happened::Left(told(Some(at(160)))),
            ),
            (
                event("muc-room-destroyed", json!({ "destroyed_at": 161, "all_occupants": [gone, {}, 7] })),
                161,
                Happened::Closed(vec![told(Some(at(160)))]),
            ),
        ] {
            assert_eq!(read(&body), Some(RoomEvent { room: "c-7f".to_owned(), at: at(time), happened }));
        }
        let breakout = event("muc-room-created", json!({ "created_at": 99, "is_breakout": true }));
        for nothing in [breakout, event("muc-room-created", json!({})), event("muc-speaker-stats", json!({}))]
        {
            assert_eq!(read(&nothing), None);
        }
    }

    #[test]
    fn jitsi_as_a_service_tells_the_same() {
        let event = |kind: &str, data: Value| {
            json!({
                "idempotencyKey": "k", "customerId": "c", "appId": "vpaas-magic-cookie-1", "eventType": kind, "sessionId": "s",
                "timestamp": 100_500, "fqn": "vpaas-magic-cookie-1/C-7f", "data": data,
            })
        };
        let person = json!({ "participantId": "p-1", "id": "u-1", "name": "Cara", "moderator": "true" });
        let occupant = read(&event("PARTICIPANT_LEFT", person.clone())).unwrap();
        let time = DateTime::from_timestamp_millis(100_500).unwrap();
        assert_eq!((occupant.room.as_str(), occupant.at), ("c-7f", time));
        let Happened::Left(left) = occupant.happened else { panic!() };
        assert_eq!((left.occupant.as_str(), left.joined_at, left.left_at), ("p-1", None, Some(time)));
        let Happened::Joined(joined) = read(&event("PARTICIPANT_JOINED", person)).unwrap().happened else {
            panic!()
        };
        assert_eq!((joined.id.as_deref(), joined.joined_at, joined.left_at), (Some("u-1"), Some(time), None));
        assert_eq!(read(&event("ROOM_CREATED", json!({}))).unwrap().happened, Happened::Opened);
        assert_eq!(read(&event("ROOM_DESTROYED", json!({}))).unwrap().happened, Happened::Closed(Vec::new()));
        for nothing in
            [event("RECORDING_STARTED", json!({})), event("PARTICIPANT_JOINED", json!({})), json!({})]
        {
            assert_eq!(read(&nothing), None);
        }
        assert!(RoomEvent::read(b"no json").is_err());
    }
}
