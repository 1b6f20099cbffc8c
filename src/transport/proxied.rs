//! The PROXY protocol, versions 1 and 2: what a proxy says of the client that it brings, before that client's first byte.
//!
//! Specified in HAProxy's `doc/proxy-protocol.txt`. A header is short, comes first, and comes once. It is only to be
//! believed where it comes from a proxy, and there it is required: a client that may write one can claim any address.
//!
//! [`decode`] is pure, and says as early as can be known that bytes are no header: at the first one that is wrong.
//! (The crates that there are either wait for more then, or take what the specification forbids; it is a page of code.)
//! [`Expecting`] is a connection that has still to say whom it brings: it takes the header from the socket and not one
//! byte more, since what follows may be TLS, and is not ours to hold.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::stream::{Address, Stream};

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
/// It is taken in pieces of at most this; nearly every one fits, and the specification promises that one of this size
/// arrives whole.
const PIECE_BYTES: usize = 536;

/// Whom a header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Introduced {
    /// The proxy itself, who asks how we are (LOCAL).
    Proxy,
    /// Somebody the proxy can't name (UNKNOWN, UNSPEC).
    Somebody,
    /// The client at this address.
    Client(Address),
}

/// What the bytes are so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The beginning of a header, all of them.
    NeedMore,
    /// A complete header.
    Header {
        /// Whom it names.
        whom: Introduced,
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
    let whom = match words.next() {
        Some("UNKNOWN") => Introduced::Somebody, // whatever follows
        Some("TCP4") => named::<Ipv4Addr>(words)?,
        Some("TCP6") => named::<Ipv6Addr>(words)?,
        _ => return Err(Problem::Malformed("a family that is not TCP4, TCP6 or UNKNOWN")),
    };
    Ok(Step::Header { whom, consumed: length + 1 })
}

/// The two addresses and the two ports of a line.
fn named<A: std::str::FromStr + Into<IpAddr>>(
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
            Ok(Introduced::Client(Address::Ip(SocketAddr::new(source.into(), port))))
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
    let client = |ip: IpAddr, port: u16| Introduced::Client(Address::Ip(SocketAddr::new(ip, port)));
    let whom = match (local, rest) {
        (true, _) => Introduced::Proxy,
        (_, [a, b, c, d, ..]) if family == 0x11 => client(Ipv4Addr::new(*a, *b, *c, *d).into(), port(8)),
        (_, rest) if family == 0x21 => {
            let octets: [u8; 16] = rest[..16].try_into().unwrap_or_default(); // there are 36
            client(Ipv6Addr::from(octets).into(), port(32))
        }
        _ if family == 0x31 => Introduced::Client(Address::Unix),
        _ => Introduced::Somebody,
    };
    Ok(Step::Header { whom, consumed })
}

/// A connection that has still to say whom it brings.
pub struct Expecting {
    /// What it is when it has. `None` only while it is being made.
    pub(super) then: Option<Stream>,
    header: Header,
}

impl Expecting {
    pub(super) fn new() -> Expecting {
        Expecting { then: None, header: Header::default() }
    }

    /// Takes the header as far as it has come. `WouldBlock`: more is needed.
    ///
    /// # Errors
    /// `InvalidData`, around a [`Problem`]; `UnexpectedEof` where the bytes end; those of recv(2).
    pub(super) fn introduced(&mut self) -> io::Result<Introduced> {
        let Some(then) = &mut self.then else { return Err(io::ErrorKind::NotConnected.into()) };
        let then = RefCell::new(match then {
            Stream::Tls(tls) => tls.below_mut(), // the header comes before the handshake
            plain => plain,
        });
        self.header.read(|into| then.borrow().peek(into), |into| then.borrow_mut().read(into))
    }
}

/// The bytes of a header so far.
#[derive(Default)]
struct Header {
    bytes: Vec<u8>,
}

impl Header {
    /// `peek` shows what the next `read` gives.
    fn read(
        &mut self,
        mut peek: impl FnMut(&mut [u8]) -> io::Result<usize>,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Introduced> {
        loop {
            let before = self.bytes.len();
            self.bytes.resize(before + PIECE_BYTES, 0);
            let peeked = retried(|| peek(&mut self.bytes[before..]));
            self.bytes.truncate(before + peeked.as_ref().map_or(0, |count| *count));
            if peeked? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step =
                decode(&self.bytes).map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem));
            // Of what is not wrong, everything up to the header's end is the header's.
            let (taken, whom) = match step? {
                Step::NeedMore => (self.bytes.len(), None),
                Step::Header { whom, consumed } => (consumed, Some(whom)),
            };
            let mut at = before;
            while at < taken {
                match retried(|| read(&mut self.bytes[at..taken])) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(count) => at += count,
                    Err(error) => {
                        self.bytes.truncate(at); // the rest was only peeked at
                        return Err(error);
                    }
                }
            }
            self.bytes.truncate(taken);
            if let Some(whom) = whom {
                return Ok(whom);
            }
        }
    }
}

