//! The verbs of the black-box tests: a server run as its users run it, and clients who talk to it.
//!
//! Each wait is for something to happen, and ends when [`PATIENCE`] runs out; it is long, and only
//! a test that fails spends it. To let things happen *together*, a test pauses the server (SIGSTOP),
//! prepares them, and lets it go on: then they lie in one batch, however busy the machine is.
//!
//! Invariant: a child is ended and waited for when its [`Server`] is dropped, whatever the test came to.

#![allow(dead_code)] // each test file uses its part of the verbs

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

#[cfg(feature = "load")]
pub(crate) mod bench;
#[cfg(feature = "web")]
pub(crate) mod browser;
#[cfg(feature = "load")]
pub(crate) mod crooked;
pub(crate) mod http;
pub(crate) mod ladder;
#[cfg(feature = "tls")]
pub(crate) mod tls;

pub(crate) use nix::sys::signal::Signal;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::kill;
use nix::sys::socket::{ControlMessage, MsgFlags, send, sendmsg};
use nix::unistd::Pid;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// How long anything may take before the test gives up, on the busiest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where tests mostly listen: a free port.
pub(crate) const TCP: &str = "tcp://127.0.0.1:0";
pub(crate) const LINES: &str = "tcp+lines://127.0.0.1:0";
pub(crate) const PREFIXED: &str = "tcp+prefixed://127.0.0.1:0";
pub(crate) const UDP: &str = "udp://127.0.0.1:0";

pub(crate) const MIB: usize = 1024 * 1024;

/// A switchboard that is running and listens.
pub(crate) struct Server {
    child: Child,
    /// The process that serves: the child, or a child of that.
    id: u32,
    said: Arc<Lines>,
    log: Option<Arc<Lines>>,
    urls: Vec<String>,
    ended: bool,
}

impl Server {
    /// Runs `switchboard` with these arguments; returns when it has said where it listens.
    pub(crate) fn start<A: AsRef<OsStr>>(arguments: &[A]) -> Server {
        let mut server = Server::start_unheard(arguments);
        server.read_log();
        server
    }

    /// The same, with a standard error that nobody reads.
    pub(crate) fn start_unheard<A: AsRef<OsStr>>(arguments: &[A]) -> Server {
        let listeners = arguments.iter().filter(|argument| argument.as_ref() == "--listen").count();
        Server::start_command(switchboard().args(arguments), listeners)
    }

    /// Runs a command that becomes a switchboard and writes where it listens, one line for each of `listeners`. Its
    /// standard error is a pipe that nobody reads yet, and that holds little.
    pub(crate) fn start_command(command: &mut Command, listeners: usize) -> Server {
        Server::start_activated(command.stdin(Stdio::null()), listeners)
    }

    /// The same, with another standard output, which says nothing to us.
    pub(crate) fn start_with_output(command: &mut Command, output: Stdio) -> Server {
        command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
        let child = command.spawn().expect("the program can be started");
        Server {
            id: child.id(),
            child,
            said: Lines::read(io::empty()),
            log: None,
            urls: Vec::new(),
            ended: false,
        }
    }

    /// The same, with the standard input that it has.
    pub(crate) fn start_activated(command: &mut Command, listeners: usize) -> Server {
        Server::start_piped(command.stderr(Stdio::piped()), listeners)
    }

    /// Runs a command with the standard error that it has, and one listener.
    pub(crate) fn start_with_error_elsewhere(command: &mut Command) -> Server {
        Server::start_piped(command, 1)
    }

    fn start_piped(command: &mut Command, listeners: usize) -> Server {
        let started = Server::start_or_end(command, listeners, false);
        started.unwrap_or_else(|End { said, log, .. }| {
            panic!("{listeners} ready lines were expected, not {said:?}; the log: {log:#?}")
        })
    }

    /// Runs a command that becomes a switchboard with this number of listeners, and reads its standard error. Returns its end
    /// where it ends before it listens everywhere.
    pub(crate) fn try_start(command: &mut Command, listeners: usize) -> Result<Server, End> {
        Server::start_or_end(command.stdin(Stdio::null()).stderr(Stdio::piped()), listeners, true)
    }

