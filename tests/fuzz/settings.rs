//! A server's settings: every service over every transport, each place twice.
//!
//! The calm places have the limits that a server has by default; bystanders are served there, and must be served well. The
//! wild places have limits that are drawn again for each file: deadlines of 100 ms, room for two connections, the smallest
//! outboxes. Both kinds are attacked.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use crate::dice::Dice;
use crate::grammar::{Inside, Speech};
use crate::support::Directory;
use crate::support::tls::{Authority, Files, NOW};

/// A service at a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) service: &'static str,
    pub(crate) scheme: &'static str,
    pub(crate) speech: Speech,
    /// Each connection begins with a PROXY header.
    pub(crate) proxied: bool,
}

const fn place(service: &'static str, scheme: &'static str, speech: Speech) -> Place {
    Place { service, scheme, speech, proxied: false }
}

const fn proxied(service: &'static str, scheme: &'static str, speech: Speech) -> Place {
    Place { service, scheme, speech, proxied: true }
}

const ANYTHING: Speech = Speech::WebSocket(Inside::Anything);

pub(crate) const PLACES: &[Place] = &[
    place("echo", "http", Speech::Http), // the first one: it answers /metrics
    place("echo", "tcp", Speech::Raw),
    place("echo", "tcp+lines", Speech::Lines),
    place("echo", "tcp+prefixed", Speech::Prefixed),
    place("echo", "tls+lines", Speech::Lines),
    place("echo", "unix+lines", Speech::Lines),
    place("echo", "udp", Speech::Raw),
    place("echo", "ws", ANYTHING),
    proxied("echo", "tcp+prefixed", Speech::Prefixed),
    place("reply", "unix+prefixed", Speech::Prefixed),
    place("reply", "udp", Speech::Raw),
    place("discard", "tls", Speech::Raw),
    place("discard", "unix+ws", ANYTHING),
    place("source", "tcp+lines", Speech::Lines),
    place("source", "https", Speech::Http),
    place("source", "ws", ANYTHING),
    place("chat", "tcp+lines", Speech::Chat),
    place("chat", "http", Speech::WebSocket(Inside::Chat)),
    place("chat", "wss", Speech::WebSocket(Inside::Chat)),
    place("relay", "udp", Speech::Relay),
    place("relay", "http", Speech::WebSocket(Inside::Relay)),
    place("web", "http", Speech::Http),
    place("web", "unix+http", Speech::Http),
    proxied("web", "https", Speech::Http),
];

/// The files that servers need, and where their sockets are.
pub(crate) struct Ground {
    directory: Directory,
    papers: Files,
    pub(crate) authority: Authority,
}

impl Ground {
    pub(crate) fn new() -> Ground {
        let authority = Authority::called("Fuzz");
        let papers = Files::of(&authority.signs("localhost", NOW));
        let directory = Directory::new();
        let root = directory.path("root");
        fs::create_dir_all(root.join("listed/inner")).expect("the directory is ours");
        let files: [(&str, &[u8]); 7] = [
            ("index.html", b"<p>the index</p>\n"),
            ("page.txt", b"a page of text\n"),
            ("page.txt.gz", b"\x1f\x8bno real gzip"),
            ("empty", b""),
            (".hidden", b"nobody sees it"),
            ("listed/a name\u{fc}", b"odd"),
            ("big.bin", &[b'b'; 400_000]),
        ];
        for (name, content) in files {
            fs::write(root.join(name), content).expect("the directory is ours");
        }
        Ground { directory, papers, authority }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path("switchboard.toml")
    }

    /// Writes a file of settings: how many listeners it has, and its text. `whole`: with every place, as at a start.
    pub(crate) fn write(&self, dice: &mut Dice, whole: bool) -> (usize, String) {
        let mut text = String::new();
        put(&mut text, "drain-for", dice.pick(&["100ms", "1s", "2s"]));
        // Before its loop begins, a server writes its log itself, and here into a pipe that holds little.
        put(&mut text, "log-level", if whole { "warn" } else { dice.pick(&["debug", "info"]) });
        if dice.one_in(2) {
            put(&mut text, "access-log", &self.directory.path("access.log").display().to_string());
        }
        let mut listeners = 0;
        for (index, place) in PLACES.iter().enumerate() {
            self.put_place(place, &format!("calm{index}"), &mut text);
            listeners += 1;
        }
        for (index, place) in PLACES.iter().enumerate() {
            // Only a place whose name stays the same can go, or become another service's: we would not find it again.
            let can_change = !whole && place.scheme.starts_with("unix");
            let mut place = *place;
            if can_change && dice.one_in(3) {
                place.service = dice.pick(&["echo", "discard", "source"]);
            }
            if !can_change || !dice.one_in(3) {
                self.put_place(&place, &format!("wild{index}"), &mut text);
                put_limits(&place, dice, &mut text);
                listeners += 1;
            }
        }
        self.replace(&text);
        (listeners, text)
    }

