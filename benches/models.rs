//! The models side by side: the same echo, the same callers, eight ways to wait.
//!
//! The ladder's rungs from one blocking socket to the reactor, the floor (the least that an epoll server can do) and
//! `switchboard serve` do the same work in turn, each in a process of its own, release-built. What differs is how they wait,
//! and this bench shows what that costs: in messages per second, in how long a reply takes, in CPU time, memory and context
//! switches, over the number of connections.
//!
//! How, in this order (`measure` below is this list):
//!
//! 1. **The roll call.** All connect, and each sends one word: how many get it back? One client at a time serves one of 64,
//!    and `select` can't see descriptors from FD_SETSIZE up. Who doesn't serve all has no figures there.
//! 2. **Throughput.** A closed loop, one message in flight on each connection that talks: as fast as it goes.
//! 3. **The equal rate.** Half of what the slowest of them reached (an eighth, where one talks alone), offered to all of them on a schedule. Only so can latencies
//!    be compared: at full speed the faster server is asked more, and has the longer queue. CPU per message, memory and
//!    context switches are of this step, too.
//!
//! Once with all connections talking, and once with nine in ten of them silent. Rounds are interleaved, first all models, then all
//! of them again: what a busy machine does to one it does to the others. What is shown is the median, and from where to
//! where the rounds went. Each measurement gets a fresh server, the server has a core to itself, and so has the generator,
//! which is `switchboard bench` and checks every reply.
//!
//! It doesn't judge: no figure makes it fail. It fails (one line, exit code 1) when something can't be started, and when a reply
//! was wrong. Its invariant: whatever happens to it, no process of its own stays behind.
//!
//! ```text
//! cargo bench --bench models                                            everything: some ten minutes
//! cargo bench --bench models -- --only poll,epoll --connections 1000    some of it
//! cargo bench --bench models -- --quick                                 does it run at all? (what CI asks)
//! ```
//!
//! A table goes to standard output, and to the target directory `models.json` (all figures), `models.html` (the page) and
//! `models.svg` (the picture in the README). One executable plays three parts by starting itself again: `serve` is the floor,
//! `leashed` the step before every other program; with no role it is the bench. Reading order: `options`, `ladder`, `stage`,
//! `roll_call`, `findings`, `measures`, `tables`, `charts`, `outputs`.

#[cfg(target_os = "linux")]
#[path = "models"]
mod models {
    pub(crate) mod options;

    pub(crate) mod ladder;

    pub(crate) mod stage;

    pub(crate) mod roll_call;

    pub(crate) mod findings;

    pub(crate) mod measures;

    pub(crate) mod tables;

    pub(crate) mod charts;

    pub(crate) mod outputs;

    pub(crate) use super::floor::Outcome;
}

/// What the bench `floor` has already: the floor itself, children that are never left behind, figures from /proc.
#[cfg(target_os = "linux")]
#[path = "floor"]
#[allow(dead_code, reason = "the rest of it is used over there")]
mod floor {
    pub(crate) mod server;

    pub(crate) mod children;

    pub(crate) mod process;

    pub(crate) mod table;

    /// Everything here either works or ends the bench with one line for a person to read.
    pub(crate) type Outcome<T> = Result<T, String>;
}

#[cfg(target_os = "linux")]
use {
    models::Outcome,
    models::findings::{Cell, Findings, Row},
    models::ladder::{self, Entrant},
    models::options::{Options, Shape},
    models::stage::{Load, Pace, Stage},
    models::{outputs, roll_call, tables},
    std::process::ExitCode,
    switchboard::load::figures,
};

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.split_first() {
        Some((role, _)) if role == "serve" => floor::server::serve(),
        Some((role, rest)) if role == "leashed" => models::stage::become_leashed(rest),
        _ => match Options::parse(&words) {
            Ok(Some(options)) => compare(&options),
            Ok(None) => Ok(()),
            Err(why) => {
                eprintln!("models: {why}");
                return ExitCode::from(2);
            }
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("models: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Cell by cell. What is found is written down each time.
#[cfg(target_os = "linux")]
fn compare(options: &Options) -> Outcome<()> {
    let entrants = ladder::entrants(&options.models)?;
    let stage = Stage::new()?;
    let mut findings = Findings::new(options, &stage);
    for &connections in &options.connections {
        let served = call_the_roll(&entrants, connections, &stage)?;
        for shape in Shape::of(connections) {
            findings.cells.push(measure(&entrants, &served, shape, options, &stage)?);
            outputs::write(&findings)?;
        }
    }
    print!("{}", tables::markdown(&findings));
    eprintln!("models.json, models.html and models.svg are in {}", outputs::folder().display());
    findings.judged()
}

/// How many connections each of them serves at once.
#[cfg(target_os = "linux")]
fn call_the_roll(entrants: &[Entrant], connections: usize, stage: &Stage) -> Outcome<Vec<usize>> {
    let served = |entrant: &Entrant| {
        let server = stage.start(entrant).map_err(|why| format!("{}: {why}", entrant.model.name))?;
        let served = roll_call::served(&server.address, connections)?;
        eprintln!("{connections} connections, {}: {served} served", entrant.model.name);
        Ok(served)
    };
    entrants.iter().map(served).collect()
}

/// One cell: as fast as it goes, and then at a rate that is the same for all.
#[cfg(target_os = "linux")]
fn measure(
    entrants: &[Entrant],
    served: &[usize],
    shape: Shape,
    options: &Options,
    stage: &Stage,
) -> Outcome<Cell> {
    let rows = entrants.iter().zip(served).map(|(entrant, served)| Row::new(entrant.model, *served, shape));
    let mut cell = Cell { shape, offered_per_s: None, rows: rows.collect() };
    interleaved(entrants, &mut cell, Pace::FullSpeed, options, stage);
    cell.offered_per_s = cell.part_of_the_slowest();
    if let Some(rate) = cell.offered_per_s {
        interleaved(entrants, &mut cell, Pace::PerSecond(rate), options, stage);
    }
    cell.some_were_measured().map(|()| cell)
}

/// All models, then all of them again. Whose measurement fails is left out from there on; the others go on.
#[cfg(target_os = "linux")]
fn interleaved(entrants: &[Entrant], cell: &mut Cell, pace: Pace, options: &Options, stage: &Stage) {
    let rounds = options.rounds;
    let load = Load { shape: cell.shape, pace, seconds: options.seconds };
    // Where something else has the cores, a short run may come to nothing.
    let longer = Load { seconds: 5.0 * load.seconds, ..load };
    for round in 1..=rounds {
        for (entrant, row) in entrants.iter().zip(&mut cell.rows) {
            if row.absent.is_some() {
                continue;
            }
            let at = format!("{}, {pace}, round {round}/{rounds}, {}", cell.shape, entrant.model.name);
            let measured = stage.measure(entrant, load).or_else(|why| {
                eprintln!("{at}: {why}; once more, and longer");
                stage.measure(entrant, longer)
            });
            match measured {
                Ok(found) => {
                    eprintln!("{at}: {}", figures::rate(found.per_s));
                    row.add(pace, found);
                }
                Err(why) => {
                    eprintln!("{at}: {why}");
                    row.fail(why);
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("models: measures with epoll and /proc, so on Linux only; nothing to do here");
}
