//! The exchange: between the reactor, which knows bytes, and a service, which knows messages.
//!
//! It decodes what came, calls the service between two messages, and stops where the peer's own outbox
//! is congested: a peer that does not read its replies is not served further, and costs nobody else.
//!
//! Invariant: bytes are consumed exactly when the service has been told what they meant.

use std::collections::BTreeMap;
#[cfg(feature = "web")]
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::time::Duration;

use crate::guard::{Guard, Reason, Sites, Ticket};
#[cfg(feature = "web")]
use crate::protocol::http;
#[cfg(feature = "web")]
use crate::protocol::websocket::{self, WebSocket};
use crate::protocol::{Framing, Message, Protocol, Sink, Step, Violation};
use crate::reactor::{Board, Buffer, CloseReason, Handler, Moment, Outbox, Peer, Route};
use crate::transport::proxied::{Introduced, Problem};
use crate::transport::{Address, Stream};

#[cfg(feature = "web")]
use super::ambient::Ambient;
#[cfg(feature = "web")]
use super::clock::Clock;
#[cfg(feature = "web")]
use super::metrics::Metrics;
use super::refusals::Refusals;
use super::{Origin, Service, Switchboard};

/// Below this size a copy costs less than the question whether it is needed.
const PASSED_ON_BYTES_MIN: usize = 4 * 1024;

/// A [`Handler`] that speaks protocols and calls a [`Service`].
pub struct Exchange<S> {
    service: S,
    /// What holds at each stream listener, by its index, and at each datagram socket.
    listeners: Vec<Place>,
    sockets: BTreeMap<usize, Place>,
    /// Refusals at places that are forgotten.
    refused_before: [u64; Reason::ALL.len()],
    refusals: Refusals,
    #[cfg(feature = "web")]
    clock: Clock,
    /// Room for what is put together to be served: a body that came in chunks, a message without its mask.
    #[cfg(feature = "web")]
    body: Vec<u8>,
    /// What the logs could not take, for `/metrics`.
    #[cfg(feature = "web")]
    unlogged: fn() -> Unlogged,
    /// What `/metrics` says, and the turn for which that holds: it is put together once in a turn, however many requests
    /// come.
    #[cfg(feature = "web")]
    metrics: Option<(u64, String)>,
    /// WebSockets that must be closed because the server stops, and the time for that.
    #[cfg(feature = "web")]
    leaving: VecDeque<Peer>,
    #[cfg(feature = "web")]
    leave_within: Duration,
    /// The next group is not to be closed before.
    #[cfg(feature = "web")]
    leave_next: Moment,
}

/// Permission to serve one message. [`Board::admit_message`] must be called once for each message, because each call uses up one
/// message of the connection's share. `on_bytes` calls it before it looks at the protocol, and passes the permission on. (With
/// a second call, a connection with a share of one message was never served.)
#[cfg(feature = "web")]
enum Permit {
    Given,
    Used,
}

#[cfg(feature = "web")]
impl Permit {
    /// Returns the peer's conversation if one more of its messages may be served.
    fn take<'a>(
        &mut self,
        board: &'a mut Board<Stream, Conversation>,
        peer: Peer,
    ) -> Option<&'a mut Conversation> {
        match mem::replace(self, Permit::Used) {
            Permit::Given => board.state(peer),
            Permit::Used => board.admit_message(peer),
        }
    }
}

/// Timers with this scope are the exchange's own, and no service's.
#[cfg(feature = "web")]
const OWN_SCOPE: u64 = u64::MAX;

/// WebSockets are closed in groups, so often ...
#[cfg(feature = "web")]
const LEAVE_EVERY: Duration = Duration::from_millis(10);

/// ... and of at least this many: 1,000 a second can come back to the process that takes our place.
#[cfg(feature = "web")]
const LEAVE_TOGETHER_MIN: usize = 10;

/// What the logs could not take since the process began.
#[cfg(feature = "web")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlogged {
    /// Records of the log, and lines of the access log, that found their queue full.
    pub records: u64,
    /// Lines of the access log that its file did not take: a full disk, for one.
    pub access_lines: u64,
}

/// What is spoken at a listener or a datagram socket, and with whom.
#[derive(Debug, Default)]
pub struct Place {
    /// How messages are told apart.
    pub framing: Framing,
    /// The most bytes of one.
    pub message_bytes_max: usize,
    /// Who may come in.
    pub guard: Guard,
    /// Datagrams may be answered with more bytes than they had.
    pub amplify: bool,
    /// `GET /metrics` and `GET /healthz` are answered, whatever the service.
    pub metrics: bool,
    /// HTTP and WebSocket: whose pages are let in, and under which names requests are served.
    pub sites: Sites,
}

