use connector_keycloak::{accepts_client, discover, jwks};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    browser::{Browser, http},
    target::{Target, read_token},
};

pub async fn the_realm_says_where_everything_is(target: Target) {
    let metadata = discover(&target.issuer().parse().unwrap()).await.unwrap();
    assert_eq!(metadata.issuer, target.issuer());
    for (url, name) in [
        (&metadata.authorization_endpoint, "auth"),
        (&metadata.token_endpoint, "token"),
        (&metadata.jwks_uri, "certs"),
        (&metadata.userinfo_endpoint, "userinfo"),
        (&metadata.end_session_endpoint, "logout"),
    ] {
        assert_eq!(url.as_str(), target.endpoint(name));
    }
    let url = format!("{}/.well-known/openid-configuration", target.issuer());
    let raw: Value = http().get(url).send().await.unwrap().json().await.unwrap();
    for name in [
        "backchannel_logout_supported",
        "backchannel_logout_session_supported",
        "authorization_response_iss_parameter_supported",
        "claims_parameter_supported",
    ] {
        assert_eq!(raw[name], true, "{name}");
    }
    for (name, values) in [
        ("code_challenge_methods_supported", &["S256"][..]),
        ("acr_values_supported", &["1", "2"]),
        ("prompt_values_supported", &["none", "login"]),
        ("grant_types_supported", &["authorization_code", "refresh_token", "client_credentials"]),
        ("response_types_supported", &["code"]),
        ("response_modes_supported", &["query", "fragment"]),
        ("id_token_signing_alg_values_supported", &["RS256"]),
        ("token_endpoint_auth_methods_supported", &["client_secret_basic", "client_secret_post"]),
    ] {
        let supported = raw[name].as_array().unwrap_or_else(|| panic!("{name}"));
        assert!(values.iter().all(|value| supported.contains(&json!(value))), "{name}: {supported:?}");
    }
    let url = format!("{}-of-another-world/.well-known/openid-configuration", target.issuer());
    let answer = http().get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"error": "Realm does not exist"}));
}

pub async fn a_clients_secret_is_taken_or_refused(target: Target) {
    let endpoint = target.endpoint("token").parse().unwrap();
    let (id, secret) = target.shell();
    assert!(accepts_client(&endpoint, id, &secret.into()).await.unwrap());
    assert!(!accepts_client(&endpoint, id, &"another".into()).await.unwrap());
    assert!(!accepts_client(&endpoint, "nobody", &secret.into()).await.unwrap());
}

pub async fn one_key_signs_and_is_the_one_that_tokens_name(target: Target) {
    let keys = jwks(&target.endpoint("certs").parse().unwrap()).await.unwrap();
    let of_use = |usage: &str| -> Vec<Value> {
        keys["keys"].as_array().unwrap().iter().filter(|key| key["use"] == usage).cloned().collect()
    };
    let (signing, encryption) = (of_use("sig"), of_use("enc"));
    assert_eq!((signing.len(), encryption.len()), (1, 1), "{keys}");
    for (key, algorithm) in [(&signing[0], "RS256"), (&encryption[0], "RSA-OAEP")] {
        assert_eq!((&key["kty"], &key["alg"]), (&json!("RSA"), &json!(algorithm)));
        assert!(["kid", "n", "e"].iter().all(|name| key[name].is_string()), "{key}");
    }
    let person = target.person(&[]).await;
    let tokens = target.sign_in(&mut Browser::default(), &person).await;
    for name in ["id_token", "access_token"] {
        let (header, _) = read_token(tokens[name].as_str().unwrap());
        assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": signing[0]["kid"]}), "{name}");
    }
}
