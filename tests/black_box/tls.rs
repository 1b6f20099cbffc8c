//! TLS from outside: who is let in and who isn't, what bad bytes come to, how a stream ends, and that nobody who
//! dawdles or fails costs the others anything.
#![cfg(all(feature = "cli", feature = "tls"))]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use crate::support::tls::*;
use crate::support::*;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, CertificateError, Error, HandshakeKind};

const TLS: &str = "tls://127.0.0.1:0";
const TLS_LINES: &str = "tls+lines://127.0.0.1:0";

/// An echo server that an authority has vouched for.
struct Trusted {
    server: Server,
    authority: Authority,
    files: Files,
}

impl Trusted {
    fn at(url: &str, more: &[&str]) -> Trusted {
        let authority = Authority::called("ours");
        let files = Files::of(&authority.signs("localhost", NOW));
        let mut arguments = files.serve(url);
        arguments.extend(more.iter().map(ToString::to_string));
        Trusted { server: Server::start(&arguments), authority, files }
    }

    fn caller(&self) -> Caller {
        Caller::believing(&self.authority)
    }

    fn call(&self) -> Secure {
        self.caller().call(self.address())
    }

    fn address(&self) -> SocketAddr {
        self.server.address(0)
    }

    /// Whatever went wrong with the others: it serves on.
    fn goes_on(&self) {
        self.call().echo("is anybody there?\n");
    }
}

fn alert(description: AlertDescription) -> Error {
    Error::AlertReceived(description)
}

// Who believes whom.

#[test]
fn a_client_who_believes_another_authority_refuses() {
    let trusted = Trusted::at(TLS, &[]);
    let refusal = Caller::believing(&Authority::called("another")).refuses(trusted.address());
    assert_eq!(refusal, Error::InvalidCertificate(CertificateError::UnknownIssuer));
    let refusal = Caller::believing(&Authority::called("ours")).refuses(trusted.address());
    assert_eq!(refusal, Error::InvalidCertificate(CertificateError::BadSignature), "one of the same name");
    trusted.goes_on();
    let summary =
        trusted.server.summary_until("both to be counted", |summary| summary.of("unestablished") == 2);
    assert_eq!(summary.of("accepted"), 3, "{summary:?}");
}

/// A line that is too long: the server says so, then its close_notify. What comes behind that is dropped, whatever it is.
#[test]
fn records_that_make_no_sense_behind_the_servers_end_do_not_end_the_process() {
    let trusted = Trusted::at(TLS_LINES, &["--message-bytes-max", "100"]);
    let mut alice = trusted.call();
    alice.say([b'x'; 200]);
    alice.hear_until_the_end();
    alice.socket.write_all(&[0x17, 3, 3, 0, 5, 1, 2, 3, 4, 5]).expect("it reads on");
    alice.socket.write_all(b"and no records at all").expect("it reads on");
    trusted.server.summary_until("it to be read", |summary| summary.of("bytes in") >= 200 + 31);
    drop(alice);
    trusted.goes_on();
    assert_eq!(trusted.server.stop().code, Some(0));
}

/// Served they are, for clients may think otherwise; the log says it.
#[test]
fn a_certificate_out_of_its_time_is_refused_by_clients_and_the_server_goes_on() {
    let authority = Authority::called("ours");
    for years in [LONG_GONE, NOT_YET] {
        let files = Files::of(&authority.signs("localhost", years));
        let server = Server::start(&files.serve(TLS));
        server.logs("cert.pem: the certificate is valid from");
        for round in 1..=2 {
            let refusal = Caller::believing(&authority).refuses(server.address(0));
            let Error::InvalidCertificate(refusal) = refusal else { panic!("{refusal:?}") };
            let expected = match years {
                LONG_GONE => matches!(refusal, CertificateError::ExpiredContext { .. }),
                _ => matches!(refusal, CertificateError::NotValidYetContext { .. }),
            };
            assert!(expected, "{refusal:?}");
            server.summary_until("the failure to be counted", |summary| summary.of("unestablished") == round);
        }
        server.stop();
    }
}