/// What the exchange keeps of each connection.
#[derive(Debug)]
pub struct Conversation {
    protocol: Protocol,
    /// By which listener it came.
    listener: u32,
    /// Whose connection it is, where that is counted.
    ticket: Ticket,
    /// Where a proxy stands in between. In a box, so that everybody else pays one word.
    by_proxy: Option<Box<ByProxy>>,
}

/// Whom a proxy brings.
#[derive(Debug)]
enum ByProxy {
    /// It is at this address, and has still to say it.
    Expected(Address),
    /// Itself.
    Itself,
    /// This client.
    Introduced(Address),
}

impl Conversation {
    /// At its beginning, on a connection that came by this listener.
    pub fn new(protocol: Protocol, listener: usize) -> Conversation {
        Conversation { protocol, listener: listener as u32, ticket: Ticket::NONE, by_proxy: None }
    }

    /// Where the peer is, as far as a proxy has said; else it is where its socket is.
    pub fn introduced(&self) -> Option<Address> {
        match self.by_proxy.as_deref() {
            Some(ByProxy::Introduced(address)) => Some(*address),
            _ => None,
        }
    }

    /// Whether the guard has no say: it speaks for a proxy, which is trusted.
    pub fn is_proxys_own(&self) -> bool {
        matches!(self.by_proxy.as_deref(), Some(ByProxy::Itself | ByProxy::Expected(_)))
    }

    pub(super) fn protocol(&mut self) -> &mut Protocol {
        &mut self.protocol
    }

    /// By which listener it came.
    pub fn listener(&self) -> usize {
        self.listener as usize
    }
}

impl<S: Service> Exchange<S> {
    /// With no place to talk yet.
    pub fn new(service: S) -> Self {
        Exchange {
            service,
            listeners: Vec::new(),
            sockets: BTreeMap::new(),
            refused_before: [0; Reason::ALL.len()],
            refusals: Refusals::default(),
            #[cfg(feature = "web")]
            clock: Clock::new(&Ambient::machine()),
            #[cfg(feature = "web")]
            body: Vec::new(),
            #[cfg(feature = "web")]
            unlogged: Unlogged::default,
            #[cfg(feature = "web")]
            metrics: None,
            #[cfg(feature = "web")]
            leaving: VecDeque::new(),
            #[cfg(feature = "web")]
            leave_within: Duration::from_secs(5),
            #[cfg(feature = "web")]
            leave_next: Moment::default(),
        }
    }

    /// The time in which WebSockets are closed when the server stops, where there are many of them: clients come back at
    /// once when they are told to go, and are not to do so all together.
    #[cfg(feature = "web")]
    pub fn set_leave_within(&mut self, time: Duration) {
        self.leave_within = time;
    }

    /// Closes the next group of those that are to leave.
    #[cfg(feature = "web")]
    fn close_some(&mut self, board: &mut Board<Stream, Conversation>) {
        let groups = (self.leave_within.as_nanos() / LEAVE_EVERY.as_nanos()).max(1);
        let count =
            (self.leaving.len() / usize::try_from(groups).unwrap_or(usize::MAX) + 1).max(LEAVE_TOGETHER_MIN);
        for peer in self.leaving.drain(..count.min(self.leaving.len())) {
            if let Some((Conversation { protocol: Protocol::WebSocket(socket), .. }, mut outbox)) =
                board.outbox(peer)
            {
                socket.close(websocket::code::GOING_AWAY, "the server stops", &mut outbox);
            }
            board.finish_because(peer, CloseReason::Drained);
        }
        // What is left has as much less time.
        self.leave_within = self.leave_within.saturating_sub(LEAVE_EVERY);
        self.leave_next = board.now().after(LEAVE_EVERY);
        if !self.leaving.is_empty() {
            board.set_timer(LEAVE_EVERY, u128::from(OWN_SCOPE) << 64);
        }
    }

    /// Says where the time of day comes from, which each answer bears (RFC 9110, section 6.6.1).
    #[cfg(feature = "web")]
    pub fn set_ambient(&mut self, ambient: &Ambient) {
        self.clock = Clock::new(ambient);
    }

    /// Says how to find out what the logs could not take.
    #[cfg(feature = "web")]
    pub fn count_unlogged_by(&mut self, unlogged: fn() -> Unlogged) {
        self.unlogged = unlogged;
    }

    /// Sets what holds at the stream listener with this index, whatever held there before.
    pub fn set_listener(&mut self, index: usize, place: Place) {
        if self.listeners.len() <= index {
            self.listeners.resize_with(index + 1, Place::default);
        }
        let before = mem::replace(&mut self.listeners[index], place);
        self.keep_count(&before);
    }

    /// Sets what holds at the datagram socket with this index, whatever held there before.
    pub fn set_socket(&mut self, index: usize, place: Place) {
        if let Some(before) = self.sockets.insert(index, place) {
            self.keep_count(&before);
        }
    }

