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

/// Slices in the sparklines, at most.
const SPARKS: usize = 60;

/// What stands in front of a sparkline.
const FIGURES_COLUMNS: usize = 16;

pub(super) struct Panel {
    /// `None`: not a terminal, or quiet.
    bar: Option<ProgressBar>,
    quiet: bool,
    last_line: Instant,
}

impl Panel {
    pub(super) fn new(quiet: bool) -> Panel {
        let bar = (!quiet && std::io::stderr().is_terminal() && can_redraw()).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template("{msg}").expect("a template"));
            bar
        });
        Panel { bar, quiet, last_line: Instant::now() }
    }

    /// One line of what is about to happen.
    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(fitting(line, columns())),
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
                // A line that is wider than the terminal takes two, and redrawing leaves the second one behind.
                let columns = columns();
                let first = newest.len() - newest.len().min(columns.saturating_sub(FIGURES_COLUMNS + 1));
                let shown = &newest[first..];
                let rates: Vec<Option<f64>> = shown.iter().map(|tally| Some(per_s(tally))).collect();
                let p99s: Vec<Option<f64>> =
                    shown.iter().map(|tally| tally.buckets.percentile(99.0).map(|ns| ns as f64)).collect();
                let head = match format!("{head}{failures}") {
                    whole if whole.chars().count() < columns => whole,
                    // The failures are worth more than the number of connections.
                    _ => format!("{}{failures}", head.split(", ").next().unwrap_or(&head)),
                };
                bar.set_message(format!(
                    "{}\n{:>12}/s  {}\n{:>10} p99  {}",
                    fitting(&head, columns),
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

/// Returns the columns of the terminal that standard error is, as it says itself now: its window may have changed.
fn columns() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr())
        .map_or(80, |size| usize::from(size.ws_col))
        .clamp(FIGURES_COLUMNS + 8, 400)
}

/// As much of the line as fits, with the last column left free: some terminals wrap when it is written.
fn fitting(line: &str, columns: usize) -> String {
    line.chars().take(columns - 1).collect()
}

fn complain(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}"); // nobody reads it: then nobody misses it
}

/// Whether the terminal knows more than plain lines.
pub(super) fn can_redraw() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}
