//! The way into an outbox: what is sent waits there until the loop writes it, and its limits hold.

use std::io;
use std::mem;

use super::buffer::{Buffer, Spares};
use super::connection::Pressure;
use super::limits::Limits;

/// The most bytes that are copied from one buffer to another. For more, the buffers exchange their blocks.
const COPIED_BYTES_MAX: usize = 1024;

/// The way into a peer's outbox.
pub struct Outbox<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) pressure: &'a mut Pressure,
    pub(super) spares: &'a mut Spares,
    pub(super) limits: &'a Limits,
}

impl Outbox<'_> {
    /// Appends a copy of `bytes`.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        if self.admits(bytes.len()) {
            self.buffer.append(bytes, self.spares);
        }
    }

    /// Appends `count` bytes that `fill` writes into their place, as from a file: one copy less.
    ///
    /// # Errors
    /// Those of `fill`; then nothing is appended.
    pub fn put_by(&mut self, count: usize, fill: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
        if self.admits(count) {
            fill(&mut self.buffer.room(count, self.spares)[..count])?;
            self.buffer.filled(count);
        }
        Ok(())
    }

    /// How many bytes more may wait before the peer is congested.
    pub fn room(&self) -> usize {
        self.limits.outbox_bytes_high.saturating_sub(self.buffer.len())
    }

    /// Whether nothing waits for the peer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Appends everything in `bytes`. Drop what is left in it afterwards.
    #[inline]
    pub(super) fn put_whole(&mut self, bytes: &mut Buffer) {
        if self.buffer.is_empty() && bytes.len() > COPIED_BYTES_MAX {
            if self.admits(bytes.len()) {
                mem::swap(self.buffer, bytes);
            }
        } else {
            self.put(bytes.bytes());
        }
    }

    /// Whether `count` more bytes may wait for the peer. If not, they and all later ones are dropped.
    #[inline(always)]
    fn admits(&mut self, count: usize) -> bool {
        let len = self.buffer.len() + count;
        if len > self.limits.outbox_bytes_low() {
            if len > self.limits.outbox_bytes_max || *self.pressure == Pressure::Overflow {
                *self.pressure = Pressure::Overflow;
                return false;
            }
            *self.pressure = Pressure::DrainOwed;
        }
        true
    }
}
