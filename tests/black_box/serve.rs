//! What is served, and where: the services, the listeners, and who may come in.
#![cfg(feature = "cli")]

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::support::*;
use socket2::Socket;

#[test]
fn every_listener_is_announced_with_its_real_port_and_served() {
    let directory = Directory::new();
    let unix = directory.url("unix", "plain");
    let prefixed = directory.url("unix+prefixed", "prefixed");
    let listeners = [TCP, LINES, &unix, &prefixed, UDP];
    let arguments: Vec<&str> = listeners.iter().flat_map(|url| ["--listen", url]).collect();
    let server = Server::start(&[&["serve", "echo"], &arguments[..]].concat());

    for (ready, asked) in server.urls().iter().zip(listeners) {
        match asked.strip_suffix(":0") {
            None => assert_eq!(ready, asked),
            Some(asked) => {
                let port = ready.strip_prefix(asked).and_then(|rest| rest.strip_prefix(':'));
                let port = port.and_then(|port| port.parse::<u16>().ok());
                assert!(port.is_some_and(|port| port > 0), "{ready} should be {asked} with a port");
            }
        }
    }
    server.call_at(0).echo("plain bytes\r\n");
    let mut lines = server.call_at(1);
    lines.say("a line\r\n");
    lines.hear("a line\n");
    lines.hang_up();
    server.call_at(2).echo("plain bytes over a Unix socket");
    server.call_at(3).echo(b"\0\0\0\x05hello\0\0\0\0");
    let datagrams = datagrams_to(server.address(4));
    datagrams.send(b"a datagram").unwrap();
    let mut heard = [0; 100];
    assert_eq!(datagrams.recv(&mut heard).unwrap(), 10);
    assert_eq!(server.stop().said.len(), listeners.len(), "only the ready lines stand on standard output");
}

#[test]
fn ready_lines_stand_in_the_order_of_the_command_line() {
    let server =
        Server::start(&["serve", "--listen", UDP, "--listen", LINES, "--listen", UDP, "--listen", TCP]);
    let schemes: Vec<&str> = server.urls().iter().filter_map(|url| Some(url.split_once(':')?.0)).collect();
    assert_eq!(schemes, ["udp", "tcp+lines", "udp", "tcp"]);
}

#[test]
fn without_a_command_it_serves_echo() {
    let server = Server::start(&["--listen", TCP]);
    server.call().echo("hello?");
}

#[test]
fn a_bare_host_and_port_is_tcp() {
    let server = Server::start(&["serve", "--listen", "localhost:0"]);
    assert!(server.url().starts_with("tcp://"), "{}", server.url());
    server.call().echo("hello?");
}

#[test]
fn ipv6() {
    if !has_ipv6() {
        return println!("skipped: this machine has no [::1]");
    }
    let server = Server::start(&["serve", "--listen", "tcp://[::1]:0", "--listen", "udp://[::1]:0"]);
    assert!(server.url().starts_with("tcp://[::1]:"), "{}", server.url());
    server.call().echo("hello over IPv6");
    let datagrams = datagrams_to(server.address(1));
    datagrams.send(b"hello").unwrap();
    assert_eq!(datagrams.recv(&mut [0; 100]).unwrap(), 5);
}

#[test]
fn echo_gives_back_any_bytes() {
    let server = Server::echo();
    let every_byte: Vec<u8> = (0..=255).collect();
    server.call().echo(every_byte);
}

#[test]
fn reply_says_the_same_to_everybody() {
    let listen = ["--listen", TCP, "--listen", LINES, "--listen", PREFIXED, "--listen", UDP];
    let server = Server::start(&[&["serve", "reply", "--message", "No.", "--amplify"], &listen[..]].concat());
    let mut alice = server.call_at(0);
    alice.say("please?");
    alice.hear("No.");
    alice.say("pretty please?");
    alice.hear("No.");
    let mut bob = server.call_at(1);
    bob.say("one\ntwo\r\n\nand one without an end");
    bob.hear("No.\nNo.\nNo.\n");
    bob.half_close();
    bob.hear("No.\n");
    bob.hear_end();
    let mut carol = server.call_at(2);
    carol.say(b"\0\0\0\x01?\0\0\0\0");
    carol.hear(b"\0\0\0\x03No.\0\0\0\x03No.");
    let datagrams = datagrams_to(server.address(3));
    datagrams.send(b"").unwrap();
    let mut heard = [0; 100];
    assert_eq!((datagrams.recv(&mut heard).unwrap(), &heard[..3]), (3, &b"No."[..]));
}

