//! What Linux tells about a process: the processor time it took, the memory it holds, how often it slept.
//!
//! Processor time is the scheduler's own count in nanoseconds (`schedstat`), not the ticks of `utime`, which are 10 ms each.
//! The kernel brings that count up to date when a thread sleeps, so take a `Sample` while the server has nothing to do.

use super::Outcome;
use std::fs;
use std::time::Instant;

/// The state of a process at one moment. Two of them make a `Usage`.
pub(crate) struct Sample {
    at: Instant,
    cpu_ns: u64,
    user_ticks: u64,
    system_ticks: u64,
    /// How often it gave the processor away because it had nothing to do.
    sleeps: u64,
}

/// What a process used between two samples.
pub(crate) struct Usage {
    pub(crate) cpu_ns: f64,
    pub(crate) elapsed_ns: f64,
    /// The part of the processor time spent outside of the kernel, from ticks: good for a hint, not for a ratio.
    pub(crate) user_percent: f64,
    pub(crate) sleeps: f64,
}

impl Usage {
    pub(crate) fn cpu_percent(&self) -> f64 {
        100.0 * self.cpu_ns / self.elapsed_ns
    }
}

impl Sample {
    pub(crate) fn take(pid: u32) -> Outcome<Self> {
        let mut sample = Self { at: Instant::now(), cpu_ns: 0, user_ticks: 0, system_ticks: 0, sleeps: 0 };
        // The process's own schedstat shows its first thread only; the sum over all threads is what it cost.
        for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| gone(pid))?.flatten() {
            // A thread may end between the listing and the reading: then there is nothing to add.
            let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            sample.cpu_ns += number_at(&read("schedstat"), 0);
            sample.sleeps += field_of(&read("status"), "voluntary_ctxt_switches:");
        }
        let stat = read(pid, "stat")?;
        // The command's name, in parentheses, may hold spaces: count the fields after it.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        sample.user_ticks = number_at(fields, 11);
        sample.system_ticks = number_at(fields, 12);
        Ok(sample)
    }

    pub(crate) fn until(&self, later: &Self) -> Usage {
        let user = later.user_ticks.saturating_sub(self.user_ticks) as f64;
        let system = later.system_ticks.saturating_sub(self.system_ticks) as f64;
        Usage {
            // Saturating: a thread that ended in between took its count with it.
            cpu_ns: later.cpu_ns.saturating_sub(self.cpu_ns) as f64,
            elapsed_ns: (later.at - self.at).as_nanos() as f64,
            user_percent: 100.0 * user / (user + system).max(1.0),
            sleeps: later.sleeps.saturating_sub(self.sleeps) as f64,
        }
    }
}

/// Resident memory, exact: `statm` and `VmRSS` lag by some pages per core, `smaps_rollup` walks the page table.
pub(crate) fn resident_bytes(pid: u32) -> Outcome<f64> {
    match field_of(&read(pid, "smaps_rollup")?, "Rss:") {
        0 => Err(gone(pid)),
        kib => Ok(kib as f64 * 1024.0),
    }
}

/// The most that was ever resident.
pub(crate) fn peak_resident_bytes(pid: u32) -> Outcome<f64> {
    Ok(field_of(&read(pid, "status")?, "VmHWM:") as f64 * 1024.0)
}

/// The cores that this process may run on.
pub(crate) fn allowed_cores() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or("0");
    let mut cores = Vec::new();
    for span in list.trim().split(',') {
        let (first, last) = span.split_once('-').unwrap_or((span, span));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse()) {
            cores.extend(first..=last);
        }
    }
    cores
}

/// One line about the machine, without which no figure means anything.
pub(crate) fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name").and_then(|rest| rest.split_once(':')))
        .map_or("unknown processor", |(_, model)| model.trim());
    format!("Linux {}, {} cores, {model}", kernel.trim(), allowed_cores().len())
}

fn read(pid: u32, name: &str) -> Outcome<String> {
    fs::read_to_string(format!("/proc/{pid}/{name}")).map_err(|_| gone(pid))
}

fn gone(pid: u32) -> String {
    format!("the server (process {pid}) is gone")
}

fn number_at(text: &str, index: usize) -> u64 {
    text.split_whitespace().nth(index).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The first number on the first line that starts with `name`.
fn field_of(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |rest| number_at(rest, 0))
}
