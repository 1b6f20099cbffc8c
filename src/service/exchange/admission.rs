//! Admission: which connections and datagrams the guard lets in, and the log of those that it refuses.
//!
//! A connection from a trusted proxy is admitted as it is. When its PROXY header has come, the client that the header names is
//! admitted or refused like a peer of its own.

use std::io;
use std::time::Duration;

use super::places::Places;
use crate::guard::{Reason, Ticket};
use crate::protocol::Protocol;
use crate::protocol::proxy::{Introduced, Problem};
use crate::reactor::{Board, Moment, Opening, Peer, Route};
use crate::service::Switchboard;
use crate::service::conversation::{ByProxy, Conversation};
use crate::transport::{Address, Stream};

impl Places {
    /// Admits a connection that a listener has accepted, or logs its refusal.
    #[inline]
    pub(super) fn admit(
        &mut self,
        listener: usize,
        stream: &mut Stream,
        address: &Address,
        now: Moment,
    ) -> Option<Conversation> {
        let place = self.listener(listener)?;
        let mut conversation =
            Conversation::new(Protocol::new(place.framing, place.message_bytes_max), listener);
        let is_proxy = match address {
            Address::Ip(address) => place.guard.is_proxy(address.ip()),
            Address::Unix => place.guard.is_unix_proxy(),
        };
        if is_proxy {
            stream.expect_header();
            conversation.by_proxy = Some(Box::new(ByProxy::Expected(*address)));
            return Some(conversation);
        }
        if let Address::Ip(address) = address {
            match place.guard.admit(address.ip(), since_start(now)) {
                Ok(ticket) => conversation.ticket = ticket,
                Err(reason) => {
                    self.refusals.log(address, reason, since_start(now));
                    return None;
                }
            }
        }
        Some(conversation)
    }

    /// Vets a step of a new connection. If that was a proxy's header, the client that it names is admitted or refused.
    pub(super) fn vet(
        &mut self,
        conversation: &mut Conversation,
        stream: &mut Stream,
        step: Result<Opening, &io::Error>,
        now: Moment,
    ) -> bool {
        let listener = conversation.listener();
        let Some(by_proxy) = conversation.by_proxy.as_deref_mut() else { return true };
        let ByProxy::Expected(proxy) = *by_proxy else { return true };
        let Some(place) = self.listener(listener) else { return false };
        let now = since_start(now);
        if let Err(error) = step {
            let reason = match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(Problem::Missing) => Reason::NoHeader,
                Some(Problem::Malformed(_)) => Reason::BadHeader,
                None => return true, // the connection is gone: there is nothing to refuse
            };
            place.guard.refuse(reason);
            self.refusals.log(format_args!("{proxy} ({error})"), reason, now);
            return false;
        }
        let client = match stream.take_introduced() {
            None => return true, // its header has not come yet
            Some(Introduced::Proxy) => {
                *by_proxy = ByProxy::Itself;
                return true;
            }
            Some(Introduced::Ip(address)) => Address::Ip(address),
            Some(Introduced::Unix) => Address::Unix,
            // The proxy does not know the client. Its own address is the nearest that we have.
            Some(Introduced::Unknown) => proxy,
        };
        if let Address::Ip(address) = client {
            match place.guard.admit(address.ip(), now) {
                Ok(ticket) => conversation.ticket = ticket,
                Err(reason) => {
                    self.refusals.log(format_args!("{address} by {proxy}"), reason, now);
                    return false;
                }
            }
        }
        *by_proxy = ByProxy::Introduced(client);
        true
    }

    /// Gives the place of a connection that has ended back to its address.
    pub(super) fn release(&mut self, conversation: Conversation, now: Moment) {
        if conversation.ticket != Ticket::NONE
            && let Some(place) = self.listener(conversation.listener())
        {
            place.guard.release(conversation.ticket, since_start(now));
        }
    }

    /// Admits a datagram that came to a socket. Returns the most bytes that may answer it, or `None` if it is refused.
    #[inline]
    pub(super) fn admit_datagram(
        &mut self,
        board: &Board<Stream, Conversation>,
        socket: usize,
        route: Route,
        bytes: &[u8],
    ) -> Option<usize> {
        let place = self.socket(socket)?;
        let now = since_start(board.now());
        let admitted = match board.is_own_datagram_address(route.peer) {
            true => {
                place.guard.refuse(Reason::OwnSocket);
                Err(Reason::OwnSocket)
            }
            false => place.guard.admit_datagram(route.peer.ip(), now),
        };
        match admitted {
            Ok(()) if place.amplify => Some(usize::MAX),
            Ok(()) => Some(bytes.len()),
            Err(reason) => {
                self.refusals.log(route.peer, reason, now);
                None
            }
        }
    }

    /// Counts and logs that a request of an admitted peer is refused. `what` follows the peer's address in the log.
    #[cold]
    pub(super) fn refuse_request(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        reason: Reason,
        what: &str,
    ) {
        let Some(listener) = board.state(from).map(|conversation| conversation.listener()) else { return };
        if let Some(place) = self.listener(listener) {
            place.guard.refuse(reason);
        }
        let now = since_start(board.now());
        match Switchboard::new(board).address(from) {
            Some(address) => self.refusals.log(format_args!("{address}{what}"), reason, now),
            None => self.refusals.log(format_args!("{from}{what}"), reason, now),
        }
    }
}

/// The guard has no clock: it takes times as the duration since the loop began.
fn since_start(now: Moment) -> Duration {
    now.since(Moment::default())
}
