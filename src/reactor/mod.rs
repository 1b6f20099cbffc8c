//! The event loop: one thread, one `mio::Poll`, every socket a line on the board.
//!
//! Start at [`Reactor::turn`]: it is the loop, as a list. Then read `serve_connection`, which is the way
//! of one byte; then [`Board`], which is what a handler may do about it. The files in reading order:
//!
//! - `handler`: what is below ([`Transport`]) and above ([`Handler`]), and the [`Limits`];
//! - `board`: connections, work queues, the verbs;
//! - `connection`: one connection, its latches and its two halves;
//! - `listener`, `datagram`: the other sources;
//! - `buffer`, `pace`, `timers`, `token`, `descriptors`, `tally`: the parts.
//!
//! What the loop promises, whatever peers do:
//!
//! - It sleeps only when there is nothing to do. Readiness is edge-triggered and remembered in latches;
//!   work that needs no event (a budget that ran out, an outbox that drained) stands in a queue.
//! - Each source gets a bounded amount of work per turn, so a flooder costs a whisperer one budget.
//! - Many outboxes are written in slices, between which others are served (`flush`).
//! - A timer that comes due in a long turn does not wait for the turn's end (`keep_time`).
//! - No error of a connection, a listener or a datagram ends it: only the poll itself can.
//! - Memory is bounded by [`Limits`], and an idle connection owns no buffers.
//!
//! Knows mio, slab and log; knows nothing of protocols, services, signals or the command line.
//!
//! The design hoped for 600 lines in all. This file, which is the loop, has some 850; what the
//! promises, the buffers, datagrams, outgoing connections and the drain take comes to some 2,400 with
//! comments. Each part has a file of its own, and can be taken on trust at first.

mod board;
mod buffer;
mod connection;
mod datagram;
mod descriptors;
#[cfg(test)]
mod endings_tests;
mod handler;
mod listener;
mod pace;
mod tally;
#[cfg(test)]
mod tests;
mod timers;
mod token;

pub use board::{Board, Counters, Outbox};
pub use buffer::{Buffer, Spares};
pub use connection::Readiness;
pub use datagram::{DatagramSocket, Route};
pub use descriptors::Descriptor;
pub use handler::{BoardOf, CloseReason, Handler, Limits, Transport};
pub use timers::{Clock, Moment};
pub use token::Peer;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use board::{KEPT_ENTRIES, lookup};
use connection::{Connection, Half, NO_LISTENER, Pressure, Stage};
use datagram::Datagrams;
use listener::{Hold, Listener, resume};
use token::Source;

/// Events taken from the kernel in one turn. More than that wait there, in their order: so a turn stays short where
/// thousands of peers do something at once, such as to reset their connections.
const EVENTS_PER_TURN: usize = 1024;

/// After this many sources have been served, or outboxes written, the clock is looked at: a timer may be due, or the turn's
/// time over.
const CLOCK_EVERY: usize = 4;

/// After as many closed connections have been freed, the clock is looked at: closing a socket takes microseconds, and
/// thousands of peers can go at once.
const CLOCK_EVERY_CLOSED: usize = 64;

/// A slice of a batch of outboxes ends after this many writes, or after this time, whichever comes first: half a
/// millisecond is what 64 to 128 short writes take. At most two slices are written in a turn.
const SLICE_WRITES: usize = 64;
const SLICE_TIME: Duration = Duration::from_micros(500);

/// The poll counts milliseconds in an `i32`, and takes what is longer for something else. Waking up once
/// a day for nothing costs nothing.
const SLEEP_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The event loop, with its handler. See the module's text.
pub struct Reactor<H: Handler> {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    handler: H,
    board: BoardOf<H>,
    listeners: Vec<Listener<<H::Transport as Transport>::Listener>>,
    /// The inbox of the connection that is being served: one block that stays warm in the cache. A connection has an inbox of
    /// its own only while an unfinished message waits in it. Empty between two of them.
    inbox: Buffer,
    /// Memory for lists of the next turn, so that a turn allocates nothing. Empty.
    spare_peers: Vec<Peer>,
    /// See `spare_peers`.
    spare_keys: Vec<u128>,
    /// What earlier turns left of their batches of outboxes. One slice of each is written in turn, so that a small batch does
    /// not wait for the end of a large one.
    unwritten: VecDeque<VecDeque<Peer>>,
    /// When this turn began.
    began: Moment,
    /// When the last turn ended. The time between two turns is `Turn::waited`.
    ended: Moment,
    /// The bytes in and out of earlier turns.
    accounted: (u64, u64),
    signalled: bool,
}

