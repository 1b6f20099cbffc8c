//! What an address has used of its rates, whichever of its connections did it.
//!
//! Joins have a rate of their own for each address: one that joins and resets, over and over, gets no further by
//! connecting again. And a member's own rate goes on after its connection: its bucket, where it is not empty yet, stays with
//! the address, and the next connection from there begins with it. So a new connection is no new burst, and members
//! who share an address (behind a router, behind a proxy) don't pay for each other while they are there.
//!
//! Memory is bounded: a bucket is forgotten when it is empty, and there are at most [`BUCKETS_MAX`].
//!
//! Invariant: both sets hold the same buckets.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::guard::Rate;
use crate::guard::crowd::{Crowd, Source};
use crate::reactor::Moment;

/// Buckets that are remembered; beyond, the one that is empty first is forgotten.
const BUCKETS_MAX: usize = 65_536;

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    joins: Crowd,
    /// Buckets of members who are gone: when each is empty, with a number that tells equal ones apart.
    buckets: BTreeSet<(Source, Moment, u64)>,
    by_time: BTreeSet<(Moment, u64, Source)>,
    last_number: u64,
}

impl Addresses {
    /// Whether one more join of this address is within the rate; if it is, it is counted.
    pub(super) fn may_join(&mut self, rate: Rate, address: IpAddr, now: Moment) -> bool {
        self.joins.count(rate, address, now.since(Moment::default())).is_ok()
    }

    /// A member of this address is gone, whose bucket is empty at that time.
    pub(super) fn keep(&mut self, address: IpAddr, empty_at: Moment, now: Moment) {
        self.forget(now);
        if empty_at <= now {
            return;
        }
        self.last_number += 1;
        let (source, number) = (Source::from(address), self.last_number);
        self.buckets.insert((source, empty_at, number));
        self.by_time.insert((empty_at, number, source));
    }

    /// When the bucket of a new member of this address is empty: it takes the fullest that was left there.
    pub(super) fn take(&mut self, address: IpAddr, now: Moment) -> Moment {
        self.forget(now);
        let source = Source::from(address);
        let all = (source, Moment::default(), 0)..=(source, Moment::NEVER, u64::MAX);
        let Some((_, empty_at, number)) = self.buckets.range(all).next_back().copied() else {
            return Moment::default();
        };
        self.buckets.remove(&(source, empty_at, number));
        self.by_time.remove(&(empty_at, number, source));
        empty_at
    }

    /// Forgets buckets that are empty, and where there are too many, those that are so next.
    fn forget(&mut self, now: Moment) {
        while let Some((empty_at, number, source)) = self.by_time.first().copied()
            && (empty_at <= now || self.by_time.len() >= BUCKETS_MAX)
        {
            self.by_time.pop_first();
            self.buckets.remove(&(source, empty_at, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn second(s: u64) -> Moment {
        Moment::at(Duration::from_secs(s))
    }

    #[test]
    fn a_new_connection_begins_with_what_the_last_one_had_used() {
        let mut addresses = Addresses::default();
        addresses.keep(ip("192.0.2.1"), second(12), second(10));
        addresses.keep(ip("192.0.2.1"), second(13), second(10));
        addresses.keep(ip("192.0.2.2"), second(15), second(10));
        assert_eq!(addresses.take(ip("192.0.2.3"), second(10)), Moment::default(), "another address");
        assert_eq!(addresses.take(ip("::ffff:192.0.2.1"), second(10)), second(13), "the fullest first");
        assert_eq!(addresses.take(ip("192.0.2.1"), second(10)), second(12));
        assert_eq!(addresses.take(ip("192.0.2.1"), second(10)), Moment::default(), "each is taken once");
        assert_eq!(addresses.take(ip("192.0.2.2"), second(15)), Moment::default(), "it is empty by now");
        assert_eq!((addresses.buckets.len(), addresses.by_time.len()), (0, 0));
    }

    #[test]
    fn buckets_of_a_crowd_without_end_are_remembered_within_bounds() {
        let mut addresses = Addresses::default();
        for number in 0..BUCKETS_MAX as u32 + 100 {
            addresses.keep(IpAddr::V4(number.into()), second(100 + u64::from(number)), second(10));
        }
        assert_eq!(addresses.buckets.len(), addresses.by_time.len());
        assert!(addresses.buckets.len() <= BUCKETS_MAX);
        addresses.keep(ip("::1"), second(1), second(1_000_000));
        assert!(addresses.buckets.is_empty() && addresses.by_time.is_empty());
    }

    #[test]
    fn joins_have_one_rate_for_an_address() {
        let (mut addresses, rate) = (Addresses::default(), Rate { per_s: 1, burst: 2 });
        let mut joins = |address, s| addresses.may_join(rate, ip(address), second(s));
        assert!(joins("2001:db8::1", 10) && joins("2001:db8::2", 10));
        assert!(!joins("2001:db8::3", 10), "a network of 64 bits is one address");
        assert!(joins("2001:db8:0:1::1", 10) && joins("2001:db8::3", 11));
    }
}
