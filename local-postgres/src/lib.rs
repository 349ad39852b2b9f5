//! A private PostgreSQL server: found on the machine or downloaded, started, taken over after a crash, stopped.
//!
//! The demo and the tests bring their own database this way. A server belongs to a *data directory*, which one process
//! at a time may use. It listens on 127.0.0.1 and on a Unix socket that only its own account can reach, and asks everyone
//! for a password.
//!
//! ```no_run
//! # async fn example() -> Result<(), local_postgres::Error> {
//! use local_postgres::{LocalPostgres, Options};
//!
//! let server = LocalPostgres::start(Options::new(".chancery")).await?;
//! println!("PostgreSQL {} on port {}", server.version().text, server.connection_options().port);
//! server.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! **Which server.** One of version 15 or newer on the `PATH`; else the newest of `/usr/lib/postgresql`; else PostgreSQL 17
//! is downloaded once (15 MB) and kept in the user's cache directory (for root: `/var/lib/chancery`). Data that exists needs the major version
//! that wrote it.
//!
//! **As whom.** PostgreSQL refuses to run as root. Started by root, its processes run as uid 65534, and where that account
//! can't reach the data directory (it lies in `/root`, say) the data is kept in `/var/lib/chancery/<hash of the data
//! directory's path>`.
//!
//! **After a crash.** A server whose process was killed lives on. The next start on the same data directory finds it by its
//! pid file, stops it, and starts anew. [`Lifetime`] chooses otherwise.

mod account;
mod binaries;
mod download;
mod error;
mod places;
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use binaries::{MINIMUM_MAJOR_VERSION, Version};
pub use error::Error;

use account::Account;
use places::{Lock, Places};
use server::{Running, Startup};

/// The name of the superuser and of the database that always exists.
pub const SUPERUSER: &str = "postgres";

/// Where the server's programs come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BinarySource {
    /// What the machine has, else a download.
    #[default]
    Find,
    /// The download, whatever the machine has.
    Download,
    /// This directory, which holds `postgres` and `initdb`.
    Directory(PathBuf),
}

/// What becomes of the server and its data when this process ends without [`LocalPostgres::stop`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// A killed process leaves the server running; the next start takes it over. The data stays.
    #[default]
    Persistent,
    /// The server stops when this process is gone, however it went. The data stays.
    WithParent,
    /// The server stops, and the data is removed, when this process is gone or stops it. For tests.
    Ephemeral,
}

/// A step of [`LocalPostgres::start`] that takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// PostgreSQL is being downloaded.
    Downloading {
        /// Bytes so far.
        received: u64,
        /// Bytes in all, if the server told.
        total: Option<u64>,
    },
    /// The download is being unpacked.
    Unpacking,
    /// The server that a killed process left behind is being stopped.
    StoppingOrphan,
    /// A new cluster is being made.
    Initialising,
    /// The server is starting.
    Starting,
}

/// Is told each [`Progress`], from the thread that starts the server.
pub type ProgressCallback = Arc<dyn Fn(Progress) + Send + Sync>;

/// How to start a server.
#[derive(Clone)]
pub struct Options {
    /// The directory that the server belongs to; made if it is missing. Other files in it are left alone.
    pub data_dir: PathBuf,
    /// Where the server's programs come from.
    pub binaries: BinarySource,
    /// Whether commits survive a crash of the machine. `false` is faster: for tests.
    pub fsync: bool,
    /// How many connections the server takes at the same time.
    pub max_connections: u32,
    /// The TCP port on 127.0.0.1; `None`: one that is free.
    pub port: Option<u16>,
    /// More settings of `postgresql.conf`, as name and value; they win over the others.
    pub extra_settings: Vec<(String, String)>,
    /// Is told what takes a while.
    pub progress: Option<ProgressCallback>,
    /// What happens when this process ends without stopping the server.
    pub lifetime: Lifetime,
}

