//! The real server against the floor.
//!
//! The floor is the least that an echo server can do: wait, read, write back (`floor/server.rs`). Whatever the real server
//! costs above it is the price of its limits, halves, timers and seams, and this bench exists to name that price. It starts
//! both as processes of their own, drives both with the same generator over loopback, turn about, and prints the ratio.
//!
//! It doesn't judge: a target that is missed is printed as missed, since a shared machine has bad days. It fails (one line,
//! exit code 1) only when a server doesn't do what an echo server must: every byte back, in order, within five seconds.
//!
//! ```text
//! cargo bench --bench floor                                    everything: about six minutes
//! cargo bench --bench floor -- --only echo64x64,churn          some of it
//! cargo bench --bench floor -- --quick                         does it run at all? (what CI asks)
//! cargo bench --bench floor -- --a floor                       the floor against itself: what the noise is today
//! cargo bench --bench floor -- --a 'switchboard serve echo --listen tcp://127.0.0.1:0 --idle-after 10s'
//! cargo bench --bench floor -- --callgrind                     instructions per echo, under valgrind
//! cargo bench --bench floor -- --syscalls                      system calls per echo, under strace
//! ```
//!
//! One executable plays every part by starting itself again: `serve` is the floor, `drive` the generator, `leashed` the step
//! before a foreign command; with no role it is the conductor. Reading order: `server`, `scenarios`, `generator`, `drives`,
//! `conductor`.

#[cfg(target_os = "linux")]
#[path = "floor"]
mod floor {
    pub(crate) mod server;

    pub(crate) mod scenarios;

    pub(crate) mod generator;

    pub(crate) mod drives;

    pub(crate) mod conductor;

    pub(crate) mod counting;

    mod table;

    pub(crate) mod children;

    mod histogram;

    mod process;

    /// Everything here either works or ends the bench with one line for a person to read.
    pub(crate) type Outcome<T> = Result<T, String>;
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use floor::{children, conductor, drives, server};

    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.split_first() {
        Some((role, _)) if role == "serve" => server::serve(),
        Some((role, rest)) if role == "drive" => drives::drive(rest),
        Some((role, rest)) if role == "leashed" => children::become_leashed(rest),
        _ => conductor::conduct(&words),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("floor: {why}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("floor: measures with epoll and /proc, so on Linux only; nothing to do here");
}
