//! The crowd: how many connections each address has, how fast it makes new ones, and how fast it sends datagrams.
//!
//! An IPv6 network of 64 bits counts as one address, since a host that has one address has all of it; a mapped IPv4 address is the
//! IPv4 address that it is. The rate is a leaky bucket in its cheapest form, GCRA (ITU-T I.371): one moment per
//! address, at which its bucket will be empty.
//!
//! Memory is bounded: an address with connections has an entry, which their number bounds; of those without, at most
//! [`IDLE_MAX`] are remembered. Beyond, the next one in the row is forgotten, which gives it a full burst again: a crowd
//! that large is not held up by rates per address. A refusal allocates nothing.
//!
//! Invariant: an entry's count is the number of its tickets that have not been given back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::reason::Reason;

/// Addresses without a connection that are remembered, for their rates.
pub const IDLE_MAX: usize = 65_536;

/// How many entries are looked at when a new one comes, for some to be forgotten.
const SWEEP: usize = 4;

/// What one address may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Connections at a time.
    pub connections_max: Option<u32>,
    /// New connections over time.
    pub accepts: Option<Rate>,
    /// Datagrams over time.
    pub datagrams: Option<Rate>,
}

/// `per_s` a second, and `burst` at once after a time of rest. Both are at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// On average.
    pub per_s: u32,
    /// At once.
    pub burst: u32,
}

impl Rate {
    /// Datagrams of one address, by default. No honest client comes near it, nor do a hundred players behind one address; and two
    /// servers that answer each other do, on a fast network, which ends their exchange: what is dropped is answered no more.
    pub const DATAGRAMS: Rate = Rate { per_s: 10_000, burst: 20_000 };
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.per_s, self.burst)
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    /// `10` or `10/50`: ten a second, fifty at once.
    fn from_str(text: &str) -> Result<Rate, String> {
        let (per_s, burst) = text.split_once('/').unwrap_or((text, text));
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| (1..=1_000_000).contains(number));
        match (number(per_s), number(burst)) {
            (Some(per_s), Some(burst)) => Ok(Rate { per_s, burst }),
            _ => {
                Err("write how many a second, and how many at once, from 1 to 1000000, like 10 or 10/50"
                    .into())
            }
        }
    }
}

/// Whom a connection is counted for; it is given back when the connection is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(u32);

impl Ticket {
    /// Of a connection that is not counted.
    pub const NONE: Ticket = Ticket(u32::MAX);
}

/// An address as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    V4(u32),
    /// The first half.
    V6(u64),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(address) => Source::V4(address.to_bits()),
            IpAddr::V6(address) => Source::V6((address.to_bits() >> 64) as u64),
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    source: Source,
    connections: u32,
    /// When its bucket is empty.
    empty_at: Duration,
}

/// See the module's text.
#[derive(Debug, Clone, Default)]
pub struct Crowd {
    /// By the numbers of the tickets; `None` where one is free.
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    index: HashMap<Source, u32>,
    /// Entries with connections.
    busy: usize,
    /// Where the sweep goes on.
    next: usize,
}

impl Crowd {
    /// Counts one more connection of this address, or says why not.
    ///
    /// # Errors
    /// The reason.
    pub fn admit(&mut self, rules: Rules, address: IpAddr, now: Duration) -> Result<Ticket, Reason> {
        if rules.connections_max.is_none() && rules.accepts.is_none() {
            return Ok(Ticket::NONE);
        }
        self.enter(rules.connections_max, rules.accepts, address, now)
    }

    /// Whether one more datagram of this address is within its rate.
    ///
    /// # Errors
    /// The reason, where it is not.
    pub fn admit_datagram(&mut self, rules: Rules, address: IpAddr, now: Duration) -> Result<(), Reason> {
        match rules.datagrams {
            None => Ok(()),
            Some(rate) => self.count(rate, address, now),
        }
    }

    /// Counts one more of whatever has this rate, of this address.
    ///
    /// # Errors
    /// The reason, where it is beyond the rate: then it is not counted.
    pub fn count(&mut self, rate: Rate, address: IpAddr, now: Duration) -> Result<(), Reason> {
        let ticket = self.enter(None, Some(rate), address, now)?;
        self.release(ticket, now); // it is here and gone; its place in the bucket stays
        Ok(())
    }

