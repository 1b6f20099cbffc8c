//! The root, and what is found below it.
//!
//! Linux keeps a path below a directory itself (openat2(2), RESOLVE_BENEATH): no `..` and no link leads out of it, also
//! none that is put there between a look and the opening. Where there is no such call, the real path is compared.
//!
//! Whatever is opened is opened without waiting: for a FIFO's other end, for one.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// The directory that is served.
pub(super) struct Root {
    directory: OwnedFd,
    path: PathBuf,
}

/// What a path leads to.
#[allow(clippy::large_enum_variant)] // it is looked at once, and gone
pub(super) enum Found {
    File {
        file: File,
        metadata: Metadata,
        /// What its type is told by.
        name: String,
        /// How it is encoded: `br` or `gzip`.
        coding: Option<&'static str>,
    },
    Directory {
        directory: File,
    },
}

/// What lies beside a file, and how it is asked for; the smaller first.
const CODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

impl Root {
    /// # Errors
    /// Where it is no directory that we may read.
    pub(super) fn open(path: &Path) -> io::Result<Root> {
        let path = fs::canonicalize(path)?;
        let directory = rustix::fs::open(&path, FLAGS | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Root { directory, path })
    }

    /// What `path`, which `path::decode` has let through, leads to; the status that says that there is nothing.
    pub(super) fn find(&self, path: &str, accepted: &[u8]) -> Result<Found, u16> {
        let (file, metadata) = self.stat(path).map_err(|error| status(&error))?;
        if metadata.is_file() && !path.ends_with('/') {
            return Ok(self.best(path, file, metadata, accepted));
        }
        if !metadata.is_dir() {
            return Err(404); // a socket, a device, a file with a slash behind it
        }
        if path.is_empty() || path.ends_with('/') {
            let index = format!("{path}index.html");
            match self.stat(&index) {
                Ok((file, metadata)) if metadata.is_file() => {
                    return Ok(self.best(&index, file, metadata, accepted));
                }
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(status(&error)),
                _ => {}
            }
        }
        Ok(Found::Directory { directory: file })
    }

    /// The file, or what lies beside it for who takes that.
    fn best(&self, path: &str, file: File, metadata: Metadata, accepted: &[u8]) -> Found {
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        if !accepted.is_empty() {
            for (coding, ending) in CODINGS {
                if accepts(accepted, coding)
                    && let Ok((file, metadata)) = self.stat(&format!("{path}{ending}"))
                    && metadata.is_file()
                {
                    return Found::File { file, metadata, name, coding: Some(coding) };
                }
            }
        }
        Found::File { file, metadata, name, coding: None }
    }

    fn stat(&self, path: &str) -> io::Result<(File, Metadata)> {
        let file = File::from(self.open_below(if path.is_empty() { "." } else { path })?);
        let metadata = file.metadata()?;
        Ok((file, metadata))
    }

    #[cfg(target_os = "linux")]
    fn open_below(&self, path: &str) -> io::Result<OwnedFd> {
        use rustix::fs::ResolveFlags;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.directory, path, FLAGS, Mode::empty(), resolve) {
            // Before Linux 5.6, and where a filter of system calls is older than that.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => self.open_compared(path),
            outcome => Ok(outcome?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn open_below(&self, path: &str) -> io::Result<OwnedFd> {
        self.open_compared(path)
    }

    /// Its real path is below the root's. (A link that is put there in between is followed: the root belongs to who may
    /// do so.)
    fn open_compared(&self, path: &str) -> io::Result<OwnedFd> {
        let real = fs::canonicalize(self.path.join(path))?;
        if !real.starts_with(&self.path) {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(rustix::fs::open(&real, FLAGS | OFlags::NOFOLLOW, Mode::empty())?)
    }
}

/// That a link leads out of the root is nobody's business.
fn status(error: &io::Error) -> u16 {
    match error.kind() {
        ErrorKind::PermissionDenied => 403,
        _ if error.raw_os_error().is_some_and(is_full) => 503,
        _ => 404,
    }
}

/// Out of descriptors: ENFILE, EMFILE.
fn is_full(errno: i32) -> bool {
    matches!(rustix::io::Errno::from_raw_os_error(errno), rustix::io::Errno::NFILE | rustix::io::Errno::MFILE)
}

/// Whether `coding` is in an Accept-Encoding, with another weight than none.
fn accepts(value: &[u8], coding: &str) -> bool {
    value.split(|byte| *byte == b',').any(|item| {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding.as_bytes()));
        let weight = parts.find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")));
        named && !weight.is_some_and(|weight| weight.iter().all(|byte| matches!(byte, b'0' | b'.')))
    })
}

/// The type by the name, and that text is UTF-8.
pub(super) fn kind(name: &str) -> String {
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    let is_text = kind.type_() == "text" || matches!(kind.subtype().as_str(), "javascript" | "json" | "xml");
    match is_text {
        true => format!("{}; charset=utf-8", kind.essence_str()),
        false => kind.essence_str().to_owned(),
    }
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
        let root = Root::open(&base.join("www")).expect("it is a directory");
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
            assert_eq!(read(root.open_below(path)).as_deref(), text, "{path}");
            assert_eq!(read(root.open_compared(path)).as_deref(), text, "{path}, compared");
        }
        fs::remove_dir_all(&base).expect("it is ours");
    }

    #[test]
    fn a_coding_is_taken_where_it_is_named_with_a_weight() {
        for (value, taken) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("gzip;q=0.001", true),
            ("br", false),
            ("xgzip", false),
            ("", false),
        ] {
            assert_eq!(accepts(value.as_bytes(), "gzip"), taken, "{value}");
        }
    }

    #[test]
    fn the_name_tells_the_type() {
        for (name, expected) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.json", "application/json; charset=utf-8"),
            ("a.svg", "image/svg+xml"),
            ("a.png", "image/png"),
            ("a.wasm", "application/wasm"),
            ("README", "application/octet-stream"),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