#[cfg(feature = "web")]
#[test]
fn over_https_the_handshake_says_which_http_is_spoken() {
    let authority = Authority::called("ours");
    let files = Files::of(&authority.signs("localhost", NOW));
    let server = Server::start(&files.serve("https://127.0.0.1:0"));
    let caller = || Caller::believing(&authority);
    for (offered, agreed) in
        [(&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        let mut client = caller().offering(offered).call(server.address(0));
        assert_eq!(client.agreed(), agreed, "{offered:?}");
        client.say("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.hear("HTTP/1.1 ");
    }
    let refusal = caller().offering(&["h2"]).is_refused(server.address(0));
    assert_eq!(refusal, Error::AlertReceived(AlertDescription::NoApplicationProtocol));
    server.stop();
    // What is no HTTP has no name there, and a client that offers one is served all the same.
    let plain = Server::start(&files.serve(TLS));
    assert_eq!(caller().offering(&["h2"]).call(plain.address(0)).agreed(), None);
    plain.stop();
}

#[test]
fn a_client_who_asks_for_another_host_refuses() {
    let trusted = Trusted::at(TLS, &[]);
    let refusal = trusted.caller().asking_for("elsewhere.example").refuses(trusted.address());
    let context =
        matches!(refusal, Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }));
    assert!(context, "{refusal:?}");
    trusted.goes_on();
}

#[test]
fn under_a_client_ca_only_those_whom_it_vouches_for_come_in() {
    let clients = Authority::called("clients");
    let authority = Authority::called("ours");
    let files = Files::of(&authority.signs("localhost", NOW));
    let mut arguments = files.serve(TLS);
    arguments.extend(["--client-ca".into(), files.write("clients.pem", &clients.pem())]);
    let server = Server::start(&arguments);
    let address = server.address(0);

    let alice = clients.signs("alice", NOW);
    let late = clients.signs("alice", LONG_GONE);
    let stranger = Authority::called("strangers").signs("alice", NOW);
    for version in [&TLS12, &TLS13] {
        let caller = |papers| Caller::with(&authority, papers, &[version]);
        let refusal = caller(None).is_refused(address);
        assert_eq!(refusal, alert(AlertDescription::CertificateRequired));
        let refusal = caller(Some(&late)).is_refused(address);
        assert_eq!(refusal, alert(AlertDescription::CertificateExpired));
        let refusal = caller(Some(&stranger)).is_refused(address);
        assert_eq!(refusal, alert(AlertDescription::UnknownCA));
        caller(Some(&alice)).call(address).echo("It's me, Alice.");
    }
    let summary =
        server.summary_until("the failures to be counted", |summary| summary.of("unestablished") == 6);
    assert_eq!(summary.of("accepted"), 8, "{summary:?}");
}

// What isn't TLS, or not all of it.

/// The alert in one record of the wire, and then the end.
fn hear_alert(socket: &mut TcpStream, description: AlertDescription) {
    let heard = hear_it_end(socket);
    let expected = [2, u8::from(description)]; // 2: fatal
    let is_alert = heard.len() == 7 && heard[0] == 21 && heard[5..] == expected;
    assert!(is_alert, "{heard:?} is no alert {description:?}");
}

#[test]
fn a_client_of_tls_1_1_is_told_that_its_version_is_not_spoken() {
    let trusted = Trusted::at(TLS, &[]);
    let mut body = vec![3, 2]; // TLS 1.1
    body.extend([7; 32]); // its random
    body.push(0); // no session
    body.extend([0, 4, 0xC0, 0x09, 0xC0, 0x13]); // ECDHE, AES-128-CBC, SHA-1
    body.extend([1, 0]); // no compression
    let extensions = [
        [0, 10, 0, 4, 0, 2, 0, 23].as_slice(),      // supported_groups: P-256
        [0, 11, 0, 2, 1, 0].as_slice(),             // ec_point_formats: uncompressed
        [0, 13, 0, 6, 0, 4, 4, 3, 4, 1].as_slice(), // signature_algorithms: ECDSA and RSA, SHA-256
    ]
    .concat();
    body.extend([0, extensions.len() as u8]);
    body.extend(extensions);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(body);
    let mut old = plain(trusted.address());
    old.write_all(&hello).unwrap();
    hear_alert(&mut old, AlertDescription::ProtocolVersion);
    trusted.goes_on();
}