    /// Drops what held at a stream listener that is gone with all its connections.
    pub fn forget_listener(&mut self, index: usize) {
        if index < self.listeners.len() {
            self.set_listener(index, Place::default());
        }
    }

    /// Drops what held at a datagram socket that is closed.
    pub fn forget_socket(&mut self, index: usize) {
        if let Some(before) = self.sockets.remove(&index) {
            self.keep_count(&before);
        }
    }

    fn keep_count(&mut self, place: &Place) {
        for (count, reason) in self.refused_before.iter_mut().zip(Reason::ALL) {
            *count += place.guard.refused(reason);
        }
    }

    /// What holds at this stream listener.
    pub fn listener(&mut self, index: usize) -> Option<&mut Place> {
        self.listeners.get_mut(index)
    }

    /// What holds at this datagram socket.
    pub fn socket(&mut self, index: usize) -> Option<&mut Place> {
        self.sockets.get_mut(&index)
    }

    /// The service.
    pub fn service(&mut self) -> &mut S {
        &mut self.service
    }

    /// How often connections and datagrams were refused, by the reason, everywhere.
    pub fn refused(&self) -> Vec<(Reason, u64)> {
        let places = || self.listeners.iter().chain(self.sockets.values());
        let count = |reason| places().map(|place| place.guard.refused(reason)).sum::<u64>();
        let all = Reason::ALL.into_iter().zip(self.refused_before);
        all.map(|(reason, before)| (reason, before + count(reason))).collect()
    }

    /// A long raw message: if it goes back as it came, the inbox's block does, and nothing is copied. A
    /// tenth of the time of a 64 KiB echo.
    #[inline(never)]
    fn pass_on(&mut self, board: &mut Board<Stream, Conversation>, from: Peer, inbox: &mut Buffer) {
        let mut switchboard = Switchboard::for_whole(board, from, inbox.bytes());
        self.service.on_message(&mut switchboard, from, Message::Binary(inbox.bytes()));
        if switchboard.is_returned() {
            board.send_whole(from, inbox);
        }
        inbox.clear();
    }

    /// Where messages are more than that. Cold, though it need not be: so the compiler keeps the way of plain bytes, which
    /// is counted in instructions, as if this one were not there.
    #[cfg(feature = "web")]
    #[cold]
    fn go_another_way(&mut self, board: &mut Board<Stream, Conversation>, from: Peer, inbox: &mut Buffer) {
        let mut permit = Permit::Given;
        if let Some(Conversation { protocol: Protocol::Http(_), .. }) = board.state(from) {
            self.on_requests(board, from, inbox, &mut permit);
        }
        // What was asked may have been this.
        if let Some(Conversation { protocol: Protocol::WebSocket(_), .. }) = board.state(from) {
            self.on_frames(board, from, inbox, permit);
        }
    }

    /// Frames, each when the one before has been served.
    #[cfg(feature = "web")]
    #[inline(never)]
    fn on_frames(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        inbox: &mut Buffer,
        mut permit: Permit,
    ) {
        let mut room = mem::take(&mut self.body);
        while permit.take(board, from).is_some() {
            let Some((conversation, mut outbox)) = board.outbox(from) else { break };
            let Protocol::WebSocket(socket) = &mut conversation.protocol else { break };
            match socket.decode(inbox.bytes(), &mut room, &mut outbox) {
                Ok(websocket::Step::Message { message, consumed }) => {
                    self.service.on_message(&mut Switchboard::new(board), from, message);
                    inbox.consume(consumed);
                }
                Ok(websocket::Step::Frame(consumed)) => inbox.consume(consumed),
                Ok(websocket::Step::NeedMore) => break,
                Ok(websocket::Step::Closed) => {
                    board.finish(from);
                    break;
                }
                Err(violation) => {
                    self.refuse(board, from, violation);
                    break;
                }
            }
        }
        self.keep(room);
    }

    /// Room for the next body or message that has to be put together.
    #[cfg(feature = "web")]
    fn keep(&mut self, room: Vec<u8>) {
        /// More is given back.
        const ROOM_BYTES_MAX: usize = 64 * 1024;
        if room.capacity() <= ROOM_BYTES_MAX {
            self.body = room;
        }
    }

    /// A request that asks for a WebSocket, of a service that takes them.
    #[cfg(feature = "web")]
    fn is_to_upgrade(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        request: &http::Request<'_>,
    ) -> bool {
        request.lists("upgrade", "websocket")
            && self.service.takes_websocket(&mut Switchboard::new(board), from, request)
    }

