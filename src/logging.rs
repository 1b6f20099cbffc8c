//! The log, out of the loop's way.
//!
//! Standard error may be a pipe that nobody reads, or a disk that hangs; a loop that writes to it
//! itself hangs with it, and every connection too. So a record goes into a bounded queue, and a thread
//! around `simple_logger` writes. What does not fit is dropped and counted: of the log and the
//! clients, the log has to wait.
//!
//! Until [`leave_the_loop_alone`] is called nobody is served yet, and records are written where they
//! arise; the thread is started by the first record after that. So a server that has nothing to
//! say has one thread: glibc makes every system call dearer in a process that ever had a second
//! (about 30 instructions each, a fifth of what an echo costs us).
//!
//! Invariant: after that call, [`log::Log::log`] never blocks.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

/// Records that may wait to be written. A burst of this many is kept whole.
const RECORDS_MAX: usize = 1024;

static DROPPED: AtomicU64 = AtomicU64::new(0);
/// The level that was asked for; the facade's own is lower where there is an access log.
static LEVEL: AtomicUsize = AtomicUsize::new(0);
static ACCESS: AtomicBool = AtomicBool::new(false);
static LOOPING: AtomicBool = AtomicBool::new(false);
static LOGGER: OnceLock<Logger> = OnceLock::new();

/// How many records were dropped so far.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Makes this the program's logger. Call it once.
///
/// # Errors
/// Where there is a logger already.
pub fn start(level: LevelFilter) -> Result<(), String> {
    let logger = Logger { writer: new_writer(), queue: OnceLock::new() };
    log::set_logger(LOGGER.get_or_init(|| logger)).map_err(|error| error.to_string())?;
    set_level(level);
    Ok(())
}

/// Has records of this level and above be written from now on.
pub fn set_level(level: LevelFilter) {
    LEVEL.store(level as usize, Ordering::Relaxed);
    let access = ACCESS.load(Ordering::Relaxed);
    log::set_max_level(if access { level.max(LevelFilter::Info) } else { level });
}

/// The file of an access log, to be appended to.
///
/// # Errors
/// Where it can't be opened.
pub fn open_access_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Has what is logged with the target `access` be written to this file from now on, and nothing but its text, whatever the
/// level. A queue that is full costs this record like any other: then the file that was there goes on.
pub fn set_access_log(file: File) {
    let Some(logger) = LOGGER.get() else { return };
    let queue = logger.queue.get_or_init(start_writing);
    if queue.try_send(Entry::AccessTo(file)).is_err() {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        log::error!("the log is full: the access log stays where it is");
        return;
    }
    ACCESS.store(true, Ordering::Relaxed);
    log::set_max_level(log::max_level().max(LevelFilter::Info));
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
        let _ = written.recv_timeout(patience); // whoever waits longer than that waits in vain
    }
}

enum Entry {
    Record { level: log::Level, target: String, text: String },
    Access(String),
    AccessTo(File),
    Flush(SyncSender<()>),
}

struct Logger {
    /// For the time before the loop.
    writer: SimpleLogger,
    queue: OnceLock<SyncSender<Entry>>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let access = ACCESS.load(Ordering::Relaxed) && metadata.target() == ACCESS_TARGET;
        access || metadata.level() as usize <= LEVEL.load(Ordering::Relaxed)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let is_access = record.target() == ACCESS_TARGET && ACCESS.load(Ordering::Relaxed);
        if !is_access && !LOOPING.load(Ordering::Relaxed) {
            return write(&self.writer, record);
        }
        let queue = self.queue.get_or_init(start_writing);
        let text = record.args().to_string();
        let entry = match is_access {
            true => Entry::Access(text + "\n"),
            false => Entry::Record { level: record.level(), target: record.target().to_owned(), text },
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

/// Starts the thread. Where there is none to be had its end of the queue is gone with it, and every
/// record counts as dropped.
fn start_writing() -> SyncSender<Entry> {
    let (sender, receiver) = sync_channel(RECORDS_MAX);
    let _ = thread::Builder::new().name("log".into()).spawn(move || write_all(&receiver));
    sender
}

fn write_all(entries: &Receiver<Entry>) {
    let writer = new_writer();
    let mut access: Option<File> = None;
    // The program ends this thread by ending; the queue lives as long as it does.
    for entry in entries {
        match entry {
            Entry::Record { level, target, text } => write(
                &writer,
                &Record::builder().level(level).target(&target).args(format_args!("{text}")).build(),
            ),
            Entry::Access(line) => {
                let written = access.as_mut().map(|file| file.write_all(line.as_bytes()));
                if !matches!(written, Some(Ok(()))) {
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
            }
            Entry::AccessTo(file) => access = Some(file),
            Entry::Flush(done) => {
                let _ = done.try_send(()); // nobody waits any more
            }
        }
    }
}

/// `eprintln!` panics when standard error is closed; that costs a record, and not the log or the server.
fn write(writer: &SimpleLogger, record: &Record<'_>) {
    if panic::catch_unwind(AssertUnwindSafe(|| writer.log(record))).is_err() {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}
