//! The supervisor: systemd, or another process that started us with `NOTIFY_SOCKET` (sd_notify(3)). Without one, all of
//! this does nothing.
//!
//! It is sent word when we listen, reload and stop; and, where it asked for it (`WATCHDOG_USEC`), twice as often as it
//! would lose patience, that the loop still turns: a loop that hangs sends nothing, and is restarted.
//!
//! A supervisor may itself hang, and its socket's queue fill up. (The crate `sd_notify` would wait for it, and takes an
//! abstract name for a path; so its words are used here, and not its socket.)
//!
//! Invariant: nothing here waits. A change of state that finds the queue full is kept and sent later.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// How often words that found the queue full are tried again.
const RETRY: Duration = Duration::from_millis(100);

/// The log has one line about words that can't be sent in this time.
const REPORT_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Words that may wait. Beyond that the oldest are dropped: later ones say what is so now.
const WORDS_MAX: usize = 16;

/// See the module's text.
pub(super) struct Supervisor {
    /// `None` where there is no supervisor.
    line: Option<Line>,
    /// How often it wants a sign of life, and when it last got one.
    watchdog: Option<(Duration, Instant)>,
}

/// Where the supervisor listens.
struct Line {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Changes of state that the supervisor's queue had no room for, in order, and when the first was tried last.
    unsent: VecDeque<String>,
    tried_at: Instant,
    /// When the log had its last line about words that can't be sent. A supervisor that reads slowly makes room for one
    /// now and then, so that success alone must not allow the next line.
    reported_at: Option<Instant>,
}

impl Supervisor {
    pub(super) fn new() -> Supervisor {
        let line = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let line = Line::to(&name);
            line.inspect_err(|error| log::warn!("NOTIFY_SOCKET={}: {error}", name.display())).ok()
        });
        let period = sd_notify::watchdog_enabled().map(|patience| patience / 2).filter(|_| line.is_some());
        Supervisor { line, watchdog: period.map(|period| (period, Instant::now())) }
    }

    /// We listen. (As another process than the one that it started, where we have taken over from that.)
    pub(super) fn ready(&mut self) {
        self.announce(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())]);
    }

    /// The settings are being read again; `ready` follows.
    pub(super) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.announce(&[NotifyState::Reloading, now]),
            Err(_) => self.announce(&[NotifyState::Reloading]),
        }
    }

    /// The end has begun.
    pub(super) fn stopping(&mut self) {
        self.announce(&[NotifyState::Stopping]);
    }

    /// How long the loop may sleep.
    pub(super) fn patience(&self) -> Option<Duration> {
        let watchdog = self.watchdog.map(|(period, last)| period.saturating_sub(last.elapsed()));
        let unsent = self.line.as_ref().filter(|line| !line.unsent.is_empty());
        let retry = unsent.map(|line| RETRY.saturating_sub(line.tried_at.elapsed()));
        watchdog.into_iter().chain(retry).min()
    }

    /// The loop turns.
    pub(super) fn turned(&mut self) {
        let Some(line) = &mut self.line else { return };
        if !line.unsent.is_empty() && line.tried_at.elapsed() >= RETRY {
            line.send_unsent();
        }
        if let Some((period, last)) = &mut self.watchdog
            && last.elapsed() >= *period
        {
            *last = Instant::now();
            // A sign of life that finds no room is not kept: the next one says as much.
            let _ = line.send(&words(&[NotifyState::Watchdog]));
        }
    }

    fn announce(&mut self, state: &[NotifyState<'_>]) {
        let Some(line) = &mut self.line else { return };
        if line.unsent.len() == WORDS_MAX {
            line.unsent.pop_front();
        }
        line.unsent.push_back(words(state));
        line.send_unsent();
    }
}

impl Line {
    /// # Errors
    /// Where the name is none of a Unix socket, or no socket can be had.
    fn to(name: &OsStr) -> io::Result<Line> {
        let address = match name.as_bytes() {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            [b'@', abstract_name @ ..] => {
                use std::os::linux::net::SocketAddrExt;
                SocketAddr::from_abstract_name(abstract_name)?
            }
            bytes if bytes.is_empty() || bytes[0] == b'@' || bytes.starts_with(b"vsock:") => {
                let problem =
                    "it is neither a path nor an abstract name (@NAME): the supervisor gets no word";
                return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
            }
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let (unsent, tried_at) = (VecDeque::new(), Instant::now());
        Ok(Line { socket, address, unsent, tried_at, reported_at: None })
    }

    fn send_unsent(&mut self) {
        self.tried_at = Instant::now();
        while let Some(words) = self.unsent.pop_front() {
            let Err(error) = self.send(&words) else { continue };
            if error.kind() == io::ErrorKind::WouldBlock {
                return self.unsent.push_front(words);
            }
        }
    }

    /// Sends it, if there is room now.
    fn send(&mut self, words: &str) -> io::Result<()> {
        let outcome = self.socket.send_to_addr(words.as_bytes(), &self.address).map(drop);
        if let Err(error) = &outcome
            && self.reported_at.is_none_or(|at| at.elapsed() >= REPORT_AGAIN_AFTER)
        {
            self.reported_at = Some(Instant::now());
            log::warn!("NOTIFY_SOCKET: the supervisor does not read our notifications: {error}");
        }
        outcome
    }
}

fn words(state: &[NotifyState<'_>]) -> String {
    state.iter().map(|state| format!("{state}\n")).collect()
}
