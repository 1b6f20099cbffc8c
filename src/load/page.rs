//! The page: a report as one HTML file that people can mail, print and still open in ten years.
//!
//! It loads nothing and runs nothing: the pictures are SVG inside it, and the texts that appear at the pointer are
//! SVG's own titles. Each picture is drawn twice, for a wide and for a narrow screen. The style sheet
//! shows one of them, so that none is scaled down until it is unreadable.
//!
//! Invariant: every text from outside goes through [`escape`].

use std::fmt::Write as _;

use super::compare::{Comparison, Figure};
use super::figures::{self, Column, NOTHING};
use super::plot::{self, Axis, Chart, Heat, Ink, Series, escape};
use super::report::{Latency, Limit, LoadPoint, Report, ServerFigures, Slice};

const PERCENTILES: [f64; 7] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999];
/// How often CPU time is sampled.
const SAMPLE_S: f64 = 0.1;

const STYLE: &str = "\
*{box-sizing:border-box}\
body{margin:0;background:var(--paper);color:var(--ink);\
font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',sans-serif}\
main{max-width:976px;margin:0 auto;padding:32px 28px 48px}\
h1{font-size:2rem;line-height:1.2;margin:.2em 0 .3em;letter-spacing:-.01em;text-wrap:balance}\
h2{font-size:1.25rem;line-height:1.3;margin:2.4em 0 .6em;padding-top:1em;border-top:1px solid var(--line)}\
h3{font-size:1rem;margin:1.8em 0 .3em}\
p{margin:.4em 0;max-width:70ch}\
.quiet{color:var(--ink-2)}\
.small{font-size:.875rem}\
.mark{display:inline-block;font-size:.75rem;font-weight:700;letter-spacing:.06em;padding:.2em .7em;\
border:1.5px solid currentColor;border-radius:99px;vertical-align:.15em}\
.good{color:var(--good)}.bad{color:var(--bad)}\
.partial{border-left:4px solid var(--bad);padding:.5em .9em;background:var(--band);max-width:none;margin:0 0 1.2em}\
.tiles{display:flex;flex-wrap:wrap;gap:1px;margin:1.6em 0 0;\
background:var(--line);border:1px solid var(--line);border-radius:8px;overflow:hidden}\
.tiles>div{flex:1 1 138px;background:var(--paper);padding:12px 16px}\
.tiles dt{font-size:.8125rem;color:var(--ink-2)}\
.tiles dd{margin:0;font-size:1.35rem;font-weight:600;font-variant-numeric:tabular-nums;line-height:1.3}\
.tiles .note{display:block;font-size:.8125rem;font-weight:400;color:var(--ink-2)}\
figure{margin:1.2em 0 0}\
figcaption{margin-bottom:.6em}figcaption b{display:block}\
.narrow{display:none!important}\
.scroll{overflow-x:auto;margin:1em 0 0}\
table{border-collapse:collapse;width:100%;font-size:.875rem;font-variant-numeric:tabular-nums}\
caption{text-align:left;font-weight:600;margin-bottom:.3em}\
th,td{padding:.45em .5em;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}\
th:first-child,td:first-child{text-align:left;padding-left:0}th:last-child,td:last-child{padding-right:0}\
thead th{font-weight:500;color:var(--ink-2);font-size:.8125rem}\
thead th,thead td{border-bottom-color:var(--ink-3)}\
tbody th{font-weight:500}\
.few{color:var(--ink-2)}\
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:0 56px}\
.facts{margin:0;font-size:.9375rem;font-variant-numeric:tabular-nums}\
.facts div{display:flex;justify-content:space-between;gap:1.5em;padding:.32em 0;border-bottom:1px solid var(--line)}\
.facts dt{color:var(--ink-2);flex:none}.facts dd{margin:0;text-align:right;overflow-wrap:anywhere}\
pre{background:var(--band);border-radius:6px;padding:.8em 1em;margin:.8em 0 0;white-space:pre-wrap;\
overflow-wrap:anywhere;font-size:.875rem}\
code{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'Liberation Mono',monospace;overflow-wrap:anywhere}\
:focus-visible{outline:2px solid var(--s1);outline-offset:2px}\
@media (max-width:640px){.columns{grid-template-columns:1fr}main{padding:20px 16px 32px}h1{font-size:1.6rem}\
.wide{display:none!important}.narrow{display:block!important}\
.tiles>div{flex-basis:40%;padding:10px 12px}}\
@media print{@page{margin:14mm}body{font-size:9.5pt}main{max-width:none;padding:0}\
h1{font-size:18pt}h2{margin-top:1.4em;break-after:avoid}.tiles>div{flex-basis:90px;padding:6px 10px}.tiles dd{font-size:12pt}\
.columns{grid-template-columns:1fr 1fr;gap:0 28px}.facts{font-size:8.5pt}h3,figcaption,caption{break-after:avoid}\
figure,table,.tiles,.columns section,pre{break-inside:avoid}\
.wide{display:block!important}.narrow{display:none!important}.scroll{overflow:visible}\
table{font-size:8.5pt}th,td{padding:.3em .45em}\
svg,.partial,pre{print-color-adjust:exact;-webkit-print-color-adjust:exact}}";

