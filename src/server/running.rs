//! A server that runs: the loop's owner.
//!
//! It turns the reactor, heeds what comes from outside (`outside`), and says where it listens. What holds can change meanwhile: places
//! come and go, limits and guards are replaced, and no connection is closed for it that the new ones still
//! allow. (A listener that goes takes nobody with it: who came by it stays until he has finished.)
//!
//! Invariant: `places` and the reactor's sources tell the same story.

use std::io;
use std::time::{Duration, Instant};

use crate::endpoint::Endpoint;
use crate::guard::Verdict;
use crate::reactor::{CloseReason, Limits, Reactor};
use crate::service::Service;
use crate::service::exchange::{self, Exchange};
use crate::transport::{Address, Stream};

use super::outside::{Outside, Told};
use super::place::{Bound, Place};
use super::summary::summary;

/// See the module's text.
pub struct Running<S: Service> {
    reactor: Reactor<Exchange<S>>,
    places: Vec<Open>,
    drain_for: Duration,
    announce: bool,
    /// The ready lines are out.
    begun: bool,
    #[cfg(feature = "cli")]
    inheritance: Option<super::succession::Inheritance>,
}

/// A place where we listen.
struct Open {
    /// With its real port.
    endpoint: Endpoint,
    source: Source,
}

/// A listener or a datagram socket, by its index; none has the number of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// See [`Reactor::listen`].
    Listener(usize),
    /// See [`Reactor::listen_datagrams`].
    Socket(usize),
}

