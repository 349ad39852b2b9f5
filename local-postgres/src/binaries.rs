//! Finds a server on this machine, or brings one.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::account::Account;
use crate::error::Error;
use crate::{BinarySource, ProgressCallback, download};

/// The oldest major version of PostgreSQL that Chancery runs on.
pub const MINIMUM_MAJOR_VERSION: u32 = 15;

/// Where Debian and its kin install servers, a directory for each major version.
const DEBIAN_DIRECTORY: &str = "/usr/lib/postgresql";

/// The version of a server's binaries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// For example 17.
    pub major: u32,
    /// In full, as the server says it: `17.6`.
    pub text: String,
}

impl Version {
    /// Reads what `postgres --version` prints: `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
    fn parse(output: &str) -> Option<Self> {
        let text = output.split("(PostgreSQL)").nth(1)?.split_whitespace().next()?;
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { major: digits.parse().ok()?, text: text.to_owned() })
    }
}

/// A server's programs.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    directory: PathBuf,
    pub(crate) version: Version,
}

impl Binaries {
    /// The server.
    pub(crate) fn postgres(&self) -> PathBuf {
        self.directory.join("postgres")
    }

    /// The program that makes a cluster.
    pub(crate) fn initdb(&self) -> PathBuf {
        self.directory.join("initdb")
    }

    /// Looks at `directory`: a server that `account` can run, of whatever version, or nothing.
    pub(crate) fn inspect(directory: &Path, account: Account) -> Option<Self> {
        // Debian's `postgres` on the PATH may be a link; its siblings are where it really lies.
        let server = directory.join("postgres").canonicalize().ok()?;
        let directory = server.parent()?.to_path_buf();
        if !directory.join("initdb").exists() || !account.can_search(&directory) {
            return None;
        }
        let output =
            account.command(&server, Path::new("/")).arg("--version").stderr(Stdio::null()).output().ok()?;
        let version = Version::parse(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { directory, version })
    }
}

/// The servers that are installed on this machine: those on the `PATH`, then Debian's, newest first.
fn installed(account: Account) -> Vec<Binaries> {
    let on_path: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let mut found: Vec<Binaries> = Vec::new();
    let mut debian: Vec<Binaries> = std::fs::read_dir(DEBIAN_DIRECTORY)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Binaries::inspect(&entry.path().join("bin"), account))
        .collect();
    debian.sort_by_key(|binaries| std::cmp::Reverse(binaries.version.major));
    for binaries in on_path.iter().filter_map(|directory| Binaries::inspect(directory, account)).chain(debian)
    {
        if !found.iter().any(|known| known.directory == binaries.directory) {
            found.push(binaries);
        }
    }
    found
}

/// What to do about a server.
#[derive(Debug)]
enum Choice {
    Use(Binaries),
    Download,
}

/// Chooses among what is installed for a cluster of major version `cluster` (`None`: it is to be made). A cluster needs
/// exactly its own major version; a new one takes the first that is new enough.
fn choose(installed: Vec<Binaries>, cluster: Option<(u32, PathBuf)>) -> Result<Choice, Error> {
    let downloadable = download::artifact().is_some();
    let versions =
        || installed.iter().map(|binaries| binaries.version.major.to_string()).collect::<Vec<_>>().join(", ");
    if let Some((major, directory)) = cluster {
        if let Some(binaries) = installed.iter().find(|binaries| binaries.version.major == major) {
            return Ok(Choice::Use(binaries.clone()));
        }
        if major == download::MAJOR_VERSION && downloadable {
            return Ok(Choice::Download);
        }
        let available = if installed.is_empty() { download::MAJOR_VERSION.to_string() } else { versions() };
        return Err(Error::VersionMismatch { directory, cluster: major, available });
    }
    if let Some(binaries) = installed.iter().find(|binaries| binaries.version.major >= MINIMUM_MAJOR_VERSION)
    {
        return Ok(Choice::Use(binaries.clone()));
    }
    if downloadable {
        return Ok(Choice::Download);
    }
    let newest = installed.into_iter().max_by_key(|binaries| binaries.version.major);
    Err(Error::NoServer {
        minimum: MINIMUM_MAJOR_VERSION,
        platform: download::platform(),
        too_old: newest.map(|binaries| binaries.version.text),
    })
}

/// The server for a cluster of major version `cluster` in the directory beside it.
pub(crate) async fn obtain(
    source: &BinarySource,
    cluster: Option<(u32, PathBuf)>,
    account: Account,
    home: &Path,
    progress: Option<&ProgressCallback>,
) -> Result<Binaries, Error> {
    let choice = match source {
        BinarySource::Find => choose(installed(account), cluster)?,
        BinarySource::Directory(directory) => {
            let binaries = Binaries::inspect(directory, account)
                .filter(|binaries| binaries.version.major >= MINIMUM_MAJOR_VERSION)
                .ok_or_else(|| Error::NotAServer {
                    directory: directory.clone(),
                    minimum: MINIMUM_MAJOR_VERSION,
                })?;
            choose(vec![binaries], cluster)?
        }
        BinarySource::Download => match cluster {
            Some((major, directory)) if major != download::MAJOR_VERSION => {
                let available = download::MAJOR_VERSION.to_string();
                return Err(Error::VersionMismatch { directory, cluster: major, available });
            }
            _ => Choice::Download,
        },
    };
    match choice {
        Choice::Use(binaries) => Ok(binaries),
        Choice::Download => download::obtain(account, home, progress).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(major: u32) -> Binaries {
        let version = Version { major, text: format!("{major}.1") };
        Binaries { directory: format!("/servers/{major}").into(), version }
    }

    #[test]
    fn versions_are_read_as_servers_print_them() {
        let debian = Version::parse("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n").unwrap();
        assert_eq!((debian.major, debian.text.as_str()), (15, "15.14"));
        assert_eq!(Version::parse("postgres (PostgreSQL) 18beta1\n").unwrap().major, 18);
        assert_eq!(Version::parse("something else"), None);
    }

    #[test]
    fn a_new_cluster_takes_the_first_server_that_is_new_enough() {
        let choice = choose(vec![server(13), server(16), server(15)], None).unwrap();
        assert!(matches!(choice, Choice::Use(binaries) if binaries.version.major == 16));
    }

    #[test]
    fn a_cluster_gets_the_server_of_its_own_major_version() {
        let choice = choose(vec![server(17), server(15)], Some((15, "/data".into()))).unwrap();
        assert!(matches!(choice, Choice::Use(binaries) if binaries.version.major == 15));
    }

    #[test]
    fn a_cluster_without_its_server_is_refused_naming_both_versions() {
        let error = choose(vec![server(18), server(15)], Some((16, "/data".into()))).unwrap_err();
        assert!(
            matches!(error, Error::VersionMismatch { cluster: 16, ref available, .. } if available == "18, 15"),
            "{error}"
        );
    }

    #[test]
    fn without_a_new_enough_server_one_is_downloaded_where_there_is_one() {
        match choose(vec![server(14)], None) {
            Ok(choice) => assert!(matches!(choice, Choice::Download)),
            Err(error) => assert!(matches!(error, Error::NoServer { .. }), "{error}"),
        }
    }
}
