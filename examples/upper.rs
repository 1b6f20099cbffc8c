//! A library example: **an upper-caser**, the smallest program of your own.
//!
//! A `Service` gets whole messages and answers them. The URL decides what a message is: a line over `tcp+lines://`, a datagram
//! over `udp://`, a text over `ws://`. So this program serves telnet, a browser and a UDP socket with the same ten lines.
//!
//! ```sh
//! cargo run --example upper                              # or: upper URL
//! printf 'hello\n' | nc -N 127.0.0.1 8080                # prints: HELLO
//! ```

use std::process::ExitCode;

use switchboard::service::Origin;
use switchboard::{Message, Peer, Server, Service, Switchboard};

struct Upper;

impl Service for Upper {
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        match message {
            Message::Text(text) => board.send(from, &text.to_uppercase()),
            Message::Binary(bytes) => board.send(from, &bytes.to_ascii_uppercase()),
        }
    }

    fn on_datagram(&mut self, board: &mut Switchboard<'_>, from: Origin, bytes: &[u8]) {
        if !from.is_server() {
            board.send_to(from, &bytes.to_ascii_uppercase());
        }
    }
}

fn main() -> ExitCode {
    let url = std::env::args().nth(1).unwrap_or("tcp+lines://127.0.0.1:8080".into());
    if url.starts_with('-') {
        eprintln!("usage: upper [URL], as in upper tcp+lines://127.0.0.1:8080");
        return ExitCode::from(2);
    }
    if let Err(error) = Server::new(Upper).listen(&url).and_then(Server::run) {
        eprintln!("cannot serve {url}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
