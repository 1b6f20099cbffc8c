//! How many connections are in each stage, counted where the stage changes: to ask for it costs three loads, however many
//! connections there are.
//!
//! Each connection holds one [`Tally`], which is counted in one of the columns and leaves it when it is dropped. So what is
//! counted are the connections that exist.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a connection is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// Connecting, or in its handshake.
    Opening,
    /// Bytes flow.
    Open,
    /// Our direction is finishing or finished, or the connection is marked closed.
    Ending,
}

/// The counts, by column.
pub(super) type Counts = [AtomicUsize; 3];

/// One connection's part of the counts.
#[derive(Debug)]
pub(super) struct Tally {
    counts: Arc<Counts>,
    column: Column,
}

impl Tally {
    pub(super) fn new(counts: &Arc<Counts>, column: Column) -> Tally {
        counts[column as usize].fetch_add(1, Ordering::Relaxed);
        Tally { counts: Arc::clone(counts), column }
    }

    pub(super) fn move_to(&mut self, column: Column) {
        self.counts[self.column as usize].fetch_sub(1, Ordering::Relaxed);
        self.counts[column as usize].fetch_add(1, Ordering::Relaxed);
        self.column = column;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.counts[self.column as usize].fetch_sub(1, Ordering::Relaxed);
    }
}
