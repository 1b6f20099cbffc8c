//! A reload is whole or it does not happen: the settings in the file hold for everybody who is there, nothing of the
//! replaced ones remains, and nobody waits for it.
#![cfg(all(feature = "cli", feature = "web", target_os = "linux"))]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::*;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use socket2::Socket;

/// A directory with a configuration file.
struct Settings(Directory);

impl Settings {
    fn of(text: &str) -> Settings {
        let settings = Settings(Directory::new());
        settings.write(text);
        settings
    }

    fn path(&self) -> String {
        self.0.path("switchboard.toml").display().to_string()
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("the directory is ours");
    }

    fn serve(&self, listeners: usize) -> Server {
        let mut server =
            Server::start_command(switchboard().args(["serve", "--config", &self.path()]), listeners);
        server.read_log();
        server
    }
}

fn times(server: &Server, text: &str) -> usize {
    server.log().iter().filter(|line| line.contains(text)).count()
}

/// Sends SIGHUP and waits until it has been heeded.
fn reload(server: &Server) {
    let before = times(server, "reloaded");
    server.signal(Signal::SIGHUP);
    until("the reload", || (times(server, "reloaded") > before).then_some(()));
}

fn listener(url: &str, service: &str, more: &str) -> String {
    format!("[[listener]]\nurl = \"{url}\"\nservice = \"{service}\"\n{more}\n")
}

/// One answer to one request, read to its end.
fn get(url: &str, path: &str) -> String {
    let mut client = Client::to(url);
    client.say(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    String::from_utf8(client.hear_until_the_end()).expect("it is text")
}

/// What is measured, with its labels; and no family is announced twice.
fn series(metrics: &str) -> BTreeSet<String> {
    let announced: Vec<&str> = metrics.lines().filter(|line| line.starts_with("# TYPE")).collect();
    let families: BTreeSet<&str> = announced.iter().copied().collect();
    assert_eq!(announced.len(), families.len(), "a family is announced twice: {metrics}");
    let (_, body) = metrics.split_once("\r\n\r\n").expect("a head and a body");
    let figures = body.lines().filter(|line| !line.starts_with('#'));
    let names: Vec<&str> = figures.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
    let unique: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names.len(), unique.len(), "something is measured twice: {metrics}");
    unique
}

/// The file says 600 now, and its reader would believe that it is so.
#[test]
fn what_a_reload_cannot_change_of_a_socket_is_logged() {
    let directory = Directory::new();
    let url = format!("unix:{}", directory.path("socket").display());
    let settings = Settings::of(&listener(&url, "echo", "unix-mode = \"666\""));
    let server = settings.serve(1);
    reload(&server);
    assert_eq!(times(&server, "after a restart"), 0, "{:#?}", server.log());
    settings.write(&listener(&url, "echo", "unix-mode = \"600\""));
    reload(&server);
    assert_eq!(times(&server, "a new unix-mode takes effect after a restart"), 1, "{:#?}", server.log());
}

#[test]
fn another_rate_creates_no_second_lobby_and_holds_for_members_who_are_there() {
    let chat = |rate: &str| {
        listener("tcp+lines://127.0.0.1:0", "chat", &format!("messages-per-member = \"{rate}\""))
            + &listener("http://127.0.0.1:0", "discard", "metrics = true")
    };
    let settings = Settings::of(&chat("1/1000"));
    let server = settings.serve(2);
    let mut alice = server.call();
    alice.say("/nick alice\n");
    alice.hear_until("is now alice\n");
    // She has used up a burst that takes more than ten minutes to come back, under these rules.
    alice.say("/who\n".repeat(998));
    for _ in 0..998 {
        alice.hear_until("* 1 here: alice\n");
    }
    settings.write(&chat("20/60"));
    reload(&server);
    let mut bob = server.call();
    bob.hear_until("* 2 here: alice, guest2\n");
    bob.say("hi\n");
    alice.hear_until("guest2: hi\n");
    until("alice to be within the new rate", || {
        alice.say("/who\n");
        alice.hear_until("\n").contains("* 2 here").then_some(())
    });
    let names = series(&get(&server.urls()[1], "/metrics"));
    assert!(names.contains("switchboard_chat_members"), "{names:#?}");
    server.stop();
}

