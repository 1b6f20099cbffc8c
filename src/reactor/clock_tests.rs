//! When the clock is looked at, and what happens when time passes within a turn. Each look moves the clock on, so a test knows
//! how many there were.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::listener::{Listener, Pause};
use super::tests::{Act, Bench};
use super::*;
use crate::transport::wire::{Remote, Wire, WireListener, wire};

const MESSAGE: &[u8] = b"1234567";
const NANOSECOND: Duration = Duration::from_nanos(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Lines that are open, on a loop whose looks at the clock take this long each.
fn lines(count: usize, look: Duration) -> (Bench, Vec<Remote>) {
    let mut bench = Bench::with_look(Limits::default(), look);
    let lines = (0..count).map(|_| bench.line().1).collect();
    (bench, lines)
}

/// One turn; how often it looked at the clock, if a look takes a nanosecond.
fn looks(bench: &mut Bench) -> u64 {
    bench.turn();
    bench.time.load(Ordering::Relaxed) - bench.now.since(Moment::default()).as_nanos() as u64
}

fn answered(lines: &[Remote]) -> usize {
    lines.iter().filter(|far| !far.hear().is_empty()).count()
}

#[test]
fn while_sources_are_served_the_clock_is_looked_at_twice_for_every_four_of_them() {
    let (mut bench, lines) = lines(20, NANOSECOND);
    lines.iter().for_each(|far| far.say(MESSAGE));
    // One for the turn's end, one for its sum, and then: is the time over, is a timer due?
    assert_eq!(looks(&mut bench), 2 + 5 * 2);
    assert_eq!(answered(&lines), 20);
    lines[..3].iter().for_each(|far| far.say(MESSAGE));
    assert_eq!(looks(&mut bench), 2, "three are too few for a look");
}

#[test]
fn while_connections_are_opened_the_clock_is_looked_at_once_for_every_four_of_them() {
    let (mut bench, _) = lines(0, NANOSECOND);
    let lines: Vec<_> = (0..20).map(|_| wire()).collect();
    for (near, _) in lines {
        bench.reactor.board().connect(near, ()).expect("room for it");
    }
    assert_eq!(looks(&mut bench), 5 + (2 + 5 * 2), "and they are served in the same turn");
    assert_eq!(bench.reactor.handler().opened.len(), 20);
}

#[test]
fn outboxes_of_a_small_room_cost_no_look_at_the_clock() {
    let [three, four] = [3, 4].map(|members| {
        let (mut bench, poster, _) = room(members, NANOSECOND);
        poster.say(b"p234567");
        looks(&mut bench)
    });
    assert_eq!((three, four), (2, 3), "with the fourth outbox, whether a timer is due");
}

/// A member who posts, and a room of `members` others.
fn room(members: usize, look: Duration) -> (Bench, Remote, Vec<Remote>) {
    let mut bench = Bench::with_look(Limits::default(), look);
    let (_, poster) = bench.line();
    let room: Vec<(Peer, Remote)> = (0..members).map(|_| bench.line()).collect();
    let acts = room.iter().map(|(peer, _)| (b'p', Act::Send(*peer, b"post ")));
    bench.reactor.handler().acts.extend(acts);
    (bench, poster, room.into_iter().map(|(_, far)| far).collect())
}

#[test]
fn a_slice_of_a_large_room_ends_when_its_time_is_over() {
    let (mut bench, poster, room) = room(200, Duration::from_micros(200));
    poster.say(b"p234567");
    bench.turn();
    assert_eq!(answered(&room), 8, "two looks for every four of them: 500 us are over after eight");
}

#[test]
fn openings_end_when_the_turns_time_is_over_and_go_on_in_the_next_turn() {
    let (mut bench, _) = lines(0, 4 * MILLISECOND); // as long as a turn may last
    for _ in 0..20 {
        bench.reactor.board().connect(wire().0, ()).expect("room for it");
    }
    bench.turn();
    assert_eq!(bench.reactor.handler().opened.len(), 7, "the first look, at the fourth, is in time");
    for _ in 0..5 {
        bench.turn();
    }
    assert_eq!(bench.reactor.handler().opened.len(), 20);
}

/// The turn may last 4 ms. Three handshakes take 7 ms, so serving gets half of that.
#[test]
fn after_long_handshakes_those_who_talk_still_get_half_as_much_time() {
    let limits = Limits { handshake_time_per_turn: Duration::from_secs(1), ..Limits::default() };
    let mut bench = Bench::with_look(limits, MILLISECOND);
    let lines: Vec<Remote> = (0..20).map(|_| bench.line().1).collect();
    for _ in 0..6 {
        let (near, far) = wire();
        far.shake_hands(1);
        bench.reactor.board().connect(near, ()).expect("room for it");
    }
    lines.iter().for_each(|far| far.say(MESSAGE));
    let before = bench.reactor.handler().opened.len();
    bench.turn();
    assert_eq!(bench.reactor.handler().opened.len() - before, 3);
    assert_eq!(answered(&lines), 11, "from 7 ms to 10.5 ms there are looks with the 4th and the 8th");
}

#[test]
fn a_timer_that_is_due_at_the_very_moment_of_a_look_fires_then() {
    let (mut bench, lines) = lines(5, MILLISECOND);
    bench.reactor.board().set_timer(2 * MILLISECOND, 7);
    lines.iter().for_each(|far| far.say(MESSAGE));
    bench.turn(); // looks at 0 and 1 ms for the turn's end, at 2 ms for timers
    assert_eq!(bench.reactor.handler().timers, [7]);
}

#[test]
fn the_time_of_a_turn_stands_still_while_no_timer_is_due() {
    let (mut bench, lines) = lines(20, MILLISECOND / 100);
    bench.reactor.board().set_timer(Duration::from_secs(1), 7);
    lines.iter().for_each(|far| far.say(MESSAGE));
    bench.turn();
    assert_eq!(bench.reactor.board().now(), bench.now);
}

/// At a limit, one client goes and the next one comes: each of these pauses would be a line in the log.
#[test]
fn pauses_of_a_listener_that_follow_each_other_within_ten_seconds_are_one_episode() {
    let mut listener = Listener::new((), Arc::default());
    let (mut spells, at) = (0, |seconds, ns| Moment::at(Duration::new(seconds, ns)));
    assert!(listener.begin_pause(Pause::Full, at(100, 0), &mut spells));
    assert_eq!(spells, 1);
    assert!(!listener.begin_pause(Pause::Full, at(110, 0), &mut spells));
    assert_eq!(spells, 1, "it has not caught up in between");
    listener.is_behind = false;
    assert!(listener.begin_pause(Pause::Full, at(120, 1), &mut spells), "ten seconds and a nanosecond");
    assert_eq!(spells, 2);
    assert!(!listener.begin_pause(Pause::Full, at(121, 0), &mut spells));
}

#[test]
fn a_renewed_listener_without_a_backlog_does_not_rest() {
    let mut bench = Bench::with_look(Limits::default(), Duration::ZERO);
    let index = bench.reactor.listen(WireListener::default()).expect("a listener");
    assert!(bench.reactor.listener_mut(index).is_some());
    let index = bench.reactor.renew_listener(index, Limits::default(), |socket| socket).expect("it listens");
    bench.turn();
    assert!(bench.reactor.listeners[index].pause == Pause::No, "the poll knows it now");
}

#[test]
fn an_event_of_a_listener_that_brings_no_connection_is_no_reason_to_rest() {
    let mut bench = Bench::with_look(Limits::default(), Duration::ZERO);
    let index = bench.reactor.listen(WireListener::default()).expect("a listener");
    bench.reactor.turn_with(bench.now, &[(Source::Listener(index as u32).token(), Readiness::READABLE)]);
    assert!(bench.reactor.listeners[index].pause == Pause::No);
    assert_eq!(bench.reactor.board().counters().accept_pauses, 0);
}

#[test]
fn a_listener_that_closes_with_a_backlog_leaves_no_work_behind() {
    let limits = Limits { accepts_per_turn: 1, ..Limits::default() };
    let mut bench = Bench::with_look(limits, Duration::ZERO);
    let listener = bench.listener.clone();
    let index = bench.reactor.listen(listener.clone()).expect("a listener");
    (0..5).for_each(|_| listener.put(Ok(wire().0)));
    bench.turn();
    assert!(bench.reactor.listener(index).is_some() && bench.reactor.has_work(), "more of them wait");
    bench.reactor.unlisten(index, true).expect("it listens");
    assert!(bench.reactor.listener(index).is_none());
    assert!(!bench.reactor.board.queue.contains(&Source::Listener(index as u32).token()));
}

#[test]
fn what_nobody_will_ask_for_any_more_is_not_kept() {
    let mut bench = Bench::with_look(Limits::default(), Duration::ZERO);
    let (peer, far) = bench.line();
    bench.reactor.handler().acts.push((b'x', Act::Finish(peer)));
    far.say(b"x234567and more behind it");
    bench.turn();
    let connection = bench.reactor.board().get_mut(peer).expect("it lingers");
    assert!(connection.inbox.is_empty(), "{} bytes", connection.inbox.len());
}

/// Vets each step, and refuses the connection at one of them.
#[derive(Default)]
struct Vets {
    steps: Vec<Result<Opening, io::ErrorKind>>,
    refuses: Option<usize>,
    opened: usize,
    closed: Vec<CloseReason>,
}

impl Handler for Vets {
    type Transport = Wire;
    type State = ();

    fn admit(&mut self, _listener: usize, _wire: &mut Wire, _address: &(), _now: Moment) -> Option<()> {
        Some(())
    }

    fn vet(
        &mut self,
        _state: &mut (),
        _wire: &mut Wire,
        step: Result<Opening, &io::Error>,
        _now: Moment,
    ) -> bool {
        self.steps.push(step.map_err(io::Error::kind));
        self.refuses != Some(self.steps.len())
    }

    fn on_open(&mut self, _board: &mut BoardOf<Self>, _peer: Peer) {
        self.opened += 1;
    }

    fn on_bytes(&mut self, _board: &mut BoardOf<Self>, _from: Peer, inbox: &mut Buffer) {
        inbox.clear();
    }

    fn on_wake(&mut self, board: &mut BoardOf<Self>) {
        board.shutdown();
    }

    fn on_close(&mut self, _board: &mut BoardOf<Self>, _peer: Peer, _state: (), reason: CloseReason) {
        self.closed.push(reason);
    }
}

/// A loop with one connection that opens in two steps and a handshake of two events.
fn opening(refuses: Option<usize>) -> (Reactor<Vets>, Peer, Remote) {
    let handler = Vets { refuses, ..Vets::default() };
    let mut reactor = Reactor::new(handler, Limits::default()).expect("a poll");
    let (near, far) = wire();
    far.take_steps(2);
    far.shake_hands(2);
    let peer = reactor.board().connect(near, ()).expect("room for it");
    (reactor, peer, far)
}

fn turn(reactor: &mut Reactor<Vets>, peer: Peer) {
    reactor.turn_with(Moment::default(), &[(Token::from(peer), Readiness::READABLE)]);
}

#[test]
fn each_step_of_an_opening_is_vetted_once_and_waiting_is_no_step() {
    let (mut reactor, peer, _far) = opening(None);
    for (turns, steps) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
        turn(&mut reactor, peer);
        assert_eq!(reactor.handler().steps.len(), steps, "after {turns} turns");
        assert_eq!(reactor.handler().opened, usize::from(turns >= 4), "after {turns} turns");
    }
    assert_eq!(reactor.handler().steps, [Ok(Opening::Step), Ok(Opening::Step), Ok(Opening::Done)]);
}

