//! Descriptors are few and clients are many: what happens at the limit, before it, and when clients are
//! gone before they are served.
#![cfg(feature = "cli")]
#![cfg(target_os = "linux")] // the limit of a running process can't be changed elsewhere

use std::time::Duration;

use crate::support::*;

/// Turns in half a second of waiting. A loop that spins makes tens of thousands even on a busy machine,
/// one that retries now and then a dozen.
const TURNS_MAX: u64 = 200;

fn times_logged(server: &Server, text: &str) -> usize {
    server.log().iter().filter(|line| line.contains(text)).count()
}

#[test]
fn out_of_descriptors_new_connections_wait_and_nothing_spins() {
    let server = Server::echo();
    let (mut alice, mut bob, mut carol) = (server.call(), server.call(), server.call());
    for client in [&mut alice, &mut bob, &mut carol] {
        client.echo("hello");
    }
    let limit = server.next_descriptor();
    server.limit_descriptors(limit);

    let mut waiting: Vec<Client> = (0..4).map(|_| server.call()).collect();
    for (number, client) in waiting.iter_mut().enumerate() {
        client.say(format!("I am number {number}"));
    }
    server.logs("accepting pauses");
    let (before, busy) = (server.summary(), server.cpu());
    for client in &mut waiting {
        client.hear_nothing_for(Duration::from_millis(150));
    }
    let (after, busy) = (server.summary(), server.cpu() - busy);
    let turns = after.of("turns") - before.of("turns");
    assert!(turns < TURNS_MAX, "it spins: {turns} turns, {busy:?} of work");
    assert!(busy < Duration::from_millis(300), "it spins: {turns} turns, {busy:?} of work");

    alice.echo("I am served as ever");
    bob.hang_up();
    waiting[0].hear("I am number 0");
    waiting[1].hear_nothing_for(Duration::from_millis(150));
    carol.reset();
    waiting[1].hear("I am number 1");
    // Descriptors can also come free without a connection's end.
    server.limit_descriptors(limit + 10);
    waiting[2].hear("I am number 2");
    waiting[3].hear("I am number 3");
    assert_eq!(times_logged(&server, "accepting pauses"), 1, "{:#?}", server.log());
    assert_eq!(server.summary().of("accept pauses"), 1);

    // It has caught up; the next spell is counted, and belongs to the same episode in the log.
    server.limit_descriptors(server.next_descriptor());
    let mut dave = server.call();
    dave.say("I am dave");
    server.summary_until("the second spell", |summary| summary.of("accept pauses") == 2);
    alice.hang_up();
    dave.hear("I am dave");
    assert_eq!(times_logged(&server, "accepting pauses"), 1, "{:#?}", server.log());
}

/// One goes, the next one comes, and another one waits: over and over.
#[test]
fn at_connections_max_the_log_has_one_line_for_an_episode_and_not_one_for_each_connection() {
    let server = Server::start(&["serve", "--listen", TCP, "--connections-max", "1"]);
    let mut alice = server.call();
    alice.echo("hello");
    for _ in 0..20 {
        let mut next = server.call();
        next.say("and me");
        let pauses = server.summary().of("accept pauses");
        alice.hang_up();
        next.hear("and me");
        // The backlog is empty now, and the limit is reached: the next client waits.
        alice = next;
        let mut waiting = server.call();
        waiting.say("I wait");
        server.summary_until("another pause", |summary| summary.of("accept pauses") >= pauses.max(1));
        waiting.hang_up();
        alice.echo("still here");
    }
    assert_eq!(times_logged(&server, "new ones wait"), 1, "{:#?}", server.log());
    assert!(server.stop().summary().of("accept pauses") > 1);
}

#[test]
fn out_of_descriptors_it_stops_as_ever() {
    let server = Server::echo();
    let mut alice = server.call();
    alice.echo("hello");
    server.limit_descriptors(server.next_descriptor());
    let waiting = server.call();
    server.logs("accepting pauses");
    server.signal(Signal::SIGTERM);
    alice.hear_end();
    alice.hang_up();
    assert_eq!(server.wait().code, Some(0));
    waiting.hang_up();
}

