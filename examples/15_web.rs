//! Rung 15: **HTTP**.
//!
//! New here: requests. `http://` puts a protocol between the bytes and the service that finds where a head ends and how long
//! its body is (`src/protocol/http/`); a service with `on_request` gets both, and responds. It need not know when the
//! connection ends, whether the client understands chunks, or that it sent ten requests at once: answers leave in the
//! order of the requests.
//!
//! Requests are independent: what one client wrote is there for the next, because the service is one value, on one thread.
//!
//! ```sh
//! cargo run --example 15_web                          # then open http://127.0.0.1:8080
//! curl -i http://127.0.0.1:8080/
//! curl -i --data 'hello' http://127.0.0.1:8080/notes
//! printf 'GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n' | nc -N 127.0.0.1 8080
//! printf 'GET / HTTP/1.1\nHost: x\n\n' | nc -N 127.0.0.1 8080    # lines end in CR LF: 400
//! ```
//!
//! `switchboard serve web --root DIR` is this with files: types, ranges, conditions, and no path that leads elsewhere.
//!
//! **The limit**: the client sends requests, the server answers, and has no way to begin. In rung 16 it has.

use std::process::ExitCode;

use switchboard::protocol::http::{Request, Response};
use switchboard::{Message, Peer, Server, Service, Switchboard};

/// If there are more, the oldest is forgotten: what clients can make us hold needs a bound.
const NOTES_MAX: usize = 100;

#[derive(Default)]
struct Notes {
    notes: Vec<String>,
}

impl Service for Notes {
    fn on_request(&mut self, board: &mut Switchboard<'_>, from: Peer, request: &Request<'_>) {
        match (request.method, request.path()) {
            ("GET" | "HEAD", "/") => {
                let response = Response::new(200).field("Content-Type", "text/html; charset=utf-8");
                board.respond(from, &response, self.page().as_bytes());
            }
            ("POST", "/notes") => match std::str::from_utf8(request.body) {
                Ok(note) => {
                    self.add(note.strip_prefix("note=").unwrap_or(note)); // the form sends its field's name, too
                    board.respond(from, &Response::new(303).field("Location", "/"), b"");
                }
                Err(_) => board.respond(from, &Response::new(400), b"a note is text\n"),
            },
            (_, "/") => board.respond(from, &Response::new(405).field("Allow", "GET, HEAD"), b""),
            (_, "/notes") => board.respond(from, &Response::new(405).field("Allow", "POST"), b""),
            _ => board.respond(from, &Response::new(404), b"there is no such page\n"),
        }
    }

    /// Over other protocols (`15_web tcp+lines://127.0.0.1:8080`), a message is a note.
    fn on_message(&mut self, _board: &mut Switchboard<'_>, _from: Peer, message: Message<'_>) {
        self.add(&String::from_utf8_lossy(message.bytes()));
    }
}

impl Notes {
    fn add(&mut self, note: &str) {
        if self.notes.len() == NOTES_MAX {
            self.notes.remove(0);
        }
        self.notes.push(note.trim().to_owned());
    }

    fn page(&self) -> String {
        let mut page =
            "<!doctype html><html lang=en><meta charset=utf-8><title>Notes</title><h1>Notes</h1>\n"
                .to_owned();
        for note in &self.notes {
            // What others wrote is text, never markup.
            page += &format!("<p>{}</p>\n", note.replace('&', "&amp;").replace('<', "&lt;"));
        }
        page + "<form action=/notes method=post enctype=text/plain><input name=note aria-label=note autofocus><button>Add</button></form>\n"
    }
}

fn main() -> ExitCode {
    let url = std::env::args().nth(1).unwrap_or("http://127.0.0.1:8080".into());
    if url.starts_with('-') {
        eprintln!("usage: 15_web [URL], as in 15_web http://127.0.0.1:8080");
        return ExitCode::from(2);
    }
    if let Err(error) = Server::new(Notes::default()).listen(&url).and_then(Server::run) {
        eprintln!("cannot serve {url}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
