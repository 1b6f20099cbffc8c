//! Listeners: who is let in, and when accepting has to wait.
//!
//! An edge-triggered listener that stops accepting goes deaf: the edge that told of waiting connections
//! does not come again. So whoever stops keeps the latch, and says until when: a [`Hold`].
//!
//! Invariant: a listener with its latch set stands in the queue, or on hold.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use mio::Interest;

use super::Reactor;
use super::board::Board;
use super::connection::Readiness;
use super::handler::{Handler, Limits, Transport};
use super::timers::Moment;
use super::token::Source;

/// How long accepting rests when the process is out of descriptors or memory. The next closed
/// connection ends the rest at once; the timer is for descriptors that others give back.
pub(super) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

pub(super) struct Listener<L> {
    /// `None` once it listens no more. Its index stays its own: connections bear it.
    pub(super) socket: Option<L>,
    /// How far its connections may go, and how many of them there may be.
    pub(super) limits: Arc<Limits>,
    /// Its connections.
    pub(super) connections: usize,
    /// Those of them that are not established yet.
    pub(super) handshakes: usize,
    /// The latch: connections may be waiting.
    readable: bool,
    pub(super) queued: bool,
    /// It is about to close: it accepts until that would block.
    leaving: bool,
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
    /// As many connections are open as there may be, in all or of this listener: until one is closed.
    Full,
    /// As many connections are in their handshake as there may be: until one is through, or closed.
    Handshakes,
    /// accept(2) had no descriptor or memory left: until a connection is closed, or this moment.
    Starved(Moment),
}

impl<L> Listener<L> {
    pub(super) fn new(socket: L, limits: Arc<Limits>) -> Self {
        Listener {
            socket: Some(socket),
            limits,
            connections: 0,
            handshakes: 0,
            readable: false,
            queued: false,
            leaving: false,
            hold: Hold::No,
            told: false,
            streak: 1,
            asked_in: None,
        }
    }
}

impl<H: Handler> Reactor<H> {
    /// Watches a listener, whose connections go as far as the reactor's own limits; returns its index, which
    /// [`Handler::admit`] gets. An index is never used again.
    ///
    /// # Errors
    /// Where the poll refuses it.
    pub fn listen(&mut self, socket: <H::Transport as Transport>::Listener) -> io::Result<usize> {
        self.listen_within(socket, Arc::clone(&self.board.limits))
    }

    /// [`Reactor::listen`], with limits of its own: they rule over each of its connections, and
    /// `connections_max` over their number, beside the reactor's. (What is counted per turn is the reactor's.)
    ///
    /// # Errors
    /// Where the poll refuses it.
    pub fn listen_within(
        &mut self,
        mut socket: <H::Transport as Transport>::Listener,
        limits: impl Into<Arc<Limits>>,
    ) -> io::Result<usize> {
        let index = self.listeners.len();
        let token = Source::Listener(index as u32).token();
        self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
        let limits = self.board.checked(limits.into());
        self.listeners.push(Listener::new(socket, limits));
        Ok(index)
    }

    /// Listens no more there, and gives the socket back; its connections live on. Who waits in its backlog is
    /// accepted first, or is left there for another process that listens on the same socket (`shared`).
    pub fn unlisten(&mut self, index: usize, shared: bool) -> Option<<H::Transport as Transport>::Listener> {
        self.listeners.get(index)?.socket.as_ref()?;
        // One budget after the other, until the backlog is empty or there is no room for more.
        self.listeners[index].leaving = !shared;
        while self.listeners[index].leaving {
            self.listeners[index].queued = false;
            self.accept(index, Readiness::default());
            self.listeners[index].leaving = self.listeners[index].queued;
        }
        let listener = &mut self.listeners[index];
        let mut socket = listener.socket.take()?;
        // Closing would not do: while another process holds the same socket open, epoll goes on reporting
        // it to us, by a descriptor that we have closed (epoll(7), questions and answers, 6).
        let _ = self.poll.registry().deregister(&mut socket);
        if mem::take(&mut listener.queued) {
            let token = Source::Listener(index as u32).token();
            self.board.queue.retain(|queued| *queued != token);
        }
        listener.readable = false;
        listener.hold = Hold::No;
        Some(socket)
    }

    /// The socket of this listener; `None` once it listens no more.
    pub fn listener(&self, index: usize) -> Option<&<H::Transport as Transport>::Listener> {
        self.listeners.get(index)?.socket.as_ref()
    }

    /// See [`Reactor::listener`]; what is changed holds for connections that it accepts from now on.
    pub fn listener_mut(&mut self, index: usize) -> Option<&mut <H::Transport as Transport>::Listener> {
        self.listeners.get_mut(index)?.socket.as_mut()
    }

    /// Replaces the limits of a listener, and of its connections.
    pub fn set_listener_limits(&mut self, index: usize, limits: Limits) {
        let limits = self.board.checked(Arc::new(limits));
        let Some(listener) = self.listeners.get_mut(index) else { return };
        listener.limits = Arc::clone(&limits);
        self.board.set_limits_of(index as u32, &limits);
        resume(&mut self.board, index, &mut self.listeners[index]);
    }

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
        let Some(socket) = &mut listener.socket else { return };
        if listener.leaving {
            listener.streak = board.limits.accepts_per_turn; // until it would block
        }
        for _ in 0..listener.streak {
            let full = board.is_full();
            if full || listener.connections >= listener.limits.connections_max {
                if !mem::replace(&mut listener.told, true) {
                    let (count, whose) = match (full, board.descriptors()) {
                        (true, 0) => (board.connections.len(), String::new()),
                        (true, files) => (board.connections.len(), format!(" and {files} files")),
                        (false, _) => (listener.connections, format!(" of listener {index}")),
                    };
                    log::warn!("{count} connections{whose} are open, the most allowed: new ones wait");
                    board.counters.accept_holds += 1;
                }
                listener.hold = Hold::Full;
                return;
            }
            if listener.handshakes >= listener.limits.handshakes_max {
                if !mem::replace(&mut listener.told, true) {
                    let count = listener.handshakes;
                    log::warn!(
                        "{count} connections of listener {index} are in their handshake: new ones wait"
                    );
                    board.counters.accept_holds += 1;
                }
                listener.hold = Hold::Handshakes;
                return;
            }
            match H::Transport::accept(socket) {
                Ok((mut transport, address)) => {
                    let Some(state) = handler.admit(index, &address, board.now) else {
                        board.counters.refused += 1;
                        continue;
                    };
                    handler.on_admitted(&state, &mut transport);
                    match board.insert(transport, state, index as u32, &listener.limits) {
                        Ok(_) => {
                            listener.connections += 1;
                            listener.handshakes += 1;
                            board.counters.accepted += 1;
                        }
                        Err((error, state)) => {
                            log::warn!("an accepted connection could not be watched: {error}");
                            handler.on_withdrawn(state, board.now);
                        }
                    }
                }
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
        if !spent && board.watch_again(socket, token).is_ok() {
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
