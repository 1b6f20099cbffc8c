//! The reap phase: frees the connections that were closed in this turn.
//!
//! Invariant: a connection that is marked closed stands in `Board::closed`, once, until [`Reactor::reap`] has freed it and
//! called `on_close`.

use std::mem;

use super::Reactor;
use super::board::KEPT_ENTRIES;
use super::handler::Handler;
use super::listener::{Pause, resume_unless_by_owner};

/// After as many closed connections have been freed, the clock is looked at: closing a socket takes microseconds, and
/// thousands of peers can go at once.
pub(super) const CLOCK_EVERY_CLOSED: usize = 64;

impl<H: Handler> Reactor<H> {
    /// Frees what was marked closed. From here on its slot may be used again. Where thousands went at once, it takes
    /// several turns.
    #[inline(never)]
    pub(super) fn reap(&mut self) {
        if self.board.descriptors.were_returned() {
            self.resume_listeners();
        }
        if self.board.closed.is_empty() {
            return;
        }
        let ends = self.clock().after(self.board.limits.serve_time_per_turn);
        let Reactor { board, handler, listeners, .. } = self;
        let mut peers = mem::take(&mut self.spare_peers);
        mem::swap(&mut peers, &mut board.closed);
        let mut freed = 0;
        for peer in &peers {
            let is_late = || board.clock.now() >= ends;
            if freed % CLOCK_EVERY_CLOSED == CLOCK_EVERY_CLOSED - 1 && board.time_runs && is_late() {
                break;
            }
            freed += 1;
            let mut connection = board.connections.remove(peer.slot as usize);
            for buffer in [&mut connection.inbox, &mut connection.outbox] {
                buffer.clear();
                buffer.recycle(&mut board.spares);
            }
            let reason = connection.reason.expect("`close_because` has set it");
            board.counters.closed[reason.row()] += 1;
            if let Some(listener) = listeners.get_mut(connection.listener as usize) {
                listener.connections -= 1;
                listener.handshakes -= usize::from(!connection.established);
            }
            let (transport, state) = connection.into_parts();
            // Closing takes the descriptor out of the poll: no deregistration, one syscall less.
            drop(transport);
            handler.on_close(board, *peer, state, reason);
        }
        peers.drain(..freed);
        board.closed.splice(..0, peers.drain(..)); // the rest comes first in the next turn
        if board.shrink() {
            peers.shrink_to(KEPT_ENTRIES);
        }
        self.spare_peers = peers;
        self.resume_listeners();
    }

    /// There may be a place or a descriptor for which a listener waits.
    fn resume_listeners(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.pause != Pause::No {
                resume_unless_by_owner(&mut self.board, index, listener);
            }
        }
    }
}
