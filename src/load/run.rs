//! One run, from the first connection to the report.
//!
//! ```text
//! connect ── warm-up ──┬── measured ──┬── replies still out ── (half the connections silent) ── report
//!                  window.from    window.to
//! ```
//!
//! Invariant: whatever happens on the way, what was measured until then is reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::account::Account;
use super::crew::{Crew, News};
use super::plan::{Plan, WarmUp};
use super::report::{LoadPoint, PlanFigures, Report, SCHEMA, WarmUp as WarmUpFigures};
use super::script::{Expected, Said, Script};
use super::shape::shape;
use super::timeline::Window;
use super::timeline::{SLICE_NS, Timeline};
use super::verdict::{self, Probe};
#[cfg(feature = "web")]
use super::websocket;
use super::witness::{self, ServerSource, Testimony, Witness};
use crate::endpoint::Endpoint;
#[cfg(feature = "web")]
use crate::protocol::Framing;

/// How often the machine is sampled and the observer told.
const TICK: Duration = Duration::from_millis(100);

/// The longest that `--warmup auto` waits for the rate to settle, in slices, and what it compares.
const SETTLING_SLICES_MAX: u64 = 30;
const SETTLING_SLICES: usize = 3;
const SETTLED_WITHIN: f64 = 0.05;

/// The window is set this much ahead, so that every thread knows of it before it begins.
const AHEAD_NS: u64 = 20_000_000;

/// The experiment with half of the connections: how long it settles, and how long it is measured.
const PROBE_SETTLES_NS: u64 = 200_000_000;
const PROBE_LASTS_NS: u64 = 400_000_000;
/// Of a CPU: a thread that takes more is the limit, and no experiment is needed.
const PROBE_BELOW: f64 = 0.9;

/// For how long the server is watched with nothing to do, to tell work from polling.
const REST_NS: u64 = 40_000_000;

/// The settings of a run that do not change what is sent to the server.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// Where the server's process is known from.
    pub server: ServerSource,
    /// The command line's arguments, for the report.
    pub command: Vec<String>,
    /// What one thread could do at most, if that is known already.
    pub ceiling_per_s: Option<f64>,
    /// Find out by an experiment whether more connections would get more.
    pub probe: bool,
}

/// How far a run has come.
pub struct Progress<'a> {
    /// The present stage.
    pub stage: Stage,
    /// How long it has been in this stage, and how long it will be at most.
    pub elapsed: Duration,
    /// See `elapsed`.
    pub total: Duration,
    /// Connections that are open.
    pub open: usize,
    /// What was counted so far.
    pub timeline: &'a Timeline,
    /// Now, on the timeline's clock.
    pub now_ns: u64,
}

/// The stages of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Connections are opened.
    Connecting,
    /// The rate settles.
    WarmUp,
    /// The measured window.
    Measuring,
    /// Waits for the last replies.
    Finishing,
}

impl Stage {
    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Connecting => "connecting",
            Stage::WarmUp => "warm-up",
            Stage::Measuring => "measuring",
            Stage::Finishing => "finishing",
        }
    }
}

/// The outcome of a run: a report in any case, and what went wrong with the run itself, in one line.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What was measured.
    pub report: Report,
    /// Why the run did not do what the plan asks for.
    pub problem: Option<String>,
}

