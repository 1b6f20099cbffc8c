//! The options of `switchboard serve`, as clap parses them; their comments are what `--help` prints.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command, ValueEnum};
use log::LevelFilter;

use super::units;

#[cfg(feature = "tls")]
use crate::endpoint::Endpoint;
use crate::endpoint::Endpoints;
#[cfg(feature = "web")]
use crate::guard::sites::{AllowedHost, AllowedOrigin};
use crate::guard::{self, IpNet, Rate};
#[cfg(feature = "web")]
use crate::service::chat::{Rules as ChatRules, SlowReaders};
use crate::service::directory::Which;
#[cfg(feature = "web")]
use crate::service::relay::Rules as RelayRules;
#[cfg(feature = "web")]
use crate::service::web::Site;

/// What the reply service answers by default.
const MESSAGE: &str = "Hello from switchboard!";

/// Records of this level and above are logged.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> LevelFilter {
        match level {
            LogLevel::Off => LevelFilter::Off,
            LogLevel::Error => LevelFilter::Error,
            LogLevel::Warn => LevelFilter::Warn,
            LogLevel::Info => LevelFilter::Info,
            LogLevel::Debug => LevelFilter::Debug,
            LogLevel::Trace => LevelFilter::Trace,
        }
    }
}

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

/// The options of `serve`, alone.
pub(super) fn command() -> Command {
    Options::augment_args(Command::new("serve").args_override_self(false).disable_version_flag(true))
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

/// TCP_KEEPIDLE (tcp(7)) counts seconds, up to 32767 of them.
fn keepalive(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        time if (1..=32_767).contains(&time.as_secs()) => Ok(time),
        _ => Err("it must be from 1s to 32767s".into()),
    }
}
