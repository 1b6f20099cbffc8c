//! `switchboard bench`: from the command line to a plan, and from a report to the screen and to files.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::failure::{Failure, complain};
use super::panel::{Panel, can_redraw};
use super::units;
use crate::endpoint::{BadUrl, Endpoint, Endpoints};
use crate::load::ceiling::ceiling;
use crate::load::compare::{self, Figure, Side};
#[cfg(feature = "web")]
use crate::load::fan_out;
use crate::load::figures;
#[cfg(feature = "web")]
use crate::load::http::{Asked, basic_authorization};
use crate::load::plan::{Arrivals, Plan, Rate, WarmUp};
use crate::load::reach::reach;
use crate::load::report::{Limit, Report, Round};
use crate::load::run::{Circumstances, Outcome, run as run_plan};
use crate::load::script::{Expected, Said, Template};
use crate::load::search::{Slo, find_max};
use crate::load::summary::{self, Style};
use crate::load::witness::ServerSource;
use crate::load::{files, page};
use crate::protocol::Framing;
use crate::server::terminal::hangup_is_ignored;
use crate::transport::stream::unix_address;
use crate::transport::tls::ClientTls;
#[cfg(feature = "tls")]
use crate::transport::tls::Trust;

/// Descriptors that are not for connections: the standard ones, the polls, the files, /proc.
const DESCRIPTORS_RESERVED: u64 = 32;

/// What `--find-max` begins with where no `--rate` was given.
const FIRST_RATE_PER_S: f64 = 1000.0;

/// A larger part of failed messages fails a run without an `--slo`.
const FAILED_PART_MAX: f64 = 0.01;

/// A shorter silence fails no run, however short that is: it may be this machine's.
const SILENCE_MIN_S: f64 = 1.0;

/// What the exit codes say, beside those of [`Failure`].
const GENERATOR_WAS_THE_LIMIT: u8 = 3;
const SLO_WAS_NOT_MET: u8 = 4;
const SECOND_IS_SLOWER: u8 = 5;
/// As the shell has it for a process that a signal ended: 128 and its number.
const INTERRUPTED: u8 = 128;

/// How long a spawned server may take until it can be connected to, and to end.
const SPAWN_WITHIN: Duration = Duration::from_secs(10);
const END_WITHIN: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  switchboard bench tcp://127.0.0.1:8080
      64 connections, one message in flight each, for ten seconds: what does it do at its fastest?
  switchboard bench tcp://127.0.0.1:8080 --rate 20000 --connections 500 --html report.html
      An open loop: what do users see at 20,000 messages a second? With a page of pictures.
  switchboard bench tcp://127.0.0.1:8080 --find-max --slo 'p99<=2ms'
      The highest rate at which 99 % of the replies come within 2 ms.
  switchboard bench tcp+lines://127.0.0.1:7000 --payload 'GET key{rand:4}' --expect any --idle 5000
      Another protocol, line by line, with 5,000 silent connections beside.
  switchboard bench http://127.0.0.1:8080/index.html --depth 16
      Requests, 16 of them pipelined on each connection; a status that is no success counts as a failure.
  switchboard bench --ab tcp://127.0.0.1:8080 tcp://127.0.0.1:8081 --rounds 8
      Two servers in turns: is the second one faster, or is it noise?

