//! The run over time, in a bounded number of slices: each with its counts and a coarse histogram.
//!
//! A slice is a tenth of a second wide at first. When there are too many, each two neighbours become one:
//! an hour takes no more memory than a minute. (Full histograms would be 100 times the size, and nobody
//! reads three digits off a heat map.)
//!
//! Invariant: nothing that was added is lost by joining.

use super::report::Slice;

/// The width of the first slices.
pub const SLICE_NS: u64 = 100_000_000;

/// When there would be more, neighbours are joined.
const SLICES_MAX: usize = 600;

/// 16 to the octave: a value is told from one that is 6 % larger.
const STEPS_BITS: u32 = 4;
const STEPS: u64 = 1 << STEPS_BITS;
/// Up to 2^44 ns, five hours; what is longer stands in the last one.
const BUCKETS: usize = ((44 - STEPS_BITS as usize) + 1) << STEPS_BITS;

/// Counts by size, coarsely, in constant space and time.
#[derive(Clone)]
pub struct Buckets(Box<[u32]>);

impl Default for Buckets {
    fn default() -> Self {
        Buckets(vec![0; BUCKETS].into_boxed_slice())
    }
}

impl Buckets {
    /// Counts `more` times of `ns` nanoseconds each.
    #[inline]
    pub fn record(&mut self, ns: u64, more: u64) {
        let count = &mut self.0[bucket(ns)];
        *count = count.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
    }

    fn merge(&mut self, other: &Buckets) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// Returns (upper bound in ns, count) of each bucket, ascending, empty ones left out.
    pub fn rows(&self) -> Vec<(u64, u64)> {
        let filled = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(index, count)| (upper_bound(index), u64::from(*count))).collect()
    }

    /// The bound of the bucket in which the percentile lies.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        let all: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let rank = ((percent / 100.0 * all as f64).ceil() as u64).max(1);
        let mut seen = 0;
        self.rows().into_iter().find_map(|(ns, count)| {
            seen += count;
            (seen >= rank).then_some(ns)
        })
    }
}

#[inline]
fn bucket(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let octave = 63 - ns.leading_zeros() - STEPS_BITS;
    let index = (u64::from(octave) << STEPS_BITS) + (ns >> octave);
    (index as usize).min(BUCKETS - 1)
}

fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let octave = (index >> STEPS_BITS) - 1;
    let step = (index & (STEPS - 1)) + STEPS;
    ((step + 1) << octave) - 1
}

/// From when to when is measured, in nanoseconds since the run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// `u64::MAX` while the warm-up goes on.
    pub from_ns: u64,
    /// `u64::MAX` while it is not known.
    pub to_ns: u64,
}

impl Window {
    /// Whether it lies in there.
    #[inline]
    pub fn holds(&self, ns: u64) -> bool {
        self.from_ns <= ns && ns < self.to_ns
    }
}

/// What one generator thread saw in one slice.
#[derive(Clone, Default)]
pub struct Tally {
    /// Which slice, in widths of [`SLICE_NS`] since the run began.
    pub index: u64,
    /// Messages that were due.
    pub offered: u64,
    /// Replies that came.
    pub replies: u64,
    /// Failures of all kinds.
    pub failures: u64,
    /// The longest response.
    pub max_ns: u64,
    /// The response times.
    pub buckets: Buckets,
}

/// All slices of a run.
#[derive(Default)]
pub struct Timeline {
    slices: Vec<Tally>,
    /// How often neighbours have been joined: a slice is `SLICE_NS << joined` wide.
    joined: u32,
}

impl Timeline {
    /// Adds what a thread saw.
    pub fn add(&mut self, tally: &Tally) {
        while (tally.index >> self.joined) as usize >= SLICES_MAX {
            self.join();
        }
        let index = (tally.index >> self.joined) as usize;
        if index >= self.slices.len() {
            self.slices.resize_with(index + 1, Tally::default);
        }
        self.slices[index].merge(tally);
    }

    fn join(&mut self) {
        let pairs = std::mem::take(&mut self.slices);
        self.slices = pairs
            .chunks(2)
            .map(|pair| {
                let mut joined = pair[0].clone();
                pair[1..].iter().for_each(|second| joined.merge(second));
                joined
            })
            .collect();
        self.joined += 1;
    }

    /// How wide a slice is.
    pub fn width_s(&self) -> f64 {
        (SLICE_NS << self.joined) as f64 / 1e9
    }

    /// How many replies came from this moment on.
    pub fn replies_since(&self, from_ns: u64) -> u64 {
        let first = ((from_ns / SLICE_NS) >> self.joined) as usize;
        self.slices.iter().skip(first).map(|tally| tally.replies).sum()
    }

    /// The newest slices that were over at `before_ns`, oldest first, at most `count` of them.
    pub fn newest(&self, before_ns: u64, count: usize) -> impl Iterator<Item = &Tally> {
        let end = ((before_ns / SLICE_NS) >> self.joined) as usize;
        let end = end.min(self.slices.len());
        self.slices[end.saturating_sub(count)..end].iter()
    }

    /// All response times together.
    pub fn all(&self, from_ns: u64) -> Buckets {
        let mut all = Buckets::default();
        let first = ((from_ns / SLICE_NS) >> self.joined) as usize;
        self.slices.iter().skip(first).for_each(|tally| all.merge(&tally.buckets));
        all
    }

