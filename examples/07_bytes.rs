//! Rung 7: **the loop as a library**.
//!
//! New here: the loop of rung 6 has gone into `switchboard::reactor`, and what stays is a `Handler`: what the
//! bytes mean. The reactor calls it when something has happened; it tells the board what is to happen, and
//! returns. It never waits and never touches a socket: `send` appends to an outbox, and the reactor writes
//! once the handler has returned. So a handler may send to anybody, and no callback runs inside another.
//!
//! The reactor has taken over:
//!
//! - from rung 3: outboxes, partial writes, half-close, back pressure;
//! - from rung 6: latches, budgets, the queue of those with work left, the backlog when no descriptor is free.
//!
//! It adds what rung 6 lacked: a deadline for every state (`Limits`), so that the silent and the stuck have to
//! leave; a name (`Peer`) that a later tenant of the same slot does not answer to; a last wait after our own
//! FIN. And no `eprintln!`, which waits when nobody reads stderr: it tells the `log` crate, and as nothing
//! listens to that here, it is silent.
//!
//! ```sh
//! cargo run --example 07_bytes
//! printf 'hello\n' | nc -N 127.0.0.1 8080        # prints: hello
//! yes | nc -N 127.0.0.1 8080 | sleep 60          # never reads; the line above works meanwhile
//! ```
//!
//! **The limit**: bytes are not messages. What somebody writes as one line may come in three pieces, or three
//! lines in one; echo does not care, and nearly everything else does. Rung 9 leaves that to a protocol.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use switchboard::reactor::{BoardOf, Buffer, Handler, Limits, Moment, Peer, Reactor};
use switchboard::transport::ListenOptions;
use switchboard::transport::{Address, Listener, Stream};

struct Echo;

impl Handler for Echo {
    /// How the bytes move: TCP or Unix sockets.
    type Transport = Stream;

    /// What we keep for each connection: nothing.
    type State = ();

    /// Everybody may come in.
    fn admit(&mut self, _listener: usize, _from: &Address, _now: Moment) -> Option<()> {
        Some(())
    }

    /// What is not consumed is in the inbox again the next time, with more behind it.
    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        // The handler's part in back pressure, to be asked before each message: is there room for the
        // reply, and is the conversation still on? If not, leave the rest where it is, and return.
        if board.serving(from).is_some() {
            board.send(from, inbox.bytes());
            inbox.consume(inbox.len());
        }
    }

    // Not here: `on_finish`, the peer's FIN. The default sends ours, behind all that is in the outbox.
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let address = match arguments.as_slice() {
        [] => "127.0.0.1:8080",
        [address] if !address.starts_with('-') => address,
        _ => {
            eprintln!("usage: 07_bytes [ADDRESS], as in 07_bytes 127.0.0.1:8080");
            return ExitCode::from(2);
        }
    };
    match listen(address) {
        Ok(mut reactor) => {
            if let Err(error) = reactor.run() {
                eprintln!("cannot wait for {address}: {error}");
            }
        }
        Err(error) => {
            eprintln!("cannot listen on {address}: {error}; give another IP:PORT (port 0: any that is free)");
        }
    }
    ExitCode::FAILURE
}

/// Claims the address, and then says so: whoever started us may connect from that line on.
fn listen(address: &str) -> io::Result<Reactor<Echo>> {
    let address = address.parse().map_err(io::Error::other)?;
    let listener = Listener::tcp(address, &ListenOptions::default())?;
    let address = listener.local_address().unwrap_or(address);
    let mut reactor = Reactor::new(Echo, Limits::default())?;
    reactor.listen(listener)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on tcp://{address}")?;
    stdout.flush()?;
    Ok(reactor)
}
