//! Everything has a limit: what a peer can make us hold, how long it may be silent or stuck, how much
//! of a turn it gets. And reaching one costs nobody but who reached it.
#![cfg(feature = "cli")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;

/// Where a connection's outbox holds up its own reading.
const OUTBOX_BYTES_HIGH: u64 = 64 * 1024;

#[cfg(target_os = "linux")]
#[test]
fn two_hundred_peers_who_never_read_cost_little_memory() {
    const PEERS: usize = 200;
    need_descriptors(PEERS as u64 + 100);
    let directory = Directory::new();
    let server = Server::start(&["serve", "--listen", &directory.url("unix", "socket"), "--listen", TCP]);
    let mut bob = server.call_at(1);
    bob.echo("hello");
    let before = server.rss();

    let said = pattern(1, 4 * MIB);
    let mut peers: Vec<_> = (0..PEERS).map(|_| (Client::prepared(server.url(), small_buffers), 0)).collect();
    loop {
        let mut more = 0;
        for (peer, taken) in &mut peers {
            let count = peer.say_what_is_taken(&said[*taken..]);
            *taken += count;
            more += count;
            assert!(*taken < said.len(), "the server takes everything, and never waits for its reader");
        }
        if more == 0 {
            break;
        }
        server.at_rest();
    }
    let summary = server.at_rest();
    let waiting = summary.of("bytes in") - summary.bytes_out();
    assert!(waiting > PEERS as u64 * OUTBOX_BYTES_HIGH / 4, "only {waiting} bytes wait");
    assert!(waiting <= PEERS as u64 * OUTBOX_BYTES_HIGH, "{waiting} bytes wait");
    let growth = server.rss().saturating_sub(before);
    assert!(growth < 16 * MIB, "{waiting} bytes wait in {growth} bytes of memory");

    bob.echo("I am served as ever");
    for (peer, taken) in peers.iter_mut().take(10) {
        peer.hear(&said[..*taken]); // late, but whole
    }
}

#[test]
fn a_peer_who_takes_nothing_is_closed_as_stalled() {
    let directory = Directory::new();
    let unix = directory.url("unix", "socket");
    let server = Server::start(&["serve", "--listen", &unix, "--listen", TCP, "--stall-after", "300ms"]);
    let (mut alice, mut bob) = (server.call(), server.call_at(1));
    let mut aside = alice.aside();
    let saying = thread::spawn(move || aside.say_until_it_breaks(&[0; 64 * 1024]));
    server.summary_until("alice to be closed", |summary| {
        bob.echo("I take my replies");
        summary.of("stalled") == 1
    });
    saying.join().unwrap();
    alice.hear_it_break();
    bob.echo("I am still here");
}

/// The source always has something to send, to peers that read and to peers that have sent their FIN.
#[test]
fn a_peer_who_never_takes_anything_of_a_source_is_closed_as_stalled() {
    let server = Server::start(&["serve", "source", "--listen", TCP, "--stall-after", "300ms"]);
    let (alice, mut bob) = (server.call(), server.call());
    bob.half_close();
    let summary = server.summary_until("both to be closed", |summary| summary.of("open") == 0);
    assert_eq!(summary.of("stalled"), 2, "{summary:?}");
    alice.hang_up();
}

#[test]
fn a_slow_reader_who_goes_on_reading_is_not_stalled() {
    let server = Server::start(&["serve", "source", "--listen", TCP, "--stall-after", "2s"]);
    let mut alice = Client::prepared(server.url(), small_buffers);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        alice.hear_exactly(MIB / 4);
        thread::sleep(Duration::from_millis(100)); // the scenario, and not a wait for something
    }
    let summary = server.summary();
    assert_eq!((summary.of("open"), summary.of("stalled")), (1, 0), "{summary:?}");
}

#[test]
fn who_is_silent_is_closed_as_idle_and_who_talks_is_not() {
    let idle_after = ["--idle-after", "1s"];
    let echo = Server::start(&[&["serve", "--listen", TCP, "--listen", LINES], &idle_after[..]].concat());
    let discard = Server::start(&[&["serve", "discard", "--listen", TCP], &idle_after[..]].concat());
    let (mut alice, mut bob, mut carol) = (echo.call(), echo.call(), echo.call_at(1));
    let (mut dave, mut erin) = (discard.call(), discard.call());
    carol.say("a line without its e");
    let began = Instant::now();
    until("the silent ones to be let go", || {
        bob.echo("I have always something to say");
        erin.say("So have I, and I don't mind that nobody answers");
        let is_let_go = |client: &mut Client| client.hears_something_within(Duration::from_millis(10));
        (is_let_go(&mut alice) && is_let_go(&mut carol) && is_let_go(&mut dave)).then_some(())
    });
    assert!(began.elapsed() >= Duration::from_millis(900), "after {:?}", began.elapsed());
    alice.hear_end();
    carol.hear_end();
    dave.hear_end();
    bob.echo("I am still here");
    for (server, idle) in [(echo, 2), (discard, 1)] {
        let summary = server.summary();
        assert_eq!((summary.of("open"), summary.of("idle")), (1, idle), "{summary:?}");
    }
}

