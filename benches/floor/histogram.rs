//! Latencies, counted in buckets that are narrow where values are small: log-linear, each at most 1/128 wide. It keeps no order
//! and no single value, only how many there were; so recording is one shift and one increment, and it never allocates.

use std::time::Duration;

const STEPS_BITS: u32 = 7;
const STEPS: usize = 1 << STEPS_BITS;

pub(crate) struct Histogram {
    counts: Vec<u32>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        let groups = u64::BITS - STEPS_BITS + 1;
        Self { counts: vec![0; groups as usize * STEPS], total: 0, max: 0 }
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let nanoseconds = latency.as_nanos() as u64;
        self.counts[bucket_of(nanoseconds)] += 1;
        self.total += 1;
        self.max = self.max.max(nanoseconds);
    }

    /// The latency that this share of all did not exceed; 0 if nothing was recorded.
    pub(crate) fn quantile_us(&self, share: f64) -> f64 {
        let rank = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return middle_of(bucket).min(self.max) as f64 / 1e3;
            }
        }
        0.0
    }

    pub(crate) fn max_us(&self) -> f64 {
        self.max as f64 / 1e3
    }
}

fn bucket_of(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - STEPS_BITS;
    (shift as usize + 1) * STEPS + (value >> shift) as usize - STEPS
}

fn middle_of(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    let bottom = ((bucket % STEPS + STEPS) as u64) << shift;
    bottom + (1u64 << shift) / 2
}