#[test]
fn who_does_not_speak_tls_is_sent_away_and_nobody_else_notices() {
    let trusted = Trusted::at(TLS, &[]);
    let mut alice = trusted.call();
    let texts: [Vec<u8>; 5] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0; 64],
        vec![0xFF; 64],
        pattern(1, 100_000),
        vec![22, 3, 1, 0xFF, 0xFF, 1, 2, 3], // a record longer than there are
    ];
    for (number, text) in texts.iter().enumerate() {
        let mut stranger = plain(trusted.address());
        // It may be sent away before it has said all.
        let _ = stranger.write_all(text);
        let heard = hear_it_end(&mut stranger);
        match number {
            0 => assert!(heard.starts_with(b"HTTP/1.1 400 "), "{heard:?}"),
            _ => assert!(heard.is_empty() || heard[0] == 21, "{heard:?} is no alert"),
        }
        alice.echo(format!("still here, number {number}"));
        trusted.server.summary_until("the failure to be counted", |summary| {
            summary.of("unestablished") == number as u64 + 1
        });
    }
    trusted.goes_on();
}

#[test]
fn who_leaves_in_the_midst_of_the_handshake_is_forgotten() {
    let trusted = Trusted::at(TLS, &["--handshake-within", "5s"]);
    let hello = trusted.caller().connect(trusted.address()).ciphertext();
    let mut passers_by =
        [0, 1, hello.len() - 1, hello.len()].map(|length| (plain(trusted.address()), length));
    trusted.server.summary_until("all five", |summary| summary.of("accepted") == 5);
    trusted.server.pause(); // what they say and their end are one event
    for (passer_by, length) in &mut passers_by {
        passer_by.write_all(&hello[..*length]).unwrap();
    }
    drop(passers_by);
    trusted.server.go_on();
    // The one whose hello was taken connected, too.
    let summary = trusted.server.summary_until("all five to be gone", |summary| {
        (summary.of("accepted"), summary.of("open")) == (5, 0)
    });
    assert_eq!(summary.of("handshake-timeout"), 0, "their end was not heard: {summary:?}");
    trusted.goes_on();
}

#[test]
fn a_handshake_of_one_byte_per_write_works() {
    let trusted = Trusted::at(TLS, &[]);
    for version in [&TLS12, &TLS13] {
        let mut alice = Caller::speaking(&trusted.authority, version).connect(trusted.address());
        alice.shake_hands_by_bytes();
        alice.echo("slow, and steady");
    }
}

// Who dawdles.

#[test]
fn who_says_nothing_and_who_trickles_are_closed_at_the_deadline() {
    let trusted = Trusted::at(TLS, &["--handshake-within", "2s"]);
    let mut alice = trusted.call();
    let hello = trusted.caller().connect(trusted.address()).ciphertext();
    let mut silent = plain(trusted.address());
    let mut trickling = plain(trusted.address());
    trickling.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    // At this pace the hello would take several times as long as it may.
    let mut said = 0;
    for byte in &hello[..hello.len() - 1] {
        if trickling.write_all(&[*byte]).is_err() {
            break;
        }
        said += 1;
        match trickling.read(&mut [0; 16]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Ok(0) => break,
            other => panic!("it hears {other:?}"),
        }
    }
    assert!(said < hello.len() - 1, "it could say everything");
    assert_eq!(hear_it_end(&mut silent), b"");
    // (The client whose hello was borrowed has said nothing itself, and is gone.)
    trusted.server.summary_until("both to be counted", |summary| summary.of("handshake-timeout") == 2);
    alice.echo("I had time enough.");
}