/// The whole page.
pub fn render(report: &Report) -> String {
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{} - {}</title>\n<style>{}{STYLE}</style>\n\
         </head>\n<body>\n<main>\n",
        escape(target(report)),
        escape(headline(report)),
        plot::style(),
    );
    opening(&mut page, report);
    comparison(&mut page, report);
    latencies(&mut page, report);
    over_time(&mut page, report);
    under_load(&mut page, report);
    rounds(&mut page, report);
    processes(&mut page, report);
    the_run(&mut page, report);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn target(report: &Report) -> &str {
    if report.target.is_empty() { "no target" } else { &report.target }
}

fn headline(report: &Report) -> &'static str {
    match report.verdict.limit {
        Limit::Server => "The server was the limit",
        Limit::Generator => "The generator was the limit: the rates are lower bounds",
        Limit::SharedCpu => "Server and generator shared their CPUs: the rates are lower bounds",
        Limit::Concurrency => "The messages in flight were the limit",
        Limit::Rate => "The server kept up with the rate that was asked for",
        Limit::Kernel => "The kernel was the limit",
        Limit::Network => "The network was the limit",
        Limit::Unknown => "No limit stood out",
    }
}

fn opening(page: &mut String, report: &Report) {
    let verdict = &report.verdict;
    page.push_str("<header>\n");
    if report.partial {
        let because = report.partial_because.as_deref().unwrap_or("cut short");
        let _ = writeln!(
            page,
            "<p class=\"partial\"><b>PARTIAL</b>: {}. What was measured until then is here.</p>",
            escape(because)
        );
    }
    let class = match verdict.limit {
        Limit::Server | Limit::Rate | Limit::Concurrency => " good",
        Limit::Generator | Limit::SharedCpu | Limit::Kernel | Limit::Network => " bad",
        Limit::Unknown => "",
    };
    let _ = writeln!(
        page,
        "<p class=\"quiet\"><code>{}</code></p>\n<h1>{}</h1>\n\
         <p><span class=\"mark{class}\">{}</span> {}</p>",
        escape(target(report)),
        headline(report),
        verdict.limit.name(),
        escape(&verdict.because),
    );
    if !verdict.remedy.is_empty() {
        let _ = writeln!(page, "<p>{}</p>", escape(&verdict.remedy));
    }
    if let Some(found) = &report.found {
        let (slo, because) = (escape(&found.slo), escape(&found.because));
        let _ = match found.rate_per_s {
            Some(per_s) => {
                writeln!(page, "<p>Up to <b>{}</b> it met <b>{slo}</b>: {because}.</p>", figures::rate(per_s))
            }
            None => writeln!(page, "<p>No rate met <b>{slo}</b>: {because}.</p>"),
        };
    }
    if let Some(room) = &report.fan_out {
        let _ = writeln!(page, "<p>{}. A reply is a delivery here.</p>", escape(&figures::fan_out(room)));
    }
    let _ = writeln!(
        page,
        "<p class=\"quiet small\">{}; {} measured</p>",
        escape(&figures::plan(report)),
        figures::duration(report.measured_s)
    );
    tiles(page, report);
    page.push_str("</header>\n");
}

fn tiles(page: &mut String, report: &Report) {
    let bound = if figures::rates_are_lower_bounds(report) { "≥ " } else { "" };
    let response = report.latency.response.as_ref().or(report.latency.service.as_ref());
    let percentile = |percent| response.map_or(NOTHING.into(), |it| figures::percentile(it, percent).0);
    let verified = if report.verified { "verified" } else { "not verified" };
    let unanswered = report.failures.unanswered() as f64 / report.offered.max(1) as f64;
    let unanswered = match unanswered {
        0.0 => "all were answered".into(),
        part => format!("{} unanswered", figures::share(part.min(1.0))),
    };
    let mut tiles = vec![
        (
            "Replies/s",
            format!("{bound}{}", figures::number(report.achieved_per_s)),
            format!("of {bound}{} offered", figures::number(report.offered_per_s)),
        ),
        ("Replies", figures::count(report.replies), verified.into()),
        ("Median", percentile(50.0), "response time".into()),
        ("p99", percentile(99.0), format!("p99.9: {}", percentile(99.9))),
        ("Failures", figures::count(report.failures.total()), unanswered),
    ];
    if let Some(server) = &report.server {
        let per_reply = server.cpu_ns_per_reply.map_or(NOTHING.into(), figures::time);
        let core = format!("server: {} of a core", figures::share(server.busiest_thread_cpu));
        tiles.push(("CPU per reply", per_reply, core));
    }
    page.push_str("<dl class=\"tiles\">\n");
    for (name, figure, note) in tiles {
        let _ =
            writeln!(page, "<div><dt>{name}</dt><dd>{figure}<span class=\"note\">{note}</span></dd></div>");
    }
    page.push_str("</dl>\n");
}

