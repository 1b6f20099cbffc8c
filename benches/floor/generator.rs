//! The other end of the wire: many connections on one thread that ask, hear and check.
//!
//! It must cost less than what it measures, so it is a floor of its own: level-triggered epoll, one shared buffer, and the bytes
//! to send are a slice of a pattern that exists once. The same pattern checks what comes back: a connection's stream is the
//! pattern from a place of its own, so a byte lost, doubled, swapped or sent to the wrong peer shows up in one comparison.
//!
//! Its invariant: never blocked outside of `epoll_wait`, and never there for good. It doesn't know what is measured: that is
//! `drives`.

use super::Outcome;
use super::histogram::Histogram;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{MsgFlags, recv};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// A prime, so that neither a message nor a buffer is a whole number of periods: a shift always shows.
const PERIOD: u64 = 251;
/// The most that is offered to the kernel in one write.
const WRITE_BYTES_MAX: usize = 1024 * 1024;
/// Two of the server's buffers: the generator should need fewer reads than the server needs writes.
const INBOX_BYTES: usize = 128 * 1024;
/// Of messages this long most reads only count: with MSG_TRUNC the kernel drops the bytes instead of copying them, and the copy
/// is what would make the generator slower than the server. A read that is compared proves the place in the stream, too.
const SKIM_FROM_MESSAGE_BYTES: usize = 16 * 1024;
const COMPARE_ONE_READ_IN: u32 = 8;
const EVENTS_PER_WAIT: usize = 1024;
/// Connections opened before the first of them is waited for; less than any backlog.
const OPEN_AT_ONCE: usize = 64;
/// The first message on each connection, which proves that it was accepted.
const GREETING_BYTES: u64 = 64;
/// Loopback is a whole class A network: 127.0.0.2 and up, so that no limit per address and no range of ports is in the way.
const SOURCE_ADDRESSES: usize = 250;

pub(crate) struct Lines {
    lines: Vec<Line>,
    wire: Wire,
    events: Vec<EpollEvent>,
    inbox: Vec<u8>,
    /// Sampled once per turn.
    now: Instant,
    checked_at: Instant,
    compare_one_read_in: u32,
    reply_within: Duration,
}

/// What every line needs and none owns.
pub(crate) struct Wire {
    epoll: Epoll,
    pattern: Vec<u8>,
}

/// One connection: three counts of the same stream of bytes, `received <= sent <= asked`.
pub(crate) struct Line {
    stream: TcpStream,
    index: u64,
    asked: u64,
    sent: u64,
    received: u64,
    /// Of the message that is arriving.
    message_bytes_heard: u64,
    reads: u32,
    asked_at: Instant,
    heard_at: Instant,
    /// Whether epoll tells us when it can be written.
    awaits_room: bool,
}

/// When to stop asking. What was asked is always waited for.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Clock(Instant),
    Count(u64),
}

/// What a conversation came to.
#[derive(Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
}

impl Lines {
    pub(crate) fn new(reply_within: Duration) -> Outcome<Self> {
        let now = Instant::now();
        Ok(Self {
            lines: Vec::new(),
            wire: Wire::new()?,
            events: vec![EpollEvent::empty(); EVENTS_PER_WAIT],
            inbox: vec![0; INBOX_BYTES],
            now,
            checked_at: now,
            compare_one_read_in: 1,
            reply_within,
        })
    }

    /// Opens `count` more connections, each of which has talked once by the time this returns.
    pub(crate) fn open(&mut self, address: SocketAddr, count: usize) -> Outcome<()> {
        let all = self.lines.len() + count;
        while self.lines.len() < all {
            let first = self.lines.len();
            for index in first..all.min(first + OPEN_AT_ONCE) {
                let stream = connect(address, index, self.reply_within)?;
                let line = Line::new(stream, index, &self.wire)?;
                self.lines.push(line);
                self.ask(index, GREETING_BYTES)?;
            }
            self.hear_all()?;
        }
        Ok(())
    }

    /// Closes them all. The server has yet to hear of it when this returns.
    pub(crate) fn close(&mut self) {
        self.lines.clear();
    }

    /// Sends `bytes` more bytes on a line, as soon as it takes them.
    pub(crate) fn ask(&mut self, index: usize, bytes: u64) -> Outcome<()> {
        self.lines[index].ask(bytes, &self.wire, Instant::now())
    }

