//! What speaks to a running server from outside: signals, an heir, the supervisor. All of them are sources in the
//! server's own poll, so none of them needs a thread, and none interrupts anything.
//!
//! Without the feature `cli` there is nobody outside.

use std::io;
use std::time::Duration;

use super::explained::explained;
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
    reserve: super::reserve::Reserve,
    terminal: super::terminal::Terminal,
}

#[cfg(feature = "cli")]
impl Outside {
    pub(super) fn watch<S: Service>(running: &mut Running<S>) -> io::Result<Outside> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
        let terminal = super::terminal::Terminal::at_start(); // before SIGHUP is ours
        let unwatched = |error| explained("cannot watch signals", error);
        let signals = signal_hook_mio::v1_0::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1]);
        let mut signals = signals.map_err(unwatched)?;
        running.reactor().watch_signals(&mut signals).map_err(unwatched)?;
        let (supervisor, reserve) = (super::supervisor::Supervisor::new(), super::reserve::Reserve::new());
        Ok(Outside { signals, supervisor, succession: None, reserve, terminal })
    }

    /// We listen: the predecessor and the supervisor get word.
    pub(super) fn begin<S: Service>(&mut self, running: &mut Running<S>) -> io::Result<()> {
        if let Some(inheritance) = running.inheritance() {
            self.succession = inheritance.complete()?;
            running.own_files();
            if let Some(source) = self.succession.as_mut().and_then(|it| it.source()) {
                let unwatched = |error| explained("cannot watch the socket of --take-over", error);
                running.reactor().watch_signals(source).map_err(unwatched)?;
            }
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
        let succession = self.succession.as_ref().and_then(|it| it.patience());
        let patience = [self.supervisor.patience(), succession];
        let timeout = timeout.into_iter().chain(patience.into_iter().flatten()).min();
        let turn = running.reactor().turn(timeout).map_err(|error| explained("the poll failed", error))?;
        self.supervisor.turned();
        self.reserve.turned();
        let mut told = self.serve_heir(running, turn.signalled).then_some(Told::HandedOver);
        // Asked for once more while it stops, as by a service that does so for each connection, it changes nothing.
        if turn.shutdown && !running.reactor().board().draining() {
            told = Some(Told::Stop);
        }
        if !turn.signalled {
            return Ok(told);
        }
        for signal in self.signals.pending() {
            match signal {
                signal_hook::consts::SIGUSR1 => {
                    log::info!("{}", super::summary::summary(running.reactor()));
                }
                signal_hook::consts::SIGHUP if running.ends_with_terminal && self.terminal.is_closed() => {
                    told = Some(Told::Stop);
                }
                signal_hook::consts::SIGHUP => told = told.or(Some(Told::Reload)),
                _ => told = Some(Told::Stop),
            }
        }
        Ok(told)
    }

    /// Gives our sockets to an heir that has come; whether one listens on them now. What fails here fails for the heir
    /// alone, and leaves no event behind unserved.
    fn serve_heir<S: Service>(&mut self, running: &mut Running<S>, signalled: bool) -> bool {
        use super::succession::Stage;
        let Some(succession) = &mut self.succession else { return false };
        if signalled {
            succession.latch();
        } else if succession.patience().is_none() {
            return false; // no heir is there, and none has come
        }
        let was_there = succession.is_handing_over();
        let stage = succession.serve(&mut self.reserve, running.sockets());
        if stage == Stage::Taking
            && !was_there
            && let Some(heir) = succession.heir()
            && let Err(error) = running.reactor().watch_signals(heir)
        {
            succession.drop_heir(&error);
        }
        stage == Stage::Taken
    }

    /// Whether another process has our sockets, and has not said yet that it listens.
    pub(super) fn is_handing_over(&self) -> bool {
        self.succession.as_ref().is_some_and(|it| it.is_handing_over())
    }

    /// The place where heirs come to is the heir's own from now on.
    pub(super) fn leave(&mut self) {
        if let Some(succession) = self.succession.take() {
            succession.leave();
        }
    }

    /// The settings are read: descriptors are free for that.
    pub(super) fn reloading<S: Service>(&mut self, running: &mut Running<S>) {
        self.supervisor.reloading();
        if self.reserve.is_scarce() {
            running.reactor().pause_accepting(); // a connection would take them
        }
        self.reserve.lend();
    }

    pub(super) fn reloaded<S: Service>(&mut self, running: &mut Running<S>) {
        self.reserve.refill();
        running.reactor().resume_accepting();
        self.supervisor.ready();
    }

    pub(super) fn stopping<S: Service>(&mut self, running: &mut Running<S>) {
        running.reactor().resume_accepting();
        self.supervisor.stopping();
        if let Some(succession) = &mut self.succession {
            succession.leave_path();
        }
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
        let turn = running.reactor().turn(timeout).map_err(|error| explained("the poll failed", error));
        turn.map(|_| None)
    }

    pub(super) fn is_handing_over(&self) -> bool {
        false
    }

    pub(super) fn leave(&mut self) {}

    pub(super) fn reloading<S: Service>(&mut self, _running: &mut Running<S>) {}

    pub(super) fn reloaded<S: Service>(&mut self, _running: &mut Running<S>) {}

    pub(super) fn stopping<S: Service>(&mut self, _running: &mut Running<S>) {}
}
