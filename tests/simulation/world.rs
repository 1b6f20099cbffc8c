//! One world: a loop, its guests, and one clock, all of it drawn from a seed. See [`World::run`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use switchboard::reactor::{Clock, CloseReason, Limits, Moment, Reactor};

use crate::dice::Dice;
use crate::host::{CALL_BYTES, GREETING_BYTES, Host, SOURCE_BYTES, Service, State, greeting, source_byte};
use crate::kernel::{self, Client, Kernel, Odds, Shared, Torture};
use crate::story::Story;

/// After the faults have stopped, everything owed must arrive within this many turns, and this time.
const CALM_TURNS: usize = 20_000;
const CALM_TIME: Duration = Duration::from_secs(5);

/// As long as this, datagrams go on coming then.
const MAIL_TURNS: usize = 20;

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
    /// Says a few bytes at a time, and seldom.
    Trickles,
    /// Is not heard of again from some moment on, as if its cable were cut: it does not even end.
    Vanishes,
}

struct Guest {
    client: Client,
    service: Service,
    manner: Manner,
    /// All that it has to say, and how much of it has been taken.
    words: Vec<u8>,
    said: usize,
    heard: Vec<u8>,
    /// So much of that has been looked at.
    checked: usize,
    /// In a room: where in its log the guest began to listen.
    began: Option<usize>,
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
        // It does not finish before its answers are there: its FIN would wake a server that has forgotten it.
        self.said == self.words.len() && (self.heard.len() >= all || self.client.is_at_the_end())
    }

    /// Whether what it has heard is right, as far as it goes. In a room: one order for all, without a gap, from some line on.
    fn hears_what_it_is_owed(&mut self, log: &[u8]) -> bool {
        let fresh = self.checked..self.heard.len();
        let is_right = match self.service {
            Service::Echo | Service::Lines => {
                self.owed().get(fresh.clone()) == Some(&self.heard[fresh.clone()])
            }
            Service::Source => {
                fresh.end <= SOURCE_BYTES && fresh.clone().all(|at| self.heard[at] == source_byte(at))
            }
            Service::Room => {
                if self.began.is_none() {
                    let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') else { return true };
                    let (first, mut at) = (&self.heard[..=end], 0);
                    // No two lines are alike.
                    let mut lines = log.split_inclusive(|byte| *byte == b'\n');
                    self.began = lines.find_map(|line| {
                        at += line.len();
                        (line == first).then_some(at - line.len())
                    });
                }
                self.began.is_some_and(|at| {
                    log.get(at + fresh.start..at + fresh.end) == Some(&self.heard[fresh.clone()])
                })
            }
        };
        self.checked = fresh.end;
        is_right
    }
}

/// The other end of an outgoing connection. It sends back what it receives.
struct Callee {
    client: Client,
    heard: Vec<u8>,
    said: usize,
}

/// What a seed draws for its world.
#[derive(Debug)]
struct Plan {
    odds: Odds,
    window: usize,
    promises: bool,
    splits: bool,
    close_takes: u64,
    look: Duration,
    turns: usize,
    guests: usize,
    /// How many guests may arrive in one turn.
    comes_together: usize,
    /// Whether the clock jumps: then deadlines strike.
    jumps: bool,
    some_vanish: bool,
    /// The program ends connections at times of its own.
    kicks: bool,
    drains: bool,
    cuts: bool,
    /// Limits change, listeners come and go, and accepting pauses.
    owner_acts: bool,
    /// The program connects to others.
    calls: bool,
    datagrams: bool,
    limits: Limits,
    handshakes: bool,
    ticks: bool,
    refuses_one_in: u64,
}

