//! The guard: who may come in. Pure decisions: an address goes in, a [`Verdict`] comes out.
//!
//! Two lists of networks in CIDR notation (RFC 4632). The entry with the longest prefix that holds the
//! address decides, and deny wins a tie; with an allow list, whom no entry names stays out. An IPv4
//! address that comes mapped into IPv6 (`::ffff:192.0.2.1`, RFC 4291) is judged as the IPv4 address that
//! it is, or a dual-stack listener would be a way around the list.
//!
//! Imports nothing of ours. Without the feature `guard` there are no lists, and everybody may come in.

use std::net::IpAddr;

/// What the guard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Let it in.
    Admit,
    /// Close it, for this reason.
    Refuse(Reason),
}

/// Why somebody stays out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A deny entry names it.
    Denied,
    /// There is an allow list, and it does not name it.
    NotAllowed,
}

impl Reason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Reason; 2] = [Reason::Denied, Reason::NotAllowed];

    /// Its name in the log and in the summary.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Denied => "denied",
            Reason::NotAllowed => "not-allowed",
        }
    }
}

#[cfg(feature = "guard")]
pub use ipnet::IpNet;

/// The lists, and how often they struck.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    #[cfg(feature = "guard")]
    allow: Vec<IpNet>,
    #[cfg(feature = "guard")]
    deny: Vec<IpNet>,
    refused: [u64; Reason::ALL.len()],
}

impl Guard {
    /// A guard with these lists; two empty ones admit everybody.
    #[cfg(feature = "guard")]
    pub fn new(allow: Vec<IpNet>, deny: Vec<IpNet>) -> Guard {
        Guard { allow, deny, ..Guard::default() }
    }

    /// Judges an address, and counts it where it is refused.
    #[inline]
    pub fn judge(&mut self, address: IpAddr) -> Verdict {
        let verdict = self.verdict(address);
        if let Verdict::Refuse(reason) = verdict {
            self.refused[reason as usize] += 1;
        }
        verdict
    }

    /// Has the rules of `other` hold from now on; what has been counted stays.
    pub fn replace_rules(&mut self, mut other: Guard) {
        other.refused = self.refused;
        *self = other;
    }

    /// How often this reason struck.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize]
    }

    #[cfg(feature = "guard")]
    fn verdict(&self, address: IpAddr) -> Verdict {
        if self.allow.is_empty() && self.deny.is_empty() {
            return Verdict::Admit;
        }
        let address = address.to_canonical();
        // None (no entry) is less than any length.
        let longest = |list: &[IpNet]| {
            list.iter().filter(|network| network.contains(&address)).map(|network| network.prefix_len()).max()
        };
        let (allowed, denied) = (longest(&self.allow), longest(&self.deny));
        if denied.is_some() && denied >= allowed {
            Verdict::Refuse(Reason::Denied)
        } else if allowed.is_none() && !self.allow.is_empty() {
            Verdict::Refuse(Reason::NotAllowed)
        } else {
            Verdict::Admit
        }
    }

    #[cfg(not(feature = "guard"))]
    fn verdict(&self, _address: IpAddr) -> Verdict {
        Verdict::Admit
    }
}

#[cfg(all(test, feature = "guard"))]
mod tests {
    use super::*;

    fn judge(allow: &[&str], deny: &[&str], address: &str) -> Verdict {
        let parse = |list: &[&str]| list.iter().map(|entry| entry.parse().unwrap()).collect();
        Guard::new(parse(allow), parse(deny)).judge(address.parse().unwrap())
    }

    const DENIED: Verdict = Verdict::Refuse(Reason::Denied);
    const NOT_ALLOWED: Verdict = Verdict::Refuse(Reason::NotAllowed);

    #[test]
    fn without_lists_everybody_may_come_in() {
        assert_eq!(judge(&[], &[], "192.0.2.1"), Verdict::Admit);
    }

    #[test]
    fn the_longest_prefix_decides_and_deny_wins_a_tie() {
        let deny = ["10.0.0.0/8", "2001:db8::/32"];
        assert_eq!(judge(&[], &deny, "10.1.2.3"), DENIED);
        assert_eq!(judge(&[], &deny, "2001:db8::1"), DENIED);
        assert_eq!(judge(&[], &deny, "192.0.2.1"), Verdict::Admit);
        assert_eq!(judge(&["10.1.0.0/16"], &deny, "10.1.2.3"), Verdict::Admit);
        assert_eq!(judge(&["10.0.0.0/8"], &deny, "10.1.2.3"), DENIED);
        assert_eq!(judge(&["0.0.0.0/0"], &deny, "192.0.2.1"), Verdict::Admit);
    }

    #[test]
    fn with_an_allow_list_strangers_stay_out() {
        assert_eq!(judge(&["192.0.2.0/24"], &[], "192.0.2.200"), Verdict::Admit);
        assert_eq!(judge(&["192.0.2.0/24"], &[], "198.51.100.1"), NOT_ALLOWED);
        assert_eq!(judge(&["192.0.2.0/24"], &[], "2001:db8::1"), NOT_ALLOWED);
    }

    #[test]
    fn a_mapped_address_is_no_way_around_the_list() {
        assert_eq!(judge(&[], &["10.0.0.0/8"], "::ffff:10.1.2.3"), DENIED);
    }
}
