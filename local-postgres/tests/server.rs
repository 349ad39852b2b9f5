//! A real server, through its whole life.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use local_postgres::{BinarySource, Error, Lifetime, LocalPostgres, Options, Progress, ProgressCallback};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tempfile::TempDir;

/// A data directory that any account may search.
fn data_dir() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    directory
}

fn options(directory: &Path) -> Options {
    Options { fsync: false, lifetime: Lifetime::WithParent, ..Options::new(directory) }
}

async fn query<T>(url: &str, sql: &'static str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let mut connection = PgConnection::connect(url).await.unwrap();
    let value = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    value
}

async fn execute(url: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn postmaster_pid(cluster: &Path) -> i32 {
    std::fs::read_to_string(cluster.join("postmaster.pid")).unwrap().lines().next().unwrap().parse().unwrap()
}

fn is_alive(pid: i32) -> bool {
    // A process that has ended and was not waited for yet is none any more.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts the program of this crate on `directory`, and gives its process and the superuser's URL.
fn start_in_another_process(directory: &Path) -> (std::process::Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_local-postgres"))
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    assert!(url.starts_with("postgres://"), "{url}");
    (child, url.trim().to_owned())
}

#[tokio::test]
async fn a_server_that_was_let_go_is_found_and_stopped_by_others() {
    let directory = data_dir();
    assert_eq!(LocalPostgres::left_running(&directory.path().join("missing")).unwrap(), None);
    assert!(!LocalPostgres::stop_left_running(directory.path()).await.unwrap());
    let options = Options { lifetime: Lifetime::Persistent, ..options(directory.path()) };
    let server = LocalPostgres::start(options).await.unwrap();
    let refused = LocalPostgres::stop_left_running(directory.path()).await.unwrap_err();
    assert!(matches!(refused, Error::InUse { .. }), "it is in use: {refused}");
    let connection = server.detach();
    let found = LocalPostgres::left_running(directory.path()).unwrap().unwrap();
    assert_eq!(found, connection);
    assert_eq!(query::<i32>(&found.url("postgres"), "SELECT 1").await, 1);
    assert!(LocalPostgres::stop_left_running(directory.path()).await.unwrap());
    assert_eq!(LocalPostgres::left_running(directory.path()).unwrap(), None);
    eventually("the server has gone", || !is_alive(found.pid)).await;
}

#[tokio::test]
async fn data_and_password_survive_a_restart() {
    let directory = data_dir();
    let server = LocalPostgres::start(options(directory.path())).await.unwrap();
    assert!(server.version().major >= local_postgres::MINIMUM_MAJOR_VERSION);
    execute(&server.superuser_url(), "CREATE TABLE kept (value int); INSERT INTO kept VALUES (42)").await;
    let password = server.connection_options().password.clone();
    server.stop().await.unwrap();

    let server = LocalPostgres::start(options(directory.path())).await.unwrap();
    assert_eq!(server.connection_options().password, password);
    assert_eq!(query::<i32>(&server.superuser_url(), "SELECT value FROM kept").await, 42);
    assert_eq!(
        query::<i32>(&server.connection_options().socket_url("postgres"), "SELECT value FROM kept").await,
        42
    );
    let pid = postmaster_pid(&server.cluster_directory());
    server.stop().await.unwrap();
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let directory = data_dir();
    let server = LocalPostgres::start(options(directory.path())).await.unwrap();
    let mut connection = server.connection_options().clone();
    connection.password = "guessed".to_owned();
    for url in [connection.url("postgres"), connection.socket_url("postgres")] {
        let error = PgConnection::connect(&url).await.unwrap_err();
        let sqlx::Error::Database(error) = error else { panic!("{error}") };
        assert_eq!(error.code().as_deref(), Some("28P01"));
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn started_by_root_the_server_runs_as_an_unprivileged_account() {
    let directory = data_dir();
    let server = LocalPostgres::start(options(directory.path())).await.unwrap();
    let expected = match nix::unistd::geteuid().as_raw() {
        0 => 65534,
        user => user,
    };
    let process = format!("/proc/{}", postmaster_pid(&server.cluster_directory()));
    assert_eq!(std::fs::metadata(process).unwrap().uid(), expected);
    let cluster = std::fs::metadata(server.cluster_directory()).unwrap();
    assert_eq!((cluster.uid(), cluster.mode() & 0o777), (expected, 0o700));
    let password = server.cluster_directory().with_file_name("superuser-password");
    assert_eq!(std::fs::metadata(password).unwrap().mode() & 0o777, 0o600);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_private_data_directory_works_whoever_starts_the_server() {
    // Nobody but its owner may search it. Root's server keeps its data elsewhere then.
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let server = LocalPostgres::start(options(directory.path())).await.unwrap();
    assert_eq!(query::<i32>(&server.superuser_url(), "SELECT 1").await, 1);
    let cluster = server.cluster_directory();
    assert_eq!(cluster.starts_with(directory.path()), !nix::unistd::geteuid().is_root());
    server.stop().await.unwrap();
    LocalPostgres::reset(directory.path()).await.unwrap();
    assert!(!cluster.exists());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_second_start_on_the_same_data_directory_is_refused() {
    let directory = data_dir();
    let server = LocalPostgres::start(options(directory.path())).await.unwrap();
    let error = LocalPostgres::start(options(directory.path())).await.unwrap_err();
    assert!(matches!(error, Error::InUse { holder: Some(pid), .. } if pid == std::process::id()), "{error}");
    let error = LocalPostgres::reset(directory.path()).await.unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert_eq!(query::<i32>(&server.superuser_url(), "SELECT 1").await, 1, "the first one is untouched");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_refused_and_named() {
    let directory = data_dir();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port();
    let wanted = || Options { port: Some(taken), ..options(directory.path()) };
    let error = LocalPostgres::start(wanted()).await.unwrap_err();
    assert!(matches!(error, Error::PortTaken { port } if port == taken), "{error}");
    drop(listener);
    let server = LocalPostgres::start(wanted()).await.unwrap();
    assert_eq!(server.connection_options().port, taken);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_setting_that_the_server_refuses_is_explained_with_its_log() {
    let directory = data_dir();
    let refused =
        Options { extra_settings: vec![("no_such_setting".into(), "1".into())], ..options(directory.path()) };
    let error = LocalPostgres::start(refused).await.unwrap_err();
    assert!(matches!(error, Error::Start { ref log } if log.contains("no_such_setting")), "{error}");
    LocalPostgres::start(options(directory.path())).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn after_its_process_was_killed_the_server_is_taken_over_and_nothing_is_lost() {
    let directory = data_dir();
    let (mut first, url) = start_in_another_process(directory.path());
    execute(&url, "CREATE TABLE kept (value int); INSERT INTO kept VALUES (42)").await;
    let refused = LocalPostgres::start(options(directory.path())).await.unwrap_err();
    assert!(matches!(refused, Error::InUse { holder: Some(pid), .. } if pid == first.id()), "{refused}");

    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(query::<i32>(&url, "SELECT value FROM kept").await, 42, "the server outlives its process");

    let steps = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&steps);
    let progress: ProgressCallback = Arc::new(move |step| sink.lock().unwrap().push(step));
    let server = LocalPostgres::start(Options { progress: Some(progress), ..options(directory.path()) })
        .await
        .unwrap();
    assert_eq!(*steps.lock().unwrap(), [Progress::StoppingOrphan, Progress::Starting]);
    assert_eq!(query::<i32>(&server.superuser_url(), "SELECT value FROM kept").await, 42);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn after_the_server_itself_was_killed_the_next_start_recovers() {
    let directory = data_dir();
    let durable = || Options { fsync: true, ..options(directory.path()) };
    let mut server = LocalPostgres::start(durable()).await.unwrap();
    execute(&server.superuser_url(), "CREATE TABLE kept (value int); INSERT INTO kept VALUES (42)").await;
    let cluster = server.cluster_directory();
    kill(Pid::from_raw(postmaster_pid(&cluster)), Signal::SIGKILL).unwrap();
    eventually("the server has ended", || !server.is_alive()).await;
    assert!(cluster.join("postmaster.pid").exists(), "a killed server leaves its pid file");
    drop(server);

    let server = LocalPostgres::start(durable()).await.unwrap();
    assert_eq!(query::<i32>(&server.superuser_url(), "SELECT value FROM kept").await, 42);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_unfinished_cluster_is_made_anew() {
    let directory = data_dir();
    let server = LocalPostgres::start(options(directory.path())).await.unwrap();
    let cluster = server.cluster_directory();
    server.stop().await.unwrap();
    // As a process that was killed during the first start leaves it.
    std::fs::rename(&cluster, cluster.with_file_name("cluster.unfinished")).unwrap();
    let server = LocalPostgres::start(options(directory.path())).await.unwrap();
    assert_eq!(query::<i32>(&server.superuser_url(), "SELECT 1").await, 1);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn data_of_a_version_that_is_not_installed_is_refused_and_kept() {
    let directory = data_dir();
    let server = LocalPostgres::start(options(directory.path())).await.unwrap();
    let cluster = server.cluster_directory();
    let installed = server.version().major;
    server.stop().await.unwrap();
    std::fs::write(cluster.join("PG_VERSION"), "14\n").unwrap();
    let error = LocalPostgres::start(options(directory.path())).await.unwrap_err();
    assert!(matches!(error, Error::VersionMismatch { cluster: 14, .. }), "{error}");
    assert!(error.to_string().contains(&installed.to_string()), "{error}");
    assert!(cluster.join("global/pg_control").exists());
}

#[tokio::test]
async fn a_lost_password_is_named_and_the_data_kept() {
    let directory = data_dir();
    let server = LocalPostgres::start(options(directory.path())).await.unwrap();
    let cluster = server.cluster_directory();
    server.stop().await.unwrap();
    std::fs::remove_file(cluster.with_file_name("superuser-password")).unwrap();
    let error = LocalPostgres::start(options(directory.path())).await.unwrap_err();
    assert!(matches!(error, Error::PasswordMissing { .. }), "{error}");
    assert!(cluster.join("global/pg_control").exists());
}

#[tokio::test]
async fn a_dropped_server_stops() {
    let directory = data_dir();
    let server =
        LocalPostgres::start(Options { lifetime: Lifetime::Persistent, ..options(directory.path()) })
            .await
            .unwrap();
    let pid = postmaster_pid(&server.cluster_directory());
    drop(server);
    eventually("the server has stopped", || !is_alive(pid)).await;
}

#[tokio::test]
async fn an_ephemeral_server_leaves_nothing_behind() {
    for stop in [true, false] {
        let options = Options::ephemeral().unwrap();
        let data_dir = options.data_dir.clone();
        let server = LocalPostgres::start(options).await.unwrap();
        let (pid, cluster) = (postmaster_pid(&server.cluster_directory()), server.cluster_directory());
        assert_eq!(query::<i32>(&server.superuser_url(), "SELECT 1").await, 1);
        if stop {
            server.stop().await.unwrap();
            assert!(!is_alive(pid) && !cluster.exists() && !data_dir.exists());
        } else {
            drop(server);
            eventually("server and data are gone", || {
                !is_alive(pid) && !cluster.exists() && !data_dir.exists()
            })
            .await;
        }
    }
}

#[tokio::test]
async fn an_ephemeral_server_that_does_not_start_leaves_nothing_behind() {
    let options = Options {
        extra_settings: vec![("no_such_setting".into(), "1".into())],
        ..Options::ephemeral().unwrap()
    };
    let data_dir = options.data_dir.clone();
    LocalPostgres::start(options).await.unwrap_err();
    eventually("the directory is gone", || !data_dir.exists()).await;
}

#[tokio::test]
async fn reset_removes_the_database_and_nothing_else() {
    let directory = data_dir();
    std::fs::write(directory.path().join("other"), "kept").unwrap();
    let (mut first, url) = start_in_another_process(directory.path());
    execute(&url, "CREATE TABLE lost ()").await;
    first.kill().unwrap();
    first.wait().unwrap();
    LocalPostgres::reset(directory.path()).await.unwrap();
    let left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["other"]);
    LocalPostgres::reset(&directory.path().join("never-existed")).await.unwrap();
}

#[tokio::test]
async fn a_directory_without_a_server_is_refused() {
    let directory = data_dir();
    let wrong =
        Options { binaries: BinarySource::Directory(directory.path().into()), ..options(directory.path()) };
    let error = LocalPostgres::start(wrong).await.unwrap_err();
    assert!(matches!(error, Error::NotAServer { .. }), "{error}");
}

/// Needs the network the first time (15 MB).
#[tokio::test]
async fn a_downloaded_server_runs_and_is_kept_for_the_next_time() {
    let directory = data_dir();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let start = || {
        let sink = Arc::clone(&steps);
        let progress: ProgressCallback = Arc::new(move |step| sink.lock().unwrap().push(step));
        let binaries = BinarySource::Download;
        LocalPostgres::start(Options { binaries, progress: Some(progress), ..options(directory.path()) })
    };
    let server = start().await.unwrap();
    assert_eq!(server.version().text, "17.6");
    execute(&server.superuser_url(), "CREATE EXTENSION pgcrypto; CREATE EXTENSION pg_trgm").await;
    server.stop().await.unwrap();
    steps.lock().unwrap().clear();
    // The cluster is of version 17: what the machine has is older, so the download is found again.
    let server = LocalPostgres::start(options(directory.path())).await.unwrap();
    assert_eq!(server.version().text, "17.6");
    server.stop().await.unwrap();
    start().await.unwrap().stop().await.unwrap();
    assert_eq!(*steps.lock().unwrap(), [Progress::Starting]);
}