/// What one turn did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Events that the kernel reported.
    pub events: usize,
    /// Bytes received, and sent, in this turn.
    pub bytes_in: u64,
    /// See `bytes_in`.
    pub bytes_out: u64,
    /// Time from the end of the last turn to the return of the poll.
    pub waited: Duration,
    /// Time from there to the end of this turn.
    pub worked: Duration,
    /// The source given to [`Reactor::watch_signals`] is readable.
    pub signalled: bool,
}

impl<H: Handler> Reactor<H> {
    /// A loop that watches nothing yet.
    ///
    /// # Errors
    /// Where the system has no descriptor left for the poll.
    pub fn new(handler: H, limits: Limits) -> io::Result<Self> {
        Reactor::with_clock(handler, limits, Clock::machine())
    }

    /// The same, by another clock: see [`Clock::told`].
    ///
    /// # Errors
    /// Where the system has no descriptor left for the poll.
    pub fn with_clock(handler: H, limits: Limits, clock: Clock) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Source::Waker.token())?);
        let board = Board::new(poll.registry().try_clone()?, limits, clock);
        Ok(Reactor {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            waker,
            handler,
            board,
            listeners: Vec::new(),
            inbox: Buffer::default(),
            spare_peers: Vec::new(),
            spare_keys: Vec::new(),
            unwritten: VecDeque::new(),
            began: Moment::default(),
            ended: Moment::default(),
            accounted: (0, 0),
            signalled: false,
        })
    }

    /// Replaces the reactor's own limits: those of a turn, of the number of connections in all, and of whoever
    /// has no others.
    pub fn set_limits(&mut self, limits: Limits) {
        let limits = Limits::checked(limits);
        self.board.set_limits_of(NO_LISTENER, &limits);
        self.board.limits = limits;
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            resume(&mut self.board, index, listener); // there may be room for more now
        }
    }

    /// Watches a datagram socket; returns its index, which [`Handler::on_datagram`] gets. An index is never used again.
    ///
    /// # Errors
    /// Where the poll refuses it.
    pub fn listen_datagrams(
        &mut self,
        socket: impl Into<<H::Transport as Transport>::Datagrams>,
    ) -> io::Result<usize> {
        let mut socket = socket.into();
        let index = self.board.datagrams.next_index();
        let token = Source::Datagram(index as u32).token();
        self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
        self.board.datagrams.put(Datagrams::new(socket));
        Ok(index)
    }

    /// Watches a source of signals; [`Turn::signalled`] says when it is readable.
    ///
    /// # Errors
    /// Where the poll refuses it.
    pub fn watch_signals(&mut self, signals: &mut impl mio::event::Source) -> io::Result<()> {
        self.poll.registry().register(signals, Source::Signals.token(), Interest::READABLE)
    }

    /// Wakes the loop from another thread: [`Handler::on_wake`] is called in the next turn.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Turns until the poll fails.
    ///
    /// # Errors
    /// Only those of the poll itself.
    pub fn run(&mut self) -> io::Result<()> {
        loop {
            self.turn(None)?;
        }
    }

    /// One pass of the loop: waits for at most `timeout` (`None`: without a limit), and does what there is to do, each source
    /// within its budget.
    ///
    /// # Errors
    /// Those of the poll.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        self.wait(timeout)?;
        self.board.has_clock = true;
        self.begin(self.clock());
        // The batch is lifted out so that it can be read while the board is written.
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        let count = self.note(events.iter().map(|event| (event.token(), Readiness::from(event))));
        self.events = events;
        Ok(self.go_through(count))
    }

    /// A turn without the kernel: the caller says what time it is, and what a poll would report, by the tokens with which the
    /// sources were registered (a [`Peer`] is one, too). This is how the loop is tested, simulated and measured over the
    /// scripted wire, and stepped by another loop.
    ///
    /// By the machine's clock it is `now` for the whole turn, and nothing is late. By a clock that is [told](Clock::told) the time
    /// goes on in the turn, and whatever a turn puts off it puts off here.
    pub fn turn_with(&mut self, now: Moment, ready: &[(Token, Readiness)]) -> Turn {
        self.board.has_clock = self.board.clock.is_told();
        self.begin(self.board.now.max(now));
        let count = self.note(ready.iter().copied());
        self.go_through(count)
    }

    fn begin(&mut self, now: Moment) {
        self.board.now = now;
        self.began = now;
    }

    /// The phases of a turn, after the events have been noted.
    fn go_through(&mut self, events: usize) -> Turn {
        self.serve();
        self.expire();
        self.fire();
        self.flush();
        self.reap();
        self.account(events)
    }

    fn account(&mut self, events: usize) -> Turn {
        let board = &mut self.board;
        board.handshakes_left = board.limits.handshakes_per_turn;
        board.handshake_time_left = board.limits.handshake_time_per_turn;
        let (began, ended) = (self.began, board.clock.now().max(board.now));
        let turn = Turn {
            events,
            bytes_in: board.counters.bytes_in - mem::replace(&mut self.accounted.0, board.counters.bytes_in),
            bytes_out: board.counters.bytes_out
                - mem::replace(&mut self.accounted.1, board.counters.bytes_out),
            waited: began.since(self.ended),
            worked: ended.since(began),
            signalled: mem::take(&mut self.signalled),
        };
        board.counters.count_turn(events, ended.ns_since(began));
        self.ended = ended;
        turn
    }

    /// Sleeps until something happens or is due.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = self.timeout(timeout);
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            outcome => outcome,
        }
    }

    /// How long the poll may sleep: not at all while work is queued.
    fn timeout(&self, asked: Option<Duration>) -> Option<Duration> {
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        let sleep = match self.next_due() {
            Moment::NEVER => asked?,
            next => asked.unwrap_or(SLEEP_MAX).min(next.since(self.ended)),
        };
        Some(sleep.min(SLEEP_MAX))
    }

    /// Whether something waits for the next turn, event or not: then that one does not sleep.
    pub fn has_work(&self) -> bool {
        let board = &self.board;
        let is_idle = board.queue.is_empty() && board.touched.is_empty() && board.closed.is_empty();
        !(is_idle && board.backlog.is_empty() && board.soon.is_empty() && self.unwritten.is_empty())
    }

    /// When a timer, a deadline or a listener's rest is over next: until then the loop sleeps, if it has no
    /// [work](Reactor::has_work) and no event. [`Moment::NEVER`]: it waits for events alone.
    pub fn next_due(&self) -> Moment {
        let mut next = self.board.deadlines.next().min(self.board.timers.next());
        for listener in &self.listeners {
            if let Hold::Starved(until) = listener.hold {
                next = next.min(until);
            }
        }
        next
    }

    fn clock(&self) -> Moment {
        self.board.clock.now()
    }

    /// Notes what the events report, and queues each source, once. Nothing is served yet.
    fn note(&mut self, events: impl Iterator<Item = (Token, Readiness)>) -> usize {
        let mut count = 0;
        for (token, readiness) in events {
            count += 1;
            match Source::from_token(token) {
                Source::Connection(peer) => {
                    // An event of the slot's former connection has another generation, and finds nothing.
                    if let Some(connection) = self.board.get_mut(peer) {
                        connection.latch(readiness);
                        self.board.enqueue(peer);
                    }
                }
                Source::Listener(index) => {
                    if let Some(listener) = self.listeners.get_mut(index as usize) {
                        listener.readable = true;
                        self.board.enqueue_listener(index as usize, listener);
                    }
                }
                Source::Datagram(index) => {
                    if let Some(socket) = self.board.datagrams.get_mut(index as usize) {
                        socket.readable = true;
                        self.board.enqueue_datagrams(index as usize);
                    }
                }
                Source::Waker => self.board.queue.push_back(token),
                Source::Signals => self.signalled = true,
            }
        }
        count
    }

    /// Serves each source in the queue once, within its budget, and then those in the backlog. Sources that are queued
    /// meanwhile are served in the next turn.
    ///
    /// When the turn's time is over, the rest waits for the next turn, in its order and before newer entries. A few sources
    /// of each list are served in any case, so both always move on.
    fn serve(&mut self) {
        let (queued, waiting) = (self.board.queue.len(), self.board.backlog.len());
        self.serve_from(|board| &mut board.queue, queued);
        self.serve_from(|board| &mut board.backlog, waiting);
    }

    /// Serves the first `count` sources of this list, or fewer, when the time is over.
    fn serve_from(&mut self, list: fn(&mut BoardOf<H>) -> &mut VecDeque<Token>, count: usize) {
        if count == 0 {
            return;
        }
        // Where the queue alone took longer than a turn should, the backlog still gets half as much time.
        let time = self.clock();
        let ends = self.began.after(self.board.limits.serve_time_per_turn);
        let ends = ends.max(time.after(time.since(self.began) / 2));
        for served in 0..count {
            if served % CLOCK_EVERY == CLOCK_EVERY - 1 && self.board.has_clock && self.clock() >= ends {
                return;
            }
            self.keep_time(served);
            let Some(token) = list(&mut self.board).pop_front() else { return };
            match Source::from_token(token) {
                Source::Connection(peer) => {
                    self.serve_connection(peer);
                    end_last_look(&mut self.handler, &mut self.board, peer);
                }
                Source::Listener(index) => self.accept(index as usize),
                Source::Datagram(index) => self.serve_datagrams(index as usize),
                Source::Waker => self.handler.on_wake(&mut self.board),
                Source::Signals => {}
            }
        }
    }

    /// The way of one byte: from the socket to the inbox, to the handler, to the outbox, to the socket. All connections go
    /// this way, whatever was the cause.
    ///
    /// The reply is written here and not in the flush phase: the buffers are still in the cache, and are free again before the
    /// next connection needs some. With 16 connections that echo 64 KiB, one warm block is in use instead of 16 cold ones.
    /// What others are sent (a broadcast) waits for the flush phase, so that each gets one write per turn.
    fn serve_connection(&mut self, peer: Peer) {
        let Reactor { board, handler, listeners, inbox, .. } = self;
        let Some(connection) = lookup(&mut board.connections, peer) else { return };
        connection.queued = false;
        if connection.stage == Stage::Opening {
            step_handshake(handler, board, listeners, peer);
        }
        let Some(mut connection) = lookup(&mut board.connections, peer) else { return };
        if connection.stage == Stage::Opening {
            return;
        }
        board.share.renew();
        // Messages that waited for this turn come before anything more is read.
        let goes_on = mem::take(&mut connection.unserved);

        // At a stop every connection is read once more, event or not: its event may not have fitted in the batch. (Twice,
        // where one read does not empty its socket.) One that may not be read now, because too much waits for its peer, is
        // read when that has gone out.
        let (mut last_call, mut once_more) = (board.draining && connection.reading == Half::Open, false);
        if last_call {
            connection.latch(Readiness::READABLE.union(Readiness::EXCEPTIONAL));
            connection.stop_metering();
            last_call = connection.can_fill() && !goes_on;
            once_more = last_call && connection.read_at_full_budget();
        }

        // From the socket to the inbox.
        let mut is_new = connection.inbox.is_empty();
        inbox.take_from(&mut connection.inbox, &mut board.spares);
        let mut outcome = Ok(());
        if goes_on {
            // See above.
        } else if connection.can_fill() {
            let (count, filled) = connection.fill(inbox, &mut board.spares, board.now);
            if count > 0 {
                connection.heard_at = board.now;
                board.counters.bytes_in += count as u64;
            }
            outcome = filled;
        } else if connection.can_discard() {
            let (count, discarded) = connection.discard(inbox, &mut board.spares);
            board.counters.bytes_in += count as u64;
            outcome = discarded;
        }
        if last_call && !(once_more && connection.is_readable()) {
            connection.reading = Half::Finishing;
        }

        // To the handler. After a callback, which may have closed this very connection, it is looked up again. Its slot
        // stays: only `reap` frees slots.
        if !inbox.is_empty() && connection.can_serve() {
            connection.touched = true; // its own replies are written below, and not in the flush phase
            let waited = inbox.len();
            handler.on_bytes(board, peer, inbox);
            is_new |= inbox.len() < waited;
            board.connections[peer.slot as usize].touched = false;
        }
        connection = &mut board.connections[peer.slot as usize];
        connection.unserved = mem::take(&mut board.share.is_spent) && !inbox.is_empty();
        connection.adjust_appetite();

        // The end of reading.
        let served = connection.stage == Stage::Open && !connection.is_held_up();
        if served && connection.reading == Half::Finishing {
            finish_reading(handler, board, peer, inbox);
            connection = &mut board.connections[peer.slot as usize];
        }

        // What the handler left, and its replies.
        if !inbox.is_empty() {
            put_back(inbox, connection, &mut board.spares);
            connection.wait_for_the_rest(is_new, board.now);
        }
        inbox.reset(&mut board.spares);
        if connection.stage == Stage::Closed {
            return;
        }
        let (count, drained) = connection.drain(board.now, &mut board.spares);
        board.counters.bytes_out += count as u64;
        // The error of the read comes last: what was read before it has been served like all else.
        reschedule(handler, board, peer, drained.and(outcome));
    }

    /// Looks at the connections whose deadline may have come, and at listeners that paused because the system had no
    /// descriptor left. At most `timers_per_turn` of the connections: the others are due in the next turn as well.
    fn expire(&mut self) {
        let Reactor { board, handler, listeners, .. } = self;
        let now = board.now;
        for _ in 0..board.limits.timers_per_turn {
            let Some(slot) = board.deadlines.pop(now) else { break };
            // The entry is the slot's. Its connection may be gone, or be closed and wait for `reap`.
            if let Some(peer) = board.connections.get(slot as usize).and_then(|connection| connection.peer) {
                expire_connection(handler, board, peer);
            }
        }
        for (index, listener) in listeners.iter_mut().enumerate() {
            if matches!(listener.hold, Hold::Starved(until) if until <= now) {
                resume(board, index, listener);
            }
        }
    }

    /// Calls `on_timer` for timers that are due, at most `timers_per_turn`, and for those that were set without a delay. These
    /// come last: they are for everything that happened in the turn. Those set meanwhile wait for the next turn.
    fn fire(&mut self) {
        let now = self.board.now;
        for _ in 0..self.board.limits.timers_per_turn {
            let Some((_, key)) = self.board.timers.pop(now) else { break };
            self.handler.on_timer(&mut self.board, key);
        }
        let mut keys = mem::take(&mut self.spare_keys);
        mem::swap(&mut keys, &mut self.board.soon);
        for key in keys.drain(..) {
            self.handler.on_timer(&mut self.board, key);
        }
        self.spare_keys = keys;
    }

    /// Writes everything that waits to be written now, and not in the next turns: for the loop's owner, between two turns.
    pub fn write_all_now(&mut self) {
        while let Some(batch) = self.unwritten.pop_front() {
            batch.into_iter().for_each(|peer| self.write_out(peer));
        }
        let mut fresh = mem::take(&mut self.spare_peers);
        mem::swap(&mut fresh, &mut self.board.touched);
        fresh.drain(..).for_each(|peer| self.write_out(peer));
        self.spare_peers = fresh; // its memory serves again
    }

    /// Writes what handlers sent to others than the one they served.
    ///
    /// The outboxes that were filled since the last flush are a batch. One slice of it is written, and one slice of what
    /// earlier batches left; the rest goes on in the next turn, behind the events. So 9,000 members of a room who
    /// are sent something hold up another connection for a millisecond, and not for the 50 that all their writes take. No
    /// byte overtakes another: what a member is sent meanwhile stands in the same outbox, behind.
    fn flush(&mut self) {
        if self.board.touched.is_empty() && self.unwritten.is_empty() {
            return;
        }
        let mut fresh = mem::take(&mut self.spare_peers);
        mem::swap(&mut fresh, &mut self.board.touched);
        let older = self.unwritten.pop_front();
        let mut fresh = VecDeque::from(fresh);
        self.write_slice(&mut fresh);
        match fresh.is_empty() {
            true => self.spare_peers = fresh.into(), // its memory serves again
            false => self.unwritten.push_back(fresh),
        }
        if let Some(mut older) = older {
            self.write_slice(&mut older);
            if !older.is_empty() {
                self.unwritten.push_back(older);
            }
        }
    }

    /// Writes the first outboxes of the batch, up to the end of the slice.
    fn write_slice(&mut self, batch: &mut VecDeque<Peer>) {
        // A turn that is told the time has no clock to look at: there, the writes alone are counted.
        let ends = if self.board.has_clock && batch.len() > CLOCK_EVERY {
            self.clock().after(SLICE_TIME)
        } else {
            Moment::NEVER
        };
        for written in 0..SLICE_WRITES {
            let Some(peer) = batch.pop_front() else { return };
            self.keep_time(written);
            self.write_out(peer);
            if written % CLOCK_EVERY == CLOCK_EVERY - 1 && ends != Moment::NEVER && self.clock() >= ends {
                return;
            }
        }
    }

    fn write_out(&mut self, peer: Peer) {
        let Reactor { board, handler, .. } = self;
        let Some(connection) = lookup(&mut board.connections, peer) else { return };
        connection.touched = false;
        if connection.stage == Stage::Opening {
            return; // it is written when bytes can flow
        }
        let (count, outcome) = connection.drain(board.now, &mut board.spares);
        board.counters.bytes_out += count as u64;
        if outcome.is_err() || !connection.is_at_rest() {
            reschedule(handler, board, peer, outcome);
        }
    }

    /// Calls back who asked for a time that has come in the middle of the turn, and writes what is sent there. A turn can
    /// take long, as where a room of thousands is told something; a world that ticks is not to wait for the end of it.
    /// (Beside a thousand members who were told 200 messages a second, 200 players had their ticks 5 ms late at the 99th
    /// percentile, and 1 ms so: `cargo bench --bench relay`.)
    #[cold]
    #[inline(never)]
    fn keep_time(&mut self, done: usize) {
        if done % CLOCK_EVERY != CLOCK_EVERY - 1 || !self.board.has_clock {
            return;
        }
        let now = self.clock();
        if self.board.timers.next() > now {
            return;
        }
        // Whoever sets the next one counts from here, and not from the turn's beginning: it would be due at once.
        self.board.now = now;
        // Other writes wait.
        let others = mem::take(&mut self.board.touched);
        for _ in 0..self.board.limits.timers_per_turn {
            let Some((_, key)) = self.board.timers.pop(now) else { break };
            self.handler.on_timer(&mut self.board, key);
        }
        let mut touched = VecDeque::from(mem::replace(&mut self.board.touched, others));
        for _ in 0..SLICE_WRITES.min(touched.len()) {
            touched.pop_front().into_iter().for_each(|peer| self.write_out(peer));
        }
        if !touched.is_empty() {
            self.unwritten.push_back(touched);
        }
        datagram::flush_all(&mut self.board);
    }

    /// Frees what was marked closed. From here on its slot may be used again. Where thousands went at once, it takes
    /// several turns.
    #[inline(never)]
    fn reap(&mut self) {
        if self.board.descriptors.were_returned() {
            self.resume_listeners();
        }
        if self.board.closed.is_empty() {
            return;
        }
        let ends = self.clock().after(self.board.limits.serve_time_per_turn);
        let Reactor { board, handler, listeners, .. } = self;
        let mut peers = mem::take(&mut self.spare_peers);
        mem::swap(&mut peers, &mut board.closed);
        let mut freed = 0;
        for peer in &peers {
            let is_late = || board.clock.now() >= ends;
            if freed % CLOCK_EVERY_CLOSED == CLOCK_EVERY_CLOSED - 1 && board.has_clock && is_late() {
                break;
            }
            freed += 1;
            let mut connection = board.connections.remove(peer.slot as usize);
            for buffer in [&mut connection.inbox, &mut connection.outbox] {
                buffer.clear();
                buffer.recycle(&mut board.spares);
            }
            board.counters.closed[connection.reason.row()] += 1;
            if let Some(listener) = listeners.get_mut(connection.listener as usize) {
                listener.connections -= 1;
                listener.handshakes -= usize::from(!connection.established);
            }
            let reason = connection.reason;
            let (transport, state) = connection.into_parts();
            // Closing takes the descriptor out of the poll: no deregistration, one syscall less.
            drop(transport);
            handler.on_close(board, *peer, state, reason);
        }
        peers.drain(..freed);
        board.closed.splice(..0, peers.drain(..)); // the rest comes first in the next turn
        if board.shrink() {
            peers.shrink_to(KEPT_ENTRIES);
        }
        self.spare_peers = peers;
        self.resume_listeners();
    }

    /// There may be a place or a descriptor for which a listener waits.
    fn resume_listeners(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.hold != Hold::No {
                resume(&mut self.board, index, listener);
            }
        }
    }

    /// Begins the end: listeners close; every connection is served what has arrived from it by now (up
    /// to one budget), its outbox is delivered, and it is finished. Turn on until
    /// [`Board::connections`] is 0.
    ///
    /// What waits in the listeners' backlogs is accepted first: those peers have been told that they
    /// are connected.
    pub fn drain(&mut self) {
        if self.board.draining {
            return;
        }
        self.board.draining = true;
        for index in 0..self.listeners.len() {
            self.unlisten(index, false);
        }
        let peers: Vec<Peer> =
            self.board.connections.iter().filter_map(|(_, connection)| connection.peer).collect();
        peers.into_iter().for_each(|peer| self.board.enqueue(peer));
    }

    /// Closes every connection now.
    pub fn cut(&mut self) {
        let peers: Vec<Peer> =
            self.board.connections.iter().filter_map(|(_, connection)| connection.peer).collect();
        for peer in peers {
            if let Some(connection) = self.board.get_mut(peer) {
                connection.reason = CloseReason::Cut; // whatever had begun, this is how it ends
            }
            self.board.close_because(peer, CloseReason::Cut);
        }
        while !self.board.closed.is_empty() {
            self.reap();
        }
    }

    /// What a handler may do, for whoever owns the loop.
    pub fn board(&mut self) -> &mut BoardOf<H> {
        &mut self.board
    }

    /// The handler with the board that it is lent, for whoever acts for it between two turns.
    pub fn handler_and_board(&mut self) -> (&mut H, &mut BoardOf<H>) {
        (&mut self.handler, &mut self.board)
    }

    /// The handler.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }
}

