//! The architecture, held: arrows point down only, the core knows mio, slab and log, and the README shows
//! what is compiled.

mod imports;

use std::fs;
use std::path::{Path, PathBuf};

/// For each part: what of our own it may name, and which crates beyond the standard library.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    ("src/reactor", &[], &["mio", "slab", "log"]),
    ("src/protocol", &[], &["httparse", "httpdate", "tungstenite"]),
    ("src/guard", &[], &["ipnet", "prefix_trie"]),
    (
        "src/transport",
        &["protocol", "reactor"],
        &["log", "mio", "nix", "rcgen", "rustls", "socket2", "x509_parser"],
    ),
    ("src/endpoint.rs", &["protocol", "transport"], &[]),
    ("src/guide", &[], &[]),
    ("src/logging.rs", &[], &["log", "rustix", "simple_logger"]),
    (
        "src/service",
        &["guard", "protocol", "reactor", "transport"],
        &[
            "httpdate",
            "log",
            "mime_guess",
            "rustix",
            "serde",
            "serde_json",
            "tungstenite",
            "unicode_ident",
            "unicode_normalization",
            "unicode_security",
        ],
    ),
    (
        "src/server",
        &["endpoint", "guard", "logging", "protocol", "reactor", "service", "transport"],
        &[
            "listenfd",
            "log",
            "mio",
            "nix",
            "rustix",
            "sd_notify",
            "signal_hook",
            "signal_hook_mio",
            "socket2",
        ],
    ),
    (
        "src/load",
        &["endpoint", "guard", "protocol", "reactor", "server", "service", "transport"],
        &["base64", "hdrhistogram", "httparse", "log", "mio", "nix", "serde", "serde_json", "tungstenite"],
    ),
    (
        "src/cli",
        &["endpoint", "guard", "load", "logging", "protocol", "reactor", "server", "service", "transport"],
        &["clap", "indicatif", "log", "nix", "rustix", "signal_hook", "toml"],
    ),
];

