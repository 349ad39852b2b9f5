//! The server process: made ready with `initdb`, started, found again after its parent died, stopped.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::account::Account;
use crate::binaries::Binaries;
use crate::error::{Error, is_full_disk, last_lines};
use crate::places::{self, Places};
use crate::{Lifetime, SUPERUSER, blocking};

/// How long a server may take until it is ready. After a crash it first replays its write-ahead log.
const START_LIMIT: Duration = Duration::from_mins(2);
/// How long a server may take to end its sessions and write everything out.
const FAST_STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take when told to drop everything; the next start recovers from the write-ahead log.
const IMMEDIATE_STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long a server that was killed, or its processes, may hold on to its shared memory or its socket.
const REMAINS_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);
const LOG_LINES: usize = 12;

/// Makes a cluster with `password` for the superuser. Until it is whole it has another name.
pub(crate) async fn initialise(
    binaries: &Binaries,
    places: &Places,
    account: Account,
    password: &str,
    fsync: bool,
) -> Result<(), Error> {
    let unfinished = places.unfinished_cluster();
    places::remove(&unfinished)?;
    places::create_private(&unfinished, account)?;
    places::write_private(&places.password(), password, account)?;

    let mut command = account.command(&binaries.initdb(), &places.home);
    command
        .arg("--pgdata")
        .arg(&unfinished)
        .args(["--username", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8", "--lc-messages=C"])
        .arg(if cfg!(target_os = "macos") { "--locale=en_US.UTF-8" } else { "--locale=C.UTF-8" })
        .arg("--pwfile")
        .arg(places.password());
    if !fsync {
        command.arg("--no-sync");
    }
    let program = binaries.initdb();
    let output = blocking(move || command.output()).await.map_err(|source| Error::Run { program, source })?;
    if output.status.success() {
        let cluster = places.cluster();
        return std::fs::rename(&unfinished, &cluster).map_err(Error::file("create", cluster));
    }
    places::remove(&unfinished)?;
    let log =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if is_full_disk(&log, &places.home) {
        return Err(Error::DiskFull { directory: places.home.clone() });
    }
    Err(Error::Initialise { log: last_lines(&log, LOG_LINES) })
}

/// How the server is to be started.
pub(crate) struct Startup<'a> {
    pub(crate) binaries: &'a Binaries,
    pub(crate) places: &'a Places,
    pub(crate) account: Account,
    pub(crate) fsync: bool,
    pub(crate) max_connections: u32,
    pub(crate) port: Option<u16>,
    pub(crate) extra_settings: &'a [(String, String)],
    pub(crate) lifetime: Lifetime,
    /// Removed with the home if it is empty then, for [`Lifetime::Ephemeral`].
    pub(crate) data_dir: &'a Path,
}

/// Why one attempt to start came to nothing.
enum Failure {
    /// Somebody else took the port in the meantime.
    PortTaken(u16),
    /// A killed server, or processes of it, still hold its shared memory or its socket.
    Remains(String),
    Final(Error),
}

impl Startup<'_> {
    /// Starts the server and waits until it takes connections. Gives the port, too.
    pub(crate) async fn run(&self) -> Result<(Running, u16), Error> {
        let began = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.attempt().await {
                Ok(started) => return Ok(started),
                Err(Failure::PortTaken(_)) if self.port.is_none() && attempts < 5 => {}
                Err(Failure::PortTaken(port)) => return Err(Error::PortTaken { port }),
                Err(Failure::Remains(_)) if began.elapsed() < REMAINS_LIMIT => {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                Err(Failure::Remains(log)) => return Err(Error::Start { log }),
                Err(Failure::Final(error)) => return Err(error),
            }
        }
    }

    async fn attempt(&self) -> Result<(Running, u16), Failure> {
        let port = self.choose_port()?;
        let child = self.spawn(port).map_err(Failure::Final)?;
        let mut running = Running { pid: pid_of(&child), server: Some(child), watcher: None };
        running.watch(self).map_err(Failure::Final)?;

        let began = Instant::now();
        loop {
            if !running.is_alive() {
                return Err(self.explain(port));
            }
            let ready = PidFile::read(&self.places.cluster())
                .is_some_and(|file| file.ready && file.pid == running.pid.as_raw());
            if ready {
                return Ok((running, port));
            }
            if began.elapsed() > START_LIMIT {
                let log = last_lines(&self.read_log(), LOG_LINES);
                // Dropping `running` stops the server.
                return Err(Failure::Final(Error::StartTimedOut { seconds: START_LIMIT.as_secs(), log }));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The wanted port if it is free, or any that is. It may be taken between here and the server's start; the server
    /// says so then.
    fn choose_port(&self) -> Result<u16, Failure> {
        let wanted = self.port.unwrap_or(0);
        match std::net::TcpListener::bind(("127.0.0.1", wanted)).and_then(|listener| listener.local_addr()) {
            Ok(address) => Ok(address.port()),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Failure::PortTaken(wanted)),
            Err(source) => Err(Failure::Final(Error::File {
                action: "listen on",
                path: format!("127.0.0.1:{wanted}").into(),
                source,
            })),
        }
    }

    fn spawn(&self, port: u16) -> Result<Child, Error> {
        let log = self.fresh_log()?;
        let errors = log.try_clone().map_err(Error::file("open", self.places.log()))?;
        let program = self.binaries.postgres();
        let socket = self.places.socket();
        let on_or_off = |on: bool| if on { "on" } else { "off" }.to_owned();
        let settings = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", socket.as_deref().map_or(String::new(), quoted)),
            ("max_connections", self.max_connections.to_string()),
            ("cluster_name", "chancery".to_owned()),
            ("logging_collector", "off".to_owned()),
            ("log_destination", "stderr".to_owned()),
            ("fsync", on_or_off(self.fsync)),
            ("synchronous_commit", on_or_off(self.fsync)),
            ("full_page_writes", on_or_off(self.fsync)),
        ];
        let mut command = self.account.command(&program, &self.places.home);
        command.arg("-D").arg(self.places.cluster()).arg("-p").arg(port.to_string());
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        for (name, value) in self.extra_settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        // A process group of its own: Ctrl-C in the terminal is for this process, which stops the server when it has
        // finished its own work.
        command.stdout(log).stderr(errors).process_group(0);
        command.spawn().map_err(|source| Error::Run { program, source })
    }

    /// Opens a new log; the previous one is kept beside it.
    fn fresh_log(&self) -> Result<File, Error> {
        let path = self.places.log();
        if path.exists() {
            let mut previous = path.clone().into_os_string();
            previous.push(".1");
            std::fs::rename(&path, PathBuf::from(previous)).map_err(Error::file("rename", &path))?;
        }
        let file = File::create(&path).map_err(Error::file("create", &path))?;
        file.set_permissions(Permissions::from_mode(0o600))
            .map_err(Error::file("set the permissions of", &path))?;
        Ok(file)
    }

    fn read_log(&self) -> String {
        std::fs::read(self.places.log())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Why the server ended, from its log.
    fn explain(&self, port: u16) -> Failure {
        let log = self.read_log();
        let tail = last_lines(&log, LOG_LINES);
        if is_full_disk(&log, &self.places.home) {
            Failure::Final(Error::DiskFull { directory: self.places.home.clone() })
        } else if log.contains("Address already in use") {
            Failure::PortTaken(port)
        } else if log.contains("pre-existing shared memory block") || log.contains(".lock\" already exists") {
            Failure::Remains(tail)
        } else {
            Failure::Final(Error::Start { log: tail })
        }
    }
}

/// A path as an item of a list in a setting: quoted, since a comma or a space would split it.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('"', "\"\""))
}

/// The server while this process runs it. Dropped without [`Running::stop`], it tells the server to stop and doesn't
/// wait; what was committed is safe.
#[derive(Debug)]
pub(crate) struct Running {
    pid: Pid,
    /// Taken only when this is dropped.
    server: Option<Child>,
    watcher: Option<Child>,
}

/// Ends the server when the standard input ends without a word, which it does when the process that holds the other end
/// dies. A word means that the server was stopped already. `$1`: signal, `$2`: the server's pid; the others are removed
/// once it has gone, the last only if it is empty.
const WATCHER: &str = r#"
if read -r _; then exit 0; fi
kill -"$1" "$2" 2>/dev/null
[ $# -eq 5 ] || exit 0
tries=0
while kill -0 "$2" 2>/dev/null && [ "$tries" -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
rm -rf -- "$3" "$4"
rmdir -- "$5" 2>/dev/null
"#;

impl Running {
    /// Starts the watcher, if the server shall not outlive this process.
    fn watch(&mut self, startup: &Startup<'_>) -> Result<(), Error> {
        let signal = match startup.lifetime {
            Lifetime::Persistent => return Ok(()),
            Lifetime::WithParent => "INT",
            Lifetime::Ephemeral => "QUIT",
        };
        let program = PathBuf::from("/bin/sh");
        let mut command = Command::new(&program);
        command.args(["-c", WATCHER, "watcher", signal]).arg(self.pid.to_string()).current_dir("/");
        if startup.lifetime == Lifetime::Ephemeral {
            command.arg(&startup.places.home).arg(places::Lock::path(startup.data_dir)).arg(startup.data_dir);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        self.watcher = Some(command.spawn().map_err(|source| Error::Run { program, source })?);
        Ok(())
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Gives up the server, which runs on unless a watcher stops it.
    pub(crate) fn detach(mut self) {
        self.server = None;
    }

    /// Whether the server still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.server.as_mut().is_some_and(|server| matches!(server.try_wait(), Ok(None)))
    }

    /// Stops the server and waits for its end: first it ends its sessions and writes everything out; if that takes too
    /// long, or `at_once`, it drops everything and the next start recovers.
    pub(crate) async fn stop(mut self, at_once: bool) -> Result<(), Error> {
        let mut steps = vec![(Signal::SIGQUIT, IMMEDIATE_STOP_LIMIT)];
        if !at_once {
            steps.insert(0, (Signal::SIGINT, FAST_STOP_LIMIT));
        }
        for (signal, limit) in steps {
            let began = Instant::now();
            if self.is_alive() {
                // It may have ended in the meantime.
                let _ = kill(self.pid, signal);
            }
            while began.elapsed() < limit {
                if !self.is_alive() {
                    self.dismiss_watcher();
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Err(Error::StopTimedOut { pid: self.pid.as_raw() })
    }

    fn dismiss_watcher(&mut self) {
        if let Some(mut watcher) = self.watcher.take() {
            if let Some(mut stdin) = watcher.stdin.take() {
                // If it has gone, there is nobody to dismiss.
                let _ = stdin.write_all(b"stopped\n");
            }
            let _ = watcher.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let watched = self.watcher.is_some();
        if let Some(watcher) = &mut self.watcher {
            // The watcher stops the server as soon as its standard input is closed.
            drop(watcher.stdin.take());
        }
        if !self.is_alive() && !watched {
            return;
        }
        if !watched {
            let _ = kill(self.pid, Signal::SIGINT);
        }
        // Waited for on a thread of its own, so that neither this one waits nor a dead process stays in the table.
        let children: Vec<Child> = self.server.take().into_iter().chain(self.watcher.take()).collect();
        let _ = std::thread::Builder::new().name("local-postgres-stop".to_owned()).spawn(move || {
            for mut child in children {
                let _ = child.wait();
            }
        });
    }
}

fn pid_of(child: &Child) -> Pid {
    // A pid fits: the kernel's type is signed.
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

/// What a server says about itself in `postmaster.pid`: a line each for pid, data directory, start time, port, socket
/// directory, address, shared memory, and state.
#[derive(Debug, PartialEq, Eq)]
struct PidFile {
    pid: i32,
    port: Option<u16>,
    ready: bool,
}

impl PidFile {
    fn path(cluster: &Path) -> PathBuf {
        cluster.join("postmaster.pid")
    }

    fn read(cluster: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(Self::path(cluster)).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        // A stand-alone backend writes its pid negated.
        let pid = lines.next()?.trim().parse::<i32>().ok()?.checked_abs().filter(|pid| *pid > 1)?;
        let port = lines.nth(2).and_then(|port| port.trim().parse().ok());
        Some(Self { pid, port, ready: lines.nth(3).is_some_and(|state| state.trim() == "ready") })
    }
}

/// Whether the process is a server on this cluster. Pids are used again, so that it lives isn't enough; a PostgreSQL
/// server works in its data directory.
fn serves(pid: Pid, cluster: &Path) -> bool {
    if kill(pid, None) == Err(Errno::ESRCH) {
        return false;
    }
    let cluster = cluster.canonicalize().unwrap_or_else(|_| cluster.to_path_buf());
    if Path::new("/proc/self/cwd").exists() {
        return std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|directory| directory == cluster);
    }
    Command::new("ps")
        .args(["-o", "command=", "-p", &pid.to_string()])
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&*cluster.to_string_lossy()))
}

/// Process and port of the server that runs on this cluster and is ready, whoever started it.
pub(crate) fn find(cluster: &Path) -> Option<(i32, u16)> {
    let file = PidFile::read(cluster).filter(|file| file.ready)?;
    serves(Pid::from_raw(file.pid), cluster).then_some((file.pid, file.port?))
}

/// Stops the server that an earlier process left behind on this cluster, if there is one, and clears a pid file that
/// nobody stands behind. The caller holds the data directory's lock, so nobody alive is using that server.
/// `on_orphan` is called before it is stopped.
pub(crate) async fn stop_orphan(cluster: &Path, on_orphan: impl FnOnce()) -> Result<(), Error> {
    let Some(file) = PidFile::read(cluster) else { return Ok(()) };
    let pid = Pid::from_raw(file.pid);
    if serves(pid, cluster) {
        on_orphan();
        tracing::info!(pid = file.pid, "stopping the PostgreSQL server that an earlier process left behind");
        let mut stopped = false;
        for (signal, limit) in [(Signal::SIGINT, FAST_STOP_LIMIT), (Signal::SIGQUIT, IMMEDIATE_STOP_LIMIT)] {
            let began = Instant::now();
            // It may have ended in the meantime.
            let _ = kill(pid, signal);
            while !stopped && began.elapsed() < limit {
                stopped = !serves(pid, cluster);
                if !stopped {
                    tokio::time::sleep(POLL).await;
                }
            }
            if stopped {
                break;
            }
        }
        if !stopped {
            return Err(Error::StopTimedOut { pid: file.pid });
        }
    }
    // A server that was killed leaves the file; PostgreSQL would refuse to start if another process had that pid by now.
    let path = PidFile::path(cluster);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_tells_whether_the_server_is_ready() {
        let ready = "4711\n/data\n1700000000\n5432\n/data/socket\n127.0.0.1\n  5432001  3\nready   \n";
        assert_eq!(PidFile::parse(ready), Some(PidFile { pid: 4711, port: Some(5432), ready: true }));
        let starting = ready.replace("ready   ", "starting");
        assert_eq!(PidFile::parse(&starting), Some(PidFile { pid: 4711, port: Some(5432), ready: false }));
        assert_eq!(PidFile::parse("4711\n"), Some(PidFile { pid: 4711, port: None, ready: false }));
    }

    #[test]
    fn a_pid_file_that_would_signal_everybody_is_ignored() {
        for text in ["", "0\n", "1\n", "-1\n", "-2147483648\n", "nonsense\n"] {
            assert_eq!(PidFile::parse(text), None, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_pid_file_with_the_pid_of_another_program_is_cleared_and_that_program_lives_on() {
        let cluster = tempfile::tempdir().unwrap();
        let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(PidFile::path(cluster.path()), format!("{}\n", bystander.id())).unwrap();
        stop_orphan(cluster.path(), || panic!("not a server of this cluster")).await.unwrap();
        assert!(!PidFile::path(cluster.path()).exists());
        assert!(bystander.try_wait().unwrap().is_none());
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }
}
