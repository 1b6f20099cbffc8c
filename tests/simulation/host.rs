//! The program in the simulated world: small services that use all that a handler may do, and that notice when a promise
//! to handlers is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use switchboard::reactor::{BoardOf, Buffer, CloseReason, Handler, Moment, Peer, Route, Timer};

use crate::kernel::Pipe;

/// What a client has come for: its first byte says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Bytes back as they came.
    Echo,
    /// Each line back when it is whole.
    Lines,
    /// [`SOURCE_BYTES`] of them, as fast as they are taken.
    Source,
    /// Sends each line to all members of the room.
    Room,
}

impl Service {
    pub(crate) const ALL: [Service; 4] = [Service::Echo, Service::Lines, Service::Source, Service::Room];

    fn letter(self) -> u8 {
        b'e' + Service::ALL.iter().position(|it| *it == self).expect("it is one of them") as u8
    }

    fn of(letter: u8) -> Option<Service> {
        Service::ALL.into_iter().find(|it| it.letter() == letter)
    }
}

#[derive(Default)]
pub(crate) struct State {
    /// Which guest it is, and what for: known from its first message on.
    guest: Option<(u16, Service)>,
    /// How many bytes of the source were sent to it.
    told: u32,
    /// Set on an outgoing connection: how many bytes of our words have come back.
    echoed: Option<usize>,
}

impl State {
    /// Of an outgoing connection.
    pub(crate) fn called() -> State {
        State { echoed: Some(0), ..State::default() }
    }
}

/// How many bytes, made by [`source_byte`], we send on an outgoing connection. The other end sends them back.
pub(crate) const CALL_BYTES: usize = 2000;

/// The byte of a source at this place.
pub(crate) fn source_byte(index: usize) -> u8 {
    (index % 251) as u8
}

/// It has an end: while it is held up by its own outbox it does not read, and would not hear that its peer has finished.
pub(crate) const SOURCE_BYTES: usize = 3000;

/// How a guest's first message begins: its service's letter, and its number.
pub(crate) const GREETING_BYTES: usize = 3;

/// The first bytes of a guest.
pub(crate) fn greeting(service: Service, number: u16) -> [u8; GREETING_BYTES] {
    let [high, low] = number.to_be_bytes();
    [service.letter(), high, low]
}

/// The key of the only timer.
const TICK: u64 = 1;

/// A room of this many members is told of ticks. In a late turn, that is in the middle of other work, and more than the loop
/// writes there.
const CROWD: usize = 65;

/// Nothing is told of later ticks. A window of a few bytes could not keep up with them for ever.
const TICKS_TOLD: u64 = 200;

#[derive(Default)]
pub(crate) struct Host {
    /// The open connections, by the callbacks.
    pub(crate) present: BTreeSet<Peer>,
    members: BTreeSet<Peer>,
    /// All lines of the room, in the order in which every member receives them.
    pub(crate) log: Vec<u8>,
    /// How guests ended.
    pub(crate) ended: BTreeMap<u16, CloseReason>,
    /// The guests whose connections were closed as idle in this turn.
    pub(crate) silent: Vec<u16>,
    /// How outgoing connections ended, and how many bytes had come back.
    pub(crate) calls_ended: Vec<(Peer, CloseReason, usize)>,
    /// Messages of each that were served in this turn.
    pub(crate) served: BTreeMap<Peer, usize>,
    pub(crate) datagrams_answered: u64,
    pub(crate) admitted: u64,
    pub(crate) closed: u64,
    /// Whether there is a timer as long as somebody is there.
    ticks: bool,
    /// One connection in this many is refused; 0: none.
    refuses_one_in: u64,
    ticks_armed: bool,
    /// Every tenth tick the program ends a connection, and it uses names of connections that have ended.
    kicks: bool,
    ticked: u64,
    /// How many ticks the room was told of.
    ticks_told: u64,
    /// The connection that ended last.
    gone: Option<Peer>,
}

impl Host {
    pub(crate) fn new(ticks: bool, kicks: bool, refuses_one_in: u64) -> Host {
        Host { ticks: ticks || kicks, kicks, refuses_one_in, ..Host::default() }
    }

    fn lines(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer, to_all: bool) {
        while let Some(length) = inbox.bytes().iter().position(|byte| *byte == b'\n') {
            if board.admit_message(from).is_none() {
                return;
            }
            *self.served.entry(from).or_default() += 1;
            if to_all {
                self.log.extend_from_slice(&inbox.bytes()[..=length]);
            }
            match to_all {
                true => self.members.iter().for_each(|member| board.send(*member, &inbox.bytes()[..=length])),
                false => board.send(from, &inbox.bytes()[..=length]),
            }
            inbox.consume(length + 1);
        }
    }

    /// Ends a connection in one way or another and goes on using its name, and the name of a connection that ended long ago.
    /// Such uses must have no effect.
    fn misuse_names(&mut self, board: &mut BoardOf<Self>) {
        let present = self.present.first().copied();
        match (self.ticked % 20, present) {
            (10, Some(peer)) => board.finish_because(peer, CloseReason::Closed),
            (0, Some(peer)) => {
                board.close(peer);
                board.close(peer);
            }
            _ => {}
        }
        if let Some(gone) = self.gone {
            board.send(gone, b"nobody is told this");
            board.half_close(gone);
            board.finish(gone);
            board.close(gone);
            assert!(board.room(gone).is_none() && board.state(gone).is_none(), "{gone} is gone");
        }
    }

