//! The head of a request: where it ends, what it says, and whether it may be believed.
//!
//! A list may be spread over several lines of the same name, and means the same as in one (RFC 9110 section 5.3). So a
//! list is only ever read with [`Request::items`], which passes over all of its lines.

use std::mem::MaybeUninit;
use std::time::SystemTime;

use super::super::message::Violation;

/// Bytes of a head, from the first of its request line to the empty line. nginx takes 8 to 32 KiB, Apache 8 KiB a line.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Fields of a head.
pub const FIELDS_MAX: usize = 100;

/// The date as answers have it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub type Date = [u8; 29];

/// Room for the fields of one head, for [`Http::decode`](super::Http::decode).
pub type Fields<'a> = [MaybeUninit<httparse::Header<'a>>; FIELDS_MAX];

/// Room for the fields of one head.
pub fn fields<'a>() -> Fields<'a> {
    [const { MaybeUninit::uninit() }; FIELDS_MAX]
}

/// A request, borrowed from where it was received.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, for one; case matters.
    pub method: &'a str,
    /// What is asked for, as it was sent: a path and perhaps a query, `*`, or a whole URL.
    pub target: &'a str,
    /// Which HTTP the client speaks.
    pub version: Version,
    fields: &'a [httparse::Header<'a>],
    /// The body; empty where there is none.
    pub body: &'a [u8],
    pub(super) head_len: usize,
    pub(super) date: Date,
}

/// Which HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 1.0: a connection is for one request, unless it says otherwise.
    Http10,
    /// 1.1, and what may come after it in that line.
    Http11,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        })
    }
}

impl<'a> Request<'a> {
    /// The value of the first field with this name, whatever its case. For a list, use [`Request::items`]; for a value
    /// that decides something, [`Request::only`].
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// The value of the field with this name; `None` where there is none, or where it is there twice: such a request
    /// contradicts itself, and a condition or a range in it is passed over.
    pub fn only(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The values of all fields with this name, whatever its case, in the order in which they came.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The items of a list, of all lines with this name, without the space around them. Empty ones are left out.
    pub fn items(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.values(name).flat_map(items)
    }

    /// All fields, in the order in which they came.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.fields.iter().map(|field| (field.name, field.value))
    }

    /// Whether a field with this name lists this word, whatever their case.
    pub fn lists(&self, name: &str, word: &str) -> bool {
        self.items(name).any(|item| item.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// The date that the answer will have, to the second; `None` where the clock says none.
    pub fn date(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(std::str::from_utf8(&self.date).ok()?).ok()
    }

    /// The path as it was sent, without the query: that of a whole URL, too.
    pub fn path(&self) -> &'a str {
        let target = match self.target.split_once("://") {
            Some((_, behind)) if !self.target.starts_with('/') => match behind.find(['/', '?']) {
                Some(at) if behind.as_bytes()[at] == b'/' => &behind[at..],
                _ => "/",
            },
            _ => self.target,
        };
        target.split(['?', '#']).next().unwrap_or_default()
    }

    /// What stands behind the path's question mark.
    pub fn query(&self) -> Option<&'a str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}

/// The items of one line of a list. A comma between double quotes belongs to its item: entity tags may have some.
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let ends_item = move |byte: &u8| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    };
    value.split(ends_item).map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// What matters to the connection about a head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) version: Version,
    pub(super) is_head: bool,
    /// The client said that this is its last request.
    pub(super) says_close: bool,
    /// The client said that it is not.
    pub(super) says_keep_alive: bool,
    pub(super) body: Body,
    pub(super) expects_continue: bool,
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Length(u64),
    Chunked,
}

/// Empty lines before the request are passed over: "at least one" (RFC 9112 section 2.2), and not any number.
const EMPTY_LINES_MAX: usize = 4;

