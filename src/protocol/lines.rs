//! Lines: a message ends with LF or CRLF, which are not part of it.
//!
//! A CR anywhere else is an ordinary byte. The last line may lack its end, as `printf hello | nc` sends
//! it: the end of file ends it, too. Text where a line is valid UTF-8.
//!
//! A browser sends what a page of any site wants, to any port. So a connection whose first line is an HTTP request, or that
//! begins with a TLS handshake, is refused before a line of it is served: else the body of a page's POST would be obeyed.
//!
//! Invariant: the first `scanned` of the waiting bytes hold no LF. So a line that trickles in byte by
//! byte costs one look at each byte, and not one at each byte for each byte.

use std::io::BufRead;

use super::message::{Message, Sink, Step, Violation};

/// Where a connection stands.
#[derive(Debug)]
pub struct Lines {
    scanned: u32,
    message_bytes_max: u32,
    /// No line has been served yet.
    is_first: bool,
}

impl Lines {
    /// Lines have at most `message_bytes_max` bytes, their ends not counted.
    pub fn new(message_bytes_max: u32) -> Lines {
        Lines { scanned: 0, message_bytes_max, is_first: true }
    }

    /// The first line, if it is all there.
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<Step<'a>, Violation> {
        let message_bytes_max = self.message_bytes_max as usize;
        let scanned = self.scanned as usize;
        if self.is_first && is_tls(bytes) {
            return Err(Violation::OtherProtocol("TLS"));
        }
        let Some(found) = find_lf(&bytes[scanned..]) else {
            self.scanned = bytes.len() as u32;
            // A CR in the last place may yet turn out to belong to the line's end.
            let line = bytes.strip_suffix(b"\r").unwrap_or(bytes);
            return match line.len() <= message_bytes_max {
                true => Ok(Step::NeedMore),
                false => Err(Violation::TooLong { message_bytes_max }),
            };
        };
        self.scanned = 0;
        let end = scanned + found;
        let line = &bytes[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > message_bytes_max {
            return Err(Violation::TooLong { message_bytes_max });
        }
        if std::mem::take(&mut self.is_first) && is_http(line) {
            return Err(Violation::OtherProtocol("HTTP"));
        }
        Ok(Step::Message { message: Message::from_bytes(line), consumed: end + 1 })
    }
}

impl Lines {
    /// A line that the end of file ended.
    pub(super) fn decode_end<'a>(&self, bytes: &'a [u8]) -> Result<Message<'a>, Violation> {
        match self.is_first && is_http(bytes) {
            true => Err(Violation::OtherProtocol("HTTP")),
            false => Ok(Message::from_bytes(bytes)),
        }
    }
}

/// Where the first LF is. A slice is a `BufRead`, and that one's search is the standard library's
/// `memchr`, a word at a time, which it offers under no other name.
pub(super) fn find_lf(mut bytes: &[u8]) -> Option<usize> {
    let whole = bytes;
    let skipped = bytes.skip_until(b'\n').expect("a slice has no read errors");
    (whole[..skipped].last() == Some(&b'\n')).then(|| skipped - 1)
}

/// Whether it is a request line: `POST / HTTP/1.1`.
fn is_http(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let of_a_path =
        target.starts_with(b"/") || target == b"*" || target.windows(3).any(|three| three == b"://");
    !method.is_empty()
        && method.iter().all(|byte| byte.is_ascii_uppercase())
        && version.starts_with(b"HTTP/")
        && (of_a_path || method == b"CONNECT")
}

/// Whether it begins as a TLS client does: with the record of a handshake, of any version from SSL 3.0 to TLS 1.3.
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [22, 3, 0..=4, ..])
}

/// The message and LF. A message that holds an LF itself arrives as several lines.
#[inline(always)]
pub(super) fn encode(message: Message<'_>, sink: &mut impl Sink) {
    sink.put(message.bytes());
    sink.put(b"\n");
}