    /// Extends the timeline to the end of this window. Otherwise silence at the end would not show.
    pub fn reach(&mut self, window: Window) {
        if window.from_ns < window.to_ns && window.to_ns != u64::MAX {
            self.add(&Tally { index: (window.to_ns - 1) / SLICE_NS, ..Tally::default() });
        }
    }

    /// As it is reported. What began before the window is warm-up. The last slice is as wide as the part of it that lies in
    /// the window, or its rate would be too low; with less than half of it in there, it is left out.
    pub fn slices(&self, window: Window) -> Vec<Slice> {
        let (measured_from_ns, width_ns) = (window.from_ns, SLICE_NS << self.joined);
        let row = |(index, tally): (usize, &Tally)| Slice {
            at_s: index as f64 * width_ns as f64 / 1e9,
            width_s: width_ns as f64 / 1e9,
            warm_up: (index as u64 + 1) * width_ns <= measured_from_ns.saturating_add(width_ns / 2),
            offered: tally.offered,
            replies: tally.replies,
            failures: tally.failures,
            p50_ns: tally.percentile(50.0),
            p99_ns: tally.percentile(99.0),
            max_ns: (tally.max_ns > 0).then_some(tally.max_ns),
            buckets: tally.buckets.rows(),
        };
        let mut rows: Vec<Slice> = self.slices.iter().enumerate().map(row).collect();
        let last_began_ns = (rows.len() as u64).saturating_sub(1) * width_ns;
        let within_ns = window.to_ns.saturating_sub(last_began_ns);
        match rows.last_mut() {
            Some(_) if 2 * within_ns.min(width_ns) < width_ns && last_began_ns > measured_from_ns => {
                rows.pop();
            }
            Some(last) => last.width_s = within_ns.clamp(1, width_ns) as f64 / 1e9,
            None => {}
        }
        rows
    }
}

impl Tally {
    fn merge(&mut self, other: &Tally) {
        self.offered += other.offered;
        self.replies += other.replies;
        self.failures += other.failures;
        self.max_ns = self.max_ns.max(other.max_ns);
        self.buckets.merge(&other.buckets);
    }

    /// Counts `count` replies of `ns` nanoseconds each.
    #[inline]
    pub fn record(&mut self, ns: u64, count: u64) {
        self.replies += count;
        self.max_ns = self.max_ns.max(ns);
        self.buckets.record(ns, count);
    }

    /// A bucket's bound, but never more than the longest there was.
    fn percentile(&self, percent: f64) -> Option<u64> {
        self.buckets.percentile(percent).map(|ns| ns.min(self.max_ns))
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.offered == 0 && self.replies == 0 && self.failures == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bucket_holds_what_is_at_most_its_bound_and_a_sixteenth_less(ns in 0u64..1 << 44) {
            let bound = upper_bound(bucket(ns));
            prop_assert!(ns <= bound && bound - ns <= ns / 16);
            prop_assert!(bucket(ns) == 0 || upper_bound(bucket(ns) - 1) < ns);
        }
    }

    #[test]
    fn a_day_fits_and_nothing_is_lost() {
        let mut timeline = Timeline::default();
        for second in 0..86_400 {
            let mut tally = Tally { index: second * 10, offered: 2, ..Tally::default() };
            tally.record(1_000_000 + second, 1);
            timeline.add(&tally);
        }
        let slices = timeline.slices(Window { from_ns: 0, to_ns: u64::MAX });
        assert!(slices.len() <= SLICES_MAX && slices.len() > SLICES_MAX / 2, "{}", slices.len());
        assert_eq!(slices.iter().map(|slice| slice.offered).sum::<u64>(), 2 * 86_400);
        assert_eq!(slices.iter().map(|slice| slice.replies).sum::<u64>(), 86_400);
        assert_eq!(timeline.all(0).rows().iter().map(|(_, count)| count).sum::<u64>(), 86_400);
    }

    /// 0.25 s are measured: the last slice is half as wide, and with a fifth of it in the window it is none.
    #[test]
    fn the_last_slice_is_as_wide_as_what_was_measured_of_it() {
        let mut timeline = Timeline::default();
        for index in 0..3 {
            timeline.add(&Tally { index, offered: 1, ..Tally::default() });
        }
        let widths = |to_ns| -> Vec<f64> {
            let slices = timeline.slices(Window { from_ns: 0, to_ns });
            slices.iter().map(|slice| slice.width_s).collect()
        };
        assert_eq!(widths(SLICE_NS * 5 / 2), [0.1, 0.1, 0.05]);
        assert_eq!(widths(SLICE_NS * 11 / 5), [0.1, 0.1]);
        assert_eq!(widths(SLICE_NS * 3), [0.1, 0.1, 0.1]);
    }

    /// A server that stands still up to the end leaves no tallies.
    #[test]
    fn silence_before_the_end_has_slices() {
        let mut timeline = Timeline::default();
        timeline.add(&Tally { index: 1, replies: 5, ..Tally::default() });
        let window = Window { from_ns: SLICE_NS, to_ns: 6 * SLICE_NS };
        timeline.reach(window);
        timeline.reach(Window { from_ns: u64::MAX, to_ns: u64::MAX });
        let replies: Vec<u64> = timeline.slices(window).iter().map(|slice| slice.replies).collect();
        assert_eq!(replies, [0, 5, 0, 0, 0, 0]);
    }

    #[test]
    fn an_endless_latency_stands_in_the_last_bucket() {
        let mut buckets = Buckets::default();
        buckets.record(u64::MAX, 1);
        assert_eq!(buckets.rows().len(), 1);
    }
}
