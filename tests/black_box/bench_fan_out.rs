//! `switchboard bench --fan-out`: rooms of our own, and what it says of servers that tell their members otherwise.
#![cfg(all(feature = "cli", feature = "load", feature = "web"))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::bench::{Bench, all_but_unsent, run_with};
use crate::support::{Server, until};
use switchboard::load::report::Failures;
use switchboard::reactor::CloseReason;
use switchboard::{Message, Peer, Service, Switchboard};

fn chat(options: &[&str]) -> Server {
    Server::start(&[&["serve", "chat", "--listen", "ws://127.0.0.1:0"][..], options].concat())
}

#[test]
fn every_member_is_told_everything() {
    let server = chat(&["--messages-per-member", "1000000"]);
    for (words, senders) in [
        ("--connections 30", 1),
        ("--connections 20 --senders 5 --depth 8 --size 1000", 5),
        ("--connections 3 --senders 3 --rate 200", 3),
    ] {
        let outcome = Bench::of(server.url(), &format!("--fan-out lobby {words}")).run();
        let report = outcome.ends_with(0);
        let room = report.fan_out.as_ref().expect("it was a room");
        assert_eq!((room.complete, room.missed_most, room.senders), (room.members, 0, senders), "{words}");
        assert_eq!(all_but_unsent(report), Failures::default(), "{words}");
        assert!(report.replies > 10 && report.verified, "{words}: {}", report.replies);
        assert_eq!(
            report.replies % u64::from(room.members),
            0,
            "{words}: each message counts at each member"
        );
    }
}

#[test]
fn it_says_who_was_told_what() {
    let server = chat(&["--messages-per-member", "1000000"]);
    let ended =
        run_with(&["bench", server.url(), "--fan-out", "lobby", "--connections", "3", "--duration", "200ms"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("3 members, 1 sender, 100 B"), "{}", ended.stdout);
    assert!(ended.stdout.contains("in the room lobby: every member was told everything"), "{}", ended.stdout);
    let paced = Bench::of(server.url(), "--fan-out lobby --rate 100").and(&["--html"]);
    let path = paced.path("report.html").display().to_string();
    let outcome = paced.and(&[&path]).run();
    let latency = &outcome.ends_with(0).latency;
    let (service, response) = (latency.service.as_ref(), latency.response.as_ref());
    assert_eq!(
        service.map(|it| it.count),
        response.map(|it| it.count),
        "each delivery counts by both clocks"
    );
    assert!(response.map(|it| it.mean_ns) >= service.map(|it| it.mean_ns), "due comes before sent");
    assert!(outcome.text_of("report.html").contains("in the room lobby: every member was told everything"));
    let room = Running::start(Crooked::Forgets);
    let words = [
        "--fan-out",
        "any",
        "--connections",
        "3",
        "--duration",
        "500ms",
        "--rate",
        "100",
        "--join",
        "",
        "--say",
        "{text}",
    ];
    let ended = run_with(&[&["bench", &room.0][..], &words].concat());
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains("2 of 3 members were told everything, and one missed"), "{}", ended.stdout);
}

#[test]
fn who_may_not_speak_so_fast_is_told_how_to_start_the_server() {
    let server = chat(&[]);
    let outcome = Bench::of(server.url(), "--fan-out lobby --rate 500").run();
    outcome.ends_with(1);
    assert!(outcome.ended.stderr.contains("too fast"), "{}", outcome.ended.stderr);
}

/// What a room of our own does about the n-th message to its last member.
#[derive(Clone, Copy)]
enum Crooked {
    No,
    Forgets,
    SaysTwice,
    Garbles,
    /// With a number that is another one's in 32 bits.
    Misnumbers,
    ThrowsOut,
    NotToTheSender,
    /// Says more than anybody would keep.
    Shouts,
}

struct Room {
    members: Vec<Peer>,
    said: u64,
    how: Crooked,
}

impl Service for Room {
    fn on_open(&mut self, _board: &mut Switchboard<'_>, peer: Peer) {
        self.members.push(peer);
    }

    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        self.said += 1;
        let (last, others) = self.members.split_last().expect("one speaks");
        match self.how {
            Crooked::NotToTheSender => {
                return board.broadcast(self.members.iter().copied().filter(|peer| *peer != from), message);
            }
            _ => board.broadcast(others.iter().copied(), message),
        }
        let is_special = self.said % 10 == 5;
        match self.how {
            Crooked::Forgets if is_special => {}
            Crooked::SaysTwice if is_special => board.broadcast([*last, *last], message),
            Crooked::Garbles if is_special => {
                let text = String::from_utf8_lossy(message.bytes()).replace('c', "C");
                board.send(*last, Message::Text(&text));
            }
            Crooked::Misnumbers if is_special => {
                let text = String::from_utf8_lossy(message.bytes()).into_owned();
                let number: u64 = text[6..16].parse().expect("ten digits");
                let text = format!("{}{:010}{}", &text[..6], number + (1 << 32), &text[16..]);
                board.send(*last, Message::Text(&text));
            }
            Crooked::Shouts => board.send(*last, Message::Text(&"x".repeat(2 << 20))),
            Crooked::ThrowsOut if is_special => board.close(*last),
            _ => board.send(*last, message),
        }
    }

    fn on_close(&mut self, _board: &mut Switchboard<'_>, peer: Peer, _reason: CloseReason) {
        self.members.retain(|member| *member != peer);
    }
}

