//! Starts a server, starts the generator, keeps the figures, turn about: A B A B. Then the table.
//!
//! Each measurement gets a fresh server, so memory starts from nothing and one unlucky layout of it doesn't colour a whole
//! column. A and B alternate, and the ratio is taken pair by pair: what a busy machine does to one it does to its neighbour in
//! time, and the spread of the ratios says how much of a difference to believe.

use super::children::{self, Errors, Minded, Scratch};
use super::scenarios::{Figure, Job, SCENARIOS, Scenario, Show, Target};
use super::table::{Table, median, number};
use super::{Outcome, counting, process};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::time::Duration;

const HELP: &str = "\
cargo bench --bench floor -- [options]

  --only NAME,NAME...   these scenarios; a name stands for all that start with it (--list shows them)
  --rounds N            pairs of measurements per scenario (5)
  --seconds S           length of one measurement (2; never-read 3)
  --quick               one round, 0.2 seconds, fewer connections: does it run?
  --details             more rows: latencies, sleeps, the share of the kernel
  --a 'CMD ...'         the server under test; says `listening on tcp://HOST:PORT` when ready, ends on SIGTERM
  --b 'CMD ...'         the one beside it
                        the word `switchboard` or `floor` is this package's binary or the floor, alone: with its usual arguments
                        (defaults: --a switchboard --b floor; words are split at spaces, quotes mean nothing)
  --callgrind           instead: instructions per 64-byte echo in user space, by valgrind
  --syscalls            instead: system calls per 64-byte echo, by strace
";

/// A server says that it is ready within this; much longer under valgrind.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Nobody is connected any more when a server is asked to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// On top of what a job says it takes: connecting, warming up, memory coming back. A bound, not an expectation.
const JOB_MARGIN: Duration = Duration::from_secs(120);
/// Who uses more of its core than this has no more to give.
const SATURATED_PERCENT: f64 = 97.0;
/// In a closed loop one end or the other always has something to do; if neither gets this much, a third party does.
const DISTURBED_PERCENT: f64 = 80.0;

pub(crate) fn conduct(words: &[String]) -> Outcome<()> {
    let Some(options) = Options::parse(words)? else {
        return Ok(());
    };
    let stage = Stage::new()?;
    println!("{}; {}", process::machine(), stage.pinning);
    println!("A: {}", options.a.shown());
    println!("B: {}", options.b.shown());
    if cfg!(debug_assertions) {
        println!("(built without optimisation: this shows that it runs, not how fast)");
    }
    match options.mode {
        Mode::Measure => measure(&options, &stage),
        Mode::Callgrind => counting::instructions(&options, &stage),
        Mode::Syscalls => counting::system_calls(&options, &stage),
    }
}

pub(crate) struct Options {
    pub(crate) a: Contender,
    pub(crate) b: Contender,
    pub(crate) quick: bool,
    mode: Mode,
    only: Vec<String>,
    rounds: usize,
    seconds: Option<f64>,
    details: bool,
}

enum Mode {
    Measure,
    Callgrind,
    Syscalls,
}

/// A command that starts a server.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    /// As it was asked for.
    asked: String,
    words: Vec<String>,
}

fn measure(options: &Options, stage: &Stage) -> Outcome<()> {
    let limit = raise_descriptor_limit();
    match options.rounds {
        1 => println!("one measurement of each\n"),
        rounds => println!("medians of {rounds} measurements of each, turn about\n"),
    }
    let mut table = Table::new(&["scenario", "figure", "A", "B", "A/B [min..max]", "target"]);
    let mut warnings = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| options.wants(scenario.name)) {
        let mut job = scenario.job;
        job.seconds = options.seconds.unwrap_or(job.seconds);
        if options.quick {
            job = job.quick();
        }
        // The rest is for what any process has open.
        let idle_max = limit.saturating_sub(job.connections + 100);
        if job.idle > idle_max {
            warnings.push(format!(
                "{}: {idle_max} idle connections, not {}: that is what the descriptor limit allows",
                scenario.name, job.idle
            ));
            job.idle = idle_max;
        }
        let mut rounds = Vec::new();
        for round in 1..=options.rounds {
            let mut pair = Vec::new();
            for contender in [&options.a, &options.b] {
                let said = |why| format!("{}, round {round}, {}: {why}", scenario.name, contender.name);
                let figures = stage.run(contender, job).map_err(said)?;
                let first = &scenario.figures[0];
                eprintln!(
                    "{} {round}/{} {}: {} {}",
                    scenario.name,
                    options.rounds,
                    contender.name,
                    number(figures[first.key]),
                    first.label
                );
                pair.push(figures);
            }
            rounds.push(pair);
        }
        for (index, figure) in scenario.figures.iter().enumerate() {
            if figure.show != Show::Detail || options.details {
                table.row(row(if index == 0 { scenario.name } else { "" }, figure, &rounds));
            }
        }
        warnings.extend(saturation(scenario, &rounds));
    }
    table.print();
    println!();
    for warning in warnings {
        println!("{warning}");
    }
    Ok(())
}

/// Per round: the figures of A and those of B.
type Rounds = [Vec<HashMap<String, f64>>];

