//! From bytes to messages and back, without a socket or a clock in sight.
//!
//! A protocol is a state machine over slices. [`Protocol::decode`] looks at the bytes that wait and says
//! what they begin with; the caller consumes, and asks again. [`Protocol::encode`] turns a message into
//! bytes. Because nothing here can read, write or wait, each protocol is tested at every split point of
//! its input, and serves TCP, TLS, Unix sockets and tests alike.
//!
//! - [`raw`]: whatever came in one read is a message;
//! - [`lines`]: LF or CRLF ends a message;
//! - [`prefixed`]: four bytes of length, big-endian, and then the message;
//! - `http` (feature `web`): a request is a message with a head, and the first one sent back is its answer;
//! - `websocket` (feature `web`): messages in both directions, once a request has asked for that.
//!
//! Imports nothing of ours.

#[cfg(feature = "web")]
pub mod http;
pub mod lines;
pub mod prefixed;
pub mod raw;
#[cfg(feature = "web")]
pub mod websocket;

use std::fmt;

/// What services speak in: text if the protocol can tell, else bytes. Borrowed from where it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Valid UTF-8.
    Text(&'a str),
    /// Anything.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The message's bytes.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }

    /// Text where `bytes` are valid UTF-8.
    #[inline]
    pub fn from_bytes(bytes: &'a [u8]) -> Message<'a> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(bytes),
        }
    }
}

impl<'a> From<&'a str> for Message<'a> {
    fn from(text: &'a str) -> Message<'a> {
        Message::Text(text)
    }
}

impl<'a> From<&'a String> for Message<'a> {
    fn from(text: &'a String) -> Message<'a> {
        Message::Text(text)
    }
}

impl<'a> From<&'a [u8]> for Message<'a> {
    /// Bytes stay bytes, even where they are text: [`Message::from_bytes`] looks.
    fn from(bytes: &'a [u8]) -> Message<'a> {
        Message::Binary(bytes)
    }
}

