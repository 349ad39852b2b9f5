use chrono::{DateTime, NaiveDate, Utc};

use crate::db::SystemConnection;

/// Makes the partitions of so many days from this one on, where they are missing.
pub(super) async fn make_partitions(
    connection: &mut SystemConnection,
    first: NaiveDate,
    days: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!("SELECT make_inbox_partitions($1, $2)", first, days)
        .fetch_one(connection.connection())
        .await?;
    Ok(())
}

/// Drops the partitions of the days before this one; how many it were.
pub(super) async fn drop_partitions(
    connection: &mut SystemConnection,
    before: NaiveDate,
) -> Result<i32, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT drop_inbox_partitions($1) AS "dropped!""#, before)
        .fetch_one(connection.connection())
        .await
}

/// When the oldest event was received that is still to be processed.
pub(super) async fn oldest_unprocessed(
    connection: &mut SystemConnection,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT least(
             (SELECT min(received_at) FROM inbox_pending),
             (SELECT min(received_at) FROM inbox_failures WHERE state IN ('ready', 'parked'))
         )"
    )
    .fetch_one(connection.connection())
    .await
}

/// Forgets failures and attempts of events that aren't kept any more.
pub(super) async fn forget_before(
    connection: &mut SystemConnection,
    before: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let midnight = before.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
    sqlx::query!(
        "DELETE FROM inbox_failures WHERE state IN ('dead', 'discarded', 'replaying') AND received_at < $1",
        midnight
    )
    .execute(connection.connection())
    .await?;
    sqlx::query!("DELETE FROM inbox_attempts WHERE ended_at < $1", midnight)
        .execute(connection.connection())
        .await?;
    Ok(())
}

/// How many blocks the keys' table has.
pub(super) async fn key_blocks(connection: &mut SystemConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT pg_relation_size('inbox_keys') / current_setting('block_size')::bigint AS "blocks!""#
    )
    .fetch_one(connection.connection())
    .await
}

/// Removes old keys between two blocks: no index on their time is needed, which each insertion would have to pay for.
pub(super) async fn trim_keys(
    connection: &mut SystemConnection,
    from_block: i64,
    to_block: i64,
    before: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "DELETE FROM inbox_keys WHERE ctid >= $1::text::tid AND ctid < $2::text::tid AND received_at < $3",
        format!("({from_block},0)"),
        format!("({to_block},0)"),
        before,
    )
    .execute(connection.connection())
    .await?;
    Ok(done.rows_affected())
}

/// What there is to do.
pub(super) struct Measured {
    /// Counted up to 100,000.
    pub pending: i64,
    pub ready: i64,
    pub parked: i64,
    pub dead: i64,
    pub oldest: Option<DateTime<Utc>>,
}

pub(super) async fn measure(connection: &mut SystemConnection) -> Result<Measured, sqlx::Error> {
    sqlx::query_as!(
        Measured,
        r#"WITH RECURSIVE line AS (
               (SELECT lane, tenant_id, received_at FROM inbox_pending ORDER BY lane, tenant_id, seq LIMIT 1)
               UNION ALL
               SELECT next.lane, next.tenant_id, next.received_at FROM line
               CROSS JOIN LATERAL (
                   SELECT lane, tenant_id, received_at FROM inbox_pending
                   WHERE (inbox_pending.lane, inbox_pending.tenant_id) > (line.lane, line.tenant_id) ORDER BY lane, tenant_id, seq LIMIT 1
               ) AS next
           )
           SELECT (SELECT count(*) FROM (SELECT 1 FROM inbox_pending LIMIT 100000) AS pending) AS "pending!",
                  count(*) FILTER (WHERE state = 'ready') AS "ready!", count(*) FILTER (WHERE state = 'parked') AS "parked!",
                  count(*) FILTER (WHERE state = 'dead') AS "dead!",
                  least((SELECT min(received_at) FROM line), min(received_at) FILTER (WHERE state IN ('ready', 'parked'))) AS oldest
           FROM inbox_failures"#
    )
    .fetch_one(connection.connection())
    .await
}
