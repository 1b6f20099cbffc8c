//! The event loop: one thread, one `mio::Poll`, every socket a line on the board.
//!
//! Start at [`Reactor::turn`]: it is the loop, as a list. Then read `serve_connection`, which is the way
//! of one byte; then [`Board`], which is what a handler may do about it. The files in reading order:
//!
//! - `handler`: what is below ([`Transport`]) and above ([`Handler`]), and the [`Limits`];
//! - `board`: connections, work queues, the verbs;
//! - `connection`: one connection, its latches and its two halves;
//! - `buffer`, `timers`, `token`, `datagram`: the parts.
//!
//! What the loop promises, whatever peers do:
//!
//! - It sleeps only when there is nothing to do. Readiness is edge-triggered and remembered in latches;
//!   work that needs no event (a budget that ran out, an outbox that drained) stands in a queue.
//! - Each source gets a bounded amount of work per turn, so a flooder costs a whisperer one budget.
//! - No error of a connection, a listener or a datagram ends it: only the poll itself can.
//! - Memory is bounded by [`Limits`], and an idle connection owns no buffers.
//!
//! Knows mio, slab and log; knows nothing of protocols, services, signals or the command line.

mod board;
mod buffer;
mod connection;
mod datagram;
mod handler;
mod timers;
mod token;

pub use board::{Board, Counters, Outbox};
pub use buffer::{Buffer, Spares};
pub use connection::Readiness;
pub use handler::{BoardOf, CloseReason, Handler, Limits, Transport};
pub use timers::Moment;
pub use token::Peer;

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Waker};

use board::tenant;
use connection::{Half, Stage};
use datagram::Datagrams;
use token::Source;

/// Events taken from the kernel in one call. A batch that came back full doubles it, up to the maximum.
const EVENTS_PER_TURN: usize = 1024;
const EVENTS_PER_TURN_MAX: usize = 16 * 1024;

/// How long accepting rests when the process is out of descriptors or memory. The next closed
/// connection ends the rest at once; the timer is for descriptors that others give back.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The event loop, with its handler. See the module's text.
pub struct Reactor<H: Handler> {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    handler: H,
    board: BoardOf<H>,
    listeners: Vec<Listener<<H::Transport as Transport>::Listener>>,
    /// Last turn's queue, kept for its memory; so the queues cost no allocation.
    served: Vec<Source>,
    named: Vec<Peer>,
    started: Instant,
    /// When the last turn ended: what lies between two turns counts as waiting.
    ended: Moment,
    signalled: bool,
}

struct Listener<L> {
    socket: L,
    /// The latch: connections may be waiting.
    readable: bool,
    queued: bool,
    hold: Hold,
    /// The log has been told that accepting pauses, and it has not caught up since.
    told: bool,
}

