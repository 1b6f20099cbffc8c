//! Datagram sockets: no connections, no streams, no promise.
//!
//! What can't be sent now is dropped and counted, for that is what the network would do with it: a
//! queue that waits for a slow link delivers yesterday's news. An error is about one datagram, or is
//! an ICMP message about an earlier one, and never about the socket: it is counted and passed over.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;

use super::buffer::{Buffer, Spares};

pub(super) struct Datagrams {
    pub(super) socket: UdpSocket,
    /// The latch: a receive may get somewhere.
    pub(super) readable: bool,
    pub(super) queued: bool,
    /// What handlers sent in this callback, end to end ...
    outbox: Buffer,
    /// ... and whose each piece is, with its length.
    addressees: VecDeque<(SocketAddr, usize)>,
}

/// What became of the datagrams that were in the outbox.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) datagrams: u64,
    pub(super) bytes: u64,
    pub(super) dropped: u64,
}

impl Datagrams {
    pub(super) fn new(socket: UdpSocket) -> Self {
        Datagrams {
            socket,
            readable: false,
            queued: false,
            outbox: Buffer::default(),
            addressees: VecDeque::new(),
        }
    }

    pub(super) fn outbox_bytes(&self) -> usize {
        self.outbox.len()
    }

    pub(super) fn push(&mut self, to: SocketAddr, bytes: &[u8], spares: &mut Spares) {
        self.outbox.append(bytes, spares);
        self.addressees.push_back((to, bytes.len()));
    }

    /// Sends everything that was pushed, each datagram once.
    pub(super) fn flush(&mut self, spares: &mut Spares) -> Sent {
        let mut sent = Sent::default();
        while let Some((to, len)) = self.addressees.pop_front() {
            let outcome = loop {
                match self.socket.send_to(&self.outbox.bytes()[..len], to) {
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
