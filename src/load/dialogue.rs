//! One connection's dialogue: what is in flight, and what each byte that comes back means.
//!
//! A stream has no messages. Every byte of the next reply is known, so whatever comes is compared with it at once, in pieces of
//! any size. If a reply differs, its head says which message it belongs to: a later one (another was lost, or is late), an earlier
//! one (reordered, or a duplicate), or none (corrupted; then the search for the next head begins).
//!
//! Knows no sockets and no clock: times are arguments.
//!
//! Invariant: every message that was sent is reported exactly once, by [`Received`] or [`Missed`].

use std::collections::VecDeque;

#[cfg(feature = "web")]
use super::http::{Answers, Event};
#[cfg(feature = "web")]
use super::script::Pieces;
use super::script::{Expected, HEAD_BYTES, Numbered, Other, Rendered, Script};
#[cfg(feature = "web")]
use super::websocket::{self, Frames};
use crate::protocol::{Framing, Protocol, Step};

/// A message in flight. Times are in nanoseconds since the run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight {
    sequence: u64,
    /// When it was due.
    pub due_ns: u64,
    /// When it was sent.
    pub sent_ns: u64,
}

impl Flight {
    /// Whether the other one was due and sent at the same time, so that both have the same response time.
    #[inline]
    pub fn is_beside(&self, other: &Flight) -> bool {
        self.sent_ns == other.sent_ns && self.due_ns == other.due_ns
    }
}

/// A message without its reply, and how that is known.
struct Sent {
    flight: Flight,
    numbered: Option<Numbered>,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The right reply.
    Answer(Flight),
    /// The right reply, after that to a later message.
    Late(Flight),
    /// The answer to this message, with a status that is no success.
    Status(Flight, u16),
    /// The reply to this message, with the wrong bytes; `None`: bytes that are no reply at all.
    Corrupted(Option<Flight>),
    /// A reply that had come before.
    Duplicate,
}

/// What did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// No reply, though a later message got one, or though the connection has ended.
    Lost(Flight),
    /// No reply in time.
    TimedOut(Flight),
    /// The connection ended in the middle of this reply.
    Short(Flight),
}

/// How many replies that were given up are remembered. One that comes late is then not taken for a duplicate.
const GIVEN_UP_MAX: usize = 1024;

/// See the module's text.
pub struct Dialogue {
    connection: u32,
    next_sequence: u64,
    in_flight: VecDeque<Sent>,
    /// The reply that is coming in: which one, how much of it has come, and whether it is right so far. `None`
    /// between two replies.
    reading: Option<Reading>,
    /// All replies with a lower sequence have come, or can no longer come in order.
    high: u64,
    given_up: VecDeque<u64>,
    /// Only if any message counts as a reply.
    protocol: Protocol,
    /// Only over HTTP.
    #[cfg(feature = "web")]
    http: Option<Box<HttpReplies>>,
    /// Only over WebSocket.
    #[cfg(feature = "web")]
    socket: Option<Box<Framed>>,
}

/// A body that comes in pieces, beside the one that is expected.
#[cfg(feature = "web")]
#[derive(Default)]
struct Compared {
    /// The bytes of it that have come.
    at: usize,
    wrong: bool,
}

#[cfg(feature = "web")]
impl Compared {
    fn take(&mut self, part: &[u8], expected: Option<&Pieces<'_>>) {
        let right = expected.is_some_and(|expected| {
            self.at + part.len() <= expected.len() && expected.matching(self.at, part) == part.len()
        });
        self.wrong |= !right;
        self.at += part.len();
    }

    /// Ends the message that is complete now, and returns whether it was right.
    fn end_message(&mut self, expected: Option<&Pieces<'_>>) -> bool {
        let Compared { at, wrong } = std::mem::take(self);
        !wrong && expected.is_some_and(|expected| at == expected.len())
    }
}

/// The message that is coming in, over WebSocket.
#[cfg(feature = "web")]
#[derive(Default)]
struct Framed {
    frames: Frames,
    body: Compared,
    /// The status of a server that refuses the handshake.
    refused: Option<u16>,
    /// A message was sent on this connection.
    said: bool,
    /// What the server sends first, before any message.
    greeting: Greeting,
}

/// Some servers send first: a welcome, or a list of members.
#[cfg(feature = "web")]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Greeting {
    /// Nothing has come yet: what comes may be one.
    #[default]
    Possible,
    /// The first message was no right reply. If a right one follows soon, it was a greeting; else it was a wrong reply.
    /// Counts how often nothing had followed when that was checked.
    Supposed(u8),
    /// From now on each message is a reply.
    Over,
}