fn comparison(page: &mut String, report: &Report) {
    let Some(comparison) = &report.comparison else { return };
    let Comparison { a, b, figures: compared, notes, .. } = comparison;
    let _ = writeln!(
        page,
        "<h2>A and B</h2>\n<p>{}</p>\n<p class=\"quiet\">A is <code>{}</code>, B is <code>{}</code>.</p>",
        escape(&comparison.sentence()),
        escape(a),
        escape(b)
    );
    let rows = compared.iter().map(|it| {
        let shown = |value: Option<f64>| match it.figure {
            Figure::AchievedPerS => figures::rate(value.unwrap_or(f64::NAN)),
            Figure::P50 | Figure::P99 | Figure::ServerCpuPerReply => {
                figures::time(value.unwrap_or(f64::INFINITY))
            }
        };
        vec![
            it.figure.name().to_owned(),
            shown(it.a_median),
            shown(it.b_median),
            format!("{:.3} ({:.3} to {:.3})", it.ratio, it.ratio_min, it.ratio_max),
            it.noise_floor.map_or(NOTHING.into(), figures::share),
            it.p.map_or(NOTHING.into(), |p| if p < 0.001 { "<0.001".into() } else { format!("{p:.3}") }),
            it.words().into(),
        ]
    });
    let heads = ["", "A, median", "B, median", "B / A, per round", "Noise", "p", "Finding"];
    table(page, "A and B, round by round", &heads, rows);
    for note in notes {
        let _ = writeln!(page, "<p class=\"quiet small\">{}</p>", escape(note));
    }
}

fn latencies(page: &mut String, report: &Report) {
    page.push_str("<h2>How long replies took</h2>\n");
    let rows = figures::latency_rows(report);
    if rows.is_empty() {
        page.push_str("<p class=\"quiet\">Nothing was measured.</p>\n");
        return;
    }
    if let Some(shape) = figures::shape(report) {
        let _ = writeln!(page, "<p>The distribution has {}.</p>", shape.replace(" %", "\u{a0}%"));
    }
    spectrum(page, report);
    let mut heads = vec!["".to_owned(), "Samples".into(), "Min".into()];
    heads.extend(PERCENTILES.iter().map(|percent| format!("p{percent}")));
    heads.extend(["Max".into(), "Never".into()]);
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let mut few_anywhere = false;
    let cells = rows.into_iter().map(|(name, latency)| {
        let ended = |ns: u64| if latency.count > 0 { figures::time(ns as f64) } else { NOTHING.into() };
        let mut row = vec![name.to_owned(), figures::count(latency.count), ended(latency.min_ns)];
        for percent in PERCENTILES {
            let (value, few) = figures::percentile(latency, percent);
            few_anywhere |= few;
            row.push(if few { format!("{value}*") } else { value });
        }
        row.extend([ended(latency.max_ns), figures::count(latency.infinite)]);
        row
    });
    let cells: Vec<Vec<String>> = cells.collect();
    table(page, "Latencies", &heads, cells);
    if few_anywhere {
        page.push_str("<p class=\"quiet small\">* Fewer than ten samples lie beyond it: chance has a large part in it.</p>\n");
    }
    page.push_str(
        "<p class=\"quiet small\">Response: from when a message was due to its reply's last byte, which is what a \
         user waits. Service: from when it was sent. Send lag: the generator's own delay between the two. What \
         never came counts as infinite; max is of what came.</p>\n",
    );
}

fn spectrum(page: &mut String, report: &Report) {
    let response = report.latency.response.as_ref().filter(|it| !it.spectrum.is_empty());
    // In a closed loop they are the same line.
    let service = report.latency.service.as_ref().filter(|it| !it.spectrum.is_empty());
    let service = service.filter(|it| response.is_none_or(|response| response.spectrum != it.spectrum));
    let Some(main) = response.or(service) else { return };
    let all = main.count as f64 + main.infinite as f64;
    let percent_max = 100.0 * (1.0 - 1.0 / all.max(10.0));
    let ended_percent = 100.0 * main.count as f64 / all.max(1.0);
    let median = figures::percentile(main, 50.0).0;
    let p99 = figures::percentile(main, 99.0).0;
    let never = match main.infinite {
        0 => String::new(),
        number => {
            format!(" From {} on none came: {}.", percent(ended_percent), figures::several(number, "message"))
        }
    };
    let note = format!("The median is {median}, p99 is {p99}.{never}");
    figure(
        page,
        "Latency by percentile",
        &format!("{note} Each step to the right is ten times rarer."),
        |wide| {
            let mut chart = Chart::new(
                "Latency by percentile",
                Axis::nines("Percentile", percent_max).shown_as(percent),
                Axis::log("Took at most").shown_as(figures::time_tick),
            )
            .note(&note)
            .size(if wide { 920 } else { 358 }, if wide { 380 } else { 320 });
            if main.infinite > 0 {
                chart = chart.band(ended_percent, 100.0, "never came");
            }
            if let Some(service) = service {
                chart = chart.series(Series::line("service", Ink::Hue(1), spectrum_points(service)));
            }
            if let Some(response) = response {
                chart = chart.series(Series::line("response", Ink::Hue(0), spectrum_points(response)));
            }
            let mut before = 0.0;
            for point in
                main.spectrum.iter().filter(|it| (before..=100.0).contains(&it.percent)).collect::<Vec<_>>()
            {
                let said = format!("{}: {}", percent(point.percent), figures::time(point.ns as f64));
                chart = chart.tip(before, point.percent, &said);
                before = point.percent;
            }
            chart
        },
    );
}