    fn start_or_end(command: &mut Command, listeners: usize, reads_log: bool) -> Result<Server, End> {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program can be started");
        #[cfg(target_os = "linux")]
        if let Some(stderr) = &child.stderr {
            fcntl(stderr, FcntlArg::F_SETPIPE_SZ(4096)).expect("the log has hardly begun");
        }
        let said = Lines::read(child.stdout.take().expect("stdout is piped"));
        // From here on the child is in the guard: a panic below does not leak it.
        let mut server = Server { id: child.id(), child, said, log: None, urls: Vec::new(), ended: false };
        if reads_log {
            server.read_log();
        }
        let ready = until("the ready lines", || {
            let (lines, ended) = server.said.so_far();
            (lines.len() >= listeners || ended).then_some(lines)
        });
        if ready.len() != listeners {
            server.read_log();
            if ready.len() > listeners {
                let _ = server.child.kill();
            }
            return Err(server.wait());
        }
        for line in &ready {
            let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("what is {line:?}?"));
            server.urls.push(url.to_owned());
        }
        Ok(server)
    }

    /// An echo server on a free TCP port.
    pub(crate) fn echo() -> Server {
        Server::start(&["serve", "echo", "--listen", TCP])
    }

    /// Begins to read its standard error.
    pub(crate) fn read_log(&mut self) {
        if let Some(stderr) = self.child.stderr.take() {
            self.log = Some(Lines::read(stderr));
        }
    }

    /// Closes the reading end of its standard error.
    pub(crate) fn break_log(&mut self) {
        drop(self.child.stderr.take().expect("nobody reads it yet"));
    }

    /// The URLs of the ready lines.
    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The URL of the first ready line.
    pub(crate) fn url(&self) -> &str {
        &self.urls[0]
    }

    /// The address of a TCP or UDP listener.
    pub(crate) fn address(&self, listener: usize) -> SocketAddr {
        address(&self.urls[listener])
    }

    /// Connects one more client to the first listener.
    pub(crate) fn call(&self) -> Client {
        Client::to(self.url())
    }

    /// Connects one more client to the listener of this ready line.
    pub(crate) fn call_at(&self, listener: usize) -> Client {
        Client::to(&self.urls[listener])
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("our own child is there until we wait for it");
    }

    /// Stops its clock: whatever happens from now on, happens together when it goes on.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        until("the server to pause", || (self.state() == 'T').then_some(()));
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(mut self) -> End {
        let what = "the server to end";
        let status = until(what, || self.child.try_wait().expect("a child can be waited for"));
        self.ended = true;
        if let Some(log) = &self.log {
            log.to_the_end();
        }
        let end = End { code: status.code(), log: self.log(), said: self.said.to_the_end() };
        assert!(!end.log.iter().any(|line| line.contains("panicked")), "it panics: {:#?}", end.log);
        end
    }

    /// SIGTERM, and what comes of it: that must be a clean end.
    pub(crate) fn stop(self) -> End {
        self.signal(Signal::SIGTERM);
        let end = self.wait();
        assert_eq!(end.code, Some(0), "after SIGTERM; the log: {:#?}", end.log);
        end
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.as_ref().map_or_else(Vec::new, |log| log.so_far().0)
    }

    /// Waits until it logs something that contains `text`.
    pub(crate) fn logs(&self, text: &str) {
        self.log_until(&format!("{text:?} in the log"), |lines| {
            lines.iter().any(|line| line.contains(text)).then_some(())
        });
    }

    /// Asks for a summary (SIGUSR1).
    pub(crate) fn summary(&self) -> Summary {
        let summaries = |lines: &[String]| lines.iter().filter(|line| is_summary(line)).count();
        let before = summaries(&self.log());
        self.signal(Signal::SIGUSR1);
        self.log_until("a summary in the log", |lines| {
            lines.iter().filter(|line| is_summary(line)).nth(before).map(|line| Summary(line.clone()))
        })
    }

    /// Waits until a summary says this.
    pub(crate) fn summary_until(&self, what: &str, mut condition: impl FnMut(&Summary) -> bool) -> Summary {
        until(what, || Some(self.summary()).filter(&mut condition))
    }

    /// Waits until the loop has come to rest: nothing moves, and the turns are those of our asking.
    pub(crate) fn at_rest(&self) -> Summary {
        let moved = |summary: &Summary| (summary.of("bytes in"), summary.bytes_out());
        let mut last = self.summary();
        let deadline = Instant::now() + PATIENCE;
        loop {
            thread::sleep(Duration::from_millis(50)); // for things that are under way in the kernel
            let summary = self.summary();
            if moved(&summary) == moved(&last) && summary.of("turns") <= last.of("turns") + 4 {
                return summary;
            }
            assert!(Instant::now() < deadline, "the loop does not come to rest: {last:?}, {summary:?}");
            last = summary;
        }
    }

    /// What it holds in memory.
    #[cfg(target_os = "linux")]
    pub(crate) fn rss(&self) -> usize {
        const PAGE_BYTES: usize = 4096; // at least: an underestimate lets a test pass, and never fails one
        let statm = self.proc("statm");
        let pages: usize = statm.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("a number");
        pages * PAGE_BYTES
    }

    /// The most that it has ever held in memory.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak_rss(&self) -> usize {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel keeps it");
        let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }

    /// How long it has kept a core busy since it started.
    #[cfg(target_os = "linux")]
    pub(crate) fn cpu(&self) -> Duration {
        const TICK: Duration = Duration::from_millis(10); // USER_HZ is 100 wherever Linux runs
        let stat = self.proc("stat");
        let (_, fields) = stat.rsplit_once(") ").expect("the name stands in brackets");
        let times = fields.split(' ').skip(11).take(2); // user and system
        TICK * times.map(|time| time.parse::<u32>().expect("a number")).sum()
    }

    /// The numbers of its open descriptors, in order.
    #[cfg(target_os = "linux")]
    pub(crate) fn descriptors(&self) -> Vec<u32> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.id)).expect("it is our child");
        let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        let mut numbers: Vec<u32> = entries.filter_map(name).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The lowest number that a descriptor could get next.
    #[cfg(target_os = "linux")]
    pub(crate) fn next_descriptor(&self) -> usize {
        let numbers = self.descriptors();
        (0..)
            .zip(&numbers)
            .find(|(free, taken)| free != *taken)
            .map_or(numbers.len(), |(free, _)| free as usize)
    }

    /// Gives the running server another limit of descriptors: numbers below it may be opened.
    #[cfg(target_os = "linux")]
    pub(crate) fn limit_descriptors(&self, limit: usize) {
        let status = Command::new("prlimit")
            .args([&format!("--pid={}", self.id), &format!("--nofile={limit}:")])
            .status()
            .expect("prlimit (util-linux) is installed");
        assert!(status.success());
    }

    /// The command runs the server as its only child, as strace does: signals are for that one.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_run_by_its_command(&mut self) {
        let parent = self.child.id().to_string();
        let is_child = |id: &u32| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(1)) == Some(&parent)
        };
        let entries = fs::read_dir("/proc").expect("it is mounted");
        let mut ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        self.id = ids.find(is_child).expect("it runs");
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.id as i32)
    }

    fn state(&self) -> char {
        let stat = self.proc("stat");
        stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next()).expect("a state")
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.id)).expect("it is our child")
    }

    pub(crate) fn log_until<T>(&self, what: &str, probe: impl Fn(&[String]) -> Option<T>) -> T {
        let log = self.log.as_ref().expect("somebody reads the log");
        log.until(&probe).unwrap_or_else(|| panic!("waited in vain for {what}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        if let Ok(None) = ended {
            let _ = kill(self.pid(), Signal::SIGKILL); // it may be a child of the child
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(log) = &self.log {
            log.to_the_end();
        }
        if thread::panicking() {
            let log = self.log();
            let panicked = log.iter().position(|line| line.contains("panicked"));
            let shown = panicked.unwrap_or(log.len().saturating_sub(30));
            eprintln!("the end of the log: {:#?}", &log[shown..log.len().min(shown + 60)]);
        } else if !self.ended {
            assert!(matches!(ended, Ok(None)), "the server ended by itself: {ended:?}, {:#?}", self.log());
            assert!(!self.log().iter().any(|line| line.contains("panicked")), "{:#?}", self.log());
        }
    }
}

/// How a server ended.
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    /// Standard error, by lines.
    pub(crate) log: Vec<String>,
    /// Standard output, by lines.
    pub(crate) said: Vec<String>,
}

