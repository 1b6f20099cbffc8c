//! The root, and what is found below it.
//!
//! Linux keeps a path below a directory itself (openat2(2), RESOLVE_BENEATH): no `..` and no link leads out of it, also
//! none that is put there between a look and the opening. Where there is no such call, the real path is compared.
//!
//! The root is a name, and what it names can change: the directory is built again, or a link moves to the next release. So
//! the name is looked up once in each turn in which something is asked for (one stat(2)), and another directory is opened
//! when it is another one. While the name leads nowhere, nothing is found. A file that is open stays what it was.
//!
//! Everything is opened with O_NONBLOCK, so that the opening of a FIFO does not wait for its other end. A lookup still waits
//! for the disk: see the module above.
//!
//! Invariant: `Root` holds one descriptor, and that of the directory which the name led to in this turn.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::protocol::http::Request;

/// The directory that is served.
pub(super) struct Root {
    /// As it was given: it may be a link.
    name: PathBuf,
    opened: Option<Opened>,
    /// The turn in which the name was looked up last.
    turn: Option<u64>,
    /// The name led nowhere, and the log says so.
    is_missed: bool,
}

/// A directory that the name led to.
struct Opened {
    directory: OwnedFd,
    /// Its device and its number there. As long as it is open, no other directory has the same.
    identity: (u64, u64),
    /// Its real path.
    path: PathBuf,
}

/// What a path leads to.
pub(super) enum Found {
    File {
        file: File,
        metadata: Metadata,
        /// What its type is told by.
        name: Vec<u8>,
        /// How it is encoded: `br` or `gzip`.
        coding: Option<&'static str>,
    },
    Directory {
        directory: File,
        metadata: Metadata,
    },
}

/// What lies beside a file, and how it is asked for; the smaller first.
const CODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// Which of these a client takes, by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Codings([bool; CODINGS.len()]);

impl Codings {
    /// Those that the request names with another weight than none.
    pub(super) fn of(request: &Request<'_>) -> Codings {
        let mut codings = Codings::default();
        for item in request.items("accept-encoding") {
            for ((coding, _), taken) in CODINGS.iter().zip(&mut codings.0) {
                *taken |= accepts(item, coding);
            }
        }
        codings
    }
}

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

impl Root {
    /// A root of this name. A directory that can't be opened is logged, and looked for again in each turn.
    pub(super) fn new(name: PathBuf) -> Root {
        let mut root = Root { name, opened: None, turn: None, is_missed: false };
        root.look();
        root
    }

    /// Looks where the name leads, if it has not been looked up in this turn; returns whether it was.
    pub(super) fn look_in(&mut self, turn: u64) -> bool {
        let is_new = self.turn.replace(turn) != Some(turn);
        if is_new {
            self.look();
        }
        is_new
    }

    fn look(&mut self) {
        let outcome = fs::metadata(&self.name).and_then(|metadata| {
            let identity = (metadata.dev(), metadata.ino());
            match &self.opened {
                Some(opened) if opened.identity == identity => Ok(()),
                _ => Opened::open(&self.name).map(|opened| self.opened = Some(opened)),
            }
        });
        match outcome {
            Ok(()) if self.is_missed => {
                self.is_missed = false;
                log::info!("{} is served again", self.name.display());
            }
            Ok(()) => {}
            Err(error) => {
                // These errors don't say where the name leads: the directory that is open is as good as any.
                if self.opened.is_some() && (is_full(&error) || is_of_disk(&error)) {
                    return;
                }
                self.opened = None;
                if !std::mem::replace(&mut self.is_missed, true) {
                    log::error!("nothing can be served from {}: {error}", self.name.display());
                }
            }
        }
    }