/// A thread that serves such a room until this is dropped.
struct Running(String, Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Running {
    fn start(how: Crooked) -> Running {
        let room = Room { members: Vec::new(), said: 0, how };
        let server = switchboard::Server::new(room).listen("ws://127.0.0.1:0").expect("a port is free");
        let url = server.endpoints()[0].to_string();
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut reactor = server.into_reactor().expect("a poll");
            while !told.load(Ordering::Relaxed) {
                reactor.turn(Some(Duration::from_millis(20))).expect("a turn");
            }
        });
        Running(url, over, Some(thread))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
        if let Some(thread) = self.2.take() {
            let _ = thread.join();
        }
    }
}

/// Of a server that only repeats what is said, whatever it is.
fn of(room: &Running, words: &str) -> Bench {
    Bench::of(&room.0, &format!("--fan-out any --connections 5 --say {{text}} {words}")).and(&["--join", ""])
}

#[test]
fn any_server_that_repeats_what_it_hears_will_do() {
    let room = Running::start(Crooked::No);
    let outcome = of(&room, "--depth 3 --senders 2").run();
    let report = outcome.ends_with(0);
    assert!(report.replies > 10);
    assert_eq!(report.fan_out.as_ref().map(|room| room.complete), Some(5));
}

#[test]
fn what_a_member_misses_or_gets_otherwise_is_counted() {
    type Count = fn(&Failures) -> u64;
    let cases: [(Crooked, Count); 4] = [
        (Crooked::Misnumbers, |failures| failures.lost),
        (Crooked::Forgets, |failures| failures.lost),
        (Crooked::SaysTwice, |failures| failures.duplicated),
        (Crooked::Garbles, |failures| failures.corrupted),
    ];
    for (how, count) in cases {
        let room = Running::start(how);
        // A generator that gets little CPU sends few messages: then once more.
        let outcome = until("five failures", || {
            let outcome = of(&room, "--rate 300").run();
            (count(&outcome.report().failures) >= 5).then_some(outcome)
        });
        let report = outcome.ends_with(1);
        let failures = all_but_unsent(report);
        assert_eq!(count(&failures), failures.total(), "{failures:?}");
        let told = report.fan_out.as_ref().expect("it was a room");
        if let Crooked::Forgets = how {
            assert_eq!((told.complete, told.missed_most), (4, report.failures.lost));
            assert_eq!(told.missed, [(0, 4), (report.failures.lost, 1)]);
        }
    }
}

#[test]
fn a_member_that_is_thrown_out_has_missed_the_rest() {
    let room = Running::start(Crooked::ThrowsOut);
    let outcome = of(&room, "--rate 300 --duration 60s").run();
    let report = outcome.ends_with(1);
    // One after the other, until nobody is there.
    assert!(report.failures.reset >= 4, "{:?}", report.failures);
    assert!(report.partial, "it went away in the middle of the run");
}

#[test]
fn a_server_that_says_too_much_ends_the_run() {
    let room = Running::start(Crooked::Shouts);
    let outcome = of(&room, "--rate 100").run();
    assert!(outcome.ends_with(1).partial);
    assert!(
        outcome.ended.complaint().contains("a message of more than 1048576 bytes"),
        "{:?}",
        outcome.ended
    );
}

#[test]
fn a_sender_who_does_not_hear_himself_needs_a_rate() {
    let room = Running::start(Crooked::NotToTheSender);
    let outcome = of(&room, "").run();
    outcome.ends_with(1);
    assert!(outcome.ended.stderr.contains("give a --rate"), "{}", outcome.ended.stderr);
}

#[test]
fn what_can_not_be_done_is_refused() {
    for (url, words, problem) in [
        ("tcp://127.0.0.1:9", "--fan-out x", "--fan-out is for ws://"),
        ("ws://127.0.0.1:9", "--fan-out x --senders 5", "--senders 5"),
        ("ws://127.0.0.1:9", "--fan-out x --size 5", "--size 5"),
        ("ws://127.0.0.1:9", "--fan-out x --say hello", "{text}"),
        ("ws://127.0.0.1:9", "--senders 2", "--fan-out"),
        ("ws://127.0.0.1:9", "--fan-out x --churn", "--churn"),
    ] {
        let outcome = Bench::of(url, words).run();
        assert_eq!(outcome.ended.code, Some(2), "{words}");
        assert!(outcome.ended.stderr.contains(problem), "{words}: {}", outcome.ended.stderr);
    }
}
