//! The generator's process: one job, one function, figures on stdout as `name=value` lines.
//!
//! The server's counters are read here and not by the conductor, because only here is it known when nothing is on the way:
//! a sample is taken before the first message and after the last reply, while the server sleeps.

use super::generator::{Line, Lines, Tally, Until, Wire, is_not_yet, socket_for};
use super::histogram::Histogram;
use super::process::{self, Sample, Usage};
use super::scenarios::{Drive, Job};
use super::{Outcome, children};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// For the server to finish what nobody waits for, such as the last close, and to fall asleep.
const SETTLE: Duration = Duration::from_millis(20);
/// How long memory may take to come back after a burst.
const MEMORY_BACK_WITHIN: Duration = Duration::from_secs(1);
const MEMORY_LOOK_EVERY: Duration = Duration::from_millis(50);
/// A polite client says one thing per this.
const POLITE_PAUSE: Duration = Duration::from_millis(20);
/// The flooders' head start, and how long they go on after the polite ones have left.
const FLOOD_MARGIN: Duration = Duration::from_millis(500);

pub(crate) fn drive(words: &[String]) -> Outcome<()> {
    children::die_with_parent()?;
    let (job, address, server) =
        Job::from_words(words).ok_or("drive: not a job (the conductor writes these)")?;
    let driver = Driver { job, address, server };
    match job.drive {
        Drive::Echo => driver.echo(),
        Drive::Churn => driver.churn(),
        Drive::Idle => driver.idle(),
        Drive::Burst => driver.burst(),
        Drive::AmongIdle => driver.among_idle(),
        Drive::Polite => driver.polite(),
        Drive::Flood => driver.flood(),
        Drive::NeverRead => driver.never_read(),
    }
}

struct Driver {
    job: Job,
    address: SocketAddr,
    server: u32,
}

/// What both ends used while something was measured.
struct Cost {
    server: Usage,
    generator: Usage,
}

impl Driver {
    fn echo(&self) -> Outcome<()> {
        let mut lines = self.lines()?;
        lines.open(self.address, self.job.connections)?;
        if self.job.messages > 0 {
            self.converse(&mut lines, Until::Count(self.job.messages), &mut Histogram::new())?;
            return Ok(());
        }
        let mut latencies = Histogram::new();
        let (tally, cost) = self.measured_echo(&mut lines, &mut latencies)?;
        let messages = tally.messages as f64;
        let megabytes = messages * self.job.message_bytes as f64 / 1e6;
        report("messages_per_s", messages / tally.seconds);
        report("mb_per_s", megabytes / tally.seconds);
        report("cpu_ns_per_message", cost.server.cpu_ns / messages);
        report("cpu_us_per_mb", cost.server.cpu_ns / 1e3 / megabytes);
        report("sleeps_per_message", cost.server.sleeps / messages);
        report_latencies(&latencies);
        cost.report();
        Ok(())
    }

    /// Connects, asks, reads the reply and closes, on `slots` connections at once. The client closes first, as clients do, and keeps the TIME_WAIT.
    fn churn(&self) -> Outcome<()> {
        let wire = Wire::new()?;
        let mut churn = Churn { address: self.address, wire: &wire, slots: Vec::new(), dialled: 0 };
        let mut lines = self.lines()?;
        lines.open(self.address, 1)?;
        lines.close();
        churn.run(self.job.connections, self.warm_up(), self.reply_within())?;
        let (done, cost) = self.measured(|| {
            let started = Instant::now();
            let done = churn.run(self.job.connections, self.seconds(), self.reply_within())?;
            Ok(Tally { messages: done, seconds: started.elapsed().as_secs_f64() })
        })?;
        report("connections_per_s", done.messages as f64 / done.seconds);
        report("cpu_ns_per_connection", cost.server.cpu_ns / done.messages as f64);
        cost.report();
        Ok(())
    }

    fn idle(&self) -> Outcome<()> {
        // One connection first: what the server sets up once is not a connection's price.
        let mut warm_up = self.lines()?;
        warm_up.open(self.address, 1)?;
        warm_up.close();
        sleep(SETTLE);
        let empty = process::resident_bytes(self.server)?;
        let mut lines = self.lines()?;
        lines.open(self.address, self.job.idle)?;
        let ((), cost) = self.measured(|| {
            sleep(self.seconds());
            Ok(())
        })?;
        let full = process::resident_bytes(self.server)?;
        report("idle_bytes", (full - empty) / self.job.idle as f64);
        report("idle_cpu_percent", cost.server.cpu_percent());
        Ok(())
    }