    /// Writes a file that nothing can be made of.
    pub(crate) fn write_nonsense(&self, dice: &mut Dice) {
        let nonsense =
            dice.pick(&["idle-after = ", "[[listener]]\n", "idle-after = \"soon\"\n", "\0", "listener = 1"]);
        self.replace(nonsense);
    }

    /// In one step: a server that reads the file meanwhile has the old one or the new one.
    fn replace(&self, text: &str) {
        let new = self.directory.path("new.toml");
        fs::write(&new, text).and_then(|()| fs::rename(&new, self.config())).expect("the directory is ours");
    }

    fn put_place(&self, place: &Place, name: &str, text: &mut String) {
        text.push_str("\n[[listener]]\n");
        let url = match place.scheme.starts_with("unix") {
            true => self.directory.url(place.scheme, name),
            false => format!("{}://127.0.0.1:0", place.scheme),
        };
        put(text, "url", &url);
        put(text, "service", place.service);
        if is_tls(place) {
            put(text, "cert", &self.papers.path_of("cert.pem"));
            put(text, "key", &self.papers.path_of("key.pem"));
        }
        if place.service == "web" {
            put(text, "root", &self.directory.path("root").display().to_string());
            text.push_str("listing = true\n");
        }
        if place.service == "echo" && place.scheme == "http" {
            text.push_str("metrics = true\n");
        }
        if place.proxied {
            text.push_str("proxy-protocol = [\"127.0.0.0/8\"]\n");
        }
    }
}

pub(crate) fn is_tls(place: &Place) -> bool {
    matches!(place.scheme, "https" | "wss") || place.scheme.starts_with("tls")
}

/// What a wild place may be told. Each is told one in three.
const LIMITS: &[(&str, &[&str])] = &[
    ("idle-after", &["100ms", "200ms", "1s"]),
    ("message-within", &["50ms", "200ms", "1s"]),
    ("stall-after", &["50ms", "200ms", "1s"]),
    ("handshake-within", &["20ms", "200ms", "1s"]),
    ("connections-max", &["1", "2", "20"]),
    ("connections-per-ip-max", &["1", "3"]),
    ("accepts-per-ip", &["1/1", "20/40"]),
    ("datagrams-per-ip", &["1/1", "100/200"]),
    // No less: what lies in the kernel when a client has gone is still read at this rate.
    ("bytes-per-s", &["128KiB", "1MiB"]),
];

const FOR_ONE_SERVICE: &[(&str, &str, &[&str])] = &[
    ("chat", "slow-readers", &["\"close\"", "\"drop-newest\""]),
    ("chat", "messages-per-member", &["\"1/2\"", "\"1000/1000\""]),
    ("chat", "rooms-max", &["1", "5"]),
    ("relay", "tick", &["1", "1000"]),
    ("relay", "players-max", &["1", "5"]),
];

fn put_limits(place: &Place, dice: &mut Dice, text: &mut String) {
    let (is_udp, is_unix) = (place.scheme == "udp", place.scheme.starts_with("unix"));
    let is_raw = matches!(place.scheme, "tcp" | "tls" | "unix") && place.service != "chat";
    let means_something = |key: &str| match key {
        "handshake-within" => is_tls(place),
        "datagrams-per-ip" => is_udp,
        "message-within" | "message-bytes-max" => !is_udp && !is_raw,
        "connections-per-ip-max" | "accepts-per-ip" => !is_udp && !is_unix,
        "deny" => !is_unix,
        _ => !is_udp,
    };
    for (key, values) in LIMITS {
        if dice.one_in(3) && means_something(key) {
            match dice.pick(values) {
                number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                    writeln!(text, "{key} = {number}").expect("a String takes everything");
                }
                value => put(text, key, value),
            }
        }
    }
    for (_, key, values) in FOR_ONE_SERVICE.iter().filter(|(service, ..)| *service == place.service) {
        if dice.one_in(4) {
            writeln!(text, "{key} = {}", dice.pick(values)).expect("a String takes everything");
        }
    }
    if dice.one_in(2) && !is_udp {
        // With an outbox that has just room for one answer of that length.
        let message_bytes_max = match means_something("message-bytes-max") {
            true => dice.pick(&[16, 1000, 65_536]),
            false => 65_536, // as by default
        };
        if means_something("message-bytes-max") {
            put(text, "message-bytes-max", &message_bytes_max.to_string());
        }
        put(text, "outbox-bytes-max", &(message_bytes_max + 128 * 1024).to_string());
    }
    if dice.one_in(4) && means_something("deny") {
        text.push_str("deny = [\"127.0.0.3\", \"127.0.0.4/31\", \"192.0.2.5\"]\n");
    }
}

fn put(text: &mut String, key: &str, value: &str) {
    writeln!(text, "{key} = {value:?}").expect("a String takes everything");
}
