//! The hand-over: a new process takes the sockets of the old one, and nobody notices.
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use crate::support::*;

fn serve(path: &Path, arguments: &[&str], listeners: usize) -> Server {
    let mut command: Command = switchboard();
    command.args(["serve"]).args(arguments).arg("--take-over").arg(path);
    let mut server = Server::start_command(&mut command, listeners);
    server.read_log();
    // It waits for its own heir a moment after it has said that it listens.
    until("it to wait for an heir", || is_listening(path).then_some(()));
    server
}

/// Whether a socket listens at this path. (The path is there a moment earlier: bind(2) makes it, and listen(2) follows.)
fn is_listening(path: &Path) -> bool {
    const ACCEPTS: &str = "00010000";
    let sockets = std::fs::read_to_string("/proc/net/unix").expect("a Linux");
    let path = path.to_str().expect("it is text");
    sockets.lines().any(|line| line.ends_with(path) && line.split_whitespace().nth(3) == Some(ACCEPTS))
}

#[test]
fn an_heir_serves_on_the_same_sockets_and_the_predecessor_finishes_with_whom_it_has() {
    let directory = Directory::new();
    let path = directory.path("heir.sock");
    let unix = directory.url("unix", "echo.sock");
    let first = serve(&path, &["--listen", TCP, "--listen", &unix, "--listen", UDP], 3);
    let urls: Vec<String> = first.urls().to_vec();
    let (mut alice, mut bob) = (first.call(), first.call_at(1));
    alice.echo("hello");
    bob.echo("hello");

    let arguments: Vec<&str> = urls.iter().flat_map(|url| ["--listen", url]).collect();
    let second = serve(&path, &arguments, 3);
    assert_eq!(second.urls(), urls);
    first.logs("handed over: 2 connections stay");
    second.logs("taken over");
    // Those who were there stay with the first, as long as they like.
    alice.echo("still with the first");
    let (mut carol, mut dave) = (second.call(), second.call_at(1));
    carol.echo("with the second");
    dave.echo("with the second");
    let erin = datagrams_to(second.address(2));
    erin.send(b"with the second").expect("it goes out");
    assert_eq!(erin.recv(&mut [0; 64]).ok(), Some(15));
    alice.hang_up();
    bob.echo("alone with the first");
    bob.hang_up();
    let end = first.wait();
    assert_eq!(end.code, Some(0));
    assert_eq!(end.summary().of("accepted"), 2, "{:?}", end.summary());
    let summary = second.stop().summary();
    assert_eq!((summary.of("accepted"), summary.of("datagrams in")), (2, 1), "{summary:?}");
    assert!(!exists(&directory.path("echo.sock")) && !exists(&path), "the last one puts the files away");
}

#[test]
fn after_drain_for_who_is_still_there_is_finished() {
    let directory = Directory::new();
    let path = directory.path("heir.sock");
    let first = serve(&path, &["--listen", TCP, "--drain-for", "100ms"], 1);
    let mut alice = first.call();
    alice.echo("hello");
    let second = serve(&path, &["--listen", first.url()], 1);
    alice.hear_end();
    alice.hang_up();
    assert_eq!(first.wait().code, Some(0));
    second.stop();
}

#[test]
fn an_heir_that_fails_changes_nothing() {
    let directory = Directory::new();
    let path = directory.path("heir.sock");
    let first = serve(&path, &["--listen", TCP], 1);
    // One that takes the sockets, and dies.
    let mut heir = until("it to wait for an heir", || UnixStream::connect(&path).ok());
    let mut heard = [0; 64];
    let count = heir.read(&mut heard).expect("it is given something");
    assert!(heard[..count].starts_with(b"socket\n"));
    drop(heir);
    first.logs("the other process went away");
    // One that says something else.
    let mut stranger = until("it to wait for an heir", || UnixStream::connect(&path).ok());
    stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it is taken");
    // Another place can't be had.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let output = switchboard()
        .args(["serve", "--listen", &format!("tcp://{}", taken.local_addr().expect("it is bound"))])
        .arg("--take-over")
        .arg(&path)
        .output()
        .expect("it can be started");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    first.call().echo("as ever");
    first.stop();
}

/// Connects as an heir does, and hears all that it is given.
fn fake_heir(path: &Path, words: &[u8]) -> UnixStream {
    let mut heir = until("it to wait for an heir", || UnixStream::connect(path).ok());
    heir.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut heard = Vec::new();
    while !heard.ends_with(words) {
        let mut bytes = [0; 64];
        let count = heir.read(&mut bytes).expect("it is given something");
        assert_ne!(count, 0, "the end after {heard:?}");
        heard.extend_from_slice(&bytes[..count]);
    }
    heir
}

