//! Without the feature `web`: no connection speaks HTTP or WebSocket, so nothing here is ever called with one.

use super::Exchange;
use super::places::Places;
use crate::reactor::{Board, Buffer, Peer};
use crate::service::Service;
use crate::service::conversation::Conversation;
use crate::transport::Stream;

/// The owner of the exchange's own timers: it has none here.
pub(super) const OWNER: u64 = u64::MAX;

pub(super) struct Web;

impl Web {
    pub(super) fn new() -> Web {
        Web
    }

    pub(super) fn queue_goodbye(&mut self, _: &mut Board<Stream, Conversation>, _: Peer) -> bool {
        false
    }

    pub(super) fn send_goodbyes(&mut self, _: &mut Board<Stream, Conversation>) {}
}

pub(super) fn is_yet_to_upgrade(_: &Conversation, _: &mut Places) -> bool {
    false
}

pub(super) fn probe(_: &mut Board<Stream, Conversation>, _: Peer) -> bool {
    false
}

impl<S: Service> Exchange<S> {
    pub(super) fn serve_web(&mut self, _: &mut Board<Stream, Conversation>, _: Peer, _: &mut Buffer) {}
}
