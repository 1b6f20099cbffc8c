//! The load generator tells the truth: servers that do one thing wrong are told from those that don't.
//!
//! Each test runs `switchboard bench` against a server whose fault is known (`support/crooked.rs`), and
//! reads the report. Runs last about a second and the machine is noisy, so nothing here asserts what a
//! busy neighbour could break: counts are exact, times have wide bounds.
#![cfg(all(feature = "cli", feature = "load"))]

#[path = "support/bench.rs"]
mod bench;
#[path = "support/crooked.rs"]
mod crooked;
mod support;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use bench::{Bench, Killed, alone, among_others, percentile};
use crooked::{Crooked, Habit, SIZE, When};
use support::{Client, Server, Signal, TCP, until};
use switchboard::load::report::{Failures, Limit, Report};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A single fault in the middle of the measurement, which begins after 100 ms.
const ONCE: When = When::After(ms(500));

const NOTHING: Failures = Failures {
    corrupted: 0,
    reordered: 0,
    duplicated: 0,
    lost: 0,
    short: 0,
    status: 0,
    refused: 0,
    reset: 0,
    timed_out: 0,
    unsent: 0,
};

// First: the servers themselves are as crooked as they say, and no more.

const fn message(number: u8) -> [u8; SIZE] {
    [number; SIZE]
}

/// Says messages 1 to 3 at once; what comes back, by its first byte and length, is what is expected.
#[track_caller]
fn three_come_back_as(habit: Habit, expected: &[[u8; SIZE]]) {
    let server = Crooked::tcp(habit);
    let mut client = Client::to(server.url());
    client.say([message(1), message(2), message(3)].concat());
    client.hear(expected.concat());
    client.half_close();
    client.hear_end();
    assert_eq!((server.accepted(), server.messages()), (1, 3), "{habit:?}");
}

#[test]
fn the_crooked_servers_do_one_thing_wrong() {
    let [one, two, three] = [1, 2, 3].map(message);
    let mut flipped = two;
    flipped[9] ^= 1;
    let second = When::Reply(2);
    three_come_back_as(Habit::Honest, &[one, two, three]);
    three_come_back_as(Habit::FlipsAByte { when: second, at: 9 }, &[one, flipped, three]);
    three_come_back_as(Habit::Drops(second), &[one, three]);
    three_come_back_as(Habit::Duplicates(second), &[one, two, two, three]);
    three_come_back_as(Habit::Swaps(second), &[one, three, two]);
    three_come_back_as(Habit::ByteByByte, &[one, two, three]);
    three_come_back_as(Habit::Drops(When::After(Duration::ZERO)), &[two, three]);
    three_come_back_as(Habit::Mute, &[]);

    let server = Crooked::tcp(Habit::EndsWithin(When::Reply(1)));
    let mut client = Client::to(server.url());
    client.say(one);
    client.hear(&one[..SIZE / 2]);
    client.hear_end();

    let server = Crooked::tcp(Habit::Resets(When::Reply(1)));
    let mut client = Client::to(server.url());
    client.say(one);
    client.hear_it_break();
    Client::to(server.url()).echo(two);

    let server = Crooked::tcp(Habit::Dies(ms(50)));
    let mut client = Client::to(server.url());
    client.echo(one);
    client.hear_it_break();
    until("the listener to be closed", || Client::try_to(server.url()).is_err().then_some(()));
}

#[test]
fn the_slow_servers_are_slow_as_they_say() {
    let time_for_two = |habit| {
        let server = Crooked::tcp(habit);
        let mut clients = [Client::to(server.url()), Client::to(server.url())];
        let begun = Instant::now();
        clients.iter_mut().for_each(|client| client.say(message(1)));
        clients.iter_mut().for_each(|client| client.hear(message(1)));
        begun.elapsed()
    };
    let least = time_for_two(Habit::OneAfterTheOther(ms(100)));
    assert!(least >= ms(200), "{least:?}");
    let least = time_for_two(Habit::Later(ms(100)));
    assert!(least >= ms(100), "{least:?}");
    let least = time_for_two(Habit::StallsOnce { after: ms(0), lasting: ms(100) });
    assert!(least >= ms(95), "{least:?}");
}

