//! Counts tests across the programs that run them.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::shell;

/// How many tests there were, and how they went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(formatter, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Which program's summary to read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    /// `Summary [ 1.2s] 3 tests run: 2 passed, 1 failed, 0 skipped`
    Nextest,
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …`, once for each test program
    Libtest,
    /// `# pass 3`, `# fail 0`, `# skipped 0`: TAP as Node.js writes it
    NodeTap,
}

impl Format {
    /// What this line of the program's output adds to the tally.
    pub(crate) fn read(self, line: &str) -> Tally {
        let line = without_colours(line);
        let line = line.trim();
        let relevant = match self {
            Self::Nextest => line.starts_with("Summary ["),
            Self::Libtest => line.starts_with("test result:"),
            Self::NodeTap => line.starts_with("# "),
        };
        if !relevant {
            return Tally::default();
        }
        let words: Vec<&str> =
            line.split([' ', ',', ';', '(', ')']).filter(|word| !word.is_empty()).collect();
        // Node.js writes the number after the name, the others before it.
        let (name_at, number_at) = if matches!(self, Self::NodeTap) { (0, 1) } else { (1, 0) };
        let count = |names: &[&str]| -> usize {
            words
                .windows(2)
                .filter(|pair| names.contains(&pair[name_at]))
                .filter_map(|pair| pair[number_at].parse::<usize>().ok())
                .sum()
        };
        match self {
            Self::Nextest => Tally {
                passed: count(&["passed"]),
                failed: count(&["failed", "timed", "exec"]),
                skipped: count(&["skipped"]),
            },
            Self::Libtest => {
                Tally { passed: count(&["passed"]), failed: count(&["failed"]), skipped: count(&["ignored"]) }
            }
            Self::NodeTap => Tally {
                passed: count(&["pass"]),
                failed: count(&["fail", "cancelled"]),
                skipped: count(&["skipped", "todo"]),
            },
        }
    }
}

/// Takes out terminal colours (`ESC [ … m`).
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    plain
}

/// Runs a test program, passes on what it prints, and counts. A failure that the summary doesn't tell of (nothing could
/// be built, no test was found) counts as one.
pub(crate) fn run(name: &str, command: &mut Command, format: Format) -> Result<Tally> {
    let shown = shell::show(command);
    eprintln!("$ {shown}");
    // Both streams into one pipe, in the order in which they are written.
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("could not run {shown}"))?;
    // The command holds this process's ends of the pipe.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut tally = Tally::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally += format.read(&line);
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        eprintln!("{name}: {shown}: {status}");
        tally.failed = 1;
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: usize, failed: usize, skipped: usize) -> Tally {
        Tally { passed, failed, skipped }
    }

    #[test]
    fn nextests_summary_is_read() {
        let line =
            "     Summary [   1.204s] 12/14 tests run: 9 passed (1 slow), 2 failed, 1 timed out, 3 skipped";
        assert_eq!(Format::Nextest.read(line), tally(9, 3, 3));
        let coloured = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.1s] \u{1b}[1m2\u{1b}[0m tests run: \u{1b}[1m2\u{1b}[0m \u{1b}[32mpassed\u{1b}[0m, 0 skipped";
        assert_eq!(Format::Nextest.read(coloured), tally(2, 0, 0));
        assert_eq!(Format::Nextest.read("        PASS [   0.1s] a test that says 3 passed"), tally(0, 0, 0));
    }

    #[test]
    fn libtests_summary_is_read() {
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(Format::Libtest.read(line), tally(3, 1, 2));
    }

    #[test]
    fn nodes_summary_is_read() {
        let mut sum = Tally::default();
        for line in ["# tests 5", "# pass 3", "# fail 1", "# cancelled 1", "# skipped 0", "ok 1 - # pass 7"] {
            sum += Format::NodeTap.read(line);
        }
        assert_eq!(sum, tally(3, 2, 0));
    }

    #[test]
    fn a_program_that_fails_without_a_summary_is_one_failure() {
        let sum =
            run("broken", Command::new("sh").args(["-c", "echo nothing; exit 3"]), Format::Libtest).unwrap();
        assert_eq!(sum, tally(0, 1, 0));
    }

    #[test]
    fn the_summary_may_come_on_either_stream() {
        let script =
            "echo 'test result: ok. 1 passed; 0 failed;' >&2; echo 'test result: ok. 2 passed; 0 failed;'";
        let sum = run("both", Command::new("sh").args(["-c", script]), Format::Libtest).unwrap();
        assert_eq!(sum, tally(3, 0, 0));
    }
}
