//! Who runs the server: PostgreSQL refuses to run as root.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::Error;

/// The user and group id that PostgreSQL's processes take when root starts them: `nobody` on every Linux.
const UNPRIVILEGED: u32 = 65534;

/// The account of the server's processes and the owner of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// Whoever runs this process.
    Caller,
    /// The user and group with this id, since root runs this process.
    Unprivileged(u32),
}

impl Account {
    /// The account for a server that this process starts.
    pub(crate) fn current() -> Self {
        if nix::unistd::geteuid().is_root() { Self::Unprivileged(UNPRIVILEGED) } else { Self::Caller }
    }

    /// A command that runs `program` as this account, in `directory`, with messages in English (they are searched) and
    /// without the caller's settings for PostgreSQL.
    pub(crate) fn command(self, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(directory).env("LC_ALL", "C").stdin(std::process::Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(name);
            }
        }
        if let Self::Unprivileged(id) = self {
            command.uid(id).gid(id);
        }
        command
    }

    /// Gives `path` to this account.
    pub(crate) fn own(self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Caller => Ok(()),
            Self::Unprivileged(id) => {
                chown(path, Some(id), Some(id)).map_err(Error::file("change the owner of", path))
            }
        }
    }

    /// Whether this account can reach what lies in `directory`: it may search the directory and each of its ancestors.
    /// A directory that doesn't exist yet is going to be made searchable.
    pub(crate) fn can_search(self, directory: &Path) -> bool {
        let Self::Unprivileged(id) = self else { return true };
        directory.ancestors().all(|ancestor| {
            let Ok(metadata) = ancestor.metadata() else { return !ancestor.exists() };
            let searchable = if metadata.uid() == id {
                0o100
            } else if metadata.gid() == id {
                0o010
            } else {
                0o001
            };
            metadata.is_dir() && metadata.permissions().mode() & searchable != 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_directory_of_someone_else_is_out_of_reach() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).unwrap();
        assert!(!Account::Unprivileged(UNPRIVILEGED).can_search(&inner));
        assert!(Account::Caller.can_search(&inner));
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o711)).unwrap();
        assert!(Account::Unprivileged(UNPRIVILEGED).can_search(&inner));
        assert!(Account::Unprivileged(UNPRIVILEGED).can_search(&inner.join("not-there-yet")));
    }
}
