//! Two servers side by side, or one before and after a change: FASTER, SLOWER, or NO DIFFERENCE SEEN.
//!
//! Both were measured in several equal rounds, A and B turn about, so that whatever else the machine did came
//! over both. Best is A B, B A, A B and so on: a drift, and noise that swings to and fro with the turns, then
//! favour neither. (Where A always comes first, noise of which half comes back with the opposite sign in the
//! next round passes for a difference 3 to 7 times in 100; any other noise that was tried, once.)
//!
//! The rounds are paired by their place, and what counts is the ratio B/A in each pair. If A and B were the
//! same, each ratio could as well have come out the other way round; so all signs of the log ratios are flipped
//! in every way there is, and p is the share of these arrangements whose sum lies as far from 0 as the one that
//! was seen. That assumes nothing about how the noise is distributed, only that it hits both alike.
//!
//! A difference is one that has p < 0.01 *and* a median of more than 1 %, and of more than the noise floor, which
//! is what a server shows against itself from one of its rounds to the next. The floor also covers a drift: where
//! the machine slows down steadily, B always comes later than A, by half of what lies between two rounds of A.
//!
//! With 8 rounds the least p there can be is 2/256 = 0.0078. With fewer it would be above 0.01 whatever was seen,
//! so there is no verdict then. It doesn't measure anything, and doesn't average what differs: the least and the
//! greatest ratio are always shown.
//!
//! Invariant: no figure in a [`Comparison`] is infinite or not a number, whatever the rounds hold.

use serde::Serialize;
use serde_json::Value;

use super::report::{Limit, PlanFigures, Report, Round};

pub use super::comparison::{Compared, Comparison, Figure, Finding, ROUNDS_MIN};

/// What chance alone may do, at most.
const P_MAX: f64 = 0.01;
/// A smaller difference is none that matters, however sure it is.
const DIFFERENCE_MIN: f64 = 0.01;
/// Up to here every arrangement is looked at: a million.
const EXACT_ROUNDS_MAX: usize = 20;
/// Arrangements that are drawn beyond that.
const DRAWN: u64 = 100_000;
/// How many times worse than the worst that was measured an infinite figure counts.
const INFINITE_TIMES: f64 = 10.0;

/// One of the two.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// What it is called: its URL.
    pub name: String,
    /// In the order in which they were run.
    pub rounds: Vec<Round>,
}

/// Compares B with A. `headline` is the figure that the first line is about; see [`headline`].
pub fn compare(a: &Side, b: &Side, headline: Figure) -> Comparison {
    let (a_rounds, b_rounds) = (a.rounds.len(), b.rounds.len());
    let pairs = a_rounds.min(b_rounds);
    let mut notes = Vec::new();
    if a_rounds != b_rounds {
        notes.push(format!("A has {a_rounds} rounds and B {b_rounds}: the first {pairs} are compared."));
    }
    for (name, side) in [("A", a), ("B", b)] {
        let failures = side.rounds[..pairs].iter().fold(0u64, |sum, it| sum.saturating_add(it.failures));
        if failures > 0 {
            notes.push(format!("{name} had {failures} failures."));
        }
    }
    let figures = [Figure::AchievedPerS, Figure::P50, Figure::P99, Figure::ServerCpuPerReply];
    Comparison {
        a: a.name.clone(),
        b: b.name.clone(),
        a_rounds: a_rounds as u32,
        b_rounds: b_rounds as u32,
        headline,
        figures: figures
            .iter()
            .filter_map(|it| compared(*it, &a.rounds[..pairs], &b.rounds[..pairs]))
            .collect(),
        notes,
    }
}

/// The figure by which two runs are judged: their rates. If both were offered the same rate, and so achieve the
/// same, it is their p99.
pub fn headline(a: &PlanFigures, b: &PlanFigures) -> Figure {
    let offered = |plan: &PlanFigures| plan.rate_from_per_s.zip(plan.rate_to_per_s);
    match offered(a) {
        Some(rates) if offered(b) == Some(rates) => Figure::P99,
        _ => Figure::AchievedPerS,
    }
}

