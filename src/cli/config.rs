//! The file of `--config`: the command line, written down.
//!
//! Each long option of `serve` is a key. A value goes through the option's own parser, so the file can say nothing
//! that the command line can't, and what is wrong with it is said in the same words; what is added is where: file,
//! line and column. What stands before the first `[[listener]]` holds for the process and is what each listener
//! begins with; a listener's own keys win over that, and the command line wins over both.
//!
//! ```toml
//! idle-after = "2m"
//!
//! [[listener]]
//! url = "tcp://127.0.0.1:8080"
//! service = "echo"
//!
//! [[listener]]
//! url = "tcp+lines://127.0.0.1:8081"
//! service = "reply"
//! message = "Come in!"
//! connections-max = 100
//! ```
//!
//! Nothing is done here: a file becomes words, and [`super::settings`] has them parsed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::failure::one_line;

/// The key of the positional argument, and that of a listener's place.
const SERVICE: &str = "service";
const URL: &str = "url";
/// The tables of listeners.
const LISTENER: &str = "listener";

/// What is about the process, and not about one listener.
const OF_THE_PROCESS: [&str; 4] = ["listen", "drain-for", "log-level", "access-log"];
/// What is about how the program was started: it makes no sense in a file.
const OF_THE_COMMAND_LINE: [&str; 3] = ["config", "help", "version"];

/// What was said on the command line, behind `serve`.
#[derive(Debug, Clone)]
pub(super) struct CommandLine {
    words: Vec<OsString>,
    /// The options that stand there, by their keys.
    said: BTreeSet<String>,
}

impl CommandLine {
    /// # Errors
    /// Where `command` can't parse them.
    pub(super) fn new(command: &Command, words: Vec<OsString>) -> Result<CommandLine, clap::Error> {
        let matches = command.clone().try_get_matches_from(in_full(command, &words))?;
        let said = command
            .get_arguments()
            .filter(|option| matches.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine))
            .filter_map(key_of)
            .collect();
        Ok(CommandLine { words, said })
    }

    /// As it is parsed: with the program's name.
    pub(super) fn in_full(&self, command: &Command) -> Vec<OsString> {
        in_full(command, &self.words)
    }

    /// Whether this option stands there.
    pub(super) fn says(&self, key: &str) -> bool {
        self.said.contains(key)
    }
}

fn in_full(command: &Command, words: &[OsString]) -> Vec<OsString> {
    [OsString::from(command.get_name())].into_iter().chain(words.iter().cloned()).collect()
}

/// How an option is called in the file; `None` for what can't stand there.
fn key_of(option: &clap::Arg) -> Option<String> {
    let key = match option.get_long() {
        Some(long) => long,
        None if option.is_positional() => SERVICE,
        None => return None,
    };
    Some(key.to_owned())
}

/// A file that has been read, and holds nothing that could not be an option.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    text: String,
    process: Vec<Key>,
    listeners: Vec<Listener>,
}

/// One `[[listener]]`.
#[derive(Debug)]
struct Listener {
    keys: Vec<Key>,
    /// Where it begins in the file.
    at: usize,
}

/// One `key = value`, as words of a command line.
#[derive(Debug)]
struct Key {
    name: String,
    words: Vec<OsString>,
    /// Where it stands in the file.
    at: usize,
}

/// The words for one listener, or for the process, and where the file says so.
pub(super) struct Words {
    pub(super) words: Vec<OsString>,
    /// `switchboard.toml:7:1`
    pub(super) place: String,
    /// The places of the single keys.
    places: Vec<(String, String)>,
}

impl Words {
    /// Where the mistake was made: a problem that begins with an option is that key's, if there is one.
    pub(super) fn place_of(&self, problem: &str) -> &str {
        let option = problem.split(' ').next().and_then(|word| word.strip_prefix("--"));
        let place = self.places.iter().find(|(name, _)| Some(name.as_str()) == option);
        place.map_or(&self.place, |(_, place)| place)
    }
}

