//! Installs what the tests need and the machine lacks.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;
use crate::stack::Pin;

/// A thing that the tests need.
pub(crate) struct Need {
    what: &'static str,
    is_there: fn() -> bool,
    /// Debian's packages that bring it.
    packages: &'static [&'static str],
}

pub(crate) const POSTGRESQL: Need =
    Need { what: "PostgreSQL 15 or newer", is_there: has_postgresql, packages: &["postgresql"] };
pub(crate) const REDIS: Need =
    Need { what: "Redis", is_there: || has("redis-server"), packages: &["redis-server"] };
pub(crate) const JAVA: Need =
    Need { what: "Java 17 or newer", is_there: || java().is_some(), packages: &["default-jre-headless"] };
pub(crate) const PYTHON: Need =
    Need { what: "Python 3 with venv", is_there: has_python, packages: &["python3", "python3-venv"] };
/// Only what isn't in the cache yet is fetched.
pub(crate) const MAVEN: Need = Need {
    what: "Maven",
    is_there: || has("mvn") || Pin::named("keycloak").is_ok_and(|pin| pin.is_cached()),
    packages: &["maven"],
};

const NEEDS: [Need; 10] = [
    Need { what: "a C compiler", is_there: || has("cc"), packages: &["build-essential"] },
    POSTGRESQL,
    REDIS,
    Need { what: "OpenSSL", is_there: || has("openssl"), packages: &["openssl"] },
    // For compose/setup.sh, which is tried.
    Need { what: "jq", is_there: || has("jq"), packages: &["jq"] },
    JAVA,
    MAVEN,
    Need {
        what: "Chromium",
        is_there: || chromium().is_some(),
        packages: &["chromium", "fonts-dejavu-core", "fonts-liberation"],
    },
    Need {
        what: "Node.js 18 or newer, and npm",
        is_there: || has("npm") && node_version().is_some_and(|major| major >= 18),
        packages: &["nodejs", "npm"],
    },
    PYTHON,
];

/// The oldest Java that Keycloak runs on.
const MINIMUM_JAVA: u32 = 17;

fn has(program: &str) -> bool {
    shell::on_path(program).is_some()
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn has_python() -> bool {
    succeeds(Command::new("python3").args(["-c", "import ensurepip, venv"]))
}

/// As `local-postgres` looks for one: on the `PATH`, then where Debian installs it.
fn has_postgresql() -> bool {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    debian
        .map(|entry| entry.path().join("bin/postgres"))
        .chain(shell::on_path("postgres"))
        .filter_map(|server| Command::new(server).arg("--version").output().ok())
        .filter_map(|output| first_number(&String::from_utf8_lossy(&output.stdout)))
        .any(|major| major >= local_postgres::MINIMUM_MAJOR_VERSION)
}

fn node_version() -> Option<u32> {
    let output = Command::new("node").arg("--version").output().ok()?;
    first_number(&String::from_utf8_lossy(&output.stdout))
}

/// A Java that is new enough: the one of `JAVA_HOME`, the one on the `PATH`, or one of those where Debian installs them.
pub(crate) fn java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(PathBuf::from);
    let debian = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten().map(|entry| entry.path());
    home.into_iter()
        .map(|home| home.join("bin/java"))
        .chain(shell::on_path("java"))
        .chain(debian.map(|home| home.join("bin/java")))
        .find(|java| java_version(java).is_some_and(|major| major >= MINIMUM_JAVA))
}

fn java_version(java: &Path) -> Option<u32> {
    // `-version` prints to the standard error; `--version` is unknown to the oldest.
    let output = Command::new(java).arg("-version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    first_number(text.split_once('"')?.1)
}

/// The first number in `text`: a version's major part.
fn first_number(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches(|character: char| !character.is_ascii_digit());
    digits.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

/// Chromium, or a browser made of it.
pub(crate) fn chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]
        .into_iter()
        .find_map(shell::on_path)
}

/// Installs what is missing.
pub(crate) fn run() -> Result<()> {
    ensure(&NEEDS)?;
    eprintln!("setup: the machine has what the tests need");
    install_tools()
}

