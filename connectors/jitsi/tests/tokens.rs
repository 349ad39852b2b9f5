//! The minter's tokens against the double's own check, over HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use connector_core::{MockClock, RandomIds};
use connector_jitsi::{
    Dialect, JitsiError, JitsiSettings, MeetingLink, Participant, Signing, TokenMinter,
    fake::{FakeJitsi, Options, Verification},
    new_room_name,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use url::Url;

const SECRET: &str = "a-secret-of-the-tests-with-40-characters";
const ROOM: &str = "c-7f3k9q2mabcdefgh";

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// A running double.
struct Server {
    base: Url,
    clock: Arc<MockClock>,
    http: reqwest::Client,
    state: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        Self::with_domain(None).await
    }

    async fn with_domain(domain: Option<&str>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let clock = Arc::new(MockClock::new(start()));
        let base = serve(&state, &clock, domain).await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base, clock, http, state }
    }

    fn settings(&self) -> JitsiSettings {
        JitsiSettings {
            url: self.base.clone(),
            app_id: "chancery".to_owned(),
            signing: Signing::Hs256 { secret: SECRET.into() },
            audience: "jitsi".to_owned(),
            subject: "meet.jitsi".to_owned(),
            token_lifetime: Duration::from_mins(5),
            dialect: Dialect::Prosody,
        }
    }

    fn mint(&self, participant: &Participant) -> MeetingLink {
        let minter = TokenMinter::new(&self.settings()).unwrap();
        minter.mint(ROOM, participant, start(), start() + TimeDelta::hours(2)).unwrap()
    }

    /// What a program gets for this URL: the status and the JSON.
    async fn visit(&self, url: Url) -> (u16, Value) {
        let response = self.http.get(url).header("accept", "application/json").send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Why the double refuses this token for [`ROOM`]; `None` where it doesn't.
    async fn refusal(&self, token: &str) -> Option<String> {
        let mut url = self.base.join(ROOM).unwrap();
        url.query_pairs_mut().append_pair("jwt", token);
        let (status, answer) = self.visit(url).await;
        match status {
            200 => None,
            403 => Some(answer["error"].as_str().unwrap().to_owned()),
            other => panic!("answered {other}"),
        }
    }

    async fn text(&self, path: &str) -> (u16, String) {
        let response = self.http.get(self.base.join(path).unwrap()).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

async fn serve(state: &tempfile::TempDir, clock: &Arc<MockClock>, domain: Option<&str>) -> Url {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let double = FakeJitsi::open(Options {
        public_url: base.clone(),
        state_path: state.path().join("jitsi.json"),
        clock: Arc::clone(clock) as _,
        app_id: "chancery".to_owned(),
        verification: Verification::Secret(SECRET.into()),
        audience: "jitsi".to_owned(),
        domain: domain.map(str::to_owned),
        reservations: None,
    })
    .unwrap();
    tokio::spawn(connector_core::fake::serve(double.router(), listener, std::future::pending()));
    base
}

fn host() -> Participant {
    Participant {
        id: "3f0c7b52-0000-4000-8000-000000000001".to_owned(),
        name: "Cara <b>CEO</b>".to_owned(),
        email: None,
        avatar: None,
        moderator: true,
    }
}

fn guest() -> Participant {
    Participant {
        id: "3f0c7b52-0000-4000-8000-000000000002".to_owned(),
        name: "Ada Agent".to_owned(),
        email: Some("ada@acme.example".to_owned()),
        avatar: Some(Url::parse("https://acme.example/ada.png").unwrap()),
        moderator: false,
    }
}

/// Claims that the double accepts, for a test to break one of them.
fn good_claims() -> Value {
    json!({
        "aud": "jitsi", "iss": "chancery", "sub": "meet.jitsi", "room": ROOM,
        "iat": start().timestamp(), "nbf": start().timestamp() - 30, "exp": start().timestamp() + 60,
        "context": {"user": {"id": "1", "name": "Ada"}},
    })
}

fn sign_with(header: &Header, claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn sign(claims: &Value) -> String {
    sign_with(&Header::new(Algorithm::HS256), claims, SECRET)
}

fn segment(token: &str, index: usize) -> Value {
    use base64_of_the_tests::decode;
    serde_json::from_slice(&decode(token.split('.').nth(index).unwrap())).unwrap()
}

/// Base64 as in a token, written out here so that neither side's code reads its own.
mod base64_of_the_tests {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    pub fn decode(text: &str) -> Vec<u8> {
        let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
        for character in text.bytes() {
            let value = ALPHABET.iter().position(|known| *known == character).unwrap();
            bits = bits << 6 | u32::try_from(value).unwrap();
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
            }
        }
        bytes
    }

    pub fn encode(bytes: &[u8]) -> String {
        let (mut text, mut bits, mut count) = (String::new(), 0_u32, 0);
        for byte in bytes {
            bits = bits << 8 | u32::from(*byte);
            count += 8;
            while count >= 6 {
                count -= 6;
                text.push(char::from(ALPHABET[(bits >> count & 0x3f) as usize]));
            }
        }
        if count > 0 {
            text.push(char::from(ALPHABET[(bits << (6 - count) & 0x3f) as usize]));
        }
        text
    }
}

#[tokio::test]
async fn a_minted_link_opens_its_room_and_says_who_moderates() {
    let server = Server::start().await;
    let (status, answer) = server.visit(server.mint(&host()).url).await;
    assert_eq!((status, &answer["joined"]), (200, &json!(true)));
    let (_, answer) = server.visit(server.mint(&guest()).url).await;
    assert_eq!(
        answer["participants"],
        json!([
            {"id": host().id, "name": host().name, "moderator": true},
            {"id": guest().id, "name": guest().name, "moderator": false},
        ])
    );
}

#[tokio::test]
async fn whoever_joins_twice_is_there_once_and_a_restart_forgets_nobody() {
    let server = Server::start().await;
    server.visit(server.mint(&host()).url).await;
    server.visit(server.mint(&host()).url).await;
    assert_eq!(
        server.text(&format!("/room-size?room={ROOM}")).await,
        (200, r#"{"participants":1}"#.to_owned())
    );

    let restarted = Server { base: serve(&server.state, &server.clock, None).await, ..server };
    let (_, people) = restarted.text(&format!("/room?room={ROOM}&domain=meet.jitsi")).await;
    let people: Value = serde_json::from_str(&people).unwrap();
    assert_eq!(people[0]["display_name"], host().name);
    assert_eq!(people[0]["email"], "");
    assert_eq!(restarted.text("/sessions").await, (200, "1".to_owned()));
    assert_eq!(restarted.text("/room-size?room=nobody-here").await.0, 404);
    assert_eq!(restarted.text("/room-size").await.0, 400);
}

#[tokio::test]
async fn a_room_is_gone_when_the_last_one_has_left() {
    let server = Server::start().await;
    let page = server.http.get(server.mint(&host()).url).send().await.unwrap().text().await.unwrap();
    let nick = page.split(r#"name="nick" value=""#).nth(1).unwrap().split('"').next().unwrap();
    let leave = server.base.join(&format!("{ROOM}/leave")).unwrap();
    let foreign =
        server.http.post(leave.clone()).form(&[("nick", nick)]).header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.send().await.unwrap().status(), 403, "a form of another site is not accepted");
    assert_eq!(server.text(&format!("/room-size?room={ROOM}")).await.0, 200);
    server.http.post(leave).form(&[("nick", nick)]).send().await.unwrap();
    assert_eq!(server.text(&format!("/room-size?room={ROOM}")).await.0, 404);
}

#[tokio::test]
async fn a_head_request_joins_nobody() {
    let server = Server::start().await;
    assert_eq!(server.http.head(server.mint(&host()).url).send().await.unwrap().status(), 200);
    assert_eq!(server.text(&format!("/room-size?room={ROOM}")).await.0, 404);
}

#[tokio::test]
async fn the_page_escapes_what_a_token_says_and_allows_nothing_inline() {
    let server = Server::start().await;
    let response = server.http.get(server.mint(&host()).url).send().await.unwrap();
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(response.headers()["referrer-policy"], "no-referrer");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let page = response.text().await.unwrap();
    assert!(page.contains("Cara &#60;b&#62;CEO&#60;/b&#62;"), "{page}");
    assert!(!page.contains("<b>CEO"), "{page}");
    assert!(page.contains("Jitsi double — demo"));
    let (status, page) = server.text(&format!("/{ROOM}?jwt=<script>alert(1)</script>")).await;
    assert_eq!(status, 403);
    assert!(page.contains("Invalid token") && !page.contains("alert(1)"), "{page}");
}

#[tokio::test]
async fn a_token_has_the_header_and_the_claims_that_every_known_server_reads() {
    let server = Server::start().await;
    let link = server.mint(&guest());
    let token = link.token.expose_secret();
    assert_eq!(segment(token, 0), json!({"alg": "HS256", "typ": "JWT"}));
    let claims = segment(token, 1);
    let now = start().timestamp();
    assert_eq!(claims["iat"], now);
    assert_eq!(claims["nbf"], now - 30);
    assert_eq!(claims["exp"], now + 300, "the lifetime is shorter than the meeting");
    assert_eq!(link.expires_at.timestamp(), now + 300);
    assert_eq!(claims["aud"], "jitsi");
    assert_eq!(claims["sub"], "meet.jitsi");
    assert_eq!(claims["room"], ROOM);
    assert_eq!(claims["moderator"], false);
    assert_eq!(claims["context"]["user"]["affiliation"], "member");
    assert_eq!(claims["context"]["user"]["email"], "ada@acme.example");
    assert_eq!(claims["context"]["features"]["recording"], false);
    assert_eq!(claims["context"]["features"]["screen-sharing"], true);

    let claims = segment(server.mint(&host()).token.expose_secret(), 1);
    assert_eq!(claims["moderator"], true);
    let user = claims["context"]["user"].as_object().unwrap();
    assert_eq!((&user["moderator"], &user["affiliation"]), (&json!(true), &json!("owner")));
    assert!(user.values().all(|value| !value.is_null()), "older clients throw at a null: {user:?}");
    assert!(!user.contains_key("email") && !user.contains_key("avatar"));
}

#[tokio::test]
async fn each_broken_claim_is_refused_for_its_own_reason() {
    let server = Server::start().await;
    assert_eq!(server.refusal(&sign(&good_claims())).await, None, "unbroken, the token is good");
    let now = start().timestamp();
    let set = |claim: &str, value: Value| {
        let mut claims = good_claims();
        claims[claim] = value;
        claims
    };
    let without = |claim: &str| {
        let mut claims = good_claims();
        claims.as_object_mut().unwrap().remove(claim);
        claims
    };
    for (claims, reason) in [
        (set("exp", json!(now)), "Not acceptable by exp"),
        (set("exp", json!((now + 60).to_string())), "exp must be number"),
        (set("exp", Value::Null), "exp must be number"),
        (set("nbf", json!(now + 1)), "Not acceptable by nbf"),
        (set("nbf", json!("soon")), "nbf must be number"),
        (without("iss"), "'iss' claim is missing"),
        (set("iss", json!("another")), "invalid 'iss' claim"),
        (without("aud"), "'aud' claim is missing"),
        (set("aud", json!("another")), "invalid 'aud' claim"),
        (set("aud", json!(["jitsi"])), "invalid 'aud' claim"),
        (without("room"), "'room' claim is missing"),
        (without("sub"), "sub claim is missing"),
        (set("room", json!("c-another")), "Room and token mismatched"),
        (set("room", json!(7)), "Room and token mismatched"),
    ] {
        assert_eq!(server.refusal(&sign(&claims)).await.as_deref(), Some(reason), "{claims}");
    }
    assert_eq!(
        server.text(&format!("/room-size?room={ROOM}")).await.1,
        r#"{"participants":1}"#,
        "only the good one joined"
    );
}

#[tokio::test]
async fn each_broken_form_of_a_token_is_refused_for_its_own_reason() {
    let server = Server::start().await;
    let good = sign(&good_claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, body) = signed.split_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let untyped = Header { typ: None, ..Header::new(Algorithm::HS256) };
    let mistyped = Header { typ: Some("jwt".to_owned()), ..Header::new(Algorithm::HS256) };
    let none = base64_of_the_tests::encode(br#"{"alg":"none","typ":"JWT"}"#);
    for (token, reason) in [
        (
            sign_with(
                &Header::new(Algorithm::HS256),
                &good_claims(),
                "another-secret-of-the-same-kind-of-length",
            ),
            "Invalid signature",
        ),
        (format!("{signed}.{flipped}{}", &signature[1..]), "Invalid signature"),
        (format!("{signed}.{}", &signature[..20]), "Invalid signature"),
        (format!("{good}.{signature}"), "Invalid token"),
        (signed.to_owned(), "Invalid token"),
        (format!("{none}.{body}."), "Invalid token"),
        (format!("{none}.{body}.{signature}"), "Invalid or incorrect alg"),
        (sign_with(&Header::new(Algorithm::HS384), &good_claims(), SECRET), "Invalid or incorrect alg"),
        (sign_with(&untyped, &good_claims(), SECRET), "Invalid typ"),
        (sign_with(&mistyped, &good_claims(), SECRET), "Invalid typ"),
        (format!("@@.{body}.{signature}"), "Invalid header"),
        (format!("{header}.@@.{signature}"), "Invalid body"),
        (String::new(), "Invalid token"),
    ] {
        assert_eq!(server.refusal(&token).await.as_deref(), Some(reason), "{token}");
    }
    let (status, answer) = server.visit(server.base.join(ROOM).unwrap()).await;
    assert_eq!((status, answer), (403, json!({"error": "token required"})));
}

#[tokio::test]
async fn an_expired_link_no_longer_opens_the_room_and_the_last_second_still_does() {
    let server = Server::start().await;
    let link = server.mint(&guest());
    server.clock.advance(TimeDelta::seconds(299));
    assert_eq!(server.visit(link.url.clone()).await.0, 200);
    server.clock.advance(TimeDelta::seconds(1));
    assert_eq!(server.visit(link.url).await, (403, json!({"error": "Not acceptable by exp"})));
}

#[tokio::test]
async fn a_link_is_good_on_a_server_whose_clock_lags_thirty_seconds() {
    let server = Server::start().await;
    let link = server.mint(&guest());
    server.clock.advance(TimeDelta::seconds(-30));
    assert_eq!(server.visit(link.url.clone()).await.0, 200);
    server.clock.advance(TimeDelta::seconds(-1));
    assert_eq!(server.visit(link.url).await.1, json!({"error": "Not acceptable by nbf"}));
}

#[tokio::test]
async fn a_server_that_verifies_domains_wants_its_own_in_sub() {
    let server = Server::with_domain(Some("meet.jitsi")).await;
    assert_eq!(server.visit(server.mint(&guest()).url).await.0, 200);
    let mut claims = good_claims();
    claims["sub"] = json!("another.example");
    assert_eq!(server.refusal(&sign(&claims)).await.as_deref(), Some("Room and token mismatched"));
}

#[tokio::test]
async fn nothing_is_minted_that_would_open_more_than_one_room_for_more_than_a_day() {
    let server = Server::start().await;
    let refused = |change: fn(&mut JitsiSettings)| {
        let mut settings = server.settings();
        change(&mut settings);
        TokenMinter::new(&settings).unwrap_err()
    };
    assert_eq!(refused(|settings| settings.subject = "*".to_owned()), JitsiError::Wildcard("subject"));
    assert_eq!(refused(|settings| settings.audience = String::new()), JitsiError::Wildcard("audience"));
    assert_eq!(refused(|settings| settings.app_id = " ".to_owned()), JitsiError::Wildcard("app id"));
    assert_eq!(
        refused(|settings| settings.token_lifetime = Duration::from_secs(86_401)),
        JitsiError::Lifetime
    );
    assert_eq!(
        refused(|settings| settings.signing = Signing::Hs256 { secret: "x".repeat(31).into() }),
        JitsiError::ShortSecret
    );
    assert_eq!(
        refused(|settings| {
            settings.signing =
                Signing::Rs256 { key_id: "2026-11".to_owned(), private_key_pem: "no key".to_owned().into() };
        }),
        JitsiError::PrivateKey
    );
    assert_eq!(
        refused(|settings| settings.url = Url::parse("http://meet.example.org").unwrap()),
        JitsiError::Url
    );
    assert_eq!(
        refused(|settings| settings.url = Url::parse("https://u:p@meet.example.org").unwrap()),
        JitsiError::Url
    );

    let minter = TokenMinter::new(&server.settings()).unwrap();
    let later = start() + TimeDelta::minutes(1);
    for room in ["*", "", "C-7F", "a/b", "[acme]c-7"] {
        assert_eq!(minter.mint(room, &guest(), start(), later).unwrap_err(), JitsiError::RoomName, "{room}");
    }
    assert_eq!(minter.mint(ROOM, &guest(), start(), start()).unwrap_err(), JitsiError::Ended);
    let nobody = Participant { id: String::new(), ..guest() };
    assert_eq!(minter.mint(ROOM, &nobody, start(), later).unwrap_err(), JitsiError::Participant);
}

#[tokio::test]
async fn an_rsa_key_signs_with_its_id_in_the_header() {
    use aws_lc_rs::{
        encoding::AsDer as _,
        rsa::{KeyPair, KeySize},
        signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
    };
    use base64::Engine as _;

    let server = Server::start().await;
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private = base64::engine::general_purpose::STANDARD.encode(key.as_der().unwrap().as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{private}\n-----END PRIVATE KEY-----\n");
    let mut settings = server.settings();
    settings.signing = Signing::Rs256 { key_id: "2026-11".to_owned(), private_key_pem: pem.into() };
    let link = TokenMinter::new(&settings)
        .unwrap()
        .mint(ROOM, &guest(), start(), start() + TimeDelta::minutes(1))
        .unwrap();
    let token = link.token.expose_secret();
    assert_eq!(segment(token, 0), json!({"alg": "RS256", "typ": "JWT", "kid": "2026-11"}));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
    public.verify(signed.as_bytes(), &base64_of_the_tests::decode(signature)).unwrap();
    assert_eq!(
        server.refusal(token).await.as_deref(),
        Some("Invalid or incorrect alg"),
        "the double takes HS256"
    );
}

#[tokio::test]
async fn a_link_names_its_room_under_the_base_and_keeps_its_token_out_of_debug_output() {
    let server = Server::start().await;
    let mut settings = server.settings();
    settings.url = Url::parse("https://meet.example.org/acme").unwrap();
    let room = new_room_name(&RandomIds);
    let link = TokenMinter::new(&settings)
        .unwrap()
        .mint(&room, &guest(), start(), start() + TimeDelta::minutes(1))
        .unwrap();
    let token = link.token.expose_secret();
    assert_eq!(link.url.as_str(), format!("https://meet.example.org/acme/{room}?jwt={token}"));
    let debug = format!("{link:?}");
    assert!(debug.contains(&room) && !debug.contains(token), "{debug}");
}
