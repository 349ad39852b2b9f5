use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, routing::post};
use connector_keycloak::{fake::Signature, jwks};
use reqwest::StatusCode;
use serde_json::{Map, Value, json};

use crate::harness::{AUTOMATION, REALM_FILE, SHELL, SYNC, Server, claims, read_token};

#[tokio::test]
async fn a_refresh_token_is_good_once_and_gives_the_next_one() {
    let server = Server::start().await;
    let first = server.tokens("acme-agent").await;
    server.pass(10);
    let (status, second) = server.refresh(first["refresh_token"].as_str().unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    let (before, after) = (claims(&first, "id_token"), claims(&second, "id_token"));
    assert_eq!(before["sid"], after["sid"]);
    assert_eq!(before["auth_time"], after["auth_time"]);
    assert_eq!(after["iat"].as_i64(), before["iat"].as_i64().map(|issued| issued + 10));
    assert_eq!(after.get("nonce"), None);
    server.pass(10);
    assert_eq!(server.refresh(second["refresh_token"].as_str().unwrap()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_the_session_at_the_client() {
    let server = Server::start().await;
    let first = server.tokens("acme-agent").await;
    let (_, second) = server.refresh(first["refresh_token"].as_str().unwrap()).await;
    let (status, body) = server.refresh(first["refresh_token"].as_str().unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body["error_description"], "Maximum allowed refresh token reuse exceeded");
    let (_, body) = server.refresh(second["refresh_token"].as_str().unwrap()).await;
    assert_eq!(body["error_description"], "Session doesn't have required client");
}

#[tokio::test]
async fn refreshing_fails_for_the_idle_the_disabled_and_other_clients() {
    let server = Server::start().await;
    let tokens = server.tokens("acme-agent").await;
    let refresh_token = tokens["refresh_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
    assert_eq!(server.token(AUTOMATION, &form).await.0, StatusCode::BAD_REQUEST);
    server.double.set_enabled("acme-agent", false).unwrap();
    assert_eq!(server.refresh(refresh_token).await.1["error_description"], "User disabled");
    server.double.set_enabled("acme-agent", true).unwrap();
    server.pass(1801);
    assert_eq!(server.refresh(refresh_token).await.1["error_description"], "Token is not active");
    for nonsense in ["nonsense", tokens["access_token"].as_str().unwrap()] {
        assert_eq!(server.refresh(nonsense).await.1["error_description"], "Invalid refresh token");
    }
}

#[tokio::test]
async fn a_service_account_gets_a_token_without_a_session() {
    let server = Server::start().await;
    let (status, answer) = server.token(AUTOMATION, &[("grant_type", "client_credentials")]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["refresh_expires_in"], 0);
    assert_eq!((answer.get("refresh_token"), answer.get("id_token")), (None, None));
    let token = claims(&answer, "access_token");
    assert_eq!(token["aud"], "chancery-api");
    assert_eq!(token["sub"], "0b000000-0000-4000-8000-000000000012");
    assert_eq!(token["client_id"], "chancery-automation");
    assert_eq!(token["groups"], json!(["/organizations/acme-corp/agents"]));
    assert_eq!((token.get("sid"), token.get("auth_time")), (None, None));
    let (_, answer) = server.token(SYNC, &[("grant_type", "client_credentials")]).await;
    assert_eq!(claims(&answer, "access_token")["aud"], "realm-management");
}

#[tokio::test]
async fn clients_and_grants_are_refused_with_keycloaks_own_words() {
    let server = Server::start().await;
    let credentials = [("grant_type", "client_credentials")];
    for (client, form, status, error) in [
        (("nobody", "x"), &credentials[..], 401, "invalid_client"),
        (("chancery-shell", "x"), &credentials, 401, "unauthorized_client"),
        (("chancery-api", ""), &credentials, 401, "unauthorized_client"),
        (SHELL, &credentials, 401, "unauthorized_client"),
        (SHELL, &[], 400, "invalid_request"),
        (SHELL, &[("grant_type", "magic")], 400, "unsupported_grant_type"),
        (SHELL, &[("grant_type", "authorization_code")], 400, "invalid_request"),
        (SHELL, &[("grant_type", "password"), ("username", "acme-ceo")], 400, "unauthorized_client"),
        (SHELL, &[("grant_type", "magic"), ("grant_type", "refresh_token")], 400, "invalid_request"),
        (AUTOMATION, &[("grant_type", "client_credentials"), ("scope", "everything")], 400, "invalid_scope"),
    ] {
        let (answered, body) = server.token(client, form).await;
        assert_eq!(
            (answered.as_u16(), body["error"].as_str().unwrap()),
            (status, error),
            "{client:?} {form:?}"
        );
        assert!(body["error_description"].is_string());
    }
}

#[tokio::test]
async fn a_client_may_send_its_secret_in_the_form() {
    let server = Server::start().await;
    let form =
        [("grant_type", "client_credentials"), ("client_id", AUTOMATION.0), ("client_secret", AUTOMATION.1)];
    let answer = server.browser.post(server.endpoint("token")).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn a_client_that_may_takes_passwords() {
    let mut realm: Value = serde_json::from_str(REALM_FILE).unwrap();
    realm["clients"][0]["directAccessGrantsEnabled"] = true.into();
    let server = Server::start_with(realm.to_string()).await;
    let form = |password| {
        [("grant_type", "password"), ("username", "acme-ceo"), ("password", password), ("scope", "openid")]
    };
    let (status, tokens) = server.token(SHELL, &form("demo-only-acme-ceo")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(claims(&tokens, "id_token")["preferred_username"], "acme-ceo");
    let (status, body) = server.token(SHELL, &form("demo-only-acme-agent")).await;
    assert_eq!((status, &body["error"]), (StatusCode::UNAUTHORIZED, &json!("invalid_grant")));
}

#[tokio::test]
async fn user_info_is_for_access_tokens_of_living_sessions() {
    let server = Server::start().await;
    let tokens = server.tokens("outsider").await;
    let ask = async |token: &str| {
        let answer = server.browser.get(server.endpoint("userinfo")).bearer_auth(token).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let access = tokens["access_token"].as_str().unwrap();
    let (status, body) = ask(access).await;
    assert_eq!(status, StatusCode::OK);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body,
        json!({"sub": "0b000000-0000-4000-8000-000000000006", "preferred_username": "outsider", "name": "Oscar Outsider",
            "given_name": "Oscar", "family_name": "Outsider", "email": "outsider@globex.example", "email_verified": true,
            "groups": ["/organizations/globex/agents"]})
    );
    assert_eq!(ask("nonsense").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(tokens["id_token"].as_str().unwrap()).await.0, StatusCode::UNAUTHORIZED);
    server.pass(301);
    assert_eq!(ask(access).await.0, StatusCode::UNAUTHORIZED);
    let fresh = server.tokens("outsider").await;
    server.double.sign_out_user("outsider").await.unwrap();
    assert_eq!(ask(fresh["access_token"].as_str().unwrap()).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn rotated_keys_still_verify_and_replaced_ones_do_not() {
    let server = Server::start().await;
    let jwks_uri = server.endpoint("certs").parse().unwrap();
    let kids = async || -> Vec<String> {
        let keys = jwks(&jwks_uri).await.unwrap();
        let keys = keys["keys"].as_array().unwrap().clone();
        assert!(keys.iter().any(|key| key["use"] == "enc"));
        keys.iter()
            .filter(|key| key["use"] == "sig")
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };
    let userinfo = async |token: &str| {
        server.browser.get(server.endpoint("userinfo")).bearer_auth(token).send().await.unwrap().status()
    };
    let old = server.tokens("acme-agent").await["access_token"].as_str().unwrap().to_owned();
    let old_kid = read_token(&old).0["kid"].as_str().unwrap().to_owned();
    assert_eq!(kids().await, std::slice::from_ref(&old_kid));
    server.double.rotate_keys().unwrap();
    let after = kids().await;
    assert_eq!((after.len(), &after[1]), (2, &old_kid));
    let new = server.tokens("acme-agent").await["access_token"].as_str().unwrap().to_owned();
    assert_eq!(read_token(&new).0["kid"], *after[0]);
    assert_eq!(userinfo(&old).await, StatusCode::OK);
    server.double.replace_keys_now().unwrap();
    assert!(!kids().await.contains(&old_kid));
    assert_eq!(userinfo(&old).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn forged_tokens_are_what_they_claim_to_be_and_the_double_refuses_them() {
    let server = Server::start().await;
    let mint = |overrides: Value, signature| {
        let Value::Object(overrides) = overrides else { unreachable!() };
        server.double.mint_access_token("chancery-shell", "acme-ceo", overrides, signature).unwrap()
    };
    let userinfo = async |token: &str| {
        server.browser.get(server.endpoint("userinfo")).bearer_auth(token).send().await.unwrap().status()
    };
    let good = mint(json!({}), Signature::Valid);
    assert_eq!(userinfo(&good).await, StatusCode::OK);
    let kid = read_token(&good).0["kid"].clone();
    for (signature, algorithm, same_kid) in [
        (Signature::None, "none", true),
        (Signature::HmacWithPublicKey, "HS256", true),
        (Signature::ForeignKey, "RS256", true),
        (Signature::UnknownKey, "RS256", false),
    ] {
        let token = mint(json!({}), signature);
        let (header, _) = read_token(&token);
        assert_eq!(header["alg"], algorithm);
        assert_eq!(header["kid"] == kid, same_kid);
        assert_eq!(userinfo(&token).await, StatusCode::UNAUTHORIZED, "{signature:?}");
    }
    for overrides in
        [json!({"exp": 1}), json!({"exp": null}), json!({"iss": "http://other"}), json!({"typ": "ID"})]
    {
        let token = mint(overrides.clone(), Signature::Valid);
        assert_eq!(userinfo(&token).await, StatusCode::UNAUTHORIZED, "{overrides}");
    }
}

#[tokio::test]
async fn keys_sessions_and_changes_survive_a_restart() {
    let server = Server::start().await;
    let tokens = server.tokens("acme-viewer").await;
    server.double.add_to_group("acme-viewer", "/teams/support/agents").unwrap();
    let server = server.restart(REALM_FILE).await;
    let jwks = jwks(&server.endpoint("certs").parse().unwrap()).await.unwrap();
    let kid = read_token(tokens["id_token"].as_str().unwrap()).0["kid"].clone();
    assert!(jwks["keys"].as_array().unwrap().iter().any(|key| key["kid"] == kid));
    let (status, tokens) = server.refresh(tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        claims(&tokens, "access_token")["groups"],
        json!(["/organizations/acme-corp/viewers", "/teams/support/agents"])
    );
    // A file with other people in it replaces what was changed.
    let server = server.restart(&REALM_FILE.replace("Victor", "Vera")).await;
    let id = claims(&server.tokens("acme-viewer").await, "id_token");
    assert_eq!(id["name"], "Vera Viewer");
    assert_eq!(id["groups"], json!(["/organizations/acme-corp/viewers"]));
}

#[tokio::test]
async fn ending_a_session_sends_a_logout_token_to_the_client() {
    let received: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = Router::new().route(
        "/auth/backchannel-logout",
        post({
            let received = Arc::clone(&received);
            async move |body: Bytes| received.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap())
        }),
    );
    tokio::spawn(connector_core::fake::serve(app, listener, std::future::pending()));
    let realm = REALM_FILE.replace(
        "http://127.0.0.1:8080/auth/backchannel-logout",
        &format!("http://127.0.0.1:{port}/auth/backchannel-logout"),
    );
    let server = Server::start_with(realm).await;
    let tokens = server.tokens("acme-ceo").await;
    server.double.sign_out_user("acme-ceo").await.unwrap();
    let received = received.lock().unwrap();
    assert_eq!(received.len(), 1);
    let (header, token) = read_token(received[0].strip_prefix("logout_token=").unwrap());
    assert_eq!(header["typ"], "logout+jwt");
    assert_eq!(token["typ"], "Logout");
    assert_eq!(token["aud"], "chancery-shell");
    assert_eq!(token["sub"], "0b000000-0000-4000-8000-000000000002");
    assert_eq!(token["sid"], claims(&tokens, "id_token")["sid"]);
    assert_eq!(token["events"], json!({"http://schemas.openid.net/event/backchannel-logout": {}}));
    assert_eq!(token["exp"].as_i64(), token["iat"].as_i64().map(|issued| issued + 120));
    assert_eq!(token.get("nonce"), None);
}

#[tokio::test]
async fn minted_id_and_logout_tokens_take_overrides() {
    let server = Server::start().await;
    let overrides: Map<String, Value> = [("nonce".to_owned(), json!("mine"))].into_iter().collect();
    let token = server
        .double
        .mint_id_token("chancery-shell", "engineer", overrides.clone(), Signature::Valid)
        .unwrap();
    assert_eq!(read_token(&token).1["nonce"], "mine");
    let token = server
        .double
        .mint_logout_token("chancery-shell", "engineer", "a-session", overrides, Signature::Valid)
        .unwrap();
    let (header, claims) = read_token(&token);
    assert_eq!(
        (&header["typ"], &claims["sid"], &claims["nonce"]),
        (&json!("logout+jwt"), &json!("a-session"), &json!("mine"))
    );
}
