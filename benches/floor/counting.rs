//! Counts instead of times: instructions and system calls per echo. They don't depend on what else the machine is doing, so a
//! change of one per cent is a change.
//!
//! Each count is a difference: the same server driven twice, with few messages and with many. Starting up, accepting and ending
//! are in both and drop out; what is left is the price of a message.

use super::Outcome;
use super::conductor::{Contender, Options, Stage, runs, verdict};
use super::scenarios::{Job, Target};
use super::table::{Table, number};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Under a tool everything takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_millis(300);
const REPLY_WITHIN_SECONDS: u64 = 60;
/// After the server has ended, strace still has to write.
const COUNTS_WITHIN: Duration = Duration::from_secs(10);
/// With 64 connections a wait yields many events and costs little per message; with one it yields one.
const CONNECTIONS: [usize; 2] = [64, 1];
/// What the project asks of itself. (One path for all connections is worth more than the last instructions.)
const INSTRUCTIONS_PER_ECHO_MAX: f64 = 600.0;

/// How many messages, few and many.
struct Spread {
    few: u64,
    many: u64,
}

pub(crate) fn instructions(options: &Options, stage: &Stage) -> Outcome<()> {
    if !runs("valgrind", &["--version"]) {
        println!("skipped: install valgrind to count instructions");
        return Ok(());
    }
    let spread = if options.quick {
        Spread { few: 1_000, many: 3_000 }
    } else {
        Spread { few: 20_000, many: 120_000 }
    };
    println!(
        "user-space instructions per 64-byte echo: (count at {} - count at {}) / messages between, under callgrind\n",
        spread.many, spread.few
    );
    let mut table = Table::new(&["connections", "figure", "A", "B", "A/B", "target"]);
    for connections in CONNECTIONS {
        let count = |contender: &Contender| -> Outcome<f64> {
            let at = |messages| {
                let file = stage.scratch.file("callgrind.out");
                let tool = vec![
                    "valgrind".to_string(),
                    "-q".into(),
                    "--tool=callgrind".into(),
                    format!("--callgrind-out-file={}", file.display()),
                ];
                run_under(stage, contender, &tool, connections, messages)?;
                instructions_in(&read_counts(&file, "totals:")?)
            };
            Ok((at(spread.many)? - at(spread.few)?) / (spread.many - spread.few) as f64)
        };
        let (a, b) = (announced(&options.a, connections, count)?, announced(&options.b, connections, count)?);
        let verdict = verdict(Target::AtMost(INSTRUCTIONS_PER_ECHO_MAX), Some(a), None);
        table.row(vec![
            connections.to_string(),
            "instructions/echo".into(),
            number(a),
            number(b),
            format!("{:.2}", a / b),
            verdict,
        ]);
    }
    table.print();
    Ok(())
}

pub(crate) fn system_calls(options: &Options, stage: &Stage) -> Outcome<()> {
    if !runs("strace", &["-V"]) {
        println!("skipped: install strace to count system calls");
        return Ok(());
    }
    let spread =
        if options.quick { Spread { few: 500, many: 1_500 } } else { Spread { few: 5_000, many: 25_000 } };
    println!(
        "system calls per 64-byte echo: (count at {} - count at {}) / messages between, under strace -c\n",
        spread.many, spread.few
    );
    let mut table = Table::new(&["connections", "call", "A", "B"]);
    for connections in CONNECTIONS {
        let count = |contender: &Contender| -> Outcome<BTreeMap<String, f64>> {
            let at = |messages| -> Outcome<BTreeMap<String, f64>> {
                let file = stage.scratch.file("strace.out");
                // -D: the tracer steps aside, so that the process we started, and will end, is the server.
                let tool = ["strace", "-D", "-f", "-c", "-o"]
                    .map(String::from)
                    .into_iter()
                    .chain([file.display().to_string()]);
                run_under(stage, contender, &tool.collect::<Vec<_>>(), connections, messages)?;
                Ok(calls_in(&read_counts(&file, " total")?))
            };
            let (few, mut many) = (at(spread.few)?, at(spread.many)?);
            for (name, calls) in &mut many {
                *calls = (*calls - few.get(name).unwrap_or(&0.0)) / (spread.many - spread.few) as f64;
            }
            Ok(many)
        };
        let (a, b) = (announced(&options.a, connections, count)?, announced(&options.b, connections, count)?);
        let sum = |calls: &BTreeMap<String, f64>| calls.values().sum::<f64>();
        table.row(vec![
            connections.to_string(),
            "all".into(),
            format!("{:.3}", sum(&a)),
            format!("{:.3}", sum(&b)),
        ]);
        let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names {
            let per_echo = [&a, &b].map(|calls| calls.get(name).copied().unwrap_or(0.0));
            // Less than one in a thousand echoes is start-up that didn't cancel, or a timer.
            if per_echo.iter().any(|calls| *calls >= 0.001) {
                table.row(vec![
                    String::new(),
                    name.clone(),
                    format!("{:.3}", per_echo[0]),
                    format!("{:.3}", per_echo[1]),
                ]);
            }
        }
    }
    table.print();
    Ok(())
}

/// Counts one contender, and says who if it fails.
fn announced<T>(
    contender: &Contender,
    connections: usize,
    count: impl Fn(&Contender) -> Outcome<T>,
) -> Outcome<T> {
    eprintln!("{}, {connections} connections...", contender.name);
    count(contender).map_err(|why| format!("{}, {connections} connections: {why}", contender.name))
}

fn run_under(
    stage: &Stage,
    contender: &Contender,
    tool: &[String],
    connections: usize,
    messages: u64,
) -> Outcome<()> {
    let mut server = stage.start_server(contender, tool, READY_WITHIN)?;
    let job = Job { connections, messages, reply_within_seconds: REPLY_WITHIN_SECONDS, ..Job::DEFAULT };
    stage.drive(&mut server, job)?;
    // All connections have just been closed; unless each is seen to be, they don't drop out of the difference.
    sleep(SETTLE);
    server.process.stop(STOP_WITHIN)
}

/// The tool's file, once it holds the line that comes last. It is removed, so that the next one is not mistaken for it.
fn read_counts(file: &Path, last: &str) -> Outcome<String> {
    let end = Instant::now() + COUNTS_WITHIN;
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.contains(last) {
            let _ = std::fs::remove_file(file);
            return Ok(text);
        }
        if Instant::now() > end {
            return Err(format!("no counts in {} (no `{}`)", file.display(), last.trim()));
        }
        sleep(Duration::from_millis(20));
    }
}

fn instructions_in(text: &str) -> Outcome<f64> {
    let totals = text.lines().find_map(|line| line.strip_prefix("totals:"));
    totals.and_then(|count| count.trim().parse().ok()).ok_or_else(|| "callgrind wrote no total".into())
}

/// Rows of `strace -c`: % time, seconds, usecs/call, calls, errors or nothing, name.
fn calls_in(text: &str) -> BTreeMap<String, f64> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let share: Option<f64> = words.first()?.parse().ok();
        let (_, calls, name) = (share?, words.get(3)?.parse().ok()?, words.last()?.to_string());
        (name != "total").then_some((name, calls))
    };
    text.lines().filter_map(row).collect()
}
