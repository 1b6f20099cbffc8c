//! The summary: a report on one screen of a terminal.
//!
//! It says everything that decides what the figures are worth, and leaves the rest to the page. It knows
//! no terminal: width and colour are told.
//!
//! Invariant: no line is wider than asked for, and nothing from outside reaches the terminal unescaped.

use super::figures::{self, Column, NOTHING};
use super::report::{GeneratorFigures, Limit, LoadPoint, Report, ServerFigures};

/// How it is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// With ANSI colours.
    pub colour: bool,
    /// Columns of the terminal. Less than 60 are taken as 60: the latency table wouldn't fit.
    pub width: usize,
}

/// Where the text begins, to the right of the labels.
const INDENT: usize = 11;
const WIDTH_MIN: usize = 60;
/// A sparkline is no longer: the eye compares only what it sees at once.
const SPARKS_MAX: usize = 60;
/// Load points shown, at most: that is what fits on 80 columns.
const POINTS_MAX: usize = 7;
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// The report, as lines that each end in a newline.
pub fn render(report: &Report, style: Style) -> String {
    let style = Style { width: style.width.max(WIDTH_MIN), ..style };
    let mut screen = Screen { style, text: String::new() };
    opening(&mut screen, report);
    rates(&mut screen, report);
    screen.gap();
    latencies(&mut screen, report);
    over_time(&mut screen, report);
    load(&mut screen, report);
    several_rounds(&mut screen, report);
    processes(&mut screen, report);
    verdict(&mut screen, report);
    screen.text
}

fn opening(screen: &mut Screen, report: &Report) {
    if report.partial {
        let because = report.partial_because.as_deref().map(figures::clean);
        let because = because.as_deref().unwrap_or("cut short");
        let end = if because.ends_with('?') { "" } else { "." };
        let text = format!("{because}{end} What was measured until then:");
        screen.line("PARTIAL", &text, Ink::Bad);
    }
    let target = if report.target.is_empty() { NOTHING.into() } else { figures::clean(&report.target) };
    screen.line("target", &target, Ink::Bold);
    screen.line("plan", &figures::plan(report), Ink::Plain);
    screen.line("measured", &measured(report), Ink::Plain);
}

fn measured(report: &Report) -> String {
    let mut text = figures::duration(report.measured_s);
    if report.warm_up.cut_s > 0.0 {
        text += &format!(", after {} of warm-up", figures::duration(report.warm_up.cut_s));
        let because = figures::clean(&report.warm_up.because);
        if !because.is_empty() {
            text += &format!(" ({because})");
        }
    }
    format!("{text}; seed {}", report.plan.seed)
}

fn rates(screen: &mut Screen, report: &Report) {
    let bound = if figures::rates_are_lower_bounds(report) { ">= " } else { "" };
    let offered = format!("{bound}{}", figures::rate(report.offered_per_s));
    let achieved = format!("{bound}{}", figures::rate(report.achieved_per_s));
    let width = offered.len().max(achieved.len());
    let messages = match report.fan_out {
        Some(_) => format!("{} deliveries", figures::count(report.offered)),
        None => figures::several(report.offered, "message"),
    };
    screen.line("offered", &format!("{offered:>width$}   {messages}"), Ink::Plain);
    let replies = match (report.replies, &report.fan_out) {
        (number, Some(_)) => format!("{} deliveries", figures::count(number)),
        (1, None) => "1 reply".into(),
        (number, None) => format!("{} replies", figures::count(number)),
    };
    let verified = if report.verified { "verified" } else { "not verified" };
    let received = figures::bytes(report.bytes_in_per_s);
    let sent = figures::bytes(report.bytes_out_per_s);
    let bytes = match received == sent {
        true => format!("{sent}/s each way"),
        false => format!("{received}/s in, {sent}/s out"),
    };
    let text = format!("{achieved:>width$}   {replies}, {verified}; {bytes}");
    screen.line("achieved", &text, Ink::Bold);
    if let Some(room) = &report.fan_out {
        let ink = if room.complete == room.members { Ink::Plain } else { Ink::Bad };
        screen.line("fan-out", &figures::fan_out(room), ink);
    }
    if let Some(handshake) = &report.latency.handshake {
        let resumed = figures::count(report.resumed);
        let text =
            format!("{}, {resumed} of them resumed", figures::several(handshake.count, "TLS handshake"));
        screen.line("handshakes", &text, Ink::Plain);
    }
    match figures::failures(&report.failures) {
        Some(kinds) => screen.line("failures", &failures(report, kinds), Ink::Bad),
        None => screen.line("failures", "no failures", Ink::Plain),
    }
    if report.ended_silently > 0 {
        let ended = figures::several(report.ended_silently, "connection");
        let again = figures::several(report.retried, "request");
        let text = format!("{again} sent again: the server ended {ended} without announcing it");
        screen.line("retried", &text, Ink::Plain);
    }
    if report.out_of_order > 0 {
        let replies = figures::count(report.out_of_order);
        screen.line("order", &format!("{replies} replies came out of order, as UDP allows"), Ink::Plain);
    }
    if !report.statuses.is_empty() {
        screen.line("statuses", &figures::statuses(&report.statuses), Ink::Bad);
    }
}

