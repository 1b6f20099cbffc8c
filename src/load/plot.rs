//! Pictures as SVG: axes with good ticks, lines, steps, bars with whiskers, bands, rules, a heat map.
//!
//! A [`Chart`] is filled and then drawn, either as part of a page that carries [`style`], or as a file of
//! its own. It knows nothing of reports and has no scripts: SVG's own titles are the texts at the
//! pointer. Colours are CSS variables, so that one picture fits light and dark.
//!
//! Invariant: whatever the numbers, every coordinate is finite and within the picture, and every text is
//! escaped.

use std::fmt::Write as _;

/// The colours on a light ground, as CSS variables.
const LIGHT: &str = "--paper:#fff;--ink:#1b1f24;--ink-2:#4d5663;--ink-3:#7b8592;--line:#e3e6ea;--band:#f0f1f4;\
    --good:#147a4b;--bad:#c62f2f;--hover:#1b1f2412;\
    --s1:#1f62c9;--s2:#d4600a;--s3:#0b857a;--s4:#8440c0;--s5:#c42e74;--s6:#77760f;--s7:#87543a;--s8:#5f6a78;\
    --h1:#e3edfb;--h2:#c9dcf6;--h3:#a9c7ef;--h4:#83ade6;--h5:#5b90da;--h6:#3873c6;--h7:#2158a6;--h8:#123f80;--h9:#082a5a;";
/// The same on a dark one. The heat runs the other way: the most is the brightest.
const DARK: &str = "--paper:#15181d;--ink:#e9ecf0;--ink-2:#b0b9c4;--ink-3:#87919d;--line:#2b3139;--band:#20252c;\
    --good:#58c78f;--bad:#ff7d76;--hover:#ffffff18;\
    --s1:#74abff;--s2:#ff9d4d;--s3:#45cfbf;--s4:#c596ff;--s5:#ff82b9;--s6:#cfca50;--s7:#d6a583;--s8:#a9b4c2;\
    --h1:#18273d;--h2:#1b3557;--h3:#1f4675;--h4:#275a96;--h5:#3673b8;--h6:#5090d4;--h7:#7aafe6;--h8:#abcef3;--h9:#e0eefd;";
const RULES: &str = "\
    .plot{display:block;width:100%;height:auto;font:12px system-ui,-apple-system,'Segoe UI',Roboto,'Liberation Sans',sans-serif}\
    .plot text{fill:var(--ink-2);font-variant-numeric:tabular-nums}\
    .plot .ground{fill:var(--paper)}\
    .plot .name{fill:var(--ink);font-size:15px;font-weight:600}\
    .plot .grid{stroke:var(--line);fill:none}\
    .plot .axis{stroke:var(--ink-3);fill:none}\
    .plot .band{fill:var(--band)}\
    .plot .line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}\
    .plot .halo{fill:none;stroke:var(--paper);stroke-width:5;stroke-linejoin:round;opacity:.8}\
    .plot .dashed{stroke-dasharray:5 4;stroke-width:1.5;stroke-linecap:butt}\
    .plot .whisker{fill:none;stroke:var(--c);stroke-width:1.25;opacity:.75}\
    .plot .dot{fill:var(--c);stroke:var(--paper)}\
    .plot .bar{fill:var(--c)}\
    .plot .area{fill:var(--c);opacity:.13}\
    .plot .rule{stroke:var(--c);stroke-width:1.25;stroke-dasharray:2 3;fill:none}\
    .plot .said{fill:var(--c);stroke:var(--paper);stroke-width:4;stroke-linejoin:round;paint-order:stroke}\
    .plot .tip{fill:transparent}\
    .plot .tip:hover{fill:var(--hover)}";

/// Levels of the heat map's colours; each has a variable.
const HEAT_LEVELS: usize = 9;
/// Colours for series; each has a variable.
const HUES: usize = 8;
/// A 12 px sans serif's character, on average and rather too much.
const CHARACTER_PX: f64 = 6.6;
const LINE_PX: f64 = 18.0;

/// The style sheet of a page that charts stand in. The page may use the variables, too: `--paper`, `--ink`
/// and its paler `--ink-2` and `--ink-3`, `--line`, `--band`, `--good`, `--bad`, `--s1` to `--s8`.
pub fn style() -> String {
    format!(
        ":root{{color-scheme:light dark;{LIGHT}}}@media screen and (prefers-color-scheme:dark){{:root{{{DARK}}}}}{RULES}"
    )
}

/// Text from outside, as HTML and SVG take it, in an element or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML has no place for these, not even as a number.
            '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                escaped.push('\u{fffd}');
            }
            // These would turn round what is written behind them, as far as the line goes.
            _ if super::figures::turns_round(c) => escaped.push('\u{fffd}'),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// How numbers become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear,
    /// What isn't above zero stands at the low end.
    Log,
    /// Per cents, where 90, 99 and 99.9 are equally far apart.
    Nines,
}

/// One axis: what it is called, how it runs, and how its numbers are written.
#[derive(Debug, Clone)]
pub struct Axis {
    label: String,
    scale: Scale,
    range: Option<(f64, f64)>,
    ticks: Option<Vec<(f64, String)>>,
    shown_as: fn(f64) -> String,
}

impl Axis {
    fn new(label: &str, scale: Scale) -> Axis {
        Axis { label: label.into(), scale, range: None, ticks: None, shown_as: super::figures::number_tick }
    }

    /// Even steps. As a y axis it begins at 0.
    pub fn linear(label: &str) -> Axis {
        Axis::new(label, Scale::Linear)
    }

    /// Even factors.
    pub fn log(label: &str) -> Axis {
        Axis::new(label, Scale::Log)
    }

    /// Per cents from 0 to `percent_max`, spread so that the tail is seen.
    pub fn nines(label: &str, percent_max: f64) -> Axis {
        Axis::new(label, Scale::Nines).range(0.0, percent_max.clamp(90.0, 99.999_999))
    }

    /// Names instead of numbers: the first stands at 0, the next at 1.
    pub fn names(label: &str, names: &[&str]) -> Axis {
        let axis = Axis::new(label, Scale::Linear).range(-0.5, names.len() as f64 - 0.5);
        let ticks = names.iter().enumerate().map(|(place, name)| (place as f64, (*name).to_owned()));
        Axis { ticks: Some(ticks.collect()), ..axis }
    }

