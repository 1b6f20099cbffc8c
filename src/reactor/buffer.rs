//! Bytes on their way in or out of one connection.
//!
//! A [`Buffer`] is one block of storage and two indexes: bytes are appended at `end` and consumed at
//! `start`. It owns storage only while it holds bytes: an emptied buffer gives its block back to the
//! reactor's [`Spares`], last in first out, so that a thousand connections that talk in turn share one
//! block that is still warm in the cache, and an idle connection owns none.
//!
//! The storage is a block of initialised bytes and not a growing `Vec`: safe Rust can't read a socket
//! into uninitialised capacity, and zeroing 64 KiB before each read of 64 bytes costs more than the read.
//!
//! Invariant: `start <= end <= storage.len()`, and both are 0 when the buffer owns no storage.

use std::mem;

/// The smallest block: for a small message or two, or for the rest of an unfinished one. A post to 5,000
/// members fills as many outboxes before the first is written; with blocks of 1 KiB, malloc kept 4 MB more when all
/// of them had gone.
pub(super) const SMALL_BYTES: usize = 256;

/// The largest block that is kept for reuse, and the block for one read. Reads of 64 KiB reached twice
/// the throughput of reads of 4 to 16 KiB, and larger ones gain nothing more.
pub(super) const LARGE_BYTES: usize = 64 * 1024;

/// The sizes from [`SMALL_BYTES`] to [`LARGE_BYTES`], each twice the one before. With two sizes alone, 5,000
/// members of a room who were sent 1,100 bytes each took 320 MB.
const SIZES: usize = (LARGE_BYTES / SMALL_BYTES).ilog2() as usize + 1;

/// How many bytes of blocks are kept of each size: much of those that the common cases use, a broadcast of
/// short messages and a read, and some of those between. 3.75 MiB in all; a block that comes back beyond is freed.
const SPARE_BYTES_MAX: [usize; SIZES] = {
    let mut bytes = [256 * 1024; SIZES];
    bytes[0] = 1024 * 1024;
    bytes[SIZES - 1] = 1024 * 1024;
    bytes
};

/// A block with more than this many times the bytes that wait in it is exchanged for a smaller one. Below 4,
/// an outbox that is written and filled in turns would be moved each time.
const SLACK: usize = 4;

/// A first-in first-out run of bytes. See the module's text.
#[derive(Default)]
pub struct Buffer {
    storage: Box<[u8]>,
    // u32 keeps a connection small; `Limits::checked` holds every size far below 4 GiB.
    start: u32,
    end: u32,
}

impl Buffer {
    /// The bytes that wait, oldest first.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.storage[self.start as usize..self.end as usize]
    }

    /// How many bytes wait.
    #[inline]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether no byte waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops the `count` oldest bytes.
    ///
    /// # Panics
    /// If fewer than `count` bytes wait: the caller consumed what it never saw.
    #[inline(always)]
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consumed more than there was");
        self.start += count as u32;
    }

    /// Drops everything; the storage stays until [`Buffer::recycle`].
    #[inline]
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// How many bytes of memory the buffer owns, used or not.
    pub fn storage_bytes(&self) -> usize {
        self.storage.len()
    }

    /// Appends a copy of `bytes`.
    #[inline(always)]
    pub fn append(&mut self, bytes: &[u8], spares: &mut Spares) {
        let end = self.end as usize;
        if let Some(room) = self.storage.get_mut(end..end + bytes.len()) {
            copy(bytes, room);
            self.end += bytes.len() as u32;
        } else {
            self.append_elsewhere(bytes, spares);
        }
    }

    #[inline(never)]
    fn append_elsewhere(&mut self, bytes: &[u8], spares: &mut Spares) {
        copy(bytes, &mut self.room(bytes.len(), spares)[..bytes.len()]);
        self.filled(bytes.len());
    }

    /// At least `wanted` bytes of free storage behind the waiting ones, for a read; say with
    /// [`Buffer::filled`] how many of them now hold data.
    #[inline]
    pub fn room(&mut self, wanted: usize, spares: &mut Spares) -> &mut [u8] {
        if self.storage.is_empty() {
            self.storage = spares.take(wanted);
        } else if self.storage.len() - (self.end as usize) < wanted {
            self.make_room(wanted, spares);
        }
        &mut self.storage[self.end as usize..]
    }

    /// The first `count` bytes of the last [`Buffer::room`] hold data now.
    #[inline(always)]
    pub fn filled(&mut self, count: usize) {
        let end = self.end as usize + count;
        assert!(end <= self.storage.len(), "filled beyond the storage");
        self.end = end as u32;
    }

    /// Gives back storage that is not needed: all of it when no byte waits, a block for a smaller one
    /// when little waits in it. Called when a connection has been served, so that a peer that stops in
    /// the middle of a message costs about what it sent, not what a read needs.
    #[inline]
    pub fn recycle(&mut self, spares: &mut Spares) {
        if self.is_empty() {
            self.clear();
            spares.give(mem::take(&mut self.storage));
        } else if self.storage.len() > SMALL_BYTES && self.len() <= self.storage.len() / SLACK {
            self.move_to(spares.take(self.len()), spares);
        }
    }

    /// Takes over everything that waits in `other`; this buffer is empty before, `other` is after, and
    /// owns nothing. What fits a smaller block than that of a read is copied, so that each side keeps the
    /// block that fits it; more is not, the block changes hands. [The longest copy takes 1 us.]
    #[inline]
    pub(super) fn take_from(&mut self, other: &mut Buffer, spares: &mut Spares) {
        if other.is_empty() {
            return;
        }
        if other.len() <= LARGE_BYTES / 2 {
            self.append(other.bytes(), spares);
            other.clear();
        } else {
            mem::swap(self, other);
        }
        other.recycle(spares);
    }

    /// Drops everything, and makes ready for the next read: with a block of [`LARGE_BYTES`].
    #[inline]
    pub(super) fn reset(&mut self, spares: &mut Spares) {
        self.clear();
        if self.storage.len() != LARGE_BYTES {
            let block = spares.large();
            spares.give(mem::replace(&mut self.storage, block));
        }
    }

    /// Slides the bytes to the front when that makes enough room and moves few of them, else moves
    /// to a block of at least twice the size: either way a byte is moved a bounded number of times.
    #[cold]
    fn make_room(&mut self, wanted: usize, spares: &mut Spares) {
        let (len, capacity) = (self.len(), self.storage.len());
        if len <= capacity / 2 && capacity - len >= wanted {
            self.storage.copy_within(self.start as usize..self.end as usize, 0);
            self.start = 0;
            self.end = len as u32;
        } else {
            self.move_to(spares.take((len + wanted).max(2 * len)), spares);
        }
    }

    #[inline(never)]
    fn move_to(&mut self, mut storage: Box<[u8]>, spares: &mut Spares) {
        let len = self.len();
        copy(self.bytes(), &mut storage[..len]);
        spares.give(mem::replace(&mut self.storage, storage));
        self.start = 0;
        self.end = len as u32;
    }
}

