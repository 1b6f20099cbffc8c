//! PEM (RFC 7468): which blocks a file holds, and where.
//!
//! A block that is passed over in silence is a chain that some clients cannot verify, and nobody knows why. So every
//! boundary in the text is accounted for: a block is read whole, or the file is refused with the place of what is wrong.
//! Boundaries need no line of their own, so files that were joined without a line end, or that begin with a byte order
//! mark, are read. Text outside of blocks is a comment, as RFC 7468 has it.
//!
//! What is between two boundaries is decoded by rustls-pki-types, in time that does not depend on a key's bytes.
//!
//! Invariant: no five dashes are left outside of a block, but for lines of nothing else.

use rustls::pki_types::pem::{PemObject, SectionKind};

/// A block, decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// What it is, as in `CERTIFICATE`.
    pub(super) label: &'a str,
    pub(super) der: Vec<u8>,
    /// It has the old headers that say that it is encrypted (RFC 1421): `der` is no DER then.
    pub(super) is_encrypted: bool,
    /// Where it begins.
    pub(super) place: Place,
}

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

const DASHES: &str = "-----";

/// All blocks of a file, in its order; there may be none.
///
/// # Errors
/// The first place that is wrong, and what is wrong there.
pub(super) fn blocks(bytes: &[u8]) -> Result<Vec<Block<'_>>, (Place, String)> {
    let wrong = |at: usize, problem: String| Err((place(bytes, at), problem));
    let begin = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return wrong(0, "it is UTF-16 text: save it as ASCII or UTF-8".into());
    }
    let mut blocks = Vec::new();
    let mut at = begin;
    while let Some(boundary) = find_boundary(bytes, at) {
        let Some((label, body)) = label(bytes, boundary, "BEGIN ") else {
            return wrong(
                boundary,
                match label(bytes, boundary, "END ") {
                    Some((label, _)) => format!("the end of a {label} without its beginning"),
                    None => "five dashes that are neither -----BEGIN NAME----- nor -----END NAME-----".into(),
                },
            );
        };
        let end = find(bytes, body);
        let (end, behind) = match end.map(|end| (end, self::label(bytes, end, "END "))) {
            Some((end, Some((ended, behind)))) if ended == label => (end, behind),
            Some((end, Some((ended, _)))) => {
                return wrong(end, format!("a {label} ends as a {ended}"));
            }
            _ => return wrong(boundary, format!("a {label} without its end")),
        };
        let (is_encrypted, base64) = without_headers(&bytes[body..end]);
        let base64_at = end - base64.len();
        if let Some(strange) = base64.iter().position(|byte| !is_base64(*byte)) {
            return wrong(base64_at + strange, format!("a {label} that is not base64 here"));
        }
        let Some(der) = decoded(base64) else {
            return wrong(boundary, format!("a {label} whose base64 is not whole"));
        };
        blocks.push(Block { label, der, is_encrypted, place: place(bytes, boundary) });
        at = behind;
    }
    Ok(blocks)
}

/// The next five dashes.
fn find(bytes: &[u8], from: usize) -> Option<usize> {
    bytes[from..].windows(DASHES.len()).position(|five| five == DASHES.as_bytes()).map(|found| from + found)
}

/// The next five dashes that are not part of a line of dashes alone, which some draw between blocks.
fn find_boundary(bytes: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let found = find(bytes, from)?;
        let line = found + bytes[found..].iter().take_while(|byte| **byte == b'-').count();
        let begins = bytes[from..found].iter().rev().find(|byte| !matches!(byte, b' ' | b'\t'));
        let ends = bytes[line..].iter().find(|byte| !matches!(byte, b' ' | b'\t'));
        match (begins.is_none_or(|byte| is_line_end(*byte)), ends.is_none_or(|byte| is_line_end(*byte))) {
            (true, true) => from = line,
            _ => return Some(found),
        }
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// The label of the boundary of this kind that is here, and what comes behind it.
fn label<'a>(bytes: &'a [u8], boundary: usize, kind: &str) -> Option<(&'a str, usize)> {
    let begin = boundary + DASHES.len() + kind.len();
    if !bytes[boundary + DASHES.len()..].starts_with(kind.as_bytes()) {
        return None;
    }
    let end = find(bytes, begin)?;
    let label = std::str::from_utf8(&bytes[begin..end]).ok()?;
    let of_label = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b" -./_".contains(&byte);
    label.bytes().all(of_label).then_some((label, end + DASHES.len()))
}

/// The base64 of a block, and whether headers before it say that it is encrypted. They end at an empty line.
fn without_headers(body: &[u8]) -> (bool, &[u8]) {
    if !body.contains(&b':') {
        return (false, body);
    }
    let mut rest = body;
    let mut is_encrypted = false;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = rest[..end].trim_ascii();
        // The line of the boundary itself is empty behind it.
        let is_first = rest.len() == body.len();
        rest = &rest[end + 1..];
        is_encrypted |= line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
        if line.is_empty() && !is_first {
            break;
        }
    }
    (is_encrypted, rest)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=".contains(&byte) || byte.is_ascii_whitespace()
}

/// Written again in the one form that pki-types reads, as what it decodes in constant time.
fn decoded(base64: &[u8]) -> Option<Vec<u8>> {
    const BEGIN: &[u8] = b"-----BEGIN PRIVATE KEY-----\n";
    let mut text = BEGIN.to_vec();
    text.extend(base64.iter().filter(|byte| !byte.is_ascii_whitespace()));
    // It would take base64 without its padding, which is how one looks that was cut off.
    if !(text.len() - BEGIN.len()).is_multiple_of(4) {
        return None;
    }
    text.extend_from_slice(b"\n-----END PRIVATE KEY-----\n");
    match <(SectionKind, Vec<u8>)>::from_pem_slice(&text) {
        Ok((SectionKind::PrivateKey, der)) if !der.is_empty() => Some(der),
        _ => None,
    }
}

