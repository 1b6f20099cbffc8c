//! Watches the generator, the server and the kernel during a run. The verdict uses what it saw: what limited the rate?
//!
//! It reads what the kernel counts anyway, and needs no agent, no root and no tracing. What it can't see (a server on another
//! machine or of another user, a system without /proc) is `None` or empty, and the run goes on. It only reads about other
//! processes, and changes none.
//!
//! The *server* is all processes that belong to it: those that hold the listening socket, or the one that an option names,
//! and all their children. So forked workers are added up, and so is their memory, in which a shared page counts once for each
//! process. The name and the process ID are those of the process with the busiest thread, because that thread limits a server
//! that can't use a second core.
//!
//! Invariant: a tick looks at a bounded number of threads and processes, however many there are. What was seen of a process
//! before it ended is kept.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::time::ClockId;
use nix::unistd::Pid;

use super::listening;
use super::procfs::{self, Usage};
use super::report::{GeneratorFigures, KernelFigures, Machine, ServerFigures};
use crate::endpoint::Endpoint;

/// Threads of one process that are read in one tick: 10 µs each. With more of them they take turns, the
/// busiest one aside.
const THREADS_PER_TICK: usize = 16;
/// Threads of one process that are known at all. Beyond that there is only the process's sum, which the
/// kernel adds up itself.
const THREADS_MAX: usize = 1024;
/// Processes of one server.
const PROCESSES_MAX: usize = 64;
/// Processes that are looked at in one tick. With more of them they take turns.
const PROCESSES_PER_TICK: usize = 4;
/// Looking for new processes, and for threads among many, takes longer. It is done once in this number of ticks.
const LOOK_AROUND_EVERY: u64 = 10;
/// Samples that are kept: an hour's.
const SAMPLES_MAX: usize = 36_000;

/// Where the server's process is known from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerSource {
    /// It is not known, and the witness does not look for it.
    None,
    /// `--server-pid`.
    Pid(u32),
    /// `--spawn`: the process that was started; the server may be a child of it.
    Spawned(u32),
    /// The process that listens at the target's address, if that is an address of this machine.
    #[default]
    Find,
}

/// What the witness found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Testimony {
    /// The generator's figures. `busy` and `ceiling_per_s` are not filled in: the loop knows them.
    pub generator: GeneratorFigures,
    /// The server's, if its process is known.
    pub server: Option<ServerFigures>,
    /// The kernel's.
    pub kernel: KernelFigures,
}

/// With this many bytes on it, the path is a queue. (A reply that is awaited, or a confirmation that the kernel delays, is less.)
const MUCH_ON_THE_PATH: u64 = 256 * 1024;
/// Fewer samples of the path say nothing.
const LOOKS_FEW: u32 = 5;
/// The kernel lists all sockets of the machine for a sample of the path, and that takes time from what is measured. So no sample
/// is taken for this many times as long as the last one took.
const LOOK_PAUSE: u32 = 50;

/// The number of the calling thread, for [`Witness::new`].
pub fn this_thread() -> Option<u32> {
    fs::read_link("/proc/thread-self").ok()?.file_name()?.to_str()?.parse().ok()
}

/// Where we run.
pub fn machine() -> Machine {
    let kernel = |name: &str| procfs::read_small(&format!("/proc/sys/kernel/{name}"));
    let system = match (kernel("ostype"), kernel("osrelease")) {
        (Some(name), Some(release)) => format!("{} {}", name.trim(), release.trim()),
        _ => std::env::consts::OS.to_owned(),
    };
    let cpuinfo = procfs::read_long("/proc/cpuinfo").unwrap_or_default();
    // ARM has no model name; the architecture has to do.
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cpu = model.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned();
    let cpus = std::thread::available_parallelism().map_or(0, |it| it.get() as u32);
    Machine { system, cpu, cpus }
}

/// Watches one run: [`new`](Witness::new) before it, [`begin`](Witness::begin) when the warm-up is over,
/// [`sample`](Witness::sample) every 100 ms from first to last, [`finish`](Witness::finish) while the
/// generator's threads are still there.
#[derive(Debug)]
pub struct Witness {
    /// Times are from here on.
    created: Instant,
    /// Figures count from here on.
    begun_at: Duration,
    generator: Crowd,
    /// The busiest generator thread's CPU in each tick.
    samples: Vec<f64>,
    server: Option<Server>,
    /// Connections are made before the measurement begins, and that is when a backlog overflows: what
    /// listeners drop counts from here on, all else from the beginning.
    kernel_at_creation: KernelCounters,
    kernel_at_begin: KernelCounters,
    /// The address whose connections are looked at, and when that is due again. Only TCP's are.
    path_to: Option<SocketAddr>,
    look_at: Duration,
    /// Samples of it, and those among them that found much on the path.
    looks: u32,
    looks_with_much: u32,
    /// See [`Witness::rest`].
    rest_began_at: Option<Duration>,
    server_at_rest: Option<f64>,
}

impl Witness {
    /// Looks for the server's process and at its memory before the run. `generator_threads` are those that
    /// make the load, by [`this_thread`]; the calling thread is neither the generator's nor the server's,
    /// unless it is one of them.
    ///
    /// A process that an option names and that does not exist is the user's error, in one line. One that was not found is
    /// no error.
    pub fn new(
        target: &Endpoint,
        source: ServerSource,
        generator_threads: Vec<u32>,
    ) -> Result<Witness, String> {
        let us = std::process::id();
        let (pids, known_by) = match source {
            ServerSource::None => (Vec::new(), ""),
            ServerSource::Pid(pid) => (vec![pid], "--server-pid"),
            ServerSource::Spawned(pid) => (vec![pid], "--spawn"),
            ServerSource::Find => (listening::holders(target), "it listens there"),
        };
        let mut not_the_servers = generator_threads.clone();
        not_the_servers.extend(this_thread());
        let roots: Vec<Process> =
            pids.iter().filter_map(|pid| Process::look_up(*pid, &not_the_servers)).collect();
        // Without a /proc nobody can be looked up, and that is not the user's error.
        let proc_is_there = fs::exists("/proc/self/status").unwrap_or(false);
        if roots.is_empty() && proc_is_there {
            match source {
                ServerSource::Pid(pid) => {
                    return Err(format!("--server-pid {pid}: there is no such process"));
                }
                ServerSource::Spawned(pid) => {
                    return Err(format!("--spawn: the server (process {pid}) ended before the run began"));
                }
                ServerSource::Find | ServerSource::None => {}
            }
        }
        let mut witness = Witness {
            created: Instant::now(),
            begun_at: Duration::ZERO,
            generator: Crowd::of(us, generator_threads),
            samples: Vec::new(),
            server: (!roots.is_empty()).then(|| Server::new(roots, known_by, not_the_servers)),
            kernel_at_creation: KernelCounters::read(),
            kernel_at_begin: KernelCounters::default(),
            path_to: match target {
                Endpoint::Tcp(address, _) | Endpoint::Tls(address, ..) => Some(*address),
                Endpoint::Unix(..) | Endpoint::Udp(_) => None,
            },
            look_at: Duration::ZERO,
            looks: 0,
            looks_with_much: 0,
            rest_began_at: None,
            server_at_rest: None,
        };
        // CPU time used before now does not belong to this run.
        witness.begin();
        Ok(witness)
    }