/// The answer that is coming in, over HTTP.
#[cfg(feature = "web")]
#[derive(Default)]
struct HttpReplies {
    answers: Answers,
    body: Compared,
    /// What came was no answer, and what follows can't be understood.
    broken: bool,
    /// Answers that this connection has brought.
    count: u64,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    sequence: u64,
    at: usize,
    state: State,
}

/// What is known of a reply that is coming in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is right so far.
    Right,
    /// It is wrong. It ends after this many bytes in all, or, on a stream of lines, where the line ends.
    Broken(usize),
}

/// What a look at the bytes came to.
struct Understood {
    /// How many of the bytes are dealt with.
    count: usize,
    /// The reply that they were part of, unless it is complete.
    reading: Option<Reading>,
    /// The next bytes can't be understood before more have come.
    wait: bool,
}

impl Dialogue {
    /// The dialogue of the connection with this number.
    pub fn new(connection: u32, framing: Framing) -> Dialogue {
        Dialogue {
            connection,
            next_sequence: 0,
            in_flight: VecDeque::new(),
            reading: None,
            high: 0,
            given_up: VecDeque::new(),
            protocol: Protocol::new(framing, 1 << 30),
            #[cfg(feature = "web")]
            http: (framing == Framing::Http).then(Box::default),
            #[cfg(feature = "web")]
            socket: (framing == Framing::WebSocket).then(Box::default),
        }
    }

