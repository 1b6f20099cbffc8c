//! Rung 8: **an answer larger than its question**.
//!
//! New here: `board.admit_message`, which is the handler's part in back pressure. This server sends each line back 100 times.
//! An inbox of short lines then makes 100 times its size in answers, and a client that never reads could have us
//! hold all of that. So a handler asks before *each* message whether it may go on. `admit_message` returns `None` if
//!
//! - the outbox is full: the client must read first;
//! - this client has had its share of the turn: other clients wait;
//! - the connection is closed, or closing.
//!
//! Then the handler leaves the rest in the inbox and returns. When the reason is gone, the reactor calls `on_bytes`
//! again, even if no new bytes came. Meanwhile it does not read from this client, so the kernel's buffers fill
//! up, and TCP makes the client wait. Without the question, one inbox of `yes` would take the outbox past its limit
//! (`outbox_bytes_max`, 4 MiB), and the reactor would close the connection as that of a slow reader.
//!
//! ```sh
//! cargo run --example 08_pressure
//! printf 'hello\n' | nc -N 127.0.0.1 8080 | wc -l    # prints: 100
//! yes | nc -N 127.0.0.1 8080 | sleep 60              # never reads; the line above works meanwhile
//! ```
//!
//! **The limit**: to find the lines is up to us. They come in pieces, or several at once, or without an end,
//! and every handler would have to get this right. Rung 9 leaves it to a protocol.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use switchboard::reactor::{BoardOf, Buffer, Handler, Limits, Moment, Peer, Reactor};
use switchboard::transport::ListenOptions;
use switchboard::transport::{Address, Listener, Stream};

/// How often a line is sent back.
const COPIES: usize = 100;

/// A longer line ends its connection. One answer is at most this times `COPIES`: far below `outbox_bytes_max`.
const LINE_BYTES_MAX: usize = 1000;

struct Repeat;

impl Handler for Repeat {
    type Transport = Stream;
    type State = ();

    fn admit(&mut self, _listener: usize, _stream: &mut Stream, _from: &Address, _now: Moment) -> Option<()> {
        Some(())
    }

    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        while board.admit_message(from).is_some() {
            let searched = &inbox.bytes()[..inbox.len().min(LINE_BYTES_MAX)];
            let Some(end) = searched.iter().position(|byte| *byte == b'\n') else {
                // Its end is yet to come. Until then the beginning stays in the inbox.
                if searched.len() == LINE_BYTES_MAX {
                    board.finish(from);
                }
                return;
            };
            for _ in 0..COPIES {
                board.send(from, &inbox.bytes()[..=end]);
            }
            inbox.consume(end + 1);
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let address = match arguments.as_slice() {
        [] => "127.0.0.1:8080",
        [address] if !address.starts_with('-') => address,
        _ => {
            eprintln!("usage: 08_pressure [ADDRESS], as in 08_pressure 127.0.0.1:8080");
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
fn listen(address: &str) -> io::Result<Reactor<Repeat>> {
    let address = address.parse().map_err(io::Error::other)?;
    let listener = Listener::tcp(address, &ListenOptions::default())?;
    let address = listener.local_address().unwrap_or(address);
    let mut reactor = Reactor::new(Repeat, Limits::default())?;
    reactor.listen(listener)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on tcp://{address}")?;
    stdout.flush()?;
    Ok(reactor)
}
