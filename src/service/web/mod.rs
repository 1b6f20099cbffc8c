//! Web: the files below one directory, over HTTP.
//!
//! What RFC 9110 has for files: GET and HEAD, conditions, one range, a type by the name, and a `.br` or `.gz` beside the
//! file for who takes it. Nothing else is served than regular files below the root, whatever the path says (`path`).
//!
//! **A slow disk is felt by everyone.** Files are read by the loop's one thread, in slices of an outbox's high
//! mark (64 KiB), one in a turn for each peer that has room: from the page cache that takes microseconds, and from a disk that hangs, or a network's, as long as
//! it hangs. (An epoll loop can't wait for a file: the kernel calls one always ready. What it takes is a thread pool or
//! io_uring; a cache that fits in memory does without.)
//!
//! Invariant: a body is as long as its head says, or its connection is broken off.

mod access;
mod conditions;
mod files;
mod listing;
mod path;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::protocol::http::{Length, Request, Response};
use crate::protocol::{Framing, Message};
use crate::reactor::{CloseReason, Peer};

use super::clock::Clock;
use super::{Service, Switchboard};
use access::Entry;
use conditions::{Outcome, Stamp};
use files::{Found, Root};

/// What is served, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The directory.
    pub root: PathBuf,
    /// Directories without an `index.html` are listed.
    pub listing: bool,
    /// Each request is logged, with the target `access`, in the common log format.
    pub access: bool,
}

/// See the module's text.
pub struct Web {
    site: Site,
    root: Option<Root>,
    /// Whose file is longer than there was room for.
    downloads: HashMap<Peer, Download>,
    clock: Clock,
}

/// A file on its way.
struct Download {
    file: File,
    begin: u64,
    end: u64,
    /// So far it has been sent.
    at: u64,
    entry: Option<Entry>,
}

impl Web {
    /// Serves this site. A root that can't be opened is logged, and nothing is found in it.
    pub fn new(site: Site) -> Web {
        let root = Root::open(&site.root);
        if let Err(error) = &root {
            log::error!("nothing can be served from {}: {error}", site.root.display());
        }
        Web { site, root: root.ok(), downloads: HashMap::new(), clock: Clock::default() }
    }

    /// Answers with a few words, and logs it.
    fn say(&mut self, board: &mut Switchboard<'_>, to: Peer, request: &Request<'_>, response: Response<'_>) {
        let text = match response.status {
            204 | 304 => "",
            301 => "It is elsewhere.\n",
            400 => "The path makes no sense.\n",
            403 => "That may not be read.\n",
            404 => "There is no such file.\n",
            405 => "Only GET and HEAD are served.\n",
            412 => "It has changed.\n",
            416 => "It is not as long as that.\n",
            _ => "It could not be read.\n",
        };
        self.say_text(board, to, request, response.field("Content-Type", "text/plain; charset=utf-8"), text);
    }

    fn say_text(
        &mut self,
        board: &mut Switchboard<'_>,
        to: Peer,
        request: &Request<'_>,
        response: Response<'_>,
        text: &str,
    ) {
        if let Some(entry) = self.entry(board, to, request, response.status) {
            entry.log(if request.method == "HEAD" { 0 } else { text.len() as u64 });
        }
        board.respond(to, &response, text.as_bytes());
    }

    fn entry(
        &mut self,
        board: &mut Switchboard<'_>,
        peer: Peer,
        request: &Request<'_>,
        status: u16,
    ) -> Option<Entry> {
        let date = self.site.access.then(|| self.clock.date(board.now()))?;
        Some(Entry::new(board.address(peer), date, request, status))
    }

