//! Chat: rooms of people, some at a terminal and some at a browser, all in the same ones.
//!
//! Over lines (`tcp://`, `tls://`, `unix:`) `nc` is a client: a caller is in the room `lobby` at once, as a guest, and
//! `/help` tells the rest. Over HTTP there is a page, and over WebSocket what the page speaks: JSON, one object in a text
//! message, described in the [guide](crate::guide::chat).
//!
//! - `words`: what is asked and told, as lines and as JSON;
//! - `names`: what a name may be, and which names look the same;
//! - `room`: which members are where, and what waits for each;
//! - `addresses`: what all connections of an address may do together.
//!
//! The road of one message: it is parsed, checked, numbered, encoded once for each protocol, and appended to the outbox of
//! each member; the loop writes each outbox once, after the turn. That is one system call for each member and
//! turn, however much was said in it, and that is what a crowded room costs; the rest is copies of a hundred bytes.
//!
//! **Storms** (all members come, or are reset, at once) cost the same as a talk: who came and who went is told in one
//! post for all of them, at most so often as the room's size allows; see `room`. Lists are given out in pages, which are
//! built at most once in a turn.
//!
//! **A member that does not read** costs the others nothing, and memory up to a bound; [`SlowReaders`] says what happens.
//!
//! Invariant: a member sits where its room says that it sits.

mod addresses;
mod names;
mod room;
mod words;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use crate::guard::Rate;
use crate::protocol::http::Request;
use crate::protocol::{Framing, Message};
use crate::reactor::{CloseReason, Moment, Peer};

use super::ambient::{Ambient, Chance};
use super::clock::Clock;
use super::metrics::Metrics;
use super::page::{self, Asset};
use super::{Service, Switchboard};
use crate::transport::Address;
use addresses::Addresses;
use names::{Names, fold};
use room::{Post, Room, Seat};
use words::{About, Ask, Event, Trouble};

pub use room::{LOBBY, SlowReaders};
pub use words::{NICK_CHARS_MAX, ROOM_CHARS_MAX, TEXT_BYTES_MAX, TOPIC_BYTES_MAX};

/// The WebSocket subprotocol, for clients that ask for one (RFC 6455 section 1.9).
pub const SUBPROTOCOL: &str = "switchboard.chat.v1";

/// The page: HTML, style and one script.
const PAGE: &[Asset] = &[
    Asset { path: "/", kind: "text/html; charset=utf-8", text: include_str!("page/index.html") },
    Asset { path: "/chat.css", kind: "text/css; charset=utf-8", text: include_str!("page/chat.css") },
    Asset { path: "/chat.js", kind: "text/javascript; charset=utf-8", text: include_str!("page/chat.js") },
];

/// The most bytes of the rooms in one list of rooms: a page of it. (One room is always listed.)
const PAGE_BYTES_MAX: usize = 4096;

/// The most pages of the list of rooms that are kept.
const PAGES_MAX: usize = 8;

/// How old the list of rooms may be, for each room in it: 10 ms where there are 1,000. To sort them takes less than a
/// microsecond for each, so it takes at most a tenth of the loop's time, however many ask.
const LIST_AGE: Duration = Duration::from_micros(10);

/// How a chat goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// See there.
    pub slow_readers: SlowReaders,
    /// How often one member may ask or say something. A member that connects again goes on with what is left of it.
    pub rate: Rate,
    /// How often all members of one address together may enter a room.
    pub joins_per_ip: Rate,
    /// The most rooms at a time.
    pub rooms_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            slow_readers: SlowReaders::default(),
            rate: Rate { per_s: 10, burst: 30 },
            // All may come by one address, that of a proxy, and all at once, where it was started again.
            joins_per_ip: Rate { per_s: 200, burst: 10_000 },
            rooms_max: 1000,
        }
    }
}

/// A room by its folded name.
type RoomKey = Rc<str>;

