//! What is to run: the command line and the file, put together.
//!
//! It is read at the start, and again at each SIGHUP. Reading changes nothing, so a mistake costs nothing.
//!
//! Invariant: no two listeners want the same place.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
#[cfg(feature = "tls")]
use std::sync::OnceLock;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Command, FromArgMatches};
use log::LevelFilter;

use super::audience;
use super::config::{CommandLine, File, Words};
use super::failure::{Failure, one_line};
use super::options::{Options, Proxies, command};
use crate::endpoint::Endpoint;
use crate::guard::{self, Guard, IpNet, Rules, Sites};
use crate::logging::Levels;
use crate::protocol::Framing;
use crate::reactor::Limits;
use crate::server::place::Place;
use crate::service::directory::Which;
use crate::transport::ListenOptions;
use crate::transport::stream::is_abstract;
#[cfg(feature = "tls")]
use crate::transport::tls::SelfSigned;
use crate::transport::tls::ServerTls;

const BY_DEFAULT: &str = "by default";

/// See the module's text.
#[derive(Debug)]
pub(super) struct Settings {
    /// Of the process: connections in all.
    pub(super) limits: Limits,
    pub(super) drain_for: Duration,
    pub(super) log_levels: Levels,
    /// Where requests are logged.
    pub(super) access_log: Option<PathBuf>,
    pub(super) listeners: Vec<Wanted>,
    /// Where the process waits that we take over from.
    pub(super) take_over: Option<PathBuf>,
    /// Listeners may have different services, and other ones later.
    pub(super) from_file: bool,
}

/// One listener.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) place: Place,
    pub(super) which: Which,
    /// Where this was said: a file's line and column, or an option.
    pub(super) said: String,
    /// The number of its URL: the addresses of one name have the same.
    pub(super) url: usize,
    /// Where its self-signed certificate is written, once it listens.
    pub(super) shown_in: Option<PathBuf>,
}

impl Settings {
    /// # Errors
    /// One line that says what is wrong, and where.
    pub(super) fn read(line: &CommandLine) -> Result<Settings, Failure> {
        let command = command();
        let alone = parse(&command, line.in_full(&command))?;
        let Some(path) = &alone.config else {
            let mut listeners = Vec::new();
            let said = if alone.listen.is_empty() { BY_DEFAULT } else { "--listen" };
            listeners_of(&alone, said, &mut listeners)?;
            return Settings::of(&alone, listeners, None);
        };

        let file = File::read(path, &command).map_err(Failure::Usage)?;
        let said = file.process(&command, line);
        let process = parse(&command, said.words.clone())?;
        let mut listeners = Vec::new();
        let from_tables = if line.says("listen") { Vec::new() } else { file.listeners(&command, line) };
        let only_tables = process.listen.is_empty() && !from_tables.is_empty();
        if !only_tables {
            let by = match process.listen.is_empty() {
                true => BY_DEFAULT,
                false if line.says("listen") => "--listen",
                false => &said.place,
            };
            listeners_of(&process, by, &mut listeners)?;
        }
        for table in from_tables {
            let at = |failure| placed(failure, &table);
            let options = parse(&command, table.words.clone()).map_err(at)?;
            let before = listeners.len();
            listeners_of(&options, &table.place, &mut listeners).map_err(at)?;
            audience::check_table(&options, &process, &audiences(&listeners[before..])).map_err(at)?;
        }
        Settings::of(&process, listeners, Some(&said))
    }

    /// `file`: where the process's options stand in one.
    fn of(process: &Options, mut listeners: Vec<Wanted>, file: Option<&Words>) -> Result<Settings, Failure> {
        let at = |failure| match file {
            Some(file) => placed(failure, file),
            None => failure,
        };
        audience::check_process(process, &audiences(&listeners)).map_err(at)?;
        if let Some(udp) = listeners
            .iter()
            .find(|it| matches!(it.which, Which::Source) && matches!(it.place.endpoint, Endpoint::Udp(_)))
        {
            return Err(Failure::Usage(format!(
                "{}: the service source is for streams: over UDP there is nobody to send to until a datagram comes; \
                 listen on tcp:// or unix:, or take echo or reply",
                udp.said
            )));
        }
        if let Some(problem) = nobody_obeys(process, &listeners) {
            return Err(at(Failure::Usage(problem)));
        }
        part_the_families(&mut listeners);
        listeners.iter().for_each(warn_of_ipv4);
        listeners.iter().for_each(warn_of_short_datagrams);
        for (index, one) in listeners.iter().enumerate() {
            if let Some(other) = listeners[..index].iter().find(|other| overlap(one, other)) {
                return Err(Failure::Usage(format!(
                    "{}: {} is taken already, by {} ({}): give it another {}",
                    one.said,
                    one.place.endpoint,
                    other.place.endpoint,
                    other.said,
                    if matches!(one.place.endpoint, Endpoint::Unix(..)) { "path" } else { "port" }
                )));
            }
        }
        unify(&mut listeners);
        Ok(Settings {
            limits: limits(process).map_err(at)?,
            drain_for: process.drain_for,
            log_levels: levels(process)?,
            access_log: access_log(process),
            listeners,
            take_over: process.take_over.clone(),
            from_file: file.is_some(),
        })
    }

