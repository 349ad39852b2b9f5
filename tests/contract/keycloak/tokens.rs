use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    browser::{Browser, http},
    target::{AUTOMATION, SYNC, Target, claims, names, read_token},
};

pub async fn the_token_endpoint_says_what_is_wrong(target: Target) {
    let shell = target.shell();
    let who = "Invalid client or Invalid client credentials";
    let service = [("grant_type", "client_credentials")];
    for (client, form, status, error, description) in [
        ((SYNC.0, "wrong"), &service[..], 401, "unauthorized_client", who),
        (("nobody", "wrong"), &service, 401, "invalid_client", who),
        (shell, &service, 401, "unauthorized_client", "Client not enabled to retrieve service account"),
        (shell, &[("grant_type", "poem")], 400, "unsupported_grant_type", "Unsupported grant_type"),
        (shell, &[("x", "y")], 400, "invalid_request", "Missing form parameter: grant_type"),
        (
            shell,
            &[("grant_type", "refresh_token"), ("refresh_token", "x")],
            400,
            "invalid_grant",
            "Invalid refresh token",
        ),
        (shell, &[("grant_type", "refresh_token")], 400, "invalid_request", "No refresh token"),
        (
            shell,
            &[("grant_type", "authorization_code"), ("code", "x.y.z")],
            400,
            "invalid_grant",
            "Code not valid",
        ),
        (shell, &[("grant_type", "authorization_code")], 400, "invalid_request", "Missing parameter: code"),
        (
            shell,
            &[("grant_type", "password"), ("username", "engineer"), ("password", "demo-only-engineer")],
            400,
            "unauthorized_client",
            "Client not allowed for direct access grants",
        ),
        (
            SYNC,
            &[("grant_type", "client_credentials"), ("scope", "everything")],
            400,
            "invalid_scope",
            "Invalid scopes: everything",
        ),
    ] {
        let (found, body) = target.token(client, form).await;
        assert_eq!(body, json!({"error": error, "error_description": description}), "{form:?}");
        assert_eq!(found.as_u16(), status, "{form:?}");
    }
    let url = format!("{}-of-another-world/protocol/openid-connect/token", target.issuer());
    let answer = http().post(url).form(&service).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"error": "Realm does not exist"}));
}

pub async fn a_refresh_token_is_good_once(target: Target) {
    let person = target.person(&["/teams/support/agents"]).await;
    let first = target.sign_in(&mut Browser::default(), &person).await;
    let (status, second) = target.refresh(&first).await;
    assert_eq!(status, StatusCode::OK, "{second}");
    assert_eq!(names(&second), names(&first));
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_eq!(second["session_state"], first["session_state"]);
    let (before, after) = (claims(&first, "id_token"), claims(&second, "id_token"));
    // The nonce belongs to the request that began the session.
    assert_eq!(after.get("nonce"), None);
    for name in ["sub", "sid", "aud", "auth_time", "acr", "groups"] {
        assert_eq!(after[name], before[name], "{name}");
    }
    let (status, body) = target.refresh(&first).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let description = "Maximum allowed refresh token reuse exceeded";
    assert_eq!(body, json!({"error": "invalid_grant", "error_description": description}));
    // It was in two hands, so nobody goes on.
    let (status, body) = target.refresh(&second).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let description = "Session doesn't have required client";
    assert_eq!(body, json!({"error": "invalid_grant", "error_description": description}));
}

