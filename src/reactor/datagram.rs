//! Datagram sockets: no connections, no streams, no promise. How the loop serves them: see `receive`.
//!
//! What can't be sent now is dropped and counted, for that is what the network would do with it: a
//! queue that waits for a slow link delivers yesterday's news. An error is about one datagram, or is
//! an ICMP message about an earlier one, and never about the socket: it is counted and passed over.
//!
//! An answer leaves from the address that was asked: a client drops what comes from another one, and so does every firewall
//! on the way. The kernel knows that address, and a [`DatagramSocket`] gets it from there. The core carries it from
//! the question to the answer, in a [`Route`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Index, IndexMut};

use mio::event;
use mio::net::UdpSocket;

use super::buffer::{Buffer, Spares};

/// The two ends of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route {
    /// The other end: the sender of a datagram that came, the receiver of one that goes.
    pub peer: SocketAddr,
    /// Our end, where the socket has several addresses: the one that the datagram was sent to, and that its answer is to
    /// come from. `None`: the kernel chooses.
    pub local: Option<IpAddr>,
}

impl From<SocketAddr> for Route {
    /// To there, from the address that the kernel chooses.
    fn from(peer: SocketAddr) -> Route {
        Route { peer, local: None }
    }
}

/// A non-blocking socket of datagrams. Each call moves one datagram, whole.
pub trait DatagramSocket: event::Source {
    /// The address that it is bound to.
    ///
    /// # Errors
    /// Those of getsockname(2).
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// Receives one; returns its length and its ends.
    ///
    /// # Errors
    /// Those of recvmsg(2); `WouldBlock` where none is there.
    fn receive_datagram(&mut self, into: &mut [u8]) -> io::Result<(usize, Route)>;

    /// Sends one; returns its length.
    ///
    /// # Errors
    /// Those of sendmsg(2).
    fn send_datagram(&mut self, bytes: &[u8], route: &Route) -> io::Result<usize>;
}

/// The plain socket: the kernel chooses our end of an answer. That is right where it is bound to one address, and a guess
/// where it is bound to all.
impl DatagramSocket for UdpSocket {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn receive_datagram(&mut self, into: &mut [u8]) -> io::Result<(usize, Route)> {
        self.recv_from(into).map(|(count, peer)| (count, peer.into()))
    }

    fn send_datagram(&mut self, bytes: &[u8], route: &Route) -> io::Result<usize> {
        self.send_to(bytes, route.peer)
    }
}

/// All datagram sockets by their indexes. An index is never used again, for a service may keep the address of a client
/// together with it; and nothing is kept of a socket that is closed.
pub(super) struct Sockets<D> {
    sockets: BTreeMap<usize, Datagrams<D>>,
    next: usize,
}

impl<D> Default for Sockets<D> {
    fn default() -> Self {
        Sockets { sockets: BTreeMap::new(), next: 0 }
    }
}

impl<D> Sockets<D> {
    pub(super) fn get(&self, index: usize) -> Option<&Datagrams<D>> {
        self.sockets.get(&index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Datagrams<D>> {
        self.sockets.get_mut(&index)
    }

    /// The index of the next one that is put in.
    pub(super) fn next_index(&self) -> usize {
        self.next
    }

    pub(super) fn put(&mut self, datagrams: Datagrams<D>) {
        self.sockets.insert(self.next, datagrams);
        self.next += 1;
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<Datagrams<D>> {
        self.sockets.remove(&index)
    }

    /// Where they are bound.
    pub(super) fn bound(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.values().filter_map(|datagrams| datagrams.bound)
    }

    /// The first index from here on that has a socket.
    pub(super) fn from(&self, index: usize) -> Option<usize> {
        self.sockets.range(index..).next().map(|(index, _)| *index)
    }
}

impl<D> Index<usize> for Sockets<D> {
    type Output = Datagrams<D>;

    fn index(&self, index: usize) -> &Datagrams<D> {
        &self.sockets[&index]
    }
}

impl<D> IndexMut<usize> for Sockets<D> {
    fn index_mut(&mut self, index: usize) -> &mut Datagrams<D> {
        self.sockets.get_mut(&index).expect("a socket that is closed has no work in the queue")
    }
}

pub(super) struct Datagrams<D> {
    pub(super) socket: Option<D>,
    /// Where it is bound.
    bound: Option<SocketAddr>,
    /// The latch: a receive may get somewhere.
    pub(super) readable: bool,
    pub(super) queued: bool,
    /// The datagrams that handlers sent in this callback, one behind the other.
    outbox: Buffer,
    /// For each of them, where it goes, and its length.
    addressees: VecDeque<(Route, usize)>,
}

/// What became of the datagrams that were in the outbox.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    pub(super) dropped: u64,
}

impl<D: DatagramSocket> Datagrams<D> {
    pub(super) fn new(socket: D) -> Self {
        Datagrams {
            bound: socket.local_address().ok(),
            socket: Some(socket),
            readable: false,
            queued: false,
            outbox: Buffer::default(),
            addressees: VecDeque::new(),
        }
    }

    pub(super) fn outbox_bytes(&self) -> usize {
        self.outbox.len()
    }

    pub(super) fn push(&mut self, to: Route, bytes: &[u8], spares: &mut Spares) {
        self.outbox.append(bytes, spares);
        self.addressees.push_back((to, bytes.len()));
    }

    /// Sends everything that was pushed, each datagram once.
    pub(super) fn flush(&mut self, spares: &mut Spares) -> Sent {
        let mut sent = Sent::default();
        while let Some((to, len)) = self.addressees.pop_front() {
            let Some(socket) = &mut self.socket else {
                sent.dropped += 1;
                self.outbox.consume(len);
                continue;
            };
            let outcome = loop {
                match socket.send_datagram(&self.outbox.bytes()[..len], &to) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    outcome => break outcome,
                }
            };
            self.outbox.consume(len);
            match outcome {
                Ok(count) => {
                    sent.datagrams += 1;
                    sent.bytes += count as u64;
                }
                Err(_) => sent.dropped += 1,
            }
        }
        self.outbox.recycle(spares);
        sent
    }
}
