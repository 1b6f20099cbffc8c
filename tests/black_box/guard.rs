//! Who may come in: lists from files, and what is wrong with them.
#![cfg(feature = "cli")]

use std::fs;
use std::time::Instant;

use crate::support::*;

#[test]
fn lists_may_stand_in_files() {
    let directory = Directory::new();
    let (allow, deny) = (directory.path("allow"), directory.path("deny"));
    fs::write(&allow, "# this machine\n127.0.0.0/8\n").unwrap();
    fs::write(&deny, "\n127.0.0.1 # ourselves\n").unwrap();
    let (allow, deny) = (allow.to_str().unwrap(), deny.to_str().unwrap());

    let server = Server::start(&["serve", "--listen", TCP, "--allow-file", allow]);
    server.call().echo("hello");
    let server = Server::start(&["serve", "--listen", TCP, "--allow-file", allow, "--deny-file", deny]);
    assert!(server.call().hear_until_the_end().is_empty());
    let summary = server.summary();
    assert!(summary.text().contains("refused 1 (denied 1)"), "{summary:?}");
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line() {
    let directory = Directory::new();
    let path = directory.path("list");
    let name = path.to_str().unwrap();
    let complaint = |option: &str| {
        let output = run(&["serve", "--listen", TCP, option, name]);
        assert_eq!(output.status.code(), Some(2));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains(&format!("{option} {name}")), "{complaint}");
        complaint
    };
    assert!(complaint("--deny-file").contains("cannot read it"));
    fs::write(&path, "10.0.0.0/8\n\n10.0.0.0/99\n").unwrap();
    for option in ["--allow-file", "--deny-file"] {
        assert!(complaint(option).contains(&format!("{name}:3: \"10.0.0.0/99\"")));
    }
    fs::write(&path, "# nobody yet\n").unwrap();
    assert!(complaint("--allow-file").contains("names no network"));
}

/// A client from this address of the machine's own.
fn from(ip: &str, server: &Server) -> Client {
    let own = address(&format!("tcp://{ip}:0"));
    Client::prepared(server.url(), |socket| socket.bind(&own.into()).expect("loopback is a whole network"))
}

#[test]
fn one_address_may_have_so_many_connections_and_another_has_its_own() {
    let server = Server::start(&["serve", "--listen", TCP, "--connections-per-ip-max", "2"]);
    let (mut alice, mut bob) = (from("127.0.0.2", &server), from("127.0.0.2", &server));
    alice.echo("one");
    bob.echo("two");
    from("127.0.0.2", &server).hear_it_break();
    let mut carol = from("127.0.0.3", &server);
    carol.echo("another address");
    alice.half_close();
    alice.hear_end();
    alice.hang_up();
    server.summary_until("her end", |summary| summary.of("closed") >= 1);
    from("127.0.0.2", &server).echo("in her place");
    let summary = server.summary();
    assert!(summary.text().contains("refused 1 (too-many 1)"), "{summary:?}");
}

#[test]
fn one_address_may_connect_so_often() {
    let server = Server::start(&["serve", "--listen", TCP, "--accepts-per-ip", "1/3"]);
    server.pause(); // so that all of them come at once
    let mut callers: Vec<Client> = (0..5).map(|_| from("127.0.0.2", &server)).collect();
    let mut other = from("127.0.0.3", &server);
    server.go_on();
    other.echo("another address");
    let summary = server.summary_until("all of them to be judged", |summary| {
        summary.of("accepted") + summary.of("too-fast") == 6
    });
    assert_eq!(summary.of("too-fast"), 2, "{summary:?}");
    let refused = callers.split_off(3);
    callers.iter_mut().for_each(|caller| caller.echo("within the burst"));
    refused.into_iter().for_each(|mut caller| caller.hear_it_break());
}

#[test]
fn a_mapped_address_is_no_way_around_the_rules() {
    if !has_ipv6() {
        return;
    }
    let server = Server::start(&["serve", "--listen", "tcp://[::]:0", "--deny", "127.0.0.2"]);
    let port = server.address(0).port();
    let dual = |ip: &str| {
        let own = address(&format!("tcp://{ip}:0"));
        Client::prepared(&format!("tcp://127.0.0.1:{port}"), |socket| {
            socket.bind(&own.into()).expect("loopback is a whole network");
        })
    };
    dual("127.0.0.1").echo("by IPv4, to a listener of both");
    dual("127.0.0.2").hear_it_break();
    assert_eq!(server.summary().of("denied"), 1);
}

#[test]
fn what_is_no_rate_is_named() {
    for wrong in ["0", "ten", "10/0", "-1"] {
        let output = run(&["serve", "--listen", TCP, "--accepts-per-ip", wrong]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains("like 10 or 10/50"), "{said}");
    }
}

#[test]
fn one_address_may_send_so_many_datagrams_and_another_has_its_own() {
    let server = Server::start(&["serve", "--listen", UDP, "--datagrams-per-ip", "1/3"]);
    let from = |ip: &str| {
        let socket = std::net::UdpSocket::bind((ip, 0)).expect("loopback is a whole network");
        socket.connect(server.address(0)).expect("an address of this machine");
        socket.set_read_timeout(Some(PATIENCE)).expect("the socket is ours");
        socket
    };
    let (flooder, other) = (from("127.0.0.2"), from("127.0.0.3"));
    server.pause(); // so that all of them come at once
    (0..10).for_each(|number| assert_eq!(flooder.send(&[number]).ok(), Some(1)));
    assert_eq!(other.send(b"x").ok(), Some(1));
    server.go_on();
    let mut heard = [0; 16];
    for expected in 0..3 {
        assert_eq!(flooder.recv(&mut heard).ok(), Some(1));
        assert_eq!(heard[0], expected);
    }
    assert_eq!(other.recv(&mut heard).ok(), Some(1));
    let summary = server.stop().summary();
    assert!(summary.text().contains("refused 7 (too-fast 7)"), "{summary:?}");
}

#[test]
fn a_flood_of_refusals_is_no_flood_of_the_log() {
    let server = Server::start(&["serve", "--listen", TCP, "--deny", "127.0.0.2"]);
    let began = Instant::now();
    (0..500).for_each(|_| from("127.0.0.2", &server).hear_it_break());
    let end = server.stop();
    let seconds = began.elapsed().as_secs() as usize + 2; // those of the clock, begun ones too
    assert_eq!(end.summary().of("denied"), 500);
    let lines: Vec<&String> = end.log.iter().filter(|line| line.contains("127.0.0.2:")).collect();
    assert!(lines[0].ends_with("refused: denied"), "{}", lines[0]);
    assert!(lines.len() <= 10 * seconds, "{} lines in less than {seconds} s", lines.len());
}

#[test]
fn an_answer_is_not_larger_than_its_datagram_unless_that_is_wanted() {
    let server = Server::start(&["serve", "reply", "--message", "No.", "--listen", UDP]);
    let liar = datagrams_to(server.address(0));
    liar.send(b"?").expect("it goes out"); // "from" somebody who would be flooded
    liar.send(b"???").expect("it goes out");
    let mut heard = [0; 16];
    assert_eq!(liar.recv(&mut heard).map(|count| &heard[..count]).ok(), Some(&b"No."[..]));
    let summary = server.stop().summary();
    assert!(summary.text().contains("datagrams in 2 out 1 dropped 1"), "{summary:?}");
}
