//! Rung 5: **the kernel keeps the list**.
//!
//! New here: with `epoll(7)` each descriptor is registered once, together with what we want of it. A wait hands
//! over nothing and returns only those that are ready. So the cost of a wait grows with the number of ready
//! clients, and not with the number of silent ones: a message there and back takes as long beside 9,000 of
//! them as alone.
//!
//! This is what Python's `selectors.DefaultSelector` uses on Linux:
//!
//! | Python | here | when |
//! |---|---|---|
//! | `register` | `epoll.add` | once, when a client comes |
//! | `modify` | `epoll.modify` | when what we want of it changes |
//! | `unregister` | (closing the socket does it) | when it leaves |
//! | `select` | `epoll.wait` | once in each pass |
//!
//! It is still *level-triggered*, as `select` and `poll` are: a socket is reported in every pass for as long as
//! it is ready. So one read per pass is enough, as the next wait reports the rest, and a client is served by the
//! same rules as in rung 4. (Linux only: the BSDs and macOS have `kqueue` for the same purpose.)
//!
//! ```sh
//! cargo run --example 05_epoll
//! printf 'hello\n' | nc -N 127.0.0.1 8080        # prints: hello
//! yes | nc -N 127.0.0.1 8080 | sleep 60          # never reads; the line above works meanwhile
//! ```
//!
//! **The trap** of levels: a socket that is ready, and that we do not want to use now, is reported again and
//! again, and no wait sleeps. An idle socket is always writable; a full outbox leaves its socket
//! readable. So each change of mind has to be told to the kernel, with one more system call. Forget one, and
//! the loop runs at full speed and does nothing. Rung 6 gets by without these calls: it is told of changes only,
//! and has to remember them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;

/// How many ready sockets one wait can return. The others stay ready, and come with the next wait.
const EVENTS_PER_PASS: usize = 256;

/// The most that is read from one client in one pass, so that a flooder can't keep the others waiting.
const READ_BYTES_MAX: usize = 16 * 1024;

/// A client with this much in its outbox is not read from until it has taken some of it.
const OUTBOX_BYTES_HIGH: usize = 64 * 1024;

/// How long to leave `accept` alone when the system has no room for one more socket.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The kernel returns a number of our choice with each event, to say which socket it means. This is the
/// listener's; a client's is its place in the slab, which never grows as far as this.
const LISTENER: u64 = u64::MAX;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let address = match arguments.as_slice() {
        [] => "127.0.0.1:8080",
        [address] if !address.starts_with('-') => address,
        _ => {
            eprintln!("usage: 05_epoll [ADDRESS], as in 05_epoll 127.0.0.1:8080");
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
    let listener = TcpListener::bind(address)?;
    // Ready is a hint and no promise: the caller may have left before we come to accept it.
    listener.set_nonblocking(true)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening on tcp://{}", listener.local_addr()?)?;
    stdout.flush()?;
    Ok(listener)
}

/// The loop: wait, then serve or accept for each event. No client's error ends it; only one of the epoll does.
fn serve(listener: TcpListener) -> io::Result<Infallible> {
    let mut server = Server::new(listener)?;
    let mut events = [EpollEvent::empty(); EVENTS_PER_PASS];
    loop {
        let count = server.wait(&mut events)?;
        for event in &events[..count] {
            match event.data() {
                LISTENER => server.accept()?,
                key => server.serve(key as usize, event.events())?,
            }
        }
    }
}

struct Server {
    epoll: Epoll,
    listener: TcpListener,
    /// Set while the system has no room for one more socket: when to try again. The listener is not watched then.
    accept_after: Option<Instant>,
    /// A slab is a list in which each client keeps its place. The place of one that is gone is used again.
    clients: Slab<Client>,
    chunk: Vec<u8>,
}

impl Server {
    fn new(listener: TcpListener) -> io::Result<Server> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        let chunk = vec![0; READ_BYTES_MAX];
        Ok(Server { epoll, listener, accept_after: None, clients: Slab::new(), chunk })
    }

    /// Sleeps until a socket is ready for what we want of it; returns how many events there are.
    fn wait(&mut self, events: &mut [EpollEvent]) -> io::Result<usize> {
        if self.accept_after.is_some_and(|moment| moment <= Instant::now()) {
            self.accept()?;
        }
        let timeout = match self.accept_after {
            Some(_) => EpollTimeout::from(ACCEPT_RETRY.as_millis() as u16),
            None => EpollTimeout::NONE,
        };
        match self.epoll.wait(events, timeout) {
            Err(Errno::EINTR) => Ok(0),
            outcome => Ok(outcome?),
        }
    }

    /// Serves one client that is ready.
    ///
    /// A wait returns each socket at most once, and a client is removed only here, at its own event. So no
    /// later event of the same wait means a client that is gone. (Where one client's message may
    /// end another client, as in a chat, that takes more care.)
    fn serve(&mut self, key: usize, ready: EpollFlags) -> io::Result<()> {
        let client = &mut self.clients[key];
        let outcome = match client.serve(ready, &mut self.chunk) {
            Ok(()) if !client.is_over() => return client.watch(&self.epoll, key),
            outcome => outcome,
        };
        if let Err(error) = outcome {
            eprintln!("lost {}: {error}", client.peer);
        }
        // It is dropped, which closes its socket, and that takes it out of the kernel's list.
        self.clients.remove(key);
        Ok(())
    }

    /// Takes one caller off the backlog. If there are more, the next wait says so at once.
    fn accept(&mut self) -> io::Result<()> {
        match self.listener.accept() {
            Ok((stream, peer)) => {
                if let Err(error) = self.admit(stream, peer) {
                    eprintln!("refused {peer}: {error}");
                }
            }
            // This one hung up while it was waiting.
            Err(error) if is_not_yet(&error) || error.kind() == ErrorKind::ConnectionAborted => {}
            // Mostly EMFILE: no descriptor is free. The caller stays in the backlog, so the listener stays
            // readable: were it still watched, no wait would sleep. Look away for a while, and say so once.
            Err(error) => {
                if self.accept_after.is_none() {
                    eprintln!("cannot accept: {error}; trying again every {ACCEPT_RETRY:?}");
                    self.epoll.modify(&self.listener, &mut EpollEvent::new(EpollFlags::empty(), LISTENER))?;
                }
                self.accept_after = Some(Instant::now() + ACCEPT_RETRY);
                return Ok(());
            }
        }
        if self.accept_after.take().is_some() {
            self.epoll.modify(&self.listener, &mut EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        }
        Ok(())
    }

    /// Registers a new client: at first, we only want to read from it.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        // One call that waits would stop all clients.
        stream.set_nonblocking(true)?;
        let watched = EpollFlags::EPOLLIN;
        let entry = self.clients.vacant_entry();
        self.epoll.add(&stream, EpollEvent::new(watched, entry.key() as u64))?;
        entry.insert(Client { stream, peer, outbox: VecDeque::new(), peer_finished: false, watched });
        Ok(())
    }
}

