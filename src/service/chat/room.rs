//! A room: who is in it, what was said last, and what waits for those who read slowly.
//!
//! What a room is told is a [`Post`]: numbered, encoded once for each protocol, and put into every member's outbox; the
//! loop writes each outbox once in a turn, however many posts are in it. A member whose outbox is congested costs the
//! others nothing: posts wait in his queue, which holds references and not copies, and when that is full, one is dropped
//! for each that comes. Where something was dropped he is told how much, in its place.
//!
//! Invariant: what a member is told comes in the room's order, and what is missing is told where it is missing.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::names::Names;
use super::words::{Event, Trouble};
use super::{Broadcasts, SlowReaders};
use crate::protocol::{Encoded, Framing, Message};
use crate::reactor::{Moment, Peer};

/// The most posts that wait for one member.
pub(super) const QUEUE_POSTS_MAX: usize = 256;

/// What was said last: so many posts, of so many bytes together.
const HISTORY_POSTS_MAX: usize = 50;
const HISTORY_BYTES_MAX: usize = 32 * 1024;

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

    fn encoded(&self, framing: Framing) -> &Encoded {
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
    /// So many were dropped here.
    Gap(u64),
}

/// What waits for a member who does not read fast enough.
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
    /// In a box that hardly anybody has: seats are gone through for each post.
    queue: Option<Box<Queue>>,
}

impl Seat {
    pub(super) fn new(peer: Peer, nick: Rc<str>, framing: Framing) -> Seat {
        Seat { peer, nick, framing, queue: None }
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

/// See the module's text.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: String,
    pub(super) topic: String,
    /// Counts what the room was told.
    pub(super) seq: u64,
    pub(super) seats: Vec<Seat>,
    nicks: Names<Peer>,
    history: VecDeque<Rc<Post>>,
    history_bytes: usize,
    /// When the last one left.
    pub(super) empty_since: Moment,
}

impl Room {
    pub(super) fn new(name: &str) -> Room {
        Room {
            name: name.to_owned(),
            topic: String::new(),
            seq: 0,
            seats: Vec::new(),
            nicks: Names::default(),
            history: VecDeque::new(),
            history_bytes: 0,
            empty_since: Moment::default(),
        }
    }

    /// Whether it is more than a memory.
    pub(super) fn is_alive(&self) -> bool {
        !self.seats.is_empty() || self.name == super::LOBBY
    }

    /// Who is called that here.
    pub(super) fn named(&self, nick: &str) -> Option<Peer> {
        self.nicks.get(nick)
    }

    /// Whether somebody but `peer` has this name here, or one that looks like it.
    ///
    /// # Errors
    /// Which of both.
    pub(super) fn check_free(&self, nick: &str, peer: Peer) -> Result<(), Trouble> {
        if self.named(nick).is_some_and(|other| other != peer) {
            return Err(Trouble::NickTaken(nick.to_owned()));
        }
        match self.nicks.is_like_anothers(nick, Some(&peer)) {
            true => Err(Trouble::NickLikeAnother(nick.to_owned())),
            false => Ok(()),
        }
    }

    /// Seats him at the end; where that is.
    pub(super) fn enter(&mut self, seat: Seat) -> usize {
        self.nicks.insert(&seat.nick, seat.peer);
        self.seats.push(seat);
        self.seats.len() - 1
    }

    /// Frees the seat. The last one's member sits there now: he is returned, if it was not his own.
    pub(super) fn leave(&mut self, index: usize, now: Moment) -> Option<Peer> {
        let seat = self.seats.swap_remove(index);
        self.nicks.remove(&seat.nick);
        self.empty_since = now;
        self.seats.get(index).map(|moved| moved.peer)
    }

    pub(super) fn rename(&mut self, index: usize, nick: Rc<str>) {
        let seat = &mut self.seats[index];
        self.nicks.remove(&seat.nick);
        self.nicks.insert(&nick, seat.peer);
        seat.nick = nick;
    }

    /// The next number.
    pub(super) fn number(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Tells everybody but one; how many posts were dropped for that.
    pub(super) fn tell(
        &mut self,
        board: &mut impl Broadcasts,
        post: &Rc<Post>,
        policy: SlowReaders,
        but: Option<Peer>,
    ) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A board with one peer, who takes so many bytes before he is congested.
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
        let mut room = Room::new("lobby");
        for number in 0..1000u64 {
            let text = "x".repeat(if number % 2 == 0 { 1 } else { 3000 });
            room.remember(Rc::new(Post::new(&Event::Said { seq: number, at: 0, nick: "a", text: &text })));
            assert!(room.history.len() <= HISTORY_POSTS_MAX && room.history_bytes <= HISTORY_BYTES_MAX);
        }
        assert_eq!(room.history_bytes, room.history.iter().map(|post| post.bytes()).sum::<usize>());
        assert!(!room.history.is_empty());
    }
}
