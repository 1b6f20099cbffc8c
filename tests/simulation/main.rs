//! A simulation of the loop and of the server: its clients, its kernel and its clock are made up, and drawn from a seed.
//!
//! A hand-written test checks a case that its author thought of. A simulation needs no such idea: each seed is a world with
//! other limits, other faults and another order of events, and after each turn of the loop all invariants are checked. See
//! README.md in this folder.
//!
//! ```console
//! $ SIMULATION_SEED=17 cargo test --test simulation
//! $ SIMULATION_FOR=10m cargo test --test simulation -- --ignored
//! ```

#[path = "../support/dice.rs"]
mod dice;
mod host;
mod kernel;
mod story;
#[cfg(all(feature = "web", feature = "tls"))]
mod talk;
#[cfg(all(feature = "web", feature = "tls"))]
mod town;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use kernel::{Call, Torture};
use story::Story;
use world::World;

/// What the plain test command looks at.
const SEEDS: u64 = 1000;

/// Runs the world of this seed. Returns its story and its number of turns. Every fourth seed is a town.
fn live(seed: u64) -> (Story, u64) {
    #[cfg(all(feature = "web", feature = "tls"))]
    if seed % 4 == 3 {
        let town = run_with_story(seed, town::Town::new(seed), town::Town::run, |town| &town.story);
        return (town.story, town.turns);
    }
    let world = run_with_story(seed, World::new(seed), World::run, |world| &world.story);
    (world.story, world.turns)
}

/// Runs a world. If it fails, prints its story and the command that runs it again.
fn run_with_story<W>(seed: u64, mut world: W, run: fn(&mut W), story: fn(&W) -> &Story) -> W {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&mut world))) {
        let story = story(&world);
        let is_asked_for = asked("SIMULATION_SEED").is_some();
        eprintln!("{}", if is_asked_for { story.whole() } else { story.end() });
        eprintln!("SIMULATION_SEED={seed} cargo test --test simulation");
        std::mem::forget(world); // its invariants are broken
        resume_unwind(panic);
    }
    world
}

fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[test]
fn every_promise_is_kept_in_a_thousand_worlds() {
    match asked("SIMULATION_SEED") {
        Some(seed) => drop(live(seed.parse().expect("SIMULATION_SEED is a number"))),
        None => (0..SEEDS).for_each(|seed| drop(live(seed))),
    }
}

#[test]
fn the_same_seed_is_the_same_world_byte_for_byte() {
    for seed in 0..20 {
        assert!(live(seed).0.whole() == live(seed).0.whole(), "seed {seed}");
    }
}

/// How many calls of each kind are made to fail, one at a time, spread evenly over all calls of that kind.
const CALLS_TRIED: u64 = 12;

/// One call fails, with each error of its manual page, and all other guests are served as usual. curl calls such tests
/// torture.
#[test]
fn whichever_call_fails_nobody_else_is_the_worse_for_it() {
    for seed in 0..2 {
        torture(seed, World::tortured, World::run, |world| (&world.story, world.kernel().calls.clone()));
        #[cfg(all(feature = "web", feature = "tls"))]
        torture(seed, town::Town::tortured, town::Town::run, |town| {
            (&town.story, town.kernel().calls.clone())
        });
    }
}

fn torture<W>(
    seed: u64,
    new: fn(u64, Option<Torture>) -> W,
    run: fn(&mut W),
    look: fn(&W) -> (&Story, BTreeMap<Call, u64>),
) {
    let mut calm = new(seed, None);
    run(&mut calm);
    for (call, count) in look(&calm).1 {
        let step = count.div_ceil(CALLS_TRIED).max(1);
        for number in (1..=count).step_by(step as usize) {
            for errno in call.errors().iter().copied() {
                let mut world = new(seed, Some(Torture { call, number, errno }));
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&mut world))) {
                    eprintln!("seed {seed}, where the {call:?} number {number} fails with errno {errno}");
                    std::mem::forget(world);
                    resume_unwind(panic);
                }
            }
        }
    }
}

/// Begins at a different seed each time, and in each process: several that start together must not live the same worlds.
#[test]
#[ignore = "for as long as SIMULATION_FOR says"]
fn worlds_for_as_long_as_is_asked() {
    let time = dice::time_of("SIMULATION_FOR", Duration::from_secs(60));
    let own = u64::from(std::process::id()) << 44;
    let (first, began) = ((dice::seed_of_now() << 20).wrapping_add(own), Instant::now());
    let (mut seeds, mut turns) = (0, 0);
    while began.elapsed() < time {
        turns += live(first.wrapping_add(seeds)).1;
        seeds += 1;
    }
    let per_s = turns as f64 / began.elapsed().as_secs_f64();
    println!("{seeds} worlds, from seed {first} on; {turns} turns, {per_s:.0} a second");
}
