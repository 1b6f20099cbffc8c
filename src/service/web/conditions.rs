//! Conditions and ranges: what of a file is wanted, if it is (RFC 9110 sections 13 and 14).
//!
//! Several ranges at once are answered with the whole, as a server may: to put them together takes more than it saves,
//! and has been an attack (CVE-2011-3192).

use std::fs::Metadata;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::protocol::http::Request;

/// What tells a version of a file from others.
#[derive(Debug)]
pub(super) struct Stamp {
    pub(super) len: u64,
    pub(super) etag: String,
    pub(super) modified: String,
    modified_at: SystemTime,
}

/// What is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Whole,
    Part { begin: u64, end: u64 },
    NotModified,
    Failed,
    NotSatisfiable,
}

impl Stamp {
    pub(super) fn new(metadata: &Metadata, coding: Option<&str>) -> Stamp {
        Stamp::of(metadata.len(), metadata.modified().unwrap_or(UNIX_EPOCH), coding)
    }

    fn of(len: u64, modified: SystemTime, coding: Option<&str>) -> Stamp {
        // Dates have seconds, and years up to 9999; a file may have anything.
        let since =
            modified.duration_since(UNIX_EPOCH).unwrap_or_default().min(Duration::from_secs(253_402_300_799));
        let modified_at = UNIX_EPOCH + Duration::from_secs(since.as_secs());
        let coding = coding.map_or(String::new(), |coding| format!("-{coding}"));
        Stamp {
            len,
            etag: format!("\"{:x}-{:x}-{len:x}{coding}\"", since.as_secs(), since.subsec_nanos()),
            modified: httpdate::fmt_http_date(modified_at),
            modified_at,
        }
    }
}

/// In the order of RFC 9110 section 13.2.2.
pub(super) fn judge(request: &Request<'_>, stamp: &Stamp) -> Outcome {
    let date = |name: &str| {
        let text = std::str::from_utf8(request.field(name)?).ok()?;
        httpdate::parse_http_date(text).ok()
    };
    if let Some(tags) = request.field("if-match") {
        if !matches(tags, stamp, false) {
            return Outcome::Failed;
        }
    } else if date("if-unmodified-since").is_some_and(|date| stamp.modified_at > date) {
        return Outcome::Failed;
    }
    if let Some(tags) = request.field("if-none-match") {
        if matches(tags, stamp, true) {
            return Outcome::NotModified;
        }
    } else if date("if-modified-since").is_some_and(|date| stamp.modified_at <= date) {
        return Outcome::NotModified;
    }
    let Some(range) = request.field("range").filter(|_| request.method == "GET") else {
        return Outcome::Whole;
    };
    let still = request.field("if-range").is_none_or(|validator| {
        validator == stamp.etag.as_bytes() || date("if-range").is_some_and(|date| date == stamp.modified_at)
    });
    match still {
        true => part(range, stamp.len),
        false => Outcome::Whole,
    }
}

/// Whether a list of entity tags has this one; in a weak comparison, `W/` does not matter.
fn matches(tags: &[u8], stamp: &Stamp, weak: bool) -> bool {
    tags.trim_ascii() == b"*"
        || tags.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|tag| {
            let tag = if weak { tag.strip_prefix(b"W/").unwrap_or(tag) } else { tag };
            tag == stamp.etag.as_bytes()
        })
}

/// What can't be understood is no range: the whole is wanted.
fn part(range: &[u8], len: u64) -> Outcome {
    let number = |digits: &str| {
        let well_formed = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        // More than can be counted is beyond every end.
        well_formed.then(|| digits.parse::<u64>().unwrap_or(u64::MAX))
    };
    let text = std::str::from_utf8(range).unwrap_or_default();
    let Some((unit, spec)) = text.split_once('=') else { return Outcome::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Outcome::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Outcome::Whole;
    }
    let (begin, end) = match (number(first), number(last)) {
        (Some(begin), Some(last)) if begin <= last => (begin, last.saturating_add(1).min(len)),
        (Some(begin), None) if last.is_empty() => (begin, len),
        // The last so many.
        (None, Some(count)) if first.is_empty() => match count {
            0 => return Outcome::NotSatisfiable,
            count => (len.saturating_sub(count), len),
        },
        _ => return Outcome::Whole,
    };
    match begin < end {
        true => Outcome::Part { begin, end },
        false => Outcome::NotSatisfiable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part_of = |range: &str, len| part(range.as_bytes(), len);
        for (range, begin, end) in [
            ("bytes=0-0", 0, 1),
            ("bytes=0-9", 0, 10),
            ("bytes=2-4", 2, 5),
            ("bytes=5-", 5, 10),
            ("bytes=5-99", 5, 10),
            ("Bytes=5-99999999999999999999999", 5, 10),
            ("bytes=-3", 7, 10),
            ("bytes=-99", 0, 10),
        ] {
            assert_eq!(part_of(range, 10), Outcome::Part { begin, end }, "{range}");
        }
        for range in ["bytes=10-", "bytes=10-12", "bytes=99999999999999999999999-", "bytes=-0"] {
            assert_eq!(part_of(range, 10), Outcome::NotSatisfiable, "{range}");
        }
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=4-2",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=+1-2",
            "bytes=a-b",
        ] {
            assert_eq!(part_of(range, 10), Outcome::Whole, "{range}");
        }
        assert_eq!(part_of("bytes=0-", 0), Outcome::NotSatisfiable);
        assert_eq!(part_of("bytes=-1", 0), Outcome::NotSatisfiable);
    }

    #[test]
    fn versions_are_told_apart() {
        let at = |seconds, nanos| UNIX_EPOCH + Duration::new(seconds, nanos);
        let stamp = Stamp::of(10, at(1_000_000, 5), None);
        assert_eq!(stamp.modified, "Mon, 12 Jan 1970 13:46:40 GMT");
        for other in [
            Stamp::of(11, at(1_000_000, 5), None),
            Stamp::of(10, at(1_000_000, 6), None),
            Stamp::of(10, at(1_000_001, 5), None),
            Stamp::of(10, at(1_000_000, 5), Some("gzip")),
        ] {
            assert_ne!(stamp.etag, other.etag);
        }
        // No time of a file may bring the server down.
        Stamp::of(0, UNIX_EPOCH - Duration::from_secs(1), None);
        Stamp::of(0, at(u32::MAX as u64 * 1000, 0), None);
    }

    #[test]
    fn tags_are_compared_as_the_field_asks() {
        let stamp = Stamp::of(10, UNIX_EPOCH, None);
        let etag = &stamp.etag;
        for (list, weak, strong) in [
            (etag.clone(), true, true),
            (format!("\"x\", {etag}"), true, true),
            (format!("W/{etag}"), true, false),
            ("*".into(), true, true),
            ("\"x\"".into(), false, false),
            (String::new(), false, false),
        ] {
            assert_eq!(matches(list.as_bytes(), &stamp, true), weak, "{list}");
            assert_eq!(matches(list.as_bytes(), &stamp, false), strong, "{list}");
        }
    }
}