// What a server does is counted as just that.

#[test]
fn an_honest_server_is_found_honest() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::Honest);
    for words in ["", "--depth 16", "--rate 2000", "--rate 2000 --arrivals poisson --depth 4"] {
        let before = server.messages();
        let outcome = Bench::of(server.url(), words).run();
        let report = outcome.is_fine();
        assert!(report.verified, "{words}");
        assert!(report.replies <= server.messages() - before, "{words}: replies that were never sent");
        let rate = report.replies as f64 / report.measured_s;
        assert!(
            (report.achieved_per_s / rate - 1.0).abs() < 0.05,
            "{words}: {} {rate}",
            report.achieved_per_s
        );
        let bytes = report.achieved_per_s * SIZE as f64;
        assert!((report.bytes_in_per_s / bytes - 1.0).abs() < 0.05, "{words}: {}", report.bytes_in_per_s);
        let response = report.latency.response.as_ref().expect("there were replies");
        assert_eq!((response.count, response.infinite), (report.replies, 0), "{words}");
    }
}

/// Wherever it is: in a number that the generator put there itself, or in the bytes behind it.
#[test]
fn a_flipped_byte_is_a_corrupted_reply() {
    let _machine = among_others();
    for depth in [1, 4] {
        for at in [0, 5, 13, 18, SIZE - 1] {
            let server = Crooked::tcp(Habit::FlipsAByte { when: When::Every(50), at });
            let words = format!("--rate 2000 --depth {depth} --duration 200ms --timeout 1s");
            let outcome = Bench::of(server.url(), &words).run();
            println!("byte {at}, depth {depth}, {} faults", server.faults());
            outcome.found(Failures { corrupted: server.faults(), ..NOTHING });
        }
    }
    let server = Crooked::tcp(Habit::FlipsAByte { when: ONCE, at: SIZE / 2 });
    Bench::of(server.url(), "").run().found(Failures { corrupted: 1, ..NOTHING });
}

#[test]
fn a_reply_that_never_comes_is_lost_where_later_ones_do() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::Drops(ONCE));
    Bench::of(server.url(), "--depth 4 --timeout 1s").run().found(Failures { lost: 1, ..NOTHING });
}

#[test]
fn a_reply_that_comes_again_is_duplicated() {
    let _machine = among_others();
    for depth in [1, 4] {
        let server = Crooked::tcp(Habit::Duplicates(ONCE));
        let outcome = Bench::of(server.url(), &format!("--depth {depth}")).run();
        outcome.found(Failures { duplicated: 1, ..NOTHING });
    }
}

#[test]
fn a_reply_that_comes_after_a_later_one_is_reordered() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::Swaps(ONCE));
    Bench::of(server.url(), "--depth 4").run().found(Failures { reordered: 1, ..NOTHING });
}

/// Who sees no summary still hears why the exit code is not 0.
#[test]
fn wrong_replies_are_said_in_one_line() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::FlipsAByte { when: ONCE, at: SIZE / 2 });
    let outcome = Bench::of(server.url(), "").run();
    assert!(outcome.ended.complaint().contains("corrupted"), "{:#?}", outcome.ended);
    outcome.found(Failures { corrupted: 1, ..NOTHING });
}

/// What is wrong before the measurement is wrong all the same.
#[test]
fn a_wrong_reply_in_the_warm_up_is_not_forgiven() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::FlipsAByte { when: When::Reply(1), at: SIZE - 1 });
    let outcome = Bench::of(server.url(), "--warmup 500ms --duration 500ms").run();
    assert_eq!(outcome.ended.code, Some(1), "{:#?}", outcome.ended);
}

