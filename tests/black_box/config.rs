//! The configuration file: what it says is what runs, the command line wins, mistakes are named with their place,
//! and SIGHUP changes what has changed without dropping anyone.
#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::*;

/// A file in a directory of its own.
struct Config {
    directory: Directory,
}

impl Config {
    fn of(text: &str) -> Config {
        let config = Config { directory: Directory::new() };
        config.write(text);
        config
    }

    fn path(&self) -> String {
        self.directory.path("switchboard.toml").display().to_string()
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("the directory is ours");
    }

    /// Runs it; `listeners` ready lines are awaited.
    fn serve(&self, listeners: usize) -> Server {
        let mut server =
            Server::start_command(switchboard().args(["serve", "--config", &self.path()]), listeners);
        server.read_log();
        server
    }

    fn check(&self) -> Output {
        switchboard().args(["check", "--config", &self.path()]).output().expect("it can be started")
    }
}

/// Sends SIGHUP, and waits until it has been heeded.
fn reload(server: &Server) {
    let heeded = |log: &[String]| log.iter().filter(|line| line.contains("reloaded")).count();
    let before = heeded(&server.log());
    server.signal(Signal::SIGHUP);
    until("the reload", || (heeded(&server.log()) > before).then_some(()));
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it speaks UTF-8")
}

const TWO: &str = r#"
[[listener]]
url = "tcp+lines://127.0.0.1:0"
service = "reply"
message = "Come in!"

[[listener]]
url = "tcp://127.0.0.1:0"
service = "echo"

[[listener]]
url = "udp://127.0.0.1:0"
service = "reply"
message = "Who?"
"#;

#[test]
fn each_listener_has_its_own_service() {
    let server = Config::of(TWO).serve(3);
    let (mut alice, mut bob) = (server.call_at(0), server.call_at(1));
    alice.say("hello\n");
    alice.hear("Come in!\n");
    bob.echo("hello");
    alice.say("again\n");
    alice.hear("Come in!\n");
    let carol = datagrams_to(server.address(2));
    carol.send(b"????").expect("it goes out");
    let mut answer = [0; 16];
    assert_eq!(carol.recv(&mut answer).map(|count| &answer[..count]).ok(), Some(&b"Who?"[..]));
    server.stop();
}

#[test]
fn a_listener_has_limits_of_its_own() {
    let config = r#"
        message-bytes-max = "16B"
        [[listener]]
        url = "tcp+lines://127.0.0.1:0"
        [[listener]]
        url = "tcp+lines://127.0.0.1:0"
        message-bytes-max = "64B"
        connections-max = 1
    "#;
    let server = Config::of(config).serve(2);
    let (mut alice, mut bob) = (server.call_at(0), server.call_at(1));
    bob.echo("a line of more than sixteen bytes\n");
    alice.say("a line of more than sixteen bytes\n");
    alice.hear("error: a message of more than 16 bytes\n");
    let mut waiting = server.call_at(1);
    waiting.say("me, too\n");
    server.logs("1 connections of listener 1 are open, the most allowed");
    drop(bob);
    waiting.hear("me, too\n");
    server.stop();
}

#[test]
fn the_command_line_wins_over_the_file() {
    let config = Config::of(TWO);
    let arguments = ["serve", "reply", "--message", "No.", "--config", &config.path()];
    let mut server = Server::start_command(switchboard().args(arguments), 3);
    server.read_log();
    let mut bob = server.call_at(1);
    bob.say("hello");
    bob.hear("No.");
    server.stop();

    let arguments = ["serve", "--listen", TCP, "--config", &config.path()];
    let mut server = Server::start_command(switchboard().args(arguments), 1);
    server.read_log();
    server.call().echo("the file's listeners are not there");
    server.stop();
}

