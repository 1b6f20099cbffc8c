//! What `switchboard bench` and `switchboard compare` take, refuse and write.
//!
//! What can't be is refused before anything is sent: in one line, which names the culprit, with exit
//! code 2. What can be is run here once, briefly, against `switchboard serve`.
#![cfg(all(feature = "cli", feature = "load"))]

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::bench::{Bench, Ended, run_with};
use crate::support::crooked::{Crooked, Habit};
use crate::support::{Directory, LINES, PREFIXED, Server, TCP, UDP};
use switchboard::load::report::{Report, SCHEMA};

/// A listener that nobody should come to.
struct Deserted(TcpListener);

impl Deserted {
    fn new() -> Deserted {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("the socket is ours");
        Deserted(listener)
    }

    fn url(&self) -> String {
        format!("tcp://{}", self.0.local_addr().expect("it is bound"))
    }

    #[track_caller]
    fn is_deserted(&self, what: &str) {
        let came = self.0.accept();
        assert!(matches!(&came, Err(error) if error.kind() == ErrorKind::WouldBlock), "{what}: {came:?}");
    }
}

/// One line that names the culprit, and exit code 2.
#[track_caller]
fn is_refused(ended: &Ended, culprit: &str, what: &str) {
    if let Err(problem) = refusal(ended, culprit) {
        panic!("{what}: {problem}");
    }
}

/// Why that is no refusal.
fn refusal(ended: &Ended, culprit: &str) -> Result<(), String> {
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let one_line = matches!(lines[..], [line] if line.starts_with("switchboard: "));
    if ended.code != Some(2) || !one_line || !ended.stdout.is_empty() {
        return Err(format!("exit code {:?}, {lines:#?}", ended.code));
    }
    match ended.stderr.contains(culprit) {
        true => Ok(()),
        false => Err(format!("{culprit:?} in {:?}", ended.stderr)),
    }
}

