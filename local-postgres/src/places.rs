//! Where everything lies, and the lock that keeps a second process out.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::account::Account;
use crate::error::Error;

/// Where root's servers keep their data if the data directory is out of the unprivileged account's reach.
const SYSTEM_DIRECTORY: &str = "/var/lib/chancery";

/// The longest path of a Unix socket, less the name of PostgreSQL's (`/.s.PGSQL.65535`) and the closing NUL.
const LONGEST_SOCKET_DIRECTORY: usize = 104 - 16 - 1;

/// The places of one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// Holds all that follows; may be searched by everyone.
    pub(crate) home: PathBuf,
}

impl Places {
    /// Chooses the home: inside `data_dir` (which is canonical), or, where the server's account can't go there, in the
    /// system's directory under a name made of `data_dir`. Data that exists wins.
    pub(crate) fn choose(data_dir: &Path, account: Account) -> Result<Self, Error> {
        let near = Self { home: data_dir.join("postgres") };
        if account == Account::Caller {
            return Ok(near);
        }
        let far = Self::far(data_dir);
        if near.has_cluster() {
            if let Account::Unprivileged(uid) = account
                && !account.can_search(&near.home)
            {
                return Err(Error::Unreachable { directory: near.cluster(), uid });
            }
            return Ok(near);
        }
        if far.has_cluster() || !account.can_search(data_dir) { Ok(far) } else { Ok(near) }
    }

    /// Both homes that `data_dir` may have.
    pub(crate) fn all(data_dir: &Path) -> [Self; 2] {
        [Self { home: data_dir.join("postgres") }, Self::far(data_dir)]
    }

    fn far(data_dir: &Path) -> Self {
        let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        Self { home: Path::new(SYSTEM_DIRECTORY).join(hex::encode(&digest[..8])) }
    }

    /// PostgreSQL's data directory.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.home.join("cluster")
    }

    /// Where `initdb` works; it becomes the cluster only when it is whole.
    pub(crate) fn unfinished_cluster(&self) -> PathBuf {
        self.home.join("cluster.unfinished")
    }

    /// The server's log of this run; the one of the run before has `.1` appended.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.join("postgres.log")
    }

    /// The superuser's password.
    pub(crate) fn password(&self) -> PathBuf {
        self.home.join("superuser-password")
    }

    /// The Unix socket's directory, unless its path is too long for a socket.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        let socket = self.home.join("socket");
        (socket.as_os_str().len() <= LONGEST_SOCKET_DIRECTORY).then_some(socket)
    }

    /// Whether `initdb` has finished here.
    pub(crate) fn has_cluster(&self) -> bool {
        self.cluster().join("PG_VERSION").exists()
    }

    /// The major version that wrote the cluster.
    pub(crate) fn cluster_version(&self) -> Result<Option<u32>, Error> {
        let path = self.cluster().join("PG_VERSION");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().split('.').next().and_then(|major| major.parse().ok())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", path)(error)),
        }
    }

    /// Makes the home, searchable by everyone; the rest of it belongs to the server's account and is private.
    pub(crate) fn create(&self, account: Account) -> Result<(), Error> {
        create_searchable(&self.home)?;
        if let Some(socket) = self.socket() {
            create_private(&socket, account)?;
        }
        Ok(())
    }
}

/// Makes `directory` and its missing ancestors, which everyone may search.
pub(crate) fn create_searchable(directory: &Path) -> Result<(), Error> {
    let missing: Vec<&Path> = directory.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
    std::fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
    for ancestor in missing {
        // Whatever the caller's umask is.
        std::fs::set_permissions(ancestor, Permissions::from_mode(0o755))
            .map_err(Error::file("set the permissions of", ancestor))?;
    }
    Ok(())
}

/// Makes `directory` for `account` alone.
pub(crate) fn create_private(directory: &Path, account: Account) -> Result<(), Error> {
    std::fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
    std::fs::set_permissions(directory, Permissions::from_mode(0o700))
        .map_err(Error::file("set the permissions of", directory))?;
    account.own(directory)
}

/// Writes `contents` to a new file that only `account` (and root) may read.
pub(crate) fn write_private(path: &Path, contents: &str, account: Account) -> Result<(), Error> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::file("create", path))?;
    file.write_all(contents.as_bytes()).map_err(Error::file("write", path))?;
    account.own(path)
}

/// Removes `directory` with all that is in it, if it exists.
pub(crate) fn remove(directory: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", directory)(error))
        }
        _ => Ok(()),
    }
}

/// Holds a data directory for this process; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] File);

impl Lock {
    /// The lock's file in `data_dir`.
    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("postgres.lock")
    }

    /// Takes `data_dir`, or says who has it.
    pub(crate) fn take(data_dir: &Path) -> Result<Self, Error> {
        let path = Self::path(data_dir);
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(&path)
                .map_err(Error::file("open", &path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    // Only for the message: without it the refusal is the same.
                    let _ = file.read_to_string(&mut holder);
                    return Err(Error::InUse {
                        data_dir: data_dir.to_path_buf(),
                        holder: holder.trim().parse().ok(),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(Error::file("lock", path)(error)),
            }
            // Whoever had it before may have removed the file as they left: a lock on that one keeps nobody out.
            if !is_still_at(&file, &path) {
                continue;
            }
            let rewrite = |file: &mut File| {
                file.set_len(0)?;
                file.rewind()?;
                writeln!(file, "{}", std::process::id())
            };
            rewrite(&mut file).map_err(Error::file("write", path))?;
            return Ok(Self(file));
        }
    }
}

fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_data_directory_is_refused_with_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::take(directory.path()).unwrap();
        let error = Lock::take(directory.path()).unwrap_err();
        assert!(matches!(error, Error::InUse { holder, .. } if holder == Some(std::process::id())));
        drop(lock);
        Lock::take(directory.path()).unwrap();
    }

    #[test]
    fn data_out_of_reach_moves_to_the_systems_directory() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let stranger = Account::Unprivileged(65534);
        let home = Places::choose(directory.path(), stranger).unwrap().home;
        assert_eq!(home.parent(), Some(Path::new(SYSTEM_DIRECTORY)));
        assert_eq!(Places::choose(directory.path(), stranger).unwrap().home, home, "always the same place");
        let own = Places::choose(directory.path(), Account::Caller).unwrap().home;
        assert!(own.starts_with(directory.path()));
    }

    #[test]
    fn data_that_became_unreachable_is_an_error_and_no_new_database() {
        let directory = tempfile::tempdir().unwrap();
        let cluster = directory.path().join("postgres/cluster");
        std::fs::create_dir_all(&cluster).unwrap();
        std::fs::write(cluster.join("PG_VERSION"), "15\n").unwrap();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let error = Places::choose(directory.path(), Account::Unprivileged(65534)).unwrap_err();
        assert!(matches!(error, Error::Unreachable { uid: 65534, .. }));
    }

    #[test]
    fn a_socket_needs_a_short_path() {
        let short = Places { home: "/srv/chancery/postgres".into() };
        assert_eq!(short.socket(), Some(PathBuf::from("/srv/chancery/postgres/socket")));
        let long = Places { home: Path::new("/srv").join("x".repeat(90)) };
        assert_eq!(long.socket(), None);
    }
}