impl Options {
    /// A durable server for a hundred connections on a free port.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            binaries: BinarySource::Find,
            fsync: true,
            max_connections: 100,
            port: None,
            extra_settings: Vec::new(),
            progress: None,
            lifetime: Lifetime::Persistent,
        }
    }

    /// A server for a test run: fast, for 300 connections, in a new directory under the system's temporary one, and gone
    /// without a trace when the process is.
    pub fn ephemeral() -> Result<Self, Error> {
        let name = format!("chancery-postgres-{}", random_hex(8)?);
        Ok(Self {
            fsync: false,
            max_connections: 300,
            lifetime: Lifetime::Ephemeral,
            ..Self::new(std::env::temp_dir().join(name))
        })
    }

    fn tell(&self, progress: Progress) {
        if let Some(callback) = &self.progress {
            callback(progress);
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { data_dir, binaries, fsync, max_connections, port, extra_settings, progress: _, lifetime } =
            self;
        formatter
            .debug_struct("Options")
            .field("data_dir", data_dir)
            .field("binaries", binaries)
            .field("fsync", fsync)
            .field("max_connections", max_connections)
            .field("port", port)
            .field("extra_settings", extra_settings)
            .field("lifetime", lifetime)
            .finish_non_exhaustive()
    }
}

/// How to reach the server as its superuser.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// The loopback address that the server listens on.
    pub host: &'static str,
    /// The TCP port; it is part of the Unix socket's name, too.
    pub port: u16,
    /// The Unix socket's directory, unless its path would be too long. Only root and the server's account can reach it.
    pub socket_directory: Option<PathBuf>,
    /// The superuser's name.
    pub username: &'static str,
    /// The superuser's password: hexadecimal digits.
    pub password: String,
    /// The server's process.
    pub pid: i32,
}

impl ConnectionOptions {
    /// The URL of `database` over TCP, with the password.
    pub fn url(&self, database: &str) -> String {
        let Self { host, port, username, password, .. } = self;
        format!("postgres://{username}:{password}@{host}:{port}/{}", percent_encoded(database))
    }

    /// The URL of `database` over the Unix socket where there is one (it is faster), else over TCP.
    pub fn socket_url(&self, database: &str) -> String {
        let url = self.url(database);
        match &self.socket_directory {
            Some(directory) => format!("{url}?host={}", percent_encoded(&directory.to_string_lossy())),
            None => url,
        }
    }
}

impl std::fmt::Debug for ConnectionOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ConnectionOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("socket_directory", &self.socket_directory)
            .field("username", &self.username)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// A running server. Dropped, it is told to stop and not waited for; [`LocalPostgres::stop`] waits.
#[derive(Debug)]
pub struct LocalPostgres {
    // Dropped before the lock: nobody else may start while the server has not been told to stop.
    running: Running,
    connection: ConnectionOptions,
    version: Version,
    places: Places,
    data_dir: PathBuf,
    lifetime: Lifetime,
    _lock: Lock,
}

