//! The two seams of the core: what moves the bytes ([`Transport`], below it) and what they mean
//! ([`Handler`], above it).

use std::io::{self, Read, Write};

use mio::event;

use super::datagram::{DatagramSocket, Route};
use super::{Board, Buffer, CloseReason, Moment, Peer};

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

    /// What a proxy in between says of the peer, before the peer's first byte; see [`Transport::introduce`].
    type Introduction;

    /// Takes the next waiting stream. Errors as accept(2).
    fn accept(listener: &mut Self::Listener) -> io::Result<(Self, Self::Address)>;

    /// Where the other end is one that brings others (a proxy): whom it brings, before anything else happens. `None`
    /// where no one needs an introduction, or it has been made. `WouldBlock`, and the deadline, as in `establish`.
    fn introduce(&mut self) -> io::Result<Option<Self::Introduction>> {
        Ok(None)
    }

    /// Brings a new stream to where bytes can flow: the end of an outgoing connect, a handshake.
    /// `WouldBlock` means not yet; it is asked again at the stream's next event.
    fn establish(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether to establish this stream takes computing, and more than one event: then it has a budget, and a
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

/// What the reactor calls. All of it runs on the loop's thread: a callback that blocks, blocks everyone.
///
/// Callbacks never nest. A handler is lent the [`Board`] and says there what should happen; bytes are
/// written, and connections freed, after it has returned.
pub trait Handler: Sized {
    /// How this handler's bytes move.
    type Transport: Transport;

    /// What the handler keeps for each connection.
    type State;

    /// A connection was accepted by the listener with this index: its state, or `None` to refuse it
    /// (it is closed at once, and costs nothing more).
    fn admit(
        &mut self,
        listener: usize,
        address: &<Self::Transport as Transport>::Address,
        now: Moment,
    ) -> Option<Self::State>;

    /// A connection was admitted: pass to its transport what that must know before it begins.
    fn on_admitted(&mut self, _state: &Self::State, _transport: &mut Self::Transport) {}

    /// The peer of an admitted connection was introduced, or that failed: `false` refuses it. (Where it failed, the
    /// connection ends in any case, as one that was not established.)
    fn on_introduced(
        &mut self,
        _state: &mut Self::State,
        _introduction: Result<&<Self::Transport as Transport>::Introduction, &io::Error>,
        _now: Moment,
    ) -> bool {
        true
    }

    /// A connection that was admitted could not be taken after all: nothing more is heard of it.
    fn on_withdrawn(&mut self, _state: Self::State, _now: Moment) {}

    /// Bytes can flow, in both directions.
    fn on_open(&mut self, _board: &mut BoardOf<Self>, _peer: Peer) {}

    /// Bytes came. Consume what makes whole messages and leave the rest: it will be there next time,
    /// with more behind it. Before each message, ask [`Board::admit_message`] whether to go on; where the
    /// outbox is congested the call comes again when it has drained, and where the connection's share of
    /// this turn is spent it comes again in the next one, new bytes or not.
    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer);

    /// The peer's end of file: nothing comes after what lies in `inbox`, of which every whole message
    /// has been served. Our own direction is still open; the default ends it too, behind the replies.
    fn on_finish(&mut self, board: &mut BoardOf<Self>, from: Peer, _inbox: &mut Buffer) {
        board.finish(from);
    }

    /// The outbox had risen above its low mark and has fallen below it: there is [room](Board::room) again. Not called
    /// once our direction is finishing: nothing more can be sent then.
    fn on_drain(&mut self, _board: &mut BoardOf<Self>, _peer: Peer) {}

    /// The rest of a message has not come in time ([`Limits::message_within`](super::Limits::message_within)). The default ends the conversation.
    fn on_overdue(&mut self, board: &mut BoardOf<Self>, peer: Peer) {
        board.finish_because(peer, CloseReason::MessageTimeout);
    }

    /// Nothing has moved for [`Limits::idle_after`](super::Limits::idle_after). If it returns true, the
    /// peer gets the same time once more; a handler does so when it has just sent a ping. With false, the default, the
    /// connection is closed.
    fn on_idle(&mut self, _board: &mut BoardOf<Self>, _peer: Peer) -> bool {
        false
    }

    /// The reactor comes to its end, and every whole message that had arrived from the peer has been served. The default
    /// finishes the connection. (If the peer had finished its direction, `on_finish` came before.) A handler that
    /// returns false finishes it later. Until then the peer is served, and this is called again after each time.
    fn on_stop(&mut self, board: &mut BoardOf<Self>, peer: Peer) -> bool {
        board.finish_because(peer, CloseReason::Drained);
        true
    }

    /// A datagram came to the datagram socket with this index. It may be empty. An answer goes the same [`Route`].
    fn on_datagram(&mut self, _board: &mut BoardOf<Self>, _socket: usize, _route: Route, _bytes: &[u8]) {}

    /// The timer that was set with this key is due.
    fn on_timer(&mut self, _board: &mut BoardOf<Self>, _key: u128) {}

    /// Another thread called `wake` on a clone of [`Reactor::waker`](super::Reactor::waker). Several
    /// calls may arrive as one.
    fn on_wake(&mut self, _board: &mut BoardOf<Self>) {}

    /// The connection is gone, also where it never opened. Its name means nobody from now on.
    fn on_close(
        &mut self,
        _board: &mut BoardOf<Self>,
        _peer: Peer,
        _state: Self::State,
        _reason: CloseReason,
    ) {
    }
}

/// The board that a handler is lent.
pub type BoardOf<H> = Board<<H as Handler>::Transport, <H as Handler>::State>;
