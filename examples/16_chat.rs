//! Rung 16: **a room**.
//!
//! New here: the server sends without being asked. On an `http://` listener a client may ask to become a WebSocket; from
//! then on messages go in both directions at any time, and one that comes from one peer goes out to all. `broadcast`
//! encodes it once for each protocol, and the loop writes each outbox once in a turn, however many messages are in it.
//!
//! ```sh
//! cargo run --example 16_chat                                  # then open http://127.0.0.1:8080, twice
//! cargo run --example 16_chat tcp+lines://127.0.0.1:8080       # then nc 127.0.0.1 8080, twice
//! ```
//!
//! `switchboard serve chat` is this grown up: rooms, names, browsers and `nc` in one room, and rules for members that do
//! not read.
//!
//! **The limit**: each member gets every message, in order. Where the newest is all that counts, as in a game, a slow
//! reader is better served by less. Rung 17 sends less.

use std::process::ExitCode;

use switchboard::endpoint::Endpoint;
use switchboard::protocol::Framing;
use switchboard::protocol::http::{Request, Response};
use switchboard::reactor::CloseReason;
use switchboard::{Message, Peer, Server, Service, Switchboard};

const PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>Chat</title>
<ol id=log></ol><form id=form><input id=text aria-label=message autofocus autocomplete=off></form>
<script>
  const socket = new WebSocket(location.href.replace('http', 'ws'));
  const show = (text) => {
    const item = document.createElement('li');
    item.textContent = text; // never innerHTML: what others write is text
    document.getElementById('log').append(item);
  };
  socket.onmessage = (event) => show(event.data);
  socket.onclose = () => show('(the connection is closed)');
  document.getElementById('form').onsubmit = (event) => {
    event.preventDefault();
    socket.send(document.getElementById('text').value);
    document.getElementById('text').value = '';
  };
</script>";

#[derive(Default)]
struct Room {
    members: Vec<(Peer, String)>,
    guests: u32,
}

impl Room {
    fn tell(&self, board: &mut Switchboard<'_>, text: &str) {
        board.broadcast(self.members.iter().map(|(peer, _)| *peer), Message::Text(text));
    }

    fn name(&mut self, peer: Peer) -> Option<&mut String> {
        self.members.iter_mut().find(|(member, _)| *member == peer).map(|(_, name)| name)
    }
}

impl Service for Room {
    /// A browser asks for the page first, and is in the room with its WebSocket.
    fn on_open(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        let Some(Framing::WebSocket | Framing::Lines) = board.framing(peer) else { return };
        self.guests += 1;
        let name = format!("guest{}", self.guests);
        self.tell(board, &format!("* {name} is here; /nick NAME changes a name"));
        self.members.push((peer, name));
    }

    fn on_request(&mut self, board: &mut Switchboard<'_>, from: Peer, _request: &Request<'_>) {
        board.respond(from, &Response::new(200).field("Content-Type", "text/html"), PAGE.as_bytes());
    }

    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        let text: String =
            String::from_utf8_lossy(message.bytes()).chars().filter(|c| !c.is_control()).collect();
        let Some(name) = self.name(from) else { return };
        match text.strip_prefix("/nick ") {
            Some(new) => {
                let was = std::mem::replace(name, new.trim().chars().take(20).collect());
                let text = format!("* {was} is now {name}");
                self.tell(board, &text);
            }
            None => {
                let text = format!("{name}: {text}");
                self.tell(board, &text);
            }
        }
    }

    fn on_close(&mut self, board: &mut Switchboard<'_>, peer: Peer, _reason: CloseReason) {
        let Some(at) = self.members.iter().position(|(member, _)| *member == peer) else { return };
        let (_, name) = self.members.remove(at);
        self.tell(board, &format!("* {name} left"));
    }
}

fn main() -> ExitCode {
    let url = std::env::args().nth(1).unwrap_or("http://127.0.0.1:8080".into());
    if url.starts_with('-') {
        eprintln!("usage: 16_chat [URL], as in 16_chat http://127.0.0.1:8080");
        return ExitCode::from(2);
    }
    // Bytes without ends are no messages.
    if url.parse::<Endpoint>().is_ok_and(|endpoint| endpoint.framing() == Framing::Raw) {
        eprintln!(
            "cannot serve {url}: a chat needs messages; take http://HOST:PORT or tcp+lines://HOST:PORT"
        );
        return ExitCode::from(2);
    }
    if let Err(error) = Server::new(Room::default()).listen(&url).and_then(Server::run) {
        eprintln!("cannot serve {url}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