    /// What `path`, which `path::decode` has let through, leads to; the status that says that there is nothing.
    pub(super) fn find(&self, path: &[u8], accepted: Codings) -> Result<Found, u16> {
        let is_of_directory = path.is_empty() || path.ends_with(b"/");
        if is_of_directory {
            let index = [path, b"index.html"].concat();
            match self.open(&index) {
                Ok((file, metadata)) if metadata.is_file() => {
                    return Ok(self.best(&index, file, metadata, accepted));
                }
                Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return Err(status(&index, &error));
                }
                _ => {}
            }
        }
        let (file, metadata) = self.open(path).map_err(|error| status(path, &error))?;
        match () {
            () if metadata.is_file() && !is_of_directory => Ok(self.best(path, file, metadata, accepted)),
            () if metadata.is_dir() => Ok(Found::Directory { directory: file, metadata }),
            () => Err(404), // a socket, a device, a file with a slash behind it
        }
    }

    /// The file, or what lies beside it for a client that takes that. A copy that is older than the file was made of another
    /// version.
    fn best(&self, path: &[u8], file: File, metadata: Metadata, accepted: Codings) -> Found {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_owned();
        for ((coding, ending), _) in CODINGS.iter().zip(accepted.0).filter(|(_, taken)| *taken) {
            if let Ok((beside, its)) = self.open(&[path, ending.as_bytes()].concat())
                && its.is_file()
                && (its.mtime(), its.mtime_nsec()) >= (metadata.mtime(), metadata.mtime_nsec())
            {
                return Found::File { file: beside, metadata: its, name, coding: Some(coding) };
            }
        }
        Found::File { file, metadata, name, coding: None }
    }

    /// Opens what this path leads to, whatever it is.
    ///
    /// # Errors
    /// Those of openat2(2); `NotFound` while the root's name leads nowhere.
    pub(super) fn open(&self, path: &[u8]) -> io::Result<(File, Metadata)> {
        let opened = self.opened.as_ref().ok_or(ErrorKind::NotFound)?;
        let path = if path.is_empty() { b"." } else { path };
        let file = File::from(opened.open_below(Path::new(OsStr::from_bytes(path)))?);
        let metadata = file.metadata()?;
        Ok((file, metadata))
    }
}

impl Opened {
    /// # Errors
    /// Where it is no directory that we may read.
    fn open(name: &Path) -> io::Result<Opened> {
        let path = fs::canonicalize(name)?;
        let directory = rustix::fs::open(&path, FLAGS | OFlags::DIRECTORY, Mode::empty())?;
        let stat = rustix::fs::fstat(&directory)?;
        #[allow(clippy::unnecessary_cast)] // they have other types on other systems
        let identity = (stat.st_dev as u64, stat.st_ino as u64);
        Ok(Opened { directory, identity, path })
    }

    #[cfg(target_os = "linux")]
    fn open_below(&self, path: &Path) -> io::Result<OwnedFd> {
        use rustix::fs::ResolveFlags;
        /// While something is renamed, the kernel can't be sure where a `..` in a link leads, and says "again".
        const TRIES: usize = 4;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            match rustix::fs::openat2(&self.directory, path, FLAGS, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                // Before Linux 5.6, and where a filter of system calls is older than that.
                Err(Errno::NOSYS | Errno::PERM) => return self.open_compared(path),
                outcome => return Ok(outcome?),
            }
        }
        Err(ErrorKind::WouldBlock.into())
    }

    #[cfg(not(target_os = "linux"))]
    fn open_below(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_compared(path)
    }

    /// Its real path is below the root's. (A link that is put there in between is followed: only a user who may write to
    /// the root can do that.)
    fn open_compared(&self, path: &Path) -> io::Result<OwnedFd> {
        let real = fs::canonicalize(self.path.join(path))?;
        if !real.starts_with(&self.path) {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(rustix::fs::open(&real, FLAGS | OFlags::NOFOLLOW, Mode::empty())?)
    }
}

/// The status of the answer, when this path can't be opened. Clients do not learn that a link leads out of the root: such a
/// path is not found. A file on a disk that fails is not "not found": clients and proxies would forget it.
fn status(path: &[u8], error: &io::Error) -> u16 {
    match error.kind() {
        ErrorKind::PermissionDenied => 403,
        ErrorKind::WouldBlock => 503,
        _ if is_full(error) => 503,
        _ if is_of_disk(error) => {
            log::warn!("{:?} could not be opened: {error}", String::from_utf8_lossy(path));
            500
        }
        _ => 404,
    }
}

/// Out of descriptors or memory.
fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NFILE | Errno::MFILE | Errno::NOMEM))
}

/// The disk, or the machine that it is in, does not answer as it should.
fn is_of_disk(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::STALE | Errno::TIMEDOUT | Errno::NOTCONN))
}

/// Whether this item of an Accept-Encoding names `coding`, with another weight than none.
fn accepts(item: &[u8], coding: &str) -> bool {
    let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding.as_bytes()));
    let weight = parts.find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")));
    named && !weight.is_some_and(|weight| weight.iter().all(|byte| matches!(byte, b'0' | b'.')))
}

/// Files whose names have no ending, and that are text wherever they lie.
const TEXTS: [&str; 15] = [
    "AUTHORS",
    "CHANGELOG",
    "CHANGES",
    "CONTRIBUTING",
    "COPYING",
    "COPYRIGHT",
    "INSTALL",
    "LICENCE",
    "LICENSE",
    "Makefile",
    "NEWS",
    "NOTICE",
    "README",
    "TODO",
    "VERSION",
];

