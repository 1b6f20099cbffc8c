//! What is fuzzed inside the library, one function for each parser: given any bytes, it panics where a promise is broken.
//!
//! The promise that they have in common: however the network cuts a stream, the messages and the mistake that ends them are
//! the same. So the first four bytes of an input say how the others are cut, and the outcome is compared with that of the
//! same bytes in one piece.
//!
//! Two drivers call these functions: `main.rs` beside this one (in the plain test command) and cargo-fuzz (`target.rs`).

use std::fmt::Debug;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use switchboard::endpoint::Endpoint;
use switchboard::guard;
use switchboard::protocol::http::{self, CONTINUE};
use switchboard::protocol::proxy;
use switchboard::protocol::websocket::{self, WebSocket};
use switchboard::protocol::{Framing, Message, Protocol, Step, Violation, Web};
use switchboard::service::chat::{self, Chat};
use switchboard::service::echo::Echo;
use switchboard::service::relay::{self, Relay};
use switchboard::service::source::Source;
use switchboard::transport::tls::{SelfSigned, ServerTls};
use switchboard::{Server, Service};

/// A function that is fuzzed, and the name that it has for cargo-fuzz.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: &[Target] = &[
    ("http", http),
    ("websocket", websocket),
    ("lines", lines),
    ("prefixed", prefixed),
    ("proxy_header", proxy_header),
    ("pem", pem),
    ("addresses", addresses),
    ("endpoint", endpoint),
    ("services", services),
];

/// Messages are kept small, so that inputs reach the limits soon.
const MESSAGE_BYTES_MAX: usize = 300;

/// The stream of an input, in its pieces and as one.
fn cut(input: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let (cuts, stream) = input.split_first_chunk::<4>()?;
    let (mut pieces, mut rest, mut lengths) = (Vec::new(), stream, cuts.iter().cycle());
    while !rest.is_empty() {
        let length = lengths.next().map_or(1, |length| usize::from(*length) + 1);
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    Some((pieces, stream))
}

/// What a decoder makes of pieces, as the exchange would: bytes wait until they are consumed.
fn same_at_every_cut<O: PartialEq + Debug>(input: &[u8], outcome: impl Fn(&[&[u8]]) -> O) {
    let Some((pieces, stream)) = cut(input) else { return };
    assert_eq!(outcome(&pieces), outcome(&[stream]), "in pieces (left), and as a whole");
}

fn lines(input: &[u8]) {
    same_at_every_cut(input, |pieces| decode(Framing::Lines, pieces));
}

fn prefixed(input: &[u8]) {
    same_at_every_cut(input, |pieces| decode(Framing::Prefixed, pieces));
}

/// The messages, and the mistake that ends them.
fn decode(framing: Framing, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<Violation>) {
    let Protocol::Plain(mut plain) = Protocol::new(framing, MESSAGE_BYTES_MAX) else {
        unreachable!("only plain protocols are decoded here");
    };
    let (mut waiting, mut messages) = (Vec::new(), Vec::new());
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            match plain.decode(&waiting) {
                Ok(Step::Message { message, consumed }) => {
                    assert!((1..=waiting.len()).contains(&consumed));
                    assert!(message.bytes().len() <= MESSAGE_BYTES_MAX);
                    messages.push(message.bytes().to_vec());
                    waiting.drain(..consumed);
                }
                Ok(Step::NeedMore) => break,
                Err(violation) => return (messages, Some(violation)),
            }
        }
        assert!(waiting.len() <= Protocol::inbox_bytes_max(framing, MESSAGE_BYTES_MAX));
    }
    match plain.decode_end(&waiting) {
        Ok(message) => messages.extend(message.map(|message| message.bytes().to_vec())),
        Err(violation) => return (messages, Some(violation)),
    }
    (messages, None)
}

fn http(input: &[u8]) {
    same_at_every_cut(input, requests);
}

/// One request: its method, target and body.
type Asked = (String, String, Vec<u8>);

