//! Where a measurement takes place: a server on one core, the generator on another, and both gone at the end.
//!
//! Each child dies with us, whatever ends us: it is ended when its owner is dropped, which a panic does, too, and by the
//! kernel when we are ended in a way that drops nothing. Ctrl-C reaches all of us at once.

use super::Outcome;
use super::findings::Figures;
use super::ladder::{Entrant, SWITCHBOARD};
use super::options::Shape;
use crate::floor::children::{self, Errors, Minded, Scratch};
use crate::floor::process;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::unistd::Pid;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use switchboard::load::figures;
use switchboard::load::report::Report;

/// Long enough for a struct and short enough that the bytes themselves cost nothing.
pub(crate) const MESSAGE_BYTES: usize = 64;
/// Cut off before measuring: the first messages find cold caches, and threads that have not run yet.
pub(crate) const WARM_UP: Duration = Duration::from_millis(200);
/// A server says that it is ready within this.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Nobody is connected any more when a server is asked to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// On top of what it is asked to take, for connecting and its own look around. A bound, not an expectation.
const GENERATOR_MARGIN: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    scratch: Scratch,
    cores: Option<Cores>,
}

struct Cores {
    server: usize,
    generator: usize,
}

/// What a server has to bear.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) shape: Shape,
    pub(crate) pace: Pace,
    pub(crate) seconds: f64,
}

/// How the generator asks.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// The next message when the reply to the last is there.
    FullSpeed,
    /// This many per second, on a schedule.
    PerSecond(f64),
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::FullSpeed => f.write_str("full speed"),
            Pace::PerSecond(rate) => write!(f, "{}/s offered", figures::count(*rate as u64)),
        }
    }
}

impl Stage {
    pub(crate) fn new() -> Outcome<Self> {
        let cores = match process::allowed_cores()[..] {
            [server, generator, ..] => Some(Cores { server, generator }),
            _ => None,
        };
        // The children inherit it. That it stays as it is shows when it is reached.
        if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
        Ok(Self { scratch: Scratch::new()?, cores })
    }

    pub(crate) fn shown(&self) -> String {
        match &self.cores {
            Some(Cores { server, generator }) => {
                format!("server on core {server}, generator on core {generator}")
            }
            None => "one core for both, so rates and latencies mean little".into(),
        }
    }

    /// A fresh server, one load, its figures.
    pub(crate) fn measure(&self, entrant: &Entrant, load: Load) -> Outcome<Figures> {
        let mut server = self.start(entrant)?;
        let report = self.drive(&server, load).map_err(|why| server.last_words().unwrap_or(why))?;
        Figures::of(&report, server.stop())
    }

    pub(crate) fn start(&self, entrant: &Entrant) -> Outcome<Server> {
        let log = self.scratch.file("server.log");
        let words = leashed(self.cores.as_ref().map(|cores| cores.server), &entrant.command)?;
        let mut server =
            Server { process: Minded::start(&words, Errors::To(&log))?, address: String::new(), log };
        match server.process.await_line("listening on tcp://", READY_WITHIN) {
            Ok(address) => server.address = address,
            Err(why) => {
                return Err(server.last_words().unwrap_or(format!("the server is not ready: {why}")));
            }
        }
        Ok(server)
    }

    fn drive(&self, server: &Server, Load { shape, pace, seconds }: Load) -> Outcome<Report> {
        let file = self.scratch.file("report.json");
        // A report that is there afterwards is this run's.
        let _ = fs::remove_file(&file);
        let mut words = vec![SWITCHBOARD.to_string(), "bench".into(), format!("tcp://{}", server.address)];
        let mut option = |name: &str, value: String| words.extend([name.to_string(), value]);
        option("--connections", shape.active.to_string());
        if shape.idle() > 0 {
            option("--idle", shape.idle().to_string());
        }
        option("--depth", "1".into());
        if let Pace::PerSecond(rate) = pace {
            option("--rate", format!("{rate:.0}"));
        }
        option("--size", MESSAGE_BYTES.to_string());
        option("--warmup", format!("{}ms", WARM_UP.as_millis()));
        option("--duration", format!("{:.0}ms", 1e3 * seconds));
        option("--server-pid", server.process.pid().to_string());
        if let Some(cores) = &self.cores {
            option("--pin", cores.generator.to_string());
        }
        option("--json", file.display().to_string());
        // Half a second each time to learn what it could do at most is more than all rounds have to spare.
        words.extend(["--no-self-test".into(), "--quiet".into()]);

        let mut generator = Minded::start(&leashed(None, &words)?, Errors::WithOutput)?;
        let ended = generator.hear_out(GENERATOR_MARGIN + Duration::from_secs_f64(seconds));
        // It fails when a reply was wrong, and reports all the same. Only without a report is there nothing to show.
        let Ok(text) = fs::read_to_string(&file) else {
            return Err(ended.err().unwrap_or("the generator wrote no report".into()));
        };
        serde_json::from_str(&text).map_err(|error| format!("the generator's report: {error}"))
    }
}

pub(crate) struct Server {
    process: Minded,
    pub(crate) address: String,
    log: PathBuf,
}

impl Server {
    /// Ends it, and returns how often the kernel took the core from one of its threads or was given it.
    ///
    /// The kernel adds that up over all threads, those that have ended, too, and returns the sum to the parent that waits for the process:
    /// better than looking into /proc in time, where a thread that ends takes its count with it.
    fn stop(mut self) -> Option<u64> {
        let before = switches_of_ended_children();
        // One that would rather stay is ended by force when it is dropped.
        let _ = self.process.stop(STOP_WITHIN);
        drop(self.process);
        Some(switches_of_ended_children()? - before?)
    }

    /// If it has ended: how, and the last thing that it wrote about it.
    fn last_words(&mut self) -> Option<String> {
        // A moment, so that an exit that broke a connection is seen as an exit.
        std::thread::sleep(Duration::from_millis(100));
        let status = self.process.ended()?;
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last =
            log.lines().rev().find(|line| !line.trim().is_empty()).map_or("it said nothing", str::trim);
        Some(format!("the server ended ({status}): {last}"))
    }
}

fn switches_of_ended_children() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    u64::try_from(usage.voluntary_context_switches() + usage.involuntary_context_switches()).ok()
}

/// How many descriptors a process may have, at most.
pub(crate) fn descriptors_max() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard as usize)
}

/// What may run on any core.
const ANY_CORE: &str = "any";

/// The words that start a command by way of `become_leashed`.
fn leashed(core: Option<usize>, command: &[String]) -> Outcome<Vec<String>> {
    let mut words = children::this_executable("leashed")?.to_vec();
    words.push(core.map_or(ANY_CORE.into(), |core| core.to_string()));
    words.extend_from_slice(command);
    Ok(words)
}

/// The role `leashed`: move to a core, then become a command that ends when our parent does.
pub(crate) fn become_leashed(words: &[String]) -> Outcome<()> {
    let (core, command) = words.split_first().ok_or("leashed: on which core?")?;
    if core != ANY_CORE {
        let core = core.parse().map_err(|_| format!("leashed: `{core}` is no core"))?;
        let mut set = CpuSet::new();
        set.set(core)
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
            .map_err(|error| format!("cannot run on core {core}: {error}"))?;
    }
    children::become_leashed(command)
}
