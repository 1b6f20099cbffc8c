//! The kernel of the simulated world: streams and datagrams between clients and the loop, listeners, and a poll.
//!
//! It keeps the promises of a kernel, and no others. Bytes of a stream arrive in order, in any pieces; datagrams arrive
//! whole, or not, or twice. Every change that a poll would report is reported: sooner or later, once or merged with others,
//! in any order, and sometimes without cause. Calls that may fail, fail at random: [`Odds`] says how often.
//!
//! Invariant: an edge is pending while a registered stream has something that its last would-block denied.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use mio::{Interest, Registry, Token, event};
use switchboard::reactor::{DatagramSocket, Opening, Readiness, Route, Transport};
use switchboard::transport::Address;
use switchboard::transport::custom::{CustomListener, CustomStream};

use crate::dice::Dice;

/// How often each fault happens, per thousand chances. Each world draws its own.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Odds {
    pub(crate) short_read: usize,
    pub(crate) short_write: usize,
    pub(crate) would_block: usize,
    /// An event is not delivered yet.
    pub(crate) late: usize,
    /// An event without a cause.
    pub(crate) spurious: usize,
    /// accept(2) fails: no descriptor, or the connection has gone.
    pub(crate) accept_fails: usize,
    /// The handshake takes another event.
    pub(crate) handshake: usize,
    /// shutdown(2) and the like fail.
    pub(crate) finish_fails: usize,
    /// A connect of ours takes another event, or comes to nothing.
    pub(crate) connect: usize,
    /// What a client says is urgent.
    pub(crate) urgent: usize,
    /// A datagram is lost, comes twice, or before others.
    pub(crate) network: usize,
    /// An ICMP message about an earlier datagram comes instead of the next one.
    pub(crate) bounce: usize,
    /// Not odds: the limit of descriptors, beyond which accept(2) fails with EMFILE. 0: no limit.
    pub(crate) descriptors: usize,
}

impl Odds {
    /// Each is absent, rare or frequent, on its own: so some worlds are calm and some are extreme.
    pub(crate) fn draw(dice: &mut Dice) -> Odds {
        let mut often = || dice.pick(&[0, 0, 10, 100, 500]);
        Odds {
            short_read: often(),
            short_write: often(),
            would_block: often(),
            late: often(),
            spurious: often(),
            accept_fails: often(),
            handshake: often(),
            connect: often(),
            network: often(),
            bounce: often(),
            urgent: often(),
            finish_fails: dice.pick(&[0, 0, 0, 50]),
            descriptors: dice.pick(&[0, 0, 0, 2, 6]),
        }
    }
}

/// A call that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Accept,
    Register,
    Reregister,
    Deregister,
    Read,
    Write,
    Finish,
    Establish,
    Receive,
    Send,
}

/// The program must call again, and no guest may notice.
const EINTR: i32 = 4;

impl Call {
    /// The errors that its manual page names, and that can come here: numbers of Linux.
    pub(crate) fn errors(self) -> &'static [i32] {
        const EPERM: i32 = 1;
        const ENOENT: i32 = 2;
        const EIO: i32 = 5;
        const ENOMEM: i32 = 12;
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        const ENOSPC: i32 = 28;
        const EPIPE: i32 = 32;
        const EPROTO: i32 = 71;
        const EMSGSIZE: i32 = 90;
        const ENETUNREACH: i32 = 101;
        const ECONNABORTED: i32 = 103;
        const ECONNRESET: i32 = 104;
        const ENOBUFS: i32 = 105;
        const ENOTCONN: i32 = 107;
        const ETIMEDOUT: i32 = 110;
        const ECONNREFUSED: i32 = 111;
        const EHOSTUNREACH: i32 = 113;
        match self {
            Call::Accept => &[EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPERM, EPROTO],
            Call::Register | Call::Reregister => &[ENOMEM, ENOSPC],
            Call::Deregister => &[ENOENT],
            Call::Read => &[EINTR, ECONNRESET, ETIMEDOUT, EIO, ENOMEM],
            Call::Write => &[EINTR, EPIPE, ECONNRESET, ENOBUFS, EIO],
            Call::Finish => &[ENOTCONN, ENOBUFS],
            Call::Establish => &[ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH],
            Call::Receive => &[EINTR, ECONNREFUSED, ENOMEM],
            Call::Send => &[EINTR, EPERM, EMSGSIZE, ENOBUFS, ENETUNREACH],
        }
    }
}

