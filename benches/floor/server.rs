//! The floor: the cheapest single-threaded echo that is still correct.
//!
//! Level-triggered epoll, the descriptor itself as the event's data, one buffer shared by all, read and write straight back.
//! No table of connections, no limits, no timers, no outbox: a peer that doesn't read stalls everybody. That is what makes it
//! the floor and not a server.
//!
//! Its one invariant: bytes read are written before anything else happens, so none can be lost or swapped.

use super::Outcome;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollOp, EpollTimeout};
use nix::sys::socket::{MsgFlags, SockFlag, accept4, recv, send};
use nix::unistd::close;
use socket2::{Domain, Socket, Type};
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};

/// One read takes at most this much; the size that most servers settle on.
const BUFFER_BYTES: usize = 64 * 1024;
/// Events taken from the kernel per wait.
const EVENTS_PER_WAIT: usize = 1024;
/// What mio asks for, too (the kernel cuts it to `somaxconn`).
const BACKLOG: i32 = 4096;

/// Serves until SIGTERM, whose default action ends it; valgrind and strace write their counts all the same.
pub(crate) fn serve() -> Outcome<()> {
    let _ = super::children::die_with_parent();
    let listener = listen().map_err(|error| format!("cannot listen on 127.0.0.1: {error}"))?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
        .map_err(|error| format!("cannot create an epoll: {error}"))?;
    let failure = turn_forever(&epoll, listener.as_raw_fd());
    Err(format!("cannot wait for events: {failure}"))
}

fn turn_forever(epoll: &Epoll, listener: RawFd) -> Errno {
    let watch = |fd: RawFd| control(epoll, EpollOp::EpollCtlAdd, fd, EpollFlags::EPOLLIN);
    if let Err(error) = watch(listener) {
        return error;
    }
    let mut events = [EpollEvent::empty(); EVENTS_PER_WAIT];
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let ready = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            Err(error) => return error,
        };
        for event in &events[..ready] {
            let fd = event.data() as RawFd;
            if fd != listener {
                echo(fd, &mut buffer);
            // One accept per event and no second call to hear would-block: if more wait, the level is still high.
            } else if let Ok(accepted) = accept4(listener, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC)
                && watch(accepted).is_err()
            {
                let _ = close(accepted);
            }
        }
    }
}

/// Read once, write it all back. What is left to read keeps the level high and comes round again.
fn echo(fd: RawFd, buffer: &mut [u8]) {
    let open = match recv(fd, buffer, MsgFlags::empty()) {
        Ok(0) => false,
        Ok(count) => match send(fd, &buffer[..count], MsgFlags::MSG_NOSIGNAL) {
            Ok(written) if written == count => true,
            Ok(written) => send_the_rest(fd, &buffer[written..count]),
            Err(Errno::EAGAIN) => send_the_rest(fd, &buffer[..count]),
            Err(_) => false,
        },
        Err(Errno::EAGAIN | Errno::EINTR) => true,
        Err(_) => false,
    };
    if !open {
        // Closing also takes it out of the epoll.
        let _ = close(fd);
    }
}

/// The cheat: wait for this one peer and let all others wait. False if it went away.
#[cold]
fn send_the_rest(fd: RawFd, mut rest: &[u8]) -> bool {
    // A second epoll and not poll(2), whose safe wrapper wants an owned descriptor where we hold a number.
    let Ok(epoll) = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC) else {
        return false;
    };
    if control(&epoll, EpollOp::EpollCtlAdd, fd, EpollFlags::EPOLLOUT).is_err() {
        return false;
    }
    let mut events = [EpollEvent::empty()];
    while !rest.is_empty() {
        match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
        match send(fd, rest, MsgFlags::MSG_NOSIGNAL) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// `Epoll::add` wants an owned descriptor; owning each one would need a table, and the floor has none.
#[allow(deprecated)]
fn control(epoll: &Epoll, operation: EpollOp, fd: RawFd, interest: EpollFlags) -> Result<(), Errno> {
    let mut event = EpollEvent::new(interest, fd as u64);
    nix::sys::epoll::epoll_ctl(epoll.0.as_raw_fd(), operation, fd, &mut event)
}

fn listen() -> std::io::Result<Socket> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.set_nonblocking(true)?;
    // Linux hands this down to every accepted socket: one system call instead of one per connection.
    listener.set_tcp_nodelay(true)?;
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(BACKLOG)?;
    let address = listener.local_addr()?.as_socket().expect("bound to an IPv4 address above");
    println!("listening on tcp://{address}");
    std::io::stdout().flush()?;
    Ok(listener)
}
