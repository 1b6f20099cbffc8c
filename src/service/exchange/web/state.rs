//! What the exchange keeps for HTTP and WebSockets, and what it asks about them without serving anything.

use super::goodbyes::Goodbyes;
use crate::protocol::{Framing, Protocol, Web as Spoken};
use crate::reactor::{Board, Peer};
use crate::service::ambient::Ambient;
use crate::service::clock::Clock;
use crate::service::conversation::Conversation;
use crate::service::exchange::places::Places;
use crate::service::metrics::Unlogged;
use crate::transport::Stream;

/// For `/metrics`.
pub(super) struct Status {
    /// Returns what the logs could not take.
    pub(super) unlogged: fn() -> Unlogged,
    /// The text of `/metrics`, and the turn in which it was made. In one turn it is made once, whatever the number of requests.
    pub(super) metrics: Option<(u64, String)>,
}

impl Default for Status {
    fn default() -> Status {
        Status { unlogged: Unlogged::default, metrics: None }
    }
}

/// What it takes to serve HTTP and WebSockets, beside the service and the places.
pub(in crate::service::exchange) struct Web {
    pub(super) clock: Clock,
    /// A body that came in chunks, or a message without its mask, is put together here.
    pub(super) scratch: Vec<u8>,
    pub(super) status: Status,
    pub(super) goodbyes: Goodbyes,
}

impl Web {
    pub(in crate::service::exchange) fn new() -> Web {
        Web {
            clock: Clock::new(&Ambient::machine()),
            scratch: Vec::new(),
            status: Status::default(),
            goodbyes: Goodbyes::default(),
        }
    }

    pub(in crate::service::exchange) fn queue_goodbye(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        peer: Peer,
    ) -> bool {
        self.goodbyes.add(board, peer)
    }

    pub(in crate::service::exchange) fn send_goodbyes(&mut self, board: &mut Board<Stream, Conversation>) {
        self.goodbyes.send_some(board);
    }

    /// Keeps the memory of `scratch` for the next body or message that must be put together, if it is not too much.
    pub(super) fn keep(&mut self, scratch: Vec<u8>) {
        const SCRATCH_BYTES_MAX: usize = 64 * 1024;
        if scratch.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch = scratch;
        }
    }
}

/// Whether the connection is at a WebSocket listener and still speaks HTTP. There, the service does not know a peer before
/// its upgrade.
pub(in crate::service::exchange) fn is_yet_to_upgrade(
    conversation: &Conversation,
    places: &mut Places,
) -> bool {
    let speaks_http = match &conversation.protocol {
        Protocol::Web(web) => matches!(**web, Spoken::Http(_)),
        Protocol::Plain(_) => false,
    };
    speaks_http
        && places.listener(conversation.listener()).is_some_and(|place| place.framing == Framing::WebSocket)
}

/// Sends a ping to an idle WebSocket. Returns whether it did.
pub(in crate::service::exchange) fn probe(board: &mut Board<Stream, Conversation>, peer: Peer) -> bool {
    let Some((conversation, mut outbox)) = board.outbox(peer) else { return false };
    conversation.websocket().is_some_and(|socket| socket.ask(&mut outbox))
}
