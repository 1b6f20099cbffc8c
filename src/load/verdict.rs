//! What limited the rate? The answer decides what a rate means, and follows from a report's figures.
//!
//! A load test finds the slowest of its parts, and that need not be the server. So the rules are tried in an order. First come
//! the causes that make all other figures worthless: the generator itself, and cores for which both sides compete. Then come
//! the server, the kernel between the two, and the plan. If no rule applies the verdict is UNKNOWN, with what is missing. No rule
//! guesses: a rule without its figures does not apply.
//!
//! If both sides are full, each on its own core, the verdict is GENERATOR: the server may be at its limit as well, but only a
//! generator with spare time could show it. The rates are then lower bounds, which is always true. SERVER means that the
//! generator had spare time.
//!
//! Invariant: the same report gets the same verdict, and no figure, however broken (NaN, infinite, 0),
//! makes it panic or shows up as such in its sentences.

use super::report::{Latency, Limit, Report, ServerFigures, Verdict};

/// A thread that is on a CPU for this part of the time is full: the rest is lost to wake-ups, and beyond it
/// queues grow fast.
const FULL: f64 = 0.9;
/// A loop that waits for events less than 1/20 of the time is full, whatever the kernel says of its CPU.
const LOOP_FULL: f64 = 0.95;
/// A thread that runs or wants to run this part of the time would be full with a CPU of its own ...
const STARVED_WANTS: f64 = 0.95;
/// ... and it has none if it waits this part of the time for a CPU.
const STARVED_WAITS: f64 = 0.1;
/// Two threads that wait for the same CPUs limit each other from this part of the time on. Below it, the loss is smaller
/// than what an experiment finds, so the experiment decides first.
const SHARED_WAITS: f64 = 0.2;
/// A thread that waits for a CPU more than half of the time is starved, whatever it would have done with it.
const STARVED_MOSTLY: f64 = 0.5;
/// Two processes that wait for a CPU share it if one waits at most this many times as long as the other.
const WAITS_ALIKE: f64 = 3.0;
/// With longer waits an experiment shows how the CPUs were shared, and not what was the limit.
const PROBE_WAITS_MAX: f64 = 0.3;
/// An open loop sends on time if 99 % are sent within this: what a timer and a scheduler need ...
const LAG_SMALL_NS: f64 = 1e6;
/// Below this part of a CPU, another thread of ours would not help.
const HALF_BUSY: f64 = 0.5;
/// A silence of this length is worth a verdict of its own, where it is a quarter of the run.
const SILENCE_LONG_S: f64 = 0.5;
/// ... or within this part of the response time's p99, in which it is then no great mistake.
const LAG_SMALL_PART: f64 = 0.1;
/// A message can also be late because all messages that may be in flight were, while the server stalled.
/// With a CPU or a loop less busy than this, and hardly a wait for a CPU, we could have sent it: the
/// lateness isn't ours. More than 1 % of the messages were late, so what held us up took 1 % of the time.
const IDLE_BUSY: f64 = 0.5;
/// See [`IDLE_BUSY`].
const IDLE_WAITS: f64 = 0.02;
/// An open loop kept up if this part of what was offered was answered within the window.
pub(super) const KEPT_UP: f64 = 0.98;
/// From this part on, all messages that may be in flight are in flight, on average.
const ALL_IN_FLIGHT: f64 = 0.9;
/// A server whose busiest thread takes more than this of a CPU with nothing to do polls without sleeping.
const POLLS: f64 = 0.5;
/// One segment in a hundred sent again: on a healthy path it's one in thousands.
const RETRANSMITS_MUCH: f64 = 0.01;
/// Of fewer segments a share says nothing.
const SEGMENTS_FEW: u64 = 1000;
/// The hypervisor took one tenth of the CPU time: all times are longer by that, in bursts.
const STEAL_MUCH: f64 = 0.1;
/// In an open loop, a loss of this part is no limit: it is counted among the failures.
const LOST_FEW: f64 = 0.001;
/// Of the samples: data lies in the kernel all the time.
const QUEUED_MOSTLY: f64 = 0.9;
/// A SYN that was dropped is sent again after a second.
const SYN_AGAIN_NS: u64 = 1_000_000_000;
/// With half the connections silent, the server still does this part of the rate: then it was full ...
const PROBE_STAYS: f64 = 0.85;
/// ... or only this part: then each connection had its own rate. In between both had a part in it.
const PROBE_HALVES: f64 = 0.65;

/// An experiment at the end of a closed loop: the rate with all connections, and with half of them silent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Probe {
    /// Replies per second with half the connections.
    pub half_per_s: f64,
    /// Replies per second with all of them.
    pub whole_per_s: f64,
}

/// What was the limit, why, and what to do about it. `probe` counts only where no other rule applies.
pub fn judge(report: &Report, probe: Option<Probe>) -> Verdict {
    let run = Run::of(report);
    let verdict = shared_cpu(&run)
        .or_else(|| generator(&run))
        .or_else(|| full_server(&run))
        .or_else(|| lost_in_the_kernel(&run))
        .or_else(|| nothing_measured(&run))
        .or_else(|| kept_up(&run))
        .or_else(|| slow_kernel(&run))
        .or_else(|| lossy_network(&run))
        .or_else(|| probed(&run, probe))
        .or_else(|| fell_behind(&run))
        .unwrap_or_else(|| nothing_stood_out(&run));
    let steal = run.steal;
    match verdict.limit {
        // Those rest on CPU figures, and these rest on a clock that ran on while we didn't.
        Limit::Generator | Limit::Server | Limit::SharedCpu if steal > STEAL_MUCH => Verdict {
            because: format!("{} The hypervisor took {} of the CPU time.", verdict.because, percent(steal)),
            ..verdict
        },
        _ => verdict,
    }
}

/// Whether the server's busiest thread uses a CPU while it waits: then its CPU time says nothing.
pub fn polls_without_sleep(server: &ServerFigures) -> bool {
    server.cpu_at_rest.is_some_and(|part| figure(part) > POLLS)
}

/// The figures that the rules use. An impossible figure counts as 0.
struct Run<'a> {
    report: &'a Report,
    cpu: f64,
    wait: f64,
    busy: f64,
    server: Option<ServerRun<'a>>,
    steal: f64,
    in_flight_max: u64,
}

struct ServerRun<'a> {
    figures: &'a ServerFigures,
    cpu: f64,
    wait: f64,
    cores: f64,
}

