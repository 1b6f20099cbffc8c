//! The exchange: between the reactor, which knows bytes, and a service, which knows messages.
//!
//! It decodes the bytes that came, calls the service between two messages, and stops where the peer's own outbox
//! is congested: a peer that does not read its replies is not served further, and costs nobody else.
//!
//! - `places`: what is spoken at each listener, and what holds there;
//! - `admission`: which connections, clients of proxies and datagrams are let in;
//! - `web` (feature `web`): requests, frames, upgrades, `/metrics`, and the goodbye of WebSockets.
//!
//! Invariant: bytes are consumed exactly when the service has received the message that they hold.

mod admission;
mod places;

#[cfg(feature = "web")]
mod web;
#[cfg(not(feature = "web"))]
#[path = "no_web.rs"]
mod web;

#[cfg(test)]
mod tests;

use std::io;

use super::{Origin, Service, Switchboard};
use crate::guard::Reason;
use crate::protocol::{Message, Plain, Protocol, Sink, Step, Violation};
use crate::reactor::{Board, Buffer, CloseReason, Handler, Moment, Opening, Outbox, Peer, Route, Timer};
use crate::transport::{Address, Stream};
use places::Places;
use web::{OWNER, Web};

pub use super::conversation::Conversation;
pub use places::Place;

/// From this size on, a message that goes back as it came is not copied. Below it, a copy costs less than to find out.
const PASSED_ON_BYTES_MIN: usize = 4 * 1024;

/// A [`Handler`] that speaks protocols and calls a [`Service`].
pub struct Exchange<S> {
    service: S,
    places: Places,
    web: Web,
}

impl<S: Service> Exchange<S> {
    /// Without any place yet: see [`Exchange::set_listener`].
    pub fn new(service: S) -> Self {
        Exchange { service, places: Places::default(), web: Web::new() }
    }

    /// The service.
    pub fn service(&mut self) -> &mut S {
        &mut self.service
    }

    /// Sets what holds at the stream listener with this index from now on.
    pub fn set_listener(&mut self, index: usize, place: Place) {
        self.places.set_listener(index, place);
    }

    /// Sets what holds at the datagram socket with this index from now on.
    pub fn set_socket(&mut self, index: usize, place: Place) {
        self.places.set_socket(index, place);
    }

    /// Drops what held at a stream listener. It is closed, and so are all its connections.
    pub fn forget_listener(&mut self, index: usize) {
        self.places.forget_listener(index);
    }

    /// Drops what held at a datagram socket. It is closed.
    pub fn forget_socket(&mut self, index: usize) {
        self.places.forget_socket(index);
    }

    /// What holds at this stream listener.
    pub fn listener(&mut self, index: usize) -> Option<&mut Place> {
        self.places.listener(index)
    }

    /// What holds at this datagram socket.
    pub fn socket(&mut self, index: usize) -> Option<&mut Place> {
        self.places.socket(index)
    }

    /// How often connections and datagrams were refused, by the reason, at all places.
    pub fn refused(&self) -> Vec<(Reason, u64)> {
        self.places.refused()
    }

    /// A long raw message: if it goes back as it came, the inbox's block does, and nothing is copied. That saves a
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

    /// Ends the conversation with a peer that broke its protocol's rules. If the protocol has words for that, the peer receives
    /// them, behind the replies to what it sent before.
    #[cold]
    fn refuse(&mut self, board: &mut Board<Stream, Conversation>, from: Peer, violation: Violation) {
        log::debug!("{from}: {violation}");
        if let Violation::OtherProtocol(name) = violation {
            let what = format!(", which speaks {name},");
            self.places.refuse_request(board, from, Reason::OtherProtocol, &what);
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
    fn admit(
        &mut self,
        listener: usize,
        stream: &mut Stream,
        address: &Address,
        now: Moment,
    ) -> Option<Conversation> {
        self.places.admit(listener, stream, address, now)
    }

    fn vet(
        &mut self,
        conversation: &mut Conversation,
        stream: &mut Stream,
        step: Result<Opening, &io::Error>,
        now: Moment,
    ) -> bool {
        self.places.vet(conversation, stream, step, now)
    }

    #[inline]
    fn on_open(&mut self, board: &mut Board<Stream, Conversation>, peer: Peer) {
        if log::log_enabled!(log::Level::Debug) {
            let address = Switchboard::new(board).address(peer);
            log::debug!("{peer} open{}", address.map_or(String::new(), |address| format!(" from {address}")));
        }
        let Some(conversation) = board.state(peer) else { return };
        if !web::is_yet_to_upgrade(conversation, &mut self.places) {
            self.service.on_open(&mut Switchboard::new(board), peer);
        }
    }

    #[inline(always)]
    fn on_bytes(&mut self, board: &mut Board<Stream, Conversation>, from: Peer, inbox: &mut Buffer) {
        loop {
            // What the service did about the last message may have ended the conversation.
            let Some(conversation) = board.admit_message(from) else { return };
            let plain = match &mut conversation.protocol {
                // All bytes are one message. This case stands apart because that saves a tenth of an echo.
                Protocol::Plain(Plain::Raw(_)) if inbox.len() < PASSED_ON_BYTES_MIN => {
                    let message = Message::Binary(inbox.bytes());
                    self.service.on_message(&mut Switchboard::new(board), from, message);
                    return inbox.clear();
                }
                Protocol::Plain(Plain::Raw(_)) => return self.pass_on(board, from, inbox),
                Protocol::Plain(plain) => plain,
                Protocol::Web(_) => return self.serve_web(board, from, inbox),
            };
            match plain.decode(inbox.bytes()) {
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
        let Some(conversation) = board.state(from) else { return };
        match conversation.protocol.decode_end(inbox.bytes()) {
            Ok(Some(message)) => self.service.on_message(&mut Switchboard::new(board), from, message),
            Ok(None) => {}
            Err(violation) => return self.refuse(board, from, violation),
        }
        match board.state(from) {
            // All its requests have been answered.
            Some(Conversation { protocol: Protocol::Web(_), .. }) => board.finish(from),
            _ => self.service.on_finish(&mut Switchboard::new(board), from),
        }
    }

    fn on_idle(&mut self, board: &mut Board<Stream, Conversation>, peer: Peer) -> bool {
        web::probe(board, peer)
    }

    fn on_stop(&mut self, board: &mut Board<Stream, Conversation>, peer: Peer) -> bool {
        if self.web.queue_goodbye(board, peer) {
            return false;
        }
        board.finish_because(peer, CloseReason::Drained);
        true
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
        route: Route,
        bytes: &[u8],
    ) {
        let Some(answer_bytes_max) = self.places.admit_datagram(board, socket, route, bytes) else { return };
        let origin = Origin { socket, address: route.peer, local: route.local };
        let mut switchboard = Switchboard::for_datagram(board, origin, answer_bytes_max);
        self.service.on_datagram(&mut switchboard, origin, bytes);
    }

    fn on_timer(&mut self, board: &mut Board<Stream, Conversation>, timer: Timer) {
        match timer.owner {
            OWNER => self.web.send_goodbyes(board),
            owner => self.service.on_timer(&mut Switchboard::of_owner(board, owner), timer.key),
        }
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
        if !web::is_yet_to_upgrade(&conversation, &mut self.places) {
            self.service.on_close(&mut switchboard, peer, reason);
        }
        self.places.release(conversation, board.now());
    }
}

impl Sink for Outbox<'_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        Outbox::put(self, bytes);
    }
}
