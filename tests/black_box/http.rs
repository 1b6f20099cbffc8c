//! HTTP/1.1 from outside: what is a request and what is not, in which order answers come, and when a connection ends.
#![cfg(all(feature = "cli", feature = "web"))]

#[path = "../../src/protocol/http/cases.rs"]
mod cases;

use std::time::{Duration, Instant};

use crate::support::*;
use cases::{BODY_BYTES_MAX, Expected};

const HTTP: &str = "http://127.0.0.1:0";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn each_case_has_its_outcome_and_costs_nobody_else() {
    let max = BODY_BYTES_MAX.to_string();
    let arguments = ["serve", "echo", "--listen", HTTP, "--message-bytes-max", &max, "--host", "a.example"];
    let server = Server::start(&arguments);
    let mut bystander = server.call();
    for case in cases::all() {
        // A flood that is refused in the middle ends before it is all said; the answer is there all the same.
        let mut client = server.call();
        client.say_the_last_aside(case.input.clone());
        for expected in &case.expected {
            match expected {
                Expected::Served { method, body, last: is_last, .. } => {
                    let mut answer = client.hear_answer(method);
                    if answer.status == 100 {
                        answer = client.hear_answer(method);
                    }
                    assert_eq!(answer.status, 200, "{}: {answer:?}", case.name);
                    let heard = if *method == "HEAD" { b"" } else { &body[..] };
                    assert_eq!(answer.body, heard, "{}", case.name);
                    assert_eq!(answer.closes(), *is_last, "{}: {answer:?}", case.name);
                    assert!(answer.field("date").is_some_and(|date| date.ends_with(" GMT")), "{answer:?}");
                }
                Expected::Refused(status) => {
                    let answer = client.hear_answer("GET");
                    assert!(status.contains(&answer.status), "{}: {answer:?}", case.name);
                    assert!(answer.closes(), "{}: {answer:?}", case.name);
                }
            }
        }
        assert!(client.is_at_its_end(), "{}: there is more", case.name);
        let answer = bystander.post("/", case.name.as_bytes());
        assert_eq!(answer.text(), case.name);
    }
    let end = server.stop();
    let refused =
        cases::all().iter().filter(|case| matches!(case.expected.last(), Some(Expected::Refused(_)))).count();
    assert_eq!(end.summary().of("violation"), refused as u64, "{}", end.summary().text());
}

#[test]
fn answers_come_in_the_order_of_the_requests_and_in_one_piece_with_them() {
    let server = Server::start(&["serve", "echo", "--listen", HTTP]);
    let mut client = server.call();
    let mut said = Vec::new();
    for number in 0..1000 {
        let body = number.to_string();
        said.extend(
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()).bytes(),
        );
    }
    let aside = client.say_aside(said);
    for number in 0..1000 {
        assert_eq!(client.hear_answer("POST").text(), number.to_string());
    }
    aside.join().expect("it is all said").half_close();
    client.hear_end();
}

#[test]
fn a_client_who_waits_for_a_word_gets_it_before_the_answer() {
    let server = Server::start(&["serve", "echo", "--listen", HTTP]);
    let mut client = server.call();
    client.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    client.hear("HTTP/1.1 100 Continue\r\n\r\n");
    client.say("hello");
    assert_eq!(client.hear_answer("POST").text(), "hello");
}

#[test]
fn a_service_that_knows_no_http_is_asked_over_it() {
    let directory = Directory::new();
    let unix = directory.url("unix+http", "socket");
    let reply =
        ["serve", "reply", "--message", "Come in!", "--listen", HTTP, "--listen", TCP, "--listen", &unix];
    let server = Server::start(&reply);
    for listener in [0, 2] {
        let mut client = server.call_at(listener);
        let answer = client.get("/anything?you=like");
        assert_eq!((answer.status, answer.text()), (200, "Come in!"));
        assert_eq!(answer.field("content-type"), Some("text/plain; charset=utf-8"));
        let head = client.ask("HEAD", "/", "");
        assert_eq!((head.status, head.field("content-length")), (200, Some("8")));
        assert_eq!(client.get("/").text(), "Come in!");
    }
    let mut plain = server.call_at(1);
    plain.say("hello");
    plain.hear("Come in!");

    let discard = Server::start(&["serve", "discard", "--listen", HTTP]);
    let mut client = discard.call();
    let answer = client.post("/", b"to nobody");
    assert_eq!((answer.status, answer.field("content-length")), (204, None));
    assert_eq!(client.get("/").status, 204);
}