    /// The measurement begins: figures count from here, except the server's memory and what listeners
    /// dropped, which count from [`new`](Witness::new) on.
    pub fn begin(&mut self) {
        let now = self.created.elapsed();
        self.begun_at = now;
        self.generator.read_all(now);
        self.generator.forget();
        self.samples.clear();
        (self.looks, self.looks_with_much) = (0, 0);
        if let Some(server) = &mut self.server {
            server.begin(now);
        }
        self.kernel_at_begin = KernelCounters::read();
    }

    /// Whether the server's process was found.
    pub fn knows_the_server(&self) -> bool {
        self.server.is_some()
    }

    /// Call it twice, some time apart, while the server has nothing to do: all connections are open, and nothing was sent yet. The CPU
    /// time of the busiest thread in between is no work.
    pub fn rest(&mut self) {
        let now = self.created.elapsed();
        let Some(server) = &mut self.server else { return };
        match self.rest_began_at.take() {
            None => {
                self.rest_began_at = Some(now);
                server.begin(now);
            }
            Some(began_at) => {
                server.look_at_all(now);
                let busiest = server.processes.iter().map(|it| busiest_of(it).total.run_ns).max();
                self.server_at_rest = busiest.map(|run_ns| part(run_ns, (now, began_at)));
            }
        }
    }

    /// One tick: to be called every 100 ms.
    pub fn sample(&mut self) {
        let now = self.created.elapsed();
        let highest = self.generator.tick(now);
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(highest);
        }
        if let Some(target) = self.path_to.filter(|_| now >= self.look_at) {
            let began = Instant::now();
            let queued = listening::queued(target);
            self.looks += 1;
            self.looks_with_much += u32::from(lies_on_the_path(queued));
            self.look_at = now + began.elapsed() * LOOK_PAUSE;
        }
        if let Some(server) = &mut self.server {
            server.tick(now);
        }
    }

    /// The run is over. `replies` are the server's, `messages` those that were sent or received by us,
    /// `connections` those that were open at the peak: what the figures per one are counted by.
    pub fn finish(mut self, connections: u32, replies: u64, messages: u64) -> Testimony {
        let now = self.created.elapsed();
        self.generator.read_all(now);
        let status = procfs::read_small("/proc/self/status").and_then(|it| procfs::status(&it));
        let (cpu, run_queue_wait) = self.generator.busiest().map_or((0.0, 0.0), |(_, busiest)| {
            let seconds = (self.generator.seen_at, self.begun_at);
            (part(busiest.total.run_ns, seconds), part(busiest.total.wait_ns, seconds))
        });
        let generator = GeneratorFigures {
            cpu,
            run_queue_wait,
            cpu_ns_per_message: per(self.generator.run_ns(), messages).unwrap_or(0.0),
            cpus_allowed: self.generator.cpus_allowed(),
            rss_bytes: status.map_or(0, |it| it.rss_bytes),
            cpu_samples: self.samples,
            ..Default::default()
        };
        let counters = KernelCounters::read();
        let since_creation = counters.since(&self.kernel_at_creation);
        let kernel = KernelFigures {
            listen_overflows: since_creation.listen_overflows,
            listen_drops: since_creation.listen_drops,
            queued_share: self
                .path_to
                .filter(|_| self.looks >= LOOKS_FEW)
                .map(|_| f64::from(self.looks_with_much) / f64::from(self.looks)),
            ..counters.since(&self.kernel_at_begin)
        };
        let at_rest = self.server_at_rest;
        let server = self.server.map(|server| ServerFigures {
            cpu_at_rest: at_rest,
            ..server.finish(now, self.begun_at, connections, replies)
        });
        Testimony { generator, server, kernel }
    }
}

/// Whether more is on its way than a path without a queue has. Two signs, because small messages never add up to much:
/// many bytes; or replies on a third of the connections, each of which we would have confirmed with our next message.
/// Bytes that have arrived and were not read are not on the path: then one end reads slowly.
fn lies_on_the_path(it: listening::Queued) -> bool {
    let much = it.on_the_path >= MUCH_ON_THE_PATH && it.unread <= it.on_the_path / 4;
    let replies = it.replies > 0 && 3 * it.servers_replying >= it.servers && it.unread <= it.replies / 4;
    much || replies
}

/// A part of the time from `begin` to `end`: from 0 to 1. The kernel adds up a thread's time when it is
/// interrupted, so that a short window may hold a little more than it is long.
fn part(ns: u64, (end, begin): (Duration, Duration)) -> f64 {
    cores(ns, (end, begin)).min(1.0)
}

/// The same of several threads: from 0 on.
fn cores(ns: u64, (end, begin): (Duration, Duration)) -> f64 {
    match end.saturating_sub(begin).as_nanos() {
        0 => 0.0,
        window_ns => ns as f64 / window_ns as f64,
    }
}

fn per(ns: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| ns as f64 / count as f64)
}

/// One thread: what it used since the figures began.
#[derive(Debug, Clone, Default)]
struct Thread {
    /// When it was last read, and what that said.
    read_at: Duration,
    last: Usage,
    /// Since the beginning.
    total: Usage,
}

impl Thread {
    /// Takes a reading; gives the part of a CPU that the thread had since the one before.
    fn take(&mut self, now: Duration, reading: Usage) -> f64 {
        // A time that ran backwards belongs to another thread, which got the same number.
        let since = |now: u64, last: u64| if now >= last { now - last } else { now };
        let ran = since(reading.run_ns, self.last.run_ns);
        self.total.run_ns = self.total.run_ns.saturating_add(ran);
        self.total.wait_ns = self.total.wait_ns.saturating_add(since(reading.wait_ns, self.last.wait_ns));
        let cpu = part(ran, (now, self.read_at));
        self.last = reading;
        self.read_at = now;
        cpu
    }
}

