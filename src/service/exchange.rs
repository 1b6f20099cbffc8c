//! The exchange: between the reactor, which knows bytes, and a service, which knows messages.
//!
//! It decodes what came, calls the service between two messages, and stops where the peer's own outbox
//! is congested: a peer that does not read its replies is not served further, and costs nobody else.
//!
//! Invariant: bytes are consumed exactly when the service has been told what they meant.

use std::net::SocketAddr;

use crate::guard::{Guard, Verdict};
use crate::protocol::{Framing, Message, Protocol, Sink, Step, Violation};
use crate::reactor::{Board, Buffer, CloseReason, Handler, Outbox, Peer};
use crate::transport::{Address, Stream};

use super::{Origin, Service, Switchboard};

/// A [`Handler`] that speaks protocols and calls a [`Service`].
pub struct Exchange<S> {
    service: S,
    /// What each listener speaks, by its index.
    framings: Vec<Framing>,
    message_bytes_max: usize,
    guard: Guard,
}

impl<S: Service> Exchange<S> {
    /// For listeners that speak `framings`, in the order of their indexes.
    pub fn new(service: S, framings: Vec<Framing>, message_bytes_max: usize, guard: Guard) -> Self {
        Exchange { service, framings, message_bytes_max, guard }
    }

    /// Who was refused, and why.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The peer broke its protocol's rules: it is told where it can be, after the replies that it has
    /// earned, and the conversation is finished.
    #[cold]
    fn refuse(board: &mut Board<Stream, Protocol>, from: Peer, violation: Violation) {
        log::debug!("{from}: {violation}");
        if let Some((protocol, mut outbox)) = board.outbox(from) {
            protocol.encode_violation(violation, &mut outbox);
        }
        board.finish_because(from, CloseReason::Violation);
    }
}

impl<S: Service> Handler for Exchange<S> {
    type Transport = Stream;
    type State = Protocol;

    #[inline]
    fn admit(&mut self, listener: usize, address: &Address) -> Option<Protocol> {
        if let Address::Ip(address) = address
            && let Verdict::Refuse(reason) = self.guard.judge(address.ip())
        {
            log::debug!("{address} refused: {}", reason.name());
            return None;
        }
        Some(Protocol::new(self.framings[listener], self.message_bytes_max))
    }

    #[inline]
    fn on_open(&mut self, board: &mut Board<Stream, Protocol>, peer: Peer) {
        if log::log_enabled!(log::Level::Debug) {
            let address = board.transport(peer).and_then(|stream| stream.peer_address());
            log::debug!("{peer} open{}", address.map_or(String::new(), |address| format!(" from {address}")));
        }
        self.service.on_open(&mut Switchboard::new(board), peer);
    }

    #[inline(always)]
    fn on_bytes(&mut self, board: &mut Board<Stream, Protocol>, from: Peer, inbox: &mut Buffer) {
        loop {
            // What the service did about the last message may have been the end of it.
            let Some(protocol) = board.serving(from) else { return };
            if let Protocol::Raw(_) = protocol {
                // All of it is one message; said apart, because it saves a tenth of an echo.
                self.service.on_message(&mut Switchboard::new(board), from, Message::Binary(inbox.bytes()));
                return inbox.clear();
            }
            match protocol.decode(inbox.bytes()) {
                Ok(Step::Message { message, consumed }) => {
                    self.service.on_message(&mut Switchboard::new(board), from, message);
                    inbox.consume(consumed);
                }
                Ok(Step::NeedMore) => return,
                Err(violation) => return Self::refuse(board, from, violation),
            }
            if inbox.is_empty() {
                return;
            }
        }
    }

    fn on_finish(&mut self, board: &mut Board<Stream, Protocol>, from: Peer, inbox: &mut Buffer) {
        let Some(protocol) = board.state(from) else { return };
        match protocol.decode_end(inbox.bytes()) {
            Ok(Step::Message { message, .. }) => {
                self.service.on_message(&mut Switchboard::new(board), from, message);
            }
            Ok(Step::NeedMore) => {}
            Err(violation) => return Self::refuse(board, from, violation),
        }
        self.service.on_finish(&mut Switchboard::new(board), from);
    }

    #[inline]
    fn on_drain(&mut self, board: &mut Board<Stream, Protocol>, peer: Peer) {
        self.service.on_drain(&mut Switchboard::new(board), peer);
    }

    #[inline]
    fn on_datagram(
        &mut self,
        board: &mut Board<Stream, Protocol>,
        socket: usize,
        address: SocketAddr,
        bytes: &[u8],
    ) {
        if let Verdict::Refuse(_) = self.guard.judge(address.ip()) {
            return;
        }
        self.service.on_datagram(&mut Switchboard::new(board), Origin { socket, address }, bytes);
    }

    fn on_timer(&mut self, board: &mut Board<Stream, Protocol>, key: u64) {
        self.service.on_timer(&mut Switchboard::new(board), key);
    }

    #[inline]
    fn on_close(
        &mut self,
        board: &mut Board<Stream, Protocol>,
        peer: Peer,
        _protocol: Protocol,
        reason: CloseReason,
    ) {
        log::debug!("{peer} closed: {reason}");
        self.service.on_close(&mut Switchboard::new(board), peer, reason);
    }
}

impl Sink for Outbox<'_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        Outbox::put(self, bytes);
    }
}
