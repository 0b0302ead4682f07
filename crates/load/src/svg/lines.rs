//! Lines over something that grows, alone or several charts in one picture.

use super::{
    SERIES_MAX, TAIL,
    axis::{Scale, Span},
    bars::write_to,
    head,
    text::{escaped, short},
};

const PANEL_WIDTH: f64 = 380.0;
const PANEL_HEIGHT: f64 = 282.0;
const TITLE_HEIGHT: f64 = 36.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 44.0;
const COLUMNS_MAX: usize = 2;
/// About.
const LETTER_WIDTH: f64 = 6.3;

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    pub title: String,
    pub scale: Scale,
}

/// A measured point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub x: f64,
    /// The median.
    pub y: f64,
    /// Lowest and highest.
    pub spread: (f64, f64),
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    pub points: Vec<Point>,
}

/// A chart of lines.
#[derive(Clone, Debug)]
pub struct LineChart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    /// At most six.
    pub series: Vec<Series>,
}

/// Charts beside and below one another in one picture.
#[must_use]
pub fn figure(title: &str, panels: &[LineChart]) -> String {
    let columns = panels.len().clamp(1, COLUMNS_MAX);
    let rows = panels.len().div_ceil(columns).max(1);
    let (width, height) = (
        PANEL_WIDTH * columns as f64,
        TITLE_HEIGHT + PANEL_HEIGHT * rows as f64,
    );
    let mut svg = head(width, height, title);
    write_to(
        &mut svg,
        format_args!(r#"<text class="title" x="12" y="24">{}</text>"#, escaped(title)),
    );
    for (place, panel) in panels.iter().enumerate() {
        let left = (place % columns) as f64 * PANEL_WIDTH;
        let top = TITLE_HEIGHT + (place / columns) as f64 * PANEL_HEIGHT;
        write_to(
            &mut svg,
            format_args!(r#"<g transform="translate({left:.0} {top:.0})">"#),
        );
        panel.draw(&mut svg);
        svg.push_str("</g>\n");
    }
    svg + TAIL
}

impl LineChart {
    fn draw(&self, svg: &mut String) {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let across = Span::around(self.x.scale, points().map(|point| point.x));
        let up = Span::around(
            self.y.scale,
            points().flat_map(|point| [point.y, point.spread.0, point.spread.1]),
        );
        let foot = PANEL_HEIGHT - BOTTOM;
        let x_of = |value: f64| Some(LEFT + across.place(value)? * (PANEL_WIDTH - LEFT - RIGHT));
        let y_of = |value: f64| Some(foot - up.place(value)? * (foot - TOP));
        write_to(
            svg,
            format_args!(
                r#"<text class="panel" x="12" y="14">{}</text>"#,
                escaped(&self.title)
            ),
        );
        for tick in up.ticks() {
            let (Some(y), end, label) = (y_of(tick), PANEL_WIDTH - RIGHT, short(tick)) else {
                continue;
            };
            write_to(
                svg,
                format_args!(
                    r#"<line class="grid" x1="{LEFT}" y1="{y:.1}" x2="{end}" y2="{y:.1}"/><text class="faint" x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#,
                    LEFT - 6.0,
                    y + 4.0
                ),
            );
        }
        for tick in across.ticks() {
            let (Some(x), label) = (x_of(tick), short(tick)) else {
                continue;
            };
            write_to(
                svg,
                format_args!(
                    r#"<line class="axis" x1="{x:.1}" y1="{foot}" x2="{x:.1}" y2="{:.1}"/><text class="faint" x="{x:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#,
                    foot + 4.0,
                    foot + 18.0
                ),
            );
        }
        let middle = (LEFT + PANEL_WIDTH - RIGHT) / 2.0;
        let (x_title, y_title) = (escaped(&self.x.title), escaped(&self.y.title));
        write_to(
            svg,
            format_args!(
                r#"<text class="faint" x="{middle:.1}" y="{:.1}" text-anchor="middle">{x_title}</text><text class="faint" x="12" y="32">{y_title}</text>"#,
                foot + 36.0
            ),
        );
        for (place, series) in self.series.iter().enumerate() {
            series.draw(svg, place % SERIES_MAX, (&x_of, &y_of));
        }
        self.draw_legend(svg);
    }

    /// Only where there is more than one to tell apart.
    fn draw_legend(&self, svg: &mut String) {
        if self.series.len() < 2 {
            return;
        }
        // Above the lines, because it would hide some of them anywhere else.
        let mut x = LEFT;
        for (place, series) in self.series.iter().enumerate() {
            let (name, y) = (escaped(&series.name), TOP - 14.0);
            marker(svg, place % SERIES_MAX, (x + 4.0, y - 4.0));
            write_to(
                svg,
                format_args!(r#"<text x="{:.1}" y="{y:.1}">{name}</text>"#, x + 12.0),
            );
            x += 28.0 + LETTER_WIDTH * series.name.chars().count() as f64;
        }
    }
}

type Place<'a> = &'a dyn Fn(f64) -> Option<f64>;

impl Series {
    fn draw(&self, svg: &mut String, colour: usize, (x_of, y_of): (Place<'_>, Place<'_>)) {
        let placed: Vec<_> = self
            .points
            .iter()
            .filter_map(|point| Some((point, x_of(point.x)?, y_of(point.y)?)))
            .collect();
        let mut line = String::new();
        for (place, (_, x, y)) in placed.iter().enumerate() {
            line.push_str(&format!("{}{x:.1} {y:.1}", if place == 0 { "M" } else { "L" }));
        }
        write_to(svg, format_args!(r#"<path class="s{colour}" d="{line}"/>"#));
        for (point, x, y) in placed {
            let ends = (y_of(point.spread.0), y_of(point.spread.1));
            if let (Some(low), Some(high)) = ends
                && (low - high).abs() >= 1.0
            {
                write_to(
                    svg,
                    format_args!(r#"<path class="s{colour}" d="M{x:.1} {low:.1}V{high:.1}"/>"#),
                );
            }
            marker(svg, colour, (x, y));
        }
    }
}

/// Each series has a shape of its own, for those who can not tell the colours apart.
fn marker(svg: &mut String, colour: usize, (x, y): (f64, f64)) {
    let shape = match colour {
        0 => format!(r#"<circle class="f{colour}" cx="{x:.1}" cy="{y:.1}" r="3.5"/>"#),
        1 => format!(
            r#"<rect class="f{colour}" x="{:.1}" y="{:.1}" width="7" height="7"/>"#,
            x - 3.5,
            y - 3.5
        ),
        2 => format!(
            r#"<path class="f{colour}" d="M{x:.1} {:.1}l4.5 8h-9z"/>"#,
            y - 4.5
        ),
        3 => format!(
            r#"<path class="f{colour}" d="M{x:.1} {:.1}l4.5 4.5l-4.5 4.5l-4.5 -4.5z"/>"#,
            y - 4.5
        ),
        4 => format!(
            r#"<path class="f{colour}" d="M{x:.1} {:.1}l-4.5 -8h9z"/>"#,
            y + 4.5
        ),
        _ => format!(
            r#"<rect class="f{colour}" x="{:.1}" y="{:.1}" width="9" height="4"/>"#,
            x - 4.5,
            y - 2.0
        ),
    };
    write_to(svg, format_args!("{shape}"));
}