    fn burst(&self) -> Outcome<()> {
        let mut lines = self.lines()?;
        lines.open(self.address, self.job.connections)?;
        sleep(SETTLE);
        let before = process::resident_bytes(self.server)?;
        let tally =
            self.converse(&mut lines, Until::Count(self.job.connections as u64), &mut Histogram::new())?;
        let peak = process::peak_resident_bytes(self.server)?;
        let mut after = process::resident_bytes(self.server)?;
        let end = Instant::now() + MEMORY_BACK_WITHIN;
        while after > before && Instant::now() < end {
            sleep(MEMORY_LOOK_EVERY);
            after = after.min(process::resident_bytes(self.server)?);
        }
        report("growth_kib", (after - before) / 1024.0);
        report("peak_growth_kib", (peak.max(after) - before) / 1024.0);
        report("mb_per_s", (tally.messages * self.job.message_bytes as u64) as f64 / 1e6 / tally.seconds);
        Ok(())
    }

    /// The same talkers on the same server twice: alone, and beside the idle.
    fn among_idle(&self) -> Outcome<()> {
        let mut lines = self.lines()?;
        lines.open(self.address, self.job.connections)?;
        let mut alone = Histogram::new();
        self.measured_echo(&mut lines, &mut alone)?;
        lines.open(self.address, self.job.idle)?;
        let mut among = Histogram::new();
        let (tally, cost) = self.measured_echo(&mut lines, &mut among)?;
        report("alone_p50_us", alone.quantile_us(0.5));
        report("alone_p99_us", alone.quantile_us(0.99));
        report("among_p50_us", among.quantile_us(0.5));
        report("among_p99_us", among.quantile_us(0.99));
        report("among_over_alone", among.quantile_us(0.99) / alone.quantile_us(0.99));
        report("cpu_ns_per_message", cost.server.cpu_ns / tally.messages as f64);
        cost.report();
        Ok(())
    }

    /// An open loop: each client speaks when its time comes, whether or not it was answered, so a stall is felt by every
    /// message that falls into it. Latency counts from the actual write: when the flooders keep this process off its core, that
    /// is not the server's fault.
    fn polite(&self) -> Outcome<()> {
        let mut lines = self.lines()?;
        lines.open(self.address, self.job.connections)?;
        let flood_seconds = self.job.seconds + 2.0 * FLOOD_MARGIN.as_secs_f64();
        let flood = Job {
            drive: Drive::Flood,
            connections: self.job.flooders,
            message_bytes: 1024 * 1024,
            in_flight: 16,
            seconds: flood_seconds,
            ..self.job
        };
        // Its own process on the same core, and nice: what the polite ones wait for should be the server.
        let mut words = vec!["nice".to_string(), "-n".into(), "19".into()];
        words.extend(children::this_executable("drive")?);
        words.extend(flood.to_words(&self.address.to_string(), self.server));
        let mut flooder = children::Minded::start(&words, children::Errors::WithOutput)?;
        sleep(FLOOD_MARGIN);

        let clients = self.job.connections;
        let gap = POLITE_PAUSE / clients as u32;
        let (started, seconds) = (Instant::now(), self.seconds());
        let mut asked_at = vec![VecDeque::new(); clients];
        let mut latencies = Histogram::new();
        let (mut asked, mut answered) = (0u32, 0u32);
        loop {
            let now = Instant::now();
            let more = now < started + seconds;
            if !more && answered == asked {
                break;
            }
            while more && started + gap * asked <= now {
                let client = asked as usize % clients;
                lines.ask(client, self.job.message_bytes as u64)?;
                asked_at[client].push_back(Instant::now());
                asked += 1;
            }
            lines.turn(1, |line: &mut Line, _, bytes| {
                for _ in 0..line.messages_completed(bytes, self.job.message_bytes as u64) {
                    let asked_at = asked_at[line.index()]
                        .pop_front()
                        .expect("a reply to each message, as the count of bytes says");
                    latencies.record(asked_at.elapsed());
                    answered += 1;
                }
                Ok(())
            })?;
        }
        let flooded = flooder
            .hear_out(FLOOD_MARGIN + self.reply_within())
            .map_err(|why| format!("a flooder: {why}"))?;
        report("flood_mb_per_s", children::figures_in(&flooded).get("mb_per_s").copied().unwrap_or(0.0));
        report_latencies(&latencies);
        Ok(())
    }

