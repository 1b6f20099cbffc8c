//! Descriptors that a handler holds beside those of connections: files that it sends, for one.
//!
//! A process has a number of descriptors, and it does not matter what they are for. So they are counted with the connections,
//! against the same limit ([`Limits::connections_max`](super::Limits::connections_max)): a handler claims one from the
//! [board](super::Board::claim_descriptor), and gives it back by dropping it.
//!
//! Where files and connections are taken by the same clients, files must not take the last place: each client would hold two,
//! and new ones could not even be told to come later. So files have at most half of what the connections leave.
//!
//! Invariant: what is claimed is at most half of what was left at that time, so connections and claimed descriptors together
//! exceed `connections_max` only where a reload has lowered it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One descriptor that is counted. To be kept beside what it stands for, and dropped with it.
#[derive(Debug)]
pub struct Descriptor(Arc<AtomicUsize>);

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many are claimed. Shared with each [`Descriptor`], so that dropping one is all there is to giving it back.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    claimed: Arc<AtomicUsize>,
    /// How many were claimed at the end of the last turn.
    before: usize,
}

impl Descriptors {
    pub(super) fn claimed(&self) -> usize {
        self.claimed.load(Ordering::Relaxed)
    }

    /// One more, if that leaves as many places to new connections.
    pub(super) fn claim(&self, connections: usize, connections_max: usize) -> Option<Descriptor> {
        let left = connections_max.saturating_sub(connections);
        if self.claimed() >= left / 2 {
            return None;
        }
        self.claimed.fetch_add(1, Ordering::Relaxed);
        Some(Descriptor(Arc::clone(&self.claimed)))
    }

    /// Whether some were given back since it was asked last: then a listener that waits for a place may go on.
    pub(super) fn were_returned(&mut self) -> bool {
        let claimed = self.claimed();
        claimed < std::mem::replace(&mut self.before, claimed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_leave_as_many_places_to_connections_as_they_take() {
        let mut descriptors = Descriptors::default();
        let mut held = Vec::new();
        // Each client holds its connection, and a file as long as there are some.
        for connections in 1..=100 {
            held.extend(descriptors.claim(connections, 100));
        }
        assert_eq!(held.len(), 33, "half of the 67 places that 33 connections leave");
        assert_eq!(descriptors.claimed(), 33);
        assert!(!descriptors.were_returned());
        held.pop();
        assert!(descriptors.were_returned());
        assert!(!descriptors.were_returned());
        drop(held);
        assert_eq!(descriptors.claimed(), 0);
        assert!(descriptors.claim(100, 100).is_none() && descriptors.claim(99, 100).is_none());
        assert!(descriptors.claim(5, 1).is_none(), "the limit may have become lower");
    }
}
