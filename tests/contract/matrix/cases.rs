use connector_core::{Connector as _, ErrorKind};
use connector_matrix::{Membership, Repair, RoomPreset, RoomSpec, RoomWarning};
use serde_json::json;

use crate::target::Target;

pub async fn the_token_is_the_bots(target: Target) {
    let info = target.client.check().await.unwrap();
    assert_eq!(info.identity, Some(target.bot()));
    let error = target.stranger().check().await.unwrap_err();
    assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::Unauthorised, Some("M_UNKNOWN_TOKEN")));
}

pub async fn the_bot_is_registered_once(target: Target) {
    for _ in 0..2 {
        target.client.register().await.unwrap();
    }
    assert_eq!(target.client.whoami().await.unwrap().user_id.as_str(), target.bot());
}

pub async fn how_people_sign_in_is_said(target: Target) {
    assert_eq!(target.client.auth_issuer().await.unwrap(), None, "there is no authentication service");
    let flows = target.client.login_flows().await.unwrap();
    assert!(flows.iter().any(|flow| flow == "m.login.application_service"), "{flows:?}");
}

pub async fn who_is_no_administrator_is_told_nothing_of_people(target: Target) {
    let error = target.client.external_ids(&target.ceo()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.status, error.code.as_deref()),
        (ErrorKind::Permanent, Some(403), Some("M_FORBIDDEN"))
    );
}

pub async fn a_room_is_made_once(target: Target) {
    let spec = RoomSpec { invite: vec![target.ceo()], ..target.spec("once") };
    let room = target.client.ensure_room(&spec).await.unwrap();
    assert_eq!(target.client.ensure_room(&spec).await.unwrap(), room);
    assert_eq!(target.client.resolve_alias(&target.alias(&spec)).await.unwrap().as_ref(), Some(&room));
    assert!(target.client.joined_rooms().await.unwrap().contains(&room));
    assert_eq!(target.client.membership(&room, &target.ceo()).await.unwrap(), Membership::Invite);
    let name = target.client.state(&room, "m.room.name", "").await.unwrap().unwrap();
    assert_eq!(name["name"], spec.name.as_str());
    let create = target.client.state(&room, "m.room.create", "").await.unwrap().unwrap();
    assert_eq!(create["m.federate"], false);
}

pub async fn a_room_is_made_in_the_version_that_is_asked_for(target: Target) {
    for version in ["11", "12"] {
        let spec = RoomSpec { version: Some(version.to_owned()), ..target.spec(version) };
        let room = target.client.ensure_room(&spec).await.unwrap();
        let create = target.client.state(&room, "m.room.create", "").await.unwrap().unwrap();
        assert_eq!(create["room_version"], version);
        let restored = target.client.restore_room(&spec, None).await.unwrap().unwrap();
        assert_eq!((restored.room, restored.repairs, restored.warnings), (room, vec![], vec![]), "{version}");
    }
    let spec = RoomSpec { version: Some("0815".to_owned()), ..target.spec("unknown") };
    let error = target.client.ensure_room(&spec).await.unwrap_err();
    assert_eq!(
        (error.kind, error.code.as_deref()),
        (ErrorKind::Permanent, Some("M_UNSUPPORTED_ROOM_VERSION"))
    );
}

pub async fn a_new_room_allows_what_its_preset_says(target: Target) {
    let (private, trusted, public) =
        (RoomPreset::PrivateChat, RoomPreset::TrustedPrivateChat, RoomPreset::PublicChat);
    for version in ["11", "12"] {
        for (preset, invite, join_rule, guests) in [
            (private, 0, "invite", Some("can_join")),
            (trusted, 0, "invite", Some("can_join")),
            (public, 50, "public", None),
        ] {
            let spec = RoomSpec {
                preset,
                version: Some(version.to_owned()),
                invite: vec![target.ceo()],
                ..target.spec(&format!("{preset:?}{version}").to_lowercase())
            };
            let room = target.client.ensure_room(&spec).await.unwrap();
            let state = async |event_type: &str| target.client.state(&room, event_type, "").await.unwrap();
            let levels = state("m.room.power_levels").await.unwrap();
            let listed: Vec<String> = levels["users"].as_object().unwrap().keys().cloned().collect();
            let (ceo, bot) = (target.ceo().to_string(), target.bot());
            let expected = match (version, preset) {
                ("12", _) => vec![],
                (_, RoomPreset::TrustedPrivateChat) => vec![bot, ceo.clone()],
                _ => vec![bot],
            };
            assert_eq!(listed, expected, "{spec:?}");
            assert_eq!(levels["invite"], invite, "{spec:?}");
            let tombstone = if version == "12" { 150 } else { 100 };
            assert_eq!(levels["events"]["m.room.tombstone"], tombstone, "{spec:?}");
            assert_eq!(state("m.room.join_rules").await.unwrap()["join_rule"], join_rule, "{spec:?}");
            let found = state("m.room.guest_access").await;
            assert_eq!(found.map(|found| found["guest_access"].clone()), guests.map(Into::into), "{spec:?}");
            let creators = state("m.room.create").await.unwrap()["additional_creators"].clone();
            let are_creators = version == "12" && preset == RoomPreset::TrustedPrivateChat;
            assert_eq!(creators, if are_creators { json!([ceo]) } else { json!(null) }, "{spec:?}");
        }
    }
}

