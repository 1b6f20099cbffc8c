//! A library example: **two services in one process**, each at its own address.
//!
//! `Server::mount` takes any number of services. Each one has its own peers and timers, and all run on one thread. To share something
//! between them, give both an `Rc` of it: here, a greeter counts its guests, and an inspector at another address reports the count.
//!
//! ```sh
//! cargo run --example two_services                       # or: two_services URL URL
//! printf 'Ada\n' | nc -N 127.0.0.1 8080                  # prints: hello Ada
//! printf 'how many?\n' | nc -N 127.0.0.1 8081            # prints: 1 guest so far
//! ```

use std::cell::Cell;
use std::process::ExitCode;
use std::rc::Rc;

use switchboard::{Message, Peer, Server, Service, Switchboard};

struct Greeter {
    guests: Rc<Cell<u32>>,
}

impl Service for Greeter {
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, name: Message<'_>) {
        self.guests.set(self.guests.get() + 1);
        board.send(from, &format!("hello {}", String::from_utf8_lossy(name.bytes())));
    }
}

struct Inspector {
    guests: Rc<Cell<u32>>,
}

impl Service for Inspector {
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, _question: Message<'_>) {
        match self.guests.get() {
            1 => board.send(from, "1 guest so far"),
            count => board.send(from, &format!("{count} guests so far")),
        }
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let public = words.next().unwrap_or("tcp+lines://127.0.0.1:8080".into());
    let private = words.next().unwrap_or("tcp+lines://127.0.0.1:8081".into());
    if public.starts_with('-') {
        eprintln!("usage: two_services [URL [URL]], as in two_services tcp+lines://127.0.0.1:8080");
        return ExitCode::from(2);
    }
    let guests = Rc::new(Cell::new(0));
    let server = Server::of_several()
        .mount(&public, Greeter { guests: Rc::clone(&guests) })
        .and_then(|server| server.mount(&private, Inspector { guests }));
    if let Err(error) = server.and_then(Server::run) {
        eprintln!("cannot serve {public} and {private}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
