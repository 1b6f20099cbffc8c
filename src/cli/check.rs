//! `switchboard check`: what would run, without running it.
//!
//! It reads all that `serve` would read, so what is wrong is found before anybody depends on it: by an editor of the
//! file, by a unit file's `ExecReload`, by CI. Nothing is bound: that a port is free today says little about tomorrow.

use std::time::Duration;

use super::Failure;
use super::config::CommandLine;
use super::settings::{Settings, Wanted};

pub(super) fn run(line: &CommandLine) -> Result<(), Failure> {
    crate::logging::start(log::LevelFilter::Warn).map_err(Failure::Runtime)?;
    let settings = Settings::read(line)?;
    let mut text = format!(
        "at most {} connections in all, {} to drain at a stop, log level {}\n",
        settings.limits.connections_max,
        shown(settings.drain_for),
        settings.log_level.as_str().to_lowercase(),
    );
    for wanted in &settings.listeners {
        text += &describe(wanted);
    }
    print(&text)
}

fn describe(wanted: &Wanted) -> String {
    let Wanted { place, which, said } = wanted;
    let limits = place.limits();
    format!(
        "{} {} ({said}): at most {} connections, idle {}, stalled {}, messages of {} bytes, outboxes of {} bytes\n",
        place.endpoint,
        which.name(),
        limits.connections_max,
        shown(limits.idle_after),
        shown(limits.stall_after),
        place.message_bytes_max,
        limits.outbox_bytes_max,
    )
}

/// As it is written on the command line.
fn shown(time: Duration) -> String {
    match time {
        Duration::MAX => "off".into(),
        time => format!("{time:?}"),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()), // the reader has seen enough
        outcome => {
            outcome.map_err(|error| Failure::Runtime(format!("cannot write to standard output: {error}")))
        }
    }
}
