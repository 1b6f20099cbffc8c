//! The command line: what is measured, with whom, for how long.
//!
//! Its one invariant: what comes out of `parse` can be run as it is; whatever can't is one line to the user.

use super::Outcome;
use super::ladder::{MODELS, Model};
use super::stage;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use switchboard::load::figures;

const HELP: &str = "\
cargo bench --bench models -- [options]

  --only NAME,NAME...   these models: socket, threads, select, poll, epoll, bytes, floor, switchboard (all)
  --connections N,...   numbers of connections (1,8,64,512,1000)
  --rounds N            measurements of each, of which the median is shown (3)
  --seconds S           length of one measurement (0.8)
  --quick               socket, floor and switchboard, 8 connections, one round, 0.2 seconds: does it run?
                        (the options above win over it)
  --help                this

Writes models.json, models.html and models.svg to cargo's target directory.
";

/// From one address to another there are some 28,000 ports.
const CONNECTIONS_MAX: usize = 20_000;
/// What a process has open besides its connections, with room to spare.
const OTHER_DESCRIPTORS: usize = 100;

pub(crate) struct Options {
    pub(crate) models: Vec<&'static Model>,
    /// Ascending, each once.
    pub(crate) connections: Vec<usize>,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    /// As they were given.
    pub(crate) words: Vec<String>,
}

/// How many connections there are, and how many of them talk. The others are silent.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    pub(crate) active: usize,
}

impl Shape {
    /// All of them talk; and nine in ten don't. One connection alone is the same either way.
    pub(crate) fn of(connections: usize) -> Vec<Shape> {
        let one_in_ten = (connections / 10).max(1);
        let mut shapes = vec![Shape { connections, active: connections }];
        if one_in_ten < connections {
            shapes.push(Shape { connections, active: one_in_ten });
        }
        shapes
    }

    pub(crate) fn idle(&self) -> usize {
        self.connections - self.active
    }
}

/// `64`, or where not all of them talk `6 of 64`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = figures::count(self.connections as u64);
        match self.idle() {
            0 => f.write_str(&connections),
            _ => write!(f, "{} of {connections}", self.active),
        }
    }
}

impl Options {
    /// None if all that was asked was help.
    pub(crate) fn parse(words: &[String]) -> Outcome<Option<Self>> {
        let (mut only, mut connections) = (Vec::new(), Vec::new());
        let (mut rounds, mut seconds) = (None, None);
        // Unoptimised figures mean nothing, so then it only shows that it runs.
        let mut quick = cfg!(debug_assertions);
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let mut value =
                || rest.next().map(String::as_str).ok_or(format!("{word} wants a value; --help says which"));
            match word.as_str() {
                "--only" => only = models_named(value()?)?,
                "--connections" => connections = numbers(word, value()?)?,
                "--rounds" => rounds = Some(number(word, value()?)?),
                "--seconds" => seconds = Some(number(word, value()?)?),
                "--quick" => quick = true,
                // What cargo adds to say that this is a bench.
                "--bench" => {}
                "--help" | "-h" => {
                    print!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(format!("{word}: not an option; --help lists them")),
            }
        }
        if only.is_empty() {
            only = MODELS.iter().filter(|model| !quick || model.in_quick).collect();
        }
        if connections.is_empty() {
            connections = if quick { vec![8] } else { vec![1, 8, 64, 512, 1000] };
        }
        // Either end of a connection is in a process of its own.
        let descriptors = stage::descriptors_max();
        let connections_max = CONNECTIONS_MAX.min(descriptors.saturating_sub(OTHER_DESCRIPTORS));
        if let Some(count) = connections.iter().find(|count| !(1..=connections_max).contains(*count)) {
            return Err(format!(
                "--connections {count}: from 1 to {connections_max} (a process may have {descriptors} descriptors, `ulimit -Hn`)"
            ));
        }
        connections.sort_unstable();
        connections.dedup();
        let rounds = rounds.unwrap_or(if quick { 1 } else { 3 });
        if !(1..=1000).contains(&rounds) {
            return Err(format!("--rounds {rounds}: from 1 to 1000"));
        }
        let seconds = seconds.unwrap_or(if quick { 0.2 } else { 0.8 });
        if !(0.05..=3600.0).contains(&seconds) {
            return Err(format!("--seconds {seconds}: from 0.05 to 3600"));
        }
        Ok(Some(Self { models: only, connections, rounds, seconds, words: words.to_vec() }))
    }
}

fn models_named(names: &str) -> Outcome<Vec<&'static Model>> {
    let wanted: Vec<&str> = names.split(',').collect();
    let known = || MODELS.iter().map(|model| model.name).collect::<Vec<_>>().join(", ");
    if let Some(name) = wanted.iter().find(|name| !MODELS.iter().any(|model| model.name == **name)) {
        return Err(format!("--only {name}: no such model; there are {}", known()));
    }
    // In the ladder's order, whatever the order here.
    Ok(MODELS.iter().filter(|model| wanted.contains(&model.name)).collect())
}

fn numbers<T: FromStr>(option: &str, values: &str) -> Outcome<Vec<T>> {
    values.split(',').map(|value| number(option, value)).collect()
}

fn number<T: FromStr>(option: &str, value: &str) -> Outcome<T> {
    value.trim().parse().map_err(|_| format!("{option} {value}: not a number"))
}