Exit code: 0 success; 1 wrong replies in any round, more than 1 % failures where no --slo allows them, or a run that
failed; 2 a wrong command line; 3 with --strict, if the generator was the limit; 4 the --slo was not met; 5 with --ab,
if the second server is slower; 129, 130 or 143 after a closed terminal, Ctrl-C or SIGTERM, with what was measured
until then.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnOff {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ArrivalsName {
    /// Evenly spaced.
    Constant,
    /// As independent users come.
    Poisson,
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The server: tcp://HOST:PORT, tls://HOST:PORT, http://HOST:PORT/PATH, https://..., ws://HOST:PORT/PATH, wss://..., udp://HOST:PORT or unix:PATH; +lines or +prefixed behind the scheme picks the framing.
    #[arg(value_name = "URL", required = true, num_args = 1..=2)]
    urls: Vec<Url>,

    /// Connections that talk.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,

    /// Messages in flight on each connection, at most.
    #[arg(long, value_name = "D", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    depth: u32,

    /// tls://: trust servers whose certificate an authority in this PEM file has signed.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,

    /// tls://: trust any server. For tests only: anyone in between can read and change everything.
    #[arg(long)]
    insecure: bool,

    /// tls://: show this certificate (PEM), if the server asks for one.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,

    /// The certificate's key (PEM).
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,

    /// tls://: the name that the server's certificate is for. [default: the URL's host]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,

    /// tls://: make each handshake a full one, and resume none.
    #[arg(long)]
    no_resumption: bool,

    /// Open loop: messages per second in all, or from A to B over the run, as 1000..50000.
    #[arg(long, value_name = "R|A..B", value_parser = rate, allow_hyphen_values = true)]
    rate: Option<(f64, f64)>,

    /// How the messages of an open loop are spaced.
    /// [default: constant]
    #[arg(long, value_name = "SPACING", value_enum)]
    arrivals: Option<ArrivalsName>,

    /// Search for the highest rate that meets --slo.
    #[arg(long, requires = "slo")]
    find_max: bool,

    /// What the server must meet: as in 'p99<=2ms', or 'p50<=500us,failures<=0.1%'. Exit code 4 if it does not.
    #[arg(long, value_name = "SLO", conflicts_with = "ab")]
    slo: Option<Slo>,

    /// Length of the measurement (of a search: of each step).
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = finite, allow_hyphen_values = true)]
    duration: Duration,

    /// Time before the measurement that does not count. auto: until the rate is steady.
    #[arg(long, value_name = "auto|TIME", default_value = "auto", value_parser = warm_up, allow_hyphen_values = true)]
    warmup: WarmUpTime,

    /// Open the connections over this time, instead of as fast as possible.
    #[arg(long, value_name = "TIME", value_parser = finite, allow_hyphen_values = true)]
    ramp: Option<Duration>,

    /// Further connections that stay open and send nothing.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    idle: u32,

    /// Connect, send one message, close; again and again.
    #[arg(long)]
    churn: bool,

    /// The payload's size, or a range of sizes, as 1..1024.
    /// [default: 64]
    #[arg(long, value_name = "SIZE|A..B", value_parser = sizes, allow_hyphen_values = true)]
    size: Option<(usize, usize)>,

    /// A payload of your own, instead of --size: {seq}, {conn} and {rand:N} are filled in.
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "size")]
    payload: Option<Template>,

    /// http://: the method of each request. [default: GET, or POST with a --payload or --size]
    #[cfg(feature = "web")]
    #[arg(long, value_name = "METHOD", value_parser = method)]
    method: Option<String>,

    /// http://, ws://: a field of each request's head, as 'Accept: text/html'; may be repeated.
    #[cfg(feature = "web")]
    #[arg(long, value_name = "NAME: VALUE", value_parser = field)]
    header: Vec<String>,

    /// ws://: all connections are members of this room, and some speak. Measures what each member receives, and when.
    /// The defaults fit `serve chat`: start it with --messages-per-member 1000000.
    #[cfg(feature = "web")]
    #[arg(long, value_name = "ROOM", conflicts_with_all = ["ab", "churn", "expect", "find_max", "idle", "payload", "rounds", "verify"])]
    fan_out: Option<String>,

    /// --fan-out: how many of the members speak, each --depth messages at a time, or all together at --rate.
    #[cfg(feature = "web")]
    #[arg(long, value_name = "N", default_value_t = 1, requires = "fan_out", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    senders: u32,

    /// --fan-out: what each member sends first, with {room}, {conn} and {process} filled in; '' is nothing.
    #[cfg(feature = "web")]
    #[arg(long, value_name = "TEXT", default_value = fan_out::JOIN, requires = "fan_out")]
    join: String,

    /// --fan-out: the message of a sender, with {text} filled in.
    #[cfg(feature = "web")]
    #[arg(long, value_name = "TEXT", default_value = fan_out::SAY, requires = "fan_out")]
    say: String,

    /// Addresses to connect from; may be repeated. [default: 127.0.0.2 and on, when the ports of 127.0.0.1 run out]
    #[arg(long, value_name = "ADDRESS")]
    source: Vec<IpAddr>,

    /// The seed from which payloads and arrivals are drawn.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Bind the generator to this CPU (further threads: to the CPUs after it).
    #[arg(long, value_name = "CPU")]
    pin: Option<usize>,

    /// Generator threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,

    /// Compare every reply, byte by byte, with what was sent. Off: only count its bytes. Not over HTTP, see --expect. [default: on]
    #[arg(long, value_enum)]
    verify: Option<OnOff>,

    /// What the server answers if it is no echo: this text, or any message. Over HTTP, any answer with a status from
    /// 200 to 299 is right by default; a text is the whole body, and echo means the body that was sent.
    #[arg(long, value_name = "TEXT|any|echo", conflicts_with = "verify")]
    expect: Option<String>,

    /// How long a reply may take before it counts as timed out.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = finite, allow_hyphen_values = true)]
    timeout: Duration,

    /// The server's process, to watch its CPU and memory. [default: the process that listens there, if it is on this machine]
    #[arg(long, value_name = "PID", conflicts_with_all = ["spawn", "ab"])]
    server_pid: Option<u32>,

    /// Start the server with this command line, and stop it afterwards.
    #[arg(long, value_name = "COMMAND", conflicts_with = "ab")]
    spawn: Option<String>,

    /// Compare two servers, measured in turns.
    #[arg(long)]
    ab: bool,

    /// Measure this many times. `compare` and --ab need at least 8 for a verdict.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "find_max")]
    rounds: Option<u32>,

    /// Exit with 3 if the generator was the limit.
    #[arg(long)]
    strict: bool,

    /// Skip the self-test, which measures what the generator could do.
    #[arg(long)]
    no_self_test: bool,

    /// Print no progress, and no summary if a file was asked for.
    #[arg(long, short)]
    quiet: bool,

    /// Write the report as JSON; - is standard output, which then gets nothing else.
    #[arg(long, value_name = "FILE|-")]
    json: Option<PathBuf>,

    /// Write the run over time as CSV.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Write the distribution of response times for HdrHistogram's plotters.
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,

    /// Write a page with pictures.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Options {
    /// The files that are written, with the options that name them.
    fn files(&self) -> [(&'static str, &Option<PathBuf>); 4] {
        [("--json", &self.json), ("--csv", &self.csv), ("--hdr", &self.hdr), ("--html", &self.html)]
    }
}

/// clap would take `Option<Duration>` for an option that may be left out.
#[derive(Debug, Clone, Copy)]
struct WarmUpTime(WarmUp);

fn warm_up(text: &str) -> Result<WarmUpTime, String> {
    match text {
        "auto" => Ok(WarmUpTime(WarmUp::Auto)),
        "0" | "off" => Ok(WarmUpTime(WarmUp::For(Duration::ZERO))),
        _ => finite(text).map(|time| WarmUpTime(WarmUp::For(time))),
    }
}

/// A time that passes.
fn finite(text: &str) -> Result<Duration, String> {
    match units::finite_duration(text)? {
        time if time > Duration::from_secs(30 * 24 * 3600) => Err("it must be 30 days or less".into()),
        time => Ok(time),
    }
}

