//! Datagrams with a forged sender: none makes two servers answer each other for ever ("Loop DoS", CVE-2024-2169).
//!
//! A sender is forged here without a raw socket: our own socket sends, goes away, and a server takes its port before the first
//! answer comes there.
#![cfg(all(feature = "cli", feature = "web"))]

use std::net::{SocketAddr, UdpSocket};

use crate::support::*;

fn server(service: &str, at: &str, options: &[&str]) -> Server {
    let arguments = ["serve", service, "--listen", at, "--message", "hi"];
    let arguments = if service == "reply" { &arguments[..] } else { &arguments[..4] };
    Server::start(&[arguments, options].concat())
}

/// One datagram comes to `first`, and its sender is `second`. Returns how many datagrams each of them receives in all.
fn forge(first: (&str, &[&str]), second: (&str, &[&str]), bytes: &[u8]) -> [u64; 2] {
    let a = server(first.0, UDP, first.1);
    // Not a port that the kernel hands out: another program could get it before the server does.
    let forger = UdpSocket::bind(("127.0.0.1", free_port())).expect("a free port");
    let there = forger.local_addr().expect("it is bound");
    a.pause();
    forger.send_to(bytes, a.address(0)).expect("it is sent");
    drop(forger);
    let b = server(second.0, &format!("udp://{there}"), second.1);
    a.go_on();
    a.summary_until("the datagram has come", |summary| summary.of("datagrams in") > 0);
    let received = [&a, &b].map(|server| server.at_rest().of("datagrams in"));
    a.stop();
    b.stop();
    received
}

const HELLO: &[u8] = b"SB\x01\x01\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\0";
const UPDATE: &[u8] = b"SB\x01\x03\0\0\0\0\0\0\0\x09\0\0\0\x07\0\0\0\0\0\0\0\0";
const UNKNOWN: &[u8] = b"SB\x01\x63\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn a_forged_datagram_starts_no_endless_exchange() {
    let (relay, reply, echo) = (("relay", &[][..]), ("reply", &[][..]), ("echo", &[][..]));
    for (first, second, bytes, expected) in [
        // A welcome, which no relay answers; a refusal, likewise; and silence.
        (relay, relay, HELLO, [1, 1]),
        (relay, relay, UPDATE, [1, 1]),
        (relay, relay, UNKNOWN, [1, 0]),
        // The echo sends the welcome back.
        (relay, echo, HELLO, [2, 1]),
        (relay, reply, HELLO, [2, 1]),
        // "hi" is what it would answer itself.
        (reply, reply, b"hello", [1, 1]),
        (reply, echo, b"hello", [2, 1]),
    ] {
        assert_eq!(forge(first, second, bytes), expected, "{} with {}: {bytes:?}", first.0, second.0);
    }
}

/// An echo can't tell the other's answer from a question. But what is dropped is answered no more.
#[test]
fn two_echoes_end_their_exchange_when_it_is_faster_than_one_client_may_be() {
    const LIMITED: &[&str] = &["--datagrams-per-ip", "1/50"];
    for bytes in [&b"x"[..], &[7; 1400]] {
        let received = forge(("echo", LIMITED), ("echo", &["--datagrams-per-ip", "off"]), bytes);
        // A burst, what comes in the time that it takes, and the one that is dropped.
        assert!((50..200).contains(&received[0]), "{received:?}");
    }
}

/// A socket with the same address as the server's first one, which the kernel allows where both say so.
fn twin_of(address: SocketAddr) -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::DGRAM, None);
    let socket = socket.expect("a descriptor is free");
    socket.set_reuse_port(true).expect("it is new");
    socket.bind(&address.into()).expect("it is shared");
    socket.into()
}

#[test]
fn a_datagram_from_one_of_our_own_sockets_gets_no_answer() {
    for service in ["echo", "reply", "relay"] {
        for [one, other] in [
            ["udp://127.0.0.1:0", "udp://127.0.0.1:0"],
            ["udp://0.0.0.0:0", "udp://127.0.0.1:0"],
            ["udp://127.0.0.2:0", "udp://0.0.0.0:0"],
        ] {
            let server =
                Server::start(&["serve", service, "--reuse-port", "--listen", one, "--listen", other]);
            let local = |address: SocketAddr| match address.ip().is_unspecified() {
                true => SocketAddr::new([127, 0, 0, 3].into(), address.port()),
                false => address,
            };
            let (one, other) = (local(server.address(0)), local(server.address(1)));
            // Sent, and gone before the server looks, so that an answer could only reach the server itself.
            server.pause();
            let twin = twin_of(one);
            twin.send_to(HELLO, other).expect("it is sent");
            drop(twin);
            server.go_on();
            server.summary_until("the datagram has come", |summary| summary.of("datagrams in") > 0);
            let summary = server.at_rest();
            assert!(summary.text().contains("datagrams in 1 out 0"), "{service}: {summary:?}");
            assert_eq!(summary.of("own-socket"), 1, "{service}: {summary:?}");
            server.stop();
        }
    }
}

/// Only who may bind such a port can try it: root, mostly.
#[test]
fn a_datagram_from_a_port_of_servers_gets_no_answer() {
    for service in ["echo", "reply", "relay"] {
        let server = server(service, UDP, &[]);
        let Ok(chargen) = UdpSocket::bind("127.0.0.1:19") else { return };
        let client = datagrams_to(server.address(0));
        chargen.send_to(HELLO, server.address(0)).expect("it is sent");
        client.send(HELLO).expect("it is sent");
        // The second one is answered, and the first one was read before it.
        client.recv(&mut [0; 100]).expect("an answer");
        let summary = server.at_rest();
        assert!(summary.text().contains("datagrams in 2 out 1"), "{service}: {summary:?}");
        drop(chargen);
        server.stop();
    }
}

#[test]
fn an_honest_flood_is_within_the_rate_that_one_address_has_by_default() {
    let server = server("echo", UDP, &[]);
    let clients: Vec<UdpSocket> = (0..100).map(|_| datagrams_to(server.address(0))).collect();
    for round in 0..50u8 {
        for client in &clients {
            client.send(&[round]).expect("it is sent");
        }
        for client in &clients {
            let mut bytes = [0; 10];
            assert_eq!((client.recv(&mut bytes).expect("an answer"), bytes[0]), (1, round));
        }
    }
    assert_eq!(server.stop().summary().of("too-fast"), 0);
}