    /// The measured loop: on each of the first `talkers` lines, `in_flight` messages there and back, each followed by the next.
    /// Latencies are told only with one in flight, since one time per line is all that is kept.
    pub(crate) fn converse(
        &mut self,
        talkers: usize,
        message_bytes: usize,
        in_flight: usize,
        until: Until,
        latencies: &mut Histogram,
    ) -> Outcome<Tally> {
        let size = message_bytes as u64;
        self.compare_one_read_in =
            if message_bytes < SKIM_FROM_MESSAGE_BYTES { 1 } else { COMPARE_ONE_READ_IN };
        let started = Instant::now();
        let (mut asked, mut answered) = (0, 0);
        for index in 0..talkers {
            let count = until.allows(started, asked, in_flight as u64);
            self.ask(index, count * size)?;
            asked += count;
        }
        while answered < asked {
            self.turn(1000, |line, wire, bytes| {
                let whole = line.messages_completed(bytes, size);
                if whole == 0 {
                    return Ok(());
                }
                answered += whole;
                let now = Instant::now();
                if in_flight == 1 {
                    latencies.record(now - line.asked_at);
                }
                // All that is due goes out in one write, as any client with a buffer does it.
                match until.allows(now, asked, whole) {
                    0 => Ok(()),
                    count => {
                        asked += count;
                        line.ask(count * size, wire, now)
                    }
                }
            })?;
        }
        Ok(Tally { messages: answered, seconds: started.elapsed().as_secs_f64() })
    }

    /// One pass: wait, read what is there, write what has room. `on_heard` gets the number of bytes, checked already.
    pub(crate) fn turn(
        &mut self,
        wait_ms: u16,
        mut on_heard: impl FnMut(&mut Line, &Wire, u64) -> Outcome<()>,
    ) -> Outcome<()> {
        let ready = self.wire.wait(&mut self.events, wait_ms)?;
        self.now = Instant::now();
        for event in &self.events[..ready] {
            let line = &mut self.lines[event.data() as usize];
            if event.events().contains(EpollFlags::EPOLLOUT) {
                line.push(&self.wire)?;
            }
            if event.events() != EpollFlags::EPOLLOUT {
                let heard = line.hear(&self.wire, &mut self.inbox, self.compare_one_read_in)?;
                if heard > 0 {
                    line.heard_at = self.now;
                    on_heard(line, &self.wire, heard)?;
                }
            }
        }
        self.check_patience()
    }