/// The line leaves at the top where failures begin.
fn spectrum_points(latency: &Latency) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = latency.spectrum.iter().map(|it| (it.percent, it.ns as f64)).collect();
    if latency.infinite > 0 {
        let all = latency.count as f64 + latency.infinite as f64;
        points.push((100.0 * latency.count as f64 / all, f64::INFINITY));
    }
    points
}

/// `99.9%`: as many digits as its nines need.
fn percent(percent: f64) -> String {
    let digits =
        if percent >= 100.0 { 0 } else { (1.0 - (100.0 - percent).log10()).ceil().clamp(0.0, 6.0) as usize };
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}%")
}

fn over_time(page: &mut String, report: &Report) {
    let slices: Vec<&Slice> = report
        .timeline
        .iter()
        .filter(|it| it.at_s.is_finite() && it.at_s >= 0.0 && it.width_s > 0.0)
        .collect();
    if slices.is_empty() {
        return;
    }
    page.push_str("<h2>Over time</h2>\n");
    throughput(page, report, &slices);
    heat_map(page, report, &slices);
    cpu(page, report, &slices);
}

/// The same for all pictures, so that what happened at once stands below each other.
fn time_axis(slices: &[&Slice]) -> Axis {
    let axis = Axis::linear("Time since the run began")
        .shown_as(|seconds| format!("{} s", figures::number_tick(seconds)));
    match (slices.first(), slices.last()) {
        (Some(first), Some(last)) => axis.range(first.at_s, last.at_s + last.width_s),
        _ => axis,
    }
}

/// The warm-up that does not count, on a chart over time.
fn with_warm_up(chart: Chart, slices: &[&Slice]) -> Chart {
    let cut = slices.iter().filter(|it| it.warm_up).map(|it| it.at_s + it.width_s).reduce(f64::max);
    match cut {
        Some(to_s) => chart.band(slices[0].at_s, to_s, "warm-up, cut"),
        None => chart,
    }
}

fn with_tips(mut chart: Chart, columns: &[Column]) -> Chart {
    for it in columns {
        let mut said = format!("{}: {}", figures::moment(it.from_s), figures::rate(it.per_s(it.replies)));
        for (name, ns) in [
            ("p50", it.p50_ns),
            ("p99", it.p99_ns.map(|ns| ns as f64)),
            ("max", it.max_ns.map(|ns| ns as f64)),
        ] {
            if let Some(ns) = ns {
                said += &format!(", {name} {}", figures::time(ns));
            }
        }
        if it.failures > 0 {
            said += &format!(", {}", figures::several(it.failures, "failure"));
        }
        chart = chart.tip(it.from_s, it.to_s, &said);
    }
    chart
}

fn throughput(page: &mut String, report: &Report, slices: &[&Slice]) {
    let failures: u64 = slices.iter().fold(0, |sum, it| sum.saturating_add(it.failures));
    let note = format!(
        "{} on average, {}.",
        figures::rate(report.achieved_per_s),
        if failures > 0 { figures::several(failures, "failure") } else { "no failures".into() }
    );
    figure(page, "Replies per second", &note, |wide| {
        let columns = figures::columns(slices, if wide { 300 } else { 120 });
        let offered = columns.iter().flat_map(|it| {
            let per_s = it.per_s(it.offered);
            [(it.from_s, per_s), (it.to_s, per_s)]
        });
        let replies = columns.iter().map(|it| (it.from_s.midpoint(it.to_s), it.per_s(it.replies)));
        let mut chart =
            Chart::new("Replies per second over time", time_axis(slices), Axis::linear("Per second"))
                .note(&note)
                .size(if wide { 920 } else { 358 }, if wide { 270 } else { 240 })
                .series(Series::line("offered", Ink::Muted, offered).dashed())
                .series(Series::line("replies", Ink::Hue(0), replies).filled());
        if failures > 0 {
            let failed = columns
                .iter()
                .filter(|it| it.failures > 0)
                .map(|it| (it.from_s.midpoint(it.to_s), it.per_s(it.failures)));
            chart = chart.series(Series::bars("failures", Ink::Bad, failed).thin());
        }
        with_tips(with_warm_up(chart, slices), &columns)
    });
}

