//! Made-up reports for tests: one as a run would leave it, and the ones that tests must not trip over.
//!
//! Their figures hang together: percentiles, spectrum, slices and histogram come from the same samples.
//!
//! Invariant: the same report every time.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use super::report::{
    Failures, Found, GeneratorFigures, KernelFigures, Latencies, Latency, Limit, LoadPoint, Machine, Mode,
    Percentile, PlanFigures, Report, Round, SCHEMA, ServerFigures, Shape, Slice, SpectrumPoint, Verdict,
    WarmUp,
};

/// An open loop of ten seconds whose server stalls once, with a slow path that one reply in ten takes.
pub(crate) fn example() -> Report {
    // Many tests want it, and fifty thousand samples take their time where nothing is optimised.
    static MADE: LazyLock<Report> = LazyLock::new(make);
    MADE.clone()
}

fn make() -> Report {
    let mut chance = Chance(7);
    let mut responses = histogram();
    let mut services = histogram();
    let mut send_lags = histogram();
    let mut connects = histogram();
    let mut timeline = Vec::new();
    for place in 0..112 {
        let warm_up = place < 12;
        let mut in_slice = histogram();
        let stalled = (54..56).contains(&place);
        let replies = match place {
            0..12 => 100 + place * 30,
            54..56 => 60,
            56 => 880,
            _ => 490 + chance.below(20),
        };
        for _ in 0..replies {
            let service = if chance.below(10) == 0 {
                chance.around(4_200_000.0, 0.18)
            } else {
                chance.around(812_000.0, 0.22)
            };
            let waited =
                if stalled || (place == 56 && chance.below(2) == 0) { chance.below(38_000_000) } else { 0 };
            let send_lag = chance.around(9_000.0, 0.5);
            let response = service + send_lag + waited;
            in_slice.record(response).expect("it grows");
            if !warm_up {
                responses.record(response).expect("it grows");
                services.record(service).expect("it grows");
                send_lags.record(send_lag).expect("it grows");
            }
        }
        timeline.push(slice(place, warm_up, 500, &in_slice));
    }
    for _ in 0..64 {
        connects.record(chance.around(95_000.0, 0.3)).expect("it grows");
    }
    let replies = responses.len();
    timeline[54].failures = 2;
    Report {
        schema: SCHEMA,
        tool: "switchboard 0.1.0".into(),
        target: "tcp://127.0.0.1:8080".into(),
        command: [
            "bench",
            "tcp://127.0.0.1:8080",
            "--rate",
            "5000",
            "--arrivals",
            "poisson",
            "--html",
            "a page.html",
        ]
        .map(String::from)
        .to_vec(),
        started_unix_s: 1_783_935_000,
        machine: Machine { system: "Linux 6.18.44".into(), cpu: "Ampere Altra".into(), cpus: 2 },
        plan: PlanFigures {
            connections: 64,
            depth: 1,
            rate_from_per_s: Some(5_000.0),
            rate_to_per_s: Some(5_000.0),
            arrivals: Some("poisson".into()),
            size_min_bytes: 64,
            size_max_bytes: 64,
            threads: 1,
            timeout_s: 5.0,
            seed: 1,
            ..PlanFigures::default()
        },
        warm_up: WarmUp { cut_s: 1.2, because: "the rate had settled".into() },
        measured_s: 10.0,
        offered: 50_000,
        offered_per_s: 5_000.0,
        replies,
        achieved_per_s: replies as f64 / 10.0,
        verified: true,
        bytes_in_per_s: replies as f64 * 6.4,
        bytes_out_per_s: 320_000.0,
        connected: 64,
        failures: Failures { timed_out: 2, ..Failures::default() },
        failures_in_window: Failures { timed_out: 2, ..Failures::default() },
        latency: Latencies {
            response: Some(latency(&responses, 2)),
            service: Some(latency(&services, 2)),
            send_lag: Some(latency(&send_lags, 0)),
            connect: Some(latency(&connects, 0)),
            handshake: None,
        },
        shape: Shape { modes: vec![Mode { ns: 821_000, share: 0.9 }, Mode { ns: 4_210_000, share: 0.1 }] },
        timeline,
        generator: GeneratorFigures {
            cpu: 0.31,
            run_queue_wait: 0.004,
            busy: 0.28,
            cpu_ns_per_message: 61_200.0,
            ceiling_per_s: Some(212_000.0),
            cpus_allowed: vec![0, 1],
            rss_bytes: 9 << 20,
            cpu_samples: (0..100).map(|_| 0.26 + chance.below(100) as f64 / 1_000.0).collect(),
        },
        server: Some(ServerFigures {
            pid: 4_242,
            processes: 1,
            name: "switchboard".into(),
            known_by: "it listens there".into(),
            busiest_thread_cpu: 0.42,
            cpu_at_rest: Some(0.0),
            busiest_thread: "switchboard".into(),
            run_queue_wait: 0.011,
            cpu_cores: 0.42,
            cpu_ns_per_reply: Some(83_700.0),
            rss_before_bytes: 6 << 20,
            rss_peak_bytes: 7 << 20,
            rss_after_bytes: 6 << 20,
            rss_per_connection_bytes: Some(16_384.0),
            cpus_allowed: vec![0, 1],
            cpu_samples: (0..100)
                .map(|place| if place == 42 { 0.02 } else { 0.38 + chance.below(90) as f64 / 1_000.0 })
                .collect(),
        }),
        kernel: KernelFigures {
            retransmits: 12,
            segments_out: 99_870,
            steal: 0.003,
            ..KernelFigures::default()
        },
        verdict: Verdict {
            limit: Limit::Rate,
            because:
                "The server kept up with 5,000/s at 42 % of a core, and the generator used 31 % of its own."
                    .into(),
            remedy: "Ask for more with --rate, or let --find-max look for the end.".into(),
        },
        ..Report::default()
    }
}

