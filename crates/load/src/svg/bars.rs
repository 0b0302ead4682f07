//! Bars, one below the other, each with its spread.

use std::fmt::Write as _;

use super::{
    TAIL,
    axis::{Scale, Span},
    head,
    text::{escaped, short},
};

const WIDTH: f64 = 760.0;
const LABEL_WIDTH: f64 = 250.0;
const VALUE_WIDTH: f64 = 70.0;
const TOP: f64 = 64.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;
const BOTTOM: f64 = 14.0;

/// How a bar is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// What the picture is about.
    Ours,
    /// What it is compared with.
    Other,
    /// A limit.
    Limit,
}

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    pub label: String,
    pub tone: Tone,
    /// The median.
    pub value: f64,
    /// Lowest and highest.
    pub spread: (f64, f64),
}

/// A chart of bars from 0 on.
#[derive(Clone, Debug)]
pub struct BarChart {
    pub title: String,
    /// What the numbers are, as `deliveries a second of server CPU`.
    pub unit: String,
    pub bars: Vec<Bar>,
}

impl BarChart {
    /// The file's text.
    #[must_use]
    pub fn svg(&self) -> String {
        let height = TOP + self.bars.len() as f64 * ROW + BOTTOM;
        let values = self.bars.iter().flat_map(|bar| [bar.value, bar.spread.1]);
        let span = Span::around(Scale::Linear, values);
        let room = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
        let across = |value: f64| LABEL_WIDTH + span.place(value).unwrap_or(0.0) * room;
        let mut svg = head(WIDTH, height, &self.title);
        let (title, unit) = (escaped(&self.title), escaped(&self.unit));
        write_to(
            &mut svg,
            format_args!(r#"<text class="title" x="12" y="24">{title}</text>"#),
        );
        write_to(
            &mut svg,
            format_args!(r#"<text class="faint" x="12" y="43">{unit}</text>"#),
        );
        for tick in span.ticks() {
            let (x, label) = (across(tick), short(tick));
            let foot = height - BOTTOM;
            write_to(
                &mut svg,
                format_args!(
                    r#"<line class="grid" x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{foot:.1}"/><text class="faint" x="{x:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#,
                    TOP - 5.0
                ),
            );
        }
        for (place, bar) in self.bars.iter().enumerate() {
            let top = TOP + place as f64 * ROW + (ROW - BAR) / 2.0;
            bar.draw(&mut svg, top, across);
        }
        svg + TAIL
    }
}

impl Bar {
    fn draw(&self, svg: &mut String, top: f64, across: impl Fn(f64) -> f64) {
        let colour = match self.tone {
            Tone::Ours => "f0",
            Tone::Other => "f4",
            Tone::Limit => "faint",
        };
        let (from, to, middle) = (across(0.0), across(self.value), top + BAR / 2.0);
        let (low, high) = (across(self.spread.0), across(self.spread.1));
        let (label, value) = (escaped(&self.label), short(self.value));
        let text = middle + 4.0;
        write_to(
            svg,
            format_args!(
                r#"<text x="{:.1}" y="{text:.1}" text-anchor="end">{label}</text>"#,
                from - 8.0
            ),
        );
        write_to(
            svg,
            format_args!(
                r#"<rect class="{colour}" x="{from:.1}" y="{top:.1}" width="{:.1}" height="{BAR}" rx="2"/>"#,
                to - from
            ),
        );
        if high - low >= 1.0 {
            let (above, below) = (middle - 4.0, middle + 4.0);
            write_to(
                svg,
                format_args!(
                    r#"<path class="whisker" d="M{low:.1} {above:.1}V{below:.1}M{low:.1} {middle:.1}H{high:.1}M{high:.1} {above:.1}V{below:.1}" fill="none"/>"#
                ),
            );
        }
        write_to(
            svg,
            format_args!(
                r#"<text x="{:.1}" y="{text:.1}">{value}</text>"#,
                to.max(high) + 8.0
            ),
        );
    }
}

/// Adds a line.
pub(super) fn write_to(svg: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(svg, "{line}").expect("a string takes everything");
}