/// Flooders who read as fast as they write would keep a loop without budgets for themselves.
#[test]
fn whispers_are_answered_beside_flooders() {
    let server = Server::start(&["serve", "--listen", TCP, "--listen", LINES]);
    let mut flood = pattern(0, MIB);
    flood.iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b' ');
    *flood.last_mut().unwrap() = b'\n'; // so that it is one of lines as well
    let done = AtomicBool::new(false);
    let flooded = thread::scope(|scope| {
        let flooders: Vec<_> = (0..4)
            .map(|number| {
                let mut reader = server.call_at(number % 2);
                let mut writer = reader.aside();
                let (done, flood) = (&done, &flood);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        writer.say(flood);
                    }
                    writer.half_close();
                });
                scope.spawn(move || {
                    let mut heard = 0;
                    while let count @ 1.. = reader.hear_some() {
                        heard += count;
                    }
                    heard
                })
            })
            .collect();

        let whispering = catch_unwind(AssertUnwindSafe(|| {
            let mut whisperers: Vec<Client> = (0..8).map(|number| server.call_at(number % 2)).collect();
            let flooded = |summary: Summary| summary.of("bytes in");
            let before = server.summary_until("the flood", |summary| summary.of("bytes in") > 8 * MIB as u64);
            for round in 0..25 {
                for (number, whisperer) in whisperers.iter_mut().enumerate() {
                    whisperer.echo(format!("whisper {round} of {number}\n"));
                }
            }
            flooded(server.summary()) - flooded(before)
        }));
        done.store(true, Ordering::Relaxed); // whatever came of it
        for flooder in flooders {
            assert!(flooder.join().unwrap() >= MIB, "the flooders are served as well");
        }
        whispering.unwrap_or_else(|panic| resume_unwind(panic))
    });
    assert!(flooded > MIB as u64, "there should be a flood all the while, and not {flooded} bytes");
}

#[test]
fn a_message_may_be_as_long_as_its_limit() {
    let listen = ["--listen", LINES, "--listen", PREFIXED];
    for limit in [1, 1000, 64 * 1024, MIB] {
        let text = limit.to_string();
        let server = Server::start(&[&["serve", "--message-bytes-max", &text], &listen[..]].concat());
        let line = "x".repeat(limit);
        let mut alice = server.call_at(0);
        let saying = alice.say_aside(format!("{line}\n{line}\r\n{line}").into_bytes());
        alice.hear(format!("{line}\n{line}\n"));
        saying.join().unwrap().half_close();
        alice.hear(format!("{line}\n"));
        alice.hear_end();

        let message = [&(limit as u32).to_be_bytes()[..], line.as_bytes()].concat();
        let mut bob = server.call_at(1);
        let saying = bob.say_aside(message.repeat(3));
        bob.hear(message.repeat(3));
        saying.join().unwrap();
    }
}

#[test]
fn a_line_beyond_the_limit_is_an_error_and_the_end() {
    let server = Server::start(&["serve", "--listen", LINES, "--message-bytes-max", "1000"]);
    let mut bob = server.call();
    for rest in ["\n", "\r\n", "", "\nwhat is said behind it is not heard\n"] {
        let mut alice = server.call();
        alice.say(format!("a line\n{}{rest}", "x".repeat(1001)));
        alice.hear("a line\nerror: a message of more than 1000 bytes\n");
        alice.hear_end();
        bob.echo("my lines are short\n");
    }
    let summary = server.summary_until("the others to be gone", |summary| summary.of("open") == 1);
    assert_eq!(summary.of("violation"), 4, "{summary:?}");
}

/// Who is still sending when it is told of its error has to be listened to, or it would see a reset
/// instead of the error.
#[test]
fn an_endless_line_is_an_error_that_arrives() {
    let server = Server::start(&["serve", "--listen", LINES]);
    let mut alice = server.call();
    let saying = alice.say_aside(vec![b'x'; 5 * MIB]);
    alice.hear("error: a message of more than 65536 bytes\n");
    alice.hear_end();
    saying.join().unwrap().half_close();
    let summary = server.summary_until("alice to be gone", |summary| summary.of("open") == 0);
    assert_eq!(summary.of("violation"), 1, "{summary:?}");
}