#[test]
fn two_heirs_at_once_each_get_an_answer_and_one_of_them_the_sockets() {
    let directory = Directory::new();
    let path = directory.path("heir.sock");
    let first = serve(&path, &["--listen", TCP], 1);
    until("it to wait for an heir", || is_listening(&path).then_some(()));
    first.pause();
    let mut heirs: Vec<UnixStream> =
        (0..3).map(|_| UnixStream::connect(&path).expect("there is room in the backlog")).collect();
    first.go_on();
    let mut answers: Vec<Vec<u8>> = Vec::new();
    for heir in &mut heirs {
        heir.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let mut heard = vec![0; 64];
        let count = heir.read(&mut heard).expect("each gets an answer");
        heard.truncate(count);
        answers.push(heard);
    }
    assert!(answers[0].starts_with(b"socket\n"), "{answers:?}");
    assert_eq!(answers[1..], [b"busy\n", b"busy\n"]);
    // A real one is told so in words.
    let output =
        switchboard().args(["serve", "--listen", TCP, "--take-over"]).arg(&path).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("another process takes over from process"), "{said}");
    assert_eq!(output.status.code(), Some(1));
    drop(heirs); // the first one fails after all
    first.logs("the other process went away");
    let second = serve(&path, &["--listen", first.url()], 1);
    assert_eq!(first.wait().code, Some(0));
    second.call().echo("hello");
    second.stop();
}

#[test]
fn an_heir_names_a_predecessor_that_is_stuck() {
    let directory = Directory::new();
    let path = directory.path("heir.sock");
    let first = serve(&path, &["--listen", TCP], 1);
    first.pause();
    let output = switchboard()
        .args(["serve", "--listen", first.url(), "--take-over"])
        .arg(&path)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let complaint = format!(
        "process {}, which listens there, has not answered for 5s: it is stopped or stuck",
        first.id()
    );
    assert!(said.contains(&complaint), "{said}");
    assert_eq!(output.status.code(), Some(1));
    first.go_on();
    first.call().echo("as ever");
    first.stop();
}

/// Between "end" and "taken", the heir may listen already: its socket needs its name.
#[test]
fn a_predecessor_that_is_stopped_in_the_middle_leaves_the_socket_file_to_its_heir() {
    let directory = Directory::new();
    let (path, unix) = (directory.path("heir.sock"), directory.path("echo.sock"));
    let first = serve(&path, &["--listen", &directory.url("unix", "echo.sock")], 1);
    let mut alice = first.call();
    alice.echo("hello");
    let mut heir = fake_heir(&path, b"end\n");
    first.signal(Signal::SIGTERM);
    alice.hear_end();
    first.logs("stopping");
    assert!(exists(&unix), "the heir's socket has lost its name");
    // It is answered to its last moment.
    heir.write_all(b"taken\n").expect("it is there");
    let mut answer = Vec::new();
    let _ = heir.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer == b"yours\n", "{answer:?}");
    alice.hang_up();
    assert_eq!(first.wait().code, Some(0));
    assert!(exists(&unix) && !exists(&path));
}

