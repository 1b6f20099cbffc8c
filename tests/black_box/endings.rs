//! Endings from outside: a service that could send for ever comes to an end with its peer, and with the server.
#![cfg(all(feature = "cli", feature = "web"))]

use std::time::Duration;

use crate::support::*;
use nix::sys::signal::Signal;

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// `source` while its peer, whose buffers are full, says this: then the peer reads on.
#[track_caller]
fn source_ends(url: &str, first: &str, last: &[u8]) {
    let server = Server::start(&["serve", "source", "--message-bytes-max", "8KiB", "--listen", url]);
    let mut alice = Client::prepared(server.url(), small_buffers);
    alice.say(first);
    alice.hear_exactly(1000);
    server.at_rest(); // its outbox is full, and so is everything behind it
    alice.say(last);
    alice.hear_until_the_end();

    let mut bob = server.call();
    bob.say(first);
    bob.hear_exactly(1000);
    drop((alice, bob));
    assert!(server.stop().code == Some(0));
}

#[test]
fn source_does_not_hang_when_its_peer_breaks_the_rules_while_the_outbox_is_full() {
    source_ends("tcp+lines://127.0.0.1:0", "", &[b'y'; 9000]);
    source_ends("tcp+prefixed://127.0.0.1:0", "", &[0xff; 4]);
    source_ends("ws://127.0.0.1:0", UPGRADE, b"\x81\x01a");
}

#[test]
fn source_does_not_hang_when_its_peer_closes_while_the_outbox_is_full() {
    source_ends("ws://127.0.0.1:0", UPGRADE, b"\x88\x82\0\0\0\0\x03\xe8");
}

#[test]
fn sigterm_ends_source_with_a_whole_line_while_its_peer_reads() {
    for (url, first) in
        [("tcp://127.0.0.1:0", ""), ("tcp+lines://127.0.0.1:0", ""), ("http://127.0.0.1:0", GET)]
    {
        let server = Server::start(&["serve", "source", "--listen", url]);
        let mut alice = server.call();
        alice.say(first);
        alice.hear_exactly(1000);
        server.signal(Signal::SIGTERM);
        let rest = alice.hear_until_the_end();
        let end = if first.is_empty() { &b"\n"[..] } else { b"\n\r\n0\r\n\r\n" };
        assert!(rest.ends_with(end), "{url}: {:?}", String::from_utf8_lossy(&rest[rest.len() - 40..]));
        drop(alice);
        assert!(server.wait().code == Some(0));
    }
}

#[test]
fn sigterm_ends_a_download_within_drain_for_while_its_client_reads() {
    let directory = Directory::new();
    let file = std::fs::File::create(directory.path("large")).expect("a file");
    file.set_len(1 << 40).expect("a sparse one"); // nobody reads it to its end
    let root = directory.path("");
    let server = Server::start(&[
        "serve",
        "web",
        "--drain-for",
        "500ms",
        "--listen",
        "http://127.0.0.1:0",
        "--root",
        root.to_str().expect("text"),
    ]);
    let mut alice = server.call();
    alice.say("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
    alice.hear_exactly(1000);
    server.signal(Signal::SIGTERM);
    let reader = std::thread::spawn(move || while alice.hear_some() > 0 {});
    assert!(server.wait().code == Some(0));
    reader.join().expect("it hears the end");
}

#[test]
fn at_a_stop_half_a_line_before_the_clients_end_of_file_is_answered() {
    let server = Server::start(&["serve", "echo", "--listen", "tcp+lines://127.0.0.1:0"]);
    let mut alice = server.call();
    alice.echo("hello\n");
    server.pause();
    alice.say("a whole line\nand half a one");
    alice.half_close();
    server.signal(Signal::SIGTERM);
    server.go_on();
    alice.hear("a whole line\nand half a one\n");
    alice.hear_end();
    assert!(server.wait().code == Some(0));
}

#[test]
fn at_a_stop_what_lies_in_the_socket_behind_a_full_outbox_is_answered() {
    let directory = Directory::new();
    let url = directory.url("unix", "socket");
    let server = Server::start(&["serve", "echo", "--listen", &url, "--drain-for", "60s"]);
    let said = pattern(3, 8 * MIB);
    let (mut alice, taken) = stuck_client(&server, server.url(), &said);
    let read = server.summary().of("bytes in") as usize;
    assert!(read < taken, "the kernel holds more for the server");
    server.signal(Signal::SIGTERM);
    let heard = alice.hear_until_the_end();
    assert!(heard.len() > read && said.starts_with(&heard), "{} bytes of {read} read before", heard.len());
    drop(alice);
    assert!(server.wait().code == Some(0));
}

#[test]
fn after_a_pause_nobody_who_has_spoken_meanwhile_is_closed_for_silence() {
    const PAUSE: Duration = Duration::from_millis(1500);
    let server = Server::start(&["serve", "echo", "--listen", TCP, "--idle-after", "1s"]);
    let mut clients: Vec<Client> = (0..100).map(|_| server.call()).collect();
    for client in &mut clients {
        client.echo("here");
    }
    server.pause();
    // On a machine that is too busy, some were closed for their silence before: they say nothing about the pause.
    std::thread::sleep(PAUSE); // longer than they may be silent
    let mut here = Vec::new();
    for mut client in clients {
        if !client.hears_something_within(Duration::from_millis(1)) {
            client.say("and still here");
            here.push(client);
        }
    }
    server.go_on();
    for mut client in here {
        client.hear("and still here");
    }
}
