//! What a run found out: plain data, and the schema of `--json`.
//!
//! Everything that is shown, on the terminal, on the page or beside another run, is shown from here, so
//! that a file says as much as the screen did. Units stand in the names: `_ns`, `_s`, `_per_s`, `_bytes`.
//!
//! Invariant: a figure that was not measured is `None` (null), never 0.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the schema below. It goes up when a field's meaning changes or a field goes away; new
/// fields may come without.
pub const SCHEMA: u32 = 1;

/// One run against one target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// Which program wrote it: `switchboard 0.1.0`.
    pub tool: String,
    /// The run was cut short (Ctrl-C, or the server went away): what was measured until then is here.
    pub partial: bool,
    /// Why it was cut short.
    pub partial_because: Option<String>,
    /// The URL.
    pub target: String,
    /// The command line's arguments, without the program's name.
    pub command: Vec<String>,
    /// Seconds since 1970 when the run began.
    pub started_unix_s: u64,
    /// Where it ran.
    pub machine: Machine,
    /// What was asked for.
    pub plan: PlanFigures,
    /// What was cut before measuring began.
    pub warm_up: WarmUp,
    /// How long was measured.
    pub measured_s: f64,
    /// Messages that were due in that time: in an open loop the schedule's, in a closed one those sent.
    pub offered: u64,
    /// The same per second.
    pub offered_per_s: f64,
    /// Replies that came in whole, and were right where that is looked at.
    pub replies: u64,
    /// The same per second.
    pub achieved_per_s: f64,
    /// Whether replies were compared with what was expected.
    pub verified: bool,
    /// Payload and framing received per second.
    pub bytes_in_per_s: f64,
    /// Payload and framing sent per second.
    pub bytes_out_per_s: f64,
    /// Connections that were established in the whole run.
    pub connected: u64,
    /// TLS handshakes among them that were resumed: no certificate, no signature.
    #[serde(default)]
    pub resumed: u64,
    /// What went wrong in the whole run, the warm-up included.
    pub failures: Failures,
    /// What of that went wrong in the measured time: a share of `offered` is a share of these.
    #[serde(default)]
    pub failures_in_window: Failures,
    /// UDP: right replies that came behind one to a later message. Legal, and no failure.
    #[serde(default)]
    pub out_of_order: u64,
    /// HTTP: connections that the server ended between two answers without announcing it. Legal, and no failure.
    #[serde(default)]
    pub ended_silently: u64,
    /// HTTP: requests that were sent again because of that.
    #[serde(default)]
    pub retried: u64,
    /// HTTP: how often the statuses came that were not 200 to 299.
    #[serde(default)]
    pub statuses: BTreeMap<u16, u64>,
    /// How long things took.
    pub latency: Latencies,
    /// One mode, or two, or more.
    pub shape: Shape,
    /// The run in slices of equal width, the warm-up included.
    pub timeline: Vec<Slice>,
    /// The points of a ramp or a search: how latency depends on load.
    pub curve: Vec<LoadPoint>,
    /// What a search found, if one was asked for.
    pub found: Option<Found>,
    /// Several equal runs, where `--rounds` asked for them. `compare` needs at least 8 on either side.
    pub rounds: Vec<Round>,
    /// Our own part in it.
    pub generator: GeneratorFigures,
    /// The server's, where its process is known.
    pub server: Option<ServerFigures>,
    /// What the kernel counted meanwhile, on the whole machine.
    pub kernel: KernelFigures,
    /// Who was the limit.
    pub verdict: Verdict,
    /// Of `bench --fan-out`: a room. Replies are deliveries then: one message at one member.
    #[serde(default)]
    pub fan_out: Option<FanOut>,
    /// Of `bench --ab`: the two sides; the rest of the report is the first one's last round.
    pub comparison: Option<super::comparison::Comparison>,
}

impl Report {
    /// The longest time in a row, of what was measured, in which a closed loop got no reply at all: connections that wait
    /// say nothing, so no share of the messages shows it. A server that takes its time for each has no such silence: it
    /// must be ten times as long as half of the replies took. 0 in an open loop, in which what was due counts.
    pub fn longest_silence_s(&self) -> f64 {
        if self.plan.rate_from_per_s.is_some() || self.plan.rate_to_per_s.is_some() {
            return 0.0;
        }
        let (mut longest_s, mut silent_s) = (0.0f64, 0.0);
        for slice in self.timeline.iter().filter(|slice| !slice.warm_up) {
            silent_s = if slice.replies == 0 { silent_s + slice.width_s } else { 0.0 };
            longest_s = longest_s.max(silent_s);
        }
        let median = self.latency.service.as_ref().and_then(|it| it.percentile(50.0)?.ns);
        let usual_s = median.map_or(0.0, |ns| ns as f64 / 1e9);
        if longest_s > 10.0 * usual_s { longest_s } else { 0.0 }
    }

