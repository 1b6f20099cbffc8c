//! The two seams of the core: what moves the bytes ([`Transport`], below it) and what they mean
//! ([`Handler`], above it), with the limits and the endings that both speak of.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use mio::event;

use super::datagram::{DatagramSocket, Route};
use super::{Board, Buffer, Moment, Peer};

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

    /// What whoever stands in between says of the peer, before its first byte; see [`Transport::introduce`].
    type Introduction;

    /// Takes the next waiting stream. Errors as accept(2).
    fn accept(listener: &mut Self::Listener) -> io::Result<(Self, Self::Address)>;

    /// Where the other end is one that brings others (a proxy): whom it brings, before anything else happens. `None`
    /// where nobody is to be introduced, or has been already. `WouldBlock`, and the deadline, as in `establish`.
    fn introduce(&mut self) -> io::Result<Option<Self::Introduction>> {
        Ok(None)
    }

    /// Brings a new stream to where bytes can flow: the end of an outgoing connect, a handshake.
    /// `WouldBlock` means not yet; it is asked again at the stream's next event.
    fn establish(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether to establish this stream takes computing, and more than one event: then it has a budget, and a
    /// cap ([`Limits::handshakes_per_turn`], [`Limits::handshakes_max`]).
    fn has_handshake(&self) -> bool {
        false
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

    /// What is to be known about a connection that was admitted, for its transport to be told before it begins.
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
    /// with more behind it. Before each message, ask [`Board::serving`] whether to go on; where the
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

    /// The rest of a message has not come in time ([`Limits::message_within`]). The default ends the conversation.
    fn on_overdue(&mut self, board: &mut BoardOf<Self>, peer: Peer) {
        board.finish_because(peer, CloseReason::MessageTimeout);
    }

    /// Nothing has moved for [`Limits::idle_after`]. Whoever has just asked the peer whether it is still there says true,
    /// and it has as long again to show itself; else it is closed.
    fn on_idle(&mut self, _board: &mut BoardOf<Self>, _peer: Peer) -> bool {
        false
    }

    /// The reactor comes to its end, and every whole message that had arrived from the peer has been served. The default
    /// finishes the connection. (Where the peer had finished its direction, `on_finish` came before.) A handler that
    /// returns false finishes it later, and the peer is served until then.
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

/// How far each thing may go. Whatever a peer can make us hold or do is bounded by one of these.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time. At the limit accepting stops, and the kernel's backlog holds the rest.
    pub connections_max: usize,
    /// Connections accepted from one listener in one turn.
    pub accepts_per_turn: usize,
    /// Bytes read from one connection in one turn. Must be at least 1.
    pub read_bytes_per_turn: usize,
    /// Bytes read from one connection in a second, and at once after a second of rest. Beyond, reading is paused: the
    /// peer's bytes wait in the kernel, and TCP slows it down. Must be at least 1; `None`: as fast as they come.
    pub read_bytes_per_s: Option<u64>,
    /// Messages of one connection that are served in one turn. The rest waits, behind the other connections.
    pub messages_per_turn: usize,
    /// Time in one turn after which a connection's next message waits for the next turn, because cheap bytes can be
    /// expensive messages. The message that is being served is not interrupted.
    pub connection_time_per_turn: Duration,
    /// Time after which a turn comes to its end: what has not been served waits for the next one.
    pub serve_time_per_turn: Duration,
    /// Datagrams received on one socket in one turn.
    pub datagrams_per_turn: usize,
    /// Timers fired in one turn.
    pub timers_per_turn: usize,
    /// Bytes that may wait for the rest of their message. The handler's own limit on a message should
    /// strike first; this one ends the connection where it doesn't.
    pub inbox_bytes_max: usize,
    /// From here on, a connection's outbox holds up its own reading. The low mark is half of it.
    pub outbox_bytes_high: usize,
    /// Beyond this, the connection is closed: a slow reader must not cost more.
    pub outbox_bytes_max: usize,
    /// Handshakes that are taken a step further in one turn. The others wait, behind the established connections.
    pub handshakes_per_turn: usize,
    /// Time in one turn after which the other handshakes wait. A step takes a tenth of a millisecond of computing with
    /// an elliptic curve, and some milliseconds with a long RSA key.
    pub handshake_time_per_turn: Duration,
    /// Connections of one listener that may be in their handshake. At the limit it accepts nobody until one
    /// is through, or has run out of time: a flood of them is to be held up, not those who are there.
    pub handshakes_max: usize,
    /// Time for [`Transport::establish`], from the first moment, whatever bytes arrive.
    pub handshake_within: Duration,
    /// Time for a message to become whole, from when its beginning had to wait ...
    pub message_within: Duration,
    /// ... and a second more for each so many bytes of it that are there. Whatever bytes arrive, a message is whole
    /// within a time that its length bounds, or its sender is [overdue](Handler::on_overdue). At least 1.
    pub message_bytes_per_s_min: u64,
    /// A connection over which nothing moved for this long is closed.
    pub idle_after: Duration,
    /// A peer that took nothing for this long, while we had something for it, is closed ...
    pub stall_after: Duration,
    /// ... and so is one that takes less than this on average: each byte that it takes buys it this part of a second, up
    /// to `stall_after` once more. (That is what the kernel took: the peer may read it later.) At least 1.
    pub stall_bytes_per_s_min: u64,
    /// After our end of file, how long we read on (and drop what comes) for the peer's. Closing
    /// earlier would answer a late byte with RST, which can destroy our last reply on its way.
    pub linger_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 10_000,
            accepts_per_turn: 64,
            read_bytes_per_turn: super::buffer::LARGE_BYTES,
            read_bytes_per_s: None,
            messages_per_turn: 2000,
            connection_time_per_turn: Duration::from_micros(200),
            serve_time_per_turn: Duration::from_millis(4),
            datagrams_per_turn: 64,
            timers_per_turn: 1024,
            inbox_bytes_max: 1024 * 1024,
            outbox_bytes_high: 64 * 1024,
            outbox_bytes_max: 4 * 1024 * 1024,
            handshakes_per_turn: 16,
            handshake_time_per_turn: Duration::from_millis(1),
            handshakes_max: 4096,
            handshake_within: Duration::from_secs(10),
            message_within: Duration::from_secs(30),
            message_bytes_per_s_min: 500,
            idle_after: Duration::from_secs(300),
            stall_after: Duration::from_secs(30),
            stall_bytes_per_s_min: 500,
            linger_for: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// Sizes beyond this are not believed: buffers index their bytes with 32 bits.
    pub const BYTES_MAX: usize = 1 << 30;

    /// Brings every field to where the reactor can work: at least 1 where 0 would stop it, and sizes
    /// within [`Limits::BYTES_MAX`].
    pub(super) fn checked(limits: impl Into<Arc<Limits>>) -> Arc<Limits> {
        let mut limits = limits.into();
        Arc::make_mut(&mut limits).check();
        limits
    }

    fn check(&mut self) {
        for size in [
            &mut self.read_bytes_per_turn,
            &mut self.inbox_bytes_max,
            &mut self.outbox_bytes_high,
            &mut self.outbox_bytes_max,
        ] {
            *size = (*size).clamp(1, Limits::BYTES_MAX);
        }
        self.outbox_bytes_high = self.outbox_bytes_high.min(self.outbox_bytes_max);
        for count in [
            &mut self.accepts_per_turn,
            &mut self.datagrams_per_turn,
            &mut self.handshakes_max,
            &mut self.handshakes_per_turn,
            &mut self.messages_per_turn,
            &mut self.timers_per_turn,
        ] {
            *count = (*count).max(1);
        }
        self.connections_max = self.connections_max.min(u32::MAX as usize);
        self.read_bytes_per_s = self.read_bytes_per_s.map(|rate| rate.max(1));
        self.message_bytes_per_s_min = self.message_bytes_per_s_min.max(1);
        self.stall_bytes_per_s_min = self.stall_bytes_per_s_min.max(1);
    }

    /// How long a message may take of which so many bytes are there.
    pub(super) fn message_time(&self, bytes: usize) -> Duration {
        let bought = Duration::from_millis(bytes as u64 * 1000 / self.message_bytes_per_s_min);
        self.message_within.saturating_add(bought)
    }

    /// How much time a peer buys that takes `bytes` of what waits for it.
    pub(super) fn taking_time(&self, bytes: usize) -> Duration {
        Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / self.stall_bytes_per_s_min)
    }

    #[inline]
    pub(super) fn outbox_bytes_low(&self) -> usize {
        self.outbox_bytes_high / 2
    }
}

