//! Endpoints: where to listen or connect to, and what is spoken there, as a URL says it.
//!
//! `tcp://HOST:PORT`, `tls://HOST:PORT`, `udp://HOST:PORT`, `unix:PATH`; a bare `HOST:PORT` is TCP. The scheme's tail picks
//! the framing: `tcp+lines://`, `unix+prefixed:`; without one, bytes are raw. `http://HOST:PORT` and `https://` are HTTP over
//! TCP and TLS (port 80 and 443 where none is said), `unix+http:PATH` is that over a Unix socket; `ws://`, `wss://` and
//! `unix+ws:` are WebSocket. IPv6 stands in brackets, with its zone where it is link-local: `[fe80::1%eth0]`. `unix:@NAME` is
//! a name in Linux's abstract namespace, which has no file.
//!
//! An [`Endpoint`] is one place: one socket can listen there. A URL can stand for several, because a host's name can have
//! several addresses: [`Endpoints`].

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs, UdpSocket};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;

use crate::protocol::Framing;
use crate::transport::stream::{interface, is_abstract};

/// A parsed URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address.
    Tcp(SocketAddr, Framing),
    /// A TCP address where TLS is spoken, and the host as it was written: what a certificate is for.
    Tls(SocketAddr, Framing, String),
    /// A Unix stream socket. A path that begins with a NUL byte is an abstract name, which is written with `@`.
    Unix(PathBuf, Framing),
    /// A UDP address.
    Udp(SocketAddr),
}

impl Endpoint {
    /// Its address; `None` for a path.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Endpoint::Tcp(address, _) | Endpoint::Tls(address, ..) | Endpoint::Udp(address) => Some(*address),
            Endpoint::Unix(..) => None,
        }
    }

    /// The same with this address; a path stays what it is.
    pub fn at(mut self, new: SocketAddr) -> Endpoint {
        match &mut self {
            Endpoint::Tcp(address, _) | Endpoint::Tls(address, ..) | Endpoint::Udp(address) => *address = new,
            Endpoint::Unix(..) => {}
        }
        self
    }

    /// The same where this is spoken; datagrams stay what they are.
    pub fn with_framing(mut self, new: Framing) -> Endpoint {
        match &mut self {
            Endpoint::Tcp(_, framing) | Endpoint::Tls(_, framing, _) | Endpoint::Unix(_, framing) => {
                *framing = new;
            }
            Endpoint::Udp(_) => {}
        }
        self
    }

    /// Whether one socket would do for both: they differ in what is spoken alone.
    pub fn same_socket(&self, other: &Endpoint) -> bool {
        match (self, other) {
            (
                Endpoint::Tcp(one, _) | Endpoint::Tls(one, ..),
                Endpoint::Tcp(other, _) | Endpoint::Tls(other, ..),
            )
            | (Endpoint::Udp(one), Endpoint::Udp(other)) => one == other,
            (Endpoint::Unix(one, _), Endpoint::Unix(other, _)) => one == other,
            _ => false,
        }
    }

    /// What is spoken there; datagrams are messages already.
    pub fn framing(&self) -> Framing {
        match self {
            Endpoint::Tcp(_, framing) | Endpoint::Tls(_, framing, _) | Endpoint::Unix(_, framing) => *framing,
            Endpoint::Udp(_) => Framing::Raw,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = match self.framing() {
            Framing::Raw => "",
            Framing::Lines => "+lines",
            Framing::Prefixed => "+prefixed",
            #[cfg(feature = "web")]
            Framing::Http => "+http",
            #[cfg(feature = "web")]
            Framing::WebSocket => "+ws",
        };
        match self {
            #[cfg(feature = "web")]
            Endpoint::Tcp(address, Framing::Http) => write!(f, "http://{address}"),
            #[cfg(feature = "web")]
            Endpoint::Tls(address, Framing::Http, _) => write!(f, "https://{address}"),
            #[cfg(feature = "web")]
            Endpoint::Tcp(address, Framing::WebSocket) => write!(f, "ws://{address}"),
            #[cfg(feature = "web")]
            Endpoint::Tls(address, Framing::WebSocket, _) => write!(f, "wss://{address}"),
            Endpoint::Tcp(address, _) => write!(f, "tcp{tail}://{address}"),
            Endpoint::Tls(address, ..) => write!(f, "tls{tail}://{address}"),
            Endpoint::Unix(path, _) => {
                let (mark, name) = match path.as_os_str().as_bytes() {
                    [0, name @ ..] => ("@", String::from_utf8_lossy(name)),
                    path => ("", String::from_utf8_lossy(path)),
                };
                write!(f, "unix{tail}:{mark}")?;
                // A path may hold anything; where it is shown, it stays on its line.
                name.chars().try_for_each(|c| match c.is_control() {
                    true => write!(f, "{}", c.escape_default()),
                    false => write!(f, "{c}"),
                })
            }
            Endpoint::Udp(address) => write!(f, "udp://{address}"),
        }
    }
}

