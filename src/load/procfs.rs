//! What /proc says, as numbers.
//!
//! Two layers. The parsers take text and are plain functions, so that the oddest process name is a test
//! and not a surprise. The readers below them open one file each and hand its text over. What isn't there,
//! be it that the process has gone, that it is not ours to look at, or that there is no /proc at all, is
//! `None`; nothing here is an error.
//!
//! Invariant: no text, however hostile, makes a parser panic or take memory without a bound.

use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileExt;

/// The unit of times in `stat` files: USER_HZ, 100 per second in every Linux that one meets.
const TICK_NS: u64 = 10_000_000;
/// No machine has more CPUs than Linux can be built for; a list that says otherwise is cut.
const CPUS_MAX: u32 = 8192;

/// What a thread had, and what it wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// On a CPU.
    pub run_ns: u64,
    /// Ready to run, and waiting for one.
    pub wait_ns: u64,
}

/// `/proc/PID/task/TID/schedstat`: running, waiting, how many times.
pub(super) fn schedstat(text: &str) -> Option<Usage> {
    let mut fields = text.split_ascii_whitespace();
    let run_ns = fields.next()?.parse().ok()?;
    let wait_ns = fields.next()?.parse().ok()?;
    Some(Usage { run_ns, wait_ns })
}

/// What we want of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stat {
    /// `R`, `S`, ... `Z` is a process that has ended and was not waited for.
    pub state: char,
    /// Who started it.
    pub parent: u32,
    /// User and system time.
    pub cpu_ns: u64,
    /// The same of its children that have ended and were waited for.
    pub waited_children_ns: u64,
}

/// `/proc/PID/stat`. The second field is the name in parentheses, and a name may hold spaces, parentheses
/// and line ends; nothing behind it can, so the last `)` ends it.
pub(super) fn stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ns = |user: u64, system: u64| user.saturating_add(system).saturating_mul(TICK_NS);
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        cpu_ns: ns(ticks(11)?, ticks(12)?),
        waited_children_ns: ns(ticks(13)?, ticks(14)?),
    })
}

/// What we want of `/proc/PID/status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// The process that a thread belongs to.
    pub process: u32,
    /// It has ended.
    pub over: bool,
    /// Its threads.
    pub threads: u32,
    /// VmRSS; a kernel thread has none.
    pub rss_bytes: u64,
    /// Cpus_allowed_list.
    pub cpus_allowed: Vec<u32>,
}

/// `/proc/PID/status`. The name stands in it too, but there the kernel escapes line ends.
pub(super) fn status(text: &str) -> Option<Status> {
    let mut found = Status::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match key {
            "Tgid" => found.process = value.parse().ok()?,
            "State" => found.over = value.starts_with(['Z', 'X', 'x']),
            "Threads" => found.threads = value.parse().ok()?,
            "VmRSS" => {
                let kib: u64 = value.trim_end_matches("kB").trim_end().parse().ok()?;
                found.rss_bytes = kib.saturating_mul(1024);
            }
            "Cpus_allowed_list" => found.cpus_allowed = cpu_list(value),
            _ => {}
        }
    }
    (found.process != 0).then_some(found)
}

/// `0-3,8,10-11`. What doesn't parse is left out.
pub(super) fn cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            cpus.extend(first..=last.min(CPUS_MAX - 1));
        }
        if cpus.len() >= CPUS_MAX as usize {
            break;
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    cpus
}

/// One counter of `/proc/net/netstat` or `/proc/net/snmp`: a line of names, then a line of numbers, both
/// after the same `Prefix:`. By name, since every kernel has other columns.
pub(super) fn counter(text: &str, prefix: &str, name: &str) -> Option<u64> {
    let mut rows = text.lines().filter_map(|line| {
        let (row, fields) = line.split_once(':')?;
        (row == prefix).then_some(fields)
    });
    let column = rows.next()?.split_ascii_whitespace().position(|it| it == name)?;
    rows.next()?.split_ascii_whitespace().nth(column)?.parse().ok()
}

/// One counter of `/proc/net/snmp6`: a name and a number on each line.
pub(super) fn counter_v6(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim_start_matches([' ', '\t']).parse().ok())
}

/// `(stolen, all)` of the first line of `/proc/stat`, in ticks of all CPUs together. The time of guests,
/// behind them, is in `user` already.
pub(super) fn steal(text: &str) -> Option<(u64, u64)> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = fields.split_ascii_whitespace().take(8).map_while(|it| it.parse().ok()).collect();
    let all = ticks.iter().fold(0u64, |sum, it| sum.saturating_add(*it));
    Some((*ticks.get(7)?, all))
}

