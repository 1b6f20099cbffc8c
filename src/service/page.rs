//! The pages of services that have one: a few files, compiled in, so that one binary is the whole thing.
//!
//! What they may do is said in their Content-Security-Policy: run their own script, and talk to this server. So even a
//! mistake that lets markup from others in would run nothing.

use crate::protocol::http::{Request, Response};
use crate::reactor::Peer;

use super::Switchboard;

/// A file of a page.
pub(super) struct Asset {
    /// Where it is asked for.
    pub(super) path: &'static str,
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Answers a request for one of these, or says that it is none.
pub(super) fn serve(board: &mut Switchboard<'_>, from: Peer, request: &Request<'_>, assets: &[Asset]) {
    let plain = |status| Response::new(status).field("Content-Type", "text/plain; charset=utf-8");
    match request.method {
        "GET" | "HEAD" => {}
        // What HAProxy's health check asks.
        "OPTIONS" => return board.respond(from, &Response::new(204).field("Allow", ALLOW), b""),
        _ => {
            return board.respond(
                from,
                &plain(405).field("Allow", ALLOW),
                b"Only GET and HEAD are served.\n",
            );
        }
    }
    let Some(asset) = assets.iter().find(|asset| asset.path == request.path()) else {
        return match request.path() {
            "/healthz" => board.respond(from, &plain(200).field("Cache-Control", "no-store"), b"ok\n"),
            _ => board.respond(from, &plain(404), b"There is no such page.\n"),
        };
    };
    // Another version of the program may have another page: it is asked for each time.
    let response = Response::new(200)
        .field("Content-Type", asset.kind)
        .field("Content-Security-Policy", POLICY)
        .field("X-Content-Type-Options", "nosniff")
        .field("Referrer-Policy", "no-referrer")
        .field("Cache-Control", "no-cache");
    board.respond(from, &response, asset.text.as_bytes());
}
