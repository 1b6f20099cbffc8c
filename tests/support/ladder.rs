//! A rung of the examples' ladder, run as a child process, and a caller who talks to it.
//!
//! Nothing here sleeps and hopes. Each wait is for something to happen, and ends when [`PATIENCE`] runs
//! out, which is long: only a test that fails spends it.
//!
//! Invariant: a child is killed and waited for when its [`Rung`] is dropped, whatever the test came to.

use std::fmt::Debug;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, SockRef, Socket, Type};

/// How long anything may take before the test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An example that is running and listens.
pub(crate) struct Rung {
    child: Child,
    address: SocketAddr,
    /// Its standard output, line by line.
    answers: Receiver<String>,
    /// Its standard error, line by line.
    complaints: Receiver<String>,
    /// It was told to stop.
    stopped: bool,
}

impl Rung {
    /// Starts the example of this name on a free port, and returns once it says that it listens.
    pub(crate) fn start(name: &str) -> Rung {
        Rung::from_command("tcp", Command::new(example(name)).arg("127.0.0.1:0"))
    }

    /// The same with these arguments, of which the first is a URL of its own with port 0.
    pub(crate) fn start_with(name: &str, arguments: &[&str]) -> Rung {
        let (scheme, _) = arguments[0].split_once("://").expect("the first is a URL");
        Rung::from_command(scheme, Command::new(example(name)).args(arguments))
    }

    /// Starts it with at most `descriptors_max` descriptors.
    pub(crate) fn start_with_descriptors(name: &str, descriptors_max: usize) -> Rung {
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"ulimit -n "$0" && exec "$@""#])
            .arg(descriptors_max.to_string())
            .arg(example(name))
            .arg("127.0.0.1:0");
        Rung::from_command("tcp", &mut command)
    }

    fn from_command(scheme: &str, command: &mut Command) -> Rung {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let answers = lines(child.stdout.take().expect("stdout is piped"));
        let complaints = lines(child.stderr.take().expect("stderr is piped"));
        // From here on the child is in the guard: a panic below does not leak it.
        let address = ([127, 0, 0, 1], 0).into();
        let mut rung = Rung { child, address, answers, complaints, stopped: false };
        rung.address = rung.listens_at(scheme);
        rung
    }

    /// Waits for the line in which it says where it listens; if it does so in several places, for the next
    /// of those lines. The first one is where callers call.
    pub(crate) fn listens_at(&self, scheme: &str) -> SocketAddr {
        let ready = self.answers.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let complaints: Vec<_> = self.complaints.try_iter().collect();
            panic!("it does not say that it listens; it says {complaints:?}")
        });
        let address: SocketAddr = ready
            .strip_prefix(&format!("listening on {scheme}://"))
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("it should say where it listens with {scheme}; it says {ready:?}"));
        assert_ne!(address.port(), 0, "it should name the real port");
        address
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connects one more caller.
    pub(crate) fn call(&self) -> Caller {
        self.call_at(self.address)
    }

    /// Connects one more caller to this address of the server.
    pub(crate) fn call_at(&self, address: SocketAddr) -> Caller {
        self.caller(TcpStream::connect(address).expect("a listening server has a backlog"))
    }

    /// Connects a caller to whom the server can send only small segments, and few of them before it reads.
    pub(crate) fn call_narrowly(&self) -> Caller {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is free");
        // Before connecting: it is the SYN that tells the other side.
        socket.set_tcp_mss(536).expect("the socket is new");
        socket.set_recv_buffer_size(4096).expect("the socket is new");
        socket.connect(&self.address.into()).expect("a listening server has a backlog");
        self.caller(socket.into())
    }

    fn caller(&self, stream: TcpStream) -> Caller {
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        Caller { stream }
    }

    /// Waits for a line on standard error that contains `text`.
    pub(crate) fn complains_of(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self
                .complaints
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .unwrap_or_else(|error| panic!("no complaint of {text:?}: {error}"));
            assert_no_panic(&line);
            if line.contains(text) {
                return;
            }
        }
    }

    /// Asserts that it has written at most `count` more lines to standard error so far.
    pub(crate) fn has_complaints_at_most(&self, count: usize) {
        let complaints: Vec<_> = self.complaints.try_iter().collect();
        assert!(complaints.len() <= count, "it complains of {complaints:?}");
    }

    /// Stops it or lets it go on, say.
    pub(crate) fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.id() as i32);
        kill(process, signal).expect("the child is ours and has not been waited for");
    }

    /// Tells it to end, with SIGTERM, and waits until it has; its exit code.
    pub(crate) fn stop(self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGCONT); // it may stand still
        self.wait()
    }

    /// Waits until it has ended by itself; its exit code.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.stopped = true;
        // Its standard output ends when it does.
        let ended = loop {
            if let Err(error) = self.answers.recv_timeout(PATIENCE) {
                break error;
            }
        };
        assert_eq!(ended, RecvTimeoutError::Disconnected, "it does not stop");
        self.child.wait().expect("a child can be waited for").code()
    }

    /// What the child holds in memory; where there is no /proc, nothing.
    pub(crate) fn memory_bytes(&self) -> u64 {
        const PAGE_BYTES: u64 = 4096; // At least: an underestimate lets a test pass, and never fails one.
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id()));
        let resident = statm.ok().and_then(|text| text.split(' ').nth(1)?.parse().ok());
        resident.unwrap_or(0) * PAGE_BYTES
    }

    /// How long the child has kept a core busy since it started; where there is no /proc, not at all.
    pub(crate) fn busy_for(&self) -> Duration {
        const TICK: Duration = Duration::from_millis(10); // USER_HZ is 100 wherever Linux runs.
        let ticks = |text: String| -> Option<u32> {
            // The name in brackets may hold blanks; after it, user and system time are the 12th and 13th.
            let (_, fields) = text.rsplit_once(") ")?;
            let mut times = fields.split(' ').skip(11);
            Some(times.next()?.parse::<u32>().ok()? + times.next()?.parse::<u32>().ok()?)
        };
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        TICK * stat.ok().and_then(ticks).unwrap_or(0)
    }

    /// Waits until it sleeps for a while on end, and nothing wakes it; where there is no /proc, not at all.
    pub(crate) fn falls_asleep(&self) {
        /// Many times the interval of any timer that should be off.
        const NAP: Duration = Duration::from_millis(100);
        let wakes = || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            count.trim().parse::<u64>().ok()
        };
        let deadline = Instant::now() + PATIENCE;
        let mut before = wakes();
        loop {
            thread::sleep(NAP); // the nap that is measured: nothing is hoped for meanwhile
            let now = wakes();
            if now == before {
                return;
            }
            assert!(Instant::now() < deadline, "it wakes and wakes: {before:?} times, {now:?} times");
            before = now;
        }
    }
}

