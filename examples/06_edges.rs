//! Rung 6: **edges**.
//!
//! New here: an event says once that something *has changed*, and not in every wait that something *is* ready. This is
//! called *edge-triggered*. A socket is registered once, for both directions, and the kernel is not told again
//! what we want of it: so rung 5's `modify` is gone, with its system call. The price is that no event comes twice. What
//! we do not do now, we must remember.
//!
//! (The calls are those of `mio`, a thin layer over `epoll` on Linux and `kqueue` on the BSDs and macOS. It always
//! works with edges.)
//!
//! What has to be remembered:
//!
//! - Latches: each direction has a flag that says it is ready. An event sets it, and only a call that returns
//!   would-block clears it. If we do not read from a client because its outbox is full, its latch stays set.
//! - A queue of work: a client that always sends never comes to would-block. So it has a budget for each turn.
//!   No event will remind us of the bytes that are left, so the client stays in a queue, and no wait sleeps
//!   while there is a client in that queue.
//! - The backlog: when no descriptor is free, the listener's latch stays set, too. Without it, the callers in the
//!   backlog would wait for ever.
//!
//! So each turn has four steps: wait, note, serve, accept. *Note* reads the events and sets latches, and does nothing
//! else. Serving, freeing and accepting come after it. Otherwise, a client that is freed in the middle of
//! the events could leave one behind, and the next client in its slot would get it (a *stale event*).
//!
//! ```sh
//! cargo run --example 06_edges
//! printf 'hello\n' | nc -N 127.0.0.1 8080        # prints: hello
//! yes | nc -N 127.0.0.1 8080 | sleep 60          # never reads; the line above works meanwhile
//! ```
//!
//! **The limit**: it is a loop for echo and nothing else, and it has no clock: a client that never sends, or
//! never takes its bytes, keeps its descriptor for ever, and enough of those leave none for others.
//!
//! `src/reactor/` is this rung grown up. It adds a handler, which decides what the bytes mean; names for
//! connections, which stay unique when a slot is used again; timers, and a deadline for every state; limits, each with
//! a name; a reason for every close; a last wait after our own FIN; outboxes that own no memory while they are
//! empty; other transports; a stop on signals; and a log that can't block the loop, as `eprintln!` does
//! when nobody reads stderr.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

/// How many events one wait can bring. More stay in the kernel for the next.
const EVENTS_PER_TURN: usize = 256;

/// How many callers are accepted in one turn, so that a rush of them can't keep the clients waiting.
const ACCEPTS_PER_TURN: usize = 64;

/// The most that is read from one client in one turn, so that a flooder can't keep the others waiting.
const READ_BYTES_PER_TURN: usize = 64 * 1024;

/// The most that is read in one call.
const READ_BYTES_MAX: usize = 16 * 1024;

/// A client with this much in its outbox is not read from until it has taken some of it.
const OUTBOX_BYTES_HIGH: usize = 64 * 1024;

/// How long to leave `accept` alone when the system has no room for one more socket.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The token of the listener; a client's is its slot in the slab, which never grows as far as this.
const LISTENER: Token = Token(usize::MAX);

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let address = match arguments.as_slice() {
        [] => "127.0.0.1:8080",
        [address] if !address.starts_with('-') => address,
        _ => {
            eprintln!("usage: 06_edges [ADDRESS], as in 06_edges 127.0.0.1:8080");
            return ExitCode::from(2);
        }
    };
    match listen(address) {
        Ok(listener) => {
            let Err(error) = serve(listener);
            eprintln!("cannot wait for {address}: {error}");
        }
        Err(error) => {
            eprintln!(
                "cannot listen on {address}: {error}; give another HOST:PORT (port 0: any that is free)"
            );
        }
    }
    ExitCode::FAILURE
}

/// Claims the address, and then says so: a client may connect from that line on.
fn listen(address: &str) -> io::Result<TcpListener> {
    // std's and not mio's own `bind`, which takes no host names.
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on tcp://{}", listener.local_addr()?)?;
    stdout.flush()?;
    Ok(TcpListener::from_std(listener))
}

/// The loop: wait, note, serve, accept. No client's error ends it; only a wait that fails does.
fn serve(listener: TcpListener) -> io::Result<Infallible> {
    let mut server = Server::new(listener)?;
    let mut events = Events::with_capacity(EVENTS_PER_TURN);
    loop {
        server.wait(&mut events)?;
        server.note(&events);
        server.serve();
        server.accept();
    }
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    /// The listener's latch: there may be callers in the backlog.
    acceptable: bool,
    /// Set while the system has no room for one more socket: when to try again.
    accept_after: Option<Instant>,
    clients: Slab<Client>,
    /// The slots of the clients with something to do. No client is in it twice, and none is freed while it is
    /// in it, so every slot in it is that of a client.
    queue: VecDeque<usize>,
    chunk: Vec<u8>,
}