impl Plan {
    fn draw(dice: &mut Dice) -> Plan {
        let odds = Odds::draw(dice);
        let usual = Limits::default();
        let jumps = dice.one_in(3);
        // Only a crowd makes a turn late in its events, and fills more than one slice of writes.
        let is_crowd = dice.one_in(12);
        let mut limits = Limits {
            connections_max: if is_crowd { 1000 } else { dice.pick(&[2, 5, 100]) },
            accepts_per_turn: dice.pick(&[1, 3, 64]),
            read_bytes_per_turn: dice.pick(&[10, 300, usual.read_bytes_per_turn]),
            messages_per_turn: dice.pick(&[1, 3, 2000]),
            datagrams_per_turn: dice.pick(&[1, 4, 64]),
            timers_per_turn: dice.pick(&[1, 1024]),
            serve_time_per_turn: dice.pick(&[
                Duration::ZERO,
                usual.serve_time_per_turn,
                usual.serve_time_per_turn,
            ]),
            inbox_bytes_max: dice.pick(&[2000, usual.inbox_bytes_max]),
            outbox_bytes_high: dice.pick(&[100, 5000, usual.outbox_bytes_high]),
            outbox_bytes_max: dice.pick(&[200_000, usual.outbox_bytes_max]),
            handshakes_per_turn: dice.pick(&[1, 16]),
            handshakes_max: dice.pick(&[1, 4096]),
            read_bytes_per_s: dice.pick(&[None, None, None, Some(100_000)]),
            ..usual
        };
        if jumps && dice.one_in(2) {
            limits.idle_after = Duration::from_secs(20);
            limits.stall_after = Duration::from_secs(2);
            limits.linger_for = Duration::from_millis(100);
        }
        // Half of the crowds are let in without delay. So rooms become large.
        let is_let_in = is_crowd && dice.one_in(2);
        if is_let_in {
            limits.accepts_per_turn = usual.accepts_per_turn;
            limits.serve_time_per_turn = dice.pick(&[usual.serve_time_per_turn, Duration::from_micros(100)]);
        }
        let some_vanish = dice.one_in(6);
        Plan {
            odds,
            // (With tiny windows, a crowd's turns are so long that its members stall.)
            window: dice.pick(if is_crowd { &[1000, 65_536][..] } else { &[10, 100, 1000, 65_536, 200_000] }),
            promises: dice.one_in(2),
            splits: dice.one_in(4),
            // Then a turn can't close a whole crowd.
            close_takes: if is_crowd { dice.pick(&[0, 100_000]) } else { 0 },
            look: Duration::from_nanos(dice.pick(match is_crowd {
                true => &[100, 50_000, 50_000, 1_000_000], // a crowd's turns are long
                false => &[0, 100, 50_000, 1_000_000],
            })),
            turns: dice.between(20, 300),
            guests: if is_crowd { dice.between(80, 250) } else { dice.between(1, 12) },
            comes_together: if is_crowd { dice.pick(&[40, 400]) } else { 1 },
            owner_acts: !is_let_in && dice.one_in(2),
            calls: dice.one_in(4),
            datagrams: dice.one_in(4),
            jumps,
            some_vanish,
            // (The world waits for the timeouts of the vanished. With ticks that would take too many turns.)
            kicks: !some_vanish && dice.one_in(4),
            drains: dice.one_in(4),
            cuts: dice.one_in(if is_crowd { 2 } else { 8 }),
            limits,
            handshakes: !is_let_in && dice.one_in(3),
            ticks: !some_vanish && (is_crowd || dice.one_in(2)),
            refuses_one_in: if is_let_in { 0 } else { dice.pick(&[0, 0, 3]) },
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
    callees: Vec<Callee>,
    /// Datagrams that were sent, and what came back.
    mailed: u64,
    collected: u64,
    /// The listeners' indices: in the kernel, and in the reactor.
    doors: Vec<(usize, usize)>,
    drained: bool,
    cut: bool,
    calm: bool,
    /// The longest turn so far: a deadline is looked at with the time from a turn's beginning.
    longest: Duration,
    /// The last turn may have ended before it had reported all ends that were decided. (A connection that is being
    /// established looks the same.)
    ends_wait: bool,
    pub(crate) story: Story,
    pub(crate) turns: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut dice = Dice::new(seed, 0);
        let plan = Plan::draw(&mut dice);
        World::with(seed, dice, plan)
    }

    /// A world without faults, but for one call that fails.
    pub(crate) fn tortured(seed: u64, torture: Option<Torture>) -> World {
        let mut dice = Dice::new(seed, 0);
        let drawn = Plan::draw(&mut dice);
        let plan = Plan {
            odds: Odds::default(),
            turns: 40,
            guests: 6,
            comes_together: 6,
            jumps: false,
            some_vanish: false,
            kicks: false,
            drains: false,
            cuts: false,
            owner_acts: false,
            calls: true,
            datagrams: true,
            refuses_one_in: 0,
            limits: Limits { read_bytes_per_s: None, connections_max: 100, ..drawn.limits },
            ..drawn
        };
        let world = World::with(seed, dice, plan);
        world.kernel().torture = torture;
        world
    }

    fn with(seed: u64, dice: Dice, plan: Plan) -> World {
        let time = Arc::new(AtomicU64::new(0));
        let kernel =
            Kernel::new(Dice::new(seed, 1), plan.odds, plan.window, plan.promises, Arc::clone(&time));
        kernel.lock().expect("it is new").splits = plan.splits;
        kernel.lock().expect("it is new").close_takes = plan.close_takes;
        let clock = Clock::manual(Arc::clone(&time), plan.look);
        let host = Host::new(plan.ticks, plan.kicks, plan.refuses_one_in);
        let mut reactor = Reactor::with_clock(host, plan.limits.clone(), clock).expect("a poll");
        let index = reactor.listen(kernel::listen(&kernel)).expect("nothing can fail there");
        reactor.listen_datagrams(kernel::mailbox(&kernel)).expect("nor there");
        World {
            dice,
            story: Story::new(&plan),
            plan,
            kernel,
            time,
            reactor,
            guests: Vec::new(),
            callees: Vec::new(),
            mailed: 0,
            collected: 0,
            doors: vec![(0, index)],
            drained: false,
            cut: false,
            calm: false,
            longest: Duration::ZERO,
            ends_wait: false,
            turns: 0,
        }
    }

    /// The wild part of its life, and then the calm one, in which everything that is owed must come.
    pub(crate) fn run(&mut self) {
        for _ in 0..self.plan.turns {
            for _ in 0..self.plan.comes_together {
                self.let_somebody_come();
            }
            self.act();
            self.let_the_owner_act();
            self.let_time_pass();
            self.turn();
        }
        self.calm_down();
    }

    pub(crate) fn kernel(&self) -> std::sync::MutexGuard<'_, Kernel> {
        self.kernel.lock().expect("no panic has poisoned it")
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.story.say(self.time.load(Ordering::Relaxed), what);
    }