/// Some threads of one process.
#[derive(Debug, Default)]
struct Crowd {
    pid: u32,
    threads: BTreeMap<u32, Thread>,
    /// When one of them was last seen, and when all were last looked for.
    seen_at: Duration,
    listed_at: Duration,
    /// The thread that was read last, where they take turns.
    turn: u32,
    /// The sum of those that have ended, and the busiest of them.
    ended_run_ns: u64,
    ended_busiest: Option<(u32, Thread)>,
    /// Which parent each process has, once that was read.
    names: BTreeMap<u32, String>,
}

impl Crowd {
    fn of(pid: u32, tids: Vec<u32>) -> Crowd {
        let threads = tids.into_iter().take(THREADS_MAX).map(|tid| (tid, Thread::default())).collect();
        Crowd { pid, threads, ..Crowd::default() }
    }

    /// What came before doesn't count.
    fn forget(&mut self) {
        self.threads.values_mut().for_each(|it| it.total = Usage::default());
        self.ended_run_ns = 0;
        self.ended_busiest = None;
    }

    /// Reads the threads whose turn it is; gives the highest part of a CPU among them.
    fn tick(&mut self, now: Duration) -> f64 {
        let busiest = self.busiest().map(|(tid, _)| tid);
        let after = self.threads.range(self.turn.saturating_add(1)..).map(|(tid, _)| *tid);
        let around = self.threads.range(..=self.turn).map(|(tid, _)| *tid);
        let on_turn = THREADS_PER_TICK - usize::from(busiest.is_some());
        let mut tids: Vec<u32> =
            after.chain(around).filter(|tid| Some(*tid) != busiest).take(on_turn).collect();
        self.turn = tids.last().copied().unwrap_or(self.turn);
        tids.extend(busiest);
        self.read(now, tids)
    }

    fn read_all(&mut self, now: Duration) {
        self.read(now, self.threads.keys().copied().collect());
    }

    fn read(&mut self, now: Duration, tids: Vec<u32>) -> f64 {
        let mut highest: f64 = 0.0;
        for tid in tids {
            if let Some(reading) = procfs::usage(self.pid, tid)
                && let Some(thread) = self.threads.get_mut(&tid)
            {
                highest = highest.max(thread.take(now, reading));
                self.seen_at = now;
            }
        }
        highest
    }

    /// Finds new threads and those that have ended. All CPU time of a new thread counts, if it can't have existed
    /// before.
    fn list(&mut self, now: Duration, leave_out: &[u32], newcomers_are_new: bool) {
        let folder = format!("/proc/{}/task", self.pid);
        let listed: Vec<u32> =
            procfs::numbers_in(&folder).filter(|tid| !leave_out.contains(tid)).take(THREADS_MAX).collect();
        if listed.is_empty() {
            return;
        }
        let is_new = newcomers_are_new && self.threads.len() < THREADS_MAX;
        let mut before = std::mem::take(&mut self.threads);
        for tid in listed {
            let thread = before.remove(&tid).or_else(|| {
                let last = if is_new { Usage::default() } else { procfs::usage(self.pid, tid)? };
                let read_at = if is_new { self.listed_at } else { now };
                Some(Thread { read_at, last, total: Usage::default() })
            });
            self.threads.extend(thread.map(|it| (tid, it)));
        }
        for (tid, ended) in before {
            self.ended_run_ns = self.ended_run_ns.saturating_add(ended.total.run_ns);
            if self.ended_busiest.as_ref().is_none_or(|(_, it)| it.total.run_ns < ended.total.run_ns) {
                self.ended_busiest = Some((tid, ended));
            }
        }
        self.listed_at = now;
        let ended = self.ended_busiest.as_ref().map(|(tid, _)| *tid);
        self.names.retain(|tid, _| self.threads.contains_key(tid) || ended == Some(*tid));
    }

    fn busiest(&self) -> Option<(u32, &Thread)> {
        let living = self.threads.iter().map(|(tid, it)| (*tid, it));
        living
            .chain(self.ended_busiest.iter().map(|(tid, it)| (*tid, it)))
            .max_by_key(|(_, it)| it.total.run_ns)
    }

    /// Reads the name of the busiest thread while it still exists.
    fn name_busiest(&mut self) {
        if let Some((tid, _)) = self.busiest()
            && let Some(name) = procfs::read_small(&format!("/proc/{}/task/{tid}/comm", self.pid))
        {
            self.names.insert(tid, procfs::printable(&name));
        }
    }

    /// All together, since the beginning.
    fn run_ns(&self) -> u64 {
        self.threads.values().fold(self.ended_run_ns, |sum, it| sum.saturating_add(it.total.run_ns))
    }

    /// The CPUs that one or the other may use.
    fn cpus_allowed(&self) -> Vec<u32> {
        let status = |tid: &u32| procfs::read_small(&format!("/proc/{}/task/{tid}/status", self.pid));
        let some = self.threads.keys().take(THREADS_PER_TICK).filter_map(status);
        let mut cpus: Vec<u32> =
            some.filter_map(|it| procfs::status(&it)).flat_map(|it| it.cpus_allowed).collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus
    }
}

/// One process of the server.
#[derive(Debug)]
struct Process {
    pid: u32,
    name: String,
    /// Held open: see [`procfs::read_again`]. That another process gets the same number is not noticed
    /// otherwise.
    status: File,
    over: bool,
    /// It is our own: a server in the same process, a test's mostly. Then its clock is ours as well, and
    /// its threads are counted one by one.
    is_us: bool,
    crowd: Crowd,
    /// The kernel's sum over all its threads, also those that have ended: now, and when figures began.
    clock_ns: Option<u64>,
    clock_ns_at_begin: u64,
    /// The CPU time of its children that it has waited for: when figures began.
    waited_ns_at_begin: u64,
    rss_bytes: u64,
    cpus_allowed: Vec<u32>,
}

impl Process {
    /// The process of this number, or the one that the thread of this number belongs to.
    fn look_up(pid: u32, leave_out: &[u32]) -> Option<Process> {
        let read = |pid: u32| {
            let file = File::open(format!("/proc/{pid}/status")).ok()?;
            let status = procfs::status(&procfs::read_again(&file)?)?;
            Some((file, status))
        };
        let (mut file, mut status) = read(pid)?;
        if status.process != pid {
            (file, status) = read(status.process)?;
        }
        let pid = status.process;
        let mut process = Process {
            pid,
            name: String::new(),
            status: file,
            over: status.over,
            is_us: pid == std::process::id(),
            crowd: Crowd::of(pid, Vec::new()),
            clock_ns: None,
            clock_ns_at_begin: 0,
            waited_ns_at_begin: 0,
            rss_bytes: status.rss_bytes,
            cpus_allowed: status.cpus_allowed,
        };
        process.crowd.list(Duration::ZERO, leave_out, false);
        process.ask_its_name();
        (!process.over).then_some(process)
    }