impl Server {
    fn new(mut listener: TcpListener) -> io::Result<Server> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Server {
            poll,
            listener,
            acceptable: false,
            accept_after: None,
            clients: Slab::new(),
            queue: VecDeque::new(),
            chunk: vec![0; READ_BYTES_MAX],
        })
    }

    /// Sleeps until there is news, unless there is work that no news will remind us of.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = if !self.queue.is_empty() {
            Some(Duration::ZERO)
        } else if let Some(moment) = self.accept_after {
            Some(moment.saturating_duration_since(Instant::now()))
        } else if self.acceptable {
            Some(Duration::ZERO)
        } else {
            None
        };
        match self.poll.poll(events, timeout) {
            // A signal; `poll` has left no events behind.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }

    /// Remembers what the events say. Nothing is served, freed or accepted here, so each token still
    /// means the client that the kernel meant.
    fn note(&mut self, events: &Events) {
        for event in events {
            if event.token() == LISTENER {
                self.acceptable = true;
            } else if let Some(client) = self.clients.get_mut(event.token().0) {
                client.latch(event);
                if !client.queued {
                    client.queued = true;
                    self.queue.push_back(event.token().0);
                }
            }
        }
    }

    /// Serves each client in the queue once. Those with work left go to its end again.
    fn serve(&mut self) {
        for _ in 0..self.queue.len() {
            let Some(slot) = self.queue.pop_front() else {
                break;
            };
            let client = &mut self.clients[slot];
            match client.serve(&mut self.chunk) {
                Err(error) => {
                    eprintln!("lost {}: {error}", client.peer);
                    self.free(slot);
                }
                Ok(()) if client.is_over() => self.free(slot),
                Ok(()) if client.wants_read() => self.queue.push_back(slot),
                Ok(()) => client.queued = false,
            }
        }
    }

    fn free(&mut self, slot: usize) {
        let mut client = self.clients.remove(slot);
        // Closing takes it out of the poll, too, unless something else holds the socket open, such as
        // a child process. It can't be reached any more, and a failure changes nothing.
        let _ = self.poll.registry().deregister(&mut client.stream);
    }

    /// Empties the backlog, as far as the budget goes.
    fn accept(&mut self) {
        if self.accept_after.is_some_and(|moment| moment > Instant::now()) {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.acceptable {
                return;
            }
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    self.accept_after = None;
                    if let Err(error) = self.admit(stream, peer) {
                        eprintln!("refused {peer}: {error}");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.accept_after = None;
                    self.acceptable = false;
                }
                // This one hung up while it was waiting, or a signal came.
                Err(error)
                    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                // Mostly EMFILE: no descriptor is free. The callers in the backlog have had their event, and
                // there won't be another for them. So the latch stays, and a clock replaces the event.
                // (Linux looks for a descriptor first, and says EMFILE even to an empty backlog.)
                Err(error) => {
                    if self.accept_after.is_none() {
                        eprintln!("cannot accept: {error}; trying again every {ACCEPT_RETRY:?}");
                    }
                    self.accept_after = Some(Instant::now() + ACCEPT_RETRY);
                    return;
                }
            }
        }
    }

    /// Registers for both directions, once and for all. The first event says what the socket is ready
    /// for by now; until then the latches are down.
    fn admit(&mut self, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let slot = self.clients.vacant_entry();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(slot.key()), both)?;
        slot.insert(Client {
            stream,
            peer,
            outbox: VecDeque::new(),
            peer_finished: false,
            readable: false,
            writable: false,
            queued: false,
        });
        Ok(())
    }
}

struct Client {
    stream: TcpStream,
    /// For the log.
    peer: SocketAddr,
    /// What we have read and the kernel has not yet taken back.
    outbox: VecDeque<u8>,
    /// The peer's FIN was read: it sends no more. It may well still be listening.
    peer_finished: bool,
    /// The latches: set by an event, cleared only by would-block.
    readable: bool,
    writable: bool,
    /// It is in the server's queue.
    queued: bool,
}

impl Client {
    /// A hang-up or an error is what the next call will return: it counts as ready for both directions.
    fn latch(&mut self, event: &Event) {
        let broken = event.is_error() || event.is_read_closed() || event.is_write_closed();
        self.readable |= event.is_readable() || broken;
        self.writable |= event.is_writable() || broken;
    }

    /// Now, and not some day: a latch that is down will queue the client again when it is set.
    fn wants_read(&self) -> bool {
        self.readable && !self.peer_finished && self.outbox.len() < OUTBOX_BYTES_HIGH
    }

    fn wants_write(&self) -> bool {
        self.writable && !self.outbox.is_empty()
    }

    fn is_over(&self) -> bool {
        self.peer_finished && self.outbox.is_empty()
    }

    /// This client's share of a turn: in and out by turns until a latch is down on one side, or the budget
    /// is spent. An error is its end, and nothing more.
    fn serve(&mut self, chunk: &mut [u8]) -> io::Result<()> {
        let mut budget = READ_BYTES_PER_TURN;
        // First, as a full outbox may be all that keeps us from reading.
        self.drain()?;
        while self.wants_read() && budget > 0 {
            let count = self.fill(chunk)?;
            budget = budget.saturating_sub(count);
            self.drain()?;
        }
        Ok(())
    }

    /// Reads once; how many bytes.
    fn fill(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(chunk) {
            Ok(0) => self.peer_finished = true,
            Ok(count) => {
                self.outbox.extend(&chunk[..count]);
                return Ok(count);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(0)
    }

    /// Writes until the outbox is empty or the kernel takes no more.
    fn drain(&mut self) -> io::Result<()> {
        while self.wants_write() {
            // A VecDeque is a ring; where it wraps around, this is only its first part.
            let (front, _) = self.outbox.as_slices();
            match self.stream.write(front) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.outbox.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
