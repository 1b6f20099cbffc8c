//! Frames of a WebSocket: each is served when the one before has been.

use super::Permit;
use crate::protocol::websocket::Step;
use crate::reactor::{Board, Buffer, Peer};
use crate::service::conversation::Conversation;
use crate::service::exchange::Exchange;
use crate::service::{Service, Switchboard};
use crate::transport::Stream;

impl<S: Service> Exchange<S> {
    #[inline(never)]
    pub(super) fn serve_frames(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        inbox: &mut Buffer,
        scratch: &mut Vec<u8>,
        permit: &mut Permit,
    ) {
        while permit.take(board, from).is_some() {
            let Some((conversation, mut outbox)) = board.outbox(from) else { return };
            let Some(socket) = conversation.websocket() else { return };
            match socket.decode(inbox.bytes(), scratch, &mut outbox) {
                Ok(Step::Message { message, consumed }) => {
                    self.service.on_message(&mut Switchboard::new(board), from, message);
                    inbox.consume(consumed);
                }
                Ok(Step::Frame(consumed)) => inbox.consume(consumed),
                Ok(Step::NeedMore) => return,
                Ok(Step::Closed) => return board.finish(from),
                Err(violation) => return self.refuse(board, from, violation),
            }
        }
    }
}
