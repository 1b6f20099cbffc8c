//! Web: the files below one directory, over HTTP.
//!
//! What RFC 9110 has for files: GET and HEAD, conditions, one range, a type by the name, and a `.br` or `.gz` beside the
//! file for clients that take it. Nothing else is served than regular files below the root, whatever the path says (`path`).
//!
//! **Cheap requests are cheap.** A request costs the loop system calls, not bytes. So what was looked up is kept for the rest
//! of the turn (`recent`), a directory's page until the directory changes (`listing`), and a small file is read whole and
//! closed at once.
//!
//! **A slow disk is felt by everyone.** Files are read by the loop's one thread, in slices of an outbox's high
//! mark (64 KiB), one in a turn for each peer that has room: from the page cache that takes microseconds, and from a disk that hangs, or a network's, as long as
//! it hangs. (An epoll loop can't wait for a file: the kernel calls one always ready. What it takes is a thread pool or
//! io_uring; a cache that fits in memory does without.) These calls wait for the disk, and for nothing else: stat(2) of the
//! root's name once a turn; openat2(2), fstat(2) and close(2) of what is asked for; getdents(2) and faccessat(2) for a listing;
//! pread(2) of what is sent. A FIFO, a device or a socket is opened without waiting, and not read.
//!
//! **Descriptors are counted.** A download holds one beside its connection's, so it claims it from the board
//! ([`Switchboard::claim_descriptor`]): where there is none, the answer is 503 with Retry-After.
//!
//! Invariant: a body is as long as its head says, or its connection is broken off.

mod access;
mod conditions;
mod files;
mod listing;
mod path;
mod recent;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::protocol::http::{Length, Request, Response};
use crate::protocol::{Framing, Message};
use crate::reactor::{CloseReason, Descriptor, Peer};

use super::ambient::Ambient;
use super::clock::Clock;
use super::{Service, Switchboard};
use access::Entry;
use conditions::{Outcome, Stamp};
use files::{Codings, Found, Root};
use listing::{Identity, Pages};
use recent::{Key, Known, Recent, Version};

/// A file of at most this size is read whole and closed, and put into the outbox whatever room there is.
const SMALL_BYTES_MAX: u64 = 16 * 1024;

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
    root: Root,
    recent: Recent,
    pages: Pages,
    /// Of the peers whose file is longer than there was room for.
    downloads: HashMap<Peer, Download>,
    clock: Clock,
}

/// A file on its way.
struct Download {
    file: File,
    /// The file's descriptor is one of those that are counted.
    _descriptor: Descriptor,
    begin: u64,
    end: u64,
    /// What comes before this has been sent.
    at: u64,
    entry: Option<Entry>,
}

/// What became of a request.
enum Answered {
    Yes,
    /// What is asked for is known, and has to be open for the answer.
    NeedsFile,
}

impl Web {
    /// Serves this site. A root that can't be opened is logged, and nothing is found until it can.
    pub fn new(site: Site) -> Web {
        Web::with(site, &Ambient::machine())
    }

    /// The same, with this time of day.
    pub fn with(site: Site, ambient: &Ambient) -> Web {
        Web {
            root: Root::new(site.root.clone()),
            site,
            recent: Recent::default(),
            pages: Pages::default(),
            downloads: HashMap::new(),
            clock: Clock::new(ambient),
        }
    }

    /// Serves this site from now on. Files that are on their way are sent to their end.
    pub fn set_site(&mut self, site: Site) {
        if site.root != self.site.root {
            self.root = Root::new(site.root.clone());
            self.pages = Pages::default();
        }
        self.recent.forget();
        self.site = site;
    }

    /// Answers with a few words, and logs it.
    fn answer_status(
        &mut self,
        board: &mut Switchboard<'_>,
        to: Peer,
        request: &Request<'_>,
        response: Response<'_>,
    ) {
        let text = match response.status {
            204 | 304 => "",
            301 => "It is elsewhere.\n",
            400 => "The path makes no sense.\n",
            403 => "That may not be read.\n",
            404 => "There is no such file.\n",
            405 => "Only GET and HEAD are served.\n",
            412 => "It has changed.\n",
            416 => "It is not as long as that.\n",
            503 => "There is too much to do. Try again in a second.\n",
            _ => "It could not be read.\n",
        };
        let response = match response.status {
            503 => response.field("Retry-After", "1"),
            _ => response,
        };
        self.answer_text(
            board,
            to,
            request,
            response.field("Content-Type", "text/plain; charset=utf-8"),
            text,
        );
    }

