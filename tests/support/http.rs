//! A client of HTTP that trusts nothing: it reads an answer byte by byte, as RFC 9112 says where it ends.

#![allow(dead_code)] // each test file uses its part of the verbs

use super::{Client, PATIENCE};

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The one value of this field; `None` where there is none.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let value = values.next();
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        value.map(|(_, value)| &value[..])
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("it is text")
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }
}

impl Client {
    /// Asks for a path, and hears the answer.
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    /// Asks with these fields, each ended by CRLF.
    pub(crate) fn ask(&mut self, method: &str, path: &str, fields: &str) -> Answer {
        self.say(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
        self.hear_answer(method)
    }

    /// Sends a body.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Answer {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        self.say([head.as_bytes(), body].concat());
        self.hear_answer("POST")
    }

    /// The answer to a request with this method.
    pub(crate) fn hear_answer(&mut self, method: &str) -> Answer {
        let answer = self.hear_head();
        self.hear_body(method, answer)
    }

    pub(crate) fn hear_head(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.hear_exactly(1));
            assert!(head.len() < 8192, "that is no head: {:?}", String::from_utf8_lossy(&head));
        }
        let head = String::from_utf8(head).expect("a head is text");
        assert_eq!(head.matches('\n').count(), head.matches("\r\n").count(), "{head:?}");
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().expect("a status line");
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("what is {first:?}?"));
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("what is {line:?}?"));
            (name.to_owned(), value.to_owned())
        };
        Answer { status, fields: lines.map(field).collect(), body: Vec::new() }
    }

    fn hear_body(&mut self, method: &str, mut answer: Answer) -> Answer {
        if method == "HEAD" || matches!(answer.status, 100..200 | 204 | 304) {
            return answer;
        }
        answer.body = match (answer.field("content-length"), answer.field("transfer-encoding")) {
            (Some(length), None) => self.hear_exactly(length.parse().expect("a number")),
            (None, Some("chunked")) => {
                let mut body = Vec::new();
                while let Some(chunk) = self.hear_chunk() {
                    body.extend(chunk);
                }
                body
            }
            (None, None) if answer.closes() => self.hear_until_the_end(),
            _ => panic!("where does its body end? {answer:?}"),
        };
        answer
    }

    /// The next chunk; `None` for the last one, which is empty.
    pub(crate) fn hear_chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.hear_exactly(1));
        }
        let size = std::str::from_utf8(&line[..line.len() - 2]).expect("digits");
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("what is {size:?}?"));
        let mut chunk = self.hear_exactly(size + 2);
        assert_eq!(chunk.split_off(size), b"\r\n");
        (size > 0).then_some(chunk)
    }

    /// Whether nothing but the end comes, at once.
    pub(crate) fn is_at_its_end(&mut self) -> bool {
        self.hears_something_within(PATIENCE) && self.hear_some() == 0
    }
}