#[test]
fn discard_takes_everything_and_says_nothing() {
    let server = Server::start(&["serve", "discard", "--listen", TCP, "--listen", LINES]);
    for listener in 0..2 {
        let mut alice = server.call_at(listener);
        alice.say(vec![b'\n'; 5 * MIB]);
        alice.half_close();
        alice.hear_end();
    }
    let summary = server.stop().summary();
    assert_eq!((summary.of("bytes in"), summary.bytes_out()), (2 * 5 * MIB as u64, 0));
}

/// What the source says, from the beginning.
fn numbered_lines(bytes: usize) -> Vec<u8> {
    let mut lines: Vec<u8> = (0..=bytes / 16).flat_map(|line| format!("{line:015}\n").into_bytes()).collect();
    lines.truncate(bytes);
    lines
}

#[test]
fn source_numbers_its_lines_without_a_gap() {
    let server = Server::start(&["serve", "source", "--listen", TCP, "--listen", LINES]);
    let expected = numbered_lines(4 * MIB);
    for listener in 0..2 {
        let mut alice = server.call_at(listener);
        let (mut at, mut size) = (0, 1);
        while at < expected.len() {
            let end = (at + size).min(expected.len());
            alice.hear(&expected[at..end]);
            (at, size) = (end, (size * 3 + 1) % 65_537);
        }
    }
}

#[test]
fn source_waits_for_a_reader_who_stops_and_goes_on_where_it_was() {
    let server = Server::start(&["serve", "source", "--listen", TCP, "--listen", LINES]);
    let expected = numbered_lines(4 * MIB);
    for listener in 0..2 {
        let mut alice = Client::prepared(server.urls()[listener].as_str(), small_buffers);
        for part in expected.chunks(MIB) {
            server.at_rest(); // every buffer on the way is full now
            alice.hear(part);
        }
    }
}

#[test]
fn source_goes_on_when_the_peer_has_said_its_end() {
    let server = Server::start(&["serve", "source", "--listen", TCP]);
    let mut alice = server.call();
    alice.half_close();
    alice.hear(numbered_lines(3 * MIB));
}

#[test]
fn a_denied_address_is_turned_away_and_the_others_are_served() {
    let server = Server::start(&["serve", "--listen", TCP, "--deny", "127.0.0.2/31"]);
    from(&server, 2).hear_it_break();
    from(&server, 1).echo("I am somebody else");
    from(&server, 3).hear_it_break();
    let summary = server.stop().summary();
    assert!(summary.text().contains("accepted 1, refused 2 (denied 2),"), "{summary:?}");
}

#[test]
fn with_an_allow_list_strangers_stay_out() {
    let arguments = ["--allow", "127.0.0.0/24", "--deny", "127.0.0.128/25", "--allow", "127.0.0.200"];
    let server = Server::start(&[&["serve", "--listen", TCP, "--listen", UDP], &arguments[..]].concat());
    from(&server, 1).echo("I am on the list");
    from(&server, 129).hear_it_break();
    from(&server, 200).echo("I am on it by name");
    Client::prepared(server.url(), |socket| bind(socket, [127, 0, 1, 1])).hear_it_break();
    let summary = server.summary();
    assert!(summary.text().contains("accepted 2, refused 2 (denied 1, not-allowed 1),"), "{summary:?}");

    let stranger = std::net::UdpSocket::bind("127.0.1.1:0").unwrap();
    stranger.send_to(b"let me in", server.address(1)).unwrap();
    let friend = datagrams_to(server.address(1));
    friend.send(b"hello").unwrap();
    assert_eq!(friend.recv(&mut [0; 100]).unwrap(), 5);
    // The friend came later and has been answered: so will have been the stranger, if at all.
    stranger.set_nonblocking(true).unwrap();
    stranger.recv(&mut [0; 100]).unwrap_err();
}