impl File {
    /// # Errors
    /// One line that names the file, the line, the column and what is wrong there.
    pub(super) fn read(path: &Path, command: &Command) -> Result<File, String> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("--config {}: cannot read it: {error}", path.display()))?;
        File::parse(path, text, command)
    }

    fn parse(path: &Path, text: String, command: &Command) -> Result<File, String> {
        let mut file =
            File { path: path.into(), text: String::new(), process: Vec::new(), listeners: Vec::new() };
        let outcome = file.fill(&text, command);
        file.text = text;
        match outcome {
            Ok(()) => Ok(file),
            Err((at, problem)) => Err(format!("{}: {problem}", file.place(at))),
        }
    }

    fn fill(&mut self, text: &str, command: &Command) -> Result<(), (usize, String)> {
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let problem = error.message().lines().collect::<Vec<_>>().join("; ");
            // What begins with a letter and is no value of TOML's is a text without its quotes.
            let line = text[..at].rfind('\n').map_or(0, |at| at + 1);
            let line = text[line..].lines().next().unwrap_or_default();
            let bare = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
            match bare.filter(|(_, value)| value.starts_with(|c: char| c.is_alphabetic())) {
                Some((key, value)) => (at, format!("a text stands in quotes: write {key} = {value:?}")),
                None => (at, problem),
            }
        })?;
        for (name, value) in table.get_ref() {
            let (name, at) = (name.get_ref().as_ref(), name.span().start);
            if name != LISTENER {
                self.process.push(key(name, at, value, command)?);
                continue;
            }
            let not_tables = || (at, "write each listener as a table of its own: [[listener]]".to_owned());
            for table in value.get_ref().as_array().ok_or_else(not_tables)? {
                let keys = table.get_ref().as_table().ok_or_else(not_tables)?;
                self.listeners.push(listener(table.span().start, keys, command)?);
            }
        }
        Ok(())
    }

    /// What the process and each of its listeners begins with.
    pub(super) fn process(&self, command: &Command, line: &CommandLine) -> Words {
        let keys = self.process.iter().filter(|key| !line.says(&key.name));
        self.words(keys, command, line, self.path.display().to_string())
    }

    /// The words for each listener of the file.
    pub(super) fn listeners(&self, command: &Command, line: &CommandLine) -> Vec<Words> {
        let of = |listener: &Listener| {
            let own = |name: &str| listener.keys.iter().any(|key| key.name == name);
            let inherited = self.process.iter().filter(|key| !own(&key.name) && key.name != "listen");
            let keys = inherited.chain(&listener.keys).filter(|key| !line.says(&key.name));
            self.words(keys, command, line, self.place(listener.at))
        };
        self.listeners.iter().map(of).collect()
    }

    fn words<'a>(
        &self,
        keys: impl Iterator<Item = &'a Key>,
        command: &Command,
        line: &CommandLine,
        place: String,
    ) -> Words {
        let mut words = vec![OsString::from(command.get_name())];
        let mut places = Vec::new();
        for key in keys {
            words.extend(key.words.iter().cloned());
            places.push((key.name.clone(), self.place(key.at)));
        }
        words.extend(line.words.iter().cloned());
        Words { words, place, places }
    }

    fn place(&self, at: usize) -> String {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{}:{line}:{column}", self.path.display())
    }
}

fn listener(at: usize, table: &DeTable<'_>, command: &Command) -> Result<Listener, (usize, String)> {
    let mut keys = Vec::new();
    for (name, value) in table {
        let (name, at) = (name.get_ref().as_ref(), name.span().start);
        if OF_THE_PROCESS.contains(&name) {
            let problem = match name {
                "listen" => "a listener has one place: write url".into(),
                _ => format!("{name} is for the whole process: write it above the first [[listener]]"),
            };
            return Err((at, problem));
        }
        // A listener's place is an option of the whole command.
        let name = if name == URL { "listen" } else { name };
        keys.push(key(name, at, value, command)?);
    }
    match keys.iter().any(|key| key.name == "listen") {
        true => Ok(Listener { keys, at }),
        false => Err((at, "this listener has no url: write url = \"tcp://127.0.0.1:8080\"".into())),
    }
}