impl Run<'_> {
    fn of(report: &Report) -> Run<'_> {
        let server = report.server.as_ref().map(|figures| ServerRun {
            figures,
            cpu: figure(figures.busiest_thread_cpu),
            wait: figure(figures.run_queue_wait),
            cores: figure(figures.cpu_cores),
        });
        let plan = &report.plan;
        let (mut cpu, busy) = (figure(report.generator.cpu), figure(report.generator.busy));
        // Before a message is due the pacer watches the clock instead of sleeping: CPU time that work would get.
        if busy > 0.0 && (plan.rate_from_per_s.is_some() || plan.rate_to_per_s.is_some()) {
            cpu = cpu.min(busy);
        }
        Run {
            report,
            cpu,
            wait: figure(report.generator.run_queue_wait),
            busy,
            server,
            steal: figure(report.kernel.steal),
            in_flight_max: match report.target.starts_with("udp") && plan.rate_to_per_s.is_some() {
                true => u64::MAX, // whatever is due is sent
                false => u64::from(plan.connections) * u64::from(plan.depth.max(1)),
            },
        }
    }

    fn open(&self) -> bool {
        self.report.plan.rate_from_per_s.is_some() || self.report.plan.rate_to_per_s.is_some()
    }

    fn nothing(&self) -> bool {
        self.report.replies == 0
    }

    /// The part of what was due that was answered within the window, from 0 to 1. Replies that came after its end
    /// don't count: a server that is overrun answers its backlog then. But some are in flight at any moment.
    fn answered(&self) -> f64 {
        if self.report.offered == 0 {
            return 0.0;
        }
        let missing = (self.report.offered as f64 - self.answers_in_window()).max(0.0);
        // Little's law, with the shortest time: all others may hold time in a queue. Twice, because it is an average.
        let service_ns = self.report.latency.service.as_ref().map_or(0.0, |it| it.min_ns as f64);
        let in_flight = 2.0 + 2.0 * figure(self.report.achieved_per_s) * service_ns / 1e9;
        let missing = (missing - in_flight.min(self.in_flight_max as f64)).max(0.0);
        1.0 - missing / self.report.offered as f64
    }

    fn answers_in_window(&self) -> f64 {
        (figure(self.report.achieved_per_s) * figure(self.report.measured_s)).round()
    }

    /// Whether all that may be in flight was, for most of the time (Little's law).
    fn is_all_in_flight(&self) -> bool {
        let service_ns = self.report.latency.service.as_ref().map_or(0.0, |it| figure(it.mean_ns));
        let in_flight = figure(self.report.achieved_per_s) * service_ns / 1e9;
        in_flight >= ALL_IN_FLIGHT * self.in_flight_max as f64
    }

    /// Whether our own figures can be right: no generator works without CPU time.
    fn is_measured(&self) -> bool {
        self.cpu > 0.0 || self.busy > 0.0 || !self.report.generator.cpu_samples.is_empty()
    }

    /// The CPU that both are confined to, if there is one.
    fn one_cpu_for_both(&self) -> Option<u32> {
        match (
            self.report.generator.cpus_allowed.as_slice(),
            self.server.as_ref()?.figures.cpus_allowed.as_slice(),
        ) {
            ([ours], [theirs]) if ours == theirs => Some(*ours),
            _ => None,
        }
    }

    /// Whether there is a CPU that both may use. Unknown sets may be any.
    fn may_meet(&self) -> bool {
        let ours = &self.report.generator.cpus_allowed;
        self.server.as_ref().is_some_and(|server| {
            let theirs = &server.figures.cpus_allowed;
            ours.is_empty() || theirs.is_empty() || ours.iter().any(|cpu| theirs.contains(cpu))
        })
    }

    /// Why an open loop's messages were sent late, if the generator caused it.
    fn own_lag(&self) -> Option<String> {
        if !self.open() {
            return None;
        }
        let p99 = |it: &Option<Latency>| Some(it.as_ref()?.percentile(99.0)?.ns);
        let lag = p99(&self.report.latency.send_lag)?;
        // What lag is little depends on the response times. Where the slowest responses never came, the slowest percentile
        // that did come is the measure.
        let finite = |percent: f64| self.report.latency.response.as_ref()?.percentile(percent)?.ns;
        let response_ns = [99.0, 90.0, 50.0].into_iter().find_map(finite).unwrap_or(0) as f64;
        let late = lag.is_none_or(|ns| ns as f64 > LAG_SMALL_NS.max(LAG_SMALL_PART * response_ns));
        let idle =
            self.is_measured() && self.cpu < IDLE_BUSY && self.busy < IDLE_BUSY && self.wait < IDLE_WAITS;
        (late && !idle).then(|| match lag {
            Some(ns) => format!("1 % of the messages were sent {} late or later", span(ns)),
            None => "more than 1 % of the messages could not be sent".to_owned(),
        })
    }

    fn server_is(&self) -> String {
        match &self.server {
            None => "its CPU is not known".to_owned(),
            Some(server) if polls_without_sleep(server.figures) => {
                "it polls without sleeping, so its CPU time shows nothing".to_owned()
            }
            Some(server) => format!("its busiest thread took {} of a CPU", percent(server.cpu)),
        }
    }

    fn in_flight(&self) -> String {
        match self.in_flight_max {
            1 => "1 message in flight".to_owned(),
            many => format!("{many} messages in flight"),
        }
    }
}

fn starves(cpu: f64, wait: f64) -> bool {
    wait >= STARVED_MOSTLY || wait >= STARVED_WAITS && cpu + wait >= STARVED_WANTS
}

/// Two threads on the same core take turns, and each one's rate depends on the other.
fn shared_cpu(run: &Run<'_>) -> Option<Verdict> {
    let server = run.server.as_ref()?;
    let remedy = match run.report.machine.cpus {
        0 | 1 => "Run the generator on another machine: this one has a single CPU.",
        _ => {
            "Give each its own CPUs: --pin CPU for us, taskset for the server; or run us on another machine."
        }
    };
    let verdict = |because| Some(Verdict { limit: Limit::SharedCpu, because, remedy: remedy.into() });
    if let Some(cpu) = run.one_cpu_for_both()
        && run.cpu + server.cores >= FULL
    {
        return verdict(format!(
            "Generator and server are both confined to CPU {cpu} and fill it together: {} and {}.",
            percent(run.cpu),
            percent(server.cores),
        ));
    }
    // A wait doesn't limit a schedule that was kept.
    let schedule_kept = run.open() && run.answered() >= KEPT_UP && run.own_lag().is_none();
    if schedule_kept {
        return None;
    }
    let alike = run.wait <= WAITS_ALIKE * server.wait && server.wait <= WAITS_ALIKE * run.wait;
    if run.wait >= SHARED_WAITS && server.wait >= SHARED_WAITS && alike {
        let because = format!(
            "Both wanted CPUs that they did not get: the generator's thread waited for one {} of the time, \
             the server's {}.",
            percent(run.wait),
            percent(server.wait),
        );
        let others =
            "Neither slows the other down: stop the other programs on these CPUs, or use other CPUs.";
        let remedy = if run.may_meet() { remedy } else { others };
        return Some(Verdict { limit: Limit::SharedCpu, because, remedy: remedy.into() });
    }
    if !run.may_meet() {
        return None;
    }
    // The generator can be in the server's way without waiting itself. It is not, if the server's own threads fill
    // all the CPUs that it may use, or if the generator took less than the server was short of.
    if starves(server.cpu, server.wait) && !fills_its_cpus(server) && run.cpu >= server.wait {
        return verdict(format!(
            "The server's busiest thread waited {} of the time for a CPU, while we took {} of one that it \
             may use.",
            percent(server.wait),
            percent(run.cpu),
        ));
    }
    None
}

