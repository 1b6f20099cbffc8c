//! Sockets that listen already, and that we were given: by systemd (socket activation, sd_listen_fds(3)), or by the
//! process that we take over from.
//!
//! The server looks for each place among them first, by its address. A socket that is found is not bound again, so
//! no client that connects meanwhile is refused: it waits in the backlog of a socket that never stopped listening.
//!
//! Invariant: a socket that is taken is ours alone; one that nobody takes is closed, here.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use socket2::{Domain, SockAddr, Socket, Type};

use super::place::Bound;
use crate::endpoint::Endpoint;
use crate::transport::stream::{SocketFile, is_abstract};
use crate::transport::{Datagrams, ListenOptions, Listener};

/// See the module's text.
#[derive(Default)]
pub struct Inherited {
    sockets: Vec<Given>,
    /// Sockets that systemd's variables speak of, and that are another process's.
    astray: Option<String>,
}

/// Who gave us a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver {
    /// It keeps its own descriptor, and a Unix socket's file is its own.
    Systemd,
    /// It ends when we listen; until then it needs its files, for we may fail.
    Predecessor,
}

struct Given {
    socket: Socket,
    at: Endpoint,
    giver: Giver,
}

impl Inherited {
    /// Those of systemd, if it has started us with some.
    ///
    /// # Errors
    /// Where one is not a listening TCP or Unix stream socket, nor a UDP socket.
    pub fn from_systemd() -> io::Result<Inherited> {
        let astray = astray(); // first, for listenfd removes the variables
        let mut descriptors = listenfd::ListenFd::from_env();
        let mut inherited = Inherited { astray, ..Inherited::default() };
        for index in 0..descriptors.len() {
            let not_ours = |error| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("LISTEN_FDS: descriptor {} can't be served: {error}", index + 3),
                )
            };
            // Each of these leaves a socket of another kind where it is.
            let descriptor: Option<OwnedFd> = if let Ok(tcp) = descriptors.take_tcp_listener(index) {
                tcp.map(OwnedFd::from)
            } else if let Ok(unix) = descriptors.take_unix_listener(index) {
                unix.map(OwnedFd::from)
            } else {
                descriptors.take_udp_socket(index).map_err(not_ours)?.map(OwnedFd::from)
            };
            if let Some(descriptor) = descriptor {
                inherited.add(descriptor, Giver::Systemd).map_err(not_ours)?;
            }
        }
        Ok(inherited)
    }

    /// One more.
    ///
    /// # Errors
    /// Where it is not a listening TCP or Unix stream socket, nor a UDP socket.
    pub fn add(&mut self, descriptor: OwnedFd, giver: Giver) -> io::Result<()> {
        let socket = Socket::from(descriptor);
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
        let address = socket.local_addr()?;
        let (stream, kind) = (Type::STREAM, socket.r#type()?);
        if kind == stream && !socket.is_listener()? {
            return Err(wrong("it does not listen"));
        }
        let at = match (address.as_socket(), kind) {
            (Some(address), kind) if kind == stream => Endpoint::Tcp(address, Default::default()),
            (Some(address), Type::DGRAM) => Endpoint::Udp(address),
            (None, kind) if kind == stream && socket.domain()? == Domain::UNIX => {
                let path = unix_path(&address).ok_or_else(|| wrong("its Unix socket has no path"))?;
                Endpoint::Unix(path, Default::default())
            }
            _ => return Err(wrong("it is neither TCP, UDP nor a Unix stream socket")),
        };
        self.sockets.push(Given { socket, at, giver });
        Ok(())
    }

    /// Where they listen; what is spoken there is not known to a socket.
    pub fn places(&self) -> impl Iterator<Item = &Endpoint> {
        self.sockets.iter().map(|given| &given.at)
    }

    /// The socket for this place; `None` where there is none.
    ///
    /// # Errors
    /// Those of telling it our options.
    pub fn take(&mut self, wanted: &Endpoint, options: &ListenOptions) -> Option<io::Result<Bound>> {
        let index = self.sockets.iter().position(|given| given.at.same_socket(wanted))?;
        let given = self.sockets.remove(index);
        if given.giver == Giver::Predecessor && given.takes_ipv4() == Some(options.only_v6) {
            log::warn!(
                "{wanted}: it accepts {}, as the earlier process bound it; to change that, stop the earlier process first",
                if options.only_v6 { "IPv4 as well" } else { "IPv6 alone" }
            );
        }
        Some(given.listen(options))
    }

    /// Whether sockets that systemd's variables speak of are another process's; what is wrong then, and what to do.
    pub fn astray(&self) -> Option<&str> {
        self.astray.as_deref()
    }

    /// The error of binding a socket, with the sockets that were passed to us and that nobody has taken: they are often what
    /// is in the way, and what was meant.
    pub fn explain(&self, error: io::Error) -> io::Error {
        if error.kind() != io::ErrorKind::AddrInUse {
            return error;
        }
        let places: Vec<String> = self.places().map(Endpoint::to_string).collect();
        let explanation = match (&places[..], &self.astray) {
            ([], None) => return error,
            ([], Some(astray)) => astray.clone(),
            (places, _) => format!(
                "sockets that no listener matches were passed to us at {}: listen there",
                places.join(", ")
            ),
        };
        io::Error::new(error.kind(), format!("{error}; {explanation}"))
    }
}

/// sd_listen_fds(3): the sockets are for the process that LISTEN_PID names. A shell or a wrapper in between is another one.
fn astray() -> Option<String> {
    let count = std::env::var("LISTEN_FDS").ok().filter(|count| count != "0")?;
    let pid = std::env::var("LISTEN_PID").ok().filter(|pid| !pid.is_empty())?;
    let ours = std::process::id();
    (pid.parse() != Ok(ours)).then(|| {
        format!(
            "LISTEN_FDS={count} is for process {pid} (LISTEN_PID), and this is process {ours}: \
             where a shell starts it, write exec before it"
        )
    })
}

/// As in [`Endpoint::Unix`].
fn unix_path(address: &SockAddr) -> Option<PathBuf> {
    let named = |name: &[u8]| OsString::from_vec([b"\0", name].concat()).into();
    address.as_pathname().map(PathBuf::from).or_else(|| address.as_abstract_namespace().map(named))
}

impl Given {
    /// Of a socket at [::].
    fn takes_ipv4(&self) -> Option<bool> {
        let at = self.at.address().filter(|at| at.is_ipv6() && at.ip().is_unspecified());
        at.and_then(|_| self.socket.only_v6().ok()).map(|only| !only)
    }

    fn listen(self, options: &ListenOptions) -> io::Result<Bound> {
        let socket = OwnedFd::from(self.socket);
        Ok(match self.at {
            Endpoint::Tcp(..) | Endpoint::Tls(..) => {
                Bound::Stream(Listener::adopt_tcp(socket.into(), options)?)
            }
            Endpoint::Udp(_) => Bound::Datagram(Datagrams::adopt(socket.into())?),
            Endpoint::Unix(path, _) => {
                let file = match self.giver {
                    _ if is_abstract(&path) => None,
                    Giver::Systemd => None,
                    Giver::Predecessor => Some(SocketFile::lent(&path)?),
                };
                Bound::Stream(Listener::adopt_unix(socket.into(), file)?)
            }
        })
    }
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.places()).finish()
    }
}