impl LocalPostgres {
    /// Starts a server on `options.data_dir`, which is made on the first start.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let account = Account::current();
        let data_dir = prepare(&options.data_dir, options.lifetime)?;
        let lock = Lock::take(&data_dir)?;
        let places = Places::choose(&data_dir, account)?;
        let started = Self::start_in(&options, account, &data_dir, &places).await;
        let (running, connection, version) = match started {
            Ok(started) => started,
            Err(error) => {
                if options.lifetime == Lifetime::Ephemeral {
                    // What failed first is the news.
                    let _ = remove_all(places, &data_dir).await;
                }
                return Err(error);
            }
        };
        tracing::info!(version = version.text, port = connection.port, "PostgreSQL is ready");
        Ok(Self { running, connection, version, places, data_dir, lifetime: options.lifetime, _lock: lock })
    }

    /// Starts the server in places that this process has locked.
    async fn start_in(
        options: &Options,
        account: Account,
        data_dir: &Path,
        places: &Places,
    ) -> Result<(Running, ConnectionOptions, Version), Error> {
        server::stop_orphan(&places.cluster(), || options.tell(Progress::StoppingOrphan)).await?;

        let cluster = places.cluster_version()?.map(|major| (major, places.cluster()));
        let is_new = cluster.is_none();
        let binaries =
            binaries::obtain(&options.binaries, cluster, account, &places.home, options.progress.as_ref())
                .await?;
        places.create(account)?;
        let password = if is_new {
            options.tell(Progress::Initialising);
            let password = random_hex(24)?;
            server::initialise(&binaries, places, account, &password, options.fsync).await?;
            password
        } else {
            read_password(&places.password())?
        };

        options.tell(Progress::Starting);
        let startup = Startup {
            binaries: &binaries,
            places,
            account,
            fsync: options.fsync,
            max_connections: options.max_connections,
            port: options.port,
            extra_settings: &options.extra_settings,
            lifetime: options.lifetime,
            data_dir,
        };
        let (running, port) = startup.run().await?;
        let connection = ConnectionOptions {
            host: "127.0.0.1",
            port,
            socket_directory: places.socket(),
            username: SUPERUSER,
            password,
            pid: running.pid(),
        };
        Ok((running, connection, binaries.version))
    }

    /// How to connect as the superuser.
    pub fn connection_options(&self) -> &ConnectionOptions {
        &self.connection
    }

    /// The URL of the database `postgres` for the superuser, over TCP.
    pub fn superuser_url(&self) -> String {
        self.connection.url(SUPERUSER)
    }

    /// The server's version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The server's log, for messages.
    pub fn log_path(&self) -> PathBuf {
        self.places.log()
    }

    /// PostgreSQL's own data directory.
    pub fn cluster_directory(&self) -> PathBuf {
        self.places.cluster()
    }

    /// Whether the server still runs.
    pub fn is_alive(&mut self) -> bool {
        self.running.is_alive()
    }

    /// Stops the server: sessions end, everything is written out. After 20 s it is made to stop at once, which loses
    /// nothing that was committed. With [`Lifetime::Ephemeral`] the data is removed.
    pub async fn stop(self) -> Result<(), Error> {
        let Self { running, places, data_dir, lifetime, _lock: lock, .. } = self;
        let ephemeral = lifetime == Lifetime::Ephemeral;
        running.stop(ephemeral).await?;
        if ephemeral {
            remove_all(places, &data_dir).await?;
        }
        drop(lock);
        Ok(())
    }

    /// Lets a server of [`Lifetime::Persistent`] run on when this process ends; one of another lifetime stops. Whoever
    /// starts a server on its data directory stops this one first.
    pub fn detach(self) -> ConnectionOptions {
        self.running.detach();
        self.connection
    }

    /// How to reach the server of `data_dir` that another process has left running and nobody uses as its own, if there
    /// is one that is ready.
    pub fn left_running(data_dir: &Path) -> Result<Option<ConnectionOptions>, Error> {
        let Ok(data_dir) = data_dir.canonicalize() else { return Ok(None) };
        for places in Places::all(&data_dir) {
            if let Some((pid, port)) = server::find(&places.cluster()) {
                return Ok(Some(ConnectionOptions {
                    host: "127.0.0.1",
                    port,
                    socket_directory: places.socket(),
                    username: SUPERUSER,
                    password: read_password(&places.password())?,
                    pid,
                }));
            }
        }
        Ok(None)
    }

    /// Stops the server of `data_dir` that another process has left running. Gives whether there was one. Its data stays.
    pub async fn stop_left_running(data_dir: &Path) -> Result<bool, Error> {
        let Ok(data_dir) = data_dir.canonicalize() else { return Ok(false) };
        let lock = Lock::take(&data_dir)?;
        let mut stopped = false;
        for places in Places::all(&data_dir) {
            server::stop_orphan(&places.cluster(), || stopped = true).await?;
        }
        drop(lock);
        Ok(stopped)
    }

    /// Removes the server's data of `data_dir`, which nobody may be using: a server that was left behind is stopped.
    /// Other files in `data_dir` stay. It is no error if there is nothing to remove.
    pub async fn reset(data_dir: &Path) -> Result<(), Error> {
        let data_dir = match data_dir.canonicalize() {
            Ok(data_dir) => data_dir,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file("open", data_dir)(error)),
        };
        let lock = Lock::take(&data_dir)?;
        for places in Places::all(&data_dir) {
            server::stop_orphan(&places.cluster(), || {}).await?;
            blocking(move || places::remove(&places.home)).await?;
        }
        let path = Lock::path(&data_dir);
        std::fs::remove_file(&path).map_err(Error::file("remove", path))?;
        drop(lock);
        Ok(())
    }
}