#[test]
fn worlds_and_chats_are_told_apart_by_their_names_and_share_families_of_figures() {
    let text = listener("http://127.0.0.1:0", "relay", "tick = 10\nmetrics = true")
        + &listener("udp://127.0.0.1:0", "relay", "tick = 20")
        + &listener("udp://127.0.0.1:0", "relay", "name = \"arena\"")
        + &listener("tcp://127.0.0.1:0", "chat", "name = \"staff\"")
        + &listener("tcp://127.0.0.1:0", "chat", "");
    let settings = Settings::of(&text);
    let server = settings.serve(5);
    let warning = "has other settings for relay than http://127.0.0.1:0";
    server.logs(warning);
    let (mut staff, mut guest) = (server.call_at(3), server.call_at(4));
    staff.hear_until("* 1 here: guest1\n");
    guest.hear_until("* 1 here: guest1\n");
    let names = series(&get(server.url(), "/metrics"));
    for name in [
        "switchboard_relay_players",
        "switchboard_relay_players{service=\"arena\"}",
        "switchboard_chat_members",
        "switchboard_chat_members{service=\"staff\"}",
        "switchboard_relay_tick_late_seconds_bucket{le=\"+Inf\",service=\"arena\"}",
    ] {
        assert!(names.contains(name), "{name} in {names:#?}");
    }
    // A service that no listener has is gone with its last member, and its figures with it.
    settings.write(&text.replace("name = \"staff\"", "name = \"crew\""));
    reload(&server);
    let has = |name: &str| series(&get(server.url(), "/metrics")).contains(name);
    assert!(
        has("switchboard_chat_members{service=\"staff\"}")
            && has("switchboard_chat_members{service=\"crew\"}")
    );
    staff.hang_up();
    until("nothing of it to remain", || (!has("switchboard_chat_members{service=\"staff\"}")).then_some(()));
    guest.hang_up();
    server.stop();
}

#[test]
fn another_message_is_the_answer_on_connections_that_are_there() {
    let reply = |message: &str| listener("tcp://127.0.0.1:0", "reply", &format!("message = \"{message}\""));
    let settings = Settings::of(&(reply("one") + &reply("two")));
    let server = settings.serve(2);
    let (mut alice, mut bob) = (server.call(), server.call_at(1));
    alice.say("?");
    alice.hear("one");
    settings.write(&(reply("three") + &reply("two")));
    reload(&server);
    alice.say("?");
    alice.hear("three");
    bob.say("?");
    bob.hear("two");
    server.stop();
}

/// Editors and scripts empty a file before they write it.
#[test]
fn a_file_that_is_empty_for_a_moment_does_not_turn_every_service_into_echo() {
    let at = loopback(9);
    let urls = [format!("tcp+lines://{at}:7000"), format!("tcp+lines://{at}:7001")];
    let whole = listener(&urls[0], "reply", "message = \"hi\"") + &listener(&urls[1], "discard", "");
    let settings = Settings::of(&whole);
    let server = settings.serve(2);
    for (number, text) in ["", "idle-after = \"1m\"\n"].into_iter().enumerate() {
        settings.write(text);
        server.signal(Signal::SIGHUP);
        let refusals = || server.log().iter().filter(|line| line.contains("not reloaded")).count();
        until("this refusal", || (refusals() > number).then_some(()));
        server.logs(
            "not reloaded, everything stays as it is: the configuration file says no longer where to listen",
        );
        let mut alice = Client::to(&urls[0]);
        alice.say("?\n");
        alice.hear("hi\n");
    }
    settings.write(&whole.replace("hi", "ho"));
    reload(&server);
    let mut alice = Client::to(&urls[0]);
    alice.say("?\n");
    alice.hear("ho\n");
    server.stop();
}

#[test]
fn a_socket_file_that_was_deleted_comes_back_at_a_reload() {
    let directory = Directory::new();
    let (path, url) = (directory.path("socket"), directory.url("unix", "socket"));
    let settings = Settings::of(&listener(&url, "echo", ""));
    let server = settings.serve(1);
    let mut alice = server.call();
    alice.echo("hello");
    fs::remove_file(&path).expect("it is there");
    reload(&server);
    server.call().echo("found again");
    alice.echo("I was here all the time");
    // Another process has put its own there: that is no place for us, and nothing changes.
    fs::remove_file(&path).expect("it is there");
    let other = std::os::unix::net::UnixListener::bind(&path).expect("the directory is ours");
    server.signal(Signal::SIGHUP);
    server.logs("not reloaded, everything stays as it is");
    alice.echo("still here");
    drop(other);
    server.stop();
    assert!(exists(&path), "it was not ours");
}