    /// Whether the file or the command line says where to listen.
    pub(super) fn names_listeners(&self) -> bool {
        self.listeners.iter().any(|it| it.said != BY_DEFAULT)
    }

    /// The listeners. Where nobody said where to listen, they are at these places, if there are any: where we
    /// were given sockets.
    pub(super) fn listeners_at(&self, places: Vec<Endpoint>) -> Vec<Wanted> {
        match &self.listeners[..] {
            [everyday] if everyday.said == BY_DEFAULT && !places.is_empty() => {
                let framing = everyday.place.endpoint.framing();
                let at = |(url, place): (usize, Endpoint)| {
                    let endpoint = place.with_framing(framing);
                    Wanted { place: Place { endpoint, ..everyday.place.clone() }, url, ..everyday.clone() }
                };
                places.into_iter().enumerate().map(at).collect()
            }
            listeners => listeners.to_vec(),
        }
    }
}

/// With the place in the file.
fn placed(failure: Failure, said: &Words) -> Failure {
    match failure {
        Failure::Usage(problem) => Failure::Usage(format!("{}: {problem}", said.place_of(&problem))),
        other => other,
    }
}

/// Listeners with the same service share one, which has one set of tunables: those of the first of them.
fn unify(listeners: &mut [Wanted]) {
    for index in 1..listeners.len() {
        let (before, rest) = listeners.split_at_mut(index);
        let it = &mut rest[0];
        let shares = |other: &&Wanted| it.which.is_shared() && other.which.is_same_service(&it.which);
        if let Some(first) = before.iter().find(shares)
            && first.which != it.which
        {
            log::warn!(
                "{}: {} has other settings for {} than {} ({}), with which it shares it: those hold. Give one a name to have two",
                it.said,
                it.place.endpoint,
                it.which.name(),
                first.place.endpoint,
                first.said,
            );
            it.which = first.which.clone();
        }
    }
}

fn audiences(listeners: &[Wanted]) -> Vec<(&Endpoint, &'static str)> {
    listeners.iter().map(|it| (&it.place.endpoint, it.which.name())).collect()
}

fn parse(command: &Command, words: Vec<std::ffi::OsString>) -> Result<Options, Failure> {
    let failed = |error: clap::Error| Failure::Usage(one_line(&error));
    let matches = command.clone().try_get_matches_from(words).map_err(failed)?;
    let mut options = Options::from_arg_matches(&matches).map_err(failed)?;
    let is_given = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    options.given = matches.ids().filter(is_given).map(|id| id.as_str().to_owned()).collect();
    Ok(options)
}

/// The listeners that are asked for: for each URL, one at each address of its host that this machine has.
fn listeners_of(options: &Options, said: &str, listeners: &mut Vec<Wanted>) -> Result<(), Failure> {
    let everyday = || vec![options.everyday().parse().expect("it is ours, and right")];
    let urls = if options.listen.is_empty() { everyday() } else { options.listen.clone() };
    for url in urls {
        let number = listeners.last().map_or(0, |last| last.url + 1);
        let here = url.of_this_machine();
        for elsewhere in url.all().iter().filter(|endpoint| !here.contains(endpoint)) {
            log::warn!("{said}: {elsewhere} is no address of this machine: not listened on");
        }
        for endpoint in here {
            listeners.push(Wanted { url: number, ..wanted(options, endpoint, said)? });
        }
    }
    Ok(())
}

