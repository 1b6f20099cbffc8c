//! A room: who is in it, what was said last, and what waits for those who read slowly.
//!
//! **Who comes, goes and is renamed** is not told at once. It is noted, and all of it goes out as one post: at the end
//! of the turn; or, where the last such news are fresh, when [`NEWS_EVERY`] has passed for each member. Each costs a write for
//! each member, so news take the same share of the loop's time in a room of ten and in a room of 10,000, however
//! fast members come and go. A member that comes and goes in between was never there. What else a room is told comes
//! behind the news that wait: their number is taken when the first of them is noted.
//!
//! What a room is told is a [`Post`]: numbered, encoded once for each protocol, and put into every member's outbox; the
//! loop writes each outbox once in a turn, however many posts are in it. A member whose outbox is congested costs the
//! others nothing: posts wait in its queue, which holds references and not copies, and when that is full, one is dropped
//! for each that comes. Where posts were dropped, the member gets their number in their place.
//!
//! Invariant: what a member is told comes in the room's order, and what is missing is told where it is missing.

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use super::super::ambient::Ambient;
use super::names::{Names, fold};
use super::words::{Event, Listed, NICK_CHARS_MAX, Renaming, Trouble};
use crate::protocol::{Encoded, Framing, Message};
use crate::reactor::{Moment, Peer};
use crate::service::Switchboard;

/// The room where callers at a terminal find themselves. It is always there.
pub const LOBBY: &str = "lobby";

/// The most posts that wait for one member.
pub(super) const QUEUE_POSTS_MAX: usize = 256;

/// The latest posts that a room keeps: how many, and of how many bytes together.
const HISTORY_POSTS_MAX: usize = 50;
const HISTORY_BYTES_MAX: usize = 32 * 1024;

/// How far apart news of members are in a room, for each of its members: 1 ms in a room of ten, 1 s in one of
/// 10,000. A write takes about 5 us, so news take at most a twentieth of the loop's time in each room.
const NEWS_EVERY: Duration = Duration::from_micros(100);

/// The most bytes of the names in one list of members: a page of it.
const PAGE_BYTES_MAX: usize = 4096;

/// That many names always fit.
const PAGE_NICKS_MIN: usize = PAGE_BYTES_MAX / (4 * NICK_CHARS_MAX + r#""","#.len());

/// The most pages of the list of members that are kept.
const PAGES_MAX: usize = 8;

/// What happens to a member that reads less than it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowReaders {
    /// The member is closed when more waits than an outbox may hold.
    Close,
    /// 256 messages wait for the member, beyond what is in its outbox; for each further one, the oldest is dropped.
    #[default]
    DropOldest,
    /// The same, but the newest is dropped.
    DropNewest,
}

impl SlowReaders {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            SlowReaders::Close => "close",
            SlowReaders::DropOldest => "drop-oldest",
            SlowReaders::DropNewest => "drop-newest",
        }
    }
}

/// What rooms need of the board, so that they can be tested without one.
pub(super) trait Broadcasts {
    fn congested(&self, peer: Peer) -> bool;
    fn send_encoded(&mut self, peer: Peer, encoded: &Encoded);
    fn draining(&self) -> bool;
}

impl Broadcasts for Switchboard<'_> {
    #[inline]
    fn congested(&self, peer: Peer) -> bool {
        Switchboard::congested(self, peer)
    }

    #[inline]
    fn send_encoded(&mut self, peer: Peer, encoded: &Encoded) {
        Switchboard::send_encoded(self, peer, encoded);
    }

    fn draining(&self) -> bool {
        Switchboard::draining(self)
    }
}

/// An event as members are told it, whatever they speak.
#[derive(Debug)]
pub(super) struct Post {
    lines: Encoded,
    frame: Encoded,
    /// Rarely asked for.
    prefixed: OnceCell<Encoded>,
}

impl Post {
    pub(super) fn new(event: &Event<'_>) -> Post {
        Post {
            lines: encoded(Framing::Lines, &event.line()),
            frame: encoded(Framing::WebSocket, &event.json()),
            prefixed: OnceCell::new(),
        }
    }

