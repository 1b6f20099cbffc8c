//! Once warm, a message costs no allocation: not in the loop, not in the buffers, not in the protocol.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use mio::Token;
use switchboard::Server;
use switchboard::reactor::{BoardOf, Buffer, Handler, Limits, Moment, Peer, Reactor};
use switchboard::service::echo::Echo;
use switchboard::transport::wire::{Remote, Wire, wire};

/// An echo in bytes.
struct Bytes;

impl Handler for Bytes {
    type Transport = Wire;
    type State = ();

    fn admit(&mut self, _listener: usize, _wire: &mut Wire, _address: &(), _now: Moment) -> Option<()> {
        Some(())
    }

    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        board.send(from, inbox.bytes());
        inbox.consume(inbox.len());
    }
}

/// One turn in which everybody has said `message` and is answered.
fn round(
    reactor: &mut Reactor<Bytes>,
    lines: &[(Peer, Remote)],
    ready: &mut Vec<(Token, switchboard::reactor::Readiness)>,
    message: &[u8],
) {
    ready.clear();
    for (peer, far) in lines {
        far.say(message);
        ready.push(((*peer).into(), far.take_edge()));
    }
    reactor.turn_with(Moment::default(), ready);
    // What a full read leaves in the queue: more looks at the socket, until the connection is read whole blocks from.
    for _ in 0..6 {
        reactor.turn_with(Moment::default(), &[]);
    }
    for (_, far) in lines {
        assert_eq!(far.hear_count(), message.len());
    }
}

#[test]
fn an_echo_over_the_wire_allocates_nothing_once_warm() {
    let mut reactor = Reactor::new(Bytes, Limits::default()).expect("a poll");
    let lines: Vec<(Peer, Remote)> = (0..100)
        .map(|_| {
            let (near, far) = wire();
            far.promise_short_reads(true);
            (reactor.board().connect(near, ()).expect("room for it"), far)
        })
        .collect();
    let mut ready = Vec::new();
    for message in [&[7; 64][..], &[7; 10_000], &[7; 65_536]] {
        // How much is read at once grows with each turn that used up what was read, and the outboxes with it.
        for _ in 0..6 {
            round(&mut reactor, &lines, &mut ready, message);
        }
        let cost = measure(|| {
            for _ in 0..10 {
                round(&mut reactor, &lines, &mut ready, message);
            }
        });
        assert_eq!(cost.count_total, 0, "{} bytes: {cost:?}", message.len());
    }
}

#[test]
fn an_echo_over_tcp_through_protocol_and_service_allocates_nothing_once_warm() {
    for scheme in ["tcp", "tcp+lines", "tcp+prefixed"] {
        let server = Server::new(Echo).listen(&format!("{scheme}://127.0.0.1:0")).expect("a free port");
        let url = server.endpoints()[0].to_string();
        let address = url.split("://").nth(1).expect("an address").to_owned();
        let mut reactor = server.into_reactor().expect("a poll");
        let mut client = TcpStream::connect(address).expect("it listens");
        client.set_nonblocking(true).expect("a socket option");
        let message: &[u8] = match scheme {
            "tcp+prefixed" => b"\0\0\0\x05hello",
            _ => b"a line\n",
        };
        let mut heard = [0; 16];
        let mut echo = || {
            client.write_all(message).expect("room for a few bytes");
            let mut count = 0;
            for _ in 0..1000 {
                reactor.turn(Some(Duration::from_millis(10))).expect("the poll works");
                count += client.read(&mut heard[count..]).unwrap_or(0);
                if count == message.len() {
                    return;
                }
            }
            panic!("no echo");
        };
        for _ in 0..10 {
            echo();
        }
        let cost: AllocationInfo = measure(|| {
            for _ in 0..100 {
                echo();
            }
        });
        assert_eq!(cost.count_total, 0, "{scheme}: {cost:?}");
    }
}
