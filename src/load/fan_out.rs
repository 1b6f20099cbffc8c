//! Fan-out: a room of many members, in which a few speak. How fast does each message reach all members, and do all get all?
//!
//! ```text
//! connect ── join ── warm-up ──┬── measured ──┬── deliveries still out ── report
//! ```
//!
//! Each message holds its sender and its number, and is compared byte for byte at each member. A *delivery* is one
//! message at one member. The report's replies are deliveries here, and what was offered is what should have been
//! delivered. Latency runs from when a message was due (in a closed loop: sent) until it arrived, at each member.
//!
//! In a closed loop a sender has `depth` messages in flight: the next one follows when one has come back to the sender. So
//! a closed loop finds the most that a server can do. To see what members get at some rate, set the rate.
//!
//! One thread does it, with the library's own reactor. Invariant: a message that any member misses, gets twice or gets
//! damaged is counted, whatever else happens.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::account::Account;
use super::caller::dial;
use super::crew::limits;
use super::figures;
use super::http::Asked;
use super::pacer::Pacer;
use super::plan::{Plan, WarmUp};
use super::report::{FanOut, PlanFigures, Report, WarmUp as WarmUpFigures};
use super::run::{Circumstances, Outcome, Progress, Stage, begun, count_up, nanoseconds};
use super::shape::shape;
use super::timeline::Window;
use super::timeline::{SLICE_NS, Tally, Timeline};
use super::verdict;
use super::websocket::{self, Event, Frames};
use super::witness::{self, Witness};
use crate::reactor::{Board, BoardOf, Buffer, CloseReason, Handler, Moment, Peer, Reactor};
use crate::transport::{Address, Stream};

/// `@` and four digits of the sender, `:` and ten of the number, `@`; the rest of the text is filled up.
const MARK_BYTES: usize = 17;

/// Longer ones are no messages of a room, and would be kept for each member.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Connections and joins that are under way at a time.
const OPENING_MAX: usize = 200;

/// Messages of one sender whose times are known. A member that gets an older one has missed a million.
const KNOWN_MAX: usize = 1 << 20;

/// By default, what a member sends to join: the message of our own chat.
pub const JOIN: &str = r#"{"type":"join","room":"{room}","nick":"bench{process}-{conn}"}"#;
/// By default, how a member sends a text; see [`JOIN`].
pub const SAY: &str = r#"{"type":"say","text":"{text}"}"#;

/// The options beyond the [`Plan`]. Its `connections` are the members, and its `depth` is that of each sender.
#[derive(Debug, Clone)]
pub struct Room {
    /// Its name.
    pub name: String,
    /// How many of the members speak.
    pub senders: usize,
    /// What each member sends first; `{room}`, `{conn}` and `{process}` are filled in. If it is empty, nothing.
    pub join: String,
    /// The message of a sender; `{text}` is filled in.
    pub say: String,
    /// How long the text is.
    pub text_bytes: usize,
}

impl Room {
    /// What can't be done, in one line.
    ///
    /// # Errors
    /// That line.
    pub fn check(&self, plan: &Plan) -> Result<(), String> {
        if self.senders == 0 || self.senders > plan.connections.min(10_000) {
            return Err(format!("--senders {}: take from 1 to the number of --connections", self.senders));
        }
        if self.text_bytes < MARK_BYTES || self.text_bytes > 32 * 1024 {
            return Err(format!(
                "--size {}: with --fan-out, take from {MARK_BYTES} to 32768",
                self.text_bytes
            ));
        }
        if !self.say.contains("{text}") {
            return Err("--say must have {text} in it, where the text goes".into());
        }
        if plan.threads != 1 {
            return Err("--fan-out is done by one thread: leave --threads out".into());
        }
        Ok(())
    }
}

/// One member, as the server knows it.
struct Member {
    peer: Option<Peer>,
    stage: At,
    frames: Frames,
    /// The part of the next message that has come.
    message: Vec<u8>,
    /// The next number of each sender.
    next: Box<[u32]>,
    /// Where the last mark was found: the next one is usually there, too.
    mark_at: usize,
    missed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Down,
    Opening,
    Joining,
    In,
    Gone,
}

/// When a message was due, and when it was sent.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    due_ns: u64,
    sent_ns: u64,
}