/// Those of the whole run, and how many of them are of the messages above, where that is not all.
fn failures(report: &Report, kinds: String) -> String {
    let (all, measured) = (report.failures.total(), report.failures_in_window.total());
    let share = figures::share(report.failure_share());
    match measured {
        0 => format!("{kinds}; all outside of the measured time"),
        _ if measured == all => format!("{kinds} ({share})"),
        _ => format!("{kinds}; {} of these in the measured time ({share})", figures::count(measured)),
    }
}

fn latencies(screen: &mut Screen, report: &Report) {
    let mut rows = figures::latency_rows(report);
    // In a closed loop a message is due when it is sent, and they are the same.
    if report.latency.service == report.latency.response {
        rows.retain(|(name, _)| *name != "service");
    }
    if rows.is_empty() {
        screen.line("latency", "nothing was measured", Ink::Faint);
        return;
    }
    let width = ((screen.style.width - INDENT) / (PERCENTILES.len() + 1)).min(12) - 1;
    let heads = PERCENTILES.iter().map(|percent| format!("p{percent}")).chain(["max".into()]);
    let heads: String = heads.map(|head| format!("{head:>width$} ")).collect();
    screen.line("latency", heads.trim_end(), Ink::Faint);
    let mut few_anywhere = false;
    for (name, latency) in rows {
        let cells: String = PERCENTILES
            .iter()
            .map(|percent| {
                let (value, few) = figures::percentile(latency, *percent);
                few_anywhere |= few;
                // The mark has a column of its own, so that the digits stay below each other.
                format!("{value:>width$}{}", if few { '*' } else { ' ' })
            })
            .collect();
        let longest = figures::longest(latency);
        screen.line(name, &format!("{cells}{longest:>width$}"), Ink::Plain);
    }
    if few_anywhere {
        screen.line("", "* fewer than ten samples lie beyond it: chance plays a large part", Ink::Faint);
    }
}

fn over_time(screen: &mut Screen, report: &Report) {
    let measured = figures::measured(report);
    let shape = figures::shape(report);
    if measured.is_empty() && shape.is_none() {
        return;
    }
    if !measured.is_empty() {
        let room = (screen.style.width - INDENT).saturating_sub(34).clamp(8, SPARKS_MAX);
        // A column shows its worst slice: what is worst must not depend on how wide the terminal is.
        let columns = figures::columns(&measured, room);
        let slices = figures::columns(&measured, usize::MAX);
        let rates: Vec<Option<f64>> = columns.iter().map(|it| it.fewest_per_s).collect();
        let fewest = slices
            .iter()
            .filter_map(|it| Some((it.fewest_per_s?, it)))
            .reduce(|worst, it| if it.0 < worst.0 { it } else { worst })
            .map(|(per_s, it)| worst(&figures::rate(per_s), it));
        screen.sparks("replies/s", &rates, fewest);
        let p99s: Vec<Option<f64>> = columns.iter().map(|it| it.p99_ns.map(|ns| ns as f64)).collect();
        let slowest = slices
            .iter()
            .filter_map(|it| Some((it.p99_ns?, it)))
            .reduce(|worst, it| if it.0 > worst.0 { it } else { worst })
            .map(|(ns, it)| worst(&figures::time(ns as f64), it));
        screen.sparks("p99", &p99s, slowest);
    }
    if let Some(shape) = shape {
        screen.line("shape", &shape, Ink::Plain);
    }
}

