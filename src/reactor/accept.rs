//! Accepting: the listeners of the loop, and the way in for a connection.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use mio::Interest;

use super::Reactor;
use super::board::Board;
use super::handler::Handler;
use super::limits::Limits;
use super::listener::{Listener, Pause, resume_unless_by_owner};
use super::token::Source;
use super::transport::Transport;

/// How long accepting rests when the process is out of descriptors or memory. The next closed
/// connection ends the rest at once; the timer is for descriptors that others give back.
pub(super) const ACCEPT_RETRY: Duration = Duration::from_millis(100);

impl<H: Handler> Reactor<H> {
    /// Watches a listener. Its connections get the reactor's limits of this moment; later, [`Reactor::set_listener_limits`] changes
    /// them. Returns its index, which [`Handler::admit`] gets. The index of a listener that is gone is used again when its last connection is gone, too.
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
        let index = self.vacant_index();
        let token = Source::Listener(index as u32).token();
        self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
        let limits = Limits::checked(limits.into());
        self.put_listener(index, Listener::new(socket, limits));
        Ok(index)
    }

    fn vacant_index(&self) -> usize {
        self.listeners.iter().position(Listener::is_vacant).unwrap_or(self.listeners.len())
    }

    fn put_listener(&mut self, index: usize, listener: Listener<<H::Transport as Transport>::Listener>) {
        match self.listeners.get_mut(index) {
            Some(vacant) => *vacant = listener,
            None => self.listeners.push(listener),
        }
    }

    /// Gives the socket of a listener to a new listener with these limits, and returns the new index. `change` may change the
    /// socket. Connections that are open keep the old index; those in the backlog, and all later ones, get the new one. `None`
    /// if the old listener listens no more.
    pub fn renew_listener(
        &mut self,
        index: usize,
        limits: Limits,
        change: impl FnOnce(<H::Transport as Transport>::Listener) -> <H::Transport as Transport>::Listener,
    ) -> Option<usize> {
        let socket = self.listeners.get_mut(index)?.socket.take()?;
        self.forget_readiness(index);
        let index = self.vacant_index();
        let limits = Limits::checked(Arc::new(limits));
        let mut listener = Listener::new(change(socket), limits);
        // Connections may wait in it, and the poll is not asked before `accept` has tried.
        listener.is_watched = false;
        listener.readable = true;
        self.put_listener(index, listener);
        resume_unless_by_owner(&mut self.board, index, &mut self.listeners[index]);
        Some(index)
    }

    /// Whether nothing is left of the listener with this index: it listens no more, and has no connections.
    pub fn listener_is_gone(&self, index: usize) -> bool {
        self.listeners.get(index).is_none_or(Listener::is_vacant)
    }

    /// Accepts no connection until [`Reactor::resume_accepting`]: new connections wait in the backlogs. For a moment in which the
    /// loop's owner needs descriptors, so that no connection takes them.
    pub fn pause_accepting(&mut self) {
        for listener in &mut self.listeners {
            listener.pause = Pause::ByOwner;
        }
    }

    /// Ends what [`Reactor::pause_accepting`] began. Without that, it does nothing.
    pub fn resume_accepting(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.pause == Pause::ByOwner {
                listener.pause = Pause::No;
                resume_unless_by_owner(&mut self.board, index, listener);
            }
        }
    }

    /// Stops listening there, and returns the socket. Its connections live on. Connections that wait in the backlog are accepted
    /// first; or, if another process listens on the same socket (`shared`), they are left to that process.
    pub fn unlisten(&mut self, index: usize, shared: bool) -> Option<<H::Transport as Transport>::Listener> {
        self.listeners.get(index)?.socket.as_ref()?;
        // One budget after the other, until the backlog is empty or there is no room for more.
        self.listeners[index].leaving = !shared;
        while self.listeners[index].leaving {
            self.accept(index);
            self.listeners[index].leaving = self.listeners[index].queued;
        }
        let listener = &mut self.listeners[index];
        let mut socket = listener.socket.take()?;
        // Closing would not do: while another process holds the same socket open, epoll goes on reporting
        // it to us, by a descriptor that we have closed (epoll(7), questions and answers, 6).
        let _ = self.poll.registry().deregister(&mut socket);
        self.forget_readiness(index);
        Some(socket)
    }

    fn forget_readiness(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        if mem::take(&mut listener.queued) {
            let token = Source::Listener(index as u32).token();
            self.board.queue.retain(|queued| *queued != token);
        }
        listener.readable = false;
        listener.pause = Pause::No;
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
        let limits = Limits::checked(Arc::new(limits));
        let Some(listener) = self.listeners.get_mut(index) else { return };
        listener.limits = Arc::clone(&limits);
        self.board.set_limits_of(index as u32, &limits);
        resume_unless_by_owner(&mut self.board, index, &mut self.listeners[index]);
    }

    /// Takes waiting connections, within the budget and the limits.
    ///
    /// It tries one accept, then two, four and so on, and after each time registers the socket again, so that the poll reports at
    /// once if more connections wait. To accept until accept(2) would block costs more: Linux makes the descriptor and the
    /// socket first, so an accept that comes to nothing costs as much as one that succeeds, 5 % of a connection's whole life
    /// if they come one by one. Registering again costs a fifth of that.
    #[inline(never)]
    pub(super) fn accept(&mut self, index: usize) {
        let turn = self.board.counters.turns;
        let budget = self.board.limits.accepts_per_turn;
        let Some(listener) = self.listeners.get_mut(index) else { return };
        listener.queued = false;
        if listener.pause != Pause::No || listener.socket.is_none() {
            return;
        }
        let count = listener.accepts_to_try(turn, budget);
        for _ in 0..count {
            if !self.accept_one(index) {
                return;
            }
        }
        let Reactor { board, listeners, .. } = self;
        let listener = &mut listeners[index];
        let Some(socket) = &mut listener.socket else { return };
        listener.asked_in = Some(turn);
        // At the full budget, more are likely to wait: it is queued without asking the poll.
        if count < budget && board.watch_again(socket, Source::Listener(index as u32).token()).is_ok() {
            listener.is_watched = true;
            listener.readable = false;
        } else {
            listener.enqueue(board, index);
        }
    }

    /// Takes one waiting connection, if there is one and a place for it. Returns whether to try for another.
    fn accept_one(&mut self, index: usize) -> bool {
        let Reactor { board, handler, listeners, .. } = self;
        let listener = &mut listeners[index];
        if !has_place(board, index, listener) {
            return false;
        }
        let Some(socket) = &mut listener.socket else { return false };
        match H::Transport::accept(socket) {
            Ok((mut transport, address)) => {
                let Some(state) = handler.admit(index, &mut transport, &address, board.now) else {
                    board.counters.refused += 1;
                    return true;
                };
                board.insert_accepted(transport, state, index as u32, &listener.limits);
                listener.connections += 1;
                listener.handshakes += 1;
                board.counters.accepted += 1;
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // If the poll does not know the socket yet, asking reports connections that have come meanwhile.
                let token = Source::Listener(index as u32).token();
                if listener.is_watched || board.watch_again(socket, token).is_ok() {
                    listener.is_watched = true;
                    listener.readable = false;
                    listener.is_behind = false;
                } else {
                    listener.pause = Pause::Starved(board.now.after(ACCEPT_RETRY));
                }
                false
            }
            // The error of one connection that is gone already. The next one may be fine.
            Err(error) if is_of_one_connection(&error) => {
                log::debug!("not accepted: {error}");
                true
            }
            // No descriptor (EMFILE, ENFILE), no memory, or an error without a name here. The edge that reported the waiting
            // connections does not come again. So the latch stays set, and accepting is tried again later: at once would burn
            // the whole core.
            Err(error) => {
                let pause = Pause::Starved(board.now.after(ACCEPT_RETRY));
                if listener.begin_pause(pause, board.now, &mut board.counters.accept_pauses) {
                    log::warn!("accepting pauses: {error}");
                }
                false
            }
        }
    }
}

/// Whether one more connection may be accepted now. If not, the listener pauses until others are gone.
fn has_place<T: Transport, S>(
    board: &mut Board<T, S>,
    index: usize,
    listener: &mut Listener<T::Listener>,
) -> bool {
    let is_full = board.is_full();
    if is_full || listener.connections >= listener.limits.connections_max {
        if listener.begin_pause(Pause::Full, board.now, &mut board.counters.accept_pauses) {
            let (count, whose) = match (is_full, board.descriptors()) {
                (true, 0) => (board.connections.len(), String::new()),
                (true, files) => (board.connections.len(), format!(" and {files} files")),
                (false, _) => (listener.connections, format!(" of listener {index}")),
            };
            log::warn!("{count} connections{whose} are open, the most allowed: new ones wait");
        }
        return false;
    }
    if listener.handshakes >= listener.limits.handshakes_max {
        if listener.begin_pause(Pause::Handshakes, board.now, &mut board.counters.accept_pauses) {
            let count = listener.handshakes;
            log::warn!("{count} connections of listener {index} are in their handshake: new ones wait");
        }
        return false;
    }
    true
}

/// accept(2): errors that are already pending on the *new* connection are reported by the call, and must
/// be passed over.
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