/// What is wrong with a URL, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadUrl(String);

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadUrl {}

impl FromStr for Endpoint {
    type Err = BadUrl;

    /// The first one of the URL's [`Endpoints`].
    fn from_str(url: &str) -> Result<Self, BadUrl> {
        Endpoints::from_str(url).map(|all| all.0[0].clone())
    }
}

/// The endpoints that one URL stands for: one for each address of its host, in the order in which the resolver prefers them
/// (RFC 6724), each once. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints(Vec<Endpoint>);

impl Endpoints {
    /// All of them.
    pub fn all(&self) -> &[Endpoint] {
        &self.0
    }

    /// Those where a socket can be bound here; all, where that is none (binding them says why). A name often has more
    /// addresses than the machine: `localhost` is ::1 in many a container that has no IPv6.
    pub fn of_this_machine(&self) -> Vec<Endpoint> {
        let local = |endpoint: &&Endpoint| endpoint.address().is_none_or(is_local);
        match self.0.iter().filter(local).cloned().collect::<Vec<_>>() {
            local if local.is_empty() => self.0.clone(),
            local => local,
        }
    }
}

/// Only addresses of this machine can be bound. Nothing is sent.
fn is_local(mut address: SocketAddr) -> bool {
    address.set_port(0);
    UdpSocket::bind(address).is_ok()
}

impl From<Endpoint> for Endpoints {
    fn from(endpoint: Endpoint) -> Endpoints {
        Endpoints(vec![endpoint])
    }
}

impl FromStr for Endpoints {
    type Err = BadUrl;

    /// Names are resolved here, once.
    fn from_str(url: &str) -> Result<Self, BadUrl> {
        let bad = |problem: String| Err(BadUrl(problem));
        // A scheme is the same in capitals (RFC 3986, 3.1).
        let (written, rest) = url.split_once(':').unwrap_or(("", url));
        let scheme = written.to_ascii_lowercase();
        if scheme == "unix" || scheme.starts_with("unix+") {
            return Ok(Endpoint::Unix(unix_path(rest)?, framing(&scheme, "unix")?).into());
        }
        let (scheme, rest) = match rest.strip_prefix("//") {
            Some(rest) => (scheme.as_str(), rest),
            None => ("tcp", url),
        };
        const SCHEMES: [&str; 7] = ["tcp", "tls", "http", "https", "ws", "wss", "udp"];
        if scheme == "tcp" && rest == url && !written.is_empty() {
            let known = written.to_ascii_lowercase();
            let base = known.split('+').next().unwrap_or_default();
            if SCHEMES.contains(&base) {
                let behind = &url[written.len() + 1..];
                let (missing, behind) = match behind.strip_prefix('/') {
                    Some(behind) => ("a slash is", behind),
                    None => ("two slashes are", behind),
                };
                return bad(format!("{missing} missing: write {known}://{}", non_empty(behind)));
            }
        }
        // The hints below repeat the scheme, so it must be one.
        let base = scheme.split('+').next().unwrap_or_default();
        if !SCHEMES.contains(&base) {
            return bad(unknown(scheme));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some((host, path)) = rest.split_once('/') {
            return bad(format!("/{path} is a path, and an address has none: write {scheme}://{host}"));
        }
        if rest.is_empty() {
            return bad(format!("a host and a port are missing: write {scheme}://127.0.0.1:8080"));
        }
        if rest == url && rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return bad(format!(
                "a host is missing: write tcp://127.0.0.1:{rest}, or tcp://0.0.0.0:{rest} for every IPv4 address"
            ));
        }
        let over_tcp = |host: &str, framing| each(host, |at| Endpoint::Tcp(at, framing));
        match scheme {
            "udp" => each(rest, Endpoint::Udp),
            tcp if tcp == "tcp" || tcp.starts_with("tcp+") => over_tcp(rest, framing(tcp, "tcp")?),
            tls if tls == "tls" || tls.starts_with("tls+") => over_tls(scheme, rest, framing(tls, "tls")?),
            #[cfg(feature = "web")]
            "http" => over_tcp(&with_port(rest, 80), Framing::Http),
            #[cfg(feature = "web")]
            "https" => over_tls(scheme, &with_port(rest, 443), Framing::Http),
            #[cfg(feature = "web")]
            "ws" => over_tcp(&with_port(rest, 80), Framing::WebSocket),
            #[cfg(feature = "web")]
            "wss" => over_tls(scheme, &with_port(rest, 443), Framing::WebSocket),
            #[cfg(not(feature = "web"))]
            "http" | "https" | "ws" | "wss" => {
                bad(format!("{scheme}:// needs the feature `web`: use tcp://, udp:// or unix:"))
            }
            _ => bad(unknown(scheme)),
        }
    }
}