    pub(super) fn encoded(&self, framing: Framing) -> &Encoded {
        match framing {
            Framing::WebSocket => &self.frame,
            Framing::Prefixed => self.prefixed.get_or_init(|| {
                let line = self.lines.bytes().strip_suffix(b"\n").unwrap_or_default();
                encoded(Framing::Prefixed, std::str::from_utf8(line).unwrap_or_default())
            }),
            _ => &self.lines,
        }
    }

    fn bytes(&self) -> usize {
        self.lines.bytes().len() + self.frame.bytes().len()
    }
}

fn encoded(framing: Framing, text: &str) -> Encoded {
    Encoded::new(framing, Message::Text(text)).expect("members speak what can be said to many")
}

/// What waits for a member.
#[derive(Debug)]
enum Waiting {
    Post(Rc<Post>),
    /// This many posts were dropped here.
    Gap(u64),
}

/// What waits for a member that does not read fast enough.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    posts: usize,
}

impl Queue {
    /// Appends it; how many were dropped for that.
    fn push(&mut self, post: &Rc<Post>, policy: SlowReaders) -> u64 {
        if self.posts < QUEUE_POSTS_MAX {
            self.waiting.push_back(Waiting::Post(Rc::clone(post)));
            self.posts += 1;
            return 0;
        }
        match policy {
            SlowReaders::DropNewest => match self.waiting.back_mut() {
                Some(Waiting::Gap(missed)) => *missed += 1,
                _ => self.waiting.push_back(Waiting::Gap(1)),
            },
            _ => {
                let mut missed = 1;
                while let Some(first) = self.waiting.pop_front() {
                    match first {
                        Waiting::Gap(count) => missed += count,
                        Waiting::Post(_) => break,
                    }
                }
                self.waiting.push_front(Waiting::Gap(missed));
                self.waiting.push_back(Waiting::Post(Rc::clone(post)));
            }
        }
        1
    }
}

/// A member's place in a room.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) peer: Peer,
    pub(super) nick: Rc<str>,
    framing: Framing,
    /// The name by which the room knows the member, until the next news; `None` where it does not know yet that the member came.
    known_as: Option<Rc<str>>,
    /// Up to which of the room's changes the member knows them all: those before it came, and its own.
    knows: u64,
    /// In a box that hardly anybody has: seats are gone through for each post.
    queue: Option<Box<Queue>>,
}

impl Seat {
    pub(super) fn new(peer: Peer, nick: Rc<str>, framing: Framing) -> Seat {
        Seat { peer, nick, framing, known_as: None, knows: 0, queue: None }
    }

    /// The name by which the room knew the member, and the one by which it will; `None` where nothing has changed.
    fn renaming(&self) -> Option<Renaming<'_>> {
        let nick = self.known_as.as_deref().filter(|known| **known != *self.nick)?;
        Some(Renaming { nick, to: &self.nick })
    }

    /// Whether JSON is read here.
    pub(super) fn is_program(&self) -> bool {
        self.framing == Framing::WebSocket
    }

    /// Gives it to the member, now or later; how many posts were dropped for that.
    #[inline]
    pub(super) fn deliver(
        &mut self,
        board: &mut impl Broadcasts,
        post: &Rc<Post>,
        policy: SlowReaders,
    ) -> u64 {
        if self.queue.is_none() {
            if policy == SlowReaders::Close || !board.congested(self.peer) {
                board.send_encoded(self.peer, post.encoded(self.framing));
                return 0;
            }
            self.queue = Some(Box::default());
        }
        self.queue.as_mut().map_or(0, |queue| queue.push(post, policy))
    }

    /// There is room again.
    pub(super) fn refill(&mut self, board: &mut impl Broadcasts) {
        let Some(queue) = &mut self.queue else { return };
        while !board.congested(self.peer) {
            match queue.waiting.pop_front() {
                Some(Waiting::Post(post)) => {
                    queue.posts -= 1;
                    board.send_encoded(self.peer, post.encoded(self.framing));
                }
                Some(Waiting::Gap(missed)) => {
                    let gap = Post::new(&Event::Gap { missed });
                    board.send_encoded(self.peer, gap.encoded(self.framing));
                }
                None => {
                    self.queue = None;
                    return;
                }
            }
        }
    }
}

