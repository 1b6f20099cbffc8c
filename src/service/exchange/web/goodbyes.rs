//! Goodbyes: when the server stops, it closes WebSockets in groups, so that their clients do not all connect to its
//! successor at the same moment.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use crate::reactor::{Board, CloseReason, Moment, Peer};
use crate::service::conversation::Conversation;
use crate::transport::Stream;

/// The owner of the exchange's own timers: no service has this number.
pub(in crate::service::exchange) const OWNER: u64 = u64::MAX;

/// The time between two groups.
const GROUP_EVERY: Duration = Duration::from_millis(10);

/// The least size of a group: 1,000 clients a second can connect to the process that takes our place.
const GROUP_MIN: usize = 10;

/// The WebSockets that must be closed, in the order in which they were found idle.
pub(super) struct Goodbyes {
    waiting: VecDeque<Peer>,
    /// The time in which all of them are closed; it grows less with each group.
    pub(super) within: Duration,
    /// The next group is not closed before this.
    next: Moment,
}

impl Default for Goodbyes {
    fn default() -> Goodbyes {
        Goodbyes { waiting: VecDeque::new(), within: Duration::from_secs(5), next: Moment::default() }
    }
}

impl Goodbyes {
    /// Queues the peer for a goodbye if it is a WebSocket. Returns whether it is one.
    pub(super) fn add(&mut self, board: &mut Board<Stream, Conversation>, peer: Peer) -> bool {
        let Some(socket) = board.state(peer).and_then(Conversation::websocket) else { return false };
        if !mem::replace(&mut socket.is_leaving, true) {
            self.waiting.push_back(peer);
            if self.waiting.len() == 1 {
                board.set_timer_of(OWNER, self.next.since(board.now()), 0);
            }
        }
        true
    }

    /// Closes the next group.
    pub(super) fn send_some(&mut self, board: &mut Board<Stream, Conversation>) {
        let groups = (self.within.as_nanos() / GROUP_EVERY.as_nanos()).max(1);
        let groups = usize::try_from(groups).unwrap_or(usize::MAX);
        let count = (self.waiting.len() / groups + 1).max(GROUP_MIN).min(self.waiting.len());
        for peer in self.waiting.drain(..count) {
            if let Some((conversation, mut outbox)) = board.outbox(peer) {
                conversation.protocol.encode_close(true, &mut outbox);
            }
            board.finish_because(peer, CloseReason::Drained);
        }
        self.within = self.within.saturating_sub(GROUP_EVERY);
        self.next = board.now().after(GROUP_EVERY);
        if !self.waiting.is_empty() {
            board.set_timer_of(OWNER, GROUP_EVERY, 0);
        }
    }
}