#[test]
fn a_connection_that_ends_within_a_reply_is_short() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::EndsWithin(ONCE));
    Bench::of(server.url(), "").run().found(Failures { short: 1, ..NOTHING });
}

#[test]
fn a_reset_connection_is_reset_and_its_message_lost() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::Resets(ONCE));
    Bench::of(server.url(), "").run().found(Failures { reset: 1, lost: 1, ..NOTHING });
}

#[test]
fn a_reply_in_single_bytes_is_no_failure() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::ByteByByte);
    for depth in [1, 3] {
        Bench::of(server.url(), &format!("--duration 700ms --depth {depth}")).run().is_fine();
    }
}

/// A datagram may be lost, and may come twice or late; each is counted as what it is.
#[test]
fn datagrams_are_lost_doubled_and_swapped() {
    let _machine = among_others();
    let words = "--depth 4 --timeout 300ms";
    Bench::of(Crooked::udp(Habit::Honest).url(), words).run().is_fine();

    // That a datagram was lost, and isn't late, only time can tell.
    let server = Crooked::udp(Habit::Drops(ONCE));
    let outcome = Bench::of(server.url(), words).run();
    let failures = outcome.report().failures;
    assert_eq!(failures.lost + failures.timed_out, 1, "{failures:?}");
    assert_eq!(failures.total(), 1, "{failures:?}");
    assert_eq!(outcome.ended.code, Some(1), "{:#?}", outcome.ended);

    let server = Crooked::udp(Habit::Duplicates(ONCE));
    Bench::of(server.url(), words).run().found(Failures { duplicated: 1, ..NOTHING });

    let server = Crooked::udp(Habit::Swaps(ONCE));
    Bench::of(server.url(), words).run().found(Failures { reordered: 1, ..NOTHING });
}

#[test]
fn datagrams_that_go_wrong_often_are_counted_each() {
    let _machine = among_others();
    let words = "--rate 1000 --depth 8 --timeout 300ms --duration 800ms";
    let all_but = |failures: &Failures, counted: u64| assert_eq!(failures.total(), counted, "{failures:?}");

    let server = Crooked::udp(Habit::Duplicates(When::Every(10)));
    let outcome = Bench::of(server.url(), words).run();
    let failures = outcome.report().failures;
    assert!((50..=server.faults()).contains(&failures.duplicated), "{failures:?} of {}", server.faults());
    all_but(&failures, failures.duplicated);

    let server = Crooked::udp(Habit::Swaps(When::Every(10)));
    let outcome = Bench::of(server.url(), words).run();
    let failures = outcome.report().failures;
    assert!((50..=server.faults()).contains(&failures.reordered), "{failures:?} of {}", server.faults());
    // The last one may be held for ever, with nobody to pass it.
    all_but(&Failures { lost: 0, timed_out: 0, ..failures }, failures.reordered);
    assert!(failures.lost + failures.timed_out <= 1, "{failures:?}");
}

// Times are told as a user would feel them.

/// Coordinated omission: with one message in flight on each of four connections a stall holds up four
/// messages, but all that were due meanwhile wait to be sent.
#[test]
fn a_stall_shows_in_the_response_times_and_hides_in_the_service_times() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::StallsOnce { after: ms(1500), lasting: ms(1000) });
    let outcome = Bench::of(server.url(), "--rate 400 --depth 1 --duration 4s").run();
    let report = outcome.is_fine();
    let latency = &report.latency;
    let response = latency.response.as_ref().expect("an open loop has one");
    let service = latency.service.as_ref().expect("there were replies");
    let p99 = |latency| percentile(latency, 99.0).expect("nothing failed");
    assert!((ms(500)..ms(2000)).contains(&p99(response)), "{:?}", p99(response));
    assert!(p99(service) < ms(200), "{:?}", p99(service));
    assert!((ms(900)..ms(2000)).contains(&Duration::from_nanos(service.max_ns)), "{}", service.max_ns);
    let worst = report.timeline.iter().max_by_key(|slice| slice.max_ns).expect("there are slices");
    assert!((1.3..3.5).contains(&worst.at_s), "the worst moment is where the stall was: {worst:?}");
}