/// All cores that it may have, by all its threads together.
fn fills_its_cpus(server: &ServerRun<'_>) -> bool {
    let allowed = server.figures.cpus_allowed.len();
    allowed > 0 && server.cores >= FULL * allowed as f64
}

fn generator(run: &Run<'_>) -> Option<Verdict> {
    let ceiling = run.report.generator.ceiling_per_s.map(figure).filter(|it| *it > 0.0);
    let ceiling = ceiling.map_or(String::new(), |it| format!(" (alone it can do {})", rate(it)));
    let (why, starved) = if run.cpu >= FULL {
        (format!("our busiest thread took {} of a CPU{ceiling}", percent(run.cpu)), false)
    } else if starves(run.cpu, run.wait) {
        let (cpu, wait) = (percent(run.cpu), percent(run.wait));
        (format!("our busiest thread ran {cpu} of the time and waited {wait} of it for a CPU"), true)
    } else if run.busy >= LOOP_FULL {
        (format!("our loop worked {} of the time{ceiling}", percent(run.busy)), false)
    } else {
        (run.own_lag()?, run.wait >= STARVED_WAITS)
    };
    let both = match &run.server {
        Some(server) if server.cpu >= FULL => {
            format!(
                " The server was full too ({} of a CPU), so it may not do much more.",
                percent(server.cpu)
            )
        }
        _ => String::new(),
    };
    let threads = run.report.plan.threads.max(1);
    let remedy = match run.report.machine.cpus > threads {
        _ if starved => {
            "Other programs want our CPU: stop them, give us one with --pin CPU, or use another machine."
                .to_owned()
        }
        true if run.cpu.max(run.busy) < HALF_BUSY => {
            "Our CPU was mostly idle, so more threads would not help: see what delays the generator (other programs, \
             power saving), or pin it with --pin CPU."
                .to_owned()
        }
        true => format!("Use more of our {} CPUs with --threads {}.", run.report.machine.cpus, threads + 1),
        false => "Run the generator on another machine, or on several.".to_owned(),
    };
    let because = format!("{}: the rates are lower bounds.{both}", sentence(&why));
    Some(Verdict { limit: Limit::Generator, because, remedy })
}

fn full_server(run: &Run<'_>) -> Option<Verdict> {
    let server = run.server.as_ref().filter(|it| !polls_without_sleep(it.figures))?;
    let thread = match server.figures.busiest_thread.as_str() {
        "" => "its busiest thread".to_owned(),
        name => format!("its busiest thread ({name})"),
    };
    let we = format!("while ours took {}", percent(run.cpu));
    let why = if server.cpu >= FULL {
        format!("{thread} took {} of a CPU, {we}", percent(server.cpu))
    } else if fills_its_cpus(server) {
        let (cores, allowed) = (server.cores, server.figures.cpus_allowed.len());
        let cpus = if allowed == 1 { "CPU" } else { "CPUs" };
        format!("it took {cores:.2} of the {allowed} {cpus} that it may use, {we}")
    } else if starves(server.cpu, server.wait) {
        // Not by us: that would have been SHARED CPU.
        let (cpu, wait) = (percent(server.cpu), percent(server.wait));
        return Some(Verdict {
            limit: Limit::Server,
            because: format!(
                "The server had no more CPU: {thread} ran {cpu} of the time and waited {wait} of it for one, \
                 {we}."
            ),
            remedy: "Another program uses its CPUs: stop it to see what the server can do alone.".to_owned(),
        });
    } else {
        return None;
    };
    Some(Verdict {
        limit: Limit::Server,
        because: format!("The server was full: {why}."),
        remedy: "This is what it can do. To get more, reduce its CPU time per reply.".to_owned(),
    })
}

/// Connections or datagrams that the kernel dropped, and that were missed.
fn lost_in_the_kernel(run: &Run<'_>) -> Option<Verdict> {
    let (kernel, failures) = (&run.report.kernel, &run.report.failures);
    let verdict =
        |because, remedy: &str| Some(Verdict { limit: Limit::Kernel, because, remedy: remedy.into() });
    if run.report.target.starts_with("udp") {
        let lost = failures.lost + failures.timed_out;
        // A closed loop waits for each one until it times out; an open one goes on.
        let few = if run.open() { LOST_FEW * run.report.offered as f64 } else { 0.0 };
        let missed = lost > 0 && lost as f64 > few;
        if missed && kernel.udp_receive_drops > 0 {
            return verdict(
                format!(
                    "The kernel dropped {} datagrams because receive buffers were full (Udp RcvbufErrors), \
                     and {lost} messages got no reply.",
                    kernel.udp_receive_drops
                ),
                "Raise net.core.rmem_max and the receive buffers (SO_RCVBUF), or lower --rate or --depth.",
            );
        }
        if missed && kernel.udp_send_drops > 0 {
            return verdict(
                format!(
                    "The kernel dropped {} datagrams because send buffers were full (Udp SndbufErrors), and \
                     {lost} messages got no reply.",
                    kernel.udp_send_drops
                ),
                "Raise net.core.wmem_max and the send buffers (SO_SNDBUF), or lower --rate or --depth.",
            );
        }
        return None;
    }
    let drops = match (kernel.listen_overflows, kernel.listen_drops) {
        (0, 0) => return None,
        (0, drops) => format!("Listeners dropped {drops} connections (TcpExt ListenDrops)"),
        (overflows, _) => {
            format!("{overflows} connections found a listener's backlog full (TcpExt ListenOverflows)")
        }
    };
    let slowest = run.report.latency.connect.as_ref().filter(|it| it.count + it.infinite > 0);
    let slowest = slowest.map_or(0, |it| it.max_ns);
    let missed = if failures.refused > 0 {
        format!("{} connections could not be made", failures.refused)
    } else if failures.timed_out > 0 {
        format!("{} messages timed out", failures.timed_out)
    } else if slowest >= SYN_AGAIN_NS {
        format!("connecting took up to {}", span(slowest))
    } else {
        return None;
    };
    verdict(
        format!("{drops}, and {missed}."),
        "Raise the server's backlog (listen(2)) and net.core.somaxconn, let it accept faster, or connect \
         more slowly with --ramp.",
    )
}

fn nothing_measured(run: &Run<'_>) -> Option<Verdict> {
    run.nothing().then(|| {
        let failures = run.report.failures.total();
        let because = match failures {
            0 => "No reply came, so there is nothing to judge by.".to_owned(),
            _ => format!("No right reply came, but {failures} failures: there is nothing to judge by."),
        };
        let remedy = "See that the server answers at all, and what it answers.".to_owned();
        Verdict { limit: Limit::Unknown, because, remedy }
    })
}

