//! Source: numbered lines without end, as fast as the peer takes them. The lesson of the write half.
//!
//! The mistake to avoid is a loop that writes until it is done: there is no done here. So the service
//! fills the outbox as long as the board has [room](Switchboard::room) for the peer, and goes on when the board says that it
//! drained. There is no room for a peer that finished, was refused or is gone, so the loop cannot go on for ever. The peer's speed decides, through its receive window, our send buffer, the outbox's marks
//! and two callbacks; nothing waits, and a peer that stops reading costs one outbox and then its
//! connection ([`CloseReason::Stalled`]).
//!
//! Line n says n, in 15 digits: 16 bytes each, so that a reader can tell at any offset what should be
//! there, and what is missing. Over HTTP they are the body of whatever is asked for, in chunks. (RFC 864 is the ancestor, with a rotating alphabet.)

use std::collections::HashMap;

#[cfg(feature = "web")]
use crate::protocol::http::{Length, Request, Response};
use crate::protocol::{Framing, Message};
use crate::reactor::{CloseReason, Peer};

use super::{Service, Switchboard};

/// One line: 15 digits and LF.
pub const LINE_BYTES: usize = 16;

/// Lines per message.
const LINES: u64 = 256;

/// See the module's text.
#[derive(Default)]
pub struct Source {
    /// The next line's number for each peer.
    next: HashMap<Peer, u64>,
    chunk: String,
}

impl Source {
    fn fill(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        use std::fmt::Write;
        let Some(next) = self.next.get_mut(&peer) else { return };
        if board.draining() {
            // What is in the outbox is delivered; it ends with a whole line.
            #[cfg(feature = "web")]
            board.end_response(peer);
            return board.finish(peer);
        }
        // Over lines, the protocol ends the last line of a message itself.
        let own_end = usize::from(board.framing(peer) == Some(Framing::Lines));
        while board.room(peer).is_some() {
            self.chunk.clear();
            for number in *next..*next + LINES {
                writeln!(self.chunk, "{number:015}").expect("a String takes everything");
            }
            *next += LINES;
            board.send(peer, Message::Text(&self.chunk[..self.chunk.len() - own_end]));
        }
    }
}

impl Service for Source {
    fn on_open(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        #[cfg(feature = "web")]
        if board.framing(peer) == Some(Framing::Http) {
            return; // it will ask
        }
        self.next.insert(peer, 0);
        self.fill(board, peer);
    }

    fn on_drain(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        self.fill(board, peer);
    }

    /// The lines are the answer, which has no end: so no other request is served.
    #[cfg(feature = "web")]
    fn on_request(&mut self, board: &mut Switchboard<'_>, from: Peer, _request: &Request<'_>) {
        let response = Response::new(200).field("Content-Type", "text/plain; charset=utf-8");
        if board.begin_response(from, &response, Length::Unknown) {
            self.next.insert(from, 0);
            self.fill(board, from);
        }
    }

    /// What the peer says is not heard.
    fn on_message(&mut self, _board: &mut Switchboard<'_>, _from: Peer, _message: Message<'_>) {}

    /// It has nothing more to say, but it may well read on: `nc -N host port </dev/null | head`.
    fn on_finish(&mut self, _board: &mut Switchboard<'_>, _from: Peer) {}

    fn on_close(&mut self, _board: &mut Switchboard<'_>, peer: Peer, _reason: CloseReason) {
        self.next.remove(&peer);
    }
}