fn unknown(scheme: &str) -> String {
    format!(
        "the scheme {scheme:?} is unknown: use tcp://HOST:PORT, tls://HOST:PORT, http://HOST:PORT, https://HOST:PORT, \
         ws://HOST:PORT, wss://HOST:PORT, udp://HOST:PORT or unix:PATH"
    )
}

/// One for each address.
fn each(host_and_port: &str, endpoint: impl Fn(SocketAddr) -> Endpoint) -> Result<Endpoints, BadUrl> {
    resolve(host_and_port).map(|addresses| Endpoints(addresses.into_iter().map(endpoint).collect()))
}

/// A path, or an abstract name.
fn unix_path(written: &str) -> Result<PathBuf, BadUrl> {
    let path: PathBuf = match written.strip_prefix('@') {
        Some(name) => OsString::from_vec([b"\0", name.as_bytes()].concat()).into(),
        None => written.into(),
    };
    match written {
        "" => Err(BadUrl("a path is missing: write unix:/run/name.sock".into())),
        "@" => Err(BadUrl("a name is missing: write unix:@name".into())),
        _ if written.contains('\0') => Err(BadUrl("a path can't hold a NUL byte".into())),
        _ if is_abstract(&path) && cfg!(not(any(target_os = "linux", target_os = "android"))) => {
            Err(BadUrl(format!("abstract names are Linux's: write unix:./{written} for a file")))
        }
        _ => Ok(path), // how long it may be is a question of the system, and asked where it is bound
    }
}

fn over_tls(scheme: &str, rest: &str, framing: Framing) -> Result<Endpoints, BadUrl> {
    if cfg!(not(feature = "tls")) {
        return Err(BadUrl(format!("{scheme}:// needs the feature `tls`: use tcp://, udp:// or unix:")));
    }
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host).trim_matches(['[', ']']);
    let host = host.split('%').next().unwrap_or_default(); // a zone means nothing to the other end
    each(rest, |address| Endpoint::Tls(address, framing, host.to_owned()))
}

/// With the scheme's port, where none is said.
#[cfg(feature = "web")]
fn with_port(host: &str, port: u16) -> String {
    let has_port =
        host.rsplit_once(':').is_some_and(|(before, _)| !before.starts_with('[') || before.ends_with(']'));
    match has_port || host.is_empty() {
        true => host.to_owned(),
        false => format!("{host}:{port}"),
    }
}

fn framing(scheme: &str, transport: &str) -> Result<Framing, BadUrl> {
    match &scheme[transport.len()..] {
        "" | "+raw" => Ok(Framing::Raw),
        "+lines" => Ok(Framing::Lines),
        "+prefixed" => Ok(Framing::Prefixed),
        #[cfg(feature = "web")]
        "+http" if transport == "unix" => Ok(Framing::Http),
        #[cfg(feature = "web")]
        "+ws" if transport == "unix" => Ok(Framing::WebSocket),
        other => Err(BadUrl(format!(
            "the framing {:?} is unknown: use {transport}, {transport}+lines or {transport}+prefixed",
            other.trim_start_matches('+'),
        ))),
    }
}

