//! Reply: the same answer to every message, whatever it said.
//!
//! On raw bytes a message is what one read returned; over lines it is a line, and the answer is one. A datagram that could
//! itself be an answer gets none: one that is our own text, as of another server like this one, and one from a server's port.

use crate::protocol::Message;
use crate::reactor::Peer;

use super::{Origin, Service, Switchboard};

/// See the module's text.
pub struct Reply {
    answer: String,
}

impl Reply {
    /// Answers with exactly this; over lines and prefixed messages, framed.
    pub fn new(answer: impl Into<String>) -> Reply {
        Reply { answer: answer.into() }
    }

    /// Answers with this from now on.
    pub fn set_answer(&mut self, answer: impl Into<String>) {
        self.answer = answer.into();
    }
}

impl Default for Reply {
    fn default() -> Self {
        Reply::new("Hello from switchboard!")
    }
}

impl Service for Reply {
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, _message: Message<'_>) {
        board.send(from, Message::Text(&self.answer));
    }

    fn on_datagram(&mut self, board: &mut Switchboard<'_>, from: Origin, bytes: &[u8]) {
        if bytes != self.answer.as_bytes() && !from.is_server() {
            board.send_to(from, self.answer.as_bytes());
        }
    }
}