#[test]
fn three_hundred_handshakes_that_never_end_hold_up_nobody_and_end_at_their_deadline() {
    const DAWDLERS: usize = 300;
    need_descriptors(2 * DAWDLERS as u64 + 100);
    let trusted = Trusted::at(TLS, &["--handshake-within", "3s"]);
    let mut talkers: Vec<Secure> = (0..4).map(|_| trusted.call()).collect();
    let mut unused = trusted.caller().connect(trusted.address());
    let hello = unused.ciphertext();
    let mut dawdlers: Vec<TcpStream> = (0..DAWDLERS).map(|_| plain(trusted.address())).collect();
    for (number, dawdler) in dawdlers.iter_mut().enumerate() {
        // Nothing, half a hello, or a whole one whose answer nobody heeds.
        dawdler.write_all(&hello[..number % 3 * hello.len() / 2]).unwrap();
    }
    let mut late = trusted.call(); // a client that comes now is let in as well
    let mut said = 0;
    let expected = DAWDLERS as u64 + 1; // with the one whose hello that is
    let summary = trusted.server.summary_until("all of them to be closed", |summary| {
        for talker in talkers.iter_mut().chain([&mut late]) {
            said += 1;
            talker.echo(format!("word {said}"));
        }
        summary.of("handshake-timeout") == expected
    });
    for dawdler in &mut dawdlers {
        hear_it_end(dawdler);
    }
    assert_eq!((summary.of("refused"), summary.of("open")), (0, 5), "{summary:?}");
    assert_eq!(summary.of("accepted"), expected + 5, "{summary:?}");
}

// How a stream ends.

#[test]
fn the_end_is_announced_both_ways_and_replies_come_in_between() {
    for version in [&TLS12, &TLS13] {
        let trusted = Trusted::at(TLS_LINES, &[]);
        let mut alice = Caller::speaking(&trusted.authority, version).call(trusted.address());
        let mut said = alice.encrypt("one\ntwo\nthe last, without its end");
        said.extend(alice.farewell());
        alice.write(&said); // in one segment, and without a FIN
        assert_same(&alice.hear_until_the_end(), b"one\ntwo\nthe last, without its end\n");
        alice.fin();
        let summary = trusted.server.summary_until("her end", |summary| summary.of("open") == 0);
        assert_eq!((summary.of("finished"), summary.of("truncated")), (1, 0), "{summary:?}");
    }
}

/// A third party can forge a FIN: what it cut off is not served.
#[test]
fn what_was_cut_off_is_not_served_and_is_counted_as_truncated() {
    for version in [&TLS12, &TLS13] {
        let trusted = Trusted::at(TLS_LINES, &[]);
        let mut alice = Caller::speaking(&trusted.authority, version).call(trusted.address());
        alice.say("one\ntwo\npay Bob 100");
        alice.fin();
        assert_same(&alice.hear_until_the_end(), b"one\ntwo\n");
        let summary = trusted.server.summary_until("her end", |summary| summary.of("open") == 0);
        assert_eq!((summary.of("finished"), summary.of("truncated")), (0, 1), "{summary:?}");
    }
}

/// The same in the midst of a record, of which not a byte may be believed.
#[test]
fn a_record_that_is_cut_off_is_not_served() {
    let trusted = Trusted::at(TLS_LINES, &[]);
    for thirds in 1..=3 {
        let mut bob = trusted.call();
        bob.echo("one\n");
        let record = bob.encrypt("two\nthree\n");
        trusted.server.pause(); // the bytes and the end are one event
        bob.write(&record[..(record.len() - 1) * thirds / 3]);
        bob.fin();
        trusted.server.go_on();
        bob.hear_end();
    }
    trusted.server.summary_until("three to be counted", |summary| summary.of("truncated") == 3);
}