/// Compares two reports: by their rounds, or else, without a verdict, by their single figures.
pub fn of_reports(a: &Report, b: &Report) -> Comparison {
    let side = |report: &Report, rounds| Side { name: report.target.clone(), rounds };
    let headline = headline(&a.plan, &b.plan);
    let mut comparison = if a.rounds.is_empty() || b.rounds.is_empty() {
        let single = compare(&side(a, vec![whole(a)]), &side(b, vec![whole(b)]), headline);
        Comparison { a_rounds: a.rounds.len() as u32, b_rounds: b.rounds.len() as u32, ..single }
    } else {
        compare(&side(a, a.rounds.clone()), &side(b, b.rounds.clone()), headline)
    };
    let notes = &mut comparison.notes;
    if !a.rounds.is_empty() && !b.rounds.is_empty() {
        notes.push(
            "The two were run one after the other: what changed on the machine in between looks like a difference \
             between them. bench --ab runs them turn about."
                .into(),
        );
    }
    if a.schema != b.schema {
        notes.push(format!(
            "The files have different schemas, {} and {}: figures may not mean the same.",
            a.schema, b.schema
        ));
    }
    let fields = [differing("machine", &a.machine, &b.machine), differing("plan", &a.plan, &b.plan)].concat();
    if !fields.is_empty() {
        notes.push(format!("They were not run alike: {}.", fields.join("; ")));
    }
    if a.verified != b.verified {
        notes.push("The replies of only one were verified, which costs the generator time.".into());
    }
    for (name, report) in [("A", a), ("B", b)] {
        if report.partial {
            notes.push(format!("{name} was cut short."));
        }
        if report.verdict.limit == Limit::Generator {
            notes.push(format!("The generator was the limit of {name}: its rate is a lower bound."));
        }
    }
    comparison
}

/// A run as if it had been a round.
fn whole(report: &Report) -> Round {
    let percentile = |percent| report.latency.response.as_ref()?.percentile(percent)?.ns;
    Round {
        achieved_per_s: report.achieved_per_s,
        p50_ns: percentile(50.0),
        p99_ns: percentile(99.0),
        server_cpu_ns_per_reply: report.server.as_ref().and_then(|it| it.cpu_ns_per_reply),
        failures: report.failures.total(),
    }
}

/// The fields in which two of a kind differ, as the file has them. What the seed was makes no run different from
/// another in kind.
fn differing<T: Serialize>(part: &str, a: &T, b: &T) -> Vec<String> {
    let (Ok(Value::Object(a)), Ok(Value::Object(b))) = (serde_json::to_value(a), serde_json::to_value(b))
    else {
        return Vec::new();
    };
    let shown = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    a.iter()
        .filter(|(field, value)| field.as_str() != "seed" && b.get(*field) != Some(value))
        .map(|(field, value)| format!("{part}.{field} is {} and {}", shown(Some(value)), shown(b.get(field))))
        .collect()
}

impl Figure {
    /// `None` where it is infinitely bad.
    fn of(self, round: &Round) -> Option<f64> {
        let value = match self {
            Figure::AchievedPerS => Some(round.achieved_per_s),
            Figure::P50 => round.p50_ns.map(|ns| ns.max(1) as f64),
            Figure::P99 => round.p99_ns.map(|ns| ns.max(1) as f64),
            Figure::ServerCpuPerReply => round.server_cpu_ns_per_reply,
        };
        value.filter(|value| *value > 0.0 && value.is_finite())
    }
}