    /// Waits until every byte asked for has come back.
    fn hear_all(&mut self) -> Outcome<()> {
        let mut missing: u64 = self.lines.iter().map(|line| line.asked - line.received).sum();
        while missing > 0 {
            self.turn(1000, |_, _, heard| {
                missing -= heard;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Once a second: is there a line that has waited too long?
    fn check_patience(&mut self) -> Outcome<()> {
        if self.now - self.checked_at < Duration::from_secs(1) {
            return Ok(());
        }
        self.checked_at = self.now;
        let too_long = |line: &&Line| {
            line.received < line.asked && self.now - line.heard_at.max(line.asked_at) > self.reply_within
        };
        match self.lines.iter().filter(too_long).count() {
            0 => Ok(()),
            count => Err(format!(
                "no reply within {:?} on {count} of {} connections",
                self.reply_within,
                self.lines.len()
            )),
        }
    }
}

impl Wire {
    pub(crate) fn new() -> Outcome<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|error| format!("cannot create an epoll: {error}"))?;
        let pattern =
            (0..PERIOD).map(|byte| byte as u8).cycle().take(PERIOD as usize + WRITE_BYTES_MAX).collect();
        Ok(Self { epoll, pattern })
    }

    pub(crate) fn watch(&self, stream: &TcpStream, index: usize, interest: EpollFlags) -> Outcome<()> {
        let event = EpollEvent::new(interest, index as u64);
        self.epoll.add(stream, event).map_err(|error| format!("cannot watch a connection: {error}"))
    }

    pub(crate) fn watch_again(&self, stream: &TcpStream, index: usize, interest: EpollFlags) -> Outcome<()> {
        let mut event = EpollEvent::new(interest, index as u64);
        self.epoll.modify(stream, &mut event).map_err(|error| format!("cannot watch a connection: {error}"))
    }

    /// How many events; 0 after `wait_ms` without one.
    pub(crate) fn wait(&self, events: &mut [EpollEvent], wait_ms: u16) -> Outcome<usize> {
        match self.epoll.wait(events, wait_ms) {
            Err(Errno::EINTR) => Ok(0),
            other => other.map_err(|error| format!("cannot wait for events: {error}")),
        }
    }

    /// The bytes of stream `index` from `offset` on; `count` is at most `WRITE_BYTES_MAX`.
    pub(crate) fn expected(&self, index: u64, offset: u64, count: usize) -> &[u8] {
        let start = ((index * 7 + offset) % PERIOD) as usize;
        &self.pattern[start..start + count]
    }
}

impl Line {
    fn new(stream: TcpStream, index: usize, wire: &Wire) -> Outcome<Self> {
        stream
            .set_nonblocking(true)
            .map_err(|error| format!("cannot make a connection non-blocking: {error}"))?;
        wire.watch(&stream, index, EpollFlags::EPOLLIN)?;
        let now = Instant::now();
        Ok(Self {
            stream,
            index: index as u64,
            asked: 0,
            sent: 0,
            received: 0,
            message_bytes_heard: 0,
            reads: 0,
            asked_at: now,
            heard_at: now,
            awaits_room: false,
        })
    }

    pub(crate) fn index(&self) -> usize {
        self.index as usize
    }

    pub(crate) fn ask(&mut self, bytes: u64, wire: &Wire, now: Instant) -> Outcome<()> {
        self.asked += bytes;
        self.asked_at = now;
        // If it awaits room already, what is new waits its turn behind what is old.
        if self.awaits_room { Ok(()) } else { self.push(wire) }
    }

    /// How many messages of `size` the last `bytes` bytes have completed.
    pub(crate) fn messages_completed(&mut self, bytes: u64, size: u64) -> u64 {
        self.message_bytes_heard += bytes;
        let mut whole = 0;
        // Not a division: nearly always it is 0 or 1 rounds.
        while self.message_bytes_heard >= size {
            self.message_bytes_heard -= size;
            whole += 1;
        }
        whole
    }

    /// One write. What doesn't fit waits for the event that says there is room.
    fn push(&mut self, wire: &Wire) -> Outcome<()> {
        let count = (self.asked - self.sent).min(WRITE_BYTES_MAX as u64) as usize;
        if count > 0 {
            match self.stream.write(wire.expected(self.index, self.sent, count)) {
                Ok(written) => self.sent += written as u64,
                Err(error) if is_not_yet(error.kind()) => {}
                Err(error) => return Err(format!("a write failed: {error}")),
            }
        }
        let needs_room = self.sent < self.asked;
        if needs_room != self.awaits_room {
            self.awaits_room = needs_room;
            let interest =
                if needs_room { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
            wire.watch_again(&self.stream, self.index(), interest)?;
        }
        Ok(())
    }

    /// One read. What it didn't take comes round again.
    fn hear(&mut self, wire: &Wire, inbox: &mut [u8], compare_one_read_in: u32) -> Outcome<u64> {
        self.reads = self.reads.wrapping_add(1);
        let compare = self.reads.is_multiple_of(compare_one_read_in);
        let flags = if compare { MsgFlags::empty() } else { MsgFlags::MSG_TRUNC };
        let count = match recv(self.stream.as_raw_fd(), inbox, flags) {
            Ok(0) => return Err("the server closed a connection that was in use".into()),
            Ok(count) => count,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(0),
            Err(error) => return Err(format!("a read failed: {error}")),
        };
        let received = self.received + count as u64;
        if received > self.sent {
            return Err(format!("the server sent {} bytes more than it got", received - self.sent));
        }
        if compare && inbox[..count] != *wire.expected(self.index, self.received, count) {
            return Err(format!(
                "wrong bytes came back, somewhere from byte {} to byte {received} of a connection",
                self.received
            ));
        }
        self.received = received;
        Ok(count as u64)
    }
}

impl Until {
    /// Of `wanted` more messages, how many may be asked?
    fn allows(self, now: Instant, asked: u64, wanted: u64) -> u64 {
        match self {
            Until::Clock(end) => {
                if now < end {
                    wanted
                } else {
                    0
                }
            }
            Until::Count(count) => wanted.min(count - asked),
        }
    }
}

pub(crate) fn is_not_yet(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn connect(address: SocketAddr, index: usize, within: Duration) -> Outcome<TcpStream> {
    let socket = socket_for(index)?;
    socket
        .connect_timeout(&address.into(), within)
        .map_err(|error| format!("cannot connect to {address}: {error}"))?;
    Ok(socket.into())
}

/// A socket with a source address of its own turn, and all that `connect` needs.
pub(crate) fn socket_for(index: usize) -> Outcome<Socket> {
    let socket = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_tcp_nodelay(true)?;
        let source = Ipv4Addr::new(127, 0, 0, 2 + (index % SOURCE_ADDRESSES) as u8);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        Ok(socket)
    };
    socket().map_err(|error: std::io::Error| format!("cannot open a socket: {error}"))
}
