//! Fuzzing with libFuzzer: what fuzz/ and tests/fuzz have.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::shell;

/// What to fuzz, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these targets
    targets: Vec<String>,
    /// How long each is fuzzed
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// What has libFuzzer see which ways an input takes, as cargo-fuzz sets it, but for the address sanitizer: that one needs a
/// nightly compiler, and what is fuzzed has no unsafe code.
const INSTRUMENTATION: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
];

/// The names of all targets.
fn targets(fuzz: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(fuzz.join("fuzz_targets")).context("there are no fuzz targets")? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Builds the targets and runs each; an input that one doesn't stand is kept in fuzz/artifacts.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let fuzz = shell::root().join("fuzz");
    let all = targets(&fuzz)?;
    let chosen = if arguments.targets.is_empty() { &all } else { &arguments.targets };
    if let Some(unknown) = chosen.iter().find(|name| !all.contains(name)) {
        bail!("there is no target {unknown}; there are {}", all.join(", "));
    }
    // With a target named, what runs in the build itself isn't instrumented.
    let host = host()?;
    let directory = shell::target().join("fuzz");
    let mut build = shell::cargo(&["build", "--release", "--bins", "--target", &host, "--manifest-path"]);
    build
        .arg(fuzz.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &directory)
        .env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTATION.join("\u{1f}"));
    shell::run(&mut build)?;
    let mut failed = Vec::new();
    for name in chosen {
        eprintln!("fuzz: {name} for {} s", arguments.seconds);
        if let Err(error) = fuzz_one(&fuzz, &directory, &host, name, arguments.seconds) {
            eprintln!("error: {error:#}");
            failed.push(name.as_str());
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("found something in {}", failed.join(", ")) }
}

fn fuzz_one(fuzz: &Path, built: &Path, host: &str, name: &str, seconds: u32) -> Result<()> {
    // New inputs go to the first folder; the committed ones are only read.
    let found = built.join("corpus").join(name);
    let artifacts = fuzz.join("artifacts").join(name);
    for folder in [&found, &artifacts] {
        std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    }
    let program: PathBuf = built.join(host).join("release").join(name);
    let mut command = shell::command(program);
    command
        .args([&found, &fuzz.join("corpus").join(name)])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args([
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-max_len=8192",
            "-print_final_stats=1",
            "-print_funcs=0",
            "-verbosity=0",
        ]);
    shell::run(&mut command)
}

/// The triple of this machine.
fn host() -> Result<String> {
    let output = shell::command("rustc").arg("-vV").output().context("could not run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("rustc doesn't say what it builds for")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_are_found_in_order() {
        let names = targets(&shell::root().join("fuzz")).unwrap();
        assert!(names.len() >= 6 && names.is_sorted(), "{names:?}");
    }
}
