//! Rung 13: **a worker thread**.
//!
//! New here: work that takes long. A callback that computes or waits stops every client, so such work goes to
//! another thread: computing, looking up a host name, a slow disk, a database client that blocks. This server
//! factors numbers, which takes seconds for a large prime. Three parts bring the work there and back:
//!
//! - a channel for jobs. Its length is bounded, and the loop uses `try_send`, which never waits: when the channel is
//!   full, the client is refused. The loop must not wait for the worker either;
//! - a channel for results. The worker never touches the board, which belongs to the loop's thread. A result
//!   carries the client's `Peer`: if that client has left by now, the answer goes nowhere;
//! - a *waker*. The loop sleeps in its poll, and a channel can't end that sleep. `reactor.waker()` can: the worker
//!   calls `wake`, the poll returns, and the reactor calls `on_wake`. (In Python you would write a byte to a pipe,
//!   or to one end of a `socketpair`, that `select` watches. This is the same, with an `eventfd`.)
//!
//! The order matters: first the result goes into the channel, then the loop is woken. Several wakes may become one
//! call, so `on_wake` empties the channel.
//!
//! Meanwhile the client's next lines wait: `hold` stops reading from it, and `release` goes on. So its answers keep
//! their order, and each client has one job at most.
//!
//! This is a `Handler`, as in rung 12: the waker belongs to the reactor, and a `Service` has no `on_wake`.
//!
//! ```sh
//! cargo run --example 13_worker
//! printf '91\n' | nc -N 127.0.0.1 8080                     # prints: 91 = 7 * 13
//! printf '999999999999999989\n' | nc -N 127.0.0.1 8080     # a prime: takes some seconds ...
//! printf 'hello\n' | nc -N 127.0.0.1 8080                  # ... and this is answered meanwhile
//! ```
//!
//! **The limit**: there is one worker, and small numbers wait behind large ones. More workers can share the jobs, one
//! for each core. But the loop itself still has one core only; rung 18 has several. Rung 14 goes back to
//! services.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use switchboard::reactor::{BoardOf, Buffer, Handler, Limits, Moment, Peer, Reactor};
use switchboard::transport::ListenOptions;
use switchboard::transport::{Address, Listener, Stream};

/// How many jobs may wait for the worker.
const JOBS_MAX: usize = 64;

/// Longer than any number that we can factor. A longer line ends its connection.
const LINE_BYTES_MAX: usize = 100;

struct Job {
    number: u64,
    from: Peer,
}

struct Outcome {
    answer: String,
    to: Peer,
}

struct Factoring {
    jobs: SyncSender<Job>,
    outcomes: Receiver<Outcome>,
}

impl Handler for Factoring {
    type Transport = Stream;
    type State = ();

    fn admit(&mut self, _listener: usize, _stream: &mut Stream, _from: &Address, _now: Moment) -> Option<()> {
        Some(())
    }

    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        while board.admit_message(from).is_some() {
            let searched = &inbox.bytes()[..inbox.len().min(LINE_BYTES_MAX)];
            let Some(end) = searched.iter().position(|byte| *byte == b'\n') else {
                if searched.len() == LINE_BYTES_MAX {
                    board.finish(from);
                }
                return;
            };
            let number = std::str::from_utf8(&searched[..end]).ok().and_then(|line| line.trim().parse().ok());
            inbox.consume(end + 1);
            let Some(number) = number else {
                board.send(from, b"write a whole number below 2 to the power of 64\n");
                continue;
            };
            match self.jobs.try_send(Job { number, from }) {
                Ok(()) => return board.hold(from),
                Err(_) => board.send(from, b"too many jobs are waiting; try again later\n"),
            }
        }
    }

    /// The worker has put something into the channel.
    fn on_wake(&mut self, board: &mut BoardOf<Self>) {
        while let Ok(Outcome { answer, to }) = self.outcomes.try_recv() {
            board.send(to, answer.as_bytes());
            board.release(to);
        }
    }
}

/// What takes long: `91 = 7 * 13`.
fn factor(number: u64) -> String {
    let mut factors = Vec::new();
    let mut rest = number;
    let mut divisor = 2;
    // Once it is larger than the root, the rest is a prime. (A product would overflow here, a quotient can't.)
    while divisor <= rest / divisor {
        if rest.is_multiple_of(divisor) {
            factors.push(divisor.to_string());
            rest /= divisor;
        } else {
            divisor += 1;
        }
    }
    factors.push(rest.to_string());
    format!("{number} = {}\n", factors.join(" * "))
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let address = match arguments.as_slice() {
        [] => "127.0.0.1:8080",
        [address] if !address.starts_with('-') => address,
        _ => {
            eprintln!("usage: 13_worker [ADDRESS], as in 13_worker 127.0.0.1:8080");
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

/// Claims the address, starts the worker, and then says so: a client may connect from that line on.
fn listen(address: &str) -> io::Result<Reactor<Factoring>> {
    let address = address.parse().map_err(io::Error::other)?;
    let listener = Listener::tcp(address, &ListenOptions::default())?;
    let address = listener.local_address().unwrap_or(address);
    let (jobs, jobs_of_worker) = mpsc::sync_channel(JOBS_MAX);
    let (outcomes_of_worker, outcomes) = mpsc::channel();
    let mut reactor = Reactor::new(Factoring { jobs, outcomes }, Limits::default())?;
    reactor.listen(listener)?;
    let waker = reactor.waker();
    thread::Builder::new().spawn(move || {
        // Ends when the reactor is dropped, and the loop's end of the channel with it.
        for Job { number, from } in jobs_of_worker {
            let outcome = Outcome { answer: factor(number), to: from };
            if outcomes_of_worker.send(outcome).is_err() || waker.wake().is_err() {
                return;
            }
        }
    })?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on tcp://{address}")?;
    stdout.flush()?;
    Ok(reactor)
}