/// What the room is not told yet. (Who came and who was renamed, the seats say themselves.)
#[derive(Debug, Default)]
struct News {
    /// Changes of the members so far, and how many of them the room was told.
    noted: u64,
    told: u64,
    /// The number that the next news bear, where any are noted.
    seq: Option<u64>,
    /// By the names that the room knows, or some of those who came since the last news.
    went: Vec<Rc<str>>,
    /// Among those are names that the room as a whole was never told.
    has_unknown: bool,
    /// How many members came since the last news: their answers listed names that the others may never be told.
    newcomers: usize,
    /// From when on the room may be told the next news.
    due: Moment,
    /// A timer is set for that.
    is_awaited: bool,
}

/// A part of the list of members.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) nicks: Vec<Rc<str>>,
    /// Where more come: the last name of this page, behind which the next one begins.
    pub(super) next: Option<Rc<str>>,
    /// As the answer to `who`, once that was asked.
    answer: OnceCell<Rc<Post>>,
}

/// Pages of the list of members, as they were when these many changes had been noted, at that time.
#[derive(Debug, Default)]
struct Pages {
    noted: u64,
    at: Moment,
    /// By the folded name behind which they begin; empty for the first one.
    pages: Vec<(String, Rc<Page>)>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: String,
    pub(super) topic: String,
    /// Counts what the room was told.
    pub(super) seq: u64,
    pub(super) seats: Vec<Seat>,
    nicks: Names<Peer>,
    /// The nicks by their folded names: in the order of the lists.
    list: BTreeMap<String, Rc<str>>,
    news: News,
    pages: Pages,
    history: VecDeque<Rc<Post>>,
    history_bytes: usize,
    /// When the last one left.
    pub(super) empty_since: Moment,
}

impl Room {
    pub(super) fn new(name: &str, ambient: &Ambient) -> Room {
        Room {
            name: name.to_owned(),
            topic: String::new(),
            seq: 0,
            seats: Vec::new(),
            nicks: Names::new(ambient.chance()),
            list: BTreeMap::new(),
            news: News::default(),
            pages: Pages::default(),
            history: VecDeque::new(),
            history_bytes: 0,
            empty_since: Moment::default(),
        }
    }

    /// Whether it is more than a memory.
    pub(super) fn is_alive(&self) -> bool {
        !self.seats.is_empty() || self.name == LOBBY
    }

    /// Returns the member with this name in this room.
    pub(super) fn peer_called(&self, nick: &str) -> Option<Peer> {
        self.nicks.get(nick)
    }

    /// Whether somebody but `peer` has this name here, or one that looks like it.
    ///
    /// # Errors
    /// Which of both.
    pub(super) fn check_free(&self, nick: &str, peer: Peer) -> Result<(), Trouble> {
        if self.peer_called(nick).is_some_and(|other| other != peer) {
            return Err(Trouble::NickTaken(nick.to_owned()));
        }
        match self.nicks.is_like_anothers(nick, Some(&peer)) {
            true => Err(Trouble::NickLikeAnother(nick.to_owned())),
            false => Ok(()),
        }
    }

    /// Gives the member a seat at the end; returns where that is.
    pub(super) fn enter(&mut self, mut seat: Seat) -> usize {
        self.note();
        self.news.newcomers += 1;
        seat.knows = self.news.noted; // its answer says who is there
        self.nicks.insert(&seat.nick, seat.peer);
        self.list.insert(fold(&seat.nick), Rc::clone(&seat.nick));
        self.seats.push(seat);
        self.seats.len() - 1
    }

    /// Frees the seat. The last one's member sits there now: it is returned, if it was not its own.
    pub(super) fn leave(&mut self, index: usize, now: Moment) -> Option<Peer> {
        self.note();
        self.give_up_name(index);
        let seat = self.seats.swap_remove(index);
        self.nicks.remove(&seat.nick);
        self.list.remove(&fold(&seat.nick));
        self.news.newcomers -= usize::from(seat.known_as.is_none());
        self.news.went.extend(seat.known_as);
        if self.seats.is_empty() {
            self.empty_since = now;
            let News { noted, .. } = self.news;
            self.news = News { noted, told: noted, is_awaited: self.news.is_awaited, ..News::default() };
        }
        shrink(&mut self.seats);
        self.seats.get(index).map(|moved| moved.peer)
    }