/// What is wrong with an option that no listener can obey, though it looks as if one did.
fn nobody_obeys(process: &Options, listeners: &[Wanted]) -> Option<String> {
    let unix = listeners.iter().filter_map(|listener| match &listener.place.endpoint {
        Endpoint::Unix(path, _) => Some(path),
        _ => None,
    });
    let (count, abstract_count) = (unix.clone().count(), unix.filter(|path| is_abstract(path)).count());
    if process.unix_mode.is_some() && count > 0 && count == abstract_count {
        return Some(
            "--unix-mode is for socket files, and unix:@NAME has none: every process here can connect to it; listen on unix:PATH, \
             or leave the option out"
                .into(),
        );
    }
    let by = |proxies| process.proxy_protocol.contains(proxies);
    if by(&Proxies::Unix) && count == 0 {
        return Some(
            "--proxy-protocol unix is for unix: listeners, and there is none: give the proxies' network"
                .into(),
        );
    }
    if !process.proxy_protocol.is_empty() && !by(&Proxies::Unix) && count == listeners.len() {
        return Some(
            "--proxy-protocol: a network is for IP, and all listeners are Unix sockets: write --proxy-protocol unix".into(),
        );
    }
    None
}

/// Who denies all of IPv6 may believe that nothing is left.
fn warn_of_ipv4(listener: &Wanted) {
    let Place { endpoint, guard, options, .. } = &listener.place;
    let at_all = |it: SocketAddr| it.is_ipv6() && it.ip().is_unspecified();
    if guard.lets_ipv4_alone_pass() && !options.only_v6 && endpoint.address().is_some_and(at_all) {
        log::warn!(
            "{}: {endpoint} takes IPv4 as well, and deny ::/0 lets that pass: deny 0.0.0.0/0, too",
            listener.said
        );
    }
}

/// Over UDP the answer of `reply` is dropped if it is longer than what was asked.
fn warn_of_short_datagrams(listener: &Wanted) {
    if let (Endpoint::Udp(_), Which::Reply { answer }, false) =
        (&listener.place.endpoint, &listener.which, listener.place.amplify)
    {
        log::warn!(
            "{}: {} answers only datagrams of at least {} bytes, the length of its message; --amplify answers all",
            listener.said,
            listener.place.endpoint,
            answer.len()
        );
    }
}

/// A socket at [::] takes IPv4 as well, unless it is told not to: it is, where IPv4 has a listener of its own at that port.
fn part_the_families(listeners: &mut [Wanted]) {
    let places: Vec<Endpoint> = listeners.iter().map(|listener| listener.place.endpoint.clone()).collect();
    for listener in listeners {
        let at_all = |address: &SocketAddr| address.is_ipv6() && address.ip().is_unspecified();
        let Some(here) = listener.place.endpoint.address().filter(at_all).filter(|it| it.port() != 0) else {
            continue;
        };
        let other = |endpoint: &&Endpoint| {
            endpoint.address().is_some_and(|there| {
                there.ip().to_canonical().is_ipv4()
                    && listener.place.endpoint.same_socket(&(*endpoint).clone().at(here))
                    && there.port() == here.port()
            })
        };
        listener.place.options.only_v6 = places.iter().any(|it| other(&it));
        let all_of_ipv4 = |it: &&Endpoint| it.address().is_some_and(|there| there.ip().is_unspecified());
        let others = places.iter().filter(other);
        if let (Some(one), None) = (others.clone().next(), others.clone().find(all_of_ipv4)) {
            log::warn!(
                "{}: {} takes IPv6 alone, because {one} is a listener of its own: for the rest of IPv4, listen at 0.0.0.0 instead",
                listener.said,
                listener.place.endpoint
            );
        }
    }
}

/// What a service speaks at this endpoint.
fn spoken(endpoint: Endpoint, service: &str) -> Result<Endpoint, Failure> {
    match (service, &endpoint) {
        ("web", _) if !serves_requests(&endpoint) => Err(Failure::Usage(format!(
            "the service web speaks HTTP: listen on http://HOST:PORT instead of {endpoint}"
        ))),
        ("chat", Endpoint::Udp(_)) => Err(Failure::Usage(format!(
            "the service chat is for streams: listen on http://HOST:PORT or tcp://HOST:PORT instead of {endpoint}"
        ))),
        ("relay", Endpoint::Udp(_)) => Ok(endpoint),
        ("relay", _) if !is_http(&endpoint) => Err(Failure::Usage(format!(
            "the service relay speaks datagrams and WebSocket: listen on udp://HOST:PORT or http://HOST:PORT instead of {endpoint}"
        ))),
        // What is said in a chat has an end.
        ("chat", _) if endpoint.framing() == Framing::Raw => Ok(endpoint.with_framing(Framing::Lines)),
        _ => Ok(endpoint),
    }
}

