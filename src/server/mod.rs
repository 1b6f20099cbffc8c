//! A server: a service, where it listens, how far each thing may go, and when it stops.
//!
//! The builder binds at once, so that a bad address is an error before anything runs. [`Server::start`] makes a
//! [`Running`] of it: a reactor, the places where it listens, and what can change while nobody is dropped.
//! [`Server::run`] turns that until it is told to stop.
//!
//! - [`place`]: one place where a server listens, and what holds there;
//! - [`running`]: the loop's owner: changes, the stop; `outside`: what comes from outside: signals, an heir, systemd;
//! - `reading`, [`reload`]: settings are read again beside the loop, prepared, and applied;
//! - `inherited`, `succession`: sockets that others have bound, and how they are handed on (feature `cli`);
//! - `reserve`: descriptors for that (feature `cli`);
//! - `supervisor`: systemd is told how we are (feature `cli`);
//! - `ready`: the ready lines; `summary`: what has happened so far, in one line.
//!
//! Nothing that the loop's thread does in here waits for another process: what it writes to (the log, standard output, the
//! supervisor, an heir) takes its bytes at once or gets them later.

mod explained;
#[cfg(feature = "cli")]
pub mod inherited;
mod outside;
pub mod place;
mod reading;
mod ready;
pub mod reload;
#[cfg(feature = "cli")]
pub(crate) mod reserve;
mod run;
pub mod running;
#[cfg(feature = "cli")]
pub mod succession;
mod summary;
#[cfg(feature = "cli")]
mod supervisor;
#[cfg(feature = "cli")]
pub(crate) mod terminal;

use std::io;
use std::time::Duration;

use crate::endpoint::{Endpoint, Endpoints};
use crate::guard::{Guard, Rate, Rules, Sites};
use crate::reactor::{Clock, Limits, Reactor};
use crate::service::exchange::Exchange;
use crate::service::mounts::Mounts;
use crate::service::{At, Service};
use crate::transport::ListenOptions;
use crate::transport::tls::ServerTls;

use explained::explained;
use place::{Bound, Place, bind_all};
use running::Running;

/// Bytes of a message, by default. Small enough that 10,000 peers that each stop just short of it are
/// no catastrophe; chat lines and game updates are far below.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Builds and runs a server. See the module's text.
pub struct Server<S> {
    service: S,
    limits: Limits,
    message_bytes_max: usize,
    drain_for: Duration,
    options: ListenOptions,
    guard: Guard,
    tls: Option<ServerTls>,
    announce: bool,
    clock: Clock,
    /// Places with what holds there, where that is not what holds everywhere.
    places: Vec<(Endpoint, Bound, Option<Place>)>,
}

impl<S: Service> Server<S> {
    /// A server that listens nowhere yet.
    pub fn new(service: S) -> Self {
        Server {
            service,
            limits: Limits::default(),
            message_bytes_max: MESSAGE_BYTES_MAX,
            drain_for: Duration::from_secs(10),
            options: ListenOptions::default(),
            guard: Guard::default()
                .with_rules(Rules { datagrams: Some(Rate::DATAGRAMS), ..Rules::default() }),
            tls: None,
            announce: true,
            clock: Clock::machine(),
            places: Vec::new(),
        }
    }

    /// The limits of connections and turns. [`Server::message_bytes_max`] rules over `inbox_bytes_max`.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The most bytes of one message, at most 1 GiB. For raw bytes it means nothing.
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// How long a stop waits for outboxes to drain and peers to finish.
    pub fn drain_for(mut self, time: Duration) -> Self {
        self.drain_for = time;
        self
    }

    /// Options of the sockets that later calls of [`Server::listen`] bind.
    pub fn options(mut self, options: ListenOptions) -> Self {
        self.options = options;
        self
    }

    /// Who may come in. Without this: every address, with at most [`Rate::DATAGRAMS`] over UDP.
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// The certificate of `tls://` listeners.
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Whether [`Server::run`] writes `listening on URL` to standard output for each listener, once it
    /// listens. It does by default: a person or program that starts a server must know where it listens.
    pub fn announce(mut self, announce: bool) -> Self {
        self.announce = announce;
        self
    }

