//! A library example: **a room with a bot in it**.
//!
//! State of one peer is an entry in a map: it comes in `on_open` and goes in `on_close`, which is called once for every peer,
//! whatever ends it. The key is the `Peer`, a name that is never used twice. `broadcast` sends one message to many, and encodes
//! it once.
//!
//! The bot counts what each peer says, greets newcomers, and answers `!who`, `!count` and `!bye`.
//!
//! ```sh
//! cargo run --example chat_bot                           # or: chat_bot URL
//! nc 127.0.0.1 8080                                      # in two terminals; then type !who
//! ```

use std::collections::BTreeMap;
use std::process::ExitCode;

use switchboard::reactor::CloseReason;
use switchboard::{Message, Peer, Server, Service, Switchboard};

#[derive(Default)]
struct Room {
    members: BTreeMap<Peer, Member>,
    /// How many there have been: the next one's number.
    came: u64,
}

/// What is known of one peer.
struct Member {
    name: String,
    said: u64,
}

impl Room {
    fn say_to_all(&self, board: &mut Switchboard<'_>, text: &str) {
        board.broadcast(self.members.keys().copied(), text);
    }
}

impl Service for Room {
    fn on_open(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        self.came += 1;
        let name = format!("guest{}", self.came);
        board.send(peer, &format!("bot: hello {name}, try !who, !count or !bye"));
        self.say_to_all(board, &format!("bot: {name} is here"));
        self.members.insert(peer, Member { name, said: 0 });
    }

    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        let text = String::from_utf8_lossy(message.bytes()).into_owned();
        let Some(member) = self.members.get_mut(&from) else { return };
        match text.trim() {
            "!who" => {
                let names: Vec<&str> = self.members.values().map(|member| member.name.as_str()).collect();
                board.send(from, &format!("bot: {}", names.join(", ")));
            }
            "!count" => board.send(from, &format!("bot: you have said {} things", member.said)),
            "!bye" => {
                board.send(from, "bot: bye");
                board.finish(from); // what was sent is delivered first
            }
            said => {
                member.said += 1;
                let line = format!("{}: {said}", member.name);
                self.say_to_all(board, &line);
            }
        }
    }

    fn on_close(&mut self, board: &mut Switchboard<'_>, peer: Peer, _reason: CloseReason) {
        if let Some(member) = self.members.remove(&peer) {
            self.say_to_all(board, &format!("bot: {} is gone", member.name));
        }
    }
}

fn main() -> ExitCode {
    let url = std::env::args().nth(1).unwrap_or("tcp+lines://127.0.0.1:8080".into());
    if url.starts_with('-') {
        eprintln!("usage: chat_bot [URL], as in chat_bot tcp+lines://127.0.0.1:8080");
        return ExitCode::from(2);
    }
    if let Err(error) = Server::new(Room::default()).listen(&url).and_then(Server::run) {
        eprintln!("cannot serve {url}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
