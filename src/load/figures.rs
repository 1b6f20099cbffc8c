//! Figures as people read them: three digits, a unit, and the short sentences that the screen and the page
//! share.
//!
//! It doesn't lay anything out. The summary and the page do that, each in its own way.
//!
//! Invariant: whatever the number, what comes out is readable: never `NaN`, and `inf` only where a reply
//! never came.

use std::collections::BTreeMap;

use super::report::{Failures, FanOut, KernelFigures, Latency, Limit, Report, Slice};

/// What stands where nothing was measured.
pub(crate) const NOTHING: &str = "-";

/// `812 ns`, `40.2 us`, `1.25 ms`, `4.20 s`: three digits and the unit that fits them.
pub fn time(ns: f64) -> String {
    if ns.is_nan() {
        return NOTHING.into();
    }
    if ns == f64::INFINITY {
        return "inf".into();
    }
    let ns = ns.max(0.0);
    // 999.5 and not 1000: `1000 us` would be a fourth digit.
    match ns {
        _ if ns < 999.5 => format!("{ns:.0} ns"),
        _ if ns < 999.5e3 => format!("{} us", three_digits(ns / 1e3)),
        _ if ns < 999.5e6 => format!("{} ms", three_digits(ns / 1e6)),
        _ => format!("{} s", three_digits(ns / 1e9)),
    }
}

/// The same of a figure that may be missing because there was no reply to measure.
pub(crate) fn time_or_inf(ns: Option<u64>) -> String {
    ns.map_or_else(|| "inf".into(), |ns| time(ns as f64))
}

/// For axes: `200 us`, `1 ms`, without the zeros that a round number doesn't need.
pub fn time_tick(ns: f64) -> String {
    if ns == 0.0 {
        return "0".into();
    }
    let text = time(ns);
    match text.split_once(' ') {
        Some((number, unit)) => format!("{} {unit}", without_zeros(number)),
        None => text,
    }
}

/// A point in the run: `4.2 s`.
pub(crate) fn moment(seconds: f64) -> String {
    if seconds.is_finite() { format!("{seconds:.1} s") } else { NOTHING.into() }
}

/// How long something took: `10.0 s`, `250 ms`.
pub(crate) fn duration(seconds: f64) -> String {
    time(seconds * 1e9)
}

/// `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number that may have a fraction: `1,234,567`, `42.5`, `0.25`.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING.into();
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let size = value.abs();
    if size >= 99.95 {
        format!("{sign}{}", count(size.round() as u64))
    } else if size == 0.0 {
        "0".into()
    } else {
        format!("{sign}{}", three_digits(size))
    }
}

/// For axes: `20,000`, `2.5`, without the zeros that a round number doesn't need.
pub fn number_tick(value: f64) -> String {
    without_zeros(&number(value)).into()
}

/// `183,120/s`.
pub fn rate(per_s: f64) -> String {
    format!("{}/s", number(per_s))
}

/// `64 B`, `11.2 MiB`.
pub fn bytes(bytes: f64) -> String {
    if !bytes.is_finite() {
        return NOTHING.into();
    }
    let bytes = bytes.max(0.0);
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 999.5 {
        return format!("{bytes:.0} B");
    }
    let mut size = bytes / 1024.0;
    let mut unit = 0;
    while size >= 999.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(size), UNITS[unit])
}

/// A size that was asked for, exactly: `64 B`, `64 KiB`.
fn size(bytes_exactly: u64) -> String {
    if bytes_exactly >= 1024 && bytes_exactly.is_multiple_of(1024) {
        bytes(bytes_exactly as f64).replace(".00 ", " ").replace(".0 ", " ")
    } else {
        format!("{} B", count(bytes_exactly))
    }
}

/// A part of the whole, from 0 to 1: `71 %`, `0.3 %`.
pub fn share(part: f64) -> String {
    if !part.is_finite() {
        return NOTHING.into();
    }
    let percent = part * 100.0;
    if percent == 0.0 || percent.abs() >= 9.95 {
        format!("{percent:.0} %")
    } else if percent.abs() < 0.05 {
        "<0.1 %".into()
    } else {
        format!("{percent:.1} %")
    }
}

fn three_digits(value: f64) -> String {
    match value {
        _ if value < 9.995 => format!("{value:.2}"),
        _ if value < 99.95 => format!("{value:.1}"),
        _ if value < 999.5 => format!("{value:.0}"),
        _ => count(value.round() as u64),
    }
}

