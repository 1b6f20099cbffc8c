//! The crew: generator threads, each a reactor with its clients, and the director that gives them orders.
//!
//! The director (the caller of [`run`](super::run)) opens no socket and sends nothing. It waits for connections and for
//! the warm-up, sets the measured window a moment ahead, samples the machine during the run, and
//! adds up the threads' counts at the end. Threads read their orders from a few atomics, once
//! a turn, and are woken for a new phase. They send a tally every tenth of a second. No message waits for that.
//!
//! Invariant: a run ends in bounded time, whatever the server does, and leaves a report.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::Waker;
use mio::net::UdpSocket;
use mio::unix::SourceFd;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::Pid;

use super::account::{Account, Ledger};
use super::caller::{Caller, Clock};
use super::pacer::Pacer;
use super::plan::Plan;
use super::script::Script;
use super::timeline::Window;
use super::timeline::{SLICE_NS, Tally};
use super::witness;
use crate::endpoint::Endpoint;
use crate::reactor::{Limits, Reactor};

/// The phases of a thread, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Phase {
    Wait,
    Connect,
    Talk,
    Finish,
    Stop,
}

/// The orders, as the threads read them.
struct Orders {
    phase: AtomicU8,
    from_ns: AtomicU64,
    to_ns: AtomicU64,
    /// When the first message is due, even if a thread gets its CPU later.
    talk_ns: AtomicU64,
    /// Half of the connections send nothing.
    halved: AtomicBool,
    /// Connections that are open, of all threads.
    open: AtomicUsize,
}

impl Orders {
    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Acquire)
    }

    fn window(&self) -> Window {
        Window { from_ns: self.from_ns.load(Ordering::Relaxed), to_ns: self.to_ns.load(Ordering::Relaxed) }
    }
}

/// What a thread reports.
pub(super) enum News {
    /// It runs, under this thread ID.
    Ready(Option<u32>),
    /// A slice is over.
    Slice(Tally),
    /// The run cannot go on, for this reason.
    Fatal(String),
    /// It is done. This is its last report.
    Done(Box<Account>),
}

/// The threads of one run, as the director holds them.
pub(super) struct Crew {
    orders: Arc<Orders>,
    news: Receiver<News>,
    threads: Vec<JoinHandle<()>>,
    /// One for each thread's poll.
    wakers: Vec<Arc<Waker>>,
    clock: Clock,
    /// The kernel's IDs of the threads.
    pub(super) names: Vec<u32>,
    /// The last reports of the threads.
    pub(super) account: Account,
    pub(super) done: usize,
}