    /// A request for a WebSocket.
    #[cfg(feature = "web")]
    fn upgrade(&mut self, board: &mut Board<Stream, Conversation>, from: Peer, request: &http::Request<'_>) {
        let is_secure = matches!(board.transport(from), Some(Stream::Tls(_)));
        let Some(conversation) = board.state(from) else { return };
        let Some(place) = self.listeners.get(conversation.listener()) else { return };
        let key = match super::upgrade::accept_key(request, &place.sites, is_secure) {
            Ok(key) => key,
            Err((status, problem)) => {
                if status == super::upgrade::OTHER_ORIGIN {
                    let origin = String::from_utf8_lossy(request.field("origin").unwrap_or_default());
                    self.count_refused(
                        board,
                        from,
                        Reason::OtherOrigin,
                        &format!(", for a page of {origin:?},"),
                    );
                }
                let mut response =
                    http::Response::new(status).field("Content-Type", "text/plain; charset=utf-8");
                if status == 426 {
                    response = response.field("Upgrade", "websocket").field("Sec-WebSocket-Version", "13");
                }
                let text = format!("{problem}\n");
                return Switchboard::new(board).respond(from, &response, text.as_bytes());
            }
        };
        let message_bytes_max = place.message_bytes_max.min(1 << 30) as u32;
        let spoken = self.service.subprotocols(&mut Switchboard::new(board), from);
        let subprotocol = spoken.iter().copied().find(|name| request.lists("sec-websocket-protocol", name));
        let Some((conversation, mut outbox)) = board.outbox(from) else { return };
        let (field, name) = match subprotocol {
            Some(name) => ("\r\nSec-WebSocket-Protocol: ", name),
            None => ("", ""),
        };
        for part in [
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
            &key,
            field,
            name,
            "\r\n\r\n",
        ] {
            outbox.put(part.as_bytes());
        }
        conversation.protocol = Protocol::WebSocket(Box::new(WebSocket::new(message_bytes_max)));
        self.service.on_upgrade(&mut Switchboard::new(board), from);
    }

    /// Where WebSockets are served, the service hears of a peer when it has become one.
    #[cfg(feature = "web")]
    fn is_yet_to_upgrade(&self, conversation: &Conversation) -> bool {
        matches!(conversation.protocol, Protocol::Http(_))
            && self.listeners.get(conversation.listener()).is_some_and(|it| it.framing == Framing::WebSocket)
    }

    #[cfg(not(feature = "web"))]
    fn is_yet_to_upgrade(&self, _conversation: &Conversation) -> bool {
        false
    }

    /// Requests: one after the other, each when the one before has been answered.
    #[cfg(feature = "web")]
    #[inline(never)]
    fn on_requests(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        inbox: &mut Buffer,
        permit: &mut Permit,
    ) {
        let mut body = mem::take(&mut self.body);
        self.serve_requests(board, from, inbox, &mut body, permit);
        self.keep(body);
    }

    #[cfg(feature = "web")]
    fn serve_requests(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        inbox: &mut Buffer,
        body: &mut Vec<u8>,
        permit: &mut Permit,
    ) {
        let date = *self.clock.date(board.now());
        loop {
            let draining = board.draining();
            let Some(Conversation { protocol, listener, .. }) = permit.take(board, from) else { return };
            let Protocol::Http(http) = protocol else { return };
            if http.is_open() {
                return; // its answer goes on; see `Board::hold`
            }
            let mut fields = http::fields();
            let (request, consumed) = match http.decode(inbox.bytes(), &date, &mut fields, body) {
                Ok(http::Step::Request { request, consumed }) => (request, consumed),
                Ok(http::Step::Continue) => {
                    board.send(from, http::CONTINUE);
                    continue;
                }
                Ok(http::Step::NeedMore) => return,
                Err(violation) => return self.refuse(board, from, violation),
            };
            if draining && consumed == inbox.len() {
                http.stop();
            }
            let (metrics, framing) = match self.listeners.get(*listener as usize) {
                Some(place) => (place.metrics, place.framing),
                None => (false, Framing::Http),
            };
            if !self.is_for_us(board, from, &request) {
                // It has been refused.
            } else if metrics && self.on_status(board, from, &request) {
                // It has been answered.
            } else if framing == Framing::WebSocket || self.is_to_upgrade(board, from, &request) {
                self.upgrade(board, from, &request);
            } else {
                self.service.on_request(&mut Switchboard::new(board), from, &request);
            }
            inbox.consume(consumed);
            Self::conclude_request(board, from);
            if inbox.is_empty() {
                return;
            }
        }
    }

    /// The service has had the request: whether it has been answered, or goes on.
    #[cfg(feature = "web")]
    fn conclude_request(board: &mut Board<Stream, Conversation>, from: Peer) {
        let Some(Conversation { protocol: Protocol::Http(http), .. }) = board.state(from) else { return };
        if http.is_owed() {
            Switchboard::new(board).respond(from, &http::Response::new(204), b"");
        } else if http.is_open() {
            board.hold(from);
        }
    }

