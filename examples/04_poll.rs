//! Rung 4: **a list instead of bitmaps**.
//!
//! New here: `poll(2)` takes an array with one entry for each descriptor: which one, what we want of it, and
//! room for the answer. An entry holds any descriptor, so FD_SETSIZE is gone, and with it the refusals.
//! Only `wait` changes; see for yourself: `diff examples/03_select.rs examples/04_poll.rs`.
//!
//! ```sh
//! cargo run --example 04_poll
//! printf 'hello\n' | nc -N 127.0.0.1 8080        # prints: hello
//! yes | nc -N 127.0.0.1 8080 | sleep 60          # never reads; the line above works meanwhile
//! ```
//!
//! **The limit**: the kernel keeps nothing from one call to the next. With 9,000 clients of which one speaks,
//! each pass hands over 9,000 entries, has the kernel look at 9,000 sockets, and searches 9,000 answers
//! for the one. So what a message costs grows with the number of silent clients: on a small virtual
//! machine one there and back took some 40 µs alone, 300 µs beside 1,000 silent clients, and 6 ms beside
//! 9,000. In rung 5 the kernel keeps the list, and reports only those that are ready.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The most that is read from one client in one pass, so that a flooder can't keep the others waiting.
/// What is left is announced again by the next wait: this is what *level-triggered* means.
const READ_BYTES_MAX: usize = 16 * 1024;

/// A client with this much in its outbox is not read from until it has taken some of it.
const OUTBOX_BYTES_HIGH: usize = 64 * 1024;

/// How long to leave `accept` alone when the system has no room for one more socket.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|it| it.to_string_lossy().into_owned()).collect();
    let address = match arguments.as_slice() {
        [] => "127.0.0.1:8080",
        [address] if !address.starts_with('-') => address,
        _ => {
            eprintln!("usage: 04_poll [ADDRESS], as in 04_poll 127.0.0.1:8080");
            return ExitCode::from(2);
        }
    };
    match listen(address) {
        Ok(listener) => {
            let Err(error) = serve(&listener);
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

/// The loop: wait, serve, accept. No client's error ends it; only a wait that fails does.
fn serve(listener: &TcpListener) -> io::Result<Infallible> {
    let mut clients: Vec<Client> = Vec::new();
    // Set while the system has no room for one more socket: when to try again.
    let mut accept_after: Option<Instant> = None;
    let mut chunk = [0; READ_BYTES_MAX];
    loop {
        let accepting = accept_after.is_none_or(|moment| moment <= Instant::now());
        let ready = match wait(listener, accepting, &clients) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };

        // Clients that are over are dropped by `retain_mut`, which closes their sockets.
        let mut readiness = ready.clients.into_iter();
        clients.retain_mut(|client| {
            let readiness = readiness.next().unwrap_or_default();
            if let Err(error) = client.serve(readiness, &mut chunk) {
                eprintln!("lost {}: {error}", client.peer);
                return false;
            }
            !client.is_over()
        });

        // Last, as it adds to the list that `ready.clients` runs parallel to.
        if ready.listener {
            accept(listener, &mut clients, &mut accept_after);
        }
    }
}

/// What a wait found out.
struct Ready {
    listener: bool,
    /// For each client, in their order. A new list in every pass: the entries borrow the sockets from the
    /// clients, and have to let go of them before a client can be served.
    clients: Vec<Readiness>,
}

#[derive(Clone, Copy, Default)]
struct Readiness {
    readable: bool,
    writable: bool,
}

/// Sleeps until the listener or a client is ready for what we want of it.
///
/// `poll` leaves the wishes alone and writes the answers beside them, so the list could be kept from one
/// pass to the next and only be mended. It is made again as those sets were, for the same borrow.
fn wait(listener: &TcpListener, accepting: bool, clients: &[Client]) -> Result<Ready, Errno> {
    // The listener keeps its place when it is not wanted, so that the clients keep theirs.
    let mut entries =
        vec![PollFd::new(listener.as_fd(), if accepting { PollFlags::POLLIN } else { PollFlags::empty() })];
    for client in clients {
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::POLLIN, client.wants_read());
        wanted.set(PollFlags::POLLOUT, client.wants_write());
        entries.push(PollFd::new(client.stream.as_fd(), wanted));
    }
    let timeout = if accepting { None } else { Some(ACCEPT_RETRY.as_millis() as u16) };

    poll(&mut entries, PollTimeout::from(timeout))?;

    // Errors and hang-ups are reported even where we did not ask for them. They count as ready for everything:
    // the next call on the socket gets the bytes that came before, and then the error. A loop that ignores
    // them relies on POLLIN being reported beside them, as Linux does for TCP. Where it is not, `poll`
    // returns at once, again and again, and the loop spins.
    let broken = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    let mut readiness = entries.iter().map(|entry| {
        let reported = entry.revents().unwrap_or(broken);
        Readiness {
            readable: reported.intersects(PollFlags::POLLIN | broken),
            writable: reported.intersects(PollFlags::POLLOUT | broken),
        }
    });
    Ok(Ready {
        listener: readiness.next().is_some_and(|listener| listener.readable),
        clients: readiness.collect(),
    })
}

/// Takes one caller off the backlog. If there are more, the next wait says so at once.
fn accept(listener: &TcpListener, clients: &mut Vec<Client>, accept_after: &mut Option<Instant>) {
    match listener.accept() {
        Ok((stream, peer)) => {
            *accept_after = None;
            match Client::new(stream, peer) {
                Ok(client) => clients.push(client),
                Err(error) => eprintln!("refused {peer}: {error}"),
            }
        }
        // This one hung up while it was waiting.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {
            *accept_after = None;
        }
        // Mostly EMFILE: no descriptor is free. The caller stays in the backlog, so the listener stays
        // readable: were it still watched, no wait would sleep. Look away for a while, and say so once.
        Err(error) => {
            if accept_after.is_none() {
                eprintln!("cannot accept: {error}; trying again every {ACCEPT_RETRY:?}");
            }
            *accept_after = Some(Instant::now() + ACCEPT_RETRY);
        }
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
}

impl Client {
    fn new(stream: TcpStream, peer: SocketAddr) -> io::Result<Client> {
        // One call that waits would stop all clients.
        stream.set_nonblocking(true)?;
        Ok(Client { stream, peer, outbox: VecDeque::new(), peer_finished: false })
    }

    fn wants_read(&self) -> bool {
        !self.peer_finished && self.outbox.len() < OUTBOX_BYTES_HIGH
    }

    fn wants_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn is_over(&self) -> bool {
        self.peer_finished && self.outbox.is_empty()
    }

    /// This client's share of a pass. An error is its end, and nothing more.
    fn serve(&mut self, ready: Readiness, chunk: &mut [u8]) -> io::Result<()> {
        if ready.readable {
            self.fill(chunk)?;
        }
        // After a read without asking: mostly there is room, and a whole pass is saved.
        if ready.readable || ready.writable {
            self.drain()?;
        }
        Ok(())
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

    /// Writes once. What the kernel does not take puts the client into the next pass's POLLOUT.
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