/// Carries out the plan. `interrupted` ends it early; `observe` is called ten times a second.
pub fn run(
    plan: &Plan,
    circumstances: &Circumstances,
    interrupted: &AtomicBool,
    observe: &mut dyn FnMut(&Progress<'_>),
) -> Outcome {
    let mut report = Report {
        plan: figures(plan),
        verified: !matches!(plan.expected, Expected::AnyOfThatLength | Expected::Anything),
        ..begun(plan, circumstances)
    };
    let script = Script::new(plan.seed, plan.target.framing(), plan.said.clone(), plan.expected.clone());
    #[cfg(feature = "web")]
    let script = match &plan.asked {
        Some(asked) if plan.target.framing() == Framing::WebSocket => {
            script.shaking_hands(websocket::handshake(&asked.path, &asked.host, &asked.fields))
        }
        Some(asked) => script.asking(asked.clone(), plan.churn),
        None => script,
    };
    let (plan, script) = (Arc::new(plan.clone()), Arc::new(script));
    let failed = |mut report: Report, problem: String| {
        report.partial = true;
        report.partial_because = Some(problem.clone());
        Outcome { report, problem: Some(problem) }
    };
    let crew = match Crew::start(&plan, &script) {
        Ok(crew) => crew,
        Err(problem) => return failed(report, problem),
    };
    let witness = match Witness::new(&plan.target, circumstances.server, crew.names.clone()) {
        Ok(witness) => witness,
        Err(problem) => return failed(report, problem),
    };
    let mut director = Director {
        plan: &plan,
        crew,
        witness: Some(witness),
        testimony: Testimony::default(),
        timeline: Timeline::default(),
        interrupted,
        observe,
        problem: None,
        window: Window { from_ns: u64::MAX, to_ns: u64::MAX },
        probed: 0,
        probe_from_ns: u64::MAX,
    };
    let warm_up = director.up_to_the_window();
    let mut probe = None;
    if director.goes_on() {
        director.measure();
        probe = director.probe(circumstances.probe);
    }
    director.finish();
    // Also of the warm-up, which the report leaves out.
    let heard = director.timeline.replies_since(0);
    director.report(&mut report, warm_up);
    report.generator.ceiling_per_s = ceiling(&report, circumstances.ceiling_per_s);
    report.verdict = verdict::judge(&report, probe);

    let was_interrupted = director.interrupted.load(Ordering::Relaxed);
    let mut problem = director.problem.take();
    let heard_nothing = report.replies == 0 && report.failures.wrong() == 0;
    // In an open loop no message may have been due, at random.
    let asked_nothing = plan.rate.is_some() && report.offered == 0;
    if problem.is_none() && !was_interrupted && heard_nothing && !asked_nothing {
        let (sent, target) = (report.offered, &report.target);
        let refuses = match plan.target {
            Endpoint::Udp(address) => super::reach::refuses_datagrams(address),
            _ => false,
        };
        problem = Some(match report.failures.timed_out {
            _ if heard > 0 => {
                let limit = match plan.target {
                    Endpoint::Udp(_) => "--datagrams-per-ip, `off` for a test",
                    _ => "--connections-max",
                };
                format!(
                    "{target} answered {heard} messages and then nothing in the whole measured time: it may have a \
                     limit (switchboard's is {limit})"
                )
            }
            _ if refuses => {
                format!("no server listens at {target}: its machine refuses datagrams to that port")
            }
            0 => format!("no reply came from {target} to {sent} messages"),
            _ => format!("no reply came from {target} within {:?}; does it answer?", plan.timeout),
        });
    }
    report.partial = was_interrupted || problem.is_some();
    report.partial_because = problem.clone().or(was_interrupted.then(|| "interrupted".into()));
    Outcome { report, problem }
}

/// What the generator could do at most: as many messages a second as its threads have CPU time for. The run itself may
/// have shown that a message costs less than in the self-test, whose echo shared the machine.
fn ceiling(report: &Report, self_test_per_s: Option<f64>) -> Option<f64> {
    let cost_ns = report.generator.cpu_ns_per_message;
    let by_the_run = if cost_ns > 0.0 { 1e9 / cost_ns } else { 0.0 };
    let threads = f64::from(report.plan.threads.max(1));
    self_test_per_s.map(|it| threads * it.max(by_the_run)).map(|it| it.max(report.achieved_per_s))
}

/// The report of a run that has only begun.
pub(super) fn begun(plan: &Plan, circumstances: &Circumstances) -> Report {
    Report {
        schema: SCHEMA,
        tool: concat!("switchboard ", env!("CARGO_PKG_VERSION")).into(),
        target: plan.name(),
        command: circumstances.command.clone(),
        started_unix_s: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
        machine: witness::machine(),
        ..Report::default()
    }
}

/// The counts, and the rates in the window.
pub(super) fn count_up(report: &mut Report, account: &Account, window: Window) {
    let measured_s = match window.from_ns {
        u64::MAX => 0.0,
        from_ns => window.to_ns.saturating_sub(from_ns) as f64 / 1e9,
    };
    let per_s = |count: u64| if measured_s > 0.0 { count as f64 / measured_s } else { 0.0 };
    report.measured_s = measured_s;
    report.offered = account.offered;
    report.offered_per_s = per_s(account.offered);
    report.replies = account.replies;
    report.achieved_per_s = per_s(account.arrived);
    report.bytes_in_per_s = per_s(account.bytes_in);
    report.bytes_out_per_s = per_s(account.bytes_out);
    report.connected = account.connected;
    report.failures = account.failures;
    report.failures_in_window = account.failures_in_window;
    report.out_of_order = account.out_of_order;
    report.ended_silently = account.ended_silently;
    report.retried = account.retried;
}

/// A slice that has not come this long after its end is shown as silence.
const SILENCE_SHOWN_AFTER_NS: u64 = 5 * SLICE_NS;

/// How long to wait for connections: for all of the ramp, and until none has come about for the timeout. A slow machine may
/// take long for thousands.
struct Patience {
    timeout_ns: u64,
    until_ns: u64,
    most_open: usize,
}

impl Patience {
    fn new(began_ns: u64, ramp: Duration, timeout: Duration) -> Patience {
        let timeout_ns = nanoseconds(timeout);
        let until_ns = began_ns.saturating_add(nanoseconds(ramp)).saturating_add(timeout_ns);
        Patience { timeout_ns, until_ns, most_open: 0 }
    }

    /// At this time as many connections are open.
    fn see(&mut self, open: usize, now_ns: u64) {
        if open > self.most_open {
            self.most_open = open;
            self.until_ns = self.until_ns.max(now_ns.saturating_add(self.timeout_ns));
        }
    }

    fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.until_ns
    }
}

