//! Requests: one after the other, each when the one before has been answered.

use super::Permit;
use crate::guard::Reason;
use crate::protocol::Framing;
use crate::protocol::http::{self, Request, Response, Step};
use crate::reactor::{Board, Buffer, Peer};
use crate::service::conversation::Conversation;
use crate::service::exchange::Exchange;
use crate::service::{Service, Switchboard};
use crate::transport::Stream;

impl<S: Service> Exchange<S> {
    #[inline(never)]
    pub(super) fn serve_requests(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        inbox: &mut Buffer,
        scratch: &mut Vec<u8>,
        permit: &mut Permit,
    ) {
        let date = *self.web.clock.date(board.now());
        loop {
            let draining = board.draining();
            let Some(conversation) = permit.take(board, from) else { return };
            let listener = conversation.listener();
            let Some(http) = conversation.http() else { return };
            if http.is_open() {
                return; // its answer goes on; see `Board::hold`
            }
            let mut fields = http::fields();
            let (request, consumed) = match http.decode(inbox.bytes(), &date, &mut fields, scratch) {
                Ok(Step::Request { request, consumed }) => (request, consumed),
                Ok(Step::Continue) => {
                    board.send(from, http::CONTINUE);
                    continue;
                }
                Ok(Step::NeedMore) => return,
                Err(violation) => return self.refuse(board, from, violation),
            };
            if draining && consumed == inbox.len() {
                http.stop();
            }
            self.serve_request(board, from, &request, listener);
            inbox.consume(consumed);
            finish_request(board, from);
            if inbox.is_empty() {
                return;
            }
        }
    }

    /// Serves a request, or refuses it: it has been answered, or its answer has begun, or the connection is a WebSocket now. If
    /// none of these holds, the service had nothing to answer.
    fn serve_request(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        request: &Request<'_>,
        listener: usize,
    ) {
        let (metrics, framing) = match self.places.listener(listener) {
            Some(place) => (place.metrics, place.framing),
            None => (false, Framing::Http),
        };
        if !self.is_for_us(board, from, request) {
            self.misdirect(board, from, request);
        } else if metrics && self.serve_status(board, from, request) {
            // It has been answered.
        } else if framing == Framing::WebSocket || self.is_to_upgrade(board, from, request) {
            self.upgrade(board, from, request);
        } else {
            self.service.on_request(&mut Switchboard::new(board), from, request);
        }
    }

    /// Whether the request names this server as its host. See [`Sites`](crate::guard::Sites).
    fn is_for_us(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        request: &Request<'_>,
    ) -> bool {
        let Some(host) = request.field("host") else { return true };
        let Some(conversation) = board.state(from) else { return true };
        // A request by a proxy was not sent to us by a browser.
        let by_proxy = conversation.by_proxy.is_some();
        let Some(place) = self.places.listener(conversation.listener()) else { return true };
        let by_loopback = || !by_proxy && board.transport(from).is_some_and(Stream::is_at_loopback);
        place.sites.allows_host(host, by_loopback)
    }

    /// Answers a request for another host (421, RFC 9110 section 15.5.20).
    #[cold]
    fn misdirect(&mut self, board: &mut Board<Stream, Conversation>, from: Peer, request: &Request<'_>) {
        let host = String::from_utf8_lossy(request.field("host").unwrap_or_default());
        let text =
            format!("This server is not known as {host}: --host NAME adds a name, without its port.\n");
        let response = Response::new(421).field("Content-Type", "text/plain; charset=utf-8");
        Switchboard::new(board).respond(from, &response, text.as_bytes());
        let what = format!(", for the host {host:?},");
        self.places.refuse_request(board, from, Reason::OtherHost, &what);
    }
}

/// Answers a request that the service said nothing about with 204. If the answer goes on, the next request waits.
fn finish_request(board: &mut Board<Stream, Conversation>, from: Peer) {
    let Some(http) = board.state(from).and_then(Conversation::http) else { return };
    if http.is_owed() {
        Switchboard::new(board).respond(from, &Response::new(204), b"");
    } else if http.is_open() {
        board.hold(from);
    }
}
