//! The relay's messages, as datagrams and as binary WebSocket messages: see the [guide](crate::guide::relay) for the layout.
//!
//! Everything from a client is exactly [`MESSAGE_BYTES`] long, and so is every answer but the state of the world. Numbers are
//! big-endian.
//!
//! Invariant: the kinds that a client sends and the kinds that the relay sends have none in common. The relay answers the
//! former alone, so no answer of one relay gets an answer from another, whatever sender was forged.

/// The length of what clients send.
pub const MESSAGE_BYTES: usize = 24;

/// The first bytes: `SB`, and the version.
const MAGIC: [u8; 3] = [b'S', b'B', 1];

/// What one of the others takes in the state of the world.
pub(super) const SIGHT_BYTES: usize = 8;

/// Where somebody is: the world is as wide as 16 bits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) x: u16,
    pub(super) y: u16,
}

impl Position {
    /// The distance, squared.
    pub(super) fn from(self, other: Position) -> u64 {
        let (dx, dy) = (u64::from(self.x.abs_diff(other.x)), u64::from(self.y.abs_diff(other.y)));
        dx * dx + dy * dy
    }
}

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It wants a token; the number comes back with it.
    Hello { number: u32 },
    /// It is there now, and repeats the nonce of the last state that it has received.
    Update { token: u64, sequence: u32, at: Position, seen: u32 },
    /// It goes.
    Bye { token: u64 },
}

/// Why a client is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Refusal {
    /// What it sent is none of [`Said`]. Over WebSocket alone: see [`parse`].
    NotUnderstood = 1,
    /// The token is not of its address, or old: it is to say hello again.
    Token = 2,
    /// There is no room for one more.
    Full = 3,
}

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const UPDATE: u8 = 3;
const STATE: u8 = 4;
const BYE: u8 = 5;
const REFUSAL: u8 = 6;

/// `None` for everything that no client sends. As a datagram that gets no answer: it could be an answer itself, of a relay or
/// of another server, and two servers would answer each other for ever (CVE-2024-2169).
pub(super) fn parse(bytes: &[u8]) -> Option<Said> {
    let bytes: &[u8; MESSAGE_BYTES] = bytes.try_into().ok()?;
    if bytes[..3] != MAGIC {
        return None;
    }
    let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let u16_at = |at: usize| u16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"));
    let token = u64::from(u32_at(4)) << 32 | u64::from(u32_at(8));
    match bytes[3] {
        HELLO => Some(Said::Hello { number: u32_at(12) }),
        UPDATE => Some(Said::Update {
            token,
            sequence: u32_at(12),
            at: Position { x: u16_at(16), y: u16_at(18) },
            seen: u32_at(20),
        }),
        BYE => Some(Said::Bye { token }),
        _ => None,
    }
}

fn message(kind: u8, token: u64, words: [u32; 3]) -> [u8; MESSAGE_BYTES] {
    let mut bytes = [0; MESSAGE_BYTES];
    bytes[..3].copy_from_slice(&MAGIC);
    bytes[3] = kind;
    bytes[4..12].copy_from_slice(&token.to_be_bytes());
    for (word, place) in words.iter().zip(bytes[12..].chunks_exact_mut(4)) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// The answer to a hello: the token, and how often in a second the world is told.
pub(super) fn welcome(token: u64, number: u32, ticks_per_s: u32) -> [u8; MESSAGE_BYTES] {
    message(WELCOME, token, [number, ticks_per_s, 0])
}

pub(super) fn refusal(why: Refusal) -> [u8; MESSAGE_BYTES] {
    message(REFUSAL, 0, [why as u32, 0, 0])
}

/// The bytes of a state before those of the others.
pub(super) const STATE_HEAD_BYTES: usize = 28;

/// What a client is told of the world in one tick, before those that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StateHead {
    /// Who it is itself.
    pub(super) id: u32,
    pub(super) tick: u32,
    /// The last update that was heard of it, and how long before this tick, in units of 0.1 ms.
    pub(super) heard: u32,
    pub(super) held: u16,
    /// How late the tick was, in microseconds.
    pub(super) late_us: u32,
    /// Only who has received this state can repeat it.
    pub(super) nonce: u32,
}

/// Begins the state of the world in `bytes`; those in sight are appended with [`put_sight`].
pub(super) fn begin_state(head: &StateHead, count: usize, bytes: &mut Vec<u8>) {
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    bytes.clear();
    bytes.extend_from_slice(&MAGIC);
    bytes.push(STATE);
    bytes.extend_from_slice(&head.id.to_be_bytes());
    bytes.extend_from_slice(&head.tick.to_be_bytes());
    bytes.extend_from_slice(&head.heard.to_be_bytes());
    bytes.extend_from_slice(&head.held.to_be_bytes());
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(&head.late_us.to_be_bytes());
    bytes.extend_from_slice(&head.nonce.to_be_bytes());
}

pub(super) fn put_sight(id: u32, at: Position, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&at.x.to_be_bytes());
    bytes.extend_from_slice(&at.y.to_be_bytes());
}

/// Whether one number comes after another. Behind the last number they start again at 0 (RFC 1982).
pub(super) fn is_after(one: u32, other: u32) -> bool {
    one != other && one.wrapping_sub(other) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_of_one_length_and_kind() {
        let hello = message(HELLO, 0, [7, 0, 0]);
        assert_eq!(parse(&hello), Some(Said::Hello { number: 7 }));
        for len in (0..MESSAGE_BYTES).chain([MESSAGE_BYTES + 1, 100, 65_507]) {
            let mut bytes = hello.to_vec();
            bytes.resize(len, 0);
            assert_eq!(parse(&bytes), None, "{len} bytes");
        }
        for (at, byte) in [(0, b's'), (1, 0), (2, 2), (3, 0), (3, WELCOME), (3, STATE), (3, 255)] {
            let mut bytes = hello;
            bytes[at] = byte;
            assert_eq!(parse(&bytes), None, "{byte} at {at}");
        }
        let update = message(UPDATE, 0x0102_0304_0506_0708, [9, 0x1111_2222, 10]);
        let at = Position { x: 0x1111, y: 0x2222 };
        assert_eq!(
            parse(&update),
            Some(Said::Update { token: 0x0102_0304_0506_0708, sequence: 9, at, seen: 10 })
        );
    }

    #[test]
    fn numbers_begin_anew() {
        assert!(is_after(1, 0) && is_after(0, u32::MAX) && is_after(5, u32::MAX - 5));
        assert!(!is_after(0, 0) && !is_after(0, 1) && !is_after(u32::MAX, 0));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_one_of_them_or_none(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes);
            let mut right = bytes;
            right.resize(MESSAGE_BYTES, 0);
            right[..3].copy_from_slice(&MAGIC);
            let known = matches!(right[3], HELLO | UPDATE | BYE);
            prop_assert_eq!(parse(&right).is_some(), known);
        }
    }
}