    /// Returns the number by which the member is told of it: that of the news.
    pub(super) fn rename(&mut self, index: usize, nick: Rc<str>) -> u64 {
        let seq = self.note();
        self.give_up_name(index);
        let seat = &mut self.seats[index];
        seat.knows = seat.knows.max(self.news.told) + 1;
        self.nicks.remove(&seat.nick);
        self.list.remove(&fold(&seat.nick));
        self.nicks.insert(&nick, seat.peer);
        self.list.insert(fold(&nick), Rc::clone(&nick));
        seat.nick = nick;
        seq
    }

    /// The member's name is about to be no longer that. A name that it took since the last news is known to those alone
    /// who came behind that: where there are any, the news say that it is gone, and the member is told of as one who
    /// came, if it stays.
    fn give_up_name(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        // It took the name of a member that has gone, and gives it up: it does not know that name any more.
        self.news.has_unknown |= self.news.went.contains(&seat.nick);
        let others = self.news.newcomers - usize::from(seat.known_as.is_none());
        if others > 0 && seat.known_as.as_ref().is_none_or(|known| **known != *seat.nick) {
            self.news.went.push(Rc::clone(&seat.nick));
            self.news.has_unknown = true;
            if let Some(known) = seat.known_as.take() {
                self.news.went.push(known);
                self.news.newcomers += 1;
            }
        }
    }

    /// One more change of the members; returns the number that its news will bear.
    fn note(&mut self) -> u64 {
        self.news.noted += 1;
        match self.news.seq {
            Some(seq) => seq,
            None => {
                let seq = self.number();
                *self.news.seq.insert(seq)
            }
        }
    }

    /// The next number.
    pub(super) fn number(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// In how long the news that wait are due; `None` where there are none, or a timer is set for it.
    pub(super) fn await_news(&mut self, now: Moment) -> Option<Duration> {
        let waits = self.news.seq.is_some() && !self.news.is_awaited;
        self.news.is_awaited |= waits;
        waits.then(|| self.news.due.since(now))
    }

    /// The timer is due. The news may have gone out with something else meanwhile, and then the next ones are due later.
    pub(super) fn end_wait(&mut self, now: Moment) -> bool {
        self.news.is_awaited = false;
        self.news.seq.is_some() && self.news.due <= now
    }

    /// Tells everybody of the members who came, went and were renamed; but for those who know it all. Returns how many
    /// posts were dropped for that. At a stop nobody is told: it would be a flood, of no use to anyone.
    pub(super) fn post_news(
        &mut self,
        board: &mut impl Broadcasts,
        at: u64,
        now: Moment,
        policy: SlowReaders,
    ) -> u64 {
        let Some(seq) = self.news.seq.take() else { return 0 };
        let (noted, told, mut dropped) = (self.news.noted, self.news.told, 0);
        if !board.draining()
            && let Some(post) = self.news(seq, at).map(Rc::new)
        {
            for seat in self.seats.iter_mut().filter(|seat| seat.knows.max(told) < noted) {
                dropped += seat.deliver(board, &post, policy);
            }
        } else {
            self.seq -= 1; // it is the last one that was taken, and nothing bears it
        }
        for seat in &mut self.seats {
            if seat.known_as.as_ref().is_none_or(|known| !Rc::ptr_eq(known, &seat.nick)) {
                seat.known_as = Some(Rc::clone(&seat.nick));
            }
        }
        let due = now.after(NEWS_EVERY * self.seats.len() as u32);
        self.news = News { noted, told: noted, due, is_awaited: self.news.is_awaited, ..News::default() };
        dropped
    }

    /// What has changed, as one post; `None` where all of it has been undone. A single change keeps the form that it has
    /// always had.
    fn news(&self, seq: u64, at: u64) -> Option<Post> {
        let came = self.seats.iter().filter(|seat| seat.known_as.is_none());
        let came = Listed::new(came.map(|seat| &*seat.nick));
        let went = Listed::new(self.news.went.iter().map(|nick| &**nick));
        let renamed = Listed::new(self.seats.iter().filter_map(Seat::renaming));
        let more = came.more() + went.more() + renamed.more();
        let event = match (came.only(), went.only(), renamed.only()) {
            _ if came.count() + went.count() + renamed.count() == 0 => return None,
            (Some(nick), None, None) if went.count() + renamed.count() == 0 => Event::Came { seq, at, nick },
            (None, Some(nick), None) if came.count() + renamed.count() == 0 && !self.news.has_unknown => {
                Event::Went { seq, at, nick }
            }
            (None, None, Some(Renaming { nick, to })) if came.count() + went.count() == 0 => {
                Event::Renamed { seq, at, nick, to }
            }
            _ => Event::Roster { seq, at, count: self.seats.len(), came, went, renamed, more },
        };
        Some(Post::new(&event))
    }

    /// The page of the list of members that begins behind this name. Each is built at most once in a turn, and not again
    /// before somebody comes, goes or is renamed.
    pub(super) fn page(&mut self, after: Option<&str>, now: Moment) -> Rc<Page> {
        let after = after.map(fold).unwrap_or_default();
        // What fits one page is always up to date: a member that has just come finds itself there.
        let is_short = self.list.len() <= PAGE_NICKS_MIN;
        if self.pages.noted != self.news.noted && (is_short || self.pages.at != now) {
            self.pages = Pages { noted: self.news.noted, at: now, pages: Vec::new() };
        }
        if let Some((_, page)) = self.pages.pages.iter().find(|(behind, _)| *behind == after) {
            return Rc::clone(page);
        }
        let (mut nicks, mut next, mut left) = (Vec::new(), None, PAGE_BYTES_MAX);
        let behind = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(&after[..]) };
        for nick in self.list.range::<str, _>((behind, Bound::Unbounded)).map(|(_, nick)| nick) {
            match left.checked_sub(nick.len() + r#""","#.len()) {
                Some(less) => left = less,
                None => {
                    next = nicks.last().cloned();
                    break;
                }
            }
            nicks.push(Rc::clone(nick));
        }
        let page = Rc::new(Page { nicks, next, answer: OnceCell::new() });
        if self.pages.pages.len() == PAGES_MAX {
            self.pages.pages.remove(0);
        }
        self.pages.pages.push((after, Rc::clone(&page)));
        page
    }