    fn enter(
        &mut self,
        connections_max: Option<u32>,
        rate: Option<Rate>,
        address: IpAddr,
        now: Duration,
    ) -> Result<Ticket, Reason> {
        let source = Source::from(address);
        let number = self.index.get(&source).copied();
        let mut known = number.and_then(|number| self.entries[number as usize].as_mut());
        if let (Some(rate), Some(entry)) = (rate, &mut known) {
            // Under other rules it may have been filled for longer than these allow.
            let each = Duration::from_secs(1) / rate.per_s;
            entry.empty_at = entry.empty_at.min(now + each * rate.burst);
        }
        let (connections, empty_at) = known.map_or((0, Duration::ZERO), |it| (it.connections, it.empty_at));
        if connections_max.is_some_and(|most| connections >= most) {
            return Err(Reason::TooMany);
        }
        let mut filled_until = empty_at;
        if let Some(rate) = rate {
            let each = Duration::from_secs(1) / rate.per_s;
            filled_until = empty_at.max(now) + each;
            if filled_until - now > each * rate.burst {
                return Err(Reason::TooFast);
            }
        }
        let number = number.unwrap_or_else(|| self.remember(source, now));
        if let Some(entry) = &mut self.entries[number as usize] {
            self.busy += usize::from(entry.connections == 0);
            entry.connections += 1;
            entry.empty_at = filled_until;
        }
        Ok(Ticket(number))
    }

    /// A connection that was counted is gone.
    pub fn release(&mut self, ticket: Ticket, now: Duration) {
        let Some(Some(entry)) = self.entries.get_mut(ticket.0 as usize) else { return };
        entry.connections -= 1;
        if entry.connections == 0 {
            self.busy -= 1;
            self.forget_if_idle(ticket.0 as usize, now);
        }
    }

