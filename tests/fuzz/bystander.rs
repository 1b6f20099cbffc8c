//! Polite clients at the calm places, and what must be true of the server whatever the others do.
//!
//! A bystander asks for one thing and must get it. It is given [`ENOUGH`] time for that: the question is whether the
//! server hangs, and not how fast it is, so a busy machine fails nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::{ClientConfig, StreamOwned};

use crate::crowd::connection;
use crate::dice::Dice;
use crate::grammar::{Inside, Piece, Speech, frame};
use crate::settings::{PLACES, Place, is_tls};
use crate::support::{Server, address, until};

/// How long anything may take.
pub(crate) const ENOUGH: Duration = Duration::from_secs(30);

/// Some threads that visit the calm places, one after the other, until they are told to stop.
pub(crate) struct Bystanders {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<usize>>,
}

impl Bystanders {
    pub(crate) fn begin(urls: &[String], tls: &Arc<ClientConfig>) -> Bystanders {
        const THREADS: usize = 4;
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..THREADS).map(|first| {
            let (told, urls, tls) = (Arc::clone(&stop), urls.to_vec(), Arc::clone(tls));
            thread::spawn(move || {
                let mut visits = 0;
                while !told.load(Ordering::Relaxed) {
                    let number = first + visits * THREADS;
                    // Each goes a step further in each round, so that it comes to all of them.
                    let index = (number + number / PLACES.len()) % PLACES.len();
                    visit(&PLACES[index], &urls[index], &tls, number);
                    visits += 1;
                }
                visits
            })
        });
        let threads = threads.collect();
        Bystanders { stop, threads }
    }

    /// Whether one of them was not served.
    pub(crate) fn have_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// How many there were. Panics where one was not served, with what it asked for.
    pub(crate) fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let visits: Vec<_> = self.threads.into_iter().map(JoinHandle::join).collect();
        visits.into_iter().map(|visits| visits.unwrap_or_else(|_| panic!("a bystander was not served"))).sum()
    }
}