/// `None` where there is nothing to compare: no round of either side has it.
fn compared(figure: Figure, a: &[Round], b: &[Round]) -> Option<Compared> {
    let values = |rounds: &[Round]| rounds.iter().map(|round| figure.of(round)).collect::<Vec<_>>();
    let (a, b) = (values(a), values(b));
    if figure == Figure::ServerCpuPerReply && a.iter().chain(&b).any(Option::is_none) {
        return None;
    }
    let measured = || a.iter().chain(&b).flatten().map(|value| value.ln());
    let worst = match figure.more_is_better() {
        true => measured().reduce(f64::min)? - INFINITE_TIMES.ln(),
        false => measured().reduce(f64::max)? + INFINITE_TIMES.ln(),
    };
    let logs =
        |values: &[Option<f64>]| values.iter().map(|value| value.map_or(worst, f64::ln)).collect::<Vec<_>>();
    let (a_logs, b_logs) = (logs(&a), logs(&b));
    let log_ratios: Vec<_> = b_logs.iter().zip(&a_logs).map(|(b, a)| b - a).collect();

    let log_ratio = median(&log_ratios);
    let noise = [&a_logs, &b_logs].map(|logs| {
        let steps: Vec<_> = logs.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
        median(&steps)
    });
    let noise = noise[0].max(noise[1]);
    let enough = a.len() >= ROUNDS_MIN;
    let flips = enough.then(|| flip_signs(&log_ratios));
    let mean_agrees = log_ratios.iter().sum::<f64>() * log_ratio > 0.0;
    let finding = match &flips {
        None => Finding::NoVerdict,
        Some(flips)
            if flips.p < P_MAX && mean_agrees && log_ratio.abs() > noise.max(DIFFERENCE_MIN.ln_1p()) =>
        {
            if (log_ratio > 0.0) == figure.more_is_better() {
                Finding::Faster
            } else {
                Finding::Slower
            }
        }
        Some(_) => Finding::NoDifferenceSeen,
    };

    // A file that was written by hand can hold what e to the power of doesn't fit.
    let exp = |log: f64| log.clamp(-700.0, 700.0).exp();
    Some(Compared {
        figure,
        a_median: median_of(&a, &a_logs, exp),
        b_median: median_of(&b, &b_logs, exp),
        ratios: log_ratios.iter().map(|log| exp(*log)).collect(),
        ratio: exp(log_ratio),
        ratio_min: exp(log_ratios.iter().copied().fold(f64::INFINITY, f64::min)),
        ratio_max: exp(log_ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        noise_floor: (a.len() > 1).then(|| exp(noise) - 1.0),
        p: flips.as_ref().map(|flips| flips.p),
        arrangements: flips.as_ref().map_or(0, |flips| flips.arrangements),
        drawn: flips.is_some_and(|flips| flips.drawn),
        finding,
    })
}

/// Of logarithms: the middle one, or what lies between the two in the middle. 0 of none.
fn median(logs: &[f64]) -> f64 {
    let mut sorted = logs.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len() / 2, sorted.len() % 2) {
        (0, 0) => 0.0,
        (middle, 0) => (sorted[middle - 1] + sorted[middle]) / 2.0,
        (middle, _) => sorted[middle],
    }
}

/// The median of what was measured; `None` where half or more is infinite, and so the middle is.
fn median_of(values: &[Option<f64>], logs: &[f64], exp: impl Fn(f64) -> f64) -> Option<f64> {
    let infinite = values.iter().filter(|it| it.is_none()).count();
    (2 * infinite < values.len()).then(|| exp(median(logs)))
}

/// The outcome of a permutation test.
struct Flips {
    p: f64,
    arrangements: u64,
    drawn: bool,
}

