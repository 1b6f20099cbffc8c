//! The PROXY protocol, versions 1 and 2: a header in which a proxy names its client, before that client's first byte.
//!
//! Specified in HAProxy's `doc/proxy-protocol.txt`. A header is short, comes first, and comes once. It must be
//! believed only if it comes from a proxy, and there it is required: a client that may write one can claim any address.
//!
//! [`decode`] is pure, and reports that bytes are no header at the first one that is wrong.
//! (The crates for it either wait for more then, or accept what the specification forbids. It is a page of code.)

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How a header of version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family, and the length of the rest.
const FIXED_BYTES: usize = 16;
/// How a header of version 1 begins.
const WORD: &[u8; 6] = b"PROXY ";
/// The longest line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;
/// The longest header that is taken: the addresses are at most 216 bytes, and extensions (TLVs) follow them.
pub const HEADER_BYTES_MAX: usize = 4096;
/// The other end that a header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Introduced {
    /// The proxy itself: a health check (LOCAL).
    Proxy,
    /// A client that the proxy can't name (UNKNOWN, UNSPEC).
    Unknown,
    /// A client at this address.
    Ip(SocketAddr),
    /// A client on the proxy's machine, over a Unix socket.
    Unix,
}

/// What the bytes are so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The beginning of a header, all of them.
    NeedMore,
    /// A complete header.
    Header {
        /// The end that it names.
        introduced: Introduced,
        /// Its bytes; what is behind them is the client's.
        consumed: usize,
    },
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It is none.
    Missing,
    /// It breaks the specification here.
    Malformed(&'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing => f.write_str("no PROXY header"),
            Problem::Malformed(where_) => write!(f, "a malformed PROXY header: {where_}"),
        }
    }
}

impl std::error::Error for Problem {}