    /// From here to there, instead of what the data has.
    pub fn range(mut self, from: f64, to: f64) -> Axis {
        if from.is_finite() && to.is_finite() && from < to {
            self.range = Some((from, to));
        }
        self
    }

    /// Ticks at these numbers only.
    pub fn ticks(mut self, at: &[f64]) -> Axis {
        self.ticks = Some(at.iter().map(|at| (*at, (self.shown_as)(*at))).collect());
        self
    }

    /// How a number is written at a tick. Call it before [`Axis::ticks`].
    pub fn shown_as(mut self, shown_as: fn(f64) -> String) -> Axis {
        self.shown_as = shown_as;
        self
    }
}

/// A colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// One of eight colours that also colour-blind people can tell apart; the ninth is the first again.
    Hue(usize),
    /// For failures.
    Bad,
    /// For what is less important.
    Muted,
}

impl Ink {
    fn variable(self) -> String {
        match self {
            Ink::Hue(hue) => format!("--c:var(--s{})", hue % HUES + 1),
            Ink::Bad => "--c:var(--bad)".into(),
            Ink::Muted => "--c:var(--ink-3)".into(),
        }
    }

    /// Dots differ in form, too.
    fn dot(self, x: f64, y: f64) -> String {
        let form = if let Ink::Hue(hue) = self { hue % 4 } else { 0 };
        let (x, y) = (px(x), px(y));
        match form {
            0 => format!("M{x} {y}m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"),
            1 => format!("M{x} {y}m-3.5-3.5h7v7h-7z"),
            2 => format!("M{x} {y}m0-5l5 5l-5 5l-5-5z"),
            _ => format!("M{x} {y}m0-4.5l5 8.5h-10z"),
        }
    }
}

/// One number over another.
#[derive(Debug, Clone, Default)]
pub struct Point {
    /// Where.
    pub x: f64,
    /// How much. `INFINITY` visibly leaves at the top; `NAN` interrupts a line.
    pub y: f64,
    /// From the lower to the upper end of a whisker.
    pub reach: Option<(f64, f64)>,
    /// The text at the pointer.
    pub tip: String,
}

