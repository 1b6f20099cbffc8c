//! A directory of services: several in one process, each listener with its own.
//!
//! The directory is a service itself, and asks by which listener a peer came. Which service that is, is one
//! `match`: so each of them is compiled for itself, and nobody pays for a call through a pointer. Listeners that
//! are to have the same service share one, with all its state: who comes in by either meets in the same room.
//!
//! Invariant: a listener keeps its service, so that a peer's first and last event come to the same one. (To have
//! another, its socket is given a new listener; see `Running` in `server::running`.)

use crate::protocol::Message;
#[cfg(feature = "web")]
use crate::protocol::http::Request;
use crate::reactor::{CloseReason, Peer};

#[cfg(feature = "web")]
use super::chat::{self, Chat};
use super::discard::Discard;
use super::echo::Echo;
#[cfg(feature = "web")]
use super::relay::{self, Relay};
use super::reply::Reply;
use super::source::Source;
#[cfg(feature = "web")]
use super::web::{Site, Web};
use super::{Origin, Service, Switchboard};

/// Which service, with what tells it from others of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// See [`Echo`].
    Echo,
    /// See [`Reply`].
    Reply {
        /// What is answered.
        answer: String,
    },
    /// See [`Discard`].
    Discard,
    /// See [`Source`].
    Source,
    /// See [`Chat`].
    #[cfg(feature = "web")]
    Chat {
        /// How it goes.
        rules: chat::Rules,
    },
    /// See [`Relay`].
    #[cfg(feature = "web")]
    Relay {
        /// How it goes.
        rules: relay::Rules,
    },
    /// See [`Web`].
    #[cfg(feature = "web")]
    Web {
        /// What is served.
        site: Site,
    },
}

impl Which {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Which::Echo => "echo",
            Which::Reply { .. } => "reply",
            Which::Discard => "discard",
            Which::Source => "source",
            #[cfg(feature = "web")]
            Which::Chat { .. } => "chat",
            #[cfg(feature = "web")]
            Which::Relay { .. } => "relay",
            #[cfg(feature = "web")]
            Which::Web { .. } => "web",
        }
    }
}

/// A service of the directory.
enum Entry {
    Echo(Echo),
    Reply(Reply),
    Discard(Discard),
    Source(Source),
    #[cfg(feature = "web")]
    Chat(Box<Chat>),
    #[cfg(feature = "web")]
    Relay(Box<Relay>),
    #[cfg(feature = "web")]
    Web(Box<Web>),
}

impl Entry {
    fn new(which: &Which) -> Entry {
        match which {
            Which::Echo => Entry::Echo(Echo),
            Which::Reply { answer } => Entry::Reply(Reply::new(answer.as_str())),
            Which::Discard => Entry::Discard(Discard),
            Which::Source => Entry::Source(Source::default()),
            #[cfg(feature = "web")]
            Which::Chat { rules } => Entry::Chat(Box::new(Chat::new(*rules))),
            #[cfg(feature = "web")]
            Which::Relay { rules } => Entry::Relay(Box::new(Relay::new(*rules))),
            #[cfg(feature = "web")]
            Which::Web { site } => Entry::Web(Box::new(Web::new(site.clone()))),
        }
    }
}

/// See the module's text.
#[derive(Default)]
pub struct Directory {
    entries: Vec<(Which, Entry)>,
    /// The entry of each stream listener, by its index, and of each datagram socket.
    listeners: Vec<usize>,
    sockets: Vec<usize>,
}

impl Directory {
    /// Who comes by this stream listener is served by that service.
    ///
    /// # Panics
    /// Where listeners are assigned in another order than that of their indexes.
    pub fn assign_listener(&mut self, index: usize, which: &Which) {
        assert_eq!(index, self.listeners.len(), "listeners are assigned one by one");
        let entry = self.entry(which);
        self.listeners.push(entry);
    }

    /// Datagrams to this socket are served by that service.
    ///
    /// # Panics
    /// Where sockets are assigned in another order than that of their indexes.
    pub fn assign_socket(&mut self, index: usize, which: &Which) {
        assert_eq!(index, self.sockets.len(), "sockets are assigned one by one");
        let entry = self.entry(which);
        self.sockets.push(entry);
    }