#[test]
fn an_heir_that_fails_leaves_the_socket_files_to_its_predecessor() {
    let directory = Directory::new();
    let path = directory.path("heir.sock");
    let unix = directory.url("unix", "echo.sock");
    let first = serve(&path, &["--listen", &unix], 1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let other = format!("tcp://{}", taken.local_addr().expect("it is bound"));
    let output = switchboard()
        .args(["serve", "--listen", &unix, "--listen", &other, "--take-over"])
        .arg(&path)
        .output()
        .expect("it can be started");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    first.call().echo("its file is still there");
    first.stop();
}

/// Connections and files have taken all descriptors: there is a reserve for settings and for an heir.
#[test]
fn out_of_descriptors_settings_are_reloaded_and_an_heir_is_given_the_sockets() {
    let directory = Directory::new();
    let path = directory.path("heir.sock");
    let config = directory.path("switchboard.toml");
    let text = |more: &str| format!("{more}[[listener]]\nurl = \"tcp://127.0.0.1:0\"\n");
    std::fs::write(&config, text("")).expect("the directory is ours");
    let first = serve(&path, &["--config", config.to_str().expect("a plain path")], 1);
    let mut alice = first.call();
    alice.echo("hello");
    first.limit_descriptors(first.next_descriptor());
    let mut waiting = first.call();
    first.logs("accepting pauses");
    std::fs::write(&config, text("log-level = \"debug\"\n[[listener]]\nurl = \"tcp://127.0.0.1:0\"\n"))
        .expect("ours");
    first.signal(Signal::SIGHUP);
    first.logs("reloaded: 1 listeners go on, 1 are new, 0 are gone");
    waiting.hear_nothing_for(std::time::Duration::from_millis(200));
    let second = serve(&path, &["--listen", first.url()], 1);
    second.logs("taken over");
    waiting.echo("with the second");
    alice.echo("with the first");
    alice.hang_up();
    assert_eq!(first.wait().code, Some(0));
    second.stop();
}

/// Needs root, to be another user.
#[test]
fn a_process_of_another_user_takes_nothing_over_and_hands_nothing_over() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let directory = Directory::new();
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let path = directory.path("heir.sock");
    let first = serve(&path, &["--listen", TCP], 1);
    let mut command = switchboard();
    command.args(["serve", "--listen", TCP, "--take-over"]).arg(&path).uid(NOBODY);
    if Command::new("true").uid(NOBODY).status().is_err() {
        first.stop();
        return println!("skipped: only root can be another user");
    }
    open(&directory.path(""), 0o777);
    open(&path, 0o666); // as if somebody had opened it
    let Ok(output) = command.output() else {
        first.stop();
        return println!("skipped: another user can't start the program");
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("runs as another user: start both as the same user"), "{said}");
    first.logs("not handed over to process");
    first.stop();

    // The other way round: what listens there could be a trap.
    let path = directory.path("trap.sock");
    let mut command = switchboard();
    command.args(["serve", "--listen", TCP, "--take-over"]).arg(&path).uid(NOBODY);
    let trap = Server::start_command(&mut command, 1);
    until("it to wait for an heir", || is_listening(&path).then_some(()));
    let output =
        switchboard().args(["serve", "--listen", TCP, "--take-over"]).arg(&path).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains(&format!("runs as user {NOBODY}, and this one as 0: start both as the same user")),
        "{said}"
    );
    trap.stop();
}

#[test]
fn a_directory_that_is_not_there_is_named_before_anybody_is_told_that_we_listen() {
    let output = switchboard()
        .args(["serve", "--listen", TCP, "--take-over", "/no/such/heir.sock"])
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--take-over /no/such/heir.sock: make its directory first"), "{said}");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b""[..]));
}

#[test]
fn who_does_not_hand_over_is_named() {
    let directory = Directory::new();
    let path = directory.path("other.sock");
    let other = UnixListener::bind(&path).expect("the directory is ours");
    let answering = std::thread::spawn(move || {
        let (mut caller, _) = other.accept().expect("it calls");
        caller.write_all(b"220 smtp.example.com\r\n").expect("it listens");
    });
    let output = switchboard()
        .args(["serve", "--listen", TCP, "--take-over"])
        .arg(&path)
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(", which listens there, is no switchboard that hands over"), "{said}");
    assert_eq!(output.status.code(), Some(1));
    answering.join().expect("it said its line");
}

/// `bench` checks every reply, and connects again for each: what is refused or lost shows.
#[cfg(feature = "load")]
#[test]
fn ten_hand_overs_under_load_refuse_nobody_and_lose_nothing() {
    let directory = Directory::new();
    let path = directory.path("heir.sock");
    let report = directory.path("report.json");
    let mut server = serve(&path, &["--listen", TCP], 1);
    let url = server.url().to_owned();
    let mut bench = switchboard();
    bench.args(["bench", &url, "--churn", "--connections", "8", "--duration", "60s", "--warmup", "off"]);
    bench.args(["--no-self-test", "--quiet", "--json"]).arg(&report);
    let mut bench = Server::start_command(&mut bench, 0);
    bench.read_log();
    for _ in 0..10 {
        server.summary_until("the load to reach this process", |summary| summary.of("accepted") >= 100);
        let heir = serve(&path, &["--listen", &url], 1);
        let end = server.wait();
        assert_eq!(end.code, Some(0));
        assert_eq!(end.summary().of("cut"), 0, "{:?}", end.summary());
        server = heir;
    }
    server.summary_until("the load to reach the last", |summary| summary.of("accepted") >= 100);
    bench.signal(Signal::SIGINT);
    assert_eq!(bench.wait().code, Some(130)); // as the shell has it
    server.stop();
    let text = std::fs::read_to_string(&report).expect("it was written");
    let report: switchboard::load::report::Report = serde_json::from_str(&text).expect("it is a report");
    assert_eq!(report.failures, Default::default(), "{:#?}", report.failures);
    assert!(report.replies > 1000, "{}", report.replies);
}