    /// How many messages have no reply yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns the next message, which is in flight from now on.
    #[inline(always)]
    pub fn write_message(
        &mut self,
        script: &Script,
        rendered: &mut Rendered,
        due_ns: u64,
        now_ns: u64,
        mut put: impl FnMut(&[u8]),
    ) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let numbered = script.numbered(self.connection, sequence);
        self.in_flight.push_back(Sent { flight: Flight { sequence, due_ns, sent_ns: now_ns }, numbered });
        if let Some(numbered) = &numbered {
            return script.write_numbered(numbered, &mut put);
        }
        let message = script.message(self.connection, sequence, rendered);
        #[cfg(feature = "web")]
        if let Some(socket) = &mut self.socket {
            socket.said = true;
            let mask = ((sequence as u32).wrapping_mul(0x9e37_79b9) | 0x0101_0101).to_be_bytes();
            return socket.frames.write_message(message.len(), message.parts(), mask, &mut put);
        }
        #[cfg(feature = "web")]
        if !script.ask(message.len(), &mut put) {
            return;
        }
        message.parts().into_iter().filter(|part| !part.is_empty()).for_each(&mut put);
    }

    /// Takes bytes of the stream. Returns how many were understood; pass the rest again, with
    /// more bytes behind it.
    #[inline]
    pub fn receive(
        &mut self,
        script: &Script,
        rendered: &mut Rendered,
        bytes: &[u8],
        mut report: impl FnMut(Received),
    ) -> usize {
        #[cfg(feature = "web")]
        if self.http.is_some() {
            return self.receive_http(script, rendered, bytes, report);
        }
        #[cfg(feature = "web")]
        if self.socket.is_some() {
            return self.receive_frames(script, rendered, bytes, report);
        }
        let framed = script.framing() != Framing::Raw;
        if script.expects_anything(framed) {
            return self.receive_any_reply(bytes, report);
        }
        let mut taken = 0;
        while taken < bytes.len() {
            let rest = &bytes[taken..];
            if let Some((count, received)) = self.receive_due_reply(script, rest) {
                taken += count;
                report(received);
                continue;
            }
            let reading = match (self.reading, self.in_flight.front()) {
                (Some(reading), _) => reading,
                (None, Some(front)) => {
                    Reading { sequence: front.flight.sequence, at: 0, state: State::Right }
                }
                (None, None) => match self.find_place(script, rest) {
                    Place::Here(sequence) => Reading { sequence, at: 0, state: State::Right },
                    Place::Behind(count) => {
                        report(Received::Corrupted(None));
                        taken += count;
                        continue;
                    }
                    Place::Unknown => return taken,
                },
            };
            let understood = self.compare(script, rendered, reading, rest, &mut report);
            taken += understood.count;
            self.reading = understood.reading;
            if understood.wait {
                break;
            }
        }
        taken
    }

    /// The common case: the reply that is due is here, whole and right. Anything else is compared at length,
    /// byte by byte; the tests hold the one against the other. (Of some 900 instructions per message, with 16 in
    /// flight, this and the number that is kept saved more than half.)
    #[inline]
    fn receive_due_reply(&mut self, script: &Script, rest: &[u8]) -> Option<(usize, Received)> {
        let front = self.in_flight.front().filter(|_| self.reading.is_none())?;
        let count = script.is_numbered_whole(front.numbered.as_ref()?, rest)?;
        let flight = front.flight;
        self.in_flight.pop_front();
        let late = flight.sequence < self.high;
        self.high = self.high.max(flight.sequence + 1);
        Some((count, if late { Received::Late(flight) } else { Received::Answer(flight) }))
    }

    /// Takes the part of `rest` that belongs to the reply being read, and returns the state after it.
    #[inline]
    fn compare(
        &mut self,
        script: &Script,
        rendered: &mut Rendered,
        mut reading: Reading,
        rest: &[u8],
        report: &mut impl FnMut(Received),
    ) -> Understood {
        let expected = script.reply(self.connection, reading.sequence, rendered);
        let len = expected.len();
        let State::Broken(len) = reading.state else {
            let count = expected.matching(reading.at, rest);
            reading.at += count;
            if reading.at == len {
                self.complete(reading, report);
                return Understood { count, reading: None, wait: false };
            }
            if count == rest.len() {
                return Understood { count, reading: Some(reading), wait: false };
            }
            // It differs from here on. If that is in the head, another message's head may be coming, or
            // another length.
            let head_len = expected.head().len();
            let mut ends = len;
            if reading.at < head_len {
                let mut head = [0; 4 + HEAD_BYTES];
                let known = reading.at;
                let seen = rest[count..].len().min(head_len - known);
                head[..known].copy_from_slice(&expected.head()[..known]);
                head[known..known + seen].copy_from_slice(&rest[count..count + seen]);
                match script.read_other_head(self.connection, self.next_sequence, &head[..known + seen], len)
                {
                    Other::Message(sequence) => {
                        let reading = Some(Reading { sequence, at: head_len, state: State::Right });
                        return Understood { count: count + head_len - known, reading, wait: false };
                    }
                    Other::OfLength(other) => ends = other,
                    Other::NotYet => return Understood { count, reading: Some(reading), wait: true },
                }
            }
            reading.state = State::Broken(ends.max(reading.at));
            return Understood { count, reading: Some(reading), wait: false };
        };

        // Broken: it is skipped, unless another message begins before its end.
        // (A line may be longer than it should have been: it ends where it ends.)
        let left = len.saturating_sub(reading.at);
        let (end, whole) = match script.framing() {
            Framing::Lines => match rest.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (rest.len(), false),
            },
            _ => (left.min(rest.len()), rest.len() >= left),
        };
        let head_len = script.prefix_len() + HEAD_BYTES;
        if script.is_numbered() {
            for at in (0..end).filter(|at| rest.get(at + script.prefix_len()) == Some(&b'|')) {
                if let Some(sequence) = script.read_head(self.connection, self.next_sequence, &rest[at..]) {
                    // If it is the expected one after all, the bytes before it belong to no message.
                    if sequence == reading.sequence {
                        report(Received::Corrupted(None));
                    } else {
                        self.complete(reading, report);
                    }
                    let reading = Some(Reading { sequence, at: 0, state: State::Right });
                    return Understood { count: at, reading, wait: false };
                }
                // Its own head ends with one, too; any other is the beginning of one that is to come.
                let own = reading.at + at + 1 == head_len && whole;
                if rest.len() - at < head_len && !own {
                    reading.at += at;
                    return Understood { count: at, reading: Some(reading), wait: true };
                }
            }
        }
        if whole {
            self.complete(reading, report);
            return Understood { count: end, reading: None, wait: false };
        }
        reading.at += end;
        if script.framing() == Framing::Lines {
            reading.state = State::Broken(len.max(reading.at));
        }
        Understood { count: end, reading: Some(reading), wait: false }
    }

    /// Returns where a message begins in bytes that answer no message.
    fn find_place(&self, script: &Script, bytes: &[u8]) -> Place {
        if !script.is_numbered() {
            return Place::Behind(bytes.len());
        }
        let head_len = script.prefix_len() + HEAD_BYTES;
        let is_head = |at: &usize| script.read_head(self.connection, self.next_sequence, &bytes[*at..]);
        match (0..bytes.len()).find(|at| is_head(at).is_some()) {
            Some(0) => Place::Here(is_head(&0).expect("it was just found")),
            Some(at) => Place::Behind(at),
            None if bytes.len() < head_len => Place::Unknown,
            None => Place::Behind(bytes.len()),
        }
    }

    /// A reply's last byte has come.
    #[inline]
    fn complete(&mut self, reading: Reading, report: &mut impl FnMut(Received)) {
        let Reading { sequence, state, .. } = reading;
        let flight = match self.in_flight.front() {
            Some(front) if front.flight.sequence == sequence => {
                self.in_flight.pop_front().map(|sent| sent.flight)
            }
            _ => self.take(sequence),
        };
        let late = sequence < self.high;
        self.high = self.high.max(sequence + 1);
        match flight {
            Some(flight) if state != State::Right => report(Received::Corrupted(Some(flight))),
            Some(flight) if late => report(Received::Late(flight)),
            Some(flight) => report(Received::Answer(flight)),
            None if self.given_up.contains(&sequence) => {}
            None => report(Received::Duplicate),
        }
    }

    /// In flight, they are in the order of their numbers.
    fn take(&mut self, sequence: u64) -> Option<Flight> {
        let at = self.in_flight.binary_search_by_key(&sequence, |sent| sent.flight.sequence).ok()?;
        self.in_flight.remove(at).map(|sent| sent.flight)
    }

    /// Each message is a reply; on a raw stream, each read.
    fn receive_any_reply(&mut self, bytes: &[u8], mut report: impl FnMut(Received)) -> usize {
        let Protocol::Plain(plain) = &mut self.protocol else { return bytes.len() };
        let mut taken = 0;
        while taken < bytes.len() {
            match plain.decode(&bytes[taken..]) {
                Ok(Step::Message { consumed, .. }) => taken += consumed,
                Ok(Step::NeedMore) => return taken,
                Err(_) => taken = bytes.len(),
            }
            match self.in_flight.pop_front() {
                Some(sent) => report(Received::Answer(sent.flight)),
                None => report(Received::Duplicate),
            }
        }
        taken
    }

    /// Over HTTP, answers come in the order of the requests, and each shows where it ends.
    #[cfg(feature = "web")]
    fn receive_http(
        &mut self,
        script: &Script,
        rendered: &mut Rendered,
        bytes: &[u8],
        mut report: impl FnMut(Received),
    ) -> usize {
        let Some(http) = self.http.as_deref_mut() else { return bytes.len() };
        let mut taken = 0;
        while taken < bytes.len() && !http.broken {
            let HttpReplies { answers, body, broken, count: received } = &mut *http;
            let sequence = self.in_flight.front().map(|front| front.flight.sequence);
            let expected = sequence.map(|sequence| script.reply(self.connection, sequence, rendered));
            let looks = *script.expected() != Expected::Anything;
            let event = answers.receive(&bytes[taken..], script.wants_no_body(), |part| {
                body.take(part, expected.as_ref());
            });
            let (count, status) = match event {
                Event::More(count) => {
                    taken += count;
                    break;
                }
                Event::Answer(count, status) => (count, status),
                Event::Garbage => {
                    *broken = true;
                    let flight = self.in_flight.pop_front().map(|sent| sent.flight);
                    report(Received::Corrupted(flight));
                    break;
                }
            };
            taken += count;
            *received += 1;
            let right = body.end_message(expected.as_ref()) || !looks || script.wants_no_body();
            match self.in_flight.pop_front().map(|sent| sent.flight) {
                None => {
                    *broken = true; // nobody has asked
                    report(Received::Corrupted(None));
                }
                Some(flight) if !(200..300).contains(&status) => report(Received::Status(flight, status)),
                Some(flight) if right => report(Received::Answer(flight)),
                Some(flight) => report(Received::Corrupted(Some(flight))),
            }
        }
        match http.broken {
            true => bytes.len(),
            false => taken,
        }
    }

    /// Over WebSocket, messages come in the order in which they were sent.
    #[cfg(feature = "web")]
    fn receive_frames(
        &mut self,
        script: &Script,
        rendered: &mut Rendered,
        bytes: &[u8],
        mut report: impl FnMut(Received),
    ) -> usize {
        let Some(Framed { frames, body, refused, said, greeting }) = self.socket.as_deref_mut() else {
            return bytes.len();
        };
        let mut taken = 0;
        loop {
            let sequence = self.in_flight.front().map(|front| front.flight.sequence);
            let expected = sequence.map(|sequence| script.reply(self.connection, sequence, rendered));
            let looks = *script.expected() != Expected::Anything;
            let event = frames.receive(&bytes[taken..], |part| body.take(part, expected.as_ref()));
            match event {
                websocket::Event::More(count) => return taken + count,
                websocket::Event::Open(count) => taken += count,
                websocket::Event::Message(count) => {
                    taken += count;
                    let right = body.end_message(expected.as_ref()) || !looks;
                    if !*said {
                        continue; // it can be no reply
                    }
                    match (*greeting, right) {
                        (Greeting::Possible, false) => {
                            *greeting = Greeting::Supposed(0);
                            continue;
                        }
                        (Greeting::Supposed(_), false) => {
                            let first = self.in_flight.pop_front().map(|sent| sent.flight);
                            report(Received::Corrupted(first));
                        }
                        (_, true) | (Greeting::Over, _) => {}
                    }
                    *greeting = Greeting::Over;
                    match self.in_flight.pop_front().map(|sent| sent.flight) {
                        None => report(Received::Duplicate),
                        Some(flight) if right => report(Received::Answer(flight)),
                        Some(flight) => report(Received::Corrupted(Some(flight))),
                    }
                }
                websocket::Event::Refused(status) => {
                    *refused = Some(status);
                    return bytes.len();
                }
                websocket::Event::Closed => return bytes.len(),
                websocket::Event::Garbage => {
                    report(Received::Corrupted(self.in_flight.pop_front().map(|sent| sent.flight)));
                    return bytes.len();
                }
            }
        }
    }

    /// Whether messages can be sent: the handshake is complete, if there is one.
    #[inline]
    pub fn is_ready(&self) -> bool {
        #[cfg(feature = "web")]
        if let Some(socket) = &self.socket {
            return socket.frames.is_open();
        }
        true
    }

    /// The status of the server's answer, if it refused the handshake.
    pub fn refused(&self) -> Option<u16> {
        #[cfg(feature = "web")]
        if let Some(socket) = &self.socket {
            return socket.refused;
        }
        None
    }

    /// Writes what the connection owes for itself, not for the run: the answer to a ping.
    #[cfg(feature = "web")]
    pub fn write_pong(&mut self, mut put: impl FnMut(&[u8])) {
        if let Some(socket) = &mut self.socket {
            socket.frames.write_pong(&mut put);
        }
    }

    /// Whether a ping waits for its answer.
    #[cfg(feature = "web")]
    pub fn owes_a_pong(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.frames.pong.is_some())
    }

    /// The server has announced that nothing more will come: a new connection is needed.
    pub fn is_over(&self) -> bool {
        #[cfg(feature = "web")]
        if let Some(socket) = &self.socket {
            return socket.frames.is_over();
        }
        #[cfg(feature = "web")]
        if let Some(http) = &self.http {
            return http.broken || (http.answers.is_last() && !http.answers.is_within());
        }
        false
    }

    /// A reply that was given up may still come. If replies carry no numbers, it would be taken for the next message's:
    /// so nothing more is read on this connection.
    fn lose_step(&mut self) {
        #[cfg(feature = "web")]
        {
            if let Some(http) = &mut self.http {
                http.broken = true;
            }
            if let Some(socket) = &mut self.socket {
                socket.frames.abandon();
            }
        }
    }

    /// The reply that is coming in is wrong.
    pub fn is_astray(&self) -> bool {
        matches!(self.reading, Some(Reading { state: State::Broken(_), .. }))
    }

    /// Over HTTP: at least one whole answer came on this connection, and nothing of the next one.
    pub fn is_between_answers(&self) -> bool {
        #[cfg(feature = "web")]
        if let Some(http) = &self.http {
            return http.count > 0 && !http.broken && !http.answers.is_within();
        }
        false
    }

    /// Messages after the last answer, which the server has not served: they may be sent again. (Over WebSocket it
    /// is not known whether the server has served them.)
    pub fn withdraw(&mut self) -> impl Iterator<Item = u64> + '_ {
        #[cfg(feature = "web")]
        let count = if self.http.is_some() { self.in_flight.len() } else { 0 };
        #[cfg(not(feature = "web"))]
        let count = 0;
        self.in_flight.drain(..count).map(|sent| sent.flight.due_ns)
    }

    /// A datagram came: a message of its own.
    pub fn receive_datagram(
        &mut self,
        script: &Script,
        rendered: &mut Rendered,
        bytes: &[u8],
        mut report: impl FnMut(Received),
    ) {
        let numbered = script.is_numbered();
        let named = numbered.then(|| script.read_head(self.connection, self.next_sequence, bytes)).flatten();
        let front = self.in_flight.front().map(|front| front.flight.sequence);
        let Some(sequence) = named.or(front) else {
            return report(Received::Duplicate);
        };
        let right = match script.expected() {
            Expected::Anything | Expected::AnyOfThatLength => true,
            _ => {
                let expected = script.reply(self.connection, sequence, rendered);
                bytes.len() == expected.len() && expected.matching(0, bytes) == bytes.len()
            }
        };
        let state = if right { State::Right } else { State::Broken(bytes.len()) };
        self.complete(Reading { sequence, at: 0, state }, &mut report);
    }

    /// Called every tenth of a second. A message that was taken for a greeting was a wrong reply if no reply
    /// follows.
    pub fn end_doubt(&mut self, mut report: impl FnMut(Received)) {
        #[cfg(feature = "web")]
        if let Some(socket) = &mut self.socket
            && let Greeting::Supposed(looks) = &mut socket.greeting
        {
            *looks += 1;
            if *looks == 2 {
                socket.greeting = Greeting::Over;
                report(Received::Corrupted(self.in_flight.pop_front().map(|sent| sent.flight)));
            }
        }
        #[cfg(not(feature = "web"))]
        let _ = &mut report;
    }

    /// Gives up the messages that were sent before this moment and have no reply.
    pub fn give_up(&mut self, sent_before_ns: u64, mut report: impl FnMut(Missed)) {
        while let Some(flight) = self.in_flight.front().map(|front| front.flight) {
            if flight.sent_ns >= sent_before_ns {
                return;
            }
            self.in_flight.pop_front();
            if self.given_up.len() == GIVEN_UP_MAX {
                self.given_up.pop_front();
            }
            self.given_up.push_back(flight.sequence);
            self.lose_step();
            report(if flight.sequence < self.high { Missed::Lost(flight) } else { Missed::TimedOut(flight) });
        }
    }

    /// The connection has ended. The next one starts again, with other numbers.
    ///
    /// Returns the answer that this end completes, if there is one.
    pub fn end(
        &mut self,
        script: &Script,
        rendered: &mut Rendered,
        mut report: impl FnMut(Missed),
    ) -> Option<Received> {
        let (ended, within) = self.end_answers(script, rendered);
        let half = self.reading.take().filter(|reading| reading.at > 0);
        for (index, Sent { flight, .. }) in self.in_flight.drain(..).enumerate() {
            match half {
                _ if within && index == 0 => report(Missed::Short(flight)),
                Some(half) if half.sequence == flight.sequence => report(Missed::Short(flight)),
                _ => report(Missed::Lost(flight)),
            }
        }
        self.high = self.next_sequence;
        ended
    }

    /// Returns the answer that the connection's end completes, and whether an answer was cut off; its message then counts as short.
    #[cfg(feature = "web")]
    fn end_answers(&mut self, script: &Script, rendered: &mut Rendered) -> (Option<Received>, bool) {
        if let Some(socket) = self.socket.as_deref_mut() {
            return (None, std::mem::take(socket).frames.is_within());
        }
        let Some(http) = self.http.as_deref_mut() else { return (None, false) };
        let HttpReplies { mut answers, mut body, .. } = std::mem::take(http);
        let within = answers.is_within();
        let ended = answers.end().and_then(|status| {
            let flight = self.in_flight.pop_front()?.flight;
            let expected = script.reply(self.connection, flight.sequence, rendered);
            let right = body.end_message(Some(&expected)) || *script.expected() == Expected::Anything;
            Some(match (200..300).contains(&status) {
                false => Received::Status(flight, status),
                true if right => Received::Answer(flight),
                true => Received::Corrupted(Some(flight)),
            })
        });
        let cut_off = within && ended.is_none();
        (ended, cut_off)
    }

    #[cfg(not(feature = "web"))]
    fn end_answers(&mut self, _script: &Script, _rendered: &mut Rendered) -> (Option<Received>, bool) {
        (None, false)
    }
}

