use anyhow::Context as _;
use connector_chatwoot::fake::ACCOUNT_ID;
use connector_jitsi::fake::Events;
use connector_webhooks::Scheme;

use super::{DataDir, Doubles};
use crate::{
    app::AppState,
    ids::TenantId,
    sources::{self, NewSource, SourceScheme, register_source},
};

/// The tenant whose customers write in Chatwoot.
const CHATWOOT_TENANT: &str = "/organizations/acme-corp";
const TENANTS: [&str; 4] =
    ["/organizations/acme-corp", "/organizations/globex", "/teams/engineering", "/teams/support"];
const SUBSCRIPTIONS: [&str; 6] = [
    "conversation_created",
    "conversation_updated",
    "conversation_status_changed",
    "message_created",
    "message_updated",
    "webwidget_triggered",
];

/// Does what an administrator does once: tells Chancery of the tenants, and Chatwoot and Matrix where to post. Done again,
/// it changes nothing.
///
/// # Errors
/// Where a tool refuses.
pub async fn seed(state: &AppState, doubles: &Doubles, data_dir: &DataDir) -> anyhow::Result<()> {
    for path in TENANTS {
        state.directory.refresh_tenant(TenantId(doubles.keycloak.group_id(path)?)).await?;
    }
    let tenant = TenantId(doubles.keycloak.group_id(CHATWOOT_TENANT)?);
    let mut seeded = data_dir.seeded();
    let public_url = state.config.http.public_url.clone();

    let source_url = |service: &str, source| public_url.join(&format!("/api/v1/webhooks/{service}/{source}"));
    let account = ACCOUNT_ID.to_string();
    let webhook_is_ours =
        seeded.chatwoot_webhook.as_deref().is_some_and(|url| url.starts_with(public_url.as_str()));
    if !webhook_is_ours {
        // The source's id first, since it stands in the URL; then the secret that Chatwoot has minted for that URL.
        let source =
            register_source(state, tenant, SourceScheme::Chatwoot, "Website", &account, None).await?;
        let url = source_url("chatwoot", source)?;
        let chatwoot =
            state.tools.chatwoot.as_ref().context("Chatwoot is not connected")?.account(ACCOUNT_ID);
        let webhook = chatwoot.register_webhook(&url, "Chancery", &SUBSCRIPTIONS).await?;
        chatwoot.register_dashboard_app("Approvals", &public_url.join("/embed/chatwoot")?).await?;
        let secret = webhook.secret.context("Chatwoot has minted no secret")?;
        register_source(state, tenant, SourceScheme::Chatwoot, "Website", &account, Some(secret)).await?;
        seeded.chatwoot_webhook = Some(url.into());
        data_dir.remember_seeded(&seeded)?;
    }
    let source = if let Some(source) = seeded.matrix_source {
        crate::ids::SourceId(source)
    } else {
        let token = data_dir.secrets().matrix_hs_token.clone().into();
        let source =
            register_source(state, tenant, SourceScheme::Matrix, "Homeserver", "chancery", Some(token))
                .await?;
        seeded.matrix_source = Some(source.0);
        data_dir.remember_seeded(&seeded)?;
        source
    };
    let jitsi_secret: secrecy::SecretString = data_dir.secrets().jitsi_secret.clone().into();
    let jitsi = if let Some(source) = seeded.jitsi_source {
        crate::ids::SourceId(source)
    } else {
        // The suite's: its rooms are of all tenants.
        let new = NewSource {
            service: "jitsi".to_owned(),
            name: "Rooms".to_owned(),
            account: None,
            scheme: SourceScheme::Shared(Box::new(Scheme::JitsiEventSync {})),
            limit: None,
            secret: Some(jitsi_secret.clone()),
        };
        let mut tx = state.database.worker_tx(TenantId::SUITE).await?;
        let source = sources::add(&mut tx, &state.master_key, TenantId::SUITE, new).await?.source.id;
        tx.commit().await?;
        seeded.jitsi_source = Some(source.0);
        data_dir.remember_seeded(&seeded)?;
        source
    };
    doubles.jitsi.set_events(Some(Events {
        url: source_url("jitsi", jitsi)?,
        authorization: Some(format!("Bearer {}", secrecy::ExposeSecret::expose_secret(&jitsi_secret)).into()),
    }));
    doubles.matrix.set_appservice_url(Some(source_url("matrix", source)?))?;
    Ok(())
}
