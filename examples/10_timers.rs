//! Rung 10: **time**.
//!
//! New here: a service that sends by itself. It greets each client, and sends a line to all of them once a
//! second. On one thread that takes two things: a set of names to send to, and a way to wait that stops no
//! client. A `sleep` in a callback would stop all of them; `set_timer` makes an entry in the loop's list of timers.
//! The loop ends its next wait in time and calls `on_timer`.
//!
//! - `board.now()` is a `Moment`: a time on the loop's own clock. It does not look at
//!   the clock each time, but returns when the turn began, or when a timer came due in it. So clients that are served
//!   together get the same time. `after` adds a `Duration`, `since` subtracts a `Moment`.
//! - A timer comes late, by as much as the loop was busy, and never early. So each is set from when the last
//!   was *due* and not from when it came: else every delay would add to the next, and the ticks would drift.
//! - A timer can't be cancelled. When the last client has left, ours still comes once, finds no client, and is
//!   not set again; `due` remembers that it is set, so that there are never two of them.
//!
//! ```sh
//! cargo run --example 10_timers                  # or: 10_timers URL INTERVAL_IN_MILLISECONDS
//! nc 127.0.0.1 8080                              # greets, ticks, and sends back each line that you type
//! ```
//!
//! **The limit**: a stream promises that everything arrives, in order. So if a client does not read, each
//! tick waits in its outbox, until the reactor closes the connection (`stall_after`, 30 seconds). Where only
//! the newest counts, that is the wrong promise. Rung 11 makes none.

use std::collections::BTreeSet;
use std::env;
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::time::Duration;

use switchboard::reactor::{CloseReason, Moment};
use switchboard::{Message, Peer, Server, Service, Switchboard};

/// A timer's key comes back in `on_timer`, to tell it from others. This is our only one.
const TICK: u64 = 0;

struct Ticker {
    interval: Duration,
    /// The clients that are here: their names. The connections are the board's.
    present: BTreeSet<Peer>,
    ticks: u64,
    /// When the timer that is set comes up; `None` if none is, as no client is here.
    due: Option<Moment>,
}

impl Ticker {
    fn tick_after(&mut self, board: &mut Switchboard<'_>, delay: Duration) {
        self.due = Some(board.now().after(delay));
        board.set_timer(delay, TICK);
    }
}

impl Service for Ticker {
    fn on_open(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        let greeting = format!("hello, a tick comes every {:?}", self.interval);
        board.send(peer, Message::Text(&greeting));
        self.present.insert(peer);
        if self.due.is_none() {
            self.tick_after(board, self.interval);
        }
    }

    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        board.send(from, message);
    }

    fn on_timer(&mut self, board: &mut Switchboard<'_>, _key: u64) {
        let Some(due) = self.due.take() else { return };
        if self.present.is_empty() {
            return;
        }
        self.ticks += 1;
        let tick = format!("tick {}", self.ticks);
        for peer in &self.present {
            board.send(*peer, Message::Text(&tick));
        }
        // What is left of the period that has begun by now. A server that was stopped for a minute skips
        // the ticks that it missed, instead of sending them all at once.
        let late = board.now().since(due).as_nanos() % self.interval.as_nanos();
        self.tick_after(board, self.interval - Duration::from_nanos(late as u64));
    }

    fn on_close(&mut self, _board: &mut Switchboard<'_>, peer: Peer, _reason: CloseReason) {
        self.present.remove(&peer);
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let Some((url, interval)) = url_and_interval(&arguments) else {
        eprintln!("usage: 10_timers [URL [MILLISECONDS]], as in 10_timers tcp+lines://127.0.0.1:8080 1000");
        return ExitCode::from(2);
    };
    let ticker = Ticker { interval, present: BTreeSet::new(), ticks: 0, due: None };
    match Server::new(ticker).listen(url).and_then(Server::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn url_and_interval(arguments: &[String]) -> Option<(&str, Duration)> {
    let (url, milliseconds) = match arguments {
        [] => ("tcp+lines://127.0.0.1:8080", "1000"),
        [url] => (url.as_str(), "1000"),
        [url, milliseconds] => (url.as_str(), milliseconds.as_str()),
        _ => return None,
    };
    // Not zero: such a timer is always due, and the loop would never sleep.
    let milliseconds: NonZeroU64 = milliseconds.parse().ok()?;
    (!url.starts_with('-')).then_some((url, Duration::from_millis(milliseconds.get())))
}
