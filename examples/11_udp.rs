//! Rung 11: **datagrams**.
//!
//! New here: a service that receives datagrams, sends each back, and counts them. A datagram is a message
//! already: what one `send` sent, one `on_datagram` gets, whole; it may be empty. There is nothing else: no
//! connection, so no `on_open`, no end and no back pressure. It may be lost, doubled or overtaken, and so may
//! the answer: what our socket does not take at once is dropped and counted, as a late one may be worth
//! less than none.
//!
//! - Size: beyond 65,507 bytes (over IPv4) `send` fails with EMSGSIZE. Beyond what the path carries in one piece,
//!   some 1,400 bytes on most, it travels in fragments, and one lost fragment is the loss of all.
//! - The sender's address may be forged. If an answer is larger than its question, an attacker can aim our
//!   answers at a victim, and have us multiply its bytes (*amplification*). So an echo is as long as what it
//!   answers. And two such servers, given one datagram with a forged address, echo it to each other for ever
//!   (CVE-2024-2169). So senders that are servers themselves get no answer, and `Server` limits the rate of each
//!   address (see `Rate::DATAGRAMS`): an exchange that exceeds it loses a datagram, and ends.
//! - What is kept for each sender is kept for each forged address, too: it needs a bound.
//!
//! The counts are longer than any question, so they are sent over TCP, where the handshake has proved the
//! client's address: the same service, at a second URL.
//!
//! ```sh
//! cargo run --example 11_udp
//! printf hello | nc -u -w 1 127.0.0.1 8080       # prints: hello; there is no FIN, so nc waits a second
//! nc -N 127.0.0.1 8080 </dev/null                # prints how many each sender sent
//! ```
//!
//! **The limit**: all rungs so far are servers, and wait to be called. Rung 12 opens a connection itself.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::process::ExitCode;

use switchboard::service::Origin;
use switchboard::{Message, Peer, Server, Service, Switchboard};

/// At most this many senders have a count of their own. The datagrams of others count in `total` only.
const SENDERS_MAX: usize = 1000;

#[derive(Default)]
struct Tally {
    total: u64,
    senders: BTreeMap<SocketAddr, u64>,
}

impl Service for Tally {
    fn on_datagram(&mut self, board: &mut Switchboard<'_>, from: Origin, bytes: &[u8]) {
        self.total += 1;
        if self.senders.len() < SENDERS_MAX || self.senders.contains_key(&from.address) {
            *self.senders.entry(from.address).or_default() += 1;
        }
        if !from.is_server() {
            board.send_to(from, bytes);
        }
    }

    /// A client came by TCP: it gets the report, and our FIN.
    fn on_open(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        let mut report = format!("{} datagrams", self.total);
        for (sender, count) in &self.senders {
            report += &format!("\n{sender} sent {count}");
        }
        board.send(peer, Message::Text(&report));
        board.finish(peer);
    }

    /// From a connection, and those are finished before they can send anything.
    fn on_message(&mut self, _board: &mut Switchboard<'_>, _from: Peer, _message: Message<'_>) {}
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let urls: Vec<&str> = match arguments.as_slice() {
        [] => vec!["udp://127.0.0.1:8080", "tcp+lines://127.0.0.1:8080"],
        urls => urls.iter().map(String::as_str).collect(),
    };
    if urls.iter().any(|url| url.starts_with('-')) {
        eprintln!("usage: 11_udp [URL]..., as in 11_udp udp://127.0.0.1:8080 tcp+lines://127.0.0.1:8080");
        return ExitCode::from(2);
    }
    match urls.into_iter().try_fold(Server::new(Tally::default()), Server::listen).and_then(Server::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
