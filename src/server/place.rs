//! One place where a server listens: its URL, what holds there, and the socket.
//!
//! A [`Place`] is plain data, so that the one that is wanted can be compared with the one that is there. A
//! [`Bound`] is the socket, whether we have bound it or were given it.

use std::io;

use super::explained::explained;
use crate::endpoint::Endpoint;
use crate::guard::{Guard, Sites};
use crate::protocol::Protocol;
use crate::reactor::{DatagramSocket, Limits};
use crate::service::exchange;
use crate::transport::stream::{check_unix_path, is_abstract};
use crate::transport::tls::ServerTls;
use crate::transport::{Datagrams, ListenOptions, Listener};

/// What is wanted at one place.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where, and what is spoken there. Port 0 lets the system choose.
    pub endpoint: Endpoint,
    /// How far its connections may go; `connections_max` is that of this place.
    pub limits: Limits,
    /// The most bytes of one message, at most 1 GiB; it rules over `limits.inbox_bytes_max`. For raw bytes it
    /// means nothing.
    pub message_bytes_max: usize,
    /// Who may come in.
    pub guard: Guard,
    /// Datagrams may be answered with more bytes than they had: for networks where senders don't lie.
    pub amplify: bool,
    /// HTTP: `/metrics` and `/healthz` are answered, whatever the service.
    pub metrics: bool,
    /// HTTP and WebSocket: whose pages are let in, and under which names requests are served.
    pub sites: Sites,
    /// What it says of itself, where it speaks TLS.
    pub tls: Option<ServerTls>,
    /// Options of its socket.
    pub options: ListenOptions,
}

impl Place {
    /// What the exchange needs to know of it.
    pub(super) fn exchanged(&self) -> exchange::Place {
        exchange::Place {
            framing: self.endpoint.framing(),
            message_bytes_max: self.message_bytes_max(),
            guard: self.guard.clone(),
            amplify: self.amplify,
            metrics: self.metrics,
            sites: self.sites.clone(),
        }
    }

    /// The limits, with an inbox that a whole message fits in.
    pub fn limits(&self) -> Limits {
        let message_bytes_max = self.message_bytes_max().max(self.limits.read_bytes_per_turn);
        let inbox_bytes_max = Protocol::inbox_bytes_max(self.endpoint.framing(), message_bytes_max);
        Limits { inbox_bytes_max, ..self.limits.clone() }
    }

    /// A socket for this place, bound.
    ///
    /// # Errors
    /// Those of [`Bound::bind`]; `InvalidInput` for TLS without a certificate.
    pub fn bind(&self) -> io::Result<Bound> {
        self.check()?;
        Bound::bind(&self.endpoint, &self.options)
    }

    /// What can be known before a socket is bound.
    ///
    /// # Errors
    /// `InvalidInput` for TLS without a certificate, and for a path that is too long for a Unix socket.
    pub fn check(&self) -> io::Result<()> {
        match (&self.endpoint, &self.tls) {
            (Endpoint::Tls(..), None) => {
                let message = format!("{} needs a certificate and a key", self.endpoint);
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
            (Endpoint::Unix(path, _), _) => check_unix_path(path).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {}: {error}", self.endpoint))
            }),
            _ => Ok(()),
        }
    }

    /// The most bytes of one message, within what can be had.
    pub fn message_bytes_max(&self) -> usize {
        self.message_bytes_max.min(Protocol::message_bytes_max(self.endpoint.framing(), Limits::BYTES_MAX))
    }
}

/// Binds sockets for these, which are the addresses of one name. Where they leave the port open, all get the same one, if there is
/// one that is free at each address.
///
/// # Errors
/// Those of [`Bound::bind`].
pub fn bind_all(endpoints: &[Endpoint], options: &ListenOptions) -> io::Result<Vec<Bound>> {
    /// A port that is free at one address is mostly free at the others.
    const TRIES: usize = 16;

    let leaves_it_open = |it: &Endpoint| it.address().is_some_and(|address| address.port() == 0);
    if endpoints.len() > 1 && endpoints.iter().all(leaves_it_open) {
        for _ in 0..TRIES {
            match bind_at_one_port(endpoints, options) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                outcome => return outcome,
            }
        }
    }
    endpoints.iter().map(|endpoint| Bound::bind(endpoint, options)).collect()
}

