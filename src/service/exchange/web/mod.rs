//! HTTP and WebSocket: where a peer's bytes mean more than messages.
//!
//! - [`requests`]: one request after the other, each when the one before has been answered;
//! - [`upgrading`]: a request that makes a WebSocket of its connection;
//! - [`frames`]: a WebSocket's messages;
//! - [`state`]: what is kept for that, and what the exchange asks without serving;
//! - [`status`]: `/metrics` and `/healthz`;
//! - [`goodbyes`]: WebSockets are closed in groups when the server stops.

mod frames;
mod goodbyes;
mod requests;
mod state;
mod status;
mod upgrading;

use std::mem;
use std::time::Duration;

use super::Exchange;
use crate::reactor::{Board, Buffer, Peer};
use crate::service::Service;
use crate::service::ambient::Ambient;
use crate::service::clock::Clock;
use crate::service::conversation::Conversation;
use crate::service::metrics::Unlogged;
use crate::transport::Stream;

pub(super) use goodbyes::OWNER;
pub(super) use state::{Web, is_yet_to_upgrade, probe};

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