fn kept_up(run: &Run<'_>) -> Option<Verdict> {
    let answered = run.answered();
    (run.open() && answered >= KEPT_UP).then(|| Verdict {
        limit: Limit::Rate,
        because: format!(
            "The server kept up: {} of {} messages were answered in time, and neither side was full.",
            run.answers_in_window().min(run.report.offered as f64),
            run.report.offered
        ),
        remedy: "To find its limit, raise --rate, or search for it with --find-max.".to_owned(),
    })
}

/// What makes a path slow without losing anything.
fn slow_kernel(run: &Run<'_>) -> Option<Verdict> {
    let verdict =
        |because, remedy: &str| Some(Verdict { limit: Limit::Kernel, because, remedy: remedy.into() });
    if run.steal > STEAL_MUCH {
        return verdict(
            format!("The hypervisor gave {} of the CPU time to others (steal).", percent(run.steal)),
            "Measure on a machine that is not shared, or at another time.",
        );
    }
    None
}

/// A path that loses.
fn lossy_network(run: &Run<'_>) -> Option<Verdict> {
    let kernel = &run.report.kernel;
    if run.report.target.starts_with("unix") || run.report.target.starts_with("udp") {
        return None;
    }
    let again = kernel.retransmits as f64 / kernel.segments_out.max(1) as f64;
    (kernel.segments_out >= SEGMENTS_FEW && again > RETRANSMITS_MUCH).then(|| Verdict {
        limit: Limit::Network,
        because: format!(
            "{} of {} TCP segments were sent again, {} (Tcp RetransSegs).",
            kernel.retransmits,
            kernel.segments_out,
            percent(again.min(1.0))
        ),
        remedy: "Look at the path for loss (ip -s link, ethtool -S), and lower --connections or --depth."
            .to_owned(),
    })
}

/// Data lay on the path all the time. A path that takes no more has that, and so has one that is only long: the probe
/// tells them apart, because on a long one each connection has its own rate.
fn full_path(run: &Run<'_>, stays: f64) -> Option<Verdict> {
    let queued = figure(run.report.kernel.queued_share?);
    (queued >= QUEUED_MOSTLY && stays > PROBE_HALVES).then(|| Verdict {
        limit: Limit::Network,
        because: format!(
            "The path took no more: in {} of the samples, sent data lay in the kernel unconfirmed (tx_queue in \
             /proc/net/tcp), neither side was full, and with half the connections silent the rate was {} of the whole.",
            percent(queued),
            percent(stays),
        ),
        remedy: "Compare bytes per second with what the path is made for; smaller messages or a faster path \
                 get more."
            .to_owned(),
    })
}

/// An open loop whose messages we could have sent, and that was not answered.
fn fell_behind(run: &Run<'_>) -> Option<Verdict> {
    let report = run.report;
    let limit = if run.is_all_in_flight() { Limit::Unknown } else { Limit::Server };
    if run.open() && limit == Limit::Unknown && report.offered > 0 {
        return Some(Verdict {
            limit,
            because: format!(
                "{} of {} messages were answered in time, and {} was all that the plan allows: the server, or \
                 the plan, was the limit; {}.",
                run.answers_in_window(),
                report.offered,
                run.in_flight(),
                run.server_is(),
            ),
            remedy: "Raise --connections or --depth: if the rate stays the same, the server is the limit."
                .to_owned(),
        });
    }
    let failures = match report.failures.total() {
        0 => String::new(),
        count => format!(", with {count} failures"),
    };
    (run.open() && report.offered > 0).then(|| Verdict {
        limit,
        because: format!(
            "The server did not keep up: {} of {} messages were answered in time{failures}, while our busiest \
             thread took {} of a CPU; {}.",
            run.answers_in_window(),
            report.offered,
            percent(run.cpu),
            run.server_is(),
        ),
        remedy: format!(
            "Lower --rate; or, if it only waits, for a disk, a lock or another server, see whether more than \
             {} get more.",
            run.in_flight()
        ),
    })
}

fn probed(run: &Run<'_>, probe: Option<Probe>) -> Option<Verdict> {
    let probe = probe?;
    let waits = run.server.as_ref().map_or(run.wait, |server| run.wait.max(server.wait));
    if waits > PROBE_WAITS_MAX {
        return None;
    }
    let (half, whole) = (figure(probe.half_per_s), figure(probe.whole_per_s));
    if whole <= 0.0 {
        return None;
    }
    if half <= 0.0 {
        return Some(Verdict {
            limit: Limit::Unknown,
            because: "The server had stopped answering by the end of the run: there is no rate to compare."
                .to_owned(),
            remedy:
                "See why it stopped: a limit, a lost reply on each connection, or a process that is stopped."
                    .to_owned(),
        });
    }
    let stays = half / whole;
    let what = format!(
        "with half the connections silent the rate was {} of the whole ({} of {})",
        percent(stays),
        rate(half),
        rate(whole)
    );
    if let Some(verdict) = full_path(run, stays) {
        return Some(verdict);
    }
    Some(if stays >= PROBE_STAYS {
        Verdict {
            limit: Limit::Server,
            because: format!("The server was full, but not with computing: {what}, and {}.", run.server_is()),
            remedy: "Look for what it waits for: a lock, a disk, a sleep, another server.".to_owned(),
        }
    } else if stays <= PROBE_HALVES {
        Verdict {
            limit: Limit::Concurrency,
            because: format!(
                "{} were all that the plan allows, and neither side was full: {what}.",
                sentence(&run.in_flight())
            ),
            remedy: "Raise --connections or --depth to get more.".to_owned(),
        }
    } else {
        Verdict {
            limit: Limit::Unknown,
            because: format!("Neither side was full, and the probe is undecided: {what}."),
            remedy: "Try twice the --connections: if the rate stays the same, the server is the limit."
                .to_owned(),
        }
    })
}

fn nothing_stood_out(run: &Run<'_>) -> Verdict {
    let (silence_s, measured_s) = (run.report.longest_silence_s(), run.report.measured_s);
    if silence_s >= SILENCE_LONG_S && silence_s > measured_s / 4.0 {
        return Verdict {
            limit: Limit::Unknown,
            because: format!("The server answered nothing for {silence_s:.1} of {measured_s:.1} s."),
            remedy: "See what stopped it: a limit, a pause, or a lost reply on each connection.".to_owned(),
        };
    }
    let (because, remedy) = match (&run.server, run.is_measured()) {
        (_, false) => (
            "The generator's CPU was not measured, so it can't be ruled out.".to_owned(),
            "Measure where there is a /proc, and for longer.".to_owned(),
        ),
        (None, true) => (
            format!(
                "The generator had room (its busiest thread took {} of a CPU), and the server's CPU is not known.",
                percent(run.cpu)
            ),
            "Name its process with --server-pid, or start it with --spawn.".to_owned(),
        ),
        (Some(server), true) => (
            format!(
                "Neither side was full: our busiest thread took {} of a CPU, the server's {}.",
                percent(run.cpu),
                percent(server.cpu)
            ),
            format!(
                "Try more than {}: if the rate stays the same, the server is the limit.",
                run.in_flight()
            ),
        ),
    };
    Verdict { limit: Limit::Unknown, because, remedy }
}