/// A connection that can be spoken to.
#[derive(Debug)]
struct Member {
    /// The member's latest name.
    nick: Option<Rc<str>>,
    framing: Framing,
    /// `None` for a process on this machine.
    address: Option<IpAddr>,
    /// The member's room and seat.
    place: Option<(RoomKey, usize)>,
    /// What proves to us that another connection is of the same client.
    secret: u128,
    /// When the member's bucket is empty: the leaky bucket as a meter (GCRA), as in `reactor::pace`.
    empty_at: Moment,
}

/// See the module's text.
pub struct Chat {
    rules: Rules,
    members: BTreeMap<Peer, Member>,
    /// The members, by their secrets.
    seats: HashMap<u128, Peer>,
    /// What secrets are drawn from, and how many were.
    secrets: [Chance; 2],
    ambient: Ambient,
    admitted: u64,
    rooms: HashMap<RoomKey, Room>,
    /// Their names, with their keys.
    room_names: Names<RoomKey>,
    list: RoomList,
    addresses: Addresses,
    /// The rooms for which a timer is set, by its key, because news of their members wait.
    waits: HashMap<u64, RoomKey>,
    last_wait: u64,
    /// Guests so far.
    guests: u64,
    clock: Clock,
    counts: Counts,
}

/// The rooms with members, the largest first, as they were at some time.
#[derive(Default)]
struct RoomList {
    keys: Vec<RoomKey>,
    /// `None` where it was never asked for.
    at: Option<Moment>,
    /// Answers, by where they begin.
    pages: Vec<(usize, Rc<Post>)>,
}

/// For the metrics.
#[derive(Debug, Default)]
struct Counts {
    said: u64,
    dropped: u64,
    refused: u64,
}

impl Chat {
    /// With an empty lobby.
    pub fn new(rules: Rules) -> Chat {
        Chat::with(rules, &Ambient::machine())
    }

    /// The same, with this time of day and these secrets.
    pub fn with(rules: Rules, ambient: &Ambient) -> Chat {
        let lobby = (RoomKey::from(LOBBY), Room::new(LOBBY, ambient));
        let mut room_names = Names::new(ambient.chance());
        room_names.insert(LOBBY, RoomKey::from(LOBBY));
        Chat {
            room_names,
            rules,
            members: BTreeMap::new(),
            seats: HashMap::new(),
            secrets: [ambient.chance(), ambient.chance()],
            ambient: ambient.clone(),
            admitted: 0,
            rooms: HashMap::from([lobby]),
            list: RoomList::default(),
            addresses: Addresses::default(),
            waits: HashMap::new(),
            last_wait: 0,
            guests: 0,
            clock: Clock::new(ambient),
            counts: Counts::default(),
        }
    }

    /// Has these rules hold from now on, for rooms and members that are there, too. (More rooms than may be are kept until
    /// they are empty.)
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Somebody is there, in no room yet.
    fn welcome(&mut self, board: &mut Switchboard<'_>, peer: Peer) -> Option<Framing> {
        let framing = board.framing(peer)?;
        let address = match board.address(peer) {
            Some(Address::Ip(address)) => Some(address.ip()),
            _ => None,
        };
        let empty_at = address.map_or(Moment::default(), |ip| self.addresses.take(ip, board.now()));
        let secret = self.draw_secret();
        self.seats.insert(secret, peer);
        let member = Member { nick: None, framing, address, place: None, secret, empty_at };
        self.members.insert(peer, member);
        Some(framing)
    }

    /// Sends an event to one member, as an answer. There is room for it: otherwise the question would not have been read.
    fn answer(&self, board: &mut Switchboard<'_>, to: Peer, event: &Event<'_>) {
        let Some(member) = self.members.get(&to) else { return };
        let text = match member.framing {
            Framing::WebSocket => event.json(),
            _ => event.line(),
        };
        board.send(to, Message::Text(&text));
    }