/// Neither `check` nor a start that fails may replace the certificate that a running server shows.
#[cfg(feature = "tls")]
#[test]
fn a_certificate_is_written_by_a_server_that_listens_and_by_no_other() {
    let directory = Directory::new();
    let path = directory.path("certificate.pem");
    std::fs::write(&path, "that of a running server").expect("it can be written");
    let name = path.to_str().expect("it is text");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}", taken.local_addr().expect("it is bound"));
    for (command, code) in [("check", 0), ("serve", 1)] {
        let words = [
            command,
            "reply",
            "--message",
            "hi",
            "--listen",
            &url,
            "--self-signed",
            "--self-signed-to",
            name,
        ];
        let ended = bench::run_with(&words);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "that of a running server");
    }
}

#[cfg(feature = "tls")]
#[test]
fn over_tls_it_is_the_same() {
    let directory = Directory::new();
    let certificate = directory.path("certificate.pem");
    let certificate = certificate.to_str().expect("it is text");
    let arguments =
        ["serve", "reply", "--message", "Come in!", "--listen", "https://127.0.0.1:0", "--self-signed"];
    let server = Server::start(&[&arguments[..], &["--self-signed-to", certificate]].concat());
    assert!(server.url().starts_with("https://127.0.0.1:"), "{}", server.url());
    let address = server.url().strip_prefix("https://").expect("just seen").to_owned();
    let mut openssl = std::process::Command::new("openssl");
    openssl.args([
        "s_client",
        "-quiet",
        "-verify_return_error",
        "-CAfile",
        certificate,
        "-connect",
        &address,
    ]);
    openssl.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = openssl.stderr(std::process::Stdio::null()).spawn().expect("openssl is installed");
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(&mut child.stdin.take().expect("it is piped"), request.as_bytes())
        .expect("it listens");
    let output = child.wait_with_output().expect("it ends with the connection");
    let said = String::from_utf8(output.stdout).expect("it is text");
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nCome in!"), "{said}");
}

#[test]
fn an_answer_without_end_goes_out_in_chunks_as_fast_as_it_is_read() {
    let server = Server::start(&["serve", "source", "--listen", HTTP]);
    let mut client = Client::prepared(server.url(), small_buffers);
    client.say([GET, GET].concat());
    let head = client.hear_head();
    assert_eq!((head.status, head.field("transfer-encoding")), (200, Some("chunked")));
    let mut lines = Vec::new();
    while lines.len() < MIB {
        lines.extend(client.hear_chunk().expect("there is no end"));
    }
    for (number, line) in lines.chunks_exact(16).enumerate() {
        assert_eq!(line, format!("{number:015}\n").as_bytes());
    }
    // Nobody else waits, and the one who reads no more costs an outbox.
    let summary = server.at_rest();
    assert!(summary.bytes_out() < 32 * MIB as u64, "{}", summary.text());
    let mut old = server.call();
    old.say("GET / HTTP/1.0\r\n\r\n");
    assert!(old.hear_head().closes());
    old.hear("000000000000000\n000000000000001\n");
}

#[test]
fn a_request_that_trickles_in_is_told_that_it_took_too_long() {
    let server =
        Server::start(&["serve", "echo", "--listen", HTTP, "--listen", LINES, "--message-within", "300ms"]);
    let begun = Instant::now();
    let mut head = server.call();
    head.say("GET / HTTP/1.1\r\nHost: ");
    let mut body = server.call();
    body.say("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello");
    let mut line = server.call_at(1);
    line.say("hello, wor");
    for client in [&mut head, &mut body] {
        let answer = client.hear_answer("GET");
        assert_eq!(answer.status, 408, "{answer:?}");
        assert!(client.is_at_its_end());
    }
    line.hear("error: the rest of a message did not come in time\n");
    line.hear_end();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    // A client without an open request may wait as long as it likes.
    let mut patient = server.call();
    assert_eq!(patient.get("/").status, 200);
    patient.hear_nothing_for(Duration::from_millis(600));
    assert_eq!(patient.get("/").status, 200);
    assert_eq!(server.stop().summary().of("message-timeout"), 3);
}