/// One call that fails: of this kind the one with this number, with this `errno`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Torture {
    pub(crate) call: Call,
    pub(crate) number: u64,
    pub(crate) errno: i32,
}

/// All that programs and clients share.
pub(crate) struct Kernel {
    pub(crate) dice: Dice,
    pub(crate) odds: Odds,
    /// Bytes that one direction of a stream holds.
    window: usize,
    /// A short read has emptied the socket, as epoll(7) promises: so the loop need not look again.
    promises: bool,
    /// What can be read and what can be written are two events, as kqueue(2) has it; else one, as epoll(7) has it.
    pub(crate) splits: bool,
    /// How many nanoseconds each close takes.
    pub(crate) close_takes: u64,
    /// What time it is, in nanoseconds.
    time: Arc<AtomicU64>,
    streams: BTreeMap<usize, Stream>,
    streams_made: usize,
    doors: Vec<Door>,
    post: Vec<Post>,
    /// Server ends that are open: our descriptors.
    pub(crate) open: usize,
    /// Streams that were gone before they were accepted.
    pub(crate) aborted: Vec<usize>,
    /// How often each call was made, and which one is to fail.
    pub(crate) calls: BTreeMap<Call, u64>,
    pub(crate) torture: Option<Torture>,
    /// The one that failed was about this stream, which may end for it; `usize::MAX`: about none.
    pub(crate) tortured: Option<usize>,
}

pub(crate) type Shared = Arc<Mutex<Kernel>>;

/// A listening socket.
#[derive(Default)]
struct Door {
    token: Option<Token>,
    edge: bool,
    backlog: VecDeque<usize>,
    accepted_this_turn: usize,
}

/// A socket of datagrams.
#[derive(Default)]
struct Post {
    token: Option<Token>,
    edge: bool,
    to_server: VecDeque<(Vec<u8>, SocketAddr)>,
    to_clients: VecDeque<(Vec<u8>, SocketAddr)>,
    received_this_turn: usize,
}

#[derive(Default)]
struct Stream {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    client_finished: bool,
    server_finished: bool,
    client_gone: bool,
    server_gone: bool,
    reset: bool,
    token: Option<Token>,
    edge: Readiness,
    /// A write of the server was denied for lack of room: the next room raises an event.
    wants_room: bool,
    /// Events that the handshake still takes; `None`: it has none.
    handshake: Option<u32>,
    /// Events that our connect still takes, and how it ends: `None`: well.
    connect: Option<(u32, Option<ErrorKind>)>,
    /// The number of bytes before the urgent mark. A read stops there, even if more bytes follow (tcp(7)).
    mark: Option<usize>,
    read_this_turn: usize,
    /// When the server last got or gave a byte.
    moved_at: u64,
    /// When the server last tried to give one.
    tried_at: u64,
}

impl Stream {
    fn raise(&mut self, readiness: Readiness) {
        self.edge = self.edge.union(readiness);
    }
}

impl Kernel {
    pub(crate) fn new(dice: Dice, odds: Odds, window: usize, promises: bool, time: Arc<AtomicU64>) -> Shared {
        Arc::new(Mutex::new(Kernel {
            dice,
            odds,
            window,
            promises,
            splits: false,
            close_takes: 0,
            time,
            streams: BTreeMap::new(),
            streams_made: 0,
            doors: Vec::new(),
            post: Vec::new(),
            open: 0,
            aborted: Vec::new(),
            calls: BTreeMap::new(),
            torture: None,
            tortured: None,
        }))
    }

    fn happens(&mut self, odds: fn(&Odds) -> usize) -> bool {
        let odds = odds(&self.odds);
        odds > 0 && self.dice.below(1000) < odds
    }

    /// From here on nothing goes wrong any more.
    pub(crate) fn calm_down(&mut self) {
        self.odds = Odds::default();
    }

