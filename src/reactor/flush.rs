//! The flush phase: writes what handlers sent to other connections than the one that was served.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use super::board::lookup;
use super::connection::Stage;
use super::handler::Handler;
use super::serve::reschedule;
use super::timers::Moment;
use super::token::Peer;
use super::{CLOCK_EVERY, Reactor, receive};

/// A slice of a batch of outboxes ends after this many writes, or after this time, whichever comes first: half a
/// millisecond is what 64 to 128 short writes take. At most two slices are written in a turn.
pub(super) const SLICE_WRITES: usize = 64;
const SLICE_TIME: Duration = Duration::from_micros(500);

/// Rests of batches that take turns, beside the one whose slice is being written. With more of them, each would wait for all
/// others: the rest of a later one joins the newest.
const BATCHES_MAX: usize = 3;

impl<H: Handler> Reactor<H> {
    /// Writes everything that waits to be written now, and not in the next turns: for the loop's owner, between two turns.
    pub fn write_all_now(&mut self) {
        while let Some(batch) = self.unwritten.pop_front() {
            batch.into_iter().for_each(|peer| self.write_out(peer));
        }
        let mut fresh = mem::take(&mut self.spare_peers);
        mem::swap(&mut fresh, &mut self.board.to_flush);
        fresh.drain(..).for_each(|peer| self.write_out(peer));
        self.spare_peers = fresh; // its memory serves again
    }

    /// Writes what handlers sent to others than the one they served.
    ///
    /// The outboxes that were filled since the last flush are a batch. One slice of it is written, and one slice of what
    /// earlier batches left; the rest goes on in the next turn, behind the events. So a post to 9,000 members
    /// of a room holds up another connection for a millisecond, and not for the 50 that all the writes take. No
    /// byte overtakes another: what a member is sent meanwhile stands in the same outbox, behind.
    pub(super) fn flush(&mut self) {
        if self.board.to_flush.is_empty() && self.unwritten.is_empty() {
            return;
        }
        let mut fresh = mem::take(&mut self.spare_peers);
        mem::swap(&mut fresh, &mut self.board.to_flush);
        let older = self.unwritten.pop_front();
        let mut fresh = VecDeque::from(fresh);
        self.write_slice(&mut fresh);
        match fresh.is_empty() {
            true => self.spare_peers = fresh.into(), // its memory serves again
            false => self.keep_rest(fresh),
        }
        if let Some(mut older) = older {
            self.write_slice(&mut older);
            if !older.is_empty() {
                self.unwritten.push_back(older);
            }
        }
    }

    /// Keeps what is left of a batch for the next turns.
    fn keep_rest(&mut self, mut rest: VecDeque<Peer>) {
        let is_full = self.unwritten.len() >= BATCHES_MAX;
        match self.unwritten.back_mut().filter(|_| is_full) {
            Some(newest) => newest.append(&mut rest),
            None => self.unwritten.push_back(rest),
        }
    }

    /// Writes the first outboxes of the batch, up to the end of the slice.
    fn write_slice(&mut self, batch: &mut VecDeque<Peer>) {
        // Where the caller of the turn names the time, there is no clock to look at: only the writes are counted.
        let ends = if self.board.time_runs && batch.len() > CLOCK_EVERY {
            self.clock().after(SLICE_TIME)
        } else {
            Moment::NEVER
        };
        for written in 0..SLICE_WRITES {
            let Some(peer) = batch.pop_front() else { return };
            self.fire_due_now(written);
            self.write_out(peer);
            if written % CLOCK_EVERY == CLOCK_EVERY - 1 && ends != Moment::NEVER && self.clock() >= ends {
                return;
            }
        }
    }

    fn write_out(&mut self, peer: Peer) {
        let Reactor { board, handler, .. } = self;
        let Some(connection) = lookup(&mut board.connections, peer) else { return };
        connection.flush_is_arranged = false;
        if connection.stage == Stage::Opening {
            return; // it is written when bytes can flow
        }
        let (count, outcome) = connection.write_outbox(board.now, &mut board.spares);
        board.counters.bytes_out += count as u64;
        if outcome.is_err() || !connection.is_at_rest() {
            reschedule(handler, board, peer, outcome);
        }
    }

    /// Fires the timers that came due during this turn, and writes what they sent: at most [`SLICE_WRITES`] outboxes. A turn can
    /// be long, for example when a room of thousands gets a message, and the ticks of a game must not wait for its end. (Beside
    /// a thousand members that got 200 messages a second, the ticks of 200 players were 5 ms late at the 99th percentile without
    /// this, and 1 ms with it: `cargo bench --bench relay`.)
    #[cold]
    #[inline(never)]
    pub(super) fn fire_due_now(&mut self, done: usize) {
        if done % CLOCK_EVERY != CLOCK_EVERY - 1 || !self.board.time_runs {
            return;
        }
        let now = self.clock();
        if self.board.timers.next() > now {
            return;
        }
        // The next timer counts from here. Counted from the turn's beginning, it could be due at once.
        self.board.now = now;
        // Other writes wait.
        let others = mem::take(&mut self.board.to_flush);
        for _ in 0..self.board.limits.timers_per_turn {
            let Some((_, timer)) = self.board.timers.pop(now) else { break };
            self.handler.on_timer(&mut self.board, timer);
        }
        let mut sent = VecDeque::from(mem::replace(&mut self.board.to_flush, others));
        for _ in 0..SLICE_WRITES.min(sent.len()) {
            sent.pop_front().into_iter().for_each(|peer| self.write_out(peer));
        }
        if !sent.is_empty() {
            self.keep_rest(sent);
        }
        receive::flush_all(&mut self.board);
    }
}