impl End {
    /// Its last summary.
    pub(crate) fn summary(&self) -> Summary {
        let last = self.log.iter().rfind(|line| is_summary(line));
        Summary(last.unwrap_or_else(|| panic!("a summary at the end: {:#?}", self.log)).clone())
    }
}

fn is_summary(line: &str) -> bool {
    line.contains("] summary: ")
}

/// The line of what has happened so far.
#[derive(Debug, Clone)]
pub(crate) struct Summary(String);

impl Summary {
    /// The number behind these words, as in "accepted 3"; 0 where they are not mentioned.
    pub(crate) fn of(&self, words: &str) -> u64 {
        let number = self.text_after(words);
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        number[..end].parse().unwrap_or(0)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// All that stands behind these words.
    fn text_after(&self, words: &str) -> &str {
        let places = [format!(" {words} "), format!("({words} ")];
        places.iter().find_map(|place| self.0.split_once(place.as_str())).map_or("", |(_, rest)| rest)
    }

    /// The number of bytes that went out, on connections and in datagrams.
    pub(crate) fn bytes_out(&self) -> u64 {
        let rest = self.text_after("bytes in");
        let (_, out) = rest.split_once("out ").unwrap_or_else(|| panic!("bytes out in {self:?}"));
        out.split(',').next().and_then(|number| number.parse().ok()).expect("a number")
    }
}

/// Somebody on the other end of a connection.
pub(crate) struct Client {
    socket: Socket,
}

impl Client {
    /// Connects to the URL of a ready line.
    pub(crate) fn to(url: &str) -> Client {
        Client::prepared(url, |_| ())
    }

