//! What is said in a chat: what members ask, what they are told, and both as lines and as JSON.
//!
//! Nothing here knows who is there. A line and a JSON message become the same [`Ask`], and one [`Event`] becomes both a
//! line and a JSON message; so whoever comes by either way is in the same room.
//!
//! Names and texts are checked where they come in: what would move a terminal's cursor, or could pass for another line,
//! is refused, so nothing has to be escaped on its way out but what JSON itself escapes.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::guard::Rate;

/// The most characters of a nickname.
pub const NICK_CHARS_MAX: usize = 24;
/// The most characters of a room's name.
pub const ROOM_CHARS_MAX: usize = 32;
/// The most bytes of what is said.
pub const TEXT_BYTES_MAX: usize = 4000;
/// The most bytes of a topic.
pub const TOPIC_BYTES_MAX: usize = 400;

/// What a member wants.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Ask<'a> {
    /// Into this room, by this name; from the one where he is.
    Join {
        #[serde(borrow)]
        room: Cow<'a, str>,
        #[serde(borrow, default)]
        nick: Option<Cow<'a, str>>,
    },
    Leave,
    Say {
        #[serde(borrow)]
        text: Cow<'a, str>,
    },
    /// To one of the room.
    Tell {
        #[serde(borrow)]
        to: Cow<'a, str>,
        #[serde(borrow)]
        text: Cow<'a, str>,
    },
    /// What is it, or this is it now.
    Topic {
        #[serde(borrow, default)]
        text: Option<Cow<'a, str>>,
    },
    Nick {
        #[serde(borrow)]
        nick: Cow<'a, str>,
    },
    Who,
    Rooms,
    #[serde(skip)]
    Help,
    #[serde(skip)]
    Quit,
}

/// Why something is not done. Its author is told, and nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    NotText,
    NotUnderstood(String),
    TooLong { what: &'static str, most: usize, unit: &'static str },
    NotPrintable(&'static str),
    NickTaken(String),
    Nobody(String),
    NotJoined,
    RoomsFull(usize),
    TooFast(Rate),
}

impl Trouble {
    /// For programs.
    fn code(&self) -> &'static str {
        match self {
            Trouble::NotText => "not_text",
            Trouble::NotUnderstood(_) => "not_understood",
            Trouble::TooLong { .. } => "too_long",
            Trouble::NotPrintable(_) => "not_printable",
            Trouble::NickTaken(_) => "nick_taken",
            Trouble::Nobody(_) => "nobody",
            Trouble::NotJoined => "not_joined",
            Trouble::RoomsFull(_) => "rooms_full",
            Trouble::TooFast(_) => "too_fast",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NotText => f.write_str("what you say is to be text, in UTF-8"),
            Trouble::NotUnderstood(what) => write!(f, "that is not understood: {what}"),
            Trouble::TooLong { what, most, unit } => write!(f, "a {what} has at most {most} {unit}"),
            Trouble::NotPrintable("text") => f.write_str("a text has no control characters"),
            Trouble::NotPrintable(what) => {
                write!(f, "a {what} is made of letters, digits, - and _, and begins with a letter or digit")
            }
            Trouble::NickTaken(nick) => write!(f, "{nick} is taken in this room: choose another name"),
            Trouble::Nobody(nick) => write!(f, "there is no {nick} in this room"),
            Trouble::NotJoined => f.write_str("you are in no room: join one first"),
            Trouble::RoomsFull(most) => {
                write!(f, "there are {most} rooms, the most there can be: join one of them")
            }
            Trouble::TooFast(rate) => {
                write!(f, "that was too fast, and is not done: at most {} a second", rate.per_s)
            }
        }
    }
}

/// What a line asks for; `None` for an empty one.
pub(super) fn parse_line(line: &str) -> Result<Option<Ask<'_>>, Trouble> {
    let line = line.trim_end();
    let Some(command) = line.strip_prefix('/') else {
        return Ok((!line.is_empty()).then_some(Ask::Say { text: line.into() }));
    };
    if command.starts_with('/') {
        return Ok(Some(Ask::Say { text: command.into() })); // so that one can speak of commands
    }
    let (command, rest) = command.split_once(' ').unwrap_or((command, ""));
    let rest = rest.trim();
    let needs = |what: &str| Err(Trouble::NotUnderstood(format!("/{command} {what}, see /help")));
    Ok(Some(match command {
        "nick" if rest.is_empty() => return needs("NAME"),
        "nick" => Ask::Nick { nick: rest.into() },
        "join" if rest.is_empty() => return needs("ROOM"),
        "join" => Ask::Join { room: rest.into(), nick: None },
        "leave" => Ask::Leave,
        "who" => Ask::Who,
        "rooms" => Ask::Rooms,
        "topic" => Ask::Topic { text: (!rest.is_empty()).then_some(rest.into()) },
        "msg" => match rest.split_once(' ') {
            Some((to, text)) => Ask::Tell { to: to.into(), text: text.trim().into() },
            None => return needs("NAME TEXT"),
        },
        "help" => Ask::Help,
        "quit" => Ask::Quit,
        // What was typed is not repeated: it may be anything.
        _ => return Err(Trouble::NotUnderstood("there is no such command, see /help".into())),
    }))
}

