//! HTTP, the client's side: what is asked, and where each answer ends (RFC 9112 section 6.3).
//!
//! A body is handed on as it comes, in whatever pieces, so that it can be compared without being kept.
//!
//! Knows no sockets and no clock. Invariant: the bytes of an answer are consumed once, and its status is told when its
//! last byte has come.

use std::mem::MaybeUninit;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// More fields than that are no answer.
const FIELDS_MAX: usize = 100;

/// Nor is a longer head, or a longer line among chunks.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What is asked, over and over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `GET`, for one.
    pub method: String,
    /// A path, and perhaps a query.
    pub path: String,
    /// The URL's host, and its port where it has one.
    pub host: String,
    /// `Name: value`.
    pub fields: Vec<String>,
    /// The payload is sent as a body.
    pub has_body: bool,
}

/// The field that says who asks, from a URL's `user:password` (RFC 7617). What is written in percent is decoded first.
pub fn basic_authorization(user: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = user.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..2).filter(|it| *first == b'%' && it.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|it| u8::from_str_radix(str::from_utf8(it).ok()?, 16).ok());
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    if !decoded.contains(&b':') {
        decoded.push(b':');
    }
    format!("Authorization: Basic {}", STANDARD.encode(decoded))
}

impl Asked {
    /// The head, up to where the body's length would be told. `last`: the connection is for this request alone.
    pub fn head(&self, last: bool) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !self
            .fields
            .iter()
            .any(|field| field.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("host:")))
        {
            head += &format!("Host: {}\r\n", self.host);
        }
        for field in &self.fields {
            head += field;
            head += "\r\n";
        }
        if last {
            head += "Connection: close\r\n";
        }
        head.into_bytes()
    }

    /// Whether a repetition has the effect of one request (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"].contains(&self.method.as_str())
    }

    /// Answers have no bodies, whatever their heads say.
    pub fn wants_no_body(&self) -> bool {
        self.method == "HEAD"
    }
}

/// Where a connection stands in the answers that come.
#[derive(Debug, Default)]
pub struct Answers {
    state: State,
    /// Nothing comes behind the answer that is coming, or has come.
    last: bool,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Head,
    Body(u16, Left),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Bytes(u64),
    /// The size of a chunk comes.
    ChunkSize,
    /// So much of the chunk, and CRLF.
    Chunk(u64),
    /// Only its CRLF.
    ChunkEnd,
    /// Trailers, and an empty line.
    Trailers,
    /// Up to the connection's end.
    Rest,
}

/// What the next bytes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// This many bytes were understood; what follows them is incomplete.
    More(usize),
    /// This many bytes were understood, and complete an answer with this status.
    Answer(usize, u16),
    /// They are no answer.
    Garbage,
}

impl Answers {
    /// Nothing comes behind the answer that is coming, or has come: the server has said so.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Whether a part of an answer has come.
    pub fn is_within(&self) -> bool {
        matches!(self.state, State::Body(..))
    }

    /// Takes what it can of one answer. `bodiless`: it is one to a HEAD. Bodies are given to `body`.
    pub fn receive(&mut self, bytes: &[u8], bodiless: bool, mut body: impl FnMut(&[u8])) -> Event {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            let (status, left) = match self.state {
                State::Head => match self.head(rest, bodiless) {
                    Ok(Some((count, status, left))) => {
                        taken += count;
                        match (status, left) {
                            (100..200, _) => continue, // an interim answer
                            (_, Left::Bytes(0)) => return Event::Answer(taken, status),
                            _ => {}
                        }
                        self.state = State::Body(status, left);
                        continue;
                    }
                    Ok(None) => return Event::More(taken),
                    Err(()) => return Event::Garbage,
                },
                State::Body(status, left) => (status, left),
            };
            if rest.is_empty() {
                return Event::More(taken);
            }
            let mut pass = |left: u64| {
                let count = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                body(&rest[..count]);
                (count, left - count as u64)
            };
            let (count, next) = match left {
                Left::Rest => (pass(u64::MAX).0, Left::Rest),
                Left::Bytes(left) => match pass(left) {
                    (count, 0) => {
                        self.state = State::Head;
                        return Event::Answer(taken + count, status);
                    }
                    (count, left) => (count, Left::Bytes(left)),
                },
                Left::Chunk(left) => match pass(left) {
                    (count, 0) => (count, Left::ChunkEnd),
                    (count, left) => (count, Left::Chunk(left)),
                },
                Left::ChunkEnd | Left::ChunkSize | Left::Trailers => match line(rest) {
                    Ok(None) => return Event::More(taken),
                    Err(()) => return Event::Garbage,
                    Ok(Some(line)) => match (left, line) {
                        (Left::Trailers, []) => {
                            self.state = State::Head;
                            return Event::Answer(taken + 2, status);
                        }
                        (Left::Trailers, _) => (line.len() + 2, Left::Trailers),
                        (Left::ChunkEnd, []) => (2, Left::ChunkSize),
                        (Left::ChunkEnd, _) => return Event::Garbage,
                        (_, line) => match size(line) {
                            Some(0) => (line.len() + 2, Left::Trailers),
                            Some(size) => (line.len() + 2, Left::Chunk(size)),
                            None => return Event::Garbage,
                        },
                    },
                },
            };
            taken += count;
            self.state = State::Body(status, next);
        }
    }

    /// The connection has ended: the status of the answer that this ends, if it does.
    pub fn end(&mut self) -> Option<u16> {
        match std::mem::take(self).state {
            State::Body(status, Left::Rest) => Some(status),
            _ => None,
        }
    }

    /// How long the head is, its status, and how its body's end is told.
    fn head(&mut self, bytes: &[u8], bodiless: bool) -> Result<Option<(usize, u16, Left)>, ()> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let count = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields) {
            Ok(httparse::Status::Complete(count)) => count,
            Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Ok(None),
            _ => return Err(()),
        };
        let status = parsed.code.ok_or(())?;
        let (mut length, mut chunked) = (None, false);
        let mut last = parsed.version == Some(0);
        for field in parsed.headers.iter() {
            let text = std::str::from_utf8(field.value).unwrap_or_default().trim();
            if field.name.eq_ignore_ascii_case("content-length") {
                let number = text.parse::<u64>().map_err(drop)?;
                if length.replace(number).is_some_and(|other| other != number) {
                    return Err(());
                }
            } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = text.to_ascii_lowercase().ends_with("chunked");
            } else if field.name.eq_ignore_ascii_case("connection") {
                let says = |word: &str| text.split(',').any(|item| item.trim().eq_ignore_ascii_case(word));
                last = says("close") || (last && !says("keep-alive"));
            }
        }
        let left = match (length, chunked) {
            _ if bodiless || matches!(status, 100..200 | 204 | 304) => Left::Bytes(0),
            (_, true) => Left::ChunkSize,
            (Some(length), false) => Left::Bytes(length),
            (None, false) => Left::Rest,
        };
        if status >= 200 {
            self.last |= last || left == Left::Rest;
        }
        Ok(Some((count, status, left)))
    }
}

