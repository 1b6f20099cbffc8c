//! Length-prefixed messages: four bytes of length, big-endian (network order), and then that many bytes.
//!
//! The announced length is judged before anything is kept for it: a peer that announces 4 GiB and
//! sends nothing has cost four bytes. It holds no state: the length is read again from the waiting
//! bytes, which is four bytes of work.

use super::message::{Message, Sink, Step, Violation};

/// Bytes of the length.
const HEADER_BYTES: usize = 4;

/// The limit of a connection.
#[derive(Debug)]
pub struct Prefixed {
    message_bytes_max: u32,
}

impl Prefixed {
    /// Messages have at most `message_bytes_max` bytes, their lengths not counted.
    pub fn new(message_bytes_max: u32) -> Prefixed {
        Prefixed { message_bytes_max }
    }

    /// The first message, if it is all there. It may be empty.
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Violation> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(Step::NeedMore);
        };
        let length = u32::from_be_bytes(*header);
        if length > self.message_bytes_max {
            return Err(Violation::TooLong { message_bytes_max: self.message_bytes_max as usize });
        }
        let length = length as usize;
        Ok(match rest.get(..length) {
            Some(body) => Step::Message { message: Message::Binary(body), consumed: HEADER_BYTES + length },
            None => Step::NeedMore,
        })
    }
}

/// The length and the message.
///
/// # Panics
/// If the message has 4 GiB or more: no outbox takes that.
#[inline(always)]
pub(super) fn encode(message: Message<'_>, sink: &mut impl Sink) {
    let bytes = message.bytes();
    let length = u32::try_from(bytes.len()).expect("a message is far below 4 GiB");
    sink.put(&length.to_be_bytes());
    sink.put(bytes);
}

#[cfg(test)]
mod tests {
    use super::super::Framing;
    use super::super::tests::{at_every_split, plain};
    use super::*;

    fn prefixed(input: &[u8], messages: &[&[u8]], violation: Option<Violation>) {
        at_every_split(Framing::Prefixed, 8, input, messages, violation);
    }

    #[test]
    fn messages_come_whole_at_every_split() {
        prefixed(b"", &[], None);
        prefixed(b"\0\0\0\0", &[b""], None);
        prefixed(b"\0\0\0\x03abc\0\0\0\0\0\0\0\x0812345678", &[b"abc", b"", b"12345678"], None);
    }

    #[test]
    fn an_announced_length_beyond_the_limit_is_refused_at_once() {
        let too_long = Some(Violation::TooLong { message_bytes_max: 8 });
        prefixed(b"\0\0\0\x09", &[], too_long);
        prefixed(b"\0\0\0\x01a\xff\xff\xff\xffrest", &[b"a"], too_long);
    }

    /// The least length that four capital letters make is more than 1 GiB, and that is more than any limit.
    #[test]
    fn a_request_of_http_is_a_message_that_is_too_long() {
        for method in ["GET / HTTP/1.1", "POST / HTTP/1.1", "HEAD / HTTP/1.1", "AAAA / HTTP/1.1"] {
            let most = 1 << 30;
            let decoded = plain(Framing::Prefixed, usize::MAX).decode(method.as_bytes()).map(drop);
            assert_eq!(decoded, Err(Violation::TooLong { message_bytes_max: most }), "{method}");
        }
    }

    #[test]
    fn an_end_of_file_inside_a_message_is_a_truncation() {
        prefixed(b"\0\0\0\x01a\0\0", &[b"a"], Some(Violation::Truncated));
        prefixed(b"\0\0\0\x03ab", &[], Some(Violation::Truncated));
    }

    #[test]
    fn encode_and_decode_agree() {
        let mut protocol = plain(Framing::Prefixed, 1000);
        let mut sink = Vec::new();
        protocol.encode(Message::Binary(&[7; 300]), &mut sink);
        assert_eq!(sink[..4], [0, 0, 1, 44]);
        let step = Step::Message { message: Message::Binary(&[7; 300]), consumed: 304 };
        assert_eq!(protocol.decode(&sink), Ok(step));
    }
}
