//! What can go wrong, in words for the person who typed the command.

use std::path::{Path, PathBuf};

/// Why the private PostgreSQL server could not be started, stopped or removed. Nothing that was stored is lost by any
/// of these.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another live process holds the data directory.
    #[error(
        "the data directory {} is in use by another process{}; stop that one first, or choose another directory",
        data_dir.display(),
        holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// The process that holds it, where it could be told.
        holder: Option<u32>,
    },
    /// The port that was asked for belongs to another process.
    #[error("port {port} on 127.0.0.1 is taken by another program; stop it, or choose another port")]
    PortTaken {
        /// The TCP port.
        port: u16,
    },
    /// The file system has no room left.
    #[error("the disk that holds {} is full; free some space and start again: nothing was lost", directory.display())]
    DiskFull {
        /// The directory that PostgreSQL was writing to.
        directory: PathBuf,
    },
    /// There is no usable server on this machine, and none to download for it.
    #[error(
        "no PostgreSQL server of version {minimum} or newer was found{}, and there is none to download for {platform}; \
         install one (on Debian: apt-get install postgresql)",
        too_old.as_ref().map(|version| format!(" (only {version}, which is too old)")).unwrap_or_default()
    )]
    NoServer {
        /// The oldest major version that will do.
        minimum: u32,
        /// Operating system and processor architecture.
        platform: String,
        /// The newest of the servers that were found but are too old.
        too_old: Option<String>,
    },
    /// The directory that was named holds no usable server.
    #[error("{} holds no PostgreSQL server of version {minimum} or newer", directory.display())]
    NotAServer {
        /// The directory that should hold `postgres` and `initdb`.
        directory: PathBuf,
        /// The oldest major version that will do.
        minimum: u32,
    },
    /// The data was written by another major version than the servers at hand.
    #[error(
        "the data in {} was written by PostgreSQL {cluster}, but this machine has only PostgreSQL {available}; install \
         PostgreSQL {cluster} again, or remove the data",
        directory.display()
    )]
    VersionMismatch {
        /// The database cluster's directory.
        directory: PathBuf,
        /// The major version that wrote it.
        cluster: u32,
        /// The major versions that were found, separated by commas.
        available: String,
    },
    /// The server could not be downloaded.
    #[error("PostgreSQL could not be downloaded; install it instead (on Debian: apt-get install postgresql)")]
    Download(#[source] reqwest::Error),
    /// What was downloaded is not what was expected.
    #[error(
        "the PostgreSQL that was downloaded is damaged or not the expected one (its SHA-256 differs); it was discarded"
    )]
    Checksum,
    /// The archive could not be unpacked.
    #[error("the downloaded PostgreSQL could not be unpacked to {}", directory.display())]
    Unpack {
        /// Where to.
        directory: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// `initdb` failed.
    #[error("PostgreSQL could not create its data directory:\n{log}")]
    Initialise {
        /// The last lines that `initdb` printed.
        log: String,
    },
    /// The server ended while it started.
    #[error("PostgreSQL did not start:\n{log}")]
    Start {
        /// The last lines of the server's log.
        log: String,
    },
    /// The server did not become ready in time.
    #[error("PostgreSQL did not become ready within {seconds} s:\n{log}")]
    StartTimedOut {
        /// How long it was waited for, in seconds.
        seconds: u64,
        /// The last lines of the server's log.
        log: String,
    },
    /// The server ignored the requests to stop.
    #[error("the PostgreSQL server with pid {pid} did not stop in time")]
    StopTimedOut {
        /// Its process id.
        pid: i32,
    },
    /// The superuser's password of an existing cluster is gone.
    #[error(
        "{} is missing, and without it the existing data can't be reached; put it back, or remove the data",
        path.display()
    )]
    PasswordMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The unprivileged account that runs the server can't reach existing data.
    #[error(
        "{} can't be reached by the unprivileged account (uid {uid}) that runs PostgreSQL when Chancery is started by \
         root; make its parent directories searchable (chmod o+x)",
        directory.display()
    )]
    Unreachable {
        /// The directory of the existing cluster.
        directory: PathBuf,
        /// The account's user id.
        uid: u32,
    },
    /// A program could not be run.
    #[error("{} could not be run", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file or directory could not be used.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The operating system gave no random bytes for the password.
    #[error("the operating system gave no random bytes")]
    Random(#[source] getrandom::Error),
}

impl Error {
    /// For `map_err`: the file error, or the full disk behind it.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { directory: path.parent().map_or_else(|| path.clone(), PathBuf::from) }
            }
            _ => Self::File { action, path, source },
        }
    }
}

/// The last `count` lines of `text`.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Whether a full disk made PostgreSQL fail: its output says so (ENOSPC or a quota; the messages are asked for in English),
/// or there is no room left in `directory`, not even for saying so.
pub(crate) fn is_full_disk(log: &str, directory: &Path) -> bool {
    log.contains("No space left on device") || log.contains("Disk quota exceeded") || has_no_room(directory)
}

fn has_no_room(directory: &Path) -> bool {
    nix::sys::statvfs::statvfs(directory).is_ok_and(|disk| disk.blocks_available() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_as_such() {
        let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Error::file("write", "/srv/data/file")(source);
        assert!(matches!(error, Error::DiskFull { ref directory } if directory == Path::new("/srv/data")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_without_a_free_block_is_full_whatever_the_log_says() {
        // The kernel's own file systems have no blocks at all.
        assert!(is_full_disk("", Path::new("/proc")));
        assert!(!is_full_disk("", &std::env::temp_dir()));
        assert!(is_full_disk("could not write: No space left on device", &std::env::temp_dir()));
    }

    #[test]
    fn only_the_last_lines_are_passed_on() {
        assert_eq!(last_lines("one\n\ntwo\nthree  \n", 2), "two\nthree");
        assert_eq!(last_lines("", 2), "");
    }

    #[test]
    fn a_version_mismatch_names_both_versions() {
        let error = Error::VersionMismatch {
            directory: "/srv/cluster".into(),
            cluster: 16,
            available: "15, 17".into(),
        };
        let message = error.to_string();
        assert!(
            message.contains("written by PostgreSQL 16") && message.contains("only PostgreSQL 15, 17"),
            "{message}"
        );
    }
}
