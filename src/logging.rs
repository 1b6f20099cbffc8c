//! The log, out of the loop's way.
//!
//! Standard error may be a pipe that nobody reads, or a disk that hangs; a loop that writes to it
//! itself hangs with it, and every connection too. So a record goes into a bounded queue, and a thread
//! around `simple_logger` writes. What does not fit is dropped and counted: of the log and the
//! clients, the log has to wait.
//!
//! Until [`leave_the_loop_alone`] is called nobody is served yet, and records are written where they
//! arise, if standard error takes them at once; the thread is started by the first other record. So a
//! server that has nothing to say has one thread: glibc makes every system call dearer in a process that
//! ever had a second (about 30 instructions each, a fifth of what an echo costs us).
//!
//! Invariant: [`log::Log::log`] never waits for a reader; after that call, not even for a disk.

use std::cell::Cell;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use simple_logger::SimpleLogger;

/// Records that may wait to be written. A burst of this many is kept whole.
const RECORDS_MAX: usize = 1024;

/// How long the last line of a program that ends may wait for standard error to take it.
const LAST_LINE_WITHIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

static DROPPED: AtomicU64 = AtomicU64::new(0);
static ACCESS_DROPPED: AtomicU64 = AtomicU64::new(0);
static ACCESS: AtomicBool = AtomicBool::new(false);
static LOOPING: AtomicBool = AtomicBool::new(false);
static LOGGER: OnceLock<Logger> = OnceLock::new();

thread_local! {
    /// This thread writes a record.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

/// What is logged: records of a level and above, and other levels for some targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// For all targets that are not named.
    level: LevelFilter,
    /// The longest name that the target begins with decides.
    targets: Vec<(String, LevelFilter)>,
}

impl Levels {
    /// What is not named keeps this level.
    pub const DEFAULT: LevelFilter = LevelFilter::Info;

    fn of(&self, target: &str) -> LevelFilter {
        let named = self.targets.iter().filter(|(name, _)| target.starts_with(name.as_str()));
        named.max_by_key(|(name, _)| name.len()).map_or(self.level, |(_, level)| *level)
    }

    /// The facade cuts off what is above.
    fn max(&self) -> LevelFilter {
        self.targets.iter().map(|(_, level)| *level).fold(self.level, Ord::max)
    }
}

impl From<LevelFilter> for Levels {
    fn from(level: LevelFilter) -> Levels {
        Levels { level, targets: Vec::new() }
    }
}

impl FromStr for Levels {
    type Err = String;

    /// As `RUST_LOG` is written for most Rust programs: `debug`, `switchboard=debug`, `info,mio=warn`. A name in a list
    /// without a level is logged in full. (A regular expression behind a slash is not looked at.)
    fn from_str(text: &str) -> Result<Levels, String> {
        const LEVELS: &str = "off, error, warn, info, debug or trace";
        let (directives, _) = text.split_once('/').unwrap_or((text, ""));
        let directives: Vec<&str> =
            directives.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
        let mut levels = Levels::from(Levels::DEFAULT);
        for directive in &directives {
            let (target, level) = match directive.split_once('=') {
                Some((target, level)) => (Some(target), level.parse().ok()),
                None => match directive.parse() {
                    Ok(level) => (None, Some(level)),
                    // Alone it is rather a level with a slip in it than a target.
                    Err(_) if directives.len() == 1 && !directive.contains("::") => (None, None),
                    Err(_) => (Some(*directive), Some(LevelFilter::Trace)),
                },
            };
            let level = level.ok_or_else(|| format!("{directive:?} is no log level: use {LEVELS}"))?;
            match target {
                Some(target) => levels.targets.push((target.trim().to_owned(), level)),
                None => levels.level = level,
            }
        }
        Ok(levels)
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |level: LevelFilter| level.as_str().to_lowercase();
        f.write_str(&shown(self.level))?;
        self.targets.iter().try_for_each(|(target, level)| write!(f, ", {target}={}", shown(*level)))
    }
}