fn rate(text: &str) -> Result<(f64, f64), String> {
    let number = |text: &str| match text.parse::<f64>() {
        Ok(rate) if (0.0..=1e9).contains(&rate) => Ok(rate),
        Ok(rate) if rate > 1e9 => Err(format!("{text} is too much: take at most 1000000000")),
        _ => Err(format!("{text:?} is no rate: write messages per second, like 20000, or 1000..50000")),
    };
    let (from, to) = match text.split_once("..") {
        Some((from, to)) => (number(from)?, number(to)?),
        None => (number(text)?, number(text)?),
    };
    match from.max(to) > 0.0 && (to > 0.0 || from == to) {
        true => Ok((from, to)),
        false => Err("it must be more than 0".into()),
    }
}

fn sizes(text: &str) -> Result<(usize, usize), String> {
    let size = |text: &str| units::size_up_to(text, 64 << 20, "64MiB");
    let (min, max) = match text.split_once("..") {
        Some((min, max)) => (size(min)?, size(max)?),
        None => (size(text)?, size(text)?),
    };
    match min <= max {
        true => Ok((min, max)),
        false => Err(format!("{min}..{max} goes backwards: write the smaller one first")),
    }
}

/// What came of the command line, for all the runs of it.
struct Session {
    options: Options,
    circumstances: Circumstances,
    interrupted: Arc<AtomicBool>,
    /// The number of the signal that interrupted it; 0: none.
    signal: Arc<AtomicUsize>,
    panel: Panel,
}

pub(super) fn run(mut options: Options) -> Result<u8, Failure> {
    match (options.ab, options.urls.len()) {
        (true, 1) => return Err(Failure::Usage("--ab compares two servers: give two URLs".into())),
        (false, 2) => {
            return Err(Failure::Usage("one URL at a time: to compare two servers, use --ab".into()));
        }
        _ => {}
    }
    let sources = options.source.clone();
    options.urls.iter_mut().for_each(|url| url.keep_reachable_from(&sources));
    let mut plan = self::plan(&options, &options.urls[0]).map_err(Failure::Usage)?;
    for url in &options.urls {
        self::plan(&options, url).and_then(|plan| plan.check()).map_err(Failure::Usage)?;
    }
    #[cfg(feature = "web")]
    let room = room(&options, &plan).map_err(Failure::Usage)?;
    check_files(&options)?;
    enough_descriptors(&plan)?;

    let (interrupted, by_signal) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    // A closed terminal stops the run as Ctrl-C does, so that a server of --spawn does not stay. nohup(1) goes on.
    let hangup = (!hangup_is_ignored()).then_some(SIGHUP);
    for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
        // The second one ends the program at once.
        let told = Arc::clone(&interrupted);
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&interrupted))
            .and_then(|_| signal_hook::flag::register_usize(signal, Arc::clone(&by_signal), signal as usize))
            .and_then(|_| signal_hook::flag::register(signal, told))
            .map_err(|error| Failure::Runtime(format!("cannot watch signals: {error}")))?;
    }
    let spawned = match &options.spawn {
        Some(command) => Some(Spawned::start(command, &options.urls[0].others, &interrupted)?),
        None => None,
    };
    options.urls.iter_mut().for_each(Url::choose);
    plan.target = options.urls[0].endpoint.clone();
    let server = match (&spawned, options.server_pid) {
        (Some(spawned), _) => ServerSource::Spawned(spawned.0.id()),
        (None, Some(pid)) => ServerSource::Pid(pid),
        (None, None) => ServerSource::Find,
    };
    let mut circumstances = Circumstances {
        server,
        command: without_secrets(std::env::args().skip(1).map(without_user)),
        ceiling_per_s: None,
        probe: options.rounds.is_none() && !options.ab && plan.duration >= Duration::from_secs(1),
    };
    let panel = Panel::new(options.quiet);
    #[cfg(feature = "web")]
    if let Some(room) = room {
        let mut session = Session { options, circumstances, interrupted, signal: by_signal, panel };
        let outcome = session.fan_out(&plan, &room);
        drop(spawned);
        return session.finish(outcome, None);
    }
    if !options.no_self_test {
        panel.say("self-test: what could the generator do?");
        circumstances.ceiling_per_s = ceiling(&plan, &interrupted);
    }
    let mut session = Session { options, circumstances, interrupted, signal: by_signal, panel };
    if session.options.ab {
        return session.compare(&plan);
    }
    let (outcome, earlier) = match (session.options.slo.clone(), session.options.rounds) {
        (Some(slo), _) if session.options.find_max => session.search(&plan, &slo),
        (_, Some(rounds)) => session.rounds(&plan, rounds),
        (_, None) => (session.once(&plan), None),
    };
    drop(spawned); // its last words come before ours
    session.finish(outcome, earlier)
}

/// Of `--ab` and `compare`.
pub(super) fn slower_code(comparison: &compare::Comparison) -> u8 {
    if comparison.is_slower() { SECOND_IS_SLOWER } else { 0 }
}

/// What fails a run, in one line, and with which exit code.
type Fault = (u8, String);

