//! Rooms found again and mended.

use connector_matrix::{Repair, RestoredRoom, RoomAlias, RoomId, RoomSpec, RoomWarning};
use serde_json::json;

use super::{Server, acme};

/// A room as it was made, and its alias.
async fn made(server: &Server, version: Option<&str>) -> (RoomSpec, RoomId, RoomAlias) {
    let spec = RoomSpec { version: version.map(str::to_owned), ..acme() };
    let room = server.client.ensure_room(&spec).await.unwrap();
    let alias = RoomAlias::new(&spec.alias_localpart, "example.org").unwrap();
    (spec, room, alias)
}

#[tokio::test]
async fn a_room_that_nothing_happened_to_is_found_and_left_as_it_is() {
    for version in ["11", "12"] {
        let server = Server::start().await;
        let (spec, room, _) = made(&server, Some(version)).await;
        let create = server.client.state(&room, "m.room.create", "").await.unwrap().unwrap();
        assert_eq!(create["room_version"], version);
        let restored = server.client.restore_room(&spec, None).await.unwrap().unwrap();
        assert_eq!(restored, RestoredRoom { room, repairs: Vec::new(), warnings: Vec::new() });
    }
}

#[tokio::test]
async fn a_room_whose_alias_is_gone_is_found_by_its_id_or_by_its_mark_and_gets_the_alias_back() {
    for is_remembered in [true, false] {
        let server = Server::start().await;
        let (spec, room, alias) = made(&server, None).await;
        // Another room is there, which isn't taken for it.
        let other = RoomSpec { alias_localpart: format!("{}_other", spec.alias_localpart), ..acme() };
        server.client.ensure_room(&other).await.unwrap();
        server.client.remove_alias(&alias).await.unwrap();
        server.client.remove_alias(&alias).await.unwrap();
        let remembered = is_remembered.then_some(&room);
        let restored = server.client.restore_room(&spec, remembered).await.unwrap().unwrap();
        assert_eq!((&restored.room, restored.repairs), (&room, vec![Repair::Alias]));
        assert_eq!(server.client.resolve_alias(&alias).await.unwrap(), Some(room));
    }
}

#[tokio::test]
async fn a_room_that_never_was_is_not_found() {
    let server = Server::start().await;
    made(&server, None).await;
    let spec = RoomSpec { alias_localpart: server.client.alias_localpart("never"), ..acme() };
    let nowhere = "!nowhere".parse().unwrap();
    assert_eq!(server.client.restore_room(&spec, Some(&nowhere)).await.unwrap(), None);
}

#[tokio::test]
async fn an_upgraded_room_is_followed_and_its_alias_moved() {
    let server = Server::start().await;
    let (spec, room, alias) = made(&server, Some("11")).await;
    let new = RoomSpec { alias_localpart: server.client.alias_localpart("replacement"), ..acme() };
    let new = server.client.ensure_room(&new).await.unwrap();
    let tombstone = json!({ "body": "This room has been replaced", "replacement_room": new });
    server.client.set_state(&room, "m.room.tombstone", "", &tombstone).await.unwrap();
    let restored = server.client.restore_room(&spec, None).await.unwrap().unwrap();
    assert_eq!(restored.room, new);
    assert_eq!(restored.repairs, [Repair::FollowedUpgrade, Repair::Alias, Repair::Mark]);
    assert_eq!(server.client.resolve_alias(&alias).await.unwrap(), Some(new.clone()));
    let again = server.client.restore_room(&spec, Some(&room)).await.unwrap().unwrap();
    assert_eq!((again.room, again.repairs), (new, Vec::new()));
}

#[tokio::test]
async fn a_private_room_that_was_opened_is_closed_and_what_cannot_be_mended_is_said() {
    let server = Server::start().await;
    let (spec, room, _) = made(&server, Some("11")).await;
    let open = json!({ "join_rule": "public" });
    server.client.set_state(&room, "m.room.join_rules", "", &open).await.unwrap();
    let encryption = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    server.client.set_state(&room, "m.room.encryption", "", &encryption).await.unwrap();
    let restored = server.client.restore_room(&spec, None).await.unwrap().unwrap();
    assert_eq!(restored.repairs, [Repair::JoinRules]);
    assert_eq!(restored.warnings, [RoomWarning::Encrypted]);

    // Somebody takes the bot's power, and opens the room once more.
    server.client.set_state(&room, "m.room.join_rules", "", &open).await.unwrap();
    let mut levels = server.client.state(&room, "m.room.power_levels", "").await.unwrap().unwrap();
    levels["users"] = json!({});
    server.client.set_state(&room, "m.room.power_levels", "", &levels).await.unwrap();
    let restored = server.client.restore_room(&spec, None).await.unwrap().unwrap();
    assert_eq!(restored.repairs, []);
    assert_eq!(restored.warnings, [RoomWarning::NoPower(Repair::JoinRules), RoomWarning::Encrypted]);
}

#[tokio::test]
async fn a_room_is_put_into_a_space_once() {
    let server = Server::start().await;
    let (_, room, _) = made(&server, None).await;
    let space =
        RoomSpec { alias_localpart: server.client.alias_localpart("space"), is_space: true, ..acme() };
    let space = server.client.ensure_room(&space).await.unwrap();
    for _ in 0..2 {
        server.client.add_to_space(&space, &room, "a").await.unwrap();
    }
    let child = server.client.state(&space, "m.space.child", room.as_str()).await.unwrap().unwrap();
    assert_eq!(child, json!({ "via": ["example.org"], "order": "a", "suggested": true }));
    let parent = server.client.state(&room, "m.space.parent", space.as_str()).await.unwrap().unwrap();
    assert_eq!(parent["canonical"], true);
    let events = server.client.messages(&space, 100).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.event_type == "m.space.child").count(), 1);
}