    fn serve(&mut self, board: &mut Switchboard<'_>, to: Peer, request: &Request<'_>) {
        let path = match path::decode(request.path()) {
            Ok(path) => path,
            Err(status) => return self.say(board, to, request, Response::new(status)),
        };
        let Some(root) = &self.root else { return self.say(board, to, request, Response::new(503)) };
        match root.find(&path, request.field("accept-encoding").unwrap_or_default()) {
            Ok(Found::File { file, metadata, name, coding }) => {
                let stamp = Stamp::new(&metadata, coding);
                let kind = files::kind(&name);
                self.serve_file(board, to, request, file, &stamp, &kind, coding);
            }
            Ok(Found::Directory { .. }) if !path.is_empty() && !path.ends_with('/') => {
                // Relative links in it are relative to it only with the slash.
                let query = request.query().map_or(String::new(), |query| format!("?{query}"));
                let location = format!("{}/{query}", request.path());
                self.say(board, to, request, Response::new(301).field("Location", &location));
            }
            Ok(Found::Directory { directory }) if self.site.listing => {
                let listed = listing::page(&directory, request.path());
                match listed {
                    Ok(page) => {
                        let response = Response::new(200)
                            .field("Content-Type", "text/html; charset=utf-8")
                            .field("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
                            .field("Cache-Control", "no-cache");
                        self.say_text(board, to, request, response, &page);
                    }
                    Err(_) => self.say(board, to, request, Response::new(500)),
                }
            }
            Ok(Found::Directory { .. }) => self.say(board, to, request, Response::new(404)),
            Err(status) => self.say(board, to, request, Response::new(status)),
        }
    }

    #[allow(clippy::too_many_arguments)] // they are one file
    fn serve_file(
        &mut self,
        board: &mut Switchboard<'_>,
        to: Peer,
        request: &Request<'_>,
        file: File,
        stamp: &Stamp,
        kind: &str,
        coding: Option<&'static str>,
    ) {
        let mut response = Response::new(200);
        let range;
        let (begin, end) = match conditions::judge(request, stamp) {
            Outcome::Whole => (0, stamp.len),
            Outcome::Part { begin, end } => {
                range = format!("bytes {begin}-{}/{}", end - 1, stamp.len);
                response = Response::new(206).field("Content-Range", &range);
                (begin, end)
            }
            Outcome::NotSatisfiable => {
                range = format!("bytes */{}", stamp.len);
                return self.say(board, to, request, Response::new(416).field("Content-Range", &range));
            }
            Outcome::Failed => return self.say(board, to, request, Response::new(412)),
            Outcome::NotModified => {
                let response = Response::new(304).field("ETag", &stamp.etag).field("Vary", "Accept-Encoding");
                return self.say_text(board, to, request, response, "");
            }
        };
        response = response
            .field("Content-Type", kind)
            .field("ETag", &stamp.etag)
            .field("Last-Modified", &stamp.modified)
            .field("Accept-Ranges", "bytes")
            .field("Vary", "Accept-Encoding")
            .field("X-Content-Type-Options", "nosniff");
        if let Some(coding) = coding {
            response = response.field("Content-Encoding", coding);
        }

        let len = end - begin;
        let entry = self.entry(board, to, request, response.status);
        let wanted = board.begin_response(to, &response, Length::Bytes(len));
        let download = Download { file, begin, end, at: begin, entry };
        match wanted {
            true => self.go_on(board, to, download),
            false => download.log(),
        }
    }

    /// The next slice, where there is room for one.
    fn go_on(&mut self, board: &mut Switchboard<'_>, to: Peer, mut download: Download) {
        let Download { file, end, at, .. } = &mut download;
        match board.send_by(to, |left, place| file.read_exact_at(place, *end - left)) {
            Ok(count) => *at += count as u64,
            Err(error) => {
                // It has been cut short since its length was announced, or the disk fails.
                log::warn!("a file could not be read to its end: {error}");
                board.close(to);
            }
        }
        match download.at == download.end {
            true => download.log(),
            false => {
                self.downloads.insert(to, download);
            }
        }
    }
}

impl Download {
    fn log(self) {
        if let Some(entry) = self.entry {
            entry.log(self.at - self.begin);
        }
    }
}

impl Service for Web {
    fn on_request(&mut self, board: &mut Switchboard<'_>, from: Peer, request: &Request<'_>) {
        match request.method {
            "GET" | "HEAD" if request.path() == "/healthz" => {
                let response = Response::new(200)
                    .field("Content-Type", "text/plain; charset=utf-8")
                    .field("Cache-Control", "no-store");
                board.respond(from, &response, b"ok\n");
            }
            "GET" | "HEAD" => self.serve(board, from, request),
            "OPTIONS" => {
                self.say(board, from, request, Response::new(204).field("Allow", "GET, HEAD, OPTIONS"))
            }
            _ => self.say(board, from, request, Response::new(405).field("Allow", "GET, HEAD, OPTIONS")),
        }
    }

    /// A file is no conversation.
    fn takes_websocket(&mut self, _board: &mut Switchboard<'_>, _from: Peer, _request: &Request<'_>) -> bool {
        false
    }

    /// Whoever does not speak HTTP can't ask for anything.
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, _message: Message<'_>) {
        if board.framing(from) != Some(Framing::Http) {
            board.close(from);
        }
    }

    fn on_drain(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        if let Some(download) = self.downloads.remove(&peer) {
            self.go_on(board, peer, download);
        }
    }

    fn on_close(&mut self, _board: &mut Switchboard<'_>, peer: Peer, _reason: CloseReason) {
        if let Some(download) = self.downloads.remove(&peer) {
            download.log();
        }
    }
}
