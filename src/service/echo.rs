//! Echo: bytes back as they came, datagrams to their sender, the empty one too. RFC 862.
//!
//! A datagram from a port below 1024 gets no answer: it is a server's, and its answer to ours would be echoed for ever.
//! Between two echoes at higher ports a forged sender still starts such an exchange. What ends it is the guard's rate of
//! datagrams per address, which is why the program has one by default.

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
        if !from.is_server() {
            board.send_to(from, bytes);
        }
    }
}
