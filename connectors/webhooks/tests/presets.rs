//! Each preset takes what its tool sends, and nothing else. The signatures were computed with Python's `hmac` and `base64`.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use connector_webhooks::{Delivery, Key, Outcome, Refused, RequestParts, Scheme, presets};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

const SECRET: &str = "whsec_dGhlIGtleSBvZiBub2JvZHkgaW4gcGFydGljdWxhcg==";
const NOW: i64 = 1_767_323_045;

struct Case {
    preset: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    event_type: &'static str,
    subject: Option<&'static str>,
    /// The delivery's id, and whether it is proven.
    id: Option<(&'static str, bool)>,
}

const CASES: &[Case] = &[
    Case {
        preset: "bitbucket",
        headers: &[
            ("X-Hub-Signature", "sha256=c46eb1e7c54f5eb0fa000bb9049dbe64a5915609e6e1dfed132ba96c587c0e55"),
            ("X-Event-Key", "repo:push"),
            ("X-Request-UUID", "u-1"),
        ],
        body: r#"{"repository":{"full_name":"acme/site"},"push":{"changes":[]}}"#,
        event_type: "repo:push",
        subject: Some("acme/site"),
        id: Some(("u-1", false)),
    },
    Case {
        preset: "calendly",
        headers: &[(
            "Calendly-Webhook-Signature",
            "t=1767323045,v1=635d146a0e02ae7fcc7210510ed4cb8320fc052a0e753874d750fb48b7156387",
        )],
        body: r#"{"created_at":"2026-01-02T03:04:05Z","event":"invitee.created","payload":{"uri":"https://api.example/invitees/1"}}"#,
        event_type: "invitee.created",
        subject: Some("https://api.example/invitees/1"),
        id: None,
    },
    Case {
        preset: "gitea",
        headers: &[
            (
                "X-Hub-Signature-256",
                "sha256=84573741b3ddf289db6b2faa9118e018f199dfefd2655de01453af946b6e9f09",
            ),
            ("X-Gitea-Event", "push"),
            ("X-Gitea-Delivery", "d-1"),
        ],
        body: r#"{"ref":"refs/heads/main","repository":{"full_name":"acme/site"}}"#,
        event_type: "push",
        subject: Some("acme/site"),
        id: Some(("d-1", false)),
    },
    Case {
        preset: "github",
        headers: &[
            (
                "X-Hub-Signature-256",
                "sha256=92c6cea8899ad03ae6c851333864b971d23a578f462f217e3a1847ffbe6a06c8",
            ),
            ("X-GitHub-Event", "issues"),
            ("X-GitHub-Delivery", "d-2"),
        ],
        body: r#"{"action":"opened","repository":{"full_name":"acme/site"}}"#,
        event_type: "issues",
        subject: Some("acme/site"),
        id: Some(("d-2", false)),
    },
    Case {
        preset: "gitlab",
        headers: &[
            ("webhook-id", "m-1"),
            ("webhook-timestamp", "1767323045"),
            ("webhook-signature", "v1,jrc5QGLjdfpt6wBh8KpqUaOwbqU3gMp8/uJaNUef7jI="),
            ("X-Gitlab-Event", "Push Hook"),
        ],
        body: r#"{"object_kind":"push","project":{"path_with_namespace":"acme/site"}}"#,
        event_type: "Push Hook",
        subject: Some("acme/site"),
        id: Some(("m-1", true)),
    },
    Case {
        preset: "gitlab-token",
        headers: &[
            ("X-Gitlab-Token", "whsec_dGhlIGtleSBvZiBub2JvZHkgaW4gcGFydGljdWxhcg=="),
            ("X-Gitlab-Event", "Push Hook"),
            ("X-Gitlab-Event-UUID", "g-1"),
        ],
        body: r#"{"object_kind":"push","project":{"path_with_namespace":"acme/site"}}"#,
        event_type: "Push Hook",
        subject: Some("acme/site"),
        id: Some(("g-1", true)),
    },
    Case {
        preset: "jaas",
        headers: &[("X-Jaas-Signature", "t=1767323045,v1=+oFtmR6Pe3Sxz5udTq0zrRBuDL76RCEpxzzOQkjNDyM=")],
        body: r#"{"idempotencyKey":"k-1","eventType":"ROOM_CREATED","timestamp":1767323045000,"fqn":"app/room"}"#,
        event_type: "ROOM_CREATED",
        subject: Some("app/room"),
        id: Some(("k-1", true)),
    },
    Case {
        preset: "jira",
        headers: &[
            ("X-Hub-Signature", "sha256=b581abd964256e34792c245e2ee300d5fd596c67748281d63b6fe1a6ec89fb53"),
            ("X-Atlassian-Webhook-Identifier", "j-1"),
        ],
        body: r#"{"timestamp":1767323045000,"webhookEvent":"jira:issue_updated","issue":{"key":"ACME-1"}}"#,
        event_type: "jira:issue_updated",
        subject: Some("ACME-1"),
        id: Some(("j-1", false)),
    },
    Case {
        preset: "keycloak-events",
        headers: &[(
            "X-Keycloak-Signature",
            "20467968e9ca0009272d102b37c7fecbd381e111791e117491e17d8b53150a06",
        )],
        body: r#"{"uid":"u-1","id":"e-1","time":1767323045000,"type":"admin.USER-UPDATE","resourcePath":"users/7"}"#,
        event_type: "admin.USER-UPDATE",
        subject: Some("users/7"),
        id: Some(("u-1", true)),
    },
    Case {
        preset: "keycloak-webhook",
        headers: &[(
            "Authorization",
            "Basic a2V5Y2xvYWs6d2hzZWNfZEdobElHdGxlU0J2WmlCdWIySnZaSGtnYVc0Z2NHRnlkR2xqZFd4aGNnPT0=",
        )],
        body: r#"{"type":"LOGIN","id":"e-2","time":1767323045000,"userId":"7"}"#,
        event_type: "LOGIN",
        subject: Some("7"),
        id: Some(("e-2", true)),
    },
    Case {
        preset: "linear",
        headers: &[
            ("Linear-Signature", "49a3f32b5d54c4da59ff4bf6564d3fe7a24b0a1ca29d14a02aa001cb8f7e4707"),
            ("Linear-Delivery", "l-1"),
        ],
        body: r#"{"action":"create","type":"Issue","data":{"id":"i-1"},"createdAt":"2026-01-02T03:04:05.000Z","webhookTimestamp":1767323045000}"#,
        event_type: "Issue",
        subject: Some("i-1"),
        id: Some(("l-1", false)),
    },
    Case {
        preset: "meta",
        headers: &[(
            "X-Hub-Signature-256",
            "sha256=013f95ac829950294c72085c20f73a3c7dccf05d36875f271d319069fcd47d86",
        )],
        body: r#"{"object":"whatsapp_business_account","entry":[{"id":"102","changes":[]}]}"#,
        event_type: "whatsapp_business_account",
        subject: Some("102"),
        id: None,
    },
    Case {
        preset: "pagerduty",
        headers: &[(
            "X-PagerDuty-Signature",
            "v1=0000000000000000000000000000000000000000000000000000000000000000,v1=c140ebb6fd9bae67f6da358af3cc47f86ef1975cc022340e2e3f23ef22fe8749",
        )],
        body: r#"{"event":{"id":"p-1","event_type":"incident.triggered","occurred_at":"2026-01-02T03:04:05Z","data":{"id":"PGR0VU2"}}}"#,
        event_type: "incident.triggered",
        subject: Some("PGR0VU2"),
        id: Some(("p-1", true)),
    },
    Case {
        preset: "razorpay",
        headers: &[
            ("X-Razorpay-Signature", "101f302ae1c465ad795616922b24a1116b3957a49c54f2db0b53ece919d6abdc"),
            ("X-Razorpay-Event-Id", "r-1"),
        ],
        body: r#"{"event":"payment.captured","created_at":1767323045,"payload":{"payment":{"entity":{"id":"pay_1"}}}}"#,
        event_type: "payment.captured",
        subject: Some("pay_1"),
        id: Some(("r-1", false)),
    },
    Case {
        preset: "shopify",
        headers: &[
            ("X-Shopify-Hmac-Sha256", "KFjKxfJm1zc4c1t9OKrfCihKBt+UZUP9M4d7uYFk37w="),
            ("X-Shopify-Topic", "orders/create"),
            ("X-Shopify-Webhook-Id", "s-1"),
        ],
        body: r#"{"id":1,"admin_graphql_api_id":"gid://shopify/Order/1"}"#,
        event_type: "orders/create",
        subject: Some("gid://shopify/Order/1"),
        id: Some(("s-1", false)),
    },
    Case {
        preset: "slack",
        headers: &[
            ("X-Slack-Signature", "v0=8ddf57569f7bbdf158d97fa3f8453d3178692331c2ce7d3b19c8cb966eb26237"),
            ("X-Slack-Request-Timestamp", "1767323045"),
        ],
        body: r#"{"type":"event_callback","team_id":"T1","event_id":"Ev1","event_time":1767323045,"event":{"type":"message","channel":"C1"}}"#,
        event_type: "message",
        subject: Some("C1"),
        id: Some(("Ev1", true)),
    },
    Case {
        preset: "slack",
        headers: &[
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("X-Slack-Signature", "v0=71bf2a99fb6d788335be4e05d3db82ac06bb02970f957dd2fd9069980cf99f06"),
            ("X-Slack-Request-Timestamp", "1767323045"),
        ],
        body: "command=%2Fescalate&channel_id=C1&trigger_id=tr1",
        event_type: "/escalate",
        subject: Some("C1"),
        id: Some(("tr1", true)),
    },
    Case {
        preset: "stripe",
        headers: &[(
            "Stripe-Signature",
            "t=1767323045,v1=4e9a3e38320310ce011b2c297c4043f9bac0f81e71e0adf4ac0b3e597e24721e,v0=0000000000000000000000000000000000000000000000000000000000000000",
        )],
        body: r#"{"id":"evt_1","type":"charge.succeeded","created":1767323045,"data":{"object":{"id":"ch_1"}}}"#,
        event_type: "charge.succeeded",
        subject: Some("ch_1"),
        id: Some(("evt_1", true)),
    },
    Case {
        preset: "typeform",
        headers: &[("Typeform-Signature", "sha256=cam3ysyWa8kH+WPVOXQn8pXyEfNZkbfwKcBnsQ6U4sg=")],
        body: r#"{"event_id":"t-1","event_type":"form_response","form_response":{"form_id":"lT4Z3j","submitted_at":"2026-01-02T03:04:05Z"}}"#,
        event_type: "form_response",
        subject: Some("lT4Z3j"),
        id: Some(("t-1", true)),
    },
];

fn headers(case: &Case) -> HeaderMap {
    case.headers
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value))
        })
        .collect()
}