/// A byte of it is changed on the way.
#[test]
fn a_record_that_was_tampered_with_ends_its_connection_and_no_other() {
    let trusted = Trusted::at(TLS_LINES, &[]);
    let (mut alice, mut mallory) = (trusted.call(), trusted.call());
    mallory.echo("one\n");
    let mut record = mallory.encrypt("two\n");
    *record.last_mut().unwrap() ^= 1;
    mallory.write(&record);
    let outcome = mallory.read(&mut [0; 16]);
    assert!(outcome.is_err(), "she hears {outcome:?}");
    trusted.server.summary_until("it to be counted", |summary| summary.of("failed") == 1);
    alice.echo("unharmed\n");
}

// What goes through.

#[test]
fn five_mebibytes_in_one_go() {
    for version in [&TLS12, &TLS13] {
        let trusted = Trusted::at(TLS, &[]);
        let mut alice = Caller::speaking(&trusted.authority, version).call(trusted.address());
        assert_eq!(alice.version(), Some(version.version));
        let said = pattern(1, 5 * MIB);
        let saying = alice.say_all_aside(&said);
        assert_same(&alice.hear_until_the_end(), &said);
        saying.join().unwrap();
        let summary = trusted.server.summary_until("her end", |summary| summary.of("open") == 0);
        assert_eq!((summary.of("bytes in"), summary.bytes_out()), (5 * MIB as u64, 5 * MIB as u64));
    }
}

/// Byte by byte in both senses: a record for each, and a segment for each byte of the records.
#[test]
fn byte_by_byte() {
    let trusted = Trusted::at(TLS, &[]);
    let said = pattern(2, 16 * 1024);
    for version in [&TLS12, &TLS13] {
        let mut alice = Caller::speaking(&trusted.authority, version).call(trusted.address());
        for byte in &said {
            alice.say([*byte]);
        }
        alice.hear(&said);
        let ciphertext = alice.encrypt(&said);
        by_bytes(&mut alice.socket, &ciphertext);
        alice.hear(&said);
        alice.half_close();
        alice.hear_end();
    }
}

#[test]
fn the_second_handshake_is_resumed() {
    let trusted = Trusted::at(TLS, &[]);
    for version in [&TLS12, &TLS13] {
        let caller = Caller::speaking(&trusted.authority, version);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut alice = caller.call(trusted.address());
            assert_eq!(alice.kind(), Some(expected), "{:?}", version.version);
            alice.echo("hello"); // and hears of tickets on the way
            alice.half_close();
            alice.hear_end();
        }
    }
}

#[test]
fn told_to_stop_it_answers_announces_the_end_and_ends() {
    let trusted = Trusted::at(TLS_LINES, &["--drain-for", "1h"]);
    let (mut alice, mut idle) = (trusted.call(), trusted.call());
    alice.echo("one\n");
    idle.echo("one\n");
    let mut opening = plain(trusted.address());
    trusted.server.summary_until("all three", |summary| summary.of("accepted") == 3);
    trusted.server.pause();
    alice.say("two\n".repeat(1000));
    trusted.server.signal(Signal::SIGTERM);
    trusted.server.go_on();
    alice.hear("two\n".repeat(1000));
    alice.hear_end();
    idle.hear_end();
    assert_eq!(hear_it_end(&mut opening), b"");
    for client in [&mut alice, &mut idle] {
        client.half_close();
        client.fin();
    }
    let end = trusted.server.wait();
    assert_eq!(end.code, Some(0), "{:#?}", end.log);
    assert_eq!((end.summary().of("open"), end.summary().of("drained")), (0, 3));
}

// Certificates and their files.

fn reload(server: &Server) -> String {
    let heeded =
        |log: &[String]| log.iter().filter(|line| line.contains("reloaded")).cloned().collect::<Vec<_>>();
    let before = heeded(&server.log()).len();
    server.signal(Signal::SIGHUP);
    until("the reload", || heeded(&server.log()).get(before).cloned())
}

