//! A directory's page: its names, as links. Names are text, whatever they hold.
//!
//! What is shown is what can be fetched: names that a path may have (`path::judge`), of files and directories that may be
//! read, and links that lead to such within the root.
//!
//! A page is made by the loop, at once. So a page looks at a bounded number of entries, all pages of one turn take a bounded
//! time, and a page is kept until its directory changes ([`Pages`]).

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Access, AtFlags, FileType};

use super::files::Root;
use super::path;
use crate::reactor::Moment;

/// Entries that are looked at: 2,000 hidden names take about half a millisecond.
const ENTRIES_MAX: usize = 2000;

/// Names that are shown, and bytes of them.
const NAMES_MAX: usize = 1000;
const PAGE_BYTES_MAX: usize = 256 * 1024;

/// Time for the pages of one turn. The first one is made in any case.
const TIME_PER_TURN: Duration = Duration::from_millis(4);

/// Pages that are kept, and their bytes.
const PAGES_MAX: usize = 64;
const PAGES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A page is made again after this time though its directory has not changed: whether a file may be read, and where a link
/// leads, are changes elsewhere.
const KEPT_FOR: Duration = Duration::from_secs(2);

/// A directory that changed more recently may change again and keep its times: a kernel counts them in steps of up to 10 ms.
const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// Which directory, and which version of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    number: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Identity {
        Identity {
            device: metadata.dev(),
            number: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// It has not been changed for a while, by this time of day.
    fn is_settled(&self, time: SystemTime) -> bool {
        let seconds = Duration::from_secs(self.changed.0.try_into().unwrap_or(0));
        let changed = UNIX_EPOCH + seconds + Duration::from_nanos(self.changed.1.try_into().unwrap_or(0));
        time.duration_since(changed).is_ok_and(|age| age > SETTLED_AFTER)
    }
}

/// The pages that are kept.
#[derive(Default)]
pub(super) struct Pages {
    pages: HashMap<Vec<u8>, Page>,
    bytes: usize,
    /// The turn that is running, and the time that its pages took.
    turn: u64,
    time: Duration,
}

struct Page {
    identity: Identity,
    html: Arc<str>,
    made_at: Moment,
    /// It holds for this turn alone.
    only_in: Option<u64>,
}

impl Pages {
    /// The page of this directory, if it is known.
    pub(super) fn get(&self, path: &[u8], identity: &Identity, turn: u64, now: Moment) -> Option<Arc<str>> {
        let page = self.pages.get(path).filter(|page| page.identity == *identity)?;
        let holds = page.only_in.is_none_or(|only| only == turn) && now.since(page.made_at) < KEPT_FOR;
        holds.then(|| Arc::clone(&page.html))
    }

    /// Whether the turn has time for another page.
    pub(super) fn has_time(&mut self, turn: u64) -> bool {
        if std::mem::replace(&mut self.turn, turn) != turn {
            self.time = Duration::ZERO;
        }
        self.time < TIME_PER_TURN
    }

    /// Makes the page of this directory, and keeps it. `clock` returns the time.
    ///
    /// # Errors
    /// Where the directory can't be read.
    pub(super) fn make(
        &mut self,
        root: &Root,
        path: &[u8],
        directory: &File,
        identity: Identity,
        time: SystemTime,
        clock: impl Fn() -> Moment,
    ) -> io::Result<Arc<str>> {
        let began = clock();
        // Asked before the directory is read: a change while it is read is then seen later.
        let only_in = (!identity.is_settled(time)).then_some(self.turn);
        let html: Arc<str> = page(root, path, directory)?.into();
        let made_at = clock();
        self.time += made_at.since(began);
        if self.pages.len() >= PAGES_MAX || self.bytes + html.len() > PAGES_BYTES_MAX {
            self.pages.clear();
            self.bytes = 0;
        }
        self.bytes += html.len();
        let page = Page { identity, html: Arc::clone(&html), made_at, only_in };
        if let Some(old) = self.pages.insert(path.to_vec(), page) {
            self.bytes -= old.html.len();
        }
        Ok(html)
    }
}

