use std::time::Duration;

use reqwest::StatusCode;

use super::{
    browser::Browser,
    target::{Target, claims},
};

/// An `acr` that must be reached (OpenID Connect Core 1.0, section 5.5.1.1).
const LEVEL_2: (&str, Option<&str>) =
    ("claims", Some(r#"{"id_token":{"acr":{"essential":true,"values":["2"]}}}"#));

/// Longer than a second, which is what times in tokens are counted in.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(2100)).await;
}

pub async fn level_2_takes_a_one_time_code_in_the_same_session(target: Target) {
    let person = target.person(&[]).await;
    let mut browser = Browser::default();
    let before = target.sign_in(&mut browser, &person).await;
    let first = claims(&before, "id_token");
    assert_eq!(first["acr"], "1");
    a_while().await;
    let page = target.authorize(&mut browser, &[LEVEL_2, ("max_age", Some("300"))]).await;
    assert!(page.asks_for("otp") && !page.asks_for("username"), "{}", page.body);
    let again = browser.submit(&page, &[("otp", &person.wrong_code())]).await;
    assert!(again.asks_for("otp") && again.body.contains("Invalid authenticator code."), "{}", again.body);
    let redirect = browser.submit(&again, &[("otp", &person.code())]).await;
    let after = target.tokens(&redirect).await;
    for name in ["id_token", "access_token"] {
        let claims = claims(&after, name);
        assert_eq!(claims["acr"], "2", "{name}");
        assert_eq!((&claims["sid"], &claims["sub"]), (&first["sid"], &first["sub"]), "{name}");
        assert!(claims["auth_time"].as_i64() > first["auth_time"].as_i64(), "{name}");
    }
    // The level is the session's: tokens that are renewed have it, too.
    let (status, renewed) = target.refresh(&before).await;
    assert_eq!(status, StatusCode::OK, "{renewed}");
    assert_eq!(claims(&renewed, "id_token")["acr"], "2");
}

pub async fn a_fresh_level_2_is_not_asked_for_again(target: Target) {
    let person = target.person(&[]).await;
    let mut browser = Browser::default();
    target.sign_in(&mut browser, &person).await;
    let page = target.authorize(&mut browser, &[LEVEL_2]).await;
    let first = target.tokens(&browser.submit(&page, &[("otp", &person.code())]).await).await;
    let redirect = target.authorize(&mut browser, &[LEVEL_2, ("max_age", Some("300"))]).await;
    assert_eq!(redirect.status, StatusCode::FOUND, "{}", redirect.body);
    let second = target.tokens(&redirect).await;
    let (first, second) = (claims(&first, "id_token"), claims(&second, "id_token"));
    for name in ["acr", "auth_time", "sid", "sub"] {
        assert_eq!(first[name], second[name], "{name}");
    }
}

pub async fn a_sign_in_that_is_too_old_is_proven_again(target: Target) {
    let person = target.person(&[]).await;
    let mut browser = Browser::default();
    let first = claims(&target.sign_in(&mut browser, &person).await, "id_token");
    a_while().await;
    let page = target.authorize(&mut browser, &[LEVEL_2, ("max_age", Some("1"))]).await;
    assert!(!page.asks_for("otp"), "first who one is: {}", page.body);
    let page = target.identify_as(&mut browser, &page, &person).await;
    assert!(page.asks_for("otp"), "{}", page.body);
    let redirect = browser.submit(&page, &[("otp", &person.code())]).await;
    let second = claims(&target.tokens(&redirect).await, "id_token");
    assert_eq!((&second["acr"], &second["sub"], &second["sid"]), (&"2".into(), &first["sub"], &first["sid"]));
    assert!(second["auth_time"].as_i64() > first["auth_time"].as_i64());
}

pub async fn a_one_time_code_is_taken_once(target: Target) {
    let person = target.person(&[]).await;
    let code = person.code();
    for taken in [true, false] {
        let mut browser = Browser::default();
        let page = target.authorize(&mut browser, &[LEVEL_2]).await;
        let page = target.identify_as(&mut browser, &page, &person).await;
        let answer = browser.submit(&page, &[("otp", &code)]).await;
        assert_eq!(answer.status == StatusCode::FOUND, taken, "{}", answer.body);
    }
}

pub async fn level_2_at_once_takes_both_pages(target: Target) {
    let person = target.person(&[]).await;
    let mut browser = Browser::default();
    // Voluntary, by another parameter.
    let page = target.authorize(&mut browser, &[("acr_values", Some("2"))]).await;
    assert!(page.asks_for("username"), "{}", page.body);
    let page = target.identify_as(&mut browser, &page, &person).await;
    assert!(page.asks_for("otp"), "{}", page.body);
    let redirect = browser.submit(&page, &[("otp", &person.code())]).await;
    assert_eq!(claims(&target.tokens(&redirect).await, "id_token")["acr"], "2");
}

pub async fn a_level_that_the_realm_does_not_have_is_refused(target: Target) {
    let unknown = Some(r#"{"id_token":{"acr":{"essential":true,"values":["3"]}}}"#);
    let person = target.person(&[]).await;
    let mut browser = Browser::default();
    let mut answer = target.authorize(&mut browser, &[("claims", unknown)]).await;
    if answer.asks_for("username") {
        // The real one finds out at the end of its pages.
        answer = target.identify_as(&mut browser, &answer, &person).await;
        answer = browser.submit(&answer, &[("otp", &person.code())]).await;
    }
    assert_eq!((answer.status, &answer.location), (StatusCode::BAD_REQUEST, &None), "{}", answer.body);
}

pub async fn nothing_is_asked_where_no_page_may_be_shown(target: Target) {
    let person = target.person(&[]).await;
    let mut browser = Browser::default();
    target.sign_in(&mut browser, &person).await;
    let silent = [LEVEL_2, ("prompt", Some("none"))];
    let answer = target.authorize(&mut browser, &silent).await;
    let error = &answer.parameters()["error"];
    assert!(["login_required", "interaction_required"].contains(&error.as_str()), "{error}");
    let page = target.authorize(&mut browser, &[LEVEL_2]).await;
    target.tokens(&browser.submit(&page, &[("otp", &person.code())]).await).await;
    let answer = target.authorize(&mut browser, &silent).await;
    assert_eq!(claims(&target.tokens(&answer).await, "id_token")["acr"], "2");
    a_while().await;
    let too_old = [LEVEL_2, ("prompt", Some("none")), ("max_age", Some("1"))];
    let answer = target.authorize(&mut browser, &too_old).await;
    assert_eq!(answer.parameters()["error"], "login_required");
}