    /// A shell that became the server has another name than before.
    fn ask_its_name(&mut self) {
        if let Some(name) = procfs::read_small(&format!("/proc/{}/comm", self.pid)) {
            self.name = procfs::printable(&name);
        }
    }

    /// Reads what concerns the process as a whole. Gives the number of its threads, if it isn't over.
    fn look(&mut self, thorough: bool) -> Option<u32> {
        let status = procfs::read_again(&self.status).and_then(|it| procfs::status(&it));
        let Some(status) = status.filter(|it| !it.over && !self.over) else {
            self.over = true;
            return None;
        };
        self.rss_bytes = status.rss_bytes;
        self.cpus_allowed = status.cpus_allowed;
        // The kernel adds it up over all threads, each time.
        if !self.is_us && (thorough || status.threads as usize <= THREADS_PER_TICK) {
            self.clock_ns = clock_ns(self.pid).or(self.clock_ns);
        }
        Some(status.threads)
    }

    /// The CPU time of all its threads since figures began.
    fn run_ns(&self) -> u64 {
        let clock = self.clock_ns.map_or(0, |it| it.saturating_sub(self.clock_ns_at_begin));
        // The clock knows threads that came and went between two ticks.
        clock.max(self.crowd.run_ns())
    }

    fn waited_ns(&self) -> Option<u64> {
        let stat = procfs::read_small(&format!("/proc/{}/stat", self.pid))?;
        procfs::stat(&stat).map(|it| it.waited_children_ns)
    }
}

/// A process's CPU clock: to the nanosecond, and anyone may read it.
fn clock_ns(pid: u32) -> Option<u64> {
    let time = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(pid).ok()?)).ok()?.now().ok()?;
    u64::try_from(Duration::from(time).as_nanos()).ok()
}

/// All processes of the server.
#[derive(Debug)]
struct Server {
    /// Those from which the others are found.
    roots: Vec<u32>,
    known_by: &'static str,
    leave_out: Vec<u32>,
    processes: Vec<Process>,
    /// Workers that have ended while others went on: their sum, and how the busiest of them did.
    ended_run_ns: u64,
    ended_busiest: Option<Busiest>,
    /// When one of them was last seen, and when newcomers were last looked for.
    seen_at: Duration,
    looked_around_at: Duration,
    ticks: u64,
    /// The process that was read last, where they take turns.
    turn: usize,
    rss_before_bytes: u64,
    rss_peak_bytes: u64,
    rss_now_bytes: u64,
    samples: Vec<f64>,
}

/// The busiest thread of a server, and its process.
#[derive(Debug, Clone, Default)]
struct Busiest {
    pid: u32,
    process: String,
    thread: String,
    total: Usage,
}

impl Server {
    fn new(roots: Vec<Process>, known_by: &'static str, leave_out: Vec<u32>) -> Server {
        let mut server = Server {
            roots: roots.iter().map(|it| it.pid).collect(),
            known_by,
            leave_out,
            processes: roots,
            ended_run_ns: 0,
            ended_busiest: None,
            seen_at: Duration::ZERO,
            looked_around_at: Duration::ZERO,
            ticks: 0,
            turn: 0,
            rss_before_bytes: 0,
            rss_peak_bytes: 0,
            rss_now_bytes: 0,
            samples: Vec::new(),
        };
        server.look_around(Duration::ZERO, false);
        server.look_at_all(Duration::ZERO);
        server.rss_before_bytes = server.rss_now_bytes;
        server
    }

    fn begin(&mut self, now: Duration) {
        self.look_around(now, false);
        self.look_at_all(now);
        for process in &mut self.processes {
            process.crowd.list(now, &self.leave_out, false);
            process.crowd.read_all(now);
            process.crowd.forget();
            process.clock_ns_at_begin = process.clock_ns.unwrap_or(0);
            process.ask_its_name();
            process.waited_ns_at_begin = process.waited_ns().unwrap_or(0);
        }
        self.ended_run_ns = 0;
        self.ended_busiest = None;
        self.samples.clear();
    }

    fn tick(&mut self, now: Duration) {
        self.ticks += 1;
        let thorough = self.ticks.is_multiple_of(LOOK_AROUND_EVERY);
        if thorough {
            self.look_around(now, true);
        }
        let mut highest: f64 = 0.0;
        for index in self.on_turn() {
            let process = &mut self.processes[index];
            let Some(threads) = process.look(thorough) else { continue };
            self.seen_at = now;
            if thorough || threads as usize <= THREADS_PER_TICK {
                process.crowd.list(now, &self.leave_out, true);
            }
            highest = highest.max(process.crowd.tick(now));
            if thorough || process.crowd.names.is_empty() {
                process.crowd.name_busiest();
                process.ask_its_name();
            }
        }
        self.sum_memory();
        if self.samples.len() < SAMPLES_MAX && !self.is_over() {
            self.samples.push(highest);
        }
    }

    /// The busiest process, and those whose turn it is.
    fn on_turn(&mut self) -> Vec<usize> {
        let alive: Vec<usize> = (0..self.processes.len()).filter(|it| !self.processes[*it].over).collect();
        let busiest = alive.iter().copied().max_by_key(|it| {
            self.processes[*it].crowd.busiest().map_or(0, |(_, thread)| thread.total.run_ns)
        });
        let around = alive.iter().copied().cycle().skip(self.turn).take(alive.len());
        let others: Vec<usize> =
            around.filter(|it| Some(*it) != busiest).take(PROCESSES_PER_TICK - 1).collect();
        self.turn = (self.turn + others.len()) % alive.len().max(1);
        busiest.into_iter().chain(others).collect()
    }

    fn is_over(&self) -> bool {
        self.processes.iter().all(|it| it.over)
    }

    /// Reads every process as a whole.
    fn look_at_all(&mut self, now: Duration) {
        for process in &mut self.processes {
            if process.look(true).is_some() {
                self.seen_at = now;
            }
        }
        self.sum_memory();
    }

    /// The memory of a server that has ended is what it was before.
    fn sum_memory(&mut self) {
        if !self.is_over() {
            let alive = self.processes.iter().filter(|it| !it.over);
            self.rss_now_bytes = alive.fold(0, |sum: u64, it| sum.saturating_add(it.rss_bytes));
            self.rss_peak_bytes = self.rss_peak_bytes.max(self.rss_now_bytes);
        }
    }

