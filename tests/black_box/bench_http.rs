//! `switchboard bench` over HTTP: what counts as an answer, and what it says of servers that answer otherwise.
#![cfg(all(feature = "cli", feature = "load", feature = "web"))]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::support::Server;
use crate::support::bench::{Bench, all_but_unsent, run_with};
use switchboard::load::report::Failures;

const HTTP: &str = "http://127.0.0.1:0";

/// A server of our own, a thread for each connection: `answer` gets the number of the request on its connection, and is
/// sent; where it says so, that was the last.
fn crooked(answer: impl Fn(usize) -> (String, bool) + Copy + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let serve = move |stream: TcpStream| {
        let mut requests = BufReader::new(stream.try_clone().expect("a descriptor is free")).lines();
        let mut stream = stream;
        for number in 0.. {
            loop {
                match requests.next() {
                    Some(Ok(line)) if line.is_empty() => break,
                    Some(Ok(_)) => {}
                    _ => return,
                }
            }
            let (text, last) = answer(number);
            if stream.write_all(text.as_bytes()).is_err() || last {
                break;
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        requests.for_each(drop); // an end, and no reset
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    url
}

#[test]
fn an_echo_is_compared_byte_by_byte() {
    let server = Server::start(&["serve", "echo", "--listen", HTTP]);
    for words in ["--size 1..3000 --depth 4 --expect echo", "--payload {seq}/{rand:20} --expect echo --churn"]
    {
        let outcome = Bench::of(server.url(), words).run();
        let report = outcome.ends_with(0);
        assert!(report.replies > 10 && report.verified && report.statuses.is_empty(), "{report:?}");
        assert_eq!(report.plan.method.as_deref(), Some("POST"));
        assert_eq!(report.failures, Failures::default());
    }
    let reply = Server::start(&["serve", "reply", "--message", "hello", "--listen", HTTP]);
    Bench::of(reply.url(), "--expect hello").run().ends_with(0);
    Bench::of(reply.url(), "--method HEAD").run().ends_with(0);
    for words in ["--expect hellO", "--expect hell", "--expect hello! --depth 3", "--size 5 --expect echo"] {
        let outcome = Bench::of(reply.url(), words).run();
        let report = outcome.ends_with(1);
        assert_eq!(report.replies, 0, "{words}");
        assert_eq!(report.failures.corrupted, report.failures.total(), "{words}");
    }
}

#[test]
fn another_status_is_no_success_and_is_counted_apart() {
    let url = crooked(|number| {
        let status = if number % 3 == 2 { "503 Service Unavailable" } else { "200 OK" };
        (format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nhi"), false)
    });
    let outcome = Bench::of(&format!("{url}/a?b"), "--connections 1").run();
    let report = outcome.ends_with(1);
    assert_eq!(report.target, format!("{url}/a?b"));
    assert_eq!(report.failures.status, report.failures.total());
    assert_eq!(report.statuses.get(&503), Some(&report.failures.status));
    // Failures count from the start, replies from the end of the warm-up: on a busy machine that may be the larger part.
    assert!(report.failures.status > 10 && report.replies > 0, "{:?}", report.failures);
}

#[test]
fn a_server_that_ends_its_connections_and_says_so_loses_nothing() {
    let url = crooked(|number| match number {
        4 => ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi".into(), true),
        _ => ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".into(), false),
    });
    for words in ["--expect hi", "--expect hi --depth 3", "--expect hi --rate 300"] {
        let outcome = Bench::of(&url, words).run();
        let report = outcome.ends_with(0);
        assert!(report.connected > 10, "{words}: {}", report.connected);
        assert_eq!(all_but_unsent(report), Failures::default(), "{words}");
    }
    // A body that only the end of the connection ends.
    let old = crooked(|_| ("HTTP/1.0 200 OK\r\n\r\nall that comes".into(), true));
    let outcome = Bench::of(&old, "").and(&["--expect", "all that comes"]).run();
    assert!(outcome.ends_with(0).replies > 10);
    for wrong in ["all that come", "all that comes, and more"] {
        let failures = Bench::of(&old, "").and(&["--expect", wrong]).run().ends_with(1).failures;
        assert!(failures.corrupted > 0 && failures.corrupted == failures.total(), "{wrong}: {failures:?}");
    }
}

#[test]
fn an_answer_that_was_given_up_is_not_taken_for_the_next_one() {
    let url = crooked(|number| {
        if number == 3 {
            thread::sleep(std::time::Duration::from_millis(300));
        }
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".into(), false)
    });
    for (depth, words) in [(1, "--rate 15"), (2, "--depth 2")] {
        let outcome = Bench::of(&url, &format!("--connections 1 --timeout 100ms {words}")).run();
        let (failures, connected) = (outcome.report().failures, outcome.report().connected);
        assert!(failures.timed_out > 0 && failures.timed_out == failures.total(), "{words}: {failures:?}");
        // Each connection gives up what it has in flight, at most, and is then replaced.
        assert!(
            connected > 1 && connected * depth >= failures.timed_out,
            "{words}: {connected}, {failures:?}"
        );
    }
}

/// RFC 9112 section 9.5: a server may close a connection that it is done with, without a word.
#[test]
fn requests_behind_a_keep_alive_that_ended_without_a_word_are_sent_again() {
    let silent = || crooked(|number| ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".into(), number == 5));
    for words in ["", "--depth 3", "--rate 500"] {
        let outcome = Bench::of(&silent(), words).run();
        let report = outcome.is_fine();
        assert!(report.ended_silently > 1 && report.connected > 5, "{words}: {report:?}");
        assert!(words.contains("--rate") || report.retried > 1, "{words}: {report:?}");
    }
    // Nobody knows what the second of two would do.
    let failures = Bench::of(&silent(), "--method POST --size 8").run().ends_with(1).failures;
    assert!(failures.lost + failures.reset > 0, "{failures:?}");
}

/// One that ends each connection without an answer would be asked for ever.
#[test]
fn a_server_that_never_answers_is_not_asked_again_and_again() {
    let outcome = Bench::of(&crooked(|_| (String::new(), true)), "").run();
    assert_eq!((outcome.ended.code, outcome.report().retried), (Some(1), 0), "{:#?}", outcome.ended);
}

/// A run that could only count wrong replies ends in its first second, and says what answers there.
#[test]
fn another_protocol_than_expected_is_named() {
    let echo = Server::echo();
    let web = Server::start(&["serve", "reply", "--listen", HTTP]);

    let as_scheme =
        |url: &str, scheme: &str| format!("{scheme}{}", &url[url.find("://").expect("a scheme")..]);
    for (url, words, answer) in [
        (as_scheme(echo.url(), "http"), "", "sends our request back: it speaks no HTTP"),
        (as_scheme(echo.url(), "ws"), "", "sends our request back: it speaks no HTTP"),
        (as_scheme(web.url(), "tcp+lines"), "--payload x{seq}", "answers in HTTP: take http://"),
    ] {
        let outcome = Bench::of(&url, &format!("--duration 60s {words}")).run();
        assert_eq!(outcome.ended.code, Some(1), "{url}: {:#?}", outcome.ended);
        assert!(outcome.ended.complaint().contains(answer), "{url}: {:#?}", outcome.ended);
    }
}

#[test]
fn what_is_no_answer_is_corrupted_and_what_is_cut_off_is_short() {
    let garbage = crooked(|_| ("hello, world\r\n\r\n".into(), false));
    let outcome = Bench::of(&garbage, "").run();
    let failures = outcome.ends_with(1).failures;
    assert!(failures.corrupted > 0 && failures.corrupted == failures.total(), "{failures:?}");
    let short = crooked(|_| ("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi".into(), true));
    let outcome = Bench::of(&short, "").run();
    let failures = outcome.ends_with(1).failures;
    assert!(failures.short > 0 && failures.short == failures.total(), "{failures:?}");
}

/// A server that speaks the handshake, and then answers each message with these bytes, if it answers at all.
fn crooked_socket(answer: &'static [u8]) -> String {
    greeting_socket(b"", answer)
}

/// The same, which says something first.
fn greeting_socket(greeting: &'static [u8], answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("ws://{}/", listener.local_addr().expect("it is bound"));
    let serve = move |stream: TcpStream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a descriptor is free"));
        let mut stream = stream;
        let (mut key, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            key = line.strip_prefix("Sec-WebSocket-Key: ").map_or(key, |key| key.trim().to_owned());
        }
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let hand = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let _ = stream.write_all(&[hand.as_bytes(), greeting].concat());
        let mut bytes = [0; 4096];
        while std::io::Read::read(&mut reader, &mut bytes).is_ok_and(|count| count > 0) {
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    url
}

/// A frame of text each: what comes unasked is no reply, and no duplicate.
#[test]
fn over_websocket_a_server_may_speak_first() {
    let url = greeting_socket(b"\x81\x07welcome", b"\x81\x05hello");
    for words in ["--expect hello", "--expect any", "--expect hello --rate 300"] {
        Bench::of(&url, words).run().is_fine();
    }
}

#[test]
fn over_websocket_an_echo_is_compared_byte_by_byte() {
    let server = Server::start(&["serve", "echo", "--listen", "ws://127.0.0.1:0", "--idle-after", "200ms"]);
    for words in [
        "--size 1..3000 --depth 4 --idle 3",
        "--payload {seq}/{rand:20} --churn",
        "--rate 500 --header Origin:http://127.0.0.1",
    ] {
        // The idle ones are pinged meanwhile, and stay.
        let words = words.replace("http://127.0.0.1", &server.url().replace("ws", "http"));
        let outcome = Bench::of(&format!("{}/chat?room=1", server.url()), &words).run();
        let report = outcome.is_fine();
        assert!(report.replies > 10 && report.verified && report.plan.method.is_none(), "{report:?}");
    }
    let reply = Server::start(&["serve", "reply", "--message", "hello", "--listen", "ws://127.0.0.1:0"]);
    Bench::of(reply.url(), "--expect hello").run().is_fine();
    let failures = Bench::of(reply.url(), "").run().ends_with(1).failures;
    assert!(failures.corrupted > 0 && failures.corrupted == failures.total(), "{failures:?}");
    assert_eq!(reply.stop().summary().of("violation"), 0);
}

#[test]
fn over_websocket_what_is_wrong_has_its_name() {
    let another = crooked_socket(b"\x81\x05hellO");
    let failures = Bench::of(&another, "--expect hello").run().ends_with(1).failures;
    assert!(failures.corrupted > 0 && failures.corrupted == failures.total(), "{failures:?}");
    let masked = crooked_socket(b"\x81\x80\0\0\0\0");
    assert!(Bench::of(&masked, "").run().ends_with(1).failures.corrupted > 0);
    let twice = crooked_socket(b"\x81\x05hello\x81\x05hello");
    assert!(Bench::of(&twice, "--expect hello").run().ends_with(1).failures.duplicated > 0);
    // Servers that speak HTTP alone.
    let plain = crooked(|_| ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".into(), false));
    let ended = run_with(&["bench", &plain.replace("http", "ws"), "--no-self-test", "--quiet"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.complaint().contains("does not become a WebSocket: it answers with status 200"),
        "{ended:?}"
    );
    let origins = Server::start(&["serve", "echo", "--listen", "ws://127.0.0.1:0"]);
    let ended = run_with(&[
        "bench",
        origins.url(),
        "--no-self-test",
        "--quiet",
        "--header",
        "Origin: http://evil.example",
    ]);
    assert!(ended.complaint().contains("status 403"), "{ended:?}");
}

#[test]
fn fields_are_sent_and_those_that_frame_are_refused() {
    let outcome =
        |words: &[&str]| run_with(&[&["bench", "http://127.0.0.1:1", "--no-self-test"], words].concat());
    for (words, culprit) in [
        (&["--header", "no colon"][..], "--header"),
        (&["--header", "Content-Length: 5"], "Content-Length"),
        (&["--header", "Transfer-Encoding: chunked"], "Transfer-Encoding"),
        (&["--header", "A: b\r\nC: d"], "--header"),
        (&["--method", "GET /"], "--method"),
        (&["--expect", "echo"], "--expect echo"),
    ] {
        let ended = outcome(words);
        assert_eq!(ended.code, Some(2), "{words:?}");
        assert!(ended.complaint().contains(culprit), "{words:?}: {}", ended.complaint());
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}/p", listener.local_addr().expect("it is bound"));
    let heard = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("somebody calls");
        let lines = BufReader::new(stream.try_clone().expect("a descriptor is free")).lines();
        let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("it listens");
        head
    });
    let words =
        ["--header", "Accept:  text/html", "--header", "Host: other", "--method", "PUT", "--size", "5"];
    Bench::of(&url, "--connections 1 --timeout 20s --duration 100ms").and(&words).run();
    let head = heard.join().expect("it has heard");
    assert_eq!(head, ["PUT /p HTTP/1.1", "Accept: text/html", "Host: other", "Content-Length: 5"]);
}