impl Drop for Rung {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            return;
        }
        assert!(self.stopped || matches!(ended, Ok(None)), "the server ended by itself: {ended:?}");
        while let Ok(line) = self.complaints.recv_timeout(PATIENCE) {
            assert_no_panic(&line);
        }
    }
}

/// Runs an example that should not come as far as listening; its exit code and standard error.
pub(crate) fn run_in_vain(name: &str, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let (code, answers, complaints) = run_to_its_end(name, arguments);
    assert!(answers.is_empty(), "{answers:?}");
    (code, complaints)
}

/// Runs an example that ends by itself; its exit code, standard output and standard error.
pub(crate) fn run_to_its_end(name: &str, arguments: &[&str]) -> (Option<i32>, Vec<String>, Vec<String>) {
    /// Kills the example if it does not end after all.
    struct Guard(Child);
    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    let mut command = Command::new(example(name));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
    let mut guard = Guard(child);
    let answers = lines(guard.0.stdout.take().expect("stdout is piped"));
    let complaints = lines(guard.0.stderr.take().expect("stderr is piped"));
    let all = |lines: Receiver<String>| {
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Disconnected) => return said,
                Err(RecvTimeoutError::Timeout) => panic!("{name} {arguments:?} does not end"),
            }
        }
    };
    let (answers, complaints) = (all(answers), all(complaints));
    let status = guard.0.wait().expect("a child can be waited for");
    (status.code(), answers, complaints)
}

/// Somebody on the other end of a connection. Its timeouts are its patience.
pub(crate) struct Caller {
    pub(crate) stream: TcpStream,
}

impl Caller {
    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes what we say");
    }

    pub(crate) fn hear<B: AsRef<[u8]> + Debug>(&mut self, bytes: B) {
        let mut heard = vec![0; bytes.as_ref().len()];
        if let Err(error) = self.stream.read_exact(&mut heard) {
            panic!("waiting for {bytes:?}: {error}");
        }
        assert!(heard == bytes.as_ref(), "heard {heard:?} instead of {bytes:?}");
    }

    /// The next line, without its end.
    pub(crate) fn hear_line(&mut self) -> String {
        let mut line = Vec::new();
        loop {
            // Byte by byte, as nothing may be read that is not asked for.
            let mut byte = [0];
            if let Err(error) = self.stream.read_exact(&mut byte) {
                panic!("waiting for the end of {:?}: {error}", String::from_utf8_lossy(&line));
            }
            match byte {
                [b'\n'] => return String::from_utf8(line).expect("it is text"),
                [byte] => line.push(byte),
            }
        }
    }

    /// Hears and forgets what has arrived by now.
    pub(crate) fn forget_what_came(&mut self) {
        self.stream.set_nonblocking(true).expect("the socket is ours");
        let kind = io::copy(&mut self.stream, &mut io::sink()).map_err(|error| error.kind());
        self.stream.set_nonblocking(false).expect("the socket is ours");
        assert_eq!(kind, Err(ErrorKind::WouldBlock));
    }

    /// Says it, and hears it.
    pub(crate) fn echo(&mut self, text: &str) {
        self.say(text);
        self.hear(text);
    }

    /// Our FIN: we say no more, and still listen.
    pub(crate) fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection stands");
    }

    /// The server's FIN, with nothing before it.
    pub(crate) fn hear_the_end(&mut self) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the server ends in order");
        assert!(rest.is_empty(), "{} bytes before the end", rest.len());
    }

    /// Hears nothing, not even the end, for so long.
    pub(crate) fn hear_nothing_for(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).expect("not zero");
        // Not `read`, which a signal interrupts: this one goes on.
        let kind = self.stream.read_exact(&mut [0]).map_err(|error| error.kind());
        self.stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        // Which of the two it is depends on the system.
        assert!(
            matches!(kind, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)),
            "{kind:?} instead of nothing"
        );
    }

    /// Ends the connection by a reset (RST), as a crash or an impatient load balancer would.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("the socket is ours");
    }
}

/// Where cargo puts the examples: beside the directory of the test that is running.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it lies");
    let target = test.parent().and_then(|deps| deps.parent()).expect("it lies in target/PROFILE/deps");
    let example = target.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        example.exists(),
        "{} is missing: run `cargo test` whole or `cargo build --examples` first",
        example.display()
    );
    example
}

/// The lines of a child's output. Read in a thread, so that the child is never blocked by a full pipe,
/// and a test can wait for a line with a deadline.
fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Even if nobody listens any more the pipe has to be emptied.
            let _ = sender.send(line);
        }
    });
    receiver
}

fn assert_no_panic(line: &str) {
    assert!(!line.contains("panicked"), "the server panics: {line}");
}