    fn let_somebody_come(&mut self) {
        if self.guests.len() == self.plan.guests || !self.dice.one_in(4) || self.drained {
            return;
        }
        let number = self.guests.len() as u16;
        let service = match self.plan.comes_together {
            1 => self.dice.pick(&Service::ALL),
            // Crowds come together in rooms.
            _ if self.dice.one_in(10) => self.dice.pick(&Service::ALL),
            _ => Service::Room,
        };
        let manner = match self.plan.some_vanish && self.dice.one_in(5) {
            true => Manner::Vanishes,
            false => self.dice.pick(&[
                Manner::Polite,
                Manner::Polite,
                Manner::Deaf,
                Manner::Resets,
                Manner::StopsShort,
                Manner::Trickles,
            ]),
        };
        let mut words = greeting(service, number).to_vec();
        // The most that one turn moves. Much longer words would take too many turns.
        let unit = self.plan.window.min(self.plan.limits.read_bytes_per_turn);
        let most = if self.plan.comes_together == 1 { 60 } else { 6 };
        match service {
            Service::Echo => {
                // (The echoes of a crowd are short, for the same reason.)
                let longest = if self.plan.comes_together == 1 { 200 * unit } else { 500 };
                let count = self.dice.pick(&[0, 1, 500, 100_000]).min(longest);
                words.extend(self.dice.bytes(count));
            }
            Service::Lines | Service::Room => {
                for line in 0..self.dice.between(0, most) {
                    let length = self.dice.pick(&[0, 5, 300]).min(5 * unit);
                    words.extend(format!("{number}.{line} {}\n", self.dice.word(length)).into_bytes());
                }
            }
            // The program finishes first, while such a guest may still be sending.
            Service::Source => {
                let count = self.dice.pick(&[0, 0, 10, 5000]).min(50 * unit);
                words.extend(self.dice.bytes(count));
            }
        }
        let has_handshake = self.plan.handshakes && self.dice.one_in(2);
        let (door, _) = self.doors[self.dice.below(self.doors.len())];
        let client = kernel::connect(&self.kernel, door, has_handshake);
        self.note(format_args!(
            "guest {number} comes for {service:?}, {manner:?}, with {} bytes, as stream {}",
            words.len(),
            client.id
        ));
        self.guests.push(Guest {
            client,
            service,
            manner,
            words,
            said: 0,
            heard: Vec::new(),
            checked: 0,
            began: None,
            gone: false,
        });
    }

