//! What has happened so far, for Prometheus: its text format, version 0.0.4.
//!
//! The figures are those of the log's summary, with the same words; and how long the loop's turns took, since a turn
//! that takes long is what every connection feels.

use crate::guard::Reason;
use crate::reactor::{Board, CloseReason, Counters};
use crate::transport::Stream;

use super::conversation::Conversation;

/// What the logs could not take since the process began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlogged {
    /// Records of the log, and lines of the access log, that found their queue full.
    pub records: u64,
    /// Lines of the access log that its file did not take: a full disk, for one.
    pub access_lines: u64,
}

/// The page, while it is written. Each family of figures is announced once, however often it is added to: several
/// services of one kind add to the same families, told apart by a label; where they have none, their figures are added up.
#[derive(Debug, Default)]
pub struct Metrics {
    families: Vec<Family>,
    /// The label of the service that writes, if it has one.
    service: Option<String>,
}

#[derive(Debug)]
struct Family {
    name: String,
    kind: &'static str,
    help: String,
    /// What is measured, with its labels, and the figure.
    series: Vec<(String, f64)>,
}

impl Metrics {
    /// Adds one figure that goes up and down, of this service.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.kind(name, "gauge", help);
        self.figure(name, &[], value);
    }

    /// Adds one count, of this service. The name gets `_total` behind it.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        let name = format!("{name}_total");
        self.kind(&name, "counter", help);
        self.figure(&name, &[], value as f64);
    }

    /// Adds a histogram, of this service: how many fell into each class up to a bound, in the order of the bounds (`None`
    /// is the last, which has none), and the sum of all.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        classes: impl IntoIterator<Item = (Option<f64>, u64)>,
        sum: f64,
    ) {
        self.kind(name, "histogram", help);
        let mut total = 0;
        for (bound, count) in classes {
            total += count;
            let bound = bound.map_or("+Inf".to_owned(), |bound| bound.to_string());
            self.line(name, "_bucket", &[("le", &bound)], total as f64);
        }
        self.line(name, "_sum", &[], sum);
        self.line(name, "_count", &[], total as f64);
    }

    /// What is added from now on is of the service with this name; an empty one needs no label.
    pub(super) fn set_service(&mut self, name: &str) {
        self.service = (!name.is_empty()).then(|| name.to_owned());
    }

    fn kind(&mut self, name: &str, kind: &'static str, help: &str) {
        if self.family(name).is_none() {
            let (name, help, series) = (name.to_owned(), help.to_owned(), Vec::new());
            self.families.push(Family { name, kind, help, series });
        }
    }

    fn family(&mut self, name: &str) -> Option<&mut Family> {
        self.families.iter_mut().find(|family| family.name == name)
    }

    fn figure(&mut self, family: &str, labels: &[(&str, &str)], value: f64) {
        self.line(family, "", labels, value);
    }

    fn line(&mut self, family: &str, ending: &str, labels: &[(&str, &str)], value: f64) {
        let service = self.service.clone();
        let service = service.as_deref().map(|service| ("service", service));
        let label = |(name, value): (&str, &str)| format!("{name}=\"{}\"", escaped(value));
        let labels: Vec<String> = labels.iter().copied().chain(service).map(label).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let Some(family) = self.family(family) else { return };
        let name = format!("switchboard_{}{ending}{labels}", family.name);
        match family.series.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += value,
            None => family.series.push((name, value)),
        }
    }

    pub(super) fn into_text(self) -> String {
        let mut text = String::with_capacity(8 * 1024);
        for Family { name, kind, help, series } in self.families {
            text += &format!("# HELP switchboard_{name} {help}\n# TYPE switchboard_{name} {kind}\n");
            series.into_iter().for_each(|(name, value)| text += &format!("{name} {value}\n"));
        }
        text
    }

    /// What the loop counts.
    pub(super) fn of(
        board: &Board<Stream, Conversation>,
        refused: &[(Reason, u64)],
        unlogged: Unlogged,
    ) -> Metrics {
        let counters = board.counters();
        let (opening, open, ending) = board.stages();
        let mut page = Metrics::default();
        page.kind("connections", "gauge", "Connections by state.");
        for (state, count) in [("opening", opening), ("open", open), ("ending", ending)] {
            page.figure("connections", &[("state", state)], count as f64);
        }
        page.counter("accepted", "Connections accepted and admitted.", counters.accepted);
        page.kind("refused_total", "counter", "Connections and datagrams refused, by the reason.");
        for (reason, count) in refused {
            page.figure("refused_total", &[("reason", reason.name())], *count as f64);
        }
        page.kind("closed_total", "counter", "Connections that ended, by the reason.");
        for (reason, count) in CloseReason::NAMES.iter().zip(counters.closed) {
            page.figure("closed_total", &[("reason", reason)], count as f64);
        }
        page.kind("bytes_total", "counter", "Bytes read and written.");
        page.figure("bytes_total", &[("direction", "in")], counters.bytes_in as f64);
        page.figure("bytes_total", &[("direction", "out")], counters.bytes_out as f64);
        page.kind("datagrams_total", "counter", "Datagrams received, sent, and not sent.");
        page.figure("datagrams_total", &[("outcome", "in")], counters.datagrams_in as f64);
        page.figure("datagrams_total", &[("outcome", "out")], counters.datagrams_out as f64);
        page.figure("datagrams_total", &[("outcome", "dropped")], counters.datagrams_dropped as f64);
        page.counter("accept_pauses", "Spells in which accepting had to wait.", counters.accept_pauses);
        page.counter(
            "events",
            "Events that the kernel reported; by the turns, events per turn.",
            counters.events,
        );
        page.counter("log_records_dropped", "Records of the log that were dropped.", unlogged.records);
        page.counter(
            "access_log_lines_dropped",
            "Lines of the access log that its file did not take.",
            unlogged.access_lines,
        );
        let bound = |class| Counters::turn_bound(class).map(|bound| bound.as_secs_f64());
        let classes = counters.turn_times.iter().enumerate().map(|(class, count)| (bound(class), *count));
        let sum = counters.worked_ns as f64 / 1e9;
        page.histogram("turn_seconds", "Time that a turn of the loop worked.", classes, sum);
        page
    }
}

/// A label's value.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
