//! The event loop: one thread and one `mio::Poll` for all sockets. `examples/06_edges.rs` is this loop in one file.
//!
//! [`Reactor::turn`] is one pass, and reads as a list of its phases:
//!
//! | Phase | What it does | Bound |
//! |---|---|---|
//! | wait | sleeps until the poll reports something or a time has come; not while work is queued | |
//! | note | events set latches, and queue their sources, once each | `EVENTS_PER_TURN` |
//! | serve | each queued source once: a connection, a listener, a socket of datagrams | a budget for each source, and `serve_time_per_turn` |
//! | expire | connections and listeners whose moment has come; a silent connection is served once more before it is closed | `timers_per_turn` |
//! | fire | timers of the handler; `serve` and `flush` look in here, too | `timers_per_turn` |
//! | flush | what was sent to other connections than the one that was served | two slices of `SLICE_WRITES` |
//! | reap | frees the connections that were closed, and calls `on_close` | `serve_time_per_turn` |
//! | account | the figures of the turn | |
//!
//! Nothing is served while events are noted. So there is one way to be served, whatever was the cause, and nobody gets two
//! budgets in one turn.
//!
//! Read on in this order:
//!
//! 1. `serve`: the way of one byte, from the socket to the handler and back. It ends in `reschedule`, which decides what comes
//!    next.
//! 2. `connection`: two directions and three latches, with a table of all states.
//! 3. `board`: what a handler may do, and the queues.
//! 4. `handler`: what is below ([`Transport`]) and above ([`Handler`]).
//!
//! The others can be taken on trust at first. `opening`: before the first byte. `expiry`: deadlines. `flush`: many outboxes.
//! `listener`, `datagram`: the other sources. `limits`, `ending`, `counters`: declarations. `buffer`, `timers`, `token`, `pace`,
//! `descriptors`, `tally`: the parts.
//!
//! What the loop promises, whatever peers do:
//!
//! - It sleeps only when there is nothing to do. Work that needs no event (a budget that was spent, an outbox that has drained)
//!   is queued.
//! - Each source gets a bounded amount of work per turn. So a peer that floods costs another one a single budget.
//! - No error of a connection, a listener or a datagram ends it. Only an error of the poll does.
//! - Memory is bounded by [`Limits`], and an idle connection owns no buffers.
//!
//! It knows mio, slab and log. It knows nothing of protocols, services, signals or the command line.

mod board;
mod buffer;
mod connection;
mod counters;
mod datagram;
mod descriptors;
mod ending;
#[cfg(test)]
mod endings_tests;
mod expiry;
mod flush;
mod handler;
mod limits;
mod listener;
mod opening;
mod pace;
mod serve;
mod tally;
#[cfg(test)]
mod tests;
mod timers;
mod token;

pub use board::{Board, Outbox};
pub use buffer::{Buffer, Spares};
pub use connection::Readiness;
pub use counters::Counters;
pub use datagram::{DatagramSocket, Route};
pub use descriptors::Descriptor;
pub use ending::CloseReason;
pub use handler::{BoardOf, Handler, Transport};
pub use limits::Limits;
pub use timers::{Clock, Moment};
pub use token::Peer;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use board::KEPT_ENTRIES;
use connection::NO_LISTENER;
use datagram::Datagrams;
use expiry::end_last_look;
use listener::{Hold, Listener, resume};
use token::Source;

/// The most events that one turn takes from the kernel. More of them wait there, in their order. So a turn stays short when
/// thousands of peers do something at once, such as resetting their connections.
const EVENTS_PER_TURN: usize = 1024;

/// After this many sources have been served, or outboxes written, the clock is looked at: a timer may be due, or the turn's
/// time over.
const CLOCK_EVERY: usize = 4;

/// After as many closed connections have been freed, the clock is looked at: closing a socket takes microseconds, and
/// thousands of peers can go at once.
const CLOCK_EVERY_CLOSED: usize = 64;

/// The longest sleep. The poll counts milliseconds in an `i32`, which a longer one would overflow. Waking up once a day costs
/// nothing.
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
    /// its own only while an unfinished message waits in it. This one is empty between two connections.
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

    /// Replaces the reactor's own limits: those of a turn, of the number of connections in all, and of connections without
    /// limits of their own.
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
    /// With the machine's clock, time stands still at `now` during this turn, so no time limit within the turn strikes. With a
    /// [told](Clock::told) clock, time advances at each look, and the limits strike as in [`Reactor::turn`].
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

    /// The phases of a turn, after the events have been noted. (Timers fire after deadlines, and those without a delay come last:
    /// they are for everything that was served in the turn.)
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

    /// Whether there is work for the next turn, even without an event. If so, the next turn does not sleep.
    pub fn has_work(&self) -> bool {
        let board = &self.board;
        let is_idle = board.queue.is_empty() && board.touched.is_empty() && board.closed.is_empty();
        !(is_idle && board.backlog.is_empty() && board.soon.is_empty() && self.unwritten.is_empty())
    }

    /// The moment at which the next timer, deadline or listener's hold comes due. Until then the loop sleeps, if it has no
    /// [work](Reactor::has_work) and no event. [`Moment::NEVER`]: it waits for events only.
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

    /// Begins a stop. Listeners close. For every connection, what has arrived by now (up to one budget) is served, the outbox is
    /// delivered, and it is finished. Call `turn` until [`Board::connections`] is 0.
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

    /// The board, for the owner of the loop.
    pub fn board(&mut self) -> &mut BoardOf<H> {
        &mut self.board
    }

    /// The handler and the board, for the owner of the loop, between two turns.
    pub fn handler_and_board(&mut self) -> (&mut H, &mut BoardOf<H>) {
        (&mut self.handler, &mut self.board)
    }

    /// The handler.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }
}