    /// Finds new children, and drops those that have ended. The CPU time of a new process counts from
    /// its start, if that was after the beginning.
    fn look_around(&mut self, now: Duration, newcomers_are_new: bool) {
        if self.is_over() {
            return;
        }
        for process in self.processes.extract_if(.., |it| it.over).collect::<Vec<_>>() {
            self.ended_run_ns = self.ended_run_ns.saturating_add(process.run_ns());
            let busiest = busiest_of(&process);
            if self.ended_busiest.as_ref().is_none_or(|it| it.total.run_ns < busiest.total.run_ns) {
                self.ended_busiest = Some(busiest);
            }
        }
        let known: Vec<u32> = self.processes.iter().map(|it| it.pid).collect();
        for pid in descendants(&self.roots, newcomers_are_new) {
            if self.processes.len() >= PROCESSES_MAX {
                break;
            }
            if known.contains(&pid) {
                continue;
            }
            let Some(mut process) = Process::look_up(pid, &self.leave_out) else { continue };
            if newcomers_are_new {
                process.crowd.threads.values_mut().for_each(|it| {
                    it.last = Usage::default();
                    it.read_at = self.looked_around_at;
                });
            }
            self.processes.push(process);
        }
        self.looked_around_at = now;
    }

    fn finish(mut self, now: Duration, begun_at: Duration, connections: u32, replies: u64) -> ServerFigures {
        self.look_around(now, true);
        self.look_at_all(now);
        let mut waited_ns = 0u64;
        for process in self.processes.iter_mut().filter(|it| !it.over) {
            process.crowd.list(now, &self.leave_out, true);
            process.crowd.read_all(now);
            process.crowd.name_busiest();
            process.ask_its_name();
            let waited = process.waited_ns().unwrap_or(0).saturating_sub(process.waited_ns_at_begin);
            waited_ns = waited_ns.saturating_add(waited);
        }
        // A server that forks for every connection does its work in processes that live for less than a
        // tick. Those that were waited for are in their parent's sum; the few of them that we saw are in
        // ours. Only one of the two may be counted.
        let living_ns = self.processes.iter().fold(0u64, |sum, it| sum.saturating_add(it.run_ns()));
        let run_ns = living_ns.saturating_add(self.ended_run_ns.max(waited_ns));
        let first = self.processes.first().map(|it| Busiest {
            pid: it.pid,
            process: it.name.clone(),
            ..Busiest::default()
        });
        // Of equals the last one counts, so the first process stands last: it is named where nobody was busy.
        let busiest = self.processes.iter().rev().map(busiest_of).chain(self.ended_busiest).chain(first);
        let busiest = busiest
            .reduce(|best, it| if it.total.run_ns > best.total.run_ns { it } else { best })
            .unwrap_or_default();
        let mut cpus_allowed: Vec<u32> =
            self.processes.iter().flat_map(|it| it.cpus_allowed.iter().copied()).collect();
        cpus_allowed.sort_unstable();
        cpus_allowed.dedup();
        let window = (self.seen_at, begun_at);
        let grown = self.rss_peak_bytes.saturating_sub(self.rss_before_bytes);
        ServerFigures {
            pid: busiest.pid,
            name: busiest.process,
            known_by: self.known_by.to_owned(),
            busiest_thread_cpu: part(busiest.total.run_ns, window),
            cpu_at_rest: None,
            busiest_thread: busiest.thread,
            run_queue_wait: part(busiest.total.wait_ns, window),
            cpu_cores: cores(run_ns, window),
            cpu_ns_per_reply: per(run_ns, replies),
            rss_before_bytes: self.rss_before_bytes,
            rss_peak_bytes: self.rss_peak_bytes,
            rss_after_bytes: self.rss_now_bytes,
            rss_per_connection_bytes: per(grown, u64::from(connections)),
            cpus_allowed,
            cpu_samples: self.samples,
            processes: u32::try_from(self.processes.len()).unwrap_or(u32::MAX),
        }
    }
}

fn busiest_of(process: &Process) -> Busiest {
    let (pid, name) = (process.pid, process.name.clone());
    let (tid, total) = process.crowd.busiest().map_or((0, Usage::default()), |(tid, it)| (tid, it.total));
    let thread = process.crowd.names.get(&tid).cloned().unwrap_or_default();
    Busiest { pid, process: name, thread, total }
}

/// Everything that these processes have started, and so on. Not what we have started ourselves, if we are
/// among them; and not what systemd has, which only keeps the listener.
///
/// With `quick` nothing is found where the kernel does not list a process's children, since all
/// processes would have to be read to find them.
fn descendants(roots: &[u32], quick: bool) -> Vec<u32> {
    let us = std::process::id();
    let everyone: Option<Vec<(u32, u32)>> = (!quick).then(|| {
        let stat = |pid| procfs::stat(&procfs::read_small(&format!("/proc/{pid}/stat"))?);
        procfs::numbers_in("/proc").filter_map(|pid| Some((pid, stat(pid)?.parent))).collect()
    });
    let mut found: Vec<u32> = Vec::new();
    let mut parents: Vec<u32> =
        roots.iter().copied().filter(|pid| *pid != us && !listening::is_systemd(*pid)).collect();
    while let Some(parent) = parents.pop() {
        let children: Vec<u32> = match &everyone {
            Some(pairs) => pairs.iter().filter(|(_, it)| *it == parent).map(|(pid, _)| *pid).collect(),
            None => children_of(parent),
        };
        for pid in children {
            if pid != us && !found.contains(&pid) && !roots.contains(&pid) && found.len() < PROCESSES_MAX {
                found.push(pid);
                parents.push(pid);
            }
        }
    }
    found
}

