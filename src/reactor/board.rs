//! The board: every connection, the work that waits, and what a handler may ask for.
//!
//! A handler gets the board while it runs. Nothing that it does there has an effect on a socket before it returns: `send`
//! appends to an outbox, `finish` and `close` set a mark. So the outboxes and marks *are* the list of effects, and a handler may
//! send to every connection, without a callback ever running inside another.
//!
//! A [`Peer`] is the name of a connection. "The peer" is the other end.
//!
//! Invariant: a source that can make progress without a new event from the kernel is in `opening`, `queue`, `queue_behind`, `to_flush`, `closed`
//! or the reactor's `unwritten`. The reactor does not sleep while one of them, or `without_delay`, holds anything.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Interest, Registry, Token};
use slab::Slab;

use super::buffer::{Buffer, Spares};
use super::connection::{Connection, Half, NO_LISTENER, Pressure, Stage};
use super::counters::Counters;
use super::datagram::{Route, Sockets};
use super::descriptors::{Descriptor, Descriptors};
use super::ending::CloseReason;
use super::limits::Limits;
use super::outbox::Outbox;
use super::share::Share;
use super::tally::{Column, Counts};
use super::timers::{Clock, Deadlines, Moment, Timer, Timers};
use super::token::{Peer, Source};
use super::transport::Transport;

/// What a handler may do. See the module's text.
pub struct Board<T: Transport, S> {
    pub(super) connections: Slab<Connection<T, S>>,
    /// The most connections that there were at a time, since [`Board::shrink`].
    connections_peak: usize,
    pub(super) datagrams: Sockets<T::Datagrams>,
    /// Connections that are being established and can be tried now: they are new, have had an event, or have done a step.
    pub(super) opening: VecDeque<Peer>,
    /// Sources to serve, each once: in this turn what `note` and `establish` queue, in the next one what later phases queue.
    pub(super) queue: VecDeque<Token>,
    /// The same for connections that have had their share of this turn, and wait for their next one behind all others: so
    /// a new connection, or one with little to say, does not wait for a round of flooders.
    pub(super) queue_behind: VecDeque<Token>,
    /// Connections with new bytes in the outbox, or a half to finish.
    pub(super) to_flush: Vec<Peer>,
    /// Connections that are marked closed, to be freed at the end of the turn.
    pub(super) closed: Vec<Peer>,
    pub(super) deadlines: Deadlines,
    pub(super) timers: Timers<Timer>,
    /// Timers without a delay. The fire phase calls them, after those that are due.
    pub(super) without_delay: Vec<Timer>,
    pub(super) spares: Spares,
    /// Connections by stage.
    tally: Arc<Counts>,
    /// The descriptors that the handler has claimed.
    pub(super) descriptors: Descriptors,
    pub(super) now: Moment,
    /// The limits of a turn, those of the number of connections in all, and those of connections without limits of their own.
    pub(super) limits: Arc<Limits>,
    pub(super) counters: Counters,
    pub(super) draining: bool,
    /// See [`Board::shutdown`].
    pub(super) shutdown: bool,
    /// What is left of the share of the connection that is being served.
    pub(super) share: Share,
    /// Time advances during this turn. It does not in `turn_with` with the machine's clock, where the caller names the time.
    pub(super) time_runs: bool,
    registry: Registry,
    last_generation: NonZeroU32,
    /// The clock. [`Moment`]s count from its start.
    pub(super) clock: Clock,
}

impl<T: Transport, S> Board<T, S> {
    pub(super) fn new(registry: Registry, limits: Limits, clock: Clock) -> Self {
        let limits = Limits::checked(limits);
        Board {
            connections: Slab::new(),
            connections_peak: 0,
            datagrams: Sockets::default(),
            opening: VecDeque::new(),
            queue: VecDeque::new(),
            queue_behind: VecDeque::new(),
            to_flush: Vec::new(),
            closed: Vec::new(),
            deadlines: Deadlines::new(),
            timers: Timers::new(),
            without_delay: Vec::new(),
            spares: Spares::default(),
            tally: Arc::default(),
            descriptors: Descriptors::default(),
            now: Moment::default(),
            share: Share::default(),
            time_runs: true,
            limits,
            counters: Counters::default(),
            draining: false,
            shutdown: false,
            registry,
            last_generation: NonZeroU32::MAX,
            clock,
        }
    }

