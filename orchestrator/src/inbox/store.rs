use crate::{
    db::{SystemTx, TenantTx},
    ids::{SourceId, TenantId},
};

pub(super) struct StoredSource {
    pub id: SourceId,
    pub tenant: TenantId,
    pub service: String,
    pub account: String,
    pub sealed_secrets: Vec<u8>,
}

pub(super) async fn find_source(
    tx: &mut SystemTx,
    id: SourceId,
) -> Result<Option<StoredSource>, sqlx::Error> {
    sqlx::query_as!(
        StoredSource,
        r#"SELECT id AS "id: _", tenant_id AS "tenant: _", service, account, sealed_secrets FROM webhook_sources WHERE id = $1 AND active"#,
        id.0,
    )
    .fetch_optional(tx.connection())
    .await
}

/// The only source of a service, if there is exactly one.
pub(super) async fn only_source(tx: &mut SystemTx, service: &str) -> Result<Option<SourceId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"SELECT id AS "id: SourceId" FROM webhook_sources WHERE service = $1 AND active LIMIT 2"#,
        service
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(match ids.as_slice() {
        [only] => Some(*only),
        _ => None,
    })
}

pub(super) async fn upsert_source(
    tx: &mut TenantTx,
    tenant: TenantId,
    id: SourceId,
    service: &str,
    name: &str,
    account: &str,
    sealed_secrets: &[u8],
) -> Result<SourceId, sqlx::Error> {
    let now = tx.now();
    sqlx::query_scalar!(
        r#"INSERT INTO webhook_sources (tenant_id, id, service, name, account, sealed_secrets, created_at, updated_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
           ON CONFLICT ON CONSTRAINT webhook_sources_account DO UPDATE SET name = $4, sealed_secrets = $6, active = true, updated_at = $7
           RETURNING id AS "id: SourceId""#,
        tenant.0,
        id.0,
        service,
        name,
        account,
        sealed_secrets,
        now,
    )
    .fetch_one(tx.connection())
    .await
}

/// A new id that a source's URL can't be guessed by: random, not made from the time.
pub(super) fn unguessable(random: [u8; 16]) -> SourceId {
    SourceId(uuid::Builder::from_random_bytes(random).into_uuid())
}

/// Text as PostgreSQL can hold it (without NUL), cut to `most` characters.
pub(super) fn storable(text: &str, most: usize) -> String {
    text.chars().take(most).map(|letter| if letter == '\0' { '\u{fffd}' } else { letter }).collect()
}

/// A transaction id or a delivery is the same for the same source only.
pub(super) fn key_hash(parts: &[&[u8]]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_where_its_parts_end() {
        assert_ne!(key_hash(&[b"ab", b"c"]), key_hash(&[b"a", b"bc"]));
        assert_eq!(key_hash(&[b"ab", b"c"]), key_hash(&[b"ab", b"c"]));
        assert_eq!(unguessable([7; 16]).0.get_version_num(), 4);
    }
}
