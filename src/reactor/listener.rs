//! Listeners: who is let in, and when accepting has to wait.
//!
//! An edge-triggered listener that stops accepting goes deaf: the edge that told of waiting connections
//! does not come again. So whoever stops keeps the latch, and says until when: a [`Hold`].
//!
//! Invariant: a listener with its latch set stands in the queue, or on hold.

use std::io;
use std::mem;
use std::time::Duration;

use super::Reactor;
use super::board::Board;
use super::connection::Readiness;
use super::handler::{Handler, Transport};
use super::timers::Moment;
use super::token::Source;

/// How long accepting rests when the process is out of descriptors or memory. The next closed
/// connection ends the rest at once; the timer is for descriptors that others give back.
pub(super) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

pub(super) struct Listener<L> {
    socket: L,
    /// The latch: connections may be waiting.
    readable: bool,
    pub(super) queued: bool,
    pub(super) hold: Hold,
    /// The log has been told that accepting pauses, and it has not caught up since.
    told: bool,
    /// How many accepts to try before the poll is asked whether there are more, and the turn in which
    /// it was asked last, unless accepting has paused since.
    streak: usize,
    asked_in: Option<u64>,
}

/// Why a listener with waiting connections does not accept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    No,
    /// `connections_max` are open: until one is closed.
    Full,
    /// accept(2) had no descriptor or memory left: until a connection is closed, or this moment.
    Starved(Moment),
}

impl<L> Listener<L> {
    pub(super) fn new(socket: L) -> Self {
        Listener {
            socket,
            readable: false,
            queued: false,
            hold: Hold::No,
            told: false,
            streak: 1,
            asked_in: None,
        }
    }
}

impl<H: Handler> Reactor<H> {
    /// Takes waiting connections, within the budget and the limit.
    ///
    /// Edge-triggered, one would go on until accept(2) would block. But an accept that comes to nothing
    /// costs as much as one that succeeds (Linux makes the descriptor and the socket first, and throws
    /// them away): 5 % of a connection's whole life where they come one by one. So after one accept we
    /// ask the poll to tell us again if there are more, which is a fifth of that; and while it says so at
    /// once, we take twice as many the next time.
    #[inline(never)]
    pub(super) fn accept(&mut self, index: usize, readiness: Readiness) {
        let Reactor { board, handler, listeners, .. } = self;
        let Some(listener) = listeners.get_mut(index) else { return };
        listener.readable |= readiness.has(Readiness::READABLE);
        if listener.queued || listener.hold != Hold::No {
            return;
        }
        let turn = board.counters.turns;
        match listener.asked_in.take() {
            Some(asked_in) if turn <= asked_in + 1 => {
                listener.streak = (2 * listener.streak).min(board.limits.accepts_per_turn);
            }
            Some(_) => {
                listener.streak = 1;
                listener.told = false; // for a while, nobody has been waiting
            }
            None => listener.streak = 1,
        }
        if board.draining {
            listener.streak = board.limits.accepts_per_turn; // until it would block
        }
        for _ in 0..listener.streak {
            if board.connections.len() >= board.limits.connections_max {
                if !mem::replace(&mut listener.told, true) {
                    let count = board.connections.len();
                    log::warn!("{count} connections are open, the most allowed: new ones wait");
                    board.counters.accept_holds += 1;
                }
                listener.hold = Hold::Full;
                return;
            }
            match H::Transport::accept(&mut listener.socket) {
                Ok((transport, address)) => match handler.admit(index, &address) {
                    Some(state) => match board.insert(transport, state) {
                        Ok(_) => board.counters.accepted += 1,
                        Err(error) => log::warn!("an accepted connection could not be watched: {error}"),
                    },
                    None => board.counters.refused += 1,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    listener.readable = false;
                    listener.told = false;
                    return;
                }
                // The error of one connection that is gone already. The next one may be fine.
                Err(error) if is_of_one_connection(&error) => log::debug!("not accepted: {error}"),
                // No descriptor (EMFILE, ENFILE), no memory, or something we have no name for. The edge
                // that told us of waiting connections will not come again: keep the latch, and come
                // back when it may have got better. Trying on at once would burn the whole core.
                Err(error) => {
                    if !mem::replace(&mut listener.told, true) {
                        log::warn!("accepting pauses: {error}");
                        board.counters.accept_holds += 1;
                    }
                    listener.hold = Hold::Starved(board.now.after(ACCEPT_RETRY));
                    return;
                }
            }
        }
        let token = Source::Listener(index as u32).token();
        listener.asked_in = Some(turn);
        let spent = listener.streak == board.limits.accepts_per_turn;
        if !spent && board.watch_again(&mut listener.socket, token).is_ok() {
            listener.readable = false;
            return;
        }
        listener.queued = true;
        board.queue.push(token);
    }
}

/// Ends a listener's rest. Its latch was kept, so that the waiting connections are not forgotten.
pub(super) fn resume<T: Transport, S>(
    board: &mut Board<T, S>,
    index: usize,
    listener: &mut Listener<T::Listener>,
) {
    listener.hold = Hold::No;
    if listener.readable && !listener.queued {
        listener.queued = true;
        board.queue.push(Source::Listener(index as u32).token());
    }
}

/// accept(2): errors that are already pending on the *new* connection are reported by the call, and are
/// to be passed over.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    const EPROTO: i32 = 71;
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | ConnectionRefused
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    ) || (cfg!(target_os = "linux") && error.raw_os_error() == Some(EPROTO))
}
