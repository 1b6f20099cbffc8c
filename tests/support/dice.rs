//! The dice of the fuzzers: a small generator of numbers (splitmix64), and what one wants to know from it.
//!
//! The same seed gives the same numbers on every machine. It is not for secrets.

#![allow(dead_code)] // each fuzzer uses its part of the verbs

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The stream with this number, of this seed. Streams of different numbers have nothing to do with each other.
    pub(crate) fn new(seed: u64, number: u64) -> Dice {
        let mut dice = Dice(seed);
        dice.0 = dice.next() ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        dice
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True once in `count` throws.
    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }

    /// Letters.
    pub(crate) fn word(&mut self, count: usize) -> String {
        self.bytes(count).iter().map(|byte| char::from(b'a' + byte % 26)).collect()
    }
}

/// FUZZ_SEED, if it is set.
pub(crate) fn seed_asked() -> Option<u64> {
    let text = std::env::var("FUZZ_SEED").ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("FUZZ_SEED={text:?} is no number")))
}

/// A seed that is another one each time.
pub(crate) fn seed_of_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// FUZZ_FOR, as in `90s` or `20m`, or else this time.
pub(crate) fn time_asked(otherwise: Duration) -> Duration {
    time_of("FUZZ_FOR", otherwise)
}

/// The same, by this variable.
pub(crate) fn time_of(variable: &str, otherwise: Duration) -> Duration {
    let Ok(text) = std::env::var(variable) else { return otherwise };
    let number: Option<u64> = text.trim_end_matches(['s', 'm', 'h']).parse().ok();
    let unit = match text.trim_start_matches(|c: char| c.is_ascii_digit()) {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    match (number, unit) {
        (Some(number), Some(unit)) => Duration::from_secs(unit * number),
        _ => panic!("{variable}={text:?} is no time: write 90s, 20m or 2h"),
    }
}
