//! The relay from outside: who is let in, who sees whom, and what a slow client is spared.
#![cfg(all(feature = "cli", feature = "web"))]

use std::io::ErrorKind;
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::support::*;
use tungstenite::{Message, WebSocket};

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const UPDATE: u8 = 3;
const STATE: u8 = 4;
const BYE: u8 = 5;
const REFUSAL: u8 = 6;

fn relay(options: &[&str]) -> Server {
    Server::start(
        &[&["serve", "relay", "--listen", UDP, "--listen", "ws://127.0.0.1:0"][..], options].concat(),
    )
}

/// 24 bytes.
fn message(kind: u8, token: u64, words: [u32; 3]) -> Vec<u8> {
    let mut bytes = vec![b'S', b'B', 1, kind];
    bytes.extend(token.to_be_bytes());
    words.iter().for_each(|word| bytes.extend(word.to_be_bytes()));
    bytes
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// How a player's messages come and go.
trait Line {
    fn say(&mut self, bytes: &[u8]);
    /// `None` where nothing comes for so long.
    fn hear(&mut self, time: Duration) -> Option<Vec<u8>>;
}

impl Line for UdpSocket {
    fn say(&mut self, bytes: &[u8]) {
        self.send(bytes).expect("it takes it");
    }

    fn hear(&mut self, time: Duration) -> Option<Vec<u8>> {
        self.set_read_timeout(Some(time)).expect("not zero");
        let mut bytes = vec![0; 2000];
        match self.recv(&mut bytes) {
            Ok(count) => {
                bytes.truncate(count);
                Some(bytes)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Line for WebSocket<TcpStream> {
    fn say(&mut self, bytes: &[u8]) {
        self.send(Message::binary(bytes.to_vec())).expect("it takes it");
    }

    fn hear(&mut self, time: Duration) -> Option<Vec<u8>> {
        self.get_ref().set_read_timeout(Some(time)).expect("not zero");
        match self.read() {
            Ok(Message::Binary(bytes)) => Some(bytes.to_vec()),
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                None
            }
            other => panic!("{other:?}"),
        }
    }
}

struct Player<L> {
    line: L,
    token: u64,
    sequence: u32,
    seen: u32,
    at: (u16, u16),
}

fn udp(server: &Server) -> UdpSocket {
    datagrams_to(server.address(0))
}

fn websocket(server: &Server) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.address(1)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    tungstenite::client(&server.urls()[1], stream).expect("they shake hands").0
}

impl<L: Line> Player<L> {
    /// One who has said hello, and is at this place.
    fn enter(mut line: L, at: (u16, u16)) -> Player<L> {
        line.say(&message(HELLO, 0, [77, 0, 0]));
        let welcome = line.hear(PATIENCE).expect("a welcome");
        assert_eq!((welcome[3], welcome.len(), word(&welcome, 12)), (WELCOME, 24, 77));
        let token = u64::from(word(&welcome, 4)) << 32 | u64::from(word(&welcome, 8));
        let mut player = Player { line, token, sequence: 0, seen: 0, at };
        player.update();
        player
    }

    fn update(&mut self) {
        self.sequence += 1;
        let at = u32::from(self.at.0) << 16 | u32::from(self.at.1);
        self.line.say(&message(UPDATE, self.token, [self.sequence, at, self.seen]));
    }

    /// The next state of the world, which is confirmed.
    fn look(&mut self) -> State {
        let bytes = self.line.hear(PATIENCE).expect("the world");
        let state = State::read(&bytes);
        self.seen = state.nonce;
        self.update();
        state
    }

    /// Looks until it is so.
    fn look_until(&mut self, what: &str, mut is_so: impl FnMut(&State) -> bool) -> State {
        let began = Instant::now();
        loop {
            let state = self.look();
            if is_so(&state) {
                return state;
            }
            assert!(began.elapsed() < PATIENCE, "never {what}: {state:?}");
        }
    }
}

#[derive(Debug)]
struct State {
    id: u32,
    tick: u32,
    heard: u32,
    /// What the next update repeats.
    nonce: u32,
    others: Vec<(u32, u16, u16)>,
}

impl State {
    fn read(bytes: &[u8]) -> State {
        assert_eq!(bytes[..4], [b'S', b'B', 1, STATE]);
        let count = usize::from(bytes[18]) << 8 | usize::from(bytes[19]);
        assert_eq!(bytes.len(), 28 + 8 * count);
        let other = |it: &[u8]| (word(it, 0), (word(it, 4) >> 16) as u16, word(it, 4) as u16);
        State {
            id: word(bytes, 4),
            tick: word(bytes, 8),
            heard: word(bytes, 12),
            nonce: word(bytes, 24),
            others: bytes[28..].chunks(8).map(other).collect(),
        }
    }
}

#[test]
fn players_over_datagrams_and_websockets_see_each_other_move() {
    let server = relay(&["--tick", "100"]);
    let mut alice = Player::enter(udp(&server), (1000, 1000));
    let mut bob = Player::enter(websocket(&server), (2000, 1000));
    let there = alice.look_until("both are there", |state| state.others.len() == 1);
    let bobs_id = there.others[0].0;
    assert_eq!(there.others, [(bobs_id, 2000, 1000)]);
    assert!(there.heard >= 1);
    let alices_id = alice.look().id;
    assert_ne!(alices_id, bobs_id);
    alice.at = (1500, 65_535);
    alice.update();
    bob.look_until("alice is too far to be seen", |state| state.others.is_empty());
    alice.at = (1500, 1700);
    alice.update();
    bob.look_until("alice is back", |state| state.others == [(alices_id, 1500, 1700)]);

    // What is older than what is known is not believed.
    let (token, sequence) = (alice.token, alice.sequence);
    alice.at = (1501, 1700);
    alice.sequence = sequence + 1000;
    alice.update();
    alice.line.say(&message(UPDATE, token, [sequence, 0, 0]));
    bob.look_until("the newer one", |state| state.others == [(alices_id, 1501, 1700)]);
    for _ in 0..20 {
        assert_eq!(bob.look().others, [(alices_id, 1501, 1700)]);
    }
    alice.line.say(&message(BYE, token, [0, 0, 0]));
    bob.look_until("alice has left", |state| state.others.is_empty());
    drop(bob);
    server.stop();
}

#[test]
fn who_has_no_token_of_his_own_is_refused_and_nobody_is_sent_more_than_he_sent() {
    let server = relay(&["--tick", "100"]);
    let mut alice = Player::enter(udp(&server), (1000, 1000));
    alice.look();
    let short = Duration::from_millis(150);
    let mut mallory = udp(&server);
    // With no token, with another's, with a guess.
    for token in [0, alice.token, alice.token ^ 1, u64::MAX] {
        mallory.say(&message(UPDATE, token, [1, 0, 0]));
        let refusal = mallory.hear(PATIENCE).expect("a refusal");
        assert_eq!((refusal.len(), refusal[3], word(&refusal, 12)), (24, REFUSAL, 2));
    }
    // What no client sends gets silence: each could be an answer itself. The hello behind them is answered first.
    for bytes in [
        vec![0; 24],
        message(9, 0, [0; 3]),
        message(0x63, 0, [0; 3]),
        message(WELCOME, alice.token, [0; 3]),
        message(STATE, alice.token, [0; 3]),
        message(REFUSAL, 0, [2, 0, 0]),
        vec![b'S'; 25],
        vec![0; 1200],
        message(HELLO, 0, [0; 3])[..23].to_vec(),
        vec![b'S', b'B', 1, HELLO],
        vec![],
    ] {
        mallory.say(&bytes);
    }
    // Hello alone makes no player.
    mallory.say(&message(HELLO, 0, [5, 0, 0]));
    let first = mallory.hear(PATIENCE).expect("a welcome");
    assert_eq!((first[3], word(&first, 12)), (WELCOME, 5));
    assert_eq!(mallory.hear(short), None);
    for _ in 0..10 {
        assert!(alice.look().others.is_empty());
    }
    // Over WebSocket likewise, and the connection goes on.
    let mut socket = websocket(&server);
    socket.send(Message::text("hello")).expect("it takes it");
    for bytes in [None, Some(vec![1, 2, 3]), Some(vec![0; 24])] {
        if let Some(bytes) = bytes {
            socket.say(&bytes);
        }
        let refusal = socket.hear(PATIENCE).expect("a refusal");
        assert_eq!((refusal.len(), refusal[3], word(&refusal, 12)), (24, REFUSAL, 1));
    }
    let mut bob = Player::enter(socket, (1000, 1000));
    assert_eq!(bob.look_until("he sees her", |state| state.others.len() == 1).others[0].1, 1000);
    server.stop();
}

#[test]
fn a_client_that_confirms_nothing_gets_fewer_pictures_and_no_backlog() {
    let server = relay(&["--tick", "200"]);
    let mut alice = Player::enter(websocket(&server), (1000, 1000));
    let mut slow = Player::enter(websocket(&server), (1000, 2000));
    let first = alice.look_until("both are there", |state| state.others.len() == 1).tick;
    let last = alice.look_until("a hundred ticks", |state| state.tick > first + 100).tick;
    // Nobody has read there meanwhile: what is there to be read now is what fits, and the present comes next.
    let mut backlog = 0;
    let mut newest = 0;
    while newest + 10 < last {
        let state = State::read(&slow.line.hear(PATIENCE).expect("the world"));
        newest = state.tick;
        backlog += 1;
        assert!(backlog <= 10, "{backlog} pictures of the past");
        if backlog == 9 {
            slow.seen = state.nonce;
            slow.update();
        }
    }
    // And when it keeps up again, it gets as many as she does. (A busy server leaves ticks out, for both.)
    let span = |player: &mut Player<_>| {
        // At first come pictures that waited while it did not look.
        let from = (0..20).map(|_| player.look().tick).last().expect("some");
        (0..50).map(|_| player.look().tick).last().expect("some") - from
    };
    let (her_ticks, slow_ticks) = (span(&mut alice), span(&mut slow));
    assert!(slow_ticks < 2 * her_ticks, "{slow_ticks} ticks in 50 pictures, and {her_ticks} in hers");
    server.stop();
}

/// The token is right, and the updates come; but what they repeat has not been received at this address.
#[test]
fn a_client_that_repeats_no_nonce_is_sent_at_most_three_times_what_it_sends() {
    let server = relay(&["--tick", "200"]);
    let crowd: Vec<_> = (0..70).map(|number| Player::enter(udp(&server), (1000, 1000 + number))).collect();
    let mut alice = Player::enter(udp(&server), (1000, 2000));
    alice.look_until("she sees as many as one can", |state| state.others.len() == 64);
    drop(crowd);

    for guess in [0, 1, u32::MAX, alice.seen] {
        // One update, and silence until it is forgotten; then many.
        let mut blind = Player::enter(udp(&server), (1000, 3000));
        let (mut sent, mut received) = (24, 0);
        for round in 0..40 {
            while let Some(bytes) = blind.line.hear(Duration::from_millis(if round == 0 { 300 } else { 5 })) {
                assert_eq!(bytes[3], STATE);
                received += bytes.len();
            }
            assert!(
                received <= 3 * sent,
                "{received} bytes for {sent}, in round {round}, with nonce {guess}"
            );
            blind.seen = guess;
            blind.update();
            sent += 24;
        }
        assert!(received > 0, "a client that is there has to receive a nonce");
    }
    server.stop();
}

/// It has received, and now it doesn't: its address is somebody else's. What follows the last nonce is a handful of states.
#[test]
fn a_stream_ends_where_its_nonces_do_not_come_back() {
    let server = relay(&["--tick", "200"]);
    let mut mallory = Player::enter(udp(&server), (1000, 1000));
    for _ in 0..5 {
        mallory.look();
    }
    let last = mallory.seen;
    let (mut states, began) = (0, Instant::now());
    while began.elapsed() < Duration::from_millis(900) {
        if let Some(bytes) = mallory.line.hear(Duration::from_millis(20)) {
            states += 1;
            // As if it counted on, from what it had.
            mallory.seen = last.wrapping_add(states);
            assert_eq!(bytes.len(), 28);
        }
        mallory.update();
    }
    assert!(states <= 8 + 2, "{states} states without a nonce that came back");
    server.stop();
}

#[test]
fn who_says_nothing_over_udp_is_forgotten_and_an_empty_world_does_not_tick() {
    let server = relay(&["--tick", "200"]);
    let mut alice = Player::enter(websocket(&server), (1000, 1000));
    let _silent = Player::enter(udp(&server), (1000, 2000));
    alice.look_until("both are there", |state| state.others.len() == 1);
    alice.look_until("one is gone", |state| state.others.is_empty());
    drop(alice);
    // At rest, there are fewer turns than would have ticks.
    server.at_rest();
    server.stop();
}

#[test]
fn a_full_world_says_so() {
    let server = relay(&["--players-max", "1", "--tick", "100"]);
    let mut alice = Player::enter(udp(&server), (1, 1));
    alice.look();
    let mut bob = Player::enter(udp(&server), (2, 2));
    let refusal = bob.line.hear(PATIENCE).expect("a refusal");
    assert_eq!((refusal[3], word(&refusal, 12)), (REFUSAL, 3));
    alice.line.say(&message(BYE, alice.token, [0; 3]));
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "her place is free");
        bob.update();
        if bob.line.hear(PATIENCE).expect("an answer")[3] == STATE {
            break;
        }
    }
    server.stop();
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for (arguments, problem) in [
        (&["serve", "relay", "--listen", TCP][..], "the service relay speaks datagrams and WebSocket"),
        (&["serve", "relay", "--tick", "0"], "--tick"),
        (&["serve", "echo", "--tick", "30"], "--tick is for the service relay"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(problem) && text.trim_end().lines().count() == 1, "{text}");
    }
}
