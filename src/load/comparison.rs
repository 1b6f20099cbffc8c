//! The outcome of a comparison, and how it is shown. How it is found: see [`compare`](super::compare).

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// Rounds of either side that a verdict needs.
pub const ROUNDS_MIN: usize = 8;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Replies per second: more is faster.
    AchievedPerS,
    /// The median response time: less is faster.
    P50,
    /// See `P50`.
    P99,
    /// The server's CPU time per reply: less is cheaper. Only where it is known of all rounds.
    ServerCpuPerReply,
}

/// What the rounds say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Finding {
    /// B is faster than A (or cheaper, where it is about CPU).
    Faster,
    /// B is slower than A (or dearer).
    Slower,
    /// There may be one, but not one that these rounds show.
    NoDifferenceSeen,
    /// There are too few rounds to say.
    NoVerdict,
}

/// One figure of both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Which.
    pub figure: Figure,
    /// A's, in its own unit: per second, or ns. `None`: infinite.
    pub a_median: Option<f64>,
    /// B's.
    pub b_median: Option<f64>,
    /// Of each pair of rounds, B/A. An infinite latency counts as ten times the worst that was measured.
    pub ratios: Vec<f64>,
    /// Their median.
    pub ratio: f64,
    /// The least.
    pub ratio_min: f64,
    /// The greatest.
    pub ratio_max: f64,
    /// How far two rounds of the same side lie apart, as a median: 0.03 is 3 %. Of the noisier side.
    pub noise_floor: Option<f64>,
    /// How often chance alone shows as much; only with enough rounds.
    pub p: Option<f64>,
    /// Of how many arrangements that was counted.
    pub arrangements: u64,
    /// The arrangements were drawn, always the same ones: there were too many to look at each.
    pub drawn: bool,
    /// The outcome.
    pub finding: Finding,
}

/// Two sides side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// A's name.
    pub a: String,
    /// B's name.
    pub b: String,
    /// How many rounds A has.
    pub a_rounds: u32,
    /// How many rounds B has.
    pub b_rounds: u32,
    /// The figure that the first line is about.
    pub headline: Figure,
    /// Those that were measured on both sides.
    pub figures: Vec<Compared>,
    /// What to know before it is believed, as sentences.
    pub notes: Vec<String>,
}

impl Figure {
    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Figure::AchievedPerS => "replies/s",
            Figure::P50 => "p50",
            Figure::P99 => "p99",
            Figure::ServerCpuPerReply => "CPU per reply",
        }
    }

    pub(super) fn more_is_better(self) -> bool {
        self == Figure::AchievedPerS
    }

    /// In its unit, with 3 significant digits; a rate in full.
    fn show(self, value: Option<f64>) -> String {
        match (self, value) {
            (Figure::AchievedPerS, None) => "0".into(),
            (Figure::AchievedPerS, Some(rate)) if rate < 100.0 => digits(rate),
            (Figure::AchievedPerS, Some(rate)) => thousands(rate),
            (_, None) => "infinite".into(),
            (_, Some(ns)) if ns < 999.5 => format!("{} ns", digits(ns)),
            (_, Some(ns)) if ns < 999.5e3 => format!("{} us", digits(ns / 1e3)),
            (_, Some(ns)) if ns < 999.5e6 => format!("{} ms", digits(ns / 1e6)),
            (_, Some(ns)) => format!("{} s", digits(ns / 1e9)),
        }
    }
}

impl Compared {
    /// The finding in capitals, as it stands in the table.
    pub fn words(&self) -> &'static str {
        match (self.finding, self.figure) {
            (Finding::Faster, Figure::ServerCpuPerReply) => "CHEAPER",
            (Finding::Slower, Figure::ServerCpuPerReply) => "DEARER",
            (Finding::Faster, _) => "FASTER",
            (Finding::Slower, _) => "SLOWER",
            (Finding::NoDifferenceSeen, _) => "NO DIFFERENCE SEEN",
            (Finding::NoVerdict, _) => "NO VERDICT",
        }
    }
}

impl Comparison {
    /// Whether the figure that the first line is about got worse.
    pub fn is_slower(&self) -> bool {
        self.figures.iter().any(|it| it.figure == self.headline && it.finding == Finding::Slower)
    }

    /// The figure that the first line is about, where it was measured; else the first one that was.
    pub fn main(&self) -> Option<&Compared> {
        self.figures.iter().find(|it| it.figure == self.headline).or(self.figures.first())
    }

