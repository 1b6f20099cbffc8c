//! Relay: a small world in real time. Clients say where they are, over UDP or WebSocket, and are told where others are,
//! `--tick` times a second.
//!
//! **The latest, or nothing.** A tick sends what is so now; what a client has missed is never sent again. A client that
//! does not confirm what it was sent (each update repeats the nonce of the last state that came) is left out until it does, or
//! a second has passed: so a slow one gets fewer and fresher pictures, and nowhere on the way to it a backlog grows, neither in
//! our outbox nor in the kernel's buffers, which would hold megabytes of the past.
//!
//! **No address is spoofed or flooded.** A hello is answered with a token, sent to the hello's address, of the same length; only
//! a client that has received it is served. Tokens are a keyed hash of the address, so that a flood of hellos is not remembered
//! (a SYN cookie's idea, RFC 4987 section 3.6). A token is good for an hour, and in an hour an address can change hands. So the
//! stream itself is proven too: without a nonce that came back, a client over UDP is sent at most three times what it sends
//! (QUIC's rule, RFC 9000 section 8.1).
//!
//! **No answer is answered.** A datagram that no client sends gets silence, so that a forged sender never makes two servers
//! answer each other.
//!
//! **Ticks are on a grid**: the n-th is due n periods after the first, however late the one before was; ticks that were
//! missed altogether are left out. How late one was is told in it, and counted. While nobody is there, nothing ticks.
//!
//! - `wire`: what goes over the network;
//! - `world`: who sees whom.
//!
//! Invariant: each player has a place, and is where the place says.

mod wire;
mod world;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use crate::protocol::http::Request;
use crate::protocol::{Framing, Message};
use crate::reactor::{CloseReason, Moment, Peer};

use super::ambient::{Ambient, Chance};
use super::metrics::Metrics;
use super::page::{self, Asset};
use super::{At, Origin, Service, Switchboard};
use wire::{Position, Refusal, Said, StateHead};
use world::Map;

pub use wire::MESSAGE_BYTES;
pub use world::{SIGHT, SIGHT_MAX};

/// The WebSocket subprotocol, for clients that ask for one.
pub const SUBPROTOCOL: &str = "switchboard.relay.v1";

/// Who has said nothing over UDP for so long is gone.
const SILENT_FOR: Duration = Duration::from_secs(5);

/// A token is good for one to two of these.
const TOKEN_FOR: Duration = Duration::from_secs(60 * 60);

/// States that may be on their way to a client; one that confirms nothing is sent one a second.
const UNSEEN_MAX: usize = 8;
const UNSEEN_FOR: Duration = Duration::from_secs(1);

/// What an update over UDP pays for while no nonce has come back.
const CREDIT_BYTES: usize = 3 * MESSAGE_BYTES;

/// The longest state. A datagram of 548 bytes reaches every IPv4 host in one piece (576 bytes with its headers, RFC 1122
/// section 3.3.2).
const STATE_BYTES_MAX: usize = wire::STATE_HEAD_BYTES + SIGHT_MAX * wire::SIGHT_BYTES;
const _: () = assert!(STATE_BYTES_MAX <= 548 && CREDIT_BYTES >= wire::STATE_HEAD_BYTES);

/// The page: HTML, style and one script.
const PAGE: &[Asset] = &[
    Asset { path: "/", kind: "text/html; charset=utf-8", text: include_str!("page/index.html") },
    Asset { path: "/relay.css", kind: "text/css; charset=utf-8", text: include_str!("page/relay.css") },
    Asset { path: "/relay.js", kind: "text/javascript; charset=utf-8", text: include_str!("page/relay.js") },
];

/// How a world goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How often a second the world is told. 1 to 1000.
    pub ticks_per_s: u32,
    /// The most players.
    pub players_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Rules { ticks_per_s: 30, players_max: 1000 }
    }
}

/// How a player is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    Datagrams(Origin),
    WebSocket(Peer),
}

#[derive(Debug)]
struct Player {
    id: u32,
    way: Way,
    at: Position,
    /// The last update's number, and when it came.
    sequence: u32,
    heard_at: Moment,
    /// The nonces of the states that were sent behind the last one that it has confirmed, the oldest first; at most
    /// [`UNSEEN_MAX`].
    unseen: VecDeque<u32>,
    sent_at: Moment,
    /// A nonce has come back, and a window of states was not yet sent since then: it is there, and receives.
    proven: bool,
    /// Bytes that it may be sent while it is not proven; at most one state.
    credit_bytes: usize,
}

