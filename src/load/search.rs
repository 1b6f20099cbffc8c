//! The highest rate at which a server still meets an SLO: `--find-max --slo 'p99<=2ms'`.
//!
//! [`Slo`] is the limit, [`find_max`] the search. It doubles the rate until the SLO is missed, halves the gap until that is
//! within 5 %, and confirms the best rate by one more run, because a server may have been lucky once. It does not run
//! anything itself: a run is a function from a rate to a report.
//!
//! Invariant: the rate that is found was met twice in a row, and the number of runs is bounded.

use std::fmt;
use std::str::FromStr;

use super::report::{Found, Limit, LoadPoint, Report};

/// The percentiles that reports have; see [`super::report::Latency::percentiles`].
const PERCENTILES: [&str; 7] = ["50", "75", "90", "99", "99.9", "99.99", "99.999"];
/// The part of the due messages that an open loop must get answered: with less, a queue grows somewhere.
const ACHIEVED_MIN: f64 = 0.98;
/// A run with fewer replies meets no SLO.
const REPLIES_MIN: u64 = 100;

/// The objectives: `p99<=2ms`, or several, as in `p99<=2ms,max<=50ms,failures<=0.1%`.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo {
    text: String,
    objectives: Vec<Objective>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Objective {
    figure: Figure,
    /// `<` and not `<=`.
    below: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Figure {
    /// A percentile of the response times, and the most that it may be, in ns. Replies that never came count as infinite.
    Percentile(f64, u64),
    /// The longest response time, and the most that it may be, in ns.
    Max(u64),
    /// Failures of all kinds, as a part of the messages due.
    Failures(f64),
}

impl Slo {
    /// Whether a run met all objectives; see [`Slo::broken_by`].
    pub fn met(&self, report: &Report) -> bool {
        self.broken_by(report).is_none()
    }

    /// The first objective that a run missed, as in `p99 was 3.1ms`.
    ///
    /// A message without a reply took forever. A run that got less than 98 % of its offered rate answered misses
    /// every SLO, however fast the replies were. So does a run of fewer than 100 replies, which shows
    /// nothing. Otherwise a percentile that is marked `few` counts as it is: where too few samples lie
    /// beyond it the largest decide, which errs on the strict side.
    pub fn broken_by(&self, report: &Report) -> Option<String> {
        let Some(response) = &report.latency.response else { return Some("no reply came".into()) };
        // An objective for failures says how many messages need no reply.
        let allows_failures = self.objectives.iter().any(|it| matches!(it.figure, Figure::Failures(_)));
        if report.achieved_per_s < ACHIEVED_MIN * report.offered_per_s && !allows_failures {
            let part = 100.0 * report.achieved_per_s / report.offered_per_s;
            return Some(format!("only {part:.1} % of the offered rate was achieved"));
        }
        if response.count < REPLIES_MIN {
            return Some(format!("{} replies are too few: {REPLIES_MIN} are needed", response.count));
        }
        // Both count the same; the larger one holds.
        let infinite = response.infinite.max(report.failures_in_window.unanswered());
        let all = response.count.saturating_add(infinite) as f64;
        self.objectives.iter().find_map(|objective| match objective.figure {
            Figure::Percentile(percent, bound_ns) => {
                let reached = infinite as f64 > all * (100.0 - percent) / 100.0 + 1e-6; // for the rounding
                let ns = response.percentile(percent).and_then(|it| it.ns).filter(|_| !reached);
                objective.broken_by_ns(&format!("p{percent}"), ns, bound_ns)
            }
            Figure::Max(bound_ns) => {
                objective.broken_by_ns("max", Some(response.max_ns).filter(|_| infinite == 0), bound_ns)
            }
            Figure::Failures(bound) => {
                let share = report.failure_share();
                let kept = if objective.below { share < bound } else { share <= bound };
                (!kept).then(|| format!("{} % failed", trimmed(100.0 * share)))
            }
        })
    }
}

impl Objective {
    fn broken_by_ns(&self, name: &str, ns: Option<u64>, bound_ns: u64) -> Option<String> {
        match ns {
            Some(ns) if ns < bound_ns || (ns == bound_ns && !self.below) => None,
            Some(ns) => Some(format!("{name} was {}", duration(ns))),
            None => Some(format!("{name} was infinite: too many messages had no right reply")),
        }
    }
}

impl fmt::Display for Slo {
    /// As it was written, without the spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Slo {
    type Err = String;

    fn from_str(text: &str) -> Result<Slo, String> {
        let text: String = text.chars().filter(|it| *it != ' ').collect();
        let objectives = text.split(',').map(objective).collect::<Result<_, _>>()?;
        Ok(Slo { text, objectives })
    }
}

fn objective(text: &str) -> Result<Objective, String> {
    let example = "write it like p99<=2ms, max<=50ms or failures<=0.1%";
    let Some((name, bound)) = text.split_once('<') else {
        return Err(format!("{text:?} is no objective; {example}"));
    };
    let (below, bound) = match bound.strip_prefix('=') {
        Some(bound) => (false, bound),
        None => (true, bound),
    };
    let figure = match name {
        "max" => Figure::Max(duration_ns(bound)?),
        "failures" => Figure::Failures(share(bound)?),
        _ => {
            let Some(percent) = name.strip_prefix('p') else {
                return Err(format!("{name:?} is not measured; {example}"));
            };
            if !PERCENTILES.contains(&percent) {
                let known = PERCENTILES.map(|it| format!("p{it}")).join(", ");
                return Err(format!("{name:?} is not measured; write one of {known}"));
            }
            Figure::Percentile(percent.parse().expect("it is one of ours"), duration_ns(bound)?)
        }
    };
    Ok(Objective { figure, below })
}

/// A number that is not negative, and the rest.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    // `f64` would take `1.` and `.5`, too; nobody writes these on purpose.
    let dots_right = !number.starts_with('.') && !number.ends_with('.');
    number.parse().ok().filter(|number: &f64| dots_right && number.is_finite()).map(|number| (number, unit))
}

