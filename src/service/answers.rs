//! What a service may do over HTTP: answer a request, at once or in pieces.

use super::Switchboard;
use crate::protocol::Message;
use crate::protocol::http::{Length, Progress, Response};
use crate::reactor::Peer;

impl Switchboard<'_> {
    /// Answers the request that is open. Where there is none, as over other protocols, nothing is sent.
    pub fn respond(&mut self, to: Peer, response: &Response<'_>, body: &[u8]) {
        let Some((conversation, mut outbox)) = self.board.outbox(to) else { return };
        let Some(http) = conversation.http() else { return };
        let progress = http.answer(response, body, &mut outbox);
        self.after_answer(to, progress);
    }

    /// Answers the request that is open with a head; whether a body is wanted behind it. If it is, it is sent in pieces
    /// with [`Switchboard::send`], now and whenever there is [room](super::Service::on_drain), until it is as long as was
    /// announced, or up to [`Switchboard::end_response`]. The peer's further requests wait for that.
    pub fn begin_response(&mut self, to: Peer, response: &Response<'_>, length: Length) -> bool {
        let Some((conversation, mut outbox)) = self.board.outbox(to) else { return false };
        let Some(http) = conversation.http() else { return false };
        let progress = http.begin(response, length, &mut outbox);
        self.after_answer(to, progress);
        progress == Progress::More
    }

    /// The next piece of a body that was begun with its length, as long as there is room for now, written into its place
    /// by `fill`, which is told how much is still to come: for who reads it from somewhere. Returns how many bytes that
    /// were.
    ///
    /// # Errors
    /// Those of `fill`. The body can't go on then; [close](Switchboard::close) the connection, so that the peer can tell.
    pub fn send_by(
        &mut self,
        to: Peer,
        fill: impl FnOnce(u64, &mut [u8]) -> std::io::Result<()>,
    ) -> std::io::Result<usize> {
        let Some((conversation, mut outbox)) = self.board.outbox(to) else { return Ok(0) };
        let Some(http) = conversation.http() else { return Ok(0) };
        let left = http.left().unwrap_or(0);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(outbox.room());
        if count == 0 {
            return Ok(0);
        }
        outbox.put_by(count, |place| fill(left, place))?;
        let progress = http.count_piece(count as u64);
        self.after_answer(to, progress);
        Ok(count)
    }

    /// Ends a body of which the length was not announced. One that is too short ends the connection: the peer is to know.
    pub fn end_response(&mut self, to: Peer) {
        let Some((conversation, mut outbox)) = self.board.outbox(to) else { return };
        let Some(http) = conversation.http() else { return };
        let progress = http.end(&mut outbox);
        self.after_answer(to, progress);
    }

    /// Moves the connection on after a part of an answer was written.
    fn after_answer(&mut self, peer: Peer, progress: Progress) {
        match progress {
            Progress::Nothing | Progress::More => {}
            Progress::Done => self.board.release(peer),
            Progress::Last => self.board.finish(peer),
            Progress::Broken => self.board.close(peer),
        }
    }

    /// Sends a message to a peer that speaks HTTP, as the answer to its request, or WebSocket.
    #[cold]
    #[inline(never)]
    pub(super) fn send_to_web(&mut self, to: Peer, message: Message<'_>) {
        let Some((conversation, mut outbox)) = self.board.outbox(to) else { return };
        match conversation.http() {
            Some(http) => {
                let progress = http.answer_message(message, &mut outbox);
                self.after_answer(to, progress);
            }
            None => conversation.protocol.encode(message, &mut outbox),
        }
    }
}