/// Storage that no buffer uses right now, in `SIZES` sizes. A larger block is freed when it comes back.
///
/// Invariant: a shelf holds blocks of one size, and at most its `SPARE_BYTES_MAX` of them: so a burst leaves
/// no more than that behind.
#[derive(Default)]
pub struct Spares {
    /// By the index of the size.
    shelves: [Vec<Box<[u8]>>; SIZES],
}

impl Spares {
    /// A block of at least `bytes`: a spare one if there is, else a new one.
    #[inline]
    fn take(&mut self, bytes: usize) -> Box<[u8]> {
        let spare = self.shelves.get_mut(size_index(bytes)).and_then(Vec::pop);
        spare.unwrap_or_else(|| new_block(bytes))
    }

    /// A block of [`LARGE_BYTES`].
    #[inline]
    pub(super) fn large(&mut self) -> Box<[u8]> {
        self.take(LARGE_BYTES)
    }

    #[inline]
    fn give(&mut self, block: Box<[u8]>) {
        let index = size_index(block.len());
        // A buffer without storage gives an empty block.
        if index < SIZES && !block.is_empty() {
            let shelf = &mut self.shelves[index];
            if (shelf.len() + 1) * block.len() <= SPARE_BYTES_MAX[index] {
                shelf.push(block);
            }
        }
    }

    /// Frees them all.
    pub(super) fn clear(&mut self) {
        self.shelves = Default::default();
    }

    /// How many bytes of memory are kept for reuse.
    pub fn bytes(&self) -> usize {
        self.shelves.iter().flatten().map(|block| block.len()).sum()
    }
}

/// The index of the smallest size that holds `bytes`; `SIZES` or more where none does.
#[inline]
fn size_index(bytes: usize) -> usize {
    match bytes.saturating_sub(1) / SMALL_BYTES {
        0 => 0,
        times => times.ilog2() as usize + 1,
    }
}

/// `copy_from_slice` in pieces. memcpy turns a long copy into one `rep movsb`, and on AMD's Zen 3 that
/// takes 27 us instead of 1.5 us for 64 KiB where the destination lies 16 bytes behind the source,
/// modulo 4096. Two blocks that malloc hands out one after the other lie just so: it was 40 % of all
/// time in a 64 KiB echo. Below 4 KiB memcpy takes its vector loop, and nothing is lost.
#[inline(always)]
fn copy(from: &[u8], to: &mut [u8]) {
    const PIECE_BYTES: usize = 2048;
    if from.len() <= PIECE_BYTES {
        to.copy_from_slice(from);
    } else {
        for (from, to) in from.chunks(PIECE_BYTES).zip(to.chunks_mut(PIECE_BYTES)) {
            to.copy_from_slice(from);
        }
    }
}

