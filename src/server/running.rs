//! A server that runs: the loop's owner.
//!
//! It owns the reactor, and says where it listens; `run` turns it. What holds can change meanwhile: places
//! come and go, limits and guards are replaced, and no connection is closed for it that the new ones still
//! allow. (A listener that goes leaves its connections: they stay until they have finished.)
//!
//! Invariant: each socket that the reactor watches is in one entry of `places`, with all that holds there; what holds for
//! connections of a listener that is gone is kept until the last of them is gone, and no longer.

use std::io;
use std::mem;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::guard::Verdict;
use crate::reactor::{CloseReason, Limits, Reactor};
use crate::service::directory::{Assign, Which};
use crate::service::exchange::Exchange;
use crate::service::{At, Service};
use crate::transport::{Address, Listener, Stream};

use super::explained::explained;
use super::place::{Bound, Place};
use super::ready;

/// See the module's text.
pub struct Running<S: Service> {
    pub(super) reactor: Reactor<Exchange<S>>,
    pub(super) places: Vec<Open>,
    /// Listeners that are gone, and have connections left.
    pub(super) retired: Vec<usize>,
    pub(super) drain_for: Duration,
    /// See [`Running::set_ends_with_terminal`].
    #[cfg(feature = "cli")]
    pub(super) ends_with_terminal: bool,
    pub(super) announce: bool,
    /// The ready lines are out.
    pub(super) begun: bool,
    #[cfg(feature = "cli")]
    inheritance: Option<super::succession::Inheritance>,
}

/// A place where we listen.
pub(super) struct Open {
    pub(super) at: At,
    /// With its real port.
    pub(super) endpoint: Endpoint,
    /// As it was asked for.
    pub(super) place: Place,
    /// For a server with several services.
    pub(super) which: Option<Which>,
}

/// A socket that the reactor watches, and that is in no entry of `places` yet.
pub(super) struct Watched {
    pub(super) at: At,
    pub(super) endpoint: Endpoint,
}

impl<S: Service> Running<S> {
    pub(super) fn new(reactor: Reactor<Exchange<S>>, drain_for: Duration, announce: bool) -> Self {
        Running {
            reactor,
            places: Vec::new(),
            retired: Vec::new(),
            drain_for,
            announce,
            begun: false,
            #[cfg(feature = "cli")]
            ends_with_terminal: false,
            #[cfg(feature = "cli")]
            inheritance: None,
        }
    }

    /// Whether SIGHUP stops the server when it comes because the terminal that it runs in is closed, as it would end most
    /// programs; else SIGHUP reloads in any case. One that ignored SIGHUP when it was started (nohup) goes on.
    #[cfg(feature = "cli")]
    pub fn set_ends_with_terminal(&mut self, ends: bool) {
        self.ends_with_terminal = ends;
    }

    pub(super) fn into_reactor(self) -> Reactor<Exchange<S>> {
        self.reactor
    }

    /// The service.
    pub fn service(&mut self) -> &mut S {
        self.reactor.handler().service()
    }

