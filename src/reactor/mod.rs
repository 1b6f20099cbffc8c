//! The event loop: one thread and one `mio::Poll` for all sockets. `examples/06_edges.rs` is this loop in one file.
//!
//! [`Reactor::turn`] is one pass, and reads as a list of its phases:
//!
//! | Phase | What it does | Bound |
//! |---|---|---|
//! | wait | sleeps until the poll reports something or a time has come; not while work is queued | |
//! | note | events set latches, and queue their sources, once each | `EVENTS_PER_TURN` |
//! | establish | connects, headers of proxies and handshakes go a step further | `handshakes_per_turn`, `handshake_time_per_turn`, `serve_time_per_turn` |
//! | serve | each queued source once: a connection, a listener, a socket of datagrams | a budget for each source, and `serve_time_per_turn` |
//! | expire | connections and listeners whose moment has come; a silent connection is served once more before it is closed | `timers_per_turn` |
//! | fire | timers of the handler; in long turns they also fire in the middle of `serve` and `flush` | `timers_per_turn` |
//! | flush | what was sent to other connections than the one that was served | two slices of `SLICE_WRITES` |
//! | reap | frees the connections that were closed, and calls `on_close` | `serve_time_per_turn` |
//! | account | the figures of the turn | |
//!
//! Nothing is served while events are noted. So each source is served in one way, whatever queued it, and gets one budget in a
//! turn.
//!
//! Read on in this order:
//!
//! 1. `serve`: the path of one byte, from the socket to the handler and back. It ends in `reschedule`, which decides what comes
//!    next.
//! 2. `connection`: two directions and three latches, with a table of all states.
//! 3. `board`: what a handler may do, and the queues.
//! 4. `transport` and `handler`: the interfaces below ([`Transport`]) and above ([`Handler`]).
//!
//! The others can be taken on trust at first:
//!
//! - phases: `opening` (before the first byte), `accept`, `receive` (datagrams), `expiry` (deadlines), `flush` (many outboxes),
//!   `reap`; and `stopping`;
//! - what they work on: `listener`, `datagram`, `outbox`, `buffer`, `timers`, `token`, `readiness`, `share`, `meter`, `descriptors`,
//!   `tally`;
//! - declarations: `limits`, `ending`, `counters`.
//!
//! Words for amounts. A *limit* is what the loop's owner sets ([`Limits`]). A *budget* is the part of it that one source, or
//! one phase, may use in a turn. A connection's *share* is its budget of messages and time; `Board::admit_message` spends it. Its
//! *read size* is how much is read at once, and adapts to what it uses. Its *rate* is its bytes per second. A *slice* is the
//! part of a batch of outboxes that one turn writes. An outbox has two marks: above the low one, nothing more is
//! read from its peer; at the high one, nothing more is served.
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

mod accept;
mod board;
mod buffer;
#[cfg(test)]
mod clock_tests;
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
mod meter;
mod opening;
mod outbox;
mod readiness;
mod reap;
mod receive;
mod serve;
mod share;
mod stopping;
mod tally;
#[cfg(test)]
mod tests;
mod timers;
mod token;
mod transport;

pub use board::Board;
pub use buffer::{Buffer, Spares};
pub use counters::{Counters, Turn};
pub use datagram::{DatagramSocket, Route};
pub use descriptors::Descriptor;
pub use ending::CloseReason;
pub use handler::{BoardOf, Handler};
pub use limits::Limits;
pub use outbox::Outbox;
pub use readiness::Readiness;
pub use timers::{Clock, Moment, Timer};
pub use token::Peer;
pub use transport::{Opening, Transport};

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use connection::NO_LISTENER;
use listener::{Listener, Pause, resume_unless_by_owner};
use token::Source;

/// The most events that one turn takes from the kernel. More of them wait there, in their order. So a turn stays short when
/// thousands of peers do something at once, such as resetting their connections.
const EVENTS_PER_TURN: usize = 1024;

/// After this many sources have been served, or outboxes written, the clock is looked at: a timer may be due, or the turn's
/// time over.
const CLOCK_EVERY: usize = 4;

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
    spare_timers: Vec<Timer>,
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

impl<H: Handler> Reactor<H> {
    /// A loop that watches nothing yet.
    ///
    /// # Errors
    /// Where the system has no descriptor left for the poll.
    pub fn new(handler: H, limits: Limits) -> io::Result<Self> {
        Reactor::with_clock(handler, limits, Clock::machine())
    }

