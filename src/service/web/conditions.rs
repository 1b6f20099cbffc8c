//! Conditions and ranges: what of a file is wanted, if it is (RFC 9110 sections 13 and 14).
//!
//! Dates have seconds, and a file can change twice in one. So a date never says that a file is younger than the answer
//! (Last-Modified is at most Date), and a part is joined to what the client has by its date only where that second is
//! over (RFC 9110 sections 8.8.2.1 and 13.1.5). Tags have no such weakness.
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
    /// The second in which it was modified is over: its date names no other version.
    is_strong: bool,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Whole,
    Part { begin: u64, end: u64 },
    NotModified,
    Failed,
    NotSatisfiable,
}

impl Stamp {
    /// `date`: what the answer's Date says.
    pub(super) fn new(metadata: &Metadata, coding: Option<&str>, date: Option<SystemTime>) -> Stamp {
        Stamp::of(metadata.len(), metadata.modified().unwrap_or(UNIX_EPOCH), coding, date)
    }

    fn of(len: u64, modified: SystemTime, coding: Option<&str>, date: Option<SystemTime>) -> Stamp {
        // Dates have seconds, and years up to 9999; a file may have anything.
        let since =
            modified.duration_since(UNIX_EPOCH).unwrap_or_default().min(Duration::from_secs(253_402_300_799));
        let at = UNIX_EPOCH + Duration::from_secs(since.as_secs());
        let modified_at = date.map_or(at, |date| at.min(date));
        let coding = coding.map_or(String::new(), |coding| format!("-{coding}"));
        Stamp {
            len,
            etag: format!("\"{:x}-{:x}-{len:x}{coding}\"", since.as_secs(), since.subsec_nanos()),
            modified: httpdate::fmt_http_date(modified_at),
            modified_at,
            is_strong: date.is_some_and(|date| at < date),
        }
    }
}

/// In the order of RFC 9110 section 13.2.2.
pub(super) fn judge(request: &Request<'_>, stamp: &Stamp) -> Outcome {
    let date = |name: &str| {
        let text = std::str::from_utf8(request.only(name)?).ok()?;
        httpdate::parse_http_date(text).ok()
    };
    let has = |name: &str| request.field(name).is_some();
    if has("if-match") {
        if !matches(request.items("if-match"), stamp, false) {
            return Outcome::Failed;
        }
    } else if date("if-unmodified-since").is_some_and(|date| stamp.modified_at > date) {
        return Outcome::Failed;
    }
    if has("if-none-match") {
        if matches(request.items("if-none-match"), stamp, true) {
            return Outcome::NotModified;
        }
    } else if date("if-modified-since").is_some_and(|date| stamp.modified_at <= date) {
        return Outcome::NotModified;
    }
    let Some(range) = request.only("range").filter(|_| request.method == "GET") else {
        return Outcome::Whole;
    };
    let still = !has("if-range")
        || request.only("if-range").is_some_and(|validator| validator == stamp.etag.as_bytes())
        || date("if-range").is_some_and(|date| stamp.is_strong && date == stamp.modified_at);
    match still {
        true => part(range, stamp.len),
        false => Outcome::Whole,
    }
}