fn wanted(options: &Options, endpoint: Endpoint, said: &str) -> Result<Wanted, Failure> {
    let which = options.which().map_err(Failure::Usage)?;
    let endpoint = spoken(endpoint, which.name())?;
    let tls = match endpoint {
        Endpoint::Tls(..) => Some(certificate(options, &endpoint).map(|tls| match is_http(&endpoint) {
            true => tls.speaking("http/1.1"), // a browser may ask for more
            false => tls,
        })?),
        _ => None,
    };
    let place = Place {
        endpoint,
        limits: limits(options)?,
        message_bytes_max: options.message_bytes_max,
        guard: guard(options)?,
        amplify: options.amplify,
        #[cfg(feature = "web")]
        metrics: options.metrics,
        #[cfg(not(feature = "web"))]
        metrics: false,
        #[cfg(feature = "web")]
        sites: Sites::new(options.origin.clone(), options.host.clone()),
        #[cfg(not(feature = "web"))]
        sites: Sites::default(),
        tls,
        options: ListenOptions {
            backlog: options.backlog,
            keepalive: options.keepalive,
            reuse_port: options.reuse_port,
            only_v6: false, // see `part_the_families`
            unix_mode: options.unix_mode,
        },
    };
    // The file says what the listener shows, so there must be one.
    let shown_in = options.self_signed_to.clone().filter(|_| place.tls.is_some());
    Ok(Wanted { place, which, said: said.into(), url: 0, shown_in })
}

fn is_http(endpoint: &Endpoint) -> bool {
    #[cfg(feature = "web")]
    if matches!(endpoint.framing(), Framing::Http | Framing::WebSocket) {
        return true;
    }
    let _ = endpoint;
    false
}

/// Where requests are answered by the service, and don't make WebSockets.
fn serves_requests(endpoint: &Endpoint) -> bool {
    #[cfg(feature = "web")]
    if endpoint.framing() == Framing::WebSocket {
        return false;
    }
    is_http(endpoint)
}

#[cfg(feature = "web")]
fn access_log(options: &Options) -> Option<PathBuf> {
    options.access_log.clone()
}

#[cfg(not(feature = "web"))]
fn access_log(_options: &Options) -> Option<PathBuf> {
    None
}

/// The lists: what is named one by one, and what stands in files.
fn guard(options: &Options) -> Result<Guard, Failure> {
    let (mut allow, mut deny) = (options.allow.clone(), options.deny.clone());
    for path in &options.allow_file {
        let networks = networks("--allow-file", path)?;
        if networks.is_empty() {
            // Allowing nobody and having no allow list are opposites: we don't guess.
            return Err(Failure::Usage(format!(
                "--allow-file {}: it names no network: add one, or leave the option out to allow everybody",
                path.display()
            )));
        }
        allow.extend(networks);
    }
    for path in &options.deny_file {
        deny.extend(networks("--deny-file", path)?);
    }
    let rules = Rules {
        connections_max: options.connections_per_ip_max,
        accepts: options.accepts_per_ip,
        datagrams: options.datagrams_per_ip.0,
    };
    let networks = options.proxy_protocol.iter().filter_map(|proxies| match proxies {
        Proxies::In(network) => Some(*network),
        Proxies::Unix => None,
    });
    let guard = Guard::new(allow, deny).with_rules(rules).with_proxies(networks.collect());
    Ok(guard.with_unix_proxies(options.proxy_protocol.contains(&Proxies::Unix)))
}

fn networks(option: &str, path: &Path) -> Result<Vec<IpNet>, Failure> {
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::Usage(format!("{option} {}: cannot read it: {error}", path.display())))?;
    // A comment may be in any encoding; a network is ASCII, or none.
    guard::networks(&String::from_utf8_lossy(&bytes))
        .map_err(|(line, problem)| Failure::Usage(format!("{option} {}:{line}: {problem}", path.display())))
}

/// What a tls:// listener says of itself.
#[cfg(feature = "tls")]
fn certificate(options: &Options, endpoint: &Endpoint) -> Result<ServerTls, Failure> {
    let client_ca = options.client_ca.as_deref();
    match (&options.cert, &options.key, options.self_signed) {
        (Some(_), _, false) if options.self_signed_to.is_some() => {
            Err("--self-signed-to is for --self-signed: leave it out, or --cert and --key".into())
        }
        (Some(cert), Some(key), false) => ServerTls::from_files(cert, key, client_ca),
        (None, None, true) => self_signed(options).and_then(|made| ServerTls::self_signed(made, client_ca)),
        (_, _, true) => Err("--self-signed makes a certificate: give no --cert and no --key with it".into()),
        (Some(_), None, _) => Err("--cert needs its --key".into()),
        (None, Some(_), _) => Err("--key needs its --cert".into()),
        (None, None, false) => Err(format!(
            "{endpoint} needs a certificate: give --cert FILE and --key FILE, or --self-signed for development"
        )),
    }
    .map_err(Failure::Usage)
}

