//! The messages and the replies that must come back: payloads that can be recognised, and need not be stored.
//!
//! A numbered message says who sent it, which one it is and how long; the rest is a slice of a seeded pool
//! of text. So the expected reply is computed again when a reply comes, and compared in one sweep. A million
//! messages in flight cost only their numbers and times. All of it is printable and without line ends,
//! so that it passes through a server of lines, and can be read in a capture.
//!
//! ```text
//! |ccccsssssssnnnnnxx|BODY...      c: connection, s: sequence, n: bytes, x: check;
//!                                  6 bits a character, '0' to 'o'
//! ```
//! `|` occurs nowhere else, so a reader that lost its place finds the next message. The check tells a damaged
//! number from another one.
//!
//! Messages shorter than that head, and those of a template, carry no number: they are compared in the
//! order in which they were sent.
//!
//! Knows no sockets and no clock. Invariant: the same seed gives the same messages.

use std::fmt::Write as _;

#[cfg(feature = "web")]
use super::http::Asked;
use crate::protocol::Framing;

/// The head of a numbered message.
pub(super) const HEAD_BYTES: usize = 20;

/// Bodies begin anywhere in this part of the pool.
const POOL_BYTES: usize = 64 * 1024;

/// The messages to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Messages of a length from `min` to `max` bytes, evenly distributed, numbered where they are long
    /// enough.
    Numbered {
        /// The shortest.
        min: usize,
        /// The longest.
        max: usize,
    },
    /// The same text each time, with other numbers.
    Template(Template),
}

/// What must come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The message that was sent.
    Echo,
    /// As many bytes as were sent, whatever they are.
    AnyOfThatLength,
    /// This text, framed like the message.
    Text(Vec<u8>),
    /// One message, whatever it is. If the protocol has no messages, whatever one read returns.
    Anything,
}

/// Text with places for numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Sequence,
    Connection,
    Random(usize),
}

impl Template {
    /// The fewest and the most bytes of a payload. A number has one digit at least, and ten in practice at most.
    pub fn size(&self) -> (usize, usize) {
        let bytes = |digits: usize| {
            let of_part = |part: &Part| match part {
                Part::Text(text) => text.len(),
                Part::Sequence | Part::Connection => digits,
                Part::Random(count) => *count,
            };
            self.0.iter().map(of_part).sum()
        };
        (bytes(1), bytes(10))
    }
}

impl std::str::FromStr for Template {
    type Err = String;

    /// `{seq}`, `{conn}` and `{rand:N}` (N letters and digits) stand for what changes; `{{` is a brace.
    fn from_str(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let Some(at) = rest.find('{') else {
                parts.push(Part::Text(rest.into()));
                break;
            };
            if at > 0 {
                parts.push(Part::Text(rest[..at].into()));
            }
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix('{') {
                parts.push(Part::Text("{".into()));
                rest = behind;
                continue;
            }
            let end = rest.find('}').ok_or("a { has no }: write {{ for a brace")?;
            parts.push(match &rest[..end] {
                "seq" => Part::Sequence,
                "conn" => Part::Connection,
                name => match name.strip_prefix("rand:").map(str::parse::<usize>) {
                    Some(Ok(count @ 1..=65536)) => Part::Random(count),
                    Some(_) => {
                        return Err(format!("{{{name}}} needs a count from 1 to 65536, as in {{rand:8}}"));
                    }
                    None => {
                        return Err(format!("{{{name}}} is unknown: use {{seq}}, {{conn}} or {{rand:N}}"));
                    }
                },
            });
            rest = &rest[end + 1..];
        }
        match parts.is_empty() {
            true => Err("a payload needs at least one byte".into()),
            false => Ok(Template(parts)),
        }
    }
}

impl Template {
    /// Whether the text can contain this character once it is filled in.
    pub fn holds(&self, sign: char) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Text(text) if text.contains(sign)))
    }

    fn render(&self, seed: u64, connection: u32, sequence: u64, into: &mut String) {
        into.clear();
        let mut state = mix(seed, connection, sequence);
        for part in &self.0 {
            match part {
                Part::Text(text) => into.push_str(text),
                Part::Sequence => write!(into, "{sequence}").expect("a String takes everything"),
                Part::Connection => write!(into, "{connection}").expect("a String takes everything"),
                Part::Random(count) => into.extend((0..*count).map(|_| {
                    const SIGNS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
                    state = step(state);
                    SIGNS[(state >> 59) as usize] as char
                })),
            }
        }
    }
}

