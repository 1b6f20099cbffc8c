//! Endings: a connection ends once, whatever the causes.
//!
//! An event, a deadline, a `close` or `finish` in any callback, a drain and a cut can fall into one turn, in any order.
//! The handler here does in each callback what a script says next, to any peer; the world around it says, finishes,
//! resets, and lets time jump to where deadlines are due. Whatever happens, each connection is closed exactly once, and
//! no callback names one that is gone.

use std::collections::HashSet;
use std::time::Duration;

use mio::Token;
use proptest::prelude::*;

use super::connection::Half;
use super::*;
use crate::transport::wire::{Remote, Wire, wire};

/// What a callback does about a connection, by its place in the list of all that were opened.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Nothing,
    Send(usize, usize),
    /// Sends as long as there is room.
    Fill(usize),
    Finish(usize),
    HalfClose(usize),
    Close(usize),
    Hold(usize),
    Release(usize),
    SetTimer(u64),
    /// The answer of `on_idle` and `on_stop`, where it is one of those.
    Say(bool),
}

/// Does what its script says, and holds what it is told against what it knows.
#[derive(Default)]
struct Restless {
    script: Vec<Deed>,
    next: usize,
    peers: Vec<Peer>,
    closed: HashSet<Peer>,
}

impl Restless {
    /// The next two deeds of the script, which begins again at its end.
    fn act(&mut self, board: &mut BoardOf<Self>, about: Option<Peer>) -> bool {
        assert!(
            about.is_none_or(|peer| !self.closed.contains(&peer)),
            "a callback about a closed connection"
        );
        board.stages(); // held against all connections there
        let mut answer = false;
        for _ in 0..2 {
            let Some(deed) = self.script.get(self.next % self.script.len().max(1)).copied() else { break };
            self.next += 1;
            let peer = |who: usize| self.peers[who % self.peers.len()];
            match deed {
                Deed::Nothing => {}
                Deed::Send(who, count) => board.send(peer(who), &vec![b'x'; count]),
                Deed::Fill(who) => {
                    while let Some(room) = board.room(peer(who)) {
                        board.send(peer(who), &vec![b'x'; room.get().min(100)]);
                    }
                }
                Deed::Finish(who) => board.finish(peer(who)),
                Deed::HalfClose(who) => board.half_close(peer(who)),
                Deed::Close(who) => board.close(peer(who)),
                Deed::Hold(who) => board.hold(peer(who)),
                Deed::Release(who) => board.release(peer(who)),
                Deed::SetTimer(milliseconds) => board.set_timer(Duration::from_millis(milliseconds), 1),
                Deed::Say(yes) => answer = yes,
            }
        }
        answer
    }
}

impl Handler for Restless {
    type Transport = Wire;
    type State = ();

    fn admit(&mut self, _listener: usize, _wire: &mut Wire, _address: &(), _now: Moment) -> Option<()> {
        Some(())
    }

    fn on_open(&mut self, board: &mut BoardOf<Self>, peer: Peer) {
        self.act(board, Some(peer));
    }

    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        while !inbox.is_empty() && board.admit_message(from).is_some() {
            inbox.consume(inbox.len().min(5));
            self.act(board, Some(from));
        }
    }

    fn on_finish(&mut self, board: &mut BoardOf<Self>, from: Peer, _inbox: &mut Buffer) {
        self.act(board, Some(from));
        board.finish(from);
    }

    fn on_drain(&mut self, board: &mut BoardOf<Self>, peer: Peer) {
        let writing = board.get(peer).map(|connection| connection.writing);
        assert_eq!(writing, Some(Half::Open), "asked for more that cannot be sent");
        self.act(board, Some(peer));
    }

    fn on_overdue(&mut self, board: &mut BoardOf<Self>, peer: Peer) {
        if !self.act(board, Some(peer)) {
            board.finish_because(peer, CloseReason::MessageTimeout);
        }
    }

    fn on_idle(&mut self, board: &mut BoardOf<Self>, peer: Peer) -> bool {
        self.act(board, Some(peer))
    }

    fn on_stop(&mut self, board: &mut BoardOf<Self>, peer: Peer) -> bool {
        let later = self.act(board, Some(peer));
        if !later {
            board.finish_because(peer, CloseReason::Drained);
        }
        !later
    }

    fn on_timer(&mut self, board: &mut BoardOf<Self>, _timer: Timer) {
        self.act(board, None);
    }

    fn on_close(&mut self, board: &mut BoardOf<Self>, peer: Peer, _state: (), _reason: CloseReason) {
        assert!(self.closed.insert(peer), "closed twice");
        assert!(!board.is_open(peer) && board.room(peer).is_none() && board.state(peer).is_none());
        self.act(board, None);
    }
}

/// What happens to the loop from outside.
#[derive(Debug, Clone, Copy)]
enum Event {
    Say(usize, usize),
    Finish(usize),
    Reset(usize),
    MakeRoom(usize, usize),
    Open {
        handshake: bool,
    },
    /// The owner of the loop does this between two turns.
    Owner(Deed),
    Drain,
    Cut,
    Turn {
        milliseconds: u64,
    },
}

