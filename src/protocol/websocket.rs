//! WebSocket (RFC 6455), the server's side, once the handshake is done: frames in, messages out, and back.
//!
//! `tungstenite` reads and writes the heads of frames; what a frame may be, when, is judged here, strictly. A message in one
//! frame waits where it was received until it is whole; one in several is put together here, within limits on its bytes
//! and its fragments. Text is checked as it arrives, also inside a frame that is not whole: it is refused at the first byte
//! that can't be UTF-8. No byte is checked again when more bytes arrive, so long text costs linear time in any pieces.
//!
//! Every ping is answered at once, with its payload, so pongs keep the order of the pings. What a flood of pings can make us
//! hold is bounded: a peer with a congested outbox is not decoded further. A close is answered with its own code, and then the
//! connection ends. Extensions are not spoken: none is agreed to in the handshake, so their bits are a violation.
//!
//! Invariant: after a close frame nothing is sent, and nothing more is looked at.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use super::message::{Message, Sink, Violation};

/// Fragments of one message: empty ones cost us something, too.
pub const FRAGMENTS_MAX: u32 = 1024;

/// What a control frame may carry (section 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// The longest head of a frame from a client: two bytes, eight of length, four of mask.
pub(super) const HEAD_BYTES_MAX: usize = 14;

/// Close codes that are ours to send (section 7.4.1).
pub mod code {
    /// Everything has been said.
    pub const NORMAL: u16 = 1000;
    /// The server stops.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer broke the protocol.
    pub const PROTOCOL: u16 = 1002;
    /// Text that is none.
    pub const NOT_TEXT: u16 = 1007;
    /// Too many fragments.
    pub const POLICY: u16 = 1008;
    /// A message that is too long.
    pub const TOO_LONG: u16 = 1009;
}

/// Where a connection stands.
#[derive(Debug)]
pub struct WebSocket {
    message_bytes_max: u32,
    /// The message whose first fragments have come.
    begun: Option<Box<Begun>>,
    checked: Checked,
    /// We have pinged, and heard nothing since.
    is_asked: bool,
    /// It will be closed soon, because the server stops.
    pub is_leaving: bool,
    closed: bool,
}

#[derive(Debug)]
struct Begun {
    is_text: bool,
    bytes: Vec<u8>,
    fragments: u32,
}

/// How far the text that is arriving has been checked.
#[derive(Debug, Default)]
struct Checked {
    /// Payload bytes of the frame that is not whole yet.
    frame_bytes: usize,
    /// The first `begun` bytes of a character whose other bytes have not arrived.
    character: [u8; 4],
    begun: usize,
}

impl Checked {
    /// Checks the bytes that follow those that were checked before.
    ///
    /// # Errors
    /// Where no continuation could make them UTF-8.
    fn check(&mut self, mut text: &[u8]) -> Result<(), Violation> {
        while self.begun > 0 {
            let Some((byte, rest)) = text.split_first() else { return Ok(()) };
            text = rest;
            self.character[self.begun] = *byte;
            self.begun += 1;
            match std::str::from_utf8(&self.character[..self.begun]) {
                Ok(_) => self.begun = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(NOT_TEXT),
            }
        }
        match std::str::from_utf8(text) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_none() => {
                let character = &text[error.valid_up_to()..];
                self.character[..character.len()].copy_from_slice(character);
                self.begun = character.len();
                Ok(())
            }
            Err(_) => Err(NOT_TEXT),
        }
    }
}

/// What the waiting bytes begin with.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole message. The caller consumes `consumed` bytes when it has served it.
    Message {
        /// The message.
        message: Message<'a>,
        /// How many bytes its last frame took.
        consumed: usize,
    },
    /// A frame that is no message, or not the last of one. The caller must consume this many bytes.
    Frame(usize),
    /// The peer has closed, and been answered: the caller must finish the connection.
    Closed,
    /// The beginning of a frame, or nothing: more bytes are needed.
    NeedMore,
}

fn broken(problem: &'static str) -> Violation {
    Violation::WebSocket { code: code::PROTOCOL, problem }
}

const NOT_TEXT: Violation = Violation::WebSocket { code: code::NOT_TEXT, problem: "the text is not UTF-8" };

impl WebSocket {
    /// The state after the handshake. Messages have at most `message_bytes_max` bytes.
    pub fn new(message_bytes_max: u32) -> WebSocket {
        WebSocket {
            message_bytes_max,
            begun: None,
            checked: Checked::default(),
            is_asked: false,
            is_leaving: false,
            closed: false,
        }
    }

