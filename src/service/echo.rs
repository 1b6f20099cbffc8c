//! Echo: bytes back as they came, datagrams to their sender, the empty one too. RFC 862.

use crate::protocol::Message;
use crate::reactor::Peer;

use super::{Origin, Service, Switchboard};

/// See the module's text.
pub struct Echo;

impl Service for Echo {
    #[inline(always)]
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        board.send(from, message);
    }

    #[inline]
    fn on_datagram(&mut self, board: &mut Switchboard<'_>, from: Origin, bytes: &[u8]) {
        board.send_to(from, bytes);
    }
}
