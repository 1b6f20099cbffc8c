//! `switchboard serve`: a service, where it listens, and its limits.
//!
//! SIGHUP reads everything again, the file and whatever else is named, and changes what is different: what is wrong
//! changes nothing, and no connection is closed that the new settings allow. It is read on a thread of its own; then everything that
//! can fail is prepared, and then applied what can't.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::config::CommandLine;
use super::settings::{Settings, Wanted, show_self_signed};
use super::{Failure, LogLevel, units};
use crate::endpoint::{Endpoint, Endpoints};
#[cfg(feature = "web")]
use crate::guard::sites::{AllowedHost, AllowedOrigin};
use crate::guard::{self, IpNet, Rate};
use crate::logging::Levels;
use crate::reactor::Limits;
use crate::server::Server;
use crate::server::inherited::Inherited;
use crate::server::place::{Bound, bind_all};
use crate::server::reload::Changes;
use crate::server::running::Running;
use crate::server::{reserve, succession};
#[cfg(feature = "web")]
use crate::service::chat::{Chat, Rules as ChatRules, SlowReaders};
use crate::service::directory::{Assign, Directory, Which};
#[cfg(feature = "web")]
use crate::service::relay::{Relay, Rules as RelayRules};
#[cfg(feature = "web")]
use crate::service::web::{Site, Web};
use crate::service::{discard::Discard, echo::Echo, reply::Reply, source::Source};

/// What the reply service answers by default.
const MESSAGE: &str = "Hello from switchboard!";

/// Descriptors that are not for connections: the standard ones, the poll, the waker, the signals, some
/// listeners, the reserve for reloads, and some that a library may open for a moment ...
const DESCRIPTORS_RESERVED: usize = 20 + reserve::RESERVED;
/// ... with this many listeners; further ones count as well.
const LISTENERS_RESERVED: usize = 8;

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ServiceName {
    /// Bytes back as they came; each datagram to its sender.
    Echo,
    /// The same answer to every message (see --message).
    Reply,
    /// Takes everything and says nothing.
    Discard,
    /// Numbered lines without end, as fast as the peer takes them.
    Source,
    /// Rooms of people: over lines with any terminal, over HTTP with a page, over WebSocket in JSON.
    #[cfg(feature = "web")]
    Chat,
    /// A small world in real time: positions over UDP or WebSocket, the latest to everybody in each tick, and a page.
    #[cfg(feature = "web")]
    Relay,
    /// The files below a directory, over HTTP (see --root).
    #[cfg(feature = "web")]
    Web,
}

#[cfg(feature = "web")]
#[derive(Debug, Clone, Copy, ValueEnum)]
enum SlowReadersName {
    /// It is closed, when more waits for it than --outbox-bytes-max.
    Close,
    /// The oldest of the messages that wait for it, beyond 256, are dropped.
    DropOldest,
    /// The newest are.
    DropNewest,
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What to do with what clients send.
    #[arg(value_enum, default_value = "echo")]
    service: ServiceName,

    /// Where to listen; may be repeated. tcp://HOST:PORT, tls://HOST:PORT, http://HOST:PORT, https://HOST:PORT,
    /// ws://HOST:PORT, wss://HOST:PORT, udp://HOST:PORT, unix:PATH or unix:@NAME; a HOST with several addresses is a listener at each; +lines or +prefixed behind the scheme picks the framing, as in
    /// tcp+lines://HOST:PORT, and unix+http:PATH or unix+ws:PATH what is spoken; port 0 picks a free one. [default: tcp://127.0.0.1:8080; chat, relay and web: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    pub(super) listen: Vec<Endpoints>,

    /// A TOML file whose keys are these options; see the README. The command line wins over it.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// What the reply service answers.
    #[arg(long, value_name = "TEXT", default_value = MESSAGE)]
    pub(super) message: String,

    /// What the web service serves: the files below this directory, but for those whose names begin with a dot.
    #[cfg(feature = "web")]
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,

    /// Web: list directories that have no index.html.
    #[cfg(feature = "web")]
    #[arg(long)]
    pub(super) listing: bool,

