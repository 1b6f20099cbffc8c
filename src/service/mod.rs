//! What a server is for: messages in, reactions out.
//!
//! A [`Service`] is ten lines for a user to write. It knows no sockets, no framing and no readiness; the
//! same service serves a line-mode client and a datagram at once. It runs on the loop's thread, so it
//! must not block, and it says what it wants to the [`Switchboard`] it is lent.
//!
//! - [`exchange`]: how bytes become calls of a service;
//! - [`echo`], [`reply`], [`discard`], [`source`]: one idea each;
//! - `chat`: rooms; `relay`: a world; `web`: files; `upgrade`: how a request makes a WebSocket; `metrics`; `clock` (feature `web`);
//! - [`directory`]: several of these in one process; [`mounts`]: several of your own.

#[cfg(feature = "web")]
pub mod ambient;
#[cfg(feature = "web")]
mod answers;
#[cfg(feature = "web")]
pub mod chat;
#[cfg(feature = "web")]
pub mod clock;
mod conversation;
pub mod directory;
pub mod discard;
pub mod echo;
pub mod exchange;
#[cfg(feature = "web")]
pub mod metrics;
pub mod mounts;
#[cfg(feature = "web")]
mod page;
mod refusals;
#[cfg(feature = "web")]
pub mod relay;
pub mod reply;
pub mod source;
#[cfg(feature = "web")]
mod upgrade;
#[cfg(feature = "web")]
pub mod web;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

#[cfg(feature = "web")]
use crate::protocol::http::Request;
use crate::protocol::{Encoded, Framing, Message, Plain, Protocol};
use crate::reactor::{Board, CloseReason, Descriptor, Moment, Peer, Route};
use crate::transport::tls::Secured;
use crate::transport::{Address, Stream};

use conversation::Conversation;
#[cfg(feature = "web")]
use metrics::Metrics;

/// What a user implements.
///
/// # The order of the callbacks
///
/// ```text
///                    ┌───────────────────────────────┐
///                    ▼                               │ any number, in any order
///  (accepted) ──► on_open ──► on_message, on_drain ──┘
///                                    │
///               the peer's end of file: on_finish      (it may still read: send, then finish)
///                                    │
///                                    ▼
///                                on_close ──► the name is never used again
/// ```
///
/// - `on_open` comes first, and `on_close` last, once for each peer. Only `on_close` is certain: a peer may be gone before it has
///   said anything, and its connection may end without `on_finish` (a reset, a deadline, `close`).
/// - `on_timer` and `on_datagram` belong to no peer and may come at any time. A timer cannot be cancelled: remember which ones count.
/// - Callbacks never run inside one another. Whatever a callback does to the [`Switchboard`] takes effect when it has returned. So it
///   may send to, finish or close every peer, the one that it is called for included.
/// - A callback must not block: it runs on the thread that serves everybody.
///
/// What differs by protocol:
///
/// | listener | `on_open` | a message is | when may be sent |
/// |---|---|---|---|
/// | `tcp://`, `unix:`, `tls://` | accepted, and through the TLS handshake | what came in one read | at any time |
/// | `+lines`, `+prefixed` | the same | a line, a frame | at any time |
/// | `http://` | accepted; if the request makes it a WebSocket, `on_upgrade` calls it again by default | a request's body, by `on_request` | as the answer to the request |
/// | `ws://` | after the upgrade, by `on_upgrade` | a WebSocket message | at any time |
/// | `udp://` | not called | not called: `on_datagram` | `send_to` |
///
/// # State of each peer
///
/// Keep it in a map whose key is the [`Peer`]: put it in with `on_open`, take it out with `on_close` (`examples/chat_bot.rs`). The name
/// is a slot and a generation, and no later connection has it again, so an entry always belongs to the same connection. State that all
/// peers share is a field of the service (`examples/key_value.rs`): one thread runs all callbacks, so there is nothing to lock.
pub trait Service {
    /// A connection is there.
    fn on_open(&mut self, _board: &mut Switchboard<'_>, _peer: Peer) {}

    /// A message came.
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>);

