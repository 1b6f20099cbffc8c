//! What is said in a chat: what members ask, what they are told, and both as lines and as JSON.
//!
//! Nothing here knows who is there. A line and a JSON message become the same [`Ask`], and one [`Event`] becomes both a
//! line and a JSON message; so members that come by either way are in the same room.
//!
//! Texts are checked where they come in (and names in `names`): what would move a terminal's cursor, or could pass for
//! another line, is refused, and what would reorder its line is isolated. So nothing has to be escaped on its way out but what
//! JSON itself escapes.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use serde::{Deserialize, Serialize, Serializer};

use crate::guard::Rate;

/// The most characters of a nickname.
pub const NICK_CHARS_MAX: usize = 24;
/// The most characters of a room's name.
pub const ROOM_CHARS_MAX: usize = 32;
/// The most bytes of what is said.
pub const TEXT_BYTES_MAX: usize = 4000;
/// The most bytes of a topic.
pub const TOPIC_BYTES_MAX: usize = 400;

/// The most bytes of the names that a room is told at once as those of members who came, and likewise for those who
/// went and who were renamed: with its numbers, all of it fits a block of 1 KiB, and mostly a smaller one.
const NEWS_BYTES_MAX: usize = 256;

/// What a member wants.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Ask<'a> {
    /// Go to this room, under this name, and leave the present one.
    Join {
        #[serde(borrow)]
        room: Cow<'a, str>,
        #[serde(borrow, default)]
        nick: Option<Cow<'a, str>>,
        /// The secret of [`Event::Joined`] on an earlier connection, which is lost: its place is taken over.
        #[serde(borrow, default)]
        seat: Option<Cow<'a, str>>,
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
    /// The members in the order of their names, from behind this one.
    Who {
        #[serde(borrow, default)]
        after: Option<Cow<'a, str>>,
    },
    /// The rooms, the largest first, without the first `after`.
    Rooms {
        #[serde(default)]
        after: usize,
    },
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
    TooLong {
        what: &'static str,
        most: usize,
        unit: &'static str,
    },
    NotPrintable(&'static str),
    NickTaken(String),
    NickLikeAnother(String),
    RoomLikeAnother(String),
    Nobody(String),
    NotJoined,
    RoomsFull(usize),
    TooFast(Rate),
    /// The same for joins, of all connections of an address together.
    JoinsTooFast(Rate),
}

impl Trouble {
    /// For programs.
    fn code(&self) -> &'static str {
        match self {
            Trouble::NotText => "not_text",
            Trouble::NotUnderstood(_) => "not_understood",
            Trouble::TooLong { .. } => "too_long",
            Trouble::NotPrintable(_) => "not_printable",
            Trouble::NickTaken(_) | Trouble::NickLikeAnother(_) => "nick_taken",
            Trouble::RoomLikeAnother(_) => "room_taken",
            Trouble::Nobody(_) => "nobody",
            Trouble::NotJoined => "not_joined",
            Trouble::RoomsFull(_) => "rooms_full",
            Trouble::TooFast(_) | Trouble::JoinsTooFast(_) => "too_fast",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NotText => f.write_str("a message must be text in UTF-8"),
            Trouble::NotUnderstood(what) => write!(f, "that is not understood: {what}"),
            Trouble::TooLong { what, most, unit } => write!(f, "a {what} has at most {most} {unit}"),
            Trouble::NotPrintable("text") => f.write_str("a text has no control characters"),
            Trouble::NotPrintable(what) => {
                write!(f, "a {what} is made of letters, digits, - and _, and begins with a letter or digit")
            }
            Trouble::NickLikeAnother(nick) => {
                write!(f, "{nick} looks like a name that is taken in this room: choose another name")
            }
            Trouble::RoomLikeAnother(room) => {
                write!(f, "{room} looks like the name of another room: choose another name")
            }
            Trouble::NickTaken(nick) => write!(f, "{nick} is taken in this room: choose another name"),
            Trouble::Nobody(nick) => write!(f, "there is no {nick} in this room"),
            Trouble::NotJoined => f.write_str("you are in no room: join one first"),
            Trouble::RoomsFull(most) => {
                write!(f, "there are {most} rooms, the most there can be: join one of them")
            }
            Trouble::TooFast(rate) => {
                write!(f, "too fast, so this was not done: at most {} a second", rate.per_s)
            }
            Trouble::JoinsTooFast(rate) => {
                write!(
                    f,
                    "your address joins too often, at most {} times a second: join again later",
                    rate.per_s
                )
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
        "join" => Ask::Join { room: rest.into(), nick: None, seat: None },
        "leave" => Ask::Leave,
        "who" => Ask::Who { after: (!rest.is_empty()).then_some(rest.into()) },
        "rooms" if rest.is_empty() => Ask::Rooms { after: 0 },
        "rooms" => match rest.parse() {
            Ok(after) => Ask::Rooms { after },
            Err(_) => return needs("NUMBER"),
        },
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
/nick NAME       change your name
/join ROOM       go to this room
/leave           leave the room
/who [NAME]      the names of who is here, or those after NAME
/rooms [NUMBER]  the rooms, the largest first, or those after the first NUMBER
/msg NAME TEXT   send a text to one member only
/topic [TEXT]    show or set the topic of the room
/help            show this list
/quit            close the connection
//TEXT           send a text that begins with /";

/// A text as others are shown it.
///
/// # Errors
/// Where it is longer than `bytes_max`, or would move a cursor.
pub(super) fn text(text: &str, bytes_max: usize) -> Result<Cow<'_, str>, Trouble> {
    if text.len() > bytes_max {
        return Err(Trouble::TooLong { what: "text", most: bytes_max, unit: "bytes" });
    }
    // A tab moves the cursor, but to no other line. Unicode's two separators begin a new line in some programs.
    match text.chars().any(|c| c.is_control() && c != '\t' || matches!(c, '\u{2028}' | '\u{2029}')) {
        true => Err(Trouble::NotPrintable("text")),
        false => Ok(isolate(text)),
    }
}

/// Text that cannot reorder what stands before and after it on a line. One that holds bidi controls (embeddings, overrides,
/// isolates) is put between FSI and PDI; a PDI that would close that too early is left out, and what it leaves open is
/// closed (UAX 9, BD9: an isolate ends at its matching PDI, and every embedding and override in it as well).
fn isolate(text: &str) -> Cow<'_, str> {
    const LRI: char = '\u{2066}';
    const RLI: char = '\u{2067}';
    const FSI: char = '\u{2068}';
    const PDI: char = '\u{2069}';
    if !text.contains(|c| matches!(c, '\u{202a}'..='\u{202e}' | LRI..=PDI)) {
        return Cow::Borrowed(text);
    }
    let mut isolated = String::with_capacity(text.len() + 2 * PDI.len_utf8());
    isolated.push(FSI);
    let mut open = 0;
    for c in text.chars() {
        match c {
            LRI | RLI | FSI => open += 1,
            PDI if open == 0 => continue,
            PDI => open -= 1,
            _ => {}
        }
        isolated.push(c);
    }
    isolated.extend(std::iter::repeat_n(PDI, open + 1));
    Cow::Owned(isolated)
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
    /// Several came, went or were renamed: `went` and each `nick` in `renamed` are gone, and then `came` and each `to` are
    /// there. `more` counts what is not listed, and `count` the members there are now.
    Roster {
        seq: u64,
        at: u64,
        count: usize,
        came: Listed<&'a str>,
        went: Listed<&'a str>,
        renamed: Listed<Renaming<'a>>,
        more: usize,
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
        #[serde(serialize_with = "names")]
        members: &'a [Rc<str>],
        /// Where there are more members: what to ask for next, see [`Ask::Who`].
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<&'a str>,
        seq: u64,
        /// Known to this client alone: with it, another connection takes the place over. 32 hexadecimal digits.
        seat: &'a str,
    },
    Left {
        room: &'a str,
    },
    Members {
        room: &'a str,
        count: usize,
        /// What was asked for, where it is not the beginning.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<&'a str>,
        #[serde(serialize_with = "names")]
        members: &'a [Rc<str>],
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<&'a str>,
    },
    Rooms {
        count: usize,
        after: usize,
        rooms: Vec<About<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<usize>,
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

fn names<S: Serializer>(names: &&[Rc<str>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(|name| &**name))
}

/// A member's old name and its new one.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Renaming<'a> {
    pub(super) nick: &'a str,
    pub(super) to: &'a str,
}

/// Some of what there is to list, and how many more there are.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Listed<T> {
    some: Vec<T>,
    #[serde(skip)]
    more: usize,
}

/// What is listed by some of its kind.
pub(super) trait Entry {
    /// How many bytes it takes in a list, as a line or as JSON.
    fn bytes(&self) -> usize;
}

impl Entry for &str {
    fn bytes(&self) -> usize {
        self.len() + r#""","#.len()
    }
}

impl Entry for Renaming<'_> {
    fn bytes(&self) -> usize {
        self.nick.len() + self.to.len() + r#"{"nick":"","to":""},"#.len()
    }
}

impl<T: Entry> Listed<T> {
    /// The first of these, as long as they take at most [`NEWS_BYTES_MAX`] together.
    pub(super) fn new(all: impl Iterator<Item = T>) -> Listed<T> {
        let (mut some, mut more, mut left) = (Vec::new(), 0, NEWS_BYTES_MAX);
        for one in all {
            match left.checked_sub(one.bytes()) {
                Some(less) if more == 0 => {
                    left = less;
                    some.push(one);
                }
                _ => more += 1,
            }
        }
        Listed { some, more }
    }

    /// How many there are, listed or not.
    pub(super) fn count(&self) -> usize {
        self.some.len() + self.more
    }

    /// How many are not listed.
    pub(super) fn more(&self) -> usize {
        self.more
    }

    /// The one that there is.
    pub(super) fn only(&self) -> Option<&T> {
        self.some.first().filter(|_| self.count() == 1)
    }

    /// As a line, with what they did; `None` where there is none.
    fn line(&self, word: impl Fn(&T) -> String, did: &str) -> Option<String> {
        let some = self.some.iter().map(word).collect::<Vec<_>>().join(", ");
        match (self.some.is_empty(), self.more) {
            (true, 0) => None,
            (true, more) => Some(format!("* {more} {did}")),
            (false, 0) => Some(format!("* {some} {did}")),
            (false, more) => Some(format!("* {some} and {more} more {did}")),
        }
    }
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
            Event::Roster { came, went, renamed, .. } => {
                let name = |name: &&str| (*name).to_owned();
                let renaming = |it: &Renaming<'_>| format!("{} (now {})", it.nick, it.to);
                let lines = [
                    went.line(name, "left"),
                    renamed.line(renaming, "changed their names"),
                    came.line(name, "came in"),
                ];
                lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
            }
            Event::Topic { nick, text, .. } => match (*nick, *text) {
                ("", "") => "* there is no topic".into(),
                ("", text) => format!("* the topic: {text}"),
                (nick, text) => format!("* {nick} set the topic: {text}"),
            },
            Event::Told { nick, to, text, .. } => format!("{nick} to {to}: {text}"),
            Event::Joined { room, nick, topic, count, members, next, .. } => {
                let topic = if topic.is_empty() { String::new() } else { format!("\n* the topic: {topic}") };
                format!("* you are {nick}, in {room}{topic}\n{}", here(*count, members, *next))
            }
            Event::Left { room } => format!("* you left {room}"),
            Event::Members { count, members, next, .. } => here(*count, members, *next),
            Event::Rooms { count, rooms, next, .. } => {
                let mut text = format!("* {count} rooms");
                for about in rooms {
                    text += &format!("\n* {} ({}) {}", about.room, about.count, about.topic);
                }
                if let Some(next) = next {
                    text += &format!("\n* more: /rooms {next}");
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

fn here(count: usize, members: &[Rc<str>], next: Option<&str>) -> String {
    let more = next.map(|next| format!(", ... (more: /who {next})")).unwrap_or_default();
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
            ("/who zoe", r#"{"type":"who","after":"zoe"}"#),
            ("/rooms", r#"{"type":"rooms","and":["more",{"than":"is known"}]}"#),
            ("/rooms 20", r#"{"type":"rooms","after":20}"#),
            ("/leave", r#"{"type":"leave"}"#),
        ] {
            assert_eq!(parse_line(line), Ok(Some(parse_json(json).expect(json))), "{line}");
        }
        assert_eq!(parse_line("   \r"), Ok(None));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for line in ["/nick", "/join ", "/msg bob", "/", "/nonsense", "/ say", "/rooms garden", "/rooms -1"] {
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
    fn a_text_with_bidi_controls_cannot_reorder_its_authors_line() {
        for (said, shown) in [
            ("plain, \u{5e9}\u{5dc}\u{5d5}\u{5dd}", "plain, \u{5e9}\u{5dc}\u{5d5}\u{5dd}"),
            ("\u{202e}evil", "\u{2068}\u{202e}evil\u{2069}"),
            ("\u{202e}evil\u{202c}", "\u{2068}\u{202e}evil\u{202c}\u{2069}"),
            // Its end is not one for us.
            ("\u{2069}\u{202e}evil", "\u{2068}\u{202e}evil\u{2069}"),
            ("\u{2067}a\u{2069}b\u{2069}c", "\u{2068}\u{2067}a\u{2069}bc\u{2069}"),
            // What it leaves open does not swallow our end.
            ("\u{2066}a\u{2067}b", "\u{2068}\u{2066}a\u{2067}b\u{2069}\u{2069}\u{2069}"),
        ] {
            assert_eq!(text(said, TEXT_BYTES_MAX).as_deref(), Ok(shown), "{said:?}");
        }
        for said in ["a\nb", "a\u{85}b", "a\u{2028}b", "a\u{2029}b", "\u{1b}[2J"] {
            assert_eq!(text(said, TEXT_BYTES_MAX), Err(Trouble::NotPrintable("text")), "{said:?}");
        }
    }

    fn roster<'a>(came: &'a [String], went: &'a [&'a str], renamed: &[(&'a str, &'a str)]) -> Event<'a> {
        let came = Listed::new(came.iter().map(|nick| &nick[..]));
        let went = Listed::new(went.iter().copied());
        let renamed = Listed::new(renamed.iter().map(|(nick, to)| Renaming { nick, to }));
        let more = came.more() + went.more() + renamed.more();
        Event::Roster { seq: u64::MAX, at: 2, count: 7, came, went, renamed, more }
    }

    #[test]
    fn several_who_came_and_went_are_one_message() {
        let came = ["alice".to_owned(), "bob".to_owned()];
        let event = roster(&came, &["carol"], &[("x", "y")]);
        assert_eq!(event.line(), "* carol left\n* x (now y) changed their names\n* alice, bob came in");
        let json: serde_json::Value = serde_json::from_str(&event.json()).expect("it is ours");
        assert_eq!(
            json,
            serde_json::json!({"type": "roster", "seq": u64::MAX, "at": 2, "count": 7, "came": ["alice", "bob"],
                "went": ["carol"], "renamed": [{"nick": "x", "to": "y"}], "more": 0})
        );
    }

    #[test]
    fn news_of_thousands_have_less_than_a_kilobyte() {
        // The longest names there are: 24 characters of four bytes each.
        let names: Vec<String> = (0..5000).map(|number| format!("{}{number:04}", "𐐀".repeat(20))).collect();
        let gone: Vec<&str> = names.iter().map(|name| &name[..]).collect();
        let renamed: Vec<(&str, &str)> = gone.iter().map(|name| (*name, *name)).collect();
        let event = roster(&names, &gone, &renamed);
        assert!(event.json().len() < 1000 && event.line().len() < 1000, "{}", event.json().len());
        let short = roster(&[], &[], &[("a", "b"); 5000]);
        assert!(short.json().len() < 1000 && short.line().len() < 1000, "{}", short.json().len());
        let Event::Roster { came, more, .. } = &event else { unreachable!() };
        assert_eq!((came.count(), came.some.len() + came.more()), (5000, 5000));
        assert!(*more > 14_900);
        let short: Vec<String> = (0..5000).map(|number| format!("guest{number}")).collect();
        let event = roster(&short, &[], &[]);
        assert!(
            event.line().starts_with("* guest0, guest1, guest2, ") && event.line().ends_with(" more came in")
        );
    }

    proptest! {
        #[test]
        fn isolates_are_balanced_whatever_is_said(said in "[ab\u{202a}-\u{202e}\u{2066}-\u{2069}]{0,40}") {
            let shown = text(&said, TEXT_BYTES_MAX).expect("there is no control character");
            if let Some(inside) = shown.strip_prefix('\u{2068}').filter(|_| shown != said.as_str()) {
                let mut open = 1;
                for (at, c) in inside.char_indices() {
                    match c {
                        '\u{2066}'..='\u{2068}' => open += 1,
                        '\u{2069}' => open -= 1,
                        _ => {}
                    }
                    prop_assert_eq!(open == 0, at + c.len_utf8() == inside.len(), "only the last one closes ours");
                }
            } else {
                prop_assert_eq!(&shown, &said);
            }
        }

        #[test]
        fn whatever_is_let_in_stays_on_its_line_and_is_itself_again_behind_json(text in ".{0,60}") {
            if let Ok(text) = super::text(&text, TEXT_BYTES_MAX) {
                let event = Event::Said { seq: 1, at: 2, nick: "a", text: &text };
                prop_assert_eq!(event.line(), format!("a: {text}"));
                let broken = event.line().contains(['\n', '\r', '\u{1b}', '\u{2028}']);
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
