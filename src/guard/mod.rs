//! The guard: which clients may connect. Pure decisions: an address goes in, a [`Verdict`] comes out.
//!
//! Two lists of networks in CIDR notation (RFC 4632). The entry with the longest prefix that holds the
//! address decides, and deny wins a tie; with an allow list, an address that no entry names stays out. An IPv4
//! address that comes mapped into IPv6 (`::ffff:192.0.2.1`, RFC 4291) is judged as the IPv4 address that
//! it is, or a dual-stack listener would be a way around the list.
//!
//! What any one address may do (connections at a time, new ones a second, datagrams a second), is counted in [`crowd`].
//!
//! [`sites`] judges which sites' pages a browser may bring, and the names under which clients reach us.
//!
//! What to set depends on the clients. By default every client may come, as often as it likes: on a desk, in a test
//! and behind a proxy all clients share an address or two, and none of them should be refused by surprise. Where
//! strangers connect directly: 20 to 100 connections and `10/50` new ones an address, `100/200` datagrams. Behind a
//! proxy: its network as one that brings others (`with_proxies`), and then the same, for then the addresses are
//! real. The guide has the whole table (`guide::operations`).
//!
//! Imports nothing of ours; time is an argument. Without the feature `guard` there are no lists, and everybody may come in.

pub mod crowd;
mod reason;
pub mod sites;

use std::net::IpAddr;
#[cfg(feature = "guard")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "guard")]
use ipnet::{Ipv4Net, Ipv6Net};
#[cfg(feature = "guard")]
use prefix_trie::joint::{JointPrefixMap, JointPrefixSet};

pub use crowd::{Rate, Rules, Ticket};
pub use reason::Reason;
pub use sites::Sites;

use crowd::Crowd;

/// What the guard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Let it in.
    Admit,
    /// Close it, for this reason.
    Refuse(Reason),
}

#[cfg(feature = "guard")]
pub use ipnet::IpNet;

/// The lists, and how often they struck.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// Shared by clones: there may be very many entries.
    #[cfg(feature = "guard")]
    lists: Arc<Lists>,
    /// Who brings others; likewise.
    #[cfg(feature = "guard")]
    proxies: Arc<JointPrefixSet<IpNet>>,
    /// Every process that connects to a Unix socket of ours is a proxy.
    unix_proxies: bool,
    /// What one address may do.
    rules: Rules,
    crowd: Crowd,
    refused: [u64; Reason::ALL.len()],
}

/// Both lists in one trie, so that one walk finds the entry that decides.
#[cfg(feature = "guard")]
#[derive(Debug, Default)]
struct Lists {
    entries: JointPrefixMap<IpNet, Verdict>,
    /// There is an allow list: whom no entry names stays out.
    strangers_stay_out: bool,
}

impl Guard {
    /// A guard with these lists; two empty ones admit everybody.
    #[cfg(feature = "guard")]
    pub fn new(allow: Vec<IpNet>, deny: Vec<IpNet>) -> Guard {
        let mut lists = Lists { strangers_stay_out: !allow.is_empty(), ..Lists::default() };
        for network in allow {
            lists.entries.insert(canonical(network), Verdict::Admit);
        }
        // After the others, whose place they take: deny wins a tie.
        for network in deny {
            lists.entries.insert(canonical(network), Verdict::Refuse(Reason::Denied));
        }
        Guard { lists: Arc::new(lists), ..Guard::default() }
    }

    /// The same, with proxies in these networks. Each connection of a proxy names its client, by a PROXY header.
    #[cfg(feature = "guard")]
    pub fn with_proxies(mut self, networks: Vec<IpNet>) -> Guard {
        self.proxies = Arc::new(networks.into_iter().map(canonical).collect());
        self
    }

