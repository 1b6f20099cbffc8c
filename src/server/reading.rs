//! Reading settings again, while the loop goes on.
//!
//! A file of settings may be on a disk that hangs, be a FIFO, or name a host that a name server is slow to resolve; a list
//! of 100,000 networks takes its time in any case. So all of this happens on a thread of its own, and the loop gets what
//! came of it. A thread that does not end in time is given up: it can't be ended, but what it reads is not wanted any more.
//!
//! Invariant: at most one is under way; what one that was given up has read is dropped.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;

/// How long reading may take.
const READING_WITHIN: Duration = Duration::from_secs(30);

/// See the module's text.
pub(super) struct Reading<P> {
    read: Arc<dyn Fn() -> P + Send + Sync>,
    waker: Arc<Waker>,
    under_way: Option<(Receiver<P>, Instant)>,
    /// It was asked for once more meanwhile.
    again: bool,
}

impl<P: Send + 'static> Reading<P> {
    pub(super) fn new(read: impl Fn() -> P + Send + Sync + 'static, waker: Arc<Waker>) -> Reading<P> {
        Reading { read: Arc::new(read), waker, under_way: None, again: false }
    }

    /// Begins to read. If a reading is under way, notes that another one must follow.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.under_way.is_some() {
            self.again = true;
            return Ok(());
        }
        let (sender, receiver) = sync_channel(1);
        let (read, waker) = (Arc::clone(&self.read), Arc::clone(&self.waker));
        thread::Builder::new().name("settings".into()).spawn(move || {
            if sender.send(read()).is_ok() {
                drop(sender);
                let _ = waker.wake(); // it has been noted before that the loop may be gone
            }
        })?;
        self.under_way = Some((receiver, Instant::now()));
        Ok(())
    }

    /// How long the loop may sleep.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.under_way.as_ref().map(|(_, began)| READING_WITHIN.saturating_sub(began.elapsed()))
    }

    /// What has been read, or why nothing has; `None` while it is not known.
    pub(super) fn outcome(&mut self) -> Option<Result<P, &'static str>> {
        let (receiver, began) = self.under_way.as_ref()?;
        let outcome = match receiver.try_recv() {
            Ok(read) => Ok(read),
            Err(TryRecvError::Disconnected) => Err("reading them failed"),
            Err(TryRecvError::Empty) if began.elapsed() >= READING_WITHIN => Err(
                "they could not be read within 30s: is one of the files a FIFO, on a disk that hangs, or a name \
                     that can't be resolved?",
            ),
            Err(TryRecvError::Empty) => return None,
        };
        self.under_way = None;
        Some(outcome)
    }

    /// Returns whether another reading must follow, and clears that note.
    pub(super) fn is_wanted_again(&mut self) -> bool {
        std::mem::take(&mut self.again)
    }
}
