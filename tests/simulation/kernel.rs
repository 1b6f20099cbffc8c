//! The kernel of the simulated world: streams between clients and the loop, a listener, and a poll.
//!
//! It keeps what a kernel promises and nothing more. Bytes arrive in order, in any pieces. Every change that a poll
//! would report is reported: sooner or later, once or merged with others, in any order, and sometimes without cause.
//! What it may refuse, it refuses at random: `Odds` say how often.
//!
//! Invariant: an edge is pending while a registered stream has something that its last would-block denied.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use mio::{Interest, Registry, Token, event};
use switchboard::reactor::{Readiness, Transport};

use crate::dice::Dice;

/// How likely things go otherwise than a program hopes: in a thousand. Each world draws its own.
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
    /// connect, shutdown and the like fail.
    pub(crate) finish_fails: usize,
}

/// What all streams share.
pub(crate) struct Kernel {
    pub(crate) dice: Dice,
    pub(crate) odds: Odds,
    /// Bytes that one direction of a stream holds.
    window: usize,
    /// A short read has emptied the socket, as epoll(7) promises: so the loop need not look again.
    promises: bool,
    streams: Vec<Rc<RefCell<Stream>>>,
    backlog: VecDeque<Rc<RefCell<Stream>>>,
    listener: Option<Token>,
    listener_edge: bool,
    /// Server ends that are open: our descriptors.
    pub(crate) open: usize,
}

pub(crate) type Shared = Rc<RefCell<Kernel>>;

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
    /// Events that the handshake still takes; `None`: it has none.
    handshake: Option<u32>,
}

