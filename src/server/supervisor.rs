//! The supervisor: systemd, or whoever else started us with `NOTIFY_SOCKET` (sd_notify(3)). Without one, all of
//! this does nothing.
//!
//! It is told when we listen, reload and stop; and, where it asked for it (`WATCHDOG_USEC`), twice as often as it
//! would lose patience, that the loop still turns: a loop that hangs says nothing, and is restarted.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// See the module's text.
pub(super) struct Supervisor {
    /// How often it wants to hear from us, and when it last did.
    watchdog: Option<(Duration, Instant)>,
}

impl Supervisor {
    pub(super) fn new() -> Supervisor {
        let period = sd_notify::watchdog_enabled().map(|patience| patience / 2);
        Supervisor { watchdog: period.map(|period| (period, Instant::now())) }
    }

    /// We listen. (As another process than the one that it started, where we have taken over from that.)
    pub(super) fn ready(&self) {
        tell(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())]);
    }

    /// What was said is being read anew; `ready` follows.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// How long the loop may sleep.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.watchdog.map(|(period, last)| period.saturating_sub(last.elapsed()))
    }

    /// The loop turns.
    pub(super) fn turned(&mut self) {
        if let Some((period, last)) = &mut self.watchdog
            && last.elapsed() >= *period
        {
            *last = Instant::now();
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        log::warn!("NOTIFY_SOCKET: the supervisor could not be told: {error}");
    }
}