/// One client. Until it is over it always wants to read or to write, or it would be forgotten.
struct Client {
    stream: TcpStream,
    /// For the log.
    peer: SocketAddr,
    /// What we have read and the kernel has not yet taken back.
    outbox: VecDeque<u8>,
    /// The peer's FIN was read: it sends no more. It may well still be listening.
    peer_finished: bool,
    /// What the kernel watches it for.
    watched: EpollFlags,
}

impl Client {
    fn wants_read(&self) -> bool {
        !self.peer_finished && self.outbox.len() < OUTBOX_BYTES_HIGH
    }

    fn wants_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn is_over(&self) -> bool {
        self.peer_finished && self.outbox.is_empty()
    }

    /// Tells the kernel what we want of this client now, if that has changed. For a client that takes its
    /// bytes as fast as it sends, it never changes.
    fn watch(&mut self, epoll: &Epoll, key: usize) -> io::Result<()> {
        let mut wanted = EpollFlags::empty();
        wanted.set(EpollFlags::EPOLLIN, self.wants_read());
        wanted.set(EpollFlags::EPOLLOUT, self.wants_write());
        if wanted != self.watched {
            epoll.modify(&self.stream, &mut EpollEvent::new(wanted, key as u64))?;
            self.watched = wanted;
        }
        Ok(())
    }

    /// This client's share of a pass. An error is its end, and nothing more.
    fn serve(&mut self, ready: EpollFlags, chunk: &mut [u8]) -> io::Result<()> {
        // Reported even where we did not want them. They count as ready for everything, as in rung 4.
        let broken = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        if ready.intersects(EpollFlags::EPOLLIN | broken) {
            self.fill(chunk)?;
        }
        // After a read, too: mostly there is room, and a whole pass is saved.
        self.drain()
    }

    fn fill(&mut self, chunk: &mut [u8]) -> io::Result<()> {
        match self.stream.read(chunk) {
            Ok(0) => self.peer_finished = true,
            Ok(count) => self.outbox.extend(&chunk[..count]),
            Err(error) if is_not_yet(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes once. For what the kernel does not take, `watch` asks for EPOLLOUT.
    fn drain(&mut self) -> io::Result<()> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        // A VecDeque is a ring; where it wraps around, this is only its first part.
        let (front, _) = self.outbox.as_slices();
        match self.stream.write(front) {
            Ok(count) => drop(self.outbox.drain(..count)),
            Err(error) if is_not_yet(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Nothing happened, and nothing is wrong.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
