//! Paths of the workspace, and running other programs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The workspace's directory.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_path_buf()
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    }
}

/// The Python environment that [`crate::setup`] makes.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// A program that `setup` installed, or one of that name on the `PATH`.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let ours = tools().join("bin").join(name);
    if ours.exists() { Some(ours) } else { on_path(name) }
}

/// The first program of that name on the `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}

/// A command in the workspace's directory.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs this program.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What this program was built with is none of the next build's business.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// Shows and runs a command; its failure is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command.status().with_context(|| format!("could not run {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a command and gives what it printed on the standard output.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("could not run {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}", output.status);
    }
    Ok(output.stdout)
}

/// The command as one would type it, with the program's name only.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|part| {
            let part = part.to_string_lossy();
            if part.contains([' ', '*', '"']) { format!("'{part}'") } else { part.into_owned() }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs one step of several, with a heading before and its duration after it.
pub(crate) async fn step<T>(name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    judged_step(name, work, |_| true).await
}

/// The same for a step whose result tells whether it went well.
pub(crate) async fn judged_step<T>(
    name: &str,
    work: impl Future<Output = Result<T>>,
    went_well: impl FnOnce(&T) -> bool,
) -> Result<T> {
    eprintln!("\n== {name}");
    let began = Instant::now();
    let result = work.await;
    let outcome = if result.as_ref().is_ok_and(went_well) { "ok" } else { "FAILED" };
    eprintln!("== {name}: {outcome} in {:.1} s", began.elapsed().as_secs_f64());
    result
}

/// Whether CI or root runs this, so that nobody is to be asked.
pub(crate) fn unattended() -> bool {
    nix::unistd::geteuid().is_root() || std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_workspaces() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/bin/npm");
        command.args(["run", "two words"]);
        assert_eq!(show(&command), "npm run 'two words'");
    }
}
