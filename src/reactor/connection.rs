//! One connection: its two directions, what is known of their readiness, and the bytes in between.
//!
//! The kernel reports *edges*: "readable" is said once, when bytes arrive, and not again until new ones
//! do. So each direction has a latch, set by an event and cleared only by would-block; whoever leaves
//! a latch set has work left, and must come back by himself, for no event will remind him.
//!
//! The two directions end apart, in three steps each (see [`Half`]). A peer that has finished sending
//! may still be reading: its end of file is no reason to hang up.
//!
//! Nothing here knows of other connections, timers or tokens: it is tested alone, over a scripted wire.
//!
//! Invariant: once `stage` is `Closed` nothing is read from or written to the transport any more.

use std::io;

use super::buffer::{Buffer, LARGE_BYTES, Spares};
use super::handler::{CloseReason, Limits, Transport};
use super::timers::Moment;

/// How far one direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    /// Bytes flow.
    Open,
    /// No new bytes are let in; those that are buffered still go their way.
    Finishing,
    /// Done. For reading: the handler has had everything. For writing: our FIN is out.
    Finished,
}

/// How far the connection as a whole has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connecting, or in a handshake: the handler has not heard of it yet.
    Opening,
    Open,
    /// Marked; freed at the end of the turn.
    Closed,
}

/// What an event said. A plain copy of mio's event, so that tests can make one up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// A read will tell something: bytes, the end of file, or an error.
    pub readable: bool,
    /// A write will tell something.
    pub writable: bool,
    /// A hang-up, an error or urgent data: there may be more behind a short read.
    pub exceptional: bool,
}

impl From<&mio::event::Event> for Readiness {
    #[inline]
    fn from(event: &mio::event::Event) -> Readiness {
        // An error is news for whoever asks next, so it wakes both directions.
        let error = event.is_error();
        let hang_up = event.is_read_closed();
        Readiness {
            readable: event.is_readable() || hang_up || error,
            writable: event.is_writable() || error,
            exceptional: hang_up || error || event.is_priority(),
        }
    }
}

pub(super) struct Connection<T, S> {
    pub(super) transport: T,
    pub(super) inbox: Buffer,
    pub(super) outbox: Buffer,
    /// When bytes last came from the peer.
    pub(super) heard_at: Moment,
    /// When the peer last took bytes from us, or we first had some for it; while opening, when that began.
    pub(super) took_at: Moment,
    pub(super) generation: u32,
    pub(super) stage: Stage,
    pub(super) reading: Half,
    pub(super) writing: Half,
    /// Why it ends, once it does.
    pub(super) reason: CloseReason,
    /// The peer's end of file has been read.
    pub(super) peer_finished: bool,
    /// The latches: a read, a write, may get somewhere.
    readable: bool,
    writable: bool,
    /// The last events were exceptional: no shortcut until a read would block.
    doubtful: bool,
    /// The outbox is, or was, above its low mark, and the handler waits to hear that it fell.
    pub(super) above_low: bool,
    /// It stands in the queue of sources to serve.
    pub(super) queued: bool,
    /// It stands in the list of outboxes to flush.
    pub(super) touched: bool,
    /// The handler's own.
    pub(super) state: S,
}

impl<T: Transport, S> Connection<T, S> {
    pub(super) fn new(transport: T, state: S, generation: u32, now: Moment) -> Self {
        Connection {
            transport,
            inbox: Buffer::default(),
            outbox: Buffer::default(),
            heard_at: now,
            took_at: now,
            generation,
            stage: Stage::Opening,
            reading: Half::Open,
            writing: Half::Open,
            reason: CloseReason::Finished,
            peer_finished: false,
            readable: false,
            writable: false,
            doubtful: false,
            above_low: false,
            queued: false,
            touched: false,
            state,
        }
    }

    /// An event came: sets the latches.
    #[inline]
    pub(super) fn latch(&mut self, readiness: Readiness) {
        self.readable |= readiness.readable;
        self.writable |= readiness.writable;
        self.doubtful |= readiness.exceptional;
    }

    /// Reading is for the handler, the kernel may have something, and our own outbox does not hold it up.
    #[inline]
    pub(super) fn can_fill(&self, limits: &Limits) -> bool {
        self.readable && self.reading == Half::Open && self.outbox.len() <= limits.outbox_bytes_low()
    }

    /// The handler is done with reading, yet the peer may go on sending: bytes to be dropped, so that
    /// its end of file (or a reset) is seen and a full receive buffer doesn't turn our close into RST.
    #[inline]
    pub(super) fn can_discard(&self) -> bool {
        self.readable && self.reading == Half::Finished && !self.peer_finished
    }

    /// Bytes wait for the handler, and its replies have somewhere to go.
    #[inline]
    pub(super) fn can_serve(&self, limits: &Limits) -> bool {
        !self.inbox.is_empty() && self.reading != Half::Finished && !self.congested(limits)
    }

