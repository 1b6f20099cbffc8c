//! The access log: one line for each request, in the common log format of NCSA's httpd and everybody since:
//!
//! ```text
//! 127.0.0.1 - - [24/Nov/2026:18:00:00 +0000] "GET /index.html HTTP/1.1" 200 1234
//! ```
//!
//! What comes from a peer is escaped, so that a line stays one and its quotes stay where they are.

use std::fmt::Write;

use crate::protocol::http::{Date, Request};
use crate::transport::Address;

/// A request that is being answered; a line when it has been.
#[derive(Debug)]
pub(super) struct Entry {
    line: String,
}

impl Entry {
    pub(super) fn new(address: Option<Address>, date: &Date, request: &Request<'_>, status: u16) -> Entry {
        let mut line = String::with_capacity(128);
        match address {
            Some(Address::Ip(address)) => {
                let _ = write!(line, "{}", address.ip());
            }
            _ => line.push('-'),
        }
        // From "Sun, 06 Nov 1994 08:49:37 GMT".
        let part = |range: std::ops::Range<usize>| std::str::from_utf8(&date[range]).unwrap_or("-");
        let (day, month, year, time) = (part(5..7), part(8..11), part(12..16), part(17..25));
        let _ = write!(line, " - - [{day}/{month}/{year}:{time} +0000] \"");
        escape(request.method, &mut line);
        line.push(' ');
        escape(request.target, &mut line);
        let _ = write!(line, " {}\" {status}", request.version);
        Entry { line }
    }

    /// Counts `count` bytes of a body that were sent.
    pub(super) fn log(mut self, bytes: u64) {
        let _ = match bytes {
            0 => write!(self.line, " -"),
            bytes => write!(self.line, " {bytes}"),
        };
        log::info!(target: "access", "{}", self.line);
    }
}

fn escape(text: &str, line: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                let _ = write!(line, "\\{}", char::from(byte));
            }
            b' '..=b'~' => line.push(char::from(byte)),
            _ => {
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn a_line_stays_one() {
        let mut line = String::new();
        escape("/a\"b\\c\r\nd\u{1b}[31mé", &mut line);
        assert_eq!(line, "/a\\\"b\\\\c\\x0d\\x0ad\\x1b[31m\\xc3\\xa9");
    }
}
