//! A directory of services: several in one process, each listener with its own.
//!
//! The directory is a service itself, and looks up by which listener a peer came. Which service that is, is one
//! `match`: so each of them is compiled for itself, and no message costs a call through a pointer.
//!
//! What a service *is* ([`Which::is_same_service`]) and how it goes (its tunables) are two things. Listeners with the same
//! service share one, with all its state, whatever their tunables; and other tunables are applied to the service that is
//! there. For chat and relay, the name says which it is. Services without a state of their own for many (reply, web) are
//! each listener's own.
//!
//! Invariant: a listener keeps its service as long as it has connections, so that a peer's first and last event come to
//! the same one; and a service that no listener has is dropped.

use std::collections::BTreeMap;

use crate::protocol::Message;
#[cfg(feature = "web")]
use crate::protocol::http::Request;
use crate::reactor::{CloseReason, Peer};

#[cfg(feature = "web")]
use super::ambient::Ambient;
#[cfg(feature = "web")]
use super::chat::{self, Chat};
use super::discard::Discard;
use super::echo::Echo;
#[cfg(feature = "web")]
use super::metrics::Metrics;
#[cfg(feature = "web")]
use super::relay::{self, Relay};
use super::reply::Reply;
use super::source::Source;
#[cfg(feature = "web")]
use super::web::{Site, Web};
use super::{At, Origin, Service, Switchboard};