#[test]
fn a_length_beyond_the_limit_is_the_end() {
    let server = Server::start(&["serve", "--listen", PREFIXED]);
    let mut bob = server.call();
    for length in [[0xff; 4], [0x80, 0, 0, 0], [0, 1, 0, 1]] {
        let mut alice = server.call();
        alice.say([&b"\0\0\0\x02ok"[..], &length, b"and so on"].concat());
        alice.hear(b"\0\0\0\x02ok");
        alice.hear_end();
        bob.echo(b"\0\0\0\x05hello");
    }
    let mut carol = server.call();
    carol.say(b"\0\0\0\x02ok\0\0\0\x09in the mid");
    carol.hear(b"\0\0\0\x02ok\0\0\0\x09in the mi");
    carol.half_close();
    carol.hear_end();
    let summary = server.summary_until("the others to be gone", |summary| summary.of("open") == 1);
    assert_eq!(summary.of("violation"), 4, "{summary:?}");
}

#[test]
fn garbage_harms_nobody() {
    let server = Server::start(&[
        "serve",
        "--log-level",
        "trace",
        "--listen",
        TCP,
        "--listen",
        LINES,
        "--listen",
        PREFIXED,
        "--listen",
        UDP,
    ]);
    let mut bob = server.call();
    for seed in 0..50 {
        let garbage = pattern(seed, 1 + 101 * seed as usize);
        let mut raw = server.call_at(0);
        raw.echo(&garbage);
        let mut lines = server.call_at(1);
        lines.say(&garbage);
        lines.half_close();
        assert_same(&lines.hear_until_the_end(), &echo_of_lines(&garbage));
        let mut prefixed = server.call_at(2);
        prefixed.say(&garbage);
        prefixed.half_close();
        prefixed.hear_until_the_end();
        datagrams_to(server.address(3)).send(&garbage).unwrap();
        bob.echo("I am not disturbed");
    }
    let end = server.stop();
    let odd =
        end.log.iter().find(|line| line.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER));
    assert_eq!(odd, None, "peers' bytes stand raw in the log");
}

/// Written another way than the server's decoder.
fn echo_of_lines(bytes: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let last = lines.pop().unwrap_or_default();
    let mut echo = Vec::new();
    for line in lines {
        echo.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        echo.push(b'\n');
    }
    if !last.is_empty() {
        echo.extend_from_slice(last);
        echo.push(b'\n');
    }
    echo
}

#[test]
fn a_stuck_peer_is_stuck_alone() {
    let directory = Directory::new();
    let unix = directory.url("unix", "socket");
    let server = Server::start(&["serve", "--listen", TCP, "--listen", LINES, "--listen", &unix]);
    let said = pattern(7, 8 * MIB);
    let (mut alice, taken) = stuck_client(&server, &unix, &said);
    let (mut bob, mut carol) = (server.call(), server.call_at(1));
    for _ in 0..10 {
        bob.echo(pattern(8, 10_000));
        carol.echo("hello\n");
    }
    alice.hear(&said[..taken]);
    alice.echo("and here I am again");
}

#[test]
fn a_peer_is_heard_no_faster_than_it_may_and_loses_nothing() {
    const RATE: usize = 64 * 1024;
    let server = Server::start(&["serve", "--listen", TCP, "--bytes-per-s", "64KiB"]);
    let said = pattern(3, 5 * RATE / 2);
    let began = Instant::now();
    let mut alice = server.call();
    alice.say_aside(said.clone());
    let mut bob = server.call();
    bob.echo("at my own pace");
    bob.hang_up();
    alice.hear(&said);
    // One second's worth comes at once; what is measured can't be less than what was held back.
    assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
    alice.half_close();
    alice.hear_end();
    assert_eq!(server.stop().summary().of("bytes in"), said.len() as u64 + 14);
}

#[test]
fn a_stop_serves_what_a_metered_peer_has_said_without_waiting_for_its_pace() {
    let server = Server::start(&["serve", "--listen", "tcp+lines://127.0.0.1:0", "--bytes-per-s", "10"]);
    let mut alice = server.call();
    alice.say("one of ten\ntwo of them\n");
    server.summary_until("her first bytes", |summary| summary.of("bytes in") >= 10);
    server.signal(Signal::SIGTERM);
    alice.hear("one of ten\ntwo of them\n");
    alice.hear_end();
}
