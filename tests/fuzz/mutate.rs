//! How a valid conversation is broken, and how it is sent: cut anywhere, slowly or at once, read or not, ended in each
//! of the ways in which a connection can end.

use std::time::Duration;

use crate::dice::Dice;
use crate::grammar::Piece;

/// What a client does, one act after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Say(Vec<u8>),
    /// One byte of TCP urgent data.
    Shout(u8),
    Wait(Duration),
    /// Our FIN (over TLS: close_notify and FIN).
    HalfClose,
    /// Stays, and reads in its own way.
    Stay(Duration),
    /// Ends the connection by a reset, where the transport knows that.
    Reset,
}

/// How a client takes what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    AsItComes,
    /// At most this many bytes at a time, with a pause between them.
    Slowly(usize),
    Never,
}

/// One client from its first act to its last; then it closes.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) acts: Vec<Act>,
    pub(crate) reading: Reading,
    /// The kernel holds little for it.
    pub(crate) small_buffers: bool,
    /// The last byte of its IPv4 address.
    pub(crate) address: u8,
}

/// Bytes that mean something somewhere.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b":",
    b" ",
    b"/",
    b"%",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\x80\x00",
    b"\x88\x00",
    b"\x01\x80",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"{",
    b"\"",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"GET / HTTP/1.1\r\n",
    b"PROXY ",
    b"\x16\x03\x01\x02\x00",
];

/// Breaks a conversation in a few places; one in three stays whole.
pub(crate) fn mutate(pieces: &mut Vec<Piece>, dice: &mut Dice) {
    if dice.one_in(3) {
        return;
    }
    for _ in 0..dice.between(1, 4) {
        if pieces.is_empty() {
            return;
        }
        let (at, other) = (dice.below(pieces.len()), dice.below(pieces.len()));
        match dice.below(11) {
            0 => flip(&mut pieces[at], dice),
            1 => drop(pieces.remove(at)),
            2 => pieces.insert(other, pieces[at].clone()),
            3 => pieces.swap(at, other),
            4 => pieces.truncate(at),
            5 => shorten(&mut pieces[at], dice),
            6 => insert(&mut pieces[at], dice.pick(TOKENS), dice),
            7 => {
                let count = dice.between(1, 20);
                let noise = dice.bytes(count);
                insert(&mut pieces[at], &noise, dice);
            }
            8 => change_number(&mut pieces[at], dice),
            9 => change_length(&mut pieces[at], dice),
            _ => {
                let times = dice.between(2, 100);
                pieces[at] = pieces[at][..pieces[at].len().min(1000)].repeat(times);
            }
        }
    }
}

fn flip(piece: &mut Piece, dice: &mut Dice) {
    let at = dice.below(piece.len());
    if let Some(byte) = piece.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
}

fn shorten(piece: &mut Piece, dice: &mut Dice) {
    let from = dice.below(piece.len());
    let to = dice.between(from, piece.len());
    piece.drain(from..to);
}

fn insert(piece: &mut Piece, bytes: &[u8], dice: &mut Dice) {
    let at = dice.below(piece.len() + 1);
    piece.splice(at..at, bytes.iter().copied());
}

/// A number in digits becomes one that is off by one, negative, or too large for its type.
fn change_number(piece: &mut Piece, dice: &mut Dice) {
    let Some(from) = piece.iter().position(u8::is_ascii_digit) else { return };
    let to = piece[from..]
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .map_or(piece.len(), |count| from + count);
    let number: i128 =
        std::str::from_utf8(&piece[from..to]).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let new = dice.pick(&[number - 1, number + 1, -number, 1 << 31, 1 << 32, i128::from(u64::MAX), 1 << 64]);
    piece.splice(from..to, new.to_string().into_bytes());
}

/// A length in bytes (a prefix, a frame's) becomes one that is off by one, or huge.
fn change_length(piece: &mut Piece, dice: &mut Dice) {
    let at = dice.below(piece.len().min(10));
    if let Some(byte) = piece.get_mut(at) {
        *byte = dice.pick(&[byte.wrapping_sub(1), byte.wrapping_add(1), 0xff, 0x7f, 0xfe, 0]);
    }
}

/// Decides how the pieces are sent.
pub(crate) fn perform(pieces: &[Piece], dice: &mut Dice) -> Script {
    let mut acts = Vec::new();
    let pause = dice.pick(&[0, 0, 0, 1, 5, 30]);
    match dice.below(5) {
        0 => acts.push(Act::Say(pieces.concat())),
        1 => acts.extend(pieces.iter().cloned().map(Act::Say)),
        how => {
            let all = pieces.concat();
            let largest = match how {
                2 => (all.len() / 3).max(1),
                3 => 100,
                _ => all.len().max(1),
            };
            let mut rest = &all[..];
            while !rest.is_empty() {
                let (part, behind) = rest.split_at(dice.between(1, largest).min(rest.len()));
                acts.push(Act::Say(part.to_vec()));
                // A conversation of many pieces is not slow as well: it would never end.
                if pause > 0 && acts.len() < 40 {
                    acts.push(Act::Wait(Duration::from_millis(dice.below(pause) as u64)));
                }
                rest = behind;
            }
        }
    }
    for _ in 0..dice.below(3) {
        let at = dice.below(acts.len() + 1);
        match dice.below(6) {
            0 => acts.insert(at, Act::Shout(dice.next() as u8)),
            1 => acts.insert(at, Act::HalfClose), // what follows is said in vain
            2 => acts.truncate(at),
            _ => acts.insert(at, Act::Wait(Duration::from_millis(dice.below(300) as u64))),
        }
    }
    let stay = Act::Stay(Duration::from_millis(dice.pick(&[1, 20, 100, 250, 600, 600, 1500])));
    match dice.below(6) {
        0 => acts.push(Act::Reset),
        1 => acts.extend([stay, Act::Reset]),
        2 | 3 => acts.extend([Act::HalfClose, stay]),
        4 => acts.push(stay),
        _ => {}
    }
    Script {
        acts,
        reading: match dice.below(8) {
            0 => Reading::Never,
            1 => Reading::Slowly(dice.between(1, 200)),
            _ => Reading::AsItComes,
        },
        small_buffers: dice.one_in(4),
        address: dice.between(2, 9) as u8,
    }
}
