//! What is said about a request: a head, and how the body's end is told.

use super::super::message::Sink;
use super::head::{Body, Date, Facts, Version};

/// The head of an answer, but for what the protocol adds: the date, the length, and whether the connection goes on.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// 200, for one. At least 200: interim answers are the protocol's.
    pub status: u16,
    /// Up to [`Response::FIELDS_MAX`] fields.
    fields: [(&'a str, &'a str); Response::FIELDS_MAX],
    count: usize,
    pub(super) close: bool,
}

impl<'a> Response<'a> {
    /// How many fields fit.
    pub const FIELDS_MAX: usize = 12;

    /// With no fields yet.
    pub fn new(status: u16) -> Response<'a> {
        Response { status, fields: [("", ""); Response::FIELDS_MAX], count: 0, close: false }
    }

    /// With this field behind the others.
    ///
    /// # Panics
    /// Beyond [`Response::FIELDS_MAX`].
    pub fn field(mut self, name: &'a str, value: &'a str) -> Response<'a> {
        self.fields[self.count] = (name, value);
        self.count += 1;
        self
    }

    /// The connection is closed behind it.
    pub fn closing(mut self) -> Response<'a> {
        self.close = true;
        self
    }

    /// These statuses end with their head (RFC 9112 section 6.3).
    pub(super) fn has_body(&self) -> bool {
        !matches!(self.status, 204 | 304)
    }
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// It has this many bytes.
    Bytes(u64),
    /// Known only when the body is over: it goes out in chunks, or up to the connection's end.
    Unknown,
}

/// What an answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No request is open: nothing was said.
    Nothing,
    /// There is more to come of it.
    More,
    /// It is whole: the next request may be served.
    Done,
    /// It is whole, and was the last: the caller must finish the connection.
    Last,
    /// It is shorter than it had announced: the caller must close the connection, so that the client can tell.
    Broken,
}

impl Progress {
    pub(super) fn of_the_end(last: bool) -> Progress {
        if last { Progress::Last } else { Progress::Done }
    }
}

/// How far the open request's answer has come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// No request is open.
    NothingAsked,
    /// Nothing has been said.
    Owed(Asked),
    /// The head is out.
    Begun { left: Length, chunked: bool, last: bool },
}

/// What an answer has to know of its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    version: Version,
    is_head: bool,
    says_close: bool,
    says_keep_alive: bool,
}

impl Answer {
    pub(super) fn owed(facts: &Facts) -> Answer {
        let Facts { version, is_head, says_close, says_keep_alive, .. } = *facts;
        debug_assert!(!facts.expects_continue || facts.body != Body::None);
        Answer::Owed(Asked { version, is_head, says_close, says_keep_alive })
    }

    /// To something that was no request.
    pub(super) fn refusal() -> Answer {
        let version = Version::Http11;
        Answer::Owed(Asked { version, is_head: false, says_close: true, says_keep_alive: false })
    }
}

impl Asked {
    /// The connection is for more than this request.
    pub(super) fn keeps_alive(self) -> bool {
        !self.says_close && (self.version == Version::Http11 || self.says_keep_alive)
    }

    pub(super) fn wants_body(self) -> bool {
        !self.is_head
    }

    pub(super) fn knows_chunks(self) -> bool {
        self.version == Version::Http11
    }
}

pub(super) fn put_head(
    response: &Response<'_>,
    length: Length,
    asked: Asked,
    last: bool,
    date: &Date,
    sink: &mut impl Sink,
) {
    let Response { status, fields, count, .. } = response;
    match status_line(*status) {
        Some(line) => sink.put(line.as_bytes()),
        None => sink.put(format!("HTTP/1.1 {status} \r\n").as_bytes()),
    }
    if date[0] != 0 {
        sink.put(b"Date: ");
        sink.put(date);
        sink.put(b"\r\n");
    }
    for (name, value) in &fields[..*count] {
        sink.put(name.as_bytes());
        sink.put(b": ");
        put_value(value, sink);
        sink.put(b"\r\n");
    }
    match length {
        // A 304 tells what a 200 would have had, which we don't know here; a 204 has none.
        _ if !response.has_body() => {}
        Length::Bytes(length) => {
            sink.put(b"Content-Length: ");
            put_number(length, sink);
            sink.put(b"\r\n");
        }
        Length::Unknown if asked.knows_chunks() => sink.put(b"Transfer-Encoding: chunked\r\n"),
        Length::Unknown => {}
    }
    if last {
        sink.put(b"Connection: close\r\n\r\n");
    } else if asked.version == Version::Http10 {
        sink.put(b"Connection: keep-alive\r\n\r\n");
    } else {
        sink.put(b"\r\n");
    }
}

/// Whatever it is made of, it stays one line.
fn put_value(value: &str, sink: &mut impl Sink) {
    if !value.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return sink.put(value.as_bytes());
    }
    let tame: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    sink.put(tame.as_bytes());
}

pub(super) fn put_chunk(bytes: &[u8], sink: &mut impl Sink) {
    sink.put(format!("{:x}\r\n", bytes.len()).as_bytes());
    sink.put(bytes);
    sink.put(b"\r\n");
}

/// In digits, without an allocation.
fn put_number(mut number: u64, sink: &mut impl Sink) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return sink.put(&digits[at..]);
        }
    }
}

/// RFC 9110 section 15.
fn status_line(status: u16) -> Option<&'static str> {
    Some(match status {
        200 => "HTTP/1.1 200 OK\r\n",
        201 => "HTTP/1.1 201 Created\r\n",
        202 => "HTTP/1.1 202 Accepted\r\n",
        204 => "HTTP/1.1 204 No Content\r\n",
        206 => "HTTP/1.1 206 Partial Content\r\n",
        301 => "HTTP/1.1 301 Moved Permanently\r\n",
        302 => "HTTP/1.1 302 Found\r\n",
        303 => "HTTP/1.1 303 See Other\r\n",
        304 => "HTTP/1.1 304 Not Modified\r\n",
        307 => "HTTP/1.1 307 Temporary Redirect\r\n",
        308 => "HTTP/1.1 308 Permanent Redirect\r\n",
        400 => "HTTP/1.1 400 Bad Request\r\n",
        401 => "HTTP/1.1 401 Unauthorized\r\n",
        403 => "HTTP/1.1 403 Forbidden\r\n",
        404 => "HTTP/1.1 404 Not Found\r\n",
        405 => "HTTP/1.1 405 Method Not Allowed\r\n",
        408 => "HTTP/1.1 408 Request Timeout\r\n",
        409 => "HTTP/1.1 409 Conflict\r\n",
        412 => "HTTP/1.1 412 Precondition Failed\r\n",
        413 => "HTTP/1.1 413 Content Too Large\r\n",
        414 => "HTTP/1.1 414 URI Too Long\r\n",
        416 => "HTTP/1.1 416 Range Not Satisfiable\r\n",
        417 => "HTTP/1.1 417 Expectation Failed\r\n",
        421 => "HTTP/1.1 421 Misdirected Request\r\n",
        426 => "HTTP/1.1 426 Upgrade Required\r\n",
        429 => "HTTP/1.1 429 Too Many Requests\r\n",
        431 => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
        500 => "HTTP/1.1 500 Internal Server Error\r\n",
        501 => "HTTP/1.1 501 Not Implemented\r\n",
        503 => "HTTP/1.1 503 Service Unavailable\r\n",
        505 => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
        _ => return None,
    })
}