/// What a run that was measured to its end fails with.
fn fault(report: &Report, slo: Option<&Slo>) -> Option<Fault> {
    let failures = &report.failures;
    let wrong = match slo {
        // What was not answered, or with another status, is for the SLO to allow.
        Some(_) => failures.corrupted + failures.reordered + failures.duplicated,
        None => report.wrong(),
    };
    if wrong > 0 {
        return Some((1, wrong_replies(report)));
    }
    let target = &report.target;
    if let Some(slo) = slo {
        return slo
            .broken_by(report)
            .map(|why| (SLO_WAS_NOT_MET, format!("{target} did not meet {slo}: {why}")));
    }
    let share = report.failure_share();
    if share > FAILED_PART_MAX {
        let kinds = figures::failures(&report.failures_in_window).unwrap_or_default();
        let (share, offered) = (figures::share(share), report.offered);
        return Some((
            1,
            format!(
                "{target}: {share} of {offered} messages failed: {kinds} (an --slo for failures would allow them)"
            ),
        ));
    }
    let silence_s = report.longest_silence_s();
    (silence_s > (report.measured_s / 2.0).max(SILENCE_MIN_S)).then(|| {
        let (silence, measured) = (figures::duration(silence_s), figures::duration(report.measured_s));
        (1, format!("{target} answered nothing for {silence} of {measured}"))
    })
}

fn plan(options: &Options, url: &Url) -> Result<Plan, String> {
    let target = &url.endpoint;
    let (min, max) = options.size.unwrap_or((64, 64));
    let said = match &options.payload {
        Some(template) => Said::Template(template.clone()),
        None => Said::Numbered { min, max },
    };
    let expected = match (&options.expect, options.verify) {
        (Some(any), _) if any == "any" => Expected::Anything,
        (Some(echo), _) if echo == "echo" => Expected::Echo,
        (Some(text), _) if text.is_empty() => return Err("--expect '' would be met by nothing".into()),
        (Some(text), _) => Expected::Text(text.clone().into_bytes()),
        (None, Some(_)) if is_http(target) => {
            return Err(
                "--verify is about echoes: over HTTP, say with --expect which answers are right".into()
            );
        }
        (None, None) if is_http(target) => Expected::Anything,
        (None, Some(OnOff::Off)) => Expected::AnyOfThatLength,
        (None, Some(OnOff::On) | None) => Expected::Echo,
    };
    if target.framing() == Framing::Lines {
        let ends = "a line can't hold a line end; the protocol adds its own";
        if options.payload.as_ref().is_some_and(|template| template.holds('\n')) {
            return Err(format!("--payload: {ends}"));
        }
        if options.expect.as_ref().is_some_and(|text| text.contains('\n')) {
            return Err(format!("--expect: {ends}"));
        }
    }
    if target.address().is_some_and(|address| address.port() == 0) {
        return Err(format!("{target}: no server listens at port 0; write the port that it has printed"));
    }
    let here = |source: &&IpAddr| std::net::UdpSocket::bind((**source, 0)).is_err();
    if let Some(foreign) = options.source.iter().find(here) {
        return Err(format!(
            "--source {foreign}: this machine has no such address; see `ip address` for its own"
        ));
    }
    if options.churn && options.ramp.is_some() {
        return Err(
            "--ramp opens connections that stay, and --churn makes a new one for each message: give one"
                .into(),
        );
    }
    if options.idle > 0 && matches!(target, Endpoint::Udp(_)) {
        return Err("--idle holds connections, and UDP has none".into());
    }
    if let Some((from, to)) = options.rate.filter(|(from, to)| options.find_max && from != to) {
        return Err(format!(
            "--rate {from}..{to}: a search begins at one rate; give --rate {from}, or leave it out"
        ));
    }
    if options.arrivals.is_some() && options.rate.is_none() && !options.find_max {
        return Err("--arrivals is about an open loop: give its --rate".into());
    }
    let arrivals = arrivals(options);
    Ok(Plan {
        connections: options.connections as usize,
        depth: options.depth as usize,
        idle: options.idle as usize,
        churn: options.churn,
        rate: options.rate.map(|(from_per_s, to_per_s)| Rate { from_per_s, to_per_s, arrivals }),
        said,
        expected,
        duration: options.duration,
        warm_up: options.warmup.0,
        ramp: options.ramp.unwrap_or_default(),
        timeout: options.timeout,
        threads: options.threads as usize,
        pin: options.pin,
        sources: options.source.clone(),
        seed: options.seed,
        tls: tls(options, target)?,
        #[cfg(feature = "web")]
        asked: asked(options, url)?,
        ..Plan::new(target.clone())
    })
}

/// The room of `--fan-out`.
#[cfg(feature = "web")]
fn room(options: &Options, plan: &Plan) -> Result<Option<fan_out::Room>, String> {
    let Some(name) = &options.fan_out else { return Ok(None) };
    if plan.target.framing() != Framing::WebSocket {
        return Err(format!("--fan-out is for ws:// and wss://, not for {}", plan.target));
    }
    let (min, max) = options.size.unwrap_or((100, 100));
    if min != max {
        return Err(format!("--size {min}..{max}: with --fan-out, all texts are of one size"));
    }
    let room = fan_out::Room {
        name: name.clone(),
        senders: options.senders as usize,
        join: options.join.clone(),
        say: options.say.clone(),
        text_bytes: max,
    };
    room.check(plan)?;
    Ok(Some(room))
}

/// A target, and what is asked there.
#[derive(Debug, Clone)]
struct Url {
    endpoint: Endpoint,
    /// The addresses of its host, where there are several: see [`Url::choose`].
    others: Vec<Endpoint>,
    /// HTTP: the host as it is written, and the path.
    #[cfg_attr(not(feature = "web"), expect(dead_code))]
    asked: Option<(String, String)>,
    /// HTTP: the user, as in `user:password@`.
    #[cfg_attr(not(feature = "web"), expect(dead_code))]
    user: Option<String>,
}

impl Url {
    fn new(text: &str, asked: Option<(String, String)>, user: Option<String>) -> Result<Url, BadUrl> {
        let endpoints: Endpoints = text.parse()?;
        Ok(Url { endpoint: endpoints.all()[0].clone(), others: endpoints.all().to_vec(), asked, user })
    }