fn heat_map(page: &mut String, report: &Report, slices: &[&Slice]) {
    if slices.iter().all(|it| it.buckets.is_empty()) {
        return;
    }
    let worst = figures::columns(&figures::measured(report), usize::MAX)
        .into_iter()
        .filter_map(|it| Some((it.p99_ns?, it.from_s)))
        .reduce(|worst, it| if it.0 > worst.0 { it } else { worst });
    let note = match worst {
        Some((ns, at_s)) => {
            format!("The worst p99 was {}, at {}.", figures::time(ns as f64), figures::moment(at_s))
        }
        None => String::new(),
    };
    figure(
        page,
        "Response times",
        &format!("{note} The stronger the colour, the more replies took so long."),
        |wide| {
            let columns = figures::columns(slices, if wide { 120 } else { 60 });
            let line = |ns: &dyn Fn(&Column) -> Option<f64>| -> Vec<(f64, f64)> {
                columns.iter().map(|it| (it.from_s.midpoint(it.to_s), ns(it).unwrap_or(f64::NAN))).collect()
            };
            let chart = Chart::new(
                "Response times over time",
                time_axis(slices),
                Axis::log("Response time").shown_as(figures::time_tick),
            )
            .note(&note)
            .size(if wide { 920 } else { 358 }, if wide { 360 } else { 320 })
            .heat(heat(slices, columns.len(), if wide { 44 } else { 36 }))
            .series(Series::line("p50", Ink::Hue(2), line(&|it| it.p50_ns)))
            .series(Series::line("p99", Ink::Hue(1), line(&|it| it.p99_ns.map(|ns| ns as f64))));
            with_tips(with_warm_up(chart, slices), &columns)
        },
    );
}

/// The slices' buckets on a grid of equal factors.
///
/// A bucket says only where it ends. It begins where the next lower one ends; where that was empty and so
/// left out, it is taken to be as wide as its neighbours are.
fn heat(slices: &[&Slice], columns: usize, rows: usize) -> Heat {
    let mut bounds: Vec<u64> = slices.iter().flat_map(|it| &it.buckets).map(|(bound, _)| *bound).collect();
    bounds.sort_unstable();
    bounds.dedup();
    let mut steps: Vec<f64> = bounds
        .windows(2)
        .filter(|two| two[0] > 0)
        .map(|two| (two[1] as f64 / two[0] as f64).log10())
        .collect();
    steps.sort_by(f64::total_cmp);
    let usual = steps.get(steps.len() / 4).map_or(0.05, |step| step.clamp(0.002, 0.6));
    let decades = |bound: u64| (bound.max(1) as f64).log10();
    let low = bounds.first().map_or(0.0, |bound| decades(*bound)) - usual;
    let high = bounds.last().map_or(1.0, |bound| decades(*bound)).max(low + 0.1);
    let row_decades = (high - low) / rows as f64;

    let per_column = slices.len().div_ceil(columns.max(1)).max(1);
    let mut heat = Heat {
        what: "replies".into(),
        xs: slices.chunks(per_column).map(|slices| slices[0].at_s).collect(),
        ys: (0..=rows).map(|row| 10f64.powf(low + row as f64 * row_decades)).collect(),
        weights: vec![0.0; slices.len().div_ceil(per_column) * rows],
    };
    heat.xs.extend(slices.last().map(|it| it.at_s + it.width_s));
    for (place, slice) in slices.iter().enumerate() {
        let column = &mut heat.weights[place / per_column * rows..][..rows];
        for (bound, number) in &slice.buckets {
            // In rows: a bucket may be a part of one, or spread over several.
            let to = (decades(*bound) - low) / row_decades;
            let from = to - usual / row_decades;
            let last = (to as usize).min(rows - 1);
            for (row, weight) in column.iter_mut().enumerate().take(last + 1).skip(from.max(0.0) as usize) {
                let overlap = to.min((row + 1) as f64) - from.max(row as f64);
                *weight += *number as f64 * (overlap / (to - from)).clamp(0.0, 1.0);
            }
        }
    }
    heat
}

fn cpu(page: &mut String, report: &Report, slices: &[&Slice]) {
    let server = report.server.as_ref().map_or(&[][..], |it| &it.cpu_samples);
    let generator = &report.generator.cpu_samples[..];
    if server.len().max(generator.len()) < 2 {
        return;
    }
    let begin_s = if report.warm_up.cut_s.is_finite() { report.warm_up.cut_s } else { 0.0 };
    let end_s = slices.last().map_or(0.0, |it| it.at_s + it.width_s);
    let average = |name: &str, part: f64| format!("{name} {}", figures::share(part));
    let mut parts = Vec::new();
    parts.extend(report.server.as_ref().map(|it| average("server", it.busiest_thread_cpu)));
    parts.push(average("generator", report.generator.cpu));
    let note = format!("Of one core, the busiest thread of each; on average: {}.", parts.join(", "));
    figure(page, "CPU", &note, |wide| {
        let points = |samples: &[f64]| {
            let per_point = samples.len().div_ceil(if wide { 300 } else { 120 }).max(1);
            let points = samples.chunks(per_point).enumerate().map(move |(place, some)| {
                let at_s = begin_s + (place as f64 + 0.5) * per_point as f64 * SAMPLE_S;
                (at_s, some.iter().sum::<f64>() / some.len() as f64)
            });
            // The last sample may be taken when the last slice is over.
            points.filter(|(at_s, _)| *at_s <= end_s).collect::<Vec<_>>()
        };
        // Threads may be sampled a little over: 1.02 of a core is no place of its own.
        let highest = server.iter().chain(generator).copied().filter(|it| it.is_finite()).fold(1.0, f64::max);
        let mut chart = Chart::new(
            "CPU over time",
            time_axis(slices),
            Axis::linear("Of one core")
                .range(0.0, if highest > 1.1 { highest } else { 1.0 })
                .shown_as(figures::share),
        )
        .note(&note)
        .size(if wide { 920 } else { 358 }, if wide { 240 } else { 220 })
        .series(Series::line("generator", Ink::Hue(1), points(generator)));
        if !server.is_empty() {
            chart = chart.series(Series::line("server", Ink::Hue(0), points(server)));
        }
        with_warm_up(chart, slices)
    });
}

