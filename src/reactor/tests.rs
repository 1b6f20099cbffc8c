//! The loop under a microscope: a whole reactor over scripted wires, turn by turn.
//!
//! The handler echoes messages of seven bytes, so that every read can end inside one. The properties
//! drive it through arbitrary schedules and look at it from inside after each turn; the single tests
//! below them are named after what would go wrong.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::accept::ACCEPT_RETRY;
use super::buffer::LARGE_BYTES;
use super::connection::{Half, Stage};
use super::flush::SLICE_WRITES;
use super::reap::CLOCK_EVERY_CLOSED;
use super::*;
use crate::transport::wire::{Remote, Wire, WireListener, wire};

const MESSAGE_BYTES: usize = 7;

/// Echoes whole messages, and the rest at the end; remembers what it was told.
#[derive(Default)]
pub(super) struct Sevens {
    pub(super) opened: Vec<Peer>,
    closed: Vec<(Peer, CloseReason)>,
    drained: usize,
    pub(super) timers: Vec<u64>,
    /// What to do when a message begins with this byte.
    pub(super) acts: Vec<(u8, Act)>,
    /// Goes on after the peer's end of file.
    patient: bool,
    woken: usize,
    held: Option<Peer>,
}

/// The timer that ends a hold.
const HELD: u64 = 99;

#[derive(Clone, Copy)]
pub(super) enum Act {
    Close(Peer),
    Finish(Peer),
    Send(Peer, &'static [u8]),
    SetTimer(Duration, u64),
    /// Nothing new is wanted from this one, for so long.
    Hold(Peer, Duration),
}

impl Handler for Sevens {
    type Transport = Wire;
    type State = ();

    fn admit(&mut self, _listener: usize, _wire: &mut Wire, _address: &(), _now: Moment) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, _board: &mut BoardOf<Self>, peer: Peer) {
        self.opened.push(peer);
    }

    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        let whole = inbox.len().is_multiple_of(MESSAGE_BYTES) && inbox.bytes()[0] % 2 == 1;
        if whole && self.acts.is_empty() && board.admit_message(from).is_some() {
            return board.send_whole(from, inbox); // the other way to echo
        }
        while inbox.len() >= MESSAGE_BYTES && board.admit_message(from).is_some() {
            let first = inbox.bytes()[0];
            board.send(from, &inbox.bytes()[..MESSAGE_BYTES]);
            inbox.consume(MESSAGE_BYTES);
            for (_, act) in self.acts.iter().filter(|(byte, _)| *byte == first) {
                match *act {
                    Act::Close(peer) => board.close(peer),
                    Act::Finish(peer) => board.finish(peer),
                    Act::Send(peer, bytes) => board.send(peer, bytes),
                    Act::SetTimer(delay, key) => board.set_timer(delay, key),
                    Act::Hold(peer, delay) => {
                        board.hold(peer);
                        self.held = Some(peer);
                        return board.set_timer(delay, HELD);
                    }
                }
            }
        }
    }

    fn on_finish(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        board.send(from, inbox.bytes());
        if !self.patient {
            board.finish(from);
        }
    }

    fn on_drain(&mut self, _board: &mut BoardOf<Self>, _peer: Peer) {
        self.drained += 1;
    }

    fn on_wake(&mut self, _board: &mut BoardOf<Self>) {
        self.woken += 1;
    }

    fn on_timer(&mut self, board: &mut BoardOf<Self>, Timer { key, .. }: Timer) {
        if let Some(peer) = self.held.take_if(|_| key == HELD) {
            board.release(peer);
        }
        self.timers.push(key);
    }

    fn on_close(&mut self, board: &mut BoardOf<Self>, peer: Peer, _state: (), reason: CloseReason) {
        assert!(!board.is_open(peer), "told of the end of a connection that is there");
        self.closed.push((peer, reason));
    }
}

/// A reactor, and the far ends of its lines.
pub(super) struct Bench {
    pub(super) time: Arc<AtomicU64>,
    pub(super) reactor: Reactor<Sevens>,
    pub(super) now: Moment,
    lines: Vec<(Peer, Remote)>,
    pub(super) listener: WireListener,
}

impl Bench {
    fn new(limits: Limits) -> Bench {
        Bench::with_look(limits, Duration::ZERO)
    }

    /// Each look at the clock takes this long.
    pub(super) fn with_look(limits: Limits, look: Duration) -> Bench {
        // Not the machine's clock: on a busy machine that is past the first deadline before the test is over.
        let time = Arc::new(AtomicU64::new(0));
        let clock = Clock::manual(Arc::clone(&time), look);
        let reactor = Reactor::with_clock(Sevens::default(), limits, clock).expect("a poll");
        let (lines, listener) = (Vec::new(), WireListener::default());
        Bench { reactor, time, now: Moment::default(), lines, listener }
    }

    /// One more line, opened and ready.
    pub(super) fn line(&mut self) -> (Peer, Remote) {
        let (near, far) = wire();
        let peer = self.reactor.board().connect(near, ()).expect("room for it");
        self.lines.push((peer, far.clone()));
        self.turn();
        (peer, far)
    }

    /// One turn, with the events that an edge-triggered poll would report.
    pub(super) fn turn(&mut self) -> Turn {
        let mut ready: Vec<_> = self
            .lines
            .iter()
            .map(|(peer, far)| (Token::from(*peer), far.take_edge()))
            .filter(|(_, edge)| *edge != Readiness::default())
            .collect();
        if self.listener.take_edge() {
            ready.push((Source::Listener(0).token(), Readiness::READABLE));
        }
        let now = self.now.since(Moment::default()).as_nanos();
        self.time.store(u64::try_from(now).expect("it is some days"), Ordering::Relaxed);
        let turn = self.reactor.turn_with(self.now, &ready);
        self.check();
        turn
    }

    /// One turn at that time, and another one that comes at once: a deadline that comes up in the first one closes its
    /// connection in the second.
    fn turn_after(&mut self, time: Duration) -> Turn {
        self.now = self.now.after(time);
        let turn = self.turn();
        self.now = self.now.after(Duration::from_nanos(1));
        self.turn();
        turn
    }

    /// Turns until there is nothing left to do.
    fn settle(&mut self) {
        for _ in 0..200_000 {
            self.turn();
            let asleep = self.reactor.timeout(None) != Some(Duration::ZERO);
            let quiet = !self.listener.has_edge()
                && self.lines.iter().all(|(_, far)| far.peek_edge() == Readiness::default());
            let board = &self.reactor.board;
            let idle = board.queue.is_empty()
                && board.queue_behind.is_empty()
                && board.to_flush.is_empty()
                && board.closed.is_empty();
            if idle && quiet && board.connections.iter().any(|(_, connection)| connection.meter.is_paused()) {
                self.now = self.now.after(Duration::from_millis(100));
            } else if asleep && quiet {
                return;
            }
        }
        panic!("never at rest");
    }

    fn reason(&mut self, peer: Peer) -> Option<CloseReason> {
        self.reactor.handler().closed.iter().find(|(closed, _)| *closed == peer).map(|(_, reason)| *reason)
    }

    /// What must hold after every turn, whatever happened in it.
    fn check(&mut self) {
        let board = &self.reactor.board;
        let limits = &board.limits;
        assert!(self.reactor.inbox.is_empty(), "the lent inbox came back with bytes in it");
        for (slot, connection) in &board.connections {
            assert_eq!(connection.peer.is_none(), connection.stage == Stage::Closed);
            let Some(peer) = connection.peer else {
                assert_eq!(board.closed.iter().filter(|closed| closed.slot == slot as u32).count(), 1);
                continue;
            };
            // A connection that stands in a queue knows it, and stands there once.
            let token = Source::Connection(peer).token();
            let queues = board.queue.iter().chain(&board.queue_behind);
            let places = queues.filter(|queued| **queued == token).count()
                + board.opening.iter().filter(|queued| **queued == peer).count();
            assert_eq!(places, usize::from(connection.queued), "{peer}: queue and flag disagree");
            let waits = board.to_flush.contains(&peer)
                || self.reactor.unwritten.iter().any(|batch| batch.contains(&peer));
            assert!(!connection.flush_is_arranged || waits, "{peer}: its flush is arranged and forgotten");
            // A connection that can make progress without an event is not forgotten.
            let drains = !connection.outbox.is_empty() && connection.is_writable();
            let held_up = !connection.inbox.is_empty()
                && connection.inbox.len() >= MESSAGE_BYTES
                && connection.can_serve();
            let work = connection.can_fill() || connection.can_discard() || drains || held_up;
            assert!(
                !work
                    || connection.queued
                    || connection.flush_is_arranged
                    || connection.stage == Stage::Opening,
                "{peer}: work and nobody to do it"
            );
            assert!(!connection.is_over(), "{peer}: over and still here");
            // Memory.
            assert!(connection.outbox.len() <= limits.outbox_bytes_max);
            assert!(connection.inbox.len() <= limits.inbox_bytes_max);
            assert!(
                connection.inbox.storage_bytes() == 0 || !connection.inbox.is_empty(),
                "idle, with storage"
            );
            assert!(
                connection.outbox.storage_bytes() == 0 || !connection.outbox.is_empty(),
                "idle, with storage"
            );
            let most = LARGE_BYTES.max(4 * (limits.outbox_bytes_high + limits.inbox_bytes_max));
            assert!(connection.outbox.storage_bytes() <= most && connection.inbox.storage_bytes() <= most);
            // Time.
            assert!(
                (connection.on_last_look && connection.queued)
                    || board.deadlines.armed(peer.slot) <= connection.look_at(),
                "{peer}: its deadline would be missed"
            );
        }
    }
}

// The properties.

