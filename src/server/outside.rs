//! What speaks to a running server from outside: signals, an heir, the supervisor. All of them are sources in the
//! server's own poll, so none of them needs a thread, and none interrupts anything.
//!
//! Without the feature `cli` there is nobody outside.

use std::io;
use std::time::Duration;

use super::running::Running;
use crate::service::Service;

/// What a server is told.
#[cfg_attr(not(feature = "cli"), allow(dead_code))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
    /// Another process listens on our sockets.
    HandedOver,
}

#[cfg(feature = "cli")]
pub(super) struct Outside {
    signals: signal_hook_mio::v1_0::Signals,
    supervisor: super::supervisor::Supervisor,
    succession: Option<super::succession::Succession>,
}

#[cfg(feature = "cli")]
impl Outside {
    pub(super) fn watch<S: Service>(running: &mut Running<S>) -> io::Result<Outside> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
        let mut signals = signal_hook_mio::v1_0::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
        running.reactor().watch_signals(&mut signals)?;
        let supervisor = super::supervisor::Supervisor::new();
        Ok(Outside { signals, supervisor, succession: None })
    }

    /// We listen: whoever waits for that is told.
    pub(super) fn begin<S: Service>(&mut self, running: &mut Running<S>) -> io::Result<()> {
        if let Some(inheritance) = running.inheritance() {
            let mut succession = inheritance.complete()?;
            running.reactor().watch_signals(succession.source())?;
            self.succession = Some(succession);
        }
        crate::logging::leave_the_loop_alone();
        self.supervisor.ready();
        Ok(())
    }

    /// Turns once, for at most `timeout`; what we have been told meanwhile, a stop before anything else.
    pub(super) fn turn<S: Service>(
        &mut self,
        running: &mut Running<S>,
        timeout: Option<Duration>,
    ) -> io::Result<Option<Told>> {
        let patience = self.supervisor.patience();
        let timeout = timeout.into_iter().chain(patience).min();
        let turn = running.reactor().turn(timeout)?;
        self.supervisor.turned();
        if !turn.signalled {
            return Ok(None);
        }
        let mut told = self.heed_heir(running)?.then_some(Told::HandedOver);
        for signal in self.signals.pending() {
            match signal {
                signal_hook::consts::SIGUSR1 => {
                    log::info!("{}", super::summary::summary(running.reactor()));
                }
                signal_hook::consts::SIGHUP => told = told.or(Some(Told::Reload)),
                _ => told = Some(Told::Stop),
            }
        }
        Ok(told)
    }

    /// Gives our sockets to an heir that has come; whether one listens on them now.
    fn heed_heir<S: Service>(&mut self, running: &mut Running<S>) -> io::Result<bool> {
        let Some(succession) = &mut self.succession else { return Ok(false) };
        if succession.greets(running.sockets())
            && let Some(heir) = succession.heir()
        {
            running.reactor().watch_signals(heir)?;
        }
        Ok(succession.is_taken())
    }

    /// The place where heirs come to is the heir's own from now on.
    pub(super) fn leave(&mut self) {
        if let Some(succession) = self.succession.take() {
            succession.leave();
        }
    }

    pub(super) fn reloading(&self) {
        self.supervisor.reloading();
    }

    pub(super) fn reloaded(&self) {
        self.supervisor.ready();
    }

    pub(super) fn stopping(&self) {
        self.supervisor.stopping();
    }
}

#[cfg(not(feature = "cli"))]
pub(super) struct Outside;

#[cfg(not(feature = "cli"))]
impl Outside {
    pub(super) fn watch<S: Service>(_running: &mut Running<S>) -> io::Result<Outside> {
        Ok(Outside)
    }

    pub(super) fn begin<S: Service>(&mut self, _running: &mut Running<S>) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn turn<S: Service>(
        &mut self,
        running: &mut Running<S>,
        timeout: Option<Duration>,
    ) -> io::Result<Option<Told>> {
        running.reactor().turn(timeout).map(|_| None)
    }

    pub(super) fn leave(&mut self) {}

    pub(super) fn reloading(&self) {}

    pub(super) fn reloaded(&self) {}

    pub(super) fn stopping(&self) {}
}