    /// Decodes what `bytes` begin with. A message is unmasked into `room`; immediate answers go to `sink`.
    ///
    /// # Errors
    /// If the peer breaks the protocol: the caller must [close](WebSocket::close) it with that code.
    pub fn decode<'a>(
        &mut self,
        bytes: &[u8],
        room: &'a mut Vec<u8>,
        sink: &mut impl Sink,
    ) -> Result<Step<'a>, Violation> {
        let mut cursor = Cursor::new(bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| broken("the opcode is unknown"))?;
        let Some((header, length)) = parsed else {
            // What can be told by the first bytes is told at once.
            self.judge_beginning(bytes)?;
            return Ok(Step::NeedMore);
        };
        self.is_asked = false;
        let head_len = cursor.position() as usize;
        let mask = self.judge(&header, head_len, length)?;
        let Some(payload) = bytes[head_len..].get(..length as usize) else {
            if self.is_text(header.opcode) {
                self.check_new_text(&bytes[head_len..], mask, room)?;
            }
            return Ok(Step::NeedMore);
        };
        let consumed = head_len + payload.len();
        match header.opcode {
            OpCode::Control(control) => {
                room.clear();
                unmask(payload, mask, room);
                self.answer_control(control, room, sink).map(|()| match self.closed {
                    true => Step::Closed,
                    false => Step::Frame(consumed),
                })
            }
            OpCode::Data(data) => {
                if self.begun.is_none() && header.is_final {
                    // The common case.
                    self.checked = Checked::default(); // all of it is checked below
                    room.clear();
                    unmask(payload, mask, room);
                    let message = match data {
                        Data::Text => Message::Text(std::str::from_utf8(room).map_err(|_| NOT_TEXT)?),
                        _ => Message::Binary(room),
                    };
                    return Ok(Step::Message { message, consumed });
                }
                self.append(data, payload, mask)?;
                let Some(whole) = self.begun.take_if(|_| header.is_final) else {
                    return Ok(Step::Frame(consumed));
                };
                self.checked = Checked::default();
                *room = whole.bytes;
                let message = match whole.is_text {
                    true => Message::Text(std::str::from_utf8(room).map_err(|_| NOT_TEXT)?),
                    false => Message::Binary(room),
                };
                Ok(Step::Message { message, consumed })
            }
        }
    }

    /// Of a head that is not all there.
    fn judge_beginning(&self, bytes: &[u8]) -> Result<(), Violation> {
        let [first, rest @ ..] = bytes else { return Ok(()) };
        if first & 0x70 != 0 {
            return Err(broken("a reserved bit is set"));
        }
        if matches!(first & 0x0f, 3..=7 | 11..=15) {
            return Err(broken("the opcode is unknown"));
        }
        match rest.first() {
            Some(second) if second & 0x80 == 0 => Err(broken("the frame is not masked")),
            _ => Ok(()),
        }
    }

    /// Sections 5.2 to 5.5; the mask.
    fn judge(&self, header: &FrameHeader, head_len: usize, length: u64) -> Result<[u8; 4], Violation> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(broken("a reserved bit is set"));
        }
        let mask = header.mask.ok_or(broken("the frame is not masked"))?;
        if header.len(length) != head_len || length > i64::MAX as u64 {
            return Err(broken("the length is not in its shortest form"));
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final => return Err(broken("a control frame is fragmented")),
            OpCode::Control(_) if length > CONTROL_BYTES_MAX as u64 => {
                return Err(broken("a control frame is too long"));
            }
            OpCode::Control(_) => {}
            OpCode::Data(Data::Continue) if self.begun.is_none() => {
                return Err(broken("there is nothing to be continued"));
            }
            OpCode::Data(Data::Text | Data::Binary) if self.begun.is_some() => {
                return Err(broken("a message begins within another"));
            }
            OpCode::Data(_) => {
                let so_far = self.begun.as_ref().map_or(0, |begun| begun.bytes.len()) as u64;
                if length > u64::from(self.message_bytes_max) - so_far {
                    return Err(Violation::WebSocket {
                        code: code::TOO_LONG,
                        problem: "the message is too long",
                    });
                }
            }
        }
        Ok(mask)
    }

    fn append(&mut self, data: Data, payload: &[u8], mask: [u8; 4]) -> Result<(), Violation> {
        let is_text = data == Data::Text;
        let begun =
            self.begun.get_or_insert_with(|| Box::new(Begun { is_text, bytes: Vec::new(), fragments: 0 }));
        begun.fragments += 1;
        if begun.fragments > FRAGMENTS_MAX {
            return Err(Violation::WebSocket { code: code::POLICY, problem: "there are too many fragments" });
        }
        let begin = begun.bytes.len();
        unmask(payload, mask, &mut begun.bytes);
        if begun.is_text {
            let new = begin + std::mem::take(&mut self.checked.frame_bytes);
            self.checked.check(&begun.bytes[new..])?;
        }
        Ok(())
    }

    fn is_text(&self, opcode: OpCode) -> bool {
        match opcode {
            OpCode::Data(Data::Text) => true,
            OpCode::Data(Data::Continue) => self.begun.as_ref().is_some_and(|begun| begun.is_text),
            _ => false,
        }
    }

    /// Checks the text of a frame that is not whole yet, but for what was checked when less of it was there.
    fn check_new_text(
        &mut self,
        payload: &[u8],
        mut mask: [u8; 4],
        room: &mut Vec<u8>,
    ) -> Result<(), Violation> {
        let before = std::mem::replace(&mut self.checked.frame_bytes, payload.len());
        mask.rotate_left(before % 4);
        room.clear();
        unmask(&payload[before..], mask, room);
        self.checked.check(room)
    }

    fn answer_control(
        &mut self,
        control: Control,
        payload: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), Violation> {
        match control {
            Control::Ping => {
                put_head(OpCode::Control(Control::Pong), payload.len(), sink);
                sink.put(payload);
            }
            Control::Close => {
                let code = match payload {
                    [] => None,
                    [_] => return Err(broken("half a close code")),
                    [high, low, reason @ ..] => {
                        let code = u16::from_be_bytes([*high, *low]);
                        if !CloseCode::from(code).is_allowed() {
                            return Err(broken("the close code is none"));
                        }
                        std::str::from_utf8(reason).map_err(|_| NOT_TEXT)?;
                        Some(code)
                    }
                };
                match code {
                    Some(code) => self.close(code, "", sink),
                    None => {
                        put_head(OpCode::Control(Control::Close), 0, sink);
                        self.closed = true;
                    }
                }
            }
            _ => {} // a pong has told that somebody is there
        }
        Ok(())
    }

    /// Appends a message, in one frame. Behind a Close frame, nothing is appended.
    #[inline(never)]
    pub fn encode(&mut self, message: Message<'_>, sink: &mut impl Sink) {
        if self.closed {
            return;
        }
        encode(message, sink);
    }

    /// Whether nothing more is said.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Asks whether the peer is still there; false where it has been asked, and not been heard since.
    pub fn ask(&mut self, sink: &mut impl Sink) -> bool {
        if self.is_asked || self.closed {
            return false;
        }
        self.is_asked = true;
        put_head(OpCode::Control(Control::Ping), 0, sink);
        true
    }

    /// Says that we close, with this code and a reason of at most 123 bytes. Nothing is said after it.
    pub fn close(&mut self, code: u16, reason: &str, sink: &mut impl Sink) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        put_head(OpCode::Control(Control::Close), 2 + reason.len(), sink);
        sink.put(&code.to_be_bytes());
        sink.put(reason.as_bytes());
    }
}