/// Takes a new connection a step towards being open. A handshake takes computing, so those have a budget for each turn.
fn step_handshake<H: Handler>(
    handler: &mut H,
    board: &mut BoardOf<H>,
    listeners: &mut [Listener<<H::Transport as Transport>::Listener>],
    peer: Peer,
) {
    let Some(connection) = lookup(&mut board.connections, peer) else { return };
    if !connection.transport.has_handshake() {
        return establish(handler, board, listeners, peer);
    }
    if board.handshakes_left == 0 {
        return board.enqueue(peer);
    }
    board.handshakes_left -= 1;
    let began = board.has_clock.then(|| board.clock());
    establish(handler, board, listeners, peer);
    if let Some(began) = began {
        let left = board.handshake_time_left.saturating_sub(board.clock().since(began));
        board.handshake_time_left = left;
        if left.is_zero() {
            board.handshakes_left = 0;
        }
    }
}

/// Everything that arrived before the peer's end of file, or before a stop, has been served: tells the handler.
fn finish_reading<H: Handler>(handler: &mut H, board: &mut BoardOf<H>, peer: Peer, inbox: &mut Buffer) {
    let connection = &mut board.connections[peer.slot as usize];
    connection.reading = Half::Finished;
    if !board.draining {
        return match connection.reason {
            CloseReason::Truncated => board.finish_because(peer, CloseReason::Truncated), // the rest is no message
            _ => handler.on_finish(board, peer, inbox),
        };
    }
    if connection.peer_finished && connection.reason != CloseReason::Truncated {
        handler.on_finish(board, peer, inbox); // what is left may be its last message
    }
    if board.get(peer).is_none_or(|connection| connection.writing != Half::Open) {
        return; // it is ending already
    }
    if !handler.on_stop(board, peer) {
        let connection = &mut board.connections[peer.slot as usize];
        match connection.peer_finished {
            true => board.finish_because(peer, CloseReason::Drained),
            false => connection.reading = Half::Open,
        }
    }
}