/// A figure to compute with: NaN and negative numbers become 0.
fn figure(it: f64) -> f64 {
    if it.is_finite() { it.max(0.0) } else { 0.0 }
}

fn percent(part: f64) -> String {
    match part * 100.0 {
        few if few > 0.0 && few < 10.0 => format!("{few:.1} %"),
        many => format!("{many:.0} %"),
    }
}

fn rate(per_s: f64) -> String {
    format!("{per_s:.0}/s")
}

fn span(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.0} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or(String::new(), |first| first.to_uppercase().chain(rest).collect())
}

#[cfg(test)]
mod tests {
    use super::super::report::{Percentile, ServerFigures};
    use super::*;

    /// A closed loop over TCP in which nothing stands out: both know their own CPU of four.
    fn closed() -> Report {
        let mut report = Report { target: "tcp://127.0.0.1:8080".into(), ..Report::default() };
        report.machine.cpus = 4;
        report.plan.connections = 64;
        report.plan.depth = 1;
        report.plan.threads = 1;
        (report.measured_s, report.offered, report.replies) = (10.0, 100_064, 100_000);
        (report.offered_per_s, report.achieved_per_s) = (10_006.4, 10_000.0);
        (report.generator.cpu, report.generator.busy) = (0.4, 0.4);
        report.generator.cpus_allowed = vec![0, 1, 2, 3];
        report.server = Some(ServerFigures {
            pid: 42,
            name: "server".into(),
            busiest_thread_cpu: 0.4,
            busiest_thread: "worker".into(),
            cpu_cores: 0.4,
            cpus_allowed: vec![0, 1, 2, 3],
            ..ServerFigures::default()
        });
        report
    }

    /// The same as an open loop that was kept up with.
    fn open() -> Report {
        let mut report = closed();
        (report.plan.rate_from_per_s, report.plan.rate_to_per_s) = (Some(10_000.0), Some(10_000.0));
        (report.offered, report.offered_per_s) = (100_000, 10_000.0);
        report.latency.response = p99(Some(3_000_000));
        report.latency.service = p99(Some(2_000_000));
        report.latency.send_lag = p99(Some(50_000));
        report
    }

    /// Makes `count` replies come, all of them in the window.
    fn answers(report: &mut Report, count: u64) {
        (report.replies, report.achieved_per_s) = (count, count as f64 / report.measured_s);
    }

    fn p99(ns: Option<u64>) -> Option<Latency> {
        let percentiles = vec![Percentile { percent: 99.0, ns, few: false }];
        Some(Latency { count: 100_000, mean_ns: 1e6, percentiles, ..Latency::default() })
    }

    type Change = fn(&mut Report);

    fn server(report: &mut Report) -> &mut ServerFigures {
        report.server.as_mut().expect("the server of the made-up report")
    }

    /// The verdict on the example report after this change.
    fn judged(mut report: Report, change: Change, probe: Option<(f64, f64)>) -> Verdict {
        change(&mut report);
        judge(&report, probe.map(|(half_per_s, whole_per_s)| Probe { half_per_s, whole_per_s }))
    }

    fn table(report: fn() -> Report, rows: &[(&str, Change, Limit)]) {
        for (what, change, limit) in rows {
            let verdict = judged(report(), *change, None);
            assert_eq!(verdict.limit, *limit, "{what}: {verdict:?}");
            assert!(verdict.because.ends_with('.'), "{what}: {verdict:?}");
        }
    }

    #[test]
    fn a_closed_loop() {
        use Limit::*;
        table(
            closed,
            &[
                ("nothing stands out", |_| {}, Unknown),
                ("we are full", |it| it.generator.cpu = 0.9, Generator),
                ("we are nearly full", |it| it.generator.cpu = 0.899, Unknown),
                ("our loop is full", |it| it.generator.busy = 0.95, Generator),
                ("our loop is nearly full", |it| it.generator.busy = 0.949, Unknown),
                ("we starve", |it| (it.generator.cpu, it.generator.run_queue_wait) = (0.5, 0.46), Generator),
                (
                    "we nearly starve",
                    |it| (it.generator.cpu, it.generator.run_queue_wait) = (0.5, 0.44),
                    Unknown,
                ),
                (
                    "we run and hardly wait",
                    |it| (it.generator.cpu, it.generator.run_queue_wait) = (0.88, 0.09),
                    Unknown,
                ),
                ("the server is full", |it| server(it).busiest_thread_cpu = 0.9, Server),
                ("the server is nearly full", |it| server(it).busiest_thread_cpu = 0.899, Unknown),
                (
                    "both are full",
                    |it| (it.generator.cpu, server(it).busiest_thread_cpu) = (0.95, 0.99),
                    Generator,
                ),
                (
                    "many threads fill all CPUs",
                    |it| (server(it).busiest_thread_cpu, server(it).cpu_cores) = (0.2, 3.7),
                    Server,
                ),
                (
                    "many threads and room",
                    |it| (server(it).busiest_thread_cpu, server(it).cpu_cores) = (0.2, 3.5),
                    Unknown,
                ),
                (
                    "a server that it isn't known which CPUs it may use",
                    |it| {
                        server(it).cpus_allowed.clear();
                        server(it).cpu_cores = 3.9;
                    },
                    Unknown,
                ),
                ("no server", |it| it.server = None, Unknown),
                (
                    "no server, we are full",
                    |it| {
                        it.server = None;
                        it.generator.cpu = 0.97;
                    },
                    Generator,
                ),
                (
                    "no server, we starve",
                    |it| {
                        it.server = None;
                        (it.generator.cpu, it.generator.run_queue_wait) = (0.3, 0.69);
                    },
                    Generator,
                ),
                ("nothing at all", |it| *it = Report::default(), Unknown),
            ],
        );
    }

