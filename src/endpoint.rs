//! Endpoints: where to listen or connect to, and what is spoken there, as a URL says it.
//!
//! `tcp://HOST:PORT`, `tls://HOST:PORT`, `udp://HOST:PORT`, `unix:PATH`; a bare `HOST:PORT` is TCP. The scheme's tail picks
//! the framing: `tcp+lines://`, `unix+prefixed:`; without one, bytes are raw. `http://HOST:PORT` and `https://` are HTTP over
//! TCP and TLS (port 80 and 443 where none is said), `unix+http:PATH` is that over a Unix socket; `ws://`, `wss://` and
//! `unix+ws:` are WebSocket. IPv6 stands in brackets.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use crate::protocol::Framing;

/// A parsed URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address.
    Tcp(SocketAddr, Framing),
    /// A TCP address where TLS is spoken, and the host as it was written: what a certificate is for.
    Tls(SocketAddr, Framing, String),
    /// A Unix stream socket.
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
                write!(f, "unix{tail}:")?;
                // A path may hold anything; where it is shown, it stays on its line.
                path.display().to_string().chars().try_for_each(|c| match c.is_control() {
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

    /// Names are resolved here, once; the first address is taken.
    fn from_str(url: &str) -> Result<Self, BadUrl> {
        let bad = |problem: String| Err(BadUrl(problem));
        if let Some((scheme, rest)) = url.split_once(':')
            && (scheme == "unix" || scheme.starts_with("unix+"))
        {
            let framing = framing(scheme, "unix")?;
            return match rest {
                "" => bad("a path is missing: write unix:/run/name.sock".into()),
                path if path.contains('\0') => bad("a path can't hold a NUL byte".into()),
                path => Ok(Endpoint::Unix(path.into(), framing)),
            };
        }
        let (scheme, rest) = url.split_once("://").unwrap_or(("tcp", url));
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        match scheme {
            "udp" => Ok(Endpoint::Udp(resolve(rest)?)),
            tcp if tcp == "tcp" || tcp.starts_with("tcp+") => {
                let framing = framing(tcp, "tcp")?;
                Ok(Endpoint::Tcp(resolve(rest)?, framing))
            }
            tls if tls == "tls" || tls.starts_with("tls+") => over_tls(scheme, rest, framing(tls, "tls")?),
            #[cfg(feature = "web")]
            "http" => Ok(Endpoint::Tcp(resolve(&with_port(rest, 80))?, Framing::Http)),
            #[cfg(feature = "web")]
            "https" => over_tls(scheme, &with_port(rest, 443), Framing::Http),
            #[cfg(feature = "web")]
            "ws" => Ok(Endpoint::Tcp(resolve(&with_port(rest, 80))?, Framing::WebSocket)),
            #[cfg(feature = "web")]
            "wss" => over_tls(scheme, &with_port(rest, 443), Framing::WebSocket),
            #[cfg(not(feature = "web"))]
            "http" | "https" | "ws" | "wss" => {
                bad(format!("{scheme}:// needs the feature `web`: use tcp://, udp:// or unix:"))
            }
            _ => bad(format!(
                "the scheme {scheme:?} is unknown: use tcp://HOST:PORT, tls://HOST:PORT, http://HOST:PORT, \
                 https://HOST:PORT, ws://HOST:PORT, wss://HOST:PORT, udp://HOST:PORT or unix:PATH"
            )),
        }
    }
}

fn over_tls(scheme: &str, rest: &str, framing: Framing) -> Result<Endpoint, BadUrl> {
    if cfg!(not(feature = "tls")) {
        return Err(BadUrl(format!("{scheme}:// needs the feature `tls`: use tcp://, udp:// or unix:")));
    }
    let address = resolve(rest)?;
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    Ok(Endpoint::Tls(address, framing, host.trim_matches(['[', ']']).to_owned()))
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

fn resolve(host_and_port: &str) -> Result<SocketAddr, BadUrl> {
    if let Ok(address) = host_and_port.parse() {
        return Ok(address);
    }
    let bad = |problem: String| Err(BadUrl(problem));
    let Some((host, port)) = host_and_port.rsplit_once(':') else {
        return bad(format!("a port is missing: write {}:8080", non_empty(host_and_port)));
    };
    if host.contains(':') && !host.starts_with('[') {
        return bad(format!("an IPv6 address stands in brackets: write [{host_and_port}]:8080"));
    }
    if port.parse::<u16>().is_err() {
        return bad(format!("the port {port:?} is not a number from 0 to 65535"));
    }
    if host.is_empty() || host == "*" {
        return bad(format!(
            "a host is missing: write 127.0.0.1:{port}, or 0.0.0.0:{port} for every IPv4 address"
        ));
    }
    match host_and_port.to_socket_addrs().map(|mut addresses| addresses.next()) {
        Ok(Some(address)) => Ok(address),
        Ok(None) => bad(format!("the host {host:?} has no address")),
        Err(error) => bad(format!("the host {host:?} can't be resolved: {error}")),
    }
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
        assert_eq!("tcp://[::1]:80/".parse::<Endpoint>().unwrap().to_string(), "tcp://[::1]:80");
    }

    #[test]
    fn what_is_wrong_is_named_with_what_to_write() {
        for (url, hint) in [
            ("gopher://127.0.0.1:70", "\"gopher\""),
            ("tcp+xml://127.0.0.1:70", "\"xml\""),
            ("tcp+http://127.0.0.1:80", "\"http\""),
            #[cfg(feature = "web")]
            ("http://", "write 127.0.0.1:8080"),
            #[cfg(feature = "web")]
            ("http://127.0.0.1:80/index.html", "\"80/index.html\""),
            ("tls+xml://127.0.0.1:443", "\"xml\""),
            ("tcp://127.0.0.1", "write 127.0.0.1:8080"),
            ("tcp://", "write 127.0.0.1:8080"),
            ("tcp://:8080", "write 127.0.0.1:8080"),
            ("tcp://127.0.0.1:70000", "\"70000\""),
            ("tcp://127.0.0.1:http", "\"http\""),
            ("tcp://::1", "[::1]:8080"),
            ("unix:", "a path is missing"),
            ("", "a port is missing"),
        ] {
            let problem = url.parse::<Endpoint>().unwrap_err().to_string();
            assert!(problem.contains(hint), "{url}: {problem}");
        }
    }
}