    /// Messages that the server answered wrongly, in the whole run. Over UDP a lost one is not among them: nobody knows
    /// whose loss it is.
    pub fn wrong(&self) -> u64 {
        let lost = if self.target.starts_with("udp") { self.failures.lost } else { 0 };
        self.failures.wrong() - lost
    }

    /// The part of the messages that were due in the measured time, from 0 on, that failed in any way.
    pub fn failure_share(&self) -> f64 {
        let failures = &self.failures_in_window;
        // A reset counts a connection. Its messages are among the lost.
        let resets = failures.reset.saturating_sub(failures.lost + failures.short);
        let failed = failures.total() - failures.reset + resets;
        (failed as f64 / self.offered.max(1) as f64).min(1.0)
    }
}

/// Where a run took place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// `Linux 6.18.44`.
    pub system: String,
    /// As /proc/cpuinfo has it.
    pub cpu: String,
    /// How many of them we may use.
    pub cpus: u32,
}

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanFigures {
    /// HTTP: the method that is asked with.
    #[serde(default)]
    pub method: Option<String>,
    /// Connections that talk.
    pub connections: u32,
    /// Messages in flight on each, at most.
    pub depth: u32,
    /// Connections that are held beside and say nothing.
    pub idle: u32,
    /// Connect, one message, close.
    pub churn: bool,
    /// Messages per second in all, of an open loop: from this ...
    pub rate_from_per_s: Option<f64>,
    /// ... to this, evenly over the run. The same for a constant rate.
    pub rate_to_per_s: Option<f64>,
    /// `constant` or `poisson`, of an open loop.
    pub arrivals: Option<String>,
    /// The shortest payload.
    pub size_min_bytes: u64,
    /// The longest.
    pub size_max_bytes: u64,
    /// Generator threads.
    pub threads: u32,
    /// What a reply may take before it counts as timed out.
    pub timeout_s: f64,
    /// What payloads and arrivals are drawn from.
    pub seed: u64,
}

/// Of a room: who was in it, and whether everybody was told everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FanOut {
    /// Its name.
    pub room: String,
    /// How many were in it.
    pub members: u32,
    /// How many of them spoke.
    pub senders: u32,
    /// Messages that were said, in the whole run.
    pub sent: u64,
    /// Members who were told every one of them.
    pub complete: u32,
    /// The most messages that one member missed.
    pub missed_most: u64,
    /// How complete it was for each: (messages missed, members that missed that number), ascending.
    #[serde(default)]
    pub missed: Vec<(u64, u32)>,
}

/// What was cut before measuring began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WarmUp {
    /// How long it took.
    pub cut_s: f64,
    /// Why so long, as a sentence's rest: `asked for`, `the rate had settled`.
    pub because: String,
}

/// What went wrong, by what it was. Each counts messages, but for `refused` and `reset`, which count
/// connections; the messages that a reset takes along are `lost`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// The right length, the wrong bytes; or bytes that are no reply at all.
    pub corrupted: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// Came again.
    pub duplicated: u64,
    /// Never came, though a later one did, or though the connection ended gracefully or by a reset.
    pub lost: u64,
    /// The connection ended in the middle of a reply.
    pub short: u64,
    /// HTTP: answered with another status than 200 to 299.
    #[serde(default)]
    pub status: u64,
    /// Connections that were refused, or could not be made.
    pub refused: u64,
    /// Connections that were reset.
    pub reset: u64,
    /// Did not come within the timeout.
    pub timed_out: u64,
    /// Was due, but could not be sent: too much was waiting already.
    pub unsent: u64,
}

impl Failures {
    /// Names and counts, in the order in which they are shown.
    pub fn rows(&self) -> [(&'static str, u64); 10] {
        [
            ("corrupted", self.corrupted),
            ("reordered", self.reordered),
            ("duplicated", self.duplicated),
            ("lost", self.lost),
            ("short", self.short),
            ("of another status", self.status),
            ("refused", self.refused),
            ("reset", self.reset),
            ("timed out", self.timed_out),
            ("unsent", self.unsent),
        ]
    }

    /// Adds those of another thread.
    pub fn merge(&mut self, other: &Failures) {
        let Failures {
            corrupted,
            reordered,
            duplicated,
            lost,
            short,
            status,
            refused,
            reset,
            timed_out,
            unsent,
        } = other;
        self.corrupted += corrupted;
        self.reordered += reordered;
        self.duplicated += duplicated;
        self.lost += lost;
        self.short += short;
        self.status += status;
        self.refused += refused;
        self.reset += reset;
        self.timed_out += timed_out;
        self.unsent += unsent;
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.rows().iter().map(|(_, count)| count).sum()
    }

    /// Those that say that the server answered wrongly, not that it didn't answer.
    pub fn wrong(&self) -> u64 {
        self.corrupted + self.reordered + self.duplicated + self.lost + self.short + self.status
    }

    /// Messages that got no (right) answer: in a distribution of latencies they are infinite.
    pub fn unanswered(&self) -> u64 {
        self.corrupted + self.lost + self.short + self.status + self.timed_out + self.unsent
    }
}

/// The distributions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// From when a message was due to the last byte of its reply: what a user waits. In a closed loop a
    /// message is due when it is sent, so this is `service`.
    pub response: Option<Latency>,
    /// From when it was sent.
    pub service: Option<Latency>,
    /// From when it was due to when it was sent: our own delay. Open loop only.
    pub send_lag: Option<Latency>,
    /// From connect(2) to the established connection.
    pub connect: Option<Latency>,
    /// The TLS handshake behind it.
    pub handshake: Option<Latency>,
}

