//! One connection: its two directions, what is known of their readiness, and the bytes in between.
//!
//! The kernel reports *edges*: it says "readable" when bytes arrive, and not again until new ones do. So each direction has a
//! latch. An event sets it; and so does the loop itself where it wants one more try: at a deadline, at a stop, after a handshake.
//! Would-block clears it, and the end of file; and a short read, where the transport promises that this means the
//! same and no event gave reason to doubt. While a latch is set there may be work left, so the connection must be queued: no
//! event will come to remind of it.
//!
//! The two directions end separately, in three steps each (see [`Half`]). A peer that has finished sending may still be
//! reading. So its end of file is no reason to close.
//!
//! | Stage | Reading | Writing | What is read | What is written | Deadline | What moves it on |
//! |---|---|---|---|---|---|---|
//! | `Opening` | | | the handshake | the handshake | `handshake_within` | `establish` succeeds: `Open` |
//! | `Open` | `Open` | `Open` | messages for the handler | the outbox | `message_within`, `idle_after`; while bytes wait for the peer (here or in the transport) `stall_after` | the peer's end of file; `finish`, `half_close` |
//! | `Open` | `Finishing` | any | nothing more | the outbox | as in the rows with this state of writing | everything is served: `on_finish`; at a stop `on_stop`, and if that returns false, reading is `Open` again |
//! | `Open` | `Open` | `Finishing` | messages for the handler | the outbox, then our end of file | `stall_after` | the outbox is empty (after `half_close`) |
//! | `Open` | `Open` | `Finished` | messages for the handler | nothing | `message_within`, `idle_after` | the peer's end of file |
//! | `Open` | `Finished` | `Open` | bytes to drop | the outbox | `idle_after`; while bytes wait for the peer (here or in the transport) `stall_after` | the handler finishes |
//! | `Open` | `Finished` | `Finishing` | bytes to drop | the outbox, then our end of file | `stall_after` | the outbox is empty (after `finish`) |
//! | `Open` | `Finished` | `Finished` | bytes to drop | nothing | `linger_for` | the peer's end of file: closed |
//! | `Closed` | | | nothing | nothing | | `reap` frees it |
//!
//! Nothing here knows of other connections, timers or tokens: it is tested alone, over a scripted wire.
//!
//! Invariant: once `stage` is `Closed` nothing is read from or written to the transport any more.

use std::io;
use std::sync::Arc;

use super::buffer::{Buffer, LARGE_BYTES, Spares};
use super::ending::CloseReason;
use super::limits::Limits;
use super::meter::Meter;
use super::readiness::Readiness;
use super::tally::{Column, Counts, Tally};
use super::timers::Moment;
use super::token::Peer;
use super::transport::Transport;

/// How far one direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    /// Bytes flow.
    Open,
    /// No new bytes are let in; those that are buffered still go their way.
    Finishing,
    /// Done. Reading: the handler gets nothing more, and bytes that it did not take are dropped. Writing: our FIN is out.
    Finished,
}

/// How far the connection as a whole has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// Connecting, or in a handshake: the handler has not heard of it yet.
    Opening,
    /// Marked; freed at the end of the turn.
    Closed,
}

/// How full the outbox has been since the last `on_drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressure {
    /// At most the low mark.
    Relaxed,
    /// It has been above the low mark. `on_drain` is due when it falls to that mark.
    DrainOwed,
    /// More was sent than it may hold, and was dropped: the connection is about to be closed.
    Overflow,
}

/// Whether the read that follows is one of the last two, at a stop: see [`Connection::prepare_last_read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastRead {
    /// The loop is not stopping, or nothing can be read now.
    No,
    /// If it does not empty the socket, a second one follows.
    First,
    Second,
}

/// The least that is read from a connection in one turn, where so much is there and its limits allow it.
const READ_SIZE_MIN: u32 = 2 * 1024;

/// The read size of a connection at a stop.
const READ_SIZE_UNLIMITED: u32 = u32::MAX;

