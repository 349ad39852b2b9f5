use crate::{
    report::{Report, Row, percentile},
    stage::Stage,
};

const STARTS: usize = 7;

/// How long a start takes on a migrated database, and what the server occupies at rest.
pub(crate) async fn measure(stage: &Stage, report: &mut Report) -> anyhow::Result<()> {
    let (mut milliseconds, mut resident) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let server = stage.serve().await?;
        milliseconds.push(server.started_in.as_secs_f64() * 1000.0);
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        #[expect(clippy::cast_precision_loss, reason = "a few MiB")]
        resident.push(server.resident_kib()? as f64 / 1024.0);
        server.stop().await?;
    }
    let row = |name, value, unit| Row { name, value, unit, yardstick: None, ratio: None };
    report.add(row("serve.start_ms", percentile(&mut milliseconds, 50.0), "ms"));
    report.add(row("serve.rss_mib", percentile(&mut resident, 50.0), "MiB"));
    Ok(())
}