    fn flood(&self) -> Outcome<()> {
        let mut lines = self.lines()?;
        lines.open(self.address, self.job.connections)?;
        let tally =
            self.converse(&mut lines, Until::Clock(Instant::now() + self.seconds()), &mut Histogram::new())?;
        report("mb_per_s", (tally.messages * self.job.message_bytes as u64) as f64 / 1e6 / tally.seconds);
        Ok(())
    }

    /// Peers that only ever write. The floor stalls on the first one, for good: that, too, takes no memory.
    fn never_read(&self) -> Outcome<()> {
        let mut greeted = self.lines()?;
        greeted.open(self.address, 1)?;
        sleep(SETTLE);
        let before = process::resident_bytes(self.server)?;
        let wire = Wire::new()?;
        let mut peers = Vec::new();
        for index in 0..self.job.connections {
            let socket = socket_for(index)?;
            let connected = socket
                .connect_timeout(&self.address.into(), self.reply_within())
                .and_then(|()| socket.set_nonblocking(true));
            connected.map_err(|error| format!("cannot connect to {}: {error}", self.address))?;
            let stream = TcpStream::from(socket);
            wire.watch(&stream, index, EpollFlags::EPOLLOUT)?;
            peers.push(Some(stream));
        }
        let mut events = vec![EpollEvent::empty(); peers.len()];
        let (mut peak, mut taken, mut closed) = (before, 0, 0);
        let end = Instant::now() + self.seconds();
        let mut look_at = Instant::now();
        while Instant::now() < end {
            if Instant::now() >= look_at {
                peak = process::resident_bytes(self.server)?.max(peak);
                look_at = Instant::now() + MEMORY_LOOK_EVERY;
            }
            let ready = wire.wait(&mut events, MEMORY_LOOK_EVERY.as_millis() as u16)?;
            for event in &events[..ready] {
                let peer = &mut peers[event.data() as usize];
                let Some(stream) = peer else { continue };
                match stream.write(wire.expected(event.data(), 0, 64 * 1024)) {
                    Ok(count) => taken += count,
                    Err(error) if is_not_yet(error.kind()) => {}
                    // To close a peer that never reads is a server's good right.
                    Err(_) => {
                        *peer = None;
                        closed += 1;
                    }
                }
            }
        }
        // What came and went between two looks.
        peak = peak.max(process::peak_resident_bytes(self.server)?);
        report("peak_growth_mib", (peak - before) / 1024.0 / 1024.0);
        report("taken_mb", taken as f64 / 1e6);
        report("closed", f64::from(closed));
        Ok(())
    }

    fn lines(&self) -> Outcome<Lines> {
        Lines::new(self.reply_within())
    }

    fn measured_echo(&self, lines: &mut Lines, latencies: &mut Histogram) -> Outcome<(Tally, Cost)> {
        self.converse(lines, Until::Clock(Instant::now() + self.warm_up()), &mut Histogram::new())?;
        self.measured(|| self.converse(lines, Until::Clock(Instant::now() + self.seconds()), latencies))
    }

    fn converse(&self, lines: &mut Lines, until: Until, latencies: &mut Histogram) -> Outcome<Tally> {
        let Job { connections, message_bytes, in_flight, .. } = self.job;
        lines.converse(connections, message_bytes, in_flight, until, latencies)
    }

    fn measured<T>(&self, work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Cost)> {
        let own = std::process::id();
        sleep(SETTLE);
        let (server, generator) = (Sample::take(self.server)?, Sample::take(own)?);
        let result = work()?;
        // The generator's sample first: it shall not count its own sleep.
        let generator = generator.until(&Sample::take(own)?);
        sleep(SETTLE);
        let mut server = server.until(&Sample::take(self.server)?);
        server.elapsed_ns = generator.elapsed_ns;
        Ok((result, Cost { server, generator }))
    }

    fn seconds(&self) -> Duration {
        Duration::from_secs_f64(self.job.seconds)
    }

    fn warm_up(&self) -> Duration {
        self.seconds().mul_f64(0.25).min(Duration::from_millis(300))
    }

    fn reply_within(&self) -> Duration {
        Duration::from_secs(self.job.reply_within_seconds)
    }
}