/// Why a listener with waiting connections does not accept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    No,
    /// `connections_max` are open: until one is closed.
    Full,
    /// accept(2) had no descriptor or memory left: until a connection is closed, or this moment.
    Starved(Moment),
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
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Source::Waker.token())?);
        let board = Board::new(poll.registry().try_clone()?, limits);
        Ok(Reactor {
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            waker,
            handler,
            board,
            listeners: Vec::new(),
            served: Vec::new(),
            named: Vec::new(),
            started: Instant::now(),
            ended: Moment::default(),
            signalled: false,
        })
    }

    /// Watches a listener; returns its index, which [`Handler::admit`] gets.
    ///
    /// # Errors
    /// Where the poll refuses it.
    pub fn listen(&mut self, mut socket: <H::Transport as Transport>::Listener) -> io::Result<usize> {
        let index = self.listeners.len();
        let token = Source::Listener(index as u32).token();
        self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
        self.listeners.push(Listener { socket, readable: false, queued: false, hold: Hold::No, told: false });
        Ok(index)
    }

    /// Watches a datagram socket; returns its index, which [`Handler::on_datagram`] gets.
    ///
    /// # Errors
    /// Where the poll refuses it.
    pub fn listen_datagrams(&mut self, mut socket: UdpSocket) -> io::Result<usize> {
        let index = self.board.datagrams.len();
        let token = Source::Datagram(index as u32).token();
        self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
        self.board.datagrams.push(Datagrams::new(socket));
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

    /// One pass of the loop: waits for at most `timeout` (`None`: for as long as it takes) and does
    /// what there is to do, each source within its budget.
    ///
    /// # Errors
    /// Only those of the poll itself.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Turn> {
        let events = self.wait(timeout)?;
        Ok(self.work(events))
    }

    /// A turn without the kernel: the caller says what time it is and who is ready. This is how the
    /// loop is tested and measured over the scripted wire, and stepped by another loop.
    pub fn turn_with(&mut self, now: Moment, ready: &[(Peer, Readiness)]) -> Turn {
        self.board.now = self.board.now.max(now);
        for (peer, readiness) in ready {
            self.note(Source::Connection(*peer), *readiness);
        }
        self.work(ready.len())
    }

    /// What follows the wait. Each phase is bounded: by the queue's length when it begins, and by a
    /// budget for each entry.
    fn work(&mut self, events: usize) -> Turn {
        let (began, before) = (self.board.now, (self.board.counters.bytes_in, self.board.counters.bytes_out));
        self.serve();
        self.fire_timers();
        self.flush();
        self.reap();

        let ended = self.clock().max(began);
        let counters = &mut self.board.counters;
        let turn = Turn {
            events,
            bytes_in: counters.bytes_in - before.0,
            bytes_out: counters.bytes_out - before.1,
            waited: began.since(self.ended),
            worked: ended.since(began),
            signalled: mem::take(&mut self.signalled),
        };
        counters.turns += 1;
        counters.events += events as u64;
        counters.busiest_turn = counters.busiest_turn.max(turn.worked);
        self.ended = ended;
        turn
    }

    /// Sleeps until something happens or is due, and turns events into latches and queue entries.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = self.timeout(timeout);
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            outcome => outcome?,
        }
        self.board.now = self.clock();

        // The batch is lifted out so that it can be read while the board is written.
        let mut events = mem::replace(&mut self.events, Events::with_capacity(0));
        let mut count = 0;
        for event in &events {
            count += 1;
            self.note(Source::from_token(event.token()), Readiness::from(event));
        }
        if count == events.capacity() && count < EVENTS_PER_TURN_MAX {
            events = Events::with_capacity(2 * count);
        }
        self.events = events;
        Ok(count)
    }

    /// How long the poll may sleep: not at all while work is queued.
    fn timeout(&self, asked: Option<Duration>) -> Option<Duration> {
        let board = &self.board;
        if !(board.queue.is_empty() && board.touched.is_empty() && board.closed.is_empty()) {
            return Some(Duration::ZERO);
        }
        let mut next = board.deadlines.next().min(board.timers.next());
        for listener in &self.listeners {
            if let Hold::Starved(until) = listener.hold {
                next = next.min(until);
            }
        }
        if next == Moment::NEVER {
            return asked;
        }
        let due = next.since(self.ended);
        Some(asked.map_or(due, |asked| asked.min(due)))
    }

    fn clock(&self) -> Moment {
        Moment::at(self.started.elapsed())
    }

    /// Remembers what an event said, and queues who it was about.
    #[inline]
    fn note(&mut self, source: Source, readiness: Readiness) {
        match source {
            Source::Connection(peer) => {
                // An event of a slot's former tenant has the wrong generation and ends here.
                if let Some(connection) = self.board.get_mut(peer) {
                    connection.latch(readiness);
                    if !connection.queued {
                        connection.queued = true;
                        self.board.queue.push(source);
                    }
                }
            }
            Source::Listener(index) => {
                if let Some(listener) = self.listeners.get_mut(index as usize) {
                    listener.readable = true;
                    if !listener.queued && listener.hold == Hold::No {
                        listener.queued = true;
                        self.board.queue.push(source);
                    }
                }
            }
            Source::Datagram(index) => {
                if let Some(datagrams) = self.board.datagrams.get_mut(index as usize) {
                    datagrams.readable = true;
                    if !datagrams.queued {
                        datagrams.queued = true;
                        self.board.queue.push(source);
                    }
                }
            }
            Source::Waker => self.board.queue.push(source),
            Source::Signals => self.signalled = true,
        }
    }

    /// Gives every queued source its budget, once. Who has more to do queues up again for the next turn.
    fn serve(&mut self) {
        let mut sources = mem::take(&mut self.served);
        mem::swap(&mut sources, &mut self.board.queue);
        for source in sources.drain(..) {
            match source {
                Source::Connection(peer) => self.serve_connection(peer),
                Source::Listener(index) => self.accept(index as usize),
                Source::Datagram(index) => self.serve_datagrams(index as usize),
                Source::Waker => self.handler.on_wake(&mut self.board),
                Source::Signals => unreachable!("signals are told to the owner of the loop, not queued"),
            }
        }
        self.served = sources;
    }

    /// The way of one byte: from the socket to the inbox, to the handler, to the outbox, to the socket.
    ///
    /// The reply is written here and not in the flush phase: the buffers are still in the cache, and
    /// go back to the spares before the next connection asks for one. With 16 connections that echo
    /// 64 KiB, that is one warm block in use instead of 16 cold ones. What others are sent (a
    /// broadcast) waits for the flush phase, so that each gets one write per turn.
    fn serve_connection(&mut self, peer: Peer) {
        let Reactor { board, handler, .. } = self;
        let Some(connection) = tenant(&mut board.connections, peer) else { return };
        connection.queued = false;

        if connection.stage == Stage::Opening {
            match connection.transport.establish() {
                Ok(()) => {
                    connection.stage = Stage::Open;
                    connection.took_at = board.now;
                    let (at, _) = connection.deadline(&board.limits);
                    board.deadlines.arm(peer.slot, at);
                    handler.on_open(board, peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if board.draining {
                        board.close_because(peer, CloseReason::Drained);
                    }
                    return;
                }
                Err(error) => return board.close_because(peer, CloseReason::Unestablished(error.kind())),
            }
        }

        // Looked up anew after each callback: it may have closed this very connection.
        let Some(connection) = tenant(&mut board.connections, peer) else { return };
        let mut failure = None;
        if connection.can_fill(&board.limits) {
            let (count, outcome) = connection.fill(&board.limits, &mut board.spares);
            if count > 0 {
                connection.heard_at = board.now;
                board.counters.bytes_in += count as u64;
            }
            failure = outcome.err();
        } else if connection.can_discard() {
            let (count, outcome) = connection.discard(&board.limits, &mut board.spares);
            board.counters.bytes_in += count as u64;
            failure = outcome.err();
        }
        if board.draining && connection.reading == Half::Open {
            // That was the last call: what had arrived when we were told to stop is still served.
            connection.reading = Half::Finishing;
        }

        if connection.can_serve(&board.limits) {
            let mut inbox = mem::take(&mut connection.inbox);
            // What it is sent by its own callback is written below; it needs no place in the list.
            connection.touched = true;
            handler.on_bytes(board, peer, &mut inbox);
            let connection = &mut board.connections[peer.slot as usize]; // only `reap` frees slots
            if connection.reading == Half::Finished {
                inbox.clear(); // the handler finished it: what it left will not be asked for
            }
            inbox.recycle(&mut board.spares);
            connection.touched = false;
            connection.inbox = inbox;
            if connection.inbox.len() >= board.limits.inbox_bytes_max && !connection.congested(&board.limits)
            {
                board.close_because(peer, CloseReason::InboxFull);
            }
        }

        let Some(connection) = tenant(&mut board.connections, peer) else { return };
        if connection.reading == Half::Finishing && !connection.congested(&board.limits) {
            connection.reading = Half::Finished;
            let mut rest = mem::take(&mut connection.inbox);
            if board.draining {
                board.finish_because(peer, CloseReason::Drained);
            } else {
                handler.on_finish(board, peer, &mut rest);
            }
            rest.clear();
            rest.recycle(&mut board.spares);
        }

        drain(handler, board, peer);

        let Some(connection) = tenant(&mut board.connections, peer) else { return };
        if let Some(error) = failure {
            // After the reply: what was read before the error has been served like any other.
            board.close_because(peer, CloseReason::of(&error));
        } else if !connection.queued && (connection.can_fill(&board.limits) || connection.can_discard()) {
            // The budget is spent, and no event will tell us of what is still in the socket.
            connection.queued = true;
            board.queue.push(Source::Connection(peer));
        }
    }

    /// Takes waiting connections, within the budget and the limit.
    fn accept(&mut self, index: usize) {
        let Reactor { board, handler, listeners, .. } = self;
        let listener = &mut listeners[index];
        listener.queued = false;
        for _ in 0..board.limits.accepts_per_turn {
            if board.connections.len() >= board.limits.connections_max {
                if !mem::replace(&mut listener.told, true) {
                    let count = board.connections.len();
                    log::warn!("{count} connections are open, the most allowed: new ones wait");
                    board.counters.accept_holds += 1;
                }
                listener.hold = Hold::Full;
                return;
            }
            match H::Transport::accept(&mut listener.socket) {
                Ok((transport, address)) => match handler.admit(index, &address) {
                    Some(state) => match board.insert(transport, state) {
                        Ok(_) => board.counters.accepted += 1,
                        Err(error) => log::warn!("an accepted connection could not be watched: {error}"),
                    },
                    None => board.counters.refused += 1,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    listener.readable = false;
                    listener.told = false;
                    return;
                }
                // The error of one connection that is gone already. The next one may be fine.
                Err(error) if is_of_one_connection(&error) => log::debug!("not accepted: {error}"),
                // No descriptor (EMFILE, ENFILE), no memory, or something we have no name for. The edge
                // that told us of waiting connections will not come again: keep the latch, and come
                // back when it may have got better. Trying on at once would burn the whole core.
                Err(error) => {
                    if !mem::replace(&mut listener.told, true) {
                        log::warn!("accepting pauses: {error}");
                        board.counters.accept_holds += 1;
                    }
                    listener.hold = Hold::Starved(board.now.after(ACCEPT_RETRY));
                    return;
                }
            }
        }
        listener.queued = true;
        board.queue.push(Source::Listener(index as u32));
    }

    /// Receives datagrams within the budget; each is answered before the next is received.
    fn serve_datagrams(&mut self, index: usize) {
        let Reactor { board, handler, .. } = self;
        board.datagrams[index].queued = false;
        flush_datagrams(board, index);
        let mut inbox = Buffer::default();
        for _ in 0..board.limits.datagrams_per_turn {
            let datagrams = &mut board.datagrams[index];
            if !datagrams.readable {
                break;
            }
            inbox.clear();
            // One block holds the largest datagram there is, so none is ever cut short.
            match datagrams.socket.recv_from(inbox.room(buffer::LARGE_BYTES, &mut board.spares)) {
                Ok((count, from)) => {
                    inbox.filled(count);
                    board.counters.datagrams_in += 1;
                    board.counters.bytes_in += count as u64;
                    datagrams.queued = true; // its own replies need no place in the queue
                    handler.on_datagram(board, index, from, inbox.bytes());
                    board.datagrams[index].queued = false;
                    flush_datagrams(board, index);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => datagrams.readable = false,
                // An ICMP error about a datagram sent earlier: not about this socket, nor the next one.
                Err(error) => log::debug!("on datagram socket {index}: {error}"),
            }
        }
        inbox.clear();
        inbox.recycle(&mut board.spares);
        let datagrams = &mut board.datagrams[index];
        if datagrams.readable && !datagrams.queued {
            datagrams.queued = true;
            board.queue.push(Source::Datagram(index as u32));
        }
    }

    /// Ends what has waited too long, calls back what was asked for, and wakes listeners from their rest.
    fn fire_timers(&mut self) {
        let Reactor { board, handler, listeners, .. } = self;
        let now = board.now;
        for _ in 0..board.limits.timers_per_turn {
            let Some(slot) = board.deadlines.pop(now) else { break };
            let Some(connection) = board.connections.get(slot as usize) else { continue };
            let (at, reason) = connection.deadline(&board.limits);
            if at <= now {
                let peer = Peer { slot, generation: connection.generation };
                board.close_because(peer, reason);
            } else {
                board.deadlines.arm(slot, at);
            }
        }
        for _ in 0..board.limits.timers_per_turn {
            let Some((_, key)) = board.timers.pop(now) else { break };
            handler.on_timer(board, key);
        }
        for (index, listener) in listeners.iter_mut().enumerate() {
            if matches!(listener.hold, Hold::Starved(until) if until <= now) {
                resume(board, index, listener);
            }
        }
    }

    /// Writes what handlers sent to others than the one they served.
    fn flush(&mut self) {
        let Reactor { board, handler, .. } = self;
        let mut peers = mem::take(&mut self.named);
        mem::swap(&mut peers, &mut board.touched);
        for peer in peers.drain(..) {
            if let Some(connection) = board.get_mut(peer) {
                connection.touched = false;
                drain(handler, board, peer);
            }
        }
        self.named = peers;
    }

    /// Frees what was marked closed. From here on its slot may be used again.
    fn reap(&mut self) {
        let Reactor { board, handler, listeners, .. } = self;
        let mut peers = mem::take(&mut self.named);
        mem::swap(&mut peers, &mut board.closed);
        let reaped = !peers.is_empty();
        for peer in peers.drain(..) {
            let mut connection = board.connections.remove(peer.slot as usize);
            for buffer in [&mut connection.inbox, &mut connection.outbox] {
                buffer.clear();
                buffer.recycle(&mut board.spares);
            }
            board.counters.closed[connection.reason.row()] += 1;
            // Closing takes the descriptor out of the poll: no deregistration, one syscall less.
            drop(connection.transport);
            handler.on_close(board, peer, connection.state, connection.reason);
        }
        self.named = peers;
        if reaped {
            for (index, listener) in listeners.iter_mut().enumerate() {
                if listener.hold != Hold::No {
                    resume(board, index, listener);
                }
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
        for index in 0..self.listeners.len() {
            self.accept(index);
        }
        self.listeners.clear();
        self.board.queue.retain(|source| !matches!(source, Source::Listener(_)));
        self.board.draining = true;
        let board = &mut self.board;
        for (slot, connection) in &mut board.connections {
            if !connection.queued {
                connection.queued = true;
                let peer = Peer { slot: slot as u32, generation: connection.generation };
                board.queue.push(Source::Connection(peer));
            }
        }
    }

    /// Closes every connection now.
    pub fn cut(&mut self) {
        let peers: Vec<Peer> = self
            .board
            .connections
            .iter()
            .map(|(slot, connection)| Peer { slot: slot as u32, generation: connection.generation })
            .collect();
        for peer in peers {
            self.board.close_because(peer, CloseReason::Cut);
        }
        self.reap();
    }

    /// What a handler may do, for whoever owns the loop.
    pub fn board(&mut self) -> &mut BoardOf<H> {
        &mut self.board
    }

    /// The handler.
    pub fn handler(&mut self) -> &mut H {
        &mut self.handler
    }
}

/// Writes the connection's outbox as far as the transport takes it, and draws the conclusions.
#[inline]
fn drain<H: Handler>(handler: &mut H, board: &mut BoardOf<H>, peer: Peer) {
    let Some(connection) = tenant(&mut board.connections, peer) else { return };
    let was_writing = connection.writing != Half::Finished;
    let (count, outcome) = connection.drain();
    if count > 0 {
        connection.took_at = board.now;
        board.counters.bytes_out += count as u64;
    }
    connection.outbox.recycle(&mut board.spares);
    if let Err(error) = outcome {
        return board.close_because(peer, CloseReason::of(&error));
    }
    if connection.is_over() {
        let reason = connection.reason;
        return board.close_because(peer, reason);
    }
    if was_writing && connection.writing == Half::Finished {
        connection.took_at = board.now; // lingering begins
    }
    if connection.writing != Half::Open || !connection.outbox.is_empty() {
        let (at, _) = connection.deadline(&board.limits);
        board.deadlines.arm(peer.slot, at);
    }
    if connection.above_low && connection.outbox.len() <= board.limits.outbox_bytes_low() {
        connection.above_low = false;
        // What was held up by the outbox can go on, and no event will say so.
        let held_up = !connection.inbox.is_empty() || connection.reading == Half::Finishing;
        if held_up || connection.can_fill(&board.limits) {
            board.enqueue(peer);
        }
        handler.on_drain(board, peer);
    }
}

fn flush_datagrams<T: Transport, S>(board: &mut Board<T, S>, index: usize) {
    let sent = board.datagrams[index].flush(&mut board.spares);
    board.counters.datagrams_out += sent.datagrams;
    board.counters.datagrams_dropped += sent.dropped;
    board.counters.bytes_out += sent.bytes;
}

/// Ends a listener's rest. Its latch was kept, so that the waiting connections are not forgotten.
fn resume<T: Transport, S>(board: &mut Board<T, S>, index: usize, listener: &mut Listener<T::Listener>) {
    listener.hold = Hold::No;
    if listener.readable && !listener.queued {
        listener.queued = true;
        board.queue.push(Source::Listener(index as u32));
    }
}

/// accept(2): errors that are already pending on the *new* connection are reported by the call, and are
/// to be passed over.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    const EPROTO: i32 = 71;
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | ConnectionRefused
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    ) || (cfg!(target_os = "linux") && error.raw_os_error() == Some(EPROTO))
}