    /// The outcome in a sentence.
    pub fn sentence(&self) -> String {
        let Some(main) = self.main() else { return "There is nothing to compare: no replies came.".into() };
        let what = match main.figure {
            Figure::AchievedPerS => "rate",
            Figure::P50 => "p50",
            Figure::P99 if self.headline == Figure::P99 => "p99 at the same offered rate",
            Figure::P99 => "p99",
            Figure::ServerCpuPerReply => "CPU time per reply",
        };
        let mut text = match main.finding {
            Finding::NoVerdict => {
                return format!(
                    "NO VERDICT is possible: A has {} and B {}, and it takes {ROUNDS_MIN} of either. Use --rounds \
                     {ROUNDS_MIN}, or bench --ab. B has {} times A's {what}.",
                    rounds(self.a_rounds),
                    rounds(self.b_rounds),
                    digits(main.ratio)
                );
            }
            Finding::NoDifferenceSeen => format!("{}: B has", main.words()),
            Finding::Faster | Finding::Slower => format!("B is {}: it has", main.words()),
        };
        let _ = write!(
            text,
            " {} times A's {what} ({} to {} in {}",
            ratio(main.ratio),
            ratio(main.ratio_min),
            ratio(main.ratio_max),
            rounds(main.ratios.len() as u32)
        );
        if let Some(p) = main.p {
            let drawn =
                if main.drawn { format!(" by {} random arrangements", main.arrangements) } else { "".into() };
            let _ = write!(text, "; p = {}{drawn}", p_value(p));
        }
        if let Some(floor) = main.noise_floor {
            let _ = write!(text, "; each against itself: {}", per_cent(floor));
        }
        text + ")."
    }

    /// For a terminal of `width` columns: who, the outcome, the table, and what to know. Ends with a line end.
    /// Columns that find no room go, the least important first; the findings stay.
    pub fn render(&self, width: usize) -> String {
        let width = width.max(20);
        let mut text = String::new();
        for (name, target) in [("A", &self.a), ("B", &self.b)] {
            // A target comes from a file, and is shown on a terminal.
            let target: String = target.chars().map(|it| if it.is_control() { '?' } else { it }).collect();
            let _ = writeln!(text, "{name}  {}", cut(&target, width - 3));
        }
        text.push('\n');
        wrap(&mut text, &self.sentence(), width);
        if !self.figures.is_empty() {
            text.push('\n');
            self.table(&mut text, width);
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            let note: String = note.chars().map(|it| if it.is_control() { '?' } else { it }).collect();
            wrap(&mut text, &note, width);
        }
        text
    }

    fn table(&self, text: &mut String, width: usize) {
        let mut columns: Vec<Vec<String>> = ["", "A", "B", "B/A", "min..max", "p", "noise", ""]
            .iter()
            .map(|it| vec![(*it).to_owned()])
            .collect();
        for it in &self.figures {
            let row = [
                it.figure.name().into(),
                it.figure.show(it.a_median),
                it.figure.show(it.b_median),
                ratio(it.ratio),
                format!("{}..{}", ratio(it.ratio_min), ratio(it.ratio_max)),
                it.p.map_or("-".into(), p_value),
                it.noise_floor.map_or("-".into(), per_cent),
                it.words().into(),
            ];
            for (column, cell) in columns.iter_mut().zip(row) {
                column.push(cell);
            }
        }
        // min..max, noise, p, B, A: each index as it is when those before it are gone.
        for column in [4, 5, 4, 2, 1] {
            if table_width(&columns) > width {
                columns.remove(column);
            }
        }
        let last = columns.len() - 1;
        for row in 0..=self.figures.len() {
            let mut line = String::new();
            for (index, column) in columns.iter().enumerate() {
                let (cell, column_width) = (&column[row], column_width(column));
                let _ = match index {
                    0 => write!(line, "{cell:<column_width$}"),
                    _ if index == last => write!(line, "  {cell}"),
                    _ => write!(line, "  {cell:>column_width$}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
}

fn column_width(column: &[String]) -> usize {
    column.iter().map(|cell| cell.chars().count()).max().unwrap_or(0)
}

fn table_width(columns: &[Vec<String>]) -> usize {
    columns.iter().map(|column| column_width(column) + 2).sum::<usize>() - 2
}

fn rounds(count: u32) -> String {
    match count {
        0 => "no rounds".into(),
        1 => "1 round".into(),
        _ => format!("{count} rounds"),
    }
}

/// Three decimals near 1, as that is where it matters.
fn ratio(ratio: f64) -> String {
    if (0.1..10.0).contains(&ratio) { format!("{ratio:.3}") } else { digits(ratio) }
}

fn p_value(p: f64) -> String {
    if p < 0.0001 { "<0.0001".into() } else { format!("{p:.4}") }
}

fn per_cent(part: f64) -> String {
    let per_cent = 100.0 * part;
    if per_cent < 100.0 { format!("{per_cent:.1} %") } else { format!("{} %", digits(per_cent)) }
}

/// 3 significant digits.
fn digits(value: f64) -> String {
    if !(1e-3..1e6).contains(&value) {
        return format!("{value:.2e}");
    }
    let decimals = (2.0 - value.log10().floor()).clamp(0.0, 6.0);
    format!("{value:.*}", decimals as usize)
}

/// `152,301`.
fn thousands(value: f64) -> String {
    if value >= 1e15 {
        return digits(value);
    }
    let plain = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(3)).chain("...".chars()).collect()
}

/// Lines of whole words; a word that is longer than a line has one of its own.
fn wrap(text: &mut String, sentence: &str, width: usize) {
    let mut column = 0;
    for word in sentence.split(' ') {
        let chars = word.chars().count();
        if column > 0 && column + 1 + chars > width {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += chars;
    }
    text.push('\n');
}