fn verify(
    case: &Case,
    headers: &HeaderMap,
    secret: &str,
    body: &'static str,
    now: i64,
) -> Result<Delivery, Refused> {
    let scheme = Scheme::Preset { name: case.preset.to_owned() };
    let request = RequestParts { method: &Method::POST, headers, query: None };
    let now: DateTime<Utc> = DateTime::from_timestamp(now, 0).unwrap();
    match scheme.verify(&[secret.to_owned().into()], &request, &Bytes::from_static(body.as_bytes()), now)? {
        Outcome::Deliveries(mut deliveries) => {
            assert_eq!(deliveries.len(), 1);
            Ok(deliveries.remove(0))
        }
        Outcome::Answer(_) => panic!("{} is no question", case.preset),
    }
}

#[test]
fn every_preset_has_a_case() {
    for (name, _) in presets::all() {
        assert!(CASES.iter().any(|case| case.preset == name), "{name}");
    }
}

#[test]
fn what_a_tool_sends_is_taken_and_says_what_it_is() {
    for case in CASES {
        let name = case.preset;
        let delivery = verify(case, &headers(case), SECRET, case.body, NOW)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(delivery.event_type, case.event_type, "{name}");
        assert_eq!(delivery.subject.as_deref(), case.subject, "{name}");
        let id = delivery.id.as_ref().map(|id| (id.value.as_str(), id.is_proven));
        assert_eq!(id, case.id, "{name}");
        // Whoever can change the id can't make it another event.
        match case.id {
            Some((id, true)) => assert_eq!(delivery.key, Key::Id(vec![id.to_owned()]), "{name}"),
            _ => assert_eq!(delivery.key, Key::Body, "{name}"),
        }
    }
}

