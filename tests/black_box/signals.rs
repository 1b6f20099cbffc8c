//! Told to stop, the server finishes what it has begun, within bounds: what it has read is answered,
//! everybody hears the end, and it exits with 0. Told again, it stops now.
#![cfg(feature = "cli")]

use std::io::ErrorKind;
use std::thread;

use crate::support::*;

#[test]
fn with_nobody_there_it_ends_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Server::start(&["serve", "--listen", TCP, "--listen", UDP]);
        server.signal(signal);
        let end = server.wait();
        assert_eq!(end.code, Some(0), "after {signal}: {:#?}", end.log);
        assert_eq!(end.summary().of("accepted"), 0);
    }
}

#[test]
fn idle_clients_hear_the_end_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let directory = Directory::new();
        let unix = directory.url("unix", "socket");
        let arguments = ["serve", "--drain-for", "1h", "--listen", TCP, "--listen", LINES, "--listen", &unix];
        let server = Server::start(&arguments);
        let mut clients: Vec<Client> = (0..9).map(|number| server.call_at(number % 3)).collect();
        clients.iter_mut().take(6).for_each(|client| client.echo("hello\n"));
        server.signal(signal);
        clients.iter_mut().for_each(Client::hear_end);
        clients.into_iter().for_each(Client::hang_up);
        let end = server.wait();
        assert_eq!(end.code, Some(0), "after {signal}: {:#?}", end.log);
        let summary = end.summary();
        assert_eq!((summary.of("open"), summary.of("drained")), (0, 9), "{summary:?}");
    }
}

#[test]
fn an_idle_client_who_ignores_the_end_does_not_hold_it_up() {
    let server = Server::start(&["serve", "--drain-for", "1h", "--listen", TCP]);
    let mut alice = server.call();
    alice.echo("hello");
    server.stop();
    alice.hear_end();
}

#[test]
fn what_had_arrived_is_answered_before_the_end() {
    let server = Server::start(&["serve", "--listen", TCP, "--listen", LINES]);
    let (mut alice, mut bob) = (server.call(), server.call_at(1));
    alice.echo("hello");
    server.pause();
    let said = pattern(1, 40_000);
    alice.say(&said);
    bob.say("my first line\n".repeat(1000)); // he has not even been accepted
    server.signal(Signal::SIGTERM);
    server.go_on();
    alice.hear(&said);
    alice.hear_end();
    bob.hear("my first line\n".repeat(1000));
    bob.hear_end();
    alice.hang_up();
    bob.hang_up();
    assert_eq!(server.wait().code, Some(0));
}

/// They have been told that they are connected, and spoke.
#[test]
fn who_waits_in_the_backlog_is_answered_before_the_end() {
    const CLIENTS: usize = 1500; // many turns of accepting, and more than one batch of events
    let count = CLIENTS.min(backlog_max() - 20);
    need_descriptors(count as u64 + 100);
    let server = Server::echo();
    server.pause();
    let mut clients: Vec<Client> = (0..count).map(|_| server.call()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.say(format!("I am number {number}"));
    }
    server.signal(Signal::SIGTERM);
    server.go_on();
    for (number, client) in clients.iter_mut().enumerate() {
        client.hear(format!("I am number {number}"));
        client.hear_end();
    }
    clients.into_iter().for_each(Client::hang_up);
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn what_was_read_is_delivered_before_the_end() {
    let directory = Directory::new();
    let server = Server::start(&["serve", "--listen", &directory.url("unix", "socket")]);
    let said = pattern(2, 8 * MIB);
    let (mut alice, taken) = stuck_client(&server, server.url(), &said);
    let read = server.summary().of("bytes in") as usize;
    server.signal(Signal::SIGTERM);
    server.logs("stopping");
    let heard = alice.hear_until_the_end();
    assert!((read..=taken).contains(&heard.len()), "{} bytes, of {read} read, {taken} sent", heard.len());
    assert_same(&heard, &said[..heard.len()]);
    alice.hang_up();
    let end = server.wait();
    assert_eq!((end.code, end.summary().of("drained")), (Some(0), 1), "{:#?}", end.log);
}

/// The replies are not even made yet: the lines wait for room in the outbox.
#[test]
fn what_was_read_but_not_yet_served_is_answered_before_the_end() {
    let message = "x".repeat(2000);
    let server = Server::start(&["serve", "reply", "--message", &message, "--listen", LINES]);
    let mut alice = Client::prepared(server.url(), small_buffers);
    alice.say("\n".repeat(10_000));
    let summary = server.at_rest();
    // (On a busy machine less is read at once, and a part of it waits in the kernel.)
    let read = summary.of("bytes in");
    assert!(summary.bytes_out() < read * 2001, "the kernel took all replies: {summary:?}");
    server.signal(Signal::SIGTERM);
    server.logs("stopping");
    assert_same(&alice.hear_until_the_end(), (message + "\n").repeat(10_000).as_bytes());
    alice.hang_up();
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn five_mebibytes_in_flight_end_in_order() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let directory = Directory::new();
        for listen in [TCP, LINES, &directory.url("unix", "socket")] {
            let server = Server::start(&["serve", "--listen", listen]);
            let mut alice = server.call();
            let mut said = pattern(3, 5 * MIB);
            said.iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b' ');
            let mut writer = alice.aside();
            let saying = {
                let said = said.clone();
                thread::spawn(move || {
                    writer.say(&said); // all of it is taken, if not answered: no reset, no broken pipe
                    writer.half_close();
                })
            };
            alice.hear(&said[..MIB]);
            server.signal(signal);
            let rest = alice.hear_until_the_end();
            let rest_said = &said[MIB..];
            assert!(rest.len() <= rest_said.len() + 1);
            // (Over lines, what the end of file ended has got its LF.)
            let compared = rest.len().min(rest_said.len()).saturating_sub(1);
            assert_same(&rest[..compared], &rest_said[..compared]);
            saying.join().unwrap();
            alice.hang_up();
            let end = server.wait();
            assert_eq!(end.code, Some(0), "after {signal}: {:#?}", end.log);
            assert_eq!(end.summary().of("cut"), 0, "{:#?}", end.log);
        }
    }
}