    /// Counts a call; fails, where it is the one that is to.
    fn call(&mut self, call: Call, stream: Option<usize>) -> io::Result<()> {
        let count = self.calls.entry(call).or_default();
        *count += 1;
        match self.torture {
            Some(torture) if torture.call == call && torture.number == *count => {
                if torture.errno != EINTR {
                    self.tortured = Some(stream.unwrap_or(usize::MAX));
                }
                Err(io::Error::from_raw_os_error(torture.errno))
            }
            _ => Ok(()),
        }
    }

    fn stream(&mut self, id: usize) -> &mut Stream {
        self.streams.get_mut(&id).expect("a stream is there as long as one of its ends")
    }

    fn new_stream(&mut self, stream: Stream) -> usize {
        let id = self.streams_made;
        self.streams_made += 1;
        self.streams.insert(id, stream);
        id
    }

    /// What the poll reports now. In a calm world: all that is pending.
    pub(crate) fn events(&mut self) -> Vec<(Token, Readiness)> {
        let mut events = Vec::new();
        self.streams.retain(|_, stream| !(stream.server_gone && stream.client_gone));
        let ids: Vec<usize> = self.streams.keys().copied().collect();
        for id in ids {
            self.stream(id).read_this_turn = 0;
            let Some(token) = self.stream(id).token else { continue };
            let is_spurious = self.happens(|odds| odds.spurious);
            let is_late = self.happens(|odds| odds.late);
            let is_split = self.splits;
            let stream = self.stream(id);
            let mut readiness = if is_late { Readiness::default() } else { std::mem::take(&mut stream.edge) };
            if readiness != Readiness::default() && (stream.client_finished || stream.mark.is_some()) {
                // Whatever the cause: epoll(7) reports all that is so when it reports (EPOLLIN | EPOLLRDHUP, EPOLLPRI).
                readiness = readiness.union(Readiness::READABLE).union(Readiness::EXCEPTIONAL);
            }
            if is_spurious {
                readiness = readiness.union(Readiness::READABLE);
            }
            if is_split && readiness.has(Readiness::WRITABLE) && readiness.has(Readiness::READABLE) {
                events.push((token, Readiness::WRITABLE));
            }
            if readiness != Readiness::default() {
                events.push((token, readiness));
            }
        }
        for index in 0..self.doors.len() {
            self.doors[index].accepted_this_turn = 0;
            if let Some(token) = self.doors[index].token
                && self.doors[index].edge
                && !self.happens(|odds| odds.late)
            {
                self.doors[index].edge = false;
                events.push((token, Readiness::READABLE));
            }
        }
        for index in 0..self.post.len() {
            self.post[index].received_this_turn = 0;
            if let Some(token) = self.post[index].token
                && self.post[index].edge
                && !self.happens(|odds| odds.late)
            {
                self.post[index].edge = false;
                events.push((token, Readiness::READABLE));
            }
        }
        for index in (1..events.len()).rev() {
            events.swap(index, self.dice.below(index + 1));
        }
        events
    }

    /// Returns whether a connection waits in the backlog of an open listener.
    pub(crate) fn somebody_waits(&self) -> bool {
        self.doors.iter().any(|door| door.token.is_some() && !door.backlog.is_empty())
    }

    /// Whether the server has no reason to wait before it writes to this stream: its last write was not denied, and no event is
    /// on its way.
    pub(crate) fn takes_more(&self, id: usize) -> bool {
        let stream = &self.streams[&id];
        stream.token.is_some() && !stream.wants_room && stream.edge == Readiness::default()
    }

    /// Whether the server has no reason to wait before it reads from this stream: there are bytes, or their end, and no event
    /// is on its way.
    pub(crate) fn has_more(&self, id: usize) -> bool {
        let stream = &self.streams[&id];
        let is_readable = !stream.to_server.is_empty() || stream.client_finished || stream.reset;
        stream.token.is_some() && is_readable && stream.edge == Readiness::default()
    }

    /// Whether an event is still to be reported.
    pub(crate) fn is_pending(&self) -> bool {
        let of_stream = |stream: &Stream| stream.token.is_some() && stream.edge != Readiness::default();
        self.doors.iter().any(|door| door.token.is_some() && door.edge)
            || self.post.iter().any(|post| post.token.is_some() && post.edge)
            || self.streams.values().any(of_stream)
    }

