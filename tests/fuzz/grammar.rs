//! What a client that makes no mistakes sends, in each protocol, as a list of pieces.
//!
//! A piece is what a mutation can move, copy or drop as a whole: a line of a head, a frame's head, a chunk's size.
//! Most conversations that are sent are broken afterwards (see `mutate`), but they begin as valid ones, because a
//! parser that refuses the first byte has nothing else to show.

use crate::dice::Dice;

/// A part of a message.
pub(crate) type Piece = Vec<u8>;

/// What is spoken at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    Raw,
    Lines,
    Prefixed,
    Http,
    /// What is inside the frames is the service's affair.
    WebSocket(Inside),
    Chat,
    /// Datagrams.
    Relay,
}

/// Messages in WebSocket frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inside {
    Anything,
    Chat,
    Relay,
}

/// A conversation from the first byte to the last. A few have up to `most` messages.
pub(crate) fn conversation(speech: Speech, most: usize, dice: &mut Dice) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let messages = match dice.below(10) {
        0 => dice.between(1, most),
        _ => dice.between(1, 8),
    };
    if let Speech::WebSocket(_) = speech {
        upgrade(dice, &mut pieces);
    }
    for _ in 0..messages {
        match speech {
            Speech::Raw => pieces.push(text(dice).into_bytes()),
            Speech::Lines => line(&text(dice), dice, &mut pieces),
            Speech::Prefixed => {
                let body = some_bytes(dice);
                pieces.extend([(body.len() as u32).to_be_bytes().to_vec(), body]);
            }
            Speech::Http => request(dice, &mut pieces),
            Speech::WebSocket(inside) => frames(inside, dice, &mut pieces),
            Speech::Chat => line(&chat_line(dice), dice, &mut pieces),
            Speech::Relay => pieces.push(relay(dice)),
        }
    }
    if let Speech::WebSocket(_) = speech
        && !dice.one_in(3)
    {
        let reason = [&1000u16.to_be_bytes()[..], b"bye"].concat();
        frame(0x88, if dice.one_in(4) { b"" } else { &reason }, dice, &mut pieces);
    }
    pieces
}

/// A PROXY header, version 1 or 2.
pub(crate) fn proxy_header(dice: &mut Dice) -> Piece {
    let binary = |command: u8, family: u8, rest: &[u8]| {
        let fixed = [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &(rest.len() as u16).to_be_bytes()];
        [fixed.concat(), rest.to_vec()].concat()
    };
    match dice.below(7) {
        0 => b"PROXY UNKNOWN\r\n".to_vec(),
        1 => b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n".to_vec(),
        2 => binary(0x20, 0x00, &[]),
        3 => binary(
            0x21,
            0x11,
            &[[192, 0, 2, dice.below(9) as u8], [198, 51, 100, 1], [1, 2, 1, 187]].concat(),
        ),
        4 => binary(0x21, 0x21, &dice.bytes(36)),
        5 => binary(0x21, 0x11, &dice.bytes(12 + 200)), // extensions follow the addresses
        _ => format!("PROXY TCP4 192.0.2.{} 198.51.100.1 4711 443\r\n", dice.below(9)).into_bytes(),
    }
}

/// Of every length that somewhere is a limit, and some more.
fn length(dice: &mut Dice) -> usize {
    match dice.below(20) {
        0 => dice.pick(&[0, 125, 126, 127, 1000, 1023, 1024, 1025, 4096, 65_535, 65_536, 65_537]),
        1 => dice.between(1_000, 100_000),
        2..5 => dice.between(100, 2_000),
        _ => dice.between(0, 60),
    }
}

fn some_bytes(dice: &mut Dice) -> Vec<u8> {
    let length = length(dice);
    dice.bytes(length)
}

fn text(dice: &mut Dice) -> String {
    let length = length(dice);
    match dice.below(6) {
        0 => "grüß — हिन्दी — \u{202e}".repeat(length / 40 + 1),
        _ => dice.word(length),
    }
}

