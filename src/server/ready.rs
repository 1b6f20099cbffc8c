//! The ready lines on standard output: programs that start a server wait for them.
//!
//! Standard output may be a pipe that is full and is not read. So a line is written here only where it is taken at once;
//! else a thread writes it, and all later ones, as slowly as they are read.
//!
//! Invariant: nothing here waits for a reader. (Without the feature `cli` there is no poll(2) of one descriptor at hand, and
//! a line is just written.)

use std::io::{self, Write};

/// Writes a line, or has it written.
///
/// # Errors
/// Where standard output can't be written to. What a thread finds out later is logged.
pub(super) fn write_line(line: &str) -> io::Result<()> {
    #[cfg(feature = "cli")]
    {
        use std::sync::OnceLock;
        use std::sync::mpsc::{SyncSender, sync_channel};

        /// Lines that may wait.
        const LINES_MAX: usize = 1024;
        static QUEUE: OnceLock<SyncSender<String>> = OnceLock::new();

        if QUEUE.get().is_some() || !crate::logging::takes_bytes_now(io::stdout()) {
            let queue = QUEUE.get_or_init(|| {
                log::warn!("standard output is not read: a thread waits to write the ready lines");
                let (sender, lines) = sync_channel::<String>(LINES_MAX);
                let write_all = move || {
                    for line in lines {
                        if let Err(error) = write_now(&line) {
                            log::warn!("{error}");
                        }
                    }
                };
                // Without a thread, its end of the queue is gone, and each line is an error.
                let _ = std::thread::Builder::new().name("ready lines".into()).spawn(write_all);
                sender
            });
            return queue.try_send(line.to_owned()).map_err(|_| {
                io::Error::new(io::ErrorKind::WouldBlock, "standard output is not read: a ready line is lost")
            });
        }
    }
    write_now(line)
}

fn write_now(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(format!("{line}\n").as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write to standard output: {error}")))
}
