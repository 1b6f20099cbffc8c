//! Discard: takes everything and says nothing. RFC 863. What a server's receiving side can do, alone.

use crate::protocol::Message;
use crate::reactor::Peer;

use super::{Service, Switchboard};

/// See the module's text.
pub struct Discard;

impl Service for Discard {
    fn on_message(&mut self, _board: &mut Switchboard<'_>, _from: Peer, _message: Message<'_>) {}
}