    /// Connects with a socket that was told something before.
    pub(crate) fn prepared(url: &str, prepare: impl FnOnce(&Socket)) -> Client {
        Client::try_prepared(url, prepare).unwrap_or_else(|error| panic!("cannot connect to {url}: {error}"))
    }

    /// Connects, unless nobody listens there.
    pub(crate) fn try_to(url: &str) -> io::Result<Client> {
        Client::try_prepared(url, |_| ())
    }

    fn try_prepared(url: &str, prepare: impl FnOnce(&Socket)) -> io::Result<Client> {
        let unix = url.split_once(':').filter(|(scheme, _)| scheme.starts_with("unix"));
        let address = match unix {
            Some((_, path)) => SockAddr::unix(path)?,
            None => address(url).into(),
        };
        let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM, None)?;
        prepare(&socket);
        match unix {
            Some(_) => socket.connect(&address)?,
            None => {
                socket.set_tcp_nodelay(true)?;
                socket.connect_timeout(&address, PATIENCE)?;
            }
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { socket })
    }

    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("the server takes what we say");
    }

    /// Says it from another thread, which can take as long as it likes.
    pub(crate) fn say_aside(&self, bytes: Vec<u8>) -> JoinHandle<Client> {
        let mut aside = self.aside();
        thread::spawn(move || {
            aside.say(bytes);
            aside
        })
    }

    /// Says it from another thread, or as much of it as the server lets us say, and our end of file.
    pub(crate) fn say_the_last_aside(&self, bytes: Vec<u8>) {
        let mut aside = self.aside();
        thread::spawn(move || {
            if aside.socket.write_all(&bytes).is_ok() {
                let _ = aside.socket.shutdown(Shutdown::Write);
            }
        });
    }

    /// Another handle on the same connection.
    pub(crate) fn aside(&self) -> Client {
        Client { socket: self.socket.try_clone().expect("a descriptor is free") }
    }

    /// Says as much as is taken, at most all of it, and returns how much that was.
    pub(crate) fn say_what_is_taken(&mut self, bytes: &[u8]) -> usize {
        self.socket.set_nonblocking(true).expect("the socket is ours");
        let mut taken = 0;
        while taken < bytes.len() {
            match self.socket.write(&bytes[taken..]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("after {taken} bytes: {error}"),
            }
        }
        self.socket.set_nonblocking(false).expect("the socket is ours");
        taken
    }

    /// Says it again and again, until the connection breaks.
    pub(crate) fn say_until_it_breaks(&mut self, bytes: &[u8]) {
        while self.socket.write(bytes).is_ok() {}
    }

    /// One byte of TCP urgent data.
    #[cfg(target_os = "linux")]
    pub(crate) fn shout(&mut self, byte: u8) {
        let sent = send(self.socket.as_raw_fd(), &[byte], MsgFlags::MSG_OOB);
        assert_eq!(sent, Ok(1));
    }

    /// Says it, and passes a descriptor along (SCM_RIGHTS).
    pub(crate) fn say_and_pass(&mut self, bytes: &[u8], descriptor: BorrowedFd<'_>) {
        let (message, descriptors) = ([IoSlice::new(bytes)], [descriptor.as_raw_fd()]);
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let sent = sendmsg::<()>(self.socket.as_raw_fd(), &message, &rights, MsgFlags::empty(), None::<&()>);
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// Hears exactly this.
    pub(crate) fn hear(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let heard = self.hear_exactly(expected.len());
        assert_same(&heard, expected);
    }

    /// Hears `count` bytes.
    pub(crate) fn hear_exactly(&mut self, count: usize) -> Vec<u8> {
        let mut heard = vec![0; count];
        let mut filled = 0;
        while filled < count {
            match self.socket.read(&mut heard[filled..]) {
                Ok(0) => panic!("the end after {:?}, of {count} bytes", shown(&heard[..filled])),
                Ok(more) => filled += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} after {:?}, of {count} bytes", shown(&heard[..filled])),
            }
        }
        heard
    }

    /// Hears everything up to and with this text.
    #[track_caller]
    pub(crate) fn hear_until(&mut self, text: &str) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(text.as_bytes()) {
            heard.extend(self.hear_exactly(1));
        }
        String::from_utf8(heard).expect("it is text")
    }

    /// Whether the connection has not ended, whatever waits to be heard.
    pub(crate) fn is_still_connected(&mut self) -> bool {
        self.socket.set_nonblocking(true).expect("the socket is ours");
        let outcome = loop {
            match self.socket.read(&mut [0; 64 * 1024]) {
                Ok(0) => break false,
                Ok(_) => {}
                Err(error) => break error.kind() == ErrorKind::WouldBlock,
            }
        };
        self.socket.set_nonblocking(false).expect("the socket is ours");
        outcome
    }

    /// Hears whatever comes next, and says how much that was; 0 at the end.
    pub(crate) fn hear_some(&mut self) -> usize {
        self.socket.read(&mut [0; 64 * 1024]).expect("something, or the end")
    }

    /// Says it, and hears the same.
    pub(crate) fn echo(&mut self, bytes: impl AsRef<[u8]>) {
        self.say(bytes.as_ref());
        self.hear(bytes);
    }

    /// Hears everything up to the server's end of file.
    pub(crate) fn hear_until_the_end(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        match self.socket.read_to_end(&mut heard) {
            Ok(_) => heard,
            Err(error) => panic!("{error} instead of the end, after {:?}", shown(&heard)),
        }
    }

    /// Says it, reads until this text has come, says no more, and reads to the end.
    pub(crate) fn try_conversation(mut self, said: &str, until: &str) -> io::Result<()> {
        self.socket.write_all(said.as_bytes())?;
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains(until) {
            let mut block = [0; 4096];
            match self.socket.read(&mut block)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                count => heard.extend_from_slice(&block[..count]),
            }
        }
        self.socket.shutdown(Shutdown::Write)?;
        self.socket.read_to_end(&mut heard).map(drop)
    }

    /// The server's end of file, with nothing before it.
    pub(crate) fn hear_end(&mut self) {
        let rest = self.hear_until_the_end();
        assert!(rest.is_empty(), "{:?} before the end", shown(&rest));
    }

    /// The connection is over, in order or not, after whatever came.
    pub(crate) fn hear_it_break(&mut self) {
        let mut heard = Vec::new();
        match self.socket.read_to_end(&mut heard) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error} instead of an end, after {:?}", shown(&heard)),
        }
    }

    /// Whether something came, be it the end of file, before this time was over.
    pub(crate) fn hears_something_within(&mut self, time: Duration) -> bool {
        self.socket.set_read_timeout(Some(time)).expect("not zero");
        let heard = self.socket.peek(&mut [std::mem::MaybeUninit::uninit()]);
        self.socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        match heard {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Hears nothing, not even the end, for so long.
    pub(crate) fn hear_nothing_for(&mut self, time: Duration) {
        assert!(!self.hears_something_within(time), "there is something to hear");
    }

    /// Our FIN: we say no more, and still listen.
    pub(crate) fn half_close(&mut self) {
        self.socket.shutdown(Shutdown::Write).expect("the connection stands");
    }

    /// Goes away altogether, and hears nothing any more.
    pub(crate) fn hang_up(self) {}

    /// Ends the connection by a reset (RST), as a crash would.
    pub(crate) fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).expect("the socket is ours");
    }
}