    /// So much waits for the peer that no more of its messages should be served for now.
    #[inline]
    pub(super) fn congested(&self, limits: &Limits) -> bool {
        self.outbox.len() >= limits.outbox_bytes_high
    }

    /// Both directions are over.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.writing == Half::Finished && self.peer_finished
    }

    /// Reads into the inbox until would-block, the end of file or the budget; returns how many bytes.
    ///
    /// The budget is also what the outbox has left below its high mark: replies are mostly about as
    /// large as their requests, so a peer that never reads costs us that mark and little more.
    ///
    /// On an error, what was read before it is in the inbox and still counts.
    #[inline]
    pub(super) fn fill(&mut self, limits: &Limits, spares: &mut Spares) -> (usize, io::Result<()>) {
        let budget = limits
            .read_bytes_per_turn
            .min(limits.outbox_bytes_high - self.outbox.len())
            .min(limits.inbox_bytes_max.saturating_sub(self.inbox.len()));
        let mut total = 0;
        let outcome = self.read_up_to(budget, &mut total, spares);
        (total, outcome)
    }

    /// Reads and drops, within the same budget.
    pub(super) fn discard(&mut self, limits: &Limits, spares: &mut Spares) -> (usize, io::Result<()>) {
        let mut total = 0;
        self.inbox.clear();
        while self.readable && total < limits.read_bytes_per_turn {
            let before = total;
            if let Err(error) = self.read_up_to(LARGE_BYTES, &mut total, spares) {
                return (total, Err(error));
            }
            self.inbox.clear();
            if total == before {
                break;
            }
        }
        self.inbox.recycle(spares);
        (total, Ok(()))
    }

    #[inline]
    fn read_up_to(&mut self, budget: usize, total: &mut usize, spares: &mut Spares) -> io::Result<()> {
        /// With less room than this, it is better to move to a larger block than to read a trickle.
        const ROOM_BYTES_MIN: usize = 4 * 1024;
        let mut left = budget;
        while left > 0 {
            let wanted = if self.inbox.is_empty() { LARGE_BYTES } else { ROOM_BYTES_MIN };
            let room = self.inbox.room(wanted, spares);
            let asked = room.len().min(left);
            match self.transport.read(&mut room[..asked]) {
                Ok(0) => {
                    self.peer_finished = true;
                    self.readable = false;
                    if self.reading == Half::Open {
                        self.reading = Half::Finishing;
                    }
                    return Ok(());
                }
                Ok(count) => {
                    self.inbox.filled(count);
                    *total += count;
                    left -= count;
                    if count < asked && !self.doubtful && self.transport.short_read_means_empty() {
                        self.readable = false;
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    self.doubtful = false;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes the outbox until it is empty or the transport would block, and then, where our direction
    /// is finishing, our end of file. Returns how many bytes the transport took.
    #[inline]
    pub(super) fn drain(&mut self) -> (usize, io::Result<()>) {
        let mut total = 0;
        while self.writable && !self.outbox.is_empty() {
            match self.transport.write(self.outbox.bytes()) {
                Ok(0) => return (total, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.outbox.consume(count);
                    total += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (total, Err(error)),
            }
        }
        if self.writable && self.outbox.is_empty() && self.writing != Half::Finished {
            return (total, self.flush());
        }
        (total, Ok(()))
    }

    /// What the transport itself still holds, and behind it our end of file.
    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        let finishing = self.writing == Half::Finishing;
        loop {
            let flushed = self.transport.flush();
            match flushed.and_then(|()| if finishing { self.transport.finish() } else { Ok(()) }) {
                Ok(()) if finishing => self.writing = Half::Finished,
                Ok(()) => {}
                // The peer went altogether between its end of file and ours: then it is over, too.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => self.writing = Half::Finished,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }

    /// When the connection will have waited long enough, and for what. Worked out from the stored
    /// times, so that the hot path only has to store them.
    pub(super) fn deadline(&self, limits: &Limits) -> (Moment, CloseReason) {
        if self.stage == Stage::Opening {
            // Absolute: bytes don't extend it, or a byte every second would hold the slot for good.
            (self.took_at.after(limits.handshake_within), CloseReason::HandshakeTimeout)
        } else if self.writing == Half::Finished && self.reading == Half::Finished {
            // Absolute as well, from when our FIN went out.
            let reason = match self.reason {
                CloseReason::Finished => CloseReason::Lingered,
                reason => reason,
            };
            (self.took_at.after(limits.linger_for), reason)
        } else if !self.outbox.is_empty() || self.writing == Half::Finishing {
            (self.took_at.after(limits.stall_after), CloseReason::Stalled)
        } else {
            (self.heard_at.max(self.took_at).after(limits.idle_after), CloseReason::Idle)
        }
    }
}
