//! Datagrams: receive one, have it answered, send the answers, receive the next.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};

use mio::Interest;

use super::Reactor;
use super::board::Board;
use super::buffer::LARGE_BYTES;
use super::datagram::{DatagramSocket, Datagrams};
use super::handler::Handler;
use super::token::Source;
use super::transport::Transport;

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
        let datagrams = self.board.datagrams.remove(index)?;
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
        self.datagrams.bound().any(is)
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
