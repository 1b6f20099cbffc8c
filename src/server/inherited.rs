//! Sockets that listen already, and that we were given: by systemd (socket activation, sd_listen_fds(3)), or by the
//! process that we take over from.
//!
//! A place that is wanted is looked for among them first, by its address; what is found there is not bound anew, so
//! nobody who connects meanwhile is refused: he waits in the backlog of a socket that never stopped listening.
//!
//! Invariant: a socket that is taken is ours alone; one that nobody takes is closed, here.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use socket2::{Domain, Socket, Type};

use super::place::Bound;
use crate::endpoint::Endpoint;
use crate::transport::stream::SocketFile;
use crate::transport::{Datagrams, ListenOptions, Listener};

/// See the module's text.
#[derive(Default)]
pub struct Inherited {
    sockets: Vec<Given>,
}

/// Who gave us a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver {
    /// It keeps its own descriptor, and a Unix socket's file is its own.
    Systemd,
    /// It is about to end.
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
        let mut descriptors = listenfd::ListenFd::from_env();
        let mut inherited = Inherited::default();
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
                let path = address.as_pathname().ok_or_else(|| wrong("its Unix socket has no path"))?;
                Endpoint::Unix(PathBuf::from(path), Default::default())
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
        Some(self.sockets.remove(index).listen(options))
    }
}

impl Given {
    fn listen(self, options: &ListenOptions) -> io::Result<Bound> {
        let socket = OwnedFd::from(self.socket);
        Ok(match self.at {
            Endpoint::Tcp(..) | Endpoint::Tls(..) => {
                Bound::Stream(Listener::adopt_tcp(socket.into(), options)?)
            }
            Endpoint::Udp(_) => Bound::Datagram(Datagrams::adopt(socket.into())?),
            Endpoint::Unix(path, _) => {
                let file = match self.giver {
                    Giver::Systemd => None,
                    Giver::Predecessor => Some(SocketFile::of(&path)?),
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
