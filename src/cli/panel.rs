//! How a run is getting on: three lines that are redrawn on a terminal, plain lines elsewhere.
//!
//! It goes to standard error: standard output is for the result. Invariant: quiet means nothing.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::load::figures;
use crate::load::run::Progress;
use crate::load::summary::sparks;
use crate::load::timeline::Tally;

/// On a terminal the panel is redrawn with each tick; elsewhere there is a line so often.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Slices in the sparklines.
const SPARKS: usize = 60;

pub(super) struct Panel {
    /// `None`: not a terminal, or quiet.
    bar: Option<ProgressBar>,
    quiet: bool,
    last_line: Instant,
}

impl Panel {
    pub(super) fn new(quiet: bool) -> Panel {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template("{msg}").expect("a template"));
            bar
        });
        Panel { bar, quiet, last_line: Instant::now() }
    }

    /// One line of what is about to happen.
    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(line.to_owned()),
            None if self.quiet => {}
            None => complain(line),
        }
        if let Some(bar) = &self.bar {
            bar.tick();
        }
    }

    /// How far the run has come.
    pub(super) fn show(&mut self, progress: &Progress<'_>) {
        if self.quiet {
            return;
        }
        let newest: Vec<&Tally> = progress.timeline.newest(progress.now_ns, SPARKS).collect();
        let per_s = |tally: &Tally| tally.replies as f64 / progress.timeline.width_s();
        let last: Vec<&&Tally> = newest.iter().rev().take(5).collect();
        let rate = last.iter().map(|tally| per_s(tally)).sum::<f64>() / last.len().max(1) as f64;
        let p99_ns = last.iter().filter_map(|tally| tally.buckets.percentile(99.0)).max();
        let p99 = p99_ns.map_or("-".into(), |ns| figures::time(ns as f64));
        let failures: u64 = newest.iter().map(|tally| tally.failures).sum();
        let total = progress.total.as_secs_f64();
        let head = format!(
            "{} {:.1} of {:.1} s, {} connections",
            progress.stage.name(),
            progress.elapsed.as_secs_f64().min(total),
            total,
            progress.open
        );
        let failures = match failures {
            0 => String::new(),
            count => format!(", {count} FAILURES"),
        };
        match &self.bar {
            Some(bar) => {
                let rates: Vec<Option<f64>> = newest.iter().map(|tally| Some(per_s(tally))).collect();
                let p99s: Vec<Option<f64>> =
                    newest.iter().map(|tally| tally.buckets.percentile(99.0).map(|ns| ns as f64)).collect();
                bar.set_message(format!(
                    "{head}{failures}\n{:>12}/s  {}\n{:>10} p99  {}",
                    figures::number(rate),
                    sparks(&rates),
                    p99,
                    sparks(&p99s)
                ));
                bar.tick();
            }
            None if self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                complain(&format!("{head}: {}/s, p99 {p99}{failures}", figures::number(rate)));
            }
            None => {}
        }
    }

    /// Takes the panel off the screen.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message("");
            bar.finish_and_clear();
            bar.reset();
        }
    }
}

fn complain(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}"); // nobody reads it: then nobody misses it
}
