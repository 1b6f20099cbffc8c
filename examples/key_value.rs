//! A library example: **a key-value store with expiry**.
//!
//! State that all connections share is a field of the service: one thread serves them all, so it needs no lock.
//!
//! A value may expire. A timer for each of them would be simple, and a way to fill our memory: a timer can't be cancelled, so a
//! client that sets one key again and again would leave one behind each time. So there is one timer for all values. It comes
//! once a second while any value expires, and removes those whose time is over. `GET` looks at the time itself.
//!
//! Everything has a limit, as in any server. Any client may stop this one: it is for clients that you trust.
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

use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;
use std::time::Duration;

use switchboard::reactor::Moment;
use switchboard::{Message, Peer, Server, Service, Switchboard};

/// The most keys, and the most bytes of a key with its value: together 100 MB.
const KEYS_MAX: usize = 100_000;
const ENTRY_BYTES_MAX: usize = 1_000;

/// How often values whose time is over are removed.
const SWEEP: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Store {
    values: HashMap<String, Value>,
    /// The values that expire, the next one first.
    expiring: BTreeSet<(Moment, String)>,
    /// The timer is set. There is never more than one.
    sweeps: bool,
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
        if key.len() + text.len() > ENTRY_BYTES_MAX {
            return "ERROR the key and the value are too long";
        }
        if self.values.len() >= KEYS_MAX && !self.values.contains_key(key) {
            return "ERROR the store is full";
        }
        self.remove(key);
        let expires_at = seconds.map(|seconds| board.now().after(Duration::from_secs(seconds)));
        if let Some(at) = expires_at {
            self.expiring.insert((at, key.to_owned()));
            self.sweep_later(board);
        }
        self.values.insert(key.to_owned(), Value { text: text.to_owned(), expires_at });
        "OK"
    }

    fn get(&self, key: &str, now: Moment) -> Option<&str> {
        let value = self.values.get(key)?;
        value.expires_at.is_none_or(|at| at > now).then_some(&value.text)
    }

    /// Returns whether it was there.
    fn remove(&mut self, key: &str) -> bool {
        let Some(value) = self.values.remove(key) else { return false };
        if let Some(at) = value.expires_at {
            self.expiring.remove(&(at, key.to_owned()));
        }
        true
    }

    fn sweep_later(&mut self, board: &mut Switchboard<'_>) {
        if !self.sweeps && !self.expiring.is_empty() {
            self.sweeps = true;
            board.set_timer(SWEEP, 0);
        }
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
            ["GET", key] => board.send(from, self.get(key, board.now()).unwrap_or("NONE")),
            ["DEL", key] => board.send(from, if self.remove(key) { "OK" } else { "NONE" }),
            ["SHUTDOWN"] => {
                board.send(from, "OK");
                board.shutdown();
            }
            _ => board.send(from, "ERROR SET key value [seconds], GET key, DEL key or SHUTDOWN"),
        }
    }

    fn on_timer(&mut self, board: &mut Switchboard<'_>, _key: u64) {
        self.sweeps = false;
        while self.expiring.first().is_some_and(|(at, _)| *at <= board.now()) {
            if let Some((_, key)) = self.expiring.pop_first() {
                self.values.remove(&key);
            }
        }
        self.sweep_later(board);
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
