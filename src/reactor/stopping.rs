//! A stop: of the loop, and of the reading of one connection.
//!
//! A stop is graceful: what has arrived is served, and what waits in the outboxes is delivered. [`Reactor::cut`] is not.

use super::Reactor;
use super::buffer::Buffer;
use super::connection::Half;
use super::ending::CloseReason;
use super::handler::{BoardOf, Handler};
use super::token::Peer;

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
