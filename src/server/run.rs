//! Runs a server from its first turn to its end, which a signal, an heir or its own service brings about.

use std::io;
use std::time::Instant;

use crate::service::{At, Service};

use super::outside::{Outside, Told};
use super::reading::Reading;
use super::ready;
use super::running::Running;
use super::summary::summary;

impl<S: Service> Running<S> {
    /// Turns until it is told to stop. See [`super::Server::run_with`].
    ///
    /// # Errors
    /// Those of the poll, and of standard output where it can't be told where we listen.
    pub fn run<P: Send + 'static>(
        mut self,
        read: impl Fn() -> P + Send + Sync + 'static,
        mut apply: impl FnMut(&mut Running<S>, P),
    ) -> io::Result<()> {
        let mut outside = Outside::watch(&mut self)?;
        let mut reading = Reading::new(read, self.reactor.waker());
        for open in &self.places {
            log::info!("listening on {}", open.endpoint);
            if self.announce {
                ready::write_line(&format!("listening on {}", open.endpoint))?;
            }
        }
        self.begun = true;
        outside.begin(&mut self)?;
        loop {
            // An heir is being given the sockets that are there: settings that have been read wait.
            let patience = reading.patience().filter(|_| !outside.is_handing_over());
            match outside.turn(&mut self, patience)? {
                None => {}
                Some(Told::Reload) => self.read(&mut outside, &mut reading),
                Some(Told::Stop) => break,
                Some(Told::HandedOver) => {
                    self.serve_the_last(&mut outside)?;
                    break;
                }
            }
            if !self.retired.is_empty() {
                self.forget_retired();
            }
            if !outside.is_handing_over()
                && let Some(outcome) = reading.outcome()
            {
                match outcome {
                    Ok(read) => apply(&mut self, read),
                    Err(problem) => log::error!("not reloaded, everything stays as it is: {problem}"),
                }
                outside.reloaded(&mut self);
                if reading.is_wanted_again() {
                    self.read(&mut outside, &mut reading);
                }
            }
        }
        self.stop(&mut outside)
    }

    /// Begins to read the settings again.
    fn read<P: Send + 'static>(&mut self, outside: &mut Outside, reading: &mut Reading<P>) {
        outside.reloading(self);
        if let Err(error) = reading.begin() {
            log::error!(
                "not reloaded, everything stays as it is: no thread can be had to read them: {error}"
            );
            outside.reloaded(self);
        }
    }

    /// Another process listens on our sockets. Those who are here are served until they have finished, for at
    /// most `drain_for`: a reply that is lost because we hurried would be lost for nothing.
    fn serve_the_last(&mut self, outside: &mut Outside) -> io::Result<()> {
        for open in self.places.drain(..) {
            match open.at {
                At::Listener(index) => {
                    if let Some(mut listener) = self.reactor.unlisten(index, true) {
                        listener.leave_file();
                    }
                }
                At::Socket(index) => drop(self.reactor.unlisten_datagrams(index)),
            }
        }
        outside.leave();
        log::info!("handed over: {} connections stay until they have finished", self.connections());
        self.until_empty(outside)
    }

    /// Accepts nothing new; answers what was read (see [`super::Server::run`]) and delivers it, ends each connection, and
    /// cuts off what is left after `drain_for` or at the second signal.
    fn stop(mut self, outside: &mut Outside) -> io::Result<()> {
        if outside.is_handing_over() {
            // The heir has our sockets, and may listen on them by now: their files are left to it.
            for open in &self.places {
                if let At::Listener(index) = open.at
                    && let Some(listener) = self.reactor.listener_mut(index)
                {
                    listener.leave_file();
                }
            }
        }
        outside.stopping(&mut self);
        #[cfg(feature = "web")]
        self.reactor.handler().set_leave_within(self.drain_for / 2);
        self.reactor.drain();
        log::info!("stopping: {} connections to finish", self.connections());
        self.until_empty(outside)?;
        if self.connections() > 0 {
            log::warn!("stopped without waiting for {} connections", self.connections());
            self.reactor.cut();
        }
        log::info!("{}", summary(&mut self.reactor));
        Ok(())
    }

    /// Turns until nobody is left, for at most `drain_for` or until a signal says stop.
    fn until_empty(&mut self, outside: &mut Outside) -> io::Result<()> {
        // `None` where it is so far away that nobody lives to see it: no bound.
        let deadline = Instant::now().checked_add(self.drain_for);
        while self.connections() > 0 {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break;
            }
            match outside.turn(self, left)? {
                Some(Told::Stop) => break,
                Some(Told::HandedOver) => outside.leave(),
                Some(Told::Reload) | None => {}
            }
        }
        Ok(())
    }
}