    /// Sends the member what has been encoded already.
    fn answer_with(&self, board: &mut Switchboard<'_>, to: Peer, post: &Post) {
        if let Some(member) = self.members.get(&to) {
            board.send_encoded(to, post.encoded(member.framing));
        }
    }

    /// Returns the key of the member's room, and its seat there.
    fn place(&self, peer: Peer) -> Result<(RoomKey, usize), Trouble> {
        let place = self.members.get(&peer).and_then(|member| member.place.clone());
        place.ok_or(Trouble::NotJoined)
    }

    /// Seconds since 1970.
    fn time(&mut self, board: &Switchboard<'_>) -> u64 {
        let time = self.clock.time(board.now());
        time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// Returns whether the member asks more often than it may. If it doesn't, counts the question.
    fn is_too_fast(&mut self, peer: Peer, now: Moment) -> bool {
        let Some(member) = self.members.get_mut(&peer) else { return false };
        let Rate { per_s, burst } = self.rules.rate;
        let one = Duration::from_secs(1) / per_s;
        // Under other rules it may have been filled for longer than these allow.
        member.empty_at = member.empty_at.min(now.after(one * burst));
        let full_at = member.empty_at.max(now).after(one);
        let is_too_fast = full_at.since(now) > one * burst;
        if !is_too_fast {
            member.empty_at = full_at;
        }
        is_too_fast
    }

    fn serve(
        &mut self,
        board: &mut Switchboard<'_>,
        from: Peer,
        message: Message<'_>,
    ) -> Result<(), Trouble> {
        if self.is_too_fast(from, board.now()) {
            return Err(Trouble::TooFast(self.rules.rate));
        }
        let Some(Member { framing, .. }) = self.members.get(&from) else { return Ok(()) };
        let ask = match (framing, message) {
            (Framing::WebSocket, Message::Text(text)) => Some(words::parse_json(text)?),
            (Framing::WebSocket, Message::Binary(_)) => return Err(Trouble::NotText),
            // Elsewhere, whether it is text is for us to tell.
            _ => {
                let text = std::str::from_utf8(message.bytes()).map_err(|_| Trouble::NotText)?;
                words::parse_line(text)?
            }
        };
        let Some(ask) = ask else { return Ok(()) };
        match ask {
            Ask::Join { room, nick, seat } => {
                self.take_over(board, from, seat.as_deref());
                self.join(board, from, &room, nick.as_deref())
            }
            Ask::Leave => {
                let (key, _) = self.place(from)?;
                self.leave(board, from);
                self.answer(board, from, &Event::Left { room: &self.rooms[&key].name });
                Ok(())
            }
            Ask::Say { text } => self.post_text(board, from, &text),
            Ask::Tell { to, text } => self.send_private(board, from, &to, &text),
            Ask::Topic { text } => self.topic(board, from, text.as_deref()),
            Ask::Nick { nick } => self.rename(board, from, &nick),
            Ask::Who { after } => {
                let after = after.as_deref().map(names::nick).transpose()?;
                let (key, _) = self.place(from)?;
                let room = self.rooms.get_mut(&key).expect("a room with members stays");
                let answer = room.who(after.as_deref(), board.now());
                self.answer_with(board, from, &answer);
                Ok(())
            }
            Ask::Rooms { after } => {
                let answer = self.list_rooms(after, board.now());
                self.answer_with(board, from, &answer);
                Ok(())
            }
            Ask::Help => {
                board.send(from, Message::Text(words::HELP));
                Ok(())
            }
            Ask::Quit => {
                board.finish(from);
                Ok(())
            }
        }
    }

    /// Frees the place of an earlier connection of the same client, of which we do not know yet that it is lost. The secret
    /// proves that it is the same. One that nobody has (any more) changes nothing.
    fn take_over(&mut self, board: &mut Switchboard<'_>, from: Peer, seat: Option<&str>) {
        let secret = seat.and_then(|seat| u128::from_str_radix(seat, 16).ok());
        let Some(old) = secret.and_then(|secret| self.seats.get(&secret).copied()).filter(|old| *old != from)
        else {
            return;
        };
        let left = self.members.get(&old).and_then(|member| member.place.clone());
        self.leave(board, old);
        if let Some((key, _)) = left
            && let Some(room) = self.rooms.get(&key)
        {
            // If it is not lost, it is another window: it must not come back and take the place over in turn.
            self.answer(board, old, &Event::Left { room: &room.name });
        }
        board.finish(old);
    }

    /// Returns a number that clients cannot guess.
    fn draw_secret(&mut self) -> u128 {
        self.admitted += 1;
        let [high, low] =
            [&self.secrets[0], &self.secrets[1]].map(|it| u128::from(it.hash_one(self.admitted)));
        high << 64 | low
    }

    /// Moves a member into a room. If that fails, the member stays where it is.
    fn join(
        &mut self,
        board: &mut Switchboard<'_>,
        peer: Peer,
        name: &str,
        nick: Option<&str>,
    ) -> Result<(), Trouble> {
        let name = &*names::room(name)?;
        let key = RoomKey::from(fold(name));
        let nick = nick.map(names::nick).transpose()?;
        let nick = nick.as_deref();
        if let Ok((there, _)) = self.place(peer)
            && there == key
        {
            nick.map_or(Ok(()), |nick| self.rename(board, peer, nick))?;
            self.answer_joined(board, peer);
            return Ok(());
        }
        let own = self.members.get(&peer).and_then(|member| member.nick.clone());
        let nick: Rc<str> = match (nick, own) {
            (Some(nick), _) => nick.into(),
            (None, Some(own)) => own,
            (None, None) => self.guest(peer, &key),
        };
        self.rooms.get(&key).map_or(Ok(()), |room| room.check_free(&nick, peer))?;
        let address = self.members.get(&peer).and_then(|member| member.address);
        let rate = self.rules.joins_per_ip;
        if address.is_some_and(|ip| !self.addresses.may_join(rate, ip, board.now())) {
            return Err(Trouble::JoinsTooFast(rate));
        }
        self.make_room(name, &key)?;
        self.leave(board, peer);

        let Some(member) = self.members.get_mut(&peer) else { return Ok(()) };
        let room = self.rooms.get_mut(&key).expect("it was just made, if it was not there");
        let seat = room.enter(Seat::new(peer, Rc::clone(&nick), member.framing));
        member.nick = Some(Rc::clone(&nick));
        member.place = Some((Rc::clone(&key), seat));
        self.answer_joined(board, peer);
        if let Some(room) = self.rooms.get_mut(&key) {
            self.counts.dropped += room.recall(board, seat, self.rules.slow_readers);
        }
        self.await_news(board, &key);
        Ok(())
    }

    fn answer_joined(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        let Ok((key, seat)) = self.place(peer) else { return };
        let secret = self.members.get(&peer).map_or(0, |member| member.secret);
        let Some(room) = self.rooms.get_mut(&key) else { return };
        let page = room.page(None, board.now());
        let room = &self.rooms[&key];
        let event = Event::Joined {
            room: &room.name,
            nick: &room.seats[seat].nick,
            topic: &room.topic,
            count: room.seats.len(),
            members: &page.nicks,
            next: page.next.as_deref(),
            seq: room.seq,
            seat: &format!("{secret:032x}"),
        };
        self.answer(board, peer, &event);
    }

    /// Sets a timer for the news of the room's members, where there are any and none is set.
    fn await_news(&mut self, board: &mut Switchboard<'_>, key: &RoomKey) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        if let Some(delay) = room.await_news(board.now()) {
            self.last_wait += 1;
            self.waits.insert(self.last_wait, Rc::clone(key));
            board.set_timer(delay, self.last_wait);
        }
    }

