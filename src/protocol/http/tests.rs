//! The protocol without a socket: whatever the network does to a stream, what it means stays the same.

use super::cases::{self, BODY_BYTES_MAX, Expected};
use super::*;
use proptest::prelude::*;

/// What came of a stream, as `cases` has it; and what was written.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    requests: Vec<(String, String, Vec<u8>, bool)>,
    refused: Option<u16>,
    said: Vec<u8>,
}

/// Feeds the pieces as the exchange does: each request is answered with its body, and nothing is looked at behind the
/// last one.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let mut http = Http::new(BODY_BYTES_MAX as u32);
    let mut heard = Heard { requests: Vec::new(), refused: None, said: Vec::new() };
    let mut waiting = Vec::new();
    let refuse = |http: &mut Http, heard: &mut Heard, violation: Violation| {
        let Violation::Http { status, problem } = violation else { panic!("{violation:?}") };
        http.refuse(status, problem, &mut heard.said);
        heard.refused = Some(status);
    };
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let (mut fields, mut body) = (fields(), Vec::new());
            let (consumed, request) = match http.decode(&waiting, &[b'd'; 29], &mut fields, &mut body) {
                Ok(Step::Request { request, consumed }) => (consumed, request),
                Ok(Step::Continue) => {
                    heard.said.extend_from_slice(CONTINUE);
                    continue;
                }
                Ok(Step::NeedMore) => break,
                Err(violation) => {
                    refuse(&mut http, &mut heard, violation);
                    return heard;
                }
            };
            assert!(http.is_owed());
            let progress = http.answer_message(Message::Binary(request.body), &mut heard.said);
            let (method, target) = (request.method.to_owned(), request.target.to_owned());
            heard.requests.push((method, target, request.body.to_vec(), progress == Progress::Last));
            assert!(!http.is_open());
            if progress == Progress::Last {
                return heard;
            }
            waiting.drain(..consumed);
        }
        assert!(waiting.len() <= Http::inbox_bytes_max(BODY_BYTES_MAX), "{} bytes wait", waiting.len());
    }
    if let Err(violation) = http.decode_end(&waiting) {
        refuse(&mut http, &mut heard, violation);
    }
    heard
}

fn check(case: &cases::Case, heard: &Heard, how: &str) {
    let requests: Vec<_> = case
        .expected
        .iter()
        .filter_map(|expected| match expected {
            Expected::Served { method, target, body, last } => {
                Some(((*method).to_owned(), (*target).to_owned(), body.clone(), *last))
            }
            Expected::Refused(_) => None,
        })
        .collect();
    assert_eq!(heard.requests, requests, "{}, {how}", case.name);
    match case.expected.last() {
        Some(Expected::Refused(status)) => {
            let refused = heard.refused.unwrap_or_else(|| panic!("{} is not refused, {how}", case.name));
            assert!(status.contains(&refused), "{} is refused with {refused}, {how}", case.name);
        }
        _ => assert_eq!(heard.refused, None, "{}, {how}", case.name),
    }
}

#[test]
fn each_case_comes_to_the_same_at_every_split() {
    let cases = cases::all();
    assert!(cases.len() >= 100, "there are {}", cases.len());
    for case in &cases {
        let input = &case.input[..];
        // Long ones are the same byte over and over.
        let step = (input.len() / 500).max(1);
        for at in (0..=input.len()).step_by(step) {
            check(case, &feed([&input[..at], &input[at..]]), &format!("cut at {at}"));
        }
        check(case, &feed(input.chunks(1)), "byte by byte");
        check(case, &feed([input]), "whole");
    }
}

#[test]
fn a_word_is_sent_to_who_waits_for_it_and_to_nobody_else() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let went_on = |heard: &Heard| heard.said.starts_with(CONTINUE);
    assert!(went_on(&feed([head.as_bytes(), b"hi"])));
    assert!(went_on(&feed([head.as_bytes(), b"h", b"i"])), "once");
    assert!(!went_on(&feed([head.as_bytes(), b"h", b"i"].concat().chunks(1000))), "the body has come along");
    assert!(!went_on(&feed([&head.replace("1.1", "1.0").into_bytes()[..], b"hi"])), "1.0 knows no such word");
    let too_long = head.replace(": 2", ": 2000");
    assert!(!went_on(&feed([too_long.as_bytes()])), "it is not wanted");
}

