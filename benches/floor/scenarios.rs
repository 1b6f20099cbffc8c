//! What is measured: every scenario, what drives it, which figures it yields and what is asked of them. Data only.

/// What the generator does. Each word is a function in `drives`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Drive {
    /// Messages there and back on every connection, as fast as they go.
    Echo,
    /// Connect, one message, close, again.
    Churn,
    /// Talk once, then say nothing.
    Idle,
    /// A lot of bytes through every connection at once; then the memory must come back.
    Burst,
    /// Echo alone, then again beside many idle connections.
    AmongIdle,
    /// Small messages at a gentle pace while others flood.
    Polite,
    /// Those others.
    Flood,
    /// Send and never read.
    NeverRead,
}

impl Drive {
    pub(crate) const ALL: [Drive; 8] = [
        Drive::Echo,
        Drive::Churn,
        Drive::Idle,
        Drive::Burst,
        Drive::AmongIdle,
        Drive::Polite,
        Drive::Flood,
        Drive::NeverRead,
    ];
}

/// One order to the generator; it travels there as `name=value` words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) drive: Drive,
    /// Connections that talk.
    pub(crate) connections: usize,
    /// Connections that only exist.
    pub(crate) idle: usize,
    pub(crate) flooders: usize,
    pub(crate) message_bytes: usize,
    /// Messages that a connection may have on the way at once.
    pub(crate) in_flight: usize,
    /// How long to measure; nothing to say if `messages` says how much.
    pub(crate) seconds: f64,
    /// How many messages in all; 0: as many as fit into `seconds`.
    pub(crate) messages: u64,
    /// A reply that takes longer is a failure.
    pub(crate) reply_within_seconds: u64,
}

impl Job {
    pub(crate) const DEFAULT: Job = Job {
        drive: Drive::Echo,
        connections: 64,
        idle: 0,
        flooders: 0,
        message_bytes: 64,
        in_flight: 1,
        seconds: 2.0,
        messages: 0,
        reply_within_seconds: 5,
    };

    /// The same idea on a scale that takes a moment: for CI, where the question is whether it runs at all.
    pub(crate) fn quick(self) -> Job {
        Job { idle: self.idle.min(1_000), connections: self.connections.min(200), ..self }
    }

    pub(crate) fn to_words(self, address: &str, server: u32) -> Vec<String> {
        let Job {
            drive,
            connections,
            idle,
            flooders,
            message_bytes,
            in_flight,
            seconds,
            messages,
            reply_within_seconds,
        } = self;
        vec![
            format!("address={address}"),
            format!("server={server}"),
            format!("drive={drive:?}"),
            format!("connections={connections}"),
            format!("idle={idle}"),
            format!("flooders={flooders}"),
            format!("message_bytes={message_bytes}"),
            format!("in_flight={in_flight}"),
            format!("seconds={seconds}"),
            format!("messages={messages}"),
            format!("reply_within_seconds={reply_within_seconds}"),
        ]
    }

    /// The other way round: the job, the server's address and its process.
    pub(crate) fn from_words(words: &[String]) -> Option<(Job, std::net::SocketAddr, u32)> {
        let mut job = Job::DEFAULT;
        let (mut address, mut server) = (None, None);
        for word in words {
            let (name, value) = word.split_once('=')?;
            match name {
                "address" => address = Some(value.parse().ok()?),
                "server" => server = Some(value.parse().ok()?),
                "drive" => job.drive = Drive::ALL.into_iter().find(|drive| format!("{drive:?}") == value)?,
                "connections" => job.connections = value.parse().ok()?,
                "idle" => job.idle = value.parse().ok()?,
                "flooders" => job.flooders = value.parse().ok()?,
                "message_bytes" => job.message_bytes = value.parse().ok()?,
                "in_flight" => job.in_flight = value.parse().ok()?,
                "seconds" => job.seconds = value.parse().ok()?,
                "messages" => job.messages = value.parse().ok()?,
                "reply_within_seconds" => job.reply_within_seconds = value.parse().ok()?,
                _ => return None,
            }
        }
        Some((job, address?, server?))
    }
}

/// What a figure should be; A is the server that is asked, B the floor beside it.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    None,
    /// The median of A/B, pair by pair, is at most this.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// A's own median is.
    AtMost(f64),
    Below(f64),
}

#[derive(Clone, Copy)]
pub(crate) struct Figure {
    /// The name under which the generator reports it.
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) target: Target,
    pub(crate) show: Show,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Show {
    /// Side by side, with the ratio.
    Compared,
    /// Side by side; a ratio would divide by next to nothing.
    Alone,
    /// A hint at the why, with the ratio, and only with `--details`.
    Detail,
}

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) job: Job,
    pub(crate) figures: &'static [Figure],
}