    /// Leaves the addresses that can be connected to from these, if there are any.
    fn keep_reachable_from(&mut self, sources: &[IpAddr]) {
        let fits = |it: &&Endpoint| {
            let v6 = it.address().is_some_and(|address| address.is_ipv6());
            sources.iter().all(|source| source.is_ipv6() == v6)
        };
        let fitting: Vec<Endpoint> = self.others.iter().filter(fits).cloned().collect();
        if let Some(first) = fitting.first() {
            (self.endpoint, self.others) = (first.clone(), fitting);
        }
    }

    /// Of several addresses, the one that answers. Where none does, the first: the run says what is wrong there.
    fn choose(&mut self) {
        if let Some(reached) = reach(&self.others) {
            self.endpoint = reached.clone();
        }
    }
}

impl std::str::FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Url, BadUrl> {
        let is_http =
            |scheme: &str| ["http", "https", "ws", "wss"].iter().any(|it| scheme.eq_ignore_ascii_case(it));
        let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| is_http(scheme)) else {
            let endpoint: Endpoint = text.parse()?;
            let asked = is_web(&endpoint).then(|| ("localhost".into(), "/".into()));
            return Url::new(text, asked, None);
        };
        // RFC 3986, section 3: the authority ends at the first of these; the fragment is the client's own.
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, authority),
        };
        let path = match rest.split('#').next().unwrap_or_default() {
            path if path.starts_with('/') => path.to_owned(),
            query => format!("/{query}"),
        };
        Url::new(&format!("{scheme}://{host}"), Some((without_zone(host), path)), user)
    }
}

/// A zone is this machine's own, and is not sent (RFC 6874, section 4).
fn without_zone(host: &str) -> String {
    match (host.find('%'), host.find(']')) {
        (Some(from), Some(to)) if from < to => [&host[..from], &host[to..]].concat(),
        _ => host.to_owned(),
    }
}

/// As it is shown, and kept in reports: without the user, and above all without the password.
fn without_user(argument: String) -> String {
    let Some((scheme, rest)) = argument.split_once("://") else { return argument };
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{behind}"),
        None => argument,
    }
}

/// The same for fields of requests that identify the user: the report keeps only the names of these fields.
fn without_secrets(arguments: impl Iterator<Item = String>) -> Vec<String> {
    const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
    let hidden = |argument: String| {
        let field = argument.strip_prefix("--header=").unwrap_or(&argument);
        match field.split_once(':') {
            Some((name, _)) if SECRET.iter().any(|it| name.trim().eq_ignore_ascii_case(it)) => {
                let prefix = &argument[..argument.len() - field.len()];
                format!("{prefix}{name}: ***")
            }
            _ => argument,
        }
    };
    arguments.map(hidden).collect()
}

/// Whether it begins with a request.
fn is_web(target: &Endpoint) -> bool {
    #[cfg(feature = "web")]
    if target.framing() == Framing::WebSocket {
        return true;
    }
    is_http(target)
}

fn is_http(target: &Endpoint) -> bool {
    #[cfg(feature = "web")]
    if target.framing() == Framing::Http {
        return true;
    }
    let _ = target;
    false
}

/// What is asked of an `http://` target.
#[cfg(feature = "web")]
fn asked(options: &Options, url: &Url) -> Result<Option<Asked>, String> {
    let Some((host, path)) = &url.asked else {
        return match (&options.method, options.header.is_empty()) {
            (None, true) => Ok(None),
            (Some(_), _) => Err("--method is for http:// and https://".into()),
            (None, false) => Err("--header is for http://, https://, ws:// and wss://".into()),
        };
    };
    if !is_http(&url.endpoint) && options.method.is_some() {
        return Err("--method is for http:// and https://: a WebSocket begins with GET".into());
    }
    let has_body = !is_http(&url.endpoint) || options.payload.is_some() || options.size.is_some();
    let method = match (&options.method, has_body) {
        (Some(method), _) => method.clone(),
        (None, true) if is_http(&url.endpoint) => "POST".into(),
        (None, _) => "GET".into(),
    };
    if options.expect.as_deref() == Some("echo") && !has_body {
        return Err("--expect echo needs something to be sent: give --size or --payload".into());
    }
    if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(format!("{path:?} is no path: write what is not a letter in percent, as in %20"));
    }
    let mut fields = options.header.clone();
    let says_who = |field: &String| field.to_ascii_lowercase().starts_with("authorization:");
    if let Some(user) = url.user.as_deref().filter(|_| !options.header.iter().any(says_who)) {
        fields.push(basic_authorization(user));
    }
    Ok(Some(Asked { method, path: path.clone(), host: host.clone(), fields, has_body }))
}

#[cfg(feature = "web")]
fn method(text: &str) -> Result<String, String> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-') {
        true if text != "CONNECT" => Ok(text.into()),
        _ => Err("write a method, such as GET, HEAD or POST".into()),
    }
}

/// Those that say where a request ends are ours.
#[cfg(feature = "web")]
fn field(text: &str) -> Result<String, String> {
    let (name, value) = text.split_once(':').ok_or("write it as in 'Accept: text/html'")?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) || value.chars().any(char::is_control) {
        return Err("write it as in 'Accept: text/html'".into());
    }
    let own = ["content-length", "transfer-encoding", "connection", "expect"];
    match own.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        true => Err(format!("{name} is the generator's own (see --churn for one request per connection)")),
        false => Ok(format!("{name}: {}", value.trim())),
    }
}