#[test]
fn four_seconds_are_not_clamped() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::Later(ms(4200)));
    let outcome = Bench::of(server.url(), "--rate 20 --depth 64 --timeout 10s").run();
    let report = outcome.is_fine();
    for latency in [&report.latency.response, &report.latency.service] {
        let latency = latency.as_ref().expect("there were replies");
        let most = Duration::from_nanos(latency.max_ns);
        assert!((ms(4195)..ms(7000)).contains(&most), "{most:?}"); // of 3 digits the last is uncertain
        assert!(percentile(latency, 50.0).is_some_and(|median| median >= ms(4195)), "{latency:?}");
    }
}

#[test]
fn replies_that_never_come_are_timed_out_and_infinite() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::Mute);
    let outcome = Bench::of(server.url(), "--timeout 300ms").run();
    let report = outcome.ends_with(1);
    let timed_out = report.failures.timed_out;
    assert!(timed_out > 0);
    assert_eq!(report.failures.total(), timed_out, "{:?}", report.failures);
    assert_eq!(report.replies, 0);
    if let Some(response) = &report.latency.response {
        assert_eq!(response.count, 0);
        assert!((1..=timed_out).contains(&response.infinite), "{response:?}"); // without the warm-up's
        assert!(response.percentiles.iter().all(|it| it.ns.is_none()), "{:?}", response.percentiles);
    }
}

/// Failures are not left out of the distribution: one in ten reaches down to p90 and what is beyond.
#[test]
fn what_is_lost_counts_as_infinite() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::Drops(When::Every(10)));
    let outcome = Bench::of(server.url(), "--rate 1000 --depth 64 --timeout 1s").run();
    let report = outcome.ends_with(1);
    let response = report.latency.response.as_ref().expect("there were replies");
    assert_eq!(response.count, report.replies);
    let unanswered = report.failures.unanswered(); // in the warm-up, too
    assert!((unanswered / 2..=unanswered).contains(&response.infinite), "{unanswered}: {response:?}");
    assert!(percentile(response, 50.0).is_some());
    assert_eq!(percentile(response, 99.0), None);
    assert_eq!(percentile(response, 99.9), None);
}

#[test]
fn percentiles_with_few_samples_beyond_are_marked() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::Honest);
    let outcome = Bench::of(server.url(), "--rate 500").run();
    let response = outcome.is_fine().latency.response.clone().expect("there were replies");
    let few = |percent: f64| response.percentile(percent).expect("it is listed").few;
    assert!((350..600).contains(&response.count), "{}", response.count);
    // Of 450 there are 45 beyond p90, 4 beyond p99, none beyond p99.9.
    assert_eq!([50.0, 90.0, 99.0, 99.9, 99.99].map(few), [false, false, true, true, true]);
}

/// The fast ones take long enough that a neighbour's turn on the CPU does not make them a mode of its own.
#[test]
fn fast_and_slow_replies_are_two_modes() {
    let _machine = alone();
    let server = Crooked::tcp(Habit::SlowOneInTen { fast: ms(8), slow: ms(80) });
    let outcome = Bench::of(server.url(), "--connections 16 --duration 2s").run();
    let shape = &outcome.is_fine().shape;
    assert_eq!(shape.modes.len(), 2, "{shape:?}");
    let (fast, slow) = (shape.modes[0], shape.modes[1]);
    assert!((0.85..0.95).contains(&fast.share) && (0.05..0.15).contains(&slow.share), "{shape:?}");
    assert!((ms(7)..ms(20)).contains(&Duration::from_nanos(fast.ns)), "{shape:?}");
    assert!((ms(75)..ms(120)).contains(&Duration::from_nanos(slow.ns)), "{shape:?}");
}

