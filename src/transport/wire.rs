//! A scripted wire: a transport that does what a test tells it to.
//!
//! The test holds the [`Remote`], the far end. It says bytes, ends its side, resets, and decides how
//! many bytes each read returns and each write takes. What a kernel does once in a million runs is
//! here an ordinary line of a script.
//!
//! The wire keeps the kernel's promise about edges: [`Remote::take_edge`] says what an edge-triggered
//! poll would report now, once per cause. A loop that forgets an edge starves here as it would there.
//!
//! Invariant: bytes are neither lost nor reordered by the wire itself; a reset discards both directions.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;

use mio::{Interest, Registry, Token, event};

use crate::reactor::{Opening, Readiness, Transport};

/// The near end: what the reactor reads and writes.
pub struct Wire(Rc<RefCell<Line>>);

/// The far end: what the test, or a bench, speaks from.
#[derive(Clone)]
pub struct Remote(Rc<RefCell<Line>>);

#[derive(Default)]
struct Line {
    /// Said by the remote, not read yet.
    inbound: VecDeque<u8>,
    /// The remote said its last byte.
    finished: bool,
    /// And had not said that it would be the last.
    cut_off: bool,
    /// How many events are left until the handshake is complete.
    handshake: usize,
    /// How many steps come before that.
    steps: usize,
    reset: bool,
    /// How many bytes a single read returns at the most; each read takes the front entry, and the last
    /// one stays.
    reads: VecDeque<usize>,
    /// Written by the reactor, not heard yet.
    outbound: VecDeque<u8>,
    /// Bytes that the line takes before it would block.
    room: usize,
    writes: VecDeque<usize>,
    /// The reactor ended its side.
    near_finished: bool,
    near_closed: bool,
    edge: Readiness,
    reads_made: u64,
    writes_made: u64,
    short_read_means_empty: bool,
    /// What was written is not flushed.
    holds_back: bool,
    passed_on: u64,
}

/// A new line with its two ends. It takes everything that is written to it until told otherwise.
pub fn wire() -> (Wire, Remote) {
    let line = Rc::new(RefCell::new(Line { room: usize::MAX, edge: Readiness::WRITABLE, ..Line::default() }));
    (Wire(Rc::clone(&line)), Remote(line))
}

impl Remote {
    /// Puts bytes on the line.
    pub fn say(&self, bytes: &[u8]) {
        let mut line = self.0.borrow_mut();
        line.inbound.extend(bytes);
        line.edge = line.edge.union(Readiness::READABLE);
    }

    /// Everything that was written since the last call.
    pub fn hear(&self) -> Vec<u8> {
        self.0.borrow_mut().outbound.drain(..).collect()
    }

    /// [`Remote::hear`] without the allocation: how many bytes there were.
    pub fn hear_count(&self) -> usize {
        let mut line = self.0.borrow_mut();
        let count = line.outbound.len();
        line.outbound.clear();
        count
    }

    /// Ends this side: the reader gets what is on the line, and then end of file.
    pub fn finish(&self) {
        let mut line = self.0.borrow_mut();
        line.finished = true;
        line.edge = line.edge.union(Readiness::READABLE).union(Readiness::EXCEPTIONAL);
    }

    /// As [`Remote::finish`], but in the middle of the data: the reader gets what is on the line, and
    /// then `UnexpectedEof`.
    pub fn cut_off(&self) {
        self.0.borrow_mut().cut_off = true;
        self.finish();
    }

    /// Makes the line begin with a handshake that takes `events` events.
    pub fn shake_hands(&self, events: usize) {
        self.0.borrow_mut().handshake = events;
    }

    /// Makes the line begin with `count` steps, such as the header of a proxy.
    pub fn take_steps(&self, count: usize) {
        self.0.borrow_mut().steps = count;
    }

    /// Breaks the line: reads and writes fail with `ConnectionReset`.
    pub fn reset(&self) {
        let mut line = self.0.borrow_mut();
        line.reset = true;
        line.inbound.clear();
        line.edge = Readiness::READABLE.union(Readiness::WRITABLE).union(Readiness::EXCEPTIONAL);
    }

    /// The most that single reads return, in order; the last one holds for all that follow. 0 stands
    /// for a would-block, after which the edge is reported again.
    pub fn reads_return(&self, sizes: impl IntoIterator<Item = usize>) {
        self.0.borrow_mut().reads = sizes.into_iter().collect();
    }

    /// The same for what single writes take.
    pub fn writes_take(&self, sizes: impl IntoIterator<Item = usize>) {
        self.0.borrow_mut().writes = sizes.into_iter().collect();
    }

    /// How many further bytes the line takes before it would block.
    pub fn make_room(&self, bytes: usize) {
        let mut line = self.0.borrow_mut();
        line.room = bytes;
        if bytes > 0 {
            line.edge = line.edge.union(Readiness::WRITABLE);
        }
    }

    /// Whether the near end holds what was written to it, as TLS does with records that the socket does not take.
    pub fn hold_back(&self, holds_back: bool) {
        let mut line = self.0.borrow_mut();
        line.holds_back = holds_back;
        if !holds_back {
            line.edge = line.edge.union(Readiness::WRITABLE);
        }
    }

    /// The near end passes on some bytes of those that it holds, and still holds the others.
    pub fn pass_on(&self, count: u64) {
        let mut line = self.0.borrow_mut();
        line.passed_on += count;
        line.edge = line.edge.union(Readiness::WRITABLE);
    }