#[cfg(test)]
mod tests {
    use super::super::Framing;
    use super::super::tests::at_every_split;
    use super::*;

    fn lines(input: &[u8], messages: &[&[u8]], violation: Option<Violation>) {
        at_every_split(Framing::Lines, 8, input, messages, violation);
    }

    #[test]
    fn lf_and_crlf_end_a_line_at_every_split() {
        lines(b"", &[], None);
        lines(b"\n", &[b""], None);
        lines(b"\r\n", &[b""], None);
        lines(b"one\ntwo\r\n\nthree", &[b"one", b"two", b"", b"three"], None);
        lines(b"a\rb\r\r\n", &[b"a\rb\r"], None);
        lines("grüß\n".as_bytes(), &["grüß".as_bytes()], None);
        lines(b"\xff\xfe\n", &[b"\xff\xfe"], None);
    }

    #[test]
    fn the_limit_counts_the_line_and_not_its_end() {
        let too_long = Some(Violation::TooLong { message_bytes_max: 8 });
        lines(b"12345678\n", &[b"12345678"], None);
        lines(b"12345678\r\n", &[b"12345678"], None);
        lines(b"ok\n123456789\nnever\n", &[b"ok"], too_long);
        lines(b"123456789", &[], too_long);
        lines(b"12345678\rx", &[], too_long);
    }

    #[test]
    fn a_connection_that_begins_with_http_or_tls_is_refused_at_every_split() {
        let refused = |input: &[u8], name| {
            at_every_split(Framing::Lines, 60, input, &[], Some(Violation::OtherProtocol(name)));
        };
        refused(b"POST / HTTP/1.1\r\nHost: h\r\n\r\n/nick admin\n", "HTTP");
        refused(b"GET /a?b HTTP/1.0\n\n", "HTTP");
        refused(b"OPTIONS * HTTP/1.1\r\n", "HTTP");
        refused(b"GET http://h/ HTTP/1.1\r\n", "HTTP");
        refused(b"CONNECT h:443 HTTP/1.1\r\n", "HTTP");
        refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP");
        refused(b"GET / HTTP/1.1", "HTTP");
        refused(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 a ticket \n/nick admin\n", "TLS");
        // A person may speak of it, and anybody may later.
        for line in ["GET", "GET /", "I love HTTP/1.1", "get / HTTP/1.1", "POST / HTTP/1.1 is a request line"]
        {
            at_every_split(Framing::Lines, 60, line.as_bytes(), &[line.as_bytes()], None);
        }
        at_every_split(Framing::Lines, 60, b"hi\nGET / HTTP/1.1\n", &[b"hi", b"GET / HTTP/1.1"], None);
    }

    #[test]
    fn what_was_scanned_is_not_scanned_again() {
        let mut lines = Lines::new(1000);
        assert_eq!(lines.decode(b"abc"), Ok(Step::NeedMore));
        // Bytes that the promise says are unchanged are not looked at: an LF put there goes unseen.
        assert_eq!(lines.decode(b"a\nc"), Ok(Step::NeedMore));
        let step = Step::Message { message: Message::Text("abcd"), consumed: 5 };
        assert_eq!(lines.decode(b"abcd\nef"), Ok(step));
        assert_eq!(lines.decode(b"ef"), Ok(Step::NeedMore));
    }

    #[test]
    fn text_where_it_is_utf_8() {
        let decode = |bytes| Lines::new(10).decode(bytes);
        assert!(matches!(decode("é\n".as_bytes()), Ok(Step::Message { message: Message::Text("é"), .. })));
        let step = Step::Message { message: Message::Binary(b"\xe9"), consumed: 2 };
        assert_eq!(decode(b"\xe9\n"), Ok(step));
    }

    #[test]
    fn encode_ends_the_line() {
        let mut sink = Vec::new();
        encode(Message::Text("hi"), &mut sink);
        assert_eq!(sink, b"hi\n");
    }
}