#[test]
fn what_cannot_be_is_refused_in_one_line_before_anybody_is_called() {
    let listener = Deserted::new();
    let url = listener.url();
    let mut wrong = Vec::new();
    for (words, culprit) in [
        ("--rate -5", "-5"),
        ("--rate 0", "--rate"),
        ("--rate fast", "fast"),
        ("--rate 100..", "100.."),
        ("--rate ..100", "..100"),
        ("--rate 100..nan", "nan"),
        ("--rate inf", "inf"),
        ("--arrivals sometimes --rate 5", "sometimes"),
        ("--arrivals poisson", "--rate"),
        ("--find-max", "not provided: --slo"),
        ("--connections 0", "--connections"),
        ("--connections -1", "-1"),
        ("--depth 0", "--depth"),
        ("--depth deep", "deep"),
        ("--threads 0", "--threads"),
        ("--rounds 0", "--rounds"),
        ("--idle -1", "-1"),
        ("--duration 0s", "--duration"),
        ("--duration 10", "10"),
        ("--duration -1s", "-1s"),
        ("--warmup soon", "soon"),
        ("--ramp up", "up"),
        ("--timeout 0s", "--timeout"),
        ("--timeout never", "never"),
        ("--size 0", "--size"),
        ("--size 9..3", "9..3"),
        ("--size big", "big"),
        ("--size 1..", "1.."),
        ("--size 64KB", "64KB"),
        ("--payload {what}", "{what}"),
        ("--payload {rand:many}", "many"),
        ("--source nowhere", "nowhere"),
        ("--source 127.0.0.1:80", "127.0.0.1:80"),
        ("--pin 999", "999"),
        ("--pin x", "--pin"),
        ("--seed x", "--seed"),
        ("--verify maybe", "maybe"),
        ("--verify off --expect pong", "--expect"),
        ("--server-pid x", "--server-pid"),
        ("--find-max", "--slo"),
        ("--ab --slo p99<=2ms", "--slo"),
        ("--rate 0.5 --duration 1s", "--duration of 2s"),
        ("--find-max --slo p99<fast", "p99<fast"),
        ("--find-max --slo p99<=fast", "fast"),
        ("--find-max --slo p101<=2ms", "p101"),
        ("--find-max --slo quick", "quick"),
        ("--churn --depth 2", "--churn"),
        ("--json", "--json"),
        ("--json /tmp/one.file --html /tmp/one.file", "--html"),
        ("--csv /tmp/one.file --hdr /tmp/one.file", "--csv"),
        ("--churn --ramp 1s", "--ramp"),
        ("--find-max --slo p99<=2ms --rate 1..2", "--rate"),
        ("--sing", "--sing"),
        ("--method GET", "--method"),
        ("--header A:b", "--header"),
        ("--ab", "--ab"),
        ("tcp://127.0.0.1:1", "--ab"),
    ] {
        // Should it be taken after all, then not for long.
        let short = match words.contains("--duration") {
            true => "--no-self-test",
            false => "--no-self-test --warmup=10ms --duration=50ms --timeout=50ms",
        };
        // What is under test may stand twice: then that is what is complained of.
        let short = if words.contains("--warmup") || words.contains("--timeout") { "" } else { short };
        let words_and_short = words.split_whitespace().chain(short.split_whitespace());
        let arguments: Vec<&str> = ["bench", &url].into_iter().chain(words_and_short).collect();
        if let Err(problem) = refusal(&run_with(&arguments), culprit) {
            wrong.push(format!("{words}: {problem}"));
        }
        let calls = std::iter::from_fn(|| listener.0.accept().ok()).count();
        if calls > 0 {
            wrong.push(format!("{words}: {calls} connections were made"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_url_that_cannot_be_is_named() {
    for (url, culprit) in [
        ("ws://", "ws"),
        ("ws://127.0.0.1:x/", "port"),
        ("http://", "http"),
        ("http://127.0.0.1:x/", "port"),
        ("gopher://127.0.0.1:70", "gopher"),
        ("tcp+xml://127.0.0.1:70", "xml"),
        ("tcp://127.0.0.1", "port"),
        ("tcp://127.0.0.1:70000", "70000"),
        ("unix:", "path"),
        ("", ""),
    ] {
        is_refused(&run_with(&["bench", url]), culprit, url);
    }
    is_refused(&run_with(&["bench"]), "URL", "no URL at all");
}

/// After a long run it would be too late.
#[test]
fn a_file_that_cannot_be_written_is_refused_before_the_run() {
    let (listener, directory) = (Deserted::new(), Directory::new());
    let nowhere = directory.path("no/such/directory/file").display().to_string();
    let folder = std::env::temp_dir().display().to_string();
    for option in ["--json", "--csv", "--hdr", "--html"] {
        for path in [&nowhere, &folder] {
            let ended = run_with(&["bench", &listener.url(), "--duration", "1s", option, path]);
            is_refused(&ended, path, option);
            listener.is_deserted(option);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_process_that_is_not_there_cannot_be_watched() {
    let listener = Deserted::new();
    let ended = run_with(&["bench", &listener.url(), "--server-pid", "999999999", "--quiet"]);
    assert!(matches!(ended.code, Some(1 | 2)), "{ended:#?}");
    assert!(ended.complaint().contains("999999999"), "{ended:#?}");
    listener.is_deserted("--server-pid");
}

/// What an older run has found is not lost to a command line that comes to nothing.
#[test]
fn a_refused_run_leaves_files_as_they_were() {
    let (listener, directory) = (Deserted::new(), Directory::new());
    let (old, nowhere) = (directory.path("old"), directory.path("no/such/file").display().to_string());
    fs::write(&old, "of yesterday").expect("the directory is ours");
    let path = old.display().to_string();
    for wrong in [["--csv", nowhere.as_str()], ["--pin", "999"], ["--depth", "0"], ["--size", "9..3"]] {
        for option in ["--json", "--hdr", "--html"] {
            let ended = run_with(&["bench", &listener.url(), option, &path, wrong[0], wrong[1]]);
            is_refused(&ended, wrong[1], &wrong.join(" "));
            assert_eq!(fs::read_to_string(&old).expect("it is there"), "of yesterday", "{option} {wrong:?}");
        }
    }
    // Nor does a file appear that says nothing.
    let new = directory.path("new");
    let path = new.display().to_string();
    is_refused(&run_with(&["bench", &listener.url(), "--json", &path, "--csv", &nowhere]), &nowhere, "--csv");
    assert!(!new.exists());
}

#[test]
fn the_help_has_six_worked_examples() {
    let ended = run_with(&["bench", "--help"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let examples = ended.stdout.lines().filter(|line| line.starts_with("  switchboard bench ")).count();
    assert_eq!(examples, 6, "{}", ended.stdout);
    for option in
        ["--connections", "--depth", "--rate", "--find-max", "--slo", "--json", "--html", "--strict"]
    {
        assert!(ended.stdout.contains(option), "{option}");
    }
    let help = run_with(&["--help"]).stdout;
    assert!(help.contains("bench") && help.contains("compare"), "{help}");
}

// Everything that is promised is run once.

/// An echo server at all kinds of places.
fn echo_everywhere(directory: &Directory) -> Server {
    let unix = directory.url("unix", "raw");
    let unix_lines = directory.url("unix+lines", "lines");
    let listeners = [TCP, LINES, PREFIXED, UDP, &unix, &unix_lines];
    // A generator is faster than any client that a server should put up with.
    let arguments = ["serve", "echo", "--datagrams-per-ip", "off"].into_iter();
    let arguments = arguments.chain(listeners.iter().flat_map(|url| ["--listen", url]));
    Server::start(&arguments.collect::<Vec<_>>())
}

const SHORT: &str = "--duration 150ms --warmup 50ms";

#[test]
fn it_drives_every_scheme() {
    let directory = Directory::new();
    let server = echo_everywhere(&directory);
    for url in server.urls() {
        for words in ["", "--depth 16", "--rate 1000 --depth 4"] {
            println!("{url} {words}");
            let outcome = Bench::of(url, &format!("{SHORT} {words}")).run();
            let report = outcome.is_fine();
            assert!(report.verified);
            assert_eq!(report.schema, SCHEMA);
            assert_eq!(report.target, *url);
            assert!(report.tool.starts_with("switchboard "), "{}", report.tool);
        }
    }
    let udp = &server.urls()[3];
    Bench::of(udp, &format!("{SHORT} --size 1..1024 --depth 4")).run().is_fine();
}

#[test]
fn a_run_takes_the_shape_that_was_asked_for() {
    let directory = Directory::new();
    let server = echo_everywhere(&directory);
    for words in ["--size 1", "--size 1..1024 --depth 4", "--churn", "--idle 50", "--threads 2"] {
        for url in &server.urls()[..3] {
            println!("{url} {words}");
            let outcome = Bench::of(url, &format!("{SHORT} {words}")).run();
            let report = outcome.is_fine();
            match words {
                "--churn" => assert!(report.connected >= report.replies, "{}", report.connected),
                "--idle 50" => assert!(report.connected >= 54, "{}", report.connected),
                "--size 1..1024 --depth 4" => assert_eq!(report.plan.size_max_bytes, 1024),
                _ => {}
            }
        }
    }
    for url in &server.urls()[..2] {
        let outcome = Bench::of(url, "--duration 300ms --size 64KiB --depth 2").run();
        let report = outcome.is_fine();
        let least = report.achieved_per_s * 65536.0 * 0.9; // a reply is counted where it ends
        assert!(report.bytes_in_per_s >= least, "{} {least}", report.bytes_in_per_s);
    }
    for words in ["--ramp 200ms", "--seed 7 --source 127.0.0.2", "--arrivals poisson --rate 500"] {
        println!("{words}");
        Bench::of(server.url(), &format!("{SHORT} {words}")).run().is_fine();
    }
    Bench::of(server.url(), "--duration 300ms --warmup auto").run().is_fine();
}

#[test]
fn a_payload_is_what_the_template_says() {
    let server = Server::start(&["serve", "echo", "--listen", LINES, "--listen", TCP]);
    for url in server.urls() {
        let outcome = Bench::of(url, "--depth 2 --duration 300ms")
            .and(&["--payload", "hello {seq} {conn} {rand:8}"])
            .run();
        assert!(outcome.is_fine().verified);
    }

    // What arrives is what was written, and no message is like another.
    let scribe = Scribe::start();
    let outcome = Bench::of(&scribe.url, "--depth 2 --duration 300ms")
        .and(&["--payload", "hello {seq} {conn} {rand:8}"])
        .run();
    outcome.is_fine();
    let mut lines = scribe.lines.lock().expect("nobody panics with it").clone();
    assert!(!lines.is_empty());
    for line in &lines {
        let words: Vec<&str> = line.split(' ').collect();
        let [hello, seq, conn, random] = words[..] else { panic!("{line:?}") };
        assert_eq!((hello, random.len()), ("hello", 8), "{line:?}");
        assert!(seq.parse::<u64>().is_ok() && conn.parse::<u64>().is_ok(), "{line:?}");
    }
    let count = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), count, "two messages were the same");
}

/// Echoes lines, and remembers them.
struct Scribe {
    url: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Scribe {
    /// Its threads end with the connections that they serve, and the process.
    fn start() -> Scribe {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("tcp+lines://{}", listener.local_addr().expect("it is bound"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let theirs = Arc::clone(&lines);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let lines = Arc::clone(&theirs);
                thread::spawn(move || {
                    let _ = stream.set_nodelay(true);
                    for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                        if (&stream).write_all(format!("{line}\n").as_bytes()).is_err() {
                            return;
                        }
                        lines.lock().expect("nobody panics with it").push(line);
                    }
                });
            }
        });
        Scribe { url, lines }
    }
}

#[test]
fn a_reply_may_be_another_text_than_the_request() {
    let serve = ["serve", "reply", "--message", "pong pong", "--listen", LINES, "--listen", TCP];
    let server = Server::start(&serve);
    for url in server.urls() {
        let bench = || Bench::of(url, "--duration 300ms --timeout 1s");
        assert!(bench().and(&["--expect", "pong pong"]).run().is_fine().verified, "{url}");
        assert!(!bench().and(&["--expect", "any"]).run().is_fine().verified, "{url}");

        let wrong = bench().and(&["--expect", "ping ping"]).run();
        assert!(wrong.ends_with(1).failures.corrupted > 0, "{url}");
        assert!(!wrong.ended.complaint().contains("no reply"), "{:?}", wrong.ended.stderr);
    }
}

/// A line is whole when it ends, and is no echo then: nothing more is waited for. (The end of a raw reply
/// is known by its length alone.)
#[test]
fn a_line_that_is_too_short_is_a_wrong_reply() {
    let server =
        Server::start(&["serve", "reply", "--message", "pong", "--listen", LINES, "--listen", PREFIXED]);
    for url in server.urls() {
        let outcome = Bench::of(url, "--duration 300ms --timeout 1s").run();
        let failures = outcome.ends_with(1).failures;
        assert!(failures.corrupted > 0 && failures.timed_out == 0, "{url}: {failures:?}");
        assert!(!outcome.ended.stderr.contains("no reply"), "{url}: {}", outcome.ended.stderr);
    }
}

/// Over HTTP nothing reads it: any answer that says success is right there, or what --expect says.
#[cfg(feature = "web")]
#[test]
fn verification_of_an_answer_over_http_is_refused() {
    let refused = run_with(&["bench", "http://127.0.0.1:1/", "--verify", "off"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("--verify") && refused.stderr.contains("--expect"), "{}", refused.stderr);
}

/// Without verification what comes is counted, and not compared.
#[test]
fn verification_can_be_turned_off() {
    let server = Server::echo();
    let outcome = Bench::of(server.url(), "--duration 300ms --verify off --depth 4").run();
    assert!(!outcome.is_fine().verified);

    // Where messages have ends of their own, any message is a reply.
    let serve = ["serve", "reply", "--message", "pong", "--listen", LINES, "--listen", PREFIXED];
    let server = Server::start(&serve);
    for url in server.urls() {
        let outcome = Bench::of(url, "--duration 300ms --verify off --timeout 1s").run();
        assert!(!outcome.is_fine().verified, "{url}");
    }
}

#[test]
fn a_report_goes_to_standard_output_alone() {
    let server = Server::echo();
    let outcome = Bench::of(server.url(), "--duration 300ms --json -").run();
    assert_eq!((outcome.ended.code, outcome.ended.stderr.as_str()), (Some(0), ""));
    let report: Report = serde_json::from_str(&outcome.ended.stdout)
        .unwrap_or_else(|error| panic!("{error} in {}", outcome.ended.stdout));
    assert!(report.replies > 0);
    assert!(!outcome.has_report(), "there is a file all the same");
}

#[test]
fn the_summary_fits_one_screen() {
    let server = Server::echo();
    for words in ["--rate 1000", "--depth 4 --idle 3"] {
        let words = format!("{words} --connections 4 --duration 300ms --warmup 100ms --quiet");
        let arguments: Vec<&str> = ["bench", server.url()].into_iter().chain(words.split(' ')).collect();
        let ended = run_with(&arguments);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{words}");
        let summary = &ended.stdout;
        assert!((8..=24).contains(&summary.lines().count()), "{summary}");
        assert!(summary.lines().all(|line| line.chars().count() <= 100), "{summary}");
        assert!(!summary.contains('\u{1b}'), "colours and cursors are for terminals: {summary:?}");
        for word in [server.url(), "p50", "p99.9", "response", "connect", "verdict", "no failures"] {
            assert!(summary.contains(word), "{word}: {summary}");
        }
    }
}

/// Where standard error is no terminal, the progress is plain lines, and standard output is not touched.
#[test]
fn progress_is_plain_lines_where_nobody_watches() {
    let server = Server::echo();
    let run = ["bench", server.url(), "--connections", "4", "--duration", "1500ms", "--warmup", "100ms"];
    let ended = run_with(&run);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(!ended.stderr.is_empty() && !ended.stderr.contains(['\u{1b}', '\r']), "{:?}", ended.stderr);
    assert!(ended.stdout.contains("verdict") && !ended.stdout.contains('\u{1b}'), "{}", ended.stdout);
}

#[test]
fn files_are_written_for_other_programs() {
    let server = Server::echo();
    let bench = Bench::of(server.url(), "--duration 500ms --rate 2000");
    let paths = ["run.csv", "run.hdr", "run.html"].map(|name| bench.path(name).display().to_string());
    let bench = bench.and(&["--csv", &paths[0], "--hdr", &paths[1], "--html", &paths[2]]);
    let outcome = bench.run();
    let report = outcome.is_fine();

    let csv = outcome.text_of("run.csv");
    let mut rows = csv.lines();
    let header = rows.next().unwrap_or_default();
    assert!(header.split(',').count() > 3, "{header}");
    assert!(header.chars().any(|c| c.is_ascii_alphabetic()), "{header}");
    let columns = header.split(',').count();
    let rows: Vec<&str> = rows.collect();
    assert!(!rows.is_empty(), "{csv}");
    assert!(rows.iter().all(|row| row.split(',').count() == columns), "{csv}");

    assert!(outcome.text_of("run.hdr").lines().count() > 3);
    is_self_contained(&outcome.text_of("run.html"), report);
}

/// A page that can be mailed: nothing is fetched, from anywhere.
#[track_caller]
fn is_self_contained(page: &str, report: &Report) {
    assert!(page.trim_start().to_lowercase().starts_with("<!doctype html>"), "{:.200}", page);
    assert!(page.contains("<svg") && page.contains("</html>"));
    assert!(page.contains(&report.target), "it says what was measured");
    let namespaces =
        ["http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink", "http://www.w3.org/1999/xhtml"];
    let page = namespaces.iter().fold(page.to_owned(), |page, namespace| page.replace(namespace, ""));
    for foreign in ["http://", "https://", "src=\"//", "@import", "<link", "<iframe"] {
        assert!(!page.contains(foreign), "the page has {foreign:?}");
    }
    for number in ["NaN", "Infinity"] {
        assert!(!page.contains(number), "the page has {number}");
    }
}

/// The histogram that a report holds is the one that it was made from.
#[test]
fn the_histogram_in_the_report_can_be_read_back() {
    use base64::Engine;
    let server = Server::echo();
    let outcome = Bench::of(server.url(), "--duration 300ms").run();
    let response = outcome.is_fine().latency.response.clone().expect("there were replies");
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(&response.hdr_v2_base64).expect("it is base64");
    let mut deserializer = hdrhistogram::serialization::Deserializer::new();
    let histogram: hdrhistogram::Histogram<u64> =
        deserializer.deserialize(&mut &bytes[..]).expect("it is V2");
    assert_eq!(histogram.len(), response.count);
    assert!(
        histogram.equivalent(histogram.max(), response.max_ns),
        "{} {}",
        histogram.max(),
        response.max_ns
    );
    let p90 = response.percentile(90.0).and_then(|it| it.ns).expect("it is listed");
    let ours = histogram.value_at_quantile(0.9);
    assert!(histogram.equivalent(ours, p90), "{ours} {p90}");
}

// Two runs beside each other.

#[test]
fn few_rounds_allow_no_verdict() {
    let server = Server::echo();
    let directory = Directory::new();
    let paths = ["a.json", "b.json"].map(|name| directory.path(name).display().to_string());
    for path in &paths {
        Bench::of(server.url(), "--duration 200ms --rounds 3").and(&["--json", path]).run();
    }
    let ended = run_with(&["compare", &paths[0], &paths[1]]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:#?}");
    let said = ended.stdout.to_lowercase();
    assert!(said.contains("no verdict") && said.contains('8'), "{said}");
    assert!(!said.contains("faster") && !said.contains("slower"), "{said}");
}

#[test]
fn files_that_cannot_be_compared_are_named() {
    let directory = Directory::new();
    let missing = directory.path("missing.json").display().to_string();
    let broken = directory.path("broken.json").display().to_string();
    fs::write(&broken, "{\"schema\": 1").expect("the directory is ours");
    let other = directory.path("other.json").display().to_string();
    fs::write(&other, "{\"hello\": \"world\"}").expect("the directory is ours");
    for path in [&missing, &broken, &other] {
        let ended = run_with(&["compare", path, path]);
        assert!(matches!(ended.code, Some(1 | 2)), "{ended:#?}");
        assert!(ended.complaint().contains(path.as_str()), "{ended:#?}");
        assert_eq!(ended.stdout, "");
    }
    is_refused(&run_with(&["compare", &missing]), "", "one file");
}

#[test]
fn two_urls_are_for_ab() {
    let server = Crooked::tcp(Habit::Honest);
    is_refused(&run_with(&["bench", "--ab", server.url()]), "--ab", "one URL");
    is_refused(&run_with(&["bench", server.url(), server.url()]), "--ab", "two URLs without it");
    let three = ["bench", "--ab", server.url(), server.url(), server.url()];
    is_refused(&run_with(&three), "URL", "three URLs");
    assert_eq!(server.accepted(), 0);
}

#[test]
fn a_server_that_is_there_already_is_not_taken_for_the_one_that_is_started() {
    let server = Server::echo();
    let ended = run_with(&["bench", server.url(), "--spawn", "false", "--duration", "100ms"]);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.complaint().contains("already, and would be measured instead"), "{ended:#?}");
}