/// Standard output is a pipe whose reader is gone: what can't be announced is served all the same.
#[test]
fn a_reload_whose_ready_line_cannot_be_written_is_whole() {
    let at = loopback(1);
    let (tcp, udp) = (format!("tcp://{at}:7001"), format!("udp://{at}:7001"));
    let url = format!("tcp://{at}:7000");
    let settings = Settings::of(&listener(&url, "echo", ""));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = switchboard();
    command.args(["serve", "--config", &settings.path()]);
    let mut server = Server::start_with_output(&mut command, Stdio::from(writer));
    server.read_log();
    let mut alice = until("it to listen", || Client::try_to(&url).ok());
    alice.echo("hello");
    drop((reader, command));
    settings.write(
        &(listener(&url, "echo", "")
            + &listener(&tcp, "reply", "message = \"hi\"")
            + &listener(&udp, "echo", "")),
    );
    reload(&server);
    server.logs("reloaded: 1 listeners go on, 2 are new, 0 are gone");
    alice.echo("hello");
    let mut bob = Client::to(&tcp);
    bob.say("?");
    bob.hear("hi");
    let carol = datagrams_to(address(&udp));
    carol.send(b"hello").expect("it goes out");
    assert_eq!(carol.recv(&mut [0; 16]).ok(), Some(5));
    settings.write(&listener(&tcp, "echo", ""));
    reload(&server);
    Client::to(&tcp).echo("another service");
    server.stop();
}

/// Standard output is a pipe that is full, and stays so.
#[test]
fn ready_lines_that_nobody_reads_hold_up_neither_the_start_nor_a_reload() {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    nix::fcntl::fcntl(writer.as_fd(), nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).expect("it is empty");
    writer.write_all(&[b'.'; 4096]).expect("as much as it holds");
    let at = loopback(2);
    let url = |port: u16| format!("tcp://{at}:{port}");
    let settings = Settings::of(&listener(&url(7001), "echo", ""));
    let mut command = switchboard();
    command.args(["serve", "--config", &settings.path()]);
    let mut server = Server::start_with_output(&mut command, Stdio::from(writer));
    server.read_log();
    let mut alice = until("it to listen", || Client::try_to(&url(7001)).ok());
    alice.echo("hello");
    settings.write(&(listener(&url(7001), "echo", "") + &listener(&url(7002), "echo", "")));
    reload(&server);
    alice.echo("hello");
    Client::to(&url(7002)).echo("hello");
    server.stop();
    drop(reader);
}

/// What the settings name is a FIFO without a writer: reading it takes for ever.
#[test]
fn settings_that_cannot_be_read_to_the_end_hold_up_nobody() {
    let settings = Settings::of(&listener(TCP, "echo", ""));
    let server = settings.serve(1);
    let mut alice = server.call();
    fs::remove_file(settings.path()).expect("it is there");
    mkfifo(settings.path().as_str(), Mode::S_IRWXU).expect("the name is free");
    server.signal(Signal::SIGHUP);
    for _ in 0..20 {
        alice.echo("hello");
        server.call().echo("hello");
    }
    assert_eq!(times(&server, "reloaded"), 0, "it is still being read");
    // A second signal is remembered; and what comes through the FIFO at last holds.
    server.signal(Signal::SIGHUP);
    server.at_rest();
    fs::write(settings.path(), format!("log-level = \"debug\"\n{}", listener(TCP, "echo", "")))
        .expect("it is read");
    server.logs("reloaded: 1 listeners go on");
    alice.echo("hello");
    server.stop(); // the second one is being read
}