    /// Web: write a line for each request to this file, in the common log format. Reopened at SIGHUP.
    #[cfg(feature = "web")]
    #[arg(long, value_name = "FILE")]
    pub(super) access_log: Option<PathBuf>,

    /// Chat and relay: listeners with the same name share one, with all its state; with another name, or without one, they
    /// have another. The figures of /metrics bear it.
    #[cfg(feature = "web")]
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,

    /// Chat: what happens to a member that does not read as fast as others speak. It is told how much it has missed.
    /// [default: drop-oldest]
    #[cfg(feature = "web")]
    #[arg(long, value_name = "POLICY", value_enum)]
    slow_readers: Option<SlowReadersName>,

    /// Chat: messages of one member: RATE a second, and BURST at once. [default: 10/30]
    #[cfg(feature = "web")]
    #[arg(long, value_name = "RATE[/BURST]", allow_hyphen_values = true)]
    messages_per_member: Option<Rate>,

    /// Chat: how often members of one address (of IPv6: of one network of 64 bits) may enter a room: RATE a
    /// second, and BURST at once. [default: 200/10000]
    #[cfg(feature = "web")]
    #[arg(long, value_name = "RATE[/BURST]", allow_hyphen_values = true)]
    joins_per_ip: Option<Rate>,

    /// Chat: the most rooms at a time. [default: 1000]
    #[cfg(feature = "web")]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rooms_max: Option<u32>,

