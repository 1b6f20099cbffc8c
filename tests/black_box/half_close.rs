//! A peer's end of file is not the end: everything it has said is answered, and then comes ours.
#![cfg(feature = "cli")]

use crate::support::*;

#[derive(Clone, Copy)]
enum Framing {
    Raw,
    Lines,
    Prefixed,
}

use Framing::*;

/// Five mebibytes of whole messages, and for lines one without its end.
fn what_is_said(framing: Framing) -> Vec<u8> {
    let mut bytes = pattern(5, 5 * MIB);
    match framing {
        Raw => {}
        Lines => {
            // Lines of all lengths, with what else lies between two LFs.
            for byte in &mut bytes {
                if *byte == b'\r' {
                    *byte = b'_';
                }
            }
            *bytes.last_mut().unwrap() = b'.';
        }
        Prefixed => {
            let mut at = 0;
            for length in (0u32..).map(|number| number * 997 % 40_000) {
                let (body, next) = (at + 4, at + 4 + length as usize);
                if next > bytes.len() {
                    break;
                }
                bytes[at..body].copy_from_slice(&length.to_be_bytes());
                at = next;
            }
            bytes.truncate(at);
        }
    }
    bytes
}

fn five_mebibytes_and_the_end(transport: &str, framing: Framing) {
    let directory = Directory::new();
    let tail = match framing {
        Raw => "",
        Lines => "+lines",
        Prefixed => "+prefixed",
    };
    let url = match transport {
        "tcp" => format!("tcp{tail}://127.0.0.1:0"),
        _ => directory.url(&format!("unix{tail}"), "socket"),
    };
    let server = Server::start(&["serve", "--listen", &url]);
    let mut expected = what_is_said(framing);

    let mut alice = server.call();
    let saying = alice.say_aside(expected.clone());
    let half_closing = std::thread::spawn(move || saying.join().unwrap().half_close());
    let heard = alice.hear_until_the_end();
    half_closing.join().unwrap();
    if matches!(framing, Lines) {
        expected.push(b'\n'); // the end of file ended the last line, and its reply is a whole one
    }
    assert_same(&heard, &expected);

    // Nothing is left of her, and no side had to be cut off.
    let summary = server.summary_until("the connection to be over", |summary| summary.of("open") == 0);
    assert_eq!(summary.of("finished"), 1, "{summary:?}");
}

#[test]
fn five_mebibytes_over_tcp_are_all_there_before_the_end() {
    five_mebibytes_and_the_end("tcp", Raw);
}

#[test]
fn five_mebibytes_of_lines_over_tcp_are_all_there_before_the_end() {
    five_mebibytes_and_the_end("tcp", Lines);
}

#[test]
fn five_mebibytes_of_prefixed_messages_over_tcp_are_all_there_before_the_end() {
    five_mebibytes_and_the_end("tcp", Prefixed);
}

#[test]
fn five_mebibytes_over_unix_are_all_there_before_the_end() {
    five_mebibytes_and_the_end("unix", Raw);
}

#[test]
fn five_mebibytes_of_lines_over_unix_are_all_there_before_the_end() {
    five_mebibytes_and_the_end("unix", Lines);
}

#[test]
fn five_mebibytes_of_prefixed_messages_over_unix_are_all_there_before_the_end() {
    five_mebibytes_and_the_end("unix", Prefixed);
}

/// The server finds the bytes and the end of file in one event, for which there will be no second.
#[test]
fn bytes_and_the_end_that_arrive_together() {
    let directory = Directory::new();
    let unix = directory.url("unix+lines", "socket");
    let server = Server::start(&["serve", "--listen", TCP, "--listen", LINES, "--listen", &unix]);
    for listener in 0..3 {
        let mut alice = server.call_at(listener);
        alice.echo("hello\n");
        server.pause();
        let mut bob = server.call_at(listener);
        for client in [&mut alice, &mut bob] {
            client.say("the last words\n");
            client.half_close();
        }
        server.go_on();
        for client in [&mut alice, &mut bob] {
            client.hear("the last words\n");
            client.hear_end();
        }
    }
}

#[test]
fn an_end_without_a_word() {
    let directory = Directory::new();
    let unix = directory.url("unix", "socket");
    let server = Server::start(&[
        "serve", "--listen", TCP, "--listen", LINES, "--listen", PREFIXED, "--listen", &unix,
    ]);
    for listener in 0..4 {
        let mut alice = server.call_at(listener);
        alice.half_close();
        alice.hear_end();
    }
    let summary = server.summary_until("all of them to be over", |summary| summary.of("open") == 0);
    assert_eq!((summary.of("finished"), summary.bytes_out()), (4, 0), "{summary:?}");
}

/// The replies no longer fit into the kernel's buffers when the end of file comes.
#[test]
fn an_end_behind_which_replies_still_wait() {
    let server = Server::start(&["serve", "reply", "--listen", LINES, "--message", &"x".repeat(2000)]);
    let mut alice = Client::prepared(server.url(), small_buffers);
    alice.say("\n".repeat(10_000));
    alice.say("and one without an end");
    alice.half_close();
    let summary = server.at_rest();
    assert!(summary.bytes_out() < 10_001 * 2001, "the kernel took everything: {summary:?}");
    let reply = "x".repeat(2000) + "\n";
    alice.hear(reply.repeat(10_001));
    alice.hear_end();
}

/// The peer's end of file is news once; a loop that hears of it in each turn never sleeps again.
#[test]
fn a_half_closed_peer_who_does_not_read_costs_no_turns() {
    let directory = Directory::new();
    let server = Server::start(&["serve", "--listen", &directory.url("unix", "socket")]);
    let said = pattern(1, 8 * MIB);
    let (mut alice, taken) = stuck_client(&server, server.url(), &said);
    alice.half_close();
    server.at_rest();
    alice.hear(&said[..taken]);
    alice.hear_end();
}

#[test]
fn peers_who_hang_up_are_forgotten() {
    let server = Server::echo();
    let mut bob = server.call();
    for round in 0..20 {
        let mut silent = server.call();
        let mut waiting = server.call();
        let mut gone = server.call();
        waiting.echo("hello");
        gone.echo("hello");
        waiting.say(pattern(round, 40_000)); // the reply meets a closed socket
        waiting.hang_up();
        silent.say("never mind");
        silent.hang_up();
        gone.hang_up();
        bob.echo("I am still here");
    }
    let summary = server.summary_until("all but bob to be gone", |summary| summary.of("open") == 1);
    assert_eq!(summary.of("accepted"), 61, "{summary:?}");
    bob.echo("I am still here");
}