fn line(text: &str, dice: &mut Dice, pieces: &mut Vec<Piece>) {
    pieces.extend([text.into(), if dice.one_in(3) { "\r\n".into() } else { "\n".into() }]);
}

/// What the web service serves from the directory that `settings` makes, and what the others answer.
const TARGETS: &[&str] = &[
    "/",
    "/",
    "/index.html",
    "/page.txt",
    "/big.bin",
    "/big.bin",
    "/listed/",
    "/listed",
    "/missing",
    "/metrics",
    "/healthz",
    "/chat.js",
    "/%70age.txt",
    "/listed/../page.txt",
    "/listed/%2e%2e/%2e%2e/etc/passwd",
    "*",
    "/?a=b",
    "http://localhost/page.txt",
    "/listed/a%20name%ff",
    "/.hidden",
    "/empty",
    "/a//b",
    "/page.txt/",
    "/%00",
];

/// Fields that change what is answered, or how.
const FIELDS: &[&str] = &[
    "Connection: close",
    "Connection: keep-alive",
    "Range: bytes=0-9",
    "Range: bytes=-5",
    "Range: bytes=5-",
    "Range: bytes=0-0,5-9",
    "Range: bytes=99999999999999999999-",
    "If-None-Match: *",
    "If-None-Match: \"abc\", W/\"def\"",
    "If-Match: \"abc\"",
    "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
    "If-Unmodified-Since: Fri, 31 Dec 2100 23:59:59 GMT",
    "If-Range: \"abc\"",
    "Accept-Encoding: br, gzip;q=0.5, *;q=0",
    "Expect: 100-continue",
    "Expect: something",
    "Origin: http://elsewhere.example",
    "Upgrade: websocket",
    "Content-Length: 3",
    "Transfer-Encoding: chunked",
    "X-Empty:",
];