    /// Lets all clients act.
    fn act(&mut self) {
        (0..self.guests.len()).for_each(|index| self.let_guest_act(index));
        self.let_callees_act();
        self.let_mail_come();
    }

    fn let_guest_act(&mut self, index: usize) {
        // Crowds stay together.
        let patience = if self.plan.comes_together == 1 { 10 } else { 1000 };
        let (calm, dice) = (self.calm, &mut self.dice);
        let guest = &mut self.guests[index];
        if guest.gone {
            return;
        }
        let is_short = guest.manner == Manner::StopsShort && !calm && dice.one_in(30);
        let most = match guest.manner {
            _ if calm => usize::MAX,
            Manner::Trickles => dice.below(3),
            _ => dice.pick(&[1, 10, 3000, 100_000]),
        };
        if calm || dice.one_in(2) {
            let rest = &guest.words[guest.said..];
            guest.said += guest.client.say(&rest[..rest.len().min(most)]);
        }
        if calm || (guest.manner != Manner::Deaf && dice.one_in(2)) {
            let heard = guest.client.hear(most);
            guest.heard.extend(heard);
        }
        // At a stop it is the server that ends. In a room a guest waits for the last line: its own end would have the loop
        // write what it had forgotten.
        let said = self.reactor.handler().log.len();
        let hears_all = guest.began.is_none_or(|began| began + guest.heard.len() == said);
        let has_all = guest.has_all() && (!self.drained && hears_all || guest.client.is_at_the_end());
        if guest.manner == Manner::Vanishes && (calm || dice.one_in(20)) {
            guest.gone = true;
            self.note(format_args!("guest {index} vanishes"));
        } else if guest.manner == Manner::Resets && !calm && dice.one_in(20) {
            guest.client.reset();
            guest.gone = true;
            self.note(format_args!("guest {index} resets"));
        } else if is_short || (has_all && (calm || dice.one_in(patience))) {
            guest.client.finish();
            guest.words.truncate(guest.said);
        }
    }

    fn let_callees_act(&mut self) {
        for callee in &mut self.callees {
            if !self.calm && self.dice.one_in(2) {
                continue;
            }
            let most = if self.calm { usize::MAX } else { self.dice.pick(&[1, 10, 3000]) };
            callee.heard.extend(callee.client.hear(most));
            let rest = &callee.heard[callee.said..];
            callee.said += callee.client.say(&rest[..rest.len().min(most)]);
            if callee.said == CALL_BYTES && callee.client.is_at_the_end() {
                callee.client.finish();
            }
        }
    }

    fn let_mail_come(&mut self) {
        let count = if !self.plan.datagrams {
            0
        } else if self.calm {
            usize::from(self.mailed < 10_000)
        } else {
            self.dice.pick(&[0, 1, 1, 7])
        };
        for _ in 0..count {
            let from = SocketAddr::from(([127, 0, 0, 1], 5000));
            let bytes = self.mailed.to_be_bytes();
            self.kernel().mail(0, from, &bytes);
            self.mailed += 1;
        }
        loop {
            let Some((bytes, to)) = self.kernel().collect(0) else { break };
            assert_eq!(to.port(), 5000, "an answer goes to the client that asked");
            let number = u64::from_be_bytes(bytes.try_into().expect("it is as long as what was asked"));
            assert!(number < self.mailed, "nobody has asked this");
            self.collected += 1;
        }
    }

    /// All guests reset in the same moment, as when a network fails.
    fn reset_all(&mut self) {
        self.note(format_args!("all who are there reset"));
        for guest in self.guests.iter_mut().filter(|guest| !guest.gone) {
            guest.client.reset();
            guest.gone = true;
        }
    }