    /// The most that was read from one stream, accepted by one listener, and received by one socket, since the poll reported.
    pub(crate) fn most_in_a_turn(&self) -> (usize, usize, usize) {
        (
            self.streams.values().map(|stream| stream.read_this_turn).max().unwrap_or(0),
            self.doors.iter().map(|door| door.accepted_this_turn).max().unwrap_or(0),
            self.post.iter().map(|post| post.received_this_turn).max().unwrap_or(0),
        )
    }

    /// How many listeners there were.
    pub(crate) fn listeners(&self) -> usize {
        self.doors.len()
    }

    /// How many bytes of this client the server has not read.
    pub(crate) fn unread(&self, client: &Client) -> usize {
        self.streams.get(&client.id).map_or(0, |stream| stream.to_server.len())
    }

    /// Whether the server has said its last byte to this client.
    pub(crate) fn has_finished(&self, client: &Client) -> bool {
        self.streams.get(&client.id).is_some_and(|stream| stream.server_finished)
    }

    /// Whether the loop watches the client's stream.
    pub(crate) fn is_served(&self, client: &Client) -> bool {
        self.streams.get(&client.id).is_some_and(|stream| stream.token.is_some())
    }

    /// Whether an event of the client's stream has not been delivered yet.
    pub(crate) fn has_news(&self, client: &Client) -> bool {
        self.streams.get(&client.id).is_some_and(|stream| stream.edge != Readiness::default())
    }

    /// See [`Client::shown`].
    pub(crate) fn shown(&mut self, id: usize) -> String {
        let Some(stream) = self.streams.get(&id) else { return "gone".into() };
        format!(
            "{:?}: {} to the server{}, {} to the client{}, handshake {:?}, edge {:?}",
            stream.token,
            stream.to_server.len(),
            if stream.client_finished { " and its end" } else { "" },
            stream.to_client.len(),
            if stream.server_finished { " and its end" } else { "" },
            stream.handshake,
            stream.edge
        )
    }

    fn is_at_the_end(&mut self, id: usize) -> bool {
        let stream = self.stream(id);
        stream.to_client.is_empty() && (stream.server_finished || stream.server_gone)
    }

    fn was_cut(&mut self, id: usize) -> bool {
        let stream = self.stream(id);
        stream.server_gone
            && (!stream.to_server.is_empty() || !stream.server_finished && !stream.client_finished)
    }

    /// See [`Client::reset`].
    pub(crate) fn reset(&mut self, id: usize) {
        let stream = self.stream(id);
        stream.reset = true;
        stream.to_server.clear();
        stream.to_client.clear();
        stream.edge = Readiness::READABLE.union(Readiness::WRITABLE).union(Readiness::EXCEPTIONAL);
    }

    /// Sends a datagram to the socket with this index, through a network that may do with it what it likes.
    pub(crate) fn mail(&mut self, index: usize, from: SocketAddr, bytes: &[u8]) {
        for _ in 0..self.copies() {
            let place = match self.happens(|odds| odds.network) {
                true => self.dice.below(self.post[index].to_server.len() + 1),
                false => self.post[index].to_server.len(),
            };
            self.post[index].to_server.insert(place, (bytes.to_vec(), from));
            self.post[index].edge = true;
        }
    }

    /// How often a datagram arrives.
    fn copies(&mut self) -> usize {
        match self.happens(|odds| odds.network) {
            true => self.dice.pick(&[0, 0, 2]),
            false => 1,
        }
    }

    /// Returns the next datagram that the socket with this index has sent, and its address.
    pub(crate) fn collect(&mut self, index: usize) -> Option<(Vec<u8>, SocketAddr)> {
        self.post[index].to_clients.pop_front()
    }

    /// When the server last got something from this client or gave it something: a byte, a step of the handshake, its end.
    pub(crate) fn last_moved(&self, client: &Client) -> u64 {
        self.streams.get(&client.id).map_or(0, |stream| stream.moved_at)
    }

    /// The same, and when it last tried to give one.
    pub(crate) fn last_tried(&self, client: &Client) -> u64 {
        self.streams.get(&client.id).map_or(0, |stream| stream.moved_at.max(stream.tried_at))
    }
}

/// A listening socket. It has no state of its own.
pub(crate) struct Backlog {
    index: usize,
    kernel: Shared,
}