/// What the clients of a `tls://` target believe, and show.
#[cfg(feature = "tls")]
fn tls(options: &Options, target: &Endpoint) -> Result<Option<ClientTls>, String> {
    let Endpoint::Tls(_, _, host) = target else {
        let given = [
            (options.ca.is_some(), "--ca"),
            (options.insecure, "--insecure"),
            (options.client_cert.is_some(), "--client-cert"),
            (options.server_name.is_some(), "--server-name"),
            (options.no_resumption, "--no-resumption"),
        ];
        return match given.iter().find(|(given, _)| *given) {
            Some((_, option)) => {
                Err(format!("{option} is for tls://, https:// and wss://, not for {target}: leave it out"))
            }
            None => Ok(None),
        };
    };
    let trust = match (&options.ca, options.insecure) {
        (Some(path), _) => Trust::Authorities(path),
        (None, true) => Trust::Anybody,
        (None, false) => {
            return Err(format!(
                "{target}: which servers to trust? Give --ca FILE, or --insecure for a test of your own"
            ));
        }
    };
    let shown = options.client_cert.as_deref().zip(options.client_key.as_deref());
    let name = options.server_name.as_deref().unwrap_or(host);
    ClientTls::new(name, trust, shown, !options.no_resumption).map(Some)
}

#[cfg(not(feature = "tls"))]
fn tls(_options: &Options, _target: &Endpoint) -> Result<Option<ClientTls>, String> {
    Ok(None)
}

fn arrivals(options: &Options) -> Arrivals {
    match options.arrivals {
        Some(ArrivalsName::Poisson) => Arrivals::Poisson,
        Some(ArrivalsName::Constant) | None => Arrivals::Constant,
    }
}

/// A file that can't be written is found out before the run, not after it. What stands in it is kept
/// until there is something new.
fn check_files(options: &Options) -> Result<(), Failure> {
    let files = options.files();
    for (index, (name, path)) in files.into_iter().enumerate() {
        let Some(path) = path.as_deref() else { continue };
        let same = |(_, other): &&(&str, &Option<PathBuf>)| {
            let is = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            other.as_deref().is_some_and(|other| is(other) == is(path))
        };
        if let Some((other, _)) = files[..index].iter().find(same) {
            let path = path.display();
            return Err(Failure::Usage(format!("{other} and {name} both write {path}: name two files")));
        }
        match path == Path::new("-") {
            true if name == "--json" => continue,
            true => {
                return Err(Failure::Usage(format!(
                    "{name} -: only --json goes to standard output; name a file"
                )));
            }
            false => {}
        }
        let is_new = !path.exists();
        if let Err(error) = OpenOptions::new().append(true).create(true).open(path) {
            return Err(Failure::Usage(format!("{name} {}: cannot write there: {error}", path.display())));
        }
        if is_new {
            let _ = fs::remove_file(path); // it is made when there is something to say
        }
    }
    Ok(())
}

/// Raises the limit where that helps, and says so where it doesn't.
fn enough_descriptors(plan: &Plan) -> Result<(), Failure> {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    let limit = match soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        true => hard,
        false => soft,
    };
    let wanted = (plan.connections + plan.idle) as u64;
    match wanted + DESCRIPTORS_RESERVED <= limit {
        true => Ok(()),
        false => Err(Failure::Runtime(format!(
            "{wanted} connections need more than the {limit} descriptors that this process may have: \
             take fewer --connections and --idle, or raise the limit (ulimit -n)"
        ))),
    }
}

impl Session {
    fn once(&mut self, plan: &Plan) -> Outcome {
        let panel = &mut self.panel;
        let outcome =
            run_plan(plan, &self.circumstances, &self.interrupted, &mut |progress| panel.show(progress));
        self.panel.clear();
        outcome
    }

    #[cfg(feature = "web")]
    fn fan_out(&mut self, plan: &Plan, room: &fan_out::Room) -> Outcome {
        let (panel, circumstances) = (&mut self.panel, &self.circumstances);
        let outcome = fan_out::run(plan, room, circumstances, &self.interrupted, &mut |progress| {
            panel.show(progress);
        });
        self.panel.clear();
        outcome
    }

    /// The same several times; the report is the last one's, with the figures of all.
    /// With it, what one of the rounds failed with.
    fn rounds(&mut self, plan: &Plan, count: u32) -> (Outcome, Option<Fault>) {
        let mut rounds = Vec::new();
        let (mut last, mut first_fault) = (Outcome::default(), None);
        for index in 0..count {
            self.panel.say(&format!("round {} of {count}", index + 1));
            last = self.once(plan);
            rounds.push(round(&last.report));
            if last.problem.is_none() && !last.report.partial && first_fault.is_none() {
                first_fault = fault(&last.report, self.options.slo.as_ref())
                    .map(|(code, what)| (code, format!("round {} of {count}: {what}", index + 1)));
            }
            if last.problem.is_some() || self.interrupted.load(Ordering::Relaxed) {
                break;
            }
        }
        last.report.rounds = rounds;
        (last, first_fault)
    }

    /// Where one run of it fails, the curve of those before is kept.
    /// Searches for the highest rate. Returns also the first wrong replies of any step: they fail the search.
    fn search(&mut self, plan: &Plan, slo: &Slo) -> (Outcome, Option<Fault>) {
        let mut wrong = None;
        let arrivals = arrivals(&self.options);
        let first_rate = plan.rate.map_or(FIRST_RATE_PER_S, |rate| rate.to_per_s);
        let (mut last, mut has_answered, mut steps) = (Outcome::default(), false, 0);
        let (found, curve, report) = find_max(slo, first_rate, |per_s| {
            self.panel.say(&format!("trying {per_s:.0}/s"));
            let rate = Rate { from_per_s: per_s, to_per_s: per_s, arrivals };
            // The same arrivals and payloads in each step would be one experiment, repeated.
            let plan = Plan { rate: Some(rate), seed: plan.seed.wrapping_add(steps), ..plan.clone() };
            steps += 1;
            last = self.once(&plan);
            // A hiccup of the machine is not the server's end: a server that has answered before gets one more try.
            if last.problem.is_some() && has_answered && !self.interrupted.load(Ordering::Relaxed) {
                last = self.once(&plan);
            }
            has_answered |= last.problem.is_none();
            if wrong.is_none() && !last.report.partial {
                wrong = fault(&last.report, Some(slo)).filter(|(code, _)| *code == 1);
            }
            last.report.clone()
        });
        let mut report = report.unwrap_or(last.report);
        if curve.len() > 1 || last.problem.is_none() {
            report.found = Some(found);
            report.curve = curve;
        }
        (Outcome { report, problem: last.problem }, wrong)
    }