/// Why a connection ended. The same words in the log, the counters and the callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides said everything and said so.
    Finished,
    /// The peer reset the connection, or was gone when we wrote.
    Reset,
    /// An outgoing connection, or a handshake, came to nothing.
    Unestablished(io::ErrorKind),
    /// The transport failed in another way.
    Failed(io::ErrorKind),
    /// The handshake took longer than `handshake_within`.
    HandshakeTimeout,
    /// A message was not whole in time: after `message_within`, and what its bytes had bought.
    MessageTimeout,
    /// Nothing moved for `idle_after`.
    Idle,
    /// The peer took nothing for `stall_after` while we had something for it.
    Stalled,
    /// The peer did not answer our end of file with its own within `linger_for`.
    Lingered,
    /// More than `outbox_bytes_max` waited for the peer.
    SlowReader,
    /// More than `inbox_bytes_max` waited for the rest of a message.
    InboxFull,
    /// The peer's bytes ended without its having said that they do (in TLS, without a close_notify): the last
    /// message may have been cut off, by whoever is in between, and was not served.
    Truncated,
    /// The peer broke the rules of its protocol.
    Violation,
    /// It was introduced by a proxy as somebody who may not come in, or not as it has to be.
    Refused,
    /// The rules have changed, and no longer allow the peer.
    Disallowed,
    /// The handler closed it.
    Closed,
    /// The server stopped, and let it finish first.
    Drained,
    /// The server stopped and could not wait any longer.
    Cut,
}

