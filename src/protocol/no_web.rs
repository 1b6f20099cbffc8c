//! Without the feature `web`, no connection speaks HTTP or WebSocket. The type has no value, and the compiler drops each branch
//! that would need one. So the code that serves all protocols looks the same with the feature and without it.

use super::message::{Framing, Message, Sink, Violation};

/// One connection's protocol, if that is one of the Web's: never.
#[derive(Debug)]
pub enum Web {}

impl Web {
    pub(super) fn framing(&self) -> Framing {
        match *self {}
    }

    pub(super) fn decode_end(&mut self, _bytes: &[u8]) -> Result<(), Violation> {
        match *self {}
    }

    pub(super) fn encode_violation(&mut self, _violation: Violation, _sink: &mut impl Sink) {
        match *self {}
    }

    pub(super) fn encode_close(&mut self, _is_stopping: bool, _sink: &mut impl Sink) {
        match *self {}
    }

    pub(super) fn can_send(&self) -> bool {
        match *self {}
    }

    pub(super) fn can_send_encoded(&self, _framing: Framing) -> bool {
        match *self {}
    }

    pub(super) fn encode(&mut self, _message: Message<'_>, _sink: &mut impl Sink) {
        match *self {}
    }
}