#[test]
fn replies_of_one_kind_are_one_mode() {
    let _machine = alone();
    let server = Crooked::tcp(Habit::Later(ms(8)));
    let outcome = Bench::of(server.url(), "--connections 16").run();
    let shape = &outcome.is_fine().shape;
    assert_eq!(shape.modes.len(), 1, "{shape:?}");
}

/// What was due was sent, when it was due.
#[test]
fn an_open_loop_offers_its_rate_evenly() {
    let _machine = alone();
    let server = Crooked::tcp(Habit::Honest);
    let outcome = Bench::of(server.url(), "--rate 1000 --connections 100 --duration 2s").run();
    let report = outcome.is_fine();
    assert!((1950..=2050).contains(&report.offered), "{}", report.offered);
    assert!((990.0..1010.0).contains(&report.offered_per_s), "{}", report.offered_per_s);
    let arrivals = server.arrivals();
    // In each 200 ms, 200 messages; a neighbour may delay some into the next.
    for slice in 0..10 {
        let span = ms(slice * 200)..ms((slice + 1) * 200);
        let count = arrivals.iter().filter(|at| span.contains(&**at)).count();
        assert!((120..=280).contains(&count), "{count} in {span:?}");
    }
}

#[test]
fn a_ramp_goes_from_one_rate_to_the_other() {
    let _machine = alone();
    let server = Crooked::tcp(Habit::Honest);
    for (words, growing) in [("--rate 200..1800", true), ("--rate 1800..200", false)] {
        let before = server.messages() as usize;
        let outcome = Bench::of(server.url(), words).run();
        outcome.is_fine();
        let arrivals = &server.arrivals()[before..];
        let middle = (arrivals[0] + arrivals[arrivals.len() - 1]) / 2;
        let first = arrivals.iter().filter(|at| **at < middle).count();
        let second = arrivals.len() - first;
        assert!((800..=1300).contains(&arrivals.len()), "{words}: {}", arrivals.len());
        let (fewer, more) = if growing { (first, second) } else { (second, first) };
        assert!(more > fewer * 3 / 2, "{words}: {first}, then {second}");
    }
}

// Who was the limit.

#[track_caller]
fn limit_of(report: &Report) -> Limit {
    println!("{:#?}, {:#?}, {:#?}", report.verdict, report.generator, report.server);
    report.verdict.limit
}

/// A busy neighbour may be the limit for a moment, and then it is right to say something else: three
/// runs, of which one must be as expected.
#[track_caller]
fn is_limited_by(limit: Limit, per_s: std::ops::Range<f64>, bench: impl Fn() -> Bench) {
    let as_expected = (0..3).any(|_| {
        let outcome = bench().judging_itself().run();
        let report = outcome.is_fine();
        assert!(report.achieved_per_s < per_s.end, "{}: more than there is", report.achieved_per_s);
        limit_of(report) == limit && per_s.contains(&report.achieved_per_s)
    });
    assert!(as_expected, "it never says {}", limit.name());
}

#[test]
fn a_server_that_does_one_thing_after_the_other_is_the_limit() {
    let _machine = alone();
    let server = Crooked::tcp(Habit::OneAfterTheOther(ms(2)));
    is_limited_by(Limit::Server, 200.0..520.0, || {
        Bench::of(server.url(), "--connections 16 --duration 1500ms")
    });
}

#[test]
fn few_connections_to_a_server_that_takes_its_time_are_the_limit() {
    let _machine = alone();
    let server = Crooked::tcp(Habit::Later(ms(5)));
    is_limited_by(Limit::Concurrency, 200.0..410.0, || {
        Bench::of(server.url(), "--connections 2 --duration 1500ms")
    });
}

#[test]
fn a_rate_that_the_server_keeps_up_with_is_the_limit() {
    let _machine = alone();
    let server = Server::echo();
    is_limited_by(Limit::Rate, 290.0..310.0, || Bench::of(server.url(), "--rate 300 --duration 1500ms"));
}