fn worst(figure: &str, column: &Column) -> String {
    format!("worst {figure} at {}", figures::moment(column.from_s))
}

fn load(screen: &mut Screen, report: &Report) {
    if !report.curve.is_empty() {
        let points = points_shown(&report.curve);
        let width = ((screen.style.width - INDENT) / points.len()).min(12) - 1;
        let row = |cell: &dyn Fn(&LoadPoint) -> String| -> String {
            points.iter().map(|point| format!("{:>width$} ", cell(point))).collect()
        };
        screen.line("load/s", &row(&|it| figures::number(it.offered_per_s)), Ink::Faint);
        screen.line("achieved/s", &row(&|it| figures::number(it.achieved_per_s)), Ink::Plain);
        screen.line("p99", &row(&|it| figures::time_or_inf(it.p99_ns)), Ink::Plain);
    }
    if let Some(found) = &report.found {
        let (slo, because) = (figures::clean(&found.slo), figures::clean(&found.because));
        let text = match found.rate_per_s {
            Some(per_s) => format!("{} with {slo}: {because}", figures::rate(per_s)),
            None => format!("no rate met {slo}: {because}"),
        };
        screen.line("found", &text, Ink::Bold);
    }
}

/// By load, and the first, the last and some between them where there are too many.
fn points_shown(curve: &[LoadPoint]) -> Vec<LoadPoint> {
    let mut points = curve.to_vec();
    points.sort_by(|a, b| a.offered_per_s.total_cmp(&b.offered_per_s));
    let last = points.len() - 1;
    if last < POINTS_MAX {
        return points;
    }
    (0..POINTS_MAX).map(|place| points[place * last / (POINTS_MAX - 1)]).collect()
}

fn several_rounds(screen: &mut Screen, report: &Report) {
    let rounds = &report.rounds;
    if rounds.is_empty() {
        return;
    }
    let rates: Vec<f64> = rounds.iter().map(|round| round.achieved_per_s).collect();
    let p99s: Vec<f64> =
        rounds.iter().map(|round| round.p99_ns.map_or(f64::INFINITY, |ns| ns as f64)).collect();
    let mut parts = vec![spread(&rates, figures::rate), format!("p99 {}", spread(&p99s, figures::time))];
    let failed = rounds.iter().filter(|round| round.failures > 0).count();
    if failed > 0 {
        parts.push(format!("{failed} with failures"));
    }
    screen.line("rounds", &format!("{}: {}", rounds.len(), parts.join("; ")), Ink::Plain);
}

/// `median (from lowest to highest)`.
fn spread(values: &[f64], shown: fn(f64) -> String) -> String {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => NOTHING.into(),
        [one] => shown(*one),
        [lowest, .., highest] => {
            let median = values[(values.len() - 1) / 2].midpoint(values[values.len() / 2]);
            format!("median {} ({} to {})", shown(median), shown(*lowest), shown(*highest))
        }
    }
}

fn processes(screen: &mut Screen, report: &Report) {
    match &report.server {
        Some(server) => screen.line("server", &server_line(server), Ink::Plain),
        None => screen.line("server", "its process is not known (--server-pid, --spawn)", Ink::Faint),
    }
    screen.line("generator", &generator_line(&report.generator), Ink::Plain);
    let counted = figures::kernel(&report.kernel);
    let text = counted.iter().map(|(name, figure)| format!("{name} {figure}")).collect::<Vec<_>>().join(", ");
    if text.is_empty() {
        screen.line("kernel", "no drops, no retransmits", Ink::Plain);
    } else {
        screen.line("kernel", &text, Ink::Plain);
    }
}

fn server_line(server: &ServerFigures) -> String {
    let mut parts = vec![format!("{} of a core", figures::share(server.busiest_thread_cpu))];
    if server.cpu_cores > server.busiest_thread_cpu + 0.05 {
        parts.push(format!("{} in all", figures::share(server.cpu_cores)));
    }
    parts.extend(server.cpu_ns_per_reply.map(|ns| format!("{} CPU per reply", figures::time(ns))));
    if server.run_queue_wait >= 0.01 {
        parts.push(format!("{} kept waiting", figures::share(server.run_queue_wait)));
    }
    parts.push(format!("RSS {} at its peak", figures::bytes(server.rss_peak_bytes as f64)));
    parts.extend(server.rss_per_connection_bytes.map(|it| format!("{} per connection", figures::bytes(it))));
    let workers =
        if server.processes > 1 { format!(", {} processes", server.processes) } else { String::new() };
    let name = figures::clean(&server.name);
    let name = format!("{name} (pid {}{workers})", server.pid);
    format!("{name}: {}", parts.join(", "))
}

