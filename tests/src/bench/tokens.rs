use std::{hint::black_box, sync::Arc, time::Instant};

use anyhow::Context as _;
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery::auth::{bearer, keys::Keys};
use connector_core::{Clock as _, SystemClock};
use connector_keycloak::fake::Signature;

use crate::{
    report::{Report, Row, percentile},
    stage::Stage,
};

const CHECKS: usize = 1_000;

/// The check of access tokens whose key is known, when they come for the first time and when they come again, beside the bare
/// verification of a signature.
pub(crate) async fn measure(stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let keycloak = &stage.doubles.keycloak;
    let mint = || {
        keycloak.mint_access_token("chancery-shell", "acme-agent", serde_json::Map::new(), Signature::Valid)
    };
    let issuer = keycloak.issuer();
    let keys = Arc::new(Keys::new(issuer.parse()?, Arc::new(SystemClock)));
    // The first one fetches the keys.
    let token = mint()?;
    bearer::verify(&keys, issuer, "chancery-api", SystemClock.now(), &token).await?;
    let tokens = (0..CHECKS).map(|_| mint()).collect::<Result<Vec<_>, _>>()?;
    let now = SystemClock.now();
    let mut rounds = [Vec::with_capacity(CHECKS), Vec::with_capacity(CHECKS)];
    for checks in &mut rounds {
        for token in &tokens {
            let begun = Instant::now();
            black_box(bearer::verify(&keys, issuer, "chancery-api", now, black_box(token)).await?);
            checks.push(begun.elapsed().as_secs_f64() * 1e6);
        }
    }

    let provider = keys.provider().await?;
    let key = &provider.raw_keys["keys"][0];
    let number = |name: &str| {
        URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap_or_default()).context("the key can't be read")
    };
    let public = RsaPublicKeyComponents { n: number("n")?, e: number("e")? };
    let (message, signature) = token.rsplit_once('.').context("a token has three parts")?;
    let signature = URL_SAFE_NO_PAD.decode(signature)?;
    let mut bare = Vec::with_capacity(CHECKS);
    for _ in 0..CHECKS {
        let begun = Instant::now();
        let verified = public.verify(&RSA_PKCS1_2048_8192_SHA256, black_box(message.as_bytes()), &signature);
        bare.push(begun.elapsed().as_secs_f64() * 1e6);
        anyhow::ensure!(verified.is_ok(), "the signature is not the key's");
    }
    let yardstick = percentile(&mut bare, 50.0);
    for (name, checks) in ["tokens.check_us", "tokens.check_again_us"].into_iter().zip(&mut rounds) {
        let value = percentile(checks, 50.0);
        report.add(Row {
            name,
            value,
            unit: "µs",
            yardstick: Some(format!("bare RSA-2048 verification: {yardstick:.1} µs")),
            ratio: Some(value / yardstick),
        });
    }
    Ok(())
}