    /// Tells the room the news of its members that wait: behind those, what else it is told keeps its order.
    fn post_news(&mut self, board: &mut Switchboard<'_>, key: &RoomKey) {
        let at = self.time(board);
        if let Some(room) = self.rooms.get_mut(key) {
            self.counts.dropped += room.post_news(board, at, board.now(), self.rules.slow_readers);
        }
    }

    /// Returns a page of the list of rooms, without the first `after`, as an answer.
    fn list_rooms(&mut self, after: usize, now: Moment) -> Rc<Post> {
        let age = LIST_AGE * u32::try_from(self.list.keys.len()).unwrap_or(u32::MAX);
        if self.list.at.is_none_or(|at| at != now && now.since(at) >= age) {
            let alive = self.rooms.iter().filter(|(_, room)| room.is_alive());
            let mut keys: Vec<(usize, &RoomKey)> = alive.map(|(key, room)| (room.seats.len(), key)).collect();
            keys.sort_unstable_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(other.1)));
            let keys = keys.into_iter().map(|(_, key)| Rc::clone(key)).collect();
            self.list = RoomList { keys, at: Some(now), pages: Vec::new() };
        }
        if let Some((_, page)) = self.list.pages.iter().find(|(begin, _)| *begin == after) {
            return Rc::clone(page);
        }
        let count = self.list.keys.len();
        let (mut rooms, mut end, mut left) = (Vec::new(), after.min(count), PAGE_BYTES_MAX);
        for room in self.list.keys[end..].iter().map(|key| self.rooms.get(key)) {
            // One that is gone since is passed over.
            if let Some(room) = room {
                let bytes =
                    room.name.len() + 2 * room.topic.len() + r#"{"room":"","count":10000,"topic":""},"#.len();
                match left.checked_sub(bytes) {
                    Some(less) => left = less,
                    None if rooms.is_empty() => left = 0,
                    None => break,
                }
                rooms.push(About::from(room));
            }
            end += 1;
        }
        let next = (end < count).then_some(end);
        let page = Rc::new(Post::new(&Event::Rooms { count, after, rooms, next }));
        if self.list.pages.len() == PAGES_MAX {
            self.list.pages.remove(0);
        }
        self.list.pages.push((after, Rc::clone(&page)));
        page
    }

    /// A name for who has none, that nobody has in this room.
    fn guest(&mut self, peer: Peer, key: &RoomKey) -> Rc<str> {
        loop {
            self.guests += 1;
            let nick = format!("guest{}", self.guests);
            if self.rooms.get(key).is_none_or(|room| room.check_free(&nick, peer).is_ok()) {
                return nick.into();
            }
        }
    }

    /// A room with this name. Where there are too many, one goes where nobody has been for longest.
    fn make_room(&mut self, name: &str, key: &RoomKey) -> Result<(), Trouble> {
        if self.rooms.contains_key(key) {
            return Ok(());
        }
        if self.room_names.is_like_anothers(name, None::<&str>) {
            return Err(Trouble::RoomLikeAnother(name.to_owned()));
        }
        if self.rooms.len() >= self.rules.rooms_max {
            let empty = self.rooms.iter().filter(|(_, room)| !room.is_alive());
            // Of several the one whose name comes first: a table has no order that anybody should see.
            let oldest = empty
                .min_by_key(|(key, room)| (room.empty_since, Rc::clone(key)))
                .map(|(key, _)| Rc::clone(key));
            let oldest = oldest.ok_or(Trouble::RoomsFull(self.rules.rooms_max))?;
            self.rooms.remove(&oldest);
            self.room_names.remove(&oldest);
        }
        self.room_names.insert(name, Rc::clone(key));
        self.rooms.insert(Rc::clone(key), Room::new(name, &self.ambient));
        Ok(())
    }

    /// Takes a member out of its room, if it is in one.
    fn leave(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        let Some((key, seat)) = self.members.get_mut(&peer).and_then(|member| member.place.take()) else {
            return;
        };
        let room = self.rooms.get_mut(&key).expect("a room with members stays");
        if let Some(moved) = room.leave(seat, board.now())
            && let Some(Member { place: Some((_, its)), .. }) = self.members.get_mut(&moved)
        {
            *its = seat;
        }
        self.await_news(board, &key);
    }

    fn post_text(&mut self, board: &mut Switchboard<'_>, from: Peer, text: &str) -> Result<(), Trouble> {
        let text = &*check_words(text, TEXT_BYTES_MAX)?;
        let (key, seat) = self.place(from)?;
        let at = self.time(board);
        self.post_news(board, &key);
        let room = self.rooms.get_mut(&key).expect("a room with members stays");
        let seq = room.number();
        let nick = Rc::clone(&room.seats[seat].nick);
        let post = Rc::new(Post::new(&Event::Said { seq, at, nick: &nick, text }));
        // Who types at a terminal sees it there; a program is told that it has been said, and as what number.
        let but = (!room.seats[seat].is_program()).then_some(from);
        self.counts.dropped += room.post(board, &post, self.rules.slow_readers, but);
        room.remember(post);
        self.counts.said += 1;
        Ok(())
    }

    /// Sends a text to one member only.
    fn send_private(
        &mut self,
        board: &mut Switchboard<'_>,
        from: Peer,
        to: &str,
        text: &str,
    ) -> Result<(), Trouble> {
        let to = &*names::nick(to)?;
        let text = &*check_words(text, TEXT_BYTES_MAX)?;
        let (key, seat) = self.place(from)?;
        let at = self.time(board);
        let room = self.rooms.get_mut(&key).expect("a room with members stays");
        let nobody = || Trouble::Nobody(to.to_owned());
        let target = room.peer_called(to).ok_or_else(nobody)?;
        let (_, target) =
            self.members.get(&target).and_then(|member| member.place.clone()).ok_or_else(nobody)?;
        let (nick, to) = (Rc::clone(&room.seats[seat].nick), Rc::clone(&room.seats[target].nick));
        let post = Rc::new(Post::new(&Event::Told { at, nick: &nick, to: &to, text }));
        let policy = self.rules.slow_readers;
        self.counts.dropped += room.seats[target].deliver(board, &post, policy);
        if target != seat && room.seats[seat].is_program() {
            self.counts.dropped += room.seats[seat].deliver(board, &post, policy);
        }
        self.counts.said += 1;
        Ok(())
    }

    fn topic(&mut self, board: &mut Switchboard<'_>, from: Peer, text: Option<&str>) -> Result<(), Trouble> {
        let (key, seat) = self.place(from)?;
        let at = self.time(board);
        let room = self.rooms.get_mut(&key).expect("a room with members stays");
        let Some(text) = text else {
            let event = Event::Topic { seq: room.seq, at, nick: "", text: &self.rooms[&key].topic };
            self.answer(board, from, &event);
            return Ok(());
        };
        let text = &*words::text(text, TOPIC_BYTES_MAX)?;
        self.post_news(board, &key);
        let room = self.rooms.get_mut(&key).expect("a room with members stays");
        room.topic = text.to_owned();
        let nick = Rc::clone(&room.seats[seat].nick);
        let post = Rc::new(Post::new(&Event::Topic { seq: room.number(), at, nick: &nick, text }));
        self.counts.dropped += room.post(board, &post, self.rules.slow_readers, None);
        Ok(())
    }

    fn rename(&mut self, board: &mut Switchboard<'_>, peer: Peer, nick: &str) -> Result<(), Trouble> {
        let nick = &*names::nick(nick)?;
        let at = self.time(board);
        let Some(member) = self.members.get_mut(&peer) else { return Ok(()) };
        if let Some((key, seat)) = &member.place {
            let room = self.rooms.get_mut(key).expect("a room with members stays");
            room.check_free(nick, peer)?;
            let was = Rc::clone(&room.seats[*seat].nick);
            if *was == *nick {
                return Ok(());
            }
            let seq = room.rename(*seat, nick.into());
            // The member is told at once, and the others with the news.
            let post = Rc::new(Post::new(&Event::Renamed { seq, at, nick: &was, to: nick }));
            self.counts.dropped += room.seats[*seat].deliver(board, &post, self.rules.slow_readers);
        }
        member.nick = Some(nick.into());
        if let Ok((key, _)) = self.place(peer) {
            self.await_news(board, &key);
        }
        Ok(())
    }
}

