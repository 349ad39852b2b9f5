use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{
    browser::Browser,
    target::{AUTOMATION, CALLBACK, SYNC, Target, claims, exchange_form, names},
};

pub async fn a_person_signs_in_by_code_and_pkce(target: Target) {
    let person = target.person(&["/organizations/acme-corp/approvers", "/teams/engineering/approvers"]).await;
    let mut browser = Browser::default();
    let page = target.authorize(&mut browser, &[]).await;
    let redirect = target.identify_as(&mut browser, &page, &person).await;
    assert_eq!(redirect.status, StatusCode::FOUND);
    assert!(redirect.location.as_ref().unwrap().as_str().starts_with(&format!("{CALLBACK}?")));
    let answer = redirect.parameters();
    assert_eq!(answer.keys().collect::<Vec<_>>(), ["code", "iss", "session_state", "state"]);
    assert_eq!((&answer["state"], &answer["iss"]), (&"a state & more".to_owned(), &target.issuer()));

    let tokens = target.tokens(&redirect).await;
    assert_eq!(
        names(&tokens),
        [
            "access_token",
            "expires_in",
            "id_token",
            "not-before-policy",
            "refresh_expires_in",
            "refresh_token",
            "scope",
            "session_state",
            "token_type"
        ]
    );
    for (name, value) in [
        ("token_type", json!("Bearer")),
        ("expires_in", json!(300)),
        ("refresh_expires_in", json!(1800)),
        ("not-before-policy", json!(0)),
        ("session_state", json!(answer["session_state"])),
    ] {
        assert_eq!(tokens[name], value, "{name}");
    }
    let mut scope: Vec<&str> = tokens["scope"].as_str().unwrap().split(' ').collect();
    scope.sort_unstable();
    assert_eq!(scope, ["email", "groups", "openid", "profile"]);

    let (id, access) = (claims(&tokens, "id_token"), claims(&tokens, "access_token"));
    let common = [
        "acr",
        "aud",
        "auth_time",
        "azp",
        "email",
        "email_verified",
        "exp",
        "family_name",
        "given_name",
        "groups",
        "iat",
        "iss",
        "jti",
        "name",
        "preferred_username",
        "sid",
        "sub",
        "typ",
    ];
    let with = |more: &[&'static str]| {
        let mut all = [&common[..], more].concat();
        all.sort_unstable();
        all
    };
    assert_eq!(names(&id), with(&["at_hash", "nonce"]));
    assert_eq!(names(&access), with(&["allowed-origins", "scope"]));
    for token in [&id, &access] {
        for (name, value) in [
            ("iss", json!(target.issuer())),
            ("azp", json!(target.client)),
            ("sub", json!(person.id)),
            ("sid", json!(answer["session_state"])),
            ("acr", json!("1")),
            ("preferred_username", json!(person.username)),
            ("name", json!("Pat Person")),
            ("given_name", json!("Pat")),
            ("family_name", json!("Person")),
            ("email", json!(format!("{}@contract.example", person.username))),
            ("email_verified", json!(true)),
        ] {
            assert_eq!(token[name], value, "{name}");
        }
        assert_eq!(token["exp"].as_i64(), token["iat"].as_i64().map(|issued| issued + 300));
        assert!(token["auth_time"].as_i64() <= token["iat"].as_i64());
        let mut groups: Vec<&str> =
            token["groups"].as_array().unwrap().iter().map(|group| group.as_str().unwrap()).collect();
        groups.sort_unstable();
        assert_eq!(groups, ["/organizations/acme-corp/approvers", "/teams/engineering/approvers"]);
    }
    assert_eq!(
        (&id["typ"], &id["aud"], &id["nonce"]),
        (&json!("ID"), &json!(target.client), &json!("a nonce"))
    );
    assert_eq!((&access["typ"], &access["aud"]), (&json!("Bearer"), &json!("chancery-api")));
    assert!(access["jti"].as_str().unwrap().starts_with("onrtac:"));
    assert_eq!(access["allowed-origins"].as_array().unwrap().len(), 8);
}

pub async fn somebody_without_groups_has_no_groups_claim(target: Target) {
    let person = target.person(&[]).await;
    let tokens = target.sign_in(&mut Browser::default(), &person).await;
    for name in ["id_token", "access_token"] {
        assert_eq!(claims(&tokens, name).get("groups"), None, "{name}");
        assert_eq!(claims(&tokens, name).get("resource_access"), None, "{name}");
    }
}