    /// The answer to `who`.
    pub(super) fn who(&mut self, after: Option<&str>, now: Moment) -> Rc<Post> {
        let page = self.page(after, now);
        let answer = page.answer.get_or_init(|| {
            let (count, next) = (self.seats.len(), page.next.as_deref());
            Rc::new(Post::new(&Event::Members { room: &self.name, count, after, members: &page.nicks, next }))
        });
        Rc::clone(answer)
    }

    /// Tells everybody but one; how many posts were dropped for that. News are told before.
    pub(super) fn post(
        &mut self,
        board: &mut impl Broadcasts,
        post: &Rc<Post>,
        policy: SlowReaders,
        but: Option<Peer>,
    ) -> u64 {
        debug_assert!(self.news.seq.is_none(), "its number is behind that of the news");
        let mut dropped = 0;
        for seat in &mut self.seats {
            if but != Some(seat.peer) {
                dropped += seat.deliver(board, post, policy);
            }
        }
        dropped
    }

    pub(super) fn remember(&mut self, post: Rc<Post>) {
        self.history_bytes += post.bytes();
        self.history.push_back(post);
        while self.history.len() > HISTORY_POSTS_MAX || self.history_bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.bytes();
        }
    }

    /// What was said last, for who has just come.
    pub(super) fn recall(&mut self, board: &mut impl Broadcasts, index: usize, policy: SlowReaders) -> u64 {
        let seat = &mut self.seats[index];
        self.history.iter().map(|post| seat.deliver(board, post, policy)).sum()
    }
}