    /// Whether a short read is promised to have emptied the line. (It is true of this one only while
    /// no read is scripted to be short.)
    pub fn promise_short_reads(&self, promised: bool) {
        self.0.borrow_mut().short_read_means_empty = promised;
    }

    /// What an edge-triggered poll would report now; the default if nothing.
    pub fn take_edge(&self) -> Readiness {
        std::mem::take(&mut self.0.borrow_mut().edge)
    }

    /// [`Remote::take_edge`], without taking it.
    pub fn peek_edge(&self) -> Readiness {
        self.0.borrow().edge
    }

    /// Whether the near side has ended its direction.
    pub fn saw_finish(&self) -> bool {
        self.0.borrow().near_finished
    }

    /// Whether the near side has let go of the line.
    pub fn saw_close(&self) -> bool {
        self.0.borrow().near_closed
    }

    /// How many bytes were said and not read yet.
    pub fn unread(&self) -> usize {
        self.0.borrow().inbound.len()
    }

    /// How often the near side called `read` and `write`.
    pub fn calls(&self) -> (u64, u64) {
        let line = self.0.borrow();
        (line.reads_made, line.writes_made)
    }
}

/// The size that the script gives the next call.
fn next(sizes: &mut VecDeque<usize>) -> usize {
    match sizes.len() {
        0 => usize::MAX,
        1 => sizes[0],
        _ => sizes.pop_front().expect("its length was just seen"),
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let line = &mut *self.0.borrow_mut();
        line.reads_made += 1;
        if line.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let scripted = next(&mut line.reads);
        if scripted == 0 {
            // A scripted would-block: bytes or not, the "kernel" reports the edge again later.
            if line.finished {
                line.edge = line.edge.union(Readiness::READABLE).union(Readiness::EXCEPTIONAL);
            } else if !line.inbound.is_empty() {
                line.edge = line.edge.union(Readiness::READABLE);
            }
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if line.inbound.is_empty() {
            if line.finished {
                return if line.cut_off { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(0) };
            }
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = into.len().min(scripted).min(line.inbound.len());
        let (front, back) = line.inbound.as_slices();
        let from_front = count.min(front.len());
        into[..from_front].copy_from_slice(&front[..from_front]);
        into[from_front..count].copy_from_slice(&back[..count - from_front]);
        line.inbound.drain(..count);
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = &mut *self.0.borrow_mut();
        line.writes_made += 1;
        assert!(!line.near_finished, "a write after the end of file");
        if line.reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let scripted = next(&mut line.writes);
        let count = bytes.len().min(scripted).min(line.room);
        if count == 0 {
            // A scripted would-block is reported writable again later; one for want of room, when there is some.
            if line.room > 0 {
                line.edge = line.edge.union(Readiness::WRITABLE);
            }
            return Err(io::ErrorKind::WouldBlock.into());
        }
        line.outbound.extend(&bytes[..count]);
        if line.room != usize::MAX {
            line.room -= count;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.borrow().holds_back {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }
    }
}

impl Transport for Wire {
    /// The lines that the test put there wait to be accepted.
    type Listener = WireListener;
    type Datagrams = mio::net::UdpSocket;
    type Address = ();

    fn accept(listener: &mut WireListener) -> io::Result<(Wire, ())> {
        listener.accepts.set(listener.accepts.get() + 1);
        match listener.waiting.borrow_mut().pop_front() {
            Some(outcome) => outcome.map(|wire| (wire, ())),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn establish(&mut self) -> io::Result<Opening> {
        let mut line = self.0.borrow_mut();
        if line.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if let Some(left) = line.steps.checked_sub(1) {
            line.steps = left;
            return Ok(Opening::Step);
        }
        match line.handshake.checked_sub(1) {
            Some(left) if left > 0 => {
                line.handshake = left;
                Err(io::ErrorKind::WouldBlock.into())
            }
            _ => Ok(Opening::Done),
        }
    }

    fn has_handshake(&self) -> bool {
        self.0.borrow().handshake > 0
    }

    fn passed_on(&self) -> u64 {
        self.0.borrow().passed_on
    }

    fn finish(&mut self, _last: bool) -> io::Result<()> {
        let mut line = self.0.borrow_mut();
        if line.reset {
            return Err(io::ErrorKind::NotConnected.into());
        }
        line.near_finished = true;
        Ok(())
    }

    fn short_read_means_empty(&self) -> bool {
        self.0.borrow().short_read_means_empty
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.0.borrow_mut().near_closed = true;
    }
}

/// A listener of wires: what a test puts in comes out of `accept`, errors included.
#[derive(Clone, Default)]
pub struct WireListener {
    waiting: Rc<RefCell<VecDeque<io::Result<Wire>>>>,
    edge: Rc<Cell<bool>>,
    accepts: Rc<Cell<u64>>,
}

impl WireListener {
    /// Lets `accept` return this next.
    pub fn put(&self, outcome: io::Result<Wire>) {
        self.waiting.borrow_mut().push_back(outcome);
        self.edge.set(true);
    }

    /// How often `accept` was called.
    pub fn accepts(&self) -> u64 {
        self.accepts.get()
    }

    /// [`WireListener::take_edge`], without taking it.
    pub fn has_edge(&self) -> bool {
        self.edge.get()
    }

    /// Whether an edge-triggered poll would report it now.
    pub fn take_edge(&self) -> bool {
        self.edge.take()
    }
}

// Nothing in the kernel to register: the test reports the edges.

impl event::Source for Wire {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

impl event::Source for WireListener {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    /// As epoll_ctl(2) has it: the edge comes again if something waits.
    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        self.edge.set(!self.waiting.borrow().is_empty());
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}
