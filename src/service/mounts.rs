//! Several services of your own in one process: each is mounted at its own listeners, and knows nothing of the others.
//!
//! The services that come with switchboard are put together by the [`directory`](super::directory), which knows them all and can
//! change them while the server runs. Here any type can be mounted, so each message costs a call through a pointer.

use crate::protocol::Message;
#[cfg(feature = "web")]
use crate::protocol::http::Request;
use crate::reactor::{CloseReason, Peer};

#[cfg(feature = "web")]
use super::metrics::Metrics;
use super::{At, Origin, Service, Switchboard};

/// The services that are mounted: see [`Server::mount`](crate::Server::mount).
#[derive(Default)]
pub struct Mounts {
    /// The owner of a service's timers is its index here, and 1.
    services: Vec<Box<dyn Service>>,
    /// The service at each stream listener, and at each datagram socket, by their indexes.
    listeners: Vec<Option<usize>>,
    sockets: Vec<Option<usize>>,
}

impl Mounts {
    /// Adds a service, which is at no listener yet.
    pub(crate) fn add(&mut self, service: impl Service + 'static) {
        self.services.push(Box::new(service));
    }

    /// Puts the service that was added last at a listener or a datagram socket.
    pub(crate) fn put_last(&mut self, at: At) {
        let last = self.services.len().checked_sub(1);
        let (places, index) = match at {
            At::Listener(index) => (&mut self.listeners, index),
            At::Socket(index) => (&mut self.sockets, index),
        };
        places.resize(places.len().max(index + 1), None);
        places[index] = last;
    }

    /// The service that serves this peer. `None` if the peer is gone, or came by a listener without a service.
    fn of(&mut self, board: &mut Switchboard<'_>, peer: Peer) -> Option<&mut Box<dyn Service>> {
        let index = self.listeners.get(board.listener(peer)?).copied().flatten()?;
        board.owner = index as u64 + 1;
        self.services.get_mut(index)
    }
}

impl Service for Mounts {
    fn on_open(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        match self.of(board, peer) {
            Some(service) => service.on_open(board, peer),
            None => board.close(peer), // nothing is mounted there
        }
    }

    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        if let Some(service) = self.of(board, from) {
            service.on_message(board, from, message);
        }
    }

    #[cfg(feature = "web")]
    fn on_request(&mut self, board: &mut Switchboard<'_>, from: Peer, request: &Request<'_>) {
        if let Some(service) = self.of(board, from) {
            service.on_request(board, from, request);
        }
    }

    #[cfg(feature = "web")]
    fn takes_websocket(&mut self, board: &mut Switchboard<'_>, from: Peer, request: &Request<'_>) -> bool {
        self.of(board, from).is_some_and(|service| service.takes_websocket(board, from, request))
    }

    #[cfg(feature = "web")]
    fn subprotocols(&mut self, board: &mut Switchboard<'_>, peer: Peer) -> &'static [&'static str] {
        self.of(board, peer).map_or(&[], |service| service.subprotocols(board, peer))
    }

    #[cfg(feature = "web")]
    fn on_upgrade(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        match self.of(board, peer) {
            Some(service) => service.on_upgrade(board, peer),
            None => board.close(peer),
        }
    }

    fn on_datagram(&mut self, board: &mut Switchboard<'_>, from: Origin, bytes: &[u8]) {
        let Some(index) = self.sockets.get(from.socket).copied().flatten() else { return };
        board.owner = index as u64 + 1;
        self.services[index].on_datagram(board, from, bytes);
    }

    fn on_finish(&mut self, board: &mut Switchboard<'_>, from: Peer) {
        match self.of(board, from) {
            Some(service) => service.on_finish(board, from),
            None => board.finish(from),
        }
    }

    fn on_drain(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        if let Some(service) = self.of(board, peer) {
            service.on_drain(board, peer);
        }
    }

    fn on_timer(&mut self, board: &mut Switchboard<'_>, key: u64) {
        let owner = usize::try_from(board.owner).ok().and_then(|owner| owner.checked_sub(1));
        if let Some(service) = owner.and_then(|index| self.services.get_mut(index)) {
            service.on_timer(board, key);
        }
    }

    fn on_close(&mut self, board: &mut Switchboard<'_>, peer: Peer, reason: CloseReason) {
        if let Some(service) = self.of(board, peer) {
            service.on_close(board, peer, reason);
        }
    }

    fn on_forget(&mut self, at: At) {
        let places = match at {
            At::Listener(index) => self.listeners.get_mut(index),
            At::Socket(index) => self.sockets.get_mut(index),
        };
        if let Some(service) = places.and_then(Option::take) {
            self.services[service].on_forget(at);
        }
    }

    #[cfg(feature = "web")]
    fn on_metrics(&self, page: &mut Metrics) {
        self.services.iter().for_each(|service| service.on_metrics(page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Server;
    use std::cell::RefCell;
    use std::net::UdpSocket;
    use std::rc::Rc;
    use std::time::Duration;

    /// Writes down what it is called for.
    struct Scribe {
        name: &'static str,
        notes: Rc<RefCell<Vec<(&'static str, String)>>>,
    }

    impl Scribe {
        fn note(&self, text: impl Into<String>) {
            self.notes.borrow_mut().push((self.name, text.into()));
        }
    }

    impl Service for Scribe {
        fn on_message(&mut self, _board: &mut Switchboard<'_>, _from: Peer, _message: Message<'_>) {}

        fn on_datagram(&mut self, board: &mut Switchboard<'_>, _from: Origin, bytes: &[u8]) {
            self.note(String::from_utf8_lossy(bytes));
            board.set_timer(Duration::from_millis(1), 7); // the same key as the other's
        }

        fn on_timer(&mut self, _board: &mut Switchboard<'_>, key: u64) {
            self.note(format!("timer {key}"));
        }
    }

    #[test]
    fn a_service_gets_its_own_datagrams_and_timers() {
        let notes = Rc::new(RefCell::new(Vec::new()));
        let scribe = |name| Scribe { name, notes: Rc::clone(&notes) };
        let server = Server::of_several()
            .mount("udp://127.0.0.1:0", scribe("one"))
            .and_then(|server| server.mount("tcp://127.0.0.1:0", scribe("two")))
            .and_then(|server| server.mount_also("udp://127.0.0.1:0"))
            .expect("free ports");
        let addresses: Vec<_> = server.endpoints().iter().filter_map(|it| it.address()).collect();
        let mut reactor = server.announce(false).into_reactor().expect("a poll");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        for (address, text) in [(addresses[0], "first"), (addresses[2], "second")] {
            sender.send_to(text.as_bytes(), address).expect("it is loopback");
            let due = notes.borrow().len() + 2; // the datagram and its timer
            let deadline = reactor.board().now().after(Duration::from_secs(20));
            while notes.borrow().len() < due && reactor.board().now() < deadline {
                reactor.turn(Some(Duration::from_millis(100))).expect("a turn");
            }
        }
        let timer = || "timer 7".to_owned();
        let expected =
            [("one", "first".to_owned()), ("one", timer()), ("two", "second".to_owned()), ("two", timer())];
        assert_eq!(*notes.borrow(), expected);
    }
}