impl From<(f64, f64)> for Point {
    fn from((x, y): (f64, f64)) -> Point {
        Point { x, y, ..Point::default() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Line,
    Steps,
    Bars,
}

/// Points that belong together, and how they are drawn.
#[derive(Debug, Clone)]
pub struct Series {
    name: String,
    ink: Ink,
    form: Form,
    points: Vec<Point>,
    dashed: bool,
    dots: bool,
    filled: bool,
    thin: bool,
}

impl Series {
    fn new<P: Into<Point>>(name: &str, ink: Ink, form: Form, points: impl IntoIterator<Item = P>) -> Series {
        let points = points.into_iter().map(Into::into).filter(|point: &Point| point.x.is_finite()).collect();
        Series {
            name: name.into(),
            ink,
            form,
            points,
            dashed: false,
            dots: false,
            filled: false,
            thin: false,
        }
    }

    /// Points, joined. One without a name is not in the legend.
    pub fn line<P: Into<Point>>(name: &str, ink: Ink, points: impl IntoIterator<Item = P>) -> Series {
        Series::new(name, ink, Form::Line, points)
    }

    /// Each value holds until the next point.
    pub fn steps<P: Into<Point>>(name: &str, ink: Ink, points: impl IntoIterator<Item = P>) -> Series {
        Series::new(name, ink, Form::Steps, points)
    }

    /// Bars from the bottom. Those of several series at the same place stand side by side.
    pub fn bars<P: Into<Point>>(name: &str, ink: Ink, points: impl IntoIterator<Item = P>) -> Series {
        Series::new(name, ink, Form::Bars, points)
    }

    /// A broken line: what was offered, beside what was achieved.
    pub fn dashed(mut self) -> Series {
        self.dashed = true;
        self
    }

    /// With a dot at each point.
    pub fn dots(mut self) -> Series {
        self.dots = true;
        self
    }

    /// Bars of a few pixels, for single events over time.
    pub fn thin(mut self) -> Series {
        self.thin = true;
        self
    }

    /// With the area below it.
    pub fn filled(mut self) -> Series {
        self.filled = true;
        self
    }
}

/// A heat map: weights of the cells between edges.
#[derive(Debug, Clone, Default)]
pub struct Heat {
    /// What a weight counts: `replies`.
    pub what: String,
    /// The columns' edges, ascending, one more than columns.
    pub xs: Vec<f64>,
    /// The rows' edges, ascending, one more than rows.
    pub ys: Vec<f64>,
    /// Column after column, each from the lowest row up.
    pub weights: Vec<f64>,
}

/// A line across the picture with a label.
#[derive(Debug, Clone)]
struct Rule {
    across: bool,
    at: f64,
    said: String,
    ink: Ink,
}

/// A picture.
#[derive(Debug, Clone)]
pub struct Chart {
    name: String,
    note: String,
    class: String,
    width: f64,
    height: f64,
    x: Axis,
    y: Axis,
    series: Vec<Series>,
    bands: Vec<(f64, f64, String)>,
    rules: Vec<Rule>,
    heat: Option<Heat>,
    tips: Vec<(f64, f64, String)>,
    names_at_ends: bool,
}

impl Chart {
    /// An empty one. The name is its title where it stands alone, and the text of a screen reader.
    pub fn new(name: &str, x: Axis, y: Axis) -> Chart {
        Chart {
            name: name.into(),
            note: String::new(),
            class: String::new(),
            width: 920.0,
            height: 320.0,
            x,
            y,
            series: Vec::new(),
            bands: Vec::new(),
            rules: Vec::new(),
            heat: None,
            tips: Vec::new(),
            names_at_ends: false,
        }
    }

    /// What the picture shows, in a sentence, for people who can't see it; below the title where it stands alone.
    pub fn note(mut self, note: &str) -> Chart {
        self.note = note.into();
        self
    }

    /// One more CSS class.
    pub fn class(mut self, class: &str) -> Chart {
        self.class = class.into();
        self
    }

    /// Its size in CSS pixels, unless it is made to fit. At least 240 by 160.
    pub fn size(mut self, width: u32, height: u32) -> Chart {
        (self.width, self.height) = (f64::from(width.max(240)), f64::from(height.max(160)));
        self
    }

    /// One more series, in front of the earlier ones.
    pub fn series(mut self, series: Series) -> Chart {
        self.series.push(series);
        self
    }

    /// A shaded stretch of the x axis.
    pub fn band(mut self, from: f64, to: f64, said: &str) -> Chart {
        self.bands.push((from, to, said.into()));
        self
    }

    /// A line across, at a height.
    pub fn rule_y(mut self, at: f64, ink: Ink, said: &str) -> Chart {
        self.rules.push(Rule { across: true, at, said: said.into(), ink });
        self
    }

    /// A line from top to bottom.
    pub fn rule_x(mut self, at: f64, ink: Ink, said: &str) -> Chart {
        self.rules.push(Rule { across: false, at, said: said.into(), ink });
        self
    }

    /// Cells behind everything else.
    pub fn heat(mut self, heat: Heat) -> Chart {
        self.heat = Some(heat);
        self
    }

    /// The text when the pointer is at a stretch of the x axis.
    pub fn tip(mut self, from: f64, to: f64, said: &str) -> Chart {
        self.tips.push((from, to, said.into()));
        self
    }

    /// The legend stands at the right, in the order in which the lines end: for many lines.
    pub fn names_at_ends(mut self) -> Chart {
        self.names_at_ends = true;
        self
    }

    /// To stand in a page that has [`style`].
    pub fn svg(&self) -> String {
        self.drawn(false)
    }

    /// A file of its own, with title, ground and colours for light and dark.
    pub fn standalone(&self) -> String {
        self.drawn(true)
    }

    fn drawn(&self, alone: bool) -> String {
        let layout = Layout::of(self, alone);
        let mut svg = Svg::default();
        let label = [self.name.as_str(), self.note.as_str()].join(". ");
        let (label, class) = (escape(label.trim_end_matches(". ")), escape(&self.class));
        let (width, height) = (px(self.width), px(layout.height));
        svg.add(format_args!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" class="plot {class}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{label}">"#
        ));
        if alone {
            svg.add(format_args!(
                "<title>{}</title><style>.plot{{{LIGHT}}}@media (prefers-color-scheme:dark){{.plot{{{DARK}}}}}{RULES}</style>",
                escape(&self.name)
            ));
            svg.add(format_args!(r#"<rect class="ground" width="{width}" height="{height}" rx="6"/>"#));
            svg.text("name", 16.0, 26.0, "start", &self.name);
            if !self.note.is_empty() {
                svg.text("", 16.0, 45.0, "start", &self.note);
            }
        }
        self.draw_ground(&mut svg, &layout);
        self.draw_axes(&mut svg, &layout);
        let bars = self.series.iter().filter(|it| it.form == Form::Bars).count();
        let mut bar = 0;
        for series in &self.series {
            svg.add(format_args!(r#"<g style="{}">"#, series.ink.variable()));
            if series.form == Form::Bars {
                draw_bars(&mut svg, &layout, series, bar, bars);
                bar += 1;
            } else {
                self.draw_line(&mut svg, &layout, series);
            }
            svg.add(format_args!("</g>"));
        }
        self.draw_rules(&mut svg, &layout);
        for (from, to, said) in &self.tips {
            let (from, to) = (layout.x(*from), layout.x(*to));
            let (x, width, y, height) =
                (px(from), px(to - from), px(layout.top), px(layout.bottom - layout.top));
            svg.add(format_args!(
                r#"<rect class="tip" x="{x}" y="{y}" width="{width}" height="{height}"><title>{}</title></rect>"#,
                escape(said)
            ));
        }
        self.draw_dots(&mut svg, &layout);
        self.draw_legend(&mut svg, &layout);
        svg.add(format_args!("</svg>\n"));
        svg.0
    }

    fn draw_ground(&self, svg: &mut Svg, layout: &Layout<'_>) {
        for (from, to, _) in &self.bands {
            let (from, to) = (layout.x(*from), layout.x(*to));
            let (x, width, y, height) =
                (px(from), px(to - from), px(layout.top), px(layout.bottom - layout.top));
            svg.add(format_args!(
                r#"<rect class="band" x="{x}" y="{y}" width="{width}" height="{height}"/>"#
            ));
        }
        let Some(heat) = &self.heat else { return };
        let most = heat.weights.iter().copied().filter(|it| it.is_finite()).fold(0.0, f64::max);
        let rows = heat.ys.len().saturating_sub(1);
        // One path per colour: thousands of cells, nine elements.
        let mut paths = vec![String::new(); HEAT_LEVELS];
        for (place, weight) in heat.weights.iter().enumerate() {
            let (Some(level), true) = (heat_level(*weight, most), rows > 0) else { continue };
            let (column, row) = (place / rows, place % rows);
            let (Some(x), Some(y)) = (heat.xs.get(column..column + 2), heat.ys.get(row..row + 2)) else {
                continue;
            };
            let (left, right) = (layout.x(x[0]), layout.x(x[1]));
            let (top, bottom) = (layout.y(y[1]), layout.y(y[0]));
            // A little more than its place, or the ground shines through between cells.
            let _ = write!(
                paths[level],
                "M{} {}h{}v{}h-{}z",
                px(left),
                px(top),
                px(right - left + 0.3),
                px(bottom - top + 0.3),
                px(right - left + 0.3)
            );
        }
        for (level, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
            svg.add(format_args!(r#"<path style="fill:var(--h{})" d="{path}"/>"#, level + 1));
        }
    }

    fn draw_axes(&self, svg: &mut Svg, layout: &Layout<'_>) {
        let mut grid = String::new();
        for (at, said) in &layout.y.ticks {
            let y = layout.y(*at);
            let _ = write!(grid, "M{} {}H{}", px(layout.left), px(y), px(layout.right));
            svg.text("", layout.left - 8.0, y + 4.0, "end", said);
        }
        let mut marks = String::new();
        // Labels that would run into the one before are left out; the mark stays.
        let mut free_from = f64::NEG_INFINITY;
        for (at, said) in &layout.x.ticks {
            let x = layout.x(*at);
            let _ = write!(marks, "M{} {}v4", px(x), px(layout.bottom));
            if self.x.scale != Scale::Linear {
                let _ = write!(grid, "M{} {}V{}", px(x), px(layout.top), px(layout.bottom));
            }
            let half = text_px(said) / 2.0;
            let x = x.min(self.width - half - 2.0);
            if x - half >= free_from {
                svg.text("", x, layout.bottom + 18.0, "middle", said);
                free_from = x + half + 6.0;
            }
        }
        if self.heat.is_none() {
            svg.add(format_args!(r#"<path class="grid" d="{grid}"/>"#));
        }
        let (left, bottom, right) = (px(layout.left), px(layout.bottom), px(layout.right));
        svg.add(format_args!(r#"<path class="axis" d="M{left} {bottom}H{right}{marks}"/>"#));
        svg.text("", layout.left, layout.top - 10.0, "start", &self.y.label);
        svg.text("", (layout.left + layout.right) / 2.0, layout.bottom + 37.0, "middle", &self.x.label);
    }

    fn draw_line(&self, svg: &mut Svg, layout: &Layout<'_>, series: &Series) {
        let mut path = String::new();
        let mut area = String::new();
        let mut whiskers = String::new();
        let mut out_at = Vec::new();
        // Where the stretch that is being drawn began, and the point before.
        let mut began = None;
        let mut before: Option<(f64, f64)> = None;
        let close = |area: &mut String, began: Option<f64>, before: Option<(f64, f64)>| {
            if let (Some(began), Some((x, _))) = (began, before) {
                let _ = write!(area, "L{} {}H{}z", px(x), px(layout.bottom), px(began));
            }
        };
        for point in &series.points {
            if point.y.is_nan() {
                close(&mut area, began.take(), before.take());
                continue;
            }
            let (x, y) = (layout.x(point.x), layout.y(point.y));
            let step = match before {
                None => format!("M{} {}", px(x), px(y)),
                Some((_, before)) if series.form == Form::Steps => {
                    format!("L{} {}L{} {}", px(x), px(before), px(x), px(y))
                }
                Some(_) => format!("L{} {}", px(x), px(y)),
            };
            path.push_str(&step);
            area.push_str(&step);
            began = began.or(Some(x));
            if point.y == f64::INFINITY {
                out_at.push(x);
            }
            if let Some((low, high)) = point.reach {
                whiskers.push_str(&whisker(x, layout.y(low), layout.y(high)));
            }
            before = Some((x, y));
        }
        close(&mut area, began, before);
        if series.filled && !area.is_empty() {
            svg.add(format_args!(r#"<path class="area" d="{area}"/>"#));
        }
        if self.heat.is_some() {
            svg.add(format_args!(r#"<path class="halo" d="{path}"/>"#));
        }
        let dashed = if series.dashed { " dashed" } else { "" };
        svg.add(format_args!(r#"<path class="line{dashed}" d="{path}"/>"#));
        if !whiskers.is_empty() {
            svg.add(format_args!(r#"<path class="whisker" d="{whiskers}"/>"#));
        }
        for x in out_at {
            svg.add(format_args!(r#"<path class="bar" d="M{} {}l-5 8h10z"/>"#, px(x), px(layout.top - 5.0)));
        }
    }

    /// Above everything, so that they can be pointed at.
    fn draw_dots(&self, svg: &mut Svg, layout: &Layout<'_>) {
        for series in self.series.iter().filter(|it| it.form != Form::Bars) {
            let points: Vec<&Point> = series
                .points
                .iter()
                .filter(|it| it.y.is_finite() && (series.dots || !it.tip.is_empty()))
                .collect();
            if points.is_empty() {
                continue;
            }
            svg.add(format_args!(r#"<g style="{}">"#, series.ink.variable()));
            for point in points {
                let class = if series.dots { "dot" } else { "tip" };
                let dot = series.ink.dot(layout.x(point.x), layout.y(point.y));
                svg.add(format_args!(r#"<path class="{class}" d="{dot}">{}</path>"#, title(&point.tip)));
            }
            svg.add(format_args!("</g>"));
        }
    }

    /// Their labels stand below a rule's right end, and left of a rule's top: lines rise to the right more
    /// often than they fall.
    fn draw_rules(&self, svg: &mut Svg, layout: &Layout<'_>) {
        for (from, to, said) in &self.bands {
            // Where it doesn't fit inside, it stands beside.
            let (from, to, width) = (layout.x(*from), layout.x(*to), text_px(said) + 5.0);
            let (above, below) = (layout.top + 13.0, layout.bottom - 8.0);
            let (x, y, anchor) = match to - from {
                inside if inside >= width => (from + 5.0, above, "start"),
                _ if to + width <= layout.right => (to + 5.0, above, "start"),
                _ => (from - 5.0, below, "end"),
            };
            svg.add(format_args!(r#"<g style="--c:var(--ink-3)">"#));
            svg.text("said", x, y, anchor, said);
            svg.add(format_args!("</g>"));
        }
        for rule in &self.rules {
            if !rule.at.is_finite() {
                continue;
            }
            svg.add(format_args!(r#"<g style="{}">"#, rule.ink.variable()));
            if rule.across {
                let y = layout.y(rule.at);
                let (left, right) = (px(layout.left), px(layout.right));
                svg.add(format_args!(r#"<path class="rule" d="M{left} {}H{right}"/>"#, px(y)));
                svg.text("said", layout.right - 4.0, y + 14.0, "end", &rule.said);
            } else {
                let x = layout.x(rule.at);
                let (top, bottom) = (px(layout.top), px(layout.bottom));
                svg.add(format_args!(r#"<path class="rule" d="M{} {top}V{bottom}"/>"#, px(x)));
                let at_left = x - 6.0 - text_px(&rule.said) >= layout.left;
                let (x, anchor) = if at_left { (x - 6.0, "end") } else { (x + 6.0, "start") };
                svg.text("said", x, layout.top + 13.0, anchor, &rule.said);
            }
            svg.add(format_args!("</g>"));
        }
    }

    fn draw_legend(&self, svg: &mut Svg, layout: &Layout<'_>) {
        for (series, x, y) in &layout.legend {
            let (x, y) = (*x, *y);
            svg.add(format_args!(r#"<g style="{}">"#, series.ink.variable()));
            if series.form == Form::Bars {
                svg.add(format_args!(
                    r#"<path class="bar" d="M{} {}h14v9h-14z"/>"#,
                    px(x + 2.0),
                    px(y - 8.5)
                ));
            } else {
                let dashed = if series.dashed { " dashed" } else { "" };
                svg.add(format_args!(r#"<path class="line{dashed}" d="M{} {}h18"/>"#, px(x), px(y - 4.0)));
            }
            if series.dots {
                svg.add(format_args!(r#"<path class="dot" d="{}"/>"#, series.ink.dot(x + 9.0, y - 4.0)));
            }
            svg.add(format_args!("</g>"));
            svg.text("", x + 24.0, y, "start", &series.name);
        }
        if let (Some(heat), Some((x, y))) = (&self.heat, layout.heat_legend) {
            let few = format!("{}: few", heat.what);
            svg.text("", x, y, "start", &few);
            let x = x + text_px(&few) + 6.0;
            for level in 0..HEAT_LEVELS {
                let (x, y) = (px(x + 12.0 * level as f64), px(y - 9.5));
                let fill = level + 1;
                svg.add(format_args!(
                    r#"<rect style="fill:var(--h{fill})" x="{x}" y="{y}" width="12.3" height="11"/>"#
                ));
            }
            svg.text("", x + 12.0 * HEAT_LEVELS as f64 + 6.0, y, "start", "many");
        }
    }
}

/// By the logarithm: one slow reply among ten thousand must be seen.
fn heat_level(weight: f64, most: f64) -> Option<usize> {
    if weight.is_nan() || weight <= 0.0 || most <= 0.0 {
        return None;
    }
    let part = weight.ln_1p() / most.ln_1p();
    Some(((part * HEAT_LEVELS as f64) as usize).min(HEAT_LEVELS - 1))
}

fn draw_bars(svg: &mut Svg, layout: &Layout<'_>, series: &Series, place: usize, places: usize) {
    // Together the bars of one place take three quarters of the way to the next.
    let mut xs: Vec<f64> = series.points.iter().map(|point| layout.x(point.x)).collect();
    xs.sort_by(f64::total_cmp);
    let gaps = xs.windows(2).map(|two| two[1] - two[0]).filter(|gap| *gap > 0.0);
    let slot = match series.thin {
        true => 4.0,
        false => gaps.fold((layout.right - layout.left) / 4.0, f64::min) * 0.75,
    };
    let width = (slot / places as f64).max(1.0);
    for point in series.points.iter().filter(|point| point.y > 0.0) {
        let x = layout.x(point.x) - slot / 2.0 + width * place as f64;
        // Something that happened is seen, however little it was.
        let top = layout.y(point.y).min(layout.bottom - 3.0);
        let (left, top, right) = (px(x), px(top), px(x + (width - 1.0).max(1.0)));
        let bottom = px(layout.bottom);
        let tip = title(&point.tip);
        svg.add(format_args!(
            r#"<path class="bar" d="M{left} {bottom}V{top}H{right}V{bottom}z">{tip}</path>"#
        ));
        if let Some((low, high)) = point.reach {
            let whisker = whisker(x + width / 2.0, layout.y(low), layout.y(high));
            svg.add(format_args!(r#"<path class="whisker" style="stroke:var(--ink)" d="{whisker}"/>"#));
        }
    }
}

fn whisker(x: f64, low: f64, high: f64) -> String {
    let (x, low, high) = (px(x), px(low), px(high));
    format!("M{x} {low}V{high}M{x} {low}m-3 0h6M{x} {high}m-3 0h6")
}

fn title(tip: &str) -> String {
    if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) }
}

/// Where everything stands.
struct Layout<'a> {
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    /// Dots and whiskers at the first and the last place need room beside them.
    inset: f64,
    x: Range,
    y: Range,
    legend: Vec<(&'a Series, f64, f64)>,
    heat_legend: Option<(f64, f64)>,
}

impl<'a> Layout<'a> {
    fn of(chart: &'a Chart, alone: bool) -> Layout<'a> {
        let margin = if alone { 16.0 } else { 0.0 };
        let mut top = match (alone, chart.note.is_empty()) {
            (false, _) => 0.0,
            (true, true) => 38.0,
            (true, false) => 57.0,
        };
        let named: Vec<&Series> = chart.series.iter().filter(|series| !series.name.is_empty()).collect();
        let at_ends = chart.names_at_ends && named.len() > 1;
        let item_px = |series: &Series| 24.0 + text_px(&series.name) + 18.0;
        let widest = named.iter().map(|series| item_px(series)).fold(0.0, f64::max);
        let right = chart.width - margin - if at_ends { widest } else { 8.0 };

        // The legend shares the line of the y axis' label where there is room, and goes above it where not.
        let mut legend = Vec::new();
        let heat_px =
            chart.heat.as_ref().map_or(0.0, |heat| text_px(&heat.what) + 12.0 * HEAT_LEVELS as f64 + 90.0);
        let wanted: f64 = heat_px + named.iter().map(|series| item_px(series)).sum::<f64>();
        let mut heat_legend = None;
        let shown = !at_ends && (named.len() > 1 || chart.heat.is_some());
        if shown {
            let room = chart.width - 2.0 * margin;
            let shares = margin + text_px(&chart.y.label) + 80.0 + wanted <= room;
            let begin = if shares { chart.width - margin - wanted } else { margin };
            let (mut x, mut y) = (begin, top + 14.0);
            for series in named.iter().copied() {
                if x > begin && x + item_px(series) > chart.width - margin + 18.0 {
                    (x, y) = (begin, y + LINE_PX);
                }
                legend.push((series, x, y));
                x += item_px(series);
            }
            if chart.heat.is_some() {
                if x > begin && x + heat_px > chart.width - margin + 18.0 {
                    (x, y) = (begin, y + LINE_PX);
                }
                heat_legend = Some((x, y));
            }
            top = if shares { top } else { y + 6.0 };
        }
        // The label's line, and room for the mark of what leaves at the top.
        top += 14.0 + 12.0;
        let bottom = chart.height - if chart.x.label.is_empty() { 26.0 } else { 44.0 } - margin / 2.0;
        let height = chart.height.max(top + 120.0 + (chart.height - bottom));
        let bottom = bottom + (height - chart.height);

        let points = || chart.series.iter().flat_map(|series| &series.points);
        let heat = chart.heat.iter();
        let ys = points()
            .flat_map(|point| {
                let (low, high) = point.reach.unwrap_or((point.y, point.y));
                [point.y, low, high]
            })
            .chain(heat.clone().flat_map(|heat| heat.ys.iter().copied()))
            .chain(chart.rules.iter().filter(|rule| rule.across).map(|rule| rule.at));
        let y = Range::of(&chart.y, ys, true, ((bottom - top) / 28.0) as usize);
        let widest_tick = y.ticks.iter().map(|(_, said)| text_px(said)).fold(0.0, f64::max);
        // A least width, so that pictures below each other are in line.
        let least = if chart.width >= 600.0 { 54.0 } else { 44.0 };
        let left = (margin + widest_tick + 10.0).max(least).min(chart.width / 2.0);
        let xs = points()
            .map(|point| point.x)
            .chain(heat.flat_map(|heat| heat.xs.iter().copied()))
            .chain(chart.bands.iter().flat_map(|(from, to, _)| [*from, *to]));
        let x = Range::of(&chart.x, xs, false, ((right - left) / 75.0) as usize);
        let dotted =
            chart.series.iter().any(|series| series.dots || (series.form == Form::Bars && !series.thin));
        let inset = if dotted && chart.x.range.is_none() { 14.0 } else { 0.0 };
        let mut layout = Layout { height, left, right, top, bottom, inset, x, y, legend, heat_legend };
        if at_ends {
            layout.legend = layout.names_at_ends(&named);
        }
        layout
    }

    /// Beside where the lines end, and never two on one place.
    fn names_at_ends(&self, named: &[&'a Series]) -> Vec<(&'a Series, f64, f64)> {
        let end = |series: &Series| {
            let last = series.points.iter().rfind(|point| !point.y.is_nan());
            last.map_or(self.bottom, |point| self.y(point.y))
        };
        let mut ends: Vec<(&Series, f64)> = named.iter().map(|series| (*series, end(series))).collect();
        ends.sort_by(|a, b| a.1.total_cmp(&b.1));
        // Down as far as needed, and up again from the bottom where that was too far.
        let mut free_from = self.top;
        for (_, y) in &mut ends {
            *y = y.max(free_from);
            free_from = *y + LINE_PX;
        }
        let mut free_to = self.bottom;
        for (_, y) in ends.iter_mut().rev() {
            *y = y.min(free_to);
            free_to = *y - LINE_PX;
        }
        ends.into_iter().map(|(series, y)| (series, self.right + 10.0, y + 4.0)).collect()
    }

    fn x(&self, value: f64) -> f64 {
        self.left + self.inset + self.x.part(value) * (self.right - self.left - 2.0 * self.inset)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - self.y.part(value) * (self.bottom - self.top)
    }
}

/// An axis with its ends and ticks settled.
struct Range {
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

impl Range {
    /// `snapped`: the ends are moved out to the next ticks.
    fn of(axis: &Axis, values: impl Iterator<Item = f64>, snapped: bool, ticks_max: usize) -> Range {
        let scale = axis.scale;
        let values = values.filter(|it| it.is_finite() && (scale != Scale::Log || *it > 0.0));
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| (low.min(it), high.max(it)));
        let (mut from, mut to) = match (axis.range, low <= high) {
            (Some(range), _) => range,
            (None, true) => (low, high),
            (None, false) => (1.0, 10.0),
        };
        let ticks_max = ticks_max.clamp(2, 12);
        let snapped = snapped && axis.range.is_none();
        match scale {
            Scale::Linear => {
                if snapped {
                    from = from.min(0.0);
                }
                if from >= to {
                    to = from + from.abs() * 0.1 + 1.0;
                }
                if snapped {
                    let step = step(from, to, ticks_max);
                    (from, to) = ((from / step).floor() * step, (to / step).ceil() * step);
                }
            }
            Scale::Log => {
                if snapped {
                    (from, to) = (one_two_five(from, false), one_two_five(to, true));
                }
                if from >= to {
                    to = from * 10.0;
                }
            }
            Scale::Nines => {}
        }
        let at = match scale {
            Scale::Linear => linear_ticks(from, to, ticks_max),
            Scale::Log => log_ticks(from, to, ticks_max),
            Scale::Nines => nines_ticks(to),
        };
        let ticks =
            axis.ticks.clone().unwrap_or_else(|| at.iter().map(|at| (*at, (axis.shown_as)(*at))).collect());
        Range { scale, from, to, ticks }
    }

    /// From 0 to 1: where between the ends.
    fn part(&self, value: f64) -> f64 {
        let place = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Nines => -(1.0 - value.min(self.to) / 100.0).log10(),
        };
        let part = (place(value) - place(self.from)) / (place(self.to) - place(self.from));
        // What is infinitely much over something stands at the end; what is no number at the begin.
        if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) }
    }
}

/// 1, 2 or 5 times a power of ten, so that no more than `ticks_max` fit.
fn step(from: f64, to: f64, ticks_max: usize) -> f64 {
    let least = (to - from) / ticks_max as f64;
    one_two_five(if least.is_finite() { least } else { f64::MAX / 100.0 }, true)
}

/// The next 1, 2 or 5 times a power of ten, above or below.
fn one_two_five(value: f64, above: bool) -> f64 {
    let value = value.clamp(1e-300, 1e300);
    let decade = 10f64.powi(value.log10().floor() as i32);
    // A hair's breadth, for what is one already but for its last binary digit.
    let fits = |it: &f64| if above { *it >= value * 0.999_999_999 } else { *it <= value * 1.000_000_001 };
    let mut steps = [1.0, 2.0, 5.0, 10.0].map(|it| it * decade);
    if !above {
        steps.reverse();
    }
    steps.into_iter().find(fits).unwrap_or(decade)
}

fn linear_ticks(from: f64, to: f64, ticks_max: usize) -> Vec<f64> {
    let step = step(from, to, ticks_max);
    let first = (from / step - 1e-9).ceil();
    (0..=ticks_max)
        .map(|place| (first + place as f64) * step)
        .take_while(|at| *at <= to + step * 1e-9)
        // -0 would be written with its sign.
        .map(|at| at + 0.0)
        .collect()
}

fn log_ticks(from: f64, to: f64, ticks_max: usize) -> Vec<f64> {
    let (first, last) = (from.log10().floor() as i32, to.log10().ceil() as i32);
    let within = |at: &f64| *at >= from * 0.999_999 && *at <= to * 1.000_001;
    let decades = |every: usize| (first..=last).step_by(every).map(|exponent| 10f64.powi(exponent));
    let each = |parts: &[f64]| -> Vec<f64> {
        decades(1).flat_map(|decade| parts.iter().map(move |part| part * decade)).filter(within).collect()
    };
    let all = each(&[1.0, 2.0, 5.0]);
    if all.len() < 2 {
        return linear_ticks(from, to, ticks_max.min(4));
    }
    [all, each(&[1.0, 3.0])]
        .into_iter()
        .chain((1..=700).map(|every| decades(every).filter(within).collect()))
        .find(|ticks| ticks.len() <= ticks_max)
        .unwrap_or_default()
}

fn nines_ticks(to: f64) -> Vec<f64> {
    let mut ticks = vec![0.0, 50.0];
    // Counted in digits: 100 - 0.001 has a binary tail that would be printed.
    ticks.extend(
        (1..9)
            .map(|nines| (10f64.powi(nines) - 1.0) / 10f64.powi(nines - 2))
            .take_while(|it| *it <= to + 1e-9),
    );
    ticks
}

/// A coordinate: a tenth of a pixel is finer than the eye.
fn px(value: f64) -> String {
    let text = format!("{:.1}", if value.is_finite() { value } else { 0.0 });
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".into() } else { text.into() }
}

fn text_px(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER_PX
}

#[derive(Default)]
struct Svg(String);

impl Svg {
    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a String can't fail.
        let _ = self.0.write_fmt(text);
    }

    fn text(&mut self, class: &str, x: f64, y: f64, anchor: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let class = if class.is_empty() { String::new() } else { format!(r#" class="{class}""#) };
        let anchor = if anchor == "start" { String::new() } else { format!(r#" text-anchor="{anchor}""#) };
        self.add(format_args!(r#"<text{class} x="{}" y="{}"{anchor}>{}</text>"#, px(x), px(y), escape(text)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::figures;

    fn ticks(axis: &Axis, values: &[f64], snapped: bool, ticks_max: usize) -> Vec<String> {
        let range = Range::of(axis, values.iter().copied(), snapped, ticks_max);
        range.ticks.into_iter().map(|(_, said)| said).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let linear = Axis::linear("");
        assert_eq!(ticks(&linear, &[0.0, 9.3], true, 6), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(ticks(&linear, &[183_000.0], true, 5), ["0", "50,000", "100,000", "150,000", "200,000"]);
        assert_eq!(ticks(&linear, &[1.3, 2.9], false, 4), ["1.5", "2", "2.5"]);
        assert_eq!(ticks(&linear, &[-3.0, 3.0], true, 4), ["-4", "-2", "0", "2", "4"]);
        let log = Axis::log("").shown_as(figures::time_tick);
        assert_eq!(ticks(&log, &[210e3, 4e6], true, 8), ["200 us", "500 us", "1 ms", "2 ms", "5 ms"]);
        assert_eq!(
            ticks(&log, &[1e3, 9e6], true, 9),
            ["1 us", "3 us", "10 us", "30 us", "100 us", "300 us", "1 ms", "3 ms", "10 ms"]
        );
        assert_eq!(ticks(&log, &[1e3, 9e8], true, 5), ["1 us", "100 us", "10 ms", "1 s"]);
        let nines = Axis::nines("", 99.995).shown_as(|percent| percent.to_string());
        assert_eq!(ticks(&nines, &[], false, 9), ["0", "50", "90", "99", "99.9", "99.99"]);
        assert_eq!(
            ticks(&Axis::log("").ticks(&[1.0, 8.0, 1000.0]), &[1.0, 1000.0], false, 9),
            ["1", "8", "1,000"]
        );
    }

    #[test]
    fn nines_are_equally_far_apart() {
        let range = Range::of(&Axis::nines("", 99.999), std::iter::empty(), false, 9);
        assert!((range.part(99.0) - range.part(90.0) - (range.part(99.9) - range.part(99.0))).abs() < 1e-9);
        assert_eq!(range.part(0.0), 0.0);
        assert_eq!(range.part(100.0), 1.0);
    }

    /// Every number in every attribute that places something.
    fn coordinates(svg: &str) -> Vec<f64> {
        [" d=\"", " x=\"", " y=\"", "width=\"", "height=\"", "viewBox=\""]
            .iter()
            .flat_map(|attribute| svg.split(attribute).skip(1))
            .flat_map(|rest| {
                rest.split('"').next().unwrap_or_default().split(|c: char| c.is_alphabetic() || c == ' ')
            })
            .flat_map(|text| {
                text.split_inclusive('-').map(|it| it.trim_end_matches('-').to_owned()).collect::<Vec<_>>()
            })
            .filter(|text| !text.is_empty())
            .map(|text| text.parse().expect("a number"))
            .collect()
    }

    #[test]
    fn whatever_the_numbers_everything_stands_in_the_picture() {
        let wild = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            f64::MIN,
            -1.0,
            0.0,
            f64::MIN_POSITIVE,
            5.0,
        ];
        let axes: [fn(&str) -> Axis; 3] = [Axis::linear, Axis::log, |label| Axis::nines(label, f64::NAN)];
        for x in axes {
            for y in axes {
                for values in [&wild[..], &wild[..1], &wild[6..7], &[]] {
                    let points: Vec<(f64, f64)> =
                        values.iter().flat_map(|x| values.iter().map(|y| (*x, *y))).collect();
                    let whiskers = values.iter().map(|it| Point {
                        x: 1.0,
                        y: *it,
                        reach: Some((*it, *it)),
                        ..Point::default()
                    });
                    let heat = Heat {
                        what: "it".into(),
                        xs: values.to_vec(),
                        ys: values.to_vec(),
                        weights: values.to_vec(),
                    };
                    let mut chart = Chart::new("a", x("b"), y("c"))
                        .size(0, 0)
                        .series(Series::line("line", Ink::Hue(0), points.clone()).filled().dots())
                        .series(Series::steps("steps", Ink::Hue(1), points).dashed())
                        .series(Series::bars("bars", Ink::Bad, whiskers))
                        .heat(heat);
                    for value in values {
                        chart = chart
                            .rule_x(*value, Ink::Muted, "x")
                            .rule_y(*value, Ink::Muted, "y")
                            .band(*value, 1.0, "z")
                            .tip(*value, 9.0, "t");
                    }
                    for svg in [chart.svg(), chart.standalone(), chart.clone().names_at_ends().svg()] {
                        assert!(!svg.contains("NaN") && !svg.contains("\"inf") && svg.ends_with("</svg>\n"));
                        for it in coordinates(&svg) {
                            assert!(it.abs() <= 2_000.0, "{it} in\n{svg}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_has_no_end_leaves_at_the_top_and_what_is_missing_is_a_gap() {
        let points = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 2.0), (3.0, f64::INFINITY)];
        let svg = Chart::new("", Axis::linear(""), Axis::linear(""))
            .series(Series::line("", Ink::Hue(0), points))
            .svg();
        let line =
            svg.split("class=\"line\" d=\"").nth(1).and_then(|it| it.split('"').next()).expect("a line");
        assert_eq!(line.matches('M').count(), 2, "{line}");
        assert_eq!(svg.matches("class=\"bar\"").count(), 1, "one arrow");
    }

    #[test]
    fn texts_are_escaped() {
        let bad = "</svg><script>\"'&\u{1b}";
        let chart = Chart::new(bad, Axis::names(bad, &[bad]), Axis::linear(bad))
            .note(bad)
            .class(bad)
            .series(Series::bars(bad, Ink::Hue(9), [Point { y: 1.0, tip: bad.into(), ..Point::default() }]))
            .series(Series::line(bad, Ink::Hue(0), [(0.0, 1.0)]))
            .rule_x(0.0, Ink::Bad, bad)
            .band(0.0, 0.5, bad)
            .tip(0.0, 0.5, bad);
        for svg in [chart.svg(), chart.standalone()] {
            assert!(
                !svg.contains("<script") && !svg.contains('\u{1b}') && svg.matches("</svg>").count() == 1,
                "{svg}"
            );
        }
    }

    #[test]
    fn names_at_the_ends_of_lines_never_touch() {
        let mut chart = Chart::new("", Axis::linear(""), Axis::linear("")).names_at_ends();
        for hue in 0..8 {
            chart =
                chart.series(Series::line("a name", Ink::Hue(hue), [(0.0, 0.0), (1.0, 100.0 + hue as f64)]));
        }
        let layout = Layout::of(&chart, false);
        assert_eq!(layout.legend.len(), 8);
        assert!(layout.legend.windows(2).all(|two| two[1].2 - two[0].2 >= LINE_PX - 0.01));
        assert!(layout.legend.iter().all(|(_, _, y)| *y <= chart.height));
    }

    /// The picture that a comparison of servers needs: grouped lines with whiskers over a log axis.
    fn servers() -> Chart {
        let names =
            ["one at a time", "a thread each", "select", "poll", "epoll", "mio", "floor", "switchboard"];
        let connections = [1.0, 8.0, 64.0, 512.0, 1000.0];
        let axis = Axis::log("Connections").ticks(&connections);
        let mut chart = Chart::new(
            "Echoes per second, by connections",
            axis,
            Axis::linear("Echoes per second"),
        )
        .note("Median of five rounds each, whiskers from the least to the most; 64 bytes, one in flight.")
        .size(860, 420)
        .names_at_ends();
        for (hue, name) in names.into_iter().enumerate() {
            let points = connections
                .iter()
                .take(if hue == 0 {
                    1
                } else if hue == 2 {
                    4
                } else {
                    5
                })
                .enumerate()
                .map(|(place, x)| {
                    let y = 20_000.0 + (place * (hue + 2)) as f64 * 5_000.0
                        - if place > 2 { hue.pow(2) as f64 * 900.0 } else { 0.0 };
                    Point {
                        x: *x,
                        y,
                        reach: Some((y * 0.95, y * 1.04)),
                        tip: format!("{name}: {}", figures::rate(y)),
                    }
                });
            chart = chart.series(Series::line(name, Ink::Hue(hue), points.collect::<Vec<_>>()).dots());
        }
        chart
    }

    fn bars() -> Chart {
        let mut chart = Chart::new(
            "CPU per message",
            Axis::names("", &["idle beside", "no idle", "both"]),
            Axis::linear("Per message").shown_as(figures::time_tick),
        );
        for (hue, name) in ["poll", "epoll", "switchboard"].into_iter().enumerate() {
            let points = (0..3).map(|place| {
                let y = 5_000.0 + (hue * 1_000 + place * 700) as f64;
                Point { x: place as f64, y, reach: Some((y * 0.9, y * 1.1)), ..Point::default() }
            });
            chart = chart.series(Series::bars(name, Ink::Hue(hue), points.collect::<Vec<_>>()));
        }
        chart.size(640, 300)
    }

    #[test]
    fn a_file_of_its_own_brings_its_colours() {
        let svg = servers().standalone();
        for part in [
            "<title>Echoes per second",
            "prefers-color-scheme:dark",
            "class=\"ground\"",
            "role=\"img\"",
            ">1,000<",
            ">switchboard<",
        ] {
            assert!(svg.contains(part), "{part} is missing");
        }
        assert_eq!(svg.matches("<title>").count(), 1 + 1 + 4 + 6 * 5);
    }

    #[test]
    #[ignore = "writes pictures to look at: cargo test --lib load::plot -- --ignored --nocapture"]
    fn write_pictures_to_look_at() {
        let folder = std::env::temp_dir().join("switchboard-pages");
        std::fs::create_dir_all(&folder).expect("a folder");
        for (name, chart) in [("servers", servers()), ("bars", bars())] {
            let path = folder.join(format!("{name}.svg"));
            std::fs::write(&path, chart.standalone()).expect("a file");
            println!("{}", path.display());
        }
    }
}
