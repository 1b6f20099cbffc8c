//! The protocols that guests of a town speak: echo, pipelined HTTP, fragmented WebSocket, chat and relay. Each guest compares
//! what it receives with what it is owed, and panics at a difference.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use serde_json::{Value, json};

use crate::dice::Dice;

/// One guest's side of a conversation.
pub(crate) trait Talk {
    /// Returns the bytes that it wants to send now, which may be none.
    fn words(&mut self) -> Vec<u8>;
    /// Receives bytes.
    fn hear(&mut self, bytes: &[u8]);
    /// Whether it has received everything that it came for.
    fn is_done(&self) -> bool;
    /// Returns its progress, for a message.
    fn shown(&self) -> String;
}

/// Bytes, that come back.
pub(crate) struct Echo {
    /// What is sent before them, and does not come back.
    header: Vec<u8>,
    words: Vec<u8>,
    is_said: bool,
    heard: usize,
}

impl Echo {
    pub(crate) fn new(words: Vec<u8>) -> Echo {
        Echo::behind(Vec::new(), words)
    }

    pub(crate) fn behind(header: Vec<u8>, words: Vec<u8>) -> Echo {
        Echo { header, words, is_said: false, heard: 0 }
    }
}

impl Talk for Echo {
    fn words(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.is_said, true) {
            true => Vec::new(),
            false => [&self.header[..], &self.words].concat(),
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let owed = self.words.get(self.heard..self.heard + bytes.len());
        assert_eq!(owed, Some(bytes), "an echo of something else");
        self.heard += bytes.len();
    }

    fn is_done(&self) -> bool {
        self.heard == self.words.len()
    }

    fn shown(&self) -> String {
        format!("an echo of {} bytes, {} heard", self.words.len(), self.heard)
    }
}

/// One byte, to a service that sends it back or, since a reload, answers with [`ANSWER`].
pub(crate) struct Question {
    is_said: bool,
    heard: Vec<u8>,
}

pub(crate) const ANSWER: &str = "another answer";

impl Question {
    pub(crate) fn new() -> Question {
        Question { is_said: false, heard: Vec::new() }
    }
}

impl Talk for Question {
    fn words(&mut self) -> Vec<u8> {
        if std::mem::replace(&mut self.is_said, true) { Vec::new() } else { b"?".to_vec() }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend(bytes);
        assert!(b"?".starts_with(&self.heard) || ANSWER.as_bytes().starts_with(&self.heard), "{bytes:?}");
    }

    fn is_done(&self) -> bool {
        self.heard == b"?" || self.heard == ANSWER.as_bytes()
    }

    fn shown(&self) -> String {
        format!("a question, and {} bytes of an answer", self.heard.len())
    }
}

/// Pipelined requests. The answers come in the same order.
pub(crate) struct Http {
    requests: Vec<u8>,
    answers: VecDeque<Vec<u8>>,
    heard: Vec<u8>,
}

impl Http {
    /// Makes `count` requests: bodies to an echo, and health checks.
    pub(crate) fn new(dice: &mut Dice, count: usize) -> Http {
        let (mut requests, mut answers) = (Vec::new(), VecDeque::new());
        for number in 0..count {
            if dice.one_in(5) {
                requests.extend(b"GET /healthz HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n");
                answers.push_back(b"ok\n".to_vec());
                continue;
            }
            let size = dice.pick(&[1, 10, 1000, 20_000]);
            let body = format!("{number} {}", dice.word(size)).into_bytes();
            requests.extend(b"POST / HTTP/1.1\r\nHost: 10.0.0.1\r\n");
            if dice.one_in(2) {
                requests.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
                requests.extend(&body);
            } else {
                requests.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                // (A body of more framing than data is refused, from some length on.)
                for chunk in body.chunks(dice.between(16, 5000)) {
                    requests.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                    requests.extend(chunk);
                    requests.extend(b"\r\n");
                }
                requests.extend(b"0\r\n\r\n");
            }
            answers.push_back(body);
        }
        Http { requests, answers, heard: Vec::new() }
    }
}

impl Talk for Http {
    fn words(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.requests)
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend(bytes);
        while let Some((status, length, head)) = head_of(&self.heard) {
            if status == 408 {
                return; // it was too late with the rest: it stays owed
            }
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&self.heard));
            let Some(body) = self.heard.get(head..head + length) else { return };
            let owed = self.answers.pop_front().expect("an answer without a request");
            assert_eq!(body, owed, "an answer to something else");
            self.heard.drain(..head + length);
        }
    }

    fn is_done(&self) -> bool {
        self.answers.is_empty()
    }

    fn shown(&self) -> String {
        format!("{} answers to come", self.answers.len())
    }
}