    /// Relay: how often a second everybody is told where the others are. [default: 30]
    #[cfg(feature = "web")]
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..=1000))]
    tick: Option<u32>,

    /// Relay: the most players. [default: 1000]
    #[cfg(feature = "web")]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    players_max: Option<u32>,

    /// http:// and https://: answer /metrics (for Prometheus) and /healthz there, whatever the service.
    #[cfg(feature = "web")]
    #[arg(long)]
    pub(super) metrics: bool,

    /// WebSocket: let pages of this origin in, as https://example.com, beside those of our own; may be
    /// repeated. * lets in all.
    #[cfg(feature = "web")]
    #[arg(long, value_name = "ORIGIN")]
    pub(super) origin: Vec<AllowedOrigin>,

    /// HTTP and WebSocket: serve requests for this name, as example.com; may be repeated. * is any. Always served are
    /// addresses, localhost and names without a dot; others too where no --host is given, but not on loopback. What
    /// is not served is answered with 421.
    #[cfg(feature = "web")]
    #[arg(long, value_name = "NAME")]
    pub(super) host: Vec<AllowedHost>,

    /// Connections at a time; at the limit, new ones wait in the backlog.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) connections_max: u32,

    /// Serve only addresses in this network; may be repeated.
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub(super) allow: Vec<IpNet>,

    /// Refuse addresses in this network; may be repeated. The longest prefix wins, deny on a tie.
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub(super) deny: Vec<IpNet>,

    /// Like --allow, for each network in this file: one a line, # or ; begins a comment; may be repeated. Read again at
    /// SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub(super) allow_file: Vec<PathBuf>,

    /// Like --deny, for each network in this file; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub(super) deny_file: Vec<PathBuf>,

    /// Connections at a time of one address (of IPv6: of one network of 64 bits). [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) connections_per_ip_max: Option<u32>,

    /// New connections of one address: RATE a second, and BURST at once, like 10/50. [default: no limit]
    #[arg(long, value_name = "RATE[/BURST]", allow_hyphen_values = true)]
    pub(super) accepts_per_ip: Option<Rate>,

    /// In this network are proxies, which begin each connection with a PROXY header (version 1 or 2) that says whom they
    /// bring; may be repeated. The header is required from there, and believed from nowhere else. unix: all that connect to Unix
    /// sockets are proxies.
    #[arg(long, value_name = "CIDR|unix", value_parser = proxies)]
    pub(super) proxy_protocol: Vec<Proxies>,

    /// UDP: datagrams of one address: RATE a second, and BURST at once; more are dropped. It also ends an endless exchange
    /// with another server, which one forged sender can start. off: no limit.
    #[arg(long, value_name = "RATE[/BURST]|off", default_value = "10000/20000", value_parser = rate_or_off, allow_hyphen_values = true)]
    pub(super) datagrams_per_ip: MaybeRate,

    /// Read at most this many bytes a second from each connection: one that sends faster is slowed down. [default: no
    /// limit]
    #[arg(long, value_name = "SIZE", value_parser = units::size, allow_hyphen_values = true)]
    pub(super) bytes_per_s: Option<usize>,

    /// UDP: let answers be larger than what they answer. Senders of datagrams can lie about their address: never
    /// do it where strangers can reach you.
    #[arg(long)]
    pub(super) amplify: bool,

    /// The certificate of tls:// listeners, with its chain: a PEM file. Read again at SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub(super) cert: Option<PathBuf>,

    /// The certificate's key, unencrypted: a PEM file.
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,

    /// Serve only clients that show a certificate signed by an authority in this PEM file.
    #[arg(long, value_name = "FILE")]
    pub(super) client_ca: Option<PathBuf>,

    /// For development: a certificate of our own making, which nobody has reason to trust. The log says its
    /// fingerprint.
    #[arg(long)]
    pub(super) self_signed: bool,

    /// Write the self-signed certificate, not its key, to this file, for clients to trust.
    #[arg(long, value_name = "FILE")]
    pub(super) self_signed_to: Option<PathBuf>,

    /// Close a connection whose TLS handshake takes longer, whatever bytes arrive.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration, allow_hyphen_values = true)]
    pub(super) handshake_within: Duration,

    /// Close a connection on which a message (a line, a request) is not whole after so long, and a second more for
    /// each 500 bytes of it that are there.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration, allow_hyphen_values = true)]
    pub(super) message_within: Duration,

    /// Close a connection over which nothing moved for so long.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = units::duration, allow_hyphen_values = true)]
    pub(super) idle_after: Duration,

    /// Close a peer that takes nothing for so long while we have something for it.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration, allow_hyphen_values = true)]
    pub(super) stall_after: Duration,

    /// On SIGTERM, wait at most so long for replies to be delivered and peers to finish.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration, allow_hyphen_values = true)]
    pub(super) drain_for: Duration,

    /// The most bytes of one line, prefixed message, or body of a request.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = units::size, allow_hyphen_values = true)]
    pub(super) message_bytes_max: usize,

    /// The most bytes that may wait for one slow peer before it is closed. At least 128KiB more than
    /// the longest message. [default: 4MiB, or that]
    #[arg(long, value_name = "SIZE", value_parser = units::size, allow_hyphen_values = true)]
    pub(super) outbox_bytes_max: Option<usize>,

    /// Connections that the kernel holds until we accept them.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) backlog: u32,

    /// TCP: probe a silent peer after this long, to notice that its machine is gone.
    #[arg(long, value_name = "TIME", value_parser = keepalive, allow_hyphen_values = true)]
    pub(super) keepalive: Option<Duration>,

    /// TCP and UDP: let other processes listen on the same port; the kernel spreads the load.
    #[arg(long)]
    pub(super) reuse_port: bool,

    /// Unix: the permissions of the socket's file, in octal, like 660.
    #[arg(long, value_name = "MODE", value_parser = octal)]
    pub(super) unix_mode: Option<u32>,

    /// Take the listening sockets from the process that was started with the same path, and let it finish
    /// with whom it has; nobody is refused meanwhile. The first one waits there for the next.
    #[arg(long, value_name = "SOCKET")]
    pub(super) take_over: Option<PathBuf>,

    /// What to log; RUST_LOG says it, too.
    #[arg(long, value_name = "LEVEL", value_enum)]
    pub(super) log_level: Option<LogLevel>,

    /// The names of the options that were given, where the others have their defaults.
    #[arg(skip)]
    pub(super) given: Vec<String>,
}

/// clap would take `Option<Rate>` for an option that may be left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct MaybeRate(pub(super) Option<Rate>);

