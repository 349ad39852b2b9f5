//! What is fetched, in which version, and how it is known to be the right file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::shell;
use crate::stack::process;

const PINS: &str = include_str!("../../servers.txt");

/// A file that Maven fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    group: String,
    artifact: String,
    pub(crate) version: String,
    packaging: String,
    /// Lower-case hexadecimal.
    sha256: String,
}

impl Pin {
    /// The pin with this name in `servers.txt`.
    pub(crate) fn named(name: &str) -> Result<Self> {
        Self::find(PINS, name).with_context(|| format!("tests/xtask/servers.txt doesn't pin {name}"))
    }

    fn find(pins: &str, name: &str) -> Option<Self> {
        let line = pins.lines().find(|line| line.split_whitespace().next() == Some(name))?;
        let mut words = line.split_whitespace().skip(1);
        let mut coordinates = words.next()?.split(':').map(str::to_owned);
        Some(Self {
            group: coordinates.next()?,
            artifact: coordinates.next()?,
            version: coordinates.next()?,
            packaging: coordinates.next()?,
            sha256: words.next()?.to_owned(),
        })
    }

    fn file_name(&self) -> String {
        format!("{}-{}.{}", self.artifact, self.version, self.packaging)
    }

    /// The pin in one line: what is made from the file is made anew where this changes.
    pub(crate) fn identity(&self) -> String {
        format!("{}:{}:{} {}", self.group, self.artifact, self.version, self.sha256)
    }

    /// Whether the file is in the cache; its content is looked at by [`Pin::fetch`].
    pub(crate) fn is_cached(&self) -> bool {
        cache().join(self.file_name()).is_file()
    }

    /// The file: from the cache, else by Maven, checked either way.
    pub(crate) fn fetch(&self) -> Result<PathBuf> {
        let directory = cache();
        let path = directory.join(self.file_name());
        if path.is_file() {
            match self.check(&path) {
                Ok(()) => return Ok(path),
                // A download that was cut off, or an old pin's: fetched again below.
                Err(error) => eprintln!("stack: {error:#}"),
            }
            std::fs::remove_file(&path).with_context(|| format!("could not remove {}", path.display()))?;
        }
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("could not make {}", directory.display()))?;
        let coordinates = format!("{}:{}:{}:{}", self.group, self.artifact, self.version, self.packaging);
        let mut command = shell::command("mvn");
        command.args(["--quiet", "--batch-mode", "dependency:copy"]);
        command.arg(format!("-Dartifact={coordinates}"));
        command.arg(format!("-DoutputDirectory={}", directory.display()));
        process::run_visibly(&mut command, &format!("fetching {}", self.file_name())).with_context(|| {
            format!(
                "{coordinates} could not be fetched; a mirror or a proxy belongs into Maven's settings.xml, and a copy of \
                 the file into {}",
                directory.display()
            )
        })?;
        if !path.is_file() {
            bail!("Maven has fetched {coordinates}, but not to {}", path.display());
        }
        self.check(&path)?;
        Ok(path)
    }

    fn check(&self, path: &Path) -> Result<()> {
        let found = sha256(path).with_context(|| format!("could not read {}", path.display()))?;
        if found != self.sha256 {
            bail!("{} is not the file that is pinned: its SHA-256 is {found}", path.display());
        }
        Ok(())
    }
}

/// Where files are kept that `cargo clean` shall not remove.
fn cache() -> PathBuf {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map_or_else(|| super::directory().join("cache"), |cache| cache.join("chancery"))
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keycloak_is_pinned_with_its_checksum() {
        let pin = Pin::named("keycloak").unwrap();
        assert_eq!(pin.file_name(), format!("keycloak-quarkus-dist-{}.tar.gz", pin.version));
        assert_eq!(pin.sha256.len(), 64);
        assert!(pin.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        assert_eq!(Pin::find(PINS, "nothing"), None);
    }

    #[test]
    fn a_file_that_is_not_the_pinned_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "abc").unwrap();
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let pin = Pin::find(&format!("x g:a:1:zip {sha256}\n"), "x").unwrap();
        pin.check(&path).unwrap();
        std::fs::write(&path, "abd").unwrap();
        assert!(pin.check(&path).unwrap_err().to_string().contains("not the file that is pinned"));
    }
}
