//! HTTP/1.1 (RFC 9110, RFC 9112), the server's side: requests in, answers out, in the same order.
//!
//! [`Http::decode`] finds the end of a head, has it parsed (by `httparse`), judges it, and waits for the body that it
//! announces; [`Http::answer`] and its kin write what is said about it. One request is open at a time: those that came
//! along with it (pipelining) wait where they are until it has been answered.
//!
//! How a body's end is told must never be in doubt, or what one hop takes for a body, the next takes for a request
//! (request smuggling, RFC 9112 section 11.2). So whatever leaves a doubt is answered with 400, and nothing behind it
//! is looked at: two lengths, a length beside chunks, a sign before a number, a line that ends in LF alone, a folded
//! one, a space before a colon.
//!
//! Deliberately not here: what a path means, ranges, conditions, caching (see `service::web`); HTTP/2; CONNECT.
//!
//! Invariant: an answer is written only while its request is open, and each request gets exactly one.

mod answer;
mod chunks;
mod head;

pub use answer::{Length, Progress, Response};
pub use head::{Date, FIELDS_MAX, Fields, HEAD_BYTES_MAX, Request, Version, fields};

use super::message::{Message, Sink, Violation};
use answer::Answer;
use chunks::{Chunks, too_large};
use head::{Body, Facts};

/// Where a connection stands.
#[derive(Debug)]
pub struct Http {
    reading: Reading,
    answer: Answer,
    body_bytes_max: u32,
    /// What time it is, as the last caller of [`Http::decode`] said.
    date: Date,
    /// What is said next is the last: the server stops.
    stopping: bool,
}

/// How far the next request has come.
#[derive(Debug)]
enum Reading {
    /// `scanned` bytes hold whole lines of a head and the beginning of one, which begins at `line`.
    Head { scanned: u32, line: u32 },
    /// The head has been judged; with its body the request has `whole` bytes.
    Sized { whole: u32 },
    /// Its body comes in chunks.
    Chunked { head: u32, chunks: Chunks },
}

const AT_THE_BEGINNING: Reading = Reading::Head { scanned: 0, line: 0 };

/// What the waiting bytes begin with.
#[derive(Debug)]
pub enum Step<'a> {
    /// A whole request. It is open from now on; the caller consumes `consumed` bytes when it has been served.
    Request {
        /// The request.
        request: Request<'a>,
        /// How many bytes it took.
        consumed: usize,
    },
    /// The client waits for an answer before it sends the body: send [`CONTINUE`], and decode again.
    Continue,
    /// The beginning of a request, or nothing: more bytes are needed.
    NeedMore,
}