/// What all connections of a run send and expect.
pub struct Script {
    seed: u64,
    framing: Framing,
    said: Said,
    expected: Expected,
    pool: Box<[u8]>,
    /// Replies carry their numbers.
    numbered: bool,
    /// The requests whose bodies the messages are; without bodies, the requests are the messages.
    #[cfg(feature = "web")]
    asked: Option<(Asked, Vec<u8>)>,
    /// Sent first on each connection, and answered before anything else is sent.
    #[cfg(feature = "web")]
    handshake: Option<Vec<u8>>,
}

/// What tells a numbered message from the others. It is kept from sending to the reply, so that it
/// is computed once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbered {
    head: [u8; HEAD_BYTES],
    /// Head and body.
    len: u32,
    /// Where its body begins in the pool.
    from: u32,
}

/// Text that was put together for one message: made once for all the pieces in which a reply comes.
#[derive(Default)]
pub struct Rendered {
    of: Option<(u32, u64)>,
    text: String,
}

/// A message as it is on the wire, end to end.
pub(super) struct Pieces<'a> {
    /// The length prefix and the head.
    head: [u8; 4 + HEAD_BYTES],
    head_len: usize,
    body: &'a [u8],
    tail: &'a [u8],
    /// The bytes must be these; otherwise only their number counts.
    looked_at: bool,
}

impl Script {
    /// For connections that frame their messages like this.
    pub fn new(seed: u64, framing: Framing, said: Said, expected: Expected) -> Script {
        let longest = match said {
            Said::Numbered { max, .. } => max,
            Said::Template(_) => 0,
        };
        let mut state = seed;
        let pool = (0..POOL_BYTES + longest).map(|_| {
            state = step(state);
            digit(state >> 58)
        });
        let pool = pool.collect();
        let long_enough = matches!(said, Said::Numbered { min, .. } if min >= HEAD_BYTES);
        let numbered = long_enough && expected == Expected::Echo;
        Script {
            seed,
            framing,
            pool,
            said,
            expected,
            numbered,
            #[cfg(feature = "web")]
            asked: None,
            #[cfg(feature = "web")]
            handshake: None,
        }
    }

    /// Over WebSocket: the handshake that each connection begins with.
    #[cfg(feature = "web")]
    pub fn shaking_hands(mut self, handshake: Vec<u8>) -> Script {
        self.handshake = Some(handshake);
        self.numbered = false; // messages come in order, and are not searched for
        self
    }

    /// What a connection begins with.
    pub fn handshake(&self) -> Option<&[u8]> {
        #[cfg(feature = "web")]
        if let Some(handshake) = &self.handshake {
            return Some(handshake);
        }
        None
    }

    /// The first bytes of the request that HTTP or a WebSocket begins with: as many as no answer begins with.
    pub(super) fn request_begins(&self) -> Option<&[u8]> {
        #[cfg(feature = "web")]
        if let Some(head) = self.handshake.as_ref().or(self.asked.as_ref().map(|(_, head)| head)) {
            return Some(&head[..head.len().min(8)]);
        }
        None
    }

    /// Over HTTP: the requests. `last`: each has a connection of its own.
    #[cfg(feature = "web")]
    pub fn asking(mut self, asked: Asked, last: bool) -> Script {
        let head = asked.head(last);
        self.asked = Some((asked, head));
        self.numbered = false; // answers come in the order of the requests, and are not searched for
        self
    }

    /// Whether the answers to these requests have no bodies.
    #[cfg(feature = "web")]
    pub(super) fn wants_no_body(&self) -> bool {
        self.asked.as_ref().is_some_and(|(asked, _)| asked.wants_no_body())
    }

    /// The request around a message; whether the message is a part of it.
    #[cfg(feature = "web")]
    pub(super) fn ask(&self, len: usize, put: &mut impl FnMut(&[u8])) -> bool {
        let Some((asked, head)) = &self.asked else { return true };
        put(head);
        match asked.has_body {
            true => put(format!("Content-Length: {len}\r\n\r\n").as_bytes()),
            false => put(b"\r\n"),
        }
        asked.has_body
    }

    /// What must come back.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// How messages are told apart.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether replies carry their numbers.
    pub(super) fn is_numbered(&self) -> bool {
        self.numbered
    }

    /// Where the head begins on the wire.
    pub(super) fn prefix_len(&self) -> usize {
        if self.framing == Framing::Prefixed { 4 } else { 0 }
    }