/// How many records were dropped so far.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// How many lines of the access log were dropped so far, because its file could not be written.
pub fn access_lines_dropped() -> u64 {
    ACCESS_DROPPED.load(Ordering::Relaxed)
}

/// Makes this the program's logger. Call it once.
///
/// # Errors
/// Where there is a logger already.
pub fn start(levels: impl Into<Levels>) -> Result<(), String> {
    let levels = RwLock::new(levels.into());
    let logger = Logger { writer: new_writer(), queue: OnceLock::new(), levels };
    log::set_logger(LOGGER.get_or_init(|| logger)).map_err(|error| error.to_string())?;
    keep_quiet_about_standard_error();
    set_max_level();
    Ok(())
}

/// Has records of these levels be written from now on.
pub fn set_levels(levels: Levels) {
    let Some(logger) = LOGGER.get() else { return };
    *logger.levels.write().unwrap_or_else(PoisonError::into_inner) = levels;
    set_max_level();
}

fn set_max_level() {
    let Some(logger) = LOGGER.get() else { return };
    let level = logger.levels.read().unwrap_or_else(PoisonError::into_inner).max();
    let access = ACCESS.load(Ordering::Relaxed);
    log::set_max_level(if access { level.max(LevelFilter::Info) } else { level });
}

/// The file of an access log, to be appended to. A FIFO is not waited for: it needs a reader already, and what it does
/// not take at once is dropped and counted.
///
/// # Errors
/// Where it can't be opened.
pub fn open_access_log(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().create(true).append(true).custom_flags(flags.bits() as i32).open(path)
}

/// Has what is logged with the target `access` be written to this file from now on, and nothing but its text, whatever the
/// level; `None` ends that, and closes the file that was there.
///
/// # Errors
/// Where the queue is full, or no thread can be started: then the file that was there goes on.
pub fn set_access_log(file: Option<File>) -> Result<(), String> {
    let Some(logger) = LOGGER.get() else { return Ok(()) };
    let wanted = file.is_some();
    if !wanted && !ACCESS.load(Ordering::Relaxed) {
        return Ok(()); // there was none
    }
    let queue = logger.queue().map_err(|error| format!("no thread can be started for the log: {error}"))?;
    queue.try_send(Entry::AccessTo(file)).map_err(|_| "the log is full")?;
    ACCESS.store(wanted, Ordering::Relaxed);
    set_max_level();
    Ok(())
}

/// Writes the last line of a program that ends, if standard error takes it within half a second.
pub fn write_last_line(line: &str) {
    if takes_bytes(io::stderr(), &LAST_LINE_WITHIN) {
        // Not `eprintln!`: it panics where standard error is closed.
        let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
    }
}

/// Whether a write of a line to this descriptor does not wait for a reader. (Of a pipe, up to 4,096 bytes. A file says
/// always yes.)
pub fn takes_bytes_now(descriptor: impl AsFd) -> bool {
    takes_bytes(descriptor, &Timespec { tv_sec: 0, tv_nsec: 0 })
}

fn takes_bytes(descriptor: impl AsFd, within: &Timespec) -> bool {
    let mut asked = [PollFd::new(&descriptor, PollFlags::OUT)];
    // An error of the call itself is left to the write to report.
    poll(&mut asked, Some(within)) != Ok(0)
}

/// The target of the access log.
const ACCESS_TARGET: &str = "access";

/// The loop begins: from now on, no record may hold it up.
pub fn leave_the_loop_alone() {
    LOOPING.store(true, Ordering::Relaxed);
}

/// Waits until everything that was logged so far is written, or for at most `patience`.
pub fn flush(patience: Duration) {
    let Some(Some(queue)) = LOGGER.get().map(|logger| logger.queue.get()) else { return };
    let (done, written) = sync_channel(1);
    if queue.try_send(Entry::Flush(done)).is_ok() {
        let _ = written.recv_timeout(patience); // a longer wait would gain nothing
    }
}

