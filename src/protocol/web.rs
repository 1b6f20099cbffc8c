//! HTTP and WebSocket: a connection begins with the one, and can become the other.

use super::http::Http;
use super::message::{Framing, Message, Sink, Violation};
use super::websocket::{self, WebSocket};

/// One connection's protocol, if that is one of the Web's.
#[derive(Debug)]
pub enum Web {
    /// See [`http`](super::http).
    Http(Http),
    /// See [`websocket`].
    WebSocket(WebSocket),
}

impl Web {
    /// At the beginning of a connection. Bodies and messages have at most `message_bytes_max` bytes.
    pub fn new(message_bytes_max: u32) -> Web {
        Web::Http(Http::new(message_bytes_max))
    }

    /// Which protocol it is now.
    pub fn framing(&self) -> Framing {
        match self {
            Web::Http(_) => Framing::Http,
            Web::WebSocket(_) => Framing::WebSocket,
        }
    }

    /// Whether the protocol allows the end here, where `bytes` are the last.
    ///
    /// # Errors
    /// If a request ends before its end.
    pub(super) fn decode_end(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        match self {
            Web::Http(http) => http.decode_end(bytes),
            Web::WebSocket(_) => Ok(()),
        }
    }

    /// Appends what the peer receives when it broke the rules: an answer, or a Close frame.
    pub(super) fn encode_violation(&mut self, violation: Violation, sink: &mut impl Sink) {
        match (self, violation) {
            (Web::Http(http), Violation::Http { status, problem }) => http.refuse(status, problem, sink),
            (Web::Http(http), Violation::Overdue) => {
                http.refuse(408, "the rest of the request did not come in time", sink);
            }
            (Web::WebSocket(socket), Violation::WebSocket { code, problem }) => {
                socket.close(code, problem, sink);
            }
            (Web::WebSocket(socket), Violation::Overdue) => {
                socket.close(websocket::code::POLICY, "the rest of the message did not come in time", sink);
            }
            _ => {}
        }
    }

    pub(super) fn encode_close(&mut self, is_stopping: bool, sink: &mut impl Sink) {
        match (self, is_stopping) {
            (Web::Http(_), _) => {}
            (Web::WebSocket(socket), true) => {
                socket.close(websocket::code::GOING_AWAY, "the server stops", sink);
            }
            (Web::WebSocket(socket), false) => socket.close(websocket::code::NORMAL, "", sink),
        }
    }

    pub(super) fn can_send(&self) -> bool {
        match self {
            Web::Http(http) => http.is_open(),
            Web::WebSocket(_) => true,
        }
    }

    /// Whether what is encoded for this framing can be sent now.
    pub(super) fn can_send_encoded(&self, framing: Framing) -> bool {
        match self {
            Web::Http(_) => false,
            Web::WebSocket(socket) => framing == Framing::WebSocket && !socket.is_closed(),
        }
    }

    /// Appends the message: as the answer to the request that is open, or as a frame.
    pub(super) fn encode(&mut self, message: Message<'_>, sink: &mut impl Sink) {
        match self {
            Web::Http(http) => {
                http.answer_message(message, sink);
            }
            Web::WebSocket(socket) => socket.encode(message, sink),
        }
    }
}
