//! Many clients at once, each with its script, on sockets that never block.
//!
//! A conversation is its number: [`Crowd::seat`] throws everything about it from the seed and that number alone, so the
//! same seed sends the same bytes (but for what TLS itself makes up), whatever the machine's load does to their order in time.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, send};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::dice::Dice;
use crate::grammar::{self, TOKEN};
use crate::mutate::{self, Act, Reading, Script};
use crate::settings::{PLACES, is_tls};
use crate::support::address;
use crate::support::tls::Authority;

/// Of the conversations that began last, a failure shows this many.
const REMEMBERED: u64 = 20;

/// Messages of the longest conversations.
const MESSAGES_MAX: usize = 200;

/// The clients of one server.
pub(crate) struct Crowd {
    seed: u64,
    /// Where it listens: the calm places, and then the wild ones.
    urls: Vec<String>,
    tls: Arc<ClientConfig>,
    there: Vec<Conversation>,
    /// The number of the next one.
    next: u64,
}

/// What a conversation will be.
struct Plan {
    /// Where in `urls`.
    at: usize,
    /// Inside TLS; what comes before that, in the clear.
    secured: Option<Vec<u8>>,
    script: Script,
}

impl Crowd {
    pub(crate) fn new(seed: u64, urls: &[String], tls: &Arc<ClientConfig>) -> Crowd {
        Crowd { seed, urls: urls.to_vec(), tls: Arc::clone(tls), there: Vec::new(), next: 0 }
    }

    pub(crate) fn size(&self) -> usize {
        self.there.len()
    }

    /// How many conversations have begun.
    pub(crate) fn begun(&self) -> u64 {
        self.next
    }

    /// Begins the next conversation.
    pub(crate) fn seat(&mut self) {
        let plan = self.plan(self.next);
        self.next += 1;
        // Where the kernel can't connect us at once, the backlog is full, or the place is gone.
        if let Ok(line) = Line::open(&self.urls[plan.at], &plan, &self.tls) {
            self.there.push(Conversation::new(line, plan.script));
        }
    }

    fn plan(&self, number: u64) -> Plan {
        let mut dice = Dice::new(self.seed, number);
        let at = dice.below(self.urls.len());
        let place = &PLACES[at % PLACES.len()];
        // Some speak here what is spoken elsewhere.
        let speech = if dice.one_in(20) { dice.pick(PLACES).speech } else { place.speech };
        let mut pieces = grammar::conversation(speech, MESSAGES_MAX, &mut dice);
        let header = (place.proxied != dice.one_in(20)).then(|| grammar::proxy_header(&mut dice));
        let secured = (is_tls(place) && !dice.one_in(4)).then(|| header.clone().unwrap_or_default());
        if secured.is_none() {
            // A hello, and what follows is no TLS: neither is this, perhaps, when it has been mutated.
            let hello = is_tls(place).then(|| hello(&self.tls));
            pieces.splice(0..0, header.into_iter().chain(hello));
        }
        mutate::mutate(&mut pieces, &mut dice);
        Plan { at, secured, script: mutate::perform(&pieces, &mut dice) }
    }

    /// The conversations that began last, for who wants to repeat them by hand.
    pub(crate) fn last(&self) -> impl Iterator<Item = String> + '_ {
        (self.next.saturating_sub(REMEMBERED)..self.next).map(|number| {
            let plan = self.plan(number);
            format!("conversation {number} with {}: {}", self.urls[plan.at], Shown(&plan.script))
        })
    }

    /// Takes each conversation as far as it goes without waiting; whether any got further.
    pub(crate) fn step(&mut self) -> bool {
        let (now, before) = (Instant::now(), self.there.len());
        let mut moved = false;
        self.there.retain_mut(|conversation| match conversation.step(now) {
            Ok(further) => {
                moved |= further;
                true
            }
            Err(_) => false,
        });
        moved || self.there.len() < before
    }

    /// All end at once, half of them by a reset.
    pub(crate) fn scatter(&mut self) {
        for (index, conversation) in self.there.drain(..).enumerate() {
            if index % 2 == 0 {
                let _ = conversation.line.reset();
            }
        }
    }
}

