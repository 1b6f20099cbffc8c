//! The caller: the clients of one generator thread, as a handler on the reactor.
//!
//! It opens connections, keeps `depth` messages in flight on each, and passes what comes back to the
//! connection's [`Dialogue`]. It decides nothing about the run: the crew sets when to talk and what is
//! measured.
//!
//! The clock is read once for each read from a socket, not once a turn: otherwise, with hundreds of replies in a turn,
//! the last ones would seem as fast as the first.
//!
//! Invariant: a message is in flight, or owed, or has been accounted for.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::account::Ledger;
use super::dialogue::{Dialogue, Flight, Missed, Received};
use super::plan::Plan;
use super::script::{Rendered, Script};
use crate::endpoint::Endpoint;
use crate::reactor::{BoardOf, Buffer, CloseReason, Handler, Moment, Peer, Route};
use crate::transport::{Address, Stream};

/// Connections that are being opened at a time. More would overflow a listener's backlog, and that would be measured.
const OPENING_MAX: usize = 128;

/// Messages of an open loop that may wait for a free place on their connection. Further ones count as
/// unsent.
const OWED_MAX: usize = 1 << 16;

/// Messages in flight on one socket of an open loop over UDP. Nothing there says that a datagram was lost, so one that has
/// no reply must not keep the next one from being sent, whatever the depth.
const DATAGRAMS_IN_FLIGHT_MAX: usize = 1 << 16;

/// Wrong replies, without a right one, after which a run ends: in number, or as long after the first one.
const WRONG_ENOUGH: u32 = 100;

/// How many bytes of a wrong answer are shown: enough for an explanation.
const FIRST_BYTES_SHOWN: usize = 100;
const WRONG_FOR_NS: u64 = 500_000_000;

/// Connections that are begun in a row before events are handled. Otherwise the connect time of the first one would
/// include the calls for all others.
const DIALS_PER_TURN: usize = 8;

/// How long a connection that was refused or lost rests before it is tried again, at first and at most.
const RETRY_NS: u64 = 10_000_000;
const RETRY_NS_MAX: u64 = 1_000_000_000;

/// The addresses that stand in when the ports of 127.0.0.1 run out.
const SOURCES_MAX: u8 = 254;

/// Nanoseconds since the run began, the same for all its threads.
#[derive(Debug, Clone, Copy)]
pub struct Clock(pub Instant);

impl Clock {
    /// Nanoseconds since the run began.
    #[inline]
    pub fn now_ns(self) -> u64 {
        let elapsed = self.0.elapsed();
        elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos())
    }
}

/// One connection, whether it is open or not.
struct Line {
    dialogue: Dialogue,
    /// The due times of messages that have found no free place yet.
    owed: VecDeque<u64>,
    /// The due times of messages that must be sent again: the server announced the end of their connection without serving
    /// them.
    again: VecDeque<u64>,
    peer: Option<Peer>,
    stage: Stage,
    /// When it began to be opened.
    dialled_ns: u64,
    retry_ns: u64,
}

impl Line {
    /// There is a free place, and a message for it.
    #[inline]
    fn has_to_say(&self, depth: usize, open_loop: bool) -> bool {
        self.dialogue.in_flight() < depth
            && !(open_loop && self.owed.is_empty() && self.again.is_empty())
            && self.dialogue.is_ready()
            && !self.dialogue.is_over()
    }