/// The listener of a connection that we opened ourselves.
pub(super) const NO_LISTENER: u32 = u32::MAX;

pub(super) struct Connection<T, S> {
    pub(super) transport: T,
    /// What waits for the rest of its message, or for the outbox to drain. While the connection is
    /// served, the reactor holds it.
    pub(super) inbox: Buffer,
    pub(super) outbox: Buffer,
    /// When bytes last came from the peer.
    pub(super) received_at: Moment,
    /// The start of the wait that [`Connection::deadline`] measures: of opening, stalling, lingering or idling. A partial write
    /// moves it forward by the time that the written bytes buy ([`Limits::stall_bytes_per_s_min`]).
    pub(super) waiting_since: Moment,
    /// Since when the inbox has held the beginning of a message, where it holds one.
    unfinished_since: Moment,
    /// Its name. `None` once it is marked closed: then no name finds it, and it cannot be closed or freed again.
    pub(super) peer: Option<Peer>,
    /// It, and `writing`, are changed by [`Connection::open`], [`Connection::end_writing`] and
    /// [`Connection::mark_closed`], which keep `tally`. (`flush` sets `writing` to `Finished`, which is the same column.)
    pub(super) stage: Stage,
    tally: Tally,
    pub(super) reading: Half,
    pub(super) writing: Half,
    /// What began its end. `None` until something has.
    pub(super) reason: Option<CloseReason>,
    /// The peer's end of file has been read.
    pub(super) peer_finished: bool,
    /// The latches: what events said and no would-block has taken back. After an exceptional one, a
    /// short read is no proof of an empty socket, until a read would block.
    latches: Readiness,
    /// What has been read of this second's bytes ([`Limits::read_bytes_per_s`]).
    pub(super) meter: Meter,
    /// The handler holds the connection, because it is not done with the last message.
    is_held: bool,
    pub(super) pressure: Pressure,
    /// `Some` while the transport holds bytes that the socket did not take (TLS: records); the outbox may be empty then. The
    /// number is [`Transport::passed_on`] at the last look: if it has grown since, the peer has taken something.
    transport_backlog: Option<u64>,
    /// It has been established, and counts no longer as one in its handshake.
    pub(super) established: bool,
    /// It stands in the queue of sources to serve.
    pub(super) queued: bool,
    /// Its share of a turn was spent, and the inbox still holds messages: they come before anything more is read.
    pub(super) unserved: bool,
    /// Bytes to read in one turn: as much as it uses up, between [`READ_SIZE_MIN`] and a block. What is read and not served
    /// takes memory until it is served, so we don't read a whole block from a new connection.
    read_size: u32,
    /// Its deadline has come. It stands in the queue, to be served once more before it is closed for its silence: what it
    /// did may not have been reported yet.
    pub(super) on_last_look: bool,
    /// It stands in the list of outboxes to flush.
    pub(super) flush_is_arranged: bool,
    /// Of its listener; [`NO_LISTENER`] where it has none.
    pub(super) listener: u32,
    /// How far it may go. Shared by all of its listener, and replaced when those are.
    pub(super) limits: Arc<Limits>,
    /// The handler's own.
    pub(super) state: S,
}

impl<T: Transport, S> Connection<T, S> {
    pub(super) fn new(
        transport: T,
        state: S,
        peer: Peer,
        now: Moment,
        listener: u32,
        limits: Arc<Limits>,
        counts: &Arc<Counts>,
    ) -> Self {
        Connection {
            transport,
            inbox: Buffer::default(),
            outbox: Buffer::default(),
            received_at: now,
            waiting_since: now,
            unfinished_since: now,
            peer: Some(peer),
            stage: Stage::Opening,
            tally: Tally::new(counts, Column::Opening),
            reading: Half::Open,
            writing: Half::Open,
            reason: None,
            peer_finished: false,
            latches: Readiness::default(),
            meter: Meter::new(limits.read_bytes_per_s),
            is_held: false,
            pressure: Pressure::Relaxed,
            transport_backlog: None,
            established: false,
            queued: false,
            unserved: false,
            read_size: 2 * READ_SIZE_MIN,
            on_last_look: false,
            flush_is_arranged: false,
            listener,
            limits,
            state,
        }
    }