/// Looks at the first bytes of a connection.
///
/// # Errors
/// What is wrong, as soon as no further byte could mend it.
pub fn decode(bytes: &[u8]) -> Result<Step, Problem> {
    let begins = |with: &[u8]| {
        let length = bytes.len().min(with.len());
        bytes[..length] == with[..length]
    };
    if begins(WORD) {
        decode_line(bytes)
    } else if begins(SIGNATURE) {
        decode_binary(bytes)
    } else {
        Err(Problem::Missing)
    }
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n`.
fn decode_line(bytes: &[u8]) -> Result<Step, Problem> {
    let seen = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(length) = seen.iter().position(|byte| *byte == b'\n') else {
        return match seen.len() == LINE_BYTES_MAX {
            true => Err(Problem::Malformed("a line of more than 107 bytes")),
            false => Ok(Step::NeedMore),
        };
    };
    let line = seen[..length].strip_suffix(b"\r").ok_or(Problem::Malformed("a line that ends without CR"))?;
    let text = str::from_utf8(line).map_err(|_| Problem::Malformed("a line that is no text"))?;
    let mut words = text[WORD.len()..].split(' ');
    let introduced = match words.next() {
        Some("UNKNOWN") => Introduced::Unknown, // whatever follows
        Some("TCP4") => addresses::<Ipv4Addr>(words)?,
        Some("TCP6") => addresses::<Ipv6Addr>(words)?,
        _ => return Err(Problem::Malformed("a family that is not TCP4, TCP6 or UNKNOWN")),
    };
    Ok(Step::Header { introduced, consumed: length + 1 })
}

/// The two addresses and the two ports of a line.
fn addresses<A: std::str::FromStr + Into<IpAddr>>(
    mut words: std::str::Split<'_, char>,
) -> Result<Introduced, Problem> {
    let mut address = || words.next().and_then(|word| word.parse::<A>().ok());
    let (source, destination) = (address(), address());
    // No sign, no leading zero, as the specification has it.
    let plain =
        |word: &str| word == "0" || (!word.starts_with('0') && word.bytes().all(|b| b.is_ascii_digit()));
    let mut port = || words.next().filter(|word| plain(word)).and_then(|word| word.parse::<u16>().ok());
    let (source_port, destination_port) = (port(), port());
    match (source, destination, source_port, destination_port, words.next()) {
        (Some(source), Some(_), Some(port), Some(_), None) => {
            Ok(Introduced::Ip(SocketAddr::new(source.into(), port)))
        }
        (Some(_), Some(_), _, _, None) => Err(Problem::Malformed("its ports")),
        (Some(_), Some(_), ..) => Err(Problem::Malformed("more than two addresses and two ports")),
        _ => Err(Problem::Malformed("its addresses")),
    }
}

/// Version 2.
fn decode_binary(bytes: &[u8]) -> Result<Step, Problem> {
    let at = |index: usize| bytes.get(index).copied();
    let local = match at(12) {
        None => return Ok(Step::NeedMore),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(Problem::Malformed("a version and command that are not 2 and LOCAL or PROXY")),
    };
    let Some(family) = at(13) else { return Ok(Step::NeedMore) };
    let address_bytes = match family {
        _ if local => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err(Problem::Malformed("a family that is not of streams")),
    };
    let (Some(high), Some(low)) = (at(14), at(15)) else { return Ok(Step::NeedMore) };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if rest < address_bytes {
        return Err(Problem::Malformed("too short for its addresses"));
    }
    let consumed = FIXED_BYTES + rest;
    if consumed > HEADER_BYTES_MAX {
        return Err(Problem::Malformed("more than 4096 bytes"));
    }
    let Some(rest) = bytes.get(FIXED_BYTES..consumed) else { return Ok(Step::NeedMore) };
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    let client = |ip: IpAddr, port: u16| Introduced::Ip(SocketAddr::new(ip, port));
    let introduced = match (local, rest) {
        (true, _) => Introduced::Proxy,
        (_, [a, b, c, d, ..]) if family == 0x11 => client(Ipv4Addr::new(*a, *b, *c, *d).into(), port(8)),
        (_, rest) if family == 0x21 => {
            let octets: [u8; 16] = rest[..16].try_into().unwrap_or_default(); // there are 36
            client(Ipv6Addr::from(octets).into(), port(32))
        }
        _ if family == 0x31 => Introduced::Unix,
        _ => Introduced::Unknown,
    };
    Ok(Step::Header { introduced, consumed })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> Introduced {
        Introduced::Ip(text.parse().expect("an address and a port"))
    }

    /// A header of version 2.
    fn binary(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([version_and_command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn v4() -> Vec<u8> {
        vec![192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb]
    }

    fn v6() -> Vec<u8> {
        let addresses: [Ipv6Addr; 2] = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
        let mut bytes: Vec<u8> = addresses.iter().flat_map(Ipv6Addr::octets).collect();
        bytes.extend([0x12, 0x67, 0x01, 0xbb]);
        bytes
    }

    fn with_extensions(mut bytes: Vec<u8>, count: usize) -> Vec<u8> {
        bytes.resize(bytes.len() + count, 4); // NOOP
        bytes
    }

    pub(crate) fn right() -> Vec<(Vec<u8>, Introduced)> {
        let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                       ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        let unknown = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX - 16));
        assert_eq!(unknown.len(), LINE_BYTES_MAX);
        vec![
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n".to_vec(), ip("192.0.2.1:4711")),
            (b"PROXY TCP4 255.255.255.255 0.0.0.0 0 65535\r\n".to_vec(), ip("255.255.255.255:0")),
            (b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n".to_vec(), ip("[2001:db8::1]:4711")),
            (longest.into(), ip("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Introduced::Unknown),
            (unknown.into(), Introduced::Unknown),
            (binary(0x21, 0x11, &v4()), ip("192.0.2.1:4711")),
            (binary(0x21, 0x11, &with_extensions(v4(), 500)), ip("192.0.2.1:4711")),
            (binary(0x21, 0x21, &v6()), ip("[2001:db8::1]:4711")),
            (binary(0x21, 0x21, &with_extensions(v6(), 4096 - 16 - 36)), ip("[2001:db8::1]:4711")),
            (binary(0x21, 0x31, &[b'/'; 216]), Introduced::Unix),
            (binary(0x21, 0x00, &[]), Introduced::Unknown),
            (binary(0x21, 0x00, &[1, 2, 3]), Introduced::Unknown),
            (binary(0x20, 0x00, &[]), Introduced::Proxy),
            (binary(0x20, 0x11, &v4()), Introduced::Proxy),
            (binary(0x20, 0x47, &[0; 7]), Introduced::Proxy), // whatever it says
        ]
    }

    /// With the number of bytes that show it.
    fn wrong() -> Vec<(Vec<u8>, usize, Problem)> {
        use Problem::{Malformed, Missing};
        let line = |text: &str, problem| (text.as_bytes().to_vec(), text.len(), Malformed(problem));
        let ports = "its ports";
        let addresses = "its addresses";
        let more = "more than two addresses and two ports";
        let family = "a family that is not TCP4, TCP6 or UNKNOWN";
        vec![
            (b"GET / HTTP/1.1\r\n".to_vec(), 1, Missing),
            (b"PROXIMA".to_vec(), 5, Missing),
            (b"proxy TCP4".to_vec(), 1, Missing),
            (b"\x16\x03\x01".to_vec(), 1, Missing),
            (b"\r\n\r\n\0\r\nQUIT!".to_vec(), 12, Missing),
            (b"\r\n\r\n\0\r\nquit\n".to_vec(), 8, Missing),
            (
                format!("PROXY UNKNOWN{}", " ".repeat(200)).into(),
                107,
                Malformed("a line of more than 107 bytes"),
            ),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\n", "a line that ends without CR"),
            line("PROXY \n", "a line that ends without CR"),
            line("PROXY \r\n", family),
            line("PROXY  TCP4 192.0.2.1 198.51.100.1 4711 443\r\n", family),
            line("PROXY UDP4 192.0.2.1 198.51.100.1 4711 443\r\n", family),
            line("PROXY TCP4\r\n", addresses),
            line("PROXY TCP4 192.0.2.1\r\n", addresses),
            line("PROXY TCP4 2001:db8::1 ::1 4711 443\r\n", addresses),
            line("PROXY TCP6 192.0.2.1 198.51.100.1 4711 443\r\n", addresses),
            line("PROXY TCP4 192.0.2.256 198.51.100.1 4711 443\r\n", addresses),
            line("PROXY TCP4 192.0.2.1  198.51.100.1 4711 443\r\n", addresses),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 4711\r\n", ports),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n", ports),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 +4711 443\r\n", ports),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 04711 443\r\n", ports),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 4711 \r\n", ports),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443 \r\n", more),
            line("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\r\n", ports),
            (b"PROXY TCP4 \xff\r\n".to_vec(), 14, Malformed("a line that is no text")),
            (
                binary(0x11, 0x11, &v4()),
                13,
                Malformed("a version and command that are not 2 and LOCAL or PROXY"),
            ),
            (
                binary(0x22, 0x11, &v4()),
                13,
                Malformed("a version and command that are not 2 and LOCAL or PROXY"),
            ),
            (binary(0x21, 0x12, &v4()), 14, Malformed("a family that is not of streams")),
            (binary(0x21, 0x41, &v4()), 14, Malformed("a family that is not of streams")),
            (binary(0x21, 0x11, &v4()[..11]), 16, Malformed("too short for its addresses")),
            (binary(0x21, 0x21, &v4()), 16, Malformed("too short for its addresses")),
            (binary(0x21, 0x31, &v6()), 16, Malformed("too short for its addresses")),
            (binary(0x21, 0x11, &with_extensions(v4(), 4096)), 16, Malformed("more than 4096 bytes")),
        ]
    }

    #[test]
    fn a_header_is_whole_at_its_last_byte_and_not_before() {
        for (header, introduced) in right() {
            let mut bytes = header.clone();
            bytes.extend_from_slice(b"PROXY \r\n\r\n\0"); // the client's
            for end in 0..header.len() {
                assert_eq!(decode(&bytes[..end]), Ok(Step::NeedMore), "{end} of {header:?}");
            }
            for end in header.len()..=bytes.len() {
                assert_eq!(decode(&bytes[..end]), Ok(Step::Header { introduced, consumed: header.len() }));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_at_the_byte_that_shows_it_and_ever_after() {
        for (bytes, at, problem) in wrong() {
            for end in 0..=bytes.len() {
                let expected = if end < at { Ok(Step::NeedMore) } else { Err(problem) };
                assert_eq!(decode(&bytes[..end]), expected, "{end} of {:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_bytes_are_trouble(
            begin in prop_oneof![Just(WORD.to_vec()), Just(SIGNATURE.to_vec()), Just(vec![])],
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [begin, rest].concat();
            if let Ok(Step::Header { consumed, .. }) = decode(&bytes) {
                prop_assert!(consumed <= bytes.len());
            }
        }
    }
}
