//! What has happened so far, for Prometheus: its text format, version 0.0.4.
//!
//! The figures are those of the log's summary, with the same words; and how long the loop's turns took, since a turn
//! that takes long is what every connection feels.

use std::fmt::{Display, Write};

use crate::guard::Reason;
use crate::reactor::{Board, CloseReason, Counters};
use crate::transport::Stream;

use super::exchange::Conversation;

/// Everything, as one answer.
pub(super) fn text(
    board: &Board<Stream, Conversation>,
    refused: &[(Reason, u64)],
    records_dropped: u64,
) -> String {
    let counters = board.counters();
    let (opening, open, ending) = board.stages();
    let mut page = Page(String::with_capacity(8 * 1024));
    page.kind("connections", "gauge", "Connections by state.");
    for (state, count) in [("opening", opening), ("open", open), ("ending", ending)] {
        page.figure("connections", &[("state", state)], count);
    }
    page.counter("accepted", "Connections accepted and admitted.", counters.accepted);
    page.kind("refused_total", "counter", "Connections and datagrams refused, by the reason.");
    for (reason, count) in refused {
        page.figure("refused_total", &[("reason", reason.name())], count);
    }
    page.kind("closed_total", "counter", "Connections that ended, by the reason.");
    for (reason, count) in CloseReason::NAMES.iter().zip(counters.closed) {
        page.figure("closed_total", &[("reason", reason)], count);
    }
    page.kind("bytes_total", "counter", "Bytes read and written.");
    page.figure("bytes_total", &[("direction", "in")], counters.bytes_in);
    page.figure("bytes_total", &[("direction", "out")], counters.bytes_out);
    page.kind("datagrams_total", "counter", "Datagrams received, sent, and not sent.");
    page.figure("datagrams_total", &[("outcome", "in")], counters.datagrams_in);
    page.figure("datagrams_total", &[("outcome", "out")], counters.datagrams_out);
    page.figure("datagrams_total", &[("outcome", "dropped")], counters.datagrams_dropped);
    page.counter("accept_pauses", "Spells in which accepting had to wait.", counters.accept_holds);
    page.counter(
        "events",
        "Events that the kernel reported; by the turns, events per turn.",
        counters.events,
    );
    page.counter("log_records_dropped", "Records of the log that were dropped.", records_dropped);
    page.kind("turn_seconds", "histogram", "Time that a turn of the loop worked.");
    let mut turns = 0;
    for (class, count) in counters.turn_times.iter().enumerate() {
        turns += count;
        let bound = Counters::turn_bound(class).map(|bound| bound.as_secs_f64().to_string());
        page.figure("turn_seconds_bucket", &[("le", bound.as_deref().unwrap_or("+Inf"))], turns);
    }
    page.figure("turn_seconds_sum", &[], counters.worked_ns as f64 / 1e9);
    page.figure("turn_seconds_count", &[], turns);
    page.0
}

struct Page(String);

impl Page {
    fn kind(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP switchboard_{name} {help}\n# TYPE switchboard_{name} {kind}"));
    }

    fn figure(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.line(format_args!("switchboard_{name}{labels} {value}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let name = format!("{name}_total");
        self.kind(&name, "counter", help);
        self.figure(&name, &[], value);
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a String takes everything");
    }
}
