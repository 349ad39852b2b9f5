//! The official library of Standard Webhooks takes what is signed here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in tests a panic is the report")]

use std::process::Command;

use chrono::DateTime;
use connector_webhooks::standard::{SigningKey, shared_secret, sign};
use secrecy::ExposeSecret as _;

const VERIFY: &str = "
import sys
from standardwebhooks import Webhook
secret, body, *headers = sys.argv[1:]
names = ['webhook-id', 'webhook-timestamp', 'webhook-signature']
print(Webhook(secret).verify(body, dict(zip(names, headers))))
";

fn python(script: &str, arguments: &[&str]) -> Result<String, String> {
    let python = std::env::var("CHANCERY_TEST_PYTHON").expect("cargo xtask test says where it is");
    let output = Command::new(python).arg("-c").arg(script).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
#[ignore = "needs the official libraries: cargo xtask test"]
fn the_official_library_takes_what_is_signed_here() {
    // It looks at the machine's clock.
    let now: i64 = python("import time; print(int(time.time()))", &[]).unwrap().parse().unwrap();
    let (old, new) = (shared_secret([1; 32]), shared_secret([2; 32]));
    let keys = [SigningKey::parse(&old).unwrap(), SigningKey::parse(&new).unwrap()];
    let body = r#"{"test": 2432232314}"#;
    let headers = sign(&keys, "msg_1", DateTime::from_timestamp(now, 0).unwrap(), body.as_bytes()).unwrap();
    let values: Vec<&str> = headers.iter().map(|(_, value)| value.to_str().unwrap()).collect();
    for secret in [&old, &new] {
        let verify = |body| python(VERIFY, &[&[secret.expose_secret(), body], values.as_slice()].concat());
        assert_eq!(verify(body).unwrap(), "{'test': 2432232314}");
        assert!(verify("{}").unwrap_err().contains("WebhookVerificationError"));
    }
    let stranger = shared_secret([3; 32]);
    let refused = python(VERIFY, &[&[stranger.expose_secret(), body], values.as_slice()].concat());
    assert!(refused.unwrap_err().contains("WebhookVerificationError"));
}