/// See the module's text.
pub struct Relay {
    rules: Rules,
    players: Vec<Player>,
    /// Where in `players` somebody is.
    places: HashMap<Way, usize>,
    last_id: u32,
    map: Map,
    secret: Chance,
    /// When the next tick is due; `None` while nobody is there.
    next: Option<Moment>,
    tick: u32,
    counts: Counts,
    /// Room for a message, and for the players that one sees.
    message: Vec<u8>,
    seen: Vec<(u64, u32)>,
}

/// For the metrics.
#[derive(Debug, Default)]
struct Counts {
    skipped: u64,
    /// By how late they were: up to 250 us, and twice as much in each that follows; and the rest.
    late: [u64; 8],
    late_us: u64,
    updates: u64,
    states: u64,
    conflated: u64,
    refused: u64,
}

impl Relay {
    /// With nobody in it.
    pub fn new(rules: Rules) -> Relay {
        Relay::with(rules, &Ambient::machine())
    }

    /// The same, with these secrets.
    pub fn with(rules: Rules, ambient: &Ambient) -> Relay {
        Relay {
            rules,
            players: Vec::new(),
            places: HashMap::new(),
            last_id: 0,
            map: Map::default(),
            secret: ambient.chance(),
            next: None,
            tick: 0,
            counts: Counts::default(),
            message: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Has these rules hold from now on, for players who are there, too: the next tick but one is due by them.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// What only who receives at this address can know, at this time. Never 0.
    fn token(&self, origin: Origin, hour: u64) -> u64 {
        self.secret.hash_one((origin, hour)) | 1
    }

    fn is_token(&self, origin: Origin, token: u64, now: Moment) -> bool {
        let hour = hour(now);
        token == self.token(origin, hour) || token == self.token(origin, hour.saturating_sub(1))
    }

    fn send(&self, board: &mut Switchboard<'_>, way: Way, bytes: &[u8]) {
        match way {
            Way::Datagrams(origin) => board.send_to(origin, bytes),
            Way::WebSocket(peer) => board.send(peer, Message::Binary(bytes)),
        }
    }

    fn refuse(&mut self, board: &mut Switchboard<'_>, way: Way, why: Refusal) {
        self.counts.refused += 1;
        // Where it is longer than what it answers, it is not sent: see `Switchboard::send_to`.
        self.send(board, way, &wire::refusal(why));
    }

    fn receive(&mut self, board: &mut Switchboard<'_>, way: Way, bytes: &[u8]) {
        let now = board.now();
        let said = match (wire::parse(bytes), way) {
            (Some(said), _) => said,
            // The sender may be forged, and what came may be an answer of the server that is really there.
            (None, Way::Datagrams(_)) => {
                self.counts.refused += 1;
                return;
            }
            (None, Way::WebSocket(_)) => return self.refuse(board, way, Refusal::NotUnderstood),
        };
        let is_known = |token| match way {
            Way::Datagrams(origin) => self.is_token(origin, token, now),
            Way::WebSocket(_) => true, // its connection is its token
        };
        match said {
            Said::Hello { number } => {
                let token = match way {
                    Way::Datagrams(origin) => self.token(origin, hour(now)),
                    Way::WebSocket(_) => 0,
                };
                self.send(board, way, &wire::welcome(token, number, self.rules.ticks_per_s));
            }
            Said::Update { token, .. } | Said::Bye { token } if !is_known(token) => {
                self.refuse(board, way, Refusal::Token);
            }
            Said::Update { sequence, at, seen, .. } => {
                self.counts.updates += 1;
                match self.places.get(&way) {
                    Some(&index) => self.players[index].update(sequence, at, seen, now),
                    None if self.players.len() >= self.rules.players_max => {
                        self.refuse(board, way, Refusal::Full);
                    }
                    None => self.enter(board, way, sequence, at),
                }
            }
            Said::Bye { .. } => self.leave(way),
        }
    }

    fn enter(&mut self, board: &mut Switchboard<'_>, way: Way, sequence: u32, at: Position) {
        let now = board.now();
        self.last_id = self.last_id.wrapping_add(1).max(1);
        self.places.insert(way, self.players.len());
        self.players.push(Player {
            id: self.last_id,
            way,
            at,
            sequence,
            heard_at: now,
            unseen: VecDeque::new(),
            sent_at: now,
            proven: false,
            credit_bytes: CREDIT_BYTES,
        });
        if self.next.is_none() {
            self.schedule(board, now.after(self.period()));
        }
    }

    fn leave(&mut self, way: Way) {
        let Some(index) = self.places.remove(&way) else { return };
        self.players.swap_remove(index);
        if let Some(moved) = self.players.get(index) {
            self.places.insert(moved.way, index);
        }
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1) / self.rules.ticks_per_s
    }

    fn schedule(&mut self, board: &mut Switchboard<'_>, next: Moment) {
        self.next = Some(next);
        board.set_timer(next.since(board.now()), 0);
    }

    fn tick(&mut self, board: &mut Switchboard<'_>) {
        let Some(due) = self.next else { return };
        let now = board.clock();
        let (late, period) = (now.since(due), self.period());
        self.counts.count_tick(late);
        self.tick = self.tick.wrapping_add(1);
        let silent: Vec<Way> =
            self.players.iter().filter(|player| player.is_silent(now)).map(|it| it.way).collect();
        silent.into_iter().for_each(|way| self.leave(way));
        self.send_states(board, now, late);
        if self.players.is_empty() {
            self.next = None;
            return;
        }
        // The next one on the grid that is still to come.
        let missed = u32::try_from(late.as_nanos() / period.as_nanos()).unwrap_or(u32::MAX - 1);
        self.counts.skipped += u64::from(missed);
        self.tick = self.tick.wrapping_add(missed);
        self.schedule(board, due.after(period * (1 + missed)));
    }

    fn send_states(&mut self, board: &mut Switchboard<'_>, now: Moment, late: Duration) {
        let late_us = u32::try_from(late.as_micros()).unwrap_or(u32::MAX);
        self.map.draw(self.players.iter().map(|player| player.at));
        let (mut message, mut seen) = (std::mem::take(&mut self.message), std::mem::take(&mut self.seen));
        for index in 0..self.players.len() {
            let player = &self.players[index];
            let Some(room) = player.room(now) else {
                self.counts.conflated += 1;
                continue;
            };
            let turn = self.tick as usize;
            self.map.look(index, player.at, turn, |other| self.players[other].at, &mut seen);
            seen.truncate((room - wire::STATE_HEAD_BYTES) / wire::SIGHT_BYTES); // the nearest come first
            let held = now.since(player.heard_at).as_micros() / 100;
            let head = StateHead {
                id: player.id,
                tick: self.tick,
                heard: player.sequence,
                held: u16::try_from(held).unwrap_or(u16::MAX),
                late_us,
                nonce: self.secret.hash_one(("nonce", player.id, self.tick)) as u32,
            };
            wire::begin_state(&head, seen.len(), &mut message);
            for (_, other) in &seen {
                let other = &self.players[*other as usize];
                wire::put_sight(other.id, other.at, &mut message);
            }
            self.send(board, player.way, &message);
            self.counts.states += 1;
            self.players[index].sent(head.nonce, message.len(), now);
        }
        (self.message, self.seen) = (message, seen);
    }
}

fn hour(now: Moment) -> u64 {
    now.since(Moment::default()).as_secs() / TOKEN_FOR.as_secs()
}

impl Player {
    /// Only what is newer counts: datagrams come in any order, and twice.
    fn update(&mut self, sequence: u32, at: Position, seen: u32, now: Moment) {
        if !wire::is_after(sequence, self.sequence) {
            return;
        }
        (self.sequence, self.at, self.heard_at) = (sequence, at, now);
        self.credit_bytes = (self.credit_bytes + CREDIT_BYTES).min(STATE_BYTES_MAX);
        if let Some(index) = self.unseen.iter().position(|nonce| *nonce == seen) {
            self.unseen.drain(..=index);
            self.proven = true;
        }
    }

