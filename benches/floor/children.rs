//! Child processes that cannot be left behind: each is ended, by its own pid, when its owner is dropped, and by the kernel when
//! the process that started it dies in a way that drops nothing.

use super::Outcome;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(crate) struct Minded {
    child: Child,
    output: PipeReader,
    heard: String,
}

/// Where a child's standard error goes.
pub(crate) enum Errors<'a> {
    /// To a file: nobody reads along, and a full pipe must not stall a server.
    To(&'a Path),
    /// Behind its output: its last line is why it failed.
    WithOutput,
}

impl Minded {
    pub(crate) fn start(words: &[String], errors: Errors<'_>) -> Outcome<Self> {
        let command = words.join(" ");
        let start = || {
            let (output, input) = std::io::pipe()?;
            let errors = match errors {
                Errors::To(path) => Stdio::from(File::create(path)?),
                Errors::WithOutput => Stdio::from(input.try_clone()?),
            };
            let child = Command::new(&words[0])
                .args(&words[1..])
                .stdin(Stdio::null())
                .stdout(input)
                .stderr(errors)
                .spawn()?;
            Ok(Self { child, output, heard: String::new() })
        };
        start().map_err(|error: std::io::Error| format!("cannot start `{command}`: {error}"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The rest of the first line of output that starts with `prefix`.
    pub(crate) fn await_line(&mut self, prefix: &str, within: Duration) -> Outcome<String> {
        let end = Instant::now() + within;
        loop {
            let whole_lines = self.heard.rsplit_once('\n').map_or("", |(lines, _)| lines);
            if let Some(rest) = whole_lines.lines().find_map(|line| line.strip_prefix(prefix)) {
                return Ok(rest.to_string());
            }
            if !self.hear_more(end).map_err(|why| format!("{why} for a line `{prefix}...`"))? {
                return Err(format!("it ended its output without a line `{prefix}...`"));
            }
        }
    }

    /// All of its output, once it has ended well; else the last line of it, as the error.
    pub(crate) fn hear_out(&mut self, within: Duration) -> Outcome<String> {
        let end = Instant::now() + within;
        while self.hear_more(end)? {}
        let status = self.child.wait().map_err(|error| format!("cannot wait for it: {error}"))?;
        if status.success() {
            return Ok(std::mem::take(&mut self.heard));
        }
        let last = self.heard.lines().last().unwrap_or_default();
        match last.strip_prefix("floor: ") {
            Some(why) => Err(why.to_string()),
            None => Err(format!("the generator ended ({status}): {last}")),
        }
    }

    /// Asks it to end, and waits so long for it to do so.
    pub(crate) fn stop(&mut self, within: Duration) -> Outcome<()> {
        let _ = kill(Pid::from_raw(self.pid() as i32), Signal::SIGTERM);
        let end = Instant::now() + within;
        while self.ended().is_none() {
            if Instant::now() > end {
                return Err(format!("it did not end within {within:?} of SIGTERM"));
            }
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// False at the end of the output.
    fn hear_more(&mut self, end: Instant) -> Outcome<bool> {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut readable = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        match poll(&mut readable, timeout) {
            Ok(0) => return Err("waited in vain".into()),
            Err(nix::errno::Errno::EINTR) => return Ok(true),
            _ => {}
        }
        let mut bytes = [0; 4096];
        let count =
            self.output.read(&mut bytes).map_err(|error| format!("cannot read its output: {error}"))?;
        self.heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
        Ok(count > 0)
    }
}

impl Drop for Minded {
    fn drop(&mut self) {
        // After it was waited for these do nothing, so no other process can be meant.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory for logs and counts, gone at the end; below cargo's own, so that one that a Ctrl-C leaves behind goes with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Outcome<Self> {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("floor-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The role `leashed`: become a command that isn't ours, and keep the promise of this file on its behalf.
pub(crate) fn become_leashed(words: &[String]) -> Outcome<()> {
    die_with_parent()?;
    let (program, arguments) = words.split_first().ok_or("leashed: which command?")?;
    let error = Command::new(program).args(arguments).exec();
    Err(format!("cannot start `{program}`: {error}"))
}

/// SIGTERM from the kernel when the parent dies; it survives an exec.
pub(crate) fn die_with_parent() -> Outcome<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)
        .map_err(|error| format!("cannot ask for a signal when the parent dies: {error}"))
}

/// The words that start this executable in a role.
pub(crate) fn this_executable(role: &str) -> Outcome<[String; 2]> {
    let path =
        std::env::current_exe().map_err(|error| format!("cannot tell where this executable is: {error}"))?;
    Ok([path.display().to_string(), role.to_string()])
}

/// `name=value` lines.
pub(crate) fn figures_in(output: &str) -> HashMap<String, f64> {
    let figure = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_string(), value.parse().ok()?))
    };
    output.lines().filter_map(figure).collect()
}
