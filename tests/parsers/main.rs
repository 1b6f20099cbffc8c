//! A fuzzer of the parsers, in this process: conversations of the black-box fuzzer's grammar (`tests/fuzz`), broken at
//! random, go into each function of `bodies`.
//!
//! It runs for 0.3 s per parser in the plain test command, from the same seed each time, and for longer on demand:
//!
//! ```console
//! $ FUZZ_FOR=10m cargo test --test parsers -- --ignored --nocapture the_same
//! $ FUZZ_SEED=17 cargo test --test parsers
//! ```
//!
//! The same functions are targets of cargo-fuzz, which follows coverage and needs a nightly toolchain:
//!
//! ```console
//! $ cargo install cargo-fuzz --locked
//! $ cargo test --test parsers -- --ignored seeds_for_cargo_fuzz
//! $ cargo +nightly fuzz run --fuzz-dir tests/parsers http
//! ```
#![cfg(all(feature = "cli", feature = "tls", feature = "web", unix))]

mod bodies;
#[path = "../support/dice.rs"]
mod dice;
#[path = "../fuzz/grammar.rs"]
#[allow(dead_code)] // here nobody waits for a token
mod grammar;
#[path = "../fuzz/mutate.rs"]
#[allow(dead_code)] // here nobody performs
mod mutate;

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::time::{Duration, Instant};

use dice::Dice;
use grammar::{Inside, Piece, Speech};

#[test]
fn mutated_input_breaks_no_parser() {
    let seed = dice::seed_asked().unwrap_or(1);
    for (name, body) in bodies::TARGETS {
        fuzz(name, *body, seed, Duration::from_millis(300));
    }
}

#[test]
#[ignore = "takes FUZZ_FOR for each parser (1m where nothing is said)"]
fn the_same_for_longer() {
    let (seed, time) =
        (dice::seed_asked().unwrap_or_else(dice::seed_of_now), dice::time_asked(Duration::from_secs(60)));
    for (name, body) in bodies::TARGETS {
        fuzz(name, *body, seed, time);
    }
}

/// Valid inputs for cargo-fuzz to begin with, in `tests/parsers/corpus`.
#[test]
#[ignore = "writes files"]
fn seeds_for_cargo_fuzz() {
    for (name, _) in bodies::TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parsers/corpus").join(name);
        fs::create_dir_all(&directory).expect("the tree is ours");
        for number in 0..100 {
            let seed = with_cuts(name, &valid(name, &mut Dice::new(0, number)), &mut Dice::new(1, number));
            fs::write(directory.join(format!("seed{number}")), seed).expect("the tree is ours");
        }
    }
}

/// Messages of one input.
const MESSAGES_MAX: usize = 10;

/// Parsers have limits of some hundred bytes here: longer inputs show nothing new, and as many as possible do.
const INPUT_BYTES_MAX: usize = 4096;

/// Inputs of this seed, one after the other, until the time is over.
fn fuzz(name: &str, body: fn(&[u8]), seed: u64, time: Duration) {
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < time {
        let mut dice = Dice::new(seed, count);
        let mut pieces = valid(name, &mut dice);
        mutate::mutate(&mut pieces, &mut dice);
        let input = with_cuts(name, &pieces, &mut dice);
        if let Err(failure) = panic::catch_unwind(AssertUnwindSafe(|| body(&input))) {
            eprintln!("{name}, FUZZ_SEED={seed}, input {count}: b\"{}\"", input.escape_ascii());
            panic::resume_unwind(failure);
        }
        count += 1;
    }
    println!("{name}: {count} inputs in {:?}, FUZZ_SEED={seed}", begun.elapsed());
}

