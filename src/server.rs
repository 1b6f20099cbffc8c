//! A server: a service, where it listens, how far each thing may go, and when it stops.
//!
//! The builder binds at once, so that a bad address is an error before anything runs; [`Server::run`]
//! is a reactor and, with the feature `cli`, the signals that end it.

use std::io;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;

use crate::endpoint::Endpoint;
use crate::guard::Guard;
use crate::protocol::Framing;
use crate::reactor::{CloseReason, Limits, Reactor};
use crate::service::Service;
use crate::service::exchange::Exchange;
use crate::transport::Listener;
use crate::transport::stream::{ListenOptions, bind_udp};

/// Bytes of a message, by default. Small enough that 10,000 peers who each stop just short of it are
/// no catastrophe; chat lines and game updates are far below.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Beyond a whole message, the inbox takes its framing.
const FRAMING_BYTES: usize = 16;

/// Builds and runs a server. See the module's text.
pub struct Server<S> {
    service: S,
    limits: Limits,
    message_bytes_max: usize,
    drain_for: Duration,
    options: ListenOptions,
    guard: Guard,
    announce: bool,
    places: Vec<(Endpoint, Bound)>,
}

/// What listens at an endpoint.
enum Bound {
    Stream(Listener),
    Datagram(UdpSocket),
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
            guard: Guard::default(),
            announce: true,
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
        self.message_bytes_max = bytes.min(Limits::BYTES_MAX - FRAMING_BYTES);
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

    /// Who may come in.
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Whether [`Server::run`] writes `listening on URL` to standard output for each listener, once it
    /// listens. It does by default: who starts a server, by hand or by program, wants to know where.
    pub fn announce(mut self, announce: bool) -> Self {
        self.announce = announce;
        self
    }

    /// Binds and listens; call it again for each further place. Port 0 lets the system choose.
    ///
    /// # Errors
    /// `InvalidInput` for a URL that makes no sense; else those of bind(2), with the URL and a hint.
    pub fn listen(self, url: &str) -> io::Result<Self> {
        let endpoint: Endpoint = url.parse().map_err(|problem| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("cannot listen on {url}: {problem}"))
        })?;
        self.listen_at(endpoint)
    }

    /// [`Server::listen`], for a URL that is parsed already.
    ///
    /// # Errors
    /// Those of bind(2), with the URL and a hint.
    pub fn listen_at(mut self, endpoint: Endpoint) -> io::Result<Self> {
        match self.bind(&endpoint) {
            Ok(place) => self.places.push(place),
            Err(error) => {
                let message = format!("cannot listen on {endpoint}: {error}{}", hint(&endpoint, &error));
                return Err(io::Error::new(error.kind(), message));
            }
        }
        Ok(self)
    }

    /// Binds, and says where: with the real port where 0 was asked for.
    fn bind(&self, endpoint: &Endpoint) -> io::Result<(Endpoint, Bound)> {
        Ok(match endpoint {
            Endpoint::Tcp(address, framing) => {
                let listener = Listener::tcp(*address, &self.options)?;
                let address = listener.local_address().unwrap_or(*address);
                (Endpoint::Tcp(address, *framing), Bound::Stream(listener))
            }
            Endpoint::Unix(path, _) => {
                (endpoint.clone(), Bound::Stream(Listener::unix(path, &self.options)?))
            }
            Endpoint::Udp(address) => {
                let socket = bind_udp(*address, &self.options)?;
                (Endpoint::Udp(socket.local_addr()?), Bound::Datagram(socket))
            }
        })
    }

    /// Where it listens, with the real ports, in the order of the calls.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.places.iter().map(|(endpoint, _)| endpoint)
    }

    /// The reactor, for who wants to turn it himself.
    ///
    /// # Errors
    /// Where the system has no descriptor left for the poll.
    pub fn into_reactor(mut self) -> io::Result<Reactor<Exchange<S>>> {
        self.limits.inbox_bytes_max =
            self.message_bytes_max.max(self.limits.read_bytes_per_turn) + FRAMING_BYTES;
        let streams = self.places.iter().filter(|(_, bound)| matches!(bound, Bound::Stream(_)));
        let framings: Vec<Framing> = streams.map(|(endpoint, _)| endpoint.framing()).collect();
        let exchange = Exchange::new(self.service, framings, self.message_bytes_max, self.guard);
        let mut reactor = Reactor::new(exchange, self.limits)?;
        for (_, bound) in self.places {
            match bound {
                Bound::Stream(listener) => reactor.listen(listener)?,
                Bound::Datagram(socket) => reactor.listen_datagrams(socket)?,
            };
        }
        Ok(reactor)
    }

    /// Serves until it is told to stop: SIGTERM or SIGINT (with the feature `cli`; without it, for as
    /// long as the process lives). The first signal drains: no new connections, every byte that was
    /// read is answered and delivered, each peer gets our end of file; for at most `drain_for`. The
    /// second one ends it now. SIGUSR1 logs a summary.
    ///
    /// # Errors
    /// Those of the poll, and of standard output where it can't be told where we listen.
    pub fn run(self) -> io::Result<()> {
        let endpoints: Vec<String> = self.endpoints().map(ToString::to_string).collect();
        let (announce, drain_for) = (self.announce, self.drain_for);
        let mut reactor = self.into_reactor()?;
        let mut stops = Stops::watch(&mut reactor)?;
        for endpoint in endpoints {
            log::info!("listening on {endpoint}");
            if announce {
                say(&format!("listening on {endpoint}\n"))?;
            }
        }

        leave_the_loop_alone();
        while !stops.told(&mut reactor, None)? {}
        reactor.drain();
        log::info!("stopping: {} connections to finish", reactor.board().connections());
        // `None` where it is so far away that nobody lives to see it: no bound.
        let deadline = Instant::now().checked_add(drain_for);
        while reactor.board().connections() > 0 {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) || stops.told(&mut reactor, left)? {
                log::warn!("stopped without waiting for {} connections", reactor.board().connections());
                reactor.cut();
            }
        }
        log::info!("{}", summary(&mut reactor));
        Ok(())
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