/// The type by the name, and that text is UTF-8.
pub(super) fn kind(name: &[u8], file: &File) -> String {
    let path = Path::new(OsStr::from_bytes(name));
    let kind = match path.extension() {
        None if TEXTS.iter().any(|text| text.as_bytes() == name) => mime_guess::mime::TEXT_PLAIN,
        // MPEG's packets, as in a stream of television, or a program in TypeScript: the name does not say.
        Some(ending) if ending.eq_ignore_ascii_case("ts") => match is_mpeg(file) {
            true => return "video/mp2t".into(),
            false => mime_guess::mime::TEXT_PLAIN,
        },
        _ => mime_guess::from_path(path).first_or_octet_stream(),
    };
    let is_text = kind.type_() == "text" || matches!(kind.subtype().as_str(), "javascript" | "json" | "xml");
    match is_text {
        true => format!("{}; charset=utf-8", kind.essence_str()),
        false => kind.essence_str().to_owned(),
    }
}

/// Whether it begins with packets of an MPEG transport stream: each of 188 bytes, the first of which is 0x47.
fn is_mpeg(file: &File) -> bool {
    let mut bytes = [0; 189];
    let count = file.read_at(&mut bytes, 0).unwrap_or(0);
    count >= 188 && bytes[0] == 0x47 && (count == 188 || bytes[188] == 0x47)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the kernel has no openat2, the other way finds the same, and no more.
    #[test]
    fn both_ways_to_a_file_stay_below_the_root() {
        use std::os::unix::fs::symlink;
        let base = std::env::temp_dir().join(format!("switchboard-files-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(base.join("www/sub")).expect("it is ours");
        for (name, text) in [("secret", "no"), ("www/a", "a"), ("www/sub/b", "b")] {
            fs::write(base.join(name), text).expect("it is ours");
        }
        for (to, from) in [
            ("sub/b", "within"),
            ("../secret", "out"),
            ("/etc", "absolute"),
            ("nowhere", "dangling"),
            ("loop", "loop"),
            ("sub/../../secret", "round"),
        ] {
            symlink(to, base.join("www").join(from)).expect("it is ours");
        }
        let root = Opened::open(&base.join("www")).expect("it is a directory");
        let read = |opened: io::Result<OwnedFd>| io::read_to_string(File::from(opened.ok()?)).ok();
        for (path, text) in [
            ("a", Some("a")),
            ("sub/b", Some("b")),
            ("within", Some("b")),
            ("out", None),
            ("absolute/passwd", None),
            ("dangling", None),
            ("loop", None),
            ("round", None),
            ("nothing", None),
            ("a/b", None),
        ] {
            let path = Path::new(path);
            assert_eq!(read(root.open_below(path)).as_deref(), text, "{path:?}");
            assert_eq!(read(root.open_compared(path)).as_deref(), text, "{path:?}, compared");
        }
        fs::remove_dir_all(&base).expect("it is ours");
    }

    #[test]
    fn a_coding_is_taken_where_it_is_named_with_a_weight() {
        for (item, taken) in [
            ("gzip", true),
            ("GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("gzip;q=0.001", true),
            ("br", false),
            ("xgzip", false),
            ("", false),
        ] {
            assert_eq!(accepts(item.as_bytes(), "gzip"), taken, "{item}");
        }
    }

    #[test]
    fn the_name_tells_the_type() {
        let path = std::env::temp_dir().join(format!("switchboard-kind-{}", std::process::id()));
        let kind_of = |name: &str, bytes: &[u8]| {
            fs::write(&path, bytes).expect("there is room");
            kind(name.as_bytes(), &File::open(&path).expect("it is there"))
        };
        for (name, expected) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.json", "application/json; charset=utf-8"),
            ("a.svg", "image/svg+xml"),
            ("a.png", "image/png"),
            ("a.wasm", "application/wasm"),
            ("a", "application/octet-stream"),
            ("README", "text/plain; charset=utf-8"),
            ("LICENSE", "text/plain; charset=utf-8"),
            ("a.ts", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(kind_of(name, b"let one = 1;"), expected, "{name}");
        }
        let mut packets = vec![0; 376];
        (packets[0], packets[188]) = (0x47, 0x47);
        assert_eq!(kind_of("a.ts", &packets), "video/mp2t");
        assert_eq!(kind_of("a.TS", b"Great, but no television"), "text/plain; charset=utf-8");
        fs::remove_file(&path).expect("it is ours");
    }
}
