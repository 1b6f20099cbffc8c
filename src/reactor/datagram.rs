//! Datagram sockets: no connections, no streams, no promise.
//!
//! What can't be sent now is dropped and counted, for that is what the network would do with it: a
//! queue that waits for a slow link delivers yesterday's news. An error is about one datagram, or is
//! an ICMP message about an earlier one, and never about the socket: it is counted and passed over.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use mio::net::UdpSocket;

use super::Reactor;
use super::board::Board;
use super::buffer::{Buffer, LARGE_BYTES, Spares};
use super::connection::Readiness;
use super::handler::{Handler, Transport};
use super::token::Source;

pub(super) struct Datagrams {
    /// `None` once it is closed. Its index stays its own.
    pub(super) socket: Option<UdpSocket>,
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

    pub(super) fn push(&mut self, to: SocketAddr, bytes: &[u8], spares: &mut Spares) {
        self.outbox.append(bytes, spares);
        self.addressees.push_back((to, bytes.len()));
    }

    /// Sends everything that was pushed, each datagram once.
    pub(super) fn flush(&mut self, spares: &mut Spares) -> Sent {
        let mut sent = Sent::default();
        while let Some((to, len)) = self.addressees.pop_front() {
            let Some(socket) = &self.socket else {
                sent.dropped += 1;
                self.outbox.consume(len);
                continue;
            };
            let outcome = loop {
                match socket.send_to(&self.outbox.bytes()[..len], to) {
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
    /// This datagram socket; `None` once it is closed.
    pub fn datagram_socket(&self, index: usize) -> Option<&UdpSocket> {
        self.board.datagrams.get(index)?.socket.as_ref()
    }

    /// Receives and sends no more there, and gives the socket back. What waits to be received stays in it.
    pub fn unlisten_datagrams(&mut self, index: usize) -> Option<UdpSocket> {
        let datagrams = self.board.datagrams.get_mut(index)?;
        let mut socket = datagrams.socket.take()?;
        datagrams.readable = false;
        // Not left to the close: see `unlisten`.
        let _ = self.poll.registry().deregister(&mut socket);
        Some(socket)
    }

    /// Receives datagrams within the budget; each is answered before the next is received.
    #[inline(never)]
    pub(super) fn serve_datagrams(&mut self, index: usize, readiness: Readiness) {
        let Reactor { board, handler, inbox, .. } = self;
        board.datagrams[index].readable |= readiness.has(Readiness::READABLE);
        if board.datagrams[index].queued {
            return;
        }
        flush_datagrams(board, index);
        for _ in 0..board.limits.datagrams_per_turn {
            let datagrams = &mut board.datagrams[index];
            let Some(socket) = datagrams.socket.as_mut().filter(|_| datagrams.readable) else { break };
            inbox.clear();
            // One block holds the largest datagram there is, so none is ever cut short.
            match socket.recv_from(inbox.room(LARGE_BYTES, &mut board.spares)) {
                Ok((count, from)) => {
                    inbox.filled(count);
                    board.counters.datagrams_in += 1;
                    board.counters.bytes_in += count as u64;
                    datagrams.queued = true; // its own replies need no place in the queue
                    handler.on_datagram(board, index, from, inbox.bytes());
                    board.datagrams[index].queued = false;
                    flush_datagrams(board, index);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => datagrams.readable = false,
                // An ICMP error about a datagram sent earlier: not about this socket, nor the next one.
                Err(error) => log::debug!("on datagram socket {index}: {error}"),
            }
        }
        inbox.clear();
        let datagrams = &mut board.datagrams[index];
        if datagrams.readable && !datagrams.queued {
            datagrams.queued = true;
            board.queue.push(Source::Datagram(index as u32).token());
        }
    }
}

/// Sends what handlers have sent, without waiting for the sockets' turns.
pub(super) fn flush_all<T: Transport, S>(board: &mut Board<T, S>) {
    for index in 0..board.datagrams.len() {
        if board.datagrams[index].outbox_bytes() > 0 {
            flush_datagrams(board, index);
        }
    }
}

fn flush_datagrams<T: Transport, S>(board: &mut Board<T, S>, index: usize) {
    let sent = board.datagrams[index].flush(&mut board.spares);
    board.counters.datagrams_out += sent.datagrams;
    board.counters.datagrams_dropped += sent.dropped;
    board.counters.bytes_out += sent.bytes;
}