/// In the order in which they run.
pub(crate) const SCENARIOS: [Scenario; 12] = [
    Scenario { name: "echo64x64", job: Job::DEFAULT, figures: &SMALL_MESSAGES },
    Scenario {
        name: "echo64x1000",
        job: Job { connections: 1_000, ..Job::DEFAULT },
        figures: &SMALL_MESSAGES,
    },
    Scenario {
        name: "pipelined",
        job: Job { in_flight: 16, ..Job::DEFAULT },
        figures: &SMALL_MESSAGES_NO_LATENCY,
    },
    Scenario {
        name: "bulk",
        job: Job { connections: 16, message_bytes: 64 * 1024, ..Job::DEFAULT },
        figures: &[
            compared("mb_per_s", "MB/s", Target::RatioAtLeast(0.95)),
            compared("cpu_us_per_mb", "server CPU, us/MB", Target::None),
            detail("sleeps_per_message", "server sleeps/message"),
            detail("user_percent", "server CPU outside of the kernel, %"),
        ],
    },
    Scenario {
        name: "churn",
        job: Job { drive: Drive::Churn, connections: 8, ..Job::DEFAULT },
        figures: &[
            compared("cpu_ns_per_connection", "server CPU, ns/connection", Target::RatioAtMost(1.05)),
            compared("connections_per_s", "connections/s", Target::None),
            detail("user_percent", "server CPU outside of the kernel, %"),
        ],
    },
    Scenario {
        name: "idle",
        job: Job { drive: Drive::Idle, connections: 1, idle: IDLE_CONNECTIONS, ..Job::DEFAULT },
        figures: &[
            alone("idle_bytes", "memory, bytes/idle connection", Target::AtMost(200.0)),
            alone("idle_cpu_percent", "server CPU while all idle, %", Target::Below(1.0)),
        ],
    },
    Scenario {
        name: "burst",
        job: Job { drive: Drive::Burst, connections: 1_000, message_bytes: 1024 * 1024, ..Job::DEFAULT },
        figures: &[
            alone("growth_kib", "memory kept after it, KiB", Target::AtMost(4096.0)),
            alone("peak_growth_kib", "memory at its peak, KiB", Target::None),
            detail("mb_per_s", "MB/s"),
        ],
    },
    Scenario {
        name: "among-idle",
        job: Job { drive: Drive::AmongIdle, idle: IDLE_CONNECTIONS, ..Job::DEFAULT },
        figures: &[
            compared("among_p50_us", "p50 beside idle ones, us", Target::None),
            compared("among_p99_us", "p99 beside idle ones, us", Target::None),
            alone("among_over_alone", "p99 beside idle ones / p99 alone", Target::AtMost(1.2)),
            detail("alone_p50_us", "p50 alone, us"),
            detail("alone_p99_us", "p99 alone, us"),
            detail("cpu_ns_per_message", "server CPU beside idle ones, ns/message"),
        ],
    },
    Scenario { name: "flooders-1", job: polite_beside(1), figures: &POLITE },
    Scenario { name: "flooders-2", job: polite_beside(2), figures: &POLITE },
    Scenario { name: "flooders-4", job: polite_beside(4), figures: &POLITE },
    Scenario {
        name: "never-read",
        job: Job { drive: Drive::NeverRead, connections: 200, seconds: 3.0, ..Job::DEFAULT },
        figures: &[
            alone("peak_growth_mib", "memory at its peak, MiB", Target::Below(16.0)),
            detail("taken_mb", "MB that the kernel or the server took in"),
            detail("closed", "peers that the server closed"),
        ],
    },
];

/// As many as fit with room to spare below a limit of 10,000 descriptors.
const IDLE_CONNECTIONS: usize = 9_000;

const SMALL_MESSAGES: [Figure; 6] = [
    compared("cpu_ns_per_message", "server CPU, ns/message", Target::RatioAtMost(1.05)),
    compared("messages_per_s", "messages/s", Target::None),
    detail("p50_us", "p50, us"),
    detail("p99_us", "p99, us"),
    detail("sleeps_per_message", "server sleeps/message"),
    detail("user_percent", "server CPU outside of the kernel, %"),
];

/// With several messages in flight the generator doesn't time each one.
const SMALL_MESSAGES_NO_LATENCY: [Figure; 4] =
    [SMALL_MESSAGES[0], SMALL_MESSAGES[1], SMALL_MESSAGES[4], SMALL_MESSAGES[5]];

const POLITE: [Figure; 4] = [
    compared("p50_us", "polite clients, p50, us", Target::None),
    compared("p99_us", "polite clients, p99, us", Target::Below(10_000.0)),
    compared("max_us", "polite clients, max, us", Target::None),
    detail("flood_mb_per_s", "flooders, MB/s"),
];

const fn polite_beside(flooders: usize) -> Job {
    Job { drive: Drive::Polite, connections: 50, flooders, ..Job::DEFAULT }
}

const fn compared(key: &'static str, label: &'static str, target: Target) -> Figure {
    Figure { key, label, target, show: Show::Compared }
}

const fn alone(key: &'static str, label: &'static str, target: Target) -> Figure {
    Figure { key, label, target, show: Show::Alone }
}

const fn detail(key: &'static str, label: &'static str) -> Figure {
    Figure { key, label, target: Target::None, show: Show::Detail }
}