#[derive(Debug, Clone)]
enum Step {
    Say { who: usize, bytes: usize },
    Finish { who: usize },
    Reset { who: usize },
    ReadsReturn { who: usize, sizes: Vec<usize> },
    WritesTake { who: usize, sizes: Vec<usize> },
    MakeRoom { who: usize, bytes: usize },
    Open,
    Turn { milliseconds: u64 },
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![Just(0), 1..20usize, 1000..100_000usize], 1..5)
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..5usize;
    let bytes = || prop_oneof![1..30usize, 100..5_000usize, 60_000..80_000usize];
    prop_oneof![
        4 => (who.clone(), bytes()).prop_map(|(who, bytes)| Step::Say { who, bytes }),
        1 => who.clone().prop_map(|who| Step::Finish { who }),
        1 => who.clone().prop_map(|who| Step::Reset { who }),
        2 => (who.clone(), sizes()).prop_map(|(who, sizes)| Step::ReadsReturn { who, sizes }),
        2 => (who.clone(), sizes()).prop_map(|(who, sizes)| Step::WritesTake { who, sizes }),
        2 => (who, prop_oneof![Just(0), bytes()]).prop_map(|(who, bytes)| Step::MakeRoom { who, bytes }),
        1 => Just(Step::Open),
        8 => (0..5u64).prop_map(|milliseconds| Step::Turn { milliseconds }),
    ]
}

/// Limits at which everything is let through in blocks (and the short cut is taken), and tight ones.
fn limits() -> impl Strategy<Value = Limits> {
    let tight = (64..2_000usize, 64..300usize, 64..300usize).prop_map(|(read, inbox, high)| Limits {
        read_bytes_per_turn: read,
        inbox_bytes_max: inbox,
        outbox_bytes_high: high,
        outbox_bytes_max: 1000,
        ..Limits::default()
    });
    let metered = (tight.clone(), 20_000..1_000_000u64).prop_map(|(limits, rate)| Limits {
        read_bytes_per_s: Some(rate),
        idle_after: Duration::MAX, // it takes as long as it takes
        ..limits
    });
    prop_oneof![Just(Limits::default()), tight, metered]
}

/// What one remote said, did and heard.
struct Story {
    said: Vec<u8>,
    heard: Vec<u8>,
    finished: bool,
    reset: bool,
}

/// Bytes that tell where in the stream they belong, and to whose.
fn pattern(who: usize, from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| (at % 251) as u8 ^ (who as u8) << 5).collect()
}

fn run(limits: Limits, peers: usize, promised: bool, steps: Vec<Step>) {
    let mut bench = Bench::new(limits.clone());
    let mut stories = Vec::new();
    let open = |bench: &mut Bench, stories: &mut Vec<Story>| {
        let (_, far) = bench.line();
        far.promise_short_reads(promised);
        stories.push(Story { said: Vec::new(), heard: Vec::new(), finished: false, reset: false });
    };
    for _ in 0..peers {
        open(&mut bench, &mut stories);
    }
    for step in steps {
        let lines = bench.lines.len();
        match step {
            Step::Say { who, bytes } => {
                let (who, story) = (who % lines, &mut stories[who % lines]);
                if !story.finished && !story.reset {
                    let bytes = pattern(who, story.said.len(), bytes);
                    bench.lines[who].1.say(&bytes);
                    story.said.extend(bytes);
                }
            }
            Step::Finish { who } => {
                bench.lines[who % lines].1.finish();
                stories[who % lines].finished = true;
            }
            Step::Reset { who } => {
                bench.lines[who % lines].1.reset();
                stories[who % lines].reset = true;
            }
            // A wire that promises to empty itself can't return less than it has.
            Step::ReadsReturn { sizes, .. } if promised && sizes.iter().any(|size| *size != 0) => {}
            Step::ReadsReturn { who, sizes } => bench.lines[who % lines].1.reads_return(sizes),
            Step::WritesTake { who, sizes } => bench.lines[who % lines].1.writes_take(sizes),
            Step::MakeRoom { who, bytes } => bench.lines[who % lines].1.make_room(bytes),
            Step::Open if lines < 8 => open(&mut bench, &mut stories),
            Step::Open => {}
            Step::Turn { milliseconds } => {
                let before: Vec<_> = bench.lines.iter().map(|line| quiet_reads(&bench, line)).collect();
                bench.turn_after(Duration::from_millis(milliseconds));
                for ((_, far), before) in bench.lines.iter().zip(before) {
                    if let Some(reads) = before {
                        assert_eq!(far.calls().0, reads, "read while congested");
                    }
                }
                hear(&mut bench, &mut stories);
                if let Some(rate) = limits.read_bytes_per_s {
                    let time = bench.now.since(Moment::default()) + Duration::from_secs(1);
                    let most = (rate as f64 * time.as_secs_f64()) as usize + MESSAGE_BYTES;
                    assert!(stories.iter().all(|story| story.heard.len() <= most), "faster than it may");
                }
            }
        }
    }

    // The world becomes kind: everything that can still be delivered, is.
    for (_, far) in &bench.lines {
        far.reads_return([]);
        far.writes_take([]);
        far.make_room(usize::MAX);
    }
    bench.settle();
    hear(&mut bench, &mut stories);
    for (who, story) in stories.iter().enumerate() {
        let (peer, far) = bench.lines[who].clone();
        if story.reset {
            assert!(far.saw_close(), "reset, and never noticed");
            continue;
        }
        let whole =
            if story.finished { story.said.len() } else { story.said.len() / MESSAGE_BYTES * MESSAGE_BYTES };
        assert_eq!(story.heard.len(), whole, "line {who} was not answered whole");
        if story.finished {
            assert!(far.saw_finish() && far.saw_close(), "both said everything, and it is not over");
            assert_eq!(bench.reason(peer), Some(CloseReason::Finished));
        } else {
            assert!(bench.reactor.board().is_open(peer));
        }
    }
}

/// The number of reads so far, of a line that must not be read in the next turn: its outbox is above
/// the low mark, and nothing can be written.
fn quiet_reads(bench: &Bench, (peer, far): &(Peer, Remote)) -> Option<u64> {
    let connection = bench.reactor.board.get(*peer)?;
    let stuck = connection.reading == Half::Open
        && connection.outbox.len() > bench.reactor.board.limits.outbox_bytes_low()
        && !connection.is_writable()
        && !far.peek_edge().has(Readiness::WRITABLE);
    stuck.then(|| far.calls().0)
}

