//! Behind a proxy: whom it brings is believed from there, required there, and judged like anybody.
#![cfg(feature = "cli")]

#[cfg(feature = "tls")]
use std::fs;

use crate::support::*;

/// Where the proxies are, and one of them.
const PROXIES: &str = "127.1.0.0/16";
const PROXY: &str = "127.1.0.1";

/// An echo server that expects proxies.
fn serve(more: &[&str]) -> Server {
    let arguments = [&["serve", "--listen", TCP, "--proxy-protocol", PROXIES], more].concat();
    Server::start(&arguments)
}

/// A client from this address of the machine's own.
fn from(ip: &str, server: &Server) -> Client {
    let own = address(&format!("tcp://{ip}:0"));
    Client::prepared(server.url(), |socket| {
        socket.bind(&own.into()).expect("loopback is a whole network");
        socket.set_tcp_nodelay(true).expect("the socket is ours");
    })
}

/// Version 1, for this client.
fn line(ip: &str) -> Vec<u8> {
    format!("PROXY TCP4 {ip} 198.51.100.1 4711 443\r\n").into()
}

/// Version 2, likewise.
fn binary(ip: &str) -> Vec<u8> {
    let ip: std::net::Ipv4Addr = ip.parse().expect("an IPv4 address");
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(ip.octets());
    header.extend([198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb]);
    header
}

/// LOCAL: the proxy asks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[test]
fn both_versions_in_one_piece_with_the_first_bytes_behind_them_or_byte_by_byte() {
    let server = serve(&["--log-level", "debug"]);
    for header in [line("192.0.2.1"), binary("192.0.2.1")] {
        let mut whole = from(PROXY, &server);
        whole.say([&header[..], b"hello"].concat());
        whole.hear("hello");
        whole.echo("and on");

        let mut slow = from(PROXY, &server);
        for byte in &header {
            slow.say([*byte]);
        }
        slow.echo("hello");
        slow.half_close();
        slow.hear_end();
    }
    server.logs("open from 192.0.2.1:4711");
    // Cut in every place, by way of a connection for each.
    for header in [line("192.0.2.1"), binary("192.0.2.1")] {
        let bytes = [&header[..], b"hello"].concat();
        let mut clients: Vec<Client> = (0..bytes.len()).map(|_| from(PROXY, &server)).collect();
        for (cut, client) in clients.iter_mut().enumerate() {
            client.say(&bytes[..cut]);
        }
        server.at_rest();
        for (cut, client) in clients.iter_mut().enumerate() {
            client.say(&bytes[cut..]);
            client.hear("hello");
        }
    }
}

#[test]
fn the_real_address_is_judged_and_not_the_proxys() {
    let server = serve(&["--deny", "192.0.2.0/24", "--deny", PROXIES, "--connections-per-ip-max", "2"]);
    for header in [line("192.0.2.7"), binary("192.0.2.7")] {
        let mut mallory = from(PROXY, &server);
        mallory.say(header);
        mallory.hear_it_break();
    }
    let mut friends: Vec<Client> = (0..2)
        .map(|_| {
            let mut friend = from(PROXY, &server);
            friend.say(binary("198.51.100.9"));
            friend.echo("let in");
            friend
        })
        .collect();
    let mut third = from(PROXY, &server);
    third.say(line("198.51.100.9"));
    third.hear_it_break();
    let mut other = from(PROXY, &server);
    other.say(line("198.51.100.10"));
    other.echo("another one");
    friends.pop().expect("there are two").hang_up();
    server.summary_until("its end", |summary| summary.of("finished") == 1);
    let mut third = from(PROXY, &server);
    third.say(line("198.51.100.9"));
    third.echo("in its place");

    server.logs("192.0.2.7:4711 by 127.1.0.1:");
    let summary = server.summary();
    assert!(summary.text().contains("refused 3 (denied 2, too-many 1)"), "{summary:?}");
    assert_eq!(summary.of("refused"), 3, "{summary:?}");
}

#[test]
fn a_header_from_anywhere_else_is_not_believed() {
    let server = serve(&["--deny", "127.0.0.9"]);
    let mut forger = from("127.0.0.9", &server);
    forger.hear_it_break(); // whatever it would have sent
    let mut direct = from("127.0.0.2", &server);
    direct.echo(line("192.0.2.1")); // bytes like any others
    assert_eq!(server.summary().of("denied"), 1);
}