    #[test]
    fn cpus_that_both_want() {
        use Limit::*;
        table(
            closed,
            &[
                (
                    "both wait",
                    |it| (it.generator.run_queue_wait, server(it).run_queue_wait) = (0.3, 0.2),
                    SharedCpu,
                ),
                (
                    "both starve",
                    |it| {
                        (it.generator.cpu, it.generator.run_queue_wait) = (0.5, 0.49);
                        (server(it).busiest_thread_cpu, server(it).run_queue_wait) = (0.5, 0.49);
                    },
                    SharedCpu,
                ),
                (
                    "one hardly waits",
                    |it| (it.generator.run_queue_wait, server(it).run_queue_wait) = (0.3, 0.09),
                    Unknown,
                ),
                (
                    "both wait, on CPUs of their own",
                    |it| {
                        (it.generator.run_queue_wait, server(it).run_queue_wait) = (0.3, 0.2);
                        (it.generator.cpus_allowed, server(it).cpus_allowed) = (vec![0, 1], vec![2, 3]);
                    },
                    SharedCpu,
                ),
                (
                    "one CPU, full",
                    |it| {
                        (it.generator.cpus_allowed, server(it).cpus_allowed) = (vec![2], vec![2]);
                        server(it).cpu_cores = 0.5;
                    },
                    SharedCpu,
                ),
                (
                    "one CPU, not full",
                    |it| {
                        (it.generator.cpus_allowed, server(it).cpus_allowed) = (vec![2], vec![2]);
                        server(it).cpu_cores = 0.49;
                    },
                    Unknown,
                ),
                (
                    "one CPU each",
                    |it| {
                        (it.generator.cpus_allowed, server(it).cpus_allowed) = (vec![2], vec![3]);
                        server(it).cpu_cores = 0.8;
                    },
                    Unknown,
                ),
                (
                    "the server starves by us",
                    |it| {
                        it.generator.cpu = 0.6;
                        (server(it).busiest_thread_cpu, server(it).run_queue_wait) = (0.6, 0.39);
                    },
                    SharedCpu,
                ),
                (
                    "the server starves by others",
                    |it| {
                        it.generator.cpu = 0.1;
                        (server(it).busiest_thread_cpu, server(it).run_queue_wait) = (0.6, 0.39);
                    },
                    Server,
                ),
                (
                    "the server starves on other CPUs than ours",
                    |it| {
                        it.generator.cpu = 0.8;
                        (it.generator.cpus_allowed, server(it).cpus_allowed) = (vec![0, 1], vec![2, 3]);
                        (server(it).busiest_thread_cpu, server(it).run_queue_wait) = (0.6, 0.39);
                    },
                    Server,
                ),
                (
                    "the server is crowded by its own threads",
                    |it| {
                        it.generator.cpu = 0.5;
                        server(it).cpu_cores = 3.8;
                        (server(it).busiest_thread_cpu, server(it).run_queue_wait) = (0.5, 0.49);
                    },
                    Server,
                ),
            ],
        );
        table(
            open,
            &[
                (
                    "both wait, and it was in time nevertheless",
                    |it| {
                        (it.generator.run_queue_wait, server(it).run_queue_wait) = (0.3, 0.2);
                    },
                    Rate,
                ),
                (
                    "both wait, and it was not",
                    |it| {
                        (it.generator.run_queue_wait, server(it).run_queue_wait) = (0.3, 0.2);
                        answers(it, 60_000);
                    },
                    SharedCpu,
                ),
            ],
        );
    }

    #[test]
    fn an_open_loop() {
        use Limit::*;
        table(
            open,
            &[
                ("kept up", |_| {}, Rate),
                ("just kept up", |it| answers(it, 98_000), Rate),
                ("not quite", |it| answers(it, 97_900), Server),
                ("far behind", |it| answers(it, 50_000), Server),
                (
                    "far behind, and we are full",
                    |it| {
                        answers(it, 50_000);
                        (it.generator.cpu, it.generator.busy) = (0.93, 0.92);
                    },
                    Generator,
                ),
                (
                    "kept up, with the clock watched while nothing was due",
                    |it| (it.generator.cpu, it.generator.busy) = (1.0, 0.5),
                    Rate,
                ),
                (
                    "behind with a full server",
                    |it| {
                        answers(it, 50_000);
                        server(it).busiest_thread_cpu = 1.0;
                    },
                    Server,
                ),
                ("kept up, with a full server", |it| server(it).busiest_thread_cpu = 0.95, Server),
                (
                    "behind, no server known",
                    |it| {
                        answers(it, 50_000);
                        it.server = None;
                    },
                    Server,
                ),
                ("kept up, no server known", |it| it.server = None, Rate),
                (
                    "slow, few, and some in flight at the end",
                    |it| {
                        it.offered = 20;
                        answers(it, 16);
                        it.latency.service.as_mut().unwrap().min_ns = 2_000_000_000;
                        it.latency.service.as_mut().unwrap().mean_ns = 2e9;
                    },
                    Rate,
                ),
                (
                    "more than may be in flight",
                    |it| {
                        it.offered = 1000;
                        answers(it, 800);
                        it.latency.service.as_mut().unwrap().mean_ns = 60e9;
                    },
                    Unknown,
                ),
                ("only where a ramp ends", |it| it.plan.rate_from_per_s = None, Rate),
                ("nothing was due", |it| it.offered = 0, Unknown),
                ("nothing came back", |it| answers(it, 0), Unknown),
            ],
        );
    }

    #[test]
    fn messages_that_were_sent_late() {
        use Limit::*;
        fn lag(report: &mut Report, ns: Option<u64>) {
            report.latency.send_lag = p99(ns);
            report.generator.busy = 0.6;
        }
        table(
            open,
            &[
                ("1 ms is in time", |it| lag(it, Some(1_000_000)), Rate),
                ("more than 1 ms is late", |it| lag(it, Some(1_000_001)), Generator),
                ("never is late", |it| lag(it, None), Generator),
                (
                    "a tenth of a slow response is in time",
                    |it| {
                        lag(it, Some(9_000_000));
                        it.latency.response = p99(Some(90_000_000));
                    },
                    Rate,
                ),
                (
                    "more than a tenth is late",
                    |it| {
                        lag(it, Some(9_000_001));
                        it.latency.response = p99(Some(90_000_000));
                    },
                    Generator,
                ),
                (
                    "responses that never came excuse nothing",
                    |it| {
                        lag(it, Some(9_000_000));
                        it.latency.response = p99(None);
                    },
                    Generator,
                ),
                (
                    "it was not measured",
                    |it| {
                        lag(it, None);
                        it.latency.send_lag = None;
                    },
                    Rate,
                ),
                (
                    "without percentiles",
                    |it| {
                        lag(it, None);
                        it.latency.send_lag = Some(Latency::default());
                    },
                    Rate,
                ),
                (
                    "we were idle: all that may be in flight was",
                    |it| {
                        lag(it, Some(900_000_000));
                        it.generator.busy = 0.3;
                    },
                    Rate,
                ),
                (
                    "we waited for a CPU now and then",
                    |it| {
                        lag(it, Some(20_000_000));
                        (it.generator.busy, it.generator.run_queue_wait) = (0.3, 0.02);
                    },
                    Generator,
                ),
                (
                    "our own figures are not known, so we can't excuse ourselves",
                    |it| {
                        lag(it, Some(20_000_000));
                        (it.generator.cpu, it.generator.busy) = (0.0, 0.0);
                    },
                    Generator,
                ),
            ],
        );
        // A closed loop sends when it can; there is no late.
        table(closed, &[("closed", |it| lag(it, Some(900_000_000)), Unknown)]);
    }

