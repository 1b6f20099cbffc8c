//! One world: a loop, its guests, and one clock, all of it drawn from a seed. See [`World::run`].

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use switchboard::reactor::{Clock, CloseReason, Limits, Moment, Reactor};

use crate::dice::Dice;
use crate::host::{GREETING_BYTES, Host, SOURCE_BYTES, Service, source_byte};
use crate::kernel::{self, Backlog, Client, Kernel, Odds, Shared};

/// After the faults have stopped, everything that is owed must have come within so many turns, and so much time.
const CALM_TURNS: usize = 20_000;
const CALM_TIME: Duration = Duration::from_secs(5);

/// How a guest behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Says all, reads all, finishes.
    Polite,
    /// Reads nothing until the world has calmed down.
    Deaf,
    /// Goes in the middle, with a reset.
    Resets,
    /// Finishes in the middle, and reads on.
    StopsShort,
}

struct Guest {
    client: Client,
    service: Service,
    manner: Manner,
    /// All that it has to say, and how much of it has been taken.
    words: Vec<u8>,
    said: usize,
    heard: Vec<u8>,
    gone: bool,
}

impl Guest {
    /// What it says behind its greeting: all or part of it comes back.
    fn owed(&self) -> &[u8] {
        self.words.get(GREETING_BYTES..).unwrap_or_default()
    }

    /// It has said everything, and has what it came for.
    fn has_all(&self) -> bool {
        let all = match self.service {
            _ if self.manner == Manner::StopsShort => 0,
            Service::Echo | Service::Lines => self.owed().len(),
            Service::Source => SOURCE_BYTES,
            Service::Room => 0,
        };
        // Whoever finished at once would wake a server that has forgotten it.
        self.said == self.words.len() && (self.heard.len() >= all || self.client.is_at_the_end())
    }
}

/// What a seed draws for its world.
#[derive(Debug)]
struct Plan {
    odds: Odds,
    window: usize,
    promises: bool,
    look: Duration,
    turns: usize,
    guests: usize,
    /// Whether the clock jumps: then deadlines strike.
    jumps: bool,
    /// The program ends connections at times of its own.
    kicks: bool,
    drains: bool,
    cuts: bool,
    /// Limits change, and accepting pauses.
    owner_acts: bool,
    limits: Limits,
    handshakes: bool,
    ticks: bool,
    refuses_one_in: u64,
}

impl Plan {
    fn draw(dice: &mut Dice) -> Plan {
        // Each fault is absent, rare or frequent, each on its own: so some worlds are calm and some are extreme.
        let often = |dice: &mut Dice| dice.pick(&[0, 0, 10, 100, 500]);
        let mut odds = Odds {
            short_read: often(dice),
            short_write: often(dice),
            would_block: often(dice),
            late: often(dice),
            spurious: often(dice),
            accept_fails: often(dice),
            handshake: often(dice),
            finish_fails: dice.pick(&[0, 0, 0, 50]),
        };
        let promises = dice.one_in(2);
        if promises {
            odds.short_read = 0;
        }
        let usual = Limits::default();
        let limits = Limits {
            connections_max: dice.pick(&[2, 5, 100]),
            accepts_per_turn: dice.pick(&[1, 3, 64]),
            read_bytes_per_turn: dice.pick(&[10, 300, usual.read_bytes_per_turn]),
            messages_per_turn: dice.pick(&[1, 3, 2000]),
            inbox_bytes_max: dice.pick(&[2000, usual.inbox_bytes_max]),
            outbox_bytes_high: dice.pick(&[100, 5000, usual.outbox_bytes_high]),
            outbox_bytes_max: dice.pick(&[200_000, usual.outbox_bytes_max]),
            handshakes_per_turn: dice.pick(&[1, 16]),
            handshakes_max: dice.pick(&[1, 4096]),
            read_bytes_per_s: dice.pick(&[None, None, None, Some(100_000)]),
            ..usual
        };
        Plan {
            odds,
            window: dice.pick(&[10, 100, 1000, 65_536, 200_000]),
            promises,
            look: Duration::from_nanos(dice.pick(&[0, 100, 50_000, 1_000_000])),
            turns: dice.between(20, 300),
            // A crowd now and then: only so many events make a turn late, and so many outboxes two slices.
            guests: if dice.one_in(12) { 90 } else { dice.between(1, 12) },
            owner_acts: dice.one_in(2),
            jumps: dice.one_in(3),
            kicks: dice.one_in(4),
            drains: dice.one_in(4),
            cuts: dice.one_in(8),
            limits,
            handshakes: dice.one_in(3),
            ticks: dice.one_in(2),
            refuses_one_in: dice.pick(&[0, 0, 3]),
        }
    }
}