impl<S: Service> Running<S> {
    pub(super) fn new(reactor: Reactor<Exchange<S>>, drain_for: Duration, announce: bool) -> Self {
        Running {
            reactor,
            places: Vec::new(),
            drain_for,
            announce,
            begun: false,
            #[cfg(feature = "cli")]
            inheritance: None,
        }
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

    /// Listens in one more place; says so at once where the others have been announced already.
    ///
    /// # Errors
    /// Where the poll refuses the socket.
    pub fn listen(&mut self, place: Place, bound: Bound) -> io::Result<Source> {
        place.check()?;
        let endpoint = bound.endpoint(&place.endpoint);
        let limits = place.limits();
        let what_holds = exchange::Place {
            framing: place.endpoint.framing(),
            message_bytes_max: place.message_bytes_max(),
            guard: place.guard,
            amplify: place.amplify,
            metrics: place.metrics,
            sites: place.sites,
        };
        let source = match bound {
            Bound::Stream(listener) => {
                let listener = match (&place.endpoint, place.tls) {
                    (Endpoint::Tls(..), Some(tls)) => listener.secure(tls),
                    _ => listener.without_tls(), // its socket may have been secured before
                };
                // In this order: a socket that the poll refuses leaves no place behind, or all indexes would be off.
                let index = self.reactor.listen_within(listener, limits)?;
                self.reactor.handler().add_listener(what_holds);
                Source::Listener(index)
            }
            Bound::Datagram(socket) => {
                let index = self.reactor.listen_datagrams(socket)?;
                self.reactor.handler().add_socket(what_holds);
                Source::Socket(index)
            }
        };
        let open = Open { endpoint, source };
        if self.begun {
            announce(&open, self.announce)?;
        }
        self.places.push(open);
        Ok(source)
    }

    /// Listens no more there. Who waits in its backlog is accepted first; its connections stay.
    pub fn unlisten(&mut self, source: Source) {
        let Some(open) = self.remove(source) else { return };
        match source {
            Source::Listener(index) => drop(self.reactor.unlisten(index, false)),
            Source::Socket(index) => drop(self.reactor.unlisten_datagrams(index)),
        }
        log::info!("listening no more on {}", open.endpoint);
    }

    /// The socket of this place, with whoever waits in its backlog, for it to be listened on anew.
    pub fn release(&mut self, source: Source) -> Option<Bound> {
        self.remove(source)?;
        match source {
            Source::Listener(index) => self.reactor.unlisten(index, true).map(Bound::Stream),
            Source::Socket(index) => self.reactor.unlisten_datagrams(index).map(Bound::Datagram),
        }
    }

    fn remove(&mut self, source: Source) -> Option<Open> {
        let index = self.places.iter().position(|open| open.source == source)?;
        Some(self.places.remove(index))
    }

    /// What holds from now on in a place where it listens already: limits and the guard, for connections that
    /// are there, too; the certificate, for new ones. (The URL, the service and the socket's options stay as they are.)
    pub fn adjust(&mut self, source: Source, place: Place) {
        let limits = place.limits();
        let message_bytes_max = place.message_bytes_max();
        let there = match source {
            Source::Listener(index) => {
                self.reactor.set_listener_limits(index, limits);
                if let (Some(tls), Some(listener)) = (place.tls, self.reactor.listener_mut(index)) {
                    listener.set_tls(tls);
                }
                self.reactor.handler().listener(index)
            }
            Source::Socket(index) => self.reactor.handler().socket(index),
        };
        if let Some(there) = there {
            there.message_bytes_max = message_bytes_max;
            there.amplify = place.amplify;
            there.metrics = place.metrics;
            there.sites = place.sites;
            there.guard.replace_rules(place.guard);
        }
        if let Source::Listener(index) = source {
            self.dismiss_the_disallowed(index);
        }
    }

    /// Whom the lists no longer allow is told goodbye in good order: what he has earned is delivered.
    fn dismiss_the_disallowed(&mut self, listener: usize) {
        let (exchange, board) = self.reactor.both();
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

    /// Once it listens, whoever we have taken over from is told so, and we wait for our own heir.
    #[cfg(feature = "cli")]
    pub fn take_over(&mut self, inheritance: super::succession::Inheritance) {
        self.inheritance = Some(inheritance);
    }

    #[cfg(feature = "cli")]
    pub(super) fn inheritance(&mut self) -> Option<super::succession::Inheritance> {
        self.inheritance.take()
    }

    /// The sockets of all places.
    #[cfg(feature = "cli")]
    pub(super) fn sockets(&self) -> impl Iterator<Item = std::os::fd::BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        self.places.iter().filter_map(|open| match open.source {
            Source::Listener(index) => self.reactor.listener(index).map(AsFd::as_fd),
            Source::Socket(index) => self.reactor.datagram_socket(index).map(AsFd::as_fd),
        })
    }

    pub(super) fn reactor(&mut self) -> &mut Reactor<Exchange<S>> {
        &mut self.reactor
    }

    /// Turns until it is told to stop. See [`super::Server::run_with`].
    ///
    /// # Errors
    /// Those of the poll, and of standard output where it can't be told where we listen.
    pub fn run(mut self, mut on_reload: impl FnMut(&mut Running<S>)) -> io::Result<()> {
        let mut outside = Outside::watch(&mut self)?;
        for open in &self.places {
            announce(open, self.announce)?;
        }
        self.begun = true;
        outside.begin(&mut self)?;
        loop {
            match outside.turn(&mut self, None)? {
                None => {}
                Some(Told::Reload) => {
                    outside.reloading();
                    on_reload(&mut self);
                    outside.reloaded();
                }
                Some(Told::Stop) => break,
                Some(Told::HandedOver) => {
                    self.serve_the_last(&mut outside)?;
                    break;
                }
            }
        }
        self.stop(&mut outside)
    }

    /// Another process listens on our sockets. Those who are here are served until they have finished, for at
    /// most `drain_for`: a reply that is lost because we hurried would be lost for nothing.
    fn serve_the_last(&mut self, outside: &mut Outside) -> io::Result<()> {
        for open in self.places.drain(..) {
            match open.source {
                Source::Listener(index) => {
                    if let Some(mut listener) = self.reactor.unlisten(index, true) {
                        listener.leave_file();
                    }
                }
                Source::Socket(index) => drop(self.reactor.unlisten_datagrams(index)),
            }
        }
        outside.leave();
        log::info!("handed over: {} connections stay until they have finished", self.connections());
        self.until_empty(outside)
    }

    /// Accepts nothing new; answers what was read (see [`super::Server::run`]) and delivers it, ends each connection, and
    /// cuts off what is left after `drain_for` or at the second signal.
    fn stop(mut self, outside: &mut Outside) -> io::Result<()> {
        outside.stopping();
        #[cfg(feature = "web")]
        self.reactor.handler().set_leave_within(self.drain_for / 2);
        self.reactor.drain();
        log::info!("stopping: {} connections to finish", self.connections());
        self.until_empty(outside)?;
        if self.connections() > 0 {
            log::warn!("stopped without waiting for {} connections", self.connections());
            self.reactor.cut();
        }
        log::info!("{}", summary(&mut self.reactor));
        Ok(())
    }

    /// Turns until nobody is left, for at most `drain_for` or until a signal says stop.
    fn until_empty(&mut self, outside: &mut Outside) -> io::Result<()> {
        // `None` where it is so far away that nobody lives to see it: no bound.
        let deadline = Instant::now().checked_add(self.drain_for);
        while self.connections() > 0 {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let over = left.is_some_and(|left| left.is_zero());
            if over || outside.turn(self, left)? == Some(Told::Stop) {
                break;
            }
        }
        Ok(())
    }

    fn connections(&mut self) -> usize {
        self.reactor.board().connections()
    }
}

fn announce(open: &Open, to_stdout: bool) -> io::Result<()> {
    log::info!("listening on {}", open.endpoint);
    match to_stdout {
        true => say(&format!("listening on {}\n", open.endpoint)),
        false => Ok(()),
    }
}

fn say(line: &str) -> io::Result<()> {
    use io::Write;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(line.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write to standard output: {error}")))
}
