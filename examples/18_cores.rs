//! Rung 18: **several cores**.
//!
//! New here: several loops. One loop is one thread, and uses one core at most. To use more, run more of them: here,
//! one thread for each core, and in each thread a `Server` of its own, with its own reactor, its own
//! connections and its own service. They share one thing, the port: each has its own listening socket, all bound to
//! the same address with SO_REUSEPORT. The kernel gives each new connection to one of them, and there it stays.
//!
//! ```sh
//! cargo run --example 18_cores                   # or: 18_cores URL THREADS
//! for i in 1 2 3 4 5 6; do echo hello | nc -N 127.0.0.1 8080; done    # which thread answers?
//! ```
//!
//! The loops share no memory, so there are no locks, and what was true for one loop is true for each. The price:
//!
//! - State is divided, too. Each thread here counts its own messages only. The chat of rung 16 would be several
//!   rooms, and which room you are in would be chance. Where clients have to meet, keep them on one loop, or
//!   send messages between the loops, with the channel and the waker of rung 13.
//! - The kernel chooses by a hash of the addresses, and not by load. A few busy clients may share a thread while
//!   another thread sleeps.
//! - When a thread stops listening, the connections in its backlog are reset (on Linux, unless
//!   `net.ipv4.tcp_migrate_req` is set).
//! - Signals go to the process, and not to a loop. This program has no handler for them, so SIGTERM ends it at once,
//!   and nothing in an outbox is delivered.
//! - Limits count per loop: with four threads, `connections_max` allows four times as many.
//!
//! Processes can share a port in the same way, if they run as the same user: start this program twice. Then a crash
//! ends one of them only, and they can be replaced one by one. `switchboard serve --reuse-port` does this, and each of
//! its processes stops gracefully at SIGTERM.
//!
//! **When to use it**: when the one core is busy. A loop that is idle half of the time does not get faster.
//! See `switchboard bench` for how to find out.
//!
//! **What comes next** is the library itself. `src/reactor/mod.rs` begins with a list of what the loop does in one
//! turn. You have met everything in it.

use std::env;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;

use switchboard::transport::ListenOptions;
use switchboard::{Message, Peer, Server, Service, Switchboard};

/// One for each thread.
struct Counting {
    thread: usize,
    messages: u64,
}

impl Service for Counting {
    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        self.messages += 1;
        let text = String::from_utf8_lossy(message.bytes());
        let answer = format!("thread {}, its message {}: {text}", self.thread, self.messages);
        board.send(from, Message::Text(&answer));
    }
}

/// A server that shares its port with the others.
fn server(thread: usize) -> Server<Counting> {
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    Server::new(Counting { thread, messages: 0 }).options(options)
}

/// Runs a server in each thread, for ever.
fn serve(url: &str, threads: NonZeroUsize) -> io::Result<()> {
    let first = server(1).listen(url)?;
    // The others listen where the first does: if the port was 0, the system has chosen one by now.
    let urls: Vec<String> = first.endpoints().iter().map(|endpoint| endpoint.to_string()).collect();
    let mut servers = vec![first];
    for thread in 2..=threads.get() {
        let other = urls.iter().try_fold(server(thread), |server, url| server.listen(url))?;
        servers.push(other);
    }
    let mut stdout = io::stdout();
    for url in &urls {
        writeln!(stdout, "listening on {url}")?;
    }
    stdout.flush()?;
    // The bare reactor, and not `Server::run`, which handles signals for one loop.
    let threads =
        servers.into_iter().map(|server| thread::Builder::new().spawn(|| server.into_reactor()?.run()));
    let threads = threads.collect::<io::Result<Vec<_>>>()?;
    threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let Some((url, threads)) = url_and_threads(&arguments) else {
        eprintln!("usage: 18_cores [URL [THREADS]], as in 18_cores tcp+lines://127.0.0.1:8080 4");
        return ExitCode::from(2);
    };
    if let Err(error) = serve(url, threads) {
        eprintln!("cannot serve {url}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn url_and_threads(arguments: &[String]) -> Option<(&str, NonZeroUsize)> {
    let (url, threads) = match arguments {
        [] => ("tcp+lines://127.0.0.1:8080", None),
        [url] => (url.as_str(), None),
        [url, threads] => (url.as_str(), Some(threads.parse().ok()?)),
        _ => return None,
    };
    let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    (!url.starts_with('-')).then_some((url, threads.unwrap_or_else(cores)))
}
