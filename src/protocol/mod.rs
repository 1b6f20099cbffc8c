//! From bytes to messages and back, without a socket or a clock in sight.
//!
//! A protocol is a state machine over slices. [`Plain::decode`] looks at the bytes that wait and returns
//! what they begin with; the caller consumes that, and calls it again. [`Protocol::encode`] turns a message into
//! bytes. Because nothing here can read, write or wait, each protocol is tested at every split point of
//! its input, and serves TCP, TLS, Unix sockets and tests alike.
//!
//! Three protocols have messages and nothing else ([`Plain`]):
//!
//! - [`raw`]: whatever came in one read is a message;
//! - [`lines`]: LF or CRLF ends a message;
//! - [`prefixed`]: four bytes of length, big-endian, and then the message.
//!
//! Two have more to say than messages, so that each has a `decode` of its own (`Web`):
//!
//! - `http` (feature `web`): a request is a message with a head, and the first one sent back is its answer;
//! - `websocket` (feature `web`): messages in both directions, once a request has asked for that.
//!
//! Beside them, [`proxy`] decodes the header with which a proxy names its client. It comes before all of these.
//!
//! Imports nothing of ours.

mod message;

pub mod lines;
pub mod plain;
pub mod prefixed;
pub mod proxy;
pub mod raw;

#[cfg(feature = "web")]
pub mod http;
#[cfg(feature = "web")]
pub mod websocket;

#[cfg(feature = "web")]
mod web;
#[cfg(not(feature = "web"))]
#[path = "no_web.rs"]
mod web;

pub use message::{Framing, Message, Sink, Step, Violation};
pub use plain::Plain;
pub use web::Web;

use lines::Lines;
use prefixed::Prefixed;
use raw::Raw;

/// One connection's protocol and where it stands in it. An enum, so that one loop serves all of them.
#[derive(Debug)]
pub enum Protocol {
    /// Messages and nothing else.
    Plain(Plain),
    /// HTTP or WebSocket. In a box: they have more to remember than the others.
    Web(Box<Web>),
}

impl Protocol {
    /// At the beginning of a connection. Messages of more than `message_bytes_max` bytes (at most
    /// 1 GiB) are a [`Violation`]; raw has no messages to measure.
    pub fn new(framing: Framing, message_bytes_max: usize) -> Protocol {
        let message_bytes_max = message_bytes_max.min(1 << 30) as u32;
        match framing {
            Framing::Raw => Protocol::Plain(Plain::Raw(Raw)),
            Framing::Lines => Protocol::Plain(Plain::Lines(Lines::new(message_bytes_max))),
            Framing::Prefixed => Protocol::Plain(Plain::Prefixed(Prefixed::new(message_bytes_max))),
            #[cfg(feature = "web")]
            Framing::Http | Framing::WebSocket => Protocol::Web(Box::new(Web::new(message_bytes_max))),
        }
    }

    /// Which protocol it is.
    pub fn framing(&self) -> Framing {
        match self {
            Protocol::Plain(plain) => plain.framing(),
            Protocol::Web(web) => web.framing(),
        }
    }

    /// The most bytes that can wait for the rest of a message of at most `message_bytes_max`.
    pub fn inbox_bytes_max(framing: Framing, message_bytes_max: usize) -> usize {
        /// What a line's or a prefixed message's framing takes.
        const FRAMING_BYTES: usize = 16;
        match framing {
            Framing::Raw | Framing::Lines | Framing::Prefixed => {
                message_bytes_max.saturating_add(FRAMING_BYTES)
            }
            #[cfg(feature = "web")]
            Framing::Http | Framing::WebSocket => http::Http::inbox_bytes_max(message_bytes_max),
        }
    }

