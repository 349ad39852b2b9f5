//! Transactions of a homeserver that were stored as they came: each of their events is told with its room as the subject.

use chrono::{DateTime, Utc};
use connector_matrix::appservice::Transaction;

use super::plan::{Part, Plan, Poison};
use crate::{
    inbox::{model::Event, store::storable},
    matrix::{Question, RoomCommand},
};

pub(super) const SERVICE: &str = "matrix";
/// The type of a transaction as it came.
pub(super) const TRANSACTION: &str = "transaction";

pub(super) fn read(body: &[u8], event: &Event, plan: &mut Plan) -> Result<(), Poison> {
    for one in Transaction::parse(body)?.events {
        // The bot's own messages, and other bots', are notices.
        let is_text =
            one.event_type == "m.room.message" && !one.is_state() && one.content["msgtype"] == "m.text";
        if is_text && let Some(question) = one.body().and_then(Question::read) {
            let command = RoomCommand { room: one.room_id.clone(), sender: one.sender.clone(), question };
            plan.commands.push((one.event_id.to_string(), command));
        }
        plan.parts.push(Part {
            event_type: storable(&one.event_type, 255),
            subject: storable(one.room_id.as_str(), 255),
            occurred_at: DateTime::<Utc>::from_timestamp_millis(one.origin_server_ts)
                .unwrap_or(event.received_at),
        });
    }
    Ok(())
}
