//! How fast a connection may be read from, where that is limited.
//!
//! A leaky bucket in its cheapest form, GCRA (ITU-T I.371): all that is kept is the moment at which the bucket will be
//! empty. It holds one second's worth of bytes. A peer that has filled it is not read from for a while. Its bytes wait in
//! the kernel, and TCP's window slows it down. Nothing is dropped.
//!
//! A pause lasts until a tenth of a second's worth fits (of a very low rate, one byte), so that a peer costs at most ten
//! wake-ups a second, and is at most a second late.

use std::time::Duration;

use super::timers::Moment;

const SECOND_NS: u128 = 1_000_000_000;

/// The bucket of one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    empty_at: Moment,
}

impl Pace {
    /// How many bytes may be read now, at this many a second.
    pub(super) fn allowance(self, bytes_per_s: u64, now: Moment) -> usize {
        let room = SECOND_NS.saturating_sub(self.empty_at.since(now).as_nanos());
        usize::try_from(room * u128::from(bytes_per_s) / SECOND_NS).unwrap_or(usize::MAX)
    }

    /// Counts `count` bytes that were read.
    pub(super) fn spend(&mut self, count: usize, bytes_per_s: u64, now: Moment) {
        let filled = (count as u128 * SECOND_NS).div_ceil(u128::from(bytes_per_s));
        let filled = Duration::from_nanos(filled.try_into().unwrap_or(u64::MAX));
        self.empty_at = self.empty_at.max(now).after(filled);
    }

    /// From when on reading is worth while.
    pub(super) fn ready_at(self, bytes_per_s: u64) -> Moment {
        let slice = (SECOND_NS / 10).max(SECOND_NS.div_ceil(u128::from(bytes_per_s)));
        let full_for = Duration::from_nanos((SECOND_NS - slice) as u64);
        Moment::at(self.empty_at.since(Moment::at(full_for)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn who_reads_what_he_may_when_he_may_keeps_the_rate_and_never_waits_a_second(
            bytes_per_s in prop_oneof![1u64..20, 1u64..100_000, Just(u64::MAX), 1u64 << 30..1 << 50],
            greed in prop::collection::vec((1usize..1 << 20, 0u64..3_000), 1..60),
        ) {
            let (mut pace, began) = (Pace::default(), Moment::at(Duration::from_secs(1000)));
            let (mut now, mut read) = (began, 0u128);
            for (wanted, rest_ms) in greed {
                now = now.after(Duration::from_millis(rest_ms));
                if pace.ready_at(bytes_per_s) > now {
                    prop_assert!(pace.ready_at(bytes_per_s).since(now) <= Duration::from_secs(1));
                    now = pace.ready_at(bytes_per_s);
                }
                let allowance = pace.allowance(bytes_per_s, now);
                prop_assert!(allowance >= 1);
                prop_assert!(allowance as u128 >= (bytes_per_s / 10).saturating_sub(1).into());
                let count = wanted.min(allowance);
                pace.spend(count, bytes_per_s, now);
                read += count as u128;
                let most = u128::from(bytes_per_s) * (now.since(began).as_nanos() + SECOND_NS);
                prop_assert!(read * SECOND_NS <= most, "{read} bytes in {:?}", now.since(began));
            }
        }
    }
}
