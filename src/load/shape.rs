//! How many humps a distribution of latencies has, and how much lies in each: a cache and the disk behind it.
//!
//! Latencies spread by factors and not by sums, so this looks along the logarithm: the counts are smeared with
//! a bell of a quarter octave, and a hump is what rises between two valleys of the result. It doesn't fit
//! curves, and doesn't part humps that are closer than about a factor of two.
//!
//! A hump has to earn its name three times, or it is a part of its neighbour: the valley beside it is at most
//! half as high as the lower of the two peaks; the difference is more than chance makes of so few samples; and
//! it holds 2 % of all. So a long tail, a few outliers and the steps of the histogram are no modes.
//!
//! Invariant: the shares of all modes add up to 1, unless there are none.

use super::report::{Mode, Shape};

/// With fewer samples nothing is said.
const SAMPLES_MIN: u64 = 100;
/// A hump with a smaller part of all is its neighbour's foot.
const SHARE_MIN: f64 = 0.02;
/// How high a valley may be beside the lower of its peaks. Where two bells of equal height part at all, it is
/// nearly 1; at half, one sees two humps with the naked eye.
const VALLEY_MAX: f64 = 0.5;
/// By how many standard deviations of chance a peak must stand above the valley.
const DEVIATIONS_MIN: f64 = 2.5;
/// The bell's standard deviation: it smooths away steps of up to half an octave.
const BELL_OCTAVES: f64 = 0.25;
const STEPS_PER_OCTAVE: f64 = 16.0;
/// Where the bell ends, in standard deviations.
const BELL_REACH: f64 = 4.0;

/// The modes of a histogram. Its buckets are (upper bound in ns, count), ascending.
pub fn shape(buckets: &[(u64, u64)]) -> Shape {
    let total: u64 = buckets.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count));
    if total < SAMPLES_MIN {
        return Shape::default();
    }
    let grid = Grid::of(buckets);
    let mut humps = grid.humps();
    while humps.len() > 1 {
        let Some(weakest) = weakest(&humps, total) else { break };
        join(&mut humps, weakest);
    }
    let modes = humps.iter().map(|hump| Mode {
        ns: peak_ns(buckets, grid.octave_at(hump.peak)),
        share: hump.samples as f64 / total as f64,
    });
    Shape { modes: modes.collect() }
}

/// The histogram along the logarithm.
struct Grid {
    /// Where the first step is, in octaves above 1 ns.
    first_octave: f64,
    /// How many samples fell on each step ...
    samples: Vec<u64>,
    /// ... and how many lie around it, as the bell weighs them.
    heights: Vec<f64>,
}

/// What rises between two valleys.
#[derive(Debug, Clone, Copy)]
struct Hump {
    /// The step of its highest point.
    peak: usize,
    height: f64,
    samples: u64,
    /// How high the valley is on its right; 0 for the last one.
    valley: f64,
}

impl Grid {
    fn of(buckets: &[(u64, u64)]) -> Grid {
        let octave = |ns: u64| (ns.max(1) as f64).log2();
        let filled = || buckets.iter().filter(|(_, count)| *count > 0);
        let first = filled().map(|(ns, _)| octave(*ns)).fold(f64::INFINITY, f64::min);
        let last = filled().map(|(ns, _)| octave(*ns)).fold(first, f64::max);
        let reach = (BELL_REACH * BELL_OCTAVES * STEPS_PER_OCTAVE).ceil() as usize;
        let first_octave = first - reach as f64 / STEPS_PER_OCTAVE;
        let steps = ((last - first) * STEPS_PER_OCTAVE).ceil() as usize + 1 + 2 * reach;

        let mut samples = vec![0u64; steps];
        for (ns, count) in filled() {
            let step = ((octave(*ns) - first_octave) * STEPS_PER_OCTAVE).round() as usize;
            samples[step] = samples[step].saturating_add(*count);
        }
        let bell: Vec<f64> = (0..=reach)
            .map(|distance| distance as f64 / STEPS_PER_OCTAVE / BELL_OCTAVES)
            .map(|deviations| (-deviations * deviations / 2.0).exp())
            .collect();
        let mut heights = vec![0.0; steps];
        for (at, count) in samples.iter().enumerate().filter(|(_, count)| **count > 0) {
            for (step, height) in heights.iter_mut().enumerate().take(at + reach + 1).skip(at - reach) {
                *height += *count as f64 * bell[step.abs_diff(at)];
            }
        }
        Grid { first_octave, samples, heights }
    }

    fn octave_at(&self, step: usize) -> f64 {
        self.first_octave + step as f64 / STEPS_PER_OCTAVE
    }