#[test]
fn check_says_what_would_run_and_binds_nothing() {
    let port = free_port();
    let config =
        Config::of(&format!("[[listener]]\nurl = \"tcp://127.0.0.1:{port}\"\nservice = \"source\"\n"));
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    let output = config.check();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains(&format!("tcp://127.0.0.1:{port} source (")), "{said}");
    assert!(said.contains("switchboard.toml:1:1)") && said.contains("idle 300s"), "{said}");

    let tcp = "[[listener]]\nurl = \"tcp://127.0.0.1:9\"\nallow = [\"10.0.0.0/8\", \"::1\"]\ndeny = \"10.1.0.0/16\"\n\
               proxy-protocol = \"10.2.0.0/16\"\nconnections-per-ip-max = 20\naccepts-per-ip = \"10/50\"\n\
               bytes-per-s = \"1MiB\"\n";
    let guard = ", networks allowed: 2 and no others, networks denied: 1, networks of proxies: 1, 20 connections per \
                 address, 10/50 new ones a second per address, 1048576 bytes a second per connection\n";
    let udp = "[[listener]]\nurl = \"udp://127.0.0.1:9\"\ndatagrams-per-ip = \"100\"\namplify = true\n";
    let datagrams = ", 100/100 datagrams a second per address, datagrams answered at any length\n";
    for (listener, guard) in [(tcp, guard), (udp, datagrams)] {
        let output = Config::of(listener).check();
        let said = text(&output.stdout);
        assert!(said.ends_with(guard), "{said} {output:?}");
    }
    let rooms = "[[listener]]\nurl = \"tcp://127.0.0.1:9\"\nservice = \"chat\"\nmessages-per-member = 5\nslow-readers = \"close\"\n\
                 [[listener]]\nurl = \"udp://127.0.0.1:9\"\nservice = \"relay\"\ntick = 60\n";
    let output = Config::of(rooms).check();
    let said = text(&output.stdout);
    assert!(
        said.contains("tcp+lines://127.0.0.1:9 chat (")
            && said.contains("5/5 messages a second per member, 1000 rooms, slow readers: close"),
        "{said}"
    );
    assert!(said.ends_with("60 ticks a second, 1000 players\n"), "{said}");
}