/// Where a reader that has lost its place can go on.
enum Place {
    Here(u64),
    Behind(usize),
    /// Too few bytes to tell.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::script::Said;
    use proptest::prelude::*;

    /// A conversation of `count` messages, and the replies of an honest server, one by one.
    fn conversation(script: &Script, count: u64) -> (Dialogue, Vec<Vec<u8>>) {
        let mut dialogue = Dialogue::new(5, script.framing());
        let mut rendered = Rendered::default();
        let replies = (0..count)
            .map(|at| {
                let mut message = Vec::new();
                dialogue.write_message(script, &mut rendered, at, at, |part| message.extend_from_slice(part));
                match script.expected() {
                    Expected::Text(_) => script.reply(5, at, &mut rendered).parts().concat(),
                    _ => message,
                }
            })
            .collect();
        (dialogue, replies)
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Account {
        answers: u64,
        late: u64,
        corrupted: u64,
        nobodys: u64,
        duplicates: u64,
        lost: u64,
        short: u64,
        timed_out: u64,
    }

    /// Hears these pieces the way the reactor gives them: what is not understood comes again.
    fn receive<'a>(
        mut dialogue: Dialogue,
        script: &Script,
        pieces: impl IntoIterator<Item = &'a [u8]>,
        timeout: bool,
    ) -> Account {
        let (mut account, mut inbox, mut rendered) = (Account::default(), Vec::new(), Rendered::default());
        for piece in pieces {
            inbox.extend_from_slice(piece);
            let count = dialogue.receive(script, &mut rendered, &inbox, |received| match received {
                Received::Answer(_) => account.answers += 1,
                Received::Late(_) => account.late += 1,
                Received::Corrupted(Some(_)) => account.corrupted += 1,
                Received::Corrupted(None) => account.nobodys += 1,
                Received::Duplicate => account.duplicates += 1,
                Received::Status(..) => unreachable!("this is not HTTP"),
            });
            inbox.drain(..count);
        }
        let mut missed = |missed| match missed {
            Missed::Lost(_) => account.lost += 1,
            Missed::Short(_) => account.short += 1,
            Missed::TimedOut(_) => account.timed_out += 1,
        };
        if timeout {
            dialogue.give_up(u64::MAX, &mut missed);
        }
        dialogue.end(script, &mut rendered, &mut missed);
        account
    }

