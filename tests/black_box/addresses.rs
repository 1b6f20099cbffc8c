//! Addresses as people write them: names with several addresses, both families at one port, zones, abstract names.
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::process::Command;

use crate::support::*;

/// The program with another /etc/hosts, in which `two.test` has two addresses. `None` where nobody may make a mount namespace.
fn with_two_addresses(directory: &Directory, first: &str, second: &str) -> Option<Command> {
    let hosts = directory.path("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost\n{first} two.test\n{second} two.test\n"))
        .expect("our own folder");
    let inside = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""])
            .arg(&hosts)
            .args(words);
        command
    };
    let may = inside(&["true"]).output().is_ok_and(|output| output.status.success());
    may.then(|| inside(&[switchboard().get_program().to_str().expect("a plain path")]))
}

/// Exit code, and the one line of what is wrong.
fn refusal(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    let text = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn a_name_is_served_at_each_of_its_addresses_and_a_reload_keeps_them() {
    let directory = Directory::new();
    // The second one needs no IPv6.
    for (first, second) in [("::1", "127.0.0.1"), ("127.0.0.1", "127.0.0.2")] {
        if first == "::1" && !has_ipv6() {
            continue;
        }
        let Some(mut command) = with_two_addresses(&directory, first, second) else { return };
        let config = directory.path("switchboard.toml");
        let text = "[[listener]]\nurl = \"tcp://two.test:0\"\n[[listener]]\nurl = \"udp://two.test:0\"\n";
        fs::write(&config, text).expect("our own folder");
        let mut server = Server::start_command(command.args(["serve", "--config"]).arg(&config), 4);
        server.read_log();
        let ports: Vec<u16> = (0..4).map(|index| server.address(index).port()).collect();
        assert_eq!((ports[0], ports[2]), (ports[1], ports[3]), "one name, one port: {:?}", server.urls());
        let (mut alice, mut bob) = (server.call_at(0), server.call_at(1));
        alice.echo("at the first address");
        bob.echo("at the second one");
        server.signal(Signal::SIGHUP);
        server.logs("reloaded: 4 listeners go on, 0 are new, 0 are gone");
        alice.echo("still");
        server.call_at(0).echo("and again");
        server.call_at(1).echo("at both");
        server.stop();
    }
}

#[test]
fn an_address_of_a_name_that_is_not_ours_is_left_out_and_said() {
    let directory = Directory::new();
    let Some(mut command) = with_two_addresses(&directory, "192.0.2.7", "127.0.0.1") else { return };
    let mut server = Server::start_command(command.args(["serve", "--listen", "tcp://two.test:0"]), 1);
    server.read_log();
    assert!(server.url().starts_with("tcp://127.0.0.1:"), "{:?}", server.urls());
    server.logs("--listen: tcp://192.0.2.7:0 is no address of this machine: not listened on");
    server.call().echo("hello");
    server.stop();
}

#[cfg(all(feature = "load", feature = "web"))]
#[test]
fn a_generator_calls_the_address_that_answers() {
    let directory = Directory::new();
    for (first, second) in [("::1", "127.0.0.1"), ("127.0.0.2", "127.0.0.1")] {
        let server =
            Server::start(&["serve", "echo", "--listen", TCP, "--listen", UDP, "--datagrams-per-ip", "off"]);
        for (scheme, index) in [("tcp", 0), ("udp", 1)] {
            let Some(mut command) = with_two_addresses(&directory, first, second) else { return };
            let target = format!("{scheme}://two.test:{}", server.address(index).port());
            let words =
                ["bench", &target, "--duration", "100ms", "--warmup", "0", "--no-self-test", "--json", "-"];
            let output = command.args(words).output().expect("it runs");
            let report = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(report.contains(&format!("\"target\": \"{}\"", server.urls()[index])), "{report}");
        }
        server.stop();
    }
}

#[test]
fn ipv4_and_ipv6_have_listeners_of_their_own_at_one_port() {
    if !has_ipv6() {
        return;
    }
    // 0.0.0.0, or one address of IPv4.
    for (v4, is_all) in [("0.0.0.0", true), ("127.0.0.1", false)] {
        let port = free_port();
        let urls = ["tcp", "udp"].map(|it| [format!("{it}://{v4}:{port}"), format!("{it}://[::]:{port}")]);
        let arguments: Vec<&str> = urls.iter().flatten().flat_map(|url| ["--listen", url]).collect();
        let checked = run(&[&["check"][..], &arguments].concat());
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        assert_eq!(String::from_utf8_lossy(&checked.stdout).matches("IPv6 alone").count(), 2);

        let server = Server::start(&[&["serve"][..], &arguments].concat());
        for ip in ["127.0.0.1", "[::1]"] {
            Client::to(&format!("tcp://{ip}:{port}")).echo(ip);
            let socket = datagrams_to(format!("{ip}:{port}").parse().expect("an address"));
            socket.send(b"hello").expect("it is sent");
            assert_eq!(socket.recv(&mut [0; 10]).expect("an answer"), 5);
        }
        let other = Client::try_to(&format!("tcp://127.0.0.2:{port}"));
        assert_eq!(other.is_ok(), is_all, "[::] does not take what 127.0.0.1 leaves");
        let log = server.stop().log; // all of it
        let said = log.iter().any(|line| line.contains("takes IPv6 alone, because"));
        assert_eq!(said, !is_all, "{log:#?}");
    }
}

#[test]
fn what_a_bound_socket_cannot_change_is_refused_by_a_reload() {
    if !has_ipv6() {
        return;
    }
    let (directory, port) = (Directory::new(), free_port());
    let config = directory.path("switchboard.toml");
    let listener = |ip: &str| format!("[[listener]]\nurl = \"tcp://{ip}:{port}\"\n");
    fs::write(&config, listener("[::]")).expect("our own folder");
    let mut server = Server::start_command(switchboard().args(["serve", "--config"]).arg(&config), 1);
    server.read_log();
    Client::to(&format!("tcp://127.0.0.1:{port}")).echo("IPv4 at [::]");
    fs::write(&config, listener("[::]") + &listener("0.0.0.0")).expect("our own folder");
    server.signal(Signal::SIGHUP);
    server.logs("it would have to take IPv6 alone now, which a socket cannot change: start the server again");
    Client::to(&format!("tcp://127.0.0.1:{port}")).echo("still");
    server.stop();
}

#[test]
fn one_address_written_twice_is_taken_already() {
    let port = free_port();
    for [one, other] in [
        ["0.0.0.0", "127.0.0.1"],
        ["127.0.0.1", "127.0.0.1"],
        ["[::]", "[::1]"],
        ["127.0.0.1", "[::ffff:127.0.0.1]"],
        ["[::1%lo]", "[::1]"],
    ] {
        let [one, other] = [one, other].map(|ip| format!("tcp://{ip}:{port}"));
        let problem = refusal(&["check", "--listen", &one, "--listen", &other]);
        assert!(problem.contains("is taken already"), "{problem}");
    }
}

#[test]
fn a_zone_is_named_by_its_interface() {
    if !has_ipv6() {
        return;
    }
    let server = Server::start(&["serve", "--listen", "tcp://[::1%lo]:0"]);
    server.call().echo("hello");
    server.stop();
    let problem = refusal(&["check", "--listen", "tcp://[fe80::1%nowhere0]:7777"]);
    assert!(problem.contains("the zone \"nowhere0\" is no network interface"), "{problem}");
}

fn abstract_client(name: &str) -> UnixStream {
    let address = UnixAddress::from_abstract_name(name).expect("a short name");
    let stream = UnixStream::connect_addr(&address).unwrap_or_else(|error| panic!("{name}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

fn echo(stream: &mut UnixStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("it takes it");
    let mut heard = vec![0; text.len()];
    stream.read_exact(&mut heard).expect("an answer");
    assert_eq!(heard, text.as_bytes());
}

#[test]
fn an_abstract_name_has_no_file_and_is_handed_over() {
    let directory = Directory::new();
    let name = format!("switchboard test {}", std::process::id());
    let url = format!("unix:@{name}");
    let serve = || {
        let mut command = switchboard();
        command.current_dir(directory.path(".")).args([
            "serve",
            "--listen",
            &url,
            "--take-over",
            "heir.sock",
        ]);
        let mut server = Server::start_command(&mut command, 1);
        server.read_log();
        server
    };
    let first = serve();
    assert_eq!(first.urls(), [url.as_str()]);
    let mut alice = abstract_client(&name);
    echo(&mut alice, "hello");
    let files: Vec<_> = fs::read_dir(directory.path(".")).expect("our own folder").collect();
    assert_eq!(files.len(), 1, "heir.sock alone: {files:?}");

    let taken = run(&["serve", "--listen", &url]);
    let problem = String::from_utf8_lossy(&taken.stderr);
    assert!(problem.contains("a running server listens there: stop it, or take another name"), "{problem}");

    let second = serve();
    first.logs("handed over: 1 connections stay");
    echo(&mut abstract_client(&name), "with the second");
    echo(&mut alice, "with the first");
    drop(alice);
    assert_eq!(first.wait().code, Some(0));
    assert_eq!(second.stop().summary().of("accepted"), 1);
}

#[test]
fn permissions_of_an_abstract_name_are_refused() {
    let problem = refusal(&["check", "--listen", "unix:@x", "--unix-mode", "600"]);
    assert!(problem.contains("--unix-mode is for socket files, and unix:@NAME has none"), "{problem}");
    assert!(run(&["check", "--listen", "unix:./@x", "--unix-mode", "600"]).status.success());
}

#[test]
fn a_path_that_is_too_long_is_told_how_long_it_may_be() {
    let long = format!("unix:/{}", "x".repeat(107));
    let path = long.trim_start_matches("unix:");
    for arguments in [
        &["check", "--listen", &long][..],
        &["serve", "--listen", &long],
        &["serve", "--listen", TCP, "--take-over", path],
        #[cfg(feature = "load")]
        &["bench", &long],
    ] {
        let output = run(arguments);
        let problem = String::from_utf8_lossy(&output.stderr);
        let expected = "the path has 108 bytes, and a Unix socket's has at most 107: take a shorter one";
        assert!(problem.contains(expected) && !output.status.success(), "{arguments:?}: {problem}");
    }
}

#[test]
fn a_list_that_denies_ipv6_alone_is_warned_of_where_ipv4_comes_in_as_well() {
    for (listener, deny, is_warned) in [
        ("tcp://[::]:0", &["--deny", "::/0"][..], true),
        ("tcp://[::]:0", &["--deny", "::/0", "--deny", "0.0.0.0/0"], false),
        ("tcp://[::]:0", &["--deny", "::/0", "--allow", "2001:db8::/32"], false),
        ("tcp://[::1]:0", &["--deny", "::/0"], false),
        ("tcp://0.0.0.0:0", &["--deny", "::/0"], false),
    ] {
        let output = run(&[&["check", "--listen", listener][..], deny].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            said.contains("takes IPv4 as well, and deny ::/0 lets that pass"),
            is_warned,
            "{listener} {deny:?}: {said}"
        );
        assert!(output.status.success());
    }
}

#[test]
fn a_proxy_at_a_unix_socket_says_whom_it_brings() {
    let directory = Directory::new();
    let url = directory.url("unix", "proxied.sock");
    let options = ["--proxy-protocol", "unix", "--deny", "192.0.2.66", "--log-level", "debug"];
    let server = Server::start(&[&["serve", "--listen", &url, "--listen", TCP][..], &options].concat());
    let header = |ip: &str| format!("PROXY TCP4 {ip} 198.51.100.1 4711 443\r\n");
    // At once, with the first bytes behind it; byte by byte; and for the proxy itself.
    let mut alice = server.call();
    alice.say(header("192.0.2.1") + "hello");
    alice.hear("hello");
    server.logs("open from 192.0.2.1:4711");
    let mut bob = server.call();
    header("192.0.2.2").bytes().for_each(|byte| bob.say([byte]));
    bob.echo("hello");
    let mut proxy = server.call();
    proxy.say(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    proxy.echo("are you there?");
    // Whom it brings is judged; and it has to say.
    let mut mallory = server.call();
    mallory.say(header("192.0.2.66"));
    mallory.hear_it_break();
    let mut unknown = server.call();
    unknown.say("hello");
    unknown.hear_it_break();
    // Over TCP no network of proxies was named.
    server.call_at(1).echo("PROXY is nothing to me\r\n");
    let summary = server.stop().summary();
    assert_eq!((summary.of("denied"), summary.of("no-proxy-header")), (1, 1), "{summary:?}");

    let problem = refusal(&["check", "--listen", TCP, "--proxy-protocol", "unix"]);
    assert!(problem.contains("--proxy-protocol unix is for unix: listeners, and there is none"), "{problem}");
    let problem = refusal(&["check", "--listen", &url, "--proxy-protocol", "127.0.0.0/8"]);
    assert!(problem.contains("all listeners are Unix sockets: write --proxy-protocol unix"), "{problem}");
}