fn under_load(page: &mut String, report: &Report) {
    let mut curve: Vec<&LoadPoint> = report.curve.iter().filter(|it| it.offered_per_s.is_finite()).collect();
    if curve.is_empty() {
        return;
    }
    curve.sort_by(|a, b| a.offered_per_s.total_cmp(&b.offered_per_s));
    page.push_str("<h2>Latency under load</h2>\n");
    let note = "What replies took at each rate; where the line leaves at the top, they failed to come.";
    figure(page, "Load and latency", note, |wide| {
        let line = |name: &str, ink, ns: fn(&LoadPoint) -> Option<u64>| {
            let points = curve.iter().map(|it| {
                let y = ns(it).map_or(f64::INFINITY, |ns| ns as f64);
                let tip = format!("{}: {name} {}", figures::rate(it.offered_per_s), figures::time(y));
                plot::Point { x: it.offered_per_s, y, tip, ..plot::Point::default() }
            });
            Series::line(name, ink, points.collect::<Vec<_>>()).dots()
        };
        let mut chart = Chart::new(
            "Load and latency",
            Axis::linear("Offered per second"),
            Axis::log("Response time").shown_as(figures::time_tick),
        )
        .note(note)
        .size(if wide { 920 } else { 358 }, if wide { 340 } else { 300 })
        .series(line("p50", Ink::Hue(2), |it| it.p50_ns))
        .series(line("p99", Ink::Hue(1), |it| it.p99_ns));
        if let Some(found) = &report.found {
            if let Some(bound_ns) = p99_bound_ns(&found.slo) {
                chart = chart.rule_y(bound_ns, Ink::Bad, &found.slo);
            }
            if let Some(per_s) = found.rate_per_s {
                chart = chart.rule_x(per_s, Ink::Muted, &format!("found: {}", figures::rate(per_s)));
            }
        }
        chart
    });
    let rows = curve.iter().map(|it| {
        vec![
            figures::rate(it.offered_per_s),
            figures::rate(it.achieved_per_s),
            figures::time_or_inf(it.p50_ns),
            figures::time_or_inf(it.p99_ns),
            figures::count(it.failures),
            it.met.map_or(NOTHING, |met| if met { "yes" } else { "no" }).to_owned(),
        ]
    });
    table(page, "Points of the curve", &["Offered", "Achieved", "p50", "p99", "Failures", "Met"], rows);
}

