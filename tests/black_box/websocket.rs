//! WebSocket from outside: the handshake, messages, and every way in which a conversation ends.
#![cfg(all(feature = "cli", feature = "web"))]

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::*;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

const WS: &str = "ws://127.0.0.1:0";

/// The handshake of a client by hand.
fn shake_hands(client: &mut Client, fields: &str) -> http::Answer {
    client.say(format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    ));
    client.hear_answer("GET")
}

/// A client who has shaken hands, and speaks in frames by hand.
fn call(server: &Server) -> Client {
    let mut client = server.call();
    let answer = shake_hands(&mut client, "");
    assert_eq!(answer.status, 101);
    client
}

/// A masked frame, of a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let head = match payload.len() {
        len @ 0..126 => vec![first, 0x80 | len as u8],
        len => vec![first, 0x80 | 126, (len >> 8) as u8, len as u8],
    };
    [&head[..], &[0; 4], payload].concat()
}

/// A close frame of the server with this code, and then the end.
#[track_caller]
fn hear_close(client: &mut Client, code: u16) {
    let rest = client.hear_until_the_end();
    assert_eq!((rest[0], &rest[2..4]), (0x88, &code.to_be_bytes()[..]), "{rest:?}");
    assert_eq!(rest.len(), 2 + rest[1] as usize, "nothing comes behind a close");
}

/// Somebody else's client.
fn tungstenite(server: &Server) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.address(0)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let (socket, _) = tungstenite::client(server.url(), stream).expect("they shake hands");
    socket
}

#[test]
fn messages_come_back_with_their_type() {
    let server = Server::start(&["serve", "echo", "--listen", WS, "--message-bytes-max", "1MiB"]);
    let mut socket = tungstenite(&server);
    for message in [
        Message::text("grüß dich"),
        Message::binary(vec![0xff, 0, 1]),
        Message::text(""),
        Message::text("x".repeat(70_000)),
        Message::binary(pattern(1, MIB)),
    ] {
        socket.send(message.clone()).expect("it takes it");
        assert!(socket.read().expect("an answer") == message, "{} bytes come back otherwise", message.len());
    }
    socket.send(Message::Ping("are you there?".into())).expect("it takes it");
    assert_eq!(socket.read().expect("an answer"), Message::Pong("are you there?".into()));
    let close = CloseFrame { code: CloseCode::Library(4321), reason: "enough".into() };
    socket.close(Some(close)).expect("it takes it");
    let answer = socket.read().expect("an answer");
    let Message::Close(Some(answer)) = answer else { panic!("{answer:?}") };
    assert_eq!(answer.code, CloseCode::Library(4321));
    assert_eq!(server.stop().summary().of("violation"), 0);
}

