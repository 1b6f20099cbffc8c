//! The terminal that a server was started in: whether SIGHUP came because it was closed.
//!
//! The kernel sends SIGHUP to a terminal's processes when it goes, and an operator sends it to have settings read again.
//! The signal does not say which of the two it was; the descriptors do.

use std::io::{self, IsTerminal};

pub(super) struct Terminal {
    /// A descriptor was a terminal's at the start, and SIGHUP was not ignored, as nohup(1) has it.
    was_there: bool,
}

/// Whether this process ignores SIGHUP, as nohup(1) has it. Call it before SIGHUP gets a handler: that hides it.
pub(crate) fn hangup_is_ignored() -> bool {
    // A bit for each signal; SIGHUP is the first.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0) & 1 != 0
}

impl Terminal {
    /// Call it before SIGHUP gets a handler: that hides whether it was ignored.
    pub(super) fn at_start() -> Terminal {
        Terminal { was_there: Terminal::is_there() && !hangup_is_ignored() }
    }

    /// Whether it was there and was closed since.
    pub(super) fn is_closed(&self) -> bool {
        self.was_there && !Terminal::is_there()
    }

    /// Descriptors of a terminal that was closed are none of a terminal any more: each request to it fails with EIO.
    fn is_there() -> bool {
        io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
    }
}
