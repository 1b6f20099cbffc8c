//! Plain English, held: words that must be read twice, or that make a person of a socket, do not return.
//!
//! It reads comments, documentation, help, errors and pages, in short every line of every text file. It looks for whole words, in any
//! case, and finds a phrase across a line's end, too. It does not judge grammar. Invariant: each exception stands in [`EXCEPTIONS`],
//! with its reason, and one that is needed no more is an error.

use std::fs;
use std::path::{Path, PathBuf};

/// What is searched: these folders, and these files.
const PLACES: &[&str] = &["src", "examples", "benches", "tests", "README.md", "CHANGELOG.md", "Cargo.toml"];

/// Endings of the files that hold text.
const TEXTS: &[&str] = &["rs", "md", "html", "css", "js", "txt", "py", "toml"];

/// Words that must not return, and what to write instead.
const WORDS: &[(&str, &str)] = &[
    ("whoever", "name it: \"a client that ...\", \"the caller\""),
    ("whomever", "name it: \"any peer\""),
    ("anew", "\"again\""),
    ("everyday way", "\"common case\" or \"fast path\""),
    ("everyday case", "\"common case\""),
    ("everyday cases", "\"common cases\""),
    ("so many", "the name of the quantity: `count`, \"at most `bytes`\""),
    ("in good order", "\"gracefully\""),
    ("is to be", "\"must be\", or the verb itself: \"Closes ...\""),
    ("are to be", "\"must be\", or the verb itself"),
    ("was to be", "\"should be\", \"was due\""),
    ("were to be", "\"should be\", \"were due\""),
    ("for whom", "the subject first: \"which listeners read it\""),
    ("he", "\"it\": a socket, peer or process is no person"),
    ("him", "\"it\""),
    ("his", "\"its\""),
    ("himself", "\"itself\""),
    ("she", "\"it\""),
    ("her", "\"its\""),
    ("hers", "\"its\""),
    ("herself", "\"itself\""),
];

const PEOPLE: &str = "Alice and Bob are people";

/// Where a word may stand, and why.
const EXCEPTIONS: &[(&str, &[&str], &str)] = &[
    ("tests/plain_english.rs", &["*"], "it lists the words"),
    ("README.md", &["she"], "the operator at the switchboard is a person"),
    ("src/lib.rs", &["she"], "the operator at the switchboard is a person"),
    ("src/reactor/tests.rs", &["herself"], PEOPLE),
    ("tests/black_box/certificates.rs", &["she"], PEOPLE),
    ("tests/black_box/chat.rs", &["she", "her"], PEOPLE),
    ("tests/black_box/config.rs", &["she", "her"], PEOPLE),
    ("tests/black_box/examples.rs", &["him"], PEOPLE),
    ("tests/black_box/guard.rs", &["her"], PEOPLE),
    ("tests/black_box/half_close.rs", &["her"], PEOPLE),
    ("tests/black_box/limits.rs", &["her"], PEOPLE),
    ("tests/black_box/relay.rs", &["she", "her", "hers", "he"], PEOPLE),
    ("tests/black_box/reload.rs", &["she"], PEOPLE),
    ("tests/black_box/signals.rs", &["he", "her"], PEOPLE),
    ("tests/black_box/tls.rs", &["she", "her"], PEOPLE),
];

/// A word, the line that it begins in, and whether only blanks and comment signs stand between it and the word before.
struct Word {
    text: String,
    line: usize,
    follows: bool,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text files of a place, without those that a build wrote.
fn texts(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        let is_text = place.extension().is_some_and(|ending| TEXTS.iter().any(|it| ending == *it));
        return if is_text { vec![place.into()] } else { Vec::new() };
    }
    let entries = fs::read_dir(place).expect("a folder").map(|entry| entry.expect("a readable entry").path());
    entries.filter(|path| !path.ends_with("target")).flat_map(|path| texts(&path)).collect()
}

fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut follows = false;
    for (index, line) in text.lines().enumerate() {
        let mut rest = line;
        while !rest.is_empty() {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            if length > 0 {
                words.push(Word { text: rest[..length].to_lowercase(), line: index + 1, follows });
                follows = true;
                rest = &rest[length..];
                continue;
            }
            let sign = rest.chars().next().expect("it is not empty");
            follows &= sign.is_whitespace() || "/!*#".contains(sign);
            rest = &rest[sign.len_utf8()..];
        }
    }
    words
}

/// Each of [`WORDS`] that is in a text: its line, the word, and what to write instead.
fn found(text: &str) -> Vec<(usize, &'static str, &'static str)> {
    let words = words(text);
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        for (phrase, instead) in WORDS {
            let is_here = phrase.starts_with(&word.text)
                && phrase.split(' ').enumerate().all(|(offset, part)| {
                    words.get(at + offset).is_some_and(|it| it.text == part && (offset == 0 || it.follows))
                });
            if is_here {
                found.push((word.line, *phrase, *instead));
            }
        }
    }
    found
}

#[test]
fn words_that_must_be_read_twice_do_not_return() {
    let mut problems = Vec::new();
    let mut needed = vec![false; EXCEPTIONS.len()];
    for path in PLACES.iter().flat_map(|place| texts(&root().join(place))) {
        let text = fs::read_to_string(&path).expect("a text file is UTF-8");
        let name = path.strip_prefix(root()).expect("it is ours").to_string_lossy().into_owned();
        for (line, word, instead) in found(&text) {
            let allows = |(file, allowed, _): &(&str, &[&str], &str)| {
                name == *file && (allowed.contains(&word) || allowed.contains(&"*"))
            };
            match EXCEPTIONS.iter().position(allows) {
                Some(index) => needed[index] = true,
                None => problems.push(format!("{name}:{line}: \"{word}\": write {instead}")),
            }
        }
    }
    for ((file, allowed, why), needed) in EXCEPTIONS.iter().zip(needed) {
        if !needed {
            problems.push(format!("{file}: the exception for {allowed:?} ({why}) is not needed: remove it"));
        }
    }
    problems.sort();
    assert!(problems.is_empty(), "{} places:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn a_phrase_is_found_across_lines_and_only_as_whole_words() {
    let lines = |text| found(text).into_iter().map(|(line, word, _)| (line, word)).collect::<Vec<_>>();
    assert_eq!(lines("/// At most so\n/// many bytes.\n"), [(1, "so many")]);
    assert_eq!(lines("Anew; IN good\norder"), [(1, "anew"), (1, "in good order")]);
    assert_eq!(lines("so, many; the hero renewed this; he_said; it is. To be sure"), []);
}