    /// The same, by another clock: see [`Clock::manual`].
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
            spare_timers: Vec::new(),
            unwritten: VecDeque::new(),
            began: Moment::default(),
            ended: Moment::default(),
            accounted: (0, 0),
            signalled: false,
        })
    }

    /// Replaces the reactor's own limits: those of a turn, of the number of connections in all, and of connections that
    /// we opened ourselves. Those of a listener change with [`Reactor::set_listener_limits`].
    pub fn set_limits(&mut self, limits: Limits) {
        let limits = Limits::checked(limits);
        self.board.set_limits_of(NO_LISTENER, &limits);
        self.board.limits = limits;
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            resume_unless_by_owner(&mut self.board, index, listener); // there may be room for more now
        }
    }

    /// Watches a source of signals; [`Turn::signalled`] is set when it is readable.
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

    /// Turns until the handler asks for a [stop](Board::shutdown) and every connection has come to its end.
    ///
    /// # Errors
    /// Only those of the poll itself.
    pub fn run(&mut self) -> io::Result<()> {
        loop {
            if self.turn(None)?.shutdown {
                self.drain();
            }
            if self.board.draining && self.board.connections() == 0 {
                return Ok(());
            }
        }
    }

    /// One pass of the loop: waits for at most `timeout` (`None`: without a limit), and does what there is to do, each source
    /// within its budget.
    ///
    /// # Errors
    /// Those of the poll.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        self.wait(timeout)?;
        self.board.time_runs = true;
        self.begin(self.clock());
        // The batch is lifted out so that it can be read while the board is written.
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        let count = self.note(events.iter().map(|event| (event.token(), Readiness::from(event))));
        self.events = events;
        Ok(self.go_through(count))
    }

    /// A turn without the kernel: the caller names the time, and the events that a poll would report, by the tokens with which the
    /// sources were registered. (A [`Peer`] is a token, too.) This is how the loop is tested, simulated and measured over the
    /// scripted wire, and stepped by another loop.
    ///
    /// With the machine's clock, time stands still at `now` during this turn, so no time limit within the turn strikes. With a
    /// [manual](Clock::manual) clock, time advances at each look, and the limits strike as in [`Reactor::turn`].
    pub fn turn_with(&mut self, now: Moment, ready: &[(Token, Readiness)]) -> Turn {
        self.board.time_runs = self.board.clock.is_manual();
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
        self.establish();
        self.serve();
        self.expire();
        self.fire();
        self.flush();
        self.reap();
        self.account(events)
    }

    /// Sums up the turn.
    fn account(&mut self, events: usize) -> Turn {
        let board = &mut self.board;
        let ended = board.clock.now().max(board.now);
        let turn = Turn {
            events,
            bytes_in: board.counters.bytes_in - self.accounted.0,
            bytes_out: board.counters.bytes_out - self.accounted.1,
            waited: self.began.since(self.ended),
            worked: ended.since(self.began),
            signalled: mem::take(&mut self.signalled),
            shutdown: mem::take(&mut board.shutdown),
        };
        self.accounted = (board.counters.bytes_in, board.counters.bytes_out);
        self.ended = ended;
        board.counters.count_turn(events, ended.ns_since(self.began));
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
        match (self.next_due(), asked) {
            (Moment::NEVER, None) => None, // only an event can wake it
            (Moment::NEVER, Some(asked)) => Some(asked.min(SLEEP_MAX)),
            (next, asked) => Some(next.since(self.ended).min(asked.unwrap_or(SLEEP_MAX)).min(SLEEP_MAX)),
        }
    }

    /// Whether there is work for the next turn, even without an event. If so, the next turn does not sleep.
    pub fn has_work(&self) -> bool {
        let board = &self.board;
        let is_idle = board.opening.is_empty()
            && board.queue.is_empty()
            && board.to_flush.is_empty()
            && board.closed.is_empty();
        !(is_idle
            && board.queue_behind.is_empty()
            && board.without_delay.is_empty()
            && self.unwritten.is_empty())
    }

    /// The moment at which the next timer, deadline or listener's hold comes due. Until then the loop sleeps, if it has no
    /// [work](Reactor::has_work) and no event. [`Moment::NEVER`]: it waits for events only.
    pub fn next_due(&self) -> Moment {
        let mut next = self.board.deadlines.next().min(self.board.timers.next());
        for listener in &self.listeners {
            if let Pause::Starved(until) = listener.pause {
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
                        listener.enqueue(&mut self.board, index as usize);
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

    /// Serves each source in the queue once, within its budget, and then those in `queue_behind`. Sources that are queued
    /// meanwhile are served in the next turn.
    ///
    /// When the turn's time is over, the rest waits for the next turn, in its order and before newer entries. A few sources
    /// of each list are served in any case, so both always move on.
    fn serve(&mut self) {
        let (queued, waiting) = (self.board.queue.len(), self.board.queue_behind.len());
        self.serve_first(queued, |board| &mut board.queue);
        self.serve_first(waiting, |board| &mut board.queue_behind);
    }

    /// Serves the first `count` sources of this list, or fewer, when the time is over.
    fn serve_first(&mut self, count: usize, list: fn(&mut BoardOf<H>) -> &mut VecDeque<Token>) {
        if count == 0 {
            return;
        }
        // The list may run until the turn's time is over, or for half of the time that the turn has used so far, whichever ends
        // later.
        let (now, ends) = (self.clock(), self.began.after(self.board.limits.serve_time_per_turn));
        let ends = ends.max(now.after(now.since(self.began) / 2));
        for served in 0..count {
            if served % CLOCK_EVERY == CLOCK_EVERY - 1 && self.board.time_runs && self.clock() >= ends {
                return;
            }
            self.fire_due_now(served);
            let Some(token) = list(&mut self.board).pop_front() else { return };
            match Source::from_token(token) {
                Source::Connection(peer) => {
                    self.serve_connection(peer);
                    self.end_last_look(peer);
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
            let Some((_, timer)) = self.board.timers.pop(now) else { break };
            self.handler.on_timer(&mut self.board, timer);
        }
        let mut timers = mem::take(&mut self.spare_timers);
        mem::swap(&mut timers, &mut self.board.without_delay);
        for timer in timers.drain(..) {
            self.handler.on_timer(&mut self.board, timer);
        }
        self.spare_timers = timers;
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