/// A generator that shares its CPU with four others, while the server has one for itself.
#[test]
#[cfg(target_os = "linux")]
fn a_starved_generator_says_so() {
    let _machine = alone();
    let [ours, theirs] = match &allowed_cpus()[..] {
        [first, .., last] => [last.to_string(), first.to_string()],
        _ => return, // with one CPU there is nothing to be told apart
    };
    let mut serve = Command::new("taskset");
    let program = env!("CARGO_BIN_EXE_switchboard");
    let server = Server::start_command(serve.args(["-c", &theirs, program, "serve", "--listen", TCP]), 1);
    let hogs = [(); 4].map(|()| {
        // It ends by itself, too: the shell's own limit on CPU time.
        let mut hog = Command::new("taskset");
        Killed::start(hog.args(["-c", &ours, "sh", "-c", "ulimit -t 20; while :; do :; done"]))
    });
    // With a neighbour on the server's CPU, too, it may say that both were kept waiting, and it may blame a
    // hypervisor. But never the server, or the plan.
    let as_expected = (0..3).any(|_| {
        let bench = Bench::of(server.url(), "--connections 16 --duration 1500ms --strict");
        let outcome = bench.under(&format!("nice -n 10 taskset -c {ours}")).judging_itself().run();
        let limit = limit_of(outcome.report());
        let blames_no_other = matches!(limit, Limit::Generator | Limit::SharedCpu | Limit::Kernel);
        assert!(blames_no_other, "{}", limit.name());
        outcome.ends_with(if limit == Limit::Generator { 3 } else { 0 });
        limit == Limit::Generator
    });
    drop(hogs);
    assert!(as_expected, "it never says GENERATOR");
}

/// As in `0-1,4`.
#[cfg(target_os = "linux")]
fn allowed_cpus() -> Vec<u32> {
    let status = fs::read_to_string("/proc/self/status").expect("it is there for every process");
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("it is listed");
    let number = |text: &str| text.trim().parse::<u32>().expect("a number");
    line.split(',')
        .flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            number(first)..=number(last)
        })
        .collect()
}

/// A server that takes 2 ms for each, one after the other, can do 500 a second. In a short step somewhat
/// more passes before the queue is too long.
#[test]
fn a_search_finds_no_more_than_the_server_can_do() {
    let _machine = alone();
    let server = Crooked::tcp(Habit::OneAfterTheOther(ms(2)));
    let words = "--connections 16 --depth 4 --find-max --slo p99<=30ms --duration 600ms";
    let outcome = Bench::of(server.url(), words).run();
    let report = outcome.report();
    let found = report.found.as_ref().unwrap_or_else(|| panic!("it was not searched: {:#?}", outcome.ended));
    assert_eq!(found.slo, "p99<=30ms");
    assert!(found.rate_per_s.is_some_and(|rate| (100.0..600.0).contains(&rate)), "{found:?}");
    assert!(report.curve.iter().any(|point| point.met == Some(true)), "{:#?}", report.curve);
    assert!(report.curve.iter().any(|point| point.met == Some(false)), "{:#?}", report.curve);
    assert_eq!(outcome.ended.code, Some(0), "{:#?}", outcome.ended);
}

#[test]
fn a_server_that_dies_in_a_search_leaves_the_curve() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::Dies(ms(2500)));
    let words = "--find-max --slo p99<=1s --rate 200 --duration 600ms";
    let outcome = Bench::of(server.url(), words).run();
    let report = outcome.ends_with(1);
    outcome.ended.complaint();
    let found = report.found.as_ref().expect("it was searched");
    assert_eq!(found.rate_per_s, None);
    assert!(found.because.contains("cut short"), "{found:?}");
    assert!(report.curve.len() >= 2, "{:#?}", report.curve);
    assert!(report.curve.iter().any(|point| point.met == Some(true)), "{:#?}", report.curve);
}

// What ends a run is said in one line, and what was measured is kept.

