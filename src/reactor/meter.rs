//! The meter of a connection's reading, where that is limited ([`Limits::read_bytes_per_s`](super::Limits::read_bytes_per_s)).
//!
//! A leaky bucket in its cheapest form, GCRA (ITU-T I.371): all that is kept is the moment at which the bucket will be
//! empty. It holds one second's worth of bytes. A peer that has filled it is not read from for a while. Its bytes wait in
//! the kernel, and TCP's window slows it down. Nothing is dropped.
//!
//! A pause lasts until a tenth of a second's worth fits (of a very low rate, one byte), so that a peer costs at most ten
//! wake-ups a second, and is at most a second late.
//!
//! This is part of the core because it bounds the read itself. A handler with [`Board::hold`](super::Board::hold) and a timer
//! could count only what has been read already, a whole block at a time, and would need to know of idle deadlines and of a stop.

use std::num::NonZeroU64;
use std::time::Duration;

use super::timers::Moment;

const SECOND_NS: u128 = 1_000_000_000;

/// The meter of one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meter {
    /// Bytes per second. `None`: there is no such limit, or the loop is stopping.
    rate: Option<NonZeroU64>,
    /// When the bucket will be empty.
    empty_at: Moment,
    /// The bucket is full: nothing is read until [`Meter::paused_until`].
    is_paused: bool,
}

impl Meter {
    pub(super) fn new(bytes_per_s: Option<u64>) -> Meter {
        Meter { rate: bytes_per_s.and_then(NonZeroU64::new), ..Meter::default() }
    }

    /// How many bytes may be read now; at least 1.
    #[inline]
    pub(super) fn allowance(&self, now: Moment) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        let room = SECOND_NS.saturating_sub(self.empty_at.since(now).as_nanos());
        usize::try_from(room * u128::from(rate.get()) / SECOND_NS).unwrap_or(usize::MAX).max(1)
    }

    /// Counts `count` bytes that were read. Reading pauses if the bucket is full then.
    #[inline]
    pub(super) fn spend(&mut self, count: usize, now: Moment) {
        let Some(rate) = self.rate else { return };
        let filled = (count as u128 * SECOND_NS).div_ceil(u128::from(rate.get()));
        let filled = Duration::from_nanos(filled.try_into().unwrap_or(u64::MAX));
        self.empty_at = self.empty_at.max(now).after(filled);
        self.is_paused = self.ready_at(rate) > now;
    }

    /// Whether nothing may be read now.
    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// When the pause is over; [`Moment::NEVER`] if there is none.
    pub(super) fn paused_until(&self) -> Moment {
        match self.rate {
            Some(rate) if self.is_paused => self.ready_at(rate),
            _ => Moment::NEVER,
        }
    }

    /// Ends the pause, if it is over. Returns whether that ended one.
    pub(super) fn end_pause_if_over(&mut self, now: Moment) -> bool {
        let is_over = self.paused_until() <= now;
        self.is_paused &= !is_over;
        is_over
    }

    /// Sets the rate from now on; `None` ends metering. A connection that was not metered before pauses at first: the end of that
    /// pause, at once perhaps, shows how full its bucket is.
    pub(super) fn set_rate(&mut self, bytes_per_s: Option<u64>) {
        let rate = bytes_per_s.and_then(NonZeroU64::new);
        self.is_paused = rate.is_some() && (self.is_paused || self.rate.is_none());
        self.rate = rate;
    }

    /// The moment from which on the bucket has room for a tenth of a second's worth.
    fn ready_at(&self, rate: NonZeroU64) -> Moment {
        let slice = (SECOND_NS / 10).max(SECOND_NS.div_ceil(u128::from(rate.get())));
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
        fn a_peer_that_is_read_from_as_its_meter_allows_keeps_the_rate_and_never_waits_a_second(
            bytes_per_s in prop_oneof![1u64..20, 1u64..100_000, Just(u64::MAX), 1u64 << 30..1 << 50],
            greed in prop::collection::vec((1usize..1 << 20, 0u64..3_000), 1..60),
        ) {
            let (mut meter, began) = (Meter::new(Some(bytes_per_s)), Moment::at(Duration::from_secs(1000)));
            let (mut now, mut read) = (began, 0u128);
            for (wanted, rest_ms) in greed {
                now = now.after(Duration::from_millis(rest_ms));
                if meter.paused_until() != Moment::NEVER && meter.paused_until() > now {
                    prop_assert!(meter.paused_until().since(now) <= Duration::from_secs(1));
                    now = meter.paused_until();
                }
                prop_assert_eq!(meter.is_paused(), meter.end_pause_if_over(now));
                let allowance = meter.allowance(now);
                prop_assert!(allowance >= 1);
                prop_assert!(allowance as u128 >= (bytes_per_s / 10).saturating_sub(1).into());
                let count = wanted.min(allowance);
                meter.spend(count, now);
                read += count as u128;
                let most = u128::from(bytes_per_s) * (now.since(began).as_nanos() + SECOND_NS);
                prop_assert!(read * SECOND_NS <= most, "{read} bytes in {:?}", now.since(began));
            }
        }
    }
}