fn request(dice: &mut Dice, pieces: &mut Vec<Piece>) {
    let method =
        dice.pick(&["GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "OPTIONS", "DELETE", "CONNECT"]);
    let (target, minor) = (dice.pick(TARGETS), usize::from(!dice.one_in(8)));
    let mut put = |line: String| pieces.push((line + "\r\n").into_bytes());
    put(format!("{method} {target} HTTP/1.{minor}"));
    put("Host: localhost".into());
    for _ in 0..dice.below(4) {
        // Few of each conversation's requests are the last one.
        let field = dice.pick(FIELDS);
        if !field.ends_with("close") || dice.one_in(4) {
            put(field.into());
        }
    }
    let has_body = matches!(method, "POST" | "PUT");
    match dice.below(4) {
        _ if !has_body => pieces.push(b"\r\n".to_vec()),
        0 => {
            put("Transfer-Encoding: chunked".into());
            pieces.push(b"\r\n".to_vec());
            for _ in 0..dice.below(6) {
                let chunk = some_bytes(dice);
                let extension = if dice.one_in(5) { ";name=value" } else { "" };
                if !chunk.is_empty() {
                    let size = format!("{:x}{extension}\r\n", chunk.len()).into_bytes();
                    pieces.extend([size, chunk, b"\r\n".to_vec()]);
                }
            }
            pieces.push(b"0\r\n".to_vec());
            if dice.one_in(4) {
                pieces.push(b"Trailer: value\r\n".to_vec());
            }
            pieces.push(b"\r\n".to_vec());
        }
        _ => {
            let body = some_bytes(dice);
            put(format!("Content-Length: {}", body.len()));
            pieces.extend([b"\r\n".to_vec(), body]);
        }
    }
}

fn upgrade(dice: &mut Dice, pieces: &mut Vec<Piece>) {
    let mut lines = vec!["GET / HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket"];
    lines.extend(["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]);
    match dice.below(6) {
        0 => lines.push("Sec-WebSocket-Protocol: switchboard.chat.v1, switchboard.relay.v1"),
        1 => lines.push("Sec-WebSocket-Extensions: permessage-deflate"),
        2 => lines.push("Origin: http://localhost"),
        _ => {}
    }
    pieces.extend(lines.iter().map(|line| format!("{line}\r\n").into_bytes()));
    pieces.push(b"\r\n".to_vec());
}

/// A message in one frame or in several, with control frames between them.
fn frames(inside: Inside, dice: &mut Dice, pieces: &mut Vec<Piece>) {
    let (opcode, message) = match inside {
        Inside::Chat => (1, chat_json(dice).into_bytes()),
        Inside::Relay => (2, relay(dice)),
        Inside::Anything if dice.one_in(2) => (2, some_bytes(dice)),
        Inside::Anything => (1, text(dice).into_bytes()),
    };
    let count = if dice.one_in(3) { dice.between(2, 5) } else { 1 };
    let size = message.len() / count;
    for index in 0..count {
        let last = index + 1 == count;
        let part = if last { &message[index * size..] } else { &message[index * size..(index + 1) * size] };
        frame(if last { 0x80 } else { 0 } | if index == 0 { opcode } else { 0 }, part, dice, pieces);
        if dice.one_in(4) {
            let payload = some_bytes(dice);
            let kind = dice.pick(&[0x89, 0x89, 0x8a]); // pings and pongs
            frame(kind, &payload[..payload.len().min(125)], dice, pieces);
        }
    }
}

/// One frame as a client sends it: its head, and the masked payload.
pub(crate) fn frame(first: u8, payload: &[u8], dice: &mut Dice, pieces: &mut Vec<Piece>) {
    let mut head = vec![first];
    match payload.len() {
        length @ 0..126 => head.push(0x80 | length as u8),
        length @ 126..65_536 => head.extend([&[0x80 | 126], &(length as u16).to_be_bytes()[..]].concat()),
        length => head.extend([&[0x80 | 127], &(length as u64).to_be_bytes()[..]].concat()),
    }
    let mask = dice.bytes(4);
    let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    head.extend(mask);
    pieces.extend([head, masked]);
}

fn chat_line(dice: &mut Dice) -> String {
    let (nick, room) = (format!("n{}", dice.below(20)), format!("room{}", dice.below(50)));
    match dice.below(12) {
        0 => format!("/nick {nick}"),
        1 | 2 => format!("/join {room}"),
        3 => format!("/msg {nick} psst"),
        4 => format!("/topic {}", dice.word(20)),
        5 => dice
            .pick(&["/who", "/rooms", "/help", "/leave", "/quit", "/", "//", "/nick", "/join lobby"])
            .to_string(),
        _ => text(dice),
    }
}

fn chat_json(dice: &mut Dice) -> String {
    let (nick, room, text) = (format!("n{}", dice.below(20)), format!("room{}", dice.below(50)), text(dice));
    match dice.below(12) {
        0..4 => format!(r#"{{"type":"join","room":"{room}","nick":"{nick}"}}"#),
        4 => format!(r#"{{"type":"tell","to":"{nick}","text":"{text}"}}"#),
        5 => format!(r#"{{"type":"nick","nick":"{nick}"}}"#),
        6 => format!(r#"{{"type":"topic","text":"{text}"}}"#),
        7 => format!(r#"{{"type":"{}"}}"#, dice.pick(&["who", "rooms", "leave", "none"])),
        _ => format!(r#"{{"type":"say","text":"{text}"}}"#),
    }
}

/// Where a relay's message has its token: a client that sends it by datagram puts in the token of its welcome.
pub(crate) const TOKEN: std::ops::Range<usize> = 4..12;

fn relay(dice: &mut Dice) -> Piece {
    let kind = dice.pick(&[1, 1, 3, 3, 3, 3, 3, 5, 2, 4, 6]);
    let mut message = [&b"SB\x01"[..], &[kind], &[0; 8]].concat();
    message.extend((dice.below(1000) as u32).to_be_bytes()); // the hello's number, or the update's sequence
    message.extend(dice.bytes(4)); // where it is
    message.extend((dice.below(100) as u32).to_be_bytes()); // what it has seen
    message
}