    /// Whether it is a proxy, of which a header is believed, and required.
    #[cfg(feature = "guard")]
    #[inline]
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        !self.proxies.is_empty() && self.proxies.get_lpm(&IpNet::from(address.to_canonical())).is_some()
    }

    /// Whether it is a proxy.
    #[cfg(not(feature = "guard"))]
    pub fn is_proxy(&self, _address: IpAddr) -> bool {
        false
    }

    /// The same, with proxies on Unix sockets: each connection to one names its client. (The file's permissions decide which
    /// processes may connect.)
    pub fn with_unix_proxies(mut self, proxies: bool) -> Guard {
        self.unix_proxies = proxies;
        self
    }

    /// Whether a header is believed of a connection to a Unix socket, and required.
    #[inline]
    pub fn is_unix_proxy(&self) -> bool {
        self.unix_proxies
    }

    /// Whether the lists deny every IPv6 address that they don't name, and let IPv4 pass: `deny ::/0` alone. At a socket that takes
    /// both, that is seldom what is meant.
    #[cfg(feature = "guard")]
    pub fn lets_ipv4_alone_pass(&self) -> bool {
        let denied = |all: IpNet| self.lists.entries.get(&all) == Some(&Verdict::Refuse(Reason::Denied));
        let v4 = IpNet::V4(Ipv4Net::default());
        !self.lists.strangers_stay_out && denied(IpNet::V6(Ipv6Net::default())) && !denied(v4)
    }

    /// The same, and what one address may do.
    pub fn with_rules(mut self, rules: Rules) -> Guard {
        self.rules = rules;
        self
    }

    /// Judges a new connection of this address, and counts it: its ticket must be [released](Guard::release)
    /// when it is gone.
    ///
    /// # Errors
    /// Why it is refused, which is counted as well.
    #[inline]
    pub fn admit(&mut self, address: IpAddr, now: Duration) -> Result<Ticket, Reason> {
        self.judge(address, |crowd, rules| crowd.admit(rules, address, now))
    }

    /// A connection that was admitted is gone.
    pub fn release(&mut self, ticket: Ticket, now: Duration) {
        self.crowd.release(ticket, now);
    }

    /// Judges a datagram of this address, and counts it where it is refused.
    ///
    /// # Errors
    /// Why it is refused.
    #[inline]
    pub fn admit_datagram(&mut self, address: IpAddr, now: Duration) -> Result<(), Reason> {
        self.judge(address, |crowd, rules| crowd.admit_datagram(rules, address, now))
    }

    /// The lists first, and then the crowd; a refusal by either is counted.
    #[inline]
    fn judge<T>(
        &mut self,
        address: IpAddr,
        by_crowd: impl FnOnce(&mut Crowd, Rules) -> Result<T, Reason>,
    ) -> Result<T, Reason> {
        let outcome = match self.verdict(address) {
            Verdict::Refuse(reason) => Err(reason),
            Verdict::Admit => by_crowd(&mut self.crowd, self.rules),
        };
        if let Err(reason) = outcome {
            self.refuse(reason);
        }
        outcome
    }

    /// Counts a refusal that somebody else has decided.
    pub fn refuse(&mut self, reason: Reason) {
        self.refused[reason as usize] += 1;
    }

    /// Has the rules of `other` hold from now on; what has been counted stays.
    pub fn replace_rules(&mut self, mut other: Guard) {
        other.refused = self.refused;
        other.crowd = std::mem::take(&mut self.crowd); // connections stay counted under any rules
        *self = other;
    }

    /// What one address may do.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// How many networks are listed: allowed, denied, and of proxies.
    #[cfg(feature = "guard")]
    pub fn networks(&self) -> (usize, usize, usize) {
        let allowed = self.lists.entries.iter().filter(|(_, verdict)| **verdict == Verdict::Admit).count();
        (allowed, self.lists.entries.iter().count() - allowed, self.proxies.iter().count())
    }

    /// How often this reason struck.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused[reason as usize]
    }

    /// What the lists say of an address, without counting it.
    #[cfg(feature = "guard")]
    pub fn verdict(&self, address: IpAddr) -> Verdict {
        if self.lists.entries.is_empty() {
            return Verdict::Admit;
        }
        match self.lists.entries.get_lpm(&IpNet::from(address.to_canonical())) {
            Some((_, verdict)) => *verdict,
            None if self.lists.strangers_stay_out => Verdict::Refuse(Reason::NotAllowed),
            None => Verdict::Admit,
        }
    }

    /// What the lists say of an address, without counting it.
    #[cfg(not(feature = "guard"))]
    pub fn verdict(&self, _address: IpAddr) -> Verdict {
        Verdict::Admit
    }
}