/// What clients believe.
pub(crate) fn believing(authority: &Authority) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let pem = authority.pem();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("our own")).expect("it is an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        builder.expect("the provider speaks them").with_root_certificates(roots).with_no_client_auth();
    Arc::new(config)
}

pub(crate) fn connection(config: &Arc<ClientConfig>) -> ClientConnection {
    let name: ServerName<'static> = "localhost".try_into().expect("a name");
    let mut connection = ClientConnection::new(Arc::clone(config), name).expect("the name is right");
    connection.set_buffer_limit(None);
    connection
}

fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = connection(config).write_tls(&mut bytes);
    bytes
}

/// A transport, from the client's side.
enum Line {
    Plain(Socket),
    Secured(Socket, Box<ClientConnection>),
    /// With the token that the relay has given us.
    Datagrams(Socket, [u8; 8]),
}

impl Line {
    fn open(url: &str, plan: &Plan, tls: &Arc<ClientConfig>) -> io::Result<Line> {
        let script = &plan.script;
        let unix = url.split_once(':').filter(|(scheme, _)| scheme.starts_with("unix"));
        let there: SockAddr = match unix {
            Some((_, path)) => SockAddr::unix(path)?,
            None => address(url).into(),
        };
        let is_datagrams = url.starts_with("udp");
        let kind = if is_datagrams { Type::DGRAM } else { Type::STREAM };
        let socket = Socket::new(Domain::from(i32::from(there.family())), kind, None)?;
        if script.small_buffers {
            socket.set_recv_buffer_size(2048)?;
            socket.set_send_buffer_size(2048)?;
        }
        if unix.is_none() {
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, script.address), 0)).into())?;
        }
        socket.set_nonblocking(true)?;
        match socket.connect(&there) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        Ok(match &plan.secured {
            None if is_datagrams => Line::Datagrams(socket, [0; 8]),
            None => Line::Plain(socket),
            Some(header) => {
                let _ = socket.send(header); // a socket just made has room
                Line::Secured(socket, Box::new(connection(tls)))
            }
        })
    }

    fn socket(&self) -> &Socket {
        match self {
            Line::Plain(socket) | Line::Secured(socket, _) | Line::Datagrams(socket, _) => socket,
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Plain(socket) => socket.read(into),
            Line::Datagrams(socket, token) => {
                let count = socket.read(into)?;
                if into[..count].starts_with(b"SB\x01\x02") && count == 24 {
                    token.copy_from_slice(&into[TOKEN]);
                }
                Ok(count.max(1)) // an empty datagram is no end
            }
            Line::Secured(socket, connection) => {
                if connection.read_tls(socket)? == 0 {
                    return Ok(0);
                }
                let outcome = connection.process_new_packets();
                outcome.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                match connection.reader().read(into) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(1), // a handshake's record
                    outcome => outcome,
                }
            }
        }
    }

    /// Says as much as goes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Line::Plain(socket) => socket.write(bytes),
            Line::Datagrams(socket, token) => {
                let mut message = bytes[..bytes.len().min(60_000)].to_vec();
                if message.starts_with(b"SB\x01") && message.len() == 24 {
                    message[TOKEN].copy_from_slice(token);
                }
                let _ = socket.send(&message); // nobody listens, or it is too long: it is lost, as datagrams are
                Ok(bytes.len())
            }
            Line::Secured(_, connection) => {
                let count = connection.writer().write(bytes)?;
                self.flush()?;
                Ok(count)
            }
        }
    }

    /// What TLS has made and not yet written.
    fn flush(&mut self) -> io::Result<()> {
        if let Line::Secured(socket, connection) = self {
            while connection.wants_write() {
                connection.write_tls(socket)?;
            }
        }
        Ok(())
    }

    fn half_close(&mut self) -> io::Result<()> {
        if let Line::Secured(_, connection) = self {
            connection.send_close_notify();
            let _ = self.flush();
        }
        self.socket().shutdown(Shutdown::Write)
    }

    fn reset(&self) -> io::Result<()> {
        match self {
            Line::Datagrams(..) => Ok(()),
            _ => self.socket().set_linger(Some(Duration::ZERO)),
        }
    }
}

