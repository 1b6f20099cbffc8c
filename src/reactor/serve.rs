//! The path of one byte. Every connection takes it, whatever queued the connection. It ends in [`reschedule`], which decides
//! what comes next.

use std::io;
use std::mem;

use super::Reactor;
use super::board::{Board, lookup};
use super::buffer::{Buffer, Spares};
use super::connection::{Connection, Half, LastRead, Pressure, Stage};
use super::ending::CloseReason;
use super::handler::{BoardOf, Handler};
use super::stopping::finish_reading;
use super::token::Peer;
use super::transport::Transport;

impl<H: Handler> Reactor<H> {
    /// The path of one byte: from the socket to the inbox, to the handler, to the outbox, to the socket.
    ///
    /// The reply is written here and not in the flush phase: the buffers are still in the cache, and are free again before the
    /// next connection needs some. With 16 connections that echo 64 KiB, one warm block is in use instead of 16 cold ones.
    /// What others are sent (a broadcast) waits for the flush phase, so that each gets one write per turn.
    pub(super) fn serve_connection(&mut self, peer: Peer) {
        let Reactor { board, handler, inbox, .. } = self;
        let Some(mut connection) = lookup(&mut board.connections, peer) else { return };
        connection.queued = false;
        board.share.renew();
        // Messages that waited for this turn come before anything more is read.
        let some_waited = mem::take(&mut connection.unserved);
        let last_read = match board.draining {
            true => connection.prepare_last_read(some_waited),
            false => LastRead::No,
        };

        // From the socket to the inbox.
        let mut starts_new = connection.inbox.is_empty();
        inbox.take_from(&mut connection.inbox, &mut board.spares);
        let mut outcome = Ok(());
        if some_waited {
            // Nothing is read: older messages come first.
        } else if connection.can_fill() {
            let (count, filled) = connection.fill(inbox, &mut board.spares, board.now);
            if count > 0 {
                connection.received_at = board.now;
                board.counters.bytes_in += count as u64;
            }
            outcome = filled;
        } else if connection.can_discard() {
            let (count, discarded) = connection.discard(inbox, &mut board.spares);
            board.counters.bytes_in += count as u64;
            outcome = discarded;
        }
        connection.finish_last_read(last_read);

        // To the handler. After a callback, which may have closed this very connection, it is looked up again. Its slot
        // stays: only `reap` frees slots.
        if !inbox.is_empty() && connection.can_serve() {
            // While this flag is set, `Board::outbox` does not put the connection into `to_flush`: its own replies are written
            // below. (If it stands in that list already, it keeps its one place there.)
            let was_arranged = mem::replace(&mut connection.flush_is_arranged, true);
            let waited = inbox.len();
            handler.on_bytes(board, peer, inbox);
            starts_new |= inbox.len() < waited;
            board.connections[peer.slot as usize].flush_is_arranged = was_arranged;
        }
        connection = &mut board.connections[peer.slot as usize];
        connection.unserved = mem::take(&mut board.share.is_spent) && !inbox.is_empty();
        connection.adapt_read_size();

        // The end of reading.
        let all_is_served = connection.stage == Stage::Open && !connection.must_wait();
        if all_is_served && connection.reading == Half::Finishing {
            finish_reading(handler, board, peer, inbox);
            connection = &mut board.connections[peer.slot as usize];
        }

        // What the handler left, and its replies.
        if !inbox.is_empty() {
            put_back(inbox, connection, &mut board.spares);
            connection.note_unfinished_message(starts_new, board.now);
        }
        inbox.reset(&mut board.spares);
        if connection.stage == Stage::Closed {
            return;
        }
        let (count, written) = connection.write_outbox(board.now, &mut board.spares);
        board.counters.bytes_out += count as u64;
        // The error of the read comes last: what was read before it has been served like all else.
        reschedule(handler, board, peer, written.and(outcome));
    }
}

/// What the handler left stays with the connection: the beginning of a message, or messages that must
/// wait for the outbox to drain.
#[inline(never)]
fn put_back<T: Transport, S>(inbox: &mut Buffer, connection: &mut Connection<T, S>, spares: &mut Spares) {
    if connection.reading == Half::Finished || connection.stage == Stage::Closed {
        return; // the handler gets nothing more
    }
    connection.inbox.take_from(inbox, spares);
    if connection.inbox.len() >= connection.limits.inbox_bytes_max && !connection.must_wait() {
        // The inbox is full and holds no whole message. The handler's own limit should have ended it earlier.
        connection.reason = Some(CloseReason::InboxFull);
        connection.reading = Half::Finished;
        connection.inbox.clear();
        connection.inbox.recycle(spares);
        connection.end_writing();
    }
}

/// Decides what comes next for a connection that has been served or written to: its end, a deadline, or another turn. If its
/// outbox has drained, `on_drain` is called, and what the handler then sends is written at once, while it is warm in the cache: a file
/// that is sent in slices needs one block of memory, and not one for each connection.
#[inline(never)]
pub(super) fn reschedule<H: Handler>(
    handler: &mut H,
    board: &mut BoardOf<H>,
    peer: Peer,
    outcome: io::Result<()>,
) {
    if !plan_next(board, peer, outcome) {
        return;
    }
    let connection = &mut board.connections[peer.slot as usize];
    connection.pressure = Pressure::Relaxed;
    let was_arranged = mem::replace(&mut connection.flush_is_arranged, true);
    handler.on_drain(board, peer);
    let connection = &mut board.connections[peer.slot as usize]; // only `reap` frees slots
    connection.flush_is_arranged = was_arranged;
    if connection.stage == Stage::Closed {
        return;
    }
    let (count, outcome) = connection.write_outbox(board.now, &mut board.spares);
    board.counters.bytes_out += count as u64;
    if plan_next(board, peer, outcome) {
        board.enqueue_behind(peer); // `on_drain` is due once more; serving it in the next turn leads here again
    }
}

/// The same without the handler. Returns whether `on_drain` is due.
fn plan_next<T: Transport, S>(board: &mut Board<T, S>, peer: Peer, outcome: io::Result<()>) -> bool {
    let Some(connection) = lookup(&mut board.connections, peer) else { return false };
    if let Err(error) = outcome {
        board.close_because(peer, CloseReason::of(&error));
        return false;
    }
    if connection.pressure == Pressure::Overflow {
        board.close_because(peer, CloseReason::SlowReader);
        return false;
    }
    if connection.is_over() {
        let reason = connection.reason.unwrap_or(CloseReason::Finished);
        board.close_because(peer, reason);
        return false;
    }
    let is_waiting = connection.owes_bytes() || !connection.inbox.is_empty();
    if connection.writing != Half::Open || is_waiting || connection.meter.is_paused() {
        board.deadlines.arm(peer.slot, connection.look_at());
    }
    let drained = connection.pressure == Pressure::DrainOwed
        && connection.outbox.len() <= connection.limits.outbox_bytes_low();
    // Work that no event will tell us of: the budget is spent and the latch still set, messages wait for the
    // next turn, or what the outbox had held up can go on.
    let has_something_to_serve = !connection.inbox.is_empty() || connection.reading == Half::Finishing;
    let goes_on = connection.unserved || (drained && has_something_to_serve);
    if connection.can_fill() || connection.can_discard() || goes_on {
        board.enqueue_behind(peer);
    }
    let connection = &mut board.connections[peer.slot as usize];
    if drained && connection.writing != Half::Open {
        connection.pressure = Pressure::Relaxed; // nothing more can be sent: the handler is not asked for more
        return false;
    }
    drained
}
