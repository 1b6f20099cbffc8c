//! `switchboard serve`: a service, where it listens, and its limits.

use std::time::Duration;

use clap::{Args, ValueEnum};
use log::LevelFilter;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Failure, LogLevel, units};
use crate::endpoint::Endpoint;
use crate::guard::{Guard, IpNet};
use crate::reactor::Limits;
use crate::server::Server;
use crate::server::place::Place;
use crate::service::Service;
use crate::service::{discard::Discard, echo::Echo, reply::Reply, source::Source};
use crate::transport::ListenOptions;

/// Descriptors that are not for connections: the standard ones, the poll, the waker, the signals, the
/// listeners, and some that a library may open for a moment.
const DESCRIPTORS_RESERVED: u64 = 32;

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
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// What to do with what clients send.
    #[arg(value_enum, default_value = "echo")]
    service: ServiceName,

    /// Where to listen; may be repeated. tcp://HOST:PORT, udp://HOST:PORT or unix:PATH; +lines or
    /// +prefixed behind the scheme picks the framing, as in tcp+lines://HOST:PORT; port 0 picks a free one.
    #[arg(long, value_name = "URL", default_value = "tcp://127.0.0.1:8080")]
    listen: Vec<Endpoint>,

    /// What the reply service answers.
    #[arg(long, value_name = "TEXT", default_value = "Hello from switchboard!")]
    message: String,

    /// Connections at a time; at the limit, new ones wait in the backlog.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections_max: u32,

    /// Serve only addresses in this network; may be repeated.
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    allow: Vec<IpNet>,

    /// Refuse addresses in this network; may be repeated. The longest prefix wins, deny on a tie.
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    deny: Vec<IpNet>,

    /// Close a connection over which nothing moved for so long.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = units::duration, allow_hyphen_values = true)]
    idle_after: Duration,

    /// Close a peer that takes nothing for so long while we have something for it.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = units::duration, allow_hyphen_values = true)]
    stall_after: Duration,

    /// On SIGTERM, wait at most so long for replies to be delivered and peers to finish.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration, allow_hyphen_values = true)]
    drain_for: Duration,

    /// The most bytes of one line or prefixed message.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = units::size, allow_hyphen_values = true)]
    message_bytes_max: usize,

    /// The most bytes that may wait for one slow peer before it is closed. At least 128KiB more than
    /// the longest message. [default: 4MiB, or that]
    #[arg(long, value_name = "SIZE", value_parser = units::size, allow_hyphen_values = true)]
    outbox_bytes_max: Option<usize>,

    /// Connections that the kernel holds until we accept them.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    backlog: u32,

    /// TCP: probe a silent peer after this long, to notice that its machine is gone.
    #[arg(long, value_name = "TIME", value_parser = units::duration, allow_hyphen_values = true)]
    keepalive: Option<Duration>,

    /// TCP and UDP: let other processes listen on the same port; the kernel spreads the load.
    #[arg(long)]
    reuse_port: bool,

    /// Unix: the permissions of the socket's file, in octal, like 660.
    #[arg(long, value_name = "MODE", value_parser = octal)]
    unix_mode: Option<u32>,

    /// What to log; RUST_LOG says it, too.
    #[arg(long, value_name = "LEVEL", value_enum)]
    log_level: Option<LogLevel>,
}

fn cidr(text: &str) -> Result<IpNet, String> {
    let single = || text.parse().map(|address: std::net::IpAddr| address.into()).ok();
    text.parse().ok().or_else(single).ok_or_else(|| {
        "write a network in CIDR notation, like 192.0.2.0/24 or 2001:db8::/32, or one address".into()
    })
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) => Ok(mode),
        _ => Err("write permission bits in octal, like 660".into()),
    }
}

pub(super) fn run(options: Options) -> Result<(), Failure> {
    crate::logging::start(level(options.log_level)?).map_err(Failure::Runtime)?;
    match options.service {
        ServiceName::Echo => serve(Echo, options),
        ServiceName::Reply => serve(Reply::new(options.message.clone()), options),
        ServiceName::Discard => serve(Discard, options),
        ServiceName::Source => serve(Source::default(), options),
    }
}

fn serve(service: impl Service, options: Options) -> Result<(), Failure> {
    let outbox_bytes_max = outbox_bytes_max(options.outbox_bytes_max, options.message_bytes_max)?;
    let limits = Limits {
        connections_max: connections_max(options.connections_max as usize),
        idle_after: options.idle_after,
        stall_after: options.stall_after,
        outbox_bytes_max,
        ..Limits::default()
    };
    let place = |endpoint| Place {
        endpoint,
        limits: limits.clone(),
        message_bytes_max: options.message_bytes_max,
        guard: Guard::new(options.allow.clone(), options.deny.clone()),
        options: ListenOptions {
            backlog: options.backlog,
            keepalive: options.keepalive,
            reuse_port: options.reuse_port,
            unix_mode: options.unix_mode,
        },
    };
    let mut server = Server::new(service).limits(limits.clone()).drain_for(options.drain_for);
    for endpoint in options.listen.iter().cloned() {
        server = server.listen_at(place(endpoint)).map_err(|error| Failure::Runtime(error.to_string()))?;
    }
    server.run().map_err(|error| Failure::Runtime(error.to_string()))
}

/// A reply as long as the longest message must fit on top of what may wait already, or a peer that did
/// nothing wrong would be taken for a slow reader.
fn outbox_bytes_max(asked: Option<usize>, message_bytes_max: usize) -> Result<usize, Failure> {
    let least = (message_bytes_max + 128 * 1024).min(Limits::BYTES_MAX);
    match asked {
        None => Ok(least.max(Limits::default().outbox_bytes_max)),
        Some(bytes) if bytes >= least => Ok(bytes),
        Some(bytes) => Err(Failure::Usage(format!(
            "--outbox-bytes-max {bytes} is too small for messages of {message_bytes_max} bytes: \
             give it at least {least}, or lower --message-bytes-max",
        ))),
    }
}

/// The command line first, then RUST_LOG, then info.
fn level(asked: Option<LogLevel>) -> Result<LevelFilter, Failure> {
    match (asked, std::env::var("RUST_LOG")) {
        (Some(level), _) => Ok(level.into()),
        (None, Ok(level)) if !level.is_empty() => level.parse().map_err(|_| {
            let levels = "off, error, warn, info, debug or trace";
            Failure::Usage(format!("RUST_LOG={level:?} is no log level: use {levels}"))
        }),
        _ => Ok(LevelFilter::Info),
    }
}

/// Raises the soft limit of descriptors to the hard one, and keeps the connections below it: a process
/// that runs out can't accept, but neither can it open anything else.
fn connections_max(asked: usize) -> usize {
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
            return asked;
        }
    };
    let most = usize::try_from(limit.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(usize::MAX).max(1);
    let connections_max = asked.min(most);
    log::info!(
        "{limit} descriptors allow {most} connections; at most {connections_max} are served at a time"
    );
    connections_max
}