fn rate_or_off(text: &str) -> Result<MaybeRate, String> {
    match text {
        "off" => Ok(MaybeRate(None)),
        rate => rate.parse().map(|rate| MaybeRate(Some(rate))).map_err(|hint| format!("{hint}; or off")),
    }
}

fn cidr(text: &str) -> Result<IpNet, String> {
    guard::network(text).map_err(String::from)
}

/// Where proxies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proxies {
    In(IpNet),
    /// At the other end of every Unix socket.
    Unix,
}

fn proxies(text: &str) -> Result<Proxies, String> {
    match text {
        "unix" | "unix:" => Ok(Proxies::Unix), // nginx writes the colon
        network => cidr(network).map(Proxies::In).map_err(|hint| format!("{hint}; or unix")),
    }
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) => Ok(mode),
        _ => Err("write permission bits in octal, like 660".into()),
    }
}

impl Options {
    /// Where it is said to listen.
    #[cfg(feature = "tls")]
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.listen.iter().flat_map(Endpoints::all)
    }

    /// The service that is asked for.
    ///
    /// # Errors
    /// Where it lacks what it needs.
    pub(super) fn which(&self) -> Result<Which, String> {
        Ok(match self.service {
            ServiceName::Echo => Which::Echo,
            ServiceName::Reply => Which::Reply { answer: self.message.clone() },
            ServiceName::Discard => Which::Discard,
            ServiceName::Source => Which::Source,
            #[cfg(feature = "web")]
            ServiceName::Chat => Which::Chat { name: self.own_name(), rules: self.chat_rules() },
            #[cfg(feature = "web")]
            ServiceName::Relay => Which::Relay { name: self.own_name(), rules: self.relay_rules() },
            #[cfg(feature = "web")]
            ServiceName::Web => Which::Web { site: self.site()? },
        })
    }

    #[cfg(feature = "web")]
    fn site(&self) -> Result<Site, String> {
        let root = self.root.clone().ok_or("the service web needs a directory: give its --root DIR")?;
        match std::fs::read_dir(&root) {
            Ok(_) => Ok(Site { root, listing: self.listing, access: self.access_log.is_some() }),
            Err(error) => Err(format!("--root {}: cannot read it: {error}", root.display())),
        }
    }

    #[cfg(feature = "web")]
    fn own_name(&self) -> String {
        self.name.clone().unwrap_or_default()
    }

    #[cfg(feature = "web")]
    fn chat_rules(&self) -> ChatRules {
        let usual = ChatRules::default();
        let slow_readers = self.slow_readers.map_or(usual.slow_readers, |policy| match policy {
            SlowReadersName::Close => SlowReaders::Close,
            SlowReadersName::DropOldest => SlowReaders::DropOldest,
            SlowReadersName::DropNewest => SlowReaders::DropNewest,
        });
        ChatRules {
            slow_readers,
            rate: self.messages_per_member.unwrap_or(usual.rate),
            joins_per_ip: self.joins_per_ip.unwrap_or(usual.joins_per_ip),
            rooms_max: self.rooms_max.map_or(usual.rooms_max, |rooms| rooms as usize),
        }
    }

    #[cfg(feature = "web")]
    fn relay_rules(&self) -> RelayRules {
        let usual = RelayRules::default();
        RelayRules {
            ticks_per_s: self.tick.unwrap_or(usual.ticks_per_s),
            players_max: self.players_max.map_or(usual.players_max, |players| players as usize),
        }
    }

    /// Where it listens where nobody says otherwise.
    pub(super) fn everyday(&self) -> &'static str {
        match self.service {
            #[cfg(feature = "web")]
            ServiceName::Chat | ServiceName::Relay | ServiceName::Web => "http://127.0.0.1:8080",
            _ => "tcp://127.0.0.1:8080",
        }
    }
}

