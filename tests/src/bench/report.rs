use std::path::Path;

use serde::Serialize;

/// One measured figure.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    /// What it is compared with, and its value in the same run.
    pub yardstick: Option<String>,
    /// Value over yardstick.
    pub ratio: Option<f64>,
}

/// What a run has measured, and where.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: String,
    date: String,
    rows: Vec<Row>,
}

impl Default for Report {
    fn default() -> Self {
        use connector_core::Clock as _;
        let date = connector_core::SystemClock.now().format("%Y-%m-%d").to_string();
        Self { machine: machine(), date, rows: Vec::new() }
    }
}

/// The processor, the number of cores and the memory, as Linux tells.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = read("/proc/meminfo");
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    format!("{model}, {cores} cores, {} GiB", kib / 1024 / 1024)
}

impl Report {
    pub fn add(&mut self, row: Row) {
        say(&row.line());
        self.rows.push(row);
    }

    pub fn print(&self) {
        say(&format!("\n{} · {}\n", self.machine, self.date));
        say("| row | value | unit | yardstick | ratio |\n|---|---|---|---|---|");
        for row in &self.rows {
            say(&row.line());
        }
    }

    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        std::fs::write(file, serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}

impl Row {
    fn line(&self) -> String {
        let yardstick = self.yardstick.as_deref().unwrap_or("");
        let ratio = self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        format!("| `{}` | {:.1} | {} | {yardstick} | {ratio} |", self.name, self.value, self.unit)
    }
}

#[expect(clippy::print_stdout, reason = "the report is for whoever runs the benchmark")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// The value below which so many of a hundred lie.
pub(crate) fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a short list"
    )]
    let index = ((values.len() as f64 * percent / 100.0).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    values.get(index).copied().unwrap_or(f64::NAN)
}
