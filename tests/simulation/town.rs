//! A town: the whole server in a made-up world, with its services, its protocols, TLS, and reloads. See [`Town::run`].

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use switchboard::Server;
use switchboard::guard::{Guard, Rate, Rules, network};
use switchboard::reactor::{Clock, CloseReason, Limits, Moment, Transport};
use switchboard::server::place::{Bound, Place};
use switchboard::server::running::Running;
use switchboard::service::ambient::Ambient;
use switchboard::service::chat::{self, SlowReaders};
use switchboard::service::directory::{Directory, Which};
use switchboard::service::relay;
use switchboard::transport::tls::{ClientTls, ServerTls, Trust};
use switchboard::transport::{Datagrams, Listener, Stream};

use crate::dice::Dice;
use crate::kernel::{self, Kernel, Odds, Shared, Torture};
use crate::story::Story;
use crate::talk::{
    ANSWER, Chatter, Echo, Http, Liner, Player, Question, RELAY_BYTES, RELAY_HELLO, RELAY_STATE,
    RELAY_UPDATE, RELAY_WELCOME, SharedAnnals, Talk, relay_message, state_of, word_at,
};

/// After the faults have stopped, everything owed must arrive within this many turns, and this time.
const CALM_TURNS: usize = 20_000;
const CALM_TIME: Duration = Duration::from_secs(20);

/// The listeners, in the kernel's order, and what guests do there.
const DOORS: [(&str, Why); 9] = [
    ("tcp://10.9.0.1:7001", Why::Echo),
    ("tls://10.9.0.1:7002", Why::Echo),
    ("http://10.9.0.1:7003", Why::Http),
    ("ws://10.9.0.1:7004", Why::Chat),
    ("tcp+lines://10.9.0.1:7005", Why::Lines),
    ("ws://10.9.0.1:7006", Why::Relay),
    ("https://10.9.0.1:7007", Why::Http),
    ("tcp://10.9.0.1:7008", Why::Question),
    ("tcp://10.9.0.1:7009", Why::Proxied),
];

/// The sockets of datagrams.
const MAILBOXES: [(&str, Why); 2] = [("udp://10.9.0.1:7001", Why::Echo), ("udp://10.9.0.1:7006", Why::Relay)];

/// What a guest does at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Echo,
    Http,
    Chat,
    Lines,
    Relay,
    /// Whatever is served there.
    Question,
    /// An echo behind a proxy. Each connection begins with the proxy's header, which names the client.
    Proxied,
}

/// The clients behind the proxy: few, so that the limits of one address matter.
const PROXIED: [[u8; 4]; 2] = [[203, 0, 113, 7], [203, 0, 113, 8]];

struct Guest {
    /// `None` once the guest has left.
    stream: Option<Stream>,
    id: usize,
    why: Why,
    is_open: bool,
    /// Bytes that it has received.
    heard: usize,
    talk: Box<dyn Talk>,
    manner: Manner,
    unsaid: Vec<u8>,
    has_finished: bool,
    /// The server's end of file has arrived.
    is_over: bool,
}

/// How a guest behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Polite,
    /// Reads nothing until the world has calmed down.
    Deaf,
    /// Goes in the middle, with a reset.
    Resets,
    /// A few bytes at a time.
    Trickles,
}