/// What a JSON message asks for.
pub(super) fn parse_json(json: &str) -> Result<Ask<'_>, Trouble> {
    // serde's own words quote what was sent, which may be long.
    serde_json::from_str(json).map_err(|error| {
        let mut problem = error.to_string();
        if let Some((at, _)) = problem.char_indices().nth(120) {
            problem.truncate(at);
            problem += " ...";
        }
        Trouble::NotUnderstood(problem)
    })
}

pub(super) const HELP: &str = "\
/nick NAME       be called that
/join ROOM       go to that room
/leave           go out of the room
/who             who is here
/rooms           which rooms there are
/msg NAME TEXT   say it to one alone
/topic [TEXT]    what the room is about
/help            this
/quit            hang up
//TEXT           say a text that begins with /";

/// A name as it is compared: Alice is alice.
pub(super) fn fold(name: &str) -> String {
    name.to_lowercase()
}

pub(super) fn check_nick(nick: &str) -> Result<(), Trouble> {
    check_name("nickname", nick, NICK_CHARS_MAX)
}

pub(super) fn check_room(room: &str) -> Result<(), Trouble> {
    check_name("room's name", room, ROOM_CHARS_MAX)
}

fn check_name(what: &'static str, name: &str, most: usize) -> Result<(), Trouble> {
    if name.len() > 4 * most || name.chars().count() > most {
        return Err(Trouble::TooLong { what, most, unit: "characters" });
    }
    let letter = |c: char| c.is_alphanumeric();
    match name.starts_with(letter) && name.chars().all(|c| letter(c) || c == '-' || c == '_') {
        true => Ok(()),
        false => Err(Trouble::NotPrintable(what)),
    }
}

pub(super) fn check_text(text: &str, most: usize) -> Result<(), Trouble> {
    if text.len() > most {
        return Err(Trouble::TooLong { what: "text", most, unit: "bytes" });
    }
    // A tab moves the cursor, but to no other line.
    match text.chars().any(|c| c.is_control() && c != '\t') {
        true => Err(Trouble::NotPrintable("text")),
        false => Ok(()),
    }
}

/// What members are told. `seq` counts what a room was told, so that who missed something can tell; `at` is in seconds
/// since 1970.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    Said {
        seq: u64,
        at: u64,
        nick: &'a str,
        text: &'a str,
    },
    Came {
        seq: u64,
        at: u64,
        nick: &'a str,
    },
    Went {
        seq: u64,
        at: u64,
        nick: &'a str,
    },
    Renamed {
        seq: u64,
        at: u64,
        nick: &'a str,
        to: &'a str,
    },
    Topic {
        seq: u64,
        at: u64,
        nick: &'a str,
        text: &'a str,
    },
    /// To one alone, and to who said it.
    Told {
        at: u64,
        nick: &'a str,
        to: &'a str,
        text: &'a str,
    },
    /// The first answer to `join`. What was said before comes behind it, with numbers up to `seq`.
    Joined {
        room: &'a str,
        nick: &'a str,
        topic: &'a str,
        count: usize,
        members: Vec<&'a str>,
        seq: u64,
    },
    Left {
        room: &'a str,
    },
    Members {
        room: &'a str,
        count: usize,
        members: Vec<&'a str>,
    },
    Rooms {
        count: usize,
        rooms: Vec<About<'a>>,
    },
    /// Something was dropped here, because the member did not take it in time.
    Gap {
        missed: u64,
    },
    Error {
        code: &'static str,
        text: String,
    },
}

/// A room in the list of rooms.
#[derive(Debug, Serialize)]
pub(super) struct About<'a> {
    pub(super) room: &'a str,
    pub(super) count: usize,
    pub(super) topic: &'a str,
}

impl<'a> From<&'a Trouble> for Event<'a> {
    fn from(trouble: &'a Trouble) -> Event<'a> {
        Event::Error { code: trouble.code(), text: trouble.to_string() }
    }
}