#[test]
fn an_access_log_that_is_a_fifo_holds_up_nobody() {
    let directory = Directory::new();
    let (log, root) = (directory.path("access.log"), directory.path("www"));
    fs::create_dir(&root).expect("the directory is ours");
    fs::write(root.join("a"), "0123456789").expect("the directory is ours");
    let text = format!("access-log = \"{}\"\n", log.display())
        + &listener("http://127.0.0.1:0", "web", &format!("root = \"{}\"", root.display()));
    let settings = Settings::of(&text);
    let server = settings.serve(1);
    get(server.url(), "/a");
    until("its line", || fs::read_to_string(&log).ok().filter(|text| text.contains("GET /a")));
    fs::rename(&log, directory.path("access.log.1")).expect("as logrotate does");
    mkfifo(&log, Mode::S_IRWXU).expect("the name is free");
    // Nobody reads it: it is refused.
    server.signal(Signal::SIGHUP);
    server.logs("cannot open it: No such device or address");
    assert!(get(server.url(), "/a").ends_with("0123456789"));
    // A reader is there, and reads nothing: lines that don't fit are dropped, and counted.
    let reader = File::options().read(true).write(true).open(&log).expect("both ends at once");
    nix::fcntl::fcntl(reader.as_fd(), nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).expect("it is empty");
    reload(&server);
    let mut alice = server.call();
    for _ in 0..200 {
        alice.say("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
        alice.hear_until("0123456789");
    }
    server.logs("the access log can't be written, its lines are dropped");
    let summary = server.summary();
    assert!(summary.of("access log lines dropped") > 50, "{summary:?}");
    // Nothing is logged any more where nobody wants it.
    settings.write(text.split_once('\n').expect("two lines").1);
    let descriptors = server.descriptors().len();
    reload(&server);
    until("the log to be closed", || (server.descriptors().len() == descriptors - 1).then_some(()));
    server.stop();
}

#[test]
fn reloads_with_other_directories_keep_no_descriptors() {
    let directory = Directory::new();
    let web = |round: usize| {
        let root = directory.path(&format!("release-{round}"));
        fs::create_dir(&root).expect("the directory is ours");
        listener("http://127.0.0.1:0", "web", &format!("root = \"{}\"", root.display()))
    };
    let settings = Settings::of(&web(0));
    let server = settings.serve(1);
    let mut alice = server.call();
    alice.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    alice.hear_until("404");
    let descriptors = server.descriptors().len();
    for round in 1..30 {
        settings.write(&web(round));
        reload(&server);
    }
    assert_eq!(server.descriptors().len(), descriptors);
    server.stop();
}

#[test]
fn reloads_that_move_a_listener_with_many_networks_keep_no_memory() {
    let directory = Directory::new();
    let denied = directory.path("denied");
    let networks: String = (0..20_000).map(|it| format!("10.{}.{}.0/24\n", it / 256, it % 256)).collect();
    fs::write(&denied, networks).expect("the directory is ours");
    let at = loopback(3);
    let moved = |round: u16| {
        let url = format!("tcp://{at}:{}", 7000 + round % 2);
        listener(&url, "echo", &format!("deny-file = \"{}\"", denied.display()))
    };
    let settings = Settings::of(&moved(0));
    let server = settings.serve(1);
    let rounds = |range: std::ops::Range<u16>| {
        for round in range {
            settings.write(&moved(round));
            reload(&server);
        }
        server.rss()
    };
    let (before, after) = (rounds(1..9), rounds(9..33));
    // One list takes more than a megabyte.
    assert!(after < before + 8 * MIB, "{before} bytes grow to {after}");
    server.stop();
}

/// An address that nothing else uses: each test process has some of its own, with all ports.
fn loopback(number: u32) -> String {
    let host = 0x7f40_0000 | (std::process::id() & 0xffff) << 4 | number;
    std::net::Ipv4Addr::from_bits(host).to_string()
}

// A property: whatever the settings were, and whatever they are now.

#[derive(Debug, Clone, PartialEq)]
struct One {
    place: usize,
    /// Raw bytes, lines or HTTP, where the place leaves the choice.
    framing: usize,
    service: usize,
    tunable: usize,
    denies: bool,
    metrics: bool,
}

const PLACES: usize = 4;

#[derive(Debug, Clone)]
struct Wanted {
    listeners: Vec<One>,
    connections_max: Option<u32>,
    access_log: bool,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let one = |place| {
        (0..3usize, 0..6usize, 0..2usize, any::<bool>(), any::<bool>()).prop_map(
            move |(framing, service, tunable, denies, metrics)| One {
                place,
                framing,
                service,
                tunable,
                denies,
                metrics,
            },
        )
    };
    let all = (0..PLACES).map(|place| prop::option::weighted(0.7, one(place))).collect::<Vec<_>>();
    (all, prop::option::of(20..40u32), any::<bool>()).prop_map(|(listeners, connections_max, access_log)| {
        Wanted { listeners: listeners.into_iter().flatten().collect(), connections_max, access_log }
    })
}

impl One {
    /// What this place and framing can have.
    fn service(&self) -> &'static str {
        let udp = ["echo", "reply", "discard", "relay", "echo", "relay"];
        let http = ["echo", "reply", "discard", "relay", "chat", "web"];
        let stream = ["echo", "reply", "discard", "source", "chat", "echo"];
        match (self.place, self.framing) {
            (3, _) => udp[self.service],
            (_, 2) => http[self.service],
            _ => stream[self.service],
        }
    }

    fn url(&self, at: &str, directory: &Directory) -> String {
        match (self.place, self.framing) {
            (0 | 1, 0) => format!("tcp://{at}:{}", 7000 + self.place),
            (0 | 1, 1) => format!("tcp+lines://{at}:{}", 7000 + self.place),
            (0 | 1, _) => format!("http://{at}:{}", 7000 + self.place),
            (2, 0) => directory.url("unix", "socket"),
            (2, 1) => directory.url("unix+lines", "socket"),
            (2, _) => directory.url("unix+http", "socket"),
            _ => format!("udp://{at}:7000"),
        }
    }

    fn text(&self, at: &str, directory: &Directory) -> String {
        let root = |number| directory.path(["a", "b"][number]).display().to_string();
        let tunable = match self.service() {
            "reply" => format!("message = \"{}\"", ["one", "two"][self.tunable]),
            "chat" => format!("messages-per-member = \"{}/50\"", 10 + self.tunable),
            "relay" => format!("tick = {}", 10 + self.tunable),
            "web" => format!("root = \"{}\"", root(self.tunable)),
            _ if self.place == 3 => format!("datagrams-per-ip = {}", 1000 + self.tunable),
            _ => format!("idle-after = \"{}m\"", 5 + self.tunable),
        };
        let denied = if self.denies && self.place != 2 { "deny = [\"127.0.0.9\"]\n" } else { "" };
        let metrics =
            if self.metrics && self.framing == 2 && self.place != 3 { "metrics = true\n" } else { "" };
        listener(&self.url(at, directory), self.service(), &format!("{denied}{metrics}{tunable}"))
    }
}