#[test]
fn what_a_tool_didn_t_sign_is_refused() {
    for case in CASES {
        let (name, headers) = (case.preset, headers(case));
        let unproven = |outcome: Result<Delivery, Refused>, what: &str| {
            assert!(matches!(outcome, Err(Refused::Unproven(_))), "{name}: {what}");
        };
        unproven(
            verify(case, &headers, "whsec_YW5vdGhlciBrZXkgb2YgYW55Ym9keSBlbHNl", case.body, NOW),
            "another secret",
        );
        unproven(verify(case, &headers, "", case.body, NOW), "no secret");
        unproven(verify(case, &HeaderMap::new(), SECRET, case.body, NOW), "no headers");
        let is_signed = !["gitlab-token", "keycloak-webhook"].contains(&name);
        if is_signed {
            unproven(verify(case, &headers, SECRET, "{}", NOW), "another body");
        }
        let has_time = ["calendly", "gitlab", "jaas", "linear", "slack", "stripe"].contains(&name);
        for seconds in [-300, 300] {
            assert!(
                verify(case, &headers, SECRET, case.body, NOW + seconds).is_ok(),
                "{name} after {seconds} s"
            );
        }
        for seconds in [-301, 301] {
            let outcome = verify(case, &headers, SECRET, case.body, NOW + seconds);
            if has_time {
                unproven(outcome, "another time");
            } else {
                assert!(outcome.is_ok(), "{name} after {seconds} s");
            }
        }
    }
}

#[test]
fn a_keycloak_event_is_taken_for_a_day() {
    let case = CASES.iter().find(|case| case.preset == "keycloak-events").unwrap();
    let day = TimeDelta::days(1).num_seconds();
    assert!(verify(case, &headers(case), SECRET, case.body, NOW + day).is_ok());
    assert!(verify(case, &headers(case), SECRET, case.body, NOW + day + 1).is_err());
}