    /// Every rise, however small, from left to right. The grid begins and ends with nothing.
    fn humps(&self) -> Vec<Hump> {
        let mut humps = Vec::new();
        let mut hump = Hump { peak: 0, height: 0.0, samples: 0, valley: 0.0 };
        let mut falling = false;
        for (step, pair) in self.heights.windows(2).enumerate() {
            let (here, next) = (pair[0], pair[1]);
            if falling && next > here {
                humps.push(Hump { valley: here, ..hump });
                hump = Hump { peak: step, height: here, samples: 0, valley: 0.0 };
                falling = false;
            }
            hump.samples = hump.samples.saturating_add(self.samples[step]);
            if next > hump.height {
                hump = Hump { peak: step + 1, height: next, ..hump };
            }
            falling |= next < here;
        }
        humps.push(hump); // nothing lies on the very last step
        humps
    }
}

/// The left one of the two neighbours that have the least claim to be two, if there are such.
fn weakest(humps: &[Hump], total: u64) -> Option<usize> {
    let shallowest = (0..humps.len() - 1)
        .filter(|left| !is_valley(humps[*left], humps[left + 1]))
        .max_by(|one, other| depth(humps, *one).total_cmp(&depth(humps, *other)));
    if shallowest.is_some() {
        return shallowest;
    }
    // Only what the valleys have left over is weighed, or a hump would be lost in pieces.
    let smallest = (0..humps.len()).min_by_key(|at| humps[*at].samples)?;
    if humps[smallest].samples as f64 >= SHARE_MIN * total as f64 {
        return None;
    }
    let left_valley = smallest.checked_sub(1).map_or(-1.0, |left| humps[left].valley);
    let right_valley = if smallest + 1 < humps.len() { humps[smallest].valley } else { -1.0 };
    Some(if left_valley > right_valley { smallest - 1 } else { smallest })
}

/// The valley's height as a part of the lower peak's.
fn depth(humps: &[Hump], left: usize) -> f64 {
    humps[left].valley / humps[left].height.min(humps[left + 1].height)
}

fn is_valley(left: Hump, right: Hump) -> bool {
    let (peak, valley) = (left.height.min(right.height), left.valley);
    valley <= VALLEY_MAX * peak && peak - valley > DEVIATIONS_MIN * (peak + valley).sqrt()
}

/// Makes one of the hump and its right neighbour.
fn join(humps: &mut Vec<Hump>, left: usize) {
    let right = humps.remove(left + 1);
    let hump = &mut humps[left];
    if right.height > hump.height {
        hump.peak = right.peak;
        hump.height = right.height;
    }
    hump.samples = hump.samples.saturating_add(right.samples);
    hump.valley = right.valley;
}

