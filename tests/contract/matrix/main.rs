//! Synapse 1.163 and the double of a homeserver: the same cases against both.
//!
//! `cargo xtask test` starts a Synapse and says where it is; without one, its cases are shown as ignored.

#![allow(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

mod cases;
mod target;

/// Each case, as a test against the double and as one against the real server.
macro_rules! cases {
    ($($case:ident)+) => {
        mod double {
            $(
                #[tokio::test]
                async fn $case() {
                    crate::cases::$case(crate::target::Target::double().await).await;
                }
            )+
        }
        mod real {
            $(
                #[tokio::test]
                #[ignore = "needs a Synapse: cargo xtask test"]
                async fn $case() {
                    crate::cases::$case(crate::target::Target::real().await).await;
                }
            )+
        }
    };
}

cases! {
    the_token_is_the_bots
    the_bot_is_registered_once
    how_people_sign_in_is_said
    who_is_no_administrator_is_told_nothing_of_people
    a_room_is_made_once
    a_room_is_made_in_the_version_that_is_asked_for
    a_new_room_allows_what_its_preset_says
    a_notice_is_there_once_however_often_it_is_sent
    an_edited_notice_names_the_one_that_it_replaces
    inviting_and_removing_twice_is_as_good_as_once
    who_may_not_is_told_so
    what_is_not_there_is_none
    a_room_whose_alias_is_gone_is_found_and_gets_it_back
    an_upgraded_room_is_followed
    a_private_room_that_was_opened_is_closed
    without_power_a_repair_is_a_warning
    a_room_is_put_into_a_space
}