impl Wanted {
    fn text(&self, at: &str, directory: &Directory) -> String {
        let has_web = self.listeners.iter().any(|one| one.service() == "web");
        let has_streams = self.listeners.is_empty() || self.listeners.iter().any(|one| one.place != 3);
        let mut text = match self.connections_max {
            Some(most) if has_streams => format!("connections-max = {most}\n"),
            _ => String::new(),
        };
        if self.access_log && has_web {
            text += &format!("access-log = \"{}\"\n", directory.path("access.log").display());
        }
        if self.listeners.is_empty() {
            text += &format!("listen = \"tcp://{at}:7009\"\n");
        }
        self.listeners.iter().for_each(|one| text += &one.text(at, directory));
        text
    }

    fn at(&self, place: usize) -> Option<&One> {
        self.listeners.iter().find(|one| one.place == place)
    }

    fn count(&self) -> usize {
        self.listeners.len().max(1)
    }
}

/// A client at each stream listener, and one with an address that may be denied.
fn clients(wanted: &Wanted, at: &str, directory: &Directory) -> Vec<(usize, bool, Client)> {
    let mut clients = Vec::new();
    for one in wanted.listeners.iter().filter(|one| one.place != 3) {
        let url = one.url(at, directory);
        let mallory =
            |socket: &Socket| socket.bind(&address("tcp://127.0.0.9:0").into()).expect("it is ours");
        let url = url.replacen("http://", "tcp://", 1);
        clients.push((one.place, false, Client::to(&url)));
        if one.place != 2 && !one.denies {
            clients.push((one.place, true, Client::prepared(&url, mallory)));
        }
    }
    clients
}