    /// Appends a copy of `bytes` to the peer's outbox. They are written when the handler has returned.
    /// To a peer that is gone, or to which we have said our end of file, nothing is sent.
    ///
    /// If more than `outbox_bytes_max` would wait for the peer, it is closed as a slow reader instead.
    #[inline]
    pub fn send(&mut self, to: Peer, bytes: &[u8]) {
        if let Some((_, mut outbox)) = self.outbox(to) {
            outbox.put(bytes);
        }
    }

    /// Sends everything that waits in `bytes`, and empties it; as [`Board::send`], but many bytes are not
    /// copied: the two buffers' blocks change hands where nothing waits for the peer.
    #[inline]
    pub fn send_whole(&mut self, to: Peer, bytes: &mut Buffer) {
        if let Some((_, mut outbox)) = self.outbox(to) {
            outbox.put_whole(bytes);
        }
        bytes.clear();
    }

    /// Returns the peer's outbox, to write a message into it in pieces, and the connection's state. `None` where [`Board::send`]
    /// would send nothing.
    #[inline(always)]
    pub fn outbox(&mut self, to: Peer) -> Option<(&mut S, Outbox<'_>)> {
        let connection = lookup(&mut self.connections, to)?;
        if connection.writing != Half::Open {
            return None;
        }
        if !connection.flush_is_arranged {
            connection.flush_is_arranged = true;
            self.to_flush.push(to);
        }
        if !connection.owes_bytes() {
            connection.waiting_since = self.now;
        }
        let outbox = Outbox {
            buffer: &mut connection.outbox,
            pressure: &mut connection.pressure,
            spares: &mut self.spares,
            limits: &connection.limits,
        };
        Some((&mut connection.state, outbox))
    }

    /// Sends one datagram, of at most 65,507 bytes, from the datagram socket with this index; an empty
    /// one is sent, too. What can't be sent at once is dropped and counted. `to` is an address, or the [`Route`] of a datagram
    /// that is answered.
    pub fn send_to(&mut self, socket: usize, to: impl Into<Route>, bytes: &[u8]) {
        let Some(datagrams) = self.datagrams.get_mut(socket) else {
            return;
        };
        if datagrams.outbox_bytes() + bytes.len() > self.limits.outbox_bytes_max {
            self.counters.datagrams_dropped += 1;
            return;
        }
        datagrams.push(to.into(), bytes, &mut self.spares);
        self.enqueue_datagrams(socket);
    }

    /// Counts a datagram that a handler decided not to send.
    pub fn drop_datagram(&mut self) {
        self.counters.datagrams_dropped += 1;
    }

    /// Ends the connection gracefully: delivers what waits in the outbox, and then our end of file. Nothing more is sent or
    /// served. What the peer still sends is read and dropped, until it ends its direction or `linger_for` has passed.
    pub fn finish(&mut self, peer: Peer) {
        self.finish_because(peer, CloseReason::Finished);
    }

    /// [`Board::finish`], with the reason to be told when it is over.
    pub fn finish_because(&mut self, peer: Peer, reason: CloseReason) {
        if let Some(connection) = self.get_mut(peer) {
            if connection.stage == Stage::Opening {
                return self.close_because(peer, reason);
            }
            connection.reading = Half::Finished;
            connection.note_reason(reason);
            self.end_writing(peer);
        }
    }

    /// Makes the peer's messages wait until [`Board::release`], because the handler is not done with the last one: a long answer
    /// that is sent in pieces, for example. Meanwhile the peer is not read from. If a handler calls this in
    /// [`Handler::on_bytes`](super::Handler::on_bytes), it must itself stop serving.
    pub fn hold(&mut self, peer: Peer) {
        if let Some(connection) = self.get_mut(peer) {
            connection.hold();
        }
    }

    /// Ends what [`Board::hold`] began: what waits is served in the next turn. Without that, it does nothing.
    pub fn release(&mut self, peer: Peer) {
        let Some(connection) = lookup(&mut self.connections, peer) else { return };
        if !connection.release() {
            return;
        }
        self.deadlines.arm(peer.slot, connection.look_at());
        self.enqueue(peer);
    }

    /// Ends our direction only: what waits in the outbox is delivered, then our end of file. Bytes from
    /// the peer are served on. For clients that have asked everything and wait for the answers.
    pub fn half_close(&mut self, peer: Peer) {
        if self.get_mut(peer).is_some() {
            self.end_writing(peer);
        }
    }

