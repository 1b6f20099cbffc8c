//! A body in chunks (RFC 9112 section 7.1): where it ends, and what it says.
//!
//! The chunks stay where they were received until the last one is there; only then are they put together. That costs
//! one copy, and leaves one place where an unfinished request waits. What frames the data may be as long as the data
//! and [`OVERHEAD_BYTES`] more: a chunk for each byte is no reason to hold six.
//!
//! Invariant: of the waiting bytes, the first `scanned` have been found to be in order.

use super::super::message::Violation;

/// What sizes, extensions and trailers may take, beside as much as the data.
const OVERHEAD_BYTES: usize = 8 * 1024;

/// A chunk's size and its extensions.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// A body of more than `body_bytes_max`, in chunks or not.
pub(super) fn too_large() -> Violation {
    Violation::Http { status: 413, problem: "the body is too large" }
}

/// The most bytes that a body of `body_bytes_max` takes in chunks, beyond its own.
pub(super) fn overhead_max(body_bytes_max: usize) -> usize {
    body_bytes_max + OVERHEAD_BYTES + LINE_BYTES_MAX
}

/// How far the search for the end has come.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    scanned: u32,
    data: u32,
    part: Part,
}

#[derive(Debug, Default, Clone, Copy)]
enum Part {
    /// A chunk's size, with extensions, to the line's end.
    #[default]
    Size,
    /// The last chunk has been: trailers, and then an empty line.
    Trailer,
}

fn bad(problem: &'static str) -> Violation {
    Violation::Http { status: 400, problem }
}

impl Chunks {
    /// How many bytes the body takes in all, if it is all there.
    pub(super) fn find_end(&mut self, bytes: &[u8], body_bytes_max: u32) -> Result<Option<usize>, Violation> {
        loop {
            let rest = &bytes[self.scanned as usize..];
            let Some(line) = line(rest)? else {
                let overhead = (self.scanned - self.data) as usize + rest.len();
                return match rest.len() <= LINE_BYTES_MAX && overhead <= self.overhead_max() {
                    true => Ok(None),
                    false => Err(bad("the chunks have more framing than data")),
                };
            };
            let behind = line.len() + 2;
            match self.part {
                Part::Trailer if line.is_empty() => return Ok(Some(self.scanned as usize + behind)),
                Part::Trailer => {
                    if !is_field(line) {
                        return Err(bad("a trailer is malformed"));
                    }
                    self.scanned += behind as u32;
                }
                Part::Size => {
                    let size = size(line)?;
                    if size > u64::from(body_bytes_max - self.data) {
                        return Err(too_large());
                    }
                    if size == 0 {
                        self.part = Part::Trailer;
                        self.scanned += behind as u32;
                        continue;
                    }
                    let Some(end) = rest.get(behind + size as usize..) else { return Ok(None) };
                    match end {
                        [b'\r', b'\n', ..] => {}
                        [] | [b'\r'] => return Ok(None),
                        _ => return Err(bad("a chunk is not as long as it says")),
                    }
                    self.data += size as u32;
                    self.scanned += (behind + size as usize + 2) as u32;
                }
            }
            if (self.scanned - self.data) as usize > self.overhead_max() {
                return Err(bad("the chunks have more framing than data"));
            }
        }
    }

    fn overhead_max(&self) -> usize {
        self.data as usize + OVERHEAD_BYTES
    }
}

/// Appends the data of a body that [`Chunks::find_end`] has found to be in order.
pub(super) fn unchunk(mut bytes: &[u8], data: &mut Vec<u8>) {
    while let Ok(Some(line)) = line(bytes) {
        let size = size(line).unwrap_or(0) as usize;
        let Some(chunk) = bytes.get(line.len() + 2..line.len() + 2 + size).filter(|chunk| !chunk.is_empty())
        else {
            return;
        };
        data.extend_from_slice(chunk);
        bytes = &bytes[line.len() + 2 + size + 2..];
    }
}

/// The first line without its CRLF, if it is all there.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, Violation> {
    let Some(lf) = super::super::lines::find_lf(bytes) else { return Ok(None) };
    match bytes[..lf].strip_suffix(b"\r") {
        Some(line) if !line.contains(&b'\r') => Ok(Some(line)),
        _ => Err(bad("a line in the chunks ends in LF without CR, or has a CR in it")),
    }
}

/// Hexadecimal digits, and perhaps extensions, which mean nothing to us.
fn size(line: &[u8]) -> Result<u64, Violation> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let extension = line[digits..].trim_ascii_start();
    let well_formed = (1..=16).contains(&digits)
        && (line.len() == digits || extension.first() == Some(&b';'))
        && extension.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
    let number = std::str::from_utf8(&line[..digits]).ok().filter(|_| well_formed);
    number.and_then(|hex| u64::from_str_radix(hex, 16).ok()).ok_or(bad("a chunk's size is no number"))
}

/// `name: value`, as in a head.
fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    colon > 0
        && line[..colon].iter().all(token)
        && line[colon..].iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))
}