/// An answer's status, the length of its body, and where that begins.
fn head_of(bytes: &[u8]) -> Option<(u16, usize, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = str::from_utf8(&bytes[..end]).expect("a head is text");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    Some((status, length.map_or(0, |text| text.parse().expect("a length")), end))
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The WebSocket below a talk: its opening, its frames, its end.
struct Socket {
    dice: Dice,
    is_asked: bool,
    is_open: bool,
    is_closed: bool,
    says_close: bool,
    /// Frames that wait to be sent.
    unsaid: Vec<u8>,
    heard: Vec<u8>,
    /// Pings that have not come back.
    pings: VecDeque<Vec<u8>>,
}

impl Socket {
    fn new(dice: Dice) -> Socket {
        Socket {
            dice,
            is_asked: false,
            is_open: false,
            is_closed: false,
            says_close: false,
            unsaid: Vec::new(),
            heard: Vec::new(),
            pings: VecDeque::new(),
        }
    }

    fn frame(&mut self, is_last: bool, kind: u8, payload: &[u8]) {
        self.unsaid.push(u8::from(is_last) << 7 | kind);
        match payload.len() {
            short @ ..126 => self.unsaid.push(0x80 | short as u8),
            long => {
                self.unsaid.push(0x80 | 126);
                self.unsaid.extend((long as u16).to_be_bytes());
            }
        }
        let mask = self.dice.next().to_be_bytes();
        self.unsaid.extend(&mask[..4]);
        self.unsaid.extend(payload.iter().zip(mask[..4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    /// A message, in one frame or several, with a ping between two of them.
    fn say(&mut self, kind: u8, message: &[u8]) {
        let most = match self.dice.one_in(2) {
            true => message.len(),
            false => self.dice.between(1, message.len()),
        };
        let count = message.len().div_ceil(most);
        for (index, part) in message.chunks(most).enumerate() {
            self.frame(index + 1 == count, if index == 0 { kind } else { 0 }, part);
            if self.dice.one_in(8) {
                let ping = self.dice.bytes(3);
                self.frame(true, PING, &ping);
                self.pings.push_back(ping);
            }
        }
    }

    fn shown(&self) -> String {
        format!(
            "asked {}, open {}, says close {}, closed {}",
            self.is_asked, self.is_open, self.says_close, self.is_closed
        )
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.says_close, true) {
            self.frame(true, CLOSE, &1000_u16.to_be_bytes());
        }
    }

    fn words(&mut self) -> Vec<u8> {
        if !std::mem::replace(&mut self.is_asked, true) {
            return b"GET / HTTP/1.1\r\nHost: 10.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                .to_vec();
        }
        match self.is_open {
            true => std::mem::take(&mut self.unsaid),
            false => Vec::new(),
        }
    }

    /// The messages among these bytes.
    fn hear(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.heard.extend(bytes);
        if !self.is_open {
            let Some((status, _, head)) = head_of(&self.heard) else { return Vec::new() };
            if status == 408 {
                return Vec::new(); // it was too late with its request: it stays owed
            }
            assert_eq!(status, 101, "{}", String::from_utf8_lossy(&self.heard));
            self.heard.drain(..head);
            self.is_open = true;
        }
        let mut messages = Vec::new();
        while let Some((kind, payload, whole)) = server_frame(&self.heard) {
            assert!(!self.is_closed, "a frame behind the closing one");
            let payload = payload.to_vec();
            self.heard.drain(..whole);
            match kind {
                TEXT | BINARY => messages.push(payload),
                PING => self.frame(true, PONG, &payload),
                PONG => {
                    // An endpoint may answer the last ping alone (RFC 6455, section 5.5.3).
                    let place = self.pings.iter().position(|ping| *ping == payload);
                    self.pings.drain(..=place.expect("a pong that answers no ping"));
                }
                CLOSE => {
                    self.close();
                    self.is_closed = true;
                }
                other => panic!("a frame of the kind {other}"),
            }
        }
        messages
    }
}

/// A whole frame's kind, its payload and its length.
fn server_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert!(first & 0xf0 == 0x80 && second & 0x80 == 0, "a server's frames are whole, and not masked");
    let (length, head) = match second {
        126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?) as usize, 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        short => (short as usize, 2),
    };
    Some((first & 0xf, bytes.get(head..head + length)?, head + length))
}

/// The history of the rooms, from the events that members received.
#[derive(Default)]
pub(crate) struct Annals {
    /// The author and text of each number of a room.
    said: BTreeMap<(String, u64), (String, String)>,
    /// The events of each stay of a member in a room.
    stays: Vec<Stay>,
}

struct Stay {
    member: String,
    room: String,
    /// The number at which the stay began. The member receives all later events.
    begins: u64,
    /// The number of each event that the member received, and how many the server said were dropped before it.
    told: Vec<(u64, u64)>,
}

pub(crate) type SharedAnnals = Rc<RefCell<Annals>>;

impl Annals {
    /// Checks that each member received everything that was said during its stay, except for announced gaps.
    pub(crate) fn check(&self) {
        for Stay { member, room, begins, told } in &self.stays {
            let mut last = *begins;
            for (number, dropped) in told.iter().filter(|(number, _)| number > begins) {
                let between = (room.clone(), last + 1)..(room.clone(), *number);
                let missed = self.said.range(between).count() as u64;
                assert!(
                    missed <= *dropped,
                    "{member} has missed {missed} of {room} before {number}, and was told of {dropped}"
                );
                last = *number;
            }
        }
    }
}

/// A member of chat rooms, by WebSocket.
pub(crate) struct Chatter {
    name: String,
    socket: Socket,
    annals: SharedAnnals,
    /// What it still has to ask and say.
    script: VecDeque<Value>,
    room: Option<String>,
    /// Its stay in the annals.
    stay: usize,
    dropped: u64,
    /// Its own texts that have not come back yet, each with the number of joins asked before it. (A member that leaves
    /// loses what still waits for it.)
    owed: BTreeMap<String, usize>,
    joins_asked: usize,
    joins_answered: usize,
}

impl Chatter {
    pub(crate) fn new(number: usize, mut dice: Dice, annals: &SharedAnnals) -> Chatter {
        let name = format!("guest-{number}");
        let mut script = VecDeque::new();
        for _ in 0..dice.between(1, 3) {
            let room = dice.pick(&["lobby", "red", "blue"]);
            script.push_back(json!({"type": "join", "room": room, "nick": name}));
            for _ in 0..dice.between(0, 12) {
                let text = format!("{number}.{} {}", script.len(), dice.word(20));
                script.push_back(match dice.below(12) {
                    0 => json!({"type": "who"}),
                    1 => json!({"type": "rooms"}),
                    2 => json!({"type": "topic", "text": text}),
                    _ => json!({"type": "say", "text": text}),
                });
            }
            if dice.one_in(4) {
                script.push_back(json!({"type": "leave"}));
            }
        }
        Chatter {
            name,
            socket: Socket::new(dice),
            annals: Rc::clone(annals),
            script,
            room: None,
            stay: 0,
            dropped: 0,
            owed: BTreeMap::new(),
            joins_asked: 0,
            joins_answered: 0,
        }
    }

    fn receive_event(&mut self, event: &Value) {
        let text_of = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        match event["type"].as_str().expect("an event has a type") {
            "joined" => {
                assert_eq!(text_of("nick"), self.name);
                self.joins_answered += 1;
                self.owed.retain(|_, joins| *joins >= self.joins_answered);
                let begins = event["seq"].as_u64().expect("a number");
                let stay =
                    Stay { member: self.name.clone(), room: text_of("room"), begins, told: Vec::new() };
                self.room = Some(text_of("room"));
                let mut annals = self.annals.borrow_mut();
                annals.stays.push(stay);
                self.stay = annals.stays.len() - 1;
            }
            "left" => {
                assert_eq!(Some(text_of("room")), self.room.take(), "it has left another room");
                self.owed.retain(|_, joins| *joins > self.joins_answered);
            }
            "gap" => self.dropped += event["missed"].as_u64().expect("a number"),
            "error" => panic!("{} has done nothing wrong: {event}", self.name),
            kind => {
                let Some(number) = event["seq"].as_u64() else { return };
                let room = self.room.clone().expect("nothing is told of a room that one is not in");
                let mut annals = self.annals.borrow_mut();
                let told = &mut annals.stays[self.stay].told;
                let is_next = told.last().is_none_or(|(last, _)| *last < number);
                assert!(is_next, "{} is told {number} of {room} behind {told:?}", self.name);
                told.push((number, std::mem::take(&mut self.dropped)));
                if kind == "said" {
                    let said = (text_of("nick"), text_of("text"));
                    self.owed.remove(&said.1);
                    let first = annals.said.entry((room.clone(), number)).or_insert_with(|| said.clone());
                    assert_eq!(*first, said, "one order for everybody in {room}, at {number}");
                }
            }
        }
    }
}

impl Talk for Chatter {
    fn words(&mut self) -> Vec<u8> {
        if self.socket.is_open && !self.socket.says_close {
            if let Some(ask) = self.script.pop_front() {
                self.joins_asked += usize::from(ask["type"] == "join");
                if ask["type"] == "say" {
                    self.owed.insert(ask["text"].as_str().expect("a text").to_owned(), self.joins_asked);
                }
                self.socket.say(TEXT, ask.to_string().as_bytes());
            } else if self.owed.is_empty() || self.dropped > 0 {
                self.socket.close();
            }
        }
        self.socket.words()
    }

    fn hear(&mut self, bytes: &[u8]) {
        for message in self.socket.hear(bytes) {
            self.receive_event(&serde_json::from_slice(&message).expect("an event is JSON"));
        }
    }

    fn is_done(&self) -> bool {
        self.socket.is_closed
    }

    fn shown(&self) -> String {
        let (left, owed, room) = (self.script.len(), &self.owed, &self.room);
        format!("chat: {left} to say, in {room:?}, owed {owed:?}, {}", self.socket.shown())
    }
}

/// A member of the lobby, at a terminal.
pub(crate) struct Liner {
    lines: VecDeque<String>,
    is_done: bool,
    heard: Vec<u8>,
    /// The last number of each author.
    heard_of: BTreeMap<String, usize>,
}

impl Liner {
    pub(crate) fn new(number: usize, dice: &mut Dice) -> Liner {
        let count = dice.between(1, 10);
        let mut lines: VecDeque<String> =
            (0..count).map(|line| format!("L{number}.{line} {}", dice.word(10))).collect();
        lines.push_back("/help".into()); // the answer to that comes behind everything else
        Liner { lines, is_done: false, heard: Vec::new(), heard_of: BTreeMap::new() }
    }
}

impl Talk for Liner {
    fn words(&mut self) -> Vec<u8> {
        self.lines.pop_front().map_or(Vec::new(), |line| format!("{line}\n").into_bytes())
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend(bytes);
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            let line = str::from_utf8(&line).expect("lines are text").trim_end();
            self.is_done |= line.starts_with("//TEXT");
            let said = line.split_once(": ").filter(|_| !line.starts_with("* "));
            let Some((_, text)) = said else { continue };
            let Some((author, number)) = text.split(' ').next().and_then(|word| word.split_once('.')) else {
                continue;
            };
            let Ok(number) = number.parse() else { continue };
            let before = self.heard_of.insert(author.to_owned(), number);
            assert!(before.is_none_or(|before| before < number), "{author}'s lines come in order");
        }
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn shown(&self) -> String {
        format!("lines: {} to say", self.lines.len())
    }
}

/// A player of the relay's world, by WebSocket.
pub(crate) struct Player {
    socket: Socket,
    updates: u32,
    /// States that it has still to see.
    states_left: usize,
    seen: u32,
    tick: u32,
}

/// The relay's messages: see the guide.
pub(crate) const RELAY_BYTES: usize = 24;
pub(crate) const RELAY_HELLO: u8 = 1;
pub(crate) const RELAY_WELCOME: u8 = 2;
pub(crate) const RELAY_UPDATE: u8 = 3;
pub(crate) const RELAY_STATE: u8 = 4;

/// A message to the relay, with these words behind its token.
pub(crate) fn relay_message(kind: u8, token: u64, words: [u32; 3]) -> Vec<u8> {
    let mut bytes = vec![b'S', b'B', 1, kind];
    bytes.extend(token.to_be_bytes());
    words.iter().for_each(|word| bytes.extend(word.to_be_bytes()));
    bytes
}

/// The big-endian number there.
pub(crate) fn word_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("it is long enough"))
}

