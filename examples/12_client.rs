//! Rung 12: **the other end**.
//!
//! New here: a connection that we open. To the loop it makes no difference which side began: this program listens,
//! connects to itself, and serves both ends by turns, on one thread. Neither end waits for the other, so neither can
//! hang. What a connection is for is kept in its `State`, which so far was `()`.
//!
//! Why a `Handler` again, as in rungs 7 and 8, and no `Service`? A `Service` answers: it gets messages from the
//! connections that its server's listeners have accepted, and has no call that opens another. `connect` belongs
//! to the board of the reactor, one floor below. A program that needs it, such as a client, a proxy or a load
//! generator, writes a handler. (`switchboard bench` is one: `src/load/`.) Rung 14 goes back to services.
//!
//! - `connect` on a non-blocking socket only begins: it sends a SYN, and returns. The socket turns writable
//!   when the answer is there, whatever it is; only then does SO_ERROR tell which. `Stream` asks, and
//!   `on_open` follows, or `on_close`.
//! - So the first message waits for `on_open`. Before that the kernel takes no byte (ENOTCONN, or would-block on
//!   Linux), and it is not known whether the other side is there.
//! - `half_close` sends our FIN behind the questions: there are no more. The answers are still read, and
//!   the other side's FIN says that they are complete. A client that closes instead may lose them.
//! - `run` turns for ever; `turn` is one pass of it, for a program that knows when it is done.
//!
//! ```sh
//! cargo run --example 12_client                  # calls itself, sends three lines, prints the echoes
//!
//! printf 'hi\n' | nc -lN 127.0.0.1 8080          # another end: prints the three lines, and sends hi
//! cargo run --example 12_client 127.0.0.1:8080   # prints: heard: hi
//! ```
//!
//! **The limit**: it takes an address and no host name, as looking up a name waits for a name server, and the loop
//! must not wait. Rung 13 says where such work goes.

use std::env;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use switchboard::reactor::{BoardOf, Buffer, CloseReason, Handler, Limits, Moment, Peer, Reactor};
use switchboard::transport::ListenOptions;
use switchboard::transport::{Address, Listener, Stream};

/// What a connection is for.
enum Role {
    /// It was accepted: it gets back what it sends.
    Echo,
    /// It is our call.
    Call,
}

#[derive(Default)]
struct Talk {
    heard: Vec<u8>,
    /// How our call ended, once it has.
    ended: Option<CloseReason>,
}

impl Handler for Talk {
    type Transport = Stream;
    type State = Role;

    fn admit(
        &mut self,
        _listener: usize,
        _stream: &mut Stream,
        _from: &Address,
        _now: Moment,
    ) -> Option<Role> {
        Some(Role::Echo)
    }

    fn on_open(&mut self, board: &mut BoardOf<Self>, peer: Peer) {
        if let Some(Role::Call) = board.state(peer) {
            for line in ["one\n", "two\n", "three\n"] {
                board.send(peer, line.as_bytes());
            }
            board.half_close(peer);
        }
    }

    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        match board.admit_message(from) {
            Some(Role::Echo) => {
                board.send(from, inbox.bytes());
                inbox.consume(inbox.len());
            }
            // They stay in the inbox until all have come. A server that sends without end can't fill our
            // memory: at `inbox_bytes_max` the reactor closes the connection.
            Some(Role::Call) | None => {}
        }
    }

    fn on_finish(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        if let Some(Role::Call) = board.state(from) {
            self.heard = inbox.bytes().to_vec();
        }
        board.finish(from);
    }

    fn on_close(&mut self, _board: &mut BoardOf<Self>, _peer: Peer, role: Role, reason: CloseReason) {
        if let Role::Call = role {
            self.ended = Some(reason);
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let outcome = match arguments.as_slice() {
        [] => talk_to_ourselves(),
        [address] if !address.starts_with('-') => talk_to(address),
        _ => {
            eprintln!("usage: 12_client [ADDRESS], as in 12_client 127.0.0.1:8080");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Listens on any free port, and calls there.
fn talk_to_ourselves() -> io::Result<()> {
    let mut reactor = Reactor::new(Talk::default(), Limits::default())?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::tcp(any, &ListenOptions::default())?;
    let address = listener.local_address().unwrap_or(any);
    reactor.listen(listener)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on tcp://{address}")?;
    stdout.flush()?;
    call(&mut reactor, address)
}

/// An address and no name: looking one up waits, and belongs before the loop, or in another thread.
fn talk_to(address: &str) -> io::Result<()> {
    match address.parse() {
        Ok(address) => call(&mut Reactor::new(Talk::default(), Limits::default())?, address),
        Err(error) => Err(io::Error::other(format!("{address}: {error}; write IP:PORT"))),
    }
}

/// One call, from the SYN to the last FIN; prints what it heard.
fn call(reactor: &mut Reactor<Talk>, address: SocketAddr) -> io::Result<()> {
    // What is wrong may be known at once, or turn by turn.
    let stream = Stream::connect(address).map_err(|error| failed(address, &error))?;
    reactor.board().connect(stream, Role::Call)?;
    let reason = loop {
        if let Some(reason) = reactor.handler().ended {
            break reason;
        }
        reactor.turn(None)?;
    };
    if reason != CloseReason::Finished {
        return Err(failed(address, &reason));
    }
    let mut stdout = io::stdout();
    for line in reactor.handler().heard.split_inclusive(|byte| *byte == b'\n') {
        // Escaped, as a terminal obeys what is sent to it.
        writeln!(stdout, "heard: {}", line.trim_ascii_end().escape_ascii())?;
    }
    stdout.flush()
}

fn failed(address: SocketAddr, reason: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("cannot talk to {address}: {reason}; does a server listen there?"))
}
