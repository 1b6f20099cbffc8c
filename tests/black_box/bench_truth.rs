//! The load generator tells the truth: servers that do one thing wrong are told from those that don't.
//!
//! Each test runs `switchboard bench` against a server whose fault is known (`support/crooked.rs`), and
//! reads the report. Nothing here asserts what a busy machine could break: counts are exact, faults come at
//! a message's number and not at a time, and times only have lower bounds. Tests that judge how fast things
//! go are ignored by the plain command: `cargo test --release --test black_box bench_truth:: -- --ignored`.
#![cfg(all(feature = "cli", feature = "load"))]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::bench::{self, Bench, Killed, alone, percentile};
use crate::support::crooked::{Crooked, Habit, SIZE, When};
use crate::support::{Client, Server, Signal, TCP, until};
use switchboard::load::report::{Failures, Limit, LoadPoint, Report};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A single fault in the middle of the measurement: even a starved generator gets that far.
const ONCE: When = When::Reply(40);

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
    let server = Crooked::tcp(Habit::Honest);
    for words in ["", "--depth 16", "--rate 2000", "--rate 2000 --arrivals poisson --depth 4"] {
        let before = server.messages();
        let outcome = Bench::of(server.url(), words).run();
        let report = outcome.is_fine();
        assert!(report.verified, "{words}");
        assert!(report.replies <= server.messages() - before, "{words}: replies that were never sent");
        // Without a warm-up all replies belong to the window, but a few may have come after its end.
        let arrived = report.achieved_per_s * report.measured_s;
        assert!((1.0..report.replies as f64 + 0.5).contains(&arrived), "{words}: {arrived}");
        let bytes = report.achieved_per_s * SIZE as f64;
        assert!((report.bytes_in_per_s / bytes - 1.0).abs() < 0.05, "{words}: {}", report.bytes_in_per_s);
        let response = report.latency.response.as_ref().expect("there were replies");
        assert_eq!((response.count, response.infinite), (report.replies, 0), "{words}");
    }
}