#[test]
fn a_connection_that_is_refused_at_a_step_goes_no_further() {
    for refused_at in 1..=3 {
        let (mut reactor, peer, far) = opening(Some(refused_at));
        for _ in 0..5 {
            turn(&mut reactor, peer);
        }
        assert_eq!(reactor.handler().steps.len(), refused_at);
        assert_eq!(reactor.handler().closed, [CloseReason::Refused]);
        assert_eq!((reactor.handler().opened, far.saw_close()), (0, true));
    }
}

#[test]
fn an_opening_that_fails_is_vetted_and_ends_with_its_error() {
    let (mut reactor, peer, far) = opening(None);
    far.reset();
    turn(&mut reactor, peer);
    assert_eq!(reactor.handler().steps, [Err(io::ErrorKind::ConnectionReset)]);
    assert_eq!(reactor.handler().closed, [CloseReason::Unestablished(io::ErrorKind::ConnectionReset)]);
}

#[test]
fn at_a_stop_a_connection_that_is_still_opening_is_closed_and_not_waited_for() {
    let (mut reactor, peer, _far) = opening(None);
    turn(&mut reactor, peer);
    turn(&mut reactor, peer);
    reactor.drain();
    turn(&mut reactor, peer);
    assert_eq!(reactor.handler().closed, [CloseReason::Drained]);
}