/// Which share of all ways to set the signs has a sum as far from 0 as the one that is.
fn flip_signs(log_ratios: &[f64]) -> Flips {
    // Sums of the same numbers in another order differ in the last bits.
    let seen = log_ratios.iter().sum::<f64>().abs() * (1.0 - 1e-9);
    if log_ratios.len() <= EXACT_ROUNDS_MAX {
        // The first sign stays: an arrangement and its mirror image lie equally far.
        let mut sums = vec![log_ratios[0]];
        for ratio in &log_ratios[1..] {
            for at in 0..sums.len() {
                let sum = sums[at];
                sums[at] = sum + ratio;
                sums.push(sum - ratio);
            }
        }
        let count = sums.iter().filter(|sum| sum.abs() >= seen).count();
        let arrangements = 2 * sums.len() as u64;
        return Flips { p: count as f64 / sums.len() as f64, arrangements, drawn: false };
    }
    let mut state = 0;
    let drawn = || log_ratios.chunks(64).map(|some| flipped_sum(some, split_mix(&mut state))).sum::<f64>();
    let count = std::iter::repeat_with(drawn).take(DRAWN as usize).filter(|sum| sum.abs() >= seen).count();
    // The arrangement that was seen is one of them, so p is never 0.
    Flips { p: (count + 1) as f64 / (DRAWN + 1) as f64, arrangements: DRAWN, drawn: true }
}

/// Each bit of `signs` is that of one ratio.
fn flipped_sum(log_ratios: &[f64], signs: u64) -> f64 {
    log_ratios.iter().enumerate().map(|(at, it)| if (signs >> at) & 1 == 0 { *it } else { -it }).sum()
}

