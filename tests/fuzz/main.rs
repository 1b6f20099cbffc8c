//! A fuzzer of the whole program, from outside: many clients at once, whose valid conversations were broken at random,
//! and meanwhile reloads, pauses and summaries; at the end a stop with clients still there.
//!
//! - `grammar`: what valid conversations are made of;
//! - `mutate`: how they are broken and sent;
//! - `settings`: which server they meet;
//! - `crowd`: the clients, hundreds on one thread;
//! - `bystander`: the polite ones among them, and what must be true all the time.
//!
//! The plain test command runs it for some seconds, from the same seed each time. For longer, from a new seed, or again
//! from the seed that a failure has shown:
//!
//! ```console
//! $ FUZZ_FOR=20m cargo test --test fuzz -- --ignored --nocapture
//! $ FUZZ_SEED=17 cargo test --test fuzz
//! ```
//!
//! What is checked: the process lives, without a panic in its log; polite clients are served; when all clients have gone,
//! connections, descriptors and memory are what they were, and the loop sleeps; SIGTERM ends it in time, with 0.
#![cfg(all(feature = "cli", feature = "tls", feature = "web", target_os = "linux"))]

mod bystander;
mod crowd;
#[path = "../support/dice.rs"]
mod dice;
mod grammar;
mod mutate;
mod settings;
#[path = "../support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use bystander::{Bystanders, ENOUGH};
use crowd::Crowd;
use dice::Dice;
use settings::{Ground, PLACES};
use support::*;

/// Conversations at a time.
const CROWD: usize = 200;
/// How much more memory a server may hold after a wave than after the first ones.
const GROWTH: usize = 32 * MIB;

#[test]
fn mutated_conversations_neither_end_nor_stall_nor_swell_the_server() {
    fuzz(dice::seed_asked().unwrap_or(1), Duration::from_secs(4), Duration::from_millis(500));
}

#[test]
#[ignore = "takes FUZZ_FOR (20m where nothing is said)"]
fn the_same_for_longer() {
    let seed = dice::seed_asked().unwrap_or_else(dice::seed_of_now);
    fuzz(seed, dice::time_asked(Duration::from_secs(20 * 60)), Duration::from_secs(4));
}

/// Server after server, each with other settings, until the time is over.
fn fuzz(seed: u64, time: Duration, wave: Duration) {
    need_descriptors(4096);
    println!("FUZZ_SEED={seed}");
    let (begun, ground) = (Instant::now(), Ground::new());
    let tls = crowd::believing(&ground.authority);
    for episode in 0.. {
        if begun.elapsed() >= time {
            break;
        }
        let dice = Dice::new(seed, episode);
        Episode::begin(seed, episode, dice, &ground, &tls).run(wave, begun + time);
    }
}

/// One server from its start to its end. Dropped by a panic, it shows what led to that.
struct Episode<'a> {
    seed: u64,
    number: u64,
    dice: Dice,
    ground: &'a Ground,
    tls: &'a Arc<ClientConfig>,
    server: Option<Server>,
    crowd: Crowd,
    /// The file that it was started with, and its dice.
    first: (Dice, String),
    done: VecDeque<String>,
}

impl<'a> Episode<'a> {
    fn begin(seed: u64, number: u64, mut dice: Dice, ground: &'a Ground, tls: &'a Arc<ClientConfig>) -> Self {
        let file = Dice::new(dice.next(), 0);
        let (listeners, text) = ground.write(&mut file.clone(), true);
        let config = ground.config().display().to_string();
        let mut server = Server::start_command(switchboard().args(["serve", "--config", &config]), listeners);
        server.read_log();
        let crowd = Crowd::new(dice.next(), server.urls(), tls);
        let (server, first) = (Some(server), (file, text));
        Episode { seed, number, dice, ground, tls, server, crowd, first, done: VecDeque::new() }
    }

    fn run(mut self, wave: Duration, end: Instant) {
        let at_start = self.server().descriptors().len();
        let mut after_the_first = 0;
        for number in 0..6 {
            let visits = self.wave(wave);
            self.scatter();
            self.all_is_given_back(at_start);
            bystander::it_rests(self.server());
            let rss = self.server().rss();
            println!(
                "server {}, wave {number}: {} conversations so far, {visits} bystanders, {} KiB",
                self.number,
                self.crowd.begun(),
                rss / 1024
            );
            match number {
                0 | 1 => after_the_first = after_the_first.max(rss),
                _ => assert!(rss < after_the_first + GROWTH, "it grows: {after_the_first} to {rss} bytes"),
            }
            if number >= 1 && Instant::now() >= end {
                break;
            }
        }
        self.stop();
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs until the episode's end")
    }

