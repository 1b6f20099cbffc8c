//! The chat from outside: terminals and programs in the same rooms, and every way to be a bad guest.
#![cfg(all(feature = "cli", feature = "load", feature = "web"))]

use std::collections::BTreeSet;
use std::net::TcpStream;

use crate::support::*;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

const WS: &str = "ws://127.0.0.1:0";

/// A chat where terminals call at the first listener, and programs at the second.
fn chat(options: &[&str]) -> Server {
    let arguments = [&["serve", "chat", "--listen", TCP, "--listen", WS][..], options].concat();
    Server::start(&arguments)
}

/// Somebody at a terminal.
struct Caller(Client);

impl Caller {
    fn of(server: &Server) -> Caller {
        let mut caller = Caller(server.call());
        caller.hear("* welcome to the chat: /help lists the commands");
        caller
    }

    /// One who is called that.
    fn named(server: &Server, nick: &str) -> Caller {
        let mut caller = Caller::of(server);
        caller.say(&format!("/nick {nick}"));
        caller.hear_until(&format!("is now {nick}"));
        caller
    }

    fn say(&mut self, line: &str) {
        self.0.say(format!("{line}\n"));
    }

    fn hear_line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            match self.0.hear_exactly(1)[0] {
                b'\n' => return String::from_utf8(line).expect("lines are text"),
                byte => line.push(byte),
            }
        }
    }

    #[track_caller]
    fn hear(&mut self, expected: &str) {
        assert_eq!(self.hear_line(), expected);
    }

    /// A line that contains this, whatever comes before it.
    fn hear_until(&mut self, text: &str) -> String {
        loop {
            let line = self.hear_line();
            if line.contains(text) {
                return line;
            }
        }
    }
}

/// A program.
struct Program(WebSocket<TcpStream>);