/// A state's tick and nonce.
pub(crate) fn state_of(bytes: &[u8]) -> (u32, u32) {
    let others = u16::from_be_bytes(bytes[18..20].try_into().expect("it is long enough"));
    assert_eq!(bytes.len(), 28 + 8 * others as usize, "a state is as long as it says");
    (word_at(bytes, 8), word_at(bytes, 24))
}

impl Player {
    pub(crate) fn new(mut dice: Dice) -> Player {
        let states_left = dice.between(1, 6);
        Player { socket: Socket::new(dice), updates: 0, states_left, seen: 0, tick: 0 }
    }
}

impl Talk for Player {
    fn words(&mut self) -> Vec<u8> {
        if self.socket.is_open && !self.socket.says_close {
            if self.states_left == 0 {
                self.socket.close();
            } else if self.updates == 0 || self.updates < 1000 && self.socket.dice.one_in(10) {
                self.updates += 1;
                let at = self.socket.dice.next() as u32;
                let update = relay_message(RELAY_UPDATE, 0, [self.updates, at, self.seen]);
                self.socket.say(BINARY, &update);
            }
        }
        self.socket.words()
    }

    fn hear(&mut self, bytes: &[u8]) {
        for message in self.socket.hear(bytes) {
            if message[3] == RELAY_STATE {
                let (tick, nonce) = state_of(&message);
                assert!(tick > self.tick, "tick {tick} comes behind {}", self.tick);
                (self.tick, self.seen) = (tick, nonce);
                self.states_left = self.states_left.saturating_sub(1);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.socket.is_closed
    }

    fn shown(&self) -> String {
        let (left, updates) = (self.states_left, self.updates);
        format!("relay: {left} states to see, {updates} updates, {}", self.socket.shown())
    }
}
