//! The whole way of a message: over a real socket, through a loop, to a service and back.

use super::*;
use crate::protocol::Framing;
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