/// A client with this last byte in its address.
fn from(server: &Server, last: u8) -> Client {
    Client::prepared(server.url(), |socket| bind(socket, [127, 0, 0, last]))
}

fn bind(socket: &Socket, address: [u8; 4]) {
    let address = std::net::SocketAddr::from((Ipv4Addr::from(address), 0));
    socket.bind(&address.into()).expect("all of 127/8 is ours, on Linux");
}

#[test]
fn a_dead_servers_socket_file_is_replaced() {
    let directory = Directory::new();
    let path = directory.path("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(exists(&path), "closing a Unix listener leaves its file behind");
    let server = Server::start(&["serve", "--listen", &directory.url("unix", "socket")]);
    server.call().echo("the new one");
    server.stop();
    assert!(!exists(&path));
}

#[test]
fn a_live_servers_socket_is_left_to_it() {
    let directory = Directory::new();
    let url = directory.url("unix", "socket");
    let first = Server::start(&["serve", "--listen", &url]);
    let second = run(&["serve", "--listen", &url]);
    assert_eq!(second.status.code(), Some(1));
    let complaint = String::from_utf8(second.stderr).unwrap();
    assert!(complaint.lines().any(|line| line.starts_with("switchboard: ") && line.contains(&url)));
    first.call().echo("still the first one");
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = Directory::new();
    let path = directory.path("notes.txt");
    fs::write(&path, "precious").unwrap();
    let url = directory.url("unix", "notes.txt");
    let output = run(&["serve", "--listen", &url]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.lines().any(|line| line.starts_with("switchboard: ") && line.contains(&url)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_successors_socket_file_is_left_to_it() {
    let directory = Directory::new();
    let (path, url) = (directory.path("socket"), directory.url("unix", "socket"));
    let first = Server::start(&["serve", "--listen", &url]);
    fs::remove_file(&path).unwrap();
    let second = Server::start(&["serve", "--listen", &url]);
    first.stop();
    second.call().echo("I was not unplugged");
}

#[test]
fn a_unix_socket_has_the_mode_that_was_asked_for() {
    let directory = Directory::new();
    for mode in [0o600, 0o666] {
        let (url, text) = (directory.url("unix", "socket"), format!("{mode:o}"));
        let server = Server::start(&["serve", "--listen", &url, "--unix-mode", &text]);
        let found = fs::metadata(directory.path("socket")).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{found:o} instead of {mode:o}");
        server.stop();
    }
}

#[test]
fn servers_that_say_so_share_a_port() {
    for url in [TCP, UDP] {
        let first = Server::start(&["serve", "--reuse-port", "--listen", url]);
        let second = Server::start(&["serve", "--reuse-port", "--listen", first.url()]);
        assert_eq!(second.url(), first.url());
        let third = run(&["serve", "--listen", first.url()]);
        assert_eq!(third.status.code(), Some(1), "this one did not say so");
        if url == TCP {
            (0..20).for_each(|_| first.call().echo("any of the two"));
        }
    }
}

/// Over the table of sockets, where the kernel tells which timer runs for each.
#[cfg(target_os = "linux")]
#[test]
fn silent_peers_are_probed_if_asked_for() {
    for (arguments, expected) in [(&["--keepalive", "30s"][..], "02"), (&[], "00")] {
        let server = Server::start(&[&["serve", "--listen", TCP], arguments].concat());
        let mut alice = server.call();
        alice.echo("hello");
        let local = format!(":{:04X}", server.address(0).port());
        until("the connection's timer", || {
            let table = fs::read_to_string("/proc/net/tcp").unwrap();
            let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            // Local address, state (01: established), and the timer that runs (02: keepalive).
            let row = rows.find(|row| row[1].ends_with(&local) && row[3] == "01").unwrap();
            row[5].starts_with(expected).then_some(())
        });
    }
}

#[test]
fn nobody_who_waits_is_told_anything_until_there_is_something() {
    let server = Server::echo();
    let mut alice = server.call();
    alice.hear_nothing_for(Duration::from_millis(100));
    alice.echo("hello");
}
