//! What was found, as data: the schema of `models.json`. Everything that is shown is shown from here.
//!
//! Units stand in the names. Invariant: a figure that was not measured is `None` (null); one that is infinite, since too many
//! replies never came, is infinite here and null in the file.

use super::Outcome;
use super::ladder::Model;
use super::options::{Options, Shape};
use super::stage::{MESSAGE_BYTES, Pace, Stage};
use crate::floor::{process, table};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};
use switchboard::load::figures;
use switchboard::load::report::{Limit, Report};

/// Goes up when a field's meaning changes or a field goes away.
const SCHEMA: u32 = 1;
/// Nobody is as slow as half of this, unless something else has the cores.
const RATE_MIN_PER_S: f64 = 100.0;
/// Who replies to less than this part of what it is offered doesn't keep up.
const KEPT_UP: f64 = 0.95;
/// This part may fail without a remark: those that were due as the time ran out.
const FAILURES_SMALL: f64 = 0.001;

#[derive(Serialize)]
pub(crate) struct Findings {
    schema: u32,
    /// Which program wrote it.
    tool: &'static str,
    /// Seconds since 1970 when it began.
    started_unix_s: u64,
    pub(crate) machine: String,
    /// Which core is whose.
    pub(crate) stage: String,
    /// The options, as they were given.
    command: Vec<String>,
    /// Built without optimisation: it shows that it runs, not how fast.
    pub(crate) unoptimised: bool,
    pub(crate) rounds: usize,
    /// The length of one measurement.
    pub(crate) seconds: f64,
    pub(crate) message_bytes: usize,
    /// In the order of all rows.
    pub(crate) models: Vec<&'static Model>,
    pub(crate) cells: Vec<Cell>,
}

/// The figures for a number of connections, some of which talk.
#[derive(Serialize)]
pub(crate) struct Cell {
    #[serde(flatten)]
    pub(crate) shape: Shape,
    /// The equal rate, messages per second in all. None: nobody was capable of any.
    pub(crate) offered_per_s: Option<f64>,
    pub(crate) rows: Vec<Row>,
}

/// One model in a cell.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) model: &'static str,
    /// How many of the connections it served at once.
    pub(crate) served: usize,
    /// Why there are no figures, as it is shown in their place.
    pub(crate) absent: Option<String>,
    /// What went wrong in a measurement, if that is why.
    pub(crate) failed: Option<String>,
    /// As fast as it goes.
    pub(crate) full_speed: Phase,
    /// At `offered_per_s`.
    pub(crate) equal_rate: Phase,
}

/// All rounds of one step, and what they come to.
#[derive(Default, Serialize)]
pub(crate) struct Phase {
    /// Replies per second.
    pub(crate) per_s: Option<Spread>,
    /// From when a message was due to its reply.
    pub(crate) p50_ns: Option<Spread>,
    pub(crate) p99_ns: Option<Spread>,
    /// The server's, of all its threads.
    pub(crate) cpu_ns_per_message: Option<Spread>,
    /// The server's, resident at its peak.
    pub(crate) memory_bytes: Option<Spread>,
    /// The server's, of all its threads, voluntary and not.
    pub(crate) switches_per_message: Option<Spread>,
    rounds: Vec<Figures>,
}

/// One round.
#[derive(Serialize)]
pub(crate) struct Figures {
    pub(crate) per_s: f64,
    p50_ns: Option<f64>,
    p99_ns: Option<f64>,
    cpu_ns_per_message: Option<f64>,
    memory_bytes: Option<f64>,
    switches_per_message: Option<f64>,
    /// That were due in the time that was measured.
    messages: u64,
    /// Of these, of all kinds.
    failures: u64,
    /// Those among them that are the server's mistakes.
    wrong: u64,
    /// Who was it.
    limit: Limit,
}

#[derive(Clone, Copy, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Findings {
    pub(crate) fn new(options: &Options, stage: &Stage) -> Self {
        Self {
            schema: SCHEMA,
            tool: concat!("switchboard ", env!("CARGO_PKG_VERSION"), ", benches/models.rs"),
            started_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs()),
            machine: process::machine(),
            stage: stage.shown(),
            command: options.words.clone(),
            unoptimised: cfg!(debug_assertions),
            rounds: options.rounds,
            seconds: options.seconds,
            message_bytes: MESSAGE_BYTES,
            models: options.models.clone(),
            cells: Vec::new(),
        }
    }

    /// What a reader has to know about single figures, a sentence each.
    pub(crate) fn remarks(&self) -> Vec<String> {
        self.cells.iter().flat_map(|cell| cell.rows.iter().flat_map(|row| row.remarks(cell))).collect()
    }

    /// Where it begins to be a bench's failure: an answer that was wrong, a measurement that came to nothing.
    pub(crate) fn judged(&self) -> Outcome<()> {
        let rows = || self.cells.iter().flat_map(|cell| &cell.rows);
        let wrong: u64 = rows().flat_map(Row::figures).map(|figures| figures.wrong).sum();
        let failed = rows().filter(|row| row.failed.is_some()).count();
        match (wrong, failed) {
            (0, 0) => Ok(()),
            (0, _) => Err(format!("{failed} measurements failed: the remarks say which")),
            _ => Err(format!("{wrong} replies were wrong: the remarks say whose")),
        }
    }
}

