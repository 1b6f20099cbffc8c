//! Servers that do one thing wrong, so that a test can see whether the load generator notices just that.
//!
//! Each is an echo of messages of [`SIZE`] bytes, with one [`Habit`]; the habit's arm in `answer` is all
//! there is to it. They run on plain threads in the test's own process: one accepts, one more talks on
//! each connection. They are slow and simple on purpose, and know nothing of what is measured.
//!
//! Invariant: when a [`Crooked`] is dropped its sockets are closed and its threads have ended.

#![allow(dead_code)] // each test file uses its part of the habits

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;

/// Bytes of a message, and of its reply.
pub(crate) const SIZE: usize = 64;

/// How often threads that wait for a socket look whether all is over.
const LOOK_AROUND_MS: u8 = 10;

type Message = [u8; SIZE];

/// What is wrong with a server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Habit {
    /// Nothing.
    Honest,
    /// Once, so long after its first message, it answers nobody for a time. What comes meanwhile waits.
    StallsOnce { after: Duration, lasting: Duration },
    /// From this message on, it answers nobody for a time.
    StandsStill { from: u64, lasting: Duration },
    /// Turns one bit of one byte of a reply.
    FlipsAByte { when: When, at: usize },
    /// Leaves a reply out.
    Drops(When),
    /// Sends a reply twice.
    Duplicates(When),
    /// Holds a reply back until the connection's next one has gone.
    Swaps(When),
    /// Sends each byte on its own.
    ByteByByte,
    /// Every tenth reply takes long, as if it came from a disk and the others from memory.
    SlowOneInTen { fast: Duration, slow: Duration },
    /// Each message takes so long, and only one is worked on at a time.
    OneAfterTheOther(Duration),
    /// Each reply comes so long after its message, however many others do.
    Later(Duration),
    /// Sends half of a reply, and closes the connection.
    EndsWithin(When),
    /// Instead of a reply the connection is reset.
    Resets(When),
    /// So long after its first message, the listener and all connections are closed.
    Dies(Duration),
    /// Takes everything, and never says a word.
    Mute,
}

/// Which replies a habit concerns. They are counted from 1, those of all connections together.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    /// This one.
    Reply(u64),
    /// The first one so long after the first message.
    After(Duration),
    /// Each whose number this divides.
    Every(u64),
}

/// A server with a habit, on a free port.
pub(crate) struct Crooked {
    url: String,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

/// What its threads share.
struct Shared {
    habit: Habit,
    /// When the first message came.
    begun: OnceLock<Instant>,
    accepted: AtomicU64,
    /// When each message came, since the first.
    arrivals: Mutex<Vec<Duration>>,
    /// Whether `When::After` had its one reply.
    struck: AtomicBool,
    /// Until when nobody is answered, since the first message.
    still_until: Mutex<Duration>,
    /// How often the habit showed.
    faults: AtomicU64,
    /// Held by the thread that works, where only one may.
    workbench: Mutex<()>,
    over: Mutex<bool>,
    over_now: Condvar,
    /// Of the connections that stand: each is closed by its own thread, and this is how it is woken.
    streams: Mutex<Vec<Weak<TcpStream>>>,
    talkers: Mutex<Vec<JoinHandle<()>>>,
}

impl Crooked {
    /// Over TCP.
    pub(crate) fn tcp(habit: Habit) -> Crooked {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("the socket is ours");
        let url = format!("tcp://{}", listener.local_addr().expect("it is bound"));
        Crooked::start(url, habit, move |shared| accept(&listener, shared))
    }

    /// Over UDP: the habits that concern single replies.
    pub(crate) fn udp(habit: Habit) -> Crooked {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        SockRef::from(&socket).set_recv_buffer_size(1024 * 1024).expect("the socket is ours");
        let look_around = Duration::from_millis(LOOK_AROUND_MS.into());
        socket.set_read_timeout(Some(look_around)).expect("not zero");
        let url = format!("udp://{}", socket.local_addr().expect("it is bound"));
        Crooked::start(url, habit, move |shared| answer_datagrams(&socket, shared))
    }