    /// The message, on the wire.
    #[inline]
    pub(super) fn message<'a>(
        &'a self,
        connection: u32,
        sequence: u64,
        rendered: &'a mut Rendered,
    ) -> Pieces<'a> {
        match &self.said {
            Said::Numbered { .. } => match self.drawn(connection, sequence) {
                (len, from, _) if len < HEAD_BYTES => self.framed(None, &self.pool[from..from + len]),
                (len, from, check) => {
                    let body = &self.pool[from..from + len - HEAD_BYTES];
                    self.framed(Some(head(connection, sequence, len, check)), body)
                }
            },
            Said::Template(template) => {
                if rendered.of != Some((connection, sequence)) {
                    template.render(self.seed, connection, sequence, &mut rendered.text);
                    rendered.of = Some((connection, sequence));
                }
                self.framed(None, rendered.text.as_bytes())
            }
        }
    }

    /// The length, the place in the pool and the check of this message, all drawn from the seed.
    #[inline]
    fn drawn(&self, connection: u32, sequence: u64) -> (usize, usize, u64) {
        let Said::Numbered { min, max } = self.said else { return (0, 0, 0) };
        let random = mix(self.seed, connection, sequence);
        let len = if min == max { min } else { min + (random >> 20) as usize % (max - min + 1) };
        (len, random as usize % POOL_BYTES, random >> 40)
    }

    /// What identifies this message, if replies carry their numbers.
    #[inline(always)]
    pub(super) fn numbered(&self, connection: u32, sequence: u64) -> Option<Numbered> {
        if !self.is_numbered() {
            return None;
        }
        let (len, from, check) = self.drawn(connection, sequence);
        let head = head(connection, sequence, len, check);
        Some(Numbered { head, len: len as u32, from: from as u32 })
    }

    fn body(&self, numbered: &Numbered) -> &[u8] {
        &self.pool[numbered.from as usize..][..numbered.len as usize - HEAD_BYTES]
    }

    /// The message, on the wire, in pieces.
    #[inline]
    pub(super) fn write_numbered(&self, numbered: &Numbered, put: &mut impl FnMut(&[u8])) {
        if self.framing == Framing::Prefixed {
            put(&numbered.len.to_be_bytes());
        }
        put(&numbered.head);
        if numbered.len as usize > HEAD_BYTES {
            put(self.body(numbered));
        }
        if self.framing == Framing::Lines {
            put(b"\n");
        }
    }

    /// Returns how many of `bytes` are the whole message, as it is on the wire; `None` if they are not, or not yet.
    /// The short cut of [`Pieces::matching`], which is also the one that knows where a difference begins.
    #[inline]
    pub(super) fn is_numbered_whole(&self, numbered: &Numbered, bytes: &[u8]) -> Option<usize> {
        let (prefix_len, tail_len) = match self.framing {
            #[cfg(feature = "web")]
            Framing::Http | Framing::WebSocket => (0, 0),
            Framing::Raw => (0, 0),
            Framing::Lines => (0, 1),
            Framing::Prefixed => (4, 0),
        };
        let len = numbered.len as usize;
        let wire = bytes.get(..prefix_len + len + tail_len)?;
        let (prefix, rest) = wire.split_at(prefix_len);
        let (head, rest) = rest.split_first_chunk::<HEAD_BYTES>()?;
        let (body, tail) = rest.split_at(len - HEAD_BYTES);
        let right = *head == numbered.head
            && body == self.body(numbered)
            && (prefix.is_empty() || prefix == numbered.len.to_be_bytes())
            && (tail.is_empty() || tail == b"\n");
        right.then_some(wire.len())
    }

    /// The reply to it, on the wire.
    #[inline]
    pub(super) fn reply<'a>(
        &'a self,
        connection: u32,
        sequence: u64,
        rendered: &'a mut Rendered,
    ) -> Pieces<'a> {
        match &self.expected {
            Expected::Echo => self.message(connection, sequence, rendered),
            Expected::Text(text) => self.framed(None, text),
            Expected::AnyOfThatLength | Expected::Anything => {
                let mut pieces = self.message(connection, sequence, rendered);
                pieces.looked_at = false;
                pieces
            }
        }
    }

    #[inline]
    fn framed<'a>(&self, numbers: Option<[u8; HEAD_BYTES]>, body: &'a [u8]) -> Pieces<'a> {
        let mut pieces = Pieces { head: [0; 4 + HEAD_BYTES], head_len: 0, body, tail: b"", looked_at: true };
        let payload_len = body.len() + numbers.map_or(0, |_| HEAD_BYTES);
        match self.framing {
            #[cfg(feature = "web")]
            Framing::Http | Framing::WebSocket => {}
            Framing::Raw => {}
            Framing::Lines => pieces.tail = b"\n",
            Framing::Prefixed => {
                pieces.head[..4].copy_from_slice(&(payload_len as u32).to_be_bytes());
                pieces.head_len = 4;
            }
        }
        if let Some(numbers) = numbers {
            pieces.head[pieces.head_len..pieces.head_len + HEAD_BYTES].copy_from_slice(&numbers);
            pieces.head_len += HEAD_BYTES;
        }
        pieces
    }

    /// Whether any message counts as a reply, up to where its framing ends. (Without a framing, only their lengths tell
    /// replies apart.)
    pub(super) fn expects_anything(&self, framed: bool) -> bool {
        match self.expected {
            Expected::Anything => true,
            Expected::AnyOfThatLength => framed,
            _ => false,
        }
    }

    /// Returns what comes instead of the expected message of `len` bytes, judged by its beginning.
    pub(super) fn read_other_head(
        &self,
        connection: u32,
        next_sequence: u64,
        head: &[u8],
        len: usize,
    ) -> Other {
        let prefix_len = self.prefix_len();
        if head.len() < prefix_len {
            return Other::NotYet;
        }
        let own_len = match head[..prefix_len].try_into().map(u32::from_be_bytes) {
            Ok(length) if (length as usize) < LENGTH_BELIEVED_MAX => prefix_len + length as usize,
            _ => len,
        };
        if !self.is_numbered() {
            return Other::OfLength(own_len);
        }
        if head.len() == prefix_len && own_len > prefix_len {
            return Other::NotYet;
        }
        // Without the character that ours begin with, it is none of ours, and only its own length counts.
        if head.get(prefix_len) != Some(&b'|') {
            return Other::OfLength(own_len);
        }
        if head.len() < prefix_len + HEAD_BYTES {
            return Other::NotYet;
        }
        match self.read_head(connection, next_sequence, head) {
            Some(sequence) => Other::Message(sequence),
            None => Other::OfLength(len),
        }
    }

    /// Returns the message of this connection that has this head, if it is one. All its numbers, up to the length, must
    /// be ones that we have given.
    pub(super) fn read_head(&self, connection: u32, next_sequence: u64, bytes: &[u8]) -> Option<u64> {
        let numbers = bytes.get(self.prefix_len()..self.prefix_len() + HEAD_BYTES)?;
        let sequence = numbers[5..12].iter().try_fold(0, |number, byte| {
            matches!(byte, 48..=111).then(|| number << 6 | u64::from(byte - 48))
        })?;
        let mut nothing = Rendered::default();
        let expected =
            (sequence < next_sequence).then(|| self.message(connection, sequence, &mut nothing))?;
        (bytes[..expected.head_len] == expected.head[..expected.head_len]).then_some(sequence)
    }
}