fn page(root: &Root, path: &[u8], directory: &File) -> io::Result<String> {
    let mut names = Vec::new();
    let (mut more, mut bytes) = (false, 0);
    for (looked_at, entry) in rustix::fs::Dir::read_from(directory)?.enumerate() {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        if looked_at >= ENTRIES_MAX || names.len() == NAMES_MAX || bytes > PAGE_BYTES_MAX {
            more = true;
            break;
        }
        let whole = [path, name.to_bytes()].concat();
        if path::judge(&whole).is_err() {
            continue;
        }
        let may_be_read = || rustix::fs::accessat(directory, name, Access::READ_OK, AtFlags::EACCESS).is_ok();
        let here = || rustix::fs::statat(directory, name, AtFlags::empty()).ok();
        let (size, modified_s, slash): (Option<u64>, Option<i64>, &[u8]) = match entry.file_type() {
            FileType::RegularFile if may_be_read() => {
                let its = here();
                let size = its.and_then(|its| u64::try_from(its.st_size).ok());
                (size, its.map(|its| its.st_mtime), b"")
            }
            FileType::Directory if may_be_read() => (None, here().map(|its| its.st_mtime), b"/"),
            FileType::Symlink | FileType::Unknown => match root.open(&whole) {
                Ok((_, its)) if its.is_file() => (Some(its.len()), Some(its.mtime()), b""),
                Ok((_, its)) if its.is_dir() => (None, Some(its.mtime()), b"/"),
                _ => continue,
            },
            _ => continue,
        };
        let name = [name.to_bytes(), slash].concat();
        bytes += encoded(&name).len() + text(&String::from_utf8_lossy(&name)).len();
        let modified_s = modified_s.and_then(|seconds| u64::try_from(seconds).ok());
        names.push(Entry { name, size, modified_s });
    }
    names.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(render(&names, path, more))
}

/// A row of the page.
struct Entry {
    /// With a slash behind it, where it is a directory.
    name: Vec<u8>,
    /// In bytes, of a file.
    size: Option<u64>,
    /// Since 1970.
    modified_s: Option<u64>,
}

/// As it is read at a glance: `312 B`, `4.1 KiB`, `2.0 GiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut size, mut unit) = (bytes as f64 / 1024.0, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        (size, unit) = (size / 1024.0, unit + 1);
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// Year, month, day and minute, in UTC. Years beyond 9999 are no dates of HTTP's, and not shown.
fn date(seconds: u64) -> Option<String> {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).filter(|_| seconds < 253_402_300_800)?;
    // "Thu, 26 Nov 2026 13:55:01 GMT"
    let text = httpdate::fmt_http_date(time);
    let [_, day, month, year, clock, _] = text.split(' ').collect::<Vec<_>>()[..] else { return None };
    Some(format!("{day} {month} {year} {}", &clock[..5]))
}

fn render(names: &[Entry], path: &[u8], more: bool) -> String {
    let title = format!("/{}", text(&String::from_utf8_lossy(path)));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>:root{{color-scheme:light dark}}body{{font:16px/1.6 system-ui,sans-serif;max-width:50em;\
         margin:2em auto;padding:0 1em}}h1,a{{overflow-wrap:anywhere}}ul{{list-style:none;padding:0}}\
         li{{display:grid;grid-template-columns:1fr 6em 10em;gap:0 1em}}small{{text-align:end;opacity:.75;\
         font-variant-numeric:tabular-nums;align-self:center}}\
         @media(max-width:40em){{li{{grid-template-columns:1fr 6em}}small:last-child{{display:none}}}}\
         </style>\n<h1>{title}</h1>\n<ul>\n"
    );
    if !path.is_empty() {
        page += "<li><a href=\"../\">../</a>\n";
    }
    for Entry { name, size: bytes, modified_s } in names {
        // "./" so that no name is taken for a scheme.
        let _ = writeln!(
            page,
            "<li><a href=\"./{}\">{}</a><small>{}</small><small>{}</small>",
            encoded(name),
            text(&String::from_utf8_lossy(name)),
            bytes.map(size).unwrap_or_default(),
            modified_s.and_then(date).unwrap_or_default()
        );
    }
    page += "</ul>\n";
    if more {
        let _ = writeln!(page, "<p>There are more; these are {} of them.", names.len());
    }
    page
}

fn text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// In percent where it is no plain letter.
fn encoded(name: &[u8]) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name {
        match *byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(*byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_and_never_markup() {
        let names = ["<script>alert(1)</script>", "a\"b'&c", "javascript:x", "sub/"].map(|name| Entry {
            name: name.into(),
            size: None,
            modified_s: None,
        });
        let page = render(&names, b"x\"><i>/", false);
        assert!(!page.contains("<script>") && !page.contains("<i>"), "{page}");
        assert!(page.contains("href=\"./%3Cscript%3Ealert%281%29%3C/script%3E\">&lt;script&gt;"), "{page}");
        assert!(page.contains("href=\"./a%22b%27%26c\">a&quot;b&#39;&amp;c<"), "{page}");
        assert!(page.contains("href=\"./javascript%3Ax\""), "{page}");
        assert!(page.contains("href=\"./sub/\">sub/<"), "{page}");
    }

    #[test]
    fn sizes_and_dates_are_read_at_a_glance() {
        for (bytes, shown) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(size(bytes), shown);
        }
        assert_eq!(size(u64::MAX), "16384.0 PiB");
        assert_eq!(date(1_795_701_300).as_deref(), Some("26 Nov 2026 13:55"));
        assert_eq!(date(u64::MAX), None);
    }
}
