//! The loop misses nothing and mixes nothing up, however bytes and connections come and go.
//!
//! The kernel says "readable" once. What was not read then, or could not be answered then, must be
//! remembered; and what an event said of one connection must never be believed of another.
#![cfg(feature = "cli")]

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::*;

#[test]
fn one_byte_at_a_time() {
    let directory = Directory::new();
    let unix = directory.url("unix", "socket");
    let server = Server::start(&[
        "serve", "--listen", TCP, "--listen", &unix, "--listen", LINES, "--listen", PREFIXED,
    ]);
    for listener in 0..2 {
        let mut alice = server.call_at(listener);
        for byte in pattern(1, 500) {
            alice.echo([byte]);
        }
    }
    let mut lines = server.call_at(2);
    let mut prefixed = server.call_at(3);
    for round in 0..20 {
        let line = format!("line number {round}\n");
        line.bytes().for_each(|byte| lines.say([byte]));
        lines.hear(line);
        let message = [&[0, 0, 0, round], &pattern(u64::from(round), usize::from(round))[..]].concat();
        message.iter().for_each(|byte| prefixed.say([*byte]));
        prefixed.hear(message);
    }
}

#[test]
fn five_mebibytes_in_odd_pieces() {
    let directory = Directory::new();
    let server = Server::start(&["serve", "--listen", TCP, "--listen", &directory.url("unix", "socket")]);
    for listener in 0..2 {
        let mut alice = server.call_at(listener);
        let said = pattern(2, 5 * MIB);
        let saying = {
            let (mut aside, said) = (alice.aside(), said.clone());
            thread::spawn(move || {
                let (mut at, mut size) = (0, 1);
                while at < said.len() {
                    let end = (at + size).min(said.len());
                    aside.say(&said[at..end]);
                    (at, size) = (end, (size * 7 + 3) % 100_003);
                }
            })
        };
        alice.hear(said);
        saying.join().unwrap();
        alice.echo("and nothing is stuck");
    }
}

/// The whole input lies in the server's inbox, so no event can come of it any more: what goes on when
/// the replies drain must go on by itself.
#[test]
fn replies_that_waited_for_room_need_no_further_input() {
    let directory = Directory::new();
    let unix = directory.url("unix+lines", "socket");
    let message = "x".repeat(2000);
    let server =
        Server::start(&["serve", "reply", "--message", &message, "--listen", LINES, "--listen", &unix]);
    for listener in 0..2 {
        let mut alice = Client::prepared(&server.urls()[listener], small_buffers);
        alice.say("\n".repeat(10_000));
        let summary = server.at_rest();
        let said = listener as u64 * 10_001 + 10_000;
        assert_eq!(summary.of("bytes in"), said, "all of it has been read");
        assert!(summary.bytes_out() < said * 2001, "decoding was to pause: {summary:?}");
        alice.hear((message.clone() + "\n").repeat(10_000));
        alice.say("\n");
        alice.hear(message.clone() + "\n");
    }
}

/// The kernel's send buffer fills up in the middle of a reply, short or long.
#[test]
fn a_reply_that_is_taken_in_part_goes_on_where_it_stopped() {
    let directory = Directory::new();
    for (url, bytes) in [
        (TCP, 30_000),
        (TCP, 130_000),
        (&directory.url("unix", "short"), 30_000),
        (&directory.url("unix", "long"), 130_000),
    ] {
        let message: String = (0..bytes / 10).map(|number| format!("{number:09} ")).collect();
        let server = Server::start(&["serve", "reply", "--message", &message, "--listen", url]);
        let mut alice = Client::prepared(server.url(), small_buffers);
        let mut questions = 0;
        loop {
            alice.say("?");
            questions += 1;
            let summary = server.summary_until("the question", |summary| summary.of("bytes in") == questions);
            if summary.bytes_out() < questions * message.len() as u64 {
                break;
            }
        }
        for _ in 0..questions {
            alice.hear(&message);
        }
        alice.say("?");
        alice.hear(&message);
    }
}

#[test]
fn ten_thousand_lines_in_one_write_wait_for_their_reader() {
    let server = Server::start(&["serve", "--listen", LINES]);
    let mut alice = Client::prepared(server.url(), small_buffers);
    let said: String = (0..10_000).map(|line| format!("line {line} {}\n", "-".repeat(line % 700))).collect();
    let saying = alice.say_aside(said.clone().into_bytes());
    let summary = server.at_rest();
    assert!(summary.of("bytes in") < said.len() as u64, "reading was to pause: {summary:?}");
    alice.hear(said);
    saying.join().unwrap();
    alice.echo("and one more\n");
}

/// A read stops short at urgent data, with more bytes behind it: that is no would-block.
#[cfg(target_os = "linux")]
#[test]
fn bytes_around_urgent_data_are_not_lost() {
    let server = Server::echo();
    let mut alice = server.call();
    for round in 0..200 {
        let (before, after) = (format!("before {round},"), format!(" after {round}."));
        if round % 4 == 0 {
            server.pause(); // all of it in one event
        }
        alice.say(&before);
        alice.shout(b'!');
        if round % 4 == 1 {
            alice.hear(&before); // the urgent byte in an event of its own
            alice.say(&after);
            alice.hear(after);
            continue;
        }
        alice.say(&after);
        if round % 4 == 0 {
            server.go_on();
        }
        alice.hear(before + &after);
    }
    alice.shout(b'!');
    alice.half_close();
    alice.hear_end();
}