    /// Two servers, in turns. The order changes, so that neither always runs on a warmer machine.
    fn compare(&mut self, plan: &Plan) -> Result<u8, Failure> {
        let count = self.options.rounds.unwrap_or(8);
        let plan_of = |url: &Url| self::plan(&self.options, url).map_err(Failure::Usage);
        let plans = [plan_of(&self.options.urls[0])?, plan_of(&self.options.urls[1])?];
        let mut sides = plans.each_ref().map(|plan| Side { name: plan.name(), rounds: Vec::new() });
        let mut reports = [Report::default(), Report::default()];
        let mut first_fault = None;
        for index in 0..count {
            let order = if index % 2 == 0 { [0, 1] } else { [1, 0] };
            for which in order {
                self.panel.say(&format!("round {} of {count}: {}", index + 1, sides[which].name));
                let outcome = self.once(&plans[which]);
                if let Some(problem) = outcome.problem {
                    return Err(Failure::Runtime(problem));
                }
                if !outcome.report.partial && first_fault.is_none() {
                    first_fault = fault(&outcome.report, None);
                }
                sides[which].rounds.push(round(&outcome.report));
                reports[which] = outcome.report;
            }
            if self.interrupted.load(Ordering::Relaxed) {
                // A round that only one of them had is no round.
                let both = sides[0].rounds.len().min(sides[1].rounds.len()).saturating_sub(1);
                sides.iter_mut().for_each(|side| side.rounds.truncate(both));
                break;
            }
        }
        // At the same offered rate the rates say nothing.
        let headline = if plan.rate.is_some() { Figure::P99 } else { Figure::AchievedPerS };
        let comparison = compare::compare(&sides[0], &sides[1], headline);
        let [mut report, _] = reports;
        report.rounds = sides[0].rounds.clone();
        report.comparison = Some(comparison.clone());
        self.write_files(&report)?;
        if self.options.json.as_deref() != Some(Path::new("-")) {
            print(&comparison.render(width()))?;
        }
        match first_fault {
            Some((_, problem)) => Err(Failure::Runtime(problem)),
            None if self.is_interrupted() => {
                let rounds = sides[0].rounds.len();
                complain(&format!("interrupted after {rounds} of {count} rounds"));
                Ok(self.interrupted_code())
            }
            None => Ok(slower_code(&comparison)),
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn interrupted_code(&self) -> u8 {
        INTERRUPTED + self.signal.load(Ordering::Relaxed) as u8
    }

    /// Shows the report, writes the files, and says how the program ends.
    /// `earlier` is what an earlier round failed with.
    fn finish(&mut self, outcome: Outcome, earlier: Option<Fault>) -> Result<u8, Failure> {
        let Outcome { report, problem } = outcome;
        self.write_files(&report)?;
        let to_stdout = self.options.json.as_deref() == Some(Path::new("-"));
        let has_measured = report.measured_s > 0.0;
        let wants_summary =
            !self.options.quiet || self.options.files().iter().all(|(_, path)| path.is_none());
        if !to_stdout && wants_summary && has_measured {
            print(&summary::render(&report, Style { colour: wants_colour(), width: width() }))?;
        }
        if let Some(problem) = problem {
            return Err(Failure::Runtime(problem));
        }
        // Of a run that was cut short, and of a search, only wrong replies are certain; a search says what it found.
        let is_judged = !report.partial && !self.options.find_max;
        let slo = self.options.slo.as_ref();
        let now = if is_judged { fault(&report, slo) } else { None };
        let wrong = || (report.wrong() > 0 && slo.is_none()).then(|| (1, wrong_replies(&report)));
        match earlier.or(now).or_else(wrong) {
            Some((1, problem)) => return Err(Failure::Runtime(problem)),
            Some((code, problem)) => {
                complain(&problem);
                return Ok(code);
            }
            None => {}
        }
        let found_nothing = report.found.as_ref().is_some_and(|found| found.rate_per_s.is_none());
        Ok(match self.options.strict && report.verdict.limit == Limit::Generator {
            _ if self.is_interrupted() => self.interrupted_code(),
            _ if found_nothing => SLO_WAS_NOT_MET,
            true => GENERATOR_WAS_THE_LIMIT,
            false => 0,
        })
    }

    fn write_files(&self, report: &Report) -> Result<(), Failure> {
        let options = &self.options;
        if let Some(path) = &options.json {
            match path == Path::new("-") {
                true => print(&files::json(report))?,
                false => write(path, &files::json(report))?,
            }
        }
        if let Some(path) = &options.csv {
            write(path, &files::csv(report))?;
        }
        if let Some(path) = &options.hdr {
            write(path, &files::hdr(report))?;
        }
        if let Some(path) = &options.html {
            write(path, &page::render(report))?;
        }
        Ok(())
    }
}

/// `tcp://... answered wrongly: 1 corrupted, 2 lost`
fn wrong_replies(report: &Report) -> String {
    let (failures, target) = (&report.failures, &report.target);
    let unanswered = failures.lost + failures.short;
    if unanswered > 0 && failures.wrong() == unanswered {
        let hint = match report.replies {
            0 => ": see its lists of addresses, whether it expects a PROXY header, and its framing",
            _ => "",
        };
        return format!("{target} left {unanswered} messages unanswered{hint}");
    }
    // Those of the rows that say so; the others are about replies and connections that did not come.
    let rows = failures.rows().into_iter().take(6).filter(|(_, count)| *count > 0);
    let kinds: Vec<String> = rows.map(|(name, count)| format!("{count} {name}")).collect();
    format!("{target} answered wrongly: {}", kinds.join(", "))
}

fn round(report: &Report) -> Round {
    let percentile = |percent| report.latency.response.as_ref().and_then(|it| it.percentile(percent)?.ns);
    Round {
        achieved_per_s: report.achieved_per_s,
        p50_ns: percentile(50.0),
        p99_ns: percentile(99.0),
        server_cpu_ns_per_reply: report.server.as_ref().and_then(|server| server.cpu_ns_per_reply),
        failures: report.failures.total(),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::Runtime(format!("cannot write {}: {error}", path.display())))
}

pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()), // the reader has seen enough
        outcome => {
            outcome.map_err(|error| Failure::Runtime(format!("cannot write to standard output: {error}")))
        }
    }
}

