//! Datagram sockets: no connections, no streams, no promise.
//!
//! What can't be sent now is dropped and counted, for that is what the network would do with it: a
//! queue that waits for a slow link delivers yesterday's news. An error is about one datagram, or is
//! an ICMP message about an earlier one, and never about the socket: it is counted and passed over.
//!
//! An answer leaves from the address that was asked: a client drops what comes from another one, and so does every firewall
//! on the way. The kernel knows that address; who asks the kernel for it is the [`DatagramSocket`]. The core carries it from
//! the question to the answer, in a [`Route`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};
use std::ops::{Index, IndexMut};

use mio::Interest;
use mio::event;
use mio::net::UdpSocket;

use super::Reactor;
use super::board::Board;
use super::buffer::{Buffer, LARGE_BYTES, Spares};
use super::handler::{Handler, Transport};
use super::token::Source;

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

    /// The first index from here on that has a socket.
    fn from(&self, index: usize) -> Option<usize> {
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
    /// What handlers sent in this callback, end to end ...
    outbox: Buffer,
    /// ... and whose each piece is, with its length.
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

impl<H: Handler> Reactor<H> {
    /// Watches a datagram socket; returns its index, which [`Handler::on_datagram`] gets. An index is never used again.
    ///
    /// # Errors
    /// Where the poll refuses it.
    pub fn listen_datagrams(
        &mut self,
        socket: impl Into<<H::Transport as Transport>::Datagrams>,
    ) -> io::Result<usize> {
        let mut socket = socket.into();
        let index = self.board.datagrams.next_index();
        let token = Source::Datagram(index as u32).token();
        self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
        self.board.datagrams.put(Datagrams::new(socket));
        Ok(index)
    }

    /// This datagram socket; `None` once it is closed.
    pub fn datagram_socket(&self, index: usize) -> Option<&<H::Transport as Transport>::Datagrams> {
        self.board.datagrams.get(index)?.socket.as_ref()
    }

    /// Receives and sends no more there, and gives the socket back. What waits to be received stays in it. Datagrams that
    /// are sent by way of its index from now on go nowhere.
    pub fn unlisten_datagrams(&mut self, index: usize) -> Option<<H::Transport as Transport>::Datagrams> {
        let mut socket = self.take_datagrams(index)?;
        // Not left to the close: see `unlisten`.
        let _ = self.poll.registry().deregister(&mut socket);
        Some(socket)
    }

    /// Gives a socket a new index, which is returned: what is sent by way of the old one from now on goes nowhere. `None`
    /// where there is no such socket.
    pub fn renew_datagrams(&mut self, index: usize) -> Option<usize> {
        let mut socket = self.take_datagrams(index)?;
        let index = self.board.datagrams.next_index();
        let token = Source::Datagram(index as u32).token();
        // Its entry in the poll is there already: this can't lack memory.
        if let Err(error) = self.poll.registry().reregister(&mut socket, token, Interest::READABLE) {
            log::error!("datagram socket {index} can't be watched: {error}");
        }
        self.board.datagrams.put(Datagrams::new(socket));
        Some(index)
    }

    fn take_datagrams(&mut self, index: usize) -> Option<<H::Transport as Transport>::Datagrams> {
        self.board.datagrams.get(index)?;
        flush_datagrams(&mut self.board, index);
        let datagrams = self.board.datagrams.sockets.remove(&index)?;
        if datagrams.queued {
            let token = Source::Datagram(index as u32).token();
            self.board.queue.retain(|queued| *queued != token);
        }
        datagrams.socket
    }

    /// Receives datagrams within the budget; each is answered before the next is received.
    #[inline(never)]
    pub(super) fn serve_datagrams(&mut self, index: usize) {
        let Reactor { board, handler, inbox, .. } = self;
        let Some(datagrams) = board.datagrams.get_mut(index) else { return };
        datagrams.queued = false;
        flush_datagrams(board, index);
        for _ in 0..board.limits.datagrams_per_turn {
            let datagrams = &mut board.datagrams[index];
            let Some(socket) = datagrams.socket.as_mut().filter(|_| datagrams.readable) else { break };
            inbox.clear();
            // One block holds the largest datagram there is, so none is ever cut short.
            match socket.receive_datagram(inbox.room(LARGE_BYTES, &mut board.spares)) {
                Ok((count, route)) => {
                    inbox.filled(count);
                    board.counters.datagrams_in += 1;
                    board.counters.bytes_in += count as u64;
                    datagrams.queued = true; // its own replies need no place in the queue
                    handler.on_datagram(board, index, route, inbox.bytes());
                    board.datagrams[index].queued = false;
                    flush_datagrams(board, index);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => datagrams.readable = false,
                // An ICMP error about a datagram sent earlier: not about this socket, nor the next one.
                Err(error) => log::debug!("on datagram socket {index}: {error}"),
            }
        }
        inbox.clear();
        if board.datagrams[index].readable {
            board.enqueue_datagrams(index);
        }
    }
}

impl<T: Transport, S> Board<T, S> {
    /// Whether this is the address of one of the reactor's own datagram sockets. A datagram with such a sender is one of ours
    /// that has come back, or forged: an answer would be answered, for ever.
    ///
    /// Costs system calls only where the port is that of a socket that is bound to all addresses.
    pub fn is_own_datagram_address(&self, address: SocketAddr) -> bool {
        let is = |bound: SocketAddr| {
            let (bound_ip, ip) = (bound.ip().to_canonical(), address.ip().to_canonical());
            // [::] takes IPv4 as well.
            let covers = bound_ip.is_unspecified() && (bound_ip.is_ipv6() || ip.is_ipv4());
            bound.port() == address.port() && (bound_ip == ip || covers && is_local(ip))
        };
        self.datagrams.sockets.values().filter_map(|datagrams| datagrams.bound).any(is)
    }
}

/// Whether an address is one of this machine's: only those can be bound. Nothing is sent.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || StdUdpSocket::bind((ip, 0)).is_ok()
}

/// Sends what handlers have sent, without waiting for the sockets' turns.
pub(super) fn flush_all<T: Transport, S>(board: &mut Board<T, S>) {
    let mut next = 0;
    while let Some(index) = board.datagrams.from(next) {
        if board.datagrams[index].outbox_bytes() > 0 {
            flush_datagrams(board, index);
        }
        next = index + 1;
    }
}

fn flush_datagrams<T: Transport, S>(board: &mut Board<T, S>, index: usize) {
    let sent = board.datagrams[index].flush(&mut board.spares);
    board.counters.datagrams_out += sent.datagrams;
    board.counters.datagrams_dropped += sent.dropped;
    board.counters.bytes_out += sent.bytes;
}