/// A socket of datagrams, as the server holds it.
pub(crate) struct Mailbox {
    index: usize,
    kernel: Shared,
}

/// The server's end of a stream.
pub(crate) struct Pipe {
    pub(crate) id: usize,
    kernel: Shared,
}

/// The client's end.
pub(crate) struct Client {
    pub(crate) id: usize,
    kernel: Shared,
}

fn lock(kernel: &Shared) -> MutexGuard<'_, Kernel> {
    kernel.lock().expect("no panic has poisoned it")
}

/// A listener; clients [`connect`] to its index: they are counted from 0.
pub(crate) fn listen(kernel: &Shared) -> Backlog {
    let mut inside = lock(kernel);
    inside.doors.push(Door::default());
    Backlog { index: inside.doors.len() - 1, kernel: Arc::clone(kernel) }
}

/// A socket of datagrams: they are counted from 0 as well.
pub(crate) fn mailbox(kernel: &Shared) -> Mailbox {
    let mut inside = lock(kernel);
    inside.post.push(Post::default());
    Mailbox { index: inside.post.len() - 1, kernel: Arc::clone(kernel) }
}

/// A client connects: the server finds it in that listener's backlog.
pub(crate) fn connect(kernel: &Shared, door: usize, has_handshake: bool) -> Client {
    let mut inside = lock(kernel);
    let handshake = has_handshake.then(|| inside.dice.below(4) as u32);
    let id = inside.new_stream(Stream { handshake, ..Stream::default() });
    inside.doors[door].backlog.push_back(id);
    inside.doors[door].edge = true;
    Client { id, kernel: Arc::clone(kernel) }
}

/// Begins an outgoing connection of the server. After some events it is established, or fails.
pub(crate) fn dial(kernel: &Shared) -> (Pipe, Client) {
    let mut inside = lock(kernel);
    let events = inside.dice.below(3) as u32;
    let failure = inside.happens(|odds| odds.connect).then(|| {
        inside.dice.pick(&[ErrorKind::ConnectionRefused, ErrorKind::TimedOut, ErrorKind::HostUnreachable])
    });
    let id = inside.new_stream(Stream { connect: Some((events, failure)), ..Stream::default() });
    inside.open += 1;
    (Pipe { id, kernel: Arc::clone(kernel) }, Client { id, kernel: Arc::clone(kernel) })
}

impl Client {
    /// Says as many of these bytes as the window takes; returns how many.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> usize {
        let mut kernel = lock(&self.kernel);
        let (window, is_urgent) = (kernel.window, kernel.happens(|odds| odds.urgent));
        let stream = kernel.stream(self.id);
        if stream.server_gone && !bytes.is_empty() && !stream.client_finished {
            stream.to_client.clear(); // the answer is a reset, which destroys what is on its way (RFC 1122, 4.2.2.13)
        }
        if stream.reset || stream.server_gone || stream.client_finished || stream.connect.is_some() {
            return 0;
        }
        let count = bytes.len().min(window.saturating_sub(stream.to_server.len()));
        stream.to_server.extend(&bytes[..count]);
        if count > 0 {
            stream.raise(Readiness::READABLE);
            if is_urgent {
                stream.mark = Some(stream.to_server.len() - 1);
                stream.raise(Readiness::EXCEPTIONAL);
            }
        }
        count
    }

    /// Reads at most `most` bytes.
    pub(crate) fn hear(&mut self, most: usize) -> Vec<u8> {
        let mut kernel = lock(&self.kernel);
        let stream = kernel.stream(self.id);
        let count = most.min(stream.to_client.len());
        let heard: Vec<u8> = stream.to_client.drain(..count).collect();
        // As in Linux (SOCK_NOSPACE), room raises an event only after a write was denied.
        if !heard.is_empty() && std::mem::take(&mut stream.wants_room) {
            stream.raise(Readiness::WRITABLE);
        }
        heard
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&mut self) {
        let mut kernel = lock(&self.kernel);
        let stream = kernel.stream(self.id);
        if !stream.client_finished && !stream.reset && stream.connect.is_none() {
            stream.client_finished = true;
            stream.raise(Readiness::READABLE.union(Readiness::EXCEPTIONAL));
        }
    }

    /// Goes without a word: what is on its way is lost on both sides.
    pub(crate) fn reset(&mut self) {
        lock(&self.kernel).reset(self.id);
    }

    /// For a message.
    pub(crate) fn shown(&self) -> String {
        lock(&self.kernel).shown(self.id)
    }

    /// The server has said its last byte, and we have read it.
    pub(crate) fn is_at_the_end(&self) -> bool {
        lock(&self.kernel).is_at_the_end(self.id)
    }

    /// The server let go without having read all: its kernel would have answered with a reset.
    pub(crate) fn was_cut(&self) -> bool {
        lock(&self.kernel).was_cut(self.id)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.finish();
        lock(&self.kernel).stream(self.id).client_gone = true;
    }
}

