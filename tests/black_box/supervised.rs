//! Under a supervisor: sockets that were there before us (LISTEN_FDS), and what it is told (NOTIFY_SOCKET).
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::*;

/// `switchboard serve` with these arguments, and this socket as its descriptor 3, as systemd does it.
fn activated(socket: OwnedFd, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" serve \"$@\"";
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_switchboard")])
        .args(arguments)
        .stdin(Stdio::from(socket));
    command
}

#[test]
fn a_socket_that_was_passed_is_served_with_those_who_wait_in_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("tcp://{}", listener.local_addr().expect("it is bound"));
    let mut early = Client::to(&url);
    early.say("before anybody listened");
    for arguments in [&[][..], &["--listen", &url]] {
        let socket = listener.try_clone().expect("a descriptor is free");
        let mut server = Server::start_activated(&mut activated(socket.into(), arguments), 1);
        server.read_log();
        assert_eq!(server.url(), url);
        if arguments.is_empty() {
            early.hear("before anybody listened");
        }
        server.call().echo("hello");
        server.stop();
        // systemd keeps its own descriptor: nobody is refused between two of us.
        assert!(Client::try_to(&url).is_ok());
    }
}

#[test]
fn the_file_of_a_socket_that_was_passed_is_not_ours() {
    let directory = Directory::new();
    let path = directory.path("echo.sock");
    let listener = UnixListener::bind(&path).expect("the directory is ours");
    let mut server = Server::start_activated(&mut activated(listener.into(), &[]), 1);
    server.read_log();
    server.call().echo("hello");
    server.stop();
    assert!(exists(&path));
}

#[test]
fn a_socket_for_which_there_is_no_listener_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let mut server = Server::start_activated(&mut activated(listener.into(), &["--listen", TCP]), 1);
    server.read_log();
    server.logs(&format!("{address} was passed to us, and no listener is wanted there"));
    server.stop();
}

#[test]
fn something_else_that_was_passed_is_an_error() {
    let (one, _other) = UnixDatagram::pair().expect("two ends");
    let output = activated(one.into(), &[]).output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    let complaint = said.lines().last().unwrap_or_default();
    assert!(complaint.starts_with("switchboard: LISTEN_FDS: descriptor 3 can't be served"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

/// Receives the next notification.
fn notification(supervisor: &UnixDatagram) -> String {
    let mut bytes = [0; 512];
    let count = supervisor.recv(&mut bytes).expect("it is told something");
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

#[test]
fn the_supervisor_is_told_when_we_are_ready_reload_and_stop() {
    let directory = Directory::new();
    let path = directory.path("notify");
    let supervisor = UnixDatagram::bind(&path).expect("the directory is ours");
    supervisor.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut command = switchboard();
    command.args(["serve", "--listen", TCP]).env("NOTIFY_SOCKET", &path);
    let mut server = Server::start_command(&mut command, 1);
    server.read_log();
    assert!(notification(&supervisor).contains("READY=1\n"));
    server.signal(Signal::SIGHUP);
    let reloading = notification(&supervisor);
    assert!(reloading.contains("RELOADING=1\n") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
    assert!(notification(&supervisor).contains("READY=1\n"));
    server.stop();
    assert!(notification(&supervisor).contains("STOPPING=1\n"));
}

#[test]
fn the_watchdog_hears_that_the_loop_turns_and_nothing_when_it_hangs() {
    let directory = Directory::new();
    let path = directory.path("notify");
    let supervisor = UnixDatagram::bind(&path).expect("the directory is ours");
    supervisor.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut command = switchboard();
    command.args(["serve", "--listen", TCP]).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    let server = Server::start_command(&mut command, 1);
    assert!(notification(&supervisor).contains("READY=1\n"));
    for _ in 0..3 {
        assert_eq!(notification(&supervisor), "WATCHDOG=1\n");
    }
    server.pause();
    supervisor.set_nonblocking(true).expect("the socket is ours");
    while supervisor.recv(&mut [0; 64]).is_ok() {}
    supervisor.set_nonblocking(false).expect("the socket is ours");
    supervisor.set_read_timeout(Some(std::time::Duration::from_millis(400))).expect("not zero");
    assert!(supervisor.recv(&mut [0; 64]).is_err(), "a process that is stopped says that it turns");
    server.go_on();
    supervisor.set_read_timeout(Some(PATIENCE)).expect("not zero");
    assert_eq!(notification(&supervisor), "WATCHDOG=1\n");
    server.stop();
}

/// Starts it as systemd would, with this socket as descriptor 3, and this process as the one it is for.
fn started_with(socket: std::os::fd::OwnedFd, pid: &str, listen: &str) -> (Option<i32>, String) {
    let script =
        format!("exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID={pid}; exec \"$0\" serve \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(switchboard().get_program()).args(["--listen", listen]);
    let output = command.stdin(Stdio::from(socket)).output().expect("a shell");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The port is taken by the socket that was passed to us: who reads the error must not look for another process.
#[test]
fn an_error_names_the_passed_sockets_that_no_listener_matches() {
    let passed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = passed.local_addr().expect("it is bound").port();
    let listen = format!("tcp://0.0.0.0:{port}");
    let (code, said) = started_with(passed.try_clone().expect("a descriptor").into(), "$$", &listen);
    assert_eq!(code, Some(1), "{said}");
    let expected =
        format!("sockets that no listener matches were passed to us at tcp://127.0.0.1:{port}: listen there");
    assert!(said.contains(&expected), "{said}");

    let listen = format!("tcp://127.0.0.1:{port}");
    let (code, said) = started_with(passed.into(), "1", &listen);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("LISTEN_FDS=1 is for process 1 (LISTEN_PID), and this is process "), "{said}");
}

/// Its queue is full, and stays so: what it asked for is not worth a stop.
#[test]
fn a_supervisor_that_does_not_read_holds_up_nobody_and_hears_the_last_state_when_it_does() {
    let began = Instant::now();
    let directory = Directory::new();
    let path = directory.path("notify");
    let supervisor = UnixDatagram::bind(&path).expect("the directory is ours");
    supervisor.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("it is ours");
    while filler.send_to(b"FILLER=1\n", &path).is_ok() {}
    let mut command = switchboard();
    command.args(["serve", "--listen", TCP]).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000");
    let mut server = Server::start_command(&mut command, 1);
    server.read_log();
    server.logs("the supervisor does not read our notifications");
    for _ in 0..50 {
        server.call().echo("hello");
    }
    server.signal(Signal::SIGHUP);
    server.logs("reloaded");
    let states = until("the states, which were kept", || {
        let said = notification(&supervisor);
        said.contains("READY=1").then_some(said)
    });
    assert!(states.contains("MAINPID="), "{states}");
    until("the reload", || notification(&supervisor).contains("RELOADING=1\n").then_some(()));
    let reports = server.log().iter().filter(|line| line.contains("does not read our notifications")).count();
    let minutes = began.elapsed().as_secs() / 60;
    assert!(reports as u64 <= 1 + minutes, "{:#?}", server.log());
    while filler.send_to(b"FILLER=1\n", &path).is_ok() {}
    server.stop();
}

#[test]
fn an_abstract_notify_socket_is_reached() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let name = format!("switchboard-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let supervisor = UnixDatagram::bind_addr(&address).expect("the name is free");
    supervisor.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut command = switchboard();
    command.args(["serve", "--listen", TCP]).env("NOTIFY_SOCKET", format!("@{name}"));
    let server = Server::start_command(&mut command, 1);
    assert!(notification(&supervisor).contains("READY=1\n"));
    server.stop();
    assert!(notification(&supervisor).contains("STOPPING=1\n"));
}
