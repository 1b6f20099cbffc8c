//! The interface below the core: what moves the bytes.

use std::io::{self, Read, Write};

use mio::event;

use super::datagram::DatagramSocket;

/// How far [`Transport::establish`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// One step is done, and another one follows.
    Step,
    /// Bytes can flow.
    Done,
}

/// How bytes move: a non-blocking stream with two independent directions.
///
/// `read` and `write` follow the non-blocking contract: `WouldBlock` means "an event will come",
/// `Ok(0)` from `read` means that the peer has finished its direction, and `UnexpectedEof` that its bytes end
/// where it had not finished: they were cut off. A transport that keeps bytes of
/// its own (TLS) returns `WouldBlock` from `read` only when it holds no more of them, and `WouldBlock`
/// from `flush` while it holds bytes that the socket did not take.
pub trait Transport: Read + Write + event::Source + Sized {
    /// What accepts new streams of this kind.
    type Listener: event::Source;

    /// What carries datagrams beside streams of this kind; `mio::net::UdpSocket` will do.
    type Datagrams: DatagramSocket;

    /// Where an accepted stream comes from.
    type Address;

    /// Takes the next waiting stream. Errors as accept(2).
    fn accept(listener: &mut Self::Listener) -> io::Result<(Self, Self::Address)>;

    /// Brings a new stream a step nearer to where bytes can flow: the end of an outgoing connect, the header of a proxy, a
    /// handshake. After each step, [`Handler::vet`](super::Handler::vet) decides whether to go on.
    ///
    /// # Errors
    /// `WouldBlock` means not yet: it is called again at the stream's next event. Any other error ends the connection.
    fn establish(&mut self) -> io::Result<Opening> {
        Ok(Opening::Done)
    }

    /// Whether to establish this stream takes computing (TLS, or a PROXY header that may stand in front of it), and more than one event: then it has a budget, and a
    /// cap ([`Limits::handshakes_per_turn`](super::Limits::handshakes_per_turn), [`Limits::handshakes_max`](super::Limits::handshakes_max)).
    fn has_handshake(&self) -> bool {
        false
    }

    /// How many bytes it has passed to the socket so far, if it is one that holds bytes back (TLS): the progress of a peer that
    /// takes them slowly. Others return 0.
    fn passed_on(&self) -> u64 {
        0
    }

    /// Ends our direction: the peer reads everything that was written, and then end of file (FIN).
    ///
    /// `last` says that the peer's direction is over and that this stream is dropped next. Closing a
    /// socket with nothing unread sends the FIN by itself; there, it saves a syscall.
    fn finish(&mut self, last: bool) -> io::Result<()>;

    /// Reads bytes that are dropped, because our side is done with reading. Errors and the end of file are those of `read`.
    /// A transport that deciphers need not do so here.
    fn discard(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        self.read(scratch)
    }

    /// Whether a read that returned less than was asked for has emptied the socket, so that the next
    /// arrival is sure to raise an event. epoll(7) promises it for plain stream sockets, and it saves
    /// one `read` in two. The reactor does not rely on it where the event spoke of a hang-up, an error
    /// or urgent data: there, bytes or the end of file can lie behind a short read.
    fn short_read_means_empty(&self) -> bool {
        false
    }
}