#[cfg(not(feature = "tls"))]
fn certificate(_options: &Options, _endpoint: &Endpoint) -> Result<ServerTls, Failure> {
    Err(Failure::Usage("tls:// needs the feature `tls`".into()))
}

#[cfg(feature = "tls")]
static MADE: OnceLock<SelfSigned> = OnceLock::new();

/// Writes the self-signed certificate into the files that `--self-signed-to` names. Called once the listeners are bound: a
/// process that cannot start, and `check`, leave the file of a running server alone. May block: not for the loop's thread.
///
/// # Errors
/// One line that names the file.
pub(super) fn show_self_signed(paths: &[PathBuf]) -> Result<(), String> {
    #[cfg(feature = "tls")]
    if let Some(made) = MADE.get() {
        let is_there = |path: &PathBuf| std::fs::read(path).is_ok_and(|bytes| bytes == made.pem().as_bytes());
        for path in paths.iter().filter(|path| !is_there(path)) {
            std::fs::write(path, made.pem())
                .map_err(|error| format!("--self-signed-to {}: cannot write it: {error}", path.display()))?;
        }
    }
    let _ = paths;
    Ok(())
}

/// Returns the same certificate for all listeners and after every reload, as long as the process lives.
#[cfg(feature = "tls")]
fn self_signed(options: &Options) -> Result<&'static SelfSigned, String> {
    if let Some(made) = MADE.get() {
        return Ok(made);
    }
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    for endpoint in options.endpoints() {
        if let Endpoint::Tls(_, _, host) = endpoint
            && !names.contains(host)
        {
            names.push(host.clone());
        }
    }
    let made = SelfSigned::new(names.clone())?;
    let made = MADE.get_or_init(|| made);
    log::info!("self-signed for {}: SHA-256 {}", names.join(", "), made.fingerprint());
    Ok(made)
}

/// Whether both can't be bound: at one place, or at one port of all addresses and of one of them.
fn overlap(one: &Wanted, other: &Wanted) -> bool {
    let shared = one.place.options.reuse_port && other.place.options.reuse_port;
    let (one, other) = (&one.place.endpoint, &other.place.endpoint);
    match (one.address(), other.address()) {
        (Some(here), Some(there)) => {
            // [::ffff:127.0.0.1] is IPv4; and [::] leaves IPv4 to the other: see `part_the_families`.
            let (this, that) = (here.ip().to_canonical(), there.ip().to_canonical());
            let wildcard = this.is_unspecified() || that.is_unspecified();
            let covers = this.is_ipv4() == that.is_ipv4() && wildcard && !shared;
            let one_place =
                here == there || (here.port() == there.port() && (this == that && this.is_ipv4() || covers));
            here.port() != 0 && one_place && one.clone().at(there).same_socket(other)
        }
        _ => one.same_socket(other),
    }
}

fn limits(options: &Options) -> Result<Limits, Failure> {
    Ok(Limits {
        connections_max: options.connections_max as usize,
        read_bytes_per_s: options.bytes_per_s.map(|bytes| bytes as u64),
        idle_after: options.idle_after,
        message_within: options.message_within,
        stall_after: options.stall_after,
        handshake_within: options.handshake_within,
        outbox_bytes_max: outbox_bytes_max(options.outbox_bytes_max, options.message_bytes_max)?,
        ..Limits::default()
    })
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

/// What was asked for first, then RUST_LOG, then info.
fn levels(options: &Options) -> Result<Levels, Failure> {
    match (options.log_level, std::env::var("RUST_LOG")) {
        (Some(level), _) => Ok(LevelFilter::from(level).into()),
        (None, Ok(levels)) => {
            let wrong = |problem| Failure::Usage(format!("RUST_LOG={levels:?}: {problem}"));
            levels.parse().map_err(wrong)
        }
        _ => Ok(Levels::DEFAULT.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Rate;

    #[test]
    fn the_program_has_the_librarys_rate_of_datagrams_by_default() {
        let options = parse(&command(), vec!["serve".into()]).unwrap_or_else(|_| panic!("it is right"));
        assert_eq!(options.datagrams_per_ip.0, Some(Rate::DATAGRAMS));
    }
}