#[test]
fn from_a_proxy_it_is_required() {
    let server = serve(&["--handshake-within", "300ms"]);
    let refused = |bytes: &[u8]| {
        let mut client = from(PROXY, &server);
        client.say(bytes);
        client.hear_it_break();
    };
    refused(b"G"); // no more than that is needed
    refused(b"\x16\x03\x01\x02\0\x01");
    server.logs("(no PROXY header) refused: no-proxy-header");
    refused(b"PROXY TCP4 192.0.2.1 198.51.100.1 99999 443\r\nhello");
    refused(b"\r\n\r\n\0\r\nQUIT\n\x31");
    refused(&[&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat());
    server.logs("(a malformed PROXY header: its ports) refused: bad-proxy-header");
    let mut silent = from(PROXY, &server);
    let mut slow = from(PROXY, &server);
    slow.say(&line("192.0.2.1")[..20]);
    silent.hear_it_break();
    slow.hear_it_break();
    let mut gone = from(PROXY, &server);
    gone.say(&binary("192.0.2.1")[..20]);
    gone.half_close();
    gone.hear_it_break();

    let summary = server.summary_until("all of them", |summary| summary.of("closed") == 8);
    assert!(summary.text().contains("refused 5 (no-proxy-header 2, bad-proxy-header 3)"), "{summary:?}");
    assert_eq!(summary.of("handshake-timeout"), 2, "{summary:?}");
    assert_eq!(summary.of("unestablished"), 1, "{summary:?}");
    let mut right = from(PROXY, &server);
    right.say(line("192.0.2.1"));
    right.echo("it serves on");
}

#[test]
fn a_proxy_that_asks_for_itself_is_let_in() {
    let server = serve(&["--allow", "198.51.100.0/24"]);
    let mut check = from(PROXY, &server);
    check.say(LOCAL);
    check.echo("how are you?");
    let mut stranger = from(PROXY, &server);
    stranger.say(b"PROXY UNKNOWN\r\n"); // judged as the proxy, whom the list does not name
    stranger.hear_it_break();
    assert_eq!(server.summary().of("not-allowed"), 1);
}

/// Also: lists in files are read again.
#[test]
fn a_reload_that_forbids_a_client_dismisses_it_and_not_its_proxy() {
    let directory = Directory::new();
    let list = directory.path("denied");
    fs::write(&list, "# nobody yet\n").expect("it can be written");
    let server = serve(&["--deny-file", list.to_str().expect("a plain path")]);
    let introduced = |ip: &str| {
        let mut client = from(PROXY, &server);
        client.say(line(ip));
        client.echo("hello");
        client
    };
    let (mut alice, mut mallory) = (introduced("192.0.2.1"), introduced("192.0.2.7"));
    let mut check = from(PROXY, &server);
    check.say(LOCAL);
    check.echo("hello");
    let mut late = from(PROXY, &server);
    late.say(&line("192.0.2.7")[..10]);
    fs::write(&list, format!("192.0.2.7\n{PROXIES}\n")).expect("it can be written");
    server.signal(Signal::SIGHUP);
    server.logs("reloaded");
    mallory.hear_end();
    mallory.hang_up();
    late.say(&line("192.0.2.7")[10..]);
    late.hear_it_break();
    alice.echo("still here");
    check.echo("still here");
    let summary = server.summary_until("its end", |summary| summary.of("closed") == 2);
    assert_eq!((summary.of("disallowed"), summary.of("denied")), (1, 1), "{summary:?}");
}

#[cfg(feature = "tls")]
#[test]
fn the_header_comes_before_the_handshake() {
    use std::io::Write;
    use std::time::Duration;
    let authority = tls::Authority::called("ours");
    let files = tls::Files::of(&authority.signs("localhost", tls::NOW));
    let mut arguments = files.serve("tls://127.0.0.1:0");
    let options = ["--proxy-protocol", "127.0.0.0/8", "--deny", "192.0.2.7", "--handshake-within", "2s"];
    arguments.extend(options.map(String::from));
    let server = Server::start(&arguments);
    let caller = tls::Caller::believing(&authority);
    let introduced = |header: &[u8]| {
        let mut client = caller.connect(server.address(0));
        client.socket.write_all(header).expect("it is taken");
        client
    };
    for header in [line("192.0.2.1"), binary("192.0.2.1")] {
        // In one piece with the hello.
        let mut client = caller.connect(server.address(0));
        let hello = client.ciphertext();
        client.write(&[&header[..], &hello].concat());
        client.shake_hands().expect("it succeeds");
        client.echo("hello");
        // By bytes, and then byte by byte.
        let mut client = caller.connect(server.address(0));
        tls::by_bytes(&mut client.socket, &header);
        client.shake_hands_by_bytes();
        client.echo("hello");
    }
    introduced(&line("192.0.2.7")).shake_hands().expect_err("it is denied");
    caller.connect(server.address(0)).shake_hands().expect_err("a hello is no header");
    let summary = server.summary();
    assert!(summary.text().contains("refused 2 (denied 1, no-proxy-header 1)"), "{summary:?}");
    let began = std::time::Instant::now();
    tls::hear_it_end(&mut introduced(&line("192.0.2.1")).socket);
    assert!(began.elapsed() >= Duration::from_secs(1), "the deadline is the handshake's");
    server.summary_until("its deadline", |summary| summary.of("handshake-timeout") == 1);
}
