//! The six figures that are shown: what each is called, its unit, and where among the findings it stands.
//!
//! Tables and charts both go through this list, so a figure has one name and one unit everywhere.

use super::findings::{Cell, Phase, Spread};

pub(crate) struct Measure {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    /// How many of the findings' unit make one of that.
    scale: f64,
    step: Step,
    figure: fn(&Phase) -> Option<Spread>,
    /// One of the four in the picture.
    pub(crate) pictured: bool,
    /// Its chart has a logarithmic scale: what is twice as much is as far apart everywhere.
    pub(crate) spans_decades: bool,
}

/// Of which step of the measurement.
#[derive(PartialEq)]
enum Step {
    FullSpeed,
    EqualRate,
}

pub(crate) const MEASURES: [Measure; 6] = [
    Measure {
        title: "Throughput",
        unit: "thousand messages/s",
        scale: 1e3,
        step: Step::FullSpeed,
        figure: |phase| phase.per_s,
        pictured: true,
        spans_decades: false,
    },
    Measure {
        title: "Latency p50 at an equal rate",
        unit: "us",
        scale: 1e3,
        step: Step::EqualRate,
        figure: |phase| phase.p50_ns,
        pictured: false,
        spans_decades: true,
    },
    Measure {
        title: "Latency p99 at an equal rate",
        unit: "us",
        scale: 1e3,
        step: Step::EqualRate,
        figure: |phase| phase.p99_ns,
        pictured: true,
        spans_decades: true,
    },
    Measure {
        title: "CPU time per message at an equal rate",
        unit: "us",
        scale: 1e3,
        step: Step::EqualRate,
        figure: |phase| phase.cpu_ns_per_message,
        pictured: true,
        spans_decades: true,
    },
    Measure {
        title: "Memory",
        unit: "MiB resident",
        scale: 1024.0 * 1024.0,
        step: Step::EqualRate,
        figure: |phase| phase.memory_bytes,
        pictured: true,
        spans_decades: false,
    },
    Measure {
        title: "Context switches per message at an equal rate",
        unit: "",
        scale: 1.0,
        step: Step::EqualRate,
        figure: |phase| phase.switches_per_message,
        pictured: false,
        spans_decades: true,
    },
];

/// What stands in one field of a table, or is one point of a line.
pub(crate) enum Field<'a> {
    /// In the measure's unit. `at_least`: the generator was the limit.
    Figure { spread: Spread, at_least: bool },
    /// Why there is no figure.
    Absent(&'a str),
    /// It could not be measured here.
    Unknown,
}

impl Measure {
    pub(crate) fn field<'a>(&self, cell: &'a Cell, model: &str) -> Field<'a> {
        let Some(row) = cell.rows.iter().find(|row| row.model == model) else {
            return Field::Unknown;
        };
        if let Some(why) = &row.absent {
            return Field::Absent(why);
        }
        let phase = match self.step {
            Step::FullSpeed => &row.full_speed,
            Step::EqualRate => &row.equal_rate,
        };
        match (self.figure)(phase) {
            None => Field::Unknown,
            Some(Spread { median, min, max }) => Field::Figure {
                spread: Spread { median: median / self.scale, min: min / self.scale, max: max / self.scale },
                at_least: self.step == Step::FullSpeed && phase.is_lower_bound(),
            },
        }
    }

    /// `Throughput, thousand messages/s`.
    pub(crate) fn heading(&self) -> String {
        match self.unit {
            "" => self.title.to_string(),
            unit => format!("{}, {unit}", self.title),
        }
    }
}
