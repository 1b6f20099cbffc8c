//! A library example: **a key-value store with expiry**.
//!
//! State that all connections share is a field of the service: one thread serves them all, so it needs no lock. A value may
//! expire. A timer can't be cancelled, so each value remembers when it expires, and a timer that comes too early for it finds
//! that out: the value has been set again since.
//!
//! ```sh
//! cargo run --example key_value                          # or: key_value URL
//! nc 127.0.0.1 8080                                      # then type:
//! #   SET name Ada            OK
//! #   SET code 42 60          OK, and gone in 60 seconds
//! #   GET name                Ada
//! #   DEL name                OK
//! #   SHUTDOWN                stops the server: what was sent is delivered
//! ```

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use switchboard::reactor::Moment;
use switchboard::{Message, Peer, Server, Service, Switchboard};

/// The most keys. A store without a limit is a way to fill our memory.
const KEYS_MAX: usize = 100_000;

#[derive(Default)]
struct Store {
    values: HashMap<String, Value>,
    /// The keys of timers that are set, by the timer's number.
    expiring: HashMap<u64, String>,
    timers_set: u64,
}

struct Value {
    text: String,
    /// `None`: never.
    expires_at: Option<Moment>,
}

impl Store {
    fn set(
        &mut self,
        board: &mut Switchboard<'_>,
        key: &str,
        text: &str,
        seconds: Option<u64>,
    ) -> &'static str {
        if self.values.len() >= KEYS_MAX && !self.values.contains_key(key) {
            return "ERROR the store is full";
        }
        let expires_at = seconds.map(|seconds| {
            let after = Duration::from_secs(seconds);
            self.timers_set += 1;
            self.expiring.insert(self.timers_set, key.to_owned());
            board.set_timer(after, self.timers_set);
            board.now().after(after)
        });
        self.values.insert(key.to_owned(), Value { text: text.to_owned(), expires_at });
        "OK"
    }
}

impl Service for Store {
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        let Message::Text(line) = message else { return board.send(from, "ERROR this is not UTF-8") };
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["SET", key, text] => {
                let reply = self.set(board, key, text, None);
                board.send(from, reply);
            }
            ["SET", key, text, seconds] => match seconds.parse() {
                Ok(seconds) => {
                    let reply = self.set(board, key, text, Some(seconds));
                    board.send(from, reply);
                }
                Err(_) => board.send(from, "ERROR the seconds are no whole number"),
            },
            ["GET", key] => {
                board.send(from, self.values.get(key).map_or("NONE", |value| value.text.as_str()))
            }
            ["DEL", key] => board.send(from, if self.values.remove(key).is_some() { "OK" } else { "NONE" }),
            ["SHUTDOWN"] => {
                board.send(from, "OK");
                board.shutdown();
            }
            _ => board.send(from, "ERROR SET key value [seconds], GET key, DEL key or SHUTDOWN"),
        }
    }

    fn on_timer(&mut self, board: &mut Switchboard<'_>, number: u64) {
        let Some(key) = self.expiring.remove(&number) else { return };
        let expires_at = self.values.get(&key).and_then(|value| value.expires_at);
        if expires_at.is_some_and(|at| at <= board.now()) {
            self.values.remove(&key);
        }
    }
}

fn main() -> ExitCode {
    let url = std::env::args().nth(1).unwrap_or("tcp+lines://127.0.0.1:8080".into());
    if url.starts_with('-') {
        eprintln!("usage: key_value [URL], as in key_value tcp+lines://127.0.0.1:8080");
        return ExitCode::from(2);
    }
    if let Err(error) = Server::new(Store::default()).listen(&url).and_then(Server::run) {
        eprintln!("cannot serve {url}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