/// Wherever it is: in a number that the generator put there itself, or in the bytes behind it.
#[test]
fn a_flipped_byte_is_a_corrupted_reply() {
    for (depth, places) in [(1, &[0, 5, 13, 18, SIZE - 1][..]), (4, &[5, SIZE - 1])] {
        for &at in places {
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
    let server = Crooked::tcp(Habit::Drops(ONCE));
    Bench::of(server.url(), "--depth 4 --timeout 1s").run().found(Failures { lost: 1, ..NOTHING });
}

#[test]
fn a_reply_that_comes_again_is_duplicated() {
    for depth in [1, 4] {
        let server = Crooked::tcp(Habit::Duplicates(ONCE));
        let outcome = Bench::of(server.url(), &format!("--depth {depth}")).run();
        outcome.found(Failures { duplicated: 1, ..NOTHING });
    }
}

#[test]
fn a_reply_that_comes_after_a_later_one_is_reordered() {
    let server = Crooked::tcp(Habit::Swaps(ONCE));
    Bench::of(server.url(), "--depth 4").run().found(Failures { reordered: 1, ..NOTHING });
}

/// Who sees no summary still hears why the exit code is not 0.
#[test]
fn wrong_replies_are_said_in_one_line() {
    let server = Crooked::tcp(Habit::FlipsAByte { when: ONCE, at: SIZE / 2 });
    let outcome = Bench::of(server.url(), "").run();
    assert!(outcome.ended.complaint().contains("corrupted"), "{:#?}", outcome.ended);
    outcome.found(Failures { corrupted: 1, ..NOTHING });
}

/// What is wrong before the measurement is wrong all the same.
#[test]
fn a_wrong_reply_in_the_warm_up_is_not_forgiven() {
    let server = Crooked::tcp(Habit::FlipsAByte { when: When::Reply(1), at: SIZE - 1 });
    let outcome = Bench::of(server.url(), "--warmup 100ms --duration 200ms").run();
    assert_eq!(outcome.ended.code, Some(1), "{:#?}", outcome.ended);
}

/// Also in a search, whichever step it was in.
#[test]
fn a_search_with_a_wrong_reply_fails() {
    let server = Crooked::tcp(Habit::FlipsAByte { when: When::Every(50), at: SIZE - 1 });
    let search = "--find-max --slo p99<=1s --rate 200 --warmup off --duration 600ms";
    let outcome = Bench::of(server.url(), search).run();
    assert_eq!(outcome.ended.code, Some(1), "{:#?}", outcome.ended);
    assert!(outcome.ended.stderr.contains("corrupted"), "{}", outcome.ended.stderr);
}

/// The window is silent, but the server did answer before.
#[test]
fn a_server_that_answers_in_the_warm_up_alone_is_not_said_to_answer_nothing() {
    let server = Crooked::tcp(Habit::StandsStill { from: 100, lasting: Duration::from_secs(600) });
    let outcome = Bench::of(server.url(), "--warmup 300ms --duration 300ms --timeout 500ms").run();
    assert_eq!(outcome.ended.code, Some(1), "{:#?}", outcome.ended);
    assert!(outcome.ended.stderr.contains("and then nothing"), "{}", outcome.ended.stderr);
}

#[test]
fn a_connection_that_ends_within_a_reply_is_short() {
    let server = Crooked::tcp(Habit::EndsWithin(ONCE));
    Bench::of(server.url(), "").run().found(Failures { short: 1, ..NOTHING });
}

#[test]
fn a_reset_connection_is_reset_and_its_message_lost() {
    let server = Crooked::tcp(Habit::Resets(ONCE));
    Bench::of(server.url(), "").run().found(Failures { reset: 1, lost: 1, ..NOTHING });
}

/// Each tenth connection is reset: that is one failure, with its message, and no reason to pause.
#[test]
fn with_churn_a_reset_is_one_failure_and_infinite() {
    let server = Crooked::tcp(Habit::Resets(When::Every(10)));
    let outcome = Bench::of(server.url(), "--churn").run();
    let report = outcome.ends_with(1);
    let (faults, reset) = (server.faults(), report.failures.reset);
    assert!(reset > 1 && reset == report.failures.total() && reset <= faults, "{faults}: {report:?}");
    let infinite = report.latency.response.as_ref().expect("there were replies").infinite;
    assert!(infinite > 0 && infinite <= reset, "{infinite} of {reset}");
}

#[test]
fn a_reply_in_single_bytes_is_no_failure() {
    let server = Crooked::tcp(Habit::ByteByByte);
    for depth in [1, 3] {
        Bench::of(server.url(), &format!("--depth {depth}")).run().is_fine();
    }
}

/// A datagram may be lost, and may come twice; each is counted as what it is. To come late is no failure: UDP keeps no
/// order.
#[test]
fn datagrams_are_lost_doubled_and_swapped() {
    let words = "--depth 4 --timeout 300ms";
    Bench::of(Crooked::udp(Habit::Honest).url(), words).run().is_fine();

    // That a datagram was lost, and isn't late, only time can tell.
    let server = Crooked::udp(Habit::Drops(ONCE));
    let outcome = Bench::of(server.url(), words).run();
    let failures = outcome.report().failures;
    assert_eq!(failures.lost + failures.timed_out, 1, "{failures:?}");
    assert_eq!(failures.total(), 1, "{failures:?}");

    let server = Crooked::udp(Habit::Duplicates(ONCE));
    Bench::of(server.url(), words).run().found(Failures { duplicated: 1, ..NOTHING });

    let server = Crooked::udp(Habit::Swaps(ONCE));
    assert_eq!(Bench::of(server.url(), words).run().is_fine().out_of_order, 1);
}

/// Of 400 messages 20 are lost, each on another socket with one message in flight. Every place that waited for one of
/// them would keep 10 others from being sent within the timeout of 10 s.
#[test]
fn a_lost_datagram_does_not_hold_up_those_behind_it() {
    let server = Crooked::udp(Habit::Drops(When::Every(20)));
    let words = "--rate 1000 --connections 20 --timeout 10s --slo failures<=50%";
    let bench = Bench::of(server.url(), words);
    let mut running = Server::start_command(&mut bench.command(), 0);
    running.read_log();
    // It would wait for the lost ones until their time is over.
    until("all to be sent", || (server.messages() >= 390).then_some(()));
    running.signal(Signal::SIGINT);
    running.wait();
}

#[test]
fn datagrams_that_go_wrong_often_are_counted_each() {
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
    let out_of_order = outcome.report().out_of_order;
    assert!((50..=server.faults()).contains(&out_of_order), "{out_of_order} of {}", server.faults());
    // The last one may be held for ever, with nobody to pass it.
    all_but(&Failures { lost: 0, timed_out: 0, ..failures }, 0);
    assert!(failures.lost + failures.timed_out <= 1, "{failures:?}");
}

// Times are told as a user would feel them.

/// Coordinated omission: with one message in flight on each of four connections a stall holds up four
/// messages, but all that were due meanwhile wait to be sent.
#[test]
fn a_stall_shows_in_the_response_times_and_hides_in_the_service_times() {
    let server = Crooked::tcp(Habit::StandsStill { from: 240, lasting: ms(500) });
    let outcome = Bench::of(server.url(), "--rate 800 --depth 1 --duration 1500ms").run();
    let report = outcome.is_fine();
    let latency = &report.latency;
    let response = latency.response.as_ref().expect("an open loop has one");
    let service = latency.service.as_ref().expect("there were replies");
    let p99 = |latency| percentile(latency, 99.0).expect("nothing failed");
    assert!(p99(response) >= ms(400), "{:?}", p99(response));
    let usual = percentile(service, 90.0).expect("nothing failed");
    assert!(usual < p99(response) / 2, "{usual:?} of {:?}", p99(response));
    assert!(service.max_ns >= 490_000_000, "{}", service.max_ns); // of 3 digits the last is uncertain
    let worst = report.timeline.iter().max_by_key(|slice| slice.max_ns).expect("there are slices");
    assert!(worst.at_s >= 0.7, "the worst moment is where the stall ended: {worst:?}");
}

#[test]
fn four_seconds_are_not_clamped() {
    let server = Crooked::tcp(Habit::Later(ms(4200)));
    let outcome = Bench::of(server.url(), "--rate 20 --depth 64 --timeout 10s").run();
    let report = outcome.is_fine();
    for latency in [&report.latency.response, &report.latency.service] {
        let latency = latency.as_ref().expect("there were replies");
        let most = Duration::from_nanos(latency.max_ns);
        assert!((ms(4195)..ms(9900)).contains(&most), "{most:?}"); // of 3 digits the last is uncertain
        assert!(percentile(latency, 50.0).is_some_and(|median| median >= ms(4195)), "{latency:?}");
    }
}

#[test]
fn replies_that_never_come_are_timed_out_and_infinite() {
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
    let server = Crooked::tcp(Habit::Drops(When::Every(10)));
    let outcome = Bench::of(server.url(), "--rate 1000 --depth 64 --timeout 1s").run();
    let report = outcome.ends_with(1);
    let response = report.latency.response.as_ref().expect("there were replies");
    assert_eq!(response.count, report.replies);
    let unanswered = report.failures.unanswered(); // in the warm-up, too
    assert!((1..=unanswered).contains(&response.infinite), "{unanswered}: {response:?}");
    assert!(percentile(response, 50.0).is_some());
    assert_eq!(percentile(response, 99.0), None);
    assert_eq!(percentile(response, 99.9), None);
}

#[test]
fn percentiles_with_few_samples_beyond_are_marked() {
    let server = Crooked::tcp(Habit::Honest);
    let outcome = Bench::of(server.url(), "--rate 500 --duration 900ms").run();
    let response = outcome.is_fine().latency.response.clone().expect("there were replies");
    let few = |percent: f64| response.percentile(percent).expect("it is listed").few;
    assert!((350..600).contains(&response.count), "{}", response.count);
    // Of 450 there are 45 beyond p90, 4 beyond p99, none beyond p99.9.
    assert_eq!([50.0, 90.0, 99.0, 99.9, 99.99].map(few), [false, false, true, true, true]);
}

/// The fast ones take long enough that a neighbour's turn on the CPU does not make them a mode of its own.
#[test]
#[ignore = "needs a quiet machine"]
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
#[ignore = "needs a quiet machine"]
fn replies_of_one_kind_are_one_mode() {
    let _machine = alone();
    let server = Crooked::tcp(Habit::Later(ms(8)));
    let outcome = Bench::of(server.url(), "--connections 16 --duration 900ms").run();
    let shape = &outcome.is_fine().shape;
    assert_eq!(shape.modes.len(), 1, "{shape:?}");
}

#[test]
fn an_open_loop_offers_its_rate() {
    let server = Crooked::tcp(Habit::Honest);
    let outcome = Bench::of(server.url(), "--rate 1000 --connections 100").run();
    let report = outcome.is_fine();
    assert!((390..=410).contains(&report.offered), "{}", report.offered);
    assert!((975.0..1025.0).contains(&report.offered_per_s), "{}", report.offered_per_s);
    assert!(server.messages() >= report.offered, "{}", server.messages()); // a few were sent behind the window
}

/// What was due was sent, when it was due.
#[test]
#[ignore = "needs a quiet machine"]
fn an_open_loop_offers_its_rate_evenly() {
    let _machine = alone();
    let server = Crooked::tcp(Habit::Honest);
    Bench::of(server.url(), "--rate 1000 --connections 100 --duration 2s").run().is_fine();
    let arrivals = server.arrivals();
    // In each 200 ms, 200 messages; a neighbour may delay some into the next.
    for slice in 0..10 {
        let span = ms(slice * 200)..ms((slice + 1) * 200);
        let count = arrivals.iter().filter(|at| span.contains(&**at)).count();
        assert!((120..=280).contains(&count), "{count} in {span:?}");
    }
}

/// Its last quarter has four times the messages of its first one, or the other way round. A busy machine delays some.
#[test]
fn a_ramp_goes_from_one_rate_to_the_other() {
    for (words, growing) in [("--rate 200..1800", true), ("--rate 1800..200", false)] {
        let server = Crooked::tcp(Habit::Honest);
        let outcome = Bench::of(server.url(), &format!("{words} --duration 800ms")).run();
        let offered = outcome.is_fine().offered;
        assert!((780..=820).contains(&offered), "{words}: {offered}");
        let arrivals = server.arrivals();
        let quarter = (arrivals[arrivals.len() - 1] - arrivals[0]) / 4;
        let first = arrivals.iter().filter(|at| **at < arrivals[0] + quarter).count();
        let last = arrivals.iter().filter(|at| **at >= arrivals[0] + 3 * quarter).count();
        let (fewer, more) = if growing { (first, last) } else { (last, first) };
        assert!(more > fewer, "{words}: {first} at first, {last} at last");
    }
}

// The exit code says whether it was good.

/// `p50<=5s` is met on any machine, `max<=1ns` on none.
#[test]
fn an_slo_holds_for_every_run_and_has_its_own_code() {
    let server = Crooked::tcp(Habit::Honest);
    for (words, code) in [
        ("--slo p50<=5s", 0),
        ("--slo max<=1ns", 4),
        ("--rounds 2 --duration 200ms --slo max<=1ns", 4),
        ("--find-max --rate 1000 --duration 200ms --slo max<=1ns", 4),
    ] {
        let outcome = Bench::of(server.url(), words).run();
        outcome.ends_with(code);
        if code != 0 && !words.contains("--find-max") {
            assert!(outcome.ended.complaint().contains("did not meet max<=1ns"), "{:#?}", outcome.ended);
        }
    }
}

/// One message in twenty gets no reply.
#[test]
fn more_than_one_per_cent_of_failures_fails_a_run_unless_the_slo_allows_them() {
    let server = Crooked::udp(Habit::Drops(When::Every(20)));
    for (words, code) in [("", 1), ("--slo failures<=50%", 0), ("--slo failures<=1%", 4)] {
        let words = format!("--rate 1000 --connections 16 --depth 16 --timeout 200ms {words}");
        let outcome = Bench::of(server.url(), &words).run();
        let report = outcome.ends_with(code);
        assert!(report.failures_in_window.total() > 0 && !report.partial, "{:?}", report.failures);
    }
}

#[test]
fn a_wrong_reply_in_the_first_of_three_rounds_is_not_forgiven() {
    let server = Crooked::tcp(Habit::FlipsAByte { when: ONCE, at: SIZE / 2 });
    let outcome = Bench::of(server.url(), "--rounds 3 --duration 200ms").run();
    assert_eq!(outcome.ended.code, Some(1), "{:#?}", outcome.ended);
    assert!(outcome.ended.complaint().contains("round 1 of 3"), "{:#?}", outcome.ended);
}

/// With all messages in flight, a server that stands still is asked nothing more: no share of them shows it.
#[test]
fn a_server_that_stood_still_for_most_of_the_run_fails_it() {
    let server = Crooked::tcp(Habit::StandsStill { from: 200, lasting: ms(3000) });
    let outcome = Bench::of(server.url(), "--duration 2500ms").run();
    assert_eq!(outcome.ended.code, Some(1), "{:#?}", outcome.ended);
    assert!(outcome.ended.complaint().contains("answered nothing for"), "{:#?}", outcome.ended);
}

/// The server takes 2 ms for each, one after the other: half of what is due has no reply in the window, and each gets
/// one afterwards.
#[test]
fn replies_that_come_after_the_end_do_not_say_that_the_server_kept_up() {
    let server = Crooked::tcp(Habit::OneAfterTheOther(ms(2)));
    let outcome = Bench::of(server.url(), "--rate 1000 --connections 64 --duration 300ms").run();
    assert_ne!(limit_of(outcome.report()), Limit::Rate);
}

/// Each message takes 20 ms, however many there are, and four at a time are allowed.
#[test]
#[ignore = "needs a quiet machine"]
fn an_open_loop_with_too_few_connections_does_not_blame_the_server() {
    let _machine = alone();
    let server = Crooked::tcp(Habit::Later(ms(20)));
    let outcome = Bench::of(server.url(), "--rate 1000 --duration 1s").run();
    assert_eq!(limit_of(outcome.report()), Limit::Concurrency);
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
#[ignore = "needs a quiet machine"]
fn a_server_that_does_one_thing_after_the_other_is_the_limit() {
    let _machine = alone();
    let server = Crooked::tcp(Habit::OneAfterTheOther(ms(2)));
    is_limited_by(Limit::Server, 200.0..520.0, || {
        Bench::of(server.url(), "--connections 16 --duration 1500ms")
    });
}

#[test]
#[ignore = "needs a quiet machine"]
fn few_connections_to_a_server_that_takes_its_time_are_the_limit() {
    let _machine = alone();
    let server = Crooked::tcp(Habit::Later(ms(5)));
    is_limited_by(Limit::Concurrency, 200.0..410.0, || {
        Bench::of(server.url(), "--connections 2 --duration 1500ms")
    });
}

#[test]
#[ignore = "needs a quiet machine"]
fn a_rate_that_the_server_keeps_up_with_is_the_limit() {
    let _machine = alone();
    let server = Server::echo();
    is_limited_by(Limit::Rate, 290.0..310.0, || Bench::of(server.url(), "--rate 300 --duration 1500ms"));
}

/// A generator that shares its CPU with four others, while the server has one for itself: on a busy machine, both may be
/// kept waiting, and a hypervisor may be to blame. But never the server, or the plan.
#[test]
#[cfg(target_os = "linux")]
fn a_starved_generator_blames_neither_the_server_nor_the_plan() {
    let Some(limit) = limit_of_a_starved_generator() else { return };
    // Where it hardly ran at all, there is too little to go by.
    let blames_nobody_else =
        matches!(limit, Limit::Generator | Limit::SharedCpu | Limit::Kernel | Limit::Unknown);
    assert!(blames_nobody_else, "{}", limit.name());
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs a quiet machine"]
fn a_starved_generator_says_so() {
    let _machine = alone();
    let says_so = |_| limit_of_a_starved_generator().is_none_or(|limit| limit == Limit::Generator);
    assert!((0..3).any(says_so), "it never says GENERATOR");
}

/// `None` with one CPU: there is nothing to be told apart.
#[cfg(target_os = "linux")]
fn limit_of_a_starved_generator() -> Option<Limit> {
    let [ours, theirs] = match &allowed_cpus()[..] {
        [first, .., last] => [last.to_string(), first.to_string()],
        _ => return None,
    };
    let mut serve = Command::new("taskset");
    let program = env!("CARGO_BIN_EXE_switchboard");
    let server = Server::start_command(serve.args(["-c", &theirs, program, "serve", "--listen", TCP]), 1);
    let _hogs = [(); 4].map(|()| {
        // It ends by itself, too: the shell's own limit on CPU time.
        let mut hog = Command::new("taskset");
        Killed::start(hog.args(["-c", &ours, "sh", "-c", "ulimit -t 20; while :; do :; done"]))
    });
    let bench = Bench::of(server.url(), "--connections 16 --duration 900ms --strict");
    let outcome = bench.under(&format!("nice -n 10 taskset -c {ours}")).run();
    let limit = limit_of(outcome.report());
    outcome.ends_with(if limit == Limit::Generator { 3 } else { 0 });
    Some(limit)
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
/// more passes before the queue is too long. On a busy machine it can do less, down to nothing.
#[test]
fn a_search_finds_no_more_than_the_server_can_do() {
    found_where_500_are_possible("--duration 300ms");
}

#[test]
#[ignore = "needs a quiet machine"]
fn a_search_finds_what_the_server_can_do() {
    let _machine = alone();
    let found = found_where_500_are_possible("--duration 600ms");
    assert!(found.is_some_and(|rate| rate > 100.0), "{found:?}");
}

fn found_where_500_are_possible(words: &str) -> Option<f64> {
    let server = Crooked::tcp(Habit::OneAfterTheOther(ms(2)));
    let words = format!("--connections 16 --depth 4 --find-max --slo p99<=30ms {words}");
    let outcome = Bench::of(server.url(), &words).run();
    let report = outcome.report();
    let found = report.found.as_ref().unwrap_or_else(|| panic!("it was not searched: {:#?}", outcome.ended));
    assert_eq!(found.slo, "p99<=30ms");
    assert!(found.rate_per_s.is_none_or(|rate| rate < 600.0), "{found:?}");
    let has_met = report.curve.iter().any(|point| point.met == Some(true));
    assert_eq!(has_met, found.rate_per_s.is_some(), "{:#?}", report.curve);
    assert!(report.curve.iter().any(|point| point.met == Some(false)), "{:#?}", report.curve);
    found.rate_per_s
}

#[test]
fn a_server_that_dies_in_a_search_leaves_the_curve() {
    let words = "--find-max --slo p99<=5s --rate 1000 --duration 200ms";
    // On a busy machine the search may be over before the server is, or have measured nothing before: then once more.
    let outcome = until("a search that a server's death ended", || {
        let server = Crooked::tcp(Habit::Dies(ms(1500)));
        let outcome = Bench::of(server.url(), words).run();
        let measured = outcome.has_report() && outcome.report().curve.len() >= 2;
        (outcome.ended.code == Some(1) && measured).then_some(outcome)
    });
    let report = outcome.ends_with(1);
    outcome.ended.complaint();
    let found = report.found.as_ref().expect("it was searched");
    assert_eq!(found.rate_per_s, None);
    assert!(found.because.contains("cut short"), "{found:?}");
    assert!(report.curve.len() >= 2, "{:#?}", report.curve);
    // Whether 1,000/s were met depends on the machine. That it was measured does not.
    let measured = |point: &LoadPoint| point.met.is_some() && point.achieved_per_s > 0.0;
    assert!(report.curve.iter().any(measured), "{:#?}", report.curve);
}

// What ends a run is said in one line, and what was measured is kept.

#[test]
fn nobody_listens() {
    let server = Crooked::tcp(Habit::Honest);
    let url = server.url().to_owned();
    drop(server);
    let directory = crate::support::Directory::new();
    let unix = directory.url("unix", "nobody");
    for (url, why) in [(url.as_str(), "refused"), (unix.as_str(), "o such file")] {
        let outcome = Bench::of(url, "--duration 60s").run();
        let complaint = outcome.ended.complaint();
        assert!(complaint.contains(url) && complaint.contains(why), "{complaint}");
        assert_eq!(outcome.ended.code, Some(1));
        assert!(outcome.ended.took < ms(50_000), "{:?}", outcome.ended.took);
    }
}

#[test]
fn a_server_that_dies_leaves_what_was_measured() {
    for words in ["", "--rate 500 --depth 8"] {
        let server = Crooked::tcp(Habit::Dies(ms(300)));
        let outcome = Bench::of(server.url(), &format!("--duration 60s {words}")).run();
        let report = outcome.ends_with(1);
        outcome.ended.complaint();
        assert!(report.partial && report.partial_because.is_some());
        assert!(report.replies > 0);
        let response = report.latency.response.as_ref().expect("there were replies");
        assert_eq!(response.count, report.replies);
        assert!(outcome.ended.took < ms(50_000), "{words}: it gives up at once: {:?}", outcome.ended.took);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn too_few_descriptors_are_named_with_the_limit() {
    let server = Crooked::tcp(Habit::Honest);
    let words = "--connections 200 --duration 60s";
    let outcome = Bench::of(server.url(), words).under("prlimit --nofile=64:64").run();
    let complaint = outcome.ended.complaint();
    assert!(complaint.contains("64") && complaint.contains("descriptors"), "{complaint}");
    assert!(matches!(outcome.ended.code, Some(1 | 2)), "{:?}", outcome.ended);
    assert!(outcome.ended.took < ms(50_000), "{:?}", outcome.ended.took);
}

#[test]
fn ctrl_c_keeps_what_was_measured() {
    let server = Crooked::tcp(Habit::Honest);
    for words in ["", "--rate 100", "--rounds 8", "--find-max --slo p99<=1s"] {
        let before = server.messages() as usize;
        let bench = Bench::of(server.url(), &format!("--duration 60s {words}"));
        let mut running = Server::start_command(&mut bench.command(), 0);
        running.read_log();
        let under_way = |arrivals: &[Duration]| Some(arrivals.last()?.saturating_sub(arrivals[0]) > ms(200));
        until("the run to be under way", || under_way(&server.arrivals()[before..]).filter(|it| *it));
        running.signal(Signal::SIGINT);
        let end = running.wait(); // not for 60 s
        let report = bench.report().expect("it was written");
        assert!(report.partial && report.partial_because.is_some(), "{words}");
        assert!(report.replies > 0, "{words}");
        assert_eq!(report.failures, NOTHING, "{words}: what was on its way is no failure");
        assert_eq!(end.code, Some(130), "{words}: as the shell has it for SIGINT");
    }
}

// The same is the same, and memory is flat.

/// How many of `comparisons` comparisons of a server with itself see a difference.
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
#[ignore = "needs a quiet machine"]
fn the_same_server_seldom_differs_from_itself() {
    let _machine = alone();
    let seen = differences_with_itself(4);
    assert!(seen <= 1, "{seen} of 4");
}

/// `cargo test --release --test black_box twenty -- --ignored`
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
    let server = Server::echo();
    let (few, small) = memory_of(&server, "--duration 200ms");
    let (many, large) = memory_of(&server, "--duration 1500ms");
    assert!(large < small + 8 * MIB, "{small} bytes after {few} replies, {large} after {many}");
}

/// `cargo test --release --test black_box ten_million -- --ignored`
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
    let directory = crate::support::Directory::new();
    let json = directory.path("report.json");
    let script = "ip link set lo up && echo 40000 40029 >/proc/sys/net/ipv4/ip_local_port_range || exit 77
        exec \"$0\" bench tcp://127.0.0.1:9000 --spawn \"$0 serve --listen tcp://127.0.0.1:9000 --log-level off >/dev/null\" \
            --connections 100 --duration 300ms --warmup off --no-self-test --quiet --json \"$1\" $2";
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script, env!("CARGO_BIN_EXE_switchboard")]).arg(&json).arg(arguments);
    let ended = bench::run_command(&mut command);
    if ended.code == Some(77) || ended.stderr.contains("unshare") {
        println!("not tested: no network of its own can be made here: {}", ended.stderr);
        return None;
    }
    let report = fs::read_to_string(&json).ok().map(|text| serde_json::from_str(&text).expect("a report"));
    Some((ended, report))
}

#[test]
#[cfg(target_os = "linux")]
fn when_the_ports_run_out_it_goes_on_from_the_next_address() {
    let Some((ended, report)) = bench_with_few_ports("") else { return };
    let report = report.unwrap_or_else(|| panic!("no report: {ended:#?}"));
    assert_eq!((ended.code, report.connected, &report.failures), (Some(0), 100, &NOTHING), "{ended:#?}");
}

#[test]
#[cfg(target_os = "linux")]
fn too_few_ports_are_named_and_what_to_do_about_it() {
    let Some((ended, report)) = bench_with_few_ports("--source 127.0.0.1") else { return };
    let complaint = ended.complaint();
    assert!(complaint.contains("no free port is left") && complaint.contains("--source"), "{complaint}");
    assert_eq!(ended.code, Some(1));
    assert!(report.is_some_and(|report| report.partial), "what was measured is kept");
}