    fn tell(&mut self, board: &mut BoardOf<Self>, peer: Peer) {
        while let Some(room) = board.room(peer) {
            let Some(state) = board.state(peer) else { return };
            let first = state.told as usize;
            let end = SOURCE_BYTES.min(first + room.get().min(1000));
            if first == SOURCE_BYTES {
                return board.finish(peer);
            }
            let part: Vec<u8> = (first..end).map(source_byte).collect();
            state.told += part.len() as u32;
            board.send(peer, &part);
        }
    }
}

impl Handler for Host {
    type Transport = Pipe;
    type State = State;

    fn admit(&mut self, _listener: usize, _pipe: &mut Pipe, _address: &(), _now: Moment) -> Option<State> {
        self.admitted += 1;
        let is_refused = self.refuses_one_in > 0 && self.admitted.is_multiple_of(self.refuses_one_in);
        (!is_refused).then(State::default)
    }

    fn on_open(&mut self, board: &mut BoardOf<Self>, peer: Peer) {
        assert!(self.present.insert(peer), "{peer} opens twice");
        if board.state(peer).is_some_and(|state| state.echoed.is_some()) {
            let words: Vec<u8> = (0..CALL_BYTES).map(source_byte).collect();
            board.send(peer, &words);
        }
        if self.ticks && !std::mem::replace(&mut self.ticks_armed, true) {
            board.set_timer(Duration::from_millis(3), TICK);
        }
    }

    fn on_bytes(&mut self, board: &mut BoardOf<Self>, from: Peer, inbox: &mut Buffer) {
        assert!(self.present.contains(&from), "{from} speaks, and is not there");
        assert!(!inbox.is_empty(), "{from} says nothing");
        let state = board.state(from).expect("it has spoken just now");
        if let Some(echoed) = &mut state.echoed {
            let is_right = inbox.bytes().iter().zip(*echoed..).all(|(byte, at)| *byte == source_byte(at));
            assert!(is_right, "{from} says something else than we have said");
            *echoed += inbox.len();
            inbox.consume(inbox.len());
            if *echoed == CALL_BYTES {
                board.finish(from);
            }
            return;
        }
        if state.guest.is_none() {
            let &[letter, high, low, ..] = inbox.bytes() else { return };
            let Some(service) = Service::of(letter) else { return board.close(from) };
            state.guest = Some((u16::from_be_bytes([high, low]), service));
            inbox.consume(GREETING_BYTES);
            if service == Service::Room {
                self.members.insert(from);
            }
        }
        match board.state(from).and_then(|state| state.guest).map(|(_, service)| service) {
            Some(Service::Echo) => {
                if !inbox.is_empty() && board.admit_message(from).is_some() {
                    board.send(from, inbox.bytes());
                    inbox.consume(inbox.len());
                }
            }
            Some(Service::Lines) => self.lines(board, from, inbox, false),
            Some(Service::Room) => self.lines(board, from, inbox, true),
            Some(Service::Source) => {
                inbox.consume(inbox.len());
                self.tell(board, from);
            }
            None => board.close(from),
        }
    }

    fn on_drain(&mut self, board: &mut BoardOf<Self>, peer: Peer) {
        assert!(self.present.contains(&peer), "{peer} is drained, and is not there");
        if board.state(peer).is_some_and(|state| matches!(state.guest, Some((_, Service::Source)))) {
            assert!(board.room(peer).is_some(), "{peer} has drained, and has no room");
            self.tell(board, peer);
        }
    }

    /// An answer of the same bytes.
    fn on_datagram(&mut self, board: &mut BoardOf<Self>, socket: usize, route: Route, bytes: &[u8]) {
        self.datagrams_answered += 1;
        board.send_to(socket, route, bytes);
    }

    fn on_timer(&mut self, board: &mut BoardOf<Self>, Timer { key, .. }: Timer) {
        assert_eq!(key, TICK);
        self.ticked += 1;
        if self.kicks {
            self.misuse_names(board);
        }
        if self.members.len() >= CROWD && self.ticks_told < TICKS_TOLD {
            self.ticks_told += 1;
            let line = format!("tick {}\n", self.ticked);
            self.log.extend_from_slice(line.as_bytes());
            self.members.iter().for_each(|member| board.send(*member, line.as_bytes()));
        }
        if self.present.is_empty() {
            self.ticks_armed = false;
        } else {
            board.set_timer(Duration::from_millis(3), TICK);
        }
    }

    fn on_close(&mut self, _board: &mut BoardOf<Self>, peer: Peer, state: State, reason: CloseReason) {
        if let Some(echoed) = state.echoed {
            self.calls_ended.push((peer, reason, echoed));
        }
        self.closed += 1;
        self.gone = Some(peer);
        self.present.remove(&peer);
        self.members.remove(&peer);
        if let Some((number, _)) = state.guest {
            if reason == CloseReason::Idle {
                self.silent.push(number);
            }
            assert!(self.ended.insert(number, reason).is_none(), "guest {number} ends twice");
        }
    }
}