/// A network without the bits behind its prefix; one of mapped addresses is the IPv4 network that it is, or it
/// would never hold an address as we judge it.
#[cfg(feature = "guard")]
fn canonical(network: IpNet) -> IpNet {
    match (network.addr().to_canonical(), network.prefix_len()) {
        (IpAddr::V4(address), length @ 96..) => {
            Ipv4Net::new(address, length - 96).map_or(network, IpNet::V4).trunc()
        }
        _ => network.trunc(),
    }
}

/// A network, or one address.
///
/// # Errors
/// What to write instead.
#[cfg(feature = "guard")]
pub fn network(text: &str) -> Result<IpNet, &'static str> {
    let single = || text.parse().map(|address: IpAddr| address.into()).ok();
    text.parse()
        .ok()
        .or_else(single)
        .ok_or("write a network in CIDR notation, like 192.0.2.0/24 or 2001:db8::/32, or one address")
}

/// The networks of a file's text: one a line; what follows a `#` or `;` is a comment. Words behind a network are passed over, as
/// in `192.0.2.1 name`, unless they could be a part of it: a prefix, a mask or the end of a range. A byte order mark at the
/// beginning is passed over, too.
///
/// # Errors
/// The number of the first wrong line, and what is wrong there.
#[cfg(feature = "guard")]
pub fn networks(text: &str) -> Result<Vec<IpNet>, (usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let entries = text
        .lines()
        .map(|line| line.split(['#', ';']).next().unwrap_or_default().trim())
        .enumerate()
        .filter(|(_, entry)| !entry.is_empty());
    entries
        .map(|(index, entry)| {
            let (first, rest) = entry.split_once(char::is_whitespace).unwrap_or((entry, ""));
            let next = rest.split_whitespace().next().unwrap_or_default();
            let belongs = next.starts_with(['/', '-', '\u{2013}', ',']) || network(next).is_ok();
            let whole = if belongs { entry } else { first };
            network(whole).map_err(|hint| (index + 1, format!("{entry:?}: {hint}")))
        })
        .collect()
}