/// The first line without its CRLF.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, ()> {
    match bytes.iter().take(HEAD_BYTES_MAX).position(|byte| *byte == b'\n') {
        Some(at) => bytes[..at].strip_suffix(b"\r").map(Some).ok_or(()),
        None if bytes.len() < HEAD_BYTES_MAX => Ok(None),
        None => Err(()),
    }
}

fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let well_formed = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| well_formed)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_urls_user_is_said_in_base64() {
        // RFC 7617, section 2, and its example of UTF-8.
        for (user, value) in [
            ("Aladdin:open%20sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("test:123%C2%A3", "dGVzdDoxMjPCow=="),
            ("a%3Ab:100%", "YTpiOjEwMCU="),
            ("alice", "YWxpY2U6"),
        ] {
            assert_eq!(basic_authorization(user), format!("Authorization: Basic {value}"));
        }
    }

    /// What a stream comes to: statuses with their bodies, and whether it ends in garbage.
    fn receive<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
        bodiless: bool,
    ) -> (Vec<(u16, Vec<u8>)>, bool) {
        let (mut answers, mut waiting) = (Answers::default(), Vec::new());
        let (mut received, mut body) = (Vec::new(), Vec::new());
        for piece in pieces {
            waiting.extend_from_slice(piece);
            loop {
                match answers.receive(&waiting, bodiless, |part| body.extend_from_slice(part)) {
                    Event::More(count) => {
                        waiting.drain(..count);
                        break;
                    }
                    Event::Answer(count, status) => {
                        waiting.drain(..count);
                        received.push((status, std::mem::take(&mut body)));
                    }
                    Event::Garbage => return (received, true),
                }
            }
        }
        if let Some(status) = answers.end() {
            received.push((status, body));
        }
        (received, false)
    }

    #[track_caller]
    fn at_every_split(input: &str, bodiless: bool, expected: &[(u16, &str)], garbage: bool) {
        let expected: Vec<_> =
            expected.iter().map(|(status, body)| (*status, body.as_bytes().to_vec())).collect();
        let input = input.as_bytes();
        for at in 0..=input.len() {
            let received = receive([&input[..at], &input[at..]], bodiless);
            assert_eq!(received, (expected.clone(), garbage), "cut at {at}");
        }
        assert_eq!(receive(input.chunks(1), bodiless), (expected, garbage), "byte by byte");
    }

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let ok = "HTTP/1.1 200 OK\r\n";
        at_every_split(&format!("{ok}Content-Length: 5\r\n\r\nhello"), false, &[(200, "hello")], false);
        at_every_split(
            &format!("{ok}Content-Length: 0\r\n\r\n").repeat(2),
            false,
            &[(200, ""), (200, "")],
            false,
        );
        at_every_split(
            &format!(
                "{ok}Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n"
            ),
            false,
            &[(200, "abc0123456789")],
            false,
        );
        at_every_split(&format!("{ok}\r\nall that comes"), false, &[(200, "all that comes")], false);
        at_every_split(&format!("{ok}Content-Length: 5\r\n\r\n"), true, &[(200, "")], false);
        at_every_split(
            "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            false,
            &[(204, ""), (304, "")],
            false,
        );
        at_every_split(
            &format!("HTTP/1.1 100 Continue\r\n\r\n{ok}Content-Length: 2\r\n\r\nhi"),
            false,
            &[(200, "hi")],
            false,
        );
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        for input in [
            "hello, world\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nx",
        ] {
            let (received, garbage) = receive([input.as_bytes()], false);
            assert!(received.is_empty() && garbage, "{input:?}");
        }
        let late = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n";
        assert_eq!(receive([late.as_bytes()], false), (vec![], true));
    }

    #[test]
    fn a_server_says_when_it_is_the_last() {
        for (head, last) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n", false),
        ] {
            let mut answers = Answers::default();
            answers.receive(head.as_bytes(), false, |_| ());
            assert_eq!(answers.is_last(), last, "{head:?}");
        }
    }
}