pub(super) fn run(line: &CommandLine) -> Result<(), Failure> {
    // The log levels are known when all settings have been read. Until then the default ones hold.
    crate::logging::start(Levels::DEFAULT).map_err(Failure::Runtime)?;
    let settings = Settings::read(line)?;
    set_log(&settings, access_log(&settings)?)
        .map_err(|problem| Failure::Runtime(format!("--access-log: {problem}")))?;
    // One service for all is compiled into the loop; with a file, there may be others after a reload.
    match settings.listeners[0].which.clone() {
        _ if settings.from_file => serve(Directory::default(), settings, line),
        Which::Echo => serve(Echo, settings, line),
        Which::Reply { answer } => serve(Reply::new(answer), settings, line),
        Which::Discard => serve(Discard, settings, line),
        Which::Source => serve(Source::default(), settings, line),
        #[cfg(feature = "web")]
        Which::Chat { rules, .. } => serve(Chat::new(rules), settings, line),
        #[cfg(feature = "web")]
        Which::Relay { rules, .. } => serve(Relay::new(rules), settings, line),
        #[cfg(feature = "web")]
        Which::Web { site } => serve(Web::new(site), settings, line),
    }
}

/// The access log's file. Apart from [`set_log`], because it can fail, and what can fail comes before what changes something.
fn access_log(settings: &Settings) -> Result<Option<File>, Failure> {
    let Some(path) = &settings.access_log else { return Ok(None) };
    let opened = crate::logging::open_access_log(path);
    opened
        .map(Some)
        .map_err(|error| Failure::Usage(format!("--access-log {}: cannot open it: {error}", path.display())))
}

/// What is logged, and where.
///
/// # Errors
/// Where the access log can't be changed.
fn set_log(settings: &Settings, access_log: Option<File>) -> Result<(), String> {
    crate::logging::set_levels(settings.log_levels.clone());
    crate::logging::set_access_log(access_log)
}

fn serve(service: impl Assign, settings: Settings, line: &CommandLine) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Runtime(error.to_string());
    let descriptors = descriptors_most();
    let most = move |listeners: usize| {
        let more = listeners.saturating_sub(LISTENERS_RESERVED);
        descriptors.saturating_sub(DESCRIPTORS_RESERVED + more)
    };
    let limits = move |settings: &Settings, listeners: usize| {
        let wanted = settings.limits.connections_max;
        let connections_max = wanted.min(most(listeners).max(1));
        if connections_max < wanted {
            log::warn!(
                "--connections-max {wanted}: this process may have {descriptors} descriptors, which is enough for \
                 {connections_max} connections; raise the limit with ulimit -n"
            );
        }
        Limits { connections_max, ..settings.limits.clone() }
    };
    if most(settings.listeners_at(Vec::new()).len()) == 0 {
        return Err(Failure::Runtime(format!(
            "this process may have {descriptors} descriptors, and needs some for itself before it can serve anybody: \
             raise the limit with ulimit -n"
        )));
    }
    let mut inherited = Inherited::from_systemd().map_err(failed)?;
    let inheritance = match &settings.take_over {
        Some(path) => Some(succession::take_over(path, &mut inherited).map_err(failed)?),
        None => None,
    };
    let wanted = settings.listeners_at(inherited.places().cloned().collect());
    let limits_now = limits(&settings, wanted.len());
    let connections_max = limits_now.connections_max;
    let server = Server::new(service).limits(limits_now).drain_for(settings.drain_for);
    let mut running = server.start().map_err(failed)?;
    if let Some(inheritance) = inheritance {
        running.take_over(inheritance);
    }
    let certificates = shown_in(&wanted);
    for (Wanted { place, which, .. }, bound) in bind(wanted, &mut inherited).map_err(failed)? {
        running.listen_for(place, which, bound).map_err(failed)?;
    }
    show_self_signed(&certificates).map_err(Failure::Runtime)?;
    // An error of all the above stands alone.
    log::info!("at most {connections_max} are served at a time");
    if let Some(problem) = inherited.astray() {
        log::warn!("{problem}");
    }
    for place in inherited.places() {
        log::warn!("a socket at {place} was passed to us, and no listener is wanted there: it is closed");
    }
    drop(inherited);

    let line = line.clone();
    let mut named_listeners = settings.names_listeners();
    let read = move || {
        let settings = Settings::read(&line)?;
        let access_log = access_log(&settings)?;
        // Here and not in `reload`, which runs on the loop's thread: opening a path may block.
        show_self_signed(&shown_in(&settings.listeners)).map_err(Failure::Runtime)?;
        Ok((settings, access_log))
    };
    let reload = |running: &mut Running<_>, read: Result<(Settings, Option<File>), Failure>| {
        let outcome = read.and_then(|(settings, access_log)| {
            // A program that empties the file before it writes it must not turn every service into the default one.
            if named_listeners && !settings.names_listeners() {
                let problem = "the configuration file says no longer where to listen; add a [[listener]], or stop \
                               the server";
                return Err(Failure::Usage(problem.into()));
            }
            let wanted = settings.listeners_at(running.asked().cloned().collect());
            let limits = limits(&settings, wanted.len());
            let wanted = wanted.into_iter().map(|it| (it.place, it.which)).collect();
            let changes = running.prepare(wanted).map_err(failed)?.apply();
            // From here on nothing can fail but the log.
            named_listeners = settings.names_listeners();
            running.set_limits(limits);
            running.set_drain_for(settings.drain_for);
            if let Err(problem) = set_log(&settings, access_log) {
                log::error!("the access log stays where it is: {problem}");
            }
            Ok(changes)
        });
        match outcome {
            Ok(Changes { kept, opened, closed }) => {
                log::info!("reloaded: {kept} listeners go on, {opened} are new, {closed} are gone");
            }
            Err(Failure::Usage(problem) | Failure::Runtime(problem)) => {
                log::error!("not reloaded, everything stays as it is: {problem}");
            }
        }
    };
    running.set_ends_with_terminal(!settings.from_file);
    running.run(read, reload).map_err(failed)
}

