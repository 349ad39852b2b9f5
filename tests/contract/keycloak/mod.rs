//! Keycloak 26.7 and its double.

mod admin;
mod browser;
mod changes;
mod discovery;
mod isolation;
mod realm;
mod sign_in;
mod sign_out;
mod step_up;
mod target;
mod tokens;

/// Each case, as a test against the double and as one against the real server.
macro_rules! cases {
    ($($module:ident: $($case:ident)+;)+) => {
        mod double {
            $($(
                #[tokio::test]
                async fn $case() {
                    super::$module::$case(super::target::Target::double().await).await;
                }
            )+)+
        }
        mod real {
            $($(
                #[tokio::test]
                #[ignore = "needs a Keycloak: cargo xtask test"]
                async fn $case() {
                    super::$module::$case(super::target::Target::real().await).await;
                }
            )+)+
        }
    };
}

cases! {
    discovery:
        the_realm_says_where_everything_is
        a_clients_secret_is_taken_or_refused
        one_key_signs_and_is_the_one_that_tokens_name;
    sign_in:
        a_person_signs_in_by_code_and_pkce
        somebody_without_groups_has_no_groups_claim
        what_is_wrong_with_a_request_is_said_in_the_redirect
        nobody_is_sent_to_an_address_that_the_client_does_not_have
        a_disabled_person_cannot_sign_in
        a_code_needs_its_verifier_its_redirect_and_its_client
        a_code_used_twice_ends_what_its_first_use_began;
    tokens:
        the_token_endpoint_says_what_is_wrong
        a_refresh_token_is_good_once
        a_refresh_token_is_its_clients_alone
        user_info_is_for_good_access_tokens
        machines_get_tokens_of_their_own;
    step_up:
        level_2_takes_a_one_time_code_in_the_same_session
        a_fresh_level_2_is_not_asked_for_again
        a_sign_in_that_is_too_old_is_proven_again
        a_one_time_code_is_taken_once
        level_2_at_once_takes_both_pages
        a_level_that_the_realm_does_not_have_is_refused
        nothing_is_asked_where_no_page_may_be_shown;
    sign_out:
        signing_out_leads_back_and_tells_the_client
        signing_out_leads_nowhere_that_the_client_does_not_have
        an_administrator_ends_sessions_and_the_client_is_told
        a_client_signs_out_with_a_refresh_token
        nobody_is_told_of_a_disabled_or_deleted_user;
    admin:
        people_are_found_by_id_and_by_address
        groups_are_found_with_paths_parents_and_attributes
        all_children_are_read_though_a_page_has_ten
        service_accounts_are_members_like_people
        roles_are_seen_by_who_may_see_them
        who_may_not_look_is_told_so;
    changes:
        changes_of_a_user_are_seen_and_leave_events
        changes_of_a_group_are_seen_and_leave_events
        events_are_filtered_and_paged
        what_cannot_be_done_is_said
        a_sign_in_leaves_an_event;
}
