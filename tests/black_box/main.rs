//! What is promised to users, tested from outside: the real program is run, and clients talk to it.
//!
//! They are one program and not a program per file, because a test mostly waits: for an answer, a deadline, a child's
//! end. Here all wait at once, one failure hides no other file's tests, and forty programs need not be linked.
//! `cargo test --test black_box chat::` runs one file's.
//!
//! A test shares this process with all others: its descriptors, its limits, its address space. Whatever must be alone in
//! a process is a child.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod bench_command_line;
mod bench_fan_out;
mod bench_http;
mod bench_truth;
mod browser;
mod certificates;
mod chat;
mod command_line;
mod config;
mod datagram_loops;
mod datagrams;
mod descriptors;
mod endings;
mod examples;
mod guard;
mod half_close;
mod http;
mod limits;
mod log;
mod other_clients;
mod printed_commands;
mod proxied;
mod readiness;
mod relay;
mod reload;
mod serve;
mod signals;
mod sites;
mod supervised;
mod take_over;
mod tls;
mod torture;
mod web;
mod websocket;