/// A read from a Unix socket stops short behind a message that carries descriptors, with more bytes
/// waiting; and what nobody asked for is not kept.
#[cfg(target_os = "linux")]
#[test]
fn bytes_behind_passed_descriptors_are_not_lost() {
    let directory = Directory::new();
    let file = File::open("/dev/null").unwrap();
    let speak = |alice: &mut Client| {
        alice.say("one\n");
        alice.say_and_pass(b"two\n", file.as_fd());
        alice.say_and_pass(b"three\n", file.as_fd());
        alice.say("four\n");
    };
    for scheme in ["unix", "unix+lines"] {
        let echo = Server::start(&["serve", "--listen", &directory.url(scheme, "echo")]);
        let mut alice = echo.call();
        alice.echo("hello\n");
        let descriptors = echo.descriptors();
        for round in 0..20 {
            let paused = round % 2 == 0;
            if paused {
                echo.pause(); // all of it in one event
            }
            speak(&mut alice);
            if paused {
                echo.go_on();
            }
            alice.hear("one\ntwo\nthree\nfour\n");
        }
        assert_eq!(echo.descriptors(), descriptors);

        // Without an answer that, when it is read, makes the socket writable and the kernel speak up.
        let discard = Server::start(&["serve", "discard", "--listen", &directory.url(scheme, "discard")]);
        let mut bob = discard.call();
        bob.say("hello\n");
        discard.summary_until("the greeting to be read", |summary| summary.of("bytes in") == 6);
        discard.pause();
        speak(&mut bob);
        discard.go_on();
        discard.summary_until("everything to be read", |summary| summary.of("bytes in") == 6 + 19);
        assert_eq!(discard.descriptors().len(), descriptors.len());
    }
}

/// In one batch: bytes, resets, ends and new connections. What an event says of a connection that an
/// earlier one has ended must not be taken for news of another in its place.
#[test]
fn resets_and_arrivals_in_one_batch_harm_nobody() {
    let server = Server::echo();
    let mut clients: Vec<Client> = (0..64).map(|_| server.call()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.echo(pattern(number as u64, 100));
    }
    for round in 0..20u64 {
        server.pause();
        let mut said = Vec::new();
        for (number, mut client) in clients.drain(..).enumerate() {
            let bytes = pattern(round * 1000 + number as u64, 100 + number);
            client.say(&bytes);
            match (number as u64 + round) % 4 {
                0 => client.reset(),
                1 => client.hang_up(),
                _ => said.push((client, bytes)),
            }
        }
        while said.len() < 64 {
            let mut client = server.call();
            let bytes = pattern(round * 1000 + 500 + said.len() as u64, 50);
            client.say(&bytes);
            said.push((client, bytes));
        }
        server.go_on();
        for (client, bytes) in &mut said {
            client.hear(bytes);
        }
        clients.extend(said.into_iter().map(|(client, _)| client));
    }
    server.summary_until("the others to be gone", |summary| summary.of("open") == 64);
}

#[test]
fn nobody_hears_the_bytes_of_another_while_connections_come_and_go() {
    let server = Server::echo();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let passers_by: Vec<_> = (0..2u64)
            .map(|which| {
                let server = &server;
                scope.spawn(move || {
                    for visit in 0..400u64 {
                        let mut client = server.call();
                        let bytes = pattern(1_000_000 * (which + 1) + visit, 300);
                        client.say(&bytes);
                        match visit % 4 {
                            0 => client.reset(),
                            1 => client.hang_up(),
                            2 => client.hear(bytes),
                            _ => {
                                client.half_close();
                                client.hear(bytes);
                                client.hear_end();
                            }
                        }
                    }
                })
            })
            .collect();
        let (server, done) = (&server, &done);
        let residents = scope.spawn(move || {
            let mut clients: Vec<Client> = (0..8).map(|_| server.call()).collect();
            for round in 0.. {
                for (number, client) in clients.iter_mut().enumerate() {
                    client.say(pattern(round * 8 + number as u64, 1 + 37 * number));
                }
                for (number, client) in clients.iter_mut().enumerate() {
                    client.hear(pattern(round * 8 + number as u64, 1 + 37 * number));
                }
                if done.load(Ordering::Relaxed) && round >= 50 {
                    break;
                }
            }
        });
        let passed: Vec<_> = passers_by.into_iter().map(|passer_by| passer_by.join()).collect();
        done.store(true, Ordering::Relaxed); // whatever came of it
        residents.join().unwrap();
        passed.into_iter().for_each(|outcome| outcome.unwrap());
    });
    server.summary_until("everybody to be gone", |summary| summary.of("open") == 0);
}

/// What comes in while the server stands still is not lost, and what it was writing goes on.
#[test]
fn a_server_that_is_stopped_and_continued_in_mid_stream_loses_nothing() {
    let server = Server::echo();
    let mut alice = server.call();
    let said = pattern(3, 5 * MIB);
    let saying = alice.say_aside(said.clone());
    for part in said.chunks(MIB / 2) {
        let (first, second) = part.split_at(part.len() / 2);
        alice.hear(first);
        server.pause();
        server.go_on();
        alice.hear(second);
    }
    saying.join().unwrap();
}