enum Entry {
    Record { level: log::Level, target: String, text: String },
    Access(String),
    AccessTo(Option<File>),
    Flush(SyncSender<()>),
}

struct Logger {
    /// For the time before the loop.
    writer: SimpleLogger,
    queue: OnceLock<SyncSender<Entry>>,
    levels: RwLock<Levels>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let access = ACCESS.load(Ordering::Relaxed) && metadata.target() == ACCESS_TARGET;
        let levels = self.levels.read().unwrap_or_else(PoisonError::into_inner);
        access || metadata.level() <= levels.of(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let is_access = record.target() == ACCESS_TARGET && ACCESS.load(Ordering::Relaxed);
        // Behind a record that waits, later ones wait, too.
        let is_direct = !is_access && !LOOPING.load(Ordering::Relaxed) && self.queue.get().is_none();
        let (level, target, text) = (record.level(), record.target(), record.args().to_string());
        if is_direct && takes_bytes_now(io::stderr()) {
            return write(&self.writer, level, target, &text);
        }
        let Ok(queue) = self.queue() else {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let entry = match is_access {
            true => Entry::Access(text + "\n"),
            false => Entry::Record { level, target: target.to_owned(), text },
        };
        if queue.try_send(entry).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        flush(Duration::from_secs(1));
    }
}

/// It writes whatever it is given: the level has been looked at before.
fn new_writer() -> SimpleLogger {
    SimpleLogger::new().with_level(LevelFilter::Trace).with_utc_timestamps()
}

impl Logger {
    /// The queue of the thread that writes. The first call starts the thread. Where that fails, the next record tries it
    /// again: a limit of threads that is reached for a moment must not cost the whole log.
    ///
    /// # Errors
    /// Where no thread can be started.
    fn queue(&self) -> io::Result<&SyncSender<Entry>> {
        if let Some(queue) = self.queue.get() {
            return Ok(queue);
        }
        let (sender, receiver) = sync_channel(RECORDS_MAX);
        thread::Builder::new().name("log".into()).spawn(move || write_all(&receiver))?;
        // Where two threads come here at once, one queue is dropped, and its thread ends.
        Ok(self.queue.get_or_init(|| sender))
    }
}

fn write_all(entries: &Receiver<Entry>) {
    let writer = new_writer();
    let mut access = AccessLog::default();
    // The program ends this thread by ending; the queue lives as long as it does.
    for entry in entries {
        match entry {
            Entry::Record { level, target, text } => write(&writer, level, &target, &text),
            Entry::Access(line) => {
                if let Some((level, text)) = access.append(&line) {
                    write(&writer, level, module_path!(), &text);
                }
            }
            Entry::AccessTo(file) => access = AccessLog { file, ..AccessLog::default() },
            Entry::Flush(done) => {
                let _ = done.try_send(()); // nobody waits any more
            }
        }
    }
}

/// Where requests are logged, and how that goes.
#[derive(Default)]
struct AccessLog {
    file: Option<File>,
    /// Lines that were dropped since writing began to fail.
    failed: u64,
    /// The file ends in the middle of a line.
    is_torn: bool,
}

impl AccessLog {
    /// Writes a line, or drops and counts it. Returns what the log should say: once when writing begins to fail, and once
    /// when it works again.
    fn append(&mut self, line: &str) -> Option<(log::Level, String)> {
        let Some(file) = &mut self.file else {
            ACCESS_DROPPED.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let line = if self.is_torn { format!("\n{line}") } else { line.to_owned() };
        match write_whole(file, line.as_bytes()) {
            Ok(()) => {
                self.is_torn = false;
                let failed = std::mem::take(&mut self.failed);
                let text = || format!("the access log can be written again: {failed} lines were dropped");
                (failed > 0).then(|| (log::Level::Warn, text()))
            }
            Err((written, error)) => {
                self.is_torn |= written > 0;
                ACCESS_DROPPED.fetch_add(1, Ordering::Relaxed);
                self.failed += 1;
                let text = || format!("the access log can't be written, its lines are dropped: {error}");
                (self.failed == 1).then(|| (log::Level::Error, text()))
            }
        }
    }
}

/// Writes all of it; else returns how much was written.
fn write_whole(file: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// `eprintln!`, which `simple_logger` calls, panics when standard error can't be written. That costs a record, and not the
/// log or the server. See [`keep_quiet_about_standard_error`].
fn write(writer: &SimpleLogger, level: log::Level, target: &str, text: &str) {
    WRITING.set(true);
    let print =
        || writer.log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
    if panic::catch_unwind(AssertUnwindSafe(print)).is_err() {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
    WRITING.set(false);
}

/// Does not report a panic that [`write`] catches. Standard error may work again at once (a disk that was full, a pipe that
/// another program has made non-blocking), and would then show a panic that does not matter.
fn keep_quiet_about_standard_error() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !WRITING.get() {
            report(panic);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(text: &str) -> Levels {
        text.parse().expect(text)
    }

    #[test]
    fn rust_log_with_targets_is_understood() {
        use LevelFilter::{Debug, Info, Off, Trace, Warn};
        for (text, ours, mios, shown) in [
            ("debug", Debug, Debug, "debug"),
            ("switchboard=debug", Debug, Info, "info, switchboard=debug"),
            ("info,mio=warn", Info, Warn, "info, mio=warn"),
            ("hyper=trace", Info, Info, "info, hyper=trace"),
            (
                "switchboard::server=trace,switchboard=off",
                Trace,
                Info,
                "info, switchboard::server=trace, switchboard=off",
            ),
            ("off, mio", Off, Trace, "off, mio=trace"),
            ("switchboard::server", Trace, Info, "info, switchboard::server=trace"),
            ("warn/a regular expression", Warn, Warn, "warn"),
            ("", Info, Info, "info"),
        ] {
            let levels = levels(text);
            assert_eq!(levels.of("switchboard::server::running"), ours, "{text}");
            assert_eq!(levels.of("mio::poll"), mios, "{text}");
            assert_eq!(levels.to_string(), shown);
        }
        assert_eq!(levels("error,mio=trace").max(), Trace);
        for wrong in ["loud", "mio=loud", "info,mio="] {
            assert!(
                wrong.parse::<Levels>().is_err_and(|problem| problem.contains("is no log level")),
                "{wrong}"
            );
        }
    }

    /// A full disk: writing begins to fail in the middle of a line, and works again later.
    #[test]
    fn an_access_log_that_cannot_be_written_is_reported_once_and_once_when_it_works_again() {
        let path = std::env::temp_dir().join(format!("switchboard-access-{}", std::process::id()));
        let mut log =
            AccessLog { file: Some(open_access_log(&path).expect("a file")), ..AccessLog::default() };
        assert_eq!(log.append("one\n"), None);
        let file = log.file.replace(File::options().write(true).open("/dev/full").expect("Linux has it"));
        let (level, text) = log.append("two\n").expect("it is reported");
        assert!(level == log::Level::Error && text.contains("No space left"), "{text}");
        assert_eq!(log.append("three\n"), None, "once is enough");
        log.file = file;
        log.is_torn = true; // as if half of a line had been written
        let (level, text) = log.append("four\n").expect("it is reported");
        assert!(level == log::Level::Warn && text.contains("2 lines were dropped"), "{text}");
        assert_eq!(log.append("five\n"), None);
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "one\n\nfour\nfive\n");
        std::fs::remove_file(&path).expect("it is ours");
    }

    #[test]
    fn a_fifo_without_a_reader_is_refused_and_not_waited_for() {
        let path = std::env::temp_dir().join(format!("switchboard-fifo-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("the name is new");
        let outcome = open_access_log(&path).map(drop);
        std::fs::remove_file(&path).expect("it is ours");
        assert!(outcome.is_err_and(|error| error.raw_os_error() == Some(6)), "ENXIO");
    }
}