/// What stands at the beginning of a reply that is not the expected one.
pub(super) enum Other {
    /// The head of this message, which we sent.
    Message(u64),
    /// No head of ours; it has this length.
    OfLength(usize),
    /// Too few bytes to tell.
    NotYet,
}

/// A length prefix with a larger number is taken for a damaged one.
const LENGTH_BELIEVED_MAX: usize = 64 << 20;

impl Pieces<'_> {
    pub(super) fn len(&self) -> usize {
        self.head_len + self.body.len() + self.tail.len()
    }

    /// The length of the part that identifies the message.
    pub(super) fn head(&self) -> &[u8] {
        &self.head[..self.head_len]
    }

    /// The three parts, in order.
    #[inline]
    pub(super) fn parts(&self) -> [&[u8]; 3] {
        [self.head(), self.body, self.tail]
    }

    /// Returns how many of `bytes` equal the message from `at` on.
    #[inline]
    pub(super) fn matching(&self, mut at: usize, bytes: &[u8]) -> usize {
        if !self.looked_at {
            return bytes.len().min(self.len() - at);
        }
        let mut matched = 0;
        for part in self.parts() {
            if at >= part.len() {
                at -= part.len();
                continue;
            }
            let (part, rest) = (&part[at..], &bytes[matched..]);
            let count = part.len().min(rest.len());
            if part[..count] != rest[..count] {
                return matched + part.iter().zip(rest).take_while(|(a, b)| a == b).count();
            }
            matched += count;
            if count < part.len() {
                break;
            }
            at = 0;
        }
        matched
    }
}

/// Six bits as a printable sign: `0` to `o`, which `|` is not among.
#[inline]
fn digit(bits: u64) -> u8 {
    48 + (bits & 63) as u8
}