    /// The bytes that its next state may have; `None` where none is due.
    fn room(&self, now: Moment) -> Option<usize> {
        if self.unseen.len() >= UNSEEN_MAX && now.since(self.sent_at) < UNSEEN_FOR {
            return None;
        }
        match self.way {
            Way::Datagrams(_) if !self.proven => {
                (self.credit_bytes >= wire::STATE_HEAD_BYTES).then_some(self.credit_bytes)
            }
            // A connection is proof by itself.
            Way::Datagrams(_) | Way::WebSocket(_) => Some(STATE_BYTES_MAX),
        }
    }

    /// A state was sent to it.
    fn sent(&mut self, nonce: u32, bytes: usize, now: Moment) {
        if !self.proven {
            self.credit_bytes = self.credit_bytes.saturating_sub(bytes);
        }
        if self.unseen.len() == UNSEEN_MAX {
            self.unseen.pop_front(); // one a second is tried, and the latest is the likeliest to be confirmed
        }
        self.unseen.push_back(nonce);
        self.proven &= self.unseen.len() < UNSEEN_MAX;
        self.sent_at = now;
    }

    /// A connection says itself when it ends.
    fn is_silent(&self, now: Moment) -> bool {
        matches!(self.way, Way::Datagrams(_)) && now.since(self.heard_at) > SILENT_FOR
    }
}

impl Counts {
    /// The bound of a class of lateness.
    fn bound_us(class: usize) -> u64 {
        250 << class
    }