fn retried(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn ip(text: &str) -> Introduced {
        Introduced::Client(Address::Ip(text.parse().expect("an address and a port")))
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

    fn right() -> Vec<(Vec<u8>, Introduced)> {
        let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                       ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        let unknown = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX - 16));
        assert_eq!(unknown.len(), LINE_BYTES_MAX);
        vec![
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n".to_vec(), ip("192.0.2.1:4711")),
            (b"PROXY TCP4 255.255.255.255 0.0.0.0 0 65535\r\n".to_vec(), ip("255.255.255.255:0")),
            (b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n".to_vec(), ip("[2001:db8::1]:4711")),
            (longest.into(), ip("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Introduced::Somebody),
            (unknown.into(), Introduced::Somebody),
            (binary(0x21, 0x11, &v4()), ip("192.0.2.1:4711")),
            (binary(0x21, 0x11, &with_extensions(v4(), 500)), ip("192.0.2.1:4711")),
            (binary(0x21, 0x21, &v6()), ip("[2001:db8::1]:4711")),
            (binary(0x21, 0x21, &with_extensions(v6(), 4096 - 16 - 36)), ip("[2001:db8::1]:4711")),
            (binary(0x21, 0x31, &[b'/'; 216]), Introduced::Client(Address::Unix)),
            (binary(0x21, 0x00, &[]), Introduced::Somebody),
            (binary(0x21, 0x00, &[1, 2, 3]), Introduced::Somebody),
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
        for (header, whom) in right() {
            let mut bytes = header.clone();
            bytes.extend_from_slice(b"PROXY \r\n\r\n\0"); // the client's
            for end in 0..header.len() {
                assert_eq!(decode(&bytes[..end]), Ok(Step::NeedMore), "{end} of {header:?}");
            }
            for end in header.len()..=bytes.len() {
                assert_eq!(decode(&bytes[..end]), Ok(Step::Header { whom, consumed: header.len() }));
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

    /// Bytes that come in pieces; between two of them, a read would block.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Pieces {
        fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.front() {
                None => Ok(0),
                Some(piece) if piece.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
                Some(piece) => (&piece[..]).read(into),
            }
        }

        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.peek(into)?;
            self.0[0].drain(..count);
            Ok(count)
        }
    }

    /// Reads a header that comes split at these places; gives what is left in the stream.
    fn read_in_pieces(bytes: &[u8], mut cuts: Vec<usize>) -> (io::Result<Introduced>, Vec<u8>) {
        cuts.sort_unstable();
        let mut pieces = VecDeque::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            pieces.push_back(bytes[from..cut].to_vec());
            from = cut;
        }
        let pieces = std::cell::RefCell::new(Pieces(pieces));
        let mut header = Header::default();
        loop {
            let outcome =
                header.read(|into| pieces.borrow().peek(into), |into| pieces.borrow_mut().read(into));
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    pieces.borrow_mut().0.pop_front(); // the next one arrives
                }
                outcome => return (outcome, pieces.into_inner().0.into_iter().flatten().collect()),
            }
        }
    }

    #[test]
    fn split_in_every_place_it_is_read_and_nothing_behind_it() {
        for (header, whom) in right() {
            let mut bytes = header.clone();
            bytes.extend_from_slice(b"hello");
            for cut in 0..=bytes.len() {
                let (outcome, left) = read_in_pieces(&bytes, vec![cut]);
                assert_eq!((outcome.expect("a header"), &left[..]), (whom, &b"hello"[..]));
            }
        }
    }

    #[test]
    fn a_read_that_would_block_after_its_peek_repeats_nothing_of_the_header() {
        for (header, whom) in right() {
            let bytes = [&header[..], b"hello"].concat();
            let pieces = std::cell::RefCell::new(Pieces([bytes].into()));
            let (mut parsed, mut reads) = (Header::default(), 0);
            let outcome = loop {
                let read = |into: &mut [u8]| {
                    reads += 1;
                    match reads % 2 {
                        0 => pieces.borrow_mut().read(&mut into[..1]),
                        _ => Err(io::ErrorKind::WouldBlock.into()),
                    }
                };
                match parsed.read(|into| pieces.borrow().peek(into), read) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    outcome => break outcome,
                }
            };
            assert_eq!((outcome.expect("a header"), &pieces.borrow().0[0][..]), (whom, &b"hello"[..]));
        }
    }

    #[test]
    fn bytes_that_end_inside_a_header_are_no_header() {
        for (header, _) in right() {
            for end in 0..header.len() {
                let (outcome, _) = read_in_pieces(&header[..end], vec![]);
                assert_eq!(outcome.map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn however_it_is_cut(which in 0..16usize, cuts in prop::collection::vec(0..200usize, 0..12)) {
            let (mut bytes, whom) = right().swap_remove(which);
            bytes.extend_from_slice(b"hello");
            let cuts = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            let (outcome, left) = read_in_pieces(&bytes, cuts);
            prop_assert_eq!((outcome.expect("a header"), &left[..]), (whom, &b"hello"[..]));
        }

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