/// Short connections, a fixed number at once; each is followed by the next.
struct Churn<'a> {
    address: SocketAddr,
    wire: &'a Wire,
    slots: Vec<Slot>,
    /// How many in all; picks the source address.
    dialled: usize,
}

struct Slot {
    stream: TcpStream,
    heard: usize,
    /// Not asked yet: the connection wasn't up when we tried.
    connecting: bool,
    since: Instant,
}

const CHURN_MESSAGE_BYTES: usize = 64;

impl Churn<'_> {
    fn run(&mut self, slots: usize, time: Duration, reply_within: Duration) -> Outcome<u64> {
        let end = Instant::now() + time;
        for index in 0..slots {
            let slot = self.dial(index)?;
            self.slots.push(slot);
        }
        let mut events = vec![EpollEvent::empty(); slots];
        let mut reply = [0; 2 * CHURN_MESSAGE_BYTES];
        let (mut done, mut busy) = (0, slots);
        while busy > 0 {
            let ready = self.wire.wait(&mut events, 1000)?;
            let now = Instant::now();
            if ready == 0 && self.slots.iter().any(|slot| now - slot.since > reply_within) {
                return Err(format!("no reply within {reply_within:?} on a new connection"));
            }
            for event in &events[..ready] {
                let index = event.data() as usize;
                let slot = &mut self.slots[index];
                if slot.connecting {
                    slot.connecting = !ask(&slot.stream, self.wire, index)?;
                    if !slot.connecting {
                        self.wire.watch_again(&slot.stream, index, EpollFlags::EPOLLIN)?;
                    }
                    continue;
                }
                match slot.stream.read(&mut reply[slot.heard..]) {
                    Ok(0) => {
                        return Err("the server closed a new connection before it answered".into());
                    }
                    Ok(count) => slot.heard += count,
                    Err(error) if is_not_yet(error.kind()) => {}
                    Err(error) => return Err(format!("a new connection failed: {error}")),
                }
                if slot.heard < CHURN_MESSAGE_BYTES {
                    continue;
                }
                if reply[..slot.heard] != *self.wire.expected(index as u64, 0, CHURN_MESSAGE_BYTES) {
                    return Err("wrong bytes came back on a new connection".into());
                }
                done += 1;
                if now < end {
                    // The assignment closes the old one.
                    self.slots[index] = self.dial(index)?;
                } else {
                    // Left open for a moment, silent, until all are done.
                    busy -= 1;
                }
            }
        }
        self.slots.clear();
        Ok(done)
    }

    fn dial(&mut self, index: usize) -> Outcome<Slot> {
        let socket = socket_for(self.dialled)?;
        self.dialled += 1;
        socket
            .set_nonblocking(true)
            .map_err(|error| format!("cannot make a connection non-blocking: {error}"))?;
        if let Err(error) = socket.connect(&self.address.into())
            && error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32)
        {
            return Err(format!("cannot connect to {}: {error}", self.address));
        }
        let stream = TcpStream::from(socket);
        // On loopback the handshake is over by now, as a rule.
        let connecting = !ask(&stream, self.wire, index)?;
        self.wire.watch(
            &stream,
            index,
            if connecting { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN },
        )?;
        Ok(Slot { stream, heard: 0, connecting, since: Instant::now() })
    }
}

/// False if the connection isn't up yet.
fn ask(mut stream: &TcpStream, wire: &Wire, index: usize) -> Outcome<bool> {
    match stream.write(wire.expected(index as u64, 0, CHURN_MESSAGE_BYTES)) {
        Ok(CHURN_MESSAGE_BYTES) => Ok(true),
        Ok(count) => Err(format!("a new connection took only {count} bytes")),
        Err(error) if is_not_yet(error.kind()) => Ok(false),
        Err(error) => Err(format!("a new connection failed: {error}")),
    }
}

impl Cost {
    fn report(&self) {
        report("server_percent", self.server.cpu_percent());
        report("generator_percent", self.generator.cpu_percent());
        report("user_percent", self.server.user_percent);
    }
}

fn report_latencies(latencies: &Histogram) {
    report("p50_us", latencies.quantile_us(0.5));
    report("p99_us", latencies.quantile_us(0.99));
    report("max_us", latencies.max_us());
}

fn report(name: &str, value: f64) {
    println!("{name}={value}");
}