impl Crew {
    /// Starts the threads; they open nothing yet.
    pub(super) fn start(plan: &Arc<Plan>, script: &Arc<Script>) -> Result<Crew, String> {
        let orders = Arc::new(Orders {
            phase: AtomicU8::new(Phase::Wait as u8),
            from_ns: AtomicU64::new(u64::MAX),
            to_ns: AtomicU64::new(u64::MAX),
            talk_ns: AtomicU64::new(u64::MAX),
            halved: AtomicBool::new(false),
            open: AtomicUsize::new(0),
        });
        let (sender, news) = channel();
        let clock = Clock(Instant::now());
        let mut crew = Crew {
            orders,
            news,
            threads: Vec::new(),
            wakers: Vec::new(),
            clock,
            names: Vec::new(),
            account: Account::default(),
            done: 0,
        };
        for thread in 0..plan.threads {
            let worker = Worker::new(plan, script, &crew.orders, clock, sender.clone(), thread)?;
            crew.wakers.push(worker.reactor.waker());
            let handle = thread::Builder::new()
                .name(format!("load-{thread}"))
                .spawn(move || worker.work())
                .map_err(|error| format!("cannot start a generator thread: {error}"))?;
            crew.threads.push(handle);
        }
        for _ in 0..plan.threads {
            match crew.news.recv_timeout(Duration::from_secs(10)) {
                Ok(News::Ready(name)) => crew.names.extend(name),
                Ok(News::Fatal(problem)) => return Err(problem),
                _ => return Err("a generator thread did not start".into()),
            }
        }
        Ok(crew)
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    pub(super) fn open(&self) -> usize {
        self.orders.open.load(Ordering::Relaxed)
    }

    /// Wakes the threads, too: one with nothing to do sleeps up to a tenth of a second, and would begin to send that
    /// much after the window did.
    fn enter(&self, phase: Phase) {
        self.orders.phase.store(phase as u8, Ordering::Release);
        // The thread of a poll that can't be woken reads its orders at the end of the slice.
        self.wakers.iter().for_each(|waker| drop(waker.wake()));
    }

    /// Connections are opened.
    pub(super) fn connect(&self) {
        self.enter(Phase::Connect);
    }

    /// Messages are sent.
    pub(super) fn talk(&self) {
        self.orders.talk_ns.store(self.clock.now_ns(), Ordering::Relaxed);
        self.enter(Phase::Talk);
    }

    /// Sets the window: what is due between these moments is measured.
    pub(super) fn measure(&self, window: Window) {
        self.orders.to_ns.store(window.to_ns, Ordering::Relaxed);
        self.orders.from_ns.store(window.from_ns, Ordering::Relaxed);
    }

    /// Half of the connections send nothing, for an experiment.
    pub(super) fn halve(&self) {
        self.orders.halved.store(true, Ordering::Relaxed);
    }

    /// Nothing new is sent. The threads wait for replies, for at most the plan's timeout.
    pub(super) fn finish(&self) {
        self.enter(Phase::Finish);
    }

    /// Everything ends now.
    pub(super) fn stop(&self) {
        self.enter(Phase::Stop);
    }

    /// Returns the next report of a thread. Waits for at most `timeout`.
    pub(super) fn receive(&mut self, timeout: Duration) -> Option<News> {
        match self.news.recv_timeout(timeout) {
            Ok(News::Done(account)) => {
                self.account.merge(&account);
                self.done += 1;
                Some(News::Done(account))
            }
            Ok(news) => Some(news),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Whether every thread has sent its last report.
    pub(super) fn is_done(&self) -> bool {
        self.done == self.threads.len()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // one that panicked has said so already
        }
    }
}

/// One generator thread.
struct Worker {
    reactor: Reactor<Caller>,
    plan: Arc<Plan>,
    orders: Arc<Orders>,
    clock: Clock,
    news: Sender<News>,
    thread: usize,
    pacer: Option<Pacer>,
    alarm: Option<TimerFd>,
    phase: u8,
    /// How many lines this thread has, and how many open ones it has added to the sum of all threads.
    lines: usize,
    open_told: usize,
    /// The reactor's count of bytes when the window began.
    bytes_before: Option<(u64, u64)>,
    finish_by_ns: u64,
    owed_until_ns: u64,
}

/// The limits of a generator. They are wide, because the server is what is measured.
pub(super) fn limits(connections_max: usize, handshake_within: Duration) -> Limits {
    Limits {
        connections_max,
        inbox_bytes_max: Limits::BYTES_MAX,
        outbox_bytes_max: Limits::BYTES_MAX,
        // A reply that waits for our own outbox would be measured as the server's delay.
        outbox_bytes_high: Limits::BYTES_MAX,
        handshake_within,
        idle_after: Duration::MAX,
        stall_after: Duration::MAX,
        ..Limits::default()
    }
}

/// How long after its end a run still sends what was due within it. So messages after a hiccup at the end are late, and not lost.
/// The backlog of an overrun server would take for ever.
const OWED_FOR_NS: u64 = 1_000_000_000;

/// How long before a message is due the thread stops sleeping and watches the clock: about what the kernel
/// takes to wake it. With `--rate 20000` on 100 connections the median response was 69 to 89 us so, and 154 us
/// with the timer alone; the price is a CPU that looks busy (see `verdict`, which knows).
const WATCH_NS: u64 = 60_000;

impl Worker {
    fn new(
        plan: &Arc<Plan>,
        script: &Arc<Script>,
        orders: &Arc<Orders>,
        clock: Clock,
        news: Sender<News>,
        thread: usize,
    ) -> Result<Worker, String> {
        let share = |all: usize| (thread + 1) * all / plan.threads - thread * all / plan.threads;
        let (talkers, idle) = (share(plan.connections), share(plan.idle));
        let before = thread * plan.connections / plan.threads + thread * plan.idle / plan.threads;
        let ledger = Ledger {
            account: Account::default(),
            tally: Tally::default(),
            window: Window { from_ns: u64::MAX, to_ns: u64::MAX },
            two_clocks: plan.rate.is_some() || plan.churn,
        };
        let caller =
            Caller::new(Arc::clone(plan), Arc::clone(script), clock, ledger, (talkers, idle, before as u32));
        let limits = limits(talkers + idle, plan.timeout);
        let broken = |error: io::Error| format!("cannot set up a generator thread: {error}");
        let mut reactor = Reactor::new(caller, limits).map_err(broken)?;
        if let Endpoint::Udp(target) = plan.target {
            let any = match target.is_ipv4() {
                true => "0.0.0.0:0",
                false => "[::]:0",
            };
            for _ in 0..talkers + idle {
                let socket = UdpSocket::bind(any.parse().expect("an address")).map_err(broken)?;
                reactor.listen_datagrams(socket).map_err(broken)?;
            }
        }
        let mut alarm = None;
        if plan.rate.is_some() {
            let timer =
                TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
                    .map_err(|error| broken(error.into()))?;
            reactor.watch_signals(&mut SourceFd(&timer.as_fd().as_raw_fd())).map_err(broken)?;
            alarm = Some(timer);
        }
        Ok(Worker {
            reactor,
            plan: Arc::clone(plan),
            orders: Arc::clone(orders),
            clock,
            news,
            thread,
            pacer: None,
            alarm,
            phase: Phase::Wait as u8,
            lines: talkers + idle,
            open_told: 0,
            bytes_before: None,
            finish_by_ns: u64::MAX,
            owed_until_ns: u64::MAX,
        })
    }

    fn work(mut self) {
        if let Some(cpu) = self.plan.pin {
            let mut cpus = CpuSet::new();
            let bound = cpus.set(cpu + self.thread).and_then(|()| sched_setaffinity(Pid::from_raw(0), &cpus));
            if let Err(error) = bound {
                let problem = format!("--pin {cpu}: cannot run on that CPU: {error}");
                let _ = self.news.send(News::Fatal(problem));
                return;
            }
        }
        let _ = self.news.send(News::Ready(witness::this_thread()));
        let mut told_of_fatal = false;
        let mut slice_end_ns = SLICE_NS;
        loop {
            let now_ns = self.clock.now_ns();
            self.follow_orders(now_ns);
            if self.phase == Phase::Stop as u8 || self.has_finished(now_ns) {
                break;
            }
            if now_ns >= slice_end_ns {
                slice_end_ns = self.close_slice(now_ns);
            }
            let busy_until_ns = self.send_what_is_due(now_ns);
            if let Some(problem) = &self.reactor.handler().fatal
                && !told_of_fatal
            {
                told_of_fatal = true;
                let _ = self.news.send(News::Fatal(problem.clone()));
            }
            let wake_ns = slice_end_ns.min(self.next_dial_ns(now_ns));
            match self.turn(busy_until_ns, wake_ns) {
                Ok(worked_ns) => {
                    let ledger = &mut self.reactor.handler().ledger;
                    if ledger.window.holds(now_ns) {
                        ledger.account.worked_ns += worked_ns + (busy_until_ns - now_ns);
                        ledger.account.lasted_ns += self.clock.now_ns() - now_ns;
                    }
                }
                Err(error) => {
                    let _ = self.news.send(News::Fatal(format!("the poll failed: {error}")));
                    break;
                }
            }
        }
        // If the run was cut short, messages in flight are no failures. Otherwise their replies had their time.
        let cut_short = self.phase == Phase::Stop as u8;
        self.reactor.handler().end(cut_short);
        // Closes gracefully, as far as that needs no waiting: over TLS, a server takes anything else for an attack.
        let peers: Vec<_> = self.reactor.board().peers().collect();
        peers.into_iter().for_each(|peer| self.reactor.board().finish(peer));
        self.reactor.write_all_now();
        self.reactor.cut();
        let now_ns = self.clock.now_ns();
        self.close_slice(now_ns);
        let account = std::mem::take(&mut self.reactor.handler().ledger.account);
        let _ = self.news.send(News::Done(Box::new(account)));
    }

    /// Reads the director's orders, and carries them out.
    fn follow_orders(&mut self, now_ns: u64) {
        let window = self.orders.window();
        self.reactor.handler().ledger.window = window;
        self.note_bytes(now_ns);
        if self.orders.halved.load(Ordering::Relaxed) && self.phase < Phase::Finish as u8 {
            let talkers = self.plan.connections / self.plan.threads;
            self.reactor.handler().silent_from = talkers / 2;
        }
        let phase = self.orders.phase();
        let owes = phase == Phase::Finish as u8
            && self.pacer.as_mut().is_some_and(|pacer| pacer.catches_up(window.to_ns, now_ns));
        if phase != self.phase && !owes {
            self.phase = phase;
            if phase == Phase::Talk as u8 {
                self.reactor.handler().talking = true;
                match self.plan.rate {
                    Some(rate) => {
                        let (thread, threads) = (self.thread, self.plan.threads);
                        let start_ns = self.orders.talk_ns.load(Ordering::Relaxed);
                        self.pacer = Some(Pacer::new(rate, thread, threads, start_ns, self.plan.seed));
                    }
                    None => self.for_all(Caller::talk_all),
                }
            }
            if phase == Phase::Finish as u8 {
                // What was due on the silent lines is still sent.
                self.reactor.handler().silent_from = usize::MAX;
                if self.plan.rate.is_some() {
                    self.for_all(Caller::talk_all);
                }
                self.reactor.handler().fall_silent();
                self.pacer = None;
                let timeout_ns = u64::try_from(self.plan.timeout.as_nanos()).unwrap_or(u64::MAX);
                self.finish_by_ns = now_ns.saturating_add(timeout_ns);
                self.owed_until_ns = now_ns + OWED_FOR_NS;
            }
        }
        if let Some(pacer) = &mut self.pacer
            && window.from_ns != u64::MAX
        {
            pacer.ramp(window.from_ns, window.to_ns);
        }
    }

    /// The handler and the board at once, outside of a turn.
    fn for_all(&mut self, act: impl FnOnce(&mut Caller, &mut crate::reactor::BoardOf<Caller>)) {
        let (caller, board) = self.reactor.handler_and_board();
        act(caller, board);
    }

    fn has_finished(&mut self, now_ns: u64) -> bool {
        if now_ns >= self.owed_until_ns {
            self.reactor.handler().drop_owed();
        }
        self.phase == Phase::Finish as u8
            && (now_ns >= self.finish_by_ns || !self.reactor.handler().unfinished())
    }

    /// Opens connections and sends messages, as far as they are due. Returns when that was done.
    fn send_what_is_due(&mut self, now_ns: u64) -> u64 {
        if self.phase < Phase::Connect as u8 || self.phase > Phase::Talk as u8 {
            return now_ns;
        }
        let allowed = self.allowed(now_ns);
        let (caller, board) = self.reactor.handler_and_board();
        caller.dial(board, now_ns, allowed);
        if caller.open() != self.open_told {
            self.orders.open.fetch_add(caller.open(), Ordering::Relaxed);
            self.orders.open.fetch_sub(self.open_told, Ordering::Relaxed);
            self.open_told = caller.open();
        }
        let Some(pacer) = &mut self.pacer else {
            self.reactor.write_all_now();
            return now_ns;
        };
        let mut sent_ns = now_ns;
        while pacer.next_ns() <= sent_ns {
            let (caller, board) = self.reactor.handler_and_board();
            caller.due(board, pacer.take(), sent_ns);
            self.reactor.write_all_now();
            sent_ns = self.clock.now_ns();
            // Replies must not wait until all due messages are sent.
            if sent_ns - now_ns > 1_000_000 {
                break;
            }
        }
        self.reactor.write_all_now();
        sent_ns
    }

    /// How many lines may be open by now.
    fn allowed(&self, now_ns: u64) -> usize {
        match u64::try_from(self.plan.ramp.as_nanos()).unwrap_or(u64::MAX) {
            0 => self.lines,
            ramp_ns => {
                let part = now_ns as f64 / ramp_ns as f64;
                ((self.lines as f64 * part).ceil() as usize).min(self.lines)
            }
        }
    }

    fn next_dial_ns(&mut self, now_ns: u64) -> u64 {
        if self.phase != Phase::Connect as u8 && self.phase != Phase::Talk as u8 {
            return u64::MAX;
        }
        if self.allowed(now_ns) < self.lines {
            return now_ns + 1_000_000;
        }
        self.reactor.handler().next_dial_ns().unwrap_or(u64::MAX).max(now_ns + 1_000_000)
    }

    /// Sleeps until something happens, a message is due, or `wake_ns`, and serves what happened. Returns
    /// how long it worked.
    fn turn(&mut self, now_ns: u64, wake_ns: u64) -> io::Result<u64> {
        let due_ns = self.pacer.as_ref().map_or(u64::MAX, Pacer::next_ns);
        // The poll counts milliseconds, and rounds up: for a message that is due, an alarm is set.
        let mut sleep = Duration::from_nanos(wake_ns.saturating_sub(now_ns));
        if due_ns < wake_ns {
            match due_ns.saturating_sub(now_ns).checked_sub(WATCH_NS) {
                Some(gap_ns) if gap_ns > 0 => {
                    if let Some(alarm) = &self.alarm {
                        let gap = TimeSpec::from_duration(Duration::from_nanos(gap_ns));
                        alarm.set(Expiration::OneShot(gap), TimerSetTimeFlags::empty())?;
                    }
                }
                _ => sleep = Duration::ZERO,
            }
        }
        let turn = self.reactor.turn(Some(sleep))?;
        // A look that found nothing is waiting, too.
        Ok(if turn.events == 0 { 0 } else { turn.worked.as_nanos() as u64 })
    }

    /// Reports the slice that is over, and returns when the next one ends.
    fn close_slice(&mut self, now_ns: u64) -> u64 {
        let (caller, board) = self.reactor.handler_and_board();
        caller.give_up(board, now_ns);
        let next = now_ns / SLICE_NS;
        let tally = std::mem::replace(&mut caller.ledger.tally, Tally { index: next, ..Tally::default() });
        if !tally.is_empty() {
            let _ = self.news.send(News::Slice(tally));
        }
        (next + 1) * SLICE_NS
    }

    /// Bytes are counted by the reactor; what passes within the window is the difference.
    fn note_bytes(&mut self, now_ns: u64) {
        let (caller, board) = self.reactor.handler_and_board();
        if !caller.ledger.window.holds(now_ns) {
            return;
        }
        let now = (board.counters().bytes_in, board.counters().bytes_out);
        let before = *self.bytes_before.get_or_insert(now);
        caller.ledger.account.bytes_in = now.0 - before.0;
        caller.ledger.account.bytes_out = now.1 - before.1;
    }
}