/// 48 bits as eight digits, the highest in the highest byte; all at once, by moving halves apart until each six
/// bits have a byte of their own. One by one it was a sixth of our own time per message.
#[inline]
fn digits(number: u64) -> u64 {
    let x = number & 0xFFFF_FFFF_FFFF;
    let x = (x & 0xFFFF_FF00_0000) << 8 | (x & 0xFF_FFFF);
    let x = (x & 0x00FF_F000_00FF_F000) << 4 | (x & 0x0000_0FFF_0000_0FFF);
    let x = (x & 0x0FC0_0FC0_0FC0_0FC0) << 2 | (x & 0x003F_003F_003F_003F);
    x + 0x3030_3030_3030_3030
}

#[inline]
fn head(connection: u32, sequence: u64, len: usize, check: u64) -> [u8; HEAD_BYTES] {
    const SIGN: u64 = b'|' as u64;
    const SEVEN: u64 = (1 << 56) - 1;
    let connection = digits(u64::from(connection)) & 0xFFFF_FFFF;
    let sequence = digits(sequence) & SEVEN;
    let len = digits((len as u64) << 12 | check & 0xFFF) & SEVEN;
    // |cccc sss, ssss nnnn, nxx|: in three words, for the bytes one by one would cost as much as all the rest.
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&(SIGN << 56 | connection << 24 | sequence >> 32).to_be_bytes());
    head[8..16].copy_from_slice(&(sequence << 32 | len >> 24).to_be_bytes());
    head[16..].copy_from_slice(&((len << 8 | SIGN) as u32).to_be_bytes());
    head
}

/// A number that looks random, and is the same for the same message. SplitMix64's finaliser (Steele,
/// Lea, Flood 2014).
#[inline]
pub(super) fn mix(seed: u64, connection: u32, sequence: u64) -> u64 {
    let mut z = seed ^ u64::from(connection).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ sequence.rotate_left(32);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The next of a row of them.
#[inline]
pub(super) fn step(state: u64) -> u64 {
    mix(state.wrapping_add(0x9E37_79B9_7F4A_7C15), 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_in() {
        let template: Template = "{{{seq}} on {conn}: {rand:4}".parse().expect("a template");
        let mut text = String::new();
        template.render(1, 7, 12, &mut text);
        assert!(text.starts_with("{12} on 7: ") && text.len() == 15, "{text}");
        let first = text.clone();
        template.render(1, 7, 12, &mut text);
        assert_eq!(text, first);
    }

    #[test]
    fn what_is_wrong_with_a_template_is_named() {
        for (text, hint) in
            [("{", "no }"), ("{size}", "{size} is unknown"), ("{rand:x}", "{rand:8}"), ("", "one byte")]
        {
            let problem = text.parse::<Template>().expect_err(text);
            assert!(problem.contains(hint), "{text}: {problem}");
        }
    }

    #[test]
    fn digits_all_at_once_are_the_digits_one_by_one() {
        let mut number = 1;
        for _ in 0..10_000 {
            number = step(number);
            let one_by_one: Vec<u8> = (0..8).map(|index| digit(number >> (42 - 6 * index))).collect();
            assert_eq!(digits(number).to_be_bytes()[..], one_by_one[..]);
        }
    }

    #[test]
    fn a_numbered_message_is_printable_and_recognised() {
        for framing in [Framing::Raw, Framing::Lines, Framing::Prefixed] {
            let script = Script::new(9, framing, Said::Numbered { min: 20, max: 90 }, Expected::Echo);
            for sequence in (0..200).chain([(1 << 42) - 1]) {
                let mut rendered = Rendered::default();
                let message = script.message(3, sequence, &mut rendered).parts().concat();
                let payload = &message[script.prefix_len()..];
                let payload = payload.strip_suffix(b"\n").unwrap_or(payload);
                assert!(payload.iter().all(|byte| (33..127).contains(byte)), "{payload:?}");
                assert_eq!(payload.iter().filter(|byte| **byte == b'|').count(), 2);
                assert!((20..=90).contains(&payload.len()));
                assert_eq!(script.read_head(3, 1 << 42, &message), Some(sequence));
                assert_eq!(script.read_head(3, sequence, &message), None, "it was never sent");
                let numbered = script.numbered(3, sequence).expect("replies say which they are");
                let mut said = Vec::new();
                script.write_numbered(&numbered, &mut |part| said.extend_from_slice(part));
                assert_eq!(said, message);
                assert_eq!(script.is_numbered_whole(&numbered, &message), Some(message.len()));
                assert_eq!(script.is_numbered_whole(&numbered, &message[..message.len() - 1]), None);
                assert_eq!(script.read_head(4, 1 << 42, &message), None, "it is another connection's");
            }
        }
    }
}