    /// What tells the loop the time: see [`Clock::manual`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Binds and listens; call it again for each further place. Port 0 lets the system choose. A name with several addresses,
    /// such as `localhost`, is a place for each of them that this machine has.
    ///
    /// # Errors
    /// `InvalidInput` for a URL that makes no sense; else those of bind(2), with the URL and a hint.
    pub fn listen(mut self, url: &str) -> io::Result<Self> {
        let endpoints: Endpoints = url.parse().map_err(|problem| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("cannot listen on {url}: {problem}"))
        })?;
        let endpoints = endpoints.of_this_machine();
        let bound = bind_all(&endpoints, &self.options)?;
        self.places.extend(endpoints.into_iter().zip(bound).map(|(endpoint, bound)| (endpoint, bound, None)));
        Ok(self)
    }

    /// How many stream listeners and datagram sockets it has so far.
    fn counts(&self) -> (usize, usize) {
        let sockets =
            self.places.iter().filter(|(endpoint, ..)| matches!(endpoint, Endpoint::Udp(_))).count();
        (self.places.len() - sockets, sockets)
    }

    /// [`Server::listen`], where other things hold than elsewhere.
    ///
    /// # Errors
    /// Those of bind(2), with the URL and a hint.
    pub fn listen_at(self, place: Place) -> io::Result<Self> {
        let bound = place.bind()?;
        Ok(self.listen_on(place, bound))
    }

    /// [`Server::listen_at`], with a socket that is bound already.
    pub fn listen_on(mut self, place: Place, bound: Bound) -> Self {
        self.places.push((place.endpoint.clone(), bound, Some(place)));
        self
    }

    /// Where it listens, in the order of the calls; with the real ports, if the system returns them.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let real = |asked: &Endpoint, bound: &Bound| bound.endpoint(asked).unwrap_or_else(|_| asked.clone());
        self.places.iter().map(|(asked, bound, _)| real(asked, bound)).collect()
    }

    /// The server, ready to be turned.
    ///
    /// # Errors
    /// Where the system has no descriptor left for the poll.
    pub fn start(self) -> io::Result<Running<S>> {
        #[cfg_attr(not(feature = "web"), expect(unused_mut))]
        let mut reactor = Reactor::with_clock(Exchange::new(self.service), self.limits.clone(), self.clock)
            .map_err(|error| explained("cannot create the poll of the event loop", error))?;
        #[cfg(feature = "web")]
        reactor.handler().count_unlogged_by(summary::unlogged);
        let mut running = Running::new(reactor, self.drain_for, self.announce);
        for (endpoint, bound, place) in self.places {
            let place = place.unwrap_or_else(|| Place {
                endpoint,
                limits: self.limits.clone(),
                message_bytes_max: self.message_bytes_max,
                guard: self.guard.clone(),
                amplify: false,
                metrics: false,
                sites: Sites::default(),
                tls: self.tls.clone(),
                options: self.options.clone(),
            });
            running.listen(place, bound)?;
        }
        Ok(running)
    }

    /// Returns the reactor, for callers that turn it themselves.
    ///
    /// # Errors
    /// Where the system has no descriptor left for the poll.
    pub fn into_reactor(self) -> io::Result<Reactor<Exchange<S>>> {
        self.start().map(Running::into_reactor)
    }

    /// Serves until it is told to stop: SIGTERM or SIGINT (with the feature `cli`; without it, for as
    /// long as the process lives). The first signal drains, for at most `drain_for`. No new connection is
    /// accepted. Each connection is read until its socket is empty, or twice up to
    /// [`Limits::read_bytes_per_turn`], as soon as its outbox has room. Every whole message that was read is answered, and so is an unended last one where
    /// the peer has sent its end of file. The answers are delivered, then each peer gets our end of file.
    /// The second signal ends it now. SIGUSR1 logs a summary.
    ///
    /// # Errors
    /// Those of the poll, and of standard output where it can't be told where we listen.
    pub fn run(self) -> io::Result<()> {
        self.run_with(|| (), |_, ()| ())
    }

    /// [`Server::run`]; at SIGHUP, `read` is called on a thread of its own, where it may wait for files and name servers, and
    /// what it returns is given to `apply`, which may change what holds from then on. That runs on the loop's thread, and
    /// must not wait for anything: see [`reload`] for places. A `read` that has not returned after 30 s is given up.
    ///
    /// # Errors
    /// Those of [`Server::run`].
    pub fn run_with<P: Send + 'static>(
        self,
        read: impl Fn() -> P + Send + Sync + 'static,
        apply: impl FnMut(&mut Running<S>, P),
    ) -> io::Result<()> {
        self.start()?.run(read, apply)
    }
}

impl Server<Mounts> {
    /// A server of several services, each with its own listeners. See [`Server::mount`].
    pub fn of_several() -> Server<Mounts> {
        Server::new(Mounts::default())
    }

    /// Listens there as [`Server::listen`] does, and serves its peers with this service. All services run on the loop's one thread.
    /// (A connection to a listener without a service, by [`Server::listen`] before the first mount, is closed at once.)
    ///
    /// ```no_run
    /// use switchboard::service::{discard::Discard, echo::Echo};
    ///
    /// fn main() -> std::io::Result<()> {
    ///     switchboard::Server::of_several()
    ///         .mount("tcp://127.0.0.1:7", Echo)?
    ///         .mount("tcp://127.0.0.1:9", Discard)?
    ///         .mount_also("udp://127.0.0.1:9")?
    ///         .run()
    /// }
    /// ```
    ///
    /// # Errors
    /// Those of [`Server::listen`].
    pub fn mount(mut self, url: &str, service: impl Service + 'static) -> io::Result<Self> {
        self.service.add(service);
        self.mount_also(url)
    }

    /// Listens there as well, with the service that was mounted last.
    ///
    /// # Errors
    /// Those of [`Server::listen`].
    pub fn mount_also(self, url: &str) -> io::Result<Self> {
        let before = self.counts();
        let mut server = self.listen(url)?;
        let after = server.counts();
        (before.0..after.0).for_each(|index| server.service.put_last(At::Listener(index)));
        (before.1..after.1).for_each(|index| server.service.put_last(At::Socket(index)));
        Ok(server)
    }
}
