//! The verbs of the load generator's tests: `switchboard bench`, run as its users run it, and what it says.
//!
//! A run is short, and its report is read back as the type that wrote it. What a test does not ask for is
//! filled in: four connections, no warm-up, less than half a second. (From a second on, a closed loop is
//! followed by an experiment that takes as long again.)
//!
//! Invariant: no child outlives the call that started it.

#![allow(dead_code)] // each test file uses its part of the verbs

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use switchboard::load::report::{Failures, Latency, Report};

use crate::support::Directory;

/// How long a run may take in all, on the busiest machine. Only a test that fails spends it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is asked for where a test says nothing else.
const DEFAULTS: [(&str, &str); 3] = [("--connections", "4"), ("--duration", "400ms"), ("--warmup", "off")];

/// A run that is being put together.
pub(crate) struct Bench {
    /// What stands before the program: `taskset -c 1`.
    prefix: Vec<String>,
    arguments: Vec<String>,
    /// It takes half a second, and only the verdict needs it.
    self_test: bool,
    directory: Directory,
}

impl Bench {
    /// Of this URL, with what the words say: `Bench::of(url, "--depth 4 --rate 100")`.
    pub(crate) fn of(url: &str, words: &str) -> Bench {
        let (prefix, arguments, directory) = (Vec::new(), Vec::new(), Directory::new());
        let bench = Bench { prefix, arguments, self_test: false, directory };
        bench.and(&["bench", url]).and(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// More arguments, which may hold spaces.
    pub(crate) fn and(mut self, arguments: &[&str]) -> Bench {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Under another program: `taskset -c 1`.
    pub(crate) fn under(mut self, words: &str) -> Bench {
        self.prefix = words.split_whitespace().map(str::to_owned).collect();
        self
    }

    /// With the self-test of the generator.
    pub(crate) fn judging_itself(mut self) -> Bench {
        self.self_test = true;
        self
    }

    /// A file beside the report's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path(name)
    }

    /// As it is about to be started.
    pub(crate) fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_switchboard").to_owned();
        let words = self.prefix.iter().chain([&program]).chain(&self.arguments);
        let words: Vec<&String> = words.collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env_remove("RUST_LOG");
        for (option, value) in DEFAULTS {
            if !self.arguments.iter().any(|argument| argument == option) {
                command.args([option, value]);
            }
        }
        if !self.self_test {
            command.arg("--no-self-test");
        }
        command.arg("--quiet");
        if !self.arguments.iter().any(|argument| argument == "--json") {
            command.arg("--json").arg(self.path("report.json"));
        }
        command
    }

    /// Runs it to its end. A run whose only fault is that it could not send all is repeated: on a busy machine the generator
    /// gets too little CPU for its rate, and no test here is about that.
    pub(crate) fn run(self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = run_to_its_end(&mut self.command(), &self.directory);
            let report = self.report();
            let is_late = report.as_ref().is_some_and(|report| {
                let Failures { unsent, .. } = report.failures;
                unsent > 0 && unsent == report.failures.total()
            });
            if ended.code != Some(1) || !is_late || Instant::now() > deadline {
                return Outcome { report, ended, directory: self.directory };
            }
        }
    }

    /// What stands in the report's file.
    pub(crate) fn report(&self) -> Option<Report> {
        let text = fs::read_to_string(self.path("report.json")).ok()?;
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("no report: {error} in {text:?}")))
    }
}

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) ended: Ended,
    report: Option<Report>,
    directory: Directory,
}

impl Outcome {
    /// The report that it has written.
    #[track_caller]
    pub(crate) fn report(&self) -> &Report {
        self.report.as_ref().unwrap_or_else(|| panic!("there is no report: {:#?}", self.ended))
    }

    /// Whether it has written one.
    pub(crate) fn has_report(&self) -> bool {
        self.report.is_some()
    }

