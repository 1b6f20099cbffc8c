//! The picture: four figures over the number of connections, a line for each model. On the left all connections talk, on the
//! right one in ten does. The charts of one row have one scale, so that they can be compared.
//!
//! It stands in the README as a file of its own and in the page as it is; it brings its colours for light and dark along.

use super::findings::{Cell, Findings};
use super::measures::{Field, MEASURES, Measure};
use super::tables;
use std::fmt::Write;
use switchboard::load::plot::{self, Axis, Chart, Ink, Point, Series, escape};

/// Of a chart without the names beside it.
const PANEL_WIDTH: u32 = 400;
const PANEL_HEIGHT: u32 = 226;
/// For the names of the models, which stand at the right of a row.
const NAMES_WIDTH: u32 = 108;
const GAP: u32 = 12;
const HEAD_HEIGHT: u32 = 64;
const TITLE: &str = "Ways to wait: the same echo, the same callers";

/// A self-contained SVG.
pub(crate) fn picture(findings: &Findings) -> String {
    let cells = tables::in_order(findings);
    let (talking, mixed): (Vec<&Cell>, Vec<&Cell>) = cells.iter().partition(|cell| cell.shape.idle() == 0);
    let columns: &[(&str, &[&Cell])] = match mixed.is_empty() {
        true => &[("all connections talk", &talking)],
        false => &[("all connections talk", &talking), ("one in ten talks, the others are silent", &mixed)],
    };
    let measures: Vec<&Measure> = MEASURES.iter().filter(|measure| measure.pictured).collect();

    let (columns_count, rows_count) = (columns.len() as u32, measures.len() as u32);
    let width = columns_count * PANEL_WIDTH + (columns_count + 1) * GAP + NAMES_WIDTH;
    let height = HEAD_HEIGHT + rows_count * (PANEL_HEIGHT + GAP);
    // A chart fills the width that it is given; here each has its own.
    let named_width = PANEL_WIDTH + NAMES_WIDTH;
    let mut svg = String::new();
    // Writing into a String can't fail.
    let _ = write!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {width} {height}" width="{width}" height="{height}"><title>{TITLE}</title><style>{}.plot .panel{{width:{PANEL_WIDTH}px;height:{PANEL_HEIGHT}px}}.plot .named{{width:{named_width}px}}</style><rect class="ground" width="{width}" height="{height}" rx="6"/><text class="name" x="{GAP}" y="24">{TITLE}</text>"#,
        plot::style()
    );
    for (row, measure) in measures.iter().enumerate() {
        let y = HEAD_HEIGHT + row as u32 * (PANEL_HEIGHT + GAP);
        let axis = common_axis(findings, &cells, measure);
        for (column, (_, cells)) in columns.iter().enumerate() {
            let named = column + 1 == columns.len();
            let panel = panel(findings, cells, measure, axis.clone(), named);
            let _ = write!(svg, r#"<g transform="translate({},{y})">{}</g>"#, left_of(column), panel.svg());
        }
    }
    for (column, (name, _)) in columns.iter().enumerate() {
        let _ = write!(svg, r#"<text x="{}" y="46">{}</text>"#, left_of(column), escape(name));
    }
    svg + "</svg>\n"
}

fn left_of(column: usize) -> u32 {
    GAP + column as u32 * (PANEL_WIDTH + GAP)
}

/// One measure over the connections of these cells.
fn panel(findings: &Findings, cells: &[&Cell], measure: &Measure, y: Axis, named: bool) -> Chart {
    let mut chart = Chart::new(&measure.heading(), connections_axis(findings), y)
        .size(PANEL_WIDTH, PANEL_HEIGHT)
        .class("panel");
    if named {
        chart = chart.size(PANEL_WIDTH + NAMES_WIDTH, PANEL_HEIGHT).class("panel named").names_at_ends();
    }
    for (hue, model) in findings.models.iter().enumerate() {
        let points = cells.iter().filter_map(|cell| match measure.field(cell, model.name) {
            Field::Figure { spread, .. } => Some(Point {
                x: cell.shape.connections as f64,
                y: spread.median,
                reach: (findings.rounds > 1).then_some((spread.min, spread.max)),
                tip: format!(
                    "{}, {}: {}",
                    model.label,
                    cell.shape,
                    tables::shown(measure.field(cell, model.name))
                ),
            }),
            Field::Absent(_) | Field::Unknown => None,
        });
        let name = if named { model.label } else { "" };
        chart = chart.series(Series::line(name, Ink::Hue(hue), points).dots());
    }
    chart
}

/// The same for both columns, though one connection alone is only in the left one.
fn connections_axis(findings: &Findings) -> Axis {
    let mut ticks: Vec<f64> = findings.cells.iter().map(|cell| cell.shape.connections as f64).collect();
    ticks.dedup();
    let (first, last) = (ticks.first().copied().unwrap_or(1.0), ticks.last().copied().unwrap_or(1.0));
    // Room for dots and whiskers at the ends.
    Axis::log("connections").range(first / 1.3, last * 1.3).ticks(&ticks)
}

/// One scale for the whole row.
fn common_axis(findings: &Findings, cells: &[&Cell], measure: &Measure) -> Axis {
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for cell in cells {
        for model in &findings.models {
            if let Field::Figure { spread, .. } = measure.field(cell, model.name) {
                low = low.min(spread.min);
                // What is infinite leaves at the top.
                high =
                    [spread.median, spread.max].into_iter().filter(|it| it.is_finite()).fold(high, f64::max);
            }
        }
    }
    match measure.spans_decades {
        true => Axis::log(&measure.heading()).range(0.9 * low, 1.1 * high),
        false => Axis::linear(&measure.heading()).range(0.0, 1.05 * high),
    }
}