    fn answer_text(
        &mut self,
        board: &mut Switchboard<'_>,
        to: Peer,
        request: &Request<'_>,
        response: Response<'_>,
        text: &str,
    ) {
        self.answer_bytes(board, to, request, response, text.as_bytes());
    }

    fn answer_bytes(
        &mut self,
        board: &mut Switchboard<'_>,
        to: Peer,
        request: &Request<'_>,
        response: Response<'_>,
        bytes: &[u8],
    ) {
        if let Some(entry) = self.entry(board, to, request, response.status) {
            entry.log(if request.method == "HEAD" { 0 } else { bytes.len() as u64 });
        }
        board.respond(to, &response, bytes);
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
            Err(status) => return self.answer_status(board, to, request, Response::new(status)),
        };
        if self.root.look_in(board.turn()) {
            self.recent.forget();
        }
        let key = (Codings::of(request), path);
        if let Some(known) = self.recent.get(&key)
            && let Answered::Yes = self.answer(board, to, request, &key.1, &known, None)
        {
            return;
        }
        let (known, file) = self.look_up(&key, request);
        self.recent.keep(&key, &known);
        if let Answered::NeedsFile = self.answer(board, to, request, &key.1, &known, file) {
            self.answer_status(board, to, request, Response::new(500)); // it is open, so this does not happen
        }
    }

    /// What is asked for, open where there is something.
    fn look_up(&self, key: &Key, request: &Request<'_>) -> (Arc<Known>, Option<File>) {
        let (known, file) = match self.root.find(&key.1, key.0) {
            Err(status) => (Known::Nothing(status), None),
            Ok(Found::Directory { directory, metadata }) => {
                (Known::Directory(Identity::of(&metadata)), Some(directory))
            }
            Ok(Found::File { file, metadata, name, coding }) => {
                let stamp = Stamp::new(&metadata, coding, request.date());
                let kind = files::kind(&name, &file);
                (Known::File(Version { stamp, kind, coding, bytes: OnceLock::new() }), Some(file))
            }
        };
        (Arc::new(known), file)
    }

    /// Answers with what is known. `file`: what was found, if it is open.
    fn answer(
        &mut self,
        board: &mut Switchboard<'_>,
        to: Peer,
        request: &Request<'_>,
        path: &[u8],
        known: &Known,
        file: Option<File>,
    ) -> Answered {
        match known {
            Known::Nothing(status) => self.answer_status(board, to, request, Response::new(*status)),
            Known::File(version) => return self.serve_file(board, to, request, version, file),
            Known::Directory(_) if !path.is_empty() && !path.ends_with(b"/") => {
                // Relative links in it are relative to it only with the slash.
                let query = request.query().map_or(String::new(), |query| format!("?{query}"));
                let location = format!("{}/{query}", request.path());
                self.answer_status(board, to, request, Response::new(301).field("Location", &location));
            }
            Known::Directory(identity) if self.site.listing => {
                return self.serve_listing(board, to, request, path, *identity, file);
            }
            Known::Directory(_) => self.answer_status(board, to, request, Response::new(404)),
        }
        Answered::Yes
    }

    fn serve_listing(
        &mut self,
        board: &mut Switchboard<'_>,
        to: Peer,
        request: &Request<'_>,
        path: &[u8],
        identity: Identity,
        directory: Option<File>,
    ) -> Answered {
        let response = Response::new(200)
            .field("Content-Type", "text/html; charset=utf-8")
            .field("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
            .field("Cache-Control", "no-cache");
        if let Some(page) = self.pages.get(path, &identity, board.turn(), board.now()) {
            self.answer_text(board, to, request, response, &page);
            return Answered::Yes;
        }
        if request.method == "HEAD" {
            // How long the page is would take making it.
            if let Some(entry) = self.entry(board, to, request, 200) {
                entry.log(0);
            }
            board.begin_response(to, &response, Length::Unknown);
            return Answered::Yes;
        }
        if !self.pages.has_time(board.turn()) {
            self.answer_status(board, to, request, Response::new(503));
            return Answered::Yes;
        }
        let Some(directory) = directory else { return Answered::NeedsFile };
        let time = self.clock.time(board.now());
        match self.pages.make(&self.root, path, &directory, identity, time, || board.clock()) {
            Ok(page) => self.answer_text(board, to, request, response, &page),
            Err(_) => self.answer_status(board, to, request, Response::new(500)),
        }
        Answered::Yes
    }

    fn serve_file(
        &mut self,
        board: &mut Switchboard<'_>,
        to: Peer,
        request: &Request<'_>,
        version: &Version,
        file: Option<File>,
    ) -> Answered {
        let stamp = &version.stamp;
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
                self.answer_status(board, to, request, Response::new(416).field("Content-Range", &range));
                return Answered::Yes;
            }
            Outcome::Failed => {
                self.answer_status(board, to, request, Response::new(412));
                return Answered::Yes;
            }
            Outcome::NotModified => {
                let response = Response::new(304).field("ETag", &stamp.etag).field("Vary", "Accept-Encoding");
                self.answer_text(board, to, request, response, "");
                return Answered::Yes;
            }
        };
        response = response
            .field("Content-Type", &version.kind)
            .field("ETag", &stamp.etag)
            .field("Last-Modified", &stamp.modified)
            .field("Accept-Ranges", "bytes")
            .field("Vary", "Accept-Encoding")
            .field("X-Content-Type-Options", "nosniff");
        if let Some(coding) = version.coding {
            response = response.field("Content-Encoding", coding);
        }
        let len = end - begin;
        if request.method == "HEAD" || len == 0 {
            if let Some(entry) = self.entry(board, to, request, response.status) {
                entry.log(0);
            }
            board.begin_response(to, &response, Length::Bytes(len));
            return Answered::Yes;
        }
        // The range lies within the file, and a file of which the bytes are here is small.
        if let Some(bytes) = version.bytes.get() {
            self.answer_bytes(board, to, request, response, &bytes[begin as usize..end as usize]);
            return Answered::Yes;
        }
        let Some(file) = file else { return Answered::NeedsFile };
        if stamp.len <= SMALL_BYTES_MAX {
            let mut bytes = vec![0; stamp.len as usize];
            match file.read_exact_at(&mut bytes, 0) {
                Ok(()) => {
                    self.answer_bytes(board, to, request, response, &bytes[begin as usize..end as usize]);
                    self.recent.keep_bytes(version, bytes);
                }
                Err(error) => {
                    log::warn!("a file could not be read to its end: {error}");
                    self.answer_status(board, to, request, Response::new(500));
                }
            }
            return Answered::Yes;
        }
        let Some(descriptor) = board.claim_descriptor() else {
            self.answer_status(board, to, request, Response::new(503));
            return Answered::Yes;
        };
        let entry = self.entry(board, to, request, response.status);
        let download = Download { file, _descriptor: descriptor, begin, end, at: begin, entry };
        match board.begin_response(to, &response, Length::Bytes(len)) {
            true => self.go_on(board, to, download),
            false => download.log(),
        }
        Answered::Yes
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
        match download.at == download.end || !board.is_open(to) {
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
            "OPTIONS" => self.answer_status(
                board,
                from,
                request,
                Response::new(204).field("Allow", "GET, HEAD, OPTIONS"),
            ),
            _ => self.answer_status(
                board,
                from,
                request,
                Response::new(405).field("Allow", "GET, HEAD, OPTIONS"),
            ),
        }
    }

    /// A file is no conversation.
    fn takes_websocket(&mut self, _board: &mut Switchboard<'_>, _from: Peer, _request: &Request<'_>) -> bool {
        false
    }

    /// A peer that does not speak HTTP can't ask for anything.
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