/// Where the head ends, behind its empty line, if it is all there. Each byte is looked at once, however they come.
pub(super) fn find_end(bytes: &[u8], scanned: &mut u32, line: &mut u32) -> Result<Option<usize>, Violation> {
    while let Some(found) = super::super::lines::find_lf(&bytes[*scanned as usize..]) {
        let (begin, lf) = (*line as usize, *scanned as usize + found);
        // httparse would take it, as RFC 9112 section 2.2 allows; a proxy in front of us may not.
        if lf == begin || bytes[lf - 1] != b'\r' {
            return Err(bad("a line ends in LF without CR"));
        }
        let is_empty = lf - 1 == begin;
        (*scanned, *line) = (lf as u32 + 1, lf as u32 + 1);
        if !is_empty {
            continue;
        }
        if begin > EMPTY_LINES_MAX * 2 || bytes[..begin].iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            return match lf < HEAD_BYTES_MAX {
                true => Ok(Some(lf + 1)),
                false => Err(too_long(bytes)),
            };
        }
        if begin == EMPTY_LINES_MAX * 2 {
            return Err(bad("there are only empty lines"));
        }
    }
    *scanned = bytes.len() as u32;
    match bytes.len() <= HEAD_BYTES_MAX {
        true => Ok(None),
        false => Err(too_long(bytes)),
    }
}

/// Which part is too long.
fn too_long(bytes: &[u8]) -> Violation {
    match super::super::lines::find_lf(bytes) {
        Some(at) if at < HEAD_BYTES_MAX / 2 => {
            Violation::Http { status: 431, problem: "the header fields are too large" }
        }
        _ => Violation::Http { status: 414, problem: "the request line is too long" },
    }
}

fn bad(problem: &'static str) -> Violation {
    Violation::Http { status: 400, problem }
}

/// Parses and judges the head that `bytes` begin with, and that is all there.
pub(super) fn parse<'a>(
    bytes: &'a [u8],
    fields: &'a mut Fields<'a>,
    date: &Date,
) -> Result<(Request<'a>, Facts), Violation> {
    let mut parsed = httparse::Request::new(&mut []);
    let head_len = match parsed.parse_with_uninit_headers(bytes, fields) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Err(bad("the head makes no sense")),
        Err(error) => return Err(of(error, bytes)),
    };
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    let version = match parsed.version {
        Some(0) => Version::Http10,
        _ => Version::Http11,
    };
    let fields: &'a [httparse::Header<'a>] = parsed.headers;
    let facts = judge(method, target, version, fields)?;
    Ok((Request { method, target, version, fields, body: &[], head_len, date: *date }, facts))
}

fn of(error: httparse::Error, bytes: &[u8]) -> Violation {
    match error {
        httparse::Error::TooManyHeaders => {
            Violation::Http { status: 431, problem: "there are too many header fields" }
        }
        httparse::Error::Version if names_a_version(bytes) => {
            Violation::Http { status: 505, problem: "the version is not HTTP/1.1 or HTTP/1.0" }
        }
        httparse::Error::HeaderName => bad("a field's name is malformed"),
        httparse::Error::HeaderValue => bad("a field's value is malformed"),
        httparse::Error::NewLine => bad("a line's end is malformed"),
        httparse::Error::Token | httparse::Error::Status | httparse::Error::Version => {
            bad("the request line is malformed")
        }
    }
}

/// Whether the request line is one of another HTTP: else it is none.
fn names_a_version(bytes: &[u8]) -> bool {
    let line =
        bytes.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty()).unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    let is_version = |word: &[u8]| matches!(word, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit());
    words.next().is_some_and(is_version) && words.next().is_none()
}

