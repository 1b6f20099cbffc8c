//! switchboard: a single-threaded event-loop server on mio, to run, to measure with, and to study.
//!
//! One thread serves all sockets: it asks the kernel which of them are ready ([`mio::Poll`]), and serves these in turn, each
//! for a short while. That is an event loop. An operator at a telephone switchboard worked the same way: she
//! connected the lines whose lamps were lit, and never waited on one line while another was lit.
//!
//! ```no_run
//! use switchboard::{Message, Peer, Server, Service, Switchboard};
//!
//! struct Echo;
//!
//! impl Service for Echo {
//!     fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
//!         board.send(from, message);
//!     }
//! }
//!
//! fn main() -> std::io::Result<()> {
//!     Server::new(Echo).listen("tcp://127.0.0.1:8080")?.run()
//! }
//! ```
//!
//! # The picture
//!
//! ```text
//!            bytes                                                   meaning
//!   kernel ──────────► Transport ──► Connection ──► Handler ──► Protocol ──► Service
//!   sockets  read      TCP, Unix,    inbox,         called by   decode       on_message
//!            write     custom,       outbox,        the         encode       ...
//!          ◄────────── TLS       ◄── latches    ◄── Reactor ◄──          ◄── Switchboard::send
//! ```
//!
//! Bytes enter and leave on the left; meaning is on the right. Between the parts there are three interfaces (traits):
//!
//! | interface | what it answers | implemented in |
//! |---|---|---|
//! | [`Transport`](reactor::Transport) | how bytes move | [`transport`]; your own: [`transport::custom`] |
//! | [`Handler`](reactor::Handler) | what the reactor calls, in bytes | [`service::exchange`] |
//! | [`Service`] | what to do with a message | [`service`] |
//!
//! A [`Protocol`](protocol::Protocol) turns bytes into messages and back. It is not a trait: there are exactly five, raw, lines, prefixed,
//! HTTP and WebSocket. A program with a framing of its own is a `Handler`, and cuts its messages out of the inbox itself: see
//! `examples/08_pressure.rs`, which does so with lines.
//!
//! The [`Reactor`](reactor::Reactor) owns a [`Board`](reactor::Board): all connections (a slab), the
//! timers, the clock. A handler gets the board and names other connections by [`Peer`], a slot and a
//! generation. While a handler runs nothing is written to a socket: `send` appends to an outbox. When the
//! handler has returned, the reactor writes to the connection that was served, and to the others in the
//! flush phase. So the outboxes are the list of effects, and no callback ever runs inside another.
//!
//! # Reading order
//!
//! 1. `examples/01_socket.rs` to `18_cores.rs`: the road to the event loop and onto it, one idea each.
//! 2. [`reactor`]: the event loop. `mod.rs` has the phases of one turn, `serve.rs` the path of one byte; then `connection.rs`,
//!    `board.rs`.
//! 3. [`protocol`], [`service`]: what is put on top; [`server`] binds it together.
//! 4. `load` (with the feature of that name): the load generator, whose clients stand on the same reactor; begin
//!    at `run`, which is a run from the first connection to the report.
//! 5. [`guide`]: running it in front of the world; what chat and relay speak.
//! 6. `tests/`: what is promised, from outside; `src/reactor/tests.rs`: the loop under a microscope.
//!
//! # Features
//!
//! - `cli` (default): the `switchboard` program, signals, the log.
//! - `load` (default): `switchboard bench` and `switchboard compare`, also as a library.
//! - `tls` (default): `tls://`, for servers and the load generator.
//! - `web` (default): HTTP/1.1 (`http://`, `https://`), WebSocket (`ws://`, `wss://`), the services of files, of chat and of the relay, metrics.
//! - `guard`: allow and deny lists. `socket-options`: backlog, keepalive, SO_REUSEPORT.
//! - none of them: the core with raw bytes, lines and prefixed messages, on mio, slab and log alone.

#[cfg(feature = "cli")]
pub mod cli;
pub mod endpoint;
pub mod guard;
pub mod guide;
#[cfg(feature = "load")]
pub mod load;
#[cfg(feature = "cli")]
pub mod logging;
pub mod protocol;
pub mod reactor;
pub mod server;
pub mod service;
pub mod transport;

pub use protocol::Message;
pub use reactor::Peer;
pub use server::Server;
pub use service::{Service, Switchboard};

/// The README, so that its code is compiled and run as the tests are.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