    /// A file that was written beside the report.
    #[track_caller]
    pub(crate) fn text_of(&self, name: &str) -> String {
        let text = fs::read_to_string(self.directory.path(name));
        text.unwrap_or_else(|error| panic!("{name}: {error}; {:#?}", self.ended))
    }

    /// It ended with this exit code.
    #[track_caller]
    pub(crate) fn ends_with(&self, code: i32) -> &Report {
        let report = self.report();
        assert_eq!(self.ended.code, Some(code), "{:#?}, {:#?}", self.ended, report.failures);
        report
    }

    /// It found nothing wrong. See [`all_but_unsent`].
    #[track_caller]
    pub(crate) fn is_fine(&self) -> &Report {
        let report = self.ends_with(0);
        assert_eq!(all_but_unsent(report), Failures::default(), "{:#?}", self.ended);
        assert!(!report.partial, "{:?}", report.partial_because);
        assert!(report.replies > 0, "{:#?}", self.ended);
        assert_eq!(self.ended.stderr, "", "a run that is fine has nothing to complain of");
        report
    }

    /// It counted exactly these failures, and said so by its exit code.
    #[track_caller]
    pub(crate) fn found(&self, failures: Failures) -> &Report {
        let report = self.report();
        assert_eq!(report.failures, failures, "{:#?}", self.ended);
        assert!(report.replies > 0, "{:#?}", self.ended);
        self.ends_with(1)
    }
}

/// The failures that a busy machine can't cause. (There the generator may be too late for some messages of a rate.)
pub(crate) fn all_but_unsent(report: &Report) -> Failures {
    Failures { unsent: 0, ..report.failures }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Ended {
    /// The only line on standard error.
    #[track_caller]
    pub(crate) fn complaint(&self) -> &str {
        let lines: Vec<&str> = self.stderr.lines().collect();
        match lines[..] {
            [line] if line.starts_with("switchboard: ") => line,
            _ => panic!("one line was expected: {self:#?}"),
        }
    }
}

/// `switchboard` with these arguments, and nothing else.
pub(crate) fn run_with<A: AsRef<OsStr>>(arguments: &[A]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    run_to_its_end(command.args(arguments).env_remove("RUST_LOG"), &Directory::new())
}

/// Runs another program that ends as `switchboard` does.
pub(crate) fn run_command(command: &mut Command) -> Ended {
    run_to_its_end(command.env_remove("RUST_LOG"), &Directory::new())
}

/// What it says goes to files, so that it is never held up by a full pipe.
fn run_to_its_end(command: &mut Command, directory: &Directory) -> Ended {
    let create = |name| File::create(directory.path(name)).expect("the directory is ours");
    command.stdin(Stdio::null()).stdout(create("stdout")).stderr(create("stderr"));
    let begun = Instant::now();
    let mut child = Killed::start(command);
    let status = loop {
        if let Some(status) = child.0.try_wait().expect("a child can be waited for") {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "{command:?} does not end");
        thread::sleep(Duration::from_millis(5));
    };
    let took = begun.elapsed();
    let text = |name| String::from_utf8(fs::read(directory.path(name)).expect("it was written"));
    let text = |name| text(name).expect("it speaks UTF-8");
    let ended = Ended { code: status.code(), stdout: text("stdout"), stderr: text("stderr"), took };
    assert!(!ended.stderr.contains("panicked"), "{command:?}: {ended:#?}");
    ended
}

/// A child that ends when this is dropped.
pub(crate) struct Killed(Child);

impl Killed {
    pub(crate) fn start(command: &mut Command) -> Killed {
        Killed(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The percentile of this number; `None`: infinite.
#[track_caller]
pub(crate) fn percentile(latency: &Latency, percent: f64) -> Option<Duration> {
    let found = latency.percentile(percent);
    found.unwrap_or_else(|| panic!("p{percent} in {:?}", latency.percentiles)).ns.map(Duration::from_nanos)
}

/// Holds off the other tests of this file that judge how fast things go. Those are `#[ignore]`d: they need a quiet machine.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) // a test that failed before is no reason to fail now
}