/// What is said at a calm place, and what must be in the answer.
fn dialogue(place: &Place, number: usize) -> (Vec<u8>, Vec<u8>) {
    let word = format!("polite{number}.");
    let line = |text: &str| format!("{text}\n").into_bytes();
    let prefixed = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
    let mut dice = Dice::new(0, number as u64);
    let mut framed = |opcode: u8, messages: &[&[u8]]| {
        let mut pieces: Vec<Piece> = vec![
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n".to_vec(),
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".to_vec(),
        ];
        messages.iter().for_each(|message| frame(0x80 | opcode, message, &mut dice, &mut pieces));
        pieces.concat()
    };
    let request = |method: &str| format!("{method} / HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    let get = || [&request("GET")[..], b"\r\n"].concat();
    match (place.service, place.speech) {
        ("echo", Speech::Http) => {
            let head = format!("Content-Length: {}\r\n\r\n", word.len()).into_bytes();
            ([request("POST"), head, word.clone().into()].concat(), [b"\r\n\r\n", word.as_bytes()].concat())
        }
        ("echo", Speech::Lines) => (line(&word), line(&word)),
        ("echo", Speech::Prefixed) => (prefixed(&word), prefixed(&word)),
        ("echo", Speech::WebSocket(_)) => {
            let heard = [&[0x82, word.len() as u8], word.as_bytes()].concat();
            (framed(2, &[word.as_bytes()]), heard)
        }
        ("echo", _) => (word.clone().into(), word.into()),
        ("reply", Speech::Prefixed) => (prefixed(&word), prefixed("Hello from switchboard!")),
        // An answer is no larger than its question.
        ("reply", _) => (word.repeat(3).into(), b"Hello from switchboard!".to_vec()),
        ("discard", Speech::WebSocket(_)) => (framed(9, &[b"ping"]), b"\x8a\x04ping".to_vec()),
        ("source", Speech::Http) => (get(), b"\n000000000000255\n".to_vec()),
        ("source", Speech::WebSocket(_)) => (framed(1, &[]), b"\n000000000000255\n".to_vec()),
        ("source", _) => (Vec::new(), b"\n000000000000255\n".to_vec()),
        ("chat", Speech::WebSocket(Inside::Chat)) => {
            let join = format!(r#"{{"type":"join","room":"polite{}"}}"#, number % 10);
            let say = format!(r#"{{"type":"say","text":"{word}"}}"#);
            (framed(1, &[join.as_bytes(), say.as_bytes()]), format!("\"text\":\"{word}\"").into())
        }
        ("chat", _) => (line(&format!("/nick p{number}")), line(&format!(" is now p{number}"))),
        ("relay", Speech::WebSocket(_)) => (framed(2, &[&relays_hello()]), b"SB\x01\x02".to_vec()),
        ("relay", _) => (relays_hello(), b"SB\x01\x02".to_vec()),
        ("web", _) => (get(), b"<p>the index</p>\n".to_vec()),
        _ => (word.into(), Vec::new()), // it is discarded
    }
}

fn relays_hello() -> Vec<u8> {
    [&b"SB\x01\x01"[..], &[0; 20]].concat()
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn visit(place: &Place, url: &str, tls: &Arc<ClientConfig>, number: usize) {
    let (said, expected) = dialogue(place, number);
    let (begun, mut heard) = (Instant::now(), Vec::new());
    let outcome = match place.scheme {
        "udp" => ask_by_datagrams(url, &said, &expected, &mut heard),
        _ => connect(place, url, tls).and_then(|mut line| {
            line.write_all(&said)?;
            hear(&mut *line, &expected, &mut heard)
        }),
    };
    if let Err(error) = outcome {
        let heard = heard[..heard.len().min(500)].escape_ascii();
        panic!(
            "a polite client of {} at {url} was not served: {error} after {:?}.\n  it said \"{}\"\n  \
             and waited for \"{}\",\n  but heard \"{heard}\"",
            place.service,
            begun.elapsed(),
            said.escape_ascii(),
            expected.escape_ascii(),
        );
    }
}

fn connect(place: &Place, url: &str, tls: &Arc<ClientConfig>) -> io::Result<Box<dyn ReadWrite>> {
    if place.scheme.starts_with("unix") {
        let socket = UnixStream::connect(url.split_once(':').expect("a scheme").1)?;
        socket.set_read_timeout(Some(ENOUGH))?;
        socket.set_write_timeout(Some(ENOUGH))?;
        return Ok(Box::new(socket));
    }
    let mut socket = TcpStream::connect_timeout(&address(url), ENOUGH)?;
    socket.set_read_timeout(Some(ENOUGH))?;
    socket.set_write_timeout(Some(ENOUGH))?;
    if place.proxied {
        socket.write_all(b"PROXY TCP4 192.0.2.200 198.51.100.1 4711 443\r\n")?;
    }
    Ok(match is_tls(place) {
        true => Box::new(StreamOwned::new(connection(tls), socket)),
        false => Box::new(socket),
    })
}

/// Hears what is expected, among other things perhaps. In a stream without end it does not look far.
fn hear(line: &mut dyn ReadWrite, expected: &[u8], heard: &mut Vec<u8>) -> io::Result<()> {
    const FAR: usize = 4 * 1024 * 1024;
    let mut room = [0; 16 * 1024];
    while !expected.is_empty() && !heard.windows(expected.len()).any(|it| it == expected) {
        match line.read(&mut room)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => heard.extend_from_slice(&room[..count]),
        }
        if heard.len() > FAR {
            return Err(io::Error::other("it is not there"));
        }
    }
    Ok(())
}

/// A datagram may be lost: it is sent again and again.
fn ask_by_datagrams(url: &str, said: &[u8], expected: &[u8], heard: &mut Vec<u8>) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address(url))?;
    socket.set_read_timeout(Some(Duration::from_millis(300)))?;
    let deadline = Instant::now() + ENOUGH;
    let mut room = [0; 2048];
    while Instant::now() < deadline {
        socket.send(said)?;
        if let Ok(count) = socket.recv(&mut room) {
            *heard = room[..count].to_vec();
            match heard.starts_with(expected) {
                true => return Ok(()),
                false => return Err(io::Error::other("that is something else")),
            }
        }
    }
    Err(ErrorKind::TimedOut.into())
}

/// How many connections a server has, by its own count, without ours that asks; `None` where it does not say.
pub(crate) fn connections(url: &str) -> Option<usize> {
    let mut socket = TcpStream::connect_timeout(&address(url), ENOUGH).ok()?;
    socket.set_read_timeout(Some(ENOUGH)).ok()?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    let counts =
        text.lines().filter_map(|line| line.strip_prefix("switchboard_connections{")?.rsplit_once(' '));
    let sum: usize = counts.map(|(_, count)| count.parse::<usize>().expect("a number")).sum();
    sum.checked_sub(1)
}

/// Without clients it comes to rest: what it has begun, such as to read its settings, ends; a spin does not.
pub(crate) fn it_rests(server: &Server) {
    until("it to rest without clients", || (share(server) < 0.5).then_some(()));
}

/// How much of a core it keeps busy.
pub(crate) fn share(server: &Server) -> f64 {
    let (time, cpu) = (Instant::now(), server.cpu());
    thread::sleep(Duration::from_millis(300)); // it is measured meanwhile
    (server.cpu() - cpu).as_secs_f64() / time.elapsed().as_secs_f64()
}