/// Asks a new connection whether bytes can flow, and tells the handler when they can.
#[inline(never)]
fn establish<H: Handler>(
    handler: &mut H,
    board: &mut BoardOf<H>,
    listeners: &mut [Listener<<H::Transport as Transport>::Listener>],
    peer: Peer,
) {
    let Some(connection) = lookup(&mut board.connections, peer) else { return };
    let introduced = match connection.transport.introduce().transpose() {
        None => Ok(()),
        Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        Some(introduction) => {
            let heard = introduction.as_ref();
            if !handler.on_introduced(&mut connection.state, heard, board.now) {
                return board.close_because(peer, CloseReason::Refused);
            }
            introduction.map(drop)
        }
    };
    match introduced.and_then(|()| connection.transport.establish()) {
        Ok(()) => {
            connection.open();
            if connection.transport.has_handshake() {
                // It may have read on, into the first message: bytes that it holds raise no event, and the one that
                // told of them is dropped where they had left the socket before the poll looked.
                connection.latch(Readiness::READABLE);
            }
            connection.heard_at = board.now;
            let ((at, _), index) = (connection.deadline(), connection.listener as usize);
            board.deadlines.arm(peer.slot, at);
            if let Some(listener) = listeners.get_mut(index) {
                listener.handshakes -= 1;
                if listener.hold == Hold::Handshakes {
                    resume(board, index, listener);
                }
            }
            handler.on_open(board, peer);
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && !board.draining => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            board.close_because(peer, CloseReason::Drained);
        }
        Err(error) => board.close_because(peer, CloseReason::Unestablished(error.kind())),
    }
}

