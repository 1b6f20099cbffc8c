//! How it comes to an end: of one direction, of one connection, and of all.
//!
//! A stop is graceful: what has arrived is served, and what waits in the outboxes is delivered. [`Reactor::cut`] is not.
//!
//! Invariant: a connection that is marked closed stands in `Board::closed`, once, until [`Reactor::reap`] has freed it and
//! called `on_close`.

use std::mem;

use super::Reactor;
use super::board::KEPT_ENTRIES;
use super::buffer::Buffer;
use super::connection::Half;
use super::ending::CloseReason;
use super::handler::{BoardOf, Handler};
use super::listener::{Hold, resume_unless_by_owner};
use super::token::Peer;

/// After as many closed connections have been freed, the clock is looked at: closing a socket takes microseconds, and
/// thousands of peers can go at once.
pub(super) const CLOCK_EVERY_CLOSED: usize = 64;

impl<H: Handler> Reactor<H> {
    /// Begins a stop. Listeners close. For every connection, what has arrived by now (up to one budget) is served, the outbox is
    /// delivered, and it is finished. Call `turn` until [`Board::connections`](super::Board::connections) is 0.
    ///
    /// Connections in the listeners' backlogs are accepted first: their peers see them as established.
    pub fn drain(&mut self) {
        if self.board.draining {
            return;
        }
        self.board.draining = true;
        for index in 0..self.listeners.len() {
            self.unlisten(index, false);
        }
        let peers: Vec<Peer> =
            self.board.connections.iter().filter_map(|(_, connection)| connection.peer).collect();
        peers.into_iter().for_each(|peer| self.board.enqueue(peer));
    }

    /// Closes every connection now.
    pub fn cut(&mut self) {
        let peers: Vec<Peer> =
            self.board.connections.iter().filter_map(|(_, connection)| connection.peer).collect();
        for peer in peers {
            if let Some(connection) = self.board.get_mut(peer) {
                connection.reason = Some(CloseReason::Cut); // whatever had begun, this is how it ends
            }
            self.board.close_because(peer, CloseReason::Cut);
        }
        while !self.board.closed.is_empty() {
            self.reap();
        }
    }

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
            if listener.hold != Hold::No {
                resume_unless_by_owner(&mut self.board, index, listener);
            }
        }
    }
}

/// Everything that arrived before the peer's end of file, or before a stop, has been served: calls `on_finish` or `on_stop`.
pub(super) fn finish_reading<H: Handler>(
    handler: &mut H,
    board: &mut BoardOf<H>,
    peer: Peer,
    inbox: &mut Buffer,
) {
    let connection = &mut board.connections[peer.slot as usize];
    connection.reading = Half::Finished;
    if !board.draining {
        return match connection.reason {
            Some(CloseReason::Truncated) => board.finish_because(peer, CloseReason::Truncated), // the rest is no message
            _ => handler.on_finish(board, peer, inbox),
        };
    }
    if connection.peer_finished && connection.reason != Some(CloseReason::Truncated) {
        handler.on_finish(board, peer, inbox); // what is left may be its last message
    }
    if board.get(peer).is_none_or(|connection| connection.writing != Half::Open) {
        return; // it is ending already
    }
    if !handler.on_stop(board, peer) {
        let connection = &mut board.connections[peer.slot as usize];
        match connection.peer_finished {
            true => board.finish_because(peer, CloseReason::Drained),
            false => connection.reading = Half::Open,
        }
    }
}
