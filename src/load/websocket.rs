//! WebSocket, the client's side: the handshake, masked frames out, and what comes back (RFC 6455).
//!
//! A message is compared as it comes, in whatever frames. Knows no sockets and no clock.
//!
//! Invariant: nothing is said before the server has agreed, and nothing after it has closed.

use std::io::Cursor;

use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// 16 bytes in base64. It is no secret: it shows that the server speaks WebSocket, and does so whatever it is.
const KEY: &str = "c3dpdGNoYm9hcmRiZW5jaA==";

/// More is no answer to a handshake.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The request that begins it.
pub fn handshake(path: &str, host: &str, fields: &[String]) -> Vec<u8> {
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
    );
    for field in fields {
        head += field;
        head += "\r\n";
    }
    head += "\r\n";
    head.into_bytes()
}

/// Where a connection stands.
#[derive(Debug, Default)]
pub struct Frames {
    is_open: bool,
    is_over: bool,
    /// Of the frame whose payload comes: how much is left, and what it is.
    frame: Option<(u64, Kind, bool)>,
    /// Of a control frame.
    payload: Vec<u8>,
    /// The payload of a ping, which must be answered with it.
    pub pong: Option<Vec<u8>>,
    /// A message has begun.
    within: bool,
    masked: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Control(Control),
}

/// What the next bytes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// This many bytes were understood; what follows them is incomplete.
    More(usize),
    /// This many bytes were understood, and complete a message.
    Message(usize),
    /// This many bytes were understood, and complete the handshake.
    Open(usize),
    /// The server answers the handshake with this status.
    Refused(u16),
    /// The server has closed.
    Closed,
    /// It is no WebSocket.
    Garbage,
}

impl Frames {
    /// The server has agreed, and not closed.
    pub fn is_open(&self) -> bool {
        self.is_open && !self.is_over
    }

    /// Whether nothing more can come of it.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether a part of a message has come.
    pub fn is_within(&self) -> bool {
        self.within
    }

    /// Nothing that comes is received any more.
    pub fn abandon(&mut self) {
        self.is_over = true;
    }

