//! `/metrics` and `/healthz`, which are answered for every service.

use super::state::Status;
use crate::protocol::http::{Request, Response};
use crate::reactor::{Board, Peer};
use crate::service::conversation::Conversation;
use crate::service::exchange::Exchange;
use crate::service::metrics::Metrics;
use crate::service::{Service, Switchboard};
use crate::transport::Stream;

impl<S: Service> Exchange<S> {
    /// Answers the request if it is for `/metrics` or `/healthz`. Returns whether it did.
    #[cold]
    pub(super) fn serve_status(
        &mut self,
        board: &mut Board<Stream, Conversation>,
        from: Peer,
        request: &Request<'_>,
    ) -> bool {
        const ALLOW: &str = "GET, HEAD, OPTIONS";
        let text = match request.path() {
            "/healthz" => "ok\n",
            "/metrics" => self.metrics(board),
            _ => return false,
        };
        let mut board = Switchboard::new(board);
        match request.method {
            "GET" | "HEAD" => {
                let response = Response::new(200)
                    .field("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                    .field("Cache-Control", "no-store");
                board.respond(from, &response, text.as_bytes());
            }
            // HAProxy's health check sends it.
            "OPTIONS" => board.respond(from, &Response::new(204).field("Allow", ALLOW), b""),
            _ => board.respond(from, &Response::new(405).field("Allow", ALLOW), b""),
        }
        true
    }

    fn metrics(&mut self, board: &Board<Stream, Conversation>) -> &str {
        let turn = board.counters().turns;
        let Status { unlogged, metrics } = &mut self.web.status;
        if metrics.as_ref().is_none_or(|(made_in, _)| *made_in != turn) {
            let mut page = Metrics::of(board, &self.places.refused(), unlogged());
            self.service.on_metrics(&mut page);
            *metrics = Some((turn, page.into_text()));
        }
        metrics.as_ref().map_or("", |(_, text)| text)
    }
}