/// One socket of `/proc/net/tcp`, `tcp6`, `udp` or `udp6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Socket {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// As the kernel numbers TCP's states: 0A listens.
    pub state: u8,
    pub inode: u64,
    /// Bytes that were written and that the peer has not confirmed.
    pub tx_bytes: u64,
    /// Bytes that came and that nobody has read.
    pub rx_bytes: u64,
}

/// The sockets of `/proc/net/tcp`, `tcp6`, `udp` or `udp6`.
pub(super) fn sockets(text: &str) -> impl Iterator<Item = Socket> + '_ {
    text.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = address(fields.next()?)?;
        let remote = address(fields.next()?)?;
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let (tx, rx) = fields.next()?.split_once(':')?;
        let [tx_bytes, rx_bytes] = [tx, rx].map(|hex| u64::from_str_radix(hex, 16).unwrap_or(0));
        let inode = fields.nth(4)?.parse().ok()?;
        Some(Socket { local, remote, state, inode, tx_bytes, rx_bytes })
    })
}

/// `0100007F:1F90`. Each 32 bits of an address are in network order and printed as if they were in the
/// machine's; a port is printed as the number it is.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = [0; 16];
    if !(ip.is_ascii() && (ip.len() == 8 || ip.len() == 32)) {
        return None;
    }
    for (word, bytes) in bytes.chunks_exact_mut(4).take(ip.len() / 8).enumerate() {
        let word = u32::from_str_radix(&ip[8 * word..8 * word + 8], 16).ok()?;
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    let ip = match ip.len() {
        8 => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
        _ => IpAddr::from(bytes),
    };
    Some(SocketAddr::new(ip, port))
}

/// The listening sockets of `/proc/net/unix`: inode, and the path as it was given to bind(2), which may be
/// relative to a folder that we don't know here.
pub(super) fn unix_listeners(text: &str) -> impl Iterator<Item = (u64, &str)> {
    const ACCEPTS: u32 = 1 << 16;
    text.lines().skip(1).filter_map(|line| {
        let mut rest = line;
        let mut next = || {
            let (field, behind) = rest.trim_start_matches(' ').split_once(' ')?;
            rest = behind;
            Some(field)
        };
        let (_num, _references, _protocol) = (next()?, next()?, next()?);
        let flags = u32::from_str_radix(next()?, 16).ok()?;
        let (_type, _state) = (next()?, next()?);
        let inode = next()?.parse().ok()?;
        (flags & ACCEPTS != 0 && !rest.is_empty()).then_some((inode, rest))
    })
}