/// What is said of each wrong file, word by word: `tests/black_box/config_mistakes.txt`. Where a change is wanted, the test has
/// written the new text to the place that it names.
#[test]
fn mistakes_are_named_with_file_line_and_column() {
    let expected = include_str!("config_mistakes.txt");
    let mut found = String::new();
    for case in expected.split("=== the file\n").skip(1) {
        let config = case.split("=== is told\n").next().unwrap_or_default();
        let file = Config::of(config);
        let serve = switchboard().args(["serve", "--config", &file.path()]).output().expect("it starts");
        let said = text(&serve.stderr).replace(&file.path(), "switchboard.toml");
        assert_eq!(said.lines().count(), 1, "{config:?}: {said}");
        for output in [file.check(), serve] {
            assert_eq!(text(&output.stderr).replace(&file.path(), "switchboard.toml"), said, "{config:?}");
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""), "{said}");
        }
        found += &format!("=== the file\n{config}=== is told\n{said}\n");
    }
    if found != expected {
        let new = std::env::temp_dir().join("config_mistakes.txt");
        fs::write(&new, &found).expect("it can be written");
        panic!("something else is said: compare tests/black_box/config_mistakes.txt with {}", new.display());
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = switchboard().args(["check", "--config", "/no/such.toml"]).output().expect("it starts");
    let said = text(&output.stderr);
    assert!(said.contains("/no/such.toml: cannot read it: No such file"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_reload_adds_and_removes_listeners_and_drops_nobody() {
    let ports = [free_port(), free_port()];
    let listener = |port: u16, service: &str| {
        format!("[[listener]]\nurl = \"tcp://127.0.0.1:{port}\"\nservice = \"{service}\"\n")
    };
    let config = Config::of(&listener(ports[0], "echo"));
    let server = config.serve(1);
    let mut alice = server.call();
    alice.echo("before");

    config.write(&(listener(ports[0], "echo") + &listener(ports[1], "discard")));
    reload(&server);
    let urls = ports.map(|port| format!("tcp://127.0.0.1:{port}"));
    let mut bob = Client::to(&urls[1]);
    bob.say("to nobody");
    alice.echo("meanwhile");

    config.write(&listener(ports[1], "discard"));
    reload(&server);
    alice.echo("her listener is gone, she is not");
    assert!(Client::try_to(&urls[0]).is_err(), "nobody listens there");
    bob.say("still to nobody");

    // Another service on the same socket: those who are there keep the one they have.
    config.write(&listener(ports[1], "echo"));
    reload(&server);
    Client::to(&urls[1]).echo("to myself");
    bob.say("to nobody, as ever");
    bob.half_close();
    bob.hear_end();
    alice.echo("after");
    let end = server.stop();
    assert_eq!(end.summary().of("accepted"), 3, "{:?}", end.summary());
}

#[test]
fn a_reload_gives_new_limits_to_those_who_are_there() {
    let with = |limits: &str| format!("{limits}\n[[listener]]\nurl = \"tcp+lines://127.0.0.1:0\"\n");
    let config = Config::of(&with(""));
    let server = config.serve(1);
    let mut alice = server.call();
    alice.echo("hello\n");
    config.write(&with("idle-after = \"50ms\"\nlog-level = \"debug\"\nmessage-bytes-max = \"8B\""));
    reload(&server);
    alice.hear_end();
    server.logs("closed: idle");
    let mut bob = server.call();
    bob.say("more than eight bytes\n");
    bob.hear("error: a message of more than 8 bytes\n");
    server.stop();
}

#[test]
fn another_framing_on_the_same_socket_refuses_nobody() {
    let port = free_port();
    let with = |scheme: &str| format!("[[listener]]\nurl = \"{scheme}://127.0.0.1:{port}\"\n");
    let config = Config::of(&with("tcp"));
    let server = config.serve(1);
    let mut alice = server.call();
    alice.echo("raw");
    server.pause();
    config.write(&with("tcp+lines"));
    server.signal(Signal::SIGHUP);
    server.go_on();
    server.logs("reloaded: 1 listeners go on, 0 are new, 0 are gone");
    let mut bob = server.call();
    bob.say("half a ");
    alice.echo("raw");
    bob.say("line\n");
    bob.hear("half a line\n");
    server.stop();
}

#[test]
fn a_reload_that_forbids_somebody_dismisses_him_and_nobody_else() {
    let with = |deny: &str| format!("{deny}\n[[listener]]\nurl = \"tcp://127.0.0.1:0\"\n");
    let config = Config::of(&with(""));
    let server = config.serve(1);
    let mut alice = server.call();
    let mut mallory = Client::prepared(server.url(), |socket| {
        socket.bind(&address("tcp://127.0.0.9:0").into()).expect("it is ours")
    });
    alice.echo("hello");
    mallory.echo("hello");
    config.write(&with("deny = [\"127.0.0.9\"]"));
    reload(&server);
    mallory.hear_end();
    mallory.hang_up();
    alice.echo("still here");
    let summary = server.summary_until("its end", |summary| summary.of("closed") >= 1);
    assert_eq!(summary.of("disallowed"), 1, "{summary:?}");
    server.stop();
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let config = Config::of("[[listener]]\nurl = \"tcp://127.0.0.1:0\"\n");
    let server = config.serve(1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it is bound").port();
    for (bad, why) in [
        ("[[listener]]\nurl = \"tcp://127.0.0.1:0\"\nidle = \"5s\"\n".to_owned(), "switchboard.toml:3:1"),
        (format!("idle-after=\"1ms\"\n[[listener]]\nurl = \"tcp://127.0.0.1:{port}\"\n"), "cannot listen on"),
    ] {
        let mut alice = server.call();
        config.write(&bad);
        server.signal(Signal::SIGHUP);
        server.logs(why);
        alice.echo("still here");
        server.call().echo("and so is the listener");
    }
    fs::remove_file(Path::new(&config.path())).expect("it is ours");
    server.signal(Signal::SIGHUP);
    server.logs("cannot read it");
    server.call().echo("even without a file");
    server.stop();
}

/// `bench` checks every reply, and connects again for each where it churns: what is refused, cut off or not answered shows.
#[cfg(all(feature = "load", feature = "tls"))]
#[test]
fn twenty_reloads_under_load_refuse_nobody_and_lose_nothing() {
    let port = free_port();
    let directory = Directory::new();
    let denied = directory.path("denied");
    let denied = denied.to_str().expect("a plain path");
    // Everything that can change does, but what those who are there have a right to.
    let settings = |round: usize| {
        let networks: String = (0..round).map(|number| format!("198.51.100.{number}\n")).collect();
        fs::write(denied, networks).expect("the directory is ours");
        let mut text = format!(
            "connections-max = {}\nidle-after = \"{}s\"\nlog-level = \"{}\"\ndeny-file = [\"{denied}\"]\n\
             [[listener]]\nurl = \"tcp://127.0.0.1:0\"\nconnections-per-ip-max = {}\nservice = \"echo\"\n\
             [[listener]]\nurl = \"tls://127.0.0.1:0\"\nself-signed = true\nhandshake-within = \"{}s\"\n",
            100 + round,
            20 + round,
            ["info", "debug"][round % 2],
            50 + round,
            10 + round,
        );
        match round % 4 {
            0 => text.push_str("bytes-per-s = \"1GiB\"\n"),
            1 => text.push_str(&format!("[[listener]]\nurl = \"tcp+lines://127.0.0.1:{port}\"\n")),
            2 => text
                .push_str(&format!("[[listener]]\nurl = \"tcp://127.0.0.1:{port}\"\nservice = \"reply\"\n")),
            _ => text.push_str(&format!("[[listener]]\nurl = \"udp://127.0.0.1:{port}\"\n")),
        }
        text
    };
    let config = Config::of(&settings(0));
    let server = config.serve(2);
    let loads = [
        (0, &["--churn"][..]),
        (0, &["--depth", "4"]),
        (1, &["--insecure", "--churn"]),
        (1, &["--insecure"]),
    ];
    let mut benches = Vec::new();
    for (number, (listener, options)) in loads.into_iter().enumerate() {
        let report = directory.path(&format!("report-{number}.json"));
        let mut bench = switchboard();
        bench
            .args(["bench", &server.urls()[listener], "--connections", "4", "--duration", "60s"])
            .args(options);
        bench.args(["--warmup", "off", "--no-self-test", "--json"]).arg(&report);
        let mut running = Server::start_command(&mut bench, 0);
        running.read_log();
        benches.push((running, report));
    }
    for (bench, _) in &benches {
        bench.log_until("progress of each load", |lines| {
            let is_served = |line: &String| line.starts_with("measuring") && !line.contains(": 0/s");
            lines.iter().any(is_served).then_some(())
        });
    }
    let mut accepted = 0;
    for round in 1..=20 {
        config.write(&settings(round));
        reload(&server);
        let log = server.log();
        let last = log.iter().rfind(|line| line.contains("reloaded")).expect("it was heeded");
        assert!(last.contains(" reloaded: "), "{last}");
        let more = |summary: &Summary| summary.of("accepted") >= accepted + 20;
        accepted = server.summary_until("more of the load", more).of("accepted");
    }
    for (bench, report) in benches {
        bench.signal(Signal::SIGINT);
        assert_eq!(bench.wait().code, Some(130)); // as the shell has it
        let text = fs::read_to_string(&report).expect("it was written");
        let report: switchboard::load::report::Report = serde_json::from_str(&text).expect("it is a report");
        assert_eq!(report.failures, Default::default(), "{:#?}", report.failures);
        assert!(report.replies > 0, "{}", report.replies);
    }
    let summary = server.stop().summary();
    assert_eq!(summary.of("disallowed") + summary.of("cut") + summary.of("refused"), 0, "{summary:?}");
}
