//! HTTP and WebSocket: where a peer's bytes mean more than messages.
//!
//! - [`requests`]: one request after the other, each when the one before has been answered;
//! - [`upgrading`]: a request that makes a WebSocket of its connection;
//! - [`frames`]: a WebSocket's messages;
//! - [`status`]: `/metrics` and `/healthz`;
//! - [`goodbyes`]: WebSockets are closed in groups when the server stops.

mod frames;
mod goodbyes;
mod requests;
mod status;
mod upgrading;

use std::mem;
use std::time::Duration;

use super::Exchange;
use super::places::Places;
use crate::protocol::{Framing, Protocol, Web as Spoken};
use crate::reactor::{Board, Buffer, Peer};
use crate::service::Service;
use crate::service::ambient::Ambient;
use crate::service::clock::Clock;
use crate::service::conversation::Conversation;
use crate::service::metrics::Unlogged;
use crate::transport::Stream;
use goodbyes::Goodbyes;
use status::Status;

/// What it takes to serve HTTP and WebSockets, beside the service and the places.
pub(super) struct Web {
    clock: Clock,
    /// A body that came in chunks, or a message without its mask, is put together here.
    scratch: Vec<u8>,
    status: Status,
    goodbyes: Goodbyes,
}

impl Web {
    pub(super) fn new() -> Web {
        Web {
            clock: Clock::new(&Ambient::machine()),
            scratch: Vec::new(),
            status: Status::default(),
            goodbyes: Goodbyes::default(),
        }
    }

    pub(super) fn says_goodbye_later(&mut self, board: &mut Board<Stream, Conversation>, peer: Peer) -> bool {
        self.goodbyes.add(board, peer)
    }

    pub(super) fn say_some_goodbyes(&mut self, board: &mut Board<Stream, Conversation>) {
        self.goodbyes.say_some(board);
    }

    /// Keeps the memory of `scratch` for the next body or message that must be put together, if it is not too much.
    fn keep(&mut self, scratch: Vec<u8>) {
        const SCRATCH_BYTES_MAX: usize = 64 * 1024;
        if scratch.capacity() <= SCRATCH_BYTES_MAX {
            self.scratch = scratch;
        }
    }
}

impl<S: Service> Exchange<S> {
    /// Sets where the time of day comes from, which each answer carries (RFC 9110, section 6.6.1).
    pub fn set_ambient(&mut self, ambient: &Ambient) {
        self.web.clock = Clock::new(ambient);
    }

    /// Sets the function that returns what the logs could not take, for `/metrics`.
    pub fn count_unlogged_by(&mut self, unlogged: fn() -> Unlogged) {
        self.web.status.unlogged = unlogged;
    }

    /// Sets the time in which WebSockets are closed when the server stops, if there are many of them. Their clients
    /// connect again at once, and must not do so all at the same time. The default is 5 seconds.
    pub fn set_leave_within(&mut self, time: Duration) {
        self.web.goodbyes.within = time;
    }

    /// Serves a peer that speaks HTTP or WebSocket. Cold, though it need not be: so the compiler keeps the path of plain
    /// bytes, which is counted in instructions, as if this one were not there.
    #[cold]
    pub(super) fn serve_web(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        inbox: &mut Buffer,
    ) {
        let mut permit = Permit::Given;
        let mut scratch = mem::take(&mut self.web.scratch);
        if board.state(from).is_some_and(|conversation| conversation.http().is_some()) {
            self.serve_requests(board, from, inbox, &mut scratch, &mut permit);
        }
        // A request may have made it a WebSocket.
        if board.state(from).is_some_and(|conversation| conversation.websocket().is_some()) {
            self.serve_frames(board, from, inbox, &mut scratch, &mut permit);
        }
        self.web.keep(scratch);
    }
}

/// Whether the connection is at a WebSocket listener and still speaks HTTP. There, the service does not know a peer before
/// its upgrade.
pub(super) fn is_yet_to_upgrade(conversation: &Conversation, places: &mut Places) -> bool {
    let speaks_http = match &conversation.protocol {
        Protocol::Web(web) => matches!(**web, Spoken::Http(_)),
        Protocol::Plain(_) => false,
    };
    speaks_http
        && places.listener(conversation.listener()).is_some_and(|place| place.framing == Framing::WebSocket)
}

/// Sends a ping to an idle WebSocket. Returns whether it did.
pub(super) fn probe(board: &mut Board<Stream, Conversation>, peer: Peer) -> bool {
    let Some((conversation, mut outbox)) = board.outbox(peer) else { return false };
    conversation.websocket().is_some_and(|socket| socket.ask(&mut outbox))
}

/// Permission to serve one message. [`Board::admit_message`] must be called once for each message, because each call uses up one
/// message of the connection's share. `on_bytes` calls it before it looks at the protocol, and passes the permission on. (With
/// a second call, a connection with a share of one message was never served.)
enum Permit {
    Given,
    Used,
}

impl Permit {
    /// Returns the peer's conversation if one more of its messages may be served.
    fn take<'a>(
        &mut self,
        board: &'a mut Board<Stream, Conversation>,
        peer: Peer,
    ) -> Option<&'a mut Conversation> {
        match mem::replace(self, Permit::Used) {
            Permit::Given => board.state(peer),
            Permit::Used => board.admit_message(peer),
        }
    }
}