struct Director<'a> {
    plan: &'a Plan,
    crew: Crew,
    /// Until the window is over.
    witness: Option<Witness>,
    testimony: Testimony,
    timeline: Timeline,
    interrupted: &'a AtomicBool,
    observe: &'a mut dyn FnMut(&Progress<'_>),
    problem: Option<String>,
    window: Window,
    /// Replies that came while half of the connections were silent.
    probed: u64,
    probe_from_ns: u64,
}

impl Director<'_> {
    fn goes_on(&self) -> bool {
        self.problem.is_none() && !self.interrupted.load(Ordering::Relaxed)
    }

    /// Takes the threads' news for a tenth of a second, or until `until_ns`, and samples the machine.
    fn tick(&mut self, stage: Stage, since_ns: u64, until_ns: u64) {
        let now_ns = self.crew.now_ns();
        let tick_ends_ns = until_ns.min((now_ns / SLICE_NS + 1) * SLICE_NS);
        loop {
            let left = Duration::from_nanos(tick_ends_ns.saturating_sub(self.crew.now_ns())).min(TICK);
            if left.is_zero() || self.interrupted.load(Ordering::Relaxed) {
                break;
            }
            match self.crew.receive(left) {
                Some(News::Slice(tally)) => {
                    let began_ns = tally.index * SLICE_NS;
                    if began_ns < self.window.to_ns {
                        self.timeline.add(&tally);
                    } else if began_ns >= self.probe_from_ns {
                        self.probed += tally.replies;
                    }
                }
                Some(News::Fatal(problem)) => {
                    self.problem.get_or_insert(problem);
                    break;
                }
                Some(News::Ready(_)) => {}
                Some(News::Done(_)) if self.crew.is_done() => break,
                Some(News::Done(_)) => {}
                None => {}
            }
        }
        if let Some(witness) = &mut self.witness {
            witness.sample();
        }
        let now_ns = self.crew.now_ns();
        if let Stage::Measuring = stage {
            // Slices in which nothing happened are not reported. The progress line must show them.
            let silent_to_ns = now_ns.saturating_sub(SILENCE_SHOWN_AFTER_NS).min(self.window.to_ns);
            self.timeline.reach(Window { from_ns: self.window.from_ns, to_ns: silent_to_ns });
        }
        (self.observe)(&Progress {
            stage,
            elapsed: Duration::from_nanos(now_ns.saturating_sub(since_ns)),
            total: Duration::from_nanos(until_ns.saturating_sub(since_ns)),
            open: self.crew.open(),
            timeline: &self.timeline,
            now_ns,
        });
    }

    /// Connects and warms up. When it returns the window is set, if the run has one.
    fn up_to_the_window(&mut self) -> WarmUpFigures {
        let mut figures = WarmUpFigures::default();
        let began_ns = self.crew.now_ns();
        self.crew.connect();
        if !self.plan.churn {
            let mut patience = Patience::new(began_ns, self.plan.ramp, self.plan.timeout);
            let wanted = self.plan.connections + self.plan.idle;
            while self.goes_on() && self.crew.open() < wanted && !patience.is_over(self.crew.now_ns()) {
                // In short steps: a connection takes a tenth of a millisecond, not of a second.
                let until_ns = patience.until_ns;
                self.tick(Stage::Connecting, began_ns, until_ns.min(self.crew.now_ns() + 5_000_000));
                patience.see(self.crew.open(), self.crew.now_ns());
            }
            let patience = self.plan.timeout;
            let open = self.crew.open();
            if self.goes_on() && open < wanted {
                let target = &self.plan.target;
                self.problem = Some(match open {
                    0 => format!("no connection to {target} was made within {patience:?}"),
                    _ => format!(
                        "only {open} of {wanted} connections to {target} came about, and no more within {patience:?}: the \
                         server may have a limit (switchboard's is --connections-max), or too few descriptors \
                         (ulimit -n)"
                    ),
                });
            }
        }
        if !self.goes_on() {
            return figures;
        }

        self.watch_the_server_rest();
        let began_ns = self.crew.now_ns();
        if let WarmUp::For(time) = self.plan.warm_up {
            // Set before the first message: without a warm-up, that one is in the window, too.
            self.set_window(began_ns + nanoseconds(time));
        }
        self.crew.talk();
        let (most_ns, because) = match self.plan.warm_up {
            WarmUp::For(time) => (nanoseconds(time), "asked for"),
            WarmUp::Auto => {
                let third = nanoseconds(self.plan.duration) / 3;
                ((SETTLING_SLICES_MAX * SLICE_NS).min(third), "the rate did not settle")
            }
        };
        figures.because = because.into();
        let until_ns = began_ns + most_ns.saturating_sub(AHEAD_NS);
        while self.goes_on() && self.crew.now_ns() < until_ns {
            self.tick(Stage::WarmUp, began_ns, until_ns);
            if self.plan.warm_up == WarmUp::Auto && self.has_settled(began_ns) {
                figures.because = "the rate had settled".into();
                break;
            }
        }
        if self.plan.warm_up == WarmUp::Auto {
            // With the slices, so that none is half warm-up.
            self.set_window((self.crew.now_ns() + AHEAD_NS).next_multiple_of(SLICE_NS));
        }
        figures.cut_s = (self.window.from_ns - began_ns) as f64 / 1e9;
        figures
    }

    /// Only where its process is known. (With `--churn` there are no connections yet, and there is as little to do.)
    fn watch_the_server_rest(&mut self) {
        if !self.witness.as_ref().is_some_and(Witness::knows_the_server) {
            return;
        }
        let began_ns = self.crew.now_ns();
        self.witness.iter_mut().for_each(Witness::rest);
        while self.goes_on() && self.crew.now_ns() < began_ns + REST_NS {
            self.tick(Stage::Connecting, began_ns, began_ns + REST_NS);
        }
        self.witness.iter_mut().for_each(Witness::rest);
    }

    fn set_window(&mut self, from_ns: u64) {
        self.window = Window { from_ns, to_ns: from_ns.saturating_add(nanoseconds(self.plan.duration)) };
        self.crew.measure(self.window);
    }

    /// Returns whether the last slices had about as many replies as those before them.
    fn has_settled(&self, began_ns: u64) -> bool {
        let now_ns = self.crew.now_ns();
        if now_ns < began_ns + (2 * SETTLING_SLICES as u64 + 2) * SLICE_NS {
            return false;
        }
        let replies: Vec<f64> =
            self.timeline.newest(now_ns, 2 * SETTLING_SLICES).map(|tally| tally.replies as f64).collect();
        if replies.len() < 2 * SETTLING_SLICES {
            return false;
        }
        let (before, after) = replies.split_at(SETTLING_SLICES);
        let (before, after) = (before.iter().sum::<f64>(), after.iter().sum::<f64>());
        before > 0.0 && (after / before - 1.0).abs() <= SETTLED_WITHIN
    }

    fn measure(&mut self) {
        while self.crew.now_ns() < self.window.from_ns {
            self.tick(Stage::WarmUp, 0, self.window.from_ns);
        }
        if let Some(witness) = &mut self.witness {
            witness.begin();
        }
        while self.goes_on() && self.crew.now_ns() < self.window.to_ns {
            self.tick(Stage::Measuring, self.window.from_ns, self.window.to_ns);
        }
        if !self.goes_on() {
            // What was measured ends here.
            self.window.to_ns = self.crew.now_ns().min(self.window.to_ns);
            self.crew.measure(self.window);
        }
        self.dismiss_the_witness();
    }

    /// Events after the window must not count in it.
    fn dismiss_the_witness(&mut self) {
        let Some(witness) = self.witness.take() else { return };
        let replies = self.timeline.replies_since(self.window.from_ns);
        let connections = (self.plan.connections + self.plan.idle) as u32;
        self.testimony = witness.finish(connections, replies, replies);
    }

    /// Then the limit has been found already. An open loop's generator watches the clock, so its CPU says nothing.
    fn someone_is_full(&self) -> bool {
        let generator = if self.plan.rate.is_some() { 0.0 } else { self.testimony.generator.cpu };
        generator >= PROBE_BELOW
            || self.testimony.server.as_ref().is_some_and(|server| {
                server.busiest_thread_cpu >= PROBE_BELOW && !verdict::polls_without_sleep(server)
            })
    }

    /// Whether as many replies came as the rate's schedule has messages. (Slices count messages when they are sent, and
    /// those that wait are not.)
    fn has_kept_up(&self) -> bool {
        let window_s = (self.window.to_ns - self.window.from_ns) as f64 / 1e9;
        let due = self.plan.rate.map_or(0.0, |rate| rate.from_per_s.midpoint(rate.to_per_s) * window_s);
        self.timeline.replies_since(self.window.from_ns) as f64 >= verdict::KEPT_UP * due
    }

    /// Does the rate halve if half of the connections are silent? An open loop that fell behind keeps the other
    /// half as busy as a closed loop does: messages wait.
    fn probe(&mut self, wanted: bool) -> Option<Probe> {
        // (An open loop over UDP sends what is due on any socket.)
        let is_open_udp = self.plan.rate.is_some() && matches!(self.plan.target, Endpoint::Udp(_));
        let can_halve = !self.plan.churn && !is_open_udp && self.plan.connections / self.plan.threads >= 2;
        if !wanted || !self.goes_on() || !can_halve || self.someone_is_full() {
            return None;
        }
        if self.plan.rate.is_some() && self.has_kept_up() {
            return None;
        }
        let replies: u64 = self.timeline.newest(self.window.to_ns, 10).map(|tally| tally.replies).sum();
        let slices = self.timeline.newest(self.window.to_ns, 10).count() as f64;
        let before_ns = self.crew.now_ns();
        self.crew.halve();
        self.probe_from_ns = (before_ns + PROBE_SETTLES_NS).next_multiple_of(SLICE_NS);
        let to_ns = self.probe_from_ns + PROBE_LASTS_NS;
        while self.goes_on() && self.crew.now_ns() < to_ns + AHEAD_NS {
            self.tick(Stage::Finishing, before_ns, to_ns + AHEAD_NS);
        }
        let half_per_s = self.probed as f64 / (PROBE_LASTS_NS as f64 / 1e9);
        self.probe_from_ns = u64::MAX;
        let whole_per_s = replies as f64 / (slices.max(1.0) * SLICE_NS as f64 / 1e9);
        Some(Probe { half_per_s, whole_per_s })
    }

    fn finish(&mut self) {
        let began_ns = self.crew.now_ns();
        match self.problem {
            None => self.crew.finish(),
            Some(_) => self.crew.stop(),
        }
        let until_ns = began_ns.saturating_add(nanoseconds(self.plan.timeout) + 2_000_000_000);
        // The problem, if there is one, has been noted. This collects the last news of the threads.
        let was_interrupted = self.interrupted.load(Ordering::Relaxed);
        while !self.crew.is_done() && self.crew.now_ns() < until_ns {
            if was_interrupted || self.problem.is_some() {
                self.crew.stop();
                if let Some(News::Slice(tally)) = self.crew.receive(TICK)
                    && tally.index * SLICE_NS < self.window.to_ns
                {
                    self.timeline.add(&tally);
                }
            } else {
                self.tick(Stage::Finishing, began_ns, until_ns);
                if self.interrupted.load(Ordering::Relaxed) {
                    self.crew.stop();
                    return self.finish();
                }
            }
        }
        self.crew.stop();
    }

    /// The report: what the threads counted and the witness saw.
    fn report(&mut self, report: &mut Report, warm_up: WarmUpFigures) {
        let account = std::mem::take(&mut self.crew.account);
        let from_ns = self.window.from_ns;
        let Account { infinite, .. } = account;
        count_up(report, &account, self.window);
        report.warm_up = warm_up;
        report.statuses = account.statuses.clone();
        report.latency.service = account.service.latency(infinite);
        report.latency.response = match self.plan.rate.is_some() || self.plan.churn {
            true => account.response.latency(infinite),
            false => report.latency.service.clone(),
        };
        report.latency.send_lag = self.plan.rate.and_then(|_| account.send_lag.latency(0));
        report.latency.connect = match self.plan.target {
            Endpoint::Udp(_) => None,
            _ => account.connect.latency(0),
        };
        report.latency.handshake = account.handshake.latency(0);
        report.resumed = account.resumed;
        self.timeline.reach(self.window);
        report.timeline = self.timeline.slices(self.window);
        report.shape = shape(&self.timeline.all(from_ns).rows());
        if let Some(rate) = self.plan.rate
            && rate.from_per_s != rate.to_per_s
        {
            report.curve = curve(report);
        }
        self.dismiss_the_witness(); // where it never came to the window
        let testimony = std::mem::take(&mut self.testimony);
        report.generator = testimony.generator;
        report.generator.busy = account.worked_ns as f64 / account.lasted_ns.max(1) as f64;
        report.server = testimony.server;
        report.kernel = testimony.kernel;
    }
}