/// One distribution. 3 significant digits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// How many more never ended: they stand at the far end, as infinite.
    pub infinite: u64,
    /// Of those that ended.
    pub min_ns: u64,
    /// Of those that ended.
    pub mean_ns: f64,
    /// Of those that ended; see `infinite`.
    pub max_ns: u64,
    /// p50, p75, p90, p99, p99.9, p99.99, p99.999, in this order.
    pub percentiles: Vec<Percentile>,
    /// The whole distribution, for the spectrum: cumulative, coarse where it is dull.
    pub spectrum: Vec<SpectrumPoint>,
    /// The histogram itself, as HdrHistogram's logs have it: its V2 encoding, compressed with zlib, as base64
    /// (`HISTFAAA...`). Its tools in other languages read it.
    pub hdr_v2_base64: String,
}

impl Latency {
    /// The percentile that was recorded under this number, as in `99.9`.
    pub fn percentile(&self, percent: f64) -> Option<&Percentile> {
        self.percentiles.iter().find(|it| (it.percent - percent).abs() < 1e-9)
    }
}

/// One percentile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    /// As in 99.9.
    pub percent: f64,
    /// This percentage took `ns` or less. `None`: infinite, failures reach down to here.
    pub ns: Option<u64>,
    /// Fewer than ten samples lie beyond it: chance has a large part in it.
    pub few: bool,
}

/// One point of a cumulative distribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SpectrumPoint {
    /// This percentage of all replies, infinite ones among them, ...
    pub percent: f64,
    /// ... took at most this time.
    pub ns: u64,
}

/// How many modes a distribution has: a cache and a disk behind it, say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// The modes, from fast to slow. One is the rule; none, where too few were measured to say.
    pub modes: Vec<Mode>,
}

/// One hump of a distribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Mode {
    /// Its peak.
    pub ns: u64,
    /// Its part of all, from 0 to 1.
    pub share: f64,
}

/// What happened in one slice of the run. Latencies are of replies that came in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// When it began, from the run's begin.
    pub at_s: f64,
    /// How long it is.
    pub width_s: f64,
    /// It is not part of the measurement.
    pub warm_up: bool,
    /// Messages that were due.
    pub offered: u64,
    /// Replies.
    pub replies: u64,
    /// Failures of all kinds.
    pub failures: u64,
    /// Of the response times. `None` where there was no reply.
    pub p50_ns: Option<u64>,
    /// See `p50_ns`.
    pub p99_ns: Option<u64>,
    /// See `p50_ns`.
    pub max_ns: Option<u64>,
    /// The response times, coarsely: (upper bound in ns, count), ascending, empty ones left out.
    pub buckets: Vec<(u64, u64)>,
}

/// One point of the load-latency curve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadPoint {
    /// What was asked for.
    pub offered_per_s: f64,
    /// What came of it.
    pub achieved_per_s: f64,
    /// Of the response times; `None`: infinite.
    pub p50_ns: Option<u64>,
    /// See `p50_ns`.
    pub p99_ns: Option<u64>,
    /// Failures of all kinds.
    pub failures: u64,
    /// Of a search: whether the objective was met.
    pub met: Option<bool>,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The objective, as it was written: `p99<=2ms`.
    pub slo: String,
    /// The highest rate that met it, and met it again when it was tried once more. `None`: none did.
    pub rate_per_s: Option<f64>,
    /// What ended the search, in words.
    pub because: String,
}

/// The figures of one of several equal runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Replies per second.
    pub achieved_per_s: f64,
    /// Of the response times; `None`: infinite, or not measured.
    pub p50_ns: Option<u64>,
    /// See `p50_ns`.
    pub p99_ns: Option<u64>,
    /// The server's, where its process is known.
    pub server_cpu_ns_per_reply: Option<f64>,
    /// Failures of all kinds.
    pub failures: u64,
}