fn deed() -> impl Strategy<Value = Deed> {
    let who = || 0..6usize;
    prop_oneof![
        2 => Just(Deed::Nothing),
        2 => (who(), 1..400usize).prop_map(|(who, count)| Deed::Send(who, count)),
        2 => who().prop_map(Deed::Fill),
        2 => who().prop_map(Deed::Finish),
        1 => who().prop_map(Deed::HalfClose),
        3 => who().prop_map(Deed::Close),
        1 => who().prop_map(Deed::Hold),
        1 => who().prop_map(Deed::Release),
        1 => (0..8u64).prop_map(Deed::SetTimer),
        1 => any::<bool>().prop_map(Deed::Say),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let who = || 0..6usize;
    prop_oneof![
        4 => (who(), 1..100usize).prop_map(|(who, count)| Event::Say(who, count)),
        2 => who().prop_map(Event::Finish),
        2 => who().prop_map(Event::Reset),
        2 => (who(), 0..300usize).prop_map(|(who, count)| Event::MakeRoom(who, count)),
        1 => any::<bool>().prop_map(|handshake| Event::Open { handshake }),
        2 => deed().prop_map(Event::Owner),
        1 => Just(Event::Drain),
        1 => Just(Event::Cut),
        6 => (0..12u64).prop_map(|milliseconds| Event::Turn { milliseconds }),
    ]
}

/// Deadlines of a few milliseconds, so that they fall into the same turns as everything else.
fn limits() -> Limits {
    Limits {
        handshake_within: Duration::from_millis(6),
        message_within: Duration::from_millis(5),
        message_bytes_per_s_min: 1_000_000,
        idle_after: Duration::from_millis(10),
        stall_after: Duration::from_millis(7),
        linger_for: Duration::from_millis(3),
        outbox_bytes_high: 200,
        outbox_bytes_max: 600,
        inbox_bytes_max: 60,
        messages_per_turn: 3,
        ..Limits::default()
    }
}

fn run(script: Vec<Deed>, events: Vec<Event>) {
    let handler = Restless { script, ..Restless::default() };
    let mut reactor = Reactor::new(handler, limits()).expect("a poll");
    let mut lines: Vec<(Peer, Remote)> = Vec::new();
    let mut now = Moment::default();
    let open = |reactor: &mut Reactor<Restless>, lines: &mut Vec<(Peer, Remote)>, handshake: bool| {
        let (near, far) = wire();
        far.make_room(50);
        if handshake {
            far.shake_hands(3);
        }
        let peer = reactor.board().connect(near, ()).expect("room for it");
        reactor.handler().peers.push(peer);
        lines.push((peer, far));
    };
    open(&mut reactor, &mut lines, false);
    open(&mut reactor, &mut lines, false);
    for event in events {
        let line = |who: usize| &lines[who % lines.len()].1;
        match event {
            Event::Say(who, count) => line(who).say(&vec![b'y'; count]),
            Event::Finish(who) => line(who).finish(),
            Event::Reset(who) => line(who).reset(),
            Event::MakeRoom(who, count) => line(who).make_room(count),
            Event::Open { handshake } => open(&mut reactor, &mut lines, handshake),
            Event::Owner(deed) => {
                let (handler, board) = reactor.handler_and_board();
                let script = std::mem::replace(&mut handler.script, vec![deed]);
                handler.act(board, None);
                handler.script = script;
            }
            Event::Drain => reactor.drain(),
            Event::Cut => reactor.cut(),
            Event::Turn { milliseconds } => {
                now = now.after(Duration::from_millis(milliseconds));
                let ready: Vec<_> =
                    lines.iter().map(|(peer, far)| (Token::from(*peer), far.take_edge())).collect();
                reactor.turn_with(now, &ready);
            }
        }
    }
    reactor.cut();
    let (handler, board) = reactor.handler_and_board();
    assert_eq!(board.connections(), 0);
    assert_eq!(handler.closed, handler.peers.iter().copied().collect(), "each one is closed");
    assert_eq!(board.counters().closed.iter().sum::<u64>(), handler.peers.len() as u64, "and counted once");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_connection_ends_once_whatever_the_causes_and_their_order(
        script in prop::collection::vec(deed(), 0..12),
        events in prop::collection::vec(event(), 0..60),
    ) {
        run(script, events);
    }
}

/// What ended the process: a peer resets in the turn in which its deadline is due.
#[test]
fn a_reset_in_the_turn_of_ones_own_deadline_closes_once() {
    for milliseconds in [3, 5, 6, 7, 10] {
        let turn = Event::Turn { milliseconds: 0 };
        let later = Event::Turn { milliseconds };
        run(vec![Deed::Finish(0)], vec![turn, Event::Say(0, 5), turn, Event::Reset(0), later, later]);
        run(vec![Deed::Nothing], vec![turn, Event::Say(0, 4), turn, Event::Reset(0), later, later]);
        run(vec![Deed::Fill(0)], vec![turn, Event::Say(0, 5), turn, Event::Reset(0), later, later]);
    }
}
