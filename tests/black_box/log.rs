//! The log waits for the clients, and never the other way round; and no peer writes into it.
#![cfg(feature = "cli")]

use std::process::Command;

use crate::support::*;

/// More records than the log's queue and its pipe hold.
fn make_it_talkative(server: &Server) {
    for _ in 0..1000 {
        server.call().reset(); // one record for its coming, one for its going
    }
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    for level in ["debug", "trace"] {
        let server = Server::start_unheard(&["serve", "--listen", TCP, "--log-level", level]);
        let mut alice = server.call();
        make_it_talkative(&server);
        alice.echo("I am served as ever");
        server.call().echo("and so are new ones");
        server.signal(Signal::SIGTERM);
        alice.hear_end();
        alice.hang_up();
        assert_eq!(server.wait().code, Some(0));
    }
}

#[test]
fn records_that_find_no_room_are_counted() {
    let mut server = Server::start_unheard(&["serve", "--listen", TCP, "--log-level", "debug"]);
    make_it_talkative(&server);
    server.call().echo("everybody before me has been accepted"); // and logged, or not
    server.read_log();
    // The queue is full until the writer gets on: the first askings may go unheard, too.
    let summary = until("a summary", || {
        server.signal(Signal::SIGUSR1);
        server.log().into_iter().find(|line| line.contains("summary: "))
    });
    let (_, dropped) = summary.split_once("log records dropped ").unwrap();
    assert!(dropped.parse::<u64>().unwrap() > 0, "{summary}");
    until("the beginning of the burst, which the queue could hold", || {
        let logged = server.log().iter().filter(|line| line.contains(" open")).count();
        (logged >= 500).then_some(())
    });
}

#[test]
fn a_log_whose_reader_is_gone_harms_nobody() {
    let mut server = Server::start_unheard(&["serve", "--listen", TCP, "--log-level", "trace"]);
    server.break_log();
    let mut alice = server.call();
    for _ in 0..100 {
        server.call().echo("hello");
        alice.echo("hello");
    }
    server.signal(Signal::SIGTERM);
    alice.hear_end();
    alice.hang_up();
    assert_eq!(server.wait().code, Some(0));
}

/// Runs it with a descriptor closed by the shell.
fn start_without(redirection: &str, url: &str, listeners: usize) -> Server {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!(r#"exec "$@" {redirection}"#), "sh", env!("CARGO_BIN_EXE_switchboard")])
        .args(["serve", "--log-level", "trace", "--listen", url]);
    let mut server = Server::start_command(&mut command, listeners);
    server.read_log();
    server
}

#[test]
fn without_a_working_standard_error_it_serves_as_ever() {
    for redirection in ["2>&-", "2>/dev/full"] {
        let server = start_without(redirection, TCP, 1);
        let mut alice = server.call();
        alice.echo("hello");
        server.call().echo("hello");
        server.signal(Signal::SIGTERM);
        alice.hear_end();
        alice.hang_up();
        let end = server.wait();
        assert_eq!((end.code, end.log), (Some(0), Vec::new()), "{redirection}");
    }
}

/// Who closes it does not want to be told where it listens, and knows.
#[test]
fn without_standard_output_and_input_it_serves_as_ever() {
    let directory = Directory::new();
    for redirection in [">&-", "<&-", "<&- >&- 2>&-"] {
        let url = directory.url("unix", "socket");
        let server = start_without(redirection, &url, usize::from(redirection == "<&-"));
        let mut alice = until("it to listen", || Client::try_to(&url).ok());
        alice.echo("hello");
        server.signal(Signal::SIGTERM);
        alice.hear_end();
        alice.hang_up();
        assert_eq!(server.wait().code, Some(0));
    }
}

#[test]
fn what_peers_say_never_reaches_the_log() {
    let directory = Directory::new();
    let unix = directory.url("unix+lines", "socket");
    let listen =
        ["--listen", TCP, "--listen", LINES, "--listen", PREFIXED, "--listen", &unix, "--listen", UDP];
    let arguments = [&["serve", "--log-level", "trace", "--message-bytes-max", "100"], &listen[..]].concat();
    let server = Server::start(&arguments);
    let evil = "\x1b[31mEVIL\x07\r\0\n2026-01-01T00:00:00.000Z ERROR [switchboard] EVIL\n";
    let long = format!("{}{evil}", "EVIL".repeat(100));
    for listener in 0..4 {
        for said in [evil, &long] {
            let mut client = server.call_at(listener);
            client.say(said);
            client.half_close();
            client.hear_until_the_end();
            let mut client = server.call_at(listener);
            client.say(said);
            client.reset();
        }
    }
    let datagrams = datagrams_to(server.address(4));
    datagrams.send(evil.as_bytes()).unwrap();
    datagrams.recv(&mut [0; 200]).unwrap();
    let end = server.stop();
    assert!(end.log.iter().any(|line| line.contains("violation")), "it is logged that somebody misbehaved");
    for line in &end.log {
        assert!(!line.contains("EVIL") && !line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn a_log_level_on_the_command_line_wins_over_rust_log() {
    let log = |rust_log: &str, arguments: &[&str]| {
        let mut command = switchboard();
        command.args(["serve", "--listen", TCP]).args(arguments).env("RUST_LOG", rust_log);
        let mut server = Server::start_command(&mut command, 1);
        server.read_log();
        server.call().echo("hello");
        server.stop().log
    };
    let has = |log: &[String], level: &str| log.iter().any(|line| line.contains(level));
    assert_eq!(log("off", &[]), Vec::<String>::new());
    assert!(has(&log("", &[]), " INFO "));
    let debug = log("debug", &[]);
    assert!(has(&debug, " DEBUG ") && has(&debug, " INFO "), "{debug:#?}");
    let info = log("off", &["--log-level", "info"]);
    assert!(has(&info, " INFO ") && !has(&info, " DEBUG "), "{info:#?}");
    assert_eq!(log("trace", &["--log-level", "off"]), Vec::<String>::new());
}

#[test]
fn rust_log_with_targets_starts_and_is_heeded() {
    let log = |rust_log: &str| {
        let mut command = switchboard();
        command.args(["serve", "--listen", TCP]).env("RUST_LOG", rust_log);
        let mut server = Server::start_command(&mut command, 1);
        server.read_log();
        server.call().echo("hello");
        server.stop().log
    };
    let has = |log: &[String], level: &str| log.iter().any(|line| line.contains(level));
    assert!(has(&log("switchboard=debug"), " DEBUG [switchboard::"));
    let quiet = log("debug,switchboard::service=warn");
    assert!(!has(&quiet, "[switchboard::service") && has(&quiet, " INFO "), "{quiet:#?}");
    for others in ["info,mio=warn", "hyper=trace"] {
        let log = log(others);
        assert!(has(&log, " INFO ") && !has(&log, " DEBUG "), "{log:#?}");
    }
}

/// The parent process does not read standard error at all, and it is full before we begin.
#[test]
fn a_log_that_is_full_from_the_beginning_holds_up_no_start() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, &[b'.'; 65536]).unwrap();
    let mut child = switchboard();
    child.args(["serve", "--listen", TCP]).stdin(std::process::Stdio::null()).stderr(writer);
    let mut server = Server::start_with_error_elsewhere(&mut child);
    server.call().echo("hello");
    assert!(server.is_running());
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code, Some(0));
    drop(reader);
}