    /// Bytes can flow.
    pub(super) fn open(&mut self) {
        self.stage = Stage::Open;
        self.established = true;
        self.tally.move_to(self.column());
    }

    /// Lets nothing more into the outbox: when it is empty, our end of file follows. Returns whether that is new.
    pub(super) fn end_writing(&mut self) -> bool {
        let is_new = self.writing == Half::Open;
        if is_new {
            self.writing = Half::Finishing;
            self.tally.move_to(self.column());
        }
        is_new
    }

    /// What began the end is the reason, and not what happened on the way. A failure outweighs a graceful end.
    pub(super) fn note_reason(&mut self, reason: CloseReason) {
        if let None | Some(CloseReason::Finished) = self.reason {
            self.reason = Some(reason);
        }
    }

    /// It is over: no name finds it any more, and it is freed at the end of the turn.
    pub(super) fn mark_closed(&mut self) {
        self.stage = Stage::Closed;
        self.peer = None;
        self.tally.move_to(self.column());
    }

    /// What outlives it. It is counted no longer.
    pub(super) fn into_parts(self) -> (T, S) {
        (self.transport, self.state)
    }

    /// What it is counted as.
    pub(super) fn column(&self) -> Column {
        match (self.stage, self.writing) {
            (Stage::Opening, _) => Column::Opening,
            (Stage::Open, Half::Open) => Column::Open,
            _ => Column::Ending,
        }
    }

    /// An event came: sets the latches.
    #[inline]
    pub(super) fn latch(&mut self, readiness: Readiness) {
        self.latches = self.latches.union(readiness);
    }

    /// Whether bytes may be read for the handler: the latch is set, reading is open, the outbox is at most at its low mark, and
    /// the connection is neither paused nor held, and has no messages left from the last turn.
    #[inline]
    pub(super) fn can_fill(&self) -> bool {
        self.latches.has(Readiness::READABLE)
            && !self.meter.is_paused()
            && !self.is_held
            && self.reading == Half::Open
            && !self.unserved
            && self.outbox.len() <= self.limits.outbox_bytes_low()
    }

    /// The handler is done with reading, yet the socket has something to tell: bytes to be dropped, so
    /// that a full receive buffer doesn't turn our close into RST; the end of file; a reset.
    #[inline]
    pub(super) fn can_discard(&self) -> bool {
        self.latches.has(Readiness::READABLE) && self.reading == Half::Finished
    }

    /// What came may be given to the handler: its replies have somewhere to go.
    #[inline]
    pub(super) fn can_serve(&self) -> bool {
        self.reading != Half::Finished && !self.must_wait()
    }

    /// What came must wait: for the peer to take what it was sent, for the handler, or for the next turn.
    pub(super) fn must_wait(&self) -> bool {
        self.congested() || self.is_held || self.unserved
    }

    /// The handler wants to hear nothing new for now.
    pub(super) fn hold(&mut self) {
        self.is_held = true;
    }

    /// Ends the hold. Returns whether there was one.
    pub(super) fn release(&mut self) -> bool {
        std::mem::take(&mut self.is_held)
    }

    /// An unfinished message waits in the inbox. If it is another one than before (`starts_new`), its time begins now.
    pub(super) fn note_unfinished_message(&mut self, starts_new: bool, now: Moment) {
        if starts_new {
            self.unfinished_since = now;
        }
    }

    /// When the rest of the message that waits must be there: each byte that has come buys time, so that a long one
    /// may take long, and one that trickles in may not.
    fn overdue_at(&self) -> Moment {
        // What waits in the kernel because of our own pause is not late.
        match self.inbox.is_empty() || self.must_wait() || self.meter.is_paused() {
            true => Moment::NEVER,
            false => self.unfinished_since.after(self.limits.message_time(self.inbox.len())),
        }
    }