fn column(rounds: &Rounds, contender: usize, key: &str) -> Vec<f64> {
    rounds.iter().filter_map(|pair| pair[contender].get(key).copied()).collect()
}

fn row(name: &str, figure: &Figure, rounds: &Rounds) -> Vec<String> {
    let (a, b) = (column(rounds, 0, figure.key), column(rounds, 1, figure.key));
    let ratios: Vec<f64> = a.iter().zip(&b).filter(|(_, b)| **b > 0.0).map(|(a, b)| a / b).collect();
    let ratio = median(&ratios).filter(|_| figure.show != Show::Alone);
    let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = ratios.iter().copied().fold(0.0, f64::max);
    let shown = |value: Option<f64>| value.map_or("-".into(), number);
    vec![
        name.to_string(),
        figure.label.to_string(),
        shown(median(&a)),
        shown(median(&b)),
        ratio.map_or(String::new(), |ratio| format!("{ratio:.2} [{lowest:.2}..{highest:.2}]")),
        verdict(figure.target, median(&a), median(&ratios)),
    ]
}

/// What was asked, and whether it came out so.
pub(crate) fn verdict(target: Target, a: Option<f64>, ratio: Option<f64>) -> String {
    let (asked, met) = match target {
        Target::None => return String::new(),
        Target::RatioAtMost(most) => (format!("A/B <= {most}"), ratio.map(|ratio| ratio <= most)),
        Target::RatioAtLeast(least) => (format!("A/B >= {least}"), ratio.map(|ratio| ratio >= least)),
        Target::AtMost(most) => (format!("A <= {}", number(most)), a.map(|a| a <= most)),
        Target::Below(most) => (format!("A < {}", number(most)), a.map(|a| a < most)),
    };
    match met {
        Some(true) => format!("{asked}: met"),
        Some(false) => format!("{asked}: missed"),
        None => format!("{asked}: unknown"),
    }
}

/// Rates say something about a server only while it is the server that can't go faster.
fn saturation(scenario: &Scenario, rounds: &Rounds) -> Option<String> {
    let shares = |contender| {
        Some((
            median(&column(rounds, contender, "server_percent"))?,
            median(&column(rounds, contender, "generator_percent"))?,
        ))
    };
    let pair = [shares(0)?, shares(1)?];
    let advice = if pair.iter().any(|(server, generator)| server.max(*generator) < DISTURBED_PERCENT) {
        ": neither end could run as it liked, something else is using the cores, so measure again when it is quiet"
    } else if pair
        .iter()
        .any(|(server, generator)| *generator >= SATURATED_PERCENT && *server < SATURATED_PERCENT)
    {
        ": the generator is the bottleneck, so trust the CPU per unit and not the rate"
    } else {
        ""
    };
    let [a, b] = pair.map(|(server, generator)| format!("server {server:.0} %, generator {generator:.0} %"));
    Some(format!("{} (shares of a core): A {a}; B {b}{advice}", scenario.name))
}

/// Where the players stand: which core each runs on, and a place for their logs.
pub(crate) struct Stage {
    pub(crate) scratch: Scratch,
    pinning: String,
    server_prefix: Vec<String>,
    generator_prefix: Vec<String>,
}

impl Stage {
    fn new() -> Outcome<Self> {
        let cores = process::allowed_cores();
        let pin = |core: usize| vec!["taskset".to_string(), "-c".into(), core.to_string()];
        let has_taskset = runs("taskset", &["-c", &cores[0].to_string(), "true"]);
        let (pinning, server_prefix, generator_prefix) = match cores[..] {
            [server, generator, ..] if has_taskset => (
                format!("server on core {server}, generator on core {generator}"),
                pin(server),
                pin(generator),
            ),
            [_, _, ..] => ("not pinned to cores (no taskset)".into(), Vec::new(), Vec::new()),
            _ => ("one core for both, so rates and latencies mean little".into(), Vec::new(), Vec::new()),
        };
        Ok(Self { scratch: Scratch::new()?, pinning, server_prefix, generator_prefix })
    }

    /// One measurement: a fresh server, one job, its figures.
    fn run(&self, contender: &Contender, job: Job) -> Outcome<HashMap<String, f64>> {
        let mut server = self.start_server(contender, &[], READY_WITHIN)?;
        let output = self.drive(&mut server, job)?;
        // One that would rather stay is ended by force when it is dropped.
        let _ = server.process.stop(STOP_WITHIN);
        Ok(children::figures_in(&output))
    }

    /// `under` is the tool to run it in, if any.
    pub(crate) fn start_server(
        &self,
        contender: &Contender,
        under: &[String],
        ready_within: Duration,
    ) -> Outcome<Server> {
        let log = self.scratch.file("server.log");
        let mut words = self.server_prefix.clone();
        words.extend(children::this_executable("leashed")?);
        words.extend_from_slice(under);
        words.extend_from_slice(&contender.words);
        let mut server =
            Server { process: Minded::start(&words, Errors::To(&log))?, address: String::new(), log };
        match server.process.await_line("listening on tcp://", ready_within) {
            Ok(address) => server.address = address,
            Err(why) => {
                return Err(server.last_words().unwrap_or(format!("the server is not ready: {why}")));
            }
        }
        Ok(server)
    }