#[test]
fn run_ends_when_the_handler_asks_for_a_stop_and_the_last_connection_is_gone() {
    // No poll reports a wire's events: a moment without them ends this connection.
    let limits = Limits { stall_after: MILLISECOND, ..Limits::default() };
    let mut reactor = Reactor::new(Vets::default(), limits).expect("a poll");
    let (near, _far) = wire();
    reactor.board().connect(near, ()).expect("room for it");
    reactor.waker().wake().expect("a waker");
    reactor.run().expect("a poll");
    assert!(reactor.board().draining());
    assert_eq!((reactor.handler().opened, reactor.handler().closed.len()), (1, 1));
}

#[cfg(unix)]
#[test]
fn a_turn_reports_that_a_watched_source_of_signals_is_readable() {
    use std::io::Write;

    let mut reactor = Reactor::new(Vets::default(), Limits::default()).expect("a poll");
    let (mut sender, mut signals) = mio::net::UnixStream::pair().expect("two ends");
    reactor.watch_signals(&mut signals).expect("the poll takes it");
    assert!(!reactor.turn(Some(Duration::ZERO)).expect("a turn").signalled);
    sender.write_all(b"!").expect("room for it");
    assert!(reactor.turn(Some(Duration::from_secs(10))).expect("a turn").signalled);
}