/// Every address of a host, each once.
fn resolve(host_and_port: &str) -> Result<Vec<SocketAddr>, BadUrl> {
    let bad = |problem: String| Err(BadUrl(problem));
    if let Some((user, _)) = host_and_port.rsplit_once('@') {
        let user = user.split(':').next().unwrap_or_default(); // what follows may be a password
        return bad(format!("{user:?} before the @ would be a user: leave it out"));
    }
    if let Ok(address @ SocketAddr::V4(_)) = host_and_port.parse() {
        return Ok(vec![address]);
    }
    let Some((host, port)) = host_and_port.rsplit_once(':') else {
        return bad(format!("a port is missing: write {}:8080", non_empty(host_and_port)));
    };
    if host.contains(':') && !host.starts_with('[') {
        // Which colon is before the port? The last one, where an address stands in front of it.
        let written = match host.parse::<Ipv6Addr>() {
            Ok(_) if port.parse::<u16>().is_ok() => format!("[{host}]:{port}"),
            _ if host_and_port.parse::<Ipv6Addr>().is_ok() => format!("[{host_and_port}]:8080"),
            _ => "[::1]:8080".to_owned(),
        };
        return bad(format!("an IPv6 address stands in brackets: write {written}"));
    }
    if port.parse::<u16>().is_err() {
        return bad(format!("the port {port:?} is not a number from 0 to 65535"));
    }
    if host.is_empty() || host == "*" {
        return bad(format!(
            "a host is missing: write 127.0.0.1:{port}, or 0.0.0.0:{port} for every IPv4 address"
        ));
    }
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return ipv6(inner, port.parse().unwrap_or_default()).map(|address| vec![address]);
    }
    if let Some(inner) = host.strip_prefix('[') {
        let written = match inner.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]:{port}"),
            Err(_) => "an IPv6 address as in [::1]:8080".into(),
        };
        return bad(format!("{host_and_port:?} lacks a bracket: write {written}"));
    }
    match host_and_port.to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for address in found {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            match addresses.is_empty() {
                true => bad(format!("the host {host:?} has no address")),
                false => Ok(addresses),
            }
        }
        Err(error) => bad(format!("the host {host:?} can't be resolved: {error}")),
    }
}

/// What stands in brackets: an address, and its zone behind a `%` (RFC 4007, section 11), by name or number.
fn ipv6(inner: &str, port: u16) -> Result<SocketAddr, BadUrl> {
    let bad = |problem: String| Err(BadUrl(problem));
    let (address, zone) = inner.split_once('%').map_or((inner, None), |(it, zone)| (it, Some(zone)));
    let Ok(address) = address.parse::<Ipv6Addr>() else {
        return bad(format!("{address:?} is no IPv6 address: write one as in [::1]:8080"));
    };
    let number = |zone: &str| zone.parse::<u32>().ok().or_else(|| interface(zone));
    let scope = match zone {
        // In a URL, a browser would write the sign as %25 (RFC 6874).
        Some(zone) => match number(zone).or_else(|| number(zone.strip_prefix("25")?)) {
            Some(scope) => scope,
            None => {
                return bad(format!(
                    "the zone {zone:?} is no network interface: see `ip link` for their names"
                ));
            }
        },
        None if address.is_unicast_link_local() => {
            return bad(format!(
                "{address} is link-local, and needs its zone: write [{address}%eth0]:{port}, with your interface"
            ));
        }
        None => 0,
    };
    // Elsewhere it means nothing, and sockets don't tell it either.
    let scope = if address.is_unicast_link_local() || address.is_multicast() { scope } else { 0 };
    Ok(SocketAddrV6::new(address, port, 0, scope).into())
}