impl Guest {
    /// Sends at most `says` bytes, and receives about `hears`.
    fn act(&mut self, says: usize, hears: usize) {
        let Some(stream) = &mut self.stream else { return };
        if !self.is_open {
            match stream.establish() {
                Ok(_) => self.is_open = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.end(),
            }
        }
        let mut heard = vec![0; hears.min(64 * 1024)];
        while !self.is_over && !heard.is_empty() {
            match stream.read(&mut heard) {
                Ok(0) => self.is_over = true,
                Ok(count) => {
                    self.heard += count;
                    self.talk.hear(&heard[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.end(),
            }
            if hears < heard.len() {
                break;
            }
        }
        self.unsaid.extend(self.talk.words());
        let mut left = says.min(self.unsaid.len());
        while left > 0 && !self.has_finished {
            match stream.write(&self.unsaid[..left]) {
                Ok(count) => {
                    self.unsaid.drain(..count);
                    left -= count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.end(),
            }
        }
        let _ = stream.flush(); // what is left goes out next time
        let has_all = self.talk.is_done() && self.unsaid.is_empty();
        if (has_all || self.is_over) && !self.has_finished {
            match stream.finish(false) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => self.has_finished = true,
            }
        }
        if self.is_over && self.has_finished {
            self.end();
        }
    }

    fn end(&mut self) {
        self.stream = None;
    }
}

/// A client that sends datagrams.
#[derive(Debug)]
struct Mailer {
    why: Why,
    from: SocketAddr,
    sent: u64,
    token: Option<u64>,
    seen: u32,
    answers: u64,
}

/// What a seed draws for its town.
#[derive(Debug)]
struct Plan {
    odds: Odds,
    window: usize,
    promises: bool,
    splits: bool,
    look: Duration,
    turns: usize,
    guests: usize,
    mailers: usize,
    jumps: bool,
    reloads: bool,
    /// A reload may ban the address of a guest.
    bans: bool,
    drains: bool,
    limits: Limits,
    /// What one client behind the proxy may do.
    rules: Rules,
    slow_readers: SlowReaders,
}

impl Plan {
    fn draw(dice: &mut Dice) -> Plan {
        let odds = Odds::draw(dice);
        let usual = Limits::default();
        Plan {
            odds: Odds { finish_fails: 0, ..odds },
            window: dice.pick(&[100, 1000, 65_536, 200_000]),
            promises: dice.one_in(2),
            splits: dice.one_in(4),
            look: Duration::from_nanos(dice.pick(&[0, 100, 50_000, 1_000_000])),
            turns: dice.between(50, 300),
            guests: if dice.one_in(8) { 60 } else { dice.between(1, 12) },
            mailers: dice.pick(&[0, 0, 1, 5]),
            jumps: dice.one_in(5),
            reloads: dice.one_in(2),
            bans: dice.one_in(3),
            drains: dice.one_in(4),
            slow_readers: dice.pick(&[SlowReaders::DropOldest, SlowReaders::DropNewest]),
            rules: Rules {
                connections_max: dice.pick(&[None, Some(1), Some(2)]),
                accepts: dice.pick(&[None, None, Some(Rate { per_s: 1, burst: 2 })]),
                datagrams: None,
            },
            limits: Limits {
                connections_max: dice.pick(&[3, 100]),
                accepts_per_turn: dice.pick(&[1, 64]),
                read_bytes_per_turn: dice.pick(&[300, usual.read_bytes_per_turn]),
                messages_per_turn: dice.pick(&[1, 2000]),
                outbox_bytes_high: dice.pick(&[2000, usual.outbox_bytes_high]),
                handshakes_per_turn: dice.pick(&[1, 16]),
                ..usual
            },
        }
    }
}

/// What a proxy says of a client, in either version of the PROXY protocol. It may also say that it has come for itself, or
/// for a client that it cannot name.
fn proxy_header(dice: &mut Dice, from: [u8; 4]) -> Vec<u8> {
    const MAGIC: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    const TO: [u8; 4] = [203, 0, 113, 1];
    let text = |address: [u8; 4]| std::net::Ipv4Addr::from(address).to_string();
    match dice.below(5) {
        0 => [MAGIC, &[0x20, 0, 0, 0]].concat(), // LOCAL
        1 => b"PROXY UNKNOWN\r\n".to_vec(),
        2 | 3 => format!("PROXY TCP4 {} {} 5000 80\r\n", text(from), text(TO)).into_bytes(),
        _ => [MAGIC, &[0x21, 0x11, 0, 12], &from, &TO, &[19, 136], &[0, 80]].concat(),
    }
}

pub(crate) struct Town {
    dice: Dice,
    plan: Plan,
    kernel: Shared,
    time: Arc<AtomicU64>,
    running: Running<Directory>,
    client_tls: ClientTls,
    server_tls: ServerTls,
    guests: Vec<Guest>,
    mailers: Vec<Mailer>,
    mail_is_over: bool,
    annals: SharedAnnals,
    /// The streams of all guests that were banned at some time.
    banned: Vec<usize>,
    drained: bool,
    calm: bool,
    pub(crate) story: Story,
    pub(crate) turns: u64,
}

impl Town {
    pub(crate) fn new(seed: u64) -> Town {
        let mut dice = Dice::new(seed, 0);
        let plan = Plan::draw(&mut dice);
        Town::with(seed, dice, plan)
    }

    /// A town without faults, but for one call that fails.
    pub(crate) fn tortured(seed: u64, torture: Option<Torture>) -> Town {
        let mut dice = Dice::new(seed, 0);
        let drawn = Plan::draw(&mut dice);
        let plan = Plan {
            odds: Odds::default(),
            turns: 60,
            guests: 8,
            mailers: 2,
            jumps: false,
            bans: false,
            drains: false,
            limits: Limits { connections_max: 100, ..drawn.limits },
            rules: Rules::default(),
            ..drawn
        };
        let town = Town::with(seed, dice, plan);
        town.kernel().torture = torture;
        town
    }

    fn with(seed: u64, dice: Dice, plan: Plan) -> Town {
        let time = Arc::new(AtomicU64::new(0));
        let kernel =
            Kernel::new(Dice::new(seed, 1), plan.odds, plan.window, plan.promises, Arc::clone(&time));
        kernel.lock().expect("it is new").splits = plan.splits;
        // A day in 2026.
        let ambient = Ambient::simulated(UNIX_EPOCH + Duration::from_secs(1_790_000_000), seed);
        let pem = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/pem").join(name);
        let server_tls = ServerTls::from_files(&pem("certificate.pem"), &pem("key.pem"), None);
        let mut running = Server::new(Directory::new(ambient.clone()))
            .limits(plan.limits.clone())
            .clock(Clock::manual(Arc::clone(&time), plan.look))
            .announce(false)
            .start()
            .expect("a poll");
        running.reactor().handler().set_ambient(&ambient);
        let mut town = Town {
            dice,
            kernel,
            time,
            running,
            client_tls: ClientTls::new("localhost", Trust::Anybody, None, false).expect("a name"),
            server_tls: server_tls.expect("they fit"),
            guests: Vec::new(),
            mailers: Vec::new(),
            mail_is_over: false,
            annals: Rc::default(),
            banned: Vec::new(),
            drained: false,
            calm: false,
            story: Story::new(&plan),
            plan,
            turns: 0,
        };
        for (place, which) in town.places() {
            let bound = match place.endpoint {
                switchboard::endpoint::Endpoint::Udp(_) => {
                    Bound::Datagram(Datagrams::Custom(Box::new(kernel::mailbox(&town.kernel))))
                }
                _ => Bound::Stream(Listener::Custom(Box::new(kernel::listen(&town.kernel)))),
            };
            town.running.listen_for(place, which, bound).expect("nothing can fail there");
        }
        town
    }

    /// The settings, as from a configuration file.
    fn places(&mut self) -> Vec<(Place, Which)> {
        let often = Rate { per_s: 100_000, burst: 100_000 };
        let chat = chat::Rules {
            slow_readers: self.plan.slow_readers,
            rate: often,
            joins_per_ip: often,
            rooms_max: 10,
        };
        let all = DOORS.into_iter().chain(MAILBOXES);
        let all = all.map(|(url, why)| {
            let which = match why {
                Why::Echo | Why::Http | Why::Question | Why::Proxied => Which::Echo,
                Why::Chat | Why::Lines => Which::Chat { name: String::new(), rules: chat },
                Why::Relay => Which::Relay { name: String::new(), rules: relay::Rules::default() },
            };
            let place = Place {
                endpoint: url.parse().expect("it is one"),
                limits: self.plan.limits.clone(),
                message_bytes_max: 64 * 1024,
                guard: self.guard(why, None),
                amplify: false,
                metrics: true,
                sites: Default::default(),
                tls: Some(self.server_tls.clone()),
                options: Default::default(),
            };
            (place, which)
        });
        all.collect()
    }

    /// Who is let in, and what one address may do there.
    fn guard(&self, why: Why, banned: Option<&str>) -> Guard {
        let network = |text: &str| network(text).expect("it is one");
        let guard = Guard::new(Vec::new(), banned.map(network).into_iter().collect());
        match why {
            Why::Proxied => guard.with_proxies(vec![network("10.0.0.0/8")]).with_rules(self.plan.rules),
            _ => guard,
        }
    }

    /// The wild part of its life, and then the calm one, in which everything that is owed must come.
    pub(crate) fn run(&mut self) {
        for _ in 0..self.plan.turns {
            self.let_somebody_come();
            self.act();
            self.let_the_owner_act();
            self.let_time_pass();
            self.turn();
        }
        self.calm_down();
    }

    pub(crate) fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().expect("no panic has poisoned it")
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.story.say(self.time.load(Ordering::Relaxed), what);
    }

    fn let_somebody_come(&mut self) {
        if self.drained {
            return;
        }
        if self.mailers.len() < self.plan.mailers && self.dice.one_in(10) {
            let (_, why) = self.dice.pick(&MAILBOXES);
            let from = SocketAddr::from(([10, 1, 0, 1], 5000 + self.mailers.len() as u16));
            self.mailers.push(Mailer { why, from, sent: 0, token: None, seen: 0, answers: 0 });
        }
        if self.guests.len() == self.plan.guests || !self.dice.one_in(4) {
            return;
        }
        let number = self.guests.len();
        let door = self.dice.below(DOORS.len());
        let (_, why) = DOORS[door];
        let manner =
            self.dice.pick(&[Manner::Polite, Manner::Polite, Manner::Deaf, Manner::Resets, Manner::Trickles]);
        let own = Dice::new(self.dice.next(), 2);
        let talk: Box<dyn Talk> = match why {
            Why::Echo => {
                let most = 100 * self.plan.window.min(self.plan.limits.read_bytes_per_turn);
                let count = self.dice.pick(&[1, 500, 100_000]).min(most);
                Box::new(Echo::new(self.dice.bytes(count)))
            }
            Why::Http => {
                let count = self.dice.between(1, 8);
                Box::new(Http::new(&mut self.dice, count))
            }
            Why::Chat => Box::new(Chatter::new(number, own, &self.annals)),
            Why::Lines => Box::new(Liner::new(number, &mut self.dice)),
            Why::Relay => Box::new(Player::new(own)),
            Why::Question => Box::new(Question::new()),
            Why::Proxied => {
                let from = self.dice.pick(&PROXIED);
                let header = proxy_header(&mut self.dice, from);
                let count = self.dice.pick(&[1, 500]);
                Box::new(Echo::behind(header, self.dice.bytes(count)))
            }
        };
        self.come(door, manner, talk);
    }

    /// A guest connects.
    fn come(&mut self, door: usize, manner: Manner, talk: Box<dyn Talk>) {
        let (number, (url, why)) = (self.guests.len(), DOORS[door]);
        let client = kernel::connect(&self.kernel, door, false);
        let id = client.id;
        let mut stream = Stream::Custom(Box::new(client));
        if url.starts_with("tls") || url.starts_with("https") {
            stream = stream.secure(&self.client_tls).expect("a session");
        }
        self.note(format_args!("guest {number} comes to {url}, {manner:?}, as stream {id}"));
        self.guests.push(Guest {
            stream: Some(stream),
            id,
            why,
            is_open: false,
            heard: 0,
            talk,
            manner,
            unsaid: Vec::new(),
            has_finished: false,
            is_over: false,
        });
    }

    /// Lets all clients act.
    fn act(&mut self) {
        for index in 0..self.guests.len() {
            let (calm, dice) = (self.calm, &mut self.dice);
            let guest = &mut self.guests[index];
            let most = match guest.manner {
                _ if calm => usize::MAX,
                Manner::Trickles => dice.below(3),
                _ => dice.pick(&[1, 10, 3000, 100_000]),
            };
            let says = if calm || dice.one_in(2) { most } else { 0 };
            let hears = if calm || (guest.manner != Manner::Deaf && dice.one_in(2)) { most } else { 0 };
            if guest.manner == Manner::Resets && !calm && guest.stream.is_some() && dice.one_in(40) {
                let id = guest.id;
                self.kernel().reset(id);
                self.guests[index].end();
                self.note(format_args!("guest {index} resets"));
                continue;
            }
            guest.act(says, hears);
        }
        self.send_mail();
        self.read_mail();
    }

    fn send_mail(&mut self) {
        for index in 0..self.mailers.len() {
            let is_quiet = !self.calm && !self.dice.one_in(3);
            if is_quiet || self.calm && self.turns.is_multiple_of(2) {
                continue;
            }
            let position = self.dice.next() as u32;
            let mailer = &mut self.mailers[index];
            mailer.sent += 1;
            let sent = mailer.sent as u32;
            let (socket, bytes) = match (mailer.why, mailer.token) {
                (Why::Relay, None) => (1, relay_message(RELAY_HELLO, 0, [sent, 0, 0])),
                (Why::Relay, Some(token)) => {
                    (1, relay_message(RELAY_UPDATE, token, [sent, position, mailer.seen]))
                }
                _ => (0, mailer.sent.to_be_bytes().to_vec()),
            };
            let from = mailer.from;
            self.kernel().mail(socket, from, &bytes);
        }
    }

    fn read_mail(&mut self) {
        for socket in 0..MAILBOXES.len() {
            loop {
                let Some((bytes, to)) = self.kernel().collect(socket) else { break };
                let mailer = self.mailers.iter_mut().find(|mailer| mailer.from == to);
                if self.mail_is_over {
                    continue;
                }
                let mailer = mailer.expect("an answer goes to the client that asked");
                mailer.answers += 1;
                match bytes.get(3) {
                    _ if socket == 0 => {
                        let number = u64::from_be_bytes(bytes[..].try_into().expect("as it was sent"));
                        assert!((1..=mailer.sent).contains(&number), "nobody has sent {number}");
                    }
                    Some(&RELAY_WELCOME) => {
                        assert_eq!(bytes.len(), RELAY_BYTES);
                        mailer.token =
                            Some(u64::from(word_at(&bytes, 4)) << 32 | u64::from(word_at(&bytes, 8)));
                    }
                    Some(&RELAY_STATE) => (_, mailer.seen) = state_of(&bytes),
                    // The token is old, or there are too many: it asks again.
                    _ => mailer.token = None,
                }
            }
        }
    }

    fn let_the_owner_act(&mut self) {
        if self.plan.drains && !self.drained && self.dice.one_in(100) {
            self.drained = true;
            self.note(format_args!("drain"));
            self.running.reactor().handler().set_leave_within(Duration::from_millis(500));
            self.running.reactor().drain();
        }
        if self.plan.reloads && !self.drained && self.dice.one_in(30) {
            self.reload();
        }
    }

    /// Reloads with other settings. Each listener keeps the service that guests come for.
    fn reload(&mut self) {
        let mut places = self.places();
        if self.plan.bans && !self.guests.is_empty() {
            let id = self.guests[self.dice.below(self.guests.len())].id;
            self.banned.push(id);
            let address = kernel::ip_of(id).to_string();
            let whys = DOORS.iter().chain(&MAILBOXES).map(|(_, why)| *why);
            for ((place, _), why) in places.iter_mut().zip(whys) {
                place.guard = self.guard(why, Some(&address));
            }
            self.note(format_args!("nobody is let in from {address}"));
        }
        for (place, which) in &mut places {
            if self.dice.one_in(3) {
                place.limits.messages_per_turn = self.dice.pick(&[1, 5, 2000]);
                place.limits.connections_max = self.dice.pick(&[3, 100]);
            }
            if let Which::Chat { rules, .. } = which {
                rules.rooms_max = self.dice.between(5, 20);
            }
            if let Which::Relay { rules, .. } = which {
                rules.ticks_per_s = self.dice.pick(&[10, 30, 100]);
            }
            // A listener may get another service. Its present connections keep theirs.
            if let Which::Echo = which
                && place.endpoint.to_string().ends_with("7008")
                && self.dice.one_in(2)
            {
                *which = Which::Reply { answer: ANSWER.into() };
            }
        }
        // A file that names nothing new can't fail.
        let changes = self.running.prepare(places).expect("nothing new is bound").apply();
        self.note(format_args!("reload: {changes:?}"));
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
        let events = self.kernel().events();
        let now = self.now();
        let turn = self.running.reactor().turn_with(now, &events);
        self.running.forget_retired();
        self.story.count(self.time.load(Ordering::Relaxed), events, &turn);
        let open = self.kernel().open;
        let reactor = self.running.reactor();
        let is_idle = !reactor.has_work();
        let board = reactor.board();
        let counters = board.counters();
        let closed: u64 = counters.closed.iter().sum();
        assert_eq!(
            counters.accepted + counters.connected - closed,
            open as u64,
            "descriptors are connections"
        );
        for reason in [CloseReason::Violation, CloseReason::InboxFull] {
            assert_eq!(counters.closed[reason.row()], 0, "nobody has done wrong, and one ends so: {reason}");
        }
        let disallowed = counters.closed[CloseReason::Disallowed.row()] + counters.refused;
        assert!(disallowed <= self.banned.len() as u64, "{disallowed} are not let in");
        if is_idle {
            assert_eq!(board.connections(), open, "a closed connection waits for nobody");
        }
    }

    /// Without faults, all guests send and receive everything, and finish. Within the bounds, no connection may be left.
    fn calm_down(&mut self) {
        self.note(format_args!("from here on all is well"));
        self.calm = true;
        self.kernel().calm_down();
        if !self.drained {
            let places = self.places().into_iter().map(|(mut place, which)| {
                place.limits.connections_max = 100;
                (place, which)
            });
            self.running.prepare(places.collect()).expect("nothing new is bound").apply();
            let limits = Limits { connections_max: 100, ..self.plan.limits.clone() };
            self.running.set_limits(limits);
        }
        let began = self.now();
        let (mut turns, mut late) = (0, None);
        let before: BTreeMap<SocketAddr, u64> =
            self.mailers.iter().map(|mailer| (mailer.from, mailer.answers)).collect();
        loop {
            self.act();
            let is_idle = !self.running.reactor().has_work() && !self.kernel().is_pending();
            let everybody_is_gone = self.guests.iter().all(|guest| guest.stream.is_none());
            if is_idle {
                if self.running.reactor().board().connections() == 0 && everybody_is_gone {
                    if late.is_none() {
                        late = Some(self.guests.len());
                        self.let_the_last_come();
                        continue;
                    }
                    break;
                }
                let next = self.running.reactor().next_due();
                assert!(next < Moment::NEVER, "the loop would sleep for ever: {}", self.left());
                let wait = next.since(self.now());
                self.time.fetch_add(wait.as_nanos() as u64, Ordering::Relaxed);
            }
            if !self.mailers.is_empty() {
                self.time.fetch_add(20_000_000, Ordering::Relaxed); // the relay's ticks want time
            }
            self.turn();
            turns += 1;
            if turns > 100 && !self.mailers.is_empty() {
                self.check_mail(&before);
                self.mailers.clear();
                self.mail_is_over = true; // as long as mail comes, the loop does not sleep
            }
            let passed = self.now().since(began);
            assert!(turns < CALM_TURNS, "after {turns} turns {}", self.left());
            let patience = CALM_TIME + self.plan.look * turns as u32 * 100;
            assert!(passed < patience, "after {passed:?} {}", self.left());
        }
        self.annals.borrow().check();
        // With narrow windows and one handshake per turn, handshakes of a crowd can take longer than their limit.
        let closed = self.running.reactor().board().counters().closed;
        let some_were_slow = closed[CloseReason::HandshakeTimeout.row()] > 0;
        for (index, guest) in self.guests.iter().enumerate() {
            let was_aborted = self.kernel().aborted.contains(&guest.id);
            let was_tortured = self.kernel().tortured == Some(guest.id);
            let is_excused = guest.manner == Manner::Resets || self.plan.jumps || self.drained;
            let is_excused = is_excused || was_aborted || was_tortured || self.banned.contains(&guest.id);
            let is_excused = is_excused || !guest.is_open && some_were_slow;
            // Beyond the limits of its address it is not let in, and not half.
            let has_limits = guest.why == Why::Proxied && self.plan.rules != Rules::default();
            let is_excused = is_excused || has_limits && guest.heard == 0 && Some(index) < late;
            assert!(guest.talk.is_done() || is_excused, "guest {index} is owed: {}", guest.talk.shown());
        }
    }

    /// When all guests have left, each address has all its places again.
    fn let_the_last_come(&mut self) {
        let Rules { connections_max: Some(count), accepts: None, .. } = self.plan.rules else { return };
        if self.drained {
            return;
        }
        let door = DOORS.iter().position(|(_, why)| *why == Why::Proxied).expect("there is one");
        for from in PROXIED {
            for _ in 0..count {
                let header = proxy_header(&mut self.dice, from);
                self.come(door, Manner::Polite, Box::new(Echo::behind(header, b"last".to_vec())));
            }
        }
    }

    /// Each client that has sent datagrams since the faults stopped has received an answer.
    fn check_mail(&self, before: &BTreeMap<SocketAddr, u64>) {
        for mailer in self.mailers.iter().filter(|_| !self.drained) {
            let answers = mailer.answers - before[&mailer.from];
            assert!(answers > 0, "{} has had no answer: {mailer:?}", mailer.from);
        }
    }

    /// Returns the guests that are left, for a message.
    fn left(&mut self) -> String {
        let count = self.running.reactor().board().connections();
        let mut kernel = self.kernel.lock().expect("no panic has poisoned it");
        let left = self.guests.iter().enumerate().filter(|(_, guest)| guest.stream.is_some());
        let left: Vec<String> = left
            .map(|(index, guest)| {
                format!(
                    "guest {index}: {:?}, {}, over {}, finished {}, {} unsaid; {}",
                    guest.manner,
                    guest.talk.shown(),
                    guest.is_over,
                    guest.has_finished,
                    guest.unsaid.len(),
                    kernel.shown(guest.id)
                )
            })
            .collect();
        format!("{count} connections are left. {}", left.join("\n"))
    }
}
