use connector_core::{ConnectorError, ErrorKind};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{MatrixClient, Membership, RoomAlias, RoomId, RoomPreset, RoomSpec, SERVICE};

/// The state event by which a room that the bot made is known, whatever became of its alias.
pub(crate) const ROOM_MARK: &str = "chancery.room";
/// Upgrades that are followed one after another.
const MOST_UPGRADES: usize = 8;

/// A room after [`MatrixClient::restore_room`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredRoom {
    /// The room. Another than before where it was upgraded.
    pub room: RoomId,
    /// What was mended, in this order.
    pub repairs: Vec<Repair>,
    /// What couldn't be, and what an administrator should know.
    pub warnings: Vec<RoomWarning>,
}

/// Something that was mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// The room was upgraded: the bot went into its replacement.
    FollowedUpgrade,
    /// The bot had left.
    Rejoined,
    /// The alias was gone or led elsewhere.
    Alias,
    /// The bot's mark was gone.
    Mark,
    /// Anybody could join or ask to, and the room is private.
    JoinRules,
}

/// Something that wasn't mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomWarning {
    /// The bot's power doesn't suffice for this repair.
    NoPower(Repair),
    /// The room is encrypted: the bot can't read it, and what it sends is sent plain.
    Encrypted,
}

impl MatrixClient {
    /// Finds the room of `spec`, which was made before, and mends what has become of it: by its alias, by the id that the
    /// caller remembers, or by its mark, in this order. Name, topic and members stay as people set them.
    ///
    /// A room that can't be found is made by [`Self::ensure_room`]; `None` says so.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn restore_room(
        &self,
        spec: &RoomSpec,
        remembered: Option<&RoomId>,
    ) -> Result<Option<RestoredRoom>, ConnectorError> {
        let alias = self.alias_of(spec)?;
        let aliased = self.resolve_alias(&alias).await?;
        let known = match (&aliased, remembered) {
            (Some(room), _) => Some(room.clone()),
            (None, Some(room)) if self.may_read(room).await? => Some(room.clone()),
            (None, _) => self.find_marked(spec).await?,
        };
        let Some(mut room) = known else { return Ok(None) };
        let (mut repairs, mut warnings) = (Vec::new(), Vec::new());

        for _ in 0..MOST_UPGRADES {
            if !self.may_read(&room).await? {
                self.join(&room).await?;
                repairs.push(Repair::Rejoined);
            }
            let Some(replacement) = self.replacement(&room).await? else { break };
            self.join(&replacement).await?;
            room = replacement;
            repairs.push(Repair::FollowedUpgrade);
        }
        if aliased.as_ref() != Some(&room) {
            let moved = self.move_alias(&alias, aliased.is_some(), &room).await;
            settle(moved, Repair::Alias, &mut repairs, &mut warnings)?;
        }
        let mark = json!({ "alias_localpart": spec.alias_localpart });
        if self.state(&room, ROOM_MARK, "").await?.as_ref() != Some(&mark) {
            let marked = self.set_state(&room, ROOM_MARK, "", &mark).await.map(drop);
            settle(marked, Repair::Mark, &mut repairs, &mut warnings)?;
        }
        if spec.preset != RoomPreset::PublicChat && self.is_open(&room).await? {
            let rules = json!({ "join_rule": "invite" });
            let closed = self.set_state(&room, "m.room.join_rules", "", &rules).await.map(drop);
            settle(closed, Repair::JoinRules, &mut repairs, &mut warnings)?;
        }
        if self.state(&room, "m.room.encryption", "").await?.is_some() {
            warnings.push(RoomWarning::Encrypted);
        }
        Ok(Some(RestoredRoom { room, repairs, warnings }))
    }

    /// Puts `child` into `space`, which is shown in the order of `order` (at most 50 printable ASCII characters). Done again,
    /// it changes nothing.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn add_to_space(
        &self,
        space: &RoomId,
        child: &RoomId,
        order: &str,
    ) -> Result<(), ConnectorError> {
        let via = [self.sender().server_name()];
        let content = json!({ "via": via, "order": order, "suggested": true });
        self.set_state(space, "m.space.child", child.as_str(), &content).await?;
        let parent = json!({ "via": via, "canonical": true });
        self.set_state(child, "m.space.parent", space.as_str(), &parent).await?;
        Ok(())
    }

    /// The alias that the room of `spec` has.
    pub(crate) fn alias_of(&self, spec: &RoomSpec) -> Result<RoomAlias, ConnectorError> {
        RoomAlias::new(&spec.alias_localpart, self.sender().server_name()).map_err(|error| {
            ConnectorError::new(ErrorKind::Permanent, SERVICE, "the room's alias is none").with_source(error)
        })
    }

    /// A room that the bot is in and that bears the mark of `spec`. Asks for each of the bot's rooms.
    async fn find_marked(&self, spec: &RoomSpec) -> Result<Option<RoomId>, ConnectorError> {
        for room in self.joined_rooms().await? {
            let mark = self.state(&room, ROOM_MARK, "").await?;
            if mark.is_some_and(|mark| mark["alias_localpart"] == spec.alias_localpart.as_str()) {
                return Ok(Some(room));
            }
        }
        Ok(None)
    }

    /// Whether the bot is in the room. One that isn't there looks like one that it isn't in.
    async fn may_read(&self, room: &RoomId) -> Result<bool, ConnectorError> {
        match self.membership(room, self.sender()).await {
            Ok(membership) => Ok(membership == Membership::Join),
            Err(error) if error.status == Some(403) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn replacement(&self, room: &RoomId) -> Result<Option<RoomId>, ConnectorError> {
        #[derive(Deserialize)]
        struct Tombstone {
            replacement_room: RoomId,
        }
        let tombstone = self.state(room, "m.room.tombstone", "").await?;
        // One without a readable room closes the room and leads nowhere.
        Ok(tombstone
            .and_then(|content| serde_json::from_value::<Tombstone>(content).ok())
            .map(|tombstone| tombstone.replacement_room))
    }

    async fn is_open(&self, room: &RoomId) -> Result<bool, ConnectorError> {
        let rules = self.state(room, "m.room.join_rules", "").await?;
        let rule = rules.as_ref().and_then(|rules| rules.get("join_rule")).and_then(Value::as_str);
        Ok(matches!(rule, Some("public" | "knock")))
    }

    async fn move_alias(
        &self,
        alias: &RoomAlias,
        is_taken: bool,
        room: &RoomId,
    ) -> Result<(), ConnectorError> {
        if is_taken {
            self.remove_alias(alias).await?;
        }
        self.set_alias(alias, room).await
    }
}

/// Notes what came of a repair. Where the bot may not, that is a warning: the room is of use all the same.
fn settle(
    result: Result<(), ConnectorError>,
    repair: Repair,
    repairs: &mut Vec<Repair>,
    warnings: &mut Vec<RoomWarning>,
) -> Result<(), ConnectorError> {
    match result {
        Ok(()) => repairs.push(repair),
        Err(error) if error.status == Some(403) => warnings.push(RoomWarning::NoPower(repair)),
        Err(error) => return Err(error),
    }
    Ok(())
}