/// SplitMix64, by Sebastiano Vigna: 64 even bits a call from any seed.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::report::{Latency, Percentile, ServerFigures};
    use super::*;
    use proptest::prelude::*;

    /// Seeded noise.
    struct Dice(u64);

    impl Dice {
        /// Above 0, at most 1.
        fn uniform(&mut self) -> f64 {
            ((split_mix(&mut self.0) >> 11) + 1) as f64 / (1u64 << 53) as f64
        }

        fn normal(&mut self) -> f64 {
            let (radius, angle) = (self.uniform(), self.uniform());
            (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
        }

        /// Student's t with 2 degrees of freedom: one in fifty is beyond 7.
        fn heavy(&mut self) -> f64 {
            self.normal() / (-self.uniform().ln()).sqrt()
        }
    }

    /// A round in which everything is `slow` times what it is at best.
    fn round(slow: f64) -> Round {
        Round {
            achieved_per_s: 100_000.0 / slow,
            p50_ns: Some((400_000.0 * slow) as u64),
            p99_ns: Some((900_000.0 * slow) as u64),
            server_cpu_ns_per_reply: Some(2000.0 * slow),
            failures: 0,
        }
    }

    fn side(name: &str, slow: impl IntoIterator<Item = f64>) -> Side {
        Side { name: name.into(), rounds: slow.into_iter().map(round).collect() }
    }

    /// Who comes first in a pair.
    #[derive(Debug, Clone, Copy)]
    enum Order {
        /// A B, A B.
        Same,
        /// A B, B A.
        Swapped,
    }

    /// Rounds that were run turn about, where B takes `b_times` as long; `noise` gives the logarithm of each
    /// round's slowness, in the order of time. Only rates: that is enough, and these are many.
    fn turn_about(order: Order, pairs: usize, b_times: f64, mut noise: impl FnMut() -> f64) -> Comparison {
        let (mut a, mut b) = (side("A", []), side("B", []));
        for pair in 0..pairs {
            let mut slow = [noise().exp(), noise().exp()];
            if matches!(order, Order::Swapped) && pair % 2 == 1 {
                slow.reverse();
            }
            let rate = |slow: f64| Round { achieved_per_s: 100_000.0 / slow, ..Round::default() };
            a.rounds.push(rate(slow[0]));
            b.rounds.push(rate(b_times * slow[1]));
        }
        compare(&a, &b, Figure::AchievedPerS)
    }

    fn figure(comparison: &Comparison, figure: Figure) -> &Compared {
        comparison.figures.iter().find(|it| it.figure == figure).expect("it was measured")
    }

    fn finding(comparison: &Comparison) -> Finding {
        comparison.main().expect("something was measured").finding
    }

    /// Of `count` comparisons by `one`, the part that says that there is a difference.
    fn share_different(count: u64, one: impl Fn(u64) -> Comparison) -> f64 {
        let different = |seed: &u64| matches!(finding(&one(*seed)), Finding::Faster | Finding::Slower);
        (0..count).filter(different).count() as f64 / count as f64
    }

    /// Noise that remembers: `memory` of the last round's, and something new.
    fn remembering(memory: f64, mut new: impl FnMut() -> f64) -> impl FnMut() -> f64 {
        let mut last = 0.0;
        move || {
            last = memory * last + new();
            last
        }
    }

    /// The part of 1,000 comparisons of a server with itself that says that there is a difference, for three
    /// kinds of noise.
    fn false_alarms(order: Order, pairs: usize, memory: f64) -> [f64; 3] {
        let share = |kind: fn(&mut Dice) -> f64| {
            share_different(1000, |seed| {
                let mut dice = Dice(seed);
                turn_about(order, pairs, 1.0, remembering(memory, || kind(&mut dice)))
            })
        };
        let shares = [
            share(|dice| 0.03 * dice.normal()),
            share(|dice| 0.03 * dice.heavy()),
            // Now and then a round is twice as slow.
            share(|dice| 0.01 * dice.normal() + if dice.uniform() < 0.1 { 0.7 } else { 0.0 }),
        ];
        println!("{order:?}, {pairs} pairs, memory {memory}: {shares:?}");
        shares
    }

    #[test]
    fn a_server_against_itself_is_hardly_ever_different() {
        for pairs in [8, 12] {
            for memory in [0.0, 0.5, 0.95] {
                for order in [Order::Same, Order::Swapped] {
                    let shares = false_alarms(order, pairs, memory);
                    assert!(
                        shares.iter().all(|share| *share <= 0.02),
                        "{order:?} {pairs} {memory}: {shares:?}"
                    );
                }
            }
        }
    }

    /// The order is what it takes: the same noise, with A always first, is mistaken 3 to 7 times in 100.
    #[test]
    fn noise_that_swings_with_the_turns_is_no_difference_where_the_order_swaps() {
        for pairs in [8, 12] {
            let (same, swapped) =
                (false_alarms(Order::Same, pairs, -0.5), false_alarms(Order::Swapped, pairs, -0.5));
            assert!(swapped.iter().all(|share| *share <= 0.01), "{swapped:?}");
            assert!(
                same.iter().all(|share| (0.02..0.08).contains(share)),
                "the module's text says 0.03 to 0.07: {same:?}"
            );
        }
    }

    #[test]
    fn a_machine_that_slows_down_steadily_makes_no_difference() {
        for order in [Order::Same, Order::Swapped] {
            for drift in [0.001, 0.005, 0.02, -0.02] {
                let share = share_different(1000, |seed| {
                    let (mut dice, mut slow) = (Dice(seed), 0.0);
                    turn_about(order, 8, 1.0, || {
                        slow += drift;
                        slow + 0.005 * dice.normal()
                    })
                });
                assert!(share <= 0.02, "a drift of {drift}: {share}");
            }
        }
    }

    #[test]
    fn twenty_times_against_itself_is_different_at_most_twice() {
        for hundred in 0..100 {
            let different = 20.0
                * share_different(20, |nth| {
                    let mut dice = Dice(1000 * hundred + nth);
                    turn_about(Order::Same, 8, 1.0, || 0.05 * dice.heavy())
                });
            assert!(different.round() <= 2.0, "{different} of 20, hundred {hundred}");
        }
    }

    #[test]
    fn ten_per_cent_is_found_under_3_per_cent_of_noise() {
        let found = |pairs: usize, noise: f64| {
            let times = |b_times: f64, expected: Finding| {
                let right = (0..1000)
                    .filter(|seed| {
                        let mut dice = Dice(*seed);
                        finding(&turn_about(Order::Same, pairs, b_times, || noise * dice.normal()))
                            == expected
                    })
                    .count();
                right as f64 / 1000.0
            };
            times(1.1, Finding::Slower).min(times(1.0 / 1.1, Finding::Faster))
        };
        // With 3 % in each ratio, that is 3 % over the root of 2 in each round.
        assert!(found(8, 0.03 / 2f64.sqrt()) >= 0.95);
        // With 3 % in each round 8 are a little few: one ratio of eight that points the other way is enough
        // to hide the rest.
        println!("{} {} {}", found(8, 0.03), found(10, 0.03), found(12, 0.03));
        assert!(found(8, 0.03) >= 0.85);
        assert!(found(10, 0.03) >= 0.95);
    }

    #[test]
    fn b_is_faster_in_rate_latency_and_cpu_each_in_its_own_direction() {
        let a = side("tcp://a", (0..8).map(|nth| 1.0 + 0.001 * f64::from(nth)));
        let b = side("tcp://b", (0..8).map(|nth| 0.8 + 0.001 * f64::from(nth)));
        let comparison = compare(&a, &b, Figure::AchievedPerS);
        assert_eq!(comparison.figures.len(), 4);
        assert!(
            comparison.figures.iter().all(|it| it.finding == Finding::Faster && it.p == Some(2.0 / 256.0))
        );
        assert!((figure(&comparison, Figure::AchievedPerS).ratio - 1.25).abs() < 0.01);
        assert!((figure(&comparison, Figure::P99).ratio - 0.8).abs() < 0.01);
        assert_eq!(figure(&comparison, Figure::ServerCpuPerReply).words(), "CHEAPER");
        let other_way = compare(&b, &a, Figure::AchievedPerS);
        assert!(other_way.figures.iter().all(|it| it.finding == Finding::Slower));
    }

    #[test]
    fn a_difference_of_less_than_one_per_cent_is_none_however_sure() {
        let a = side("A", [1.0; 12]);
        assert_eq!(
            finding(&compare(&a, &side("B", [1.009; 12]), Figure::AchievedPerS)),
            Finding::NoDifferenceSeen
        );
        assert_eq!(finding(&compare(&a, &side("B", [1.011; 12]), Figure::AchievedPerS)), Finding::Slower);
    }

    #[test]
    fn seven_rounds_are_no_verdict_and_it_says_how_many_there_were() {
        let comparison = compare(&side("A", [1.0; 7]), &side("B", [2.0; 9]), Figure::AchievedPerS);
        assert!(comparison.figures.iter().all(|it| it.finding == Finding::NoVerdict && it.p.is_none()));
        let sentence = comparison.sentence();
        assert!(
            sentence.starts_with(
                "NO VERDICT is possible: A has 7 rounds and B 9 rounds, and it takes 8 of either."
            ),
            "{sentence}"
        );
        assert_eq!(comparison.notes, ["A has 7 rounds and B 9: the first 7 are compared."]);
    }

    #[test]
    fn the_exact_test_agrees_with_the_drawn_one_and_with_the_tables() {
        // Fisher's data on Darwin's maize (The Design of Experiments, section 21): 1,726 of 32,768.
        let maize =
            [49.0, -67.0, 8.0, 16.0, 6.0, 23.0, 28.0, 41.0, 14.0, 29.0, 56.0, 24.0, 75.0, 60.0, -48.0];
        let flips = flip_signs(&maize);
        assert_eq!((flips.p, flips.arrangements, flips.drawn), (1726.0 / 32768.0, 32768, false));

        let mut dice = Dice(5);
        let ratios: Vec<_> = (0..20).map(|_| 0.02 + 0.04 * dice.normal()).collect();
        let exact = flip_signs(&ratios);
        // A pair that says nothing changes nothing but the way it is counted.
        let drawn = flip_signs(&[&ratios[..], &[0.0]].concat());
        assert!(!exact.drawn && drawn.drawn);
        assert!((exact.p - drawn.p).abs() < 0.005, "{} and {}", exact.p, drawn.p);
        let long: Vec<_> = (0..200).map(|_| 0.02 + 0.04 * dice.normal()).collect();
        assert!(flip_signs(&long).p < 0.0001);
    }

    #[test]
    fn an_infinite_p99_is_the_worst_there_is() {
        let a = side("A", [1.0; 8]);
        let mut b = side("B", [1.0; 8]);
        for round in &mut b.rounds {
            round.p99_ns = None;
        }
        let comparison = compare(&a, &b, Figure::P99);
        let p99 = figure(&comparison, Figure::P99);
        assert_eq!((p99.finding, p99.b_median), (Finding::Slower, None));
        assert!((p99.ratio - 10.0).abs() < 1e-9, "{}", p99.ratio);
        assert_eq!(finding(&compare(&b, &a, Figure::P99)), Finding::Faster);
        // Both: nobody is better; and it is no figure if nothing else was seen.
        assert!(compare(&b, &b, Figure::P99).figures.iter().all(|it| it.figure != Figure::P99));
        assert!(comparison.render(100).contains("infinite"));
    }

    #[test]
    fn cpu_is_compared_only_where_it_is_known_of_all() {
        let a = side("A", [1.0; 8]);
        let mut b = side("B", [1.0; 8]);
        b.rounds[3].server_cpu_ns_per_reply = None;
        assert_eq!(compare(&a, &b, Figure::P99).figures.len(), 3);
    }

    fn report(slow: f64) -> Report {
        let percentile = |percent| Percentile { percent, ns: Some((1e6 * slow) as u64), few: false };
        let mut report = Report { schema: 1, target: "tcp://h:1".into(), ..Report::default() };
        report.achieved_per_s = 1000.0 / slow;
        report.latency.response =
            Some(Latency { percentiles: vec![percentile(50.0), percentile(99.0)], ..Latency::default() });
        report.server = Some(ServerFigures { cpu_ns_per_reply: Some(100.0), ..ServerFigures::default() });
        report
    }

    #[test]
    fn reports_without_rounds_show_ratios_and_no_verdict() {
        let comparison = of_reports(&report(1.0), &report(0.5));
        assert_eq!((comparison.a_rounds, comparison.figures.len()), (0, 4));
        assert!(comparison.figures.iter().all(|it| it.finding == Finding::NoVerdict));
        assert_eq!(figure(&comparison, Figure::AchievedPerS).ratios.len(), 1);
        let sentence = comparison.sentence();
        assert!(sentence.contains("A has no rounds"), "{sentence}");
        assert!(sentence.contains("Use --rounds 8, or bench --ab. B has 2.00 times A's rate."), "{sentence}");
        assert_eq!(comparison.notes, [""; 0]);
    }

    #[test]
    fn reports_that_differ_in_kind_are_told_apart() {
        let (mut a, mut b) = (report(1.0), report(1.0));
        (a.rounds, b.rounds) = (vec![round(1.0); 8], vec![round(1.0); 8]);
        (a.plan.connections, b.plan.connections) = (64, 128);
        (a.plan.seed, b.plan.seed) = (1, 2);
        b.plan.arrivals = Some("poisson".into());
        b.machine.cpu = "another".into();
        b.partial = true;
        b.verdict.limit = Limit::Generator;
        let comparison = of_reports(&a, &b);
        let notes = comparison.notes.join("\n");
        for needed in [
            "machine.cpu is  and another; plan.arrivals is none and poisson; plan.connections is 64 and 128.",
            "B was cut short.",
            "The generator was the limit of B",
            "one after the other",
        ] {
            assert!(notes.contains(needed), "{notes}");
        }
        assert!(!notes.contains("seed"), "{notes}");
        assert_eq!(finding(&comparison), Finding::NoDifferenceSeen);
    }

    #[test]
    fn the_first_line_is_about_p99_where_both_were_offered_the_same() {
        let open = |from, to| PlanFigures {
            rate_from_per_s: Some(from),
            rate_to_per_s: Some(to),
            ..PlanFigures::default()
        };
        let closed = PlanFigures::default();
        assert_eq!(headline(&closed, &closed), Figure::AchievedPerS);
        assert_eq!(headline(&open(1.0, 1.0), &closed), Figure::AchievedPerS);
        assert_eq!(headline(&open(1.0, 1.0), &open(1.0, 2.0)), Figure::AchievedPerS);
        assert_eq!(headline(&open(1.0, 2.0), &open(1.0, 2.0)), Figure::P99);
    }

    #[test]
    fn it_is_shown_in_whatever_width_there_is() {
        let a = side("tcp://127.0.0.1:8080", (0..8).map(|nth| 1.0 + 0.001 * f64::from(nth)));
        let b = side("tcp://127.0.0.1:8081\u{1b}[2J", (0..8).map(|nth| 0.8 + 0.002 * f64::from(nth)));
        let comparison = compare(&a, &b, Figure::AchievedPerS);
        println!("{}", comparison.render(100));
        println!("{}", comparison.render(80));
        for width in [40, 60, 80, 100, 200] {
            let text = comparison.render(width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert!(!text.contains('\u{1b}'));
            let row = text.lines().find(|line| line.starts_with("p99")).expect("its row");
            assert!(row.ends_with("FASTER"), "{row}");
        }
        let whole = comparison.render(200);
        assert!(
            whole.contains(
                "B is FASTER: it has 1.243 times A's rate (1.237 to 1.250 in 8 rounds; p = 0.0078;"
            )
        );
        assert!(whole.contains("99,651  123,916  1.243"), "{whole}");
    }

    #[test]
    fn nothing_is_nothing_to_compare() {
        let none = side("A", []);
        let comparison = compare(&none, &none, Figure::AchievedPerS);
        assert!(comparison.render(80).contains("nothing to compare"));
        let dead = Side { name: "A".into(), rounds: vec![Round::default(); 8] };
        assert!(compare(&dead, &dead, Figure::P99).figures.is_empty());
    }

    fn any_round() -> impl Strategy<Value = Round> {
        let rate = prop_oneof![Just(0.0), Just(-1.0), Just(f64::MAX), Just(5e-324), 1.0..1e6];
        let ns = || prop_oneof![Just(None), any::<u64>().prop_map(Some), (1u64..1_000_000).prop_map(Some)];
        (rate, ns(), ns(), any::<u64>()).prop_map(|(achieved_per_s, p50_ns, p99_ns, failures)| Round {
            achieved_per_s,
            p50_ns,
            p99_ns,
            server_cpu_ns_per_reply: None,
            failures,
        })
    }

    proptest! {
        #[test]
        fn no_figure_is_infinite_and_the_other_way_round_it_is_the_mirror_image(
            a in prop::collection::vec(any_round(), 0..12),
            b in prop::collection::vec(any_round(), 0..12),
        ) {
            let (a, b) = (Side { name: "A".into(), rounds: a }, Side { name: "B".into(), rounds: b });
            let (there, back) = (compare(&a, &b, Figure::P99), compare(&b, &a, Figure::P99));
            let json = serde_json::to_string(&there).expect("plain data");
            serde_json::from_str::<Comparison>(&json).expect("what is not finite would be null");
            prop_assert!(!there.render(80).contains("NaN"));
            prop_assert_eq!(there.figures.len(), back.figures.len());
            for (there, back) in there.figures.iter().zip(&back.figures) {
                prop_assert!(there.ratios.iter().all(|ratio| ratio.is_finite() && *ratio > 0.0));
                prop_assert!((there.ratio.ln() + back.ratio.ln()).abs() < 1e-9);
                prop_assert_eq!(there.p, back.p);
                let mirrored = match back.finding {
                    Finding::Faster => Finding::Slower,
                    Finding::Slower => Finding::Faster,
                    same => same,
                };
                prop_assert_eq!(there.finding, mirrored);
            }
        }
    }
}