/// The kernel keeps children with the thread that started them.
fn children_of(pid: u32) -> Vec<u32> {
    let tids = procfs::numbers_in(&format!("/proc/{pid}/task")).take(THREADS_PER_TICK);
    let lists = tids.filter_map(|tid| procfs::read_small(&format!("/proc/{pid}/task/{tid}/children")));
    lists
        .flat_map(|it| it.split_ascii_whitespace().filter_map(|it| it.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The kernel's counters since it was started. A counter that it does not have is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct KernelCounters {
    listen_overflows: u64,
    listen_drops: u64,
    retransmits: u64,
    segments_out: u64,
    udp_receive_drops: u64,
    udp_send_drops: u64,
    stolen_ticks: u64,
    all_ticks: u64,
}

impl KernelCounters {
    fn read() -> KernelCounters {
        let file = |path: &str| procfs::read_long(path).unwrap_or_default();
        KernelCounters::parse(
            &file("/proc/net/netstat"),
            &file("/proc/net/snmp"),
            &file("/proc/net/snmp6"),
            // Behind the first line there is one for each CPU and each interrupt.
            &procfs::read_small("/proc/stat").unwrap_or_default(),
        )
    }

    fn parse(netstat: &str, snmp: &str, snmp6: &str, stat: &str) -> KernelCounters {
        let extended = |name: &str| procfs::counter(netstat, "TcpExt", name).unwrap_or(0);
        let tcp = |name: &str| procfs::counter(snmp, "Tcp", name).unwrap_or(0);
        // TCP counts both families together, UDP doesn't.
        let udp = |name: &str| {
            let v4 = procfs::counter(snmp, "Udp", name).unwrap_or(0);
            v4.saturating_add(procfs::counter_v6(snmp6, &format!("Udp6{name}")).unwrap_or(0))
        };
        let (stolen_ticks, all_ticks) = procfs::steal(stat).unwrap_or((0, 0));
        KernelCounters {
            listen_overflows: extended("ListenOverflows"),
            listen_drops: extended("ListenDrops"),
            retransmits: tcp("RetransSegs"),
            segments_out: tcp("OutSegs"),
            udp_receive_drops: udp("RcvbufErrors"),
            udp_send_drops: udp("SndbufErrors"),
            stolen_ticks,
            all_ticks,
        }
    }

    /// What was added since `begin`. Counters of a network namespace that went away run backwards: 0.
    fn since(&self, begin: &KernelCounters) -> KernelFigures {
        let stolen = self.stolen_ticks.saturating_sub(begin.stolen_ticks);
        let all = self.all_ticks.saturating_sub(begin.all_ticks);
        KernelFigures {
            listen_overflows: self.listen_overflows.saturating_sub(begin.listen_overflows),
            listen_drops: self.listen_drops.saturating_sub(begin.listen_drops),
            retransmits: self.retransmits.saturating_sub(begin.retransmits),
            segments_out: self.segments_out.saturating_sub(begin.segments_out),
            udp_receive_drops: self.udp_receive_drops.saturating_sub(begin.udp_receive_drops),
            udp_send_drops: self.udp_send_drops.saturating_sub(begin.udp_send_drops),
            queued_share: None,
            steal: if all == 0 { 0.0 } else { (stolen as f64 / all as f64).min(1.0) },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::{Child, Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread::{self, JoinHandle};

    use nix::sys::signal::{Signal, kill};

    use super::*;

    const MS: u64 = 1_000_000;

    /// An address of this machine where no process listens.
    fn nowhere() -> Endpoint {
        "tcp://127.0.0.1:1".parse().unwrap()
    }

    /// Asks again until it is so. The time between is only there to leave others the CPU.
    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < deadline, "not within 20 s: {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A process that ends with the test, or by itself if there is no end to the test.
    struct Bounded(Child);

    impl Bounded {
        /// `timeout` runs the shell as its child and hands our signal on to it.
        fn shell(script: &str) -> Bounded {
            let mut command = Command::new("timeout");
            command.args(["60", "sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::null());
            Bounded(command.spawn().expect("timeout and sh are in every Linux"))
        }

        fn busy() -> Bounded {
            Bounded::shell("while :; do :; done")
        }

        /// Waits until timeout's child has become the shell.
        fn its_shell(&self) -> u32 {
            let mut shell = 0;
            until("timeout has started its shell", || {
                shell = descendants(&[self.0.id()], false).first().copied().unwrap_or(0);
                procfs::read_small(&format!("/proc/{shell}/comm")).is_some_and(|name| name == "sh\n")
            });
            shell
        }

        fn end(&mut self) {
            let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }

    impl Drop for Bounded {
        fn drop(&mut self) {
            self.end();
        }
    }

    /// A thread of ours that computes as long as it is told to, and then waits.
    struct Spinner {
        tid: u32,
        spins: Arc<AtomicBool>,
        over: mpsc::Sender<()>,
        thread: Option<JoinHandle<()>>,
    }

    impl Spinner {
        fn start(name: &str, spins: bool) -> Spinner {
            let spins = Arc::new(AtomicBool::new(spins));
            let (tell, hear) = mpsc::channel();
            let (over, until_over) = mpsc::channel();
            let its = spins.clone();
            let work = move || {
                tell.send(this_thread()).unwrap();
                while its.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                let _ = until_over.recv();
            };
            let thread = Some(thread::Builder::new().name(name.into()).spawn(work).unwrap());
            Spinner { tid: hear.recv().unwrap().expect("a Linux"), spins, over, thread }
        }
    }

    impl Drop for Spinner {
        fn drop(&mut self) {
            self.spins.store(false, Ordering::Relaxed);
            let _ = self.over.send(());
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }

    fn server_ran_ns(witness: &Witness) -> u64 {
        let server = witness.server.as_ref().expect("a server");
        server.processes.iter().map(|it| it.crowd.run_ns()).sum::<u64>() + server.ended_run_ns
    }

    #[test]
    fn a_busy_server_that_is_a_child_of_what_was_spawned() {
        let child = Bounded::busy();
        child.its_shell();
        let mut witness = Witness::new(&nowhere(), ServerSource::Spawned(child.0.id()), vec![]).unwrap();
        witness.begin();
        until("it ran for 0.3 s", || {
            witness.sample();
            server_ran_ns(&witness) >= 300 * MS
        });
        let server = witness.finish(10, 1000, 1000).server.expect("a server");
        assert_eq!((server.name.as_str(), server.busiest_thread.as_str()), ("sh", "sh"));
        assert_ne!(server.pid, child.0.id());
        assert_eq!((server.known_by.as_str(), server.processes), ("--spawn", 2));
        // It wants a CPU all the time, and where others want it too, it waits. How long is not seen while
        // it does, but afterwards.
        assert!(server.busiest_thread_cpu + server.run_queue_wait > 0.5, "{server:?}");
        assert!(server.cpu_cores + 0.05 >= server.busiest_thread_cpu && server.cpu_cores < 1.2, "{server:?}");
        assert!(server.cpu_ns_per_reply.unwrap() >= 0.29 * MS as f64, "{server:?}");
        assert!(server.rss_before_bytes > 0 && server.rss_peak_bytes >= server.rss_before_bytes);
        assert!(server.rss_per_connection_bytes.is_some() && !server.cpus_allowed.is_empty());
        assert!(server.cpu_samples.iter().all(|it| (0.0..=1.0).contains(it)), "{server:?}");
        assert!(server.cpu_samples.iter().any(|it| *it > 0.0), "{server:?}");
    }

    #[test]
    fn a_server_that_does_nothing() {
        let child = Bounded(Command::new("sleep").arg("60").spawn().unwrap());
        let mut witness = Witness::new(&nowhere(), ServerSource::Pid(child.0.id()), vec![]).unwrap();
        witness.sample();
        let server = witness.finish(0, 0, 0).server.expect("a server");
        assert_eq!((server.pid, server.known_by.as_str()), (child.0.id(), "--server-pid"));
        assert_eq!((server.cpu_ns_per_reply, server.rss_per_connection_bytes), (None, None));
        assert!(server.rss_after_bytes > 0);
    }

    #[test]
    fn a_server_that_dies_in_the_middle_is_remembered() {
        let mut child = Bounded::busy();
        child.its_shell();
        let mut witness = Witness::new(&nowhere(), ServerSource::Pid(child.0.id()), vec![]).unwrap();
        until("it ran for 0.1 s", || {
            witness.sample();
            server_ran_ns(&witness) >= 100 * MS
        });
        child.end();
        until("both are seen to be gone", || {
            witness.sample();
            witness.server.as_ref().is_some_and(Server::is_over)
        });
        let samples = witness.server.as_ref().unwrap().samples.len();
        for _ in 0..3 * LOOK_AROUND_EVERY {
            witness.sample();
        }
        let server = witness.finish(1, 100, 100).server.expect("what was seen of it");
        assert_eq!(server.name, "sh");
        assert_eq!(server.cpu_samples.len(), samples);
        // What it was when it was there, not thinned by the time after it.
        assert!(server.busiest_thread_cpu + server.run_queue_wait > 0.3, "{server:?}");
        assert!(server.rss_after_bytes > 0 && server.cpu_ns_per_reply.unwrap() >= 1e6, "{server:?}");
    }

    #[test]
    fn work_that_is_done_by_short_lived_children_counts() {
        let script = "while :; do (i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done); done";
        let child = Bounded::shell(script);
        let shell = child.its_shell();
        let mut witness = Witness::new(&nowhere(), ServerSource::Spawned(child.0.id()), vec![]).unwrap();
        witness.begin();
        let waited = || {
            let stat = procfs::read_small(&format!("/proc/{shell}/stat"))?;
            procfs::stat(&stat).map(|it| it.waited_children_ns)
        };
        let before = waited().expect("a living shell");
        until("its children used 0.2 s", || {
            witness.sample();
            waited().is_some_and(|it| it - before >= 200 * MS)
        });
        let server = witness.finish(1, 1, 1).server.expect("a server");
        assert!(server.cpu_ns_per_reply.unwrap() >= 190.0 * MS as f64, "{server:?}");
        assert!(server.processes <= PROCESSES_MAX as u32);
    }

    #[test]
    fn a_process_that_is_not_there_is_named_in_one_line() {
        let mut gone = Command::new("true").spawn().unwrap();
        let pid = gone.id();
        let over = || {
            let status = procfs::read_small(&format!("/proc/{pid}/status"));
            status.and_then(|it| procfs::status(&it)).is_none_or(|it| it.over)
        };
        until("it has ended, and nobody has waited for it", over);
        for round in ["not waited for", "gone"] {
            let problem = Witness::new(&nowhere(), ServerSource::Pid(pid), vec![]).unwrap_err();
            assert_eq!(problem, format!("--server-pid {pid}: there is no such process"), "{round}");
            let problem = Witness::new(&nowhere(), ServerSource::Spawned(pid), vec![]).unwrap_err();
            assert!(problem.starts_with("--spawn: ") && !problem.contains('\n'), "{round}: {problem}");
            gone.wait().unwrap();
        }
        for pid in [0, u32::MAX] {
            assert!(Witness::new(&nowhere(), ServerSource::Pid(pid), vec![]).is_err());
        }
    }

    #[test]
    fn who_is_not_found_is_no_error() {
        for source in [ServerSource::Find, ServerSource::None] {
            let mut witness = Witness::new(&nowhere(), source, vec![]).unwrap();
            witness.sample();
            let testimony = witness.finish(1, 1, 1);
            assert_eq!(testimony.server, None);
            assert_eq!(testimony.generator.cpu, 0.0);
            assert!(testimony.generator.rss_bytes > 0);
        }
    }

    /// Runs the named test in a process of its own: whether this is that process. Other tests start processes, which hold
    /// our sockets until they have begun, and count as our children.
    fn is_alone(test: &str) -> bool {
        const ALONE: &str = "SWITCHBOARD_TEST_ALONE";
        if std::env::var_os(ALONE).is_some() {
            return true;
        }
        let path = format!("load::witness::tests::{test}");
        let mut command = Command::new(std::env::current_exe().expect("a test has a file"));
        let output = command.args(["--exact", &path]).env(ALONE, "1").output().expect("it starts once more");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
        false
    }

    #[test]
    fn a_server_in_our_own_process_is_found_without_the_generator() {
        if !is_alone("a_server_in_our_own_process_is_found_without_the_generator") {
            return;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target: Endpoint = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
        let load = Spinner::start("makes load", true);
        let serves = Spinner::start("serves", true);
        let mut witness = Witness::new(&target, ServerSource::Find, vec![load.tid]).unwrap();
        until("both ran for 0.1 s", || {
            witness.sample();
            let crowd = &witness.server.as_ref().expect("us").processes[0].crowd;
            let serves = crowd.threads.get(&serves.tid).map_or(0, |it| it.total.run_ns);
            serves >= 100 * MS && witness.generator.run_ns() >= 100 * MS
        });
        let crowd = &witness.server.as_ref().unwrap().processes[0].crowd;
        assert!(!crowd.threads.contains_key(&load.tid), "the generator's thread counts as the server's");
        assert!(!crowd.threads.contains_key(&this_thread().unwrap()), "so does the one that looks on");
        let testimony = witness.finish(1, 100, 100);
        let server = testimony.server.as_ref().expect("us");
        assert_eq!((server.pid, server.known_by.as_str()), (std::process::id(), "it listens there"));
        assert_ne!(server.busiest_thread, "makes load");
        assert!(server.busiest_thread_cpu > 0.0 && server.cpu_cores > 0.0, "{server:?}");
        assert!(testimony.generator.cpu_ns_per_message >= 1e6, "{testimony:?}");
    }

    #[test]
    fn figures_count_from_the_beginning() {
        let load = Spinner::start("load", true);
        let mut witness = Witness::new(&nowhere(), ServerSource::None, vec![load.tid]).unwrap();
        until("it ran for 0.2 s", || {
            witness.sample();
            witness.generator.run_ns() >= 200 * MS
        });
        assert!(witness.samples.iter().any(|it| *it > 0.0));
        load.spins.store(false, Ordering::Relaxed);
        let sleeps = || {
            let stat = procfs::read_small(&format!("/proc/self/task/{}/stat", load.tid));
            procfs::stat(&stat.unwrap()).unwrap().state == 'S'
        };
        until("it has stopped", sleeps);
        witness.begin();
        witness.sample();
        let generator = witness.finish(1, 1, 1).generator;
        assert!(generator.cpu < 0.1, "{generator:?}");
        assert!(generator.cpu_ns_per_message < 10.0 * MS as f64, "{generator:?}");
        assert_eq!(generator.cpu_samples.len(), 1);
        assert!(!generator.cpus_allowed.is_empty());
    }

    #[test]
    fn many_threads_take_turns_and_the_busiest_is_known() {
        let idle: Vec<Spinner> = (0..100).map(|_| Spinner::start("idle", false)).collect();
        let busy = Spinner::start("busy", true);
        let tids: Vec<u32> = idle.iter().chain([&busy]).map(|it| it.tid).collect();
        let mut crowd = Crowd::of(std::process::id(), tids);
        crowd.read_all(Duration::ZERO);
        crowd.forget();
        until("the busy one ran for 50 ms", || {
            crowd.read_all(Duration::ZERO);
            crowd.threads[&busy.tid].total.run_ns >= 50 * MS
        });
        let mut seen = std::collections::BTreeSet::new();
        for tick in 1..=7 {
            let now = Duration::from_millis(100 * tick);
            crowd.tick(now);
            let read: Vec<u32> =
                crowd.threads.iter().filter(|(_, it)| it.read_at == now).map(|(tid, _)| *tid).collect();
            assert!(read.len() <= THREADS_PER_TICK && read.contains(&busy.tid), "{read:?}");
            seen.extend(read);
        }
        assert_eq!(seen.len(), 101);
        assert_eq!(crowd.busiest().unwrap().0, busy.tid);
        crowd.name_busiest();
        assert_eq!(crowd.names[&busy.tid], "busy");
    }

    #[test]
    fn much_data_or_waiting_replies_lie_on_the_path_unless_somebody_is_slow_to_read() {
        let queued = |on_the_path, unread, servers_replying, replies| listening::Queued {
            on_the_path,
            unread,
            servers: 60,
            servers_replying,
            replies,
        };
        for (lies, it) in [
            (false, queued(0, 0, 0, 0)),
            (false, queued(2_000, 0, 19, 1_000)),
            (true, queued(2_000, 0, 20, 1_000)),
            (false, queued(2_000, 800, 20, 1_000)),
            (true, queued(300_000, 60_000, 0, 0)),
            (false, queued(300_000, 100_000, 0, 0)),
        ] {
            assert_eq!(lies_on_the_path(it), lies, "{it:?}");
        }
    }

    #[test]
    fn a_thread_that_ends_is_remembered_and_one_that_comes_counts_whole() {
        let none: &[u32] = &[];
        let mut crowd = Crowd::of(std::process::id(), Vec::new());
        crowd.list(Duration::ZERO, none, false);
        let comes = Spinner::start("comes", true);
        let tid = comes.tid;
        until("it ran for 30 ms", || procfs::usage(crowd.pid, tid).unwrap().run_ns >= 30 * MS);
        let now = Duration::from_secs(1);
        crowd.list(now, none, true);
        crowd.read_all(now);
        assert!(crowd.threads[&tid].total.run_ns >= 30 * MS);
        drop(comes);
        let before = crowd.run_ns();
        // Who joins a thread may go on a moment before the kernel has taken it out of /proc.
        until("the kernel has taken it off its list", || {
            crowd.list(now, none, true);
            !crowd.threads.contains_key(&tid)
        });
        assert!(crowd.ended_busiest.is_some() && crowd.run_ns() >= before);
    }

    #[test]
    fn descendants_are_found_either_way() {
        let child = Bounded::shell("sleep 60 & sleep 60 & wait");
        let us = std::process::id();
        until("timeout, its shell and two sleeps", || descendants(&[child.0.id()], false).len() == 3);
        if fs::exists(format!("/proc/{us}/task/{us}/children")).unwrap_or(false) {
            assert_eq!(descendants(&[child.0.id()], true).len(), 3);
        }
        // Not what we have started, where we are the server ourselves.
        assert!(descendants(&[us], false).is_empty());
        for pid in descendants(&[child.0.id()], false) {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
        }
    }

    #[test]
    fn readings_that_run_backwards_are_another_threads() {
        let mut thread = Thread::default();
        let second = Duration::from_secs;
        let reading = |run_ns, wait_ns| Usage { run_ns, wait_ns };
        assert_eq!(thread.take(second(1), reading(500 * MS, 10)), 0.5);
        assert_eq!(thread.take(second(2), reading(750 * MS, 20)), 0.25);
        assert_eq!(thread.take(second(3), reading(100 * MS, 5)), 0.1);
        assert_eq!(thread.total, reading(850 * MS, 25));
        // Twice in the same moment, and more than there was time for.
        assert_eq!(thread.take(second(3), reading(200 * MS, 5)), 0.0);
        assert_eq!(thread.take(second(4), reading(5000 * MS, 5)), 1.0);
    }

    #[test]
    fn kernel_counters_of_both_families() {
        let begin = KernelCounters::parse(
            "TcpExt: ListenOverflows ListenDrops\nTcpExt: 10 20\n",
            "Tcp: OutSegs RetransSegs\nTcp: 1000 30\nUdp: RcvbufErrors SndbufErrors\nUdp: 1 2\n",
            "Udp6RcvbufErrors 100\nUdp6SndbufErrors 200\n",
            "cpu  10 0 0 80 0 0 0 10 0 0\n",
        );
        let end = KernelCounters::parse(
            "TcpExt: ListenDrops ListenOverflows\nTcpExt: 25 11\n",
            "Tcp: OutSegs RetransSegs\nTcp: 3000 37\nUdp: RcvbufErrors SndbufErrors\nUdp: 4 2\n",
            "Udp6RcvbufErrors 105\nUdp6SndbufErrors 201\n",
            "cpu  20 0 0 140 0 0 0 40 0 0\n",
        );
        let expected = KernelFigures {
            listen_overflows: 1,
            listen_drops: 5,
            retransmits: 7,
            segments_out: 2000,
            udp_receive_drops: 8,
            udp_send_drops: 1,
            queued_share: None,
            steal: 0.3,
        };
        assert_eq!(end.since(&begin), expected);
        assert_eq!(begin.since(&end), KernelFigures::default());
        assert_eq!(KernelCounters::parse("", "", "", ""), KernelCounters::default());
    }

    #[test]
    fn this_machine_has_a_name_and_cpus() {
        let machine = machine();
        assert!(machine.system.starts_with("Linux "), "{machine:?}");
        assert!(!machine.cpu.is_empty() && machine.cpus > 0, "{machine:?}");
    }
}
