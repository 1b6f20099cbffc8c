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

/// Below this size a copy costs less than the question whether it is needed.
const PASSED_ON_BYTES_MIN: usize = 4 * 1024;

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

    /// A long raw message: if it goes back as it came, the inbox's block does, and nothing is copied. A
    /// tenth of the time of a 64 KiB echo.
    #[inline(never)]
    fn pass_on(&mut self, board: &mut Board<Stream, Protocol>, from: Peer, inbox: &mut Buffer) {
        let mut switchboard = Switchboard::serving(board, from, inbox.bytes());
        self.service.on_message(&mut switchboard, from, Message::Binary(inbox.bytes()));
        if switchboard.is_returned() {
            board.send_whole(from, inbox);
        }
        inbox.clear();
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
                if inbox.len() >= PASSED_ON_BYTES_MIN {
                    return self.pass_on(board, from, inbox);
                }
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

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_long_message_that_is_not_copied_is_sent_like_one_that_is(
            verbs in prop::collection::vec(verb(), 1..5),
            len in prop_oneof![1usize..200, 4_000usize..4_200, 4_096usize..=65_536, Just(65_536)],
            rounds in 1usize..3,
        ) {
            let script = Script { verbs: verbs.clone(), other: None, congested: Vec::new() };
            let exchange = Exchange::new(script, Vec::new(), 1 << 20, Guard::default());
            let mut reactor = Reactor::new(exchange, Limits::default()).expect("a poll");
            let mut connect = || {
                let (near, far) = UnixStream::pair().expect("two ends");
                let protocol = Protocol::new(Framing::Raw, 1 << 20);
                (reactor.board().connect(Stream::Unix(near), protocol).expect("room for it"), far)
            };
            let ((_, mut from), (other, mut to)) = (connect(), connect());
            reactor.handler().service.other = Some(other);
            let high = reactor.board().limits().outbox_bytes_high;

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