pub async fn a_notice_is_there_once_however_often_it_is_sent(target: Target) {
    let room = target.client.ensure_room(&target.spec("notices")).await.unwrap();
    let first = target.client.send_notice(&room, "job-1", "Approved", Some("<b>Approved</b>")).await.unwrap();
    let again = target.client.send_notice(&room, "job-1", "Approved", Some("<b>Approved</b>")).await.unwrap();
    assert_eq!(first, again);
    assert_ne!(target.client.send_notice(&room, "job-2", "Approved", None).await.unwrap(), first);
    let events = target.client.messages(&room, 100).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.body() == Some("Approved")).count(), 2);
}

pub async fn an_edited_notice_names_the_one_that_it_replaces(target: Target) {
    let room = target.client.ensure_room(&target.spec("edits")).await.unwrap();
    let notice = target.client.send_notice(&room, "job-1", "Waiting", None).await.unwrap();
    let edit = target.client.edit_notice(&room, "job-2", &notice, "Approved", None).await.unwrap();
    assert_eq!(target.client.edit_notice(&room, "job-2", &notice, "Approved", None).await.unwrap(), edit);
    let events = target.client.messages(&room, 100).await.unwrap();
    let edit = events.iter().find(|event| event.event_id == edit).unwrap();
    assert_eq!(edit.content["m.relates_to"], json!({ "rel_type": "m.replace", "event_id": notice }));
    assert_eq!(edit.content["m.new_content"]["body"], "Approved");
}

pub async fn inviting_and_removing_twice_is_as_good_as_once(target: Target) {
    let room = target.client.ensure_room(&target.spec("members")).await.unwrap();
    let ceo = target.ceo();
    assert_eq!(target.client.membership(&room, &ceo).await.unwrap(), Membership::Leave);
    for _ in 0..2 {
        target.client.invite(&room, &ceo, Some("to decide")).await.unwrap();
    }
    assert_eq!(target.client.membership(&room, &ceo).await.unwrap(), Membership::Invite);
    for _ in 0..2 {
        target.client.kick(&room, &ceo, Some("no longer an approver")).await.unwrap();
    }
    assert_eq!(target.client.membership(&room, &ceo).await.unwrap(), Membership::Leave);
    let joined = target.client.joined_members(&room).await.unwrap();
    assert_eq!(joined.keys().map(ToString::to_string).collect::<Vec<_>>(), [target.bot()]);
}

pub async fn who_may_not_is_told_so(target: Target) {
    let nowhere = "!nowhere".parse().unwrap();
    let error = target.client.send_notice(&nowhere, "job-1", "Hello", None).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Permanent, Some(403)));
    let foreign = RoomSpec { alias_localpart: "somebody-elses".to_owned(), ..target.spec("foreign") };
    let error = target.client.ensure_room(&foreign).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_deref()), (ErrorKind::Permanent, Some("M_EXCLUSIVE")));
    let spec = target.spec("taken");
    let room = target.client.ensure_room(&spec).await.unwrap();
    let error = target.client.set_alias(&target.alias(&spec), &room).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Permanent, Some(409)));
}

