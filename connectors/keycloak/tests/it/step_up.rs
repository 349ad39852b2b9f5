use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{REALM_FILE, Server, claims, location};

fn essential(level: &str) -> String {
    json!({ "id_token": { "acr": { "essential": true, "values": [level] } } }).to_string()
}

/// Sends the form of a sign-in page with this field.
async fn send(server: &Server, page: &str, field: (&str, &str)) -> Response {
    let action = page.split_once("action=\"").unwrap().1.split_once('"').unwrap().0.replace("&amp;", "&");
    server.browser.post(action).form(&[field]).send().await.unwrap()
}

async fn tokens(server: &Server, answer: &Response) -> Value {
    let location = location(answer);
    let code = location.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    server.exchange(&code).await.1
}

#[tokio::test]
async fn the_second_level_takes_a_confirmation_and_stands_in_the_tokens() {
    let server = Server::start().await;
    for parameter in [("claims", essential("2")), ("acr_values", "2".to_owned())] {
        let page = server.authorize(&[(parameter.0, Some(&parameter.1))]).await.text().await.unwrap();
        server.pass(7);
        let picked = server.pick(&page, "acme-ceo").await;
        assert_eq!(picked.status(), StatusCode::OK);
        let page = picked.text().await.unwrap();
        assert!(page.contains("Is it really you, Carla Chief?"), "{page}");
        // Picking again doesn't confirm, and picks nobody else.
        let again = server.pick(&page, "acme-agent").await;
        assert_eq!(again.status(), StatusCode::OK);
        assert!(again.text().await.unwrap().contains("Carla Chief"));
        let confirmed = send(&server, &page, ("confirm", "yes")).await;
        assert_eq!(confirmed.status(), StatusCode::FOUND);
        let tokens = tokens(&server, &confirmed).await;
        for token in ["id_token", "access_token"] {
            let claims = claims(&tokens, token);
            assert_eq!((&claims["acr"], &claims["auth_time"]), (&json!("2"), &json!(server.clock_seconds())));
            assert_eq!(claims["sub"], "0b000000-0000-4000-8000-000000000002");
        }
        let (_, refreshed) = server.refresh(tokens["refresh_token"].as_str().unwrap()).await;
        assert_eq!(claims(&refreshed, "access_token")["acr"], "2");
    }
}

#[tokio::test]
async fn a_confirmation_alone_signs_nobody_in() {
    let server = Server::start().await;
    let page = server.authorize(&[("claims", Some(&essential("2")))]).await.text().await.unwrap();
    let answer = send(&server, &page, ("confirm", "yes")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().contains("There is nobody of that name here."));
}

#[tokio::test]
async fn a_level_that_nobody_reaches_is_refused_where_it_is_essential() {
    let server = Server::start().await;
    let refused = server.authorize(&[("claims", Some(&essential("gold")))]).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(refused.text().await.unwrap().contains("Invalid parameter: claims"));
    // Where it isn't, one gets what there is.
    let page = server.authorize(&[("acr_values", Some("gold"))]).await.text().await.unwrap();
    let answer = server.pick(&page, "acme-ceo").await;
    assert_eq!(claims(&tokens(&server, &answer).await, "id_token")["acr"], "1");

    let page = server.authorize(&[("claims", Some(&essential("3")))]).await.text().await.unwrap();
    let page = server.pick(&page, "acme-ceo").await.text().await.unwrap();
    let refused = send(&server, &page, ("confirm", "yes")).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(refused.text().await.unwrap().contains("Authentication requirements not fulfilled"));
}

#[tokio::test]
async fn levels_have_the_names_that_the_realm_gives_them() {
    let mut realm: Value = serde_json::from_str(REALM_FILE).unwrap();
    realm["attributes"]["acr.loa.map"] = json!("{\"silver\":1,\"gold\":2}");
    let server = Server::start_with(realm.to_string()).await;
    assert_eq!(claims(&server.tokens("acme-ceo").await, "id_token")["acr"], "silver");
    let page = server.authorize(&[("claims", Some(&essential("gold")))]).await.text().await.unwrap();
    let page = server.pick(&page, "acme-ceo").await.text().await.unwrap();
    let answer = send(&server, &page, ("confirm", "yes")).await;
    assert_eq!(claims(&tokens(&server, &answer).await, "access_token")["acr"], "gold");
}

#[tokio::test]
async fn while_it_is_unavailable_nothing_is_answered() {
    let server = Server::start().await;
    server.double.set_unavailable(true);
    assert_eq!(server.authorize(&[]).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    server.double.set_unavailable(false);
    server.tokens("acme-ceo").await;
}