/// The environment variable that names the superuser's URL of a server for the tests: `cargo xtask test` starts one for
/// all of them.
pub const TEST_SERVER_VARIABLE: &str = "CHANCERY_TEST_DATABASE_URL";

/// For tests: the superuser's URL of a server to make databases on. It is the one that [`TEST_SERVER_VARIABLE`] names; else
/// this process starts an ephemeral one on the first call and keeps it until it ends.
pub async fn test_server_url() -> Result<String, Error> {
    static SERVER: tokio::sync::OnceCell<LocalPostgres> = tokio::sync::OnceCell::const_new();
    match std::env::var(TEST_SERVER_VARIABLE) {
        Ok(url) if !url.is_empty() => Ok(url),
        _ => {
            let server = SERVER
                .get_or_try_init(|| async { LocalPostgres::start(Options::ephemeral()?).await })
                .await?;
            Ok(server.superuser_url())
        }
    }
}

/// Removes an ephemeral server's data, and the data directory unless somebody else put something into it.
async fn remove_all(places: Places, data_dir: &Path) -> Result<(), Error> {
    blocking(move || places::remove(&places.home)).await?;
    let _ = std::fs::remove_file(Lock::path(data_dir));
    let _ = std::fs::remove_dir(data_dir);
    Ok(())
}

/// Makes the data directory if it is missing, and gives its real path.
fn prepare(data_dir: &Path, lifetime: Lifetime) -> Result<PathBuf, Error> {
    if lifetime == Lifetime::Ephemeral {
        places::create_searchable(data_dir)?;
    } else {
        std::fs::create_dir_all(data_dir).map_err(Error::file("create", data_dir))?;
    }
    data_dir.canonicalize().map_err(Error::file("open", data_dir))
}

fn read_password(path: &Path) -> Result<String, Error> {
    match std::fs::read_to_string(path) {
        Ok(password) => Ok(password.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::PasswordMissing { path: path.to_path_buf() })
        }
        Err(error) => Err(Error::file("read", path)(error)),
    }
}

/// `bytes` random bytes from the operating system as hexadecimal digits.
fn random_hex(bytes: usize) -> Result<String, Error> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer).map_err(Error::Random)?;
    Ok(hex::encode(buffer))
}

/// RFC 3986: everything but the unreserved characters becomes `%XX`.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only at the runtime's own end, when nothing is polled any more.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> ConnectionOptions {
        ConnectionOptions {
            host: "127.0.0.1",
            port: 6543,
            socket_directory: Some("/srv/a b/socket".into()),
            username: SUPERUSER,
            password: "c0ffee".into(),
            pid: 4711,
        }
    }

    #[test]
    fn urls_name_the_database_and_the_socket() {
        assert_eq!(connection().url("chancery"), "postgres://postgres:c0ffee@127.0.0.1:6543/chancery");
        assert_eq!(
            connection().socket_url("a/b"),
            "postgres://postgres:c0ffee@127.0.0.1:6543/a%2Fb?host=%2Fsrv%2Fa%20b%2Fsocket"
        );
    }

    #[test]
    fn the_password_is_not_printed_for_debugging() {
        assert!(!format!("{:?}", connection()).contains("c0ffee"));
    }
}
