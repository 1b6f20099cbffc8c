//! A listener: its latch, its limits, and whether accepting has to wait. How it accepts: see `accept`.
//!
//! An edge-triggered listener that stops accepting goes deaf: the edge that reported the waiting connections
//! does not come again. So a listener that stops keeps its latch, and a [`Pause`] says until when.
//!
//! Invariant: a listener with its latch set stands in the queue, or accepting pauses.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::board::Board;
use super::limits::Limits;
use super::timers::Moment;
use super::token::Source;
use super::transport::Transport;

/// Pauses with less than this between them are one episode, which the log has one line for: at a limit, one client goes
/// and the next one comes, and each of them would be a line.
const EPISODE_GAP: Duration = Duration::from_secs(10);

pub(super) struct Listener<L> {
    /// `None` once it listens no more. Its index stays its own as long as connections bear it.
    pub(super) socket: Option<L>,
    /// How far its connections may go, and how many of them there may be.
    pub(super) limits: Arc<Limits>,
    /// Its connections.
    pub(super) connections: usize,
    /// Those of them that are not established yet.
    pub(super) handshakes: usize,
    /// The latch: connections may be waiting.
    pub(super) readable: bool,
    pub(super) queued: bool,
    /// It is about to close: it accepts until that would block.
    pub(super) leaving: bool,
    pub(super) pause: Pause,
    /// The poll knows the socket under this index.
    pub(super) is_watched: bool,
    /// Accepting pauses, or has paused and not caught up since.
    pub(super) is_behind: bool,
    /// When accepting paused last in the episode that the log has a line for.
    paused_at: Option<Moment>,
    /// See [`Listener::accepts_to_try`].
    streak: usize,
    /// The turn in which the poll was asked whether there are more, unless accepting has paused since.
    pub(super) asked_in: Option<u64>,
}

/// Why a listener with waiting connections does not accept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    No,
    /// As many connections are open as there may be, in all or of this listener: until one is closed.
    Full,
    /// As many connections are in their handshake as there may be: until one is through, or closed.
    Handshakes,
    /// accept(2) had no descriptor or memory left: until a connection is closed, or this moment.
    Starved(Moment),
    /// The loop's owner needs the descriptors that are left: see `Reactor::pause_accepting`.
    ByOwner,
}

impl<L> Listener<L> {
    pub(super) fn new(socket: L, limits: Arc<Limits>) -> Self {
        Listener {
            socket: Some(socket),
            limits,
            connections: 0,
            handshakes: 0,
            readable: false,
            queued: false,
            leaving: false,
            pause: Pause::No,
            is_watched: true,
            is_behind: false,
            paused_at: None,
            streak: 1,
            asked_in: None,
        }
    }

    /// Nothing of it is left, so its index may name another one.
    pub(super) fn is_vacant(&self) -> bool {
        self.socket.is_none() && self.connections == 0
    }

    /// Queues the listener, to be served; see [`Board::enqueue`].
    pub(super) fn enqueue<T: Transport, S>(&mut self, board: &mut Board<T, S>, index: usize) {
        if !mem::replace(&mut self.queued, true) {
            board.queue.push_back(Source::Listener(index as u32).token());
        }
    }

    /// How many accepts to try in this turn, at most `budget`, before the poll is asked whether there are more: twice as many
    /// as the last time, if it reported more at once; otherwise one.
    pub(super) fn accepts_to_try(&mut self, turn: u64, budget: usize) -> usize {
        let reported_at_once = self.asked_in.is_some_and(|asked_in| turn <= asked_in + 1);
        if self.asked_in.take().is_some() && !reported_at_once {
            self.is_behind = false; // for a while, no connection has been waiting
        }
        self.streak = match (self.leaving, reported_at_once) {
            (true, _) => budget, // until it would block
            (false, true) => (2 * self.streak).min(budget),
            (false, false) => 1,
        };
        self.streak
    }

    /// Accepting pauses. Returns whether that begins an episode, which gets a line in the log.
    pub(super) fn begin_pause(&mut self, pause: Pause, now: Moment, pauses: &mut u64) -> bool {
        self.pause = pause;
        *pauses += u64::from(!mem::replace(&mut self.is_behind, true));
        self.paused_at.replace(now).is_none_or(|last| now.since(last) > EPISODE_GAP)
    }
}

/// Ends a listener's pause, except one that the loop's owner asked for. Its latch was kept, so that the waiting connections are not
/// forgotten.
pub(super) fn resume_unless_by_owner<T: Transport, S>(
    board: &mut Board<T, S>,
    index: usize,
    listener: &mut Listener<T::Listener>,
) {
    if listener.pause == Pause::ByOwner {
        return;
    }
    listener.pause = Pause::No;
    if listener.readable {
        listener.enqueue(board, index);
    }
}