fn place(bytes: &[u8], at: usize) -> Place {
    let before = String::from_utf8_lossy(&bytes[..at]);
    let line = before.matches('\n').count() + 1;
    Place { line, column: before.chars().rev().take_while(|c| *c != '\n').count() + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAAEC\nAwQF\n-----END CERTIFICATE-----\n";
    const TWO: &str = "-----BEGIN EC PRIVATE KEY-----\nBgcI\n-----END EC PRIVATE KEY-----\n";

    fn read(text: impl AsRef<[u8]>) -> Result<Vec<(String, Vec<u8>)>, String> {
        match blocks(text.as_ref()) {
            Ok(blocks) => Ok(blocks.into_iter().map(|block| (block.label.to_owned(), block.der)).collect()),
            Err((place, problem)) => Err(format!("{place}: {problem}")),
        }
    }

    fn certificate_and_key() -> Result<Vec<(String, Vec<u8>)>, String> {
        Ok(vec![("CERTIFICATE".into(), vec![0, 1, 2, 3, 4, 5]), ("EC PRIVATE KEY".into(), vec![6, 7, 8])])
    }

    #[test]
    fn blocks_are_read_however_they_are_joined() {
        for text in [
            format!("{ONE}{TWO}"),
            format!("{}{TWO}", ONE.trim_end()),
            format!("{}{}", ONE.trim_end(), TWO.trim_end()),
            format!("\u{feff}{ONE}{TWO}"),
            format!("{ONE}\u{feff}{TWO}"),
            format!("{ONE}{TWO}").replace('\n', "\r\n"),
            format!("{ONE}{TWO}").replace('\n', "\r"),
            format!("Bag Attributes\n    localKeyID: 01\nsubject=CN = x\n{ONE}issuer=CN = y - z\n{TWO}bye"),
            format!("{ONE}# grüße\n{TWO}"),
            format!("---------\n{ONE}  -----  \n{TWO}----------"),
            format!("{ONE}{TWO}").replace('\n', " \n "),
            "-----BEGIN CERTIFICATE-----AAECAwQF-----END CERTIFICATE----------BEGIN EC PRIVATE KEY-----BgcI-----END EC PRIVATE KEY-----".into(),
            format!("{ONE}{}", TWO.replace("BgcI", "X-Header: y\n\nBgcI")),
        ] {
            assert_eq!(read(&text), certificate_and_key(), "{text:?}");
        }
        let latin1 = [ONE.as_bytes(), b"gr\xfc\xdfe\n", TWO.as_bytes()].concat();
        assert_eq!(read(latin1), certificate_and_key());
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("nothing of that kind"), Ok(vec![]));
    }

    #[test]
    fn what_can_not_be_read_is_refused_with_its_place() {
        for (text, problem) in [
            (ONE.replace("AwQF", "Aw?F"), "3:3: a CERTIFICATE that is not base64 here"),
            (ONE.replace("AwQF", "AwQ"), "1:1: a CERTIFICATE whose base64 is not whole"),
            (ONE.replace("AAEC\nAwQF\n", ""), "1:1: a CERTIFICATE whose base64 is not whole"),
            (ONE.replace("-----END CERTIFICATE-----\n", ""), "1:1: a CERTIFICATE without its end"),
            (
                ONE.replace("END CERTIFICATE-----", "END CERTIFICATE----"),
                "1:1: a CERTIFICATE without its end",
            ),
            (ONE.replace("END CERT", "END TRUSTED CERT"), "4:1: a CERTIFICATE ends as a TRUSTED CERTIFICATE"),
            (format!("{TWO}{}", ONE.replace("BEGIN", "BEGINN")), "4:1: five dashes that are neither"),
            (ONE.replace("-----BEGIN CERTIFICATE-----\n", ""), "3:1: the end of a CERTIFICATE without"),
            (format!("{ONE}-----BEGIN X"), "5:1: five dashes that are neither"),
            (format!("{ONE}x ----- y"), "5:3: five dashes that are neither"),
            (
                format!("{}{ONE}", ONE.replace("-----END CERTIFICATE-----\n", "")),
                "1:1: a CERTIFICATE without its end",
            ),
        ] {
            let error = read(&text).expect_err(&text);
            assert!(error.starts_with(problem), "{text:?}: {error}");
        }
        assert_eq!(read(b"\xff\xfe-\0-\0"), Err("1:1: it is UTF-16 text: save it as ASCII or UTF-8".into()));
    }

    #[test]
    fn headers_tell_that_a_block_is_encrypted() {
        let text = TWO.replace("BgcI", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nBgcI");
        let blocks = blocks(text.as_bytes()).expect("it is one");
        assert!(blocks[0].is_encrypted && blocks[0].der == [6, 7, 8]);
    }

    proptest! {
        #[test]
        fn no_text_is_trouble_and_no_boundary_is_passed_over(
            parts in prop::collection::vec(
                prop_oneof![
                    Just(ONE.to_owned()), Just(TWO.to_owned()), Just(ONE.trim_end().to_owned()),
                    Just("-----BEGIN ".to_owned()), Just("-----".to_owned()), Just("-----END X-----".to_owned()),
                    "[a-z:\\n -]{0,12}",
                ],
                0..8,
            ),
        ) {
            let text = parts.concat();
            if let Ok(read) = read(&text) {
                prop_assert_eq!(read.len() * 2, text.matches("BEGIN").count() + text.matches("END").count());
            }
        }
    }
}