fn generator_line(generator: &GeneratorFigures) -> String {
    let mut parts = vec![
        format!("{} of a core", figures::share(generator.cpu)),
        format!("{} CPU per message", figures::time(generator.cpu_ns_per_message)),
    ];
    if generator.run_queue_wait >= 0.01 {
        parts.push(format!("{} kept waiting", figures::share(generator.run_queue_wait)));
    }
    parts.extend(generator.ceiling_per_s.map(|it| format!("could do {}", figures::rate(it))));
    parts.join(", ")
}

fn verdict(screen: &mut Screen, report: &Report) {
    let verdict = &report.verdict;
    let ink = match verdict.limit {
        Limit::Server | Limit::Rate | Limit::Concurrency => Ink::Good,
        Limit::Generator | Limit::SharedCpu | Limit::Kernel | Limit::Network => Ink::Bad,
        Limit::Unknown => Ink::Bold,
    };
    let text = format!("{}. {}", verdict.limit.name(), figures::clean(&verdict.because));
    screen.line("verdict", text.trim_end(), ink);
    if !verdict.remedy.is_empty() {
        screen.line("", &figures::clean(&verdict.remedy), Ink::Plain);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ink {
    Plain,
    Bold,
    Faint,
    Good,
    Bad,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Ink::Plain => "",
            Ink::Bold => "\x1b[1m",
            Ink::Faint => "\x1b[2m",
            Ink::Good => "\x1b[32m",
            Ink::Bad => "\x1b[31m",
        }
    }
}

/// The lines so far.
struct Screen {
    style: Style,
    text: String,
}

impl Screen {
    fn gap(&mut self) {
        self.text.push('\n');
    }

    /// A label and a text, broken at spaces where it is too long.
    fn line(&mut self, label: &str, text: &str, ink: Ink) {
        let mut label = label;
        for piece in broken(text, self.style.width - INDENT) {
            let head = self.painted(&format!("{label:<INDENT$}"), Ink::Faint);
            let piece = self.painted(&piece, ink);
            self.text.push_str(format!("{head}{piece}").trim_end());
            self.text.push('\n');
            label = "";
        }
    }

    fn sparks(&mut self, label: &str, values: &[Option<f64>], note: Option<String>) {
        let text = format!("{}  {}", sparks(values), note.unwrap_or_default());
        self.line(label, &text, Ink::Plain);
    }

    fn painted(&self, text: &str, ink: Ink) -> String {
        if self.style.colour && !ink.code().is_empty() && !text.trim().is_empty() {
            format!("{}{text}\x1b[0m", ink.code())
        } else {
            text.into()
        }
    }
}

/// Lines of `width` characters at most. Runs of spaces are kept: tables come through here, too.
fn broken(text: &str, width: usize) -> Vec<String> {
    let text: Vec<char> = text.trim_end().chars().collect();
    let mut lines = Vec::new();
    let mut rest = text.as_slice();
    while rest.len() > width {
        // A word that is longer than a line is cut where the line ends.
        // And 58 % stays together.
        let breaks = |at: &usize| rest[*at] == ' ' && rest.get(at + 1) != Some(&'%');
        let space = (1..=width).rev().find(breaks);
        let (line, after) = rest.split_at(space.unwrap_or(width));
        lines.push(line.iter().collect());
        rest = after;
        while let [' ', after @ ..] = rest {
            rest = after;
        }
    }
    lines.push(rest.iter().collect());
    lines
}