fn judge(
    method: &str,
    target: &str,
    version: Version,
    fields: &[httparse::Header<'_>],
) -> Result<Facts, Violation> {
    debug_assert!(fields.len() <= FIELDS_MAX);
    let mut facts = Facts {
        version,
        is_head: method == "HEAD",
        says_close: false,
        says_keep_alive: false,
        body: Body::None,
        expects_continue: false,
    };
    let (mut host, mut length) = (None, None);
    let (mut hosts, mut lengths) = (0, 0);
    let mut codings = Codings::None;
    for field in fields {
        let value = field.value;
        // The length first: of all the fields that a browser sends, few are of one of these.
        match field.name.len() {
            4 if field.name.eq_ignore_ascii_case("host") => {
                hosts += 1;
                host = Some(value);
            }
            6 if field.name.eq_ignore_ascii_case("expect") => {
                for expectation in items(value) {
                    if !expectation.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Violation::Http { status: 417, problem: "that can't be expected of us" });
                    }
                    facts.expects_continue = version == Version::Http11;
                }
            }
            10 if field.name.eq_ignore_ascii_case("connection") => {
                for option in items(value) {
                    facts.says_close |= option.eq_ignore_ascii_case(b"close");
                    facts.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                lengths += 1;
                length = Some(content_length(value)?);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                if version == Version::Http10 {
                    return Err(bad("HTTP/1.0 knows no Transfer-Encoding"));
                }
                codings = codings.and(value)?;
            }
            _ => {}
        }
    }
    if hosts > 1 {
        return Err(bad("there are two Host fields"));
    }
    if lengths > 1 {
        return Err(bad("there are two Content-Length fields"));
    }
    match (host, version) {
        (None, Version::Http11) => return Err(bad("the Host field is missing")),
        (Some(host), _) if !is_host(host) => return Err(bad("the Host field is malformed")),
        _ => {}
    }
    let chunked = codings.judge()?;
    facts.body = match (length, chunked) {
        (Some(_), true) => return Err(bad("Content-Length and Transfer-Encoding exclude each other")),
        (None, true) => Body::Chunked,
        (None | Some(0), false) => Body::None,
        (Some(length), false) => Body::Length(length),
    };
    facts.expects_continue &= facts.body != Body::None;
    if method == "CONNECT" {
        return Err(Violation::Http { status: 501, problem: "this is no proxy" });
    }
    let is_url = || {
        let (scheme, behind) = target.split_once("://")?;
        let authority = behind.split(['/', '?']).next().unwrap_or_default();
        let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        (is_web && !authority.is_empty() && is_host(authority.as_bytes())).then_some(())
    };
    let well_formed = target.starts_with('/') || (target == "*" && method == "OPTIONS") || is_url().is_some();
    if !well_formed || target.bytes().any(|byte| byte == b'#' || byte >= 0x7f) {
        return Err(bad("the request target is malformed"));
    }
    Ok(facts)
}

/// One number in digits: a list of equal ones, which RFC 9112 lets us take, is a doubt all the same.
fn content_length(value: &[u8]) -> Result<u64, Violation> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    number.ok_or(bad("Content-Length is no number"))
}

/// What the lines of Transfer-Encoding came to so far.
#[derive(Debug, Clone, Copy)]
enum Codings {
    /// There is none.
    None,
    /// There is one that we don't know.
    Unknown,
    /// `chunked` is the last one; whether there is one before it that we don't know.
    Chunked { behind_unknown: bool },
}

impl Codings {
    /// With those of one more line. What is no list of names leaves a doubt, and so does `chunked` that is not the last.
    fn and(mut self, value: &[u8]) -> Result<Codings, Violation> {
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        for item in value.split(|byte| *byte == b',').map(|item| item.trim_ascii()) {
            let name = item.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
            self = match self {
                _ if name.is_empty() || !name.iter().all(is_token) => return Err(endless()),
                Codings::Chunked { .. } => return Err(endless()),
                before if item.eq_ignore_ascii_case(b"chunked") => {
                    Codings::Chunked { behind_unknown: matches!(before, Codings::Unknown) }
                }
                _ => Codings::Unknown,
            };
        }
        Ok(self)
    }

    /// Whether the body comes in chunks.
    fn judge(self) -> Result<bool, Violation> {
        match self {
            Codings::None => Ok(false),
            Codings::Chunked { behind_unknown: false } => Ok(true),
            Codings::Unknown | Codings::Chunked { behind_unknown: true } => {
                Err(Violation::Http { status: 501, problem: "the transfer coding is unknown" })
            }
        }
    }
}

fn endless() -> Violation {
    bad("the body's end can't be told by this Transfer-Encoding")
}

/// A name or an address, and perhaps a port: RFC 3986's characters, so that it can be used in a redirection and a log.
fn is_host(value: &[u8]) -> bool {
    let is_of_a_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte);
    let (name, port) = match value.iter().position(|byte| *byte == b']') {
        Some(end) if value[0] == b'[' => {
            let (address, behind) = (&value[1..end], &value[end + 1..]);
            if address.is_empty() || !address.iter().all(|byte| *byte == b':' || is_of_a_name(byte)) {
                return false;
            }
            (&b""[..], behind)
        }
        _ => value.split_at(value.iter().position(|byte| *byte == b':').unwrap_or(value.len())),
    };
    let is_port = |digits: &[u8]| {
        let number = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        digits.is_empty() || number.is_some_and(|text| text.parse::<u16>().is_ok())
    };
    name.iter().all(is_of_a_name) && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port))
}
