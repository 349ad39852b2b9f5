use connector_core::ErrorKind;
use connector_keycloak::{discover, jwks};
use reqwest::StatusCode;
use serde_json::{Value, json};
use url::Url;

use crate::harness::{CALLBACK, SHELL, SYNC, Server, claims, exchange_form, location, read_token};

#[tokio::test]
async fn a_person_signs_in_by_code_and_pkce() {
    let server = Server::start().await;
    let metadata = discover(&server.double.issuer().parse().unwrap()).await.unwrap();
    assert_eq!(metadata.authorization_endpoint.as_str(), server.endpoint("auth"));

    let answer = server.sign_in("acme-ceo").await;
    assert_eq!(answer["state"], "a state & more");
    assert_eq!(answer["iss"], server.double.issuer());
    let (status, tokens) = server.exchange(&answer["code"]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(tokens["expires_in"], 300);
    assert_eq!(tokens["refresh_expires_in"], 1800);
    assert_eq!(tokens["scope"], "openid profile email groups");

    let (header, id) = read_token(tokens["id_token"].as_str().unwrap());
    let keys = jwks(&metadata.jwks_uri).await.unwrap();
    let signing: Vec<&Value> =
        keys["keys"].as_array().unwrap().iter().filter(|key| key["use"] == "sig").collect();
    assert_eq!(signing.len(), 1);
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": signing[0]["kid"]}));
    let now = server.clock_seconds();
    for (name, value) in [
        ("iss", json!(server.double.issuer())),
        ("aud", json!("chancery-shell")),
        ("azp", json!("chancery-shell")),
        ("typ", json!("ID")),
        ("sub", json!("0b000000-0000-4000-8000-000000000002")),
        ("nonce", json!("a nonce")),
        ("sid", json!(answer["session_state"])),
        ("acr", json!("1")),
        ("auth_time", json!(now)),
        ("iat", json!(now)),
        ("exp", json!(now + 300)),
        ("preferred_username", json!("acme-ceo")),
        ("name", json!("Carla Chief")),
        ("email", json!("acme-ceo@acme.example")),
        ("email_verified", json!(true)),
        ("groups", json!(["/organizations/acme-corp/approvers", "/teams/engineering/approvers"])),
    ] {
        assert_eq!(id[name], value, "{name}");
    }
    let access = claims(&tokens, "access_token");
    assert_eq!(access["typ"], "Bearer");
    assert_eq!(access["aud"], "chancery-api");
    assert_eq!(access["sid"], id["sid"]);
    assert_eq!(access.get("nonce"), None);
}

#[tokio::test]
async fn somebody_without_groups_has_no_groups_claim() {
    let server = Server::start().await;
    let tokens = server.tokens("suite-admin").await;
    assert_eq!(claims(&tokens, "id_token").get("groups"), None);
    assert_eq!(claims(&tokens, "access_token").get("groups"), None);
    // The shell's tokens carry no roles either: what a person may do is asked of the Admin API.
    assert_eq!(claims(&tokens, "access_token").get("resource_access"), None);
}

#[tokio::test]
async fn the_page_lists_people_only_and_puts_the_hinted_one_first() {
    let server = Server::start().await;
    let answer = server.authorize(&[("login_hint", Some("outsider"))]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'"), "{policy}");
    // Chromium would hold the redirect back otherwise.
    assert!(policy.contains("http://127.0.0.1:8080"), "{policy}");
    let page = answer.text().await.unwrap();
    let names: Vec<&str> =
        page.split("value=\"").skip(1).map(|rest| rest.split_once('"').unwrap().0).collect();
    assert_eq!(names[0], "outsider");
    assert_eq!(names.len(), 6);
    assert!(!names.iter().any(|name| name.starts_with("service-account")));
}

#[tokio::test]
async fn what_is_wrong_with_the_pkce_request_is_said_in_the_redirect() {
    let server = Server::start().await;
    for (changes, description) in [
        (
            &[("code_challenge", None), ("code_challenge_method", None)][..],
            "Missing parameter: code_challenge_method",
        ),
        (&[("code_challenge", None)], "Missing parameter: code_challenge"),
        (
            &[("code_challenge_method", Some("plain"))],
            "Invalid parameter: code challenge method is not matching the configured one",
        ),
        (&[("code_challenge", Some("too-short"))], "Invalid parameter: code_challenge"),
    ] {
        let answer = server.authorize(changes).await;
        assert_eq!(answer.status(), StatusCode::FOUND, "{description}");
        let query: Vec<(String, String)> = location(&answer).query_pairs().into_owned().collect();
        let expected = [
            ("error", "invalid_request"),
            ("error_description", description),
            ("state", "a state & more"),
            ("iss", server.double.issuer()),
        ];
        assert_eq!(query, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

#[tokio::test]
async fn other_faults_of_a_request_have_their_own_error_in_the_redirect() {
    let server = Server::start().await;
    for (changes, error) in [
        (("prompt", Some("none")), "login_required"),
        (("response_type", None), "invalid_request"),
        (("response_type", Some("code token")), "unauthorized_client"),
        (("response_type", Some("poem")), "unsupported_response_type"),
        (("scope", Some("openid everything")), "invalid_scope"),
        (("response_mode", Some("pigeon")), "invalid_request"),
    ] {
        let answer = server.authorize(&[changes]).await;
        assert_eq!(answer.status(), StatusCode::FOUND, "{changes:?}");
        let to = location(&answer);
        let answer = to.query().or(to.fragment()).unwrap();
        assert!(answer.starts_with(&format!("error={error}&")), "{changes:?}: {to}");
    }
}

#[tokio::test]
async fn nobody_is_sent_to_an_address_that_the_client_does_not_have() {
    let server = Server::start().await;
    for uri in [
        None,
        Some("http://evil.example/auth/callback"),
        Some("http://127.0.0.1:8080/auth/callback/"),
        Some("http://127.0.0.1:8080/auth/callback?next=x"),
        Some("http://127.0.0.1:8080@evil.example/auth/callback"),
        Some("http://127.0.0.1:9999/auth/callback"),
    ] {
        let answer = server.authorize(&[("redirect_uri", uri)]).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{uri:?}");
        assert!(answer.headers().get("location").is_none(), "{uri:?}");
    }
    let answer =
        server.authorize(&[("redirect_uri", Some("http://acme-ceo.localhost:8080/auth/callback"))]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    for (client, status) in [
        ("nobody", StatusCode::BAD_REQUEST),
        ("chancery-sync", StatusCode::BAD_REQUEST),
        ("chancery-api", StatusCode::FORBIDDEN),
    ] {
        let answer = server.authorize(&[("client_id", Some(client))]).await;
        assert_eq!(answer.status(), status, "{client}");
    }
}

#[tokio::test]
async fn a_sign_in_page_works_once_and_not_for_ever() {
    let server = Server::start().await;
    let page = server.authorize(&[]).await.text().await.unwrap();
    assert_eq!(server.pick(&page, "acme-agent").await.status(), StatusCode::FOUND);
    assert_eq!(server.pick(&page, "acme-agent").await.status(), StatusCode::BAD_REQUEST);
    let page = server.authorize(&[]).await.text().await.unwrap();
    server.pass(1801);
    assert_eq!(server.pick(&page, "acme-agent").await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_disabled_person_and_a_service_account_cannot_sign_in() {
    let server = Server::start().await;
    server.double.set_enabled("acme-viewer", false).unwrap();
    let page = server.authorize(&[]).await.text().await.unwrap();
    for name in ["acme-viewer", "service-account-chancery-sync", "nobody", "<script>"] {
        let answer = server.pick(&page, name).await;
        assert_eq!(answer.status(), StatusCode::OK, "{name}");
        let again = answer.text().await.unwrap();
        assert!(again.contains("role=\"alert\""), "{name}");
        assert!(!again.contains("<script"), "{name}");
    }
    // The page is still good for somebody else.
    assert_eq!(server.pick(&page, "acme-agent").await.status(), StatusCode::FOUND);
}

#[tokio::test]
async fn a_code_used_twice_ends_what_its_first_use_began() {
    let server = Server::start().await;
    let code = server.code("acme-agent").await;
    let (_, tokens) = server.exchange(&code).await;
    let (status, body) = server.exchange(&code).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body, json!({"error": "invalid_grant", "error_description": "Code not valid"}));
    let (status, _) = server.refresh(tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_code_is_good_for_a_minute() {
    let server = Server::start().await;
    let code = server.code("acme-agent").await;
    server.pass(60);
    assert_eq!(server.exchange(&code).await.0, StatusCode::OK);
    let code = server.code("acme-agent").await;
    server.pass(61);
    let (status, body) = server.exchange(&code).await;
    assert_eq!((status, &body["error_description"]), (StatusCode::BAD_REQUEST, &json!("Code is expired")));
}

#[tokio::test]
async fn a_code_needs_its_verifier_its_redirect_and_its_client() {
    let server = Server::start().await;
    let wrong_verifier = "b".repeat(50);
    for (client, name, value, description) in [
        (SHELL, "code_verifier", "", "PKCE verification failed: Invalid code verifier"),
        (SHELL, "code_verifier", "short", "PKCE verification failed: Invalid code verifier"),
        (SHELL, "code_verifier", &wrong_verifier, "PKCE verification failed: Code mismatch"),
        (SHELL, "redirect_uri", "http://localhost:8080/auth/callback", "Incorrect redirect_uri"),
        (SYNC, "redirect_uri", CALLBACK, "Auth error: Found different client_id in clientSession"),
    ] {
        let code = server.code("acme-agent").await;
        let mut form = exchange_form(&code);
        form.iter_mut().find(|(known, _)| *known == name).unwrap().1 = value;
        let (status, body) = server.token(client, &form).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{description}");
        assert_eq!(body, json!({"error": "invalid_grant", "error_description": description}));
        // The failed attempt has used the code up.
        let (_, body) = server.exchange(&code).await;
        assert_eq!(body["error_description"], "Code not valid", "{description}");
    }
}

#[tokio::test]
async fn signing_out_ends_the_session_and_leads_back() {
    let server = Server::start().await;
    let tokens = server.tokens("acme-agent").await;
    // The token only says which session it is: that it has expired doesn't matter.
    server.pass(400);
    let hint = tokens["id_token"].as_str().unwrap();
    let query = [
        ("id_token_hint", hint),
        ("post_logout_redirect_uri", "http://127.0.0.1:8080/auth/signed-out"),
        ("state", "s 1"),
    ];
    let answer = server.browser.get(server.endpoint("logout")).query(&query).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert_eq!(location(&answer).as_str(), "http://127.0.0.1:8080/auth/signed-out?state=s+1");
    let (status, body) = server.refresh(tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!((status, &body["error_description"]), (StatusCode::BAD_REQUEST, &json!("Session not active")));
    // Signing out of what has ended is fine.
    let answer = server.browser.get(server.endpoint("logout")).query(&query).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
}

#[tokio::test]
async fn signing_out_leads_nowhere_that_the_client_does_not_have() {
    let server = Server::start().await;
    let tokens = server.tokens("acme-agent").await;
    let (id, access) = (tokens["id_token"].as_str().unwrap(), tokens["access_token"].as_str().unwrap());
    let home = ("post_logout_redirect_uri", "http://127.0.0.1:8080/auth/signed-out");
    let evil = ("post_logout_redirect_uri", "http://evil.example/");
    for query in [
        vec![home],
        vec![("id_token_hint", "nonsense"), home],
        vec![("id_token_hint", access), home],
        vec![("id_token_hint", id), evil],
        vec![("client_id", "chancery-shell"), evil],
        vec![("client_id", "chancery-sync"), ("id_token_hint", id), home],
    ] {
        let answer = server.browser.get(server.endpoint("logout")).query(&query).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{query:?}");
        assert!(answer.headers().get("location").is_none());
    }
    assert_eq!(server.refresh(tokens["refresh_token"].as_str().unwrap()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_server_that_calls_itself_otherwise_is_misconfigured() {
    let server = Server::start().await;
    let mut other: Url = server.double.issuer().parse().unwrap();
    other.set_host(Some("localhost")).unwrap();
    let error = discover(&other).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    let missing = format!("{}-of-another-world", server.double.issuer()).parse().unwrap();
    assert_eq!(discover(&missing).await.unwrap_err().status, Some(404));
}