/// One character per value, as high as its part of the highest; a dot where there is none.
pub fn sparks(values: &[Option<f64>]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let highest = values.iter().flatten().copied().filter(|it| it.is_finite()).fold(0.0, f64::max);
    values
        .iter()
        .map(|value| match value {
            Some(value) if highest > 0.0 => {
                // A float that is too large, too small or no number is saturated by the cast.
                let level = (value / highest * LEVELS.len() as f64).ceil() as usize;
                LEVELS[level.clamp(1, LEVELS.len()) - 1]
            }
            Some(_) => LEVELS[0],
            None => '·',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::example;

    const PLAIN: Style = Style { colour: false, width: 100 };

    fn uncoloured(text: &str) -> String {
        let mut pieces = text.split("\x1b[");
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |text, piece| text + piece.split_once('m').map_or("", |(_, rest)| rest))
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_all_of_it_fits_on_a_screen() {
        for (name, report) in example::all() {
            for width in [60, 80, 100, 200] {
                for colour in [false, true] {
                    let text = uncoloured(&render(&report, Style { colour, width }));
                    for line in text.lines() {
                        assert!(line.chars().count() <= width, "{name} at {width}: {line}");
                    }
                    let lines = text.lines().count();
                    // With a line for the shell's prompt it fits on 80x24.
                    assert!(width != 80 || name != "example" || lines <= 23, "{lines} lines\n{text}");
                    assert!(
                        width != 100 || name == "hostile" || lines <= 30,
                        "{name}: {lines} lines\n{text}"
                    );
                    assert!(text.ends_with('\n') && !text.contains("\n\n\n"), "{name}\n{text}");
                }
            }
        }
        // What no terminal has, but a pipe may say.
        assert!(!render(&example::example(), Style { colour: true, width: 0 }).is_empty());
    }

    #[test]
    fn nothing_unreadable_is_printed() {
        for (name, report) in example::all() {
            let text = render(&report, PLAIN);
            assert!(!text.contains("NaN"), "{name}\n{text}");
            let stray = text.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(stray, None, "{name}");
        }
    }

    #[test]
    fn a_run_reads_as_it_went() {
        let text = render(&example::example(), PLAIN);
        for part in [
            "target     tcp://127.0.0.1:8080\n",
            "plan       64 connections, depth 1, 64 B, open loop 5,000/s, poisson\n",
            "measured   10.0 s, after 1.20 s of warm-up (the rate had settled); seed 1\n",
            "offered    5,000/s   50,000 messages\n",
            "verified; ",
            "failures   2 timed out (<0.1 %)\n",
            "two modes: 821 us (90 %) and 4.21 ms (10 %)",
            "at 5.4 s\n",
            "could do 212,000/s",
            "kernel     retransmits 12 of 99,870 segments (<0.1 %), steal 0.3 %",
            "verdict    RATE. The server kept up",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains(">="));
        let rows: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        for row in ["response", "service", "send", "connect"] {
            assert!(rows.contains(&row), "{row} is not in\n{text}");
        }
    }

    #[test]
    fn the_worst_moment_is_the_same_on_every_terminal() {
        for width in [60, 80, 100, 200] {
            let text = render(&example::example(), Style { colour: false, width });
            assert!(
                text.contains("worst 600/s at 5.4 s") && text.contains("worst 39.0 ms at 5.4 s"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_the_generator_limited_is_a_lower_bound() {
        let text = render(&example::rounds(), PLAIN);
        assert!(text.contains("offered    >= 5,000/s"), "{text}");
        assert!(text.contains("rounds     8: median 18"), "{text}");
        assert!(text.contains("no failures"), "{text}");
    }

    #[test]
    fn a_partial_report_says_so_first() {
        let text = render(&example::search(), PLAIN);
        assert!(text.starts_with("PARTIAL    interrupted. What was measured until then:\n"), "{text}");
        assert!(text.contains("found      90,000/s with p99<=2ms: the next step"), "{text}");
    }

    #[test]
    fn failures_reach_down_into_the_percentiles() {
        let text = render(&example::failing(), PLAIN);
        let response = text.lines().find(|line| line.starts_with("response")).expect("a row");
        assert_eq!(response.matches("inf").count(), 6, "{response}");
    }

    #[test]
    fn sparks_show_the_highest_as_full_and_nothing_as_a_dot() {
        assert_eq!(sparks(&[Some(0.0), Some(1.0), None, Some(8.0)]), "▁▁·█");
        assert_eq!(sparks(&[Some(0.0), None]), "▁·");
        assert_eq!(sparks(&[Some(f64::NAN), Some(f64::INFINITY), Some(1.0)]), "▁██");
    }

    #[test]
    #[ignore = "prints, for the eye: cargo test --lib load::summary -- --ignored --nocapture"]
    fn show() {
        for (name, report) in example::all() {
            for width in [80, 100] {
                println!("== {name}, {width}\n{}", render(&report, Style { colour: true, width }));
            }
        }
    }
}