impl Event<'_> {
    /// As a line, or several.
    pub(super) fn line(&self) -> String {
        match self {
            Event::Said { nick, text, .. } => format!("{nick}: {text}"),
            Event::Came { nick, .. } => format!("* {nick} came in"),
            Event::Went { nick, .. } => format!("* {nick} left"),
            Event::Renamed { nick, to, .. } => format!("* {nick} is now {to}"),
            Event::Topic { nick, text, .. } => match (*nick, *text) {
                ("", "") => "* there is no topic".into(),
                ("", text) => format!("* the topic: {text}"),
                (nick, text) => format!("* {nick} set the topic: {text}"),
            },
            Event::Told { nick, to, text, .. } => format!("{nick} to {to}: {text}"),
            Event::Joined { room, nick, topic, count, members, .. } => {
                let topic = if topic.is_empty() { String::new() } else { format!("\n* the topic: {topic}") };
                format!("* you are {nick}, in {room}{topic}\n{}", here(*count, members))
            }
            Event::Left { room } => format!("* you left {room}"),
            Event::Members { count, members, .. } => here(*count, members),
            Event::Rooms { count, rooms } => {
                let mut text = format!("* {count} rooms");
                for about in rooms {
                    text += &format!("\n* {} ({}) {}", about.room, about.count, about.topic);
                }
                text
            }
            Event::Gap { missed } => format!("* {missed} messages were dropped: you read too slowly"),
            Event::Error { text, .. } => format!("error: {text}"),
        }
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers can be written")
    }
}

fn here(count: usize, members: &[&str]) -> String {
    let more = if count > members.len() { ", ..." } else { "" };
    format!("* {count} here: {}{more}", members.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_and_json_ask_for_the_same() {
        for (line, json) in [
            ("hello there", r#"{"type":"say","text":"hello there"}"#),
            ("//help is a command", r#"{"type":"say","text":"/help is a command"}"#),
            ("/nick alice", r#"{"type":"nick","nick":"alice"}"#),
            ("/join  garden ", r#"{"type":"join","room":"garden"}"#),
            ("/msg bob how are you?", r#"{"type":"tell","to":"bob","text":"how are you?"}"#),
            ("/topic", r#"{"type":"topic"}"#),
            ("/topic tea", r#"{"type":"topic","text":"tea"}"#),
            ("/who", r#"{"type":"who"}"#),
            ("/rooms", r#"{"type":"rooms","and":["more",{"than":"is known"}]}"#),
            ("/leave", r#"{"type":"leave"}"#),
        ] {
            assert_eq!(parse_line(line), Ok(Some(parse_json(json).expect(json))), "{line}");
        }
        assert_eq!(parse_line("   \r"), Ok(None));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for line in ["/nick", "/join ", "/msg bob", "/", "/nonsense", "/ say"] {
            assert!(matches!(parse_line(line), Err(Trouble::NotUnderstood(_))), "{line}");
        }
        let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(5000));
        for json in [
            "",
            "hello",
            "{}",
            "[1]",
            r#"{"type":"help"}"#,
            r#"{"type":"say"}"#,
            r#"{"type":"say","text":5}"#,
            &long,
        ] {
            let Err(Trouble::NotUnderstood(problem)) = parse_json(json) else { panic!("{json}") };
            assert!(problem.len() < 200, "{problem}");
        }
        assert!(parse_json(&("[".repeat(100_000))).is_err(), "it does not go as deep as it is told to");
    }

    #[test]
    fn names_are_printable_and_bounded() {
        for nick in ["a", "Alice", "grüße-1_2", "ひらがな", &"x".repeat(24), "7"] {
            assert_eq!(check_nick(nick), Ok(()), "{nick}");
        }
        for nick in [
            "",
            " ",
            "a b",
            "-a",
            "a:",
            "a\u{202e}b",
            "<b>",
            "a\n",
            "\u{1b}[31m",
            &"x".repeat(25),
            &"x".repeat(4096),
        ] {
            assert!(check_nick(nick).is_err(), "{nick}");
        }
        assert_eq!(fold("ALICE"), fold("alice"));
    }

    proptest! {
        #[test]
        fn whatever_is_let_in_stays_on_its_line_and_is_itself_again_behind_json(text in ".{0,60}") {
            if check_text(&text, TEXT_BYTES_MAX).is_ok() {
                let event = Event::Said { seq: 1, at: 2, nick: "a", text: &text };
                prop_assert_eq!(event.line(), format!("a: {text}"));
                let broken = event.line().contains(['\n', '\r', '\u{1b}']);
                prop_assert!(!broken);
                let json: serde_json::Value = serde_json::from_str(&event.json()).expect("it is ours");
                prop_assert_eq!(json["text"].as_str(), Some(&text[..]));
            }
        }

        #[test]
        fn nothing_that_is_said_is_too_much(line in "\\PC{0,80}|/[a-z]{0,6} .{0,40}") {
            let _ = parse_line(&line);
            let _ = parse_json(&line);
        }
    }
}