/// The requests, the mistake that ends them, and what was answered.
fn requests(pieces: &[&[u8]]) -> (Vec<Asked>, Option<Violation>, Vec<u8>) {
    let mut protocol = Protocol::new(Framing::Http, MESSAGE_BYTES_MAX);
    let (mut waiting, mut asked, mut said, mut goes_on) = (Vec::new(), Vec::new(), Vec::new(), true);
    let mut mistake = None;
    for piece in pieces {
        waiting.extend_from_slice(piece);
        while goes_on {
            let Protocol::Web(web) = &mut protocol else { unreachable!("it speaks HTTP") };
            let Web::Http(http) = &mut **web else { unreachable!("it is never upgraded here") };
            let (mut fields, mut body) = (http::fields(), Vec::new());
            match http.decode(&waiting, &[b'd'; 29], &mut fields, &mut body) {
                Ok(http::Step::Request { request, consumed }) => {
                    assert!((1..=waiting.len()).contains(&consumed));
                    assert!(request.body.len() <= MESSAGE_BYTES_MAX);
                    assert!(http.is_owed());
                    let _ = (request.path(), request.query(), request.lists("Accept", "a"));
                    asked.push((request.method.into(), request.target.into(), request.body.into()));
                    let progress = http.answer_message(Message::Binary(request.body), &mut said);
                    goes_on = progress == http::Progress::Done;
                    waiting.drain(..consumed);
                }
                // Whether a client is told to go on depends on what has come by then.
                Ok(http::Step::Continue) => assert!(!CONTINUE.is_empty()),
                Ok(http::Step::NeedMore) => break,
                Err(violation) => {
                    protocol.encode_violation(violation, &mut said);
                    (mistake, goes_on) = (Some(violation), false);
                }
            }
        }
        assert!(!goes_on || waiting.len() <= Protocol::inbox_bytes_max(Framing::Http, MESSAGE_BYTES_MAX));
    }
    if goes_on {
        mistake = protocol.decode_end(&waiting).err();
    }
    (asked, mistake, said)
}

fn websocket(input: &[u8]) {
    same_at_every_cut(input, frames);
}

#[derive(Debug, PartialEq)]
enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Closed,
    /// With this close code. (Of two mistakes in one head, either may be named.)
    Broken(u16),
}

/// What came of the frames, and what was said about them: pongs, in order.
fn frames(pieces: &[&[u8]]) -> (Vec<Heard>, Vec<u8>) {
    let mut socket = WebSocket::new(MESSAGE_BYTES_MAX as u32);
    let (mut waiting, mut heard, mut room, mut said) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let consumed = match socket.decode(&waiting, &mut room, &mut said) {
                Ok(websocket::Step::Message { message, consumed }) => {
                    assert!(message.bytes().len() <= MESSAGE_BYTES_MAX);
                    heard.push(match message {
                        Message::Text(text) => Heard::Text(text.into()),
                        Message::Binary(bytes) => Heard::Binary(bytes.into()),
                    });
                    consumed
                }
                Ok(websocket::Step::Frame(consumed)) => consumed,
                Ok(websocket::Step::NeedMore) => break,
                Ok(websocket::Step::Closed) => {
                    heard.push(Heard::Closed);
                    assert!(socket.is_closed());
                    return (heard, said);
                }
                Err(Violation::WebSocket { code, .. }) => {
                    heard.push(Heard::Broken(code));
                    return (heard, said);
                }
                Err(violation) => panic!("{violation:?} has no close code"),
            };
            assert!((1..=waiting.len()).contains(&consumed));
            waiting.drain(..consumed);
        }
        assert!(waiting.len() <= MESSAGE_BYTES_MAX + 14);
    }
    (heard, said)
}

/// A header is judged by all bytes so far: as soon as that is possible, and the same ever after.
fn proxy_header(input: &[u8]) {
    let mut judged = None;
    for end in 0..=input.len().min(5000) {
        let step = proxy::decode(&input[..end]);
        if let Ok(proxy::Step::Header { consumed, .. }) = step {
            assert!(consumed <= end && consumed <= proxy::HEADER_BYTES_MAX);
        }
        match &judged {
            None if step == Ok(proxy::Step::NeedMore) => assert!(end < proxy::HEADER_BYTES_MAX),
            None => judged = Some(step),
            Some(judged) => assert_eq!(step, *judged, "at {end}"),
        }
    }
}

/// A file of certificates and one of a key: refused in one line, or read.
fn pem(input: &[u8]) {
    thread_local! {
        static FILES: Papers = Papers::new();
    }
    FILES.with(|files| {
        for (cert, key) in [(&files.fuzzed, &files.key), (&files.cert, &files.fuzzed)] {
            fs::write(&files.fuzzed, input).expect("the directory is ours");
            if let Err(problem) = ServerTls::from_files(cert, key, Some(cert)) {
                assert!(!problem.is_empty() && !problem.contains('\n'), "{problem:?}");
            }
        }
    });
}

