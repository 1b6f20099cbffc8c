//! Deadlines: connections that were silent, slow or late for too long are read once more, and end.

use super::Reactor;
use super::board::lookup;
use super::connection::Half;
use super::ending::CloseReason;
use super::handler::{BoardOf, Handler};
use super::listener::{Pause, resume_unless_by_owner};
use super::readiness::Readiness;
use super::token::Peer;

impl<H: Handler> Reactor<H> {
    /// Looks at the connections whose deadline may have come, and at listeners that paused because the system had no
    /// descriptor left. At most `timers_per_turn` of the connections: the others are due in the next turn as well.
    pub(super) fn expire(&mut self) {
        let Reactor { board, handler, listeners, .. } = self;
        let now = board.now;
        for _ in 0..board.limits.timers_per_turn {
            let Some(slot) = board.deadlines.pop(now) else { break };
            // The entry is the slot's. Its connection may be gone, or be closed and wait for `reap`.
            if let Some(peer) = board.connections.get(slot as usize).and_then(|connection| connection.peer) {
                expire_connection(handler, board, peer);
            }
        }
        for (index, listener) in listeners.iter_mut().enumerate() {
            if matches!(listener.pause, Pause::Starved(until) if until <= now) {
                resume_unless_by_owner(board, index, listener);
            }
        }
    }

    /// Decides about a connection that has just been served because its deadline had come. Called directly after the read and
    /// the write: only then does a deadline that has not moved prove that nothing was there.
    pub(super) fn end_last_look(&mut self, peer: Peer) {
        let Reactor { board, handler, .. } = self;
        let Some(connection) = lookup(&mut board.connections, peer) else { return };
        if !connection.on_last_look || connection.queued {
            return;
        }
        connection.on_last_look = false;
        if connection.deadline().0 > board.now {
            return board.deadlines.arm(peer.slot, connection.next_look_at(board.now));
        }
        end_overdue(handler, board, peer);
    }
}

/// The connection's entry among the deadlines has come up: its deadline may have come, or its pause may be over.
#[inline(never)]
fn expire_connection<H: Handler>(handler: &mut H, board: &mut BoardOf<H>, peer: Peer) {
    let now = board.now;
    let Some(connection) = lookup(&mut board.connections, peer) else { return };
    // First: what came during a pause that is over was not late.
    if connection.end_pause_if_over(now) {
        board.enqueue(peer);
    }
    let Some(connection) = lookup(&mut board.connections, peer) else { return };
    if connection.deadline().0 > now {
        return board.deadlines.arm(peer.slot, connection.next_look_at(now));
    }
    if connection.lingers() {
        return end_overdue(handler, board, peer);
    }
    // After a gap in time (a process that was stopped, a machine that was paused, a long turn) the events of what came
    // meanwhile may still be on their way. So a connection is closed for its silence only when a read and a write,
    // tried after its deadline, have shown that it is silent: see [`Reactor::end_last_look`].
    connection.on_last_look = true;
    connection.latch(Readiness::READABLE.union(Readiness::WRITABLE).union(Readiness::EXCEPTIONAL));
    board.enqueue(peer);
}

/// The deadline has passed, and nothing came: ends the connection or its message, unless the handler wants it to stay.
fn end_overdue<H: Handler>(handler: &mut H, board: &mut BoardOf<H>, peer: Peer) {
    let now = board.now;
    let Some(connection) = lookup(&mut board.connections, peer) else { return };
    match connection.deadline().1 {
        CloseReason::MessageTimeout if connection.reading == Half::Open => {
            connection.inbox.clear();
            connection.inbox.recycle(&mut board.spares);
            handler.on_overdue(board, peer); // it ends, and is written to in the flush phase
        }
        CloseReason::Idle => {
            if !handler.on_idle(board, peer) {
                return board.close_because(peer, CloseReason::Idle);
            }
            // Its next `idle_after` begins now. (When a ping has been written, it begins once more: see `write_outbox`.)
            if let Some(connection) = board.get_mut(peer) {
                connection.waiting_since = now;
            }
        }
        reason => return board.close_because(peer, reason),
    }
    if let Some(connection) = lookup(&mut board.connections, peer) {
        board.deadlines.arm(peer.slot, connection.next_look_at(now));
    }
}