    /// `/metrics` and `/healthz`; whether it was one of them.
    #[cfg(feature = "web")]
    #[cold]
    fn on_status(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        request: &http::Request<'_>,
    ) -> bool {
        let text = match request.path() {
            "/healthz" => "ok\n",
            "/metrics" => {
                let turn = board.counters().turns;
                if self.metrics.as_ref().is_none_or(|(made_in, _)| *made_in != turn) {
                    let mut page = Metrics::of(board, &self.refused(), (self.unlogged)());
                    self.service.on_metrics(&mut page);
                    self.metrics = Some((turn, page.into_text()));
                }
                self.metrics.as_ref().map_or("", |(_, text)| text)
            }
            _ => return false,
        };
        const ALLOW: &str = "GET, HEAD, OPTIONS";
        let mut board = Switchboard::new(board);
        match request.method {
            "GET" | "HEAD" => {
                let response = http::Response::new(200)
                    .field("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                    .field("Cache-Control", "no-store");
                board.respond(from, &response, text.as_bytes());
            }
            // What HAProxy's health check asks.
            "OPTIONS" => board.respond(from, &http::Response::new(204).field("Allow", ALLOW), b""),
            _ => board.respond(from, &http::Response::new(405).field("Allow", ALLOW), b""),
        }
        true
    }

    fn release(&mut self, conversation: Conversation, now: Moment) {
        if conversation.ticket != Ticket::NONE
            && let Some(place) = self.listeners.get_mut(conversation.listener as usize)
        {
            place.guard.release(conversation.ticket, since_start(now));
        }
    }

    /// Logs and counts the refusal of what an admitted peer asks. `what` follows its address in the log.
    #[cold]
    fn count_refused(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        reason: Reason,
        what: &str,
    ) {
        let Some(listener) = board.state(from).map(|conversation| conversation.listener()) else { return };
        if let Some(place) = self.listeners.get_mut(listener) {
            place.guard.refuse(reason);
        }
        let now = since_start(board.now());
        match Switchboard::new(board).address(from) {
            Some(address) => self.refusals.log(format_args!("{address}{what}"), reason, now),
            None => self.refusals.log(format_args!("{from}{what}"), reason, now),
        }
    }

    /// Whether the request is for a name of ours; if not, it is answered here. See [`Sites`].
    #[cfg(feature = "web")]
    fn is_for_us(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        request: &http::Request<'_>,
    ) -> bool {
        let Some(host) = request.field("host") else { return true };
        let Some(conversation) = board.state(from) else { return true };
        // What a proxy introduces was not sent to us by a browser.
        let by_proxy = conversation.by_proxy.is_some();
        let Some(place) = self.listeners.get(conversation.listener()) else { return true };
        let by_loopback = || !by_proxy && board.transport(from).is_some_and(Stream::is_at_loopback);
        if place.sites.allows_host(host, by_loopback) {
            return true;
        }
        let host = String::from_utf8_lossy(host);
        let text =
            format!("This server is not known as {host}: --host NAME adds a name, without its port.\n");
        let response = http::Response::new(421).field("Content-Type", "text/plain; charset=utf-8");
        Switchboard::new(board).respond(from, &response, text.as_bytes());
        self.count_refused(board, from, Reason::OtherHost, &format!(", for the host {host:?},"));
        false
    }

    /// The peer broke its protocol's rules: it is told where it can be, after the replies that it has
    /// earned, and the conversation is finished.
    #[cold]
    fn refuse(&mut self, board: &mut Board<Stream, Conversation>, from: Peer, violation: Violation) {
        log::debug!("{from}: {violation}");
        if let Violation::OtherProtocol(name) = violation {
            self.count_refused(board, from, Reason::OtherProtocol, &format!(", which speaks {name},"));
        }
        if let Some((conversation, mut outbox)) = board.outbox(from) {
            conversation.protocol.encode_violation(violation, &mut outbox);
        }
        board.finish_because(from, CloseReason::Violation);
    }
}

impl<S: Service> Handler for Exchange<S> {
    type Transport = Stream;
    type State = Conversation;

    #[inline]
    fn admit(&mut self, listener: usize, address: &Address, now: Moment) -> Option<Conversation> {
        let place = &mut self.listeners[listener];
        let mut conversation =
            Conversation::new(Protocol::new(place.framing, place.message_bytes_max), listener);
        let is_proxy = match address {
            Address::Ip(address) => place.guard.is_proxy(address.ip()),
            Address::Unix => place.guard.is_unix_proxy(),
        };
        if is_proxy {
            // Whom it brings is judged.
            conversation.by_proxy = Some(Box::new(ByProxy::Expected(*address)));
            return Some(conversation);
        }
        if let Address::Ip(address) = address {
            match place.guard.admit(address.ip(), since_start(now)) {
                Ok(ticket) => conversation.ticket = ticket,
                Err(reason) => {
                    self.refusals.log(address, reason, since_start(now));
                    return None;
                }
            }
        }
        Some(conversation)
    }