    /// When the next message was due. In a closed loop that is when it got its place.
    #[inline]
    fn next_due(&mut self, open_loop: bool, churn: bool, now_ns: u64) -> u64 {
        match (open_loop, churn) {
            (true, _) => self.owed.pop_front().unwrap_or(now_ns),
            (false, true) => self.dialled_ns,
            (false, false) => now_ns,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not opened yet, or resting until this moment.
    Down(u64),
    Opening,
    Open,
}

/// How many messages may be in flight on one connection, or socket.
#[inline]
fn depth(plan: &Plan) -> usize {
    match plan.target {
        Endpoint::Udp(_) if plan.rate.is_some() => DATAGRAMS_IN_FLIGHT_MAX,
        _ => plan.depth,
    }
}

/// A stream to the plan's target, from this address.
pub(super) fn dial(plan: &Plan, source: Option<IpAddr>) -> io::Result<Stream> {
    match &plan.target {
        Endpoint::Tcp(address, _) => Stream::connect_from(*address, source),
        Endpoint::Tls(address, ..) => {
            let stream = Stream::connect_from(*address, source)?;
            match &plan.tls {
                Some(tls) => stream.secure(tls),
                None => Ok(stream),
            }
        }
        Endpoint::Unix(path, _) => Stream::connect_unix(path),
        Endpoint::Udp(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "datagrams are no stream")),
    }
}

/// See the module's text.
pub struct Caller {
    /// What has been counted.
    pub ledger: Ledger,
    /// Messages are sent.
    pub talking: bool,
    /// Lines from this one on send nothing, for an experiment.
    pub silent_from: usize,
    /// Why the run cannot go on, in one line.
    pub fatal: Option<String>,
    /// A reply was right, or at least an answer of the protocol.
    ever_right: bool,
    /// When the first wrong reply came, while none was right, and how many have come.
    wrong: Option<(u64, u32)>,
    plan: Arc<Plan>,
    script: Arc<Script>,
    clock: Clock,
    rendered: Rendered,
    /// First the lines that talk, then the idle ones.
    lines: Vec<Line>,
    talkers: usize,
    /// The number of the first line: threads have different ones.
    first: u32,
    /// Lines to open, in order.
    down: VecDeque<usize>,
    opening: usize,
    open: usize,
    ever_open: bool,
    source: usize,
    sources: Vec<IpAddr>,
    /// The line that sends the next due message.
    next: usize,
    closing: bool,
}

impl Caller {
    /// With `talkers` connections that talk and `idle` that don't, numbered from `first`.
    pub fn new(
        plan: Arc<Plan>,
        script: Arc<Script>,
        clock: Clock,
        ledger: Ledger,
        (talkers, idle, first): (usize, usize, u32),
    ) -> Caller {
        let line = |index| Line {
            dialogue: Dialogue::new(first + index as u32, script.framing()),
            owed: VecDeque::new(),
            again: VecDeque::new(),
            peer: None,
            stage: Stage::Down(0),
            dialled_ns: 0,
            retry_ns: RETRY_NS,
        };
        let lines: Vec<Line> = (0..talkers + idle).map(line).collect();
        Caller {
            ledger,
            talking: false,
            silent_from: usize::MAX,
            fatal: None,
            ever_right: false,
            wrong: None,
            sources: plan.sources.clone(),
            plan,
            clock,
            rendered: Rendered::default(),
            down: (0..talkers + idle).collect(),
            lines,
            script,
            talkers,
            first,
            opening: 0,
            open: 0,
            ever_open: false,
            source: 0,
            next: 0,
            closing: false,
        }
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Messages that have no reply yet, or could not be sent yet.
    pub fn unfinished(&self) -> bool {
        let unfinished =
            |line: &Line| line.dialogue.in_flight() > 0 || !line.owed.is_empty() || !line.again.is_empty();
        self.lines.iter().any(unfinished)
    }

    /// Opens the connections that should be open by now, at most `allowed` in all.
    pub fn dial(&mut self, board: &mut BoardOf<Self>, now_ns: u64, allowed: usize) {
        for _ in 0..DIALS_PER_TURN {
            if self.opening >= OPENING_MAX || self.opening + self.open >= allowed {
                return;
            }
            let Some(&index) = self.down.front() else { return };
            match self.lines[index].stage {
                Stage::Down(until_ns) if until_ns <= now_ns => {}
                _ => return, // the others have been waiting for a shorter time
            }
            self.down.pop_front();
            self.dial_line(board, index, now_ns);
        }
    }

    /// When to try the next of the lines that rest.
    pub fn next_dial_ns(&self) -> Option<u64> {
        match self.lines[*self.down.front()?].stage {
            Stage::Down(until_ns) => Some(until_ns),
            _ => None,
        }
    }

    fn dial_line(&mut self, board: &mut BoardOf<Self>, index: usize, now_ns: u64) {
        if let Endpoint::Udp(_) = self.plan.target {
            self.lines[index].stage = Stage::Open; // there is nothing to be opened
            self.lines[index].peer = None;
            self.open += 1;
            self.ledger.account.connected += 1;
            self.talk(board, index, now_ns);
            return;
        }
        self.lines[index].dialled_ns = self.clock.now_ns();
        let outcome = loop {
            let source = self.sources.get(self.source % self.sources.len().max(1)).copied();
            match dial(&self.plan, source).and_then(|stream| board.connect(stream, index as u32)) {
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && self.next_source() => {}
                outcome => break outcome,
            }
        };
        let line = &mut self.lines[index];
        match outcome {
            Ok(peer) => {
                line.peer = Some(peer);
                line.stage = Stage::Opening;
                self.opening += 1;
            }
            Err(error) => self.failed_to_open(index, error.kind(), now_ns),
        }
    }

    /// The ports of this source have run out: takes the next source. False if there is none.
    fn next_source(&mut self) -> bool {
        let Some(SocketAddr::V4(target)) = self.plan.target.address() else { return false };
        if self.plan.sources.is_empty() && self.sources.is_empty() && target.ip().is_loopback() {
            self.sources = (1..=SOURCES_MAX).map(|last| Ipv4Addr::new(127, 0, 0, last).into()).collect();
            self.source = 0;
        }
        if self.source + 1 >= self.sources.len() {
            return false;
        }
        self.source += 1;
        true
    }

    fn failed_to_open(&mut self, index: usize, kind: io::ErrorKind, now_ns: u64) {
        self.ledger.fail(|it| &mut it.refused, now_ns);
        self.rest(index, now_ns);
        let words = match kind {
            io::ErrorKind::NotFound => "no such file".into(),
            kind => self.refusal_of_tls().unwrap_or_else(|| kind.to_string()),
        };
        let nobody_there = matches!(kind, io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        if nobody_there && self.open == 0 {
            self.fatal.get_or_insert_with(|| match self.ever_open {
                true => format!("{} went away: {words} in the middle of the run", self.plan.target),
                false => {
                    format!("cannot connect to {}: {words}; is a server listening there?", self.plan.target)
                }
            });
        } else if kind == io::ErrorKind::AddrNotAvailable {
            self.fatal.get_or_insert_with(|| {
                format!(
                    "no free port is left to connect to {}: give more addresses with --source",
                    self.plan.target
                )
            });
        } else if !self.ever_open && kind != io::ErrorKind::WouldBlock {
            self.fatal.get_or_insert_with(|| format!("cannot connect to {}: {words}", self.plan.target));
        }
    }

    /// Describes what failed in TLS, and what to do about it.
    #[cfg(feature = "tls")]
    fn refusal_of_tls(&self) -> Option<String> {
        use crate::transport::tls::TlsRefusal;
        Some(match self.plan.tls.as_ref()?.refusal()? {
            TlsRefusal::UnknownAuthority => {
                "no authority of the --ca file has signed its certificate: give the one that has".into()
            }
            TlsRefusal::WrongName => {
                "its certificate is for another name: say with --server-name which one to expect".into()
            }
            TlsRefusal::Expired => "its certificate has expired: the server needs a new one".into(),
            TlsRefusal::NotYetValid => "its certificate is not valid yet: compare the clocks".into(),
            TlsRefusal::WantsCertificate => {
                "it wants a client certificate that it trusts: give --client-cert and --client-key".into()
            }
            TlsRefusal::NoTls => {
                "it does not speak TLS: take http://, ws:// or tcp:// instead of https://, wss:// or tls://"
                    .into()
            }
            TlsRefusal::Other(words) if words.contains("CaUsedAsEndEntity") => {
                "its certificate is an authority's own (CA:TRUE), which no server may show: make one with \
                 basicConstraints=CA:FALSE, or say --insecure in a test"
                    .into()
            }
            TlsRefusal::Other(words) => format!("TLS: {words}"),
        })
    }

    #[cfg(not(feature = "tls"))]
    fn refusal_of_tls(&self) -> Option<String> {
        None
    }

    /// Ends the run if the server speaks another protocol: no reply was right on any connection, and the first bytes show
    /// which protocol it is, or enough wrong replies have come.
    fn note_wrong(&mut self, first: &[u8], now_ns: u64) {
        let (since_ns, count) = self.wrong.get_or_insert((now_ns, 0));
        *count += 1;
        let is_enough = *count >= WRONG_ENOUGH || now_ns.saturating_sub(*since_ns) >= WRONG_FOR_NS;
        let name = self.plan.name();
        let shown = || format!("{:?}", String::from_utf8_lossy(first));
        let request = self.script.request_begins();
        let problem = if request.is_some() && first.starts_with(b"HTTP/1.") {
            self.ever_right = true; // it is the right protocol, and another text
            return;
        } else if first.starts_with(b"HTTP/1.") {
            format!("{name} answers in HTTP: take http:// for it")
        } else if matches!(first, [0x15 | 0x16, 3, ..]) {
            format!("{name} answers in TLS: take tls://, https:// or wss:// for it")
        } else if request.is_some_and(|request| first.starts_with(request)) {
            format!("{name} sends our request back: it speaks no HTTP. For an echo take tcp://")
        } else if is_enough {
            format!("{name} answers something else than was expected: its first bytes were {}", shown())
        } else {
            return;
        };
        self.fatal.get_or_insert(problem);
    }

    /// Whether requests that have no answer may be sent again on another connection: those that change nothing when they
    /// are repeated (RFC 9110 section 9.2.2).
    fn may_ask_again(&self, index: usize) -> bool {
        #[cfg(feature = "web")]
        if let Some(asked) = &self.plan.asked {
            return asked.is_idempotent() && self.lines[index].dialogue.is_between_answers();
        }
        let _ = index;
        false
    }

    /// The line is down for a while.
    fn rest(&mut self, index: usize, now_ns: u64) {
        let line = &mut self.lines[index];
        line.peer = None;
        line.stage = Stage::Down(now_ns + line.retry_ns);
        line.retry_ns = (2 * line.retry_ns).min(RETRY_NS_MAX);
        self.down.push_back(index);
    }

    /// Each line sends what it can.
    pub fn talk_all(&mut self, board: &mut BoardOf<Self>) {
        let now_ns = self.clock.now_ns();
        for index in 0..self.talkers {
            self.talk(board, index, now_ns);
        }
    }

    /// An open loop's message is due: it goes to the next line in turn.
    pub fn due(&mut self, board: &mut BoardOf<Self>, due_ns: u64, now_ns: u64) {
        let index = self.next;
        self.next = (self.next + 1) % self.talkers.min(self.silent_from);
        let line = &mut self.lines[index];
        if line.owed.len() == OWED_MAX {
            return self.ledger.unsent(due_ns);
        }
        let at_once = line.owed.is_empty() && line.dialogue.in_flight() < depth(&self.plan);
        if !at_once && self.silent_from != usize::MAX {
            return; // an experiment behind the window: the line is busy, and that is all it asks
        }
        line.owed.push_back(due_ns);
        self.talk(board, index, now_ns);
        if at_once {
            self.ledger.lag(due_ns, now_ns.saturating_sub(due_ns));
        }
    }

    /// Fills the free places of one line.
    #[inline]
    fn talk(&mut self, board: &mut BoardOf<Self>, index: usize, now_ns: u64) {
        let open_loop = self.plan.rate.is_some();
        // No new messages are sent any more. Those that a server has not served are sent again.
        let only_again = !self.talking;
        if index >= self.talkers.min(self.silent_from) || (only_again && self.lines[index].again.is_empty()) {
            return;
        }
        let line = &mut self.lines[index];
        if line.stage != Stage::Open {
            return;
        }
        let (depth, churn) = (depth(&self.plan), self.plan.churn);
        if !line.has_to_say(depth, open_loop) {
            return;
        }
        let Some(peer) = line.peer else { return self.talk_in_datagrams(board, index, now_ns) };
        // Looked up once for all messages that are sent now. `None`: it is about to close.
        let Some((_, mut outbox)) = board.outbox(peer) else { return };
        while line.has_to_say(depth, open_loop) && !(only_again && line.again.is_empty()) {
            let again = line.again.pop_front();
            let due_ns = again.unwrap_or_else(|| line.next_due(open_loop, churn, now_ns));
            let put = |part: &[u8]| outbox.put(part);
            line.dialogue.write_message(&self.script, &mut self.rendered, due_ns, now_ns, put);
            if again.is_none() {
                self.ledger.sent(due_ns);
            }
        }
    }

    fn talk_in_datagrams(&mut self, board: &mut BoardOf<Self>, index: usize, now_ns: u64) {
        let Endpoint::Udp(address) = self.plan.target else { return };
        let (line, open_loop) = (&mut self.lines[index], self.plan.rate.is_some());
        while line.has_to_say(depth(&self.plan), open_loop) {
            let due_ns = line.next_due(open_loop, self.plan.churn, now_ns);
            let mut datagram = Vec::new();
            let put = |part: &[u8]| datagram.extend_from_slice(part);
            line.dialogue.write_message(&self.script, &mut self.rendered, due_ns, now_ns, put);
            board.send_to(index, address, &datagram);
            self.ledger.sent(due_ns);
        }
    }

    /// Gives up messages that have waited too long for their reply, and goes on.
    pub fn give_up(&mut self, board: &mut BoardOf<Self>, now_ns: u64) {
        for index in 0..self.talkers {
            let (ledger, mut was_wrong) = (&mut self.ledger, false);
            self.lines[index].dialogue.end_doubt(|received| {
                was_wrong = true;
                ledger.note(received, now_ns);
            });
            if was_wrong {
                self.talk(board, index, now_ns);
            }
        }
        let timeout_ns = u64::try_from(self.plan.timeout.as_nanos()).unwrap_or(u64::MAX);
        let Some(sent_before_ns) = now_ns.checked_sub(timeout_ns) else { return };
        for index in 0..self.talkers {
            let ledger = &mut self.ledger;
            let mut missed_some = false;
            self.lines[index].dialogue.give_up(sent_before_ns, |missed| {
                missed_some = true;
                ledger.miss(missed);
            });
            match self.lines[index].peer {
                // There is one message per connection, so the connection is done.
                Some(peer) if missed_some && (self.plan.churn || self.lines[index].dialogue.is_over()) => {
                    let line = &mut self.lines[index];
                    line.again.extend(line.dialogue.withdraw());
                    board.close(peer);
                }
                _ if missed_some => self.talk(board, index, now_ns),
                _ => {}
            }
        }
    }

    /// No new message is due from now on. In an open loop, messages that were due and had to wait are still sent.
    pub fn fall_silent(&mut self) {
        self.talking = self.plan.rate.is_some();
        self.closing = true;
    }

    /// Gives up what was due: messages without a free place are unsent, and those that would be sent again are lost.
    pub fn drop_owed(&mut self) {
        for line in &mut self.lines {
            line.owed.drain(..).for_each(|due_ns| self.ledger.unsent(due_ns));
            line.again.drain(..).for_each(|due_ns| self.ledger.lost(due_ns));
        }
    }

    /// The run is over: replies that are still missing did not come in time. If the run was `cut_short` they might have come, so
    /// they do not count.
    pub fn end(&mut self, cut_short: bool) {
        (self.talking, self.closing) = (false, true);
        if cut_short {
            return;
        }
        self.drop_owed();
        for line in &mut self.lines {
            line.dialogue.give_up(u64::MAX, |missed| self.ledger.miss(missed));
        }
    }
}

impl Handler for Caller {
    type Transport = Stream;
    /// The line's index.
    type State = u32;

    fn admit(
        &mut self,
        _listener: usize,
        _stream: &mut Stream,
        _address: &Address,
        _now: Moment,
    ) -> Option<u32> {
        None // there are no listeners
    }

    fn on_open(&mut self, board: &mut BoardOf<Self>, peer: Peer) {
        let Some(index) = board.state(peer).map(|index| *index as usize) else { return };
        let now_ns = self.clock.now_ns();
        let line = &mut self.lines[index];
        line.stage = Stage::Open;
        line.retry_ns = RETRY_NS;
        self.opening -= 1;
        self.open += 1;
        self.ever_open = true;
        self.ledger.account.connected += 1;
        let mut took_ns = now_ns.saturating_sub(line.dialled_ns);
        if let Some(secured) = board.transport(peer).and_then(Stream::secured) {
            let handshake_ns = u64::try_from(secured.took.as_nanos()).unwrap_or(u64::MAX);
            took_ns = took_ns.saturating_sub(handshake_ns);
            self.ledger.account.handshake.record(handshake_ns);
            self.ledger.account.resumed += u64::from(secured.resumed);
        }
        self.ledger.account.connect.record(took_ns);
        if let Some(handshake) = self.script.handshake() {
            return board.send(peer, handshake);
        }
        self.talk(board, index, now_ns);
    }

    #[inline]
    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        let Some(index) = board.state(from).map(|index| *index as usize) else { return inbox.clear() };
        let now_ns = self.clock.now_ns();
        let (line, ledger) = (&mut self.lines[index], &mut self.ledger);
        // Replies to messages that were sent together take the same time: they are counted together.
        let mut together: Option<(Flight, u64)> = None;
        let was_ready = line.dialogue.is_ready();
        let unknown = !self.ever_right;
        let first: Vec<u8> = match unknown {
            true => inbox.bytes().iter().copied().take(FIRST_BYTES_SHOWN).collect(),
            false => Vec::new(),
        };
        let (mut right, mut wrong) = (false, false);
        let count =
            line.dialogue.receive(&self.script, &mut self.rendered, inbox.bytes(), |received| {
                match (received, &mut together) {
                    (Received::Answer(flight), Some((first, count))) if first.is_beside(&flight) => {
                        *count += 1
                    }
                    (Received::Answer(flight), together) => {
                        if let Some((flight, count)) = together.replace((flight, 1)) {
                            ledger.answer(flight, now_ns, count);
                        }
                    }
                    (received, _) => {
                        wrong |= matches!(received, Received::Corrupted(_));
                        right |= matches!(received, Received::Late(_) | Received::Status(..));
                        ledger.note(received, now_ns);
                    }
                }
            });
        if let Some((flight, count)) = together {
            right = true;
            ledger.answer(flight, now_ns, count);
        }
        if unknown {
            self.ever_right = right;
            if !right && (wrong || self.lines[index].dialogue.is_astray()) {
                self.note_wrong(&first, now_ns);
            }
        }
        let line = &mut self.lines[index];
        inbox.consume(count);
        let is_over = line.dialogue.is_over();
        if is_over {
            // The server did not serve them, and announced that (RFC 9112 section 9.6).
            line.again.extend(line.dialogue.withdraw());
        }
        #[cfg(feature = "web")]
        if line.dialogue.owes_a_pong()
            && let Some((_, mut outbox)) = board.outbox(from)
        {
            line.dialogue.write_pong(|part| outbox.put(part));
        }
        if let Some(status) = line.dialogue.refused() {
            self.fatal.get_or_insert_with(|| {
                format!("{} does not become a WebSocket: it answers with status {status}", self.plan.name())
            });
        }
        if is_over || (self.plan.churn && was_ready && line.dialogue.in_flight() == 0) {
            return match self.plan.target {
                Endpoint::Tls(..) => board.finish(from), // without a close_notify, we would have been cut off
                _ => board.close(from),
            };
        }
        self.talk(board, index, now_ns);
    }

    fn on_datagram(&mut self, board: &mut BoardOf<Self>, socket: usize, _route: Route, bytes: &[u8]) {
        let now_ns = self.clock.now_ns();
        let (Some(line), ledger) = (self.lines.get_mut(socket), &mut self.ledger) else { return };
        line.dialogue.receive_datagram(&self.script, &mut self.rendered, bytes, |received| match received {
            // UDP keeps no order, and promises none.
            Received::Late(flight) => {
                ledger.account.out_of_order += 1;
                ledger.answer(flight, now_ns, 1);
            }
            received => ledger.note(received, now_ns),
        });
        self.talk(board, socket, now_ns);
    }

    fn on_close(&mut self, board: &mut BoardOf<Self>, _peer: Peer, index: u32, reason: CloseReason) {
        let index = index as usize;
        let now_ns = self.clock.now_ns();
        let was_open = self.lines[index].stage == Stage::Open;
        match was_open {
            true => self.open -= 1,
            false => self.opening -= 1,
        }
        if self.closing && reason == CloseReason::Cut {
            return;
        }
        if !was_open {
            let kind = match reason {
                CloseReason::Unestablished(kind) | CloseReason::Failed(kind) => kind,
                _ => io::ErrorKind::TimedOut,
            };
            return self.failed_to_open(index, kind, now_ns);
        }
        let finished = matches!(reason, CloseReason::Finished | CloseReason::Lingered);
        let is_over = self.lines[index].dialogue.is_over();
        let renews = self.plan.churn || is_over;
        let said_all = renews && finished && self.lines[index].dialogue.in_flight() == 0;
        if !self.ever_right
            && reason == CloseReason::Failed(io::ErrorKind::InvalidData)
            && let Some(words) = self.refusal_of_tls()
        {
            self.fatal.get_or_insert(format!("{} ends its connections: {words}", self.plan.target));
        }
        let own = reason == CloseReason::Closed || said_all;
        // A server may end an idle connection at any time, without announcing it (RFC 9112 section 9.5).
        // Requests that it has not begun to answer are sent again at once. That holds only for a connection that has brought an
        // answer: otherwise it would go on for ever.
        let reset = reason == CloseReason::Reset;
        let silently = !is_over && !self.plan.churn && (finished || reset) && self.may_ask_again(index);
        if silently {
            let line = &mut self.lines[index];
            let before = line.again.len();
            line.again.extend(line.dialogue.withdraw());
            self.ledger.account.retried += (line.again.len() - before) as u64;
            self.ledger.account.ended_silently += 1;
        }
        let (own, renews) = (own || silently, renews || silently);
        let is_broken = !own && !finished;
        // With one message per connection, the lost message and the lost connection are one failure.
        let takes_its_message_along =
            is_broken && self.plan.churn && self.lines[index].dialogue.in_flight() > 0;
        if is_broken && !takes_its_message_along {
            self.ledger.fail(|it| &mut it.reset, now_ns);
        }
        let ledger = &mut self.ledger;
        let dialogue = &mut self.lines[index].dialogue;
        let ended = dialogue.end(&self.script, &mut self.rendered, |missed| match missed {
            Missed::Lost(flight) if takes_its_message_along => {
                ledger.never_answered(|it| &mut it.reset, flight.due_ns);
            }
            missed => ledger.miss(missed),
        });
        if let Some(received) = ended {
            ledger.note(received, now_ns);
        }
        // With --churn the next connection is the next message: a pause here would be the rate.
        if (own || self.plan.churn) && renews {
            self.lines[index].peer = None;
            self.lines[index].stage = Stage::Down(0);
            if self.talking || !self.lines[index].again.is_empty() {
                self.dial_line(board, index, now_ns);
            } else {
                self.down.push_front(index);
            }
        } else {
            self.rest(index, now_ns);
        }
        log::debug!("connection {}: {reason}", self.first as usize + index);
    }
}
