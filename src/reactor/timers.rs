//! Time: the clock's unit, the handler's timers, and the deadlines of connections.
//!
//! A connection's deadline moves with every byte, and to move a timer costs more than the byte. So the hot path only
//! stores *when* something happened. The connection's one entry in the heap may be too early: when it comes up, the true
//! deadline is computed from the stored times, and the entry goes back in if there is time left. A million idle
//! connections cost nothing per message, and one heap operation per timeout.
//!
//! An entry belongs to the *slot*, not to its connection: it outlives the connection, and the next one in
//! the slot inherits it. So connections that come and go leave nothing behind in the heap.
//!
//! Invariant: a slot whose connection has a deadline is armed at or before that deadline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A point in time on the reactor's clock: nanoseconds since it was made. Half of an `Instant` in
/// size, and a test can make one up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(u64);

impl Moment {
    /// Later than every deadline: 584 years after the start.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// The moment `since_start` after the reactor was made.
    #[inline]
    pub fn at(since_start: Duration) -> Moment {
        // Seconds and nanoseconds apart: 64-bit arithmetic, where `as_nanos` takes 128 bits.
        let seconds = since_start.as_secs().saturating_mul(1_000_000_000);
        Moment(seconds.saturating_add(u64::from(since_start.subsec_nanos())))
    }

    /// This moment, later by `delay`; [`Moment::NEVER`] where that overflows.
    #[inline]
    pub fn after(self, delay: Duration) -> Moment {
        Moment(self.0.saturating_add(Moment::at(delay).0))
    }

    /// Nanoseconds from `earlier` to this moment, which is later.
    #[inline]
    pub(super) fn ns_since(self, earlier: Moment) -> u64 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The time from `earlier` to this moment, zero if it is not earlier.
    #[inline]
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A clock: the machine's, or one that its owner moves.
#[derive(Debug, Clone)]
pub struct Clock(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// The machine's monotonic clock, since this instant.
    Machine(Instant),
    /// Nanoseconds that the owner moves on, and how many each look at them adds.
    Told(Arc<AtomicU64>, u64),
}

impl Clock {
    /// The machine's, beginning now.
    pub fn machine() -> Clock {
        Clock(Kind::Machine(Instant::now()))
    }

    /// Returns a clock for simulations. It shows the nanoseconds in `time`, which its owner moves on. Each look at it adds
    /// `look`, as if something were done between two looks.
    pub fn manual(time: Arc<AtomicU64>, look: Duration) -> Clock {
        Clock(Kind::Told(time, Moment::at(look).0))
    }

    /// What time it is.
    #[inline]
    pub fn now(&self) -> Moment {
        match &self.0 {
            Kind::Machine(start) => Moment::at(start.elapsed()),
            Kind::Told(time, look) => Moment(time.fetch_add(*look, Ordering::Relaxed)),
        }
    }

    /// It is one for simulations.
    pub(super) fn is_manual(&self) -> bool {
        matches!(self.0, Kind::Told(..))
    }
}

/// A timer of the handler: its key, and which of several owners has set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// 0 where there is only one owner: see [`Board::set_timer`](super::Board::set_timer).
    pub owner: u64,
    /// The key that the owner has chosen.
    pub key: u64,
}

/// Keys in the order of their moments. A key can be in there more than once.
pub(super) struct Timers<K> {
    heap: BinaryHeap<Reverse<(Moment, K)>>,
}

impl<K: Ord + Copy> Timers<K> {
    pub(super) fn new() -> Self {
        Timers { heap: BinaryHeap::new() }
    }

    pub(super) fn set(&mut self, at: Moment, key: K) {
        self.heap.push(Reverse((at, key)));
    }

    /// When the next key comes up.
    #[inline]
    pub(super) fn next(&self) -> Moment {
        self.heap.peek().map_or(Moment::NEVER, |Reverse((at, _))| *at)
    }

    /// The next key that is due at `now`, with its moment.
    #[inline]
    pub(super) fn pop(&mut self, now: Moment) -> Option<(Moment, K)> {
        if self.next() > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

/// One entry a slot; see the module's text.
pub(super) struct Deadlines {
    timers: Timers<u32>,
    /// The moment of each slot's earliest entry; any other entry of the slot is stale.
    armed: Vec<Moment>,
}

impl Deadlines {
    pub(super) fn new() -> Self {
        Deadlines { timers: Timers::new(), armed: Vec::new() }
    }

    /// The slot is looked at no later than `at`.
    #[inline]
    pub(super) fn arm(&mut self, slot: u32, at: Moment) {
        let slot_index = slot as usize;
        if slot_index >= self.armed.len() {
            self.armed.resize(slot_index + 1, Moment::NEVER);
        }
        if at < self.armed[slot_index] {
            self.armed[slot_index] = at;
            self.timers.set(at, slot);
            // Deadlines that came forward leave stale entries; sweep before they outweigh the true ones.
            if self.timers.heap.len() > 4 * self.armed.len() + 64 {
                let armed = &self.armed;
                self.timers.heap.retain(|Reverse((at, slot))| armed[*slot as usize] == *at);
            }
        }
    }

    /// A slot whose time has come. It is disarmed: the caller arms it again if there is time left.
    pub(super) fn pop(&mut self, now: Moment) -> Option<u32> {
        loop {
            let (at, slot) = self.timers.pop(now)?;
            if self.armed[slot as usize] == at {
                self.armed[slot as usize] = Moment::NEVER;
                return Some(slot);
            }
        }
    }

    /// When the next slot comes up, or earlier (the entry may be stale).
    #[inline]
    pub(super) fn next(&self) -> Moment {
        self.timers.next()
    }

    #[cfg(test)]
    pub(super) fn armed(&self, slot: u32) -> Moment {
        self.armed.get(slot as usize).copied().unwrap_or(Moment::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(s: u64) -> Moment {
        Moment::at(Duration::from_secs(s))
    }

    #[test]
    fn moments_saturate_at_never() {
        assert_eq!(second(5).after(Duration::MAX), Moment::NEVER);
        assert_eq!(second(5).since(second(7)), Duration::ZERO);
        assert_eq!(second(5).after(Duration::from_millis(1)).since(second(5)), Duration::from_millis(1));
    }

    #[test]
    fn an_entry_that_came_forward_is_seen_once() {
        let mut deadlines = Deadlines::new();
        deadlines.arm(3, second(60));
        deadlines.arm(3, second(10));
        deadlines.arm(3, second(30)); // later than what is armed: nothing to do
        assert_eq!(deadlines.pop(second(9)), None);
        assert_eq!(deadlines.pop(second(10)), Some(3));
        assert_eq!(deadlines.pop(second(100)), None);
    }

    #[test]
    fn connections_that_come_and_go_leave_the_heap_as_it_was() {
        let mut deadlines = Deadlines::new();
        for now in 0..100_000 {
            deadlines.arm(now % 8, second(u64::from(now) + 60));
        }
        assert_eq!(deadlines.timers.heap.len(), 8);
    }

    #[test]
    fn stale_entries_are_swept() {
        let mut deadlines = Deadlines::new();
        for now in (1..10_000).rev() {
            deadlines.arm(0, second(now));
        }
        assert!(deadlines.timers.heap.len() < 100);
        assert_eq!(deadlines.pop(second(1)), Some(0));
        assert_eq!(deadlines.pop(second(20_000)), None);
    }
}
