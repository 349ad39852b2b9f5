//! Access tokens on the API: each way to make one that isn't what it should be, and that it is refused.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery::testing::{ACME, Answer, TestApp};
use connector_keycloak::fake::Signature;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::harness::{approval, pass, path};

/// A part of a token as JSON.
fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("a token has three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// The header and the claims of a good token of the agent's.
fn good(app: &TestApp) -> (Value, Value) {
    let token = app.mint("acme-agent", &json!({}), Signature::Valid);
    (part(&token, 0), part(&token, 1))
}

/// A token that the realm signs as it is.
fn signed(app: &TestApp, header: &Value, claims: &Value) -> String {
    app.doubles().keycloak.sign_as_it_is(&header.to_string(), &claims.to_string()).unwrap()
}

async fn send(app: &TestApp, token: impl Into<String>) -> Answer {
    app.nobody().with_token(token.into()).get("/me").await
}

#[track_caller]
fn is_refused(answer: &Answer) {
    assert_eq!(answer.problem(401), "unauthorised");
    assert_eq!(answer.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn a_token_that_keycloak_did_not_sign_is_refused() {
    let app = TestApp::start().await;
    for signature in
        [Signature::None, Signature::HmacWithPublicKey, Signature::ForeignKey, Signature::UnknownKey]
    {
        is_refused(&send(&app, app.mint("acme-agent", &json!({}), signature)).await);
    }
    let token = app.mint("acme-agent", &json!({}), Signature::Valid);
    send(&app, &token).await.expect(200);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let forged = URL_SAFE_NO_PAD.encode(part(&token, 1).to_string().replace("acme-agent", "acme-ceo"));
    for token in [
        format!("{header}.{forged}.{signature}"),
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
        format!("{header}.{claims}.{signature}."),
        format!("{header}.{claims}.{signature}.{signature}"),
        format!("{header}.{claims}.{signature}="),
        format!(".{claims}.{signature}"),
        format!("{header}..{signature}"),
        "..".to_owned(),
        "token".to_owned(),
    ] {
        is_refused(&send(&app, token).await);
    }
}

#[tokio::test]
async fn a_token_of_another_issuer_for_another_audience_or_of_another_kind_is_refused() {
    let app = TestApp::start().await;
    let issuer = app.state().issuer.clone();
    for changed in [
        json!({ "iss": format!("{issuer}/") }),
        json!({ "iss": issuer.replace("chancery", "master") }),
        json!({ "iss": null }),
        json!({ "aud": "account" }),
        json!({ "aud": ["account", "chancery-shell"] }),
        json!({ "aud": [] }),
        json!({ "aud": null }),
        json!({ "aud": { "chancery-api": true } }),
        json!({ "aud": ["chancery-api", 1] }),
        json!({ "typ": "ID" }),
        json!({ "typ": "Refresh" }),
        json!({ "typ": "Logout" }),
        json!({ "typ": null }),
        json!({ "azp": null }),
        json!({ "azp": "" }),
        json!({ "sub": null }),
        json!({ "sub": "acme-agent" }),
        json!({ "exp": null }),
        json!({ "exp": "tomorrow" }),
    ] {
        let answer = send(&app, app.mint("acme-agent", &changed, Signature::Valid)).await;
        assert_eq!(answer.status, 401, "{changed}");
        is_refused(&answer);
    }
    let several = json!({ "aud": ["account", "chancery-api"] });
    send(&app, app.mint("acme-agent", &several, Signature::Valid)).await.expect(200);
}

#[tokio::test]
async fn no_other_token_of_keycloaks_is_an_access_token() {
    let app = TestApp::start().await;
    let keycloak = &app.doubles().keycloak;
    let ours = |claims: Value| claims.as_object().cloned().unwrap_or_else(Map::new);
    // As Keycloak makes them, and with all that an access token has but the type.
    for more in [json!({}), json!({ "aud": "chancery-api", "azp": "chancery-shell" })] {
        let id = keycloak.mint_id_token("chancery-shell", "acme-agent", ours(more.clone()), Signature::Valid);
        is_refused(&send(&app, id.unwrap()).await);
        let logout =
            keycloak.mint_logout_token("chancery-shell", "acme-agent", "sid", ours(more), Signature::Valid);
        let logout = logout.unwrap();
        assert_eq!(part(&logout, 0)["typ"], "logout+jwt");
        is_refused(&send(&app, &logout).await);
        // Even where the header says that it is one.
        is_refused(&send(&app, signed(&app, &good(&app).0, &part(&logout, 1))).await);
    }
    let (header, mut claims) = good(&app);
    claims["typ"] = "Refresh".into();
    is_refused(&send(&app, signed(&app, &header, &claims)).await);
    // The other way round: an access token whose header says that it is something else.
    for typ in ["logout+jwt", "dpop+jwt", "JWE", ""] {
        let (mut header, claims) = good(&app);
        header["typ"] = typ.into();
        is_refused(&send(&app, signed(&app, &header, &claims)).await);
    }
    let (mut header, claims) = good(&app);
    header["typ"] = "at+JWT".into();
    send(&app, signed(&app, &header, &claims)).await.expect(200);
}

#[tokio::test]
async fn a_token_is_good_from_its_time_to_its_time() {
    let app = TestApp::start().await;
    let now = app.now().timestamp();
    for (changed, status) in [
        (json!({ "exp": now - 59 }), 200),
        (json!({ "exp": now - 60 }), 401),
        (json!({ "nbf": now + 60 }), 200),
        (json!({ "nbf": now + 61 }), 401),
        (json!({ "iat": now + 61 }), 401),
        // No time is too far away to be compared.
        (json!({ "exp": i64::MAX }), 200),
        (json!({ "exp": i64::MIN }), 401),
        (json!({ "nbf": i64::MAX }), 401),
    ] {
        let answer = send(&app, app.mint("acme-agent", &changed, Signature::Valid)).await;
        assert_eq!(answer.status, status, "{changed}");
    }
    let endless = app.mint("acme-agent", &json!({ "exp": i64::MAX }), Signature::Valid);
    let mut events = app.nobody().with_token(endless).events(ACME, None).await;
    assert_eq!(events.next().await.unwrap().name, "hello");
    // The same token, later.
    let token = app.mint("acme-agent", &json!({}), Signature::Valid);
    send(&app, &token).await.expect(200);
    let lifetime = part(&token, 1)["exp"].as_i64().unwrap() - now;
    pass(&app, lifetime + 59);
    send(&app, &token).await.expect(200);
    pass(&app, 1);
    is_refused(&send(&app, &token).await);
}

#[tokio::test]
async fn nothing_in_a_header_leads_to_another_key() {
    let app = TestApp::start().await;
    let (header, claims) = good(&app);
    for kid in [
        json!("../../etc/passwd"),
        json!("https://attacker.example/keys.json"),
        json!("file:///dev/null"),
        json!("' OR 1 = 1 --"),
        json!("a".repeat(10_000)),
        json!("key\0id"),
        json!(format!("{}\0", header["kid"].as_str().unwrap())),
        json!(format!(" {}", header["kid"].as_str().unwrap())),
        json!(""),
        json!(null),
        json!(["one", "two"]),
        json!(7),
    ] {
        let mut header = header.clone();
        header["kid"] = kid;
        is_refused(&send(&app, signed(&app, &header, &claims)).await);
    }
    let mut without = header.clone();
    without.as_object_mut().unwrap().remove("kid");
    is_refused(&send(&app, signed(&app, &without, &claims)).await);

    // What names a key or holds one is not looked at: a good token stays good, and nobody is asked for a key.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = format!("http://{}/keys", listener.local_addr().unwrap());
    let mut with = header.clone();
    with["jku"] = elsewhere.clone().into();
    with["x5u"] = elsewhere.into();
    with["x5c"] = json!(["MIIB"]);
    with["jwk"] = json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" });
    send(&app, signed(&app, &with, &claims)).await.expect(200);
    let asked = tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await;
    assert!(asked.is_err(), "somebody was asked for a key");
    // And a bad one stays bad: signed by the key that it brings along.
    let foreign = app.mint("acme-agent", &json!({}), Signature::ForeignKey);
    let (_, signature) = foreign.rsplit_once('.').unwrap();
    let message = [&with, &claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    is_refused(&send(&app, format!("{message}.{signature}")).await);
}

#[tokio::test]
async fn what_must_be_understood_and_is_not_is_refused() {
    let app = TestApp::start().await;
    let (header, claims) = good(&app);
    for (name, value) in
        [("crit", json!(["b64"])), ("crit", json!(["exp"])), ("crit", json!([])), ("crit", json!("exp"))]
    {
        let mut header = header.clone();
        header[name] = value;
        header["b64"] = false.into();
        is_refused(&send(&app, signed(&app, &header, &claims)).await);
    }
    for algorithm in ["none", "HS256", "RS384", "RS512", "PS256", "ES256", "EdDSA", "rs256", ""] {
        let mut header = header.clone();
        header["alg"] = algorithm.into();
        is_refused(&send(&app, signed(&app, &header, &claims)).await);
    }
}

#[tokio::test]
async fn a_name_that_stands_twice_is_refused() {
    let app = TestApp::start().await;
    let keycloak = &app.doubles().keycloak;
    let (header, claims) = good(&app);
    let (header, claims) = (header.to_string(), claims.to_string());
    let twice = |object: &str, member: &str| format!("{},{member}}}", object.strip_suffix('}').unwrap());
    // One reader would take the first, another the last.
    for member in
        [r#""aud":"chancery-api""#, r#""sub":"0b000000-0000-4000-8000-000000000002""#, r#""exp":32503680000"#]
    {
        is_refused(&send(&app, keycloak.sign_as_it_is(&header, &twice(&claims, member)).unwrap()).await);
    }
    for member in [r#""alg":"RS256""#, r#""kid":"other""#] {
        is_refused(&send(&app, keycloak.sign_as_it_is(&twice(&header, member), &claims).unwrap()).await);
    }
    for not_claims in ["[]", "null", "\"claims\"", "", "{"] {
        is_refused(&send(&app, keycloak.sign_as_it_is(&header, not_claims).unwrap()).await);
    }
    send(&app, keycloak.sign_as_it_is(&header, &claims).unwrap()).await.expect(200);
}

#[tokio::test]
async fn there_is_one_header_of_the_right_scheme_and_size() {
    let app = TestApp::start().await;
    let token = app.mint("acme-agent", &json!({}), Signature::Valid);
    let nobody = app.nobody();
    let with = async |values: &[String]| {
        let mut request = nobody.request(Method::GET, "/me");
        for value in values {
            request = request.header("authorization", value);
        }
        nobody.send(request).await
    };
    for scheme in ["Bearer", "bearer", "BEARER"] {
        with(&[format!("{scheme} {token}")]).await.expect(200);
    }
    let header = format!("Bearer {token}");
    for values in [
        vec![header.clone(), header.clone()],
        vec![header.clone(), "Basic YTpi".to_owned()],
        vec![format!("{header}, {header}")],
        vec![format!("Bearer {header}")],
        vec![format!("Basic {token}")],
        vec![format!("DPoP {token}")],
        vec![format!("Bearer{token}")],
        vec![token.clone()],
        vec!["Bearer".to_owned()],
        vec!["Bearer ".to_owned()],
        vec![],
    ] {
        is_refused(&with(&values).await);
    }
    // Nor in the query (RFC 6750, section 2.3).
    is_refused(&nobody.get(&format!("/me?access_token={token}")).await);
    let answer = with(&[format!("Bearer {}", "a".repeat(32 * 1024))]).await;
    assert_eq!(answer.problem(431), "headers_too_large");
    // As long as a header may be, and no token.
    is_refused(&with(&[format!("Bearer {}", "a".repeat(32 * 1024 - 100))]).await);
}

#[tokio::test]
async fn a_machine_may_in_its_tenants_what_its_groups_give_it_and_nothing_that_is_a_persons() {
    let app = TestApp::start().await;
    // As a program gets it: by the client's own credentials. Its groups are its service account's, in Keycloak.
    let machine = app.automation();
    let me = machine.get("/me").await.expect(200);
    let tenants: Vec<Value> = me["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tenant| json!([tenant["type"], tenant["roles"]]))
        .collect();
    assert_eq!(
        json!(tenants),
        json!([["individual", ["member", "owner"]], ["organization", ["member", "agent"]]])
    );
    let requested = machine
        .post("/approvals", &json!({ "tenantId": ACME, "title": "Renew the licence" }))
        .await
        .expect(201);
    let entry =
        json!({ "tenantId": ACME, "action": "export.finished", "resource": "export", "resourceId": "1" });
    let appended = machine.post("/audit", &entry).await.expect(201);
    assert_eq!((&appended["metadata"]["source"], &appended["userId"]), (&json!("client"), &me["id"]));
    // Whatever the group: deciding is a person's, and so are consultations.
    let keycloak = &app.doubles().keycloak;
    let account = "service-account-chancery-automation";
    for group in ["approvers", "owners"] {
        keycloak.add_to_group(account, &format!("{ACME}/{group}")).unwrap();
    }
    app.state().directory.refresh_tenant(app.tenant(ACME)).await.unwrap();
    let other = approval(&app.agent(), "Somebody else's").await;
    for thing in [&requested, &other] {
        let decision = machine.patch(&path("/approvals", thing), &json!({ "status": "approved" })).await;
        assert_eq!(decision.problem(403), "forbidden");
    }
    let consultation = json!({ "tenantId": ACME, "title": "C" });
    assert_eq!(machine.post("/consultations", &consultation).await.problem(403), "forbidden");
    // And outside of its tenants, it is a stranger.
    let elsewhere = json!({ "tenantId": chancery::testing::GLOBEX, "title": "A" });
    assert_eq!(machine.post("/approvals", &elsewhere).await.problem(404), "not_found");
    // Taken out of its groups in Keycloak, it is out.
    for group in ["agents", "approvers", "owners"] {
        keycloak.remove_from_group(account, &format!("{ACME}/{group}")).unwrap();
    }
    app.state().directory.refresh_tenant(app.tenant(ACME)).await.unwrap();
    assert_eq!(machine.post("/audit", &entry).await.problem(404), "not_found");
    app.run_jobs().await;
}

#[tokio::test]
async fn a_machine_signs_in_with_its_own_credentials() {
    let app = TestApp::start().await;
    let secret = "demo-only-chancery-automation";
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "chancery-automation"),
        ("client_secret", secret),
    ];
    let url = format!("{}/protocol/openid-connect/token", app.state().issuer);
    let answer = reqwest::Client::new().post(url).form(&form).send().await.unwrap();
    let answer: Value = answer.error_for_status().unwrap().json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap();
    let me = app.nobody().with_token(token.to_owned()).get("/me").await.expect(200);
    assert_eq!(me["id"], json!(app.user("service-account-chancery-automation")));
}