/// A client who has said as much as goes, and read nothing of the echo: bytes wait everywhere. Says how
/// many it was. Over a Unix socket, for TCP's send buffer grows up to several mebibytes.
pub(crate) fn stuck_client(server: &Server, url: &str, said: &[u8]) -> (Client, usize) {
    let mut client = Client::to(url);
    let mut taken = 0;
    loop {
        let count = client.say_what_is_taken(&said[taken..]);
        taken += count;
        assert!(taken < said.len(), "the server takes everything, and never waits for its reader");
        let summary = server.at_rest();
        if count == 0 {
            assert!(summary.bytes_out() < summary.of("bytes in"), "nothing waits: {summary:?}");
            return (client, taken);
        }
    }
}

/// Keeps the kernel's buffers on the client's side small, so that a server soon meets its own limits.
pub(crate) fn small_buffers(socket: &Socket) {
    socket.set_recv_buffer_size(4 * 1024).expect("the socket is ours");
    socket.set_send_buffer_size(16 * 1024).expect("the socket is ours");
}

/// A sender of datagrams that is connected to the server's address.
pub(crate) fn datagrams_to(address: SocketAddr) -> UdpSocket {
    let local: SocketAddr =
        if address.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" }.parse().expect("an address");
    let socket = UdpSocket::bind(local).expect("a port is free");
    socket.connect(address).expect("nothing is sent yet");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    SockRef::from(&socket).set_recv_buffer_size(MIB).expect("the socket is ours");
    socket
}