pub(crate) struct World {
    dice: Dice,
    plan: Plan,
    kernel: Shared,
    time: Arc<AtomicU64>,
    reactor: Reactor<Host>,
    guests: Vec<Guest>,
    drained: bool,
    cut: bool,
    calm: bool,
    /// What happened, a line each.
    pub(crate) story: String,
    pub(crate) turns: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut dice = Dice::new(seed, 0);
        let plan = Plan::draw(&mut dice);
        let kernel = Kernel::new(Dice::new(seed, 1), plan.odds, plan.window, plan.promises);
        let time = Arc::new(AtomicU64::new(0));
        let clock = Clock::told(Arc::clone(&time), plan.look);
        let host = Host::new(plan.ticks, plan.kicks, plan.refuses_one_in);
        let mut reactor = Reactor::with_clock(host, plan.limits.clone(), clock).expect("a poll");
        reactor.listen(Backlog(kernel.clone())).expect("nothing can fail there");
        let story = format!("{plan:#?}\n");
        World {
            dice,
            plan,
            kernel,
            time,
            reactor,
            guests: Vec::new(),
            drained: false,
            cut: false,
            calm: false,
            story,
            turns: 0,
        }
    }

    /// The wild part of its life, and then the calm one, in which everything that is owed must come.
    pub(crate) fn run(&mut self) {
        for _ in 0..self.plan.turns {
            self.let_somebody_come();
            for index in 0..self.guests.len() {
                self.act(index);
            }
            self.let_the_owner_act();
            self.let_time_pass();
            self.turn();
        }
        self.calm_down();
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        writeln!(self.story, "{} {what}", self.time.load(Ordering::Relaxed))
            .expect("a String takes everything");
    }

    fn let_somebody_come(&mut self) {
        if self.guests.len() == self.plan.guests || !self.dice.one_in(4) || self.drained {
            return;
        }
        let number = self.guests.len() as u8;
        let service = self.dice.pick(&Service::ALL);
        let manner = self.dice.pick(&[
            Manner::Polite,
            Manner::Polite,
            Manner::Deaf,
            Manner::Resets,
            Manner::StopsShort,
        ]);
        let mut words = vec![service.letter(), number];
        // What one turn takes of it, at most: of much more, nobody would see the end.
        let unit = self.plan.window.min(self.plan.limits.read_bytes_per_turn);
        match service {
            Service::Echo => {
                let count = self.dice.pick(&[0, 1, 500, 100_000]).min(200 * unit);
                words.extend(self.dice.bytes(count));
            }
            Service::Lines | Service::Room => {
                for line in 0..self.dice.between(0, 60) {
                    let length = self.dice.pick(&[0, 5, 300]).min(5 * unit);
                    words.extend(format!("{number}.{line} {}\n", self.dice.word(length)).into_bytes());
                }
            }
            Service::Source => {}
        }
        let handshake = self.plan.handshakes && self.dice.one_in(2);
        let client = kernel::connect(&self.kernel, handshake);
        self.note(format_args!(
            "guest {number} comes for {service:?}, {manner:?}, with {} bytes",
            words.len()
        ));
        self.guests.push(Guest { client, service, manner, words, said: 0, heard: Vec::new(), gone: false });
    }

    fn act(&mut self, index: usize) {
        let (calm, dice) = (self.calm, &mut self.dice);
        let guest = &mut self.guests[index];
        if guest.gone {
            return;
        }
        // At a stop it is the server that ends.
        let has_all = guest.has_all() && (!self.drained || guest.client.is_at_the_end());
        let is_short = guest.manner == Manner::StopsShort && !calm && dice.one_in(30);
        if calm || dice.one_in(2) {
            let most = if calm { usize::MAX } else { dice.pick(&[1, 10, 3000, 100_000]) };
            let rest = &guest.words[guest.said..];
            guest.said += guest.client.say(&rest[..rest.len().min(most)]);
        }
        if calm || (guest.manner != Manner::Deaf && dice.one_in(2)) {
            let most = if calm { usize::MAX } else { dice.pick(&[1, 10, 3000, 100_000]) };
            let heard = guest.client.hear(most);
            guest.heard.extend(heard);
        }
        if guest.manner == Manner::Resets && !calm && dice.one_in(20) {
            guest.client.reset();
            guest.gone = true;
            self.note(format_args!("guest {index} resets"));
        } else if is_short || (has_all && (calm || dice.one_in(10))) {
            guest.client.finish();
            guest.words.truncate(guest.said);
        }
    }

    fn let_the_owner_act(&mut self) {
        if self.plan.drains && !self.drained && self.dice.one_in(100) {
            self.drained = true;
            self.note(format_args!("drain"));
            self.reactor.drain();
        }
        if self.plan.cuts && !self.cut && self.dice.one_in(100) {
            self.cut = true;
            self.note(format_args!("cut"));
            self.reactor.cut();
            assert_eq!(self.kernel.borrow().open, 0, "all are closed now");
        }
        if !self.plan.owner_acts {
            return;
        }
        if self.dice.one_in(50) {
            let limits = Limits { connections_max: self.dice.pick(&[1, 3, 100]), ..self.plan.limits.clone() };
            self.reactor.set_limits(limits);
        }
        if self.dice.one_in(50) {
            self.reactor.pause_accepting();
        } else if self.dice.one_in(10) {
            self.reactor.resume_accepting();
        }
    }

    fn let_time_pass(&mut self) {
        let passes = match self.plan.jumps && self.dice.one_in(20) {
            true => Duration::from_millis(self.dice.pick(&[500, 20_000, 86_400_000])),
            false => Duration::from_micros(self.dice.pick(&[0, 10, 1000, 5000])),
        };
        self.time.fetch_add(passes.as_nanos() as u64, Ordering::Relaxed);
    }

    fn now(&self) -> Moment {
        Moment::at(Duration::from_nanos(self.time.load(Ordering::Relaxed)))
    }

    /// One turn, and what must be true behind each.
    fn turn(&mut self) {
        self.turns += 1;
        let events = self.kernel.borrow_mut().events();
        let turn = self.reactor.turn_with(self.now(), &events);
        self.note(format_args!("{events:?}: {} in, {} out", turn.bytes_in, turn.bytes_out));
        let open = self.kernel.borrow().open;
        let (host, board) = self.reactor.both();
        let counters = board.counters();
        let closed: u64 = counters.closed.iter().sum();
        assert_eq!(closed, host.closed, "each end is told once");
        assert_eq!(counters.accepted - closed, open as u64, "descriptors are those of connections");
        assert_eq!(
            counters.accepted + counters.refused,
            host.admitted,
            "who was admitted is accepted or refused"
        );
        if !self.reactor.has_work() {
            assert_eq!(self.reactor.board().connections(), open, "a closed connection waits for nobody");
        }
        for index in 0..self.guests.len() {
            self.check(index);
        }
    }

    /// What a guest has heard is right, as far as it goes.
    fn check(&mut self, index: usize) {
        let guest = &self.guests[index];
        let is_right = match guest.service {
            Service::Echo => guest.owed().starts_with(&guest.heard),
            Service::Lines => guest.owed().starts_with(&guest.heard),
            Service::Source => guest.heard.iter().enumerate().all(|(at, byte)| *byte == source_byte(at)),
            Service::Room => {
                // One order for all, without a gap, from some line on.
                let log = &self.reactor.handler().log;
                let first = guest.heard.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
                let mut begins = (0..log.len()).filter(|at| *at == 0 || log[*at - 1] == b'\n');
                guest.heard.is_empty()
                    || begins.any(|at| log[at..].starts_with(first) && log[at..].starts_with(&guest.heard))
            }
        };
        assert!(is_right, "guest {index} hears something else than it is owed");
    }

    /// Whether everything has come that this guest is owed.
    fn is_content(&self, index: usize, host: &Host) -> bool {
        let guest = &self.guests[index];
        if guest.gone {
            return true;
        }
        let Some(reason) = host.ended.get(&(index as u8)) else {
            // It never got in, or not far enough to say who it is.
            return guest.client.was_cut() || self.drained || self.cut || guest.client.is_at_the_end();
        };
        let is_excused = match reason {
            CloseReason::Finished => false,
            CloseReason::Drained => self.drained,
            CloseReason::Cut => self.cut,
            CloseReason::Closed => self.plan.kicks,
            CloseReason::SlowReader => guest.service == Service::Room,
            CloseReason::Failed(_) | CloseReason::Reset => self.plan.odds.finish_fails > 0,
            CloseReason::Idle | CloseReason::Stalled | CloseReason::Lingered => self.plan.jumps,
            CloseReason::MessageTimeout | CloseReason::HandshakeTimeout => self.plan.jumps,
            _ => false,
        };
        if is_excused {
            return true;
        }
        assert_eq!(*reason, CloseReason::Finished, "guest {index} is thrown out");
        let said = guest.owed();
        let whole_lines = said.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        match guest.service {
            Service::Echo => guest.heard == said,
            Service::Lines => guest.heard == said[..whole_lines],
            Service::Source => guest.manner == Manner::StopsShort || guest.heard.len() == SOURCE_BYTES,
            // Its own words come back to it as well.
            Service::Room => whole_lines == 0 || !guest.heard.is_empty(),
        }
    }

    /// No more faults: all guests say and read everything, and finish. Within bounds, nobody is left.
    fn calm_down(&mut self) {
        self.note(format_args!("from here on all is well"));
        self.calm = true;
        self.kernel.borrow_mut().calm_down();
        if self.plan.owner_acts {
            self.reactor.set_limits(Limits { connections_max: 100, ..self.plan.limits.clone() });
            self.reactor.resume_accepting();
        }
        let began = self.now();
        let mut turns = 0;
        loop {
            (0..self.guests.len()).for_each(|index| self.act(index));
            let is_idle = !self.reactor.has_work() && !self.kernel.borrow().is_pending();
            if is_idle {
                let waits = self.kernel.borrow().somebody_waits() && !self.drained;
                if self.reactor.board().connections() == 0 && !waits {
                    break;
                }
                let next = self.reactor.next_due();
                assert!(next < Moment::NEVER, "the loop would sleep for ever: {}", self.left());
                let wait = next.since(self.now());
                self.time.fetch_add(wait.as_nanos() as u64, Ordering::Relaxed);
            }
            self.turn();
            turns += 1;
            let passed = self.now().since(began);
            assert!(turns < CALM_TURNS, "after {turns} turns {}", self.left());
            let patience = CALM_TIME + self.pauses() + self.plan.look * turns as u32 * 100;
            assert!(passed < patience, "after {passed:?} {}", self.left());
        }
        for index in 0..self.guests.len() {
            let host = std::mem::take(self.reactor.handler());
            let is_content = self.is_content(index, &host);
            *self.reactor.handler() = host;
            assert!(is_content, "guest {index} is owed something: {}", self.of(index));
        }
    }

    /// Where reading is metered, it takes as long as that says.
    fn pauses(&self) -> Duration {
        let bytes: usize = self.guests.iter().map(|guest| guest.words.len()).sum();
        Duration::from_secs(self.plan.limits.read_bytes_per_s.map_or(0, |rate| 1 + 2 * bytes as u64 / rate))
    }

    /// Who is not gone, for a message.
    fn left(&mut self) -> String {
        let count = self.reactor.board().connections();
        let ended = self.reactor.handler().ended.clone();
        let left = (0..self.guests.len()).filter(|index| !ended.contains_key(&(*index as u8)));
        let left: Vec<String> = left
            .map(|index| format!("guest {index}: {}; {}", self.of(index), self.guests[index].client.shown()))
            .collect();
        format!("{count} connections are left. {}", left.join("\n"))
    }

    fn of(&self, index: usize) -> String {
        let guest = &self.guests[index];
        let (said, heard) = (guest.said, guest.heard.len());
        format!(
            "{:?}, {:?}: {said} of {} bytes said, {heard} heard",
            guest.service,
            guest.manner,
            guest.words.len()
        )
    }
}