    /// The account must not depend on how the network cuts the stream.
    fn at_every_split(script: &Script, count: u64, spoil: impl Fn(&mut Vec<Vec<u8>>)) -> Account {
        let stream = || {
            let (dialogue, mut replies) = conversation(script, count);
            spoil(&mut replies);
            (dialogue, replies.concat())
        };
        let (dialogue, bytes) = stream();
        let account = receive(dialogue, script, [&bytes[..]], true);
        for at in 0..=bytes.len() {
            let split = receive(stream().0, script, [&bytes[..at], &bytes[at..]], true);
            assert_eq!(split, account, "cut at {at}");
        }
        assert_eq!(receive(stream().0, script, bytes.chunks(1), true), account, "byte by byte");
        account
    }

    fn numbered(framing: Framing) -> Script {
        Script::new(7, framing, Said::Numbered { min: 30, max: 64 }, Expected::Echo)
    }

    const FRAMINGS: [Framing; 3] = [Framing::Raw, Framing::Lines, Framing::Prefixed];

    #[test]
    fn an_honest_server_is_right_however_its_replies_are_cut() {
        for framing in FRAMINGS {
            let said = [
                Said::Numbered { min: 1, max: 40 },
                Said::Numbered { min: 64, max: 64 },
                Said::Template("hello {seq} {conn} {rand:8}".parse().expect("a template")),
            ];
            for said in said {
                for expected in
                    [Expected::Echo, Expected::AnyOfThatLength, Expected::Text(b"Hello!".to_vec())]
                {
                    let script = Script::new(1, framing, said.clone(), expected);
                    let account = at_every_split(&script, 4, |_| {});
                    assert_eq!(account, Account { answers: 4, ..Account::default() }, "{framing:?}");
                }
            }
        }
    }

