//! The protocols that have messages and nothing else: each step of decoding is a message, or a wait for more bytes.

use super::lines::{self, Lines};
use super::message::{Framing, Message, Sink, Step, Violation};
use super::prefixed::{self, Prefixed};
use super::raw::Raw;

/// One connection's protocol, if that is one of the simple ones.
#[derive(Debug)]
pub enum Plain {
    /// See [`raw`](super::raw).
    Raw(Raw),
    /// See [`lines`].
    Lines(Lines),
    /// See [`prefixed`].
    Prefixed(Prefixed),
}

impl Plain {
    /// Which protocol it is.
    pub fn framing(&self) -> Framing {
        match self {
            Plain::Raw(_) => Framing::Raw,
            Plain::Lines(_) => Framing::Lines,
            Plain::Prefixed(_) => Framing::Prefixed,
        }
    }

    /// Returns what `bytes` begin with. Called again after [`Step::NeedMore`], with the same bytes and more behind them, it
    /// does not look again at what it has seen.
    ///
    /// # Errors
    /// If no continuation could make `bytes` right.
    #[inline(always)]
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Violation> {
        match self {
            Plain::Raw(raw) => Ok(raw.decode(bytes)),
            Plain::Lines(lines) => lines.decode(bytes),
            Plain::Prefixed(prefixed) => prefixed.decode(bytes),
        }
    }

    /// Returns the message that `bytes` hold, of which [`Plain::decode`] can make no more, if nothing comes behind them.
    ///
    /// # Errors
    /// If a message ends before its end.
    pub fn decode_end<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Message<'a>>, Violation> {
        match self {
            _ if bytes.is_empty() => Ok(None),
            Plain::Raw(_) => Ok(None),
            Plain::Lines(lines) => lines.decode_end(bytes).map(Some),
            Plain::Prefixed(_) => Err(Violation::Truncated),
        }
    }

    /// Appends what the peer receives when it broke the rules: a line if it reads lines. A reply in the other protocols could
    /// be taken for data.
    pub(super) fn encode_violation(&self, violation: Violation, sink: &mut impl Sink) {
        if let Plain::Lines(_) = self {
            sink.put(format!("error: {violation}\n").as_bytes());
        }
    }

    /// Appends the message, framed.
    #[inline(always)]
    pub(super) fn encode(&self, message: Message<'_>, sink: &mut impl Sink) {
        match self {
            Plain::Raw(_) => sink.put(message.bytes()),
            Plain::Lines(_) => lines::encode(message, sink),
            Plain::Prefixed(_) => prefixed::encode(message, sink),
        }
    }
}