/// The first one chooses.
fn bind_at_one_port(endpoints: &[Endpoint], options: &ListenOptions) -> io::Result<Vec<Bound>> {
    let mut bound: Vec<Bound> = Vec::new();
    let mut port = 0;
    for endpoint in endpoints {
        let mut endpoint = endpoint.clone();
        if let Some(mut address) = endpoint.address() {
            address.set_port(port);
            endpoint = endpoint.at(address);
        }
        let socket = Bound::bind(&endpoint, options)?;
        port = socket.endpoint(&endpoint)?.address().map_or(port, |address| address.port());
        bound.push(socket);
    }
    Ok(bound)
}

/// A socket that listens.
pub enum Bound {
    /// Of streams.
    Stream(Listener),
    /// Of datagrams.
    Datagram(Datagrams),
}

impl Bound {
    /// Binds, and listens.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and listen(2), with the URL and a hint.
    pub fn bind(endpoint: &Endpoint, options: &ListenOptions) -> io::Result<Bound> {
        let bound = match endpoint {
            Endpoint::Tcp(address, _) | Endpoint::Tls(address, ..) => {
                Listener::tcp(*address, options).map(Bound::Stream)
            }
            Endpoint::Unix(path, _) => Listener::unix(path, options).map(Bound::Stream),
            Endpoint::Udp(address) => Datagrams::bind(*address, options).map(Bound::Datagram),
        };
        bound.map_err(|error| {
            let message = format!("cannot listen on {endpoint}: {error}{}", hint(endpoint, &error));
            io::Error::new(error.kind(), message)
        })
    }

    /// What was asked for, with the real port where 0 was.
    ///
    /// # Errors
    /// Those of getsockname(2), where port 0 was asked for: without the real port, no client finds the socket.
    pub fn endpoint(&self, asked: &Endpoint) -> io::Result<Endpoint> {
        let address = match self {
            Bound::Stream(listener) => listener.bound_address(),
            Bound::Datagram(socket) => socket.local_address().map(Some),
        };
        match address {
            Ok(Some(address)) => Ok(asked.clone().at(address)),
            Err(error) if asked.address().is_some_and(|address| address.port() == 0) => {
                Err(explained(&format!("cannot listen on {asked}: its port is unknown"), error))
            }
            Ok(None) | Err(_) => Ok(asked.clone()),
        }
    }
}

/// What to do about a failed bind.
fn hint(endpoint: &Endpoint, error: &io::Error) -> &'static str {
    match (error.kind(), endpoint) {
        (io::ErrorKind::AddrInUse, Endpoint::Unix(path, _)) if is_abstract(path) => {
            "; a running server listens there: stop it, or take another name"
        }
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
        // fe80::1 of another interface, and the like.
        (io::ErrorKind::InvalidInput, Endpoint::Tcp(..) | Endpoint::Tls(..) | Endpoint::Udp(_)) => {
            "; take an address of this machine, and the zone that it is in"
        }
        (io::ErrorKind::NotFound, Endpoint::Unix(..)) => "; make its directory first",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_name_get_the_same_free_port() {
        for scheme in ["tcp", "udp"] {
            let mut urls = vec![format!("{scheme}://127.0.0.1:0")];
            if std::net::UdpSocket::bind("[::1]:0").is_ok() {
                urls.push(format!("{scheme}://[::1]:0"));
            }
            if cfg!(target_os = "linux") {
                urls.push(format!("{scheme}://127.0.0.2:0"));
            }
            let endpoints: Vec<Endpoint> = urls.iter().map(|url| url.parse().expect("it is right")).collect();
            let bound = bind_all(&endpoints, &ListenOptions::default()).expect("free ports");
            let at = |(bound, asked): (&Bound, &Endpoint)| {
                bound.endpoint(asked).expect("a port").address().expect("an address")
            };
            let there: Vec<_> = bound.iter().zip(&endpoints).map(at).collect();
            for (there, asked) in there.iter().zip(&endpoints) {
                assert_eq!(Some(there.ip()), asked.address().map(|it| it.ip()));
                assert_ne!(there.port(), 0);
                assert_eq!(there.port(), at((&bound[0], &endpoints[0])).port());
            }
        }
    }
}