#[test]
fn a_stop_answers_what_has_come_and_says_which_was_the_last() {
    let directory = Directory::new();
    let server = Server::start(&["serve", "echo", "--listen", &directory.url("unix+http", "socket")]);
    let mut client = server.call();
    assert!(!client.post("/", b"before").closes());
    let mut idle = server.call();
    assert_eq!(idle.get("/").status, 200);
    // More than is read before the signal is seen, and less than is read after it.
    const REQUESTS: usize = 10;
    server.pause();
    let body = "x".repeat(9000);
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.say(request.repeat(REQUESTS));
    server.signal(Signal::SIGTERM);
    server.go_on();
    for number in 1..=REQUESTS {
        let answer = client.hear_answer("POST");
        assert_eq!((answer.text(), answer.closes()), (&body[..], number == REQUESTS), "{number}");
    }
    client.hear_end();
    idle.hear_end();
    drop((client, idle));
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn who_ends_his_side_gets_his_answers() {
    let server = Server::start(&["serve", "echo", "--listen", HTTP]);
    let mut client = server.call();
    client.say([GET, GET].concat());
    client.half_close();
    assert_eq!([client.hear_answer("GET").status, client.hear_answer("GET").status], [200, 200]);
    client.hear_end();
}

#[test]
fn a_body_as_long_as_allowed_comes_back_whole() {
    let server = Server::start(&["serve", "echo", "--listen", HTTP, "--message-bytes-max", "1MiB"]);
    let mut client = server.call();
    let body = pattern(1, MIB);
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let aside = client.say_aside([head.as_bytes(), &body].concat());
    assert_same(&client.hear_answer("POST").body, &body);
    aside.join().expect("it is all said");

    let mut chunks = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(999) {
        chunks.extend(format!("{:x}\r\n", chunk.len()).bytes());
        chunks.extend([chunk, b"\r\n"].concat());
    }
    chunks.extend(b"0\r\n\r\n");
    let aside = client.say_aside(chunks);
    assert_same(&client.hear_answer("POST").body, &body);
    aside.join().expect("it is all said");
}

#[test]
fn the_metrics_tell_what_the_summary_tells() {
    let both = ["serve", "echo", "--listen", HTTP, "--listen", TCP, "--metrics", "--deny", "127.0.0.2/32"];
    let server = Server::start(&both);
    let mut bob = server.call_at(1);
    bob.echo("hello");
    let mut client = server.call();
    assert_eq!(client.get("/healthz").text(), "ok\n");
    assert_eq!(client.post("/other", b"the service's").text(), "the service's");
    let wrong = client.ask("POST", "/metrics", "Content-Length: 0\r\n");
    assert_eq!((wrong.status, wrong.field("allow")), (405, Some("GET, HEAD, OPTIONS")));
    server.call().hang_up();
    server.summary_until("the client has hung up", |summary| summary.of("finished") == 1);

    let answer = client.get("/metrics");
    assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let figure = |name: &str| -> f64 {
        let line =
            answer.text().lines().find(|line| line.rsplit_once(' ').is_some_and(|(key, _)| key == name));
        let line = line.unwrap_or_else(|| panic!("{name} is in {}", answer.text()));
        line.rsplit_once(' ').and_then(|(_, number)| number.parse().ok()).expect("a number")
    };
    assert_eq!(figure("switchboard_connections{state=\"open\"}"), 2.0);
    assert_eq!(figure("switchboard_accepted_total"), 3.0);
    assert_eq!(figure("switchboard_closed_total{reason=\"finished\"}"), 1.0);
    assert_eq!(figure("switchboard_refused_total{reason=\"denied\"}"), 0.0);
    assert!(figure("switchboard_bytes_total{direction=\"in\"}") > 100.0);
    assert_eq!(
        figure("switchboard_turn_seconds_count"),
        figure("switchboard_turn_seconds_bucket{le=\"+Inf\"}")
    );
    let mut told = 0.0;
    for line in answer.text().lines().filter(|line| line.starts_with("switchboard_turn_seconds_bucket")) {
        let count: f64 = line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number");
        assert!(count >= told, "buckets are cumulative: {line}");
        told = count;
    }
    // Each family has its type, once, before its figures.
    for line in answer.text().lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let family = name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
        assert_eq!(answer.text().matches(&format!("# TYPE {family} ")).count(), 1, "{name}");
    }

    // Nobody is told who was not to be.
    let silent = Server::start(&["serve", "echo", "--listen", HTTP]);
    assert_eq!(silent.call().get("/metrics").text(), "");
}

#[test]
fn what_needs_http_says_so() {
    let wrong = |arguments: &[&str]| {
        let output = run(&[&["serve"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8(output.stderr).expect("it is text")
    };
    let said = wrong(&["echo", "--listen", TCP, "--metrics"]);
    assert!(said.contains("--metrics is for http://, https://"), "{said}");
    for option in ["--root=/tmp", "--listing", "--access-log=/tmp/access.log"] {
        let said = wrong(&["echo", option]);
        assert!(said.contains("is for the service web, and no listener has it"), "{said}");
    }
    let said = wrong(&["web", "--root", "/tmp", "--access-log", "/no/such/log", "--listen", HTTP]);
    assert!(said.contains("--access-log /no/such/log: cannot open it: No such file"), "{said}");
    let said = wrong(&["web", "--listen", HTTP]);
    assert!(said.contains("--root DIR"), "{said}");
    let said = wrong(&["web", "--root", "/no/such", "--listen", HTTP]);
    assert!(said.contains("--root /no/such: cannot read it: No such file"), "{said}");
    let said = wrong(&["web", "--root", "/", "--listen", TCP]);
    assert!(said.contains("listen on http://HOST:PORT instead of tcp://"), "{said}");
}