/// The answer that a client waits for after `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Http {
    /// The state at the beginning of a connection. Bodies have at most `body_bytes_max` bytes.
    pub fn new(body_bytes_max: u32) -> Http {
        Http {
            reading: AT_THE_BEGINNING,
            answer: Answer::NothingAsked,
            body_bytes_max,
            date: [0; 29],
            stopping: false,
        }
    }

    /// The most bytes that can wait for the rest of a request with a body of `body_bytes_max`.
    pub fn inbox_bytes_max(body_bytes_max: usize) -> usize {
        HEAD_BYTES_MAX + body_bytes_max + chunks::overhead_max(body_bytes_max)
    }

    /// What `bytes` begin with; asked while no request is open. Fields are parsed into `fields`, and a body that came in
    /// chunks is put together in `body`.
    ///
    /// # Errors
    /// Where what has come is no request, or one too many: the connection is then at its end.
    pub fn decode<'a>(
        &mut self,
        bytes: &'a [u8],
        date: &Date,
        fields: &'a mut Fields<'a>,
        body: &'a mut Vec<u8>,
    ) -> Result<Step<'a>, Violation> {
        self.date = *date;
        if let Reading::Head { scanned, line } = &mut self.reading {
            let Some(head_len) = head::find_end(bytes, scanned, line)? else { return Ok(Step::NeedMore) };
            let (request, facts) = head::parse(&bytes[..head_len], fields, date)?;
            self.reading = match facts.body {
                Body::None => {
                    // The common case: the head is all there is.
                    self.open(&facts);
                    return Ok(Step::Request { request, consumed: head_len });
                }
                Body::Length(len) if len > u64::from(self.body_bytes_max) => return Err(too_large()),
                Body::Length(len) => Reading::Sized { whole: head_len as u32 + len as u32 },
                Body::Chunked => Reading::Chunked { head: head_len as u32, chunks: Chunks::default() },
            };
            return match self.find_end(bytes)? {
                Some(consumed) => Ok(self.with_body(request, &facts, &bytes[..consumed], body)),
                None if facts.expects_continue && bytes.len() == head_len => Ok(Step::Continue),
                None => Ok(Step::NeedMore),
            };
        }
        let Some(consumed) = self.find_end(bytes)? else { return Ok(Step::NeedMore) };
        // The head is parsed again: it was parsed to slices of bytes that may have moved.
        let (request, facts) = head::parse(bytes, fields, date)?;
        Ok(self.with_body(request, &facts, &bytes[..consumed], body))
    }

    /// Where the request ends whose head is known, if it is all there.
    fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        match &mut self.reading {
            Reading::Head { .. } => Ok(None),
            Reading::Sized { whole } => Ok(Some(*whole as usize).filter(|whole| *whole <= bytes.len())),
            Reading::Chunked { head, chunks } => {
                let head_len = *head as usize;
                let end = chunks.find_end(&bytes[head_len..], self.body_bytes_max)?;
                Ok(end.map(|end| head_len + end))
            }
        }
    }

    /// The request that is all of `bytes`.
    fn with_body<'a>(
        &mut self,
        mut request: Request<'a>,
        facts: &Facts,
        bytes: &'a [u8],
        body: &'a mut Vec<u8>,
    ) -> Step<'a> {
        let encoded = &bytes[request.head_len..];
        request.body = match self.reading {
            Reading::Chunked { .. } => {
                body.clear();
                chunks::unchunk(encoded, body);
                body
            }
            _ => encoded,
        };
        self.open(facts);
        Step::Request { request, consumed: bytes.len() }
    }

    fn open(&mut self, facts: &Facts) {
        self.reading = AT_THE_BEGINNING;
        self.answer = Answer::owed(facts);
    }

    /// Nothing comes behind these bytes.
    ///
    /// # Errors
    /// Where they are the beginning of a request.
    pub fn decode_end(&self, bytes: &[u8]) -> Result<(), Violation> {
        match bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            true => Ok(()),
            false => Err(Violation::Http { status: 400, problem: "the request is cut off" }),
        }
    }

    /// Whether a request waits for its answer, or for the end of it.
    pub fn is_open(&self) -> bool {
        !matches!(self.answer, Answer::NothingAsked)
    }

    /// Whether nothing has been said about the request that is open.
    pub fn is_owed(&self) -> bool {
        matches!(self.answer, Answer::Owed(_))
    }

    /// The next answer is the last on this connection, and says so: the server stops.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Answers the open request, whole. Without one, nothing is written.
    pub fn answer(&mut self, response: &Response<'_>, body: &[u8], sink: &mut impl Sink) -> Progress {
        let Answer::Owed(asked) = self.answer else { return Progress::Nothing };
        self.answer = Answer::NothingAsked;
        let last = self.stopping || response.close || !asked.keeps_alive();
        answer::put_head(response, Length::Bytes(body.len() as u64), asked, last, &self.date, sink);
        if asked.wants_body() && response.has_body() {
            sink.put(body);
        }
        Progress::of_the_end(last)
    }

    /// Answers the open request with a body that comes in pieces; see [`Http::piece`].
    pub fn begin(&mut self, response: &Response<'_>, length: Length, sink: &mut impl Sink) -> Progress {
        let Answer::Owed(asked) = self.answer else { return Progress::Nothing };
        let chunked = length == Length::Unknown && asked.knows_chunks();
        // For a client without chunks, the body ends where the connection does.
        let by_the_end = length == Length::Unknown && !chunked;
        let last = self.stopping || response.close || by_the_end || !asked.keeps_alive();
        answer::put_head(response, length, asked, last, &self.date, sink);
        if !asked.wants_body() || !response.has_body() || length == Length::Bytes(0) {
            self.answer = Answer::NothingAsked;
            return Progress::of_the_end(last);
        }
        self.answer = Answer::Begun { left: length, chunked, last };
        Progress::More
    }

    /// The next bytes of the body that was begun. What is beyond the length that was announced is dropped.
    pub fn piece(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Progress {
        let Answer::Begun { left, chunked, last } = &mut self.answer else { return Progress::Nothing };
        if bytes.is_empty() {
            return Progress::More; // an empty chunk would be the end
        }
        if *chunked {
            answer::put_chunk(bytes, sink);
            return Progress::More;
        }
        let mut over = false;
        if let Length::Bytes(left) = left {
            bytes = &bytes[..bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX))];
            *left -= bytes.len() as u64;
            over = *left == 0;
        }
        sink.put(bytes);
        if !over {
            return Progress::More;
        }
        let last = *last;
        self.answer = Answer::NothingAsked;
        Progress::of_the_end(last)
    }

    /// Counts `count` bytes of the open body that others have written, as they are. The body was announced with its length.
    pub fn count_piece(&mut self, count: u64) -> Progress {
        let Answer::Begun { left: Length::Bytes(left), last, .. } = &mut self.answer else {
            return Progress::Nothing;
        };
        *left = left.saturating_sub(count);
        if *left > 0 {
            return Progress::More;
        }
        let last = *last;
        self.answer = Answer::NothingAsked;
        Progress::of_the_end(last)
    }

    /// How much of a body that was announced with its length is still to come.
    pub fn left(&self) -> Option<u64> {
        match self.answer {
            Answer::Begun { left: Length::Bytes(left), .. } => Some(left),
            _ => None,
        }
    }

    /// The body that was begun is over. One that is shorter than announced can't be mended: then the
    /// connection has to be [broken off](Progress::Broken).
    pub fn end(&mut self, sink: &mut impl Sink) -> Progress {
        let Answer::Begun { left, chunked, last } = self.answer else { return Progress::Nothing };
        self.answer = Answer::NothingAsked;
        if chunked {
            sink.put(b"0\r\n\r\n");
        }
        match left {
            Length::Bytes(_) => Progress::Broken,
            Length::Unknown => Progress::of_the_end(last),
        }
    }

    /// Answers with a message, for services that know messages only. If an answer has begun, the message is its next piece.
    pub fn answer_message(&mut self, message: Message<'_>, sink: &mut impl Sink) -> Progress {
        if let Answer::Begun { .. } = self.answer {
            return self.piece(message.bytes(), sink);
        }
        let kind = match message {
            Message::Text(_) => "text/plain; charset=utf-8",
            Message::Binary(_) => "application/octet-stream",
        };
        self.answer(&Response::new(200).field("Content-Type", kind), message.bytes(), sink)
    }

    /// What the client is told whose request was none: and then the connection is at its end.
    pub(super) fn refuse(&mut self, status: u16, problem: &str, sink: &mut impl Sink) {
        if let Answer::Begun { .. } = self.answer {
            return; // in the middle of a body, a head would be taken for a part of it
        }
        self.answer = Answer::refusal();
        let response = Response::new(status).field("Content-Type", "text/plain; charset=utf-8").closing();
        let text = format!("{problem}\n");
        self.answer(&response, text.as_bytes(), sink);
    }
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests;