/// A search, cut short while it confirmed.
pub(crate) fn search() -> Report {
    let mut report = example();
    report.partial = true;
    report.partial_because = Some("interrupted".into());
    report.plan.rate_to_per_s = Some(160_000.0);
    report.verdict = Verdict {
        limit: Limit::Server,
        because:
            "The busiest thread of switchboard used 99 % of a core while the generator used 58 % of its own."
                .into(),
        remedy: String::new(),
    };
    report.curve = [
        (5_000.0, 900_000, 1_310_000),
        (10_000.0, 905_000, 1_320_000),
        (20_000.0, 910_000, 1_350_000),
        (40_000.0, 930_000, 1_500_000),
        (80_000.0, 1_100_000, 1_920_000),
        (160_000.0, 0, 0),
        (120_000.0, 9_000_000, 41_000_000),
        (100_000.0, 1_900_000, 4_800_000),
        (90_000.0, 1_210_000, 1_990_000),
        (95_000.0, 1_500_000, 2_800_000),
    ]
    .map(|(rate, p50, p99)| LoadPoint {
        offered_per_s: rate,
        achieved_per_s: rate.min(118_000.0),
        p50_ns: (p50 > 0).then_some(p50),
        p99_ns: (p99 > 0).then_some(p99),
        failures: if p99 > 0 { 0 } else { 8_211 },
        met: Some(p99 > 0 && p99 <= 2_000_000),
    })
    .to_vec();
    report.found = Some(Found {
        slo: "p99<=2ms".into(),
        rate_per_s: Some(90_000.0),
        because: "the next step, 95,000/s, missed it twice".into(),
    });
    report
}

/// Eight equal rounds of a closed loop, in which the generator was the limit.
pub(crate) fn rounds() -> Report {
    let mut report = example();
    let mut chance = Chance(3);
    report.plan.rate_from_per_s = None;
    report.plan.rate_to_per_s = None;
    report.plan.arrivals = None;
    report.latency.send_lag = None;
    report.latency.service = report.latency.response.clone();
    report.rounds = (0..8)
        .map(|_| Round {
            achieved_per_s: 180_000.0 + chance.below(5_000) as f64,
            p50_ns: Some(330_000 + chance.below(9_000)),
            p99_ns: Some(810_000 + chance.below(60_000)),
            server_cpu_ns_per_reply: Some(5_200.0 + chance.below(200) as f64),
            failures: 0,
        })
        .collect();
    (report.failures, report.failures_in_window) = (Failures::default(), Failures::default());
    report.verdict = Verdict {
        limit: Limit::Generator,
        because: "The generator used 98 % of its core while the server's busiest thread used 61 %.".into(),
        remedy: "Give it more threads with --threads, or another machine; the rates are lower bounds.".into(),
    };
    report
}

/// The report of a run that failed before it began: nothing was measured, nothing is known.
pub(crate) fn bare() -> Report {
    Report { schema: SCHEMA, partial: true, ..Report::default() }
}

/// A server that answers a half of what is asked of it: from the median on, latency is infinite.
pub(crate) fn failing() -> Report {
    let mut report = example();
    let infinite = report.replies + 1_000;
    report.failures =
        Failures { lost: 40_000, timed_out: infinite - 40_000, refused: 3, ..Failures::default() };
    report.failures_in_window = report.failures;
    for latency in [&mut report.latency.response, &mut report.latency.service].into_iter().flatten() {
        latency.infinite = infinite;
        let ended = latency.count as f64 / (latency.count + infinite) as f64;
        latency.percentiles.iter_mut().for_each(|it| it.ns = None);
        latency.spectrum.iter_mut().for_each(|it| it.percent *= ended);
    }
    for slice in &mut report.timeline {
        slice.failures = slice.replies;
    }
    report
}

/// The example, whose ten seconds are cut into `number` slices.
pub(crate) fn sliced(number: usize) -> Report {
    let mut report = example();
    let measured: Vec<Slice> = report.timeline.iter().filter(|slice| !slice.warm_up).cloned().collect();
    report.timeline = (0..number)
        .map(|place| Slice { at_s: place as f64 * 0.1, ..measured[place % measured.len()].clone() })
        .collect();
    report
}

