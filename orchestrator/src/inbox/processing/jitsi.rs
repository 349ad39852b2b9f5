//! What a Jitsi server tells of its rooms, by its `event_sync_component` or as JaaS.

use connector_jitsi::RoomEvent;

use super::plan::{Plan, Poison};

pub(super) const SERVICES: [&str; 2] = ["jitsi", "jaas"];

pub(super) fn read(body: &[u8], plan: &mut Plan) -> Result<(), Poison> {
    plan.room = RoomEvent::read(body).map_err(Poison::Room)?;
    Ok(())
}
