//! The places where the server listens: what each speaks, and what holds there.

use std::collections::BTreeMap;
use std::mem;

use crate::guard::{Guard, Reason, Sites};
use crate::protocol::Framing;
use crate::service::refusals::Refusals;

/// What is spoken at a listener or a datagram socket, and with whom.
#[derive(Debug, Default)]
pub struct Place {
    /// How messages are delimited.
    pub framing: Framing,
    /// The most bytes of one message.
    pub message_bytes_max: usize,
    /// Which addresses are admitted.
    pub guard: Guard,
    /// Datagrams may be answered with more bytes than they had.
    pub amplify: bool,
    /// `GET /metrics` and `GET /healthz` are answered, whatever the service.
    pub metrics: bool,
    /// HTTP and WebSocket: pages of which sites are admitted, and under which names requests are served.
    pub sites: Sites,
}

/// All places, and what was refused at them. Who is admitted: see `admission`.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The stream listeners, by their index.
    listeners: Vec<Place>,
    /// The datagram sockets, by their index.
    sockets: BTreeMap<usize, Place>,
    /// Refusals at places that are forgotten.
    refused_before: [u64; Reason::ALL.len()],
    /// The log of refusals.
    pub(super) refusals: Refusals,
}

impl Places {
    /// Sets what holds at the stream listener with this index.
    pub(super) fn set_listener(&mut self, index: usize, place: Place) {
        if self.listeners.len() <= index {
            self.listeners.resize_with(index + 1, Place::default);
        }
        let before = mem::replace(&mut self.listeners[index], place);
        self.keep_count(&before);
    }

    /// Sets what holds at the datagram socket with this index.
    pub(super) fn set_socket(&mut self, index: usize, place: Place) {
        if let Some(before) = self.sockets.insert(index, place) {
            self.keep_count(&before);
        }
    }

    pub(super) fn forget_listener(&mut self, index: usize) {
        if index < self.listeners.len() {
            self.set_listener(index, Place::default());
        }
    }

    pub(super) fn forget_socket(&mut self, index: usize) {
        if let Some(before) = self.sockets.remove(&index) {
            self.keep_count(&before);
        }
    }

    fn keep_count(&mut self, place: &Place) {
        for (count, reason) in self.refused_before.iter_mut().zip(Reason::ALL) {
            *count += place.guard.refused(reason);
        }
    }

    pub(super) fn listener(&mut self, index: usize) -> Option<&mut Place> {
        self.listeners.get_mut(index)
    }

    pub(super) fn socket(&mut self, index: usize) -> Option<&mut Place> {
        self.sockets.get_mut(&index)
    }

    /// How often connections and datagrams were refused, by the reason, at all places.
    pub(super) fn refused(&self) -> Vec<(Reason, u64)> {
        let places = || self.listeners.iter().chain(self.sockets.values());
        let count = |reason| places().map(|place| place.guard.refused(reason)).sum::<u64>();
        let all = Reason::ALL.into_iter().zip(self.refused_before);
        all.map(|(reason, before)| (reason, before + count(reason))).collect()
    }
}