    fn end_writing(&mut self, peer: Peer) {
        let now = self.now;
        let Some(connection) = self.get_mut(peer) else { return };
        if connection.end_writing() && connection.outbox.is_empty() {
            connection.waiting_since = now;
        }
        if !connection.flush_is_arranged {
            connection.flush_is_arranged = true;
            self.to_flush.push(peer);
        }
    }

    /// Ends the connection now: what waits in either direction is lost, and the peer may see a reset.
    pub fn close(&mut self, peer: Peer) {
        self.close_because(peer, CloseReason::Closed);
    }

    pub(super) fn close_because(&mut self, peer: Peer, reason: CloseReason) {
        if let Some(connection) = self.get_mut(peer) {
            connection.mark_closed();
            connection.note_reason(reason);
            self.closed.push(peer);
        }
    }

    /// Calls [`Handler::on_timer`](super::Handler::on_timer) with this key when `delay` has passed: never earlier, and
    /// later only if the loop is busy. A timer without a delay fires after the timers that are due in this turn. If it is set
    /// later in the turn (in `on_drain` of the flush phase, in `on_close`, or in the callback of such a timer), it fires in the
    /// next turn. Use it for work that is done once for everything that was served in the turn. A timer cannot be cancelled, so
    /// the handler must remember which ones it no longer wants.
    pub fn set_timer(&mut self, delay: Duration, key: u64) {
        self.set_timer_of(0, delay, key);
    }

    /// [`Board::set_timer`], for one of several owners that share the board and choose their keys independently.
    pub fn set_timer_of(&mut self, owner: u64, delay: Duration, key: u64) {
        let timer = Timer { owner, key };
        match delay.is_zero() {
            true => self.without_delay.push(timer),
            false => self.timers.set(self.now.after(delay), timer),
        }
    }

