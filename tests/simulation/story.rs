//! The record of what happened in a world. It is formatted only for printing, because formatting takes longer than the world.

use std::fmt;

use mio::Token;
use switchboard::reactor::{Readiness, Turn};

/// The last lines of a story that goes wrong.
const LINES_SHOWN: usize = 60;

pub(crate) struct Story {
    plan: String,
    /// When, in nanoseconds, and what.
    lines: Vec<(u64, Line)>,
}

enum Line {
    Said(String),
    Turn { events: Vec<(Token, Readiness)>, bytes_in: u64, bytes_out: u64 },
}

impl Story {
    /// Of a world with this plan.
    pub(crate) fn new(plan: &impl fmt::Debug) -> Story {
        Story { plan: format!("{plan:#?}"), lines: Vec::new() }
    }

    pub(crate) fn say(&mut self, now: u64, what: fmt::Arguments<'_>) {
        self.lines.push((now, Line::Said(what.to_string())));
    }

    pub(crate) fn count(&mut self, now: u64, events: Vec<(Token, Readiness)>, turn: &Turn) {
        let Turn { bytes_in, bytes_out, .. } = *turn;
        self.lines.push((now, Line::Turn { events, bytes_in, bytes_out }));
    }

    /// The plan, and how it ended.
    pub(crate) fn end(&self) -> String {
        let last = &self.lines[self.lines.len().saturating_sub(LINES_SHOWN)..];
        let lines: Vec<String> = last.iter().map(shown).collect();
        format!("{}\n{}", self.plan, lines.join("\n"))
    }

    /// All of it.
    pub(crate) fn whole(&self) -> String {
        let lines: Vec<String> = self.lines.iter().map(shown).collect();
        format!("{}\n{}", self.plan, lines.join("\n"))
    }
}

fn shown((now, line): &(u64, Line)) -> String {
    match line {
        Line::Said(what) => format!("{now} {what}"),
        Line::Turn { events, bytes_in, bytes_out } => {
            format!("{now} {events:?}: {bytes_in} in, {bytes_out} out")
        }
    }
}