    /// The most bytes of a message, where at most `inbox_bytes_max` can wait.
    pub fn message_bytes_max(framing: Framing, inbox_bytes_max: usize) -> usize {
        let left = inbox_bytes_max.saturating_sub(Protocol::inbox_bytes_max(framing, 0));
        match framing {
            Framing::Raw | Framing::Lines | Framing::Prefixed => left,
            // In chunks, a body may take twice its length.
            #[cfg(feature = "web")]
            Framing::Http | Framing::WebSocket => left / 2,
        }
    }

    /// Returns the message that `bytes` hold, of which `decode` can make no more, if nothing comes behind them.
    ///
    /// # Errors
    /// If a message ends before its end.
    pub fn decode_end<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Message<'a>>, Violation> {
        match self {
            Protocol::Plain(plain) => plain.decode_end(bytes),
            Protocol::Web(web) => web.decode_end(bytes).map(|()| None),
        }
    }

    /// Appends what the peer receives when it broke the rules: a line if it reads lines, nothing
    /// if a reply could be taken for data.
    pub fn encode_violation(&mut self, violation: Violation, sink: &mut impl Sink) {
        match self {
            Protocol::Plain(plain) => plain.encode_violation(violation, sink),
            Protocol::Web(web) => web.encode_violation(violation, sink),
        }
    }

    /// Whether what is encoded for this framing can be sent now.
    #[inline]
    pub fn can_send_encoded(&self, framing: Framing) -> bool {
        match self {
            Protocol::Plain(plain) => plain.framing() == framing,
            Protocol::Web(web) => web.can_send_encoded(framing),
        }
    }

    /// Appends what the protocol says before our end of file: a Close frame over WebSocket, otherwise nothing. `is_stopping`:
    /// because the server stops (RFC 6455 section 7.4.1: it is "going away").
    pub fn encode_close(&mut self, is_stopping: bool, sink: &mut impl Sink) {
        match self {
            Protocol::Plain(_) => {}
            Protocol::Web(web) => web.encode_close(is_stopping, sink),
        }
    }

    /// Whether a message can be sent now: over HTTP, only while a request is being answered.
    #[inline]
    pub fn can_send(&self) -> bool {
        match self {
            Protocol::Plain(_) => true,
            Protocol::Web(web) => web.can_send(),
        }
    }

    /// Appends the message, framed.
    #[inline(always)]
    pub fn encode(&mut self, message: Message<'_>, sink: &mut impl Sink) {
        match self {
            Protocol::Plain(plain) => plain.encode(message, sink),
            Protocol::Web(web) => web.encode(message, sink),
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

    pub(super) fn plain(framing: Framing, message_bytes_max: usize) -> Plain {
        match Protocol::new(framing, message_bytes_max) {
            Protocol::Plain(plain) => plain,
            Protocol::Web(web) => panic!("{web:?} has a decode of its own"),
        }
    }

    /// Feeds `input` in the given pieces the way the reactor does: bytes are kept until they are
    /// consumed. Returns the messages, and the violation that ended them.
    fn feed(plain: &mut Plain, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<Violation>) {
        let (mut waiting, mut messages) = (Vec::new(), Vec::new());
        for piece in pieces {
            waiting.extend_from_slice(piece);
            loop {
                match plain.decode(&waiting) {
                    Ok(Step::Message { message, consumed }) => {
                        messages.push(message.bytes().to_vec());
                        waiting.drain(..consumed);
                    }
                    Ok(Step::NeedMore) => break,
                    Err(violation) => return (messages, Some(violation)),
                }
            }
        }
        let end = plain.decode_end(&waiting);
        messages.extend(end.into_iter().flatten().map(|message| message.bytes().to_vec()));
        (messages, end.err())
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
        let new = || plain(framing, message_bytes_max);
        for at in 0..=input.len() {
            let pieces = [&input[..at], &input[at..]];
            assert_eq!(feed(&mut new(), &pieces), expected, "{framing:?}, cut at {at} of {input:?}");
        }
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        assert_eq!(feed(&mut new(), &bytes), expected, "{framing:?}, byte by byte of {input:?}");
    }
}
