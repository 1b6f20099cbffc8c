//! The findings as tables: models down, numbers of connections across. As Markdown for a terminal and benches/README.md, as HTML for the page.

use super::findings::{Cell, Findings, Spread};
use super::measures::{Field, MEASURES, Measure};
use std::fmt::Write;
use switchboard::load::figures::{count, number};
use switchboard::load::plot::escape;

pub(crate) struct Table {
    pub(crate) heading: String,
    /// Of these the first is the head.
    rows: Vec<Vec<String>>,
}

/// A table for each measure.
pub(crate) fn tables(findings: &Findings) -> Vec<Table> {
    let cells = in_order(findings);
    MEASURES.iter().map(|measure| table(findings, &cells, measure)).collect()
}

/// The whole answer, for standard output.
pub(crate) fn markdown(findings: &Findings) -> String {
    let mut text = String::new();
    for line in introduction(findings) {
        let _ = writeln!(text, "{line}");
    }
    for table in tables(findings) {
        let _ = write!(text, "\n{}:\n\n{}", table.heading, table.markdown());
    }
    let remarks = findings.remarks();
    if !remarks.is_empty() {
        let _ = writeln!(text);
    }
    for remark in remarks {
        let _ = writeln!(text, "- {remark}");
    }
    text
}

/// Where and how it was measured: a figure without that means nothing.
pub(crate) fn introduction(findings: &Findings) -> Vec<String> {
    let Findings { machine, stage, seconds, rounds, message_bytes, .. } = findings;
    let mut lines = vec![format!("{machine}; {stage}.")];
    lines.push(match rounds {
        1 => format!("One measurement of {seconds} s each, messages of {message_bytes} bytes."),
        _ => format!(
            "Medians of {rounds} interleaved rounds of {seconds} s, (from..to); messages of {message_bytes} bytes."
        ),
    });
    lines.push(
        "6 of 64: of 64 connections 6 talk. ≥: the generator was the limit, the server can do more.".into(),
    );
    let offered = in_order(findings)
        .iter()
        .filter_map(|cell| Some(format!("{}: {}", cell.shape, count(cell.offered_per_s? as u64))))
        .collect::<Vec<_>>();
    lines.push(format!(
        "The equal rate is half of what the slowest reached that serves everybody (an eighth, where one talks), in messages/s: {}.",
        offered.join("; ")
    ));
    if findings.unoptimised {
        lines.push("Built without optimisation: this shows that it runs, not how fast.".into());
    }
    lines
}

/// First those in which all talk.
pub(crate) fn in_order(findings: &Findings) -> Vec<&Cell> {
    let mut cells: Vec<&Cell> = findings.cells.iter().collect();
    cells.sort_by_key(|cell| (cell.shape.idle() > 0, cell.shape.connections));
    cells
}

fn table(findings: &Findings, cells: &[&Cell], measure: &Measure) -> Table {
    let mut head = vec!["connections".to_string()];
    head.extend(cells.iter().map(|cell| cell.shape.to_string()));
    let mut rows = vec![head];
    for model in &findings.models {
        let mut row = vec![model.label.to_string()];
        row.extend(cells.iter().map(|cell| shown(measure.field(cell, model.name))));
        rows.push(row);
    }
    Table { heading: measure.heading(), rows }
}

pub(crate) fn shown(field: Field<'_>) -> String {
    match field {
        Field::Unknown => "-".into(),
        Field::Absent(why) => why.into(),
        Field::Figure { spread: Spread { median, min, max }, at_least } => {
            let bound = if at_least { "≥" } else { "" };
            match min == max {
                true => format!("{bound}{}", finite(median)),
                false => format!("{bound}{} ({}..{})", finite(median), finite(min), finite(max)),
            }
        }
    }
}

fn finite(value: f64) -> String {
    if value.is_finite() { number(value) } else { "∞".into() }
}

impl Table {
    /// Columns stand below each other in a terminal, too.
    fn markdown(&self) -> String {
        let columns = self.rows[0].len();
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let _ = match column {
                    0 => write!(text, "| {cell:<width$} "),
                    _ => write!(text, "| {cell:>width$} "),
                };
            }
            text.push_str("|\n");
            if index == 0 {
                for (column, &width) in widths.iter().enumerate() {
                    let _ = match column {
                        0 => write!(text, "|{}", "-".repeat(width + 2)),
                        _ => write!(text, "|{}:", "-".repeat(width + 1)),
                    };
                }
                text.push_str("|\n");
            }
        }
        text
    }

    pub(crate) fn html(&self) -> String {
        let mut text = String::from("<table>\n");
        for (index, row) in self.rows.iter().enumerate() {
            text.push_str("<tr>");
            for (column, cell) in row.iter().enumerate() {
                let tag = if index == 0 || column == 0 { "th" } else { "td" };
                let _ = write!(text, "<{tag}>{}</{tag}>", escape(cell));
            }
            text.push_str("</tr>\n");
        }
        text + "</table>\n"
    }
}