/// A member that speaks.
#[derive(Default)]
struct Speaker {
    sent: u32,
    /// The times of the latest messages, oldest first.
    times: VecDeque<Times>,
    /// Messages that have not come back to the sender yet.
    in_flight: usize,
}

impl Speaker {
    /// The times of this message; 0 for one that is too old.
    fn times_of(&self, number: u32) -> Times {
        let age = (self.sent - number) as usize;
        self.times.len().checked_sub(age).map_or(Times::default(), |at| self.times[at])
    }
}

struct Hall<'a> {
    plan: &'a Plan,
    room: &'a Room,
    asked: &'a Asked,
    began: Instant,
    members: Vec<Member>,
    speakers: Vec<Speaker>,
    opening: usize,
    inside: usize,
    down: usize,
    account: Account,
    tally: Tally,
    window: Window,
    speaking: bool,
    /// Deliveries that are still missing, of members that are there.
    outstanding: u64,
    /// A sender was sent its own message, in the warm-up or after it: a closed loop lives by that.
    came_back: bool,
    fatal: Option<String>,
    filling: Vec<u8>,
}

impl Hall<'_> {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Opens the next connections, [`OPENING_MAX`] at a time.
    fn dial(&mut self, board: &mut BoardOf<Self>) {
        while self.opening < OPENING_MAX && self.down < self.members.len() && self.fatal.is_none() {
            let index = self.down;
            self.down += 1;
            let source = self.plan.sources.get(index % self.plan.sources.len().max(1)).copied();
            match dial(self.plan, source).and_then(|stream| board.connect(stream, index as u32)) {
                Ok(peer) => {
                    self.members[index].peer = Some(peer);
                    self.members[index].stage = At::Opening;
                    self.opening += 1;
                }
                Err(error) => {
                    self.fatal.get_or_insert(format!("cannot connect to {}: {error}", self.plan.target));
                }
            }
        }
    }

    fn text(&self, sender: usize, number: u32) -> String {
        let mut text = format!("@{sender:04}:{number:010}@");
        text.push_str(std::str::from_utf8(&self.filling).expect("letters are text"));
        text
    }

    fn speak(&mut self, board: &mut BoardOf<Self>, sender: usize, due_ns: u64) {
        let (number, now_ns) = (self.speakers[sender].sent, self.now_ns());
        let Some(peer) = self.members[sender].peer else {
            // The server closed the sender's connection. Its messages are due all the same.
            self.account.fail(|it| &mut it.unsent, self.window, due_ns, 1);
            self.tally.failures += 1;
            if self.window.holds(due_ns) {
                self.account.offered += self.inside as u64;
                self.account.infinite += self.inside as u64;
            }
            return;
        };
        let text = self.text(sender, number);
        let message = self.room.say.replace("{text}", &text);
        let mask = [(number >> 3) as u8, 0x5a, number as u8, 0xc3];
        self.members[sender].frames.write_message(message.len(), [message.as_bytes()], mask, &mut |bytes| {
            board.send(peer, bytes);
        });
        let speaker = &mut self.speakers[sender];
        speaker.sent += 1;
        speaker.in_flight += 1;
        speaker.times.push_back(Times { due_ns, sent_ns: now_ns });
        if speaker.times.len() > KNOWN_MAX {
            speaker.times.pop_front();
        }
        self.account.sent += 1;
        self.tally.offered += self.inside as u64;
        self.outstanding += self.inside as u64;
        if self.window.holds(due_ns) {
            self.account.offered += self.inside as u64;
            self.account.send_lag.record(now_ns.saturating_sub(due_ns));
        }
    }

    /// In a closed loop, each sender with a free place sends.
    fn speak_on(&mut self, board: &mut BoardOf<Self>, sender: usize) {
        while self.speaking && self.plan.rate.is_none() && self.speakers[sender].in_flight < self.plan.depth {
            let now_ns = self.now_ns();
            self.speak(board, sender, now_ns);
        }
    }

    /// A member has received a message.
    fn receive(&mut self, index: usize, now_ns: u64) {
        let member = &mut self.members[index];
        let message = std::mem::take(&mut member.message);
        self.judge(index, &message, now_ns);
        self.members[index].message = message;
        self.members[index].message.clear();
    }

    fn judge(&mut self, index: usize, message: &[u8], now_ns: u64) {
        let member = &mut self.members[index];
        let Some(at) = find_mark(message, member.mark_at) else {
            if holds(message, b"\"type\":\"error\"") && self.fatal.is_none() {
                let text = String::from_utf8_lossy(&message[..message.len().min(200)]);
                let text = figures::clean(&text); // it goes to a terminal
                self.fatal = Some(format!("{} refuses what is said: {text}", self.plan.target));
            }
            return; // something else that the server has to say
        };
        member.mark_at = at;
        let mark = &message[at..at + MARK_BYTES];
        let (Some(sender), Some(number)) = (decimal(&mark[1..5]), decimal(&mark[6..16])) else { return };
        let Some(speaker) = self.speakers.get_mut(sender as usize) else { return };
        if number >= u64::from(speaker.sent) {
            return; // another run's
        }
        let (sender, number) = (sender as usize, number as u32);
        let text = &message[at + MARK_BYTES..];
        let is_right = text.get(..self.filling.len()) == Some(&self.filling[..]);
        let next = &mut member.next[sender];
        if number < *next {
            self.account.fail(|it| &mut it.duplicated, self.window, now_ns, 1);
            self.tally.failures += 1;
            return;
        }
        let missed = *next..number;
        *next = number + 1;
        self.outstanding = self.outstanding.saturating_sub(1 + missed.len() as u64);
        let Times { due_ns, sent_ns } = speaker.times_of(number);
        if sender == index {
            self.came_back = true;
            speaker.in_flight = speaker.in_flight.saturating_sub(1 + missed.len());
        }
        self.lose(index, sender, missed);
        self.account.received += 1;
        if !is_right {
            self.account.fail(|it| &mut it.corrupted, self.window, due_ns, 1);
            self.tally.failures += 1;
            self.account.infinite += u64::from(self.window.holds(due_ns));
            return;
        }
        let took_ns = now_ns.saturating_sub(due_ns);
        self.tally.record(took_ns, 1);
        if self.window.holds(due_ns) {
            self.account.replies += 1;
            self.account.service.record(now_ns.saturating_sub(sent_ns));
            if self.plan.rate.is_some() {
                self.account.response.record(took_ns);
            }
        }
        if self.window.holds(now_ns) {
            self.account.arrived += 1;
        }
    }

    /// The member has not received these messages, and will not.
    fn lose(&mut self, index: usize, sender: usize, numbers: Range<u32>) {
        let count = numbers.len() as u64;
        self.members[index].missed += count;
        self.tally.failures += count;
        for number in numbers {
            let due_ns = self.speakers[sender].times_of(number).due_ns;
            self.account.fail(|it| &mut it.lost, self.window, due_ns, 1);
            self.account.infinite += u64::from(self.window.holds(due_ns));
        }
    }

    /// Counts as lost what a member has not received by the end of the run, or of its connection.
    fn lose_the_rest(&mut self, index: usize) {
        for sender in 0..self.speakers.len() {
            let (sent, next) = (self.speakers[sender].sent, self.members[index].next[sender]);
            self.members[index].next[sender] = sent;
            self.outstanding = self.outstanding.saturating_sub(u64::from(sent - next));
            self.lose(index, sender, next..sent);
        }
    }

    /// The member has joined.
    fn enter(&mut self, index: usize) {
        self.members[index].stage = At::In;
        self.opening -= 1;
        self.inside += 1;
    }
}