    fn on_admitted(&mut self, conversation: &Conversation, transport: &mut Stream) {
        if conversation.by_proxy.is_some() {
            transport.expect_introduction();
        }
    }

    fn on_introduced(
        &mut self,
        conversation: &mut Conversation,
        introduction: Result<&Introduced, &io::Error>,
        now: Moment,
    ) -> bool {
        let Some(by_proxy) = conversation.by_proxy.as_deref_mut() else { return true };
        let ByProxy::Expected(proxy) = *by_proxy else { return true };
        let Some(place) = self.listeners.get_mut(conversation.listener as usize) else { return false };
        let now = since_start(now);
        let address = match introduction {
            Ok(Introduced::Proxy) => {
                *by_proxy = ByProxy::Itself;
                return true;
            }
            Ok(Introduced::Client(address)) => *address,
            // Of whom we know nothing, the proxy's address is the nearest.
            Ok(Introduced::Somebody) => proxy,
            Err(error) => {
                let reason = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                    Some(Problem::Missing) => Reason::NoHeader,
                    Some(Problem::Malformed(_)) => Reason::BadHeader,
                    None => return true, // it is gone; there is nobody to refuse
                };
                place.guard.refuse(reason);
                self.refusals.log(format_args!("{proxy} ({error})"), reason, now);
                return false;
            }
        };
        let Address::Ip(address) = address else {
            *by_proxy = ByProxy::Introduced(Address::Unix);
            return true;
        };
        match place.guard.admit(address.ip(), now) {
            Ok(ticket) => {
                *by_proxy = ByProxy::Introduced(Address::Ip(address));
                conversation.ticket = ticket;
                true
            }
            Err(reason) => {
                self.refusals.log(format_args!("{address} by {proxy}"), reason, now);
                false
            }
        }
    }

    fn on_withdrawn(&mut self, conversation: Conversation, now: Moment) {
        self.release(conversation, now);
    }

    #[inline]
    fn on_open(&mut self, board: &mut Board<Stream, Conversation>, peer: Peer) {
        if log::log_enabled!(log::Level::Debug) {
            let address = Switchboard::new(board).address(peer);
            log::debug!("{peer} open{}", address.map_or(String::new(), |address| format!(" from {address}")));
        }
        let is_yet_to_upgrade = match board.state(peer) {
            Some(conversation) => self.is_yet_to_upgrade(conversation),
            None => return,
        };
        if !is_yet_to_upgrade {
            self.service.on_open(&mut Switchboard::new(board), peer);
        }
    }

    #[inline(always)]
    fn on_bytes(&mut self, board: &mut Board<Stream, Conversation>, from: Peer, inbox: &mut Buffer) {
        loop {
            // What the service did about the last message may have been the end of it.
            let Some(Conversation { protocol, .. }) = board.admit_message(from) else { return };
            if let Protocol::Raw(_) = protocol {
                // All of it is one message; said apart, because it saves a tenth of an echo.
                if inbox.len() >= PASSED_ON_BYTES_MIN {
                    return self.pass_on(board, from, inbox);
                }
                self.service.on_message(&mut Switchboard::new(board), from, Message::Binary(inbox.bytes()));
                return inbox.clear();
            }
            #[cfg(feature = "web")]
            if let Protocol::Http(_) | Protocol::WebSocket(_) = protocol {
                return self.go_another_way(board, from, inbox);
            }
            match protocol.decode(inbox.bytes()) {
                Ok(Step::Message { message, consumed }) => {
                    self.service.on_message(&mut Switchboard::new(board), from, message);
                    inbox.consume(consumed);
                }
                Ok(Step::NeedMore) => return,
                Err(violation) => return self.refuse(board, from, violation),
            }
            if inbox.is_empty() {
                return;
            }
        }
    }

    fn on_finish(&mut self, board: &mut Board<Stream, Conversation>, from: Peer, inbox: &mut Buffer) {
        let Some(Conversation { protocol, .. }) = board.state(from) else { return };
        match protocol.decode_end(inbox.bytes()) {
            Ok(Step::Message { message, .. }) => {
                self.service.on_message(&mut Switchboard::new(board), from, message);
            }
            Ok(Step::NeedMore) => {}
            Err(violation) => return self.refuse(board, from, violation),
        }
        #[cfg(feature = "web")]
        if let Some(Conversation { protocol: Protocol::Http(_) | Protocol::WebSocket(_), .. }) =
            board.state(from)
        {
            return board.finish(from); // whatever it asked has been answered
        }
        self.service.on_finish(&mut Switchboard::new(board), from);
    }

