//! Watch, build, restart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::{demo, shell};

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_millis(500);
const EXTENSIONS: [&str; 8] = ["rs", "html", "css", "js", "ftl", "sql", "toml", "json"];

type Times = BTreeMap<PathBuf, SystemTime>;

/// Runs the demo with `arguments` until Ctrl-C, and anew after each change that compiles.
pub(crate) async fn run(arguments: &[String]) -> Result<()> {
    let mut seen = times(&shell::root());
    let mut running = start(arguments)?;
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => {
                // The demo has got the signal, too; it is waited for.
                if let Some(process) = &mut running {
                    demo::stop(process);
                }
                return Ok(interrupted?);
            }
            () = tokio::time::sleep(PERIOD) => {}
        }
        let now = times(&shell::root());
        if let Some(changed) = first_change(&seen, &now) {
            eprintln!("\n== changed: {}", changed.display());
            seen = now;
            running = restart(running, arguments)?;
        }
    }
}

/// Builds first: what doesn't compile leaves the old one running.
fn restart(running: Option<Child>, arguments: &[String]) -> Result<Option<Child>> {
    if let Err(error) = demo::build() {
        eprintln!("== {error:#}; waiting for a change");
        return Ok(running);
    }
    if let Some(mut process) = running {
        demo::stop(&mut process);
    }
    start(arguments)
}

fn start(arguments: &[String]) -> Result<Option<Child>> {
    match demo::build() {
        Ok(program) => {
            let mut command = shell::command(program);
            command.arg("demo").args(arguments);
            Ok(Some(command.spawn().context("could not run the demo")?))
        }
        Err(error) => {
            eprintln!("== {error:#}; waiting for a change");
            Ok(None)
        }
    }
}

/// When each source file was written last.
fn times(directory: &Path) -> Times {
    let mut times = Times::new();
    let mut pending = vec![directory.to_path_buf()];
    while let Some(directory) = pending.pop() {
        // A directory may vanish while it is looked at.
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if kind.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                pending.push(path);
            } else if kind.is_file()
                && path
                    .extension()
                    .is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
                && let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified())
            {
                times.insert(path, modified);
            }
        }
    }
    times
}

/// A file that was written, made or removed between the two looks.
fn first_change(before: &Times, after: &Times) -> Option<PathBuf> {
    let written = after.iter().find(|(path, time)| before.get(*path) != Some(*time));
    let removed = before.iter().find(|(path, _)| !after.contains_key(*path));
    written.or(removed).map(|(path, _)| path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_a_new_and_a_removed_source_file_are_noticed_and_others_not() {
        let directory = tempfile::tempdir().unwrap();
        let (source, other) = (directory.path().join("page.html"), directory.path().join("notes.txt"));
        std::fs::create_dir(directory.path().join("target")).unwrap();
        std::fs::write(&source, "1").unwrap();
        let first = times(directory.path());
        std::fs::write(other, "1").unwrap();
        std::fs::write(directory.path().join("target/built.rs"), "1").unwrap();
        assert_eq!(first_change(&first, &times(directory.path())), None);

        let later = first[&source] + Duration::from_secs(1);
        std::fs::File::options().write(true).open(&source).unwrap().set_modified(later).unwrap();
        let second = times(directory.path());
        assert_eq!(first_change(&first, &second), Some(source.clone()));
        std::fs::remove_file(&source).unwrap();
        assert_eq!(first_change(&second, &times(directory.path())), Some(source));
    }
}