#[test]
fn nobody_listens() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::Honest);
    let url = server.url().to_owned();
    drop(server);
    let directory = support::Directory::new();
    let unix = directory.url("unix", "nobody");
    for (url, why) in [(url.as_str(), "refused"), (unix.as_str(), "o such file")] {
        let outcome = Bench::of(url, "--duration 10s").run();
        let complaint = outcome.ended.complaint();
        assert!(complaint.contains(url) && complaint.contains(why), "{complaint}");
        assert_eq!(outcome.ended.code, Some(1));
        assert!(outcome.ended.took < ms(4000), "{:?}", outcome.ended.took);
    }
}

#[test]
fn a_server_that_dies_leaves_what_was_measured() {
    let _machine = among_others();
    for words in ["", "--rate 500 --depth 8"] {
        let server = Crooked::tcp(Habit::Dies(ms(700)));
        let outcome = Bench::of(server.url(), &format!("--duration 10s {words}")).run();
        let report = outcome.ends_with(1);
        outcome.ended.complaint();
        assert!(report.partial && report.partial_because.is_some());
        assert!(report.replies > 0);
        let response = report.latency.response.as_ref().expect("there were replies");
        assert_eq!(response.count, report.replies);
        assert!(outcome.ended.took < ms(8000), "{words}: it gives up at once: {:?}", outcome.ended.took);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn too_few_descriptors_are_named_with_the_limit() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::Honest);
    let words = "--connections 200 --duration 10s";
    let outcome = Bench::of(server.url(), words).under("prlimit --nofile=64:64").run();
    let complaint = outcome.ended.complaint();
    assert!(complaint.contains("64") && complaint.contains("descriptors"), "{complaint}");
    assert!(matches!(outcome.ended.code, Some(1 | 2)), "{:?}", outcome.ended);
    assert!(outcome.ended.took < ms(4000), "{:?}", outcome.ended.took);
}

#[test]
fn ctrl_c_keeps_what_was_measured() {
    let _machine = among_others();
    let server = Crooked::tcp(Habit::Honest);
    for words in ["", "--rate 100", "--rounds 8", "--find-max --slo p99<=1s"] {
        let before = server.messages() as usize;
        let bench = Bench::of(server.url(), &format!("--duration 30s {words}"));
        let mut running = Server::start_command(&mut bench.command(), 0);
        running.read_log();
        let under_way = |arrivals: &[Duration]| Some(arrivals.last()?.saturating_sub(arrivals[0]) > ms(600));
        until("the run to be under way", || under_way(&server.arrivals()[before..]).filter(|it| *it));
        running.signal(Signal::SIGINT);
        let end = running.wait(); // not for 30 s
        let report = bench.report().expect("it was written");
        assert!(report.partial && report.partial_because.is_some(), "{words}");
        assert!(report.replies > 0, "{words}");
        assert_eq!(report.failures, NOTHING, "{words}: what was on its way is no failure");
        assert_eq!(end.code, Some(0), "{words}");
    }
}

// The same is the same, and memory is flat.

/// How many of so many comparisons of a server with itself see a difference.
fn differences_with_itself(comparisons: u32) -> u32 {
    let server = Server::echo();
    let mut seen = 0;
    for _ in 0..comparisons {
        let arguments = ["bench", "--ab", server.url(), server.url(), "--rounds", "8"];
        let short =
            ["--duration", "100ms", "--warmup", "30ms", "--no-self-test", "--connections", "4", "--quiet"];
        let ended = bench::run_with(&[&arguments[..], &short[..]].concat());
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        let same = ended.stdout.contains("NO DIFFERENCE SEEN");
        if !same {
            assert!(ended.stdout.contains("FASTER") || ended.stdout.contains("SLOWER"), "{ended:#?}");
            println!("{}", ended.stdout);
            seen += 1;
        }
    }
    seen
}

#[test]
fn the_same_server_seldom_differs_from_itself() {
    let _machine = alone();
    let seen = differences_with_itself(4);
    assert!(seen <= 1, "{seen} of 4");
}

