//! The share of a turn that one connection has: its messages, however cheap their bytes were, cost the others a bounded time.

use std::time::Duration;

use super::limits::Limits;
use super::timers::Moment;

/// See the module's text.
#[derive(Default)]
pub(super) struct Share {
    /// Messages that may be served before the clock is looked at.
    pub(super) unchecked: usize,
    /// Messages granted so far.
    granted: usize,
    /// When the first look was: with the second message, because most turns of a connection have only one.
    began: Option<Moment>,
    /// It is used up.
    pub(super) is_spent: bool,
}

impl Share {
    /// A look at the clock costs as much as a cheap message: after the first few, it is taken with every eighth.
    const FIRST: usize = 4;
    const BETWEEN_LOOKS: usize = 8;

    /// Starts the share of the next connection, with one message granted.
    #[inline(always)]
    pub(super) fn renew(&mut self) {
        *self = Share { unchecked: 1, granted: 1, began: None, is_spent: false };
    }

    /// Allows some messages more, or none. `time` is the clock's, where there is one.
    #[cold]
    pub(super) fn extend(&mut self, limits: &Limits, time: Option<Moment>, turn_ends: Moment) {
        let began = *self.began.get_or_insert(time.unwrap_or_default());
        let late = time.is_some_and(|time| {
            time >= turn_ends
                || time >= began.after(limits.connection_time_per_turn.max(Duration::from_nanos(1)))
        });
        self.is_spent = late || self.granted >= limits.messages_per_turn;
        self.unchecked = if self.granted < Share::FIRST { 1 } else { Share::BETWEEN_LOOKS }
            .min(limits.messages_per_turn.saturating_sub(self.granted));
        self.granted += self.unchecked;
    }
}
