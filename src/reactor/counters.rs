//! What one turn did, and what happened since the reactor was made.

use std::time::Duration;

use super::ending::CloseReason;

/// What one turn did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Events that the kernel reported.
    pub events: usize,
    /// Bytes received, and sent, in this turn.
    pub bytes_in: u64,
    /// See `bytes_in`.
    pub bytes_out: u64,
    /// Time from the end of the last turn to the return of the poll.
    pub waited: Duration,
    /// Time from there to the end of this turn.
    pub worked: Duration,
    /// The source given to [`Reactor::watch_signals`](super::Reactor::watch_signals) is readable.
    pub signalled: bool,
    /// The handler asked for a stop: see [`Board::shutdown`](super::Board::shutdown).
    pub shutdown: bool,
}

/// What happened since the reactor was made.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Connections that a listener accepted and the handler admitted.
    pub accepted: u64,
    /// Connections that the handler refused.
    pub refused: u64,
    /// Connections that we opened ourselves, or adopted.
    pub connected: u64,
    /// Connections that ended, by [`CloseReason::row`].
    pub closed: [u64; CloseReason::COUNT],
    /// Bytes read from and written to connections, and received and sent in datagrams.
    pub bytes_in: u64,
    /// See `bytes_in`.
    pub bytes_out: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams that were not sent: the socket's buffer was full, or the address unreachable.
    pub datagrams_dropped: u64,
    /// Passes of the loop.
    pub turns: u64,
    /// Events that the kernel reported.
    pub events: u64,
    /// The longest that one turn worked, not counting its wait.
    pub busiest_turn_ns: u64,
    /// Work of all turns together.
    pub worked_ns: u64,
    /// Turns by how long they worked: up to [`Counters::turn_bound`] of the index, and the rest.
    pub turn_times: [u64; Counters::TURN_TIMES],
    /// Spells in which accepting had to wait for a descriptor, memory or a free slot.
    pub accept_pauses: u64,
}

impl Counters {
    /// The number of classes into which turns are divided, by powers of two.
    pub const TURN_TIMES: usize = 18;

    /// Turns in this class worked for less: 8.192 us, and twice as long in each that follows. The last one has no bound.
    pub fn turn_bound(class: usize) -> Option<Duration> {
        (class + 1 < Counters::TURN_TIMES).then(|| Duration::from_nanos(1 << (class + 13)))
    }

    #[inline]
    pub(super) fn count_turn(&mut self, events: usize, worked_ns: u64) {
        self.turns += 1;
        self.events += events as u64;
        self.busiest_turn_ns = self.busiest_turn_ns.max(worked_ns);
        self.worked_ns = self.worked_ns.wrapping_add(worked_ns);
        let class = (worked_ns >> 13 | 1).ilog2() as usize + usize::from(worked_ns >= 1 << 13);
        self.turn_times[class.min(Counters::TURN_TIMES - 1)] += 1;
    }
}