/// `cargo test --release --test bench_truth -- --ignored twenty`
#[test]
#[ignore = "takes minutes"]
fn the_same_server_differs_from_itself_at_most_twice_in_twenty() {
    let _machine = alone();
    let seen = differences_with_itself(20);
    assert!(seen <= 2, "{seen} of 20");
}

/// Replies and resident memory of a run.
fn memory_of(server: &Server, words: &str) -> (u64, u64) {
    let outcome = Bench::of(server.url(), &format!("--depth 64 {words}")).run();
    let report = outcome.is_fine();
    assert!(report.generator.rss_bytes > 0);
    (report.replies, report.generator.rss_bytes)
}

const MIB: u64 = 1024 * 1024;

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_messages() {
    let _machine = among_others();
    let server = Server::echo();
    let (few, small) = memory_of(&server, "--duration 500ms");
    let (many, large) = memory_of(&server, "--duration 3s");
    assert!(many > few * 3, "{few}, {many}");
    assert!(large < small + 8 * MIB, "{small} bytes after {few} replies, {large} after {many}");
}

/// `cargo test --release --test bench_truth -- --ignored ten_million`
#[test]
#[ignore = "takes a minute"]
#[cfg(target_os = "linux")]
fn memory_is_flat_over_ten_million_requests() {
    let _machine = alone();
    let server = Server::echo();
    let (few, small) = memory_of(&server, "--duration 1s");
    let seconds = (10_000_000 / few + 2).clamp(2, 40);
    let (many, large) = memory_of(&server, &format!("--duration {seconds}s"));
    assert!(many >= 10_000_000, "only {many} in {seconds} s: is this a release build?");
    assert!(large < small + 8 * MIB, "{small} bytes after {few} replies, {large} after {many}");
}

/// Runs `bench` where there are 30 ports to connect from, in a network of its own; `None` where we may not make one.
#[cfg(target_os = "linux")]
fn bench_with_few_ports(arguments: &str) -> Option<(bench::Ended, Option<Report>)> {
    let directory = support::Directory::new();
    let json = directory.path("report.json");
    let script = "ip link set lo up && echo 40000 40029 >/proc/sys/net/ipv4/ip_local_port_range || exit 77
        exec \"$0\" bench tcp://127.0.0.1:9000 --spawn \"$0 serve --listen tcp://127.0.0.1:9000 --log-level off >/dev/null\" \
            --connections 100 --duration 300ms --warmup off --no-self-test --quiet --json \"$1\" $2";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script, env!("CARGO_BIN_EXE_switchboard")]).arg(&json).arg(arguments);
    let ended = bench::run_command(&mut command);
    if ended.code == Some(77) || ended.stderr.contains("unshare") {
        println!("not tested: no network of its own is to be had here: {}", ended.stderr);
        return None;
    }
    let report = fs::read_to_string(&json).ok().map(|text| serde_json::from_str(&text).expect("a report"));
    Some((ended, report))
}

#[test]
#[cfg(target_os = "linux")]
fn when_the_ports_run_out_it_goes_on_from_the_next_address() {
    let _machine = among_others();
    let Some((ended, report)) = bench_with_few_ports("") else { return };
    let report = report.unwrap_or_else(|| panic!("no report: {ended:#?}"));
    assert_eq!((ended.code, report.connected, &report.failures), (Some(0), 100, &NOTHING), "{ended:#?}");
}

#[test]
#[cfg(target_os = "linux")]
fn too_few_ports_are_named_and_what_to_do_about_it() {
    let _machine = among_others();
    let Some((ended, report)) = bench_with_few_ports("--source 127.0.0.1") else { return };
    let complaint = ended.complaint();
    assert!(complaint.contains("no free port is left") && complaint.contains("--source"), "{complaint}");
    assert_eq!(ended.code, Some(1));
    assert!(report.is_some_and(|report| report.partial), "what was measured is kept");
}