    fn start(url: String, habit: Habit, run: impl FnOnce(&Arc<Shared>) + Send + 'static) -> Crooked {
        let shared = Arc::new(Shared {
            habit,
            begun: OnceLock::new(),
            accepted: AtomicU64::new(0),
            arrivals: Mutex::default(),
            struck: AtomicBool::new(false),
            still_until: Mutex::default(),
            faults: AtomicU64::new(0),
            workbench: Mutex::default(),
            over: Mutex::default(),
            over_now: Condvar::new(),
            streams: Mutex::default(),
            talkers: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        Crooked { url, shared, listener: Some(thread::spawn(move || run(&theirs))) }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How many connections it has accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// How many messages have come.
    pub(crate) fn messages(&self) -> u64 {
        self.arrivals().len() as u64
    }

    /// When the messages came, counted from the first.
    pub(crate) fn arrivals(&self) -> Vec<Duration> {
        self.shared.arrivals.lock().expect("nobody panics with it").clone()
    }

    /// How often it has done what it should not.
    pub(crate) fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::Relaxed)
    }
}

impl Drop for Crooked {
    fn drop(&mut self) {
        self.shared.end();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        self.shared.hang_up();
        let talkers = std::mem::take(&mut *self.shared.talkers.lock().expect("nobody panics with it"));
        for talker in talkers {
            let _ = talker.join();
        }
    }
}

impl Shared {
    /// Counts a message, and says which one it is.
    fn note_message(&self) -> u64 {
        let since = self.begun.get_or_init(Instant::now).elapsed();
        let mut arrivals = self.arrivals.lock().expect("nobody panics with it");
        arrivals.push(since);
        arrivals.len() as u64
    }