impl Cell {
    /// Half of what the slowest of those reached who serve everybody, in two digits: everybody keeps up with that, and nobody
    /// has a queue that is its own throughput's doing. Not less than makes a percentile.
    ///
    /// With one that talks it is an eighth: there the slowest is as slow as waking a core twice, which takes up to 130 us on a
    /// virtual one, and at half of that a message that came a little late would wait behind the one before.
    pub(crate) fn part_of_the_slowest(&self) -> Option<f64> {
        let capable = self.rows.iter().filter(|row| row.absent.is_none());
        let medians = capable.filter_map(|row| Some(row.full_speed.per_s?.median));
        let part = if self.shape.active == 1 { 8.0 } else { 2.0 };
        let rate = medians.min_by(f64::total_cmp)? / part;
        let step = 10_f64.powf(rate.max(1.0).log10().floor() - 1.0).max(1.0);
        Some(((rate / step).floor() * step).max(RATE_MIN_PER_S))
    }

    /// Where every measurement failed something is wrong with all of them, and there is no point in going on.
    pub(crate) fn some_were_measured(&self) -> Outcome<()> {
        let failure = self.rows.iter().find_map(|row| Some((row.model, row.failed.as_ref()?)));
        match failure {
            Some((model, why)) if self.rows.iter().all(|row| row.absent.is_some()) => {
                Err(format!("nothing could be measured on {} connections; {model}: {why}", self.shape))
            }
            _ => Ok(()),
        }
    }
}

impl Row {
    pub(crate) fn new(model: &Model, served: usize, shape: Shape) -> Self {
        let absent = model.absence(served, shape.connections);
        let (full_speed, equal_rate) = (Phase::default(), Phase::default());
        Self { model: model.name, served, absent, failed: None, full_speed, equal_rate }
    }

    pub(crate) fn add(&mut self, pace: Pace, figures: Figures) {
        match pace {
            Pace::FullSpeed => self.full_speed.add(figures),
            Pace::PerSecond(_) => self.equal_rate.add(figures),
        }
    }

    pub(crate) fn fail(&mut self, why: String) {
        self.absent = Some("failed".into());
        self.failed = Some(why);
    }

    fn figures(&self) -> impl Iterator<Item = &Figures> {
        self.full_speed.rounds.iter().chain(&self.equal_rate.rounds)
    }

    fn remarks(&self, cell: &Cell) -> Vec<String> {
        let mut remarks = Vec::new();
        let mut remark =
            |what: String| remarks.push(format!("{} connections, {}: {what}", cell.shape, self.model));
        if let Some(why) = &self.failed {
            remark(why.clone());
        }
        let sum = |count: fn(&Figures) -> u64| self.figures().map(count).sum::<u64>();
        let (messages, failures, wrong) = (sum(|it| it.messages), sum(|it| it.failures), sum(|it| it.wrong));
        if wrong > 0 || failures as f64 > FAILURES_SMALL * messages as f64 {
            let [messages, failures, wrong] = [messages, failures, wrong].map(figures::count);
            remark(format!("of {messages} messages {failures} failed, {wrong} of them by a wrong reply"));
        }
        if let (Some(per_s), Some(offered)) = (self.equal_rate.per_s, cell.offered_per_s)
            && per_s.median < KEPT_UP * offered
        {
            let (got, offered) = (figures::rate(per_s.median), figures::rate(offered));
            remark(format!("{got} came back of {offered} that were offered"));
        }
        remarks
    }
}

impl Phase {
    fn add(&mut self, figures: Figures) {
        self.rounds.push(figures);
        let spread = |figure: fn(&Figures) -> Option<f64>| Spread::of(self.rounds.iter().filter_map(figure));
        self.per_s = spread(|round| Some(round.per_s));
        self.p50_ns = spread(|round| round.p50_ns);
        self.p99_ns = spread(|round| round.p99_ns);
        self.cpu_ns_per_message = spread(|round| round.cpu_ns_per_message);
        self.memory_bytes = spread(|round| round.memory_bytes);
        self.switches_per_message = spread(|round| round.switches_per_message);
    }

    /// In most rounds it was the generator that could not go faster.
    pub(crate) fn is_lower_bound(&self) -> bool {
        let bounded = self.rounds.iter().filter(|round| round.limit == Limit::Generator).count();
        2 * bounded > self.rounds.len()
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self { median: table::median(&sorted)?, min: *sorted.first()?, max: *sorted.last()? })
    }
}

impl Figures {
    /// `switches`: of the server's whole life.
    pub(crate) fn of(report: &Report, switches: Option<u64>) -> Outcome<Self> {
        if report.partial {
            let why = report.partial_because.as_deref().unwrap_or("nobody says why");
            return Err(format!("the run was cut short: {why}"));
        }
        if report.achieved_per_s <= 0.0 {
            return Err("no reply came in time".into());
        }
        // So the messages of its whole life, too. What it took to accept the connections is in there, and doesn't weigh much.
        let life_replies: u64 = report.timeline.iter().map(|slice| slice.replies).sum();
        let percentile = |percent| {
            let found = report.latency.response.as_ref()?.percentile(percent)?;
            Some(found.ns.map_or(f64::INFINITY, |ns| ns as f64))
        };
        let server = report.server.as_ref();
        Ok(Self {
            per_s: report.achieved_per_s,
            p50_ns: percentile(50.0),
            p99_ns: percentile(99.0),
            cpu_ns_per_message: server.and_then(|server| server.cpu_ns_per_reply),
            memory_bytes: server.map(|server| server.rss_peak_bytes as f64),
            switches_per_message: switches
                .filter(|_| life_replies > 0)
                .map(|switches| switches as f64 / life_replies as f64),
            messages: report.offered,
            failures: report.failures.total(),
            wrong: report.failures.wrong(),
            limit: report.verdict.limit,
        })
    }
}