#[test]
fn at_connections_max_the_next_one_waits_until_one_leaves() {
    let directory = Directory::new();
    let unix = directory.url("unix", "socket");
    let server = Server::start(&["serve", "--listen", TCP, "--listen", &unix, "--connections-max", "4"]);
    let mut clients: Vec<Client> = (0..4).map(|number| server.call_at(number % 2)).collect();
    for client in &mut clients {
        client.echo("hello");
    }
    let (mut fifth, mut sixth) = (server.call_at(0), server.call_at(1));
    fifth.say("I am the fifth");
    sixth.say("I am the sixth");
    let before = server.summary();
    fifth.hear_nothing_for(Duration::from_millis(250));
    sixth.hear_nothing_for(Duration::from_millis(250));
    let turns = server.summary().of("turns") - before.of("turns");
    assert!(turns < TURNS_MAX, "it spins: {turns} turns");

    clients.remove(0).hang_up();
    let heard = until("one of them to be served", || {
        [&mut fifth, &mut sixth]
            .iter_mut()
            .position(|one| one.hears_something_within(Duration::from_millis(10)))
    });
    let (first, first_text, second, second_text) = match heard {
        0 => (&mut fifth, "I am the fifth", &mut sixth, "I am the sixth"),
        _ => (&mut sixth, "I am the sixth", &mut fifth, "I am the fifth"),
    };
    first.hear(first_text);
    second.hear_nothing_for(Duration::from_millis(100));
    clients.remove(0).reset();
    second.hear(second_text);
    for client in &mut clients {
        client.echo("I was here all the time");
    }
    assert_eq!(server.summary().of("open"), 4);
    assert_eq!(times_logged(&server, "new ones wait"), 2, "once for each listener: {:#?}", server.log());
}

#[test]
fn connections_are_kept_below_the_limit_of_descriptors() {
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", r#"ulimit -n 64 && exec "$@""#, "sh", env!("CARGO_BIN_EXE_switchboard")])
        .args(["serve", "--listen", TCP]);
    let mut server = Server::start_command(&mut command, 1);
    server.read_log();
    server.logs("at most 32 are served at a time");
    let mut clients: Vec<Client> = (0..40).map(|_| server.call()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.say(format!("I am number {number}"));
    }
    let mut waiting = clients.split_off(32);
    for (number, client) in clients.iter_mut().enumerate() {
        client.hear(format!("I am number {number}"));
    }
    for client in &mut waiting {
        client.hear_nothing_for(Duration::from_millis(10));
    }
    assert!(server.descriptors().len() <= 64);
    clients.into_iter().for_each(Client::hang_up);
    for (number, client) in waiting.iter_mut().enumerate() {
        client.hear(format!("I am number {}", number + 32));
    }
    assert_eq!(times_logged(&server, "accepting pauses"), 0, "{:#?}", server.log());
}

#[test]
fn a_thousand_who_reset_before_they_are_accepted_harm_nobody() {
    let count = 1000.min(backlog_max() - 50);
    let server = Server::echo();
    let mut alice = server.call();
    alice.echo("hello");
    let descriptors = server.descriptors().len();
    server.pause();
    let mut early = server.call();
    for _ in 0..count {
        server.call().reset();
    }
    let mut late = server.call();
    early.say("I came before them");
    late.say("I came after them");
    server.go_on();
    late.hear("I came after them");
    early.hear("I came before them");
    alice.echo("I was here all the time");
    server.summary_until("the others to be gone", |summary| summary.of("open") == 3);
    assert_eq!(server.descriptors().len(), descriptors + 2);
}

#[test]
fn a_thousand_who_come_at_once_are_served() {
    let count = 1000.min(backlog_max() - 50);
    need_descriptors(count as u64 + 100);
    let server = Server::echo();
    server.pause();
    let mut clients: Vec<Client> = (0..count).map(|_| server.call()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.say(pattern(number as u64, 100));
    }
    server.go_on();
    for (number, client) in clients.iter_mut().enumerate() {
        client.hear(pattern(number as u64, 100));
    }
    for (number, client) in clients.iter_mut().enumerate().rev() {
        client.echo(pattern(number as u64, 200));
    }
    let summary = server.summary();
    assert_eq!((summary.of("accepted"), summary.of("open")), (count as u64, count as u64), "{summary:?}");
}
