//! Rung 7: **the loop as a library**.
//!
//! New here: the loop of rung 6 has moved into `switchboard::reactor`. What stays is a `Handler`: what the bytes
//! mean. The reactor calls it when something has happened, and lends it the *board*, which holds all connections. The
//! handler never waits and never touches a socket: `board.send` appends to an outbox, and the reactor writes
//! once the handler has returned. So a handler may send to any connection, and no callback runs inside another.
//!
//! Each connection has an *inbox*, too: what was read, and not yet used. It is a `Buffer`, which is a queue of bytes:
//! `bytes` returns all that it holds, as a slice, and `consume` removes some from the front. What the handler
//! does not consume is there at its next call, with more behind it.
//!
//! The reactor has taken over:
//!
//! - from rung 3: outboxes, partial writes, half-close. It does not call the handler for a client whose outbox
//!   is full, and does not read from it;
//! - from rung 6: latches, budgets, the queue of clients with work left, the backlog when no descriptor is free.
//!
//! It adds what rung 6 lacked:
//!
//! - `Limits`: a deadline for every state, so that a client that is silent or stuck is closed in the end;
//! - `Peer`: the name of a connection. A later connection in the same slot has another name, so a
//!   handler may keep a `Peer` for as long as it likes;
//! - a last wait after our own FIN, so that closing does not destroy what the client has yet to read.
//!
//! It has no `eprintln!`, which waits when nobody reads stderr. It logs through the `log` crate instead, and is
//! silent here, as this program installs no logger.
//!
//! ```sh
//! cargo run --example 07_bytes
//! printf 'hello\n' | nc -N 127.0.0.1 8080        # prints: hello
//! yes | nc -N 127.0.0.1 8080 | sleep 60          # never reads; the line above works meanwhile
//! ```
//!
//! **The limit**: the answer is as long as the question. The reactor looks at the outbox *between* two calls, and one
//! call answers a whole inbox. For echo that is no more than what came in. Rung 8 answers with more.

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

    /// A connection was accepted. `Some` lets it in, with its state; `None` would refuse it. (The `Moment` is the
    /// time on the loop's clock. Rung 10 uses it.)
    fn admit(&mut self, _listener: usize, _stream: &mut Stream, _from: &Address, _now: Moment) -> Option<()> {
        Some(())
    }

    /// Bytes came.
    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        board.send(from, inbox.bytes());
        inbox.consume(inbox.len());
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

/// Claims the address, and then says so: a client may connect from that line on.
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