#[test]
fn the_handshake_is_answered_and_the_first_frame_may_come_along() {
    let server = Server::start(&["serve", "echo", "--listen", WS]);
    let mut client = server.call();
    let hand = "GET /any?path HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
    client.say([hand.as_bytes(), &frame(0x81, b"hello")].concat());
    let answer = client.hear_answer("GET");
    assert_eq!(answer.status, 101);
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!((answer.field("upgrade"), answer.field("connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!(answer.field("sec-websocket-extensions"), None, "what is not spoken is not agreed to");
    assert_eq!(answer.field("sec-websocket-protocol"), None);
    client.hear([&[0x81, 5][..], b"hello"].concat());
}

#[test]
fn who_asks_for_something_else_is_told_what_is_served() {
    let server = Server::start(&["serve", "echo", "--listen", WS, "--origin", "https://friend.example"]);
    let answer = server.call().get("/");
    assert_eq!((answer.status, answer.field("upgrade")), (426, Some("websocket")));
    assert_eq!(answer.field("sec-websocket-version"), Some("13"));
    for (origin, status) in [
        ("https://friend.example", 101),
        ("http://localhost", 101),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        let answer = shake_hands(&mut server.call(), &format!("Origin: {origin}\r\n"));
        assert_eq!(answer.status, status, "{origin}");
    }
    // A refusal is an answer as any other: the connection goes on.
    let mut client = server.call();
    assert_eq!(shake_hands(&mut client, "Origin: null\r\n").status, 403);
    assert_eq!(shake_hands(&mut client, "").status, 101);
}

#[test]
fn a_peer_who_breaks_the_protocol_is_told_and_costs_nobody_else() {
    let server = Server::start(&["serve", "echo", "--listen", WS]);
    let mut bystander = tungstenite(&server);
    let gibibyte = [&[0x82, 0xff][..], &[0, 0, 0, 0, 0x40, 0, 0, 0], &[0; 4]].concat();
    let fragments: Vec<u8> = (0..2000).flat_map(|at| frame(u8::from(at == 0), b"")).collect();
    let cases = [
        (vec![0x81, 2, b'h', b'i'], 1002),
        (frame(0xc1, b"hi"), 1002),
        (frame(0x83, b""), 1002),
        (frame(0x80, b""), 1002),
        (frame(0x09, b""), 1002),
        (frame(0x81, b"\xff"), 1007),
        (gibibyte, 1009),
        (fragments, 1008),
        (frame(0x88, &[3]), 1002),
        (frame(0x88, &1005u16.to_be_bytes()), 1002),
        (frame(0x88, &1000u16.to_be_bytes()), 1000),
    ];
    let refused = cases.iter().filter(|(_, code)| *code != 1000).count() as u64;
    for (bytes, code) in cases {
        let mut client = call(&server);
        client.say(&bytes);
        hear_close(&mut client, code);
        bystander.send(Message::text("hello")).expect("it takes it");
        assert_eq!(bystander.read().expect("an answer"), Message::text("hello"));
    }
    drop(bystander);
    assert_eq!(server.stop().summary().of("violation"), refused);
}

#[test]
fn who_is_silent_is_asked_and_who_does_not_answer_is_closed() {
    let server = Server::start(&["serve", "echo", "--listen", WS, "--idle-after", "300ms"]);
    let begun = Instant::now();
    let (mut dead, mut alive) = (call(&server), call(&server));
    for _ in 0..4 {
        alive.hear([0x89, 0]);
        alive.say(frame(0x8a, b""));
    }
    assert!(begun.elapsed() >= Duration::from_millis(1200));
    dead.hear([0x89, 0]);
    dead.hear_it_break();
    alive.say(frame(0x81, b"still here"));
    while alive.hear_exactly(1)[0] == 0x89 {
        alive.hear([0]);
        alive.say(frame(0x8a, b""));
    }
    alive.hear([&[10][..], b"still here"].concat());
    server.summary_until("one is idle", |summary| summary.of("idle") == 1);
}

#[test]
fn an_http_listener_has_both() {
    let server = Server::start(&["serve", "echo", "--listen", "http://127.0.0.1:0"]);
    let mut client = server.call();
    assert_eq!(client.post("/", b"by request").text(), "by request");
    let answer = shake_hands(&mut client, "Origin: https://evil.example\r\n");
    assert_eq!(answer.status, 403);
    assert_eq!(shake_hands(&mut client, "Origin: http://localhost\r\n").status, 101);
    client.say(frame(0x82, b"by message"));
    client.hear([&[0x82, 10][..], b"by message"].concat());

    let source = Server::start(&["serve", "source", "--listen", "http://127.0.0.1:0"]);
    let mut socket = source.call();
    assert_eq!(shake_hands(&mut socket, "").status, 101);
    socket.hear([0x81, 126]);

    // The service of files takes none: the request is one for a file.
    let directory = Directory::new();
    std::fs::write(directory.path("index.html"), "a file").expect("it is ours");
    let root = directory.path("");
    let root = root.to_str().expect("it is text");
    let web = Server::start(&["serve", "web", "--root", root, "--listen", "http://127.0.0.1:0"]);
    let answer = shake_hands(&mut web.call(), "");
    assert_eq!((answer.status, answer.text()), (200, "a file"));
}

#[test]
fn a_stop_closes_with_going_away() {
    let server = Server::start(&["serve", "echo", "--listen", WS]);
    let (mut client, mut by_hand) = (tungstenite(&server), call(&server));
    by_hand.say(frame(0x81, b"before"));
    by_hand.hear([&[0x81, 6][..], b"before"].concat());
    server.signal(Signal::SIGTERM);
    let Message::Close(Some(close)) = client.read().expect("it is told") else { panic!("no close") };
    assert_eq!(close.code, CloseCode::Away);
    hear_close(&mut by_hand, 1001);
    drop((client, by_hand));
    assert_eq!(server.wait().code, Some(0));
}

/// `source` ends the conversation itself, when its outbox has drained.
#[test]
fn a_stop_closes_with_going_away_also_where_the_service_sends_without_end() {
    let server = Server::start(&["serve", "source", "--listen", WS]);
    let mut client = tungstenite(&server);
    client.read().expect("there is no end");
    server.signal(Signal::SIGTERM);
    let code = loop {
        if let Message::Close(close) = client.read().expect("it is told") {
            break close.map(|close| close.code);
        }
    };
    assert_eq!(code, Some(CloseCode::Away));
    drop(client);
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn a_stop_does_not_send_everybody_away_at_once() {
    const CLIENTS: usize = 300;
    need_descriptors(CLIENTS as u64 + 100);
    let server = Server::start(&["serve", "echo", "--listen", WS]);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| call(&server)).collect();
    // They are served until it is their turn: what had come is answered in any case.
    server.pause();
    for client in &mut clients {
        client.say(frame(0x81, b"before"));
    }
    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    server.go_on();
    for client in &mut clients {
        client.hear([&[0x81, 6][..], b"before"].concat());
    }
    for client in &mut clients {
        hear_close(client, 1001);
    }
    // Ten in each hundredth of a second; timers are never early.
    assert!(begun.elapsed() >= Duration::from_millis(290), "after {:?}", begun.elapsed());
    drop(clients);
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn a_service_that_speaks_first_waits_for_the_handshake() {
    let server = Server::start(&["serve", "source", "--listen", WS]);
    let mut socket = tungstenite(&server);
    let mut lines = 0;
    for _ in 0..100 {
        let Message::Text(text) = socket.read().expect("there is no end") else { panic!("it is text") };
        for line in text.lines() {
            assert_eq!(line.parse(), Ok(lines));
            lines += 1;
        }
    }
    let mut plain = server.call();
    assert_eq!(plain.get("/").status, 426);
}