    #[cfg(feature = "web")]
    fn on_idle(&mut self, board: &mut Board<Stream, Conversation>, peer: Peer) -> bool {
        match board.outbox(peer) {
            Some((Conversation { protocol: Protocol::WebSocket(socket), .. }, mut outbox)) => {
                socket.ask(&mut outbox)
            }
            _ => false,
        }
    }

    #[cfg(feature = "web")]
    fn on_stop(&mut self, board: &mut Board<Stream, Conversation>, peer: Peer) -> bool {
        let Some(Conversation { protocol: Protocol::WebSocket(socket), .. }) = board.state(peer) else {
            board.finish_because(peer, CloseReason::Drained);
            return true;
        };
        if !mem::replace(&mut socket.is_leaving, true) {
            self.leaving.push_back(peer);
            if self.leaving.len() == 1 {
                board.set_timer(self.leave_next.since(board.now()), u128::from(OWN_SCOPE) << 64);
            }
        }
        false
    }

    fn on_overdue(&mut self, board: &mut Board<Stream, Conversation>, peer: Peer) {
        if let Some((conversation, mut outbox)) = board.outbox(peer) {
            conversation.protocol.encode_violation(Violation::Overdue, &mut outbox);
        }
        board.finish_because(peer, CloseReason::MessageTimeout);
    }

    #[inline]
    fn on_drain(&mut self, board: &mut Board<Stream, Conversation>, peer: Peer) {
        self.service.on_drain(&mut Switchboard::new(board), peer);
    }

    #[inline]
    fn on_datagram(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        socket: usize,
        Route { peer: address, local }: Route,
        bytes: &[u8],
    ) {
        let Some(place) = self.sockets.get_mut(&socket) else { return };
        let now = since_start(board.now());
        if board.is_own_datagram_address(address) {
            place.guard.refuse(Reason::OwnSocket);
            return self.refusals.log(address, Reason::OwnSocket, now);
        }
        if let Err(reason) = place.guard.admit_datagram(address.ip(), now) {
            return self.refusals.log(address, reason, now);
        }
        let origin = Origin { socket, address, local };
        let answer_bytes_max = if place.amplify { usize::MAX } else { bytes.len() };
        let mut switchboard = Switchboard::for_datagram(board, origin, answer_bytes_max);
        self.service.on_datagram(&mut switchboard, origin, bytes);
    }

    fn on_timer(&mut self, board: &mut Board<Stream, Conversation>, key: u128) {
        #[cfg(feature = "web")]
        if (key >> 64) as u64 == OWN_SCOPE {
            return self.close_some(board);
        }
        let mut switchboard = Switchboard::new(board);
        switchboard.scope = (key >> 64) as u64;
        self.service.on_timer(&mut switchboard, key as u64);
    }

    #[inline]
    fn on_close(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        peer: Peer,
        conversation: Conversation,
        reason: CloseReason,
    ) {
        log::debug!("{peer} closed: {reason}");
        let mut switchboard = Switchboard::for_closed(board, peer, conversation.listener());
        if !self.is_yet_to_upgrade(&conversation) {
            self.service.on_close(&mut switchboard, peer, reason);
        }
        self.release(conversation, board.now());
    }
}

/// The guard has no clock: times are the loop's, as a length.
fn since_start(now: Moment) -> Duration {
    now.since(Moment::default())
}