pub async fn what_is_wrong_with_a_request_is_said_in_the_redirect(target: Target) {
    for (changes, error, description) in [
        (&[("prompt", Some("none"))][..], "login_required", None),
        (&[("response_type", None)], "invalid_request", Some("Missing parameter: response_type")),
        (&[("response_type", Some("poem"))], "unsupported_response_type", None),
        (&[("scope", Some("openid everything"))], "invalid_scope", Some("Invalid scopes: openid everything")),
        (
            &[("code_challenge", None), ("code_challenge_method", None)],
            "invalid_request",
            Some("Missing parameter: code_challenge_method"),
        ),
        (&[("code_challenge", None)], "invalid_request", Some("Missing parameter: code_challenge")),
        (
            &[("code_challenge_method", Some("plain"))],
            "invalid_request",
            Some("Invalid parameter: code challenge method is not matching the configured one"),
        ),
        (
            &[("code_challenge", Some("too-short"))],
            "invalid_request",
            Some("Invalid parameter: code_challenge"),
        ),
    ] {
        let answer = target.authorize(&mut Browser::default(), changes).await;
        assert_eq!(answer.status, StatusCode::FOUND, "{changes:?}");
        let location = answer.location.clone().unwrap();
        let said = location.query().or(location.fragment()).unwrap();
        assert!(location.as_str().starts_with(CALLBACK), "{location}");
        assert!(said.contains(&format!("error={error}&")), "{changes:?}: {said}");
        if let Some(description) = description {
            let parameters = answer.parameters();
            assert_eq!(parameters["error_description"], description);
            assert_eq!(
                (&parameters["state"], &parameters["iss"]),
                (&"a state & more".to_owned(), &target.issuer())
            );
        }
    }
}

pub async fn nobody_is_sent_to_an_address_that_the_client_does_not_have(target: Target) {
    for uri in [
        None,
        Some("http://evil.example/auth/callback"),
        Some("http://127.0.0.1:8080/auth/callback/"),
        Some("http://127.0.0.1:8080/auth/callback?next=x"),
        Some("http://127.0.0.1:8080@evil.example/auth/callback"),
        Some("http://127.0.0.1:9999/auth/callback"),
    ] {
        let answer = target.authorize(&mut Browser::default(), &[("redirect_uri", uri)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri:?}");
        assert_eq!(answer.location, None, "{uri:?}");
    }
    let other = Some("http://acme-ceo.localhost:8080/auth/callback");
    let answer = target.authorize(&mut Browser::default(), &[("redirect_uri", other)]).await;
    assert_eq!(answer.status, StatusCode::OK);
    for (client, status) in [
        ("nobody", StatusCode::BAD_REQUEST),
        (SYNC.0, StatusCode::BAD_REQUEST),
        (AUTOMATION.0, StatusCode::BAD_REQUEST),
        ("chancery-api", StatusCode::FORBIDDEN),
    ] {
        let answer = target.authorize(&mut Browser::default(), &[("client_id", Some(client))]).await;
        assert_eq!((answer.status, answer.location), (status, None), "{client}");
    }
}

pub async fn a_disabled_person_cannot_sign_in(target: Target) {
    let person = target.person(&[]).await;
    let path = format!("users/{}", person.id);
    target.manage(Method::PUT, &path, Some(json!({"enabled": false}))).await;
    let mut browser = Browser::default();
    let page = target.authorize(&mut browser, &[]).await;
    let answer = target.identify_as(&mut browser, &page, &person).await;
    assert_eq!((answer.status, &answer.location), (StatusCode::OK, &None));
    assert!(answer.body.contains("Account is disabled, contact your administrator."));
    assert!(answer.asks_for("username"), "the page is there again");
    target.manage(Method::PUT, &path, Some(json!({"enabled": true}))).await;
    let answer = target.identify_as(&mut browser, &answer, &person).await;
    assert_eq!(answer.status, StatusCode::FOUND);
}

pub async fn a_code_needs_its_verifier_its_redirect_and_its_client(target: Target) {
    let person = target.person(&[]).await;
    let wrong_verifier = "b".repeat(50);
    let shell = target.shell();
    for (client, name, value, description) in [
        (shell, "code_verifier", None, "PKCE code verifier not specified"),
        (shell, "code_verifier", Some(""), "PKCE verification failed: Invalid code verifier"),
        (shell, "code_verifier", Some("short"), "PKCE verification failed: Invalid code verifier"),
        (shell, "code_verifier", Some(&*wrong_verifier), "PKCE verification failed: Code mismatch"),
        (shell, "redirect_uri", None, "Incorrect redirect_uri"),
        (shell, "redirect_uri", Some("http://localhost:8080/auth/callback"), "Incorrect redirect_uri"),
        (SYNC, "redirect_uri", Some(CALLBACK), "Auth error: Found different client_id in clientSession"),
    ] {
        let mut browser = Browser::default();
        let page = target.authorize(&mut browser, &[]).await;
        let redirect = target.identify_as(&mut browser, &page, &person).await;
        let parameters = redirect.parameters();
        let mut form = exchange_form(&parameters["code"]).to_vec();
        form.retain(|(known, _)| *known != name);
        form.extend(value.map(|value| (name, value)));
        let (status, body) = target.token(client, &form).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{description}");
        assert_eq!(body, json!({"error": "invalid_grant", "error_description": description}));
        // The failed attempt has used the code up.
        let (_, body) = target.exchange(&redirect).await;
        assert_eq!(body["error_description"], "Code not valid", "{description}");
    }
}

pub async fn a_code_used_twice_ends_what_its_first_use_began(target: Target) {
    let person = target.person(&[]).await;
    let mut browser = Browser::default();
    let page = target.authorize(&mut browser, &[]).await;
    let redirect = target.identify_as(&mut browser, &page, &person).await;
    let tokens = target.tokens(&redirect).await;
    let (status, body) = target.exchange(&redirect).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(body, json!({"error": "invalid_grant", "error_description": "Code not valid"}));
    let (status, body) = target.refresh(&tokens).await;
    assert_eq!((status, &body["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
}