/// One key with its value, checked by the option's own parser.
fn key(
    name: &str,
    at: usize,
    value: &Spanned<DeValue<'_>>,
    command: &Command,
) -> Result<Key, (usize, String)> {
    let known = |option: &&clap::Arg| key_of(option).as_deref() == Some(name);
    let option = command
        .get_arguments()
        .find(known)
        .filter(|_| !OF_THE_COMMAND_LINE.contains(&name))
        .ok_or_else(|| (at, unknown(name, command)))?;
    let value_at = value.span().start;
    let shown = match name {
        "listen" => "url",
        name => name,
    };
    let expected =
        |what: &str| (value_at, format!("{shown}: {what} was expected, not {}", kind(value.get_ref())));
    let values: Vec<String> = match (value.get_ref(), option.get_action()) {
        (DeValue::Boolean(on), ArgAction::SetTrue) => {
            let words = if *on { vec![format!("--{name}").into()] } else { Vec::new() };
            return Ok(Key { name: name.into(), words, at });
        }
        (_, ArgAction::SetTrue) => return Err(expected("true or false")),
        (DeValue::Array(values), ArgAction::Append) => values
            .iter()
            .map(|value| scalar(value.get_ref()))
            .collect::<Option<_>>()
            .ok_or_else(|| (value_at, format!("{shown}: a list of strings was expected")))?,
        (value, ArgAction::Append) => {
            vec![scalar(value).ok_or_else(|| expected("a string, or a list of them,"))?]
        }
        (value, _) => vec![scalar(value).ok_or_else(|| expected(what_it_takes(option)))?],
    };
    let words: Vec<OsString> = values
        .into_iter()
        .map(|value| if name == SERVICE { value } else { format!("--{name}={value}") }.into())
        .collect();
    // The option alone: what is wrong with it is known here, with its place.
    command
        .clone()
        .try_get_matches_from(in_full(command, &words))
        .map_err(|error| (value_at, one_line(&error)))?;
    Ok(Key { name: name.into(), words, at })
}

fn what_it_takes(option: &clap::Arg) -> &'static str {
    let numbers = [ValueParser::from(clap::value_parser!(u32)).type_id()];
    match numbers.contains(&option.get_value_parser().type_id()) {
        true => "a whole number",
        false => "a string",
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        _ => None,
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer in another base",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// clap knows which option was meant.
fn unknown(name: &str, command: &Command) -> String {
    let error = command.clone().try_get_matches_from([command.get_name(), &format!("--{name}")]).err();
    if name == "listeners" {
        return "the key \"listeners\" is unknown: was [[listener]] meant?".into();
    }
    let meant = error.and_then(|error| match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(meant)) => Some(meant.trim_start_matches('-').to_owned()),
        _ => None,
    });
    // clap compares whole names by how much they share; one letter too few, too many or swapped is a slip, too.
    let slip = || {
        let names = command.get_arguments().filter_map(|argument| argument.get_long());
        let mut names = names.chain(["url", "service"]);
        names.find(|known| is_a_slip(name, known)).map(str::to_owned)
    };
    let meant = meant.or_else(slip);
    match meant.filter(|meant| !OF_THE_COMMAND_LINE.contains(&meant.as_str())) {
        Some(meant) => format!("the key {name:?} is unknown: was {meant} meant?"),
        None => format!("the key {name:?} is unknown: 'switchboard serve --help' has them all"),
    }
}