impl Kernel {
    pub(crate) fn new(dice: Dice, odds: Odds, window: usize, promises: bool) -> Shared {
        Rc::new(RefCell::new(Kernel {
            dice,
            odds,
            window,
            promises,
            streams: Vec::new(),
            backlog: VecDeque::new(),
            listener: None,
            listener_edge: false,
            open: 0,
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

    /// What the poll reports now. In a calm world: all that is pending.
    pub(crate) fn events(&mut self) -> Vec<(Token, Readiness)> {
        let mut events = Vec::new();
        self.streams.retain(|stream| !(stream.borrow().server_gone && stream.borrow().client_gone));
        for index in 0..self.streams.len() {
            let stream = Rc::clone(&self.streams[index]);
            let mut stream = stream.borrow_mut();
            let Some(token) = stream.token else { continue };
            if self.happens(|odds| odds.spurious) {
                events.push((token, Readiness::READABLE));
            }
            if stream.edge != Readiness::default() && !self.happens(|odds| odds.late) {
                let mut readiness = std::mem::take(&mut stream.edge);
                if stream.client_finished {
                    // Whatever the cause: epoll(7) reports all that is so when it reports (EPOLLIN | EPOLLRDHUP).
                    readiness = readiness.and(Readiness::READABLE).and(Readiness::EXCEPTIONAL);
                }
                events.push((token, readiness));
            }
        }
        if let Some(token) = self.listener
            && self.listener_edge
            && !self.happens(|odds| odds.late)
        {
            self.listener_edge = false;
            events.push((token, Readiness::READABLE));
        }
        for index in (1..events.len()).rev() {
            events.swap(index, self.dice.below(index + 1));
        }
        events
    }

    /// In the backlog.
    pub(crate) fn somebody_waits(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether an event is still to be reported.
    pub(crate) fn is_pending(&self) -> bool {
        let of_stream = |stream: &Rc<RefCell<Stream>>| {
            let stream = stream.borrow();
            stream.token.is_some() && stream.edge != Readiness::default()
        };
        (self.listener.is_some() && self.listener_edge) || self.streams.iter().any(of_stream)
    }
}

/// A listening socket. It has no state of its own.
pub(crate) struct Backlog(pub(crate) Shared);

/// The server's end of a stream.
pub(crate) struct Pipe {
    stream: Rc<RefCell<Stream>>,
    kernel: Shared,
}

/// The client's end.
pub(crate) struct Client {
    stream: Rc<RefCell<Stream>>,
    kernel: Shared,
}

/// Connects: the server finds it in its backlog.
pub(crate) fn connect(kernel: &Shared, handshake: bool) -> Client {
    let stream = Rc::new(RefCell::new(Stream::default()));
    let mut inside = kernel.borrow_mut();
    stream.borrow_mut().handshake = handshake.then(|| inside.dice.below(4) as u32);
    inside.streams.push(Rc::clone(&stream));
    inside.backlog.push_back(Rc::clone(&stream));
    inside.listener_edge = true;
    Client { stream, kernel: Rc::clone(kernel) }
}

impl Client {
    /// Says as many of these bytes as the window takes; returns how many.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> usize {
        let (mut stream, kernel) = (self.stream.borrow_mut(), self.kernel.borrow());
        if stream.reset || stream.server_gone || stream.client_finished {
            return 0;
        }
        let count = bytes.len().min(kernel.window.saturating_sub(stream.to_server.len()));
        stream.to_server.extend(&bytes[..count]);
        if count > 0 {
            stream.edge = stream.edge.and(Readiness::READABLE);
        }
        count
    }

    /// Reads at most so many bytes.
    pub(crate) fn hear(&mut self, most: usize) -> Vec<u8> {
        let mut stream = self.stream.borrow_mut();
        let count = most.min(stream.to_client.len());
        let heard: Vec<u8> = stream.to_client.drain(..count).collect();
        if !heard.is_empty() && !stream.server_gone {
            stream.edge = stream.edge.and(Readiness::WRITABLE);
        }
        heard
    }

    /// Says that nothing more comes.
    pub(crate) fn finish(&mut self) {
        let mut stream = self.stream.borrow_mut();
        if !stream.client_finished && !stream.reset {
            stream.client_finished = true;
            stream.edge = stream.edge.and(Readiness::READABLE).and(Readiness::EXCEPTIONAL);
        }
    }

    /// Goes without a word: what is on its way is lost on both sides.
    pub(crate) fn reset(&mut self) {
        let mut stream = self.stream.borrow_mut();
        stream.reset = true;
        stream.client_gone = true;
        stream.to_server.clear();
        stream.to_client.clear();
        stream.edge = Readiness::READABLE.and(Readiness::WRITABLE).and(Readiness::EXCEPTIONAL);
    }

    /// For a message.
    pub(crate) fn shown(&self) -> String {
        let stream = self.stream.borrow();
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

    /// The server has said its last byte, and we have read it.
    pub(crate) fn is_at_the_end(&self) -> bool {
        let stream = self.stream.borrow();
        stream.to_client.is_empty() && (stream.server_finished || stream.server_gone)
    }

    /// The server let go without having read all: its kernel would have answered with a reset.
    pub(crate) fn was_cut(&self) -> bool {
        let stream = self.stream.borrow();
        stream.server_gone
            && (!stream.to_server.is_empty() || !stream.server_finished && !stream.client_finished)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.finish();
        self.stream.borrow_mut().client_gone = true;
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (mut stream, mut kernel) = (self.stream.borrow_mut(), self.kernel.borrow_mut());
        if stream.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if kernel.happens(|odds| odds.would_block) {
            if !stream.to_server.is_empty() || stream.client_finished {
                stream.edge = stream.edge.and(Readiness::READABLE);
            }
            return Err(ErrorKind::WouldBlock.into());
        }
        if stream.to_server.is_empty() {
            return if stream.client_finished { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let mut count = into.len().min(stream.to_server.len());
        if kernel.happens(|odds| odds.short_read) {
            count = 1 + kernel.dice.below(count);
        }
        for (place, byte) in into.iter_mut().zip(stream.to_server.drain(..count)) {
            *place = byte;
        }
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (mut stream, mut kernel) = (self.stream.borrow_mut(), self.kernel.borrow_mut());
        assert!(!stream.server_finished, "a write behind our own end of file");
        assert!(!bytes.is_empty(), "a write of nothing");
        if stream.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut count = bytes.len().min(kernel.window.saturating_sub(stream.to_client.len()));
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into()); // the client's next read raises the edge
        }
        if kernel.happens(|odds| odds.would_block) {
            stream.edge = stream.edge.and(Readiness::WRITABLE);
            return Err(ErrorKind::WouldBlock.into());
        }
        if kernel.happens(|odds| odds.short_write) {
            // epoll reports room again, unless the window is full: then the client's read does.
            count = 1 + kernel.dice.below(count);
            stream.edge = stream.edge.and(Readiness::WRITABLE);
        }
        if !stream.client_gone {
            stream.to_client.extend(&bytes[..count]);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport for Pipe {
    type Listener = Backlog;
    type Datagrams = mio::net::UdpSocket;
    type Address = ();
    type Introduction = ();

    fn accept(Backlog(kernel): &mut Backlog) -> io::Result<(Pipe, ())> {
        let mut inside = kernel.borrow_mut();
        if inside.backlog.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        if inside.happens(|odds| odds.accept_fails) {
            const EMFILE: i32 = 24;
            const ENFILE: i32 = 23;
            return Err(match inside.dice.below(3) {
                0 => io::Error::from_raw_os_error(EMFILE),
                1 => io::Error::from_raw_os_error(ENFILE),
                _ => {
                    let gone = inside.backlog.pop_front().expect("it is not empty");
                    gone.borrow_mut().server_gone = true;
                    ErrorKind::ConnectionAborted.into()
                }
            });
        }
        let stream = inside.backlog.pop_front().expect("it is not empty");
        inside.open += 1;
        Ok((Pipe { stream, kernel: Rc::clone(kernel) }, ()))
    }

    fn establish(&mut self) -> io::Result<()> {
        let (mut stream, mut kernel) = (self.stream.borrow_mut(), self.kernel.borrow_mut());
        match stream.handshake {
            Some(left) if left > 0 || kernel.happens(|odds| odds.handshake) => {
                stream.handshake = Some(left.saturating_sub(1));
                stream.edge = stream.edge.and(Readiness::READABLE);
                Err(ErrorKind::WouldBlock.into())
            }
            _ if stream.reset => Err(ErrorKind::ConnectionReset.into()),
            Some(_) => {
                // As in TLS: it has read on, into the first message, and what it holds raises no event.
                stream.edge = Readiness::WRITABLE;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn has_handshake(&self) -> bool {
        self.stream.borrow().handshake.is_some()
    }

    fn finish(&mut self, _last: bool) -> io::Result<()> {
        let (mut stream, mut kernel) = (self.stream.borrow_mut(), self.kernel.borrow_mut());
        if stream.reset || kernel.happens(|odds| odds.finish_fails) {
            return Err(ErrorKind::NotConnected.into());
        }
        assert!(!stream.server_finished, "a second end of file");
        stream.server_finished = true;
        Ok(())
    }

    fn short_read_means_empty(&self) -> bool {
        self.kernel.borrow().promises
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut stream = self.stream.borrow_mut();
        (stream.server_gone, stream.token) = (true, None);
        self.kernel.borrow_mut().open -= 1;
    }
}

impl event::Source for Pipe {
    fn register(&mut self, _: &Registry, token: Token, _: Interest) -> io::Result<()> {
        let mut stream = self.stream.borrow_mut();
        stream.token = Some(token);
        // What is so at the registration is reported, too.
        stream.edge = stream.edge.and(Readiness::WRITABLE);
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.register(registry, token, interest)
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        self.stream.borrow_mut().token = None;
        Ok(())
    }
}

impl event::Source for Backlog {
    fn register(&mut self, _: &Registry, token: Token, _: Interest) -> io::Result<()> {
        let mut kernel = self.0.borrow_mut();
        kernel.listener = Some(token);
        kernel.listener_edge = !kernel.backlog.is_empty();
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.register(registry, token, interest)
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        self.0.borrow_mut().listener = None;
        Ok(())
    }
}