    /// Without anybody there, the server has no connection, and as many descriptors as at its start.
    fn all_is_given_back(&mut self, at_start: usize) {
        let deadline = Instant::now() + ENOUGH;
        loop {
            assert!(self.server.as_mut().is_some_and(Server::is_running), "the server has ended");
            let connections = bystander::connections(self.server().url());
            let descriptors = self.server().descriptors().len();
            // What we asked with may not have been closed yet.
            if connections == Some(0) && descriptors <= at_start + 1 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "all have gone, and it has {connections:?} connections and {descriptors} descriptors, {at_start} at its start"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A crowd, bystanders, and an operator who can't leave the server alone.
    fn wave(&mut self, time: Duration) -> usize {
        let bystanders = Bystanders::begin(self.server().urls(), self.tls);
        let end = Instant::now() + time;
        let mut next_act = Instant::now();
        let mut goes_on_at = None;
        while Instant::now() < end || goes_on_at.is_some() {
            let now = Instant::now();
            if goes_on_at.is_some_and(|at| now >= at) {
                self.server().go_on();
                goes_on_at = None;
            }
            if now >= next_act && goes_on_at.is_none() {
                next_act = now + Duration::from_millis(50);
                goes_on_at = self.operate().map(|pause| now + pause);
            }
            self.turn(CROWD);
            assert!(self.server.as_mut().is_some_and(Server::is_running), "the server has ended");
            if bystanders.have_failed() {
                break;
            }
        }
        bystanders.end()
    }

    /// Everybody goes, all in one moment of the server's; and the file is again what it was.
    fn scatter(&mut self) {
        self.ground.write(&mut self.first.0.clone(), true);
        self.server().signal(Signal::SIGHUP);
        if self.dice.one_in(2) {
            self.server().pause();
        }
        self.crowd.scatter();
        self.server().go_on();
    }

    fn turn(&mut self, size: usize) {
        // Not all at once: some are in the middle when others begin.
        for _ in 0..8 {
            if self.crowd.size() < size {
                self.crowd.seat();
            }
        }
        if !self.crowd.step() {
            thread::sleep(Duration::from_millis(1)); // the machine is the server's
        }
    }

    /// Something that an operator does; for a pause, how long it takes.
    fn operate(&mut self) -> Option<Duration> {
        let what = self.dice.below(16);
        match what {
            0 | 1 => drop(self.ground.write(&mut self.dice, false)),
            2 => self.ground.write_nonsense(&mut self.dice),
            _ => {}
        }
        let (signal, shown) = match what {
            0..3 => (Signal::SIGHUP, "SIGHUP"),
            3 => (Signal::SIGUSR1, "SIGUSR1"),
            4 => (Signal::SIGSTOP, "SIGSTOP"),
            _ => return None,
        };
        self.note(format!("{shown}, after conversation {}", self.crowd.begun()));
        self.server().signal(signal);
        (signal == Signal::SIGSTOP).then(|| Duration::from_millis(self.dice.between(20, 200) as u64))
    }

    fn note(&mut self, what: String) {
        if self.done.len() == 20 {
            self.done.pop_front();
        }
        self.done.push_back(what);
    }

    /// SIGTERM while many are there, who go on with what they do.
    fn stop(mut self) {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(200) {
            self.turn(CROWD / 2);
        }
        self.note(format!("SIGTERM, after conversation {}", self.crowd.begun()));
        self.server().signal(Signal::SIGTERM);
        let deadline = Instant::now() + ENOUGH;
        while self.server.as_mut().is_some_and(Server::is_running) {
            assert!(Instant::now() < deadline, "SIGTERM does not end it within {ENOUGH:?}");
            self.turn(0);
        }
        let end = self.server.take().expect("it was there").wait();
        assert_eq!(end.code, Some(0), "after SIGTERM");
        self.crowd.scatter();
    }
}

impl Drop for Episode<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the file that the server was started with:\n{}", self.first.1);
            for what in self.crowd.last().chain(self.done.iter().cloned()) {
                eprintln!("{what}");
            }
            if let Some(server) = self.server.as_mut()
                && server.is_running()
            {
                eprintln!("it keeps {:.0} % of a core busy", 100.0 * bystander::share(server));
            }
            eprintln!(
                "server {} of {} places, again by FUZZ_SEED={}",
                self.number,
                2 * PLACES.len(),
                self.seed
            );
        }
    }
}
