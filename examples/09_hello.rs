//! Rung 9: **a service**.
//!
//! New here: messages instead of bytes. The URL says how the bytes move and where a message ends: `tcp://`
//! takes what came in one read for a message, `tcp+lines://` a line, and `unix:` and `unix+lines:` do so over a
//! Unix socket. A protocol (`src/protocol/`) finds the ends, wherever the network has cut the stream, and asks
//! `admit_message` before each message. A `Service` gets whole messages only. It does not see which protocol a client
//! speaks, so a server may listen at several URLs for the same service.
//!
//! `Server` is the reactor of rung 7 and what a program needs around it. It says where it listens; on SIGTERM
//! or ctrl-C it accepts no more clients, delivers every reply, and then ends.
//!
//! ```sh
//! cargo run --example 09_hello
//! printf 'hello\n' | nc -N 127.0.0.1 8080        # prints: hello
//!
//! cargo run --example 09_hello tcp+lines://127.0.0.1:8080
//! printf 'one\r\ntwo' | nc -N 127.0.0.1 8080     # two messages, each sent back as a line
//! ```
//!
//! **The limit**: it only ever answers. Rung 10 has a clock, and sends by itself.

use std::process::ExitCode;

use switchboard::{Message, Peer, Server, Service, Switchboard};

struct Echo;

impl Service for Echo {
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        board.send(from, message);
    }
}

fn main() -> ExitCode {
    let url = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:8080".into());
    if url.starts_with('-') {
        eprintln!("usage: 09_hello [URL], as in 09_hello tcp://127.0.0.1:8080");
        return ExitCode::from(2);
    }
    if let Err(error) = Server::new(Echo).listen(&url).and_then(Server::run) {
        eprintln!("cannot serve {url}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