/// Finer units than those of the command line's other durations: an SLO is often in microseconds.
fn duration_ns(text: &str) -> Result<u64, String> {
    let ns_per_unit = |unit| match unit {
        "ns" => Some(1.0),
        "us" | "µs" => Some(1e3),
        "ms" => Some(1e6),
        "s" => Some(1e9),
        _ => None,
    };
    let ns = number(text).and_then(|(number, unit)| Some((number * ns_per_unit(unit)?).round()));
    match ns {
        Some(ns) if (1.0..=3.6e12).contains(&ns) => Ok(ns as u64),
        Some(_) => Err(format!("{text:?} is out of range; write 1ns to 3600s")),
        None => Err(format!("{text:?} is no time; write a number and a unit, like 500us, 2ms, 1.5ms or 1s")),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match number(text) {
        Some((percent, "%")) if percent <= 100.0 => Ok(percent / 100.0),
        _ => Err(format!("{text:?} is no share; write 0% to 100%, like 0.1%")),
    }
}

/// 3 significant digits, in a suitable unit.
fn duration(ns: u64) -> String {
    let ns = ns as f64;
    match ns {
        _ if ns < 1e3 => format!("{ns}ns"),
        _ if ns < 999.5e3 => format!("{}us", trimmed(ns / 1e3)),
        _ if ns < 999.5e6 => format!("{}ms", trimmed(ns / 1e6)),
        _ => format!("{}s", trimmed(ns / 1e9)),
    }
}

/// 3 significant digits, without zeros at the end.
fn trimmed(value: f64) -> String {
    let decimals = if value > 0.0 { (2.0 - value.log10().floor()).clamp(0.0, 9.0) } else { 0.0 };
    let text = format!("{value:.*}", decimals as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// How often the rate is doubled: from 1,000 to 1,000,000,000.
const DOUBLINGS_MAX: u32 = 20;
/// How often the rate is halved if even the first one was too high: to a thousandth.
const HALVINGS_MAX: u32 = 10;
/// The gap is a factor of 2 at first, and 5 % of it are left after 4 bisections. A gap where the generator
/// was the limit may be wider.
const BISECTIONS_MAX: u32 = 6;
/// How far below the lowest rate that failed the winner may be.
const GAP_MAX: f64 = 1.05;
/// How much lower the next try is if a winner is not confirmed. It grows each time, so that the search ends on a noisy server, too.
const STEPS_DOWN: [f64; 4] = [0.95, 0.9, 0.8, 0.6];
/// Lower rates are not measured: a run would have too few messages.
const RATE_MIN: f64 = 1.0;
const RATE_MAX: f64 = 1e9;

/// Finds the highest rate that meets the objective. Returns what was found, every run as a point of the curve,
/// ascending, and the report of the run that confirmed it.
///
/// If the generator was the limit at a rate that missed the objective, no rate between that one and the last one
/// that met it shows more. The search ends there, and its finding says that the true maximum may be higher. A run
/// that was cut short, by a person or by a server that died, ends the search as well; the curve so far is kept.
pub fn find_max(
    slo: &Slo,
    first_rate: f64,
    run: impl FnMut(f64) -> Report,
) -> (Found, Vec<LoadPoint>, Option<Report>) {
    let mut search = Search { slo, run, curve: Vec::new(), had_too_few: false };
    let (rate, because) = search.search(first_rate.clamp(RATE_MIN, RATE_MAX).max(RATE_MIN));
    let (rate_per_s, report) = rate.map_or((None, None), |(rate, report)| (Some(rate), Some(report)));
    let mut curve = search.curve;
    curve.sort_by(|one, other| one.offered_per_s.total_cmp(&other.offered_per_s));
    (Found { slo: slo.to_string(), rate_per_s, because }, curve, report)
}

struct Search<'a, F> {
    slo: &'a Slo,
    run: F,
    curve: Vec<LoadPoint>,
    /// The last run had too few messages to show anything, and a lower rate has fewer.
    had_too_few: bool,
}

/// The outcome at one rate.
enum Outcome {
    Met(Box<Report>),
    /// Why not.
    Broken(String),
    /// The same, but it was our own fault.
    TooFastForUs(String),
    /// Why; nothing follows from it.
    CutShort(String),
}

/// The rate that was found with its report, if there is one, and what ended the search.
type End = (Option<(f64, Report)>, String);

impl<F: FnMut(f64) -> Report> Search<'_, F> {
    fn search(&mut self, first_rate: f64) -> End {
        let mut rate = first_rate;
        // The highest that was met, and the lowest above it that was not, with the reason.
        let (mut met, mut broken) = (None, None);
        let mut our_fault = false;

        // Up, until it is broken; or down, until it is met.
        for _ in 0..=DOUBLINGS_MAX.max(HALVINGS_MAX) {
            match self.at(rate) {
                Outcome::Met(_) => met = Some(rate),
                Outcome::Broken(why) => {
                    our_fault = false;
                    broken = Some((rate, why));
                }
                Outcome::TooFastForUs(why) => {
                    our_fault = true;
                    broken = Some((rate, why));
                }
                Outcome::CutShort(why) => return (None, cut_short(rate, &why, met)),
            }
            if let (true, Some((_, why))) = (self.had_too_few, &broken) {
                return (
                    None,
                    format!(
                        "at {}, {why}: take a longer --duration, or a higher --rate to begin with",
                        per_s(rate)
                    ),
                );
            }
            rate = match (met, &broken) {
                (Some(_), Some(_)) => break,
                (Some(_), None) if rate >= RATE_MAX.min(first_rate * 2f64.powi(DOUBLINGS_MAX as i32)) => {
                    break;
                }
                (Some(_), None) => (2.0 * rate).min(RATE_MAX),
                (None, _) if rate <= RATE_MIN.max(first_rate * 0.5f64.powi(HALVINGS_MAX as i32)) => break,
                (None, _) => (rate / 2.0).max(RATE_MIN),
            };
        }
        let Some(mut met) = met else {
            let why =
                broken.map_or(String::new(), |(rate, why)| format!(", not even {}: {why}", per_s(rate)));
            return (None, format!("no rate met it{why}"));
        };
        let Some((mut rate_broken, mut why)) = broken else {
            return self.confirm(met, format!("it was still met at {}, the most that is tried", per_s(met)));
        };

        // In between.
        for _ in 0..BISECTIONS_MAX {
            if our_fault || rate_broken <= GAP_MAX * met {
                break;
            }
            let rate = (met * rate_broken).sqrt();
            match self.at(rate) {
                Outcome::Met(_) => met = rate,
                Outcome::Broken(because) => (rate_broken, why) = (rate, because),
                Outcome::TooFastForUs(because) => {
                    (rate_broken, why) = (rate, because);
                    our_fault = true;
                }
                Outcome::CutShort(why) => return (None, cut_short(rate, &why, Some(met))),
            }
        }
        let whose = match our_fault {
            true => "; but there the generator was the limit, the server's true maximum may be higher",
            false => "",
        };
        self.confirm(met, format!("at {} {why}{whose}", per_s(rate_broken)))
    }

    /// One more run of a rate that was met; where it is not met again, lower ones that are met twice.
    fn confirm(&mut self, winner: f64, because: String) -> End {
        let (mut rate, mut needed) = (winner, 1);
        let mut steps_down = STEPS_DOWN.iter();
        loop {
            match self.at(rate) {
                Outcome::Met(report) if needed == 1 => {
                    let shaky = match rate < winner {
                        true => format!("; {} met it once, but not again", per_s(winner)),
                        false => String::new(),
                    };
                    return (Some((rate, *report)), because + &shaky);
                }
                Outcome::Met(_) => needed -= 1,
                Outcome::Broken(why) | Outcome::TooFastForUs(why) => {
                    let Some(step) = steps_down.next() else {
                        return (None, format!("no rate met it twice, not even {}: {why}", per_s(rate)));
                    };
                    (rate, needed) = ((winner * step).max(RATE_MIN), 2);
                }
                Outcome::CutShort(why) => return (None, cut_short(rate, &why, Some(winner))),
            }
        }
    }

    fn at(&mut self, rate: f64) -> Outcome {
        let report = (self.run)(rate);
        let broken_by = self.slo.broken_by(&report);
        self.had_too_few = report.offered < REPLIES_MIN;
        let percentile = |percent| report.latency.response.as_ref()?.percentile(percent)?.ns;
        self.curve.push(LoadPoint {
            offered_per_s: rate,
            achieved_per_s: report.achieved_per_s,
            p50_ns: percentile(50.0),
            p99_ns: percentile(99.0),
            failures: report.failures.total(),
            met: (!report.partial).then_some(broken_by.is_none()),
        });
        match broken_by {
            _ if report.partial => Outcome::CutShort(report.partial_because.unwrap_or_default()),
            None => Outcome::Met(Box::new(report)),
            Some(why) if report.verdict.limit == Limit::Generator => Outcome::TooFastForUs(why),
            Some(why) => Outcome::Broken(why),
        }
    }
}

/// A rate that was met only once is no finding, but worth a line.
fn cut_short(rate: f64, why: &str, met: Option<f64>) -> String {
    let colon = if why.is_empty() { "" } else { ": " };
    let until_then = met.map_or(String::new(), |met| format!("; {} had met it once", per_s(met)));
    format!("it was cut short at {}{colon}{why}{until_then}", per_s(rate))
}

fn per_s(rate: f64) -> String {
    if rate < 100.0 { format!("{}/s", trimmed(rate)) } else { format!("{rate:.0}/s") }
}

#[cfg(test)]
mod tests {
    use super::super::report::{Failures, Latency, Percentile};
    use super::*;

    fn slo(text: &str) -> Slo {
        text.parse().expect("an objective")
    }

    /// A run of 10 s in which every percentile is this long.
    fn report(rate: f64, ns: u64) -> Report {
        let percentile = |percent: &&str| {
            let percent = percent.parse().expect("a number");
            Percentile { percent, ns: Some(ns), few: false }
        };
        let percentiles = PERCENTILES.iter().map(percentile).collect();
        let count = (10.0 * rate) as u64;
        let mut report = Report {
            offered: count,
            offered_per_s: rate,
            replies: count,
            achieved_per_s: rate,
            ..Report::default()
        };
        report.latency.response = Some(Latency { count, max_ns: 2 * ns, percentiles, ..Latency::default() });
        report
    }

    /// The rest is never answered.
    fn overloaded(rate: f64, capacity: f64) -> Report {
        let mut report = report(rate, 1_000_000_000);
        report.achieved_per_s = capacity;
        report.failures_in_window.timed_out = (10.0 * (rate - capacity)) as u64;
        report
    }

    /// Up to `capacity` all is well, and beyond nothing.
    fn step(capacity: f64) -> impl FnMut(f64) -> Report {
        move |rate| if rate <= capacity { report(rate, 500_000) } else { overloaded(rate, capacity) }
    }

    fn search(
        text: &str,
        first_rate: f64,
        run: impl FnMut(f64) -> Report,
    ) -> (Found, Vec<LoadPoint>, Option<Report>) {
        let (found, curve, report) = find_max(&slo(text), first_rate, run);
        assert!(curve.is_sorted_by(|one, other| one.offered_per_s <= other.offered_per_s));
        assert_eq!(found.rate_per_s.is_some(), report.is_some());
        if let (Some(rate), Some(report)) = (found.rate_per_s, &report) {
            assert_eq!(report.offered_per_s, rate);
            let met = curve.iter().filter(|it| it.offered_per_s == rate && it.met == Some(true)).count();
            assert!(met >= 2, "{rate} was met {met} times");
        }
        (found, curve, report)
    }

    #[test]
    fn objectives_are_read_and_shown_as_they_were_written() {
        for text in ["p99<=2ms", "p99.9<500us", "p50<=1s", "max<=50ms", "failures<=0.1%", "p75<1.5ms,max<1s"]
        {
            assert_eq!(slo(text).to_string(), text);
        }
        assert_eq!(slo("p99 <= 2ms, max < 1s").to_string(), "p99<=2ms,max<1s");
        assert_eq!(
            slo("p99.9<500us").objectives[0],
            Objective { figure: Figure::Percentile(99.9, 500_000), below: true }
        );
        assert_eq!(slo("p50<=1.5ms").objectives[0].figure, Figure::Percentile(50.0, 1_500_000));
    }

    #[test]
    fn what_is_no_objective_is_told_what_to_write() {
        for (wrong, hint) in [
            ("", "write it like p99<=2ms"),
            ("p99", "write it like p99<=2ms"),
            ("p99>=2ms", "write it like p99<=2ms"),
            ("p99<=2ms,", "write it like p99<=2ms"),
            ("mean<=2ms", "write it like p99<=2ms"),
            ("p98<=2ms", "p50, p75, p90, p99, p99.9"),
            ("p<=2ms", "p50, p75, p90, p99, p99.9"),
            ("p99<=2", "a number and a unit"),
            ("p99<=2 minutes", "a number and a unit"),
            ("p99<=-2ms", "a number and a unit"),
            ("p99<=.ms", "a number and a unit"),
            ("p99<=1.2.3ms", "a number and a unit"),
            ("p99<=inf", "a number and a unit"),
            ("p99<=0ms", "out of range"),
            ("p99<=99999999999999s", "out of range"),
            ("failures<=1", "like 0.1%"),
            ("failures<=101%", "like 0.1%"),
            ("p99<=\u{1b}[2J", "a number and a unit"),
        ] {
            let error = wrong.parse::<Slo>().expect_err(wrong);
            assert!(error.contains(hint) && !error.contains(['\n', '\u{1b}']), "{wrong}: {error}");
        }
    }

    #[test]
    fn at_the_bound_is_met_by_at_most_and_not_by_below() {
        let report = report(1000.0, 2_000_000);
        assert!(slo("p99<=2ms").met(&report));
        assert!(!slo("p99<2ms").met(&report));
        assert!(slo("p99<=2ms,max<=4ms").met(&report));
        assert_eq!(slo("p99<=2ms,max<4ms").broken_by(&report), Some("max was 4ms".into()));
    }

    #[test]
    fn failures_are_infinite() {
        let mut report = report(1000.0, 1_000_000);
        report.failures_in_window = Failures { timed_out: 50, ..Failures::default() };
        assert!(slo("p99<=2ms").met(&report), "half a per cent does not reach down to p99");
        assert!(!slo("p99.9<=2ms").met(&report));
        assert!(!slo("max<=1s").met(&report));
        assert!(!slo("failures<=0.1%").met(&report));
        assert!(slo("failures<=0.5%").met(&report));
        assert!(!slo("failures<0.5%").met(&report));
        report.failures_in_window.timed_out = 1;
        assert_eq!(slo("failures<=0%").broken_by(&report), Some("0.01 % failed".into()));
    }

    #[test]
    fn a_rate_that_was_not_achieved_is_not_met_whatever_its_latency() {
        let mut report = report(1000.0, 1000);
        report.achieved_per_s = 979.0;
        let why = slo("p99<=2ms").broken_by(&report).expect("a reason");
        assert_eq!(why, "only 97.9 % of the offered rate was achieved");
    }

    #[test]
    fn too_few_replies_show_nothing() {
        assert!(!slo("p99<=2ms").met(&Report::default()));
        assert!(!slo("p99<=2ms").met(&report(9.0, 1000)));
        assert!(slo("p99<=2ms").met(&report(10.0, 1000)));
    }

    /// A lower rate has fewer still.
    #[test]
    fn a_search_with_too_few_messages_per_step_ends_at_once() {
        let (found, curve, _) =
            search("p99<=2ms", 9.0, |rate| Report { offered: rate as u64, ..step(37_000.0)(rate) });
        assert_eq!((found.rate_per_s, curve.len()), (None, 1));
        assert!(found.because.contains("take a longer --duration"), "{}", found.because);
    }

    #[test]
    fn a_step_is_found_to_5_per_cent_from_either_side() {
        for first_rate in [10.0, 1000.0, 36_999.0, 40_000.0, 1e6] {
            let (found, curve, _) = search("p99<=2ms", first_rate, step(37_000.0));
            let rate = found.rate_per_s.expect("it is there");
            assert!((37_000.0 / 1.05..=37_000.0).contains(&rate), "from {first_rate}: {rate}");
            assert!(found.because.starts_with("at 3"), "{}", found.because);
            assert!(curve.len() <= 25, "{} runs", curve.len());
        }
    }

    #[test]
    fn a_queue_is_found_where_the_formula_has_it() {
        // M/M/1: the response time is exponential with rate (capacity - load).
        let capacity = 50_000.0;
        let run = |rate: f64| match rate < capacity {
            true => report(rate, (100f64.ln() / (capacity - rate) * 1e9) as u64),
            false => overloaded(rate, capacity),
        };
        let (found, curve, _) = search("p99<=1ms", 1000.0, run);
        let (rate, truth) = (found.rate_per_s.expect("it is there"), capacity - 100f64.ln() / 1e-3);
        assert!((truth / 1.05..=truth).contains(&rate), "{rate}, and it is {truth}");
        assert!(curve.iter().any(|it| it.met == Some(false)));
    }

    #[test]
    fn a_noisy_server_is_found_lower_and_never_twice_by_luck() {
        for seed in 0..50u64 {
            let mut draw = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let run = |rate: f64| {
                // xorshift; the capacity is 7,000 to 13,000
                draw ^= draw << 13;
                draw ^= draw >> 7;
                draw ^= draw << 17;
                step(7000.0 + 6000.0 * (draw >> 11) as f64 / (1u64 << 53) as f64)(rate)
            };
            let (found, curve, _) = search("p99<=2ms", 1000.0, run);
            assert!(curve.len() <= 25, "{} runs", curve.len());
            let rate = found.rate_per_s.expect("with these seeds a step down is met twice");
            assert!((3500.0..13_000.0).contains(&rate), "{rate}");
        }
    }

    #[test]
    fn one_that_was_lucky_once_is_not_confirmed() {
        let mut runs = 0;
        let run = |rate: f64| {
            runs += 1;
            step(if runs <= 4 { 8000.0 } else { 1.0 })(rate)
        };
        let (found, _, report) = search("p99<=2ms", 1000.0, run);
        assert_eq!((found.rate_per_s, report), (None, None));
        assert!(found.because.starts_with("no rate met it twice, not even 4800/s"), "{}", found.because);
    }

    #[test]
    fn one_that_never_meets_it_is_given_up_at_a_thousandth() {
        let (found, curve, _) = search("p99<=2ms", 100_000.0, |rate| report(rate, 3_000_000));
        assert_eq!(found.rate_per_s, None);
        assert_eq!(found.because, "no rate met it, not even 97.7/s: p99 was 3ms");
        assert_eq!(curve.len(), 11);
    }

    #[test]
    fn one_that_never_fails_is_left_at_a_bound() {
        let (found, curve, _) = search("p99<=2ms", 1000.0, |rate| report(rate, 1000));
        assert_eq!(found.rate_per_s, Some(1e9));
        assert_eq!(found.because, "it was still met at 1000000000/s, the most that is tried");
        assert!(curve.len() <= 22);
    }

    #[test]
    fn where_we_are_the_limit_it_says_so_and_looks_no_further() {
        let run = |rate: f64| {
            let mut report = step(37_000.0)(rate);
            report.verdict.limit = Limit::Generator;
            report
        };
        let (found, curve, _) = search("p99<=2ms", 1000.0, run);
        assert_eq!(found.rate_per_s, Some(32_000.0));
        assert!(
            found.because.contains("the true maximum may be higher")
                || found.because.contains("may be higher")
        );
        assert_eq!(curve.len(), 8);
        let (found, ..) = search("p99<=2ms", 100_000.0, run);
        assert_eq!(found.rate_per_s, Some(25_000.0));
    }

    #[test]
    fn a_run_that_was_cut_short_ends_it() {
        let run = |rate: f64| {
            let partial = rate >= 4000.0;
            Report { partial, partial_because: partial.then(|| "Ctrl-C".into()), ..report(rate, 1000) }
        };
        let (found, curve, _) = search("p99<=2ms", 1000.0, run);
        assert_eq!(found.rate_per_s, None);
        assert_eq!(found.because, "it was cut short at 4000/s: Ctrl-C; 2000/s had met it once");
        assert_eq!(curve.iter().map(|it| it.met).collect::<Vec<_>>(), [Some(true), Some(true), None]);
    }

    #[test]
    fn a_server_that_dies_leaves_the_curve() {
        let mut runs = 0;
        let run = |rate: f64| {
            runs += 1;
            let dead = runs >= 5;
            let because = dead.then(|| "connection refused".into());
            Report { partial: dead, partial_because: because, ..step(3000.0)(rate) }
        };
        let (found, curve, _) = search("p99<=2ms", 1000.0, run);
        assert_eq!(found.rate_per_s, None);
        assert_eq!(found.because, "it was cut short at 3364/s: connection refused; 2828/s had met it once");
        assert_eq!(curve.len(), 5);
    }

    #[test]
    fn a_first_rate_that_is_none_is_the_lowest() {
        for first_rate in [f64::NAN, -1.0, 0.0] {
            let (found, ..) = search("p99<=2ms", first_rate, |rate| Report {
                offered_per_s: rate,
                ..report(rate.max(100.0), 3_000_000)
            });
            assert_eq!(found.because, "no rate met it, not even 1/s: p99 was 3ms");
        }
    }
}