/// Gives back memory that a burst took.
fn shrink<T>(list: &mut Vec<T>) {
    const KEPT: usize = 1024;
    if list.capacity() > KEPT && list.len() < list.capacity() / 4 {
        list.shrink_to(2 * list.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    /// A board with one peer, which takes `room` bytes before it is congested.
    struct Board {
        room: usize,
        heard: Vec<String>,
    }

    impl Broadcasts for Board {
        fn congested(&self, _peer: Peer) -> bool {
            self.heard.len() >= self.room
        }

        fn send_encoded(&mut self, _peer: Peer, encoded: &Encoded) {
            self.heard.push(String::from_utf8(encoded.bytes().to_vec()).expect("lines are text"));
        }

        fn draining(&self) -> bool {
            false
        }
    }

    /// What programs in one room know of it: who is there, and which number comes next.
    #[derive(Default)]
    struct Programs(BTreeMap<Peer, (BTreeSet<String>, u64)>);

    impl Broadcasts for Programs {
        fn congested(&self, _peer: Peer) -> bool {
            false
        }

        fn send_encoded(&mut self, peer: Peer, encoded: &Encoded) {
            let frame = encoded.bytes();
            let json = if frame[1] < 126 { &frame[2..] } else { &frame[4..] };
            self.hear(peer, &serde_json::from_slice(json).expect("it is JSON"));
        }

        fn draining(&self) -> bool {
            false
        }
    }

    impl Programs {
        fn hear(&mut self, peer: Peer, event: &Value) {
            let (names, next) = self.0.get_mut(&peer).expect("only members are told");
            let seq = event["seq"].as_u64().expect("all of these have one");
            // News that began before it came have the number that it was told then.
            assert!(
                seq == *next || seq + 1 == *next,
                "{peer} missed something before {event}, it expected {next}"
            );
            *next = seq + 1;
            let text = |value: &Value| value.as_str().expect("a name").to_owned();
            let list = |field: &str| event[field].as_array().cloned().unwrap_or_default();
            match event["type"].as_str().expect("a type") {
                "came" => names.extend([text(&event["nick"])]),
                "went" => assert!(names.remove(&text(&event["nick"])), "{peer} did not know it: {event}"),
                "renamed" => {
                    names.remove(&text(&event["nick"])); // it may have been told already, as its own
                    names.insert(text(&event["to"]));
                }
                "roster" => {
                    let gone = list("went")
                        .into_iter()
                        .chain(list("renamed").into_iter().map(|it| it["nick"].clone()));
                    let there = list("came")
                        .into_iter()
                        .chain(list("renamed").into_iter().map(|it| it["to"].clone()));
                    let gone: Vec<String> = gone.map(|nick| text(&nick)).collect();
                    names.retain(|nick| !gone.contains(nick));
                    names.extend(there.map(|nick| text(&nick)));
                    assert_eq!(event["count"], names.len(), "{event}");
                }
                "said" => {}
                other => panic!("{other}"),
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Enter(u8),
        Leave(usize),
        Rename(usize, u8),
        Say,
        News,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..12).prop_map(Step::Enter),
            2 => (0usize..8).prop_map(Step::Leave),
            2 => (0usize..8, 0u8..12).prop_map(|(who, nick)| Step::Rename(who, nick)),
            1 => Just(Step::Say),
            2 => Just(Step::News),
        ]
    }

    /// Found by the property below: a member takes the name of one that has gone, and its own again, all in one turn.
    #[test]
    fn who_has_borne_the_name_of_one_that_went_does_not_hear_of_a_stranger() {
        use Step::{Enter, Leave, Rename, Say};
        take(vec![Enter(11), Enter(1), Enter(2), Say, Leave(0), Rename(1, 11), Rename(1, 1), Say]);
        take(vec![Enter(11), Enter(1), Enter(2), Say, Leave(0), Rename(0, 11), Rename(0, 2), Say]);
    }

    /// Takes these steps in a room. After the news each member must know who is there, and no number may be missing.
    fn take(steps: Vec<Step>) {
        let (mut room, mut programs, mut peers) =
            (Room::new("lobby", &Ambient::machine()), Programs::default(), 0);
        let policy = SlowReaders::Close;
        for step in steps.into_iter().chain([Step::News]) {
            let news = |room: &mut Room, programs: &mut Programs| {
                room.post_news(programs, 0, Moment::default(), policy);
                let there: BTreeSet<String> = room.seats.iter().map(|seat| seat.nick.to_string()).collect();
                for (peer, (names, _)) in &programs.0 {
                    assert_eq!(names, &there, "{peer}");
                }
            };
            match step {
                Step::Enter(nick) => {
                    let nick: Rc<str> = format!("n{nick}").into();
                    if room.peer_called(&nick).is_none() {
                        peers += 1;
                        let peer = Peer::of_nobody(peers);
                        room.enter(Seat::new(peer, nick, Framing::WebSocket));
                        let page = room.page(None, Moment::default());
                        let names = page.nicks.iter().map(|nick| nick.to_string()).collect();
                        programs.0.insert(peer, (names, room.seq + 1));
                    }
                }
                Step::Leave(index) if index < room.seats.len() => {
                    programs.0.remove(&room.seats[index].peer);
                    room.leave(index, Moment::default());
                }
                Step::Rename(index, nick) if index < room.seats.len() => {
                    let (nick, was) = (format!("n{nick}"), room.seats[index].nick.to_string());
                    if room.peer_called(&nick).is_none() {
                        let seq = room.rename(index, nick.as_str().into());
                        let event =
                            serde_json::json!({"type": "renamed", "seq": seq, "nick": was, "to": nick});
                        programs.hear(room.seats[index].peer, &event);
                    }
                }
                Step::Say => {
                    news(&mut room, &mut programs);
                    let post =
                        Rc::new(Post::new(&Event::Said { seq: room.number(), at: 0, nick: "x", text: "y" }));
                    room.post(&mut programs, &post, policy, None);
                }
                Step::News => news(&mut room, &mut programs),
                Step::Leave(_) | Step::Rename(..) => {}
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

        #[test]
        fn whatever_happens_in_a_turn_each_member_knows_who_is_there_and_misses_no_number(
            steps in prop::collection::vec(step(), 0..80),
        ) {
            take(steps);
        }

        #[test]
        fn pages_hold_each_name_once_in_order_and_within_bounds(
            nicks in prop::collection::btree_set("[a-z]{10,20}", 0..500),
        ) {
            let mut room = Room::new("lobby", &Ambient::machine());
            for (number, nick) in nicks.iter().enumerate() {
                room.enter(Seat::new(Peer::of_nobody(number as u32), nick.as_str().into(), Framing::Lines));
            }
            let (mut listed, mut after): (Vec<String>, Option<Rc<str>>) = (Vec::new(), None);
            loop {
                let page = room.page(after.as_deref(), Moment::default());
                prop_assert!(page.nicks.iter().map(|nick| nick.len()).sum::<usize>() <= PAGE_BYTES_MAX);
                listed.extend(page.nicks.iter().map(|nick| nick.to_string()));
                after = page.next.clone();
                if after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(listed, nicks.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn news_of_a_large_room_come_one_at_a_time_and_those_of_a_small_one_at_once() {
        let (mut room, mut programs) = (Room::new("lobby", &Ambient::machine()), Programs::default());
        let mut now = Moment::at(Duration::from_secs(1));
        let mut waits = Vec::new();
        for number in 0..1000 {
            let peer = Peer::of_nobody(number);
            room.enter(Seat::new(peer, format!("n{number}").into(), Framing::Lines));
            waits.extend(room.await_news(now));
        }
        assert_eq!(waits, [Duration::ZERO], "one timer for all of them, at the end of the turn");
        programs.0.clear();
        room.seats.iter_mut().for_each(|seat| seat.knows = u64::MAX); // whom they are told is not the question
        assert!(room.end_wait(now));
        room.post_news(&mut programs, 0, now, SlowReaders::Close);
        room.leave(3, now);
        assert_eq!(room.await_news(now), Some(NEWS_EVERY * 1000), "a tenth of a second for 1,000");
        assert_eq!(room.await_news(now), None, "a timer is set");
        room.leave(3, now);
        assert_eq!(room.await_news(now), None);
        now = now.after(NEWS_EVERY * 1000);
        assert!(room.end_wait(now));
    }

    #[test]
    fn who_comes_and_goes_within_a_turn_was_never_there() {
        let (mut room, mut programs) = (Room::new("lobby", &Ambient::machine()), Programs::default());
        let (alice, bob) = (Peer::of_nobody(1), Peer::of_nobody(2));
        room.enter(Seat::new(alice, "alice".into(), Framing::WebSocket));
        programs.0.insert(alice, (BTreeSet::from(["alice".to_owned()]), room.seq + 1));
        room.post_news(&mut programs, 0, Moment::default(), SlowReaders::Close);
        let seq = room.seq;
        let seat = room.enter(Seat::new(bob, "bob".into(), Framing::WebSocket));
        room.leave(seat, Moment::default());
        room.post_news(&mut programs, 0, Moment::default(), SlowReaders::Close);
        assert_eq!(
            (programs.0[&alice].1, room.seq),
            (seq + 1, seq),
            "alice was told nothing, and misses no number"
        );
    }

    /// Delivers `count` posts to one who takes `takes[n]` more before the n-th, and then everything.
    fn deliver(count: u64, takes: &[usize], policy: SlowReaders) -> (Vec<String>, u64) {
        let mut board = Board { room: 0, heard: Vec::new() };
        let peer = Peer::of_nobody(1);
        let mut seat = Seat::new(peer, "x".into(), Framing::Lines);
        let mut dropped = 0;
        for number in 0..count {
            board.room += takes.get(number as usize).copied().unwrap_or(0);
            seat.refill(&mut board);
            let text = number.to_string();
            let post = Rc::new(Post::new(&Event::Said { seq: number, at: 0, nick: "a", text: &text }));
            dropped += seat.deliver(&mut board, &post, policy);
        }
        board.room = usize::MAX;
        seat.refill(&mut board);
        (board.heard, dropped)
    }

    /// Reads what was heard as numbers: what is missing must be told, where it is missing.
    fn check(heard: &[String], count: u64, dropped: u64) {
        let (mut next, mut missed) = (0, 0);
        for line in heard {
            if let Some(number) = line.strip_prefix("a: ") {
                assert_eq!(number.trim().parse(), Ok(next), "{heard:?}");
                next += 1;
            } else {
                let gap: u64 = line.split(' ').nth(1).expect("a count").parse().expect("a number");
                next += gap;
                missed += gap;
            }
        }
        assert_eq!((next, missed), (count, dropped), "{heard:?}");
    }

    #[test]
    fn the_oldest_or_the_newest_are_dropped_and_the_gap_is_told_in_its_place() {
        let more = 10;
        let count = QUEUE_POSTS_MAX as u64 + more;
        let (heard, dropped) = deliver(count, &[], SlowReaders::DropOldest);
        assert_eq!(dropped, more);
        assert_eq!(heard[0], format!("* {more} messages were dropped: you read too slowly\n"));
        assert_eq!(heard[1], format!("a: {more}\n"));
        check(&heard, count, dropped);

        let (heard, dropped) = deliver(count, &[], SlowReaders::DropNewest);
        assert_eq!(heard[0], "a: 0\n");
        assert_eq!(heard[QUEUE_POSTS_MAX], format!("* {more} messages were dropped: you read too slowly\n"));
        check(&heard, count, dropped);

        let (heard, dropped) = deliver(count, &[], SlowReaders::Close);
        assert_eq!((heard.len() as u64, dropped), (count, 0), "that is for the outbox's limit to end");
    }

    proptest! {
        #[test]
        fn what_is_missing_is_told_where_it_is_missing(
            takes in prop::collection::vec(prop_oneof![4 => Just(0usize), 1 => 0usize..80], 0..1200),
            newest in any::<bool>(),
        ) {
            let policy = if newest { SlowReaders::DropNewest } else { SlowReaders::DropOldest };
            let (heard, dropped) = deliver(1000, &takes, policy);
            check(&heard, 1000, dropped);
        }
    }

    #[test]
    fn history_is_short() {
        let mut room = Room::new("lobby", &Ambient::machine());
        for number in 0..1000u64 {
            let text = "x".repeat(if number % 2 == 0 { 1 } else { 3000 });
            room.remember(Rc::new(Post::new(&Event::Said { seq: number, at: 0, nick: "a", text: &text })));
            assert!(room.history.len() <= HISTORY_POSTS_MAX && room.history_bytes <= HISTORY_BYTES_MAX);
        }
        assert_eq!(room.history_bytes, room.history.iter().map(|post| post.bytes()).sum::<usize>());
        assert!(!room.history.is_empty());
    }
}
