//! Latencies, counted and not kept: a histogram of 3 significant digits, whatever the range.
//!
//! Nothing is clamped: the histogram grows to the largest value that comes. What never ended is not
//! recorded but counted beside it, and stands at the far end of the distribution, so that a server can't
//! better its p99 by losing its slowest one per cent.
//!
//! Invariant: `percentile` speaks of all messages, those without an answer included.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use super::report::{Latency, Percentile, SpectrumPoint};

/// What is shown of every distribution.
pub const PERCENTS: [f64; 7] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999];

/// With fewer samples beyond a percentile, it is marked.
const SAMPLES_BEYOND_MIN: f64 = 10.0;

/// A distribution in the making.
pub struct Recorder(Histogram<u64>);

impl Default for Recorder {
    fn default() -> Self {
        Recorder(Histogram::new(3).expect("3 digits are allowed"))
    }
}

impl Recorder {
    /// Counts one time of `ns` nanoseconds.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        // It can only fail where it can't grow; then the process is about to end for other reasons.
        let _ = self.0.record(ns);
    }

    /// Counts `count` times of `ns` nanoseconds each.
    #[inline]
    pub fn record_several(&mut self, ns: u64, count: u64) {
        let _ = self.0.record_n(ns, count);
    }

    /// One more.
    pub fn record_duration(&mut self, duration: Duration) {
        self.record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Everything that `other` has, too.
    pub fn merge(&mut self, other: &Recorder) {
        let _ = self.0.add(&other.0);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The percentile among what was recorded and `infinite` more. `None`: it is one of the latter.
    pub fn percentile(&self, percent: f64, infinite: u64) -> Option<u64> {
        let (count, all) = (self.count(), self.count() + infinite);
        let rank = ((percent / 100.0 * all as f64).ceil() as u64).max(1);
        (rank <= count).then(|| self.0.value_at_quantile(rank as f64 / count as f64))
    }

    /// The distribution as it is reported; `None` where there is nothing in it.
    pub fn latency(&self, infinite: u64) -> Option<Latency> {
        let (count, all) = (self.count(), self.count() + infinite);
        if all == 0 {
            return None;
        }
        let percentiles = PERCENTS
            .iter()
            .map(|&percent| Percentile {
                percent,
                ns: self.percentile(percent, infinite),
                few: all as f64 * (1.0 - percent / 100.0) < SAMPLES_BEYOND_MIN,
            })
            .collect();
        let part = count as f64 / all as f64;
        let spectrum = self
            .0
            .iter_quantiles(4)
            .map(|step| SpectrumPoint {
                percent: step.quantile() * part * 100.0,
                ns: step.value_iterated_to(),
            })
            .collect();
        let mut encoded = Vec::new();
        let hdr_v2_base64 = match V2DeflateSerializer::new().serialize(&self.0, &mut encoded) {
            Ok(_) => STANDARD.encode(encoded),
            Err(_) => String::new(),
        };
        Some(Latency {
            count,
            infinite,
            min_ns: self.0.min(),
            mean_ns: self.0.mean(),
            max_ns: self.0.max(),
            percentiles,
            spectrum,
            hdr_v2_base64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;

    fn recorder(values: impl IntoIterator<Item = u64>) -> Recorder {
        let mut recorder = Recorder::default();
        values.into_iter().for_each(|ns| recorder.record(ns));
        recorder
    }

    #[test]
    fn four_seconds_and_four_hours_are_not_clamped() {
        for ns in [4_200_000_000, 4 * 3600 * 1_000_000_000] {
            let latency = recorder([1000, ns]).latency(0).expect("two values");
            assert!(latency.max_ns >= ns && latency.max_ns < ns + ns / 500, "{}", latency.max_ns);
        }
    }

    #[test]
    fn what_never_ended_stands_at_the_far_end() {
        let recorder = recorder(1..=980);
        assert_eq!(recorder.percentile(98.0, 20), Some(980));
        assert_eq!(recorder.percentile(98.1, 20), None);
        let latency = recorder.latency(20).expect("values");
        assert_eq!((latency.count, latency.infinite), (980, 20));
        assert_eq!(latency.percentile(99.0).expect("is shown").ns, None);
        assert!(latency.spectrum.iter().all(|point| point.percent <= 98.0));
    }

    #[test]
    fn a_percentile_with_fewer_than_ten_samples_beyond_it_is_marked() {
        let latency = recorder(1..=1000).latency(0).expect("values");
        let few = |percent: f64| latency.percentile(percent).expect("is shown").few;
        assert!(!few(90.0) && !few(99.0) && few(99.9));
    }

    #[test]
    fn nothing_is_none_and_only_failures_are_infinite() {
        assert_eq!(recorder([]).latency(0), None);
        let latency = recorder([]).latency(3).expect("three that never ended");
        assert!(latency.percentiles.iter().all(|it| it.ns.is_none()));
    }

    #[test]
    fn the_text_form_holds_the_histogram() {
        let latency = recorder(1..=5000).latency(0).expect("values");
        let bytes = STANDARD.decode(latency.hdr_v2_base64).expect("base64");
        let read: Histogram<u64> =
            hdrhistogram::serialization::Deserializer::new().deserialize(&mut &bytes[..]).expect("V2");
        let _: Deserializer = Deserializer::new();
        assert_eq!((read.len(), read.max()), (5000, recorder(1..=5000).0.max()));
    }
}