impl<'a> From<&'a Room> for About<'a> {
    fn from(room: &'a Room) -> About<'a> {
        About { room: &room.name, count: room.seats.len(), topic: &room.topic }
    }
}

fn check_words(text: &str, most: usize) -> Result<Cow<'_, str>, Trouble> {
    match text.is_empty() {
        true => Err(Trouble::NotUnderstood("nothing is said".into())),
        false => words::text(text, most),
    }
}

impl Service for Chat {
    fn on_open(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        match self.welcome(board, peer) {
            Some(Framing::Lines | Framing::Prefixed) => {
                board.send(peer, Message::Text("* welcome to the chat: /help lists the commands"));
                if let Err(trouble) = self.join(board, peer, LOBBY, None) {
                    self.answer(board, peer, &Event::from(&trouble));
                }
            }
            Some(Framing::WebSocket) => {} // it asks to be let in, and says its name
            _ => {
                self.members.remove(&peer); // a browser that wants the page
            }
        }
    }

    fn on_message(&mut self, board: &mut Switchboard<'_>, from: Peer, message: Message<'_>) {
        if let Err(trouble) = self.serve(board, from, message) {
            self.counts.refused += 1;
            self.answer(board, from, &Event::from(&trouble));
        }
    }

    fn on_request(&mut self, board: &mut Switchboard<'_>, from: Peer, request: &Request<'_>) {
        page::serve(board, from, request, PAGE);
    }

