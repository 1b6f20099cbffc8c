//! Refusals in the log: at most a fixed number a second are written, and the rest are counted.
//!
//! Who is flooded wants to know by whom, and does not want the log to be the flood's second victim.

use std::fmt::Display;
use std::time::Duration;

use crate::guard::Reason;

/// Lines a second.
pub(super) const LINES_PER_S: u32 = 10;

#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The second that is running, and the lines that were written in it.
    second: u64,
    lines: u32,
    /// Refusals that were not written, since the last line.
    hushed: u64,
}

impl Refusals {
    /// Somebody was refused.
    #[cold]
    pub(super) fn log(&mut self, who: impl Display, reason: Reason, now: Duration) {
        match self.line(now) {
            None => {}
            Some(0) => log::info!("{who} refused: {}", reason.name()),
            Some(hushed) => log::info!("{who} refused: {}; {hushed} more were not logged", reason.name()),
        }
    }

    /// Whether there is a line for one more; and for how many there was none since the last.
    fn line(&mut self, now: Duration) -> Option<u64> {
        if now.as_secs() != self.second {
            (self.second, self.lines) = (now.as_secs(), 0);
        }
        if self.lines == LINES_PER_S {
            self.hushed += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.hushed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_and_the_next_one_says_how_many_were_left_out() {
        let mut refusals = Refusals::default();
        let at = Duration::from_millis;
        for number in 0..LINES_PER_S {
            assert_eq!(refusals.line(at(7_000 + u64::from(number))), Some(0));
        }
        for _ in 0..500 {
            assert_eq!(refusals.line(at(7_999)), None);
        }
        assert_eq!(refusals.line(at(8_000)), Some(500));
        assert_eq!(refusals.line(at(8_001)), Some(0));
        assert_eq!(refusals.line(at(60_000)), Some(0));
    }
}