/// Installs what is missing of these.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.is_there)()).collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

fn install(missing: &[&Need]) -> Result<()> {
    let names = missing.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    if !has("apt-get") {
        bail!("missing: {names}; install them (this program knows only Debian's packages)");
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let root = nix::unistd::geteuid().is_root();
    let prefix = if root { "" } else { "sudo " };
    let line = format!(
        "{prefix}apt-get update && {prefix}apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    eprintln!("setup: missing: {names}\n  {line}");
    if !shell::unattended() && !confirmed()? {
        bail!("run that, and then this again");
    }
    let apt_get = |arguments: &[&str]| {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
        command
    };
    shell::run(&mut apt_get(&["update", "-qq"]))?;
    shell::run(apt_get(&["install", "-y", "-qq", "--no-install-recommends"]).args(&packages))?;
    let still: Vec<&str> = missing.iter().filter(|need| !(need.is_there)()).map(|need| need.what).collect();
    if !still.is_empty() {
        bail!("still missing after the installation: {}", still.join(", "));
    }
    Ok(())
}

fn confirmed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("Run it now? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Makes the Python environment in target/tools with the pinned tools, and beside it the packages of npm, unless they are there already.
fn install_tools() -> Result<()> {
    let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools.txt");
    let wanted =
        std::fs::read_to_string(&pins).with_context(|| format!("could not read {}", pins.display()))?;
    python_environment(&shell::tools(), &pins, &wanted)?;
    node_packages()
}

/// Where the packages of npm are that tests use outside the browser.
pub(crate) fn node_modules() -> PathBuf {
    shell::tools().join("node/node_modules")
}

/// Installs what node/package-lock.json pins, unless it is there.
fn node_packages() -> Result<()> {
    let pins = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    let directory = shell::tools().join("node");
    let lock = "package-lock.json";
    let wanted = std::fs::read(pins.join(lock)).with_context(|| format!("could not read {lock}"))?;
    if node_modules().is_dir()
        && std::fs::read(directory.join(lock)).is_ok_and(|installed| installed == wanted)
    {
        return Ok(());
    }
    std::fs::create_dir_all(&directory).with_context(|| format!("could not make {}", directory.display()))?;
    for name in ["package.json", lock] {
        std::fs::copy(pins.join(name), directory.join(name))
            .with_context(|| format!("could not copy {name}"))?;
    }
    let install = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
    shell::run(shell::command("npm").args(install).current_dir(&directory))
}

/// Makes a Python environment with what is pinned in the file `pins`, whose text is `wanted`, unless it is there already.
pub(crate) fn python_environment(environment: &Path, pins: &Path, wanted: &str) -> Result<()> {
    let stamp = environment.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    // Debian's Python refuses to install packages outside of an environment.
    shell::run(shell::command("python3").args(["-m", "venv", "--clear"]).arg(environment))?;
    let pip = environment.join("bin/pip");
    shell::run(
        shell::command(pip)
            .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(pins),
    )?;
    std::fs::write(&stamp, wanted).with_context(|| format!("could not write {}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_print_them() {
        assert_eq!(first_number("v20.20.2\n"), Some(20));
        assert_eq!(first_number("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), Some(15));
        assert_eq!(first_number("none"), None);
    }

    #[test]
    fn an_old_java_is_not_enough() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let java = directory.path().join("java");
        for (version, major) in [("1.8.0_402", 1), ("17.0.15", 17), ("21", 21)] {
            std::fs::write(
                &java,
                format!("#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n"),
            )
            .unwrap();
            std::fs::set_permissions(&java, PermissionsExt::from_mode(0o755)).unwrap();
            assert_eq!(java_version(&java), Some(major));
        }
    }

    #[test]
    fn every_tool_is_pinned() {
        let pins = include_str!("../tools.txt");
        let tools: Vec<&str> = pins.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(tools.len() >= 2 && tools.iter().all(|tool| tool.contains("==")), "{tools:?}");
    }
}
