//! What has happened so far, in one line: for the log, at SIGUSR1 and at the end.

use crate::reactor::{CloseReason, Reactor};
use crate::service::Service;
use crate::service::exchange::Exchange;

pub(super) fn summary<S: Service>(reactor: &mut Reactor<Exchange<S>>) -> String {
    // Connections and datagrams alike.
    let refusals: Vec<(&str, u64)> =
        reactor.handler().refused().into_iter().map(|(reason, count)| (reason.name(), count)).collect();
    let refused = refusals.iter().map(|(_, count)| count).sum::<u64>();
    let open = reactor.board().connections();
    let counters = reactor.board().counters();
    let closings: Vec<(&str, u64)> = CloseReason::NAMES.into_iter().zip(counters.closed).collect();
    let turns = counters.turns.max(1);
    format!(
        "summary: accepted {}, refused {}{}, open {open}, closed {}{}, accept pauses {}, \
         bytes in {} out {}, datagrams in {} out {} dropped {}, turns {}, events per turn {:.2}, \
         busiest turn {:.3} ms, access log lines dropped {}, log records dropped {}",
        counters.accepted,
        refused,
        in_brackets(&refusals),
        counters.closed.iter().sum::<u64>(),
        in_brackets(&closings),
        counters.accept_pauses,
        counters.bytes_in,
        counters.bytes_out,
        counters.datagrams_in,
        counters.datagrams_out,
        counters.datagrams_dropped,
        counters.turns,
        counters.events as f64 / turns as f64,
        counters.busiest_turn_ns as f64 / 1e6,
        access_lines_dropped(),
        records_dropped(),
    )
}

/// ` (idle 3, reset 1)`: those that happened.
fn in_brackets(counts: &[(&str, u64)]) -> String {
    let happened: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    match happened.is_empty() {
        true => String::new(),
        false => format!(" ({})", happened.join(", ")),
    }
}

/// What the logs could not take, for `/metrics`.
#[cfg(feature = "web")]
pub(super) fn unlogged() -> crate::service::metrics::Unlogged {
    crate::service::metrics::Unlogged { records: records_dropped(), access_lines: access_lines_dropped() }
}

#[cfg(feature = "cli")]
pub(super) fn records_dropped() -> u64 {
    crate::logging::dropped()
}

#[cfg(not(feature = "cli"))]
pub(super) fn records_dropped() -> u64 {
    0
}

#[cfg(feature = "cli")]
fn access_lines_dropped() -> u64 {
    crate::logging::access_lines_dropped()
}

#[cfg(not(feature = "cli"))]
fn access_lines_dropped() -> u64 {
    0
}