    fn age(&self) -> Duration {
        self.begun.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Whether it is time to go wrong.
    fn strikes(&self, when: When, number: u64) -> bool {
        let now = match when {
            When::Reply(wanted) => number == wanted,
            When::Every(count) => number.is_multiple_of(count),
            When::After(time) => self.age() >= time && !self.struck.swap(true, Ordering::Relaxed),
        };
        if now {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        now
    }

    /// Sleeps, but not longer than the server lives.
    fn rest(&self, time: Duration) {
        let over = self.over.lock().expect("nobody panics with it");
        let _ = self.over_now.wait_timeout_while(over, time, |over| !*over).expect("nobody panics with it");
    }

    fn is_over(&self) -> bool {
        *self.over.lock().expect("nobody panics with it")
    }

    fn end(&self) {
        *self.over.lock().expect("nobody panics with it") = true;
        self.over_now.notify_all();
    }

    /// Shuts all connections; their threads notice, and close them.
    fn hang_up(&self) {
        for stream in self.streams.lock().expect("nobody panics with it").drain(..) {
            if let Some(stream) = stream.upgrade() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.is_over() {
        if let Habit::Dies(after) = shared.habit
            && shared.age() >= after
        {
            shared.faults.fetch_add(1, Ordering::Relaxed);
            shared.hang_up();
            return; // the listener is dropped with the closure that holds it
        }
        let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut waiting, PollTimeout::from(LOOK_AROUND_MS));
        while let Ok((stream, _)) = listener.accept() {
            shared.accepted.fetch_add(1, Ordering::Relaxed);
            let stream = Arc::new(stream);
            shared.streams.lock().expect("nobody panics with it").push(Arc::downgrade(&stream));
            let theirs = Arc::clone(shared);
            let talker = thread::spawn(move || {
                // However it ended: that is the client's to judge.
                let _ = Conversation::new(stream, theirs).and_then(Conversation::run);
            });
            shared.talkers.lock().expect("nobody panics with it").push(talker);
        }
    }
}

/// One connection, as its thread sees it.
struct Conversation {
    stream: Arc<TcpStream>,
    shared: Arc<Shared>,
    /// A reply that lets the next one pass.
    held: Option<Message>,
    /// Where replies go that are not yet due.
    later: Option<Sender<(Instant, Message)>>,
}

impl Conversation {
    fn new(stream: Arc<TcpStream>, shared: Arc<Shared>) -> io::Result<Conversation> {
        stream.set_nonblocking(false)?; // some systems pass that on from the listener
        stream.set_nodelay(true)?;
        let later = match shared.habit {
            Habit::Later(_) => {
                let (sender, receiver) = mpsc::channel();
                let (to, theirs) = (Arc::clone(&stream), Arc::clone(&shared));
                let talker = thread::spawn(move || send_when_due(&to, &theirs, &receiver));
                shared.talkers.lock().expect("nobody panics with it").push(talker);
                Some(sender)
            }
            _ => None,
        };
        Ok(Conversation { stream, shared, held: None, later })
    }

    fn run(mut self) -> io::Result<()> {
        let mut message = [0; SIZE];
        loop {
            (&*self.stream).read_exact(&mut message)?;
            let number = self.shared.note_message();
            if !self.answer(number, message)? {
                return Ok(());
            }
        }
    }

    /// Does what the habit says; `false` ends the connection.
    fn answer(&mut self, number: u64, mut message: Message) -> io::Result<bool> {
        let shared = Arc::clone(&self.shared);
        let strikes = |when| shared.strikes(when, number);
        match shared.habit {
            Habit::Honest | Habit::Dies(_) => self.send(&message)?,
            Habit::Mute => {}
            Habit::StallsOnce { after, lasting } => {
                let (age, end) = (shared.age(), after + lasting);
                if age >= after && age < end {
                    shared.rest(end - age);
                }
                self.send(&message)?;
            }
            Habit::StandsStill { from, lasting } => {
                if number == from {
                    *shared.still_until.lock().expect("nobody panics with it") = shared.age() + lasting;
                }
                let until = *shared.still_until.lock().expect("nobody panics with it");
                shared.rest(until.saturating_sub(shared.age()));
                self.send(&message)?;
            }
            Habit::FlipsAByte { when, at } => {
                if strikes(when) {
                    message[at] ^= 1;
                }
                self.send(&message)?;
            }
            Habit::Drops(when) => {
                if !strikes(when) {
                    self.send(&message)?;
                }
            }
            Habit::Duplicates(when) => {
                if strikes(when) {
                    self.send(&message)?;
                }
                self.send(&message)?;
            }
            Habit::Swaps(when) => {
                if self.held.is_none() && strikes(when) {
                    self.held = Some(message);
                } else {
                    self.send(&message)?;
                    if let Some(held) = self.held.take() {
                        self.send(&held)?;
                    }
                }
            }
            Habit::ByteByByte => {
                for byte in message {
                    self.send(&[byte])?;
                    thread::sleep(Duration::from_micros(10)); // the reader is faster than that
                }
            }
            Habit::SlowOneInTen { fast, slow } => {
                shared.rest(if strikes(When::Every(10)) { slow } else { fast });
                self.send(&message)?;
            }
            Habit::OneAfterTheOther(time) => {
                let workbench = shared.workbench.lock().expect("nobody panics with it");
                shared.rest(time);
                drop(workbench);
                self.send(&message)?;
            }
            Habit::Later(time) => {
                let later = self.later.as_ref().expect("this habit has one");
                let _ = later.send((Instant::now() + time, message));
            }
            Habit::EndsWithin(when) => {
                if strikes(when) {
                    self.send(&message[..SIZE / 2])?;
                    return Ok(false);
                }
                self.send(&message)?;
            }
            Habit::Resets(when) => {
                if strikes(when) {
                    SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO))?;
                    return Ok(false);
                }
                self.send(&message)?;
            }
        }
        Ok(true)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream).write_all(bytes)
    }
}

fn send_when_due(mut stream: &TcpStream, shared: &Shared, replies: &Receiver<(Instant, Message)>) {
    for (due, reply) in replies {
        shared.rest(due.saturating_duration_since(Instant::now()));
        if stream.write_all(&reply).is_err() {
            return;
        }
    }
}

fn answer_datagrams(socket: &UdpSocket, shared: &Arc<Shared>) {
    let mut buffer = [0; 64 * 1024];
    let mut held: Option<(Vec<u8>, SocketAddr)> = None;
    while !shared.is_over() {
        let (count, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => continue, // an ICMP error of somebody who has gone
        };
        let datagram = &buffer[..count];
        let send = |bytes: &[u8]| drop(socket.send_to(bytes, from));
        let number = shared.note_message();
        let strikes = |when| shared.strikes(when, number);
        match shared.habit {
            Habit::Honest => send(datagram),
            Habit::Mute => {}
            Habit::Drops(when) => {
                if !strikes(when) {
                    send(datagram);
                }
            }
            Habit::Duplicates(when) => {
                if strikes(when) {
                    send(datagram);
                }
                send(datagram);
            }
            Habit::Swaps(when) => {
                if held.is_none() && strikes(when) {
                    held = Some((datagram.to_vec(), from));
                } else {
                    send(datagram);
                    if let Some((late, _)) = held.take_if(|(_, whose)| *whose == from) {
                        send(&late);
                    }
                }
            }
            other => panic!("{other:?} is for connections"),
        }
    }
}