/// A ramp passes through every load: its slices are the points of the curve, up to twenty of them.
fn curve(report: &Report) -> Vec<LoadPoint> {
    let measured: Vec<_> = report.timeline.iter().filter(|slice| !slice.warm_up).collect();
    let chunk = measured.len().div_ceil(20).max(1);
    let point = |slices: &[&super::report::Slice]| {
        let width_s: f64 = slices.iter().map(|slice| slice.width_s).sum();
        let middle = slices[slices.len() / 2];
        LoadPoint {
            offered_per_s: slices.iter().map(|slice| slice.offered).sum::<u64>() as f64 / width_s,
            achieved_per_s: slices.iter().map(|slice| slice.replies).sum::<u64>() as f64 / width_s,
            p50_ns: middle.p50_ns,
            p99_ns: slices.iter().filter_map(|slice| slice.p99_ns).max(),
            failures: slices.iter().map(|slice| slice.failures).sum(),
            met: None,
        }
    };
    measured.chunks(chunk).map(point).collect()
}

fn figures(plan: &Plan) -> PlanFigures {
    let (min, max) = match plan.said {
        Said::Numbered { min, max } => (min, max),
        Said::Template(ref template) => template.size(),
    };
    #[cfg(feature = "web")]
    let (method, has_body) = match &plan.asked {
        Some(asked) if plan.target.framing() == Framing::Http => (Some(asked.method.clone()), asked.has_body),
        Some(_) => (None, true),
        None => (None, true),
    };
    #[cfg(not(feature = "web"))]
    let (method, has_body) = (None, true);
    let (min, max) = if has_body { (min, max) } else { (0, 0) };
    PlanFigures {
        method,
        connections: plan.connections as u32,
        depth: plan.depth as u32,
        idle: plan.idle as u32,
        churn: plan.churn,
        rate_from_per_s: plan.rate.map(|rate| rate.from_per_s),
        rate_to_per_s: plan.rate.map(|rate| rate.to_per_s),
        arrivals: plan.rate.map(|rate| rate.arrivals.name().into()),
        size_min_bytes: min as u64,
        size_max_bytes: max as u64,
        threads: plan.threads as u32,
        timeout_s: plan.timeout.as_secs_f64(),
        seed: plan.seed,
    }
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_waited_for_as_long_as_more_of_them_come_about() {
        let (ramp, timeout) = (Duration::from_nanos(20), Duration::from_nanos(5));
        let mut patience = Patience::new(100, ramp, timeout);
        patience.see(1, 101);
        assert!(!patience.is_over(124), "the ramp is not over");
        patience.see(2, 124);
        assert!(!patience.is_over(128), "one has just come about");
        patience.see(1, 126); // one has gone, and comes again
        patience.see(2, 128);
        assert!(patience.is_over(129), "there are no more than there were");
    }
}