struct Conversation {
    line: Line,
    acts: VecDeque<Act>,
    reading: Reading,
    /// Nothing is done before; nothing is read before, where it reads slowly.
    acts_at: Instant,
    reads_at: Instant,
    /// It ends by then, wherever it is in its script.
    ends_at: Instant,
}

/// Between two reads of who reads slowly.
const SLOW: Duration = Duration::from_millis(5);
/// The longest conversation.
const LONGEST: Duration = Duration::from_secs(3);

impl Conversation {
    fn new(line: Line, script: Script) -> Conversation {
        let now = Instant::now();
        let acts = script.acts.into();
        Conversation {
            line,
            acts,
            reading: script.reading,
            acts_at: now,
            reads_at: now,
            ends_at: now + LONGEST,
        }
    }

    /// Whether it got further; an error where it is over.
    fn step(&mut self, now: Instant) -> io::Result<bool> {
        if now >= self.ends_at {
            return Err(ErrorKind::TimedOut.into());
        }
        let heard = self.hear(now)?;
        if now < self.acts_at || unless_it_waits(self.line.flush())?.is_none() {
            return Ok(heard);
        }
        match self.acts.pop_front() {
            None => return Err(ErrorKind::UnexpectedEof.into()),
            Some(Act::Say(bytes)) => {
                let count = unless_it_waits(self.line.write(&bytes))?;
                let rest = &bytes[count.unwrap_or(0)..];
                if !rest.is_empty() {
                    self.acts.push_front(Act::Say(rest.to_vec()));
                }
                return Ok(count.is_some() || heard);
            }
            Some(Act::Shout(byte)) => {
                let _ = send(self.line.socket().as_raw_fd(), &[byte], MsgFlags::MSG_OOB);
            }
            Some(Act::Wait(time) | Act::Stay(time)) => self.acts_at = now + time,
            Some(Act::HalfClose) => self.line.half_close()?,
            Some(Act::Reset) => {
                self.line.reset()?;
                return Err(ErrorKind::ConnectionReset.into());
            }
        }
        Ok(true)
    }

    /// Reads as it likes to. The server's end is not ours: it may still be told something.
    fn hear(&mut self, now: Instant) -> io::Result<bool> {
        let mut room = [0; 16 * 1024];
        let most = match self.reading {
            Reading::AsItComes => room.len(),
            Reading::Slowly(count) if now >= self.reads_at => count,
            _ => return Ok(false),
        };
        self.reads_at = now + SLOW;
        Ok(match unless_it_waits(self.line.read(&mut room[..most]))? {
            Some(0) => {
                self.reading = Reading::Never;
                true
            }
            count => count.is_some(),
        })
    }
}

/// `None` for what would block.
fn unless_it_waits<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(it) => Ok(Some(it)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => Ok(None),
        // A datagram that nobody took: the next one may be taken.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error),
    }
}

/// A script on a few lines.
struct Shown<'a>(&'a Script);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Script { acts, reading, small_buffers, address } = self.0;
        write!(f, "from 127.0.0.{address}, reads {reading:?}, small buffers: {small_buffers}")?;
        for act in acts.iter().take(12) {
            match act {
                Act::Say(bytes) => {
                    let beginning = bytes[..bytes.len().min(120)].escape_ascii();
                    write!(f, "\n    says {} bytes: \"{beginning}\"", bytes.len())?;
                }
                act => write!(f, "\n    {act:?}")?,
            }
        }
        Ok(())
    }
}