/// What was heard is what was said: in order, nothing twice, nobody else's.
fn hear(bench: &mut Bench, stories: &mut [Story]) {
    for (who, story) in stories.iter_mut().enumerate() {
        let bytes = bench.lines[who].1.hear();
        let from = story.heard.len();
        assert!(from + bytes.len() <= story.said.len(), "more came back than was said");
        assert!(bytes[..] == story.said[from..from + bytes.len()], "line {who} heard something else");
        story.heard.extend(bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn one_connection_survives_every_schedule(
        limits in limits(),
        promised: bool,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let steps = steps.into_iter().filter(|step| !matches!(step, Step::Open)).collect();
        run(limits, 1, promised, steps);
    }

    #[test]
    fn several_peers_on_one_reactor_get_each_their_own(
        limits in limits(),
        promised: bool,
        peers in 2..5usize,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        run(limits, peers, promised, steps);
    }
}

// One symptom each.

#[test]
fn a_message_costs_one_read_and_one_write() {
    let mut bench = Bench::new(Limits::default());
    let (_, alice) = bench.line();
    alice.promise_short_reads(true);
    let before = alice.calls();
    for _ in 0..10 {
        alice.say(b"1234567");
        let turn = bench.turn();
        assert_eq!((turn.events, turn.bytes_in, turn.bytes_out), (1, 7, 7));
        assert_eq!(alice.hear(), b"1234567");
        assert_eq!(
            bench.reactor.timeout(Some(Duration::MAX)).map(|t| t.is_zero()),
            Some(false),
            "asleep at once"
        );
    }
    assert_eq!(alice.calls(), (before.0 + 10, before.1 + 10));
}

#[test]
fn bytes_behind_a_short_read_are_found_when_the_event_was_exceptional() {
    let mut bench = Bench::new(Limits::default());
    let (peer, alice) = bench.line();
    // The promise is broken here, as a mark of urgent data breaks it: the event says so.
    alice.promise_short_reads(true);
    alice.reads_return([3, 4]);
    alice.say(b"1234567");
    bench.reactor.turn_with(
        Moment::default(),
        &[(peer.into(), Readiness::READABLE.union(Readiness::WRITABLE).union(Readiness::EXCEPTIONAL))],
    );
    assert_eq!(alice.hear(), b"1234567");
}

#[test]
fn a_late_event_does_not_reach_the_slots_next_tenant() {
    let mut bench = Bench::new(Limits::default());
    let (old, alice) = bench.line();
    alice.reset();
    bench.turn();
    let (new, bob) = bench.line();
    assert_eq!(old.slot, new.slot, "the test needs the slot to be used again");
    let before = bob.calls();
    bench.reactor.turn_with(Moment::default(), &[(old.into(), Readiness::READABLE)]);
    assert_eq!(bob.calls(), before);
    // Nor does a name that was kept.
    bench.reactor.board().send(old, b"for alice");
    bench.reactor.board().close(old);
    bench.turn();
    assert_eq!(bob.hear(), b"");
    assert!(bench.reactor.board().is_open(new));
}

#[test]
fn a_peer_closed_by_another_in_the_same_batch_is_not_served() {
    let mut bench = Bench::new(Limits::default());
    let ((_, alice), (bob_peer, bob)) = (bench.line(), bench.line());
    bench.reactor.handler().acts.push((b'x', Act::Close(bob_peer)));
    alice.say(b"x234567");
    bob.say(b"1234567");
    bench.turn();
    assert_eq!((alice.hear(), bob.hear()), (b"x234567".to_vec(), Vec::new()));
    assert_eq!(bench.reason(bob_peer), Some(CloseReason::Closed));
    assert!(bob.saw_close());
}

#[test]
fn closing_oneself_in_ones_own_callback_ends_it_there() {
    let mut bench = Bench::new(Limits::default());
    let (peer, alice) = bench.line();
    bench.reactor.handler().acts.push((b'x', Act::Close(peer)));
    alice.say(b"1234567x234567never..");
    bench.turn();
    assert!(alice.saw_close());
    assert_eq!(bench.reactor.board().connections(), 0);
}

#[test]
fn a_connection_that_closed_itself_is_not_told_of_the_peers_end() {
    let mut bench = Bench::new(Limits::default());
    let (peer, alice) = bench.line();
    bench.reactor.handler().acts.push((b'x', Act::Close(peer)));
    alice.say(b"x234567and a rest");
    alice.finish();
    bench.settle();
    assert_eq!(alice.hear(), b"", "closed is closed: neither the reply nor the rest");
    assert_eq!(bench.reason(peer), Some(CloseReason::Closed));
}

#[test]
fn a_reset_after_the_end_of_file_is_noticed() {
    let mut bench = Bench::new(Limits::default());
    let (peer, alice) = bench.line();
    bench.reactor.handler().patient = true;
    alice.finish();
    bench.settle();
    assert!(bench.reactor.board().is_open(peer), "its handler has more to say");
    alice.reset();
    bench.settle();
    assert_eq!(bench.reason(peer), Some(CloseReason::Reset));
}

#[test]
fn what_another_is_sent_is_written_in_the_same_turn() {
    let mut bench = Bench::new(Limits::default());
    let ((_, alice), (bob_peer, bob)) = (bench.line(), bench.line());
    bench.reactor.handler().acts.push((b'x', Act::Send(bob_peer, b"psst")));
    let before = bob.calls().1;
    alice.say(b"x234567x234567");
    bench.turn();
    assert_eq!(bob.hear(), b"psstpsst");
    assert_eq!(bob.calls().1, before + 1, "two messages, one write");
}

/// A bench with a member who posts to a room of `members`, and somebody outside it.
fn room(members: usize) -> (Bench, Remote, Vec<(Peer, Remote)>, Remote) {
    let mut bench = Bench::new(Limits::default());
    let ((_, poster), (_, outsider)) = (bench.line(), bench.line());
    let room: Vec<(Peer, Remote)> = (0..members).map(|_| bench.line()).collect();
    let acts = room.iter().map(|(peer, _)| (b'p', Act::Send(*peer, b"post ")));
    bench.reactor.handler().acts.extend(acts);
    (bench, poster, room, outsider)
}

#[test]
fn a_handler_that_asks_for_a_stop_is_reported_once_and_what_it_sent_is_delivered() {
    let mut bench = Bench::new(Limits::default());
    let (_, alice) = bench.line();
    assert!(!bench.reactor.turn_with(Moment::default(), &[]).shutdown);
    bench.reactor.board().shutdown();
    alice.say(b"message");
    assert!(bench.turn().shutdown);
    assert_eq!(alice.hear(), b"message");
    assert!(!bench.turn().shutdown, "once");
    assert!(!bench.reactor.board().draining(), "the loop's owner decides");
}

fn told(room: &[(Peer, Remote)]) -> usize {
    room.iter().filter(|(_, far)| !far.hear().is_empty()).count()
}

#[test]
fn a_large_room_is_written_in_slices_and_others_are_served_in_between() {
    let (mut bench, poster, room, outsider) = room(10 * SLICE_WRITES);
    poster.say(b"p234567");
    for _ in 0..10 {
        outsider.say(b"nothing");
        bench.turn();
        assert_eq!(outsider.hear(), b"nothing");
        let asleep = bench.reactor.timeout(None) != Some(Duration::ZERO);
        let count = told(&room);
        assert!(count <= SLICE_WRITES, "one slice of it in a turn, not {count} members");
        assert!(!asleep || bench.reactor.unwritten.is_empty(), "it sleeps while members wait");
    }
    assert_eq!((told(&room), bench.reactor.unwritten.len()), (0, 0), "ten slices are ten turns");
    poster.say(b"p234567");
    bench.turn();
    let mut count = told(&room);
    bench.settle();
    count += told(&room);
    assert_eq!(count, room.len(), "nobody is forgotten, and nobody is told twice");
}

/// Several members of a room speak in each turn, and every post is for everybody: the outboxes that wait must not become more than
/// there are members, and a member that only listens gets its turn.
#[test]
fn posts_in_every_turn_neither_fill_the_lists_of_outboxes_nor_starve_one_who_only_listens() {
    const MEMBERS: usize = 5 * SLICE_WRITES;
    let mut bench = Bench::new(Limits::default());
    let room: Vec<(Peer, Remote)> = (0..MEMBERS).map(|_| bench.line()).collect();
    let acts = room.iter().map(|(peer, _)| (b'p', Act::Send(*peer, b"post ")));
    bench.reactor.handler().acts.extend(acts);
    let (_, listener) = &room[MEMBERS - 1];
    let mut last_heard = 0;
    for turn in 1..=300 {
        for speaker in 0..20 {
            room[(turn * 20 + speaker) % (MEMBERS - 1)].1.say(b"p234567");
        }
        bench.turn();
        room[..MEMBERS - 1].iter().for_each(|(_, far)| drop(far.hear()));
        if !listener.hear().is_empty() {
            last_heard = turn;
        }
        let waiting = bench.reactor.unwritten.iter().map(VecDeque::len).sum::<usize>();
        assert!(waiting <= MEMBERS, "{waiting} outboxes of {MEMBERS} members wait in turn {turn}");
        // One slice in each turn, and at most four batches that take turns.
        assert!(
            turn - last_heard <= 4 * 5 + 5,
            "the listener was written to {} turns ago",
            turn - last_heard
        );
    }
}

#[test]
fn a_small_group_does_not_wait_behind_a_large_room() {
    let (mut bench, poster, _room, _) = room(20 * SLICE_WRITES);
    let small: Vec<(Peer, Remote)> = (0..2 * SLICE_WRITES).map(|_| bench.line()).collect();
    bench.reactor.handler().acts.extend(small.iter().map(|(peer, _)| (b's', Act::Send(*peer, b"small"))));
    poster.say(b"p234567s234567");
    bench.turn();
    bench.settle();
    told(&small);

    poster.say(b"p234567");
    bench.turn();
    poster.say(b"s234567");
    bench.turn(); // its first slice, beside one of the room's
    assert_eq!(told(&small), SLICE_WRITES);
    bench.turn();
    bench.turn(); // the two take turns
    assert_eq!(told(&small), SLICE_WRITES);
    assert!(!bench.reactor.unwritten.is_empty(), "the room is not done yet");
}

#[test]
fn a_private_message_does_not_overtake_a_post_that_still_waits_to_be_written() {
    let (mut bench, poster, room, _) = room(3 * SLICE_WRITES);
    let (peer, last) = &room[room.len() - 1];
    bench.reactor.handler().acts.push((b't', Act::Send(*peer, b"just you")));
    poster.say(b"p234567");
    bench.turn();
    assert_eq!(last.hear(), b"", "it waits");
    // It also speaks itself: its reply is written at once, behind what waits.
    poster.say(b"t234567");
    last.say(b"hello! ");
    bench.turn();
    let heard = last.hear();
    assert!(heard == b"post just youhello! " || heard == b"post hello! just you", "{heard:?}");
    bench.settle();
    assert_eq!(last.hear(), b"", "nothing comes twice");
}

#[test]
fn members_who_leave_while_their_room_is_written_are_passed_over() {
    let (mut bench, poster, room, _) = room(3 * SLICE_WRITES);
    poster.say(b"p234567");
    bench.turn();
    for (_, far) in &room[SLICE_WRITES..2 * SLICE_WRITES] {
        far.reset();
    }
    bench.settle();
    assert_eq!(told(&room), 2 * SLICE_WRITES);
    assert_eq!(bench.reactor.handler().closed.len(), SLICE_WRITES);
}

#[test]
fn a_timer_without_a_delay_fires_once_at_the_end_of_the_turn() {
    let mut bench = Bench::new(Limits::default());
    let ((_, alice), (bob_peer, bob)) = (bench.line(), bench.line());
    bench
        .reactor
        .handler()
        .acts
        .extend([(b'x', Act::SetTimer(Duration::ZERO, 1)), (b'y', Act::Send(bob_peer, b"psst"))]);
    alice.say(b"x234567");
    bob.say(b"y234567");
    bench.turn();
    assert_eq!(bench.reactor.handler().timers, [1]);
    bench.settle();
    assert_eq!(bench.reactor.handler().timers, [1]);
    // Between two turns, as where a connection's end is told of, it is for the next one, which does not sleep.
    bench.reactor.board().set_timer(Duration::ZERO, 2);
    assert_eq!(bench.reactor.timeout(None), Some(Duration::ZERO));
    bench.turn();
    assert_eq!(bench.reactor.handler().timers, [1, 2]);
}

#[test]
fn tables_that_a_burst_of_connections_grew_are_small_again() {
    let mut bench = Bench::new(Limits::default());
    let (_, first) = bench.line();
    for _ in 0..4000 {
        let (near, far) = wire();
        let peer = bench.reactor.board().connect(near, ()).expect("room for it");
        bench.lines.push((peer, far));
    }
    bench.turn();
    let grown = bench.reactor.board.connections.capacity();
    bench.lines.drain(1..).for_each(|(peer, _)| bench.reactor.board().close(peer));
    bench.settle();
    let capacity = bench.reactor.board.connections.capacity();
    assert!(grown > 4000 && capacity < 100, "{grown}, then {capacity}");
    first.say(b"1234567");
    bench.line();
    assert_eq!(first.hear(), b"1234567");
}

#[test]
fn what_the_loops_owner_sends_to_many_is_written_by_one_flush() {
    let mut bench = Bench::new(Limits::default());
    let lines: Vec<_> = (0..300).map(|_| bench.line()).collect();
    lines.iter().for_each(|(peer, _)| bench.reactor.board().send(*peer, b"bye"));
    bench.reactor.board.time_runs = true;
    bench.reactor.write_all_now();
    assert!(lines.iter().all(|(_, far)| far.hear() == b"bye"));
}

#[test]
fn a_flooder_costs_a_whisperer_one_budget() {
    let mut bench = Bench::new(Limits { read_bytes_per_turn: 7000, ..Limits::default() });
    let ((_, flooder), (_, whisperer)) = (bench.line(), bench.line());
    flooder.say(&[1; 700_000]);
    for _ in 0..20 {
        whisperer.say(b"psst...");
        let turn = bench.turn();
        assert_eq!(whisperer.hear(), b"psst...");
        assert!(turn.bytes_in <= 7007, "{turn:?}");
    }
}

#[test]
fn a_flood_of_cheap_messages_costs_a_whisperer_one_share_and_nothing_is_lost() {
    let mut bench = Bench::new(Limits { messages_per_turn: 10, ..Limits::default() });
    let ((_, flooder), (_, whisperer)) = (bench.line(), bench.line());
    let flood: Vec<u8> = (0..700u32).map(|at| (at % 100) as u8 * 2).collect(); // even: one by one
    flooder.say(&flood);
    flooder.finish();
    let mut heard = Vec::new();
    for _ in 0..8 {
        whisperer.say(b"psst...");
        let turn = bench.turn();
        assert_eq!(whisperer.hear(), b"psst...");
        assert!(turn.bytes_out <= 70 + 7, "{turn:?}");
        heard.extend(flooder.hear());
    }
    assert_eq!(heard.len(), 8 * 70);
    bench.settle();
    heard.extend(flooder.hear());
    assert_eq!(heard, flood, "the end of file comes behind the messages");
    assert!(flooder.saw_finish());
}

#[test]
fn messages_that_wait_for_the_next_turn_are_not_read_over_nor_overdue_nor_too_many() {
    let limits = Limits {
        messages_per_turn: 1,
        read_bytes_per_turn: 70,
        inbox_bytes_max: 70,
        message_within: Duration::from_millis(5),
        ..Limits::default()
    };
    let mut bench = Bench::new(limits);
    let (peer, flooder) = bench.line();
    flooder.say(&[2; 700]);
    for _ in 0..100 {
        bench.turn_after(Duration::from_millis(1));
    }
    assert_eq!((flooder.hear().len(), bench.reason(peer)), (700, None));
}

#[test]
fn what_arrived_before_a_deadline_is_read_before_it_closes_though_no_event_has_told_of_it() {
    let limits = Limits {
        idle_after: Duration::from_secs(2),
        message_within: Duration::from_secs(2),
        stall_after: Duration::from_secs(2),
        ..Limits::default()
    };
    let mut bench = Bench::new(limits);
    let ((idler, alice), (talker, bob), (reader, carol)) = (bench.line(), bench.line(), bench.line());
    bob.say(b"123");
    carol.make_room(0);
    carol.say(b"1234567");
    bench.turn();
    // The process stands still for a while. Meanwhile all three do what they owe; the events have not come yet.
    alice.say(b"1234567");
    bob.say(b"4567");
    carol.make_room(100);
    for far in [&alice, &bob, &carol] {
        far.take_edge();
    }
    bench.turn_after(Duration::from_secs(4));
    assert_eq!(
        (alice.hear(), bob.hear(), carol.hear()),
        (b"1234567".to_vec(), b"1234567".to_vec(), b"1234567".to_vec())
    );
    for peer in [idler, talker, reader] {
        assert_eq!(bench.reason(peer), None);
    }
    bench.turn_after(Duration::from_secs(4));
    assert_eq!(bench.reason(idler), Some(CloseReason::Idle), "the next silence is one");
}

#[test]
fn a_reader_of_a_byte_now_and_then_is_stalled_and_one_that_keeps_the_least_rate_is_not() {
    let limits = Limits {
        stall_after: Duration::from_secs(30),
        stall_bytes_per_s_min: 500,
        outbox_bytes_max: 1 << 20,
        outbox_bytes_high: 1 << 20,
        ..Limits::default()
    };
    let mut bench = Bench::new(limits);
    let ((slow_peer, slow), (steady_peer, steady)) = (bench.line(), bench.line());
    for far in [&slow, &steady] {
        far.make_room(0);
        far.say(&[2; 60_000]);
    }
    bench.turn();
    for second in 1..60 {
        slow.make_room(1);
        steady.make_room(600);
        bench.turn_after(Duration::from_secs(1));
        assert_eq!(bench.reason(slow_peer).is_some(), second > 30, "after {second} s");
    }
    assert_eq!(bench.reason(slow_peer), Some(CloseReason::Stalled));
    assert_eq!(bench.reason(steady_peer), None);
}

#[test]
fn a_window_that_opens_in_large_steps_is_no_stall_and_one_that_stays_closed_is() {
    let limits = Limits {
        stall_after: Duration::from_secs(30),
        stall_bytes_per_s_min: 500,
        outbox_bytes_max: 1 << 20,
        outbox_bytes_high: 1 << 20,
        ..Limits::default()
    };
    let mut bench = Bench::new(limits);
    let (peer, far) = bench.line();
    far.make_room(0);
    far.say(&[2; 60_000]);
    bench.settle();
    for _ in 0..2 {
        far.make_room(20_000);
        bench.turn_after(Duration::from_secs(29));
        bench.turn_after(Duration::from_secs(21)); // it reads what it took
        assert_eq!(bench.reason(peer), None);
    }
    bench.turn_after(Duration::from_secs(60));
    assert_eq!(bench.reason(peer), Some(CloseReason::Stalled));
}

#[test]
fn a_message_that_our_own_pace_keeps_in_the_kernel_is_not_overdue() {
    let limits =
        Limits { read_bytes_per_s: Some(1), message_within: Duration::from_secs(3), ..Limits::default() };
    let mut bench = Bench::new(limits);
    let (peer, far) = bench.line();
    far.say(b"1234567");
    for _ in 0..100 {
        bench.turn_after(Duration::from_millis(100));
    }
    assert_eq!((far.hear().len(), bench.reason(peer)), (7, None));
}

#[test]
fn at_a_stop_the_peers_last_message_is_served_though_only_its_end_of_file_ends_it() {
    let mut bench = Bench::new(Limits::default());
    let (_, alice) = bench.line();
    alice.say(b"1234567 and a half");
    alice.finish();
    bench.reactor.drain();
    bench.settle();
    assert_eq!(alice.hear(), b"1234567 and a half");
    assert!(alice.saw_finish());
}

#[test]
fn at_a_stop_what_lies_in_the_socket_of_a_slow_reader_is_answered_when_there_is_room() {
    let mut bench = Bench::new(Limits { outbox_bytes_high: 140, ..Limits::default() });
    let (_, alice) = bench.line();
    alice.make_room(0);
    alice.say(&[2; 105]); // above the low mark
    bench.turn();
    alice.say(&[4; 70]);
    bench.reactor.drain();
    bench.turn();
    assert!(!alice.saw_finish());
    alice.make_room(usize::MAX);
    bench.settle();
    assert_eq!(alice.hear(), [[2; 105].as_slice(), &[4; 70]].concat());
    assert!(alice.saw_finish());
}

#[test]
fn thousands_that_close_at_once_are_freed_in_slices_and_all_of_them() {
    let mut bench = Bench::new(Limits { serve_time_per_turn: Duration::ZERO, ..Limits::default() });
    let peers: Vec<Peer> = (0..1000).map(|_| bench.line().0).collect();
    peers.iter().for_each(|peer| bench.reactor.board().close(*peer));
    bench.reactor.board.time_runs = true; // by which each slice is late at once
    let mut slices = 0;
    while bench.reactor.board().connections() > 0 {
        bench.reactor.reap();
        slices += 1;
    }
    assert_eq!(slices, 1000_usize.div_ceil(CLOCK_EVERY_CLOSED - 1));
    let closed: Vec<Peer> = bench.reactor.handler().closed.iter().map(|(peer, _)| *peer).collect();
    assert_eq!(closed, peers, "in their order");
}

#[test]
fn an_end_of_file_is_not_the_end_while_replies_wait() {
    let mut bench = Bench::new(Limits::default());
    let (peer, alice) = bench.line();
    alice.make_room(10);
    alice.say(&[b'a'; 70_000]);
    alice.finish();
    bench.settle();
    assert!(!alice.saw_finish(), "FIN before the replies");
    alice.make_room(usize::MAX);
    bench.settle();
    assert_eq!(alice.hear(), [b'a'; 70_000]);
    assert!(alice.saw_finish() && alice.saw_close());
    assert_eq!(bench.reason(peer), Some(CloseReason::Finished));
}

#[test]
fn a_stream_that_is_cut_off_ends_with_its_last_whole_message() {
    let mut bench = Bench::new(Limits::default());
    let (peer, alice) = bench.line();
    alice.make_room(10);
    alice.say(b"1234567 2345671234");
    alice.cut_off();
    bench.settle();
    assert!(!alice.saw_finish(), "FIN before the replies");
    alice.make_room(usize::MAX);
    bench.settle();
    assert_eq!(alice.hear(), b"1234567 234567", "the rest is no message, though it ends the stream");
    assert!(alice.saw_finish() && alice.saw_close());
    assert_eq!(bench.reason(peer), Some(CloseReason::Truncated));
}

#[test]
fn after_our_end_of_file_what_still_comes_is_dropped_for_a_while() {
    let mut bench = Bench::new(Limits::default());
    let (peer, alice) = bench.line();
    bench.reactor.handler().acts.push((b'x', Act::Finish(peer)));
    alice.say(b"x234567and then some more that nobody asked for");
    bench.settle();
    assert_eq!(alice.hear(), b"x234567");
    assert!(alice.saw_finish() && !alice.saw_close());
    alice.say(b"and more");
    bench.settle();
    assert_eq!(alice.unread(), 0, "unread bytes would turn the close into a reset");
    alice.finish();
    bench.settle();
    assert!(alice.saw_close());
    assert_eq!(bench.reason(peer), Some(CloseReason::Finished));
}

#[test]
fn lingering_has_an_end_that_bytes_do_not_put_off() {
    let mut bench = Bench::new(Limits::default());
    let (peer, alice) = bench.line();
    bench.reactor.handler().acts.push((b'x', Act::Finish(peer)));
    alice.say(b"x234567");
    bench.settle();
    for _ in 0..20 {
        alice.say(b"on and on");
        bench.turn_after(Duration::from_millis(101));
    }
    assert_eq!(bench.reason(peer), Some(CloseReason::Lingered));
}

#[test]
fn an_idle_connection_is_closed_and_one_that_talks_is_not() {
    let mut bench = Bench::new(Limits { idle_after: Duration::from_secs(10), ..Limits::default() });
    let ((idler, _), (talker, far)) = (bench.line(), bench.line());
    for _ in 0..21 {
        far.say(b"tick tk");
        bench.turn_after(Duration::from_millis(500));
    }
    assert_eq!(bench.reason(idler), Some(CloseReason::Idle));
    assert!(bench.reactor.board().is_open(talker));
}

#[test]
fn a_connection_is_closed_for_its_silence_directly_after_the_read_that_found_nothing() {
    let idle_after = Duration::from_secs(10);
    let mut bench = Bench::new(Limits { idle_after, timers_per_turn: 1, ..Limits::default() });
    let [first, second, third] = [bench.line(), bench.line(), bench.line()];
    bench.turn_after(idle_after); // all are due, and one deadline is handled in a turn
    assert_eq!(bench.reason(first.0), Some(CloseReason::Idle));
    for (_, far) in [&second, &third] {
        far.say(b"1234567");
        far.take_edge(); // its event is late
    }
    for _ in 0..9 {
        bench.turn();
    }
    for (peer, far) in [&second, &third] {
        assert!(bench.reactor.board().is_open(*peer));
        assert_eq!(far.hear(), b"1234567");
    }
}

#[test]
fn a_silence_that_begins_while_the_outbox_drains_is_not_timed_as_a_stall() {
    let limits = Limits {
        idle_after: Duration::from_secs(2),
        stall_after: Duration::from_secs(60),
        ..Limits::default()
    };
    let mut bench = Bench::new(limits);
    let (peer, far) = bench.line();
    far.make_room(0);
    far.say(b"1234567");
    bench.turn_after(Duration::from_secs(1));
    bench.turn_after(Duration::from_secs(2)); // its entry comes up, while something waits for it
    far.make_room(100);
    bench.turn();
    assert_eq!(far.hear(), b"1234567");
    bench.turn_after(Duration::from_secs(2));
    bench.turn_after(Duration::from_secs(2));
    assert_eq!(bench.reason(peer), Some(CloseReason::Idle));
}

#[test]
fn a_message_that_trickles_in_is_overdue_and_one_after_the_other_is_not() {
    let limits =
        Limits { message_within: Duration::from_secs(3), message_bytes_per_s_min: 1000, ..Limits::default() };
    let mut bench = Bench::new(limits);
    let ((slow_peer, slow), (steady_peer, steady)) = (bench.line(), bench.line());
    slow.say(b"1");
    steady.say(b"1");
    bench.turn();
    let mut heard = 0;
    for second in 1..20 {
        if second < 6 {
            slow.say(b"2");
        }
        steady.say(b"2345671"); // the rest of one, and the beginning of the next
        bench.turn_after(Duration::from_secs(1));
        heard += steady.hear().len();
        assert_eq!(slow.saw_finish(), second > 3, "after {second} s");
    }
    assert_eq!(heard, 19 * MESSAGE_BYTES);
    assert!(bench.reactor.board().is_open(steady_peer));
    assert_eq!(bench.reason(slow_peer), Some(CloseReason::MessageTimeout));
}

#[test]
fn each_byte_of_a_message_buys_it_time() {
    let limits =
        Limits { message_within: Duration::from_secs(3), message_bytes_per_s_min: 1, ..Limits::default() };
    let mut bench = Bench::new(limits);
    let (peer, alice) = bench.line();
    alice.say(b"12345");
    bench.turn_after(Duration::ZERO);
    bench.turn_after(Duration::from_millis(7900));
    assert!(bench.reactor.board().is_open(peer) && !alice.saw_finish());
    bench.turn_after(Duration::from_millis(200));
    assert!(alice.saw_finish());
}

#[test]
fn who_is_held_is_not_served_nor_ended_and_loses_nothing() {
    let limits = Limits { inbox_bytes_max: 70, message_within: Duration::from_secs(1), ..Limits::default() };
    let mut bench = Bench::new(limits);
    let (peer, alice) = bench.line();
    bench.reactor.handler().acts.push((b'h', Act::Hold(peer, Duration::from_secs(10))));
    alice.say(b"hold on");
    bench.settle();
    assert_eq!(alice.hear(), b"hold on");
    let said: Vec<u8> = b"1234567".repeat(100);
    alice.say(&said);
    alice.finish();
    for _ in 0..9 {
        bench.turn_after(Duration::from_secs(1));
        assert_eq!(alice.hear(), b"");
    }
    assert!(alice.unread() > 0, "it is not read from");
    bench.turn_after(Duration::from_secs(2));
    bench.settle();
    assert_eq!(alice.hear(), said);
    assert!(alice.saw_finish());
    assert_eq!(bench.reason(peer), Some(CloseReason::Finished));
}

/// TLS takes what is written into a buffer of its own. The outbox is empty then, and the peer has taken nothing.
#[test]
fn a_peer_is_stalled_though_the_transport_holds_all_that_it_does_not_take() {
    let limits = Limits { stall_after: Duration::from_secs(3), ..Limits::default() };
    let mut bench = Bench::new(limits);
    let ((taker, taking), (peer, far)) = (bench.line(), bench.line());
    for line in [&taking, &far] {
        line.hold_back(true);
        line.say(b"1234567");
    }
    bench.turn();
    assert_eq!((far.hear_count(), bench.reactor.board().outbox_bytes(peer)), (7, 0));
    bench.turn_after(Duration::from_secs(2));
    taking.hold_back(false);
    bench.turn_after(Duration::from_millis(900));
    assert_eq!((bench.reason(taker), bench.reason(peer)), (None, None));
    bench.turn_after(Duration::from_secs(1));
    bench.settle();
    assert_eq!((bench.reason(taker), bench.reason(peer)), (None, Some(CloseReason::Stalled)));
}

/// What the transport holds is taken slowly by one peer, and hardly at all by the other; new messages are no progress.
#[test]
fn a_slow_peer_of_a_transport_that_holds_bytes_is_not_stalled_and_one_that_talks_is() {
    let limits = Limits {
        stall_after: Duration::from_secs(3),
        stall_bytes_per_s_min: 500,
        idle_after: Duration::from_secs(300),
        ..Limits::default()
    };
    let mut bench = Bench::new(limits);
    let ((slow_peer, slow), (talker_peer, talker)) = (bench.line(), bench.line());
    for line in [&slow, &talker] {
        line.hold_back(true);
        line.say(b"1234567");
    }
    bench.turn();
    for second in 1..20 {
        slow.pass_on(600);
        talker.pass_on(1);
        talker.say(b"1234567");
        bench.turn_after(Duration::from_secs(1));
        assert_eq!(bench.reason(slow_peer), None, "after {second} s");
        assert_eq!(bench.reason(talker_peer).is_some(), second > 3, "after {second} s");
    }
    assert_eq!(bench.reason(talker_peer), Some(CloseReason::Stalled));
}

#[test]
fn what_began_an_end_is_its_reason() {
    let mut bench = Bench::new(Limits::default());
    let ((late_peer, late), (done_peer, done)) = (bench.line(), bench.line());
    bench.reactor.board().finish_because(late_peer, CloseReason::MessageTimeout);
    bench.reactor.board().finish(done_peer);
    for peer in [late_peer, done_peer] {
        bench.reactor.board().finish_because(peer, CloseReason::Drained);
    }
    late.finish();
    done.finish();
    bench.settle();
    assert_eq!(bench.reason(late_peer), Some(CloseReason::MessageTimeout));
    assert_eq!(bench.reason(done_peer), Some(CloseReason::Drained), "a graceful end gives way");
}

#[test]
fn a_peer_that_takes_nothing_is_stalled_even_if_it_talks() {
    let mut bench = Bench::new(Limits { stall_after: Duration::from_secs(3), ..Limits::default() });
    let (peer, far) = bench.line();
    far.make_room(3);
    for _ in 0..8 {
        far.say(b"1234567");
        bench.turn_after(Duration::from_millis(500));
    }
    assert_eq!(bench.reason(peer), Some(CloseReason::Stalled));
}

#[test]
fn a_first_reply_after_a_long_silence_is_not_a_stall() {
    let mut bench = Bench::new(Limits { stall_after: Duration::from_secs(3), ..Limits::default() });
    let (peer, far) = bench.line();
    far.make_room(0);
    far.writes_take([0]);
    bench.turn_after(Duration::from_secs(100));
    far.say(b"1234567");
    bench.turn_after(Duration::from_secs(1));
    bench.turn_after(Duration::from_secs(1));
    assert!(bench.reactor.board().is_open(peer));
}

#[test]
fn a_slow_reader_does_not_grow_another_ones_messages_without_end() {
    let mut bench = Bench::new(Limits { outbox_bytes_max: 100, ..Limits::default() });
    let ((_, alice), (bob_peer, bob)) = (bench.line(), bench.line());
    bench.reactor.handler().acts.push((b'x', Act::Send(bob_peer, b"twenty bytes, no less")));
    bob.make_room(0);
    for _ in 0..10 {
        alice.say(b"x234567");
        bench.turn();
        assert_eq!(alice.hear(), b"x234567");
    }
    assert_eq!(bench.reason(bob_peer), Some(CloseReason::SlowReader));
}

#[test]
fn a_message_without_end_ends_the_connection() {
    let mut bench = Bench::new(Limits { inbox_bytes_max: 5, ..Limits::default() });
    let (peer, alice) = bench.line();
    alice.say(b"12345");
    bench.settle();
    alice.finish();
    bench.settle();
    assert_eq!(bench.reason(peer), Some(CloseReason::InboxFull));
}

#[test]
fn what_had_arrived_when_the_stop_came_is_answered() {
    let mut bench = Bench::new(Limits::default());
    let ((talker, alice), (idler, bob)) = (bench.line(), bench.line());
    alice.say(b"1234567");
    bench.reactor.drain();
    bench.turn();
    assert_eq!(alice.hear(), b"1234567");
    assert!(alice.saw_finish() && bob.saw_finish(), "both are told that it is over");
    alice.finish();
    bob.finish();
    bench.settle();
    assert_eq!(bench.reason(talker), Some(CloseReason::Drained));
    assert_eq!(bench.reason(idler), Some(CloseReason::Drained));
    assert_eq!(bench.reactor.board().connections(), 0);
}

#[test]
fn timers_fire_in_their_order_and_never_early() {
    let mut bench = Bench::new(Limits::default());
    let (_, alice) = bench.line();
    bench.reactor.handler().acts.extend([
        (b'x', Act::SetTimer(Duration::from_millis(20), 2)),
        (b'x', Act::SetTimer(Duration::from_millis(10), 1)),
    ]);
    alice.say(b"x234567");
    bench.turn();
    bench.turn_after(Duration::from_millis(9));
    assert!(bench.reactor.handler().timers.is_empty());
    bench.turn_after(Duration::from_millis(1));
    assert_eq!(bench.reactor.handler().timers, [1]);
    bench.turn_after(Duration::from_millis(100));
    assert_eq!(bench.reactor.handler().timers, [1, 2]);
}

#[test]
fn a_timer_in_a_hundred_years_does_not_wrap_around_to_now_or_never() {
    let mut bench = Bench::new(Limits { idle_after: Duration::MAX, ..Limits::default() });
    let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    bench.reactor.board().set_timer(century, 1);
    assert_eq!(bench.reactor.timeout(None), Some(SLEEP_MAX));
    assert_eq!(bench.reactor.timeout(Some(Duration::MAX)), Some(SLEEP_MAX));
}

#[test]
fn many_timers_at_once_take_several_turns() {
    let mut bench = Bench::new(Limits { timers_per_turn: 2, ..Limits::default() });
    let (_, alice) = bench.line();
    let acts = (0..5).map(|key| (b'x', Act::SetTimer(Duration::from_millis(1), key)));
    bench.reactor.handler().acts.extend(acts);
    alice.say(b"x234567");
    bench.turn();
    for fired in [2, 4, 5] {
        bench.now = bench.now.after(Duration::from_millis(1));
        bench.turn();
        assert_eq!(bench.reactor.handler().timers.len(), fired);
    }
}

#[test]
fn another_thread_wakes_the_loop() {
    let mut reactor = Reactor::new(Sevens::default(), Limits::default()).expect("a poll");
    let waker = reactor.waker();
    let other = std::thread::spawn(move || waker.wake());
    // It would sleep for good; the deadline is for a test that fails.
    while reactor.handler().woken == 0 {
        let turn = reactor.turn(Some(Duration::from_secs(10))).expect("the poll works");
        assert!(turn.waited < Duration::from_secs(10), "nobody woke it");
    }
    other.join().expect("no panic").expect("a wake-up");
}

#[test]
fn on_drain_is_told_when_there_is_room_again() {
    let mut bench = Bench::new(Limits::default());
    let (_, alice) = bench.line();
    alice.make_room(100);
    alice.say(&[b'a'; 60_000]);
    bench.settle();
    assert_eq!(bench.reactor.handler().drained, 0);
    alice.make_room(usize::MAX);
    bench.settle();
    assert_eq!(bench.reactor.handler().drained, 1);
}

// Listeners.

fn listening(limits: Limits) -> (Bench, WireListener) {
    let mut bench = Bench::new(limits);
    let listener = bench.listener.clone();
    bench.reactor.listen(listener.clone()).expect("a listener");
    (bench, listener)
}

fn knock(bench: &mut Bench, listener: &WireListener) -> Remote {
    let (near, far) = wire();
    listener.put(Ok(near));
    bench.turn();
    far
}

fn opened(bench: &mut Bench) -> usize {
    bench.settle();
    bench.reactor.handler().opened.len()
}

#[test]
fn a_connection_that_is_gone_before_it_is_accepted_costs_nobody_else() {
    let (mut bench, listener) = listening(Limits::default());
    listener.put(Err(io::ErrorKind::ConnectionAborted.into()));
    knock(&mut bench, &listener);
    assert_eq!(opened(&mut bench), 1);
}

#[test]
fn out_of_descriptors_the_listener_rests_and_does_not_go_deaf() {
    const EMFILE: i32 = 24;
    let (mut bench, listener) = listening(Limits::default());
    listener.put(Err(io::Error::from_raw_os_error(EMFILE)));
    knock(&mut bench, &listener);
    assert_eq!(opened(&mut bench), 0);
    assert_ne!(bench.reactor.timeout(None), Some(Duration::ZERO), "it would spin");
    bench.now = bench.now.after(ACCEPT_RETRY);
    assert_eq!(opened(&mut bench), 1);
}

#[test]
fn out_of_descriptors_the_next_one_that_leaves_lets_one_in() {
    const ENFILE: i32 = 23;
    let (mut bench, listener) = listening(Limits::default());
    let (_, alice) = bench.line();
    listener.put(Err(io::Error::from_raw_os_error(ENFILE)));
    knock(&mut bench, &listener);
    assert_eq!(opened(&mut bench), 1, "alice herself");
    alice.finish();
    bench.settle();
    assert_eq!(opened(&mut bench), 2);
}

#[test]
fn at_the_limit_new_ones_wait_and_come_in_as_others_leave() {
    let (mut bench, listener) = listening(Limits { connections_max: 1, ..Limits::default() });
    let (_, alice) = bench.line();
    knock(&mut bench, &listener);
    knock(&mut bench, &listener);
    assert_eq!(opened(&mut bench), 1);
    alice.finish();
    bench.settle();
    assert_eq!(opened(&mut bench), 2);
    assert_eq!(bench.reactor.board().counters().accept_pauses, 1, "one spell, told once");
}

#[test]
fn a_listeners_own_limits_rule_over_its_connections_alone() {
    let mut bench = Bench::new(Limits::default());
    let listener = bench.listener.clone();
    let own = Limits { connections_max: 1, idle_after: Duration::from_secs(1), ..Limits::default() };
    let index = bench.reactor.listen_within(listener.clone(), own.clone()).expect("a listener");
    let (alice, _) = bench.line();
    knock(&mut bench, &listener);
    knock(&mut bench, &listener);
    assert_eq!(opened(&mut bench), 2, "alice, who has no listener, and one of two");
    bench.turn_after(Duration::from_secs(2));
    assert_eq!(opened(&mut bench), 3, "the idle one made room");
    assert_eq!(bench.reason(alice), None, "alice has the reactor's limits");

    bench.reactor.set_listener_limits(index, Limits { connections_max: 5, ..own });
    knock(&mut bench, &listener);
    assert_eq!(opened(&mut bench), 4, "new limits hold at once");
    bench
        .reactor
        .set_listener_limits(index, Limits { idle_after: Duration::from_millis(1), ..Limits::default() });
    bench.turn_after(Duration::from_millis(2));
    bench.settle();
    assert_eq!(bench.reactor.board().connections(), 1, "a deadline that came nearer is not missed");
}

#[test]
fn a_listener_that_closes_accepts_who_waits_and_its_connections_live_on() {
    let (mut bench, listener) = listening(Limits { accepts_per_turn: 4, ..Limits::default() });
    for _ in 0..14 {
        listener.put(Ok(wire().0));
    }
    assert!(bench.reactor.unlisten(0, false).is_some());
    assert_eq!(opened(&mut bench), 14);
    listener.put(Ok(wire().0));
    bench.turn();
    assert_eq!(bench.reactor.board().connections(), 14, "nobody listens any more");
    assert!(bench.reactor.unlisten(0, false).is_none());
}

#[test]
fn a_listener_that_is_shared_leaves_its_backlog_to_the_other() {
    let (mut bench, listener) = listening(Limits::default());
    listener.put(Ok(wire().0));
    assert!(bench.reactor.unlisten(0, true).is_some());
    bench.settle();
    assert_eq!((bench.reactor.board().connections(), listener.accepts()), (0, 0));
}

/// Ends the connection that was opened as this one.
fn hang_up(bench: &mut Bench, number: usize) {
    let peer = bench.reactor.handler().opened[number];
    bench.reactor.board().close(peer);
}

#[test]
fn an_index_is_used_again_when_the_last_connection_is_gone_and_not_before() {
    let (mut bench, listener) = listening(Limits::default());
    knock(&mut bench, &listener);
    assert_eq!(opened(&mut bench), 1);
    assert!(bench.reactor.unlisten(0, false).is_some());
    assert!(!bench.reactor.listener_is_gone(0), "alice came by it");
    assert_eq!(bench.reactor.listen(listener.clone()).expect("a listener"), 1);
    hang_up(&mut bench, 0);
    bench.settle();
    assert!(bench.reactor.listener_is_gone(0));
    for _ in 0..100 {
        let index = bench.reactor.listen(WireListener::default()).expect("a listener");
        assert_eq!(index, 0, "places of those that are gone are used again");
        bench.reactor.unlisten(index, true);
    }
}

#[test]
fn a_listener_that_is_renewed_takes_its_backlog_along_and_its_connections_stay_with_the_old_one() {
    let (mut bench, listener) = listening(Limits::default());
    knock(&mut bench, &listener);
    assert_eq!(opened(&mut bench), 1);
    listener.put(Ok(wire().0)); // it waits in the backlog
    let renewed = bench.reactor.renew_listener(0, Limits::default(), |socket| socket);
    assert_eq!(renewed, Some(1), "alice came by the old one");
    assert_eq!(bench.reactor.renew_listener(0, Limits::default(), |socket| socket), None, "it is gone");
    assert_eq!(opened(&mut bench), 2, "nobody is forgotten");
    hang_up(&mut bench, 0);
    bench.settle();
    assert_eq!((bench.reactor.listener_is_gone(0), bench.reactor.listener_is_gone(1)), (true, false));
}

#[test]
fn while_accepting_is_paused_nobody_is_accepted_and_nobody_is_forgotten() {
    let (mut bench, listener) = listening(Limits::default());
    knock(&mut bench, &listener);
    assert_eq!(opened(&mut bench), 1);
    bench.reactor.pause_accepting();
    listener.put(Ok(wire().0));
    bench.turn();
    hang_up(&mut bench, 0); // a connection that ends lets others in, but not now
    bench.settle();
    bench.reactor.set_limits(Limits::default());
    assert_eq!(opened(&mut bench), 1);
    bench.reactor.resume_accepting();
    assert_eq!(opened(&mut bench), 2);
}

#[test]
fn datagram_sockets_that_are_gone_leave_nothing_and_their_numbers_name_no_other() {
    let mut bench = Bench::new(Limits::default());
    let socket =
        || mio::net::UdpSocket::bind("127.0.0.1:0".parse().expect("an address")).expect("a port is free");
    let first = bench.reactor.listen_datagrams(socket()).expect("it is watched");
    let address =
        bench.reactor.datagram_socket(first).and_then(|it| it.local_addr().ok()).expect("it is bound");
    bench.reactor.board().send_to(first, address, b"hello");
    assert!(bench.reactor.unlisten_datagrams(first).is_some());
    let second = bench.reactor.listen_datagrams(socket()).expect("it is watched");
    assert_ne!(first, second);
    bench.reactor.board().send_to(first, address, b"to a socket that is gone");
    let third = bench.reactor.renew_datagrams(second).expect("it is there");
    assert!(
        bench.reactor.datagram_socket(second).is_none() && bench.reactor.datagram_socket(third).is_some()
    );
    bench.settle();
    let counters = bench.reactor.board().counters();
    assert_eq!((counters.datagrams_out, counters.datagrams_dropped), (1, 0));
}

#[test]
fn handshakes_have_a_budget_and_those_who_talk_do_not_wait_for_them() {
    let (mut bench, listener) = listening(Limits { handshakes_per_turn: 3, ..Limits::default() });
    let (_, alice) = bench.line();
    for _ in 0..10 {
        let (near, far) = wire();
        far.shake_hands(1);
        listener.put(Ok(near));
    }
    bench.turn(); // it begins with one accept
    alice.say(b"1234567");
    let mut turns = 1;
    while bench.reactor.handler().opened.len() < 11 {
        let before = bench.reactor.handler().opened.len();
        bench.turn();
        turns += 1;
        assert!(bench.reactor.handler().opened.len() <= before + 3, "more than the budget in a turn");
        assert_eq!(alice.hear(), if turns == 2 { &b"1234567"[..] } else { b"" });
        assert!(turns < 20, "somebody waits for ever");
    }
}

#[test]
fn what_came_with_the_end_of_a_handshake_is_served_though_no_event_tells_of_it() {
    let mut bench = Bench::new(Limits::default());
    let (near, far) = wire();
    far.shake_hands(1);
    far.say(b"1234567");
    far.take_edge(); // the handshake has read it off the socket before the kernel could report it
    let peer = bench.reactor.board().connect(near, ()).expect("room for it");
    bench.lines.push((peer, far.clone()));
    bench.reactor.turn_with(bench.now, &[(peer.into(), Readiness::WRITABLE)]);
    bench.settle();
    assert_eq!(far.hear(), b"1234567");
}

#[test]
fn at_the_limit_of_handshakes_new_ones_wait_until_one_is_through_or_out_of_time() {
    let limits = Limits { handshakes_max: 2, handshake_within: Duration::from_secs(1), ..Limits::default() };
    let (mut bench, listener) = listening(limits);
    let far: Vec<Remote> = (0..4)
        .map(|_| {
            let (near, far) = wire();
            far.shake_hands(1000);
            listener.put(Ok(near));
            far
        })
        .collect();
    bench.settle();
    assert_eq!(bench.reactor.board().connections(), 2);
    assert_ne!(bench.reactor.timeout(None), Some(Duration::ZERO), "it would spin");
    // One is through: another may begin.
    far[0].shake_hands(0);
    let peer = bench.reactor.board().connections.iter().find_map(|(_, it)| it.peer);
    bench.reactor.turn_with(bench.now, &[(peer.expect("two are there").into(), Readiness::WRITABLE)]);
    bench.settle();
    assert_eq!(bench.reactor.board().connections(), 3);
    // The others run out of time, and make room for the last.
    bench.turn_after(Duration::from_secs(2));
    bench.settle();
    assert_eq!(bench.reactor.handler().closed.len(), 2);
    assert_eq!(bench.reactor.board().connections(), 2);
    assert!(bench.reactor.handler().closed.iter().all(|it| it.1 == CloseReason::HandshakeTimeout));
}

#[test]
fn accepting_has_a_budget_and_carries_on() {
    let (mut bench, listener) = listening(Limits { accepts_per_turn: 4, ..Limits::default() });
    for _ in 0..14 {
        listener.put(Ok(wire().0));
    }
    // It begins with one, and takes twice as many each turn as long as there are more, up to its budget.
    for accepted in [1, 3, 7, 11, 14] {
        bench.turn();
        assert_eq!(bench.reactor.board().connections(), accepted);
    }
}

#[test]
fn one_connection_costs_one_accept() {
    let (mut bench, listener) = listening(Limits::default());
    for accepts in 1..4 {
        knock(&mut bench, &listener);
        bench.settle();
        bench.turn_after(Duration::from_secs(1));
        assert_eq!(listener.accepts(), accepts);
    }
    assert_eq!(bench.reactor.board().connections(), 3);
}

fn metered(rate: u64) -> Bench {
    Bench::new(Limits { read_bytes_per_s: Some(rate), ..Limits::default() })
}

#[test]
fn a_metered_peer_is_heard_at_its_pace_and_others_at_theirs() {
    let mut bench = metered(700);
    let ((_, alice), (_, bob)) = (bench.line(), bench.line());
    alice.say(&[1; 7 * 300]);
    let mut heard = 0;
    for tenth in 0..20 {
        bob.say(b"1234567");
        for _ in 0..5 {
            bench.turn();
        }
        heard += alice.hear().len();
        assert_eq!(heard, 700 + 70 * tenth, "a second's worth at once, and then a tenth in a tenth");
        assert_eq!(bob.hear(), b"1234567");
        assert!(bench.reactor.board.queue.is_empty(), "awake for nothing");
        let pause = bench.reactor.next_due().since(bench.now);
        assert!(pause > Duration::from_millis(90), "awake too early: {pause:?}");
        bench.now = bench.now.after(Duration::from_millis(100));
    }
}

#[test]
fn a_metered_peers_end_is_heard_behind_its_bytes_and_what_it_is_sent_does_not_wait() {
    let mut bench = metered(70);
    let (peer, alice) = bench.line();
    alice.say(&[1; 7 * 11]);
    alice.finish();
    bench.turn();
    assert_eq!(alice.hear().len(), 70);
    bench.reactor.board().send(peer, b"news");
    bench.turn();
    assert_eq!(alice.hear(), b"news");
    assert_eq!(bench.reason(peer), None);
    bench.settle();
    assert_eq!(alice.hear(), &[1; 7]);
    assert_eq!(bench.reason(peer), Some(CloseReason::Finished));
}

#[test]
fn a_metered_peer_is_not_idle_while_it_is_not_listened_to() {
    let limits =
        Limits { read_bytes_per_s: Some(1), idle_after: Duration::from_millis(900), ..Limits::default() };
    let mut bench = Bench::new(limits);
    let (peer, alice) = bench.line();
    alice.say(&[1; 7]);
    for _ in 0..75 {
        bench.turn_after(Duration::from_millis(100));
    }
    bench.turn();
    assert_eq!((alice.hear().len(), bench.reason(peer)), (7, None));
    bench.turn_after(Duration::from_millis(900 + 1000));
    assert_eq!(bench.reason(peer), Some(CloseReason::Idle));
}

#[test]
fn a_metered_peer_is_not_closed_as_idle_for_what_came_during_its_pause() {
    let idle_after = Duration::from_secs(20);
    let mut bench = Bench::new(Limits { read_bytes_per_s: Some(7), idle_after, ..Limits::default() });
    let (peer, alice) = bench.line();
    alice.say(&[1; 7 * 3]); // more than may be read now
    bench.turn();
    assert_eq!(alice.hear().len(), 7);
    bench.turn_after(Duration::from_secs(86_400)); // the process was stopped for a day
    assert_eq!((alice.hear().len(), bench.reason(peer)), (7, None));
}

#[test]
fn a_stop_does_not_wait_for_a_metered_peers_pace() {
    let mut bench = metered(7);
    let (peer, alice) = bench.line();
    alice.say(&[1; 7 * 100]);
    bench.turn();
    assert_eq!(alice.hear().len(), 7);
    bench.reactor.drain();
    bench.turn();
    bench.turn();
    assert_eq!(alice.hear().len(), 7 * 99);
    alice.finish();
    bench.settle();
    assert_eq!(bench.reason(peer), Some(CloseReason::Drained));
}

#[test]
fn a_pace_that_is_given_up_lets_go_at_once_and_a_new_one_holds_at_once() {
    let mut bench = metered(7);
    let (_, alice) = bench.line();
    alice.say(&[1; 7 * 50]);
    bench.turn();
    assert_eq!(alice.hear().len(), 7);
    bench.reactor.set_limits(Limits::default());
    bench.turn();
    bench.turn();
    assert_eq!(alice.hear().len(), 7 * 49);
    bench.reactor.set_limits(Limits { read_bytes_per_s: Some(7), ..Limits::default() });
    alice.say(&[1; 7 * 2]);
    bench.turn();
    bench.turn();
    assert_eq!(alice.hear().len(), 0, "its second is not over");
    bench.turn_after(Duration::from_secs(1));
    bench.turn();
    assert_eq!(alice.hear().len(), 7);
}

/// Takes its time for each message: until a timer is due, which comes every millisecond and tells the first peer.
struct Slow {
    peers: Vec<Peer>,
    served: usize,
    due: Moment,
    /// How many had been served when a timer came.
    fired: Vec<usize>,
}

const EVERY: Duration = Duration::from_millis(1);

impl Slow {
    fn set_timer(&mut self, board: &mut BoardOf<Self>) {
        board.set_timer(EVERY, 7);
        self.due = board.now().after(EVERY);
    }
}

impl Handler for Slow {
    type Transport = crate::transport::Stream;
    type State = ();

    fn admit(
        &mut self,
        _listener: usize,
        _stream: &mut crate::transport::Stream,
        _address: &crate::transport::Address,
        _now: Moment,
    ) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, _board: &mut BoardOf<Self>, peer: Peer) {
        self.peers.push(peer);
    }

    fn on_bytes(&mut self, board: &mut BoardOf<Self>, _from: Peer, inbox: &mut Buffer) {
        while board.clock() <= self.due {} // it is due now, whatever the machine does
        self.served += 1;
        inbox.clear();
    }

    fn on_timer(&mut self, board: &mut BoardOf<Self>, _timer: Timer) {
        assert!(board.clock() >= self.due, "it is early");
        self.fired.push(self.served);
        board.send(self.peers[0], b"tick");
        self.set_timer(board);
    }
}

/// Its messages are single bytes, and each takes half a millisecond.
struct Expensive {
    served: Vec<Peer>,
}

impl Handler for Expensive {
    type Transport = crate::transport::Stream;
    type State = ();

    fn admit(
        &mut self,
        _listener: usize,
        _stream: &mut crate::transport::Stream,
        _address: &crate::transport::Address,
        _now: Moment,
    ) -> Option<()> {
        Some(())
    }

    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        while !inbox.is_empty() && board.admit_message(from).is_some() {
            let began = board.clock();
            while board.clock().since(began) < Duration::from_micros(500) {}
            inbox.consume(1);
            self.served.push(from);
        }
    }
}