/// Something that this parser takes.
fn valid(name: &str, dice: &mut Dice) -> Vec<Piece> {
    let inside = dice.pick(&[Inside::Anything, Inside::Chat, Inside::Relay]);
    let framed = |dice: &mut Dice| {
        let mut pieces = grammar::conversation(Speech::WebSocket(inside), MESSAGES_MAX, dice);
        // What is behind the handshake.
        let head = pieces.iter().position(|piece| piece == b"\r\n").map_or(0, |at| at + 1);
        pieces.drain(..head);
        pieces
    };
    let lines = |dice: &mut Dice, of: &[&str]| {
        let mut pieces = Vec::new();
        for _ in 0..dice.between(1, 6) {
            pieces.extend([dice.pick(of).as_bytes().to_vec(), b"\n".to_vec()]);
        }
        pieces
    };
    match name {
        "http" => grammar::conversation(Speech::Http, MESSAGES_MAX, dice),
        "websocket" => framed(dice),
        "lines" => grammar::conversation(Speech::Lines, MESSAGES_MAX, dice),
        "prefixed" => grammar::conversation(Speech::Prefixed, MESSAGES_MAX, dice),
        "proxy_header" => vec![grammar::proxy_header(dice), b"hello".to_vec()],
        "pem" => lines(
            dice,
            &[bodies::KEY, CERTIFICATE, "\u{feff}", "some text", &CERTIFICATE.replace('\n', "\r\n")],
        ),
        "addresses" => lines(dice, NETWORKS),
        "endpoint" => vec![dice.pick(URLS).into()],
        _ => {
            // Which service, and what it is told: see `bodies::services`.
            let which = dice.below(8);
            let pieces = match which {
                0 => grammar::conversation(Speech::Chat, MESSAGES_MAX, dice),
                3 => grammar::conversation(Speech::WebSocket(inside), MESSAGES_MAX, dice),
                4 | 5 => grammar::conversation(Speech::Http, MESSAGES_MAX, dice),
                6 => grammar::conversation(Speech::Prefixed, MESSAGES_MAX, dice),
                _ => framed(dice),
            };
            [vec![vec![which as u8, 7, 77, 255, 3]], pieces].concat()
        }
    }
}

/// With the bytes in front that say how it is cut, where that is said.
fn with_cuts(name: &str, pieces: &[Piece], dice: &mut Dice) -> Vec<u8> {
    let cuts = match name {
        "http" | "websocket" | "lines" | "prefixed" if dice.one_in(3) => vec![0; 4],
        "http" | "websocket" | "lines" | "prefixed" => dice.bytes(4),
        _ => Vec::new(),
    };
    let mut input = [&cuts[..], &pieces.concat()].concat();
    input.truncate(INPUT_BYTES_MAX);
    input
}

const NETWORKS: &[&str] = &[
    "192.0.2.0/24",
    "192.0.2.1",
    "2001:db8::/32",
    "::1",
    "0.0.0.0/0",
    "::/0",
    "10.1.2.3/8  # a comment",
    "# nothing",
    "",
    "\u{feff}192.0.2.1",
    "; a comment",
    "192.0.2.1 a name",
    "::ffff:192.0.2.1/100",
];

const URLS: &[&str] = &[
    "tcp://127.0.0.1:8080",
    "127.0.0.1:80",
    "tcp+lines://[::1]:0",
    "udp://0.0.0.0:53",
    "tls+prefixed://192.0.2.1:443/",
    "http://127.0.0.1",
    "https://[2001:db8::1]:8443",
    "ws://127.0.0.1:80/",
    "wss://[::1]",
    "unix:/run/a.sock",
    "unix+http:relative/path",
    "unix+ws:@name",
    "http://127.0.0.1:80?x",
    "HTTP://127.0.0.1",
    "tcp://[fe80::1%1]:80",
];

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
    MIIBfzCCASWgAwIBAgIUH5z/peBicfT9Y1thjpMVVWd3DXwwCgYIKoZIzj0EAwIw\n\
    FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNjAxMTIxMloYDzIwODEwODI5\n\
    MDExMjEyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO\n\
    PQMBBwNCAAQp4IlUetd3cnCw95aZFfCwjDIh++q/oNrGbVIObi5F0i3wYDq01mGZ\n\
    JDgL/S9tHtPzTE1Hb/2+uaOVr370kzdlo1MwUTAdBgNVHQ4EFgQUNoHIjDxy5snH\n\
    PGPfghVRQxK0Xk0wHwYDVR0jBBgwFoAUNoHIjDxy5snHPGPfghVRQxK0Xk0wDwYD\n\
    VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBGK+NxYmZL2fpKpzaukO+q\n\
    b4wha606IWwf6kDQ4NgaxAIhAORHSrr3t+GSELwcicza/XZ7BOh0vdUL6+2AJvMh\n\
    41zD\n\
    -----END CERTIFICATE-----\n";
