//! Each command line that the README, the guide and the examples' heads print is run as it is printed.
//!
//! They have fixed ports, so each runs in a network of its own, and in a directory of its own. What is changed: a path
//! below `/run` is in that directory, and a load lasts a fifth of a second. Lines for other programs (`nc`, `kill`,
//! `cargo install`) are left out.
#![cfg(all(target_os = "linux", feature = "cli", feature = "load", feature = "tls", feature = "web"))]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::*;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// What a bench has in front of it, by what its line says; the first that fits.
const SERVERS: [(&str, &str); 5] = [
    ("--fan-out", "serve chat --listen http://127.0.0.1:8080 --messages-per-member 1000000"),
    ("index.html", "serve web --root ."),
    ("http://", "serve echo --listen http://127.0.0.1:8080"),
    ("ws://", "serve echo --listen http://127.0.0.1:8080"),
    ("tcp://", "serve echo --listen tcp://127.0.0.1:8080 --listen tcp://127.0.0.1:8081"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("examples")).expect("it is there").flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The program's directory, with the examples' below it.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_switchboard")).parent().expect("a directory").into()
}

/// A line without the comment behind it.
fn without_comment(line: &str) -> String {
    line.split("  #").next().unwrap_or_default().trim().to_owned()
}

/// Command lines of these pages that begin with `switchboard`, and of the examples' heads.
fn printed() -> Vec<String> {
    let mut lines = Vec::new();
    for page in [
        "README.md",
        "benches/README.md",
        "src/guide/chat.md",
        "src/guide/operations.md",
        "src/guide/relay.md",
    ] {
        let text = fs::read_to_string(root().join(page)).expect("it is there");
        let commands = text.lines().filter_map(|line| line.strip_prefix("$ "));
        lines.extend(commands.filter(|line| line.starts_with("switchboard ")).map(without_comment));
    }
    for path in examples() {
        let text = fs::read_to_string(path).expect("it is there");
        let commands = text.lines().filter_map(|line| line.strip_prefix("//! cargo run --example "));
        let commands = commands.map(|line| without_comment(line).trim_end_matches(" &").to_owned());
        lines.extend(commands.map(|line| format!("examples/{line}")));
    }
    lines.sort();
    lines.dedup();
    lines
}

/// `sh` in a network of its own; `None` where none may be made.
fn shell(directory: &Directory, script: &str) -> Option<Child> {
    let output = |name: &str| File::create(directory.path(name)).expect("the directory is ours");
    let script = format!(
        "ip link set lo up || exit 77; cd '{}'; export PATH='{}':\"$PATH\"; {script}",
        directory.path(".").display(),
        programs().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &script]).stdin(Stdio::null()).env_remove("RUST_LOG");
    let child = command.stdout(output("stdout")).stderr(output("stderr")).spawn();
    let child = child.expect("unshare (util-linux) is installed");
    let probe = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    let may = probe.is_ok_and(|output| output.status.success());
    if !may {
        assert!(std::env::var_os("CI").is_none(), "no network of its own can be made here");
        println!("left out: no network of its own can be made here");
    }
    may.then_some(child)
}

fn read(directory: &Directory, name: &str) -> String {
    fs::read_to_string(directory.path(name)).unwrap_or_default()
}

/// What the lines name is there: a page, a certificate and its key, the configuration that the page in question shows.
fn furnish(directory: &Directory) {
    let readme = fs::read_to_string(root().join("README.md")).expect("it is there");
    let tables = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let config = tables.into_iter().find(|text| !text.contains("[dependencies]"));
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("it can be made");
    for (name, text) in [
        ("index.html", "<!doctype html>hello".to_owned()),
        ("switchboard.toml", config.expect("the README shows one").to_owned()),
        ("cert.pem", signed.cert.pem()),
        ("key.pem", signed.signing_key.serialize_pem()),
    ] {
        fs::write(directory.path(name), text).expect("the directory is ours");
    }
}