/// Whether one letter more, less or other, or two swapped ones, make one of the other.
fn is_a_slip(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let same = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[same..], &other[same..]);
    let rest = |of: &[char], count: usize| of.get(count..).map(<[char]>::to_vec);
    let swapped = one.len() > 1 && other.len() > 1 && one[0] == other[1] && one[1] == other[0];
    let equal = |a: usize, b: usize| rest(one, a).is_some_and(|it| Some(it) == rest(other, b));
    equal(1, 0) || equal(0, 1) || equal(1, 1) || (swapped && equal(2, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND_LINE: &str = "serve";

    fn command() -> Command {
        super::super::options::command()
    }

    fn parse(text: &str) -> Result<File, String> {
        File::parse(Path::new("a.toml"), text.into(), &command())
    }

    fn line(words: &[&str]) -> CommandLine {
        CommandLine::new(&command(), words.iter().map(OsString::from).collect()).expect("it is right")
    }

    fn joined(words: &Words) -> String {
        let words: Vec<_> = words.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        words.join(" ").trim_start_matches(COMMAND_LINE).trim().to_owned()
    }

    const FILE: &str = r#"
idle-after = "2m"
connections-max = 500
allow = ["10.0.0.0/8", "::1"]

[[listener]]
url = "tcp://127.0.0.1:8080"

[[listener]]
url = "tcp+lines://127.0.0.1:8081"
service = "reply"
message = "Come in!"
idle-after = "5s"
reuse-port = true
"#;

    #[test]
    fn a_listener_has_its_own_keys_and_the_processs() {
        let file = parse(FILE).expect("it is right");
        let listeners = file.listeners(&command(), &line(&[]));
        let shared = "--allow=10.0.0.0/8 --allow=::1 --connections-max=500";
        assert_eq!(joined(&listeners[0]), format!("{shared} --idle-after=2m --listen=tcp://127.0.0.1:8080"));
        assert_eq!(
            joined(&listeners[1]),
            format!(
                "{shared} --idle-after=5s --message=Come in! --reuse-port reply --listen=tcp+lines://127.0.0.1:8081"
            )
        );
        assert_eq!(listeners[1].place, "a.toml:9:1");
        assert_eq!(joined(&file.process(&command(), &line(&[]))), format!("{shared} --idle-after=2m"));
    }

    #[test]
    fn the_command_line_wins() {
        let file = parse(FILE).expect("it is right");
        let said = line(&["source", "--idle-after", "9s", "--allow", "127.0.0.1"]);
        let listeners = file.listeners(&command(), &said);
        assert_eq!(
            joined(&listeners[1]),
            "--connections-max=500 --message=Come in! --reuse-port --listen=tcp+lines://127.0.0.1:8081 \
             source --idle-after 9s --allow 127.0.0.1"
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, complaint) in [
            ("idle-aftr = \"5s\"", "a.toml:1:1: the key \"idle-aftr\" is unknown: was idle-after meant?"),
            ("xyz = 1", "a.toml:1:1: the key \"xyz\" is unknown: 'switchboard serve --help' has them all"),
            ("config = \"b.toml\"", "a.toml:1:1: the key \"config\" is unknown"),
            (
                "\n\nidle-after = 5",
                "a.toml:3:14: invalid value '5' for '--idle-after <TIME>': write a number",
            ),
            ("idle-after = 1.5", "a.toml:1:14: idle-after: a string was expected, not a fraction"),
            ("idle-after = [\"5s\"]", "a.toml:1:14: idle-after: a string was expected, not a list"),
            (
                "connections-max = true",
                "a.toml:1:19: connections-max: a whole number was expected, not true or false",
            ),
            ("connections-max = 0", "a.toml:1:19: invalid value '0' for '--connections-max <N>'"),
            ("reuse-port = \"yes\"", "a.toml:1:14: reuse-port: true or false was expected, not a string"),
            ("allow = [1.5]", "a.toml:1:9: allow: a list of strings was expected"),
            ("allow = [\"10.0.0.0/8\", \"10.0.0.0/33\"]", "a.toml:1:9: invalid value '10.0.0.0/33'"),
            ("service = \"gopher\"", "a.toml:1:11: invalid value 'gopher' for '[SERVICE]'"),
            (
                "[listener]\nurl = \"127.0.0.1:80\"",
                "a.toml:1:2: write each listener as a table of its own: [[listener]]",
            ),
            ("[[listener]]\nservice = \"echo\"", "a.toml:1:1: this listener has no url"),
            ("[[listener]]\nurl = \"gopher://x\"", "a.toml:2:7: invalid value 'gopher://x'"),
            ("[[listener]]\nlisten = \"127.0.0.1:80\"", "a.toml:2:1: a listener has one place: write url"),
            ("[[listener]]\ndrain-for = \"1s\"", "a.toml:2:1: drain-for is for the whole process"),
            ("[server]\nx = 1", "a.toml:1:2: the key \"server\" is unknown"),
            ("idle-after = \"5s\"\nidle-after = \"6s\"", "a.toml:2:1: duplicate key"),
            ("idle-after \"5s\"", "a.toml:1:12: "),
            ("idle-after = \"5s", "a.toml:1:17: "),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with(complaint), "{text:?}: {error}");
            assert!(!error.contains('\n'), "{error:?}");
        }
    }
}