    /// A request came over HTTP. Answer it here: by [`Switchboard::respond`], by what
    /// [`Switchboard::begin_response`] begins, or by [`Switchboard::send`], which makes its message a 200; where nothing is
    /// said, the answer is a 204. The default has the body served as a message, so that every service can be asked over HTTP.
    #[cfg(feature = "web")]
    fn on_request(&mut self, board: &mut Switchboard<'_>, from: Peer, request: &Request<'_>) {
        self.on_message(board, from, Message::from_bytes(request.body));
    }

    /// A client of an `http://` listener asks to become a WebSocket, with this request. If this returns false, the request is served
    /// as any other.
    #[cfg(feature = "web")]
    fn takes_websocket(&mut self, _board: &mut Switchboard<'_>, _from: Peer, _request: &Request<'_>) -> bool {
        true
    }

    /// The subprotocols that are spoken, the best first (`Sec-WebSocket-Protocol`, RFC 6455 section 1.9). A client that asks
    /// for some is answered with the first of these that it names.
    #[cfg(feature = "web")]
    fn subprotocols(&mut self, _board: &mut Switchboard<'_>, _peer: Peer) -> &'static [&'static str] {
        &[]
    }

    /// It has become one: its messages come, and it can be spoken to at any time.
    #[cfg(feature = "web")]
    fn on_upgrade(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        self.on_open(board, peer);
    }

    /// A datagram came. It may be empty. Its sender may be forged: see [`Origin::is_server`]. (A datagram from one of our own
    /// sockets does not come: it was dropped, and counted as refused.)
    fn on_datagram(&mut self, _board: &mut Switchboard<'_>, _from: Origin, _bytes: &[u8]) {}

    /// The peer has said everything; it may still be listening. The default says our end, too, once
    /// all replies are delivered.
    fn on_finish(&mut self, board: &mut Switchboard<'_>, from: Peer) {
        board.finish(from);
    }

    /// So much waited for the peer that it was [congested](Switchboard::congested), or nearly; now
    /// there is room again.
    fn on_drain(&mut self, _board: &mut Switchboard<'_>, _peer: Peer) {}

    /// The timer that was set with this key is due.
    fn on_timer(&mut self, _board: &mut Switchboard<'_>, _key: u64) {}

    /// The connection is gone. Its name means nobody from now on.
    fn on_close(&mut self, _board: &mut Switchboard<'_>, _peer: Peer, _reason: CloseReason) {}

    /// The server listens there no more, and no connection that came by it is left. For a service that keeps something for
    /// each listener or socket.
    fn on_forget(&mut self, _at: At) {}

    /// `/metrics` is asked for: adds what the service counts (`--metrics`).
    #[cfg(feature = "web")]
    fn on_metrics(&self, _page: &mut Metrics) {}
}

/// Where a server listens: a stream listener or a datagram socket, by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// See [`Reactor::listen`](crate::reactor::Reactor::listen).
    Listener(usize),
    /// See [`Reactor::listen_datagrams`](crate::reactor::Reactor::listen_datagrams).
    Socket(usize),
}

/// Who sent a datagram, and to which of our sockets: where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Our socket's index, in the order of the listeners.
    pub socket: usize,
    /// The sender.
    pub address: SocketAddr,
    /// The address that it was sent to, where our socket is bound to all of them, and the system says which (see
    /// [`Datagrams`](crate::transport::Datagrams)): the answer leaves from there.
    pub local: Option<IpAddr>,
}

impl Origin {
    /// Whether the sender's port is below 1024: those belong to servers (DNS, NTP, TFTP, an old echo), and clients have none of
    /// them (RFC 6335 section 6, RFC 4787 REQ-3). An answer to such a sender is answered again, and so on for ever, so a service
    /// that answers whatever comes does not answer these (CVE-2024-2169).
    pub fn is_server(&self) -> bool {
        self.address.port() < 1024
    }

    fn route(self) -> Route {
        Route { peer: self.address, local: self.local }
    }
}

/// What a service may do, in a callback: send to any peer, finish, close, set timers. It takes effect when the callback has
/// returned.
pub struct Switchboard<'a> {
    board: &'a mut Board<Stream, Conversation>,
    occasion: Occasion<'a>,
    /// The owner of the timers that are set, where several services share a board; see [`directory`].
    owner: u64,
}

/// Which callback the switchboard was made for, where that makes a difference.
#[derive(Clone, Copy)]
enum Occasion<'a> {
    /// It makes none.
    Other,
    /// A long message of this peer is being served, and it is all that is in the inbox, as with an echo. If it is the first thing
    /// that is sent to its sender, the inbox's block is passed on, and nothing is copied. That can't happen while the service
    /// looks at the message. So it waits for the end of the callback.
    Whole(Peer, &'a [u8]),
    /// That message goes back to its sender.
    Returned(Peer, &'a [u8]),
    /// This datagram is being answered, with at most `answer_bytes_left` more bytes.
    Datagram { origin: Origin, answer_bytes_left: usize },
    /// The end of this peer is being reported. It came by this listener.
    Closed { peer: Peer, listener: usize },
}

impl<'a> Switchboard<'a> {
    #[inline]
    pub(crate) fn new(board: &'a mut Board<Stream, Conversation>) -> Self {
        Switchboard { board, occasion: Occasion::Other, owner: 0 }
    }

    /// For the timers of one of several services that share the board.
    pub(crate) fn of_owner(board: &'a mut Board<Stream, Conversation>, owner: u64) -> Self {
        Switchboard { board, occasion: Occasion::Other, owner }
    }

    /// For a message that is all there is in the inbox, and is passed on where it goes back as it came.
    pub(crate) fn for_whole(
        board: &'a mut Board<Stream, Conversation>,
        from: Peer,
        message: &'a [u8],
    ) -> Self {
        Switchboard { board, occasion: Occasion::Whole(from, message), owner: 0 }
    }

    /// For a datagram whose answers may have at most `answer_bytes_max`.
    pub(crate) fn for_datagram(
        board: &'a mut Board<Stream, Conversation>,
        origin: Origin,
        answer_bytes_max: usize,
    ) -> Self {
        let occasion = Occasion::Datagram { origin, answer_bytes_left: answer_bytes_max };
        Switchboard { board, occasion, owner: 0 }
    }

    /// For the report that a peer has gone.
    pub(crate) fn for_closed(
        board: &'a mut Board<Stream, Conversation>,
        peer: Peer,
        listener: usize,
    ) -> Self {
        Switchboard { board, occasion: Occasion::Closed { peer, listener }, owner: 0 }
    }

    /// Whether the message that is being served goes back, whole.
    pub(crate) fn is_returned(&self) -> bool {
        matches!(self.occasion, Occasion::Returned(..))
    }

    /// Sends a message (text or bytes will do), framed as the peer's listener has it. To a peer that is gone, nothing is sent.
    #[inline(always)]
    pub fn send<'m>(&mut self, to: Peer, message: impl Into<Message<'m>>) {
        self.send_message(to, message.into());
    }

    #[inline(always)]
    fn send_message(&mut self, to: Peer, message: Message<'_>) {
        if self.may_return() && self.returns(to, message.bytes()) {
            return;
        }
        if let Some((conversation, mut outbox)) = self.board.outbox(to) {
            // The common cases stand apart, which saves them some instructions.
            match &mut conversation.protocol {
                Protocol::Plain(Plain::Raw(_)) => outbox.put(message.bytes()),
                Protocol::Plain(_) => conversation.protocol.encode(message, &mut outbox),
                #[cfg(feature = "web")]
                Protocol::Web(_) => self.send_to_web(to, message),
                #[cfg(not(feature = "web"))]
                Protocol::Web(_) => {}
            }
        }
    }

    /// Sends a message that has been encoded already, as one that goes to many. A peer that speaks something else is sent
    /// nothing.
    #[inline]
    pub fn send_encoded(&mut self, to: Peer, encoded: &Encoded) {
        if self.may_return() {
            self.returns(to, &[]);
        }
        if let Some((conversation, mut outbox)) = self.board.outbox(to)
            && conversation.protocol.can_send_encoded(encoded.framing())
        {
            outbox.put(encoded.bytes());
        }
    }

    /// Sends a message to all of these, encoded once for each framing that they speak. The loop writes each outbox once in
    /// a turn, whatever was put into it.
    pub fn broadcast<'m>(&mut self, to: impl IntoIterator<Item = Peer>, message: impl Into<Message<'m>>) {
        let message = message.into();
        let mut known: Vec<Encoded> = Vec::new();
        for peer in to {
            let Some(framing) = self.framing(peer) else { continue };
            if !known.iter().any(|encoded| encoded.framing() == framing) {
                known.extend(Encoded::new(framing, message));
            }
            match known.iter().find(|encoded| encoded.framing() == framing) {
                Some(encoded) => self.send_encoded(peer, encoded),
                None => self.send(peer, message), // over HTTP, as the answer to its request
            }
        }
    }

    /// Whether this send need not copy. One that comes behind a message to be returned makes the copy
    /// of that, so that their order is kept.
    #[inline(never)]
    fn returns(&mut self, to: Peer, bytes: &[u8]) -> bool {
        match self.occasion {
            Occasion::Whole(from, whole) if from == to => {
                let outbox = self.board.outbox(to).map(|(_, outbox)| outbox);
                if std::ptr::eq(bytes, whole) && outbox.is_some_and(|outbox| outbox.is_empty()) {
                    self.occasion = Occasion::Returned(from, whole);
                    return true;
                }
                self.occasion = Occasion::Other;
            }
            Occasion::Returned(from, _) if from == to => self.copy_returned(),
            _ => {}
        }
        false
    }

    /// Whether a long message is being served that might go back, or is to.
    #[inline(always)]
    fn may_return(&self) -> bool {
        matches!(self.occasion, Occasion::Whole(..) | Occasion::Returned(..))
    }

    fn copy_returned(&mut self) {
        if let Occasion::Returned(from, whole) = self.occasion {
            self.occasion = Occasion::Other;
            self.board.send(from, whole);
        }
    }

    /// Sends a datagram from the socket that `to` came to. If it can't be sent now it is dropped.
    ///
    /// So it is where it would answer a datagram with more bytes than that had, unless the place allows it: the
    /// sender's address may be a lie, and the host that really has it would be flooded through us (amplification, RFC
    /// 5358 for one).
    pub fn send_to(&mut self, to: Origin, bytes: &[u8]) {
        if let Occasion::Datagram { origin, answer_bytes_left: left } = &mut self.occasion
            && *origin == to
        {
            match left.checked_sub(bytes.len()) {
                Some(less) => *left = less,
                None => return self.board.drop_datagram(),
            }
        }
        self.board.send_to(to.socket, to.route(), bytes);
    }

    /// Calls [`Service::on_timer`] with this key when `delay` has passed.
    pub fn set_timer(&mut self, delay: Duration, key: u64) {
        self.board.set_timer_of(self.owner, delay, key);
    }

    /// Ends the conversation gracefully: what waits is delivered, then our end of file.
    pub fn finish(&mut self, peer: Peer) {
        self.copy_returned(); // behind our end of file, it would be too late
        let draining = self.board.draining();
        if let Some((conversation, mut outbox)) = self.board.outbox(peer) {
            conversation.protocol.encode_close(draining, &mut outbox);
        }
        self.board.finish(peer);
    }

    /// Ends the connection now; what waits is lost.
    pub fn close(&mut self, peer: Peer) {
        self.board.close(peer);
    }

    /// How many bytes may be sent to the peer before it is congested. `None` where that is none: it is congested, our
    /// direction is finishing, the connection is closed, or (over HTTP) no request of the peer is being answered.
    ///
    /// A service with much to send fills the outbox in a loop and goes on in [`Service::on_drain`]:
    ///
    /// ```
    /// # use switchboard::{Message, Peer, Switchboard};
    /// # fn next_part() -> &'static str { "part\n" }
    /// fn fill(board: &mut Switchboard<'_>, peer: Peer) {
    ///     while let Some(_bytes) = board.room(peer) {
    ///         board.send(peer, Message::Text(next_part()));
    ///     }
    /// }
    /// ```
    ///
    /// The loop ends by itself, whatever becomes of the peer: what is sent takes from the room, and where nothing can be
    /// sent there is no room. (Each message must have a byte at least.)
    pub fn room(&mut self, peer: Peer) -> Option<NonZeroUsize> {
        self.copy_returned(); // it takes from the room, too
        match self.board.state(peer)?.protocol.can_send() {
            true => self.board.room(peer),
            false => None,
        }
    }

    /// Whether so much waits for the peer that a service with more to say should wait for
    /// [`Service::on_drain`]. `false` for a peer that is gone: ask for the [room](Switchboard::room) before you send in a
    /// loop.
    pub fn congested(&self, peer: Peer) -> bool {
        let returned = match self.occasion {
            Occasion::Returned(from, whole) if from == peer && self.is_open(peer) => whole.len(),
            _ => 0,
        };
        self.board.congested(peer) || returned >= self.board.limits().outbox_bytes_high
    }

    /// Whether the peer is still there.
    pub fn is_open(&self, peer: Peer) -> bool {
        self.board.is_open(peer)
    }

    /// How the peer's messages are delimited; `None` for one that is gone.
    pub fn framing(&mut self, peer: Peer) -> Option<Framing> {
        self.board.state(peer).map(|conversation| conversation.protocol.framing())
    }

    /// The index of the listener by which the peer came, in the order of the stream listeners. `None` for
    /// one that is gone, unless this is its [`Service::on_close`].
    #[inline]
    pub fn listener(&mut self, peer: Peer) -> Option<usize> {
        match self.board.state(peer) {
            Some(conversation) => Some(conversation.listener()),
            None => match self.occasion {
                Occasion::Closed { peer: gone, listener } if gone == peer => Some(listener),
                _ => None,
            },
        }
    }

    /// Where the peer is: its socket's address, or what a trusted proxy says. `None` for one that is gone.
    pub fn address(&mut self, peer: Peer) -> Option<Address> {
        let introduced = self.board.state(peer)?.introduced();
        introduced.or_else(|| self.board.transport(peer)?.peer_address())
    }

    /// What is known of the peer where it speaks TLS: whose certificate it has shown, for one. `None` for others,
    /// and for one that is gone.
    pub fn secured(&self, peer: Peer) -> Option<Secured> {
        self.board.transport(peer)?.secured()
    }

    /// A descriptor for something that the service keeps open, as a file that it sends; to be kept beside that. `None` where
    /// there are none left: see [`Board::claim_descriptor`]. Over HTTP, the answer is then 503 with Retry-After.
    pub fn claim_descriptor(&self) -> Option<Descriptor> {
        self.board.claim_descriptor()
    }

    /// The number of this turn of the loop: what is looked up once in a turn is looked up again when it changes.
    pub fn turn(&self) -> u64 {
        self.board.counters().turns
    }

    /// Stops the server gracefully, as SIGTERM does: see [`Server::run`](crate::Server::run). What was sent is delivered.
    pub fn shutdown(&mut self) {
        self.board.shutdown();
    }

    /// Whether the server is stopping.
    pub fn draining(&self) -> bool {
        self.board.draining()
    }

    /// What time it is for this turn: a sample of the clock from its beginning, or from when a timer came due in it.
    pub fn now(&self) -> Moment {
        self.board.now()
    }

    /// The time now, some way into the turn. This reads the clock, for callers that must know how late they are.
    pub fn clock(&self) -> Moment {
        self.board.clock()
    }
}