/// Runs one line; what was wrong, if anything was.
fn run(line: &str) -> Result<(), String> {
    let directory = Directory::new();
    furnish(&directory);
    let line = line.replace("/run/switchboard/", "./").replace("/run/", "./");
    let wrong = |what: &str, child: &mut Child| {
        let _ = child.kill();
        let _ = child.wait();
        Err(format!("{line}: {what}\n{}\n{}", read(&directory, "stdout"), read(&directory, "stderr")))
    };
    if line.starts_with("switchboard bench") && !line.ends_with("--help") {
        let (_, server) = SERVERS.iter().find(|(words, _)| line.contains(words)).expect("a server for it");
        let script = format!(
            "switchboard {server} >ready 2>log & server=$!
             while ! grep -q listening ready; do kill -0 $server || exit 78; sleep 0.02; done
             {line} --duration 200ms --warmup off --no-self-test --quiet; code=$?
             kill $server; exit $code"
        );
        let Some(mut child) = shell(&directory, &script) else { return Ok(()) };
        let status = until(&line, || child.try_wait().expect("a child can be waited for"));
        // A busy machine may do no rate of a search (4), one of two equal servers less (5), or less than was asked for (1).
        return match status.code() {
            Some(0 | 4 | 5) => Ok(()),
            Some(1) if is_only_unsent(&read(&directory, "stderr")) => Ok(()),
            _ => wrong(&format!("{status}; the server: {}", read(&directory, "log")), &mut child),
        };
    }
    let ends = line.ends_with("--help") || line.starts_with("examples/12_client");
    let script = match line.starts_with("examples/12_client 127") {
        true => format!("{ECHO_FIRST}{line}"),
        false => format!("exec {line}"),
    };
    let script = script.replace("exec examples/", &format!("exec '{}'/examples/", programs().display()));
    let script = script.replace("; examples/", &format!("; '{}'/examples/", programs().display()));
    let Some(mut child) = shell(&directory, &script) else { return Ok(()) };
    let outcome = until(&line, || match child.try_wait().expect("a child can be waited for") {
        Some(status) => Some(Some(status)),
        None => (!ends && read(&directory, "stdout").contains("listening on")).then_some(None),
    });
    match outcome {
        Some(status) if ends && status.success() => Ok(()),
        Some(status) => wrong(&status.to_string(), &mut child),
        None => {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it is our child");
            let status = until(&line, || child.try_wait().expect("a child can be waited for"));
            // The first rungs have no handler for it.
            let is_early = status.code().is_none() && line.starts_with("examples/");
            if status.success() || is_early { Ok(()) } else { wrong(&status.to_string(), &mut child) }
        }
    }
}

/// The generator got too little CPU to send everything. Nothing else was wrong.
fn is_only_unsent(stderr: &str) -> bool {
    let kinds = stderr.split_once("messages failed: ").and_then(|(_, rest)| rest.split_once(" (an --slo"));
    kinds.is_some_and(|(kinds, _)| kinds.ends_with(" unsent") && !kinds.contains(", "))
}

#[test]
fn messages_that_were_not_sent_are_the_only_failure_that_is_let_pass() {
    let complaint = |kinds: &str| {
        format!(
            "switchboard: tcp://127.0.0.1:1: 63 % of 4000 messages failed: {kinds} (an --slo for failures would allow them)"
        )
    };
    assert!(is_only_unsent(&complaint("508 unsent")));
    assert!(!is_only_unsent(&complaint("8 lost, 508 unsent")));
    assert!(!is_only_unsent(&complaint("8 lost")));
    assert!(!is_only_unsent(""));
}

/// A server for a client's line.
const ECHO_FIRST: &str = "switchboard serve echo >ready 2>log & server=$!
    while ! grep -q listening ready; do sleep 0.02; done
    trap 'kill $server' EXIT; ";

#[test]
fn every_printed_command_line_works_as_it_is_printed() {
    let lines = printed();
    assert!(lines.len() > 35, "{lines:#?}");
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let mine = lines.iter().skip(worker).step_by(8);
                scope.spawn(move || mine.filter_map(|line| run(line).err()).collect::<Vec<_>>())
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("it does not panic")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