#[test]
fn certificates_are_replaced_by_sighup_and_nobody_is_dropped() {
    let trusted = Trusted::at(TLS, &[]);
    let mut old = trusted.call();
    old.echo("before");

    let renewed = trusted.authority.signs("localhost", NOW);
    trusted.files.replace(&renewed);
    assert_ne!(trusted.call().shown(), &renewed.der(), "nobody has told it");
    reload(&trusted.server);
    let mut new = trusted.call();
    assert_eq!(new.shown(), &renewed.der());
    old.echo("after");
    new.echo("after");

    // What does not fit, or is none, changes nothing.
    let other = trusted.authority.signs("localhost", NOW);
    let name = trusted.files.write("key.pem", &other.key);
    let said = reload(&trusted.server);
    assert!(said.contains("not reloaded") && said.contains(&name), "{said}");
    let name = trusted.files.write("cert.pem", "no certificate");
    let said = reload(&trusted.server);
    assert!(said.contains("not reloaded") && said.contains(&name), "{said}");
    assert_eq!(trusted.call().shown(), &renewed.der());
    old.echo("still");
    new.echo("still");

    trusted.files.replace(&other);
    let said = reload(&trusted.server);
    assert!(!said.contains("not reloaded"), "{said}");
    assert_eq!(trusted.call().shown(), &other.der());
}

/// The wrong file, what is wrong with it, on one line and before anything listens.
#[test]
fn files_that_will_not_do_are_named() {
    let authority = Authority::called("ours");
    let papers = authority.signs("localhost", NOW);
    let files = Files::of(&papers);
    let (cert, key) = (files.path_of("cert.pem"), files.path_of("key.pem"));
    let missing = files.path_of("missing.pem");
    let empty = files.write("empty.pem", "");
    let garbage = files.write("garbage.pem", "\u{1F600} -----BEGIN CERTIFICATE-----\n!!!\n");
    let cut_off = files.write("cut_off.pem", &papers.cert[..papers.cert.len() / 2]);
    let other = files.write("other.pem", &authority.signs("localhost", NOW).key);
    let folder = files.path_of(".");

    let wrong = |file: &String, arguments: &[&str]| {
        let mut line = vec!["serve", "--listen", TLS];
        line.extend(arguments);
        let output = run(&line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{:?} for {line:?}", output.status);
        assert!(said.contains(file.as_str()) && said.lines().count() == 1, "{said:?} for {line:?}");
        assert!(output.stdout.is_empty(), "it says that it listens: {line:?}");
    };
    for bad in [&missing, &empty, &garbage, &cut_off, &folder] {
        wrong(bad, &["--cert", bad, "--key", &key]);
        wrong(bad, &["--cert", &cert, "--key", bad]);
        wrong(bad, &["--cert", &cert, "--key", &key, "--client-ca", bad]);
    }
    wrong(&other, &["--cert", &cert, "--key", &other]);
    wrong(&key, &["--cert", &key, "--key", &key]);
    wrong(&cert, &["--cert", &cert, "--key", &cert]);
}

/// TLS 1.2 has it, and has had trouble with it (RFC 5746). Clients made with rustls can't ask for it; openssl's can.
#[test]
fn a_renegotiation_is_refused_and_ends_that_connection_alone() {
    let trusted = Trusted::at(TLS, &[]);
    let mut command = std::process::Command::new("openssl");
    command.args(["s_client", "-tls1_2", "-connect", &trusted.address().to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return eprintln!("left out: there is no openssl to ask for a renegotiation");
        }
        spawned => spawned.expect("it can be started"),
    };
    let mut bob = trusted.call();
    bob.echo("before\n");
    let mut stdin = client.stdin.take().expect("it is piped");
    stdin.write_all(b"hello\n").expect("it listens");
    trusted.server.summary_until("its hello", |summary| summary.of("bytes in") == 7 + 6);
    stdin.write_all(b"R\n").expect("it listens");
    trusted.server.summary_until("its end", |summary| summary.of("failed") == 1);
    let output = client.wait_with_output().expect("it ends");
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("RENEGOTIATING") && said.contains("no renegotiation"), "{said}");
    drop(stdin);
    bob.echo("after\n");
    trusted.goes_on();
}