/// The bound of an objective on p99, for a line in the picture; other objectives have none.
fn p99_bound_ns(slo: &str) -> Option<f64> {
    let bound = slo.split(',').find_map(|part| part.trim().strip_prefix("p99<"))?;
    let bound = bound.strip_prefix('=').unwrap_or(bound);
    let unit = bound.find(|c: char| c.is_alphabetic())?;
    let ns_per_unit = match &bound[unit..] {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    Some(bound[..unit].trim().parse::<f64>().ok()? * ns_per_unit)
}

fn rounds(page: &mut String, report: &Report) {
    if report.rounds.is_empty() {
        return;
    }
    page.push_str("<h2>Rounds</h2>\n");
    let rows = report.rounds.iter().enumerate().map(|(place, round)| {
        vec![
            (place + 1).to_string(),
            figures::rate(round.achieved_per_s),
            figures::time_or_inf(round.p50_ns),
            figures::time_or_inf(round.p99_ns),
            round.server_cpu_ns_per_reply.map_or(NOTHING.into(), figures::time),
            figures::count(round.failures),
        ]
    });
    table(
        page,
        "Equal runs, one after another",
        &["Round", "Replies", "p50", "p99", "Server CPU per reply", "Failures"],
        rows,
    );
}

fn processes(page: &mut String, report: &Report) {
    page.push_str("<h2>Who did what</h2>\n<div class=\"columns\">\n");
    match &report.server {
        Some(server) => facts(page, "Server", server_facts(server)),
        None => page.push_str(
            "<section>\n<h3>Server</h3>\n<p class=\"quiet\">Its process is not known. Name it with \
             <code>--server-pid</code>, or let <code>--spawn</code> start it.</p>\n</section>\n",
        ),
    }
    let generator = &report.generator;
    let mut rows = vec![
        ("CPU, busiest thread", figures::share(generator.cpu)),
        ("Ready, but not let run", figures::share(generator.run_queue_wait)),
        ("Loop busy", figures::share(generator.busy)),
        ("CPU per message", figures::time(generator.cpu_ns_per_message)),
    ];
    rows.extend(generator.ceiling_per_s.map(|it| ("Could do, per thread", figures::rate(it))));
    rows.push(("Resident memory", figures::bytes(generator.rss_bytes as f64)));
    rows.push(("CPUs", figures::cpus(&generator.cpus_allowed)));
    facts(page, "Generator", rows);
    let mut rows = figures::kernel(&report.kernel);
    if rows.is_empty() {
        rows.push(("Drops, overflows, retransmits", "none".into()));
    }
    facts(page, "Kernel, the whole machine", rows);
    let mut rows: Vec<(&str, String)> = report
        .failures
        .rows()
        .iter()
        .filter(|it| it.1 > 0)
        .map(|(kind, number)| (*kind, figures::count(*number)))
        .collect();
    if rows.is_empty() {
        rows.push(("Of any kind", "none".into()));
    }
    if !report.statuses.is_empty() {
        rows.push(("Statuses", figures::statuses(&report.statuses)));
    }
    facts(page, "Failures", rows);
    page.push_str("</div>\n");
}

fn server_facts(server: &ServerFigures) -> Vec<(&'static str, String)> {
    let mut rows =
        vec![("Process", format!("{} ({})", server.name, server.pid)), ("Known by", server.known_by.clone())];
    if server.processes > 1 {
        rows.push(("Processes", server.processes.to_string()));
    }
    rows.push((
        "CPU, busiest thread",
        format!("{} ({})", figures::share(server.busiest_thread_cpu), server.busiest_thread),
    ));
    rows.push(("CPU, all threads", format!("{} cores", figures::number(server.cpu_cores))));
    rows.push(("Ready, but not let run", figures::share(server.run_queue_wait)));
    rows.extend(server.cpu_ns_per_reply.map(|ns| ("CPU per reply", figures::time(ns))));
    let [before, peak, after] = [server.rss_before_bytes, server.rss_peak_bytes, server.rss_after_bytes]
        .map(|it| figures::bytes(it as f64));
    rows.push(("Memory at its peak", peak));
    rows.push(("Memory before, after", format!("{before}, {after}")));
    rows.extend(server.rss_per_connection_bytes.map(|it| ("Memory per connection", figures::bytes(it))));
    rows.push(("CPUs", figures::cpus(&server.cpus_allowed)));
    rows
}

fn the_run(page: &mut String, report: &Report) {
    let plan = &report.plan;
    page.push_str("<h2>The run</h2>\n<div class=\"columns\">\n");
    let warm_up = match report.warm_up.because.as_str() {
        "" => figures::duration(report.warm_up.cut_s),
        because => format!("{}, {because}", figures::duration(report.warm_up.cut_s)),
    };
    let mut rows = vec![
        ("Plan", figures::plan(report)),
        ("Warm-up, cut", warm_up),
        ("Measured", figures::duration(report.measured_s)),
        ("Timeout", figures::duration(plan.timeout_s)),
        ("Seed", plan.seed.to_string()),
        ("Connections made", figures::count(report.connected)),
    ];
    if report.latency.handshake.is_some() {
        rows.push(("TLS handshakes resumed", figures::count(report.resumed)));
    }
    rows.push((
        "Received, sent",
        format!("{}/s, {}/s", figures::bytes(report.bytes_in_per_s), figures::bytes(report.bytes_out_per_s)),
    ));
    facts(page, "What was asked for", rows);
    let machine = &report.machine;
    let rows = vec![
        (
            "Began",
            if report.started_unix_s == 0 { NOTHING.into() } else { figures::date(report.started_unix_s) },
        ),
        ("System", or_nothing(&machine.system)),
        ("CPU", or_nothing(&machine.cpu)),
        ("CPUs", machine.cpus.to_string()),
        ("Written by", or_nothing(&report.tool)),
    ];
    facts(page, "Where", rows);
    page.push_str("</div>\n");
    if !report.command.is_empty() {
        let _ = writeln!(
            page,
            "<h3>The same again</h3>\n<pre><code>{}</code></pre>",
            escape(&figures::command(report))
        );
    }
}

fn or_nothing(text: &str) -> String {
    if text.is_empty() { NOTHING.into() } else { text.into() }
}

/// A picture with a caption, drawn for a wide and for a narrow screen.
fn figure(page: &mut String, name: &str, caption: &str, chart: impl Fn(bool) -> Chart) {
    let _ = writeln!(
        page,
        "<figure>\n<figcaption><b>{}</b><span class=\"quiet small\">{}</span></figcaption>\n{}{}</figure>",
        escape(name),
        escape(caption.trim()),
        chart(true).class("wide").svg(),
        chart(false).class("narrow").svg()
    );
}

/// A table whose first column heads the rows. It scrolls by itself where it is too wide.
fn table(page: &mut String, name: &str, heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    let name = escape(name);
    let _ = writeln!(
        page,
        "<div class=\"scroll\" role=\"region\" aria-label=\"{name}\" tabindex=\"0\">\n<table>\n<caption>{name}</caption>\n<thead><tr>"
    );
    for head in heads {
        // A header cell may not be empty; the corner is none.
        let _ = match *head {
            "" => write!(page, "<td></td>"),
            head => write!(page, "<th scope=\"col\">{}</th>", escape(head)),
        };
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for (place, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = match place {
                0 => write!(page, "<th scope=\"row\">{cell}</th>"),
                _ => write!(page, "<td>{cell}</td>"),
            };
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table>\n</div>\n");
}

fn facts(page: &mut String, name: &str, rows: Vec<(&str, String)>) {
    let _ = writeln!(page, "<section>\n<h3>{}</h3>\n<dl class=\"facts\">", escape(name));
    for (term, fact) in rows {
        let _ = writeln!(page, "<div><dt>{}</dt><dd>{}</dd></div>", escape(term), escape(&fact));
    }
    page.push_str("</dl>\n</section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::example;
    use std::fs;

    #[test]
    fn every_report_makes_a_whole_page() {
        for (name, report) in example::all() {
            let page = render(&report);
            assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{name}");
            for bad in ["NaN", ">inf<", "=\"inf", "Infinity", "-0\""] {
                // A time may be infinite in a table, a coordinate may not.
                let found = page.find(bad).filter(|_| bad != ">inf<" || page.contains("<svg>inf"));
                assert_eq!(found, None, "{name} has {bad}");
            }
            for element in [
                "main", "header", "section", "figure", "svg", "table", "tr", "th", "td", "dl", "div", "g",
                "text",
            ] {
                let opened = page.matches(&format!("<{element} ")).count()
                    + page.matches(&format!("<{element}>")).count();
                assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{name}: {element}");
            }
            assert!(page.len() < 1_000_000, "{name}: {} bytes", page.len());
        }
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for (name, report) in example::all() {
            let page = render(&report).replace("http://www.w3.org/2000/svg", "");
            for bad in ["http:", "https:", "<script", "<link", "<img", "@import", "url("] {
                assert!(!page.contains(bad), "{name} has {bad}");
            }
        }
    }

    #[test]
    fn what_comes_from_outside_stays_text() {
        let page = render(&example::hostile());
        assert!(!page.contains("<script>") && !page.contains("alert('1')"));
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;"));
        assert!(!page.contains(['\u{1b}', '\u{202e}']));
    }

    #[test]
    fn each_part_is_there_when_it_was_measured() {
        let whole = render(&example::search());
        for part in [
            "PARTIAL",
            "Latency by percentile",
            "Replies per second",
            "Response times",
            "CPU over time",
            "Load and latency",
            "p99&lt;=2ms",
            "warm-up, cut",
            "failures",
            "switchboard bench tcp://",
        ] {
            assert!(whole.contains(part), "{part} is missing");
        }
        let bare = render(&example::bare());
        for part in ["Over time", "Latency under load", "Rounds", "<svg"] {
            assert!(!bare.contains(part), "{part} is there");
        }
        assert!(bare.contains("Nothing was measured"));
    }

    #[test]
    fn percents_have_the_digits_of_their_nines() {
        for (value, shown) in [
            (0.0, "0%"),
            (50.0, "50%"),
            (99.0, "99%"),
            (99.9, "99.9%"),
            (99.999, "99.999%"),
            (100.0, "100%"),
            (12.3456, "12%"),
        ] {
            assert_eq!(percent(value), shown);
        }
    }

    #[test]
    fn a_bound_is_read_from_an_objective() {
        assert_eq!(p99_bound_ns("p99<=2ms"), Some(2e6));
        assert_eq!(p99_bound_ns("failures<=0.1%, p99<250us"), Some(250e3));
        assert_eq!(p99_bound_ns("p50<=2ms"), None);
        assert_eq!(p99_bound_ns("p99<="), None);
    }

    #[test]
    fn heat_is_neither_lost_nor_made() {
        let report = example::example();
        let slices: Vec<&Slice> = report.timeline.iter().collect();
        let replies: u64 = slices.iter().map(|it| it.replies).sum();
        for (columns, rows) in [(1, 1), (60, 36), (120, 44)] {
            let heat = heat(&slices, columns, rows);
            assert_eq!(heat.weights.len(), (heat.xs.len() - 1) * (heat.ys.len() - 1));
            let all: f64 = heat.weights.iter().sum();
            assert!((all / replies as f64 - 1.0).abs() < 0.01, "{all} of {replies}");
        }
    }

    #[test]
    #[ignore = "writes pages to look at: cargo test --lib load::page -- --ignored --nocapture"]
    fn write_pages_to_look_at() {
        let folder = std::env::temp_dir().join("switchboard-pages");
        fs::create_dir_all(&folder).expect("a folder");
        for (name, report) in example::all() {
            let path = folder.join(format!("{}.html", name.replace(' ', "-")));
            fs::write(&path, render(&report)).expect("a file");
            println!("{}", path.display());
        }
    }
}