fn non_empty(host: &str) -> &str {
    if host.is_empty() { "127.0.0.1" } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_there_and_back() {
        for url in [
            "tcp://127.0.0.1:8080",
            "tcp+lines://127.0.0.1:8080",
            "tcp+prefixed://[::1]:0",
            "udp://0.0.0.0:53",
            "unix:/run/switchboard.sock",
            "unix+lines:relative/path",
            "unix:./@file",
            "unix:@abstract",
        ] {
            assert_eq!(url.parse::<Endpoint>().unwrap().to_string(), url);
        }
        #[cfg(feature = "web")]
        for (url, shown) in [
            ("http://127.0.0.1", "http://127.0.0.1:80"),
            ("http://[::1]", "http://[::1]:80"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("unix+http:/run/web.sock", "unix+http:/run/web.sock"),
            ("ws://127.0.0.1", "ws://127.0.0.1:80"),
            ("unix+ws:/run/web.sock", "unix+ws:/run/web.sock"),
        ] {
            assert_eq!(url.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        #[cfg(all(feature = "web", feature = "tls"))]
        assert_eq!("https://127.0.0.1".parse::<Endpoint>().unwrap().to_string(), "https://127.0.0.1:443");
        assert_eq!("127.0.0.1:80".parse::<Endpoint>().unwrap().to_string(), "tcp://127.0.0.1:80");
        assert_eq!(
            "TCP+Lines://127.0.0.1:80".parse::<Endpoint>().unwrap().to_string(),
            "tcp+lines://127.0.0.1:80"
        );
        assert_eq!("[::1]:80".parse::<Endpoint>().unwrap().to_string(), "tcp://[::1]:80");
        assert_eq!("tcp://[::1]:80/".parse::<Endpoint>().unwrap().to_string(), "tcp://[::1]:80");
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        for (url, hint) in [
            ("gopher://127.0.0.1:70", "the scheme \"gopher\" is unknown"),
            ("gopher://", "the scheme \"gopher\" is unknown"),
            ("gopher://127.0.0.1:70/page", "the scheme \"gopher\" is unknown"),
            ("tcp+xml://127.0.0.1:70", "\"xml\""),
            ("tcp+http://127.0.0.1:80", "\"http\""),
            #[cfg(feature = "web")]
            ("http://", "write http://127.0.0.1:8080"),
            #[cfg(feature = "web")]
            ("http://127.0.0.1:80/index.html", "write http://127.0.0.1:80"),
            ("tls+xml://127.0.0.1:443", "\"xml\""),
            ("tcp://127.0.0.1", "write 127.0.0.1:8080"),
            ("tcp://", "write tcp://127.0.0.1:8080"),
            ("TCP:127.0.0.1:80", "write tcp://127.0.0.1:80"),
            ("9301", "write tcp://127.0.0.1:9301"),
            ("tcp://::1:9301", "write [::1]:9301"),
            ("tcp://[::1:9301", "write [::1]:9301"),
            ("tcp://:8080", "write 127.0.0.1:8080"),
            ("tcp://127.0.0.1:70000", "\"70000\""),
            ("tcp://127.0.0.1:http", "\"http\""),
            ("tcp://::1", "[::1]:8080"),
            ("tcp://alice:secret@127.0.0.1:80", "\"alice\" before the @"),
            ("tcp://[::1", "lacks a bracket"),
            ("tcp://[127.0.0.1]:80", "\"127.0.0.1\" is no IPv6 address"),
            ("tcp://[fe80::1]:80", "write [fe80::1%eth0]:80"),
            ("tcp://[fe80::1%nowhere]:80", "\"nowhere\" is no network interface"),
            ("unix:", "a path is missing"),
            ("unix:@", "a name is missing"),
            ("", "write tcp://127.0.0.1:8080"),
        ] {
            let problem = url.parse::<Endpoint>().unwrap_err().to_string();
            assert!(problem.contains(hint), "{url}: {problem}");
        }
    }

    #[test]
    fn a_name_stands_for_all_its_addresses_each_once() {
        let all: Endpoints = "tcp+lines://localhost:7".parse().unwrap();
        let addresses: Vec<SocketAddr> = all.all().iter().filter_map(Endpoint::address).collect();
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
        let mut once = addresses.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), addresses.len(), "{addresses:?}");
        assert!(all.of_this_machine().iter().all(|it| all.all().contains(it)));
        assert_eq!("tcp+lines://localhost:7".parse::<Endpoint>().unwrap(), all.all()[0]);
    }

    #[cfg(all(target_os = "linux", feature = "socket-options"))]
    #[test]
    fn a_zone_is_an_interface_by_name_or_number() {
        let index = interface("lo").expect("every machine has it");
        let expected = SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 0, index);
        for url in ["[fe80::1%lo]:80".into(), format!("[fe80::1%{index}]:80"), "[fe80::1%25lo]:80".into()] {
            assert_eq!(url.parse::<Endpoint>().unwrap().address(), Some(expected.into()), "{url}");
        }
        // Where the zone means nothing, it makes no difference.
        for url in ["[::1%lo]:80", "[::1%1]:80"] {
            assert_eq!(url.parse::<Endpoint>().unwrap().address(), Some("[::1]:80".parse().unwrap()));
        }
    }
}