impl<'a, const COUNT: usize> From<&'a [u8; COUNT]> for Message<'a> {
    fn from(bytes: &'a [u8; COUNT]) -> Message<'a> {
        Message::Binary(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Message<'a> {
    fn from(bytes: &'a Vec<u8>) -> Message<'a> {
        Message::Binary(bytes)
    }
}

/// What the waiting bytes begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole message. The caller consumes `consumed` bytes when it has served it.
    Message {
        /// The message.
        message: Message<'a>,
        /// How many bytes it took, framing and all. At least 1.
        consumed: usize,
    },
    /// The beginning of a message, or nothing: more bytes are needed.
    NeedMore,
}

/// How the peer broke the rules. It is told to the log, and the connection is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A message of more than `message_bytes_max` bytes.
    TooLong {
        /// The limit.
        message_bytes_max: usize,
    },
    /// The end of file in the middle of a message.
    Truncated,
    /// The rest of a message did not come in time.
    Overdue,
    /// The connection began with another protocol, of this name.
    OtherProtocol(&'static str),
    /// What came is no request, or not one that is served.
    Http {
        /// The status that says so.
        status: u16,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A frame that may not be.
    WebSocket {
        /// The close code that says so.
        code: u16,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::TooLong { message_bytes_max } => {
                write!(f, "a message of more than {message_bytes_max} bytes")
            }
            Violation::Truncated => f.write_str("the end of file in the middle of a message"),
            Violation::Overdue => f.write_str("the rest of a message did not come in time"),
            Violation::OtherProtocol(name) => {
                write!(f, "the connection began with {name}, and lines are spoken here")
            }
            Violation::Http { status, problem } => write!(f, "{problem} ({status})"),
            Violation::WebSocket { code, problem } => write!(f, "{problem} ({code})"),
        }
    }
}

/// Where encoded bytes go.
pub trait Sink {
    /// Appends a copy of `bytes`.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Which protocol a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// See [`raw`].
    #[default]
    Raw,
    /// See [`lines`].
    Lines,
    /// See [`prefixed`].
    Prefixed,
    /// See `http`.
    #[cfg(feature = "web")]
    Http,
    /// See `websocket`. It begins as HTTP.
    #[cfg(feature = "web")]
    WebSocket,
}

/// One connection's protocol and where it stands in it. An enum, so that one loop serves all.
#[derive(Debug)]
pub enum Protocol {
    /// See [`raw`].
    Raw(raw::Raw),
    /// See [`lines`].
    Lines(lines::Lines),
    /// See [`prefixed`].
    Prefixed(prefixed::Prefixed),
    /// See `http`. In a box: it knows more than the others.
    #[cfg(feature = "web")]
    Http(Box<http::Http>),
    /// See `websocket`.
    #[cfg(feature = "web")]
    WebSocket(Box<websocket::WebSocket>),
}

impl Protocol {
    /// At the beginning of a connection. Messages of more than `message_bytes_max` bytes (at most
    /// 1 GiB) are a [`Violation`]; raw has no messages to measure.
    pub fn new(framing: Framing, message_bytes_max: usize) -> Protocol {
        let message_bytes_max = message_bytes_max.min(1 << 30) as u32;
        match framing {
            Framing::Raw => Protocol::Raw(raw::Raw),
            Framing::Lines => Protocol::Lines(lines::Lines::new(message_bytes_max)),
            Framing::Prefixed => Protocol::Prefixed(prefixed::Prefixed::new(message_bytes_max)),
            #[cfg(feature = "web")]
            Framing::Http | Framing::WebSocket => {
                Protocol::Http(Box::new(http::Http::new(message_bytes_max)))
            }
        }
    }

    /// Which protocol it is.
    pub fn framing(&self) -> Framing {
        match self {
            Protocol::Raw(_) => Framing::Raw,
            Protocol::Lines(_) => Framing::Lines,
            Protocol::Prefixed(_) => Framing::Prefixed,
            #[cfg(feature = "web")]
            Protocol::Http(_) => Framing::Http,
            #[cfg(feature = "web")]
            Protocol::WebSocket(_) => Framing::WebSocket,
        }
    }

    /// The most bytes that can wait for the rest of a message of at most `message_bytes_max`.
    pub fn inbox_bytes_max(framing: Framing, message_bytes_max: usize) -> usize {
        /// What a line's or a prefixed message's framing takes.
        const FRAMING_BYTES: usize = 16;
        match framing {
            #[cfg(feature = "web")]
            Framing::Http | Framing::WebSocket => http::Http::inbox_bytes_max(message_bytes_max),
            _ => message_bytes_max.saturating_add(FRAMING_BYTES),
        }
    }

    /// The most bytes of a message, where at most `inbox_bytes_max` can wait.
    pub fn message_bytes_max(framing: Framing, inbox_bytes_max: usize) -> usize {
        let framing_bytes = Protocol::inbox_bytes_max(framing, 0);
        match framing {
            // In chunks, a body may take twice its length.
            #[cfg(feature = "web")]
            Framing::Http | Framing::WebSocket => inbox_bytes_max.saturating_sub(framing_bytes) / 2,
            _ => inbox_bytes_max.saturating_sub(framing_bytes),
        }
    }

    /// What `bytes` begin with. Asked again with the same bytes and more behind them after
    /// [`Step::NeedMore`], it does not look again at what it has seen.
    ///
    /// HTTP and WebSocket have more to say than messages: their own `decode` is asked instead.
    ///
    /// # Errors
    /// Where no continuation could make `bytes` right.
    #[inline(always)]
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Violation> {
        match self {
            Protocol::Raw(raw) => Ok(raw.decode(bytes)),
            Protocol::Lines(lines) => lines.decode(bytes),
            Protocol::Prefixed(prefixed) => prefixed.decode(bytes),
            #[cfg(feature = "web")]
            Protocol::Http(_) | Protocol::WebSocket(_) => Ok(Step::NeedMore),
        }
    }

    /// What `bytes`, of which [`Protocol::decode`] can make no more, mean when nothing comes behind them.
    ///
    /// # Errors
    /// Where a message ends before its end.
    pub fn decode_end<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Violation> {
        match self {
            Protocol::Lines(lines) if !bytes.is_empty() => lines.decode_end(bytes),
            Protocol::Prefixed(_) if !bytes.is_empty() => Err(Violation::Truncated),
            #[cfg(feature = "web")]
            Protocol::Http(http) => http.decode_end(bytes).map(|()| Step::NeedMore),
            _ => Ok(Step::NeedMore),
        }
    }

    /// Appends what the peer is told when it broke the rules: a line where it reads lines, nothing
    /// where a reply could be taken for data.
    pub fn encode_violation(&mut self, violation: Violation, sink: &mut impl Sink) {
        match (self, violation) {
            (Protocol::Lines(_), _) => sink.put(format!("error: {violation}\n").as_bytes()),
            #[cfg(feature = "web")]
            (Protocol::Http(http), Violation::Http { status, problem }) => http.refuse(status, problem, sink),
            #[cfg(feature = "web")]
            (Protocol::Http(http), Violation::Overdue) => {
                http.refuse(408, "the rest of the request did not come in time", sink);
            }
            #[cfg(feature = "web")]
            (Protocol::WebSocket(socket), Violation::WebSocket { code, problem }) => {
                socket.close(code, problem, sink);
            }
            #[cfg(feature = "web")]
            (Protocol::WebSocket(socket), Violation::Overdue) => {
                socket.close(websocket::code::POLICY, "the rest of the message did not come in time", sink);
            }
            _ => {}
        }
    }

    /// Whether what is encoded for this framing can be said now.
    #[inline]
    pub fn says(&self, framing: Framing) -> bool {
        match self {
            #[cfg(feature = "web")]
            Protocol::WebSocket(socket) => framing == Framing::WebSocket && !socket.is_closed(),
            #[cfg(feature = "web")]
            Protocol::Http(_) => false,
            protocol => protocol.framing() == framing,
        }
    }

    /// Appends the message, framed.
    #[inline(always)]
    pub fn encode(&mut self, message: Message<'_>, sink: &mut impl Sink) {
        match self {
            Protocol::Raw(_) => sink.put(message.bytes()),
            Protocol::Lines(_) => lines::encode(message, sink),
            Protocol::Prefixed(_) => prefixed::encode(message, sink),
            #[cfg(feature = "web")]
            Protocol::Http(http) => {
                http.say(message, sink);
            }
            #[cfg(feature = "web")]
            Protocol::WebSocket(socket) => socket.say(message, sink),
        }
    }
}

/// A message, encoded once for all peers with this framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    framing: Framing,
    bytes: Box<[u8]>,
}

impl Encoded {
    /// `None` for HTTP, where what is said is an answer to one alone.
    pub fn new(framing: Framing, message: Message<'_>) -> Option<Encoded> {
        let mut bytes = Vec::with_capacity(message.bytes().len() + 16);
        match framing {
            Framing::Raw => bytes.put(message.bytes()),
            Framing::Lines => lines::encode(message, &mut bytes),
            Framing::Prefixed => prefixed::encode(message, &mut bytes),
            #[cfg(feature = "web")]
            Framing::Http => return None,
            #[cfg(feature = "web")]
            Framing::WebSocket => websocket::encode(message, &mut bytes),
        }
        Some(Encoded { framing, bytes: bytes.into() })
    }

    /// What it is encoded for.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The message with its framing.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Feeds `input` in the given pieces the way the reactor does: bytes are kept until they are
    /// consumed. Returns the messages, and the violation that ended them.
    pub(crate) fn feed(protocol: &mut Protocol, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<Violation>) {
        let (mut waiting, mut messages) = (Vec::new(), Vec::new());
        for piece in pieces {
            waiting.extend_from_slice(piece);
            loop {
                match protocol.decode(&waiting) {
                    Ok(Step::Message { message, consumed }) => {
                        messages.push(message.bytes().to_vec());
                        waiting.drain(..consumed);
                    }
                    Ok(Step::NeedMore) => break,
                    Err(violation) => return (messages, Some(violation)),
                }
            }
        }
        let end = match protocol.decode_end(&waiting) {
            Ok(Step::Message { message, .. }) => {
                messages.push(message.bytes().to_vec());
                None
            }
            Ok(Step::NeedMore) => None,
            Err(violation) => Some(violation),
        };
        (messages, end)
    }

    /// The outcome must not depend on how the network cuts the stream: in two at every place, and
    /// byte by byte.
    pub(crate) fn at_every_split(
        framing: Framing,
        message_bytes_max: usize,
        input: &[u8],
        messages: &[&[u8]],
        violation: Option<Violation>,
    ) {
        let expected = (messages.iter().map(|message| message.to_vec()).collect(), violation);
        let new = || Protocol::new(framing, message_bytes_max);
        for at in 0..=input.len() {
            let pieces = [&input[..at], &input[at..]];
            assert_eq!(feed(&mut new(), &pieces), expected, "{framing:?}, cut at {at} of {input:?}");
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(feed(&mut new(), &bytes), expected, "{framing:?}, byte by byte of {input:?}");
    }
}