    /// A text message of these parts, in one frame.
    pub fn write_message<'a>(
        &mut self,
        len: usize,
        parts: impl IntoIterator<Item = &'a [u8]>,
        mask: [u8; 4],
        put: &mut impl FnMut(&[u8]),
    ) {
        self.put_frame(OpCode::Data(Data::Text), len, parts, mask, put);
    }

    /// The pong that is owed.
    pub fn write_pong(&mut self, put: &mut impl FnMut(&[u8])) {
        if let Some(payload) = self.pong.take() {
            self.put_frame(OpCode::Control(Control::Pong), payload.len(), [&payload[..]], [7, 6, 5, 4], put);
        }
    }

    fn put_frame<'a>(
        &mut self,
        opcode: OpCode,
        len: usize,
        parts: impl IntoIterator<Item = &'a [u8]>,
        mask: [u8; 4],
        put: &mut impl FnMut(&[u8]),
    ) {
        let header = FrameHeader { opcode, mask: Some(mask), ..FrameHeader::default() };
        self.masked.clear();
        header.format(len as u64, &mut self.masked).expect("a Vec takes everything");
        let begin = self.masked.len();
        parts.into_iter().for_each(|part| self.masked.extend_from_slice(part));
        for (byte, mask) in self.masked[begin..].iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        put(&self.masked);
    }

    /// Takes what it can. Messages are given to `body`, piece by piece.
    pub fn receive(&mut self, bytes: &[u8], mut body: impl FnMut(&[u8])) -> Event {
        if self.is_over {
            return Event::More(bytes.len());
        }
        if !self.is_open {
            return self.receive_handshake(bytes);
        }
        let mut taken = 0;
        loop {
            let Some((left, kind, is_last)) = self.frame else {
                match self.head(&bytes[taken..]) {
                    Ok(Some(count)) => {
                        taken += count;
                        continue;
                    }
                    Ok(None) => return Event::More(taken),
                    Err(()) => {
                        self.is_over = true;
                        return Event::Garbage;
                    }
                }
            };
            let rest = &bytes[taken..];
            let part = &rest[..rest.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            match kind {
                Kind::Data => body(part),
                Kind::Control(_) => self.payload.extend_from_slice(part),
            }
            taken += part.len();
            let left = left - part.len() as u64;
            if left > 0 {
                self.frame = Some((left, kind, is_last));
                return Event::More(taken);
            }
            self.frame = None;
            match kind {
                Kind::Data if is_last => {
                    self.within = false;
                    return Event::Message(taken);
                }
                Kind::Control(Control::Ping) => self.pong = Some(std::mem::take(&mut self.payload)),
                Kind::Control(Control::Close) => {
                    self.is_over = true;
                    return Event::Closed;
                }
                _ => self.payload.clear(),
            }
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, ()> {
        let mut cursor = Cursor::new(bytes);
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(drop)? else { return Ok(None) };
        let kind = match header.opcode {
            OpCode::Control(_) if length > 125 || !header.is_final => return Err(()),
            OpCode::Control(control) => Kind::Control(control),
            OpCode::Data(data) if (data == Data::Continue) != self.within => return Err(()),
            OpCode::Data(_) => Kind::Data,
        };
        if header.mask.is_some() || header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(()); // a server does not mask, and nothing was agreed to that needs these
        }
        self.within |= kind == Kind::Data;
        self.frame = Some((length, kind, header.is_final));
        Ok(Some(cursor.position() as usize))
    }

    fn receive_handshake(&mut self, bytes: &[u8]) -> Event {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut fields);
        let count = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(count)) => count,
            Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Event::More(0),
            _ => {
                self.is_over = true;
                return Event::Garbage;
            }
        };
        let is = |name: &str, value: &str| {
            let field = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            field.is_some_and(|field| field.value.eq_ignore_ascii_case(value.as_bytes()))
        };
        let accepted = is("sec-websocket-accept", &derive_accept_key(KEY.as_bytes()));
        match parsed.code {
            Some(101) if accepted && is("upgrade", "websocket") => {
                self.is_open = true;
                Event::Open(count)
            }
            Some(101) | None => {
                self.is_over = true;
                Event::Garbage
            }
            Some(status) => {
                self.is_over = true;
                Event::Refused(status)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Message;
    use crate::protocol::websocket::WebSocket;

    fn agreed() -> String {
        let key = derive_accept_key(KEY.as_bytes());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {key}\r\n\r\n"
        )
    }

    /// What comes of it: messages, and how it ended.
    fn receive<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<Event>, Frames) {
        let (mut frames, mut waiting, mut messages, mut body) = (Frames::default(), vec![], vec![], vec![]);
        for piece in pieces {
            waiting.extend_from_slice(piece);
            loop {
                match frames.receive(&waiting, |part| body.extend_from_slice(part)) {
                    Event::More(count) => {
                        waiting.drain(..count);
                        break;
                    }
                    Event::Open(count) => drop(waiting.drain(..count)),
                    Event::Message(count) => {
                        waiting.drain(..count);
                        messages.push(std::mem::take(&mut body));
                    }
                    event => return (messages, Some(event), frames),
                }
            }
        }
        (messages, None, frames)
    }

    #[test]
    fn messages_are_heard_at_every_split() {
        let mut input = agreed().into_bytes();
        let mut server = WebSocket::new(1000);
        server.encode(Message::Text("hello"), &mut input);
        server.encode(Message::Binary(&[7; 300]), &mut input);
        server.ask(&mut input);
        input.extend([0x01, 2, b'o', b'n', 0x89, 2, b'h', b'i', 0x80, 1, b'e']);
        let expected = vec![b"hello".to_vec(), vec![7; 300], b"one".to_vec()];
        for at in 0..=input.len() {
            let (messages, end, frames) = receive([&input[..at], &input[at..]]);
            assert_eq!((messages, end), (expected.clone(), None), "cut at {at}");
            assert_eq!(frames.pong.as_deref(), Some(&b"hi"[..]));
        }
        assert_eq!(receive(input.chunks(1)).0, expected, "byte by byte");
        server.close(1001, "bye", &mut input);
        assert_eq!(receive(input.chunks(7)).1, Some(Event::Closed));
    }

    #[test]
    fn what_is_no_websocket_is_told_from_one_that_refuses() {
        let refused = |text: &str| receive([text.as_bytes()]).1;
        assert_eq!(refused("HTTP/1.1 403 Forbidden\r\n\r\n"), Some(Event::Refused(403)));
        assert_eq!(refused("hello\r\n\r\n"), Some(Event::Garbage));
        let wrong_key = agreed().replace("Accept: ", "Accept: x");
        assert_eq!(refused(&wrong_key), Some(Event::Garbage));
        for frame in [
            &[0x81, 0x80, 0, 0, 0, 0][..],
            &[0xc1, 0],
            &[0x80, 0],
            &[0x83, 0],
            &[0x09, 0],
            &[0x89, 126, 0, 126],
        ] {
            let input = [agreed().as_bytes(), frame].concat();
            assert_eq!(receive([&input[..]]).1, Some(Event::Garbage), "{frame:?}");
        }
    }

    #[test]
    fn what_is_said_is_what_a_server_hears() {
        let (mut frames, mut said, mut room) = (Frames::default(), Vec::new(), Vec::new());
        frames.write_message(12, [&b"hello, "[..], b"world"], [1, 2, 3, 4], &mut |part| {
            said.extend_from_slice(part)
        });
        frames.pong = Some(b"hi".to_vec());
        frames.write_pong(&mut |part| said.extend_from_slice(part));
        let mut server = WebSocket::new(1000);
        use crate::protocol::websocket::Step;
        let step = server.decode(&said, &mut room, &mut Vec::new()).expect("it is right");
        let Step::Message { message: Message::Text("hello, world"), consumed } = step else {
            panic!("{step:?}")
        };
        let step = server.decode(&said[consumed..], &mut room, &mut Vec::new());
        assert_eq!(step, Ok(Step::Frame(8)));
    }
}