/// The connection's entry among the deadlines has come up: its deadline may have come, or its pause may be over.
#[inline(never)]
fn expire_connection<H: Handler>(handler: &mut H, board: &mut BoardOf<H>, peer: Peer) {
    let now = board.now;
    let Some(connection) = lookup(&mut board.connections, peer) else { return };
    // First: what came during a pause that is over was not late.
    if connection.resume(now) {
        board.enqueue(peer);
    }
    let Some(connection) = lookup(&mut board.connections, peer) else { return };
    if connection.deadline().0 > now {
        return board.deadlines.arm(peer.slot, connection.next_look_at(now));
    }
    if connection.lingers() {
        return end_overdue(handler, board, peer);
    }
    // After a gap in time (a process that was stopped, a machine that was paused, a long turn) the events of what came
    // meanwhile may still be on their way. So a connection is closed for its silence only when a read and a write,
    // tried after its deadline, have shown that it is silent: see `end_last_look`.
    connection.on_last_look = true;
    connection.latch(Readiness::READABLE.union(Readiness::WRITABLE).union(Readiness::EXCEPTIONAL));
    board.enqueue(peer);
}

/// Decides about a connection that has just been served because its deadline had come. It must be here, directly after
/// the read and the write: a turn later more could have arrived.
fn end_last_look<H: Handler>(handler: &mut H, board: &mut BoardOf<H>, peer: Peer) {
    let Some(connection) = lookup(&mut board.connections, peer) else { return };
    if !connection.on_last_look || connection.queued {
        return;
    }
    connection.on_last_look = false;
    if connection.deadline().0 > board.now {
        return board.deadlines.arm(peer.slot, connection.next_look_at(board.now));
    }
    end_overdue(handler, board, peer);
}