/// Returns the columns of the terminal that standard output is, as the terminal itself says (TIOCGWINSZ); 100 where it
/// is none. COLUMNS is a variable of the shell's, which is older than the window.
pub(super) fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stdout()).map(|size| usize::from(size.ws_col));
    columns.ok().filter(|columns| *columns > 0).map_or(100, |columns| columns.clamp(40, 400))
}

/// Whether standard output takes colours: a terminal that can (TERM is set, and not to `dumb`), and a user who did not
/// say no (<https://no-color.org>: any NO_COLOR but an empty one).
fn wants_colour() -> bool {
    io::stdout().is_terminal() && can_redraw() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

/// A server that we started, and stop.
struct Spawned(Child);

impl Spawned {
    fn start(command: &str, targets: &[Endpoint], interrupted: &AtomicBool) -> Result<Spawned, Failure> {
        let problem = |what: String| Failure::Runtime(format!("--spawn {command:?}: {what}"));
        if let Some(taken) = targets.iter().find(|it| is_up(it)) {
            return Err(problem(format!(
                "another server listens at {taken} already, and would be measured instead: stop it, or leave --spawn out"
            )));
        }
        // `exec`, so that the process is the server and not the shell. Its standard output is for people:
        // ours may be JSON.
        let child = Command::new("sh")
            .args(["-c", &format!("exec {command}")])
            .stdin(Stdio::null())
            .stdout(Stdio::from(io::stderr()))
            .spawn();
        let mut spawned = Spawned(child.map_err(|error| problem(format!("cannot start it: {error}")))?);
        let deadline = Instant::now() + SPAWN_WITHIN;
        while !targets.iter().any(is_up) {
            if let Ok(Some(status)) = spawned.0.try_wait() {
                return Err(problem(format!("it ended before anyone could connect: {status}")));
            }
            if Instant::now() > deadline || interrupted.load(Ordering::Relaxed) {
                return Err(problem(format!("no server listens at {} after {SPAWN_WITHIN:?}", targets[0])));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(spawned)
    }
}

/// Whether somebody listens there. UDP can't be asked: the port is taken, then.
fn is_up(target: &Endpoint) -> bool {
    match target {
        Endpoint::Tcp(address, _) | Endpoint::Tls(address, ..) => {
            std::net::TcpStream::connect_timeout(address, Duration::from_secs(1)).is_ok()
        }
        Endpoint::Unix(path, _) => {
            unix_address(path).and_then(|it| std::os::unix::net::UnixStream::connect_addr(&it)).is_ok()
        }
        Endpoint::Udp(address) => std::net::UdpSocket::bind(address).is_err(),
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let deadline = Instant::now() + END_WITHIN;
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "web")]
    #[test]
    fn what_is_asked_is_what_the_url_says_without_what_is_the_clients_own() {
        for (text, endpoint, host, path) in [
            ("http://127.0.0.1:81", "http://127.0.0.1:81", "127.0.0.1:81", "/"),
            ("http://127.0.0.1:81?x=1", "http://127.0.0.1:81", "127.0.0.1:81", "/?x=1"),
            ("http://127.0.0.1:81#top", "http://127.0.0.1:81", "127.0.0.1:81", "/"),
            ("http://127.0.0.1:81/a?b=/#/c", "http://127.0.0.1:81", "127.0.0.1:81", "/a?b=/"),
            ("HTTP://127.0.0.1/a@b", "http://127.0.0.1:80", "127.0.0.1", "/a@b"),
            ("Ws://127.0.0.1:81/?x", "ws://127.0.0.1:81", "127.0.0.1:81", "/?x"),
            ("http://u:p@127.0.0.1:81/", "http://127.0.0.1:81", "127.0.0.1:81", "/"),
            ("http://[::1%1]:81/", "http://[::1]:81", "[::1]:81", "/"),
        ] {
            let url: Url = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.endpoint.to_string(), endpoint, "{text}");
            assert_eq!(url.asked, Some((host.into(), path.into())), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_kept() {
        for (argument, kept) in [
            ("http://alice:secret@127.0.0.1:80/a", "http://***@127.0.0.1:80/a"),
            ("http://127.0.0.1:80/a@b", "http://127.0.0.1:80/a@b"),
            ("http://127.0.0.1?to=alice@b", "http://127.0.0.1?to=alice@b"),
            ("--payload=a@b", "--payload=a@b"),
        ] {
            assert_eq!(without_user(argument.into()), kept);
        }
    }
}