#[cold]
fn new_block(bytes: usize) -> Box<[u8]> {
    vec![0; bytes.next_power_of_two().max(SMALL_BYTES)].into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn an_emptied_buffer_owns_no_storage_and_its_block_is_used_again() {
        let (mut buffer, mut spares) = (Buffer::default(), Spares::default());
        buffer.append(b"hello", &mut spares);
        let block = buffer.bytes().as_ptr();
        buffer.consume(5);
        buffer.recycle(&mut spares);
        assert_eq!((buffer.storage_bytes(), spares.bytes()), (0, SMALL_BYTES));
        buffer.append(b"again", &mut spares);
        assert_eq!(buffer.bytes().as_ptr(), block);
    }

    #[test]
    fn the_rest_of_an_unfinished_message_moves_to_a_small_block() {
        let (mut buffer, mut spares) = (Buffer::default(), Spares::default());
        buffer.append(&[7; 40_000], &mut spares);
        buffer.consume(39_990);
        buffer.recycle(&mut spares);
        assert_eq!((buffer.storage_bytes(), buffer.bytes()), (SMALL_BYTES, &[7; 10][..]));
    }

    #[test]
    fn spares_are_bounded_for_each_size_and_in_all() {
        let mut spares = Spares::default();
        let mut total = 0;
        for (index, bytes_max) in SPARE_BYTES_MAX.into_iter().enumerate() {
            for _ in 0..5000 {
                spares.give(new_block(SMALL_BYTES << index));
            }
            total += bytes_max;
            assert_eq!(spares.bytes(), total);
        }
        spares.give(new_block(2 * LARGE_BYTES));
        spares.give(Box::default());
        assert_eq!(spares.bytes(), total);
        assert!(total < 4 << 20);
    }

    #[test]
    fn an_outbox_of_a_little_more_than_a_small_block_does_not_take_a_large_one() {
        let (mut buffer, mut spares) = (Buffer::default(), Spares::default());
        let grown = [(1000, 1), (100, 2), (948, 2), (1, 4), (30_000, 32), (1000, 64), (40_000, 128)];
        for (more, kib) in grown {
            buffer.append(&vec![7; more], &mut spares);
            assert_eq!(buffer.storage_bytes(), kib * 1024, "with {} bytes", buffer.len());
        }
        let drained = [(70_000, 128), (20_000, 32), (8193, 32), (8192, 8), (2049, 8), (2048, 2), (513, 2)];
        for (left, kib) in drained {
            buffer.consume(buffer.len() - left);
            buffer.recycle(&mut spares);
            assert_eq!(buffer.storage_bytes(), kib * 1024, "with {left} bytes");
        }
    }

    #[test]
    fn the_beginning_of_a_message_of_many_reads_costs_at_most_twice_its_bytes() {
        let mut spares = Spares::default();
        for len in [1, 1024, 1025, 5000, 32_768, 32_769, 65_536] {
            let (mut inbox, mut kept) = (Buffer::default(), Buffer::default());
            inbox.room(LARGE_BYTES, &mut spares);
            inbox.filled(len);
            kept.take_from(&mut inbox, &mut spares);
            assert!(kept.storage_bytes() <= (2 * len).max(SMALL_BYTES), "{len}: {}", kept.storage_bytes());
            assert_eq!((kept.len(), inbox.len()), (len, 0));
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Append(Vec<u8>),
        Consume(usize),
        Recycle,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0usize..3000, any::<u8>()).prop_map(|(count, first)| {
                Step::Append((0..count).map(|at| first.wrapping_add(at as u8)).collect())
            }),
            (0usize..4000).prop_map(Step::Consume),
            Just(Step::Recycle),
        ]
    }

    proptest! {
        #[test]
        fn a_buffer_is_a_queue_of_bytes(steps in prop::collection::vec(step(), 0..200)) {
            let (mut buffer, mut spares, mut model) = (Buffer::default(), Spares::default(), VecDeque::new());
            let mut most = 0;
            for step in steps {
                match step {
                    Step::Append(bytes) => {
                        buffer.append(&bytes, &mut spares);
                        model.extend(bytes);
                    }
                    Step::Consume(count) => {
                        let count = count.min(model.len());
                        buffer.consume(count);
                        model.drain(..count);
                    }
                    Step::Recycle => buffer.recycle(&mut spares),
                }
                prop_assert_eq!(buffer.bytes(), model.make_contiguous() as &[u8]);
                // A block is at most twice what doubling and rounding up make of the most it ever held.
                most = most.max(model.len());
                prop_assert!(buffer.storage_bytes() <= SMALL_BYTES.max(4 * most));
            }
        }
    }
}