    fn count_tick(&mut self, late: Duration) {
        let late_us = late.as_micros() as u64;
        self.late_us += late_us;
        let class = (0..self.late.len()).find(|class| late_us <= Counts::bound_us(*class));
        self.late[class.unwrap_or(self.late.len() - 1)] += 1;
    }
}

impl Service for Relay {
    fn on_datagram(&mut self, board: &mut Switchboard<'_>, from: Origin, bytes: &[u8]) {
        if !from.is_server() {
            self.receive(board, Way::Datagrams(from), bytes);
        }
    }

    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        match (board.framing(from), message) {
            (Some(Framing::WebSocket), Message::Binary(bytes)) => {
                self.receive(board, Way::WebSocket(from), bytes)
            }
            (Some(Framing::WebSocket), Message::Text(_)) => {
                self.refuse(board, Way::WebSocket(from), Refusal::NotUnderstood);
            }
            _ => board.close(from), // a stream of bytes is not what positions are said in
        }
    }

    fn on_request(&mut self, board: &mut Switchboard<'_>, from: Peer, request: &Request<'_>) {
        page::serve(board, from, request, PAGE);
    }

    fn subprotocols(&mut self, _board: &mut Switchboard<'_>, _peer: Peer) -> &'static [&'static str] {
        &[SUBPROTOCOL]
    }

    fn on_timer(&mut self, board: &mut Switchboard<'_>, _key: u64) {
        self.tick(board);
    }

    fn on_close(&mut self, _board: &mut Switchboard<'_>, peer: Peer, _reason: CloseReason) {
        self.leave(Way::WebSocket(peer));
    }

    /// Players who came by it can't be reached any more.
    fn on_forget(&mut self, at: At) {
        let is_there = |way: &Way| matches!(way, Way::Datagrams(origin) if At::Socket(origin.socket) == at);
        let gone: Vec<Way> = self.players.iter().map(|player| player.way).filter(is_there).collect();
        gone.into_iter().for_each(|way| self.leave(way));
    }

    fn on_metrics(&self, page: &mut Metrics) {
        let Counts { skipped, late, late_us, updates, states, conflated, refused } = &self.counts;
        page.gauge("relay_players", "Players in the world.", self.players.len() as f64);
        page.counter(
            "relay_ticks_skipped",
            "Ticks that were left out because the one before was late.",
            *skipped,
        );
        page.counter("relay_updates", "Positions received.", *updates);
        page.counter("relay_states", "Pictures of the world sent.", *states);
        page.counter("relay_conflated", "Pictures that were left out for a slow client.", *conflated);
        page.counter("relay_refused", "Messages that were refused.", *refused);
        let bound = |class| (class + 1 < late.len()).then(|| Counts::bound_us(class) as f64 / 1e6);
        let classes = late.iter().enumerate().map(|(class, count)| (bound(class), *count));
        let help = "How late ticks were.";
        page.histogram("relay_tick_late_seconds", help, classes, *late_us as f64 / 1e6);
    }
}
