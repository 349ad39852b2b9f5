use std::{hint::black_box, time::Instant};

use anyhow::Context as _;
use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::RSA_PKCS1_SHA256,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use connector_core::{Clock as _, RandomIds, SystemClock};
use connector_jitsi::{Dialect, JitsiSettings, Participant, Signing, TokenMinter, new_room_name};

use crate::report::{Report, Row, percentile};

const LINKS: usize = 1_000;

/// The making of a link into a meeting, with a token signed by RSA, beside the bare signature.
pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let key = KeyPair::generate(KeySize::Rsa2048).context("no key could be made")?;
    let der = STANDARD.encode(key.as_der().context("the key can't be written")?.as_ref());
    let private_key_pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n").into();
    let minter = TokenMinter::new(&JitsiSettings {
        url: "https://meet.example.org/".parse()?,
        app_id: "chancery".to_owned(),
        signing: Signing::Rs256 { key_id: "cp-2026-11".to_owned(), private_key_pem },
        audience: "jitsi".to_owned(),
        subject: "meet.jitsi".to_owned(),
        token_lifetime: std::time::Duration::from_mins(10),
        dialect: Dialect::Prosody,
    })?;
    let participant = Participant {
        id: "3f0c7b52-0000-4000-8000-000000000001".to_owned(),
        name: "Carla Chief".to_owned(),
        email: None,
        avatar: None,
        moderator: true,
    };
    let (room, now) = (new_room_name(&RandomIds), SystemClock.now());
    let (mut links, mut bare) = (Vec::with_capacity(LINKS), Vec::with_capacity(LINKS));
    let random = SystemRandom::new();
    let mut signature = vec![0; key.public_modulus_len()];
    for _ in 0..LINKS {
        let begun = Instant::now();
        black_box(minter.mint(black_box(&room), &participant, now, now + TimeDelta::hours(2))?);
        links.push(begun.elapsed().as_secs_f64() * 1e6);
        let begun = Instant::now();
        key.sign(&RSA_PKCS1_SHA256, &random, black_box(room.as_bytes()), &mut signature)
            .context("nothing could be signed")?;
        bare.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    let (value, yardstick) = (percentile(&mut links, 50.0), percentile(&mut bare, 50.0));
    report.add(Row {
        name: "jitsi.mint_us",
        value,
        unit: "µs",
        yardstick: Some(format!("bare RSA-2048 signature: {yardstick:.0} µs")),
        ratio: Some(value / yardstick),
    });
    Ok(())
}