impl Handler for Hall<'_> {
    type Transport = Stream;
    type State = u32;

    fn admit(
        &mut self,
        _listener: usize,
        _stream: &mut Stream,
        _address: &Address,
        _now: Moment,
    ) -> Option<u32> {
        None // we listen nowhere
    }

    fn on_open(&mut self, board: &mut Board<Stream, u32>, peer: Peer) {
        let fields = &self.asked.fields;
        board.send(peer, &websocket::handshake(&self.asked.path, &self.asked.host, fields));
        self.account.connected += 1;
    }

    fn on_bytes(&mut self, board: &mut Board<Stream, u32>, from: Peer, inbox: &mut Buffer) {
        let Some(index) = board.state(from).map(|index| *index as usize) else { return };
        let now_ns = self.now_ns();
        let mut taken = 0;
        loop {
            let Member { frames, message, .. } = &mut self.members[index];
            let event = frames.receive(&inbox.bytes()[taken..], |part| message.extend_from_slice(part));
            if message.len() > MESSAGE_BYTES_MAX {
                let problem =
                    format!("{} sends a message of more than {MESSAGE_BYTES_MAX} bytes", self.plan.target);
                self.fatal.get_or_insert(problem);
                message.clear();
                break;
            }
            match event {
                Event::More(count) => {
                    taken += count;
                    frames.write_pong(&mut |bytes| board.send(from, bytes));
                    break;
                }
                Event::Message(count) => {
                    taken += count;
                    match self.members[index].stage {
                        At::In => self.receive(index, now_ns),
                        _ => {
                            // The answer to what was asked, whatever it says; what was wrong with it is said below.
                            let is_asked = self.members[index].stage == At::Joining;
                            self.receive(index, now_ns);
                            if is_asked {
                                self.enter(index);
                            }
                        }
                    }
                }
                Event::Open(count) => {
                    taken += count;
                    self.members[index].stage = At::Joining;
                    let join = self
                        .room
                        .join
                        .replace("{room}", &self.room.name)
                        .replace("{conn}", &index.to_string())
                        .replace("{process}", &std::process::id().to_string());
                    match join.is_empty() {
                        true => self.enter(index),
                        false => {
                            let bytes = [join.as_bytes()];
                            let frames = &mut self.members[index].frames;
                            frames.write_message(join.len(), bytes, [1, 2, 3, 4], &mut |bytes| {
                                board.send(from, bytes)
                            });
                        }
                    }
                }
                Event::Refused(status) => {
                    let problem = format!("{} answers the handshake with {status}", self.plan.target);
                    self.fatal.get_or_insert(problem);
                    break;
                }
                Event::Closed => {
                    board.finish(from);
                    break;
                }
                Event::Garbage => {
                    self.fatal.get_or_insert(format!("{} speaks no WebSocket", self.plan.target));
                    break;
                }
            }
        }
        inbox.consume(taken);
        if index < self.speakers.len() {
            self.speak_on(board, index);
        }
    }

    fn on_close(&mut self, _board: &mut Board<Stream, u32>, _peer: Peer, index: u32, reason: CloseReason) {
        let index = index as usize;
        let member = &mut self.members[index];
        member.peer = None;
        let was = std::mem::replace(&mut member.stage, At::Gone);
        match was {
            At::In => {
                self.account.fail(|it| &mut it.reset, self.window, self.now_ns(), 1);
                self.lose_the_rest(index);
                self.inside -= 1;
            }
            At::Opening | At::Joining => {
                self.opening -= 1;
                self.account.fail(|it| &mut it.refused, self.window, self.now_ns(), 1);
                self.fatal.get_or_insert(format!(
                    "cannot connect to {}: {reason}; is a server listening there?",
                    self.plan.target
                ));
            }
            At::Down | At::Gone => {}
        }
        if self.inside == 0 && was == At::In {
            self.fatal.get_or_insert(format!("{} went away in the middle of the run", self.plan.target));
        }
    }
}

