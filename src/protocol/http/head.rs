//! The head of a request: where it ends, what it says, and whether it may be believed.

use super::super::Violation;
use super::{FIELDS_MAX, Fields, HEAD_BYTES_MAX};

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
    /// The value of the first field with this name, whatever its case.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields, in the order in which they came.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.fields.iter().map(|field| (field.name, field.value))
    }

    /// Whether a field with this name lists this word, whatever their case.
    pub fn lists(&self, name: &str, word: &str) -> bool {
        let of_that_name = |(field, _): &(&str, _)| field.eq_ignore_ascii_case(name);
        self.fields().filter(of_that_name).any(|(_, value)| lists(value, word))
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

/// Whether a field's value, a list with commas, has this word.
pub(super) fn lists(value: &[u8], word: &str) -> bool {
    value.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
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
    Ok((Request { method, target, version, fields, body: &[], head_len }, facts))
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
    let (mut host, mut length, mut chunked) = (None, None, false);
    let (mut hosts, mut lengths) = (0, 0);
    for field in fields {
        let value = field.value;
        // The length first: of all the fields that a browser sends, few are of one of these.
        match field.name.len() {
            4 if field.name.eq_ignore_ascii_case("host") => {
                hosts += 1;
                host = Some(value);
            }
            6 if field.name.eq_ignore_ascii_case("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Violation::Http { status: 417, problem: "that can't be expected of us" });
                }
                facts.expects_continue = version == Version::Http11;
            }
            10 if field.name.eq_ignore_ascii_case("connection") => {
                facts.says_close |= lists(value, "close");
                facts.says_keep_alive |= lists(value, "keep-alive");
            }
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                lengths += 1;
                length = Some(content_length(value)?);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                if version == Version::Http10 {
                    return Err(bad("HTTP/1.0 knows no Transfer-Encoding"));
                }
                if std::mem::replace(&mut chunked, true) {
                    return Err(bad("there are two Transfer-Encoding fields"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    // Where chunked comes last, the end could be told, and the coding is merely unknown.
                    return match value.to_ascii_lowercase().ends_with(b"chunked") && value.contains(&b',') {
                        true => {
                            Err(Violation::Http { status: 501, problem: "the transfer coding is unknown" })
                        }
                        false => Err(bad("the body's end can't be told by this Transfer-Encoding")),
                    };
                }
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
        let scheme = target.get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case("http://"))
            || target.get(..8).is_some_and(|begin| begin.eq_ignore_ascii_case("https://"));
        scheme && !target.ends_with("://")
    };
    let well_formed = target.starts_with('/') || (target == "*" && method == "OPTIONS") || is_url();
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

/// A name or an address, and perhaps a port: RFC 3986's characters, so that it can be used in a redirection and a log.
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte))
}
