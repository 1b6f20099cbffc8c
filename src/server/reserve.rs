//! A reserve of descriptors, for what must work when connections and files have taken all others: to read settings again,
//! to bind a new listener, to accept an heir.
//!
//! The descriptors are held by copies of standard input, which cost nothing else. They are let go for a moment, and taken
//! back when they are free again.
//!
//! Invariant: none of them is ever used for what it is a copy of.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};

/// What a reload may need at a time: a file, the sockets of a name resolver, new listeners, an access log.
pub(crate) const RESERVED: usize = 12;

/// How often taking them back is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// See the module's text.
pub(super) struct Reserve {
    held: Vec<OwnedFd>,
    /// They are in use.
    is_lent: bool,
    tried_at: Instant,
}

impl Reserve {
    pub(super) fn new() -> Reserve {
        let mut reserve =
            Reserve { held: Vec::with_capacity(RESERVED), is_lent: true, tried_at: Instant::now() };
        reserve.refill();
        reserve
    }

    /// Closes the reserved descriptors, so that as many others can be opened.
    pub(super) fn lend(&mut self) {
        self.held.clear();
        self.is_lent = true;
    }

    /// Opens as many of the reserved descriptors again as are free; the others later.
    pub(super) fn refill(&mut self) {
        self.is_lent = false;
        self.tried_at = Instant::now();
        while self.held.len() < RESERVED {
            match io::stdin().as_fd().try_clone_to_owned() {
                Ok(copy) => self.held.push(copy),
                Err(_) => return,
            }
        }
    }

    /// The loop turns.
    pub(super) fn turned(&mut self) {
        if self.held.len() < RESERVED && !self.is_lent && self.tried_at.elapsed() >= RETRY {
            self.refill();
        }
    }

    /// Whether hardly more are free than these: connections that are accepted now would take them. (Descriptors are given
    /// out from the lowest number, so the next number says how many are taken.)
    pub(super) fn is_scarce(&self) -> bool {
        // (rustix's getrlimit panics where a sandbox forbids the call.)
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        match io::stdin().as_fd().try_clone_to_owned() {
            Ok(next) => next.as_raw_fd() as u64 + 4 * RESERVED as u64 > limit,
            Err(_) => true,
        }
    }
}
