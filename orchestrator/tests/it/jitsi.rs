//! What Jitsi's server asks us.

use std::path::{Path, PathBuf};

use chancery::{
    config::{JitsiDialect, JitsiKeyConfig},
    testing::{ACME, TestApp},
};
use connector_jitsi::{PublishedKeys, key_file_name, new_private_key};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::harness::path;

const ROTATED: [&str; 2] = ["2026-11", "2026-10"];

fn write_key(directory: &Path, id: &str) -> (JitsiKeyConfig, SecretString) {
    let (file, key): (PathBuf, _) = (directory.join(id), new_private_key().unwrap());
    std::fs::write(&file, key.expose_secret()).unwrap();
    (JitsiKeyConfig { id: id.to_owned(), file }, key)
}

fn part(token: &str, index: usize) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn the_newest_key_signs_and_the_key_server_has_all_of_them_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (configs, private): (Vec<_>, Vec<_>) =
        ROTATED.iter().map(|id| write_key(directory.path(), id)).unzip();
    let app = TestApp::start_with(|config| config.jitsi.keys = configs).await;
    let origin = app.state().config.http.public_url.clone();
    let get = async |path: &str| reqwest::get(origin.join(path).unwrap()).await.unwrap();

    let mut expected = PublishedKeys::default();
    for (id, key) in ROTATED.iter().zip(&private) {
        expected.publish(id, key).unwrap();
        let name = key_file_name(id);
        let answer = get(&format!("/asap/{name}")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/x-pem-file");
        assert_eq!(answer.headers()["cache-control"], "public, max-age=3600");
        assert_eq!(Some(answer.text().await.unwrap().as_str()), expected.file(&name));
    }
    for unknown in [key_file_name("2026-12"), "2026-11.pem".to_owned(), "..%2fjitsi.pem".to_owned()] {
        assert_eq!(get(&format!("/asap/{unknown}")).await.status(), 404, "{unknown}");
    }

    let ceo = app.ceo();
    let made = ceo.post("/consultations", &json!({ "tenantId": ACME, "title": "C" })).await.expect(201);
    let link = ceo.post(&format!("{}/join", path("/consultations", &made)), &json!({})).await.expect(200);
    let header = part(link["token"].as_str().unwrap(), 0);
    assert_eq!(header, json!({ "alg": "RS256", "typ": "JWT", "kid": "2026-11" }));
    // The double asks the key server, as Prosody does.
    let request =
        reqwest::Client::new().get(link["url"].as_str().unwrap()).header("accept", "application/json");
    let entered: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(entered["joined"], true, "{entered}");
}

#[tokio::test]
async fn with_jitsi_as_a_service_links_lead_there_and_no_key_is_published() {
    const APP: &str = "vpaas-magic-cookie-0a1b2c";
    let directory = tempfile::tempdir().unwrap();
    let (key, _) = write_key(directory.path(), "2026-11");
    let app = TestApp::start_with(|config| {
        config.jitsi.keys = vec![key];
        config.jitsi.dialect = JitsiDialect::Jaas;
        config.jitsi.url = "https://8x8.vc".to_owned();
        config.jitsi.app_id = APP.to_owned();
    })
    .await;
    let ceo = app.ceo();
    let made = ceo.post("/consultations", &json!({ "tenantId": ACME, "title": "C" })).await.expect(201);
    let link = ceo.post(&format!("{}/join", path("/consultations", &made)), &json!({})).await.expect(200);
    let (url, token) = (link["url"].as_str().unwrap(), link["token"].as_str().unwrap());
    let room = made["jitsiRoom"].as_str().unwrap();
    assert!(url.starts_with(&format!("https://8x8.vc/{APP}/{room}?jwt=")), "{url}");
    assert_eq!(part(token, 0)["kid"], format!("{APP}/2026-11"));
    assert_eq!(part(token, 1)["context"]["user"]["moderator"], "true");
    let keys = app.state().config.http.public_url.join(&format!("/asap/{}", key_file_name("2026-11")));
    assert_eq!(reqwest::get(keys.unwrap()).await.unwrap().status(), 404);
}
