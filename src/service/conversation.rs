//! What the exchange keeps of each connection. The reactor stores it, and a `Switchboard` looks things up in it.

use crate::guard::Ticket;
use crate::protocol::Protocol;
#[cfg(feature = "web")]
use crate::protocol::{Web, http::Http, websocket::WebSocket};
use crate::transport::Address;

/// What the exchange keeps of each connection.
#[derive(Debug)]
pub struct Conversation {
    pub(super) protocol: Protocol,
    /// The listener that accepted it.
    listener: u32,
    /// Its place among the counted connections of its address; see [`Guard::admit`](crate::guard::Guard::admit).
    pub(super) ticket: Ticket,
    /// Only if a proxy connected to us. In a box, so that other connections pay one word for it.
    pub(super) by_proxy: Option<Box<ByProxy>>,
}

/// Which peer a proxy speaks for.
#[derive(Debug)]
pub(super) enum ByProxy {
    /// The proxy is at this address, and its header has not come yet.
    Expected(Address),
    /// For itself: a health check.
    Itself,
    /// For a client at this address.
    Introduced(Address),
}

impl Conversation {
    /// At its beginning, on a connection that this listener accepted.
    pub fn new(protocol: Protocol, listener: usize) -> Conversation {
        Conversation { protocol, listener: listener as u32, ticket: Ticket::NONE, by_proxy: None }
    }

    /// Returns the peer's address if a proxy named it. Otherwise the peer is where its socket is.
    pub fn introduced(&self) -> Option<Address> {
        match self.by_proxy.as_deref() {
            Some(ByProxy::Introduced(address)) => Some(*address),
            _ => None,
        }
    }

    /// Whether a proxy speaks for itself here, or its header has not come yet. A proxy is trusted, so the guard's limits do not
    /// apply.
    pub fn is_proxys_own(&self) -> bool {
        matches!(self.by_proxy.as_deref(), Some(ByProxy::Itself | ByProxy::Expected(_)))
    }

    /// The listener that accepted it.
    pub fn listener(&self) -> usize {
        self.listener as usize
    }
}

#[cfg(feature = "web")]
impl Conversation {
    /// Returns the protocol if that is HTTP now.
    pub(super) fn http(&mut self) -> Option<&mut Http> {
        match &mut self.protocol {
            Protocol::Web(web) => match &mut **web {
                Web::Http(http) => Some(http),
                Web::WebSocket(_) => None,
            },
            Protocol::Plain(_) => None,
        }
    }

    /// Returns the protocol if that is WebSocket now.
    pub(super) fn websocket(&mut self) -> Option<&mut WebSocket> {
        match &mut self.protocol {
            Protocol::Web(web) => match &mut **web {
                Web::WebSocket(socket) => Some(socket),
                Web::Http(_) => None,
            },
            Protocol::Plain(_) => None,
        }
    }
}