fn without_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// Text from outside, fit for a terminal and for one line: what could move the cursor or turn the writing
/// round is shown as its number.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns_round(c) {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Whether it changes the direction or the line of what follows, without being seen.
pub(crate) fn turns_round(c: char) -> bool {
    matches!(
        c,
        '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// The plan in a line: `64 connections, depth 1, 64 B, closed loop`.
pub(crate) fn plan(report: &Report) -> String {
    let plan = &report.plan;
    let mut parts = match &report.fan_out {
        Some(room) => vec![several(room.members.into(), "member"), several(room.senders.into(), "sender")],
        None => vec![several(plan.connections.into(), "connection"), format!("depth {}", plan.depth)],
    };
    parts.extend(plan.method.as_deref().map(clean));
    parts.push(if plan.size_min_bytes == plan.size_max_bytes {
        size(plan.size_min_bytes)
    } else {
        format!("{} to {}", size(plan.size_min_bytes), size(plan.size_max_bytes))
    });
    parts.push(match (plan.rate_from_per_s, plan.rate_to_per_s) {
        (Some(from), Some(to)) if from != to => format!("open loop {} to {}", rate(from), rate(to)),
        (Some(per_s), _) | (None, Some(per_s)) => format!("open loop {}", rate(per_s)),
        (None, None) => "closed loop".into(),
    });
    parts.extend(plan.arrivals.as_deref().map(clean));
    if plan.churn {
        parts.push("a connection per message".into());
    }
    if plan.idle > 0 {
        parts.push(format!("{} idle beside", count(plan.idle.into())));
    }
    if plan.threads > 1 {
        parts.push(format!("{} threads", plan.threads));
    }
    parts.join(", ")
}

/// `816 messages in the room lobby: every member was told everything`
pub(crate) fn fan_out(room: &FanOut) -> String {
    let told = match room.complete == room.members {
        true => "every member was told everything".into(),
        false => format!(
            "{} of {} members were told everything, and one missed {}",
            count(room.complete.into()),
            count(room.members.into()),
            several(room.missed_most, "message")
        ),
    };
    format!("{} in the room {}: {told}", several(room.sent, "message"), clean(&room.room))
}

/// `1 connection`, `64 connections`.
pub(crate) fn several(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Whether the rates say less than what the server can do.
pub(crate) fn rates_are_lower_bounds(report: &Report) -> bool {
    matches!(report.verdict.limit, Limit::Generator | Limit::SharedCpu)
}

/// What went wrong, each kind with its count: `3 lost, 12 timed out`. `None`: nothing did.
pub(crate) fn failures(failures: &Failures) -> Option<String> {
    let kinds: Vec<String> = failures
        .rows()
        .iter()
        .filter(|(_, number)| *number > 0)
        .map(|(kind, number)| format!("{} {kind}", count(*number)))
        .collect();
    if kinds.is_empty() { None } else { Some(kinds.join(", ")) }
}

/// `404 x 12, 503 x 3`
pub(crate) fn statuses(statuses: &BTreeMap<u16, u64>) -> String {
    let each: Vec<String> =
        statuses.iter().map(|(status, number)| format!("{status} x {}", count(*number))).collect();
    each.join(", ")
}

/// The rows of the latency table that were measured.
pub(crate) fn latency_rows(report: &Report) -> Vec<(&'static str, &Latency)> {
    let latency = &report.latency;
    [
        ("response", &latency.response),
        ("service", &latency.service),
        ("send lag", &latency.send_lag),
        ("connect", &latency.connect),
        ("handshake", &latency.handshake),
    ]
    .into_iter()
    .filter_map(|(name, latency)| Some((name, latency.as_ref()?)))
    .collect()
}

/// A percentile as it is shown, and whether chance has a large part in it.
pub(crate) fn percentile(latency: &Latency, percent: f64) -> (String, bool) {
    match latency.percentile(percent) {
        Some(it) => (time_or_inf(it.ns), it.few),
        None => (NOTHING.into(), false),
    }
}

/// The longest: infinite as soon as one reply never came.
pub(crate) fn longest(latency: &Latency) -> String {
    match (latency.count, latency.infinite) {
        (_, 1..) => "inf".into(),
        (0, 0) => NOTHING.into(),
        _ => time(latency.max_ns as f64),
    }
}

/// One mode or two, with their shares.
pub(crate) fn shape(report: &Report) -> Option<String> {
    let modes = &report.shape.modes;
    let each: Vec<String> =
        modes.iter().map(|mode| format!("{} ({})", time(mode.ns as f64), share(mode.share))).collect();
    match each.as_slice() {
        [] => None,
        [_] => Some(format!("one mode: {}", time(modes[0].ns as f64))),
        [fast, slow] => Some(format!("two modes: {fast} and {slow}")),
        _ => Some(format!("{} modes: {}", each.len(), each.join(", "))),
    }
}

/// What the kernel dropped and repeated, as (name, figure); only what happened.
pub(crate) fn kernel(kernel: &KernelFigures) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    for (name, number) in [
        ("listen overflows", kernel.listen_overflows),
        ("listen drops", kernel.listen_drops),
        ("UDP receive drops", kernel.udp_receive_drops),
        ("UDP send drops", kernel.udp_send_drops),
    ] {
        if number > 0 {
            rows.push((name, count(number)));
        }
    }
    if kernel.retransmits > 0 {
        let of = if kernel.segments_out > 0 {
            let part = share(kernel.retransmits as f64 / kernel.segments_out as f64);
            format!(" of {} segments ({part})", count(kernel.segments_out))
        } else {
            String::new()
        };
        rows.push(("retransmits", format!("{}{of}", count(kernel.retransmits))));
    }
    if kernel.steal >= 0.001 {
        rows.push(("steal", share(kernel.steal)));
    }
    rows
}

/// `0, 1` or `0-7`.
pub(crate) fn cpus(cpus: &[u32]) -> String {
    match cpus {
        [] => NOTHING.into(),
        [first, .., last]
            if cpus.len() > 2 && u64::from(last.saturating_sub(*first)) + 1 == cpus.len() as u64 =>
        {
            format!("{first}-{last}")
        }
        _ => cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// The command line, quoted as a shell would need it.
pub(crate) fn command(report: &Report) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    let mut words = vec!["switchboard".to_owned()];
    for word in &report.command {
        if !word.is_empty() && word.chars().all(plain) {
            words.push(word.clone());
        } else {
            words.push(format!("'{}'", clean(word).replace('\'', r"'\''")));
        }
    }
    words.join(" ")
}

/// `2026-07-14 09:30 UTC`. Days to a date as in Howard Hinnant's `civil_from_days`.
pub(crate) fn date(unix_s: u64) -> String {
    let (days, seconds) = (unix_s / 86_400, unix_s % 86_400);
    // Years of March to February, so that the leap day is the last: eras of 400 years have equal lengths.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3_600, seconds / 60 % 60)
}

/// Some slices of the timeline that lie side by side, as one column of a picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Column {
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
    pub(crate) offered: u64,
    pub(crate) replies: u64,
    pub(crate) failures: u64,
    /// The mean of the slices' medians, weighed by their replies: a picture's accuracy.
    pub(crate) p50_ns: Option<f64>,
    /// The slowest slice's: a short stall must not be averaged away.
    pub(crate) p99_ns: Option<u64>,
    pub(crate) max_ns: Option<u64>,
    /// The replies per second of the slice that had the fewest; `None`: no slice has a width.
    pub(crate) fewest_per_s: Option<f64>,
}

impl Column {
    /// Per second; 0 for a column without width.
    pub(crate) fn per_s(&self, number: u64) -> f64 {
        let width = self.to_s - self.from_s;
        if width > 0.0 { number as f64 / width } else { 0.0 }
    }
}

/// The timeline in `columns_max` columns or fewer.
pub(crate) fn columns(slices: &[&Slice], columns_max: usize) -> Vec<Column> {
    let per_column = slices.len().div_ceil(columns_max.max(1)).max(1);
    slices
        .chunks(per_column)
        .map(|slices| {
            let mut column = Column { from_s: slices[0].at_s, ..Column::default() };
            let (mut p50_sum, mut p50_weight) = (0.0, 0.0);
            for slice in slices {
                column.to_s = slice.at_s + slice.width_s;
                column.offered = column.offered.saturating_add(slice.offered);
                column.replies = column.replies.saturating_add(slice.replies);
                column.failures = column.failures.saturating_add(slice.failures);
                if let Some(p50) = slice.p50_ns {
                    let weight = slice.replies.max(1) as f64;
                    p50_sum += p50 as f64 * weight;
                    p50_weight += weight;
                }
                column.p99_ns = column.p99_ns.max(slice.p99_ns);
                column.max_ns = column.max_ns.max(slice.max_ns);
                if slice.width_s > 0.0 {
                    let per_s = slice.replies as f64 / slice.width_s;
                    column.fewest_per_s = Some(column.fewest_per_s.map_or(per_s, |fewest| fewest.min(per_s)));
                }
            }
            column.p50_ns = (p50_weight > 0.0).then(|| p50_sum / p50_weight);
            column
        })
        .collect()
}

/// The slices that count, or all of them where the run ended before any did.
pub(crate) fn measured(report: &Report) -> Vec<&Slice> {
    let measured: Vec<&Slice> = report.timeline.iter().filter(|slice| !slice.warm_up).collect();
    if measured.is_empty() { report.timeline.iter().collect() } else { measured }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_never_four() {
        for (ns, shown) in [
            (0.0, "0 ns"),
            (812.4, "812 ns"),
            (999.6, "1.00 us"),
            (40_230.0, "40.2 us"),
            (999_600.0, "1.00 ms"),
            (38e6, "38.0 ms"),
            (4.2e9, "4.20 s"),
            (1.5e12, "1,500 s"),
            (f64::INFINITY, "inf"),
            (f64::NAN, "-"),
            (-5.0, "0 ns"),
        ] {
            assert_eq!(time(ns), shown);
        }
        assert_eq!(time_tick(200e3), "200 us");
        assert_eq!(time_tick(1e6), "1 ms");
        assert_eq!(time_tick(2.5e6), "2.5 ms");
    }

    #[test]
    fn numbers_are_grouped_and_sizes_have_units() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(rate(1_234_567.4), "1,234,567/s");
        assert_eq!(rate(0.25), "0.25/s");
        assert_eq!(rate(f64::NAN), "-/s");
        assert_eq!(number_tick(2_500.0), "2,500");
        assert_eq!(number_tick(2.5), "2.5");
        assert_eq!(bytes(64.0), "64 B");
        assert_eq!(bytes(11.2 * 1_048_576.0), "11.2 MiB");
        assert_eq!(bytes(f64::MAX).split_whitespace().last(), Some("PiB"));
        assert_eq!(size(65_536), "64 KiB");
        assert_eq!(size(1_500), "1,500 B");
        assert_eq!(share(0.993), "99 %");
        assert_eq!(share(0.003), "0.3 %");
        assert_eq!(share(0.000_1), "<0.1 %");
    }

    #[test]
    fn a_date_is_the_calendars() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_783_935_000), "2026-07-13 09:30 UTC");
        // No promise what it says, only that it says something.
        assert!(!date(u64::MAX).is_empty());
    }

    #[test]
    fn a_command_line_can_be_pasted_back() {
        let words = ["bench", "tcp://h:1", "--slo", "p99<=2ms", "--payload", "it's {seq}", ""];
        let report = Report { command: words.map(String::from).to_vec(), ..Report::default() };
        assert_eq!(
            command(&report),
            r"switchboard bench tcp://h:1 --slo 'p99<=2ms' --payload 'it'\''s {seq}' ''"
        );
    }

    #[test]
    fn text_from_outside_cannot_move_the_cursor() {
        assert_eq!(clean("a\u{1b}[2Jb\r\n"), r"a\u{1b}[2Jb\r\n");
        assert_eq!(clean("\u{202e}abc"), r"\u{202e}abc");
        assert_eq!(clean("tcp://münchen:1"), "tcp://münchen:1");
    }

    #[test]
    fn a_short_stall_survives_the_thinning() {
        let slices: Vec<Slice> = (0..600)
            .map(|i| Slice {
                at_s: i as f64 / 10.0,
                width_s: 0.1,
                replies: 10,
                p99_ns: Some(if i == 333 { 1_000_000 } else { 1_000 }),
                ..Slice::default()
            })
            .collect();
        let columns = columns(&slices.iter().collect::<Vec<_>>(), 50);
        assert_eq!(columns.len(), 50);
        assert_eq!(columns.iter().filter(|column| column.p99_ns == Some(1_000_000)).count(), 1);
        assert_eq!(columns.iter().map(|column| column.replies).sum::<u64>(), 6_000);
    }

    #[test]
    fn cpus_in_a_row_are_a_range() {
        assert_eq!(cpus(&[]), "-");
        assert_eq!(cpus(&[0]), "0");
        assert_eq!(cpus(&[0, 1]), "0, 1");
        assert_eq!(cpus(&[0, 1, 2, 3]), "0-3");
        assert_eq!(cpus(&[0, 2, 3]), "0, 2, 3");
    }
}
