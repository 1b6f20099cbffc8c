//! Rung 17: **the latest, or nothing**.
//!
//! New here: a world that goes on by itself. Players send where they are. Ten times a second the server sends a picture:
//! where all of them are *now*. Positions in between are not sent, and a picture that a player missed is not sent later: a
//! game needs the present.
//!
//! Each player sets its own pace: one picture for each message. A client that has received a picture sends its position, and
//! that asks for the next picture. So nothing piles up on the way to a slow player, neither here nor in the kernel's
//! buffers, which would hold megabytes of the past. It sees fewer pictures, and each is fresh.
//!
//! Ticks are on a grid: the next one is due a tenth of a second after the last one *was due*, not after it was done.
//!
//! ```sh
//! cargo run --example 17_relay &                 # without players nothing ticks: it sleeps
//! nc 127.0.0.1 8080                              # then type 30 40, Enter, and again; from a second terminal, too
//! while sleep 0.1; do echo $((RANDOM % 100)) $((RANDOM % 100)); done | nc 127.0.0.1 8080
//! cargo run --example 17_relay ws://127.0.0.1:8080
//! ```
//!
//! `switchboard serve relay` is this grown up: over UDP, where an address may be forged and must be proved first; with an
//! area of interest, so that a player is sent only what is near it; and with a page.
//!
//! **The limit**: all rungs so far use one core. Rung 18 uses more.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use std::process::ExitCode;

use switchboard::reactor::{CloseReason, Moment};
use switchboard::{Message, Peer, Server, Service, Switchboard};

const TICK: Duration = Duration::from_millis(100);

struct Player {
    at: (u8, u8),
    /// It has sent its position since it got the last picture.
    asks: bool,
}

#[derive(Default)]
struct World {
    players: BTreeMap<Peer, Player>,
    ticks: u64,
    /// When the next one is due, while there are players.
    due: Option<Moment>,
}

impl World {
    fn schedule(&mut self, board: &mut Switchboard<'_>, due: Moment) {
        self.due = Some(due);
        board.set_timer(due.since(board.now()), 0);
    }
}

impl Service for World {
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        let text = String::from_utf8_lossy(message.bytes());
        let mut numbers = text.split_whitespace().map(|word| word.parse::<u8>().ok().filter(|at| *at < 100));
        let (Some(Some(x)), Some(Some(y)), None) = (numbers.next(), numbers.next(), numbers.next()) else {
            return board.send(from, Message::Text("say where you are: two numbers from 0 to 99"));
        };
        self.players.insert(from, Player { at: (x, y), asks: true });
        if self.due.is_none() {
            self.schedule(board, board.now().after(TICK));
        }
    }

    fn on_timer(&mut self, board: &mut Switchboard<'_>, _key: u64) {
        let Some(due) = self.due.filter(|_| !self.players.is_empty()) else {
            self.due = None; // there are no players: the next one starts the timer again
            return;
        };
        self.ticks += 1;
        let mut picture = format!("tick {}:", self.ticks);
        for (peer, player) in &self.players {
            let _ = write!(picture, " {peer} at {},{}", player.at.0, player.at.1);
        }
        let asking = self.players.iter_mut().filter_map(|(peer, player)| {
            std::mem::take(&mut player.asks).then_some(*peer) // one picture for each message
        });
        board.broadcast(asking, Message::Text(&picture));
        // The next moment on the grid that is still to come: what was missed is missed.
        let mut next = due.after(TICK);
        while next <= board.clock() {
            next = next.after(TICK);
        }
        self.schedule(board, next);
    }

    fn on_close(&mut self, _board: &mut Switchboard<'_>, peer: Peer, _reason: CloseReason) {
        self.players.remove(&peer);
    }
}

fn main() -> ExitCode {
    let url = std::env::args().nth(1).unwrap_or("tcp+lines://127.0.0.1:8080".into());
    if url.starts_with('-') {
        eprintln!("usage: 17_relay [URL], as in 17_relay tcp+lines://127.0.0.1:8080");
        return ExitCode::from(2);
    }
    if let Err(error) = Server::new(World::default()).listen(&url).and_then(Server::run) {
        eprintln!("cannot serve {url}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
