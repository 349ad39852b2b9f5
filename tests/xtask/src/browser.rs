//! The tests that play in a real browser: tests/browser/*.test.mjs, against a demo of their own and against a server with a
//! real Keycloak behind it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::demo::Demo;
use crate::serve::Serving;
use crate::shell;
use crate::stack::keycloak;
use crate::tally::{self, Format, Tally};

fn directory() -> PathBuf {
    shell::root().join("tests/browser")
}

/// The test files, in order.
fn tests(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in
        std::fs::read_dir(directory).with_context(|| format!("could not read {}", directory.display()))?
    {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".test.mjs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Installs the packages, starts a demo and a server before `keycloak`, runs the tests, stops both.
pub(crate) async fn run(program: &PathBuf, keycloak: Option<&keycloak::ForTests>) -> Result<Tally> {
    let directory = directory();
    if !directory.join("package.json").exists() {
        println!("browser: there are no browser tests (no tests/browser/package.json)");
        return Ok(Tally::default());
    }
    let files = tests(&directory)?;
    if files.is_empty() {
        println!("browser: there are no browser tests (no tests/browser/*.test.mjs)");
        return Ok(Tally::default());
    }
    let Some(chromium) = crate::setup::chromium() else { bail!("Chromium is missing: cargo xtask setup") };
    let install = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
    shell::run(shell::command("npm").args(install).current_dir(&directory))?;

    let demo = Demo::start(program).await?;
    // Without it, the tests that need it fail and say so.
    let serving = match keycloak {
        Some(keycloak) => {
            let started = Serving::start(program, keycloak).await;
            started.inspect_err(|error| eprintln!("error: {error:#}")).ok()
        }
        None => None,
    };
    let results = tempfile::NamedTempFile::new()?;
    let mut command = shell::command("node");
    command
        .current_dir(&directory)
        // One file at a time: they share the demo.
        .args(["--test", "--test-concurrency=1"])
        .args(["--test-reporter=spec", "--test-reporter-destination=stdout"])
        .args(["--test-reporter=tap", "--test-reporter-destination"])
        .arg(results.path())
        .args(&files)
        .envs(demo.environment())
        .envs(keycloak.into_iter().flat_map(keycloak::ForTests::environment))
        .envs(serving.iter().flat_map(Serving::environment))
        .env("CHROMIUM_PATH", chromium);
    let outcome = shell::run(&mut command);
    drop(demo);
    if let Some(serving) = serving {
        serving.stop().await?;
    }

    let report = std::fs::read_to_string(results.path())?;
    let mut tally = Tally::default();
    for line in report.lines() {
        tally += Format::NodeTap.read(line);
    }
    Ok(judge(tally, outcome.is_ok()))
}

/// A run that failed without saying so, or that ran nothing, is a failure.
fn judge(mut tally: tally::Tally, succeeded: bool) -> Tally {
    if (!succeeded && tally.failed == 0) || tally.passed + tally.failed == 0 {
        tally.failed += 1;
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_files_are_run_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.test.mjs", "a.test.mjs", "helpers.mjs", "package.json"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let names: Vec<_> = tests(directory.path())
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a.test.mjs", "b.test.mjs"]);
    }

    #[test]
    fn a_run_without_a_result_is_a_failure() {
        assert_eq!(judge(Tally::default(), true).failed, 1);
        assert_eq!(judge(Tally { passed: 3, ..Tally::default() }, false).failed, 1);
        assert_eq!(judge(Tally { passed: 3, ..Tally::default() }, true).failed, 0);
    }
}