    /// So much waits for the peer that no more of its messages should be served for now.
    #[inline]
    pub(super) fn congested(&self) -> bool {
        self.outbox.len() >= self.limits.outbox_bytes_high
    }

    /// Both directions are over.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.writing == Half::Finished && self.peer_finished
    }

    /// Reads into `inbox` until would-block, the end of file or the budget; returns how many bytes.
    ///
    /// The budget is also what the outbox has left below its high mark: replies are mostly about as
    /// large as their requests, so a peer that never reads costs us that mark and little more.
    ///
    /// On an error, what was read before it is in the inbox and still counts.
    pub(super) fn fill(
        &mut self,
        inbox: &mut Buffer,
        spares: &mut Spares,
        now: Moment,
    ) -> (usize, io::Result<()>) {
        let limits = &self.limits;
        let budget = limits
            .read_bytes_per_turn
            .min(self.read_size as usize)
            .min(limits.outbox_bytes_high.saturating_sub(self.outbox.len()))
            .min(limits.inbox_bytes_max.saturating_sub(inbox.len()));
        let budget = budget.min(self.meter.allowance(now));
        let (count, outcome) = self.read(inbox, budget, spares, T::read);
        self.meter.spend(count, now);
        (count, outcome)
    }

    /// Ends the pause of its meter, if it is over. Returns whether there may be something to read now.
    pub(super) fn end_pause_if_over(&mut self, now: Moment) -> bool {
        if !self.meter.end_pause_if_over(now) {
            return false;
        }
        self.received_at = now; // the pause held up its bytes, and not the peer
        self.can_fill()
    }

    /// Our reading and writing are both finished. Only the peer's end of file, or `linger_for`, ends the connection.
    pub(super) fn lingers(&self) -> bool {
        self.writing == Half::Finished && self.reading == Half::Finished
    }

    /// It has been served: reads less the next time if its share of the turn was not enough for what it had read, and more if it
    /// was, and more is there.
    pub(super) fn adapt_read_size(&mut self) {
        if self.read_size == READ_SIZE_UNLIMITED {
            // It stays so.
        } else if self.unserved {
            self.read_size = (self.read_size / 2).max(READ_SIZE_MIN);
        } else if self.latches.has(Readiness::READABLE) {
            self.read_size = (self.read_size * 2).min(LARGE_BYTES as u32);
        }
    }

    /// Prepares the read of a connection that is served during a stop. It reads once more, event or not, because the event
    /// may not have fitted in the batch; and as much as the limits allow, because there is no time left to be slow in. If the
    /// first read does not empty the socket, a second one follows in the next turn. If the outbox is too full to read, the read
    /// happens when the outbox has fallen. The same if messages still wait (`some_wait`): the latch remembers the read.
    pub(super) fn prepare_last_read(&mut self, some_wait: bool) -> LastRead {
        if self.reading != Half::Open {
            return LastRead::No;
        }
        self.latch(Readiness::READABLE.union(Readiness::EXCEPTIONAL));
        self.meter.set_rate(None);
        if some_wait || !self.can_fill() {
            return LastRead::No;
        }
        match std::mem::replace(&mut self.read_size, READ_SIZE_UNLIMITED) {
            READ_SIZE_UNLIMITED => LastRead::Second,
            _ => LastRead::First,
        }
    }

    /// Ends the reading behind that read.
    pub(super) fn finish_last_read(&mut self, read: LastRead) {
        match read {
            LastRead::No => {}
            LastRead::First if self.latches.has(Readiness::READABLE) => {}
            LastRead::First | LastRead::Second => self.reading = Half::Finishing,
        }
    }

    /// Sets its limits from now on. Returns whether there may be something to read now that had to wait.
    pub(super) fn set_limits(&mut self, limits: Arc<Limits>) -> bool {
        let paused = self.meter.is_paused();
        self.limits = limits;
        self.meter.set_rate(self.limits.read_bytes_per_s);
        paused && self.can_fill()
    }

    /// When to look at it next: its deadline, or the end of its pause.
    pub(super) fn look_at(&self) -> Moment {
        self.deadline().0.min(self.meter.paused_until())
    }

    /// After a look: returns `look_at`, or `now + idle_after` if that is earlier. If the outbox empties meanwhile, the idle
    /// deadline may come before the deadline for a stall.
    pub(super) fn next_look_at(&self, now: Moment) -> Moment {
        self.look_at().min(now.after(self.limits.idle_after))
    }

    /// Reads and drops, within the same budget. `scratch` is empty before and after.
    #[cold]
    pub(super) fn discard(&mut self, scratch: &mut Buffer, spares: &mut Spares) -> (usize, io::Result<()>) {
        let outcome = self.read(scratch, self.limits.read_bytes_per_turn, spares, T::discard);
        scratch.clear();
        outcome
    }

    fn read(
        &mut self,
        inbox: &mut Buffer,
        budget: usize,
        spares: &mut Spares,
        read: impl Fn(&mut T, &mut [u8]) -> io::Result<usize>,
    ) -> (usize, io::Result<()>) {
        /// With less room than this, it is better to move to a larger block than to read a trickle.
        const ROOM_BYTES_MIN: usize = 4 * 1024;
        let mut left = budget;
        while left > 0 {
            let room = inbox.room(if inbox.is_empty() { LARGE_BYTES } else { ROOM_BYTES_MIN }, spares);
            let asked = room.len().min(left);
            match read(&mut self.transport, &mut room[..asked]) {
                Ok(0) => {
                    self.peer_finished = true;
                    self.latches.clear(Readiness::READABLE);
                    if self.reading == Half::Open {
                        self.reading = Half::Finishing;
                    }
                    break;
                }
                Ok(count) => {
                    inbox.filled(count);
                    left -= count;
                    if count < asked
                        && !self.latches.has(Readiness::EXCEPTIONAL)
                        && self.transport.short_read_means_empty()
                    {
                        self.latches.clear(Readiness::READABLE);
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.latches.clear(Readiness::READABLE.union(Readiness::EXCEPTIONAL));
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Cut off: whole messages before that are served, and what they earned is delivered.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.peer_finished = true;
                    self.latches.clear(Readiness::READABLE);
                    if self.reading == Half::Open {
                        self.reading = Half::Finishing;
                        self.reason = Some(CloseReason::Truncated);
                    }
                    break;
                }
                Err(error) => return (budget - left, Err(error)),
            }
        }
        (budget - left, Ok(()))
    }

    /// Writes the outbox until it is empty or the transport would block, and then, where our direction
    /// is finishing, our end of file. Returns how many bytes the transport took.
    pub(super) fn write_outbox(&mut self, now: Moment, spares: &mut Spares) -> (usize, io::Result<()>) {
        let waiting = self.outbox.len();
        let mut outcome = Ok(());
        while self.latches.has(Readiness::WRITABLE) && !self.outbox.is_empty() {
            match self.transport.write(self.outbox.bytes()) {
                Ok(0) => return (waiting - self.outbox.len(), Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.outbox.consume(count);
                    match self.transport_backlog {
                        Some(_) => {} // the transport has taken it, and not the peer: see `note_transport_backlog`
                        None if self.outbox.is_empty() => self.waiting_since = now,
                        None => self.credit(count, now),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.latches.clear(Readiness::WRITABLE);
                    if self.transport.passed_on() > 0 {
                        self.note_transport_backlog(true, now); // it takes no more before the peer has taken what it holds
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (waiting - self.outbox.len(), Err(error)),
            }
        }
        let count = waiting - self.outbox.len();
        self.outbox.recycle(spares);
        if self.latches.has(Readiness::WRITABLE) && self.outbox.is_empty() && self.writing != Half::Finished {
            outcome = self.flush(now);
        }
        (count, outcome)
    }

    /// A write may get somewhere.
    #[cfg(test)]
    pub(super) fn is_writable(&self) -> bool {
        self.latches.has(Readiness::WRITABLE)
    }

    /// Bytes wait for the peer, here or in the transport.
    #[inline]
    pub(super) fn owes_bytes(&self) -> bool {
        !self.outbox.is_empty() || self.transport_backlog.is_some()
    }

    /// Nothing waits for the peer, and no `on_drain` is due.
    #[inline]
    pub(super) fn is_at_rest(&self) -> bool {
        !self.owes_bytes() && self.pressure == Pressure::Relaxed && self.writing == Half::Open
    }

    /// The peer took `count` bytes of those that wait. Each byte moves the deadline by its part of a second
    /// ([`Limits::stall_bytes_per_s_min`]), so a byte now and then is not enough.
    fn credit(&mut self, count: usize, now: Moment) {
        // The kernel takes many bytes at once, and the peer needs time to read them. So the start of the wait may lie in the
        // future, by `stall_after` at most.
        let credited = self.waiting_since.after(self.limits.taking_time(count));
        self.waiting_since = credited.min(now.after(self.limits.stall_after));
    }

    /// Notes whether the transport holds bytes back, and what the peer has taken of them.
    fn note_transport_backlog(&mut self, holds: bool, now: Moment) {
        if !holds {
            if self.transport_backlog.take().is_some() {
                self.waiting_since = now; // the peer has taken all
            }
            return;
        }
        let passed_on = self.transport.passed_on();
        if let Some(before) = self.transport_backlog.replace(passed_on) {
            self.credit(passed_on.saturating_sub(before) as usize, now);
        }
    }

    /// Writes what the transport itself still holds, and behind it our end of file.
    fn flush(&mut self, now: Moment) -> io::Result<()> {
        let finishing = self.writing == Half::Finishing;
        loop {
            let flushed = self.transport.flush();
            self.note_transport_backlog(flushed.is_err(), now);
            match flushed
                .and_then(|()| if finishing { self.transport.finish(self.peer_finished) } else { Ok(()) })
            {
                Ok(()) if finishing => {
                    self.writing = Half::Finished;
                    self.waiting_since = now; // lingering begins
                }
                Ok(()) => {}
                // The peer went altogether between its end of file and ours: then it is over, too.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    self.writing = Half::Finished;
                    self.peer_finished = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.latches.clear(Readiness::WRITABLE)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }

    /// When the connection will have waited long enough, and for what. Worked out from the stored
    /// times, so that the hot path only has to store them.
    pub(super) fn deadline(&self) -> (Moment, CloseReason) {
        let limits = &self.limits;
        if self.stage == Stage::Opening {
            // Absolute: bytes don't extend it, or a byte every second would hold the slot for good.
            (self.waiting_since.after(limits.handshake_within), CloseReason::HandshakeTimeout)
        } else if self.lingers() {
            // Absolute as well, from when our FIN went out.
            let reason = match self.reason {
                None | Some(CloseReason::Finished) => CloseReason::Lingered,
                Some(reason) => reason,
            };
            (self.waiting_since.after(limits.linger_for), reason)
        } else if self.owes_bytes() || self.writing == Half::Finishing {
            (self.waiting_since.after(limits.stall_after), CloseReason::Stalled)
        } else {
            // A paused connection is not idle.
            let mut moved_at = self.received_at.max(self.waiting_since);
            if self.meter.is_paused() {
                moved_at = moved_at.max(self.meter.paused_until());
            }
            let (idle_at, overdue_at) = (moved_at.after(limits.idle_after), self.overdue_at());
            match overdue_at < idle_at {
                true => (overdue_at, CloseReason::MessageTimeout),
                false => (idle_at, CloseReason::Idle),
            }
        }
    }
}
