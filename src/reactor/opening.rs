//! Before the first byte: a connect that has still to succeed, a header of a proxy, a TLS handshake.

use std::io;

use super::board::lookup;
use super::connection::Connection;
use super::ending::CloseReason;
use super::handler::{BoardOf, Handler};
use super::listener::{Listener, Pause, resume_unless_by_owner};
use super::readiness::Readiness;
use super::token::Peer;
use super::transport::{Opening, Transport};
use super::{CLOCK_EVERY, Reactor};

impl<H: Handler> Reactor<H> {
    /// Takes each connection in `opening` a step further. One that opens here is served in the same turn.
    ///
    /// A handshake takes computing, so handshakes have a budget of their own (`handshakes_per_turn`,
    /// `handshake_time_per_turn`). Those beyond it wait for the next turn. When the turn's time is over, all
    /// others wait as well.
    pub(super) fn establish(&mut self) {
        let mut handshakes = self.board.limits.handshakes_per_turn;
        let mut time_left = self.board.limits.handshake_time_per_turn;
        let ends = self.began.after(self.board.limits.serve_time_per_turn);
        for stepped in 0..self.board.opening.len() {
            if stepped % CLOCK_EVERY == CLOCK_EVERY - 1 && self.board.time_runs && self.clock() >= ends {
                return;
            }
            let Reactor { board, handler, listeners, .. } = self;
            let Some(peer) = board.opening.pop_front() else { return };
            let Some(connection) = lookup(&mut board.connections, peer) else { continue };
            let computes = connection.transport.has_handshake();
            if computes && (handshakes == 0 || time_left.is_zero()) {
                board.opening.push_back(peer);
                continue;
            }
            connection.queued = false;
            let began = (computes && board.time_runs).then(|| board.clock());
            step(handler, board, listeners, peer);
            handshakes -= usize::from(computes);
            if let Some(began) = began {
                time_left = time_left.saturating_sub(board.clock().since(began));
            }
            self.end_last_look(peer);
        }
    }
}

/// Takes one connection a step further, and has the handler vet that.
#[inline(never)]
fn step<H: Handler>(
    handler: &mut H,
    board: &mut BoardOf<H>,
    listeners: &mut [Listener<<H::Transport as Transport>::Listener>],
    peer: Peer,
) {
    let Some(connection) = lookup(&mut board.connections, peer) else { return };
    let Connection { transport, state, .. } = connection;
    let step = transport.establish();
    match &step {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            if board.draining {
                board.close_because(peer, CloseReason::Drained);
            }
            return; // its next event queues it
        }
        step if !handler.vet(state, transport, step.as_ref().copied(), board.now) => {
            return board.close_because(peer, CloseReason::Refused);
        }
        _ => {}
    }
    match step {
        Err(error) => board.close_because(peer, CloseReason::Unestablished(error.kind())),
        Ok(Opening::Step) => board.enqueue(peer), // the next step is due in the next turn
        Ok(Opening::Done) => {
            connection.open();
            if connection.transport.has_handshake() {
                // It may have read on, into the first message: bytes that it holds raise no event, and the one that
                // reported them is dropped if they had left the socket before the poll looked.
                connection.latch(Readiness::READABLE);
            }
            connection.received_at = board.now;
            let ((at, _), index) = (connection.deadline(), connection.listener as usize);
            board.deadlines.arm(peer.slot, at);
            if let Some(listener) = listeners.get_mut(index) {
                listener.handshakes -= 1;
                if listener.pause == Pause::Handshakes {
                    resume_unless_by_owner(board, index, listener);
                }
            }
            handler.on_open(board, peer);
            board.enqueue(peer); // its first bytes may be here
        }
    }
}