/// Where a mark is: probably where the last one was.
fn find_mark(message: &[u8], hint: usize) -> Option<usize> {
    let is_mark = |at: usize| {
        message.get(at..at + MARK_BYTES).is_some_and(|it| it[0] == b'@' && it[5] == b':' && it[16] == b'@')
    };
    if is_mark(hint) {
        return Some(hint);
    }
    (0..message.len().saturating_sub(MARK_BYTES - 1)).find(|at| is_mark(*at))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    digits
        .iter()
        .try_fold(0u64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

fn holds(message: &[u8], part: &[u8]) -> bool {
    message.windows(part.len()).any(|window| window == part)
}

/// Runs a fan-out, as [`run`](super::run::run) runs a plan of single dialogues.
pub fn run(
    plan: &Plan,
    room: &Room,
    circumstances: &Circumstances,
    interrupted: &AtomicBool,
    observe: &mut dyn FnMut(&Progress<'_>),
) -> Outcome {
    let mut report = Report { plan: figures(plan, room), verified: true, ..begun(plan, circumstances) };
    let problem = match carry_out(plan, room, circumstances, interrupted, observe, &mut report) {
        Ok(()) if interrupted.load(Ordering::Relaxed) => {
            report.partial_because = Some("interrupted".into());
            None
        }
        Ok(()) => None,
        Err(problem) => {
            report.partial_because = Some(problem.clone());
            Some(problem)
        }
    };
    report.partial = report.partial_because.is_some();
    report.verdict = verdict::judge(&report, None);
    Outcome { report, problem }
}

fn carry_out(
    plan: &Plan,
    room: &Room,
    circumstances: &Circumstances,
    interrupted: &AtomicBool,
    observe: &mut dyn FnMut(&Progress<'_>),
    report: &mut Report,
) -> Result<(), String> {
    let Some(asked) = &plan.asked else { return Err("--fan-out is for ws:// and wss://".into()) };
    if let Some(cpu) = plan.pin {
        let mut cpus = CpuSet::new();
        cpus.set(cpu)
            .and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus))
            .map_err(|error| format!("--pin {cpu}: cannot run on that CPU: {error}"))?;
    }
    let member = || Member {
        peer: None,
        stage: At::Down,
        frames: Frames::default(),
        message: Vec::new(),
        next: vec![0; room.senders].into(),
        mark_at: 0,
        missed: 0,
    };
    let hall = Hall {
        plan,
        room,
        asked,
        began: Instant::now(),
        members: (0..plan.connections).map(|_| member()).collect(),
        speakers: (0..room.senders).map(|_| Speaker::default()).collect(),
        opening: 0,
        inside: 0,
        down: 0,
        account: Account::default(),
        tally: Tally::default(),
        window: Window { from_ns: u64::MAX, to_ns: u64::MAX },
        speaking: false,
        outstanding: 0,
        came_back: false,
        fatal: None,
        // Letters that are themselves in JSON, and not the same ones for all lengths of a run.
        filling: (0..room.text_bytes - MARK_BYTES).map(|at| b'a' + (at % 26) as u8).collect(),
    };
    let limits = limits(plan.connections, plan.timeout);
    let broken = |error: std::io::Error| format!("cannot set up the generator: {error}");
    let us = witness::this_thread().into_iter().collect();
    let mut run = Run {
        reactor: Reactor::new(hall, limits).map_err(broken)?,
        witness: Some(Witness::new(&plan.target, circumstances.server, us)?),
        timeline: Timeline::default(),
        pacer: None,
        next_sender: 0,
        slice_end_ns: SLICE_NS,
        worked_ns: 0,
        lasted_ns: 0,
        interrupted,
        observe,
    };
    let outcome = run.all(report);
    run.report(report);
    outcome
}

struct Run<'a> {
    reactor: Reactor<Hall<'a>>,
    witness: Option<Witness>,
    timeline: Timeline,
    pacer: Option<Pacer>,
    next_sender: usize,
    slice_end_ns: u64,
    worked_ns: u64,
    lasted_ns: u64,
    interrupted: &'a AtomicBool,
    observe: &'a mut dyn FnMut(&Progress<'_>),
}