/// Which service, and how it goes.
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
        /// Chats with different names have nothing to do with each other. It may be empty.
        name: String,
        /// How it goes.
        rules: chat::Rules,
    },
    /// See [`Relay`].
    #[cfg(feature = "web")]
    Relay {
        /// Worlds with different names have nothing to do with each other. It may be empty.
        name: String,
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

impl Which {
    /// Whether listeners with these have, or may go on with, one service: they differ in tunables alone.
    pub fn is_same_service(&self, other: &Which) -> bool {
        match (self, other) {
            #[cfg(feature = "web")]
            (Which::Chat { name, .. }, Which::Chat { name: other, .. })
            | (Which::Relay { name, .. }, Which::Relay { name: other, .. }) => name == other,
            _ => self.name() == other.name(),
        }
    }

    /// Whether listeners that have the same service share it. If not, each has one of its own.
    pub fn is_shared(&self) -> bool {
        match self {
            Which::Reply { .. } => false,
            #[cfg(feature = "web")]
            Which::Web { .. } => false,
            _ => true,
        }
    }

    /// The name that tells it from others of its kind.
    #[cfg(feature = "web")]
    fn own_name(&self) -> &str {
        match self {
            Which::Chat { name, .. } | Which::Relay { name, .. } => name,
            _ => "",
        }
    }
}

/// A service that a server can listen for in more than one place, and change while it runs. None of this can fail.
pub trait Assign: Service {
    /// Serves here from now on as this says. `before`: where the same socket was served until now.
    fn assign(&mut self, at: At, which: &Which, before: Option<At>);
}

/// The only one that there is: it has been made with its tunables.
macro_rules! assign_the_only_one {
    ($($service:ty),*) => {
        $(impl Assign for $service {
            fn assign(&mut self, _at: At, _which: &Which, _before: Option<At>) {}
        })*
    };
}
assign_the_only_one!(Echo, Reply, Discard, Source);
#[cfg(feature = "web")]
assign_the_only_one!(Chat, Relay, Web);

/// A service of the directory.
struct Entry {
    which: Which,
    /// Its timers bear this, and no other service's ever do.
    owner: u64,
    /// How many listeners and sockets have it.
    users: usize,
    service: Kind,
}

enum Kind {
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

impl Kind {
    fn new(which: &Which, #[cfg(feature = "web")] ambient: &Ambient) -> Kind {
        match which {
            Which::Echo => Kind::Echo(Echo),
            Which::Reply { answer } => Kind::Reply(Reply::new(answer.as_str())),
            Which::Discard => Kind::Discard(Discard),
            Which::Source => Kind::Source(Source::default()),
            #[cfg(feature = "web")]
            Which::Chat { rules, .. } => Kind::Chat(Box::new(Chat::with(*rules, ambient))),
            #[cfg(feature = "web")]
            Which::Relay { rules, .. } => Kind::Relay(Box::new(Relay::with(*rules, ambient))),
            #[cfg(feature = "web")]
            Which::Web { site } => Kind::Web(Box::new(Web::with(site.clone(), ambient))),
        }
    }

    /// Has these tunables hold from now on.
    fn tune(&mut self, which: &Which) {
        match (self, which) {
            (Kind::Reply(reply), Which::Reply { answer }) => reply.set_answer(answer.as_str()),
            #[cfg(feature = "web")]
            (Kind::Chat(chat), Which::Chat { rules, .. }) => chat.set_rules(*rules),
            #[cfg(feature = "web")]
            (Kind::Relay(relay), Which::Relay { rules, .. }) => relay.set_rules(*rules),
            #[cfg(feature = "web")]
            (Kind::Web(web), Which::Web { site }) => web.set_site(site.clone()),
            _ => {} // the others have none
        }
    }
}

/// See the module's text.
#[derive(Default)]
pub struct Directory {
    /// A place is used again, when the service that was there is dropped.
    entries: Vec<Option<Entry>>,
    /// The entry of each stream listener, by its index, and of each datagram socket.
    listeners: Vec<Option<usize>>,
    sockets: BTreeMap<usize, usize>,
    last_owner: u64,
    /// Where its services get the time of day and chance from.
    #[cfg(feature = "web")]
    ambient: Ambient,
}

impl Directory {
    /// With no service yet.
    #[cfg(feature = "web")]
    pub fn new(ambient: Ambient) -> Directory {
        Directory { ambient, ..Directory::default() }
    }

    fn at(&self, at: At) -> Option<usize> {
        match at {
            At::Listener(index) => self.listeners.get(index).copied().flatten(),
            At::Socket(index) => self.sockets.get(&index).copied(),
        }
    }

    /// The entry of the service for this, with these tunables; a new one if there is none.
    fn entry(&mut self, which: &Which, before: Option<usize>) -> usize {
        let fits = |entry: &Option<Entry>| entry.as_ref().is_some_and(|it| it.which.is_same_service(which));
        let there = match which.is_shared() {
            true => self.entries.iter().position(fits),
            false => before.filter(|index| fits(&self.entries[*index])),
        };
        if let Some(index) = there
            && let Some(entry) = &mut self.entries[index]
        {
            if entry.which != *which {
                entry.which = which.clone();
                entry.service.tune(which);
            }
            return index;
        }
        self.last_owner += 1;
        let service = Kind::new(
            which,
            #[cfg(feature = "web")]
            &self.ambient,
        );
        let entry = Entry { which: which.clone(), owner: self.last_owner, users: 0, service };
        match self.entries.iter().position(Option::is_none) {
            Some(index) => {
                self.entries[index] = Some(entry);
                index
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len() - 1
            }
        }
    }

    /// Sets which service is used there, and drops the one before where no listener has it any more.
    fn set(&mut self, at: At, entry: Option<usize>) {
        if let Some(entry) = entry.and_then(|index| self.entries[index].as_mut()) {
            entry.users += 1;
        }
        let before = match at {
            At::Listener(index) => {
                if self.listeners.len() <= index {
                    self.listeners.resize(index + 1, None);
                }
                std::mem::replace(&mut self.listeners[index], entry)
            }
            At::Socket(index) => match entry {
                Some(entry) => self.sockets.insert(index, entry),
                None => self.sockets.remove(&index),
            },
        };
        let Some(before) = before else { return };
        if let Some(entry) = &mut self.entries[before] {
            entry.users -= 1;
            if entry.users == 0 {
                self.entries[before] = None;
            }
        }
    }
}

impl Assign for Directory {
    fn assign(&mut self, at: At, which: &Which, before: Option<At>) {
        let before = before.or(Some(at)).and_then(|before| self.at(before));
        let entry = self.entry(which, before);
        self.set(at, Some(entry));
    }
}

/// Calls `$act` with the service of the entry with this index, whose timers are told from those of the others; where
/// there is none, that is `$otherwise`.
macro_rules! with {
    ($directory:expr, $index:expr, $board:expr, |$service:ident| $act:expr, $otherwise:expr) => {{
        let Some(Some(entry)) = $directory.entries.get_mut($index) else { return $otherwise };
        $board.owner = entry.owner;
        match &mut entry.service {
            Kind::Echo($service) => $act,
            Kind::Reply($service) => $act,
            Kind::Discard($service) => $act,
            Kind::Source($service) => $act,
            #[cfg(feature = "web")]
            Kind::Chat($service) => $act,
            #[cfg(feature = "web")]
            Kind::Relay($service) => $act,
            #[cfg(feature = "web")]
            Kind::Web($service) => $act,
        }
    }};
    ($directory:expr, $index:expr, $board:expr, |$service:ident| $act:expr) => {
        with!($directory, $index, $board, |$service| $act, ())
    };
}

impl Directory {
    /// The entry that serves this peer; `None` for one that is gone.
    #[inline]
    fn of(&self, board: &mut Switchboard<'_>, peer: Peer) -> Option<usize> {
        self.listeners.get(board.listener(peer)?).copied().flatten()
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
        with!(self, entry, board, |service| service.takes_websocket(board, from, request), false)
    }

    #[cfg(feature = "web")]
    fn subprotocols(&mut self, board: &mut Switchboard<'_>, peer: Peer) -> &'static [&'static str] {
        let Some(entry) = self.of(board, peer) else { return &[] };
        with!(self, entry, board, |service| service.subprotocols(board, peer), &[])
    }

    #[cfg(feature = "web")]
    fn on_metrics(&self, page: &mut Metrics) {
        for Entry { which, service, .. } in self.entries.iter().flatten() {
            page.set_service(which.own_name());
            match service {
                Kind::Chat(chat) => chat.on_metrics(page),
                Kind::Relay(relay) => relay.on_metrics(page),
                Kind::Web(web) => web.on_metrics(page),
                Kind::Echo(_) | Kind::Reply(_) | Kind::Discard(_) | Kind::Source(_) => {}
            }
        }
    }

    #[cfg(feature = "web")]
    fn on_upgrade(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        let Some(entry) = self.of(board, peer) else { return };
        with!(self, entry, board, |service| service.on_upgrade(board, peer));
    }

    fn on_datagram(&mut self, board: &mut Switchboard<'_>, from: Origin, bytes: &[u8]) {
        let Some(entry) = self.at(At::Socket(from.socket)) else { return };
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
        let has_set_it =
            |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.owner == board.owner);
        let Some(entry) = self.entries.iter().position(has_set_it) else { return };
        with!(self, entry, board, |service| service.on_timer(board, key));
    }

    fn on_close(&mut self, board: &mut Switchboard<'_>, peer: Peer, reason: CloseReason) {
        let Some(entry) = self.of(board, peer) else { return };
        with!(self, entry, board, |service| service.on_close(board, peer, reason));
    }

    fn on_forget(&mut self, at: At) {
        if let Some(Some(Entry { service, .. })) = self.at(at).map(|index| &mut self.entries[index]) {
            match service {
                #[cfg(feature = "web")]
                Kind::Chat(chat) => chat.on_forget(at),
                #[cfg(feature = "web")]
                Kind::Relay(relay) => relay.on_forget(at),
                #[cfg(feature = "web")]
                Kind::Web(web) => web.on_forget(at),
                Kind::Echo(_) | Kind::Reply(_) | Kind::Discard(_) | Kind::Source(_) => {}
            }
        }
        self.set(at, None);
    }
}