impl Program {
    fn of(server: &Server) -> Program {
        let stream = TcpStream::connect(server.address(1)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let (socket, _) = tungstenite::client(&server.urls()[1], stream).expect("they shake hands");
        Program(socket)
    }

    /// One who is in this room.
    fn joined(server: &Server, room: &str, nick: &str) -> Program {
        let mut program = Program::of(server);
        program.say(json!({"type": "join", "room": room, "nick": nick}));
        program.hear("joined");
        program
    }

    fn say(&mut self, what: Value) {
        self.0.send(Message::text(what.to_string())).expect("it takes it");
    }

    fn hear_next(&mut self) -> Value {
        loop {
            match self.0.read().expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("it is JSON"),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next event, which is of this type.
    #[track_caller]
    fn hear(&mut self, kind: &str) -> Value {
        let event = self.hear_next();
        assert_eq!(event["type"], kind, "{event}");
        event
    }

    /// What was said, and whether nobody has left before that.
    fn hear_said(&mut self) -> bool {
        let mut nobody_left = true;
        loop {
            match self.hear_next()["type"].as_str() {
                Some("said") => return nobody_left,
                Some("went") => nobody_left = false,
                other => panic!("{other:?}"),
            }
        }
    }

    #[track_caller]
    fn hear_error(&mut self, code: &str) {
        let event = self.hear("error");
        assert_eq!(event["code"], code, "{event}");
    }
}

/// The connection was lost, and the server does not know it yet: its name would be taken.
#[test]
fn a_secret_gives_a_member_its_name_back_at_once_and_a_wrong_one_does_not() {
    let server = chat(&[]);
    let mut ghost = Program::of(&server);
    ghost.say(json!({"type": "join", "room": "lobby", "nick": "alice"}));
    let secret = ghost.hear("joined")["seat"].as_str().expect("a secret").to_owned();
    assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()), "{secret}");
    let mut bob = Program::joined(&server, "lobby", "bob");
    ghost.hear("came");

    let mut mallory = Program::of(&server);
    for guess in ["", "0", &"0".repeat(32), "x", &"f".repeat(400)] {
        mallory.say(json!({"type": "join", "room": "lobby", "nick": "alice", "seat": guess}));
        mallory.hear_error("nick_taken");
    }
    let mut alice = Program::of(&server);
    alice.say(json!({"type": "join", "room": "lobby", "nick": "alice", "seat": secret}));
    let joined = alice.hear("joined");
    assert_eq!((&joined["nick"], &joined["count"]), (&json!("alice"), &json!(2)));
    assert_ne!(joined["seat"], json!(secret), "each connection has its own");
    // Another window would come back by itself, if it was only cut off.
    ghost.hear("left");
    bob.say(json!({"type": "tell", "to": "alice", "text": "still there?"}));
    assert_eq!(alice.hear("told")["text"], "still there?");
    server.stop();
}

#[test]
fn a_terminal_and_a_program_are_in_the_same_room() {
    let server = chat(&[]);
    assert!(server.url().starts_with("tcp+lines://"), "what is said has an end: {}", server.url());
    let mut alice = Caller::of(&server);
    alice.hear("* you are guest1, in lobby");
    alice.hear("* 1 here: guest1");
    alice.say("/nick alice");
    alice.hear("* guest1 is now alice");
    alice.say("/topic tea and cake");
    alice.hear("* alice set the topic: tea and cake");
    alice.say("is anybody here?");

    let mut bob = Program::of(&server);
    bob.say(json!({"type": "join", "room": "Lobby", "nick": "bob"}));
    let joined = bob.hear("joined");
    assert_eq!(joined["topic"], "tea and cake");
    assert_eq!(joined["members"], json!(["alice", "bob"]));
    assert_eq!(
        (&joined["room"], &joined["nick"], &joined["count"]),
        (&json!("lobby"), &json!("bob"), &json!(2))
    );
    let before = bob.hear("said");
    assert_eq!((&before["nick"], &before["text"]), (&json!("alice"), &json!("is anybody here?")));
    assert!(before["seq"].as_u64() < joined["seq"].as_u64(), "it is history");
    alice.hear("* bob came in");

    bob.say(json!({"type": "say", "text": "I am: <b>\"bob\"</b>"}));
    alice.hear("bob: I am: <b>\"bob\"</b>");
    let own = bob.hear("said");
    assert_eq!(own["seq"].as_u64(), joined["seq"].as_u64().map(|seq| seq + 1));
    assert!(own["at"].as_u64() > Some(1_700_000_000));
    alice.say("welcome");
    assert_eq!(bob.hear("said")["text"], "welcome");

    let mut carol = Caller::named(&server, "Carol");
    assert_eq!(bob.hear("came")["nick"], "guest2");
    assert_eq!(bob.hear("renamed")["to"], "Carol");
    carol.say("/msg BOB just between us");
    let told = bob.hear("told");
    assert_eq!(
        (&told["nick"], &told["to"], &told["text"]),
        (&json!("Carol"), &json!("bob"), &json!("just between us"))
    );
    bob.say(json!({"type": "tell", "to": "carol", "text": "yes"}));
    carol.hear("bob to Carol: yes");
    bob.hear("told");
    bob.say(json!({"type": "who"}));
    assert_eq!(bob.hear("members")["members"], json!(["alice", "bob", "Carol"]));
    carol.say("/who");
    carol.hear("* 3 here: alice, bob, Carol");

    carol.say("/join garden");
    carol.hear("* you are Carol, in garden");
    assert_eq!(bob.hear("went")["nick"], "Carol");
    carol.hear_until("1 here");
    carol.say("/rooms");
    carol.hear("* 2 rooms");
    carol.hear("* lobby (2) tea and cake");
    carol.hear("* garden (1) ");
    alice.hear("* guest2 came in");
    alice.hear("* guest2 is now Carol");
    alice.hear("* Carol left");
    alice.say("/quit");
    alice.0.hear_end();
    assert_eq!(bob.hear("went")["nick"], "alice");
    server.stop();
}

#[test]
fn a_bad_guest_is_told_and_nobody_else_hears_of_it() {
    let server = chat(&["--rooms-max", "3"]);
    let mut bystander = Program::joined(&server, "lobby", "bystander");
    let mut program = Program::of(&server);
    let long = |count: usize| "x".repeat(count);
    for (what, code) in [
        (json!({"type": "say", "text": "hello"}), "not_joined"),
        (json!({"type": "join", "room": "lobby", "nick": "BYSTANDER"}), "nick_taken"),
        (json!({"type": "join", "room": "lobby", "nick": long(4096)}), "too_long"),
        (json!({"type": "join", "room": long(4096), "nick": "x"}), "too_long"),
        (json!({"type": "join", "room": "lobby", "nick": "a b"}), "not_printable"),
        (json!({"type": "join", "room": "lobby", "nick": "a\u{202e}b"}), "not_printable"),
        (json!({"type": "join", "room": "../etc", "nick": "x"}), "not_printable"),
        (json!({"type": "join", "room": 5, "nick": "x"}), "not_understood"),
        (json!({"type": "dance"}), "not_understood"),
        (json!({"type": "help"}), "not_understood"),
        (json!([1, 2]), "not_understood"),
        (json!({"type": "who"}), "not_joined"),
    ] {
        program.say(what);
        program.hear_error(code);
    }
    program.0.send(Message::text("hello")).expect("it takes it");
    program.hear_error("not_understood");
    program.0.send(Message::binary(vec![0xff, 0])).expect("it takes it");
    program.hear_error("not_text");
    program.say(json!({"type": "join", "room": "one", "nick": "x"}));
    program.hear("joined");
    for (what, code) in [
        (json!({"type": "say", "text": "\u{1b}[2J"}), "not_printable"),
        (json!({"type": "say", "text": "hello\n* bystander left"}), "not_printable"),
        (json!({"type": "say", "text": ""}), "not_understood"),
        (json!({"type": "say", "text": long(4001)}), "too_long"),
        (json!({"type": "topic", "text": long(401)}), "too_long"),
        (json!({"type": "tell", "to": "bystander", "text": "in another room"}), "nobody"),
        (json!({"type": "nick", "nick": ""}), "not_printable"),
    ] {
        program.say(what);
        program.hear_error(code);
    }

    // Three rooms are the most, the lobby among them; but one that has been left makes place.
    let _other = Program::joined(&server, "two", "y");
    let mut third = Program::of(&server);
    third.say(json!({"type": "join", "room": "three", "nick": "z"}));
    third.hear_error("rooms_full");
    program.say(json!({"type": "leave"}));
    program.hear("left");
    third.say(json!({"type": "join", "room": "three", "nick": "z"}));
    third.hear("joined");

    let mut terminal = Caller::of(&server);
    terminal.hear_until("2 here");
    bystander.hear("came");
    for (line, problem) in [
        (&b"\xff\xfe\n"[..], "error: a message must be text in UTF-8"),
        (b"/dance\n", "error: that is not understood: there is no such command, see /help"),
        (b"/nick\n", "error: that is not understood: /nick NAME, see /help"),
        (b"\x1b[A\n", "error: a text has no control characters"),
        (b"/nick bystander\n", "error: bystander is taken in this room: choose another name"),
    ] {
        terminal.0.say(line);
        terminal.hear(problem);
    }
    terminal.0.say(format!("/nick {}\n", long(4096)));
    terminal.hear("error: a nickname has at most 24 characters");
    terminal.say("/help");
    terminal.hear_until("//TEXT");
    // Of all that, the others have heard nothing.
    terminal.say("good day");
    assert_eq!(bystander.hear("said")["text"], "good day");
    server.stop();
}

#[test]
fn who_asks_too_often_is_told_and_not_served() {
    let server = chat(&["--messages-per-member", "1/5"]);
    let mut listener = Program::joined(&server, "lobby", "listener");
    let mut talker = Program::joined(&server, "lobby", "talker");
    listener.hear("came");
    for number in 0..20 {
        talker.say(json!({"type": "say", "text": number.to_string()}));
    }
    let answers: Vec<Value> = (0..20).map(|_| talker.hear_next()).collect();
    let said = answers.iter().filter(|answer| answer["type"] == "said").count();
    let refused = answers.iter().filter(|answer| answer["code"] == "too_fast").count();
    // The join was one of the five; a slow machine gives a few more.
    assert!(said >= 4 && refused >= 1 && said + refused == 20, "{said} said, {refused} refused");
    for number in 0..4 {
        assert_eq!(listener.hear("said")["text"], number.to_string());
    }
    server.stop();
}

/// One talks, one listens, and one does not read for a while.
fn somebody_reads_slowly(policy: &str) -> (Server, Program, u64, [Program; 2]) {
    let server = chat(&[
        "--slow-readers",
        policy,
        "--messages-per-member",
        "1000000",
        "--outbox-bytes-max",
        "256KiB",
        "--metrics",
        "--listen",
        "http://127.0.0.1:0",
    ]);
    let slow = Program::joined(&server, "lobby", "slow");
    let mut listener = Program::joined(&server, "lobby", "listener");
    let mut talker = Program::joined(&server, "lobby", "talker");
    listener.hear("came");
    let text = "x".repeat(3000);
    let mut said = 0;
    // The kernel takes some megabytes; the queue and the outbox less than one.
    for round in 0.. {
        assert!(round < 200, "nobody drops anything");
        for _ in 0..50 {
            talker.say(json!({"type": "say", "text": text}));
            said += 1;
            let _ = talker.hear_said();
            if !listener.hear_said() {
                return (server, slow, said, [listener, talker]);
            }
        }
        if dropped(&server) > 300 {
            break;
        }
    }
    talker.say(json!({"type": "say", "text": "the end"}));
    assert_eq!(listener.hear("said")["text"], "the end");
    (server, slow, said + 1, [listener, talker])
}

fn dropped(server: &Server) -> u64 {
    let answer = server.call_at(2).get("/metrics");
    let text = String::from_utf8(answer.body).expect("it is text");
    let line = text.lines().find(|line| line.starts_with("switchboard_chat_dropped_total"));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("it is counted")
}

/// What the slow one reads at last: everything, or how much is missing, where it is missing.
fn read_it_all(slow: &mut Program, last: u64) -> (u64, Vec<(u64, u64)>) {
    let (mut next, mut missed, mut gaps) = (0, 0, Vec::new());
    loop {
        let event = slow.hear_next();
        match event["seq"].as_u64() {
            Some(seq) => {
                let told: u64 = if next == 0 { 0 } else { seq - next };
                assert_eq!(told, missed, "before {seq}");
                (next, missed) = (seq + 1, 0);
                if seq == last {
                    return (gaps.iter().map(|(_, count)| count).sum(), gaps);
                }
            }
            None => {
                missed = event["missed"].as_u64().expect("it is a gap");
                gaps.push((next, missed));
            }
        }
    }
}

#[test]
fn the_oldest_are_dropped_for_who_reads_slowly_and_the_gap_is_told() {
    let (server, mut slow, said, _others) = somebody_reads_slowly("drop-oldest");
    // `slow`, `listener` and `talker` came: numbers 1 to 3.
    let (missed, gaps) = read_it_all(&mut slow, 3 + said);
    assert_eq!(missed, dropped(&server));
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    slow.say(json!({"type": "say", "text": "I am back"}));
    assert_eq!(slow.hear("said")["text"], "I am back");
    server.stop();
}

#[test]
fn the_newest_are_dropped_for_who_reads_slowly_and_the_gap_is_told() {
    let (server, mut slow, said, _others) = somebody_reads_slowly("drop-newest");
    // What comes last was dropped, too: the next thing that is said shows it.
    let (mut seen, mut missed) = (0, 0);
    while seen + missed < 3 + said {
        let event = slow.hear_next();
        match event["seq"].as_u64() {
            Some(seq) => seen = seen.max(seq),
            None => missed += event["missed"].as_u64().expect("it is a gap"),
        }
    }
    assert_eq!((missed, seen + missed), (dropped(&server), 3 + said));
    slow.say(json!({"type": "say", "text": "I am back"}));
    assert_eq!(slow.hear("said")["seq"], 4 + said);
    server.stop();
}

#[test]
fn who_reads_slowly_is_closed_where_that_is_the_policy() {
    let (server, _slow, said, _others) = somebody_reads_slowly("close");
    assert!(said > 0);
    assert_eq!(dropped(&server), 0);
    server.stop();
}

/// `count` programs, which have not joined yet.
fn crowd(server: &Server, count: usize) -> Vec<Program> {
    (0..count).map(|_| Program::of(server)).collect()
}

/// Names that are listed in an event.
fn names(event: &Value, field: &str) -> BTreeSet<String> {
    let list = event[field].as_array().unwrap_or_else(|| panic!("no {field} in {event}"));
    list.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// Hears which members came, or went, until it knows all of these; returns the last message. One turn is one message. On a
/// busy machine, a turn that is late leaves the rest to the next one, but not before it has served four.
fn rosters(watcher: &mut Program, key: &str, expected: &BTreeSet<String>) -> Value {
    let other = if key == "came" { "went" } else { "came" };
    let mut known = BTreeSet::new();
    for _ in 0..expected.len().div_ceil(4) + 1 {
        let news = watcher.hear("roster");
        assert_eq!(names(&news, other), BTreeSet::new(), "{news}");
        known.append(&mut names(&news, key));
        if known == *expected {
            return news;
        }
    }
    panic!("{known:?} {key}, and not yet {expected:?}");
}

#[test]
fn members_who_come_and_go_in_one_turn_are_one_message() {
    // Over a Unix socket what one side does is there at once, however busy the machine is.
    let directory = Directory::new();
    let unix = directory.url("unix", "chat");
    let server = Server::start(&["serve", "chat", "--listen", &unix, "--listen", WS]);
    let mut watcher = Program::joined(&server, "garden", "watcher");
    let mut terminal = Caller::named(&server, "terminal");
    terminal.say("/join garden");
    watcher.hear("came");
    let mut crowd: Vec<Caller> = (0..10).map(|_| Caller::of(&server)).collect();
    for caller in &mut crowd {
        caller.hear_until("you are guest");
    }
    server.pause();
    crowd.iter_mut().for_each(|caller| caller.say("/join garden"));
    server.go_on();
    let expected: BTreeSet<String> = (2..12).map(|number| format!("guest{number}")).collect();
    let news = rosters(&mut watcher, "came", &expected);
    assert_eq!((&news["count"], &news["more"], &news["renamed"]), (&json!(12), &json!(0), &json!([])));
    let mut told = BTreeSet::new();
    while told != expected {
        let line = terminal.hear_until("came in");
        told.extend(expected.iter().filter(|nick| line.split([' ', ',']).any(|word| word == *nick)).cloned());
    }

    // When this is answered, nothing is left to be written to them.
    for caller in &mut crowd {
        caller.say("/topic");
        caller.hear_until("no topic");
    }
    server.pause();
    drop(crowd);
    server.go_on();
    let news = rosters(&mut watcher, "went", &expected);
    terminal.hear_until(" left");
    terminal.say("good day");
    let said = watcher.hear("said");
    assert_eq!(said["seq"].as_u64(), news["seq"].as_u64().map(|seq| seq + 1), "no message was for nobody");
    server.stop();
}

#[test]
fn newcomers_of_one_turn_know_each_other() {
    let server = chat(&[]);
    let mut crowd = crowd(&server, 5);
    server.pause();
    for (number, program) in crowd.iter_mut().enumerate() {
        program.say(json!({"type": "join", "room": "lobby", "nick": format!("n{number}")}));
    }
    server.go_on();
    for program in &mut crowd {
        let joined = program.hear("joined");
        let (mut known, mut seq) = (names(&joined, "members"), joined["seq"].as_u64());
        assert!(known.contains(joined["nick"].as_str().expect("its own")), "{joined}");
        while known.len() < 5 {
            let news = program.hear_next();
            match news["type"].as_str() {
                Some("came") => known.extend([news["nick"].as_str().expect("a name").to_owned()]),
                Some("roster") => known.append(&mut names(&news, "came")),
                other => panic!("{other:?}"),
            }
            // The first news have the number of what it was told as it joined.
            let next = news["seq"].as_u64();
            assert!(next == seq || next == seq.map(|seq| seq + 1), "{news} after {seq:?}");
            seq = next;
        }
    }
    crowd[0].say(json!({"type": "say", "text": "all here?"}));
    for program in &mut crowd {
        assert_eq!(program.hear("said")["text"], "all here?");
    }
    server.stop();
}

#[test]
fn a_mass_reset_is_told_in_a_few_messages_and_not_in_one_for_each() {
    const MEMBERS: usize = 400;
    let server = chat(&[]);
    let mut watcher = Program::joined(&server, "lobby", "watcher");
    let crowd: Vec<Client> = (0..MEMBERS).map(|_| server.call()).collect();
    let mut here = 1;
    let count = |watcher: &mut Program, here: &mut u64, until: u64| {
        let mut messages = 0;
        while *here != until {
            let event = watcher.hear_next();
            *here = match event["type"].as_str() {
                Some("came") => *here + 1,
                Some("went") => *here - 1,
                _ => event["count"].as_u64().expect("it says how many are there"),
            };
            messages += 1;
        }
        messages
    };
    count(&mut watcher, &mut here, MEMBERS as u64 + 1);
    server.pause();
    crowd.into_iter().for_each(Client::reset);
    server.go_on();
    let messages = count(&mut watcher, &mut here, 1);
    assert!(messages <= 10, "{messages} messages for {MEMBERS} who were reset at once");
    server.stop();
}

#[test]
fn lists_come_in_pages_of_a_few_kilobytes() {
    let server = chat(&["--messages-per-member", "100000"]);
    let mut asker = Program::joined(&server, "lobby", "asker");
    let mut expected = BTreeSet::from(["asker".to_owned()]);
    let mut crowd = crowd(&server, 200);
    for (number, program) in crowd.iter_mut().enumerate() {
        let nick = format!("{number:03}-{}", "x".repeat(20));
        program.say(json!({"type": "join", "room": "lobby", "nick": nick}));
        let joined = program.hear_next();
        assert!(joined.to_string().len() < 4500, "{}", joined.to_string().len());
        assert_eq!(joined["count"], number + 2);
        expected.insert(nick);
    }
    let mut page = |what: &str, after: Value| {
        asker.say(json!({"type": what, "after": after}));
        loop {
            let event = asker.hear_next();
            // News of those who come and go are in between.
            if !matches!(event["type"].as_str(), Some("came" | "went" | "roster")) {
                return event;
            }
        }
    };
    let (mut listed, mut after, mut pages) = (BTreeSet::new(), Value::Null, 0);
    loop {
        let answer = page("who", after.clone());
        assert!(answer.to_string().len() < 4500, "{}", answer.to_string().len());
        assert_eq!((&answer["count"], &answer["after"]), (&json!(201), &after));
        listed.append(&mut names(&answer, "members"));
        pages += 1;
        after = answer["next"].clone();
        if after.is_null() {
            break;
        }
    }
    assert_eq!((listed, pages > 1), (expected, true));

    // Everybody makes a room, with a topic that is as long as can be.
    let topic = "\"".repeat(400);
    for (number, program) in crowd.iter_mut().enumerate() {
        program.say(json!({"type": "join", "room": format!("r{number}")}));
        program.say(json!({"type": "topic", "text": topic}));
        while program.hear_next()["type"] != "topic" {}
    }
    let (mut listed, mut after) = (Vec::new(), json!(0));
    loop {
        let answer = page("rooms", after.clone());
        assert!(answer.to_string().len() < 4500, "{}", answer.to_string().len());
        assert_eq!((&answer["count"], &answer["after"]), (&json!(201), &after));
        listed.extend(answer["rooms"].as_array().expect("rooms").iter().map(|room| room["room"].to_string()));
        after = answer["next"].clone();
        if after.is_null() {
            break;
        }
    }
    let unique: BTreeSet<&String> = listed.iter().collect();
    assert_eq!((listed.len(), unique.len()), (201, 201));
    assert_eq!(page("rooms", json!(5000))["rooms"], json!([]), "there are no more");

    let mut terminal = Caller::of(&server);
    terminal.say("/join r1");
    terminal.say("/rooms");
    let more = terminal.hear_until("* more: /rooms ");
    terminal.say(more.strip_prefix("* more: ").expect("what to say"));
    terminal.hear_until("* 201 rooms");
    terminal.hear_until("* more: /rooms ");
    server.stop();
}

#[test]
fn an_address_that_joins_over_and_over_is_refused_and_others_are_not() {
    let server = chat(&["--joins-per-ip", "1/3"]);
    let mut members: Vec<Caller> = (0..3).map(|_| Caller::of(&server)).collect();
    for member in &mut members {
        member.hear_until("you are guest");
    }
    // A connection for each join gets it no further, and neither does another room.
    let mut refused = 0;
    for _ in 0..5 {
        let mut more = Caller::of(&server);
        let line = more.hear_line();
        match line.starts_with("error: your address joins too often, at most 1 times a second") {
            true => refused += 1,
            false => assert!(line.starts_with("* you are guest"), "{line}"), // a second has passed
        }
        more.0.reset();
    }
    assert!(refused >= 3, "{refused} of 5");
    // It is there, all the same, and may join later; and another address is not held up.
    let other = |socket: &socket2::Socket| {
        let local: std::net::SocketAddr = "127.0.0.2:0".parse().expect("an address");
        socket.bind(&local.into()).expect("all of 127.0.0.0/8 is ours");
    };
    let mut elsewhere = Caller(Client::prepared(server.url(), other));
    elsewhere.hear("* welcome to the chat: /help lists the commands");
    elsewhere.hear_until("you are guest");
    let mut late = Caller::of(&server);
    until("it may join", || {
        late.say("/join garden");
        late.hear_until("").contains("in garden").then_some(())
    });
    server.stop();
}

#[test]
fn a_new_connection_does_not_give_an_address_a_new_burst() {
    let server = chat(&["--messages-per-member", "1/60"]);
    let mut talker = Program::of(&server);
    talker.say(json!({"type": "join", "room": "lobby"}));
    talker.hear("joined");
    for _ in 0..59 {
        talker.say(json!({"type": "who"}));
        talker.hear("members");
    }
    let mut watcher = Caller::of(&server);
    watcher.hear_until("2 here");
    drop(talker);
    watcher.hear_until(" left");
    let mut again = Program::of(&server);
    let mut served = 0;
    for _ in 0..60 {
        again.say(json!({"type": "rooms"}));
        served += u64::from(again.hear_next()["type"] == "rooms");
    }
    // A slow machine gives a few more.
    assert!(served < 50, "{served} of 60: it begins where the last connection ended");
    // The bucket was one connection's: it is the next one's, and not everybody's.
    let mut third = Program::of(&server);
    third.say(json!({"type": "rooms"}));
    third.hear("rooms");
    server.stop();
}

#[test]
#[cfg(target_os = "linux")]
fn memory_of_a_burst_of_joins_is_given_back() {
    const MEMBERS: usize = 900;
    need_descriptors(2 * MEMBERS as u64 + 100);
    let server = chat(&[]);
    Caller::of(&server).hear_until("1 here");
    let begin = server.rss();
    for _ in 0..2 {
        let members: Vec<Caller> = (0..MEMBERS).map(|_| Caller::of(&server)).collect();
        let mut last = Caller::of(&server);
        last.hear_until("you are guest");
        drop(members);
        until("all are gone", || {
            last.say("/who");
            last.hear_until("here: ").starts_with("* 1 here").then_some(())
        });
    }
    let (peak, end) = (server.peak_rss() - begin, server.rss().saturating_sub(begin));
    assert!(peak < 16 * MIB, "{} KiB at the peak", peak / 1024);
    assert!(end < 8 * MIB, "{} KiB after", end / 1024);
    server.stop();
}

#[test]
fn the_page_is_served_and_its_socket_speaks_the_subprotocol() {
    let server = Server::start(&["serve", "chat", "--listen", "http://127.0.0.1:0"]);
    let mut browser = server.call();
    for (path, kind, part) in [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/chat.css", "text/css; charset=utf-8", "prefers-color-scheme"),
        ("/chat.js", "text/javascript; charset=utf-8", "switchboard.chat.v1"),
    ] {
        let answer = browser.get(path);
        assert_eq!((answer.status, answer.field("content-type")), (200, Some(kind)), "{path}");
        assert!(
            answer
                .field("content-security-policy")
                .is_some_and(|policy| policy.contains("default-src 'none'"))
        );
        assert!(String::from_utf8_lossy(&answer.body).contains(part), "{path}");
    }
    assert_eq!(browser.get("/healthz").status, 200);
    assert_eq!(browser.get("/etc/passwd").status, 404);
    browser.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(browser.hear_answer("POST").status, 405);
    for (asked, answered) in [
        ("switchboard.chat.v1", Some("switchboard.chat.v1")),
        ("other, switchboard.chat.v1", Some("switchboard.chat.v1")),
        ("other", None),
    ] {
        let mut client = server.call();
        client.say(format!(
            "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: {asked}\r\n\r\n"
        ));
        let answer = client.hear_answer("GET");
        assert_eq!((answer.status, answer.field("sec-websocket-protocol")), (101, answered), "{asked}");
    }
    server.stop();
}

#[test]
fn lines_over_unix_sockets_and_prefixed_messages_are_in_it_too() {
    let directory = Directory::new();
    let unix = directory.url("unix", "chat");
    let server = Server::start(&["serve", "chat", "--listen", &unix, "--listen", PREFIXED]);
    let mut alice = Caller::of(&server);
    alice.hear_until("1 here");
    let mut prefixed = server.call_at(1);
    alice.hear("* guest2 came in");
    prefixed.say([&12u32.to_be_bytes()[..], b"good morning"].concat());
    alice.hear("guest2: good morning");
    alice.say("and to you");
    let heard = prefixed.hear_exactly(4);
    assert_eq!(heard, 47u32.to_be_bytes(), "the length of the welcome");
    prefixed.hear_exactly(47);
    let mut next = || {
        let len = prefixed.hear_exactly(4);
        let len = u32::from_be_bytes(len.try_into().expect("four bytes"));
        String::from_utf8(prefixed.hear_exactly(len as usize)).expect("it is text")
    };
    assert!(next().starts_with("* you are guest2, in lobby"));
    assert_eq!(next(), "guest1: and to you");
    server.stop();
}

#[test]
fn a_name_of_any_script_is_one_name_in_both_of_its_forms() {
    let server = chat(&[]);
    let mut members = Vec::new();
    for nick in ["हिन्दी", "தமிழ்", "ส้ม", "שָׁ", "မြန်မာ", "José"]
    {
        let mut member = Program::of(&server);
        member.say(json!({"type": "join", "room": "garden", "nick": nick}));
        assert_eq!(member.hear("joined")["nick"], nick);
        members.push(member);
    }
    let mut bob = Program::joined(&server, "garden", "bob");
    bob.say(json!({"type": "nick", "nick": "Jose\u{301}"}));
    bob.hear_error("nick_taken");
    bob.say(json!({"type": "tell", "to": "jose\u{301}", "text": "psst"}));
    assert_eq!(bob.hear("told")["to"], "José");
    // A name with what cannot be seen in it.
    for nick in ["ali\u{200b}ce", "\u{202e}ecila", "ali\u{ad}ce", "\u{3164}", "a\u{fe0f}"] {
        bob.say(json!({"type": "nick", "nick": nick}));
        bob.hear_error("not_printable");
    }
    // A room is the same in both forms, too.
    bob.say(json!({"type": "join", "room": "cafe\u{301}"}));
    assert_eq!(bob.hear("joined")["room"], "café");
    let mut carol = Program::joined(&server, "Café", "carol");
    carol.say(json!({"type": "who"}));
    assert_eq!(carol.hear("members")["count"], 2);
    server.stop();
}

#[test]
fn a_copy_of_a_present_name_is_refused() {
    let server = chat(&[]);
    let mut alice = Program::joined(&server, "garden", "alice");
    let mut mallory = Program::joined(&server, "garden", "mallory");
    alice.hear("came");
    for copy in ["\u{430}lice", "al\u{456}ce", "a1ice", "ALICE", "\u{410}LICE"] {
        mallory.say(json!({"type": "nick", "nick": copy}));
        mallory.hear_error("nick_taken");
        let mut stranger = Program::of(&server);
        stranger.say(json!({"type": "join", "room": "garden", "nick": copy}));
        stranger.hear_error("nick_taken");
    }
    // A room that looks like another one is no better.
    mallory.say(json!({"type": "join", "room": "g\u{430}rden"}));
    mallory.hear_error("room_taken");
    // Where she is not, or is gone, anybody may look like her.
    mallory.say(json!({"type": "nick", "nick": "a-lice"}));
    mallory.hear("renamed");
    alice.hear("renamed");
    drop(alice);
    mallory.hear("went");
    mallory.say(json!({"type": "nick", "nick": "a1ice"}));
    mallory.hear("renamed");
    server.stop();
}

#[test]
fn a_text_that_turns_around_is_kept_to_itself() {
    let server = chat(&[]);
    let mut alice = Caller::named(&server, "alice");
    let mut bob = Program::joined(&server, "lobby", "bob");
    alice.hear_until("bob came in");
    bob.say(json!({"type": "say", "text": "\u{202e}:ecila"}));
    alice.hear("bob: \u{2068}\u{202e}:ecila\u{2069}");
    assert_eq!(bob.hear("said")["text"], "\u{2068}\u{202e}:ecila\u{2069}");
    // It can't end our isolation itself.
    alice.say("\u{2069}\u{202e}x\u{2067}");
    assert_eq!(bob.hear("said")["text"], "\u{2068}\u{202e}x\u{2067}\u{2069}\u{2069}");
    bob.say(json!({"type": "topic", "text": "\u{202e}tea"}));
    alice.hear("* bob set the topic: \u{2068}\u{202e}tea\u{2069}");
    // What begins a new line for some programs does so for nobody.
    for text in ["a\u{2028}alice: b", "a\u{2029}alice: b", "a\u{85}alice: b"] {
        bob.say(json!({"type": "tell", "to": "alice", "text": text}));
    }
    bob.hear("topic");
    for _ in 0..3 {
        bob.hear_error("not_printable");
    }
    server.stop();
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    for (arguments, problem) in [
        (&["serve", "chat", "--listen", UDP][..], "the service chat is for streams"),
        (&["serve", "echo", "--rooms-max", "5"], "--rooms-max is for the service chat"),
        (&["serve", "chat", "--slow-readers", "punish"], "punish"),
        (&["serve", "chat", "--messages-per-member", "0"], "--messages-per-member"),
        (&["serve", "chat", "--joins-per-ip", "0/5"], "--joins-per-ip"),
        (&["serve", "echo", "--joins-per-ip", "5"], "--joins-per-ip is for the service chat"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(problem) && text.trim_end().lines().count() == 1, "{text}");
    }
}
