//! Errors of the system, with what they are about.

use std::io;

/// An error of the system, behind what it is about.
pub(super) fn explained(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