impl CloseReason {
    /// The names of all reasons, in the order of their [rows](CloseReason::row).
    pub const NAMES: [&'static str; 18] = [
        "finished",
        "reset",
        "unestablished",
        "failed",
        "handshake-timeout",
        "message-timeout",
        "idle",
        "stalled",
        "lingered",
        "slow-reader",
        "inbox-full",
        "truncated",
        "violation",
        "refused",
        "disallowed",
        "closed",
        "drained",
        "cut",
    ];

    /// How many reasons there are.
    pub const COUNT: usize = CloseReason::NAMES.len();

    /// The reason's place in a table of counters.
    pub fn row(self) -> usize {
        match self {
            CloseReason::Finished => 0,
            CloseReason::Reset => 1,
            CloseReason::Unestablished(_) => 2,
            CloseReason::Failed(_) => 3,
            CloseReason::HandshakeTimeout => 4,
            CloseReason::MessageTimeout => 5,
            CloseReason::Idle => 6,
            CloseReason::Stalled => 7,
            CloseReason::Lingered => 8,
            CloseReason::SlowReader => 9,
            CloseReason::InboxFull => 10,
            CloseReason::Truncated => 11,
            CloseReason::Violation => 12,
            CloseReason::Refused => 13,
            CloseReason::Disallowed => 14,
            CloseReason::Closed => 15,
            CloseReason::Drained => 16,
            CloseReason::Cut => 17,
        }
    }

    /// The reason's name in the log and in the counters.
    pub fn name(self) -> &'static str {
        CloseReason::NAMES[self.row()]
    }

    /// What an error of a read or a write says of the connection's end.
    #[cold]
    pub(super) fn of(error: &io::Error) -> CloseReason {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => CloseReason::Reset,
            kind => CloseReason::Failed(kind),
        }
    }
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CloseReason::Unestablished(kind) | CloseReason::Failed(kind) => {
                write!(f, "{} ({kind})", self.name())
            }
            _ => f.write_str(self.name()),
        }
    }
}