/// The files that `--self-signed-to` names.
fn shown_in(wanted: &[Wanted]) -> Vec<PathBuf> {
    wanted.iter().filter_map(|it| it.shown_in.clone()).collect()
}

/// A socket for each: one that was passed to us where there is one, else a new one.
fn bind(wanted: Vec<Wanted>, inherited: &mut Inherited) -> std::io::Result<Vec<(Wanted, Bound)>> {
    let mut sockets: Vec<Option<Bound>> = Vec::new();
    for it in &wanted {
        sockets.push(inherited.take(&it.place.endpoint, &it.place.options).transpose()?);
    }
    let mut index = 0;
    // The addresses of one name are bound together, so that they can get the same free port.
    for of_one_name in wanted.chunk_by(|one, next| one.url == next.url) {
        let here = index..index + of_one_name.len();
        index = here.end;
        let new: Vec<usize> = here.filter(|index| sockets[*index].is_none()).collect();
        let endpoints: Vec<Endpoint> =
            new.iter().map(|index| wanted[*index].place.endpoint.clone()).collect();
        of_one_name.iter().try_for_each(|it| it.place.check())?;
        let bound = bind_all(&endpoints, &of_one_name[0].place.options);
        for (index, bound) in new.into_iter().zip(bound.map_err(|error| inherited.explain(error))?) {
            sockets[index] = Some(bound);
        }
    }
    Ok(wanted.into_iter().zip(sockets.into_iter().flatten()).collect())
}

/// TCP_KEEPIDLE (tcp(7)) counts seconds, up to 32767 of them.
fn keepalive(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        time if (1..=32_767).contains(&time.as_secs()) => Ok(time),
        _ => Err("it must be from 1s to 32767s".into()),
    }
}

/// Raises the soft limit of descriptors to the hard one; how many there may be.
fn descriptors_most() -> usize {
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(error) => {
                log::warn!("the limit of {soft} descriptors could not be raised to {hard}: {error}");
                soft
            }
        },
        Ok((soft, _)) => soft,
        Err(error) => {
            log::warn!("the limit of descriptors is unknown: {error}");
            return usize::MAX;
        }
    };
    log::debug!(
        "at most {limit} descriptors are open at a time, some of them for other things than connections"
    );
    usize::try_from(limit).unwrap_or(usize::MAX)
}