/// What to do about a failed bind.
fn hint(endpoint: &Endpoint, error: &io::Error) -> &'static str {
    match (error.kind(), endpoint) {
        (io::ErrorKind::AddrInUse, Endpoint::Unix(..)) => {
            "; a running server listens there: stop it, or take another path"
        }
        (io::ErrorKind::AddrInUse, _) => {
            "; stop the process that listens there, or take another port (0 picks a free one)"
        }
        (io::ErrorKind::AddrNotAvailable, _) => {
            "; take an address of this machine, such as 127.0.0.1 or 0.0.0.0"
        }
        (io::ErrorKind::PermissionDenied, Endpoint::Unix(..)) => {
            "; take a path in a directory that you may write to"
        }
        (io::ErrorKind::PermissionDenied, _) => "; ports below 1024 need a privilege: take a higher one",
        (io::ErrorKind::AlreadyExists, _) => "; remove it, or take another path",
        (io::ErrorKind::NotFound, Endpoint::Unix(..)) => "; make its directory first",
        _ => "",
    }
}

/// The signals that speak to a server, as a source in its own poll.
#[cfg(feature = "cli")]
struct Stops(signal_hook_mio::v1_0::Signals);

#[cfg(feature = "cli")]
impl Stops {
    fn watch<S: Service>(reactor: &mut Reactor<Exchange<S>>) -> io::Result<Stops> {
        use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
        let mut signals = signal_hook_mio::v1_0::Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
        reactor.watch_signals(&mut signals)?;
        Ok(Stops(signals))
    }

    /// Turns once; whether a signal said to stop.
    fn told<S: Service>(
        &mut self,
        reactor: &mut Reactor<Exchange<S>>,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        let mut stop = false;
        if reactor.turn(timeout)?.signalled {
            for signal in self.0.pending() {
                match signal {
                    signal_hook::consts::SIGUSR1 => log::info!("{}", summary(reactor)),
                    _ => stop = true,
                }
            }
        }
        Ok(stop)
    }
}

/// Nobody says stop.
#[cfg(not(feature = "cli"))]
struct Stops;

#[cfg(not(feature = "cli"))]
impl Stops {
    fn watch<S: Service>(_reactor: &mut Reactor<Exchange<S>>) -> io::Result<Stops> {
        Ok(Stops)
    }

    fn told<S: Service>(
        &mut self,
        reactor: &mut Reactor<Exchange<S>>,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        reactor.turn(timeout).map(|_| false)
    }
}

/// One line of what has happened so far.
fn summary<S: Service>(reactor: &mut Reactor<Exchange<S>>) -> String {
    // Connections and datagrams alike.
    let refusals: Vec<(&str, u64)> =
        reactor.handler().guard().refused().map(|(reason, count)| (reason.name(), count)).collect();
    let refused = refusals.iter().map(|(_, count)| count).sum::<u64>();
    let open = reactor.board().connections();
    let counters = reactor.board().counters();
    let closings: Vec<(&str, u64)> = CloseReason::NAMES.into_iter().zip(counters.closed).collect();
    let turns = counters.turns.max(1);
    format!(
        "summary: accepted {}, refused {}{}, open {open}, closed {}{}, accept pauses {}, \
         bytes in {} out {}, datagrams in {} out {} dropped {}, turns {}, events per turn {:.2}, \
         busiest turn {:.3} ms, log records dropped {}",
        counters.accepted,
        refused,
        in_brackets(&refusals),
        counters.closed.iter().sum::<u64>(),
        in_brackets(&closings),
        counters.accept_holds,
        counters.bytes_in,
        counters.bytes_out,
        counters.datagrams_in,
        counters.datagrams_out,
        counters.datagrams_dropped,
        counters.turns,
        counters.events as f64 / turns as f64,
        counters.busiest_turn.as_secs_f64() * 1e3,
        records_dropped(),
    )
}

/// ` (idle 3, reset 1)`: those that happened.
fn in_brackets(counts: &[(&str, u64)]) -> String {
    let happened: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    match happened.is_empty() {
        true => String::new(),
        false => format!(" ({})", happened.join(", ")),
    }
}

#[cfg(feature = "cli")]
use crate::logging::leave_the_loop_alone;

#[cfg(not(feature = "cli"))]
fn leave_the_loop_alone() {}

#[cfg(feature = "cli")]
fn records_dropped() -> u64 {
    crate::logging::dropped()
}

#[cfg(not(feature = "cli"))]
fn records_dropped() -> u64 {
    0
}