#[test]
fn after_a_reload_everything_is_as_after_a_fresh_start_and_nobody_allowed_is_dropped() {
    // It ends in time on a slow machine, too.
    let began = Instant::now();
    let config = Config { cases: 16, failure_persistence: None, max_shrink_iters: 20, ..Config::default() };
    let outcome = TestRunner::new(config).run(&(wanted(), wanted()), |(first, second)| {
        if began.elapsed() < Duration::from_secs(15) {
            walk(&first, &second);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

fn walk(first: &Wanted, second: &Wanted) {
    let (at, directory) = (loopback(4), Directory::new());
    ["a", "b"].iter().for_each(|it| fs::create_dir(directory.path(it)).expect("the directory is ours"));
    let settings = Settings::of(&first.text(&at, &directory));
    let server = settings.serve(first.count());
    let mut there = clients(first, &at, &directory);
    let count = there.len() as u64;
    server.summary_until("all to be in", |summary| summary.of("open") == count);

    settings.write(&second.text(&at, &directory));
    reload(&server);
    assert_eq!(times(&server, "not reloaded"), 0, "{:#?}", server.log());
    let mut dismissed = 0;
    for (place, is_mallory, client) in &mut there {
        let is_denied = *is_mallory && second.at(*place).is_some_and(|one| one.denies);
        dismissed += u64::from(is_denied);
        if is_denied {
            client.hear_it_break();
        } else {
            assert!(client.is_still_connected(), "nobody forbids it: {first:?} {second:?}");
        }
    }
    let open = server.summary_until("those to be gone", |it| it.of("disallowed") == dismissed).of("open");
    assert_eq!(open, count - dismissed);
    check_services(second, &at, &directory);
    there.into_iter().for_each(|(_, _, client)| client.hang_up());
    server.summary_until("all to be gone", |summary| summary.of("open") == 0);
    let reloaded = account(&server, second, &at, &directory);
    server.stop();

    let fresh = settings.serve(second.count());
    check_services(second, &at, &directory);
    fresh.summary_until("all to be gone", |summary| summary.of("open") == 0);
    assert_eq!(reloaded, account(&fresh, second, &at, &directory), "{first:?} {second:?}");
    fresh.stop();
}

/// Each listener does what it is there for.
fn check_services(wanted: &Wanted, at: &str, directory: &Directory) {
    for one in &wanted.listeners {
        let url = one.url(at, directory);
        let end = if one.framing == 1 && one.place != 3 { "\n" } else { "" };
        let message = format!("{}{end}", ["one", "two"][one.tunable]);
        match (one.place, one.framing, one.service()) {
            (3, _, service @ ("echo" | "reply")) => {
                let client = datagrams_to(address(&url));
                client.send(b"four").expect("it goes out");
                let mut heard = [0; 16];
                let count = client.recv(&mut heard).expect("an answer");
                assert_eq!(
                    &heard[..count],
                    if service == "echo" { &b"four"[..] } else { message.as_bytes() }
                );
            }
            (3, ..) => {}
            (0 | 1, 2, "reply") => assert!(get(&url.replacen("http", "tcp", 1), "/").ends_with(&message)),
            (_, 0 | 1, "reply") => {
                let mut client = Client::to(&url);
                client.say("?\n");
                client.hear(&message);
            }
            (_, 0 | 1, "echo") => Client::to(&url).echo("hello\n"),
            _ => Client::to(&url.replacen("http://", "tcp://", 1)).hang_up(),
        }
    }
}

/// What the server holds when nobody is there: descriptors, and what it measures.
fn account(server: &Server, wanted: &Wanted, at: &str, directory: &Directory) -> (usize, BTreeSet<String>) {
    let measuring = wanted.listeners.iter().find(|one| one.metrics && one.framing == 2 && one.place < 2);
    let series =
        measuring.map(|one| series(&get(&one.url(at, directory).replacen("http", "tcp", 1), "/metrics")));
    server.summary_until("that one to be gone, too", |summary| summary.of("open") == 0);
    let stable = until("descriptors to rest", || {
        let count = server.descriptors().len();
        server.at_rest();
        (server.descriptors().len() == count).then_some(count)
    });
    (stable, series.unwrap_or_default())
}
