//! Before the first byte: a connect that has still to succeed, a header of a proxy, a TLS handshake.

use std::io;

use super::board::lookup;
use super::connection::Readiness;
use super::ending::CloseReason;
use super::handler::{BoardOf, Handler, Transport};
use super::listener::{Hold, Listener, resume_unless_by_owner};
use super::token::Peer;

/// Takes a new connection a step towards being open. A handshake takes computing, so those have a budget for each turn.
pub(super) fn step_handshake<H: Handler>(
    handler: &mut H,
    board: &mut BoardOf<H>,
    listeners: &mut [Listener<<H::Transport as Transport>::Listener>],
    peer: Peer,
) {
    let Some(connection) = lookup(&mut board.connections, peer) else { return };
    if !connection.transport.has_handshake() {
        return establish(handler, board, listeners, peer);
    }
    if board.handshakes_left == 0 {
        return board.enqueue(peer);
    }
    board.handshakes_left -= 1;
    let began = board.has_clock.then(|| board.clock());
    establish(handler, board, listeners, peer);
    if let Some(began) = began {
        let left = board.handshake_time_left.saturating_sub(board.clock().since(began));
        board.handshake_time_left = left;
        if left.is_zero() {
            board.handshakes_left = 0;
        }
    }
}

/// Asks a new connection whether bytes can flow, and tells the handler when they can.
#[inline(never)]
fn establish<H: Handler>(
    handler: &mut H,
    board: &mut BoardOf<H>,
    listeners: &mut [Listener<<H::Transport as Transport>::Listener>],
    peer: Peer,
) {
    let Some(connection) = lookup(&mut board.connections, peer) else { return };
    let introduced = match connection.transport.introduce().transpose() {
        None => Ok(()),
        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        Some(introduction) => {
            let heard = introduction.as_ref();
            if !handler.on_introduced(&mut connection.state, heard, board.now) {
                return board.close_because(peer, CloseReason::Refused);
            }
            introduction.map(drop)
        }
    };
    match introduced.and_then(|()| connection.transport.establish()) {
        Ok(()) => {
            connection.open();
            if connection.transport.has_handshake() {
                // It may have read on, into the first message: bytes that it holds raise no event, and the one that
                // told of them is dropped where they had left the socket before the poll looked.
                connection.latch(Readiness::READABLE);
            }
            connection.received_at = board.now;
            let ((at, _), index) = (connection.deadline(), connection.listener as usize);
            board.deadlines.arm(peer.slot, at);
            if let Some(listener) = listeners.get_mut(index) {
                listener.handshakes -= 1;
                if listener.hold == Hold::Handshakes {
                    resume_unless_by_owner(board, index, listener);
                }
            }
            handler.on_open(board, peer);
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && !board.draining => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            board.close_because(peer, CloseReason::Drained);
        }
        Err(error) => board.close_because(peer, CloseReason::Unestablished(error.kind())),
    }
}
