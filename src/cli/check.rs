//! `switchboard check`: what would run, without running it.
//!
//! It reads all that `serve` would read, so what is wrong is found before anybody depends on it: by an editor of the
//! file, by a unit file's `ExecReload`, by CI. Nothing is bound: that a port is free today says little about tomorrow.

use std::time::Duration;

use super::config::CommandLine;
use super::failure::Failure;
use super::settings::{Settings, Wanted};
use crate::endpoint::Endpoint;
use crate::service::directory::Which;

pub(super) fn run(line: &CommandLine) -> Result<(), Failure> {
    crate::logging::start(log::LevelFilter::Warn).map_err(Failure::Runtime)?;
    let settings = Settings::read(line)?;
    let mut text = format!(
        "at most {} connections in all, {} to drain at a stop, log level {}\n",
        settings.limits.connections_max,
        shown(settings.drain_for),
        settings.log_levels,
    );
    for wanted in &settings.listeners {
        wanted.place.check().map_err(|error| Failure::Usage(format!("{}: {error}", wanted.said)))?;
        text += &describe(wanted);
    }
    print(&text)
}

fn describe(wanted: &Wanted) -> String {
    let Wanted { place, which, said, .. } = wanted;
    let limits = place.limits();
    let mut text = format!("{} {} ({said}): ", place.endpoint, which.name());
    text += &match place.endpoint {
        Endpoint::Udp(_) => "datagrams".into(),
        _ => format!(
            "at most {} connections, idle {}, stalled {}, messages of {} bytes, outboxes of {} bytes",
            limits.connections_max,
            shown(limits.idle_after),
            shown(limits.stall_after),
            place.message_bytes_max,
            limits.outbox_bytes_max,
        ),
    };
    let (rules, (allowed, denied, proxies)) = (place.guard.rules(), place.guard.networks());
    let number = |count: usize| (count > 0).then_some(count);
    let more = [
        place.tls.as_ref().map(|_| format!("handshakes within {}", shown(limits.handshake_within))),
        number(allowed).map(|count| format!("networks allowed: {count} and no others")),
        number(denied).map(|count| format!("networks denied: {count}")),
        number(proxies).map(|count| format!("networks of proxies: {count}")),
        (place.guard.is_unix_proxy() && matches!(place.endpoint, Endpoint::Unix(..)))
            .then(|| "by way of proxies".into()),
        rules.connections_max.map(|most| format!("{most} connections per address")),
        rules.accepts.map(|rate| format!("{rate} new ones a second per address")),
        rules
            .datagrams
            .filter(|_| matches!(place.endpoint, Endpoint::Udp(_)))
            .map(|rate| format!("{rate} datagrams a second per address")),
        limits.read_bytes_per_s.map(|bytes| format!("{bytes} bytes a second per connection")),
        place.options.only_v6.then(|| "IPv6 alone".into()),
        place.metrics.then(|| "metrics".into()),
        listed("pages of", place.sites.origins()),
        listed("requests for", place.sites.hosts()),
        place.amplify.then(|| "datagrams answered at any length".into()),
        rules_of(which),
    ];
    for said in more.into_iter().flatten() {
        text += ", ";
        text += &said;
    }
    text + "\n"
}

fn listed(what: &str, names: &[impl ToString]) -> Option<String> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| format!("{what} {}", names.join(" ")))
}

/// What a service has of its own.
fn rules_of(which: &Which) -> Option<String> {
    match which {
        #[cfg(feature = "web")]
        Which::Chat { name, rules } => Some(format!(
            "{}{} messages a second per member, {} rooms, slow readers: {}, {} joins a second per address",
            name_prefix(name),
            rules.rate,
            rules.rooms_max,
            rules.slow_readers.name(),
            rules.joins_per_ip
        )),
        #[cfg(feature = "web")]
        Which::Relay { name, rules } => Some(format!(
            "{}{} ticks a second, {} players",
            name_prefix(name),
            rules.ticks_per_s,
            rules.players_max
        )),
        _ => None,
    }
}

/// The name that tells a service from others of its kind, and a comma.
#[cfg(feature = "web")]
fn name_prefix(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("name {name:?}, ") }
}

/// As it is written on the command line.
fn shown(time: Duration) -> String {
    match time {
        Duration::MAX => "off".into(),
        time => format!("{time:?}"),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()), // the reader has seen enough
        outcome => {
            outcome.map_err(|error| Failure::Runtime(format!("cannot write to standard output: {error}")))
        }
    }
}
