//! What was looked up in this turn.
//!
//! To look a file up takes up to five system calls: its opening, its size and date, and an opening for each coding that the
//! client takes. A flood of small requests asks for the same few files, so what was found is kept: for one turn of the
//! loop, and not for a time. A client is served once in a turn, so whatever it did between an answer and its next request
//! (it may have written the file) is seen.
//!
//! Invariant: nothing here holds a descriptor.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::conditions::Stamp;
use super::files::Codings;
use super::listing::Identity;

/// Lookups that are kept; more are answered all the same.
const LOOKUPS_MAX: usize = 256;

/// Bytes of files that are kept.
const BYTES_MAX: usize = 1024 * 1024;

/// What is asked for: a path, and the codings that the client takes.
pub(super) type Key = (Codings, Vec<u8>);

/// What it leads to.
pub(super) enum Known {
    /// Nothing, with this status.
    Nothing(u16),
    /// A file.
    File(Version),
    /// A directory.
    Directory(Identity),
}

/// One version of a file.
pub(super) struct Version {
    pub(super) stamp: Stamp,
    pub(super) kind: String,
    pub(super) coding: Option<&'static str>,
    /// All of it, where it is small and was asked for.
    pub(super) bytes: OnceLock<Vec<u8>>,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Recent {
    known: HashMap<Key, Arc<Known>>,
    bytes: usize,
}

impl Recent {
    /// Another turn has begun.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.bytes = 0;
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Known>> {
        self.known.get(key).cloned()
    }

    pub(super) fn keep(&mut self, key: &Key, known: &Arc<Known>) {
        if self.known.len() < LOOKUPS_MAX {
            self.known.insert(key.clone(), Arc::clone(known));
        }
    }

    /// Keeps the bytes of a version, where there is room for them.
    pub(super) fn keep_bytes(&mut self, version: &Version, bytes: Vec<u8>) {
        if self.bytes + bytes.len() <= BYTES_MAX {
            self.bytes += bytes.len();
            let _ = version.bytes.set(bytes); // it may be there already
        }
    }
}