pub async fn a_refresh_token_is_its_clients_alone(target: Target) {
    let person = target.person(&[]).await;
    let tokens = target.sign_in(&mut Browser::default(), &person).await;
    let token = tokens["refresh_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
    let (status, body) = target.token(SYNC, &form).await;
    assert_eq!((status, &body["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    let access = tokens["access_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("refresh_token", access)];
    let (status, body) = target.token(target.shell(), &form).await;
    assert_eq!((status, &body["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    assert_eq!(target.refresh(&tokens).await.0, StatusCode::OK);
}

pub async fn user_info_is_for_good_access_tokens(target: Target) {
    let person = target.person(&["/teams/support/agents"]).await;
    let tokens = target.sign_in(&mut Browser::default(), &person).await;
    let ask = async |token: Option<&str>| {
        let mut request = http().get(target.endpoint("userinfo"));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        let challenge =
            answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        let status = answer.status();
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default();
        (status, challenge.unwrap_or_default(), body)
    };
    let access = tokens["access_token"].as_str().unwrap();
    let (status, _, body) = ask(Some(access)).await;
    assert_eq!(status, StatusCode::OK);
    let expected = json!({
        "sub": person.id, "preferred_username": person.username, "name": "Pat Person", "given_name": "Pat",
        "family_name": "Person", "email": format!("{}@contract.example", person.username), "email_verified": true,
        "groups": ["/teams/support/agents"],
    });
    assert_eq!(body, expected);

    let (status, challenge, _) = ask(None).await;
    assert_eq!((status, challenge.as_str()), (StatusCode::UNAUTHORIZED, "Bearer realm=\"chancery\""));
    for token in ["nonsense", tokens["id_token"].as_str().unwrap(), tokens["refresh_token"].as_str().unwrap()]
    {
        let (status, challenge, _) = ask(Some(token)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    }
    // A machine's token isn't for a person.
    let machine = target.machine(AUTOMATION).await;
    let (status, challenge, _) = ask(Some(&machine)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");

    target.manage(Method::PUT, &format!("users/{}", person.id), Some(json!({"enabled": false}))).await;
    let (status, challenge, _) = ask(Some(access)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(challenge.contains("error_description=\"User disabled\""), "{challenge}");
    target.manage(Method::DELETE, &format!("users/{}", person.id), None).await;
    let (status, challenge, _) = ask(Some(access)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(challenge.contains("error_description=\"user_session_not_found\""), "{challenge}");
}

pub async fn machines_get_tokens_of_their_own(target: Target) {
    let form = [("grant_type", "client_credentials")];
    let common = [
        "acr",
        "aud",
        "azp",
        "clientAddress",
        "clientHost",
        "client_id",
        "email_verified",
        "exp",
        "iat",
        "iss",
        "jti",
        "preferred_username",
        "scope",
        "sub",
        "typ",
    ];
    for (client, audience, more) in [
        (SYNC, "realm-management", "resource_access"),
        (AUTOMATION, "chancery-api", "groups"),
        (("chancery-webhooks", "demo-only-chancery-webhooks"), "chancery-api", ""),
    ] {
        let (status, tokens) = target.token(client, &form).await;
        assert_eq!(status, StatusCode::OK, "{tokens}");
        // Neither a session nor a refresh token.
        assert_eq!(
            names(&tokens),
            ["access_token", "expires_in", "not-before-policy", "refresh_expires_in", "scope", "token_type"]
        );
        assert_eq!(tokens["refresh_expires_in"], 0);
        let (_, claims) = read_token(tokens["access_token"].as_str().unwrap());
        let mut expected = common.to_vec();
        expected.extend(Some(more).filter(|more| !more.is_empty()));
        expected.sort_unstable();
        assert_eq!(names(&claims), expected, "{}", client.0);
        assert_eq!((&claims["aud"], &claims["typ"]), (&json!(audience), &json!("Bearer")), "{}", client.0);
        assert_eq!((&claims["azp"], &claims["client_id"]), (&json!(client.0), &json!(client.0)));
        assert_eq!(claims["preferred_username"], format!("service-account-{}", client.0));
        assert_eq!(claims["acr"], "1");
        assert!(claims["jti"].as_str().unwrap().starts_with("trrtcc:"));
    }
    let (_, claims) = read_token(&target.machine(AUTOMATION).await);
    assert_eq!(claims["groups"], json!(["/organizations/acme-corp/agents"]));
    let (_, claims) = read_token(&target.machine(SYNC).await);
    let roles = &claims["resource_access"]["realm-management"]["roles"];
    let mut roles: Vec<&str> = roles.as_array().unwrap().iter().map(|role| role.as_str().unwrap()).collect();
    roles.sort_unstable();
    assert_eq!(roles, ["query-groups", "query-users", "view-events", "view-users"]);
}
