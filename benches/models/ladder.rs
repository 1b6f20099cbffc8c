//! Who takes part, and how each of them is started.
//!
//! Every one of them is a program that says `listening on tcp://HOST:PORT` once it does and then echoes until it is ended. It
//! knows nothing of being measured.

use super::Outcome;
use crate::floor::children;
use nix::sys::select::FD_SETSIZE;
use serde::Serialize;
use std::collections::HashMap;
use std::process::{Command, Stdio};

/// One way to wait.
#[derive(Serialize)]
pub(crate) struct Model {
    /// For `--only`.
    pub(crate) name: &'static str,
    /// For tables and charts.
    pub(crate) label: &'static str,
    /// How it waits, for the legend.
    pub(crate) waits: &'static str,
    #[serde(skip)]
    pub(crate) program: Program,
    /// One of the few that `--quick` looks at.
    #[serde(skip)]
    pub(crate) in_quick: bool,
}

pub(crate) enum Program {
    Example(&'static str),
    /// This executable, in another role.
    Floor,
    Switchboard,
}

pub(crate) const MODELS: &[Model] = &[
    Model {
        name: "socket",
        label: "01 socket",
        waits: "in read(2): one client at a time",
        program: Program::Example("01_socket"),
        in_quick: true,
    },
    Model {
        name: "threads",
        label: "02 threads",
        waits: "in read(2), a thread for each client",
        program: Program::Example("02_threads"),
        in_quick: false,
    },
    Model {
        name: "select",
        label: "03 select",
        waits: "in select(2)",
        program: Program::Example("03_select"),
        in_quick: false,
    },
    Model {
        name: "poll",
        label: "04 poll",
        waits: "in poll(2)",
        program: Program::Example("04_poll"),
        in_quick: false,
    },
    Model {
        name: "epoll",
        label: "06 edges",
        waits: "in epoll_wait(2), edge-triggered, on bare mio",
        program: Program::Example("06_edges"),
        in_quick: false,
    },
    Model {
        name: "bytes",
        label: "07 reactor",
        waits: "in switchboard's reactor, as a library",
        program: Program::Example("07_bytes"),
        in_quick: false,
    },
    Model {
        name: "floor",
        label: "floor",
        waits: "in epoll_wait(2), level-triggered: the least that echoes",
        program: Program::Floor,
        in_quick: true,
    },
    Model {
        name: "switchboard",
        label: "switchboard",
        waits: "in `switchboard serve`: the reactor with services, limits and signals",
        program: Program::Switchboard,
        in_quick: true,
    },
];

/// The program that is measured beside them, and that measures.
pub(crate) const SWITCHBOARD: &str = env!("CARGO_BIN_EXE_switchboard");

/// A model that is ready to be started.
pub(crate) struct Entrant {
    pub(crate) model: &'static Model,
    pub(crate) command: Vec<String>,
}

pub(crate) fn entrants(models: &[&'static Model]) -> Outcome<Vec<Entrant>> {
    let examples = build_examples(models)?;
    models
        .iter()
        .map(|model| {
            let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
            let command = match model.program {
                Program::Example(name) => words(&[examples[name].as_str(), "127.0.0.1:0"]),
                Program::Floor => children::this_executable("serve")?.to_vec(),
                Program::Switchboard => {
                    words(&[SWITCHBOARD, "serve", "echo", "--listen", "tcp://127.0.0.1:0"])
                }
            };
            Ok(Entrant { model, command })
        })
        .collect()
}

impl Model {
    /// Returns why a server that answered `served` of its callers has no figures. `None`: it answered all.
    pub(crate) fn absence(&self, served: usize, connections: usize) -> Option<String> {
        // Standard input, output and error, and the listener.
        let descriptors = connections + 4;
        match self.program {
            _ if served >= connections => None,
            Program::Example("03_select") if descriptors > FD_SETSIZE => Some("n/a, FD_SETSIZE".into()),
            _ => Some(format!("{served}/{connections} served")),
        }
    }
}

/// Has cargo build those examples that take part, as this bench was built, and returns where each is.
///
/// For `cargo bench` cargo builds the library, the program and the benches, but no examples. It has let go of its lock by the
/// time that it runs us, and where they have been built already this takes a moment.
fn build_examples(models: &[&'static Model]) -> Outcome<HashMap<String, String>> {
    let wanted: Vec<&str> = models
        .iter()
        .filter_map(|model| match model.program {
            Program::Example(name) => Some(name),
            _ => None,
        })
        .collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let profile = if cfg!(debug_assertions) { "dev" } else { "bench" };
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    eprintln!("cargo build --profile {profile} --example {}", wanted.join(" --example "));
    let built = Command::new(env!("CARGO"))
        .args(["build", "--profile", profile, "--manifest-path", manifest])
        .args(["--message-format", "json-render-diagnostics"])
        .args(wanted.iter().flat_map(|name| ["--example", name]))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start cargo to build the examples: {error}"))?;
    if !built.status.success() {
        return Err(format!("cargo could not build the examples ({}): see above", built.status));
    }
    // One JSON object per line; of each target that was built, or need not be, where it is.
    let found: HashMap<String, String> = String::from_utf8_lossy(&built.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|line| {
            let name = line["target"]["name"].as_str()?.to_string();
            Some((name, line["executable"].as_str()?.to_string()))
        })
        .collect();
    match wanted.iter().find(|name| !found.contains_key(**name)) {
        None => Ok(found),
        Some(name) => Err(format!("cargo built the example {name} and did not say where it is")),
    }
}