    /// A new entry, for which old ones may go.
    fn remember(&mut self, source: Source, now: Duration) -> u32 {
        for _ in 0..SWEEP.min(self.entries.len()) {
            self.next = (self.next + 1) % self.entries.len();
            // Too many: the bucket of this one is taken for empty.
            let now = if self.index.len() - self.busy >= IDLE_MAX { Duration::MAX } else { now };
            self.forget_if_idle(self.next, now);
        }
        let entry = Some(Entry { source, connections: 0, empty_at: Duration::ZERO });
        let number = match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = entry;
                number
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        };
        self.index.insert(source, number);
        number
    }

    /// Forgets an address without connections and with an empty bucket.
    fn forget_if_idle(&mut self, number: usize, now: Duration) {
        let idle = |entry: &Entry| entry.connections == 0 && entry.empty_at <= now;
        if let Some(entry) = self.entries[number].take_if(|entry| idle(entry)) {
            self.index.remove(&entry.source);
            self.free.push(number as u32);
        }
    }

    /// How many addresses are remembered.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn at_most(connections_max: u32) -> Rules {
        Rules { connections_max: Some(connections_max), ..Rules::default() }
    }

    fn rate(text: &str) -> Rules {
        Rules { accepts: Some(text.parse().expect("a rate")), ..Rules::default() }
    }

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn without_rules_nobody_is_remembered() {
        let mut crowd = Crowd::default();
        let ticket = crowd.admit(Rules::default(), ip("192.0.2.1"), NOW).expect("anybody");
        crowd.release(ticket, NOW);
        assert!(crowd.is_empty());
    }

    #[test]
    fn who_has_as_many_as_he_may_waits_until_one_is_gone() {
        let mut crowd = Crowd::default();
        let first = crowd.admit(at_most(2), ip("192.0.2.1"), NOW).expect("the first");
        let _second = crowd.admit(at_most(2), ip("::ffff:192.0.2.1"), NOW).expect("the second");
        assert_eq!(crowd.admit(at_most(2), ip("192.0.2.1"), NOW), Err(Reason::TooMany));
        assert!(crowd.admit(at_most(2), ip("192.0.2.2"), NOW).is_ok(), "another one");
        crowd.release(first, NOW);
        assert!(crowd.admit(at_most(2), ip("192.0.2.1"), NOW).is_ok());
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let mut crowd = Crowd::default();
        let _one = crowd.admit(at_most(1), ip("2001:db8::1"), NOW).expect("the first");
        assert_eq!(crowd.admit(at_most(1), ip("2001:db8::ffff:2"), NOW), Err(Reason::TooMany));
        assert!(crowd.admit(at_most(1), ip("2001:db8:0:1::1"), NOW).is_ok());
    }

    #[test]
    fn who_filled_the_bucket_of_a_slow_rate_is_not_kept_out_by_a_faster_one() {
        let mut crowd = Crowd::default();
        let mut admitted = |rules, at_ms| {
            let now = NOW + Duration::from_millis(at_ms);
            let ticket = crowd.admit(rules, ip("192.0.2.1"), now);
            ticket.map(|ticket| crowd.release(ticket, now))
        };
        for _ in 0..1000 {
            assert_eq!(admitted(rate("1/1000"), 0), Ok(()));
        }
        assert_eq!(admitted(rate("10/3"), 1), Err(Reason::TooFast), "its bucket is full under any rules");
        assert_eq!(admitted(rate("10/3"), 50), Err(Reason::TooFast));
        assert_eq!(admitted(rate("10/3"), 101), Ok(()), "and empties as these say");
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut crowd = Crowd::default();
        let mut admitted = |at_ms| {
            let now = NOW + Duration::from_millis(at_ms);
            let ticket = crowd.admit(rate("10/3"), ip("192.0.2.1"), now);
            ticket.map(|ticket| crowd.release(ticket, now))
        };
        for (at_ms, expected) in [
            (0, Ok(())),
            (0, Ok(())),
            (0, Ok(())),
            (0, Err(Reason::TooFast)),
            (99, Err(Reason::TooFast)),
            (100, Ok(())),
            (100, Err(Reason::TooFast)),
            (10_000, Ok(())),
            (10_000, Ok(())),
            (10_000, Ok(())),
            (10_000, Err(Reason::TooFast)),
        ] {
            assert_eq!(admitted(at_ms), expected, "at {at_ms} ms");
        }
    }

    #[test]
    fn datagrams_have_a_rate_of_their_own() {
        let rules = Rules { datagrams: Some(Rate { per_s: 10, burst: 2 }), ..at_most(1) };
        let mut crowd = Crowd::default();
        let mut judged = |ip: &str, at_ms| {
            let address = ip.parse().expect("an address");
            crowd.admit_datagram(rules, address, NOW + Duration::from_millis(at_ms))
        };
        assert_eq!([judged("192.0.2.1", 0), judged("192.0.2.1", 0)], [Ok(()); 2]);
        assert_eq!(judged("192.0.2.1", 0), Err(Reason::TooFast));
        assert_eq!(judged("192.0.2.2", 0), Ok(()), "another one");
        assert_eq!(judged("192.0.2.1", 100), Ok(()));
        assert_eq!(crowd.busy, 0, "a datagram leaves nothing behind but its place in the bucket");
    }

    #[test]
    fn rates_are_read_and_what_is_none_is_told_what_to_write() {
        assert_eq!("10/50".parse(), Ok(Rate { per_s: 10, burst: 50 }));
        assert_eq!("10".parse(), Ok(Rate { per_s: 10, burst: 10 }));
        for wrong in ["", "0", "-1", "10/", "/10", "10/0", "1.5", "10/50/60", "99999999"] {
            assert!(wrong.parse::<Rate>().is_err_and(|it| it.contains("like 10 or 10/50")), "{wrong}");
        }
    }

    #[test]
    fn a_crowd_without_end_is_remembered_within_bounds() {
        let mut crowd = Crowd::default();
        for number in 0..3 * IDLE_MAX as u32 {
            let address = IpAddr::V4(number.into());
            let ticket = crowd.admit(rate("1/1"), address, NOW).expect("each comes once");
            crowd.release(ticket, NOW);
        }
        assert!(crowd.len() <= IDLE_MAX + SWEEP, "{}", crowd.len());
        // When their buckets are empty, they are forgotten as others come.
        for number in 0..IDLE_MAX as u32 {
            let address = IpAddr::V4((number | 1 << 31).into());
            let now = NOW + Duration::from_secs(2 + u64::from(number));
            let ticket = crowd.admit(rate("1/1"), address, now).expect("each comes once");
            crowd.release(ticket, now);
        }
        assert!(crowd.len() <= IDLE_MAX / SWEEP + SWEEP, "{}", crowd.len());
    }

    proptest! {
        #[test]
        fn counts_are_those_of_the_tickets_that_are_out(
            steps in prop::collection::vec((0u8..4, any::<bool>(), 0u64..300), 0..200),
        ) {
            let (mut crowd, mut out, mut now) = (Crowd::default(), Vec::new(), NOW);
            for (who, comes, later_ms) in steps {
                now += Duration::from_millis(later_ms);
                let accepts = Some(Rate { per_s: 10, burst: 5 });
                let rules = Rules { connections_max: Some(3), accepts, datagrams: None };
                let address = IpAddr::from([192, 0, 2, who]);
                if comes {
                    let open = out.iter().filter(|(whose, _)| *whose == who).count();
                    match crowd.admit(rules, address, now) {
                        Ok(ticket) => {
                            prop_assert!(open < 3);
                            out.push((who, ticket));
                        }
                        Err(reason) => prop_assert_eq!(open >= 3, reason == Reason::TooMany),
                    }
                } else if let Some(index) = out.iter().position(|(whose, _)| *whose == who) {
                    crowd.release(out.remove(index).1, now);
                }
                let busy: std::collections::HashSet<u8> = out.iter().map(|(whose, _)| *whose).collect();
                prop_assert_eq!(crowd.busy, busy.len());
            }
            for (_, ticket) in out {
                crowd.release(ticket, now);
            }
            prop_assert_eq!(crowd.busy, 0);
        }
    }
}
