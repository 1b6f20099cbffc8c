//! What the program says to who starts it wrongly: one line that names the thing, and an exit code.
#![cfg(feature = "cli")]

use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::process::Output;

use crate::support::*;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it speaks UTF-8")
}

/// The line that says what went wrong. It is the last one, behind what was logged.
#[track_caller]
fn complaint(output: &Output) -> &str {
    let lines: Vec<&str> = text(&output.stderr).lines().collect();
    let complaints = lines.iter().filter(|line| line.starts_with("switchboard: ")).count();
    assert_eq!(complaints, 1, "{lines:#?}");
    lines.last().filter(|line| line.starts_with("switchboard: ")).expect("it is the last line")
}

/// What a hint says to write is accepted when it is written.
#[test]
fn what_a_hint_says_to_write_can_be_written() {
    for url in ["0", "tcp:127.0.0.1:0", "tcp://::1:0", "tcp://[::1:0", "http://127.0.0.1:0/path", "tcp://:0"]
    {
        let refused = run(&["serve", "--listen", url]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let behind = said.split("write ").nth(1).unwrap_or_else(|| panic!("{url}: {said}"));
        let hint = behind.split([' ', ',']).next().expect("a word");
        let checked = run(&["check", "--listen", hint]);
        assert!(checked.status.success(), "{url}: {hint}: {checked:?}");
        assert!(said.contains("switchboard serve --help"), "{said}");
    }
    for help in [&["help"][..], &["help", "serve"], &["help", "bench"]] {
        assert!(run(help).status.success(), "{help:?}");
    }
}

#[test]
fn a_wrong_command_line_is_one_line_that_names_the_culprit_and_exit_code_2() {
    for (arguments, culprit) in [
        (&["serve", "--listen", "gopher://127.0.0.1:70"][..], "gopher"),
        (&["serve", "--listen", "tcp+xml://127.0.0.1:70"], "xml"),
        (&["serve", "--listen", "tcp://127.0.0.1"], "tcp://127.0.0.1"),
        (&["serve", "--listen", "tcp://127.0.0.1:70000"], "70000"),
        (&["serve", "--listen", "tcp://::1:8080"], "::1"),
        (&["serve", "--listen", "unix:"], "unix:"),
        (&["serve", "--listen", ""], "--listen"),
        (&["serve", "--listen", "tcp://a\nb:1"], "--listen"),
        (&["serve", "--listen"], "--listen"),
        (&["serve", "--message-bytes-max", "64KB"], "64KB"),
        (&["serve", "--message-bytes-max", "0"], "--message-bytes-max"),
        (&["serve", "--message-bytes-max", "-1"], "-1"),
        (&["serve", "--outbox-bytes-max", "1KiB"], "--outbox-bytes-max"),
        (&["serve", "--outbox-bytes-max", "much"], "much"),
        (&["serve", "--idle-after", "30"], "30"),
        (&["serve", "--idle-after", "0s"], "--idle-after"),
        (&["serve", "--stall-after", "soon"], "soon"),
        (&["serve", "--drain-for", "1.5x"], "1.5x"),
        (&["serve", "--keepalive", "-1s"], "-1s"),
        (&["serve", "--allow", "10.0.0.0/99"], "10.0.0.0/99"),
        (&["serve", "--deny", "example"], "example"),
        (&["serve", "--unix-mode", "999"], "999"),
        (&["serve", "--port", "9000"], "--listen tcp://127.0.0.1:PORT"),
        (&["serve", "echo", "--message", "hi"], "serve reply"),
        (&["serve", "--unix-mode", "600"], "unix: listeners"),
        (&["serve", "--amplify"], "udp:// listeners"),
        (&["serve", "--datagrams-per-ip", "1/1"], "udp:// listeners"),
        (&["serve", "--handshake-within", "1s"], "tls://"),
        (&["serve", "--listen", "unix:x", "--keepalive", "1s"], "over TCP"),
        (&["serve", "--listen", "unix:x", "--reuse-port"], "TCP and UDP"),
        (&["serve", "--listen", "unix:x", "--listen", "unix:x"], "another path"),
        (&["serve", "source", "--listen", "udp://127.0.0.1:0"], "for streams"),
        (&["bench", "tcp://127.0.0.1:1", "--insecure"], "tls://"),
        (&["bench", "tcp://127.0.0.1:1", "--source", "192.0.2.77"], "ip address"),
        (&["bench", "tcp://127.0.0.1:1", "--size", "10GiB"], "64MiB"),
        (&["bench", "tcp://127.0.0.1:1", "--rate", "1000000000000"], "1000000000"),
        (&["serve", "--unix-mode", "10000"], "10000"),
        (&["serve", "--connections-max", "0"], "--connections-max"),
        (&["serve", "--connections-max", "many"], "many"),
        (&["serve", "--backlog", "0"], "--backlog"),
        (&["serve", "--log-level", "loud"], "loud"),
        (&["serve", "sing"], "sing"),
        (&["serve", "echo", "echo"], "echo"),
        (&["serve", "--sing"], "--sing"),
        (&["--sing"], "--sing"),
        (&["sing"], "sing"),
        (&[""], ""),
    ] {
        let output = run(arguments);
        let lines: Vec<&str> = text(&output.stderr).lines().collect();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {lines:#?}");
        assert!(
            matches!(&lines[..], [line] if line.starts_with("switchboard: ") && line.contains(culprit)),
            "{arguments:?}: {lines:#?}"
        );
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
}

#[test]
fn an_argument_that_is_not_utf_8_is_a_wrong_command_line() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for arguments in [[b"serve".as_slice(), b"s\xff"], [b"serve", b"--\xff"], [b"--listen", b"tcp://\xff"]] {
        let output = run(&arguments.map(OsStr::from_bytes));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stderr).lines().count(), 1, "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_wrong_rust_log_is_named_and_exit_code_2() {
    let output = run_command(switchboard().args(["serve", "--listen", TCP]).env("RUST_LOG", "loud"));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    assert!(complaint(&output).contains("loud"), "{}", complaint(&output));
}

#[test]
fn a_place_that_cannot_be_had_is_named_and_exit_code_1() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp_taken = format!("tcp+lines://{}", tcp.local_addr().unwrap());
    let udp_taken = format!("udp://{}", udp.local_addr().unwrap());
    let directory = Directory::new();
    let long = directory.url("unix", &"x".repeat(200));
    let nowhere = directory.url("unix", "no/such/directory/socket");
    let elsewhere = "tcp://203.0.113.1:8080"; // TEST-NET-3 is nobody's
    for url in [tcp_taken.as_str(), &udp_taken, &long, &nowhere, elsewhere] {
        let output = run(&["serve", "--listen", TCP, "--listen", url]);
        assert_eq!(output.status.code(), Some(1), "{url}");
        assert!(complaint(&output).contains(url), "{url}: {}", complaint(&output));
        assert_eq!(text(&output.stdout), "", "{url}: nothing listens, nothing is announced");
    }
    for url in [tcp_taken.as_str(), &udp_taken] {
        let output = run(&["serve", "--log-level", "warn", "--listen", url]);
        assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
    }
}

/// A path may hold whatever it likes; the failure is one line all the same.
#[test]
fn a_path_with_a_line_feed_is_named_in_one_line() {
    let output = run(&["serve", "--log-level", "off", "--listen", "unix:/no/such\ndirectory/socket"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
}

#[test]
fn help_and_version_go_to_standard_output_with_exit_code_0() {
    for (arguments, expected) in [
        (&["--help"][..], "serve"),
        (&["-h"], "serve"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["-V"], env!("CARGO_PKG_VERSION")),
        (&["serve", "--help"], "--listen"),
        (&["serve", "-h"], "--listen"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text(&output.stdout).contains(expected), "{arguments:?}: {}", text(&output.stdout));
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn help_that_nobody_reads_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    for arguments in [["--help"], ["--version"]] {
        let output = run_command(switchboard().args(arguments).stdout(writer.try_clone().unwrap()));
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    }
}

/// Who can't be told where it listens can't use it.
#[test]
fn ready_lines_that_cannot_be_written_are_a_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut outputs = vec![run_command(switchboard().args(["serve", "--listen", TCP]).stdout(writer))];
    if let Ok(full) = File::options().write(true).open("/dev/full") {
        outputs.push(run_command(switchboard().args(["serve", "--listen", TCP]).stdout(full)));
    }
    for output in outputs {
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint(&output).contains("standard output"), "{}", complaint(&output));
    }
}

/// The terminal's end is SIGHUP, and no more than that.
#[test]
#[cfg(target_os = "linux")]
fn a_server_without_a_configuration_file_ends_with_its_terminal() {
    let line = format!("exec {} serve --listen {TCP}", env!("CARGO_BIN_EXE_switchboard"));
    // Under nohup(1) the tests would pass on that SIGHUP is ignored.
    let mut terminal = std::process::Command::new("env");
    terminal.args(["--default-signal=HUP", "script", "--quiet", "--flush", "--command", &line, "/dev/null"]);
    let child = terminal.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        assert!(std::env::var_os("CI").is_none(), "script (util-linux) is not installed");
        return;
    };
    let lines = std::io::BufReader::new(child.stdout.take().expect("it is piped"));
    let ready = std::io::BufRead::lines(lines)
        .map_while(Result::ok)
        .find_map(|line| line.trim().strip_prefix("listening on ").map(str::to_owned));
    let url = ready.expect("it listens");
    Client::to(&url).echo("hello");
    // Nobody holds the terminal's other side then: as if its window was closed.
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    until("the server to end", || Client::try_to(&url).is_err().then_some(()));
}