    #[test]
    fn the_kernel_between_the_two() {
        use Limit::*;
        table(
            closed,
            &[
                ("overflows that nobody missed", |it| it.kernel.listen_overflows = 5, Unknown),
                ("refused, but not by a backlog", |it| it.failures.refused = 5, Unknown),
                (
                    "overflows and refused",
                    |it| (it.kernel.listen_overflows, it.failures.refused) = (5, 1),
                    Kernel,
                ),
                (
                    "drops and timed out",
                    |it| (it.kernel.listen_drops, it.failures.timed_out) = (5, 1),
                    Kernel,
                ),
                (
                    "overflows and a connect of 1 s",
                    |it| {
                        it.kernel.listen_overflows = 5;
                        it.latency.connect =
                            Some(Latency { count: 64, max_ns: SYN_AGAIN_NS, ..Latency::default() });
                    },
                    Kernel,
                ),
                (
                    "overflows and quick connects",
                    |it| {
                        it.kernel.listen_overflows = 5;
                        it.latency.connect =
                            Some(Latency { count: 64, max_ns: 900_000_000, ..Latency::default() });
                    },
                    Unknown,
                ),
                (
                    "nobody got in",
                    |it| {
                        (it.kernel.listen_overflows, it.failures.refused, it.replies) = (5, 64, 0);
                    },
                    Kernel,
                ),
                (
                    "overflows of a full server are its own",
                    |it| {
                        (it.kernel.listen_overflows, it.failures.refused) = (5, 1);
                        server(it).busiest_thread_cpu = 0.99;
                    },
                    Server,
                ),
                (
                    "1 % sent again",
                    |it| (it.kernel.retransmits, it.kernel.segments_out) = (1000, 100_000),
                    Unknown,
                ),
                (
                    "more sent again",
                    |it| (it.kernel.retransmits, it.kernel.segments_out) = (1001, 100_000),
                    Network,
                ),
                ("of a handful", |it| (it.kernel.retransmits, it.kernel.segments_out) = (5, 10), Unknown),
                ("without any sent", |it| (it.kernel.retransmits, it.kernel.segments_out) = (5, 0), Unknown),
                (
                    "sent again, but not for a Unix socket",
                    |it| {
                        it.target = "unix:/run/x.sock".into();
                        (it.kernel.retransmits, it.kernel.segments_out) = (5000, 100_000);
                    },
                    Unknown,
                ),
                ("10 % stolen", |it| it.kernel.steal = 0.1, Unknown),
                ("more stolen", |it| it.kernel.steal = 0.11, Kernel),
            ],
        );
        table(
            open,
            &[
                ("stolen, and it was in time nevertheless", |it| it.kernel.steal = 0.2, Rate),
                (
                    "stolen, and behind",
                    |it| {
                        it.kernel.steal = 0.2;
                        answers(it, 80_000);
                    },
                    Kernel,
                ),
                (
                    "sent again, and behind",
                    |it| {
                        (it.kernel.retransmits, it.kernel.segments_out) = (5000, 100_000);
                        answers(it, 80_000);
                    },
                    Network,
                ),
            ],
        );
    }

    #[test]
    fn datagrams_that_were_dropped() {
        use Limit::*;
        fn datagrams() -> Report {
            Report { target: "udp://127.0.0.1:8080".into(), ..closed() }
        }
        fn open_datagrams() -> Report {
            Report { target: "udp://127.0.0.1:8080".into(), ..open() }
        }
        table(
            datagrams,
            &[
                (
                    "dropped and timed out",
                    |it| (it.kernel.udp_receive_drops, it.failures.timed_out) = (9, 1),
                    Kernel,
                ),
                ("dropped and lost", |it| (it.kernel.udp_receive_drops, it.failures.lost) = (9, 1), Kernel),
                ("dropped on sending", |it| (it.kernel.udp_send_drops, it.failures.lost) = (9, 1), Kernel),
                ("dropped, of someone else", |it| it.kernel.udp_receive_drops = 9, Unknown),
                ("lost on the way", |it| it.failures.lost = 9, Unknown),
                (
                    "a backlog has nothing to do with it",
                    |it| (it.kernel.listen_drops, it.failures.lost) = (9, 9),
                    Unknown,
                ),
            ],
        );
        table(
            open_datagrams,
            &[
                ("a few", |it| (it.kernel.udp_receive_drops, it.failures.lost) = (100, 100), Rate),
                ("more", |it| (it.kernel.udp_receive_drops, it.failures.lost) = (101, 101), Kernel),
            ],
        );
        table(
            closed,
            &[("TCP doesn't mind", |it| (it.kernel.udp_receive_drops, it.failures.lost) = (9, 9), Unknown)],
        );
    }

    #[test]
    fn half_the_connections_silent() {
        for (half, whole, limit) in [
            (10_000.0, 10_000.0, Limit::Server),
            (12_000.0, 10_000.0, Limit::Server),
            (8_500.0, 10_000.0, Limit::Server),
            (8_499.0, 10_000.0, Limit::Unknown),
            (6_501.0, 10_000.0, Limit::Unknown),
            (6_500.0, 10_000.0, Limit::Concurrency),
            (5_000.0, 10_000.0, Limit::Concurrency),
            // It answers nothing any more: that says nothing of concurrency.
            (0.0, 10_000.0, Limit::Unknown),
            (0.0, 0.0, Limit::Unknown),
            (10.0, 0.0, Limit::Unknown),
            (f64::NAN, f64::NAN, Limit::Unknown),
            (1.0, f64::INFINITY, Limit::Unknown),
        ] {
            let verdict = judged(closed(), |_| {}, Some((half, whole)));
            assert_eq!(verdict.limit, limit, "{half} of {whole}: {verdict:?}");
            let unseen = judged(closed(), |it| it.server = None, Some((half, whole)));
            assert_eq!(unseen.limit, limit, "{half} of {whole}: {unseen:?}");
        }
    }

    #[test]
    fn a_probe_does_not_overrule_what_is_plain() {
        assert_eq!(judged(closed(), |it| it.generator.cpu = 0.95, Some((9.0, 9.0))).limit, Limit::Generator);
    }

    /// A loop that never sleeps takes a CPU with nothing to do: that it takes one says nothing.
    #[test]
    fn a_server_that_polls_without_sleep_is_not_full_by_its_cpu() {
        fn polls(report: &mut Report) {
            (server(report).busiest_thread_cpu, server(report).cpu_at_rest) = (1.0, Some(0.98));
        }
        for (probe, limit) in [
            (None, Limit::Unknown),
            (Some((5000.0, 10_000.0)), Limit::Concurrency),
            (Some((9900.0, 10_000.0)), Limit::Server),
        ] {
            let verdict = judged(closed(), polls, probe);
            assert_eq!(verdict.limit, limit, "{verdict:?}");
        }
        let works = |it: &mut Report| {
            (server(it).busiest_thread_cpu, server(it).cpu_at_rest) = (1.0, Some(0.1));
        };
        assert_eq!(judged(closed(), works, None).limit, Limit::Server);
    }