impl Run<'_> {
    fn all(&mut self, report: &mut Report) -> Result<(), String> {
        let plan = self.reactor.handler().plan;
        let members = plan.connections;
        let patience = nanoseconds(plan.timeout.saturating_add(plan.ramp));
        let mut told_at_ns = 0;
        let mut told = 0;
        loop {
            let (hall, board) = self.reactor.handler_and_board();
            hall.dial(board);
            if hall.inside == members {
                break;
            }
            let (now_ns, inside) = (hall.now_ns(), hall.inside);
            if inside > told {
                (told, told_at_ns) = (inside, now_ns);
            }
            if now_ns - told_at_ns > patience {
                let target = &plan.target;
                return Err(format!(
                    "only {inside} of {members} members got into the room at {target} within {:?}: does it speak \
                     WebSocket, and answer what --join says?",
                    plan.timeout
                ));
            }
            self.turn(Stage::Connecting, 0, now_ns + patience)?;
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(());
            }
        }

        let began_ns = self.reactor.handler().now_ns();
        self.reactor.handler().speaking = true;
        match plan.rate {
            Some(rate) => self.pacer = Some(Pacer::new(rate, 0, 1, began_ns, plan.seed)),
            None => {
                for sender in 0..self.reactor.handler().speakers.len() {
                    let (hall, board) = self.reactor.handler_and_board();
                    hall.speak_on(board, sender);
                }
            }
        }
        let warm_up = match plan.warm_up {
            WarmUp::For(time) => time,
            // Rooms settle fast: their members are there already.
            WarmUp::Auto => (plan.duration / 3).min(Duration::from_secs(1)),
        };
        let from_ns = (began_ns + nanoseconds(warm_up)).next_multiple_of(SLICE_NS);
        let window = Window { from_ns, to_ns: from_ns + nanoseconds(plan.duration) };
        self.reactor.handler().window = window;
        report.warm_up = WarmUpFigures {
            cut_s: (from_ns - began_ns) as f64 / 1e9,
            because: if plan.warm_up == WarmUp::Auto { "as is usual for rooms" } else { "asked for" }.into(),
        };
        if let Some(pacer) = &mut self.pacer {
            pacer.ramp(window.from_ns, window.to_ns);
        }
        let mut outcome = self.until(Stage::WarmUp, began_ns, window.from_ns);
        if let Some(witness) = &mut self.witness {
            witness.begin();
        }
        let before = self.bytes();
        (self.worked_ns, self.lasted_ns) = (0, 0);
        if outcome.is_ok() {
            outcome = self.until(Stage::Measuring, window.from_ns, window.to_ns);
        }
        let after = self.bytes();
        let replies = self.timeline.replies_since(window.from_ns);
        if let Some(witness) = self.witness.take() {
            let testimony = witness.finish(members as u32, replies, replies);
            report.generator = testimony.generator;
            report.generator.busy = self.worked_ns as f64 / self.lasted_ns.max(1) as f64;
            report.server = testimony.server;
            report.kernel = testimony.kernel;
        }
        let hall = self.reactor.handler();
        hall.window.to_ns = hall.now_ns().min(window.to_ns);
        (hall.account.bytes_in, hall.account.bytes_out) = (after.0 - before.0, after.1 - before.1);
        hall.speaking = false;
        self.pacer = None;
        outcome?;

        let began_ns = self.reactor.handler().now_ns();
        let until_ns = began_ns + nanoseconds(plan.timeout);
        while self.reactor.handler().outstanding > 0
            && self.reactor.handler().now_ns() < until_ns
            && !self.interrupted.load(Ordering::Relaxed)
        {
            self.turn(Stage::Finishing, began_ns, until_ns)?;
        }
        let hall = self.reactor.handler();
        match (hall.account.received, hall.account.sent, plan.rate) {
            (0, sent, _) => Err(format!("nobody was told any of {sent} messages by {}", plan.target)),
            (_, _, None) if !hall.came_back => {
                Err(format!("a member's messages do not come back to it at {}: give a --rate", plan.target))
            }
            _ => Ok(()),
        }
    }

    fn until(&mut self, stage: Stage, since_ns: u64, until_ns: u64) -> Result<(), String> {
        while !self.interrupted.load(Ordering::Relaxed) {
            let now_ns = self.reactor.handler().now_ns();
            let owes = |pacer: &mut Pacer| stage == Stage::Measuring && pacer.catches_up(until_ns, now_ns);
            if now_ns >= until_ns && !self.pacer.as_mut().is_some_and(owes) {
                break;
            }
            self.turn(stage, since_ns, until_ns)?;
        }
        Ok(())
    }

    fn bytes(&mut self) -> (u64, u64) {
        let counters = self.reactor.board().counters();
        (counters.bytes_in, counters.bytes_out)
    }

    /// Sends what is due, sleeps until something happens or is due, and handles what happened.
    fn turn(&mut self, stage: Stage, since_ns: u64, until_ns: u64) -> Result<(), String> {
        /// The poll counts milliseconds: below this, the clock is watched.
        const WATCH_NS: u64 = 1_100_000;
        let began_ns = self.reactor.handler().now_ns();
        if began_ns >= self.slice_end_ns {
            self.close_slice(stage, since_ns, until_ns, began_ns);
        }
        let mut now_ns = began_ns;
        while let Some(pacer) = &mut self.pacer
            && pacer.next_ns() <= now_ns
        {
            let due_ns = pacer.take();
            let (hall, board) = self.reactor.handler_and_board();
            let sender = self.next_sender;
            self.next_sender = (self.next_sender + 1) % hall.speakers.len();
            hall.speak(board, sender, due_ns);
            now_ns = hall.now_ns();
            if now_ns - began_ns > 1_000_000 {
                break; // what comes must not wait until we have caught up
            }
        }
        self.reactor.write_all_now();
        let due_ns = self.pacer.as_ref().map_or(u64::MAX, Pacer::next_ns).saturating_sub(WATCH_NS);
        let sleep_ns = self.slice_end_ns.min(due_ns).saturating_sub(now_ns);
        let turn = self.reactor.turn(Some(Duration::from_nanos(sleep_ns)));
        let turn = turn.map_err(|error| format!("the poll failed: {error}"))?;
        let worked_ns = if turn.events == 0 { 0 } else { turn.worked.as_nanos() as u64 };
        self.worked_ns += worked_ns + (now_ns - began_ns);
        self.lasted_ns += self.reactor.handler().now_ns() - began_ns;
        match self.reactor.handler().fatal.clone() {
            Some(problem) => Err(problem),
            None => Ok(()),
        }
    }

    fn close_slice(&mut self, stage: Stage, since_ns: u64, until_ns: u64, now_ns: u64) {
        let hall = self.reactor.handler();
        let index = now_ns / SLICE_NS;
        let tally = std::mem::replace(&mut hall.tally, Tally { index, ..Tally::default() });
        let (open, is_measured) = (hall.inside, tally.index * SLICE_NS < hall.window.to_ns);
        if !tally.is_empty() && is_measured {
            self.timeline.add(&tally);
        }
        self.slice_end_ns = (index + 1) * SLICE_NS;
        if let Some(witness) = &mut self.witness {
            witness.sample();
        }
        (self.observe)(&Progress {
            stage,
            elapsed: Duration::from_nanos(now_ns.saturating_sub(since_ns)),
            total: Duration::from_nanos(until_ns.saturating_sub(since_ns)),
            open,
            timeline: &self.timeline,
            now_ns,
        });
    }

    fn report(&mut self, report: &mut Report) {
        let now_ns = self.reactor.handler().now_ns();
        self.close_slice(Stage::Finishing, 0, 0, now_ns);
        let hall = self.reactor.handler();
        for index in 0..hall.members.len() {
            if hall.members[index].stage == At::In {
                hall.lose_the_rest(index);
            }
        }
        let mut missed: BTreeMap<u64, u32> = BTreeMap::new();
        hall.members.iter().for_each(|member| *missed.entry(member.missed).or_default() += 1);
        let from_ns = hall.window.from_ns;
        let account = std::mem::take(&mut hall.account);
        count_up(report, &account, hall.window);
        report.latency.service = account.service.latency(account.infinite);
        report.latency.response = match hall.plan.rate {
            Some(_) => account.response.latency(account.infinite),
            None => report.latency.service.clone(),
        };
        report.latency.send_lag = hall.plan.rate.and_then(|_| account.send_lag.latency(0));
        self.timeline.reach(hall.window);
        report.timeline = self.timeline.slices(hall.window);
        report.shape = shape(&self.timeline.all(from_ns).rows());
        report.fan_out = Some(FanOut {
            room: hall.room.name.clone(),
            members: hall.members.len() as u32,
            senders: hall.speakers.len() as u32,
            sent: account.sent,
            complete: missed.get(&0).copied().unwrap_or(0),
            missed_most: missed.last_key_value().map_or(0, |(most, _)| *most),
            missed: missed.into_iter().collect(),
        });
        // Closes gracefully: the members leave, and the server takes none of them for a broken connection.
        let peers: Vec<Peer> = self.reactor.board().peers().collect();
        peers.into_iter().for_each(|peer| self.reactor.board().finish(peer));
        self.reactor.write_all_now();
        self.reactor.cut();
    }
}

fn figures(plan: &Plan, room: &Room) -> PlanFigures {
    // A rate of messages, in deliveries.
    let deliveries = |per_s: f64| per_s * plan.connections as f64;
    PlanFigures {
        connections: plan.connections as u32,
        // The deliveries that can be in flight to each member.
        depth: u32::try_from(plan.depth * room.senders).unwrap_or(u32::MAX),
        rate_from_per_s: plan.rate.map(|rate| deliveries(rate.from_per_s)),
        rate_to_per_s: plan.rate.map(|rate| deliveries(rate.to_per_s)),
        arrivals: plan.rate.map(|rate| rate.arrivals.name().into()),
        size_min_bytes: room.text_bytes as u64,
        size_max_bytes: room.text_bytes as u64,
        threads: 1,
        timeout_s: plan.timeout.as_secs_f64(),
        seed: plan.seed,
        ..PlanFigures::default()
    }
}
