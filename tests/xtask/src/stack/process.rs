//! Servers as processes: started in the background, found again by a later run, stopped.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::shell;

const POLL: Duration = Duration::from_millis(50);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const LOG_LINES: usize = 15;

/// A server that was started, in its own process group.
#[derive(Debug)]
pub(crate) struct Running {
    what: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command` in a process group of its own, so that Ctrl-C in the terminal doesn't reach it, with its output
    /// in `log`.
    pub(crate) fn spawn(what: &str, command: &mut Command, log: &Path) -> Result<Self> {
        if let Some(directory) = log.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("could not make {}", directory.display()))?;
        }
        let output = File::create(log).with_context(|| format!("could not write {}", log.display()))?;
        let errors = output.try_clone()?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = command.spawn().with_context(|| format!("could not run {}", shell::show(command)))?;
        Ok(Self { what: what.to_owned(), child, log: log.to_path_buf() })
    }

    fn pid(&self) -> Pid {
        // A pid fits: the kernel's type is signed.
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Waits until `is_ready`, unless the server ends or takes too long; then it is stopped, and its log is in the error.
    pub(crate) async fn wait_ready(&mut self, limit: Duration, is_ready: impl Fn() -> bool) -> Result<()> {
        let mut progress = Progress::new(&format!("starting {}", self.what));
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.stop()?;
                bail!("{} ended while it started ({status}):\n{}", self.what, last_lines(&self.log));
            }
            if is_ready() {
                progress.done();
                return Ok(());
            }
            if began.elapsed() > limit {
                self.stop()?;
                bail!("{} was not ready within {} s:\n{}", self.what, limit.as_secs(), last_lines(&self.log));
            }
            progress.tick();
            tokio::time::sleep(POLL).await;
        }
    }

    /// Notes the process in `record`, for a later run to find.
    pub(crate) fn record(&self, record: &Record) -> Result<()> {
        record.write(self.pid())
    }

    /// Stops the server and waits for its end.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let group = self.pid();
        stop_group(group, &self.what, || matches!(self.child.try_wait(), Ok(None)))
    }
}

/// Stops a server when this process is gone, however it went: a shell waits for the end of its standard input, whose
/// other end this process holds.
#[derive(Debug)]
pub(crate) struct Watcher {
    shell: Child,
    stdin: Option<ChildStdin>,
}

const WATCHER: &str = r#"if read -r _; then exit 0; fi; kill -TERM "-$1" 2>/dev/null"#;

impl Watcher {
    /// Watches over `running`.
    pub(crate) fn over(running: &Running) -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", WATCHER, "watcher", &running.pid().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("could not run /bin/sh")?;
        let stdin = shell.stdin.take();
        Ok(Self { shell, stdin })
    }

    /// The server was stopped already.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // If it has gone, there is nobody to dismiss.
            let _ = stdin.write_all(b"stopped\n");
        }
        let _ = self.shell.wait();
    }
}

/// A file that says which process a server is. Pids are used again, so that it holds when the process started, too.
#[derive(Clone, Debug)]
pub(crate) struct Record(PathBuf);

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody has started it, or it was stopped.
    Down,
    /// The process runs.
    Up(i32),
    /// The process has gone without having been stopped.
    Dead(i32),
}

impl State {
    /// Whether the server runs; where it has gone by itself, that is told.
    pub(crate) fn is_up(self, what: &str) -> bool {
        if let Self::Dead(pid) = self {
            eprintln!("stack: {what} (process {pid}) has gone without having been stopped; it starts anew");
        }
        matches!(self, Self::Up(_))
    }
}

impl Record {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    fn write(&self, pid: Pid) -> Result<()> {
        let text = format!("{pid}\n{}\n", started(pid.as_raw()).unwrap_or_default());
        std::fs::write(&self.0, text).with_context(|| format!("could not write {}", self.0.display()))
    }

    fn read(&self) -> Option<(i32, String)> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse::<i32>().ok().filter(|pid| *pid > 1)?;
        Some((pid, lines.next().unwrap_or_default().to_owned()))
    }

    /// How the server is.
    pub(crate) fn state(&self) -> State {
        match self.read() {
            None => State::Down,
            Some((pid, began)) if started(pid).is_some_and(|now| now == began) => State::Up(pid),
            Some((pid, _)) => State::Dead(pid),
        }
    }

    /// Stops the server, if it runs, and forgets it. Gives whether it ran.
    pub(crate) fn stop(&self, what: &str) -> Result<bool> {
        let state = self.state();
        if let State::Up(pid) = state {
            stop_group(Pid::from_raw(pid), what, || matches!(self.state(), State::Up(_)))?;
        }
        self.forget()?;
        Ok(matches!(state, State::Up(_)))
    }

    /// Removes the file.
    pub(crate) fn forget(&self) -> Result<()> {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("could not remove {}", self.0.display()))
            }
            _ => Ok(()),
        }
    }
}

/// When the process started, in the system's own count; `None` if there is no such process.
fn started(pid: i32) -> Option<String> {
    if !has_proc() {
        let lives = kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH);
        return lives.then(String::new);
    }
    let (_, began) = process(pid)?;
    Some(began)
}

/// Whether a process of the group lives. Its leader may be gone before the others.
fn group_lives(group: Pid) -> bool {
    if !has_proc() {
        return killpg(group, None) != Err(Errno::ESRCH);
    }
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(process)
        .any(|(of, _)| of == group.as_raw())
}

fn has_proc() -> bool {
    Path::new("/proc/self/stat").exists()
}

/// The process group of a process that lives, and when it started. One that has ended and that nobody has asked about
/// yet doesn't count.
fn process(pid: i32) -> Option<(i32, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields after it are plain. proc(5): the third is the state, the
    // fifth the process group, the 22nd the start.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    (*fields.first()? != "Z").then_some(())?;
    Some((fields.get(2)?.parse().ok()?, fields.get(19)?.to_string()))
}

/// Asks a process group to end, and ends it if it doesn't.
fn stop_group(group: Pid, what: &str, mut lives: impl FnMut() -> bool) -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // It may have ended in the meantime.
        let _ = killpg(group, signal);
        let began = Instant::now();
        while began.elapsed() < STOP_LIMIT {
            if !lives() && !group_lives(group) {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        eprintln!("stack: {what} did not stop within {} s", STOP_LIMIT.as_secs());
    }
    bail!("{what} (process group {group}) can't be stopped")
}

/// Refuses a port that somebody else listens on.
pub(crate) fn require_free(port: u16, what: &str) -> Result<()> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "{what} needs port {port} on 127.0.0.1, and another program listens there (`ss -ltnp 'sport = :{port}'` tells which)"
        ),
        Err(error) => Err(error).with_context(|| format!("{what} can't listen on 127.0.0.1:{port}")),
    }
}

/// Refuses a disk that is too full for `megabytes` more in `directory`, or that isn't there.
pub(crate) fn require_space(directory: &Path, megabytes: u64, what: &str) -> Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("{what} needs {}, and it can't be made", directory.display()))?;
    let disk = nix::sys::statvfs::statvfs(directory)
        .with_context(|| format!("{what} needs {}, and it can't be looked at", directory.display()))?;
    #[allow(clippy::useless_conversion, reason = "the width depends on the platform")]
    let free = u64::from(disk.blocks_available()) * u64::from(disk.fragment_size()) / 1_000_000;
    if free < megabytes {
        bail!("{what} needs {megabytes} MB in {}, and {free} MB are free", directory.display());
    }
    Ok(())
}

/// Runs a command that says nothing while it works, and says how long that takes.
pub(crate) fn run_visibly(command: &mut Command, what: &str) -> Result<()> {
    let shown = shell::show(command);
    eprintln!("$ {shown}");
    let output = tempfile::NamedTempFile::new().context("could not make a temporary file")?;
    command.stdin(Stdio::null()).stdout(output.reopen()?).stderr(output.reopen()?);
    let mut child = command.spawn().with_context(|| format!("could not run {shown}"))?;
    let mut progress = Progress::new(what);
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                progress.done();
                return Ok(());
            }
            bail!("{shown}: {status}\n{}", last_lines(output.path()));
        }
        progress.tick();
        std::thread::sleep(POLL);
    }
}

/// Tells now and then that something is going on.
struct Progress {
    what: String,
    began: Instant,
    told: u64,
    every: u64,
    on_terminal: bool,
}

impl Progress {
    fn new(what: &str) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        eprint!("stack: {what} …{}", if on_terminal { "" } else { "\n" });
        Self {
            what: what.to_owned(),
            began: Instant::now(),
            told: 0,
            every: if on_terminal { 1 } else { 15 },
            on_terminal,
        }
    }

    fn tick(&mut self) {
        let seconds = self.began.elapsed().as_secs();
        if seconds < self.told + self.every {
            return;
        }
        self.told = seconds;
        if self.on_terminal {
            eprint!("\rstack: {} … {seconds} s", self.what);
        } else {
            eprintln!("stack: {} … {seconds} s", self.what);
        }
    }

    fn done(&mut self) {
        let start = if self.on_terminal { "\r" } else { "" };
        eprintln!("{start}stack: {}: done in {:.1} s", self.what, self.began.elapsed().as_secs_f64());
    }
}

/// The end of a log.
fn last_lines(path: &Path) -> String {
    let text =
        std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
    format!("{}\n(the end of {})", shown.join("\n"), path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(directory: &Path, script: &str) -> Running {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Running::spawn("the sleeper", &mut command, &directory.join("sleeper.log")).unwrap()
    }

    #[test]
    fn a_recorded_server_is_found_and_stopped_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record::at(directory.path().join("sleeper.pid"));
        assert_eq!(record.state(), State::Down);
        let mut running = sleeper(directory.path(), "sleep 600 & wait");
        running.record(&record).unwrap();
        let group = running.pid();
        assert_eq!(record.state(), State::Up(group.as_raw()));
        assert!(record.stop("the sleeper").unwrap());
        assert!(!group_lives(group));
        assert_eq!(record.state(), State::Down);
        assert!(!record.stop("the sleeper").unwrap(), "twice is fine");
        running.child.wait().unwrap();
    }

    #[test]
    fn a_pid_that_another_process_has_by_now_is_a_dead_server() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record::at(directory.path().join("sleeper.pid"));
        let own = std::process::id();
        std::fs::write(directory.path().join("sleeper.pid"), format!("{own}\n1\n")).unwrap();
        assert_eq!(record.state(), State::Dead(own.try_into().unwrap()));
        assert!(!record.stop("the sleeper").unwrap(), "nobody else is ended");
    }

    #[tokio::test]
    async fn a_server_that_ends_while_it_starts_is_told_with_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut running = sleeper(directory.path(), "echo the disk is on fire; exit 3");
        let error = running.wait_ready(Duration::from_secs(30), || false).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("the disk is on fire"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_takes_too_long_is_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let mut running = sleeper(directory.path(), "exec sleep 600");
        let error = running.wait_ready(Duration::from_millis(100), || false).await.unwrap_err().to_string();
        assert!(error.contains("not ready"), "{error}");
        assert!(running.child.try_wait().unwrap().is_some());
    }

    #[test]
    fn a_server_does_not_outlive_the_process_that_watches_over_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut running = sleeper(directory.path(), "exec sleep 600");
        let mut watcher = Watcher::over(&running).unwrap();
        // As when this process ends.
        drop(watcher.stdin.take());
        let began = Instant::now();
        while running.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < STOP_LIMIT, "it lives on");
            std::thread::sleep(POLL);
        }
        watcher.dismiss();
    }

    #[test]
    fn a_taken_port_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = require_free(port, "Keycloak").unwrap_err().to_string();
        assert!(error.contains(&format!("Keycloak needs port {port}")), "{error}");
        drop(listener);
        require_free(port, "Keycloak").unwrap();
    }

    #[test]
    fn a_disk_that_is_missing_or_full_is_told() {
        let directory = tempfile::tempdir().unwrap();
        require_space(&directory.path().join("new"), 1, "Keycloak").unwrap();
        let error = require_space(directory.path(), u64::MAX, "Keycloak").unwrap_err().to_string();
        assert!(error.contains("MB are free"), "{error}");
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = require_space(&file.join("below"), 1, "Keycloak").unwrap_err().to_string();
        assert!(error.contains("can't be made"), "{error}");
    }
}