/// The deadline has passed, and nothing came: ends the connection or its message, unless the handler wants it to stay.
fn end_overdue<H: Handler>(handler: &mut H, board: &mut BoardOf<H>, peer: Peer) {
    let now = board.now;
    let Some(connection) = lookup(&mut board.connections, peer) else { return };
    match connection.deadline().1 {
        CloseReason::MessageTimeout if connection.reading == Half::Open => {
            connection.inbox.clear();
            connection.inbox.recycle(&mut board.spares);
            handler.on_overdue(board, peer); // it ends, and is written to in the flush phase
        }
        CloseReason::Idle => {
            if !handler.on_idle(board, peer) {
                return board.close_because(peer, CloseReason::Idle);
            }
            // It has as long again: from now, and not from when the question is delivered, which changes nothing.
            if let Some(connection) = board.get_mut(peer) {
                connection.took_at = now;
            }
        }
        reason => return board.close_because(peer, reason),
    }
    if let Some(connection) = lookup(&mut board.connections, peer) {
        board.deadlines.arm(peer.slot, connection.next_look_at(now));
    }
}

/// What the handler left stays with the connection: the beginning of a message, or messages that must
/// wait for the outbox to drain.
#[inline(never)]
fn put_back<T: Transport, S>(inbox: &mut Buffer, connection: &mut Connection<T, S>, spares: &mut Spares) {
    if connection.reading == Half::Finished || connection.stage == Stage::Closed {
        return; // nobody will ask for it
    }
    connection.inbox.take_from(inbox, spares);
    if connection.inbox.len() >= connection.limits.inbox_bytes_max && !connection.is_held_up() {
        // More can't be read, and what is there is no message: its handler should have said so.
        connection.reason = CloseReason::InboxFull;
        connection.reading = Half::Finished;
        connection.inbox.clear();
        connection.inbox.recycle(spares);
        connection.end_writing();
    }
}