    /// Where it listens, with the real ports.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.places.iter().map(|open| &open.endpoint)
    }

    /// The places, as they were asked for.
    pub fn asked(&self) -> impl Iterator<Item = &Endpoint> {
        self.places.iter().map(|open| &open.place.endpoint)
    }

    /// Listens in one more place; says so at once where the others have been announced already.
    ///
    /// # Errors
    /// `InvalidInput` for TLS without a certificate; those of getsockname(2); where the poll refuses the socket.
    pub fn listen(&mut self, place: Place, bound: Bound) -> io::Result<At> {
        let watched = self.watch(&place, bound)?;
        let at = watched.at;
        let open = self.enter(watched, place, None);
        self.announce(&open);
        self.places.push(open);
        Ok(at)
    }

    /// Has the reactor watch a socket: the part of listening that can fail.
    pub(super) fn watch(&mut self, place: &Place, bound: Bound) -> io::Result<Watched> {
        place.check()?;
        self.forget_retired(); // their indexes may be used again
        let endpoint = bound.endpoint(&place.endpoint)?;
        let at = match bound {
            Bound::Stream(listener) => {
                self.reactor.listen_within(speaking(listener, place), place.limits()).map(At::Listener)
            }
            Bound::Datagram(socket) => self.reactor.listen_datagrams(socket).map(At::Socket),
        };
        let at = at.map_err(|error| explained(&format!("cannot listen on {}", place.endpoint), error))?;
        Ok(Watched { at, endpoint })
    }

    /// The rest of it.
    pub(super) fn enter(&mut self, watched: Watched, place: Place, which: Option<Which>) -> Open {
        let Watched { at, endpoint } = watched;
        match at {
            At::Listener(index) => self.reactor.handler().set_listener(index, place.exchanged()),
            At::Socket(index) => self.reactor.handler().set_socket(index, place.exchanged()),
        }
        Open { at, endpoint, place, which }
    }

    /// Undoes [`Running::watch`].
    pub(super) fn unwatch(&mut self, watched: &Watched) {
        match watched.at {
            At::Listener(index) => drop(self.reactor.unlisten(index, true)),
            At::Socket(index) => drop(self.reactor.unlisten_datagrams(index)),
        }
    }

    /// Listens no more there. Who waits in its backlog is accepted first; its connections stay.
    pub fn unlisten(&mut self, at: At) {
        if let Some(index) = self.places.iter().position(|open| open.at == at) {
            let open = self.places.remove(index);
            log::info!("listening no more on {}", open.endpoint);
            self.close(&open);
        }
    }

    pub(super) fn close(&mut self, open: &Open) {
        match open.at {
            At::Listener(index) => drop(self.reactor.unlisten(index, false)),
            At::Socket(index) => drop(self.reactor.unlisten_datagrams(index)),
        }
        self.retire(open.at);
    }

    /// Gives the socket of this place, with those who wait in its backlog, to one that is spoken or served otherwise:
    /// connections that are there keep what they have. `None` where it listens no more.
    pub(super) fn renew(&mut self, open: &Open, place: &Place) -> Option<Watched> {
        self.forget_retired();
        let at = match open.at {
            At::Listener(index) => {
                let change = |listener| speaking(listener, place);
                At::Listener(self.reactor.renew_listener(index, place.limits(), change)?)
            }
            At::Socket(index) => At::Socket(self.reactor.renew_datagrams(index)?),
        };
        let endpoint = match open.endpoint.address() {
            Some(address) => place.endpoint.clone().at(address),
            None => place.endpoint.clone(),
        };
        Some(Watched { at, endpoint })
    }

    /// Whether clients can't find it any more: its socket's file is gone.
    pub(super) fn has_lost_file(&self, at: At) -> bool {
        match at {
            At::Listener(index) => self.reactor.listener(index).is_some_and(Listener::has_lost_file),
            At::Socket(_) => false,
        }
    }

    /// The socket is not here any more. What holds for its connections is kept as long as there are some.
    pub(super) fn retire(&mut self, at: At) {
        match at {
            At::Listener(index) => {
                self.retired.push(index);
                self.forget_retired();
            }
            At::Socket(index) => {
                self.reactor.handler().forget_socket(index);
                self.service().on_forget(at);
            }
        }
    }

    /// Forgets what held for connections of listeners that are gone, if they are gone, too. [`Running::run`] does so after
    /// each turn.
    pub fn forget_retired(&mut self) {
        for index in mem::take(&mut self.retired) {
            if self.reactor.listener_is_gone(index) {
                self.reactor.handler().forget_listener(index);
                self.service().on_forget(At::Listener(index));
            } else {
                self.retired.push(index);
            }
        }
    }

    /// What holds from now on for a listener or socket that is there: limits and the guard, for connections that
    /// are there, too; the certificate, for new ones. (The URL, the service and the socket's options stay as they are.)
    pub(super) fn adjust(&mut self, at: At, place: &Place) {
        let limits = place.limits();
        let there = match at {
            At::Listener(index) => {
                self.reactor.set_listener_limits(index, limits);
                if let (Some(tls), Some(listener)) = (place.tls.clone(), self.reactor.listener_mut(index)) {
                    listener.set_tls(tls);
                }
                self.reactor.handler().listener(index)
            }
            At::Socket(index) => self.reactor.handler().socket(index),
        };
        if let Some(there) = there {
            there.message_bytes_max = place.message_bytes_max();
            there.amplify = place.amplify;
            there.metrics = place.metrics;
            there.sites = place.sites.clone();
            there.guard.replace_rules(place.guard.clone());
        }
        if let At::Listener(index) = at {
            self.dismiss_the_disallowed(index);
        }
    }

    /// Closes gracefully the connections that the lists no longer allow: their answers are delivered.
    fn dismiss_the_disallowed(&mut self, listener: usize) {
        let (exchange, board) = self.reactor.handler_and_board();
        let Some(place) = exchange.listener(listener) else { return };
        for peer in board.peers().collect::<Vec<_>>() {
            let here = board.state(peer).filter(|it| it.listener() == listener && !it.is_proxys_own());
            let Some(introduced) = here.map(|it| it.introduced()) else { continue };
            let address = introduced.or_else(|| board.transport(peer).and_then(Stream::peer_address));
            if let Some(Address::Ip(address)) = address
                && let Verdict::Refuse(_) = place.guard.verdict(address.ip())
            {
                board.finish_because(peer, CloseReason::Disallowed);
            }
        }
    }

    /// The limits of all places together.
    pub fn set_limits(&mut self, limits: Limits) {
        self.reactor.set_limits(limits);
    }

    /// How long a stop waits.
    pub fn set_drain_for(&mut self, time: Duration) {
        self.drain_for = time;
    }

    /// Once it listens, it tells the process that it took over from, and waits for its own heir.
    #[cfg(feature = "cli")]
    pub fn take_over(&mut self, inheritance: super::succession::Inheritance) {
        self.inheritance = Some(inheritance);
    }

    #[cfg(feature = "cli")]
    pub(super) fn inheritance(&mut self) -> Option<super::succession::Inheritance> {
        self.inheritance.take()
    }

    /// Files of sockets that a predecessor has lent us are our own: it has left, or is gone.
    #[cfg(feature = "cli")]
    pub(super) fn own_files(&mut self) {
        for open in &self.places {
            if let At::Listener(index) = open.at
                && let Some(listener) = self.reactor.listener_mut(index)
            {
                listener.own_file();
            }
        }
    }

    /// The sockets of all places.
    #[cfg(feature = "cli")]
    pub(super) fn sockets(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        use crate::transport::Datagrams;
        self.places.iter().filter_map(|open| match open.at {
            At::Listener(index) => self.reactor.listener(index).and_then(Listener::socket),
            At::Socket(index) => self.reactor.datagram_socket(index).and_then(Datagrams::socket),
        })
    }

    /// The loop, for callers that turn it themselves, and change places between two turns.
    pub fn reactor(&mut self) -> &mut Reactor<Exchange<S>> {
        &mut self.reactor
    }

    pub(super) fn connections(&mut self) -> usize {
        self.reactor.board().connections()
    }

    /// Says where it listens, once the first ready lines are out. What can't be said is logged: we listen all the same.
    pub(super) fn announce(&self, open: &Open) {
        if !self.begun {
            return; // it is said with the others
        }
        log::info!("listening on {}", open.endpoint);
        if self.announce
            && let Err(error) = ready::write_line(&format!("listening on {}", open.endpoint))
        {
            log::warn!("{error}");
        }
    }
}

impl<S: Assign> Running<S> {
    /// [`Running::listen`], with this service.
    ///
    /// # Errors
    /// Those of [`Running::listen`].
    pub fn listen_for(&mut self, place: Place, which: Which, bound: Bound) -> io::Result<()> {
        let watched = self.watch(&place, bound)?;
        self.service().assign(watched.at, &which, None);
        let open = self.enter(watched, place, Some(which));
        self.announce(&open);
        self.places.push(open);
        Ok(())
    }
}

/// A listener whose connections begin as the place says.
fn speaking(listener: Listener, place: &Place) -> Listener {
    match (&place.endpoint, place.tls.clone()) {
        (Endpoint::Tls(..), Some(tls)) => listener.secure(tls),
        _ => listener.without_tls(), // its socket may have been secured before
    }
}
