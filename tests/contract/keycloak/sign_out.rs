use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    browser::{Browser, http},
    target::{SECRET, SIGNED_OUT, Target, claims, names, read_token},
};

fn session(tokens: &Value) -> Value {
    claims(tokens, "id_token")["sid"].clone()
}

pub async fn signing_out_leads_back_and_tells_the_client(target: Target) {
    let person = target.person(&[]).await;
    let mut browser = Browser::default();
    let tokens = target.sign_in(&mut browser, &person).await;
    let query = [
        ("id_token_hint", tokens["id_token"].as_str().unwrap()),
        ("client_id", &target.client),
        ("post_logout_redirect_uri", SIGNED_OUT),
        ("state", "s 1"),
    ];
    // A second time there is nothing to end any more, and it leads back all the same.
    for _ in 0..2 {
        let answer = browser.get(&target.endpoint("logout"), &query).await;
        assert_eq!(answer.status, StatusCode::FOUND, "{}", answer.body);
        assert_eq!(answer.location.unwrap().as_str(), format!("{SIGNED_OUT}?state=s+1"));
    }
    let (status, body) = target.refresh(&tokens).await;
    assert_eq!((status, &body["error_description"]), (StatusCode::BAD_REQUEST, &json!("Session not active")));

    let received = target.logout_tokens();
    assert_eq!(received.len(), 1, "once, in the browser's request");
    let (header, token) = read_token(received[0].strip_prefix("logout_token=").unwrap());
    assert_eq!((&header["alg"], &header["typ"]), (&json!("RS256"), &json!("logout+jwt")));
    assert_eq!(names(&token), ["aud", "events", "exp", "iat", "iss", "jti", "sid", "sub", "typ"]);
    for (name, value) in [
        ("iss", json!(target.issuer())),
        ("aud", json!(target.client)),
        ("sub", json!(person.id)),
        ("sid", session(&tokens)),
        ("typ", json!("Logout")),
        ("events", json!({"http://schemas.openid.net/event/backchannel-logout": {}})),
    ] {
        assert_eq!(token[name], value, "{name}");
    }
    assert_eq!(token["exp"].as_i64(), token["iat"].as_i64().map(|issued| issued + 120));
}

pub async fn signing_out_leads_nowhere_that_the_client_does_not_have(target: Target) {
    let person = target.person(&[]).await;
    let mut browser = Browser::default();
    let tokens = target.sign_in(&mut browser, &person).await;
    let (id, access) = (tokens["id_token"].as_str().unwrap(), tokens["access_token"].as_str().unwrap());
    let home = ("post_logout_redirect_uri", SIGNED_OUT);
    let evil = ("post_logout_redirect_uri", "http://evil.example/");
    let with_query = format!("{SIGNED_OUT}?next=x");
    for query in [
        vec![home],
        vec![("id_token_hint", "nonsense"), home],
        vec![("id_token_hint", access), home],
        vec![("id_token_hint", id), evil],
        vec![("id_token_hint", id), ("post_logout_redirect_uri", with_query.as_str())],
        vec![("id_token_hint", id), ("post_logout_redirect_uri", "http://127.0.0.1:8080/")],
        vec![("client_id", target.client.as_str()), evil],
        vec![("client_id", "chancery-sync"), ("id_token_hint", id), home],
    ] {
        let answer = browser.get(&target.endpoint("logout"), &query).await;
        assert_eq!((answer.status, &answer.location), (StatusCode::BAD_REQUEST, &None), "{query:?}");
    }
    assert_eq!(target.logout_tokens(), Vec::<String>::new());
    assert_eq!(target.refresh(&tokens).await.0, StatusCode::OK);
}

pub async fn an_administrator_ends_sessions_and_the_client_is_told(target: Target) {
    let person = target.person(&[]).await;
    let of_person = format!("users/{}/sessions", person.id);
    let first = target.sign_in(&mut Browser::default(), &person).await;
    let second = target.sign_in(&mut Browser::default(), &person).await;
    let sessions = target.look(&of_person).await;
    assert_eq!(sessions.as_array().unwrap().len(), 2);
    let shown = sessions.as_array().unwrap().iter().find(|shown| shown["id"] == session(&first)).unwrap();
    for (name, value) in [
        ("username", json!(person.username)),
        ("userId", json!(person.id)),
        ("ipAddress", json!("127.0.0.1")),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    assert_eq!(shown["clients"].as_object().unwrap().values().collect::<Vec<_>>(), [&json!(target.client)]);

    let path = format!("sessions/{}", session(&first).as_str().unwrap());
    let (status, _, _) = target.manage(Method::DELETE, &path, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, body, _) = target.manage(Method::DELETE, &path, None).await;
    assert_eq!((status, body), (StatusCode::NOT_FOUND, json!({"error": "Sesssion not found"})));
    assert_eq!(target.refresh(&first).await.0, StatusCode::BAD_REQUEST);
    let (status, second) = target.refresh(&second).await;
    assert_eq!(status, StatusCode::OK, "{second}");
    let told = |tokens: Vec<String>| -> Vec<Value> {
        tokens
            .iter()
            .map(|token| read_token(token.strip_prefix("logout_token=").unwrap()).1["sid"].clone())
            .collect()
    };
    assert_eq!(told(target.logout_tokens()), [session(&first)]);

    let (status, _, _) = target.manage(Method::POST, &format!("users/{}/logout", person.id), None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(told(target.logout_tokens()), [session(&first), session(&second)]);
    assert_eq!(target.look(&of_person).await, json!([]));
    let (status, body) = target.refresh(&second).await;
    assert_eq!((status, &body["error_description"]), (StatusCode::BAD_REQUEST, &json!("Session not active")));
}

pub async fn a_client_signs_out_with_a_refresh_token(target: Target) {
    let person = target.person(&[]).await;
    let tokens = target.sign_in(&mut Browser::default(), &person).await;
    let form = [
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
        ("client_id", &target.client),
        ("client_secret", SECRET),
    ];
    let answer = http().post(target.endpoint("logout")).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(target.refresh(&tokens).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(target.logout_tokens().len(), 1);
}

pub async fn nobody_is_told_of_a_disabled_or_deleted_user(target: Target) {
    let person = target.person(&[]).await;
    let path = format!("users/{}", person.id);
    let tokens = target.sign_in(&mut Browser::default(), &person).await;
    let (status, _, _) = target.manage(Method::PUT, &path, Some(json!({"enabled": false}))).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, body) = target.refresh(&tokens).await;
    assert_eq!((status, &body["error_description"]), (StatusCode::BAD_REQUEST, &json!("User disabled")));
    let (status, _, _) = target.manage(Method::DELETE, &path, None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, body) = target.refresh(&tokens).await;
    assert_eq!((status, &body["error_description"]), (StatusCode::BAD_REQUEST, &json!("Session not active")));
    assert_eq!(target.logout_tokens(), Vec::<String>::new());
}