pub async fn what_is_not_there_is_none(target: Target) {
    let spec = target.spec("never");
    assert_eq!(target.client.resolve_alias(&target.alias(&spec)).await.unwrap(), None);
    target.client.remove_alias(&target.alias(&spec)).await.unwrap();
    let nowhere = "!nowhere".parse().unwrap();
    assert_eq!(target.client.restore_room(&spec, Some(&nowhere)).await.unwrap(), None);
    let room = target.client.ensure_room(&target.spec("there")).await.unwrap();
    assert_eq!(target.client.state(&room, "m.room.encryption", "").await.unwrap(), None);
}

pub async fn a_room_whose_alias_is_gone_is_found_and_gets_it_back(target: Target) {
    let spec = target.spec("alias");
    let room = target.client.ensure_room(&spec).await.unwrap();
    for remembered in [Some(&room), None] {
        target.client.remove_alias(&target.alias(&spec)).await.unwrap();
        let restored = target.client.restore_room(&spec, remembered).await.unwrap().unwrap();
        assert_eq!((&restored.room, restored.repairs), (&room, vec![Repair::Alias]));
        assert_eq!(target.client.resolve_alias(&target.alias(&spec)).await.unwrap().as_ref(), Some(&room));
    }
}

pub async fn an_upgraded_room_is_followed(target: Target) {
    let spec = RoomSpec { version: Some("11".to_owned()), ..target.spec("old") };
    let room = target.client.ensure_room(&spec).await.unwrap();
    let new = target.client.ensure_room(&target.spec("new")).await.unwrap();
    let tombstone = json!({ "body": "This room has been replaced", "replacement_room": new });
    target.client.set_state(&room, "m.room.tombstone", "", &tombstone).await.unwrap();
    let restored = target.client.restore_room(&spec, None).await.unwrap().unwrap();
    assert_eq!(restored.room, new);
    assert_eq!(restored.repairs, [Repair::FollowedUpgrade, Repair::Alias, Repair::Mark]);
    assert_eq!(target.client.resolve_alias(&target.alias(&spec)).await.unwrap(), Some(new));
}

pub async fn a_private_room_that_was_opened_is_closed(target: Target) {
    let spec = target.spec("opened");
    let room = target.client.ensure_room(&spec).await.unwrap();
    let open = json!({ "join_rule": "public" });
    target.client.set_state(&room, "m.room.join_rules", "", &open).await.unwrap();
    let encryption = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    target.client.set_state(&room, "m.room.encryption", "", &encryption).await.unwrap();
    let restored = target.client.restore_room(&spec, None).await.unwrap().unwrap();
    assert_eq!(restored.repairs, [Repair::JoinRules]);
    assert_eq!(restored.warnings, [RoomWarning::Encrypted]);
    let rules = target.client.state(&room, "m.room.join_rules", "").await.unwrap().unwrap();
    assert_eq!(rules["join_rule"], "invite");
    // What is plain is sent all the same.
    target.client.send_notice(&room, "job-1", "Approved", None).await.unwrap();
}

pub async fn without_power_a_repair_is_a_warning(target: Target) {
    let spec = RoomSpec { version: Some("11".to_owned()), ..target.spec("powerless") };
    let room = target.client.ensure_room(&spec).await.unwrap();
    let open = json!({ "join_rule": "public" });
    target.client.set_state(&room, "m.room.join_rules", "", &open).await.unwrap();
    let mut levels = target.client.state(&room, "m.room.power_levels", "").await.unwrap().unwrap();
    levels["users"] = json!({});
    target.client.set_state(&room, "m.room.power_levels", "", &levels).await.unwrap();
    let restored = target.client.restore_room(&spec, None).await.unwrap().unwrap();
    assert_eq!(restored.warnings, [RoomWarning::NoPower(Repair::JoinRules)]);
}

pub async fn a_room_is_put_into_a_space(target: Target) {
    let room = target.client.ensure_room(&target.spec("child")).await.unwrap();
    let space = RoomSpec { is_space: true, ..target.spec("space") };
    let space = target.client.ensure_room(&space).await.unwrap();
    for _ in 0..2 {
        target.client.add_to_space(&space, &room, "a").await.unwrap();
    }
    let create = target.client.state(&space, "m.room.create", "").await.unwrap().unwrap();
    assert_eq!(create["type"], "m.space");
    let child = target.client.state(&space, "m.space.child", room.as_str()).await.unwrap().unwrap();
    assert_eq!(child["via"], json!([target.server_name()]));
    let events = target.client.messages(&space, 100).await.unwrap();
    assert_eq!(events.iter().filter(|event| event.event_type == "m.space.child").count(), 1);
}