struct Papers {
    fuzzed: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

impl Papers {
    fn new() -> Papers {
        let directory = std::env::temp_dir().join(format!("switchboard-pem-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("it is ours");
        let path = |name: &str| directory.join(name);
        let made = SelfSigned::new(vec!["localhost".into()]).expect("it can be made");
        fs::write(path("cert.pem"), made.pem()).expect("the directory is ours");
        fs::write(path("key.pem"), KEY).expect("the directory is ours");
        Papers { fuzzed: path("fuzzed.pem"), cert: path("cert.pem"), key: path("key.pem") }
    }
}

/// It is that of the certificate in `main.rs`, and secret no more.
pub(crate) const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg1gCq6CTjnsKra5Aa\n\
    dW3tZnSvU1wvkDKLBgyvjJFjqVShRANCAAQp4IlUetd3cnCw95aZFfCwjDIh++q/\n\
    oNrGbVIObi5F0i3wYDq01mGZJDgL/S9tHtPzTE1Hb/2+uaOVr370kzdl\n\
    -----END PRIVATE KEY-----\n";

/// A list of networks: what it is understood as, can be written down again.
fn addresses(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match guard::networks(text) {
        Ok(networks) => {
            let written: String = networks.iter().map(|network| format!("{network}\n")).collect();
            assert_eq!(guard::networks(&written), Ok(networks));
        }
        Err((line, problem)) => {
            assert!((1..=text.lines().count()).contains(&line), "line {line}");
            assert!(!problem.is_empty());
        }
    }
}

/// A URL: shown, it means the same. Hosts are numbers here, or names would be looked up.
fn endpoint(input: &[u8]) {
    let Ok(url) = std::str::from_utf8(input) else { return };
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_number =
        host.parse::<Ipv4Addr>().is_ok() || bracketed.is_some_and(|it| it.parse::<Ipv6Addr>().is_ok());
    if !url.starts_with("unix") && !is_number {
        return;
    }
    match url.parse::<Endpoint>() {
        Ok(endpoint) => {
            let shown = endpoint.to_string();
            assert!(!shown.contains(char::is_control), "{shown:?}");
            if let Some(address) = endpoint.address() {
                let again: Endpoint = shown.parse().unwrap_or_else(|problem| panic!("{shown}: {problem}"));
                assert_eq!(
                    (again.address(), again.framing()),
                    (Some(address), endpoint.framing()),
                    "{shown}"
                );
            }
        }
        Err(problem) => assert!(!problem.to_string().is_empty()),
    }
}

/// Whole services, in this process, over a real socket: what chat and relay speak has no parser of its own to be called.
fn services(input: &[u8]) {
    let Some((which, input)) = input.split_first() else { return };
    let Some((pieces, _)) = cut(input) else { return };
    match which % 8 {
        0 => serve(Chat::new(chat::Rules::default()), "unix+lines", b"", &pieces),
        1 => serve(Chat::new(chat::Rules::default()), "unix+ws", UPGRADE, &pieces),
        2 => serve(Relay::new(relay::Rules::default()), "unix+ws", UPGRADE, &pieces),
        3 => serve(Echo, "unix+ws", b"", &pieces),
        4 => serve(Echo, "unix+http", b"", &pieces),
        5 => serve(Source::default(), "unix+http", b"", &pieces),
        6 => serve(Source::default(), "unix+prefixed", b"", &pieces),
        _ => serve(Source::default(), "unix+ws", UPGRADE, &pieces),
    }
}

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// One client from its connect to its end: every turn returns, and nothing of it is left.
fn serve(service: impl Service, scheme: &str, begin: &[u8], pieces: &[&[u8]]) {
    /// Far more than a client of that little needs.
    const TURNS_MAX: usize = 10_000;
    let path = std::env::temp_dir().join(format!("switchboard-parsers-{}", std::process::id()));
    let server = Server::new(service).message_bytes_max(MESSAGE_BYTES_MAX).announce(false);
    let url = format!("{scheme}:{}", path.display());
    let mut reactor = server.listen(&url).and_then(Server::into_reactor).expect("the directory is ours");
    let mut client = UnixStream::connect(&path).expect("somebody listens");
    client.set_nonblocking(true).expect("it is ours");
    let mut room = [0; 16 * 1024];
    for piece in [&[begin], pieces].concat() {
        // What the server does not take, since it has ended or is not read from, is not sent.
        let _ = client.write(piece);
        reactor.turn(Some(Duration::ZERO)).expect("the poll works");
        let _ = client.read(&mut room);
    }
    let _ = client.shutdown(std::net::Shutdown::Write);
    for turn in 0.. {
        assert!(turn < TURNS_MAX, "the connection does not end");
        reactor.turn(Some(Duration::from_millis(1))).expect("the poll works");
        // `source` has no end but the client's.
        match client.read(&mut room) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(count) if count > 0 && turn < 20 => {}
            _ => break,
        }
    }
    drop(client);
    for turn in 0.. {
        if reactor.board().connections() == 0 {
            return;
        }
        assert!(turn < TURNS_MAX, "the connection is still there");
        reactor.turn(Some(Duration::from_millis(1))).expect("the poll works");
    }
}