/// The example with a target, names and sentences that try to break out of whatever they are put in.
pub(crate) fn hostile() -> Report {
    let mut report = example();
    let text = "tcp://<script>alert('1')</script>\"&\u{1b}[31m\r\n\u{202e}";
    report.target = text.into();
    report.tool = text.into();
    report.command = vec![text.into()];
    report.machine.cpu = text.into();
    report.machine.system = text.into();
    report.warm_up.because = text.into();
    report.plan.arrivals = Some(text.into());
    report.partial = true;
    report.partial_because = Some(text.into());
    report.found = Some(Found { slo: text.into(), rate_per_s: None, because: text.into() });
    report.verdict.because = text.into();
    report.verdict.remedy = text.into();
    if let Some(server) = &mut report.server {
        server.name = text.into();
        server.busiest_thread = text.into();
        server.known_by = text.into();
    }
    report
}

/// Every report there is here.
pub(crate) fn all() -> Vec<(&'static str, Report)> {
    vec![
        ("example", example()),
        ("search", search()),
        ("rounds", rounds()),
        ("bare", bare()),
        ("failing", failing()),
        ("three slices", sliced(3)),
        ("six hundred slices", sliced(600)),
        ("hostile", hostile()),
        ("impossible", impossible()),
    ]
}

/// What no run leaves, but a file may hold: numbers that are none, and slices without width.
fn impossible() -> Report {
    let mut report = search();
    report.measured_s = f64::NAN;
    report.achieved_per_s = f64::INFINITY;
    report.offered_per_s = f64::NAN;
    report.warm_up.cut_s = f64::NEG_INFINITY;
    report.generator.cpu = f64::NAN;
    report.generator.cpu_samples = vec![f64::NAN; 9];
    report.started_unix_s = u64::MAX;
    for (place, slice) in report.timeline.iter_mut().enumerate() {
        slice.width_s = 0.0;
        slice.at_s = if place % 2 == 0 { f64::NAN } else { -1e300 };
        slice.p99_ns = Some(u64::MAX);
        slice.buckets = vec![(0, u64::MAX), (u64::MAX, u64::MAX)];
    }
    for point in &mut report.curve {
        point.offered_per_s = f64::NAN;
        point.p99_ns = Some(0);
    }
    if let Some(response) = &mut report.latency.response {
        response.spectrum =
            vec![SpectrumPoint { percent: f64::NAN, ns: 0 }, SpectrumPoint { percent: 1e9, ns: 5 }];
        response.count = u64::MAX;
        response.infinite = u64::MAX;
        response.hdr_v2_base64 = "HISTFAAA".into();
    }
    report
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are few enough")
}

fn slice(place: u64, warm_up: bool, offered: u64, responses: &Histogram<u64>) -> Slice {
    let mut buckets: Vec<(u64, u64)> = Vec::new();
    for recorded in responses.iter_recorded() {
        // Eight to the doubling, as a report has them.
        let bound = ((recorded.value_iterated_to() as f64).log2() * 8.0).ceil() / 8.0;
        let bound = bound.exp2() as u64;
        match buckets.last_mut() {
            Some((last, number)) if *last == bound => *number += recorded.count_at_value(),
            _ => buckets.push((bound, recorded.count_at_value())),
        }
    }
    Slice {
        at_s: place as f64 * 0.1,
        width_s: 0.1,
        warm_up,
        offered,
        replies: responses.len(),
        failures: 0,
        p50_ns: Some(responses.value_at_percentile(50.0)),
        p99_ns: Some(responses.value_at_percentile(99.0)),
        max_ns: Some(responses.max()),
        buckets,
    }
}

fn latency(measured: &Histogram<u64>, infinite: u64) -> Latency {
    let all = measured.len() + infinite;
    let ended = measured.len() as f64 / all as f64;
    let percentile = |percent: f64| {
        let among_ended = percent / ended;
        Percentile {
            percent,
            ns: (among_ended <= 100.0).then(|| measured.value_at_percentile(among_ended)),
            few: all as f64 * (100.0 - percent) / 100.0 < 10.0,
        }
    };
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(measured, &mut bytes).expect("a vector takes it");
    Latency {
        count: measured.len(),
        infinite,
        min_ns: measured.min(),
        mean_ns: measured.mean(),
        max_ns: measured.max(),
        percentiles: [50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999].map(percentile).to_vec(),
        spectrum: measured
            .iter_quantiles(5)
            .map(|it| SpectrumPoint { percent: it.quantile() * 100.0 * ended, ns: it.value_iterated_to() })
            .collect(),
        hdr_v2_base64: STANDARD.encode(bytes),
    }
}

/// A small generator of chances (xorshift64*): no crate, and the same every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % end
    }

    /// Log-normal around a median: what latencies look like.
    fn around(&mut self, median: f64, spread: f64) -> u64 {
        let normal = (0..12).map(|_| self.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0;
        (median * (normal * spread).exp()) as u64
    }
}