/// A name as the kernel has it may hold anything; where it is shown, it stays on its line.
pub(super) fn printable(name: &str) -> String {
    let name = name.strip_suffix('\n').unwrap_or(name);
    name.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The text of a file that fits in one read: all that are about one process or thread. They have no
/// length, so reading them as one reads a file asks the kernel to write them several times.
pub(super) fn read_small(path: &str) -> Option<String> {
    let mut buffer = [0; 4096];
    let read = File::open(path).and_then(|mut file| file.read(&mut buffer)).ok()?;
    Some(String::from_utf8_lossy(&buffer[..read]).into_owned())
}

/// The same of a file that is held open: it goes on being about the process that it was opened for, even
/// when that is gone and its number is another's. Without the process, it can't be read.
pub(super) fn read_again(file: &File) -> Option<String> {
    // A `status` lists the user's groups, and they may be many.
    let mut buffer = [0; 16 * 1024];
    let read = file.read_at(&mut buffer, 0).ok().filter(|read| *read > 0)?;
    Some(String::from_utf8_lossy(&buffer[..read]).into_owned())
}

/// The text of a file of any length.
pub(super) fn read_long(path: &str) -> Option<String> {
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
}

/// What a thread used up to now.
pub(super) fn usage(pid: u32, tid: u32) -> Option<Usage> {
    match read_small(&format!("/proc/{pid}/task/{tid}/schedstat")) {
        Some(text) => schedstat(&text),
        // A kernel that keeps no such statistics still counts time, in steps of 10 ms.
        None => {
            let stat = stat(&read_small(&format!("/proc/{pid}/task/{tid}/stat"))?)?;
            Some(Usage { run_ns: stat.cpu_ns, wait_ns: 0 })
        }
    }
}

/// The numbers that a folder's entries have for names: processes in `/proc`, threads in `/proc/PID/task`.
pub(super) fn numbers_in(folder: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_schedstat() {
        assert_eq!(schedstat("512 1024 3\n"), Some(Usage { run_ns: 512, wait_ns: 1024 }));
        for broken in ["", "\n", "1", "a b c", "-1 2 3", "99999999999999999999 1 1"] {
            assert_eq!(schedstat(broken), None, "{broken:?}");
        }
    }

    /// The fields of a real one behind its name.
    const BEHIND: &str = "S 31 42 42 0 -1 4194560 149 7 0 0 150 50 3 4 20 0 5 0 1234567 8523776 431 \
                          18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0";

    #[test]
    fn no_name_of_a_process_confuses_its_stat() {
        for name in ["nginx", "my server", "a) R 1 1 (b", "))) 1 2 3", "", "line\nend) Z 9", "(", "\u{fffd}"]
        {
            let found = stat(&format!("42 ({name}) {BEHIND}\n")).unwrap_or_else(|| panic!("{name:?}"));
            assert_eq!((found.state, found.parent), ('S', 31), "{name:?}");
            assert_eq!((found.cpu_ns, found.waited_children_ns), (2_000_000_000, 70_000_000), "{name:?}");
        }
    }

    #[test]
    fn a_stat_that_is_none() {
        for broken in ["", "42", "42 (x", "42 (x)", "42 (x) S", "42 (x) S 1 2 3", "42 (x) S a b c d"] {
            assert_eq!(stat(broken), None, "{broken:?}");
        }
        let much = format!("42 (x) {}", BEHIND.replace(" 150 50 ", " 18446744073709551615 50 "));
        assert_eq!(stat(&much).map(|it| it.cpu_ns), Some(u64::MAX));
    }

    #[test]
    fn a_processs_status() {
        let text = "Name:\tmy \\n server: VmRSS: 7 kB\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4711\n\
                    Ngid:\t0\nPid:\t4711\nVmPeak:\t    8328 kB\nVmRSS:\t    1684 kB\nThreads:\t12\n\
                    Cpus_allowed:\tf07\nCpus_allowed_list:\t0-2,8-11\n";
        let found = status(text).unwrap();
        assert_eq!((found.process, found.over, found.threads), (4711, false, 12));
        assert_eq!(found.rss_bytes, 1684 * 1024);
        assert_eq!(found.cpus_allowed, [0, 1, 2, 8, 9, 10, 11]);
    }

    #[test]
    fn a_process_that_has_ended_and_one_without_memory() {
        let found = status("Name:\tx\nState:\tZ (zombie)\nTgid:\t5\nThreads:\t1\n").unwrap();
        assert!(found.over && found.rss_bytes == 0 && found.cpus_allowed.is_empty());
        assert_eq!(status(""), None);
        assert_eq!(status("Tgid:\tx\n"), None);
    }

    #[test]
    fn lists_of_cpus() {
        for (text, cpus) in [
            ("0", vec![0]),
            ("0-3", vec![0, 1, 2, 3]),
            ("1,3,5-6\n", vec![1, 3, 5, 6]),
            ("3,1,1", vec![1, 3]),
            ("5-3", vec![]),
            ("", vec![]),
            ("a-b,-,7", vec![7]),
        ] {
            assert_eq!(cpu_list(text), cpus, "{text:?}");
        }
        assert_eq!(cpu_list("0-4294967295").len(), CPUS_MAX as usize);
        assert!(cpu_list(&"0-8191,".repeat(1000)).len() <= CPUS_MAX as usize);
    }

    #[test]
    fn counters_by_name_wherever_the_column_is() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPHPHits\nTcpExt: 1 41 42 9\n\
                    IpExt: InNoRoutes ListenDrops\nIpExt: 5 6\n";
        assert_eq!(counter(text, "TcpExt", "ListenOverflows"), Some(41));
        assert_eq!(counter(text, "TcpExt", "ListenDrops"), Some(42));
        assert_eq!(counter(text, "IpExt", "ListenDrops"), Some(6));
        assert_eq!(counter(text, "TcpExt", "InNoRoutes"), None);
        assert_eq!(counter(text, "Tcp", "ListenDrops"), None);
        assert_eq!(counter("TcpExt: A B\nTcpExt: 1\n", "TcpExt", "B"), None);
        assert_eq!(counter("TcpExt: A\n", "TcpExt", "A"), None);
        // `MaxConn` is the one that may be negative.
        assert_eq!(counter("Tcp: MaxConn RetransSegs\nTcp: -1 55797\n", "Tcp", "RetransSegs"), Some(55797));
        let snmp6 = "Udp6RcvbufErrors\t7\nUdp6SndbufErrors                \t13\nUdpLite6SndbufErrors 1\n";
        assert_eq!(counter_v6(snmp6, "Udp6SndbufErrors"), Some(13));
        assert_eq!(counter_v6(snmp6, "Udp6RcvbufErrors"), Some(7));
        assert_eq!(counter_v6(snmp6, "Udp6InErrors"), None);
    }

    #[test]
    fn stolen_time() {
        let text = "cpu  100 10 50 700 20 0 20 100 5 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(steal(text), Some((100, 1000)));
        assert_eq!(steal("cpu  1 2 3 4\n"), None);
        assert_eq!(steal("cpu0 1 2 3 4 5 6 7 8\n"), None);
        assert_eq!(steal(""), None);
    }

    /// Rows as x86 and ARM print them; on a machine of the other order the words are the other way round.
    #[cfg(target_endian = "little")]
    #[test]
    fn sockets_and_their_addresses() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  \
                    timeout inode\n\
                    \x20  0: 0100007F:1F90 00000000:0000 0A 00000010:00000A00 00:00000000 00000000     \
                    0        0 17 1 00000000cfb291db 100 0 0 10 0\n\
                    \x20  1: 020200C0:B9EC 507100CB:01BB 01 00000000:00000000 00:00000000 00000000  \
                    1000        0 4701874 1 00000000eb0c6c7e 20 4 1 103 -1\n\
                    \x20  2: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 0A \
                    00000000:00000000 00:00000000 00000000  0  0 99 1 0000000000000000 100 0 0 10 0\n\
                    \x20  3: nonsense:1 x\n   4:\n\n";
        let found: Vec<Socket> = sockets(text).collect();
        assert_eq!((found[0].tx_bytes, found[0].rx_bytes), (16, 2560));
        let shown: Vec<_> = found
            .iter()
            .map(|it| (it.local.to_string(), it.remote.to_string(), it.state, it.inode))
            .collect();
        let expected = [
            ("127.0.0.1:8080", "0.0.0.0:0", 0x0A, 17),
            ("192.0.2.2:47596", "203.0.113.80:443", 1, 4_701_874),
            ("[::1]:53", "[::]:0", 0x0A, 99),
        ];
        let expected: Vec<_> = expected.map(|(l, r, s, i)| (l.to_owned(), r.to_owned(), s, i)).into();
        assert_eq!(shown, expected);
    }

    #[test]
    fn addresses_that_are_none() {
        for broken in ["", ":", "0100007F", "0100007F:1F90F", "0100007:1F90", "zzzzzzzz:0050", "ää:50"] {
            assert_eq!(address(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn unix_listeners_and_the_oddest_paths() {
        let text = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    000000009afa0ca5: 00000003 00000000 00000000 0001 03 4701880\n\
                    00000000854d6c2e: 00000003 00000000 00000000 0001 03  1678 /run/connected\n\
                    0000000000000001: 00000002 00000000 00010000 0001 01  1679 /run/my server.sock\n\
                    0000000000000002: 00000002 00000000 00010000 0001 01 1680 @abstract\n\
                    0000000000000003: 00000002 00000000 00010000 0001 01 1681\n\
                    0000000000000004: 00000002 00000000 00010000 0001 01 1682 two\nlines.sock\n\
                    0000000000000005: x\n";
        let found: Vec<_> = unix_listeners(text).collect();
        assert_eq!(found, [(1679, "/run/my server.sock"), (1680, "@abstract"), (1682, "two")]);
    }

    #[test]
    fn names_stay_on_their_line() {
        assert_eq!(printable("nginx\n"), "nginx");
        assert_eq!(printable("a b\u{1b}[2J\nc\n"), "a b\\u{1b}[2J\\nc");
        assert_eq!(printable(""), "");
    }

    #[test]
    fn this_thread_has_used_something_at_some_time() {
        let us = std::process::id();
        let status = status(&read_small("/proc/self/status").unwrap()).unwrap();
        assert_eq!(status.process, us);
        assert!(status.rss_bytes > 0 && !status.cpus_allowed.is_empty() && !status.over);
        assert!(numbers_in(&format!("/proc/{us}/task")).any(|tid| usage(us, tid).is_some()));
        assert_eq!(
            stat(&read_small("/proc/self/stat").unwrap()).unwrap().parent,
            std::os::unix::process::parent_id()
        );
        assert_eq!(numbers_in("/proc/no such folder").count(), 0);
    }
}