#[cfg(all(test, feature = "guard"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judge(allow: &[&str], deny: &[&str], address: &str) -> Verdict {
        let parse = |list: &[&str]| list.iter().map(|entry| entry.parse().unwrap()).collect();
        Guard::new(parse(allow), parse(deny)).verdict(address.parse().unwrap())
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

    #[test]
    fn a_mapped_network_is_the_ipv4_network_that_it_is() {
        assert_eq!(judge(&[], &["::ffff:10.0.0.0/104"], "10.1.2.3"), DENIED);
        assert_eq!(judge(&[], &["::ffff:10.0.0.0/104"], "::ffff:11.1.2.3"), Verdict::Admit);
    }

    #[test]
    fn a_list_that_denies_ipv6_alone_is_known() {
        let guard = |allow: &[&str], deny: &[&str]| {
            let parse = |list: &[&str]| list.iter().map(|entry| entry.parse().unwrap()).collect();
            Guard::new(parse(allow), parse(deny)).lets_ipv4_alone_pass()
        };
        assert!(guard(&[], &["::/0"]) && guard(&[], &["::/0", "10.0.0.0/8"]));
        for (allow, deny) in [
            (&[][..], &["::/0", "0.0.0.0/0"][..]),
            (&[], &["::/0", "::ffff:0:0/96"]),
            (&["2001:db8::/32"], &["::/0"]),
            (&[], &["0.0.0.0/0"]),
            (&[], &["2000::/3"]),
        ] {
            assert!(!guard(allow, deny), "{allow:?} {deny:?}");
        }
    }

    #[test]
    fn a_file_has_an_entry_a_line_and_comments() {
        let text = "# ours\n\n 10.0.0.0/8 # all of it\r\n2001:db8::1";
        let expected: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::1/128".parse().unwrap()];
        assert_eq!(networks(text), Ok(expected));
        let (line, problem) = networks("10.0.0.0/8\n\n10.0.0.0/99\nten").unwrap_err();
        assert_eq!(line, 3);
        assert!(problem.starts_with("\"10.0.0.0/99\": write"), "{problem}");
    }

    #[test]
    fn lists_as_others_publish_them_are_read() {
        let expected = |networks: &[&str]| Ok(networks.iter().map(|it| network(it).expect(it)).collect());
        for (text, networks) in [
            ("\u{feff}10.0.0.0/8\n", &["10.0.0.0/8"][..]),
            ("\u{feff}# ours\r\n10.0.0.0/8\r\n", &["10.0.0.0/8"]),
            ("; Spamhaus DROP List\n192.0.2.0/24 ; SBL256894\n", &["192.0.2.0/24"]),
            ("192.0.2.1 name\n192.0.2.2\tname # why\n", &["192.0.2.1", "192.0.2.2"]),
            ("192.0.2.1\t10\n", &["192.0.2.1"]),
            ("2001:db8::/32 a network of nobody", &["2001:db8::/32"]),
        ] {
            assert_eq!(super::networks(text), expected(networks), "{text:?}");
        }
        // What would be another network if the rest were passed over.
        for text in
            ["10.0.0.0 /8", "10.0.0.0 255.0.0.0", "10.0.0.1 - 10.0.0.9", "10.0.0.1 10.0.0.9", "name 10.0.0.1"]
        {
            let (line, problem) = super::networks(text).expect_err(text);
            assert!(line == 1 && problem.starts_with(&format!("{text:?}")), "{problem}");
        }
    }

    /// The scan that the trie replaces: its slow twin.
    fn scanned(allow: &[IpNet], deny: &[IpNet], address: IpAddr) -> Verdict {
        // None (no entry) is less than any length.
        let longest = |list: &[IpNet]| {
            list.iter().filter(|network| network.contains(&address)).map(|network| network.prefix_len()).max()
        };
        let (allowed, denied) = (longest(allow), longest(deny));
        if denied.is_some() && denied >= allowed {
            DENIED
        } else if allowed.is_none() && !allow.is_empty() {
            NOT_ALLOWED
        } else {
            Verdict::Admit
        }
    }

    /// Few different bits, so that networks nest, tie and hold the addresses.
    fn address() -> impl Strategy<Value = IpAddr> {
        let v4 = (0u32..4, 0u32..4).prop_map(|(high, low)| IpAddr::V4((high << 30 | low).into()));
        let v6 = (4u128..8, 0u128..4).prop_map(|(high, low)| IpAddr::V6((high << 125 | low).into()));
        prop_oneof![v4, v6]
    }

    fn some_network() -> impl Strategy<Value = IpNet> {
        let length = prop_oneof![0u8..4, 29u8..=32, 125u8..=128];
        (address(), length).prop_map(|(address, length)| {
            IpNet::new(address, if address.is_ipv4() { length.min(32) } else { length }).unwrap()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_trie_says_what_a_scan_says(
            allow in prop::collection::vec(some_network(), 0..12),
            deny in prop::collection::vec(some_network(), 0..12),
            address in address(),
        ) {
            let guard = Guard::new(allow.clone(), deny.clone());
            prop_assert_eq!(guard.verdict(address), scanned(&allow, &deny, address));
        }
    }
}