    fn let_the_owner_act(&mut self) {
        if self.plan.comes_together > 1 && self.dice.one_in(100) {
            self.reset_all();
        }
        if self.plan.drains && !self.drained && self.dice.one_in(100) {
            self.drained = true;
            self.note(format_args!("drain"));
            self.reactor.drain();
        }
        let is_crowded = self.kernel().open > 64; // more than the loop closes at once
        if self.plan.cuts && !self.cut && self.dice.one_in(if is_crowded { 10 } else { 100 }) {
            self.cut = true;
            self.note(format_args!("cut"));
            self.reactor.cut();
            assert_eq!(self.kernel().open, 0, "all are closed now");
        }
        if self.plan.calls && !self.drained && self.callees.len() < 5 && self.dice.one_in(20) {
            let (pipe, client) = kernel::dial(&self.kernel);
            let id = client.id;
            match self.reactor.board().connect(pipe, State::called()) {
                Ok(peer) => {
                    self.note(format_args!("the program calls {peer}, stream {id}"));
                    self.callees.push(Callee { client, heard: Vec::new(), said: 0 });
                }
                Err(error) => self.note(format_args!("the program can't call: {error}")),
            }
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
        if !self.drained && self.dice.one_in(40) {
            self.change_listeners();
        }
    }

    /// As a reload does: opens a listener, closes one, or renews one with other limits. The first one stays.
    fn change_listeners(&mut self) {
        match (self.dice.below(3), self.doors.len()) {
            (0, 1..4) => {
                let door = self.kernel().listeners();
                let index =
                    self.reactor.listen(kernel::listen(&self.kernel)).expect("nothing can fail there");
                self.note(format_args!("listener {index} comes"));
                self.doors.push((door, index));
            }
            (1, 2..) => {
                let (_, index) = self.doors.pop().expect("there are two");
                self.note(format_args!("listener {index} goes"));
                drop(self.reactor.unlisten(index, false));
            }
            _ => {
                let place = self.dice.below(self.doors.len());
                let limits = Limits { messages_per_turn: 7, ..self.plan.limits.clone() };
                let (_, index) = self.doors[place];
                let next = self.reactor.renew_listener(index, limits, |same| same).expect("it listens");
                self.doors[place].1 = next;
                self.note(format_args!("listener {index} goes on as {next}"));
            }
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
        self.reactor.handler().served.clear();
        let events = self.kernel().events();
        let began = self.now();
        let turn = self.reactor.turn_with(began, &events);
        self.longest = self.longest.max(self.now().since(began));
        self.story.count(self.time.load(Ordering::Relaxed), events, &turn);
        self.check_accounts();
        self.check_budgets();
        self.check_silence();
        let open = self.kernel().open;
        self.ends_wait = self.reactor.board().peers().count() != open;
        if !self.reactor.has_work() {
            let open = self.kernel().open;
            assert_eq!(self.reactor.board().connections(), open, "a closed connection waits for nobody");
            self.check_deadlines();
            self.check_nothing_is_left();
        }
        for index in 0..self.guests.len() {
            let log = std::mem::take(&mut self.reactor.handler().log);
            let is_right = self.guests[index].hears_what_it_is_owed(&log);
            self.reactor.handler().log = log;
            assert!(is_right, "guest {index} hears something else than it is owed");
        }
    }

    fn check_accounts(&mut self) {
        let open = self.kernel().open as u64;
        let (host, board) = self.reactor.handler_and_board();
        let counters = board.counters();
        let closed: u64 = counters.closed.iter().sum();
        assert_eq!(closed, host.closed, "each end is told once");
        let begun = counters.accepted + counters.connected;
        assert_eq!(begun - closed, open, "descriptors are those of connections");
        let (received, answered) = (counters.datagrams_in, host.datagrams_answered);
        assert_eq!(received, answered, "each datagram is served once");
        let gone_out = counters.datagrams_out + counters.datagrams_dropped;
        assert_eq!(gone_out, answered, "each answer is sent or dropped");
        if self.kernel().tortured.is_none() {
            let (host, board) = self.reactor.handler_and_board();
            let taken = board.counters().accepted + board.counters().refused;
            assert_eq!(taken, host.admitted, "who was admitted is accepted or refused");
        }
    }

    /// No source had two budgets in this turn.
    fn check_budgets(&mut self) {
        let limits = self.reactor.board().limits().clone();
        let served = self.reactor.handler().served.values().copied().max().unwrap_or(0);
        let messages = limits.messages_per_turn.max(7); // see `change_listeners`
        assert!(served <= messages, "{served} messages of one connection in one turn");
        let (read, accepted, received) = self.kernel().most_in_a_turn();
        assert!(received <= limits.datagrams_per_turn, "{received} datagrams in one turn");
        if !self.drained {
            // A drain reads each connection once more, and accepts all that wait.
            assert!(read <= limits.read_bytes_per_turn, "{read} bytes of one connection in one turn");
            let accepts = limits.accepts_per_turn * if self.plan.owner_acts { 2 } else { 1 };
            assert!(accepted <= accepts, "{accepted} connections accepted in one turn");
        }
    }

    /// A guest that was closed as idle was silent for `idle_after`, and all its bytes were read.
    fn check_silence(&mut self) {
        let now = self.now();
        let silent = std::mem::take(&mut self.reactor.handler().silent);
        let kernel = self.kernel.lock().expect("no panic has poisoned it");
        for number in silent {
            let client = &self.guests[number as usize].client;
            let moved_at = Moment::at(Duration::from_nanos(kernel.last_moved(client)));
            let due = moved_at.after(self.plan.limits.idle_after);
            assert!(due <= now.after(self.longest), "guest {number} is closed early, as silent");
            // An end may be reported some turns after it was decided, and the peer may have spoken meanwhile.
            if kernel.odds.would_block == 0 && !self.ends_wait {
                assert_eq!(kernel.unread(client), 0, "guest {number} has spoken, and is closed as silent");
            }
        }
    }

    /// If the loop would sleep now, it must wake in time for the deadline of each connection.
    fn check_deadlines(&mut self) {
        // A connection whose time is up is looked at once more, a turn later.
        let soon = self.now().after(self.longest).after(Duration::from_micros(1));
        let next = self.reactor.next_due();
        let Limits { idle_after, stall_after, linger_for, read_bytes_per_s, .. } = self.plan.limits;
        if next <= soon || read_bytes_per_s.is_some() {
            return; // a connection whose reading is paused is not idle
        }
        let kernel = self.kernel.lock().expect("no panic has poisoned it");
        for (index, guest) in self.guests.iter().enumerate().filter(|(_, guest)| !guest.gone) {
            let moved_at = Moment::at(Duration::from_nanos(kernel.last_tried(&guest.client)));
            // An event that is on its way wakes the loop as well.
            if kernel.is_served(&guest.client) && !kernel.has_news(&guest.client) {
                let due = match kernel.has_finished(&guest.client) {
                    true => moved_at.after(linger_for).after(self.longest),
                    // A peer that takes much at once has up to `stall_after` more.
                    false => moved_at.after(idle_after).after(stall_after).after(self.longest),
                };
                assert!(
                    next <= due,
                    "guest {index} has been silent since {moved_at:?}, and the loop would sleep until {next:?}"
                );
            }
        }
    }

    /// If the loop would sleep now, everything is written that can be, and no bytes wait to be read that may be.
    fn check_nothing_is_left(&mut self) {
        let is_metered = self.plan.limits.read_bytes_per_s.is_some();
        let kernel = self.kernel.lock().expect("no panic has poisoned it");
        let (host, board) = self.reactor.handler_and_board();
        for peer in host.present.iter().copied().filter(|peer| board.is_open(*peer)) {
            let id = board.transport(peer).expect("it is open").id;
            let unwritten = board.outbox_bytes(peer);
            assert!(
                unwritten == 0 || !kernel.takes_more(id),
                "{unwritten} bytes for {peer} wait for nothing"
            );
            if unwritten == 0 && !is_metered {
                assert!(!kernel.has_more(id), "bytes from {peer} wait for nothing");
            }
        }
    }

    /// Whether everything has come that this guest is owed.
    fn is_content(&self, index: usize, ended: &BTreeMap<u16, CloseReason>) -> bool {
        let guest = &self.guests[index];
        if guest.gone || self.kernel().tortured == Some(guest.client.id) {
            return true;
        }
        let Some(reason) = ended.get(&(index as u16)) else {
            // It never got in, or not far enough to say who it is.
            // (Whose connection can't be watched is withdrawn before anything is read.)
            return guest.client.was_cut() || self.drained || self.cut || guest.client.is_at_the_end();
        };
        let is_excused = match reason {
            // The call that ends our direction failed as if the peer had gone, and the close lost what was on its way.
            CloseReason::Finished => guest.service == Service::Source && self.plan.odds.finish_fails > 0,
            CloseReason::Drained => self.drained,
            CloseReason::Cut => self.cut,
            CloseReason::Closed => self.plan.kicks,
            CloseReason::SlowReader => guest.service == Service::Room,
            CloseReason::Failed(_) | CloseReason::Reset => self.plan.odds.finish_fails > 0,
            CloseReason::Lingered => self.plan.jumps || guest.service == Service::Source,
            CloseReason::Idle | CloseReason::Stalled => self.plan.jumps,
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

    /// Without faults, all guests send and receive everything, and finish. Within the bounds, no connection may be left.
    fn calm_down(&mut self) {
        self.note(format_args!("from here on all is well"));
        self.calm = true;
        self.kernel().calm_down();
        if self.plan.owner_acts {
            self.reactor.set_limits(Limits { connections_max: 100, ..self.plan.limits.clone() });
            self.reactor.resume_accepting();
        }
        let (began, collected) = (self.now(), self.collected);
        let mut turns = 0;
        loop {
            self.act();
            let is_idle = !self.reactor.has_work() && !self.kernel().is_pending();
            if is_idle {
                let waits = self.kernel().somebody_waits() && !self.drained;
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
            if turns > MAIL_TURNS {
                self.plan.datagrams = false; // as long as mail comes, the loop does not sleep
            }
            let passed = self.now().since(began);
            assert!(turns < CALM_TURNS, "after {turns} turns {}", self.left());
            let patience = CALM_TIME + self.pauses() + self.silence() + self.plan.look * turns as u32 * 100;
            assert!(passed < patience, "after {passed:?} {}", self.left());
        }
        if turns > MAIL_TURNS && self.mailed > 0 {
            assert!(self.collected > collected, "the socket of datagrams is deaf");
        }
        let ended = std::mem::take(&mut self.reactor.handler().ended);
        for index in 0..self.guests.len() {
            let is_content = self.is_content(index, &ended);
            assert!(is_content, "guest {index} is owed something: {}", self.of(index));
        }
        self.check_calls();
    }

    /// Each outgoing connection that was established has sent everything back.
    fn check_calls(&mut self) {
        // That one may be among them: their names are the loop's, and not the kernel's.
        let is_tortured = self.kernel().tortured.is_some();
        for (peer, reason, echoed) in std::mem::take(&mut self.reactor.handler().calls_ended) {
            let is_excused = match reason {
                CloseReason::Finished => false,
                CloseReason::Unestablished(_) => self.plan.odds.connect > 0,
                CloseReason::Drained => self.drained,
                CloseReason::Cut => self.cut,
                CloseReason::Closed => self.plan.kicks,
                CloseReason::Failed(_) => self.plan.odds.finish_fails > 0,
                _ => self.plan.jumps,
            };
            if !is_excused && !is_tortured {
                assert_eq!((reason, echoed), (CloseReason::Finished, CALL_BYTES), "{peer}, whom we called");
            }
        }
    }

    /// Where reading is metered, it takes as long as that says.
    fn pauses(&self) -> Duration {
        let bytes: usize = self.guests.iter().map(|guest| guest.words.len()).sum();
        Duration::from_secs(self.plan.limits.read_bytes_per_s.map_or(0, |rate| 1 + 2 * bytes as u64 / rate))
    }

    /// How long the loop keeps the connections of guests that have vanished. At the limit of connections one waits for the end
    /// of another.
    fn silence(&self) -> Duration {
        let Limits { idle_after, stall_after, linger_for, .. } = self.plan.limits;
        let vanished = self.guests.iter().filter(|guest| guest.manner == Manner::Vanishes).count() as u32;
        vanished * (idle_after + 2 * stall_after + linger_for + Duration::from_secs(30))
    }

    /// Returns the guests that are left, for a message.
    fn left(&mut self) -> String {
        let count = self.reactor.board().connections();
        let ended = self.reactor.handler().ended.clone();
        let left = (0..self.guests.len()).filter(|index| !ended.contains_key(&(*index as u16)));
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