    #[test]
    fn a_flipped_byte_is_one_corrupted_reply_wherever_it_is() {
        for framing in FRAMINGS {
            let script = numbered(framing);
            let len = conversation(&script, 3).1[1].len();
            for at in 0..len {
                let account = at_every_split(&script, 3, |replies| replies[1][at] ^= 1);
                assert_eq!(account.answers + account.corrupted, 3, "{framing:?} {at} {account:?}");
                assert_eq!((account.corrupted, account.nobodys), (1, 0), "{framing:?} {at} {account:?}");
            }
        }
    }

    #[test]
    fn a_reply_that_never_comes_is_lost() {
        let account = at_every_split(&numbered(Framing::Raw), 4, |replies| drop(replies.remove(1)));
        assert_eq!(account, Account { answers: 3, lost: 1, ..Account::default() });
        let account = at_every_split(&numbered(Framing::Raw), 4, |replies| drop(replies.pop()));
        assert_eq!(account, Account { answers: 3, timed_out: 1, ..Account::default() });
    }

    #[test]
    fn a_reply_that_comes_twice_is_a_duplicate() {
        for at in 0..4 {
            let account = at_every_split(&numbered(Framing::Prefixed), 4, |replies| {
                replies.insert(at, replies[at].clone())
            });
            assert_eq!(account, Account { answers: 4, duplicates: 1, ..Account::default() });
        }
    }