#[test]
fn a_connection_whose_messages_are_expensive_gets_as_much_of_a_turn_as_others() {
    use std::io::Write;
    let mut reactor = Reactor::new(Expensive { served: Vec::new() }, Limits::default()).expect("a poll");
    let mut call = || {
        let (near, far) = std::os::unix::net::UnixStream::pair().expect("two ends");
        near.set_nonblocking(true).expect("it can be");
        let stream = crate::transport::Stream::Unix(mio::net::UnixStream::from_std(near));
        (reactor.board().connect(stream, ()).expect("room for it"), far)
    };
    let (flooder, mut flood) = call();
    let (_, mut whisper) = call();
    reactor.turn(Some(Duration::ZERO)).expect("a turn");
    flood.write_all(&[b'x'; 300]).expect("room for it");
    for _ in 0..10 {
        whisper.write_all(b"y").expect("room for it");
        let before = reactor.handler().served.len();
        reactor.turn(Some(Duration::ZERO)).expect("a turn");
        let served = &reactor.handler().served[before..];
        assert!(served.iter().filter(|peer| **peer == flooder).count() <= 2, "{served:?}");
        assert_eq!(served.iter().filter(|peer| **peer != flooder).count(), 1, "{served:?}");
    }
}

#[test]
fn a_turn_that_is_late_leaves_the_rest_to_the_next_and_forgets_nothing() {
    use std::io::Write;
    const PEERS: usize = 100;
    let limits = Limits { serve_time_per_turn: Duration::from_millis(4), ..Limits::default() };
    let mut reactor = Reactor::new(Expensive { served: Vec::new() }, limits).expect("a poll");
    let mut far = Vec::new();
    for _ in 0..PEERS {
        let (near, end) = std::os::unix::net::UnixStream::pair().expect("two ends");
        near.set_nonblocking(true).expect("it can be");
        let stream = crate::transport::Stream::Unix(mio::net::UnixStream::from_std(near));
        reactor.board().connect(stream, ()).expect("room for it");
        far.push(end);
    }
    for _ in 0..PEERS {
        reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
    far.iter_mut().for_each(|end| end.write_all(b"x").expect("room for it"));
    reactor.turn(Some(Duration::from_secs(5))).expect("a turn");
    // Half a millisecond each: it is late after eight, and the rest waits.
    assert!(reactor.handler().served.len() <= 16, "{}", reactor.handler().served.len());
    while reactor.handler().served.len() < PEERS {
        assert_eq!(reactor.timeout(None), Some(Duration::ZERO), "it would sleep");
        reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
}

#[test]
fn a_new_connection_does_not_wait_for_a_round_of_flooders() {
    let limits = Limits { messages_per_turn: 1, ..Limits::default() };
    let mut bench = Bench::new(limits.clone());
    let flooders: Vec<_> = (0..50).map(|_| bench.line()).collect();
    flooders.iter().for_each(|(_, far)| far.say(&[2; 700]));
    bench.turn();
    assert_eq!(bench.reactor.board.queue_behind.len(), 50);
    let (near, far) = wire();
    far.say(b"1234567");
    let peer = bench.reactor.board().connect(near, ()).expect("room for it");
    bench.lines.push((peer, far.clone()));
    // The turn is over after a few sources of each list.
    bench.reactor.set_limits(Limits { serve_time_per_turn: Duration::ZERO, ..limits });
    bench.turn();
    assert!(bench.reactor.handler().opened.contains(&peer), "it is served before most of the others");
    assert_eq!(bench.reactor.board.queue_behind.len(), 50);
}

#[test]
fn what_a_flooder_is_read_and_not_served_takes_little_memory() {
    let mut bench = Bench::new(Limits { messages_per_turn: 10, ..Limits::default() });
    let (peer, far) = bench.line();
    far.say(&[2; 1_000_000]);
    for _ in 0..100 {
        bench.turn();
        let inbox = &bench.reactor.board.get(peer).expect("it is there").inbox;
        assert!(inbox.storage_bytes() <= 8 * 1024, "{}", inbox.storage_bytes());
    }
}

#[test]
fn a_peer_whose_bytes_are_used_up_is_read_a_whole_block_from_soon() {
    let mut bench = Bench::new(Limits { messages_per_turn: 100_000, ..Limits::default() });
    let (_, far) = bench.line();
    far.say(&[1; 7 * 60_000]);
    let turns: Vec<u64> = (0..8).map(|_| bench.turn().bytes_in).collect();
    assert!(turns.contains(&(LARGE_BYTES as u64)), "{turns:?}");
}

#[test]
fn a_timer_that_comes_due_in_a_long_turn_does_not_wait_for_its_end_and_is_not_early() {
    use std::io::{Read, Write};
    const PEERS: usize = 40;
    let slow = Slow { peers: Vec::new(), served: 0, due: Moment::default(), fired: Vec::new() };
    let limits = Limits { serve_time_per_turn: Duration::from_secs(100), ..Limits::default() };
    let mut reactor = Reactor::new(slow, limits).expect("a poll");
    let mut far: Vec<std::os::unix::net::UnixStream> = Vec::new();
    for _ in 0..PEERS {
        let (near, end) = std::os::unix::net::UnixStream::pair().expect("two ends");
        near.set_nonblocking(true).expect("it can be");
        let stream = crate::transport::Stream::Unix(mio::net::UnixStream::from_std(near));
        reactor.board().connect(stream, ()).expect("room for it");
        far.push(end);
    }
    while reactor.handler().peers.len() < PEERS {
        reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
    let (slow, board) = reactor.handler_and_board();
    slow.set_timer(board);
    far.iter_mut().for_each(|end| end.write_all(b"x").expect("room for it"));
    reactor.turn(Some(Duration::from_secs(5))).expect("a turn");
    assert_eq!(reactor.handler().served, PEERS, "all of that is one turn");
    let fired = reactor.handler().fired.clone();
    assert!(fired.len() >= 5 && fired[0] < PEERS / 2, "{:?}", &fired[..fired.len().min(9)]);
    // And what was said then was not kept back either.
    far.iter_mut().for_each(|end| end.set_nonblocking(true).expect("it can be"));
    let mut heard = Vec::new();
    let _ = far.iter_mut().map(|end| end.read_to_end(&mut heard)).collect::<Vec<_>>();
    assert_eq!(heard.len(), 4 * fired.len());
}
