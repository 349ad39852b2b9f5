use std::time::Duration;

use crate::{
    client::{Connection, request},
    people::introduce,
    report::{Report, Row, say},
    stage::Stage,
};

const STREAMS: u64 = 10_000;

/// What an open event stream costs the server.
pub(crate) async fn measure(stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let server = stage.serve().await?;
    let tenants = introduce(stage, &server).await?;
    // What is paid once is paid before.
    for tenant in &tenants {
        let mut connection = Connection::open(server.address).await?;
        connection
            .open_stream(&request(
                "GET",
                &format!("/api/v1/events?tenantId={}", tenant.id),
                &tenant.token,
                "",
                "",
            ))
            .await?;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = server.resident_kib()?;
    let mut streams = Vec::new();
    for index in 0..STREAMS {
        let tenant = &tenants[usize::try_from(index)? % tenants.len()];
        let mut connection = Connection::open(server.address).await?;
        connection
            .open_stream(&request(
                "GET",
                &format!("/api/v1/events?tenantId={}", tenant.id),
                &tenant.token,
                "",
                "",
            ))
            .await?;
        streams.push(connection);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = server.resident_kib()?;
    say(&format!("{} streams open: {before} KiB → {after} KiB", streams.len()));
    #[expect(clippy::cast_precision_loss, reason = "some hundred MiB")]
    let each = (after - before) as f64 / STREAMS as f64;
    report.add(Row {
        name: "streams.memory_kib",
        value: each,
        unit: "KiB each",
        yardstick: None,
        ratio: None,
    });
    drop(streams);
    server.stop().await
}