#[test]
fn a_second_signal_ends_it_now() {
    for (first, second) in [
        (Signal::SIGTERM, Signal::SIGTERM),
        (Signal::SIGINT, Signal::SIGINT),
        (Signal::SIGTERM, Signal::SIGINT),
    ] {
        let directory = Directory::new();
        let url = directory.url("unix", "socket");
        let mut server =
            Server::start(&["serve", "--listen", &url, "--drain-for", "1h", "--stall-after", "1h"]);
        let (mut alice, _) = stuck_client(&server, &url, &pattern(4, 8 * MIB));
        server.signal(first);
        server.logs("stopping: 1 connections");
        server.at_rest(); // a summary can be had on the way out, too
        assert!(server.is_running(), "alice has not read her replies yet");
        server.signal(second);
        let end = server.wait();
        assert_eq!(end.code, Some(0), "{:#?}", end.log);
        assert!(
            end.log.iter().any(|line| line.contains("without waiting for 1 connection")),
            "{:#?}",
            end.log
        );
        alice.hear_it_break();
    }
}

#[test]
fn a_stuck_client_holds_it_up_for_no_longer_than_drain_for() {
    let directory = Directory::new();
    let url = directory.url("unix", "socket");
    let server = Server::start(&["serve", "--listen", &url, "--drain-for", "300ms", "--stall-after", "1h"]);
    let (mut alice, _) = stuck_client(&server, &url, &pattern(5, 8 * MIB));
    let end = server.stop();
    assert!(end.log.iter().any(|line| line.contains("without waiting for 1 connection")), "{:#?}", end.log);
    alice.hear_it_break();
}

/// "drained" are those who were let finish, and "cut" those who were not, however little they had still
/// to be sent.
#[test]
fn who_is_cut_off_is_counted_as_cut() {
    let directory = Directory::new();
    let url = directory.url("unix", "socket");
    let server = Server::start(&["serve", "--listen", &url, "--drain-for", "300ms", "--stall-after", "1h"]);
    let (mut alice, mut bob) = (server.call(), server.call());
    bob.echo("I have read everything");
    let (mut said, mut taken) = (22, 22);
    while taken == said {
        alice.say([0; 4096]);
        said += 4096;
        let summary = server.summary_until("what alice said", |summary| summary.of("bytes in") == said);
        taken = summary.bytes_out();
    }
    server.signal(Signal::SIGTERM);
    bob.hear_end();
    bob.hang_up();
    let end = server.wait();
    let summary = end.summary();
    assert_eq!((summary.of("cut"), summary.of("drained")), (1, 1), "{:#?}", end.log);
    alice.hear_it_break();
}

#[test]
fn draining_without_a_bound_is_a_clean_stop_too() {
    let server = Server::start(&["serve", "--listen", TCP, "--drain-for", "off"]);
    let mut alice = server.call();
    alice.echo("hello");
    server.signal(Signal::SIGTERM);
    alice.hear_end();
    alice.hang_up();
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn while_it_stops_nobody_new_comes_in() {
    let directory = Directory::new();
    let url = directory.url("unix", "socket");
    let server = Server::start(&["serve", "--listen", TCP, "--listen", &url, "--drain-for", "1h"]);
    let (_alice, _) = stuck_client(&server, &url, &pattern(6, 8 * MIB));
    server.signal(Signal::SIGTERM);
    server.logs("stopping");
    let refused = |url| Client::try_to(url).err().map(|error| error.kind());
    assert_eq!(refused(server.url()), Some(ErrorKind::ConnectionRefused));
    assert!(!exists(&directory.path("socket")), "the socket's file is removed");
    // Another server can have the places already.
    let successor = Server::start(&["serve", "--listen", server.url(), "--listen", &url]);
    successor.call_at(0).echo("hello");
    successor.call_at(1).echo("hello");
    server.stop();
    assert!(exists(&directory.path("socket")), "the file is the successor's now");
}

#[test]
fn the_socket_file_is_removed() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let directory = Directory::new();
        let server = Server::start(&["serve", "--listen", &directory.url("unix", "socket")]);
        assert!(exists(&directory.path("socket")));
        server.signal(signal);
        assert_eq!(server.wait().code, Some(0));
        assert!(!exists(&directory.path("socket")), "after {signal}");
    }
}

#[test]
fn a_summary_counts_what_happened() {
    let server = Server::start(&["serve", "--listen", LINES, "--listen", UDP]);
    let (mut alice, bob) = (server.call(), server.call());
    alice.echo("hello\n");
    bob.reset();
    let datagrams = datagrams_to(server.address(1));
    datagrams.send(b"12345").unwrap();
    datagrams.recv(&mut [0; 10]).unwrap();
    let summary = server.summary_until("bob to be gone", |summary| summary.of("open") == 1);
    for counter in [
        "accepted 2,",
        "refused 0,",
        "open 1,",
        "closed 1 (reset 1),",
        "accept pauses 0,",
        "bytes in 11 out 11,",
        "datagrams in 1 out 1 dropped 0,",
        "events per turn ",
        "busiest turn ",
        "log records dropped 0",
    ] {
        assert!(summary.text().contains(counter), "{counter} is not in {summary:?}");
    }
    assert!(summary.of("turns") > 0, "{summary:?}");
}
