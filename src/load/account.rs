//! What one generator thread has counted. Threads share nothing while they run; their accounts are added
//! up when they are done.
//!
//! Figures and percentiles are of messages that were due in the measured window. Failures are counted twice: those of
//! the whole run, because a wrong reply is no less wrong during the warm-up, and those of the window, because a share
//! of the messages is a share of those that were due in it.

use std::collections::BTreeMap;

use super::dialogue::{Flight, Missed, Received};
use super::histogram::Recorder;
use super::report::Failures;
use super::timeline::{Tally, Window};

/// See the module's text.
#[derive(Default)]
pub struct Account {
    /// Messages that were due in the window.
    pub offered: u64,
    /// Those of them that got the right reply, whenever it came.
    pub replies: u64,
    /// Right replies that came in the window.
    pub arrived: u64,
    /// Messages of the window that never get one: infinite.
    pub infinite: u64,
    /// Of the whole run.
    pub failures: Failures,
    /// Of the window: of messages that were due in it. What belongs to no message counts by the time it happened.
    pub failures_in_window: Failures,
    /// Answers over HTTP by their status, of the whole run.
    pub statuses: BTreeMap<u16, u64>,
    /// Over UDP: right replies that came behind one to a later message, in the whole run. No failure.
    pub out_of_order: u64,
    /// Over HTTP: requests that were sent again because the server ended the connection without a word, in the whole
    /// run, and such connections. No failure.
    pub retried: u64,
    /// See `retried`.
    pub ended_silently: u64,
    /// Connections established, in the whole run.
    pub connected: u64,
    /// Messages sent, in the whole run.
    pub sent: u64,
    /// Replies of the whole run, right or wrong.
    pub received: u64,
    /// From due to the reply's last byte. Empty where that is the same as `service`.
    pub response: Recorder,
    /// From sent to the reply's last byte.
    pub service: Recorder,
    /// From due to sent.
    pub send_lag: Recorder,
    /// From connect(2) to the established connection, in the whole run.
    pub connect: Recorder,
    /// From there to the end of the TLS handshake, in the whole run; and how many of them were resumed.
    pub handshake: Recorder,
    /// See `handshake`.
    pub resumed: u64,
    /// Bytes received in the window.
    pub bytes_in: u64,
    /// Bytes sent in the window.
    pub bytes_out: u64,
    /// How long the loop worked within the window, and how long it was there.
    pub worked_ns: u64,
    /// See `worked_ns`.
    pub lasted_ns: u64,
}

impl Account {
    /// Everything that `other` counted, too.
    pub fn merge(&mut self, other: &Account) {
        self.offered += other.offered;
        self.replies += other.replies;
        self.arrived += other.arrived;
        self.infinite += other.infinite;
        self.connected += other.connected;
        self.out_of_order += other.out_of_order;
        self.retried += other.retried;
        self.ended_silently += other.ended_silently;
        self.sent += other.sent;
        self.received += other.received;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.worked_ns += other.worked_ns;
        self.lasted_ns += other.lasted_ns;
        self.response.merge(&other.response);
        self.service.merge(&other.service);
        self.send_lag.merge(&other.send_lag);
        self.connect.merge(&other.connect);
        self.handshake.merge(&other.handshake);
        self.resumed += other.resumed;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.failures.merge(&other.failures);
        self.failures_in_window.merge(&other.failures_in_window);
    }

    /// Counts `count` failures of one kind. `at_ns` is when their message was due, or when they happened where they
    /// belong to none.
    pub fn fail(&mut self, kind: fn(&mut Failures) -> &mut u64, window: Window, at_ns: u64, count: u64) {
        *kind(&mut self.failures) += count;
        if window.holds(at_ns) {
            *kind(&mut self.failures_in_window) += count;
        }
    }
}

/// The account, the slice that is going on, and what they need to know of the run.
pub struct Ledger {
    /// See [`Account`].
    pub account: Account,
    /// The slice that is going on.
    pub tally: Tally,
    /// What is measured.
    pub window: Window,
    /// Messages are due at other times than they are sent.
    pub two_clocks: bool,
}

impl Ledger {
    /// A message was sent.
    #[inline]
    pub fn sent(&mut self, due_ns: u64) {
        self.account.sent += 1;
        self.tally.offered += 1;
        if self.window.holds(due_ns) {
            self.account.offered += 1;
        }
    }

    /// So late was one sent, by our own fault.
    #[inline]
    pub fn lag(&mut self, due_ns: u64, lag_ns: u64) {
        if self.window.holds(due_ns) {
            self.account.send_lag.record(lag_ns);
        }
    }

    /// Something came.
    #[inline]
    pub fn note(&mut self, received: Received, now_ns: u64) {
        match received {
            Received::Answer(flight) => self.answer(flight, now_ns, 1),
            Received::Late(flight) => {
                self.fail(|it| &mut it.reordered, flight.due_ns);
                self.answer(flight, now_ns, 1);
            }
            Received::Status(flight, status) => {
                self.account.received += 1;
                *self.account.statuses.entry(status).or_default() += 1;
                self.never_answered(|it| &mut it.status, flight.due_ns);
            }
            Received::Corrupted(flight) => {
                self.account.received += 1;
                match flight {
                    Some(flight) => self.never_answered(|it| &mut it.corrupted, flight.due_ns),
                    None => self.fail(|it| &mut it.corrupted, now_ns),
                }
            }
            Received::Duplicate => {
                self.account.received += 1;
                self.fail(|it| &mut it.duplicated, now_ns);
            }
        }
    }

    /// Counts `count` right replies, to messages that were due and sent at the same time.
    #[inline]
    pub fn answer(&mut self, flight: Flight, now_ns: u64, count: u64) {
        let response_ns = now_ns.saturating_sub(flight.due_ns);
        self.tally.record(response_ns, count);
        self.account.received += count;
        if self.window.holds(flight.due_ns) {
            self.account.replies += count;
            self.account.service.record_several(now_ns.saturating_sub(flight.sent_ns), count);
            if self.two_clocks {
                self.account.response.record_several(response_ns, count);
            }
        }
        if self.window.holds(now_ns) {
            self.account.arrived += count;
        }
    }

    /// Something did not come.
    pub fn miss(&mut self, missed: Missed) {
        match missed {
            Missed::Lost(flight) => self.lost(flight.due_ns),
            Missed::TimedOut(flight) => self.never_answered(|it| &mut it.timed_out, flight.due_ns),
            Missed::Short(flight) => self.never_answered(|it| &mut it.short, flight.due_ns),
        }
    }

    /// A message that was due could not be sent at all.
    pub fn unsent(&mut self, due_ns: u64) {
        self.tally.offered += 1;
        if self.window.holds(due_ns) {
            self.account.offered += 1;
        }
        self.never_answered(|it| &mut it.unsent, due_ns);
    }

    /// A message that was said, and could not be said again.
    pub fn lost(&mut self, due_ns: u64) {
        self.never_answered(|it| &mut it.lost, due_ns);
    }

    /// Counts a failure that no message is lost with; see [`Account::fail`].
    pub fn fail(&mut self, kind: fn(&mut Failures) -> &mut u64, at_ns: u64) {
        self.tally.failures += 1;
        self.account.fail(kind, self.window, at_ns, 1);
    }

    /// Counts a message that never gets its reply: in the percentiles it is infinite.
    pub fn never_answered(&mut self, kind: fn(&mut Failures) -> &mut u64, due_ns: u64) {
        self.fail(kind, due_ns);
        if self.window.holds(due_ns) {
            self.account.infinite += 1;
        }
    }
}