/// Appends a message in one frame. It is the same for every peer, because what a server sends is not masked.
pub(super) fn encode(message: Message<'_>, sink: &mut impl Sink) {
    let data = match message {
        Message::Text(_) => Data::Text,
        Message::Binary(_) => Data::Binary,
    };
    put_head(OpCode::Data(data), message.bytes().len(), sink);
    sink.put(message.bytes());
}

fn put_head(opcode: OpCode, len: usize, sink: &mut impl Sink) {
    let mut head = [0; HEAD_BYTES_MAX];
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let mut rest = &mut head[..];
    header.format(len as u64, &mut rest).expect("a head fits");
    let left = rest.len();
    sink.put(&head[..HEAD_BYTES_MAX - left]);
}

/// Appends the payload without its mask (section 5.3). In eights, which the compiler makes wider ones of.
fn unmask(payload: &[u8], [a, b, c, d]: [u8; 4], room: &mut Vec<u8>) {
    let mask = [a, b, c, d, a, b, c, d];
    let begin = room.len();
    room.extend_from_slice(payload);
    let mut chunks = room[begin..].chunks_exact_mut(8);
    for chunk in &mut chunks {
        let eight: [u8; 8] = (&*chunk).try_into().expect("it has eight");
        let plain = u64::from_ne_bytes(eight) ^ u64::from_ne_bytes(mask);
        chunk.copy_from_slice(&plain.to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MASK: [u8; 4] = [0x12, 0xf4, 0x56, 0x99];
    const MAX: u32 = 1000;

    /// A frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            len @ 0..126 => bytes.push(0x80 | len as u8),
            len @ 126..65536 => {
                bytes.push(0x80 | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(0x80 | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        unmask(payload, MASK, &mut bytes);
        bytes
    }

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Heard {
        Text(String),
        Binary(Vec<u8>),
        Closed,
        Refused(u16),
    }

    /// What comes of it, and what is said in between. Messages are not answered.
    fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Heard>, Vec<u8>) {
        let (mut socket, mut waiting, mut said, mut heard) = (WebSocket::new(MAX), vec![], vec![], vec![]);
        for piece in pieces {
            waiting.extend_from_slice(piece);
            loop {
                let mut room = Vec::new();
                let consumed = match socket.decode(&waiting, &mut room, &mut said) {
                    Ok(Step::Message { message: Message::Text(text), consumed }) => {
                        heard.push(Heard::Text(text.into()));
                        consumed
                    }
                    Ok(Step::Message { message: Message::Binary(bytes), consumed }) => {
                        heard.push(Heard::Binary(bytes.into()));
                        consumed
                    }
                    Ok(Step::Frame(consumed)) => consumed,
                    Ok(Step::NeedMore) => break,
                    Ok(Step::Closed) => {
                        heard.push(Heard::Closed);
                        return (heard, said);
                    }
                    Err(Violation::WebSocket { code, problem }) => {
                        socket.close(code, problem, &mut said);
                        heard.push(Heard::Refused(code));
                        return (heard, said);
                    }
                    Err(other) => panic!("{other:?}"),
                };
                waiting.drain(..consumed);
            }
            assert!(waiting.len() < MAX as usize + HEAD_BYTES_MAX, "{} bytes wait", waiting.len());
        }
        (heard, said)
    }

    /// However it is cut, it means the same, and is answered in the same way.
    #[track_caller]
    fn at_every_split(frames: &[Vec<u8>], expected: &[Heard]) {
        let input = frames.concat();
        let whole = feed([&input[..]]);
        assert_eq!(whole.0, expected, "whole");
        for at in 0..=input.len() {
            assert_eq!(feed([&input[..at], &input[at..]]), whole, "cut at {at}");
        }
        assert_eq!(feed(input.chunks(1)), whole, "byte by byte");
    }

    fn text(text: &str) -> Heard {
        Heard::Text(text.into())
    }

    const FIN: u8 = 0x80;
    const CONTINUE: u8 = 0;
    const TEXT: u8 = 1;
    const BINARY: u8 = 2;
    const CLOSE: u8 = FIN | 8;
    const PING: u8 = FIN | 9;
    const PONG: u8 = FIN | 10;

    #[test]
    fn messages_keep_their_type_at_every_length() {
        at_every_split(&[frame(FIN | TEXT, "grüß dich".as_bytes())], &[text("grüß dich")]);
        at_every_split(&[frame(FIN | BINARY, b"\xff\0")], &[Heard::Binary(b"\xff\0".into())]);
        at_every_split(&[frame(FIN | TEXT, b"")], &[text("")]);
        for len in [1, 7, 8, 9, 124, 125, 126, 127, 999, 1000] {
            let long = "x".repeat(len);
            at_every_split(
                &[frame(FIN | TEXT, long.as_bytes()), frame(FIN | TEXT, b"y")],
                &[text(&long), text("y")],
            );
        }
    }

    #[test]
    fn fragments_are_put_together_with_control_frames_in_between() {
        let twelve = "zw\u{f6}lf".as_bytes();
        let frames = [
            frame(TEXT, b"one, "),
            frame(PING, b"are you there?"),
            frame(CONTINUE, &twelve[..3]), // in the middle of a character
            frame(PONG, b""),
            frame(CONTINUE, b""),
            frame(FIN | CONTINUE, &twelve[3..]),
            frame(FIN | BINARY, b"x"),
        ];
        at_every_split(&frames, &[text("one, zw\u{f6}lf"), Heard::Binary(b"x".into())]);
        at_every_split(&[frame(BINARY, b"a"), frame(FIN | CONTINUE, b"b")], &[Heard::Binary(b"ab".into())]);
        // A character may be cut anywhere.
        let word = "a\u{20ac}b\u{1f600}".as_bytes();
        for at in 0..=word.len() {
            at_every_split(
                &[frame(TEXT, &word[..at]), frame(FIN | CONTINUE, &word[at..])],
                &[text("a\u{20ac}b\u{1f600}")],
            );
        }
    }

    #[test]
    fn what_breaks_the_protocol_is_refused_with_its_code() {
        let refused = |code| [Heard::Refused(code)];
        let unmasked = |first: u8, payload: &[u8]| [&[first, payload.len() as u8], payload].concat();
        for (name, frames, code) in [
            ("not masked", vec![unmasked(FIN | TEXT, b"hi")], 1002),
            ("a first reserved bit", vec![frame(FIN | 0x40 | TEXT, b"hi")], 1002),
            ("a second one", vec![frame(FIN | 0x20 | TEXT, b"hi")], 1002),
            ("a third one", vec![frame(FIN | 0x10 | TEXT, b"hi")], 1002),
            ("a reserved bit on a ping", vec![frame(PING | 0x40, b"")], 1002),
            ("an unknown opcode", vec![frame(FIN | 3, b"")], 1002),
            ("an unknown control opcode", vec![frame(FIN | 11, b"")], 1002),
            ("a fragmented ping", vec![frame(9, b"")], 1002),
            ("a fragmented close", vec![frame(8, b"")], 1002),
            ("a long ping", vec![frame(PING, &[b'x'; 126])], 1002),
            ("a long close", vec![frame(CLOSE, &[&[3, 0xe8][..], &[b'x'; 124]].concat())], 1002),
            ("nothing to continue", vec![frame(FIN | CONTINUE, b"hi")], 1002),
            ("a message within another", vec![frame(TEXT, b"a"), frame(FIN | TEXT, b"b")], 1002),
            (
                "a length that is longer than it needs to be",
                vec![vec![FIN | TEXT, 0x80 | 126, 0, 5, 0, 0, 0, 0]],
                1002,
            ),
            (
                "another",
                vec![[&[FIN | TEXT, 0x80 | 127][..], &[0, 0, 0, 0, 0, 0, 255, 255], &[0; 4]].concat()],
                1002,
            ),
            (
                "a length with its sign",
                vec![[&[FIN | BINARY, 0x80 | 127][..], &[255; 8], &[0; 4]].concat()],
                1002,
            ),
            (
                "a gibibyte",
                vec![[&[FIN | BINARY, 0x80 | 127][..], &[0, 0, 0, 0, 64, 0, 0, 0], &[0; 4]].concat()],
                1009,
            ),
            ("one byte too many", vec![frame(FIN | TEXT, &[b'x'; 1001])[..8].to_vec()], 1009),
            (
                "one too many in fragments",
                vec![frame(TEXT, &[b'x'; 600]), frame(CONTINUE, &[b'x'; 401])],
                1009,
            ),
            (
                "too many fragments",
                (0..=FRAGMENTS_MAX).map(|at| frame(if at == 0 { TEXT } else { CONTINUE }, b"")).collect(),
                1008,
            ),
            ("bytes that are no text", vec![frame(FIN | TEXT, b"\xff")], 1007),
            ("a surrogate", vec![frame(FIN | TEXT, b"\xed\xa0\x80")], 1007),
            ("an overlong character", vec![frame(FIN | TEXT, b"\xc0\xaf")], 1007),
            ("a character that ends too early", vec![frame(FIN | TEXT, b"\xe2\x82")], 1007),
            ("no text in a fragment", vec![frame(TEXT, b"\xff")], 1007),
            ("a character that goes on wrongly", vec![frame(TEXT, b"\xe2\x82"), frame(CONTINUE, b"x")], 1007),
            ("a character without its end", vec![frame(TEXT, b"\xe2"), frame(FIN | CONTINUE, b"\x82")], 1007),
            ("half a close code", vec![frame(CLOSE, &[3])], 1002),
            ("a close reason that is no text", vec![frame(CLOSE, &[3, 0xe8, 0xff])], 1007),
        ] {
            let expected = refused(code);
            if frames.len() < 100 {
                at_every_split(&frames, &expected);
            }
            assert_eq!(feed([&frames.concat()[..]]).0, expected, "{name}");
        }
        for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            at_every_split(&[frame(CLOSE, &code.to_be_bytes())], &refused(1002));
        }
    }

    #[test]
    fn a_close_is_answered_with_its_code_and_is_the_end() {
        for code in [1000u16, 1001, 1002, 1003, 1007, 1011, 3000, 3999, 4000, 4999] {
            let close = frame(CLOSE, &[&code.to_be_bytes()[..], b"bye"].concat());
            at_every_split(&[close.clone(), frame(FIN | TEXT, b"too late")], &[Heard::Closed]);
            let [high, low] = code.to_be_bytes();
            assert_eq!(feed([&close[..]]).1, [CLOSE, 2, high, low]);
        }
        assert_eq!(feed([&frame(CLOSE, b"")[..]]).1, [CLOSE, 0]);
        // In the middle of a message as well.
        at_every_split(&[frame(TEXT, b"half"), frame(CLOSE, b"")], &[Heard::Closed]);
    }

    #[test]
    fn every_ping_is_answered_in_order_with_its_payload() {
        let long = [b'x'; 125];
        let payloads = [&b"one"[..], b"two", b"", &long, b"five"];
        let pongs: Vec<u8> =
            payloads.iter().flat_map(|it| [&[PONG, it.len() as u8][..], it].concat()).collect();
        let pings: Vec<Vec<u8>> = payloads.iter().map(|payload| frame(PING, payload)).collect();
        at_every_split(&pings, &[]);
        assert_eq!(feed([&pings.concat()[..]]).1, pongs);
        let and_close = [frame(PING, b"a"), frame(PING, b"b"), frame(CLOSE, b""), frame(PING, b"c")];
        at_every_split(&and_close, &[Heard::Closed]);
        assert_eq!(feed([&and_close.concat()[..]]).1, [PONG, 1, b'a', PONG, 1, b'b', CLOSE, 0]);
        // Between the fragments of a message, before the rest of it is there.
        let between = [frame(TEXT, b"half"), frame(PING, b"a")];
        assert_eq!(feed([&between.concat()[..]]), (vec![], vec![PONG, 1, b'a']));
    }

    #[test]
    fn text_is_refused_at_the_first_byte_that_cannot_be_utf_8() {
        let good = "gr\u{fc}\u{df} \u{20ac}\u{1f600}".as_bytes();
        for bad in [
            &b"\xff"[..],
            b"\x80",
            b"\xc0",
            b"\xc1",
            b"\xf5",
            b"\xc3x",
            b"\xe0\x9f",
            b"\xed\xa0",
            b"\xe2\x82x",
            b"\xf0\x8f",
            b"\xf4\x90",
            b"\xf0\x9f\x98x",
        ] {
            // Of 900 bytes that are announced, those behind the bad one never arrive.
            let payload = [good, bad, &[b'x'; 900]].concat();
            let until = good.len() + bad.len();
            let cut = |frame: Vec<u8>| frame[..frame.len() - (payload.len() - until)].to_vec();
            at_every_split(&[cut(frame(FIN | TEXT, &payload))], &[Heard::Refused(1007)]);
            let fragments = [frame(TEXT, &good[..3]), cut(frame(FIN | CONTINUE, &payload))];
            let fragments = match std::str::from_utf8(&good[..3]) {
                Ok(_) => fragments,
                Err(_) => [frame(TEXT, &good[..4]), fragments[1].clone()],
            };
            at_every_split(&fragments, &[Heard::Refused(1007)]);

            let all_but_one = cut(frame(FIN | TEXT, &payload));
            assert_eq!(feed(all_but_one[..all_but_one.len() - 1].chunks(1)).0, [], "{bad:?}");
            // Bytes are bytes.
            at_every_split(&[cut(frame(FIN | BINARY, &payload))], &[]);
        }
    }

    #[test]
    fn text_that_was_checked_is_not_checked_again() {
        let (mut socket, mut room, mut said) = (WebSocket::new(MAX), Vec::new(), Vec::new());
        let whole = frame(FIN | TEXT, &[b'x'; 100]);
        assert_eq!(socket.decode(&whole[..50], &mut room, &mut said), Ok(Step::NeedMore));
        // The promise says that these bytes are unchanged, so they are not looked at: a bad one put there goes unseen.
        let mut changed = whole.clone();
        changed[20] ^= 0x80;
        assert_eq!(socket.decode(&changed[..60], &mut room, &mut said), Ok(Step::NeedMore));
        assert_eq!(room.len(), 10, "what is new was unmasked, and nothing else");
        changed[55] ^= 0x80;
        assert_eq!(socket.decode(&changed[..60], &mut room, &mut said), Ok(Step::NeedMore));
        changed[60] ^= 0x80;
        assert_eq!(socket.decode(&changed[..61], &mut room, &mut said), Err(NOT_TEXT));
    }

    #[test]
    fn who_is_asked_and_says_nothing_is_not_asked_again() {
        let (mut socket, mut said) = (WebSocket::new(MAX), Vec::new());
        assert!(socket.ask(&mut said));
        assert!(!socket.ask(&mut said));
        assert_eq!(said, [PING, 0]);
        let mut room = Vec::new();
        assert_eq!(socket.decode(&frame(PONG, b""), &mut room, &mut said), Ok(Step::Frame(6)));
        assert!(socket.ask(&mut said));
        socket.close(code::NORMAL, "", &mut said);
        let len = said.len();
        socket.encode(Message::Text("too late"), &mut said);
        socket.close(code::GOING_AWAY, "", &mut said);
        assert!(!socket.ask(&mut said));
        assert_eq!(said.len(), len, "nothing is said after a close");
    }

    #[test]
    fn what_is_said_has_the_shortest_head() {
        for (len, head) in [
            (5, &[FIN | TEXT, 5][..]),
            (125, &[FIN | TEXT, 125]),
            (126, &[FIN | TEXT, 126, 0, 126]),
            (65_535, &[FIN | TEXT, 126, 255, 255]),
            (65_536, &[FIN | TEXT, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut said = Vec::new();
            let text = "x".repeat(len);
            WebSocket::new(MAX).encode(Message::Text(&text), &mut said);
            assert_eq!((&said[..head.len()], said.len()), (head, head.len() + len));
        }
        let mut said = Vec::new();
        WebSocket::new(MAX).encode(Message::Binary(b"x"), &mut said);
        assert_eq!(said, [FIN | BINARY, 1, b'x']);
    }

    proptest! {
        #[test]
        fn no_bytes_are_trouble(bytes in prop::collection::vec(any::<u8>(), 0..400), chunk in 1usize..50) {
            prop_assert_eq!(feed(bytes.chunks(chunk)).0, feed([&bytes[..]]).0);
        }

        #[test]
        fn text_in_any_fragments_and_reads_comes_as_it_was(
            text in "\\PC{0,200}",
            cuts in prop::collection::vec(0usize..800, 0..6),
            chunk in 1usize..60,
            broken in prop::option::of(0usize..800),
        ) {
            let mut payload = text.clone().into_bytes();
            if let Some(at) = broken.filter(|at| *at < payload.len()) {
                payload[at] = 0xff;
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(payload.len())).collect();
            cuts.extend([0, payload.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|ends| &payload[ends[0]..ends[1]]).collect();
            let input: Vec<u8> = parts.iter().enumerate().flat_map(|(at, part)| {
                let first = if at == 0 { TEXT } else { CONTINUE };
                let fin = if at + 1 == parts.len() { FIN } else { 0 };
                frame(first | fin, part)
            }).collect();
            let expected = match String::from_utf8(payload.clone()) {
                Ok(text) => Heard::Text(text),
                Err(_) => Heard::Refused(1007),
            };
            prop_assert_eq!(feed(input.chunks(chunk)).0, vec![expected]);
        }

        #[test]
        fn whatever_is_sent_in_whatever_fragments_comes_as_it_was(
            payload in prop::collection::vec(any::<u8>(), 0..1000),
            cuts in prop::collection::vec(0usize..1000, 0..6),
            chunk in 1usize..200,
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(payload.len())).collect();
            cuts.extend([0, payload.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|ends| &payload[ends[0]..ends[1]]).collect();
            let input: Vec<u8> = parts.iter().enumerate().flat_map(|(at, part)| {
                let first = if at == 0 { BINARY } else { CONTINUE };
                let fin = if at + 1 == parts.len() { FIN } else { 0 };
                frame(first | fin, part)
            }).collect();
            prop_assert_eq!(feed(input.chunks(chunk)).0, vec![Heard::Binary(payload)]);
        }
    }
}