    #[test]
    fn an_open_loop_that_fell_behind_with_all_in_flight_asks_the_probe() {
        fn behind(report: &mut Report) {
            (report.offered, report.replies, report.measured_s) = (10_000, 10_000, 10.0);
            report.achieved_per_s = 400.0;
            (report.plan.connections, report.plan.depth) = (4, 1);
            report.latency.service =
                Some(Latency { count: 10_000, min_ns: 10_000_000, mean_ns: 10e6, ..Latency::default() });
        }
        for (probe, limit) in [
            (None, Limit::Unknown),
            (Some((200.0, 400.0)), Limit::Concurrency),
            (Some((396.0, 400.0)), Limit::Server),
        ] {
            let verdict = judged(open(), behind, probe);
            assert_eq!(verdict.limit, limit, "{probe:?}: {verdict:?}");
        }
    }

    /// 2,100 messages a second at a server that can do 2,000: in the end it has answered each, but not in time.
    #[test]
    fn replies_that_come_after_the_end_are_no_reason_to_say_that_it_kept_up() {
        fn drained(it: &mut Report) {
            (it.offered, it.replies, it.measured_s) = (2100, 2100, 1.0);
            it.achieved_per_s = 2000.0;
            it.latency.service =
                Some(Latency { count: 2100, min_ns: 500_000, mean_ns: 16e6, ..Latency::default() });
        }
        let verdict = judged(open(), drained, None);
        assert_ne!(verdict.limit, Limit::Rate, "{verdict:?}");
        let in_time = |it: &mut Report| {
            drained(it);
            it.achieved_per_s = 2098.0;
        };
        assert_eq!(judged(open(), in_time, None).limit, Limit::Rate);
    }

    /// On a long path, data is always on its way too; but there each connection has its own rate.
    #[test]
    fn a_path_that_takes_no_more_is_the_limit_and_a_long_one_is_not() {
        for (share, half, limit) in [
            (None, 396.0, Limit::Server),
            (Some(0.5), 396.0, Limit::Server),
            (Some(0.95), 396.0, Limit::Network),
            (Some(0.95), 300.0, Limit::Network),
            (Some(0.95), 200.0, Limit::Concurrency),
        ] {
            let mut report = closed();
            report.kernel.queued_share = share;
            let verdict = judge(&report, Some(Probe { half_per_s: half, whole_per_s: 400.0 }));
            assert_eq!(verdict.limit, limit, "{share:?} {half}: {verdict:?}");
        }
    }

    #[test]
    fn verdicts_say_why_and_what_to_do() {
        let verdict = judged(closed(), |it| it.generator.cpu = 0.97, None);
        assert_eq!(verdict.because, "Our busiest thread took 97 % of a CPU: the rates are lower bounds.");
        assert_eq!(verdict.remedy, "Use more of our 4 CPUs with --threads 2.");
        let verdict = judged(
            closed(),
            |it| {
                (it.generator.cpu, server(it).busiest_thread_cpu, it.machine.cpus) = (0.97, 0.96, 1);
                it.generator.ceiling_per_s = Some(123_456.0);
            },
            None,
        );
        assert!(verdict.because.contains("(alone it can do 123456/s)"), "{verdict:?}");
        assert!(verdict.because.contains("The server was full too (96 % of a CPU)"), "{verdict:?}");
        assert!(verdict.remedy.contains("another machine"), "{verdict:?}");
        let verdict = judged(closed(), |it| server(it).busiest_thread_cpu = 0.985, None);
        let because =
            "The server was full: its busiest thread (worker) took 98 % of a CPU, while ours took 40 %.";
        assert_eq!(verdict.because, because);
        let verdict = judged(closed(), |it| it.server = None, None);
        assert!(verdict.because.contains("the server's CPU is not known"), "{verdict:?}");
        assert!(verdict.remedy.contains("--server-pid"), "{verdict:?}");
        let verdict = judged(closed(), |it| (it.generator.cpu, it.generator.busy) = (0.0, 0.0), None);
        assert!(verdict.because.contains("not measured"), "{verdict:?}");
        let verdict = judged(Report::default(), |_| {}, None);
        assert!(verdict.because.contains("No reply came"), "{verdict:?}");
        let verdict = judged(closed(), |it| (it.generator.cpu, it.kernel.steal) = (0.97, 0.25), None);
        assert!(verdict.because.ends_with("The hypervisor took 25 % of the CPU time."), "{verdict:?}");
        let verdict = judged(closed(), |it| (it.kernel.listen_overflows, it.failures.refused) = (7, 3), None);
        assert!(
            verdict.because.contains("ListenOverflows") && verdict.remedy.contains("somaxconn"),
            "{verdict:?}"
        );
    }

    /// Every f64 in turn is what no figure should be, in every kind of run: nothing of it shows.
    #[test]
    fn broken_figures_do_not_show() {
        let fields: [Change; 10] = [
            |it| it.generator.cpu = f64::NAN,
            |it| it.generator.cpu = f64::INFINITY,
            |it| it.generator.run_queue_wait = f64::NAN,
            |it| it.generator.busy = f64::NEG_INFINITY,
            |it| server(it).busiest_thread_cpu = f64::NAN,
            |it| server(it).run_queue_wait = f64::INFINITY,
            |it| server(it).cpu_cores = f64::NAN,
            |it| it.kernel.steal = f64::NAN,
            |it| it.achieved_per_s = f64::NAN,
            |it| it.generator.ceiling_per_s = Some(f64::NAN),
        ];
        let runs: [Change; 4] = [
            |_| {},
            |it| it.generator.busy = 1.0,
            |it| answers(it, it.offered / 2),
            |it| {
                (it.offered, it.replies, it.measured_s, it.plan.connections, it.plan.depth) =
                    (0, 0, 0.0, 0, 0);
                it.latency.service = Some(Latency { mean_ns: f64::NAN, ..Latency::default() });
            },
        ];
        let probes = [None, Some((f64::NAN, 1.0)), Some((1.0, f64::NAN)), Some((f64::INFINITY, 0.0))];
        for base in [closed, open] {
            for (field, run) in fields.iter().flat_map(|field| runs.iter().map(move |run| (field, run))) {
                for probe in probes {
                    let mut report = base();
                    run(&mut report);
                    field(&mut report);
                    let verdict = judge(
                        &report,
                        probe.map(|(half_per_s, whole_per_s)| Probe { half_per_s, whole_per_s }),
                    );
                    let text = format!("{} {}", verdict.because, verdict.remedy);
                    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
                }
            }
        }
    }
}