/// Our own part in what was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorFigures {
    /// Of one core, the busiest thread's: from 0 to 1.
    pub cpu: f64,
    /// How long that thread was ready to run and was not let: from 0 to 1.
    pub run_queue_wait: f64,
    /// How much of the time its loop worked, rather than waited for events: from 0 to 1.
    pub busy: f64,
    /// All threads'.
    pub cpu_ns_per_message: f64,
    /// What one thread could do at most, from a self-test before the run: messages per second.
    pub ceiling_per_s: Option<f64>,
    /// The CPUs that we may use.
    pub cpus_allowed: Vec<u32>,
    /// Our resident memory at the end.
    pub rss_bytes: u64,
    /// 0 to 1, every 100 ms.
    pub cpu_samples: Vec<f64>,
}

/// The server's part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerFigures {
    /// Its process.
    pub pid: u32,
    /// Its name, as the kernel has it.
    pub name: String,
    /// How we know: `--server-pid`, `--spawn`, `it listens there`.
    pub known_by: String,
    /// Of one core, the busiest thread's: from 0 to 1.
    pub busiest_thread_cpu: f64,
    /// The same of the busiest one, before anything was sent: what it takes to wait. A loop that polls without sleeping
    /// takes all of a core, and that says nothing about its work.
    #[serde(default)]
    pub cpu_at_rest: Option<f64>,
    /// That thread's name.
    pub busiest_thread: String,
    /// How long that thread was ready to run and was not let: from 0 to 1.
    pub run_queue_wait: f64,
    /// All threads', in cores: 1.7 is a core and 70 % of another.
    pub cpu_cores: f64,
    /// All threads'.
    pub cpu_ns_per_reply: Option<f64>,
    /// Resident memory before the run ...
    pub rss_before_bytes: u64,
    /// ... at its peak ...
    pub rss_peak_bytes: u64,
    /// ... and after it.
    pub rss_after_bytes: u64,
    /// (peak - before) / connections.
    pub rss_per_connection_bytes: Option<f64>,
    /// The CPUs that it may use.
    pub cpus_allowed: Vec<u32>,
    /// The busiest thread's, 0 to 1, every 100 ms.
    pub cpu_samples: Vec<f64>,
    /// How many processes these figures are the sum of: workers count with their master.
    pub processes: u32,
}

/// What the kernel counted meanwhile, on the whole machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct KernelFigures {
    /// Connections that found a listener's backlog full (TcpExt ListenOverflows). This and the next count
    /// from the run's begin, since connections are made before the measurement's.
    pub listen_overflows: u64,
    /// SYNs and connections that listeners dropped for any reason (TcpExt ListenDrops).
    pub listen_drops: u64,
    /// TCP segments sent again (Tcp RetransSegs).
    pub retransmits: u64,
    /// TCP segments sent (Tcp OutSegs), to put that in proportion.
    pub segments_out: u64,
    /// Datagrams that found no room in a receive buffer (Udp RcvbufErrors).
    pub udp_receive_drops: u64,
    /// Datagrams that found no room in a send buffer (Udp SndbufErrors).
    pub udp_send_drops: u64,
    /// Of the samples, how many found much data on the path, unconfirmed, and little that waited to be read: from 0 to 1.
    /// `None` where that was not looked at: only TCP is, with few enough connections.
    #[serde(default)]
    pub queued_share: Option<f64>,
    /// CPU time that the hypervisor gave to others: from 0 to 1, of all CPUs.
    pub steal: f64,
}

/// Who was the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Limit {
    /// The server: what was measured is what it can do.
    Server,
    /// We: the server can do more, and the rates are lower bounds.
    Generator,
    /// Both, on the same cores: neither shows what it can do.
    SharedCpu,
    /// The plan's connections and depth: more in flight would get more.
    Concurrency,
    /// The plan's rate: the server kept up with it.
    Rate,
    /// The kernel, between the two.
    Kernel,
    /// The path between the two: it loses, or takes no more.
    Network,
    /// Nothing stood out.
    #[default]
    Unknown,
}

impl Limit {
    /// As it is shown: `SHARED CPU`.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Server => "SERVER",
            Limit::Generator => "GENERATOR",
            Limit::SharedCpu => "SHARED CPU",
            Limit::Concurrency => "CONCURRENCY",
            Limit::Rate => "RATE",
            Limit::Kernel => "KERNEL",
            Limit::Network => "NETWORK",
            Limit::Unknown => "UNKNOWN",
        }
    }
}

/// Who was the limit, why we think so, and what to do about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Who.
    pub limit: Limit,
    /// The evidence, with its figures, as a sentence.
    pub because: String,
    /// What to do about it, as a sentence; empty where there is nothing to do.
    pub remedy: String,
}
