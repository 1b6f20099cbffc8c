//! What services get from outside the loop: the time of day, and random numbers.
//!
//! Both are arguments, so that a simulation can set them. Then the same seed gives the same run, including the secrets of
//! members.

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::reactor::Moment;

/// The source of the time of day and of random numbers.
#[derive(Debug, Clone, Default)]
pub struct Ambient(Option<Simulated>);

#[derive(Debug, Clone)]
struct Simulated {
    start: SystemTime,
    seed: u64,
    drawn: Arc<AtomicU64>,
}

impl Ambient {
    /// The machine's clock, and secrets that clients cannot guess.
    pub fn machine() -> Ambient {
        Ambient(None)
    }

    /// For simulations: it was `start` when the loop's clock began, and all random numbers follow from the seed. Not for real
    /// secrets.
    pub fn simulated(start: SystemTime, seed: u64) -> Ambient {
        Ambient(Some(Simulated { start, seed, drawn: Arc::default() }))
    }

    /// Returns a source of random numbers that is independent of all others.
    pub(super) fn chance(&self) -> Chance {
        match &self.0 {
            None => Chance(Source::Drawn(RandomState::new())),
            Some(Simulated { seed, drawn, .. }) => {
                Chance(Source::Simulated([*seed, drawn.fetch_add(1, Ordering::Relaxed)]))
            }
        }
    }

    /// Returns the time of day at this moment of the loop's clock.
    pub(super) fn time(&self, now: Moment) -> SystemTime {
        match &self.0 {
            None => SystemTime::now(),
            Some(Simulated { start, .. }) => {
                // A simulated world may run for longer than a calendar goes.
                let passed = now.since(Moment::default()).min(Duration::from_secs(1 << 34));
                start.checked_add(passed).unwrap_or(UNIX_EPOCH)
            }
        }
    }
}

/// A keyed hash (SipHash). Without the key its values cannot be predicted.
#[derive(Debug, Clone)]
pub(super) struct Chance(Source);

#[derive(Debug, Clone)]
enum Source {
    /// With keys that the process has drawn at random.
    Drawn(RandomState),
    Simulated([u64; 2]),
}

impl BuildHasher for Chance {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        match &self.0 {
            Source::Drawn(state) => state.build_hasher(),
            Source::Simulated(key) => {
                let mut hasher = DefaultHasher::new();
                key.iter().for_each(|part| hasher.write_u64(*part));
                hasher
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_secrets_differ_and_those_of_a_seed_do_not() {
        let draw = |ambient: &Ambient| [ambient.chance().hash_one(1), ambient.chance().hash_one(1)];
        let drawn = draw(&Ambient::machine());
        assert!(drawn[0] != drawn[1] && drawn != draw(&Ambient::machine()));
        let drawn = draw(&Ambient::simulated(UNIX_EPOCH, 7));
        assert!(drawn[0] != drawn[1] && drawn == draw(&Ambient::simulated(UNIX_EPOCH, 7)));
        assert_ne!(drawn, draw(&Ambient::simulated(UNIX_EPOCH, 8)));
    }

    #[test]
    fn a_simulated_day_goes_on_with_the_loops_clock() {
        let ambient = Ambient::simulated(UNIX_EPOCH, 0);
        let day = Duration::from_secs(86_400);
        assert_eq!(ambient.time(Moment::at(day)), UNIX_EPOCH + day);
    }
}