/// Opens one request.
fn open(http: &mut Http, head: &str) {
    let (mut fields, mut body) = (fields(), Vec::new());
    match http.decode(head.as_bytes(), &[0; 29], &mut fields, &mut body) {
        Ok(Step::Request { .. }) => {}
        other => panic!("{other:?}"),
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
const OLD: &str = "GET / HTTP/1.0\r\n\r\n";

fn said(head: &str, act: impl FnOnce(&mut Http, &mut Vec<u8>) -> Progress) -> (String, Progress) {
    let (mut http, mut sink) = (Http::new(10), Vec::new());
    open(&mut http, head);
    let progress = act(&mut http, &mut sink);
    (String::from_utf8(sink).expect("it is text"), progress)
}

#[test]
fn an_answer_has_its_length_and_the_connection_goes_on() {
    let hello = |http: &mut Http, sink: &mut Vec<u8>| http.answer_message(Message::Text("hello"), sink);
    let whole = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n";
    assert_eq!(said(GET, hello), (format!("{whole}\r\nhello"), Progress::Done));
    assert_eq!(said(HEAD, hello), (format!("{whole}\r\n"), Progress::Done));
    assert_eq!(said(OLD, hello), (format!("{whole}Connection: close\r\n\r\nhello"), Progress::Last));
    let kept = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(said(kept, hello), (format!("{whole}Connection: keep-alive\r\n\r\nhello"), Progress::Done));
}

#[test]
fn a_body_of_unknown_length_goes_out_in_chunks_or_up_to_the_end() {
    let act = |http: &mut Http, sink: &mut Vec<u8>| {
        if http.begin(&Response::new(200), Length::Unknown, sink) != Progress::More {
            return http.end(sink);
        }
        assert!(http.is_open() && !http.is_owed());
        http.piece(b"hello, ", sink);
        http.piece(b"", sink);
        http.answer_message(Message::Text("world and all"), sink);
        http.end(sink)
    };
    let chunks = "7\r\nhello, \r\nd\r\nworld and all\r\n0\r\n\r\n";
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(said(GET, act), (format!("{head}\r\n{chunks}"), Progress::Done));
    assert_eq!(said(HEAD, act), (format!("{head}\r\n"), Progress::Nothing));
    let old = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello, world and all";
    assert_eq!(said(OLD, act), (old.into(), Progress::Last));
}

#[test]
fn a_body_is_as_long_as_its_head_says_or_the_connection_breaks() {
    let begin = |http: &mut Http, sink: &mut Vec<u8>| http.begin(&Response::new(200), Length::Bytes(5), sink);
    let (text, progress) = said(GET, |http, sink| {
        assert_eq!(begin(http, sink), Progress::More);
        assert_eq!(http.piece(b"hel", sink), Progress::More);
        http.piece(b"lo and more", sink)
    });
    assert!(text.ends_with("Content-Length: 5\r\n\r\nhello"), "{text}");
    assert_eq!(progress, Progress::Done);
    let (_, progress) = said(GET, |http, sink| {
        begin(http, sink);
        http.piece(b"hel", sink);
        http.end(sink)
    });
    assert_eq!(progress, Progress::Broken);
    let empty = |http: &mut Http, sink: &mut Vec<u8>| http.begin(&Response::new(200), Length::Bytes(0), sink);
    assert_eq!(said(GET, empty).1, Progress::Done);
}

#[test]
fn one_answer_for_each_request_and_none_for_nobody() {
    let (mut http, mut sink) = (Http::new(10), Vec::new());
    assert_eq!(http.answer_message(Message::Text("hello"), &mut sink), Progress::Nothing);
    open(&mut http, GET);
    assert_eq!(http.answer_message(Message::Text("hello"), &mut sink), Progress::Done);
    let len = sink.len();
    assert_eq!(http.answer_message(Message::Text("again"), &mut sink), Progress::Nothing);
    assert_eq!(http.piece(b"more", &mut sink), Progress::Nothing);
    assert_eq!(http.end(&mut sink), Progress::Nothing);
    assert_eq!(sink.len(), len);
}

#[test]
fn statuses_without_a_body_have_none() {
    for status in [204, 304] {
        let (text, _) = said(GET, |http, sink| http.answer(&Response::new(status), b"body", sink));
        assert!(text.ends_with("\r\n\r\n") && !text.contains("Content-Length"), "{text}");
    }
}

#[test]
fn a_value_stays_on_its_line() {
    let (text, _) = said(GET, |http, sink| {
        http.answer(&Response::new(302).field("Location", "/a\r\nSet-Cookie: b\n\n<script>"), b"", sink)
    });
    assert!(text.contains("Location: /a  Set-Cookie: b  <script>\r\n"), "{text}");
}

#[test]
fn in_the_middle_of_a_body_nothing_is_said_about_a_wrong_request() {
    let (text, _) = said(GET, |http, sink| {
        http.begin(&Response::new(200), Length::Unknown, sink);
        let len = sink.len();
        http.refuse(400, "no", sink);
        assert_eq!(sink.len(), len);
        Progress::More
    });
    assert!(!text.contains("400"));
}

#[test]
fn the_path_of_a_target() {
    for (target, path, query) in [
        ("/", "/", None),
        ("/a/b?c=d?e", "/a/b", Some("c=d?e")),
        ("http://h", "/", None),
        ("http://h/", "/", None),
        ("http://h:80/a?b", "/a", Some("b")),
        ("https://h?b", "/", Some("b")),
        ("/a?http://h/b", "/a", Some("http://h/b")),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (mut fields, mut body, mut http) = (fields(), Vec::new(), Http::new(10));
        let Ok(Step::Request { request, .. }) =
            http.decode(head.as_bytes(), &[0; 29], &mut fields, &mut body)
        else {
            panic!("{target}");
        };
        assert_eq!((request.path(), request.query()), (path, query), "{target}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_trouble(bytes in prop::collection::vec(any::<u8>(), 0..600), chunk in 1usize..100) {
        feed(bytes.chunks(chunk));
    }

    #[test]
    fn nearly_right_bytes_are_none_either(
        which in 0usize..200,
        at in 0usize..300,
        byte in prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), Just(b'0')],
        chunk in 1usize..100,
    ) {
        let cases = cases::all();
        let mut input = cases[which % cases.len()].input.clone();
        if let Some(place) = input.get_mut(at) {
            *place = byte;
        }
        // Whether a client is told to go on depends on what has come by then, and may: all else does not.
        let without_continue = |mut heard: Heard| {
            while let Some(at) = heard.said.windows(CONTINUE.len()).position(|it| it == CONTINUE) {
                heard.said.drain(at..at + CONTINUE.len());
            }
            heard
        };
        let (one, other) = (feed(input.chunks(chunk)), feed(input.chunks(chunk + 7)));
        prop_assert_eq!(without_continue(one), without_continue(other));
    }

    #[test]
    fn a_body_comes_through_however_it_is_cut_into_chunks(
        body in prop::collection::vec(any::<u8>(), 0..BODY_BYTES_MAX),
        sizes in prop::collection::vec(1usize..200, 1..20),
        chunk in 1usize..300,
    ) {
        let mut input = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let (mut rest, mut sizes) = (&body[..], sizes.iter().cycle());
        while !rest.is_empty() {
            let (part, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            input.extend(format!("{:x}\r\n", part.len()).bytes());
            input.extend(part);
            input.extend(b"\r\n");
            rest = behind;
        }
        input.extend(b"0\r\n\r\n");
        let heard = feed(input.chunks(chunk));
        prop_assert_eq!(heard.refused, None);
        prop_assert_eq!(&heard.requests[0].2, &body);
    }
}