    fn subprotocols(&mut self, _board: &mut Switchboard<'_>, _peer: Peer) -> &'static [&'static str] {
        &[SUBPROTOCOL]
    }

    fn on_drain(&mut self, board: &mut Switchboard<'_>, peer: Peer) {
        if let Ok((key, seat)) = self.place(peer)
            && let Some(room) = self.rooms.get_mut(&key)
        {
            room.seats[seat].refill(board);
        }
    }

    fn on_close(&mut self, board: &mut Switchboard<'_>, peer: Peer, _reason: CloseReason) {
        self.leave(board, peer);
        let Some(member) = self.members.remove(&peer) else { return };
        self.seats.remove(&member.secret);
        if let Some(address) = member.address {
            self.addresses.keep(address, member.empty_at, board.now());
        }
    }

    fn on_timer(&mut self, board: &mut Switchboard<'_>, wait: u64) {
        let Some(key) = self.waits.remove(&wait) else { return };
        let Some(room) = self.rooms.get_mut(&key) else { return };
        if room.end_wait(board.now()) {
            self.post_news(board, &key);
        }
        self.await_news(board, &key);
    }

    fn on_metrics(&self, page: &mut Metrics) {
        let rooms = self.rooms.values().filter(|room| room.is_alive()).count();
        page.gauge(
            "chat_members",
            "Members in rooms, and those who may join one.",
            self.members.len() as f64,
        );
        page.gauge("chat_rooms", "Rooms with members, and the lobby.", rooms as f64);
        page.counter("chat_messages", "Messages said in rooms.", self.counts.said);
        page.counter("chat_dropped", "Messages that slow members missed.", self.counts.dropped);
        page.counter("chat_refused", "Requests of members that were refused.", self.counts.refused);
    }
}