/// Decides what comes next for a connection that has been served or written to: its end, a deadline, or another turn. If its
/// outbox has drained, the handler is told, and what it then sends is written at once, while it is warm in the cache: a file
/// that is sent in slices needs one block of memory, and not one for each connection.
#[inline(never)]
fn reschedule<H: Handler>(handler: &mut H, board: &mut BoardOf<H>, peer: Peer, outcome: io::Result<()>) {
    if !schedule(board, peer, outcome) {
        return;
    }
    let connection = &mut board.connections[peer.slot as usize];
    connection.pressure = Pressure::Low;
    connection.touched = true;
    handler.on_drain(board, peer);
    let connection = &mut board.connections[peer.slot as usize]; // only `reap` frees slots
    connection.touched = false;
    if connection.stage == Stage::Closed {
        return;
    }
    let (count, outcome) = connection.drain(board.now, &mut board.spares);
    board.counters.bytes_out += count as u64;
    if schedule(board, peer, outcome) {
        board.enqueue_behind(peer); // it may send more in the next turn
    }
}

/// The same without the handler. Returns whether `on_drain` is due.
fn schedule<T: Transport, S>(board: &mut Board<T, S>, peer: Peer, outcome: io::Result<()>) -> bool {
    let Some(connection) = lookup(&mut board.connections, peer) else { return false };
    if let Err(error) = outcome {
        board.close_because(peer, CloseReason::of(&error));
        return false;
    }
    if connection.pressure == Pressure::Overflow {
        board.close_because(peer, CloseReason::SlowReader);
        return false;
    }
    if connection.is_over() {
        let reason = connection.reason;
        board.close_because(peer, reason);
        return false;
    }
    let is_waiting = !connection.outbox.is_empty() || !connection.inbox.is_empty();
    if connection.writing != Half::Open || is_waiting || connection.is_paused() {
        board.deadlines.arm(peer.slot, connection.look_at());
    }
    let drained = connection.pressure == Pressure::High
        && connection.outbox.len() <= connection.limits.outbox_bytes_low();
    // Work that no event will tell us of: the budget is spent and the latch still set, messages wait for the
    // next turn, or what the outbox had held up can go on.
    let held_up = !connection.inbox.is_empty() || connection.reading == Half::Finishing;
    let goes_on = connection.unserved || (drained && held_up);
    if connection.can_fill() || connection.can_discard() || goes_on {
        board.enqueue_behind(peer);
    }
    let connection = &mut board.connections[peer.slot as usize];
    if drained && connection.writing != Half::Open {
        connection.pressure = Pressure::Low; // nothing more can be sent: the handler is not asked for more
        return false;
    }
    drained
}
