//! The report as files: JSON for programs, the timeline as CSV for spreadsheets, the response times for
//! HdrHistogram's plotters; and JSON back into a report.
//!
//! It makes texts and reads one file; it writes none: where they go is the command line's business.
//!
//! Invariant: what [`json`] makes, [`read`] reads back unchanged.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde_json::Value;

use super::figures;
use super::report::{Latency, Report, SCHEMA, SpectrumPoint};

/// The whole report, indented, with a newline at its end.
pub fn json(report: &Report) -> String {
    // Only a map with keys that are no text, or a writer that fails, could be an error here.
    let mut text = serde_json::to_string_pretty(report).expect("a report is plain data");
    text.push('\n');
    text
}

/// The timeline: a header, and one row per slice, as RFC 4180 has it. What was not measured is empty.
pub fn csv(report: &Report) -> String {
    let mut text = String::from("at_s,width_s,warm_up,offered,replies,failures,p50_ns,p99_ns,max_ns\r\n");
    for slice in &report.timeline {
        let cells = [
            seconds(slice.at_s),
            seconds(slice.width_s),
            slice.warm_up.to_string(),
            slice.offered.to_string(),
            slice.replies.to_string(),
            slice.failures.to_string(),
            or_empty(slice.p50_ns),
            or_empty(slice.p99_ns),
            or_empty(slice.max_ns),
        ];
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// To the nanosecond, without the digits that only binary fractions have.
fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() {
        return String::new();
    }
    let text = format!("{seconds:.9}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

fn or_empty(ns: Option<u64>) -> String {
    ns.map_or_else(String::new, |ns| ns.to_string())
}

/// The response times as HdrHistogram prints a percentile distribution, in milliseconds.
///
/// Replies that never came have a share in the percentiles but no row: no plotter knows a value for them.
/// So the last percentile is then below 1, and a comment says how many there were.
pub fn hdr(report: &Report) -> String {
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let none = Latency::default();
    let response = report.latency.response.as_ref().unwrap_or(&none);
    let all = response.count as f64 + response.infinite as f64;
    let ended = if all > 0.0 { response.count as f64 / all } else { 0.0 };
    let mut row = |ns: u64, percentile: f64, so_far: u64| {
        let ms = ns as f64 / 1e6;
        // Writing into a String can't fail.
        let _ = write!(text, "{ms:>12.6} {percentile:>14.12} {so_far:>10}");
        // The last row has no fourth column: 1/(1-1) is no number.
        if percentile < 1.0 {
            let _ = write!(text, " {:>14.2}", 1.0 / (1.0 - percentile));
        }
        text.push('\n');
    };
    let mut deviation = None;
    match histogram(response) {
        Some(histogram) => {
            deviation = Some(histogram.stdev());
            let mut so_far = 0;
            // Five to each halving of the rest: the default of HdrHistogram's own tools.
            for step in histogram.iter_quantiles(5) {
                so_far += step.count_since_last_iteration();
                row(step.value_iterated_to(), step.quantile_iterated_to() * ended, so_far);
            }
        }
        None => {
            for SpectrumPoint { percent, ns } in &response.spectrum {
                let percentile = percent / 100.0;
                if (0.0..=1.0).contains(&percentile) {
                    row(*ns, percentile, (percentile * all).round() as u64);
                }
            }
        }
    }
    let mean = if response.mean_ns.is_finite() { response.mean_ns / 1e6 } else { 0.0 };
    // Left out where only the spectrum is known: 0 would be a claim.
    let deviation = deviation.map_or_else(String::new, |it| format!(", StdDeviation   = {:>12.3}", it / 1e6));
    let _ = writeln!(text, "#[Mean    = {mean:>12.3}{deviation}]");
    let max = response.max_ns as f64 / 1e6;
    let _ = writeln!(text, "#[Max     = {max:>12.3}, Total count    = {:>12}]", response.count);
    if response.infinite > 0 {
        let _ = writeln!(text, "#[Infinite = {}]", response.infinite);
    }
    text
}

/// The histogram that a report carries; `None` where it carries none, or another one than it says.
fn histogram(latency: &Latency) -> Option<Histogram<u64>> {
    /// Cookie, length, offset, digits, lowest, highest, ratio: what stands before the counts.
    const HEADER_BYTES: usize = 40;
    let bytes = STANDARD.decode(&latency.hdr_v2_base64).ok()?;
    // The decoder takes the memory that the length asks for before it looks whether so much is there.
    let length = u32::from_be_bytes(bytes.get(4..8)?.try_into().ok()?);
    if usize::try_from(length).ok()? > bytes.len().checked_sub(HEADER_BYTES)? {
        return None;
    }
    let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).ok()?;
    (histogram.len() == latency.count && latency.count > 0).then_some(histogram)
}

/// A report from a file. An error is one line that names the file.
pub fn read(path: &Path) -> Result<Report, String> {
    let shown = figures::clean(&path.display().to_string());
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let value: Value =
        serde_json::from_str(&text).map_err(|error| format!("{shown} is not JSON: {error}"))?;
    match value.get("schema").and_then(Value::as_u64) {
        None | Some(0) => Err(format!("{shown} is not a report: it has no schema; bench --json writes one")),
        Some(schema) if schema > u64::from(SCHEMA) => Err(format!(
            "{shown} has schema {schema}, and this program reads up to {SCHEMA}: use the newer one that wrote it"
        )),
        // From the text and not from the value: then the error says in which line.
        Some(_) => serde_json::from_str(&text)
            .map_err(|error| format!("{shown} is not a report: {}", figures::clean(&error.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::example;
    use std::path::PathBuf;

    fn written(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("switchboard-files-{}-{name}", std::process::id()));
        fs::write(&path, text).expect("a temporary file");
        path
    }

    fn refused(name: &str, text: &str) -> String {
        let path = written(name, text);
        let error = read(&path).expect_err("no report");
        let _ = fs::remove_file(&path);
        assert!(error.contains(name) && !error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn what_was_written_is_read_back() {
        for (name, report) in example::all() {
            // Not a number has no form in JSON.
            if name == "impossible" {
                continue;
            }
            let path = written("whole.json", &json(&report));
            // Not assert_eq: nobody reads two whole reports.
            assert!(read(&path) == Ok(report), "{name}");
            let _ = fs::remove_file(&path);
        }
    }

    #[test]
    fn what_is_no_report_is_named_in_one_line() {
        let error = read(Path::new("/nowhere/a\nb.json")).expect_err("no such file");
        assert!(error.starts_with("cannot read /nowhere/a\\nb.json: ") && !error.contains('\n'), "{error}");
        assert!(refused("half.json", &json(&example::example())[..999]).contains("is not JSON"));
        assert!(refused("list.json", "[1, 2]").contains("it has no schema"));
        assert!(refused("other.json", r#"{"schema": 1}"#).contains("missing field"));
        assert!(
            refused("newer.json", r#"{"schema": 99}"#)
                .contains("has schema 99, and this program reads up to 1")
        );
        assert!(refused("empty.json", "").contains("is not JSON"));
    }

    #[test]
    fn the_timeline_is_a_table_of_plain_numbers() {
        let text = csv(&example::example());
        let rows: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(rows.len(), 113);
        assert!(rows.iter().all(|row| row.split(',').count() == 9), "{text}");
        assert!(rows[4].starts_with("0.3,0.1,true,500,190,0,"), "{}", rows[4]);
        assert!(text.ends_with("\r\n"));
        assert_eq!(csv(&example::bare()).lines().count(), 1);
    }

    /// What HdrHistogram's plotter does with a line: four columns, and the first and the last are numbers.
    fn plotted(text: &str) -> Vec<(f64, f64)> {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|cells| cells.len() == 4)
            .filter_map(|cells| Some((cells[0].parse().ok()?, cells[3].parse().ok()?)))
            .collect()
    }

    #[test]
    fn a_distribution_is_what_plotters_read() {
        let mut report = example::example();
        let response = report.latency.response.clone().expect("measured");
        let points = plotted(&hdr(&report));
        assert!(points.len() > 30);
        assert!(points.windows(2).all(|two| two[0].0 <= two[1].0 && two[0].1 <= two[1].1));
        // The median stands at 1/(1-0.5).
        let (median, _) = points.iter().find(|(_, x)| *x >= 2.0).expect("a median");
        let p50 = response.percentile(50.0).and_then(|it| it.ns).expect("a median") as f64 / 1e6;
        assert!((median / p50 - 1.0).abs() < 0.02, "{median} and {p50}");
        assert!(hdr(&report).contains("#[Infinite = 2]"));

        // The same from the spectrum alone.
        for text in ["", "no base64!", "HISTFAAA", "HISTE////w=="] {
            report.latency.response.as_mut().expect("measured").hdr_v2_base64 = text.into();
            let fallen_back = plotted(&hdr(&report));
            assert!(fallen_back.len() > 30, "{text}");
            let (other, _) = fallen_back.iter().find(|(_, x)| *x >= 2.0).expect("a median");
            assert!((other / median - 1.0).abs() < 0.05, "{other} and {median}");
        }
    }

    #[test]
    fn a_distribution_of_nothing_is_a_header_and_zeros() {
        for (name, report) in example::all() {
            let text = hdr(&report);
            assert!(text.trim_start().starts_with("Value"), "{name}");
            assert!(!text.contains("NaN") && !text.contains("inf"), "{name}\n{text}");
        }
        assert!(plotted(&hdr(&example::bare())).is_empty());
    }
}