impl Sink for Outbox<'_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        Outbox::put(self, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{Limits, Reactor};
    use mio::net::UnixStream;
    use proptest::prelude::*;
    use std::io::{ErrorKind, Read, Write};
    use std::time::Duration;

    /// What a service may do about a message that came from `from`.
    #[derive(Debug, Clone, Copy)]
    enum Verb {
        SendItBack,
        SendAPart,
        SendACopy,
        SendItToTheOther,
        Finish,
        Close,
    }

    /// Does the same about every message, in this order.
    struct Script {
        verbs: Vec<Verb>,
        other: Option<Peer>,
        congested: Vec<bool>,
    }

    impl Service for Script {
        fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
            for verb in &self.verbs {
                match verb {
                    Verb::SendItBack => board.send(from, message),
                    Verb::SendAPart => board.send(from, Message::Binary(&message.bytes()[1..])),
                    Verb::SendACopy => {
                        let copy = message.bytes().to_vec();
                        board.send(from, Message::Binary(&copy));
                    }
                    Verb::SendItToTheOther => board.send(self.other.expect("there are two"), message),
                    Verb::Finish => board.finish(from),
                    Verb::Close => board.close(from),
                }
                self.congested.push(board.congested(from));
            }
        }
    }

    /// What `from` and the other are sent about `message`, and whether `from` is congested after each
    /// verb: the rules, without the blocks that change hands.
    fn expected(verbs: &[Verb], message: &[u8], high: usize) -> (Vec<u8>, Vec<u8>, Vec<bool>) {
        let (mut own, mut others, mut congested) = (Vec::new(), Vec::new(), Vec::new());
        let (mut finished, mut closed) = (false, false);
        for verb in verbs {
            match verb {
                _ if closed => {}
                Verb::SendItBack | Verb::SendACopy if !finished => own.extend_from_slice(message),
                Verb::SendAPart if !finished => own.extend_from_slice(&message[1..]),
                Verb::Finish => finished = true,
                Verb::Close => closed = true,
                _ => {}
            }
            if let Verb::SendItToTheOther = verb {
                others.extend_from_slice(message);
            }
            congested.push(!closed && own.len() >= high);
        }
        if closed {
            own.clear();
        }
        (own, others, congested)
    }

    fn verb() -> impl Strategy<Value = Verb> {
        prop_oneof![
            6 => Just(Verb::SendItBack),
            2 => Just(Verb::SendAPart),
            2 => Just(Verb::SendACopy),
            2 => Just(Verb::SendItToTheOther),
            1 => Just(Verb::Finish),
            1 => Just(Verb::Close),
        ]
    }

    /// Everything that can be read now.
    fn hear(far: &mut UnixStream) -> Vec<u8> {
        let mut heard = Vec::new();
        match far.read_to_end(&mut heard) {
            Ok(_) => heard,
            Err(error) if error.kind() == ErrorKind::WouldBlock => heard,
            Err(error) => panic!("{error}"),
        }
    }

    /// Found by the simulation (seed 75): the board was asked twice for the first message, and the second answer was no.
    #[cfg(feature = "web")]
    #[test]
    fn a_request_is_served_where_a_turn_has_time_for_one_message_alone() {
        let limits = Limits { messages_per_turn: 1, ..Limits::default() };
        let mut reactor = Reactor::new(Exchange::new(crate::service::echo::Echo), limits).expect("a poll");
        let (near, mut far) = UnixStream::pair().expect("two ends");
        let conversation = Conversation::new(Protocol::new(Framing::Http, 1 << 20), 0);
        reactor.board().connect(Stream::Unix(near), conversation).expect("room for it");
        let requests = "POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello".repeat(3);
        far.write_all(requests.as_bytes()).expect("room for it");
        for _ in 0..10 {
            reactor.turn(Some(Duration::ZERO)).expect("a turn");
        }
        let heard = String::from_utf8(hear(&mut far)).expect("text");
        assert_eq!(heard.matches("\r\n\r\nhello").count(), 3, "{heard}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_long_message_that_is_not_copied_is_sent_like_one_that_is(
            verbs in prop::collection::vec(verb(), 1..5),
            len in prop_oneof![1usize..200, 4_000usize..4_200, 4_096usize..=65_536, Just(65_536)],
            rounds in 1usize..3,
        ) {
            let script = Script { verbs: Vec::new(), other: None, congested: Vec::new() };
            let mut reactor = Reactor::new(Exchange::new(script), Limits::default()).expect("a poll");
            let mut connect = || {
                let (near, far) = UnixStream::pair().expect("two ends");
                let protocol = Protocol::new(Framing::Raw, 1 << 20);
                let conversation = Conversation::new(protocol, 0);
                (reactor.board().connect(Stream::Unix(near), conversation).expect("room for it"), far)
            };
            let ((_, mut from), (other, mut to)) = (connect(), connect());
            reactor.handler().service.other = Some(other);
            let high = reactor.board().limits().outbox_bytes_high;
            // So that whole blocks are read: a connection is read from in small pieces at first.
            for _ in 0..8 {
                prop_assert_eq!(from.write(&[0; 65_536]).expect("room for it"), 65_536);
                for _ in 0..8 {
                    reactor.turn(Some(Duration::ZERO)).expect("a turn");
                }
            }
            reactor.handler().service.verbs = verbs.clone();

            let ended = verbs.iter().any(|verb| matches!(verb, Verb::Finish | Verb::Close));
            for round in 0..if ended { 1 } else { rounds } {
                // A Unix stream socket takes it whole, and gives it whole to a read of 64 KiB.
                let message: Vec<u8> = (0..len).map(|at| (at * 7 + round) as u8).collect();
                prop_assert_eq!(from.write(&message).expect("room for it"), len);
                let (own, others, congested) = expected(&verbs, &message, high);
                reactor.handler().service.congested.clear();

                let (mut heard, mut passed) = (Vec::new(), Vec::new());
                for _ in 0..100 {
                    reactor.turn(Some(Duration::ZERO)).expect("a turn");
                    heard.extend(hear(&mut from));
                    passed.extend(hear(&mut to));
                }
                prop_assert_eq!(&heard, &own);
                prop_assert_eq!(&passed, &others);
                prop_assert_eq!(&reactor.handler().service.congested, &congested);
            }
        }
    }
}