    /// Takes over an outgoing (or otherwise obtained) stream. [`Handler::on_open`](super::Handler::on_open) follows when it is
    /// established, or [`Handler::on_close`](super::Handler::on_close) if that fails.
    ///
    /// # Errors
    /// At `connections_max`, and where the poll refuses the stream.
    pub fn connect(&mut self, mut transport: T, state: S) -> io::Result<Peer> {
        if self.is_full() {
            let message = format!("{} connections are open, the most allowed", self.connections.len());
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, message));
        }
        let peer = self.next_name();
        self.watch(&mut transport, peer)?;
        let limits = Arc::clone(&self.limits);
        self.insert(peer, transport, state, NO_LISTENER, limits);
        self.counters.connected += 1;
        Ok(peer)
    }

    /// Takes over a stream that a listener has accepted. If the poll refuses it, its end is reported like any other.
    pub(super) fn insert_accepted(
        &mut self,
        mut transport: T,
        state: S,
        listener: u32,
        limits: &Arc<Limits>,
    ) {
        let peer = self.next_name();
        let watched = self.watch(&mut transport, peer);
        self.insert(peer, transport, state, listener, Arc::clone(limits));
        if let Err(error) = watched {
            log::warn!("an accepted connection could not be watched: {error}");
            self.close_because(peer, CloseReason::Unestablished(error.kind()));
        }
    }

    /// The name of the connection that is inserted next.
    fn next_name(&mut self) -> Peer {
        self.last_generation = self.last_generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        Peer { slot: self.connections.vacant_key() as u32, generation: self.last_generation }
    }

    /// Has the poll report the stream's events, in both directions, for the connection's whole life. Priority is asked for because
    /// a read stops short at urgent data, which must not pass for would-block.
    fn watch(&self, transport: &mut T, peer: Peer) -> io::Result<()> {
        self.registry.register(transport, Source::Connection(peer).token(), EVERY_INTEREST)
    }

    fn insert(&mut self, peer: Peer, transport: T, state: S, listener: u32, limits: Arc<Limits>) {
        let connection = Connection::new(transport, state, peer, self.now, listener, limits, &self.tally);
        self.deadlines.arm(peer.slot, connection.deadline().0);
        let slot = self.connections.insert(connection);
        debug_assert_eq!(slot, peer.slot as usize);
        self.connections_peak = self.connections_peak.max(self.connections.len());
        self.enqueue(peer);
    }

    /// Queues the connection, to be established or to be served. The note phase comes before these phases, so what it queues has
    /// its turn at once. What later phases queue waits for the next turn. Does nothing for a connection that is queued already, or closed.
    #[inline]
    pub(super) fn enqueue(&mut self, peer: Peer) {
        let Some(connection) = lookup(&mut self.connections, peer) else { return };
        if mem::replace(&mut connection.queued, true) {
            return;
        }
        match connection.stage {
            Stage::Opening => self.opening.push_back(peer),
            Stage::Open | Stage::Closed => self.queue.push_back(Source::Connection(peer).token()),
        }
    }

    /// The same for one that has had its share of this turn: it is served behind all others.
    pub(super) fn enqueue_behind(&mut self, peer: Peer) {
        let Some(connection) = lookup(&mut self.connections, peer) else { return };
        if !mem::replace(&mut connection.queued, true) {
            self.queue_behind.push_back(Source::Connection(peer).token());
        }
    }

    /// The same for a socket of datagrams.
    pub(super) fn enqueue_datagrams(&mut self, index: usize) {
        let Some(socket) = self.datagrams.get_mut(index) else { return };
        if !mem::replace(&mut socket.queued, true) {
            self.queue.push_back(Source::Datagram(index as u32).token());
        }
    }

    /// Has a listener's connections go as far as these limits from now on. A deadline that has come nearer
    /// is not missed.
    pub(super) fn set_limits_of(&mut self, listener: u32, limits: &Arc<Limits>) {
        let mut resumed = Vec::new();
        for (slot, connection) in &mut self.connections {
            if let Some(peer) = connection.peer.filter(|_| connection.listener == listener) {
                if connection.set_limits(Arc::clone(limits)) {
                    resumed.push(peer);
                }
                self.deadlines.arm(slot as u32, connection.look_at());
            }
        }
        resumed.into_iter().for_each(|peer| self.enqueue(peer));
    }

    /// Has a listener's edge reported again, if connections wait now.
    pub(super) fn watch_again(&self, listener: &mut T::Listener, token: Token) -> io::Result<()> {
        self.registry.reregister(listener, token, Interest::READABLE)
    }

    /// Whether the peer is there, and not marked to be closed.
    pub fn is_open(&self, peer: Peer) -> bool {
        self.get(peer).is_some()
    }

    /// How many bytes may be sent to the peer before it is congested; `None` where that is none: it is congested, our
    /// direction is finishing, or the connection is closed. A handler that has much to send fills the outbox in a loop
    /// (`while let Some(room) = board.room(peer)`) and goes on in [`Handler::on_drain`](super::Handler::on_drain). Such a
    /// loop comes to an end by itself: what is sent takes from the room, and where nothing is taken there is no room.
    #[inline]
    pub fn room(&self, peer: Peer) -> Option<NonZeroUsize> {
        let connection = self.get(peer).filter(|connection| connection.writing == Half::Open)?;
        if connection.pressure == Pressure::Overflow {
            return None;
        }
        NonZeroUsize::new(connection.limits.outbox_bytes_high.saturating_sub(connection.outbox.len()))
    }

    /// Whether so much waits for the peer that no more of its messages should be served for now.
    #[inline]
    pub fn congested(&self, peer: Peer) -> bool {
        self.get(peer).is_some_and(|connection| connection.congested())
    }

    /// How many bytes wait for the peer; 0 for one that is gone.
    pub fn outbox_bytes(&self, peer: Peer) -> usize {
        self.get(peer).map_or(0, |connection| connection.outbox.len())
    }

    /// The handler's own state of this connection, if one more of its messages may be served now: it is
    /// neither closed nor finished, its outbox has room for a reply, and its share of the turn is not
    /// spent. Asked before each message.
    #[inline(always)]
    pub fn admit_message(&mut self, peer: Peer) -> Option<&mut S> {
        let connection = lookup(&mut self.connections, peer)?;
        let serving = connection.reading != Half::Finished && !connection.congested();
        if !serving {
            return None;
        }
        if self.share.unchecked == 0 {
            let time = self.time_runs.then(|| self.clock.now());
            self.share.extend(&connection.limits, time, self.now.after(self.limits.serve_time_per_turn));
            if self.share.is_spent {
                return None;
            }
        }
        self.share.unchecked -= 1;
        Some(&mut connection.state)
    }

    /// The handler's own state of this connection; `None` once it is closed.
    #[inline]
    pub fn state(&mut self, peer: Peer) -> Option<&mut S> {
        self.get_mut(peer).map(|connection| &mut connection.state)
    }

    /// The connection's transport, to ask it for an address or an option; `None` once it is closed.
    pub fn transport(&self, peer: Peer) -> Option<&T> {
        self.get(peer).map(|connection| &connection.transport)
    }

    /// The names of all open connections, in no particular order.
    pub fn peers(&self) -> impl Iterator<Item = Peer> + '_ {
        self.connections
            .iter()
            .filter(|(_, connection)| connection.stage == Stage::Open)
            .filter_map(|(_, connection)| connection.peer)
    }

    /// How many connections there are, in whatever stage.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is no place for one more connection: they and the descriptors that the handler has claimed are as many
    /// as [`Limits::connections_max`] allows.
    pub(super) fn is_full(&self) -> bool {
        self.connections.len() + self.descriptors.claimed() >= self.limits.connections_max
    }

    /// A descriptor for something that the handler keeps open, as a file that it sends. `None` where there is none: these
    /// descriptors count against [`Limits::connections_max`], and have at most half of what the connections leave, so that
    /// a peer that comes then can be told so. It is given back when it is dropped.
    pub fn claim_descriptor(&self) -> Option<Descriptor> {
        self.descriptors.claim(self.connections.len(), self.limits.connections_max)
    }

    /// How many descriptors the handler has claimed and not given back.
    pub fn descriptors(&self) -> usize {
        self.descriptors.claimed()
    }

    /// How many connections are in their handshake, are open, and are ending.
    pub fn stages(&self) -> (usize, usize, usize) {
        let count = |column| self.tally[column as usize].load(Ordering::Relaxed);
        debug_assert!([Column::Opening, Column::Open, Column::Ending].into_iter().all(|column| {
            let in_it = |(_, connection): &(usize, &Connection<T, S>)| connection.column() == column;
            count(column) == self.connections.iter().filter(in_it).count()
        }));
        (count(Column::Opening), count(Column::Open), count(Column::Ending))
    }

    /// What time it is for this turn: a sample of the clock from its beginning, or from when a timer came due in it.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Returns the present time. Unlike [`Board::now`], this looks at the clock.
    pub fn clock(&self) -> Moment {
        self.clock.now().max(self.now)
    }

    /// Returns the limits of a turn, and of connections without limits of their own.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What happened since the reactor was made.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Asks the loop's owner for a graceful stop. [`Turn::shutdown`](super::Turn::shutdown) reports it when this turn has ended.
    pub fn shutdown(&mut self) {
        self.shutdown = true;
    }

    /// Whether the reactor is stopping: see [`Reactor::drain`](super::Reactor::drain).
    pub fn draining(&self) -> bool {
        self.draining
    }

    /// Gives back memory that a burst of connections took, once three quarters of them are gone; returns whether it did.
    /// Slots at the end can be given back, those in the middle can't: peers' names say where they are. And spare blocks
    /// lie about among blocks that have been freed: as long as they are kept, malloc keeps what lies between (7 MB, after
    /// 5,000 members of a room had gone).
    pub(super) fn shrink(&mut self) -> bool {
        let count = self.connections.len();
        if self.connections_peak <= KEPT_ENTRIES || count >= self.connections_peak / 4 {
            return false;
        }
        self.connections_peak = count;
        self.connections.shrink_to_fit();
        self.spares.clear();
        for list in [&mut self.closed, &mut self.to_flush] {
            list.shrink_to(KEPT_ENTRIES);
        }
        self.opening.shrink_to(KEPT_ENTRIES);
        self.queue.shrink_to(KEPT_ENTRIES);
        self.queue_behind.shrink_to(KEPT_ENTRIES);
        true
    }

    #[inline]
    pub(super) fn get(&self, peer: Peer) -> Option<&Connection<T, S>> {
        self.connections.get(peer.slot as usize).filter(|connection| connection.peer == Some(peer))
    }

    #[inline]
    pub(super) fn get_mut(&mut self, peer: Peer) -> Option<&mut Connection<T, S>> {
        lookup(&mut self.connections, peer)
    }
}

/// Tables of fewer entries are not worth to be made smaller.
pub(super) const KEPT_ENTRIES: usize = 1024;

/// Returns the connection with this name. (Not a method of the board, so that the board's other fields stay
/// free for use.)
#[inline(always)]
pub(super) fn lookup<T, S>(
    connections: &mut Slab<Connection<T, S>>,
    peer: Peer,
) -> Option<&mut Connection<T, S>> {
    connections.get_mut(peer.slot as usize).filter(|connection| connection.peer == Some(peer))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const EVERY_INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const EVERY_INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);