/// A client that speaks TLS has it on this end of its stream.
impl Read for Client {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let heard = self.hear(into.len());
        into[..heard.len()].copy_from_slice(&heard);
        match heard.len() {
            0 if self.is_at_the_end() => Ok(0),
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.say(bytes) {
            0 if lock(&self.kernel).stream(self.id).server_gone => Err(ErrorKind::BrokenPipe.into()),
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl CustomStream for Client {
    fn finish(&mut self) -> io::Result<()> {
        Client::finish(self);
        Ok(())
    }
}

/// No poll watches it: a client reads and writes when the world lets it act.
impl event::Source for Client {
    fn register(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &Registry, _: Token, _: Interest) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.receive(into, true)
    }
}

impl Pipe {
    /// As recv(2). If it takes nothing out, the next one returns the same bytes (MSG_PEEK).
    fn receive(&self, into: &mut [u8], takes: bool) -> io::Result<usize> {
        let mut kernel = lock(&self.kernel);
        kernel.call(Call::Read, Some(self.id))?;
        if kernel.stream(self.id).reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let is_blocked = kernel.happens(|odds| odds.would_block);
        let (is_short, most, now) =
            (kernel.happens(|odds| odds.short_read), kernel.dice.next(), kernel.time.load(Ordering::Relaxed));
        let is_short = is_short && !kernel.promises;
        let stream = kernel.stream(self.id);
        if is_blocked {
            if !stream.to_server.is_empty() || stream.client_finished {
                stream.raise(Readiness::READABLE);
            }
            return Err(ErrorKind::WouldBlock.into());
        }
        if stream.to_server.is_empty() && stream.client_finished {
            stream.moved_at = now;
            return Ok(0);
        }
        if stream.to_server.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut count = into.len().min(stream.to_server.len());
        if is_short {
            count = 1 + (most % count as u64) as usize;
        }
        if let Some(mark) = stream.mark.filter(|mark| *mark > 0) {
            count = count.min(mark);
        }
        for (place, byte) in into.iter_mut().zip(&stream.to_server) {
            *place = *byte;
        }
        if takes {
            stream.to_server.drain(..count);
            stream.mark = stream.mark.and_then(|mark| mark.checked_sub(count)).filter(|mark| *mark > 0);
            stream.read_this_turn += count;
            stream.moved_at = now;
        }
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "a write of nothing");
        let mut kernel = lock(&self.kernel);
        kernel.call(Call::Write, Some(self.id))?;
        let (is_blocked, is_short) =
            (kernel.happens(|odds| odds.would_block), kernel.happens(|odds| odds.short_write));
        let (window, most, now) = (kernel.window, kernel.dice.next(), kernel.time.load(Ordering::Relaxed));
        let stream = kernel.stream(self.id);
        assert!(!stream.server_finished, "a write behind our own end of file");
        stream.tried_at = now;
        if stream.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut count = bytes.len().min(window.saturating_sub(stream.to_client.len()));
        if count == 0 {
            stream.wants_room = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        if is_blocked {
            stream.raise(Readiness::WRITABLE);
            return Err(ErrorKind::WouldBlock.into());
        }
        if is_short {
            count = 1 + (most % count as u64) as usize;
        }
        if !stream.client_gone {
            stream.to_client.extend(&bytes[..count]);
        }
        stream.moved_at = now;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pipe {
    fn shut_down(&self) -> io::Result<()> {
        let mut kernel = lock(&self.kernel);
        kernel.call(Call::Finish, Some(self.id))?;
        let fails = kernel.happens(|odds| odds.finish_fails);
        let now = kernel.time.load(Ordering::Relaxed);
        let stream = kernel.stream(self.id);
        stream.moved_at = now;
        if stream.reset || fails {
            return Err(ErrorKind::NotConnected.into());
        }
        assert!(!stream.server_finished, "a second end of file");
        stream.server_finished = true;
        Ok(())
    }

    fn keeps_promises(&self) -> bool {
        lock(&self.kernel).promises
    }

    /// What establishes it: a connect of ours, a handshake.
    fn come_about(&self) -> io::Result<()> {
        let mut kernel = lock(&self.kernel);
        kernel.call(Call::Establish, Some(self.id))?;
        let takes_longer = kernel.happens(|odds| odds.handshake);
        let now = kernel.time.load(Ordering::Relaxed);
        let stream = kernel.stream(self.id);
        stream.moved_at = now;
        if let Some((left, outcome)) = stream.connect {
            if left > 0 {
                stream.connect = Some((left - 1, outcome));
                stream.raise(Readiness::WRITABLE);
                return Err(ErrorKind::WouldBlock.into());
            }
            return match outcome {
                Some(failure) => Err(failure.into()),
                None => {
                    stream.connect = None;
                    Ok(())
                }
            };
        }
        match stream.handshake {
            Some(left) if left > 0 || takes_longer => {
                stream.handshake = Some(left.saturating_sub(1));
                stream.raise(Readiness::READABLE);
                Err(ErrorKind::WouldBlock.into())
            }
            _ if stream.reset => Err(ErrorKind::ConnectionReset.into()),
            Some(_) => {
                // As in TLS: it has read on, into the first message, and what it holds raises no event.
                if stream.mark.is_none() {
                    stream.edge = Readiness::WRITABLE;
                }
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// When a listener closes, the kernel refuses the connections that still wait in its backlog.
impl Drop for Backlog {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut kernel = lock(&self.kernel);
        for id in std::mem::take(&mut kernel.doors[self.index].backlog) {
            kernel.stream(id).server_gone = true;
            kernel.aborted.push(id);
        }
    }
}

impl Backlog {
    fn take(&self) -> io::Result<Pipe> {
        let mut kernel = lock(&self.kernel);
        kernel.call(Call::Accept, None)?;
        if kernel.doors[self.index].backlog.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        const EMFILE: i32 = 24;
        const ENFILE: i32 = 23;
        if kernel.odds.descriptors > 0 && kernel.open >= kernel.odds.descriptors {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        if kernel.happens(|odds| odds.accept_fails) {
            return Err(match kernel.dice.below(3) {
                0 => io::Error::from_raw_os_error(EMFILE),
                1 => io::Error::from_raw_os_error(ENFILE),
                _ => {
                    let gone = kernel.doors[self.index].backlog.pop_front().expect("it is not empty");
                    kernel.stream(gone).server_gone = true;
                    kernel.aborted.push(gone);
                    ErrorKind::ConnectionAborted.into()
                }
            });
        }
        let id = kernel.doors[self.index].backlog.pop_front().expect("it is not empty");
        kernel.doors[self.index].accepted_this_turn += 1;
        kernel.open += 1;
        let now = kernel.time.load(Ordering::Relaxed);
        kernel.stream(id).moved_at = now;
        Ok(Pipe { id, kernel: Arc::clone(&self.kernel) })
    }
}

/// For the loop alone, as a transport of its own.
impl Transport for Pipe {
    type Listener = Backlog;
    type Datagrams = Mailbox;
    type Address = ();

    fn accept(listener: &mut Backlog) -> io::Result<(Pipe, ())> {
        Ok((listener.take()?, ()))
    }

    fn establish(&mut self) -> io::Result<Opening> {
        self.come_about().map(|()| Opening::Done)
    }

    fn has_handshake(&self) -> bool {
        lock(&self.kernel).stream(self.id).handshake.is_some()
    }

    fn finish(&mut self, _last: bool) -> io::Result<()> {
        self.shut_down()
    }

    fn short_read_means_empty(&self) -> bool {
        self.keeps_promises()
    }
}

/// For protocols and services, as one of the streams that they are served over.
impl CustomStream for Pipe {
    fn finish(&mut self) -> io::Result<()> {
        self.shut_down()
    }

    fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        self.receive(into, false)
    }

    fn peer_address(&self) -> Option<Address> {
        Some(address_of(self.id))
    }

    fn short_read_means_empty(&self) -> bool {
        self.keeps_promises()
    }
}

/// Where the client of this stream is: each has an address of its own.
pub(crate) fn ip_of(id: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, (id >> 8) as u8, id as u8)
}

fn address_of(id: usize) -> Address {
    Address::Ip(SocketAddr::from((ip_of(id), 1024 + id as u16)))
}

impl CustomListener for Backlog {
    fn accept(&mut self) -> io::Result<(Box<dyn CustomStream>, Address)> {
        let pipe = self.take()?;
        let address = address_of(pipe.id);
        Ok((Box::new(pipe), address))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut kernel = lock(&self.kernel);
        let stream = kernel.stream(self.id);
        (stream.server_gone, stream.token) = (true, None);
        if !stream.to_server.is_empty() {
            stream.to_client.clear(); // a close with unread bytes sends a reset as well
        }
        kernel.open -= 1;
        kernel.time.fetch_add(kernel.close_takes, Ordering::Relaxed);
    }
}

impl DatagramSocket for Mailbox {
    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 9000 + self.index as u16)))
    }

    fn receive_datagram(&mut self, into: &mut [u8]) -> io::Result<(usize, Route)> {
        let mut kernel = lock(&self.kernel);
        kernel.call(Call::Receive, None)?;
        let (bounces, is_blocked) =
            (kernel.happens(|odds| odds.bounce), kernel.happens(|odds| odds.would_block));
        let post = &mut kernel.post[self.index];
        if bounces {
            return Err(ErrorKind::ConnectionRefused.into()); // ICMP: about one that was sent before
        }
        if is_blocked {
            post.edge |= !post.to_server.is_empty();
            return Err(ErrorKind::WouldBlock.into());
        }
        let (bytes, from) = post.to_server.pop_front().ok_or(ErrorKind::WouldBlock)?;
        post.received_this_turn += 1;
        into[..bytes.len()].copy_from_slice(&bytes);
        Ok((bytes.len(), from.into()))
    }

    fn send_datagram(&mut self, bytes: &[u8], route: &Route) -> io::Result<usize> {
        let mut kernel = lock(&self.kernel);
        kernel.call(Call::Send, None)?;
        if kernel.happens(|odds| odds.would_block) {
            return Err(ErrorKind::WouldBlock.into());
        }
        for _ in 0..kernel.copies() {
            kernel.post[self.index].to_clients.push_back((bytes.to_vec(), route.peer));
        }
        Ok(bytes.len())
    }
}

impl event::Source for Pipe {
    fn register(&mut self, _: &Registry, token: Token, _: Interest) -> io::Result<()> {
        let mut kernel = lock(&self.kernel);
        kernel.call(Call::Register, Some(self.id))?;
        let stream = kernel.stream(self.id);
        stream.token = Some(token);
        // What is so at the registration is reported, too.
        stream.raise(Readiness::WRITABLE);
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.register(registry, token, interest)
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        lock(&self.kernel).stream(self.id).token = None;
        Ok(())
    }
}

impl event::Source for Backlog {
    fn register(&mut self, _: &Registry, token: Token, _: Interest) -> io::Result<()> {
        let mut kernel = lock(&self.kernel);
        let door = &mut kernel.doors[self.index];
        door.token = Some(token);
        door.edge = !door.backlog.is_empty();
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        lock(&self.kernel).call(Call::Reregister, None)?;
        self.register(registry, token, interest)
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        let mut kernel = lock(&self.kernel);
        kernel.doors[self.index].token = None;
        kernel.call(Call::Deregister, None)
    }
}

impl event::Source for Mailbox {
    fn register(&mut self, _: &Registry, token: Token, _: Interest) -> io::Result<()> {
        let mut kernel = lock(&self.kernel);
        let post = &mut kernel.post[self.index];
        post.token = Some(token);
        post.edge = !post.to_server.is_empty();
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.register(registry, token, interest)
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        lock(&self.kernel).post[self.index].token = None;
        Ok(())
    }
}
