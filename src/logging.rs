//! The log, out of the loop's way.
//!
//! Standard error may be a pipe that nobody reads, or a disk that hangs; a loop that writes to it
//! itself hangs with it, and every connection too. So a record goes into a bounded queue, and a thread
//! around `simple_logger` writes. What does not fit is dropped and counted: of the log and the
//! clients, the log has to wait.
//!
//! Invariant: [`log::Log::log`] of the queue never blocks.

use std::panic::{self, AssertUnwindSafe};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

/// Records that may wait to be written. A burst of this many is kept whole.
const RECORDS_MAX: usize = 1024;

static DROPPED: AtomicU64 = AtomicU64::new(0);
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// How many records were dropped so far.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Starts the writer and makes it the program's logger. Call it once.
///
/// # Errors
/// Where there is a logger already, or no thread to be had.
pub fn start(level: LevelFilter) -> Result<(), String> {
    let (sender, receiver) = sync_channel(RECORDS_MAX);
    let logger = SimpleLogger::new().with_level(level).with_utc_timestamps();
    thread::Builder::new()
        .name("log".into())
        .spawn(move || write_all(&logger, &receiver))
        .map_err(|error| format!("cannot start the log's thread: {error}"))?;
    let queue = QUEUE.get_or_init(|| Queue { sender, level });
    log::set_logger(queue).map_err(|error| error.to_string())?;
    log::set_max_level(level);
    Ok(())
}

/// Waits until everything that was logged so far is written, or for at most `patience`.
pub fn flush(patience: Duration) {
    let Some(queue) = QUEUE.get() else { return };
    let (done, written) = sync_channel(1);
    if queue.sender.try_send(Entry::Flush(done)).is_ok() {
        let _ = written.recv_timeout(patience); // whoever waits longer than that waits in vain
    }
}

enum Entry {
    Record { level: log::Level, target: String, text: String },
    Flush(SyncSender<()>),
}

struct Queue {
    sender: SyncSender<Entry>,
    level: LevelFilter,
}

impl Log for Queue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let entry = Entry::Record {
            level: record.level(),
            target: record.target().to_owned(),
            text: record.args().to_string(),
        };
        if self.sender.try_send(entry).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        flush(Duration::from_secs(1));
    }
}

fn write_all(logger: &SimpleLogger, entries: &Receiver<Entry>) {
    // The program ends this thread by ending; the queue lives as long as it does.
    for entry in entries {
        match entry {
            Entry::Record { level, target, text } => {
                // `eprintln!` panics when standard error is closed; that costs a record, not the log.
                let written = panic::catch_unwind(AssertUnwindSafe(|| {
                    logger.log(
                        &Record::builder().level(level).target(&target).args(format_args!("{text}")).build(),
                    );
                }));
                if written.is_err() {
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
            }
            Entry::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}