/// A value that was measured, from the middle of those around the peak: the grid's own steps are too coarse.
fn peak_ns(buckets: &[(u64, u64)], octave: f64) -> u64 {
    let around = |ns: u64| ((ns.max(1) as f64).log2() - octave).abs() <= BELL_OCTAVES;
    let near: Vec<_> = buckets.iter().filter(|(ns, count)| *count > 0 && around(*ns)).collect();
    let half = near.iter().map(|(_, count)| *count as f64).sum::<f64>() / 2.0;
    let mut passed = 0.0;
    for (ns, count) in near {
        passed += *count as f64;
        if passed >= half {
            return *ns;
        }
    }
    octave.exp2() as u64 // between two far steps of a coarse histogram
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// SplitMix64: the same numbers on every run.
    struct Dice(u64);

    impl Dice {
        fn bits(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        /// Above 0, at most 1.
        fn uniform(&mut self) -> f64 {
            ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
        }

        fn normal(&mut self) -> f64 {
            let (radius, angle) = (self.uniform(), self.uniform());
            (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
        }

        fn lognormal(&mut self, median_ns: f64, sigma: f64) -> f64 {
            median_ns * (sigma * self.normal()).exp()
        }
    }

    /// What a histogram of 3 significant digits makes of it.
    fn buckets(values: impl IntoIterator<Item = f64>) -> Vec<(u64, u64)> {
        let mut counts = BTreeMap::new();
        for value in values {
            let ns = value.round().max(1.0) as u64;
            let width = (ns.next_power_of_two() / 2048).max(1);
            *counts.entry(ns / width * width + width - 1).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    fn modes(values: impl IntoIterator<Item = f64>) -> Vec<Mode> {
        let modes = shape(&buckets(values)).modes;
        if !modes.is_empty() {
            let all: f64 = modes.iter().map(|mode| mode.share).sum();
            assert!((all - 1.0).abs() < 1e-9, "{modes:?}");
        }
        modes
    }

    #[test]
    fn a_lognormal_is_one_hump_however_wide_and_however_few() {
        for seed in 0..100 {
            let mut dice = Dice(seed);
            for (count, sigma) in [(100, 0.1), (100, 1.0), (300, 0.5), (1000, 1.5), (3000, 0.3)] {
                let modes = modes((0..count).map(|_| dice.lognormal(100e3, sigma)));
                assert_eq!(modes.len(), 1, "{count} of {sigma}, seed {seed}: {modes:?}");
            }
        }
        let modes = modes((0..100_000).map({
            let mut dice = Dice(7);
            move |_| dice.lognormal(100e3, 0.2)
        }));
        assert!((90_000..110_000).contains(&modes[0].ns), "{modes:?}");
    }

    #[test]
    fn fast_and_slow_at_90_to_10_are_two_with_their_shares() {
        for seed in 0..100 {
            for count in [200, 1000, 5000] {
                let mut dice = Dice(seed);
                let modes = modes((0..count).map(|nth| match nth % 10 {
                    0 => dice.lognormal(5e6, 0.3),
                    _ => dice.lognormal(100e3, 0.3),
                }));
                assert_eq!(modes.len(), 2, "{count}, seed {seed}: {modes:?}");
                assert!((modes[0].share - 0.9).abs() < 0.01 && (modes[1].share - 0.1).abs() < 0.01);
                assert!((75_000..135_000).contains(&modes[0].ns), "{modes:?}");
                assert!((3_000_000..8_000_000).contains(&modes[1].ns), "{modes:?}");
            }
        }
    }

    #[test]
    fn three_far_apart_are_three() {
        let mut dice = Dice(3);
        let modes = modes((0..30_000).map(|nth| dice.lognormal([50e3, 1e6, 40e6][nth % 3], 0.4)));
        assert_eq!(modes.len(), 3, "{modes:?}");
    }

    #[test]
    fn a_long_tail_is_no_second_hump() {
        for seed in 0..100 {
            let mut dice = Dice(seed);
            // Pareto: one in ten beyond 10 times the median, one in a hundred beyond 100 times.
            let modes = modes((0..5000).map(|_| 50e3 / dice.uniform()));
            assert_eq!(modes.len(), 1, "seed {seed}: {modes:?}");
        }
        for seed in 0..50 {
            let mut dice = Dice(seed);
            let modes = modes((0..5000).map(|_| -1e6 * dice.uniform().ln()));
            assert_eq!(modes.len(), 1, "exponential, seed {seed}: {modes:?}");
        }
    }

    #[test]
    fn a_few_outliers_are_no_second_hump() {
        let modes = modes((0..10_000).map(|nth| if nth % 100 == 0 { 1e9 } else { 1e5 }));
        assert_eq!(modes.len(), 1, "{modes:?}");
        assert_eq!(modes[0], Mode { ns: modes[0].ns, share: 1.0 });
    }

    #[test]
    fn a_hump_in_small_pieces_is_still_one() {
        // Eight steps between 4 and 8 ms, each with less than 2 % of all.
        let mut buckets = vec![(100_000, 9000)];
        buckets.extend((0..8).map(|step| (4_000_000 + 500_000 * step, 125)));
        let modes = shape(&buckets).modes;
        assert_eq!(modes.len(), 2, "{modes:?}");
        assert_eq!(modes[1].share, 0.1);
    }

    #[test]
    fn a_constant_is_one_and_exact() {
        assert_eq!(shape(&[(123_456, 1000)]).modes, [Mode { ns: 123_456, share: 1.0 }]);
        assert_eq!(shape(&[(0, 1000)]).modes, [Mode { ns: 0, share: 1.0 }]);
        assert_eq!(shape(&[(u64::MAX, 1000)]).modes, [Mode { ns: u64::MAX, share: 1.0 }]);
    }

    #[test]
    fn an_even_spread_is_one() {
        for seed in 0..100 {
            let mut dice = Dice(seed);
            let even = modes((0..3000).map(|_| 1e6 + 9e6 * dice.uniform()));
            assert_eq!(even.len(), 1, "seed {seed}: {even:?}");
            let even_in_octaves = modes((0..3000).map(|_| 1e4 * (6.0 * dice.uniform()).exp2()));
            assert_eq!(even_in_octaves.len(), 1, "seed {seed}: {even_in_octaves:?}");
        }
    }

    #[test]
    fn coarse_buckets_are_no_humps_of_their_own() {
        let two_an_octave = (20..50).map(|half| ((half as f64 / 2.0).exp2() as u64, 1000));
        assert_eq!(shape(&two_an_octave.collect::<Vec<_>>()).modes.len(), 1);
    }

    #[test]
    fn of_too_few_nothing_is_said() {
        assert_eq!(shape(&[]), Shape::default());
        assert_eq!(shape(&[(1000, 50), (1_000_000, 49)]), Shape::default());
        assert_eq!(shape(&[(1000, 50), (1_000_000, 50)]).modes.len(), 2);
    }
}