/// Runs `switchboard` with arguments that don't make it serve.
pub(crate) fn run<A: AsRef<OsStr>>(arguments: &[A]) -> Output {
    run_command(switchboard().args(arguments))
}

/// Runs a command that ends by itself.
pub(crate) fn run_command(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it can be started");
    let mut guard = Killed(child);
    let child = &mut guard.0;
    let stdout = child.stdout.take().map(Lines::read);
    let stderr = child.stderr.take().map(Lines::read);
    let status = until("it to end", || child.try_wait().expect("a child can be waited for"));
    let text = |lines: Option<Arc<Lines>>| lines.map_or(String::new(), |lines| lines.to_the_end().join("\n"));
    Output { status, stdout: text(stdout).into(), stderr: text(stderr).into() }
}

/// The program.
pub(crate) fn switchboard() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard"));
    command.stdout(Stdio::piped()).env_remove("RUST_LOG");
    command
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory for sockets, removed with everything in it.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("switchboard-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("the name is new");
        Directory(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The URL of a Unix socket in here.
    pub(crate) fn url(&self, scheme: &str, name: &str) -> String {
        format!("{scheme}:{}", self.path(name).display())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `count` bytes that are unlike those of any other seed, at every offset.
pub(crate) fn pattern(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        // xorshift64*: any cheap generator whose output does not repeat would do.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// With lengths that show the first difference, and not five mebibytes.
#[track_caller]
pub(crate) fn assert_same(heard: &[u8], expected: &[u8]) {
    if heard == expected {
        return;
    }
    let at = heard.iter().zip(expected).take_while(|(heard, expected)| heard == expected).count();
    panic!(
        "heard {} bytes instead of {}; from {at} on {:?} instead of {:?}",
        heard.len(),
        expected.len(),
        shown(&heard[at..]),
        shown(&expected[at..]),
    );
}

/// The beginning of some bytes, for a message.
fn shown(bytes: &[u8]) -> String {
    let beginning = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
    match bytes.len() {
        0..=80 => beginning,
        count => format!("{beginning}... ({count} bytes)"),
    }
}

/// Raises our own limit to at least `count` descriptors, if we may.
pub(crate) fn need_descriptors(count: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    assert!(count <= hard, "this test needs {count} descriptors, and the hard limit is {hard}");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit it may be raised");
}

/// A port for tests that must know it before it is bound. None of those that the kernel picks: one that was free a moment ago
/// may be another test's now.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let is_free = |port: &u16| {
        TcpListener::bind(("0.0.0.0", *port)).is_ok() && UdpSocket::bind(("0.0.0.0", *port)).is_ok()
    };
    let first = std::process::id().wrapping_mul(37);
    let mut ports = (0..12_000).map(|_| {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        20_000 + (number % 12_000) as u16
    });
    ports.find(is_free).expect("some are free")
}

/// How many connections the kernel holds for a listener, at most.
pub(crate) fn backlog_max() -> usize {
    let somaxconn = fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    somaxconn.and_then(|text| text.trim().parse().ok()).unwrap_or(128)
}

/// Asks again and again, until there is an answer.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn address(url: &str) -> SocketAddr {
    let address = url.split_once("://").and_then(|(_, address)| address.parse().ok());
    address.unwrap_or_else(|| panic!("{url} has an address"))
}

/// What a child says, by lines, read in a thread, so that it is never held up by a full pipe.
#[derive(Default)]
struct Lines {
    /// The lines, and whether that was the end.
    heard: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Lines {
    fn read(from: impl Read + Send + 'static) -> Arc<Lines> {
        let lines = Arc::new(Lines::default());
        let writer = Arc::clone(&lines);
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            loop {
                line.clear();
                let count = from.read_until(b'\n', &mut line).unwrap_or(0);
                let mut heard = writer.heard.lock().expect("nobody panics with it");
                match count {
                    0 => heard.1 = true,
                    _ => {
                        let line = line.strip_suffix(b"\n").unwrap_or(&line);
                        heard.0.push(String::from_utf8_lossy(line).into_owned());
                    }
                }
                writer.more.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        lines
    }

    /// The lines so far, and whether that was the end.
    fn so_far(&self) -> (Vec<String>, bool) {
        self.heard.lock().expect("nobody panics with it").clone()
    }

    /// Waits for an answer in the lines; `None` if there will be none.
    fn until<T>(&self, probe: &impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = self.heard.lock().expect("nobody panics with it");
        loop {
            if let Some(answer) = probe(&heard.0) {
                return Some(answer);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if heard.1 || left.is_zero() {
                return None;
            }
            heard = self.more.wait_timeout(heard, left).expect("nobody panics with it").0;
        }
    }

    /// All lines, when the child has closed its end (or nothing more has come for long).
    fn to_the_end(&self) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = self.heard.lock().expect("nobody panics with it");
        while !heard.1 && Instant::now() < deadline {
            heard = self.more.wait_timeout(heard, Duration::from_millis(100)).expect("nobody panics").0;
        }
        heard.0.clone()
    }
}

/// Whether this machine speaks IPv6 to itself; a test that needs it says so and passes where not.
pub(crate) fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

/// Whether a path exists, be it a dangling link.
pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