/// Whether a list of entity tags has this one; in a weak comparison, `W/` does not matter.
fn matches<'a>(mut tags: impl Iterator<Item = &'a [u8]>, stamp: &Stamp, weak: bool) -> bool {
    tags.any(|tag| {
        let bare = if weak { tag.strip_prefix(b"W/").unwrap_or(tag) } else { tag };
        tag == b"*" || bare == stamp.etag.as_bytes()
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
        // The last `count` bytes. An empty file has them all, and no Content-Range can say which these are.
        (None, Some(count)) if first.is_empty() => match (count, len) {
            (0, _) => return Outcome::NotSatisfiable,
            (_, 0) => return Outcome::Whole,
            _ => (len.saturating_sub(count), len),
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
    use crate::protocol::http::{self, Http, Step};

    /// A GET with these fields, answered at this date.
    fn ask_at<T>(date: SystemTime, fields: &str, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let date = httpdate::fmt_http_date(date).into_bytes().try_into().expect("29 bytes");
        let (mut room, mut body, mut http) = (http::fields(), Vec::new(), Http::new(100));
        match http.decode(head.as_bytes(), &date, &mut room, &mut body) {
            Ok(Step::Request { request, .. }) => look(&request),
            other => panic!("{other:?}"),
        }
    }

    fn ask<T>(fields: &str, look: impl FnOnce(&Request<'_>) -> T) -> T {
        ask_at(UNIX_EPOCH + Duration::from_secs(2_000_000), fields, look)
    }

    #[test]
    fn a_file_is_never_younger_than_its_answer() {
        let seconds = |count| UNIX_EPOCH + Duration::from_secs(count);
        let ahead = seconds(3_000_000);
        ask("", |request| {
            let stamp = Stamp::of(10, ahead, None, request.date());
            assert_eq!(stamp.modified, httpdate::fmt_http_date(seconds(2_000_000)));
        });
        // What was told then is not taken for what is there now.
        let told = format!("If-Modified-Since: {}\r\n", httpdate::fmt_http_date(seconds(1_999_999)));
        ask(&told, |request| {
            assert_eq!(judge(request, &Stamp::of(10, ahead, None, request.date())), Outcome::Whole);
        });
    }

    #[test]
    fn a_part_is_joined_by_a_date_only_where_that_second_is_over() {
        let at = UNIX_EPOCH + Duration::from_millis(1_000_000_500);
        let date = httpdate::fmt_http_date(at);
        let fields = format!("Range: bytes=1-2\r\nIf-Range: {date}\r\n");
        for (later, outcome) in
            [(0, Outcome::Whole), (499, Outcome::Whole), (500, Outcome::Part { begin: 1, end: 3 })]
        {
            ask_at(at + Duration::from_millis(later), &fields, |request| {
                let stamp = Stamp::of(10, at, None, request.date());
                assert_eq!(judge(request, &stamp), outcome, "{later} ms later");
            });
        }
    }

    #[test]
    fn a_condition_that_contradicts_itself_is_passed_over() {
        let stamp = Stamp::of(10, UNIX_EPOCH, None, None);
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(5));
        for fields in [
            format!("If-Modified-Since: {date}\r\nIf-Modified-Since: {date}\r\n"),
            "Range: bytes=0-1\r\nRange: bytes=2-3\r\n".into(),
            format!("Range: bytes=0-1\r\nIf-Range: {0}\r\nIf-Range: {0}\r\n", stamp.etag),
        ] {
            assert_eq!(ask(&fields, |request| judge(request, &stamp)), Outcome::Whole, "{fields}");
        }
    }

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
        assert_eq!(part_of("bytes=-0", 0), Outcome::NotSatisfiable);
        assert_eq!(part_of("bytes=-5", 0), Outcome::Whole, "an empty file is shorter than any suffix");
    }

    #[test]
    fn versions_are_told_apart() {
        let at = |seconds, nanos| UNIX_EPOCH + Duration::new(seconds, nanos);
        let version = |len, modified, coding| Stamp::of(len, modified, coding, None);
        let stamp = version(10, at(1_000_000, 5), None);
        assert_eq!(stamp.modified, "Mon, 12 Jan 1970 13:46:40 GMT");
        for other in [
            version(11, at(1_000_000, 5), None),
            version(10, at(1_000_000, 6), None),
            version(10, at(1_000_001, 5), None),
            version(10, at(1_000_000, 5), Some("gzip")),
        ] {
            assert_ne!(stamp.etag, other.etag);
        }
        // No time of a file may bring the server down.
        version(0, UNIX_EPOCH - Duration::from_secs(1), None);
        version(0, at(u32::MAX as u64 * 1000, 0), None);
    }

    #[test]
    fn tags_are_compared_as_the_field_asks() {
        let stamp = Stamp::of(10, UNIX_EPOCH, None, None);
        let etag = &stamp.etag;
        for (list, weak, strong) in [
            (etag.clone(), true, true),
            (format!("\"x\", {etag}"), true, true),
            (format!("\"a,b\", {etag}, \"y\""), true, true),
            (format!("W/{etag}"), true, false),
            ("*".into(), true, true),
            ("\"x\"".into(), false, false),
            (String::new(), false, false),
        ] {
            // In one line, and each tag in a line of its own.
            for lines in [list.clone(), list.replace(", ", "\r\nTags: ")] {
                ask(&format!("Tags: {lines}\r\n"), |request| {
                    assert_eq!(matches(request.items("tags"), &stamp, true), weak, "{lines}");
                    assert_eq!(matches(request.items("tags"), &stamp, false), strong, "{lines}");
                });
            }
        }
        ask("Tags: \"a, *, b\"\r\n", |request| {
            assert!(!matches(request.items("tags"), &stamp, true), "a comma can belong to a tag");
        });
    }
}