    #[test]
    fn two_replies_in_the_wrong_order_are_one_that_is_late() {
        let account = at_every_split(&numbered(Framing::Lines), 4, |replies| replies.swap(1, 2));
        assert_eq!(account, Account { answers: 3, late: 1, ..Account::default() });
    }

    #[test]
    fn a_reply_that_is_cut_short_does_not_take_the_others_along() {
        // (Cut right before its second '|', it is completed by the next one's first: two are corrupted.)
        for left in (1..29).filter(|left| *left != 19) {
            let account = at_every_split(&numbered(Framing::Raw), 4, |replies| replies[1].truncate(left));
            assert_eq!(account.answers, 3, "{left}: {account:?}");
            assert_eq!(account.corrupted + account.lost, 1, "{left}: {account:?}");
        }
    }

    #[test]
    fn the_end_in_the_middle_of_a_reply_is_a_short_one() {
        let script = numbered(Framing::Raw);
        let (dialogue, replies) = conversation(&script, 3);
        let account = receive(dialogue, &script, [&replies[0][..], &replies[1][..10]], false);
        assert_eq!(account, Account { answers: 1, short: 1, lost: 1, ..Account::default() });
    }

    #[test]
    fn a_reply_of_another_length_ends_where_its_own_framing_says() {
        let said =
            [Said::Numbered { min: 64, max: 64 }, Said::Template("seq {seq}".parse().expect("a template"))];
        for said in said {
            for (framing, wrong) in [(Framing::Lines, &b"pong\n"[..]), (Framing::Prefixed, b"\0\0\0\x04pong")]
            {
                for expected in [Expected::Echo, Expected::Text(b"a longer one".to_vec())] {
                    let script = Script::new(7, framing, said.clone(), expected);
                    let account = at_every_split(&script, 3, |replies| replies[1] = wrong.to_vec());
                    assert_eq!(
                        account,
                        Account { answers: 2, corrupted: 1, ..Account::default() },
                        "{framing:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn any_message_is_a_reply_where_that_was_asked_for() {
        let said = Said::Numbered { min: 64, max: 64 };
        let script = Script::new(7, Framing::Lines, said, Expected::Anything);
        let (dialogue, _) = conversation(&script, 2);
        let account = receive(dialogue, &script, [&b"on"[..], b"e\r\ntwo", b"\nthree\n"], false);
        assert_eq!(account, Account { answers: 2, duplicates: 1, ..Account::default() });
    }

    #[test]
    fn datagrams_come_in_any_order_and_any_number() {
        let script = numbered(Framing::Raw);
        let (mut dialogue, replies) = conversation(&script, 3);
        let mut received = Vec::new();
        let mut wrong = replies[1].clone();
        wrong.pop();
        for bytes in [&replies[2], &replies[0], &replies[0], &wrong, &wrong] {
            dialogue.receive_datagram(&script, &mut Rendered::default(), bytes, |it| received.push(it));
        }
        assert!(matches!(
            received[..],
            [
                Received::Answer(_),
                Received::Late(_),
                Received::Duplicate,
                Received::Corrupted(Some(_)),
                Received::Duplicate
            ]
        ));
    }

    #[test]
    fn a_broken_line_that_is_longer_than_it_should_be_ends_where_it_ends() {
        let script = numbered(Framing::Lines);
        let (dialogue, replies) = conversation(&script, 2);
        // What might be the head of the next one, again and again, one sign at a time.
        let junk = "|0".repeat(60);
        let bytes = [junk.as_bytes(), b"\n", &replies[1]].concat();
        let account = receive(dialogue, &script, bytes.chunks(1), true);
        assert_eq!((account.answers, account.corrupted), (1, 1), "{account:?}");
    }

    proptest! {
        #[test]
        fn the_short_cut_hears_what_is_heard_at_length(
            order in prop::collection::vec((0usize..8, 0usize..90, 0usize..600), 0..16),
            chunk in 1usize..200,
            framing in prop_oneof![Just(Framing::Raw), Just(Framing::Lines), Just(Framing::Prefixed)],
            high in 20usize..90,
        ) {
            let said = Said::Numbered { min: 20, max: high };
            let script = Script::new(11, framing, said, Expected::Echo);
            // Mostly right replies; some come again, early, short or damaged.
            let bytes_of = |replies: &[Vec<u8>]| {
                let mut bytes = Vec::new();
                for (index, (which, cut, flip)) in order.iter().enumerate() {
                    let mut reply = replies[if *flip < 500 { index % 8 } else { *which }].clone();
                    match *flip {
                        550.. => reply.truncate(*cut),
                        400..500 if *cut < reply.len() => reply[*cut] ^= 1 << (*flip % 8),
                        _ => {}
                    }
                    bytes.extend(reply);
                }
                bytes
            };
            let (short, replies) = conversation(&script, 8);
            let (mut long, _) = conversation(&script, 8);
            long.in_flight.iter_mut().for_each(|sent| sent.numbered = None);
            let bytes = bytes_of(&replies);
            let short = receive(short, &script, bytes.chunks(chunk), true);
            prop_assert_eq!(short, receive(long, &script, bytes.chunks(chunk), true));
        }

        #[test]
        fn whatever_comes_every_message_is_accounted_for_once(
            junk in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..6),
            order in prop::collection::vec((0usize..6, 0usize..70), 0..9),
            chunk in 1usize..200,
        ) {
            let script = numbered(Framing::Raw);
            let (dialogue, replies) = conversation(&script, 6);
            let mut bytes = Vec::new();
            for (index, (which, cut)) in order.iter().enumerate() {
                let reply = &replies[*which];
                bytes.extend_from_slice(&reply[..reply.len().min(cut + 8)]);
                bytes.extend(junk.get(index).into_iter().flatten());
            }
            let account = receive(dialogue, &script, bytes.chunks(chunk), true);
            let all = account.answers + account.late + account.corrupted + account.lost + account.short
                + account.timed_out;
            prop_assert_eq!(all, 6);
        }
    }
}