/// Every crate that Cargo.toml may bring in, as code names it.
const CRATES: &[&str] = &[
    "base64",
    "clap",
    "hdrhistogram",
    "httparse",
    "httpdate",
    "indicatif",
    "ipnet",
    "listenfd",
    "log",
    "mime_guess",
    "mio",
    "nix",
    "prefix_trie",
    "rcgen",
    "rustix",
    "rustls",
    "sd_notify",
    "serde",
    "serde_json",
    "signal_hook",
    "signal_hook_mio",
    "simple_logger",
    "slab",
    "socket2",
    "toml",
    "tungstenite",
    "unicode_ident",
    "unicode_normalization",
    "unicode_security",
    "x509_parser",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(below: &Path) -> Vec<PathBuf> {
    if below.is_file() {
        return vec![below.to_path_buf()];
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(below).expect("a folder of sources") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            if path.ends_with("target") {
                continue; // what cargo-fuzz built
            }
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The code of a file: without comments, and without its tests, which may reach for anything.
fn code(path: &Path) -> String {
    if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("tests.rs")) {
        return String::new();
    }
    let text = fs::read_to_string(path).expect("a source file");
    let code = text.split("#[cfg(test)]\npub(crate) mod tests").next().unwrap_or_default();
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let code = code.split("#[cfg(all(test").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The names that follow `prefix` in `code`: `crate::` gives our modules.
fn named_after(code: &str, prefix: &str) -> Vec<String> {
    code.match_indices(prefix)
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, _)| {
            let rest = &code[at + prefix.len()..];
            rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        })
        .collect()
}

#[test]
fn arrows_point_down_only() {
    for (part, ours, theirs) in LAYERS {
        for path in sources(&root().join(part)) {
            let code = code(&path);
            let own = part.trim_start_matches("src/").trim_end_matches(".rs");
            for module in named_after(&code, "crate::") {
                assert!(
                    module == own || ours.contains(&module.as_str()),
                    "{} reaches for crate::{module}",
                    path.display()
                );
            }
            for name in CRATES {
                let used = code.contains(&format!("{name}::"))
                    && code.match_indices(&format!("{name}::")).any(|(at, _)| {
                        !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                    });
                assert!(!used || theirs.contains(name), "{} uses the crate {name}", path.display());
            }
        }
    }
}

/// What may wait for something else than the poll, and the files that say there why it is not the loop that waits, or for
/// how long. (Files of `web`: see its module's text.)
const MAY_WAIT: &[(&str, &[&str])] = &[
    ("println!", &[]),
    ("print!(", &[]),
    ("eprintln!", &[]),
    ("io::stdout()", &["src/server/ready.rs", "src/server/terminal.rs", "src/cli/check.rs"]),
    ("io::stderr()", &["src/logging.rs", "src/server/terminal.rs"]),
    ("sd_notify::notify", &[]),
    ("thread::sleep", &["src/server/succession.rs"]),
    (".recv()", &[]),
    (".recv_timeout(", &["src/logging.rs"]),
    ("set_nonblocking(false)", &["src/server/succession.rs"]),
    ("to_socket_addrs", &[]),
    ("fs::read_to_string", &["src/cli/config.rs", "src/cli/settings.rs", "src/server/terminal.rs"]),
    ("File::open", &[]),
    ("fs::write", &["src/cli/settings.rs"]),
    ("OpenOptions::new", &["src/logging.rs"]),
];

/// Where the loop's world gets a time or chance from, and the files that may look: in all others they are an argument, so that
/// a simulation can say what they are. (`tls.rs` takes the time of a handshake, which nothing depends on.)
const CLOCKS_AND_CHANCE: &[(&str, &[&str])] = &[
    ("Instant::now", &["src/reactor/timers.rs", "src/transport/tls.rs"]),
    (".elapsed()", &["src/reactor/timers.rs", "src/transport/tls.rs"]),
    ("SystemTime::now", &["src/service/ambient.rs"]),
    ("RandomState", &["src/service/ambient.rs"]),
];

#[test]
fn clocks_and_chance_are_arguments() {
    let here = ["src/reactor", "src/protocol", "src/guard", "src/transport", "src/service"];
    for path in here.iter().flat_map(|part| sources(&root().join(part))) {
        let (code, name) = (code(&path), path.strip_prefix(root()).expect("it is ours"));
        for (source, may) in CLOCKS_AND_CHANCE {
            assert!(
                !code.contains(source) || may.iter().any(|it| name == Path::new(it)),
                "{} uses {source}: take a Moment, or an Ambient, as an argument",
                name.display()
            );
        }
    }
}

/// The loop's thread runs what is in these.
#[test]
fn what_may_wait_stands_where_it_is_known() {
    let here = ["src/server", "src/service", "src/logging.rs", "src/reactor", "src/transport/stream.rs"];
    let commands = ["serve", "settings", "config", "check"].map(|name| format!("src/cli/{name}.rs"));
    for part in here.into_iter().chain(commands.iter().map(String::as_str)) {
        for path in sources(&root().join(part)) {
            let code = code(&path);
            for (call, known) in MAY_WAIT {
                let is_known = known.iter().any(|it| path.ends_with(it));
                assert!(is_known || !code.contains(call), "{} may wait: {call}", path.display());
            }
        }
    }
}

#[test]
fn every_source_file_is_in_a_layer() {
    let known: Vec<PathBuf> = LAYERS.iter().map(|(part, _, _)| root().join(part)).collect();
    for path in sources(&root().join("src")) {
        let top = path == root().join("src/lib.rs") || path == root().join("src/main.rs");
        assert!(top || known.iter().any(|part| path.starts_with(part)), "{} is in no layer", path.display());
    }
}

#[test]
fn every_file_opens_with_its_idea() {
    for folder in ["src", "examples", "benches", "tests"] {
        for path in sources(&root().join(folder)) {
            let text = fs::read_to_string(&path).expect("a source file");
            assert!(text.starts_with("//!"), "{} does not say what it is", path.display());
        }
    }
}

/// The code of 09_hello from its first `use` on.
fn hello() -> String {
    let text = fs::read_to_string(root().join("examples/09_hello.rs")).expect("the example");
    text[text.find("use switchboard").expect("its imports")..].trim().to_owned()
}

#[test]
fn the_readme_shows_the_hello_that_is_compiled() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    assert!(readme.contains(&hello()), "README.md and examples/09_hello.rs have drifted apart");
}
