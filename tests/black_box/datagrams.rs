//! Datagrams: each is answered or lost, alone.
#![cfg(feature = "cli")]

use std::io::ErrorKind;
use std::net::UdpSocket;

use crate::support::*;

/// The most that one IPv4 datagram holds.
const DATAGRAM_BYTES_MAX: usize = 65_507;

fn echo() -> Server {
    Server::start(&["serve", "--listen", TCP, "--listen", UDP])
}

fn hear(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; DATAGRAM_BYTES_MAX + 1];
    let count = socket.recv(&mut bytes).expect("there is an answer");
    bytes.truncate(count);
    bytes
}

#[test]
fn datagrams_of_every_size_come_back_the_empty_one_too() {
    let server = echo();
    let alice = datagrams_to(server.address(1));
    for size in [0, 1, 100, 1472, 1473, 9000, 65_000, DATAGRAM_BYTES_MAX, 0] {
        let said = pattern(size as u64, size);
        alice.send(&said).unwrap();
        assert_same(&hear(&alice), &said);
    }
    let summary = server.stop().summary();
    assert!(summary.text().contains("datagrams in 9 out 9 dropped 0"), "{summary:?}");
}

#[test]
fn everybody_hears_his_own() {
    let server = echo();
    let senders: Vec<UdpSocket> = (0..20).map(|_| datagrams_to(server.address(1))).collect();
    for round in 0..20 {
        for (number, sender) in senders.iter().enumerate() {
            sender.send(&pattern(round * 20 + number as u64, 100)).unwrap();
        }
        for (number, sender) in senders.iter().enumerate() {
            assert_same(&hear(sender), &pattern(round * 20 + number as u64, 100));
        }
    }
}

/// The answer to a sender that is gone comes back as an ICMP error. It is about that sender alone.
#[test]
fn a_sender_who_is_gone_costs_the_others_nothing() {
    let server = echo();
    let alice = datagrams_to(server.address(1));
    for round in 0..20u8 {
        server.pause();
        for _ in 0..5 {
            datagrams_to(server.address(1)).send(b"catch me").unwrap();
        }
        alice.send(&[round]).unwrap();
        server.go_on();
        assert_eq!(hear(&alice), [round]);
    }
    let summary = server.summary();
    assert_eq!(summary.of("datagrams in"), 20 * 6, "{summary:?}");
}

/// More than one turn's budget lies in the socket when the server looks, and no event will tell it of
/// the rest.
#[test]
fn of_a_burst_everything_that_fits_is_answered() {
    let server = echo();
    let (alice, mut bob) = (datagrams_to(server.address(1)), server.call_at(0));
    server.pause();
    for number in 0..1000u32 {
        alice.send(&number.to_be_bytes()).unwrap();
    }
    bob.say("am I served as well?");
    server.go_on();
    bob.hear("am I served as well?");
    let summary = server.at_rest();
    let received = summary.of("datagrams in");
    assert!(received > 64, "more than one turn's worth fits into a socket: {summary:?}");

    alice.set_nonblocking(true).unwrap();
    let mut last = None;
    let mut answers = 0;
    loop {
        let mut bytes = [0; 10];
        match alice.recv(&mut bytes) {
            Ok(4) => {
                let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                assert!(Some(number) > last, "{number} after {last:?}");
                (last, answers) = (Some(number), answers + 1);
            }
            Ok(count) => panic!("{count} bytes"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(answers > 64, "{answers} answers to {received} datagrams");
    assert!(answers <= received, "{answers} answers to {received} datagrams");

    alice.set_nonblocking(false).unwrap();
    alice.send(b"and afterwards?").unwrap();
    assert_eq!(hear(&alice), b"and afterwards?");
}

#[test]
fn a_thousand_in_small_bursts_are_all_answered() {
    let server = echo();
    let alice = datagrams_to(server.address(1));
    for burst in 0..50u32 {
        for number in 0..20 {
            alice.send(&(burst * 20 + number).to_be_bytes()).unwrap();
        }
        for number in 0..20 {
            assert_eq!(hear(&alice), (burst * 20 + number).to_be_bytes());
        }
    }
}

/// A client takes an answer only from where it has asked. 127.0.0.2 is an address of every Linux machine, and none that the
/// kernel would choose.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let mut listeners = vec![("udp://0.0.0.0:0", "127.0.0.2:0"), ("udp://0.0.0.0:0", "127.0.0.1:0")];
    if has_ipv6() {
        // The last one is IPv4 at an IPv6 socket.
        listeners.extend([("udp://[::]:0", "[::1]:0"), ("udp://[::]:0", "127.0.0.2:0")]);
    }
    for (listener, asked) in listeners {
        let server = Server::start(&["serve", "echo", "--listen", listener]);
        let mut asked: std::net::SocketAddr = asked.parse().unwrap();
        asked.set_port(server.address(0).port());
        let any = if asked.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let alice = UdpSocket::bind(any).unwrap();
        alice.set_read_timeout(Some(PATIENCE)).unwrap();
        for said in [&b"where are you?"[..], b"", &[7; 9000]] {
            alice.send_to(said, asked).unwrap();
            let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
            let (count, from) = alice.recv_from(&mut bytes).unwrap();
            assert_eq!((from, &bytes[..count]), (asked, said), "at {listener}");
        }
        server.stop();
    }
}
