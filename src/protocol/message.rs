//! What all protocols have in common: their names, a message, a step of decoding, the ways to break the rules, and where bytes
//! go.

use std::fmt;

/// Which protocol a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// See [`raw`](super::raw).
    #[default]
    Raw,
    /// See [`lines`](super::lines).
    Lines,
    /// See [`prefixed`](super::prefixed).
    Prefixed,
    /// See `http`.
    #[cfg(feature = "web")]
    Http,
    /// See `websocket`. It begins as HTTP.
    #[cfg(feature = "web")]
    WebSocket,
}

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