    pub(crate) fn drive(&self, server: &mut Server, job: Job) -> Outcome<String> {
        let mut words = self.generator_prefix.clone();
        words.extend(children::this_executable("drive")?);
        words.extend(job.to_words(&server.address, server.process.pid()));
        let mut generator = Minded::start(&words, Errors::WithOutput)?;
        let within = JOB_MARGIN.mul_f64(job.reply_within_seconds as f64 / 5.0)
            + Duration::from_secs_f64(4.0 * job.seconds);
        generator.hear_out(within).map_err(|why| server.last_words().unwrap_or(why))
    }
}

pub(crate) struct Server {
    pub(crate) process: Minded,
    address: String,
    log: std::path::PathBuf,
}

impl Server {
    /// If it has ended: how, and the last thing that it wrote about it.
    fn last_words(&mut self) -> Option<String> {
        // A moment, so that an exit that broke a connection is seen as an exit.
        std::thread::sleep(Duration::from_millis(100));
        let status = self.process.ended()?;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last =
            log.lines().rev().find(|line| !line.trim().is_empty()).map_or("it said nothing", str::trim);
        Some(format!("the server ended ({status}): {last}"))
    }
}

/// Whether a tool is there and does what it is asked.
pub(crate) fn runs(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// To what is allowed, for us and by inheritance for the children. Returns how many that is.
fn raise_descriptor_limit() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard as usize,
        Err(_) => soft as usize,
    }
}

impl Options {
    /// None if all that was asked was help.
    fn parse(words: &[String]) -> Outcome<Option<Self>> {
        let (mut a, mut b) = ("switchboard".to_string(), "floor".to_string());
        let (mut only, mut rounds, mut seconds) = (Vec::new(), None, None);
        let (mut quick, mut details, mut mode) = (cfg!(debug_assertions), false, Mode::Measure);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value =
                || words.next().cloned().ok_or(format!("{word} wants a value; --help says which"));
            match word.as_str() {
                "--a" => a = value()?,
                "--b" => b = value()?,
                "--only" => only.extend(value()?.split(',').map(str::to_string)),
                "--rounds" => rounds = Some(parsed(word, &value()?)?),
                "--seconds" => seconds = Some(parsed(word, &value()?)?),
                "--quick" => quick = true,
                "--details" => details = true,
                "--callgrind" => mode = Mode::Callgrind,
                "--syscalls" => mode = Mode::Syscalls,
                // What cargo adds to say that this is a bench.
                "--bench" => {}
                "--list" => {
                    SCENARIOS.iter().for_each(|scenario| println!("{}", scenario.name));
                    return Ok(None);
                }
                "--help" | "-h" => {
                    print!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(format!("{word}: not an option; --help lists them")),
            }
        }
        if let Some(name) =
            only.iter().find(|only| !SCENARIOS.iter().any(|scenario| scenario.name.starts_with(*only)))
        {
            return Err(format!("--only {name}: no such scenario; --list shows them"));
        }
        if rounds == Some(0) {
            return Err("--rounds 0: at least one".into());
        }
        if seconds.is_some_and(|seconds: f64| !(0.01..=3600.0).contains(&seconds)) {
            return Err("--seconds: from 0.01 to 3600".into());
        }
        Ok(Some(Self {
            a: Contender::new("A", a)?,
            b: Contender::new("B", b)?,
            quick,
            mode,
            only,
            rounds: rounds.unwrap_or(if quick { 1 } else { 5 }),
            seconds: seconds.or(quick.then_some(0.2)),
            details,
        }))
    }

    /// By its whole name, or else by how it starts: `echo64x64` is one, `echo` is two.
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.starts_with(only.as_str()))
    }
}

impl Contender {
    fn new(name: &'static str, asked: String) -> Outcome<Self> {
        let mut words: Vec<String> = asked.split_whitespace().map(str::to_string).collect();
        let alone = words.len() == 1;
        match words.first().map(String::as_str) {
            None => return Err(format!("--{}: an empty command", name.to_lowercase())),
            Some("floor") => {
                words[0] = children::this_executable("serve")?[0].clone();
                if alone {
                    words.push("serve".into());
                }
            }
            Some("switchboard") => {
                let binary = option_env!("CARGO_BIN_EXE_switchboard");
                words[0] = binary.ok_or("built without the binary `switchboard`: leave the default features on, or say --a CMD")?.to_string();
                if alone {
                    words.extend(["serve", "echo", "--listen", "tcp://127.0.0.1:0"].map(String::from));
                }
            }
            Some(_) => {}
        }
        Ok(Self { name, asked, words })
    }

    fn shown(&self) -> &str {
        match self.asked.as_str() {
            "switchboard" => "switchboard serve echo",
            "floor" => "the floor: wait, read, write back",
            other => other,
        }
    }
}

fn parsed<T: std::str::FromStr>(option: &str, value: &str) -> Outcome<T> {
    value.parse().map_err(|_| format!("{option} {value}: not a number"))
}