    fn entry(&mut self, which: &Which) -> usize {
        match self.entries.iter().position(|(known, _)| known == which) {
            Some(index) => index,
            None => {
                self.entries.push((which.clone(), Entry::new(which)));
                self.entries.len() - 1
            }
        }
    }
}

/// Calls `$act` with the service of the entry with this index, whose timers are told from those of the others.
macro_rules! with {
    ($directory:expr, $index:expr, $board:expr, |$service:ident| $act:expr) => {{
        let index = $index;
        $board.scope = index as u64;
        match &mut $directory.entries[index].1 {
            Entry::Echo($service) => $act,
            Entry::Reply($service) => $act,
            Entry::Discard($service) => $act,
            Entry::Source($service) => $act,
            #[cfg(feature = "web")]
            Entry::Chat($service) => $act,
            #[cfg(feature = "web")]
            Entry::Relay($service) => $act,
            #[cfg(feature = "web")]
            Entry::Web($service) => $act,
        }
    }};
}

impl Directory {
    /// The entry that serves this peer; `None` for one that is gone.
    #[inline]
    fn of(&self, board: &mut Switchboard<'_>, peer: Peer) -> Option<usize> {
        Some(self.listeners[board.listener(peer)?])
    }
}

impl Service for Directory {
    fn on_open(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        let Some(entry) = self.of(board, peer) else { return };
        with!(self, entry, board, |service| service.on_open(board, peer));
    }

    #[inline]
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        let Some(entry) = self.of(board, from) else { return };
        with!(self, entry, board, |service| service.on_message(board, from, message));
    }

    #[cfg(feature = "web")]
    fn on_request(&mut self, board: &mut Switchboard<'_>, from: Peer, request: &Request<'_>) {
        let Some(entry) = self.of(board, from) else { return };
        with!(self, entry, board, |service| service.on_request(board, from, request));
    }

    #[cfg(feature = "web")]
    fn takes_websocket(&mut self, board: &mut Switchboard<'_>, from: Peer, request: &Request<'_>) -> bool {
        let Some(entry) = self.of(board, from) else { return false };
        with!(self, entry, board, |service| service.takes_websocket(board, from, request))
    }

    #[cfg(feature = "web")]
    fn subprotocols(&mut self, board: &mut Switchboard<'_>, peer: Peer) -> &'static [&'static str] {
        let Some(entry) = self.of(board, peer) else { return &[] };
        with!(self, entry, board, |service| service.subprotocols(board, peer))
    }

    #[cfg(feature = "web")]
    fn on_metrics(&self, text: &mut String) {
        for (_, entry) in &self.entries {
            match entry {
                Entry::Chat(chat) => chat.on_metrics(text),
                Entry::Relay(relay) => relay.on_metrics(text),
                _ => {}
            }
        }
    }

    #[cfg(feature = "web")]
    fn on_upgrade(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        let Some(entry) = self.of(board, peer) else { return };
        with!(self, entry, board, |service| service.on_upgrade(board, peer));
    }

    fn on_datagram(&mut self, board: &mut Switchboard<'_>, from: Origin, bytes: &[u8]) {
        let entry = self.sockets[from.socket];
        with!(self, entry, board, |service| service.on_datagram(board, from, bytes));
    }

    fn on_finish(&mut self, board: &mut Switchboard<'_>, from: Peer) {
        let Some(entry) = self.of(board, from) else { return };
        with!(self, entry, board, |service| service.on_finish(board, from));
    }

    fn on_drain(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        let Some(entry) = self.of(board, peer) else { return };
        with!(self, entry, board, |service| service.on_drain(board, peer));
    }

    fn on_timer(&mut self, board: &mut Switchboard<'_>, key: u64) {
        let entry = board.scope as usize;
        with!(self, entry, board, |service| service.on_timer(board, key));
    }

    fn on_close(&mut self, board: &mut Switchboard<'_>, peer: Peer, reason: CloseReason) {
        let Some(entry) = self.of(board, peer) else { return };
        with!(self, entry, board, |service| service.on_close(board, peer, reason));
    }
}
