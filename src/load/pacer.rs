//! When messages of an open loop are due: a schedule that no server can slow down.
//!
//! Knows no clock: it is asked what is due by a given moment. Invariant: moments come in order.

use super::plan::{Arrivals, Rate};
use super::script::{mix, step};

/// What was due before the end, and was not sent because we were not let run, is sent so much later still, and counts as
/// late. Not longer: a generator that can't keep up never catches up.
const CATCH_UP_NS: u64 = 200_000_000;

/// The schedule of one thread: its share of the rate.
pub struct Pacer {
    rate: Rate,
    /// The thread's part of the whole, and where in the row of threads it stands, from 0 to 1.
    share: f64,
    /// The rate goes from the one to the other between these two moments.
    ramp_from_ns: f64,
    ramp_to_ns: f64,
    next_ns: f64,
    random: u64,
    /// When it was first asked what is left.
    behind_since_ns: Option<u64>,
}

impl Pacer {
    /// Begins at `start_ns`, for thread `thread` of `threads`. The rate stays at its first value until
    /// [`Pacer::ramp`].
    pub fn new(rate: Rate, thread: usize, threads: usize, start_ns: u64, seed: u64) -> Pacer {
        let share = 1.0 / threads as f64;
        let mut pacer = Pacer {
            rate,
            share,
            ramp_from_ns: f64::INFINITY,
            ramp_to_ns: f64::INFINITY,
            next_ns: start_ns as f64,
            random: mix(seed, thread as u32, 0xA221),
            behind_since_ns: None,
        };
        pacer.next_ns += pacer.gap() * thread as f64 * share;
        pacer
    }

    /// Whether something that was due before the end still waits, and there is time for it. To be asked after the end only.
    pub fn catches_up(&mut self, end_ns: u64, now_ns: u64) -> bool {
        let since_ns = *self.behind_since_ns.get_or_insert(now_ns);
        self.next_ns() < end_ns && now_ns < since_ns + CATCH_UP_NS
    }

    /// The rate goes from its first value to its last between these moments.
    pub fn ramp(&mut self, from_ns: u64, to_ns: u64) {
        (self.ramp_from_ns, self.ramp_to_ns) = (from_ns as f64, to_ns as f64);
    }

    /// When the next message is due.
    pub fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// The next message is sent; when was it due?
    pub fn take(&mut self) -> u64 {
        let due = self.next_ns as u64;
        self.next_ns += self.gap();
        due
    }

    /// Messages per second of all threads, at this moment.
    pub fn rate_at(&self, ns: f64) -> f64 {
        if ns <= self.ramp_from_ns {
            // A ramp from nothing needs a first message.
            return self.rate.from_per_s.max(self.rate.to_per_s / 1000.0);
        }
        let part = ((ns - self.ramp_from_ns) / (self.ramp_to_ns - self.ramp_from_ns)).min(1.0);
        let rate = self.rate.from_per_s + part * (self.rate.to_per_s - self.rate.from_per_s);
        rate.max(self.rate.from_per_s.max(self.rate.to_per_s) / 1000.0)
    }

    /// The time to the next one, in nanoseconds.
    fn gap(&mut self) -> f64 {
        let mean = 1e9 / (self.rate_at(self.next_ns) * self.share);
        match self.rate.arrivals {
            Arrivals::Constant => mean,
            Arrivals::Poisson => {
                self.random = step(self.random);
                let uniform = ((self.random >> 11) as f64 + 1.0) / (1u64 << 53) as f64; // (0, 1]
                -uniform.ln() * mean
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_due_before_the_end_is_sent_behind_it_but_not_for_ever() {
        let rate = Rate { from_per_s: 1000.0, to_per_s: 1000.0, arrivals: Arrivals::Constant };
        let mut pacer = Pacer::new(rate, 0, 1, 0, 1);
        let end_ns = 400_000_000;
        let let_run_at_ns = 900_000_000; // we were not, for half a second
        let mut sent = 0;
        while pacer.catches_up(end_ns, let_run_at_ns + sent) {
            assert!(pacer.take() < end_ns);
            sent += 1;
        }
        assert_eq!(sent, 400);
        let mut slow = Pacer::new(rate, 0, 1, 0, 1);
        assert!(slow.catches_up(end_ns, let_run_at_ns));
        assert!(slow.catches_up(end_ns, let_run_at_ns + CATCH_UP_NS - 1));
        assert!(!slow.catches_up(end_ns, let_run_at_ns + CATCH_UP_NS));
    }

    fn rate(from_per_s: f64, to_per_s: f64, arrivals: Arrivals) -> Rate {
        Rate { from_per_s, to_per_s, arrivals }
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced_over_all_threads() {
        let constant = rate(1000.0, 1000.0, Arrivals::Constant);
        let mut due: Vec<u64> = (0..4)
            .flat_map(|thread| {
                let mut pacer = Pacer::new(constant, thread, 4, 0, 1);
                (0..250).map(|_| pacer.take()).collect::<Vec<_>>()
            })
            .collect();
        due.sort_unstable();
        assert_eq!(due, (0..1000).map(|index| index * 1_000_000).collect::<Vec<u64>>());
    }

    #[test]
    fn poisson_has_the_rate_and_the_variance() {
        let mut pacer = Pacer::new(rate(1000.0, 1000.0, Arrivals::Poisson), 0, 1, 0, 3);
        let due: Vec<f64> = (0..100_001).map(|_| pacer.take() as f64).collect();
        let gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let deviation = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!(
            (mean / 1e6 - 1.0).abs() < 0.02 && (deviation / mean - 1.0).abs() < 0.02,
            "{mean} {deviation}"
        );
    }

    #[test]
    fn a_ramp_sends_the_mean_of_its_ends() {
        let mut pacer = Pacer::new(rate(0.0, 1000.0, Arrivals::Constant), 0, 1, 0, 1);
        pacer.ramp(0, 10_000_000_000);
        let count = std::iter::repeat_with(|| pacer.take()).take_while(|due| *due < 10_000_000_000).count();
        assert!((4900..5100).contains(&count), "{count}");
    }
}
