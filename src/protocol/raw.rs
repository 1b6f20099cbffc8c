//! No framing: what came in one read is one message.
//!
//! TCP is a stream. Where a read ends says nothing about where the peer's write ended, so this is for
//! services to which it makes no difference, like echo.

use super::message::{Message, Step};

/// There is nothing to remember.
#[derive(Debug)]
pub struct Raw;

impl Raw {
    /// All of it.
    #[inline]
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        match bytes.len() {
            0 => Step::NeedMore,
            consumed => Step::Message { message: Message::Binary(bytes), consumed },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_read_is_a_message_and_none_is_empty() {
        assert_eq!(Raw.decode(b""), Step::NeedMore);
        let step = Step::Message { message: Message::Binary(b"\xff\0"), consumed: 2 };
        assert_eq!(Raw.decode(b"\xff\0"), step);
    }
}
