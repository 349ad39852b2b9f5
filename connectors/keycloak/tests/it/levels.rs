use connector_keycloak::fake::client::attribute;
use reqwest::{Response, StatusCode, header};
use serde_json::Value;

use crate::harness::{Server, claims, location};

const LEVEL_2: (&str, Option<&str>) = ("acr_values", Some("2"));

/// The code that the page shows and has filled in.
fn shown_code(page: &str) -> String {
    attribute(page, "name=\"otp\" value").unwrap_or_else(|| panic!("{page}"))
}

async fn give_code(server: &Server, page: &str, code: &str) -> Response {
    let action = page.split_once("action=\"").unwrap().1.split_once('"').unwrap().0.replace("&amp;", "&");
    server.browser.post(action).form(&[("otp", code)]).send().await.unwrap()
}

/// The cookie that an answer sets, as the browser sends it back.
fn cookie(answer: &Response) -> String {
    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("HttpOnly"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

async fn tokens(server: &Server, redirect: &Response) -> Value {
    assert_eq!(redirect.status(), StatusCode::FOUND);
    let code = location(redirect).query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    server.exchange(&code).await.1
}

/// Asks for level 2 with this cookie, and gives the answer.
async fn ask(server: &Server, cookie: &str, callback: &str) -> Response {
    let request = server.authorize_request(&[LEVEL_2, ("redirect_uri", Some(callback))]);
    request.header(header::COOKIE, cookie).send().await.unwrap()
}

#[tokio::test]
async fn somebody_without_one_time_codes_is_given_them() {
    let server = Server::start().await;
    let mut codes = Vec::new();
    for _ in 0..2 {
        let page = server.authorize(&[LEVEL_2]).await.text().await.unwrap();
        let page = server.pick(&page, "engineer").await.text().await.unwrap();
        let code = shown_code(&page);
        let redirect = give_code(&server, &page, &code).await;
        assert_eq!(claims(&tokens(&server, &redirect).await, "id_token")["acr"], "2");
        codes.push(code);
        let user = server.double.user_id("engineer").unwrap();
        assert!(server.admin().user(user).await.unwrap().is_some());
    }
    // The page never shows a code that was taken already.
    assert_ne!(codes[0], codes[1]);
}

#[tokio::test]
async fn level_2_lapses_after_five_minutes_and_the_session_goes_on() {
    let server = Server::start().await;
    let page = server.authorize(&[LEVEL_2]).await.text().await.unwrap();
    let page = server.pick(&page, "acme-ceo").await.text().await.unwrap();
    let redirect = give_code(&server, &page, &shown_code(&page)).await;
    let cookie = cookie(&redirect);
    let first = tokens(&server, &redirect).await;
    let callback = crate::harness::CALLBACK;
    server.pass(300);
    let again = tokens(&server, &ask(&server, &cookie, callback).await).await;
    assert_eq!(claims(&again, "id_token")["sid"], claims(&first, "id_token")["sid"]);
    server.pass(1);
    let (_, renewed) = server.refresh(again["refresh_token"].as_str().unwrap()).await;
    assert_eq!(claims(&renewed, "access_token")["acr"], "1");
    let page = ask(&server, &cookie, callback).await.text().await.unwrap();
    let redirect = give_code(&server, &page, &shown_code(&page)).await;
    let last = claims(&tokens(&server, &redirect).await, "id_token");
    assert_eq!((&last["acr"], &last["sid"]), (&"2".into(), &claims(&first, "id_token")["sid"]));
}

#[tokio::test]
async fn a_session_counts_for_the_host_that_it_was_made_for() {
    let server = Server::start().await;
    let page = server.authorize(&[]).await.text().await.unwrap();
    let redirect = server.pick(&page, "acme-ceo").await;
    let cookie = cookie(&redirect);
    let page = ask(&server, &cookie, crate::harness::CALLBACK).await.text().await.unwrap();
    assert!(page.contains("name=\"otp\""), "{page}");
    let page = ask(&server, &cookie, "http://localhost:8080/auth/callback").await.text().await.unwrap();
    assert!(page.contains("name=\"username\"") && !page.contains("name=\"otp\""), "{page}");
    // Signing in plainly picks a person anew.
    let request = server.authorize_request(&[]).header(header::COOKIE, &cookie);
    assert!(request.send().await.unwrap().text().await.unwrap().contains("name=\"username\""));
}
